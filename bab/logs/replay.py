"""A logged partition proved again: from the log, the network and the property alone, every closed leaf must close.

The search is run once more, but the log decides where pieces are cut (`Followed`): each piece is bounded afresh, with
what its parent found, and then split as the log has it, or closed. A leaf that the log calls closed must be closed by
its new bound; one that is not (the first run may have bounded it in other company, or with another way) is split
further by the search's own rules until it is, and counted. A piece that closes above its logged leaves closes them all.
Pieces that the log leaves open or stuck are left out: nothing was claimed of them.

Soundness: that of the search (see `engine`); of the log only the cuts are believed, and cuts cover whatever they say.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...kernels.arithmetic import full_products
from ...kernels.threads import threads_for
from ...problems.graph import Graph
from ...problems.load import load_problem
from ...problems.property import Array, Property
from ..config import Config
from ..engine import Engine
from ..frontier import Record
from ..observer import Observer
from ..rowless import answered
from ..schedule import Schedule
from ..splits import twice
from ..strategy import choose, memory
from ..tree import AbstractTree, Bounded, Settled
from ..verify import build
from ..witness import Judge
from .format import CLOSED
from .header import config_of, matching, same_search
from .read import Ints, Partition, read_ends, read_log
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


class Followed(AbstractTree):
    """A tree whose splits are a log's. Records carry `logged`, the piece's number in the log."""

    def __init__(self, inner: AbstractTree, partition: Partition) -> None:
        self.inner, self.partition = inner, partition
        self.goals, self.fill, self.apart = inner.goals, inner.fill, getattr(inner, "apart", None)
        device = inner.goals.constants.device
        self.child = torch.from_numpy(partition.child).to(device)
        below = partition.state == CLOSED  # whether a piece has closed leaves, itself among them
        for ids in reversed(_depths(partition)[1:]):
            np.logical_or.at(below, partition.parent[ids], below[ids])
        self.claimed = torch.from_numpy(below).to(device)

    def roots(self) -> Record:
        roots = self.inner.roots()
        return roots | {"logged": roots["id"].clone()}

    def bound(self, record: Record) -> Bounded:
        bounded = self.inner.bound(record)
        logged = record["logged"]
        known = logged >= 0
        at = logged.clamp(min=0)
        follows = known & (self.child[at] >= 0)
        left_out = known & ~self.claimed[at]
        records = dict(bounded.records)
        rows = follows.nonzero()[:, 0]
        if len(rows):
            said = with_cuts({k: v[rows] for k, v in records.items()}, self.partition, at[rows].cpu().numpy())
            for name in ("kind", "index", "point", "normal"):
                if name in records:
                    records[name] = records[name].index_put((rows,), said[name])
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
        )

    def confirm(self, record: Record) -> Tensor:
        return self.inner.confirm(record)

    def split(self, record: Record) -> Record:
        children = self.inner.split(record)
        logged = record["logged"]
        lower = torch.where(logged >= 0, self.child[logged.clamp(min=0)], BEYOND)
        side = torch.arange(2, device=lower.device).repeat_interleave(len(lower))
        return children | {"logged": torch.where(twice(lower) >= 0, twice(lower) + side, BEYOND)}

    def leaf(self, record: Record, row: int, seconds: float | None = None) -> Settled:
        return self.inner.leaf(record, row, seconds)

    def default_batch(self, memory: float) -> int:
        return self.inner.default_batch(memory)


def _depths(partition: Partition) -> list[Ints]:
    """The pieces of each depth."""
    return [ids for ids, _, _ in partition.levels()]


class _Count(Observer):
    """Which logged pieces were closed, and which were split below the log."""

    def __init__(self) -> None:
        self.closed_at: list[np.ndarray] = []
        self.opened: list[np.ndarray] = []

    def closed(self, leaves: Record, how: str) -> None:
        if how != LEFT_OUT:
            self.closed_at.append(leaves["logged"].cpu().numpy())

    def branched(self, parents: Record, children: Record) -> None:
        self.opened.append(parents["logged"].cpu().numpy())


class _Silent:
    """In the attack's place: a replay proves, it does not look for counterexamples."""

    def budgets(self) -> None:
        return None

    def judge(self, x: Array, goal: tuple[int, int], exact: Any = None) -> None:
        return None


@full_products()
def replay(
    log: str | Path | Partition,
    network: Any,
    property: str | Path | Property,
    *,
    example_input: Any = None,
    timeout: float | None = None,
) -> ReplayReport:
    """Bounds every closed leaf of a log again; see the module's essay.

    Raises `BadInput` where the log is damaged or was written for another network or property. Soundness class: as the
    search's `unsat`.
    """
    header, name = (log.header, "given here") if isinstance(log, Partition) else (read_ends(Path(log))[0], log)
    graph, prop, confirm, _ = load_problem(network, property, example_input)
    matching(header, name, network, graph, prop)
    config = config_of(header, {})
    same_search(header, name, choose(graph, config))
    partition = log if isinstance(log, Partition) else read_log(log)
    with threads_for(graph.widest):
        return follow(partition, graph, prop, config, confirm, timeout)


@torch.no_grad()
def follow(
    partition: Partition,
    graph: Graph,
    prop: Property,
    config: Config,
    confirm: Callable[[Array], Array],
    timeout: float | None = None,
) -> ReplayReport:
    """`replay`, with everything read."""
    start = time.monotonic()
    deadline = None if timeout is None else start + timeout
    prop, _ = answered(prop, Judge(graph, prop, confirm))
    strategy = choose(graph, config)
    claimed = partition.closed
    if not len(claimed):
        return ReplayReport(0, 0, 0, 0, 0, time.monotonic() - start)
    working = graph.to(strategy.dtype, strategy.device)
    tree = Followed(build(graph, working, prop, config, strategy, deadline), partition)
    schedule, count = Schedule(False, None), _Count()
    room = memory(config, strategy.device)
    engine = Engine(tree, _Silent(), schedule, (count,), deadline, config.search.batch, room)
    engine.run()
    return _summed(partition, count, schedule.reason, time.monotonic() - start)


def _summed(partition: Partition, count: _Count, reason: str, seconds: float) -> ReplayReport:
    """Each claimed leaf's fate."""
    join = lambda parts: np.concatenate([*parts, np.zeros(0, dtype=np.int64)]).astype(np.int64)  # noqa: E731
    ended, opened = join(count.closed_at), join(count.opened)
    state = np.zeros(partition.count, dtype=np.int8)  # 1 closed itself, 2 closed above, 3 split further
    state[ended[ended >= 0]] = 1
    leaves = partition.closed
    split_on = np.isin(leaves, opened[opened >= 0])
    for ids in _depths(partition)[1:]:
        over = state[partition.parent[ids]]
        state[ids[(over == 1) | (over == 2)]] = 2
    again, above = int((state[leaves] == 1).sum()), int((state[leaves] == 2).sum())
    further = int(split_on.sum()) if not reason else 0
    left = len(leaves) - again - above - further
    return ReplayReport(len(leaves), again, above, further, left, seconds, reason if left else "")
