"""Rows of M_1 for backward bounds: each neuron over all inputs of its layer, found where the bound stands.

Given relaxed values of the whole network (the points that linear bounds pretend to reach, see `trace`), the rows that
these break most are found for all undecided ReLUs of a layer at once (`kernels.separation`). They hold on the box of
the layer's inputs, hence on every piece of the set it was taken over.

Soundness: outward rounded, like the offsets they are made with. Which rows are chosen is heuristic.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.separation import separate
from ..problems.activation import LeakyReLU
from ..problems.affine import AbstractLinear
from ..problems.graph import Activation, Affine, Graph, Input
from .facets import Facets, joined
from .linear import part
from .types import Pieces

ELEMENTS = 1 << 22  # of one tensor of (points, neurons, inputs)


def input_box(graph: Graph, root: Pieces, node: int) -> tuple[Tensor, Tensor] | None:  # (n,), (n,)
    """Bounds of a node's values on the root, where they are known without further work."""
    match graph.nodes[node]:
        case Input():
            return root.lower[0], root.upper[0]
        case Activation() as activation:
            low, high = part(graph, root, node)
            return tuple(side[0] for side in activation.function.interval(low, high))
    return None


def treatable(graph: Graph, position: int) -> tuple[AbstractLinear, int] | None:
    """The operator below activation node `position` and the one node it reads, if rows over inputs can be made."""
    activation, below = graph.nodes[position], graph.nodes[graph.nodes[position].inputs[0]]
    relu = isinstance(activation.function, LeakyReLU) and activation.function.slope == 0
    if not relu or not isinstance(below, Affine) or len(below.inputs) != 1:
        return None
    return below.operators[0], below.inputs[0]


def broken_rows(
    graph: Graph,  # in the dtype and on the device of the search
    root: Pieces,  # one piece, its pre-activations bounded
    position: int,  # of an activation node
    values: list[Tensor],  # (Q, n) by node
    least: float = 1e-4,  # the smallest violation that counts, relative to the neuron's range
) -> Facets | None:
    """For every undecided neuron of a layer the row that is broken most at each of Q points, if any is."""
    found = treatable(graph, position)
    box = None if found is None else input_box(graph, root, found[1])
    if found is None or box is None:
        return None
    operator, source = found
    low, high = (side[0] for side in part(graph, root, position))
    neurons = ((low < 0) & (high > 0)).nonzero()[:, 0]
    if not len(neurons):
        return None
    bias = graph.nodes[graph.nodes[position].inputs[0]].bias
    rows = []
    for some in neurons.split(max(1, ELEMENTS // (len(values[0]) * operator.n_in))):
        coefficients, offset = separate(operator.rows(some), bias[some], *box, values[source])
        excess = values[position][:, some] - torch.einsum("qjm,qm->qj", coefficients, values[source]) - offset
        query, which = (excess > least * (high - low)[some]).nonzero(as_tuple=True)
        if len(query):
            one = offset.new_ones(len(query), 1)
            index = some[which][:, None]
            rows.append(Facets(position, index, one, 0 * one, offset[query, which], -coefficients[query, which]))
    return joined(rows) if rows else None
