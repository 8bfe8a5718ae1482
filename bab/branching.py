"""Branching rules: from what bounding found out about a piece to the split that should help it most.

Input splits. `widest` takes the longest side, relative to the input set. `sensitivity` takes the coordinate that is to
blame for most of what the bound loses (`relaxations.attribution`).

Half-space splits cut through the box's centre, along the form's gradient in the box's own units or along the
hyperplane of an undecided neuron of the first layer.

Phase splits take the neuron at which the bound loses most (`relaxations.alpha.loss`, after BaBSR, Bunel et al. 2020),
or look ahead: the best few are tried, and the split whose worse child has the better bound wins (De Palma et al. 2021).

Heuristic: no choice here can make a verdict wrong.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..problems.activation import LeakyReLU
from ..problems.graph import Graph
from .splits import HALF_SPACE, INPUT, PHASE, Split


def input_split(
    lower: Tensor,  # (B, D)
    upper: Tensor,  # (B, D)
    blame: Tensor,  # (B, D)
    root_width: Tensor,  # (D,)
    rule: str = "sensitivity",
) -> Split:
    """Bisect one side of each box at its middle."""
    width = upper - lower
    score = width / root_width.clamp(min=1e-30)
    if rule != "widest":
        # Widths break ties where nothing is lost any more, or nothing can be told apart.
        score = blame + 1e-6 * blame.amax(1, keepdim=True).clamp(min=1e-30) * score
    score = torch.where(width > 0, score, -1.0)
    index = score.argmax(1)
    at = index[:, None]
    point = ((lower.gather(1, at) + upper.gather(1, at)) / 2)[:, 0]
    return Split(torch.full_like(index, INPUT), index, point)


def half_space_split(
    lower: Tensor,  # (B, D)
    upper: Tensor,  # (B, D)
    forms: Tensor,  # (B, S, D)
    bounds: Tensor,  # (B, S)
    first_layer: tuple[Tensor, Tensor] | None,  # (n, D), (n,): the first layer's hyperplanes w x + b = 0
    scores: Tensor | None,  # (B, n): what each costs; zero where it does not cut the piece
) -> Split:
    """Cut each box by the most expensive hyperplane of the first layer, or across the bound's gradient."""
    best = bounds.argmax(1)
    gradient = forms[torch.arange(len(forms), device=forms.device), best]
    width = upper - lower
    # A hyperplane with equal reach on all sides that matter: coordinates whose part is small are left alone.
    moved = gradient * width
    normal = torch.where(moved.abs() >= 0.5 * moved.abs().amax(1, keepdim=True), gradient, 0.0)
    centre = (lower + upper) / 2
    point = (normal * centre).sum(1)
    if first_layer is not None and scores is not None:
        weight, bias = first_layer
        top, index = scores.max(1)
        take = top > 0
        normal = torch.where(take[:, None], weight[index], normal)
        point = torch.where(take, -bias[index], point)
    kind = torch.full((len(lower),), HALF_SPACE, dtype=torch.int64, device=lower.device)
    return Split(kind, torch.zeros_like(kind), point, normal)


def phase_candidates(scores: Tensor, undecided: Tensor, count: int) -> Tensor:  # (B, N), (B, N) -> (B, count)
    """The neurons with the highest scores; undecided ones come before all others."""
    ranked = torch.where(undecided, scores.clamp(min=0), -1.0)
    return ranked.topk(min(count, ranked.shape[1]), dim=1).indices


def phase_split(graph: Graph, neuron: Tensor, pre_lower: Tensor, pre_upper: Tensor) -> Split:  # (B,), (B, N)
    """Decide one neuron a piece, at its activation's split point."""
    at = neuron[:, None]
    low, high = pre_lower.gather(1, at)[:, 0], pre_upper.gather(1, at)[:, 0]
    point = torch.zeros_like(low)
    for position in graph.activations:
        node = graph.nodes[position]
        if isinstance(node.function, LeakyReLU):
            continue
        start = graph.offsets[position]
        here = (neuron >= start) & (neuron < start + node.size)
        point = torch.where(here, node.function.split_point(low, high), point)
    return Split(torch.full_like(neuron, PHASE), neuron, point)
