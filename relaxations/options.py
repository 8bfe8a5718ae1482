"""The kinds of option that a relaxation may take, and how each is read. Nothing is imported but the error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from ..problems.errors import BadInput

UNBOUNDED = 10**9


@dataclass(frozen=True)
class Whole:
    """A whole number of at least `least` and at most `most`."""

    default: int
    least: int = 1
    most: int = UNBOUNDED

    def __str__(self) -> str:
        return f"{self.default} (at least {self.least}" + (f", at most {self.most})" if self.most < UNBOUNDED else ")")

    def read(self, text: str, where: str) -> int:
        if not text.isdigit() or not self.least <= int(text) <= self.most:
            up_to = f" and at most {self.most}" if self.most < UNBOUNDED else ""
            raise BadInput(f"{where} must be a whole number of at least {self.least}{up_to}, not '{text}'")
        return int(text)


@dataclass(frozen=True)
class Word:
    """One of a few words; the first is the default."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return " or ".join(self.words)

    @property
    def default(self) -> str:
        return self.words[0]

    def read(self, text: str, where: str) -> str:
        if text not in self.words:
            raise BadInput(f"{where} must be one of {', '.join(self.words)}, not '{text}'")
        return text


Option = Whole | Word


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like this one."""
    return difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.0)[0]
