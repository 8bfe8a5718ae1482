"""Points at which an import is compared with onnxruntime: of a property's input sets, and in general. Heuristic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..properties.property import Array, Polytope, Property

# Where general points begin and how far they reach: images, normalised data, small data, large data.
SCALES = ((-1.0, 2.0), (0.0, 0.0), (0.0, 1.0), (-8.0, 16.0), (0.0, 0.05), (-1000.0, 2000.0))
CORNERS, INTERIOR = 3, 4


def general_points(n: int, seed: int = 0) -> Array:  # (6, n)
    """The origin, and random points of several scales."""
    source = np.random.default_rng(seed)
    low, width = (np.array(column)[:, None] for column in zip(*SCALES, strict=True))
    return low + width * source.random((len(SCALES), n))


def box_of(prop: Property) -> tuple[Array, Array] | None:
    """The smallest box around the property's input sets; None where it has none, or an unbounded one."""
    boxes = [case.inputs for case in prop.cases if not case.inputs.empty]
    if not boxes:
        return None
    lower, upper = np.min([box.lower for box in boxes], axis=0), np.max([box.upper for box in boxes], axis=0)
    return (lower, upper) if np.isfinite([lower, upper]).all() else None


def property_points(prop: Property, seed: int = 0) -> Array:  # (10 or 0, n)
    """Random points and corners of the input sets' boxes; the centre and two opposite corners of the property's box.

    A random point comes first: at others a network may be zero for reasons of its own.
    """
    box = box_of(prop)
    if box is None:
        return np.zeros((0, prop.n_in))
    source = np.random.default_rng(seed)
    lower, upper = box
    full = [case.inputs for case in prop.cases if not case.inputs.empty]
    inner = [_random(full, source, False) for _ in range(INTERIOR)]
    corners = [_random(full, source, True) for _ in range(CORNERS)]
    return np.stack([inner[0], lower / 2 + upper / 2, lower, upper, *corners, *inner[1:]])


def _random(boxes: list[Polytope], source: np.random.Generator, corner: bool) -> Array:  # (n,)
    inputs = boxes[source.integers(len(boxes))]
    share = source.random(inputs.size)
    share = share.round() if corner else share
    return inputs.lower * (1 - share) + inputs.upper * share
