"""Pre-activation bounds of the root, improved by optimised slopes and multi-neuron rows.

In a tree of activation branches every piece lives on the root's pre-activation bounds, so work on these pays on every
piece. Layer by layer, the rows +e_i and -e_i of all undecided neurons are optimised at once, each with slopes of its
own (alpha-CROWN with independent slopes; Xu et al. 2021), over the lines that the improved bounds of the layers before
give; with `speakers`, rows of M_1 are found for so many of them on the way (`cutting`), and serve them all.
Neurons that turn out stable are never split.

Soundness: outward rounded, as its parts are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...kernels.deadline import now
from ..linear.alpha import Alpha
from ..types import Pieces, Rows
from .cutting import Turns, cut, layers_read
from .separation import Reads


def refined(alpha: Alpha, root: Pieces, deadline: float, speakers: int = 0) -> Pieces:
    """The root (one piece) with improved pre-activation bounds; what is left undone at `deadline`, a value of
    `kernels.deadline.now`, keeps the bounds it has."""
    graph = alpha.linear.graph
    root = root.with_pre(root.pre_lower.clone(), root.pre_upper.clone())
    elements, widest = alpha.linear.effort.rows.elements, max(node.size for node in graph.nodes)
    for operand in graph.operands:
        source, layer = operand.source, graph.layer_at[operand.layer]
        if all(i == 0 for i in graph.nodes[source].inputs):
            continue  # exact already
        lower, upper = root.pre(operand)  # views of the root's bounds
        index = layer.undecided(root.ends(layer))[operand.index][0].nonzero()[:, 0]
        layers = asked(alpha, root, layer.position) if speakers and len(index) else []
        turns = Turns(1 if layers else 0, alpha.steps, source, speakers)
        for some in index.split(max(1, elements // (2 * widest))):
            if now() > deadline:
                return root
            low, high = _optimised(alpha, root, some, layers, deadline, turns)
            lower[0, some] = torch.maximum(lower[0, some], low)
            upper[0, some] = torch.minimum(upper[0, some], torch.maximum(high, lower[0, some]))
    return root


def asked(alpha: Alpha, root: Pieces, before: int) -> list[Reads]:
    """The layers below activation node `before` whose neurons give it rows: those that read all of a layer.

    Rows of neurons that read few inputs (convolutions) cost three times the pass and decided one neuron of 450.
    """
    return [layer for layer in layers_read(alpha, root, before) if layer.index is None]


def _optimised(
    alpha: Alpha, root: Pieces, index: Tensor, layers: list[Reads], deadline: float, turns: Turns
) -> tuple[Tensor, Tensor]:  # (U,), (U,)
    """Bounds of some entries of the node that the turns are about."""
    count = len(index)
    assert turns.node is not None, "layers are refined one by one"
    unit = root.lower.new_zeros(1, count, alpha.linear.graph.nodes[turns.node].size)
    unit[0, torch.arange(count, device=index.device), index] = 1.0
    rows = Rows(torch.cat([unit, -unit], 1), unit.new_zeros(1, 2 * count))
    found = cut(alpha, root, rows, layers, deadline, turns)
    return found.result.lower[0, :count], -found.result.lower[0, count:]
