"""A linear program under construction: variables with finite bounds, rows in blocks, a `LinearModel` at the end.

Nodes of a network, hulls of disjunctions and cutting planes all append to one program. A `LinearModel` never changes;
this is the only place where one grows. Soundness: exact; nothing is computed here but sums of sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from .model import Array, LinearModel

Index = NDArray[np.int64]


@dataclass
class Program:
    """Variables and rows so far; bounds of variables may be cut later, in place."""

    lower: Array = field(default_factory=lambda: np.zeros(0))  # (V,)
    upper: Array = field(default_factory=lambda: np.zeros(0))  # (V,)
    rows: int = 0
    _sides: list[tuple[Array, Array]] = field(default_factory=list)
    _entries: list[tuple[Index, Index, Array]] = field(default_factory=list)  # row, column, coefficient

    @property
    def variables(self) -> int:
        return len(self.lower)

    @property
    def coefficients(self) -> int:
        """How many entries the rows have."""
        return sum(len(entry[0]) for entry in self._entries)

    def append(self, lower: Array, upper: Array) -> Index:
        """New variables with these bounds; returns their columns."""
        start = self.variables
        self.lower, self.upper = np.append(self.lower, lower), np.append(self.upper, upper)
        return np.arange(start, self.variables)

    def add(
        self, columns: list[Index], coefficients: Sequence[Array | float], low: Array | float, high: Array | float
    ) -> None:
        """One row for each entry of the column arrays: low <= sum_k coefficients[k] x[columns[k]] <= high."""
        n = len(columns[0])
        at = self.rows + np.arange(n)
        for column, coefficient in zip(columns, coefficients, strict=True):
            self._entries.append((at, column, np.broadcast_to(np.asarray(coefficient, dtype=float), n)))
        self._close(np.broadcast_to(low, n), np.broadcast_to(high, n))

    def add_matrix(self, parts: list[tuple[csr_array, Index]], low: Array, high: Array) -> None:
        """A block of rows: the sum of matrices, each applied to the variables in its own columns."""
        for matrix, columns in parts:
            coo = matrix.tocoo()
            self._entries.append((self.rows + coo.coords[0], columns[coo.coords[1]], coo.data))
        self._close(np.asarray(low), np.asarray(high))

    def _close(self, low: Array, high: Array) -> None:
        self._sides.append((low.astype(float), high.astype(float)))
        self.rows += len(low)

    def model(self, integer: Index | None = None) -> LinearModel:
        """What stands here now, with the objective zero; `integer` are the columns of integer variables."""
        self._pack()
        rows, columns, data = self._entries[0]
        matrix = coo_array((data, (rows, columns)), (self.rows, self.variables)).tocsr()
        whole = None
        if integer is not None and len(integer):
            whole = np.zeros(self.variables, bool)
            whole[integer] = True
        low, high = (side.copy() for side in self._sides[0])
        return LinearModel(
            np.zeros(self.variables), self.lower.copy(), self.upper.copy(), matrix, low, high, integer=whole
        )

    def _pack(self) -> None:
        """Many small blocks as one, so that the next model need not join them again."""
        none, nowhere = np.zeros(0), np.zeros(0, np.int64)
        rows, columns, data = zip((nowhere, nowhere, none), *self._entries, strict=True)
        places = np.concatenate(rows).astype(np.int64), np.concatenate(columns).astype(np.int64)
        self._entries = [(*places, np.concatenate(data).astype(np.float64))]
        low, high = zip((none, none), *self._sides, strict=True)
        self._sides = [(np.concatenate(low), np.concatenate(high))]
