"""The row above a point of the graph of one ReLU over a polytope: its concave envelope, by its two phases.

Over a polytope K, the largest y - a z = (1 - a) max(0, z) that the hull of the graph allows at v is the optimum of

    max (1 - a) z(w+)   with   v = v(w+) + v(w-),   w+ in t K, z(w+) >= 0,   w- in (1 - t) K, z(w-) <= 0,

and the multipliers of the equation for v are the slope of a row that holds on all of K and touches there.
Soundness: outward rounded. The slope may be anything; its offset comes from the safe bounds of two linear programs,
one a phase.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from .backends import backend as backend_of
from .disjunction import Alternative, add_hull
from .model import Array, LinearModel
from .objectives import session
from .program import Index, Program

NEAR = 1e-8  # relative to a variable's range


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


def envelope(
    known: LinearModel, columns: Index, z: int, inputs: Index, slope: float, value: Array, backend: str = "highs"
) -> tuple[Array, float] | None:
    """Coefficients (V,) and offset of y - a z <= coefficients v + offset, the tightest at v = `value` (V,).

    K is `known`, whose variables are the `columns` (sorted; `z` and `inputs` among them) of the program. None where
    the solver fails or the value lies outside K.
    """
    at, v = int(np.searchsorted(columns, z)), np.searchsorted(columns, inputs)
    phases = []
    for sign in (1, -1):
        lower, upper = known.lower.copy(), known.upper.copy()
        (lower if sign > 0 else upper)[at] = 0.0
        phases.append((lower, upper))
    if any((low > high).any() for low, high in phases):
        return None
    coefficients = _slope(known, phases, at, v, slope, value, backend)
    if coefficients is None:
        return None
    programs, offset = session(known, backend), -np.inf
    for (lower, upper), gain in zip(phases, (1.0 - slope, 0.0), strict=True):
        programs.set_bounds(lower, upper)
        cost = np.zeros(len(columns))
        np.add.at(cost, v, coefficients)
        cost[at] -= gain * (1 + 4 * np.finfo(float).eps * np.sign(gain))
        offset = max(offset, -programs.minimise(cost).bound_safe)
    return (coefficients, offset) if np.isfinite(offset) else None


def _slope(
    known: LinearModel,
    phases: Sequence[tuple[Array, Array]],
    at: int,
    v: Index,
    slope: float,
    value: Array,
    backend: str,
) -> Array | None:
    """The envelope's slope at the value."""
    program = Program()
    spare = NEAR * (known.upper[v] - known.lower[v])  # the value satisfies the rows of K within tolerances only
    tied = program.append(value - spare, value + spare)
    size, target = len(known.cost), program.append(np.zeros(1), np.maximum(known.upper[at : at + 1], 0.0))
    unit = csr_array((np.ones(len(v)), (np.arange(len(v)), v)), (len(v) + 1, size))
    alternatives = []
    for (lower, upper), gain in zip(phases, (1.0 - slope, 0.0), strict=True):
        last = csr_array((np.array([gain]), (np.array([len(v)]), np.array([at]))), (len(v) + 1, size))
        alternatives.append(Alternative(lower, upper, csr_array(unit + last)))
    add_hull(program, known, alternatives, np.append(tied, target))
    whole = program.model()
    cost = np.zeros(whole.matrix.shape[1])
    cost[target] = -1.0
    answer = backend_of(backend)(whole.with_objective(cost))
    if answer.x is None or answer.dual is None:
        return None
    rows = whole.matrix.shape[0] - 1 - (len(v) + 1) + np.arange(len(v))
    return -np.asarray(answer.dual)[rows]
