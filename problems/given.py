"""What a caller of the Python API gives as a time or a path, as what it is; `BadInput` where it is neither.

Soundness: none needed.
"""

from __future__ import annotations

import math
import os
from numbers import Real
from pathlib import Path
from typing import Any

from .errors import BadInput


def is_number(value: object) -> bool:
    """Whether it is a real number; a truth value is none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def seconds(what: str, value: Any, least: float | None = None) -> float | None:
    """A time limit: a positive number of seconds (or one of at least `least`), or None for no limit."""
    if value is None:
        return None
    try:
        found = float(value) if is_number(value) else math.nan
    except OverflowError:
        raise BadInput(f"{what} is too large to be a number of seconds; take None for no limit") from None
    if not (found > 0 if least is None else found >= least):
        kind = "a positive number of seconds" if least is None else f"a number of seconds of at least {least:g}"
        raise BadInput(f"{what} must be {kind}, or None, not {value!r}")
    return found


def path_of(what: str, value: Any) -> Path:
    """The path of a file or a folder."""
    if not isinstance(value, str | os.PathLike):
        raise BadInput(f"{what} must be a path, not {value!r}")
    path = Path(value)
    if "\0" in str(path):
        raise BadInput(f"{what} must be a path, and {str(path)!r} has a NUL character in it")
    return path
