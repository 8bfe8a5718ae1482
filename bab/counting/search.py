"""Walking the tree of patterns depth first, in chunks, and adding up what is certain.

Chunks that outgrow the memory they may take are halved, and the later half waits; so millions of cells pass through
while few are held. What is kept of a finished cell is its pattern, N bits.

`Tally` is the state of a count: nothing that was found is lost when the time is over or the user interrupts. An
interrupt may come between any two instructions, so what the last chunk has begun to change is then taken back (`Mark`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...kernels import bits
from ...kernels.double_description import Polytopes
from ...kernels.ragged import Flags
from ...problems.properties.property import Polytope
from .proof import centres, proved, witnessed
from .tree import Chunk, Plan, active, advance, cutting, finished, root

KEPT = 1 << 30  # bytes of patterns that are remembered, so that one that is found twice is not counted twice
PART = 8192  # cells that are judged at once
SEARCH = 0.85  # of the time until the deadline goes to finding cells, the rest to confirming what is unfinished


@dataclass(frozen=True, eq=False)
class Found:
    """A batch of certain cells, for whoever wants to keep them."""

    polytope: Polytope  # the input set
    patterns: NDArray[np.uint8]  # (C, ceil(N / 8)), neuron 0 in the lowest bit of the first byte
    points: NDArray[np.float64]  # (C, D): one inside each cell, relative to its dimension
    dimensions: NDArray[np.int8]  # (C,), -1 where it was not asked
    start: NDArray[np.int64] | None = None  # (C + 1,): where each cell's vertices begin, where cells have vertices
    vertices: NDArray[np.float64] | None = None  # (T, D)


@dataclass(frozen=True, eq=False)
class Unsure:
    """Finished cells that are not certain."""

    active: Flags  # (C, N)
    cutting: Flags  # (C, N): the neurons whose half-spaces bound the cell
    exists: Flags  # (C,): the pattern was confirmed at a point


class Waiting(NamedTuple):
    """A cell, unfinished, on which all neurons before this one are decided."""

    node: int
    neuron: int
    exists: bool  # some pattern begins as it does
    sure: bool  # all its points have these phases


class Mark(NamedTuple):
    """A tally after a whole step."""

    certain: int
    bytes: int
    patterns: int  # how many batches
    unsure: int
    pending: tuple[Chunk, ...]
    layers: dict[int, int]


@dataclass(eq=False)
class Tally:
    """What is known so far."""

    certain: int = 0
    patterns: list[NDArray[np.uint8]] | None = field(default_factory=list)  # packed, of certain cells; None: too many
    unsure: list[Unsure] = field(default_factory=list)
    pending: list[Chunk] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    layers: dict[int, int] = field(default_factory=dict)
    reason: str = ""
    interrupted: bool = False  # by the user
    bytes: int = 0

    def mark(self) -> Mark:
        """What is there, for `restore`; `waiting` and `reason`, which come last, stay out of it."""
        batches = len(self.patterns or ())
        return Mark(self.certain, self.bytes, batches, len(self.unsure), tuple(self.pending), dict(self.layers))

    def restore(self, mark: Mark) -> None:
        """Takes back what came after a mark, each cell into the chunk that it came from."""
        self.certain, self.bytes = mark.certain, mark.bytes
        self.pending, self.layers = list(mark.pending), dict(mark.layers)
        del self.unsure[mark.unsure :]
        if self.patterns is not None:
            del self.patterns[mark.patterns :]


Emit = Callable[[Found], None]
Progress = Callable[[int, int, float], None]  # cells found, cells waiting, seconds


@dataclass(frozen=True)
class Listener:
    """Who hears of a count: `emit` of batches of finished cells, `progress` of how far it is."""

    emit: Emit | None = None
    progress: Progress | None = None


NOBODY = Listener()


def search(
    plan: Plan,
    polytope: Polytope,
    cells: Polytopes,
    deadline: float | None,
    listener: Listener = NOBODY,
) -> Tally:
    """All cells of the tree, until the deadline (of `time.monotonic`) or an interrupt."""
    begin = time.monotonic()
    stop = None if deadline is None else begin + SEARCH * max(0.0, deadline - begin)
    tally = Tally(pending=[root(plan, cells)])
    mark = tally.mark()
    try:
        while tally.pending:
            if stop is not None and time.monotonic() > stop:
                tally.reason = "the time limit was reached"
                break
            parts = advance(plan, tally.pending.pop(), stop, tally.layers)
            for part in reversed(parts):
                if finished(plan, part):
                    _finish(plan, polytope, part, tally, listener.emit, stop)
                else:
                    tally.pending.append(part)
            mark = tally.mark()
            if listener.progress is not None:
                waiting = sum(len(c.cells) for c in tally.pending)
                listener.progress(tally.certain, waiting, time.monotonic() - begin)
    except KeyboardInterrupt:
        tally.restore(mark)
        tally.reason, tally.interrupted = "interrupted", True
    return tally


def _finish(plan: Plan, polytope: Polytope, chunk: Chunk, tally: Tally, emit: Emit | None, stop: float | None) -> None:
    """Judges finished cells; what the time does not suffice for stays pending."""
    for cells in _parts(chunk.cells):
        if stop is not None and time.monotonic() > stop:
            tally.pending.append(replace(chunk, cells=cells))
            continue
        certain = proved(plan, cells, polytope)
        if not certain.all():
            rest = cells.select((~certain).nonzero()[0])
            exists = witnessed(plan, rest, polytope, plan.graph.neurons)
            tally.unsure.append(Unsure(active(plan, rest.labels), cutting(plan, rest.labels), exists))
            cells = cells.select(certain.nonzero()[0])
        packed = bits.to_bytes(cells.labels[:, : plan.half], plan.graph.neurons)
        if emit is not None and len(cells):
            emit(_found(polytope, packed, cells))
        remember(tally, packed)


def _parts(cells: Polytopes) -> Iterator[Polytopes]:
    """The cells, PART at a time."""
    for begin in range(0, len(cells), PART):
        yield cells.select(np.arange(begin, min(begin + PART, len(cells))))


def _found(polytope: Polytope, packed: NDArray[np.uint8], cells: Polytopes) -> Found:
    d = polytope.size
    x, start = cells.points[:, :d][cells.vertex], cells.start
    dimensions = np.full(len(cells), d, dtype=np.int8)
    for i in np.flatnonzero(~cells.full):
        own = x[start[i] : start[i + 1]]
        dimensions[i] = np.linalg.matrix_rank(own[1:] - own[0], tol=1e-12 * (1 + np.abs(own).max()))
    return Found(polytope, packed, centres(cells, d), dimensions, start, x)


def remember(tally: Tally, packed: NDArray[np.uint8]) -> None:  # (C, bytes)
    """Adds certain patterns."""
    tally.certain += len(packed)
    tally.bytes += packed.nbytes
    if tally.patterns is not None:
        tally.patterns.append(packed)
        if tally.bytes > KEPT:
            tally.patterns = None


def confirm(plan: Plan, polytope: Polytope, chunks: list[Chunk], deadline: float | None) -> list[tuple[int, int]]:
    """Of the cells of each unfinished chunk: how many surely exist, and how many are exactly what the tree says.

    What the deadline leaves no time for counts as neither; that cells exist is looked at first.
    """
    counts = [[0, 0] for _ in chunks]
    for which, judge in enumerate((witnessed, proved)):
        for count, chunk in zip(counts, chunks, strict=True):
            until = _before(plan, chunk.node) + chunk.neuron
            for cells in _parts(chunk.cells):
                if deadline is None or time.monotonic() < deadline:
                    count[which] += int(judge(plan, cells, polytope, until).sum())
    return [(exist, sure) for exist, sure in counts]


def _before(plan: Plan, node: int) -> int:
    """How many neurons lie before a node."""
    return sum(layer.size for layer in plan.graph.layers if layer.position < node)
