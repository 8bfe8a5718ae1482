"""A crash in one line, as reports keep it: no path of the machine that it happened on."""

from __future__ import annotations

import traceback
from pathlib import Path

FRAMES = 3  # the last ones


def crash(error: BaseException) -> str:
    """The exception, its message, and where it was raised: file, line and function, the innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    return f"crash: {type(error).__name__}: {error} ({places})"
