"""Projected gradient ascent on the free parameters of a batch of bounds, step by step and resumable.

Every parameter gets steps of its own size (Adam; Kingma and Ba 2015), which shrink by a constant factor
(Wang et al. 2021). Multipliers of multi-neuron rows live on the scale of the coefficients they compete with, which
differs by orders of magnitude between layers: they are stepped in units of `scale`.

Heuristic: every value in range is sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..effort import LinearEffort
from ..types import Multipliers


@dataclass(frozen=True)
class Rates:
    """First step sizes: of slopes, of decided neurons' multipliers, and of rows' (in units of their scale)."""

    choice: float
    split: float
    neuron_rows: float


class Ascent:
    """Where the multipliers stand, and how they got there."""

    def __init__(self, multipliers: Multipliers, rates: Rates, effort: LinearEffort) -> None:
        self.at, self.rates, self.effort, self.step = multipliers, rates, effort, 0
        self.moments = [
            [torch.zeros_like(t), torch.zeros_like(t)]
            for t in (multipliers.choice, multipliers.split, multipliers.neuron_rows)
        ]

    def climb(self, choice: Tensor, split: Tensor, neuron_rows: Tensor | None, scale: Tensor | None) -> None:
        """One step along the gradients (shaped like the multipliers)."""
        decay, at = self.effort.decay**self.step, self.at
        new_choice, new_split, new_rows = at.choice.clone(), at.split.clone(), at.neuron_rows
        self._ascend(new_choice, choice, self.moments[0], self.rates.choice * decay)
        self._ascend(new_split, split, self.moments[1], self.rates.split * decay)
        if neuron_rows is not None:
            assert scale is not None, "rows have a scale where they have a gradient"
            new_rows = at.neuron_rows / scale
            self._ascend(new_rows, neuron_rows * scale, self.moments[2], self.rates.neuron_rows * decay)
            new_rows.clamp_(min=0).mul_(scale)
        self.at = Multipliers(new_choice.clamp_(0, 1), new_split.clamp_(min=0), new_rows)
        self.step += 1

    def reorder(self, index: Tensor) -> None:  # (C',), where each row stood before, -1 for a new one
        """Follows the rows to a new set of them; new rows start at zero."""
        self.at = Multipliers(self.at.choice, self.at.split, _taken(self.at.neuron_rows, index))
        self.moments[2] = [_taken(t, index) for t in self.moments[2]]

    def _ascend(self, value: Tensor, gradient: Tensor, moments: list[Tensor], rate: float) -> None:
        """One Adam step upwards, in place."""
        if value.numel() == 0:
            return
        (first, second), keep, long = moments, self.effort.momentum, self.effort.second
        first.lerp_(gradient, 1 - keep)
        second.mul_(long).addcmul_(gradient, gradient, value=1 - long)
        scale = (second / (1 - long ** (self.step + 1))).sqrt_().add_(1e-8)
        value.addcdiv_(first, scale, value=rate / (1 - keep ** (self.step + 1)))


def _taken(value: Tensor, index: Tensor) -> Tensor:  # (B, S, C) -> (B, S, C')
    if value.shape[-1] == 0:
        return value.new_zeros(*value.shape[:-1], len(index))
    return torch.where(index >= 0, value[..., index.clamp(min=0)], 0.0)
