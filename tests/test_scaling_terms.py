"""What goes to the solver's process and comes back, number by number, beside a process that answers as it is told."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from scipy.sparse import csr_array

from partita.kernels.solving import door
from partita.kernels.solving.door import Remote, load, wild
from partita.kernels.solving.worker import Died


class Told:
    """A worker that keeps what it is asked and gives the answers that it was given."""

    def __init__(self, answer: dict) -> None:
        self.dropped, self.generation, self.process = deque(), 1, 7
        self.answer, self.ray, self.calls = answer, None, []

    def ask(self, kind, number, calls=(), seconds=None, **more):
        if kind == "ray":
            return self.ray, self.generation
        self.calls += calls
        return self.answer, self.generation


@pytest.fixture
def program():
    """A program whose coefficients span many scales, so that every exponent is another."""
    random = np.random.default_rng(5)
    matrix = csr_array(random.normal(size=(4, 3)) * 10.0 ** random.uniform(-9, 9, (4, 3)))
    cost, lower, upper = random.normal(size=3) * 1e12, -random.random(3), random.random(3)
    sides = -np.ones(4), np.append(np.ones(3), np.inf)
    return door.Program(cost, lower, upper, *sides, (matrix.indptr, matrix.indices, matrix.data), 0.5)


def remote(program, **answer) -> tuple[Told, Remote]:
    told = Told({"x": None, "dual": None, "objective": 0.0, "bound": 0.0, "status": "kOptimal"} | answer)
    solver = Remote(told)
    load(solver, program)
    return told, solver


def test_a_program_goes_out_scaled_in_all_its_parts(program):
    cost, lower, upper, row_lower, row_upper, (start, index, value), *_ = program
    told, solver = remote(program)
    solver.run()
    (name, (shape, offset, sent, integer)) = told.calls[0]
    by = solver._scaling
    rows = np.repeat(np.arange(4), np.diff(start))
    assert (name, shape, offset, integer) == ("passModel", (4, 3), 0.0, None)
    assert by.cost and (by.rows != by.rows[0]).any() and (by.columns != by.columns[0]).any()
    for part, expected in (
        ("lower", lower * 2.0**-by.columns),
        ("upper", upper * 2.0**-by.columns),
        ("cost", cost * 2.0**by.columns * 2.0**-by.cost),
        ("row_lower", row_lower * 2.0**by.rows),
        ("row_upper", row_upper * 2.0**by.rows),
        ("value", value * 2.0 ** by.rows[rows] * 2.0 ** by.columns[index]),
    ):
        np.testing.assert_array_equal(sent[part], expected, err_msg=part)


def test_changes_go_out_under_the_same_scaling(program):
    told, solver = remote(program)
    by, random = solver._scaling, np.random.default_rng(6)
    low, high, sides = -random.random(3), random.random(3), random.random((2, 4))
    solver.changeColsBounds(3, np.arange(3), low, high)
    solver.changeRowsBounds(4, np.arange(4), *sides)
    value = np.array([3e7, -2e-5, 0.25])
    solver.addRows(2, np.array([-1.0, -np.inf]), np.array([2.0, 5.0]), 3, np.array([0, 2]), np.array([0, 2, 1]), value)
    fresh = solver._scaling.rows[4:]
    assert (solver._scaling.columns == by.columns).all() and solver._scaling.cost == by.cost
    solver.changeColsCost(3, np.arange(3), np.array([1e-7, 2.0, 0.0]))
    recost = solver._scaling.cost
    solver.run()
    _, bounds, changed, added, priced = (arguments for _, arguments in told.calls)
    for found, side in zip(bounds[2:], (low, high), strict=True):
        np.testing.assert_array_equal(found, side * 2.0**-by.columns)
    for found, side in zip(changed[2:], sides, strict=True):
        np.testing.assert_array_equal(found, side * 2.0**by.rows)
    np.testing.assert_array_equal(added[1], np.array([-1.0, -np.inf]) * 2.0**fresh)
    np.testing.assert_array_equal(added[2], np.array([2.0, 5.0]) * 2.0**fresh)
    exponents = fresh[[0, 0, 1]] + by.columns[[0, 2, 1]]
    assert (fresh != 0).any()
    np.testing.assert_array_equal(added[6], value * 2.0**exponents)
    np.testing.assert_array_equal(priced[2], np.array([1e-7, 2.0, 0.0]) * 2.0**by.columns * 2.0**-recost)


def test_answers_come_back_in_the_numbers_of_the_program(program):
    x, dual = np.array([0.5, -0.25, 3.0]), np.array([1.0, -2.0, 0.5, 0.0])
    told, solver = remote(program, x=x, dual=dual, objective=3.0, bound=2.0)
    told.ray = np.array([1.0, 0.0, 2.0, -1.0])
    solver.run()
    by, found, info = solver._scaling, solver.getSolution(), solver.getInfo()
    np.testing.assert_array_equal(found.col_value, x * 2.0**by.columns)
    np.testing.assert_array_equal(found.row_dual, dual * 2.0**by.rows * 2.0**by.cost)
    assert info.objective_function_value == 3.0 * 2.0**by.cost + 0.5
    assert info.mip_dual_bound == 2.0 * 2.0**by.cost + 0.5
    there, ray = solver.getDualRay()[1:]
    assert there and (ray == told.ray * 2.0**by.rows).all()
    told.ray = None
    assert solver.getDualRay()[1:] == (False, None) and solver.getDualRayExist() == (None, False)


@pytest.mark.parametrize(("name", "size"), [("x", 2), ("x", 4), ("dual", 3), ("dual", 5)])
def test_answers_of_another_size_are_none(program, name, size):
    _, solver = remote(program, **{name: np.zeros(size)})
    with pytest.raises(Died, match="arrays of another size"):
        solver.run()
    assert not solver.standing


def test_whole_numbers_are_not_scaled(program):
    told = Told({"x": None, "dual": None, "objective": 0.0, "bound": 0.0, "status": "kOptimal"})
    solver = Remote(told)
    load(solver, program._replace(offset=0.0, integer=np.array([True, False, False])))
    solver.run()
    (_, (_, _, sent, integer)) = told.calls[0]
    assert integer.tolist() == [True, False, False] and (sent["lower"] == program.lower).all()
    assert (sent["value"] == program.rows[2]).all() and (sent["cost"] == program.cost).all()


def test_what_is_no_number_is_wild():
    for entries in ([np.nan], [1.0, np.nan], [np.inf], [door.LARGE], [1.0, 1.1 * door.RATIO]):
        assert wild(np.array(entries)), entries
    for entries in ([], [0.0], [1.0, 0.9 * door.RATIO], [0.99 * door.LARGE, 0.99 * door.LARGE]):
        assert not wild(np.array(entries)), entries
