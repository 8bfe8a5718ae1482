"""Rows of M_1 for backward bounds: each neuron over all inputs of its layer, found where the bound stands.

Given relaxed values of the whole network (the points that linear bounds pretend to reach, see `trace`), the rows that
these break most are found for all undecided ReLUs of a layer at once (`kernels.separation`); max(z, a z) is
a z + (1 - a) max(z, 0), so leaky ones get rows in the same way. They hold on the box of
the layer's inputs, hence on every piece of the set it was taken over.

Soundness: outward rounded, like the offsets they are made with. Which rows are chosen is heuristic.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from ...kernels.proof_constants import INFLATE
from ...kernels.rounding import gamma, unit_roundoff
from ...kernels.separation import separate
from ...problems.network.affine import AbstractLinear
from ...problems.network.graph import Affine, Graph
from ..effort import ROWS, RowEffort
from ..linear.neuron_rows import Facets, joined
from ..types import Pieces


def input_box(graph: Graph, root: Pieces, node: int) -> tuple[Tensor, Tensor] | None:  # (n,), (n,)
    """Bounds of a node's values on the root, where they are known without further work."""
    if node == 0:
        return root.lower[0], root.upper[0]
    layer = graph.layer_at.get(node)
    if layer is None:
        return None
    low, high = layer.interval(root.ends(layer))
    return low[0], high[0]


@dataclass(frozen=True, eq=False)
class Reads:
    """What the undecided neurons of a layer read: weights on entries of one node; all of them where `index` is None."""

    position: int  # of the activation node
    below: int  # its input, the affine node
    source: int  # the node whose entries are read
    neurons: Tensor  # (J,)
    weight: Tensor  # (J, K)
    bias: Tensor  # (J,)
    index: Tensor | None  # (J, K); zero weights fill up
    lower: Tensor  # (J, K) bounds of what is read
    upper: Tensor  # (J, K)
    doubt: Tensor  # (J,) what the stored weights and biases may be off by, over the box
    slope: float  # a of max(z, a z); weights and biases are (1 - a) times the layer's

    def taken(self, values: Tensor, neurons: slice) -> Tensor:  # (Q, m) -> (J', Q, K)
        """What each neuron reads of each value."""
        if self.index is None:
            return values.expand(len(self.neurons[neurons]), -1, -1)
        return values[:, self.index[neurons]].transpose(0, 1)


def reads(graph: Graph, root: Pieces, position: int, effort: RowEffort = ROWS) -> Reads | None:
    """The undecided neurons of activation node `position`, if rows over their inputs can be made."""
    layer = graph.layer_at[position]
    below, slope = graph.nodes[layer.operands[0].source], layer.leak if layer.is_relu else None
    if slope is None or not isinstance(below, Affine) or len(below.inputs) != 1:
        return None
    source, operator = below.inputs[0], below.operators[0]
    box = input_box(graph, root, source)
    low, high = (side[0] for side in root.pre(layer))
    neurons = ((low < 0) & (high > 0)).nonzero()[:, 0]
    if box is None or not len(neurons) or not bool((box[0].isfinite() & box[1].isfinite()).all()):
        return None
    step = max(1, effort.elements // operator.n_in)
    rows = [_compressed((1 - slope) * operator.rows(some, below.bias.dtype)) for some in neurons.split(step)]
    bias, doubt = (1 - slope) * below.bias[neurons], doubt_of(operator, below, box, neurons, step)
    width = max(index.shape[1] for _, index in rows)
    if 2 * width > operator.n_in:
        weight = torch.cat([(1 - slope) * operator.rows(some, below.bias.dtype) for some in neurons.split(step)])
        lower, upper = (side.expand(len(neurons), -1) for side in box)
        return Reads(position, layer.source, source, neurons, weight, bias, None, lower, upper, doubt, slope)
    weight, index = (torch.cat([pad(t, (0, width - t.shape[1])) for t in side]) for side in zip(*rows, strict=True))
    return Reads(
        position, layer.source, source, neurons, weight, bias, index, box[0][index], box[1][index], doubt, slope
    )


def doubt_of(operator: AbstractLinear, below: Affine, box: tuple[Tensor, Tensor], neurons: Tensor, step: int) -> Tensor:
    """What storing weights in the working dtype, and folding products of weights in float64 before, can cost (J,)."""
    bias = below.bias
    rate = 4 * unit_roundoff(bias.dtype) + gamma(operator.terms + 3, torch.float64)
    largest = torch.maximum(box[0].abs(), box[1].abs())
    size = torch.cat([operator.magnitude().rows(some, bias.dtype) @ largest for some in neurons.split(step)])
    lost = INFLATE * rate * (size + bias[neurons].abs())
    return lost if below.doubt is None else lost + INFLATE * below.doubt[neurons]


def _compressed(rows: Tensor) -> tuple[Tensor, Tensor]:  # (J, m) -> (J, K), (J, K)
    """The coefficients that are not zero, and where they stand."""
    used = rows != 0
    width = max(1, int(used.sum(1).max()))
    index = used.to(torch.uint8).topk(width, sorted=False).indices
    return rows.gather(1, index), index


def broken_rows(
    layer: Reads,
    values: list[Tensor],  # (Q, n) by node
    effort: RowEffort = ROWS,
) -> Facets | None:
    """For every undecided neuron of a layer the row that is broken most at each of Q points, if any is."""
    points, count = values[layer.source], len(values[0])
    step = max(1, effort.elements // (count * layer.weight.shape[1]))
    found = []
    for start in range(0, len(layer.neurons), step):
        some = slice(start, start + step)
        neurons, sides = layer.neurons[some], (layer.lower[some], layer.upper[some])
        read = layer.taken(points, some)
        coefficients, offset = separate(layer.weight[some], layer.bias[some], *sides, read, layer.doubt[some])
        bound = (coefficients * read).sum(-1) + offset  # (J', Q)
        below = layer.slope * values[layer.below][:, neurons].mT if layer.slope else 0.0
        excess = values[layer.position][:, neurons].mT - below - bound
        most = (layer.weight[some].abs() * (sides[1] - sides[0])).sum(1, keepdim=True)
        which, query = (excess > effort.broken * most).nonzero(as_tuple=True)
        if len(which):
            one = offset.new_ones(len(which), 1)
            where = None if layer.index is None else layer.index[some][which]
            rows = -coefficients[which, query]
            found.append(
                Facets(
                    layer.position, neurons[which][:, None], one, -layer.slope * one, offset[which, query], rows, where
                )
            )
    return joined(found) if found else None
