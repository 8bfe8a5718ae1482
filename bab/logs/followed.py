"""A tree that follows a log: it cuts where the log says, and tells what became of the leaves that the log calls closed.

Soundness: that of the tree inside; cuts cover whatever they say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..search.observer import Observer
from ..trees.proofs import Unproved
from ..trees.records import R, Record
from ..trees.splits import twice
from ..trees.tree import AbstractTree, Bounded
from ..trees.wrapped import Wrapped
from .read import Ints, Partition
from .resume import with_cuts

LEFT_OUT = "left out"
BEYOND = -1  # the logged number of a piece that the log does not have: below one of its leaves


@dataclass(frozen=True)
class ReplayReport:
    """What became of the leaves that the log calls closed.

    again: closed by their own new bound. above: closed with a piece above them. further: closed after splits that the
    log does not have. open: not closed, for `reason`; where that is no limit, the log claims too much.
    """

    leaves: int
    again: int
    above: int
    further: int
    open: int
    seconds: float
    reason: str = ""

    @property
    def good(self) -> bool:
        return self.open == 0


class Followed(Wrapped[R]):
    """A tree whose splits are a log's. Records carry `logged`, the piece's number in the log. `claims`: the closed
    leaves that are to be proved (all, where none are named)."""

    def __init__(self, inner: AbstractTree[R], partition: Partition, claims: Ints | None = None) -> None:
        super().__init__(inner)
        self.partition = partition
        device = inner.goals.constants.device
        self.child = torch.from_numpy(partition.child).to(device)
        below = np.zeros(partition.count, dtype=bool)  # whether a piece has such leaves, or is one
        below[partition.closed if claims is None else claims] = True
        for ids in reversed(_depths(partition)[1:]):
            np.logical_or.at(below, partition.parent[ids], below[ids])
        self.claimed = torch.from_numpy(below).to(device)

    def roots(self) -> R:
        roots = self.inner.roots()
        return replace(roots, logged=roots.id)

    def first(self) -> None:
        """Nothing: a claim is proved by a bound of its own."""

    def further(self, bounded: Bounded[R]) -> Bounded[R]:
        logged = _logged(bounded.records)
        known = logged >= 0
        at = logged.clamp(min=0)
        follows = known & (self.child[at] >= 0)
        left_out = known & ~self.claimed[at]
        records = bounded.records
        rows = follows.nonzero()[:, 0]
        if len(rows):
            said = with_cuts(records[rows], self.partition, at[rows].cpu().numpy()).cut
            records = records.with_cut(records.cut.put(rows, said))
        by = bounded.closed.long() * 0 if bounded.by is None else bounded.by
        by = torch.where(left_out & ~bounded.closed, len(bounded.names), by)
        return replace(
            bounded,
            records=records,
            closed=bounded.closed | left_out,
            near=bounded.near & ~left_out,
            decided=bounded.decided & ~follows & ~left_out,
            by=by,
            names=(*bounded.names, LEFT_OUT),
            parts=(*bounded.parts, (Unproved("the log"), None)) if self.proving else (),
        )

    def split(self, record: R) -> R:
        children = self.inner.split(record)
        logged = _logged(record)
        lower = torch.where(logged >= 0, self.child[logged.clamp(min=0)], BEYOND)
        side = torch.arange(2, device=lower.device).repeat_interleave(len(lower))
        return replace(children, logged=torch.where(twice(lower) >= 0, twice(lower) + side, BEYOND))


def _logged(record: Record) -> Tensor:
    """The pieces' numbers in the log."""
    assert record.logged is not None
    return record.logged


def _depths(partition: Partition) -> list[Ints]:
    """The pieces of each depth."""
    return [ids for ids, _, _ in partition.levels()]


class Count(Observer):
    """Which logged pieces were closed, and which were split below the log."""

    def __init__(self) -> None:
        self.closed_at: list[np.ndarray] = []
        self.opened: list[np.ndarray] = []

    def closed(self, leaves: Record, how: str) -> None:
        if how != LEFT_OUT:
            self.closed_at.append(_logged(leaves).cpu().numpy())

    def branched(self, parents: Record, children: Record) -> None:
        self.opened.append(_logged(parents).cpu().numpy())


def summed(partition: Partition, claims: Ints, count: Count, reason: str, seconds: float) -> ReplayReport:
    """Each claimed leaf's fate; `reason` is why the replay ended before its end."""

    def join(parts: list[Ints]) -> Ints:
        return np.concatenate([*parts, np.zeros(0, dtype=np.int64)]).astype(np.int64)

    ended, opened = join(count.closed_at), join(count.opened)
    state = np.zeros(partition.count, dtype=np.int8)  # 1 closed itself, 2 closed above, 3 split further
    state[ended[ended >= 0]] = 1
    split_on = np.isin(claims, opened[opened >= 0])
    for ids in _depths(partition)[1:]:
        over = state[partition.parent[ids]]
        state[ids[(over == 1) | (over == 2)]] = 2
    again, above = int((state[claims] == 1).sum()), int((state[claims] == 2).sum())
    further = int(split_on.sum()) if not reason else 0
    left = len(claims) - again - above - further
    return ReplayReport(len(claims), again, above, further, left, seconds, reason if left else "")
