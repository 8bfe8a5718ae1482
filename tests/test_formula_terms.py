"""Formulas against their meaning at every point of a grid: the normal form, its clauses, and the property they make."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from random import Random

import pytest

from partita.problems.properties.cases import to_property
from partita.problems.properties.formula import And, Linear, Not, Or, clauses, normal, summed

GRID = [Fraction(k, 2) for k in range(-3, 4)]


def value(atom: Linear, point) -> Fraction:
    return sum((a * point[v] for v, a in atom.terms.items()), Fraction(atom.constant))


def holds(formula, point) -> bool:
    match formula:
        case Linear():
            found = value(formula, point)
            return found < 0 if formula.strict else found <= 0
        case Not():
            return not holds(formula.part, point)
        case And():
            return all(holds(part, point) for part in formula.parts)
        case Or():
            return any(holds(part, point) for part in formula.parts)


def atom(random: Random, variables: int) -> Linear:
    """Few different terms, so that clauses hold several atoms with the same."""
    chosen = random.sample(range(variables), random.choice([1, 1, 2]))
    terms = {v: random.choice([-1, 1]) for v in sorted(chosen)}
    return Linear(terms, Fraction(random.randint(-2, 2), 2), random.random() < 0.5)


def formula(random: Random, depth: int, variables: int):
    if depth == 0 or random.random() < 0.2:
        return atom(random, variables)
    kind = random.choice([And, Or, Or, Not])
    if kind is Not:
        return Not(formula(random, depth - 1, variables))
    return kind([formula(random, depth - 1, variables) for _ in range(random.randint(1, 3))])


@pytest.mark.parametrize("seed", range(40))
def test_clauses_hold_where_the_formula_does(seed):
    random = Random(seed)
    given = formula(random, 4, 2)
    points = list(product(GRID, repeat=2))
    expected = [holds(given, point) for point in points]
    made = normal(given)
    assert [holds(made, point) for point in points] == expected
    found = clauses(made)
    assert [any(all(holds(a, p) for a in clause) for clause in found) for p in points] == expected


@pytest.mark.parametrize("seed", range(40))
def test_a_property_is_violated_where_the_formula_holds(seed):
    """Two inputs within [-3/2, 3/2] and one output, at every point of a grid, exactly."""
    random = Random(seed)
    box = [Linear({v: s}, Fraction(-3, 2), False) for v in (0, 1) for s in (-1, 1)]
    given = formula(random, 3, 3)
    prop = to_property([*box, given], 2, 1)
    for point in product(GRID, repeat=3):
        x, y = list(point[:2]), list(point[2:])
        found = any(
            case.inputs.holds(x) and any(unsafe.holds(x, y) for unsafe in case.unsafe)
            for case in prop.cases
            if not case.inputs.empty
        )
        assert found is holds(given, point), point


def test_of_atoms_with_the_same_terms_the_tightest_is_kept():
    """x <= 1 and x < 1 are not the same, whichever comes first; nor are clauses that differ in this alone."""
    weak, strict, loose = (Linear({0: 1}, c, s) for c, s in ((-1, False), (-1, True), (-2, False)))
    other = Or([Linear({1: 1}, 0), Linear({1: -1}, 1)])
    for order in ([weak, strict, loose], [loose, strict, weak], [strict, weak, loose]):
        for clause in clauses(And([*order, other])):
            (kept,) = (a for a in clause if 0 in a.terms)
            assert (kept.constant, kept.strict) == (-1, True)
    found = clauses(And([Or([weak, strict]), other]))
    assert len(found) == 4


def test_input_sets_that_differ_in_strictness_alone_are_two():
    """x0 <= x1 with y <= 1, or x0 < x1 with y <= 2: on the diagonal only the first counts."""
    box = [Linear({v: s}, -1, False) for v in (0, 1) for s in (-1, 1)]
    both = [
        And([Linear({0: 1, 1: -1}, 0, strict), Linear({2: 1}, -most, False)])
        for strict, most in ((False, 1), (True, 2))
    ]
    prop = to_property([*box, Or(both)], 2, 1)
    assert len(prop.cases) == 2
    half, middle = Fraction(1, 2), Fraction(3, 2)
    for x, y, expected in (([half, half], 1, True), ([half, half], middle, False), ([0, half], middle, True)):
        found = any(c.inputs.holds(x) and any(u.holds(x, [Fraction(y)]) for u in c.unsafe) for c in prop.cases)
        assert found is expected


def test_the_tighter_of_two_bounds_counts_whichever_comes_first():
    for order in ((1, 2), (2, 1)):
        sides = [Linear({0: 1}, -most, False) for most in order] + [Linear({0: -1}, -most, False) for most in order]
        prop = to_property([*sides, Linear({1: 1}, 0, True)], 1, 1)
        (case,) = prop.cases
        assert (case.inputs.lower, case.inputs.upper) == ([-1.0], [1.0])
        assert case.unsafe[0].strict.tolist() == [True]


def test_differences_subtract_constants_too():
    terms = [Linear({0: 2}, Fraction(1, 2)), Linear({1: 3}, Fraction(1, 4)), Linear({0: 2}, Fraction(-1, 8))]
    for sign, constant, at_zero in ((1, Fraction(5, 8), 4), (-1, Fraction(3, 8), 0)):
        found = summed(terms, sign)
        assert found.constant == constant and found.terms.get(0, 0) == at_zero and found.terms[1] == 3 * sign
    assert terms[0].plus(terms[1], -2) == Linear({0: 2, 1: -6}, Fraction(0))
    assert terms[0].times(-2) == Linear({0: -4}, Fraction(-1))
