"""A group function as simple as one can be whose planes mix entries: every output is the largest of its group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from partita.problems.network.group import AbstractGroup, GroupPlanes
from partita.problems.network.multivariate import Choice, Interval


@dataclass(frozen=True)
class GroupMax(AbstractGroup):
    groups: int
    width: int
    name: str = "largest of a group"
    arity: int = 1

    def _split(self, z: Tensor) -> Tensor:
        return z.unflatten(-1, (self.groups, self.width))

    def _all(self, largest: Tensor) -> Tensor:
        return largest.expand(*largest.shape[:-1], self.width).flatten(-2)

    def value(self, *operands: Tensor) -> Tensor:
        return self._all(self._split(operands[0]).amax(-1, keepdim=True))

    def interval(self, *operands: Interval) -> Interval:
        low, high = (self._all(self._split(end).amax(-1, keepdim=True)) for end in operands[0])
        return low, high

    def reach(self, *sizes: Tensor) -> Tensor:
        return 8 * self._all(self._split(sizes[0]).sum(-1, keepdim=True))

    def matrices(self, low: Tensor, high: Tensor, choice: Choice) -> GroupPlanes:
        """Below, a mixture of the entries whose lower and whose upper ends are largest; above, with c the largest lower
        end, max z <= c + sum_j max(z_j - c, 0), and chords of that."""
        eps, tiny = torch.finfo(low.dtype).eps, torch.finfo(low.dtype).tiny
        one = lambda end: torch.nn.functional.one_hot(end.argmax(-1), self.width).to(low.dtype)  # noqa: E731
        t = self._split(choice[0]).mean(-1, keepdim=True)
        below = (t * one(low) + (1 - t) * one(high)).expand(*t.shape[:-1], self.width)
        lower = below[..., None, :].expand(*below.shape, self.width).contiguous()
        scale = torch.maximum(low.abs(), high.abs()).sum(-1, keepdim=True)
        bias = -(8 * eps * scale + tiny).expand(below.shape)
        c = low.amax(-1, keepdim=True)
        slope = ((high - c) / (high - low).clamp(min=tiny)).clamp(0, 1) + 0 * choice[1][..., :1, None]
        slope = torch.where(low == high, 0.0, slope)
        rest = torch.maximum((high - c).clamp(min=0) - slope * (high - c), -slope * (low - c))
        above = slope[..., None, :].expand(*slope.shape, self.width).contiguous()
        top = c + (rest - slope * c).sum(-1, keepdim=True) + 32 * eps * self.width * scale + tiny
        return GroupPlanes(lower, bias, above, top.expand(slope.shape))
