"""How many threads an operation should use.

The tensors of a small network are so small that two threads spend more time meeting than computing (layers of 50
neurons, two cores: 5,150 pieces a second on one thread, 3,080 on two that sleep between operations, 6,800 on two that
spin, and 30 where another process takes one of the cores the spinning threads count on). Layers of 256 neurons gain
half from a second thread in a long search, and lose to its spinning in a short one (24 instances of rl_benchmarks in
one process: 15 s, and 1.8 s on one thread); so they get it when the search has taken a second.

PyTorch keeps the number once for each thread, and once for threads that are still to come, and `set_num_threads` sets
both. The second is the caller's: it is put back at once, by a thread that lives for that, so that a thread that
starts while a proof runs does not inherit one core for ever. (One that asks PyTorch for the first time in these few
microseconds does.)
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from .deadline import now

# Layers no wider than this are bounded by one thread; no wider than that, by one at first, for so many seconds.
NARROW, MEDIUM, FIRST = 128, 256, 1.0
_changing = threading.Lock()


@contextmanager
def threads_for(widest: int) -> Iterator[Callable[[], None]]:
    """One thread for networks whose widest layer is narrow; this thread's own number is restored afterwards.

    What is long may call what is given, again and again: it ends the restraint where its time is over.
    """
    with _changing:  # else a thread that never asked may find what is about to be put back
        before = torch.get_num_threads()
    start = now()
    if widest > MEDIUM or before == 1:
        yield lambda: None
        return

    def more() -> None:
        if widest > NARROW and torch.get_num_threads() == 1 and now() - start > FIRST:
            _set(before)

    _set(1)
    try:
        yield more
    finally:
        _set(before)


def _set(number: int) -> None:
    """Operations of this thread use so many threads; others, and threads to come, what they would have used."""
    read, changed, done = (threading.Lock() for _ in range(3))
    locks = (read, changed, done)

    def keep() -> None:
        others = torch.get_num_threads()  # of a thread that never asked: what threads to come will use
        read.release()
        changed.acquire()
        torch.set_num_threads(others)
        done.release()

    with _changing:
        for lock in locks:
            lock.acquire()
        try:
            _thread.start_new_thread(keep, ())  # without the bookkeeping of threading.Thread, which takes longer
        except RuntimeError:  # the system has no thread left to give, and the caller will get none either
            torch.set_num_threads(number)
            return
        read.acquire()
        torch.set_num_threads(number)
        changed.release()
        done.acquire()
