"""Runs taken up from their logs: the same verdict as without the pause, and one log of both."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from logs import logged
from networks import barely, graph_to_onnx, random_graph, sample
from search import engine

import partita
from partita import replay
from partita.bab.commands import main as cli
from partita.bab.config import load_config
from partita.bab.logs.check import check, sampled
from partita.bab.logs.logged import Wanted, open_log
from partita.bab.logs.read import read_log
from partita.bab.logs.resume import pieces_of
from partita.problems.errors import BadInput
from partita.problems.properties.property import Case, Property, UnsafeSet

CASES = [*((3, split) for split in ("auto", "polyhedral", "activation")), (17, "auto")]


@pytest.mark.parametrize(("inputs", "split"), CASES)
def test_the_verdict_is_that_of_the_run_without_a_pause(inputs, split, tmp_path):
    verdicts, paused = set(), 0
    for seed in (2,) if split == "activation" else (1, 2):
        graph, prop = barely(seed, inputs, sets=3 - seed)
        options = {"attack": "off", "split": split}
        expected = partita.verify(graph, prop, timeout=60, **options)
        folder = tmp_path / str(seed)
        first, _, before = logged(folder, graph, prop, max_pieces=max(2, expected.pieces // 2), batch=32, **options)
        second = partita.verify(graph, prop, resume=folder, timeout=60)
        assert second.verdict == expected.verdict, (seed, second.reason)
        assert "limit" in first.reason or first.verdict == expected.verdict
        tree = read_log(folder)
        assert check(tree).good and sampled(tree, graph, prop, 200).good
        assert tree.footer["verdict"] == second.verdict and tree.count >= before.count
        if second.verdict == "unsat":
            assert not len(tree.unsettled) and tree.weight == pytest.approx(1)
        kept = before.closed
        assert (tree.state[kept] == before.state[kept]).all() and (
            tree.child[(before.child >= 0).nonzero()[0]] >= 0
        ).all()
        verdicts.add(second.verdict)
        paused += len(before.unsettled)
    assert "unsat" in verdicts and paused > 3


def test_a_run_may_be_taken_up_many_times(tmp_path):
    graph, prop = barely(2)
    outcome, _, _ = logged(tmp_path / "log", graph, prop, max_pieces=5, batch=16, split="activation")
    times = 0
    while outcome.verdict == "unknown":
        outcome = partita.verify(graph, prop, resume=tmp_path / "log", max_pieces=100)
        times += 1
    tree = read_log(tmp_path / "log")
    assert outcome.verdict == "unsat" and 1 < times < 20 and check(tree).good and not len(tree.unsettled)
    assert replay(tree, graph, prop).good
    assert partita.verify(graph, prop, resume=tmp_path / "log").verdict == "unsat"


@pytest.mark.parametrize(
    ("inputs", "split", "kind"),
    [*((i, s, "mlp") for i, s in CASES), (3, "activation", "sigmoid"), (17, "auto", "tanh"), (17, "auto", "leaky")],
)
def test_rebuilt_pieces_are_those_of_the_log(inputs, split, kind, tmp_path):
    """A point of the input set lies in the rebuilt piece of the leaf it belongs to, and in no other's interior."""
    import torch

    from partita.bab.logs.check import leaves_of

    graph, prop = barely(1, inputs)
    if kind != "mlp":
        graph = random_graph(1, kind, inputs=inputs, width=8, depth=2)
        unsafe = UnsafeSet(np.ones((1, 2)), -graph(torch.zeros(1, inputs).double()).sum(1).numpy())
        prop = Property((Case(prop.cases[0].inputs, (unsafe,)),), inputs, 2)
    _, _, tree = logged(tmp_path / "log", graph, prop, split=split, max_pieces=60, batch=8)
    made = engine(graph, prop, split=split)
    record = pieces_of(made.tree, made.roots, tree, tree.leaves)
    assert sorted(record.id.tolist()) == sorted(tree.leaves.tolist())
    where = {piece: row for row, piece in enumerate(record.id.tolist())}
    np.testing.assert_array_equal(record.depth.numpy(), tree.depth[record.id.numpy()])
    pieces = made.tree.pieces(record)
    x = sample(prop.cases[0].inputs, 200, 1)
    values = graph.values(torch.from_numpy(x))
    z = torch.cat([values[graph.nodes[i].inputs[0]] for i in graph.layer_at], 1).numpy()
    rows, leaves, _ = leaves_of(tree, 0, x, z)
    for row, leaf in zip(rows, leaves, strict=True):
        at = where[int(leaf)]
        lower, upper, normals, offsets = (
            t[at].double().numpy() for t in (pieces.lower, pieces.upper, pieces.normals, pieces.offsets)
        )
        assert (lower <= x[row]).all() and (x[row] <= upper).all() and (normals @ x[row] <= offsets + 1e-6).all()
        assert (pieces.pre_lower[at].numpy() <= z[row] + 1e-5).all() and (
            z[row] <= pieces.pre_upper[at].numpy() + 1e-5
        ).all()
    assert len(set(leaves.tolist())) > 5


def test_a_counterexample_is_found_after_a_pause(tmp_path):
    graph, prop = barely(3)
    assert partita.verify(graph, prop, attack="off").verdict == "sat"
    logged(tmp_path / "log", graph, prop, max_pieces=9, batch=4)
    assert partita.verify(graph, prop, resume=tmp_path / "log").verdict == "sat"


def test_only_limits_may_be_new(tmp_path):
    graph, prop = barely(1)
    logged(tmp_path / "log", graph, prop, max_pieces=9, batch=4)
    with pytest.raises(BadInput, match="'split' was given; only limits may be new"):
        partita.verify(graph, prop, resume=tmp_path / "log", split="activation")
    with pytest.raises(BadInput, match="give no log"):
        partita.verify(graph, prop, resume=tmp_path / "log", log=tmp_path / "other")
    other = barely(2)
    with pytest.raises(BadInput, match="another network"):
        partita.verify(other[0], prop, resume=tmp_path / "log")
    with pytest.raises(BadInput, match="does not exist"):
        partita.verify(graph, prop, resume=tmp_path / "nothing")


def test_one_run_at_a_time_writes_a_log(tmp_path):
    from partita.bab.logs.logged import Wanted, open_log, resumed_config

    graph, prop = barely(1)
    logged(tmp_path / "log", graph, prop, max_pieces=9, batch=4)
    config = resumed_config(tmp_path / "log", {})
    held = open_log((graph, prop), graph, prop, config, Wanted(resume=tmp_path / "log"))
    with pytest.raises(BadInput, match="another run is writing"):
        partita.verify(graph, prop, resume=tmp_path / "log")
    held.close()
    assert partita.verify(graph, prop, resume=tmp_path / "log").verdict == "unsat"


def test_two_runs_that_begin_at_once_do_not_share_a_log(tmp_path):
    """Whoever comes second is refused before it writes anything, also where the first has yet to replace its header."""
    graph, prop = barely(1)
    other, another = barely(2)
    config = load_config(None, {})
    held = open_log((graph, prop), graph, prop, config, Wanted(tmp_path / "log"))
    header = (tmp_path / "log" / "header.json").read_bytes()
    for path in ("header.json", None):  # the header as it is, and before it was written
        if path is None:
            (tmp_path / "log" / "header.json").unlink()
        with pytest.raises(BadInput, match="another run is writing"):
            open_log((other, another), other, another, config, Wanted(tmp_path / "log"))
    (tmp_path / "log" / "header.json").write_bytes(header)
    held.about(prop)
    with pytest.raises(BadInput, match="another run is writing"):
        open_log((graph, prop), graph, prop, config, Wanted(resume=tmp_path / "log"))
    held.close()


def test_parts_of_another_run_are_refused(tmp_path):
    """The header of one run beside the parts of another, of the same network and property or not."""
    graph, prop = barely(1)
    logged(tmp_path / "mine", graph, prop, max_pieces=9, batch=4)
    logged(tmp_path / "same", graph, prop, max_pieces=9, batch=4)
    other, another = barely(4)
    logged(tmp_path / "other", other, another, max_pieces=9, batch=4)
    for source in ("same", "other"):
        shutil.copytree(tmp_path / "mine", tmp_path / f"mixed {source}")
        name = "pieces-00000.parquet"
        shutil.copy(tmp_path / source / name, tmp_path / f"mixed {source}" / name)
        (tmp_path / f"mixed {source}" / "footer.json").unlink()
        for act in (read_log, lambda log: partita.verify(graph, prop, resume=log)):
            with pytest.raises(BadInput, match="written by another run"):
                act(tmp_path / f"mixed {source}")


# ---- the command line


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A network, and two properties of it: one that barely holds, and one that does not."""
    folder = tmp_path_factory.mktemp("files")
    graph, prop = barely(1)
    (folder / "net.onnx").write_bytes(graph_to_onnx(graph))
    case, unsafe = prop.cases[0], prop.cases[0].unsafe[0]
    lines = [f"(declare-const X_{i} Real)" for i in range(3)] + [f"(declare-const Y_{i} Real)" for i in range(2)]
    for i in range(3):
        lines += [f"(assert (>= X_{i} {case.inputs.lower[i]}))", f"(assert (<= X_{i} {case.inputs.upper[i]}))"]
    row = " ".join(f"(* {float(a)!r} Y_{i})" for i, a in enumerate(unsafe.rows[0]))
    for name, limit in (("unsat", -unsafe.constants[0]), ("sat", 1 - unsafe.constants[0])):
        text = [*lines, f"(assert (<= (+ {row}) {float(limit)!r}))", ""]
        (folder / f"{name}.vnnlib").write_text("\n".join(text))
    return folder


def run(capsys, *arguments):
    code = cli.run([str(a) for a in arguments])
    return (code, *capsys.readouterr())


def test_log_resume_and_check_on_the_command_line(files, tmp_path, capsys):
    both, log = (files / "net.onnx", files / "unsat.vnnlib"), tmp_path / "log"
    code, out, _ = run(capsys, "verify", *both, "--log", log, "attack=off", "split=input", "max_pieces=1")
    assert (code, out) == (0, "unknown\n") and json.loads((log / "footer.json").read_text())["verdict"] == "unknown"
    code, out, err = run(capsys, "verify", *both, "--log", log)
    assert code == 2 and out == "" and "holds a log already" in err
    code, out, err = run(capsys, "verify", files / "net.onnx", files / "sat.vnnlib", "--resume", log)
    assert code == 2 and out == "" and "another property" in err
    code, out, err = run(capsys, "verify", *both, "--resume", log, "--seed", "3")
    assert code == 2 and "only limits may be new" in err
    assert run(capsys, "verify", *both, "--resume", log, "--timeout", "6000")[:2] == (0, "unsat\n")
    code, out, _ = run(capsys, "check", log, *both, "--replay")
    assert code == 0 and out.startswith("good\n") and "closed again" in out
    code, out, _ = run(capsys, "check", log, "--json")
    assert code == 0 and json.loads(out)["good"] is True
    code, out, err = run(capsys, "check", log, files / "net.onnx", files / "sat.vnnlib")
    assert code == 2 and "another property" in err
    code, _, err = run(capsys, "check", "a", "b")
    assert code == 2 and "DIR NET PROP" in err


def test_a_log_knows_its_files(files, tmp_path, capsys, monkeypatch):
    """Network and property need not be named again, wherever the command is given."""
    for name in ("net.onnx", "unsat.vnnlib"):
        (tmp_path / name).write_bytes((files / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    assert (
        run(capsys, "verify", "net.onnx", "unsat.vnnlib", "--log", "log", "attack=off", "max_pieces=1")[1]
        == "unknown\n"
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(capsys, "verify", "--resume", "../log", "max_pieces=3")[:2] == (0, "unknown\n")
    assert run(capsys, "verify", "--resume", "../log")[:2] == (0, "unsat\n")
    code, out, _ = run(capsys, "check", "../log", "--replay")
    assert code == 0 and "closed again" in out
    (tmp_path / "net.onnx").unlink()
    code, _, err = run(capsys, "verify", "--resume", "../log")
    assert code == 2 and "not there any more" in err


def test_a_killed_run_leaves_a_log_that_can_be_taken_up(tmp_path):
    """SIGKILL in the middle: what is on disk is a partition, and the search goes on from it to the end."""
    graph, _ = barely(1)
    (tmp_path / "net.onnx").write_bytes(graph_to_onnx(graph))
    # The network's own file in float32; the margin that is left to prove is small, and branches are many.
    code = f"""
import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
import partita, time
from networks import barely
from partita.bab.logs import observer as partition_log
from partita.bab.search.observer import Observer
partition_log.ROWS = 150
class Slow(Observer):
    def branched(self, parents, children):
        time.sleep(0.02)
_, prop = barely(1)
partita.verify({str(tmp_path / "net.onnx")!r}, prop, log={str(tmp_path / "log")!r}, observers=[Slow()],
               attack="off", split="activation", batch=64)
"""
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
    limit = time.monotonic() + 60
    while len(list((tmp_path / "log").glob("*.parquet"))) < 3 and child.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    assert child.poll() is None, "it ended before it could be killed"
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = read_log(tmp_path / "log")
    assert before.footer is None and before.parts >= 3 and len(before.unsettled) > 10
    assert check(before).good
    _, prop = barely(1)
    part = tmp_path / "log" / f"pieces-{before.parts - 1:05d}.parquet"
    part.write_bytes(part.read_bytes()[:-20])  # and the disk lost the end of the last part
    outcome = partita.verify(tmp_path / "net.onnx", prop, resume=tmp_path / "log", timeout=60)
    tree = read_log(tmp_path / "log")
    assert outcome.verdict == "unsat" and tree.footer["verdict"] == "unsat"
    assert check(tree).good and not len(tree.unsettled) and tree.weight == pytest.approx(1)


def test_a_benchmark_run_logs_every_instance(files, tmp_path, capsys):
    (tmp_path / "instances.csv").write_text(f"{files / 'net.onnx'},{files / 'unsat.vnnlib'},60,unsat\n")
    (tmp_path / "out" / "partitions" / "0001").mkdir(parents=True)
    (tmp_path / "out" / "partitions" / "0001" / "header.json").write_text("left by a run that was stopped")
    code, out, _ = run(capsys, "run", tmp_path / "instances.csv", "--out", tmp_path / "out", "--log", "attack=off")
    tree = read_log(tmp_path / "out" / "partitions" / "0001")
    assert code == 0 and "1 (1 unsat, 0 sat)" in out and tree.footer["verdict"] == "unsat" and check(tree).good
