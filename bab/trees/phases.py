"""Trees of activation branches: pieces are the input set with some neurons decided.

The box is the same for all pieces of a case and is never stored; a piece is its list of decided neurons and the base it
stands on (`bases`; at first the root). The base's pre-activation bounds hold on every piece, with the decided neurons
cut off, so only the objective is bounded again: with slopes, decision multipliers and multipliers of the base's
multi-neuron rows that start from the parent's and are optimised for a few steps (`linear.alpha`). Whether rows
pay, more steps, or new bases, is tried out (`trial`).

What a piece stores is small: its decisions, one multiplier for each, and in half precision the slopes of neurons
undecided at the root and the rows' multipliers, which costs nothing in soundness: any of them is sound.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...problems.network.graph import Graph
from ...problems.properties.property import Polytope, Property
from ...relaxations.leaf.rational import Rational
from ...relaxations.linear.alpha import Alpha, only_relu
from ...relaxations.linear.clip import none_left
from ...relaxations.linear.linear import undecided_neurons
from ...relaxations.linear.root import outward, outward_half_spaces
from ...relaxations.linear.row_multipliers import Joint
from ...relaxations.types import Multipliers, Pieces
from .branching import phase_candidates, phase_split, together
from .frontier import Record
from .goals import Goals
from .settle import phases_of, settled
from .shared_bounds import LEVELS, Base, Derivations, derived, kin, objectives, price, shared_depth, until
from .splits import PHASE, Split, add_decisions, fitted
from .tree import EMPTY, AbstractTree, Bounded, Settled, children_of
from .ways import Trial, Way

PATIENT = 4  # times the steps, where that pays


class Phases(AbstractTree):
    """See the module's essay."""

    fill = {"neuron": -1.0}  # noqa: RUF012
    apart = "base"

    def __init__(
        self,
        graph: Graph,  # float64, CPU
        prop: Property,
        goals: Goals,
        precise_goals: Goals,
        relaxation: Alpha,
        precise: Alpha,  # the same in float64
        root: Pieces,  # the hull of all cases, bounded
        candidates: int = 4,
        start: Multipliers | None = None,  # (goals, rows, ...): where to start at the root
        words: Sequence[str] = (),  # the relaxations that rows of new bases may come from
        room: float = 2.0**29,  # bytes that bases may hold
    ) -> None:
        self.graph, self.prop, self.goals, self.precise_goals = graph, prop, goals, precise_goals
        self.relaxation, self.precise = relaxation, precise
        self.candidates = candidates
        self.device, self.dtype = root.lower.device, root.lower.dtype
        cases = [prop.cases[c].inputs for c, _ in goals.pairs]
        distinct = list({id(c): c for c in cases}.values())
        self.case = torch.tensor([[d is c for d in distinct].index(True) for c in cases], device=self.device)
        low, high = (torch.tensor(np.stack([getattr(c, side) for c in distinct])) for side in ("lower", "upper"))
        self.lower, self.upper = outward(low, high, self.dtype, self.device)
        self.normals, self.offsets = outward_half_spaces(distinct, self.lower, self.upper)
        self.root, self.words, self.room = root, words, room
        self.bases = {0: Base(root.pre_lower, root.pre_upper, relaxation.joint)}  # those that pieces stand on
        self.derived = 0  # how many there have been
        self._precise: tuple[Base, Joint] | None = None  # the rows of the base that was asked for last, in float64
        self.derivations = Derivations()
        self.bounded = 0  # pieces, since there are bases
        self.free = undecided_neurons(graph, root)[0].nonzero()[:, 0]
        self.piecewise = graph.piecewise_linear
        self.sides = 1 if only_relu(graph) else 2
        self.rational = Rational(graph)
        self.start = start
        self.untreated: list[str] = []
        plain = "alpha-crown" if relaxation.steps else relaxation.linear.rule
        more = 1.0 + relaxation.joint.cost(graph) if relaxation.joint is not None else 1.0
        long = (PATIENT * relaxation.steps + 1) / (relaxation.steps + 1)
        self.plain, self.tied = Way(plain, 1.0), Way(f"{plain} with multi-neuron rows", more)
        self.patient = Way(f"{self.tied.name if words else plain}, more steps", more * long)
        ways = [self.tied, self.plain] if relaxation.joint is not None or words else [self.plain]
        ways += [self.patient] if relaxation.steps else []
        self.trial = Trial(ways)

    def describe(self) -> str:
        rows = f", {len(self.relaxation.joint)} multi-neuron rows" if self.relaxation.joint is not None else ""
        return f"activation branches over {len(self.free)} undecided neurons, optimised slopes and multipliers{rows}"

    def ways(self) -> list[Way]:
        return self.trial.ways

    def notes(self) -> list[str]:
        return self.untreated

    def roots(self) -> Record:
        count, rows = len(self.goals), self.goals.constants.shape[1]
        index = torch.arange(count, device=self.device)
        zeros = torch.zeros(count, dtype=torch.int64, device=self.device)
        real = lambda *shape: torch.zeros(count, *shape, dtype=self.dtype, device=self.device)  # noqa: E731
        record = {
            "goal": index,
            "bound": real() - torch.inf,
            "depth": zeros,
            "id": index,
            "neuron": zeros.new_zeros(count, 0),
            "sign": real(0),
            "at": real(0),
            "multiplier": real(rows, 0),
            "index": zeros,
            "point": real(),
            "base": zeros,
        }
        start = self.start or self.relaxation.start(self.pieces(record), rows)
        return record | {"choice": start.choice[..., self.free].half(), "tied": _stored(start.joint)}

    def pieces(self, record: Record, dtype: torch.dtype | None = None) -> Pieces:
        """The record's pieces, their decisions worked into the pre-activation bounds."""
        dtype = dtype or self.dtype
        base = self._base(record)
        case = self.case[record["goal"]]
        count = len(case)
        low = base.pre_lower.to(dtype).expand(count, -1).clone()
        high = base.pre_upper.to(dtype).expand(count, -1).clone()
        neuron, sign, at = record["neuron"], record["sign"].to(dtype), record["at"].to(dtype)
        if neuron.shape[1]:
            index = neuron.clamp(min=0)
            floor = torch.where((neuron >= 0) & (sign > 0), at, -torch.inf)
            ceiling = torch.where((neuron >= 0) & (sign < 0), at, torch.inf)
            low.scatter_reduce_(1, index, floor, "amax")
            high.scatter_reduce_(1, index, ceiling, "amin")
        box = (self.lower[case].to(dtype), self.upper[case].to(dtype))
        planes = (self.normals[case].to(dtype), self.offsets[case].to(dtype))
        return Pieces(*box, *planes, neuron, sign, at, low, high)

    def _base(self, record: Record) -> Base:
        """What the record's pieces stand on, all on the same."""
        return self.bases[int(record["base"][0])] if len(record["base"]) else next(iter(self.bases.values()))

    def _start(self, record: Record, pieces: Pieces) -> Multipliers:
        """The record's slopes and multipliers; decided neurons' slopes are not used."""
        count, rows = record["multiplier"].shape[:2]
        choice = pieces.lower.new_zeros(count, rows, self.sides, self.graph.neurons)
        choice[..., self.free] = record["choice"].to(pieces.lower.dtype)
        split = record["multiplier"].to(pieces.lower.dtype)
        rows = len(self._base(record).joint or ())
        return Multipliers(choice, split, fitted(record["tied"].to(pieces.lower.dtype), rows))

    def bound(self, record: Record) -> Bounded:
        pieces = self.pieces(record)
        rows = self.goals.rows(record["goal"])
        base, way, begun = self._base(record), self.trial.choose(), time.perf_counter()
        joint = None if way is self.plain else base.joint
        steps = self.relaxation.steps * (PATIENT if way is self.patient else 1)
        relaxation = replace(self.relaxation, joint=joint, steps=steps)
        result, _, values = relaxation.bound(pieces, rows, self._start(record, pieces))
        found, scores = result.multipliers, result.scores
        assert found is not None and scores is not None, "optimised bounds have multipliers, and are scored"
        assert values is not None, "and points where they are met"
        if joint is None:  # the rows' multipliers wait for the next time
            found = replace(found, joint=record["tied"])
            result = replace(result, multipliers=found)
        empty = result.empty | (pieces.pre_lower > pieces.pre_upper).any(1)
        empty |= none_left(pieces, result, pieces.lower, pieces.upper)
        bound = torch.fmax(result.lower.amax(1), record["bound"])
        by_bound = rows.closed(result.lower)
        closed = by_bound | empty
        parents = record["bound"].clamp(max=0)
        gains = torch.where(closed, -parents, bound - parents)
        seconds = time.perf_counter() - begun
        self._learn(base, way, parents, gains, int(closed.sum()), seconds)
        near = ~closed & rows.closed(result.lower + result.slack)
        undecided = undecided_neurons(self.graph, pieces)
        if not self.piecewise:  # a smooth neuron is never decided, but its interval ends at two neighbouring numbers
            middle = (pieces.pre_lower + pieces.pre_upper) / 2
            undecided &= (pieces.pre_lower < middle) & (middle < pieces.pre_upper)
        records = dict(record) | {
            "bound": bound,
            "choice": found.choice[..., self.free].half(),
            "multiplier": found.split,
            "tied": _stored(found.joint),
        }
        scores = together(record, scores, ~closed, base.depth + LEVELS)
        choice = self._choose(records, pieces, scores, undecided, ~closed)
        records |= {"index": choice.index, "point": choice.point}
        best = result.lower.argmax(1)
        points = values[0][torch.arange(len(best), device=best.device), best]
        by = (~by_bound).long()
        return Bounded(records, result, closed, near, ~undecided.any(1), points, by, (way.name, EMPTY))

    def _learn(self, base: Base, way: Way, parents: Tensor, gains: Tensor, closed: int, seconds: float) -> None:
        """What a batch gained, over its parents' bounds or, on a new base, over its own."""
        self.bounded += len(gains)
        if not base.waiting:
            self.trial.learn(way, parents.tolist(), gains.tolist(), closed, seconds)
            return
        way.pieces, way.closed, way.seconds = way.pieces + len(gains), way.closed + closed, way.seconds + seconds
        base.waiting -= len(gains)
        base.raised += float(gains.sum())
        if base.waiting <= 0:
            base.waiting = 0
            cost = self._price(base)
            self.derivations.learn(base.raised, base.pieces, cost, self.trial.gain)
            self.derivations.wait(self.bounded, cost)

    def _choose(self, record: Record, pieces: Pieces, scores: Tensor, undecided: Tensor, open_: Tensor) -> Split:
        """The best-scored neuron, or the best of a few by what its children's bounds would be."""
        if undecided.shape[1] == 0:  # an affine network: the root is a leaf
            return Split(record["index"], record["index"], record["point"])
        top = phase_candidates(scores, undecided, self.candidates)  # (B, K)
        neuron = top[:, 0].clone()
        rows = (open_ & undecided.any(1)).nonzero()[:, 0]
        if self.candidates > 1 and len(rows):
            some = {k: v[rows] for k, v in record.items()}
            neuron[rows] = self._look_ahead(some, pieces[rows], top[rows], undecided[rows])
        return phase_split(self.graph, neuron, pieces.pre_lower, pieces.pre_upper)

    def _look_ahead(
        self, record: Record, pieces: Pieces, top: Tensor, undecided: Tensor
    ) -> Tensor:  # (B, K), (B, N) -> (B,)
        """Of each piece's candidates, the one whose worse child has the best bound without further optimisation."""
        count, tried = top.shape
        every = torch.arange(count, device=top.device).repeat_interleave(tried)
        low, high = pieces.pre_lower[every], pieces.pre_upper[every]
        split = phase_split(self.graph, top.flatten(), low, high)
        children = self.split({k: v[every] for k, v in record.items()} | {"index": split.index, "point": split.point})
        child_pieces = self.pieces(children)
        looking = replace(self.relaxation, joint=self._base(record).joint, steps=0)
        rows, start = self.goals.rows(children["goal"]), self._start(children, child_pieces)
        result = looking.bound(child_pieces, rows, start).result
        bound = result.lower.amax(1).reshape(2, count, tried)
        # A closed child needs no work, so what it gains beyond zero is worth nothing; both gains count a little.
        gained = bound.clamp(max=0.0)
        score = gained.amin(0) + 0.1 * gained.amax(0)
        # Where fewer than K neurons are undecided, candidates are filled up with decided ones.
        score = torch.where(undecided.gather(1, top), score.nan_to_num(), -torch.inf)
        return top.gather(1, score.argmax(1, keepdim=True))[:, 0]

    def confirm(self, record: Record) -> Tensor:
        pieces = self.pieces(record, torch.float64)
        rows = self.precise_goals.rows(record["goal"])
        precise = replace(self.precise, joint=self._exact(self._base(record)), steps=0)
        result = precise.bound(pieces, rows, self._start(record, pieces)).result
        return rows.closed(result.lower)

    def _exact(self, base: Base) -> Joint | None:
        """A base's rows in float64."""
        if base.joint is None:
            return None
        if self._precise is None or self._precise[0] is not base:
            self._precise = base, base.joint.to(self.precise.linear.graph, self.precise.linear.scales)
        return self._precise[1]

    def split(self, record: Record) -> Record:
        kind = torch.full_like(record["index"], PHASE)
        chosen = Split(kind, record["index"], record["point"])
        children = children_of(record, ("goal", "bound", "choice", "tied", "index", "point", "base"))
        children["neuron"], children["sign"], children["at"] = add_decisions(
            record["neuron"], record["sign"], record["at"], chosen
        )
        multiplier = fitted(record["multiplier"], children["neuron"].shape[1])
        children["multiplier"] = torch.cat([multiplier, multiplier])
        return children

    def _price(self, base: Base) -> float:
        return price(self.graph, base, self.goals.constants.shape[1], self.relaxation.steps)

    def due(self) -> bool:
        if not self.words or not self.relaxation.steps:
            return False
        if not self.derivations.next:
            self.derivations.wait(0, self._price(next(iter(self.bases.values()))))
        return self.bounded >= self.derivations.next and sum(base.bytes for base in self.bases.values()) < self.room

    def kin(self, open_: Record) -> Tensor:
        used = open_["base"].unique().tolist()
        self.bases = {number: self.bases[number] for number in used}
        return kin(open_, {number: base.depth for number, base in self.bases.items()})

    def tighten(self, record: Record, deadline: float | None) -> Record:
        """The same pieces on a base of their own, derived from the decisions they share."""
        base, depth = self._base(record), shared_depth(record)
        self.derivations.wait(self.bounded, self._price(base))
        if depth <= base.depth:
            return record
        first = {name: value[:1] for name, value in record.items()}
        first |= {name: first[name][:, :depth] for name in ("neuron", "sign", "at")}
        ancestor = self.pieces(first)
        ancestor = replace(ancestor, lower=self.root.lower, upper=self.root.upper)
        goals, each = record["goal"].unique(return_inverse=True)
        wanted = objectives(self.goals, goals)
        found = derived(self.relaxation, base.joint, ancestor, wanted, until(deadline), self.words)
        new = Base(found.root.pre_lower, found.root.pre_upper, found.joint, depth)
        new.waiting = new.pieces = len(each)
        self.derived += 1
        self.bases[self.derived] = new
        start = found.result.multipliers
        assert start is not None, "optimised bounds have multipliers"
        own = lambda value: value[0].unflatten(0, (len(goals), -1))[each]  # noqa: E731
        multiplier = record["multiplier"].clone()
        multiplier[..., :depth] = own(start.split)
        return record | {
            "base": torch.full_like(record["base"], self.derived),
            "choice": own(start.choice)[..., self.free].half(),
            "multiplier": multiplier,
            "tied": _stored(own(start.joint)),
        }

    def leaf(self, record: Record, row: int, seconds: float | None = None) -> Settled:
        goal = int(record["goal"][row])
        case, unsafe = self.goals.pairs[goal]
        pieces = self.pieces({k: v[row : row + 1] for k, v in record.items()})
        phases = phases_of(self.graph, pieces.pre_lower[0], pieces.pre_upper[0])
        inputs: Polytope = self.prop.cases[case].inputs
        return settled(self.graph, inputs, phases, self.prop.cases[case].unsafe[unsafe], seconds, self.rational)

    def default_batch(self, memory: float) -> int:
        widest = max(node.size for node in self.graph.nodes)
        width = self.goals.constants.shape[1]
        per_piece = 4 * width * (6 * self.sides * self.graph.neurons + 8 * widest * self.candidates * 2)
        return int(min(256 if self.device.type == "cpu" else 8192, max(4, memory / 8 / per_piece)))


def _stored(joint: Tensor) -> Tensor:
    """Rows' multipliers in half precision: any number >= 0 is sound."""
    return joint.clamp(max=torch.finfo(torch.float16).max).half()
