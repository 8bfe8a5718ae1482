"""The answer of `verify`: given exactly once, on standard output, in the results file, in the summary.

The main thread, the guard of the time limit and the thread that signals wake may all want to give it; the first one
does. Whoever ends the run before its time takes what is known by then (`Known`), and the verdict, where the search had
given it already.

A place that cannot be written to takes nothing from the others: a sentence says so on the streams that are left, with
the verdict in it, and the exit code says it too (`streams.code_of`).
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from ..ending import streams
from ..ending.results import result_text, summary_text, write_atomically
from ..search import clock
from ..search.known import Known
from ..search.verdict import Verdict
from .arguments import say

if TYPE_CHECKING:
    from ...problems.properties.property import Property
    from ..logs.observer import PartitionLog
    from ..search.outcome import Outcome

STEP, CLOSING = 1.0, 3.0  # seconds that a search has to end after its step, and the log after the search


class Answer:
    """`known` is what the run tells; `property` and `log` are set once they are there."""

    def __init__(self, results: Path | None, summary: Path | None) -> None:
        self.results, self.summary = results, summary
        self.known = Known()
        self.property: Property | None = None
        self.log: PartitionLog | None = None
        self.given, self.over = threading.Lock(), threading.Event()

    def __call__(self, outcome: Outcome) -> int:
        """The answer of a run that ended by itself; the exit code."""
        text = outcome.verdict + "\n" if self.property is None else result_text(outcome, self.property)
        return self._give(outcome.verdict, outcome.reason, text, outcome.pieces, outcome.stats)

    def early(self, verdict: Verdict, why: str, code: int = 0) -> int:
        """Of one that did not; the exit code, which is `code` where that is not 0."""
        known = self.known
        reason = f"{why} {known.sentence()}" if not code else why
        given = self._give(verdict, reason, f"{verdict}\n", known.pieces, known.stats())
        return code or given

    # ---- for other threads

    def asked(self, why: str) -> float:
        """Asks the search to end; for how many seconds that is worth waiting for."""
        self.known.wish = why
        if self.given.locked() or self.known.final is not None:
            return CLOSING
        return STEP if self.known.state is not None else 0.0

    def and_exit(self, verdict: Verdict, why: str, code: int) -> None:
        """The answer, the end of the log and the end of the process, unless the main thread was first."""
        if not self.given.acquire(blocking=False):
            self.over.wait(CLOSING)
            return
        known, final = self.known, self.known.final
        reason, text = f"{why} {known.sentence()}", f"{verdict}\n"
        pieces, stats = known.pieces, known.stats()
        if final is not None and self.property is not None:
            verdict, reason, text = final.verdict, final.reason, result_text(final, self.property)
            pieces, stats = final.pieces, dict(final.stats)
        try:
            code = self._write(verdict, reason, text, pieces, stats) or code
            if self.log is not None:
                self.log.abandon(STEP)
        finally:
            os._exit(code)

    # ---- writing

    def _give(self, verdict: Verdict, reason: str, text: str, pieces: int, stats: dict) -> int:
        if not self.given.acquire(blocking=False):
            threading.Event().wait()  # another thread is ending the process
        try:
            return self._write(verdict, reason, text, pieces, stats)
        finally:
            self.over.set()

    def _write(self, verdict: Verdict, reason: str, text: str, pieces: int, stats: dict) -> int:
        """Everywhere where it is wanted; the exit code."""
        sys.stdout.write(text)
        error = streams.lost(sys.stdout)
        codes, seconds = [streams.code_of(error)], clock.age()
        unsaid = [] if error is None else [("standard output", error)]
        wanted = [(self.results, text), (self.summary, summary_text(verdict, reason, pieces, seconds, stats))]
        for path, content in wanted:
            if path is None or (content is text and streams.of_descriptor(path) == 1):
                continue  # /dev/stdout: it has just been written there
            try:
                write_atomically(path, content)
            except OSError as failed:
                codes.append(streams.code_of(failed) or streams.LOST)
                unsaid.append((str(path), failed))
        if reason:
            say(f"{verdict}: {reason}")
        for place, lost in unsaid:
            say(f"the verdict {verdict} could not be written to {place}: {lost.strerror or lost}")
        return max(codes)
