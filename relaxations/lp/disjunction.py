"""The convex hull of a union of polytopes, in more variables (Balas 1979; 1998), and the union a ReLU network is.

For bounded polytopes P_s = {w : A w in [b, c], w in [l_s, u_s]}, a point v lies in the hull of the union of their
images T_s P_s exactly if there are weights and scaled points with

    v = sum_s T_s w_s,   1 = sum_s t_s,   t_s >= 0,   A w_s in t_s [b, c],   w_s in t_s [l_s, u_s].

Here one polytope is one sign pattern of some ReLUs, and all share their matrix: a decided neuron only cuts bounds, that
of its pre-activation, and those of the slacks of y - z >= 0 and y - a z >= 0, one of which it makes an equation. So an
`Alternative` is a box of variables. `patterns` finds those that are not empty by branching on one neuron after another,
two linear programs a node: a side is dropped only where a dual vector proves that nothing of it is left.

Soundness: outward rounded. Coefficients are those of the program itself, its stored sides are scaled exactly (t_s times
a side is a coefficient, not a product that is rounded), and dropped patterns are proved empty, so every point that the
network takes is in the hull with weight one on its own pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from .model import Array, LinearModel
from .objectives import Sessions, least
from .program import Index, Program


@dataclass(frozen=True, eq=False)
class Alternative:
    """One polytope of the union: a box of the local variables, and the linear map to what is tied."""

    lower: Array  # (V,)
    upper: Array  # (V,)
    tie: csr_array  # (T, V)


@dataclass(frozen=True, eq=False)
class Branch:
    """An undecided neuron in local terms: its pre-activation, and the slacks of its two lower rows (-1: none)."""

    z: int
    above: int = -1  # of y - z >= 0
    below: int = -1  # of y - a z >= 0


class TooMany(Exception):
    """More patterns than are allowed."""


def add_hull(program: Program, model: LinearModel, alternatives: Sequence[Alternative], tied: Index) -> None:
    """Ties the program's variables `tied` (T,) to the hull of the alternatives, all over the rows of `model` (R, V)."""
    weights = program.append(np.zeros(len(alternatives)), np.ones(len(alternatives)))
    sums = []
    for alternative, weight in zip(alternatives, weights, strict=True):
        columns, kept = _scaled_copy(program, model, alternative, weight)
        sums.append((csr_array(alternative.tie[:, kept]), columns))
    zero = np.zeros(len(tied))
    minus = csr_array((-np.ones(len(tied)), (np.arange(len(tied)), np.arange(len(tied)))))
    program.add_matrix([(minus, tied), *sums], zero, zero)
    program.add_matrix([(csr_array(np.ones((1, len(weights)))), weights)], np.ones(1), np.ones(1))


def _scaled_copy(program: Program, model: LinearModel, box: Alternative, weight: int) -> tuple[Index, Index]:
    """Variables w with A w in t [b, c] and w in t [l, u]: their columns, and which of the model's they stand for."""
    kept = np.flatnonzero((box.lower != 0) | (box.upper != 0))
    lower, upper = box.lower[kept], box.upper[kept]
    columns = program.append(np.minimum(lower, 0.0), np.maximum(upper, 0.0))
    matrix = csr_array(model.matrix[:, kept])
    lasting = np.diff(matrix.indptr) > 0
    at = np.array([weight])
    equal = lasting & (model.row_lower == model.row_upper)
    below = lasting & ~equal & np.isfinite(model.row_lower)
    above = lasting & ~equal & np.isfinite(model.row_upper)
    for rows, side, low, high in (
        (equal, model.row_lower, 0.0, 0.0),
        (below, model.row_lower, 0.0, np.inf),
        (above, model.row_upper, -np.inf, 0.0),
    ):
        scaled = csr_array(-side[rows][:, None])
        sides = (np.full(scaled.shape[0], end) for end in (low, high))
        program.add_matrix([(csr_array(matrix[rows]), columns), (scaled, at)], *sides)
    for side, low, high in ((lower, 0.0, np.inf), (upper, -np.inf, 0.0)):
        some = side != 0
        repeated = np.full(int(some.sum()), weight)
        program.add([columns[some], repeated], [1.0, -side[some]], low, high)
    return columns, kept


def patterns(
    model: LinearModel, branches: Sequence[Branch], most: int, sessions: Sessions
) -> list[tuple[Array, Array, tuple[int, ...]]]:
    """The sign patterns of the branches that leave something of the model: box of variables (V,), (V,), and signs.

    Signs are +1 active and -1 inactive; a neuron that is zero everywhere is inactive. Raises `TooMany`.
    """
    programs = sessions(model)
    found: list[tuple[Array, Array, tuple[int, ...]]] = []
    open_: list[tuple[Array, Array, tuple[int, ...]]] = [(model.lower, model.upper, ())]
    while open_:
        lower, upper, signs = open_.pop()
        if len(signs) == len(branches):
            found.append((lower, upper, signs))
            if len(found) > most:
                raise TooMany
            continue
        branch = branches[len(signs)]
        programs.set_bounds(lower, upper)
        low = least(programs, branch.z)
        high = -least(programs, branch.z, -1.0)
        if low == np.inf or high == -np.inf:
            continue
        for sign in (-1, 1):
            if (high > 0 and sign > 0) or (low < 0 and sign < 0) or low == high == 0 == sign + 1:
                open_.append((*_decided(lower, upper, branch, sign), (*signs, sign)))
    return found


def _decided(lower: Array, upper: Array, branch: Branch, sign: int) -> tuple[Array, Array]:
    """The box with one neuron decided."""
    lower, upper = lower.copy(), upper.copy()
    side, slack = (lower, branch.above) if sign > 0 else (upper, branch.below)
    side[branch.z] = 0.0
    if slack >= 0:
        lower[slack] = upper[slack] = 0.0
    return lower, upper
