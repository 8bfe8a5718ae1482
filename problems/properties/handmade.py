"""Polytopes and properties that a caller made by hand, as arrays of float64 that fit the network.

`BadInput` where they do not fit, or hold what is no number. Soundness: exact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import BadInput
from .property import Array, Case, Polytope, Property, UnsafeSet
from .specify import numbers


def polytope_of(given: Polytope, size: int, what: str = "the input set") -> Polytope:
    """The polytope with arrays of float64 that fit `size` inputs. Bounds may be infinite, nothing is NaN."""
    lower, upper = (_vector(f"{side} of {what}", getattr(given, side)) for side in ("lower", "upper"))
    if len(lower) != size or len(upper) != size:
        raise BadInput(
            f"{what} has {len(lower)} lower and {len(upper)} upper bounds, but the network has {size} inputs"
        )
    normals, offsets = numbers(f"normals of {what}", given.normals), _vector(f"offsets of {what}", given.offsets)
    if normals.shape != (len(offsets), size):
        raise BadInput(
            f"{what} has half-spaces of shapes {normals.shape} and {offsets.shape}, which do not fit {size} inputs: "
            f"normals are (H, {size}) and offsets (H,)"
        )
    if np.isnan(lower).any() or np.isnan(upper).any() or not (_finite(normals) and _finite(offsets)):
        raise BadInput(f"{what} must be made of numbers, half-spaces of finite ones, and holds NaN or infinity")
    own = (given.lower, given.upper, given.normals, given.offsets)
    if all(isinstance(a, np.ndarray) and a.dtype == np.float64 for a in own):
        return given
    return replace(given, lower=lower, upper=upper, normals=normals, offsets=offsets)


def property_of(given: Property, n_in: int, n_out: int) -> Property:
    """The property with arrays of float64 that fit a network of so many inputs and outputs."""
    if (given.n_in, given.n_out) != (n_in, n_out):
        raise BadInput(
            f"the property speaks of {given.n_in} inputs and {given.n_out} outputs, but the network has "
            f"{n_in} and {n_out}"
        )
    return replace(given, cases=tuple(_case(case, k, n_in, n_out) for k, case in enumerate(given.cases)))


def _case(given: Case, k: int, n_in: int, n_out: int) -> Case:
    inputs = polytope_of(given.inputs, n_in, f"the input set of case {k}")
    if not (_finite(inputs.lower) and _finite(inputs.upper)):
        raise BadInput(f"the input set of case {k} has an input without bounds; every input needs both")
    return Case(
        inputs, tuple(_unsafe(one, f"unsafe set {u} of case {k}", n_in, n_out) for u, one in enumerate(given.unsafe))
    )


def _unsafe(given: UnsafeSet, what: str, n_in: int, n_out: int) -> UnsafeSet:
    rows, constants = numbers(f"rows of {what}", given.rows), _vector(f"constants of {what}", given.constants)
    on_input = None if given.on_input is None else numbers(f"on_input of {what}", given.on_input)
    count = len(constants)
    if rows.shape != (count, n_out) or (on_input is not None and on_input.shape != (count, n_in)):
        shapes = ", ".join(str(a.shape) for a in (rows, constants, on_input) if a is not None)
        raise BadInput(
            f"{what} has the shapes {shapes}; rows are (R, {n_out}), constants (R,) and on_input, if any, (R, {n_in})"
        )
    if not all(_finite(a) for a in (rows, constants, on_input) if a is not None):
        raise BadInput(f"{what} must be made of finite numbers, and holds NaN or infinity")
    return replace(given, rows=rows, constants=constants, on_input=on_input)


def _vector(what: str, value: Any) -> Array:  # (n,)
    found = numbers(what, value)
    if found.ndim != 1:
        raise BadInput(f"{what} must be one-dimensional, not of shape {found.shape}")
    return found


def _finite(a: Array) -> bool:
    return bool(np.isfinite(a).all())
