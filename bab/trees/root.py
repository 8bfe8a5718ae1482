"""The root of a tree of activation branches: as much work on it as the pieces below will repay.

Everything proved at the root holds on every piece: pre-activation bounds, and rows that tie several neurons together.
Three stages, each only while goals stay open: bound with optimised slopes; optimise the pre-activations of every layer
(`rows.refine`); find multi-neuron rows for the open goals, and refine the layers with them
(`rows.strengthen`).

Heuristic in what it does when; every bound it hands on is sound.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from torch import Tensor

from ...kernels.deadline import TimeUp
from ...relaxations.linear.alpha import Alpha
from ...relaxations.rows.ledger import Step
from ...relaxations.rows.refine import refined
from ...relaxations.rows.strengthen import Strengthened, most_useful, strengthened
from ...relaxations.types import Multipliers
from .phases import Phases
from .records import Branch
from .shared_bounds import objectives, until
from .tree import AbstractTree, Bounded

Look = Callable[[AbstractTree[Branch]], AbstractTree[Branch]]


@dataclass(frozen=True, eq=False)
class Watch:
    """Who follows the work on a root, which ends by `deadline`, a value of `kernels.deadline.now`.

    `refuted` is asked before the dearest stage, with the points (G, D) where bounds are reached: where a counterexample
    turns up, the root is left as it is. `told` hears the goals' bounds and which are closed, after each stage.
    `proving`: somebody wants to know what proves that pieces are closed.
    """

    deadline: float | None = None
    refuted: Callable[[Tensor], bool] = lambda points: False
    told: Callable[[Tensor, Tensor], None] = lambda bounds, closed: None
    proving: bool = False


def rooted(tree: Phases, look: Look, watch: Watch) -> AbstractTree[Branch]:
    """The tree over the best root that can be had, which is that at hand where time is up on the way to a better one;
    `look` puts around it what else looks at every piece. What bounding the roots gave stays with it."""
    whole = look(tree)
    if not tree.bounder.relaxation.steps:
        return whole
    with suppress(TimeUp):
        for improve in (_refine, _strengthen) if tree.choices.row_kinds else (_refine,):
            bounded = whole.bound_roots()
            watch.told(bounded.records.bound, bounded.closed)
            if bool(bounded.closed.all()) or not improve(tree, bounded, watch):
                break
            whole = look(tree)
    return whole


def _refine(tree: Phases, bounded: Bounded[Branch], watch: Watch) -> bool:
    """Layers optimised; whether the root is a better one now."""
    effort = tree.choices.effort.root
    ledger: list[Step] | None = [] if tree.proving else None
    optimising = replace(tree.bounder.relaxation, steps=effort.steps, rate=effort.rate, ledger=ledger)
    asking = effort.speakers if "m-1" in tree.choices.row_kinds else 0
    tree.begin(refined(optimising, tree.root, until(watch.deadline, effort), asking))
    tree.ledger += ledger or ()
    return True


def _strengthen(tree: Phases, bounded: Bounded[Branch], watch: Watch) -> bool:
    """Rows for the open goals, and layers with them; whether the root is a better one now."""
    alpha, open_ = tree.bounder.relaxation, ~bounded.closed
    if watch.refuted(bounded.points[open_]):
        return False
    effort = tree.choices.effort.root
    wanted, deadline = objectives(tree.goals, open_), until(watch.deadline, effort)
    ledger: list[Step] | None = [] if tree.proving else None
    optimising = Alpha(alpha.linear, effort.steps, ledger=ledger)
    found = most_useful(
        alpha, strengthened(optimising, tree.root, wanted, deadline, tree.choices.row_kinds), effort.rows
    )
    if found.neuron_rows is None:
        return False
    tree.begin(found.root, found.neuron_rows, starts(replace(alpha, neuron_rows=found.neuron_rows), found, open_))
    tree.ledger += ledger or ()
    return True


def starts(alpha: Alpha, found: Strengthened, open_: Tensor) -> Multipliers:
    """Multipliers for every goal (G, S, ...): those found for the open ones; CROWN's slopes for the others."""
    multipliers, count = found.result.multipliers, int(open_.sum())
    assert multipliers is not None, "optimised bounds have multipliers"
    width = multipliers.choice.shape[1] // count
    every = alpha.start(found.root, width)
    parts = []
    for name in ("choice", "split", "neuron_rows"):
        whole = getattr(every, name).expand(len(open_), *getattr(every, name).shape[1:]).clone()
        whole[open_] = getattr(multipliers, name)[0].unflatten(0, (count, width))
        parts.append(whole)
    return Multipliers(*parts)
