"""Folded weights and forms of operators, each with what it may be off, in rational numbers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from onnx_models import agrees, floats, ints, model, node, normal, single

import partita
from partita.problems.network.activation import LeakyReLU
from partita.problems.network.affine import AbstractLinear, Adjoint, Chain, Conv, Dense, Diagonal, Identity, Select
from partita.problems.network.compose import compose, total
from partita.problems.network.exact_fold import bias_folds_exactly, folds_exactly, sums_exactly, whole
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.network.matrix import exact_sum, matrix, roundings, short
from partita.problems.network.simplify import simplify
from partita.problems.onnx.file import read_onnx

UNIT = Fraction(2) ** -53


def rational(weight: torch.Tensor) -> list[list[Fraction]]:
    return [[Fraction(v) for v in row] for row in weight.tolist()]


def within(found: AbstractLinear, exact: list[list[Fraction]]) -> None:
    """Entry by entry: |stored - exact| <= terms u magnitude."""
    stored, bound = matrix(found), matrix(found.magnitude())
    for s, t, m in zip(stored.tolist(), exact, bound.tolist(), strict=True):
        for one, true, most in zip(s, t, m, strict=True):
            assert abs(Fraction(one) - true) <= found.terms * UNIT * Fraction(most)


def wide(*shape: int) -> torch.Tensor:
    """Numbers of more bits than float32 has."""
    return torch.from_numpy(np.random.default_rng(sum(shape)).normal(size=shape))


def test_sums_and_scalings_of_wide_numbers_say_what_they_lose():
    one, two = wide(4, 3), -wide(4, 3) * (1 + 1e-9)
    within(
        total(Dense(one), Dense(two)),
        [[Fraction(a) + Fraction(b) for a, b in zip(r, s)] for r, s in zip(one.tolist(), two.tolist())],
    )
    d, e = wide(3), wide(5)[:3]
    diagonal = total(Diagonal(d), Diagonal(e))
    within(
        diagonal,
        [
            [(Fraction(a) + Fraction(b)) * (i == j) for j in range(3)]
            for i, (a, b) in enumerate(zip(d.tolist(), e.tolist()))
        ],
    )
    both = compose(Diagonal(d), Diagonal(e))
    within(
        both,
        [
            [Fraction(a) * Fraction(b) * (i == j) for j in range(3)]
            for i, (a, b) in enumerate(zip(d.tolist(), e.tolist()))
        ],
    )
    assert roundings(both) > 1 or both.scale is not None
    rows = compose(Dense(one), Diagonal(d))
    within(rows, [[Fraction(a) * Fraction(v) for a, v in zip(row, d.tolist())] for row in one.tolist()])


def test_long_products_say_what_they_lose():
    """A sum of thousands of equal terms, stored as one number; and what is left of it where another is taken away."""
    for count, a, b in ((4096, 0.1, 0.3), (1000, 0.7, 0.9), (3000, 1.1, 1.3)):
        outer, inner = (
            Dense(torch.full((1, count), a).double() + 1e-9),
            Dense(torch.full((count, 1), b).double() + 1e-9),
        )
        folded = compose(outer, inner)
        exact = count * Fraction(outer.weight[0, 0].item()) * Fraction(inner.weight[0, 0].item())
        within(folded, [[exact]])
        less = total(folded, Dense(-folded.weight * (1 - 1e-9)))
        within(less, [[exact + Fraction((-folded.weight * (1 - 1e-9)).item())]])


def test_narrow_numbers_are_told_from_wide_ones():
    narrow = wide(4, 3).float().double()
    assert short(narrow) and not short(wide(4, 3)) and not short(narrow, wide(2, 2))
    assert exact_sum(torch.tensor([1.0]).double(), torch.tensor([2.0**-52]).double())
    assert not exact_sum(torch.tensor([1.0]).double(), torch.tensor([2.0**-54]).double())
    plain = compose(Dense(narrow), Diagonal(torch.full((3,), 0.5).double()))
    assert plain.scale is None


@pytest.mark.parametrize("ceil_mode", [0, 1])
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [(7, 2, 3, 1), (6, 2, 4, 0), (5, 3, 2, 1), (8, 3, 4, 1), (7, 3, 3, 0), (6, 1, 4, 0), (4, 2, 3, 1)],
)
def test_windows_of_pools_are_those_of_onnxruntime(size, kernel, stride, pads, kind, ceil_mode):
    """A window that ceil_mode adds begins on the image or not at all."""
    options = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pads] * 4, "ceil_mode": ceil_mode}
    agrees(single(kind, (1, 2, size, size), opset=19 if kind == "AveragePool" else 12, **options))


def test_batch_normalization_says_what_its_factor_loses():
    """gamma / sqrt(variance + epsilon) is rounded three times; the weights say so."""
    g, b, m, v = normal(3), normal(3), normal(3), normal(3) ** 2 + 0.1
    graph = read_onnx(single("BatchNormalization", (1, 3, 2), g, b, m, v).SerializeToString(), check=False)
    for node_ in graph.nodes[1:]:
        for operator in node_.operators:
            if isinstance(operator, Diagonal) and not (operator.factor == 1).all():
                assert roundings(operator) >= 3 or operator.scale is not None
    scaled = [o for n in graph.nodes[1:] for o in n.operators if getattr(o, "scale", None) is not None]
    assert scaled
    x = torch.randn(6, generator=torch.Generator().manual_seed(0)).double()
    spread = v.astype(np.float64) + float(np.float32(1e-5))
    wanted = (x.reshape(3, 2).numpy() - m[:, None]) * (g / np.sqrt(spread))[:, None] + b[:, None]
    np.testing.assert_allclose(graph(x).numpy(), wanted.reshape(-1), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 6.0), (-1.0, 1.0), (2.0, -1.0), (-3e38, 1.0), (-1.0, 3e38), (-5.0, -1.0), (1e30, 2e30)]
)
def test_clips_of_all_kinds(low, high):
    for opset in (9, 13):
        if opset == 9:
            made = single("Clip", (1, 4), opset=9, min=low, max=high)
        else:
            made = single("Clip", (1, 4), np.float32(low), np.float32(high))
        if low >= high and opset == 9:
            continue  # onnxruntime refuses such attributes, or not, by version
        graph = read_onnx(made.SerializeToString(), check=False)
        for x in (-1e6, -4.0, -1.5, 0.0, 0.5, 1.5, 7.0, 1e6):
            value = graph(torch.full((4,), x).double())
            wanted = min(max(x, float(np.float32(low))), float(np.float32(high)))
            assert torch.allclose(value, torch.full((4,), wanted).double(), rtol=1e-12, atol=0), x


def test_bounds_of_clips_bind_however_large_they_are():
    graph = read_onnx(single("Clip", (1, 2), np.float32(-3e38), np.float32(1.0)).SerializeToString(), check=False)
    low = float(np.float32(-3e38))
    assert torch.allclose(
        graph(torch.tensor([-3.3e38, -2e38]).double()), torch.tensor([low, -2e38]).double(), rtol=1e-6
    )


def test_dilated_windows_beside_the_padding():
    """The entry at the edge is none of the window's."""
    agrees(single("MaxPool", (1, 1, 6, 6), opset=12, kernel_shape=[2, 2], dilations=[2, 2], pads=[1, 1, 1, 1]))


@pytest.mark.parametrize("slope", [-1.0, -0.25, 0.0, 0.3, 1.0, 3.0])
def test_leaky_slopes_of_all_kinds(slope):
    graph = agrees(single("LeakyRelu", (1, 5), alpha=slope))
    x = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0]).double()
    torch.testing.assert_close(graph(x), torch.where(x > 0, x, x * float(np.float32(slope))), rtol=1e-12, atol=1e-15)


def test_moves_go_the_way_they_say():
    """Negative steps and axes, fills beside the first entry, padding on one side of a convolution."""
    agrees(single("Slice", (2, 5), ints(4, 1), ints(-6, 0), ints(-1, 0), ints(-2, -1)))
    agrees(single("Pad", (1, 3), ints(0, 1, 0, 2), floats(0.75)[0]))
    agrees(single("ReduceSum", (2, 3, 4), ints(-1), keepdims=0))
    agrees(single("ReduceMean", (2, 3, 4), axes=[-2], keepdims=1))
    agrees(single("Sub", (1, 3), normal(3)))
    made = [node("Pad", "x p", "q"), node("Conv", "q w", "y", strides=[2, 1])]
    agrees(model(made, (1, 2, 5, 6), {"p": ints(0, 0, 2, 0, 0, 0, 1, 3), "w": normal(3, 2, 3, 2)}))
    two = [node("Gemm", "x w c", "y", beta=0.5, alpha=2.0)]
    agrees(model(two, (1, 4), {"w": normal(4, 3), "c": normal(3)}))


def test_a_node_with_two_readers_stays_what_it_is():
    """h is read twice, by different layers; neither swallows what the other needs."""
    nodes = [
        node("MatMul", "x w", "h"),
        node("Relu", "h", "r"),
        node("MatMul", "h v", "g"),
        node("Add", "r g", "s"),
        node("MatMul", "s u", "y"),
    ]
    agrees(model(nodes, (1, 4), {"w": normal(4, 5), "v": normal(5, 5), "u": normal(5, 2)}))


# ---- numbers that stand for others, half a unit in the last place away


def near_one(*shape: int) -> torch.Tensor:
    """No float32 numbers; each stands for what is 2^-53 larger, which is one rounding away."""
    return 1 + 2.0**-52 * (1 + torch.arange(int(np.prod(shape))) % 7).double().reshape(shape)


def meant(operator: AbstractLinear) -> list[list[Fraction]]:
    """The matrix that the operator stands for."""
    moved = isinstance(operator, Select)
    return [[Fraction(v) + (UNIT if v and not moved else 0) for v in row] for row in matrix(operator).tolist()]


def line(channels: int, length: int, weight: torch.Tensor, pads: tuple[int, int] = (0, 0)) -> Conv:
    return Conv(weight, (channels, length), (1,), (pads,), (1,))


PAIRS = {
    "two scalings": (Diagonal(near_one(3)), Diagonal(near_one(5)[2:])),
    "rows": (Diagonal(near_one(2).repeat(2)), Dense(near_one(2, 1), 2)),
    "columns": (Dense(near_one(1, 3)), Diagonal(near_one(3))),
    "channels out": (Diagonal(near_one(2).repeat_interleave(3)), line(1, 3, near_one(2, 1, 1))),
    "channels in": (line(2, 3, near_one(1, 2, 2)), Diagonal(near_one(2).repeat_interleave(3))),
    "rows picked": (Select(torch.tensor([1, -1, 0]), 2), Dense(near_one(2, 3))),
    "columns added": (Dense(near_one(1, 2) * torch.tensor([1.0, -1.0])), Select(torch.tensor([0, 0]), 1)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_products_of_numbers_that_are_off_say_what_they_lose(name):
    outer, inner = PAIRS[name]
    rows, columns = meant(outer), list(zip(*meant(inner), strict=True))
    found = compose(outer, inner)
    within(found, [[sum(a * b for a, b in zip(row, column)) for column in columns] for row in rows])


def test_sums_of_scalings_that_are_off_say_what_they_lose():
    one, two = near_one(3), -near_one(5)[2:]
    exact = [Fraction(a) + Fraction(b) + 2 * UNIT for a, b in zip(one.tolist(), two.tolist())]
    within(total(Diagonal(one), Diagonal(two)), [[v * (i == j) for j in range(3)] for i, v in enumerate(exact)])


def test_a_scale_that_differs_where_factors_do_not_is_kept():
    """The last entry stands for anything from -8 to 10 roundings of 1."""
    diagonal = Diagonal(torch.ones(4).double(), torch.tensor([1.0, 1.0, 1.0, 9.0]).double())
    for dense in (Dense(near_one(2, 2), 2), line(1, 4, near_one(1, 1, 1))):
        for both in (compose(diagonal, dense), compose(dense, diagonal)):
            assert matrix(both.magnitude()).max() >= 9


def test_a_move_that_is_no_padding_stays_a_move():
    conv = line(1, 4, wide(2, 1, 3))
    for index in ([-1, 1, 0, -1], [-1, 0, 1, -1], [0, 1, -1, 0], [-1, 0, 0, -1]):
        move = Select(torch.tensor(index), 2)
        torch.testing.assert_close(matrix(compose(conv, move)), matrix(conv) @ matrix(move), rtol=1e-15, atol=0)


# ---- whether folding rounded


def scaling(*factors: float) -> Diagonal:
    return Diagonal(torch.tensor(factors, dtype=torch.float64))


def exactly_folded(outer: AbstractLinear, *pairs: tuple[AbstractLinear, AbstractLinear]) -> bool:
    """Whether the second of each pair is what `outer` makes of the first; there is no bias."""
    inner = Affine((0,) * len(pairs), tuple(a for a, _ in pairs), torch.zeros(pairs[0][0].n_out).double())
    none = torch.zeros(outer.n_out).double()
    return folds_exactly(outer, inner, [product for _, product in pairs], none, none)


def test_every_product_has_to_be_exact():
    third, tenth = scaling(3.0), scaling(0.1)
    assert exactly_folded(third, (scaling(0.5), scaling(1.5)))
    assert not exactly_folded(third, (scaling(0.5), scaling(1.5)), (tenth, scaling(0.1 * 3.0)))
    assert not exactly_folded(tenth, (tenth, scaling(0.1 * 0.1)))
    twice = Select(torch.tensor([0, 0]), 1)  # a move, and yet its columns are added up
    assert not exactly_folded(
        Dense(torch.tensor([[1.0, 2.0**-60]]).double()), (twice, Dense(torch.ones(1, 1).double()))
    )
    longer = Chain((twice, scaling(1.0, 1.0)))
    assert not exactly_folded(
        Dense(torch.tensor([[1.0, 2.0**-60]]).double()), (longer, Dense(torch.ones(1, 1).double()))
    )
    assert exactly_folded(Dense(wide(2, 2)), (Select(torch.tensor([1, 0]), 2), Dense(wide(2, 2).flip(1))))


def test_a_gathered_entry_whose_weights_are_added_up_is_not_called_exact(tmp_path):
    """y = x + 2^-60 x > x on [1, 2]; the folded weight is 1."""
    nodes = [node("Gather", "x i", "g", axis=1), node("MatMul", "g w", "y")]
    made = model(nodes, (1, 1), {"i": ints(0, 0), "w": np.array([[1.0], [2.0**-60]], np.float32)})
    (_, last) = read_onnx(made.SerializeToString(), check=False).nodes
    assert last.rounded
    (tmp_path / "n.onnx").write_bytes(made.SerializeToString())
    lines = ("(declare-const X_0 Real)", "(declare-const Y_0 Real)", "(assert (and (<= 1 X_0) (<= X_0 2) (> Y_0 X_0)))")
    (tmp_path / "p.vnnlib").write_text("\n".join(lines))
    assert partita.verify(tmp_path / "n.onnx", tmp_path / "p.vnnlib", timeout=10).verdict != "unsat"


def test_factors_whose_product_is_rounded_are_no_exact_product():
    """0.1 times 0.1 is written out as 0.1 * 0.1, and stands for more than that."""
    one, both = Dense(torch.ones(1, 1).double()), Chain((scaling(0.1), scaling(0.1)))
    assert not exactly_folded(scaling(0.1 * 0.1), (one, both))
    assert exactly_folded(scaling(0.1 * 0.1), (one, scaling(0.1 * 0.1)))
    assert not sums_exactly(both, scaling(0.0)) and sums_exactly(scaling(0.1), scaling(0.0))
    found = whole(Chain((scaling(0.25), scaling(0.5))))
    assert Fraction(int(found.whole[0, 0]), 1 << found.shift) == Fraction(1, 8)


def test_a_product_that_overflows_is_not_exact():
    large = torch.tensor([[1e200]], dtype=torch.float64)
    huge = Dense(torch.cat([large, torch.ones_like(large)], 1))
    product = Dense(huge.weight * large)
    assert product.weight.isinf().any() and not exactly_folded(Dense(large), (huge, product))
    inner = Affine((0,), (scaling(1.0),), large[0])
    assert not bias_folds_exactly(Dense(large), inner, torch.zeros(1).double(), torch.full((1,), torch.inf).double())


def test_products_are_compared_at_one_scale():
    """1/2 times 1/2 is 1/4, whatever power of two each is written over; and it is not 1/2 or 1."""
    half, quarter = Dense(torch.tensor([[0.5, 1.0]]).double()), Dense(torch.tensor([[0.25, 0.5]]).double())
    outer = Dense(torch.tensor([[0.5]]).double())
    assert exactly_folded(outer, (half, quarter))
    assert not exactly_folded(outer, (half, Dense(torch.tensor([[0.5, 1.0]]).double())))
    assert not exactly_folded(outer, (half, Dense(torch.tensor([[1.0, 2.0]]).double())))
    assert exactly_folded(Dense(torch.tensor([[2.0]]).double()), (half, Dense(torch.tensor([[1.0, 2.0]]).double())))


def test_weights_that_are_off_are_known_inside_others():
    off = Dense(torch.ones(1, 1).double(), 1, torch.ones(1, 1).double())
    inner = Affine((0,), (scaling(1.0),), torch.ones(1).double())
    for outer in (off, Adjoint(off), Chain((Select(torch.tensor([0]), 1), off)), Chain((scaling(1.0), Adjoint(off)))):
        assert not bias_folds_exactly(outer, inner, torch.zeros(1).double(), torch.ones(1).double())
    assert bias_folds_exactly(Adjoint(Dense(off.weight)), inner, torch.zeros(1).double(), torch.ones(1).double())


def folded(*nodes: Affine) -> Affine:
    """What comes of affine nodes in a row."""
    graph = simplify(Graph((Input(nodes[0].operators[0].n_in), *nodes), (1,), (1,)))
    assert len(graph.nodes) == 2
    return graph.nodes[1]


def test_a_node_that_was_rounded_stays_so_and_puts_what_it_swallows_in_doubt():
    inner = Affine((0,), (scaling(1.0),), torch.ones(1).double())
    outer = Affine((1,), (scaling(0.5),), torch.zeros(1).double())
    assert folded(inner, outer).doubt is None and not folded(inner, outer).rounded
    node_ = folded(inner, replace(outer, rounded=True))
    assert node_.rounded and node_.doubt.item() >= 2.0**-54  # 0.5 stands for a number half a unit away
    assert folded(replace(inner, rounded=True), outer).rounded


def test_a_long_sum_in_a_folded_bias_is_in_doubt_by_its_length():
    """Each 1 that is added to 2^53 is lost."""
    bias = torch.ones(4096).double()
    bias[0] = 2.0**53
    found = folded(
        Affine((0,), (Dense(torch.ones(4096, 1).double()),), bias),
        Affine((1,), (Dense(torch.ones(1, 4096).double()),), torch.zeros(1).double()),
    )
    assert abs(Fraction(found.bias.item()) - (2**53 + 4095)) <= Fraction(found.doubt.item())
    assert found.doubt.item() >= 4096


def parallel(*biases: float) -> Graph:
    """The sum of x + b, passed through a ReLU each, and the same b once more: y = sum of relu(x + b) + b."""
    nodes, sources = [Input(1)], []
    for value in biases:
        for source in (0, -1):
            if source:
                nodes.append(Activation((len(nodes) - 1,), LeakyReLU(0.0), 1))
            bias = torch.tensor([value], dtype=torch.float64)
            nodes.append(Affine((len(nodes) - 1 if source else 0,), (scaling(1.0),), bias))
        sources.append(len(nodes) - 1)
    nodes.append(Affine(tuple(sources), (scaling(1.0),) * len(biases), torch.zeros(1).double()))
    return simplify(Graph(tuple(nodes), (1,), (1,)))


def test_all_that_cancels_in_a_folded_bias_is_counted():
    """Each bias alone is small enough beside what is left of their sum; both together are not."""
    one, two = 20000.0, 19999.0
    assert 5 * two * 2.0**-53 < 2.0**-36 * (one - two) < 5 * (one + two) * 2.0**-53
    for other, apart in ((-two, 1), (two, 0)):
        graph = parallel(one, other)
        assert sum(isinstance(graph.nodes[i], Affine) for i in graph.nodes[-1].inputs) == apart


def test_a_node_that_is_read_twice_is_not_swallowed_by_way_of_a_copy():
    """h, and a layer that hands h on: what reads the latter reads h, which others do as well."""
    nodes = (
        Input(2),
        Affine((0,), (Dense(wide(2, 2)),), torch.zeros(2).double()),
        Activation((1,), LeakyReLU(0.0), 2),
        Affine((1,), (Identity(2),), torch.zeros(2).double()),
        Affine((2, 3), (Dense(wide(1, 2)), Dense(wide(2, 1).mT)), torch.zeros(1).double()),
    )
    graph = simplify(Graph(nodes, (2,), (1,)))
    assert graph.nodes[-1].inputs == (2, 1)
