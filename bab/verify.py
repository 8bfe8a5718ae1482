"""One verification from beginning to end: attack, root, search, outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..kernels.deadline import doing, now
from ..problems.network.graph import Graph
from ..problems.properties.property import Array, Property
from .attack.descent import Attack
from .attack.turns import SecondTurn, first_turn
from .attack.witness import Judge
from .building import build
from .config import Config
from .search.engine import Engine, Limits
from .search.known import progress
from .search.observer import Observer
from .search.outcome import Outcome
from .search.schedule import Schedule
from .search.verdict import Cause, Verdict
from .strategy import Strategy, choose, memory
from .task import Task
from .trees.root import Watch
from .trees.without_rows import answered

if TYPE_CHECKING:
    from .logs.observer import PartitionLog

__all__ = ["Outcome", "verify"]
PROGRAMS = "one mixed-integer program for each unsafe set"


@torch.no_grad()
def verify(
    graph: Graph,
    prop: Property,
    config: Config,
    *,
    confirm: Callable[[Array], Array],
    observers: Sequence[Observer] = (),
    deadline: float | None = None,
    log: PartitionLog | None = None,
) -> Outcome:
    """Decides a property; see `Outcome`. `deadline` is a value of `kernels.deadline.now`.

    `confirm` evaluates the original network at one input; `sat` is said only of a witness it confirms. `log` records
    the pieces; where it was read from an earlier run, the search goes on with what that run left open.
    """
    everyone = observers if log is None else (*observers, log)
    task = Task(
        graph,
        prop,
        config,
        Judge(graph, prop, confirm, config.judge, effort=config.effort.attack),
        everyone,
        deadline,
        log,
    )
    if all(case.inputs.empty for case in prop.cases):
        return task.outcome(Verdict.HOLDS, "the input set is empty: some lower bound exceeds its upper bound")
    if not task.goals:
        return task.outcome(Verdict.HOLDS, "the property calls no output unsafe")
    doing("the network was prepared")
    strategy = choose(graph, config)
    working = graph.to(strategy.dtype, strategy.device)
    prop, found = answered(prop, task.judge)
    if found is not None:
        return task.outcome(Verdict.VIOLATED, "every output is unsafe, and the input set has a point", found)
    task = replace(task, prop=prop, judge=task.judge.about(prop))
    if not task.goals:
        return task.outcome(Verdict.HOLDS, "the input set is empty: its half-spaces leave no point")
    if log is not None:
        log.about(prop)
    attack = Attack(working, task.judge, config.seed)
    if config.attack == "on":
        found = first_turn(attack, deadline)
        if found is not None:
            return task.outcome(Verdict.VIOLATED, "found by the first attack", found)
    if strategy.tree == "oracle":
        return _asked(task, strategy.sentence(graph, PROGRAMS))
    return _searched(task, working, strategy, attack)


def _asked(task: Task, sentence: str) -> Outcome:
    """The outcome of the exact relaxation."""
    from .mip import ask

    task.started(sentence)
    answer = ask(task.graph, task.judge, task.config.bounding.backend, task.deadline, task.config.effort)
    stats: dict[str, float | int | str] = {"strategy": sentence}
    outcome = task.outcome(answer.verdict, answer.reason, answer.witness, answer.pieces, stats)
    return task.finished(outcome, None)


def _searched(task: Task, working: Graph, strategy: Strategy, attack: Attack) -> Outcome:
    """The outcome of a tree search."""
    begun, config, log = now(), task.config, task.log
    doing("the root was bounded")
    second = SecondTurn(attack if config.attack == "on" else None, task.deadline, begun)
    watch = Watch(task.deadline, second, task.told, task.proving)
    tree = build(task.graph, working, task.prop, config, strategy, watch)
    if second.witness is not None:
        return task.outcome(Verdict.VIOLATED, "found by the attack before the root was split", second.witness)
    sentence = strategy.sentence(task.graph, tree.describe())
    task.started(sentence)
    schedule = Schedule(config.attack == "on", config.search.max_pieces, config.effort.attack, wish=task.wish)
    limits = Limits(
        task.deadline, config.search.batch, memory(config, strategy.device), begun, config.effort.leaf.longest
    )
    engine = Engine(tree, attack, schedule, task.observers, limits)
    doing("the tree was searched")
    if log is not None and log.before is not None:
        from .logs.resume import take_up

        take_up(engine, log.before)
    verdict = engine.run()
    claims: dict[str, float | int | str] = {}  # of a log that this run goes on with
    if verdict is Verdict.HOLDS and log is not None and log.before is not None:
        from .logs.believed import proved_again

        verdict = proved_again(engine, log.before, log.trust, claims)
    if log is not None and log.before is not None:
        claims["resumed"] = f"from {log.before.count} pieces, {len(log.before.unsettled)} of them not settled"
    state, stats = engine.state, engine.stats(sentence) | claims
    outcome = task.outcome(verdict, _reason(verdict, engine), state.witness, state.pieces, stats)
    return task.finished(outcome, state)


def _reason(verdict: Verdict, engine: Engine) -> str:
    """Why a search ended without an answer, and how far it had come where time or an observer ended it."""
    end = engine.schedule.end
    if verdict.decided or end is None:
        return ""
    if end.cause is Cause.TIME:
        return f"the time limit passed; {progress(engine.state)}"
    return f"{end.sentence}; {progress(engine.state)}" if end.cause is Cause.WISH else end.sentence
