"""A network over a polytope, written as a linear model.

Every entry of every node is a variable within its interval bounds; an affine node y = sum A_i x_i + b is one equation
an entry; an activation y = f(z) with z in [l, u] is

* decided (stable, or by its phase): y = z or y = a z, for max(z, a z) with 0 <= a < 1, and z is cut to its side;
* undecided, relaxed: y >= z, y >= a z and the chord from above, the triangle (Ehlers 2017); for smooth functions
  several tangents and the chord, whatever the activation's `lines` give;
* undecided, exact: the same with a binary p that says whether z >= 0 (Tjeng, Xiao, Tedrake 2019):
  y <= z - (1 - a) l (1 - p) and y <= a z + (1 - a) u p. Smooth functions have no such form and are refused.

The chord and the big-M rows use bounds on z, so tighter bounds give a tighter model; `tightened` improves them
by one pair of linear programs an undecided neuron.

Soundness: outward rounded. Intervals, chords and big-M coefficients are rounded outward, equations hold the stored
weights exactly; where a product of matrices was folded into a weight (`Dense.scale`), its equation is widened to an
interval that contains the exact one. So the model contains every (x, values of all nodes) of the network that has the
decided phases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import block_array, coo_array, csr_array, eye_array, vstack

from ...problems.activation import LeakyReLU
from ...problems.affine import AbstractLinear
from ...problems.errors import BadInput
from ...problems.graph import Activation, Affine, Graph
from ...problems.property import Polytope, UnsafeSet
from .boxes import UNIT, Box, affine_box, node_boxes
from .model import Array, LinearModel, Solution

Phases = Sequence[NDArray[np.int8]]  # one (n,) array an activation node, in order: +1 active, -1 inactive, 0 open
TANGENTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # choices of the lines that relax a smooth activation


@dataclass(frozen=True, eq=False)
class Encoding:
    """A model (objective zero) and where the entries of each node stand among its variables."""

    model: LinearModel
    first: tuple[int, ...]  # the variable of entry 0 of each node
    graph: Graph
    boxes: list[Box]

    def input_of(self, x: Array) -> Array:  # (V,) -> (D,)
        """The network's input in a point of the model."""
        return x[: self.graph.input_size]

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


@dataclass
class _Rows:
    """Rows under construction: lists of blocks with coefficients at given columns."""

    lower: list[Array] = field(default_factory=list)
    upper: list[Array] = field(default_factory=list)
    entries: list[tuple[Array, Array, Array]] = field(default_factory=list)  # row, column, coefficient
    count: int = 0

    def add(
        self, columns: list[Array], coefficients: list[Array | float], low: Array | float, high: Array | float
    ) -> None:
        """One row for each entry of the column arrays: low <= sum_k coefficients[k] x[columns[k]] <= high."""
        n = len(columns[0])
        at = self.count + np.arange(n)
        for column, coefficient in zip(columns, coefficients, strict=True):
            self.entries.append((at, column, np.broadcast_to(np.asarray(coefficient, dtype=float), n)))
        self._close(np.broadcast_to(low, n), np.broadcast_to(high, n))

    def add_matrix(self, parts: list[tuple[csr_array, int]], low: Array, high: Array) -> None:
        """A block of rows: sum of matrices, each applied to the variables from a given first one on."""
        for matrix, first in parts:
            coo = matrix.tocoo()
            self.entries.append((self.count + coo.coords[0], first + coo.coords[1], coo.data))
        self._close(low, high)

    def _close(self, low: Array, high: Array) -> None:
        self.lower.append(low.astype(float))
        self.upper.append(high.astype(float))
        self.count += len(low)

    def matrix(self, variables: int) -> csr_array:
        rows, columns, data = (np.concatenate([e[k] for e in self.entries] or [np.zeros(0)]) for k in range(3))
        return coo_array((data, (rows.astype(np.int64), columns.astype(np.int64))), (self.count, variables)).tocsr()


def encode(
    graph: Graph,
    polytope: Polytope,
    *,
    form: Literal["relaxed", "exact"] = "relaxed",
    boxes: list[Box] | None = None,
    phases: Phases | None = None,
    until: int | None = None,
) -> Encoding:
    """The network, or its nodes up to `until`, over the polytope; `boxes` defaults to interval arithmetic.

    Raises `BadInput` for products, and for smooth activations when `form` is "exact".
    """
    graph = graph.to(torch.float64)
    boxes = node_boxes(graph, polytope) if boxes is None else boxes
    nodes = graph.nodes[: len(graph.nodes) if until is None else until + 1]
    first = tuple(np.cumsum([0] + [node.size for node in nodes]).tolist())
    lower, upper = (np.concatenate([boxes[i][k].numpy() for i in range(len(nodes))]) for k in (0, 1))
    binaries: list[int] = []
    rows = _Rows()
    if len(polytope.normals):
        rows.add_matrix([(csr_array(polytope.normals), 0)], np.full(len(polytope.offsets), -np.inf), polytope.offsets)
    layer = 0
    for i, node in enumerate(nodes[1:], 1):
        match node:
            case Affine():
                _affine_rows(rows, node, first, i, boxes)
            case Activation():
                decided = np.zeros(node.size, np.int8) if phases is None else np.asarray(phases[layer])
                layer += 1
                piece = _Neurons(node, first[node.inputs[0]], first[i], lower, upper, decided)
                binaries += _activation_rows(rows, piece, form, first[-1] + len(binaries))
            case _:
                raise BadInput(f"node {node.name or i!r} is a product of two variables, which no linear model holds.")
    extra = len(binaries)
    model = LinearModel(
        cost=np.zeros(first[-1] + extra),
        lower=np.append(lower, np.zeros(extra)),
        upper=np.append(upper, np.ones(extra)),
        matrix=rows.matrix(first[-1] + extra),
        row_lower=np.concatenate(rows.lower or [np.zeros(0)]),
        row_upper=np.concatenate(rows.upper or [np.zeros(0)]),
        integer=np.arange(first[-1] + extra) >= first[-1] if extra else None,
    )
    return Encoding(model, first, graph, boxes)


def tightened(graph: Graph, polytope: Polytope, solve, boxes: list[Box] | None = None) -> list[Box]:  # type: ignore[no-untyped-def]
    """Interval bounds improved by two linear programs for each undecided neuron; outward rounded (safe bounds)."""
    graph = graph.to(torch.float64)
    boxes = list(node_boxes(graph, polytope) if boxes is None else boxes)
    for position in graph.activations:
        node = graph.nodes[position]
        before = node.inputs[0]
        lower, upper = (side.clone() for side in boxes[before])
        open_ = torch.nonzero(~node.function.decided(lower, upper)).flatten().tolist()
        encoding = encode(graph, polytope, boxes=boxes, until=before) if open_ else None
        for k in open_:
            unit = np.eye(1, len(lower), k)[0]
            for sign, side in ((1.0, lower), (-1.0, upper)):
                answer: Solution = solve(encoding.minimising(before, sign * unit))
                if np.isfinite(answer.bound_safe):
                    side[k] = sign * max(sign * side[k].item(), answer.bound_safe)
        boxes[before] = (lower, upper)
        boxes = _propagated(graph, boxes, before)
    return boxes


def _propagated(graph: Graph, boxes: list[Box], start: int) -> list[Box]:
    """Boxes after `start` recomputed from those before them, never wider than they were."""
    boxes = list(boxes)
    for i, node in enumerate(graph.nodes):
        if i > start and isinstance(node, Affine | Activation):
            arguments = [boxes[j] for j in node.inputs]
            new = affine_box(node, arguments) if isinstance(node, Affine) else node.function.interval(*arguments[0])
            boxes[i] = (torch.maximum(new[0], boxes[i][0]), torch.minimum(new[1], boxes[i][1]))
    return boxes


def sparse(operator: AbstractLinear, chunk: int = 512) -> csr_array:
    """The operator's matrix (n_out, n_in), exact for unfolded operators: one column per unit vector."""
    blocks = []
    for start in range(0, operator.n_in, chunk):
        size = min(chunk, operator.n_in - start)
        unit = torch.zeros(size, operator.n_in, dtype=torch.float64)
        unit[torch.arange(size), start + torch.arange(size)] = 1
        blocks.append(csr_array(operator.apply(unit).numpy()))
    return vstack(blocks).T.tocsr()


def _folded(operator: AbstractLinear) -> bool:
    """Whether some entries carry the rounding error of a folded product."""
    parts = (*getattr(operator, "parts", ()), getattr(operator, "inner", None))
    return getattr(operator, "scale", None) is not None or any(_folded(part) for part in parts if part is not None)


def _affine_rows(rows: _Rows, node: Affine, first: tuple[int, ...], i: int, boxes: list[Box]) -> None:
    """-y + sum A x = -b."""
    parts: list[tuple[csr_array, int]] = [(-eye_array(node.size, format="csr"), first[i])]
    doubt = torch.zeros_like(node.bias)
    for operator, j in zip(node.operators, node.inputs, strict=True):
        parts.append((sparse(operator), first[j]))
        if _folded(operator):
            reach = torch.maximum(boxes[j][0].abs(), boxes[j][1].abs())
            doubt = doubt + 2 * operator.terms * UNIT * (operator.magnitude().apply(reach) + node.bias.abs())
    right = -node.bias.numpy()
    rows.add_matrix(parts, right - doubt.numpy(), right + doubt.numpy())


@dataclass(frozen=True, eq=False)
class _Neurons:
    """One activation node: where its z and y stand, and the (shared, mutable) bounds of all variables."""

    node: Activation
    z: int
    y: int
    lower: Array
    upper: Array
    phase: NDArray[np.int8]  # (n,)

    def columns(self, index: NDArray[np.int64]) -> tuple[Array, Array]:
        return self.z + index, self.y + index


def _activation_rows(rows: _Rows, piece: _Neurons, form: str, next_binary: int) -> list[int]:
    """Rows of one activation node; returns the binaries it introduced, by the neuron's index."""
    function = piece.node.function
    if not isinstance(function, LeakyReLU):
        if form == "exact":
            raise BadInput(
                f"the exact relaxation needs piecewise-linear activations, and layer {piece.node.name!r} is "
                f"{function.name}; use a relaxation that takes smooth functions."
            )
        _line_rows(rows, piece)
        return []
    z = slice(piece.z, piece.z + piece.node.size)
    piece.lower[z] = np.where(piece.phase > 0, np.maximum(piece.lower[z], 0.0), piece.lower[z])
    piece.upper[z] = np.where(piece.phase < 0, np.minimum(piece.upper[z], 0.0), piece.upper[z])
    l, u = piece.lower[z], piece.upper[z]
    active = (piece.phase > 0) | ((l >= 0) & (piece.phase == 0))
    dead = (piece.phase < 0) | ((u <= 0) & ~active)
    for side, slope in ((active, 1.0), (dead, function.slope)):
        zs, ys = piece.columns(np.flatnonzero(side))
        rows.add([ys, zs], [1.0, -slope], 0.0, 0.0)
    open_ = np.flatnonzero(~active & ~dead)
    zs, ys = piece.columns(open_)
    for slope in (1.0, function.slope):
        rows.add([ys, zs], [1.0, -slope], 0.0, np.inf)
    return _upper_rows(rows, function, zs, ys, l[open_], u[open_], form, next_binary)


def _upper_rows(  # type: ignore[no-untyped-def]
    rows: _Rows, function: LeakyReLU, zs, ys, l: Array, u: Array, form: str, next_binary: int
) -> list[int]:
    """The chord, or with form "exact" the two big-M rows, which imply it once the binary is relaxed."""
    lines = function.lines(torch.as_tensor(l), torch.as_tensor(u))
    if form == "relaxed":
        rows.add([ys, zs], [1.0, -lines.upper_slope.numpy()], -np.inf, lines.upper_bias.numpy())
        return []
    p = next_binary + np.arange(len(zs))
    grow = (1 - function.slope) * (1 + 8 * UNIT)
    rows.add([ys, zs, p], [1.0, -1.0, -grow * l], -np.inf, -grow * l * (1 + 8 * UNIT))
    rows.add([ys, zs, p], [1.0, -function.slope, -grow * u], -np.inf, 0.0)
    return p.tolist()


def _line_rows(rows: _Rows, piece: _Neurons) -> None:
    """A smooth activation between several sound lines from each side."""
    zs, ys = piece.columns(np.arange(piece.node.size))
    l, u = (torch.as_tensor(side[zs]) for side in (piece.lower, piece.upper))
    for c in (*TANGENTS, None):
        choice = None if c is None else (torch.full_like(l, c), torch.full_like(l, c))
        below_slope, below, above_slope, above = (t.numpy() for t in piece.node.function.lines(l, u, choice))
        rows.add([ys, zs], [1.0, -below_slope], below, np.inf)
        rows.add([ys, zs], [1.0, -above_slope], -np.inf, above)
