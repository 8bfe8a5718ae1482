"""Counts over several input sets, and what is left of a count that was cut short: intervals that hold the number."""

from __future__ import annotations

import numpy as np
import pytest
from networks import random_graph

from partita.bab.counting import patterns
from partita.bab.counting.patterns import PatternCount, count, count_union
from partita.problems.properties.property import Polytope


def counted(low: int, high: int, kept=None, reason: str = "told", interrupted: bool = False) -> PatternCount:
    return PatternCount(low, high, low == high, 0.0, reason, "open", patterns=kept, interrupted=interrupted)


@pytest.fixture
def told(monkeypatch):
    """Counts of the parts as they are told."""

    def tell(*counts: PatternCount):
        waiting = iter(counts)
        monkeypatch.setattr(patterns, "count", lambda *a, **k: next(waiting))
        graph = random_graph(0, "mlp", inputs=2, width=3, depth=1)
        boxes = [Polytope(np.full(2, k - 1.0), np.full(2, k + 1.0)) for k in range(max(2, len(counts)))]
        return count_union(graph, boxes)

    return tell


def test_patterns_of_a_union_are_counted_once(told):
    first, second = np.array([[1], [2], [3]], dtype=np.uint8), np.array([[3], [4]], dtype=np.uint8)
    found = told(counted(3, 3, first), counted(2, 2, second))
    assert (found.low, found.high, found.finished) == (4, 4, True)
    assert found.patterns.ravel().tolist() == [1, 2, 3, 4]


def test_a_union_of_intervals_has_the_most_and_the_sum(told):
    found = told(counted(3, 3, np.array([[1], [2], [3]], dtype=np.uint8)), counted(2, 7))
    assert (found.low, found.high, found.finished) == (3, 10, False)


def test_parts_that_were_not_counted_may_have_anything(told):
    found = told(counted(1, 2, reason="interrupted", interrupted=True))
    assert found.low == 1 and found.high >= 8 and not found.finished and found.reason == "interrupted"


@pytest.mark.parametrize("seed", range(4))
def test_a_union_of_boxes_has_the_patterns_of_both(seed):
    graph = random_graph(seed, "mlp", inputs=2, width=5, depth=2)
    left, right = (Polytope(np.array([a, -1.0]), np.array([b, 1.0])) for a, b in ((-1.0, 0.25), (-0.25, 1.0)))
    whole = count(graph, Polytope(-np.ones(2), np.ones(2)))
    found = count_union(graph, [left, right])
    parts = [count(graph, box) for box in (left, right)]
    assert found.low == found.high == whole.low == len(whole.patterns)
    assert max(p.low for p in parts) <= found.low <= sum(p.low for p in parts)
    assert {bytes(p) for p in found.patterns} == {bytes(p) for p in whole.patterns}


@pytest.mark.parametrize("seed", range(3))
def test_layers_count_the_patterns_of_the_first_layers(seed):
    graph = random_graph(seed, "mlp", inputs=2, width=5, depth=3)
    box = Polytope(-np.ones(2), np.ones(2))
    for rational in (False, True):
        found = count(graph, box, rational=rational)
        on = np.unpackbits(found.patterns, axis=1, count=graph.neurons, bitorder="little")
        ends = np.cumsum([graph.nodes[i].size for i in graph.layer_at])
        assert found.layers == tuple(len(np.unique(on[:, :end], axis=0)) for end in ends)
        assert len(np.unique(found.patterns, axis=0)) == found.low == found.layers[-1]
