"""Bounds and forms on numbers made so that one term decides: far-out points, cancellation, folded weights, slack."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from networks import random_graph, sample
from test_rounding_terms import exact, exact_values, graph_of, inner_exact, relaxation

from partita.kernels.rounding import gamma, unit_roundoff
from partita.problems.network.activation import LeakyReLU, ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.network.product import product_interval
from partita.problems.properties.property import Polytope
from partita.relaxations.leaf.forms import pattern_forms
from partita.relaxations.linear.alpha import better
from partita.relaxations.linear.clip import clip, none_left
from partita.relaxations.linear.decide import decision_half_spaces
from partita.relaxations.linear.ibp import interval_root
from partita.relaxations.linear.interval import affine_interval, interval_bounds
from partita.relaxations.linear.linear import Linear
from partita.relaxations.linear.neuron_rows import Facets, joined
from partita.relaxations.linear.rebounding import Rebounding
from partita.relaxations.linear.root import outward, outward_half_spaces, root
from partita.relaxations.linear.rounding import Rounding
from partita.relaxations.lp.boxes import affine_box, node_boxes
from partita.relaxations.types import Multipliers, Pieces, Result, Rows

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.float64)


def normal(seed: int):
    random = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)


# From float64 to the working precision.


def test_boxes_are_rounded_outwards():
    draw = normal(0)
    lower = draw(4000) * 10 ** (3 * draw(4000))
    upper = lower + draw(4000).abs() * 1e-9
    low, high = outward(lower, upper, torch.float32, CPU)
    assert (low.double() <= lower).all() and (upper <= high.double()).all()
    assert (torch.nextafter(low, high.new_tensor(torch.inf)).double() > lower).all()
    assert (torch.nextafter(high, high.new_tensor(-torch.inf)).double() < upper).all()


def test_half_spaces_keep_their_points_when_rounded():
    """Points on the half-space itself, at 1e4: the normal's rounding is worth more than the offset's."""
    random = np.random.default_rng(1)
    for _ in range(150):
        x = 1e4 * random.normal(size=(3, 4))
        normals, lower, upper = random.normal(size=(2, 4)), x.min(0), x.max(0)
        offsets = []
        for row in normals:
            most = max(sum(Fraction(a) * Fraction(v) for a, v in zip(row.tolist(), p, strict=True)) for p in x.tolist())
            near = float(most)
            offsets.append(near if Fraction(near) >= most else np.nextafter(near, np.inf))
        one = Polytope(lower, upper, normals, np.array(offsets))
        none = Polytope(lower, upper)
        boxes = outward(*(torch.from_numpy(np.stack([s, s])) for s in (lower, upper)), torch.float32, CPU)
        rows, sides = outward_half_spaces([one, none], *boxes)
        assert (sides[1] == torch.inf).all() and (rows[1] == 0).all()
        for p in x:
            for row, side in zip(rows[0], exact(sides[0]), strict=True):
                assert inner_exact(row, exact(p)) <= side


# Intervals.


def test_slow_intervals_of_far_out_points_hold_the_value():
    """`lp.boxes`, which programs and cells stand on."""
    draw = normal(2)
    for _ in range(250):
        weight, bias = draw(4, 3), draw(4)
        x = 10 ** (6 * torch.rand(1)).item() * draw(3)
        node = Affine((0,), (Dense(weight),), bias)
        low, high = affine_box(node, [(x, x)])
        for row, shift, below, above in zip(weight, exact(bias), exact(low), exact(high), strict=True):
            assert below <= inner_exact(row, exact(x)) + shift <= above
    for _ in range(250):  # neighbouring numbers: the middle is one of them
        weight, x = draw(1, 2), 1e3 * draw(2)
        y = torch.nextafter(x, x.new_tensor(torch.inf))
        bias = -(weight @ x)
        low, high = affine_box(Affine((0,), (Dense(weight),), bias), [(x, y)])
        ends = list(zip(exact(weight), exact(x), exact(y), strict=True))
        assert exact(low)[0] <= sum(min(w * s, w * t) for w, s, t in ends) + exact(bias)[0]
        assert exact(high)[0] >= sum(max(w * s, w * t) for w, s, t in ends) + exact(bias)[0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_folded_weights_may_be_off_by_what_their_scale_says(dtype):
    """A weight that cancelled to zero: the exact one is within terms * u * scale, which intervals must hold."""
    scale = torch.full((1, 1), 2.0**10, dtype=torch.float64)
    operator = Dense(torch.zeros(1, 1, dtype=torch.float64), 1, scale)
    graph = Graph((Input(1), Affine((0,), (operator,), torch.zeros(1).double())), (1,), (1,))
    unit = Fraction(2) ** -53
    x = torch.full((1, 1), 2.0**20, dtype=torch.float64)
    far = Fraction(2) ** 20 * unit * 2**10 * operator.terms
    low, high = affine_interval(Rounding(graph.to(dtype)), 1, [(x.to(dtype), x.to(dtype))])
    assert exact(low)[0] <= -far and far <= exact(high)[0]
    low, high = affine_box(graph.nodes[1], [(x[0], x[0])])
    assert exact(low)[0] <= -far and far <= exact(high)[0]
    rounding = Rounding(graph.to(dtype))
    linear = Linear(rounding, rounding.local(x[0].to(dtype), {}))
    pieces = Pieces.boxes(x.to(dtype), x.to(dtype), 0)
    for sign in (1.0, -1.0):
        rows = Rows(torch.full((1, 1, 1), sign, dtype=dtype), torch.zeros(1, 1, dtype=dtype))
        assert exact(linear.bound(pieces, rows)[0].lower)[0] <= -far


def test_known_pre_activations_are_cut_in():
    draw = normal(3)
    graph = graph_of((draw(4, 2), draw(4), True), (draw(1, 4), draw(1), False))
    rounding, ends = Rounding(graph), (-torch.ones(1, 2).double(), torch.ones(1, 2).double())
    far = torch.full((1, 4), torch.inf).double()
    free = interval_bounds(rounding, *ends, -far, far)
    assert all(torch.isfinite(side).all() for pair in free for side in pair)
    values = graph.values(torch.rand(500, 2).double() * 2 - 1)
    for (low, high), value in zip(free, values, strict=True):
        assert (low <= value).all() and (value <= high).all()
    middle = (free[1][0] + free[1][1]) / 2
    half = interval_bounds(rounding, *ends, -far, middle)
    assert torch.equal(half[1][1], middle)
    assert torch.equal(half[1][0], free[1][0])
    assert (half[2][1] <= free[2][1]).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_interval_rows_at_far_out_points(dtype):
    """The rows of IBP, rows on inputs among them, are below the value; large coefficients that nearly cancel."""
    draw = normal(4)
    for k in range(60):
        graph = graph_of((draw(3, 2), draw(3), True), (draw(2, 3), 1e3 * draw(2), False))
        x = 10.0 ** (k % 6) * draw(2).to(dtype).double()
        relaxation_, piece = interval_root(graph.to(dtype), x, x)
        working = graph.to(dtype)
        near = working(x.to(dtype)).double()
        coefficients = (100 * draw(1, 2, 2)).to(dtype)
        constants = -(coefficients[0].double() @ near)[None].to(dtype)
        for on_input in (None, (100 * draw(1, 2, 2)).to(dtype)):
            rows = Rows(coefficients, constants, on_input)
            found = relaxation_.bound(piece, rows)[0].lower[0]
            value = exact_values(graph, x)
            for r in range(2):
                true = inner_exact(coefficients[0, r], value[-1]) + exact(constants[0, r])[0]
                true += 0 if on_input is None else inner_exact(on_input[0, r], value[0])
                assert exact(found[r])[0] <= true


def test_interval_rows_with_large_constants():
    """A constant of 1e8 beside outputs of 3.9 in float32."""
    graph = graph_of((torch.eye(1), torch.tensor([-3.9]), False)).to(torch.float32)
    zero = torch.zeros(1).double()
    made, piece = interval_root(graph, zero, zero)
    bias = exact(graph.nodes[1].bias)[0]
    for constant in (1e8, -1e8, 3e8, 123456792.0):
        for sign in (1.0, -1.0):
            rows = Rows(torch.full((1, 1, 1), sign), torch.full((1, 1), constant))
            assert exact(made.bound(piece, rows)[0].lower)[0] <= exact(rows.constants)[0] + int(sign) * bias


def test_products_take_all_four_corners():
    for a, b, c, d in ((-2, 1, -3, 2), (-2, 1, 1, 2), (1, 2, -3, -1), (-2, -1, -3, 2), (0, 1, -1, 0)):
        ends = [torch.tensor([float(v)], dtype=torch.float64) for v in (a, b, c, d)]
        low, high = product_interval((ends[0], ends[1]), (ends[2], ends[3]))
        corners = [p * q for p in (a, b) for q in (c, d)]
        assert low.item() <= min(corners) <= low.item() + 1e-9 and high.item() - 1e-9 <= max(corners) <= high.item()


def test_bounds_of_neurons_whose_weights_float32_cannot_store():
    """Second-layer pre-activations that nearly vanish at a far-out point: the first step is a gather of weights."""
    draw = normal(11)
    met = 0
    for k in range(60):
        first, second = draw(4, 2), draw(3, 4)
        x = (10.0 ** (k % 4) * draw(2)).float()
        near = (first @ x.double() + 5).clamp(min=0)
        graph = graph_of(
            (first, torch.full((4,), 5.0), True), (second, -(second @ near), True), (draw(1, 3), draw(1), False)
        )
        rounding = Rounding(graph.to(torch.float32))
        linear = Linear(rounding, rounding.local(x.abs(), {}))
        found = linear.tighten(Pieces.boxes(x[None], x[None], graph.neurons))[0]
        z = exact_values(graph, x)[3]
        for j, true in enumerate(z):
            low, high = exact(found.pre_lower[0, 4 + j])[0], exact(found.pre_upper[0, 4 + j])[0]
            assert low <= true <= high
            met += low < 0 < high
    assert met > 50


def test_a_constant_neuron_leaves_interval_pieces_as_they_are():
    """Its interval is one number, or next to it; no piece is empty for that."""
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double()
    graph = graph_of((weight, torch.tensor([0.0, 0.0]), True), (torch.ones(1, 2), torch.zeros(1), False))
    made, piece = interval_root(graph, -torch.ones(2).double(), torch.ones(2).double())
    result = made.bound(piece, Rows(torch.ones(1, 1, 1).double(), torch.zeros(1, 1).double())).result
    assert not result.empty.any()


# The backward pass.


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sums_at_a_node_with_two_readers_are_charged(dtype):
    """y = (A - A (1 + e)) h: the two coefficients at h cancel, and what each of them lost does not."""
    draw = normal(5)
    eps = torch.finfo(dtype).eps
    for _ in range(60):
        first, bias = draw(3, 2).to(dtype).double(), draw(3).to(dtype).double()
        one = draw(2, 3).to(dtype).double()
        two = (-one * (1 + 4 * eps)).to(dtype).double()
        nodes = (
            Input(2),
            Affine((0,), (Dense(first),), bias),
            Affine((1, 1), (Dense(one), Dense(two)), torch.zeros(2).double()),
        )
        graph = Graph(nodes, (2,), (2,))
        x = (1e3 * draw(2)).to(dtype)
        linear, piece = relaxation(graph, x, x)
        rows = Rows((100 * draw(1, 2, 2)).to(dtype), torch.zeros(1, 2, dtype=dtype))
        found = linear.bound(piece, rows)[0].lower[0]
        value = exact_values(graph, x)[-1]
        for r in range(2):
            assert exact(found[r])[0] <= inner_exact(rows.coefficients[0, r], value)


def test_sizes_of_a_root_are_at_least_the_values():
    for kind in ("mlp", "residual", "conv"):
        graph = random_graph(3, kind, inputs=4, width=8, depth=3)
        lower, upper = -torch.ones(4).double(), torch.linspace(0, 1, 4).double()
        linear, piece = root(graph, lower, upper)
        x = torch.from_numpy(sample(Polytope(lower.numpy(), upper.numpy()), 4000))
        values = graph.values(x)
        for size, value in zip(linear.scales.size, values, strict=True):
            assert (size.reshape(-1) >= value.abs().amax(0) * (1 - 1e-9)).all()
        pre = torch.cat([values[graph.nodes[i].inputs[0]] for i in graph.layer_at], 1)
        assert (piece.pre_lower <= pre).all() and (pre <= piece.pre_upper).all()
        assert torch.isfinite(piece.pre_upper).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_decision_keeps_the_points_that_take_it(dtype):
    """A piece of one far-out point, and the neuron decided next to its value there: the half-space holds the point."""
    draw = normal(6)
    for k in range(80):
        first, bias = draw(3, 2).to(dtype).double(), (10.0 ** (k % 6) * draw(3)).to(dtype).double()
        graph = graph_of((first, bias, True), (draw(2, 3), draw(2), True), (draw(1, 2), draw(1), False))
        x = (10.0 ** (k % 5) * draw(2)).to(dtype)
        linear, piece = relaxation(graph, x, x)
        piece = linear.tighten(piece)[0]
        value = exact_values(graph.to(dtype), x)
        for neuron in range(5):
            z = value[1][neuron] if neuron < 3 else value[3][neuron - 3]
            near = torch.tensor([float(z)], dtype=dtype)
            for side in (0, 1):
                point = near
                way = torch.tensor(torch.inf if side == 0 else -torch.inf, dtype=dtype)
                while (exact(point)[0] < z) if side == 0 else (exact(point)[0] > z):
                    point = torch.nextafter(point, way)
                normals, offsets = decision_half_spaces(linear, piece, torch.tensor([neuron]), point)
                assert inner_exact(normals[side], exact(x)) <= exact(offsets[side])[0]


def test_offsets_of_decisions_far_from_the_neuron_are_rounded_outwards():
    """z = x + b, cut at numbers a thousand times the size of both: what the subtraction rounds is charged."""
    one = torch.ones(1, 1).double()
    random = torch.Generator().manual_seed(0)
    for _ in range(40):
        bias, at = (torch.rand(1, generator=random) * scale for scale in (1.0, 1e4))
        graph = graph_of((one, bias.double(), True), (one, torch.zeros(1).double(), False))
        linear, piece = relaxation(graph, torch.full((1,), -0.01), torch.full((1,), 0.01))
        piece = linear.tighten(piece)[0]
        normals, offsets = decision_half_spaces(linear, piece, torch.tensor([0]), at)
        assert normals.flatten().tolist() == [1, -1]
        cut = exact(at)[0] - exact(bias)[0]  # x <= cut, and -x <= -cut
        assert exact(offsets[0])[0] >= cut and exact(offsets[1])[0] >= -cut


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_known_of_a_layer_is_never_lost(dtype):
    """Bounds that were there before, of intervals or of an earlier pass, are no tighter than those after."""
    graph = random_graph(3, "mlp", inputs=5, width=12, depth=3)
    lower, upper = -torch.ones(5).double(), torch.ones(5).double()
    working = graph.to(dtype)
    linear, whole = root(working, lower, upper)
    (_, plain) = interval_root(working, lower, upper)
    assert (whole.pre_lower >= plain.pre_lower).all() and (whole.pre_upper <= plain.pre_upper).all()
    assert (whole.pre_upper < plain.pre_upper).any() and (whole.pre_lower > plain.pre_lower).any()
    # Half the width about the middle, as decisions may leave it; not all of it is a consequence of the box.
    middle, reach = (whole.pre_lower + whole.pre_upper) / 2, (whole.pre_upper - whole.pre_lower) / 4
    for known in (whole, whole.with_pre(middle - reach, middle + reach)):
        after, empty, _ = linear.tighten(known)
        assert not empty.any()
        assert (after.pre_lower >= known.pre_lower).all() and (after.pre_upper <= known.pre_upper).all()


def test_the_better_of_two_results_is_one_of_them_row_by_row():
    """Where neither wins everything: bounds, forms, constants, slack and multipliers come from the same one."""
    draw = normal(1)
    made = [
        Result(
            lower=torch.tensor([[a, b, 0.5]]).double(),
            forms=draw(1, 3, 2),
            constants=draw(1, 3),
            slack=draw(1, 3).abs(),
            pre_lower=draw(1, 4),
            pre_upper=draw(1, 4),
            empty=torch.zeros(1, dtype=torch.bool),
            multipliers=Multipliers(draw(1, 3, 2, 4), draw(1, 3, 1), draw(1, 3, 2)),
        )
        for a, b in ((1.0, -2.0), (0.0, 3.0))
    ]
    old, new = made
    both = better(old, new)
    parts = lambda r: (r.lower, r.forms, r.constants, r.slack, *vars(r.multipliers).values())  # noqa: E731
    for found, a, b in zip(parts(both), parts(old), parts(new), strict=True):
        assert torch.equal(found[0, 0], a[0, 0]) and torch.equal(found[0, 1], b[0, 1])


def test_the_first_step_backwards_charges_what_its_layer_is_in_doubt_by():
    """A second layer whose biases are in doubt: its rows are a gather, without any arithmetic of their own."""
    draw = normal(2)
    first, second, last = draw(4, 3), draw(5, 4), draw(2, 5)
    doubt = torch.tensor([0.25, 0.0, 0.5, 0.125, 0.0]).double()

    def made(by: torch.Tensor) -> Graph:
        graph = graph_of((first, draw(4) * 0, True), (second, draw(5) * 0, True), (last, draw(2) * 0, False))
        nodes = list(graph.nodes)
        nodes[3] = replace(nodes[3], doubt=by)
        return replace(graph, nodes=tuple(nodes))

    bounds = []
    for by in (torch.zeros(5).double(), doubt):
        linear, piece = relaxation(made(by), -torch.ones(3).double(), torch.ones(3).double())
        piece = piece.with_pre(torch.full_like(piece.pre_lower, -50.0), torch.full_like(piece.pre_upper, 50.0))
        lines, scales = linear.all_lines(piece), linear.scales
        index = torch.arange(5)[None]
        bounds.append(linear._rows(piece.space(slice(None)), scales.of(torch.zeros(1).long()), lines, 3, index)[:2])
    (low, high), (lower, upper) = bounds
    assert (lower <= low - doubt).all() and (upper >= high + doubt).all()
    assert (lower >= low - 1.05 * doubt - 1e-9).all() and (upper <= high + 1.05 * doubt + 1e-9).all()


# Clipping.


def result_of(forms: torch.Tensor, constants: torch.Tensor) -> Result:
    """A result of which clipping reads the forms alone."""
    count = len(forms)
    none = forms.new_zeros(count, 0)
    zero = torch.zeros_like(constants)
    return Result(zero, forms, constants, zero, none, none, torch.zeros(count, dtype=torch.bool))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", (1, 2, 4))
def test_clipping_keeps_every_point_that_may_be_a_counterexample(rows, dtype):
    """Rows that are zero at a far-out point of the piece, to within one number: it stays, no piece is empty."""
    draw = normal(7 + rows)
    for k in range(60):
        far = 10.0 ** (k % 6)
        p = (far * draw(3)).to(dtype)
        lower, upper = p - (draw(3).abs() * far).to(dtype), p + (draw(3).abs() * far).to(dtype)
        forms = draw(1, rows, 3).to(dtype)
        if k % 3 == 0:  # the plane goes through the origin, nearly: large terms cancel, what is left cuts a small side
            p[2] = p[2] / far
            lower, upper = p.clone(), p.clone()
            lower[2], upper[2] = p[2] - 1, p[2] + 1
            forms[0, 0, 1] = -float(inner_exact(forms[0, 0, ::2], exact(p[::2]))) / p[1]
        if k % 2 and rows > 1:
            forms[0, 1] = -forms[0, 0] * 3  # only the plane itself is left
        constants = []
        for row in forms[0]:
            near = torch.tensor(-float(inner_exact(row, exact(p))), dtype=dtype)
            while exact(near)[0] + inner_exact(row, exact(p)) > 0:
                near = torch.nextafter(near, near.new_tensor(-torch.inf))
            constants.append(near)
        result = result_of(forms, torch.stack(constants)[None])
        pieces = Pieces.boxes(lower[None], upper[None], 0)
        clipped, empty = clip(pieces, result)
        assert not empty.any()
        assert (clipped.lower[0] <= p).all() and (p <= clipped.upper[0]).all()


def test_rows_that_are_never_negative_together_leave_nothing():
    """x + y <= 0 and x >= 1/2 and y >= 1/2 on a box that holds points of each."""
    forms = torch.tensor([[[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]]).double()
    box = -torch.ones(1, 2).double(), torch.ones(1, 2).double()
    pieces = Pieces.boxes(*box, 0)
    for shift, left in ((0.5, False), (0.0, True), (-0.5, True)):
        result = result_of(forms, torch.tensor([[0.0, shift, shift]]).double())
        assert none_left(pieces, result, *box).item() is not left
    one = result_of(forms[:, :1], torch.tensor([[5.0]]).double())
    assert not none_left(pieces, one, *box).any()  # a single row is the bound's own business


# Forms on cells.


def composed(graph: Graph, pattern: torch.Tensor) -> list[list[tuple[list[Fraction], Fraction]]]:
    """The pre-activations on a cell, layer after layer, in rational arithmetic."""
    d = graph.input_size
    unit = [([Fraction(int(i == j)) for j in range(d)], Fraction(0)) for i in range(d)]
    values, found, start = [unit], [], 0
    for node in graph.nodes[1:]:
        if isinstance(node, Affine):
            rows = [[Fraction(0)] * (d + 1) for _ in range(node.size)]
            for operator, j in zip(node.operators, node.inputs, strict=True):
                weights = operator.rows(torch.arange(operator.n_out), torch.float64).tolist()
                for row, weight in zip(rows, weights, strict=True):
                    for w, (a, c) in zip(weight, values[j], strict=True):
                        if w:
                            for k in range(d):
                                row[k] += Fraction(w) * a[k]
                            row[d] += Fraction(w) * c
            values.append([(r[:d], r[d] + Fraction(b)) for r, b in zip(rows, node.bias.tolist(), strict=True)])
        else:
            own = values[node.inputs[0]]
            found.append(own)
            slopes = [Fraction(1) if on else Fraction(node.function.slope) for on in pattern[start : start + len(own)]]
            values.append([([s * v for v in a], s * c) for s, (a, c) in zip(slopes, own, strict=True)])
            start += len(own)
    return found


@pytest.mark.parametrize("slope", (0.0, 0.25, 0.1))
def test_forms_are_right_up_to_their_errors(slope):
    """Weights of all sizes whose products cancel, deep, at large and at uneven inputs."""
    draw = normal(8)
    function = ReLU() if slope == 0 else LeakyReLU(slope)
    off = 0
    for k in range(8):
        nodes: list = [Input(2)]
        for layer in range(3):
            size = 2 if layer == 0 else 4
            half = 10.0 ** (k % 5) * draw(2, size)
            weight = torch.cat([half, half * (1 + 1e-9 * draw(2, 1))])
            if layer:
                weight[:, 1::2] = -weight[:, ::2] * (1 + 1e-12)
            nodes.append(Affine((len(nodes) - 1,), (Dense(weight),), 10.0 ** (k % 7) * draw(4)))
            nodes.append(Activation((len(nodes) - 1,), function, 4))
        graph = Graph(tuple(nodes), (2,), (4,))
        pattern = torch.rand(1, 12, generator=torch.Generator().manual_seed(k)) < 0.7
        reach = torch.tensor([[10.0 ** (k % 3), 1e-3]]).double()
        forms = pattern_forms(graph, pattern, reach)
        true = [one for layer in composed(graph, pattern[0].tolist()) for one in layer]
        x = reach * torch.tensor([[1.0, -1.0]]).double()
        plain = (forms.row @ x[..., None])[..., 0] + forms.constant
        for n, (row, constant) in enumerate(true):
            apart = [abs(a - b) for a, b in zip(exact(forms.row[0, n]), row, strict=True)]
            shift = abs(exact(forms.constant[0, n])[0] - constant)
            doubt = exact(forms.doubt[0, n])[0]
            assert sum(a * r for a, r in zip(apart, exact(reach), strict=True)) + shift <= doubt
            assert sum(apart) <= exact(forms.slope_error[0, n])[0]
            value = sum(a * v for a, v in zip(row, exact(x), strict=True)) + constant
            assert abs(exact(plain[0, n])[0] - value) <= exact(forms.error[0, n])[0]
            off += shift > 0
    assert off > 20


# Rows of several neurons, and results.


@pytest.mark.parametrize("doubtful", (False, True))
@pytest.mark.parametrize("slope", (0.0, 0.25))
def test_errors_of_forms_are_the_sums_of_their_terms(slope, doubtful):
    """Beside the formulas of `forms`, one neuron and one layer after the other, on uneven inputs and folded weights."""
    draw, u = normal(9), unit_roundoff(torch.float64)
    reach = torch.tensor([[5.0, 0.125], [1.0, 30.0]]).double()
    nodes: list = [Input(2)]
    for before, size in ((2, 4), (4, 3), (3, 3)):
        weight, doubt = draw(size, before), draw(size).abs() if doubtful and size == 3 else None
        nodes.append(Affine((len(nodes) - 1,), (Dense(weight),), 3 * draw(size), doubt=doubt))
        nodes.append(Activation((len(nodes) - 1,), LeakyReLU(slope) if slope else ReLU(), size))
    graph = Graph(tuple(nodes), (2,), (3,))
    pattern = torch.rand(2, 10, generator=torch.Generator().manual_seed(0)) < 0.6
    forms = pattern_forms(graph, pattern, reach)
    for c, ends in enumerate(reach.tolist()):

        def size_of(row, ends=ends):
            return sum(abs(a) * r for a, r in zip(row, (*ends, 1.0), strict=True))

        value, error = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0.0, 0.0]
        start, wanted = 0, []
        for i in range(1, len(nodes), 2):
            matrix, bias = nodes[i].operators[0].weight.tolist(), nodes[i].bias.tolist()
            own = nodes[i].doubt.tolist() if nodes[i].doubt is not None else [0.0] * len(bias)
            unit = gamma(2 + 2 * nodes[i].operators[0].terms + 1, torch.float64)
            sizes_of = [size_of(row) for row in value]
            errors = [
                0.0
                if i == 1
                else 2
                * (
                    sum(abs(w) * (e + unit * s) for w, e, s in zip(row, error, sizes_of, strict=True))
                    + unit * abs(b)
                    + d
                )
                for row, b, d in zip(matrix, bias, own, strict=True)
            ]
            value = [
                [sum(w * v[k] for w, v in zip(row, value, strict=True)) + (b if k == 2 else 0.0) for k in range(3)]
                for row, b in zip(matrix, bias, strict=True)
            ]
            wanted += errors
            for n, (e, v) in enumerate(zip(errors, value, strict=True)):
                error_of = 2 * (e + gamma(5, torch.float64) * size_of(v))
                assert forms.error[c, start + n].item() == pytest.approx(error_of, rel=1e-9, abs=0)
            slopes = [1.0 if on else slope for on in pattern[c, start : start + len(bias)]]
            value = [[s * a for a in v] for s, v in zip(slopes, value, strict=True)]
            error = [s * e for s, e in zip(slopes, errors, strict=True)]
            if slope:
                error = [2 * (e + 2 * u * size_of(v)) for e, v in zip(error, value, strict=True)]
            start += len(bias)
        assert forms.doubt[c].tolist() == pytest.approx(wanted, rel=1e-9, abs=0)
        assert forms.slope_error[c].tolist() == pytest.approx([2 * e / min(ends) for e in wanted], rel=1e-9, abs=0)


def test_sets_of_rows_are_put_together_row_by_row():
    draw = normal(9)
    index = torch.tensor([[0, 1], [2, 3], [1, 4]])
    wide = Facets(3, index, draw(3, 2), draw(3, 2), draw(3))
    single = Facets(3, index[:2, :1], draw(2, 1), draw(2, 1), draw(2), draw(2, 2), torch.tensor([[0, 1], [1, 2]]))
    full = Facets(3, index, draw(3, 2), draw(3, 2), draw(3), draw(3, 4))
    pre, post, source = draw(7, 5), draw(7, 5), draw(7, 4)
    for parts in ([wide, single], [single, wide], [wide, full], [full, wide, full]):
        whole = joined(parts)
        found = whole.violation(pre, post, source)
        apart = torch.cat([p.violation(pre, post, source) for p in parts], 1)
        torch.testing.assert_close(found, apart, rtol=1e-12, atol=1e-12)
        pick = torch.tensor([len(whole) - 1, 0])
        torch.testing.assert_close(whole[pick].violation(pre, post, source), apart[:, pick], rtol=1e-12, atol=1e-12)


def test_optimised_rows_stay_with_their_pieces():
    """Some pieces of a batch are closed before slopes are optimised: the others' bounds and forms are their own."""
    graph = random_graph(2, "mlp", inputs=3, width=10, depth=2)
    lower, upper = -torch.ones(3).double(), torch.ones(3).double()
    linear, _ = root(graph, lower, upper)
    cuts = torch.linspace(-1, 1, 5).double()
    low, high = lower.repeat(4, 1), upper.repeat(4, 1)
    low[:, 0], high[:, 0] = cuts[:-1], cuts[1:]
    pieces = Pieces.boxes(low, high, graph.neurons)
    rows = Rows(torch.eye(2)[None].double().repeat(4, 1, 1), torch.zeros(4, 2).double())
    plain = linear.bound(pieces, rows)[0].lower
    shift = torch.tensor([-0.1, 50.0, -0.1, 50.0]).double()  # the second and the fourth are closed at once
    rows = replace(rows, constants=(shift - plain.amax(1))[:, None].expand(-1, 2).contiguous())
    relaxation_ = Rebounding(linear, steps=4, clipping=False, rate=0.3)
    result = relaxation_.bound(pieces, rows).result
    for b in range(4):
        x = torch.from_numpy(sample(Polytope(low[b].numpy(), high[b].numpy()), 500))
        y = graph(x) + rows.constants[b]
        assert (result.lower[b] <= y.amin(0)).all()
        below = x @ result.forms[b].mT + result.constants[b]
        assert (below <= y + 1e-9).all()
        alone = relaxation_.bound(pieces[b : b + 1], rows[b : b + 1])[0]
        torch.testing.assert_close(result.lower[b], alone.lower[0], rtol=1e-7, atol=1e-7)


def test_boxes_of_all_nodes_hold_their_values():
    graph = random_graph(4, "residual", inputs=3, width=6, depth=3)
    polytope = Polytope(-np.ones(3), 2 * np.ones(3))
    values = graph.values(torch.from_numpy(sample(polytope, 3000)))
    for (low, high), value in zip(node_boxes(graph, polytope), values, strict=True):
        assert (low <= value).all() and (value <= high).all()


def test_pieces_are_alike_only_where_everything_is():
    one = Pieces.boxes(torch.zeros(3, 2), torch.ones(3, 2), 4)
    assert one.alike()
    for name in ("lower", "upper", "pre_lower", "pre_upper"):
        value = getattr(one, name).clone()
        value[2, 1] = 0.5
        assert not replace(one, **{name: value}).alike()
