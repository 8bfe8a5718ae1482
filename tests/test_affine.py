"""Operators: the adjoint is the transpose, `absolute` the entrywise absolute value, `magnitude` covers the rounding."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from partita.problems.network.affine import AbstractLinear, Adjoint, Chain, Conv, Dense, Diagonal, Identity, Select
from partita.problems.network.compose import compose, tidy, total
from partita.problems.network.matrix import cost, dense, matrix, one_hot, summing

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def conv(weight, in_shape, stride, padding, dilation, groups=1) -> Conv:
    return Conv(normal(*weight), in_shape, stride, padding, dilation, groups)


OPERATORS: dict[str, AbstractLinear] = {
    "identity": Identity(5),
    "dense": Dense(normal(4, 7)),
    "dense repeated": Dense(normal(3, 5), repeat=4),
    "diagonal": Diagonal(normal(6)),
    "select": Select(torch.tensor([3, 0, 0, 2, 4]), 6),
    "select with zeros": Select(torch.tensor([-1, 2, 2, -1, 0, 2]), 3),
    "conv": conv((3, 2, 3, 3), (2, 7, 6), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "conv with left-over": conv((3, 2, 2, 3), (2, 8, 9), (3, 2), ((0, 0), (0, 0)), (1, 1)),
    "conv odd pads": conv((4, 3, 3, 2), (3, 5, 7), (2, 3), ((2, 0), (0, 1)), (1, 1)),
    "conv dilated": conv((2, 1, 3, 2), (1, 9, 8), (1, 2), ((2, 2), (0, 0)), (2, 3)),
    "conv groups": conv((6, 2, 3, 3), (4, 6, 5), (2, 1), ((1, 0), (2, 1)), (1, 1), 2),
    "conv depthwise": conv((3, 1, 2, 2), (3, 6, 6), (2, 2), ((0, 0), (0, 0)), (1, 1), 3),
    "conv cut": conv((1, 1, 2, 2), (1, 5, 5), (2, 2), ((0, -1), (0, -1)), (1, 1)),
    "conv 1d": conv((4, 2, 3), (2, 11), (2,), ((1, 0),), (2,)),
    "conv 1d groups": conv((4, 1, 3), (2, 8), (3,), ((1, 1),), (1,), 2),
    "transposed conv": Adjoint(conv((3, 2, 3, 2), (2, 8, 7), (2, 3), ((1, 0), (0, 0)), (1, 1))),
    "transposed 1d": Adjoint(conv((2, 3, 4), (3, 9), (2,), ((1, 1),), (1,))),
    "scatter": Adjoint(Select(torch.tensor([3, 0, 0, 2, -1]), 6)),
    "chain": Chain((Select(torch.tensor([3, 0, -1, 2, 4]), 5), Dense(normal(4, 5)), Diagonal(normal(4)))),
}
IDS = list(OPERATORS)


def written_out(a: AbstractLinear) -> torch.Tensor:  # (n_out, n_in)
    return a.apply(torch.eye(a.n_in, dtype=torch.float64)).mT


@pytest.mark.parametrize("name", IDS)
def test_adjoint_is_the_transpose(name: str) -> None:
    a = OPERATORS[name]
    x, y = normal(3, 2, a.n_in), normal(3, 2, a.n_out)
    assert a.apply(x).shape == y.shape and a.adjoint(y).shape == x.shape
    torch.testing.assert_close((a.apply(x) * y).sum(-1), (x * a.adjoint(y)).sum(-1))
    torch.testing.assert_close(AbstractLinear.adjoint(a, y), a.adjoint(y))  # the one that vjp gives


@pytest.mark.parametrize("name", IDS)
def test_absolute_is_the_entrywise_absolute_value(name: str) -> None:
    a = OPERATORS[name]
    torch.testing.assert_close(written_out(a.absolute()), written_out(a).abs())


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_rows_in_the_dtype_that_is_asked_for(name: str, dtype: torch.dtype) -> None:
    a = OPERATORS[name].to(dtype, "cpu")
    index = torch.tensor([a.n_out - 1, 0])
    rows = a.rows(index, dtype)
    assert rows.dtype == dtype
    torch.testing.assert_close(rows.double(), written_out(OPERATORS[name])[index], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", IDS)
def test_terms_is_the_longest_inner_product(name: str) -> None:
    a = OPERATORS[name]
    used = written_out(a) != 0
    assert a.terms >= max(used.sum(0).max(), used.sum(1).max())


@pytest.mark.parametrize("name", IDS)
def test_matrix_holds_the_operators_entries(name: str) -> None:
    a = OPERATORS[name]
    assert torch.equal(matrix(a), written_out(a)) or name == "chain"
    torch.testing.assert_close(matrix(a), written_out(a))
    torch.testing.assert_close(dense(a).weight, written_out(a))
    assert (dense(a).magnitude().weight >= dense(a).weight.abs()).all()
    assert cost(a) >= 0


SIZED: dict[str, AbstractLinear] = {  # 48 entries in, 48 out: all compose with one another
    "dense": Dense(normal(48, 48)),
    "segments": Dense(normal(12, 12), repeat=4),
    "diagonal": Diagonal(normal(48)),
    "channels": Diagonal(normal(3).repeat_interleave(16)),
    "period": Diagonal(normal(12).repeat(4)),
    "permutation": Select(torch.randperm(48, generator=GENERATOR), 48),
    "duplicates": Select(torch.randint(-1, 48, (48,), generator=GENERATOR), 48),
    "conv": conv((3, 3, 3, 3), (3, 4, 4), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "groups": conv((3, 1, 3, 3), (3, 4, 4), (1, 1), ((1, 1), (1, 1)), (1, 1), 3),
    "transposed": Adjoint(conv((3, 3, 3, 3), (3, 4, 4), (1, 1), ((1, 1), (1, 1)), (1, 1))),
    "chain": Chain((Select(torch.randperm(48, generator=GENERATOR), 48), Dense(normal(48, 48)))),
}


@pytest.mark.parametrize("outer", list(SIZED))
@pytest.mark.parametrize("inner", list(SIZED))
def test_composition_is_the_matrix_product(outer: str, inner: str) -> None:
    a, b = SIZED[outer], SIZED[inner]
    product = compose(a, b)
    exact = written_out(a) @ written_out(b)
    if product is None:
        assert summing(a) and summing(b)
        return
    torch.testing.assert_close(written_out(product), exact)
    torch.testing.assert_close(written_out(tidy(product)), exact)
    assert (written_out(product.magnitude()) >= exact.abs() * (1 - 1e-9)).all()
    if not (summing(a) and "duplicates" in inner):
        torch.testing.assert_close(written_out(product.absolute()), exact.abs())


@pytest.mark.parametrize("one", list(SIZED))
@pytest.mark.parametrize("two", ["dense", "diagonal", "conv", "permutation"])
def test_total_is_the_sum(one: str, two: str) -> None:
    a, b = SIZED[one], SIZED[two]
    both = total(a, b)
    assert both is not None  # 48 x 48 is small
    torch.testing.assert_close(written_out(both), written_out(a) + written_out(b))


def test_large_convolutions_do_not_become_one_matrix() -> None:
    image = (8, 32, 32)
    a = conv((8, 8, 3, 3), image, (1, 1), ((1, 1), (1, 1)), (1, 1))
    assert compose(a, a) is None
    assert tidy(a) is a
    scaled = compose(a, Diagonal(normal(8).repeat_interleave(32 * 32)))
    assert isinstance(scaled, Conv)


def test_zero_padding_melts_into_the_convolution() -> None:
    a = conv((2, 3, 3, 3), (3, 9, 8), (2, 2), ((1, 0), (0, 0)), (1, 1))
    inner = torch.arange(3 * 6 * 6).reshape(3, 6, 6)
    padded = torch.nn.functional.pad(inner, (0, 2, 1, 2), value=-1)
    product = compose(a, Select(padded.reshape(-1), inner.numel()))
    assert isinstance(product, Conv) and product.padding == ((2, 2), (0, 2))
    x = normal(inner.numel())
    torch.testing.assert_close(product.apply(x), a.apply(Select(padded.reshape(-1), inner.numel()).apply(x)))


def test_one_hot_matrices_are_index_maps() -> None:
    weight = torch.zeros(4, 3, dtype=torch.float64)
    weight[0, 2] = weight[1, 0] = 1
    move = one_hot(Dense(weight))
    assert isinstance(move, Select) and torch.equal(written_out(move), weight)
    weight[3, 1] = -2
    assert torch.equal(written_out(one_hot(Dense(weight))), weight)
    assert isinstance(one_hot(Dense(torch.eye(3, dtype=torch.float64))), Identity)


def exact_product(a: torch.Tensor, b: torch.Tensor) -> list[list[Fraction]]:
    rows = [[Fraction(v) for v in row] for row in a.tolist()]
    columns = [[Fraction(v) for v in column] for column in b.mT.tolist()]
    return [[sum(p * q for p, q in zip(r, c, strict=True)) for c in columns] for r in rows]


@pytest.mark.parametrize("kind", ["product", "scaled rows", "scaled twice", "sum"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_magnitude_covers_the_rounding_of_folded_weights(kind: str, dtype: torch.dtype) -> None:
    """Entries that cancel: |stored - exact| <= terms * u * magnitude, checked in exact arithmetic."""
    a, b = normal(3, 6) * 1e8, normal(6, 2)
    a[:, 3:] = -a[:, :3] * (1 + 1e-12)
    b[3:] = b[:3]
    d, e = normal(3), normal(3)
    match kind:
        case "product":
            folded, exact = compose(Dense(a), Dense(b)), exact_product(a, b)
        case "scaled rows":
            folded, exact = compose(Diagonal(d), Dense(a)), exact_product(torch.diag(d), a)
        case "scaled twice":
            folded = compose(Diagonal(e), compose(Diagonal(d), Dense(a)))
            exact = [[Fraction(e[i].item()) * v for v in row] for i, row in enumerate(exact_product(torch.diag(d), a))]
        case "sum":
            folded = total(Dense(a), Dense(-a * (1 + 1e-13)))
            other = (-a * (1 + 1e-13)).tolist()
            exact = [[Fraction(p) + Fraction(q) for p, q in zip(r, s, strict=True)] for r, s in zip(a.tolist(), other)]
    folded = folded.to(dtype, "cpu")
    unit = Fraction(torch.finfo(dtype).eps) / 2
    for stored, true, bound in zip(folded.weight.tolist(), exact, folded.magnitude().weight.tolist(), strict=True):
        for s, t, m in zip(stored, true, bound, strict=True):
            assert abs(Fraction(s) - t) <= folded.terms * unit * Fraction(m)


def test_a_chain_has_the_terms_of_all_its_parts() -> None:
    """Each part rounds on its own."""
    parts = Dense(torch.ones(2, 5).double()), Diagonal(torch.ones(2).double()), Dense(torch.ones(3, 2).double())
    assert [part.terms for part in parts] == [5, 1, 3]
    assert Chain(parts).terms == 9 and Adjoint(Chain(parts)).terms == 9


@pytest.mark.parametrize("value", [1e-42, 3e-40, 1.1e-38, 1e-45, 1.0, 1 / 3])
def test_what_a_coarser_type_loses_is_in_the_scale(value: float) -> None:
    """Also of numbers below its normal ones, which lose more than a unit roundoff of themselves."""
    weight = torch.tensor([value], dtype=torch.float64)
    for operator in (Dense(weight[None]), Diagonal(weight)):
        moved = operator.to(torch.float32, "cpu")
        (stored,) = moved.weights()[:1]
        off = abs(Fraction(float(stored)) - Fraction(float(operator.weights()[0])))
        (size,) = moved.magnitude().weights()[:1]
        assert off <= Fraction(2) ** -24 * Fraction(float(size)) * moved.terms
