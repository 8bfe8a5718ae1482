"""HiGHS as a backend: a `LinearModel` in, a `Solution` out, through highspy's own structures.

Linear models are solved by simplex, whose dual vector is a vertex and hence sparse and clean. Presolve may answer
"infeasible" without a certificate; then the model is solved once more without it to get a Farkas ray. Integer models
run with feasibility and integrality tolerance `TOLERANCE` and gap zero; what their answers are worth is said in
`exact`. Soundness: none is claimed here; `LinearModel.safe_bound` judges the dual vectors.
"""

from __future__ import annotations

import highspy
import numpy as np

from .model import LinearModel, Solution, Status

TOLERANCE = 1e-9

_STATUS = {
    highspy.HighsModelStatus.kOptimal: Status.optimal,
    highspy.HighsModelStatus.kModelEmpty: Status.optimal,
    highspy.HighsModelStatus.kInfeasible: Status.infeasible,
    highspy.HighsModelStatus.kTimeLimit: Status.limit,
    highspy.HighsModelStatus.kIterationLimit: Status.limit,
}


def solve(model: LinearModel, *, time_limit: float | None = None) -> Solution:
    """Solve the model on one thread; `time_limit` in seconds of wall time."""
    if model.empty:
        return Solution(Status.infeasible, bound_safe=np.inf, note="an interval of the model is empty")
    solver = highspy.Highs()
    options = {"output_flag": False, "threads": 1, "random_seed": 0}
    options |= {"primal_feasibility_tolerance": TOLERANCE, "dual_feasibility_tolerance": TOLERANCE}
    options |= {"mip_feasibility_tolerance": TOLERANCE, "mip_rel_gap": 0.0, "mip_abs_gap": TOLERANCE}
    if time_limit is not None:
        options["time_limit"] = float(time_limit)
    for name, value in options.items():
        solver.setOptionValue(name, value)
    solver.passModel(_translate(model))
    solver.run()
    status = _STATUS.get(solver.getModelStatus(), Status.failed)
    if status is Status.infeasible and not model.discrete:
        return _with_ray(model, solver)
    return _read(model, solver, status)


def _translate(model: LinearModel) -> highspy.HighsLp:
    lp = highspy.HighsLp()
    lp.num_row_, lp.num_col_ = model.matrix.shape
    lp.offset_ = model.offset
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = model.cost, model.lower, model.upper
    lp.row_lower_, lp.row_upper_ = model.row_lower, model.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = model.matrix.indptr.astype(np.int32)
    lp.a_matrix_.index_ = model.matrix.indices.astype(np.int32)
    lp.a_matrix_.value_ = model.matrix.data
    if model.discrete:
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        lp.integrality_ = [kinds[bool(i)] for i in model.integer]
    return lp


def _read(model: LinearModel, solver: highspy.Highs, status: Status) -> Solution:
    info, answer = solver.getInfo(), solver.getSolution()
    x = np.asarray(answer.col_value) if answer.value_valid else None
    value = info.objective_function_value if x is not None else np.inf
    if model.discrete:
        bound = {Status.optimal: info.mip_dual_bound, Status.limit: info.mip_dual_bound, Status.infeasible: np.inf}
        return Solution(status, value, bound.get(status, -np.inf), x)
    dual = np.asarray(answer.row_dual) if answer.dual_valid else None
    safe = model.safe_bound(dual) if dual is not None else -np.inf
    return Solution(status, value, value if status is Status.optimal else safe, x, dual, safe)


def _with_ray(model: LinearModel, solver: highspy.Highs) -> Solution:
    """The claim "infeasible" of a linear model, with a certificate where the solver can be made to give one."""
    ray = _ray(solver)
    if ray is None:
        solver.setOptionValue("presolve", "off")
        solver.setOptionValue("solver", "simplex")
        solver.clearSolver()
        solver.run()
        ray = _ray(solver)
    # HiGHS documents no sign for its rays; both are cheap to judge.
    for candidate in () if ray is None else (ray, -ray):
        if model.safe_infeasible(candidate):
            return Solution(Status.infeasible, bound=np.inf, dual=candidate, bound_safe=np.inf)
    return Solution(Status.infeasible, bound=np.inf)


def _ray(solver: highspy.Highs) -> np.ndarray | None:
    exists, found = solver.getDualRay()[1:] if solver.getDualRayExist()[1] else (False, None)
    return np.asarray(found) if exists else None
