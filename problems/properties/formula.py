"""Formulas over a network's inputs and outputs, in exact arithmetic.

Both versions of VNN-LIB end here. Variables are numbered: inputs 0 .. n_in - 1, then outputs. A `Linear` is
sum_i a_i v_i + c with rational numbers; as a formula it is the atom `Linear <= 0`, or `< 0` where it is strict.
Formulas are atoms, `And`, `Or` and `Not`. `normal` pushes negations down to the atoms (not a <= 0 is -a < 0, and the
other way round), decides constant atoms and flattens chains; `clauses` is the disjunctive normal form, whose size
`size` knows before any of it is built.

No function here recurses: a file may nest as deep as it likes. What a formula means as a `Property` is `cases`'
business. Soundness: exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TypeVar

from ...kernels.deadline import check
from .decimals import Rational, checked, rational

T = TypeVar("T")
MANY = 10**18  # counts stop here


@dataclass(slots=True)  # not frozen, which costs twice the time where there are hundreds of thousands
class Linear:
    """sum of terms[i] * variable i, plus constant; as a formula: this is <= 0, or < 0 where `strict`. Never changed.

    The constant of an atom that compares a variable with a number may be a `Decimal`, which nothing is computed with
    but its sign; everything else is `int` or `Fraction`. No term is zero.
    """

    terms: dict[int, int | Fraction]
    constant: Rational = 0
    strict: bool = False

    def plus(self, other: Linear, factor: int | Fraction = 1) -> Linear:
        """self + factor * other, not strict."""
        terms = dict(self.terms)
        for variable, coefficient in other.terms.items():
            total = checked(terms.get(variable, 0) + factor * coefficient)
            if total:
                terms[variable] = total
            else:
                terms.pop(variable, None)
        return Linear(terms, checked(rational(self.constant) + factor * rational(other.constant)))

    def times(self, factor: Rational) -> Linear:
        """factor * self, not strict."""
        factor = rational(factor)
        if not factor:
            return Linear({})
        terms = {variable: checked(factor * coefficient) for variable, coefficient in self.terms.items()}
        return Linear(terms, checked(factor * rational(self.constant)))

    def negated(self) -> Linear:
        """The atom that holds where this one does not."""
        constant = self.constant.copy_negate() if isinstance(self.constant, Decimal) else -self.constant
        return Linear({v: -a for v, a in self.terms.items()}, constant, not self.strict)

    def below(self, strict: bool) -> Linear:
        """The atom self <= 0 or, where `strict`, self < 0."""
        return Linear(self.terms, self.constant, strict)


def summed(terms: list[Linear], sign: int) -> Linear:
    """The first term, plus `sign` times the sum of the others."""
    total, constant = dict(terms[0].terms), rational(terms[0].constant)
    for term in terms[1:]:
        for variable, coefficient in term.terms.items():
            total[variable] = checked(total.get(variable, 0) + sign * coefficient)
        constant = checked(constant + sign * rational(term.constant))
    return Linear({variable: a for variable, a in total.items() if a}, constant)


@dataclass(frozen=True, slots=True)
class And:
    """All parts hold; `And([])` is true."""

    parts: list[Formula]


@dataclass(frozen=True, slots=True)
class Or:
    """Some part holds; `Or([])` is false."""

    parts: list[Formula]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Formula


Formula = Linear | And | Or | Not
Clause = tuple[Linear, ...]


def join(kind: type[And] | type[Or], parts: list[Formula]) -> Formula:
    """The conjunction or disjunction of parts, with parts of the same kind dissolved, so that chains stay flat."""
    if len(parts) == 1:
        return parts[0]
    same: list[And | Or] = [part for part in parts if isinstance(part, And | Or) and type(part) is kind]
    if not same:
        return kind(parts)
    longest = max(same, key=lambda part: len(part.parts))
    # Extended in place, or a chain of n links would copy n^2 parts: formulas are built once and never shared.
    for part in parts:
        if part is not longest:
            longest.parts.extend(part.parts if isinstance(part, And | Or) and type(part) is kind else [part])
    return longest


def negate(formula: Formula) -> Formula:
    """The formula's negation."""
    if isinstance(formula, Linear):
        return formula.negated()
    return formula.part if isinstance(formula, Not) else Not(formula)


@dataclass(frozen=True, slots=True)
class _Close:
    """Stands on the stack of `reduce` where a formula's parts end."""

    kind: type[And] | type[Or]
    start: int


def reduce(
    formula: Formula,
    of_atom: Callable[[Linear], T],
    of_parts: Callable[[type[And] | type[Or], list[T]], T],
) -> T:
    """The formula's value, innermost parts first, negations pushed down on the way."""
    todo: list[tuple[Formula | _Close, bool]] = [(formula, True)]
    done: list[T] = []
    while todo:
        node, positive = todo.pop()
        if isinstance(node, Linear):
            done.append(of_atom(node if positive else node.negated()))
        elif isinstance(node, _Close):
            parts = done[node.start :]
            del done[node.start :]
            done.append(of_parts(node.kind, parts))
        elif isinstance(node, Not):
            todo.append((node.part, not positive))
        else:
            kind = And if isinstance(node, And) == positive else Or
            todo.append((_Close(kind, len(done)), True))
            todo.extend((part, positive) for part in reversed(node.parts))
    return done[0]


def flat(formula: Formula) -> list[Clause] | None:
    """The disjunctive normal form of a disjunction of conjunctions of atoms, as large formulas are; None of others."""
    if type(formula) is not Or:
        return None
    found: list[Clause] = []
    for part in formula.parts:
        if type(part) is Linear:
            found.append((part,))
        elif type(part) is And:
            for atom in part.parts:
                if type(atom) is not Linear:
                    return None
            found.append(tuple(part.parts))  # type: ignore[arg-type]
        else:
            return None
    return found


def normal(formula: Formula) -> Formula:
    """The formula of atoms, `And` and `Or` alone; constant atoms and what they decide are gone."""
    found = flat(formula)
    if found:
        for clause in found:
            for atom in clause:
                if not atom.terms:
                    return reduce(formula, _decided, _joined)
        return formula
    return reduce(formula, _decided, _joined)


def _decided(atom: Linear) -> Formula:
    if atom.terms:
        return atom
    return And([]) if (atom.constant < 0 if atom.strict else atom.constant <= 0) else Or([])


def _joined(kind: type[And] | type[Or], parts: list[Formula]) -> Formula:
    other = Or if kind is And else And
    kept: list[Formula] = []
    for part in parts:
        if isinstance(part, And | Or) and not part.parts:
            if isinstance(part, other):  # false in a conjunction, true in a disjunction
                return other([])
        else:
            kept.append(part)
    return join(kind, kept)


def size(formula: Formula) -> tuple[int, int]:
    """How many conjunctions and how many atoms in all `clauses` would return; both stop at `MANY`."""
    factors = _factors(formula)
    if factors is not None:
        return _size(And, [(len(factor), sum(map(len, factor))) for factor in factors])
    return reduce(formula, lambda atom: (1, 1), _size)


def _factors(formula: Formula) -> list[list[Clause]] | None:
    """Of a conjunction of atoms and `flat` disjunctions: the clauses of each; the first list holds all its atoms."""
    if type(formula) is not And:
        whole: list[Clause] | None = [(formula,)] if type(formula) is Linear else flat(formula)
        return None if whole is None else [whole]
    atoms, found = [], []
    for part in formula.parts:
        if type(part) is Linear:
            atoms.append(part)
        else:
            listed = flat(part)
            if listed is None:
                return None
            found.append(listed)
    return [[tuple(atoms)], *found]


def _size(kind: type[And] | type[Or], parts: list[tuple[int, int]]) -> tuple[int, int]:
    if kind is Or:
        count, atoms = sum(count for count, _ in parts), sum(atoms for _, atoms in parts)
    else:
        several = [part for part in parts if part[0] != 1]
        count = 1
        for part in several:
            count = min(count * part[0], MANY)
        if count in (0, MANY):
            return count, count
        atoms = sum(part[1] for part in parts if part[0] == 1) * count
        atoms += sum(part[1] * (count // part[0]) for part in several)
    return min(count, MANY), min(atoms, MANY)


def atoms_of(formula: Formula) -> Iterator[Linear]:
    """The formula's atoms, as they are written, in their order."""
    todo = [formula]
    while todo:
        node = todo.pop()
        if isinstance(node, Linear):
            yield node
        elif isinstance(node, Not):
            todo.append(node.part)
        else:
            todo.extend(reversed(node.parts))


def clauses(formula: Formula) -> list[Clause]:
    """The disjunctive normal form of a `normal` formula: a list of conjunctions of atoms.

    Deep nesting says similar things again and again: of atoms with the same terms a clause keeps the tightest, and of
    equal clauses there is one.
    """
    factors = _factors(formula)
    if factors is None or len(factors) > 2:
        return _unique(_expanded(formula), formula)
    if type(formula) is not And:
        return factors[0]
    ((atoms,), *others) = factors
    if not others and len({frozenset(atom.terms.items()) for atom in atoms}) == len(atoms):
        return [atoms]
    return _unique([atoms + clause for clause in others[0]] if others else [atoms], formula)


def _expanded(formula: Formula) -> Iterator[Clause]:
    """The conjunctions one by one.

    Walked from the top, so that what several have in common is visited once: `atoms` is a chain of what has been
    collected so far, `pending` one of what is still to be expanded.
    """
    todo: list[tuple] = [(None, (formula, None))]
    while todo:
        atoms, pending = todo.pop()
        while pending is not None:
            node, pending = pending
            if isinstance(node, Linear):
                atoms = (node, atoms)
            elif isinstance(node, And):
                others = []
                for part in node.parts:
                    if isinstance(part, Linear):
                        atoms = (part, atoms)
                    else:
                        others.append(part)
                for part in reversed(others):
                    pending = (part, pending)
            else:
                todo.extend((atoms, (part, pending)) for part in reversed(node.parts))
                break
        else:
            clause = []
            while atoms is not None:
                atom, atoms = atoms
                clause.append(atom)
            yield tuple(reversed(clause))


def _unique(expanded: Iterable[Clause], formula: Formula) -> list[Clause]:
    """The clauses of the formula without what says nothing beside the rest."""
    found: dict[frozenset[int], Clause] = {}
    left, whole = _numbered(formula)
    for clause in expanded:
        check()
        if len({left[id(atom)] for atom in clause}) < len(clause):
            kept: dict[int, Linear] = {}
            for atom in reversed(clause):
                other = kept.setdefault(left[id(atom)], atom)
                if (atom.constant, atom.strict) > (other.constant, other.strict):
                    kept[left[id(atom)]] = atom
            clause = tuple(reversed(kept.values()))
        found.setdefault(frozenset([whole[id(atom)] for atom in clause]), clause)
    return list(found.values())


def _numbered(formula: Formula) -> tuple[dict[int, int], dict[int, int]]:
    """For the `id` of each atom a number that atoms with the same terms share, and one that equal atoms do."""
    left: dict[int, int] = {}
    whole: dict[int, int] = {}
    terms: dict[frozenset, int] = {}
    atoms: dict[tuple, int] = {}
    for atom in atoms_of(formula):
        number = terms.setdefault(frozenset(atom.terms.items()), len(terms))
        left[id(atom)] = number
        whole[id(atom)] = atoms.setdefault((number, atom.constant, atom.strict), len(atoms))
    return left, whole
