"""A logged partition proved again: from the log, the network and the property alone, every closed leaf must close.

The search is run once more, but the log decides where pieces are cut (`followed`): each piece is bounded afresh, with
what its parent found, and then split as the log has it, or closed. A leaf that the log calls closed must be closed by
its new bound; one that is not (the first run may have bounded it in other company, or with another way) is split
further by the search's own rules until it is, and counted. A piece that closes above its logged leaves closes them all.
Pieces that the log leaves open or stuck are left out: nothing was claimed of them.

Soundness: that of the search (see `engine`); of the log only the cuts are believed, and cuts cover whatever they say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..kernels.arithmetic import full_products
from ..kernels.deadline import now
from ..kernels.threads import threads_for
from ..problems.errors import BadInput
from ..problems.given import seconds
from ..problems.load import load_problem
from ..problems.network.graph import Graph
from ..problems.properties.property import Array, Property
from .attack.descent import Attack, Budget
from .attack.witness import Judge, Witness
from .building import build
from .config import Config
from .logs.check import leaves_of
from .logs.followed import Count, Followed, ReplayReport, summed
from .logs.format import CLOSED
from .logs.header import config_of, goals_of_header, matching, same_search
from .logs.read import Partition, read_ends, read_log
from .search.engine import Engine, Limits
from .search.schedule import Schedule
from .search.verdict import Verdict
from .strategy import choose, memory
from .trees.root import Watch
from .trees.without_rows import answered


class InClosed:
    """The attack on a partition: a witness counts where it lies in closed leaves alone, because they claim that there
    is none. It keeps a replay of a log that claims too much from searching without an end."""

    def __init__(self, attack: Attack, partition: Partition, graph: Graph, roots: dict[tuple[int, int], int]) -> None:
        self.attack, self.partition, self.graph, self.roots = attack, partition, graph, roots
        self.leaf = -1  # where the witness lies

    def budgets(self) -> Iterator[Budget]:
        return self.attack.budgets()

    def check(self, points: Tensor) -> Witness | None:
        return self._inside(self.attack.check(points))

    def polish(self, points: Tensor, **options: Any) -> Witness | None:
        return self._inside(self.attack.polish(points, **options))

    def search(self, **options: Any) -> Witness | None:
        return self._inside(self.attack.search(**options))

    def judge(self, x: Array, goal: tuple[int, int], exact: Any = None) -> Witness | None:
        return self._inside(self.attack.judge(x, goal, exact))

    def _inside(self, witness: Witness | None) -> Witness | None:
        if witness is None:
            return None
        x = witness.x[None]
        values = self.graph.values(torch.from_numpy(x))
        before = [values[operand.source] for operand in self.graph.operands]
        neurons = torch.cat(before, 1).numpy() if before else np.zeros((1, 0))
        _, leaves, _ = leaves_of(self.partition, self.roots[witness.goal], x, neurons)
        if not len(leaves) or (self.partition.state[leaves] != CLOSED).any():
            return None
        self.leaf = int(leaves[0])
        return witness


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
    timeout = seconds("timeout", timeout, 0)
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
    start = now()
    deadline = None if timeout is None else start + timeout
    judge = Judge(graph, prop, confirm, effort=config.effort.attack)
    prop, _ = answered(prop, judge)
    said = goals_of_header(prop)
    if any(said[name] != partition.header[name] for name in ("goals", "inputs")):
        raise BadInput("the log has other goals or input sets than the property: its header was edited")
    strategy = choose(graph, config)
    if not len(partition.closed):
        return ReplayReport(0, 0, 0, 0, 0, now() - start)
    working = graph.to(strategy.dtype, strategy.device)
    tree = Followed(build(graph, working, prop, config, strategy, Watch(deadline)), partition)
    attack = InClosed(
        Attack(working, judge.about(prop), config.seed),
        partition,
        graph,
        {pair: root for root, pair in enumerate(tree.goals.pairs)},
    )
    schedule, count = Schedule(True, None), Count()
    room = memory(config, strategy.device)
    engine = Engine(tree, attack, schedule, (count,), Limits(deadline, config.search.batch, room))
    reason = "" if engine.run() is Verdict.HOLDS else schedule.reason
    if engine.state.witness is not None:
        where = f"{partition.place(attack.leaf)} (piece {attack.leaf})"
        reason = f"a counterexample lies in a leaf that the log calls closed: {where}, field state"
    return summed(partition, partition.closed, count, reason, now() - start)
