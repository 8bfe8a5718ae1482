"""A piece with every neuron decided, handed to the exact linear program; what it says, as the engine wants it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..problems.graph import Graph
from ..problems.property import Polytope, UnsafeSet
from .tree import Settled


def settled(
    graph: Graph,
    polytope: Polytope,
    phases: Sequence[NDArray[np.int8]],
    unsafe: UnsafeSet,
    seconds: float | None = None,
) -> Settled:
    """Whether the piece holds an unsafe point, in `seconds` for each program. A network with smooth activations has no
    such program: undecided."""
    middle = (polytope.lower + polytope.upper) / 2
    if any(not graph.nodes[i].function.kinks for i in graph.activations):
        return Settled(False, middle, "smooth activations leave nothing to decide")
    if any((phase == 0).any() for phase in phases):
        return Settled(False, middle, "its box is a point or overflows, and some neuron could not be decided")
    from ..relaxations.leaf import LeafStatus, settle

    result = settle(graph, polytope, phases, unsafe, time_limit=seconds)
    return Settled(result.status is LeafStatus.closed, result.x, result.reason or result.status.value)


def phases_of(graph: Graph, lower: Tensor, upper: Tensor) -> list[NDArray[np.int8]]:  # (N,), (N,)
    """What pre-activation bounds say of every neuron, layer by layer: +1 active, -1 inactive, 0 undecided."""
    phase = torch.where(lower >= 0, 1, torch.where(upper <= 0, -1, 0)).to(torch.int8).cpu().numpy()
    return [phase[start : start + graph.nodes[i].size] for i, start in graph.offsets.items()]
