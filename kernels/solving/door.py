"""The way to HiGHS for every program of the package: in this process, or where its death costs one bound.

HiGHS (all releases from 1.8 to 1.16) can write outside its arrays: its dual simplex drops pivots below 1e-9 of the
largest entry of their row of the tableau, and where it has dropped the only one it goes on with column -1
(`HEkkDual::chooseColumn` ends its loop without a variable and without a reason to rebuild). The process aborts, at once
or long afterwards. It takes rows whose entries span nine orders of magnitude, and runs that start from a basis on the
program as it stands, without scaling, meet it first. So programs whose coefficients span more than `RATIO`, or reach
`LARGE`, are equilibrated by powers of two and solved in the worker process (`worker`), and all others as ever.
Of random programs with eight objectives each, none of 1,817 below 1e10 died, and 13 of 2,183 above, the first at 1e11;
equilibrated, 3 of 1,401 (`scripts/measure/solver_deaths.py`, `docs/measured/2026-11-29-solver-deaths.json`).

Soundness: none is claimed of solvers here; see `relaxations.lp.model`.
"""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..proof_constants import LARGE, NOUGHT, RATIO
from .scaling import cost_exponent, equilibrated, identity
from .server import translated
from .worker import Died, Worker, number, worker

if TYPE_CHECKING:
    import highspy

Array = NDArray[np.float64]


def wild(coefficients: Array) -> bool:
    """Whether a program with these coefficients, finite or not, may kill its solver."""
    if not coefficients.size:
        return False
    size = np.abs(coefficients)
    largest = float(size.max())
    if not largest < LARGE:
        return True
    smallest = float(size.min())
    if smallest <= NOUGHT:
        smallest = float(size.min(where=size > NOUGHT, initial=np.inf))
    return largest > RATIO * smallest


def solver(coefficients: Array, apart: bool = False) -> highspy.Highs | Remote:
    """An empty solver for programs with these coefficients, in the worker where `apart`; both kinds take the calls of
    `Remote`."""
    if apart or wild(coefficients):
        return Remote(worker())
    import highspy

    return highspy.Highs()


class Program(NamedTuple):
    """A program as solvers take it, V variables and R rows; sides and bounds may be infinite."""

    cost: Array  # (V,)
    lower: Array  # (V,)
    upper: Array  # (V,)
    row_lower: Array  # (R,)
    row_upper: Array  # (R,)
    rows: tuple[NDArray[np.integer], NDArray[np.integer], Array]  # as of a csr_array: starts (R + 1,), columns, entries
    offset: float = 0.0
    integer: NDArray[np.bool_] | None = None  # (V,)


def load(solver: highspy.Highs | Remote, program: Program) -> None:
    """Hands a program over."""
    cost, lower, upper, row_lower, row_upper, rows, offset, integer = program
    start, index, value = rows[0].astype(np.int32), rows[1].astype(np.int32), rows[2]
    parts: dict[str, NDArray[Any]] = {"cost": cost, "lower": lower, "upper": upper}
    parts |= {"row_lower": row_lower, "row_upper": row_upper}
    parts |= {"start": start, "index": index, "value": value}
    shape = (len(row_lower), len(cost))
    if isinstance(solver, Remote):
        solver.load(shape, offset, parts, integer)
    else:
        import highspy

        solver.passModel(translated(highspy, shape, offset, parts, integer))


def standing(solver: highspy.Highs | Remote | None) -> bool:
    """Whether the solver still holds what it was given."""
    return solver is not None and (not isinstance(solver, Remote) or solver.standing)


def linprog(cost: Array, matrix: Any, sides: Array, **names: Any) -> tuple[int, Array | None]:
    """`scipy.optimize.linprog` of matrix x <= sides, through the same door: status and minimiser.

    Status 4 (numerical difficulties) where the worker dies.
    """
    if wild(np.asarray(matrix.data if hasattr(matrix, "tocsr") else matrix)):
        try:
            answer: tuple[int, Array | None] = worker().ask("linprog", (cost, matrix, sides), names)[0]
            return answer
        except Died:
            return 4, None
    from scipy.optimize import linprog as inside

    found = inside(cost, matrix, sides, **names)
    return int(found.status), found.x


class Remote:
    """A solver in the worker, with those methods of `highspy.Highs` that the package uses.

    Calls are kept until `run`, which raises `Died`. Linear programs are equilibrated on the way and answers brought
    back; a time limit counts for the next run alone.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker, self._number = worker, number()
        self._generation: int | None = None
        self._calls: list[tuple[str, tuple[Any, ...]]] = []
        self._options: dict[str, Any] = {}
        self._limit: float | None = None
        self._answer: dict[str, Any] = {}
        self._lost = False
        weakref.finalize(self, worker.dropped.append, self._number).atexit = False

    @property
    def standing(self) -> bool:
        """Whether the process that was told of the program still runs."""
        told = self._generation is not None
        there = not told or (self._generation == self._worker.generation and self._worker.process is not None)
        return there and not self._lost

    def load(self, shape: tuple[int, int], offset: float, parts: dict[str, Any], integer: Any) -> None:
        """Another program."""
        rows = np.repeat(np.arange(shape[0]), np.diff(parts["start"]))
        entries = parts["value"], rows, parts["index"]
        self._scaling = identity(*shape) if integer is not None else equilibrated(*entries, shape)
        self._linear = integer is None
        self._offset = offset
        self._recost(parts["cost"])
        scaled = parts | {
            "cost": self._scaling.costs(parts["cost"]),
            "lower": self._scaling.bounds(parts["lower"]),
            "upper": self._scaling.bounds(parts["upper"]),
            "row_lower": self._scaling.sides(parts["row_lower"]),
            "row_upper": self._scaling.sides(parts["row_upper"]),
            "value": self._scaling.coefficients(*entries),
        }
        self._shape = shape
        self._calls.append(("passModel", (shape, 0.0, scaled, integer)))

    def _recost(self, cost: Array) -> None:
        from dataclasses import replace

        if self._linear:
            self._scaling = replace(self._scaling, cost=cost_exponent(np.ldexp(cost, self._scaling.columns)))

    def setOptionValue(self, name: str, value: Any) -> None:
        if name == "time_limit":
            self._limit = float(value) if np.isfinite(value) else None
            return
        self._options[name] = value
        self._calls.append(("setOptionValue", (name, value)))

    def getOptionValue(self, name: str) -> tuple[None, Any]:
        """Of an option that was set, else HiGHS's own value."""
        import highspy

        if name not in self._options:
            self._options[name] = highspy.Highs().getOptionValue(name)[1]
        return None, self._options[name]

    def changeColsCost(self, count: int, columns: Any, cost: Array) -> None:
        """Costs of the first variables; the others' costs are not scaled anew, so all are given or the rest is zero."""
        whole = np.zeros(self._shape[1])
        whole[columns] = cost
        self._recost(whole)
        self._calls.append(("changeColsCost", (count, columns, self._scaling.costs(whole)[columns])))

    def changeObjectiveOffset(self, offset: float) -> None:
        self._offset = offset

    def changeColsBounds(self, count: int, columns: Any, lower: Array, upper: Array) -> None:
        """Of all variables."""
        bounds = self._scaling.bounds(lower), self._scaling.bounds(upper)
        self._calls.append(("changeColsBounds", (count, columns, *bounds)))

    def changeRowsBounds(self, count: int, rows: Any, lower: Array, upper: Array) -> None:
        """Of all rows."""
        sides = self._scaling.sides(lower), self._scaling.sides(upper)
        self._calls.append(("changeRowsBounds", (count, rows, *sides)))

    def addRows(self, count: int, lower: Array, upper: Array, entries: int, start: Any, index: Any, value: Any) -> None:
        """Rows after the others, scaled under the columns' exponents."""
        from .scaling import Scaling

        rows = np.repeat(np.arange(count), np.diff(np.append(start, entries)))
        fresh = equilibrated(np.ldexp(value, self._scaling.columns[index]), rows, index, (count, self._shape[1])).rows
        own = Scaling(fresh, self._scaling.columns)
        scaled = own.coefficients(value, rows, index)
        self._calls.append(("addRows", (count, own.sides(lower), own.sides(upper), entries, start, index, scaled)))
        self._scaling = Scaling(np.append(self._scaling.rows, fresh), self._scaling.columns, self._scaling.cost)
        self._shape = (self._shape[0] + count, self._shape[1])

    def clearSolver(self) -> None:
        self._calls.append(("clearSolver", ()))

    def run(self) -> None:
        """Solves in the worker. Raises `Died`; then the program must be loaded again, into another solver."""
        calls, self._calls, self._answer = self._calls, [], {}
        request = "run", self._number, calls, self._limit
        self._lost = True  # until there is an answer
        found, self._generation = self._worker.ask(*request, limit=self._limit, generation=self._generation)
        rows, columns = self._shape
        for name, size in (("x", columns), ("dual", rows)):
            if found[name] is not None and found[name].shape != (size,):
                raise Died("the native solver answered with arrays of another size")
        self._answer, self._lost = found, False

    def getRunTime(self) -> float:
        """0: a limit counts for one run."""
        return 0.0

    def getModelStatus(self) -> highspy.HighsModelStatus:
        import highspy

        return getattr(highspy.HighsModelStatus, self._answer["status"])

    def getInfo(self) -> SimpleNamespace:
        value, bound = (self._scaling.value(self._answer[name]) + self._offset for name in ("objective", "bound"))
        return SimpleNamespace(objective_function_value=value, mip_dual_bound=bound)

    def getSolution(self) -> SimpleNamespace:
        x, dual = self._answer["x"], self._answer["dual"]
        return SimpleNamespace(
            col_value=None if x is None else self._scaling.point(x),
            row_dual=None if dual is None else self._scaling.multipliers(dual),
            value_valid=x is not None,
            dual_valid=dual is not None,
        )

    def getDualRayExist(self) -> tuple[None, bool]:
        return None, self.getDualRay()[1]

    def getDualRay(self) -> tuple[None, bool, Array | None]:
        """A ray of the original rows, if there is one. Raises `Died`."""
        found, _ = self._worker.ask("ray", self._number, generation=self._generation, limit=self._limit)
        return None, found is not None, None if found is None else np.ldexp(found, self._scaling.rows)
