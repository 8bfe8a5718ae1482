"""cvxpylayers as a backend: linear programs whose value can be differentiated in PyTorch.

`value` is the optimum as a function of the cost and of the rows' sides, through the layer's implicit differentiation
(Agrawal et al. 2019). By the envelope theorem the gradient with respect to a row's side is that row's multiplier, so
`solve` reads its dual vector off the backward pass. Interior-point answers are approximate and a degenerate program has
no gradient; both only weaken the bound. Linear programs only.

Soundness: none is claimed here; `LinearModel.safe_bound` judges the dual vector.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from ...problems.errors import BadInput
from .model import LinearModel, Solution, Status

FEASIBLE = 1e-5  # an interior-point answer that breaks a constraint by more is no optimum


def solve(model: LinearModel, *, time_limit: float | None = None) -> Solution:
    """Solve a linear model; `time_limit` in seconds. Raises `BadInput` without cvxpylayers, or for integers."""
    if model.discrete:
        raise BadInput("the backend 'layers' solves linear programs only; for integers use 'highs' or 'gurobi'")
    if model.empty:
        return Solution(Status.infeasible, bound_safe=np.inf, note="an interval of the model is empty")
    cost = torch.as_tensor(model.cost)
    lower = torch.as_tensor(model.row_lower).requires_grad_()
    upper = torch.as_tensor(model.row_upper).requires_grad_()
    options = {} if time_limit is None else {"time_limit": float(time_limit)}
    with torch.enable_grad():
        try:
            optimum, x = _optimum(model, cost, lower, upper, options)
            optimum.backward()
        except BadInput:
            raise
        except Exception as error:  # cvxpy and diffcp raise errors of their own for what they cannot solve
            return Solution(
                Status.failed, note=f"cvxpylayers: {str(error).splitlines()[0] if str(error) else 'failed'}"
            )
    dual = sum(np.zeros(len(side)) if side.grad is None else side.grad.numpy() for side in (lower, upper))
    reached = float(optimum.detach()) + model.offset
    if not model.violation(x.detach().numpy()) <= FEASIBLE:
        return Solution(Status.failed, dual=dual, bound_safe=model.safe_bound(dual), note="no feasible point was found")
    return Solution(Status.optimal, reached, reached, x.detach().numpy(), dual, model.safe_bound(dual))


def value(model: LinearModel, cost: Tensor) -> Tensor:  # (V,) float64 -> ()
    """The model's optimum under another cost, differentiable in it (heuristic: an approximate optimum)."""
    sides = torch.as_tensor(model.row_lower), torch.as_tensor(model.row_upper)
    return _optimum(model, cost, *sides, {})[0] + model.offset


def _optimum(
    model: LinearModel, cost: Tensor, row_lower: Tensor, row_upper: Tensor, options: dict[str, float]
) -> tuple[Tensor, Tensor]:
    """Value without offset and minimiser, on the tape."""
    cp, layer_class = _packages()
    below, above = (np.isfinite(side).nonzero()[0] for side in (model.row_lower, model.row_upper))
    x, c = cp.Variable(len(model.cost)), cp.Parameter(len(model.cost))
    constraints, parameters, given = [], [c], [cost]
    for rows, sign, side in ((below, -1.0, row_lower), (above, 1.0, row_upper)):
        if len(rows):
            end = cp.Parameter(len(rows))
            constraints.append(sign * model.matrix[rows] @ x <= end)
            parameters.append(end)
            given.append(sign * side[torch.as_tensor(rows)])
    for sign, side in ((-1.0, model.lower), (1.0, model.upper)):
        finite = np.isfinite(side).nonzero()[0]
        if len(finite):
            constraints.append(sign * x[finite] <= sign * side[finite])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = layer_class(cp.Problem(cp.Minimize(c @ x), constraints), parameters=parameters, variables=[x])
        (found,) = layer(*given, solver_args={"solve_method": "Clarabel", **options})
    return cost @ found, found


def _packages():  # type: ignore[no-untyped-def]
    try:
        import cvxpy
        from cvxpylayers.torch import CvxpyLayer
    except ImportError:
        raise BadInput(
            "the backend 'layers' needs the package cvxpylayers, which is not installed; "
            "install Partita with the extra 'layers' (pip install '.[layers]') or use the backend 'highs'"
        ) from None
    return cvxpy, CvxpyLayer
