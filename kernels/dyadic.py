"""Float64 numbers as what they are: whole numbers over a power of two. Soundness: exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.object_]  # Python's integers


@dataclass(frozen=True, eq=False)
class Dyadic:
    """whole / 2^shift, entry by entry."""

    whole: Whole
    shift: int


def dyadic(numbers: NDArray[np.float64]) -> Dyadic:
    """Float64 numbers as whole numbers over one power of two. Raises `OverflowError` for infinite ones."""
    ratios = [float(a).as_integer_ratio() for a in np.ravel(numbers)]
    shift = max((below.bit_length() - 1 for _, below in ratios), default=0)
    whole = np.array([above << (shift - below.bit_length() + 1) for above, below in ratios], dtype=object)
    return Dyadic(whole.reshape(np.shape(numbers)), shift)
