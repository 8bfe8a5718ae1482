"""From an exactness notion to a `Goal`: what the bound of a measured tree has to reach.

    min          the exact minimum over X of every row
    max          the exact maximum
    both         both
    threshold    every row at least the threshold; of a property, one row of each unsafe set positive

The exact values come from the mixed-integer oracle (`relaxations.exact`): what is aimed at is the value that it
attains at a point, and it must be within the tolerance of what it proves. "Exact" then means that the least bound over
all leaves is within `tolerance` of that value, absolutely or relative to it, whichever is more.

A threshold that does not hold, or a property that is violated, has no partition that proves it: `BadInput`.
Soundness: the targets trust the oracle (see there); that a tree reaches them is proved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..problems.errors import BadInput
from ..problems.graph import Graph
from ..problems.property import Polytope, UnsafeSet
from ..relaxations.exact import feasible_unsafe
from .measured import Array, Goal

NOTIONS = ("min", "max", "both", "threshold")
ABOVE = float(np.nextafter(0.0, 1.0))  # "positive" as a target


@dataclass(frozen=True, eq=False)
class Measured:
    """Rows rows f(x) + on_input x + constants that a comparison speaks of, and the unsafe sets they may come from."""

    rows: Array  # (R, n_out)
    constants: Array  # (R,)
    on_input: Array | None = None  # (R, D)
    unsafe: tuple[UnsafeSet, ...] = ()


@dataclass(frozen=True, eq=False)
class Exact:
    """A goal, and what its rows are in words with their exact values (name, value)."""

    goal: Goal
    values: tuple[tuple[str, float], ...]


def rows_of(graph: Graph, unsafe: Sequence[UnsafeSet]) -> Measured:
    """The rows of unsafe sets, each once; every output where there are none."""
    if not unsafe:
        return Measured(np.eye(graph.output_size), np.zeros(graph.output_size))
    rows, constants = np.concatenate([u.rows for u in unsafe]), np.concatenate([u.constants for u in unsafe])
    tied = any(u.on_input is not None for u in unsafe)
    inputs = [np.zeros((len(u.rows), graph.input_size)) if u.on_input is None else u.on_input for u in unsafe]
    return Measured(rows, constants, np.concatenate(inputs) if tied else None, tuple(unsafe))


def goal_for(
    graph: Graph,  # float64
    inputs: Polytope,
    measured: Measured,
    exactness: str,
    threshold: float | None,
    tolerance: float,
    backend: str = "highs",
    time_limit: float | None = None,
) -> Exact:
    """The goal of a notion; raises `BadInput` for one that cannot be reached or an exact value that is not found."""
    oracle = _Oracle(graph, inputs, measured, backend, time_limit)
    if exactness == "threshold" and threshold is None:
        return _property(oracle, tolerance)
    if exactness == "threshold":
        return _above(oracle, float(threshold))  # type: ignore[arg-type]
    signs = {"min": (1.0,), "max": (-1.0,), "both": (1.0, -1.0)}[exactness]
    rows, constants, on_input, targets, values = [], [], [], [], []
    for sign in signs:
        for r in range(len(measured.rows)):
            value = oracle.least(r, sign, tolerance)
            rows.append(sign * measured.rows[r])
            constants.append(sign * measured.constants[r])
            on_input.append(None if measured.on_input is None else sign * measured.on_input[r])
            targets.append(value)
            values.append((f"{'min' if sign > 0 else 'max'} of row {r}", sign * value))
    aims = np.array(targets)
    goal = Goal(
        np.array(rows),
        np.array(constants),
        aims,
        tolerance * np.maximum(1.0, np.abs(aims)),
        tuple((r,) for r in range(len(rows))),
        None if measured.on_input is None else np.array(on_input),
    )
    return Exact(goal, tuple(values))


@dataclass(frozen=True, eq=False)
class _Oracle:
    graph: Graph
    inputs: Polytope
    measured: Measured
    backend: str
    time_limit: float | None

    def least(self, r: int, sign: float, tolerance: float) -> float:
        """The exact minimum of sign times a row."""
        m = self.measured
        on_input = None if m.on_input is None else sign * m.on_input[r : r + 1]
        lower, upper = self.margin(UnsafeSet(sign * m.rows[r : r + 1], sign * m.constants[r : r + 1], on_input))
        if not upper - lower <= tolerance * max(1.0, abs(upper)):
            raise BadInput(
                f"the exact {'minimum' if sign > 0 else 'maximum'} of row {r} was not found within the tolerance: the "
                f"mixed-integer program ended between {lower:.9g} and {upper:.9g}; take more time or fewer inputs"
            )
        return upper

    def margin(self, unsafe: UnsafeSet) -> tuple[float, float]:
        found = feasible_unsafe(self.graph, self.inputs, unsafe, backend=self.backend, time_limit=self.time_limit)
        if np.isposinf(found.lower):
            raise BadInput("the input set is empty: its half-spaces leave nothing of its box, so there is no partition")
        return found.lower, found.upper


def _property(oracle: _Oracle, tolerance: float) -> Exact:
    """One row of each unsafe set positive."""
    m, groups, values, at = oracle.measured, [], [], 0
    if not m.unsafe:
        raise BadInput(
            "exactness=threshold needs a threshold, or a property whose unsafe sets say what is to be proved"
        )
    for k, unsafe in enumerate(m.unsafe):
        _, upper = oracle.margin(unsafe)
        if upper <= 0:
            raise BadInput(
                f"the property is violated: unsafe set {k} is reached with margin {upper:.6g}, so no partition proves "
                "it; take exactness=min, max or both"
            )
        values.append((f"least margin of unsafe set {k}", upper))
        groups.append(tuple(range(at, at + len(unsafe.rows))))
        at += len(unsafe.rows)
    aims = np.full(at, ABOVE)
    return Exact(Goal(m.rows, m.constants, aims, np.zeros(at), tuple(groups), m.on_input), tuple(values))


def _above(oracle: _Oracle, threshold: float) -> Exact:
    """Every row at least the threshold."""
    m, values = oracle.measured, []
    for r in range(len(m.rows)):
        least = oracle.least(r, 1.0, 1e-6)
        if least < threshold:
            raise BadInput(
                f"the threshold {threshold:g} does not hold: row {r} is {least:.9g} at some input, so no partition "
                "proves it; take a lower one"
            )
        values.append((f"min of row {r}", least))
    count = len(m.rows)
    groups = tuple((r,) for r in range(count))
    return Exact(
        Goal(m.rows, m.constants, np.full(count, threshold), np.zeros(count), groups, m.on_input), tuple(values)
    )
