"""Any tree with another look at each piece that its own bounds leave open, by any relaxation.

This puts the rungs of the ladder that a tree does not bound its pieces with under the search, on pieces of every kind:
linear programs (`ladder.ladder`), entries of the catalogue that are relaxations of their own, and a caller's
(`relaxations.protocol`). The tree's own bounds still say where to split.

Soundness: as the relaxation is; what it proves in float64 is rounded down to the tree's dtype.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...problems.network.graph import Graph
from ...relaxations.ladder.ladder import LinearPrograms, Programmed
from ...relaxations.ladder.triangle import Setting
from ...relaxations.linear.root import root
from ...relaxations.names import Name
from ...relaxations.protocol import AbstractRelaxation, Means, in_float64, rounded_down
from ...relaxations.types import Result
from .proofs import ProgramBound, Proof, Unproved
from .records import R
from .tree import AbstractTree, Bounded
from .ways import Way
from .wrapped import Wrapped


def closer(names: Sequence[Name], graph: Graph, box: tuple[Tensor, Tensor], means: Means) -> AbstractRelaxation:
    """What the names say of pieces, in float64 on the CPU: linear programs joined, or one relaxation of its own over
    bounds of the box."""
    if all(name.rung.kind == "program" for name in names):
        return LinearPrograms(tuple(names), graph.to(torch.float64), Setting.of(names, means))
    (name,) = names
    linear, _ = root(graph, *box, name.rung.lines or "crown", effort=means.effort)
    return name.rung.load()(linear, graph, name, means)


class Programs(Wrapped[R]):
    """See the module's essay."""

    def __init__(self, inner: AbstractTree[R], relaxation: AbstractRelaxation, words: str, batch: int) -> None:
        """`batch`: pieces between two looks at the clock."""
        super().__init__(inner)
        if inner.proving and isinstance(relaxation, LinearPrograms):
            relaxation = replace(relaxation, proving=True)
        self.relaxation, self.words, self.batch = relaxation, words, batch
        self.way = Way(relaxation.name, 1.0)

    def describe(self) -> str:
        return f"{self.inner.describe()}, {self.words} ({self.way.name})"

    def ways(self) -> list[Way]:
        return [*self.inner.ways(), self.way]

    def notes(self) -> list[str]:
        return [*self.inner.notes(), *self.relaxation.notes]

    def first(self) -> Bounded[R] | None:
        return super().first() if len(self.goals) <= self.batch else None  # many are bounded again, in parts

    def further(self, bounded: Bounded[R]) -> Bounded[R]:
        open_ = (~bounded.closed).nonzero()[:, 0]
        if not len(open_):
            return bounded
        begun = time.perf_counter()
        some = bounded.records[open_]
        rows = self.goals.rows(some.goal)
        result = self.relaxation.bound(*in_float64(self.pieces(some), rows)).result
        found = rounded_down(result.lower.double(), bounded.records.bound)
        shut = rows.closed(found) | result.empty.to(found.device)
        self.way.count(len(open_), int(shut.sum()), time.perf_counter() - begun)
        proof = self._proof(some, result) if self.proving else None
        return bounded.looked_at(open_, found, shut, self.way.name, proof)

    def _proof(self, some: R, result: Result) -> Proof:
        if isinstance(result, Programmed):
            return ProgramBound(self.ground(some), result.minima)
        return Unproved(self.way.name)

    def default_batch(self, memory: float) -> int:
        return min(self.batch, self.inner.default_batch(memory))
