"""Bounds carried forward, linear and interval: the conformance tests, and how they compare with substituting back."""

from __future__ import annotations

import pytest
import torch
from conformance import Conformance, points, problem
from networks import KINDS

from partita.relaxations.base import Rebounding
from partita.relaxations.forward import Forward, forward_bounds
from partita.relaxations.ibp import Ibp
from partita.relaxations.types import Pieces


class TestForward(Conformance):
    def build(self, linear, graph):
        return Forward(linear)


class TestForwardDeepPolyOne(Conformance):
    kinds = ("residual", "maxpool")

    def build(self, linear, graph):
        return Forward(type(linear)(linear.rounding, linear.scales, "deeppoly-1"), half_spaces=2)


class TestIbp(Conformance):
    settles = False

    def build(self, linear, graph):
        return Ibp(linear)


def unknown(pieces: Pieces) -> Pieces:
    """The pieces with nothing known of their pre-activations."""
    infinite = torch.full_like(pieces.pre_lower, torch.inf)
    return pieces.with_pre(-infinite, infinite)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_forward_bounds_hold_from_nothing_and_beat_intervals(kind, dtype):
    tighter = total = 0
    for seed in range(3):
        p = problem(kind, seed, dtype, halfspaces=seed % 2, radius=0.3)
        pieces = unknown(p.pieces)
        found, empty, scales = forward_bounds(p.linear, pieces)
        intervals = Ibp(p.linear).bound(pieces, p.rows)[0]
        assert not empty.any() and len(scales.size) == len(p.graph.nodes)
        for b in range(len(pieces)):
            pre = points(p, b)[2]
            assert (found.pre_lower[b].double() <= pre + 1e-12).all()
            assert (pre <= found.pre_upper[b].double() + 1e-12).all()
        tighter += int((found.pre_upper - found.pre_lower < intervals.pre_upper - intervals.pre_lower).sum())
        total += found.pre_lower.numel()
    assert tighter > 0.3 * total


def test_the_first_two_layers_are_as_tight_as_backward():
    """One unstable layer: nothing that could cancel has been pulled apart yet, so both modes give the same numbers."""
    p = problem("mlp", 1, torch.float64)
    pieces = unknown(p.pieces)
    found, back = forward_bounds(p.linear, pieces)[0], Rebounding(p.linear, clipping=False).bound(pieces, p.rows)[1]
    first = p.graph.nodes[p.graph.activations[0]].size
    torch.testing.assert_close(found.pre_lower[:, :first], back.pre_lower[:, :first], atol=1e-12, rtol=0)
    torch.testing.assert_close(found.pre_lower[:, first:], back.pre_lower[:, first:], atol=1e-10, rtol=0)


def test_large_cancelling_weights_are_paid_for():
    """float32 loses the whole value of 1e4 (2048 + x) - 1e4 (2048 + x); the bounds must say so."""
    from test_relaxations import cancelling

    from partita.relaxations.root import root
    from partita.relaxations.types import Rows

    lower, upper = torch.full((1,), -1.0, dtype=torch.float64), torch.full((1,), 1.0, dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        graph = cancelling(-0.25)
        linear, pieces = root(graph, graph.to(dtype), lower, upper)[:2]
        rows = Rows(torch.ones(1, 1, 1, dtype=dtype), torch.zeros(1, 1, dtype=dtype))
        for relaxation in (Forward(linear), Ibp(linear)):
            assert relaxation.bound(unknown(pieces), rows)[0].lower.item() <= -0.25 + 1e-6
