"""Growing a measured tree: every piece is bounded, and cut by one rule until its bounds are good enough.

A rule scores every neuron (`activation` and `polyhedral` pieces) or every coordinate (`input` pieces) by the function
that the search uses, see `bab.rules`; those that try bound the children of every cut, and take the cut whose worse
child is nearest to the end, ties by the better child. The order in which open pieces are taken does not change a tree
that is grown to its end; here they are taken level by level, so that batched relaxations see a level at once.

How a piece ends: `closed` (its bounds suffice), `empty` (proved so), or `stuck` (nothing is left to decide, and the
bounds still miss the target by rounding; reported, never hidden). Decided sets that two trees share are bounded once:
`Bounder` remembers them by their phases.

Soundness: heuristic where rules choose; what closes a piece is the measure's proof.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...kernels.deadline import TimeUp
from ...problems.network.graph import Graph
from ...relaxations.linear.linear import Linear
from .. import rules
from .measured import Cut, Goal, Known, Piece, Pieces, Region, Status, Tree, affine_on, children_of
from .measures import AbstractMeasure, sight

NEURON_RULES = rules.of("neurons")
INPUT_RULES = rules.of("boxes")
SIMPLE = {  # rules that try no children
    "activation": tuple(name for name in NEURON_RULES if not rules.find(name).tries),
    "polyhedral": tuple(name for name in NEURON_RULES if not rules.find(name).tries),
    "input": tuple(name for name in INPUT_RULES if not rules.find(name).tries),
}
MOST = 200_000  # pieces of one tree


@dataclass(frozen=True, eq=False)
class Bounder:
    """A measure over one root, with what it has bounded already."""

    graph: Graph
    goal: Goal
    measure: AbstractMeasure
    linear: Linear  # for scores
    root: Region
    pieces: Pieces
    memory: dict[tuple[tuple[int, int], ...], Known] = field(default_factory=dict)

    def bound(self, regions: Sequence[Region]) -> list[Known]:
        """What is known of the pieces; those that their phases name are remembered."""
        if self.pieces == "input":
            return self.measure.bound(regions)
        new = list({r.phases: r for r in regions if r.phases not in self.memory}.values())
        self.memory.update(zip((r.phases for r in new), self.measure.bound(new), strict=True))
        return [self.memory[r.phases] for r in regions]

    def cuts(self, region: Region, known: Known) -> list[Cut]:
        """What the piece may be cut at."""
        if self.pieces == "input":
            low, high = region.inputs.lower, region.inputs.upper
            middle = low / 2 + high / 2
            return [
                Cut(coordinate=int(k), point=float(middle[k])) for k in np.flatnonzero((low < middle) & (middle < high))
            ]
        neurons = known.undecided if self.pieces == "activation" else affine_on(self.graph, known)
        return [Cut(neuron=int(k)) for k in neurons]

    def children(self, region: Region, known: Known, cut: Cut) -> tuple[Region, Region]:
        return children_of(self.graph, region, known, cut, self.pieces)


Rule = Callable[[Bounder, Region, Known, list[Cut]], Cut]


def scored(rule: rules.BranchingRule) -> Rule:
    """The cut that the rule scores highest, the first of those alike."""

    def choose(bounder: Bounder, region: Region, known: Known, cuts: list[Cut]) -> Cut:
        worth = rule.load()(sight(bounder.graph, bounder.goal, bounder.linear, bounder.root, region, known))[0].numpy()
        return max(cuts, key=lambda cut: worth[max(cut.neuron, cut.coordinate)])

    return choose


def strong(bounder: Bounder, region: Region, known: Known, cuts: list[Cut]) -> Cut:
    pairs = [bounder.children(region, known, cut) for cut in cuts]
    found = bounder.bound([child for pair in pairs for child in pair])
    gaps = [max(bounder.goal.gap(k.values), 0.0) for k in found]
    key = [(max(gaps[2 * i : 2 * i + 2]), min(gaps[2 * i : 2 * i + 2])) for i in range(len(cuts))]
    return cuts[min(range(len(cuts)), key=key.__getitem__)]


RULES: dict[str, Rule] = {
    name: strong if rules.find(name).tries else scored(rules.find(name)) for name in rules.of("neurons", "boxes")
}


def grow(bounder: Bounder, rule: str, deadline: float | None = None, most: int = MOST) -> Tree:
    """The tree that a rule grows from the bounder's root, until it ends, `deadline` (of `time.perf_counter`) passes or
    it has `most` pieces. What is open then stays in the tree with its status."""
    choose = RULES[rule]
    pieces: list[Piece] = []
    open_: list[tuple[int, int, int, Region]] = [(-1, 0, 0, bounder.root)]  # parent, side, depth
    late = False  # time was up in the middle of a piece, which is open still
    while open_:
        if late or len(pieces) >= most or (deadline is not None and time.perf_counter() > deadline):
            for parent, side, depth, region in open_:
                region = replace(region, boxes=None)
                pieces.append(Piece(len(pieces), parent, depth, "open", np.inf, None, side, region))
            return Tree(pieces, False)
        level, open_ = open_[: bounder.measure.batch], open_[bounder.measure.batch :]
        try:
            found = bounder.bound([region for *_, region in level])
        except TimeUp:
            late, open_ = True, level + open_
            continue
        for k, ((parent, side, depth, region), known) in enumerate(zip(level, found, strict=True)):
            gap, number = bounder.goal.gap(known.values), len(pieces)
            try:
                cuts = [] if known.empty or bounder.goal.closed(known.values) else bounder.cuts(region, known)
                cut = choose(bounder, region, known, cuts) if cuts else None
                below, above = bounder.children(region, known, cut) if cut is not None else (region, region)
            except TimeUp:
                late, open_ = True, level[k:] + open_
                break
            if cut is None:
                status: Status = "empty" if known.empty else "closed" if bounder.goal.closed(known.values) else "stuck"
                kept = replace(region, boxes=None)
                pieces.append(Piece(number, parent, depth, status, gap, None, side, kept))
                continue
            pieces.append(Piece(number, parent, depth, "split", gap, cut, side))
            open_ += [(number, -1, depth + 1, below), (number, 1, depth + 1, above)]
    return Tree(pieces, True)
