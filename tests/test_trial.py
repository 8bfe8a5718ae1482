"""Which way of bounding pays: decided by gains that were measured and costs that were counted."""

from __future__ import annotations

import math

from partita.bab.effort import TREE
from partita.bab.trees.ways import Trial, Way

FIRST, AGAIN = TREE.first, TREE.again


def played(tight: float, cheap: float, cost: float, batches: int, gap: float = 4.0) -> Trial:
    """A run in which batches gain `tight` with the dear way and `cheap` with the other."""
    trial = Trial([Way("dear", cost), Way("cheap", 1.0)])
    for _ in range(batches):
        way = trial.choose()
        gain = tight if way.name == "dear" else cheap
        trial.learn(way, [-gap] * 10, [gain] * 10, 1, 0.1)
    return trial


def test_every_way_is_tried_first():
    trial = played(1.0, 0.1, 2.0, 2 * FIRST)
    assert [way.batches for way in trial.ways] == [FIRST, FIRST]


def test_what_gains_much_more_is_worth_its_cost():
    trial = played(1.0, 0.5, 3.0, 60)  # 4 / 1 + log2 3 is less than 4 / 0.5
    assert trial.ways[0].batches > 40


def test_what_gains_hardly_more_is_not():
    trial = played(0.52, 0.5, 3.0, 60)
    assert trial.ways[1].batches > 40


def test_what_was_given_up_is_tried_again():
    trial = played(0.52, 0.5, 3.0, 10 * AGAIN)
    assert trial.ways[0].batches > FIRST + 5
    for _ in range(40 * AGAIN):  # below, only the dear way gains anything
        way = trial.choose()
        trial.learn(way, [-4.0] * 10, [1.0 if way.name == "dear" else 0.0] * 10, 0, 0.1)
    assert trial.choose().name == "dear" or trial.turn % AGAIN == 0


def test_roots_teach_nothing_and_one_way_needs_no_trial():
    trial = Trial([Way("only", 1.0)])
    trial.learn(trial.choose(), [-math.inf], [math.inf], 0, 0.1)
    assert trial.ways[0].mean_gain == 0 and trial.gap == math.inf and trial.choose() is trial.ways[0]
    assert trial.ways[0].summary() == "0 closed of 1 bounded (0 %), 0.10 s"
