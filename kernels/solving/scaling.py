"""Powers of two that bring the coefficients of a program together.

min c x, L <= A x <= U, l <= x <= u becomes, with x = C x' and diagonal R and C, the program of R A C, C c 2^-e, R L,
R U, l / C, u / C. Rows and columns are divided in turn by the geometric mean of their largest and smallest entry
(Fourer 1982; Curtis and Reid 1972 for the idea), rounded to a power of two, and the cost by its largest entry's. Every
product with a power of two is exact while it stays within the range of float64; where it does not, the solver sees
another number, which costs tightness: what it answers is judged on the program as it was. Back: x = C x', y = R y' 2^e.

Soundness: exact within the range of float64; heuristic beyond, and nothing relies on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Exponents = NDArray[np.int32]
PASSES = 4
MOST = 400  # the largest exponent in use, so that products of two stay in range


@dataclass(frozen=True, eq=False)
class Scaling:
    """Exponents of two: of the rows, of the columns, of the cost."""

    rows: Exponents  # (R,)
    columns: Exponents  # (V,)
    cost: int = 0

    def coefficients(self, data: Array, row: NDArray[np.integer], column: NDArray[np.integer]) -> Array:
        """Entries of the scaled matrix, (nnz,)."""
        return np.ldexp(np.ldexp(data, self.rows[row]), self.columns[column])

    def costs(self, cost: Array) -> Array:
        return np.ldexp(np.ldexp(cost, self.columns), -self.cost)

    def bounds(self, side: Array) -> Array:
        return np.ldexp(side, -self.columns)

    def sides(self, side: Array) -> Array:
        return np.ldexp(side, self.rows)

    def point(self, x: Array) -> Array:
        """The original variables."""
        return np.ldexp(x, self.columns)

    def multipliers(self, dual: Array) -> Array:
        """Multipliers of the original rows under the original cost."""
        return np.ldexp(np.ldexp(dual, self.rows), self.cost)

    def value(self, objective: float) -> float:
        return float(np.ldexp(objective, self.cost))


def cost_exponent(cost: Array) -> int:
    """The exponent of the largest cost, 0 without one."""
    largest = float(np.abs(cost).max(initial=0.0))
    return int(np.clip(np.frexp(largest)[1], -MOST, MOST)) if largest else 0


def identity(rows: int, columns: int) -> Scaling:
    """No scaling."""
    return Scaling(np.zeros(rows, np.int32), np.zeros(columns, np.int32))


def equilibrated(
    data: Array,  # (nnz,)
    row: NDArray[np.integer],  # (nnz,)
    column: NDArray[np.integer],  # (nnz,)
    shape: tuple[int, int],
) -> Scaling:
    """Exponents for a matrix of these entries."""
    some = (data != 0) & np.isfinite(data)
    size, row, column = np.log2(np.abs(data[some])), row[some], column[some]
    r, c = np.zeros(shape[0]), np.zeros(shape[1])
    for _ in range(PASSES):
        r -= _middle(size + r[row] + c[column], row, shape[0])
        c -= _middle(size + r[row] + c[column], column, shape[1])
    rows, columns = (np.clip(np.rint(part), -MOST, MOST).astype(np.int32) for part in (r, c))
    return Scaling(rows, columns)


def _middle(size: Array, line: NDArray[np.integer], count: int) -> Array:
    """The mean of the largest and the smallest exponent of every line, 0 where it has no entry."""
    high, low = np.full(count, -np.inf), np.full(count, np.inf)
    np.maximum.at(high, line, size)
    np.minimum.at(low, line, size)
    some = np.isfinite(high)
    return np.where(some, (np.where(some, high, 0.0) + np.where(some, low, 0.0)) / 2, 0.0)
