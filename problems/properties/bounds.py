"""The box of an input set while it is read: for every side the tightest bound, exactly, and its float64 numbers.

`near` holds the float64 nearest to each bound and decides nearly every comparison, for rounding to nearest keeps the
order; where it ties, the exact numbers do, and of two equal bounds the strict one is tighter. `outward` holds the
bounds rounded outward, which is what float64 computations may use. A bound beyond the largest float64 on its own side
is no bound. Soundness: exact, outward rounded.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import inf, nextafter

import numpy as np
from numpy.typing import NDArray

from .decimals import LARGEST, Rational, closest, gap_of, nearest
from .rational import Number, Numbers

Array = NDArray[np.float64]
Bound = tuple[Rational, bool]  # and whether it is strict


@dataclass(frozen=True, eq=False)
class Side:
    """The lower (`sign` -1) or upper (1) bounds of all inputs; infinite where there is none."""

    sign: int
    near: Array  # (n,)
    outward: Array  # (n,)
    others: MutableMapping[int, Number] = field(default_factory=dict)  # the bounds that are not `near`
    open: frozenset[int] = frozenset()  # inputs whose bound is strict

    @staticmethod
    def none(sign: int, size: int) -> Side:
        """No bounds."""
        near = np.full(size, sign * inf)
        return Side(sign, near, near)

    @property
    def numbers(self) -> Numbers:
        """The bounds as rationals; every one must be finite."""
        return Numbers(self.near, self.others)

    @property
    def whole(self) -> bool:
        """Whether every input has a bound."""
        bounds = self.outward
        return not len(bounds) or bool(bounds.max() < inf if self.sign > 0 else bounds.min() > -inf)

    @staticmethod
    def of_few(sign: int, size: int, bounds: list[tuple[int, str, bool]]) -> Side:
        """`of_texts` for triples (index, text, strict), faster where there are few."""
        end = sign * inf
        near = [end] * size
        best: dict[int, tuple[int, str, bool]] = {}
        for bound in bounds:
            i, text, strict = bound
            value, standing = float(text) + 0.0, near[i]
            if value != standing:
                tighter = (value < standing) == (sign > 0)
            else:
                a, b = Decimal(text), Decimal(best[i][1])
                tighter = (a < b) == (sign > 0) if a != b else strict and not best[i][2]
            if tighter:
                near[i] = value
                best[i] = bound
        outward, opened = near.copy(), []
        others: dict[int, Number] = {}
        for i, text, strict in best.values():
            gap = gap_of(text, near[i])
            if gap:
                others[i] = text
                if gap != sign:
                    outward[i] = nextafter(near[i], end)
            if strict:
                opened.append(i)
        array = np.array(near, dtype=float)
        return Side(sign, array, np.array(outward) if others else array, others, frozenset(opened))

    @staticmethod
    def of_texts(
        sign: int,
        size: int,
        index: NDArray[np.int64],  # (n,)
        texts: list[str],
        near: Array,  # (n,)
        gap: NDArray[np.int8],  # (n,)
        strict: NDArray[np.bool_],  # (n,)
    ) -> Side:
        """The tightest of many bounds, v_index <= text (sign 1) or >= text (-1).

        Each text is a `decimals.number` within float64's range, `near` its nearest float64 and `gap` its `gap_of`.
        """
        bounds = np.full(size, sign * inf)
        (np.minimum if sign > 0 else np.maximum).at(bounds, index, near)
        winners = np.flatnonzero(near == bounds[index])
        if len(winners) and np.bincount(index[winners]).max() > 1:
            winners = _tightest(sign, index, texts, strict, winners)
        index, near, gap, strict = index[winners], near[winners], gap[winners], strict[winners]
        outward = bounds.copy()
        inside = gap * sign < 0
        outward[index[inside]] = np.nextafter(near[inside], sign * inf)
        other = np.flatnonzero(gap).tolist()
        texts = [texts[w] for w in winners[other].tolist()]
        others: dict[int, Number] = dict(zip(index[other].tolist(), texts, strict=True))
        return Side(sign, bounds, outward if others else bounds, others, frozenset(index[strict].tolist()))

    def tightened(self, changes: Mapping[int, Bound]) -> Side:
        """With these bounds in place of those that were there."""
        if not changes:
            return self
        near, outward = self.near.copy(), self.outward.copy()
        others: dict[int, Number] = {}
        back: list[int] = []
        for i, (value, _) in changes.items():
            close, gap = nearest(value)
            near[i] = close
            outward[i] = nextafter(close, self.sign * inf) if gap * self.sign < 0 else close
            if gap:
                others[i] = value
            elif i in self.others:
                back.append(i)
        if len(self.others) > 4 * len(changes) and not back:
            merged: MutableMapping[int, Number] = ChainMap(others, *_maps(self.others))
        else:
            kept = {i: value for i, value in self.others.items() if i not in changes} if self.others else {}
            merged = kept | others
        opened = self.open
        if opened or any(strict for _, strict in changes.values()):
            opened = (opened - changes.keys()) | {i for i, (_, strict) in changes.items() if strict}
        return Side(self.sign, near, outward if merged else near, merged, opened)

    def filled(self, index: NDArray[np.int64], bounds: Array) -> Side:
        """With float64 bounds on these inputs, which had none."""
        near, outward = self.near.copy(), self.outward.copy()
        near[index] = outward[index] = bounds
        return replace(self, near=near, outward=outward)

    def tighter(self, i: int, bound: Bound, changes: Mapping[int, Bound]) -> bool:
        """Whether the bound on input i is tighter than the one in `changes`, or else the one here."""
        value, strict = bound
        near = closest(value)
        if near == self.sign * LARGEST and (value > near if self.sign > 0 else value < near):
            return False
        if i in changes:
            standing: Rational | float
            standing, closed = changes[i]
        else:
            if near != self.near[i]:
                return bool(near < self.near[i]) == (self.sign > 0)
            other = self.others.get(i)
            standing = float(self.near[i]) if other is None else Decimal(other) if isinstance(other, str) else other
            closed = i in self.open
        if value == standing:
            return strict and not closed
        return (value < standing) == (self.sign > 0)


def _maps(others: MutableMapping[int, Number]) -> list[MutableMapping[int, Number]]:
    return list(others.maps) if isinstance(others, ChainMap) else [others]


def _tightest(
    sign: int, index: NDArray[np.int64], texts: list[str], strict: NDArray[np.bool_], tied: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Of bounds that round to the same float64, the tightest of each input."""
    best: dict[int, tuple[tuple[Decimal, bool], int]] = {}
    for w in tied.tolist():
        value = Decimal(texts[w])
        key = (value if sign < 0 else value.copy_negate(), bool(strict[w]))  # the larger, the tighter
        if index[w] not in best or key > best[index[w]][0]:
            best[index[w]] = (key, w)
    return np.array([w for _, w in best.values()])


@dataclass(frozen=True)
class Box:
    """Both sides."""

    lower: Side
    upper: Side

    @staticmethod
    def unbounded(size: int) -> Box:
        """No bound on any of the inputs."""
        return Box(Side.none(-1, size), Side.none(1, size))
