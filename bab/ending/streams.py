"""The three streams as they are found: open, closed, full, or read by nobody. What is written to them never raises.

A descriptor below 3 that the caller closed (`>&-`) is opened on the null device, so that no file gets its number and
with it what some library prints. Texts that the terminal's encoding lacks are escaped. A stream that fails once is not
tried again, and keeps its error for `lost`.

An answer that could not be written is no traceback: the caller says it on the stream that is left. Where nobody wanted
it, because standard output was closed or its reader has gone, the exit code stays what it was; else it is `LOST`.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

LOST = 74  # exit code: EX_IOERR of sysexits.h
UNWANTED = (errno.EPIPE, errno.EBADF, errno.ESHUTDOWN, errno.ECONNRESET)


class Stream:
    """A text stream that keeps its first error instead of raising it; what comes later is dropped."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        if self.error is None:
            try:
                self.inner.write(text)
            except (OSError, ValueError) as error:
                self._keep(error)
        return len(text)

    def flush(self) -> None:
        if self.error is None:
            try:
                self.inner.flush()
            except (OSError, ValueError) as error:
                self._keep(error)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        return self.error is None and self.inner.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _keep(self, error: Exception) -> None:
        closed = OSError(errno.EBADF, os.strerror(errno.EBADF))
        self.error = error if isinstance(error, OSError) else closed


def mend() -> None:
    """Makes the process's streams such as described above; once, before anything else is opened."""
    closed = []
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            closed.append(number)
            mode = os.O_RDONLY if number == 0 else os.O_WRONLY
            while os.open(os.devnull, mode) < number:
                pass  # standard input and output were closed too: the lowest number comes first
    for number, name in ((1, "stdout"), (2, "stderr")):
        inner = getattr(sys, name)
        if inner is None:
            inner = open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        elif hasattr(inner, "reconfigure"):
            inner.reconfigure(errors="backslashreplace")
        stream = Stream(inner)
        if number in closed:
            stream.error = OSError(errno.EBADF, os.strerror(errno.EBADF))
        setattr(sys, name, stream)


def lost(stream: Any) -> OSError | None:
    """Why what was written to a stream did not arrive, after a last try; None where it did, as far as one can know."""
    stream.flush()
    return getattr(stream, "error", None)


def code_of(error: OSError | None) -> int:
    """The exit code of an answer that met this error: 0 where nobody wanted it."""
    return 0 if error is None or error.errno in UNWANTED else LOST


def of_descriptor(path: str | os.PathLike) -> int | None:
    """Which of the open standard streams the file at `path` is; None: none of them."""
    try:
        there = os.stat(path)
        return next((n for n in (1, 2) if os.path.samestat(os.fstat(n), there)), None)
    except OSError:
        return None
