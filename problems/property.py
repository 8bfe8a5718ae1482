"""What is to be verified: input sets and, for each, the outputs that must not occur.

A `Property` is a union of cases. A case is a convex input polytope (box and half-spaces) and a disjunction of output
polyhedra, the unsafe set. The property *holds* (`unsat`) when no point of any case's polytope is mapped into one of
its polyhedra, and is *violated* (`sat`) when one is. Both VNN-LIB versions are brought to this form by `vnnlib`.

Constraints that speak of inputs and outputs at once are kept in the polyhedron as well: its rows may have
coefficients on x (`on_input`), or None where none do, which is nearly always.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Polytope:
    """{x : lower <= x <= upper, normals x <= offsets}, float64."""

    lower: Array  # (D,)
    upper: Array  # (D,)
    normals: Array = field(default=None)  # type: ignore[assignment]  # (H, D)
    offsets: Array = field(default=None)  # type: ignore[assignment]  # (H,)

    def __post_init__(self) -> None:
        if self.normals is None:
            object.__setattr__(self, "normals", np.zeros((0, len(self.lower))))
            object.__setattr__(self, "offsets", np.zeros(0))

    @property
    def size(self) -> int:
        return len(self.lower)

    @property
    def empty(self) -> bool:
        """Some lower bound exceeds its upper bound (half-spaces are not looked at)."""
        return bool((self.lower > self.upper).any())

    def contains(self, x: Array, tolerance: float = 0.0) -> bool:
        """Whether x satisfies every constraint within `tolerance`."""
        in_box = (x >= self.lower - tolerance).all() and (x <= self.upper + tolerance).all()
        return bool(in_box and (self.normals @ x <= self.offsets + tolerance).all())


@dataclass(frozen=True, eq=False)
class UnsafeSet:
    """{y : rows y + constants <= 0}, every row; with `on_input`, rows y + on_input x + constants <= 0."""

    rows: Array  # (R, n_out)
    constants: Array  # (R,)
    on_input: Array | None = None  # (R, D)

    def margin(self, y: Array, x: Array | None = None) -> float:
        """Largest left-hand side at y: the point is unsafe where this is <= 0."""
        values = self.rows @ y + self.constants
        if self.on_input is not None:
            values = values + self.on_input @ x
        return float(values.max()) if len(values) else -np.inf


@dataclass(frozen=True, eq=False)
class Case:
    """One convex input set with the union of polyhedra its outputs must avoid."""

    inputs: Polytope
    unsafe: tuple[UnsafeSet, ...]


@dataclass(frozen=True, eq=False)
class Property:
    """A union of cases over networks with `n_in` inputs and `n_out` outputs."""

    cases: tuple[Case, ...]
    n_in: int
    n_out: int
    name: str = ""

    def violated_by(self, x: Array, y: Array, tolerance: float = 0.0) -> bool:
        """Whether the input x with the output y is a counterexample."""
        return any(
            case.inputs.contains(x, tolerance) and any(unsafe.margin(y, x) <= tolerance for unsafe in case.unsafe)
            for case in self.cases
        )
