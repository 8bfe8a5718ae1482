"""Any tree with one look more at each piece that its own bounds leave open: signs, and differences of twins.

For networks that hold two copies of the same weights, and for rows that are strict, which close at zero where outward
rounding never arrives (`twins.twin_rows`). A look costs about as much as intervals do; where few
pieces close by it, those below the root are no longer looked at.

Soundness: outward rounded.
"""

from __future__ import annotations

import time

from ...problems.network.graph import Graph
from ...problems.properties.property import Property
from ...relaxations.effort import TWINS, TwinEffort
from ...relaxations.twins.twin_rows import TwinRows, twin_rows
from .goals import Goals
from .proofs import IntervalBound
from .records import R
from .tree import AbstractTree, Bounded
from .ways import Way
from .wrapped import Wrapped


def rows_of_goals(
    graph: Graph, working: Graph, prop: Property, goals: Goals, effort: TwinEffort = TWINS
) -> TwinRows | None:
    """The bounds of the goals' rows by signs and differences; None where they would have nothing to say."""
    rows = [prop.cases[case].unsafe[unsafe].meaning for case, unsafe in goals.pairs]
    polytopes = {id(inputs): inputs for case, _ in goals.pairs for inputs in (prop.cases[case].inputs,)}
    return twin_rows(graph, working, rows, list(polytopes.values()), effort)


class Twinned(Wrapped[R]):
    """See the module's essay."""

    def __init__(self, inner: AbstractTree[R], rows: TwinRows, effort: TwinEffort = TWINS) -> None:
        super().__init__(inner)
        self.rows, self.effort = rows, effort
        self.way = Way("signs and differences of twins", 1.0)

    def describe(self) -> str:
        twins = f", {self.rows.pairs} pairs of twin neurons" if self.rows.pairs else ""
        return f"{self.inner.describe()}{twins}"

    def ways(self) -> list[Way]:
        return [*self.inner.ways(), self.way]

    def further(self, bounded: Bounded[R]) -> Bounded[R]:
        open_ = (~bounded.closed).nonzero()[:, 0]
        if self.way.pieces >= self.effort.looks and self.effort.worth * self.way.closed < self.way.pieces:
            open_ = open_[bounded.records.depth[open_] == 0]
        if not len(open_):
            return bounded
        begun = time.perf_counter()
        some = bounded.records[open_]
        found = self.rows.below(self.pieces(some), some.goal)
        shut = self.goals.rows(some.goal).closed(found)
        self.way.count(len(open_), int(shut.sum()), time.perf_counter() - begun)
        proof = IntervalBound(self.ground(some), twins=True) if self.proving else None
        return bounded.looked_at(open_, found, shut, self.way.name, proof)
