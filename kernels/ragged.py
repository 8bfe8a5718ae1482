"""Rows of unequal length laid end to end: row i of C is entries start[i] .. start[i + 1] - 1 of a flat array.

Everything here is a fixed number of operations whatever the rows are. NumPy's arrays, not PyTorch's tensors: an
operation on few numbers costs a fraction of a microsecond there, and most are on few. Soundness: exact.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]


def starts(lengths: Ints) -> Ints:  # (C,) -> (C + 1,)
    """Where rows of these lengths begin, and where the last one ends."""
    start = np.zeros(len(lengths) + 1, dtype=np.int64)
    lengths.cumsum(out=start[1:])
    return start


def ranges(begin: Ints, lengths: Ints) -> Ints:  # (C,), (C,) -> (sum of lengths,)
    """begin[i], begin[i] + 1, .. (lengths[i] of them), row after row."""
    end = lengths.cumsum()
    entries = np.arange(end[-1] if len(end) else 0)
    entries += (begin - end + lengths).repeat(lengths)
    return entries


def count(flags: Flags, start: Ints) -> Ints:  # (T,) bool, (C + 1,) -> (C,) int64
    """How many entries of each row are set; no row is empty."""
    return np.add.reduceat(flags, start[:-1], dtype=np.int64)


def blocks(work: Ints, limit: int) -> list[tuple[int, int]]:  # (C,) int64
    """Cuts 0 .. C into consecutive parts whose work stays near the limit (one item may exceed it alone)."""
    if len(work) == 0:
        return []
    total = work.cumsum()
    if total[-1] <= limit:
        return [(0, len(work))]
    edges = np.searchsorted(total, np.arange(1, total[-1] // limit + 1) * limit, side="right")
    return list(pairwise(sorted({0, len(work), *edges.tolist()})))
