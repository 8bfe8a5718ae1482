"""What passes between the search and a relaxation: pieces in, bounds out.

All are plain tuples of tensors with the batch of pieces first. Letters: B pieces, S objective rows, D inputs,
N neurons (the entries of all layers' operands, as numbered by `Operand.span`), H half-spaces, P decided neurons.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ..problems.network.layer import Layer, Operand


@dataclass(frozen=True, eq=False)
class Pieces:
    """A batch of convex pieces of the input set.

    Piece b is {x : lower <= x <= upper, normals x <= offsets}, cut further by its decided neurons: for each p with
    neuron[b, p] >= 0, the pre-activation z of that neuron satisfies sign (z - point) >= 0.
    `pre_lower`, `pre_upper` enclose the pre-activations on the piece (decisions included); they start infinite.
    """

    lower: Tensor  # (B, D)
    upper: Tensor  # (B, D)
    normals: Tensor  # (B, H, D)
    offsets: Tensor  # (B, H), infinite where a half-space is absent
    neuron: Tensor  # (B, P) int64, -1 where absent
    sign: Tensor  # (B, P), +1 or -1
    point: Tensor  # (B, P)
    pre_lower: Tensor  # (B, N)
    pre_upper: Tensor  # (B, N)

    def __len__(self) -> int:
        return len(self.lower)

    def __getitem__(self, index: Tensor | slice) -> Pieces:
        return Pieces(*(getattr(self, f.name)[index] for f in fields(self)))

    def alike(self) -> bool:
        """Whether all pieces are the same set, with the same known of their neurons."""
        return all(bool((value == value[:1]).all()) for value in (getattr(self, f.name) for f in fields(self)))

    def space(self, index: Tensor) -> Pieces:
        """Some pieces as sets of inputs: without what is known of their neurons."""
        none = self.neuron[index, :0]
        empty = self.lower[index, :0]
        return Pieces(
            self.lower[index],
            self.upper[index],
            self.normals[index],
            self.offsets[index],
            none,
            empty,
            empty,
            empty,
            empty,
        )

    def pre(self, of: Layer | Operand) -> tuple[Tensor, Tensor]:  # (B, n), (B, n)
        """The pre-activation bounds of a layer or of an operand, as views: writing to them writes to the pieces."""
        return self.pre_lower[:, of.span], self.pre_upper[:, of.span]

    def ends(self, layer: Layer) -> tuple[tuple[Tensor, Tensor], ...]:  # (B, n_o), (B, n_o) an operand
        """The pre-activation bounds of one layer, operand by operand; views."""
        return tuple(self.pre(operand) for operand in layer.operands)

    def with_pre(self, lower: Tensor, upper: Tensor) -> Pieces:
        """The same pieces with other pre-activation bounds."""
        return replace(self, pre_lower=lower, pre_upper=upper)

    @staticmethod
    def boxes(lower: Tensor, upper: Tensor, neurons: int) -> Pieces:  # (B, D), (B, D)
        """Pieces that are boxes, with nothing known of the pre-activations."""
        count, size = lower.shape
        return Pieces(
            lower,
            upper,
            lower.new_zeros(count, 0, size),
            lower.new_zeros(count, 0),
            torch.zeros(count, 0, dtype=torch.int64, device=lower.device),
            lower.new_zeros(count, 0),
            lower.new_zeros(count, 0),
            lower.new_full((count, neurons), -torch.inf),
            lower.new_full((count, neurons), torch.inf),
        )


@dataclass(frozen=True, eq=False)
class Rows:
    """What is bounded from below on each piece: coefficients f(x) + on_input x + constants.

    A counterexample makes every row of its piece <= 0, and those that are `strict` < 0; None: no row is.
    """

    coefficients: Tensor  # (B, S, n_out)
    constants: Tensor  # (B, S)
    on_input: Tensor | None = None  # (B, S, D)
    strict: Tensor | None = None  # (B, S) bool

    def __getitem__(self, index: Tensor | slice) -> Rows:
        of = lambda part: None if part is None else part[index]  # noqa: E731
        return Rows(self.coefficients[index], self.constants[index], of(self.on_input), of(self.strict))

    def closed(self, lower: Tensor) -> Tensor:  # (B, S) -> (B,) bool
        """Which pieces such lower bounds of the rows leave without a counterexample: where one is above zero, or at
        least zero for a strict row. NaN closes nothing. Exact."""
        return self.settled(lower).any(1)

    def settled(self, lower: Tensor) -> Tensor:  # (B, S) -> (B, S) bool
        """Which rows close their piece, each by itself."""
        return lower > 0 if self.strict is None else (lower > 0) | (self.strict & (lower >= 0))


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Free parameters of a linear bound; any value in range gives a sound bound.

    choice: for every neuron the choices of its lower and upper line, in [0, 1] (see `network.activation`).
    split: the multiplier >= 0 of each decided neuron; neuron_rows: of each multi-neuron row (see `neuron_rows`).
    """

    choice: Tensor  # (B, S, 2, N), or (B, S, 1, N) where only lower lines have a choice
    split: Tensor  # (B, S, P)
    neuron_rows: Tensor  # (B, S, C)

    def __getitem__(self, index: Tensor | slice) -> Multipliers:
        return Multipliers(self.choice[index], self.split[index], self.neuron_rows[index])


@dataclass(frozen=True, eq=False)
class Derived:
    """How pre-activation bounds of pieces were found: layer by layer, from what was known of the piece, from intervals,
    and from the rows +e_i and -e_i of its neurons taken back through the lines that `choice` gives on the bounds of
    the layers before."""

    lower: Tensor  # (B, N), what came out
    upper: Tensor  # (B, N)
    choice: Tensor  # (B, 2, N), as in `Multipliers`, one for all rows
    price: Tensor | None = None  # (B, 2, N, H) multipliers of the half-spaces in the rows of the lower and upper ends
    forward: bool = False  # and from linear functions that were carried forward through the same lines

    def __getitem__(self, index: Tensor | slice) -> Derived:
        price = None if self.price is None else self.price[index]
        return Derived(self.lower[index], self.upper[index], self.choice[index], price, self.forward)


@dataclass(frozen=True, eq=False)
class Result:
    """Bounds of a batch of pieces; everything is sound, rounding included.

    For every x of piece b: row s is at least forms[b, s] x + constants[b, s], and at least lower[b, s].
    """

    lower: Tensor  # (B, S)
    forms: Tensor  # (B, S, D)
    constants: Tensor  # (B, S)
    slack: Tensor  # (B, S): how much of `lower` and `constants` was given up to rounding
    pre_lower: Tensor  # (B, N)
    pre_upper: Tensor  # (B, N)
    empty: Tensor  # (B,) bool: the piece was proved to contain no point
    scores: Tensor | None = None  # (B, N): how much each undecided neuron's relaxation costs (heuristic)
    blame: Tensor | None = None  # (B, D): how much of that each input coordinate is to blame for (heuristic)
    multipliers: Multipliers | None = None
    price: Tensor | None = None  # (B, S, H): multipliers of the half-spaces; kept where proofs are wanted
    derived: Derived | None = None  # likewise, where the pre-activations were bounded anew
