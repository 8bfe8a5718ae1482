"""Trees over a low-dimensional input: pieces are boxes, cut by half-spaces and decided neurons, every layer re-bounded.

A piece carries its box, a few half-spaces, and the pre-activation bounds proved so far, which its children start from:
a neuron stable on a piece is stable below it and costs nothing more. After bounding, the piece is clipped to where
its rows can still be negative; the cut goes through what is left. Deciding a neuron of a layer that is affine on the
piece is a half-space of the input; of a deeper neuron it is relaxed to one by the neuron's own linear bound, which the
piece gets in addition to the decided phase.

Input splits, half-spaces and phases mix in one tree: `split` says which are used; `auto` means input splits.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..kernels.polytope import box_minimiser, clip_box
from ..problems.graph import Affine, Graph
from ..problems.property import Polytope, Property
from ..relaxations.base import Rebounding
from ..relaxations.linear import part, undecided_neurons
from ..relaxations.root import outward, outward_half_spaces
from ..relaxations.types import Pieces, Result
from .branching import half_space_split, input_split, phase_candidates, phase_split
from .frontier import Record
from .goals import Goals
from .settle import settled
from .splits import HALF_SPACE, INPUT, PHASE, Split, cut_boxes, cut_half_spaces, cut_pre
from .tree import AbstractTree, Bounded, Settled, children_of

# At most so many half-spaces stay with a piece; the oldest go first (a piece may only grow by that).
HALF_SPACES = 8


class Regions(AbstractTree):
    """See the module's essay. `splits`: auto, input, polyhedral or activation."""

    def __init__(
        self,
        graph: Graph,  # float64, CPU
        prop: Property,
        goals: Goals,
        precise_goals: Goals,  # in float64
        relaxation: Rebounding,
        precise: Rebounding,  # the same in float64
        root: Pieces,  # the hull of all cases, bounded
        splits: str = "auto",
        rule: str = "sensitivity",
    ) -> None:
        self.graph, self.prop, self.goals, self.precise_goals = graph, prop, goals, precise_goals
        self.relaxation, self.precise = relaxation, precise
        self.root, self.splits, self.rule = root, splits, rule
        self.root_width = (root.upper - root.lower)[0]
        self.halved = splits in ("polyhedral", "activation") or relaxation.half_spaces > 0
        self.fill = {"offsets": torch.inf}

    def describe(self) -> str:
        return (
            f"regions of the input, {self.splits if self.splits != 'auto' else 'input'} splits, every layer re-bounded"
        )

    def roots(self) -> Record:
        dtype, device = self.root.lower.dtype, self.root.lower.device
        cases = [self.prop.cases[c].inputs for c, _ in self.goals.pairs]
        lower, upper = outward(
            torch.tensor(np.stack([c.lower for c in cases])),
            torch.tensor(np.stack([c.upper for c in cases])),
            dtype,
            device,
        )
        count = len(cases)
        normals, offsets = outward_half_spaces(cases, lower, upper)
        self.halved |= normals.shape[1] > 0
        index = torch.arange(count, device=device)
        zeros = torch.zeros(count, dtype=torch.int64, device=device)
        return {
            "goal": index,
            "bound": torch.full((count,), -torch.inf, dtype=dtype, device=device),
            "depth": zeros,
            "id": index + count,
            "lower": lower,
            "upper": upper,
            "normals": normals,
            "offsets": offsets,
            "pre_lower": self.root.pre_lower.expand(count, -1).clone(),
            "pre_upper": self.root.pre_upper.expand(count, -1).clone(),
            "kind": zeros,
            "index": zeros,
            "point": torch.zeros(count, dtype=dtype, device=device),
            "normal": torch.zeros(count, lower.shape[1], dtype=dtype, device=device),
        }

    def pieces(self, record: Record) -> Pieces:
        """The record's pieces; decided neurons live in their pre-activation bounds and half-spaces."""
        used = (record["offsets"] < torch.inf).any(0)
        empty = record["goal"].new_zeros(len(record["goal"]), 0)
        none = record["lower"].new_zeros(len(record["goal"]), 0)
        return Pieces(
            record["lower"],
            record["upper"],
            record["normals"][:, used],
            record["offsets"][:, used],
            empty,
            none,
            none,
            record["pre_lower"],
            record["pre_upper"],
        )

    def bound(self, record: Record) -> Bounded:
        pieces = self.pieces(record)
        rows = self.goals.rows(record["goal"])
        result, left = self.relaxation.bound(pieces, rows)
        bound = torch.maximum(result.lower.amax(1), record["bound"])
        closed = (bound > 0) | result.empty
        near = ~closed & ((result.lower + result.slack) > 0).any(1)
        undecided = undecided_neurons(self.graph, left)
        choice = self._choose(left, result, undecided)
        stuck = (choice.kind == INPUT) & ~_splittable(left, choice)
        best = result.forms[torch.arange(len(bound), device=bound.device), result.lower.argmax(1)]
        points = box_minimiser(best[:, None], left.lower, left.upper)[:, 0]
        records = dict(record) | {
            "bound": bound,
            "lower": left.lower,
            "upper": left.upper,
            "pre_lower": left.pre_lower,
            "pre_upper": left.pre_upper,
            "kind": choice.kind,
            "index": choice.index,
            "point": choice.point,
            "normal": choice.normal if choice.normal is not None else torch.zeros_like(left.lower),
        }
        if self.relaxation.half_spaces:
            records |= {"normals": left.normals, "offsets": left.offsets}
        return Bounded(records, result, closed, near, ~undecided.any(1) | stuck, points)

    def confirm(self, record: Record) -> Tensor:
        precise = {k: v.double() if v.is_floating_point() else v for k, v in record.items()}
        result, _ = self.precise.bound(self.pieces(precise), self.precise_goals.rows(record["goal"]))
        return (result.lower > 0).any(1) | result.empty

    def _choose(self, pieces: Pieces, result: Result, undecided: Tensor) -> Split:
        """The split of each piece."""
        split = input_split(pieces.lower, pieces.upper, result.blame, self.root_width, self.rule)
        if self.splits == "polyhedral":
            return half_space_split(pieces.lower, pieces.upper, result.forms, result.lower, *self._hyperplanes(pieces))
        if self.splits == "activation":
            gap = torch.where(undecided, torch.minimum(-pieces.pre_lower, pieces.pre_upper), 0.0)
            width = (pieces.pre_upper - pieces.pre_lower).clamp(min=1e-30)
            layer = self._layer_order(undecided)
            neuron = phase_candidates(gap / width + layer, undecided, 1)[:, 0]
            phase = phase_split(self.graph, neuron, pieces.pre_lower, pieces.pre_upper)
            take = undecided.any(1)
            return Split(
                torch.where(take, phase.kind, split.kind),
                torch.where(take, phase.index, split.index),
                torch.where(take, phase.point, split.point),
            )
        return split

    def _layer_order(self, undecided: Tensor) -> Tensor:
        """Earlier layers first: their hyperplanes are exact, and what follows them becomes so."""
        order = undecided.new_zeros(undecided.shape[1], dtype=self.root.lower.dtype)
        for rank, position in enumerate(reversed(self.graph.activations)):
            start = self.graph.offsets[position]
            order[start : start + self.graph.nodes[position].size] = 2.0 * rank
        return order

    def _hyperplanes(self, pieces: Pieces) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None]:
        """The first layer's hyperplanes w x + b = 0 and what deciding each of its neurons is worth."""
        graph = self.relaxation.linear.graph
        position = graph.activations[0] if graph.activations else None
        source = graph.nodes[graph.nodes[position].inputs[0]] if position is not None else None
        if not isinstance(source, Affine) or source.inputs != (0,) or graph.nodes[position].function.kinks != (0.0,):
            return None, None
        index = torch.arange(source.size, device=source.bias.device)
        lower, upper = part(graph, pieces, position)
        # The area between chord and function: zero for neurons that do not cut the piece.
        scores = torch.where((lower < 0) & (upper > 0), -lower * upper / (upper - lower).clamp(min=1e-30), 0.0)
        return (source.operators[0].rows(index), source.bias), scores

    def split(self, record: Record) -> Record:
        chosen = Split(record["kind"], record["index"], record["point"], record["normal"])
        children = children_of(record, ("goal", "bound", "kind", "index", "point", "normal"))
        children["lower"], children["upper"] = cut_boxes(record["lower"], record["upper"], chosen)
        children["pre_lower"], children["pre_upper"] = cut_pre(record["pre_lower"], record["pre_upper"], chosen)
        normals, offsets = record["normals"], record["offsets"]
        if self.halved and bool((chosen.kind == PHASE).any()):
            chosen = self._as_half_spaces(record, chosen)
        if self.halved and bool((chosen.kind == HALF_SPACE).any()):
            normals, offsets = cut_half_spaces(normals, offsets, chosen)
            lower, upper, _ = clip_box(children["lower"], children["upper"], normals, offsets)
            children["lower"], children["upper"] = lower, upper
            if normals.shape[1] > HALF_SPACES:
                normals, offsets = normals[:, -HALF_SPACES:], offsets[:, -HALF_SPACES:]
            children["normals"], children["offsets"] = normals, offsets
        else:
            children["normals"], children["offsets"] = torch.cat([normals, normals]), torch.cat([offsets, offsets])
        return children

    def _as_half_spaces(self, record: Record, split: Split) -> Split:
        """Phase splits of first-layer neurons as the half-spaces they are, so that bounds can use them."""
        planes, _ = self._hyperplanes(self.pieces(record))
        if planes is None:
            return split
        weight, bias = planes
        here = (split.kind == PHASE) & (split.index < len(bias))
        index = torch.where(here, split.index, 0)
        return Split(
            torch.where(here, HALF_SPACE, split.kind),
            split.index,
            torch.where(here, split.point - bias[index], split.point),
            torch.where(here[:, None], weight[index], split.normal),
        )

    def leaf(self, record: Record, row: int) -> Settled:
        goal = int(record["goal"][row])
        case, unsafe = self.goals.pairs[goal]
        finite = record["offsets"][row] < torch.inf
        as_array = lambda t: t.double().cpu().numpy()  # noqa: E731
        polytope = Polytope(
            as_array(record["lower"][row]),
            as_array(record["upper"][row]),
            as_array(record["normals"][row][finite]),
            as_array(record["offsets"][row][finite]),
        )
        phases = []
        for position in self.graph.activations:
            start = self.graph.offsets[position]
            low = record["pre_lower"][row, start : start + self.graph.nodes[position].size]
            phases.append(torch.where(low >= 0, 1, -1).to(torch.int8).cpu().numpy())
        return settled(self.graph, polytope, phases, self.prop.cases[case].unsafe[unsafe])

    def default_batch(self, memory: float) -> int:
        widest = max(node.size for node in self.graph.nodes)
        stored = 4 * 2 * self.graph.neurons
        per_piece = 16 * widest * widest + stored
        return int(min(512 if self.root.lower.device.type == "cpu" else 8192, max(8, memory / 8 / per_piece)))


def _splittable(pieces: Pieces, split: Split) -> Tensor:
    """Whether the middle of the chosen side differs from both its ends."""
    at = split.index[:, None]
    low, high = pieces.lower.gather(1, at)[:, 0], pieces.upper.gather(1, at)[:, 0]
    return (low < split.point) & (split.point < high)
