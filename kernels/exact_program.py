"""Linear programs in whole numbers: is there a point that satisfies some inequalities, others strictly? No tolerance.

The question, over 0 <= y <= r: row_i . y + offset_i >= 0 for weak and > 0 for strict inequalities. It is the program

    max t   with   row_i . y + offset_i >= weight_i t  (strict),   >= 0  (weak),   t <= 1,

whose optimum is positive exactly where the answer is yes. Everything is whole numbers: the caller scales the rows, and
the tableau stays whole by Edmonds' pivoting (entries are determinants; each division by the last pivot is exact).

With s = 1 - t the start y = 0, s = 0 is dual feasible whatever the rows are, so there is no first phase: the dual
simplex method walks until no inequality is broken, or until its bound on t has fallen to zero, which answers no. Its
bound never rises; Bland's rule, after some steps by the most broken row, keeps it from circling.

Soundness: exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from .deadline import now, spent

PRICE = 100  # multiplications that one of whole numbers with many digits counts for, where work is counted
GREEDY = 40  # steps by the most broken row before Bland's rule takes over


class Inequality(NamedTuple):
    """row . y + offset >= 0, or > 0 where strict; whole numbers."""

    row: tuple[int, ...]
    offset: int
    strict: bool


def solution(
    inequalities: Sequence[Inequality], top: Sequence[int], deadline: float | None = None
) -> list[Fraction] | None:
    """A point 0 <= y <= top that satisfies all inequalities, the strict ones strictly; None where there is none.

    Raises `TimeoutError` where the answer is not known by `deadline`, a value of `kernels.deadline.now`.
    """
    n = len(top)
    # Row i: value = (rhs_i - sum_j entry_ij * nonbasic_j) / d >= 0. Columns: y_1 .. y_n, s; basic variables follow.
    rows = [[top[i], *(int(i == j) for j in range(n)), 0] for i in range(n)]
    for inequality in inequalities:
        weight = 1 << max(abs(a) for a in (*inequality.row, 1)).bit_length() if inequality.strict else 0
        rows.append([inequality.offset - weight, *(-a for a in inequality.row), -weight])
    objective = [1] + [0] * n + [1]  # t = 1 - s
    column, basic = list(range(n + 1)), list(range(n + 1, n + 1 + len(rows)))
    d, steps = 1, 0
    while objective[0] > 0:
        if deadline is not None and now() > deadline:
            raise TimeoutError(f"no end of the program in {steps} steps")
        broken = [i for i, row in enumerate(rows) if row[0] < 0]
        if not broken:
            return _point(rows, basic, n, d)
        greedy = steps < GREEDY
        r = min(broken, key=(lambda i: rows[i][0]) if greedy else (lambda i: basic[i]))
        c = _entering(rows[r], objective, column)
        if c is None:
            return None
        d = _pivot(rows, objective, r, c, d)
        spent(PRICE * (len(rows) + 1) * (n + 2))
        column[c - 1], basic[r] = basic[r], column[c - 1]
        steps += 1
    return None


def _entering(row: list[int], objective: list[int], column: list[int]) -> int | None:
    """The column of least ratio objective / |entry| among negative entries; ties by the variable's number."""
    best = None
    for c in range(1, len(row)):
        if row[c] < 0:
            if best is None:
                best = c
                continue
            left, right = objective[c] * -row[best], objective[best] * -row[c]
            if left < right or (left == right and column[c - 1] < column[best - 1]):
                best = c
    return best


def _pivot(rows: list[list[int]], objective: list[int], r: int, c: int, d: int) -> int:
    """Exchanges basic variable r for nonbasic c, in place; returns the new common denominator."""
    pivot_row = rows[r]
    p = pivot_row[c]
    sign = 1 if p > 0 else -1
    p = abs(p)
    lead = [sign * a for a in pivot_row]
    for row in (*rows[:r], *rows[r + 1 :], objective):
        factor = row[c]
        if factor:
            row[:] = [(a * p - factor * b) // d for a, b in zip(row, lead, strict=True)]
            row[c] = -factor * sign
        elif p != d:
            row[:] = [a * p // d for a in row]
    lead[c] = sign * d
    rows[r] = lead
    return p


def _point(rows: list[list[int]], basic: list[int], n: int, d: int) -> list[Fraction]:
    point = [Fraction(0)] * n
    for row, variable in zip(rows, basic, strict=True):
        if variable < n:
            point[variable] = Fraction(row[0], d)
    return point
