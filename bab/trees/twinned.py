"""Any tree with one look more at each piece that its own bounds leave open: signs, and differences of twins.

For networks that hold two copies of the same weights, and for rows that are strict, which close at zero where outward
rounding never arrives (`twins.twin_rows`). A look costs about as much as intervals do; where few of `TRIED`
pieces close by it, those below the root are no longer looked at.

Soundness: outward rounded.
"""

from __future__ import annotations

import time

from torch import Tensor

from ...problems.network.graph import Graph
from ...problems.properties.property import Property
from ...relaxations.twins.twin_rows import TwinRows, twin_rows
from ...relaxations.types import Pieces
from .frontier import Record
from .goals import Goals
from .tree import AbstractTree, Bounded, Settled
from .ways import Way

TRIED = 4096  # pieces
FEW = 64  # where one piece in so many is closed, a look pays


def rows_of_goals(graph: Graph, working: Graph, prop: Property, goals: Goals) -> TwinRows | None:
    """The bounds of the goals' rows by signs and differences; None where they would have nothing to say."""
    rows = [prop.cases[case].unsafe[unsafe].meaning for case, unsafe in goals.pairs]
    polytopes = {id(inputs): inputs for case, _ in goals.pairs for inputs in (prop.cases[case].inputs,)}
    return twin_rows(graph, working, rows, list(polytopes.values()))


class Twinned(AbstractTree):
    """See the module's essay."""

    def __init__(self, inner: AbstractTree, rows: TwinRows, graph: Graph) -> None:
        self.inner, self.rows, self.graph = inner, rows, graph  # graph: float64, CPU
        self.goals, self.fill, self.apart = inner.goals, inner.fill, inner.apart
        self.way = Way("signs and differences of twins", 1.0)

    def describe(self) -> str:
        twins = f", {self.rows.pairs} pairs of twin neurons" if self.rows.pairs else ""
        return f"{self.inner.describe()}{twins}"

    def pieces(self, record: Record) -> Pieces:
        return self.inner.pieces(record)

    def ways(self) -> list[Way]:
        return [*self.inner.ways(), self.way]

    def notes(self) -> list[str]:
        return self.inner.notes()

    def roots(self) -> Record:
        return self.inner.roots()

    def bound(self, record: Record) -> Bounded:
        bounded = self.inner.bound(record)
        open_ = (~bounded.closed).nonzero()[:, 0]
        if self.way.pieces >= TRIED and FEW * self.way.closed < self.way.pieces:
            open_ = open_[bounded.records["depth"][open_] == 0]
        if not len(open_):
            return bounded
        begun = time.perf_counter()
        some = {name: value[open_] for name, value in bounded.records.items()}
        found = self.rows.below(self.pieces(some), some["goal"])
        shut = self.goals.rows(some["goal"]).closed(found)
        self.way.pieces += len(open_)
        self.way.closed += int(shut.sum())
        self.way.seconds += time.perf_counter() - begun
        return bounded.looked_at(open_, found, shut, self.way.name)

    def confirm(self, record: Record) -> Tensor:
        return self.inner.confirm(record)

    def split(self, record: Record) -> Record:
        return self.inner.split(record)

    def due(self) -> bool:
        return self.inner.due()

    def kin(self, open_: Record) -> Tensor:
        return self.inner.kin(open_)

    def tighten(self, record: Record, deadline: float | None) -> Record:
        return self.inner.tighten(record, deadline)

    def leaf(self, record: Record, row: int, seconds: float | None = None) -> Settled:
        return self.inner.leaf(record, row, seconds)

    def default_batch(self, memory: float) -> int:
        return self.inner.default_batch(memory)
