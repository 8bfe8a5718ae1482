"""A cell of a table as people read it."""

from __future__ import annotations

import math
from typing import Any


def shown(cell: Any) -> str:
    """A cell as text: nothing for None, yes or no, thousands apart, floats as `number` writes them."""
    if hasattr(cell, "item"):  # a number of numpy or torch
        cell = cell.item()
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    return number(cell) if isinstance(cell, float) else str(cell)


def number(x: float) -> str:
    """Four significant digits."""
    if not math.isfinite(x):
        return "inf" if x > 0 else "-inf" if x < 0 else "nan"
    if x == 0:
        return "0"
    if abs(x) >= 1e5 or abs(x) < 1e-4:
        return f"{x:.2e}"
    text = f"{x:,.{max(0, 3 - math.floor(math.log10(abs(x))))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
