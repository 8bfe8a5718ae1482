"""From an exactness notion to a `Goal`: what the bound of a measured tree has to reach.

    min          the exact minimum over X of every row
    max          the exact maximum
    both         both
    threshold    every row at least the threshold; without one, of a property one row of each unsafe set positive,
                 or not negative where it is strict

Rows are the named outputs, all of them where none is named: a property gives the input set alone. Only `rows` speaks of
the property's own rows, which are margins, with signs and sides of their own. Every row has its formula in words.

The exact values come from the mixed-integer oracle (`ladder.exact`): what is aimed at is the value that it
attains at a point. "Exact" then means that the least bound over all leaves is within `tolerance` of that value,
absolutely or relative to it, whichever is more; a tree that ends proves by itself that the value is exact.

A threshold that does not hold, or a property that is violated, has no partition that proves it: `BadInput` where the
oracle finds that out in a short time. Where it does not, trees are grown all the same, and end `stuck` or not at all.
Soundness: targets are heuristic, values at points; that a tree reaches them is proved, and then they are exact.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...kernels.deadline import TimeUp, moment, until
from ...problems.errors import BadInput
from ...problems.network.graph import Graph
from ...problems.properties.property import Polytope, UnsafeSet
from ...relaxations.ladder.exact import ExactResult, boxes_from, feasible_unsafe
from ...relaxations.linear.root import root
from ...relaxations.lp.boxes import Box
from ...relaxations.lp.model import Status
from ...relaxations.protocol import Means
from .measured import Array, Goal

NOTIONS = ("min", "max", "both", "threshold")
BRIEF = 5.0  # seconds in which a threshold may turn out not to hold
ABOVE = float(np.nextafter(0.0, 1.0))  # "positive" as a target
TERMS = 6  # of a formula in words
Outputs = str | Sequence[int | str] | None  # "all", "rows", names or numbers of outputs


@dataclass(frozen=True)
class Notion:
    """What "exact" means, one of `NOTIONS`, how near is near enough, and which solver says what is exact."""

    exactness: str = "both"
    threshold: float | None = None
    tolerance: float = 1e-6  # absolute, or of the value, whichever is more
    backend: str = "highs"


@dataclass(frozen=True, eq=False)
class Measured:
    """Rows rows f(x) + on_input x + constants that a comparison speaks of, and the property's unsafe sets."""

    rows: Array  # (R, n_out)
    constants: Array  # (R,)
    on_input: Array | None = None  # (R, D)
    unsafe: tuple[UnsafeSet, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Each row's formula."""
        none: list[Array | None] = [None] * len(self.rows)
        inputs = none if self.on_input is None else list(self.on_input)
        return tuple(formula(*row) for row in zip(self.rows, self.constants, inputs, strict=True))


@dataclass(frozen=True, eq=False)
class Exact:
    """A goal, and what its rows are in words with their exact values (name, value)."""

    goal: Goal
    values: tuple[tuple[str, float], ...]
    rows: tuple[str, ...]  # their formulas


def rows_of(graph: Graph, unsafe: Sequence[UnsafeSet], outputs: Outputs = None) -> Measured:
    """The named outputs as rows, or the rows of unsafe sets. `BadInput` for names of no output."""
    if isinstance(outputs, str) and outputs.strip() == "rows":
        if not unsafe:
            raise BadInput("outputs=rows speaks of the property's rows, and there are none: name outputs, such as Y_0")
        return _rows(graph, unsafe)
    chosen = _chosen(graph, outputs)
    return Measured(np.eye(graph.output_size)[chosen], np.zeros(len(chosen)), None, tuple(unsafe))


def _rows(graph: Graph, unsafe: Sequence[UnsafeSet]) -> Measured:
    rows, constants = np.concatenate([u.rows for u in unsafe]), np.concatenate([u.constants for u in unsafe])
    tied = any(u.on_input is not None for u in unsafe)
    inputs = [np.zeros((len(u.rows), graph.input_size)) if u.on_input is None else u.on_input for u in unsafe]
    return Measured(rows, constants, np.concatenate(inputs) if tied else None, tuple(unsafe))


def _chosen(graph: Graph, outputs: Outputs) -> list[int]:
    """The numbers of the named outputs, each once, in the order they are named."""
    if outputs is None or (isinstance(outputs, str) and outputs.strip() == "all"):
        return list(range(graph.output_size))
    names = outputs.split(",") if isinstance(outputs, str) else outputs
    if isinstance(names, int | np.integer) or not len(names):
        raise BadInput("outputs is a list of outputs, at least one, such as ['Y_0'], or 'all' or 'rows'")
    found: dict[int, None] = {}
    for name in names:
        text = str(name).strip()
        number = re.fullmatch(r"(?:Y_)?([0-9]+)", text, re.ASCII)
        if number is None or int(number[1]) >= graph.output_size:
            last = graph.output_size - 1
            raise BadInput(
                f"there is no output '{text}': the network's outputs are Y_0{f' to Y_{last}' if last else ''}, or all"
            )
        found[int(number[1])] = None
    return list(found)


def formula(row: Array, constant: float, on_input: Array | None = None) -> str:
    """A row in words, such as `Y_0 - 2 Y_3 + 0.5`."""
    terms = [(float(v), f"Y_{i}") for i, v in enumerate(row) if v]
    terms += [(float(v), f"X_{i}") for i, v in enumerate(on_input if on_input is not None else ()) if v]
    text = ""
    for k, (v, name) in enumerate(terms[:TERMS]):
        sign = ("-" if v < 0 else "") if k == 0 else (" - " if v < 0 else " + ")
        text += sign + ("" if abs(v) == 1 else f"{abs(v):g} ") + name
    if len(terms) > TERMS:
        text += f" + .. ({len(terms)} terms)"
    if constant or not terms:
        text += (" - " if constant < 0 else " + ") + f"{abs(constant):g}" if terms else f"{constant:g}"
    return text


def goal_for(
    graph: Graph,  # float64
    inputs: Polytope,
    measured: Measured,
    notion: Notion,
    deadline: float | None = None,
) -> Exact:
    """The goal of a notion. Raises `BadInput` for one that cannot be reached, and `TimeoutError` where an exact value
    is not found before `deadline` (of `time.perf_counter`)."""
    try:
        with until(moment(deadline)):
            return _goal(graph, inputs, measured, notion, deadline)
    except TimeUp:
        raise TimeoutError(
            "the time limit passed while the exact values were sought: nothing is measured yet; take more time, a "
            "smaller input set, or exactness=threshold"
        ) from None


def _goal(graph: Graph, inputs: Polytope, measured: Measured, notion: Notion, deadline: float | None) -> Exact:
    _, pieces = root(graph, torch.from_numpy(inputs.lower), torch.from_numpy(inputs.upper))
    oracle = _Oracle(graph, inputs, measured, notion.backend, deadline, boxes_from(graph, inputs, pieces, 0))
    if notion.exactness == "threshold":
        return _property(oracle) if notion.threshold is None else _above(oracle, float(notion.threshold))
    signs = {"min": (1.0,), "max": (-1.0,), "both": (1.0, -1.0)}[notion.exactness]
    rows, constants, on_input, targets, values = [], [], [], [], []
    for sign in signs:
        for r in range(len(measured.rows)):
            value = oracle.least(r, sign)
            rows.append(sign * measured.rows[r])
            constants.append(sign * measured.constants[r])
            on_input.append(None if measured.on_input is None else sign * measured.on_input[r])
            targets.append(value)
            values.append((f"{'min' if sign > 0 else 'max'} of {measured.names[r]}", sign * value + 0.0))
    aims = np.array(targets)
    goal = Goal(
        np.array(rows),
        np.array(constants),
        aims,
        notion.tolerance * np.maximum(1.0, np.abs(aims)),
        tuple((r,) for r in range(len(rows))),
        None if measured.on_input is None else np.array(on_input),
    )
    return Exact(goal, tuple(values), measured.names)


@dataclass(frozen=True, eq=False)
class _Oracle:
    graph: Graph
    inputs: Polytope
    measured: Measured
    backend: str
    deadline: float | None
    boxes: list[Box]

    def least(self, r: int, sign: float) -> float:
        """The exact minimum of sign times a row, as attained at a point; `BadInput` where it is not found, and
        `TimeoutError` where its time did not suffice."""
        m = self.measured
        what = f"the exact {'minimum' if sign > 0 else 'maximum'} of {m.names[r]}"
        on_input = None if m.on_input is None else sign * m.on_input[r : r + 1]
        found = self.margin(UnsafeSet(sign * m.rows[r : r + 1], sign * m.constants[r : r + 1], on_input))
        if found.status is not Status.optimal or not np.isfinite(found.upper):
            raise (TimeoutError if found.status is Status.limit and self.deadline is not None else BadInput)(
                f"{what} was not found: the mixed-integer program ended between {found.lower:.9g} and "
                f"{found.upper:.9g}; take more time, a smaller input set, or exactness=threshold"
            )
        return found.upper

    def margin(self, unsafe: UnsafeSet, most: float | None = None) -> ExactResult:
        """The least margin of an unsafe set, in half of the time that is left and no more than `most` seconds."""
        left = None if self.deadline is None else max(0.1, (self.deadline - time.perf_counter()) / 2)
        limit = min((s for s in (left, most) if s is not None), default=None)
        bounds = list(self.boxes)
        means = Means(backend=self.backend, time_limit=limit)
        found = feasible_unsafe(self.graph, self.inputs, unsafe, means=means, bounds=bounds)
        if np.isposinf(found.lower):
            raise BadInput("the input set is empty: its half-spaces leave nothing of its box, so there is no partition")
        return found


def _property(oracle: _Oracle) -> Exact:
    """One row of each unsafe set positive, or zero where it is strict."""
    if not oracle.measured.unsafe:
        raise BadInput(
            "exactness=threshold needs a threshold, or a property whose unsafe sets say what is to be proved"
        )
    m, groups, values, at = _rows(oracle.graph, oracle.measured.unsafe), [], [], 0
    for k, unsafe in enumerate(m.unsafe):
        found = oracle.margin(unsafe, BRIEF)
        if found.attained:
            raise BadInput(
                f"the property is violated: unsafe set {k} is reached with margin {found.upper:.6g}, so no partition "
                "proves it; take exactness=min, max or both"
            )
        values.append(_said(f"least margin of unsafe set {k}", found))
        groups.append(tuple(range(at, at + len(unsafe.rows))))
        at += len(unsafe.rows)
    aims = np.where(np.concatenate([unsafe.strict for unsafe in m.unsafe]), 0.0, ABOVE)
    constants = m.constants - _lost(oracle, m.unsafe)
    return Exact(Goal(m.rows, constants, aims, np.zeros(at), tuple(groups), m.on_input), tuple(values), m.names)


def _lost(oracle: _Oracle, unsafe: Sequence[UnsafeSet]) -> Array:  # (R,)
    """How far the float64 rows can be off the exact ones on the input set; rounded up, the subtraction counted."""
    found = []
    for one in unsafe:
        reach = [torch.maximum(*(side.abs() for side in oracle.boxes[i])).numpy() for i in (0, oracle.graph.output)]
        off = np.zeros(len(one.rows)) if one.lost is None else one.lost.most(*reach)
        found.append(np.where(off > 0, off + np.spacing(np.abs(one.constants) + off), 0.0))
    return np.concatenate(found)


def _above(oracle: _Oracle, threshold: float) -> Exact:
    """Every row at least the threshold."""
    m, values = oracle.measured, []
    for r in range(len(m.rows)):
        on_input = None if m.on_input is None else m.on_input[r : r + 1]
        found = oracle.margin(UnsafeSet(m.rows[r : r + 1], m.constants[r : r + 1], on_input), BRIEF)
        if found.x is not None and found.upper < threshold:
            raise BadInput(
                f"the threshold {threshold:g} does not hold: {m.names[r]} is {found.upper:.9g} at some input, so no "
                "partition proves it; take a lower one"
            )
        values.append(_said(f"min of {m.names[r]}", found))
    aims = np.full(len(m.rows), threshold)
    groups = tuple((r,) for r in range(len(aims)))
    return Exact(Goal(m.rows, m.constants, aims, np.zeros(len(aims)), groups, m.on_input), tuple(values), m.names)


def _said(what: str, found: ExactResult) -> tuple[str, float]:
    """A value with its name: the exact one, or what is proved of it where that is not known yet."""
    sure = found.status is Status.optimal and np.isfinite(found.upper)
    return (what, found.upper) if sure else (f"{what}, not known but at least", found.lower)
