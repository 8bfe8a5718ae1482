"""Rows of unequal length laid end to end: row i of C is entries start[i] .. start[i + 1] - 1 of a flat tensor.

Everything here is a fixed number of tensor operations whatever the rows are. Soundness: exact.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


def starts(lengths: Tensor) -> Tensor:  # (C,) -> (C + 1,)
    """Where rows of these lengths begin, and where the last one ends."""
    start = torch.zeros(len(lengths) + 1, dtype=torch.int64)
    torch.cumsum(lengths, 0, out=start[1:])
    return start


def ranges(begin: Tensor, lengths: Tensor) -> Tensor:  # (C,), (C,) -> (sum of lengths,)
    """begin[i], begin[i] + 1, .. (lengths[i] of them), row after row."""
    start = starts(lengths)
    total = int(start[-1])
    shift = torch.repeat_interleave(begin - start[:-1], lengths, output_size=total)
    return shift + torch.arange(total)


def owners(lengths: Tensor) -> Tensor:  # (C,) -> (sum of lengths,)
    """The row of each entry."""
    return torch.repeat_interleave(torch.arange(len(lengths)), lengths)


def count(flags: Tensor, start: Tensor) -> Tensor:  # (T,) bool, (C + 1,) -> (C,) int64
    """How many entries of each row are set."""
    total = torch.zeros(len(flags) + 1, dtype=torch.int32)
    torch.cumsum(flags, 0, dtype=torch.int32, out=total[1:])
    return (total.index_select(0, start[1:]) - total.index_select(0, start[:-1])).long()


def where(flags: Tensor) -> Tensor:  # (T,) bool -> (number set,) int64
    """Positions that are set, in order."""
    return torch.from_numpy(np.flatnonzero(flags.numpy()))


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
