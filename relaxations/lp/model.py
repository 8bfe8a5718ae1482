"""One linear model for every solver, and the bound that any dual vector proves.

A `LinearModel` is  min cost x + offset  over  row_lower <= A x <= row_upper,  lower <= x <= upper,  some x integer.
Backends turn it into their solver's form and hand back a `Solution`; none of them is trusted. For any vector y, one
number per row, and any feasible x,

    cost x = y A x + (cost - A^T y) x >= sum_i min(y_i row_lower_i, y_i row_upper_i) + sum_j min(r_j l_j, r_j u_j),

with r = cost - A^T y, because every term is bounded by itself over its own interval (Jansson 2004; Neumaier and
Shcherbina 2004). With finite variable bounds the right-hand side is finite whatever y is, so a solver that stops
early, or is slightly wrong, costs tightness and never soundness. With cost = 0 a positive right-hand side says that
no x is feasible at all: the same sum checks a Farkas ray.

Soundness: outward rounded. `safe_bound` computes r in float64 with the a-priori error of an inner product of k terms,
k u / (1 - k u) times the sum of absolute values (Higham 2002, section 3.1), charges it at the larger end of each
variable's interval, adds the terms without rounding (`math.fsum`), and lowers the result by what the products lost.
Integrality is ignored there: the bound holds for the relaxed, hence for the integer model. What depends on the matrix
alone is computed once and shared by the models that `with_objective` makes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...problems.errors import BadInput

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Array = NDArray[np.float64]
UNIT = np.finfo(np.float64).eps / 2


class Status(Enum):
    """What a solver said; the value is the sentence for the user."""

    optimal = "The solver claims an optimum."
    infeasible = "The solver claims that no point satisfies the constraints."
    limit = "The solver stopped at its time limit; the bounds it had so far are reported."
    failed = "The solver gave up, which for these bounded models points to bad scaling; its bounds are not used."


@dataclass(frozen=True, eq=False)
class Solution:
    """What a backend returns. Only `bound_safe` may be relied on in a proof.

    `value` is the objective claimed at `x`; `bound` the lower bound claimed (they differ for integer models);
    `bound_safe` is `safe_bound(dual)` for linear models, +inf where infeasibility was certified, and -inf where
    nothing was (integer models leave no dual vector). `note` is a sentence for the user, or empty.
    """

    status: Status
    value: float = math.inf
    bound: float = -math.inf
    x: Array | None = None  # (V,)
    dual: Array | None = None  # (R,) at a positive entry the row's lower side is active; a ray where infeasible
    bound_safe: float = -math.inf
    note: str = ""

    @property
    def point(self) -> Array:  # (V,)
        """`x`, of a solution that has one."""
        assert self.x is not None, "this solution has no point"
        return self.x


@dataclass(frozen=True, eq=False)
class DualVector:
    """A proof by weak duality: whatever the vector is, `bound` holds for the objective of the model."""

    model: LinearModel
    dual: Array  # (R,)

    def bound(self) -> float:
        """A lower bound of the model's objective, +inf where an interval is empty or the vector shows that no point is
        feasible. Outward rounded."""
        empty = self.model.empty or self.model.safe_infeasible(self.dual)
        return math.inf if empty else self.model.safe_bound(self.dual)


class Columns(NamedTuple):
    """What weak duality needs of a matrix (R, V), by column."""

    transposed: csr_array  # (V, R)
    absolute: csr_array  # (V, R), entry by entry
    terms: Array  # (V,) entries of each column


@dataclass(frozen=True, eq=False)
class LinearModel:
    """min cost x + offset, row_lower <= matrix x <= row_upper, lower <= x <= upper, x[integer] integer."""

    cost: Array  # (V,)
    lower: Array  # (V,)
    upper: Array  # (V,)
    matrix: csr_array  # (R, V)
    row_lower: Array  # (R,) -inf where open
    row_upper: Array  # (R,) +inf where open
    integer: NDArray[np.bool_] | None = None  # (V,)
    offset: float = 0.0

    @property
    def discrete(self) -> bool:
        """Whether some variable must be integer."""
        return self.integer is not None and bool(self.integer.any())

    @property
    def empty(self) -> bool:
        """Some interval of a variable or a row is empty (exact)."""
        return bool((self.lower > self.upper).any() or (self.row_lower > self.row_upper).any())

    @cached_property
    def columns(self) -> Columns:
        """The matrix by columns (exact)."""
        transposed = self.matrix.T.tocsr()
        return Columns(transposed, abs(transposed), np.diff(transposed.indptr))

    def require_numbers(self) -> None:
        """Raises `BadInput` for a NaN anywhere, or an infinite cost or coefficient."""
        finite = (("a cost", self.cost), ("a coefficient", self.matrix.data), ("the offset", self.offset))
        for what, numbers in finite:
            if not np.isfinite(numbers).all():
                raise BadInput(f"{what} of the linear model is not a finite number; look for NaN in weights or rows.")
        for what, numbers in (
            ("a variable", np.append(self.lower, self.upper)),
            ("a row", np.append(self.row_lower, self.row_upper)),
        ):
            if np.isnan(numbers).any():
                raise BadInput(f"a bound on {what} of the linear model is NaN; look for NaN in bounds or offsets.")

    def with_objective(self, cost: Array, offset: float = 0.0) -> LinearModel:
        """The same constraints under another objective."""
        return self._sharing(replace(self, cost=cost, offset=offset))

    def with_bounds(self, lower: Array, upper: Array) -> LinearModel:
        """The same rows and objective over another box of variables."""
        return self._sharing(replace(self, lower=lower, upper=upper))

    def with_sides(self, row_lower: Array, row_upper: Array) -> LinearModel:
        """The same matrix, box and objective with other sides of the rows."""
        return self._sharing(replace(self, row_lower=row_lower, row_upper=row_upper))

    def with_rows(self, matrix: csr_array, row_lower: Array, row_upper: Array) -> LinearModel:
        """The model with further rows after its own."""
        from scipy.sparse import csr_array as sparse
        from scipy.sparse import vstack

        return replace(
            self,
            matrix=sparse(vstack([self.matrix, matrix], format="csr")),
            row_lower=np.append(self.row_lower, row_lower),
            row_upper=np.append(self.row_upper, row_upper),
        )

    def _sharing(self, other: LinearModel) -> LinearModel:
        """`other`, which has this model's matrix, with what was computed of it."""
        if "columns" in self.__dict__:
            other.__dict__["columns"] = self.columns
        return other

    def relaxed(self) -> LinearModel:
        """The model without integrality."""
        return replace(self, integer=None)

    def safe_bound(self, dual: Array) -> float:  # (R,)
        """A lower bound of the objective over the model from any vector; outward rounded, -inf if it proves nothing.

        Entries that point at an open side of their row are taken as zero. Every variable should be bounded: an
        unbounded one gives -inf unless its reduced cost is exactly zero.
        """
        return self._weak_duality(self.cost, self.offset, dual)

    def safe_infeasible(self, ray: Array) -> bool:  # (R,)
        """Whether the vector proves that no point is feasible (Farkas); outward rounded."""
        scale = np.abs(ray).max(initial=0.0)
        return bool(scale > 0) and self._weak_duality(np.zeros_like(self.cost), 0.0, ray / scale) > 0

    def violation(self, x: Array) -> float:
        """Largest violation of a row or a bound at x (plain float64)."""
        rows = self.matrix @ x
        parts = (self.row_lower - rows, rows - self.row_upper, self.lower - x, x - self.upper)
        return max(float(part.max(initial=0.0)) for part in parts)

    def _weak_duality(self, cost: Array, offset: float, dual: Array) -> float:
        y = np.nan_to_num(np.asarray(dual, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        side = np.where(y > 0, self.row_lower, self.row_upper)
        y = np.where(np.isfinite(side), y, 0.0)
        side = np.where(y != 0, side, 0.0)
        transposed, absolute, entries = self.columns
        reduced = cost - transposed @ y
        terms = entries + 3
        doubt = terms * (2 * UNIT) * (np.abs(cost) + absolute @ np.abs(y)) + _TINY
        doubt = np.where(terms == 3, 0.0, doubt)  # a variable in no row: its reduced cost is its cost
        end = np.where(reduced > 0, self.lower, self.upper)
        reach = np.maximum(np.abs(self.lower), np.abs(self.upper))
        with np.errstate(invalid="ignore", over="ignore"):
            gains = np.concatenate([y * side, np.where(reduced == 0, 0.0, reduced * end), [offset]])
            losses = np.where(doubt == 0, 0.0, doubt * reach)
        if not (np.isfinite(gains).all() and np.isfinite(losses).all()):
            return -math.inf
        try:
            # Products lose one unit roundoff each; twice that also covers this sum of absolute values.
            lost = math.fsum(losses) * (1 + 4 * UNIT) + 2 * UNIT * math.fsum(np.abs(gains)) + len(gains) * _TINY
            return math.nextafter(math.fsum(gains) - math.nextafter(lost, math.inf), -math.inf)
        except OverflowError:  # the sum, or what it passes through, is beyond float64
            return -math.inf


_TINY = float(np.finfo(np.float64).tiny)
