"""A search that lasts gets the threads that a short one is better without (see `kernels.threads`)."""

from __future__ import annotations

from collections.abc import Callable

from ..trees.records import Record
from .observer import Observer


class Waking(Observer):
    """Asks for more threads after every step."""

    def __init__(self, more: Callable[[], None]) -> None:
        self.more = more

    def branched(self, parents: Record, children: Record) -> None:
        self.more()
