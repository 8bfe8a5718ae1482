"""Large batches in parts, so that no native call takes long: between two of them somebody looks at the clock.

How large a part is depends on the batch alone, never on the time that is left: a run that ends in time does the same
whatever its limit. The arithmetic of a row does not depend on the rows beside it but for the order of sums, which
rounding bounds leave open.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .deadline import check, spent

# Multiplications of one native call on a CPU, those in float64 counted so often: 0.3 s for convolutions of few channels
# (one thread, 2026: 2.4 billion a second in float64, 18 in float32), less for all else.
MOST, DOUBLE = 2e9, 3.0


def parts(count: int, each: float) -> int:
    """How many of `count` rows, of `each` multiplications, a native call on a CPU may take: all where they are few."""
    return count if count * each <= MOST else max(1, int(MOST / each))


def in_parts(work: Callable[[Tensor], Tensor], x: Tensor, each: float) -> Tensor:  # (K, ...) -> (K, ...)
    """`work`, which treats every row by itself at the price of `each` multiplications, on so many rows at a time that
    no native call on a CPU takes long; a GPU takes them all. Raises `TimeUp` between two of them."""
    spent(len(x) * each)
    weight = DOUBLE if x.dtype is torch.float64 else 1.0
    size = len(x) if x.is_cuda else parts(len(x), weight * each)
    if size >= len(x):
        if weight * len(x) * each > MOST / 16:  # many calls that are not long may follow each other
            check()
        return work(x)
    found = []
    for part in x.split(size):
        check()
        found.append(work(part))
    return torch.cat(found)
