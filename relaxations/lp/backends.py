"""The solvers of linear models by name; each is imported when it is asked for.

| name          | needs        | integers | gradients | good for                                               |
| highs         |              | yes      |           | the default; many objectives over one model (`many`)   |
| gurobi        | gurobipy     | yes      |           | up to 2000 variables and constraints without a licence |
| layers        | cvxpylayers  |          | yes       | research: the optimum as a PyTorch function            |
| first-order   |              |          |           | batches of programs that share a matrix; GPUs          |

None is trusted: see `model`. For gradients through a whole relaxation, over any of them, see
`relaxations.differentiable`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ...problems.errors import BadInput
from .model import Array, LinearModel, Solution

Backend = Callable[..., Solution]
NAMES = ("highs", "gurobi", "layers", "first-order")


class Many(Protocol):
    """Objectives one after another over the same constraints."""

    model: LinearModel

    def minimise(self, cost: Array, offset: float = 0.0, *, time_limit: float | None = None) -> Solution: ...


def backend(name: str) -> Backend:
    """The `solve(model, *, time_limit=None) -> Solution` of a backend, one of `NAMES`. Raises `BadInput` for others."""
    if name == "highs":
        from .highs import solve
    elif name == "gurobi":
        from .gurobi import solve
    elif name == "layers":
        from .layers import solve
    elif name == "first-order":
        from .first_order import solve
    else:
        known = ", ".join(map(repr, NAMES[:-1]))
        raise BadInput(f"there is no linear-programming backend called {name!r}; use {known} or {NAMES[-1]!r}.")
    return solve


def many(name: str, model: LinearModel) -> Many:
    """A backend that keeps what it can from one objective to the next: HiGHS its basis, `first-order` its last point.

    The others solve afresh each time. Raises `BadInput` for an unknown name or a model with integers.
    """
    if name == "highs":
        from .highs import HighsMany

        return HighsMany(model)
    if name == "first-order":
        from .first_order import FirstOrder

        return FirstOrder(model)
    return _Afresh(model, backend(name))


class _Afresh:
    def __init__(self, model: LinearModel, solve: Backend) -> None:
        self.model, self._solve = model, solve

    def minimise(self, cost: Array, offset: float = 0.0, *, time_limit: float | None = None) -> Solution:
        return self._solve(self.model.with_objective(cost, offset), time_limit=time_limit)
