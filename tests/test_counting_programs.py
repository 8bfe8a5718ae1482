"""What linear programs prove when they count: margins at points, one phase on a cell, what both parts of a cell know.

The truth is exact: rows are fractions, each taken where its doubt makes it worst.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from partita.bab.counting.program_search import _keep, search_by_programs
from partita.bab.counting.programs import Cell, Layer, ProgramCounter, Rows
from partita.bab.counting.search import Tally
from partita.bab.counting.tree import plan
from partita.problems.network.activation import ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.properties.property import Polytope

ORDERS = list(itertools.permutations(range(3)))


def dense(weight: list, bias: list, *more: tuple[list, list]) -> Graph:
    """Layers of neurons, one after the other."""
    nodes: list = [Input(len(weight[0]))]
    for w, b in ((weight, bias), *more):
        matrix, shift = (torch.tensor(numbers, dtype=torch.float64) for numbers in (w, b))
        nodes.append(Affine((len(nodes) - 1,), (Dense(matrix),), shift))
        nodes.append(Activation((len(nodes) - 1,), ReLU(), len(b)))
    return Graph(tuple(nodes), (len(weight[0]),), (len(bias),))


def counter(lower, upper, graph: Graph | None = None, normals=None, offsets=None) -> ProgramCounter:
    lower, upper = np.array(lower, dtype=np.float64), np.array(upper, dtype=np.float64)
    graph = graph or dense([[1.0] * len(lower)], [0.0])
    halves = () if normals is None else (np.array(normals), np.array(offsets))
    return ProgramCounter(plan(graph), Polytope(lower, upper, *halves))


def rows(row, constant, doubt) -> Rows:
    return Rows(*(np.array(a, dtype=np.float64) for a in (row, constant, doubt)))


def value(row, constant, x) -> Fraction:
    products = (Fraction(a) * Fraction(b) for a, b in zip(row.tolist(), x.tolist(), strict=True))
    return sum(products, Fraction(float(constant)))


def cancelling(random: np.random.Generator, d: int) -> tuple[np.ndarray, np.ndarray]:
    """A row and a point whose product is small beside its terms."""
    row, x = random.normal(size=d) * 10.0 ** random.integers(0, 12, d), random.uniform(0.5, 1, d)
    row[-1] = -(row[:-1] @ x[:-1]) / x[-1]
    order = random.permutation(d)
    return row[order], x[order]


@pytest.mark.parametrize("d", [1, 2, 3, 8])
def test_margins_that_are_positive_are_below_what_the_functions_are(d):
    """Constants leave a little more, or less, than the doubt."""
    random, made = np.random.default_rng(d), counter(np.zeros(d), np.ones(d))
    positive = 0
    for kind in range(90):
        row, x = cancelling(random, d)
        doubt = [0.0, 1e-3, 1e3][kind % 3]
        size = float(np.abs(row) @ x) + doubt
        spare = random.choice([-1.0, 1.0]) * size * 10.0 ** random.uniform(-17, 0)
        constant = float(Fraction(doubt) + Fraction(spare) - value(row, 0.0, x))
        (said,) = made.margin(rows([row], [constant], [doubt]), x)
        true = value(row, constant, x) - Fraction(doubt)
        assert said <= 0 or Fraction(float(said)) <= true
        assert said > 0 or true <= Fraction(size) * Fraction(1, 2**44)
        positive += said > 0
    assert positive > 20


@pytest.mark.parametrize("order", ORDERS)
def test_a_margin_that_is_all_rounding(order):
    index = list(order)
    row = np.array([2.0**60, 1.0, -(2.0**60)])[index]
    for constant in (-1.0, -0.5, -1.5, -65.0):
        (said,) = counter([0] * 3, [2] * 3).margin(rows([row], [constant], [0.0]), np.ones(3))
        assert said < 0 and Fraction(float(said)) <= 1 + Fraction(constant)


def test_inside_is_inside_everything():
    made = counter([0.0, 0.0], [1.0, 2.0])
    none, half = rows(np.zeros((0, 2)), [], []), rows([[1.0, 1.0]], [-1.0], [0.0])
    assert made.inside(none, np.array([0.5, 1.5])) and made.inside(half, np.array([0.5, 1.5]))
    for x in ([0.0, 1.0], [1.0, 1.0], [0.5, 0.0], [0.5, 2.0], [1.5, 1.0], [0.5, -1.0]):
        assert not made.inside(none, np.array(x))
    assert not made.inside(half, np.array([0.5, 0.25])) and not made.inside(half, np.array([0.5, 0.5]))
    assert not made.inside(rows([[1.0, 1.0]], [-1.0], [2.0]), np.array([0.5, 1.5]))
    assert not made.inside(rows([[0.0, 0.0]], [0.0], [0.0]), np.array([0.5, 1.5]))
    assert not made.inside(half + rows([[-1.0, 0.0]], [0.25], [0.0]), np.array([0.5, 1.5]))


def least(target: Rows, others: Rows, price, lower, upper) -> Fraction:
    """The least value over the box of the target less its rows' multiples, all doubts against it."""
    exact = [Fraction(float(p)) for p in price]
    columns = others.row.T.tolist() if len(exact) else [[] for _ in lower]
    total = Fraction(float(target.constant[0])) - Fraction(float(target.doubt[0]))
    for p, constant, doubt in zip(exact, others.constant.tolist(), others.doubt.tolist(), strict=True):
        total -= p * (Fraction(constant) + Fraction(doubt))
    for a, column, low, high in zip(target.row[0].tolist(), columns, lower.tolist(), upper.tolist(), strict=True):
        slope = Fraction(a) - sum((p * Fraction(c) for p, c in zip(exact, column, strict=True)), Fraction(0))
        total += slope * Fraction(low if slope > 0 else high)
    return total


KINDS = ("plain", "doubt of the target", "doubt of a row", "cancelling", "far", "slopes", "constants", "their rows")


@pytest.mark.parametrize("kind", KINDS)
def test_one_phase_is_proved_where_it_is_true(kind):
    """Constants are set a little above and below what makes the least value zero."""
    random = np.random.default_rng(len(kind))
    said_yes = 0
    for _ in range(25):
        d, k = int(random.integers(1, 5)), int(random.integers(0, 4))
        lower = random.uniform(-1, 0, d) * (1e8 if kind == "far" else 1) + (2.0**40 if kind == "far" else 0)
        upper = lower + random.uniform(0, 1, d)
        others = rows(random.normal(size=(k, d)), random.normal(size=k), np.full(k, 0.1 * (kind == "doubt of a row")))
        price = random.exponential(size=k)
        if kind == "cancelling":
            others, price = rows(others.row * 1e12, others.constant * 1e12, others.doubt), price * 1e3
        if kind == "slopes":  # they cancel on a box around one, all else is small
            d, k, others, price = 3, 0, rows(np.zeros((0, 3)), [], []), np.zeros(0)
            lower = random.uniform(1, 2, d)
            upper = lower + 1e-12
        elif kind == "constants":  # of the target and of one row
            others, price = rows(random.normal(size=(1, d)), [1e9 * random.normal()], [0.0]), random.exponential(size=1)
        elif kind == "their rows":
            others = rows(np.zeros((3, d)), 1e9 * random.normal(size=3), np.zeros(3))
            price = random.exponential(size=3)
            others.constant[2] = -(price[:2] @ others.constant[:2]) / price[2]
        row = random.normal(size=d) + price @ others.row
        if kind == "slopes":
            row = 1e9 * row
            row[2] = -(row[:2] @ lower[:2]) / lower[2]
        doubt = 0.1 * (kind == "doubt of the target")
        start = rows([row], [0.0], [doubt])
        zero = -least(start, others, price, lower, upper)
        made = counter(lower, upper)
        for spare in (-1e-3, -1e-7, -1e-10, -1e-13, 0.0, 1e-10, 1e-3, 1.0, 1e6, 1e9):
            target = rows([row], [float(zero) + spare], [doubt])
            if made.proved(target, others, price):
                assert least(target, others, price, lower, upper) > 0
                said_yes += 1
        assert made.proved(rows([row], [float(zero) + 1e6 * (1 + abs(float(zero)))], [doubt]), others, price)
    assert said_yes > 25


def test_a_bound_of_zero_proves_nothing():
    made, nothing = counter([0.0], [1.0]), rows(np.zeros((0, 1)), [], [])
    assert not made.proved(rows([[1.0]], [0.0], [0.0]), nothing, np.zeros(0))
    assert not made.proved(rows([[0.0]], [0.0], [0.0]), nothing, np.zeros(0))
    assert made.proved(rows([[1.0]], [1e-9], [0.0]), nothing, np.zeros(0))


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("doubt", [0.0, 1e-3])
def test_intervals_settle_what_is_settled(d, doubt):
    """Functions that nearly touch zero on a box far out."""
    random = np.random.default_rng(d)
    decided = 0
    for _ in range(40):
        lower = random.uniform(-1, 1, d) * 10.0 ** random.integers(0, 16)
        upper = lower + random.uniform(0, 2, d)
        row = random.normal(size=d)
        nothing = rows(np.zeros((0, d)), [], [])
        down = least(rows([row], [0.0], [0.0]), nothing, [], lower, upper)
        up = -least(rows([-row], [0.0], [0.0]), nothing, [], lower, upper)
        made = counter(lower, upper)
        for end in (down, up):
            for spare in (-1e3, -1e-2, -1e-4, 0.0, 1e-4, 1e-2, 1e3):
                constant = float(-end) + spare
                layer = made._layer(rows([row], [constant], [doubt]))
                if layer.always[0]:
                    assert down + Fraction(constant) > Fraction(doubt)
                if layer.never[0]:
                    assert up + Fraction(constant) < -Fraction(doubt)
                decided += bool(layer.always[0] or layer.never[0])
    assert decided > 40


def whole(made: ProgramCounter, function: Rows, point) -> Cell:
    """The input set as a cell on which one neuron is asked for."""
    none, no = np.zeros(1, dtype=bool), np.zeros(len(function.constant), dtype=bool)
    start = rows(np.zeros((0, len(point))), [], [])
    return Cell(2, 0, none, none, start, np.array([point], dtype=np.float64), Layer(function, no, no))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_sign_within_its_doubt_is_unsure(sign):
    """0.001 + 0.000001 x with a doubt of 0.01, and with none."""
    made = counter([0.0], [1.0])
    for doubt in (1e-2, 0.0):
        function = rows([[sign * 1e-6]], [sign * 1e-3], [doubt])
        cell = whole(made, function, [0.5])
        made.solver.load(cell.rows)
        found, on, other = made._sides(cell, function)
        assert found.sure == (doubt == 0) and on == (sign > 0) and other is None


def test_a_constant_within_its_doubt_is_unsure():
    made = counter([0.0], [1.0])
    for constant, doubt, sure, on in (
        (1e-3, 1e-2, False, True),
        (-1e-3, 1e-2, False, False),
        (1e-3, 1e-4, True, True),
        (-1e-3, 1e-4, True, False),
        (1e-3, 1e-3, False, True),
        (0.0, 0.0, True, False),
    ):
        (after,) = made.step(whole(made, rows([[0.0]], [constant], [doubt]), [0.5]))
        assert after.sure == sure and after.active[0] == on


def test_both_parts_of_a_cell_know_what_cut_them():
    made = counter([0.0], [1.0])
    function = rows([[1.0]], [-0.5], [0.01])
    for point in (0.9, 0.1):
        parts = made.step(whole(made, function, [point]))
        assert sorted(bool(part.active[0]) for part in parts) == [False, True]
        for part in parts:
            sign = 1.0 if part.active[0] else -1.0
            assert part.cutting.all() and part.rows.doubt.tolist() == [0.01]
            assert part.rows.row.tolist() == [[sign]] and part.rows.constant.tolist() == [-0.5 * sign]
            assert sign * (part.points[0, 0] - 0.5) > 0


def test_only_what_is_sure_and_exists_is_certain():
    made = counter([0.0], [1.0])
    cell = whole(made, rows([[1.0]], [2.0], [0.0]), [0.5])
    outside = replace(cell, points=np.array([[1.0]]))
    for one, certain in ((cell, 1), (replace(cell, sure=False), 0), (outside, 0)):
        tally = Tally()
        _keep(made, Polytope(np.zeros(1), np.ones(1)), [one], tally, None)
        assert tally.certain == certain and sum(len(u.active) for u in tally.unsure) == 1 - certain


def test_multipliers_below_zero_are_none():
    """A solver within its tolerance may say -1e-9, or anything."""

    solver, found = counter([0.0, 0.0], [1.0, 1.0]).solver, SimpleNamespace()
    found.col_value, found.row_dual = [5.0, -5.0, 0.0], [-1.0, 2.0]
    said = {"changeColsCost": None, "run": None, "getModelStatus": solver.status, "getSolution": found}
    solver.solver = SimpleNamespace(**{name: lambda *_, name=name: said[name] for name in said})
    solver.length = np.array([1.0, 4.0])
    x, price = solver.least(np.array([0.5, -2.0]))
    assert x.tolist() == [1.0, 0.0] and price.tolist() == [0.0, 1.0]
    said["getModelStatus"] = None
    assert solver.least(np.array([0.5, -2.0])) is None


def test_half_spaces_and_box_are_the_input_set():
    """x + y <= 1.5, with a doubt that covers its rounding."""
    made = counter([0.0, 0.0], [1.0, 1.0], None, [[1.0, 1.0]], [1.5])
    assert made.start.row.tolist() == [[-1.0, -1.0]] and made.start.constant.tolist() == [1.5]
    assert 0 < made.start.doubt[0] < 1e-14
    assert made.inside(made.start, np.array([0.7, 0.7])) and not made.inside(made.start, np.array([0.8, 0.8]))


def test_settled_neurons_have_their_phase_on_the_region():
    """On the left of 1/2 the second neuron, 1/4 - x, has both phases and the third, x - 3/4, has one."""
    made = counter([0.0], [1.0], dense([[1.0], [-1.0], [1.0]], [-0.5, 0.25, -0.75]))
    no, cut = np.zeros(3, dtype=bool), np.array([True, False, False])
    assert made.settled(no, cut).tolist() == [False, False, True]
    assert made.settled(no, no).tolist() == [False, False, False]
    assert made.settled(np.array([False, True, False]), cut).tolist() == [False, False, True]
    assert made.settled(np.array([True, False, False]), cut).tolist() == [False, True, False]
    assert made.settled(np.array([False, False, True]), cut).tolist() == [False, False, False]


def test_a_sign_that_rounding_decides_is_not_settled():
    """0.30000000000000004 x - 0.15 beyond x = 1/2 is 3e-17 at least, which no float64 proof can tell from zero."""
    made = counter([0.0], [1.0], dense([[1.0], [0.30000000000000004]], [-0.5, -0.15]))
    on, cut = np.array([True, True]), np.array([True, False])
    assert made.settled(on, cut).tolist() == [False, False]
    made = counter([0.0], [1.0], dense([[1.0], [0.30000000000000004]], [-0.5, -0.14]))
    assert made.settled(on, cut).tolist() == [False, True]


def test_twins_have_the_first_ones_phase():
    """x - 1/4 twice, and its negative once: two cells."""
    graph = dense([[1.0, 0.5], [1.0, 0.5], [-1.0, -0.5]], [-0.25, -0.25, 0.25])
    tally = search_by_programs(plan(graph), Polytope(np.zeros(2), np.ones(2)), None)
    found = {tuple(np.unpackbits(p, bitorder="little")[:3].tolist()) for part in tally.patterns for p in part}
    assert tally.certain == 2 and not tally.unsure and found == {(1, 1, 0), (0, 0, 1)}


def test_what_time_does_not_suffice_for_waits():
    graph = dense([[1.0, 0.5], [0.5, -1.0]], [-0.25, -0.25])
    tally = search_by_programs(plan(graph), Polytope(np.zeros(2), np.ones(2)), 0.0)
    assert tally.reason and tally.certain == 0
    assert [tuple(w) for w in tally.waiting] == [(2, 0, True, True)]


@pytest.mark.parametrize("sure", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_what_waits_exists_where_its_point_is_inside(sure, inside, monkeypatch):
    graph, root = dense([[1.0, 0.5], [0.5, -1.0]], [-0.25, -0.25]), ProgramCounter.root
    points = np.array([[0.5, 0.5 if inside else 1.0]])
    monkeypatch.setattr(ProgramCounter, "root", lambda self: replace(root(self), sure=sure, points=points))
    tally = search_by_programs(plan(graph), Polytope(np.zeros(2), np.ones(2)), 0.0)
    assert [tuple(w)[2:] for w in tally.waiting] == [(sure and inside, sure)]
