"""What a GPU would have been asked: operations that launch kernels, waits of the host, and what would be refused."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = str(Path(__file__).resolve().parents[2])
TESTS = str(Path(__file__).resolve().parents[1])


def place() -> str:
    """The innermost line of the project that led here."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PROJECT) and not name.startswith(TESTS):
            return f"{name[len(PROJECT) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "outside the project"


@dataclass
class Log:
    """`launches`: operations on the device that launch at least one kernel. `waited`: how often the host would wait for
    the device, by kind and line: a number, a mask or a shape that must be known, a copy from or to the device."""

    launches: int = 0
    waited: Counter[tuple[str, str]] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)  # launches by operation
    errors: list[str] = field(default_factory=list)  # what CUDA would refuse, with the line

    @property
    def waits(self) -> int:
        return sum(self.waited.values())

    def wait(self, kind: str) -> None:
        self.waited[kind, place()] += 1

    def launch(self, name: str) -> None:
        self.launches += 1
        self.kinds[name] += 1

    def refused(self, kind: type[Exception], message: str) -> Exception:
        """The error to be raised; noted, for the case that somebody catches it."""
        self.errors.append(f"{message} ({place()})")
        return kind(message)
