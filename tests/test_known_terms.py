"""What a run knows while it is under way, told from what it has heard so far."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from partita.bab.search.known import Known, progress


def state(worst):
    return SimpleNamespace(pieces=12, leaves=5, depth=4, open=3, frontier=SimpleNamespace(worst=worst))


class Changing:
    """A frontier that another thread changes while it is asked."""

    @property
    def worst(self):
        raise RuntimeError("dictionary changed size during iteration")


def test_goals_are_counted_and_the_worst_of_the_open_ones_is_told():
    known = Known()
    assert known.sentence().startswith("while ") and "goals" not in known.stats() and known.pieces == 0
    known.bounded(torch.tensor([1.0, -2.5, 0.5, -0.25, 3.0]), torch.tensor([True, False, True, False, True]))
    assert known.goals == (5, 3, -2.5)
    assert known.sentence().endswith("; 3 of 5 goals closed, the worst bound of the others is -2.5")
    assert {k: known.stats()[k] for k in ("goals", "goals closed at the root", "worst")} == {
        "goals": 5,
        "goals closed at the root": 3,
        "worst": -2.5,
    }
    known.bounded(torch.tensor([1.0, 2.0]), torch.tensor([True, True]))
    assert known.goals == (2, 2, float("inf")) and known.sentence().endswith("; 2 of 2 goals closed")


def test_a_search_says_how_far_it_is():
    known = Known()
    known.progress("", state(-0.125))
    assert known.pieces == 12
    assert known.sentence().endswith("; 12 pieces bounded, 5 closed, 3 open, the worst at -0.125")
    assert {k: known.stats()[k] for k in ("leaves", "depth", "open", "worst")} == {
        "leaves": 5,
        "depth": 4,
        "open": 3,
        "worst": -0.125,
    }
    assert progress(state(float("inf"))) == "12 pieces bounded, 5 closed, 3 open"


def test_a_frontier_that_changes_just_now_is_left_out():
    known = Known()
    changing = state(0.0)
    changing.frontier = Changing()
    known.progress("", changing)
    assert progress(changing) == "12 pieces bounded, 5 closed, 3 open" and "worst" not in known.stats()


def test_a_run_that_is_ended_says_why():
    known = Known()
    known.progress("", state(-1.0))
    found = known.outcome(2.5, "unknown", "interrupted")
    assert (found.verdict, found.pieces, found.seconds, found.witness) == ("unknown", 12, 2.5, None)
    assert found.reason.startswith("interrupted while ") and found.reason.endswith("the worst at -1")
    assert known.outcome(1.0).verdict == "timeout" and known.wished() == ""
