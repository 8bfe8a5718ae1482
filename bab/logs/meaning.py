"""What a property says, in words and as a hash: by its exact numbers and strictness, however it is written.

Rows are sets: scaled to whole numbers without a common factor, sorted, each once. Bounds are rationals, and float64
numbers where they are some. The order of cases and of unsafe sets counts, as it numbers the goals.
Soundness: exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import Context, Decimal
from fractions import Fraction
from math import gcd, lcm
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ...problems.properties.property import Case, Polytope, Property
    from ...problems.properties.rational import Numbers, Row

LONGEST = 60  # digits of a decimal that is written in full


def property_hash(prop: Property) -> str:
    """SHA-256 of a property's polytopes and unsafe sets; its name and how its file is written do not matter."""
    digest = hashlib.sha256(f"{prop.n_in} {prop.n_out} {len(prop.cases)};".encode())
    for case in prop.cases:
        exact = case.inputs.meaning
        for side, marks in ((exact.lower, exact.open_lower), (exact.upper, exact.open_upper)):
            near, others = _numbers(side)
            digest.update(near.tobytes() + f"{others} {sorted(marks)};".encode())
        digest.update(f"{_rows(exact.rows)} {len(case.unsafe)};".encode())
        for unsafe in case.unsafe:
            digest.update(f"{_rows(unsafe.meaning)};".encode())
    return digest.hexdigest()


def _numbers(numbers: Numbers) -> tuple[np.ndarray, list[tuple[int, Fraction]]]:
    """The float64 numbers nearest to the entries, zero without a sign, and those entries that are not these numbers."""
    near, others = numbers.near + 0.0, []
    for i in sorted(numbers.others):
        near[i] = float(numbers[i]) + 0.0
        if Fraction(float(near[i])) != numbers[i]:
            others.append((i, numbers[i]))
    return near, others


def _rows(rows: Sequence[Row]) -> list[tuple]:
    """The rows as a set of whole numbers."""
    return sorted({_row(row) for row in rows})


def _row(row: Row) -> tuple:
    parts = [{i: Fraction(a) for i, a in part.items() if a} for part in (row.terms, row.on_input, {0: row.constant})]
    numbers = [a for part in parts for a in part.values()]
    scale = Fraction(lcm(*(a.denominator for a in numbers)))
    scale /= gcd(*(int(a * scale) for a in numbers)) or 1
    return row.strict, *(tuple((i, int(a * scale)) for i, a in sorted(part.items())) for part in parts)


# ---- in words


def goal_texts(case: Case, where: str) -> list[str]:
    """Each goal of a case in one line: the outputs that must not occur on its input polytope."""
    if case.inputs.empty:
        return []
    if len(case.inputs.normals):
        where += f" with {len(case.inputs.normals)} half-spaces"
    rows = [[in_words(row, "y") for row in unsafe.meaning] for unsafe in case.unsafe]
    return [f"{where}: unsafe where {' and '.join(said) or 'anything comes out'}" for said in rows]


def in_words(row: Row, name: str) -> str:
    """A row as it is, its own variables called `name`: y0 -2 y1 +0.1 < 0."""
    terms = [_term(a, f"{name}{i}") for i, a in sorted(row.terms.items()) if a]
    terms += [_term(a, f"x{i}") for i, a in sorted(row.on_input.items()) if a]
    constant = f" {_signed(row.constant)}" if row.constant else ""
    return f"{' '.join(terms).removeprefix('+') or '0'}{constant} {'<' if row.strict else '<='} 0"


def _term(factor: int | Fraction, name: str) -> str:
    return f"{'+' if factor > 0 else '-'}{name}" if abs(factor) == 1 else f"{_signed(factor)} {name}"


def _signed(value: int | Fraction) -> str:
    return number(value) if value < 0 else f"+{number(value)}"


def number(value: int | Fraction) -> str:
    """A rational in full: as a decimal where it is a short one, as a quotient otherwise."""
    value = Fraction(value)
    twos = (value.denominator & -value.denominator).bit_length() - 1
    fives, rest = 0, value.denominator >> twos
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    digits = max(twos, fives) + value.numerator.bit_length() // 3 + 2
    if rest != 1 or digits > 40 * LONGEST:
        return str(value)
    context = Context(prec=digits)
    exact = context.normalize(context.divide(Decimal(value.numerator), Decimal(value.denominator)))
    _, figures, exponent = exact.as_tuple()
    assert isinstance(exponent, int), "a quotient of integers is finite"
    if len(figures) > LONGEST:
        return str(value)
    plain = -LONGEST < exponent <= 20 - len(figures)
    return format(exact, "f") if plain else str(exact).lower()


def input_in_header(polytope: Polytope) -> dict[str, Any]:
    """An input set: its box in float64, which contains it; its half-spaces; and where its exact bounds are others, or
    do not belong to it."""
    exact = polytope.meaning
    found: dict[str, Any] = {
        "lower": polytope.lower.tolist(),
        "upper": polytope.upper.tolist(),
        "half_spaces": [in_words(row, "x") for row in exact.rows],
    }
    for side, numbers, marks in (("lower", exact.lower, exact.open_lower), ("upper", exact.upper, exact.open_upper)):
        if numbers.others:
            found[f"exact_{side}"] = {str(i): number(numbers[i]) for i in sorted(numbers.others)}
        if marks:
            found[f"open_{side}"] = sorted(marks)
    return found
