"""Linear bounds carried forward: every node between two linear functions of the input.

    l_i(x) <= value_i(x) <= u_i(x)  on the piece;  an affine node takes A+ l + A- u from below, an activation's line
    with slope s >= 0 takes s l + bias from below, and the same from above.

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

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..kernels.polytope import polytope_minimum
from ..kernels.rounding import gamma
from ..problems.activation import Lines
from ..problems.errors import BadInput
from ..problems.graph import Activation, Affine, Product
from .attribution import attribution
from .backward import backward
from .base import AbstractRelaxation
from .clip import clip
from .linear import Linear, conclude, part
from .rounding import INFLATE, Rounding, Scales
from .types import Multipliers, Pieces, Result, Rows


class Between(NamedTuple):
    """lower[:, :D] x + lower[:, D] <= value <= upper[:, :D] x + upper[:, D]; `lower is upper` where they are equal."""

    lower: Tensor  # (B, D + 1, n)
    upper: Tensor  # (B, D + 1, n)


def forward_bounds(
    linear: Linear, pieces: Pieces, reach: dict[int, Tensor] | None = None
) -> tuple[Pieces, Tensor, Scales]:
    """Pre-activation bounds of every neuron on each piece; which pieces came out empty (B,); the rounding vectors of
    each piece. Takes the place of `Linear.tighten`, and fills a `reach` that is given in the same way."""
    rounding, graph = linear.rounding, linear.graph
    pieces = pieces.with_pre(pieces.pre_lower.clone(), pieces.pre_upper.clone())
    empty = torch.zeros(len(pieces), dtype=torch.bool, device=pieces.lower.device)
    largest = torch.maximum(pieces.lower.abs(), pieces.upper.abs())
    weights = torch.cat([largest, torch.ones_like(largest[:, :1])], 1)  # (B, D + 1): what s sums with
    scales = rounding.start(largest)
    found: dict[int, Between] = {0: _identity(pieces)}
    last = _last_use(linear)
    for position, node in enumerate(graph.nodes[1:], 1):
        match node:
            case Affine():
                rounding.extend(scales, position)
                if position in last:
                    sources = [found[i] for i in node.inputs]
                    found[position] = _affine(rounding, scales, position, sources, weights)
            case Activation():
                source = node.inputs[0]
                lower, upper = part(graph, pieces, position)  # views: writing to them writes to the pieces
                low, high = _ranges(linear, pieces, found[source])
                torch.maximum(lower, low, out=lower)
                torch.minimum(upper, high, out=upper)
                empty |= (lower > upper).any(-1)
                torch.maximum(lower, upper, out=upper)
                if reach is not None:
                    sides = found[source].lower[:, :-1].abs(), found[source].upper[:, :-1].abs()
                    reach[position] = torch.maximum(*sides).mT
                scales.size[source] = torch.minimum(scales.size[source], torch.maximum(lower.abs(), upper.abs()))
                rounding.extend(scales, position, (lower, upper))
                if position in last:
                    lines = linear.lines(position, lower, upper)
                    found[position] = _activation(found[source], lines, weights)
            case Product():
                raise BadInput(f"node {node.name}: products have no forward linear bounds yet")
        for i in [i for i in found if last.get(i, 0) <= position]:
            del found[i]
    return pieces, empty, scales


def _last_use(linear: Linear) -> dict[int, int]:
    """Which node reads each node last, where an activation above still depends on it."""
    graph, last = linear.graph, {}
    for position in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[position]
        if isinstance(node, Activation) or position in last:
            for i in node.inputs:
                last.setdefault(i, position)
    return last


def _identity(pieces: Pieces) -> Between:
    count, size = pieces.lower.shape
    unit = torch.eye(size + 1, size, dtype=pieces.lower.dtype, device=pieces.lower.device).expand(count, -1, -1)
    return Between(unit, unit)


def _affine(
    rounding: Rounding, scales: Scales, position: int, sources: list[Between], weights: Tensor
) -> Between:  # one of (B, D + 1, n_i) for each input -> (B, D + 1, n)
    node = rounding.graph.nodes[position]
    assert isinstance(node, Affine)
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
    return Between(lower, upper)


def _activation(source: Between, lines: Lines, weights: Tensor) -> Between:  # (B, D + 1, n) -> (B, D + 1, n)
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
    return Between(*sides)


def _ranges(linear: Linear, pieces: Pieces, value: Between) -> tuple[Tensor, Tensor]:  # (B, n), (B, n)
    """The least of the lower and the greatest of the upper functions on each piece."""
    forms = torch.cat([value.lower[:, :-1], -value.upper[:, :-1]], 2).mT.contiguous()
    constants = torch.cat([value.lower[:, -1], -value.upper[:, -1]], 1)
    least, _ = polytope_minimum(forms, pieces.lower, pieces.upper, pieces.normals, pieces.offsets, linear.sweeps)
    total = least + constants
    total = total - linear.scales.step * (least.abs() + constants.abs())
    half = total.shape[1] // 2
    return total[:, :half], -total[:, half:]


@dataclass(frozen=True, eq=False)
class Forward(AbstractRelaxation):
    """Pre-activations bounded forward, rows backward; like `Rebounding`, and cheaper a piece."""

    linear: Linear
    clipping: bool = True
    half_spaces: int = 0

    def bound(self, pieces: Pieces, rows: Rows, start: Multipliers | None = None) -> tuple[Result, Pieces]:
        reach: dict[int, Tensor] = {}
        linear, graph = self.linear, self.linear.graph
        pieces, empty, scales = forward_bounds(linear, pieces, reach)
        lines = linear.all_lines(pieces)
        form = backward(graph, scales, lines, graph.output, rows.coefficients, rows.constants, record=True)
        result = conclude(linear, pieces, rows, form, empty, scales=scales)
        row = result.lower.argmax(1)
        blame, scores = attribution(graph, pieces, lines, form.at, reach, row)
        if self.clipping:
            pieces, gone = clip(pieces, result, self.half_spaces)
            empty = empty | gone
        return replace(result, empty=empty, blame=blame, scores=scores), pieces
