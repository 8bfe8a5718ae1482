"""What pieces of a tree of branches stand on: pre-activation bounds and multi-neuron rows, proved once for many.

The root is the first base. Bounds and rows proved with some neurons decided are far tighter: on the 256x4 network of
mnist_fc (prop_5, 0.05), pieces three decisions deep that are at -0.1 on the root's rise to +0.7 on a base of their own,
where optimising longer brings 0.01. A base costs as much as some thousand pieces, so it is derived for many pieces at
once: for the open pieces that share their first decisions (`sharing`), whatever goals they work on, and only as often
as it has paid in this run (`Derivations`).

Soundness: outward rounded, as its parts are: what is proved with some neurons decided holds wherever they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log2

from torch import Tensor

from ...kernels.deadline import now
from ...problems.network.graph import Graph
from ...relaxations.linear.alpha import Alpha
from ...relaxations.rows.refine import refined
from ...relaxations.rows.strengthen import Strengthened, most_useful, strengthened
from ...relaxations.types import Pieces, Rows
from ..effort import BASES, BaseEffort, DerivingEffort
from .bounder import Base, Bounder
from .goals import Goals
from .records import Branch


def until(deadline: float | None, effort: DerivingEffort) -> float:
    """When to stop improving a root or a base."""
    moment, most = now(), effort.longest
    return moment + (most if deadline is None else min(most, effort.share * max(0.0, deadline - moment)))


def derived(
    alpha: Alpha,  # the relaxation of the search, with the rows that hold on the ancestor
    ancestor: Pieces,  # (1): what all pieces of the new base are part of
    rows: Rows,  # (1, S, ...): what is to be proved on them
    deadline: float,
    row_kinds: Sequence[str],
    effort: BaseEffort = BASES,
) -> Strengthened:
    """Tighter layers, rows anew, and bounds and multipliers of the objectives with both."""
    root = refined(replace(alpha, steps=effort.steps, rate=effort.rate), ancestor, deadline)
    anew = Alpha(alpha.linear, effort.steps, ledger=alpha.ledger)
    return most_useful(alpha, strengthened(anew, root, rows, deadline, row_kinds), effort.rows)


def objectives(goals: Goals, index: Tensor) -> Rows:  # (K,)
    """The rows of some goals, as rows of one piece."""
    rows = goals.rows(index)
    on_input = None if rows.on_input is None else rows.on_input.flatten(0, 1)[None]
    strict = None if rows.strict is None else rows.strict.flatten(0, 1)[None]
    return Rows(rows.coefficients.flatten(0, 1)[None], rows.constants.flatten(0, 1)[None], on_input, strict)


def sharing(open_: Branch, base_depth: Mapping[int, int], levels: int = BASES.levels) -> Tensor:  # (B,) bool
    """Of the open pieces, those that share the worst one's base and its first decisions beyond it."""
    worst = int(open_.bound.argmin())
    width = base_depth[int(open_.base[worst])] + levels
    same = open_.base == open_.base[worst]
    for values in (open_.neuron, open_.sign):
        first = values[:, :width]
        own = first[worst]
        decided = open_.neuron[worst, :width] >= 0
        same &= ((first == own) | ~decided).all(1)
    return same


def shared_depth(record: Branch) -> int:
    """How many first decisions all pieces of a record share."""
    code = (record.neuron + 1) * record.sign.long()  # 0 where absent
    shared = ((code == code[:1]) & (code != 0)).all(0)
    return int(shared.long().cumprod(0).sum())


def price(graph: Graph, base: Base, rows: int, steps: int, effort: BaseEffort = BASES) -> float:
    """What a derivation from this base costs, counted in pieces of `rows` rows bounded in `steps` steps.

    The rows of a layer's undecided neurons go back through the layers before it; and calls cost something, however few
    the rows.
    """
    here = Pieces.boxes(base.pre_lower[:, :1], base.pre_upper[:, :1], 0).with_pre(base.pre_lower, base.pre_upper)
    below = total = 0.0
    for layer in graph.layers:
        undecided = sum(int(part.sum()) for part in layer.undecided(here.ends(layer)))
        total += 2 * undecided * below * (effort.steps + 1)
        below += layer.size
    passes = effort.passes + (effort.steps + 1) * len(graph.layers)
    return (total / max(1.0, below) + effort.passes * rows) / (rows * (steps + 1)) + effort.call * passes


@dataclass
class Derivations:
    """How often bases pay, by what they have raised so far.

    A base that costs c pieces should raise the bounds of its n pieces by more than those c would have, if they had
    been spent on splitting the n: log2(1 + c / n) levels. Where it does not, the next one waits twice as long.
    """

    patience: float = 1.0
    next: float = field(default=0.0, init=False)  # pieces bounded at which the next one is due
    count: int = field(default=0, init=False)
    paid: int = field(default=0, init=False)

    def wait(self, bounded: int, cost: float) -> None:
        """The next derivation comes when as much has been spent on pieces."""
        self.next = bounded + self.patience * cost

    def learn(self, raised: float, pieces: int, cost: float, gain: float) -> None:
        """A base raised the bounds of so many pieces by so much in all; a split gains `gain`."""
        self.count += 1
        pays = raised / max(1, pieces) > gain * max(1.0, log2(1 + cost / max(1, pieces)))
        self.paid += pays
        self.patience = 1.0 if pays else 2 * self.patience


@dataclass(eq=False)
class Waiting:
    """A new base whose pieces have not all been bounded on it: how many it is for, how many are left, and how far it
    raised the bounds of the others in all."""

    pieces: int
    left: int
    raised: float = 0.0


class Bases:
    """The bases that open pieces stand on, by number, the root's being 0, and what became of them; `cost` of deriving
    one from a base, in pieces bounded."""

    def __init__(self, root: Base, cost: Callable[[Base], float]) -> None:
        self.standing, self.cost = {0: root}, cost
        self.waiting: dict[int, Waiting] = {}
        self.derived = 0  # how many there have been
        self.bounded = 0  # pieces
        self.rule = Derivations()
        self._precise: tuple[Base, Base] | None = None  # the base that was asked for last, and the same in float64

    def of(self, record: Branch) -> Base:
        """What the record's pieces stand on, all on the same."""
        return self.standing[int(record.base[0])] if len(record) else next(iter(self.standing.values()))

    def in_float64(self, base: Base, bounder: Bounder) -> Base:
        """See `Bounder.in_float64`."""
        if self._precise is None or self._precise[0] is not base:
            self._precise = base, bounder.in_float64(base)
        return self._precise[1]

    def keep(self, used: Sequence[int]) -> None:
        """Forgets those that no piece stands on."""
        self.standing = {number: self.standing[number] for number in used}
        self.waiting = {number: self.waiting[number] for number in used if number in self.waiting}

    def add(self, base: Base, pieces: int) -> int:
        """A new one, derived for so many pieces; its number."""
        self.derived += 1
        self.standing[self.derived] = base
        self.waiting[self.derived] = Waiting(pieces, pieces)
        return self.derived

    def due(self, room: float) -> bool:
        """Whether another one would pay by now, in so many bytes for all."""
        if not self.rule.next:
            self.rule.wait(0, self.cost(next(iter(self.standing.values()))))
        return self.bounded >= self.rule.next and sum(base.bytes for base in self.standing.values()) < room

    def wait(self, base: Base) -> None:
        """One was derived from this base, or could not be."""
        self.rule.wait(self.bounded, self.cost(base))

    def learn(self, base: Base, gains: Tensor, usual: float) -> bool:  # (B,)
        """A batch on this base rose so far, where a split gains the `usual`; whether the base is a new one, so that the
        gains are its own and not those of a split."""
        self.bounded += len(gains)
        number = next((number for number in self.waiting if self.standing[number] is base), None)
        if number is None:
            return False
        new = self.waiting[number]
        new.left -= len(gains)
        new.raised += float(gains.sum())
        if new.left <= 0:
            del self.waiting[number]
            self.rule.learn(new.raised, new.pieces, self.cost(base), usual)
            self.wait(base)
        return True
