"""The root of a tree of activation branches: as much work on it as the pieces below will repay.

Everything proved at the root holds on every piece: pre-activation bounds, and rows that tie several neurons together.
Three stages, each only while goals stay open: bound with optimised slopes; optimise the pre-activations of every layer
(`rows.refine`); find multi-neuron rows for the open goals, and refine the layers with them
(`rows.strengthen`).

Heuristic in what it does when; every bound it hands on is sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from ...kernels.deadline import TimeUp
from ...relaxations.linear.alpha import Alpha
from ...relaxations.rows.refine import refined
from ...relaxations.rows.strengthen import Strengthened, lean, strengthened
from ...relaxations.types import Multipliers, Pieces
from .goals import Goals
from .shared_bounds import MOST, RATE, STEPS, objectives, until
from .tree import AbstractTree

SPEAKERS = 16  # neurons of a layer that ask for rows

Make = Callable[[Alpha, Pieces, Multipliers | None], AbstractTree]


def rooted(
    make: Make,
    alpha: Alpha,
    root: Pieces,
    goals: Goals,
    deadline: float | None,
    words: Sequence[str],
    refuted: Callable[[torch.Tensor], bool] = lambda points: False,
    told: Callable[[torch.Tensor, torch.Tensor], None] = lambda bounds, closed: None,
) -> AbstractTree:
    """The tree over the best root that can be had; `words`: the relaxations that multi-neuron rows may come from.

    `refuted` is asked before the dearest stage, with the points (G, D) where bounds are reached: where a counterexample
    turns up, the tree is given as it is; so it is where time is up on the way to a better one. `told` hears the goals'
    bounds and which are closed, after each stage.
    """
    tree = make(alpha, root, None)
    try:
        for better in _better(make, alpha, root, goals, deadline, words, refuted, told, tree):
            tree = better
    except TimeUp:
        pass
    return tree


def _better(
    make: Make,
    alpha: Alpha,
    root: Pieces,
    goals: Goals,
    deadline: float | None,
    words: Sequence[str],
    refuted: Callable[[torch.Tensor], bool],
    told: Callable[[torch.Tensor, torch.Tensor], None],
    tree: AbstractTree,
) -> Iterator[AbstractTree]:
    """Trees over better and better roots, as long as goals are open."""
    if not alpha.steps:
        return
    bounded = tree.bound(tree.roots())
    told(bounded.records["bound"], bounded.closed)
    open_ = ~bounded.closed
    if not bool(open_.any()):
        return
    optimising = replace(alpha, steps=STEPS, rate=RATE)
    root = refined(optimising, root, until(deadline), SPEAKERS if "m-1" in words else 0)
    tree = make(alpha, root, None)
    yield tree
    if not words:
        return
    bounded = tree.bound(tree.roots())
    told(bounded.records["bound"], bounded.closed)
    open_ = ~bounded.closed
    if not bool(open_.any()) or refuted(bounded.points[open_]):
        return
    wanted = objectives(goals, open_)
    found = lean(alpha, strengthened(Alpha(alpha.linear, STEPS), root, wanted, until(deadline), words), MOST)
    if found.joint is None:
        return
    alpha = replace(alpha, joint=found.joint)
    yield make(alpha, found.root, starts(alpha, found, open_))


def starts(alpha: Alpha, found: Strengthened, open_: torch.Tensor) -> Multipliers:
    """Multipliers for every goal (G, S, ...): those found for the open ones; CROWN's slopes for the others."""
    multipliers, count = found.result.multipliers, int(open_.sum())
    assert multipliers is not None, "optimised bounds have multipliers"
    width = multipliers.choice.shape[1] // count
    every = alpha.start(found.root, width)
    parts = []
    for name in ("choice", "split", "joint"):
        whole = getattr(every, name).expand(len(open_), *getattr(every, name).shape[1:]).clone()
        whole[open_] = getattr(multipliers, name)[0].unflatten(0, (count, width))
        parts.append(whole)
    return Multipliers(*parts)
