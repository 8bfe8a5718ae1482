"""Small networks of the theory, for the tests: the nested maximum in its two forms."""

from __future__ import annotations

import torch

from partita.problems.activation import ReLU
from partita.problems.affine import Dense
from partita.problems.graph import Activation, Affine, Graph, Input


def nested_max(d: int, fused: bool = False) -> Graph:
    """max(x_1, .., x_d) by m <- x_k + relu(m - x_k), one neuron a layer.

    As it stands every layer reads the last maximum and the input; `fused`, it reads the last neuron and the input,
    which is what is left when affine nodes are folded into one another.
    """
    unit = torch.eye(d, dtype=torch.float64)
    row = lambda v: Dense(v[None])  # noqa: E731
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    nodes: list = [Input(d)]
    maximum = None  # what the last maximum is: (node, operator) pairs
    for k in range(1, d):
        if maximum is None:
            nodes.append(Affine((0,), (row(unit[0] - unit[k]),), zero, f"z{k}"))
        elif fused:
            nodes.append(Affine((maximum, 0), (row(one), row(unit[k - 1] - unit[k])), zero, f"z{k}"))
        else:
            nodes.append(Affine((maximum, 0), (row(one), row(-unit[k])), zero, f"z{k}"))
        nodes.append(Activation((len(nodes) - 1,), ReLU(), 1, f"relu{k}"))
        neuron = len(nodes) - 1
        if fused and k < d - 1:
            maximum = neuron
        else:
            nodes.append(Affine((neuron, 0), (row(one), row(unit[k])), zero, f"m{k + 1}"))
            maximum = len(nodes) - 1
    return Graph(tuple(nodes), (d,), (1,))
