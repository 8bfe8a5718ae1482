"""The one worker process in which programs that may kill their solver are solved.

It starts at the first such program, by path (`server`), so that neither the caller's main module nor PyTorch is
imported. A death (a signal, a broken message, an answer that does not come within its limit) is a `Died` for the
request under way, and the next request starts another process, up to `DEATHS` of them; after that every request is a
`Died`. Threads take turns. A forked child has no worker and starts its own. The worker sits in a session of its own,
where no Ctrl-C of a terminal reaches it, and ends with this process however that ends.
"""

from __future__ import annotations

import atexit
import itertools
import os
import pickle
import select
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from .server import PATIENCE

DEATHS = 20  # of workers in one process, after which none is started
SLACK = 0.5  # seconds beyond a run's own limit that an answer may take
START = 20.0  # seconds that a start may take where the run has no limit
_CHUNK = 1 << 20


class Died(Exception):
    """The worker died on this request, or cannot be had; the message is a sentence for the user."""


class Worker:
    """A worker process, started when it is asked; `worker()` is the one of this process."""

    def __init__(self) -> None:
        self.generation = 0  # counts the processes: what was told to an earlier one is lost
        self.deaths = 0
        self.dropped: deque[int] = deque()  # solvers to forget; appended to by finalisers, hence without the lock
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> int | None:
        """The worker's id, None where none runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def ask(self, *request: Any, limit: float | None = None, generation: int | None = None) -> tuple[Any, int]:
        """The answer to a request of `server`, and which process gave it; `limit` in seconds of wall time for all.

        Raises `Died`; also where the process is no longer the one of `generation`.
        """
        patience = min(PATIENCE, limit) if limit is not None else PATIENCE
        deadline = time.monotonic() + patience + SLACK + (START if limit is None else 0.0)
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise Died("the solver's process was busy with another thread's program until the time limit")
        try:
            process = self._started()
            if generation is not None and generation != self.generation:
                raise Died("the solver's process has been restarted since this program was handed over")
            return self._answer(process, request, deadline), self.generation
        finally:
            self._lock.release()

    def _answer(self, process: subprocess.Popen[bytes], request: tuple[Any, ...], deadline: float) -> Any:
        try:
            numbers = [self.dropped.popleft() for _ in range(len(self.dropped))]
            if numbers:
                _send(process, ("drop", numbers), deadline)
            _send(process, request, deadline)
            (size,) = struct.unpack("<Q", _bytes(process, 8, deadline))
            kind, value = pickle.loads(_bytes(process, size, deadline))
        except (EOFError, OSError, ValueError, TypeError, pickle.UnpicklingError, MemoryError) as error:
            self._end()
            self.deaths += 1
            why = "gave no answer within the time limit" if isinstance(error, TimeoutError) else "died"
            raise Died(f"the native solver {why} on a program whose coefficients span too many scales") from None
        except BaseException:  # an interrupt: the answer that is on its way would be taken for the next one's
            self._end()
            raise
        if kind != "done":
            raise Died(f"the native solver failed on a program: {value}")
        return value

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        if self._process is not None:  # it died between two requests
            self._end()
            self.deaths += 1
        if self.deaths >= DEATHS:
            raise Died(f"the native solver has died {DEATHS} times; programs of this scale are no longer tried")
        if not sys.executable:
            raise Died("there is no Python interpreter to run the native solver in a process of its own")
        self.generation += 1
        path = Path(__file__).with_name("server.py")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(path), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,  # nothing that a forked child could write a second time
                start_new_session=True,
            )
            if os.name == "posix":
                os.set_blocking(_pipe(self._process.stdin), False)
            _send(self._process, list(sys.path), time.monotonic() + START)
        except OSError as error:
            self._end()
            self.deaths += 1
            raise Died(f"no process could be started for the native solver: {error}") from None
        return self._process

    def _end(self) -> None:
        """Kills the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with suppress(OSError):
            process.wait(5)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def close(self) -> None:
        """Ends the process; a later request starts another."""
        if self._lock.acquire(timeout=1.0):
            try:
                self._end()
            finally:
                self._lock.release()


def _pipe(stream: IO[bytes] | None) -> int:
    """The descriptor of one of the process's two streams."""
    assert stream is not None, "Popen was told to make pipes of both"
    return stream.fileno()


def _send(process: subprocess.Popen[bytes], value: Any, deadline: float) -> None:
    """One message, as `server.read` takes it; raises TimeoutError where nobody takes it in time."""
    stream = _pipe(process.stdin)
    data = pickle.dumps(value, protocol=5)
    left = memoryview(struct.pack("<Q", len(data)) + data)
    while left:
        if os.name == "posix" and not select.select([], [stream], [], max(0.0, deadline - time.monotonic()))[1]:
            raise TimeoutError
        left = left[os.write(stream, left[:_CHUNK]) :]


def _bytes(process: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
    """So many bytes of an answer; raises TimeoutError, or EOFError where the process has ended."""
    stream, found = _pipe(process.stdout), bytearray()
    while len(found) < size:
        if os.name == "posix" and not select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        part = os.read(stream, min(_CHUNK, size - len(found)))
        if not part:
            raise EOFError
        found += part
    return bytes(found)


_numbers = itertools.count(1)
_workers: dict[int, Worker] = {}  # by process: a forked child must neither use nor end its parent's


def worker() -> Worker:
    """The worker of this process."""
    found = _workers.get(os.getpid())
    if found is None:
        found = _workers.setdefault(os.getpid(), Worker())
        atexit.register(_close, os.getpid())
    return found


def number() -> int:
    """A number that no other solver of this process has."""
    return next(_numbers)


def _close(process: int) -> None:
    if process == os.getpid() and process in _workers:
        _workers[process].close()
