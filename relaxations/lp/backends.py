"""The solvers of linear models by name; each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from ...problems.errors import BadInput
from .model import Solution

Backend = Callable[..., Solution]


def backend(name: str) -> Backend:
    """The `solve(model, *, time_limit=None) -> Solution` of a backend: `highs`, `gurobi` or `layers` (cvxpylayers).

    Raises `BadInput` for another name.
    """
    if name == "highs":
        from .highs import solve
    elif name == "gurobi":
        from .gurobi import solve
    elif name == "layers":
        from .layers import solve
    else:
        raise BadInput(f"there is no linear-programming backend called {name!r}; use 'highs', 'gurobi' or 'layers'.")
    return solve
