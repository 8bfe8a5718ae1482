"""Closes pieces again by what is said to prove them: in float64, rounding counted, nothing searched.

One method for each kind of proof, all of them on batches but those of single leaves. Backward passes take the
multipliers as they are (`relaxations.linear.recomputed`); intervals, differences of twins, dual vectors and exact
decisions are computed again. A proof that says something wrong on the way, such as an interval that does not follow,
closes nothing, whatever else it says.

What a proof is begun with (`Ground`) is taken as it is; whether it follows from the ancestors and bases that it refers
to is for `standing` to say. The rows of a linear program are taken for those of the network. Two kinds prove nothing
here: `Unproved`, and a program without a dual vector.

Soundness: outward rounded, given the ground; `ExactDecision` exact.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...kernels.polytope import clip_box
from ...kernels.proof_constants import SIZES
from ...problems.network.graph import Graph
from ...problems.properties.property import Polytope, Property, UnsafeSet
from ...relaxations.effort import LEAF
from ...relaxations.ladder.exact import boxes_from, polytope_of
from ...relaxations.ladder.ladder import Minima
from ...relaxations.leaf.cell import Multipliers as CellMultipliers
from ...relaxations.leaf.cell import cell_of
from ...relaxations.leaf.leaf import uses_strict
from ...relaxations.leaf.rational import Rational
from ...relaxations.linear.clip import none_left
from ...relaxations.linear.ibp import Ibp
from ...relaxations.linear.linear import Linear
from ...relaxations.linear.recomputed import Recomputed, agree, widened
from ...relaxations.linear.root import root
from ...relaxations.linear.row_multipliers import NeuronRows
from ...relaxations.protocol import without_forms
from ...relaxations.types import Pieces, Result
from ..trees.goals import Goals, goals_of
from ..trees.proofs import (
    CellBound,
    Emptiness,
    ExactDecision,
    Ground,
    IntervalBound,
    LinearBound,
    Narrowing,
    ProgramBound,
    Proof,
    Unproved,
)
from ..trees.twinned import rows_of_goals


class Checker:
    """For the proofs of searches of one property (as it was searched: without cases that were proved empty before)."""

    def __init__(self, graph: Graph, prop: Property, device: torch.device | str = "cpu") -> None:
        self.graph, self.prop = graph.to(torch.float64), prop
        self.made = Recomputed.of(graph, device)
        cases = [case.inputs for case in prop.cases if not case.inputs.empty]
        self.box = (
            torch.from_numpy(np.min([case.lower for case in cases], axis=0)),
            torch.from_numpy(np.max([case.upper for case in cases], axis=0)),
        )
        scales = root(self.made.graph, *self.box)[0].scales
        self.sizes = [scales.size[i].double().cpu() * SIZES for i in (0, -1)]
        self.goals = self.goals_in(torch.float64)
        self.coarse = {torch.float64: self.goals}
        self.joints: dict[int, NeuronRows] = {}  # of each base, in float64
        self.rational = Rational(self.graph)
        self.twins = rows_of_goals(self.graph, self.made.graph, prop, self.goals)

    def goals_in(self, dtype: torch.dtype) -> Goals:
        """The property's goals, as a search in this precision has them."""
        return goals_of(self.prop, dtype, self.made.graph.like.device, *self.sizes)

    def closes(self, proof: Proof) -> Tensor:  # (K,) bool
        """Which pieces it closes."""
        match proof:
            case LinearBound() | IntervalBound():
                result, fine = self._bounds(proof)
                return fine & (self.goals.rows(proof.ground.goal).closed(result.lower) | result.empty)
            case Emptiness(bounds):
                result, fine = self._bounds(bounds)
                return fine & (result.empty | _nothing_left(widened(bounds.ground.pieces), result)[2])
            case ProgramBound():
                found = [self._program(proof.ground, k, minima) for k, minima in enumerate(proof.minima)]
            case CellBound():
                found = [self._cell(proof, k) for k in range(len(proof.polytopes))]
            case ExactDecision():
                found = [self._decided(proof, k) for k in range(len(proof.boxes))]
            case Unproved():
                return torch.zeros(0, dtype=torch.bool)
        return torch.tensor(found, dtype=torch.bool, device=proof.ground.goal.device)

    def narrows(self, narrowing: Narrowing) -> Tensor:  # (K,) bool
        """Of which open pieces no counterexample lies outside what is left, whose bounds hold."""
        result, fine = self._bounds(narrowing.bounds)
        pieces, left = widened(narrowing.bounds.ground.pieces), widened(narrowing.left)
        lower, upper, empty = _nothing_left(pieces, result)
        empty = empty | result.empty
        for found, claim in (
            (lower, left.lower),
            (-upper, -left.upper),
            (result.pre_lower, left.pre_lower),
            (-result.pre_upper, -left.pre_upper),
        ):
            fine = fine & (agree(found, claim) | empty)
        same = [torch.equal(a, b) for a, b in ((pieces.normals, left.normals), (pieces.offsets, left.offsets))]
        return fine & all(same)

    def _bounds(self, proof: LinearBound | IntervalBound) -> tuple[Result, Tensor]:
        """Bounds of the rows of the pieces' goals; and of which pieces all that is said on the way is true (K,)."""
        ground = proof.ground
        pieces, rows = widened(ground.pieces), self.goals.rows(ground.goal)
        crossing = (pieces.pre_lower > pieces.pre_upper).any(1)
        fine = torch.ones_like(crossing)
        if isinstance(proof, IntervalBound) and proof.twins:
            assert self.twins is not None, "the property has rows that twins say something of"
            return replace(without_forms(pieces, self.twins.below(pieces, ground.goal)), empty=crossing), fine
        if isinstance(proof, IntervalBound):
            found = Ibp(Linear(self.made.rounding, self.made.scales(pieces))).bound(pieces, rows).result
            fine = _claimed(found.pre_lower, proof.lower) & _claimed(-found.pre_upper, _minus(proof.upper))
            return found, fine | found.empty
        scales = None
        if proof.derived is not None:
            pieces, scales, empty, fine = self.made.layers(pieces, widened(proof.derived))
            crossing = crossing | empty
        multipliers, neuron_rows = widened(proof.multipliers), None
        if multipliers.neuron_rows.shape[-1] and len(ground.goal):
            assert ground.inherited.kind == "base", "neuron rows are those of a base"
            neuron_rows = self.joints[int(ground.inherited.number[0])]
        at = (self.made.graph.output, self.made.scales(pieces) if scales is None else scales)
        proved = self.made.rows(pieces, rows, multipliers, widened(proof.price), neuron_rows, at)
        slack = torch.zeros_like(proved.lower)
        result = Result(
            proved.lower, proved.forms, proved.constants, slack, pieces.pre_lower, pieces.pre_upper, crossing
        )
        return result, fine & (proved.valid | crossing)

    def _program(self, ground: Ground, k: int, minima: Minima | None) -> bool:
        """Whether a piece is closed by a dual vector, of a program that asks for a row of its goal."""
        pieces, graph = ground.pieces, self.graph
        if minima is None:
            polytope = polytope_of(pieces, k)
            boxes = boxes_from(graph, polytope, pieces, k)
            return polytope.empty or any(bool((low > high).any()) for low, high in boxes)
        dtype = pieces.lower.dtype
        if dtype not in self.coarse:
            self.coarse[dtype] = self.goals_in(dtype)
        rows = self.coarse[dtype].rows(ground.goal[k : k + 1])
        lower = torch.full_like(rows.constants, -torch.inf, dtype=torch.float64)
        for s, proof in enumerate(minima.duals):
            if proof is None:
                continue
            cost, constant = np.zeros(len(proof.model.cost)), float(rows.constants[0, s])
            bound = proof.bound()
            if bound == np.inf:
                return True
            own = rows.coefficients[0, s].double().cpu().numpy()
            cost[minima.first : minima.first + len(own)] = own
            if rows.on_input is not None:
                cost[: graph.input_size] += rows.on_input[0, s].double().cpu().numpy()
            if np.array_equal(cost, proof.model.cost) and proof.model.offset == 0 and np.isfinite(bound):
                lower[0, s] = bound + constant - 4 * np.finfo(float).eps * (abs(constant) + abs(bound))
        return bool(rows.closed(lower)[0])

    def inputs(self, goal: int) -> Polytope:
        """The input set of a goal."""
        return self.prop.cases[self.goals.pairs[goal][0]].inputs

    def unsafe(self, goal: int) -> UnsafeSet:
        """The unsafe set of a goal."""
        case, unsafe = self.goals.pairs[goal]
        return self.prop.cases[case].unsafe[unsafe]

    def _cell(self, proof: CellBound, k: int) -> bool:
        """Whether a decided piece is closed by the multipliers of its constraints, or by intervals."""
        polytope, phases, unsafe = proof.polytopes[k], proof.phases[k], self.unsafe(int(proof.ground.goal[k]))
        pieces, inputs = proof.ground.pieces, self.inputs(int(proof.ground.goal[k]))
        if not _phases_hold(self.graph, pieces, k, phases) or not _contains(polytope, pieces, k, inputs):
            return False
        if polytope.empty:
            return True
        cell, given = cell_of(self.graph, polytope, phases), proof.multipliers[k]
        if given is None:
            return cell.empty
        if not _not_negative(given):
            return False
        margin = cell.certify(given, unsafe)
        return margin > 0 or (margin >= 0 and uses_strict(given, unsafe, polytope))

    def _decided(self, proof: ExactDecision, k: int) -> bool:
        """Whether exact arithmetic says of a piece again that it holds no unsafe point."""
        goal, phases, box = int(proof.ground.goal[k]), proof.phases[k], proof.boxes[k]
        pieces = proof.ground.pieces
        inputs = self.inputs(goal)
        if phases is not None and not _phases_hold(self.graph, pieces, k, phases):
            return False
        if box is not None:
            none = np.zeros((0, inputs.size)), np.zeros(0)
            if not _contains(Polytope(*box, *none), pieces, k, inputs):
                return False
        return self.rational.decide(inputs, self.unsafe(goal), box, phases, LEAF.seconds).empty


def _nothing_left(pieces: Pieces, result: Result) -> tuple[Tensor, Tensor, Tensor]:  # (K, D), (K, D), (K,) bool
    """The box that the rows' forms leave of each piece, and of which they leave nothing."""
    normals = torch.cat([pieces.normals, result.forms], 1)
    offsets = torch.cat([pieces.offsets, -result.constants], 1)
    lower, upper, empty = clip_box(pieces.lower, pieces.upper, normals, offsets)
    return lower, upper, empty | none_left(pieces, result, lower, upper)


def _claimed(found: Tensor, claim: Tensor | None) -> Tensor:
    return torch.ones_like(found[:, 0], dtype=torch.bool) if claim is None else agree(found, claim.double())


def _minus(claim: Tensor | None) -> Tensor | None:
    return None if claim is None else -claim


def _contains(polytope: Polytope, pieces: Pieces, k: int, inputs: Polytope) -> bool:
    """Whether a polytope holds every point that the piece has in common with the input set: as is seen from its parts,
    each of which is one of theirs."""
    low, high, normals, offsets = (
        np.asarray(side[k].double().cpu()) for side in (pieces.lower, pieces.upper, pieces.normals, pieces.offsets)
    )
    low, high = np.maximum(low, inputs.lower), np.minimum(high, inputs.upper)
    if (polytope.lower > low).any() or (polytope.upper < high).any():
        return False
    normals, offsets = np.concatenate([inputs.normals, normals]), np.concatenate([inputs.offsets, offsets])
    same = (polytope.normals[:, None] == normals).all(2) & (polytope.offsets[:, None] >= offsets)
    return bool(same.any(1).all())


def _phases_hold(graph: Graph, pieces: Pieces, k: int, phases: object) -> bool:
    """Whether the piece's pre-activation bounds say of its neurons what the phases do (0: nothing)."""
    said = np.concatenate([*phases, np.zeros(0, dtype=np.int8)])  # type: ignore[misc]
    low, high = (np.asarray(side[k].double().cpu()) for side in (pieces.pre_lower, pieces.pre_upper))
    return len(said) == len(low) and bool((((said != 1) | (low >= 0)) & ((said != -1) | (high <= 0))).all())


def _not_negative(given: CellMultipliers) -> bool:
    parts = [given.unsafe, given.halfspaces, *given.neurons.values()]
    return all(bool((part >= 0).all() and np.isfinite(part).all()) for part in parts)
