"""What a run may say that goes on with a log: nothing that rests on a claim it did not prove, unless it is trusted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from logs import flip, forge, logged
from networks import barely

import partita
from partita import replay
from partita.bab.commands.check import run as check_command
from partita.bab.logs.check import check
from partita.bab.logs.digests import Digests, chained
from partita.bab.logs.format import CLOSED
from partita.bab.logs.read import read_log
from partita.problems.errors import BadInput
from partita.problems.properties.property import Case, Property, UnsafeSet

TREES = [(3, "input"), (3, "polyhedral"), (17, "auto")]  # regions twice, phases


def violated(seed: int, inputs: int):
    """A property that does not hold, though no single look shows it."""
    graph, prop = barely(seed, inputs)
    case, unsafe = prop.cases[0], prop.cases[0].unsafe[0]
    worse = UnsafeSet(unsafe.rows, unsafe.constants - (0.01 if inputs <= 3 else 0.5))
    return graph, Property((Case(case.inputs, (worse,)),), prop.n_in, prop.n_out)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Of each tree the log of a run that was stopped early, of a property that holds and of one that does not."""
    folder, found = tmp_path_factory.mktemp("stopped"), {}
    for inputs, split in TREES:
        for verdict, make in (("unsat", barely), ("sat", violated)):
            graph, prop = make(1, inputs)
            where = folder / f"{inputs}{split}{verdict}"
            for pieces in (12, 24, 36, 60):
                shutil.rmtree(where, ignore_errors=True)
                with pytest.MonkeyPatch.context() as patient:  # one part, however busy the machine is
                    patient.setattr("partita.bab.logs.writer.FIRST", 1000.0)
                    patient.setattr("partita.bab.logs.writer.LONGEST", 1000.0)
                    _, _, tree = logged(where, graph, prop, max_pieces=pieces, batch=4, split=split)
                if len(tree.closed):
                    break
            assert len(tree.unsettled) and (len(tree.closed) or verdict == "sat")
            found[inputs, split, verdict] = (graph, prop, where)
    return found


@pytest.mark.parametrize("forged", [False, True])
@pytest.mark.parametrize(("inputs", "split"), TREES)
def test_flipped_leaves_are_caught(inputs, split, forged, stopped, tmp_path):
    """All open leaves of a violated property called closed: no resumed run says unsat, and a replay says where."""
    graph, prop, where = stopped[inputs, split, "sat"]
    shutil.copytree(where, tmp_path / "log")
    assert flip(tmp_path / "log", forged) > 0
    tree = read_log(tmp_path / "log")
    assert not len(tree.unsettled) and check(tree).good == forged
    found = replay(tree, graph, prop, timeout=30)
    assert not found.good and "a counterexample lies in a leaf that the log calls closed: pieces-0" in found.reason
    for trust in (False, True):
        copy = tmp_path / f"copy {trust}"
        shutil.copytree(tmp_path / "log", copy)
        said = partita.verify(graph, prop, resume=copy, max_pieces=40, trust_log=trust)
        if trust and forged:  # who rewrites everything and is trusted is believed: the manual says so
            assert said.verdict == "unsat" and "trusted" in said.stats
        else:
            assert said.verdict != "unsat", said.stats


@pytest.mark.parametrize(("inputs", "split"), TREES)
def test_a_resumed_run_proves_what_it_does_not_believe(inputs, split, stopped, tmp_path):
    graph, prop, where = stopped[inputs, split, "unsat"]
    shutil.copytree(where, tmp_path / "log")
    closed = len(read_log(where).closed)
    said = partita.verify(graph, prop, resume=tmp_path / "log", timeout=60)
    assert said.verdict == "unsat" and said.stats["replayed"].startswith(f"{closed} of {closed} closed")
    again = len(read_log(tmp_path / "log").closed)
    said = partita.verify(graph, prop, resume=tmp_path / "log", timeout=60)
    assert said.verdict == "unsat" and said.stats["replayed"].startswith(f"{again} of {again} closed")
    trusted = partita.verify(graph, prop, resume=tmp_path / "log", timeout=60, trust_log=True)
    assert trusted.verdict == "unsat" and "replayed" not in trusted.stats
    assert trusted.stats["trusted"].startswith(f"{again} of {again} closed")


def test_without_time_the_claims_are_counted_and_the_verdict_is_unknown(stopped, tmp_path, monkeypatch):
    graph, prop, where = stopped[3, "input", "unsat"]
    shutil.copytree(where, tmp_path / "log")
    partita.verify(graph, prop, resume=tmp_path / "log", timeout=60)
    closed = len(read_log(tmp_path / "log").closed)
    from partita.bab.logs.believed import Schedule
    from partita.bab.search.verdict import TIME_IS_UP

    class Short(Schedule):
        def exhausted(self, state):
            self.end = self.end or (TIME_IS_UP if state.pieces else None)
            return self.end is not None

    monkeypatch.setattr("partita.bab.logs.believed.Schedule", Short)
    said = partita.verify(graph, prop, resume=tmp_path / "log", timeout=60)
    assert said.verdict == "unknown" and f"of {closed} pieces that the log calls closed are believed" in said.reason
    assert read_log(tmp_path / "log").footer["verdict"] == "unknown"
    assert partita.verify(graph, prop, resume=tmp_path / "log", timeout=60, trust_log=True).verdict == "unsat"


def test_pieces_of_an_edited_part_and_below_its_cuts_are_not_trusted(tmp_path, monkeypatch):
    """The chain vouches part by part; a claim needs every cut above it."""
    monkeypatch.setattr("partita.bab.logs.observer.ROWS", 8)
    graph, prop = barely(1)
    _, _, tree = logged(tmp_path / "log", graph, prop, batch=4, split="input")
    assert tree.verified.all() and tree.parts > 3
    path = tmp_path / "log" / "pieces-00001.parquet"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"parquet-cpp", b"parquet-cPP"))
    assert path.read_bytes() != content
    tree = read_log(tmp_path / "log")
    assert tree.doubts == ("pieces-00001.parquet is not what the run wrote, by digests.txt",)
    part = np.searchsorted(tree.starts, tree.row, side="right") - 1
    expected = np.ones(tree.count, dtype=bool)
    for piece in range(tree.count):
        at = piece
        while at >= 0:
            expected[piece] &= part[at] != 1
            at = tree.parent[at]
    np.testing.assert_array_equal(tree.verified, expected)
    assert 0 < expected.sum() < tree.count
    assert not check(tree).good
    said = partita.verify(graph, prop, resume=tmp_path / "log", trust_log=True)
    doubted = int((~expected & (tree.state == CLOSED)).sum())
    assert said.verdict == "unsat" and said.stats["replayed"].startswith(f"{doubted} of {doubted} ")


def test_the_chain_is_what_the_manual_says(tmp_path):
    import hashlib

    graph, prop = barely(1)
    logged(tmp_path / "log", graph, prop, max_pieces=9, batch=4)
    partita.verify(graph, prop, resume=tmp_path / "log")
    lines = [line.split() for line in (tmp_path / "log" / "digests.txt").read_text().splitlines()]
    assert lines[0] == ["header.json", hashlib.sha256((tmp_path / "log" / "header.json").read_bytes()).hexdigest()]
    assert len(lines) >= 3
    for (_, before), (name, digest) in pairwise(lines):
        assert digest == hashlib.sha256(before.encode() + (tmp_path / "log" / name).read_bytes()).hexdigest()


def test_digests_that_are_cut_short_or_lost_vouch_for_nothing(stopped, tmp_path):
    graph, prop, where = stopped[3, "input", "unsat"]
    text = (where / "digests.txt").read_text()
    header, part = text.splitlines()
    other = f"{part.split()[0]} {chained('', b'x')}"
    for number, (content, doubt) in enumerate(
        (
            (None, "is missing"),
            (f"{header}\n{part[:-9]}", "is not what the run wrote"),
            (f"{header}\n{part}", "is not what the run wrote"),
            (f"{header}\n{other}\n", "is not what the run wrote"),
            (f"{header}\nnothing\n{part}\n", "line 2, is no name and digest"),
        )
    ):
        shutil.copytree(where, tmp_path / str(number))
        file = tmp_path / str(number) / "digests.txt"
        file.unlink() if content is None else file.write_text(content)
        tree = read_log(tmp_path / str(number))
        assert len(tree.doubts) == 1 and doubt in tree.doubts[0] and not tree.verified[tree.closed].any()
        said = partita.verify(graph, prop, resume=tmp_path / str(number), trust_log=True, timeout=60)
        assert said.verdict == "unsat" and "trusted" not in said.stats, content
    assert Digests.read(tmp_path) is None


def test_a_killed_run_leaves_at_most_one_line_more_and_what_follows_is_chained(stopped, tmp_path):
    graph, prop, where = stopped[3, "input", "unsat"]
    shutil.copytree(where, tmp_path / "log")
    (tmp_path / "log" / "footer.json").unlink()
    with open(tmp_path / "log" / "digests.txt", "a") as file:
        file.write(f"pieces-00001.parquet {'0' * 64}\npieces-0")
    assert not read_log(tmp_path / "log").doubts
    assert partita.verify(graph, prop, resume=tmp_path / "log", timeout=60).verdict == "unsat"
    tree = read_log(tmp_path / "log")
    assert tree.verified.all() and not tree.doubts and tree.parts == 2


def test_headers_that_were_edited_are_refused(stopped, tmp_path):
    graph, prop, where = stopped[3, "input", "unsat"]
    header = json.loads((where / "header.json").read_text())
    inputs = json.loads(json.dumps(header["inputs"]))
    inputs[0]["upper"][1] += 0.5
    goals = [header["goals"][0] | {"strict": [True]}]
    for number, change in enumerate(({"seed": 3}, {"inputs": inputs}, {"begun": "never"}, {"goals": goals})):
        folder = tmp_path / str(number)
        shutil.copytree(where, folder)
        (folder / "header.json").write_text(json.dumps(header | change))
        with pytest.raises(BadInput, match=r"header\.json is not what the run wrote"):
            read_log(folder)
        forge(folder)
        for act in (lambda log: partita.verify(graph, prop, resume=log), lambda log: replay(log, graph, prop)):
            if "inputs" in change or "goals" in change:
                with pytest.raises(BadInput, match=rf"field {next(iter(change))}, is not what the property says"):
                    act(folder)


def test_logs_of_the_format_before_are_read_and_not_gone_on_with(stopped, tmp_path):
    graph, prop, where = stopped[3, "input", "unsat"]
    shutil.copytree(where, tmp_path / "log")
    header = json.loads((where / "header.json").read_text())
    (tmp_path / "log" / "header.json").write_text(json.dumps(header | {"format": 2}))
    forge(tmp_path / "log")
    (tmp_path / "log" / "digests.txt").unlink()
    tree = read_log(tmp_path / "log")
    assert check(tree).good and replay(tree, graph, prop).good and not tree.verified[tree.closed].any()
    with pytest.raises(BadInput, match="has format 2, which this version reads but does not write"):
        partita.verify(graph, prop, resume=tmp_path / "log")


def test_check_says_what_it_does_not_know(stopped, capsys):
    _, _, where = stopped[3, "input", "unsat"]
    closed = len(read_log(where).closed)
    assert check_command([str(where)]) == 0
    assert "not known" in capsys.readouterr().out
    assert check_command([str(where), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["not known"] == f"whether {closed} closed leaves are proved: --replay bounds them again"


def test_trust_is_for_logs(stopped):
    graph, prop, _ = stopped[3, "input", "unsat"]
    with pytest.raises(BadInput, match="trust_log has no effect here"):
        partita.verify(graph, prop, trust_log=True)


def test_of_two_runs_on_one_folder_one_is_refused(tmp_path):
    """Real processes, whenever they start, one of them killed now and then: the other is told in a sentence, exit code
    2, or comes when the first is through; and what is in the folder is the log of one."""
    script = Path(__file__).with_name("two_runs.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, tmp_path, "8", "2"], env=environment, capture_output=True, text=True, check=False
    )
    rounds = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(rounds) == 8, done.stderr[-2000:]
    refused = 0
    for one in rounds:
        assert one["good"] and "Traceback" not in "".join(one["said"]), one
        assert set(one["codes"]) <= {0, 2, *([-9] if one["killed"] else [])} and one["third"] in (None, 0), one
        for code, said in zip(one["codes"], one["said"], strict=True):
            if code == 2:
                assert "another run is writing the log" in said or "holds a log already" in said, said
                refused += "another run is writing the log" in said
    assert refused >= 2
