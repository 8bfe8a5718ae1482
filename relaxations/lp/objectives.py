"""Many objectives over one set of constraints, whatever the backend.

HiGHS and Gurobi keep their basis from one objective to the next, the first-order method its last point; a backend that
has nothing of the kind solves each program afresh behind the same three calls. Soundness: as `Solution.bound_safe`,
outward rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import csr_array

from ..effort import SOLVERS, SolverEffort
from .backends import backend
from .model import Array, LinearModel, Solution


class Session(Protocol):
    """A linear model that is minimised again and again."""

    @property
    def model(self) -> LinearModel:
        """As it stands now."""

    def minimise(self, cost: Array, offset: float = 0.0) -> Solution:
        """min cost x + offset."""

    def set_bounds(self, lower: Array, upper: Array) -> None:
        """Another box of variables."""

    def add_rows(self, matrix: csr_array, row_lower: Array, row_upper: Array) -> None:
        """Further rows."""


Sessions = Callable[[LinearModel], Session]


class OneByOne:
    """A session with a backend that remembers nothing."""

    def __init__(self, model: LinearModel, name: str, time_limit: float | None, effort: SolverEffort = SOLVERS) -> None:
        self.model, self._solve, self._limit = model, backend(name, effort), time_limit

    def minimise(self, cost: Array, offset: float = 0.0) -> Solution:
        return self._solve(self.model.with_objective(cost, offset), time_limit=self._limit)

    def set_bounds(self, lower: Array, upper: Array) -> None:
        self.model = self.model.with_bounds(lower, upper)

    def add_rows(self, matrix: csr_array, row_lower: Array, row_upper: Array) -> None:
        self.model = self.model.with_rows(matrix, row_lower, row_upper)


class Noting:
    """A session whose solutions' notes are kept, each once."""

    def __init__(self, inner: Session, notes: list[str]) -> None:
        self._inner, self._notes = inner, notes

    @property
    def model(self) -> LinearModel:
        return self._inner.model

    def minimise(self, cost: Array, offset: float = 0.0) -> Solution:
        found = self._inner.minimise(cost, offset)
        if found.note and found.note not in self._notes:
            self._notes.append(found.note)
        return found

    def set_bounds(self, lower: Array, upper: Array) -> None:
        self._inner.set_bounds(lower, upper)

    def add_rows(self, matrix: csr_array, row_lower: Array, row_upper: Array) -> None:
        self._inner.add_rows(matrix, row_lower, row_upper)


def session(
    model: LinearModel,
    name: str = "highs",
    time_limit: float | None = None,
    notes: list[str] | None = None,
    effort: SolverEffort = SOLVERS,
) -> Session:
    """A session over the model; `time_limit` in seconds for each objective. Raises `BadInput` for another backend.

    What backends have to say (a licence that is too small, say) is appended to `notes`.
    """
    found: Session
    if name == "highs":
        from .highs import HighsMany

        found = HighsMany(model, time_limit=time_limit, effort=effort)
    elif name == "gurobi":
        from .gurobi import GurobiMany

        found = GurobiMany(model, time_limit=time_limit, effort=effort)
    elif name == "first-order":
        from .first_order import FirstOrder

        found = FirstOrder(model, dtype=torch.float64, time_limit=time_limit, effort=effort)
    else:
        found = OneByOne(model, name, time_limit, effort)
    return found if notes is None else Noting(found, notes)


def least(found: Session, column: int, sign: float = 1.0) -> float:
    """A proved lower bound of sign * x[column]; -inf where nothing is proved, +inf where no point is feasible."""
    cost = np.zeros(len(found.model.cost))
    cost[column] = sign
    answer = found.minimise(cost).bound_safe
    return -math.inf if math.isnan(answer) else answer
