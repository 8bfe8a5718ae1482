"""Where a candidate is moved before it is judged: off the borders, so that rounding does not carry it across, or onto
them, where only the border itself is unsafe.

Soundness: heuristic; what comes out is judged.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...problems.network.graph import Graph
from ...problems.properties.property import Array, Polytope, UnsafeSet

INSET = 1e-4  # of a coordinate's width: how far inside the box a witness should lie
STEPS = 12
COMFORTABLE = 1e-4  # of the largest output: a margin that no rounding reaches
BESIDE = 1e-6  # of a coordinate's width: how near to a border counts as on it


def moved_inside(
    graph: Graph, x: Array, inputs: Polytope, unsafe: UnsafeSet, far: bool = False
) -> Array | None:  # (D,) -> (D,)
    """A point near x, strictly inside the box, with the least largest row met on the way down; None if unsafe sets
    without rows leave nothing to lower. A few gradient steps in float64 in a box shrunk by `INSET`; the rows of the
    input's half-spaces count as well. It stops where it is `COMFORTABLE`, or with `far` goes on to the end."""
    width = inputs.upper - inputs.lower
    lower, upper = (torch.from_numpy(b) for b in (inputs.lower + INSET * width, inputs.upper - INSET * width))
    rows = _Rows(inputs, unsafe)
    point, step = torch.from_numpy(np.clip(x, lower.numpy(), upper.numpy())), torch.from_numpy(0.02 * width)
    best, least = None, np.inf
    for _ in range(3 * STEPS if far else STEPS):
        point.requires_grad_()
        y = graph(point)
        value = rows.largest(y, point)
        if value is None:
            return None
        if value.item() < least:
            best, least = point.detach().numpy().copy(), value.item()
        if not far and least < -COMFORTABLE * y.abs().max().item():
            break
        (slope,) = torch.autograd.grad(value, point)
        point = torch.clamp(point.detach() - step * slope.sign(), lower, upper)
        step = step * 0.8
    return best


def snapped(x: Array, inputs: Polytope) -> Array:  # (D,) -> (D,)
    """x with the coordinates that are next to a border on it."""
    beside = BESIDE * (inputs.upper - inputs.lower)
    x = np.where(x <= inputs.lower + beside, inputs.lower, x)
    return np.where(x >= inputs.upper - beside, inputs.upper, x)


class _Rows:
    """The rows of an unsafe set and of the half-spaces of the input, as float64 numbers."""

    def __init__(self, inputs: Polytope, unsafe: UnsafeSet) -> None:
        self.rows, self.constants = torch.from_numpy(unsafe.rows), torch.from_numpy(unsafe.constants)
        self.on_input = None if unsafe.on_input is None else torch.from_numpy(unsafe.on_input)
        self.normals, self.offsets = torch.from_numpy(inputs.normals), torch.from_numpy(inputs.offsets)

    def largest(self, y: Tensor, x: Tensor) -> Tensor | None:  # (n_out,), (D,) -> ()
        """The largest row at x; None where there is no row."""
        values = self.rows @ y + self.constants
        if self.on_input is not None:
            values = values + self.on_input @ x
        values = torch.cat([values, self.normals @ x - self.offsets])
        return values.max() if len(values) else None
