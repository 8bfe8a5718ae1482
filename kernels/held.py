"""Settings of the whole process, held at values of ours while anybody here needs them.

PyTorch and the C library keep some settings once for all threads. Who saves one, sets it and puts it back is right
alone and wrong beside a second thread that does the same: the first to leave puts the caller's value back under the
other, which goes on computing with it. So holders are counted: the first finds out what the caller has, the last puts
that back, and nobody in between meets anything but what is held.

The caller's own threads see what is held meanwhile, and may change it. That is found when somebody comes or goes; what
was computed since may be wrong, so everybody who was there raises `Disturbed`, and what the caller has set is put back
in the end. (Two things cannot be seen: a change that is taken back before anybody comes or goes, and one to the very
value that is held, which ends with the last holder.)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Found = dict[Any, Any]  # what to put back, by setting


class Disturbed(RuntimeError):
    """Other code changed a setting while results depended on it."""


class Held:
    """A group of settings. `take` sets what must be and returns what it found otherwise; `put_back` sets that."""

    def __init__(self, what: str, take: Callable[[], Found], put_back: Callable[[Found], None]) -> None:
        self.what, self.take, self.put_back = what, take, put_back
        self.users, self.changes, self.before = 0, 0, Found()
        self._unlocked()
        if hasattr(os, "register_at_fork"):  # a child must not wait for a thread that it does not have
            os.register_at_fork(after_in_child=self._unlocked)

    def _unlocked(self) -> None:
        self.lock = threading.Lock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within it the settings are what must be. Raises `Disturbed` at its end where they were not all along."""
        with self.lock:
            self._look()
            self.users += 1
            changes = self.changes
        try:
            yield
        finally:
            with self.lock:
                self._look()
                changes -= self.changes
                self.users -= 1
                if not self.users:
                    before, self.before = self.before, Found()
                    self.put_back(before)
        if changes:
            raise Disturbed(
                f"other code of this process changed {self.what} while Partita was computing, so what it computed "
                "cannot be relied on and was thrown away; change such settings before or after"
            )

    def _look(self) -> None:
        found = self.take()
        self.changes += bool(found and self.users)
        self.before |= found
