"""The cvxpylayers backend: its bounds beside those of HiGHS, its gradients, and its absence."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from networks import random_box, random_graph
from scipy.sparse import csr_array

from partita.problems.errors import BadInput
from partita.relaxations.lp import highs
from partita.relaxations.lp.backends import backend
from partita.relaxations.lp.encode import encode
from partita.relaxations.lp.model import LinearModel, Status


def model(seed: int) -> LinearModel:
    """Six rows, some with two sides, around a point of the box [-1, 1]^8."""
    random = np.random.default_rng(seed)
    matrix, inside = random.normal(size=(6, 8)), 0.3 * random.normal(size=8)
    upper = matrix @ inside + random.random(6)
    lower = np.where(random.random(6) < 0.5, -np.inf, matrix @ inside - random.random(6))
    return LinearModel(random.normal(size=8), -np.ones(8), np.ones(8), csr_array(matrix), lower, upper, offset=0.5)


def test_safe_bounds_are_below_the_optimum_and_near():
    pytest.importorskip("cvxpylayers")
    solve = backend("layers")
    for seed in range(3):
        m = model(seed)
        found, truth = solve(m), highs.solve(m).value
        assert found.status is Status.optimal and truth - 1e-5 < found.bound_safe <= truth + 1e-12
        assert m.violation(found.x) < 1e-6
    graph, polytope = random_graph(0, "mlp", inputs=3, width=5), random_box(0, 3, 0.2)
    triangle = encode(graph, polytope).minimising(graph.output, np.array([1.0, -1.0]))
    assert highs.solve(triangle).value - 1e-5 < solve(triangle).bound_safe <= highs.solve(triangle).value + 1e-9


def test_the_value_is_differentiable_in_the_cost():
    pytest.importorskip("cvxpylayers")
    from partita.relaxations.lp.layers import value

    m = model(3)
    cost = torch.as_tensor(m.cost).clone().requires_grad_()
    value(m, cost).backward()
    np.testing.assert_allclose(cost.grad, highs.solve(m).x, atol=1e-4)  # the minimiser, where it is unique


def test_an_empty_or_infeasible_model_proves_nothing_wrong():
    pytest.importorskip("cvxpylayers")
    m = model(1)
    apart = LinearModel(m.cost, m.lower, m.upper, csr_array(np.ones((1, 8))), np.array([9.0]), np.array([np.inf]))
    assert backend("layers")(apart).status is not Status.optimal


def test_integers_are_refused_and_a_missing_package_names_the_extra(monkeypatch):
    m = model(0)
    integers = LinearModel(m.cost, m.lower, m.upper, m.matrix, m.row_lower, m.row_upper, integer=np.ones(8, bool))
    with pytest.raises(BadInput, match="linear programs only"):
        backend("layers")(integers)
    monkeypatch.setitem(sys.modules, "cvxpylayers.torch", None)
    with pytest.raises(BadInput, match="extra 'layers'"):
        backend("layers")(m)
