"""What a run knows while it is under way: for the sentence that ends it when its time is up.

An observer like any other, and the stage that the work writes to (`kernels.deadline`). It may be asked from another
thread, such as the guard of the time limit or the one that a signal wakes: then numbers may be a step old. That one
also ends a search gently: what it writes to `wish` is the reason with which the search ends after its step.

Importing this file is cheap, so that there is something to ask before PyTorch is there.
"""

from __future__ import annotations

from math import inf, isfinite
from typing import TYPE_CHECKING

from ...kernels.deadline import Stage
from .observer import Observer
from .verdict import Verdict

if TYPE_CHECKING:
    from torch import Tensor

    from .outcome import Outcome
    from .state import State


class Known(Observer):
    """`with staged(known.stage)` around the run, and `known` among its observers."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.state: State | None = None
        self.wish = ""
        self.goals: tuple[int, int, float] | None = None  # all, closed by the root, the worst bound of the others
        self.final: Outcome | None = None  # nothing is left to find out: the search gave this

    def wished(self) -> str:
        return self.wish

    def bounded(self, bounds: Tensor, closed: Tensor) -> None:
        left = bounds[~closed]
        self.goals = len(bounds), len(bounds) - len(left), float(left.min()) if len(left) else inf

    def finished(self, outcome: Outcome, state: State | None) -> None:
        self.final = outcome

    def progress(self, mark: str, state: State) -> None:
        self.state = state

    @property
    def pieces(self) -> int:
        """Pieces bounded so far."""
        return 0 if self.state is None else self.state.pieces

    def stats(self) -> dict[str, float | int | str]:
        """As in `Outcome.stats`, as far as there are any."""
        found: dict[str, float | int | str] = {"stage": self.stage.text}
        if self.goals is not None:
            found |= dict(zip(("goals", "goals closed at the root", "worst"), self.goals, strict=True))
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
        if self.state is not None:
            return f"{said}; {progress(self.state)}"
        if self.goals is None:
            return said
        count, closed, worst = self.goals
        said += f"; {closed} of {count} goals closed"
        return said + (f", the worst bound of the others is {worst:.4g}" if isfinite(worst) else "")

    def outcome(
        self, seconds: float, verdict: Verdict = Verdict.TIMEOUT, why: str = "the time limit passed"
    ) -> Outcome:
        """How a run ends whose time was up in the middle of something, `seconds` after it began; or what else ended
        it."""
        from .outcome import Outcome

        return Outcome(verdict, f"{why} {self.sentence()}", None, self.pieces, seconds, self.stats())


def progress(state: State) -> str:
    """How far a search is, in words."""
    said = f"{state.pieces} pieces bounded, {state.leaves} closed, {state.open} open"
    try:
        worst = float(state.frontier.worst)
    except (RuntimeError, IndexError, KeyError, ValueError):  # asked from another thread while the frontier changes
        return said
    return said + (f", the worst at {worst:.4g}" if isfinite(worst) else "")
