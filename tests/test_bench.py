"""The measuring script: what it times, how it judges, what its tables say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import mean
from types import SimpleNamespace

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
EXAMPLES = SCRIPTS.parent / "examples"
sys.path.insert(0, str(SCRIPTS))

from measure import instances, process, table  # noqa: E402
from measure.process import Run  # noqa: E402


def row(family="f", name="n", expected="unsat", verdict="unsat", wall=1.0, pieces=1):
    return {
        "family": family,
        "onnx": f"onnx/{name}.onnx.gz",
        "vnnlib": "p.vnnlib",
        "expected": expected,
        "limit": 60.0,
        "verdict": verdict,
        "wall": wall,
        "peak_mb": 100.0,
        "pieces": pieces,
        "reason": "",
    }


def peer(tool="them", name="n", verdict="unsat", wall=4.0, limit=60.0):
    return {"family": "f", "onnx": f"onnx/{name}.onnx.gz", "vnnlib": "p.vnnlib", "tool": tool, "verdict": verdict} | {
        "wall": wall,
        "limit": limit,
    }


def test_timed_sees_time_memory_and_exit_code():
    program = "import sys, time; block = bytearray(200 << 20); time.sleep(0.3); sys.exit('gone wrong')"
    code, wall, peak, tail = process.timed([sys.executable, "-c", program])
    assert code == 1 and tail.strip() == "gone wrong"
    # A child's peak starts from what its parent has resident: Linux keeps that through fork and exec.
    with open("/proc/self/statm", encoding="ascii") as file:
        own = int(file.read().split()[1]) * 4096 / 2**20
    assert 0.3 < wall < 5 and 200 < peak < 400 + own


def test_timed_kills_what_outlives_its_limit():
    code, wall, _, _ = process.timed([sys.executable, "-c", "import time; time.sleep(60)"], limit=0.3)
    assert code < 0 and wall < 5


def test_verify_an_example(tmp_path):
    found = process.verify(EXAMPLES / "digits_relu.onnx", EXAMPLES / "digits_relu_256_0.15.vnnlib", 60.0)
    assert found.verdict == "sat" and found.wall > 0 and found.peak_mb > 50
    missing = process.verify(tmp_path / "none.onnx", EXAMPLES / "digits_relu_256_0.15.vnnlib", 60.0)
    assert missing.verdict == "error" and "does not exist" in missing.reason


@pytest.mark.parametrize(
    "header, line, limit, expected",
    [
        ("onnx,vnnlib,timeout_s,expected", "a.onnx,b.vnnlib,300.0,sat", 120.0, "sat"),
        ("", "a.onnx,b.vnnlib,30", 30.0, ""),
        ("", "a.onnx,b.vnnlib", 120.0, ""),
    ],
)
def test_instances_of_a_family(tmp_path, header, line, limit, expected):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "instances.csv").write_text(f"{header}\n{line}\n\n")
    (found,) = instances.read_family(tmp_path, "f", 120.0)
    assert found == instances.Instance("f", "a.onnx", "b.vnnlib", limit, expected)
    with pytest.raises(SystemExit, match="does not exist"):
        instances.read_family(tmp_path, "g", 120.0)


def test_a_wrong_run_speaks_for_all():
    runs = [Run(verdict, 1.0, 1.0, 0, "") for verdict in ("unsat", "timeout", "sat", "error")]
    assert instances.worst(runs, "unsat").verdict == "sat"
    assert instances.worst(runs, "").verdict == "error"
    assert instances.worst(runs[:2], "unsat").verdict == "timeout"
    assert instances.worst(runs[:1], "unsat").verdict == "unsat"


def test_family_table_counts():
    rows = [row(), row(verdict="sat", wall=3.0), row("g", verdict="timeout", wall=60.0, expected="unknown", pieces=998)]
    assert table.by_family(rows)[1:] == [
        ["f", "2", "2", "1", "2.00", "4.0", "100", "2"],
        ["g", "1", "0", "0", "60.00", "60.0", "100", "998"],
        ["all", "3", "2", "1", "3.00", "64.0", "100", "1,000"],
    ]


def test_peers_are_compared_on_what_both_solve():
    rows = [row(name="a"), row(name="b"), row(name="c", wall=70.0), row(name="d", verdict="sat"), row(name="e")]
    peers = [peer(name=n) for n in "acd"] + [peer(name="b", verdict="timeout", wall=60.0), peer("fast", "a", wall=2.0)]
    # c takes longer than the peer's limit, d is wrong, e is not listed, b is solved by us alone.
    assert table.against(rows, peers, "them")[1] == ["f", "4", "3", "2", "1", "4.0", "1.0", "0.25"]
    assert table.against(rows, peers, "best")[1][5:] == ["2.0", "1.0", "0.50"]
    assert len(table.against(rows, peers, "nobody")) == 1


def test_tables_are_aligned_and_markdown_is_markdown():
    cells = [["name", "n"], ["a", "1"], ["long name", "1000"]]
    assert table.plain(cells).split("\n") == ["name          n", "a             1", "long name  1000"]
    assert table.markdown(cells).split("\n")[1] == "| --- | ---: |"


def test_the_whole_script(tmp_path):
    """Two examples as a family, a resumed run that has nothing left to do, and the tables from the file."""
    (tmp_path / "digits").symlink_to(EXAMPLES)
    out, peers = tmp_path / "bench.json", tmp_path / "peers.csv"
    peers.write_text(
        "family,onnx,vnnlib,expected,tool,limit_s,verdict,wall_s,search_s,pieces\n"
        "digits,digits_relu.onnx,digits_relu_256_0.15.vnnlib,sat,slow,60,sat,1000,1,1\n"
    )

    def bench(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(SCRIPTS / "bench.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    arguments = ["--bench", str(tmp_path), "--families", "digits", "--only", "256_0.15", "--out", str(out), "--resume"]
    first = bench(*arguments, "--peers", str(peers), "--tools", "slow")
    assert first.returncode == 0, first.stderr
    assert "Against slow" in first.stdout and "1/1 sat" in first.stderr
    report = json.loads(out.read_text())
    assert report["instances"][0]["verdict"] == "sat" and report["hardware"]["torch"] and report["date"]
    assert "1/1" not in bench(*arguments).stderr
    assert json.loads(out.read_text())["instances"] == report["instances"]
    assert bench(*arguments, "--timeout", "7").returncode == 1
    assert "| digits | 1 | 1 | 0 |" in bench("--markdown", str(out)).stdout
    assert "bench: name the folder" in bench("--families", "digits").stderr


def test_the_search_with_and_without_rows(tmp_path):
    import bench_search

    rows = [
        {**row(name="a", wall=2.0, pieces=10), "way": "alpha-crown"},
        {**row(name="a", wall=1.0, pieces=4), "way": "default"},
        {**row(name="b", verdict="timeout", wall=20.0), "way": "alpha-crown"},
        {**row(name="b", wall=3.0), "way": "default"},
    ]
    plain, default = bench_search.summary(rows).splitlines()[2:]
    assert plain == "| f | alpha-crown | 1 of 2 | 0 | 62 | 2 | 10 |"
    assert default == "| f | default | 2 of 2 | 1 | 4 | 1 | 4 |"


def test_roots_are_compared_by_the_gap_they_close(tmp_path):
    import bench_roots

    at = {"family": "f", "onnx": "n", "vnnlib": "p", "attained": [1.0, 1.0], "peak_mb": 100.0}
    rows = [
        {**at, "way": "alpha-crown", "lower": [-1.0, -3.0], "seconds": 1.0},
        {**at, "way": "m-1", "lower": [0.0, -1.0], "seconds": 2.0},
    ]
    assert bench_roots.closed(rows) == {"alpha-crown": (0.0, 0.0), "m-1": (1.0, 0.5)}
    exact = {**at, "way": "exact", "lower": [1.0, 0.0], "attained": [1.0, 0.0], "seconds": 9.0}
    shut = {**at, "vnnlib": "q", "way": "alpha-crown", "lower": [2.0], "seconds": 3.0, "smooth": True}
    assert bench_roots.closed([*rows, exact])["m-1"] == (mean([1 / 2, 2 / 3]), mean([1 / 2, 2 / 3]))
    first, last = (bench_roots.table([*rows, exact, shut]).splitlines()[line] for line in (2, 3))
    assert first == "| f | alpha-crown | 2 | 0 % | 0 % | 1 of 3 | 2.0 | 100 |"
    assert last == "| f | m-1 | 1 | 58 % | 58 % | 0 of 2 | 2.0 | 100 |"
    bench_roots.plot(rows, tmp_path / "roots.svg")
    assert (tmp_path / "roots.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_a_run_over_roots_goes_on_where_another_ended(tmp_path, monkeypatch, capsys):
    import bench_roots

    folder, out, asked = tmp_path / "bench", tmp_path / "roots.json", []
    (folder / "f").mkdir(parents=True)
    (folder / "f" / "instances.csv").write_text("".join(f"n,p{i},9\n" for i in range(5)), encoding="utf-8")

    def run(command, **_):
        prop = Path(command[4]).name if "--one" in command else ""
        asked.append(prop)
        lower = [1.0] if prop == "p1" else [-1.0]  # p1 is closed by optimised slopes
        said = {"lower": lower, "attained": [1.0], "seconds": 1.0, "peak_mb": 100.0}
        return SimpleNamespace(returncode=0, stdout=json.dumps(said), stderr="")

    monkeypatch.setattr(bench_roots.subprocess, "run", run)
    for count, more in ((1, []), (3, ["--append"])):  # p1 is left out while others are open
        arguments = ["--bench", folder, "--families", "f", "--count", count, "--out", out, *more]
        monkeypatch.setattr(sys, "argv", ["bench_roots", *map(str, arguments)])
        assert bench_roots.main() == 0
    assert [sum(p == f"p{i}" for p in asked) for i in range(5)] == [6, 1, 6, 6, 0]
    report = json.loads(out.read_text(encoding="utf-8"))
    assert len(report["rows"]) == 18 and report["appended"][0]["from_row"] == 6
    assert "f 3 of 3 n p3: " in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["bench_roots", "--bench", str(folder), "--families", "f", "--out", str(out)])
    assert bench_roots.main() == 0
    filled = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert len(filled) == 25 and filled[-1]["vnnlib"] == "p1"  # four of six rows, and the closed one, of ten asked for
    monkeypatch.setattr(sys, "argv", ["bench_roots", "--bench", str(folder), "--append"])
    with pytest.raises(SystemExit, match="--append goes on with a file"):
        bench_roots.main()


def test_the_root_of_an_example():
    """A whole child process of the script: bounds below what is attained."""
    script, net, prop = (
        SCRIPTS / "bench_roots.py",
        EXAMPLES / "digits_relu.onnx",
        EXAMPLES / "digits_relu_256_0.15.vnnlib",
    )
    for way in ("alpha-crown", "triangle", "prima", "m-1"):
        command = [sys.executable, script, "--one", net, prop, way, "--seconds", "20"]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)
        assert len(found["lower"]) == len(found["attained"]) == 9
        assert all(low <= high + 1e-6 for low, high in zip(found["lower"], found["attained"], strict=True))
