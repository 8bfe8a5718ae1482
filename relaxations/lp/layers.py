"""cvxpylayers as a backend: linear programs whose value can be differentiated in PyTorch.

`value` is the optimum as a function of the cost, `optimum` as one of every number in the program, through the layer's
implicit differentiation (Agrawal et al. 2019); `solve` takes minimiser and multipliers from the layer (cvxpylayers 1.0
and later return both). Interior-point answers are approximate, which only weakens the bound; a degenerate program has
no derivative. Linear programs only. For gradients without this package, and with exact vertices, see `gradient`.

Soundness: none is claimed here; `LinearModel.safe_bound` judges the dual vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...kernels.deadline import check, within
from ...kernels.hush import hushed
from ...problems.errors import BadInput
from ..effort import SOLVERS, SolverEffort
from .model import LinearModel, Solution, Status


def solve(model: LinearModel, *, time_limit: float | None = None, effort: SolverEffort = SOLVERS) -> Solution:
    """Solve a linear model; `time_limit` in seconds. Raises `BadInput` without cvxpylayers, or for integers."""
    if model.discrete:
        raise BadInput("the backend 'layers' solves linear programs only; for integers use 'highs' or 'gurobi'")
    if model.empty:
        return Solution(Status.infeasible, bound_safe=np.inf, note="an interval of the model is empty")
    check()
    time_limit = within(time_limit)
    options = {} if time_limit is None else {"time_limit": float(time_limit)}
    sides = torch.as_tensor(model.row_lower), torch.as_tensor(model.row_upper)
    try:
        reached, found, dual = _optimum(model, torch.as_tensor(model.cost), *sides, options)
    except BadInput:
        raise
    except Exception as error:  # cvxpy and diffcp raise errors of their own for what they cannot solve
        return Solution(Status.failed, note=f"cvxpylayers: {str(error).splitlines()[0] if str(error) else 'failed'}")
    value, x = float(reached) + model.offset, found.numpy()
    if not model.violation(x) <= effort.feasible:
        return Solution(Status.failed, dual=dual, bound_safe=model.safe_bound(dual), note="no feasible point was found")
    return Solution(Status.optimal, value, value, x, dual, model.safe_bound(dual))


def value(model: LinearModel, cost: Tensor) -> Tensor:  # (V,) float64 -> ()
    """The model's optimum under another cost, differentiable in it (heuristic: an approximate optimum)."""
    sides = torch.as_tensor(model.row_lower), torch.as_tensor(model.row_upper)
    return _optimum(model, cost, *sides, {})[0] + model.offset


def optimum(
    cost: Tensor,  # (V,)
    matrix: Tensor,  # (R, V), a dense parameter: programs should be small
    row_lower: Tensor,  # (R,)
    row_upper: Tensor,  # (R,)
    lower: Tensor,  # (V,)
    upper: Tensor,  # (V,)
) -> Tensor:  # ()
    """The least value of the cost, differentiable in every number, all float64 (heuristic, approximate)."""
    cp, layer_class = _packages()
    shape = matrix.shape
    x, c = cp.Variable(shape[1]), cp.Parameter(shape[1])
    constraints, parameters, given = [], [c], [cost]
    sides = ((-1.0, row_lower, True), (1.0, row_upper, True), (-1.0, lower, False), (1.0, upper, False))
    for sign, side, with_matrix in sides:
        some = torch.nonzero(side.isfinite()).flatten()
        if not len(some):
            continue
        end = cp.Parameter(len(some))
        parameters.append(end)
        given.append(sign * side[some])
        if with_matrix:
            part = cp.Parameter((len(some), shape[1]))
            parameters.append(part)
            given.append(sign * matrix[some])
            constraints.append(part @ x <= end)
        else:
            constraints.append(sign * x[some.numpy()] <= end)
    with hushed(Warning):
        layer = layer_class(cp.Problem(cp.Minimize(c @ x), constraints), parameters=parameters, variables=[x])
        try:
            (found,) = layer(*given, solver_args={"solve_method": "Clarabel"})
        except Exception as error:  # cvxpy and diffcp raise errors of their own for what they cannot solve
            raise BadInput(f"cvxpylayers did not solve the relaxation: {str(error).splitlines()[0]}") from error
    return cost @ found


def _optimum(
    model: LinearModel, cost: Tensor, row_lower: Tensor, row_upper: Tensor, options: dict[str, float]
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Value without offset and minimiser, on the tape; multipliers of the rows."""
    cp, layer_class = _packages()
    below, above = (np.isfinite(side).nonzero()[0] for side in (model.row_lower, model.row_upper))
    x, c = cp.Variable(len(model.cost)), cp.Parameter(len(model.cost))
    constraints, parameters, given = [], [c], [cost]
    blocks = [(below, -1.0, row_lower), (above, 1.0, row_upper)]
    blocks = [block for block in blocks if len(block[0])]
    for rows, sign, limits in blocks:
        end = cp.Parameter(len(rows))
        constraints.append(sign * model.matrix[rows] @ x <= end)
        parameters.append(end)
        given.append(sign * limits[torch.as_tensor(rows)])
    prices = [constraint.dual_variables[0] for constraint in constraints]
    for sign, side in ((-1.0, model.lower), (1.0, model.upper)):
        finite = np.isfinite(side).nonzero()[0]
        if len(finite):
            constraints.append(sign * x[finite] <= sign * side[finite])
    with hushed(Warning):
        problem = cp.Problem(cp.Minimize(c @ x), constraints)
        layer = layer_class(problem, parameters=parameters, variables=[x, *prices])
        found, *multipliers = layer(*given, solver_args={"solve_method": "Clarabel", **options})
    dual = np.zeros(len(model.row_lower))
    for (rows, sign, _), price in zip(blocks, multipliers, strict=True):
        dual[rows] -= sign * price.detach().numpy()
    return cost @ found, found, dual


def _packages() -> tuple[Any, Any]:
    """cvxpy, and the layer of cvxpylayers for PyTorch."""
    try:
        import cvxpy
        from cvxpylayers.torch import CvxpyLayer
    except ImportError:
        raise BadInput(
            "the backend 'layers' needs the package cvxpylayers (1.0 or later), which is not installed; "
            "install Partita with the extra 'layers' (pip install '.[layers]') or use the backend 'highs'"
        ) from None
    return cvxpy, CvxpyLayer
