"""What proves closed pieces, on its way out to the observers that want it; where none does, nothing is made.

What proofs refer to comes first: bases before pieces stand on them, pieces that were narrowed before their children.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..trees.proofs import Proof
from ..trees.records import Record
from ..trees.tree import AbstractTree, Bounded
from .observer import Observer


class Proving:
    """Of one search."""

    def __init__(self, tree: AbstractTree, observers: Sequence[Observer]) -> None:
        self.tree, self.observers = tree, [observer for observer in observers if observer.wants_proof]
        if self.observers and not tree.proving:
            raise ValueError("an observer wants proofs, and the tree was built to make none: see `Watch.proving`")

    def laid(self) -> None:
        """Tell of new bases."""
        if self.observers:
            for foundation in self.tree.foundations():
                for observer in self.observers:
                    observer.laid(foundation)

    def narrowed(self, bounded: Bounded) -> None:
        """Tell what was found of pieces that their tree's own bounds leave open."""
        if self.observers and bounded.narrowing is not None and len(bounded.narrowing[1]):
            narrowing, rows = bounded.narrowing
            record, some = bounded.records[rows], narrowing[rows]
            for observer in self.observers:
                observer.narrowed(record, some)

    def proof(self, make: Callable[[], Proof]) -> Proof | None:
        """The proof, where somebody wants it."""
        return make() if self.observers else None

    def closed(self, leaves: Record, how: str, proof: Proof | None) -> None:
        """Tell what proves these."""
        if proof is not None:
            for observer in self.observers:
                observer.proved(leaves, how, proof)
