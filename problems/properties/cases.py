"""The `Property` that formulas mean: which inputs are asked about, and which of their outputs must not occur.

A `Property` wants the disjunctive normal form, split into what is said of inputs alone (a polytope) and the rest (an
unsafe set). Formulas of inputs alone and formulas that name outputs are expanded apart, so that K disjuncts over
outputs and one box give one case with K unsafe sets, not K cases. Conjunctions with the same input polytope become
one case. The size of the normal form is known before any of it is built; above `LIMIT` the property is refused.

Numbers are rounded here, once. Bounds are rounded outward. Coefficients are rounded to nearest; in a half-space what
that may change over the box is charged to the offset, in an unsafe set whoever computes with it does so
(`UnsafeSet.lost`). The exact numbers go along wherever they differ or an inequality is strict.

Soundness: exact sets, in float64 arrays that contain them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import numpy as np

from ...kernels.deadline import check
from ..errors import BadInput
from .bounds import Bound, Box, Side
from .decimals import Rational, fraction, nearest, outward, rational
from .formula import And, Clause, Formula, Linear, atoms_of, clauses, normal, size
from .property import Array, Case, Polytope, Property, UnsafeSet
from .rational import ExactSet, Row

LIMIT = 200_000  # conjunctions of the disjunctive normal form
ATOMS = 20_000_000  # atoms of the disjunctive normal form
ENTRIES = 40_000_000  # numbers that the cases' boxes may hold in all (320 MB)
SMALL, LARGE = 2.0**-500, 2.0**500  # rows with numbers beyond are scaled


def to_property(
    formulas: Sequence[Formula],
    n_in: int,
    n_out: int,
    box: Box | None = None,  # bounds that hold besides the formulas
    where: str = "the property",
) -> Property:
    """The property whose counterexamples satisfy every formula.

    Raises `BadInput` where an input has no finite bounds or the disjunctive normal form is too large.
    """
    atoms: list[Linear] = []
    of_inputs: list[Formula] = []
    of_outputs: list[Formula] = []
    for formula in formulas:
        for part in _conjuncts(formula):
            if _names_output(part, n_in):
                of_outputs.append(part)
            elif isinstance(part, Linear):
                atoms.append(part)
            else:
                of_inputs.append(part)
    on_inputs, on_outputs = _conjunction(of_inputs), _conjunction(of_outputs)
    _check_size(on_inputs, on_outputs, where)
    box = box or Box.unbounded(n_in)
    base = _cut(box, _EVERYWHERE, atoms)
    start = Box(box.lower.tightened(base.bounds[0]), box.upper.tightened(base.bounds[1]))
    plain = _Cut(start, ({}, {}), base.rows)
    output_clauses = _split(clauses(on_outputs), n_in, n_out)
    groups: dict[tuple, tuple[_Cut, list[UnsafeSet]]] = {}
    for clause in clauses(on_inputs):
        check()
        cut = _cut(plain.box, plain, clause) if clause else plain
        own = cut.key
        for extra, unsafe in output_clauses:
            both = _cut(plain.box, cut, extra) if extra else cut
            groups.setdefault(both.key if extra else own, (both, []))[1].append(unsafe)
            if len(groups) * n_in > ENTRIES:
                raise BadInput(f"{where} describes more than {len(groups) - 1:,} input sets of {n_in:,} inputs each")
    return Property(
        tuple(Case(_polytope(cut, where), tuple(unsafe)) for cut, unsafe in groups.values()), n_in, n_out, where
    )


def _conjuncts(formula: Formula) -> list[Formula]:
    """Formulas in normal form that hold where this one does."""
    if isinstance(formula, Linear) and formula.terms:
        return [formula]
    formula = normal(formula)
    return formula.parts if isinstance(formula, And) else [formula]


def _conjunction(parts: list[Formula]) -> Formula:
    return parts[0] if len(parts) == 1 else And(parts)


def _names_output(formula: Formula, n_in: int) -> bool:
    """Whether some atom of the formula has an output in it."""
    if isinstance(formula, Linear) and formula.terms:
        return max(formula.terms) >= n_in
    return any(max(atom.terms) >= n_in for atom in atoms_of(formula) if atom.terms)


def _check_size(on_inputs: Formula, on_outputs: Formula, where: str) -> None:
    """Refuses what would expand without end."""
    (inputs, input_atoms), (outputs, output_atoms) = size(on_inputs), size(on_outputs)
    count = inputs * outputs
    if count > LIMIT:
        many = f"{count:,}" if count < 10**18 else "more than 10^18"
        raise BadInput(
            f"{where} has {many} conjunctions in disjunctive normal form, and Partita takes at most {LIMIT:,}; "
            "split it into several properties"
        )
    if input_atoms + output_atoms > ATOMS:
        raise BadInput(
            f"{where} has {input_atoms + output_atoms:,} comparisons in disjunctive normal form, and Partita takes at "
            f"most {ATOMS:,}; split it into several properties"
        )


# ---- input sets


@dataclass(frozen=True, eq=False)
class _Cut:
    """A part of a box: tighter bounds on some inputs, and half-spaces."""

    box: Box
    bounds: tuple[dict[int, Bound], dict[int, Bound]]  # lower, upper
    rows: tuple[Linear, ...]

    @property
    def key(self) -> tuple:
        """Equal for equal parts of the same box."""
        rows = tuple((frozenset(row.terms.items()), row.constant, row.strict) for row in self.rows)
        return frozenset(self.bounds[0].items()), frozenset(self.bounds[1].items()), rows


_EVERYWHERE = _Cut(Box.unbounded(0), ({}, {}), ())


def _cut(box: Box, cut: _Cut, clause: Sequence[Linear]) -> _Cut:
    """The part of the cut, a cut of `box`, that satisfies the clause, whose atoms name inputs alone."""
    lower, upper = dict(cut.bounds[0]), dict(cut.bounds[1])
    rows = list(cut.rows)
    for atom in clause:
        if len(atom.terms) > 1:
            rows.append(atom)
            continue
        ((i, coefficient),) = atom.terms.items()
        bound = (_bound(coefficient, atom.constant), atom.strict)
        side, changes = (box.upper, upper) if coefficient > 0 else (box.lower, lower)
        if side.tighter(i, bound, changes):
            changes[i] = bound
    return _Cut(box, (lower, upper), tuple(rows))


def _bound(coefficient: int | Fraction, constant: Rational) -> Rational:
    """The bound on v that coefficient v + constant <= 0 means."""
    if coefficient == 1:
        return constant.copy_negate() if isinstance(constant, Decimal) else -constant
    if coefficient == -1:
        return constant
    return -Fraction(constant) / coefficient


def _polytope(cut: _Cut, where: str) -> Polytope:
    """The cut with a finite box around it, or `BadInput` that names an input without bounds."""
    check()
    lower, upper = cut.box.lower.tightened(cut.bounds[0]), cut.box.upper.tightened(cut.bounds[1])
    if not cut.rows:
        if not (lower.whole and upper.whole):
            _bounded(lower, upper, np.zeros((0, 0)), np.zeros(0), where)
        if not (lower.others or upper.others or lower.open or upper.open):
            return Polytope(lower.near, upper.near)
        exact = ExactSet(lower.numbers, upper.numbers, lower.open, upper.open)
        return Polytope(lower.outward, upper.outward, exact=exact)
    scaled, normals, offsets = [], np.zeros((len(cut.rows), len(lower.near))), np.zeros(len(cut.rows))
    for r, atom in enumerate(cut.rows):
        found = _rounded(atom)
        row = found.row
        scaled.append(row)
        normals[r, list(row.terms)] = found.near
        offsets[r] = outward(-found.constant, up=True)
    lower, upper = _bounded(lower, upper, normals, offsets, where)
    lost = [_charge(row, normals[r], lower, upper) for r, row in enumerate(scaled)]
    for r, row in enumerate(scaled):
        if lost[r]:
            offsets[r] = outward(lost[r] - rational(row.constant), up=True)
    normals[np.isinf(offsets)] = offsets[np.isinf(offsets)] = 0.0  # says nothing in float64
    strict = bool(lower.open or upper.open or any(row.strict for row in scaled))
    if not (strict or lower.others or upper.others or any(lost) or any(map(_rounds, scaled))):
        return Polytope(lower.near, upper.near, normals, offsets)
    rows = tuple(_row(row, 0, Fraction(row.constant)) for row in scaled)
    exact = ExactSet(lower.numbers, upper.numbers, lower.open, upper.open, rows)
    return Polytope(lower.outward, upper.outward, normals, offsets, exact)


def _rounds(row: Linear) -> bool:
    """Whether the constant is no float64."""
    return nearest(row.constant)[1] != 0


def _charge(row: Linear, normal: Array, lower: Side, upper: Side) -> Fraction:
    """What rounding the row's coefficients may change over the box."""
    total = Fraction(0)
    for i, a in row.terms.items():
        gap = abs(a - Fraction(normal[i]))
        if gap:
            total += gap * Fraction(max(abs(lower.outward[i]), abs(upper.outward[i])))
    return total


def _bounded(lower: Side, upper: Side, normals: Array, offsets: Array, where: str) -> tuple[Side, Side]:
    """The bounds, those that are missing from the half-spaces; `BadInput` where they don't give one."""
    if lower.whole and upper.whole:
        return lower, upper
    if len(offsets):
        from .enclosure import enclose

        found, sides = enclose(Polytope(lower.outward, upper.outward, normals, offsets)), []
        for side, bounds in ((lower, found.lower), (upper, found.upper)):
            missing = np.flatnonzero(~np.isfinite(side.outward))
            sides.append(side.filled(missing, bounds[missing]))
        lower, upper = sides
    for side, name in ((lower, "lower"), (upper, "upper")):
        missing = np.flatnonzero(~np.isfinite(side.outward))
        if len(missing):
            others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise BadInput(f"{where}: input X_{missing[0]}{others} has no {name} bound; every input needs both")
    return lower, upper


# ---- unsafe sets


@dataclass(slots=True)
class _Rounded:
    """An atom, scaled into float64's range, and its float64 numbers."""

    row: Linear
    near: list[float]  # of the terms
    constant: Fraction
    close: float  # to the constant
    differs: bool  # whether some number is not its float64
    meaning: Row | None = None


def _split(expanded: list[Clause], n_in: int, n_out: int) -> list[tuple[list[Linear], UnsafeSet]]:
    """For each clause its atoms that name inputs alone, and the unsafe set of the others.

    The sets' arrays are parts of two large ones.
    """
    known: dict[int, _Rounded | None] = {}  # by `id`; None for atoms that name inputs alone
    parts = []
    for clause in expanded:
        check()
        extra, found = [], []
        for atom in clause:
            name = id(atom)
            if name not in known:
                known[name] = _rounded(atom) if max(atom.terms) >= n_in else None
            rounded = known[name]
            if rounded is None:
                extra.append(atom)
            else:
                found.append(rounded)
        parts.append((extra, found))
    constants = np.array([rounded.close for _, found in parts for rounded in found], dtype=float)
    rows, end, sets = np.zeros((len(constants), n_out)), 0, []
    for extra, found in parts:
        start, end = end, end + len(found)
        sets.append((extra, _unsafe(found, n_in, rows[start:end], constants[start:end])))
    return sets


def _unsafe(found: list[_Rounded], n_in: int, rows: Array, constants: Array) -> UnsafeSet:
    """The set of these atoms; `rows` (R, n_out) is filled."""
    exact, on_input = False, None
    for r, rounded in enumerate(found):
        row = rounded.row
        exact = exact or rounded.differs or row.strict
        for variable, coefficient in zip(row.terms, rounded.near):
            if variable >= n_in:
                rows[r, variable - n_in] = coefficient
            else:
                on_input = np.zeros((len(found), n_in)) if on_input is None else on_input
                on_input[r, variable] = coefficient
    if not exact:
        return UnsafeSet(rows, constants, on_input)
    meaning: list[Row] = []
    for rounded in found:
        if rounded.meaning is None:
            rounded.meaning = _row(rounded.row, n_in, rounded.constant)
        meaning.append(rounded.meaning)
    return UnsafeSet(rows, constants, on_input, tuple(meaning))


def _row(atom: Linear, n_in: int, constant: Fraction) -> Row:
    """The atom, with this constant, as a row on what follows the first `n_in` variables, and on those."""
    own = {v - n_in: a for v, a in atom.terms.items() if v >= n_in}
    if len(own) == len(atom.terms):
        return Row(own, constant, atom.strict)
    return Row(own, constant, atom.strict, {v: a for v, a in atom.terms.items() if v < n_in})


def _rounded(atom: Linear) -> _Rounded:
    """The atom, scaled into float64's range, and its nearest float64 numbers.

    An atom with numbers outside the middle of the range is multiplied by a power of two, so that the largest
    coefficient comes near 1, unless that would carry the constant out of the range.
    """
    constant, close, gap = fraction(atom.constant)
    numbers, differs = [], gap != 0
    for a in atom.terms.values():
        near, gap = (float(a), 0) if type(a) is int and -2 < a < 2 else nearest(a)
        if not SMALL <= abs(near) <= LARGE:
            return _scaled(atom)
        differs |= gap != 0
        numbers.append(near)
    if constant and not SMALL <= abs(close) <= LARGE:
        return _scaled(atom)
    return _Rounded(atom, numbers, constant, close, differs)


def _scaled(atom: Linear) -> _Rounded:
    power = -max(map(_magnitude, atom.terms.values()))
    if atom.constant:
        power = min(power, 500 - _magnitude(atom.constant))
    if power:
        atom = atom.times(Fraction(2) ** power).below(atom.strict)
    pairs = list(map(nearest, atom.terms.values()))
    constant, close, gap = fraction(atom.constant)
    return _Rounded(atom, [near for near, _ in pairs], constant, close, gap != 0 or any(gap for _, gap in pairs))


def _magnitude(value: Rational) -> int:
    """e with 2^(e - 2) < |value| < 2^(e + 1); the value is not zero."""
    if isinstance(value, int):
        return value.bit_length()
    value = Fraction(value)
    return value.numerator.bit_length() - value.denominator.bit_length()
