"""Warnings and log lines of libraries, silenced for the thread that provokes them and for nobody else.

`warnings.catch_warnings` saves the process's filters and puts them back: of two threads that do so, one may put back
what the other had set, for good, and what other threads warn of meanwhile is lost. Here a filter is added whose
question, whether a message matches, is answered by the thread that asks; afterwards it is taken out of the list again,
and of the one that is in force, should that be another by then. Loggers get a filter of their own in the same way.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class _Mine:
    """Stands where a filter has the pattern of a message: matches what this thread says, if it starts so."""

    def __init__(self, start: str) -> None:
        self.start, self.thread = start, threading.get_ident()

    def match(self, text: str) -> bool:
        return threading.get_ident() == self.thread and text.startswith(self.start)


@contextmanager
def hushed(*categories: type[Warning], start: str = "") -> Iterator[None]:
    """Within it this thread's warnings of these categories, with texts that start so, are not shown or raised."""
    items = [("ignore", _Mine(start), category, None, 0) for category in categories]
    for item in items:
        warnings._add_filter(*item, append=False)  # type: ignore[attr-defined]  # private: not in the stub
    entered = _filters()
    try:
        yield
    finally:
        for filters in (entered, _filters()):
            for item in items:
                with suppress(ValueError):
                    filters.remove(item)


def _filters() -> list[tuple[Any, ...]]:
    """The list of filters that holds now; `warnings.catch_warnings` puts another in its place."""
    filters = warnings.filters
    assert isinstance(filters, list)
    return filters


# Filters that libraries add to the process's when they are first imported, by their category's or message's beginning.
ADDED = ("sympy.", "the matrix subclass is not the recommended way")
CACHE = "TORCHINDUCTOR_CACHE_DIR"  # written into the environment by PyTorch's compiler, for its child processes


@contextmanager
def untouched() -> Iterator[None]:
    """What libraries do to the process's filters and environment when they are first used, which may be within, is
    taken back afterwards. By name, so that what other threads do meanwhile stays."""
    before, cache = list(warnings.filters), os.environ.get(CACHE)
    try:
        yield
    finally:
        if len(warnings.filters) > len(before):
            for item in [f for f in warnings.filters if f not in before and _of_a_library(f)]:
                _filters().remove(item)
        if cache is None and os.environ.get(CACHE) is not None:
            os.environ.pop(CACHE, None)


def _of_a_library(item: tuple) -> bool:
    return f"{item[2].__module__}.".startswith(ADDED) or getattr(item[1], "pattern", "").startswith(ADDED)


class _Below(logging.Filter):
    """Lets pass what other threads log, and what is at least of a level."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level, self.thread = level, threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= self.level or threading.get_ident() != self.thread


@contextmanager
def unlogged(level: int, *names: str) -> Iterator[None]:
    """Within it these loggers pass on nothing from this thread that is below the level."""
    below, loggers = _Below(level), [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(below)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(below)


class _Deaf:
    """Standard error without what one thread writes while `deaf`."""

    def __init__(self, inner: TextIO | None) -> None:
        self.inner, self.thread, self.deaf = inner, threading.get_ident(), True

    def write(self, text: str) -> int:
        if self.inner is None or (self.deaf and threading.get_ident() == self.thread):
            return len(text)
        return self.inner.write(text)

    def flush(self) -> None:
        if self.inner is not None:
            self.inner.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@contextmanager
def unprinted() -> Iterator[None]:
    """Within it nothing that this thread's Python code prints on standard error is seen."""
    before = sys.stderr
    sys.stderr = now = _Deaf(before)
    try:
        yield
    finally:
        now.deaf = False  # who took it for standard error meanwhile has a way through
        if sys.stderr is now:
            sys.stderr = before
