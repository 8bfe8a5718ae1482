"""What a property says, number for number: rational rows and bounds, each strict or not.

Bounds work on float64 arrays that stand for these sets (`property.Polytope`, `property.UnsafeSet`); whether a point
*is* in them is decided here. Soundness: exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from math import inf, nextafter
from typing import overload

import numpy as np
from numpy.typing import NDArray

Number = Fraction | int | Decimal | str  # a rational, or a decimal that nobody has asked for yet


@dataclass(frozen=True, slots=True)
class Row:
    """sum of terms[i] v_i, plus sum of on_input[i] x_i, plus constant: this is <= 0, or < 0 where `strict`.

    In a half-space v is the input; in a row of an unsafe set v is the output, and x the input.
    """

    terms: Mapping[int, int | Fraction]
    constant: Fraction
    strict: bool = False
    on_input: Mapping[int, int | Fraction] = field(default_factory=dict)

    def value(self, v: Sequence[Fraction], x: Sequence[Fraction] = ()) -> Fraction:
        """The left-hand side."""
        own = sum((a * v[i] for i, a in self.terms.items()), self.constant)
        return sum((a * x[i] for i, a in self.on_input.items()), own)

    def holds(self, v: Sequence[Fraction], x: Sequence[Fraction] = ()) -> bool:
        """Whether the inequality holds."""
        value = self.value(v, x)
        return value < 0 if self.strict else value <= 0


@dataclass(frozen=True, eq=False)
class Numbers(Sequence[Fraction]):
    """A vector of rationals: float64 numbers, but for those entries whose number is another, listed apart."""

    near: NDArray[np.float64]  # (n,)
    others: MutableMapping[int, Number] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.near)

    @overload
    def __getitem__(self, i: int) -> Fraction: ...
    @overload
    def __getitem__(self, i: slice) -> list[Fraction]: ...
    def __getitem__(self, i: int | slice) -> Fraction | list[Fraction]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        other = self.others.get(i)
        if other is None:
            return Fraction(float(self.near[i]))
        if not isinstance(other, Fraction):
            # By way of Decimal, which takes more digits than int does.
            other = self.others[i] = Fraction(Decimal(other) if isinstance(other, str) else other)
        return other

    def same(self, other: Numbers, i: int) -> bool:
        """Whether entry i of both is written alike; then it is the same number."""
        near = self.near[i] == other.near[i]
        return bool(near) and self.others.get(i) == other.others.get(i)

    def __iter__(self) -> Iterator[Fraction]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True, eq=False)
class ExactSet:
    """{x : lower <= x <= upper, rows}, with open sides where they are listed; every bound finite."""

    lower: Numbers  # (D,)
    upper: Numbers  # (D,)
    open_lower: frozenset[int] = frozenset()  # inputs whose lower bound is strict
    open_upper: frozenset[int] = frozenset()
    rows: tuple[Row, ...] = ()  # half-spaces, on inputs

    @property
    def strict(self) -> bool:
        """Whether some border does not belong to the set."""
        return bool(self.open_lower or self.open_upper or any(row.strict for row in self.rows))

    def empty_side(self) -> int | None:
        """The first input whose bounds exclude each other (rows are not looked at)."""
        near = np.flatnonzero(self.lower.near >= self.upper.near)
        for i in near.tolist():
            open_ = i in self.open_lower or i in self.open_upper
            if not open_ and self.lower.same(self.upper, i):  # a fixed input, as images have many
                continue
            low, high = self.lower[i], self.upper[i]
            if low > high or (low == high and open_):
                return i
        return None

    def holds(self, x: Sequence[Fraction]) -> bool:  # (D,)
        """Whether the point is in the set."""
        for i, value in enumerate(x):
            low, high = self.lower[i], self.upper[i]
            if not low <= value <= high:
                return False
            if (value == low and i in self.open_lower) or (value == high and i in self.open_upper):
                return False
        return all(row.holds(x) for row in self.rows)


def rationals(values: Sequence[float] | NDArray[np.float64]) -> list[Fraction]:
    """Floats as the rationals that they are."""
    return [Fraction(float(v)) for v in values]


def rows_of(
    normals: NDArray[np.float64],  # (R, n)
    constants: NDArray[np.float64],  # (R,)
    on_input: NDArray[np.float64] | None = None,  # (R, D)
    strict: bool = False,
) -> tuple[Row, ...]:
    """Rows from float64 arrays, taken as the rationals that they are."""
    own = [_terms(row) for row in normals]
    other = [{}] * len(own) if on_input is None else [_terms(row) for row in on_input]
    return tuple(
        Row(terms, Fraction(float(constant)), strict, of_input)
        for terms, constant, of_input in zip(own, constants, other, strict=True)
    )


def arrays_of(rows: Sequence[Row], size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # (R, size), (R,)
    """The float64 numbers nearest to the rows' terms and constants."""
    normals, constants = np.zeros((len(rows), size)), np.array([float(row.constant) for row in rows], dtype=float)
    for r, row in enumerate(rows):
        normals[r, list(row.terms)] = [float(a) for a in row.terms.values()]
    return normals, constants


def distance(exact: int | Fraction, near: float) -> float:
    """|exact - near|, rounded up."""
    if exact.as_integer_ratio() == near.as_integer_ratio():
        return 0.0
    gap = abs(exact - Fraction(near))
    return nextafter(float(gap), inf) if gap else 0.0


def _terms(row: NDArray[np.float64]) -> dict[int, Fraction]:
    return {int(i): Fraction(float(row[i])) for i in np.flatnonzero(row)}
