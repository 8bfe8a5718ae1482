"""One finished instance of a benchmark, as `results.csv` holds it."""

from __future__ import annotations

import builtins  # a column is called `property`
from dataclasses import dataclass

from ..search.verdict import Verdict

ANSWERS = tuple(verdict for verdict in Verdict if verdict.decided)


@dataclass(frozen=True)
class Row:
    """A row of results.csv; `seconds` is wall time of the whole process."""

    number: int
    network: str
    property: str
    expected: str
    verdict: str  # sat, unsat, unknown, timeout or error
    seconds: float
    pieces: int
    reason: str

    @builtins.property
    def solved(self) -> bool:
        return self.verdict in ANSWERS

    @builtins.property
    def wrong(self) -> bool:
        return self.solved and self.expected in ANSWERS and self.verdict != self.expected
