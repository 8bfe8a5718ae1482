"""Rows of unequal length laid end to end: row i of C is entries start[i] .. start[i + 1] - 1 of a flat tensor.

Everything here is a fixed number of operations whatever the rows are: NumPy's, on the memory of the tensors, where
they cost less to call. On the CPU. Soundness: exact.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


def starts(lengths: Tensor) -> Tensor:  # (C,) -> (C + 1,)
    """Where rows of these lengths begin, and where the last one ends."""
    start = np.zeros(lengths.shape[0] + 1, dtype=np.int64)
    np.cumsum(lengths.numpy(), out=start[1:])
    return torch.from_numpy(start)


def ranges(begin: Tensor, lengths: Tensor) -> Tensor:  # (C,), (C,) -> (sum of lengths,)
    """begin[i], begin[i] + 1, .. (lengths[i] of them), row after row."""
    length = lengths.numpy()
    end = length.cumsum()
    entries = np.arange(end[-1] if len(end) else 0)
    entries += np.repeat(begin.numpy() - (end - length), length)
    return torch.from_numpy(entries)


def owners(lengths: Tensor) -> Tensor:  # (C,) -> (sum of lengths,)
    """The row of each entry."""
    return torch.from_numpy(np.repeat(np.arange(lengths.shape[0]), lengths.numpy()))


def repeat(values: Tensor, times: Tensor) -> Tensor:  # (C,), (C,) -> (sum of times,)
    """Each value so many times."""
    return torch.from_numpy(np.repeat(values.numpy(), times.numpy()))


def count(flags: Tensor, start: Tensor) -> Tensor:  # (T,) bool, (C + 1,) -> (C,) int64
    """How many entries of each row are set; no row is empty."""
    if start.shape[0] < 2:
        return torch.zeros(0, dtype=torch.int64)
    return torch.from_numpy(np.add.reduceat(flags.numpy(), start[:-1].numpy(), dtype=np.int64))


def where(flags: Tensor) -> Tensor:  # (T,) bool -> (number set,) int64
    """Positions that are set, in order."""
    return torch.from_numpy(flags.numpy().nonzero()[0])


def blocks(work: Tensor, limit: int) -> list[tuple[int, int]]:  # (C,) int64
    """Cuts 0 .. C into consecutive parts whose work stays near the limit (one item may exceed it alone)."""
    if len(work) == 0:
        return []
    total = torch.cumsum(work, 0)
    if int(total[-1]) <= limit:
        return [(0, len(work))]
    edges = torch.searchsorted(total, torch.arange(1, int(total[-1]) // limit + 1) * limit, right=True)
    cuts = sorted({0, len(work), *edges.tolist()})
    return list(pairwise(cuts))
