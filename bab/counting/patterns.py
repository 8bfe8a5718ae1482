"""A(f, X): how many activation patterns a network has on an input set, exactly or in a certified interval.

`open` (the default) counts the patterns s in {0, 1}^N, over all N neurons, whose cell {x in X : neuron j is active at
x exactly where s_j = 1} has a non-empty interior; X must have one. `all` counts the patterns whose cell is not empty.
A neuron is active where its pre-activation is > 0; one that is zero on all of a cell is inactive there and counts
once. A union of polytopes has the patterns that one of them has.

How: in inputs of few dimensions `counting.tree` finds the cells by their vertices and `counting.proof` proves each;
what it cannot prove (degenerate cells, cells thinner than rounding) is counted anew in exact arithmetic
(`counting.rational`), or stays `doubtful`. In more dimensions, where cells have too many vertices,
`counting.programs` finds and proves them by linear programs. With `rational=True` everything is counted in exact
arithmetic, without any tolerance; that is for small networks.

The result is exact where `low == high`: every cell was proved, or free of rounding, or counted in rational numbers.
Otherwise `low` patterns were found and confirmed each at a point, and `high` is proved (`counting.bound`).
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels.arithmetic import full_products
from ...kernels.deadline import TimeUp, staged, until
from ...kernels.threads import threads_for
from ...problems.errors import BadInput
from ...problems.given import path_of, seconds
from ...problems.input_set import InputSet, polytopes_of
from ...problems.load import compare_on, load_network
from ...problems.network.graph import Graph
from ...problems.properties.property import Polytope
from .bound import remaining, undecided
from .inputs import check_input, lifted, vertices_of, without_fixed
from .search import NOBODY, Emit, Found, Listener, Tally, confirm, search
from .tree import Plan, plan

Kind = Literal["open", "all"]
DIMENSIONS = 6  # inputs up to which cells are kept by their vertices; measured: see docs/measured
PATIENCE = 2.0  # seconds that confirming what was found may take after an interrupt
COARSE = 2.0**10
STRUCTURED = 10  # the same where vertices can be free of rounding, which degenerate networks need


@dataclass(frozen=True, eq=False)
class PatternCount:
    """low <= A(f, X) <= high; `finished` where they are one number."""

    low: int
    high: int
    finished: bool
    seconds: float
    reason: str  # why it did not finish, or how the number is certain
    cells: Kind
    doubtful: int = 0  # finished cells that are neither proved nor counted anew
    rational: int = 0  # cells that were counted in exact arithmetic
    layers: tuple[int, ...] = ()  # cells of the first 1, 2, .. layers of neurons
    patterns: NDArray[np.uint8] | None = None  # (A, ceil(N / 8)) where finished and kept, bits from the lowest
    interrupted: bool = False  # by the user

    def __str__(self) -> str:
        return str(self.low) if self.finished else f"{self.low}..{self.high}"

    @property
    def rate(self) -> float:
        """Cells a second."""
        return self.low / max(self.seconds, 1e-9)


@full_products()
def count_patterns(
    network: str | Path | Graph | torch.nn.Module,
    input_set: InputSet,
    *,
    cells: Kind = "open",
    timeout: float | None = None,
    rational: bool = False,
    out: str | Path | None = None,
    example_input: torch.Tensor | None = None,
) -> PatternCount:
    """A(f, X) for a network and an input set, both as `partita.bound` takes them.

    `cells`: `open` or `all`, see the module. `timeout`: seconds from this call, after which an interval is returned.
    `rational`: count in exact arithmetic alone. `out`: a folder that gets `cells.parquet`.

    Raises `BadInput` for networks without patterns and input sets that are unbounded, empty or (for `open`) flat, and
    `TimeoutError` where the network is not even read by the timeout.
    """
    start, timeout = time.monotonic(), seconds("timeout", timeout, 0)
    deadline = None if timeout is None else start + timeout
    if not isinstance(rational, bool):
        raise BadInput(f"rational must be True or False, not {rational!r}")
    graph, polytopes = read(network, input_set, deadline, example_input)
    if out is None:
        return count_union(graph, polytopes, cells=cells, deadline=deadline, rational=rational)
    from .cells import CellWriter

    with CellWriter(path_of("out", out)) as writer:
        return count_union(
            graph, polytopes, cells=cells, deadline=deadline, rational=rational, listener=Listener(writer.write)
        )


def read(
    network: str | Path | Graph | torch.nn.Module,
    input_set: InputSet,
    deadline: float | None,
    example_input: torch.Tensor | None = None,
) -> tuple[Graph, list[Polytope]]:
    """The network and the input set; `TimeoutError` where that takes until the deadline (of `time.monotonic`)."""
    with until(deadline), staged() as stage:
        try:
            graph, original = load_network(network, example_input)
            polytopes = polytopes_of(graph, input_set)
            compare_on(original, polytopes)
        except TimeUp:
            raise TimeoutError(f"the time limit passed while {stage.text}: nothing is counted yet") from None
    return graph, polytopes


def count_union(
    graph: Graph,
    polytopes: list[Polytope],
    *,
    cells: Kind = "open",
    deadline: float | None = None,
    rational: bool = False,
    listener: Listener = NOBODY,
) -> PatternCount:
    """The patterns of a union of polytopes: those that one of them has, each once."""
    start = time.monotonic()
    counts = []
    for i, polytope in enumerate(polytopes):
        share = None if deadline is None else start + (deadline - start) * (i + 1) / len(polytopes)
        counts.append(count(graph, polytope, cells=cells, deadline=share, rational=rational, listener=listener))
        if counts[-1].interrupted:
            break
    if len(polytopes) == 1:
        return counts[0]
    seconds = time.monotonic() - start
    doubtful, recounted = sum(c.doubtful for c in counts), sum(c.rational for c in counts)
    kept = [c.patterns for c in counts if c.patterns is not None]
    if len(kept) == len(polytopes):
        union = np.unique(np.concatenate(kept), axis=0)
        reason = f"the union over {len(counts)} input polytopes"
        return PatternCount(len(union), len(union), True, seconds, reason, cells, 0, recounted, (), union)
    low, high = max(c.low for c in counts), sum(c.high for c in counts)
    if len(counts) < len(polytopes):
        high = max(high, _ceiling(graph, polytopes, cells))
    reason = next((c.reason for c in counts if not c.finished), "the patterns of the union are too many to be kept")
    interrupted = counts[-1].interrupted
    return PatternCount(low, high, low == high, seconds, reason, cells, doubtful, recounted, interrupted=interrupted)


def _ceiling(graph: Graph, polytopes: list[Polytope], cells: Kind) -> int:
    """Most patterns that all polytopes together can have, without looking at any cell."""
    total = 0
    for polytope in polytopes:
        made = plan(graph, cells == "all")
        total += remaining(made, undecided(made, polytope), 0, 0)
    return total


def count(
    graph: Graph,
    polytope: Polytope,
    *,
    cells: Kind = "open",
    deadline: float | None = None,
    rational: bool = False,
    listener: Listener = NOBODY,
) -> PatternCount:
    """A(f, X) on one polytope; `deadline` is a value of `time.monotonic()`.

    Raises `BadInput` as `count_patterns` does. An interrupt from the keyboard ends the count, not the program.
    """
    start = time.monotonic()
    if cells not in ("open", "all"):
        raise BadInput(f"cells are 'open' or 'all', not '{cells}'")
    parts = (polytope.lower, polytope.upper, polytope.normals, polytope.offsets)
    lower, upper, normals, offsets = (np.asarray(part, np.float64) for part in parts)
    polytope = Polytope(lower, upper, normals, offsets)
    faces = cells == "all"
    try:
        with until(deadline):
            made = plan(graph, faces)  # refuses networks without patterns, before the input set is looked at
            check_input(graph, polytope, cells)
            whole = polytope
            reduced, polytope = without_fixed(graph, polytope)
            made = made if reduced is graph else plan(reduced, faces)
    except TimeUp:
        seconds, why = time.monotonic() - start, "the time limit was reached before the first cell"
        return PatternCount(0, 2**graph.neurons, False, seconds, why, cells, 0, 0)
    if listener.emit is not None and reduced is not graph:
        listener = replace(listener, emit=lifted(listener.emit, whole))
    with torch.inference_mode(), threads_for(graph.widest):
        if rational:
            from .rational import search_exactly

            tally = search_exactly(made, polytope, deadline, listener)
        elif polytope.size <= (STRUCTURED if _structured(made, polytope) else DIMENSIONS):
            root = vertices_of(polytope, made.words, made.graph.neurons)
            tally = search(made, polytope, root, deadline, listener)
        else:
            from .program_search import search_by_programs

            tally = search_by_programs(made, polytope, deadline, listener)
        result = _conclude(made, polytope, tally, deadline, listener.emit)
    reason = "counted in exact arithmetic" if rational and result.finished else result.reason
    return replace(result, seconds=time.monotonic() - start, reason=reason)


def _structured(made: Plan, polytope: Polytope) -> bool:
    """Whether weights and bounds are multiples of a power of two, and not as fine as those of a trained network."""
    coarse = all(factor is not None and factor <= COARSE for factor in made.grid.values())
    bounds = np.concatenate([polytope.lower, polytope.upper]) * COARSE
    return coarse and bool((bounds == np.round(bounds)).all())


def _conclude(made: Plan, polytope: Polytope, tally: Tally, deadline: float | None, emit: Emit | None) -> PatternCount:
    """The count or the interval that a tally proves."""
    kind: Kind = "all" if made.faces else "open"
    if tally.interrupted:  # the user waits
        deadline = min(time.monotonic() + PATIENCE, np.inf if deadline is None else deadline)
    extra: dict[bytes, NDArray[np.float64]] = {}
    left: list[bool] = []
    recounted = 0
    if tally.unsure:
        extra, left, recounted = _recount(made, polytope, tally, deadline)
    layers = tuple(tally.layers.get(layer.position, 0) for layer in made.graph.layers)
    doubtful = len(left)
    if not tally.pending and not tally.waiting and not left and (tally.patterns is not None or not extra):
        known = tally.patterns if tally.patterns is not None else []
        packed = np.concatenate(known) if known else np.zeros((0, (made.graph.neurons + 7) // 8), dtype=np.uint8)
        if extra:
            packed = np.concatenate([packed, _fresh(packed, extra, polytope, made.faces, emit)])
        total = len(packed) if tally.patterns is not None else tally.certain
        reason = "every cell is proved" + (f", {recounted} of them in exact arithmetic" if recounted else "")
        patterns = packed if tally.patterns is not None else None
        if patterns is not None and (recounted or not any(layers)):
            layers = _prefixes(made, patterns)
        return PatternCount(total, total, True, 0.0, reason, kind, 0, recounted, layers, patterns)
    free = undecided(made, polytope)
    ceiling = remaining(made, free, 0, 0)
    low, high = tally.certain + sum(left), tally.certain + len(extra) + len(left) * ceiling
    confirmed = confirm(made, polytope, tally.pending, deadline)
    for chunk, (exist, sure) in zip(tally.pending, confirmed, strict=True):
        low += exist
        high += sure * remaining(made, free, chunk.node, chunk.neuron) + (len(chunk.cells) - sure) * ceiling
    for cell in tally.waiting:
        low += cell.exists
        high += remaining(made, free, cell.node, cell.neuron) if cell.sure else ceiling
    reason = tally.reason or f"{doubtful} cells are too thin or too degenerate for float64 and were not counted anew"
    high = max(low, min(high, ceiling))
    finished, stopped = low == high, tally.interrupted
    return PatternCount(low, high, finished, 0.0, reason, kind, doubtful, recounted, layers, interrupted=stopped)


def _prefixes(made: Plan, patterns: NDArray[np.uint8]) -> tuple[int, ...]:
    """How many patterns the first 1, 2, .. layers have."""
    on = np.unpackbits(patterns, axis=1, count=made.graph.neurons, bitorder="little")
    ends = [layer.span.stop for layer in made.graph.layers]
    return tuple(len(np.unique(np.packbits(on[:, :end], axis=1), axis=0)) for end in ends)


def _recount(
    made: Plan, polytope: Polytope, tally: Tally, deadline: float | None
) -> tuple[dict[bytes, NDArray[np.float64]], list[bool], int]:
    """Patterns, with a point each, of cells that are not certain, exactly; of those left over, whether they exist."""
    from .programs import ProgramCounter
    from .rational import RationalCounter

    counter, programs = RationalCounter(made, polytope), ProgramCounter(made, polytope)
    extra: dict[bytes, NDArray[np.float64]] = {}
    left: list[bool] = []
    done = 0
    for unsure in tally.unsure:
        for on, cut, exists in zip(unsure.active, unsure.cutting, unsure.exists, strict=True):
            found = None
            if not tally.interrupted and (deadline is None or time.monotonic() < deadline):
                with suppress(TimeUp), until(deadline):
                    found = counter.recount(on, cut, programs.settled(on, cut), deadline)
            if found is None:
                left.append(bool(exists))
            else:
                extra |= found
                done += 1
    return extra, left, done


def _fresh(
    packed: NDArray[np.uint8],
    extra: dict[bytes, NDArray[np.float64]],
    polytope: Polytope,
    faces: bool,
    emit: Emit | None,
) -> NDArray[np.uint8]:  # (C, bytes)
    """The patterns among `extra` that are not in `packed`."""
    known = set(map(bytes, packed))
    new = sorted(pattern for pattern in extra if pattern not in known)
    fresh = np.frombuffer(b"".join(new), dtype=np.uint8).reshape(len(new), packed.shape[1])
    if emit is not None and new:
        dimensions = np.full(len(new), -1 if faces else polytope.size, dtype=np.int8)
        emit(Found(polytope, fresh, np.stack([extra[pattern] for pattern in new]), dimensions))
    return fresh
