"""Which of several ways to bound a piece pays here, decided by what each has gained so far in this run.

A tree over pieces that are `gap` away from being closed, where a split gains `gain` on average, has about
2^(gap / gain) pieces. Bounding each at a cost c, the cheapest way is the one with the least

    log2 c + gap / gain.

Gains are measured: how far bounds rose from the parents' (or up to zero, where a piece was closed). Costs are counted,
in multiplications, not timed, so that the same run is the same tree. Every way is tried at first, and again now
and then, for what pays at the root need not pay below it.

Heuristic: whichever is chosen, its bounds are sound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, log2

from ..effort import TREE, TreeEffort


@dataclass
class Way:
    """One way, and what came of it."""

    name: str
    cost: float  # of one piece, in any unit that all ways share
    rows: bool = True  # with the base's rows of several neurons
    patience: int = 1  # times the steps
    batches: int = 0
    pieces: int = 0
    closed: int = 0
    gain: float = 0.0  # sum over the pieces since the last trial began, older ones fading
    weight: float = 0.0
    seconds: float = 0.0  # for the summary alone

    def summary(self) -> str:
        """For the user: what was bounded and closed with it, and for how long."""
        share = f" ({100 * self.closed / self.pieces:.0f} %)" if self.pieces else ""
        return f"{self.closed} closed of {self.pieces} bounded{share}, {self.seconds:.2f} s"

    def count(self, pieces: int, closed: int, seconds: float) -> None:
        """A batch was bounded with it."""
        self.pieces, self.closed, self.seconds = self.pieces + pieces, self.closed + closed, self.seconds + seconds

    @property
    def mean_gain(self) -> float:
        return self.gain / self.weight if self.weight else 0.0


@dataclass
class Trial:
    """The ways, in the order in which ties are settled."""

    ways: list[Way]
    effort: TreeEffort = TREE
    gap: float = field(default=inf, init=False)  # mean distance of the parents from being closed
    turn: int = field(default=0, init=False)

    @property
    def gain(self) -> float:
        """What a split gains with the way that is used most."""
        return max(self.ways, key=lambda way: way.batches).mean_gain

    def choose(self) -> Way:
        """The way for the next batch."""
        self.turn += 1
        if len(self.ways) == 1:
            return self.ways[0]
        untried = [way for way in self.ways if way.batches < self.effort.first]
        if untried:
            return min(untried, key=lambda way: way.batches)
        if self.turn % self.effort.again == 0:
            return min(self.ways, key=lambda way: way.batches)
        return min(self.ways, key=self._work)

    def learn(self, way: Way, parents: list[float], gains: list[float], closed: int, seconds: float) -> None:
        """What a batch gained: the bounds of its pieces' parents, and how far each rose (at most to zero)."""
        way.batches += 1
        way.count(len(gains), closed, seconds)
        finite = [(p, g) for p, g in zip(parents, gains, strict=True) if p > -inf]
        if not finite:
            return  # roots: there is no parent to rise from
        way.gain = 0.9 * way.gain + sum(g for _, g in finite)
        way.weight = 0.9 * way.weight + len(finite)
        mean = sum(-p for p, _ in finite) / len(finite)
        self.gap = mean if self.gap == inf else 0.9 * self.gap + 0.1 * mean

    def _work(self, way: Way) -> float:
        return log2(way.cost) + self.gap / max(way.mean_gain, 1e-9)
