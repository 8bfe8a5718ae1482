"""A sparse matrix as a few dense blocks and a remainder, times many vectors at once.

The rows that a network leaves in a linear program are one dense block a layer, [W], beside two or three entries a
neuron. Dense products run at the speed of the arithmetic, sparse ones at that of memory, and a dense matrix of the
whole program is mostly zeros: on one core, the program of mnist_fc 256x2 (1,078 x 1,818, 270,434 entries) times 256
vectors in float32 takes 9.4 ms dense, 4.7 ms in compressed rows and 1.6 ms as blocks.

A block is a stretch of consecutive rows that share a stretch of columns, both at least `SHORTEST` long, at least half
of it filled. Small or dense matrices are one block. Vectors stand in columns, X is (V, B): the remainder is then read
once for all of them, row after row.

Exact as a container: every entry stands in exactly one part. Products are inner products of the stored entries in an
unknown order, with some zeros among them (see `rounding.gamma`; the number of terms is that of the entries).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .hush import hushed

SHORTEST = 16
GAP = 8  # zeros that a stretch may skip


class Block(NamedTuple):
    """A dense part: rows [row, row + m), columns [column, column + n)."""

    row: int
    column: int
    values: Tensor  # (m, n)


Change = Callable[[Tensor, Tensor, Tensor], Tensor]  # of values, with their rows and columns


@dataclass(frozen=True, eq=False)
class Blocks:
    """A matrix (R, V); the remainder is stored by rows and by columns, None where nothing is left."""

    shape: tuple[int, int]
    dense: tuple[Block, ...]
    rest: Tensor | None  # (R, V) compressed rows
    rest_transposed: Tensor | None  # (V, R) compressed rows

    @staticmethod
    def of(start: np.ndarray, column: np.ndarray, value: np.ndarray, shape: tuple[int, int]) -> Blocks:
        """From compressed rows: entry e of row r, start[r] <= e < start[r + 1], is value[e] at column[e]."""
        row = np.repeat(np.arange(shape[0]), np.diff(start))
        if len(value) >= 0.2 * shape[0] * shape[1] or shape[0] * shape[1] <= 2**14:
            whole = np.zeros(shape)
            whole[row, column] = value
            return Blocks(shape, (Block(0, 0, torch.from_numpy(whole)),), None, None)
        dense, left = [], np.ones(len(value), bool)
        for top, bottom, first, end in _stretches(start, column):
            span = slice(start[top], start[bottom])
            inside = left[span] & (column[span] >= first) & (column[span] < end)
            if 2 * inside.sum() < (bottom - top) * (end - first):
                continue
            block = np.zeros((bottom - top, end - first))
            block[row[span][inside] - top, column[span][inside] - first] = value[span][inside]
            dense.append(Block(int(top), int(first), torch.from_numpy(block)))
            left[span] &= ~inside
        if dense and not left.any():
            return Blocks(shape, tuple(dense), None, None)
        rows, columns, values = row[left], column[left], value[left]
        return Blocks(
            shape,
            tuple(dense),
            _compressed(rows, columns, values, shape),
            _compressed(columns, rows, values, (shape[1], shape[0])),
        )

    @property
    def like(self) -> Tensor:
        """Some entries: their dtype and device are the matrix's."""
        if self.dense:
            return self.dense[0].values
        assert self.rest is not None, "`of` makes no matrix without parts"
        return self.rest.values()

    def times(self, x: Tensor) -> Tensor:  # (V, B) -> (R, B)
        """A X."""
        y = x.new_zeros(self.shape[0], x.shape[1]) if self.rest is None else self.rest @ x
        for row, column, values in self.dense:
            m, n = values.shape
            y[row : row + m].addmm_(values, x[column : column + n])
        return y

    def transposed_times(self, y: Tensor) -> Tensor:  # (R, B) -> (V, B)
        """A^T Y."""
        x = y.new_zeros(self.shape[1], y.shape[1]) if self.rest_transposed is None else self.rest_transposed @ y
        for row, column, values in self.dense:
            m, n = values.shape
            x[column : column + n].addmm_(values.mT, y[row : row + m])
        return x

    def absolute(self) -> Blocks:
        """|A|, entry by entry."""
        return self._with(lambda values, rows, columns: values.abs())

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Blocks:
        """The same matrix, rounded to `dtype`, on `device`."""
        return self._with(lambda values, rows, columns: values.to(device, dtype), device)

    def scaled(self, by_row: Tensor, by_column: Tensor) -> Blocks:  # (R,), (V,)
        """diag(by_row) A diag(by_column)."""
        return self._with(lambda values, rows, columns: values * by_row[rows] * by_column[columns])

    def row_and_column(self, power: float) -> tuple[Tensor, Tensor]:  # (R,), (V,)
        """Norms of rows and columns: largest |entry| for power inf, how many for 0, else the sum of |entries|^power."""
        like = self.like
        kind = "amax" if power == torch.inf else "sum"
        out = (like.new_zeros(self.shape[0]), like.new_zeros(self.shape[1]))

        def gather(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
            sizes = values.abs()
            if power < torch.inf:
                sizes = torch.where(sizes > 0, sizes**power, 0.0)
            for total, at in zip(out, (rows, columns), strict=True):
                total.scatter_reduce_(0, at.expand_as(sizes).reshape(-1), sizes.reshape(-1), kind)
            return values

        self._with(gather)
        return out

    def _with(self, change: Change, device: torch.device | str | None = None) -> Blocks:
        """The matrix with each part's values through `change(values, rows, columns)`, indices broadcast to values."""
        dense = []
        for row, column, values in self.dense:
            rows = torch.arange(row, row + values.shape[0], device=values.device)[:, None]
            columns = torch.arange(column, column + values.shape[1], device=values.device)
            dense.append(Block(row, column, change(values, rows, columns)))
        if self.rest is None:
            return Blocks(self.shape, tuple(dense), None, None)
        start, columns = self.rest.crow_indices(), self.rest.col_indices()
        rows = torch.repeat_interleave(torch.arange(self.shape[0], device=start.device), start.diff())
        values = change(self.rest.values(), rows, columns)
        i, j, entries = (t.cpu().numpy() for t in (rows, columns, values))
        where = start.device if device is None else device
        by_rows = _compressed(i, j, entries, self.shape).to(where)
        by_columns = _compressed(j, i, entries, (self.shape[1], self.shape[0])).to(where)
        return Blocks(self.shape, tuple(dense), by_rows, by_columns)


def _stretches(start: np.ndarray, column: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Candidates (top, bottom, first, end): consecutive rows with nearly the same stretch of columns."""
    found: list[tuple[int, int, int, int]] = []
    open_: list[tuple[int, int, int]] = []  # (top, first, end) of rows up to the last one
    for r in range(len(start) - 1):
        mine = np.sort(column[start[r] : start[r + 1]])
        kept: list[tuple[int, int, int]] = []
        if len(mine) >= SHORTEST:
            breaks = np.flatnonzero(np.diff(mine) > GAP)
            heads, tails = np.append(0, breaks + 1), np.append(breaks, len(mine) - 1)
            long = tails - heads + 1 >= SHORTEST
            for first, end in zip(mine[heads[long]], mine[tails[long]] + 1, strict=True):
                match = next((o for o in open_ if abs(o[1] - first) <= GAP and abs(o[2] - end) <= GAP), None)
                if match is None:
                    kept.append((r, first, end))
                else:
                    open_ = [o for o in open_ if o is not match]
                    kept.append((match[0], min(match[1], first), max(match[2], end)))
        found += [(top, r, first, end) for top, first, end in open_ if r - top >= SHORTEST]
        open_ = kept
    rows = len(start) - 1
    return found + [(top, rows, first, end) for top, first, end in open_ if rows - top >= SHORTEST]


def _compressed(row: np.ndarray, column: np.ndarray, value: np.ndarray, shape: tuple[int, int]) -> Tensor:
    order = np.lexsort((column, row))
    start = np.searchsorted(row[order], np.arange(shape[0] + 1))
    with hushed(UserWarning, start="Sparse CSR tensor support is in beta"):
        return torch.sparse_csr_tensor(
            torch.from_numpy(start.astype(np.int64)),
            torch.from_numpy(column[order].astype(np.int64)),
            torch.from_numpy(value[order]),
            size=shape,
            check_invariants=False,
        )
