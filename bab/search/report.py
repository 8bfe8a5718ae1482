"""Report lines on standard error, in the manner of CaDiCaL: one character for what happened, then one table.

    r  root bounded      b  branching      a  attack      m  batch halved for memory      1 0 ?  verdict

Columns are described once, in `COLUMNS`; the header repeats every twenty lines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from .observer import Observer
from .state import State, resident_bytes
from .verdict import Verdict

if TYPE_CHECKING:
    from .outcome import Outcome

COLUMNS: tuple[tuple[str, int, Callable[[State], str]], ...] = (
    ("seconds", 8, lambda s: f"{s.elapsed:.2f}"),
    ("pieces", 9, lambda s: str(s.pieces)),
    ("open", 8, lambda s: str(s.open)),
    ("closed%", 8, lambda s: f"{100 * s.weight:.3f}"),
    ("worst", 11, lambda s: f"{s.frontier.worst:.4g}" if len(s.frontier) else "-"),
    ("depth", 6, lambda s: str(s.depth)),
    ("batch", 6, lambda s: str(s.batch)),
    ("MB", 6, lambda s: str(resident_bytes() >> 20)),
)
MARKS = {Verdict.HOLDS: "1", Verdict.VIOLATED: "0"}
REPEAT = 20


class Report(Observer):
    """Writes to `stream`."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.lines = stream, 0

    def started(self, strategy: str) -> None:
        self._say(f"c {strategy}")

    def progress(self, mark: str, state: State) -> None:
        if self.lines % REPEAT == 0:
            self._say("c   " + "".join(name.rjust(width) for name, width, _ in COLUMNS))
        self.lines += 1
        self._say(f"c {mark} " + "".join(value(state).rjust(width) for _, width, value in COLUMNS))

    def finished(self, outcome: Outcome, state: State | None) -> None:
        if state is None:
            return
        self.progress(MARKS.get(outcome.verdict, "?"), state)
        spent = ", ".join(
            f"{what} {seconds:.2f} s ({100 * seconds / max(state.elapsed, 1e-9):.0f} %)"
            for what, seconds in sorted(state.seconds.items(), key=lambda item: -item[1])
        )
        rate = state.pieces / max(state.elapsed, 1e-9)
        self._say(f"c {state.pieces} pieces ({rate:.0f} per s), {state.leaves} leaves, of them {state.confirmed} by")
        self._say(f"c float64 and {state.settled} by a linear program; {spent}")
        for name, said in outcome.stats.items():
            if name.startswith(("by ", "note ")):
                self._say(f"c {name}: {said}")

    def _say(self, line: str) -> None:
        self.stream.write(line + "\n")
        self.stream.flush()
