"""A network over a polytope, written as a linear model.

Every entry of every node is a variable within its interval bounds; an affine node y = sum A_i x_i + b is one equation
an entry; an activation y = f(z) with z in [l, u] is

* decided: y = z or y = a z, for max(z, a z) with 0 <= a < 1;
* undecided, relaxed: y >= z, y >= a z and the chord from above, the triangle (Ehlers 2017); for smooth functions
  several tangents and the chord, whatever the activation's `lines` give;
* undecided, exact: the same with a binary p that says whether z >= 0 (Tjeng, Xiao, Tedrake 2019):
  y <= z - (1 - a) l (1 - p) and y <= a z + (1 - a) u p. Smooth functions have no such form and are refused.

The chord and the big-M rows use bounds on z, so tighter bounds give a tighter model.

Soundness: outward rounded. Intervals, chords and big-M coefficients are rounded outward, equations hold the stored
weights exactly; where a product of matrices was folded into a weight (`Dense.scale`), its equation is widened to an
interval that contains the exact one. So the model contains every (x, values of all nodes) of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import block_array, csr_array, eye_array, vstack
from torch import Tensor

from ...kernels.deadline import check
from ...problems.errors import BadInput
from ...problems.network.affine import AbstractLinear
from ...problems.network.graph import Activation, Affine, Graph, Layer
from ...problems.properties.property import Polytope, UnsafeSet
from ..effort import BOUNDS, ProgramEffort
from .boxes import UNIT, Box, affine_box, node_boxes
from .model import Array, LinearModel
from .program import Index, Program

Form = Literal["relaxed", "lean", "exact"]


@dataclass(frozen=True, eq=False)
class Encoding:
    """A model (objective zero) and where the entries of each node stand among its variables."""

    model: LinearModel
    first: tuple[int, ...]  # the variable of entry 0 of each node
    graph: Graph
    boxes: list[Box]

    def minimising(self, node: int, row: Array, constant: float = 0.0) -> LinearModel:
        """The model with the objective row . value(node) + constant."""
        cost = np.zeros(len(self.model.cost))
        cost[self.first[node] : self.first[node] + len(row)] = row
        return self.model.with_objective(cost, constant)

    def minimising_margin(self, unsafe: UnsafeSet) -> LinearModel:
        """The model with the objective: the least t that bounds every left-hand side of the unsafe set."""
        n, rows = len(self.model.cost), len(unsafe.rows)
        left = np.zeros((rows, n))
        at = self.first[self.graph.output]
        left[:, at : at + self.graph.output_size] = unsafe.rows
        if unsafe.on_input is not None:
            left[:, : self.graph.input_size] += unsafe.on_input
        reach = np.maximum(np.abs(self.model.lower), np.abs(self.model.upper))
        bound = 1.0 + 2 * (np.abs(left) @ reach + np.abs(unsafe.constants)).max()
        m = self.model
        matrix = block_array([[m.matrix, None], [csr_array(left), csr_array(-np.ones((rows, 1)))]], format="csr")
        return LinearModel(
            cost=np.append(np.zeros(n), 1.0),
            lower=np.append(m.lower, -bound),
            upper=np.append(m.upper, bound),
            matrix=matrix,
            row_lower=np.append(m.row_lower, np.full(rows, -np.inf)),
            row_upper=np.append(m.row_upper, -unsafe.constants),
            integer=None if m.integer is None else np.append(m.integer, False),
        )


@dataclass(frozen=True, eq=False)
class Kinks:
    """The undecided neurons of a piecewise-linear layer, and the rows y - z >= 0 and y - a z >= 0 of each."""

    neurons: Index  # (U,)
    above: Index  # (U,) of y - z >= 0, an equation where the neuron is active
    below: Index  # (U,) of y - a z >= 0, an equation where it is inactive


@dataclass(frozen=True, eq=False)
class Building:
    """The nodes encoded so far; what joins neurons adds to its program, what tightens bounds changes its boxes."""

    graph: Graph
    program: Program
    first: tuple[int, ...]
    boxes: list[Box]
    kinks: dict[int, Kinks] = field(default_factory=dict)
    extent: dict[int, int] = field(default_factory=dict)  # variables when an activation node and all for it were done
    effort: ProgramEffort = BOUNDS.programs

    def columns(self, node: int) -> Index:
        """The variables of a node's entries."""
        return self.first[node] + np.arange(self.graph.nodes[node].size)

    def known(self, position: int) -> Index:
        """The variables of all nodes up to an activation node, or the input, and of what joins them."""
        extent = self.extent.get(position, self.first[-1])
        return np.append(np.arange(self.first[position + 1]), np.arange(self.first[-1], extent))

    def cut_box(self, node: int, lower: Tensor, upper: Tensor) -> None:
        """Tighter bounds of a node that is encoded already."""
        low, high = torch.maximum(self.boxes[node][0], lower), torch.minimum(self.boxes[node][1], upper)
        self.boxes[node] = (low, high)
        where = slice(self.first[node], self.first[node] + len(low))
        self.program.lower[where] = np.maximum(self.program.lower[where], low.numpy())
        self.program.upper[where] = np.minimum(self.program.upper[where], high.numpy())

    def encoding(self) -> Encoding:
        """What stands here now."""
        return Encoding(self.program.model(), self.first, self.graph, self.boxes)


class Addition(Protocol):
    """What a relaxation adds to the single-neuron rows, layer by layer: tighter bounds, rows that join neurons."""

    def before(self, building: Building, position: int) -> None:
        """Called when everything before activation node `position` is encoded: its bounds may be tightened."""

    def after(self, building: Building, position: int) -> None:
        """Called when the node's single-neuron rows are there: rows that join its neurons may be added."""


def encode(
    graph: Graph,
    polytope: Polytope,
    *,
    form: Form = "relaxed",
    boxes: list[Box] | None = None,
    additions: Sequence[Addition] = (),
    effort: ProgramEffort = BOUNDS.programs,
) -> Encoding:
    """The network over the polytope; `boxes` defaults to interval arithmetic.

    Each of `additions` is asked at every activation node for what it adds to the single-neuron rows. The form "lean" is
    the relaxed one without the equations of neurons whose output is constant anyway: the model is no longer told what
    they are, which a network over its own boxes never needs (mnist_fc 256x4: a sixth of the coefficients, the same
    bounds).

    Raises `BadInput` for products, and for smooth activations when `form` is "exact".
    """
    graph.check_univariate("a linear program")
    graph = graph.to(torch.float64)
    boxes = list(node_boxes(graph, polytope) if boxes is None else boxes)
    nodes = graph.nodes
    first = tuple(np.cumsum([0] + [node.size for node in nodes]).tolist())
    building = Building(graph, Program(), first, boxes, effort=effort)
    rows = building.program
    rows.append(*(np.concatenate([boxes[i][k].numpy() for i in range(len(nodes))]) for k in (0, 1)))
    if len(polytope.normals):
        block = csr_array(polytope.normals), building.columns(0)
        rows.add_matrix([block], np.full(len(polytope.offsets), -np.inf), polytope.offsets)
    binaries: list[Index] = []
    for i, node in enumerate(nodes[1:], 1):
        check()
        match node:
            case Affine():
                _affine_rows(building, node, i, _constant(building, i) if form == "lean" else None)
            case Activation():
                for part in additions:
                    part.before(building, i)
                binaries.append(_activation_rows(building, i, form))
                for part in additions:
                    part.after(building, i)
                building.extent[i] = rows.variables
    model = rows.model(np.concatenate(binaries or [np.zeros(0, np.int64)]))
    return Encoding(model, first, graph, boxes)


def propagated(graph: Graph, boxes: Sequence[Box]) -> list[Box]:
    """Boxes recomputed from those before them, never wider than they were."""
    boxes = list(boxes)
    for i, node in enumerate(graph.nodes):
        if isinstance(node, Affine | Activation):
            arguments = [boxes[j] for j in node.inputs]
            new = affine_box(node, arguments) if isinstance(node, Affine) else node.function.interval(*arguments[0])
            boxes[i] = (torch.maximum(new[0], boxes[i][0]), torch.minimum(new[1], boxes[i][1]))
    return boxes


def sparse(operator: AbstractLinear, entries: int) -> csr_array:
    """The operator's matrix (n_out, n_in), exact for unfolded operators: one column per unit vector, in parts of at
    most so many entries."""
    blocks = []
    chunk = max(1, min(512, entries // max(operator.n_in, operator.n_out)))
    for start in range(0, operator.n_in, chunk):
        check()
        size = min(chunk, operator.n_in - start)
        unit = torch.zeros(size, operator.n_in, dtype=torch.float64)
        unit[torch.arange(size), start + torch.arange(size)] = 1
        blocks.append(csr_array(operator.apply(unit).numpy()))
    return vstack(blocks).T.tocsr()


def _folded(operator: AbstractLinear) -> bool:
    """Whether some entries carry the rounding error of a folded product."""
    parts = (*getattr(operator, "parts", ()), getattr(operator, "inner", None))
    return getattr(operator, "scale", None) is not None or any(_folded(part) for part in parts if part is not None)


def _constant(building: Building, i: int) -> NDArray[np.bool_] | None:
    """Entries of an affine node that are read by nothing but an activation that is zero on all of their box."""
    graph = building.graph
    readers = [node for node in graph.nodes if i in node.inputs]
    if len(readers) != 1 or getattr(getattr(readers[0], "function", None), "slope", None) != 0:
        return None
    return building.boxes[i][1].numpy() <= 0


def _affine_rows(building: Building, node: Affine, i: int, skip: NDArray[np.bool_] | None) -> None:
    """-y + sum A x = -b, but for the entries `skip`."""
    parts = [(csr_array(-eye_array(node.size, format="csr")), building.columns(i))]
    doubt = torch.zeros_like(node.bias) if node.doubt is None else 2 * node.doubt
    for operator, j in zip(node.operators, node.inputs, strict=True):
        parts.append((sparse(operator, building.effort.written), building.columns(j)))
        if _folded(operator):
            reach = torch.maximum(building.boxes[j][0].abs(), building.boxes[j][1].abs())
            doubt = doubt + 2 * operator.terms * UNIT * (operator.magnitude().apply(reach) + node.bias.abs())
    right, spread = -node.bias.numpy(), doubt.numpy()
    if skip is not None and skip.any():
        parts, right, spread = [(csr_array(m[~skip]), columns) for m, columns in parts], right[~skip], spread[~skip]
    building.program.add_matrix(parts, right - spread, right + spread)


def _activation_rows(building: Building, i: int, form: Form) -> Index:
    """Rows of activation node i; returns the columns of the binaries it introduced, one for each undecided neuron."""
    layer, rows = building.graph.layer_at[i], building.program
    z, y, leak = building.columns(layer.source), building.columns(i), layer.function.leak
    if leak is None:
        if form == "exact":
            raise BadInput(
                f"the exact relaxation needs piecewise-linear activations, and layer {layer.name!r} is "
                f"{layer.function.name}; use a relaxation that takes smooth functions."
            )
        _line_rows(building, i)
        return np.zeros(0, np.int64)
    active = rows.lower[z] >= 0
    dead = (rows.upper[z] <= 0) & ~active
    for side, slope in ((active, 1.0), (dead, leak)):
        rows.add([y[side], z[side]], [1.0, -slope], 0.0, 0.0)
    open_ = np.flatnonzero(~active & ~dead)
    at = rows.rows + np.arange(len(open_))
    building.kinks[i] = Kinks(open_, at, at + len(open_))
    for slope in (1.0, leak):
        rows.add([y[open_], z[open_]], [1.0, -slope], 0.0, np.inf)
    return _upper_rows(rows, layer, z[open_], y[open_], form)


def _upper_rows(rows: Program, layer: Layer, zs: Index, ys: Index, form: Form) -> Index:
    """The chord, or with form "exact" the two big-M rows, which imply it once the binary is relaxed."""
    l, u = rows.lower[zs], rows.upper[zs]
    lines = layer.function.lines(torch.as_tensor(l), torch.as_tensor(u))
    if form != "exact":
        rows.add([ys, zs], [1.0, -lines.upper_slope.numpy()], -np.inf, lines.upper_bias.numpy())
        return np.zeros(0, np.int64)
    p = rows.append(np.zeros(len(zs)), np.ones(len(zs)))
    grow = (1 - layer.leak) * (1 + 8 * UNIT)
    rows.add([ys, zs, p], [1.0, -1.0, -grow * l], -np.inf, -grow * l * (1 + 8 * UNIT))
    rows.add([ys, zs, p], [1.0, -layer.leak, -grow * u], -np.inf, 0.0)
    return p


def _line_rows(building: Building, i: int) -> None:
    """A smooth activation between several sound lines from each side."""
    layer, rows = building.graph.layer_at[i], building.program
    z, y = building.columns(layer.source), building.columns(i)
    l, u = (torch.as_tensor(side[z]) for side in (rows.lower, rows.upper))
    for c in (*building.effort.tangents, None):
        choice = None if c is None else (torch.full_like(l, c), torch.full_like(l, c))
        below_slope, below, above_slope, above = (t.numpy() for t in layer.function.lines(l, u, choice))
        rows.add([y, z], [1.0, -below_slope], below, np.inf)
        rows.add([y, z], [1.0, -above_slope], -np.inf, above)
