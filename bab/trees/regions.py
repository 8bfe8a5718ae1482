"""Trees over a low-dimensional input: pieces are boxes, cut by half-spaces and decided neurons, every layer re-bounded.

A piece carries its box, a few half-spaces, and the pre-activation bounds proved so far, which its children start from:
a neuron stable on a piece is stable below it and costs nothing more. After bounding, the piece is clipped to where
its rows can still be negative; the cut goes through what is left. Deciding a neuron of a layer that is affine on the
piece is a half-space of the input; of a deeper neuron it is relaxed to one by the neuron's own linear bound, which the
piece gets in addition to the decided phase (`linear.decide`).

Input splits, half-spaces and phases mix in one tree; `split` says which. `auto` and `input` bisect; `activation`
decides neurons; `polyhedral` takes turns: the hyperplane of a first-layer neuron, a half-space across the bound's
gradient, a bisection, so that a piece shrinks on all sides whichever of them helps. In all of them a piece that is
deep, with few undecided neurons, is finished by deciding those (`branching.finishing`), and so is one whose box cannot
be bisected any more. With every neuron decided an exact linear program settles it: the search is complete for
piecewise-linear networks. Smooth ones are bisected until float numbers run out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...kernels.polytope import box_minimiser, clip_box
from ...problems.network.graph import Affine, Graph
from ...problems.properties.property import Polytope, Property
from ...relaxations.leaf.rational import Rational
from ...relaxations.linear.decide import decision_half_spaces
from ...relaxations.linear.ibp import Ibp
from ...relaxations.linear.linear import undecided_neurons
from ...relaxations.linear.rebounding import Rebounding
from ...relaxations.linear.root import outward, outward_half_spaces
from ...relaxations.types import Pieces, Result
from ..effort import REGIONS, RegionEffort
from ..rules import find
from .branching import finishing, half_space_split, input_split, merge, phase_candidates, phase_split
from .goals import Goals
from .proofs import ROOT, Emptiness, Foundation, Ground, Inherited, IntervalBound, LinearBound, Narrowing, Proof
from .records import Region, children_of
from .scores import Sight
from .settle import phases_of, settled
from .splits import HALF_SPACE, NONE, PHASE, Split, add_half_spaces, cut_boxes, cut_pre, half_spaces
from .tree import EMPTY, AbstractTree, Bounded, Settled


@dataclass(frozen=True)
class Cuts:
    """How regions are cut. `splits`: auto, input, polyhedral or activation; `rule`: of bisections."""

    splits: str = "auto"
    rule: str = "sensitivity"
    effort: RegionEffort = REGIONS


class Regions(AbstractTree[Region]):
    """See the module's essay."""

    def __init__(
        self,
        graph: Graph,  # float64, CPU
        prop: Property,
        working: tuple[Rebounding | Ibp, Goals],
        precise: tuple[Rebounding | Ibp, Goals],  # the same in float64
        root: Pieces,  # the hull of all cases, bounded
        cuts: Cuts,
    ) -> None:
        self.graph, self.prop = graph, prop
        (self.relaxation, self.goals), (self.precise, self.precise_goals) = working, precise
        self.root, self.splits, self.score, self.effort = root, cuts.splits, find(cuts.rule).load(), cuts.effort
        self.own = 0  # half-spaces that are the input set's
        self.name = "ibp" if isinstance(self.relaxation, Ibp) else self.relaxation.linear.rule
        self.piecewise = graph.piecewise_linear
        self.first_layer = self._first_layer()
        self.rational = Rational(graph, self.relaxation.linear.effort.leaf)
        self.proving = self.relaxation.linear.proving
        self.laid = not self.proving

    def describe(self) -> str:
        return (
            f"regions of the input, {self.splits if self.splits != 'auto' else 'input'} splits, every layer re-bounded"
        )

    def roots(self) -> Region:
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
        self.own = normals.shape[1]
        index = torch.arange(count, device=device)
        zeros = torch.zeros(count, dtype=torch.int64, device=device)
        return Region(
            goal=index,
            bound=torch.full((count,), -torch.inf, dtype=dtype, device=device),
            depth=zeros,
            id=index,
            parent=zeros - 1,
            lower=lower,
            upper=upper,
            normals=normals,
            offsets=offsets,
            pre_lower=self.root.pre_lower.expand(count, -1).clone(),
            pre_upper=self.root.pre_upper.expand(count, -1).clone(),
            cut_kind=zeros,
            cut_index=zeros,
            cut_point=torch.zeros(count, dtype=dtype, device=device),
            cut_normal=torch.zeros(count, lower.shape[1], dtype=dtype, device=device),
            source=zeros + ROOT if self.proving else None,
        )

    def pieces(self, record: Region) -> Pieces:
        used = (record.offsets < torch.inf).any(0)
        sides = record.lower, record.upper, record.normals[:, used], record.offsets[:, used]
        none, empty = record.goal.new_zeros(len(record), 0), record.lower.new_zeros(len(record), 0)
        return Pieces(*sides, none, empty, empty, record.pre_lower, record.pre_upper)

    def bound(self, record: Region) -> Bounded[Region]:
        pieces = self.pieces(record)
        rows = self.goals.rows(record.goal)
        result, left, _ = self.relaxation.bound(pieces, rows)
        bound = torch.fmax(result.lower.amax(1), record.bound)
        by_bound = rows.closed(result.lower)
        closed = by_bound | result.empty
        near = ~closed & rows.closed(result.lower + result.slack)
        undecided = undecided_neurons(self.graph, left)
        cut = self._choose(left, result, undecided, record.depth)
        decided = cut.kind == NONE
        if self.piecewise:
            decided |= ~undecided.any(1)
        best = result.forms[torch.arange(len(bound), device=bound.device), result.lower.argmax(1)]
        points = box_minimiser(best[:, None], left.lower, left.upper)[:, 0]
        known = {name: getattr(left, name) for name in ("lower", "upper", "pre_lower", "pre_upper")}
        records = replace(record, bound=bound, **known).with_cut(cut)
        by = (~by_bound).long()
        bounded = Bounded(records, result, closed, near, decided, points, by, (self.name, EMPTY))
        return self._proved(bounded, record, pieces, left) if self.proving else bounded

    def _proved(self, bounded: Bounded[Region], record: Region, pieces: Pieces, left: Pieces) -> Bounded[Region]:
        """With what proves it; what comes after starts from what was found here."""
        bounds, open_ = proof_of(self._at(record, pieces), bounded.result), (~bounded.closed).nonzero()[:, 0]
        return replace(
            bounded,
            records=replace(bounded.records, source=record.id),
            parts=((bounds, None), (Emptiness(bounds), None)),
            narrowing=(Narrowing(bounds, left), open_),
        )

    def _at(self, record: Region, pieces: Pieces) -> Ground:
        assert record.source is not None, "kept where proofs are wanted"
        return Ground(pieces, record.goal, Inherited("piece", record.source))

    def ground(self, record: Region) -> Ground:
        return self._at(record, self.pieces(record))

    def confirmation(self, record: Region) -> Proof:
        pieces, goal = self._in_float64(record)
        result = self.precise.bound(pieces, self.precise_goals.rows(goal)).result
        return proof_of(self._at(record, pieces), result)

    def foundations(self) -> list[Foundation]:
        if self.laid:
            return []
        self.laid, root = True, self.root
        nothing = Pieces.boxes(root.lower, root.upper, self.graph.neurons)
        derived = None if isinstance(self.relaxation, Ibp) else self.relaxation.linear.derived(root)
        return [Foundation(0, nothing, None, derived, (), root.pre_lower, root.pre_upper, None)]

    def confirm(self, record: Region) -> Tensor:
        pieces, goal = self._in_float64(record)
        rows = self.precise_goals.rows(goal)
        result = self.precise.bound(pieces, rows).result
        return rows.closed(result.lower) | result.empty

    def _in_float64(self, record: Region) -> tuple[Pieces, Tensor]:
        precise = {k: v.double() if v.is_floating_point() else v for k, v in record.columns().items()}
        return self.pieces(Region(**precise)), record.goal

    def _choose(self, pieces: Pieces, result: Result, undecided: Tensor, depth: Tensor) -> Split:
        """The split of each piece; its kind is NONE where nothing can be split."""
        assert result.blame is not None and result.scores is not None, "what bounds regions scores them"
        split = input_split(pieces.lower, pieces.upper, self.score(Sight.of(pieces, result, self.root)))
        count, stuck = undecided.sum(1), split.kind == NONE
        few = ((count <= finishing(depth, pieces.lower.shape[1], self.effort)) | stuck) & self.piecewise
        if self.splits == "activation":
            few = torch.full_like(few, True) if self.piecewise else (depth % 2 == 0) & ~stuck
        elif self.splits == "polyhedral":
            across = half_space_split(pieces.lower, pieces.upper, result.forms, result.lower)
            split = merge((depth % 3 == 1) & (across.kind == HALF_SPACE), across, split)
            first = undecided & self.first_layer
            undecided = torch.where((few | ~first.any(1))[:, None], undecided, first)
            few |= (depth % 3 == 0) & first.any(1)
        few = few & (count > 0)
        if not bool(few.any()):
            return split
        neuron = phase_candidates(result.scores.nan_to_num(), undecided, 1)[:, 0]
        return merge(few, phase_split(self.graph, neuron, pieces.pre_lower, pieces.pre_upper), split)

    def _first_layer(self) -> Tensor:  # (N,) bool
        """The neurons whose pre-activation is affine in the input."""
        marks = torch.zeros(self.graph.neurons, dtype=torch.bool, device=self.root.lower.device)
        for operand in self.graph.operands:
            source = self.graph.nodes[operand.source]
            if isinstance(source, Affine) and set(source.inputs) == {0}:
                marks[operand.span] = True
        return marks

    def split(self, record: Region) -> Region:
        chosen = record.cut
        lower, upper = cut_boxes(record.lower, record.upper, chosen)
        low, high = cut_pre(record.pre_lower, record.pre_upper, chosen)
        if not bool(((chosen.kind == HALF_SPACE) | (chosen.kind == PHASE)).any()):
            return children_of(record, lower=lower, upper=upper, pre_lower=low, pre_upper=high)
        cuts = self._cuts(record, chosen)
        normals, offsets = add_half_spaces(record.normals, record.offsets, *cuts, self.own, self.effort.half_spaces)
        lower, upper, _ = clip_box(lower, upper, normals, offsets)
        sides = {"lower": lower, "upper": upper, "normals": normals, "offsets": offsets}
        return children_of(record, **sides, pre_lower=low, pre_upper=high)

    def _cuts(self, record: Region, chosen: Split) -> tuple[Tensor, Tensor]:  # (2B, D), (2B,)
        """The half-space that each child gets; infinite offsets where it gets none."""
        normals, offsets = half_spaces(chosen)
        rows = (chosen.kind == PHASE).nonzero()[:, 0]
        if len(rows):
            pieces = self.pieces(record)[rows]
            cuts = decision_half_spaces(self.relaxation.linear, pieces, chosen.index[rows], chosen.point[rows])
            both = torch.cat([rows, rows + len(chosen.kind)])
            normals[both], offsets[both] = cuts
        return normals, offsets

    def leaf(self, record: Region, row: int, seconds: float | None = None) -> Settled:
        case, unsafe = self.goals.pairs[int(record.goal[row])]
        inputs = self.prop.cases[case].inputs
        as_array = lambda name: getattr(record, name)[row].double().cpu().numpy()  # noqa: E731
        normals, offsets = as_array("normals")[self.own :], as_array("offsets")[self.own :]
        polytope = Polytope(
            np.maximum(as_array("lower"), inputs.lower),
            np.minimum(as_array("upper"), inputs.upper),
            np.concatenate([inputs.normals, normals[offsets < np.inf]]),
            np.concatenate([inputs.offsets, offsets[offsets < np.inf]]),
        )
        phases = phases_of(self.graph, record.pre_lower[row], record.pre_upper[row])
        question = self.prop.cases[case].unsafe[unsafe]
        return settled(self.graph, polytope, phases, question, seconds, self.rational, inputs)

    def default_batch(self, memory: float) -> int:
        widest = max(node.size for node in self.graph.nodes)
        stored = 4 * 2 * self.graph.neurons
        per_piece = 16 * widest * widest + stored
        return int(min(512 if self.root.lower.device.type == "cpu" else 8192, max(8, memory / 8 / per_piece)))


def proof_of(ground: Ground, result: Result) -> LinearBound | IntervalBound:
    """What proves the bounds of a result, by whatever it was found."""
    if result.multipliers is None:
        return IntervalBound(ground, result.pre_lower, result.pre_upper)
    return LinearBound(ground, result.multipliers, result.price, result.derived)
