"""A library's Python code, ended when time is up: an exception is raised in its thread by another one.

PyTorch's exporters run for minutes over a deep module and never look at a clock. CPython lets one thread raise an
exception in another, wherever that stands between two instructions; what it leaves half done there stays half done. So
it is raised only where the thread's stack shows that nothing is being set up or put back: not in an `__enter__` or
`__exit__`, not on the line of a `with`, not under `finally` or `except`, not while a module is imported. Until the
stack looks so, and while a native call lasts, the end waits. What is raised is no `Exception`, so that nobody takes it
for an error of theirs, and none is raised once the work has returned.
"""

from __future__ import annotations

import ctypes
import linecache
import math
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from .deadline import TimeUp, check, within

T = TypeVar("T")

SOON, AGAIN = 0.005, 0.25  # seconds until the stack is looked at again: where it was not safe, where it was
PAIRED = ("__enter__", "__exit__", "__aenter__", "__aexit__", "__del__")
BLOCKS = ("finally", "except")


class _Late(BaseException):
    """Raised in the thread that works."""


def interruptible(work: Callable[[], T]) -> T:
    """What `work` returns or raises, in this thread; `TimeUp` soon after the limit, if there is one.

    Whatever `work` made of the exception that ended it, a value or another exception, is dropped.
    """
    check()
    seconds = within(None)
    if seconds is None:
        return work()
    watch = _Watch(seconds)
    try:
        try:
            value = _worked(work)
        finally:
            watch.stop()
    except _Late:
        watch.stop()
        raise TimeUp("the time limit has passed") from None
    except Exception as error:
        if watch.raised:
            raise TimeUp("the time limit has passed") from error
        raise
    if watch.raised:
        raise TimeUp("the time limit has passed")
    return value


def _worked(work: Callable[[], T]) -> T:
    """The frame above which exceptions are raised."""
    return work()


class _Watch:
    """Another thread, which raises `_Late` in this one, after so many seconds until `stop`."""

    def __init__(self, seconds: float) -> None:
        self.thread, self.seconds = threading.get_ident(), seconds
        self.open, self.raising, self.raised = True, False, False
        self.stopped = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        pause = self.seconds
        while not self.stopped.wait(min(pause, threading.TIMEOUT_MAX)):
            self.raising = True  # then `open` is read; `stop` writes that, then reads this
            pause = SOON
            if self.open and safe(sys._current_frames().get(self.thread)):
                self.raised, pause = True, AGAIN
                _raise(self.thread, _Late)
            self.raising = False

    def stop(self) -> None:
        """No exception comes after this. May be called again where one came in the middle of it."""
        self.open = False
        self.stopped.set()
        while self.raising:
            time.sleep(0.001)
        if self.raised:
            _raise(self.thread, None)  # what has not come yet


def _raise(thread: int, kind: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), kind and ctypes.py_object(kind))


def safe(frame: FrameType | None) -> bool:
    """Whether a thread that stands here works within `interruptible`, and sets nothing up and puts nothing back."""
    while frame is not None and frame.f_code is not _worked.__code__:
        code = frame.f_code
        if code.co_name in PAIRED or code.co_filename.startswith("<frozen importlib") or _paired(frame):
            return False
        frame = frame.f_back
    return frame is not None


def _paired(frame: FrameType) -> bool:
    """Whether a frame stands on the line of a `with`, or under `finally` or `except`, as its lines are indented."""
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)
    at = (frame.f_lineno or 0) - 1
    if not 0 <= at < len(lines):
        return False
    depth = math.inf
    for number in range(at, frame.f_code.co_firstlineno - 2, -1):
        text = lines[number].split("#")[0].strip()
        if not text or text[0] == "@" or _depth(lines[number]) >= depth:
            continue
        depth = _depth(lines[number])
        if text.startswith(BLOCKS):
            return True
        if text.removeprefix("async ").startswith(("with ", "with(")) and (number == at or text[-1] != ":"):
            return True
    return False


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())
