"""A-priori bounds of rounding, and intervals of graphs under construction, against exact fractions."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch

from partita.kernels.proof_constants import SLACK
from partita.problems.network.activation import LeakyReLU, ReLU
from partita.problems.network.affine import Adjoint, Chain, Conv, Dense, Diagonal, Identity, Select
from partita.problems.network.apriori import EXACT, Precision, factor, given, inner_terms, judged, rounded
from partita.problems.network.graph import Activation, Affine, Input, Multivariate
from partita.problems.network.product import Product
from partita.problems.network.ranges import Ranges
from partita.problems.network.smooth import Sigmoid, Tanh

SINGLE, DOUBLE = Precision.of(torch.float32), Precision.of(torch.float64)


def column(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def affine(weight, bias, inputs: tuple[int, ...] = (0,)) -> Affine:
    weight = torch.tensor(weight, dtype=torch.float64)
    return Affine(inputs, (Dense(weight),), torch.tensor(bias, dtype=torch.float64))


def exact(weight: np.ndarray, bias: np.ndarray, x: np.ndarray) -> list[Fraction]:
    """W x + b."""
    return [
        sum((Fraction(float(a)) * Fraction(float(v)) for a, v in zip(row, x, strict=True)), Fraction(float(b)))
        for row, b in zip(weight, bias, strict=True)
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("terms", [1, 3, 50, 3000])
def test_any_order_of_summation_is_within_the_bound(dtype: type, terms: int) -> None:
    """Cancelling sums forwards, backwards, sorted and pairwise in `dtype`, against fractions."""
    source = np.random.default_rng(terms)
    precision = SINGLE if dtype is np.float32 else DOUBLE
    for _ in range(4):
        weight = (source.normal(size=(1, terms)) * 10.0 ** source.integers(-6, 6, terms)).astype(dtype)
        bias, x = source.normal(size=1).astype(dtype), source.normal(size=terms).astype(dtype)
        if terms > 1:  # what is left of the sum is rounding alone
            weight[0, -1], x[-1] = dtype(1), -dtype(weight[0, :-1].astype(float) @ x[:-1].astype(float))
        node = affine(weight.astype(float).tolist(), bias.astype(float).tolist())
        found = judged([Input(terms), node], [1], {0: given(torch.from_numpy(x[None].astype(float)))}, precision)[1]
        (true,) = exact(weight, bias, x)
        products = (weight[0] * x).astype(dtype)
        for order in (products, products[::-1], np.sort(products), products[np.argsort(-np.abs(products))]):
            total = dtype(bias[0])
            for p in order:
                total = dtype(total + p)
            assert abs(Fraction(float(total)) - Fraction(float(found.value))) <= Fraction(float(found.error))
        assert abs(true - Fraction(float(found.value))) <= Fraction(float(found.error))
        size = float(np.abs(weight[0].astype(float)) @ np.abs(x.astype(float)) + abs(float(bias[0])))
        assert float(found.size) == pytest.approx(size)
        unit = np.finfo(dtype).eps / 2 + 2.0**-53
        assert float(found.error) <= 1.1 * (terms + 1 + SLACK) * unit * size + 1e-30  # and no wider than that


def test_the_number_of_terms_is_the_longest_inner_product_of_apply() -> None:
    conv = Conv(torch.zeros(6, 2, 3, 2, dtype=torch.float64), (4, 5, 5), (1, 1), ((0, 0), (0, 0)), (1, 1), 2)
    dense, select = Dense(torch.zeros(3, 7, dtype=torch.float64), 2), Select(torch.tensor([0, 0, 1, 0]), 2)
    assert inner_terms(conv) == 12
    assert inner_terms(Adjoint(conv)) == 3 * 2 * 3
    assert inner_terms(dense) == 7
    assert inner_terms(select) == inner_terms(Identity(3)) == inner_terms(Diagonal(torch.ones(3))) == 1
    assert inner_terms(Adjoint(select)) == 3
    assert inner_terms(Chain((Select(torch.tensor([0] * 14), 2), dense))) == 8


def test_weights_that_are_roundings_away_count_as_far_as_their_scale_says() -> None:
    """Of a chain of three roundings the stored factor may be three units off: the bound is three times as wide."""
    one = torch.ones(1, dtype=torch.float64)
    plain = Affine((0,), (Diagonal(one),), 0 * one)
    folded = Affine((0,), (Diagonal(one, 3 * one),), 0 * one)
    a, b = (judged([Input(1), n], [1], {0: given(column(5.0))}, EXACT)[1].error.item() for n in (plain, folded))
    assert b == pytest.approx(3 * a)


def test_errors_are_carried_along_and_relus_that_are_off_swallow_them() -> None:
    nodes = [
        Input(2),
        affine([[1, 1], [1, -1]], [-1e30, 3.0]),
        Activation((1,), ReLU(), 2),
        affine([[2, 5]], [0.0], (2,)),
    ]
    found = judged(nodes, [1, 2, 3], {0: given(column(1.0, 1.0))}, SINGLE)
    assert found[1].error[0, 0] > 1e22 and found[2].error[0, 0] == 0 and found[2].value[0, 0] == 0
    single = found[1].error[0, 1]
    assert 5 * single < found[3].error[0, 0] < 5 * single + 2e-5
    edge = [Input(1), Activation((0,), ReLU(), 1)]  # half of the doubt is beyond the kink
    doubtful = given(column(-1.0))._replace(error=column(1.5))
    assert judged(edge, [1], {0: doubtful}, EXACT)[1].error.item() == pytest.approx(0.5)


def test_a_leaky_relu_rounds_and_a_relu_does_not() -> None:
    for function, rounds in ((ReLU(), False), (LeakyReLU(0.5), True)):
        nodes = [Input(1), Activation((0,), function, 1)]
        for value in (-1.0, 1.0):
            error = judged(nodes, [1], {0: given(column(value))}, SINGLE)[1].error.item()
            assert (error > 1e-8) == rounds and error < 1e-6


@pytest.mark.parametrize(("function", "reference"), [(Sigmoid(), lambda x: 1 / (1 + np.exp(-x))), (Tanh(), np.tanh)])
def test_smooth_functions_move_by_what_their_input_moves(function, reference) -> None:
    nodes = [Input(1), Activation((0,), function, 1)]
    for x in (-20.0, -3.0, 0.0, 0.1, 2.0, 15.0):
        doubtful = given(column(x))._replace(error=column(0.3))
        found = judged(nodes, [1], {0: doubtful}, SINGLE)[1]
        for moved in np.linspace(x - 0.3, x + 0.3, 21):
            assert abs(reference(moved) - found.value.item()) <= found.error.item()
        still = judged(nodes, [1], {0: given(column(x))}, SINGLE)[1]
        assert 0 < still.error.item() < 1e-6


def test_products_and_roundings() -> None:
    nodes = [Input(1), affine([[1]], [2.0]), Multivariate((0, 1), Product(), 1)]
    a, b = given(column(3.0))._replace(error=column(0.25)), given(column(5.0))._replace(error=column(0.5))
    found = judged(nodes, [2], {0: a, 1: b}, EXACT)[2]
    assert found.value.item() == 15
    assert 3.25 * 5.5 - 15 <= found.error.item() <= 3.25 * 5.5 - 15 + 1e-12
    assert rounded(given(column(1.0)), SINGLE).error.item() == pytest.approx(2.0**-24)


def test_doubt_counts_like_terms_and_long_sums_have_no_bound() -> None:
    assert factor(10, Precision.of(torch.float64, 7)) == pytest.approx(factor(17, DOUBLE))
    assert factor(1, EXACT) == pytest.approx((1 + SLACK) * 2.0**-53)
    assert factor(1 << 24, SINGLE) == float("inf")


# --- intervals


def interval(node, lower, upper, more=()) -> tuple[np.ndarray, np.ndarray]:
    nodes = [Input(len(lower)), node, *more]
    ranges = Ranges(*(torch.tensor(side, dtype=torch.float64) for side in (lower, upper)))
    low, high = ranges.of(nodes, len(nodes) - 1)
    return low.numpy(), high.numpy()


def test_the_interval_of_an_affine_node_holds_the_exact_range() -> None:
    """Cancelling weights over wide, thin and point boxes, in fractions; and it is no wider than rounding."""
    source = np.random.default_rng(0)
    for trial in range(300):
        n = int(source.integers(1, 6))
        weight = source.normal(size=(2, n)) * 10.0 ** source.integers(-16, 17, (2, n))
        bias, lower = source.normal(size=2), source.normal(size=n) * 10.0 ** source.integers(-8, 9, n)
        upper = lower + np.abs(source.normal(size=n)) * source.choice([0.0, 1e-15, 1.0, 1e8])
        if trial % 3 == 0 and n > 1:
            weight[:, 0], lower[0] = 1e16, 1.0
            upper[0], weight[:, 1], lower[1], upper[1] = 1.0, -1e16, 1.0, 1.0
        low, high = interval(affine(weight.tolist(), bias.tolist()), lower, upper)
        ends = [exact(np.where(weight > 0, weight, 0), bias, a) for a in (lower, upper)]
        rest = [exact(np.where(weight < 0, weight, 0), 0 * bias, a) for a in (upper, lower)]
        for i in range(2):
            least, most = ends[0][i] + rest[0][i], ends[1][i] + rest[1][i]
            assert Fraction(low[i]) <= least and most <= Fraction(high[i])
            size = float(np.abs(weight[i]) @ np.maximum(np.abs(lower), np.abs(upper)) + abs(bias[i]))
            assert Fraction(high[i]) - most <= Fraction(60 * 2.0**-53 * size) + Fraction(1, 10**300)


def test_the_interval_knows_the_doubt_about_stored_weights() -> None:
    one = torch.ones(1, dtype=torch.float64)
    node = Affine((0,), (Diagonal(one, 1e6 * one),), 0 * one)
    low, high = interval(node, [1.0], [1.0])
    assert low[0] <= 1 - 1e6 * 2.0**-53 and high[0] >= 1 + 1e6 * 2.0**-53


def test_intervals_of_networks_hold_their_values() -> None:
    source = np.random.default_rng(1)
    for _ in range(30):
        sizes = [3, 5, 4]
        nodes: list = [Input(3)]
        for a, b in pairwise(sizes):
            nodes.append(affine(source.normal(size=(b, a)).tolist(), source.normal(size=b).tolist(), (len(nodes) - 1,)))
            function = [ReLU(), LeakyReLU(0.3), Sigmoid(), Tanh()][source.integers(4)]
            nodes.append(Activation((len(nodes) - 1,), function, b))
        nodes.append(Multivariate((len(nodes) - 1, len(nodes) - 1), Product(), sizes[-1]))
        lower = source.normal(size=3)
        upper = lower + np.abs(source.normal(size=3))
        ranges = Ranges(torch.tensor(lower), torch.tensor(upper))
        x = torch.tensor(
            lower + (upper - lower) * np.concatenate([source.random((50, 3)), source.integers(0, 2, (8, 3))])
        )
        found = judged(nodes, range(1, len(nodes)), {0: given(x)}, EXACT)
        for i in range(len(nodes)):
            low, high = ranges.of(nodes, i)
            assert (found[i].value >= low - found[i].error).all() and (found[i].value <= high + found[i].error).all()


def test_what_is_known_otherwise_narrows_and_an_overflow_says_nothing() -> None:
    nodes = [Input(1), affine([[1]], [0.0]), affine([[2]], [0.0], (1,))]
    ranges = Ranges(torch.tensor([-1.0]).double(), torch.tensor([5.0]).double())
    ranges.narrow(nodes, 1, torch.tensor([-9.0]).double(), torch.tensor([2.0]).double())
    low, high = (float(side) for side in ranges.of(nodes, 2))
    assert -2.000001 < low <= -2 and 4 <= high < 4.000001
    low, high = interval(affine([[1e300, -1e300]], [0.0]), [1e200, 1e200], [1e200, 1e200])
    assert not (low > 0).any() and not (high < 0).any()


def test_intervals_of_products_hold_all_four_corners() -> None:
    source = np.random.default_rng(2)
    nodes = [Input(2), Affine((0,), (Select(torch.tensor([0]), 2),), torch.zeros(1).double())]
    nodes += [
        Affine((0,), (Select(torch.tensor([1]), 2),), torch.zeros(1).double()),
        Multivariate((1, 2), Product(), 1),
    ]
    for _ in range(200):
        ends = np.sort(source.normal(size=(2, 2)), 0)
        ranges = Ranges(torch.from_numpy(ends[0]), torch.from_numpy(ends[1]))
        low, high = (side.item() for side in ranges.of(nodes, 3))
        known = [[Fraction(side[0].item()) for side in ranges.of(nodes, i)] for i in (1, 2)]
        corners = [a * b for a in known[0] for b in known[1]]
        assert Fraction(low) <= min(corners) and max(corners) <= Fraction(high)


def test_neighbouring_ends_and_long_sums_are_charged() -> None:
    """The middle of two neighbours is one of them; a sum of many terms may lose as many roundings."""
    source = np.random.default_rng(3)
    for _ in range(100):
        x = source.normal(size=2)
        y = np.nextafter(x, np.inf)
        low, high = interval(affine([[2.0**40, -(2.0**40)]], [0.0]), x, y)
        least = Fraction(2) ** 40 * (Fraction(x[0]) - Fraction(y[1]))
        most = Fraction(2) ** 40 * (Fraction(y[0]) - Fraction(x[1]))
        assert Fraction(low[0]) <= least and most <= Fraction(high[0])
        one = Ranges(torch.tensor(x[:1]), torch.tensor(y[:1]))
        zero = one.of([Input(1), affine([[0.0]], [0.0])], 1)
        assert zero[0] <= 0 <= zero[1]
    low, high = interval(affine([[1.0, -1.0] * 1000], [0.0]), np.ones(2000), np.ones(2000))
    assert high[0] >= 2000 * 2.0**-53 * 2000 and low[0] <= -2000 * 2.0**-53 * 2000


def test_the_longer_half_of_an_interval_counts() -> None:
    """Half of the smallest number is none, so the middle of it and twice it lies at the lower end."""
    least, factor_ = 2.0**-1074, 2.0**1000
    low, high = interval(affine([[factor_]], [0.0]), [least], [2 * least])
    assert low[0] <= factor_ * least and factor_ * (2 * least) <= high[0]


def test_float64_is_never_taken_for_exact_and_every_operator_moves() -> None:
    assert factor(100, EXACT) >= 106 * 2.0**-53 and factor(2, DOUBLE) >= 2 * 8 * 2.0**-53
    identity = (Identity(1), Identity(1))
    node = Affine((0, 1), identity, torch.zeros(1, dtype=torch.float64))
    doubt = given(column(1.0))._replace(error=column(0.25))
    found = judged([Input(1), Input(1), node], [2], {0: doubt, 1: doubt}, EXACT)[2]
    assert 0.5 <= float(found.error) < 0.5001
    negative = Affine((0,), (Diagonal(-torch.ones(1).double()),), torch.zeros(1, dtype=torch.float64))
    assert float(judged([Input(1), negative], [1], {0: given(column(-3.0))}, EXACT)[1].size) == 3
    mixed = affine([[1.0, -1.0]], [0.0])
    assert float(judged([Input(2), mixed], [1], {0: given(column(2.0, 2.0))}, EXACT)[1].size) == 4
