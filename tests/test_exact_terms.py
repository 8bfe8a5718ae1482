"""Where float64 meets exact arithmetic: enclosures of points and rows, open borders, claims without proof."""

from __future__ import annotations

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import random_box, random_graph
from scipy.sparse import csr_array
from test_rounding_terms import graph_of

import partita
from partita.bab.config import load_config
from partita.problems.properties.property import Polytope, UnsafeSet
from partita.problems.properties.rational import ExactSet, Numbers, Row
from partita.relaxations.ladder.exact import boxes_from, feasible_unsafe
from partita.relaxations.leaf.rational import Rational
from partita.relaxations.lp import highs
from partita.relaxations.lp.model import LinearModel
from partita.relaxations.reals.at_point import AtPoint, _around
from partita.relaxations.reals.over_reals import _told
from partita.relaxations.types import Pieces

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from measure import verdict_cases

THIRD = Fraction(1, 3)


def test_points_that_are_no_float64_are_enclosed():
    for text in ("0.1", "0.3", "-0.1", "-0.3", "1e-400", "0.7"):
        low, high = _around(Numbers(np.array([float(Fraction(text)), 0.5]), {0: text}))
        assert Fraction(low[0]) < Fraction(text) < Fraction(high[0]) and low[1] == high[1] == 0.5


def test_rows_that_are_no_float64_are_enclosed():
    """y = x on rows of thirds, at values so large that the rows' own rounding is all there is."""
    graph = graph_of((torch.eye(1), torch.zeros(1), False))
    for value in (1.0, 3e5, -7e9):
        for row in (Row({0: THIRD}, Fraction(0)), Row({0: Fraction(1)}, -THIRD), Row({0: -THIRD}, THIRD)):
            near = np.array([[float(row.terms[0])]]), np.array([float(row.constant)])
            least, most = AtPoint(graph).rows(Numbers(np.array([value])), UnsafeSet(*near, None, (row,)))
            assert Fraction(least[0]) <= row.value([Fraction(value)]) <= Fraction(most[0])


def test_every_row_must_be_told():
    assert _told([-2.0, -1.0], [-1.5, 0.5]).unsafe is None and _told([-2.0, -1.0], [-1.5, -0.5]).unsafe is True
    assert _told([-2.0, 0.25], [-1.5, 0.5]).unsafe is False and _told([0.0], [0.0]).unsafe is None
    assert _told([-2.0, -1.0], [-1.5, np.nan]).unsafe is None and _told([-2.0, np.nan], [-1.5, -0.5]).unsafe is True
    assert _told([np.nan], [0.5]).unsafe is None and _told([-1.0], [0.0]).unsafe is None
    assert _told([np.nan, 0.25], [np.nan, np.nan]).unsafe is False


def test_enclosures_are_rounded_outwards_at_the_end():
    """A row that float64 does not hold, at a point where nothing else is rounded."""
    graph = graph_of((torch.eye(1), torch.zeros(1), False))
    exact = Row({0: Fraction(1)}, Fraction(1, 2**80))
    least, most = AtPoint(graph).rows(Numbers(np.zeros(1)), UnsafeSet(np.ones((1, 1)), np.zeros(1), None, (exact,)))
    assert Fraction(least[0]) < Fraction(1, 2**80) <= Fraction(most[0])


def test_a_border_inside_an_open_set_belongs_to_the_piece():
    """0 < x < 1, of which the piece [1/2, 1) has the point 1/2."""
    graph = graph_of((torch.eye(1), torch.zeros(1), False))
    ends = Numbers(np.zeros(1)), Numbers(np.ones(1))
    inputs = Polytope(np.zeros(1), np.ones(1), exact=ExactSet(*ends, frozenset([0]), frozenset([0])))
    for sign, box in ((1.0, (0.5, 1.0)), (-1.0, (0.0, 0.5))):
        unsafe = UnsafeSet(np.array([[sign]]), np.array([-sign * 0.5]))
        sides = tuple(np.array([v]) for v in box)
        assert Rational(graph).decide(inputs, unsafe, sides).point == (Fraction(1, 2),)
    for sign, bound in ((1.0, 0.0), (-1.0, 1.0)):  # the set's own borders do not
        unsafe = UnsafeSet(np.array([[sign]]), np.array([-sign * bound]))
        assert Rational(graph).decide(inputs, unsafe, (np.zeros(1), np.ones(1))).empty


def test_a_piece_that_is_an_open_border_is_empty():
    """One open side of a point is enough, whichever it is."""
    graph = graph_of((torch.eye(1), torch.zeros(1), False))
    ends, every = (Numbers(np.zeros(1)), Numbers(np.ones(1))), UnsafeSet(np.zeros((0, 1)), np.zeros(0))
    for low, high, at in ((True, False, 0.0), (False, True, 1.0)):
        exact = ExactSet(*ends, frozenset([0] * low), frozenset([0] * high))
        inputs = Polytope(np.zeros(1), np.ones(1), exact=exact)
        for value, empty in ((at, True), (1 - at, False), (0.5, False)):
            assert Rational(graph).decide(inputs, every, (np.full(1, value), np.full(1, value))).empty is empty


def test_the_oracle_charges_what_rows_lose():
    graph, box = random_graph(1, inputs=2, width=4), random_box(1, 2)
    row = Row({0: THIRD, 1: Fraction(1)}, THIRD)
    plain = UnsafeSet(np.array([[float(THIRD), 1.0]]), np.array([float(THIRD)]))
    one, two = feasible_unsafe(graph, box, plain), feasible_unsafe(graph, box, replace(plain, exact=(row,)))
    assert two.lower < one.lower and two.margin > one.margin


def test_decided_neurons_cut_their_boxes():
    graph, box = random_graph(1, inputs=2, width=4), random_box(1, 2)
    ends = (torch.from_numpy(side)[None] for side in (box.lower, box.upper))
    plain = Pieces.boxes(*ends, graph.neurons)
    free = boxes_from(graph, box, plain, 0)[1]
    middle = (free[0] + free[1]) / 2
    for sign in (1.0, -1.0):
        own = replace(plain, neuron=torch.tensor([[2]]), sign=torch.tensor([[sign]]).double(), point=middle[None, 2:3])
        low, high = boxes_from(graph, box, own, 0)[1]
        assert low[2] == (middle[2] if sign > 0 else free[0][2]) and high[2] == (free[1][2] if sign > 0 else middle[2])
        assert torch.equal(low[:2], free[0][:2]) and torch.equal(high[3:], free[1][3:])


def test_a_ray_that_proves_nothing_leaves_a_program_open(monkeypatch):
    rows = csr_array(np.array([[1.0, 1.0]]))
    model = LinearModel(np.ones(2), np.zeros(2), np.ones(2), rows, np.full(1, 5.0), np.full(1, np.inf))
    assert highs.solve(model).bound_safe == np.inf
    monkeypatch.setattr(LinearModel, "safe_infeasible", lambda self, ray: False)
    assert highs.solve(model).bound_safe == -np.inf


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_what_a_solver_cannot_see_of_wild_coefficients_is_no_proof(tmp_path, precision):
    """Weights of 2^20 that cancel: HiGHS calls 2e12 the least margin of an unsafe set that is reached."""
    trial = verdict_cases.trial(1483)
    assert trial.counterexample() is not None
    (tmp_path / "wild.onnx").write_bytes(verdict_cases.onnx_of(trial.layers))
    config = load_config(None, {"relaxation": "exact", "precision": precision, "attack": "off"})
    assert partita.verify(tmp_path / "wild.onnx", trial.prop, timeout=10, config=config).verdict != "unsat"
