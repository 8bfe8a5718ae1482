"""Networks over the rational numbers against sums written out with fractions; enclosures at points against both."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import KINDS, PIECEWISE, random_graph

from partita.problems.network.activation import LeakyReLU, ReLU
from partita.problems.network.affine import Adjoint, Chain, Conv, Dense, Diagonal, Select
from partita.problems.network.exact_network import exact_outputs, exactly_known, multiplications
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.network.matrix import matrix
from partita.problems.properties.property import UnsafeSet
from partita.problems.properties.rational import Numbers, Row
from partita.relaxations.reals.at_point import AtPoint
from partita.relaxations.reals.over_reals import OverReals

DECIMALS = st.decimals(-3, 3, places=4).map(Fraction)


def written_out(graph: Graph, x: list[Fraction]) -> list[Fraction]:
    """The outputs, one product at a time."""
    values = [list(x)]
    for node in graph.nodes[1:]:
        if isinstance(node, Affine):
            total = [Fraction(float(b)) for b in node.bias]
            for i, operator in zip(node.inputs, node.operators, strict=True):
                for r, row in enumerate(matrix(operator).tolist()):
                    total[r] += sum((Fraction(a) * v for a, v in zip(row, values[i], strict=True) if a), Fraction(0))
            values.append(total)
        else:
            slope = Fraction(node.function.slope)
            values.append([v if v > 0 else slope * v for v in values[node.inputs[0]]])
    return values[-1]


def small(seed: int, kind: str) -> Graph:
    return random_graph(seed, kind, inputs=16 if kind in ("conv", "maxpool") else 3)


def point(seed: int, graph: Graph) -> list[Fraction]:
    """Decimals, of which few are floats."""
    random = np.random.default_rng(seed)
    return [Fraction(f"{v:.3f}") for v in random.normal(size=graph.input_size)]


@pytest.mark.parametrize("kind", PIECEWISE)
def test_outputs_are_those_of_sums_written_out(kind):
    for seed in range(6):
        graph = small(seed, kind)
        assert exactly_known(graph)
        x = point(seed, graph)
        assert exact_outputs(graph, x) == written_out(graph, x)


def stack(*operators, bias: float = 0.0) -> Graph:
    nodes: list = [Input(operators[0].n_in)]
    for operator in operators:
        nodes.append(Affine((len(nodes) - 1,), (operator,), torch.full((operator.n_out,), bias, dtype=torch.float64)))
        nodes.append(Activation((len(nodes) - 1,), LeakyReLU(0.1), operator.n_out))
    nodes.append(
        Affine(
            (len(nodes) - 1,), (Diagonal(torch.ones(nodes[-1].size).double()),), torch.zeros(nodes[-1].size).double()
        )
    )
    return Graph(tuple(nodes), (1, nodes[0].size), (1, nodes[-1].size))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1e-300, 1e-30, 1.0, 1e30, 1e290]),
    st.lists(DECIMALS, min_size=6, max_size=6),
)
def test_operators_of_every_kind_and_any_size(seed, scale, x):
    """Weights of wildly different exponents in one matrix, transposed convolutions, index maps, chains of them."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        exponents = torch.randint(-40, 40, shape, generator=random)
        return torch.ldexp(torch.randn(*shape, generator=random, dtype=torch.float64), exponents)

    conv = Conv(normal(2, 1, 2, 2), (1, 2, 3), (1, 1), ((1, 0), (0, 1)), (1, 1))
    index = torch.tensor([0, -1, 3, 3, 5, 1])
    operators = (
        Dense(normal(6, 6) * scale),
        Chain((Select(index, 6), Diagonal(normal(6)))),
        Adjoint(Select(index, 6)),
        conv,
        Adjoint(conv),
        Adjoint(Chain((Dense(normal(5, 6)), Select(torch.tensor([4, 0, 0, 2, 1, -1]), 5)))),
    )
    graph = stack(*operators, bias=0.1)
    assert exact_outputs(graph, x) == written_out(graph, x)


def test_long_sums_stay_exact():
    """The sum that float64 loses: 2^60 + 1 - 2^60, among 2^14 terms of one sign."""
    weight = torch.ones(1, 1 << 14, dtype=torch.float64)
    weight[0, 0], weight[0, 1] = 2.0**60, -(2.0**60)
    x = [Fraction(1)] * (1 << 14)
    assert exact_outputs(stack(Dense(weight)), x) == [Fraction((1 << 14) - 2)]


def test_what_was_rounded_or_is_smooth_is_not_exactly_known():
    unit = torch.ones(1, 1, dtype=torch.float64)
    assert not exactly_known(stack(Dense(unit, 1, unit)))
    assert not exactly_known(stack(Chain((Diagonal(unit[0]), Diagonal(unit[0], unit[0])))))
    assert not exactly_known(stack(Adjoint(Dense(unit, 1, unit))))
    assert not exactly_known(affine(1.0, rounded=True))
    assert exactly_known(stack(Dense(unit))) and multiplications(stack(Dense(unit))) == 2
    for kind in ("sigmoid", "tanh"):
        assert not exactly_known(random_graph(0, kind))


# ---- one pass in float64


def unsafe_set(seed: int, graph: Graph, exact: bool) -> UnsafeSet:
    """Rows on outputs and inputs; with `exact` thirds, which no float is."""
    random = np.random.default_rng(seed)
    rows, on_input = random.normal(size=(3, graph.output_size)), random.normal(size=(3, graph.input_size))
    constants = random.normal(size=3)
    if not exact:
        return UnsafeSet(rows, constants, on_input)
    meaning = tuple(
        Row(
            {j: Fraction(float(a)) / 3 for j, a in enumerate(row)},
            Fraction(float(c)) / 3,
            on_input={j: Fraction(float(a)) / 3 for j, a in enumerate(of_input)},
        )
        for row, c, of_input in zip(rows, constants, on_input, strict=True)
    )
    near = [
        (
            [float(row.terms[j]) for j in range(graph.output_size)],
            float(row.constant),
            [float(row.on_input[j]) for j in range(graph.input_size)],
        )
        for row in meaning
    ]
    a, c, b = (np.array(part) for part in zip(*near, strict=True))
    return UnsafeSet(a, c, b, exact=meaning)


def numbers(x: list[Fraction]) -> Numbers:
    return Numbers(np.array([float(v) for v in x]), {i: v for i, v in enumerate(x) if Fraction(float(v)) != v})


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kind", PIECEWISE)
def test_enclosures_at_a_point_hold_the_exact_value_and_are_tight(kind, exact):
    for seed in range(8):
        graph = small(seed, kind)
        x, unsafe = point(seed, graph), unsafe_set(seed, graph, exact)
        y = written_out(graph, x)
        least, most = AtPoint(graph).rows(numbers(x), unsafe)
        for row, low, high in zip(unsafe.meaning, least, most, strict=True):
            assert Fraction(low) <= row.value(y, x) <= Fraction(high)
            assert high - low < 1e-11


@pytest.mark.parametrize("kind", KINDS)
def test_enclosures_hold_what_float64_computes(kind):
    """Smooth activations have no exact value; float64 is within a hair of the true one."""
    for seed in range(4):
        graph = small(seed, kind)
        x, unsafe = point(seed, graph), unsafe_set(seed, graph, False)
        near = numbers(x).near
        value = unsafe.rows @ graph(torch.from_numpy(near)).numpy() + unsafe.constants + unsafe.on_input @ near
        least, most = AtPoint(graph).rows(numbers(x), unsafe)
        assert (least <= value + 1e-13).all() and (value - 1e-13 <= most).all() and (most - least < 1e-11).all()


def cancelling(size: float, left: float) -> Graph:
    """y = (size x + left x) - size x, in two layers: what float64 makes of `left` is noise for a large size."""
    first = Dense(torch.tensor([[size, left, 0.0], [0.0, 0.0, size]], dtype=torch.float64))
    nodes = (
        Input(3),
        Affine((0,), (first,), torch.zeros(2, dtype=torch.float64)),
        Activation((1,), ReLU(), 2),
        Affine((2,), (Dense(torch.tensor([[1.0, -1.0]], dtype=torch.float64)),), torch.zeros(1, dtype=torch.float64)),
    )
    return Graph(nodes, (1, 3), (1, 1))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 70), st.sampled_from([-1.0, 0.0, 1.0]), st.sampled_from(["0.1", "1", "0.3", "1e-9"]), st.booleans()
)
def test_signs_are_those_of_exact_arithmetic(power, left, text, strict):
    """Float64 alone says 0 or worse where 2^power swallows the summand; the judge never errs, and always knows."""
    graph, x = cancelling(2.0**power, left), [Fraction(1), Fraction(text), Fraction(1)]
    unsafe = UnsafeSet(np.ones((1, 1)), np.zeros(1), exact=(Row({0: Fraction(1)}, Fraction(0), strict),))
    answer = OverReals(graph).judge(numbers(x), unsafe)
    value = written_out(graph, x)[0]
    assert value == Fraction(left) * Fraction(text)
    assert answer.unsafe is (value < 0 or (value == 0 and not strict))
    assert Fraction(answer.least) <= value <= Fraction(answer.most)


def test_beyond_exact_arithmetic_what_cannot_be_told_is_not_told():
    x = numbers([Fraction(1), Fraction("0.1"), Fraction(1)])
    unsafe = UnsafeSet(np.ones((1, 1)), np.zeros(1))
    assert OverReals(cancelling(2.0**60, 1.0), products=0).judge(x, unsafe).unsafe is None
    assert OverReals(cancelling(2.0**60, -1.0), products=0).judge(x, unsafe).unsafe is None
    assert OverReals(cancelling(2.0, -1.0), products=0).judge(x, unsafe).unsafe is True
    assert OverReals(cancelling(2.0, 1.0), products=0).judge(x, unsafe).unsafe is False


def deep(layers: int, width: int = 40) -> Graph:
    """Random layers that keep the size of values: intervals grow by sqrt(width) or so in each."""
    source, nodes, inputs = torch.Generator().manual_seed(0), [Input(width)], width
    for _ in range(layers):
        weight = (torch.randn(width, inputs, generator=source) * (2 / inputs) ** 0.5).double()
        nodes.append(Affine((len(nodes) - 1,), (Dense(weight),), torch.zeros(width, dtype=torch.float64)))
        nodes.append(Activation((len(nodes) - 1,), ReLU(), width))
    nodes.append(Affine((len(nodes) - 1,), (Dense(weight[:2]),), torch.zeros(2, dtype=torch.float64)))
    return Graph(tuple(nodes), (1, width), (1, 2))


def test_deep_networks_are_judged_by_measured_ranges():
    """After 25 layers intervals decide nothing; measured ranges do, and agree with exact arithmetic."""
    graph = deep(25)
    x = [Fraction(f"{v:.4f}") for v in np.random.default_rng(0).random(40)]
    y = exact_outputs(graph, x)
    every = UnsafeSet(np.eye(2), np.zeros(2))
    least, most = AtPoint(graph).rows(numbers(x), every)
    assert (least < -1).all() and (most > 1).all()
    least, most = AtPoint(graph).rows(numbers(x), every, measured=True)
    assert all(Fraction(low) <= v <= Fraction(high) for low, v, high in zip(least, y, most, strict=True))
    assert (most - least < 1e-11).all()
    for limit, measured in ((10**9, False), (0, True)):
        for shift in (-1e-9, 1e-9):
            unsafe = UnsafeSet(np.array([[1.0, 0.0]]), np.array([-float(y[0]) + shift]))
            answer = OverReals(graph, products=limit).judge(numbers(x), unsafe)
            assert answer.unsafe is (shift < 0) and answer.measured is measured


@pytest.mark.parametrize("kind", PIECEWISE)
def test_measured_ranges_hold_exact_values(kind):
    for seed in range(6):
        graph = small(seed, kind)
        x, unsafe = point(seed, graph), unsafe_set(seed, graph, True)
        y = written_out(graph, x)
        least, most = AtPoint(graph).rows(numbers(x), unsafe, measured=True)
        for row, low, high in zip(unsafe.meaning, least, most, strict=True):
            assert Fraction(low) <= row.value(y, x) <= Fraction(high)


@pytest.mark.parametrize("power", [54, 60, 80])
def test_measured_ranges_see_cancellation(power):
    """The neuron relu(2^power x - 2^power x' + 1/2) is noise to float64, whatever comes after it."""
    first = Dense(torch.tensor([[2.0**power, -(2.0**power), 0.5]], dtype=torch.float64))
    unit = Dense(torch.ones(1, 1, dtype=torch.float64))
    nodes: list = [Input(3), Affine((0,), (first,), torch.zeros(1, dtype=torch.float64))]
    for _ in range(4):
        nodes.append(Activation((len(nodes) - 1,), ReLU(), 1))
        nodes.append(Affine((len(nodes) - 1,), (unit,), torch.zeros(1, dtype=torch.float64)))
    graph = Graph(tuple(nodes), (1, 3), (1, 1))
    x = numbers([Fraction(1, 3), Fraction(1, 3), Fraction(1)])
    least, most = AtPoint(graph).rows(x, UnsafeSet(np.ones((1, 1)), np.zeros(1)), measured=True)
    assert least[0] <= 0.5 <= most[0] and most[0] - least[0] > 0.5


def affine(*biases: float, rounded: bool = False) -> Graph:
    """y = x + the biases, one layer for each; where they were rounded, by up to 2^-36."""
    doubt = torch.full((1,), 2.0**-36, dtype=torch.float64) if rounded else None
    unit = Dense(torch.ones(1, 1, dtype=torch.float64))
    nodes = [
        Affine((i,), (unit,), torch.tensor([bias], dtype=torch.float64), rounded=rounded, doubt=doubt)
        for i, bias in enumerate(biases)
    ]
    return Graph((Input(1), *nodes), (1, 1), (1, 1))


def test_what_fusing_rounded_is_counted_and_undone():
    """Within what a fused bias is in doubt by, the network as written decides."""
    written, fused, x = affine(1.0, -(2.0**-42)), affine(1.0, rounded=True), Numbers(np.zeros(1))
    unsafe = UnsafeSet(np.array([[-1.0]]), np.array([1.0 - 2.0**-44]))  # where y >= 1 - 2^-44
    assert OverReals(fused).judge(x, unsafe).unsafe is None
    assert OverReals(affine(1.0), lambda: written).judge(x, unsafe).unsafe is True  # nothing was rounded
    assert OverReals(fused, lambda: written).judge(x, unsafe).unsafe is False
    assert OverReals(fused, lambda: affine(1.0, 2.0**-42)).judge(x, unsafe).unsafe is True


def test_a_row_of_zeros_and_no_rows():
    graph = cancelling(1.0, 1.0)
    x = Numbers(np.ones(3))
    assert OverReals(graph).judge(x, UnsafeSet(np.zeros((0, 1)), np.zeros(0))).unsafe is True
    assert OverReals(graph).judge(x, UnsafeSet(np.zeros((1, 1)), np.zeros(1))).unsafe is True
    strictly = UnsafeSet(np.zeros((1, 1)), np.zeros(1), exact=(Row({}, Fraction(0), strict=True),))
    assert OverReals(graph).judge(x, strictly).unsafe is False
