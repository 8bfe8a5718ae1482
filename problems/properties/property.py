"""What is to be verified: input sets and, for each, the outputs that must not occur.

A `Property` is a union of cases. A case is a convex input polytope (box and half-spaces) and a disjunction of output
polyhedra, the unsafe set. The property *holds* (`unsat`) when no point of any case's polytope is mapped into one of
its polyhedra, and is *violated* (`sat`) when one is. Both VNN-LIB versions are brought to this form by `vnnlib`.

Constraints that speak of inputs and outputs at once are kept in the polyhedron as well: its rows may have
coefficients on x (`on_input`), or None where none do, which is nearly always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .rational import ExactSet, Numbers, Row, distance, rows_of

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Polytope:
    """{x : lower <= x <= upper, normals x <= offsets}, float64.

    With `exact` the set is that one, and the arrays describe a closed set that contains it: bounds and offsets are
    rounded outward. Without, the arrays are the set.
    """

    lower: Array  # (D,)
    upper: Array  # (D,)
    normals: Array = field(default_factory=lambda: np.zeros((0, 0)))  # (H, D)
    offsets: Array = field(default_factory=lambda: np.zeros(0))  # (H,)
    exact: ExactSet | None = None  # rows in the order of `normals`

    def __post_init__(self) -> None:
        if self.normals is None or not len(self.normals):  # None, as callers without types may say
            object.__setattr__(self, "normals", np.zeros((0, len(self.lower))))
            object.__setattr__(self, "offsets", np.zeros(0))

    @property
    def size(self) -> int:
        return len(self.lower)

    @cached_property
    def empty(self) -> bool:
        """Some input's bounds exclude each other, strictness counted (half-spaces are not looked at)."""
        if (self.lower > self.upper).any():
            return True
        return self.exact is not None and self.exact.empty_side() is not None

    def holds(self, x: Sequence[Fraction]) -> bool:  # (D,)
        """Whether the rational point is in the set; exact, strict borders excluded."""
        return self.meaning.holds(x)

    @cached_property
    def meaning(self) -> ExactSet:
        """The set in rational numbers."""
        if self.exact is not None:
            return self.exact
        return ExactSet(Numbers(self.lower), Numbers(self.upper), rows=rows_of(self.normals, -self.offsets))

    def contains(self, x: Array, tolerance: float = 0.0) -> bool:
        """Whether x satisfies every constraint within `tolerance`."""
        in_box = (x >= self.lower - tolerance).all() and (x <= self.upper + tolerance).all()
        return bool(in_box and (self.normals @ x <= self.offsets + tolerance).all())


@dataclass(frozen=True, eq=False)
class UnsafeSet:
    """{y : rows y + constants <= 0}, every row; with `on_input`, rows y + on_input x + constants <= 0.

    With `exact` the set is that one, row by row, and the arrays hold the nearest float64 numbers: whoever proves
    something with them charges `lost`. Rows may be strict.
    """

    rows: Array  # (R, n_out)
    constants: Array  # (R,)
    on_input: Array | None = None  # (R, D)
    exact: tuple[Row, ...] | None = None

    def margin(self, y: Array, x: Array | None = None) -> float:
        """Largest left-hand side at y: the point is unsafe where this is <= 0."""
        values = self._values(y, x)
        return float(values.max()) if len(values) else -np.inf

    def reached(self, y: Array, x: Array | None = None) -> bool:
        """Whether the point is unsafe as float64 computes it, strict rows strictly."""
        values = self._values(y, x)
        return bool(np.where(self.strict, values < 0, values <= 0).all())

    def _values(self, y: Array, x: Array | None) -> Array:
        values = self.rows @ y + self.constants
        if self.on_input is None:
            return values
        assert x is not None, "rows that name inputs need the input"
        return values + self.on_input @ x

    @cached_property
    def strict(self) -> NDArray[np.bool_]:  # (R,)
        """Which rows are < 0 instead of <= 0."""
        if self.exact is None:
            return np.zeros(len(self.rows), dtype=bool)
        return np.array([row.strict for row in self.exact], dtype=bool)

    @cached_property
    def meaning(self) -> tuple[Row, ...]:
        """The rows in rational numbers."""
        return rows_of(self.rows, self.constants, self.on_input) if self.exact is None else self.exact

    def holds(self, x: Sequence[Fraction], y: Sequence[Fraction]) -> bool:  # (D,), (n_out,)
        """Whether the input with the output y is unsafe; exact, strict rows strictly."""
        return all(row.holds(y, x) for row in self.meaning)

    @cached_property
    def lost(self) -> Lost | None:
        """How far the float64 arrays are from the exact rows; None where they are the same."""
        if self.exact is None:
            return None
        rows, constants = np.zeros_like(self.rows), np.zeros_like(self.constants)
        on_input = None if self.on_input is None else np.zeros_like(self.on_input)
        for r, row in enumerate(self.exact):
            constants[r] = distance(row.constant, self.constants[r])
            for i, a in row.terms.items():
                rows[r, i] = distance(a, self.rows[r, i])
            for i, a in row.on_input.items():
                assert on_input is not None and self.on_input is not None, (
                    "the arrays name the inputs that the exact rows name"
                )
                on_input[r, i] = distance(a, self.on_input[r, i])
        parts = (rows, constants) if on_input is None else (rows, constants, on_input)
        return Lost(rows, constants, on_input) if any(part.any() for part in parts) else None


@dataclass(frozen=True, eq=False)
class Lost:
    """|exact - float64|, rounded up, for each number of an unsafe set."""

    rows: Array  # (R, n_out)
    constants: Array  # (R,)
    on_input: Array | None  # (R, D)

    def most(self, inputs: Array, outputs: Array) -> Array:  # (D,), (n_out,) -> (R,)
        """How far each row's value can be off where |x| <= inputs and |y| <= outputs; rounded up."""
        off, rounded = self.rows @ outputs + self.constants, self.rows.any(1) | (self.constants > 0)
        if self.on_input is not None:
            off, rounded = off + self.on_input @ inputs, rounded | self.on_input.any(1)
        terms = self.rows.shape[1] + (0 if self.on_input is None else self.on_input.shape[1]) + 2
        return np.where(rounded, off * (1 + 4 * terms * np.finfo(float).eps) + np.finfo(float).tiny, 0.0)


@dataclass(frozen=True, eq=False)
class Case:
    """One convex input set with the union of polyhedra its outputs must avoid."""

    inputs: Polytope
    unsafe: tuple[UnsafeSet, ...]


@dataclass(frozen=True)
class TensorDeclaration:
    """A tensor as a VNN-LIB 2.0 file names it."""

    name: str
    element_type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Declaration:
    """The network that a VNN-LIB 2.0 file declares; witnesses are written in its terms."""

    network: str
    input: TensorDeclaration
    output: TensorDeclaration


@dataclass(frozen=True, eq=False)
class Property:
    """A union of cases over networks with `n_in` inputs and `n_out` outputs.

    No case at all means that no input satisfies the constraints: the property holds.
    """

    cases: tuple[Case, ...]
    n_in: int
    n_out: int
    name: str = ""
    declaration: Declaration | None = None

    def violated_by(self, x: Array, y: Array, tolerance: float = 0.0) -> bool:
        """Whether the input x with the output y is a counterexample."""
        return any(
            case.inputs.contains(x, tolerance) and any(unsafe.margin(y, x) <= tolerance for unsafe in case.unsafe)
            for case in self.cases
        )
