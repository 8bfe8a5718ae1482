"""Linear bounds carried forward: every node between two linear functions of the input.

    l_i(x) <= value_i(x) <= u_i(x)  on the piece;  an affine node takes A+ l + A- u from below, an activation's line
    with slope s >= 0 takes s l + bias from below, and the same from above.

Its steps are in `between`.

Soundness: outward rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...problems.network.graph import Affine
from ..protocol import AbstractRelaxation, Bounds
from ..types import Multipliers, Pieces, Rows
from .attribution import attribution
from .backward import backward
from .carried import LinearBounds, affine_bounds, identity_bounds, last_use, layer_bounds, ranges
from .clip import clip
from .linear import Linear, conclude, narrow
from .rounding import Scales


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
    found: dict[int, LinearBounds] = {0: identity_bounds(pieces)}
    last = last_use(linear.graph)
    for position, node in enumerate(graph.nodes[1:], 1):
        match node:
            case Affine():
                rounding.extend(scales, position)
                if position in last:
                    sources = [found[i] for i in node.inputs]
                    found[position] = affine_bounds(rounding, scales, position, sources, weights)
            case _:
                layer = graph.layer_at[position]
                ends = pieces.ends(layer)  # views: writing to them writes to the pieces
                for operand, (lower, upper) in zip(layer.operands, ends, strict=True):
                    source = operand.source
                    found_here = ranges(pieces, found[source], linear.scales.step, linear.effort.linear.sweeps)
                    empty |= narrow(lower, upper, *found_here)
                    if reach is not None:
                        sides = found[source].lower[:, :-1].abs(), found[source].upper[:, :-1].abs()
                        reach[operand.span.start] = torch.maximum(*sides).mT
                    scales.size[source] = torch.minimum(scales.size[source], torch.maximum(lower.abs(), upper.abs()))
                rounding.extend(scales, position, ends)
                if position in last:
                    lines, source = linear.enclosed(layer, ends), layer.operands[0].source
                    found[position] = layer_bounds(layer, found[source], ends, lines, weights)
        for i in [i for i in found if last.get(i, 0) <= position]:
            del found[i]
    return pieces, empty, scales


@dataclass(frozen=True, eq=False)
class Forward(AbstractRelaxation):
    """Pre-activations bounded forward, rows backward; like `Rebounding`, and cheaper a piece."""

    linear: Linear
    clipping: bool = True

    def bound(self, pieces: Pieces, rows: Rows, start: Multipliers | None = None) -> Bounds:
        reach: dict[int, Tensor] = {}
        linear, graph = self.linear, self.linear.graph
        pieces, empty, scales = forward_bounds(linear, pieces, reach)
        lines = linear.all_lines(pieces)
        form = backward(graph, scales, lines, graph.output, rows.coefficients, rows.constants, record=True)
        result = conclude(linear, pieces, rows, replace(form, scales=scales), empty)
        row = result.lower.argmax(1)
        blame, scores = attribution(graph, pieces, lines, form.at, reach, row)
        if self.clipping:
            pieces, gone = clip(pieces, result)
            empty = empty | gone
        return Bounds(replace(result, empty=empty, blame=blame, scores=scores), pieces)
