"""The command line as a user meets it: answers, exit codes, every bad input, and `run` through a kill."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from small_files import SAT, UNSAT, WEIGHT_1, save_network, save_property

from partita.bab.commands import main as cli
from partita.bab.running.instances import read_instances
from partita.problems.errors import BadInput

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One network with one property that holds and one that does not."""
    folder = tmp_path_factory.mktemp("instances")
    save_network(folder / "net.onnx")
    save_property(folder / "unsat.vnnlib", UNSAT)
    save_property(folder / "sat.vnnlib", SAT)
    return folder


def partita(*arguments, **options):
    """A process of its own."""
    command = [sys.executable, "-m", "partita", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=100, **options)


def run(capsys, *arguments):
    """In this process: (exit code, standard output, standard error)."""
    code = cli.run([str(a) for a in arguments])
    return code, *capsys.readouterr()


# ---- verify


def test_unsat(files, tmp_path):
    done = partita("verify", files / "net.onnx", files / "unsat.vnnlib", "--results", tmp_path / "out.txt")
    assert (done.returncode, done.stdout) == (0, "unsat\n"), done.stderr
    assert (tmp_path / "out.txt").read_text() == "unsat\n"


def test_sat_prints_a_witness_that_is_one(files, tmp_path, capsys):
    code, out, _ = run(
        capsys, "verify", files / "net.onnx", files / "sat.vnnlib", "--results", tmp_path / "r", "--timeout", "6000"
    )
    assert code == 0 and out.startswith("sat\n((X_0 ")
    assert (tmp_path / "r").read_text() == out
    values = dict(re.findall(r"\((\w_\d) (\S+?)\)", out))
    x = np.array([float(values["X_0"]), float(values["X_1"])])
    assert (np.abs(x) <= 1).all()
    y = max(x[0] + x[1], 0) - max(x[0] - x[1], 0)
    assert y >= 1.5 - 1e-6 and abs(y - float(values["Y_0"])) < 1e-5 and float(values["Y_1"]) == 1


def test_the_standards_form_and_a_summary(files, tmp_path, capsys):
    net = f"small={files / 'net.onnx'}"
    code, out, _ = run(
        capsys, "verify", files / "unsat.vnnlib", "--network", net, "attack=off", "--summary", tmp_path / "s.json"
    )
    assert (code, out) == (0, "unsat\n")
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["verdict"] == "unsat" and summary["pieces"] >= 1 and summary["seconds"] > 0


def test_version_2_properties(files, tmp_path, capsys):
    text = """(vnnlib-version <2.0>)
    (declare-network small (declare-input X float32 [1,2]) (declare-output Y float32 [1,2]))
    (assert (and (>= X[0,0] -1.0) (<= X[0,0] 1.0) (>= X[0,1] -1.0) (<= X[0,1] 1.0))) (assert (>= Y[0,0] 1.5))"""
    (tmp_path / "p.vnnlib").write_text(text)
    net = files / "net.onnx"
    code, out, _ = run(capsys, "verify", tmp_path / "p.vnnlib", "--network", f"small={net}")
    assert code == 0 and out.startswith("sat\nX float32 [1,2]\n") and "Y float32 [1,2]" in out
    code, _, err = run(capsys, "verify", tmp_path / "p.vnnlib", "--network", f"other={net}")
    assert code == 2 and "the property declares 'small'" in err


def test_an_empty_input_set_is_unsat_and_says_so(files, tmp_path):
    save_property(tmp_path / "empty.vnnlib", SAT, box=(1, -1))
    done = partita("verify", files / "net.onnx", tmp_path / "empty.vnnlib")
    assert (done.returncode, done.stdout) == (0, "unsat\n")
    assert "input set is empty" in done.stderr


def test_a_time_limit_shorter_than_the_imports_is_kept(files):
    start = time.monotonic()
    done = partita("verify", files / "net.onnx", files / "unsat.vnnlib", "--timeout", "0.3")
    assert (done.returncode, done.stdout) == (0, "timeout\n")
    assert time.monotonic() - start < 1.5


def test_a_guard_does_not_outlive_its_command(files, tmp_path, capsys):
    import threading

    (tmp_path / "bad.vnnlib").write_text("(assert")
    for prop, code in ((tmp_path / "bad.vnnlib", 2), (files / "unsat.vnnlib", 0)):
        assert run(capsys, "verify", files / "net.onnx", prop, "--timeout", "6000")[0] == code
        assert not [t for t in threading.enumerate() if isinstance(t, threading.Timer) and not t.finished.is_set()]


def test_ctrl_c_reports_unknown(tmp_path, files):
    script = tmp_path / "slow.py"  # an engine that never ends, to be interrupted at a known moment
    script.write_text(
        "import sys, time, types\n"
        "slow = types.ModuleType('partita.bab.verify')\n"
        "def verify(*a, **k):\n    print('searching', file=sys.stderr, flush=True)\n    time.sleep(60)\n"
        "slow.verify = verify\nsys.modules['partita.bab.verify'] = slow\n"
        "from partita.bab.commands.main import main\nmain()\n"
    )
    command = [sys.executable, str(script), "verify", str(files / "net.onnx"), str(files / "sat.vnnlib")]
    child = subprocess.Popen(
        [*command, "--results", str(tmp_path / "r")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's & has it ignored
    )
    for line in child.stderr:
        if "searching" in line:
            break
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (130, "unknown\n")
    assert "interrupted" in err and (tmp_path / "r").read_text() == "unknown\n"


def test_out_of_memory_is_unknown(files, capsys, monkeypatch):
    import types

    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):

        def fail(*arguments, error=error, **options):
            raise error

        engine = types.ModuleType("partita.bab.verify")
        engine.verify = fail
        monkeypatch.setitem(sys.modules, "partita.bab.verify", engine)
        code, out, err = run(capsys, "verify", files / "net.onnx", files / "sat.vnnlib")
        assert (code, out) == (0, "unknown\n") and "out of memory" in err


# ---- bad input: one sentence, exit code 2, nothing written


def truncated(folder):
    save_network(folder / "whole.onnx")
    data = (folder / "whole.onnx").read_bytes()
    (folder / "cut.onnx").write_bytes(data[: len(data) // 2])
    return folder / "cut.onnx"


def with_nan(folder):
    return save_network(folder / "nan.onnx", weight=np.where(WEIGHT_1 == 0, np.float32("nan"), WEIGHT_1))


BAD_NETWORKS = {
    "missing": (lambda folder: folder / "none.onnx", "does not exist"),
    "truncated": (truncated, "cut.onnx"),
    "unsupported": (lambda folder: save_network(folder / "s.onnx", last="Softplus"), r"Softplus.*middle.*Relu"),
    "dynamic": (lambda folder: save_network(folder / "d.onnx", batch="n"), "dynamic"),
    "nan": (with_nan, "(?i)nan|finite"),
    "folder": (lambda folder: folder, "not a file"),
}


@pytest.mark.parametrize("kind", BAD_NETWORKS)
def test_bad_networks(kind, files, tmp_path, capsys):
    make, sentence = BAD_NETWORKS[kind]
    results = tmp_path / "results.txt"
    check_refused(run(capsys, "verify", make(tmp_path), files / "sat.vnnlib", "--results", results), sentence)
    assert not results.exists()


BAD_PROPERTIES = {
    "missing": (lambda folder: folder / "none.vnnlib", "does not exist"),
    "truncated": (lambda folder: save_property(folder / "cut.vnnlib", "(or (<= Y_0 1)"), "open bracket"),
    "count": (lambda folder: save_property(folder / "three.vnnlib", SAT, n_in=3), r"3 input variables.*has 2 inputs"),
    "product": (lambda folder: save_property(folder / "product.vnnlib", "(<= (* Y_0 Y_1) 1)"), "not linear"),
}


@pytest.mark.parametrize("kind", BAD_PROPERTIES)
def test_bad_properties(kind, files, tmp_path, capsys):
    make, sentence = BAD_PROPERTIES[kind]
    check_refused(run(capsys, "verify", files / "net.onnx", make(tmp_path)), sentence)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["relaxtion=crown"], "nearest valid one is 'relaxation'"),
        (["--relaxation", "crwn"], "'relaxation' on the command line must be one of auto, ibp"),
        (["--split", "half"], "must be one of auto, input"),
        (["--config", "no-such-file.yaml"], "neither a file nor a preset"),
        (["--timeout", "soon"], "'timeout' on the command line must be a number"),
        (["--results", "no/such/folder/out.txt"], "the folder no/such/folder does not exist"),
        (["--results", "."], "is a folder"),
        (["--bogus"], "--bogus"),
        (["--network", "=x"], "NAME=NET"),
    ],
)
def test_bad_options(arguments, sentence, files, capsys):
    check_refused(run(capsys, "verify", files / "net.onnx", files / "sat.vnnlib", *arguments), sentence)


def test_cuda_where_there_is_none(files, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    check_refused(
        run(capsys, "verify", files / "net.onnx", files / "sat.vnnlib", "--device", "cuda"), "finds no CUDA device"
    )


def test_a_results_file_without_permission(files, tmp_path, capsys):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    arguments = ("verify", files / "net.onnx", files / "sat.vnnlib", "--results", locked / "out.txt")
    check_refused(run(capsys, *arguments), "cannot be written")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "usage"),
        (["prove"], "there is no command 'prove'"),
        (["verify"], "a network and a property are needed"),
        (["supports"], "takes one of onnx-operators"),
        (["supports", "everything"], "takes one of onnx-operators"),
        (["run", "none.csv"], "--out"),
        (["run", "none.csv", "--out", "x", "--jobs", "0"], "--jobs must be"),
        (["run", "none.csv", "--out", "x"], "none.csv cannot be read"),
        (["bound", "a", "b"], "--relaxation is missing"),
    ],
)
def test_bad_commands(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2 and re.search(sentence, out + err)
    assert not list(tmp_path.iterdir())


def check_refused(answer, sentence):
    code, out, err = answer
    assert (code, out) == (2, ""), err
    assert re.fullmatch(r"partita: [^\n]+\n", err), err
    assert re.search(sentence, err), err


# ---- supports, bound, start-up


def test_supports(capsys):
    assert run(capsys, "supports", "vnnlib-versions")[:2] == (0, "1.0\n2.0\n")
    code, out, _ = run(capsys, "supports", "onnx-operators")
    assert code == 0 and {"Conv", "Relu", "Gemm", "MaxPool"} <= set(out.split())
    assert "float32" in run(capsys, "supports", "--onnx-element-types")[1].split()
    assert re.match(r"\d+\.\d+", run(capsys, "--version")[1])
    assert "partita verify" in run(capsys, "--help")[1]
    assert "--network" in run(capsys, "verify", "--help")[1]


def test_bound_holds_the_outputs(files, capsys):
    code, out, err = run(capsys, "bound", files / "net.onnx", files / "sat.vnnlib", "--relaxation", "crown", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert set(found) == {"lower", "upper", "seconds", "layers", "unstable"}
    assert found["lower"][0] <= -2 and found["upper"][0] >= 2
    assert found["lower"][1] <= 1 <= found["upper"][1]
    assert found["unstable"] == [[0, 1]]
    code, out, _ = run(capsys, "bound", files / "net.onnx", files / "sat.vnnlib", "--relaxation", "ibp")
    assert code == 0 and re.search(r"<= Y_0 <= ", out) and "2 of 3 neurons unstable" in out


def test_bad_input_needs_no_torch():
    code = "import sys; from partita.bab.commands.main import run; run(['verify', 'a', 'b'])"
    code += "; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


# ---- run


def benchmark(folder, files, rows):
    """An instances file in `folder` whose rows point into `files`."""
    path = folder / "instances.csv"
    path.write_text("\n".join(rows).replace("@", os.path.relpath(files, folder) + "/") + "\n")
    return path


def rows_of(out):
    with open(out / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_run_reports_every_instance(files, tmp_path):
    instances = benchmark(
        tmp_path,
        files,
        [
            "onnx,vnnlib,timeout,expected",
            "@net.onnx,@unsat.vnnlib,60,unsat",
            "@net.onnx,@sat.vnnlib,60,unsat",
            "@net.onnx,@none.vnnlib,60,",
        ],
    )
    done = partita("run", instances, "--out", tmp_path / "out", "--jobs", "2", "attack=on")
    assert done.returncode == 0, done.stderr
    rows = sorted(rows_of(tmp_path / "out"), key=lambda row: int(row["number"]))
    assert [row["verdict"] for row in rows] == ["unsat", "sat", "error"]
    assert "does not exist" in rows[2]["reason"]
    assert (tmp_path / "out" / "witnesses" / "0002.txt").read_text().startswith("sat\n((X_0 ")
    assert len(list((tmp_path / "out" / "witnesses").iterdir())) == 1
    assert re.search(r"solved +2 \(1 unsat, 1 sat\)", done.stdout)
    assert re.search(r"wrong +1 of 2", done.stdout) and "WRONG" in done.stdout
    assert re.search(r"median time +\d", done.stdout) and re.search(r"pieces +\d", done.stdout)
    assert done.stderr.count("\n") == 3 and "[2/3] sat (WRONG: expected unsat)" in done.stderr


def test_run_goes_on_after_a_kill_without_repeating(files, tmp_path):
    instances = benchmark(tmp_path, files, ["@net.onnx,@unsat.vnnlib,60"] * 4)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "partita", "run", str(instances), "--out", str(out)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert "[1/4]" in child.stderr.readline()
    time.sleep(0.3)  # into the second instance
    child.kill()
    child.wait()
    child.stderr.close()
    before = rows_of(out)
    assert 1 <= len(before) < 4
    with open(out / "results.csv", "ab") as file:
        file.write(b"3,torn li")
    done = partita("run", instances, "--out", out)
    assert done.returncode == 0, done.stderr
    after = rows_of(out)
    assert after[: len(before)] == before and [row["number"] for row in after] == ["1", "2", "3", "4"]
    assert f"{len(before)} of 4 instances are finished already" in done.stderr
    assert done.stderr.count("[") == 4 - len(before)
    assert {row["verdict"] for row in after} == {"unsat"}
    stamp = (out / "results.csv").stat().st_mtime_ns
    again = partita("run", instances, "--out", out)
    assert again.stdout == done.stdout and (out / "results.csv").stat().st_mtime_ns == stamp


def test_run_refuses_the_results_of_another_benchmark(files, tmp_path, capsys):
    instances = benchmark(tmp_path, files, ["@net.onnx,@unsat.vnnlib"])
    out = tmp_path / "out"
    out.mkdir()
    names = "number,network,property,expected,verdict,seconds,pieces,reason\n"
    (out / "results.csv").write_text(names + "1,other.onnx,p.vnnlib,,sat,1.0,1,\n")
    check_refused(run(capsys, "run", instances, "--out", out), "results of another benchmark")


def test_instances_files(tmp_path):
    path = tmp_path / "i.csv"
    path.write_text("onnx,vnnlib\na.onnx,p.vnnlib\n\n b.onnx , q.vnnlib ,30\nc.onnx,r.vnnlib,300,sat\n")
    first, second, third = read_instances(path, 60.0)
    assert (first.network, first.timeout, first.expected) == ("a.onnx", 60.0, "")
    assert (second.network, second.property, second.timeout) == ("b.onnx", "q.vnnlib", 30.0)
    assert (third.number, third.timeout, third.expected) == (3, 60.0, "sat")
    for text, sentence in (
        ("a.onnx\n", "line 1: a row is network"),
        ("a,b\na,b,c,d,e\n", "line 2"),
        ("a,b,soon\n", "number of seconds"),
        ("a,b,-1\n", "positive"),
        ("a,b,1,maybe\n", "expected verdict"),
        ("\n", "has no rows"),
    ):
        path.write_text(text)
        with pytest.raises(BadInput, match=sentence):
            read_instances(path, None)
