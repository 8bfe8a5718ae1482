"""Strict rows: closed at >= 0 and not before, in goals, both trees, their float64 confirmation, and programs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_graph

from partita.bab.building import build
from partita.bab.comparing.exact_goal import Notion, goal_for, rows_of
from partita.bab.config import load_config
from partita.bab.strategy import choose
from partita.bab.trees import programs
from partita.bab.trees.goals import goals_of
from partita.problems.errors import BadInput
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet
from partita.problems.properties.rational import Row
from partita.relaxations.ladder.exact import minimum
from partita.relaxations.ladder.ladder import LinearPrograms
from partita.relaxations.linear.alpha import Alpha
from partita.relaxations.linear.clip import clip
from partita.relaxations.linear.rebounding import Rebounding
from partita.relaxations.protocol import Bounds
from partita.relaxations.types import Pieces, Result, Rows

ZERO, BELOW = 0.0, -5e-324


def unsafe_of(rows: list[Row], n_out: int, n_in: int = 0) -> UnsafeSet:
    """The set of exact rows with the nearest float64 arrays, as a reader makes it."""
    coefficients = np.zeros((len(rows), n_out))
    constants = np.array([float(row.constant) for row in rows])
    on_input = np.zeros((len(rows), n_in)) if any(row.on_input for row in rows) else None
    for r, row in enumerate(rows):
        for i, a in row.terms.items():
            coefficients[r, i] = float(a)
        for i, a in row.on_input.items():
            on_input[r, i] = float(a)
    return UnsafeSet(coefficients, constants, on_input, tuple(rows))


def rows_with(strict) -> Rows:
    marks = None if strict is None else torch.tensor([strict])
    return Rows(torch.zeros(1, 2, 1), torch.zeros(1, 2), None, marks)


@pytest.mark.parametrize(
    ("strict", "lower", "closed"),
    [
        (None, [ZERO, -1.0], False),
        (None, [-1.0, 5e-324], True),
        ([False, True], [ZERO, -1.0], False),  # zero is enough for the strict row alone
        ([True, False], [ZERO, -1.0], True),
        ([True, False], [-0.0, -1.0], True),
        ([True, True], [BELOW, -1.0], False),
        ([True, True], [float("nan"), float("nan")], False),
        ([True, False], [float("nan"), 1.0], True),
        ([True, True], [-torch.inf, -torch.inf], False),
    ],
)
def test_a_strict_row_closes_at_zero_others_above(strict, lower, closed):
    assert rows_with(strict).closed(torch.tensor([lower], dtype=torch.float64)).tolist() == [closed]


def test_rows_keep_their_strictness_when_some_are_taken():
    rows = Rows(torch.zeros(3, 1, 1), torch.zeros(3, 1), None, torch.tensor([[True], [False], [True]]))
    assert rows[torch.tensor([1, 2])].strict.tolist() == [[False], [True]]


def case(unsafe: list[UnsafeSet], n_in: int = 2) -> Property:
    return Property((Case(Polytope(-np.ones(n_in), np.ones(n_in)), tuple(unsafe)),), n_in, 2)


def test_goals_repeat_strictness_with_the_row_they_repeat():
    strict, weak = Row({0: Fraction(1)}, Fraction(0), True), Row({1: Fraction(1)}, Fraction(0))
    prop = case([unsafe_of([strict], 2), unsafe_of([weak, strict], 2), unsafe_of([], 2)])
    goals = goals_of(prop, torch.float32, "cpu", torch.ones(2).double(), torch.ones(2).double())
    assert goals.strict.tolist() == [[True, True], [False, True], [False, False]]
    assert goals.rows(torch.tensor([1])).strict.tolist() == [[False, True]]
    plain = goals_of(case([unsafe_of([weak], 2)]), torch.float32, "cpu", torch.ones(2).double(), torch.ones(2).double())
    assert plain.strict is None


numbers = st.builds(Fraction, st.integers(-(10**25), 10**25), st.sampled_from([1, 3, 7, 10**20, 10**30, 2**70]))


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=6, max_size=6), st.sampled_from([torch.float32, torch.float64]), st.booleans())
def test_goals_of_exact_rows_are_below_them_everywhere(values, dtype, tied):
    on_input = {0: values[3], 1: values[4]} if tied else {}
    row = Row({0: values[0], 1: values[1]}, values[2], True, on_input)
    x, y = [Fraction(3), Fraction(1, 3)], [Fraction(10**4), Fraction(10**4) * 3 / 7]
    largest = torch.tensor([3.0, 1.0]).double(), torch.tensor([1e4, 1e4]).double()
    goals = goals_of(case([unsafe_of([row], 2, 2)]), dtype, "cpu", *largest)
    numbers = lambda t: [Fraction(float(v)) for v in t.flatten()]  # noqa: E731
    for signs in ((1, 1, 1, 1), (-1, 1, 1, -1), (1, -1, -1, 1), (-1, -1, -1, -1)):
        at_x, at_y = [s * v for s, v in zip(signs, x)], [s * v for s, v in zip(signs[2:], y)]
        stored = sum(a * v for a, v in zip(numbers(goals.coefficients), at_y)) + numbers(goals.constants)[0]
        if tied:
            stored += sum(a * v for a, v in zip(numbers(goals.on_input), at_x))
        assert stored <= row.value(at_y, at_x)


def test_a_coefficient_below_float64_is_charged():
    row = Row({0: Fraction(-1, 10**400)}, Fraction(0), True)
    goals = goals_of(case([unsafe_of([row], 2)]), torch.float64, "cpu", torch.ones(2).double(), torch.ones(2).double())
    assert goals.coefficients.eq(0).all() and goals.constants.item() < 0


def test_each_row_is_lowered_by_what_it_lost_itself():
    """The first row is a float64 row; what the second lost is charged to it, and a repeated row is the first again."""
    whole, third = Row({0: Fraction(1)}, Fraction(0)), Row({1: Fraction(1, 3)}, Fraction(0))
    prop = case([unsafe_of([whole, third], 2), unsafe_of([third], 2)])
    goals = goals_of(prop, torch.float64, "cpu", torch.ones(2).double(), torch.full((2,), 2.0**40).double())
    stored = [[Fraction(c) for c in row] for row in goals.constants.tolist()]
    lost = Fraction(2) ** 40 * abs(Fraction(1, 3) - Fraction(1 / 3))
    assert stored[0][0] == 0 and all(-2 * lost < c <= -lost for c in (stored[0][1], *stored[1]))


@dataclass(frozen=True, eq=False)
class FixedRegions:
    """A relaxation that says what it is told to."""

    inner: Rebounding
    lower: float
    slack: float = 0.0

    @property
    def linear(self):
        return self.inner.linear

    def bound(self, pieces, rows, start=None):
        result = self.inner.bound(pieces, rows, start).result
        wide = result.lower.new_full(result.lower.shape, -1.0)
        empty = torch.zeros_like(result.empty)
        lower = wide.index_fill(1, torch.tensor([0]), self.lower)
        return Bounds(replace(result, lower=lower, slack=wide * 0 + self.slack, empty=empty), pieces)


@dataclass(frozen=True, eq=False)
class FixedPhases(Alpha):
    """The same for trees of phases."""

    lower: float = 0.0
    slack: float = 0.0

    def optimise(self, pieces, rows, start=None, **more):
        result, values, form = super().optimise(pieces, rows, start, **more)
        lower = result.lower.new_full(result.lower.shape, -1.0).index_fill(1, torch.tensor([0]), self.lower)
        return replace(result, lower=lower, slack=lower * 0 + self.slack), values, form


def tree_for(n_in: int, strict: list[bool]):
    """A tree with two rows, never provable by itself."""
    graph = random_graph(1, "mlp", n_in, 4, 1, 2)
    rows = [Row({0: Fraction(1)}, Fraction(-1000), flag) for flag in strict]
    prop = Property((Case(Polytope(-np.ones(n_in), np.ones(n_in)), (unsafe_of(rows, 2),)),), n_in, 2)
    config = load_config(None, {"precision": "float64", "relaxation": "crown", "attack": "off"})
    with torch.no_grad():
        tree = build(graph, graph, prop, config, choose(graph, config))
    return getattr(tree, "inner", tree)  # without the look at signs that strict rows get beside


def told(tree, lower: float, slack: float = 0.0):
    """The tree's relaxations, made to say `lower` of the first row and -1 of the other."""
    if type(tree).__name__ == "Regions":
        tree.relaxation = FixedRegions(tree.relaxation, lower, slack)
        tree.precise = FixedRegions(tree.precise, lower, slack)
    else:
        bounder, said = tree.bounder, {"steps": 0, "lower": lower, "slack": slack}
        both = (FixedPhases(alpha.linear, **said) for alpha in (bounder.relaxation, bounder.precise))
        tree.bounder = replace(bounder, **dict(zip(("relaxation", "precise"), both, strict=True)))
    return tree


@pytest.mark.parametrize("n_in", [2, 14], ids=["regions", "phases"])
@pytest.mark.parametrize(
    ("strict", "lower", "slack", "closed", "near"),
    [
        ([True, False], 0.0, 0.0, True, False),
        ([True, False], -0.0, 0.0, True, False),
        ([False, True], 0.0, 0.0, False, False),
        ([False, True], 1e-30, 0.0, True, False),
        ([True, True], BELOW, 0.0, False, False),
        ([True, False], -1e-9, 1e-9, False, True),  # only for its rounding it is open: asked again in float64
        ([False, True], -1e-9, 1e-9, False, False),
    ],
)
@torch.no_grad()
def test_both_trees_close_strict_rows_at_zero(n_in, strict, lower, slack, closed, near):
    tree = told(tree_for(n_in, strict), lower, slack)
    assert type(tree).__name__ == ("Regions" if n_in == 2 else "Phases")
    bounded = tree.bound(tree.roots())
    assert bounded.closed.tolist() == [closed] and bounded.near.tolist() == [near]
    assert [name for name, _ in bounded.ends()] == ([bounded.names[0]] if closed else [])  # not "empty"
    assert tree.confirm(tree.roots()).tolist() == [closed]


@torch.no_grad()
def test_a_bound_that_a_piece_brings_along_closes_nothing():
    """A resumed piece starts from min(its logged bound, 0), which need not be its strict row's."""
    for n_in in (2, 14):
        tree = told(tree_for(n_in, [True, False]), -1.0)
        roots = tree.roots()
        roots = replace(roots, bound=torch.zeros_like(roots.bound))
        assert tree.bound(roots).closed.tolist() == [False]


def test_a_measured_trees_target_is_zero_for_strict_rows_and_above_it_for_others():
    """The minimum of the first output is attained: the strict row has it as its target, the other is violated there."""
    graph = random_graph(3, "mlp", 2, 3, 1, 2)
    inputs = Polytope(-np.ones(2), np.ones(2))
    least = minimum(graph, inputs, np.array([1.0, 0.0])).upper
    row = lambda strict: Row({0: Fraction(1)}, Fraction(-least), strict)  # noqa: E731
    strict = rows_of(graph, [unsafe_of([row(True)], 2)])
    goal = goal_for(graph, inputs, strict, Notion("threshold", None, 0.0)).goal
    assert goal.targets.tolist() == [0.0] and goal.closed(np.array([0.0])) and not goal.closed(np.array([BELOW]))
    far = rows_of(graph, [unsafe_of([Row({0: Fraction(1)}, Fraction(1 - least), False)], 2)])
    goal = goal_for(graph, inputs, far, Notion("threshold", None, 0.0)).goal
    assert not goal.closed(np.array([0.0])) and goal.closed(np.array([5e-324]))
    with pytest.raises(BadInput, match="violated"):
        goal_for(graph, inputs, rows_of(graph, [unsafe_of([row(False)], 2)]), Notion("threshold", None, 0.0))
    third = rows_of(graph, [unsafe_of([Row({0: Fraction(1, 3)}, Fraction(1, 3) + 9, False)], 2)])
    charged = goal_for(graph, inputs, third, Notion("threshold", None, 0.0)).goal
    assert Fraction(charged.constants[0]) < Fraction(1, 3) + 9


@pytest.mark.parametrize("strict", [True, False])
@torch.no_grad()
def test_programs_close_strict_rows_at_zero_row_by_row(strict, monkeypatch):
    graph, rows = (
        random_graph(1, "mlp", 2, 4, 1, 2),
        [Row({0: Fraction(1)}, Fraction(-1000), s) for s in (strict, False)],
    )
    prop = Property((Case(Polytope(-np.ones(2), np.ones(2)), (unsafe_of(rows, 2),)),), 2, 2)
    config = load_config(None, {"precision": "float64", "relaxation": "triangle", "attack": "off"})
    tree = build(graph, graph, prop, config, choose(graph, config))
    assert isinstance(tree, programs.Programs)
    for values, closed in (([0.0, -1.0], strict), ([-1.0, 0.0], False), ([-1.0, 1e-300], True), ([BELOW, -1.0], False)):
        said = lambda self, pieces, rows, b, v=values: (np.array(v), (pieces.pre_lower[b], pieces.pre_upper[b]), None)  # noqa: E731
        monkeypatch.setattr(LinearPrograms, "_piece", said)
        bounded = tree.bound(tree.roots())
        assert bounded.closed.tolist() == [closed]
        assert [name for name, _ in bounded.ends()] == (["triangle"] if closed else [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_clipping_keeps_the_border_itself(dtype):
    """Clipping is told forms, not strictness: where a row is zero may be the only counterexample of a weak one."""
    box = torch.zeros(1, 2, dtype=dtype), torch.ones(1, 2, dtype=dtype)
    none = box[0].new_zeros(1, 0)
    for forms, point in (
        ([[1.0, 1.0]], [0.0, 0.0]),
        ([[-1.0, -1.0], [0.0, -1.0]], [1.0, 1.0]),
        ([[1.0, -1.0], [-1.0, 1.0]], [0.5, 0.5]),
    ):
        rows = torch.tensor([forms], dtype=dtype)
        constants = -(rows @ torch.tensor(point, dtype=dtype))
        zero = torch.zeros_like(constants)
        result = Result(zero, rows, constants, zero, none, none, torch.zeros(1, dtype=torch.bool))
        piece, empty = clip(Pieces.boxes(*box, 0), result)
        assert not empty.any()
        x = torch.tensor(point, dtype=dtype)
        assert (piece.lower[0] <= x).all() and (x <= piece.upper[0]).all()
