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
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...problems.network.graph import Graph
from ...problems.properties.property import Polytope
from ...relaxations.catalogue import BATCHED, not_here
from ...relaxations.ladder.ladder import LinearPrograms
from ...relaxations.ladder.triangle import Setting
from ...relaxations.linear.alpha import Alpha
from ...relaxations.linear.attribution import attribution
from ...relaxations.linear.ibp import Ibp, interval_root
from ...relaxations.linear.linear import Linear
from ...relaxations.linear.root import outward_half_spaces, root
from ...relaxations.lp.boxes import Box, node_boxes
from ...relaxations.lp.encode import propagated
from ...relaxations.names import parse
from ...relaxations.protocol import AbstractRelaxation, Means
from ...relaxations.question import treated
from ...relaxations.types import Pieces, Result, Rows
from ..trees.scores import Sight
from .measured import Array, Goal, Known, Region, undecided

STEPS = 50  # of alpha-crown
BATCH = 256  # pieces of one batch


class AbstractMeasure(ABC):
    """Bounds of a goal's rows on pieces, by a relaxation."""

    batch: int
    linear: Linear  # for scores
    relaxation: AbstractRelaxation

    @abstractmethod
    def bound(self, regions: Sequence[Region]) -> list[Known]:
        """What is proved of each piece."""


@dataclass(frozen=True, eq=False)
class OneByOne(AbstractMeasure):
    """One piece after the other, by linear programs, with tightened intervals or with those of `crown`."""

    graph: Graph  # float64
    goal: Goal
    relaxation: LinearPrograms
    linear: Linear  # for intervals that are not tightened
    tight: bool = True
    batch: int = 1

    def bound(self, regions: Sequence[Region]) -> list[Known]:
        return [self._one(region) for region in regions]

    def _one(self, region: Region) -> Known:
        graph, goal = self.graph, self.goal
        boxes = boxes_of(graph, region)
        if boxes is None:
            return nothing(graph, goal, region)
        piece = as_pieces(graph, [region], [boxes])
        relaxation = self.relaxation
        if self.tight:
            relaxation = replace(relaxation, tight_from=region.changed)
        else:
            piece, empty, _ = self.linear.tighten(piece)
            if bool(empty[0]):
                return nothing(graph, goal, region)
        result, left, _ = relaxation.bound(piece, rows_for(goal, 1))
        found = tuple(cut_by(graph, boxes, left, 0))
        return Known(result.lower[0].numpy().copy(), found, undecided(graph, found))


@dataclass(frozen=True, eq=False)
class Batched(AbstractMeasure):
    """Any relaxation on all pieces at once, after intervals and the lines that it starts from; float64 on the CPU."""

    graph: Graph
    goal: Goal
    relaxation: AbstractRelaxation
    intervals: Ibp
    linear: Linear
    leaf: OneByOne
    lined: bool = True  # whether lines tighten the intervals before it
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
        result, pieces, _ = self.intervals.bound(pieces, rows)
        if not self.lined:
            return result, pieces
        pieces, empty, _ = self.linear.tighten(pieces)
        better, left, _ = self.relaxation.bound(pieces, rows)
        lower = torch.fmax(result.lower, better.lower)
        return replace(better, lower=lower, empty=result.empty | better.empty | empty), left


def measure_for(
    graph: Graph,
    goal: Goal,
    inputs: Polytope,
    relaxation: str | AbstractRelaxation,
    tight: bool = True,
    backend: str = "highs",
) -> AbstractMeasure:
    """The instrument for a relaxation's name, or for a relaxation. Raises `BadInput` as `names.parse` does."""
    lower, upper = torch.from_numpy(inputs.lower), torch.from_numpy(inputs.upper)
    names = () if isinstance(relaxation, AbstractRelaxation) else parse(relaxation)
    treated(graph, names)
    setting = Setting(backend)
    if names and all(name.rung.kind == "program" for name in names):
        linear, _ = root(graph, lower, upper, "crown")
        directions = linear if any("directions" in name.options for name in names) else None
        return OneByOne(graph, goal, LinearPrograms(names, graph, setting, directions, whole=True), linear, tight)
    for name in names:
        if name.rung.kind == "integer" or len(names) > 1:
            raise not_here(name.rung, "measured trees", *BATCHED, "program", "separate")
    rule = names[0].rung.lines if names else "crown"
    linear, _ = root(graph, lower, upper, rule or "crown")
    made = relaxation
    if isinstance(made, str):
        made = names[0].rung.load()(linear, graph, names[0], Means(steps=STEPS, backend=backend))
    leaf = OneByOne(graph, goal, LinearPrograms(parse("triangle"), graph, setting, whole=True), linear)
    intervals = interval_root(graph, lower, upper)[0]
    return Batched(graph, goal, made, intervals, linear, leaf, lined=rule is not None)


def sight(graph: Graph, goal: Goal, linear: Linear, root: Region, region: Region, known: Known) -> Sight:
    """What a branching rule sees of a piece: the row that is nearest to closing it, over the boxes known of it."""
    piece, row = as_pieces(graph, [region], [known.boxes]), goal.worst(known.values)

    def losses() -> Tensor:
        every = rows_for(goal, 1)
        one = slice(row, row + 1)
        on_input = None if every.on_input is None else every.on_input[:, one]
        some = Rows(every.coefficients[:, one], every.constants[:, one], on_input)
        scores = Alpha(linear, 0).bound(piece, some).result.scores
        assert scores is not None, "optimised bounds are scored"
        return scores

    width = torch.from_numpy(root.inputs.upper - root.inputs.lower)
    return Sight(piece, width, losses, lambda: torch.from_numpy(blame(graph, goal, linear, region, known))[None])


def blame(graph: Graph, goal: Goal, linear: Linear, region: Region, known: Known) -> Array:  # (D,)
    """How much of what the worst row's bound loses each coordinate is to blame for (`attribution`). Heuristic."""
    reach: dict[int, Tensor] = {}
    piece = as_pieces(graph, [region], [known.boxes])
    result, form = linear.formed(piece, rows_for(goal, 1), record=True, reach=reach)
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
