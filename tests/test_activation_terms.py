"""Lines and images of activations in rational numbers, at ends that rounding moves."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from test_rounding_terms import exact

from partita.problems.network.activation import LeakyReLU, ReLU
from partita.problems.network.smooth import Sigmoid, Tanh

DTYPES = (torch.float32, torch.float64)
SLOPES = (0.0, 0.01, 0.1, 0.3, 0.99)


def drawn(dtype: torch.dtype, count: int = 3000):
    """Ends of all sizes, many of them on one side or next to zero."""
    random = torch.Generator().manual_seed(1)
    size = 10 ** (12 * torch.rand(2, count, generator=random, dtype=torch.float64) - 6)
    ends = (size * torch.randn(2, count, generator=random, dtype=torch.float64)).to(dtype)
    ends[:, ::7] = ends[:, ::7].abs()
    ends[:, 3::11] = -ends[:, 3::11].abs()
    ends[0, ::13] = 0
    ends[1, 5::17] = 0
    return ends.amin(0), ends.amax(0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("choice", [None, 0.0, 0.5, 1.0, 1.5, -0.5])
def test_lines_hold_at_both_ends_and_at_the_kink(slope, choice, dtype):
    """A convex function lies below its chord where it does at the ends, above a line where it does there and at 0."""
    function = LeakyReLU(slope) if slope else ReLU()
    lower, upper = drawn(dtype, 600)
    given = None if choice is None else (torch.full_like(lower, choice),) * 2
    columns = [exact(t) for t in (lower, upper, *function.lines(lower, upper, given))]
    a = Fraction(function.slope)
    value = lambda x: max(x, a * x)  # noqa: E731
    for l, u, low_slope, low_bias, high_slope, high_bias in zip(*columns, strict=True):
        for x in (l, u, *([Fraction(0)] if l < 0 < u else [])):
            assert low_slope * x + low_bias <= value(x) <= high_slope * x + high_bias


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("slope", SLOPES)
def test_images_hold_the_function_at_both_ends(slope, dtype):
    function = LeakyReLU(slope) if slope else ReLU()
    lower, upper = drawn(dtype)
    a = Fraction(function.slope)
    low, high = function.interval(lower, upper)
    for l, u, below, above in zip(*(exact(t) for t in (lower, upper, low, high)), strict=True):
        assert below <= max(l, a * l) and max(u, a * u) <= above


@pytest.mark.parametrize("slope", SLOPES)
def test_neurons_are_decided_where_they_have_one_phase(slope):
    function = LeakyReLU(slope) if slope else ReLU()
    tiny = torch.finfo(torch.float64).tiny
    for l, u, one in (
        (-1, 0, True),
        (0, 1, True),
        (0, 0, True),
        (-tiny, tiny, False),
        (-1.0, tiny, False),
        (-tiny, 1, False),
    ):
        ends = torch.tensor([float(l)], dtype=torch.float64), torch.tensor([float(u)], dtype=torch.float64)
        assert function.decided(*ends).item() is one


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", [Sigmoid(), Tanh()], ids=str)
def test_images_of_smooth_functions_leave_room_for_their_kernels(function, dtype):
    """Two epsilon on each side, which computed values may be off, but never beyond the function's range."""
    lower, upper = drawn(dtype, 500)
    eps = torch.finfo(dtype).eps
    low, high = function.interval(lower, upper)
    wide_low, wide_high = function.value(lower.double()), function.value(upper.double())
    least, most = function.offset - function.amplitude, function.offset + function.amplitude
    # A sign is exact: what is 0 or above at 0 stays so.
    floor = torch.where(lower >= 0, max(least, min(0.0, most)), least).double()
    ceiling = torch.where((upper <= 0) & (function.offset == 0), 0.0, most).double()
    assert (low.double() <= torch.maximum(wide_low - 2 * eps, floor)).all()
    assert (high.double() >= torch.minimum(wide_high + 2 * eps, ceiling)).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", [Sigmoid(), Tanh()], ids=str)
def test_the_upper_line_is_the_lower_one_turned_with_its_rounding(function, dtype):
    """f(x) = 2 f(0) - f(-x): moving the bias by 2 f(0) = 1 rounds once more, which is charged."""
    lower, upper = drawn(dtype, 800)
    some = (lower > -20) & (upper < 20)
    lower, upper = lower[some], upper[some]
    slope, bias = function._lower_line(-upper, -lower, None)
    lines = function.lines(lower, upper)
    assert torch.equal(lines.upper_slope, slope)
    turned = [Fraction(2 * function.offset) - b for b in exact(bias)]
    rounded = 2 * function.offset - bias
    if function.offset:  # so that the term matters
        assert any(Fraction(float(r)) < t for r, t in zip(rounded, turned, strict=True))
    assert all(b >= t for b, t in zip(exact(lines.upper_bias), turned, strict=True))
