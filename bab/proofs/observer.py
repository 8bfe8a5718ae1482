"""An observer that closes every piece again, by the proof that it is handed."""

from __future__ import annotations

from collections import Counter

from ...problems.network.graph import Graph
from ...problems.properties.property import Property
from ..search.observer import Observer
from ..trees.proofs import Foundation, Narrowing, Proof, Unproved
from ..trees.records import Record
from .checker import Checker
from .standing import Standing


class Rechecking(Observer):
    """`closes`, `again`: how many pieces were closed, by kind of proof, and how many of them closed again. `wrong`: a
    sentence for each batch that holds others, or pieces that do not stand where they are said to. `follow`: whether
    that is looked at, piece by piece, which takes longer than the search.
    """

    wants_proof = True

    checker: Checker  # from the first base on, which says where the search lives
    standing: Standing

    def __init__(self, graph: Graph, prop: Property, follow: bool = False) -> None:
        self.graph, self.prop, self.follow = graph, prop, follow
        self.closes: Counter[str] = Counter()
        self.again: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.left: set[int] = set()  # proved, and not told closed yet

    def laid(self, base: Foundation) -> None:
        if base.above is None:
            self.checker = Checker(self.graph, self.prop, base.pieces.lower.device)
            self.standing = Standing(self.checker)
        if not self.standing.laid(base):
            self.wrong.append(f"base {base.number} does not follow from its generations")

    def branched(self, parents: Record, children: Record) -> None:
        if self.follow:
            self.standing.branched(parents, children)

    def narrowed(self, pieces: Record, proof: Narrowing) -> None:
        if not self.follow:
            return
        self.standing.narrowed(pieces, proof)
        self._stands(pieces, proof.bounds)
        if not bool((fine := self.checker.narrows(proof)).all()):
            self.wrong.append(f"{int((~fine).sum())} of {len(pieces)} pieces are not narrowed as they are said to be")

    def proved(self, leaves: Record, how: str, proof: Proof) -> None:
        kind, again = type(proof).__name__, self.checker.closes(proof)
        self.closes[kind] += len(leaves)
        self.again[kind] += int(again.sum())
        if isinstance(proof, Unproved) or not bool(again.all()):
            self.wrong.append(f"{len(leaves) - int(again.sum())} of {len(leaves)} pieces closed by {how}: {kind}")
        self._stands(leaves, proof)
        self.left |= set(leaves.id.tolist())

    def closed(self, leaves: Record, how: str) -> None:
        mine = set(leaves.id.tolist())
        if not mine <= self.left:
            self.wrong.append(f"{len(mine - self.left)} pieces closed by {how} without a proof")
        self.left -= mine

    def _stands(self, record: Record, proof: Proof) -> None:
        if not self.follow or isinstance(proof, Unproved):
            return
        ground = proof.bounds.ground if hasattr(proof, "bounds") else proof.ground
        if not bool((fine := self.standing.holds(record, ground)).all()):
            kind = type(proof).__name__
            self.wrong.append(
                f"{int((~fine).sum())} of {len(record)} pieces do not stand where they are said to ({kind})"
            )
