"""Gurobi as a backend, where it is installed and licensed.

The free licence that comes with the package solves models of up to 2000 variables and 2000 constraints. A larger
model goes to HiGHS, and the solution's `note` says so. Soundness: none is claimed here; see `model`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...problems.errors import BadInput
from .model import LinearModel, Solution, Status

TOLERANCE = 1e-9  # the smallest that Gurobi accepts
TOO_LARGE = 10010  # Gurobi's error code for a model above the licence's size
NOTE = "Gurobi's free licence stops at 2000 variables and 2000 constraints, so HiGHS solved this model instead."


def solve(model: LinearModel, *, time_limit: float | None = None) -> Solution:
    """Solve the model on one thread; `time_limit` in seconds. Raises `BadInput` without Gurobi or a licence."""
    try:
        import gurobipy
    except ImportError:
        raise BadInput(
            "the Gurobi backend needs the package gurobipy, which is not installed; "
            "install Partita with the extra 'gurobi' (pip install '.[gurobi]') or use the backend 'highs'."
        ) from None
    if model.empty:
        return Solution(Status.infeasible, bound_safe=np.inf, note="an interval of the model is empty")
    try:
        with gurobipy.Env(params={"OutputFlag": 0, "Threads": 1, "Seed": 0}) as environment:
            return _solve(gurobipy, environment, model, time_limit)
    except gurobipy.GurobiError as error:
        if error.errno != TOO_LARGE:
            raise BadInput(f"Gurobi refused to start or to solve ({error}); use the backend 'highs'.") from error
    from .highs import solve as fall_back

    return replace(fall_back(model, time_limit=time_limit), note=NOTE)


def _solve(gurobipy, environment, model: LinearModel, time_limit: float | None) -> Solution:  # type: ignore[no-untyped-def]
    parameters = {"FeasibilityTol": TOLERANCE, "OptimalityTol": TOLERANCE, "IntFeasTol": TOLERANCE, "MIPGap": 0.0}
    parameters |= {"MIPGapAbs": TOLERANCE, "InfUnbdInfo": 1, "DualReductions": 0}
    if time_limit is not None:
        parameters["TimeLimit"] = float(time_limit)
    with gurobipy.Model(env=environment) as solver:
        for name, value in parameters.items():
            solver.setParam(name, value)
        kinds = np.where(model.integer, "I", "C") if model.discrete else "C"
        x = solver.addMVar(len(model.cost), lb=model.lower, ub=model.upper, obj=model.cost, vtype=kinds)
        solver.ObjCon = model.offset
        sides = _sides(model)
        for rows, relation, right in sides:
            if len(rows):
                solver.addMConstr(model.matrix[rows], x, relation, right[rows])
        solver.optimize()
        return _read(gurobipy.GRB, solver, model, [rows for rows, _, _ in sides])


def _sides(model: LinearModel) -> list[tuple[np.ndarray, str, np.ndarray]]:
    """The rows as equations, then lower sides, then upper sides: Gurobi has no two-sided rows in matrix form."""
    same = model.row_lower == model.row_upper
    below, above = np.isfinite(model.row_lower) & ~same, np.isfinite(model.row_upper) & ~same
    return [
        (np.flatnonzero(same), "=", model.row_lower),
        (np.flatnonzero(below), ">", model.row_lower),
        (np.flatnonzero(above), "<", model.row_upper),
    ]


def _read(codes, solver, model: LinearModel, parts: list[np.ndarray]) -> Solution:  # type: ignore[no-untyped-def]
    status = {
        codes.OPTIMAL: Status.optimal,
        codes.INFEASIBLE: Status.infeasible,
        codes.TIME_LIMIT: Status.limit,
    }.get(solver.Status, Status.failed)

    def duals(attribute: str, sign: float) -> np.ndarray | None:
        dual = np.zeros(len(model.row_lower))
        try:
            np.add.at(dual, np.concatenate(parts), sign * np.array(solver.getAttr(attribute, solver.getConstrs())))
        except AttributeError:
            return None
        return dual

    if status is Status.infeasible:
        ray = None if model.discrete else duals("FarkasDual", -1.0)
        certified = ray is not None and model.safe_infeasible(ray)
        return Solution(status, bound=np.inf, dual=ray, bound_safe=np.inf if certified else -np.inf)
    x = np.array(solver.getAttr("X", solver.getVars())) if solver.SolCount else None
    value = solver.ObjVal if solver.SolCount else np.inf
    if model.discrete:
        return Solution(status, value, solver.ObjBound if status is not Status.failed else -np.inf, x)
    dual = duals("Pi", 1.0) if status is Status.optimal else None
    safe = model.safe_bound(dual) if dual is not None else -np.inf
    return Solution(status, value, value if status is Status.optimal else safe, x, dual, safe)
