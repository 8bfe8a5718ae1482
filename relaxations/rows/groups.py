"""Which neurons of a layer are treated jointly: K of them a group, out of those given (the unstable ones, as a rule).

- `disjoint`: consecutive K (k-ReLU, Singh et al., NeurIPS 2019): m / K groups.
- `overlapping`: PRIMA's choice (Mueller et al., POPL 2022): the neurons fall into parts of at most `part`, and in each
  part as many K-subsets are taken as pairwise share at most `overlap` neurons; taken greedily in lexicographic order.
- `all_subsets`: every one of the K-subsets.
- `scored`: the groups expected to cut most. A joint hull cuts points at which several neurons are raised above their
  function at the same time while their pre-activations cannot be where that costs nothing: it pays for pairs that
  both lose much, and whose pre-activations move together over the inputs (two that vary freely have a box for P, over
  which single-neuron rows are the hull's most important ones). The worth of a group is

      sum over its pairs of  min(score_i, score_j) * affinity_ij,

  `affinity` being |cosine| of the two rows of weights, say; without it, 1. Groups grow greedily from the pairs of most
  worth, neuron by neuron. `excess` gives the score of a point of a linear program or of a dual's optimum.

The order of the neurons matters to the first two: `by_score` puts those with most to lose side by side.
Everything is deterministic; ties go to the neuron that was given first. Any choice is sound.
"""

from __future__ import annotations

from functools import reduce
from itertools import combinations
from math import comb

import torch
from torch import Tensor

from ...problems.errors import BadInput
from ..effort import ROWS

MOST = 1_000_000  # groups that are counted one by one


def by_score(neurons: Tensor, score: Tensor) -> Tensor:  # (m,), (n,) -> (m,)
    """The neurons, those of largest score first."""
    return neurons[score[neurons].argsort(descending=True, stable=True)]


def excess(pre: Tensor, post: Tensor, slope: float = 0.0) -> Tensor:  # (*b, n) twice -> (*b, n)
    """How far a point's y lies above max(z, slope z); what multi-neuron rows could cut off."""
    return (post - torch.maximum(pre, slope * pre)).clamp(min=0)


def disjoint(neurons: Tensor, size: int) -> Tensor:  # (m,) int64 -> (G, K) int64
    """Consecutive groups; where the last would be too small, neurons of the one before fill it up. None if m < K."""
    _sized(size)
    count = len(neurons)
    starts = [min(start, count - size) for start in range(0, count, size)] if count >= size else []
    return _groups([range(start, start + size) for start in starts], neurons, size)


def overlapping(neurons: Tensor, size: int, part: int = ROWS.part, overlap: int = 1) -> Tensor:  # (m,) -> (G, K)
    """K-subsets within consecutive parts of the neurons, any two of which share at most `overlap`."""
    _sized(size)
    if part < size:
        raise BadInput(f"parts of {part} neurons hold no group of {size}; ask for parts of at least {size}")
    if not 0 <= overlap < size:
        raise BadInput(f"groups of {size} neurons may share 0 to {size - 1}, not {overlap}")
    count, chosen = len(neurons), []
    patterns: dict[int, list[tuple[int, ...]]] = {}
    for start in range(0, count, part):
        width = min(part, count - start)
        if width not in patterns:
            patterns[width] = _sparse_subsets(width, size, overlap)
        chosen += [tuple(start + i for i in group) for group in patterns[width]]
    return _groups(chosen, neurons, size)


def all_subsets(neurons: Tensor, size: int, most: int = MOST) -> Tensor:  # (m,) -> (C(m, K), K)
    """All groups. Raises BadInput where there are more than `most`."""
    _sized(size)
    count = comb(len(neurons), size)
    if count > most:
        raise BadInput(
            f"{len(neurons)} neurons have {count} groups of {size}, more than {most}; choose sparse or scored groups"
        )
    index = torch.arange(len(neurons), device=neurons.device)
    return neurons[torch.combinations(index, size).reshape(-1, size)]


def scored(
    neurons: Tensor,  # (m,) int64
    size: int,
    count: int,
    score: Tensor,  # (n,) >= 0, of every neuron of the layer
    affinity: Tensor | None = None,  # (n, n) >= 0
    overlap: int = 1,
) -> Tensor:  # (G, K), G <= count, those of most worth first
    """The `count` groups expected to cut most, pairwise sharing at most `overlap` neurons; see the module's essay.

    Only neurons whose score is positive are looked at.
    """
    _sized(size)
    best = by_score(neurons, score)
    best = best[score[best] > 0]
    if size == 1:
        return best[:count, None]
    if not 0 <= overlap < size:
        raise BadInput(f"groups of {size} neurons may share 0 to {size - 1}, not {overlap}")
    if len(best) < size:
        return neurons.new_zeros(0, size)
    value = score[best].double()
    worth = torch.minimum(value[:, None], value)
    if affinity is not None:
        worth = worth * affinity[best][:, best].double()
    worth = worth.fill_diagonal_(-torch.inf)
    grown = _grown(worth, size)
    total = reduce(torch.add, (worth[grown[:, i], grown[:, j]] for i, j in combinations(range(size), 2)))
    order = total.argsort(descending=True, stable=True)
    taken: set[tuple[int, ...]] = set()
    chosen: list[tuple[int, ...]] = []
    for group in grown[order].sort(1)[0].tolist():
        shared = list(combinations(group, overlap + 1))
        if taken.isdisjoint(shared):
            taken.update(shared)
            chosen.append(tuple(group))
            if len(chosen) == count:
                break
    return _groups(chosen, best, size)


def _grown(worth: Tensor, size: int) -> Tensor:  # (m, m) -> (P, K), one group for each pair
    first, second = torch.triu_indices(len(worth), len(worth), offset=1, device=worth.device)
    group = torch.stack([first, second], 1)
    gain = worth[first] + worth[second]
    for _ in range(size - 2):
        following = gain.argmax(1)
        group = torch.cat([group, following[:, None]], 1)
        gain = gain + worth[following]
    return group


def _sparse_subsets(count: int, size: int, overlap: int) -> list[tuple[int, ...]]:
    if comb(count, size) > MOST:
        raise BadInput(f"parts of {count} neurons have too many groups of {size}; ask for smaller parts")
    taken: set[tuple[int, ...]] = set()
    chosen = []
    for group in combinations(range(count), size):
        shared = list(combinations(group, overlap + 1))
        if taken.isdisjoint(shared):
            taken.update(shared)
            chosen.append(group)
    return chosen


def _groups(chosen: list, neurons: Tensor, size: int) -> Tensor:
    index = torch.tensor([list(group) for group in chosen], dtype=torch.int64, device=neurons.device)
    return neurons[index.reshape(-1, size)]


def _sized(size: int) -> None:
    if size < 1:
        raise BadInput(f"groups must hold at least one neuron, not {size}")
