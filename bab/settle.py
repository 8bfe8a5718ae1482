"""A piece with every neuron decided, handed to the exact linear program; what it says, as the engine wants it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..problems.graph import Graph
from ..problems.property import Polytope, UnsafeSet
from .tree import Settled


def settled(graph: Graph, polytope: Polytope, phases: Sequence[NDArray[np.int8]], unsafe: UnsafeSet) -> Settled:
    """Whether the piece holds an unsafe point. A network with smooth activations has no such program: undecided."""
    if any(not graph.nodes[i].function.kinks for i in graph.activations):
        return Settled(False, (polytope.lower + polytope.upper) / 2, "smooth activations leave nothing to decide")
    from ..relaxations.leaf import LeafStatus, settle

    result = settle(graph, polytope, phases, unsafe)
    return Settled(result.status is LeafStatus.closed, result.x, result.reason or result.status.value)
