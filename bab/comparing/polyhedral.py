"""Partitions on which P_1 is exact: polytopes that stay convex through every layer.

Source: Mao, Zhang, Vechev, ICLR 2026, proposition 5.3.

P_1 replaces the image of each layer by its convex hull, so its relaxed set is the image after every layer exactly while
images are convex. (One minimum or maximum may be exact all the same: on the barrier network P_1's upper bound is, with
one piece, though the first image is not convex. So the proposition's "only if" is of sets, not of single bounds.) What
follows the last activation layer is linear, and a linear row is least at the same point of a set and of its hull;
so the last layer's image need not be convex for exact bounds, and is not asked for.

The test. Let the layers before the k-th have convex images, and let R be a polytope of inputs, part of the piece P, on
which they are affine with the same image as on P. (At the start, R = P.) The values that are still read after layer k
are then affine on each cell of R, the cells being cut by the neurons of layer k. If the image of one cell contains the
images of all others, the whole image is that polytope, and that cell is the next R. An image of a cell is a polytope,
so it is enough that its vertices have, for each, a point of the chosen cell with the same values: one small linear
program a vertex.

How sharp it is. Without connections that skip layers, the values after layer k are the neurons' own, and they fill a
convex set if and only if the cell with all (not permanently dead) neurons active covers the others: a point of the
image's relative interior has all coordinates positive, so that near it, and by closure everywhere, the image is that of
this cell. So the test misses no convex image of a layer; what it may miss are images that only become convex under the
next affine map, and those of layers with skips. A piece that is refused wrongly is cut once more than it had to be.

The search is greedy. A piece that fails is cut along a neuron that is affine on it; of all such neurons the one is
taken whose children fail last and least. It ends, for a piece on which all neurons are decided is affine; hence never
more pieces than open cells A. The number found is an upper bound of the fewest.

For few inputs (`MOST_INPUTS`), because vertices are listed. Soundness: plain float64, tolerance `SAME`; `verified`
then compares P_1's proved bounds on every piece with the exact values.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...kernels.deadline import moment, passed, until
from ...kernels.solving.door import linprog
from ...kernels.vertices import Body, body
from ...problems.errors import BadInput
from ...problems.network.graph import Activation, Affine, Graph, Layer
from ...problems.properties.property import Polytope
from .measured import Array, affine_forms

MOST_INPUTS = 6
SAME = 1e-7  # of the values' size
FLAT = 1e-9  # how far a neuron must reach beyond zero to cut


@dataclass(frozen=True, eq=False)
class ConvexPiece:
    """A piece that stays convex: its polytope, and the part of it on which the network is affine with the same image
    up to the last activation layer."""

    inputs: Polytope
    affine_part: Polytope
    cuts: tuple[tuple[int, int], ...]  # (neuron, sign), in the order they were made


@dataclass(frozen=True, eq=False)
class PolyhedralPartition:
    """`pieces` cover the input set; `finished` is False where time ended, and then `open_` are left."""

    pieces: tuple[ConvexPiece, ...]
    open_: tuple[Polytope, ...]
    tried: int  # pieces that were tested
    seconds: float

    @property
    def finished(self) -> bool:
        return not self.open_


@dataclass(frozen=True, eq=False)
class Checked:
    """P_1 against the exact values on the pieces: the largest difference over all pieces and rows, and how many pieces
    were within the tolerance."""

    exact: int
    pieces: int
    worst: float


def polyhedral_partition(graph: Graph, inputs: Polytope, *, timeout: float | None = None) -> PolyhedralPartition:
    """Convex pieces of the input set that stay convex through every layer but the last.

    `timeout`: seconds. Raises `BadInput` for more than `MOST_INPUTS` inputs, activations other than (leaky) ReLUs, and
    an input set without interior.
    """
    start = time.perf_counter()
    graph = graph.to(torch.float64)
    _check(graph, inputs)
    whole = body(*_faces(inputs))
    if whole is None:
        raise BadInput("the input set is empty or flat, so it has no partition into pieces with interior")
    open_: list[tuple[Polytope, Body, tuple[tuple[int, int], ...]]] = [(inputs, whole, ())]
    pieces, tried = [], 0
    while open_:
        if timeout is not None and time.perf_counter() - start > timeout:
            break
        polytope, space, cuts = open_.pop()
        found, tried = convexity(graph, space), tried + 1
        if found.part is not None:
            pieces.append(ConvexPiece(polytope, _polytope(inputs, found.part), cuts))
            continue
        neuron, children, more = _best_cut(graph, space)
        tried += more
        for sign, child in children:
            open_.append((_polytope(inputs, child), child, (*cuts, (neuron, sign))))
    return PolyhedralPartition(tuple(pieces), tuple(p for p, *_ in open_), tried, time.perf_counter() - start)


def verified(
    graph: Graph, pieces: Sequence[ConvexPiece], tolerance: float = 1e-5, deadline: float | None = None
) -> Checked:
    """Whether P_1's bounds of every output, from both sides, are exact on every piece; exact values by mixed-integer
    programs, both within the tolerance (absolute, or relative where values are larger). After `deadline` (of
    `time.perf_counter`) no further piece is looked at."""
    from ...relaxations.bound import bound

    exact, count, worst = 0, 0, 0.0
    for piece in pieces:
        if deadline is not None and time.perf_counter() > deadline:
            break
        with until(moment(deadline)):
            loose = bound(graph, piece.inputs, "p-1:tighten=on")
            sharp = bound(graph, piece.inputs, "exact")
            if passed():  # these may be what was proved by then
                break
        size = np.maximum(1.0, np.maximum(np.abs(sharp.lower), np.abs(sharp.upper)))
        gap = float((np.maximum(sharp.lower - loose.lower, loose.upper - sharp.upper) / size).max())
        exact, count, worst = exact + (gap <= tolerance), count + 1, max(worst, gap)
    return Checked(exact, count, worst)


# ---- the test


@dataclass(frozen=True, eq=False)
class Tested:
    """Where a piece stopped being convex: at activation layer `layer`, with so many vertices uncovered; or the part of
    it on which the network is affine with the same image."""

    part: Body | None
    layer: int
    uncovered: int

    @property
    def rank(self) -> tuple[int, int]:
        """Greater is better."""
        return (1 << 30, 0) if self.part is not None else (self.layer, -self.uncovered)


def convexity(graph: Graph, piece: Body) -> Tested:
    """Whether all images but the last layer's are convex by the test of the essay."""
    part = piece
    forms = [(np.eye(graph.input_size), np.zeros(graph.input_size))]
    for k, layer in enumerate(graph.layers[:-1]):
        _extend(graph, forms, layer.position)
        weight, bias = forms[layer.source]
        cells = _cells(part, weight, bias)
        after = [_after(graph, forms, layer, signs) for _, signs in cells]
        winner, missing = _covering(cells, after)
        if missing:
            return Tested(None, k, missing)
        part, signs = cells[winner]
        forms.append(_activated(forms, layer, signs))
    return Tested(part, len(graph.layers), 0)


def _cells(part: Body, weight: Array, bias: Array) -> list[tuple[Body, Array]]:
    """The part cut by all neurons of a layer, with each cell's signs (n,); the cell with most neurons active first."""
    cells = [(part, np.zeros(len(bias)))]
    for i, (w, b) in enumerate(zip(weight, bias, strict=True)):
        cut: list[tuple[Body, Array]] = []
        for cell, signs in cells:
            z = cell.vertices @ w + b
            least = FLAT * max(1.0, float(np.abs(z).max()))
            sides: tuple[tuple[Body, float], ...] = ((cell, -1.0),) if z.max() <= least else ((cell, 1.0),)
            if z.min() < -least and z.max() > least:
                below, above = cell.cut(w, -b)
                sides = tuple((half, s) for half, s in ((below, -1.0), (above, 1.0)) if half is not None)
            for half, s in sides:
                own = signs.copy()
                own[i] = s
                cut.append((half, own))
        cells = cut
    return sorted(cells, key=lambda cell: -cell[1].sum())


def _covering(cells: list[tuple[Body, Array]], after: list[tuple[Array, Array]]) -> tuple[int, int]:
    """The cell whose image covers the images of all, and 0; or any cell, and how many vertices are beyond it.

    Only a cell whose image spans the range of all in every coordinate can; the others need no program.
    """
    images = [cell.vertices @ w.T + b for (cell, _), (w, b) in zip(cells, after, strict=True)]
    low, high = (np.array([side(image, 0) for image in images]) for side in (np.min, np.max))
    size = SAME * np.maximum(1.0, np.maximum(-low.min(0), high.max(0)))
    spans = ((low <= low.min(0) + size) & (high >= high.max(0) - size)).all(1)
    best = 0, 1 << 20
    for chosen in np.flatnonzero(spans).tolist():
        missing = _uncovered(cells, images, chosen, after[chosen], size)
        if missing < best[1]:
            best = chosen, missing
        if not missing:
            break
    if not spans.any():
        most = [sum(int(((v < lo - size) | (v > hi + size)).any(1).sum()) for v in images) for lo, hi in zip(low, high)]
        best = 0, (1 << 10) + min(most)
    return best


def _uncovered(
    cells: list[tuple[Body, Array]], images: list[Array], chosen: int, form: tuple[Array, Array], size: Array
) -> int:
    """How many vertices of other cells have values that no point of the chosen cell has, by one linear program: the
    least distances of all of them, each with its own point."""
    from scipy.sparse import block_diag, csr_array

    home, (weight, bias) = cells[chosen][0], form
    others = [k for k in range(len(cells)) if k != chosen]
    points = np.concatenate([cells[k][0].vertices for k in others] or [np.zeros((0, weight.shape[1]))])
    values = np.concatenate([images[k] for k in others] or [np.zeros((0, len(bias)))])
    beyond = (points @ home.normals.T > home.offsets + FLAT).any(1)  # others lie on the common face: the same there
    values = np.unique(np.round(values[beyond] / size, 3), axis=0) * size
    if not len(values):
        return 0
    one = -np.ones((len(bias), 1))
    block = np.concatenate(
        [
            np.column_stack([home.normals, np.zeros(len(home.normals))]),
            np.column_stack([weight / size[:, None], one]),
            np.column_stack([-weight / size[:, None], one]),
        ]
    )
    sides = [np.concatenate([home.offsets, (v - bias) / size, (bias - v) / size]) for v in values]
    cost = np.tile(np.append(np.zeros(weight.shape[1]), 1.0), len(values))
    matrix = csr_array(block_diag([block] * len(values)))
    status, x = linprog(cost, matrix, np.concatenate(sides), bounds=(None, None))
    return len(values) if status or x is None else int((x.reshape(len(values), -1)[:, -1] > 1).sum())


def _extend(graph: Graph, forms: list[tuple[Array, Array]], position: int) -> None:
    """The forms of the affine nodes before an activation node."""
    while len(forms) < position:
        forms.append(_affine(graph.affine(len(forms)), forms))


def _affine(node: Affine, forms: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    weight, bias = np.zeros((node.size, forms[0][0].shape[1])), node.bias.numpy()
    for j, operator in zip(node.inputs, node.operators, strict=True):
        w, b = forms[j]
        weight = weight + operator.apply(torch.from_numpy(w.T.copy())).numpy().T
        bias = bias + operator.apply(torch.from_numpy(b)).numpy()
    return weight, bias


def _activated(forms: list[tuple[Array, Array]], layer: Layer, signs: Array) -> tuple[Array, Array]:
    """The layer's form on a cell."""
    factor = np.where(signs > 0, 1.0, layer.leak)
    weight, bias = forms[layer.source]
    return factor[:, None] * weight, factor * bias


def _after(graph: Graph, forms: list[tuple[Array, Array]], layer: Layer, signs: Array) -> tuple[Array, Array]:
    """What is still read after a layer, and its affine followers, as forms on one cell."""
    own = [*forms, _activated(forms, layer, signs)]
    later = [other.position for other in graph.layers if other.position > layer.position]
    end = later[0] if later else len(graph.nodes)
    _extend(graph, own, end)
    used = [np.zeros(node.size, bool) for node in graph.nodes[:end]]
    for node in graph.nodes[end:]:
        for j, operator in zip(node.inputs, getattr(node, "operators", (None,)), strict=True):
            if j < end:
                every = None if operator is None else operator.absolute().adjoint(torch.ones(operator.n_out).double())
                used[j] |= True if every is None else every.numpy() > 0
    live = [(own[j], entries) for j, entries in enumerate(used) if entries.any()]
    return np.concatenate([f[0][e] for f, e in live]), np.concatenate([f[1][e] for f, e in live])


# ---- cuts


def _best_cut(graph: Graph, piece: Body) -> tuple[int, list[tuple[int, Body]], int]:
    """The neuron to cut along, the two parts with their signs, and how many pieces were tested to find it."""
    best, tried = None, 0
    for neuron, weight, bias in _kinks(graph, piece):
        sides = piece.cut(weight, -bias)
        children = [(s, half) for s, half in ((-1, sides[0]), (1, sides[1])) if half is not None]
        if len(children) < 2:
            continue
        ranks = sorted(convexity(graph, half).rank for _, half in children)
        tried += 2
        if best is None or ranks > best[0]:
            best = ranks, neuron, children
        if ranks[0][0] == 1 << 30:
            break
    if best is None:
        raise BadInput("a piece is neither convex through all layers nor cut by a neuron; its cells are too thin")
    return best[1], best[2], tried


def _kinks(graph: Graph, piece: Body) -> Iterator[tuple[int, Array, float]]:
    """The undecided neurons whose pre-activations are affine on the piece, with those functions."""
    low, high = piece.vertices.min(0), piece.vertices.max(0)
    boxes = [(torch.from_numpy(low), torch.from_numpy(high))]
    wide = lambda n: (torch.full((n,), -np.inf).double(), torch.full((n,), np.inf).double())  # noqa: E731
    boxes += [wide(node.size) for node in graph.nodes[1:]]
    for layer in graph.layers:
        source, start = layer.source, layer.span.start
        weight, bias = (t.numpy() for t in affine_forms(graph, tuple(boxes))[source])
        z = piece.vertices @ np.nan_to_num(weight).T + np.nan_to_num(bias)
        known = ~np.isnan(bias)
        least = FLAT * np.maximum(1.0, np.abs(z).max(0))
        for k in np.flatnonzero(known & (z.min(0) < -least) & (z.max(0) > least)):
            yield start + int(k), weight[k], float(bias[k])
        low = np.where(known, np.where(z.min(0) >= -least, 0.0, z.min(0)), -np.inf)
        high = np.where(known, np.where(z.max(0) <= least, 0.0, z.max(0)), np.inf)
        boxes[source] = (torch.from_numpy(low), torch.from_numpy(high))


# ---- polytopes


def _faces(polytope: Polytope) -> tuple[Array, Array]:
    eye = np.eye(polytope.size)
    normals = np.concatenate([eye, -eye, polytope.normals])
    return normals, np.concatenate([polytope.upper, -polytope.lower, polytope.offsets])


def _polytope(root: Polytope, space: Body) -> Polytope:
    """A body inside the root's box as a `Polytope`, its box drawn in."""
    low, high = space.vertices.min(0) - FLAT, space.vertices.max(0) + FLAT
    eye_rows = np.count_nonzero(space.normals, axis=1) == 1
    normals, offsets = space.normals[~eye_rows], space.offsets[~eye_rows]
    return replace(
        root,
        lower=np.maximum(root.lower, low),
        upper=np.minimum(root.upper, high),
        normals=normals,
        offsets=offsets,
    )


def _check(graph: Graph, inputs: Polytope) -> None:
    if graph.input_size > MOST_INPUTS:
        raise BadInput(
            f"pieces that stay convex are found by listing vertices, for at most {MOST_INPUTS} inputs, and the network "
            f"has {graph.input_size}"
        )
    if inputs.size != graph.input_size or not (np.isfinite(inputs.lower).all() and np.isfinite(inputs.upper).all()):
        raise BadInput(f"the input set must be bounded and have {graph.input_size} coordinates")
    for node in graph.nodes[1:]:
        relu = isinstance(node, Activation) and node.function.leak is not None
        if not (relu or isinstance(node, Affine)):
            raise BadInput(f"layer {node.name or type(node).__name__!r} is not piecewise linear, so it has no cells")
