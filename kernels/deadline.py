"""When work must have ended, known wherever work is done, and what is being done.

A limit holds for everything that a call sets off, so it is not handed from function to function: `until` sets it for a
block, as a context variable (another thread sees none), and whoever is about to compute for a while asks `check`, which
raises `TimeUp` once the moment has passed. A block may only bring the end nearer. `TimeUp` is caught where it is known
what has been proved so far; what was under way is dropped, or kept where every state of it is sound.

No native call can be stopped, so none may be long: large batches are worked on in parts (`work`). What cannot be
split (a library reading a file) is run by `abandonable`.

Whatever decides by the clock reads it by `now`. Within `counted` that is a count of the work done, so that a search is
the same tree under every load: limits are then amounts of work, and solvers, which count nothing, have none. Patience
with a process that hangs stays in seconds.

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


@dataclass(eq=False)
class Count:
    """A clock that work alone moves: `rate` multiplications are a second."""

    rate: float
    work: float = 0.0  # whole numbers, so that their order does not matter


_count: ContextVar[Count | None] = ContextVar("count", default=None)
_end: ContextVar[float] = ContextVar("end", default=math.inf)
_stage: ContextVar[Stage | None] = ContextVar("stage", default=None)


def now() -> float:
    """The moment it is, in seconds: `time.monotonic()`, or within `counted` what was `spent`."""
    count = _count.get()
    return time.monotonic() if count is None else count.work / count.rate


def spent(multiplications: float) -> None:
    """So much work is done now; moves the clock within `counted`."""
    count = _count.get()
    if count is not None:
        count.work += multiplications


@contextmanager
def counted(rate: float = 1e9) -> Iterator[Count]:
    """Within it no clock takes part in any decision: `rate` multiplications of the networks' affine maps are a second.
    Not for users: moments from outside mean nothing within, and solvers run without a limit."""
    count = Count(rate)
    token = _count.set(count)
    try:
        yield count
    finally:
        _count.reset(token)


def end() -> float:
    """The moment, on `now`, at which work must have ended; infinite without a limit."""
    return _end.get()


def left() -> float:
    """Seconds until then; infinite without a limit, negative afterwards."""
    moment = _end.get()
    return moment if moment == math.inf else moment - now()


def passed() -> bool:
    """Whether the limit has passed."""
    moment = _end.get()
    return moment != math.inf and now() >= moment


def check() -> None:
    """Raises `TimeUp` where the limit has passed."""
    moment = _end.get()
    if moment != math.inf and now() >= moment:
        raise TimeUp("the time limit has passed")


def within(seconds: float | None) -> float | None:
    """What a solver may take that was promised so many seconds: no more than there are. None: as long as it wants."""
    if _count.get() is not None:
        return None
    rest = left()
    if rest == math.inf:
        return seconds
    rest = max(LEAST, rest)
    return rest if seconds is None else min(seconds, rest)


@contextmanager
def until(moment: float | None) -> Iterator[None]:
    """Within it the work must end at `moment`, a value of `now`, or before, if that was said already."""
    token = _end.set(_end.get() if moment is None else min(_end.get(), moment))
    try:
        yield
    finally:
        _end.reset(token)


def share(fraction: float, most: float = math.inf) -> float | None:
    """The moment when this share of the time left has passed, or `most` seconds have, for `until`; None: never."""
    seconds = min(fraction * max(0.0, left()), most)
    return None if seconds == math.inf else now() + seconds


def moment(performance: float | None) -> float | None:
    """A value of `time.perf_counter()` as one of `now`."""
    return None if performance is None else now() + performance - time.perf_counter()


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
    check()
    if _end.get() == math.inf or _count.get() is not None:
        return work()
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
