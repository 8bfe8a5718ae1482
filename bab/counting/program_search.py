"""Walking the tree of patterns by linear programs, depth first, and adding up what is certain.

What a cell is, and what proves it, is in `programs`; an interrupt is taken back to the last whole step (`Tally.mark`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from ...kernels.deadline import TimeUp, until
from ...problems.properties.property import Polytope
from .programs import GROUP, Cell, ProgramCounter
from .search import NOBODY, Emit, Found, Listener, Tally, Unsure, Waiting, remember
from .tree import Plan


def search_by_programs(
    plan: Plan,
    polytope: Polytope,
    deadline: float | None,
    listener: Listener = NOBODY,
) -> Tally:
    """All cells, depth first, as the tally of a finished count, or of one without an end."""
    tally, begin = Tally(), time.monotonic()
    if not plan.graph.layers:
        remember(tally, np.zeros((1, 0), dtype=np.uint8))
        return tally
    front = _Front()
    try:
        with until(deadline):
            counter = ProgramCounter(plan, polytope)
            front.put([counter.root()])
    except TimeUp:
        tally.reason = "the time limit was reached"
        tally.waiting.append(Waiting(plan.graph.layers[0].position, 0, False, False))
        return tally
    settled = tally.mark(), front.copy()
    try:
        while cell := _taken(front, counter, deadline):
            if deadline is not None and time.monotonic() > deadline:
                tally.reason = "the time limit was reached"
                break
            with until(deadline):
                parts = counter.step(cell)
            through = sum(part.layer is None for part in parts)
            tally.layers[cell.node] = tally.layers.get(cell.node, 0) + through
            _keep(counter, polytope, [part for part in parts if part.node > plan.last], tally, listener.emit)
            front.put([part for part in parts if part.node <= plan.last])
            settled = tally.mark(), front.copy()
            if listener.progress is not None:
                listener.progress(tally.certain, len(front), time.monotonic() - begin)
    except TimeUp:
        tally.reason = "the time limit was reached"
    except KeyboardInterrupt:
        tally.reason, tally.interrupted = "interrupted", True
    if tally.reason:  # in the middle of a step
        tally.restore(settled[0])
        front = settled[1]
    for left in front.cells():
        exists = counter.inside(left.rows, left.points[0])
        tally.waiting.append(Waiting(left.node, left.neuron, exists and left.sure, left.sure))
    return tally


def _taken(front: _Front, counter: ProgramCounter, deadline: float | None) -> Cell | None:
    with until(deadline):
        return front.take(counter)


class _Front:
    """Cells under way, taken depth first, so that few are held; those that wait at a layer are composed in groups."""

    def __init__(self) -> None:
        self.inside: list[Cell] = []
        self.waiting: dict[int, list[Cell]] = {}

    def __len__(self) -> int:
        return len(self.inside) + sum(map(len, self.waiting.values()))

    def copy(self) -> _Front:
        front = _Front()
        front.inside, front.waiting = list(self.inside), {node: list(cells) for node, cells in self.waiting.items()}
        return front

    def put(self, cells: list[Cell]) -> None:
        for cell in cells:
            (self.inside if cell.layer is not None else self.waiting.setdefault(cell.node, [])).append(cell)

    def take(self, counter: ProgramCounter) -> Cell | None:
        """The next cell, with its layer."""
        deepest = max((node for node, cells in self.waiting.items() if cells), default=None)
        if deepest is not None and (not self.inside or len(self.waiting[deepest]) >= GROUP):
            group = self.waiting[deepest][-GROUP:]
            self.inside += counter.composed(group)
            del self.waiting[deepest][-GROUP:]
        return self.inside.pop() if self.inside else None

    def cells(self) -> Iterator[Cell]:
        yield from self.inside
        for cells in self.waiting.values():
            yield from cells


def _keep(counter: ProgramCounter, polytope: Polytope, cells: list[Cell], tally: Tally, emit: Emit | None) -> None:
    """Finished cells: the certain ones and the others."""
    certain: list[Cell] = []
    unsure: list[Cell] = []
    for cell in cells:
        exists = counter.inside(cell.rows, cell.points[0])
        (certain if exists and cell.sure else unsure).append(cell)
    if certain:
        packed = np.packbits(np.stack([cell.active for cell in certain]), axis=1, bitorder="little")
        remember(tally, packed)
        if emit is not None:
            points = np.stack([cell.points[0] for cell in certain])
            emit(Found(polytope, packed, points, np.full(len(certain), polytope.size, dtype=np.int8)))
    if unsure:
        active, cutting = np.stack([c.active for c in unsure]), np.stack([c.cutting for c in unsure])
        tally.unsure.append(Unsure(active, cutting, np.zeros(len(unsure), dtype=np.bool_)))
