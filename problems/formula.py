"""Formulas over a network's inputs and outputs, and the `Property` that a formula means.

Both versions of VNN-LIB end here. Variables are numbered: inputs 0 .. n_in - 1, then outputs. A `Linear` is
sum_i a_i v_i + c; a formula is the atom `Linear <= 0`, `And` or `Or`. The reader's question is whether some input,
with the outputs the network gives it, satisfies the formula.

A `Property` wants the disjunctive normal form, split into what is said of inputs alone (a polytope) and the rest (an
unsafe set). Formulas of inputs alone and formulas that name outputs are expanded apart, so that K disjuncts over
outputs and one box give one case with K unsafe sets, not K cases. Conjunctions with the same input polytope become
one case. The number of conjunctions is known before any is built (a sum over `Or`, a product over `And`); above
`LIMIT` the property is refused.

Soundness: exact, but for two things. Strict comparisons are closed (the set grows, so `unsat` stays right; a witness
may sit on the border). Constants are float64: folding them rounds to nearest, and a bound that needs a division
(2 x <= 1.1) is rounded outward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import inf, isfinite, nextafter, prod

import numpy as np

from .errors import BadInput
from .property import Array, Case, Polytope, Property, UnsafeSet

LIMIT = 200_000  # conjunctions of the disjunctive normal form
ENTRIES = 40_000_000  # numbers that the cases' boxes may hold in all (320 MB)


@dataclass(frozen=True, slots=True)
class Linear:
    """sum of terms[i] * variable i, plus constant; as a formula: this is <= 0."""

    terms: dict[int, float]
    constant: float = 0.0

    def plus(self, other: Linear, factor: float = 1.0) -> Linear:
        """self + factor * other."""
        terms = dict(self.terms)
        for variable, coefficient in other.terms.items():
            terms[variable] = terms.get(variable, 0.0) + factor * coefficient
        return Linear({v: a for v, a in terms.items() if a}, self.constant + factor * other.constant)

    def times(self, factor: float) -> Linear:
        """factor * self."""
        return Linear({}).plus(self, factor)


@dataclass(frozen=True, slots=True)
class And:
    """All parts hold; `And([])` is true."""

    parts: list[Formula]


@dataclass(frozen=True, slots=True)
class Or:
    """Some part holds; `Or([])` is false."""

    parts: list[Formula]


Formula = Linear | And | Or
Clause = tuple[Linear, ...]


def join(kind: type[And] | type[Or], parts: list[Formula]) -> Formula:
    """The conjunction or disjunction of parts, with parts of the same kind dissolved, so that chains stay flat."""
    if len(parts) == 1:
        return parts[0]
    longest = max((part for part in parts if isinstance(part, kind)), key=lambda part: len(part.parts), default=None)
    if longest is None:
        return kind(parts)
    # Extended in place, or a chain of n links would copy n^2 parts: formulas are built once and never shared.
    for part in parts:
        if part is not longest:
            longest.parts.extend(part.parts if isinstance(part, kind) else [part])
    return longest


def negate(formula: Formula) -> Formula:
    """The closure of the formula's negation."""
    if isinstance(formula, Linear):
        return formula.times(-1.0)
    return join(Or if isinstance(formula, And) else And, [negate(part) for part in formula.parts])


def conjunctions(formula: Formula) -> int:
    """How many conjunctions `clauses` would return."""
    if isinstance(formula, Linear):
        return 1
    counts = [conjunctions(part) for part in formula.parts]
    return prod(counts) if isinstance(formula, And) else sum(counts)


def clauses(formula: Formula) -> list[Clause]:
    """The disjunctive normal form: a list of conjunctions of atoms."""
    if isinstance(formula, Linear):
        return [(formula,)]
    if isinstance(formula, Or):
        return [clause for part in formula.parts for clause in clauses(part)]
    atoms = tuple(part for part in formula.parts if isinstance(part, Linear))
    choices = [clauses(part) for part in formula.parts if not isinstance(part, Linear)]
    return [sum(choice, atoms) for choice in product(*choices)]


def _names_output(formula: Formula, n_in: int) -> bool:
    """Whether some atom of the formula has an output in it."""
    if isinstance(formula, Linear):
        return any(variable >= n_in for variable in formula.terms)
    return any(_names_output(part, n_in) for part in formula.parts)


def to_property(
    formulas: Sequence[Formula],
    n_in: int,
    n_out: int,
    box: tuple[Array, Array] | None = None,  # (n_in,) lower and upper bounds that hold besides the formulas
    where: str = "the property",
) -> Property:
    """The property whose counterexamples satisfy every formula.

    Raises `BadInput` where an input has no finite bounds or the disjunctive normal form is too large.
    """
    lower, upper = box or (np.full(n_in, -inf), np.full(n_in, inf))
    of_inputs = [f for f in formulas if not _names_output(f, n_in)]
    atoms = tuple(f for f in of_inputs if isinstance(f, Linear))
    on_inputs = And([f for f in of_inputs if not isinstance(f, Linear)])
    on_outputs = And([f for f in formulas if _names_output(f, n_in)])
    count = conjunctions(on_inputs) * conjunctions(on_outputs)
    if count > LIMIT:
        raise BadInput(
            f"{where} has {count:,} conjunctions in disjunctive normal form, and Partita takes at most {LIMIT:,}; "
            "split it into several properties"
        )
    base = _cut(Polytope(lower, upper), atoms, where)
    output_clauses = [_split(clause, n_in, n_out) for clause in clauses(on_outputs)]
    groups: dict[tuple, tuple[Polytope, list[UnsafeSet]]] = {}
    for clause in clauses(on_inputs):
        plain = _cut(base, clause, where)
        for extra, unsafe in output_clauses:
            polytope = _cut(plain, extra, where)
            if polytope is None or unsafe is None:
                continue
            key = tuple(a.tobytes() for a in (polytope.lower, polytope.upper, polytope.normals, polytope.offsets))
            groups.setdefault(key, (polytope, []))[1].append(unsafe)
            if len(groups) * n_in > ENTRIES:
                raise BadInput(f"{where} describes more than {len(groups) - 1:,} input sets of {n_in:,} inputs each")
    cases = tuple(Case(_bounded(polytope, where), tuple(unsafe)) for polytope, unsafe in groups.values())
    return Property(cases, n_in, n_out, where)


def _split(clause: Clause, n_in: int, n_out: int) -> tuple[Clause, UnsafeSet | None]:
    """The atoms of the clause that name inputs alone, and the unsafe set of the others (None: it is empty)."""
    extra, atoms = [], []
    for atom in clause:
        if any(variable >= n_in for variable in atom.terms):
            atoms.append(atom)
        elif atom.terms:
            extra.append(atom)
        elif atom.constant > 0:
            return (), None
    rows, constants = np.zeros((len(atoms), n_out)), np.array([atom.constant for atom in atoms], dtype=float)
    on_input = None
    for r, atom in enumerate(atoms):
        for variable, coefficient in atom.terms.items():
            if variable >= n_in:
                rows[r, variable - n_in] = coefficient
            else:
                on_input = np.zeros((len(atoms), n_in)) if on_input is None else on_input
                on_input[r, variable] = coefficient
    return tuple(extra), UnsafeSet(rows, constants, on_input)


def _cut(polytope: Polytope | None, clause: Clause, where: str) -> Polytope | None:
    """The part of the polytope that satisfies the clause; None where a constant atom is false."""
    if polytope is None or not clause:
        return polytope
    lower, upper, slanted = polytope.lower.copy(), polytope.upper.copy(), []
    for atom in clause:
        if not atom.terms:
            if atom.constant > 0:
                return None
        elif len(atom.terms) == 1:
            ((variable, coefficient),) = atom.terms.items()
            bound = _bound(coefficient, atom.constant, where)
            if coefficient > 0:
                upper[variable] = min(upper[variable], bound)
            else:
                lower[variable] = max(lower[variable], bound)
        else:
            slanted.append(atom)
    normals, offsets = np.zeros((len(slanted), len(lower))), np.array([-atom.constant for atom in slanted], dtype=float)
    for r, atom in enumerate(slanted):
        normals[r, list(atom.terms)] = list(atom.terms.values())
    return Polytope(
        lower, upper, np.concatenate([polytope.normals, normals]), np.concatenate([polytope.offsets, offsets])
    )


def _bound(coefficient: float, constant: float, where: str) -> float:
    """The bound on v that coefficient v + constant <= 0 means, rounded outward where it is no float64."""
    if abs(coefficient) == 1.0:
        return -constant / coefficient
    exact = Fraction(-constant) / Fraction(coefficient)
    try:
        bound = float(exact)
    except OverflowError:
        raise BadInput(f"{where} has a bound beyond the range of float64") from None
    if coefficient > 0:
        return nextafter(bound, inf) if bound < exact else bound
    return nextafter(bound, -inf) if bound > exact else bound


def _bounded(polytope: Polytope, where: str) -> Polytope:
    """The polytope with a finite box around it, or `BadInput` that names an input without bounds."""
    if np.isfinite(polytope.lower).all() and np.isfinite(polytope.upper).all():
        return polytope
    if len(polytope.offsets):
        from .enclosure import enclose

        polytope = enclose(polytope)
    for bound, side in ((polytope.lower, "lower"), (polytope.upper, "upper")):
        open_inputs = np.flatnonzero(~np.isfinite(bound))
        if len(open_inputs):
            others = f" (and {len(open_inputs) - 1} more)" if len(open_inputs) > 1 else ""
            raise BadInput(f"{where}: input X_{open_inputs[0]}{others} has no {side} bound; every input needs both")
    return polytope


def number(word: str) -> float:
    """The float64 nearest to a decimal; `BadInput` where the word is none or is not finite."""
    try:
        value = float(word)
    except ValueError:
        raise BadInput(f"'{word}' is neither a declared variable nor a number") from None
    if not isfinite(value) or "_" in word:
        raise BadInput(f"'{word}' is not a finite number")
    return value
