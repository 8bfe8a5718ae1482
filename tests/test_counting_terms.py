"""What a count relies on, each on its own: when a point is exact, when a cell is proved."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch

from partita.bab.counting.inputs import vertices_of
from partita.bab.counting.patterns import count
from partita.bab.counting.proof import proved, witnessed
from partita.bab.counting.tree import advance, finished, plan, root
from partita.kernels.double_description import box, cut
from partita.problems.network.activation import ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.properties.property import Polytope


def segment(points: np.ndarray, scale: np.ndarray, exact=(True, True)):
    """One cell, the segment between two points of several columns."""
    start = box(np.zeros(1), np.ones(1), 1)
    return start.but(points=points, exact=np.array(exact), scale=scale)


def test_a_third_is_not_exact():
    for ends in ([[0.0, -1.0], [1.0, 2.0]], [[0.0, -3.0], [1.0, 7.0]]):
        done = cut(segment(np.array(ends), np.full(2, 2.0**20)), 1, np.array([-1, 1], dtype=np.int8), 9, 1)
        assert not done.polytopes.sure.any() and not done.polytopes.exact[-1]
    done = cut(segment(np.array([[0.0, -1.0], [1.0, 3.0]]), np.full(2, 2.0**20)), 1, np.array([-1, 1], np.int8), 9, 1)
    assert done.polytopes.sure.all() and done.polytopes.exact.all()


def test_what_comes_of_an_inexact_end_is_not_exact():
    ends = np.array([[0.0, -1.0], [1.0, 3.0]])
    for exact in ((False, True), (True, False)):
        done = cut(segment(ends, np.full(2, 2.0**20), exact), 1, np.array([-1, 1], dtype=np.int8), 9, 1)
        assert not done.polytopes.sure.any() and not done.polytopes.exact[-1]


def test_a_point_that_rounds_to_the_grid_is_not_exact():
    """2^50 + 1/16 units is 2^50 in float64; multiplied back, that is not where the function vanishes."""
    scale = np.array([2.0**20, 2.0**10])
    for parts in (16, 64, 1024):
        ends = np.array([[2.0**50, 1.0], [2.0**50 + 1, 1.0 - parts]]) / scale
        done = cut(segment(ends, scale), 1, np.array([1, -1], dtype=np.int8), 9, 1)
        assert done.polytopes.points[-1, 0] == ends[0, 0]
        assert not done.polytopes.exact[-1] and not done.polytopes.sure.any()


@pytest.mark.parametrize("seed", range(3))
def test_points_that_are_called_exact_are_where_the_function_vanishes(seed):
    """Ends of up to 2^51 units: products no longer fit, and agree in floating point where they do not in truth."""
    random = np.random.default_rng(seed)
    scale = np.array([2.0**20, 2.0**10])
    called = 0
    for _ in range(1500):
        bits = random.integers(2, 52)
        a, b = (random.integers(1, 2**bits, size=2).astype(float) for _ in range(2))
        ends = np.array([a * [1, -1], b]) / scale
        done = cut(segment(ends, scale), 1, np.array([-1, 1], dtype=np.int8), 9, 1)
        if not done.polytopes.exact[-1]:
            assert not done.polytopes.sure.any()
            continue
        called += 1
        (x, f), (y, g) = ([Fraction(v) for v in end] for end in ends.tolist())
        assert Fraction(float(done.polytopes.points[-1, 0])) == x + (y - x) * f / (f - g)
    assert called > 5


def drowning(order: tuple[int, ...], last: float) -> Graph:
    """The second layer's neuron is x + 1e16 + 1 - 1e16 + `last`, which rounding takes for x + `last` or the like."""
    first = torch.tensor([[1.0], [1.0], [1.0]], dtype=torch.float64)
    bias = torch.tensor([1e16, 1.0, 1e16], dtype=torch.float64)[list(order)]
    second = torch.tensor([[1.0, 1.0, -1.0]], dtype=torch.float64)[:, list(order)]
    shift = torch.tensor([last], dtype=torch.float64)
    nodes = (Input(1), Affine((0,), (Dense(first),), bias), Activation((1,), ReLU(), 3))
    nodes += (Affine((2,), (Dense(second),), shift), Activation((3,), ReLU(), 1))
    return Graph(nodes, (1,), (1,))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("last", (-0.5, -0.75, -1.5))
def test_cells_that_rounding_made_are_not_proved(order, last):
    """On [0, 1] the neuron is x + 1 + `last`: always active for -1/2 and -3/4, cut at 1/2 for -3/2."""
    graph, polytope = drowning(order, last), Polytope(np.zeros(1), np.ones(1))
    made = plan(graph)
    chunk = root(made, vertices_of(polytope, made.words, graph.neurons))
    while not finished(made, chunk):
        (chunk,) = advance(made, chunk, None)
    true = 2 if last < -1 else 1
    if len(chunk.cells) != true or last < -1:
        certain = proved(made, chunk.cells, polytope)
        assert not certain.all() or len(chunk.cells) == true
    result = count(graph, polytope)
    assert result.low <= true <= result.high
    result = count(graph, polytope, rational=True)
    assert result.low == result.high == true


def test_a_neuron_that_is_within_its_error_is_no_witness():
    """Its sign at the cell's centre is that of rounding."""
    for order in itertools.permutations(range(3)):
        for last in (-1.5, -0.5):
            graph, polytope = drowning(order, last), Polytope(np.full(1, 0.45), np.full(1, 0.47))
            made = plan(graph)
            chunk = root(made, vertices_of(polytope, made.words, graph.neurons))
            while not finished(made, chunk):
                (chunk,) = advance(made, chunk, None)
            assert not witnessed(made, chunk.cells, polytope, 4).any()
            assert not (proved(made, chunk.cells, polytope) & ~chunk.cells.sure).any()
