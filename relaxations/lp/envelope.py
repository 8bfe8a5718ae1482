"""The row above a point of the graph of one ReLU over a polytope: its concave envelope, by its two phases.

Over a polytope K, the largest y - a z = (1 - a) max(0, z) that the hull of the graph allows at v is the optimum of

    max (1 - a) z(w+)   with   v = v(w+) + v(w-),   w+ in t K, z(w+) >= 0,   w- in (1 - t) K, z(w-) <= 0,

and the multipliers of the equation for v are the slope of a row that holds on all of K and touches there.
Soundness: outward rounded. The slope may be anything; its offset comes from the safe bounds of two linear programs,
one a phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from .disjunction import Alternative, add_hull
from .model import Array, LinearModel
from .objectives import Sessions
from .program import Index, Program


@dataclass(frozen=True, eq=False)
class Above:
    """Where the row of a neuron is wanted: its pre-activation and what that reads, columns of the program, the slope a
    of max(z, a z), the inputs' value (V,), and the share of their ranges by which that may leave K (a solver satisfies
    rows within tolerances only)."""

    z: int
    inputs: Index
    slope: float
    value: Array
    near: float


def over(model: LinearModel, columns: Index) -> tuple[LinearModel, Index]:
    """The rows of a model that speak of these (sorted) columns alone, and their bounds: no less than its projection.
    Returns it with its columns."""
    outside = np.ones(model.matrix.shape[1])
    outside[columns] = 0
    alone = ((model.columns.absolute.T @ outside) == 0) & (np.diff(model.matrix.indptr) > 0)
    rows = np.flatnonzero(alone)
    local = LinearModel(
        np.zeros(len(columns)),
        model.lower[columns],
        model.upper[columns],
        csr_array(model.matrix[rows][:, columns]),
        model.row_lower[rows],
        model.row_upper[rows],
    )
    return local, columns


def envelope(known: LinearModel, columns: Index, above: Above, sessions: Sessions) -> tuple[Array, float] | None:
    """Coefficients (V,) and offset of y - a z <= coefficients v + offset, the tightest at the value of `above`.

    K is `known`, whose variables are the `columns` (sorted; those of `above` among them) of the program. None where
    the solver fails or the value lies outside K.
    """
    at, v = int(np.searchsorted(columns, above.z)), np.searchsorted(columns, above.inputs)
    phases = []
    for sign in (1, -1):
        lower, upper = known.lower.copy(), known.upper.copy()
        (lower if sign > 0 else upper)[at] = 0.0
        phases.append((lower, upper))
    if any((low > high).any() for low, high in phases):
        return None
    coefficients = _slope(known, phases, (at, v), above, sessions)
    if coefficients is None:
        return None
    programs, offset = sessions(known), -np.inf
    for (lower, upper), gain in zip(phases, (1.0 - above.slope, 0.0), strict=True):
        programs.set_bounds(lower, upper)
        cost = np.zeros(len(columns))
        np.add.at(cost, v, coefficients)
        cost[at] -= gain * (1 + 4 * np.finfo(float).eps * np.sign(gain))
        offset = max(offset, -programs.minimise(cost).bound_safe)
    return (coefficients, offset) if np.isfinite(offset) else None


def _slope(
    known: LinearModel,
    phases: Sequence[tuple[Array, Array]],
    columns: tuple[int, Index],  # of z and of the inputs in `known`
    above: Above,
    sessions: Sessions,
) -> Array | None:
    """The envelope's slope at the value."""
    (at, v), program = columns, Program()
    spare = above.near * (known.upper[v] - known.lower[v])
    tied = program.append(above.value - spare, above.value + spare)
    size, target = len(known.cost), program.append(np.zeros(1), np.maximum(known.upper[at : at + 1], 0.0))
    unit = csr_array((np.ones(len(v)), (np.arange(len(v)), v)), (len(v) + 1, size))
    alternatives = []
    for (lower, upper), gain in zip(phases, (1.0 - above.slope, 0.0), strict=True):
        last = csr_array((np.array([gain]), (np.array([len(v)]), np.array([at]))), (len(v) + 1, size))
        alternatives.append(Alternative(lower, upper, csr_array(unit + last)))
    add_hull(program, known, alternatives, np.append(tied, target))
    whole = program.model()
    cost = np.zeros(whole.matrix.shape[1])
    cost[target] = -1.0
    answer = sessions(whole).minimise(cost)
    if answer.x is None or answer.dual is None:
        return None
    rows = whole.matrix.shape[0] - 1 - (len(v) + 1) + np.arange(len(v))
    return -np.asarray(answer.dual)[rows]
