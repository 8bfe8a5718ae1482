"""Who may watch a search. Every method is empty here; an observer overrides what it wants to see.

Observers must not change what they are given. Pieces are named by their `id`, a number in the order in which they came
to be: the roots are 0 to G - 1, and of the two children of a piece the upper one's id is the lower one's plus one. A
record also holds `parent`, the parent's id (-1 for a root), `depth`, `goal` and `bound`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..trees.proofs import Foundation, Narrowing, Proof
    from ..trees.records import Record
    from .outcome import Outcome
    from .state import State


class Observer:
    """Does nothing.

    With `wants_proof` it is also handed what proves every closed piece (`laid`, `narrowed`, `proved`): see
    `bab.trees.proofs`. A search without such an observer keeps and computes nothing for it.
    """

    wants_proof: bool = False

    def started(self, strategy: str) -> None:
        """The search begins, with this strategy."""

    def bounded(self, bounds: Tensor, closed: Tensor) -> None:
        """What is known of the goals (G,) while work on the root goes on: lower bounds, and which they close."""

    def rooted(self, roots: Record) -> None:
        """The roots, one a goal, before they are bounded."""

    def branched(self, parents: Record, children: Record) -> None:
        """These pieces were split as their `cut` says; children b and b + B are those of piece b."""

    def closed(self, leaves: Record, how: str) -> None:
        """These pieces hold no counterexample; how: the name of the relaxation whose bound closed them, or empty,
        float64, linear program."""

    def laid(self, base: Foundation) -> None:
        """A base, the root's first, with what proves it; before pieces stand on it."""

    def narrowed(self, pieces: Record, proof: Narrowing) -> None:
        """These pieces stay open for now; what is left of them, for themselves and for their children."""

    def proved(self, leaves: Record, how: str, proof: Proof) -> None:
        """Just before `closed` is told of the same pieces: what proves them."""

    def stuck(self, leaf: Record, reason: str) -> None:
        """This piece can be neither closed nor split: the verdict cannot be unsat any more."""

    def progress(self, mark: str, state: State) -> None:
        """Something worth a report line happened."""

    def finished(self, outcome: Outcome, state: State | None) -> None:
        """The search is over."""

    def wished(self) -> str:
        """A reason to end the search after the step at hand, with the verdict `unknown`; empty: it may go on."""
        return ""
