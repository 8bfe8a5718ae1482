"""When work must have ended, known wherever work is done, and what is being done.

A limit holds for everything that a call sets off, so it is not handed from function to function: `until` sets it for a
block, as a context variable (another thread sees none), and whoever is about to compute for a while asks `check`, which
raises `TimeUp` once the moment has passed. A block may only bring the end nearer. `TimeUp` is caught where it is known
what has been proved so far; what was under way is dropped, or kept where every state of it is sound.

No native call can be stopped, so none may be long: large batches are worked on in parts (`work`). What cannot be
split (a library reading a file) is run by `abandonable`.

`doing` says what the work is at, for whoever has to tell a user where it stood: see `Stage`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

LEAST = 0.01  # seconds that a solver is given, however late it is


class TimeUp(Exception):
    """The limit of the surrounding `until` has passed."""


@dataclass(eq=False)
class Stage:
    """What a run is at, in words that go on 'the time limit passed while ...': 'the root was bounded'. Read from other
    threads too."""

    text: str = "the run began"


_end: ContextVar[float] = ContextVar("end", default=math.inf)
_stage: ContextVar[Stage | None] = ContextVar("stage", default=None)


def end() -> float:
    """The moment, on `time.monotonic()`, at which work must have ended; infinite without a limit."""
    return _end.get()


def left() -> float:
    """Seconds until then; infinite without a limit, negative afterwards."""
    moment = _end.get()
    return moment if moment == math.inf else moment - time.monotonic()


def passed() -> bool:
    """Whether the limit has passed."""
    moment = _end.get()
    return moment != math.inf and time.monotonic() >= moment


def check() -> None:
    """Raises `TimeUp` where the limit has passed."""
    moment = _end.get()
    if moment != math.inf and time.monotonic() >= moment:
        raise TimeUp("the time limit has passed")


def within(seconds: float | None) -> float | None:
    """What a solver may take that was promised so many seconds: no more than there are. None: as long as it wants."""
    rest = left()
    if rest == math.inf:
        return seconds
    rest = max(LEAST, rest)
    return rest if seconds is None else min(seconds, rest)


@contextmanager
def until(moment: float | None) -> Iterator[None]:
    """Within it the work must end at `moment`, a value of `time.monotonic()`, or before, if that was said already."""
    token = _end.set(_end.get() if moment is None else min(_end.get(), moment))
    try:
        yield
    finally:
        _end.reset(token)


def share(fraction: float, most: float = math.inf) -> float | None:
    """The moment when this share of the time left has passed, or `most` seconds have, for `until`; None: never."""
    seconds = min(fraction * max(0.0, left()), most)
    return None if seconds == math.inf else time.monotonic() + seconds


def moment(performance: float | None) -> float | None:
    """A value of `time.perf_counter()` as one of `time.monotonic()`."""
    return None if performance is None else time.monotonic() + performance - time.perf_counter()


@contextmanager
def staged(stage: Stage | None = None) -> Iterator[Stage]:
    """Within it `doing` writes to this stage; to the surrounding one where none is given and there is one."""
    mine = stage or _stage.get() or Stage()
    token = _stage.set(mine)
    try:
        yield mine
    finally:
        _stage.reset(token)


def doing(text: str) -> None:
    """The work is at this now; see `Stage`."""
    stage = _stage.get()
    if stage is not None:
        stage.text = text


def abandonable(work: Callable[[], Any], stop: Callable[[], None] | None = None) -> Any:
    """What `work` returns or raises. Under a limit it runs in a thread of its own, which is left behind when the time
    is up (after `stop` was called): for a library's calls that release the interpreter, change nothing of the caller's
    and may be long."""
    if _end.get() == math.inf:
        return work()
    check()
    found: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(max(0.0, left()))
    if thread.is_alive():
        if stop is not None:
            stop()
        raise TimeUp("the time limit has passed")
    if failed:
        raise failed[0]
    return found[0]
