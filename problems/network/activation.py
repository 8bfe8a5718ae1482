"""Elementwise activations: value, image of an interval, sound lines over an interval, where to split.

A relaxation needs from a function f on [l, u] a lower and an upper line. Most functions leave a choice (the slope of
ReLU's lower line, the tangent point of a sigmoid's); the choice is a number in [0, 1] for each of the two lines, so
that `alpha` can optimise it without knowing the function. `choice=None` asks for the line CROWN takes.

Soundness: outward rounded. Lines and intervals hold for the real-valued function on the real interval [l, u] although
they are computed in the dtype of l and u: whatever slope s comes out, the bias is computed for that s and pushed
outward by a few units in the last place.

Piecewise-linear functions have one kink at zero here (`kinks`); splitting there decides a neuron's phase. Smooth ones
can be split anywhere and are never decided.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Lines(NamedTuple):
    """lower_slope * x + lower_bias <= f(x) <= upper_slope * x + upper_bias on [l, u]; all of l's shape."""

    lower_slope: Tensor
    lower_bias: Tensor
    upper_slope: Tensor
    upper_bias: Tensor


class AbstractActivation(ABC):
    """A scalar function applied to every entry."""

    name: str
    kinks: tuple[float, ...]  # where a piecewise-linear function bends; () for smooth functions

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

    def decided(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where f is linear on all of [lower, upper]."""
        inside = torch.zeros_like(lower, dtype=torch.bool)
        for kink in self.kinks:
            inside |= (lower < kink) & (upper > kink)
        return ~inside if self.kinks else lower == upper

    def split_point(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where splitting [lower, upper] helps the lines most."""
        return torch.full_like(lower, self.kinks[0]) if self.kinks else (lower + upper) / 2


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
