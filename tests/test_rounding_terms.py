"""Rounding terms one by one, on numbers made so that the term under test decides: cancellation, long sums, far-out
points, large constants. The truth is rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from partita.kernels.blocks import Blocks
from partita.kernels.polytope import box_minimum, polytope_minimum
from partita.kernels.rounding import gamma, unit_roundoff
from partita.kernels.separation import certified_offset, separate
from partita.kernels.weak_duality import Programs, safe_bounds
from partita.problems.network.activation import ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.relaxations.linear.backward import Form, backward
from partita.relaxations.linear.interval import affine_interval
from partita.relaxations.linear.linear import Linear
from partita.relaxations.linear.rounding import Rounding
from partita.relaxations.lp.model import LinearModel
from partita.relaxations.types import Pieces, Rows

DTYPES = (torch.float32, torch.float64)


def exact(values) -> list[Fraction]:
    return [Fraction(v) for v in np.asarray(values, dtype=float).ravel().tolist()]


def inner(a, b) -> Fraction:
    return sum((x * y for x, y in zip(exact(a), exact(b), strict=True)), Fraction(0))


def graph_of(*layers: tuple[torch.Tensor, torch.Tensor, bool]) -> Graph:
    """A network from (weight, bias, whether a ReLU follows)."""
    nodes: list = [Input(layers[0][0].shape[1])]
    for weight, bias, relu in layers:
        nodes.append(Affine((len(nodes) - 1,), (Dense(weight.double()),), bias.double()))
        if relu:
            nodes.append(Activation((len(nodes) - 1,), ReLU(), len(bias)))
    return Graph(tuple(nodes), (1, nodes[0].size), (1, nodes[-1].size))


def point(x: torch.Tensor, neurons: int) -> Pieces:
    return Pieces.boxes(x[None], x[None], neurons)


def relaxation(graph: Graph, lower: torch.Tensor, upper: torch.Tensor) -> tuple[Linear, Pieces]:
    """Backward bounds of a network in the dtype of the box, which is one piece."""
    rounding = Rounding(graph.to(lower.dtype))
    linear = Linear(rounding, rounding.local(torch.maximum(lower.abs(), upper.abs()), {}))
    return linear, Pieces.boxes(lower[None], upper[None], graph.neurons)


# Constants.


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gamma_is_the_bound_of_the_books(dtype):
    u = Fraction(torch.finfo(dtype).eps) / 2
    assert Fraction(unit_roundoff(dtype)) == u
    for n in (1, 2, 7, 1000, 2**20):
        true = n * u / (1 - n * u)
        assert abs(Fraction(gamma(n, dtype)) - true) <= true * Fraction(2) ** -50
    with pytest.raises(ValueError, match="no useful rounding bound"):
        gamma(int(1 / (2 * u)), dtype)


# Weak duality.


def dual_value(cost, columns, y, sides, lower, upper) -> Fraction:
    """What any multipliers prove, in rational arithmetic."""
    total = inner(y, sides)
    for c, column, low, high in zip(exact(cost), columns, exact(lower), exact(upper), strict=True):
        reduced = c - inner(column, y)
        total += reduced * (low if reduced > 0 else high)
    return total


def both_bounds(cost, rows, y, sides, lower, upper) -> tuple[float, float]:
    """The bound of the batched kernel and of the model of one program. `rows` (R, V), all of them >= sides."""
    matrix = csr_array(np.asarray(rows, dtype=float))
    open_ = np.full(len(sides), np.inf)
    model = LinearModel(cost, lower, upper, matrix, np.asarray(sides, dtype=float), open_)
    column = lambda a: torch.as_tensor(np.asarray(a, dtype=float))[:, None]  # noqa: E731
    programs = Programs(*(column(a) for a in (cost, lower, upper, sides, open_)))
    blocks = Blocks.of(matrix.indptr, matrix.indices, matrix.data, matrix.shape)
    return safe_bounds(blocks, programs, column(y))[0].item(), model.safe_bound(np.asarray(y, dtype=float))


def test_reduced_costs_that_vanish_in_rounding_are_charged():
    """A^T y = 1 + 1e-17 - 1: nothing in float64, 1e-17 in truth, and the variable reaches 1e18."""
    rows, ones = np.array([[1.0], [1e-17], [-1.0]]), np.ones(3)
    for order in ([0, 1, 2], [1, 0, 2], [0, 2, 1], [2, 1, 0]):
        for low in (-1e18, 0.0):
            ends = np.array([low]), np.array([1e18])
            for bound in both_bounds(np.zeros(1), rows[order], ones, np.zeros(3), *ends):
                assert bound <= -10


@pytest.mark.parametrize("seed", range(4))
def test_duals_prove_no_more_than_in_rational_numbers(seed):
    random = np.random.default_rng(seed)
    for _ in range(50):
        variables, pairs = 3, random.integers(1, 5)
        half = random.normal(size=(pairs, variables)) * 10.0 ** random.integers(-1, 2, size=(pairs, 1))
        tiny = random.normal(size=(2, variables)) * 1e-16
        rows = np.concatenate([half, tiny, -half])[random.permutation(2 * pairs + 2)]
        y = np.abs(random.normal()) * np.ones(len(rows))
        reach = 10.0 ** random.integers(0, 20, size=variables)
        lower, upper = -reach * random.random(variables), reach * random.random(variables)
        cost = random.normal(size=variables) * random.integers(0, 2, size=variables)
        sides = random.normal(size=len(rows)) * 10.0 ** random.integers(-2, 16)
        sides[::2] = -sides[1::2]  # gains cancel as well
        true = dual_value(cost, rows.T, y, sides, lower, upper)
        for bound in both_bounds(cost, rows, y, sides, lower, upper):
            assert Fraction(bound) <= true


def test_multipliers_that_are_no_numbers_are_taken_for_zero():
    rows, sides, ends = np.eye(2), np.array([0.25, 0.5]), (np.zeros(2), np.ones(2))
    for bad in (np.nan, np.inf, -np.inf):
        for bound in both_bounds(np.ones(2), rows, np.array([1.0, bad]), sides, *ends):
            assert bound == pytest.approx(0.25)


def test_bounds_that_overflow_prove_nothing():
    """Neither a bound nor, as with an infinite one, that there is no point."""
    huge = np.array([1e308]), np.array([1.5e308])
    for bound in both_bounds(np.full(1, 1e10), np.ones((1, 1)), np.zeros(1), np.zeros(1), *huge):
        assert bound == -np.inf
    ends = np.array([-1.0]), np.array([1.0])
    for bound in both_bounds(np.zeros(1), np.ones((1, 1)), np.full(1, 1e300), np.full(1, -1e300), *ends):
        assert bound < 0


def test_sums_of_gains_are_charged():
    """Rows' gains 1e16 + 1 - 1e16 - 2: rounding may say anything from -2 to 2, the truth is -1."""
    for gains in ([1e16, 1.0, -1e16, -2.0], [1e16, -2.0, 1.0, -1e16], [1.0, 1e16, -2.0, -1e16]):
        rows = np.eye(4)
        for bound in both_bounds(np.ones(4), rows, np.ones(4), np.array(gains), np.zeros(4), np.zeros(4)):
            assert bound <= -1


# One neuron's rows.


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_offsets_of_any_coefficients_are_above_the_neuron(dtype):
    """relu(w v + b) <= a v + offset at the corners where either side is extreme, with biases that dwarf the rest."""
    random = torch.Generator().manual_seed(5)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)  # noqa: E731
    for size in (1, 3, 6):
        for _ in range(40):
            weight, bias = draw(1, size).to(dtype), (100 * draw(1)).to(dtype)
            lower = draw(1, size).to(dtype)
            upper = lower + draw(1, size).abs().to(dtype)
            a = torch.cat([weight[:, None] * (1 + 1e-3 * draw(1, 1, 1)).to(dtype), draw(1, 2, size).to(dtype)], 1)
            offset = certified_offset(weight, bias, lower, upper, a)
            w, b, (low,), (high,) = exact(weight), exact(bias)[0], (exact(lower),), (exact(upper),)
            for q in range(3):
                own = exact(a[0, q])
                above = sum(max((x - y) * s, (x - y) * t) for x, y, s, t in zip(w, own, low, high, strict=True)) + b
                zero = sum(max(-y * s, -y * t) for y, s, t in zip(own, low, high, strict=True))
                assert Fraction(offset[0, q].item()) >= max(above, zero)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_leave_room_for_what_the_neuron_may_be_off(dtype):
    """`doubt` is added to the offsets of exact weights, rounded up."""
    random = torch.Generator().manual_seed(8)
    for _ in range(40):
        weight, bias = torch.randn(2, 3, generator=random).to(dtype), torch.randn(2, generator=random).to(dtype)
        lower = torch.randn(2, 3, generator=random).to(dtype)
        upper = lower + 1
        points = ((lower + upper) / 2)[:, None]
        doubt = (10 ** (4 * torch.rand(2, generator=random) - 4)).to(dtype)
        a, plain = separate(weight, bias, lower, upper, points)
        b, found = separate(weight, bias, lower, upper, points, doubt)
        assert torch.equal(a, b)
        for one, more, room in zip(exact(plain), exact(found), exact(doubt), strict=True):
            assert one + room <= more <= one + room + Fraction(1, 1000)


# Boxes and half-spaces.


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [2, 7, 40])
def test_least_values_on_boxes_with_an_end_at_zero(dtype, size):
    """Middle and radius are equal and large there, and cancel."""
    random = torch.Generator().manual_seed(size)
    for _ in range(60):
        a = torch.randn(1, 1, size, generator=random).to(dtype)
        far = 10 ** (8 * torch.rand(1, size, generator=random).to(dtype))
        sign = torch.where(torch.rand(1, size, generator=random) < 0.5, -1.0, 1.0).to(dtype)
        lower, upper = torch.minimum(sign * far, 0 * far), torch.maximum(sign * far, 0 * far)
        found = box_minimum(a, lower, upper).item()
        ends = zip(exact(a), exact(lower), exact(upper), strict=True)
        assert Fraction(found) <= sum(min(c * s, c * t) for c, s, t in ends)


def test_half_spaces_that_all_but_cancel_a_form():
    """a + beta G is rounded where the two are equal but for their last bits, far from the origin."""
    random = torch.Generator().manual_seed(3)
    for _ in range(60):
        normal = torch.randn(1, 1, 4, generator=random)
        a = -normal * (1 + 3 * torch.rand(1, 1, 1, generator=random))
        lower = 1e6 * (1 + torch.rand(1, 4, generator=random))
        upper = lower + 1
        offset = (normal[0] * (lower + upper) / 2).sum(-1)[None].reshape(1, 1)
        found, beta = polytope_minimum(a, lower, upper, normal, offset)
        price = Fraction(beta.item())
        ends = zip(exact(a), exact(normal), exact(lower), exact(upper), strict=True)
        true = sum((c + price * n) * (s if c + price * n > 0 else t) for c, n, s, t in ends) - price * exact(offset)[0]
        assert Fraction(found.item()) <= true


# Intervals.


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("inputs", [1, 2, 7])
def test_intervals_of_far_out_points_hold_the_value(dtype, inputs):
    """Of 2,000 points, each a box without width: what is left of the interval is rounding."""
    random = torch.Generator().manual_seed(inputs)
    weight, x = torch.randn(5, inputs, generator=random), torch.randn(2000, inputs, generator=random)
    x = (x * 10 ** (16 * torch.rand(2000, 1, generator=random) - 8)).to(dtype)
    bias = torch.tensor([1.0, -1e5, 1e7, 0.3, -12345.0]) * torch.randn(5, generator=random)
    graph = graph_of((weight.to(dtype), bias.to(dtype), False)).to(dtype)
    low, high = affine_interval(Rounding(graph), 1, [(x, x)])
    rows, shift = [exact(row) for row in weight.to(dtype)], exact(bias.to(dtype))
    for p, own in enumerate(x.tolist()):
        value = [Fraction(v) for v in own]
        for j, row in enumerate(rows):
            true = sum(a * v for a, v in zip(row, value, strict=True)) + shift[j]
            assert Fraction(low[p, j].item()) <= true <= Fraction(high[p, j].item())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_intervals_of_thin_boxes_hold_their_corners(dtype):
    """Ends that float numbers barely tell apart: the middle is one of them, and the radius must reach the other."""
    random = torch.Generator().manual_seed(9)
    eps = torch.finfo(dtype).eps
    for _ in range(300):
        weight, low = torch.randn(1, 3, generator=random).to(dtype), 1e3 * torch.randn(1, 3, generator=random).to(dtype)
        high = low + low.abs() * eps * torch.randint(0, 4, (1, 3), generator=random)
        bias = -(weight * low).sum().reshape(1) * (1 + torch.randn(1, generator=random).to(dtype) * eps)
        graph = graph_of((weight, bias, False)).to(dtype)
        below, above = affine_interval(Rounding(graph), 1, [(low, high)])
        ends = list(zip(exact(weight), exact(low), exact(high), strict=True))
        assert Fraction(below.item()) <= sum(min(w * s, w * t) for w, s, t in ends) + exact(bias)[0]
        assert Fraction(above.item()) >= sum(max(w * s, w * t) for w, s, t in ends) + exact(bias)[0]


# Vectors of the backward pass.


def test_long_sums_of_equal_terms_are_charged():
    """y is a sum of 2^17 times one number: in float32 its rounding errors all point the same way."""
    count = 2**17
    for share in (0.1, 0.3, 0.7, 1.3):
        first = torch.full((count, 1), share, dtype=torch.float32)
        zeros = torch.zeros(count)
        for sign in (1.0, -1.0):
            last = torch.full((1, count), sign / 3, dtype=torch.float32)
            graph = graph_of((first, zeros, False), (last, torch.zeros(1), False))
            x = torch.ones(1)
            linear, piece = relaxation(graph, x, x)
            rows = Rows(torch.ones(1, 1, 1), torch.zeros(1, 1))
            found = linear.bound(piece, rows)[0].lower.item()
            assert Fraction(found) <= count * exact(first[0, 0])[0] * exact(last[0, 0])[0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sizes_are_at_least_the_values(dtype):
    """What rounding is charged on: at least |value| of every node at every point, whatever bounds were given."""
    random = torch.Generator().manual_seed(2)
    draw = lambda *shape: torch.randn(*shape, generator=random)  # noqa: E731
    graph = graph_of((draw(6, 3), 5 + draw(6), True), (draw(4, 6), draw(4) - 3, True), (draw(2, 4), draw(2), False))
    lower, upper = -torch.ones(3, dtype=dtype), 2 * torch.ones(3, dtype=dtype)
    rounding = Rounding(graph.to(dtype))
    largest = torch.maximum(lower.abs(), upper.abs())
    x = (lower + (upper - lower) * torch.rand(3000, 3, generator=random)).double()
    x[:8] = torch.cartesian_prod(*[torch.tensor([-1.0, 2.0], dtype=torch.float64)] * 3)
    values = graph.values(x)
    linear, piece = relaxation(graph, lower, upper)
    bounded = linear.tighten(piece)[0]
    starts = {i: layer.span for i, layer in graph.layer_at.items()}
    pre = {i: [(bounded.pre_lower[0, s], bounded.pre_upper[0, s])] for i, s in starts.items()}
    for scales in (rounding.local(largest, {}), rounding.local(largest, pre), linear.tighten(piece)[2]):
        for size, value in zip(scales.size, values, strict=True):
            assert (size.double().reshape(-1) >= value.abs().amax(0) * (1 - 1e-6)).all()


def test_sums_that_pass_a_large_constant_are_charged():
    """A row constant of 1e8 met by twenty biases of -3.9, each less than half of what float32 sees there."""
    graph = graph_of(*[(torch.eye(1), torch.tensor([-3.9]), False)] * 20)
    bias = Fraction(torch.tensor(-3.9, dtype=torch.float32).item())
    for constant in (1e8, -1e8, 3e8):
        for sign in (1.0, -1.0):
            x = torch.zeros(1)
            linear, piece = relaxation(graph, x, x)
            rows = Rows(torch.full((1, 1, 1), sign), torch.full((1, 1), constant))
            result, form = linear.formed(piece, rows)
            true = Fraction(rows.constants.item()) + int(sign) * 20 * bias
            assert Fraction(result.lower.item()) <= true
            assert Fraction(form.constant.item()) - Fraction(form.slack.item()) <= true
            assert Fraction(result.constants.item()) <= true + Fraction(1, 1000)


def test_adding_a_form_to_its_constant_is_charged():
    """`minimum` alone: the form's least value and the constant are nearly opposite, or far apart."""
    graph = graph_of((torch.eye(1), torch.zeros(1), False))
    random = torch.Generator().manual_seed(1)
    met = 0
    for _ in range(300):
        x = torch.randn(1, generator=random)
        linear, piece = relaxation(graph, x, x)
        slope = torch.randn(1, 1, 1, generator=random)
        constant = 1e4 * torch.randn(1, 1, generator=random)
        found = linear.minimum(piece, Form(slope, constant, torch.zeros(1, 1)))
        true = Fraction(slope.item()) * Fraction(x.item()) + Fraction(constant.item())
        assert Fraction(found.item()) <= true
        met += found.item() < float(true)
    assert met > 200


def test_no_bound_is_made_of_what_overflows():
    graph = graph_of((torch.eye(1), torch.zeros(1), False))
    x = torch.full((1,), 1e30)
    linear, piece = relaxation(graph, x, x)
    for slope, constant in ((1e30, 0.0), (1.0, torch.inf), (torch.nan, 0.0)):
        form = Form(torch.full((1, 1, 1), slope), torch.full((1, 1), constant), torch.zeros(1, 1))
        assert linear.minimum(piece, form).item() == -torch.inf


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_multipliers_that_cancel_coefficients_are_charged(dtype):
    """Coefficients L at a node and added ones near -L: the sum is exact, but what both lost before is not."""
    random = torch.Generator().manual_seed(4)
    draw = lambda *shape: torch.randn(*shape, generator=random)  # noqa: E731
    for _ in range(30):
        graph = graph_of((draw(3, 2), draw(3), False), (draw(2, 3), draw(2), False)).to(dtype)
        x = (100 * draw(2)).to(dtype)
        linear, _ = relaxation(graph, x, x)
        rows = draw(1, 2, 2).to(dtype)
        at_one = rows @ graph.nodes[2].operators[0].weight
        for node, added in (
            (1, -at_one * 3),
            (0, (1000 * draw(1, 2, 2)).to(dtype)),
            (2, (30 * draw(1, 2, 2)).to(dtype)),
        ):
            form = backward(graph, linear.scales, {}, 2, rows, rows.new_zeros(1, 2), added={node: added})
            values = [exact(x)]
            for layer in graph.nodes[1:]:
                weight, bias = layer.operators[0].weight, exact(layer.bias)
                values.append([sum(a * v for a, v in zip(exact(w), values[-1])) + b for w, b in zip(weight, bias)])
            for r in range(2):
                true = inner_exact(rows[0, r], values[2]) + inner_exact(added[0, r], values[node])
                proved = inner_exact(form.linear[0, r], values[0])
                proved += Fraction(form.constant[0, r].item()) - Fraction(form.slack[0, r].item())
                assert proved <= true


def inner_exact(row: torch.Tensor, value: list[Fraction]) -> Fraction:
    return sum((a * v for a, v in zip(exact(row), value, strict=True)), Fraction(0))


def exact_values(graph: Graph, x) -> list[list[Fraction]]:
    """Every node's value at a point, in rational arithmetic."""
    values = [exact(x)]
    for node in graph.nodes[1:]:
        if isinstance(node, Activation):
            values.append([max(v, Fraction(0)) for v in values[node.inputs[0]]])
            continue
        total = exact(node.bias)
        for operator, source in zip(node.operators, node.inputs, strict=True):
            total = [t + inner_exact(row, values[source]) for t, row in zip(total, operator.weight, strict=True)]
        values.append(total)
    return values


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_forms_hold_at_points_of_the_piece(scale):
    """The forms that clipping reads, rows on inputs among them, in float32 against rational numbers."""
    random = torch.Generator().manual_seed(6)
    draw = lambda *shape: torch.randn(*shape, generator=random)  # noqa: E731
    for _ in range(25):
        graph = graph_of((draw(4, 3), draw(4), True), (draw(2, 4), draw(2), False))
        lower = 100 * draw(3)
        upper = lower.clone()  # on a point the form meets the value, but for rounding
        linear, piece = relaxation(graph, lower, upper)
        on_input = scale * draw(1, 2, 3)
        rows = Rows(draw(1, 2, 2), draw(1, 2), on_input)
        result = linear.bound(piece, rows).result
        values = exact_values(graph, lower)
        for r in range(2):
            true = inner_exact(rows.coefficients[0, r], values[-1]) + exact(rows.constants[0, r])[0]
            true += inner_exact(on_input[0, r], values[0])
            assert inner_exact(result.forms[0, r], values[0]) + exact(result.constants[0, r])[0] <= true
            assert exact(result.lower[0, r])[0] <= true
