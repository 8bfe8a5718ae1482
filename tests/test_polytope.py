"""Minima over boxes cut by half-spaces, and clipping: against linear programs and rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from partita.kernels.polytope import box_minimiser, box_minimum, clip_box, polytope_minimiser, polytope_minimum

DTYPES = (torch.float32, torch.float64)


def fractions(values) -> list[Fraction]:
    return [Fraction(v) for v in np.asarray(values, dtype=float).ravel()]


def exact_box_minimum(a, lower, upper) -> Fraction:
    return sum(c * (l if c > 0 else u) for c, l, u in zip(*map(fractions, (a, lower, upper)), strict=True))


def random_batch(seed: int, dtype: torch.dtype, count: int, size: int, halfspaces: int = 0, rows: int = 2):
    """Forms, boxes of very different widths (some of them points), half-spaces through each box."""
    random = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)  # noqa: E731
    scale = 10 ** (4 * torch.rand(count, 1, generator=random, dtype=torch.float64) - 3)
    middle, radius = 3 * draw(count, size), scale * torch.rand(count, size, generator=random, dtype=torch.float64)
    radius = radius * (torch.rand(count, size, generator=random) < 0.9)
    lower, upper = (middle - radius).to(dtype), (middle + radius).to(dtype)
    lower, upper = torch.minimum(lower, upper), torch.maximum(lower, upper)
    normals = (draw(count, halfspaces, size) * (torch.rand(count, halfspaces, size, generator=random) < 0.8)).to(dtype)
    inside = lower + (upper - lower) * torch.rand(count, size, generator=random).to(dtype)
    offsets = torch.einsum("bhd,bd->bh", normals, inside) + (0.1 * scale * draw(count, halfspaces).abs()).to(dtype)
    return draw(count, rows, size).to(dtype), lower, upper, normals, offsets


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", (1, 3, 64, 1000))
def test_box_minimum_is_below_the_exact_one_and_close(dtype, size):
    a, lower, upper, _, _ = random_batch(size, dtype, 5, size)
    found = box_minimum(a, lower, upper)
    for b, r in np.ndindex(5, 2):
        exact = exact_box_minimum(a[b, r], lower[b], upper[b])
        assert Fraction(found[b, r].item()) <= exact
        reach = (a[b, r].abs() * torch.maximum(lower[b].abs(), upper[b].abs())).sum().item()
        assert float(exact) - found[b, r].item() <= 8 * (size + 4) * torch.finfo(dtype).eps * reach
    at = (a * box_minimiser(a, lower, upper)).sum(-1)
    torch.testing.assert_close(at, found, rtol=1e-3, atol=1e-6 * size**2 + 1e-3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("halfspaces", (1, 2, 5))
def test_polytope_minimum_is_what_its_multipliers_prove(dtype, halfspaces):
    """Below the exact value of the dual function at the multipliers returned, in rational arithmetic, and close."""
    for seed in range(10):
        a, lower, upper, normals, offsets = random_batch(seed, dtype, 4, 6, halfspaces)
        a[:, 0] = -1.7 * normals[:, 0]  # which the first multiplier cancels, but for rounding
        found, beta = polytope_minimum(a, lower, upper, normals, offsets, sweeps=2)
        assert (beta >= 0).all()
        for b, r in np.ndindex(4, 2):
            prices, reduced = fractions(beta[b, r]), fractions(a[b, r])
            for price, normal in zip(prices, normals[b], strict=True):
                reduced = [c + price * n for c, n in zip(reduced, fractions(normal), strict=True)]
            ends = zip(reduced, fractions(lower[b]), fractions(upper[b]), strict=True)
            exact = sum(c * (l if c > 0 else u) for c, l, u in ends)
            exact -= sum(p * o for p, o in zip(prices, fractions(offsets[b]), strict=True))
            assert Fraction(found[b, r].item()) <= exact
            size = a[b, r].abs() + beta[b, r] @ normals[b].abs()
            reach = size @ torch.maximum(lower[b].abs(), upper[b].abs()) + beta[b, r] @ offsets[b].abs()
            assert float(exact) - found[b, r].item() <= 100 * torch.finfo(dtype).eps * reach.item()


@pytest.mark.parametrize("halfspaces", (1, 3))
def test_polytope_minimum_against_linear_programs(halfspaces):
    """One half-space is solved exactly; several come close with a few sweeps, and are never above."""
    gaps = []
    for seed in range(20):
        a, lower, upper, normals, offsets = random_batch(seed, torch.float64, 3, 5, halfspaces)
        plain = box_minimum(a, lower, upper)
        found = polytope_minimum(a, lower, upper, normals, offsets, sweeps=4)[0]
        for b, r in np.ndindex(3, 2):
            box = np.stack([lower[b], upper[b]], 1)
            truth = linprog(a[b, r].numpy(), A_ub=normals[b].numpy(), b_ub=offsets[b].numpy(), bounds=box).fun
            scale = 1e-9 * (1 + abs(truth))
            assert plain[b, r] - scale <= found[b, r] <= truth + scale
            gaps.append((truth - found[b, r].item()) / (truth - plain[b, r].item() + scale))
    assert max(gaps) < 1e-3 if halfspaces == 1 else np.mean(gaps) < 0.1


def test_minimisers_lie_where_one_half_space_lets_them():
    for seed in range(20):
        a, *polytope = random_batch(seed, torch.float64, 3, 5, 1)
        found, price = polytope_minimum(a, *polytope)
        x = polytope_minimiser(a, price, *polytope)
        lower, upper, normals, offsets = polytope
        assert (x >= lower[:, None]).all() and (x <= upper[:, None]).all()
        assert (torch.bmm(x, normals.mT) <= offsets[:, None] + 1e-9).all()
        torch.testing.assert_close((a * x).sum(-1), found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_absent_half_spaces_change_nothing(dtype):
    a, lower, upper, normals, _ = random_batch(1, dtype, 4, 6, 2)
    infinite = torch.full((4, 2), torch.inf, dtype=dtype)
    found, beta = polytope_minimum(a, lower, upper, normals, infinite)
    assert (beta == 0).all() and (found <= box_minimum(a, lower, upper)).all()
    torch.testing.assert_close(found, box_minimum(a, lower, upper), rtol=1e-4, atol=1e-4)
    low, high, empty = clip_box(lower, upper, normals, infinite)
    assert torch.equal(low, lower) and torch.equal(high, upper) and not empty.any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_empty_intersections_show(dtype):
    a, lower, upper, normals, _ = random_batch(2, dtype, 4, 6, 1)
    least = box_minimum(normals, lower, upper) - 1
    found, _ = polytope_minimum(a, lower, upper, normals, least)
    assert (found > box_minimum(a, lower, upper)).all()
    low, high, empty = clip_box(lower, upper, normals, least)
    assert empty.all() and torch.equal(low, lower) and torch.equal(high, upper)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), halfspaces=st.integers(1, 4), size=st.integers(1, 6))
def test_clipping_keeps_every_point(dtype, seed, halfspaces, size):
    """Points of the polytope, judged in rational arithmetic, stay in the clipped box."""
    _, lower, upper, normals, offsets = random_batch(seed, dtype, 3, size, halfspaces)
    low, high, empty = clip_box(lower, upper, normals, offsets)
    assert (low >= lower).all() and (high <= upper).all()
    random = np.random.default_rng(seed)
    for b in range(3):
        box = lower[b].double().numpy(), upper[b].double().numpy()
        for t in np.concatenate([random.random((20, size)), random.integers(0, 2, (20, size))]):
            x = np.clip(box[0] + t * (box[1] - box[0]), *box)
            rows = normals[b].double().tolist()
            values = [sum(map(lambda n, v: Fraction(n) * Fraction(v), row, x)) for row in rows]
            if all(v <= Fraction(o) for v, o in zip(values, offsets[b].tolist(), strict=True)):
                assert not empty[b]
                assert (low[b].double().numpy() <= x).all() and (x <= high[b].double().numpy()).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_clipping_rounds_outward(dtype):
    """A half-space that cuts one coordinate exactly at a number: the number itself is kept, in rational arithmetic."""
    random = torch.Generator().manual_seed(0)
    size, count = 7, 400
    x = torch.randn(count, size, generator=random, dtype=dtype)
    normals = torch.randn(count, 1, size, generator=random, dtype=dtype)
    exact = [sum(n * v for n, v in zip(fractions(normals[b, 0]), fractions(x[b]), strict=True)) for b in range(count)]
    offsets = torch.tensor([[float(e)] for e in exact], dtype=torch.float64).to(dtype)
    offsets = torch.where(
        torch.tensor([[Fraction(o.item()) < e] for o, e in zip(offsets[:, 0], exact, strict=True)]),
        torch.nextafter(offsets, torch.full_like(offsets, torch.inf)),
        offsets,
    )
    # Every coordinate but one is fixed at x, so x is the last point that the half-space leaves on its line.
    wide = torch.zeros(size, dtype=dtype)
    wide[0] = 1
    low, high, empty = clip_box(x - wide, x + wide, normals, offsets)
    assert not empty.any()
    assert (low <= x).all() and (x <= high).all()
    cut = torch.minimum(high[:, 0] - x[:, 0], x[:, 0] - low[:, 0])
    assert (cut < 1e3 * torch.finfo(dtype).eps * (1 + 1 / normals[:, 0, 0].abs())).float().mean() > 0.9
