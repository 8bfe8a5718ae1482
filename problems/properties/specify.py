"""Properties from numbers in Python: boxes with unsafe rows, and robustness around a point.

A certificate over an empty set is true and worthless, and usually a slip (a radius with the wrong sign, a range that
misses the centre, pixels of 0 to 255 clipped to 0 to 1). So an empty set is refused unless `allow_empty` asks for it,
and so is what only looks like a number: True is no label, "1" neither.

Soundness: exact for boxes, outward rounded for centre and radius (see `robustness_property`).
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from .property import Array, Case, Polytope, Property, UnsafeSet

EXACT_WHOLE = 2**53  # beyond it float64 does not hold every whole number


def box_property(
    lower: Array, upper: Array, rows: Array, constants: Array, name: str = "", *, allow_empty: bool = False
) -> Property:
    """No input in the box may have an output y with rows y + constants <= 0 in every row.

    `lower`, `upper`: (n_in,). `rows`: (R, n_out) with `constants` (R,), one unsafe polyhedron; or (U, R, n_out) with
    (U, R), a union of U of them. Raises `BadInput` for shapes that do not fit, what is no finite number, and an empty
    box, unless `allow_empty`.
    """
    lower, upper = numbers("lower", lower).reshape(-1), numbers("upper", upper).reshape(-1)
    rows, constants = numbers("rows", rows), numbers("constants", constants)
    if rows.ndim == 2:
        rows, constants = rows[None], constants[None]
    if len(lower) != len(upper) or rows.ndim != 3 or constants.shape != rows.shape[:2]:
        raise BadInput(
            f"lower {lower.shape}, upper {upper.shape}, rows {rows.shape} and constants {constants.shape} do not fit: "
            "they are (n_in,), (n_in,), (R, n_out) and (R,)"
        )
    for what, part in (("lower", lower), ("upper", upper), ("rows", rows), ("constants", constants)):
        if not np.isfinite(part).all():
            raise BadInput(f"{what} must be finite numbers; entry {_first(~np.isfinite(part))} is {_worst(part)}")
    crossed = lower > upper
    if crossed.any() and not allow_empty:
        i = _first(crossed)
        raise BadInput(
            f"the box is empty: input {i} is at least {lower[i]:.17g} and at most {upper[i]:.17g}; "
            "where that is meant, say allow_empty=True"
        )
    unsafe = tuple(UnsafeSet(r, c) for r, c in zip(rows, constants, strict=True))
    return Property((Case(Polytope(lower, upper), unsafe),), len(lower), rows.shape[2], name)


def robustness_property(
    center: Array,
    radius: float | Array,
    label: int,
    classes: int,
    clip: tuple[float, float] | None = None,
    norm: float | str = math.inf,
    *,
    allow_empty: bool = False,
) -> Property:
    """No input within `radius` of `center`, coordinate by coordinate, may score another class as high as `label`.

    `center`: any shape, flattened in row-major order. `radius`: a number, or one for each coordinate. `label`: a whole
    number from 0 to `classes` - 1. `clip`: the range that inputs are confined to, two numbers or two arrays; the box is
    cut with it. `norm`: inf, the only one that is supported.

    The set is {x : center - radius <= x <= center + radius}, centre and radius being the float64 numbers they are.
    Where a sum is no float64 number the bound is the next one outwards, so the box that is verified contains that set,
    by less than a unit in the last place of its bounds. Raises `BadInput` for what does not fit, and for an empty set
    unless `allow_empty`.
    """
    center = numbers("center", center).reshape(-1)
    _finite("center", center)
    radius = np.broadcast_to(_sized("radius", radius, len(center)), center.shape)
    _finite("radius", radius)
    if (radius < 0).any():
        raise BadInput(f"the radius must not be negative, and is {radius[_first(radius < 0)]:g}")
    if not _is_inf(norm):
        raise BadInput(
            f"norm must be inf, the largest distance of a coordinate, not {norm!r}; others are not supported"
        )
    label, classes = whole("label", label), whole("classes", classes)
    if classes < 2:
        raise BadInput(f"classes must be at least 2, not {classes}: with fewer there is no other class to be taken for")
    if not 0 <= label < classes:
        raise BadInput(f"label {label} is not one of {classes} classes, which are numbered from 0 on")
    lower, upper = _outward(center, radius)
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise BadInput("center and radius are too large: their sum exceeds float64")
    if clip is not None:
        low, high = _range(clip, len(center))
        lower, upper = np.maximum(lower, low), np.minimum(upper, high)
        empty = lower > upper
        if empty.any() and not allow_empty:
            i = _first(empty)
            raise BadInput(
                f"the set is empty: at input {i} the center {center[i]:g} is further than the radius {radius[i]:g} "
                f"from the clip range [{low[i]:g}, {high[i]:g}]; are they in the same units? (allow_empty=True lets it "
                "pass)"
            )
    others = np.delete(np.eye(classes), label, axis=0)
    rows = np.eye(classes)[label] - others  # y_label - y_other <= 0 is unsafe
    said = f"{radius.max(initial=0):g}"
    name = f"label {label} within {said}"
    return box_property(lower, upper, rows[:, None], np.zeros((classes - 1, 1)), name, allow_empty=allow_empty)


def numbers(what: str, value: Any) -> Array:
    """`value` as an array of float64; `BadInput` where it holds anything but numbers that float64 can hold."""
    try:
        given = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"{what} must be an array of numbers: {str(error).splitlines()[0]}") from None
    if given.dtype.kind not in "fiu" or given.dtype.itemsize > 8:
        raise BadInput(f"{what} must be an array of numbers, not of {given.dtype.name}")
    if given.dtype.kind in "iu" and given.size and max(int(given.max()), -int(given.min())) > EXACT_WHOLE:
        raise BadInput(f"{what} holds whole numbers beyond 2^53, which float64 cannot tell apart")
    return given.astype(np.float64)


def whole(what: str, value: Any) -> int:
    """`value` as an int: whole numbers of Python, NumPy and PyTorch; `BadInput` for booleans, floats, texts."""
    try:
        if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise BadInput(
            f"{what} must be a whole number, not {value!r}, which is of type {type(value).__name__}"
        ) from None


def _outward(center: Array, radius: Array) -> tuple[Array, Array]:
    """center - radius and center + radius, each the next float64 outwards where it is none itself."""
    bounds = []
    with np.errstate(over="ignore", invalid="ignore"):
        for step, way in ((-radius, -np.inf), (radius, np.inf)):
            total = center + step
            back = total - center  # TwoSum (Knuth 1969): total + rest = center + step exactly
            rest = (center - (total - back)) + (step - back)
            bounds.append(np.where(rest * way > 0, np.nextafter(total, way), total))
    return bounds[0], bounds[1]


def _range(clip: Any, size: int) -> tuple[Array, Array]:
    """The two ends of a clip range, (n_in,) each."""
    try:
        low, high = clip
    except (TypeError, ValueError):
        raise BadInput(f"clip must be a pair (low, high), not {clip!r}") from None
    low, high = (np.broadcast_to(_sized("clip", side, size), (size,)) for side in (low, high))
    if np.isnan(low).any() or np.isnan(high).any():
        raise BadInput("clip must be a pair of numbers, and NaN is none")
    if (low > high).any():
        i = _first(low > high)
        raise BadInput(f"clip must be (low, high), and {low[i]:g} is greater than {high[i]:g}")
    return low, high


def _sized(what: str, value: Any, size: int) -> Array:
    """A number, or one for each coordinate."""
    given = numbers(what, value)
    if given.ndim and given.size != size:
        raise BadInput(f"{what} must be a number or one for each of {size} coordinates, not {given.size} numbers")
    return given if given.ndim == 0 else given.reshape(-1)


def _finite(what: str, values: Array) -> None:
    if not np.isfinite(values).all():
        raise BadInput(f"{what} must be finite numbers; entry {_first(~np.isfinite(values))} is {_worst(values)}")


def _is_inf(norm: Any) -> bool:
    return not isinstance(norm, bool) and (
        norm == "inf" or (isinstance(norm, float | np.floating) and norm == math.inf)
    )


def _first(where: NDArray[np.bool_]) -> int:
    return int(np.flatnonzero(where)[0])


def _worst(values: Array) -> float:
    return float(values.reshape(-1)[_first(~np.isfinite(values))])
