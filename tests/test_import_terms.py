"""Folded weights and forms of operators, each with what it may be off, in rational numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from onnx_models import agrees, floats, ints, model, node, normal, single

from partita.problems.affine import AbstractLinear, Dense, Diagonal
from partita.problems.compose import compose, total
from partita.problems.matrix import exact_sum, matrix, roundings, short
from partita.problems.onnx import read_onnx

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
