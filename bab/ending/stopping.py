"""SIGINT (Ctrl-C) and SIGTERM from the moment the command line is read: an end that says what is known.

Python runs its own handlers in the main thread alone, and only between two steps of the interpreter; a solver or the
import of PyTorch may hold it for seconds. So a thread waits for what the interpreter writes to a pipe when the signal
comes (`signal.set_wakeup_fd`, written by the C handler at once). What it does then is for the command to say:

- by default the main thread gets a `Stopped`, which is a KeyboardInterrupt, once; what does not end within `PATIENCE`
  is ended by the thread.
- `verify` wants no exception in the middle of its work (`heed`): the search is asked to end after its step, and where
  it does not, or where no search is going on, the thread gives the answer and ends the process.

A second signal ends the process without more patience. The exit code is 128 and the signal's number, as of a process
that the signal killed: 130 and 143. A signal that was ignored when the process began (`nohup`, `&`) stays ignored.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

PATIENCE = 5.0  # seconds that the main thread has to end by itself
LAST = 5.0  # seconds that the answer may take after that
SIGNALS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "stopped by SIGTERM"}


class Stopped(KeyboardInterrupt):
    """One of `SIGNALS` came."""


class Stops:
    """The signals of one process; `number` is the first that came, 0 before."""

    def __init__(self) -> None:
        self.number = 0
        self.raising = True
        self.asked: Callable[[str], float] = lambda why: PATIENCE
        self.end: Callable[[str, int], None] = _say
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.writing, False)
        signal.set_wakeup_fd(self.writing, warn_on_full_buffer=False)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._came)
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def why(self) -> str:
        """The reason in words; empty where no signal came."""
        return SIGNALS.get(self.number, "")

    @property
    def code(self) -> int:
        """The exit code."""
        return 128 + self.number

    def heed(self, asked: Callable[[str], float], end: Callable[[str, int], None]) -> None:
        """From now on no exception: `asked` is told the reason, and returns for how many seconds the main thread may
        go on; then `end` is called with the reason and the exit code, which ends the process."""
        self.asked, self.end, self.raising = asked, end, False

    def _came(self, number: int, frame: Any) -> None:
        self.number = self.number or number
        if self.raising:
            self.raising = False
            raise Stopped(SIGNALS[number])

    def _watch(self) -> None:
        number = self._read(None)
        self.number = self.number or number
        self._read(self.asked(self.why))
        last = threading.Timer(LAST, os._exit, (self.code,))  # a reader that stopped reading may hold up the answer
        last.daemon = True
        last.start()
        self.end(self.why, self.code)
        os._exit(self.code)

    def _read(self, seconds: float | None) -> int:
        """The number of the next signal, 0 where none comes in so many seconds."""
        while True:
            if seconds is not None and not select.select([self.reading], [], [], seconds)[0]:
                return 0
            number = os.read(self.reading, 1)[0]
            if number in SIGNALS:
                return number


def _say(why: str, code: int) -> None:
    """What a command is ended with that has nothing better to say."""
    try:
        sys.stderr.write(f"partita: {why}\n")
        sys.stderr.flush()
    finally:
        os._exit(code)
