"""Wall time counted from the process's start, and the guard that keeps a promised time limit.

A user's limit covers everything: the interpreter, the imports, the search, the verdict on the terminal. The start is
read from the kernel where it tells (`/proc/self/stat`, in ticks since boot); elsewhere the processor time used so
far is taken, which is less than the truth by what the process waited.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

MARGIN = 0.2  # seconds kept free for writing the verdict
GRACE = 0.05  # of them, how long before the limit the guard steps in


def age() -> float:
    """Seconds since this process started."""
    try:
        with open("/proc/self/stat", encoding="utf-8") as file:
            ticks = int(file.read().rsplit(")", 1)[1].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return time.process_time()


def deadline(timeout: float | None) -> float | None:
    """When, on `time.monotonic()`, the search must stop so that the verdict is out within `timeout` of the start."""
    if timeout is None:
        return None
    return time.monotonic() - age() + timeout - min(MARGIN, timeout / 10)


def guard(timeout: float | None, act: Callable[[], None]) -> threading.Timer | None:
    """Calls `act` from another thread just before `timeout` seconds have passed since the process's start, unless the
    timer that is returned is cancelled before.

    For work that does not look at the clock in time: a long solver call, a large import.
    """
    if timeout is None:
        return None
    timer = threading.Timer(max(0.0, timeout - age() - min(GRACE, timeout / 20)), act)
    timer.daemon = True
    timer.start()
    return timer
