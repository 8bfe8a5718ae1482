"""One verification from beginning to end: attack, root, search, outcome."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..kernels.deadline import TimeUp, doing, now, share, until
from ..problems.errors import BadInput
from ..problems.network.graph import Graph
from ..problems.properties.property import Array, Property
from ..relaxations.catalogue import find
from ..relaxations.linear.alpha import Alpha
from ..relaxations.linear.ibp import Ibp, interval_root
from ..relaxations.linear.rebounding import Rebounding
from ..relaxations.linear.root import in_float64, root
from ..relaxations.protocol import Means
from ..relaxations.types import Multipliers, Pieces
from .attack.descent import Attack
from .attack.witness import Judge, Witness, remarks
from .config import Config
from .search.engine import Engine
from .search.known import progress
from .search.observer import Observer
from .search.outcome import Outcome
from .search.schedule import Schedule
from .search.verdict import Cause, Verdict
from .strategy import Strategy, candidates, choose, memory
from .trees.goals import goals_of
from .trees.phases import Phases
from .trees.regions import Regions
from .trees.root import rooted
from .trees.tree import AbstractTree
from .trees.twinned import Twinned, rows_of_goals
from .trees.without_rows import answered

if TYPE_CHECKING:
    from .logs.observer import PartitionLog

__all__ = ["Outcome", "verify"]
FIRST = 0.25  # share of the time left that the first attack may take
TWINS = 0.2  # and the search for twin neurons
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
    start = now()
    if all(case.inputs.empty for case in prop.cases):
        return Outcome(Verdict.HOLDS, "the input set is empty: some lower bound exceeds its upper bound")
    if not _goals(prop):
        return Outcome(Verdict.HOLDS, "the property calls no output unsafe")
    doing("the network was prepared")
    strategy = choose(graph, config)
    working = graph.to(strategy.dtype, strategy.device)
    judge = Judge(graph, prop, confirm, config.judge)
    prop, found = answered(prop, judge)
    if found is not None:
        return _outcome(
            Verdict.VIOLATED, judge, found, now() - start, "every output is unsafe, and the input set has a point"
        )
    if not _goals(prop):
        return Outcome(Verdict.HOLDS, "the input set is empty: its half-spaces leave no point")
    if log is not None:
        log.about(prop)
    judge = judge.about(prop)
    attack = Attack(working, judge, config.seed)
    if config.attack == "on":
        found = _first_attack(attack, deadline)
        if found is not None:
            return _outcome(Verdict.VIOLATED, judge, found, now() - start, "found by the first attack")
    if strategy.tree == "oracle":
        return _asked(graph, judge, config, observers, deadline, strategy.sentence(graph, PROGRAMS))
    return _searched(graph, working, prop, config, strategy, attack, observers, deadline, start, log)


def _searched(
    graph: Graph,
    working: Graph,
    prop: Property,
    config: Config,
    strategy: Strategy,
    attack: Attack,
    observers: Sequence[Observer],
    deadline: float | None,
    start: float,
    log: PartitionLog | None = None,
) -> Outcome:
    """The outcome of a tree search; `start` is when the verification began."""
    begun = now()
    doing("the root was bounded")
    second = _SecondAttack(attack if config.attack == "on" else None, deadline, begun)

    def told(bounds: Tensor, closed: Tensor) -> None:
        for observer in observers:
            observer.bounded(bounds, closed)

    tree = build(graph, working, prop, config, strategy, deadline, second, told)
    if second.witness is not None:
        return _outcome(
            Verdict.VIOLATED,
            attack.judge,
            second.witness,
            now() - start,
            "found by the attack before the root was split",
        )
    observers = observers if log is None else (*observers, log)
    for observer in observers:
        observer.started(strategy.sentence(graph, tree.describe()))

    def wish() -> str:
        return next(filter(None, (observer.wished() for observer in observers)), "")

    schedule = Schedule(config.attack == "on", config.search.max_pieces, wish=wish)
    engine = Engine(
        tree,
        attack,
        schedule,
        observers,
        deadline,
        config.search.batch,
        memory(config, strategy.device),
        begun,
    )
    doing("the tree was searched")
    if log is not None and log.before is not None:
        from .logs.resume import take_up

        take_up(engine, log.before)
    verdict = engine.run()
    state = engine.state
    claims: dict[str, float | int | str] = {}  # of a log that this run goes on with
    if verdict is Verdict.HOLDS and log is not None and log.before is not None:
        from .logs.believed import proved_again

        verdict = proved_again(engine, log.before, log.trust, claims)
    stats = _stats(engine, strategy.sentence(graph, tree.describe())) | claims
    if log is not None and log.before is not None:
        stats["resumed"] = f"from {log.before.count} pieces, {len(log.before.unsettled)} of them not settled"
    seconds = now() - start
    reason = "" if verdict.decided else schedule.reason
    if reason and schedule.end is not None and schedule.end.cause in (Cause.TIME, Cause.WISH):
        reason = f"{reason if schedule.end.cause is Cause.WISH else 'the time limit passed'}; {progress(state)}"
    outcome = _outcome(verdict, attack.judge, state.witness, seconds, reason, state.pieces, stats)
    for observer in observers:
        observer.finished(outcome, state)
    return outcome


def _stats(engine: Engine, sentence: str) -> dict[str, float | int | str]:
    """What a search came to, by name."""
    state = engine.state
    return {
        "leaves": state.leaves,
        "depth": state.depth,
        "open": state.open,
        "worst": state.frontier.worst,
        "float64": state.confirmed,
        "linear programs": state.settled,
        **({"exact arithmetic": state.exact} if state.exact else {}),
        **{f"{what} s": round(seconds, 4) for what, seconds in state.seconds.items()},
        "strategy": sentence,
        **{f"by {way.name}": way.summary() for way in engine.tree.ways()},
        **{f"note {number}": note for number, note in enumerate(engine.tree.notes(), 1)},
    }


def _goals(prop: Property) -> int:
    """How many pairs of an input polytope and an unsafe set there are to decide."""
    return sum(len(case.unsafe) for case in prop.cases if not case.inputs.empty)


def _asked(
    graph: Graph,
    judge: Judge,
    config: Config,
    observers: Sequence[Observer],
    deadline: float | None,
    sentence: str,
) -> Outcome:
    """The outcome of the exact relaxation."""
    from .mip import ask

    start = now()
    for observer in observers:
        observer.started(sentence)
    answer = ask(graph, judge, config.bounding.backend, deadline)
    stats: dict[str, float | int | str] = {"strategy": sentence}
    seconds = now() - start
    outcome = _outcome(answer.verdict, judge, answer.witness, seconds, answer.reason, answer.pieces, stats)
    for observer in observers:
        observer.finished(outcome, None)
    return outcome


def build(
    graph: Graph,
    working: Graph,
    prop: Property,
    config: Config,
    strategy: Strategy,
    deadline: float | None = None,
    refuted: Callable[[Tensor], bool] = lambda points: False,
    told: Callable[[Tensor, Tensor], None] = lambda bounds, closed: None,
) -> AbstractTree:
    """The tree the strategy asks for, its root bounded. `refuted` is asked before much is spent on a root,
    with the points where its bounds are reached; `told` hears what is known of the goals by then."""
    cases = [case.inputs for case in prop.cases if not case.inputs.empty]
    lower = torch.from_numpy(np.min([case.lower for case in cases], axis=0))
    upper = torch.from_numpy(np.max([case.upper for case in cases], axis=0))
    if strategy.relaxation == "ibp":
        intervals, pieces = interval_root(working, lower, upper)
        linear = intervals.linear
    else:
        linear, pieces = root(graph, working, lower, upper, find(strategy.relaxation).lines, deadline)
    precise = in_float64(graph, linear, pieces)
    sizes = [linear.scales.size[i].double().cpu() * 1.001 for i in (0, -1)]
    goals = goals_of(prop, strategy.dtype, strategy.device, *sizes)
    precise_goals = goals_of(prop, torch.float64, strategy.device, *sizes)

    twins = None
    with suppress(TimeUp), until(share(TWINS)):
        twins = rows_of_goals(graph, working, prop, goals)

    def looked(tree: AbstractTree) -> AbstractTree:
        return tree if twins is None else Twinned(tree, twins, graph)

    def programmed(tree: AbstractTree) -> AbstractTree:
        if not strategy.programs and strategy.own is None:
            return tree
        from .trees.programs import Programs, closer

        limit = None if deadline is None else max(1.0, deadline - now())
        means = Means(backend=config.bounding.backend, time_limit=limit)
        relaxation = strategy.own or closer(strategy.programs, graph, (lower, upper), means)
        words = "then one linear program a piece" if strategy.solves else "then another look at each open piece"
        return Programs(tree, relaxation, words)

    if strategy.tree == "regions":
        steps = 4 if config.relaxation in ("auto", "alpha-crown") else 0
        bounding: Rebounding | Ibp = Rebounding(linear, steps=steps)
        confirming: Rebounding | Ibp = Rebounding(precise, clipping=False)
        if strategy.relaxation == "ibp":
            bounding, confirming = Ibp(linear), Ibp(precise)
        tree = Regions(
            graph,
            prop,
            goals,
            precise_goals,
            bounding,
            confirming,
            pieces,
            strategy.splits,
            strategy.rule,
        )
        return programmed(looked(tree))
    steps = config.bounding.steps if strategy.relaxation == "alpha-crown" else 0
    rate = config.bounding.learning_rate
    alpha = Alpha(linear, steps, rate, joint_rate=rate / 2)

    untreated = [] if config.relaxation == "auto" else [t for word in strategy.rows for t in said(graph, word)]

    def make(alpha: Alpha, root: Pieces, start: Multipliers | None) -> AbstractTree:
        confirming, room = Alpha(precise, 0), memory(config, strategy.device) / 8
        tried = candidates(config)
        tree = Phases(graph, prop, goals, precise_goals, alpha, confirming, root, tried, start, strategy.rows, room)
        tree.untreated = untreated
        return looked(tree)

    return programmed(rooted(make, alpha, pieces, goals, deadline, strategy.rows, refuted, told))


def said(graph: Graph, word: str) -> list[str]:
    """What rows of a relaxation that was asked for cannot treat; `BadInput` where that must not be."""
    from ..relaxations.names import parse
    from ..relaxations.rows.strengthen import untreated

    found = untreated(graph, word)
    if found and any(name.strict for name in parse(word)):
        raise BadInput(f"{found[0]}; without strict=on that is what is done")
    return found


def _first_attack(attack: Attack, deadline: float | None) -> Witness | None:
    """One quick turn before anything else."""
    budget = next(attack.budgets())
    doing("a counterexample was looked for")
    try:
        with torch.enable_grad(), until(share(FIRST)):
            return attack.search(restarts=budget.restarts, steps=budget.steps, deadline=deadline)
    except TimeUp:
        return None


@dataclass(eq=False)
class _SecondAttack:
    """Longer turns of the attack, called where the root turned out hard, from the points that its bounds are reached
    at and from others, for an eighth of the time the root has taken so far; whether they found a witness."""

    attack: Attack | None
    deadline: float | None
    begun: float
    witness: Witness | None = None

    def __call__(self, points: Tensor) -> bool:
        if self.attack is None:
            return False
        moment = now()
        limit = min(moment + (moment - self.begun) / 8, self.deadline or math.inf)
        for budget in islice(self.attack.budgets(), 1, 3):
            try:
                with until(limit):
                    self.witness = self.attack.polish(points, steps=budget.steps, deadline=limit) or self.attack.search(
                        restarts=budget.restarts, steps=budget.steps, deadline=limit
                    )
            except TimeUp:
                break
            if self.witness is not None or now() > limit:
                break
        return self.witness is not None


def _outcome(
    verdict: Verdict,
    judge: Judge,
    witness: Witness | None,
    seconds: float,
    reason: str,
    pieces: int = 0,
    stats: dict[str, float | int | str] | None = None,
) -> Outcome:
    """The outcome; its reason says what a reader must know of the witness, or of the nearest thing to one."""
    stats = stats or {}
    if verdict is Verdict.VIOLATED and witness is not None:
        reason = "; ".join(filter(None, [reason, *remarks(witness, judge)]))
        return Outcome(
            verdict, reason, (witness.x, witness.y), pieces, seconds, stats, witness.decimals, witness.outside
        )
    if verdict is not Verdict.HOLDS and judge.disputed is not None:
        stats = {**stats, "disputed": judge.disputed.sentence()}
        reason = "; ".join(filter(None, [reason, judge.disputed.sentence()]))
    return Outcome(verdict, reason, None, pieces, seconds, stats)
