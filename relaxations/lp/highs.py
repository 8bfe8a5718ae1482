"""HiGHS as a backend: a `LinearModel` in, a `Solution` out, through highspy's own structures.

Linear models are solved by simplex, whose dual vector is a vertex and hence sparse and clean. Presolve may answer
"infeasible" without a certificate; then the model is solved once more without it to get a Farkas ray. `HighsMany`
solves one objective after another over the same constraints: an optimal basis stays feasible under another cost, so
most runs need a few pivots (triangle programs of mnist_fc, nine margins: 0.29 s the first, 0.013 s each of the others,
2,342 rows). Rows and bounds may change too, and dual simplex goes on from where it was. HiGHS holds its tolerances in
scaled space, so that a dual vector may prove less than the optimum by far more than they say (1e-5 to 1e-4 on hulls of
thin patterns); where it does, the run is repeated unscaled from its last basis. Integer models
run with feasibility and integrality tolerance `TOLERANCE` and gap zero; what their answers are worth is said in
`exact`. Soundness: none is claimed here; `LinearModel.safe_bound` judges the dual vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import highspy
import numpy as np

from ...kernels.deadline import check, left, within
from ...kernels.proof_constants import TOLERANCE
from ...kernels.solving import door
from ...kernels.solving.worker import PATIENCE, Died
from ...problems.errors import BadInput
from ..effort import SOLVERS, SolverEffort
from .model import Array, LinearModel, Solution, Status

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from ...kernels.solving.door import Remote

_STATUS = {
    highspy.HighsModelStatus.kOptimal: Status.optimal,
    highspy.HighsModelStatus.kModelEmpty: Status.optimal,
    highspy.HighsModelStatus.kInfeasible: Status.infeasible,
    highspy.HighsModelStatus.kTimeLimit: Status.limit,
    highspy.HighsModelStatus.kIterationLimit: Status.limit,
}


def solve(model: LinearModel, *, time_limit: float | None = None, effort: SolverEffort = SOLVERS) -> Solution:
    """Solve the model on one thread; `time_limit` in seconds of wall time. Raises `BadInput` for NaN."""
    model.require_numbers()
    if model.empty:
        return Solution(Status.infeasible, bound_safe=np.inf, note="an interval of the model is empty")
    return _run(model, _started(model, effort), time_limit, effort)


class HighsMany:
    """Many objectives over the same constraints: the model is handed over once, and every run starts from the last
    optimal basis (see the essay for what that saves).

        many = HighsMany(model)                    # LinearModel, continuous; its objective is not solved for
        found = many.minimise(cost, offset)        # cost (V,); -> Solution, judged like those of `solve`
        many.set_bounds(lower, upper)              # (V,), (V,): another box of variables
        many.set_sides(row_lower, row_upper)       # (R,), (R,): other sides of the rows
        many.add_rows(matrix, row_lower, row_upper)  # csr_array (K, V), (K,), (K,): cutting planes, after the others
        many.model                                 # the LinearModel as it stands now

    Duals are in the order of the rows. Raises `BadInput` for integers and for NaN.
    """

    def __init__(self, model: LinearModel, *, time_limit: float | None = None, effort: SolverEffort = SOLVERS) -> None:
        if model.discrete:
            raise BadInput("many objectives are solved from one basis for linear programs only; use `solve`.")
        model.require_numbers()
        self.model = model
        self.time_limit, self.effort = time_limit, effort
        self._solver = None if model.empty else _started(model, effort)

    def minimise(self, cost: Array, offset: float = 0.0, *, time_limit: float | None = None) -> Solution:
        """min cost x + offset, on one thread; `time_limit` in seconds for this run, else the object's."""
        self.model = self.model.with_objective(np.asarray(cost, dtype=np.float64), float(offset))
        if not (np.isfinite(self.model.cost).all() and np.isfinite(offset)):
            raise BadInput("a cost of the linear model is not a finite number; look for NaN in the objective.")
        if self.model.empty:
            return Solution(Status.infeasible, bound_safe=np.inf, note="an interval of the model is empty")
        solver = self._solver
        if solver is None or not door.standing(solver):
            solver = self._solver = _started(self.model, self.effort)
        columns = np.arange(len(self.model.cost), dtype=np.int32)
        solver.changeColsCost(len(columns), columns, self.model.cost)
        solver.changeObjectiveOffset(self.model.offset)
        return _run(self.model, solver, self.time_limit if time_limit is None else time_limit, self.effort)

    def set_bounds(self, lower: Array, upper: Array) -> None:
        """Another box of variables, (V,) and (V,)."""
        self.model = self.model.with_bounds(np.asarray(lower, np.float64), np.asarray(upper, np.float64))
        self.model.require_numbers()
        if self.model.empty:
            self._solver = None  # HiGHS refuses crossed bounds; the next run starts afresh
        elif self._solver is not None:
            columns = np.arange(len(self.model.cost), dtype=np.int32)
            self._solver.changeColsBounds(len(columns), columns, self.model.lower, self.model.upper)

    def set_sides(self, row_lower: Array, row_upper: Array) -> None:
        """Other sides of the rows, (R,) and (R,)."""
        lower, upper = (np.asarray(side, dtype=np.float64) for side in (row_lower, row_upper))
        self.model = self.model.with_sides(lower, upper)
        self.model.require_numbers()
        if self.model.empty:
            self._solver = None
        elif self._solver is not None:
            rows = np.arange(len(lower), dtype=np.int32)
            self._solver.changeRowsBounds(len(rows), rows, lower, upper)  # type: ignore[union-attr]  # not in highspy's stub

    def add_rows(self, matrix: csr_array, row_lower: Array, row_upper: Array) -> None:
        """Further rows row_lower <= matrix x <= row_upper, (K, V), (K,) and (K,)."""
        matrix = matrix.tocsr()
        lower, upper = (np.asarray(side, dtype=np.float64) for side in (row_lower, row_upper))
        self.model = self.model.with_rows(matrix, lower, upper)
        self.model.require_numbers()
        if self.model.empty:
            self._solver = None
        elif self._solver is not None:
            start, index = (part.astype(np.int32) for part in (matrix.indptr[:-1], matrix.indices))
            if door.wild(matrix.data) and not isinstance(self._solver, door.Remote):
                self._solver = None  # the next run starts where its death costs less
                return
            self._solver.addRows(matrix.shape[0], lower, upper, matrix.nnz, start, index, matrix.data.astype(float))


def _started(model: LinearModel, effort: SolverEffort) -> highspy.Highs | Remote:
    """A solver that holds the model."""
    # One that HiGHS may not end in time, the worker does.
    long = model.discrete and model.matrix.nnz > effort.apart and left() < PATIENCE
    solver = door.solver(model.matrix.data, long)
    options: dict[str, float] = {"output_flag": False, "threads": 1, "random_seed": 0}
    options |= {"primal_feasibility_tolerance": TOLERANCE, "dual_feasibility_tolerance": TOLERANCE}
    options |= {"mip_feasibility_tolerance": TOLERANCE, "mip_rel_gap": 0.0, "mip_abs_gap": TOLERANCE}
    for name, value in options.items():
        solver.setOptionValue(name, value)
    rows = model.matrix.indptr, model.matrix.indices, model.matrix.data
    whole = model.integer if model.discrete else None
    sides = model.lower, model.upper, model.row_lower, model.row_upper
    door.load(solver, door.Program(model.cost, *sides, rows, model.offset, whole))
    return solver


def _run(
    model: LinearModel, solver: highspy.Highs | Remote, time_limit: float | None, effort: SolverEffort
) -> Solution:
    check()
    time_limit = within(time_limit)
    # HiGHS holds its limit against the sum over all runs of a solver.
    solver.setOptionValue("time_limit", np.inf if time_limit is None else solver.getRunTime() + float(time_limit))
    try:
        solver.run()
    except Died as death:
        return Solution(Status.failed, note=f"A bound was given up: {death}.")
    status = _STATUS.get(solver.getModelStatus(), Status.failed)
    if status is Status.infeasible and not model.discrete:
        return _with_ray(model, solver)
    found = _read(model, solver, status)
    if status is Status.optimal and not found.bound_safe >= found.value - effort.lost * max(1.0, abs(found.value)):
        return found if model.discrete else _polished(model, solver, found)
    return found


def _polished(model: LinearModel, solver: highspy.Highs | Remote, found: Solution) -> Solution:
    """The same program once more, unscaled and without presolve; the answer that proves more."""
    options: dict[str, int | str] = {"simplex_scale_strategy": 0, "presolve": "off"}
    usual: dict[str, Any] = {name: solver.getOptionValue(name)[1] for name in options}
    for name, value in options.items():
        solver.setOptionValue(name, value)
    try:
        solver.run()
    except Died:
        return found
    status = _STATUS.get(solver.getModelStatus(), Status.failed)
    again = _read(model, solver, status)
    for name, before in usual.items():
        solver.setOptionValue(name, before)
    return again if status is Status.optimal and again.bound_safe > found.bound_safe else found


def _read(model: LinearModel, solver: highspy.Highs | Remote, status: Status) -> Solution:
    info, answer = solver.getInfo(), solver.getSolution()
    x = np.asarray(answer.col_value) if answer.value_valid else None
    value = info.objective_function_value if x is not None else np.inf
    if model.discrete:
        bound = {Status.optimal: info.mip_dual_bound, Status.limit: info.mip_dual_bound, Status.infeasible: np.inf}
        return Solution(status, value, bound.get(status, -np.inf), x)
    dual = np.asarray(answer.row_dual) if answer.dual_valid else None
    safe = model.safe_bound(dual) if dual is not None else -np.inf
    return Solution(status, value, value if status is Status.optimal else safe, x, dual, safe)


def _with_ray(model: LinearModel, solver: highspy.Highs | Remote) -> Solution:
    """The claim "infeasible" of a linear model, with a certificate where the solver can be made to give one."""
    try:
        ray = _certificate(solver)
    except Died:
        ray = None
    # HiGHS documents no sign for its rays; both are cheap to judge.
    for candidate in () if ray is None else (ray, -ray):
        if model.safe_infeasible(candidate):
            return Solution(Status.infeasible, bound=np.inf, dual=candidate, bound_safe=np.inf)
    return Solution(Status.infeasible, bound=np.inf)


def _certificate(solver: highspy.Highs | Remote) -> np.ndarray | None:
    """A ray, if need be of a second run without presolve. Raises `Died`."""
    ray = _ray(solver)
    if ray is None:
        for name, value in (("presolve", "off"), ("solver", "simplex")):
            solver.setOptionValue(name, value)
        solver.clearSolver()
        solver.run()
        ray = _ray(solver)
        for name in ("presolve", "solver"):
            solver.setOptionValue(name, "choose")
    return ray


def _ray(solver: highspy.Highs | Remote) -> np.ndarray | None:
    there = solver.getDualRayExist()[1]  # type: ignore[union-attr]  # not in highspy's stub
    exists, found = solver.getDualRay()[1:] if there else (False, None)  # type: ignore[union-attr]  # not in highspy's stub
    return np.asarray(found) if exists else None
