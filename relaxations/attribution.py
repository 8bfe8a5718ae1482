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

Heuristic: nothing here closes a piece.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..problems.activation import LeakyReLU, Lines
from ..problems.graph import Graph
from .linear import part
from .types import Pieces


def attribution(
    graph: Graph,
    pieces: Pieces,
    lines: Mapping[int, Lines],
    coefficients: Mapping[int, Tensor],  # (B, S, n) by activation node, as `backward` recorded them
    reach: Mapping[int, Tensor],  # (B, n, D) by activation node: |linear form| of each undecided pre-activation
    row: Tensor,  # (B,) the row that is closest to closing the piece
) -> tuple[Tensor, Tensor]:  # (B, D), (B, N)
    """How much of the row's loss each coordinate is to blame for, and each neuron."""
    width = pieces.upper - pieces.lower
    blame = torch.zeros_like(width)
    each = torch.arange(len(width), device=width.device)
    losses = torch.zeros_like(pieces.pre_lower)
    for position in graph.activations:
        if position not in coefficients:
            continue
        lower, upper = part(graph, pieces, position)
        coefficient = coefficients[position][each, row]
        loss = _loss(graph, position, lines[position], lower, upper, coefficient)
        start = graph.offsets[position]
        losses[:, start : start + loss.shape[1]] = loss
        if position not in reach:
            continue
        moved = reach[position] * width[:, None]
        share = loss / moved.sum(-1).clamp(min=torch.finfo(loss.dtype).tiny)
        blame += torch.bmm(share[:, None], moved)[:, 0]
    return blame, losses


def _loss(graph: Graph, position: int, lines: Lines, lower: Tensor, upper: Tensor, coefficient: Tensor) -> Tensor:
    """The most that the chosen line of each neuron can be off, times its coefficient; zero where decided."""
    function = graph.nodes[position].function
    undecided = ~function.decided(lower, upper)
    if isinstance(function, LeakyReLU):
        above = lines.upper_bias
        below = torch.maximum((1 - lines.lower_slope) * upper, (lines.lower_slope - function.slope) * -lower)
    else:
        middle = (lower + upper) / 2
        above = (lines.upper_slope - lines.lower_slope) * middle + lines.upper_bias - lines.lower_bias
        below = above
    loss = coefficient.clamp(min=0) * below - coefficient.clamp(max=0) * above
    return torch.where(undecided, loss, 0.0)
