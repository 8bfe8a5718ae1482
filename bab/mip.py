"""Verification by the exact relaxation: one mixed-integer program for each pair of an input polytope and unsafe set.

The program's minimum is that of the largest row over the polytope. Where it is positive, less the margin that covers
the solver's tolerances, the goal holds; where a point with value zero or less is found, the point is moved, rounded and
judged like any other witness. In between, which is where the exact minimum of a strict row may well be, small networks
are decided in whole numbers (`leaf.rational`). The boxes that the big-M encoding needs are CROWN's.

Soundness: `sat` exact, by the witness; `unsat`, but for what was decided in whole numbers, trusts the solver's branch
and cut (see `ladder.exact`), and says so in its reason together with the margin. The search proper trusts no
solver.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..kernels.deadline import doing, now
from ..problems.network.graph import Graph
from ..problems.properties.property import Polytope
from ..relaxations.effort import BOUNDS, BoundEffort
from ..relaxations.ladder.exact import ExactResult, boxes_from, feasible_unsafe
from ..relaxations.leaf.rational import Rational, in_words
from ..relaxations.linear.root import root
from ..relaxations.lp.boxes import Box
from ..relaxations.protocol import Means
from .attack.witness import Judge, Witness
from .search.verdict import Verdict
from .trees.settle import in_whole_numbers

LATE = "the time limit passed while mixed-integer programs were solved"


@dataclass(frozen=True, eq=False)
class Answer:
    """The verdict with its reason; `pieces` counts the programs solved."""

    verdict: Verdict
    reason: str
    witness: Witness | None
    pieces: int


def ask(
    graph: Graph,  # float64, CPU
    judge: Judge,
    backend: str = "highs",
    deadline: float | None = None,  # of `kernels.deadline.now`
    effort: BoundEffort = BOUNDS,
) -> Answer:
    """Decides the judge's property, of a small network with piecewise-linear activations (see `question.treated`)."""
    doing("mixed-integer programs were solved")
    rational = Rational(graph, effort.leaf)
    solved, exact, open_, margin = 0, 0, "", 0.0
    for c, case in enumerate(judge.prop.cases):
        boxes: list[Box] | None = None
        for u, unsafe in enumerate(case.unsafe):
            if case.inputs.empty:
                continue
            left = None if deadline is None else deadline - now()
            if left is not None and left <= 0:
                return Answer(Verdict.TIMEOUT, LATE, None, solved)
            boxes = boxes or _boxes(graph, case.inputs)
            means = Means(backend=backend, time_limit=left, effort=effort)
            found = feasible_unsafe(graph, case.inputs, unsafe, means=means, bounds=boxes)
            solved += 1
            witness = judge(found.x, (c, u)) if found.x is not None and found.upper <= 0 else None
            if witness is not None:
                return Answer(Verdict.VIOLATED, f"found by mixed-integer programming ({backend})", witness, solved)
            if found.positive:
                margin = max(margin, found.margin)
                continue
            left = None if deadline is None else max(0.1, deadline - now())
            surely = in_whole_numbers(rational, case.inputs, unsafe, seconds=left)
            if surely.closed:
                exact += 1
                continue
            witness = judge(surely.point, (c, u), surely.exact) if surely.point is not None else None
            if witness is not None:
                return Answer(Verdict.VIOLATED, "found in exact arithmetic", witness, solved)
            open_ = open_ or f"{_between(found)}; {surely.reason}"
    if deadline is not None and now() >= deadline:
        return Answer(Verdict.TIMEOUT, LATE, None, solved)
    if open_:
        return Answer(Verdict.UNKNOWN, open_, None, solved)
    reason = f"by {solved} mixed-integer programs; {backend} is trusted to tolerances that add up to {margin:.1e}"
    if exact == solved:
        reason = f"in exact arithmetic, asked {solved} times"
    elif exact:
        reason += f"; what they left open, {exact} times, was decided in exact arithmetic"
    return Answer(Verdict.HOLDS, reason, None, solved)


def _boxes(graph: Graph, polytope: Polytope) -> list[Box]:
    """CROWN's bounds of every node on the polytope's box."""
    lower, upper = torch.as_tensor(polytope.lower), torch.as_tensor(polytope.upper)
    return boxes_from(graph, polytope, root(graph, lower, upper)[1], 0)


def _between(found: ExactResult) -> str:
    """Why a program's answer decides nothing."""
    if found.x is not None and found.upper <= 0:
        at = f"at {in_words(found.x)}, which the original network does not confirm"
        return f"the least value {found.upper:.3g} is attained {at}"
    return f"the least value lies between {found.lower:.3g} and {found.upper:.3g}, and its sign stays open"
