"""Every relaxation through the conformance tests, and the dominance that theory promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conformance import Conformance, as_polytope, points, problem, rows_of
from networks import KINDS, PIECEWISE, random_box, random_graph, sample

from partita.relaxations.effort import BoundEffort, LinearEffort
from partita.relaxations.ladder.exact import Exact, minimum
from partita.relaxations.linear.alpha import Alpha
from partita.relaxations.linear.interval import interval_bounds
from partita.relaxations.linear.rebounding import Rebounding
from partita.relaxations.linear.root import root
from partita.relaxations.lp import highs
from partita.relaxations.lp.boxes import node_boxes
from partita.relaxations.lp.encode import encode
from partita.relaxations.types import Rows


class TestCrown(Conformance):
    def build(self, linear, graph):
        return Rebounding(linear)


class TestDeepPolyZero(Conformance):
    kinds = ("leaky", "residual", "conv")

    def build(self, linear, graph):
        return Rebounding(replace(linear, rule="deeppoly-0"))


class TestDeepPolyOne(Conformance):
    kinds = ("mlp", "tanh")

    def build(self, linear, graph):
        return Rebounding(replace(linear, rule="deeppoly-1"))


# Dominance.


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_optimised_bounds_are_no_looser_than_where_they_start(kind, dtype):
    for seed in range(3):
        p = problem(kind, seed, dtype, halfspaces=1, decided=3)
        start = p.linear.formed(p.pieces, p.rows, refresh=False)[0].lower
        few, many = (Alpha(p.linear, steps=n).bound(p.pieces, p.rows)[0].lower for n in (3, 20))
        rounding = 1e-5 if dtype is torch.float32 else 1e-12
        assert (few >= start - rounding).all() and (many >= few - rounding).all()
        assert kind == "maxpool" or (many > start + 1e-3).any()


def lp_minimum(p, b: int, s: int) -> float:
    """The triangle relaxation's optimum (its lines are what every linear bound chooses from), on the same bounds."""
    boxes = node_boxes(p.graph, as_polytope(p.pieces, b))
    for i in p.graph.layer_at:
        before, where = (
            p.graph.nodes[i].inputs[0],
            p.graph.layer_at[i].span,
        )
        boxes[before] = (p.pieces.pre_lower[b, where].double(), p.pieces.pre_upper[b, where].double())
        unbounded = torch.full((p.graph.nodes[i].size,), 1e3, dtype=torch.float64)
        boxes[i] = (-unbounded, unbounded)
    boxes[-1] = tuple(torch.full((p.graph.output_size,), v, dtype=torch.float64) for v in (-1e3, 1e3))
    encoding = encode(p.graph, as_polytope(p.pieces, b), boxes=boxes)
    model = encoding.minimising(
        p.graph.output, p.rows.coefficients[b, s].double().numpy(), float(p.rows.constants[b, s])
    )
    if p.rows.on_input is not None:
        model.cost[: p.graph.input_size] += p.rows.on_input[b, s].double().numpy()
    solution = highs.solve(model)
    assert solution.bound_safe == pytest.approx(solution.value, abs=1e-6)
    return solution.value


@pytest.mark.parametrize("decided", (0, 3))
@pytest.mark.parametrize("kind", PIECEWISE)
def test_linear_bounds_are_below_the_triangle_program(kind, decided):
    """Salman et al. 2019: no choice of slopes and multipliers passes the optimum of the LP with the same intervals."""
    for seed in range(2):
        p = rows_of(problem(kind, seed, torch.float64, decided=decided), slice(0, 2))
        crown = p.linear.formed(p.pieces, p.rows, refresh=False)[0].lower
        alpha = Alpha(p.linear, steps=50).bound(p.pieces, p.rows)[0].lower
        for b in range(2):
            for s in range(2):
                lp = lp_minimum(p, b, s)
                assert crown[b, s] <= lp + 1e-7 and alpha[b, s] <= lp + 1e-7


@pytest.mark.parametrize("halfspaces", (0, 1))
def test_all_phases_decided_equals_the_exact_program(halfspaces):
    """Every unstable neuron decided, multipliers optimised at length: the bound reaches the cell's linear program."""
    gaps, slow = [], BoundEffort(LinearEffort(decay=0.995, decided_rate=0.2))
    for seed in range(4):
        p = rows_of(problem("mlp", seed, torch.float64, decided=16, halfspaces=halfspaces), slice(0, 2))
        truth = Exact(p.graph).bound(p.pieces, p.rows)[0].lower
        long = replace(p.linear, effort=slow)
        found = Alpha(long, steps=500, rate=0.05).bound(p.pieces, p.rows)[0].lower
        assert (found <= truth + 1e-9).all()
        open_ = (found <= 0).all(1)
        gaps += (truth - found)[open_].flatten().tolist()
    assert len(gaps) > 4 and np.median(gaps) < 2e-4 and max(gaps) < 0.02, gaps


# Intervals, and the root.


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_hold_and_agree_with_the_slow_ones(kind, dtype):
    p = problem(kind, 6, dtype, count=3)
    infinite = torch.full_like(p.pieces.pre_lower, torch.inf)
    bounds = interval_bounds(p.linear.rounding, p.pieces.lower, p.pieces.upper, -infinite, infinite)
    for b in range(3):
        slow = node_boxes(p.graph, as_polytope(p.pieces, b))
        values = p.graph.values(points(p, b)[0])
        for (low, high), (slow_low, slow_high), value in zip(bounds, slow, values, strict=True):
            assert (low[b].double() <= value + 1e-12).all() and (value <= high[b].double() + 1e-12).all()
            close = 1e-4 if dtype is torch.float32 else 1e-10
            torch.testing.assert_close(low[b].double(), slow_low, atol=close, rtol=close)
            torch.testing.assert_close(high[b].double(), slow_high, atol=close, rtol=close)


@pytest.mark.parametrize("kind", KINDS)
def test_a_point_far_out_lies_within_its_float32_intervals(kind):
    """Nothing but rounding is left of an interval that is a point; the rounding is stated for the values it meets,
    however small the sizes that were proved."""
    p = problem(kind, 6, torch.float32, count=3)
    infinite = torch.full_like(p.pieces.pre_lower, torch.inf)
    points = 1e4 * torch.randn(3, p.pieces.lower.shape[1], generator=torch.Generator().manual_seed(1))
    bounds = interval_bounds(p.linear.rounding, points, points, -infinite, infinite)
    for (low, high), value in zip(bounds, p.graph.values(points.double()), strict=True):
        assert (low.double() <= value).all() and (value <= high.double()).all()


@pytest.mark.parametrize("rule", ("crown", "deeppoly-0", "deeppoly-1"))
@pytest.mark.parametrize("kind", KINDS)
def test_root_bounds_hold(kind, rule):
    graph, box = random_graph(8, kind, inputs=9, width=12, depth=3), random_box(8, 9, 0.3)
    lower, upper = torch.as_tensor(box.lower), torch.as_tensor(box.upper)
    values = graph.values(torch.as_tensor(sample(box, 1000)))
    pre = torch.cat([values[graph.nodes[i].inputs[0]] for i in graph.layer_at], 1)
    for dtype in (torch.float32, torch.float64):
        pieces = root(graph.to(dtype), lower, upper, rule)[1]
        assert (pieces.pre_lower[0].double() <= pre).all() and (pre <= pieces.pre_upper[0].double()).all()


def cancelling(gap: float):
    """1e4 (2048 + x) - 1e4 (2048 + x) + gap: float32 loses the gap, which decides the verdict."""
    from partita.problems.network.activation import ReLU
    from partita.problems.network.affine import Dense
    from partita.problems.network.graph import Activation, Affine, Graph, Input

    up = Dense(torch.ones(2, 1, dtype=torch.float64))
    down = Dense(torch.tensor([[1e4, -1e4]], dtype=torch.float64))
    shift = torch.tensor([2048.0, 2048.0 + 1e-4], dtype=torch.float64)
    return Graph(
        (
            Input(1),
            Affine((0,), (up,), shift),
            Activation((1,), ReLU(), 2),
            Affine((2,), (down,), torch.tensor([1.0 + gap], dtype=torch.float64)),
        ),
        (1,),
        (1,),
    )


def test_float32_is_not_fooled_by_cancellation():
    """f = gap on the whole box (up to 1e-9); a float32 evaluation is off by whole units."""
    lower, upper = torch.full((1,), -1.0, dtype=torch.float64), torch.full((1,), 1.0, dtype=torch.float64)
    for gap, dtype in ((-0.25, torch.float32), (-0.25, torch.float64), (0.25, torch.float32), (0.25, torch.float64)):
        graph = cancelling(gap)
        linear, pieces = root(graph.to(dtype), lower, upper)[:2]
        rows = Rows(torch.ones(1, 1, 1, dtype=dtype), torch.zeros(1, 1, dtype=dtype))
        for relaxation in (Rebounding(linear), Alpha(linear, 10)):
            found = relaxation.bound(pieces, rows)[0].lower.item()
            assert found <= gap + 1e-6
            if dtype is torch.float64 and gap > 0:
                assert found > 0.24
    assert minimum(cancelling(0.25), random_box(0, 1), np.ones(1)).lower > 0.2


@pytest.mark.parametrize("kind", ("mlp", "conv", "residual", "tanh"))
def test_pieces_that_are_the_same_set_are_bounded_once(kind, monkeypatch):
    p = problem(kind, 2, torch.float64)
    same = p.pieces[torch.zeros(4, dtype=torch.int64)]
    assert same.alike() and not p.pieces.alike()
    sizes = []
    tighten = type(p.linear).tighten
    counting = lambda self, x, reach: sizes.append(len(x)) or tighten(self, x, reach)  # noqa: E731
    monkeypatch.setattr(type(p.linear), "tighten", counting)
    shared = Rebounding(p.linear).bound(same, p.rows).result
    assert sizes == [1]
    for b in range(4):
        alone = Rebounding(p.linear).bound(p.pieces[:1], p.rows[b : b + 1]).result
        for name in ("lower", "forms", "pre_lower", "pre_upper", "blame", "scores"):
            got, want = getattr(shared, name)[b], getattr(alone, name)[0]
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9, msg=name)
