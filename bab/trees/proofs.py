"""What proves that a piece holds no counterexample: one type for each kind of argument, a batch of pieces each.

A proof begins where its pieces stand: their sets, with the pre-activation bounds that were known before the argument.
Who proved those is said by reference (`Inherited`): a piece whose bounds were narrowed when it was bounded, or a base.
Both hand theirs to the same observer, as `Narrowing` and `Foundation`, before anything refers to it. So what an
observer gets, taken together, goes back to the input set and the network; nothing is told twice.

Everything is as it was used: in the precision and on the device of the search, batched, the pieces first. `proof[rows]`
is the proof of some of them. Proofs are made where an observer asks for them alone (`Observer.wants_proof`), by trees
that were told so when they were built (`AbstractTree.proving`). They are checked by `bab.proofs.checker`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...problems.properties.property import Array, Polytope
from ...relaxations.types import Derived, Multipliers, Pieces

if TYPE_CHECKING:
    from ...relaxations.ladder.ladder import Minima
    from ...relaxations.leaf.cell import Multipliers as CellMultipliers
    from ...relaxations.linear.row_multipliers import NeuronRows
    from ...relaxations.rows.ledger import Step

ROOT = -1  # `Inherited.number` of what stands on nothing but the root's base, which is base 0


class Batch:
    """A dataclass whose fields hold K pieces, all but those that say how they are joined."""

    def __getitem__(self, rows: Tensor) -> Self:  # (K',) int64
        """Those of some pieces, in this order."""
        return type(self)(**{f.name: _some(getattr(self, f.name), rows) for f in fields(self)})  # type: ignore[arg-type]


def _some(value: Any, rows: Tensor) -> Any:
    if isinstance(value, tuple):
        return tuple(value[row] for row in rows.tolist())
    return value if value is None or isinstance(value, str | bool) else value[rows]


@dataclass(frozen=True, eq=False)
class Inherited(Batch):
    """Who proved the pre-activation bounds that each piece stands on: a piece by its `id`, which narrowed them, with
    what the cuts below it decided; or a base by its number, with what the piece's decisions cut off."""

    kind: Literal["piece", "base"]
    number: Tensor  # (K,) int64


@dataclass(frozen=True, eq=False)
class Ground(Batch):
    """Where an argument begins."""

    pieces: Pieces  # (K)
    goal: Tensor  # (K,) int64
    inherited: Inherited


@dataclass(frozen=True, eq=False)
class LinearBound(Batch):
    """A row of the goal is positive by a backward pass with these multipliers, after the layers were bounded anew as
    `derived` says, where it does. Those of neuron rows are of the rows of the base that the pieces stand on."""

    ground: Ground
    multipliers: Multipliers  # (K, S, ...)
    price: Tensor | None  # (K, S, H): of the half-spaces
    derived: Derived | None = None


@dataclass(frozen=True, eq=False)
class IntervalBound(Batch):
    """A row is positive by interval arithmetic over the pieces; `twins`: by signs and differences of twin neurons over
    it. `lower`, `upper`: what is claimed of the pre-activations, where more is than is known."""

    ground: Ground
    lower: Tensor | None = None  # (K, N)
    upper: Tensor | None = None
    twins: bool = False


@dataclass(frozen=True, eq=False)
class Emptiness(Batch):
    """Nothing is left of the pieces: bounds of a neuron cross, or the half-spaces of the pieces and of the forms that
    bound the goal's rows, on whose other side no counterexample is, have no point of the box in common."""

    bounds: LinearBound | IntervalBound


@dataclass(frozen=True, eq=False)
class ProgramBound(Batch):
    """A row is positive by the dual vector of a linear program over each piece, or the program has no point. None: the
    piece has none, as its box and intervals say. That the program's own rows hold for the network is not part of it."""

    ground: Ground
    minima: tuple[Minima | None, ...]  # (K)


@dataclass(frozen=True, eq=False)
class CellBound(Batch):
    """All neurons are decided, and multipliers of the unsafe rows, half-spaces and phases exclude each other (Farkas).
    None: interval arithmetic leaves no point with these phases."""

    ground: Ground
    polytopes: tuple[Polytope, ...]  # (K)
    phases: tuple[Sequence[NDArray[np.int8]], ...]  # of each piece one (n,) array a layer
    multipliers: tuple[CellMultipliers | None, ...]


@dataclass(frozen=True, eq=False)
class ExactDecision(Batch):
    """The part of the input set in the box, with these phases (0: open), holds no unsafe point: decided in whole
    numbers, and to be decided so again."""

    ground: Ground
    boxes: tuple[tuple[Array, Array] | None, ...]  # (K)
    phases: tuple[Sequence[NDArray[np.int8]] | None, ...]


@dataclass(frozen=True, eq=False)
class Unproved(Batch):
    """Closed by the word of somebody else, whose name this is: a relaxation that says no more, a log."""

    says: str


Proof = LinearBound | IntervalBound | Emptiness | ProgramBound | CellBound | ExactDecision | Unproved


@dataclass(frozen=True, eq=False)
class Narrowing(Batch):
    """Pieces that stay open, and what is left of them to their children: no counterexample of the ground's pieces lies
    outside `left`, and its pre-activation bounds hold on it."""

    bounds: LinearBound | IntervalBound
    left: Pieces


@dataclass(frozen=True, eq=False)
class Foundation:
    """A base: pre-activation bounds and neuron rows, and every generation of them, in order. `pieces`: the one set on
    which they hold, with the bounds they began with: infinite ones, or those of the base `above`."""

    number: int
    pieces: Pieces  # (1)
    above: int | None
    derived: Derived | None  # the first generation of a root's, by lines; None: by intervals, or there is none
    steps: tuple[Step, ...]
    pre_lower: Tensor  # (1, N)
    pre_upper: Tensor
    neuron_rows: NeuronRows | None


Part = tuple[Proof, Tensor | None]  # a proof, and which pieces (K,) of a batch it is about; None: all


def part_of(part: Part, rows: Tensor, count: int) -> Proof:
    """The proof of these pieces of a batch of `count`."""
    proof, about = part
    if about is not None:
        at = rows.new_full((count,), -1)
        at[about] = rows.new_tensor(range(len(about)))
        rows = at[rows]
    return proof[rows]
