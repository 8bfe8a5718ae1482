"""When to do what: the predicates of the engine's loop.

The attack gets a quick turn before anything is bounded, then turns whose cost is kept below a share of the time spent
so far: counterexamples are common where bounds stay bad, and cheap to look for. Report lines come at the start, at
growing intervals and at events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..effort import ATTACK, AttackEffort
from .state import State
from .verdict import TIME_IS_UP, Cause, End, Verdict

FIRST_REPORT, REPORT_GROWTH, LONGEST = 1.0, 1.4, 10.0


@dataclass(eq=False)
class Schedule:
    """Owned by one run."""

    attack_on: bool
    max_pieces: int | None
    effort: AttackEffort = ATTACK
    margin: float = 0.05  # seconds before the deadline at which the search stops
    next_report: float = FIRST_REPORT
    interval: float = FIRST_REPORT
    slowest: float = 0.0  # the longest step so far
    derivation: float = 0.0  # seconds that the last derivation of better bounds took
    end: End | None = None  # why the search is over
    wish: Callable[[], str] = lambda: ""  # a reason to end, from outside
    attacked_at: int = -1  # how many pieces there were when the attack had its last turn

    @property
    def reason(self) -> str:
        """Why the search is over, in words; empty while it goes on."""
        return "" if self.end is None else self.end.sentence

    @property
    def verdict(self) -> Verdict:
        """What can be said of a search that ended without an answer."""
        return Verdict.UNKNOWN if self.end is None else self.end.verdict

    def exhausted(self, state: State) -> bool:
        """Whether a limit has been reached; `end` then says which."""
        if self.end is None and (wish := self.wish()):
            self.end = End(Cause.WISH, wish)
        if self.end is not None:
            return True
        if state.left < self.margin + min(1.2 * self.slowest, max(2.0, 0.05 * state.limit)):
            self.end = TIME_IS_UP
        elif self.max_pieces is not None and state.pieces >= self.max_pieces:
            self.end = End(Cause.PIECES, f"the limit of {self.max_pieces} pieces was reached")
        return self.end is not None

    def reporting(self, state: State) -> bool:
        """Time for a progress line."""
        if state.elapsed < self.next_report:
            return False
        self.interval = min(self.interval * REPORT_GROWTH, LONGEST)
        self.next_report = state.elapsed + self.interval
        return True

    def attacking(self, state: State) -> bool:
        """Time for another turn of the attack."""
        # At least one step of the search between two turns: a turn that costs nothing would be followed by another.
        if not self.attack_on or state.pieces == self.attacked_at:
            return False
        # The next turn has twice the budget of the last one.
        expected = state.seconds.get("attack", 0.0) + 2 * state.last_attack
        return expected < self.effort.share * state.elapsed

    def tightening(self, state: State) -> bool:
        """Whether a derivation of better bounds would end in time."""
        return state.left > 2 * self.derivation
