"""A few dozen fuzzed trials, the stored ones again, and the fuzzer itself: it sees what is wrong, and shrinks it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fuzz import TRACES, Trial, judge, random_trial, shrink

import partita
from partita.bab.search.outcome import Outcome

TRIALS, GROUPS = 120, 8


@pytest.mark.parametrize("group", range(GROUPS))
def test_engine_and_oracle_agree(group):
    for seed in range(group, TRIALS, GROUPS):
        assert not judge(random_trial(seed)), f"python tests/fuzz.py --seed {seed} --seconds 1 shrinks and stores it"


@pytest.mark.parametrize("path", sorted(TRACES.glob("*.json")), ids=lambda path: path.stem)
def test_stored_trials_stay_right(path):
    assert not judge(Trial.read(path))


def test_trials_survive_storage(tmp_path):
    for seed in range(5):
        trial = replace(random_trial(seed), complaint="wrong unsat: made up")
        assert Trial.read(trial.write(tmp_path)) == trial


@pytest.mark.parametrize("verdict", ["unsat", "unknown"])
def test_a_wrong_answer_is_seen_and_shrunk(verdict, monkeypatch):
    monkeypatch.setattr(partita, "verify", lambda *given, **options: Outcome(verdict, "made up"))
    trials = (replace(t, complaint=judge(t)) for t in map(random_trial, range(100)))
    trial = next(t for t in trials if t.complaint and t.graph.neurons > 4 and t.graph.input_size < 5)
    small = shrink(trial, seconds=30.0)
    assert small.complaint.split(":")[0] == trial.complaint.split(":")[0]
    assert sum(len(layer.bias) for layer in small.layers) <= 3 < sum(len(layer.bias) for layer in trial.layers)
    assert len(small.cases) == 1 and not small.options


def test_a_crash_is_a_finding(monkeypatch):
    def crash(*given, **options):
        raise ZeroDivisionError("made up")

    monkeypatch.setattr(partita, "verify", crash)
    assert judge(random_trial(0)).startswith("crash: ZeroDivisionError in test_fuzz.py:crash")
