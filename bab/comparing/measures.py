"""Relaxations as measuring instruments: from pieces of a measured tree to proved lower bounds of its rows.

Linear programs (triangle and every rung above) are written anew for each piece, because a decision changes chords and
hulls and not only sides; what a piece shares with its parent are the boxes of all nodes, which are as tight for the
layers before the last decision as they will get. Within a piece all rows are one session, each starting from the last
optimal basis. With `intervals="tight"` every undecided pre-activation first gets two programs over all that the
relaxation says before it: this is what a relaxation can do at its best, and what the numbers of the theory are about.
With "crown" the intervals are those of `crown` on the piece, as fast verifiers take them.

ibp, deeppoly, crown and alpha-crown bound all the pieces of a level as one batch and find their own intervals. On a
piece with every neuron decided a triangle program takes their place (as in the search), since a batched bound of a
fully decided piece still ignores where the piece is; such leaves are counted apart.

Soundness: outward rounded. Scores are heuristic.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ...problems.network.graph import Graph
from ...problems.properties.property import Polytope
from ...relaxations.ladder.ladder import parts
from ...relaxations.ladder.triangle import Cutting, Setting, Tightening
from ...relaxations.linear.alpha import Alpha
from ...relaxations.linear.attribution import attribution
from ...relaxations.linear.ibp import Ibp, interval_root
from ...relaxations.linear.linear import Linear
from ...relaxations.linear.root import outward_half_spaces, root
from ...relaxations.lp.boxes import Box, node_boxes
from ...relaxations.lp.encode import Addition, Building, encode, propagated
from ...relaxations.names import BATCHED, PROGRAMS, Name, lines_of, parse, unknown
from ...relaxations.types import Pieces, Result, Rows
from .measured import Array, Goal, Known, Region, undecided

STEPS = 50  # of alpha-crown
BATCH = 256  # pieces of one batch


class AbstractMeasure(ABC):
    """Bounds of a goal's rows on pieces; `programs` counts the leaves for which a linear program took over."""

    batch: int
    linear: Linear  # backward bounds of the network

    @abstractmethod
    def bound(self, regions: Sequence[Region]) -> list[Known]:
        """What is proved of each piece."""


@dataclass(frozen=True, eq=False)
class Late(Addition):
    """Tightened intervals from one node on: before it the piece has its parent's."""

    inner: Tightening
    start: int

    def before(self, building: Building, position: int) -> None:
        if building.graph.layer_at[position].source >= self.start:
            self.inner.before(building, position)

    def after(self, building: Building, position: int) -> None:
        """Nothing."""


@dataclass(frozen=True, eq=False)
class LinearPrograms(AbstractMeasure):
    """One linear program a piece; of several names, the intersection of their relaxations."""

    graph: Graph  # float64
    goal: Goal
    names: tuple[Name, ...]
    linear: Linear  # for intervals and directions by backward bounds
    tight: bool = True
    backend: str = "highs"
    time_limit: float | None = None
    notes: list[str] = field(default_factory=list)
    batch: int = 1

    def bound(self, regions: Sequence[Region]) -> list[Known]:
        return [self._one(region) for region in regions]

    def _one(self, region: Region) -> Known:
        graph, goal = self.graph, self.goal
        boxes = boxes_of(graph, region)
        if boxes is None:
            return nothing(graph, goal, region)
        if not self.tight:
            piece, empty, _ = self.linear.tighten(as_pieces(graph, [region], [boxes]))
            if bool(empty[0]):
                return nothing(graph, goal, region)
            boxes = cut_by(graph, boxes, piece, 0)
        setting = Setting(self.backend, self.time_limit, False, self._backward(region, boxes), self.notes)
        additions, cutters = parts(self.names, setting, graph, boxes)
        additions = [one for one in additions if not isinstance(one, Tightening)]
        if self.tight:
            additions.insert(0, Late(Tightening(setting), region.changed))
        # Not `triangle.relaxed`, which leaves out the equations of inactive neurons: here z <= 0 cuts the piece.
        encoding = encode(graph, region.inputs, boxes=list(boxes), additions=additions)
        programs = Cutting(encoding, setting, cutters)
        values = np.array([self._row(programs, r) for r in range(len(goal.rows))])
        if np.isposinf(values).any():
            values = np.full(len(goal.rows), np.inf)
        found = tuple(encoding.boxes)
        return Known(values, found, undecided(graph, found))

    def _row(self, programs: Cutting, r: int) -> float:
        """The proved minimum of one row."""
        goal, encoding = self.goal, programs.encoding
        cost = np.zeros(len(encoding.model.cost))
        cost[encoding.first[self.graph.output] :][: goal.rows.shape[1]] = goal.rows[r]
        if goal.on_input is not None:
            cost[: self.graph.input_size] += goal.on_input[r]
        lowest, constant = programs.minimise(cost), float(goal.constants[r])
        if not np.isfinite(lowest):
            return lowest
        return lowest + constant - 4 * np.finfo(float).eps * (abs(constant) + abs(lowest))

    def _backward(self, region: Region, boxes: Sequence[Box]) -> Callable[[int, Tensor], Array] | None:
        """Proved lower bounds of rows of a node's value on the piece, where a relaxation asks for directions."""
        if not any(name.kind in ("k-relu", "prima") for name in self.names):
            return None

        def least(node: int, rows: Tensor) -> Array:
            some = Rows(rows[None], rows.new_zeros(1, len(rows)))
            piece = as_pieces(self.graph, [region], [boxes])
            return Alpha(self.linear, 0).bound(piece, some, node=node)[0].lower[0].numpy()

        return least


@dataclass(frozen=True, eq=False)
class Batched(AbstractMeasure):
    """ibp, deeppoly-0, deeppoly-1, crown or alpha-crown on all pieces at once, float64 on the CPU."""

    graph: Graph
    goal: Goal
    kind: str
    intervals: Ibp
    linear: Linear
    leaf: LinearPrograms
    batch: int = BATCH

    def bound(self, regions: Sequence[Region]) -> list[Known]:
        graph, goal = self.graph, self.goal
        boxes = {b: box for b, region in enumerate(regions) if (box := boxes_of(graph, region)) is not None}
        alive = list(boxes)
        found = [nothing(graph, goal, region) for region in regions]
        if not alive:
            return found
        result, pieces = self._batch(as_pieces(graph, [regions[b] for b in alive], [boxes[b] for b in alive]))
        for row, b in enumerate(alive):
            if bool(result.empty[row]):
                continue
            own = cut_by(graph, boxes[b], pieces, row)
            known = Known(result.lower[row].numpy().copy(), tuple(own), undecided(graph, tuple(own)))
            if not len(known.undecided) and not goal.closed(known.values):
                settled = self.leaf.bound([replace(regions[b], boxes=tuple(own))])[0]
                known = replace(known, values=np.maximum(known.values, settled.values))
            found[b] = known
        return found

    def _batch(self, pieces: Pieces) -> tuple[Result, Pieces]:
        """The bounds of the rows, and the pieces with their intervals."""
        rows = rows_for(self.goal, len(pieces))
        result, pieces = self.intervals.bound(pieces, rows)
        if self.kind == "ibp":
            return result, pieces
        pieces, empty, _ = self.linear.tighten(pieces)
        if self.kind == "alpha-crown":
            better, _, _ = Alpha(self.linear, STEPS, patient=True).bound(pieces, rows)
        else:
            better, _ = self.linear.bound(pieces, rows, refresh=False)
        lower = torch.fmax(result.lower, better.lower)
        return replace(better, lower=lower, empty=result.empty | better.empty | empty), pieces


def measure_for(
    graph: Graph, goal: Goal, inputs: Polytope, name: str, tight: bool, backend: str = "highs"
) -> AbstractMeasure:
    """The instrument for a relaxation's name. Raises `BadInput` as `names.parse` does."""
    names = parse(name)
    batched = len(names) == 1 and names[0].kind in BATCHED
    for one in names:
        if not batched and one.kind not in PROGRAMS:
            raise unknown(one.kind, "measured trees", (*BATCHED, *PROGRAMS))
    kind = names[0].kind if batched else "crown"
    lower, upper = torch.from_numpy(inputs.lower), torch.from_numpy(inputs.upper)
    linear, _ = root(graph, graph, lower, upper, "crown" if kind == "ibp" else lines_of(kind))
    if batched:
        leaf = LinearPrograms(graph, goal, parse("triangle"), linear, True, backend)
        return Batched(graph, goal, kind, interval_root(graph, lower, upper)[0], linear, leaf)
    return LinearPrograms(graph, goal, names, linear, tight, backend)


def scores(graph: Graph, goal: Goal, linear: Linear, region: Region, known: Known) -> Array:  # (N,)
    """What the lines of each neuron cost the worst row, as BaBSR estimates it (Bunel et al. 2020). Heuristic."""
    piece = as_pieces(graph, [region], [known.boxes])
    _, form = linear.bound(piece, rows_for(goal, 1), refresh=False, record=True)
    row = torch.tensor([goal.worst(known.values)])
    _, losses = attribution(graph, piece, linear.all_lines(piece), form.at, {}, row)
    return losses[0].numpy()


def blame(graph: Graph, goal: Goal, linear: Linear, region: Region, known: Known) -> Array:  # (D,)
    """How much of what the worst row's bound loses each coordinate is to blame for (`attribution`). Heuristic."""
    reach: dict[int, Tensor] = {}
    piece = as_pieces(graph, [region], [known.boxes])
    result, form = linear.bound(piece, rows_for(goal, 1), record=True, reach=reach)
    piece = piece.with_pre(result.pre_lower, result.pre_upper)
    row = torch.tensor([goal.worst(known.values)])
    return attribution(graph, piece, linear.all_lines(piece), form.at, reach, row)[0][0].numpy()


# ---- between regions and the tensors of relaxations


def boxes_of(graph: Graph, region: Region) -> list[Box] | None:
    """The boxes of all nodes on a piece; None where one is empty. Outward rounded."""
    boxes = node_boxes(graph, region.inputs)
    if region.boxes is not None:
        boxes = [
            (torch.maximum(a[0], b[0]), torch.minimum(a[1], b[1])) for a, b in zip(boxes, region.boxes, strict=True)
        ]
    boxes = propagated(graph, boxes)
    return None if any(bool((low > high).any()) for low, high in boxes) else boxes


def nothing(graph: Graph, goal: Goal, region: Region) -> Known:
    """What is known of an empty piece."""
    return Known(np.full(len(goal.rows), np.inf), region.boxes or (), np.zeros(0, np.int64))


def as_pieces(graph: Graph, regions: Sequence[Region], boxes: Sequence[Sequence[Box]]) -> Pieces:
    """Regions with their boxes as a batch of pieces."""
    stack = lambda side: torch.from_numpy(np.stack([getattr(r.inputs, side) for r in regions]))  # noqa: E731
    lower, upper = stack("lower"), stack("upper")
    normals, offsets = outward_half_spaces([r.inputs for r in regions], lower, upper)
    most = max((len(r.phases) for r in regions), default=0)
    neuron = torch.full((len(regions), most), -1, dtype=torch.int64)
    sign = torch.zeros(len(regions), most, dtype=torch.float64)
    for b, region in enumerate(regions):
        for p, (k, s) in enumerate(region.phases):
            neuron[b, p], sign[b, p] = k, s
    sources = [layer.source for layer in graph.layers]
    none = [torch.zeros(0, dtype=torch.float64)]
    pre = [torch.stack([torch.cat([box[j][k] for j in sources] or none) for box in boxes]) for k in (0, 1)]
    return Pieces(lower, upper, normals, offsets, neuron, sign, torch.zeros_like(sign), *pre)


def cut_by(graph: Graph, boxes: Sequence[Box], pieces: Pieces, b: int) -> list[Box]:
    """Boxes cut by the pre-activation bounds of piece b."""
    boxes = list(boxes)
    for layer in graph.layers:
        source, (least, most) = layer.source, pieces.pre(layer)
        low = torch.maximum(boxes[source][0], least[b])
        boxes[source] = (low, torch.maximum(low, torch.minimum(boxes[source][1], most[b])))
    return propagated(graph, boxes)


def rows_for(goal: Goal, count: int) -> Rows:
    """The goal's rows for a number of pieces."""
    spread = lambda t: torch.from_numpy(t).expand(count, *t.shape)  # noqa: E731
    return Rows(spread(goal.rows), spread(goal.constants), None if goal.on_input is None else spread(goal.on_input))
