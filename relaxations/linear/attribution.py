"""Which input coordinate is to blame for what a bound loses.

A linear bound over a box loses nothing where all neurons are decided; what it loses, it loses at undecided neurons: at
most coefficient * (line - function) at each. A neuron's gap shrinks with its pre-activation interval, and that is the
sum over coordinates of |form_d| (u_d - l_d), form being the neuron's own linear bound. So neuron j's loss is shared out
in those proportions, and the coordinate with the largest total is the one to bisect:

    blame_d = sum_j loss_j |form_jd| w_d / sum_e |form_je| w_e.

The rule has no parameter and no scale. Sensitivity (|form_d| w_d of the *output's* form) asks what moves the bound
over the piece, which bisecting does not change for the worse child; mixing in widths repairs that with a constant that
has to be tuned. Pieces on acasxu, best mix found against this rule: 1_1 p3 2,301 and 1,531; 4_5 p10 2,044 and 898;
1_1 p5 4,390 and 3,686; 3_3 p9 8,642 and 5,746.

Where the forms of all neurons are too many to hold (a convolutional network with many inputs), `width_blame` takes
their place, which needs one pass back over absolute weights.

Heuristic: nothing here closes a piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...problems.network.activation import Lines
from ...problems.network.graph import Activation, Affine, Graph, Multivariate
from ...problems.network.layer import Layer
from ...problems.network.multivariate import AbstractPlanes
from ..types import Pieces, Rows
from .linear import Linear


def attribution(
    graph: Graph,
    pieces: Pieces,
    lines: Mapping[int, Lines | AbstractPlanes],
    coefficients: Mapping[int, Tensor],  # (B, S, n) by layer, as `backward` recorded them
    reach: Mapping[int, Tensor],  # (B, n, D) by an operand's first neuron: |form| of each undecided one
    row: Tensor,  # (B,) the row that is closest to closing the piece
) -> tuple[Tensor, Tensor]:  # (B, D), (B, N)
    """How much of the row's loss each coordinate is to blame for, and each neuron."""
    width = pieces.upper - pieces.lower
    blame = torch.zeros_like(width)
    each = torch.arange(len(width), device=width.device)
    losses = torch.zeros_like(pieces.pre_lower)
    for layer in graph.layers:
        position = layer.position
        if position not in coefficients:
            continue
        coefficient = coefficients[position][each, row]
        for operand, loss in zip(layer.operands, _losses(layer, lines[position], pieces, coefficient), strict=True):
            losses[:, operand.span] = loss
            if operand.span.start not in reach:
                continue
            moved = reach[operand.span.start] * width[:, None]
            share = loss / moved.sum(-1).clamp(min=torch.finfo(loss.dtype).tiny)
            blame += torch.bmm(share[:, None], moved)[:, 0]
    return blame, losses


def _losses(
    layer: Layer, lines: Lines | AbstractPlanes, pieces: Pieces, coefficient: Tensor
) -> Sequence[Tensor]:  # (B, n) -> (B, n_o) an operand
    """What a layer's neurons may make the row lose."""
    if isinstance(lines, Lines):
        return (_loss(layer, lines, *pieces.pre(layer), coefficient),)
    gaps = layer.several.gaps(coefficient[:, None], pieces.ends(layer))
    return [gap[:, 0].nan_to_num(0.0) for gap in gaps]


def _loss(layer: Layer, lines: Lines, lower: Tensor, upper: Tensor, coefficient: Tensor) -> Tensor:
    """The most that the chosen line of each neuron can be off, times its coefficient; zero where decided."""
    leak, undecided = layer.function.leak, ~layer.function.decided(lower, upper)
    if leak is not None:
        above = lines.upper_bias
        below = torch.maximum((1 - lines.lower_slope) * upper, (lines.lower_slope - leak) * -lower)
    else:
        middle = (lower + upper) / 2
        above = (lines.upper_slope - lines.lower_slope) * middle + lines.upper_bias - lines.lower_bias
        below = above
    loss = coefficient.clamp(min=0) * below - coefficient.clamp(max=0) * above
    return torch.where(undecided, loss, 0.0)


def width_blame(
    linear: Linear, pieces: Pieces, rows: Rows, row: Tensor
) -> tuple[Tensor, Tensor]:  # (B,) -> (B, D), (B, N)
    """What each coordinate adds to the width of row `row`, and what deciding each neuron would take off it at
    least: its weight times the shorter part of its interval. Heuristic."""
    graph, width = linear.graph, pieces.upper - pieces.lower
    scores = torch.zeros_like(pieces.pre_lower)
    each = torch.arange(len(pieces), device=row.device)
    pending = {graph.output: rows.coefficients[each, row].abs()}

    def send(node: int, value: Tensor) -> None:
        pending[node] = pending[node] + value if node in pending else value

    for position in range(graph.output, 0, -1):
        weight = pending.pop(position, None)
        if weight is None:
            continue
        node = graph.nodes[position]
        match node:
            case Affine():
                for source, operator in zip(node.inputs, linear.rounding.absolute[position], strict=True):
                    send(source, operator.adjoint(weight))
            case Activation():
                layer = graph.layer_at[position]
                low, high = pieces.pre(layer)
                scores[:, layer.span] = weight * torch.minimum(-low, high).clamp(min=0)
                send(layer.source, weight * layer.function.steepest(low, high))
            case Multivariate():
                layer, rows_ = graph.layer_at[position], weight[:, None]
                ends, nothing = pieces.ends(layer), torch.zeros_like(weight)
                planes, losses = layer.several.planes(ends), layer.several.gaps(rows_, ends)
                both = [planes.pull(side, nothing).operands for side in (rows_, -rows_)]
                for operand, gap, up, down in zip(layer.operands, losses, *both, strict=True):
                    scores[:, operand.span] = gap[:, 0].nan_to_num(0.0)
                    send(operand.source, torch.maximum(up.abs(), down.abs())[:, 0].nan_to_num(0.0))
    return (pending[0] * width if 0 in pending else width), scores
