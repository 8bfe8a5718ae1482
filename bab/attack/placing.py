"""A point of decimals in the input set, near a point that the search came upon, and what the network is fed there.

In each coordinate the decimal is a number of the network's element type (float32 or float64), which it is then fed as
it is, wherever the interval holds one, bounds and strictness taken exactly. Where it holds none (lower = upper = 0.1,
say) the decimal is one of the interval's, and the network is fed the number nearest to it: outside the interval, by no
more than half a unit in the last place.

What each interval holds is found once (`Places`), so that placing a point is two clips. Half-spaces that rounding
crossed are crossed back by projections, at last by moving single coordinates to the exact solution of a row, which may
be a decimal that is no number of the element type; then too the network is fed the nearest. Soundness: exact; whatever
is returned lies in the set, in rational numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from math import ceil, floor

import numpy as np

from ...problems.properties.elements import decimal_between, first_inside, is_decimal, nearest, rounded_inward
from ...problems.properties.property import Array, Polytope
from ...problems.properties.rational import Numbers, Row
from ..effort import ATTACK, AttackEffort


class Places:
    """The points of one input set that a network of one element type can be asked about."""

    def __init__(
        self, inputs: Polytope, element: type[np.floating] = np.float32, effort: AttackEffort = ATTACK
    ) -> None:
        self.inputs, self.element, self.set, self.effort = inputs, element, inputs.meaning, effort

    @cached_property
    def ends(self) -> tuple[Array, Array]:  # (D,), (D,)
        """The first and the last number of the element type in each interval; first > last where there is none."""
        found = []
        for bounds, open_, direction in (
            (self.set.lower, self.set.open_lower, 1),
            (self.set.upper, self.set.open_upper, -1),
        ):
            near = bounds.near
            end = rounded_inward(near, self.element, direction)
            # `near` is the double nearest to the bound: only numbers beside it need a second look.
            beside = np.abs(end - near) <= 2 * np.spacing(np.abs(near))
            exact = np.ones(len(near), dtype=bool)
            exact[[*bounds.others, *open_]] = False
            for i in np.flatnonzero(beside & ~exact).tolist():
                end[i] = first_inside(bounds[i], i in open_, float(near[i]), self.element, direction)
            found.append(end)
        return found[0], found[1]

    @cached_property
    def between(self) -> dict[int, tuple[float, Fraction]] | None:
        """For each coordinate whose interval holds no number of the element type, what the network is fed and the
        decimal that this stands for; None where some interval holds no decimal, or stands for no finite number."""
        first, last = self.ends
        found = {}
        for i in np.flatnonzero(first > last).tolist():
            low, high = self.set.lower[i], self.set.upper[i]
            decimal = decimal_between(
                low, high, i in self.set.open_lower, i in self.set.open_upper, Fraction(float(self.set.lower.near[i]))
            )
            if decimal is None or not np.isfinite(fed := nearest(decimal, self.element)):
                return None
            found[i] = fed, decimal
        return found

    def point(self, x: Array) -> Numbers | None:  # (D,)
        """The point of the set near x; `near` is what the network is fed. None where none was found."""
        if self.between is None:
            return None
        if not len(self.inputs.normals) and not self.set.rows:
            return self._rounded(x)
        return self._in_half_spaces(x)

    def outside(self, point: Numbers) -> list[int]:
        """The coordinates whose interval holds no number of the element type: what is fed lies outside."""
        return [i for i in point.others if i in (self.between or {})]

    def _rounded(self, x: Array) -> Numbers:
        """The point of the box nearest to x, up to rounding."""
        first, last = self.ends
        between = self.between
        assert between is not None, "`point` has asked"
        with np.errstate(over="ignore"):
            fed = x.astype(self.element).astype(np.float64)
        fed = np.minimum(np.maximum(fed, first), last)
        for i, (number, _) in between.items():
            fed[i] = number
        return Numbers(fed, {i: decimal for i, (_, decimal) in between.items()})

    def _in_half_spaces(self, x: Array) -> Numbers | None:
        point = self._rounded(x)
        if self._holds(point):
            return point
        inputs = self.inputs
        size = np.abs(inputs.normals) @ np.maximum(np.abs(inputs.lower), np.abs(inputs.upper))
        free = inputs.upper > inputs.lower
        squares = np.maximum((inputs.normals**2 * free).sum(1), np.finfo(float).tiny)
        start = x
        for push in self.effort.pushes:
            for row, offset, square, scale in zip(inputs.normals, inputs.offsets, squares, size, strict=True):
                excess = row @ x - offset + push * scale
                if excess > 0:
                    x = np.clip(x - excess / square * row * free, inputs.lower, inputs.upper)
            point = self._rounded(x)
            if self._holds(point):
                return point
        return self._solved(self._rounded(start))

    def _holds(self, point: Numbers) -> bool:
        """Half-spaces alone: `_rounded` keeps to the box."""
        return all(row.holds(point) for row in self.set.rows)

    def _solved(self, point: Numbers) -> Numbers | None:
        """The point with single coordinates moved until no half-space is crossed; each coordinate moves once."""
        used: set[int] = set(self.between or {})
        width = (self.set.upper.near - self.set.lower.near).tolist()
        for _ in range(len(self.set.rows) + 1):
            row = next((row for row in self.set.rows if not row.holds(point)), None)
            if row is None:
                return point
            weights = {i: abs(a) * width[i] for i, a in row.terms.items() if i not in used}
            if not weights:
                return None
            i = max(weights, key=weights.__getitem__)
            moved = self._moved(point, row, i)
            if moved is None:
                return None
            point = moved
            used.add(i)
        return None

    def _moved(self, point: Numbers, row: Row, i: int) -> Numbers | None:
        """The point with its coordinate i where the row's border is, or a little on the right side of it."""
        target = point[i] - row.value(point) / row.terms[i]
        if row.strict or not is_decimal(target):
            unit = 10**self.effort.places
            steps, down = target * unit, row.terms[i] > 0
            target = Fraction(floor(steps) - row.strict if down else ceil(steps) + row.strict, unit)
        return self._with(point, i, target)

    def _with(self, point: Numbers, i: int, decimal: Fraction) -> Numbers | None:
        """The point with another coordinate i; None where that or what is fed for it leaves the interval."""
        fed = nearest(decimal, self.element)
        first, last = self.ends
        if not first[i] <= fed <= last[i] or not self._between(decimal, i):
            return None
        near, others = point.near.copy(), dict(point.others)
        near[i] = fed
        others.pop(i, None)
        if Fraction(fed) != decimal:
            others[i] = decimal
        return Numbers(near, others)

    def _between(self, value: Fraction, i: int) -> bool:
        low, high = self.set.lower[i], self.set.upper[i]
        return low <= value <= high and not (
            (value == low and i in self.set.open_lower) or (value == high and i in self.set.open_upper)
        )

    def exactly(self, x: Sequence[Fraction]) -> Numbers | None:  # (D,)
        """The rational point itself, as far as its coordinates are decimals and what is fed for them stays inside;
        in the other coordinates the nearest that can be fed. None where that is not in the set."""
        if self.between is None:
            return None
        point = self._rounded(np.array([float(v) for v in x]))
        for i, value in enumerate(x):
            if i not in self.between and value != point[i] and is_decimal(value):
                point = self._with(point, i, value) or point
        return point if self._holds(point) else None
