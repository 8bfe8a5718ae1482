"""The product of two variables, entry by entry, between McCormick's planes.

On [a, b] x [c, d] the hull of x y lies between

    below:  c x + a y - a c   and   d x + b y - b d,         above:  d x + a y - a d   and   c x + b y - b c

(McCormick 1976; Al-Khayyal and Falk 1983: no other planes are needed), and so does every mixture of the two on a side:
t of the first and 1 - t of the second, which is what can be optimised. Exact where a factor is a point.

Rounding. Whatever slopes s, r come out, x y - s x - r y is linear in each variable by itself, so its extrema over the
box lie at corners: the bias is the least (greatest) of four numbers, each a sum of three products, pushed outwards.

Soundness: outward rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .multivariate import AbstractEntrywise, Choice, EntryPlanes, Interval


@dataclass(frozen=True)
class Product(AbstractEntrywise):
    """x y."""

    name: str = "product"
    arity: int = 2

    def value(self, *operands: Tensor) -> Tensor:
        one, two = operands
        return one * two

    def interval(self, *operands: Interval) -> Interval:
        return product_interval(*operands)

    def planes(self, operands: Sequence[Interval], choice: Choice | None = None) -> EntryPlanes:
        (a, b), (c, d) = operands
        low, high = (t.clamp(0, 1) for t in (self.default_choice(operands) if choice is None else choice))
        if low.ndim == 3:
            a, b, c, d = (t[:, None] for t in (a, b, c, d))
        below = low * c + (1 - low) * d, low * a + (1 - low) * b
        above = high * d + (1 - high) * c, high * a + (1 - high) * b
        return EntryPlanes(below, _bias(below, (a, b), (c, d), -1), above, _bias(above, (a, b), (c, d), 1))

    def reach(self, *sizes: Tensor) -> Tensor:
        return 6 * times(*sizes)  # |S_1 x| and |S_2 y| are at most |x y| at ends, and so a bias at most three of them

    def open(self, *operands: Interval) -> tuple[Tensor, ...]:
        (a, b), (c, d) = operands
        both = ~((a == b) | (c == d))
        return both, both


def _bias(slopes: tuple[Tensor, Tensor], one: Interval, two: Interval, side: int) -> Tensor:
    """The bias of a plane with these slopes: of the least (`side` -1) or the greatest rest at a corner."""
    eps, tiny = torch.finfo(one[0].dtype).eps, torch.finfo(one[0].dtype).tiny
    rests = []
    for x in one:
        for y in two:
            terms = x * y, slopes[0] * x, slopes[1] * y
            size = terms[0].abs() + terms[1].abs() + terms[2].abs()
            rests.append(terms[0] - terms[1] - terms[2] + side * (4 * eps * size + 8 * tiny))
    stacked = torch.stack(rests)  # not a number, where an end is infinite: so is the extremum then
    return stacked.amin(0) if side < 0 else stacked.amax(0)


def times(one: Tensor, two: Tensor) -> Tensor:
    """The product of two sizes; 0 times anything is 0."""
    return torch.where((one == 0) | (two == 0), 0.0, one * two)


def product_interval(one: Interval, two: Interval) -> Interval:
    """Bounds of a b, entry by entry; 0 times anything is 0, and signs are exact."""
    (a, b), (c, d) = one, two
    finfo = torch.finfo(a.dtype)
    corners = torch.stack([times(x, y) for x in (a, b) for y in (c, d)])
    pad = 4 * finfo.eps * corners.abs()
    low, high = (corners - pad).amin(0) - finfo.tiny, (corners + pad).amax(0) + finfo.tiny
    low, high = torch.where(low.isnan(), -torch.inf, low), torch.where(high.isnan(), torch.inf, high)  # overflow
    nothing = ((a == 0) & (b == 0)) | ((c == 0) & (d == 0))
    alike = nothing | ((a >= 0) & (c >= 0)) | ((b <= 0) & (d <= 0))
    opposite = nothing | ((a >= 0) & (d <= 0)) | ((b <= 0) & (c >= 0))
    zero = low.new_zeros(())
    return torch.where(alike, low.fmax(zero), low), torch.where(opposite, high.fmin(zero), high)
