"""max(x_1, .., x_d) with the inputs carried along as neurons, so that a layer holds more than one.

`library.maximum` has one neuron a layer, and no group of a layer's neurons says more than the neuron. Here layer k
holds ReLU(m - x_{k+1}) and a copy ReLU(x) of every input that is still needed; m = x_k + ReLU(m' - x_k) as before. On
the cube a copy is its input, and stable: whoever groups undecided neurons alone never groups it. Over [-DELTA, 1]^d the
copies are undecided by a hair, which is how they are put into groups on purpose; upper bounds there hold on [0, 1]^d,
and are off by DELTA's size.
"""

from __future__ import annotations

import numpy as np

from partita.problems.activation import ReLU
from partita.problems.graph import Graph, Input
from partita.problems.library import Nodes

DELTA = 2.0**-24


def carried_maximum(d: int, shift: float = 0.0) -> Graph:
    """max(x_1, .., x_d) on [0, 1]^d, d >= 2; d - 1 layers of d, d - 1, .., 2 neurons.

    Carried inputs are lowered by `shift` in every layer after the first, so that their intervals hold 0 inside and
    they count as undecided; the maximum moves by at most (d - 1) shift.
    """
    nodes, unit = Nodes([Input(d)]), np.eye(d)
    rows = [unit[0] - unit[1], *unit[1:]]
    at = nodes.activation(nodes.affine([(0, rows)], np.zeros(d), "z1"), ReLU(), "relu1")
    for k in range(2, d):
        unit = np.eye(d - k + 2)  # the last neuron, x_k, x_{k+1}, ..
        rows = [unit[0] + unit[1] - unit[2], *unit[2:]]
        at = nodes.activation(
            nodes.affine([(at, rows)], np.array([0.0] + [-shift] * (len(rows) - 1)), f"z{k}"), ReLU(), f"relu{k}"
        )
    nodes.affine([(at, [1, 1])], 0, "max")
    return nodes.graph()
