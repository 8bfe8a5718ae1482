"""max(x_1, .., x_d) with the inputs carried along as neurons, so that a layer holds more than one.

`library.maximum` has one neuron a layer, and no group of a layer's neurons says more than the neuron. Here layer k
holds ReLU(m - x_{k+1}) and a copy ReLU(x) of every input that is still needed; m = x_k + ReLU(m' - x_k) as before. On
the cube a copy is its input, and stable: whoever groups undecided neurons alone never groups it. So a copy is written
ReLU(c - DELTA), undecided by a hair, and the shifts are added at the end: the network is the maximum where all inputs
are at least d DELTA, and elsewhere on the cube at most d DELTA above it, so that its upper bounds hold for both.
"""

from __future__ import annotations

import numpy as np

from partita.problems.network.activation import ReLU
from partita.problems.network.graph import Graph, Input
from partita.problems.network.library import Nodes

DELTA = 2.0**-24


def carried_maximum(d: int) -> Graph:
    """max(x_1, .., x_d) on [0, 1]^d up to d DELTA from above, d >= 2; d - 1 layers of d, d - 1, .., 2 neurons."""
    nodes, unit = Nodes([Input(d)]), np.eye(d)
    rows = [unit[0] - unit[1], *unit[1:]]
    at = nodes.activation(nodes.affine([(0, rows)], _shifts(len(rows)), "z1"), ReLU(), "relu1")
    for k in range(2, d):
        unit = np.eye(d - k + 2)  # the last neuron, x_k, x_{k+1}, .. with the same shift, which cancels
        rows = [unit[0] + unit[1] - unit[2], *unit[2:]]
        at = nodes.activation(nodes.affine([(at, rows)], _shifts(len(rows)), f"z{k}"), ReLU(), f"relu{k}")
    nodes.affine([(at, [1, 1])], (d - 1) * DELTA, "max")
    return nodes.graph()


def _shifts(neurons: int) -> np.ndarray:
    """Biases of a layer: all but the first neuron are copies."""
    return np.append(0.0, np.full(neurons - 1, -DELTA))
