"""Linear-programming backends: many objectives from one basis, licences that are small or missing, NaN, safe bounds."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest
from networks import random_box, random_graph
from scipy.sparse import csr_array
from test_layers import model

from partita.problems.errors import BadInput
from partita.relaxations.lp import gurobi, highs
from partita.relaxations.lp.encode import encode
from partita.relaxations.lp.highs import HighsMany
from partita.relaxations.lp.model import LinearModel, Solution, Status
from partita.relaxations.lp.objectives import OneByOne, least, session

needs_gurobi = pytest.mark.skipif(
    importlib.util.find_spec("gurobipy") is None, reason="gurobipy is not installed; the extra 'gurobi' brings it"
)


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
        equation = many.model.row_lower == many.model.row_upper
        move = np.where(equation, 0.0, 0.01 * random.random(len(equation)))
        many.set_sides(many.model.row_lower - move, many.model.row_upper + move)
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


# Every backend behind the same three calls.


@pytest.mark.parametrize("name", ("gurobi", "layers", "first-order"))
def test_sessions_of_other_backends_agree_with_highs(name):
    if name != "first-order":
        pytest.importorskip({"gurobi": "gurobipy", "layers": "cvxpylayers"}[name])
    m = triangle(3, width=5)
    random = np.random.default_rng(3)
    ours, theirs = session(m, "highs"), session(m, name)
    middle = ours.minimise(random.normal(size=len(m.cost))).x
    row = random.normal(size=(2, len(m.cost)))
    for change in (
        lambda s: None,
        lambda s: s.add_rows(csr_array(row), np.full(2, -np.inf), row @ middle + 0.01),
        lambda s: s.set_bounds(np.maximum(m.lower, middle - 0.5), m.upper),
    ):
        cost = random.normal(size=len(m.cost))
        for some in (ours, theirs):
            change(some)
        mine, other = ours.minimise(cost, 0.25), theirs.minimise(cost, 0.25)
        assert mine.value - 1e-4 * (1 + abs(mine.value)) < other.bound_safe <= mine.value + 1e-9
        assert other.bound_safe == pytest.approx(
            theirs.model.with_objective(cost, 0.25).safe_bound(other.dual), abs=1e-9
        )
    empty = (m.upper + 1, m.upper)
    theirs.set_bounds(*empty)
    assert theirs.minimise(cost).bound_safe == np.inf


# Gurobi's licences.


def large() -> LinearModel:
    n = 2500
    return LinearModel(np.ones(n), np.zeros(n), np.ones(n), csr_array(np.ones((1, n))), np.ones(1), np.array([np.inf]))


@needs_gurobi
def test_a_model_above_the_free_licence_goes_to_highs_and_says_so(monkeypatch):
    monkeypatch.delenv("GRB_LICENSE_FILE", raising=False)
    found = gurobi.solve(large())
    if not found.note:
        pytest.skip("this machine has a licence of Gurobi for models of any size")
    assert "this model has 2500 and 1" in found.note and "HiGHS solved it instead" in found.note
    assert found.bound_safe == pytest.approx(1.0)
    with pytest.raises(BadInput, match="2000 variables and 2000 constraints"):
        gurobi.solve(large(), strict=True)
    notes: list[str] = []
    many = session(large(), "gurobi", notes=notes)
    for cost in (np.ones(2500), 2 * np.ones(2500)):
        assert many.minimise(cost).bound_safe == pytest.approx(cost[0])
    assert notes == [found.note]


@needs_gurobi
@pytest.mark.parametrize("text", (None, "TYPE=ACADEMIC\nVERSION=11\nHOSTID=0\nEXPIRATION=2020-01-01\nKEY=0\n"))
def test_a_missing_or_expired_licence_is_one_sentence(monkeypatch, tmp_path, text):
    licence = tmp_path / "gurobi.lic"
    if text is not None:
        licence.write_text(text)
    monkeypatch.setenv("GRB_LICENSE_FILE", str(licence))
    m = model(0)
    found = gurobi.solve(m)
    assert found.value == pytest.approx(highs.solve(m).value)
    assert "no valid licence" in found.note and ("License expired" in found.note) == (text is not None)
    with pytest.raises(BadInput, match="no valid licence"):
        gurobi.solve(m, strict=True)


@pytest.mark.parametrize(("code", "said"), ((10009, "no valid licence"), (10010, "2000 variables"), (10001, "gave up")))
def test_whatever_stops_gurobi_highs_goes_on(monkeypatch, code, said):
    """With a stand-in for the package, so that it is tested where the package is not."""

    class GurobiError(Exception):
        errno = code

    def refused(params):
        raise GurobiError("it said why")

    package = ModuleType("gurobipy")
    package.GurobiError, package.Env, package.GRB = GurobiError, refused, None
    monkeypatch.setitem(sys.modules, "gurobipy", package)
    m = model(1)
    truth = highs.solve(m)
    for found in (gurobi.solve(m), gurobi.GurobiMany(m).minimise(m.cost, m.offset)):
        assert found.value == pytest.approx(truth.value) and found.status is Status.optimal
        assert said in found.note and "HiGHS solved" in found.note and found.note.count(".") == 1
    with pytest.raises(BadInput, match=said):
        gurobi.GurobiMany(m, strict=True).minimise(m.cost)


# Sessions.


def test_sessions_without_memory_and_least_values(monkeypatch):
    """Each program afresh, over the bounds and rows that are there now; least values believe proofs alone."""
    m = triangle(4, width=4)
    cost = np.random.default_rng(4).normal(size=len(m.cost))
    middle = highs.solve(m.with_objective(cost, 0.0)).x
    one, other = OneByOne(m, "highs", None), session(m, "highs")
    row = np.random.default_rng(5).normal(size=(1, len(m.cost)))
    for change in (
        lambda s: None,
        lambda s: s.set_bounds(np.maximum(m.lower, middle + 1e-3), m.upper),
        lambda s: s.add_rows(csr_array(row), row @ middle + 1e-3, np.array([np.inf])),
    ):
        for some in (one, other):
            change(some)
        assert one.minimise(cost, 0.25).value == pytest.approx(other.minimise(cost, 0.25).value, abs=1e-7)
    fresh = session(m, "highs")
    for column in (0, 2, len(m.cost) - 1):
        for sign in (1.0, -1.0):
            unit = np.zeros(len(m.cost))
            unit[column] = sign
            exact = highs.solve(m.with_objective(unit, 0.0)).value
            assert exact - 1e-6 < least(fresh, column, sign) <= exact + 1e-12

    class Lying:
        model = m

        def minimise(self, cost, offset=0.0):
            return Solution(Status.optimal, 7.0, bound_safe=self.proved)

    lying = Lying()
    for proved, wanted in ((np.nan, -np.inf), (-3.0, -3.0), (np.inf, np.inf)):
        lying.proved = proved
        assert least(lying, 0) == wanted
