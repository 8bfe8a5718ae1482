"""Upper bounds on numbers of patterns, for what a count leaves unfinished, in whole numbers of any size.

n hyperplanes divide R^D into at most C(n, 0) + .. + C(n, D) regions (Zaslavsky 1975; Schlaefli). On a cell of the
first layers the next layer's neurons are n affine functions, so a cell has at most that many patterns of that layer,
and the bounds of the layers that are left multiply (Montufar et al. 2014; Serra et al. 2018). Neurons whose interval
over the input set does not contain zero do not count, nor does a neuron with another's hyperplane.

The bound holds for `all` patterns too: take one point of each pattern; for a small enough e the activations there are
the open sign vectors of the functions z - e.

Soundness: outward rounded (intervals), then exact.
"""

from __future__ import annotations

from math import comb

import torch

from ...problems.properties.property import Polytope
from ...relaxations.lp.boxes import node_boxes
from .tree import Plan


def zaslavsky(n: int, d: int) -> int:
    """Most regions of n hyperplanes in R^d."""
    return sum(comb(n, k) for k in range(min(n, d) + 1))


def undecided(plan: Plan, polytope: Polytope) -> dict[int, list[int]]:
    """For each activation node the neurons whose interval over the input set contains zero, twins left out."""
    boxes = node_boxes(plan.graph, polytope)
    found = {}
    for layer in plan.graph.layers:
        i = layer.position
        lower, upper = boxes[layer.source]
        open_ = torch.nonzero((lower <= 0) & (upper > 0))[:, 0].tolist()
        found[i] = [j for j in open_ if plan.twins[i].first[j] == j]
    return found


def remaining(plan: Plan, free: dict[int, list[int]], node: int, neuron: int) -> int:
    """Most patterns of one cell on which all neurons before `neuron` of `node` are decided."""
    total = 1
    for i in plan.graph.layer_at:
        if i >= node:
            open_ = [j for j in free[i] if i > node or j >= neuron]
            total *= zaslavsky(len(open_), plan.graph.input_size)
    return total
