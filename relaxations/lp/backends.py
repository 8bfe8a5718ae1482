"""The solvers of linear models by name; each is imported when it is asked for.

| name          | needs        | integers | gradients | good for                                                |
| highs         |              | yes      |           | the default; many objectives over one model (`session`) |
| gurobi        | gurobipy     | yes      |           | up to 2000 variables and constraints without a licence |
| layers        | cvxpylayers  |          | yes       | research: the optimum as a PyTorch function            |
| first-order   |              |          |           | batches of programs that share a matrix; GPUs          |

None is trusted: see `model`. For gradients through a whole relaxation, over any of them, see
`studies.differentiable`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ...problems.errors import BadInput
from ..effort import SOLVERS, SolverEffort
from .model import Solution

Backend = Callable[..., Solution]
NAMES = ("highs", "gurobi", "layers", "first-order")


def backend(name: str, effort: SolverEffort = SOLVERS) -> Backend:
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
    return partial(solve, effort=effort)
