"""A candidate becomes a witness: moved inside, rounded to what the network can be fed, confirmed by the original.

The attack finds points in working precision; onnxruntime is fed float32 numbers; a property file holds decimal ones.
Between them a counterexample on the boundary is easily lost, or claimed where there is none. So a candidate is

1. moved strictly inside: a few gradient steps in float64, in a box shrunk by `INSET` of its width, lower the largest
   row of the unsafe set (the rows of the input's half-spaces count as well);
2. rounded to float32 numbers *inside* the box (`round_inside`), and pulled back over half-spaces that rounding
   crossed. In a coordinate whose interval contains no float32 number (lower = upper = 0.1, say) the value stays the
   nearest point of the interval; there, and only there, the network is fed the float32 number nearest to it, which
   lies outside the interval by no more than float32 rounding;
3. judged twice: every row of the unsafe set must be <= 0 for the outputs of the original network (`confirm`), and
   <= 0 up to the rounding of float64 for the graph in float64. The second judge refuses what only float32 rounding
   makes unsafe.

Where step 1 leads nowhere, the unmoved point goes through 2 and 3. Soundness: exact; inputs are compared with the
polytope's float64 numbers, and outputs with the unsafe set, without tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..problems.graph import Graph
from ..problems.property import Array, Case, Polytope, Property, UnsafeSet

Goal = tuple[int, int]  # which case, which of its unsafe sets
INSET = 1e-4  # of a coordinate's width: how far inside the box a witness should lie
STEPS = 12
COMFORTABLE = 1e-4  # of the largest output: a margin that no rounding reaches


@dataclass(frozen=True, eq=False)
class Witness:
    """A counterexample: x in the input set, y = network(x) as the original computes it, in the unsafe set `goal`."""

    x: Array  # (n_in,)
    y: Array  # (n_out,)
    goal: Goal


def round_inside(x: Array, lower: Array, upper: Array) -> Array:  # three of (D,) -> (D,)
    """x with every coordinate a float32 number within [lower, upper]; x clipped where there is none.

    Exact: the result lies in the box.
    """
    x = np.clip(x, lower, upper)
    near = x.astype(np.float32)
    near = np.where(near < lower, np.nextafter(near, np.float32(np.inf)), near)
    near = np.where(near > upper, np.nextafter(near, np.float32(-np.inf)), near)
    rounded = near.astype(np.float64)
    return np.where((rounded >= lower) & (rounded <= upper), rounded, x)


def settle(x: Array, polytope: Polytope) -> Array | None:  # (D,) -> (D,)
    """A point of the polytope near x, rounded by `round_inside`; None where a few projections reach none."""
    point = round_inside(x, polytope.lower, polytope.upper)
    if polytope.contains(point) or not len(polytope.normals):
        return point
    size = np.abs(polytope.normals) @ np.maximum(np.abs(polytope.lower), np.abs(polytope.upper))
    free = polytope.upper > polytope.lower
    squares = np.maximum((polytope.normals**2 * free).sum(1), np.finfo(float).tiny)
    for push in (1e-7, 1e-7, 1e-6, 1e-6, 1e-5, 1e-4):
        for row, offset, square, scale in zip(polytope.normals, polytope.offsets, squares, size, strict=True):
            excess = row @ x - offset + push * scale
            if excess > 0:
                x = np.clip(x - excess / square * row * free, polytope.lower, polytope.upper)
        point = round_inside(x, polytope.lower, polytope.upper)
        if polytope.contains(point):
            return point
    return None


class Judge:
    """Turns candidates into witnesses, or refuses them.

    `graph` is the network in float64 on the CPU; `confirm` is the original network, (n_in,) -> (n_out,).
    """

    def __init__(self, graph: Graph, prop: Property, confirm: Callable[[Array], Array]) -> None:
        self.graph, self.prop, self.confirm = graph, prop, confirm

    @torch.enable_grad()  # a candidate moves along a gradient, and the search has gradients switched off
    def __call__(self, x: Array, goal: Goal) -> Witness | None:  # (D,)
        """The witness that the candidate x becomes; None where it is not confirmed."""
        case = self.prop.cases[goal[0]]
        unsafe = case.unsafe[goal[1]]
        moved = self._moved_inside(x, case, unsafe)
        for candidate in (x,) if moved is None else (moved, x):
            point = settle(candidate, case.inputs)
            if point is None or not self._unsafe(point, unsafe):
                continue
            y = np.asarray(self.confirm(point), dtype=np.float64)
            if case.inputs.contains(point) and unsafe.margin(y, point) <= 0:
                return Witness(point, y, goal)
        return None

    def _unsafe(self, x: Array, unsafe: UnsafeSet) -> bool:
        """Whether the outputs in float64 are unsafe, up to float64's own rounding."""
        y = self.graph(torch.from_numpy(x)).numpy()
        size = np.abs(unsafe.rows) @ np.abs(y) + np.abs(unsafe.constants)
        return unsafe.margin(y, x) <= 1e-10 * float(size.max(initial=1e-300))

    def _moved_inside(self, x: Array, case: Case, unsafe: UnsafeSet) -> Array | None:
        """A point near x, strictly inside the box, with the least largest row met on the way down; None if unsafe
        sets without rows leave nothing to lower."""
        inputs = case.inputs
        width = inputs.upper - inputs.lower
        lower, upper = (torch.from_numpy(b) for b in (inputs.lower + INSET * width, inputs.upper - INSET * width))
        rows = _Rows(inputs, unsafe)
        point, step = torch.from_numpy(np.clip(x, lower.numpy(), upper.numpy())), torch.from_numpy(0.02 * width)
        best, least = None, np.inf
        for _ in range(STEPS):
            point.requires_grad_()
            y = self.graph(point)
            value = rows.largest(y, point)
            if value is None:
                return None
            if value.item() < least:
                best, least = point.detach().numpy().copy(), value.item()
            if least < -COMFORTABLE * y.abs().max().item():
                break
            (slope,) = torch.autograd.grad(value, point)
            point = torch.clamp(point.detach() - step * slope.sign(), lower, upper)
            step = step * 0.8
        return best


class _Rows:
    """The rows of an unsafe set and of the input's half-spaces, each relative to its own size."""

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
