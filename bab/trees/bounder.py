"""Bounds of activation branches: a function of the pieces, the base they stand on, and the way to bound them.

The box is the same for all pieces of a case and is never stored; a piece is its list of decided neurons. The
pre-activation bounds of its base hold on it, with the decided neurons cut off, so only the objective is bounded again:
with slopes, decision multipliers and multipliers of the base's multi-neuron rows that start from the parent's and are
optimised for a few steps (`linear.alpha`).

A bounder remembers nothing of what it was asked, so that copies of it on other devices (`to`) and in other processes
(pickled) say what it says.

Soundness: outward rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ...kernels.moving import moved
from ...problems.network.graph import Graph
from ...problems.properties.property import Property
from ...relaxations.linear.alpha import Alpha, only_relu
from ...relaxations.linear.clip import none_left
from ...relaxations.linear.linear import undecided_neurons
from ...relaxations.linear.root import outward, outward_half_spaces
from ...relaxations.linear.row_multipliers import NeuronRows
from ...relaxations.types import Multipliers, Pieces, Result
from .goals import Goals
from .proofs import Emptiness, Ground, Inherited, LinearBound
from .records import Branch
from .splits import fitted
from .tree import EMPTY, Bounded
from .ways import Way


@dataclass(frozen=True, eq=False)
class Base:
    """Pre-activation bounds (1, N) and rows that hold wherever the first `depth` decisions of its pieces do."""

    pre_lower: Tensor
    pre_upper: Tensor
    neuron_rows: NeuronRows | None
    depth: int = 0

    @property
    def bytes(self) -> int:
        """Memory that it holds."""
        return 2 * self.pre_lower.numel() * self.pre_lower.element_size() + (
            self.neuron_rows.bytes if self.neuron_rows else 0
        )


@dataclass(frozen=True, eq=False)
class InputSets:
    """The input sets of C cases, rounded outwards, and which of them each goal is about."""

    case: Tensor  # (G,) int64
    lower: Tensor  # (C, D)
    upper: Tensor  # (C, D)
    normals: Tensor  # (C, H, D)
    offsets: Tensor  # (C, H)

    @classmethod
    def of(cls, prop: Property, goals: Goals) -> InputSets:
        """Those of a property, in the dtype and on the device of its goals."""
        dtype, device = goals.constants.dtype, goals.constants.device
        cases = [prop.cases[c].inputs for c, _ in goals.pairs]
        distinct = list({id(c): c for c in cases}.values())
        case = torch.tensor([[d is c for d in distinct].index(True) for c in cases], device=device)
        low, high = (torch.tensor(np.stack([getattr(c, side) for c in distinct])) for side in ("lower", "upper"))
        lower, upper = outward(low, high, dtype, device)
        return cls(case, lower, upper, *outward_half_spaces(distinct, lower, upper))


@dataclass(frozen=True, eq=False)
class Found:
    """What a batch came to, before a split is chosen for each piece. `undecided`: (B, N) bool."""

    bounded: Bounded[Branch]
    pieces: Pieces
    undecided: Tensor


@dataclass(frozen=True, eq=False)
class Bounder:
    """See the module's essay. `free`: (F,) int64, the neurons that are undecided at the root."""

    relaxation: Alpha  # without rows, which are the base's
    goals: Goals
    precise: Alpha  # both once more in float64
    precise_goals: Goals
    inputs: InputSets
    free: Tensor

    @classmethod
    def of(cls, prop: Property, working: tuple[Alpha, Goals], precise: tuple[Alpha, Goals]) -> Bounder:
        """A bounder of the property's goals; every neuron is free."""
        graph, goals = working[0].linear.graph, working[1]
        free = torch.arange(graph.neurons, device=goals.constants.device)
        return cls(*working, *precise, InputSets.of(prop, goals), free)

    def to(self, device: torch.device | str) -> Bounder:
        """A copy on another device."""
        return moved(self, device)

    @property
    def graph(self) -> Graph:
        return self.relaxation.linear.graph

    @cached_property
    def sides(self) -> int:
        """How many slopes of a neuron are free."""
        return 1 if only_relu(self.graph) else 2

    def pieces(self, record: Branch, base: Base) -> Pieces:
        """The record's pieces in the precision of the base, their decisions worked into its pre-activation bounds."""
        dtype, case, sets = base.pre_lower.dtype, self.inputs.case[record.goal], self.inputs
        low, high = base.pre_lower.expand(len(case), -1).clone(), base.pre_upper.expand(len(case), -1).clone()
        neuron, sign, at = record.neuron, record.sign.to(dtype), record.point.to(dtype)
        if neuron.shape[1]:
            index = neuron.clamp(min=0)
            floor = torch.where((neuron >= 0) & (sign > 0), at, -torch.inf)
            ceiling = torch.where((neuron >= 0) & (sign < 0), at, torch.inf)
            low.scatter_reduce_(1, index, floor, "amax")
            high.scatter_reduce_(1, index, ceiling, "amin")
        lower, upper, normals, offsets = (
            side[case].to(dtype) for side in (sets.lower, sets.upper, sets.normals, sets.offsets)
        )
        return Pieces(lower, upper, normals, offsets, neuron, sign, at, low, high)

    def first(self, record: Branch, base: Base, start: Multipliers | None) -> Branch:
        """Pieces that nothing was found of yet, with these multipliers, or CROWN's slopes and none."""
        rows = self.goals.constants.shape[1]
        start = start or replace(self.relaxation, neuron_rows=base.neuron_rows).start(self.pieces(record, base), rows)
        return replace(record, choice=self.kept(start.choice), neuron_rows=stored(start.neuron_rows))

    def start(self, record: Branch, pieces: Pieces, base: Base) -> Multipliers:
        """The record's slopes and multipliers; decided neurons' slopes are not used."""
        like, (count, rows) = pieces.lower, record.split.shape[:2]
        choice = like.new_zeros(count, rows, self.sides, self.graph.neurons)
        choice[..., self.free] = record.choice.to(like.dtype)
        neuron_rows = fitted(record.neuron_rows.to(like.dtype), len(base.neuron_rows or ()))
        return Multipliers(choice, record.split.to(like.dtype), neuron_rows)

    def kept(self, choice: Tensor) -> Tensor:  # (..., N) -> (..., F) half
        """Slopes as records hold them."""
        return choice[..., self.free].half()

    def bound(self, record: Branch, base: Base, way: Way) -> Found:
        """The pieces bounded; their records have the splits that they had."""
        pieces, rows = self.pieces(record, base), self.goals.rows(record.goal)
        neuron_rows, steps = base.neuron_rows if way.rows else None, self.relaxation.steps * way.patience
        relaxation = replace(self.relaxation, neuron_rows=neuron_rows, steps=steps)
        result, _, values = relaxation.bound(pieces, rows, self.start(record, pieces, base))
        assert values is not None, "optimised bounds say where they are met"
        bounds = self._proof(record, pieces, result) if self.relaxation.linear.proving else None
        if neuron_rows is None and result.multipliers is not None:  # the rows' multipliers wait for the next time
            result = replace(result, multipliers=replace(result.multipliers, neuron_rows=record.neuron_rows))
        empty = result.empty | (pieces.pre_lower > pieces.pre_upper).any(1)
        empty |= none_left(pieces, result, pieces.lower, pieces.upper)
        by_bound = rows.closed(result.lower)
        closed = by_bound | empty
        near = ~closed & rows.closed(result.lower + result.slack)
        undecided = self._undecided(pieces)
        best = result.lower.argmax(1)
        points = values[0][torch.arange(len(best), device=best.device), best]
        records, by = self._learned(record, result), (~by_bound).long()
        decided = ~undecided.any(1)
        bounded = Bounded(records, result, closed, near, decided, points, by, (way.name, EMPTY))
        if bounds is not None:
            bounded = replace(bounded, parts=((bounds, None), (Emptiness(bounds), None)))
        return Found(bounded, pieces, undecided)

    def ground(self, record: Branch, pieces: Pieces) -> Ground:
        """Where the record's pieces stand."""
        return Ground(pieces, record.goal, Inherited("base", record.base))

    def _proof(self, record: Branch, pieces: Pieces, result: Result) -> LinearBound:
        assert result.multipliers is not None, "optimised bounds have multipliers"
        return LinearBound(self.ground(record, pieces), result.multipliers, result.price)

    def _learned(self, record: Branch, result: Result) -> Branch:
        """The record with its bounds and what they were reached with."""
        found, bound = result.multipliers, torch.fmax(result.lower.amax(1), record.bound)
        assert found is not None, "optimised bounds have multipliers"
        return replace(
            record,
            bound=bound,
            choice=self.kept(found.choice),
            split=found.split,
            neuron_rows=stored(found.neuron_rows),
        )

    def _undecided(self, pieces: Pieces) -> Tensor:  # (B, N)
        undecided = undecided_neurons(self.graph, pieces)
        if not self.graph.piecewise_linear:
            # A smooth neuron is never decided, but its interval ends at two neighbouring numbers.
            middle = (pieces.pre_lower + pieces.pre_upper) / 2
            undecided &= (pieces.pre_lower < middle) & (middle < pieces.pre_upper)
        return undecided

    def glance(self, record: Branch, base: Base) -> Tensor:  # (B,)
        """The best bound of each piece with its multipliers as they are."""
        pieces, rows = self.pieces(record, base), self.goals.rows(record.goal)
        relaxation = replace(self.relaxation, neuron_rows=base.neuron_rows, steps=0)
        return relaxation.bound(pieces, rows, self.start(record, pieces, base)).result.lower.amax(1)

    def in_float64(self, base: Base) -> Base:
        """The base as `confirm` wants it."""
        linear = self.precise.linear
        neuron_rows = None if base.neuron_rows is None else base.neuron_rows.to(linear.graph, linear.scales)
        return replace(
            base, pre_lower=base.pre_lower.double(), pre_upper=base.pre_upper.double(), neuron_rows=neuron_rows
        )

    def confirm(self, record: Branch, base: Base) -> Tensor:  # (B,) bool
        """Which pieces the multipliers at hand close in float64, on a base in float64."""
        return self.precise_goals.rows(record.goal).closed(self._precisely(record, base)[1].lower)

    def confirmation(self, record: Branch, base: Base) -> LinearBound:
        """What `confirm` rests on."""
        return self._proof(record, *self._precisely(record, base))

    def _precisely(self, record: Branch, base: Base) -> tuple[Pieces, Result]:
        pieces, rows = self.pieces(record, base), self.precise_goals.rows(record.goal)
        precise = replace(self.precise, neuron_rows=base.neuron_rows, steps=0)
        return pieces, precise.bound(pieces, rows, self.start(record, pieces, base)).result


def stored(neuron_rows: Tensor) -> Tensor:
    """Rows' multipliers in half precision: any number >= 0 is sound."""
    return neuron_rows.clamp(max=torch.finfo(torch.float16).max).half()
