"""A node's value between two linear functions of the input, and the steps that carry them forward.

With M = (l + u) / 2 and R = (u - l) / 2 an affine node is A M -+ |A| R, two applications of the operator to D + 1
vectors. A pass costs (neurons) x (inputs) a layer where substituting backwards costs (unstable neurons) x (neurons
before) for every layer before: it is for inputs of low dimension. What is lost is that A+ and A- pull apart what one
backward pass would have cancelled. Source: the forward mode of Xu et al. 2020 (LiRPA), Zhang et al. 2018, appendix.

Rounding. The function that comes out is lowered (raised) by a bound on all errors of its own step, so what goes into
the next one is sound as it stands. An entry of A M - |A| R is an inner product over sources i and errs by at most
gamma sum_i |A_ji| (|M_id| + |R_id|); at a point of the piece that moves the function by at most

    gamma sum_i |A_ji| s_i,    s_i = sum_d (|M_id| + |R_id|) max |x_d|    (the constant counts as one more coordinate),

which one application of |A| to the vector s bounds for all coordinates at once. That A itself is stored rounded is in
the vectors of `rounding`.

Soundness: outward rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...kernels.polytope import polytope_minimum
from ...kernels.proof_constants import INFLATE
from ...kernels.rounding import gamma
from ...problems.network.activation import Lines
from ...problems.network.graph import Graph
from ...problems.network.layer import Layer, Operand
from ...problems.network.multivariate import AbstractPlanes
from ..types import Pieces
from .rounding import Rounding, Scales

Enclosure = Lines | AbstractPlanes  # what a layer of one operand, and one of several, lies between


class LinearBounds(NamedTuple):
    """lower[:, :D] x + lower[:, D] <= value <= upper[:, :D] x + upper[:, D]; `lower is upper` where they are equal."""

    lower: Tensor  # (B, D + 1, n)
    upper: Tensor  # (B, D + 1, n)


def identity_bounds(pieces: Pieces) -> LinearBounds:
    count, size = pieces.lower.shape
    unit = torch.eye(size + 1, size, dtype=pieces.lower.dtype, device=pieces.lower.device).expand(count, -1, -1)
    return LinearBounds(unit, unit)


def affine_bounds(
    rounding: Rounding, scales: Scales, position: int, sources: list[LinearBounds], weights: Tensor
) -> LinearBounds:  # one of (B, D + 1, n_i) for each input -> (B, D + 1, n)
    node = rounding.graph.affine(position)
    middle = torch.zeros_like(weights)[..., None].expand(-1, -1, node.size)
    error = node.bias.abs().expand(len(weights), -1)
    radius, terms = None, 12
    for operator, absolute, (lower, upper) in zip(node.operators, rounding.absolute[position], sources, strict=True):
        exact = lower is upper
        m = lower if exact else (lower + upper) / 2
        middle = middle + operator.apply(m)
        size = m.abs()
        if not exact:
            r = (upper - lower) / 2
            radius = absolute.apply(r) if radius is None else radius + absolute.apply(r)
            size = size + r.abs()
        error = error + absolute.apply(torch.bmm(weights[:, None], size)[:, 0])
        terms += operator.terms + 2
    middle = torch.cat([middle[:, :-1], middle[:, -1:] + node.bias], 1)
    doubt = scales.affine[position] + INFLATE * gamma(terms, weights.dtype) * error
    lower, upper = (middle.clone(), middle) if radius is None else (middle - radius, middle + radius)
    lower[:, -1] -= doubt
    upper[:, -1] += doubt
    return LinearBounds(lower, upper)


def activation_bounds(
    source: LinearBounds, lines: Lines, weights: Tensor
) -> LinearBounds:  # (B, D + 1, n) -> (B, D + 1, n)
    rate = INFLATE * gamma(8, weights.dtype)
    sides = []
    for slope, bias, outward, near, far in (
        (lines.lower_slope, lines.lower_bias, -rate, source.lower, source.upper),
        (lines.upper_slope, lines.upper_bias, rate, source.upper, source.lower),
    ):
        falling = slope < 0
        chosen = torch.where(falling[:, None], far, near) if bool(falling.any()) else near
        side = chosen * slope[:, None]
        side[:, -1] += bias + outward * (torch.bmm(weights[:, None], side.abs())[:, 0] + bias.abs())
        sides.append(side)
    return LinearBounds(*sides)


def layer_bounds(
    layer: Layer, source: LinearBounds, ends: Sequence[tuple[Tensor, Tensor]], lines: Enclosure, weights: Tensor
) -> LinearBounds:
    """A layer's value: of one variable by its lines; of several between two constants, its interval."""
    if isinstance(lines, Lines):
        return activation_bounds(source, lines, weights)
    sides = []
    for end in layer.interval(ends):
        side = weights.new_zeros(*weights.shape, layer.outputs)
        side[:, -1] = end
        sides.append(side)
    return LinearBounds(*sides)


def ranges(pieces: Pieces, value: LinearBounds, step: float, sweeps: int) -> tuple[Tensor, Tensor]:  # (B, n), (B, n)
    """The least of the lower and the greatest of the upper functions on each piece."""
    forms = torch.cat([value.lower[:, :-1], -value.upper[:, :-1]], 2).mT.contiguous()
    constants = torch.cat([value.lower[:, -1], -value.upper[:, -1]], 1)
    least, _ = polytope_minimum(forms, pieces.lower, pieces.upper, pieces.normals, pieces.offsets, sweeps)
    total = least + constants
    total = total - step * (least.abs() + constants.abs())
    half = total.shape[1] // 2
    return total[:, :half], -total[:, half:]


def last_use(graph: Graph) -> dict[int, int]:
    """Which node reads each node last, where an activation above still depends on it."""
    last: dict[int, int] = {}
    for position in range(len(graph.nodes) - 1, -1, -1):
        if position in graph.layer_at or position in last:
            for i in graph.nodes[position].inputs:
                last.setdefault(i, position)
    return last


class Carried:
    """The functions of every node that is still needed, carried node by node beside another bounding."""

    def __init__(self, rounding: Rounding, pieces: Pieces, largest: Tensor) -> None:  # largest: |x|, (B, D)
        self.rounding = rounding
        self.weights = torch.cat([largest, torch.ones_like(largest[:, :1])], 1)
        self.found: dict[int, LinearBounds] = {0: identity_bounds(pieces)}
        self.last = last_use(rounding.graph)

    def affine(self, scales: Scales, position: int) -> None:
        """Adds an affine node, its rounding vectors known."""
        node = self.rounding.graph.nodes[position]
        if position in self.last:
            sources = [self.found[i] for i in node.inputs]
            self.found[position] = affine_bounds(self.rounding, scales, position, sources, self.weights)
        self._forget(position)

    def ranges(self, pieces: Pieces, operand: Operand, step: float, sweeps: int) -> tuple[Tensor, Tensor]:
        """Bounds (B, n) of the pre-activations of an operand."""
        return ranges(pieces, self.found[operand.source], step, sweeps)

    def layer(self, layer: Layer, ends: Sequence[tuple[Tensor, Tensor]], lines: Enclosure) -> None:
        """Adds a layer, enclosed by its lines or its interval."""
        if layer.position in self.last:
            source = self.found[layer.operands[0].source]
            self.found[layer.position] = layer_bounds(layer, source, ends, lines, self.weights)
        self._forget(layer.position)

    def _forget(self, position: int) -> None:
        for i in [i for i in self.found if self.last.get(i, 0) <= position]:
            del self.found[i]
