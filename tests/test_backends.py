"""Linear-programming backends: many objectives from one basis, licences that are small or missing, NaN, safe bounds."""

from __future__ import annotations

import numpy as np
import pytest
from networks import random_box, random_graph
from scipy.sparse import csr_array
from test_layers import model

from partita.problems.errors import BadInput
from partita.relaxations.lp import highs
from partita.relaxations.lp.encode import encode
from partita.relaxations.lp.highs import HighsMany
from partita.relaxations.lp.model import LinearModel, Status


def triangle(seed: int, width: int = 8) -> LinearModel:
    """The triangle program of a random network, without an objective."""
    graph, polytope = random_graph(seed, "mlp", inputs=4, width=width), random_box(seed, 4, 0.4)
    return encode(graph, polytope).model


# Many objectives from one basis.


@pytest.mark.parametrize("seed", range(4))
def test_many_objectives_one_after_another_are_those_solved_alone(seed):
    m = triangle(seed)
    random = np.random.default_rng(seed)
    many = HighsMany(m)
    for _ in range(6):
        cost, offset = random.normal(size=len(m.cost)), random.normal()
        found, alone = many.minimise(cost, offset), highs.solve(m.with_objective(cost, offset))
        assert found.status is Status.optimal
        assert found.value == pytest.approx(alone.value, abs=1e-7)
        assert alone.value - 1e-6 < found.bound_safe <= alone.value + 1e-9
        assert m.violation(found.x) < 1e-7


def test_bounds_and_rows_may_change_between_objectives():
    m = triangle(1)
    random = np.random.default_rng(1)
    many = HighsMany(m)
    middle = many.minimise(random.normal(size=len(m.cost))).x
    for k in range(4):
        row = random.normal(size=(2, len(m.cost)))
        many.add_rows(csr_array(row), np.full(2, -np.inf), row @ middle + 0.01)
        lower = np.maximum(many.model.lower, middle - 1.0 / (k + 1))
        many.set_bounds(lower, many.model.upper)
        cost = random.normal(size=len(m.cost))
        found, alone = many.minimise(cost), highs.solve(many.model.with_objective(cost))
        assert many.model.matrix.shape[0] == m.matrix.shape[0] + 2 * (k + 1) == len(found.dual)
        assert found.value == pytest.approx(alone.value, abs=1e-7)
        assert found.bound_safe == pytest.approx(many.model.with_objective(cost).safe_bound(found.dual))


def test_an_infeasible_model_is_certified_and_can_become_feasible_again():
    m = model(0)
    many = HighsMany(m)
    first = many.minimise(m.cost).value
    many.add_rows(csr_array(np.ones((1, 8))), np.array([8.5]), np.array([np.inf]))
    apart = many.minimise(m.cost)
    assert apart.status is Status.infeasible and apart.bound_safe == np.inf
    many.set_bounds(m.lower - 9, m.upper + 9)
    assert many.minimise(m.cost).status is Status.optimal
    many.set_bounds(m.upper, m.lower)
    assert many.minimise(m.cost).bound_safe == np.inf
    assert HighsMany(m).minimise(m.cost).value == pytest.approx(first)


def test_a_time_limit_is_for_each_run():
    """HiGHS counts the seconds of all runs of a solver together; a limit must be for one."""
    m = triangle(2, width=40)
    many, random = HighsMany(m), np.random.default_rng(0)
    for _ in range(100):
        many.minimise(random.normal(size=len(m.cost)))
    spent = many._solver.getRunTime()
    again = many.minimise(random.normal(size=len(m.cost)), time_limit=0.9 * spent)
    assert again.status is Status.optimal
    assert many.minimise(random.normal(size=len(m.cost)), time_limit=0.0).status is Status.limit


def test_nan_and_integers_are_refused_in_a_sentence():
    m = model(0)
    with pytest.raises(BadInput, match="linear programs only"):
        HighsMany(LinearModel(m.cost, m.lower, m.upper, m.matrix, m.row_lower, m.row_upper, np.ones(8, bool)))
    with pytest.raises(BadInput, match="NaN in the objective"):
        HighsMany(m).minimise(np.full(8, np.nan))
    broken = csr_array(np.full((6, 8), np.nan))
    for bad in (
        m.with_objective(np.full(8, np.inf)),
        m.with_bounds(np.full(8, np.nan), m.upper),
        LinearModel(m.cost, m.lower, m.upper, broken, m.row_lower, m.row_upper),
        LinearModel(m.cost, m.lower, m.upper, m.matrix, np.full(6, np.nan), m.row_upper),
    ):
        with pytest.raises(BadInput, match="NaN"):
            highs.solve(bad)
