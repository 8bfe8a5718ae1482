"""Group functions: every output of a group reads all inputs of the group, n to n (softmax, a layer's norm).

The operand's entries are `groups` runs of `width` each, and so are the outputs. Between its planes an output is

    sum_j S_ij z_j + bias_i,     S a matrix of width x width for each group, side and box.

A function says its value, its interval and those matrices; how coefficients pass through them is the same for all.

Soundness: outward rounded. Biases hold for the matrices as they stand; `reach` is what rounding is in proportion to.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.dot import absolute_dot, depth
from .multivariate import AbstractMultivariate, AbstractPlanes, Choice, Interval, Pulled


class AbstractGroup(AbstractMultivariate):
    """A function of `width` variables with as many values, of `groups` groups."""

    arity: int = 1
    groups: int
    width: int

    @abstractmethod
    def matrices(self, low: Tensor, high: Tensor, choice: Choice) -> GroupPlanes:  # (B, groups, width) each
        """The planes on a box; choices broadcast against its ends."""

    def planes(self, operands: Sequence[Interval], choice: Choice | None = None) -> GroupPlanes:
        ((low, high),) = operands
        below, above = self.default_choice(operands) if choice is None else choice
        if below.ndim == 3:
            low, high = low[:, None], high[:, None]
        low, high = (t.unflatten(-1, (self.groups, self.width)) for t in (low, high))
        return self.matrices(low, high, (below, above))

    def terms(self, sizes: Sequence[int]) -> int:
        return self.width + depth(sizes[0]) + 6

    def gaps(self, coefficient: Tensor, operands: Sequence[Interval]) -> tuple[Tensor, ...]:
        """Where the gap of a group lies, its widest entries first."""
        ((low, high),) = operands
        planes, middle = self.planes(operands), ((low + high) / 2)[:, None]
        lower = torch.ones_like(middle, dtype=torch.bool)
        gap = coefficient.abs() * (planes.value(~lower, (middle,)) - planes.value(lower, (middle,)))
        total = gap.unflatten(-1, (self.groups, self.width)).sum(-1, keepdim=True)
        width = (high - low)[:, None].unflatten(-1, (self.groups, self.width))
        share = width / width.sum(-1, keepdim=True).clamp(min=torch.finfo(low.dtype).tiny)
        return ((total * share).flatten(-2),)

    def open(self, *operands: Interval) -> tuple[Tensor, ...]:
        """A group is known well enough where all of it is a point."""
        ((low, high),) = operands
        loose = (~(low == high)).unflatten(-1, (self.groups, self.width))
        return (loose.any(-1, keepdim=True).expand_as(loose).flatten(-2),)


@dataclass(frozen=True, eq=False)
class GroupPlanes(AbstractPlanes):
    """Matrices (B, groups, width, width), or (B, R, ...), biases without the last dimension."""

    lower: Tensor
    lower_bias: Tensor
    upper: Tensor
    upper_bias: Tensor

    def _sides(self, ndim: int) -> tuple[Tensor, ...]:
        """Everything with a dimension of rows."""
        sides = (self.lower, self.lower_bias, self.upper, self.upper_bias)
        return sides if self.lower.ndim == ndim + 2 else tuple(t[:, None] for t in sides)

    def pull(self, coefficient: Tensor, weight: Tensor) -> Pulled:
        lower, lower_bias, upper, upper_bias = self._sides(coefficient.ndim)
        split = coefficient.unflatten(-1, lower.shape[-3:-1])[..., None, :]  # (B, R, groups, 1, width)
        up, down = split.clamp(min=0), split.clamp(max=0)
        below = (up @ lower + down @ upper)[..., 0, :].flatten(-2)
        terms = up[..., 0, :] * lower_bias + down[..., 0, :] * upper_bias
        return Pulled((below,), terms.sum(-1).sum(-1), absolute_dot(coefficient, weight))

    def value(self, lower: Tensor, arguments: Sequence[Tensor]) -> Tensor:
        (z,) = arguments
        low, low_bias, high, high_bias = self._sides(z.ndim)
        split = z.unflatten(-1, low.shape[-3:-1])[..., None]
        below = ((low @ split)[..., 0] + low_bias).flatten(-2)
        return torch.where(lower, below, ((high @ split)[..., 0] + high_bias).flatten(-2))

    def of(self, index: Tensor) -> GroupPlanes:
        return GroupPlanes(*(t[index] for t in (self.lower, self.lower_bias, self.upper, self.upper_bias)))
