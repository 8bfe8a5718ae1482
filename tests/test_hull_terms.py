"""What hulls of groups of neurons take for granted, each on its own: limits, orthants, offsets, in rational numbers."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from partita.kernels.hull import _grouped, proved, relu_hulls
from partita.kernels.octahedron import closed, empty_orthants, octahedron

SIZES = (1, 2, 3, 4)


def rational(values: torch.Tensor) -> list[Fraction]:
    return [Fraction(v) for v in values.double().reshape(-1).tolist()]


def rounded_up(value: Fraction, dtype: torch.dtype = torch.float64) -> float:
    """The least number of a dtype that is not below."""
    near = torch.tensor(float(value), dtype=dtype)
    while Fraction(near.item()) < value:
        near = torch.nextafter(near, torch.tensor(torch.inf, dtype=dtype))
    return near.item()


def limits_of(template, points: list[list[Fraction]], dtype: torch.dtype = torch.float64) -> torch.Tensor:  # -> (1, T)
    """The least limits around some points that a dtype can store."""
    rows = [rational(row) for row in template.normals]
    values = [max(sum(a * z for a, z in zip(row, p, strict=True)) for p in points) for row in rows]
    return torch.tensor([[rounded_up(v, dtype) for v in values]], dtype=dtype)


def drawn(seed: int, size: int, count: int, centre: float, width: float) -> list[list[Fraction]]:
    random = torch.Generator().manual_seed(seed)
    middle = centre * torch.randn(size, generator=random, dtype=torch.float64)
    return [rational(middle + width * torch.randn(size, generator=random, dtype=torch.float64)) for _ in range(count)]


@pytest.mark.parametrize("size", SIZES)
def test_closed_limits_keep_the_points(size):
    """Of single points, whose limits are equations: a sum rounded down would cut them off."""
    template = octahedron(size)
    rows = [rational(row) for row in template.normals]
    for seed in range(40):
        points = drawn(seed, size, 1 + seed % 3, 10.0 ** (seed % 5), 10.0 ** -(seed % 4))
        found = rational(closed(template, limits_of(template, points)))
        for row, limit in zip(rows, found, strict=True):
            assert all(sum(a * z for a, z in zip(row, p, strict=True)) <= limit for p in points)


def test_closing_finds_what_sums_imply():
    template = octahedron(3)
    limits = torch.where(template.normals.abs().sum(1) == 1, 1.0, torch.inf)[None].double()
    for unknown in (torch.inf, torch.nan):
        found = closed(template, limits.nan_to_num(posinf=unknown) if unknown != torch.inf else limits)
        assert torch.allclose(found, template.normals.abs().sum(1)[None], rtol=1e-14)
    unknown = torch.full_like(limits, torch.nan)
    assert (closed(template, unknown) == torch.inf).all()
    pairs = torch.where(template.normals.abs().sum(1) == 2, 1.0, torch.inf)[None].double()
    assert torch.allclose(closed(template, pairs)[0, template.upper], torch.ones(3).double(), rtol=1e-14)


@pytest.mark.parametrize("size", SIZES)
def test_no_orthant_with_a_point_is_empty(size):
    """Single points on a grid, coordinates that are zero among them: all limits and sums are exact."""
    template = octahedron(size)
    orthants = template.orthants
    random = torch.Generator().manual_seed(size)
    shown = 0
    for _ in range(60):
        z = torch.randint(-3, 4, (size,), generator=random).double() * torch.randint(0, 2, (size,), generator=random)
        vacant = empty_orthants(template, (template.normals @ z)[None])[0]
        holds = (orthants * z >= 0).all(1)
        assert not vacant[holds].any()
        shown += int(vacant[~holds].sum())
    assert shown > 10
    apart = template.normals @ torch.ones(size).double() - 2  # t_f + t_-f < 0
    assert empty_orthants(template, apart[None]).all()


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("slope", (0.0, 0.25))
@pytest.mark.parametrize("size", (2, 3))
def test_rows_of_far_out_groups_hold(size, slope, dtype):
    """A thousandth wide and a million away: nothing but rounding keeps the rows off the points."""
    template = octahedron(size)
    for seed in range(30):
        points = drawn(seed, size, 5, 10.0 ** (seed % 7), 10.0 ** -(seed % 4))
        hulls = relu_hulls(template, limits_of(template, points, dtype), slope)
        for post, pre, offset in zip(hulls.on_post[0], hulls.on_pre[0], rational(hulls.offset[0]), strict=True):
            post, pre = rational(post), rational(pre)
            for z in points:
                y = [max(v, Fraction(slope) * v) for v in z]
                left = sum(a * v for a, v in zip(post, y, strict=True)) + sum(
                    a * v for a, v in zip(pre, z, strict=True)
                )
                assert left <= offset


@pytest.mark.parametrize("size", (2, 3))
def test_offsets_of_any_rows_hold(size):
    """Rows of coefficients of very different sizes: what prices of opposite rows cancel is lost at the far ends."""
    template = octahedron(size)
    random = torch.Generator().manual_seed(size)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)  # noqa: E731
    for seed in range(60):
        far = 10.0 ** (seed % 7) * draw(4, size)
        points = [rational(p) for p in torch.cat([far, -far * (1 + 1e-3 * draw(4, 1))])]
        group = _grouped(template, limits_of(template, points), 0.0)
        on_pre = draw(1, 12, size) * 10 ** (-12 * torch.rand(1, 12, size, generator=random, dtype=torch.float64))
        on_post = draw(1, 12, size) * torch.randint(0, 2, (1, 12, size), generator=random)
        on_post[:, ::3] = 0
        offset, empty = proved(template, group, 0.0, on_post, on_pre)
        assert not empty.any()
        for post, pre, limit in zip(on_post[0], on_pre[0], rational(offset), strict=True):
            post, pre = rational(post), rational(pre)
            for z in points:
                left = sum(b * max(v, Fraction(0)) + a * v for a, b, v in zip(pre, post, z, strict=True))
                assert left <= limit
