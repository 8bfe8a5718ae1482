"""The tree of activation patterns: layer by layer, neuron by neuron, all cells of a chunk at once.

A cell is the part of the input set on which the neurons looked at so far have given phases. On it the next neuron's
pre-activation is affine, so its least and greatest value are at vertices, and the values at vertices are the
network's own (the network is continuous). A neuron that is positive at one vertex of a cell and negative at another
cuts it in two (`kernels/double_description.py`); any other neuron has one phase on all of it. Nothing is sampled and
no program is solved: every node of the tree is a cell that exists, so the work is proportional to their number.

Values are carried as columns of the pool of points: a new vertex lies on a segment between two old ones, and all that
is affine there is interpolated. Columns are dropped when no later node reads them.

What counts. A neuron is active where its pre-activation is > 0. `open` counts patterns whose cell has a non-empty
interior; a neuron that is zero on all of a cell is inactive there. `all` counts every pattern that some point of the
input set has: beside the open ones those of faces on which pre-activations vanish.

Tolerance. A value is taken for zero where it is at most TOLERANCE times the greatest that the sum's terms reach at any
vertex of the chunk; a cell whose values stay below that is not split off. At points that are free of rounding the
tolerance is zero. The tree is float64 arithmetic without a guarantee: `counting.proof` judges each cell afterwards.

Two neurons of a layer with equal weights and biases are judged as one, and so are two with opposite ones where only
interiors count (`Twins`): on their common hyperplane neither of them is active.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...kernels import bits
from ...kernels.deadline import check
from ...kernels.double_description import UNITS, Crowded, Floats, Polytopes, cut
from ...kernels.ragged import Flags, Ints
from ...problems.errors import BadInput
from ...problems.network.graph import Activation, Affine, Graph, Node
from ...problems.network.matrix import matrix, roundings

PART = 1 << 20  # weights that are looked at between two looks at the clock
TOLERANCE = 1e-10
ENTRIES, NUMBERS = 1_000_000, 8_000_000  # vertices of all cells, and numbers of the pool, in one chunk
FINEST = 30  # weights that are multiples of 2^-FINEST may be free of rounding


@dataclass(frozen=True, eq=False)
class Chunk:
    """Cells that wait at the same neuron: `node`'s entries before `neuron` are decided, and all nodes before it."""

    cells: Polytopes
    columns: dict[int, tuple[int, int]]  # node -> its columns in the pool
    reach: dict[int, Floats]  # node -> (n,) the greatest sum of absolute terms at any vertex
    node: int
    neuron: int = 0


@dataclass(frozen=True, eq=False)
class Twins:
    """For each neuron of a layer the first one with the same hyperplane, and whether its sign is opposite."""

    first: list[int]
    opposite: list[bool]


@dataclass(frozen=True, eq=False)
class Plan:
    """What the tree needs to know of a network, made once by `plan`."""

    graph: Graph  # float64
    last: int  # the last activation
    users: dict[int, int]  # node -> the last node that reads it, up to `last`
    twins: dict[int, Twins]  # activation -> its twins
    grid: dict[int, float | None]  # affine node or activation -> 2^p such that weights are multiples of 2^-p
    width: dict[int, int]  # node -> entries
    faces: bool  # whether patterns of lower-dimensional cells count

    @property
    def words(self) -> int:
        """Words of a cell's label: the first half says which neurons are active, the second which cut the cell."""
        return 2 * self.half

    @property
    def half(self) -> int:
        return max(1, -(-self.graph.neurons // bits.WORD))


def plan(graph: Graph, faces: bool = False) -> Plan:
    """`faces`: patterns of lower-dimensional cells will count. Raises `BadInput` for neurons that have no phases."""
    graph = graph.to(torch.float64)
    for layer in graph.layers:
        if layer.function.leak is None:
            raise BadInput(
                f"activation '{layer.name or layer.function.name}' is a {layer.function.name}, which has no phases: "
                "activation patterns are counted for ReLU and LeakyReLU networks"
            )
    last = graph.layers[-1].position if graph.layers else 0
    users = {j: i for i, node in enumerate(graph.nodes[: last + 1]) for j in node.inputs}
    grid = {i: _grid(node) for i, node in enumerate(graph.nodes[: last + 1]) if i}
    twins = {i: _twins(graph, i, faces) for i in graph.layer_at}
    return Plan(graph, last, users, twins, grid, {i: node.size for i, node in enumerate(graph.nodes)}, faces)


def _grid(node: Node) -> float | None:
    if isinstance(node, Activation):
        return _finest(np.array([node.function.leak]))
    assert isinstance(node, Affine), "other nodes are not piecewise linear"
    if node.doubt is not None or any(roundings(a) > 1 for a in node.operators):
        return None  # folded numbers stand for others that are near them
    grids = []
    for numbers in (node.bias, *map(matrix, node.operators)):
        for part in numbers.reshape(-1).split(PART):
            check()
            grid = _finest(part.numpy())
            if grid is None:
                return None
            grids.append(grid)
    return max(grids)


def _finest(numbers: Floats) -> float | None:
    """The least 2^p >= 1 such that all numbers are multiples of 2^-p; None where p would exceed FINEST."""
    scaled = numbers * 2.0**FINEST
    if not (np.abs(scaled) < 2.0**62).all():
        return None
    units = scaled.astype(np.int64)
    if (units != scaled).any():
        return None
    bits_ = int(np.bitwise_or.reduce(units, axis=None))
    return max(1.0, 2.0**FINEST / (bits_ & -bits_)) if bits_ else 1.0


def _twins(graph: Graph, i: int, faces: bool) -> Twins:
    check()
    source = graph.affine(graph.layer_at[i].source)
    size = graph.nodes[i].size
    if not isinstance(source, Affine) or any(roundings(a) > 1 for a in source.operators):
        return Twins(list(range(size)), [False] * size)
    rows = np.concatenate([*(matrix(a).numpy() for a in source.operators), source.bias.numpy()[:, None]], 1)
    lead = rows[np.arange(size), (rows != 0).argmax(1)]
    flip = (lead < 0) & (not faces)
    rows = np.where(flip[:, None], -rows, rows) + 0.0
    known = np.ones(size, bool) if source.doubt is None else (source.doubt == 0).numpy()
    seen: dict[bytes, int] = {}
    first = [seen.setdefault(row.tobytes(), j) if known[j] else j for j, row in enumerate(rows)]
    return Twins(first, (flip != flip[first]).tolist())


def active(plan: Plan, labels: Ints) -> Flags:  # (C, W) -> (C, N)
    """Which neurons are active in cells of these labels."""
    return bits.to_booleans(labels[:, : plan.half], plan.graph.neurons)


def cutting(plan: Plan, labels: Ints) -> Flags:  # (C, W) -> (C, N)
    """The neurons whose hyperplanes cut the cells off from the input set, one after the other."""
    return bits.to_booleans(labels[:, plan.half :], plan.graph.neurons)


def root(plan: Plan, cells: Polytopes) -> Chunk:
    """The input set, before any neuron."""
    size = np.abs(cells.points).max(0)
    return Chunk(cells, {0: (0, plan.graph.input_size)}, {0: size}, 1)


def advance(plan: Plan, chunk: Chunk, deadline: float | None, passed: dict[int, int] | None = None) -> list[Chunk]:
    """Takes a chunk on until it is complete (`finished`), too large (then it is two), or the time is over.

    `passed` counts, for each activation node, the cells that have come through it.
    """
    while not finished(plan, chunk):
        node = plan.graph.nodes[chunk.node]
        if isinstance(node, Affine):
            chunk = _affine(plan, chunk, node)
        else:
            assert isinstance(node, Activation), "other nodes are not piecewise linear"
            chunk = _activation(plan, chunk, node, deadline)
            if chunk.node <= plan.last and chunk.neuron > 0:  # too large, or too late
                return halves(chunk) if large(chunk.cells) else [chunk]
            if passed is not None:
                passed[chunk.node - 1] = passed.get(chunk.node - 1, 0) + len(chunk.cells)
        if large(chunk.cells):
            return halves(chunk)
        if deadline is not None and time.monotonic() > deadline:
            return [chunk]
    return [chunk]


def finished(plan: Plan, chunk: Chunk) -> bool:
    return chunk.node > plan.last


def large(cells: Polytopes) -> bool:
    return len(cells) > 1 and (len(cells.vertex) > ENTRIES or cells.points.size > NUMBERS)


def halves(chunk: Chunk) -> list[Chunk]:
    """The chunk in two, those with the same first neurons together; the pool is divided as well."""
    half = len(chunk.cells) // 2
    order = np.arange(len(chunk.cells))
    return [replace(chunk, cells=chunk.cells.select(part).compact()) for part in (order[:half], order[half:])]


def _with_columns(plan: Plan, chunk: Chunk, new: Floats, reach: Floats, scale: Floats, exact: bool) -> Chunk:
    """The chunk after its node, whose values are `new`; columns that nobody reads any more go."""
    i, cells = chunk.node, chunk.cells
    kept = [j for j in chunk.columns if j == 0 or plan.users.get(j, 0) > i]
    index = np.concatenate([np.arange(*chunk.columns[j]) for j in kept])
    columns, begin = {}, 0
    for j in [*kept, i]:
        columns[j] = (begin, begin + plan.width[j])
        begin += plan.width[j]
    points = np.concatenate([cells.points[:, index], new], 1)
    cells = cells.but(points=points, scale=np.concatenate([cells.scale[index], scale]))
    if not exact and cells.exact.any():
        cells = cells.but(exact=np.zeros_like(cells.exact), sure=np.zeros_like(cells.sure))
    return Chunk(cells, columns, {j: chunk.reach[j] for j in kept} | {i: reach}, i + 1)


def _affine(plan: Plan, chunk: Chunk, node: Affine) -> Chunk:
    cells = chunk.cells
    if plan.users.get(chunk.node, 0) == 0:
        return replace(chunk, node=chunk.node + 1)
    values = [torch.from_numpy(cells.points[:, slice(*chunk.columns[j])]) for j in node.inputs]
    new, greatest = node.apply(values).numpy(), node.bias.abs()
    for operator, value in zip(node.operators, values, strict=True):
        greatest = greatest + operator.magnitude().apply(value.abs().amax(0))
    reach, factor = greatest.numpy(), plan.grid[chunk.node]
    scale = max(float(cells.scale[slice(*chunk.columns[j])].max()) for j in node.inputs) * (factor or 1.0)
    exact = factor is not None and scale < 2.0**200 and bool((reach * scale <= UNITS).all())
    return _with_columns(plan, chunk, new, reach, np.full(node.size, scale), exact)


def _activation(plan: Plan, chunk: Chunk, node: Activation, deadline: float | None) -> Chunk:
    """All neurons of a layer from `chunk.neuron` on; stops between two where the chunk is large or the time over."""
    i, source, cells = chunk.node, node.inputs[0], chunk.cells
    begin, end = chunk.columns[source]
    for j in range(chunk.neuron, node.size):
        cells = _neuron(plan, cells, i, j, begin, chunk.reach[source])
        if j + 1 < node.size and (large(cells) or (deadline is not None and time.monotonic() > deadline)):
            return replace(chunk, cells=cells, neuron=j + 1)
    value = node.function.value(torch.from_numpy(cells.points[:, begin:end])).numpy()
    factor, reach = plan.grid[i], np.abs(value).max(0)
    scale = cells.scale[begin:end] * (factor or 1.0)
    exact = factor is not None and bool((reach * scale <= UNITS).all())
    return _with_columns(plan, replace(chunk, cells=cells, neuron=0), value, reach, scale, exact)


def _neuron(plan: Plan, cells: Polytopes, node: int, j: int, begin: int, reach: Floats) -> Polytopes:
    """The cells cut by neuron j of a layer, whose values begin at a column, with its phase among their labels."""
    twins, place = plan.twins[node], plan.graph.layer_at[node].span.start + j
    first = twins.first[j]
    value = cells.points[:, begin + first]
    tolerance = np.where(cells.exact, 0.0, TOLERANCE * reach[first])
    sign = (value > tolerance).view(np.int8) - (value < -tolerance).view(np.int8)
    if twins.opposite[j]:
        sign = -sign
    try:
        done = cut(cells, begin + first, sign, place, plan.graph.input_size, plan.faces)
    except Crowded as error:
        raise BadInput("a cell has more than 62 facets, which is more than this counter keeps") from error
    labels = done.polytopes.labels.copy() if done.polytopes is cells else done.polytopes.labels
    bits.set_bit(labels, place, done.positive)
    bits.set_bit(labels, place + plan.half * bits.WORD, done.halved)
    return done.polytopes.but(labels=labels)
