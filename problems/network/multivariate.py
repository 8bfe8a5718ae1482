"""Nonlinear layers that join several variables: what they compute, and the planes they lie between.

Three kinds: a function of k operands for each entry (`AbstractEntrywise`; the product of two vectors), bilinear maps,
y_k = sum_ij T_kij a_i b_j (`bilinear`; the product of two matrices), and group functions, in which each entry of a
group reads all of it (`group`). To whoever bounds networks they are one thing. A layer reads k nodes, its operands, and
every entry of every operand is a pre-activation: known between two ends, perhaps decided, a candidate for a split.
From their intervals follow

    an interval of each output,   and planes below and above it:   sum_o S_o z_o + bias.

Planes may be contracted. Those of a product of matrices are as many as it has terms, millions, and all that is ever
asked of them is what they make of coefficients on the outputs: coefficients on each operand, and a constant. So
`AbstractPlanes` answers that (`pull`) and holds what it takes: the intervals.

As of functions of one variable (`activation`), planes leave a choice in [0, 1], one number for the lower and one for
the upper plane, for each entry of the first operand: any choice is sound.

Soundness: outward rounded. Planes are sound for real numbers as their own floating-point numbers stand, and `reach`
is what rounding in `pull` is in proportion to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...kernels.dot import depth
from ...kernels.substitute import substitute_operands

Interval = tuple[Tensor, Tensor]  # (B, n), (B, n)
Choice = tuple[Tensor, Tensor]  # of the lower and of the upper plane: (B, n) or (B, R, n), n of the first operand


class Pulled(NamedTuple):
    """What planes make of coefficients on the outputs."""

    operands: tuple[Tensor, ...]  # coefficients on each operand, (B, R, n_o)
    gain: Tensor  # (B, R) what is added to the constant
    weighed: Tensor  # (B, R) |coefficients| . weight


class AbstractPlanes(ABC):
    """Planes below and above every output of a layer, on a batch of B boxes."""

    @abstractmethod
    def pull(self, coefficient: Tensor, weight: Tensor) -> Pulled:  # (B, R, n), (n,) or (B, n) not negative
        """The lower plane where a coefficient is positive, the upper one where it is negative."""

    @abstractmethod
    def value(self, lower: Tensor, arguments: Sequence[Tensor]) -> Tensor:  # (B, R, n) bool, (B, R, n_o) -> (B, R, n)
        """The lower plane where asked for, elsewhere the upper one, at values of the operands."""

    @abstractmethod
    def of(self, index: Tensor) -> AbstractPlanes:
        """Those of some of the boxes."""


class AbstractMultivariate(ABC):
    """The function of a layer of k >= 1 operands; frozen, and alike where equal.

    What whoever uses one relies on, and `tests/conformance.py` (`MultivariateConformance`) tests:

    - `interval` and planes hold for all real numbers in the operands' intervals, points and intervals beyond all values
      included; what overflows is infinite on the side that proves nothing, or not a number, never finite and wrong.
    - `pull` and what is added to it later err by at most gamma(`terms(n)`) of |L| . `reach`, L the coefficients.
    - Where `open` says no, better intervals of that entry change no plane.
    """

    name: str
    arity: int  # operands

    @abstractmethod
    def value(self, *operands: Tensor) -> Tensor:
        """The outputs."""

    @abstractmethod
    def interval(self, *operands: Interval) -> Interval:
        """Bounds of the outputs; signs and zeros are exact."""

    @abstractmethod
    def planes(self, operands: Sequence[Interval], choice: Choice | None = None) -> AbstractPlanes:
        """Planes on the operands' intervals; those of `default_choice` where none is given."""

    @abstractmethod
    def reach(self, *sizes: Tensor) -> Tensor:  # (..., n_o) each -> (..., n)
        """At least |bias| + sum_o |S_o| |z_o| of all planes of every output, on intervals with ends up to `sizes`."""

    @abstractmethod
    def terms(self, sizes: Sequence[int]) -> int:
        """Roundings that any term meets in `pull`, in the planes and in the sums, operands of these sizes."""

    @abstractmethod
    def gaps(self, coefficient: Tensor, operands: Sequence[Interval]) -> tuple[Tensor, ...]:  # (B, R, n) -> (B, R, n_o)
        """What each entry of each operand may make a bound with these coefficients lose (heuristic)."""

    @abstractmethod
    def open(self, *operands: Interval) -> tuple[Tensor, ...]:  # (B, n_o) bool each
        """Which entries of the operands are not known as well as the planes can use."""

    def default_choice(self, operands: Sequence[Interval]) -> Choice:
        """The choice that `planes` makes by itself: the middle."""
        half = torch.full_like(operands[0][0], 0.5)
        return half, half


@dataclass(frozen=True, eq=False)
class EntryPlanes(AbstractPlanes):
    """Planes of a function of k operands for each entry; every tensor (B, n) or (B, R, n)."""

    lower_slopes: tuple[Tensor, ...]
    lower_bias: Tensor
    upper_slopes: tuple[Tensor, ...]
    upper_bias: Tensor

    def pull(self, coefficient: Tensor, weight: Tensor) -> Pulled:
        slopes = zip(self.lower_slopes, self.upper_slopes, strict=True)
        return Pulled(*substitute_operands(coefficient, tuple(slopes), (self.lower_bias, self.upper_bias), weight))

    def value(self, lower: Tensor, arguments: Sequence[Tensor]) -> Tensor:
        wide = lambda t: t if t.ndim == 3 else t[:, None]  # noqa: E731
        total = torch.where(lower, wide(self.lower_bias), wide(self.upper_bias))
        for low, high, argument in zip(self.lower_slopes, self.upper_slopes, arguments, strict=True):
            total = total + torch.where(lower, wide(low), wide(high)) * argument
        return total

    def of(self, index: Tensor) -> EntryPlanes:
        some = lambda slopes: tuple(t[index] for t in slopes)  # noqa: E731
        return EntryPlanes(
            some(self.lower_slopes), self.lower_bias[index], some(self.upper_slopes), self.upper_bias[index]
        )


class AbstractEntrywise(AbstractMultivariate):
    """One function of k operands for each entry: all operands and the outputs have the same size."""

    def terms(self, sizes: Sequence[int]) -> int:
        return depth(sizes[0]) + 6

    def gaps(self, coefficient: Tensor, operands: Sequence[Interval]) -> tuple[Tensor, ...]:
        planes = self.planes(operands)
        middle = tuple(((low + high) / 2)[:, None] for low, high in operands)
        lower = torch.ones_like(middle[0], dtype=torch.bool)
        gap = planes.value(~lower, middle) - planes.value(lower, middle)
        return tuple(torch.where(part[:, None], coefficient.abs() * gap, 0.0) for part in self.open(*operands))
