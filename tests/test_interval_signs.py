"""Intervals keep exact zeros and signs, and hold: against interval arithmetic in fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from networks import random_graph

from partita.kernels.rounding import gamma
from partita.problems.network.activation import LeakyReLU, ReLU
from partita.problems.network.affine import Adjoint, Chain, Conv, Dense, Diagonal, Identity, Select
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.network.matrix import matrix
from partita.problems.network.product import product_interval
from partita.problems.network.smooth import Tanh
from partita.relaxations.linear.ibp import interval_root, rows_below
from partita.relaxations.linear.interval import affine_interval, interval_bounds
from partita.relaxations.linear.rounding import Rounding
from partita.relaxations.linear.signs import counts, signs_of
from partita.relaxations.lp.boxes import affine_box
from partita.relaxations.types import Rows

DTYPES = (torch.float32, torch.float64)
F64 = torch.float64


def one_node(operators, bias, sizes=None) -> Graph:
    """A network that is one affine node of the input."""
    node = Affine((0,) * len(operators), tuple(operators), bias, "y")
    return Graph((Input(operators[0].n_in), node), (1, operators[0].n_in), (1, len(bias)))


def exact_image(weights, bias, lower, upper):
    """Ends of sum W x + b over the box, and whether no term is negative, positive; Fractions."""
    low, high, below, above = [], [], [], []
    for i, b in enumerate(bias):
        ends = [Fraction(b)], [Fraction(b)]
        for weight in weights:
            for w, l, u in zip(weight[i], lower, upper, strict=True):
                products = sorted((Fraction(w) * Fraction(l), Fraction(w) * Fraction(u)))
                ends[0].append(products[0])
                ends[1].append(products[1])
        low.append(sum(ends[0]))
        high.append(sum(ends[1]))
        below.append(all(t >= 0 for t in ends[0]))
        above.append(all(t <= 0 for t in ends[1]))
    return low, high, below, above


def awkward(random, shape, dtype, tiny: bool) -> np.ndarray:
    """Numbers among which there are zeros, equal ones, opposite ones, large and small ones, and below the normal."""
    values = random.choice([0.0, 0.0, 1.0, -1.0, 0.1, 3.0, 1e-3, 1e4, -1e4, -0.1, 1 / 3], size=shape)
    values = np.where(random.random(shape) < 0.3, random.normal(size=shape), values)
    if tiny:
        small = random.choice([1e-38, 1e-42, -1e-44, 1e-50, -1e-60, 1e-300, -1e-310], size=shape)
        values = np.where(random.random(shape) < 0.3, small, values)
    return values.astype(np.float32).astype(np.float64) if dtype is torch.float32 and not tiny else values


@pytest.mark.parametrize("tiny", (False, True))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_affine_intervals_hold_and_keep_signs(dtype, tiny):
    signed = 0
    for seed in range(150):
        random = np.random.default_rng(seed)
        n, m, count = random.integers(1, 7), random.integers(1, 6), random.integers(1, 3)
        weights = [awkward(random, (m, n), dtype, tiny) for _ in range(count)]
        if seed % 3 == 0:
            weights = [np.abs(w) * random.choice([-1, 1], size=(m, 1)) for w in weights]
        bias = awkward(random, m, dtype, tiny) * (random.random() < 0.5)
        graph = one_node([Dense(torch.tensor(w)) for w in weights], torch.tensor(bias))
        ends = np.sort(np.stack([awkward(random, n, torch.float32, False) for _ in range(2)]), 0)
        lower, upper = torch.tensor(ends).to(dtype)
        if seed % 2:
            lower = lower.clamp(min=0)
            upper = torch.maximum(lower, upper)
        low, high = affine_interval(Rounding(graph.to(dtype)), 1, [(lower[None], upper[None])] * count)
        real = exact_image(weights, bias, lower.tolist(), upper.tolist())
        largest = torch.maximum(lower.abs(), upper.abs()).double().numpy()
        size = sum(np.abs(w) @ largest for w in weights) + np.abs(bias)
        for i in range(m):
            l, h = float(low[0, i]), float(high[0, i])
            assert Fraction(l) <= real[0][i] and Fraction(h) >= real[1][i]
            lost = 1e9 if tiny and dtype is torch.float32 else 1e3  # weights that float32 cannot hold have a wide scale
            room = 12 * gamma(n + m + 6, dtype) * size[i] + lost * torch.finfo(dtype).tiny * (1 + np.abs(weights).sum())
            assert l >= float(real[0][i]) - room and h <= float(real[1][i]) + room
            if not tiny or dtype is F64:  # a weight that float32 cannot hold has no sign
                assert l >= 0 or not real[2][i]
                assert h <= 0 or not real[3][i]
                signed += real[2][i] + real[3][i]
        if dtype is F64:
            boxed = affine_box(graph.nodes[1], [(lower, upper)] * count)
            for i in range(m):
                assert Fraction(float(boxed[0][i])) <= real[0][i] and Fraction(float(boxed[1][i])) >= real[1][i]
                assert (boxed[0][i] >= 0 or not real[2][i]) and (boxed[1][i] <= 0 or not real[3][i])
    assert signed > 100 or (tiny and dtype is torch.float32)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_last_sum_beside_a_large_bias_is_charged(dtype):
    """What is lost where terms of size one meet a bias of a million, and each other over several operators."""
    random = np.random.default_rng(0)
    for _ in range(40):
        count = random.integers(1, 4)
        as_stored = lambda values: torch.tensor(values).to(dtype).double()  # noqa: E731
        weights = [as_stored(random.normal(size=(3, 2))) for _ in range(count)]
        bias = as_stored(1e6 * random.normal(size=3))
        graph = one_node([Dense(w) for w in weights], bias).to(dtype)
        x = as_stored(random.normal(size=2))
        low, high = affine_interval(Rounding(graph), 1, [(x[None].to(dtype), x[None].to(dtype))] * count)
        real = exact_image([w.tolist() for w in weights], bias.tolist(), x.tolist(), x.tolist())[0]
        for i in range(3):
            assert Fraction(low[0, i].item()) <= real[i] <= Fraction(high[0, i].item())


OPERATORS = {
    "dense": Dense(torch.tensor([[1.0, -2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4]], dtype=F64)),
    "repeat": Dense(torch.tensor([[1.0, -2.0], [0.0, 3.0]], dtype=F64), repeat=2),
    "diagonal": Diagonal(torch.tensor([0.1, -0.1, 0.0, 3.0], dtype=F64)),
    "identity": Identity(4),
    "select": Select(torch.tensor([3, -1, 0, 0, 1]), 4),
    "scatter": Adjoint(Select(torch.tensor([1, 1, -1, 0]), 2)),
    "conv": Conv(
        torch.tensor([[[[0.1, 0.3], [0.0, 0.7]]], [[[-1.0, 0.0], [0.2, 0.0]]]], dtype=F64),
        (1, 2, 2),
        (1, 1),
        ((1, 0), (0, 1)),
        (1, 1),
    ),
    "transposed": Adjoint(Conv(torch.tensor([[[0.1, -0.3]]], dtype=F64), (1, 5), (1,), ((0, 0),), (1,))),
    "chain": Chain(
        (
            Diagonal(torch.tensor([1.0, -1.0, 0.0, 2.0], dtype=F64)),
            Dense(torch.tensor([[1.0, 2.0, -3.0, 0.0], [-1.0, 0.5, 0.5, -0.5]], dtype=F64)),
        )
    ),
    "folded": Dense(
        torch.tensor([[1.0, 1e-17, 0.0, 0.0]], dtype=F64), 1, torch.tensor([[1.0, 1.0, 1.0, 0.0]], dtype=F64)
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_counts_of_terms(name):
    """Against the matrix's entries; an entry within its own rounding counts on both sides."""
    operator = OPERATORS[name]
    dense = operator.apply(torch.eye(operator.n_in, dtype=F64)).mT
    sign = dense.sign()
    if name == "folded":
        unknown = torch.tensor([[False, True, True, False]])
    else:
        unknown = torch.zeros_like(dense, dtype=torch.bool)
    for seed in range(20):
        random = np.random.default_rng(seed)
        ends = np.sort(random.choice([-np.inf, -1.0, 0.0, 0.0, 5e-324, 1.0, np.inf], size=(2, operator.n_in)), 0)
        lower, upper = torch.tensor(ends)
        lower, upper = lower.clamp(max=1e300), upper.clamp(min=-1e300)
        below, above = counts(signs_of(operator), lower[None], upper[None])
        for i in range(operator.n_out):
            negative = (((sign[i] > 0) | unknown[i]) & (lower < 0)) | (((sign[i] < 0) | unknown[i]) & (upper > 0))
            positive = (((sign[i] > 0) | unknown[i]) & (upper > 0)) | (((sign[i] < 0) | unknown[i]) & (lower < 0))
            assert bool(below[0, i] > 0) == bool(negative.any()) and bool(above[0, i] > 0) == bool(positive.any())


def test_paths_that_cancel_count_on_both_sides():
    """x_0 taken twice with weights 1 and -1: interval arithmetic does not know that they meet."""
    chain = Chain((Select(torch.tensor([0, 0]), 1), Dense(torch.tensor([[1.0, -1.0]], dtype=F64))))
    below, above = counts(signs_of(chain), torch.zeros(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64))
    assert below.item() > 0 and above.item() > 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zero_times_infinity_is_zero(dtype):
    weight = torch.tensor([[0.0, 1.0], [2.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], dtype=F64)
    bias = torch.tensor([0.0, 0.0, 0.0, 3.0, 1.0], dtype=F64)
    rounding = Rounding(one_node([Dense(weight)], bias).to(dtype))
    inf = torch.inf
    lower, upper = torch.tensor([[0.0, -1.0]], dtype=dtype), torch.tensor([[inf, 2.0]], dtype=dtype)
    low, high = affine_interval(rounding, 1, [(lower, upper)])
    near = torch.tensor([[-1, 0, -inf, 3, 0]], dtype=dtype), torch.tensor([[2, inf, 0, 3, inf]], dtype=dtype)
    torch.testing.assert_close(low, near[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(high, near[1], rtol=1e-5, atol=1e-5)
    assert low[0, 1] == 0 and high[0, 2] == 0
    low, high = affine_interval(rounding, 1, [(torch.full_like(lower, torch.nan), upper)])
    assert low[0, 0] == -inf and high[0, 1] == inf and abs(low[0, 3] - 3) < 1e-5 and not low.isnan().any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dead_inputs_give_exact_zeros(dtype):
    """All terms 0, or of one sign with zero ends, through layers; a row of differences of rounded numbers is not."""
    weight = torch.tensor([[0.1, 0.2, 0.3], [-0.1, 0.0, -0.7], [0.0, 0.0, 0.0], [5.0, -5.0, 0.0]], dtype=F64)
    graph = Graph(
        (
            Input(3),
            Affine((0,), (Dense(torch.eye(3, dtype=F64)),), torch.zeros(3, dtype=F64)),
            Activation((1,), ReLU(), 3),
            Affine((2,), (Dense(weight),), torch.zeros(4, dtype=F64)),
            Activation((3,), LeakyReLU(0.125), 4),
            Affine((4,), (Dense(torch.tensor([[1.0, -1.0, 0.0, 0.0]], dtype=F64)),), torch.zeros(1, dtype=F64)),
        ),
        (1, 3),
        (1, 1),
    )
    rounding = Rounding(graph.to(dtype))
    none = torch.full((1, 7), torch.inf, dtype=dtype)
    lower, upper = torch.tensor([[-1.0, -3.0, -1 / 3]], dtype=dtype), torch.tensor([[1 / 3, -1.0, 0.7]], dtype=dtype)
    bounds = interval_bounds(rounding, lower, upper, -none, none)
    assert (bounds[2][0] == 0).all() and bounds[2][1][0, 1] == 0
    low, high = bounds[3]
    assert low[0, 0] == 0 and high[0, 1] == 0 and low[0, 2] == 0 and high[0, 2] == 0 and low[0, 3] == 0
    assert bounds[4][0][0, 0] == 0 and bounds[4][1][0, 1] == 0
    assert bounds[5][0][0, 0] == 0


def test_images_keep_signs_below_the_normal_numbers():
    """A leaky neuron's negative value stays negative where the product with its slope would round to 0."""
    small = torch.tensor([-1e-45, -1e-40, 0.0, 1e-45], dtype=torch.float32)
    low, high = LeakyReLU(0.01).interval(small, small)
    assert (low[:2] < 0).all() and (high[:2] <= 0).all() and (low[2:] >= 0).all() and (high[2:] >= 0).all()
    for dtype in DTYPES:
        zero = torch.zeros(1, dtype=dtype)
        assert Tanh().interval(zero, zero + 1)[0] == 0 and Tanh().interval(zero - 1, zero)[1] == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_products_hold_and_keep_signs(dtype):
    values = [-1e-30, -2.0, -1 / 3, 0.0, 1e-30, 0.1, 7.0, 1e15]
    random = np.random.default_rng(0)
    for _ in range(200):
        (a, b), (c, d) = (torch.tensor(np.sort(random.choice(values, 2)))[:, None].to(dtype) for _ in range(2))
        low, high = product_interval((a, b), (c, d))
        corners = [Fraction(float(x)) * Fraction(float(y)) for x in (a, b) for y in (c, d)]
        assert Fraction(float(low)) <= min(corners) and Fraction(float(high)) >= max(corners)
        assert (low >= 0 or min(corners) < 0) and (high <= 0 or max(corners) > 0)
    inf, zero, one = torch.full((1,), torch.inf), torch.zeros(1), torch.ones(1)
    low, high = product_interval((zero, one), (zero, inf))
    assert low == 0 and high == torch.inf
    low, high = product_interval((zero, zero), (-inf, inf))
    assert abs(low) < 1e-30 and abs(high) < 1e-30


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_numbers_that_float32_cannot_hold_keep_their_sign(dtype):
    """y = -1e-50 x and y = relu(x) - 1e-50: never >= 0, in whatever precision."""
    for operator, bias in (
        (Dense(torch.tensor([[-1e-50]], dtype=F64)), 0.0),
        (Dense(torch.zeros(1, 1, dtype=F64)), -1e-50),
    ):
        rounding = Rounding(one_node([operator], torch.tensor([bias], dtype=F64)).to(dtype))
        one = torch.ones(1, 1, dtype=dtype)
        assert affine_interval(rounding, 1, [(0 * one, one)])[0].item() < 0


def network(last, bias) -> Graph:
    """relu(x) of three inputs, then the affine map `last`, `bias`."""
    return Graph(
        (
            Input(3),
            Affine((0,), (Identity(3),), torch.zeros(3, dtype=F64)),
            Activation((1,), ReLU(), 3),
            Affine((2,), (Dense(torch.tensor(last, dtype=F64)),), torch.tensor(bias, dtype=F64)),
        ),
        (1, 3),
        (1, len(bias)),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("last", "bias", "row", "constant", "nonnegative"),
    [
        ([[1.0, 0, 0]], [0.0], [1.0], 0.0, True),
        ([[0.1, 0.7, 0.3]], [0.0], [1.0], 0.0, True),
        ([[0.1, 0.7, 0.3]], [0.0], [0.3], 0.0, True),
        ([[-0.1, 0.0, -0.3]], [0.0], [-1 / 3], 0.0, True),
        ([[0.0, 0, 0], [0.1, 0.0, 0.2]], [0.0, 0.0], [-1.0, 1.0], 0.0, True),
        ([[0.1, 0, 0], [0.1, 0.5, 0.2]], [0.0, 0.0], [0.3, 0.7], 0.0, True),
        ([[0.1, 0.7, 0.3]], [-1e-30], [1.0], 0.0, False),
        ([[0.1, 0.7, 0.3]], [0.0], [1.0], -1e-30, False),
        ([[0.1, -1e-20, 0.3]], [0.0], [1.0], 0.0, False),
        ([[0.1, 0.0, 0.0], [0.1 * (1 + 2**-30), 0, 0]], [0.0, 0.0], [1.0, -1.0], 0.0, False),
        ([[0.1, 0.7, 0.3]], [0.0], [-1.0], 0.0, False),
    ],
)  # fmt: skip
def test_rows_are_nonnegative_where_signs_say_so(dtype, last, bias, row, constant, nonnegative):
    graph = network(last, bias)
    lower, upper = torch.tensor([-1.0, 0.0, -1 / 3], dtype=F64), torch.tensor([1 / 3, 1.0, 0.7], dtype=F64)
    relaxation, pieces = interval_root(graph.to(dtype), lower, upper)
    rows = Rows(torch.tensor([[row]], dtype=dtype), torch.tensor([[constant]], dtype=dtype))
    bounds = relaxation.nodes(pieces)
    least, slack = rows_below(relaxation.linear.rounding, relaxation.linear.scales, bounds, rows)
    assert bool(least - slack >= 0) == nonnegative
    assert bool(relaxation.bound(pieces, rows)[0].lower >= 0) == nonnegative
    on_input = torch.tensor([[[0.0, 1.0, 0.0]]], dtype=dtype)
    for sign in (1, -1):
        rows = Rows(rows.coefficients, rows.constants, sign * on_input)
        assert bool(relaxation.bound(pieces, rows)[0].lower >= 0) == (nonnegative and sign > 0)


@pytest.mark.parametrize("kind", ("mlp", "leaky", "residual", "conv", "maxpool", "sigmoid", "tanh"))
def test_rows_hold_in_fractions(kind):
    """Rows over the boxes of the output's inputs, with zeros among coefficients and bounds."""
    for seed in range(8):
        random = np.random.default_rng(seed)
        graph = random_graph(seed, kind, inputs=4, width=8, outputs=3)
        centre = random.normal(size=4).astype(np.float32).astype(float)
        for dtype in DTYPES:
            relaxation, pieces = interval_root(graph.to(dtype), torch.tensor(centre - 0.3), torch.tensor(centre + 0.3))
            coefficients = torch.tensor(awkward(random, (1, 4, 3), torch.float32, False)).to(dtype)
            constants = torch.tensor(awkward(random, (1, 4), torch.float32, False)).to(dtype)
            bounds = relaxation.nodes(pieces)
            least, slack = rows_below(
                relaxation.linear.rounding, relaxation.linear.scales, bounds, Rows(coefficients, constants)
            )
            node = graph.nodes[-1]
            for s in range(4):
                c = [Fraction(v) for v in coefficients[0, s].tolist()]
                total = Fraction(float(constants[0, s])) + sum(
                    a * Fraction(float(b)) for a, b in zip(c, node.bias, strict=True)
                )
                for source, operator in zip(node.inputs, node.operators, strict=True):
                    entries = matrix(operator).tolist()
                    for j, (l, u) in enumerate(zip(*(side[0].tolist() for side in bounds[source]), strict=True)):
                        f = sum(a * Fraction(entries[k][j]) for k, a in enumerate(c))
                        total += min(f * Fraction(l), f * Fraction(u))
                assert Fraction(float(least[0, s] - slack[0, s])) <= total


def test_entries_within_their_rounding_have_no_sign():
    """Off by as many roundings as their sums have terms; and sums that are too long to be counted have no signs."""
    unit = 2.0**-53
    scale = torch.ones(1, 4, dtype=F64)
    operator = Dense(torch.tensor([[3 * unit, 5 * unit, -3 * unit, -5 * unit]], dtype=F64), 1, scale)
    assert operator.terms == 4
    signs = signs_of(operator)
    assert signs.sign.weight.tolist() == [[0, 1, 0, -1]] and signs.some.weight.tolist() == [[1, 1, 1, 1]]
    assert signs_of(Dense(torch.ones(1, 1 << 20, dtype=torch.float32))) is not None
    assert signs_of(Dense(torch.ones(1, (1 << 20) + 1, dtype=torch.float32))) is None
