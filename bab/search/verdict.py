"""What a search can come to, and why it ends: in types, so that nothing is decided by what a sentence says.

Importing this file is cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto


class Verdict(StrEnum):
    """A verdict is its word: it compares, prints and writes itself as that. `sentence`: what it claims."""

    sentence: str

    HOLDS = "unsat", "no input of the input set has an unsafe output"
    VIOLATED = "sat", "an input of the input set has an unsafe output, and the original network confirms it"
    UNKNOWN = "unknown", "the search ended without an answer, for a reason that is said"
    TIMEOUT = "timeout", "the time limit passed before there was an answer"

    def __new__(cls, word: str, sentence: str) -> Verdict:
        member = str.__new__(cls, word)
        member._value_, member.sentence = word, sentence
        return member

    def __repr__(self) -> str:
        return repr(self.value)

    @property
    def decided(self) -> bool:
        """Whether it answers the question."""
        return self in (Verdict.HOLDS, Verdict.VIOLATED)


class Cause(Enum):
    """What ended a search that found no answer."""

    TIME = auto()  # the limit passed, or would have
    PIECES = auto()  # as many as were allowed
    MEMORY = auto()  # too little for a single piece
    INTERRUPT = auto()  # by the user, at the keyboard
    WISH = auto()  # of an observer
    STUCK = auto()  # pieces are left that can be neither closed nor split
    BELIEVED = auto()  # what a log claims was not all proved again


@dataclass(frozen=True)
class End:
    """Why a search ended, and the sentence for the user."""

    cause: Cause
    sentence: str

    @property
    def verdict(self) -> Verdict:
        """What can be said then."""
        return Verdict.TIMEOUT if self.cause is Cause.TIME else Verdict.UNKNOWN


TIME_IS_UP = End(Cause.TIME, "timeout")
