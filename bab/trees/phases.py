"""Trees of activation branches: pieces are the input set with some neurons decided.

How pieces are bounded is in `bounder`. Here is what is learned while they are: whether rows of several neurons pay, or
more steps (`ways`), when new bases do (`shared_bounds`), and which neuron to split at.

What a piece stores is small: its decisions, one multiplier for each, and in half precision the slopes of neurons
undecided at the root and the rows' multipliers, which costs nothing in soundness: any of them is sound.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...problems.network.graph import Graph
from ...problems.properties.property import Polytope, Property
from ...relaxations.leaf.rational import Rational
from ...relaxations.linear.linear import undecided_neurons
from ...relaxations.linear.row_multipliers import NeuronRows
from ...relaxations.rows.ledger import Step
from ...relaxations.types import Multipliers, Pieces
from ..effort import Effort
from ..rules import find
from .bounder import Base, Bounder, Found, stored
from .branching import phase_candidates, phase_split, together
from .proofs import Foundation, Ground, Proof
from .records import Branch, children_of
from .scores import Sight
from .settle import phases_of, settled
from .shared_bounds import Bases, derived, objectives, price, shared_depth, sharing, until
from .splits import Split, add_decisions, fitted, twice
from .tree import AbstractTree, Bounded, Settled
from .ways import Trial, Way


@dataclass(frozen=True)
class Choices:
    """What a user may want of such a tree. `row_kinds`: the relaxations that rows of new bases may come from."""

    candidates: int  # splits that are tried before one is taken
    row_kinds: tuple[str, ...]
    room: float  # bytes that bases may hold
    rule: str  # of branching, see `bab.rules`
    effort: Effort


class Phases(AbstractTree[Branch]):
    """See the module's essay."""

    grouped_by = "base"

    def __init__(
        self,
        graph: Graph,  # float64, CPU
        prop: Property,
        bounder: Bounder,
        root: Pieces,  # the hull of all cases, bounded
        choices: Choices,
        untreated: list[str],  # see `notes`
    ) -> None:
        self.graph, self.prop, self.goals = graph, prop, bounder.goals
        self.bounder, self.choices, self.untreated = bounder, choices, untreated
        self.rational = Rational(graph, bounder.relaxation.linear.effort.leaf)
        self.proving = bounder.relaxation.linear.proving
        self.found, self.ledger = root, list[Step]()  # the root as it was first, and what made it better
        self.news: list[Foundation] | None = None  # bases not told of yet; None: not even the root's
        self.begin(root)

    def begin(self, root: Pieces, neuron_rows: NeuronRows | None = None, start: Multipliers | None = None) -> None:
        """Nothing is bounded yet, and this is the root: its pre-activation bounds, rows that hold on it, and the
        multipliers (goals, rows, ...) that the goals start from, if any are known."""
        self.known = None
        free = undecided_neurons(self.graph, root)[0].nonzero()[:, 0]
        self.root, self.start, self.rows = root, start, len(neuron_rows or ())
        self.bounder = replace(self.bounder, free=free)
        self.bases = Bases(Base(root.pre_lower, root.pre_upper, neuron_rows), self._price)
        self.trial = Trial(self._ways(neuron_rows), self.choices.effort.tree)

    def _ways(self, neuron_rows: NeuronRows | None) -> list[Way]:
        """What there is to try over a root with these rows."""
        relaxation, row_kinds = self.bounder.relaxation, self.choices.row_kinds
        plain = "alpha-crown" if relaxation.steps else relaxation.linear.rule
        cost = 1.0 if neuron_rows is None else 1.0 + neuron_rows.cost(self.graph)
        times = self.choices.effort.tree.patient
        long = (times * relaxation.steps + 1) / (relaxation.steps + 1)
        tied, without = Way(f"{plain} with multi-neuron rows", cost), Way(plain, 1.0, rows=False)
        patient = Way(f"{tied.name if row_kinds else plain}, more steps", cost * long, patience=times)
        found = [tied, without] if neuron_rows is not None or row_kinds else [without]
        return [*found, patient] if relaxation.steps else found

    def describe(self) -> str:
        rows = f", {self.rows} multi-neuron rows" if self.rows else ""
        free = len(self.bounder.free)
        return f"activation branches over {free} undecided neurons, optimised slopes and multipliers{rows}"

    def ways(self) -> list[Way]:
        return self.trial.ways

    def notes(self) -> list[str]:
        return self.untreated

    def roots(self) -> Branch:
        count, rows, device = len(self.goals), self.goals.constants.shape[1], self.goals.constants.device
        index, zeros = (make(count, dtype=torch.int64, device=device) for make in (torch.arange, torch.zeros))
        real = lambda *shape: torch.zeros(count, *shape, dtype=self.goals.constants.dtype, device=device)  # noqa: E731
        record = Branch(
            goal=index,
            bound=real() - torch.inf,
            depth=zeros,
            id=index,
            parent=zeros - 1,
            cut_index=zeros,
            cut_point=real(),
            neuron=zeros.new_zeros(count, 0),
            sign=real(0),
            point=real(0),
            choice=real(rows, 0),
            split=real(rows, 0),
            neuron_rows=real(rows, 0),
            base=zeros,
        )
        return self.bounder.first(record, self.bases.of(record), self.start)

    def pieces(self, record: Branch) -> Pieces:
        return self.bounder.pieces(record, self.bases.of(record))

    def bound(self, record: Branch) -> Bounded[Branch]:
        base, way, begun = self.bases.of(record), self.trial.choose(), time.perf_counter()
        found = self.bounder.bound(record, base, way)
        parents, closed = record.bound.clamp(max=0), found.bounded.closed
        gains = torch.where(closed, -parents, found.bounded.records.bound - parents)
        count, seconds = int(closed.sum()), time.perf_counter() - begun
        if self.bases.learn(base, gains, self.trial.gain):
            way.count(len(gains), count, seconds)
        else:
            self.trial.learn(way, parents.tolist(), gains.tolist(), count, seconds)
        return replace(found.bounded, records=found.bounded.records.with_cut(self._cut(found, base)))

    def bound_roots(self) -> Bounded[Branch]:
        if self.choices.row_kinds and not self.rows:
            self.trial.choose().batches += 1  # with rows, of which there are none: as without, which is tried now
        return super().bound_roots()

    def _cut(self, found: Found, base: Base) -> Split:
        """At the best-scored neuron of each piece, or the best of a few by what its children's bounds would be."""
        record, pieces, open_ = found.bounded.records, found.pieces, ~found.bounded.closed
        if found.undecided.shape[1] == 0:  # an affine network: the root is a leaf
            return record.cut
        sight = Sight.of(pieces, found.bounded.result, self.root)
        scores = together(
            record, find(self.choices.rule).load()(sight), open_, base.depth + self.choices.effort.bases.levels
        )
        top = phase_candidates(scores, found.undecided, self.choices.candidates)  # (B, K)
        neuron = top[:, 0].clone()
        rows = (open_ & found.undecided.any(1)).nonzero()[:, 0]
        if self.choices.candidates > 1 and len(rows):
            neuron[rows] = self._look_ahead(found, base, top[rows], rows)
        return phase_split(self.graph, neuron, pieces.pre_lower, pieces.pre_upper)

    def _look_ahead(self, found: Found, base: Base, top: Tensor, rows: Tensor) -> Tensor:  # (R, K), (R,) -> (R,)
        """Of some pieces' candidates, the one whose worse child has the best bound without further optimisation."""
        count, tried = top.shape
        every = rows.repeat_interleave(tried)
        split = phase_split(self.graph, top.flatten(), found.pieces.pre_lower[every], found.pieces.pre_upper[every])
        children = self.split(found.bounded.records[every].with_cut(split))
        bound = self.bounder.glance(children, base).reshape(2, count, tried)
        # A closed child needs no work, so what it gains beyond zero is worth nothing; both gains count a little.
        gained = bound.clamp(max=0.0)
        score = gained.amin(0) + 0.1 * gained.amax(0)
        # Where fewer than K neurons are undecided, candidates are filled up with decided ones.
        score = torch.where(found.undecided[rows].gather(1, top), score.nan_to_num(), -torch.inf)
        return top.gather(1, score.argmax(1, keepdim=True))[:, 0]

    def confirm(self, record: Branch) -> Tensor:
        return self.bounder.confirm(record, self.bases.in_float64(self.bases.of(record), self.bounder))

    def confirmation(self, record: Branch) -> Proof:
        return self.bounder.confirmation(record, self.bases.in_float64(self.bases.of(record), self.bounder))

    def ground(self, record: Branch) -> Ground:
        return self.bounder.ground(record, self.pieces(record))

    def foundations(self) -> list[Foundation]:
        if not self.proving:
            return []
        news, self.news = self.news, []
        if news is None:
            first, derived = self.found, self.bounder.relaxation.linear.derived(self.found)
            nothing, base = Pieces.boxes(first.lower, first.upper, self.graph.neurons), self.bases.standing[0]
            news = [
                Foundation(
                    0, nothing, None, derived, tuple(self.ledger), base.pre_lower, base.pre_upper, base.neuron_rows
                )
            ]
        return news

    def split(self, record: Branch) -> Branch:
        neuron, sign, point = add_decisions(record.neuron, record.sign, record.point, record.cut)
        multipliers = twice(fitted(record.split, neuron.shape[1]))
        return children_of(record, neuron=neuron, sign=sign, point=point, split=multipliers)

    def _price(self, base: Base) -> float:
        rows, steps = self.goals.constants.shape[1], self.bounder.relaxation.steps
        return price(self.graph, base, rows, steps, self.choices.effort.bases)

    def due(self) -> bool:
        return bool(self.choices.row_kinds and self.bounder.relaxation.steps) and self.bases.due(self.choices.room)

    def sharing(self, open_: Branch) -> Tensor:
        self.bases.keep(open_.base.unique().tolist())
        depths = {number: base.depth for number, base in self.bases.standing.items()}
        return sharing(open_, depths, self.choices.effort.bases.levels)

    def tighten(self, record: Branch, deadline: float | None) -> Branch:
        """The same pieces on a base of their own, derived from the decisions they share."""
        base, depth = self.bases.of(record), shared_depth(record)
        self.bases.wait(base)
        if depth <= base.depth:
            return record
        first = record[:1]
        shared = {name: getattr(first, name)[:, :depth] for name in ("neuron", "sign", "point")}
        ancestor = self.bounder.pieces(replace(first, **shared), base)
        ancestor = replace(ancestor, lower=self.root.lower, upper=self.root.upper)
        if len(self.bounder.inputs.case[record.goal].unique()) > 1:  # half-spaces of one input set cut no other
            ancestor = replace(ancestor, normals=ancestor.normals[:, :0], offsets=ancestor.offsets[:, :0])
        goals, each = record.goal.unique(return_inverse=True)
        ledger: list[Step] | None = [] if self.proving else None
        alpha = replace(self.bounder.relaxation, neuron_rows=base.neuron_rows, ledger=ledger)
        row_kinds, effort = self.choices.row_kinds, self.choices.effort.bases
        found = derived(alpha, ancestor, objectives(self.goals, goals), until(deadline, effort), row_kinds, effort)
        new = Base(found.root.pre_lower, found.root.pre_upper, found.neuron_rows, depth)
        number = self.bases.add(new, len(each))
        if ledger is not None and self.news is not None:
            above = int(first.base[0])
            bounds = new.pre_lower, new.pre_upper, new.neuron_rows
            self.news.append(Foundation(number, ancestor, above, None, tuple(ledger), *bounds))
        start = found.result.multipliers
        assert start is not None, "optimised bounds have multipliers"
        own = lambda value: value[0].unflatten(0, (len(goals), -1))[each]  # noqa: E731
        split = record.split.clone()
        split[..., :depth] = own(start.split)
        return replace(
            record,
            base=torch.full_like(record.base, number),
            choice=self.bounder.kept(own(start.choice)),
            split=split,
            neuron_rows=stored(own(start.neuron_rows)),
        )

    def leaf(self, record: Branch, row: int, seconds: float | None = None) -> Settled:
        goal = int(record.goal[row])
        case, unsafe = self.goals.pairs[goal]
        pieces = self.pieces(record[row : row + 1])
        phases = phases_of(self.graph, pieces.pre_lower[0], pieces.pre_upper[0])
        inputs: Polytope = self.prop.cases[case].inputs
        return settled(self.graph, inputs, phases, self.prop.cases[case].unsafe[unsafe], seconds, self.rational)

    def default_batch(self, memory: float) -> int:
        widest = max(node.size for node in self.graph.nodes)
        width, on_cpu = self.goals.constants.shape[1], self.goals.constants.device.type == "cpu"
        per_piece = 4 * width * (6 * self.bounder.sides * self.graph.neurons + 8 * widest * self.choices.candidates * 2)
        return int(min(256 if on_cpu else 8192, max(4, memory / 8 / per_piece)))
