"""Whether what proofs begin with follows from what they refer to: the other half of checking them.

A `Ground` says where an argument begins, and who proved that. Here the pieces of one search are followed from the
input set down: bases are proved again from their generations; what is left of a narrowed piece is cut as the search
says it was split; and a ground holds where its sets and pre-activation bounds contain what that gives. Half-spaces that
deciding a neuron gives are derived again from the neuron's own bounds on the parent. Of a search that was taken up from
a log the pieces it began with are not followed: the cuts above them were an earlier run's.

Numbers that were computed in float32 are compared with float64's to `MISSED`; whoever wants no such tolerance (a
certificate) has to carry what was proved from piece to piece instead of what was claimed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...kernels.polytope import clip_box
from ...kernels.proof_constants import MISSED
from ...relaxations.linear.backward import backward
from ...relaxations.linear.ibp import Ibp
from ...relaxations.linear.linear import Linear
from ...relaxations.linear.recomputed import agree, enclosed, widened
from ...relaxations.linear.root import outward, outward_half_spaces
from ...relaxations.rows.replayed import Key, Replay
from ...relaxations.types import Pieces
from ..trees.proofs import ROOT, Foundation, Ground, Narrowing
from ..trees.records import Record
from ..trees.splits import INPUT, PHASE, Split, cut_boxes, cut_pre, half_spaces
from .checker import Checker


@dataclass(eq=False)
class Standing:
    """What is known of the pieces of one search."""

    checker: Checker
    bases: dict[int, Foundation] = field(default_factory=dict)
    left: dict[int, Pieces] = field(default_factory=dict)  # (1) of each narrowed piece
    cuts: dict[int, tuple[int, int, Split]] = field(default_factory=dict)  # of each child: parent, side, the cut (1)
    rows: dict[int, set[Key]] = field(default_factory=dict)  # that hold on each base
    trusted: int = 0  # rows of groups of neurons: see `replayed`

    def laid(self, base: Foundation) -> bool:
        """A base; whether its bounds and rows follow, generation by generation."""
        made, pieces = self.checker.made, widened(base.pieces)
        fine = torch.ones(1, dtype=torch.bool, device=pieces.lower.device)
        rows: set[Key] = set()
        if base.above is not None:
            above = self.bases[base.above]
            fine = fine & self._over(above, pieces) & (base.pieces.neuron >= 0).all(1)
            rows = self.rows[base.above]
        else:
            fine = fine & self._everything(pieces)
        if base.derived is not None:
            pieces, _, _, own = made.layers(pieces, widened(base.derived))
            fine = fine & own
        elif base.above is None:
            scales = made.scales(pieces.with_pre(*(side.double() for side in (base.pre_lower, base.pre_upper))))
            relaxation = Ibp(Linear(made.rounding, scales))
            bounds = relaxation.nodes(pieces)
            operands = made.graph.operands
            low, high = (torch.cat([bounds[operand.source][side] for operand in operands], 1) for side in (0, 1))
            pieces = pieces.with_pre(low, high)
        replay = Replay(made, pieces, set(rows))
        replay.take(base.steps)
        self.trusted += replay.trusted
        pieces = replay.pieces
        fine = fine & agree(pieces.pre_lower, base.pre_lower.double())
        fine = fine & agree(-pieces.pre_upper, -base.pre_upper.double())
        self.bases[base.number], self.rows[base.number] = base, replay.known
        if base.neuron_rows is not None:
            one = widened(base.pieces).with_pre(base.pre_lower.double(), base.pre_upper.double())
            self.checker.joints[base.number] = base.neuron_rows.to(made.graph, made.scales_of_one(one))
        return bool(fine.all()) and replay.agree and replay.holds(base.neuron_rows)

    def _everything(self, pieces: Pieces) -> bool:
        """Whether a piece is the box around all input sets, and nothing is known of it."""
        lower, upper = (side.to(pieces.lower.device) for side in self.checker.box)
        fine = bool((pieces.lower <= lower).all()) and bool((pieces.upper >= upper).all())
        known = bool((pieces.pre_lower > -torch.inf).any() or (pieces.pre_upper < torch.inf).any())
        return fine and not known and not pieces.neuron.shape[1] and not pieces.offsets.shape[1]

    def narrowed(self, record: Record, narrowing: Narrowing) -> None:
        """What is left of pieces."""
        for k, piece in enumerate(record.id.tolist()):
            self.left[piece] = narrowing.left[k : k + 1]

    def branched(self, parents: Record, children: Record) -> None:
        """Pieces that were split."""
        cut, count = parents.cut, len(parents)
        for k, child in enumerate(children.id.tolist()):
            b = k % count
            normal = None if cut.normal is None else cut.normal[b : b + 1]
            one = Split(cut.kind[b : b + 1], cut.index[b : b + 1], cut.point[b : b + 1], normal)
            self.cuts[child] = int(parents.id[b]), k // count, one

    def holds(self, record: Record, ground: Ground) -> Tensor:  # (K,) bool
        """Whether the ground of these pieces contains what is known of them."""
        if not len(record):
            return torch.zeros(0, dtype=torch.bool)
        if ground.inherited.kind == "base":
            found = [self._on_base(ground[ground.goal.new_tensor([k])]) for k in range(len(record))]
        else:
            ids = record.id.tolist()
            found = [self._below(ids[k], ground[ground.goal.new_tensor([k])]) for k in range(len(record))]
        return torch.tensor(found, dtype=torch.bool)

    def _on_base(self, ground: Ground) -> bool:
        base = self.bases[int(ground.inherited.number[0])]
        return self._whole(ground) and bool(self._over(base, ground.pieces).all())

    def _over(self, base: Foundation, pieces: Pieces) -> Tensor:  # (K,) bool
        """Whether pieces, which are part of a base's set, have no bounds but its own and what they decide."""
        dtype = base.pre_lower.dtype
        low, high = (side.expand(len(pieces), -1).clone() for side in (base.pre_lower, base.pre_upper))
        index, there = pieces.neuron.clamp(min=0), pieces.neuron >= 0
        point = pieces.point.to(dtype)
        low.scatter_reduce_(1, index, torch.where(there & (pieces.sign > 0), point, -torch.inf), "amax")
        high.scatter_reduce_(1, index, torch.where(there & (pieces.sign < 0), point, torch.inf), "amin")
        fine = (pieces.pre_lower <= low).all(1) & (pieces.pre_upper >= high).all(1)
        fine = fine & (pieces.lower >= base.pieces.lower).all(1) & (pieces.upper <= base.pieces.upper).all(1)
        for k in range(len(pieces)):
            fine[k] &= _among(base.pieces, pieces.normals[k : k + 1], pieces.offsets[k : k + 1])
        for number, sign, point in zip(*(side[0].tolist() for side in _decided(base.pieces)), strict=True):
            same = (pieces.neuron == number) & (pieces.sign == sign) & (pieces.point == point)
            fine = fine & same.any(1)
        return fine

    def _whole(self, ground: Ground) -> bool:
        """Whether a piece has all of its case's input set."""
        pieces, inputs = ground.pieces, self.checker.inputs(int(ground.goal[0]))
        sides = torch.from_numpy(inputs.lower)[None], torch.from_numpy(inputs.upper)[None]
        lower, upper = outward(*sides, pieces.lower.dtype, pieces.lower.device)
        fine = bool((pieces.lower <= lower).all()) and bool((pieces.upper >= upper).all())
        return fine and _among(pieces, *outward_half_spaces([inputs], lower, upper))

    def _below(self, piece: int, ground: Ground) -> bool:
        """Whether a region contains what is left of the piece that it starts from, on its side of the cut."""
        source, pieces = int(ground.inherited.number[0]), widened(ground.pieces)
        if source == ROOT:
            base = self.bases[0]
            fine = bool((pieces.pre_lower <= base.pre_lower.double()).all())
            return fine and bool((pieces.pre_upper >= base.pre_upper.double()).all()) and self._whole(ground)
        left = widened(self.left[source])
        if source == piece:
            return _contains(pieces, left)
        parent, side, cut = self.cuts[piece]
        if parent != source:
            return False
        cut = Split(cut.kind, cut.index, cut.point.double(), None if cut.normal is None else cut.normal.double())
        lower, upper = (value[side : side + 1] for value in cut_boxes(left.lower, left.upper, cut))
        low, high = (value[side : side + 1] for value in cut_pre(left.pre_lower, left.pre_upper, cut))
        normals, offsets = left.normals, left.offsets
        if int(cut.kind[0]) != INPUT:
            own = self._decision(left, cut) if int(cut.kind[0]) == PHASE else half_spaces(cut)
            normals = torch.cat([normals, own[0][side : side + 1][:, None]], 1)
            offsets = torch.cat([offsets, own[1][side : side + 1][:, None]], 1)
            lower, upper, _ = clip_box(lower, upper, *_joined(pieces, normals, offsets))
        return _contains(pieces, Pieces(lower, upper, normals, offsets, *_none(left), low, high))

    def _decision(self, left: Pieces, cut: Split) -> tuple[Tensor, Tensor]:  # (2, D), (2,)
        """The half-spaces that deciding a neuron gives on either side."""
        made, neuron = self.checker.made, int(cut.index[0])
        operand = next(one for one in made.graph.operands if one.span.start <= neuron < one.span.stop)
        lines = {
            layer.position: enclosed(layer, ends := left.ends(layer), layer.default_choice(ends))
            for layer in made.graph.layers
        }
        unit = left.lower.new_zeros(1, 1, operand.size)
        unit[0, 0, neuron - operand.span.start] = 1.0
        rows = torch.cat([unit, -unit], 1)
        scales = made.scales(left)
        form = backward(made.graph, scales, lines, operand.source, rows, rows.new_zeros(1, 2))
        at = torch.cat([cut.point, -cut.point])
        return form.linear[0], at - (form.constant - form.slack)[0]


def _decided(pieces: Pieces) -> tuple[Tensor, Tensor, Tensor]:
    return pieces.neuron, pieces.sign, pieces.point


def _none(pieces: Pieces) -> tuple[Tensor, Tensor, Tensor]:
    return pieces.neuron[:, :0], pieces.sign[:, :0], pieces.point[:, :0]


def _joined(pieces: Pieces, normals: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([pieces.normals, normals], 1), torch.cat([pieces.offsets, offsets], 1)


def _contains(outer: Pieces, inner: Pieces) -> bool:
    """Whether one piece contains another one, as is seen from its parts."""
    bounds = [(inner.lower, outer.lower), (-inner.upper, -outer.upper)]
    bounds += [(inner.pre_lower, outer.pre_lower), (-inner.pre_upper, -outer.pre_upper)]
    return all(bool(agree(found, claim).all()) for found, claim in bounds) and _among(
        outer, inner.normals, inner.offsets, inner
    )


def _among(pieces: Pieces, normals: Tensor, offsets: Tensor, box: Pieces | None = None) -> bool:
    """Whether every half-space of one piece is one of these, or holds where one of these does in the box: normals that
    differ by rounding differ in value by at most their difference over it."""
    used = pieces.offsets[0] < torch.inf
    own, limit = pieces.normals[0][used].double(), pieces.offsets[0][used].double()
    if not len(own):
        return True
    normals, offsets = normals[0].double(), offsets[0].double()
    box = box or pieces
    largest = torch.maximum(box.lower.abs(), box.upper.abs())[0].double()
    moved = ((own[:, None] - normals).abs() * largest).sum(2)  # (H, H')
    needed = offsets + moved
    return bool((needed <= limit[:, None] + MISSED * (1 + limit.abs())[:, None]).any(1).all())
