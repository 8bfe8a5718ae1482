"""Any tree with one linear program more for each piece that its own bounds leave open.

This puts the rungs of the ladder that exist as programs (`ladder.ladder`: triangle, m-K, p-R, their
intersections) under the search, on pieces of every kind: a piece's box and half-spaces are the program's input set, its
decided neurons and pre-activation bounds the program's intervals. The tree's own bounds still say where to split.

Soundness: outward rounded; what is used is the proved bound of a dual vector.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...problems.network.graph import Graph
from ...problems.properties.property import Polytope
from ...relaxations.ladder.exact import boxes_from
from ...relaxations.ladder.ladder import least
from ...relaxations.ladder.triangle import Setting
from ...relaxations.names import Name
from ...relaxations.types import Pieces, Rows
from .frontier import Record
from .tree import AbstractTree, Bounded, Settled
from .ways import Way

BATCH = 8  # pieces between two looks at the clock


class Programs(AbstractTree):
    """See the module's essay. `inner` must offer `pieces(record)`, as trees of regions and of phases do."""

    def __init__(self, inner: AbstractTree, names: Sequence[Name], graph: Graph, setting: Setting) -> None:
        self.inner, self.names, self.setting = inner, tuple(names), setting
        self.graph = graph.to(torch.float64)
        self.goals, self.fill = inner.goals, inner.fill
        self.way = Way("+".join(str(name) for name in names), 1.0)

    def describe(self) -> str:
        return f"{self.inner.describe()}, then one linear program a piece ({self.way.name})"

    def ways(self) -> list[Way]:
        return [*self.inner.ways(), self.way]

    def notes(self) -> list[str]:
        return [*self.inner.notes(), *self.setting.notes]

    def roots(self) -> Record:
        return self.inner.roots()

    def pieces(self, record: Record) -> Pieces:
        return self.inner.pieces(record)

    def bound(self, record: Record) -> Bounded:
        bounded = self.inner.bound(record)
        open_ = (~bounded.closed).nonzero()[:, 0]
        if not len(open_):
            return bounded
        begun = time.perf_counter()
        some = {name: value[open_] for name, value in bounded.records.items()}
        rows = self.goals.rows(some["goal"])
        found = self._minima(self.inner.pieces(some), rows).to(bounded.records["bound"])
        shut = rows.closed(found)
        self.way.pieces += len(open_)
        self.way.closed += int(shut.sum())
        self.way.seconds += time.perf_counter() - begun
        return bounded.looked_at(open_, found, shut, self.way.name)

    def _minima(self, pieces: Pieces, rows: Rows) -> Tensor:  # (B, S)
        """Lower bounds of each piece's rows; what is rounded to the tree's dtype is rounded down."""
        real = lambda t: t.double().cpu().numpy()  # noqa: E731
        found = []
        for b in range(len(pieces)):
            sides = [real(getattr(pieces, name)[b]) for name in ("lower", "upper", "normals", "offsets")]
            used = np.isfinite(sides[3])
            polytope = Polytope(sides[0], sides[1], sides[2][used], sides[3][used])
            boxes = boxes_from(self.graph, polytope, pieces, b)
            if polytope.empty or any(bool((low > high).any()) for low, high in boxes):
                found.append(np.full(rows.constants.shape[1], np.inf))
                continue
            on_input = None if rows.on_input is None else real(rows.on_input[b])
            values = least(
                self.names,
                self.graph,
                polytope,
                boxes,
                real(rows.coefficients[b]),
                real(rows.constants[b]),
                self.setting,
                on_input,
            )
            found.append(values)
        exact = torch.from_numpy(np.stack(found))
        down = exact.to(self.goals.constants.dtype)
        below = torch.nextafter(down, down.new_tensor(-torch.inf))
        return torch.where(down.double() > exact, below, down)

    def confirm(self, record: Record) -> Tensor:
        return self.inner.confirm(record)

    def split(self, record: Record) -> Record:
        return self.inner.split(record)

    def leaf(self, record: Record, row: int, seconds: float | None = None) -> Settled:
        return self.inner.leaf(record, row, seconds)

    def default_batch(self, memory: float) -> int:
        return min(BATCH, self.inner.default_batch(memory))
