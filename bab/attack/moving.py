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
from ..effort import ATTACK, AttackEffort


def moved_inside(
    graph: Graph,
    x: Array,  # (D,)
    inputs: Polytope,
    unsafe: UnsafeSet,
    far: bool = False,
    effort: AttackEffort = ATTACK,
) -> Array | None:  # (D,)
    """A point near x, strictly inside the box, with the least largest row met on the way down; None if unsafe sets
    without rows leave nothing to lower. A few gradient steps in float64 in a box shrunk by `inset`; the rows of the
    input's half-spaces count as well. It stops where it is `comfortable`, or with `far` goes on to the end."""
    width, inset = inputs.upper - inputs.lower, effort.inset
    lower, upper = (torch.from_numpy(b) for b in (inputs.lower + inset * width, inputs.upper - inset * width))
    rows = _Rows(inputs, unsafe)
    point, step = torch.from_numpy(np.clip(x, lower.numpy(), upper.numpy())), torch.from_numpy(effort.moving * width)
    best, least = None, np.inf
    for _ in range(3 * effort.moves if far else effort.moves):
        point.requires_grad_()
        y = graph(point)
        value = rows.largest(y, point)
        if value is None:
            return None
        if value.item() < least:
            best, least = point.detach().numpy().copy(), value.item()
        if not far and least < -effort.comfortable * y.abs().max().item():
            break
        (slope,) = torch.autograd.grad(value, point)
        point = torch.clamp(point.detach() - step * slope.sign(), lower, upper)
        step = step * effort.slowing
    return best


def snapped(x: Array, inputs: Polytope, effort: AttackEffort = ATTACK) -> Array:  # (D,) -> (D,)
    """x with the coordinates that are next to a border on it."""
    beside = effort.beside * (inputs.upper - inputs.lower)
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
