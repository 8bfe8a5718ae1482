"""What the engine asks of a kind of tree: how pieces are stored, bounded and split.

Two kinds exist. `regions`: pieces are small regions of a low-dimensional input, every layer is bounded anew on each.
`phases`: pieces are activation branches of a high-dimensional input, the root's pre-activation bounds are kept and
multipliers are optimised. A record (see `records`) holds what the tree needs to rebuild a piece.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Generic

import torch
from torch import Tensor

from ...problems.properties.property import Array
from ...relaxations.types import Pieces, Result
from .goals import Goals
from .proofs import Foundation, Ground, Narrowing, Part, Proof, part_of
from .records import R
from .ways import Way

EMPTY = "empty"  # how a piece ended that was proved to hold no point


@dataclass(frozen=True, eq=False)
class Bounded(Generic[R]):
    """What bounding a batch of records gave.

    records: the same pieces with what became known, ready to be stored.
    closed: proved to hold no counterexample. near: closed but for rounding. decided: no neuron is open any more, or
    nothing is left to split. points: inputs worth trying as counterexamples. by: of each closed piece, which of `names`
    closed it.
    """

    records: R
    result: Result
    closed: Tensor  # (B,) bool
    near: Tensor  # (B,) bool
    decided: Tensor  # (B,) bool
    points: Tensor  # (B, D)
    by: Tensor | None = None  # (B,) int64
    names: tuple[str, ...] = ("bound",)
    parts: tuple[Part, ...] = ()  # what proves those that each of `names` closed, where that is wanted
    narrowing: tuple[Narrowing, Tensor] | None = None  # and what open pieces' children start from: of which (K,)

    def looked_at(
        self, open_: Tensor, found: Tensor, shut: Tensor, name: str, proof: Proof | None = None
    ) -> Bounded[R]:
        """With what another look at the pieces `open_` (K,) gave: lower bounds of their rows (K, S), and which of them
        these close (K,), with its proof."""
        before = self.records.bound
        bound = torch.fmax(before[open_], found.nan_to_num(nan=-torch.inf).amax(1))
        records = replace(self.records, bound=before.index_put((open_,), bound))
        closed = self.closed.index_put((open_,), shut)
        by = closed.long() * 0 if self.by is None else self.by
        by, names = by.index_put((open_,), by.new_tensor(len(self.names))), (*self.names, name)
        parts = self.parts if proof is None else (*self.parts, (proof, open_))
        return replace(self, records=records, closed=closed, near=self.near & ~closed, by=by, names=names, parts=parts)

    def ends(self) -> Iterator[tuple[str, Tensor]]:
        """Each name with the rows of the pieces it closed, where there are any."""
        rows = self.closed.nonzero()[:, 0]
        if len(rows) == 0:
            return
        by = torch.zeros_like(rows) if self.by is None or len(self.names) == 1 else self.by[rows]
        for number, name in enumerate(self.names):
            mine = rows[by == number]
            if len(mine):
                yield name, mine

    def proof(self, name: str, rows: Tensor) -> Proof:  # (K,)
        """What proves these pieces, which that name closed."""
        return part_of(self.parts[self.names.index(name)], rows, len(self.closed))


@dataclass(frozen=True, eq=False)
class Settled:
    """What the exact linear program said of a decided piece: closed, or a point worth trying and why it is open.

    further: what to ask, with a limit in seconds, where the point turns out to be no witness. exact: the point in
    rational numbers, where it is known; `point` is the nearest in float64. proof: what proves a closed piece, given
    where it stands.
    """

    closed: bool
    point: Array | None
    reason: str
    further: Callable[[float], Settled] | None = None
    exact: tuple[Fraction, ...] | None = None
    proof: Callable[[Ground], Proof] | None = None


class AbstractTree(ABC, Generic[R]):
    """A kind of tree over one network and property, in one dtype on one device."""

    goals: Goals
    grouped_by: str | None = None  # the field in which the pieces of a batch must agree
    known: Bounded[R] | None = None  # what bounding the roots gave, where that is done
    proving: bool = False  # whether to say what proves the pieces that are closed

    def ways(self) -> list[Way]:
        """The relaxations that pieces were bounded with and what came of each, where there is a choice."""
        return []

    def notes(self) -> list[str]:
        """What a relaxation that was asked for could not treat, and what was done instead; one sentence each."""
        return []

    @abstractmethod
    def roots(self) -> R:
        """One piece for each goal, not yet bounded."""

    @abstractmethod
    def pieces(self, record: R) -> Pieces:
        """The record's pieces."""

    @abstractmethod
    def bound(self, record: R) -> Bounded[R]:
        """Bounds a batch of pieces, and chooses how each would be split."""

    def bound_roots(self) -> Bounded[R]:
        """The roots, bounded while the tree is made; a search that starts from them does not do it again."""
        self.known = self.bound(self.roots())
        return self.known

    def first(self) -> Bounded[R] | None:
        """What bounding the roots gave, where that is done and worth keeping."""
        return self.known

    @abstractmethod
    def confirm(self, record: R) -> Tensor:  # (B,) bool
        """Which pieces are closed by the same computation in float64."""

    def confirmation(self, record: R) -> Proof:
        """What `confirm` rests on, of pieces that it closes."""
        raise NotImplementedError(f"{type(self).__name__} says nothing of what proves its pieces")

    def ground(self, record: R) -> Ground:
        """Where these pieces stand, once they have been bounded."""
        raise NotImplementedError(f"{type(self).__name__} says nothing of what its pieces stand on")

    def foundations(self) -> list[Foundation]:
        """The bases laid since this was asked last."""
        return []

    @abstractmethod
    def split(self, record: R) -> R:
        """Both children of every piece, as chosen when it was bounded; child b of piece b, and b + B."""

    def due(self) -> bool:
        """Whether it is time to derive better bounds for what stubborn pieces stand on."""
        return False

    def sharing(self, open_: R) -> Tensor:  # (B,) bool
        """The open pieces that would profit from the same, the worst one among them; asked where `due` says so."""
        return torch.zeros_like(open_.id, dtype=torch.bool)

    def tighten(self, record: R, deadline: float | None) -> R:
        """The same pieces, to be bounded anew."""
        return record

    @abstractmethod
    def leaf(self, record: R, row: int, seconds: float | None = None) -> Settled:
        """An exact linear program on a piece whose neurons are all decided, within a time limit."""

    @abstractmethod
    def default_batch(self, memory: float) -> int:
        """How many pieces to bound at once, given bytes of memory."""

    def describe(self) -> str:
        """A few words for the strategy line."""
        return type(self).__name__.lower()
