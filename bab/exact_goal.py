"""From an exactness notion to a `Goal`: what the bound of a measured tree has to reach.

    min          the exact minimum over X of every row
    max          the exact maximum
    both         both
    threshold    every row at least the threshold; of a property, one row of each unsafe set positive

The exact values come from the mixed-integer oracle (`relaxations.exact`): what is aimed at is the value that it
attains at a point. "Exact" then means that the least bound over all leaves is within `tolerance` of that value,
absolutely or relative to it, whichever is more; a tree that ends proves by itself that the value is exact.

A threshold that does not hold, or a property that is violated, has no partition that proves it: `BadInput`.
Soundness: targets are heuristic, values at points; that a tree reaches them is proved, and then they are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..problems.errors import BadInput
from ..problems.graph import Graph
from ..problems.property import Polytope, UnsafeSet
from ..relaxations.exact import boxes_from, feasible_unsafe
from ..relaxations.lp.boxes import Box
from ..relaxations.lp.model import Status
from ..relaxations.root import root
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
    _, pieces = root(graph, graph, torch.from_numpy(inputs.lower), torch.from_numpy(inputs.upper))
    oracle = _Oracle(graph, inputs, measured, backend, time_limit, boxes_from(graph, inputs, pieces, 0))
    if exactness == "threshold" and threshold is None:
        return _property(oracle)
    if exactness == "threshold":
        return _above(oracle, float(threshold))  # type: ignore[arg-type]
    signs = {"min": (1.0,), "max": (-1.0,), "both": (1.0, -1.0)}[exactness]
    rows, constants, on_input, targets, values = [], [], [], [], []
    for sign in signs:
        for r in range(len(measured.rows)):
            value = oracle.least(r, sign)
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
    boxes: list[Box]

    def least(self, r: int, sign: float) -> float:
        """The exact minimum of sign times a row."""
        m = self.measured
        on_input = None if m.on_input is None else sign * m.on_input[r : r + 1]
        what = f"the exact {'minimum' if sign > 0 else 'maximum'} of row {r}"
        return self.margin(UnsafeSet(sign * m.rows[r : r + 1], sign * m.constants[r : r + 1], on_input), what)

    def margin(self, unsafe: UnsafeSet, what: str) -> float:
        """The least margin of an unsafe set, as attained at a point."""
        options = {"backend": self.backend, "time_limit": self.time_limit, "bounds": list(self.boxes)}
        found = feasible_unsafe(self.graph, self.inputs, unsafe, **options)
        if np.isposinf(found.lower):
            raise BadInput("the input set is empty: its half-spaces leave nothing of its box, so there is no partition")
        if found.status is not Status.optimal or not np.isfinite(found.upper):
            raise BadInput(
                f"{what} was not found: the mixed-integer program ended between {found.lower:.9g} and "
                f"{found.upper:.9g}; take more time or a smaller input set"
            )
        return found.upper


def _property(oracle: _Oracle) -> Exact:
    """One row of each unsafe set positive."""
    m, groups, values, at = oracle.measured, [], [], 0
    if not m.unsafe:
        raise BadInput(
            "exactness=threshold needs a threshold, or a property whose unsafe sets say what is to be proved"
        )
    for k, unsafe in enumerate(m.unsafe):
        upper = oracle.margin(unsafe, f"the least margin of unsafe set {k}")
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
        least = oracle.least(r, 1.0)
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
