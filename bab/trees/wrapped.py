"""A tree inside another: whatever the outer one does not say itself, the inner one says.

Soundness: that of the tree inside.
"""

from __future__ import annotations

from torch import Tensor

from ...relaxations.types import Pieces
from .goals import Goals
from .proofs import Foundation, Ground, Proof
from .records import R
from .tree import AbstractTree, Bounded, Settled
from .ways import Way


class Wrapped(AbstractTree[R]):
    """Forwards everything. What is known of the roots goes through `further`, as whatever the inner tree bounds."""

    def __init__(self, inner: AbstractTree[R]) -> None:
        self.inner = inner

    @property
    def goals(self) -> Goals:  # type: ignore[override]
        return self.inner.goals

    @property
    def grouped_by(self) -> str | None:  # type: ignore[override]
        return self.inner.grouped_by

    @property
    def proving(self) -> bool:  # type: ignore[override]
        return self.inner.proving

    def further(self, bounded: Bounded[R]) -> Bounded[R]:
        """What the outer tree finds out beyond the inner one."""
        return bounded

    def bound(self, record: R) -> Bounded[R]:
        return self.further(self.inner.bound(record))

    def bound_roots(self) -> Bounded[R]:
        self.known = self.further(self.inner.bound_roots())
        return self.known

    def first(self) -> Bounded[R] | None:
        if self.known is None and (inner := self.inner.first()) is not None:
            self.known = self.further(inner)
        return self.known

    def describe(self) -> str:
        return self.inner.describe()

    def ways(self) -> list[Way]:
        return self.inner.ways()

    def notes(self) -> list[str]:
        return self.inner.notes()

    def roots(self) -> R:
        return self.inner.roots()

    def pieces(self, record: R) -> Pieces:
        return self.inner.pieces(record)

    def confirm(self, record: R) -> Tensor:
        return self.inner.confirm(record)

    def confirmation(self, record: R) -> Proof:
        return self.inner.confirmation(record)

    def ground(self, record: R) -> Ground:
        return self.inner.ground(record)

    def foundations(self) -> list[Foundation]:
        return self.inner.foundations()

    def split(self, record: R) -> R:
        return self.inner.split(record)

    def due(self) -> bool:
        return self.inner.due()

    def sharing(self, open_: R) -> Tensor:
        return self.inner.sharing(open_)

    def tighten(self, record: R, deadline: float | None) -> R:
        return self.inner.tighten(record, deadline)

    def leaf(self, record: R, row: int, seconds: float | None = None) -> Settled:
        return self.inner.leaf(record, row, seconds)

    def default_batch(self, memory: float) -> int:
        return self.inner.default_batch(memory)
