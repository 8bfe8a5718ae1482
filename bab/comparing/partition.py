"""`partita.partition`: how many pieces each relaxation needs, beside the number of activation patterns.

Proposition 5.6 of Mao, Zhang and Vechev (ICLR 2026) says, for exact bounds,

    #Partition(BaB(M), f, X)  <=  A(f, X)  <=  #Partition(BaB(S), f, X)

for multi-neuron relaxations M and single-neuron relaxations S. What a partition's size is depends on conventions that
the statement leaves open, so every comparison states them: (1) the exactness notion, and of which outputs, (2) what a
piece is, and which leaves count, (3) the branching rule, and whether the tree is the smallest, (4) the pre-activation
intervals, (5) which patterns A counts. Each inequality is reported `kept` or `broken` by this instance with its
numbers, or `open` where a count did not finish.

What counts are proper leaves (`comparing/proper.py`), empty and flat ones apart. A tree of activation branches has at
most A of them whatever the relaxation and the rule, so that there the left inequality says nothing of a relaxation, and
the right one holds with equality alone. M are k-relu and prima with k >= 2, m-K and p-R, and every intersection that
holds one of them; S are ibp, deeppoly, crown, alpha-crown, triangle, and k = 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...kernels.arithmetic import full_products
from ...kernels.deadline import TimeUp, moment, staged, until
from ...kernels.threads import threads_for
from ...problems.errors import BadInput
from ...problems.given import seconds
from ...problems.input_set import box
from ...problems.load import compare_on, load_network, load_property_for
from ...problems.network.graph import Graph
from ...problems.properties.handmade import polytope_of
from ...problems.properties.property import Polytope, Property, UnsafeSet
from ...problems.properties.specify import whole
from ...relaxations.protocol import AbstractRelaxation
from .comparison import Comparison, Measurement, compared
from .conventions import Conventions, check_network, check_relaxations
from .exact_goal import Exact, Notion, Outputs, goal_for, rows_of
from .grow import Bounder, grow
from .measured import Region
from .measures import measure_for
from .proper import PATIENCE, Judge, judged
from .smallest import smallest

if TYPE_CHECKING:
    from ..counting.patterns import PatternCount
    from .polyhedral import Checked, PolyhedralPartition

GROWING = 0.8  # share of its time that a tree grows; then its leaves are judged
GRACE = 0.5  # seconds beyond the limit, of all trees, to say something of each
INTERRUPTED = "interrupted: the trees that are missing were not grown"


@full_products()
@torch.no_grad()
def partition(
    network: str | Path | Graph | torch.nn.Module,
    input_set: Any,
    relaxations: Sequence[str | AbstractRelaxation] = ("triangle", "m-1"),
    *,
    exactness: str = "both",
    threshold: float | None = None,
    outputs: Outputs = None,
    pieces: str = "activation",
    branching: str = "all",
    intervals: str = "tight",
    tolerance: float = 1e-6,
    cells: str = "open",
    count: bool = True,
    convex: bool = False,
    case: int | None = None,
    timeout: float | None = None,
    backend: str = "highs",
    example_input: torch.Tensor | None = None,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Branch-and-bound trees until a bound is exact, one a relaxation and rule, beside A(f, X).

    `network` as for `partita.bound`; `relaxations`: names, or relaxations of your own. `input_set`: a `Polytope`,
    arrays (lower, upper), or a `Property` or its file (`case` picks one of several input sets). `exactness`: the
    exact min, max or both of the outputs, or threshold: each is at least `threshold`, or without one the property
    is proved. `outputs`: which ones, by number or name ([0, "Y_3"], "Y_0,Y_3"); "rows" for the property's rows
    instead; all by default. `pieces`: activation, input or polyhedral. `branching`: a rule (first, last, babsr,
    strong; for boxes widest, sensitivity, strong), `all` simple ones, or `optimal`.
    `intervals`: whether programs tighten every undecided pre-activation on every piece (tight), or take crown's.
    `timeout`: seconds in all, shared evenly by the trees and the count; what does not finish is a lower bound.
    `convex`: also find pieces that stay convex through every layer (`polyhedral`), and hold P_1 against the exact
    values on each.

    `progress` is told a sentence when a tree is grown. Ctrl-C ends the comparison with the trees that are: the last of
    its `notes` is then INTERRUPTED.

    Raises `BadInput` for networks that are not piecewise linear, unknown names, and goals that cannot be reached, and
    `TimeoutError` where nothing is measured by the timeout: the network or the exact values took all of it.
    """
    start, timeout = time.perf_counter(), seconds("timeout", timeout, 0)
    end = None if timeout is None else start + timeout
    check_relaxations(relaxations)
    notion = Notion(exactness, threshold, tolerance, backend)
    conventions = Conventions(notion, pieces, branching, intervals, cells)
    graph, inputs, unsafe = _read(network, example_input, input_set, case, end)
    graph = graph.to(torch.float64)
    exact = goal_for(graph, inputs, rows_of(graph, unsafe, outputs), notion, end)
    found: list[Measurement] = []
    notes: list[str] = []
    jobs = len(relaxations) * len(conventions.rules)
    patterns = _counted(graph, inputs, cells, _deadline(end, jobs + convex + 1)) if count else None
    judge = _judge(graph, inputs, patterns)
    pieces_5_3 = _convex(graph, inputs, _deadline(end, jobs + 1)) if convex else None
    tell = progress or (lambda _: None)
    if patterns is not None:
        tell(f"A(f, X) = {patterns} ({patterns.seconds:.2f} s)")
    try:
        with threads_for(graph.widest):
            for relaxation, name in zip(relaxations, map(str, relaxations), strict=True):
                try:
                    with until(moment(end)):
                        bounder = _bounder(graph, exact, inputs, relaxation, conventions)
                except TimeUp:
                    notes.append(f"{name}: the time limit passed before a tree was begun")
                    continue
                for rule in conventions.rules:
                    found.append(_measured(bounder, judge, name, rule, _deadline(end, jobs - len(found)), GRACE / jobs))
                    tell(f"{name}, {rule}: {found[-1].shown} proper leaves ({found[-1].seconds:.2f} s)")
                notes += [f"{name}: {note}" for note in bounder.measure.relaxation.notes]
    except KeyboardInterrupt:
        notes.append(INTERRUPTED)
    stated = (("rows", ", ".join(exact.rows)), *conventions.stated(relaxations))
    lemma = pieces != "input"
    judge.deadline = judge.deadline if end is None else end
    sides = () if patterns is None else tuple(compared(m, patterns.low, patterns.high, lemma) for m in found)
    measured = (patterns, tuple(found), sides, tuple(notes))
    closed = judge.closed_patterns() if lemma else None
    return Comparison(stated, exact.values, *measured, graph, inputs, time.perf_counter() - start, pieces_5_3, closed)


def _read(
    network: Any, example_input: torch.Tensor | None, input_set: Any, case: int | None, end: float | None
) -> tuple[Graph, Polytope, tuple[UnsafeSet, ...]]:
    """The network, an input polytope and its unsafe sets, read under the limit (of `time.perf_counter`)."""
    with until(moment(end)), staged() as stage:
        try:
            graph, original = load_network(network, example_input)
            check_network(graph)
            inputs, unsafe = _problem(graph, input_set, case)
            compare_on(original, [inputs])
        except TimeUp:
            raise TimeoutError(f"the time limit passed while {stage.text}: nothing is measured yet") from None
    return graph, inputs, unsafe


def _counted(graph: Graph, inputs: Polytope, cells: str, deadline: float | None) -> PatternCount:
    """A(f, X), first of all: an input set that has none is refused before any tree is grown."""
    from ..counting.patterns import count

    return count(graph, inputs, cells=cells, deadline=deadline)  # type: ignore[arg-type]


def _judge(graph: Graph, inputs: Polytope, patterns: PatternCount | None) -> Judge:
    """What says which leaves are proper: by the patterns where all of them are known."""
    known = None
    if patterns is not None and patterns.cells == "open" and patterns.finished and patterns.patterns is not None:
        bits = np.unpackbits(patterns.patterns, axis=1, count=graph.neurons, bitorder="little")
        known = bits.astype(bool)
    return Judge(graph, inputs, known)


def _convex(graph: Graph, inputs: Polytope, deadline: float | None) -> tuple[PolyhedralPartition, Checked]:
    """Proposition 5.3's pieces, found in half of the time that there is."""
    from .polyhedral import polyhedral_partition, verified

    half = None if deadline is None else max(0.0, deadline - time.perf_counter()) / 2
    found = polyhedral_partition(graph, inputs, timeout=half)
    return found, verified(graph, found.pieces, deadline=deadline)


def _bounder(graph: Graph, exact: Exact, inputs: Polytope, relaxation: Any, conventions: Conventions) -> Bounder:
    tight = conventions.intervals == "tight"
    measure = measure_for(graph, exact.goal, inputs, relaxation, tight, conventions.notion.backend)
    pieces = conventions.pieces
    return Bounder(graph, exact.goal, measure, measure.linear, Region(inputs), pieces)  # type: ignore[arg-type]


def _measured(
    bounder: Bounder, judge: Judge, name: str, rule: str, deadline: float | None, grace: float
) -> Measurement:
    start = time.perf_counter()
    # Leaves are judged in time of their own: a tree that fills its time is still worth a word on what it has.
    grown = None if deadline is None else start + GROWING * (deadline - start)
    judge.deadline = grown
    with until(moment(grown)):
        tree = smallest(bounder, judge, grown)[0] if rule == "optimal" else grow(bounder, rule, grown)
    judge.deadline = time.perf_counter() + PATIENCE if deadline is None else max(deadline, time.perf_counter() + grace)
    tree = judged(tree, judge)
    return Measurement(
        relaxation=name,
        neurons="multi" if bounder.measure.relaxation.joins else "single",
        branching=rule,
        leaves=len(tree.leaves),
        proper=max(tree.leaves_of("proper"), tree.proved),
        closed=tree.leaves_of("closed"),
        flat=tree.leaves_of("flat"),
        unproved_empty=tree.leaves_of("empty"),
        other=tree.leaves_of("other"),
        undecided=tree.leaves_of("undecided"),
        nodes=len(tree.pieces),
        empty=tree.number("empty"),
        stuck=tree.number("stuck"),
        depth=tree.depth,
        root_gap=max(0.0, tree.pieces[0].gap),
        finished=tree.finished,
        seconds=time.perf_counter() - start,
        tree=tree,
    )


def _deadline(end: float | None, jobs: int) -> float | None:
    """The next job's even share of what is left."""
    return None if end is None else time.perf_counter() + max(0.0, end - time.perf_counter()) / jobs


def _problem(graph: Graph, input_set: Any, case: int | None) -> tuple[Polytope, tuple[UnsafeSet, ...]]:
    """One input polytope, and the unsafe sets that go with it."""
    match input_set:
        case Polytope():
            found: list[tuple[Polytope, tuple[UnsafeSet, ...]]] = [(polytope_of(input_set, graph.input_size), ())]
        case Property() | str() | Path():
            found = [(c.inputs, c.unsafe) for c in load_property_for(graph, input_set).cases]
        case [lower, upper]:
            found = [(polytope_of(box(lower, upper), graph.input_size), ())]
        case _:
            raise BadInput("an input set is a Polytope, a Property or its file, or arrays (lower, upper)")
    if not found:
        raise BadInput("the property has no input set, so there is no partition of one")
    if case is None and len(found) > 1:
        raise BadInput(
            f"the property has {len(found)} input sets, and one is partitioned: take case=0 to {len(found) - 1}"
        )
    case = None if case is None else whole("case", case)
    if not 0 <= (case or 0) < len(found):
        raise BadInput(f"the property's input sets are case=0 to {len(found) - 1}, not {case}")
    inputs, unsafe = found[case or 0]
    if not (np.isfinite(inputs.lower).all() and np.isfinite(inputs.upper).all()):
        raise BadInput("a partition needs an input set with finite lower and upper bounds of every input")
    if inputs.empty:
        raise BadInput("the input set is empty: some lower bound exceeds its upper bound, so there is no partition")
    return inputs, tuple(unsafe)
