"""Rows of k-ReLU and PRIMA for backward bounds: the hull of K neurons over an octahedron of their pre-activations.

For each group, the pre-activations are bounded in the directions of {-1, 0, 1}^K by optimised linear bounds, many
groups at once; the hull's rows come out in batch (`hull`, `kernels.hull`), those first that cut off the point where the
objective's bound stands. Single directions keep the bounds that are known.

Soundness: outward rounded, as its parts are. Which groups are taken is heuristic (`groups`).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...kernels.octahedron import Octahedron, octahedron
from ...problems.network.graph import Affine
from ..linear.alpha import Alpha
from ..linear.neuron_rows import Facets
from ..types import Pieces, Rows
from .groups import by_score, excess, overlapping, scored
from .hull import layer_facets


def group_rows(
    alpha: Alpha,
    root: Pieces,  # one piece, its pre-activations bounded
    position: int,  # of an activation node
    groups: Tensor,  # (G, K) int64
    points: tuple[Tensor, Tensor] | None = None,  # (Q, n) twice: relaxed z and y of the layer
) -> Facets | None:
    """Rows of the groups' hulls; none where there are no groups or the activation is not piecewise linear."""
    leak = alpha.linear.graph.layer_at[position].function.leak
    if not len(groups) or leak is None:
        return None
    template = octahedron(groups.shape[1]).to(groups.device)
    found = limits(alpha, root, position, groups, template)
    facets = layer_facets(
        position, groups, found, slope=leak, template=template, points=points, most=alpha.linear.effort.rows.group_rows
    )
    return facets if len(facets) else None


def limits(alpha: Alpha, root: Pieces, position: int, groups: Tensor, template: Octahedron) -> Tensor:  # (G, T)
    """Upper bounds of every direction of every group's pre-activations."""
    graph = alpha.linear.graph
    layer = graph.layer_at[position]
    source = layer.source
    low, high = (side[0] for side in root.pre(layer))
    directions = template.normals.to(low)
    single = (directions != 0).sum(1) == 1
    # Of a single direction e_i or -e_i the bound is known; of the others it starts from that.
    from_box = torch.where(directions > 0, high[groups][:, None], -low[groups][:, None])
    found = torch.where(directions != 0, from_box * 1.0, 0.0).sum(-1)
    if graph.nodes[source].size == 0 or bool(single.all()):
        return found
    joint = (~single).nonzero()[:, 0]
    rows = low.new_zeros(len(groups), len(joint), graph.nodes[source].size)
    rows.scatter_(2, groups[:, None].expand(-1, len(joint), -1), -directions[joint].expand(len(groups), -1, -1))
    rows = rows.flatten(0, 1)
    widest = max(node.size for node in graph.nodes)
    patient, least = replace(alpha, patient=True), []
    for some in rows.split(max(1, alpha.linear.effort.rows.elements // widest)):
        wanted = Rows(some[None], some.new_zeros(1, len(some)))
        least.append(patient.optimise(root, wanted, node=source)[0].lower[0])
    bound = -torch.cat(least).unflatten(0, (len(groups), len(joint)))
    spare = 1 + 8 * torch.finfo(bound.dtype).eps
    box = found[:, joint] + (spare - 1) * from_box[:, joint].abs().sum(-1)
    found[:, joint] = torch.minimum(bound, box)
    return found


def chosen_groups(
    alpha: Alpha,
    root: Pieces,
    position: int,
    values: list[Tensor],  # (Q, n) by node: relaxed values
    price: Tensor,  # (Q, n) >= 0: what the objectives lose for each unit of y
    size: int,
    count: int,
) -> Tensor:  # (G, K)
    """The groups of a layer's undecided neurons whose hull may cut most off these points."""
    graph, effort = alpha.linear.graph, alpha.linear.effort.rows
    layer = graph.layer_at[position]
    low, high = (side[0] for side in root.pre(layer))
    undecided = ((low < 0) & (high > 0)).nonzero()[:, 0]
    if len(undecided) < size:
        return undecided.new_zeros(0, size)
    lost = (excess(values[layer.source], values[position], layer.leak) * price).sum(0)
    below = graph.nodes[layer.source]
    affinity = None
    if isinstance(below, Affine) and len(below.operators) == 1 and len(undecided) * below.operators[0].n_in < 1 << 24:
        rows = torch.nn.functional.normalize(below.operators[0].rows(undecided, low.dtype))
        affinity = low.new_zeros(len(low), len(low))
        affinity[undecided[:, None], undecided] = (rows @ rows.mT).abs()
    best = scored(by_score(undecided, lost)[: effort.pool], size, count, lost, affinity)
    return best if len(best) else overlapping(undecided, size, effort.part)[:count]
