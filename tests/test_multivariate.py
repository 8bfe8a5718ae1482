"""Layers of several operands: their functions, planes contracted and written out, and whatever bounds with them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from group_max import GroupMax
from multivariate_conformance import MultivariateConformance, fractions

import partita
from partita.kernels.rounding import gamma
from partita.kernels.substitute import substitute, substitute_operands
from partita.problems.network.activation import ReLU
from partita.problems.network.affine import Dense, Identity, Select
from partita.problems.network.apriori import Judged, Precision, evaluated, given, judged
from partita.problems.network.bilinear import MatrixProduct
from partita.problems.network.graph import Activation, Affine, Graph, Input, Multivariate
from partita.problems.network.product import Product
from partita.problems.network.simplify import simplify
from partita.problems.network.smooth import Tanh
from partita.problems.properties.property import Polytope
from partita.problems.properties.rational import Numbers
from partita.problems.properties.specify import box_property
from partita.relaxations.linear.alpha import Alpha
from partita.relaxations.linear.backward import backward
from partita.relaxations.linear.carried import LinearBounds, layer_bounds
from partita.relaxations.linear.decide import decision_half_spaces
from partita.relaxations.linear.forward import Forward
from partita.relaxations.linear.ibp import Ibp, interval_root
from partita.relaxations.linear.interval import interval_bounds
from partita.relaxations.linear.rebounding import Rebounding
from partita.relaxations.linear.root import in_float64, root
from partita.relaxations.linear.rounding import Rounding
from partita.relaxations.lp.encode import encode
from partita.relaxations.reals.at_point import AtPoint
from partita.relaxations.studies.chord import chords
from partita.relaxations.types import Pieces, Rows


class TestProduct(MultivariateConformance):
    function = Product()
    sizes = (5, 5)

    @staticmethod
    def exact(a, b):
        return [x * y for x, y in zip(a, b, strict=True)]


class TestMatrixProduct(MultivariateConformance):
    function = MatrixProduct(2, 3, 2, count=2)
    sizes = (12, 12)

    @staticmethod
    def exact(a, b):
        def entry(n, i, k):
            return sum(a[6 * n + 3 * i + j] * b[6 * n + 2 * j + k] for j in range(3))

        return [entry(n, i, k) for n in range(2) for i in range(2) for k in range(2)]


class TestOuterProduct(MultivariateConformance):
    """More outputs than operands have entries."""

    function = MatrixProduct(3, 1, 4)
    sizes = (3, 4)

    @staticmethod
    def exact(a, b):
        return [x * y for x in a for y in b]


class TestGroupMax(MultivariateConformance):
    function = GroupMax(2, 3)
    sizes = (6,)

    @staticmethod
    def exact(z):
        return [max(z[3 * g : 3 * g + 3]) for g in range(2) for _ in range(3)]


# ---- planes


def test_several_operands_are_pulled_as_the_sum_over_one_at_a_time():
    """Each operand's coefficients as those of a function of it alone; bias and weighed sums counted once."""
    random = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)  # noqa: E731
    coefficient, above = draw(3, 4, 200), draw(200).abs()
    for shape in ((3, 200), (3, 4, 200)):
        slopes = [(draw(*shape), draw(*shape)) for _ in range(3)]
        low, high = draw(*shape), draw(*shape)
        below, gain, weighed = substitute_operands(coefficient, slopes, (low, high), above)
        zero = torch.zeros_like(low)
        each = [substitute(coefficient, (a, zero, b, zero)) for a, b in slopes]
        for one, (found, nothing) in zip(below, each, strict=True):
            assert torch.equal(one, found) and not nothing.any()
        bias = substitute(coefficient, (zero, low, zero, high))[1]
        assert torch.equal(gain, bias)
        torch.testing.assert_close(weighed, (coefficient.abs() * above).sum(-1))
        one, only, _ = substitute_operands(coefficient, slopes[:1], (low, high), above)
        assert torch.equal(one[0], each[0][0]) and torch.equal(only, bias)


def test_contracted_planes_are_those_of_all_terms():
    """A product of matrices as the sum of its terms, each between planes that are written out."""
    p, q, r, rows = 3, 4, 2, 5
    form, random = MatrixProduct(p, q, r), torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)  # noqa: E731
    ends = [(t - t.abs() / 2, t + 1) for t in (draw(2, p * q), draw(2, q * r))]
    choice = draw(2, rows, p * q).sigmoid(), draw(2, rows, p * q).sigmoid()
    terms = [(i, j, k) for i in range(p) for j in range(q) for k in range(r)]
    on_a = torch.tensor([i * q + j for i, j, k in terms])
    on_b = torch.tensor([j * r + k for i, j, k in terms])
    out = torch.tensor([i * r + k for i, j, k in terms])
    written = Product().planes(
        [tuple(t[:, index] for t in pair) for pair, index in zip(ends, (on_a, on_b), strict=True)],
        tuple(t[..., on_a] for t in choice),
    )
    coefficient = draw(2, rows, p * r)
    found = form.planes(ends, choice).pull(coefficient, torch.zeros(p * r, dtype=torch.float64))
    each = written.pull(coefficient[..., out], torch.zeros(len(out), dtype=torch.float64))
    torch.testing.assert_close(found.gain, each.gain)
    for part, term, index, size in zip(found.operands, each.operands, (on_a, on_b), (p * q, q * r), strict=True):
        torch.testing.assert_close(part, torch.zeros(2, rows, size).double().index_add(2, index, term))


def test_a_product_with_a_point_is_exact():
    a = torch.tensor([[2.0, -3.0, 0.0]]).double()
    c, d = torch.tensor([[-1.0, 0.5, -7.0]]).double(), torch.tensor([[4.0, 0.75, 9.0]]).double()
    for ends, other in ((((a, a), (c, d)), 1), (((c, d), (a, a)), 0)):
        planes = Product().planes(ends)
        assert not any(bool(part.any()) for part in Product().open(*ends))
        point = [a[:, None], a[:, None]]
        for share in (0.0, 0.3, 1.0):
            point[other] = (c + share * (d - c))[:, None]
            point[1 - other] = a[:, None]
            for lower in (True, False):
                found = planes.value(torch.full((1, 1, 3), lower), point)
                torch.testing.assert_close(found, point[0] * point[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
def test_planes_that_are_written_down_hold_as_they_stand(dtype):
    """At corners, where planes of a product touch it, in fractions: whatever was rounded is in the bias."""
    random, met = torch.Generator().manual_seed(3), 0
    for scale in (1.0, 1e-3, 1e5):
        a, b, c, d = (scale * torch.randn(4, 1, 400, generator=random, dtype=torch.float64) + 7).to(dtype)
        (a, b), (c, d) = ((torch.minimum(x, y), torch.maximum(x, y)) for x, y in ((a, b), (c, d)))
        choice = tuple(torch.rand(2, 1, 400, generator=random, dtype=torch.float64).to(dtype))
        planes = Product().planes(((a, b), (c, d)), choice)
        sides = [
            (*(fractions(s[0]) for s in slopes), fractions(bias[0]))
            for slopes, bias in ((planes.lower_slopes, planes.lower_bias), (planes.upper_slopes, planes.upper_bias))
        ]
        for x, y in ((x, y) for x in (fractions(a[0]), fractions(b[0])) for y in (fractions(c[0]), fractions(d[0]))):
            for (s, r, t), sign in zip(sides, (1, -1), strict=True):
                for k in range(400):
                    rest = sign * (x[k] * y[k] - s[k] * x[k] - r[k] * y[k] - t[k])
                    assert rest >= 0
                    met += rest <= 64 * Fraction(torch.finfo(dtype).eps) * (abs(x[k] * y[k]) + abs(t[k]))
    assert met > 800  # what is added is a few epsilons


def test_planes_are_the_hull_of_the_product():
    """The better of the two planes on each side meets McCormick's envelope, which is x y at all four corners."""
    a, b, c, d = (torch.tensor([[v]]).double() for v in (-1.0, 2.0, -3.0, 0.5))
    corners = [(x, y) for x in (a, b) for y in (c, d)]
    for lower in (True, False):
        side = torch.full((1, 1, 1), lower)
        choices = [(torch.full_like(a, t), torch.full_like(a, t)) for t in (0.0, 1.0)]
        planes = [Product().planes(((a, b), (c, d)), choice) for choice in choices]
        for x, y in corners:
            met = [float(one.value(side, (x[:, None], y[:, None]))) for one in planes]
            assert (max if lower else min)(met) == pytest.approx(float(x * y))


# ---- graphs


def affine(source: int, rows: int, columns: int, random: torch.Generator, scale: float = 1.0) -> Affine:
    weight = scale * torch.randn(rows, columns, generator=random) / columns**0.5
    return Affine((source,), (Dense(weight.double()),), 0.3 * torch.randn(rows, generator=random).double())


def gated(seed: int, kind: str = "product", inputs: int = 3) -> Graph:
    """ReLUs (or tanh), then two branches that meet in a layer of several operands, then ReLUs and an output."""
    random = torch.Generator().manual_seed(seed)
    function = Tanh() if seed % 3 == 2 else ReLU()
    nodes: list = [Input(inputs), affine(0, 6, inputs, random), Activation((1,), function, 6)]
    if kind == "square":  # both operands are one node
        nodes += [affine(2, 4, 6, random), Multivariate((3, 3), Product(), 4, "join")]
    elif kind == "input":  # one operand is the input itself, another an activation
        nodes += [Multivariate((0, 2), MatrixProduct(inputs, 1, 6), inputs * 6, "join")]
        nodes += [affine(3, 4, inputs * 6, random)]
    elif kind == "matrix":
        nodes += [affine(2, 4, 6, random), affine(2, 6, 6, random)]
        nodes += [Multivariate((3, 4), MatrixProduct(2, 2, 3), 6, "join"), affine(5, 4, 6, random)]
    elif kind == "group":
        nodes += [affine(2, 4, 6, random), Multivariate((3,), GroupMax(2, 2), 4, "join")]
    else:
        nodes += [affine(2, 4, 6, random), affine(2, 4, 6, random), Multivariate((3, 4), Product(), 4, "join")]
    last = len(nodes) - 1
    nodes += [affine(last, 5, 4, random), Activation((last + 1,), ReLU(), 5), affine(last + 2, 2, 5, random)]
    return Graph(tuple(nodes), (inputs,), (2,))


KINDS = ("product", "square", "input", "matrix", "group")
BOX = (-np.ones(3), np.ones(3))


def sampled(graph: Graph, count: int = 4000) -> torch.Tensor:
    x = 2 * torch.rand(count, graph.input_size, generator=torch.Generator().manual_seed(5), dtype=torch.float64) - 1
    return torch.cat([x, x.sign()])


def test_neurons_are_numbered_operand_by_operand():
    graph = gated(0, "matrix")
    assert [(o.layer, o.index, o.source, o.span.start, o.size) for o in graph.operands] == [
        (2, 0, 1, 0, 6),
        (5, 0, 3, 6, 4),
        (5, 1, 4, 10, 6),
        (8, 0, 7, 16, 5),
    ]
    join = graph.layer_at[5]
    assert (join.size, join.outputs, join.span, join.kind) == (10, 6, slice(6, 16), "product of matrices")
    assert graph.neurons == 21 and not graph.piecewise_linear
    with pytest.raises(partita.problems.errors.BadInput, match="layer 'join' is a product of matrices"):
        _ = join.function


@pytest.mark.parametrize("kind", ["product", "matrix"])
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
def test_backward_bounds_charge_what_planes_cost(kind, dtype):
    """Large products that cancel: what the pass lost is seen, and no more than it says. In exact arithmetic, at the
    point that the box is; the terms' sum is far smaller than they are, so that nothing else pays for them."""
    random, met = torch.Generator().manual_seed(0), 0.0
    f = Product() if kind == "product" else MatrixProduct(3, 4, 3)
    split = [Affine((0,), (Select(torch.arange(12) + 12 * k, 24),), torch.zeros(12).double()) for k in range(2)]
    nodes = (Input(24), *split, Multivariate((1, 2), f, 12 if kind == "product" else 9))
    nodes = (*nodes, Affine((3,), (Identity(nodes[3].size),), torch.zeros(nodes[3].size).double()))
    graph = Graph(nodes, (24,), (nodes[3].size,)).to(dtype)
    for _ in range(40):
        x = (20 + 4 * torch.rand(1, 24, generator=random)).to(dtype)
        ends = [(x[:, 12 * k : 12 * k + 12],) * 2 for k in range(2)]
        y = f.value(*(a for a, _ in ends))
        rows = torch.randn(1, 1, y.shape[1], generator=random, dtype=torch.float64)
        rows[..., -1] -= (rows[0, 0] * y[0].double()).sum() / y[0, -1]
        rows = rows.to(dtype)
        scales = Rounding(graph).local(x[0].abs(), {3: [(a[0], b[0]) for a, b in ends]})
        planes = {3: f.planes(ends)}
        form = backward(graph, scales, planes, 3, rows, torch.zeros(1, 1, dtype=dtype))
        point = fractions(x[0])
        if kind == "matrix":
            true = product_of(3, 4, 3)(point[:12], point[12:])
        else:  # the plane that is chosen, as it stands
            p, below = planes[3], rows[0, 0] >= 0
            s, r = (fractions(torch.where(below, a[0], b[0])) for a, b in zip(p.lower_slopes, p.upper_slopes))
            bias = fractions(torch.where(below, p.lower_bias[0], p.upper_bias[0]))
            true = [s[k] * point[k] + r[k] * point[12 + k] + bias[k] for k in range(12)]
        value = sum(a * b for a, b in zip(fractions(rows[0, 0]), true, strict=True))
        found = sum(a * b for a, b in zip(fractions(form.linear[0, 0]), point, strict=True))
        found += Fraction(form.constant.item())
        assert found - Fraction(form.slack.item()) <= value
        met = max(met, float((found - value) / Fraction(form.slack.item())))
    assert met > 0.001  # something is lost
    size = f.reach(*(a[0].abs() for a, _ in ends))
    assert (scales.activation[3] >= gamma(f.terms([12, 12]), dtype) * size).all()
    scales.activation[3] = torch.ones_like(scales.activation[3])  # as if it were that
    charged = backward(graph, scales, planes, 3, rows, torch.zeros(1, 1, dtype=dtype)).slack - form.slack
    assert (charged >= 0.5 * rows.abs().sum(-1)).all()


def product_of(p: int, q: int, r: int):
    """The product of two matrices of fractions, row by row."""
    return lambda a, b: [sum(a[i * q + j] * b[j * r + k] for j in range(q)) for i in range(p) for k in range(r)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 2])
def test_sizes_hold_for_values_known_bounds_or_not(kind, seed):
    graph, values = gated(seed, kind), gated(seed, kind).values(sampled(gated(seed, kind)))
    linear, whole = root(graph, *map(torch.from_numpy, BOX))
    pre = {layer.position: [(a[0], b[0]) for a, b in whole.ends(layer)] for layer in graph.layers}
    made = [Rounding(graph).local(torch.ones(3).double(), known) for known in ({}, pre)]
    for scales in (*made, linear.scales, in_float64(graph, linear, whole).scales):
        for size, value in zip(scales.size, values, strict=True):
            assert (size >= value.abs().amax(0) * (1 - 1e-12)).all()


def test_intervals_start_from_what_is_known_of_every_operand():
    graph = gated(0, "product")
    _, whole = root(graph, *map(torch.from_numpy, BOX))
    rounding, join = Rounding(graph), graph.layer_at[5]
    for operand in join.operands:
        known = whole.with_pre(whole.pre_lower.clone(), whole.pre_upper.clone())
        for side in known.pre(operand):
            side.mul_(0)
        low, high = interval_bounds(rounding, known.lower, known.upper, known.pre_lower, known.pre_upper)[5]
        assert not low.any() and not high.any()


def test_every_operand_is_bounded_backward_where_it_is_open():
    graph = gated(0, "matrix")
    low, high = map(torch.from_numpy, BOX)
    (_, whole), (_, loose) = root(graph, low, high), interval_root(graph, low, high)
    for operand in graph.layer_at[5].operands:
        (a, b), (c, d) = whole.pre(operand), loose.pre(operand)
        assert (b - a)[0, -1] < 0.999 * (d - c)[0, -1]


def test_what_is_carried_through_a_layer_of_several_operands_is_its_interval():
    graph, random = gated(0, "matrix"), torch.Generator().manual_seed(0)
    layer, weights = graph.layer_at[5], torch.ones(2, 4).double()
    ends = [tuple(torch.randn(2, 2, o.size, generator=random).double().sort(0).values) for o in layer.operands]
    nothing = LinearBounds(torch.zeros(2, 4, 4).double(), torch.zeros(2, 4, 4).double())
    found = layer_bounds(layer, nothing, ends, layer.several.planes(ends), weights)
    for side, end in zip(found, layer.interval(ends), strict=True):
        assert torch.equal(side[:, -1], end) and not side[:, :-1].any()


@pytest.mark.parametrize("kind", KINDS)
def test_half_spaces_of_decided_operands_cut_off_no_point(kind):
    """Each neuron decided at its value in the middle: a point that takes the decision satisfies its half-space."""
    graph = gated(0, kind)
    linear, whole = root(graph, *map(torch.from_numpy, BOX))
    x = sampled(graph)
    neurons = lambda x: torch.cat([graph.values(x)[o.source] for o in graph.operands], 1)  # noqa: E731
    z, point, every = neurons(x), neurons(x.mean(0, keepdim=True))[0], torch.arange(graph.neurons)
    pieces = whole[torch.zeros_like(every)]
    normals, offsets = decision_half_spaces(linear, pieces, every, point)
    kept = x @ normals.mT <= offsets + 1e-12 * (1 + offsets.abs())
    below, above = kept[:, : len(every)], kept[:, len(every) :]
    assert below[z <= point].all() and above[z >= point].all()
    assert not (below & (z > point + 0.5)).all() or not (above & (z < point - 0.5)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_relaxed_values_are_where_the_bound_is_reached(kind):
    """The rows at the relaxed outputs are the form at its minimiser."""
    graph = gated(1, kind)
    linear, whole = root(graph, *map(torch.from_numpy, BOX))
    rows = Rows(torch.tensor([[[1.0, -0.5], [-1.0, 0.2]]]).double(), torch.tensor([[0.3, 0.0]]).double())
    _, values, form = Alpha(linear, 3).optimise(whole, rows)
    reached = (rows.coefficients * values[-1]).sum(-1) + rows.constants
    torch.testing.assert_close(reached, (form.linear * values[0]).sum(-1) + form.constant, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_normal_form_keeps_the_function_and_gives_operands_affine_nodes(kind):
    graph = gated(1, kind)
    simple, x = simplify(graph), sampled(graph, 50)
    torch.testing.assert_close(simple(x), graph(x))
    assert all(isinstance(simple.nodes[o.source], Affine) for o in simple.operands)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_bounds_hold_and_rungs_stand_in_order(kind, seed):
    graph = gated(seed, kind)
    y, z = graph(sampled(graph)), graph.values(sampled(graph))
    widths = {}
    for rung in ("ibp", "deeppoly-0", "crown", "alpha-crown"):
        for precision in ("float32", "float64"):
            found = partita.bound(graph, BOX, rung, precision=precision)
            assert (torch.from_numpy(found.lower) <= y.amin(0)).all()
            assert (torch.from_numpy(found.upper) >= y.amax(0)).all()
            assert len(found.layers) == len(graph.operands)
            for layer, operand in zip(found.layers, graph.operands, strict=True):
                assert (torch.from_numpy(layer.lower) <= z[operand.source].amin(0)).all()
                assert (torch.from_numpy(layer.upper) >= z[operand.source].amax(0)).all()
        widths[rung] = float((found.upper - found.lower).sum())
    assert widths["alpha-crown"] <= widths["crown"] * (1 + 1e-9) <= widths["ibp"] * (1 + 1e-9)
    assert widths["alpha-crown"] < 0.98 * widths["ibp"]


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_with_decided_operands_and_half_spaces_are_bounded(kind):
    """The relaxations of both trees, on pieces that are cut in every way, against samples of the pieces."""
    graph = gated(0, kind)
    low, high = (torch.from_numpy(end) for end in BOX)
    linear, whole = root(graph, low, high)
    random = torch.Generator().manual_seed(2)
    x = sampled(graph)
    z = torch.cat([graph.values(x)[operand.source] for operand in graph.operands], 1)
    count = graph.neurons
    at = x.mean(0, keepdim=True) + 0 * whole.lower
    neuron = torch.arange(count)[:, None]
    point = torch.gather(torch.cat([graph.values(at)[o.source] for o in graph.operands], 1), 1, neuron.mT).mT
    sign = torch.where(torch.rand(count, 1, generator=random) < 0.5, -1.0, 1.0).double()
    many = lambda t: t.expand(count, *t.shape[1:]).clone()  # noqa: E731
    normal = torch.randn(1, 1, graph.input_size, generator=random, dtype=torch.float64)
    pieces = Pieces(
        *(many(t) for t in (whole.lower, whole.upper, normal, torch.full((1, 1), 0.4).double())),
        *(neuron, sign, point, many(whole.pre_lower), many(whole.pre_upper)),
    )
    up, rows = sign[:, 0] > 0, torch.arange(count)
    pieces.pre_lower[rows[up], rows[up]] = torch.maximum(pieces.pre_lower[rows[up], rows[up]], point[up, 0])
    pieces.pre_upper[rows[~up], rows[~up]] = torch.minimum(pieces.pre_upper[rows[~up], rows[~up]], point[~up, 0])
    coefficients = torch.tensor([[1.0, 0.0], [-1.0, 0.5]]).double().expand(count, -1, -1)
    asked = Rows(coefficients, torch.zeros(count, 2).double())
    inside = (x @ normal[0, 0] <= 0.4)[None] & (sign * (z.mT - point) >= 0)
    relaxations = (Alpha(linear, 12), Rebounding(linear, steps=3, clipping=False), Forward(linear, clipping=False))
    for relaxation in (*relaxations, Ibp(linear), Alpha(in_float64(graph, linear, whole), 2)):
        found = relaxation.bound(pieces, asked).result
        for piece in range(count):
            if inside[piece].any():
                assert not found.empty[piece]
                values = coefficients[piece] @ graph(x[inside[piece]]).mT
                assert (found.lower[piece] <= values.amin(1)).all()
                assert torch.isfinite(found.lower[piece]).all()


SEARCHES = [*((kind, "auto") for kind in KINDS), ("matrix", "polyhedral"), ("product", "activation")]


@pytest.mark.parametrize(("kind", "split"), SEARCHES)
def test_searches_answer_right(kind, split):
    """Below the least value sampled: unsat. A little above: sat, and without the attack never unsat."""
    graph = gated(0 if kind != "group" else 4, kind)
    y = graph(sampled(graph, 20000))[:, 0]
    least, range_ = float(y.min()), float(y.max() - y.min())
    below = box_property(*BOX, [[1.0, 0.0]], [-(least - 0.5 * range_)])
    above = box_property(*BOX, [[1.0, 0.0]], [-(least + 0.01 * range_)])
    precision = "float64" if kind == "matrix" else "float32"
    found = partita.verify(graph, below, split=split, precision=precision, attack="off", timeout=60)
    assert found.verdict == "unsat" and (found.pieces > 1 or kind == "input")
    assert partita.verify(graph, above, split=split, timeout=30).verdict == "sat"
    assert partita.verify(graph, above, split=split, attack="off", max_pieces=100).verdict != "unsat"


@pytest.mark.parametrize(("kind", "rule"), [("product", "look-ahead"), ("matrix", "babsr"), ("group", "babsr")])
def test_many_inputs_are_searched_by_deciding_neurons(kind, rule):
    """What the root cannot prove: deciding neurons and cutting operands in halves does. Violated, never unsat."""
    graph, box = gated(4, kind, 30), (-0.2 * np.ones(30), 0.2 * np.ones(30))
    least = float(graph(0.2 * sampled(graph, 20000))[:, 0].min())
    gap = least - float(partita.bound(graph, box, "crown", rows=[[1.0, 0.0]]).lower[0])
    held = box_property(*box, [[1.0, 0.0]], [-(least - 0.7 * gap)])
    found = partita.verify(graph, held, attack="off", timeout=60, relaxation="crown", rule=rule)
    assert found.verdict == "unsat" and found.pieces > 1
    assert partita.verify(graph, held, attack="off", timeout=60).verdict == "unsat"
    violated = box_property(*box, [[1.0, 0.0]], [-(least + 1e-3)])
    assert partita.verify(graph, violated, attack="off", max_pieces=60).verdict != "unsat"


def test_logs_of_trees_over_operands_are_read_checked_and_replayed(tmp_path):
    for kind, split in (("product", "activation"), ("matrix", "input")):
        graph = gated(0, kind)
        y = graph(sampled(graph, 20000))[:, 0]
        prop = box_property(*BOX, [[1.0, 0.0]], [-(float(y.min()) - 0.5 * float(y.max() - y.min()))])
        folder = tmp_path / split
        assert partita.verify(graph, prop, split=split, attack="off", log=folder, timeout=60).verdict == "unsat"
        log = partita.read_log(folder)
        assert [layer["size"] for layer in log.header["layers"]] == [operand.size for operand in graph.operands]
        report = partita.replay(log, graph, prop)
        assert report.good and report.leaves > 1


# ---- at a point, exactly


def true_value(graph: Graph, x: list[Fraction]) -> list[Fraction]:
    values = [x]
    for node in graph.nodes[1:]:
        arguments = [values[i] for i in node.inputs]
        match node:
            case Affine():
                rows = [[Fraction(v) for v in row] for row in node.operators[0].weight.tolist()]
                bias = fractions(node.bias)
                values.append([b + sum(map(Fraction.__mul__, row, arguments[0])) for row, b in zip(rows, bias)])
            case Activation():
                values.append([max(v, Fraction(0)) for v in arguments[0]])
            case Multivariate():
                f = node.function
                if isinstance(f, MatrixProduct):
                    values.append(product_of(f.p, f.q, f.r)(*arguments))
                elif isinstance(f, GroupMax):
                    groups = [arguments[0][f.width * g : f.width * (g + 1)] for g in range(f.groups)]
                    values.append([max(group) for group in groups for _ in group])
                else:
                    values.append(TestProduct.exact(*arguments))
    return values[-1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("measured", [False, True])
def test_rows_at_a_point_are_enclosed(kind, measured):
    for seed in (0, 1, 3, 4):
        graph = gated(seed, kind)
        unsafe = box_property(*BOX, [[1.0, -0.5]], [0.1]).cases[0].unsafe[0]
        x = sampled(graph, 1)[0]
        least, most = AtPoint(graph).rows(Numbers(x.numpy()), unsafe, measured)
        y = true_value(graph, fractions(x))
        true = y[0] - y[1] / 2 + Fraction(0.1)
        assert least[0] <= true <= most[0]
        assert most[0] - least[0] < 1e-11


@pytest.mark.parametrize("kind", KINDS)
def test_what_another_precision_may_make_of_it_is_bounded(kind):
    """Values in float32 differ from those in float64 by no more than was said beforehand."""
    graph = gated(0, kind)
    x = sampled(graph, 64).float().double()
    known, order = {0: given(x)}, range(1, len(graph.nodes))
    found = judged(graph.nodes, order, known, Precision.of(torch.float32, doubt=1))
    plain = evaluated(graph.nodes, order, known)
    single = graph.to(torch.float32).values(x.float())
    for i in order:
        torch.testing.assert_close(plain[i], found[i].value)
        difference = (single[i].double() - found[i].value).abs()
        assert (difference <= found[i].error).all()
        assert (found[i].error <= 1e-3 * (1 + found[i].size)).all()


@pytest.mark.parametrize("f", [MatrixProduct(3, 40, 3), GroupMax(3, 40), Product()])
def test_another_precision_moves_one_layer_by_no_more_than_is_said(f):
    """Exact inputs: what it rounds itself. Inputs in doubt: what they move. Neither covers the other."""
    random, nodes = torch.Generator().manual_seed(0), (Input(120), Multivariate((0,) * f.arity, f, 120))
    x = torch.randn(200, 120, generator=random)
    found = judged(nodes, [1], {0: given(x.double())}, Precision.of(torch.float32))[1]
    off = (f.value(*(x,) * f.arity).double() - found.value).abs()
    assert (off <= found.error).all() and (off.any() or f.arity == 1)
    doubt = 1e-3 * torch.rand(200, 120, generator=random).double()
    known = {0: Judged(x.double(), doubt, x.double().abs())}
    found = judged(nodes, [1], known, Precision.of(torch.float64))[1]
    for sign in (1.0, -1.0):
        moved = x.double() + sign * x.double().sign() * doubt
        off = (f.value(*(moved,) * f.arity) - found.value).abs()
        assert (off <= found.error).all() and (off > 1e-4).any()


# ---- refused, by name


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_treat_it_says_so_by_name(kind):
    graph, low, high = gated(0, kind), *map(torch.from_numpy, BOX)
    prop = box_property(*BOX, [[1.0, 0.0]], [-5.0])
    what = graph.layer_at[next(i for i, n in enumerate(graph.nodes) if isinstance(n, Multivariate))].kind
    calls = [
        lambda r=r, f=f: f(r)
        for r in ("triangle", "k-relu", "prima", "m-1", "p-2", "exact", "crown+m-1")
        for f in (
            lambda r: partita.bound(graph, BOX, r),
            lambda r: partita.verify(graph, prop, relaxation=r, attack="off"),
        )
    ]
    calls += [
        lambda: partita.count_patterns(graph, BOX),
        lambda: partita.partition(graph, BOX, ["crown"]),
        lambda: encode(graph, Polytope(*BOX)),
        lambda: chords(graph, low, high),
    ]
    for call in calls:
        with pytest.raises(partita.problems.errors.BadInput, match=f"'join' is a {what}") as refused:
            call()
        assert "\n" not in str(refused.value)
