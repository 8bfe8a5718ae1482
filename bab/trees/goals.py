"""The property as tensors: one goal for each pair of an input polytope and an unsafe set.

A piece works on one goal: it is closed when one of the goal's rows is positive on all of it, or, where the row is
strict, at least zero. Goals with fewer rows than the widest repeat their first row, so that a batch of pieces with
different goals is one tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...kernels.proof_constants import UPWARD_SUM
from ...problems.properties.property import Property, UnsafeSet
from ...relaxations.types import Rows


@dataclass(frozen=True, eq=False)
class Goals:
    """G goals: which case and unsafe set each is, and its rows."""

    pairs: tuple[tuple[int, int], ...]
    coefficients: Tensor  # (G, S, n_out)
    constants: Tensor  # (G, S)
    on_input: Tensor | None  # (G, S, D)
    strict: Tensor | None = None  # (G, S) bool; None: no row is

    def rows(self, goal: Tensor) -> Rows:  # (B,)
        """The rows of each piece's goal."""
        of = lambda part: None if part is None else part[goal]  # noqa: E731
        return Rows(self.coefficients[goal], self.constants[goal], of(self.on_input), of(self.strict))

    def __len__(self) -> int:
        return len(self.pairs)


def goals_of(
    prop: Property,
    dtype: torch.dtype,
    device: torch.device | str,
    inputs: Tensor,  # (D,) float64: |x| on the input set
    outputs: Tensor,  # (n_out,) float64: |f(x)| on it
) -> Goals:
    """The goals of a property; cases whose box is empty have none.

    Coefficients that float64 or `dtype` cannot hold are rounded, and the constants lowered by what that can change:
    outward. An unsafe set without rows is everything: it gets the row -1, which no bound can make positive.
    """
    pairs = [(c, u) for c, case in enumerate(prop.cases) if not case.inputs.empty for u in range(len(case.unsafe))]
    unsafe = [prop.cases[c].unsafe[u] for c, u in pairs]
    width = max([1, *(len(s.rows) for s in unsafe)])
    rows = np.zeros((len(pairs), width, prop.n_out))
    constants = np.full((len(pairs), width), -1.0)
    on_input = np.zeros((len(pairs), width, prop.n_in)) if any(s.on_input is not None for s in unsafe) else None
    strict = np.zeros((len(pairs), width), dtype=bool)
    for g, s in enumerate(unsafe):
        if len(s.rows) == 0:
            continue
        pick = [k if k < len(s.rows) else 0 for k in range(width)]
        rows[g], constants[g], strict[g] = s.rows[pick], s.constants[pick], s.strict[pick]
        if on_input is not None and s.on_input is not None:
            on_input[g] = s.on_input[pick]
    coefficients, lost = _rounded(torch.from_numpy(rows), outputs, dtype)
    of_input = None
    if on_input is not None:
        of_input, more = _rounded(torch.from_numpy(on_input), inputs, dtype)
        of_input, lost = of_input.to(device), lost + more
    lost = lost + torch.from_numpy(_lost(unsafe, width, inputs.numpy(), outputs.numpy()))
    lowered = _below(torch.from_numpy(constants), lost * UPWARD_SUM)
    down = lowered.to(dtype)
    down = torch.where(down.double() > lowered, torch.nextafter(down, down.new_tensor(-torch.inf)), down)
    marks = torch.from_numpy(strict).to(device) if strict.any() else None
    return Goals(tuple(pairs), coefficients.to(device), down.to(device), of_input, marks)


def _rounded(exact: Tensor, largest: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The coefficients in `dtype`, and how far the rows can be off for it."""
    rounded = exact.to(dtype)
    return rounded, ((rounded.double() - exact).abs() * largest).sum(-1) * UPWARD_SUM


def _below(value: Tensor, less: Tensor) -> Tensor:
    """value - less, rounded down; `value` itself where `less` is zero."""
    return torch.where(less > 0, torch.nextafter(value - less, value.new_tensor(-torch.inf)), value)


def _lost(unsafe: Sequence[UnsafeSet], width: int, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """How far the rows of the sets' float64 arrays can be off the exact ones, (G, width), rounded up."""
    found = np.zeros((len(unsafe), width))
    for g, s in enumerate(unsafe):
        if len(s.rows) and s.lost is not None:
            off = s.lost.most(inputs, outputs)
            found[g] = [off[k if k < len(off) else 0] for k in range(width)]
    return found
