"""What a measured tree is made of: its goal, its pieces, the ways to cut them, and the tree itself.

A search stops when a property is decided; a measured tree stops when a *bound is exact* on every leaf, or a threshold
proved. It is grown to be counted, so every piece is kept, and a piece may be any of three things:

    activation   the input set with some neurons decided; the set itself is not cut
    input        a box, by bisecting coordinates
    polyhedral   a polytope, cut along hyperplanes on which neurons are zero; a neuron can be cut along where its
                 pre-activation is affine on the piece, that is, after all neurons that it depends on

`Goal` says when a piece is closed: in each of its groups, some row is proved to be at least its target, less the
tolerance. The exact minimum of a row is a group of one; an unsafe set is a group of its rows, each above zero.

Soundness: decisions cover a piece (z >= 0 or z <= 0), half-spaces are moved outwards by more than their rounding, and
boxes share their middle, so no point of a piece is lost by a cut. What counts as undecided is heuristic: a neuron whose
interval reaches less than `FLAT` beyond zero is not worth a cut, and its relaxation is off by no more than that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ...problems.network.graph import Activation, Affine, Graph, Layer
from ...problems.properties.property import Polytope
from ...relaxations.lp.boxes import Box

Array = NDArray[np.float64]
Pieces = Literal["activation", "input", "polyhedral"]
Status = Literal["open", "split", "closed", "empty", "stuck"]
Kind = Literal["proper", "closed", "flat", "empty", "other", "undecided"]  # of leaves, see `proper`

FLAT = 1e-9  # of the size of a pre-activation's interval, or of one


@dataclass(frozen=True, eq=False)
class Goal:
    """Rows rows f(x) + on_input x + constants, and what is to be proved of them."""

    rows: Array  # (R, n_out)
    constants: Array  # (R,)
    targets: Array  # (R,)
    tolerances: Array  # (R,)
    groups: tuple[tuple[int, ...], ...]
    on_input: Array | None = None  # (R, D)

    def closed(self, values: Array) -> bool:
        """Whether lower bounds (R,) of the rows are enough."""
        proved = values >= self.targets - self.tolerances
        return all(proved[list(group)].any() for group in self.groups)

    def gap(self, values: Array) -> float:
        """How far the worst group is from being closed; zero or less where it is."""
        short = self.targets - self.tolerances - values
        return max((float(short[list(group)].min()) for group in self.groups), default=-np.inf)

    def worst(self, values: Array) -> int:
        """The row that is nearest to closing the group that is furthest from it."""
        short = self.targets - self.tolerances - values
        group = max(self.groups, key=lambda g: float(short[list(g)].min()))
        return min(group, key=lambda r: float(short[r]))


@dataclass(frozen=True)
class Cut:
    """How a piece became two: a neuron (number in the flat order) at zero, or a coordinate at a point."""

    neuron: int = -1
    coordinate: int = -1
    point: float = 0.0


@dataclass(frozen=True, eq=False)
class Region:
    """A piece: its input polytope, its decided neurons, and the boxes of all nodes known of it (None: nothing)."""

    inputs: Polytope
    phases: tuple[tuple[int, int], ...] = ()  # sorted (neuron, sign)
    boxes: tuple[Box, ...] | None = None
    changed: int = 0  # the node before which the parent's boxes are as tight as they get


@dataclass(frozen=True, eq=False)
class Known:
    """What bounding found out about a piece: lower bounds (R,) of the goal's rows, +inf where it is proved empty; the
    boxes of all nodes; the neurons that are undecided, in the flat order."""

    values: Array
    boxes: tuple[Box, ...]
    undecided: NDArray[np.int64]

    @property
    def empty(self) -> bool:
        return bool(np.isposinf(self.values).all())


@dataclass(frozen=True, eq=False)
class Piece:
    """One node of a tree. `region` is kept for leaves, without its boxes."""

    number: int
    parent: int
    depth: int
    status: Status
    gap: float
    cut: Cut | None = None  # of what was split
    side: int = 0  # of the parent's cut: -1 below, +1 above
    region: Region | None = None


@dataclass(frozen=True, eq=False)
class Tree:
    """A measured tree, finished or not; `proved` is a number of proper leaves that it has at least, where more is known
    than its pieces show. `kinds`: piece -> what kind of leaf it is, where that was asked (`proper.judged`)."""

    pieces: list[Piece] = field(default_factory=list)
    finished: bool = False
    proved: int = 0
    kinds: Mapping[int, Kind] = field(default_factory=dict)

    @property
    def leaves(self) -> list[Piece]:
        """The pieces of the partition, those proved empty left out; of a tree that is not finished, open ones too."""
        return [p for p in self.pieces if p.status in ("closed", "stuck", "open")]

    def number(self, status: Status) -> int:
        """How many pieces ended so."""
        return sum(p.status == status for p in self.pieces)

    def leaves_of(self, kind: Kind) -> int:
        """How many leaves are of a kind."""
        return sum(found == kind for found in self.kinds.values())

    @property
    def depth(self) -> int:
        return max((p.depth for p in self.pieces), default=0)


def undecided(graph: Graph, boxes: tuple[Box, ...]) -> NDArray[np.int64]:
    """The neurons whose intervals reach beyond zero on both sides by more than `FLAT`."""
    found = []
    for layer in graph.layers:
        low, high = (side.numpy() for side in boxes[layer.source])
        least = FLAT * np.maximum(1.0, high - low)
        found.append(layer.span.start + np.flatnonzero((low < -least) & (high > least)))
    return np.concatenate(found or [np.zeros(0, np.int64)])


def position_of(graph: Graph, neuron: int) -> tuple[Layer, int]:
    """A neuron's layer and its number there."""
    for layer in graph.layers:
        if neuron < layer.span.stop:
            return layer, neuron - layer.span.start
    raise ValueError(f"there is no neuron {neuron}")


def decide(graph: Graph, region: Region, known: Known, neuron: int) -> tuple[Region, Region]:
    """The piece with one neuron inactive, and active."""
    layer, k = position_of(graph, neuron)
    source = layer.source
    children = []
    for sign in (-1, 1):
        boxes = list(known.boxes)
        low, high = (side.clone() for side in boxes[source])
        (high if sign < 0 else low)[k] = 0.0
        boxes[source] = (low, high)
        phases = tuple(sorted((*region.phases, (neuron, sign))))
        children.append(replace(region, phases=phases, boxes=tuple(boxes), changed=source))
    return children[0], children[1]


def cut_along(graph: Graph, region: Region, known: Known, neuron: int) -> tuple[Region, Region]:
    """The same with the half-space that the decision is; the neuron's pre-activation must be affine on the piece."""
    layer, k = position_of(graph, neuron)
    source = layer.source
    forms = affine_forms(graph, known.boxes)
    weight, bias = (t[k].numpy() for t in forms[source])
    size = np.abs(weight) @ np.maximum(np.abs(region.inputs.lower), np.abs(region.inputs.upper)) + abs(bias)
    spare = 1e-13 * len(weight) * len(graph.nodes) * max(size, 1e-30)
    children = []
    for child, sign in zip(decide(graph, region, known, neuron), (1.0, -1.0), strict=True):
        normals = np.concatenate([region.inputs.normals, sign * weight[None]])
        offsets = np.append(region.inputs.offsets, -sign * bias + spare)
        children.append(replace(child, inputs=replace(region.inputs, normals=normals, offsets=offsets), changed=0))
    return children[0], children[1]


def bisect(region: Region, known: Known, coordinate: int, point: float) -> tuple[Region, Region]:
    """The piece below and above a point of one coordinate."""
    low, high = region.inputs.lower.copy(), region.inputs.upper.copy()
    high[coordinate] = low[coordinate] = point
    below, above = replace(region.inputs, upper=high), replace(region.inputs, lower=low)
    return (
        replace(region, inputs=below, boxes=known.boxes, changed=0),
        replace(region, inputs=above, boxes=known.boxes, changed=0),
    )


def children_of(graph: Graph, region: Region, known: Known, cut: Cut, pieces: Pieces) -> tuple[Region, Region]:
    """Both sides of a cut."""
    if cut.coordinate >= 0:
        return bisect(region, known, cut.coordinate, cut.point)
    return (cut_along if pieces == "polyhedral" else decide)(graph, region, known, cut.neuron)


def affine_forms(graph: Graph, boxes: tuple[Box, ...]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """W (n, D) and b (n,) of every node, W x + b on the piece; NaN for entries that are not affine there.

    Plain float64. A neuron is decided as in `undecided`.
    """
    open_ = np.zeros(graph.neurons, bool)
    open_[undecided(graph, boxes)] = True
    eye = torch.eye(graph.input_size, dtype=torch.float64)
    forms = [(eye, torch.zeros(graph.input_size, dtype=torch.float64))]
    for i, node in enumerate(graph.nodes[1:], 1):
        match node:
            case Affine():
                weight, bias = torch.zeros(graph.input_size, node.size, dtype=torch.float64), node.bias.clone()
                for j, operator in zip(node.inputs, node.operators, strict=True):
                    weight = weight + operator.apply(torch.nan_to_num(forms[j][0]).mT.contiguous())
                    bias = bias + operator.apply(torch.nan_to_num(forms[j][1]))
                    unknown = operator.absolute().apply(forms[j][1].isnan().double()) > 0
                    bias[unknown] = torch.nan
                weight = weight.mT.contiguous()
                weight[bias.isnan()] = torch.nan
                forms.append((weight, bias))
            case Activation():
                layer = graph.layer_at[i]
                (low, high), (weight, bias) = boxes[layer.source], forms[layer.source]
                factor = torch.where(low + high > 0, 1.0, layer.function.leak or 0.0).double()
                factor[torch.from_numpy(open_[layer.span])] = torch.nan
                off = factor == 0  # what a dead neuron reads does not matter
                weight = torch.where(off[:, None], 0.0, factor[:, None] * weight)
                forms.append((weight, torch.where(off, 0.0, factor * bias)))
            case _:
                nothing = torch.full((node.size,), torch.nan, dtype=torch.float64)
                forms.append((nothing[:, None].expand(-1, graph.input_size), nothing))
    return forms


def affine_on(graph: Graph, known: Known) -> NDArray[np.int64]:
    """The undecided neurons whose pre-activation is affine on the piece."""
    forms = affine_forms(graph, known.boxes)
    found = []
    for neuron in known.undecided.tolist():
        layer, k = position_of(graph, neuron)
        weight, bias = forms[layer.source]
        if not bool(bias[k].isnan()) and bool((weight[k] != 0).any()):
            found.append(neuron)
    return np.array(found, np.int64)
