"""Branch and bound: the loop, and one function for each thing it can do.

The frontier holds the open pieces. Each step takes the worst, splits them, bounds the children, and puts back those
that are not closed. The loop ends when the frontier is empty (the property holds), a confirmed witness is found (it
is violated), or a limit is reached.

Soundness. A piece leaves the tree only when (a) a bound with its rounding taken off is positive, or at least zero for
a strict row, (b) the same bound evaluated in float64 is, or (c) it is settled by a linear program whose certificate is
checked, or by one in whole numbers. Every split covers its piece. A piece that can be neither closed nor split is
counted, and then the verdict cannot be better than `unknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch

from ...kernels.deadline import TimeUp, now
from ...problems.errors import out_of_memory
from ...relaxations.effort import LEAF
from ..attack.descent import Attacker
from ..trees.frontier import Frontier
from ..trees.proofs import Proof, Unproved
from ..trees.records import Record
from ..trees.tree import AbstractTree, Bounded, Settled
from .observer import Observer
from .proving import Proving
from .schedule import Schedule
from .state import State
from .verdict import TIME_IS_UP, Cause, End, Verdict


@dataclass(frozen=True)
class Limits:
    """What a search may take; `deadline` and `begun`, when the work on the tree's root began, are values of
    `kernels.deadline.now`."""

    deadline: float | None
    batch: int  # pieces; 0: what the tree thinks best
    memory: float  # bytes
    begun: float | None = None
    program: float = LEAF.longest  # seconds, for each linear program of a leaf


class Engine:
    """One search."""

    def __init__(
        self, tree: AbstractTree, attack: Attacker, schedule: Schedule, observers: Sequence[Observer], limits: Limits
    ) -> None:
        self.tree, self.attack_with, self.schedule = tree, attack, schedule
        self.observers, self.memory, self.longest = observers, limits.memory, limits.program
        self.proving = Proving(tree, observers)
        roots = tree.roots()
        self.roots = self.first = roots
        self.waiting: list[Record] = []
        self.state = State(
            frontier=Frontier(),
            goals=len(roots),
            named=len(roots),
            batch=limits.batch or tree.default_batch(limits.memory),
            deadline=limits.deadline,
        )
        if limits.begun is not None:
            self.state.spend("root", limits.begun)
            self.state.start = limits.begun
        self.budgets = attack.budgets()

    def go_on(self, first: Record, named: int, leaves: int, weight: float) -> None:
        """Starts from these pieces instead of the roots: those an earlier run left open, which gave `named` ids and
        closed `leaves` pieces with this share of the tree. They are bounded again a batch at a time, and something is
        split between two batches: so each of many short runs gets on, however many pieces are open."""
        batch = self.state.batch
        parts = [first[start : start + batch] for start in range(0, len(first), batch)]
        self.first, self.waiting = (parts[0], parts[:0:-1]) if parts else (first, [])
        self.state.waiting = sum(len(part) for part in self.waiting)
        self.state.named, self.state.leaves, self.state.weight = named, leaves, weight

    def run(self) -> Verdict:
        """The verdict; where it is no answer, `schedule.end` says why.

        An interrupt (Ctrl-C) ends the search with what it knows: `unknown`, because it was interrupted.
        """
        try:
            for observer in self.observers:
                observer.rooted(self.roots)
            self.begin()
            self.progress("r")
            return self.loop()
        except KeyboardInterrupt:
            return self.ended(End(Cause.INTERRUPT, "interrupted"))

    def begin(self) -> None:
        """Bound the first pieces; what is known of the roots since the tree was made is not found out again."""
        known = None
        self.proving.laid()
        if self.first is self.roots:
            try:
                known = self.tree.first()
            except (MemoryError, RuntimeError, TimeUp) as error:
                self.shrink(error, len(self.roots))
        if known is None:
            self.bound(self.first)
        else:
            self.sort(known)

    def loop(self) -> Verdict:
        """The search, once the roots are bounded."""
        state, schedule = self.state, self.schedule
        while True:
            if state.witness is not None:
                return Verdict.VIOLATED
            if state.open == 0:
                return Verdict.HOLDS if state.stuck == 0 else self.undecided()
            if schedule.exhausted(state):
                return schedule.verdict
            if schedule.reporting(state):
                self.progress("b")
            elif schedule.attacking(state):
                self.attack()
            elif self.tree.due() and schedule.tightening(state):
                self.tighten()
            elif self.waiting:
                self.go_on_with(self.waiting.pop())
            else:
                self.branch()

    def undecided(self) -> Verdict:
        """Every piece is closed but the stuck ones."""
        said = f"{self.state.stuck} pieces could be neither closed nor split: {self.state.stuck_reason}"
        return self.ended(End(Cause.STUCK, said))

    def ended(self, end: End) -> Verdict:
        """The search is over for this reason."""
        self.schedule.end = end
        return end.verdict

    def go_on_with(self, record: Record) -> None:
        """Bound some pieces of the earlier run, and split others."""
        self.state.waiting -= len(record)
        self.bound(record)
        if len(self.state.frontier):
            self.branch()

    def branch(self) -> None:
        """Split the worst pieces, bound the children."""
        state = self.state
        begun = now()
        crowded = state.frontier.bytes > self.memory / 3
        parents = state.frontier.pop(max(1, state.batch // 2), best=crowded, grouped_by=self.tree.grouped_by)
        try:
            children = self.tree.split(parents)
        except (MemoryError, RuntimeError, TimeUp) as error:
            self.shrink(error, len(parents))
            state.frontier.push(parents)
            return
        lower = state.named + 2 * torch.arange(len(parents), device=parents.id.device)
        children = replace(children, id=torch.cat([lower, lower + 1]))
        state.named += len(children)
        for observer in self.observers:
            observer.branched(parents, children)
        self.bound(children)
        self.schedule.slowest = max(self.schedule.slowest, now() - begun)

    def bound(self, record: Record) -> None:
        """Bound a batch of pieces, in parts if memory asks for it, and sort out what became of each.

        Parts whose turn does not come before a limit is reached stay open, with their parents' bounds; so does one in
        whose middle time is up.
        """
        waiting = [record]
        while waiting and self.state.witness is None:
            part = waiting.pop()
            if self.schedule.exhausted(self.state):
                self.state.frontier.push(part)
                continue
            if len(part) > self.state.batch:
                waiting += [part[self.state.batch :], part[: self.state.batch]]
                continue
            begun = now()
            try:
                bounded = self.tree.bound(part)
            except (MemoryError, RuntimeError, TimeUp) as error:
                self.shrink(error, len(part))
                waiting.append(part)
                continue
            self.state.spend("bound", begun)
            self.sort(bounded)

    def shrink(self, error: BaseException, count: int) -> None:
        """Halves the batch where memory ran out for `count` pieces, ends the search where time did; any other error
        goes on its way."""
        if isinstance(error, TimeUp):
            self.schedule.end = self.schedule.end or TIME_IS_UP
            return
        if not out_of_memory(error):
            raise error
        if count <= 1:
            self.schedule.end = End(Cause.MEMORY, "memory does not suffice for a single piece")
        self.state.batch = max(1, min(self.state.batch, count) // 2)
        self.progress("m")

    @contextmanager
    def dispensable(self, activity: str) -> Iterator[None]:
        """Books the time of something the search can do without; where memory runs out in it, the batch is halved.
        Where time is up in it, nothing came of it (`exhausted` looks at the clock)."""
        begun = now()
        try:
            yield
        except TimeUp:
            pass
        except (MemoryError, RuntimeError) as error:
            self.shrink(error, max(2, self.state.batch))
        finally:
            self.state.spend(activity, begun)

    def sort(self, bounded: Bounded) -> None:
        """Close, confirm, settle or keep each bounded piece."""
        state = self.state
        state.pieces += len(bounded.closed)
        self.proving.narrowed(bounded)
        for name, rows in bounded.ends():
            self.close(bounded.records[rows], name, partial(bounded.proof, name, rows))
        open_ = ~bounded.closed
        near = (bounded.near & open_).nonzero()[:, 0]
        if len(near):
            with self.dispensable("float64"):
                sure = near[self.tree.confirm(bounded.records[near])]
                leaves = bounded.records[sure]
                self.close(leaves, "float64", partial(self.tree.confirmation, leaves))
                state.confirmed += len(sure)
                open_[sure] = False
        rows = open_.nonzero()[:, 0]
        if len(rows) == 0:
            return
        if self.schedule.attack_on:
            self.look(bounded, rows)
        decided = bounded.decided & open_
        for row in decided.nonzero()[:, 0].tolist():
            if state.witness is not None or self.schedule.exhausted(state):
                break
            try:
                self.settle(bounded, row)
            except TimeUp as late:
                self.shrink(late, 1)
                break
            open_[row] = False
        kept = bounded.records[open_.nonzero()[:, 0]]
        if len(kept):
            state.depth = max(state.depth, int(kept.depth.max()))
        state.frontier.push(kept)

    def close(self, leaves: Record, how: str, make: Callable[[], Proof]) -> None:
        """These pieces are proved, by what `make` gives."""
        if len(leaves) == 0:
            return
        proof = self.proving.proof(make)
        self.state.leaves += len(leaves)
        self.state.weight += float(torch.exp2(-leaves.depth.double()).sum()) / self.state.goals
        self.proving.closed(leaves, how, proof)
        for observer in self.observers:
            observer.closed(leaves, how)

    def look(self, bounded: Bounded, rows: torch.Tensor) -> None:
        """Try the points that the worst bounds of this batch were reached at; keep some for the attack."""
        worst = rows[
            bounded.records.bound[rows].topk(min(self.schedule.effort.suspects, len(rows)), largest=False).indices
        ]
        points = bounded.points[worst]
        self.state.suspects = points
        with self.dispensable("look"):
            self.state.witness = self.attack_with.check(points)

    def attack(self) -> None:
        """One turn of the attack: from the suspects first, then from random points."""
        state, begun = self.state, now()
        self.schedule.attacked_at = state.pieces
        budget = next(self.budgets)
        limit = min(state.deadline or begun + 60, begun + 0.2 + 0.1 * state.elapsed)
        goals = [self.tree.goals.pairs[g] for g in state.frontier.goals()]
        suspects, state.suspects = state.suspects, None
        with self.dispensable("attack"):
            if suspects is not None:
                state.witness = self.attack_with.polish(suspects, goals=goals, steps=budget.steps, deadline=limit)
            if state.witness is None:
                state.witness = self.attack_with.search(
                    restarts=budget.restarts, steps=budget.steps, goals=goals, deadline=limit
                )
        state.last_attack = now() - begun
        self.progress("a")

    def tighten(self) -> None:
        """Better bounds for what the worst piece and its sharing stand on, and so for them."""
        state, begun = self.state, now()
        sharing = state.frontier.take(self.tree.sharing)
        better = sharing
        with self.dispensable("tighten"):
            better = self.tree.tighten(sharing, state.deadline)
        self.schedule.derivation = now() - begun
        self.proving.laid()
        state.pieces -= len(sharing)  # they have been counted
        begun = now()
        self.bound(better)
        self.schedule.slowest = max(self.schedule.slowest, now() - begun)
        self.progress("t")

    def settle(self, bounded: Bounded, row: int) -> None:
        """An exact linear program on a piece whose neurons are all decided (or that cannot be split); where double
        precision decides nothing, one in whole numbers."""
        state, begun = self.state, now()
        leaf = bounded.records[row : row + 1]
        goal = self.tree.goals.pairs[int(leaf.goal[0])]
        result = self.tree.leaf(leaf, 0, min(self.longest, max(0.1, state.left)))
        state.spend("leaf", begun)
        if result.closed:
            state.settled += 1
            self.close(leaf, "linear program", partial(self.settlement, leaf, result))
            return
        if result.point is not None:
            state.witness = self.attack_with.judge(result.point, goal)
        if state.witness is None and result.further is not None:
            begun, before = now(), result
            result = result.further(max(0.1, state.left))
            state.spend("exact", begun)
            if result.closed:
                state.exact += 1
                self.close(leaf, "exact arithmetic", partial(self.settlement, leaf, result))
                return
            if result.point is not None:
                state.witness = self.attack_with.judge(result.point, goal, result.exact)
            else:
                result = replace(result, reason=f"{before.reason}; {result.reason}")
        if state.witness is None:
            state.stuck += 1
            state.stuck_reason = result.reason
            for observer in self.observers:
                observer.stuck(leaf, result.reason)

    def settlement(self, leaf: Record, result: Settled) -> Proof:
        """What proves a leaf that was settled."""
        ground = self.tree.ground(leaf)
        return Unproved("the leaf's own") if result.proof is None else result.proof(ground)

    def stats(self, strategy: str) -> dict[str, float | int | str]:
        """What the search came to, by name."""
        state = self.state
        return {
            "leaves": state.leaves,
            "depth": state.depth,
            "open": state.open,
            "worst": state.frontier.worst,
            "float64": state.confirmed,
            "linear programs": state.settled,
            **({"exact arithmetic": state.exact} if state.exact else {}),
            **{f"{what} s": round(seconds, 4) for what, seconds in state.seconds.items()},
            "strategy": strategy,
            **{f"by {way.name}": way.summary() for way in self.tree.ways()},
            **{f"note {number}": note for number, note in enumerate(self.tree.notes(), 1)},
        }

    def progress(self, mark: str) -> None:
        """Tell the observers."""
        for observer in self.observers:
            observer.progress(mark, self.state)
