"""What every function of several variables must satisfy: a new one subclasses `MultivariateConformance`.

    class TestProduct(MultivariateConformance):
        function = Product()
        sizes = (3, 3)

        @staticmethod
        def exact(a, b): ...  # lists of fractions to a list of fractions

Truths are in fractions: intervals, and what `pull` makes of coefficients with what rounding may have cost, are compared
with the function at real numbers, at the corners of boxes and inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from partita.kernels.rounding import gamma
from partita.problems.network.multivariate import AbstractMultivariate

DTYPES = (torch.float32, torch.float64)
BOXES, ROWS, POINTS = 12, 4, 6
Numbers = Sequence[Fraction]


def fractions(t: Tensor) -> list[Fraction]:
    return [Fraction(v) for v in t.tolist()]


class MultivariateConformance:
    """Subclasses say which function, the sizes of its operands, and what it is in fractions."""

    function: AbstractMultivariate
    sizes: tuple[int, ...]
    exact: Callable[..., Numbers]

    def boxes(self, dtype: torch.dtype, seed: int, scale: float = 2.0) -> list[tuple[Tensor, Tensor]]:
        """Intervals of every operand: wide ones and points, on both sides of 0 and on it, near each other and far."""
        random = torch.Generator().manual_seed(seed)
        found = []
        for size in self.sizes:
            a, b = scale * torch.randn(2, BOXES, size, generator=random, dtype=torch.float64).to(dtype)
            low, high = torch.minimum(a, b), torch.maximum(a, b)
            kind = torch.randint(0, 8, low.shape, generator=random)
            high = torch.where(kind == 0, low, high)  # a point
            low = torch.where(kind == 1, 0.0, low).minimum(high)
            high = torch.where(kind == 2, 0.0, high).maximum(low)
            low, high = (torch.where(kind == 3, 1000 * t, t) for t in (low, high))
            low, high = (torch.where(kind == 4, 1e-6 * t, t) for t in (low, high))
            found.append((low, high))
        return found

    def points(self, ends: Sequence[tuple[Tensor, Tensor]], box: int, seed: int) -> list[list[list[Fraction]]]:
        """Values of every operand within a box, ends more often than not."""
        random = torch.Generator().manual_seed(seed)
        found = []
        for _ in range(POINTS):
            point = []
            for low, high in ends:
                share = torch.rand(low.shape[1], generator=random, dtype=torch.float64)
                share = torch.where(torch.rand(share.shape, generator=random) < 0.7, share.round(), share)
                lows, highs = fractions(low[box]), fractions(high[box])
                shares = [Fraction(s) for s in share.tolist()]
                point.append([a + s * (b - a) for a, b, s in zip(lows, highs, shares, strict=True)])
            found.append(point)
        return found

    def choices(self, seed: int, rows: int = 0) -> tuple[Tensor, Tensor]:
        random = torch.Generator().manual_seed(seed)
        shape = (BOXES, rows, self.sizes[0]) if rows else (BOXES, self.sizes[0])
        low, high = (torch.rand(shape, generator=random, dtype=torch.float64) for _ in range(2))
        return low.round(decimals=1), high

    # ---- values and intervals

    def test_it_says_how_many_operands_it_has_and_hashes_as_it_compares(self):
        assert self.function.arity == len(self.sizes)
        assert self.function == self.function and hash(self.function) == hash(self.function)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_values_are_right_up_to_rounding(self, dtype):
        random = torch.Generator().manual_seed(0)
        for _ in range(20):
            z = [torch.randn(size, generator=random, dtype=torch.float64).to(dtype) for size in self.sizes]
            found, true = self.function.value(*z), self.exact(*(fractions(t) for t in z))
            lost = gamma(self.function.terms(self.sizes), dtype) * self.function.reach(*(t.abs() for t in z))
            for y, value, error in zip(found.tolist(), true, lost.tolist(), strict=True):
                assert abs(Fraction(y) - value) <= Fraction(error)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("scale", [2.0, 1e-25, 1e12])
    def test_intervals_hold(self, dtype, scale):
        ends = self.boxes(dtype, 1, scale)
        low, high = self.function.interval(*ends)
        assert (low <= high).all()
        for box in range(BOXES):
            for point in self.points(ends, box, box):
                for l, h, y in zip(low[box].tolist(), high[box].tolist(), self.exact(*point), strict=True):
                    assert l <= y <= h

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_what_overflows_proves_nothing(self, dtype):
        """Ends beyond all numbers, and products of large ones: no finite end cuts a value off."""
        largest = torch.finfo(dtype).max
        for seed in range(3):
            ends = self.boxes(dtype, 100 + seed)
            wide = [(a.clone(), b.clone()) for a, b in ends]
            random = torch.Generator().manual_seed(seed)
            for a, b in wide:
                kind = torch.randint(0, 5, a.shape, generator=random)
                a[kind == 0], b[kind == 1] = -torch.inf, torch.inf
                a[kind == 2], b[kind == 3] = -largest, largest
            inside = [(a.clamp(min=-largest), b.clamp(max=largest)) for a, b in wide]
            low, high = self.function.interval(*wide)
            for box in range(BOXES):
                for point in self.points(inside, box, box):
                    for l, h, y in zip(low[box].tolist(), high[box].tolist(), self.exact(*point), strict=True):
                        assert not l > y and not h < y
                        assert l < torch.inf and h > -torch.inf

    # ---- planes

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("scale", [2.0, 300.0])
    @pytest.mark.parametrize("rows", [0, ROWS], ids=["choice by piece", "choice by row"])
    def test_what_pull_gives_is_below_the_function_rounding_counted(self, dtype, scale, rows):
        ends = self.boxes(dtype, 2, scale)
        random = torch.Generator().manual_seed(3)
        size = self.function.value(*(a for a, _ in ends)).shape[-1]
        coefficient = torch.randn(BOXES, ROWS, size, generator=random, dtype=torch.float64).to(dtype)
        coefficient[:, 0] = torch.nn.functional.one_hot(torch.arange(BOXES) % size, size)
        coefficient[:, 1] = -coefficient[:, 0]
        vector = gamma(self.function.terms(self.sizes), dtype) * self.function.reach(
            *(torch.maximum(a.abs(), b.abs()) for a, b in ends)
        )
        for choice in (None, tuple(t.to(dtype) for t in self.choices(4, rows))):
            planes = self.function.planes(ends, choice)
            pulled = planes.pull(coefficient, vector)
            tightest = 0.0
            for box in range(BOXES):
                cost = (coefficient[box].abs().double() * vector[box].double()).sum(-1) * 1.01
                for point in self.points(ends, box, 7 * box):
                    true = self.exact(*point)
                    for row in range(ROWS):
                        value = sum(a * b for a, b in zip(fractions(coefficient[box, row]), true, strict=True))
                        found = Fraction(pulled.gain[box, row].item()) - Fraction(cost[row].item())
                        for part, z in zip(pulled.operands, point, strict=True):
                            found += sum(a * b for a, b in zip(fractions(part[box, row]), z, strict=True))
                        assert found <= value
                        if cost[row] > 0:
                            tightest = max(tightest, float(1 - (value - found) / Fraction(cost[row].item())))
                assert (pulled.weighed[box].double() >= cost / 1.02).all()
            assert tightest > -0.2, "planes touch the function, at corners at least"

    @pytest.mark.parametrize("scale", [1.0, 1e-3])
    def test_reach_is_at_least_what_planes_are_made_of(self, scale):
        """Of one output at a time: the constant, and the coefficients times the largest values they meet."""
        ends = self.boxes(torch.float64, 21, scale)
        sizes = [torch.maximum(a.abs(), b.abs()) for a, b in ends]
        reach = self.function.reach(*sizes)
        one = torch.eye(reach.shape[-1], dtype=torch.float64).expand(BOXES, -1, -1)
        for choice in (None, self.choices(22)):
            for sign in (1, -1):
                pulled = self.function.planes(ends, choice).pull(sign * one, torch.zeros_like(reach))
                met = pulled.gain.abs()
                for part, size in zip(pulled.operands, sizes, strict=True):
                    met = met + (part.abs() * size[:, None]).sum(-1)
                assert (met <= reach * (1 + 1e-9) + 1e-300).all()

    def test_points_are_known_well_enough(self):
        points = [(a, a) for a, _ in self.boxes(torch.float64, 23)]
        assert not any(bool(part.any()) for part in self.function.open(*points))

    def test_pull_and_value_are_the_same_planes(self):
        ends = self.boxes(torch.float64, 5)
        random = torch.Generator().manual_seed(6)
        z = [(a + torch.rand(a.shape, generator=random, dtype=a.dtype) * (b - a))[:, None] for a, b in ends]
        z = [t.expand(-1, ROWS, -1) for t in z]
        size = self.function.value(*(a for a, _ in ends)).shape[-1]
        coefficient = torch.randn(BOXES, ROWS, size, generator=random, dtype=torch.float64)
        for choice in (None, self.choices(8), self.choices(9, ROWS)):
            planes = self.function.planes(ends, choice)
            pulled = planes.pull(coefficient, torch.zeros(size, dtype=torch.float64))
            total = sum((part * t).sum(-1) for part, t in zip(pulled.operands, z, strict=True)) + pulled.gain
            value = (coefficient * planes.value(coefficient >= 0, z)).sum(-1)
            torch.testing.assert_close(total, value, rtol=1e-9, atol=1e-6)
            one = planes.of(torch.tensor([3, 1]))
            some = one.pull(coefficient[[3, 1]], torch.zeros(size, dtype=torch.float64))
            torch.testing.assert_close(some.gain, pulled.gain[[3, 1]])
            for part, whole in zip(some.operands, pulled.operands, strict=True):
                torch.testing.assert_close(part, whole[[3, 1]])

    def test_planes_of_infinite_intervals_are_no_finite_lie(self):
        ends = [(torch.full((1, n), -torch.inf), torch.full((1, n), torch.inf)) for n in self.sizes]
        size = self.function.value(*(torch.zeros(1, n) for n in self.sizes)).shape[-1]
        for sign in (1.0, -1.0):
            pulled = self.function.planes(ends).pull(torch.full((1, 1, size), sign), torch.zeros(size))
            form = sum((part.abs() * 1e3).sum() for part in pulled.operands)
            assert not bool(torch.isfinite(form - pulled.gain).all())

    def test_what_is_not_open_changes_no_plane(self):
        """Entries that are said to be known well enough are made narrower, and nothing that is proved changes."""
        ends = self.boxes(torch.float64, 11)
        random = torch.Generator().manual_seed(12)
        narrow = []
        for (a, b), open_ in zip(ends, self.function.open(*ends), strict=True):
            middle = a + torch.rand(a.shape, generator=random, dtype=a.dtype) * (b - a)
            narrow.append((torch.where(open_, a, middle), torch.where(open_, b, middle)))
        size = self.function.value(*(a for a, _ in ends)).shape[-1]
        coefficient = torch.randn(BOXES, ROWS, size, generator=random, dtype=torch.float64)
        nothing = torch.zeros(size, dtype=torch.float64)
        both = [self.function.planes(known).pull(coefficient, nothing) for known in (ends, narrow)]
        first, second = (
            pulled.gain + sum((p * a[:, None]).sum(-1) for p, (a, _) in zip(pulled.operands, narrow, strict=True))
            for pulled in both
        )
        torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6)

    def test_gaps_are_numbers_of_the_operands_sizes_and_vanish_at_points(self):
        ends = self.boxes(torch.float64, 13)
        size = self.function.value(*(a for a, _ in ends)).shape[-1]
        coefficient = torch.ones(BOXES, ROWS, size, dtype=torch.float64)
        gaps = self.function.gaps(coefficient, ends)
        assert [g.shape for g in gaps] == [(BOXES, ROWS, n) for n in self.sizes]
        assert all(bool((g >= -1e-9).all()) for g in gaps) and any(bool((g > 0).any()) for g in gaps)
        points = [(a, a) for a, _ in ends]
        assert all(bool((g.abs() <= 1e-9 * (1 + g.abs())).all()) for g in self.function.gaps(coefficient, points))
