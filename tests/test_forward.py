"""Bounds carried forward, linear and interval: the conformance tests, and how they compare with substituting back."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from conformance import Conformance, points, problem
from networks import EVERY as KINDS

from partita.problems.network.activation import Lines, ReLU
from partita.problems.network.affine import Dense, Identity
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.relaxations.linear.carried import LinearBounds, activation_bounds, affine_bounds, ranges
from partita.relaxations.linear.forward import Forward, forward_bounds
from partita.relaxations.linear.ibp import Ibp
from partita.relaxations.linear.rebounding import Rebounding
from partita.relaxations.linear.root import root
from partita.relaxations.linear.rounding import Rounding
from partita.relaxations.types import Pieces


class TestForward(Conformance):
    def build(self, linear, graph):
        return Forward(linear)


class TestForwardDeepPolyOne(Conformance):
    kinds = ("residual", "maxpool")

    def build(self, linear, graph):
        return Forward(type(linear)(linear.rounding, linear.scales, "deeppoly-1"))


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
    first = p.graph.nodes[p.graph.layers[0].position].size
    torch.testing.assert_close(found.pre_lower[:, :first], back.pre_lower[:, :first], atol=1e-12, rtol=0)
    torch.testing.assert_close(found.pre_lower[:, first:], back.pre_lower[:, first:], atol=1e-10, rtol=0)


def test_large_cancelling_weights_are_paid_for():
    """float32 loses the whole value of 1e4 (2048 + x) - 1e4 (2048 + x); the bounds must say so."""
    from test_relaxations import cancelling

    from partita.relaxations.linear.root import root
    from partita.relaxations.types import Rows

    lower, upper = torch.full((1,), -1.0, dtype=torch.float64), torch.full((1,), 1.0, dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        graph = cancelling(-0.25)
        linear, pieces = root(graph.to(dtype), lower, upper)[:2]
        rows = Rows(torch.ones(1, 1, 1, dtype=dtype), torch.zeros(1, 1, dtype=dtype))
        for relaxation in (Forward(linear), Ibp(linear)):
            assert relaxation.bound(unknown(pieces), rows)[0].lower.item() <= -0.25 + 1e-6


DTYPES = (torch.float32, torch.float64)


def one_node(weights: list[torch.Tensor], bias: torch.Tensor) -> Graph:
    """A ReLU network whose first node is the sum of these matrices of the input, read one after another."""
    size = weights[0].shape[1]
    node = Affine((0,) * len(weights), tuple(Dense(w) for w in weights), bias)
    last = Affine((2,), (Identity(len(bias)),), torch.zeros_like(bias))
    return Graph((Input(size), node, Activation((1,), ReLU(), len(bias)), last), (1, size), (1, len(bias)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("which", ("middle", "radius", "bias", "stored"))
def test_an_affine_step_pays_for_each_of_its_terms(dtype, which):
    """What is given up is at least the error of an inner product as long as this one, of each part by itself."""
    draw = torch.Generator().manual_seed(0)
    n, count, d = 64, 2, 3
    weight = torch.rand(5, n, generator=draw, dtype=torch.float64).float().double() + 1
    bias = torch.zeros(5, dtype=torch.float64) + (1e6 if which == "bias" else 0.0)
    rounding = Rounding(one_node([weight], bias).to(dtype))
    x = torch.rand(count, d, generator=draw, dtype=dtype) + 1
    weights = torch.cat([x, torch.ones(count, 1, dtype=dtype)], 1)
    middle = torch.rand(count, d + 1, n, generator=draw, dtype=dtype) * (1e3 if which == "middle" else 1e-12)
    radius = torch.rand(count, d + 1, n, generator=draw, dtype=dtype) * (1e3 if which == "radius" else 1e-12)
    scales = rounding.start(torch.full((count, n), 1e-12, dtype=dtype))
    rounding.extend(scales, 1)
    scales.affine[1] = torch.full((count, 5), 7.0 if which == "stored" else 0.0, dtype=dtype)
    found = affine_bounds(rounding, scales, 1, [LinearBounds(middle - radius, middle + radius)], weights)
    low, high = middle - radius, middle + radius
    m, r = ((low + high) / 2).double(), ((high - low) / 2).double()
    unit = torch.finfo(dtype).eps / 2
    size = torch.einsum("jn,bdn,bd->bj", weight, m.abs() + r.abs(), weights.double()) + bias.abs()
    owed = n * unit * size + (7.0 if which == "stored" else 0.0)
    exact = (
        torch.einsum("jn,bn->bj", weight, (m - r)[:, -1]) + bias,
        torch.einsum("jn,bn->bj", weight, (m + r)[:, -1]) + bias,
    )
    room = 8 * unit * (exact[0].abs() + exact[1].abs())  # of the sums themselves
    assert (exact[0] - found.lower[:, -1].double() >= 0.7 * owed - room).all()
    assert (found.upper[:, -1].double() - exact[1] >= 0.7 * owed - room).all()


def test_an_affine_step_adds_up_what_it_reads():
    """Two operators: both middles and both radii, exactly where numbers are small and whole."""
    draw = torch.Generator().manual_seed(1)
    whole = lambda *shape: torch.randint(-4, 5, shape, generator=draw).double()  # noqa: E731
    weights, bias = [whole(3, 4), whole(3, 4)], whole(3)
    rounding = Rounding(one_node(weights, bias))
    scales = rounding.start(torch.ones(1, 4, dtype=torch.float64))
    rounding.extend(scales, 1)
    scales.affine[1] = torch.zeros(1, 3, dtype=torch.float64)
    sides = [(whole(1, 3, 4), whole(1, 3, 4).abs()) for _ in weights]
    found = affine_bounds(
        rounding, scales, 1, [LinearBounds(m - r, m + r) for m, r in sides], torch.ones(1, 3, dtype=torch.float64)
    )
    low, high = (
        sum(m @ w.mT + sign * r @ w.abs().mT for w, (m, r) in zip(weights, sides, strict=True)) for sign in (-1, 1)
    )
    low[:, -1], high[:, -1] = low[:, -1] + bias, high[:, -1] + bias
    torch.testing.assert_close(found.lower, low, atol=1e-10, rtol=0)
    torch.testing.assert_close(found.upper, high, atol=1e-10, rtol=0)
    assert (found.lower <= low).all() and (found.upper >= high).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("slope", (0.5, -0.5))
def test_an_activation_step_pays_and_keeps_its_sides(dtype, slope):
    """Lines that fall turn the sides around; what is given up covers slopes, coefficients and bias."""
    for large in ("form", "bias"):
        lower = torch.full((1, 3, 2), -2.0 if large == "form" else 0.0, dtype=dtype)
        upper = torch.full((1, 3, 2), 3.0 if large == "form" else 0.0, dtype=dtype)
        value = torch.full((1, 2), slope, dtype=dtype)
        bias = torch.full((1, 2), 1024.0 if large == "bias" else 0.0, dtype=dtype)
        weights = torch.tensor([[4.0, 8.0, 1.0]], dtype=dtype)
        found = activation_bounds(LinearBounds(lower, upper), Lines(value, bias, value, bias), weights)
        near, far = (lower, upper) if slope > 0 else (upper, lower)
        unit = torch.finfo(dtype).eps / 2
        for side, form, sign in ((found.lower, near, -1), (found.upper, far, 1)):
            assert torch.equal(side[:, :-1], slope * form[:, :-1])
            owed = 8 * unit * (13 * abs(slope) * form[0, 0, 0].abs().item() + bias[0, 0].item())
            given = sign * (side[:, -1].double() - (slope * form[:, -1] + bias).double())
            assert (given >= 0.5 * owed).all() and owed > 0 and (given < 100 * owed).all()


def test_ranges_are_rounded_outwards():
    """The least value of a form at the corner that it is taken at, in fractions."""
    draw = torch.Generator().manual_seed(0)
    for dtype in DTYPES:
        step = root_step(dtype)
        for _ in range(40):
            form, other = (torch.randn(1, 3, 5, generator=draw, dtype=dtype) for _ in range(2))
            ends = torch.randn(2, 1, 2, generator=draw, dtype=dtype).sort(0).values
            pieces = Pieces.boxes(*ends, 0)
            low, high = ranges(pieces, LinearBounds(form, other), step, 2)
            for j in range(5):
                for value, side, better in ((form, low, min), (other, high, max)):
                    terms = [Fraction(value[0, 2, j].item())]
                    for k in range(2):
                        a = Fraction(value[0, k, j].item())
                        terms.append(better(a * Fraction(ends[i, 0, k].item()) for i in (0, 1)))
                    assert (
                        Fraction(side[0, j].item()) <= sum(terms)
                        if better is min
                        else (Fraction(side[0, j].item()) >= sum(terms))
                    )
                    assert abs(side[0, j].item() - float(sum(terms))) < 1e-4


def root_step(dtype: torch.dtype) -> float:
    """The step of rounding that the root of a network of two inputs has."""
    graph = one_node([torch.eye(2, dtype=torch.float64)], torch.zeros(2, dtype=torch.float64))
    ends = torch.zeros(2, dtype=torch.float64)
    return root(graph.to(dtype), ends, ends + 1)[0].scales.step


def test_contradictions_and_constants_of_single_layers():
    """A neuron of the first layer that is known to be elsewhere empties its piece; one that is constant does not."""
    p = problem("mlp", 1, torch.float64)
    for neuron, sign in ((0, 1), (p.graph.neurons - 1, 1), (0, -1)):
        pieces = unknown(p.pieces)
        (pieces.pre_lower if sign > 0 else pieces.pre_upper)[1, neuron] = sign * 1e3
        assert forward_bounds(p.linear, pieces)[1].tolist() == [b == 1 for b in range(len(pieces))]
        for relaxation in (Forward(p.linear), Forward(p.linear, clipping=False)):
            assert bool(relaxation.bound(pieces, p.rows)[0].empty[1])
    weight = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    graph = one_node([weight], torch.zeros(2, dtype=torch.float64))
    ends = torch.zeros(2, dtype=torch.float64)
    linear, pieces = root(graph, ends - 1, ends + 1)[:2]
    pieces = pieces.with_pre(torch.tensor([[-2.0, 0.0]]).double(), torch.tensor([[2.0, 0.0]]).double())
    assert not forward_bounds(linear, pieces)[1].any()


def test_constants_of_forms_are_charged_on_the_way():
    """A form without coefficients: what is left of a large bias is rounding, in which the second layer cancels."""
    for dtype in DTYPES:
        first = Affine((0,), (Dense(torch.zeros(64, 1).double()),), torch.full((64,), 0.1, dtype=torch.float64))
        signs = torch.tensor([[1.0, -1.0] * 32], dtype=torch.float64)
        second = Affine((2,), (Dense(signs),), torch.zeros(1, dtype=torch.float64))
        nodes = (Input(1), first, Activation((1,), ReLU(), 64), second, Activation((3,), ReLU(), 1))
        last = Affine((4,), (Identity(1),), torch.zeros(1, dtype=torch.float64))
        graph = Graph((*nodes, last), (1, 1), (1, 1))
        ends = torch.zeros(1, dtype=torch.float64)
        linear, pieces = root(graph.to(dtype), ends - 1, ends + 1)[:2]
        found = forward_bounds(linear, unknown(pieces))[0]
        unit = torch.finfo(dtype).eps / 2
        assert found.pre_lower[0, -1] <= -64 * unit * 6.4 and found.pre_upper[0, -1] >= 64 * unit * 6.4


def test_sizes_on_the_way_are_those_of_the_pieces(monkeypatch):
    """What rounding is counted against: the largest inputs, 1 for constants, and no less than the pre-activations."""
    p = problem("mlp", 2, torch.float32)
    asked = []

    def spied(rounding, scales, position, sources, weights):
        asked.append(weights)
        return affine_bounds(rounding, scales, position, sources, weights)

    monkeypatch.setattr("partita.relaxations.linear.forward.affine_bounds", spied)
    found, _, scales = forward_bounds(p.linear, unknown(p.pieces))
    largest = torch.maximum(p.pieces.lower.abs(), p.pieces.upper.abs())
    assert asked
    for weights in asked:
        assert torch.equal(weights[:, :-1], largest) and (weights[:, -1] == 1).all()
    for position in p.graph.layer_at:
        where = p.graph.layer_at[position].span
        size = torch.maximum(found.pre_lower[:, where].abs(), found.pre_upper[:, where].abs())
        assert (scales.size[p.graph.nodes[position].inputs[0]] >= size).all()


def test_nodes_that_are_read_late_are_kept():
    """A skip over a layer into another one: the functions of the first are needed until then."""
    draw = torch.Generator().manual_seed(3)
    dense = lambda: Dense(torch.randn(3, 3, generator=draw, dtype=torch.float64))  # noqa: E731
    zero = torch.zeros(3, dtype=torch.float64)
    nodes = (
        *(Input(3), Affine((0,), (dense(),), zero), Activation((1,), ReLU(), 3), Affine((2,), (dense(),), zero)),
        *(Activation((3,), ReLU(), 3), Affine((4, 2), (dense(), dense()), zero), Activation((5,), ReLU(), 3)),
        Affine((6,), (dense(),), zero),
    )
    graph = Graph(nodes, (1, 3), (1, 3))
    linear, pieces = root(graph, zero - 1, zero + 1)[:2]
    found = forward_bounds(linear, unknown(pieces))[0]
    values = graph.values(torch.rand(500, 3, generator=draw, dtype=torch.float64) * 2 - 1)
    pre = torch.cat([values[i] for i in (1, 3, 5)], 1)
    assert (found.pre_lower <= pre + 1e-12).all() and (pre <= found.pre_upper + 1e-12).all()
