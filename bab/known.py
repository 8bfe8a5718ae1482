"""What a run knows while it is under way: for the sentence that ends it when its time is up.

An observer like any other, and the stage that the work writes to (`kernels.deadline`). It may be asked from another
thread, such as the guard of the time limit: then numbers may be a step old.
"""

from __future__ import annotations

from math import isfinite

from ..kernels.deadline import Stage
from .observer import Observer
from .outcome import Outcome
from .state import State


class Known(Observer):
    """`with staged(known.stage)` around the run, and `known` among its observers."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.state: State | None = None

    def progress(self, mark: str, state: State) -> None:
        self.state = state

    @property
    def pieces(self) -> int:
        """Pieces bounded so far."""
        return 0 if self.state is None else self.state.pieces

    def stats(self) -> dict[str, float | int | str]:
        """As in `Outcome.stats`, as far as there are any."""
        found: dict[str, float | int | str] = {"stage": self.stage.text}
        state = self.state
        if state is None:
            return found
        found |= {"leaves": state.leaves, "depth": state.depth, "open": state.open}
        try:
            return found | {"worst": float(state.frontier.worst)}
        except (RuntimeError, IndexError, KeyError, ValueError):  # the frontier is changing just now
            return found

    def sentence(self) -> str:
        """What the run was at and what is proved, for a reason: 'while ...'."""
        said = f"while {self.stage.text}"
        return said if self.state is None else f"{said}; {progress(self.state)}"

    def outcome(self, seconds: float) -> Outcome:
        """How a run ends whose time was up in the middle of something, `seconds` after it began."""
        return Outcome("timeout", f"the time limit passed {self.sentence()}", None, self.pieces, seconds, self.stats())


def progress(state: State) -> str:
    """How far a search is, in words."""
    said = f"{state.pieces} pieces bounded, {state.leaves} closed, {state.open} open"
    try:
        worst = float(state.frontier.worst)
    except (RuntimeError, IndexError, KeyError, ValueError):  # asked from another thread while the frontier changes
        return said
    return said + (f", the worst at {worst:.4g}" if isfinite(worst) else "")
