"""What is to be verified and who watches: from here come the outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from ..kernels.deadline import now
from ..problems.network.graph import Graph
from ..problems.properties.property import Property
from .attack.witness import Judge, Witness, remarks
from .config import Config
from .search.observer import Observer
from .search.outcome import Outcome
from .search.state import State
from .search.verdict import Verdict

if TYPE_CHECKING:
    from .logs.observer import PartitionLog


@dataclass(frozen=True, eq=False)
class Task:
    """One verification; times are values of `kernels.deadline.now`. The log is among the observers."""

    graph: Graph  # float64, CPU
    prop: Property
    config: Config
    judge: Judge
    observers: Sequence[Observer] = ()
    deadline: float | None = None
    log: PartitionLog | None = None
    start: float = field(default_factory=now)

    @property
    def goals(self) -> int:
        """How many pairs of an input polytope and an unsafe set there are to decide."""
        return sum(len(case.unsafe) for case in self.prop.cases if not case.inputs.empty)

    def outcome(
        self,
        verdict: Verdict,
        reason: str,
        witness: Witness | None = None,
        pieces: int = 0,
        stats: dict[str, float | int | str] | None = None,
    ) -> Outcome:
        """Its reason says what a reader must know of the witness, or of the nearest thing to one."""
        seconds, stats = now() - self.start, stats or {}
        if verdict is Verdict.VIOLATED and witness is not None:
            reason = "; ".join(filter(None, [reason, *remarks(witness, self.judge)]))
            found = witness.x, witness.y
            return Outcome(verdict, reason, found, pieces, seconds, stats, witness.decimals, witness.outside)
        if verdict is not Verdict.HOLDS and self.judge.disputed is not None:
            stats = {**stats, "disputed": self.judge.disputed.sentence()}
            reason = "; ".join(filter(None, [reason, self.judge.disputed.sentence()]))
        return Outcome(verdict, reason, None, pieces, seconds, stats)

    @property
    def proving(self) -> bool:
        """Whether an observer wants to know what proves that pieces are closed."""
        return any(observer.wants_proof for observer in self.observers)

    # ---- what observers hear

    def started(self, sentence: str) -> None:
        for observer in self.observers:
            observer.started(sentence)

    def told(self, bounds: Tensor, closed: Tensor) -> None:
        for observer in self.observers:
            observer.bounded(bounds, closed)

    def wish(self) -> str:
        return next(filter(None, (observer.wished() for observer in self.observers)), "")

    def finished(self, outcome: Outcome, state: State | None) -> Outcome:
        for observer in self.observers:
            observer.finished(outcome, state)
        return outcome
