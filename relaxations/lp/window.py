"""A window of consecutive layers over the relaxed set of what lies before, as a union of polytopes.

The window ends at an activation node and holds r of them, with the affine nodes between. Its inputs v are all values
from before that its affine nodes read, however many nodes they come from (skip connections). Two things follow from
how a relaxation of several layers is defined (Mao, Zhang, Vechev 2026): the hull ties v, the window's undecided
outputs and nothing else, so that what v has to do with still earlier values stays forgotten; and what v may be is the
projection of everything the program says of the nodes before, joint rows and hulls included. A polytope of the union
therefore copies all of that. The copies multiply from layer to layer: this is for small networks, and `Size` says
where it ends.

Stable neurons are linear and need no tie of their own. Soundness: as `disjunction`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array, hstack, vstack

from ...problems.errors import BadInput
from ...problems.network.graph import Graph
from .disjunction import Alternative, Branch, TooMany, add_hull, patterns
from .encode import Building
from .model import LinearModel
from .objectives import Sessions
from .program import Index


@dataclass(frozen=True)
class Size:
    """Where exact hulls end: sign patterns of one window, and coefficients of the whole program."""

    patterns: int
    coefficients: int


@dataclass(frozen=True, eq=False)
class Window:
    """The nodes of a window, what they read, and the variables that the relaxed set before it consists of."""

    building: Building
    position: int  # of its last activation node
    inner: tuple[int, ...]  # its other activation nodes
    nodes: tuple[int, ...]  # all nodes between, the last pre-activation not among them
    reads: tuple[int, ...]  # nodes before the window
    known: Index  # variables of everything before

    @property
    def source(self) -> int:
        """The node of the last pre-activations."""
        return self.building.graph.layer_at[self.position].source


def window(building: Building, position: int, layers: int) -> Window:
    """The window of the `layers` last activation nodes up to `position`."""
    graph = building.graph
    earlier = [layer.position for layer in graph.layers if layer.position < position]
    before = earlier[-layers] if len(earlier) >= layers else 0
    inside, reads = ancestors(graph, graph.layer_at[position].source, before + 1)
    inner = tuple(i for i in inside if i in graph.layer_at)
    return Window(building, position, inner, inside, reads, building.known(before))


def ancestors(graph: Graph, node: int, start: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The nodes from `start` on that `node` depends on, without itself, and the earlier nodes that all these read."""
    inside, reads, open_ = set(), set(), [node]
    while open_:
        for i in graph.nodes[open_.pop()].inputs:
            if i < start:
                reads.add(i)
            elif i not in inside:
                inside.add(i)
                open_.append(i)
    if node < start:  # an affine node of an earlier layer
        reads.add(node)
    return tuple(sorted(inside)), tuple(sorted(reads))


def add_window(
    window: Window, model: LinearModel, group: Index, size: Size, sessions: Sessions, word: str = "hull"
) -> int:
    """Adds the hull of the window with the undecided neurons `group` of its last layer; returns how many patterns.

    `model` is the building's program as it stood when its last layer's rows were there. Raises `BadInput` where a
    limit of `size` is hit, and says at which layer.
    """
    building = window.building
    z = building.columns(window.source)[group]
    columns = np.unique(np.concatenate([window.known, *(building.columns(i) for i in window.nodes), z]))
    local, branches, ties = _local(window, model, columns, z)
    name = building.graph.nodes[window.position].name or f"node {window.position}"
    try:
        found = patterns(local, branches, size.patterns, sessions)
    except TooMany:
        raise BadInput(
            f"the {word} at layer {name!r} has more than {size.patterns} activation patterns, which is the limit; "
            "raise it with patterns=N, take a smaller input set, or use a relaxation that joins fewer neurons."
        ) from None
    if len(found) * (local.matrix.nnz + 2 * len(local.cost)) + building.program.coefficients > size.coefficients:
        raise BadInput(
            f"the {word} at layer {name!r} needs a linear program of more than {size.coefficients} coefficients, "
            "which is the limit; raise it with size=N, take a smaller input set or fewer groups, or join fewer neurons."
        )
    slope = building.graph.layer_at[window.position].leak
    alternatives = []
    for lower, upper, signs in found:
        own = signs[len(signs) - len(group) :]
        factor = np.where(np.array(own) > 0, 1.0, slope)
        at = np.arange(len(z)), np.searchsorted(columns, z)
        outputs = coo_array((factor, at), (len(z), len(local.cost))).tocsr()
        alternatives.append(Alternative(lower, upper, csr_array(vstack([ties, outputs], format="csr"))))
    targets = np.concatenate([columns[ties.indices], building.columns(window.position)[group]])
    add_hull(building.program, local, alternatives, targets)
    return len(found)


def _local(window: Window, model: LinearModel, columns: Index, z: Index) -> tuple[LinearModel, list[Branch], csr_array]:
    """The rows over `columns` alone, with a slack for each lower row of an undecided neuron inside the window; the
    neurons to branch on, layer after layer; and the unit rows of what is tied besides the last outputs."""
    building = window.building
    outside = np.ones(model.matrix.shape[1])
    outside[columns] = 0
    alone = ((abs(model.matrix) @ outside) == 0) & (np.diff(model.matrix.indptr) > 0)
    rows = np.flatnonzero(alone)
    matrix, lower, upper = csr_array(model.matrix[rows][:, columns]), model.lower[columns], model.upper[columns]
    row_lower, row_upper = model.row_lower[rows].copy(), model.row_upper[rows].copy()

    def where(c: Index) -> Index:
        return np.searchsorted(columns, c)

    branches: list[Branch] = []
    tied = [where(building.columns(i)) for i in window.reads]
    for i in window.inner:
        kinks = building.kinks.get(i)
        if kinks is None:
            continue
        pre, post = building.columns(building.graph.layer_at[i].source), building.columns(i)
        tied.append(where(post[kinks.neurons]))
        slacks: list[Index] = []
        for side in (kinks.above, kinks.below):
            at = np.searchsorted(rows, side)
            row_upper[at] = 0.0
            slacks.append(matrix.shape[1] + np.arange(len(at)))
            slack = coo_array((-np.ones(len(at)), (at, np.arange(len(at)))), (len(rows), len(at)))
            matrix = csr_array(hstack([matrix, slack], format="csr"))
            reach = np.maximum(np.abs(lower), np.abs(upper))
            lower, upper = np.append(lower, np.zeros(len(at))), np.append(upper, 2 * reach[where(pre[kinks.neurons])])
        branches += [
            Branch(int(c), int(above), int(below)) for c, above, below in zip(where(pre[kinks.neurons]), *slacks)
        ]
    branches += [Branch(int(c)) for c in where(z)]
    unit = np.concatenate(tied)
    ties = csr_array((np.ones(len(unit)), (np.arange(len(unit)), unit)), (len(unit), len(lower)))
    return LinearModel(np.zeros(len(lower)), lower, upper, matrix, row_lower, row_upper), branches, ties
