"""The pool of open pieces against a plain sorted list."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
import torch
from search import filled
from torch import Tensor

from partita.bab.trees.frontier import Frontier
from partita.bab.trees.records import Record


@dataclass(frozen=True, eq=False, kw_only=True)
class Tagged(Record):
    cuts: Tensor  # (B, width)
    rows: Tensor = field(metadata={"fill": -1})  # (B, 2, width)


def record(bounds: list[float], width: int = 1, first: int = 0) -> Tagged:
    """Pieces whose other fields tell which they are."""
    count = len(bounds)
    tag = torch.arange(first, first + count)
    cuts, rows = tag[:, None].repeat(1, width).float(), tag[:, None, None].repeat(1, 2, width)
    return filled(Tagged, torch.tensor(bounds), goal=tag % 3, depth=tag, cuts=cuts, rows=rows)


@pytest.mark.parametrize("best", [False, True])
def test_pops_like_a_sorted_list(best):
    """Random pushes and pops; every piece comes out once, with the fields it went in with."""
    draw = random.Random(0)
    frontier, plain, pushed = Frontier(), {}, 0
    for _ in range(200):
        if draw.random() < 0.55 or not plain:
            bounds = [draw.uniform(-5, 0) for _ in range(draw.choice([0, 1, 7, 100]))]
            new = record(bounds, first=pushed)
            plain |= {int(t): float(b) for t, b in zip(new.depth, new.bound, strict=True)}
            pushed += len(bounds)
            frontier.push(new)
        else:
            count = draw.choice([1, 5, 1000])
            got = frontier.pop(count, best=best)
            ordered = sorted(plain, key=plain.get, reverse=best)[:count]
            assert sorted(got.depth.tolist()) == sorted(ordered)
            for tag, bound, cut in zip(got.depth.tolist(), got.bound.tolist(), got.cuts, strict=True):
                assert plain.pop(tag) == bound and cut.item() == tag
        assert len(frontier) == len(plain)
        assert frontier.worst == min(plain.values(), default=torch.inf)
        assert frontier.deepest == max(plain, default=0)
        assert frontier.goals() == sorted({tag % 3 for tag in plain})
    assert pushed > 1000


def test_slots_are_used_again():
    frontier = Frontier()
    frontier.push(record([-1.0] * 200))
    before = frontier.bytes
    for _ in range(20):
        frontier.push(frontier.pop(150))
    assert frontier.bytes == before and len(frontier) == 200


def test_trailing_dimensions_grow_and_are_filled():
    frontier = Frontier()
    frontier.push(record([-3.0], width=1))
    frontier.push(record([-2.0], width=3, first=1))
    frontier.push(record([-1.0], width=2, first=2))
    got = frontier.pop(3)
    assert got.depth.tolist() == [0, 1, 2]
    assert got.cuts.tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 0]]
    assert got.rows[:, 0].tolist() == [[0, -1, -1], [1, 1, 1], [2, 2, -1]]


def test_an_empty_frontier():
    frontier = Frontier()
    frontier.push(record([]))
    assert len(frontier) == 0 and frontier.bytes == 0 and frontier.worst == torch.inf
    assert frontier.goals() == [] and frontier.deepest == 0
    frontier.push(record([-1.0]))
    frontier.pop(1)
    assert len(frontier) == 0 and frontier.worst == torch.inf and frontier.goals() == []


def test_an_index_takes_rows_of_every_field():
    got = record([-1.0, -2.0, -3.0])[torch.tensor([2, 0])]
    assert got.bound.tolist() == [-3.0, -1.0] and got.cuts[:, 0].tolist() == [2, 0]
