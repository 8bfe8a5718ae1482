"""Elementwise activations: value, image of an interval, sound lines over an interval, where to split.

A relaxation needs from a function f on [l, u] a lower and an upper line. Most functions leave a choice (the slope of
ReLU's lower line, the tangent point of a sigmoid's); the choice is a number in [0, 1] for each of the two lines, so
that `alpha` can optimise it without knowing the function. `choice=None` asks for the line CROWN takes.

Soundness: outward rounded. Lines and intervals hold for the real-valued function on the real interval [l, u] although
they are computed in the dtype of l and u: whatever slope s comes out, the bias is computed for that s and pushed
outward by a few units in the last place.

A function says what it is (kinks, pieces, where its derivative turns, how steep it gets), and defaults follow from it.
Whoever treats one kind of function in a way of its own asks for these properties, never for the class. Piecewise-linear
functions are split at their kinks, which decides a neuron's phase. Smooth ones can be split anywhere and are never
decided.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

# Epsilons by which a computed derivative may be off, relative: rounding of 2 x / scale costs the tail of tanh' as many
# as its exponent has, below 2,000 in float64.
STEEP = 4096.0


class Lines(NamedTuple):
    """lower_slope * x + lower_bias <= f(x) <= upper_slope * x + upper_bias on [l, u]; all of l's shape."""

    lower_slope: Tensor
    lower_bias: Tensor
    upper_slope: Tensor
    upper_bias: Tensor

    def of(self, index: Tensor) -> Lines:
        """Those of some of the pieces."""
        return Lines(*(t[index] for t in self))


class Piece(NamedTuple):
    """slope * x + offset, between two kinks."""

    slope: float
    offset: float = 0.0


class AbstractActivation(ABC):
    """A scalar function f applied to every entry.

    What whoever uses one relies on, and `tests/conformance.py` (`ActivationConformance`) tests:

    - `value` and `derivative` are continuous on `domain` but at kinks, and right up to rounding: `value` to what
      `interval` adds to it, `derivative` to a relative `STEEP` epsilons and the least normal number.
    - `interval` and `lines` hold for every real number of [lower, upper] within the domain, whatever the dtype,
      lower == upper and intervals beyond all values included. A network has no value where a function has none.
    - What overflows is infinite on the side that proves nothing (a lower end is at most the largest number), or not a
      number. It is never finite and wrong.
    - Slopes of lines are slopes that f has on [lower, upper], up to 1 %: rounding vectors (`relaxations.rounding`)
      take `steepest` of an interval for the most that a coefficient grows by, and lines are taken on intervals within
      those that the vectors were made for. They may exceed 1, and they may be negative.
    - A line touches f, up to rounding: its bias is at most |f(x)| + steepest |x| somewhere on the interval.
    - Where `leak` is a number, the lower line is (leak + c (1 - leak)) x, c its choice, without a bias, and nothing
      else can be chosen; the upper line's bias is at most its slope times the larger of |lower| and |upper|, but where
      the slope is below the normal numbers.
    """

    name: str
    kinks: tuple[float, ...] = ()  # where the derivative jumps, in order
    turns: tuple[float, ...] = ()  # where the derivative, away from kinks, stops rising or falling
    domain: tuple[float, float] = (-inf, inf)  # where f is defined; ends included where f is finite there

    @property
    def kernel_error(self) -> tuple[int, int]:
        """Absolute and relative error of onnxruntime's kernel, in unit roundoffs (what was measured, and a third)."""
        return 0, 6

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The affine pieces of a piecewise-linear function, one more than kinks; none of other functions."""
        return ()

    @property
    def homogeneous(self) -> bool:
        """Whether f(t x) = t f(x) for all t >= 0, as is seen from the pieces."""
        return bool(self.pieces) and not any(piece.offset for piece in self.pieces)

    @cached_property
    def leak(self) -> float | None:
        """s where f is a (leaky) ReLU, max(x, s x) with 0 <= s < 1; None for all other functions."""
        if not self.homogeneous or self.kinks != (0.0,):
            return None
        left, right = (piece.slope for piece in self.pieces)
        return left if right == 1 and 0 <= left < 1 else None

    @property
    def increasing(self) -> bool:
        """Whether f never falls. Not known of a function that does not say so and has no pieces."""
        return bool(self.pieces) and all(piece.slope >= 0 for piece in self.pieces)

    @property
    def lipschitz(self) -> float:
        """The largest |slope| anywhere; infinite where there is none."""
        return max((abs(piece.slope) for piece in self.pieces), default=inf)

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """f(x)."""

    @abstractmethod
    def derivative(self, x: Tensor) -> Tensor:
        """A derivative of f (at a kink, either side's)."""

    @abstractmethod
    def interval(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds of f over [lower, upper], outward rounded."""

    @abstractmethod
    def lines(
        self, lower: Tensor, upper: Tensor, choice: tuple[Tensor, Tensor] | None = None
    ) -> Lines:  # choice: (of the lower line, of the upper line), broadcastable against lower
        """Sound lines over [lower, upper]; where `decided`, the function itself."""

    @abstractmethod
    def default_choice(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """The choice that `choice=None` stands for."""

    def steepest(self, lower: Tensor, upper: Tensor) -> Tensor:
        """The largest |slope| of f on [lower, upper], up to a relative `STEEP` epsilons."""
        least, most = self._slopes(lower, upper)
        return torch.maximum(least.abs(), most.abs())

    def slopes(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds of the slopes of all chords of f over [lower, upper], outward rounded."""
        least, most = self._slopes(lower, upper)
        if self.pieces:
            return least, most
        finfo = torch.finfo(lower.dtype)
        less, more = 1 - STEEP * finfo.eps, 1 + STEEP * finfo.eps
        least, most = least.clamp(max=finfo.max), most.clamp(min=finfo.min)  # what overflows is at least so much
        least = torch.where(least < 0, least * more, least * less) - finfo.tiny
        most = torch.where(most < 0, most * less, most * more) + finfo.tiny
        return least.clamp(min=0) if self.increasing else least, most

    def _slopes(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the greatest slope on [lower, upper], as they are computed; both sides of a kink at its end
        count where the interval is that point."""
        if self.pieces:
            first, last = (torch.zeros_like(lower, dtype=torch.int64) for _ in range(2))  # the pieces of both ends
            for kink in self.kinks:
                first += lower >= kink
                last += upper > kink
            least, most = torch.full_like(lower, inf), torch.full_like(lower, -inf)
            for i, piece in enumerate(self.pieces):
                met = (torch.minimum(first, last) <= i) & (torch.maximum(first, last) >= i)
                least = torch.where(met, least.clamp(max=piece.slope), least)
                most = torch.where(met, most.clamp(min=piece.slope), most)
            return least, most
        ends = self.derivative(lower), self.derivative(upper)
        least, most = torch.minimum(*ends), torch.maximum(*ends)
        for turn in self.turns:
            there = torch.where((lower < turn) & (upper > turn), self.derivative(torch.full_like(lower, turn)), ends[0])
            least, most = torch.minimum(least, there), torch.maximum(most, there)
        return least, most

    def decided(self, lower: Tensor, upper: Tensor) -> Tensor:  # bool
        """Where f is linear on all of [lower, upper]."""
        if not self.pieces:
            return lower == upper
        inside = torch.zeros_like(lower, dtype=torch.bool)
        for kink in self.kinks:
            inside |= (lower < kink) & (upper > kink)
        return ~inside

    def split_point(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where splitting [lower, upper] helps the lines most; inside, where f is not decided and numbers allow it."""
        if not self.pieces:
            return lower / 2 + upper / 2
        point = torch.full_like(lower, self.kinks[0])
        for kink in self.kinks[1:]:
            nearer = (kink - (lower / 2 + upper / 2)).abs() < (point - (lower / 2 + upper / 2)).abs()
            point = torch.where(nearer, kink, point)
        return point


@dataclass(frozen=True)
class LeakyReLU(AbstractActivation):
    """max(x, slope * x) with 0 <= slope < 1: convex, one kink at zero. `ReLU` is slope 0.

    Upper line: the chord. Lower line: any slope in [slope, 1] through the origin; CROWN takes 1 where u > -l and
    `slope` elsewhere (Zhang et al. 2018), and the choice c means the slope `slope + c (1 - slope)`.
    """

    slope: float = 0.01
    name: str = "LeakyRelu"
    kinks: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        if not 0 <= self.slope < 1:
            raise ValueError(f"LeakyReLU needs a slope in [0, 1), not {self.slope}")
        # As ONNX stores it: a float32, so that the slope is the same real number in both precisions.
        object.__setattr__(self, "slope", torch.tensor(self.slope, dtype=torch.float32).item())

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return Piece(self.slope), Piece(1.0)

    @property
    def kernel_error(self) -> tuple[int, int]:
        return 0, 6 if self.slope else 0  # a ReLU does not round

    def value(self, x: Tensor) -> Tensor:
        return torch.relu(x) if self.slope == 0 else torch.maximum(x, self.slope * x)

    def derivative(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, 1.0, self.slope).to(x.dtype)

    def interval(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        if self.slope == 0:
            return torch.relu(lower), torch.relu(upper)
        eps, tiny = torch.finfo(lower.dtype).eps, torch.finfo(lower.dtype).tiny
        # A product below the normal numbers may be anything from 0 to the smallest of them.
        low = torch.where(lower >= 0, lower, lower * (self.slope * (1 + 4 * eps)) - tiny)
        high = torch.where(upper >= 0, upper, (upper * (self.slope * (1 - 4 * eps)) + tiny).clamp(max=0))
        return low, high

    def default_choice(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return (upper > -lower).to(lower.dtype), torch.zeros_like(lower)

    def lines(self, lower: Tensor, upper: Tensor, choice: tuple[Tensor, Tensor] | None = None) -> Lines:
        a, finfo = self.slope, torch.finfo(lower.dtype)
        c = self.default_choice(lower, upper)[0] if choice is None else choice[0].clamp(0, 1)
        lower_slope = a + c * (1 - a) if a else c
        # With the side cut off that a stable neuron does not reach, the chord is the function itself.
        below, above = (-lower).clamp_(min=0), upper.clamp(min=0)
        width = (below + above).clamp_(min=finfo.tiny)
        upper_slope = above / width
        if a:
            upper_slope = (upper_slope + a * (below / width)).clamp_(a, 1)
        # The bias that the *rounded* slope needs at both ends: s |l| - a |l| on the left, u - s u on the right.
        bias = torch.maximum((upper_slope - a) * below, (1 - upper_slope) * above)
        upper_bias = bias.mul_(1 + 8 * finfo.eps).add_(finfo.tiny)
        if a or choice is not None:
            active, dead = lower >= 0, upper <= 0
            upper_slope = torch.where(active, 1.0, torch.where(dead, a, upper_slope))
            lower_slope = torch.where(active, 1.0, torch.where(dead, a, lower_slope))
            upper_bias = torch.where(active | dead, 0.0, upper_bias)
        return Lines(lower_slope, lower.new_zeros(1).expand_as(lower), upper_slope, upper_bias)


def ReLU() -> LeakyReLU:
    """max(x, 0)."""
    return LeakyReLU(0.0, name="Relu")
