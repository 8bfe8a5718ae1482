"""exp, a function that is steeper than 1: what the tests hold the bounds' treatment of slopes against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from partita.problems.network.activation import AbstractActivation, Lines

ERROR = 8.0  # epsilons by which a computed exp(x) - s x is moved outward, relative to exp(x) + |s x|


@dataclass(frozen=True)
class Exp(AbstractActivation):
    """exp(x): the lower line is the tangent at l + c (u - l), the upper one the chord."""

    name: str = "Exp"
    increasing = True

    def value(self, x: Tensor) -> Tensor:
        return torch.exp(x)

    def derivative(self, x: Tensor) -> Tensor:
        return torch.exp(x)

    def interval(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        finfo = torch.finfo(lower.dtype)
        low = torch.exp(lower) * (1 - ERROR * finfo.eps) - finfo.tiny
        return low.clamp(min=0, max=finfo.max), torch.exp(upper) * (1 + ERROR * finfo.eps) + finfo.tiny

    def default_choice(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(lower, 0.5), torch.zeros_like(lower)

    def lines(self, lower: Tensor, upper: Tensor, choice: tuple[Tensor, Tensor] | None = None) -> Lines:
        finfo = torch.finfo(lower.dtype)
        c = (self.default_choice(lower, upper) if choice is None else choice)[0].clamp(0, 1)
        below = torch.exp(torch.minimum((1 - c) * lower + c * upper, upper))
        below = torch.where(below < 4 * finfo.tiny, 0.0, below)
        # exp(x) - s x is least where exp(x) = s; there it is s - s log s, and 0 where s is 0.
        ramp = torch.where(below > 0, below * torch.log(below), 0.0)
        lower_bias = below - ramp - ERROR * finfo.eps * (below + ramp.abs()) - finfo.tiny
        ends = torch.exp(lower), torch.exp(upper)
        chord = (ends[1] - ends[0]) / (upper - lower).clamp(min=finfo.tiny)
        above = torch.minimum(torch.maximum(chord, ends[0]), ends[1])
        bias = [
            y - above * x + ERROR * finfo.eps * (y + (above * x).abs()) + finfo.tiny
            for x, y in zip((lower, upper), ends, strict=True)
        ]
        return Lines(below, lower_bias, above, torch.maximum(*bias))
