"""Looking for a counterexample: projected gradient descent from many points at once.

A *goal* is one unsafe polyhedron of one case: its point must make every row v_r(x) = rows_r f(x) + on_input_r x +
constants_r non-positive (`table`). From random points of the case's box
(centre, corners, uniform; many are evaluated and the nearest kept, some others beside them), steps

    x  <-  clip(x - eta_t (u - l) sign(g_t)),    g_t = mu g_{t-1} + grad / |grad|_1

follow (Madry et al. 2018; the momentum is Dong et al. 2018), with eta_t falling geometrically. Points differ in three
ways, in turn. Some lower the largest row, the others the sum of the rows' positive parts, each row relative to its
spread over the first points: the first ends deep inside, the second is not caught where rows pull against each other.
`first` and `last` of `AttackEffort` set how far they walk: long strides cross the box of an image network, short ones
keep to the basin that the first evaluation found, which alone finds the slivers of low-dimensional controllers. And
half of the gradients leak through inactive neurons (`leak`). All goals and starting points run as one batch; twice on
the way the worse half of the points is dropped, whatever their goals, so that hopeless goals cost little.

The search stops at the first candidate that `witness.Judge` turns into a confirmed witness. Soundness: heuristic
throughout; what is returned is exact, because the judge is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ...kernels.deadline import now
from ...problems.network.graph import Affine, Graph
from ..effort import ATTACK, AttackEffort
from .leak import leaking
from .table import Points, Table
from .witness import Goal, Judge, Witness


@dataclass(frozen=True)
class Budget:
    """How hard one call of `search` tries: points a goal, and steps for each."""

    restarts: int
    steps: int


def budgets(operations: float, effort: AttackEffort = ATTACK) -> Iterator[Budget]:
    """Budgets without end, the first one quick, for a network whose evaluation at a point for every goal takes
    `operations` multiplications: many points where they are cheap, few where they are dear."""
    restarts, steps = int(min(max(effort.quick / operations, effort.fewest), effort.most)), effort.steps
    most = effort.growth * restarts
    while True:
        yield Budget(restarts, steps)
        restarts, steps = min(2 * restarts, most), min(2 * steps, effort.most_steps)


class Attacker(Protocol):
    """Whoever a search asks for counterexamples; see `Attack`."""

    def budgets(self) -> Iterator[Budget]:
        """Budgets for `search`."""

    def search(
        self, *, restarts: int, steps: int, goals: Sequence[Goal] | None = None, deadline: float | None = None
    ) -> Witness | None:
        """From random points."""

    def polish(
        self,
        points: Tensor,
        *,
        goals: Sequence[Goal] | None = None,
        steps: int = ATTACK.steps,
        deadline: float | None = None,
    ) -> Witness | None:
        """From these points."""

    def check(self, points: Tensor) -> Witness | None:
        """At these points."""

    @property
    def judge(self) -> Callable[..., Witness | None]:
        """What says whether a point near x is a witness: of x, its goal and, where known, x in rational numbers."""


class Attack:
    """Looks for counterexamples of a property.

    `graph` is the network in the dtype and on the device of the attack; it finds candidates, and `judge` alone says
    what a witness is. The same seed and the same calls give the same points.
    """

    def __init__(self, graph: Graph, judge: Judge, seed: int = 0) -> None:
        self.graph, self.judge, self.prop, self.effort = graph, judge, judge.prop, judge.effort
        self.like = next(node.bias for node in graph.nodes if hasattr(node, "bias")).new_empty(0)
        self.random = torch.Generator(self.like.device).manual_seed(seed)

    @cached_property
    def everything(self) -> Table:
        """All goals of the property."""
        goals = [
            (c, u) for c, case in enumerate(self.prop.cases) if not case.inputs.empty for u in range(len(case.unsafe))
        ]
        return Table.of(self.prop, goals, self.like)

    def budgets(self) -> Iterator[Budget]:
        """Budgets for `search` that suit this network."""
        maps = [op for node in self.graph.nodes if isinstance(node, Affine) for op in node.operators]
        operations = len(self.everything.goals) * sum(op.terms * min(op.n_in, op.n_out) for op in maps)
        return budgets(operations, self.effort)

    # ---- the three ways in

    @torch.enable_grad()
    def search(
        self, *, restarts: int, steps: int, goals: Sequence[Goal] | None = None, deadline: float | None = None
    ) -> Witness | None:
        """Descends from `restarts` random points for each goal (all goals, or (case, unsafe set) index pairs).

        `deadline` is on `kernels.deadline.now`. Returns a confirmed witness, or None.
        """
        table, starts = self._table(goals), []
        if not table.goals:
            return None
        some_goals = max(1, self._evaluated_at_once() // (self.effort.samples * restarts))
        for some in torch.arange(len(table.goals), device=self.like.device).split(some_goals):
            witness, start = self._starts(table, some, restarts)
            if witness or _late(deadline):
                return witness
            starts.append(start)
        points, goal, rank, scale = (torch.cat(parts) for parts in zip(*starts, strict=True))
        order = rank.argsort()  # the nearest points first, so that a deadline cuts the hopeless ones
        for some in order.split(self._descended_at_once(table)):
            far = self.effort.first, self.effort.last
            witness = self._descend(Points(table, goal[some], scale), points[some], steps, far, deadline)
            if witness or _late(deadline):
                return witness
        return None

    @torch.enable_grad()
    def polish(
        self,
        points: Tensor,
        goals: Sequence[Goal] | None = None,
        steps: int = ATTACK.steps,
        deadline: float | None = None,
    ) -> Witness | None:  # (K, D)
        """Descends from the given points, each towards the goal that it is nearest to."""
        table = self._table(goals)
        if not len(points) or not table.goals:
            return None
        points = points.to(self.like)
        for some in points.split(min(self._evaluated_at_once(table), self._descended_at_once(table))):
            margin = self._margins(table, some)
            witness = self._judge(table, *_best(some, margin))
            if witness:
                return witness
            least, goal = margin.min(1)
            some, goal = some[least < torch.inf], goal[least < torch.inf]
            if len(some):
                copies = -(-self.effort.variants // len(some))
                some, goal, scale = some.repeat(copies, 1), goal.repeat(copies), torch.ones_like(table.constants)
                near = self.effort.near_first, self.effort.near_last
                witness = self._descend(Points(table, goal, scale), some, steps, near, deadline)
            if witness or _late(deadline):
                return witness
        return None

    @torch.enable_grad()  # for the judge, which moves a candidate
    def check(self, points: Tensor) -> Witness | None:  # (K, D)
        """A witness, where one of the points is a counterexample already. No gradients."""
        table = self.everything
        if not len(points) or not table.goals:
            return None
        for some in points.to(self.like).split(self._evaluated_at_once(table)):
            witness = self._judge(table, *_best(some, self._margins(table, some)))
            if witness:
                return witness
        return None

    # ---- values

    def _table(self, goals: Sequence[Goal] | None) -> Table:
        return self.everything if goals is None else Table.of(self.prop, goals, self.like)

    def _evaluated_at_once(self, table: Table | None = None) -> int:
        """How many points one evaluation may hold, of the network and of all goals of `table`."""
        values = table.constants.numel() if table else 1
        return self._points(values)

    def _descended_at_once(self, table: Table) -> int:
        """How many points may descend together, each with the rows of its goal."""
        rows = table.rows[0].numel() + (0 if table.on_input is None else table.on_input[0].numel())
        return self._points(rows)

    def _points(self, numbers: int) -> int:
        """How many points of so many numbers go together, which changes the order in which they come, and not which are
        tried; some at least, but for networks of which one point fills the memory."""
        size = max(self.graph.neurons, self.graph.input_size, numbers)
        return max(1, min(16, self.effort.room // size), self.effort.numbers // size)

    def _margins(self, table: Table, x: Tensor) -> Tensor:  # (K, D) -> (K, G)
        """The largest row of every goal at every point; infinite where the point lies outside the goal's box."""
        with torch.no_grad():
            y = self.graph(x)
            values = torch.einsum("grn,kn->kgr", table.rows, y) + table.constants
            if table.on_input is not None:
                values += torch.einsum("grd,kd->kgr", table.on_input, x)
            slack = 1e-6 * (table.upper.abs() + table.lower.abs() + 1e-6)
            boxes = zip(table.lower - slack, table.upper + slack, strict=True)
            inside = torch.stack([((x >= l) & (x <= u)).all(-1) for l, u in boxes], 1)
            return torch.where(inside[:, table.case], values.amax(-1), torch.inf)

    def _starts(
        self, table: Table, some: Tensor, restarts: int
    ) -> tuple[Witness | None, tuple[Tensor, Tensor, Tensor, Tensor] | None]:
        """For the goals `some`: points, the goal of each, its rank (small is promising), and the rows' spread."""
        cases, place = table.case[some].unique(return_inverse=True)
        lower, upper = table.lower[cases, None], table.upper[cases, None]
        x = self._random_points(lower, upper, self.effort.samples * restarts)
        with torch.no_grad():
            y = torch.cat([self.graph(part) for part in x.flatten(0, 1).split(self._evaluated_at_once())])
            y = y.unflatten(0, x.shape[:2])
            values = y[place] @ table.rows[some].mT + table.constants[some, None]
            if table.on_input is not None:
                values += x[place] @ table.on_input[some].mT
        spread = values.std(1)
        scale = torch.where(spread > 0, spread, 1.0)
        margin = values.amax(-1)  # (G', samples restarts)
        rank = (values / scale[:, None]).amax(-1)
        flat = margin.reshape(-1)
        owner = some[:, None].expand_as(margin).reshape(-1)
        points = x[place].reshape(len(flat), -1)
        witness = self._judge(table, points, owner, flat)
        if witness:
            return witness, None
        kept = rank.topk(restarts - restarts // 2, largest=False).indices
        others = torch.arange(restarts // 2, device=kept.device).expand(len(kept), -1)
        kept = torch.cat([kept, others], 1)
        chosen = (kept + x.shape[1] * torch.arange(len(kept), device=kept.device)[:, None]).reshape(-1)
        return None, (points[chosen], owner[chosen], rank.reshape(-1)[chosen], scale)

    def _random_points(self, lower: Tensor, upper: Tensor, count: int) -> Tensor:  # (C, 1, D) twice -> (C, count, D)
        """The centre, then corners and uniform points in turn."""
        t = torch.rand(
            len(lower), count, lower.shape[-1], generator=self.random, dtype=lower.dtype, device=lower.device
        )
        t[:, 1::2] = t[:, 1::2].round()
        t[:, 0] = 0.5
        return torch.clamp(lower + t * (upper - lower), lower, upper)

    # ---- descent

    def _descend(
        self,
        point: Points,
        x: Tensor,  # (P, D)
        steps: int,
        strides: tuple[tuple[float, ...], tuple[float, ...]],  # first and last steps, in turn
        deadline: float | None,
    ) -> Witness | None:
        """Projected sign-gradient descent with momentum; the worse half of the points goes at 1/4 and 1/2."""
        effort, place = self.effort, torch.arange(len(x), device=x.device)
        leak = torch.tensor(effort.leaks, dtype=x.dtype, device=x.device)[place % len(effort.leaks), None]
        place = place // len(effort.leaks)
        turn = place // 2
        first, last = (torch.tensor(s, dtype=x.dtype, device=x.device)[turn % len(s)] for s in strides)
        summed, step, ratio = place % 2 == 1, first[:, None], (last / first)[:, None] ** (1 / max(1, steps - 1))
        graph = leaking(self.graph, leak)
        momentum = torch.zeros_like(x)
        refused: float | Tensor = torch.inf
        for t in range(steps):
            x.requires_grad_()
            y = graph(x)
            values = point.values(y, x)
            margin = values.detach().amax(-1)
            if margin.min() <= 0 and margin.min() < refused:
                witness = self._judge(point.table, x.detach(), point.goal, margin)
                if witness:
                    return witness
                refused = margin.min() - effort.refused * y.detach().abs().max()
            if _late(deadline) or t == steps - 1:
                return None
            relative = values / point.scale
            loss = torch.where(summed, torch.relu(relative + effort.inside).sum(-1), relative.amax(-1))
            (slope,) = torch.autograd.grad(loss.sum(), x)
            x = x.detach()
            momentum = effort.momentum * momentum + slope / slope.abs().sum(-1, keepdim=True).clamp(min=1e-30)
            x = torch.clamp(x - step * point.width * momentum.sign(), point.lower, point.upper)
            step = step * ratio
            if t + 1 in (steps // 4, steps // 2) and len(x) > effort.kept:
                kept = relative.detach().amax(-1).topk(len(x) // 2, largest=False).indices
                parts = (x, momentum, summed, step, ratio, leak)
                x, momentum, summed, step, ratio, leak = (part[kept] for part in parts)
                point, graph = point.some(kept), leaking(self.graph, leak)
        return None

    def _judge(self, table: Table, x: Tensor, goal: Tensor, margin: Tensor) -> Witness | None:
        """The first of the most promising points (P, D) that becomes a witness of its goal (P,)."""
        best = margin.topk(min(self.effort.candidates, len(margin)), largest=False).indices
        best = best[margin[best] <= 0]
        for x_i, g in zip(x[best].double().cpu().numpy(), goal[best].tolist(), strict=True):
            witness = self.judge(x_i, table.goals[g])
            if witness:
                return witness
        return None


def _best(x: Tensor, margin: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # (K, D), (K, G)
    """Each point with its nearest goal and the margin there."""
    least, goal = margin.min(1)
    return x, goal, least


def _late(deadline: float | None) -> bool:
    return deadline is not None and now() >= deadline
