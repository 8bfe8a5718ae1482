"""The boxes of a logged partition's pieces, rebuilt from the roots' boxes and the cuts above each piece."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..trees.splits import INPUT
from .read import Ints, Partition

Array = NDArray[np.float64]
Marks = NDArray[np.bool_]


def boxes_of(partition: Partition, ids: Ints, lower: Array, upper: Array) -> tuple[Array, Array, Marks]:
    """The boxes (B, D) of some pieces, given the roots' (G, D), and which of the pieces are boxes."""
    place = np.full(partition.count, -1)
    place[ids] = np.arange(len(ids))
    low, high = np.zeros((len(ids), lower.shape[1])), np.zeros((len(ids), lower.shape[1]))
    known = np.zeros(len(ids), dtype=bool)
    for here, box_low, box_high, boxes in box_levels(partition, lower, upper, partition.above(ids)):
        mine = place[here] >= 0
        at = place[here[mine]]
        low[at], high[at], known[at] = box_low[mine], box_high[mine], boxes[mine]
    return low, high, known


def box_levels(
    partition: Partition, lower: Array, upper: Array, wanted: Marks | None = None
) -> Iterator[tuple[Ints, Array, Array, Marks]]:
    """Depth by depth: ids, their boxes (those of the roots, (G, D), cut as the log says), and which are boxes."""
    before: tuple[Ints, Array, Array, Marks] | None = None
    for ids, rows, side in partition.levels(wanted):
        if before is None:
            before = ids, lower[ids], upper[ids], np.ones(len(ids), dtype=bool)
        else:
            parents, low, high, boxes = before[0][rows], before[1][rows], before[2][rows], before[3][rows]
            cut = partition.kind[parents] == INPUT
            for new, mine in ((high, cut & (side == 0)), (low, cut & (side == 1))):
                new[mine.nonzero()[0], partition.index[parents[mine]]] = partition.point[parents[mine]]
            before = ids, low, high, boxes & cut
        yield before
