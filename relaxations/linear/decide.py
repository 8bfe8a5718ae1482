"""The half-spaces of the input that deciding a neuron gives.

In the child where a neuron's pre-activation z is at most `point`, every lower linear bound a x + c <= z gives
a x <= point - c; where z is at least `point`, every upper one gives the opposite. For a neuron that is affine on the
piece (one of the first layer, or one above decided neurons) both are the neuron's own hyperplane, so the decision cuts
the piece exactly; for others it is a relaxation of it, and the decision stays with the piece as a pre-activation bound.

Soundness: outward rounded. No point of the piece that takes the decision is outside its half-space.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..types import Pieces
from .backward import backward
from .linear import Linear


def decision_half_spaces(
    linear: Linear,
    pieces: Pieces,
    neuron: Tensor,  # (B,) int64
    point: Tensor,  # (B,)
) -> tuple[Tensor, Tensor]:  # (2B, D), (2B,)
    """Normals and offsets: of the children z <= point, then of the children z >= point."""
    graph, count = linear.graph, len(pieces)
    pre = {layer.position: pieces.ends(layer) for layer in graph.layers}
    scales = linear.rounding.local(torch.maximum(pieces.lower.abs(), pieces.upper.abs()), pre)
    lines = linear.all_lines(pieces)
    normals = pieces.lower.new_zeros(count, 2, pieces.lower.shape[1])
    offsets = pieces.lower.new_full((count, 2), torch.inf)
    for operand in graph.operands:
        here = ((neuron >= operand.span.start) & (neuron < operand.span.stop)).nonzero()[:, 0]
        if len(here) == 0:
            continue
        own = {i: chosen.of(here) for i, chosen in lines.items()}
        unit = normals.new_zeros(len(here), 1, operand.size)
        unit[torch.arange(len(here)), 0, neuron[here] - operand.span.start] = 1.0
        rows = torch.cat([unit, -unit], 1)
        form = backward(graph, scales.of(here), own, operand.source, rows, rows.new_zeros(rows.shape[:2]))
        at = torch.stack([point[here], -point[here]], 1)
        size = at.abs() + form.constant.abs() + form.slack
        normals[here] = form.linear
        offsets[here] = (at - form.constant + form.slack + 4 * scales.step * size).nan_to_num(nan=torch.inf)
    return normals.transpose(0, 1).flatten(0, 1), offsets.transpose(0, 1).flatten()
