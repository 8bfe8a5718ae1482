"""From scores to splits.

Input splits bisect the side that a branching rule scores highest (`bab.rules`). Half-space splits cut through the box's
centre, across the gradient of the bound in the box's own units. Phase splits take the neuron that scores highest, or
look ahead: the best few are tried, and the split whose worse child has the better bound wins (De Palma et al. 2021).

Heuristic: no choice here can make a verdict wrong.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...problems.network.graph import Graph
from ..effort import RegionEffort
from .records import Branch
from .splits import HALF_SPACE, INPUT, NONE, PHASE, Split


def input_split(lower: Tensor, upper: Tensor, score: Tensor) -> Split:  # (B, D) each
    """Bisect the side of each box that scores highest at its middle; no split where no side has a number between its
    ends."""
    middle = (lower + upper) / 2
    score = torch.where((lower < middle) & (middle < upper), score, -1.0)
    top, index = score.max(1)
    point = middle.gather(1, index[:, None])[:, 0]
    return Split(torch.where(top >= 0, INPUT, NONE), index, point)


def half_space_split(
    lower: Tensor,  # (B, D)
    upper: Tensor,  # (B, D)
    forms: Tensor,  # (B, S, D)
    bounds: Tensor,  # (B, S)
) -> Split:
    """Cut each box through its centre, across the gradient of its best bound; no split where that is zero."""
    gradient = forms[torch.arange(len(forms), device=forms.device), bounds.argmax(1)].nan_to_num()
    # A hyperplane with equal reach on all sides that matter: coordinates whose part is small are left alone.
    moved = (gradient * (upper - lower)).abs()
    most = moved.amax(1, keepdim=True)
    normal = torch.where(moved >= 0.5 * most, gradient, 0.0)
    point = (normal * ((lower + upper) / 2)).sum(1)
    kind = torch.where(most[:, 0] > 0, HALF_SPACE, NONE)
    return Split(kind, torch.zeros_like(kind), point, normal)


def finishing(depth: Tensor, inputs: int, effort: RegionEffort) -> Tensor:
    """How many undecided neurons are few at this depth, so that deciding them all is the shortest way to the end.

    To decide k neurons takes at most 2^k pieces, to bisect every side once takes 2^inputs.
    """
    return inputs // 2 + (depth - effort.finish_from).clamp(min=0) // effort.finish_every


def merge(take: Tensor, first: Split, second: Split) -> Split:  # (B,) bool
    """The first split where `take`, elsewhere the second."""
    normal = first.normal if second.normal is None else second.normal
    if first.normal is not None and second.normal is not None:
        normal = torch.where(take[:, None], first.normal, second.normal)
    return Split(
        torch.where(take, first.kind, second.kind),
        torch.where(take, first.index, second.index),
        torch.where(take, first.point, second.point),
        normal,
    )


def phase_candidates(scores: Tensor, undecided: Tensor, count: int) -> Tensor:  # (B, N), (B, N) -> (B, count)
    """The neurons with the highest scores; undecided ones come before all others."""
    ranked = torch.where(undecided, scores.clamp(min=0), -1.0)
    return ranked.topk(min(count, ranked.shape[1]), dim=1).indices


def together(record: Branch, scores: Tensor, open_: Tensor, depth: int) -> Tensor:  # (B, N), (B,) -> (B, N)
    """Scores summed over the open pieces that have decided the same neurons in the same way, up to a depth: pieces of
    different goals that are split alike can share a base (see `bases`)."""
    neuron = record.neuron
    if len(neuron) == 1 or not bool((record.depth < depth).any()):
        return scores
    code = torch.cat([(neuron + 1) * record.sign.long(), neuron.new_zeros(len(neuron), 1)], 1)
    _, kind = code.unique(dim=0, return_inverse=True)
    total = torch.zeros_like(scores).index_add_(0, kind, torch.where(open_[:, None], scores.nan_to_num(), 0.0))[kind]
    return torch.where((record.depth < depth)[:, None], total, scores)


def phase_split(graph: Graph, neuron: Tensor, pre_lower: Tensor, pre_upper: Tensor) -> Split:  # (B,), (B, N)
    """Decide one neuron a piece, at its activation's split point."""
    at = neuron[:, None]
    low, high = pre_lower.gather(1, at)[:, 0], pre_upper.gather(1, at)[:, 0]
    point = torch.zeros_like(low)
    for layer in graph.layers:
        if layer.is_relu:
            continue  # at 0
        here = (neuron >= layer.span.start) & (neuron < layer.span.stop)
        point = torch.where(here, layer.split_point(low, high), point)
    return Split(torch.full_like(neuron, PHASE), neuron, point)
