"""The smallest tree there is, for networks of few neurons.

L(S), the fewest proper leaves (see `proper`) of a tree below the piece whose decided neurons are S, is 0 where the
piece is not proper, 1 where a proper one is closed, and else

    L(S) = min over undecided i of  L(S + (i, -)) + L(S + (i, +)),

so the smallest tree over all branching orders, different ones in different branches included, is a search over sets of
decisions and not over orders of them. Each set is bounded once. The search asks "is there a tree of at most k leaves?"
for k = 1, 2, ..., and remembers for every set what was proved: that k leaves do not suffice, or how many do. A cut is
dropped as soon as what is proved of both sides exceeds k; sets that no small tree passes through are never bounded.
Pieces that are not proper are cut at their first neuron until they are closed: what they end in does not count.

There are up to 3^n sets, so this ends at about ten undecided neurons (`MOST`).

Soundness: exact up to what closes a piece (outward rounded) and to what counts as undecided (see `measured`). Where it
is not decided whether a piece is proper the search ends, and its tree is not finished.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import inf

from ...kernels.deadline import TimeUp
from ...problems.errors import BadInput
from .branches import TooSlow
from .grow import Bounder
from .measured import Cut, Known, Piece, Region, Status, Tree
from .proper import Judge

MOST = 12  # undecided neurons at the root
WIDE = 1 << 30  # more leaves than any tree has


@dataclass
class _Fewest:
    """What is proved of one set: at least `least` leaves; exactly so many where `cut` is known or it is a leaf."""

    least: int
    exact: bool = False
    cut: Cut | None = None


@dataclass(frozen=True, eq=False)
class _Search:
    bounder: Bounder
    judge: Judge
    deadline: float | None
    found: dict[tuple[tuple[int, int], ...], _Fewest] = field(default_factory=dict)

    def fewest(self, region: Region, most: int) -> int:
        """The fewest leaves below the piece if that is at most `most`, otherwise a number beyond it that is proved."""
        if self.deadline is not None and time.perf_counter() > self.deadline:
            raise TooSlow
        known = self.bounder.bound([region])[0]
        entry = self.found.get(region.phases)
        if entry is None:
            entry = self.found[region.phases] = self._first(known, region)
        if entry.exact or entry.least > most:
            return entry.least
        beyond = WIDE
        for cut in self.bounder.cuts(region, known):
            total = self._below(region, known, cut, min(most, beyond - 1))
            if total < beyond:
                beyond = total
                if total <= most:
                    entry.cut = cut
                    if total == entry.least:
                        break
        entry.least, entry.exact = max(entry.least, beyond), beyond <= most
        return entry.least

    def _first(self, known: Known, region: Region) -> _Fewest:
        if known.empty:
            return _Fewest(0, True)
        proper = self.judge.proper(region.phases)
        if proper is None:
            raise TooSlow
        if not proper:
            return _Fewest(0, True)
        if self.bounder.goal.closed(known.values) or not self.bounder.cuts(region, known):
            return _Fewest(1, True)
        return _Fewest(1)

    def _below(self, region: Region, known: Known, cut: Cut, most: int) -> int:
        """The fewest leaves with this cut first, or a number beyond `most`."""
        below, above = self.bounder.children(region, known, cut)
        held = sum(self.found[c.phases].least for c in (below, above) if c.phases in self.found)
        if held > most:
            return held
        one = self.fewest(below, most)
        return one if one > most else one + self.fewest(above, most - one)


def smallest(bounder: Bounder, judge: Judge, deadline: float | None = None) -> tuple[Tree, int]:
    """The tree of fewest proper leaves, and how many sets of decisions were looked at for it.

    A tree that is not finished is the root alone, open: its search ended at `deadline` (of `time.perf_counter`). Raises
    `BadInput` where more than `MOST` neurons are undecided, or pieces are boxes.
    """
    if bounder.pieces == "input":
        raise BadInput("the smallest tree is searched over decided neurons; with pieces=input there is no end to cuts")
    try:
        known = bounder.bound([bounder.root])[0]
    except TimeUp:
        return Tree([Piece(0, -1, 0, "open", inf, region=replace(bounder.root, boxes=None))], False), 0
    count = 0 if known.empty else len(known.undecided)
    if count > MOST and not bounder.goal.closed(known.values):
        raise BadInput(
            f"branching=optimal searches all trees, which is for at most {MOST} undecided neurons, and here are "
            f"{count}; take a smaller input set or network, or branching=all"
        )
    search, most = _Search(bounder, judge, deadline), 1
    try:
        while (fewest := search.fewest(bounder.root, most)) > most:
            most = fewest
        return Tree(list(_written(search)), True, fewest), len(search.found)
    except (TooSlow, TimeUp):
        pieces = [Piece(0, -1, 0, "open", bounder.goal.gap(known.values), region=replace(bounder.root, boxes=None))]
        return Tree(pieces, False, most), len(search.found)


def _written(search: _Search) -> Iterator[Piece]:
    """The tree that the search proved smallest, root first."""
    bounder, number = search.bounder, 0
    open_: list[tuple[int, int, int, Region]] = [(-1, 0, 0, bounder.root)]
    while open_:
        parent, side, depth, region = open_.pop()
        known, entry = bounder.bound([region])[0], search.found.get(region.phases)
        closed = known.empty or bounder.goal.closed(known.values)
        gap, kept = bounder.goal.gap(known.values), replace(region, boxes=None)
        cut = None if closed or entry is None else entry.cut
        if not closed and (entry is None or entry.least == 0):  # not proper
            cut = next(iter(bounder.cuts(region, known)), None)
        if cut is None:
            status: Status = "empty" if known.empty else "closed" if closed else "stuck"
            yield Piece(number, parent, depth, status, gap, None, side, kept)
        else:
            yield Piece(number, parent, depth, "split", gap, cut, side)
            below, above = bounder.children(region, known, cut)
            open_ += [(number, 1, depth + 1, above), (number, -1, depth + 1, below)]
        number += 1
