"""What proves a cell, each on its own: the distance of true vertices, margins of planes, points that witness.

The truth is exact: planes and points are fractions.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from networks import dense

from partita.bab.counting.inputs import vertices_of
from partita.bab.counting.proof import _closed, _distance, _Planes, _planes, proved, witnessed
from partita.bab.counting.search import confirm
from partita.bab.counting.tree import advance, finished, plan, root
from partita.kernels.double_description import box
from partita.problems.network.graph import Affine, Graph
from partita.problems.properties.property import Polytope

ORDERS = list(itertools.permutations(range(3)))


def exact(numbers) -> list:
    """Nested lists of float64 numbers as fractions."""
    return [exact(n) for n in numbers] if isinstance(numbers, list) else Fraction(numbers)


def solved(rows: list[list[Fraction]], right: list[Fraction]) -> list[Fraction] | None:
    """The solution of a square system; None where there is none or many."""
    table = [[*row, value] for row, value in zip(rows, right, strict=True)]
    for k in range(len(table)):
        pivot = next((i for i in range(k, len(table)) if table[i][k]), None)
        if pivot is None:
            return None
        table[k], table[pivot] = table[pivot], table[k]
        for i, row in enumerate(table):
            if i != k and row[k]:
                factor = row[k] / table[k][k]
                table[i] = [a - factor * b for a, b in zip(row, table[k], strict=True)]
    return [row[-1] / row[k] for k, row in enumerate(table)]


def planes(row, constant, error, steep) -> _Planes:
    """Planes of one cell in D dimensions."""
    row, constant, error, steep = (torch.tensor(a, dtype=torch.float64)[None] for a in (row, constant, error, steep))
    return _Planes(row, constant, error, steep, row.abs().sum(2), torch.zeros_like(constant, dtype=torch.bool))


def corner(row, constant, error, steep, x) -> tuple[float, bool]:
    """How far the true corner of D planes is from x at most, and whether there is one."""
    d = len(x)
    at = torch.tensor([[x]], dtype=torch.float64)
    away, regular = _distance(planes(row, constant, error, steep), at, torch.arange(d)[None, None])
    return float(away[0, 0]), bool(regular[0])


@pytest.mark.parametrize("d", [1, 2, 3])
def test_true_corners_are_as_near_as_is_said(d):
    """Planes that are off by all that their errors allow, in slope or in constant, to either side."""
    random = np.random.default_rng(d)
    regular_ones = 0
    for kind in range(90):
        row, x = random.normal(size=(d, d)), random.uniform(-1, 1, d)
        error = 10.0 ** random.uniform(-12, -4, d) * (kind % 3 != 0)
        steep = 10.0 ** random.uniform(-9, -0.2, d) * (kind % 3 != 1)
        shift = random.choice([0.0, 1e-15, 1e-6, 1e-4], d)
        constant = -(row @ x) + shift
        rounding = 2.0**-48 * (np.abs(row).sum(1) + np.abs(constant))
        away, regular = corner(row.tolist(), constant.tolist(), (error + rounding).tolist(), steep.tolist(), x.tolist())
        regular_ones += regular
        if not regular:
            continue
        point, rows = exact(x.tolist()), exact(row.tolist())
        for _ in range(4):
            signs, turn = random.choice([-1, 1], d).tolist(), random.choice([-1, 1], d).tolist()
            own, right = [list(r) for r in rows], []
            for i in range(d):  # a turned plane has the value at x that it had
                lean = turn[i] * Fraction(steep[i])
                own[i][i] += lean
                right.append(-Fraction(constant[i]) - signs[i] * Fraction(error[i]) + lean * point[i])
            found = solved(own, right)
            assert found is not None, "planes that may be parallel meet nowhere"
            assert max(abs(a - b) for a, b in zip(found, point, strict=True)) <= Fraction(away)
    assert regular_ones > 30


def test_corners_of_planes_that_may_be_parallel_are_none():
    assert corner([[1.0]], [-0.5], [0.0], [0.0], [0.5]) == (0.0, True)
    assert not corner([[1e-6]], [-0.5e-6], [0.0], [1e-6], [0.5])[1]
    assert not corner([[1.0, 0.0], [1.0, 1e-4]], [0.0, 0.0], [0.0, 0.0], [0.0, 2e-4], [0.0, 0.0])[1]
    assert not corner([[1.0, 2.0], [2.0, 4.0]], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0])[1]
    away, regular = corner([[1.0]], [0.0], [4.9e-4], [0.8], [0.0])  # 0.2 x = 4.9e-4, almost
    assert not regular or away >= 2.45e-3
    away, regular = corner([[1.0]], [0.0], [4e-4], [0.4], [0.0])
    assert regular and away >= 4e-4 / 0.6


def test_corners_that_are_far_away_are_not_believed():
    """Errors are bounded a little beyond the vertices alone."""
    assert corner([[1.0]], [0.0], [0.0], [0.0], [4e-4])[1]
    assert not corner([[1.0]], [0.0], [0.0], [0.0], [0.1])[1]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_planes_are_within_their_errors_beyond_the_vertices(order, slope):
    """Functions that cancel; the reach is zero in one coordinate, and true vertices may be 1e-3 beyond it."""
    index = list(order)
    big = [1.0, 2.0**53, 2.0**53 + 2]
    first = [[big[k] * 3, big[k], 0.1 * (k + 1)] for k in index]
    bias = [[1.0, 3.0, -0.7][k] for k in index]
    graph = dense(first, bias, ([[0.1, -1.0, 1.0]], [0.3]), slope=slope)
    made = plan(graph)
    half = Polytope(np.full(3, -1.0), np.ones(3), np.array([[2.0**53, 1.0, -(2.0**53)]]), np.array([0.1]))
    for on in itertools.product((False, True), repeat=3):
        reach = torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64)
        made_planes = _planes(made, np.array([[*on, True]]), half, reach)
        true = true_forms(graph, [*on, True])
        true += [([-Fraction(a) for a in half.normals[0].tolist()], Fraction(half.offsets[0]))]
        row, constant = exact(made_planes.row[0].tolist()), exact(made_planes.constant[0].tolist())
        for k, (weight, offset) in zip([0, 1, 2, 3, -1], true, strict=True):
            sign = 1 if k < 0 or [*on, True][k] else -1
            off = sum(abs(a - sign * b) for a, b in zip(row[k], weight, strict=True))
            assert off <= Fraction(float(made_planes.slope_error[0, k]))
            for ends in itertools.product((-1, 1), repeat=3):
                x = [Fraction(e * (r * 1.001 + 1e-3) * (1 - 1e-12)) for e, r in zip(ends, reach[0].tolist())]
                said = float(sum(float(a) * float(b) for a, b in zip(row[k], x)) + float(constant[k]))
                exactly = sum(a * b for a, b in zip(weight, x)) + offset
                assert abs(Fraction(said) - sign * exactly) <= Fraction(float(made_planes.error[0, k]))


def true_forms(graph: Graph, on: list[bool]) -> list[tuple[list[Fraction], Fraction]]:
    """Pre-activations of dense layers as exact functions of the input, where neurons have these phases."""
    d = graph.input_size
    values = [[Fraction(int(i == k)) for k in range(d)] + [Fraction(0)] for i in range(d)]
    found, place = [], 0
    for node in graph.nodes[1:]:
        if isinstance(node, Affine):
            weight, bias = exact(node.operators[0].weight.tolist()), exact(node.bias.tolist())
            columns = list(zip(*values, strict=True))
            values = [[sum(a * b for a, b in zip(w, column, strict=True)) for column in columns] for w in weight]
            for value, b in zip(values, bias, strict=True):
                value[-1] += b
        else:
            found += [(value[:-1], value[-1]) for value in values]
            slope = Fraction(node.function.slope)
            values = [[v if on[place + k] else slope * v for v in value] for k, value in enumerate(values)]
            place += node.size
    return found


def square(graph: Graph, polytope: Polytope, on: list[bool], points=None):
    """The whole input set as the cell of a pattern, as a tree that rounds might claim it."""
    made = plan(graph)
    cells = vertices_of(polytope, made.words, graph.neurons)
    labels = cells.labels.copy()
    labels[0, 0] = sum(1 << k for k, a in enumerate(on) if a)
    cells = cells.but(labels=labels, sure=np.zeros(1, bool))
    return made, cells if points is None else cells.but(points=np.array(points, dtype=np.float64))


def unit(d: int) -> Polytope:
    return Polytope(np.zeros(d), np.ones(d))


@pytest.mark.parametrize("spare", [2.0**-8, 2.0**-14, 2.0**-20, 2.0**-30, 2.0**-45, 0.0])
def test_a_corner_that_a_neuron_cuts_off_is_seen(spare):
    """x + y - 2 + spare is positive at (1, 1) alone; the claim is that it is negative on all of the square."""
    made, cells = square(dense([[1.0, 1.0]], [spare - 2]), unit(2), [False])
    assert not proved(made, cells, unit(2)).any()
    made, cells = square(dense([[1.0, 1.0]], [-spare - 2]), unit(2), [False])
    assert proved(made, cells, unit(2)).all() == (spare > 2.0**-48)


def test_a_corner_that_is_not_where_it_is_said_to_be():
    """The listed vertex is inside by 2^-12, the true one beyond the neuron's plane by 2^-14."""
    near = 1 - 2.0**-12
    points = [[0, 0], [1, 0], [0, 1], [near, near]]
    made, cells = square(dense([[1.0, 1.0]], [2.0**-14 - 2]), unit(2), [False], points)
    assert not proved(made, cells, unit(2)).any()
    made, cells = square(dense([[1.0, 1.0]], [-0.1 - 2]), unit(2), [False], points)
    assert proved(made, cells, unit(2)).all()
    points[3] = [0.9, 0.9]
    made, cells = square(dense([[1.0, 1.0]], [-100.0]), unit(2), [False], points)
    assert not proved(made, cells, unit(2)).any()


def test_neurons_that_are_zero_everywhere_are_inactive():
    graph = dense([[0.0, 0.0], [1.0, 1.0]], [0.0, 0.5])
    for on in (False, True):
        made, cells = square(graph, unit(2), [on, True])
        assert proved(made, cells, unit(2)).all() == witnessed(made, cells, unit(2), 2).all() == (not on)


@pytest.mark.parametrize("bias", [1.0, 2.0**-60, -1.0])
def test_a_constant_neuron_has_its_sign(bias):
    for on in (False, True):
        made, cells = square(dense([[0.0, 0.0]], [bias]), unit(2), [on])
        assert proved(made, cells, unit(2)).all() == witnessed(made, cells, unit(2), 1).all() == (on == (bias > 0))


@pytest.mark.parametrize("order", ORDERS)
def test_a_neuron_that_rounding_made_zero_is_not_taken_for_zero(order):
    """x + 1 + 2^60 (x + 1) - 2^60 (x + 1) is positive on [0, 1], and may be computed as 0 x + 0."""
    big = [1.0, 2.0**60, 2.0**60]
    first = [[big[k]] for k in order]
    graph = dense(first, [w[0] for w in first], ([[[1.0, 1.0, -1.0][k] for k in order]], [0.0]))
    made, cells = square(graph, unit(1), [True, True, True, False])
    assert not proved(made, cells, unit(1)).any() and not witnessed(made, cells, unit(1), 4).any()


@pytest.mark.parametrize("order", ORDERS)
def test_the_farthest_vertex_says_how_much_is_rounded(order):
    """x - 1/2 may be computed as 0 x - 1/2: from rows that cancel, on [1/1024, 1]."""
    polytope = Polytope(np.full(1, 2.0**-10), np.ones(1))
    for power in (53, 54, 56, 60):
        first = [[[1.0, 2.0**power, 2.0**power][k]] for k in order]
        graph = dense(first, [0.0] * 3, ([[[1.0, 1.0, -1.0][k] for k in order]], [-0.5]))
        made, cells = square(graph, polytope, [True, True, True, False])
        assert not proved(made, cells, polytope).any()


def test_a_point_outside_the_input_set_is_no_witness():
    graph = dense([[1.0, 0.0]], [100.0])
    half = Polytope(np.zeros(2), np.ones(2), np.array([[1.0, 1.0]]), np.array([1.5]))
    for polytope, move in ((unit(2), 5.0), (unit(2), -5.0), (half, 0.0)):
        made, cells = square(graph, unit(2), [True])
        moved = cells.but(points=cells.points + move)
        assert witnessed(made, moved, polytope, 1).all() == (move == 0)
    beyond = Polytope(np.zeros(2), np.ones(2), np.array([[1.0, 1.0]]), np.array([0.9]))
    made, cells = square(graph, unit(2), [True])
    assert not witnessed(made, cells, beyond, 1).any()


@pytest.mark.parametrize("order", ORDERS)
def test_a_point_outside_a_half_space_that_cancels(order):
    """At (1, 1, 1) the sum is 1, more than 1/2; in float64 it may be 0."""
    normal = np.array([2.0**60, 1.0, -(2.0**60)])[list(order)]
    whole = Polytope(np.zeros(3), np.full(3, 2.0))
    cut_off = Polytope(np.zeros(3), np.full(3, 2.0), normal[None], np.array([0.5]))
    made, cells = square(dense([[1.0, 0.0, 0.0]], [100.0]), whole, [True])
    assert not witnessed(made, cells, cut_off, 1).any() and not proved(made, cells, cut_off).any()
    points = cells.points * 0.01 + np.array([1.0, 1.0, 1.0]) - 0.01
    assert not witnessed(made, cells.but(points=points), cut_off, 1).any()


def test_edges_close():
    """Each vertex less one of its planes is one other vertex less one of its planes."""
    own = np.ones((1, 4), dtype=bool)
    square_ = np.array([[0b0101, 0b0110, 0b1001, 0b1010]])
    assert _closed(square_, own, 2).all()
    assert not _closed(np.array([[0b0101, 0b0110, 0b1001, 0b1001]]), own, 2).any()
    assert not _closed(np.array([[0b0101, 0b0110, 0b1001, 0b10010]]), own, 2).any()
    three = np.array([[0b011, 0b110, 0b101, 0b101]])
    repeated = np.array([[True, True, True, False]])
    assert _closed(three, repeated, 2).all() and not _closed(three, own, 2).any()


def test_unfinished_cells_are_judged_by_the_neurons_that_are_decided():
    """Stopped after every neuron: all cells are proved, and none is whose last decided neuron is spoilt."""
    random = torch.Generator().manual_seed(3)
    weights = [torch.randn(4, n, generator=random).tolist() for n in (2, 4)]
    biases = [torch.randn(4, generator=random).mul(0.3).tolist() for _ in range(2)]
    graph, polytope = dense(weights[0], biases[0], (weights[1], biases[1])), Polytope(np.full(2, -2.0), np.full(2, 2.0))
    made = plan(graph)
    chunk = root(made, vertices_of(polytope, made.words, graph.neurons))
    seen = set()
    while not finished(made, chunk):
        (chunk,) = advance(made, chunk, 0.0)
        node = min(chunk.node, made.last)
        decided = (
            graph.layer_at[node].span.start + chunk.neuron
            if chunk.node in graph.layer_at
            else {1: 0, 3: 4}.get(chunk.node, 8)
        )
        count = len(chunk.cells)
        assert confirm(made, polytope, [chunk], None) == [(count, count)]
        if decided in seen or not decided:
            continue
        seen.add(decided)
        labels = chunk.cells.labels.copy()
        labels[:, 0] ^= 1 << (decided - 1)
        spoilt = chunk.__class__(chunk.cells.but(labels=labels), chunk.columns, chunk.reach, chunk.node, chunk.neuron)
        assert confirm(made, polytope, [spoilt], None) == [(0, 0)]
    assert seen == set(range(1, 9)) and count > 10


def test_cells_under_half_spaces_are_proved():
    """Facets of half-spaces are numbered after the box's sides."""
    normals = np.array([[1.0, 0.3], [-0.2, 1.0], [0.4, -1.1]])
    polytope = Polytope(np.full(2, -1.0), np.ones(2), normals, np.array([0.7, 0.6, 0.9]))
    graph = dense([[1.0, 0.2], [-0.3, 1.0]], [0.1, 0.2])
    made = plan(graph)
    chunk = root(made, vertices_of(polytope, made.words, graph.neurons))
    while not finished(made, chunk):
        (chunk,) = advance(made, chunk, None)
    assert len(chunk.cells) == 4 and proved(made, chunk.cells, polytope).all()
    looser = Polytope(polytope.lower, polytope.upper, normals, np.array([0.7, 0.6, 0.5]))
    assert not proved(made, chunk.cells, looser).all()


def test_a_box_of_one_input_has_two_sides():
    cells = box(np.zeros(1), np.ones(1), 1, 5)
    assert cells.planes.tolist() == [[5, 6]]
