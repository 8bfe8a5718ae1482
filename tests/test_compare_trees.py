"""The script that compares trees: what it calls a difference, and a run from beginning to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import compare_trees  # noqa: E402
from measure.one_tree import Digest  # noqa: E402

ALL = (*compare_trees.COUNTS, "digest")


def row(**changed):
    base = {"family": "f", "onnx": "n.onnx.gz", "vnnlib": "p.vnnlib", "options": "", "verdict": "unsat"}
    return base | {"pieces": 9, "leaves": 5, "digest": "ab", "work": 10.0, "cpu": 1.0, "seconds": 2.0} | changed


def test_the_same_trees_do_not_differ():
    assert not list(compare_trees.differences([row(), row(onnx="m")], [row(onnx="m", seconds=9.0), row(work=1.0)], ALL))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"verdict": "unknown"}, "verdict unsat -> unknown"),
        ({"pieces": 11}, "pieces 9 -> 11"),
        ({"leaves": 6}, "leaves 5 -> 6"),
        ({"digest": "cd"}, "digest ab -> cd"),
        ({"verdict": "sat", "pieces": 11}, "verdict unsat -> sat"),
        ({"options": "x=1"}, "only"),
    ],
)
def test_what_differs_is_listed(changed, said):
    found = list(compare_trees.differences([row()], [row(**changed)], ALL))
    assert found and all(said in line for line in found)
    assert len(found) == (2 if "options" in changed else 1)


def test_of_sat_instances_and_without_digests_less_is_compared():
    assert not list(compare_trees.differences([row(verdict="sat")], [row(verdict="sat", pieces=1, digest="x")], ALL))
    assert not list(compare_trees.differences([row()], [row(digest="x")], compare_trees.COUNTS))
    failed = {name: value for name, value in row().items() if name != "verdict"} | {"error": "exit code 1"}
    assert list(compare_trees.differences([row()], [failed], ALL))


def test_a_digest_sees_cuts_and_leaves_and_no_order():
    from types import SimpleNamespace

    import torch

    def digest(*events, point=0.5):
        made = Digest()
        for event in events:
            if event == "cut":
                record = {"id": [0], "parent": [-1], "goal": [0], "index": [3], "point": [point]}
                record = {name: torch.tensor(value) for name, value in record.items()}
                made.branched(record, SimpleNamespace(id=torch.tensor([1, 2])))
            else:
                made.closed(SimpleNamespace(id=torch.tensor([event])), "bound")
        made.progress("b", None)
        return str(made)

    whole = digest("cut", 1, 2)
    assert whole == digest("cut", 2, 1) and not Digest().wished()
    assert len({whole, digest("cut", 1), digest("cut"), digest("cut", 1, 2, point=0.25)}) == 4


def test_a_run_that_goes_on_and_is_compared_with_itself(tmp_path):
    (tmp_path / "digits").symlink_to(SCRIPTS.parent / "examples")
    files = "digits,digits_relu.onnx,digits_relu_1067_0.11.vnnlib"
    (tmp_path / "list.csv").write_text(f"family,onnx,vnnlib,options\n{files},max_pieces=30\n{files},relaxation=none\n")
    out, other = tmp_path / "a.json", tmp_path / "b.json"

    def compare(*arguments):
        command = [sys.executable, str(SCRIPTS / "compare_trees.py"), "--list", str(tmp_path / "list.csv"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=240)

    bench = ["--bench", str(tmp_path), "--forked", "--out", str(out)]
    first = compare(*bench)
    assert first.returncode == 1 and first.stderr.count("no tree: digits") == 1, first.stderr
    report = json.loads(out.read_text())
    grown, failed = report["rows"]
    assert (
        grown["pieces"] >= 1
        and grown["work"] > 0
        and grown["cpu"] > 0
        and len(grown["digest"]) == 16
        and report["hardware"]["torch"]
    )
    assert "exit code" in failed["error"]
    assert "pieces=30" not in compare(*bench).stderr  # nothing is left to do
    report["rows"] = [grown]
    out.write_text(json.dumps(report))
    grown["digest"] = "another"
    other.write_text(json.dumps(report))
    again = compare("--out", str(out), "--against", str(other))
    assert again.returncode == 1 and "digest another ->" in again.stdout and "1 differences; 1 trees" in again.stdout
    assert compare("--out", str(out), "--against", str(other), "--counts").returncode == 0
    assert "0 differences; 0 trees" in compare("--out", str(out), "--against", str(other), "--only", "none").stdout
