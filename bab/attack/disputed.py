"""A point on which the judges of witnesses disagree: no witness, but the nearest thing to one that was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ...problems.properties.decimals import closest
from ...problems.properties.elements import decimal_text
from ...problems.properties.property import Array, UnsafeSet
from ...problems.properties.rational import Numbers, rationals
from ...relaxations.reals.over_reals import Answer

SHOWN = 4  # coordinates


def near(value: Fraction | float) -> float:
    """The float64 next to a row's value, the largest where the value is beyond all; bounds are float64 already."""
    return value if isinstance(value, float) else closest(value)


@dataclass(frozen=True)
class Disputed:
    """The point, and the value of its largest row by each judge: unsafe is what is <= 0, or < 0 where `strict`.

    `excess` is the largest of the values: the smaller, the nearer to a witness.
    """

    decimals: tuple[str, ...]
    goal: tuple[int, int]
    row: int
    strict: bool
    values: tuple[tuple[str, str], ...]  # (judge, value)
    excess: float

    @classmethod
    def of(
        cls,
        x: Numbers,
        goal: tuple[int, int],
        unsafe: UnsafeSet,
        answer: Answer | None,
        said: Sequence[tuple[str, Array]],
    ) -> Disputed:
        """From what the real numbers answered, and what the others gave as outputs."""
        named = []
        rows = unsafe.meaning
        theirs = [
            (name, [row.value(rationals(y), x) for row in rows] if np.isfinite(y).all() else None) for name, y in said
        ]
        if answer is not None:
            row = answer.row
        else:
            first = theirs[0][1]
            row = 0 if first is None else first.index(max(first))
        for name, values in theirs:
            named.append((name, "not a number" if values is None else f"{near(values[row]):.9g}"))
        worst = [np.inf if values is None else near(max(values)) for _, values in theirs]
        excess = max(worst + ([] if answer is None else [near(answer.most)]))
        if answer is not None:
            exact = answer.least == answer.most
            interval = f"{near(answer.most):.9g}" if exact else f"{answer.least:.9g} to {answer.most:.9g}"
            named.append(("the real numbers", interval))
        decimals = tuple(decimal_text(v) for v in x)
        return cls(decimals, goal, row, bool(rows[row].strict), tuple(named), excess)

    def sentence(self) -> str:
        """For the reason of a run that ended undecided."""
        point = ", ".join(f"X_{i} = {v}" for i, v in enumerate(self.decimals[:SHOWN]))
        more = f", and {len(self.decimals) - SHOWN} more" if len(self.decimals) > SHOWN else ""
        said = ", ".join(f"{value} by {name}" for name, value in self.values)
        return (
            f"the judges disagree at the point {point}{more}: row {self.row} of unsafe set {self.goal[1]}, which is "
            f"unsafe {'below 0' if self.strict else 'from 0 down'}, is {said}"
        )
