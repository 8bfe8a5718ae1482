"""Gurobi as a backend, where it is installed and licensed.

The free licence that comes with the package solves models of up to 2000 variables and 2000 constraints. A larger model
goes to HiGHS, and so does every model where the licence is missing or has expired, or Gurobi gives up with an error of
its own; the solution's `note` says so in a sentence. With `strict` such a model is refused instead (`BadInput`).
Without the package itself the backend is always refused. `GurobiMany` keeps the last basis from one objective to the
next.

Soundness: none is claimed here; see `model`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...kernels.deadline import check, within
from ...kernels.proof_constants import TOLERANCE
from ...problems.errors import BadInput
from ..effort import SOLVERS, SolverEffort
from .model import Array, LinearModel, Solution, Status

if TYPE_CHECKING:
    import gurobipy
    from scipy.sparse import csr_array

NO_LICENSE, TOO_LARGE = 10009, 10010  # Gurobi's error codes


def solve(
    model: LinearModel, *, time_limit: float | None = None, strict: bool = False, effort: SolverEffort = SOLVERS
) -> Solution:
    """Solve the model on one thread; `time_limit` in seconds. Raises `BadInput` without Gurobi, and for NaN."""
    gurobipy = _package()
    model.require_numbers()
    if model.empty:
        return Solution(Status.infeasible, bound_safe=np.inf, note="an interval of the model is empty")
    try:
        return _Loaded(gurobipy, model).minimised(model, time_limit)
    except gurobipy.GurobiError as error:
        note = _sentence(error, model, strict)
    from .highs import solve as fall_back

    found = fall_back(model, time_limit=time_limit, effort=effort)
    return replace(found, note=f"{note} {found.note}".strip())


class GurobiMany:
    """Many objectives over the same constraints, each run from the last basis; the same calls as `highs.HighsMany`.

    Where Gurobi cannot be used, HiGHS serves all further calls, and every solution's `note` says why.
    """

    def __init__(
        self,
        model: LinearModel,
        *,
        time_limit: float | None = None,
        strict: bool = False,
        effort: SolverEffort = SOLVERS,
    ) -> None:
        if model.discrete:
            raise BadInput("many objectives are solved from one basis for linear programs only; use `solve`.")
        self._gurobipy = _package()
        model.require_numbers()
        self.model, self.time_limit, self.strict, self.effort = model, time_limit, strict, effort
        self._loaded: _Loaded | None = None
        self._instead: Any = None
        self._note = ""

    def minimise(self, cost: Array, offset: float = 0.0, *, time_limit: float | None = None) -> Solution:
        """min cost x + offset, on one thread; `time_limit` in seconds for this run, else the object's."""
        limit = self.time_limit if time_limit is None else time_limit
        model = self.model.with_objective(np.asarray(cost, dtype=np.float64), float(offset))
        if self._instead is None:
            model.require_numbers()
            if model.empty:
                return Solution(Status.infeasible, bound_safe=np.inf, note="an interval of the model is empty")
            try:
                if self._loaded is None:
                    self._loaded = _Loaded(self._gurobipy, model)
                return self._loaded.minimised(model, limit)
            except self._gurobipy.GurobiError as error:
                self._note = _sentence(error, model, self.strict)
            from .highs import HighsMany

            self._instead, self._loaded = HighsMany(self.model, effort=self.effort), None
        found = self._instead.minimise(cost, offset, time_limit=limit)
        return replace(found, note=f"{self._note} {found.note}".strip())

    def set_bounds(self, lower: Array, upper: Array) -> None:
        """Another box of variables, (V,) and (V,)."""
        self.model = self.model.with_bounds(np.asarray(lower, np.float64), np.asarray(upper, np.float64))
        self.model.require_numbers()
        if self._instead is not None:
            self._instead.set_bounds(lower, upper)
        elif self._loaded is not None:
            self._loaded.x.LB, self._loaded.x.UB = self.model.lower, self.model.upper

    def add_rows(self, matrix: csr_array, row_lower: Array, row_upper: Array) -> None:
        """Further rows row_lower <= matrix x <= row_upper, (K, V), (K,) and (K,)."""
        lower, upper = (np.asarray(side, dtype=np.float64) for side in (row_lower, row_upper))
        before = len(self.model.row_lower)
        self.model = self.model.with_rows(matrix, lower, upper)
        self.model.require_numbers()
        if self._instead is not None:
            self._instead.add_rows(matrix, lower, upper)
        elif self._loaded is not None:
            self._loaded.append(matrix.tocsr(), lower, upper, before)


class _Loaded:
    """A model in Gurobi's hands. Gurobi has no two-sided rows in matrix form: each side is a constraint."""

    def __init__(self, gurobipy: Any, model: LinearModel) -> None:
        self.codes = gurobipy.GRB
        self.environment = gurobipy.Env(params={"OutputFlag": 0, "Threads": 1, "Seed": 0})
        self.solver = gurobipy.Model(env=self.environment)
        parameters = {"FeasibilityTol": TOLERANCE, "OptimalityTol": TOLERANCE, "IntFeasTol": TOLERANCE, "MIPGap": 0.0}
        parameters |= {"MIPGapAbs": TOLERANCE, "InfUnbdInfo": 1, "DualReductions": 0}
        for name, value in parameters.items():
            self.solver.setParam(name, value)
        kinds = "C" if model.integer is None or not model.discrete else np.where(model.integer, "I", "C")
        self.x = self.solver.addMVar(len(model.cost), lb=model.lower, ub=model.upper, vtype=kinds)
        self.rows: list[np.ndarray] = []  # which row of the model each constraint is, block after block
        self.append(model.matrix, model.row_lower, model.row_upper, 0)

    def append(self, matrix: csr_array, row_lower: Array, row_upper: Array, first: int) -> None:
        """Rows of the model from `first` on."""
        self.count = first + len(row_lower)
        same = row_lower == row_upper
        below, above = np.isfinite(row_lower) & ~same, np.isfinite(row_upper) & ~same
        for some, relation, right in ((same, "=", row_lower), (below, ">", row_lower), (above, "<", row_upper)):
            index = np.flatnonzero(some)
            if len(index):
                self.solver.addMConstr(matrix[index], self.x, relation, right[index])
                self.rows.append(first + index)

    def minimised(self, model: LinearModel, time_limit: float | None) -> Solution:
        """Of the model's objective; `model` is what was loaded and appended."""
        check()
        time_limit = within(time_limit)
        self.x.Obj = model.cost
        self.solver.ObjCon = model.offset
        self.solver.setParam("TimeLimit", np.inf if time_limit is None else float(time_limit))
        self.solver.optimize()
        return self._read(model)

    def _read(self, model: LinearModel) -> Solution:
        codes, solver = self.codes, self.solver
        status = {
            codes.OPTIMAL: Status.optimal,
            codes.INFEASIBLE: Status.infeasible,
            codes.TIME_LIMIT: Status.limit,
        }.get(solver.Status, Status.failed)
        if status is Status.infeasible:
            ray = None if model.discrete else self._duals("FarkasDual", -1.0)
            certified = ray is not None and model.safe_infeasible(ray)
            return Solution(status, bound=np.inf, dual=ray, bound_safe=np.inf if certified else -np.inf)
        x = np.array(solver.getAttr("X", solver.getVars())) if solver.SolCount else None
        value = solver.ObjVal if solver.SolCount else np.inf
        if model.discrete:
            return Solution(status, value, solver.ObjBound if status is not Status.failed else -np.inf, x)
        dual = self._duals("Pi", 1.0) if status is Status.optimal else None
        safe = model.safe_bound(dual) if dual is not None else -np.inf
        return Solution(status, value, value if status is Status.optimal else safe, x, dual, safe)

    def _duals(self, attribute: str, sign: float) -> np.ndarray | None:
        dual = np.zeros(self.count)
        constraints = self.solver.getConstrs()
        if not constraints:
            return dual
        try:
            np.add.at(dual, np.concatenate(self.rows), sign * np.array(self.solver.getAttr(attribute, constraints)))
        except AttributeError:
            return None
        return dual


def _package() -> Any:
    try:
        import gurobipy
    except ImportError:
        raise BadInput(
            "the Gurobi backend needs the package gurobipy, which is not installed; "
            "install Partita with the extra 'gurobi' (pip install '.[gurobi]') or use the backend 'highs'."
        ) from None
    return gurobipy


def _sentence(error: gurobipy.GurobiError, model: LinearModel, strict: bool) -> str:
    """Why HiGHS solves the model instead; with `strict`, why nobody does (`BadInput`)."""
    said = str(error).strip().splitlines()[0] if str(error).strip() else f"error {error.errno}"
    rows, variables = model.matrix.shape
    why = {
        TOO_LARGE: "Gurobi's free licence stops at 2000 variables and 2000 constraints, and this model has "
        f"{variables} and {rows}",
        NO_LICENSE: f"Gurobi has no valid licence ({said})",
    }.get(error.errno, f"Gurobi gave up ({said})")
    if strict:
        raise BadInput(f"{why}; use the backend 'highs'.") from error
    return f"{why}, so HiGHS solved it instead." if error.errno == TOO_LARGE else f"{why}, so HiGHS solved this model."
