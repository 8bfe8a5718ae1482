"""Help for tests of the search: the truth about a small property, an engine with its parts at hand, a recorded tree."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor

import partita
from partita.bab.attack.descent import Attack, Budget
from partita.bab.attack.witness import Judge
from partita.bab.building import build
from partita.bab.config import load_config
from partita.bab.search.engine import Engine, Limits
from partita.bab.search.observer import Observer
from partita.bab.search.outcome import Outcome
from partita.bab.search.schedule import Schedule
from partita.bab.strategy import choose, memory
from partita.bab.trees.records import R, Record
from partita.bab.trees.root import Watch
from partita.bab.trees.splits import HALF_SPACE, INPUT, PHASE
from partita.problems.network.graph import Graph
from partita.problems.properties.property import Property
from partita.relaxations.ladder.exact import feasible_unsafe

CLOSE = 1e-5  # a least margin nearer to zero than this may be called unknown


@dataclass(frozen=True)
class Truth:
    """The least margin of any unsafe set over its input set lies in [lower, upper], by mixed-integer programs."""

    lower: float
    upper: float

    @property
    def verdict(self) -> str:
        """What a verifier must say; empty where double precision cannot tell."""
        if self.lower > CLOSE:
            return "unsat"
        return "sat" if self.upper < -CLOSE else ""


def truth(graph: Graph, prop: Property) -> Truth:
    """By the oracle, goal after goal. Piecewise-linear networks only."""
    found = [feasible_unsafe(graph, case.inputs, unsafe) for case in prop.cases for unsafe in case.unsafe]
    return Truth(min(r.lower for r in found), min(r.upper for r in found))


def verify(graph: Graph, prop: Property, timeout: float = 20.0, observers=(), **overrides) -> Outcome:
    """`partita.verify`, and what it claims is checked. Options may have no effect, as those of a preset may."""
    outcome = partita.verify(graph, prop, timeout=timeout, observers=observers, config=load_config(None, overrides))
    if outcome.verdict == "sat":
        x, y = outcome.witness
        assert prop.violated_by(x, y)
        np.testing.assert_allclose(graph(torch.from_numpy(x)).numpy(), y, atol=1e-6, rtol=1e-6)
    else:
        assert outcome.witness is None
    return outcome


class Blind:
    """An attack that finds nothing, and a judge that confirms nothing."""

    def budgets(self):
        while True:
            yield Budget(1, 1)

    def check(self, points: Tensor) -> None:
        return None

    def polish(self, points: Tensor, **options) -> None:
        return None

    def search(self, **options) -> None:
        return None

    def judge(self, x, goal, exact=None) -> None:
        return None


@torch.no_grad()
def engine(graph: Graph, prop: Property, observers=(), *, blind: bool = False, deadline=None, **overrides) -> Engine:
    """The engine that `verify` would run, not yet started."""
    config = load_config(None, {"attack": "off"} | overrides)
    strategy = choose(graph, config)
    working = graph.to(strategy.dtype, strategy.device)
    watch = Watch(None, proving=any(observer.wants_proof for observer in observers))
    tree = build(graph, working, prop, config, strategy, watch)
    schedule = Schedule(config.attack == "on", config.search.max_pieces)
    judge = Judge(graph, prop, lambda x: graph(torch.from_numpy(x)).numpy())
    limits = Limits(deadline, config.search.batch, memory(config, strategy.device))
    attack = Blind() if blind else Attack(working, judge, config.seed)
    return Engine(tree, attack, schedule, observers, limits)


@torch.no_grad()
def run(graph: Graph, prop: Property, observers=(), **options) -> tuple[str, Engine]:
    """The verdict, and the engine it came from."""
    made = engine(graph, prop, observers, **options)
    return made.run(), made


def filled(kind: type[R], bound: Tensor, **known: Tensor) -> R:
    """A record of these bounds (B,), for tests of what looks at some of its fields: the others are zeros (B, 0)."""
    count = len(bound)
    plain = dict.fromkeys(("goal", "depth", "id", "parent", "cut_index"), torch.zeros(count, dtype=torch.int64))
    every = {f.name: torch.zeros(count, 0) for f in fields(kind) if f.name not in ("logged", "source")}
    return kind(**every | plain | {"bound": bound, "cut_point": torch.zeros(count)} | known)


@dataclass(eq=False)
class Recorded(Observer):
    """Everything that happened to the pieces, by id."""

    roots: list[int] = field(default_factory=list)
    splits: dict[int, dict[str, object]] = field(default_factory=dict)
    children: dict[int, tuple[int, int]] = field(default_factory=dict)
    bounds: dict[int, float] = field(default_factory=dict)
    depths: dict[int, int] = field(default_factory=dict)
    leaves: dict[int, str] = field(default_factory=dict)
    marks: str = ""

    def rooted(self, roots: Record) -> None:
        self.roots = roots.id.tolist()

    def branched(self, parents: Record, children: Record) -> None:
        ids = children.id.reshape(2, -1).T.tolist()
        for row, piece in enumerate(parents.id.tolist()):
            assert piece not in self.children
            kind, cut = int(parents.cut.kind[row]), parents.cut
            normal = None if cut.normal is None else cut.normal[row].double().numpy()
            self.splits[piece] = {
                "kind": kind,
                "index": int(cut.index[row]),
                "point": float(cut.point[row]),
                "normal": normal,
            }
            self.children[piece] = tuple(ids[row])
            self._note(parents, row)

    def closed(self, leaves: Record, how: str) -> None:
        self._end(leaves, how)

    def stuck(self, leaf: Record, reason: str) -> None:
        self._end(leaf, "stuck")

    def progress(self, mark: str, state) -> None:
        self.marks += mark

    def _end(self, leaves: Record, how: str) -> None:
        for row, piece in enumerate(leaves.id.tolist()):
            assert piece not in self.leaves and piece not in self.children
            self.leaves[piece] = how
            self._note(leaves, row)

    def _note(self, record: Record, row: int) -> None:
        piece = int(record.id[row])
        self.bounds[piece] = float(record.bound[row])
        self.depths[piece] = int(record.depth[row])

    def story(self) -> list[tuple]:
        """What two runs must agree on."""
        return [(i, s["kind"], s["index"], s["point"], self.children[i]) for i, s in self.splits.items()]

    def ends(self, graph: Graph, root: int, x: np.ndarray) -> list[int]:
        """The pieces without recorded children that a point of the root's input set belongs to."""
        values = graph.values(torch.from_numpy(x))
        z = torch.cat([values[graph.nodes[i].inputs[0]] for i in graph.layer_at]).numpy()
        waiting, found = [root], []
        while waiting:
            piece = waiting.pop()
            if piece not in self.children:
                found.append(piece)
                continue
            split, (low, high) = self.splits[piece], self.children[piece]
            at = {INPUT: lambda s: x[s["index"]], PHASE: lambda s: z[s["index"]], HALF_SPACE: lambda s: s["normal"] @ x}
            value = at[split["kind"]](split)
            waiting += [low] * int(value <= split["point"]) + [high] * int(value >= split["point"])
        return found
