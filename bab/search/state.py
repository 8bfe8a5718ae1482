"""What a search knows about itself: the open pieces, the counts, the clock."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from torch import Tensor

from ...kernels.deadline import now
from ..attack.witness import Witness
from ..trees.frontier import Frontier


@dataclass(eq=False)
class State:
    """Mutable, owned by one run of the engine; observers read it."""

    frontier: Frontier
    goals: int  # how many roots there are
    batch: int
    named: int = 0  # ids given so far
    deadline: float | None = None
    start: float = field(default_factory=now)
    pieces: int = 0  # bounded so far
    leaves: int = 0  # closed so far
    weight: float = 0.0  # closed share of the tree: a piece at depth d weighs 2^-d of its root
    depth: int = 0
    stuck: int = 0  # pieces that can be neither closed nor split
    stuck_reason: str = ""
    waiting: int = 0  # open pieces of an earlier run that were not bounded again yet
    witness: Witness | None = None
    confirmed: int = 0  # pieces that float64 closed after float32 had not
    settled: int = 0  # pieces closed by an exact linear program
    exact: int = 0  # pieces closed in exact arithmetic
    suspects: Tensor | None = None  # (K, D) inputs where bounds were worst, for the attack
    last_attack: float = 0.1  # seconds the last turn of the attack took
    seconds: dict[str, float] = field(default_factory=dict)  # spent, by activity

    @property
    def open(self) -> int:
        """How many pieces are open."""
        return len(self.frontier) + self.waiting

    @property
    def elapsed(self) -> float:
        """Seconds since the search began, its root included."""
        return now() - self.start

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return float("inf") if self.deadline is None else self.deadline - now()

    @property
    def limit(self) -> float:
        """Seconds that the search had when it began."""
        return float("inf") if self.deadline is None else self.deadline - self.start

    def spend(self, activity: str, since: float) -> None:
        """Books the time since `since` (a `kernels.deadline.now` value) to an activity."""
        self.seconds[activity] = self.seconds.get(activity, 0.0) + now() - since


def resident_bytes() -> int:
    """Memory this process has resident; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096
    except (OSError, ValueError, IndexError):
        try:
            import resource
        except ImportError:
            return 0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
