"""What closes a piece is handed to whoever asks, and closes it again: in float64, rounding counted, and no search."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

import pytest
import torch
from networks import random_graph, random_property, sample
from search import Recorded, engine, run
from test_rational import ABSOLUTE, verdict_cases
from test_twins import below_row, compared, property_of
from twin_networks import twin_network

import partita
from partita.bab.config import load_config
from partita.bab.proofs.checker import Checker
from partita.bab.proofs.observer import Rechecking
from partita.bab.search.engine import Engine, Limits
from partita.bab.search.observer import Observer
from partita.bab.trees import phases
from partita.bab.trees.proofs import (
    CellBound,
    Emptiness,
    ExactDecision,
    Foundation,
    IntervalBound,
    LinearBound,
    ProgramBound,
    Proof,
    Unproved,
)
from partita.bab.trees.records import Record
from partita.bab.trees.shared_bounds import Derivations
from partita.problems.network.graph import Graph
from partita.problems.properties.property import Case, Property
from partita.problems.properties.rational import ExactSet, Row
from partita.relaxations.leaf.cell import Multipliers as CellMultipliers
from partita.relaxations.protocol import AbstractRelaxation, Bounds, without_forms
from partita.relaxations.rows.ledger import BoundRows, FoundRows
from partita.relaxations.types import Multipliers, Pieces


@dataclass(frozen=True)
class Search:
    """One search, and the kinds of proof that it is for."""

    kind: str
    inputs: int
    kinds: tuple[type, ...]
    width: int = 8
    depth: int = 2
    radius: float = 0.6
    margin: float = 0.5
    rows: int = 1
    cases: int = 1
    halfspaces: int = 0
    seed: int = 4
    options: tuple[tuple[str, object], ...] = ()

    def problem(self) -> tuple[Graph, Property]:
        graph = random_graph(self.seed, self.kind, inputs=self.inputs, width=self.width, depth=self.depth)
        shape = {"radius": self.radius, "margin": self.margin, "rows": self.rows, "cases": self.cases}
        return graph, random_property(self.seed, graph, halfspaces=self.halfspaces, **shape)

    def run(self, *observers: Observer, **more):
        graph, prop = self.problem()
        return run(graph, prop, observers, blind=True, **dict(self.options) | more)


def options(**named) -> tuple[tuple[str, object], ...]:
    return tuple((name.replace("__", "."), value) for name, value in named.items())


REGIONS = Search("mlp", 5, (LinearBound,), 12, 3, radius=1.0, margin=0.2, seed=3, options=options(max_pieces=80))
BRANCHES = Search("mlp", 17, (LinearBound,), rows=2, options=options(max_pieces=60))
SMALL = replace(REGIONS, inputs=3, width=8, depth=2, margin=0.3, seed=1)
SEARCHES = {
    "regions cut by the input set's half-spaces": replace(REGIONS, halfspaces=2, cases=2),
    "regions of all splits in float64": replace(
        REGIONS,
        kinds=(Emptiness,),
        rows=2,
        seed=1,
        options=options(max_pieces=60, split="polyhedral", precision="float64"),
    ),
    "regions of decided neurons": replace(
        REGIONS, kinds=(Emptiness,), kind="leaky", options=options(max_pieces=60, split="activation")
    ),
    "regions of a smooth network": replace(REGIONS, kind="tanh", options=options(max_pieces=40)),
    "intervals": replace(
        SMALL, kinds=(IntervalBound,), radius=0.6, margin=0.5, rows=2, seed=4, options=options(relaxation="ibp")
    ),
    "branches of two input sets": replace(BRANCHES, halfspaces=2, cases=2, seed=5),
    "branches in float64": replace(BRANCHES, kind="residual", options=options(max_pieces=40, precision="float64")),
    "branches of a smooth network": replace(BRANCHES, kind="sigmoid", options=options(max_pieces=20)),
    "programs over regions": replace(
        SMALL, kinds=(ProgramBound,), options=options(max_pieces=16, relaxation="triangle")
    ),
    "programs over branches": replace(
        BRANCHES,
        kinds=(ProgramBound,),
        width=5,
        rows=1,
        margin=0.0,
        seed=0,
        options=options(max_pieces=10, relaxation="triangle"),
    ),
    "leaves": replace(
        SMALL,
        kinds=(CellBound,),
        width=6,
        margin=0.1,
        rows=2,
        seed=2,
        options=options(max_pieces=150, split="activation"),
    ),
}


class Kept(Observer):
    """All proofs as they came."""

    wants_proof = True

    def __init__(self) -> None:
        self.proofs: list[tuple[object, str, Proof]] = []
        self.bases: list[Foundation] = []

    def laid(self, base: Foundation) -> None:
        self.bases.append(base)

    def proved(self, leaves, how: str, proof: Proof) -> None:
        self.proofs.append((leaves, how, proof))


@dataclass(frozen=True, eq=False)
class Told:
    """A search with its proofs."""

    made: Engine
    watch: Rechecking
    kept: Kept

    def of(self, kind: type) -> list[tuple[Record, Proof]]:
        """Those of a kind, with their pieces."""
        found = [(leaves, proof) for leaves, _, proof in self.kept.proofs if isinstance(proof, kind)]
        assert found
        return found

    def closes(self, proof: Proof) -> int:
        """How many pieces it closes."""
        return int(self.watch.checker.closes(proof).sum())


@cache
@torch.no_grad()
def told(name: str) -> Told:
    """A search in which bases are derived as often as can be."""
    search = SEARCHES[name]
    watch, kept = Rechecking(*search.problem(), follow=True), Kept()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phases, "price", lambda *_: 40.0)
        patch.setattr(Derivations, "learn", lambda *_: None)
        return Told(search.run(watch, kept)[1], watch, kept)


@pytest.mark.parametrize("name", SEARCHES)
def test_every_closed_piece_closes_again_and_stands_where_it_is_said_to(name):
    found = told(name)
    assert found.watch.closes == found.watch.again and not found.watch.wrong
    assert sum(found.watch.closes.values()) == found.made.state.leaves > 0
    assert {kind.__name__ for kind in SEARCHES[name].kinds} <= set(found.watch.closes)
    assert len(found.watch.standing.bases) > 1 or "branches of two" not in name


MANY = {
    "regions": replace(REGIONS, cases=6, options=options(max_pieces=32000, batch=2048, relaxation="crown")),
    "intervals": SEARCHES["intervals"],
    "programs": SEARCHES["programs over regions"],
    "leaves": SEARCHES["leaves"],
}


@torch.no_grad()
def test_ten_thousand_pieces_close_again():
    """Of searches that `partita.verify` might run; checking them takes less time than finding them."""
    closes: Counter[str] = Counter()
    for search in MANY.values():
        watch = Rechecking(*search.problem())
        _, made = search.run(watch)
        assert watch.closes == watch.again and not watch.wrong
        assert sum(watch.closes.values()) == made.state.leaves
        closes += watch.closes
    assert closes.total() >= 10_000
    assert set(closes) >= {"LinearBound", "IntervalBound", "ProgramBound", "CellBound"}


# ---- kinds that need a property of their own


def absolute(lower: Fraction, threshold: Fraction) -> tuple[Graph, Property]:
    """|x| < threshold on [lower, 1]."""
    (x,) = (Row({0: Fraction(1)}, -threshold, True),)
    sides = (verdict_cases.numbers_of([v], 0) for v in (lower, Fraction(1)))
    inputs = verdict_cases.polytope_of(ExactSet(*sides))
    return ABSOLUTE, Property((Case(inputs, (verdict_cases.unsafe_of([x], 1, 1),)),), 1, 1)


@torch.no_grad()
def test_exact_decisions_are_made_again():
    """|x| is never below 1/3 on [1/3, 1], but float64 numbers around 1/3 are."""
    graph, prop = absolute(Fraction(1, 3), Fraction(1, 3))
    for split in ("input", "activation"):
        watch, kept = Rechecking(graph, prop, follow=True), Kept()
        verdict, made = run(graph, prop, (watch, kept), blind=True, split=split)
        assert verdict == "unsat" and made.state.exact
        assert watch.closes["ExactDecision"] == watch.again["ExactDecision"] > 0 and not watch.wrong
        (proof,) = [proof for _, _, proof in kept.proofs if isinstance(proof, ExactDecision)][:1]
        for phase in proof.phases[0]:
            phase *= -1
        assert not watch.checker.closes(proof).any()


@torch.no_grad()
def test_differences_of_twins_are_bounded_again():
    made = twin_network(5, "branches", "relu", inputs=2, widths=(6, 4), monotone=True)
    row = below_row(made.graph, compared(made.graph), constant=Fraction(1, 10), strict=False)
    for precision in ("float32", "float64"):
        watch = Rechecking(made.graph, prop := property_of(made, row), follow=True)
        verdict, _ = run(made.graph, prop, (watch,), blind=True, precision=precision)
        assert verdict == "unsat" and not watch.wrong and watch.closes == watch.again == {"IntervalBound": 1}


@torch.no_grad()
def test_a_relaxation_that_says_no_more_proves_nothing():
    class Oracle(AbstractRelaxation):
        """Every row is positive."""

        def bound(self, pieces, rows, start=None):
            return Bounds(without_forms(pieces, torch.ones_like(rows.constants)), pieces)

    graph, prop = REGIONS.problem()
    config = load_config(None, {"attack": "off"})
    watch = Rechecking(graph, prop)
    partita.verify(graph, prop, observers=(watch,), config=replace(config, relaxation=Oracle()))
    assert watch.closes["Unproved"] > 0 == watch.again["Unproved"] and watch.wrong
    assert watch.checker.closes(Unproved("a log")).tolist() == []


@torch.no_grad()
def test_verification_hands_out_proofs_of_what_its_root_closes():
    """Goals that the first bounds close, and one that is stuck to the tree: from the root on."""
    for search in (replace(REGIONS, margin=9.0), replace(BRANCHES, margin=9.0), BRANCHES):
        graph, prop = search.problem()
        watch = Rechecking(graph, prop, follow=True)
        config = load_config(None, {"attack": "off", "search.max_pieces": 20})
        outcome = partita.verify(graph, prop, observers=(watch,), config=config)
        assert watch.standing.bases and not watch.wrong
        assert outcome.stats["leaves"] == sum(watch.closes.values()) == sum(watch.again.values())
        assert search.margin < 9 or outcome.verdict == "unsat"


# ---- where nobody asks, nothing is kept, and where somebody does, the tree is the same


@pytest.mark.parametrize("name", list(SEARCHES)[:1] + list(SEARCHES)[4:6] + ["programs over regions"])
@torch.no_grad()
def test_without_an_observer_that_asks_nothing_is_kept(name):
    search = SEARCHES[name]
    graph, prop = search.problem()
    story = []
    for asks in (True, False):
        watch = Kept() if asks else Recorded()
        record = Recorded()
        made = engine(graph, prop, (record, watch), blind=True, **dict(search.options))
        known = made.tree.bound(made.tree.roots())
        assert made.tree.proving == asks == bool(known.parts)
        if not asks:
            kept = known.result.price, known.result.derived, known.narrowing
            assert kept == (None, None, None) and made.tree.foundations() == []
            assert getattr(known.records, "source", None) is None and "source" not in known.records.columns()
        made = engine(graph, prop, (record, watch), blind=True, **dict(search.options))
        made.run()
        story.append((record.story(), record.leaves, record.bounds, made.state.pieces))
        if asks:
            assert made.state.leaves == sum(len(leaves) for leaves, _, _ in watch.proofs)
    assert story[0] == story[1]


@torch.no_grad()
def test_a_tree_that_was_not_told_gives_no_proofs():
    made = engine(*REGIONS.problem())
    with pytest.raises(ValueError, match="built to make none"):
        type(made)(made.tree, made.attack_with, made.schedule, (Kept(),), Limits(None, 8, 2.0**30))


# ---- a proof that was tampered with proves nothing


@pytest.fixture(scope="module")
def regions() -> Told:
    return told("regions cut by the input set's half-spaces")


@pytest.fixture(scope="module")
def branches() -> Told:
    return told("branches of two input sets")


def changed(value, *path_and_new):
    """A frozen dataclass with a field of a field changed."""
    *path, new = path_and_new
    if len(path) == 1:
        return replace(value, **{path[0]: new(getattr(value, path[0]))})
    return replace(value, **{path[0]: changed(getattr(value, path[0]), *path[1:], new)})


def moved(to: float):
    """One number of each piece, the first that is there."""

    def new(tensor):
        tensor = tensor.clone()
        tensor.flatten(1)[:, 0] = to
        return tensor

    return new


OUT_OF_RANGE = [
    (("multipliers", "choice"), 1.5),
    (("multipliers", "choice"), -0.001),
    (("multipliers", "choice"), torch.nan),
    (("price",), -1e-3),
    (("price",), torch.inf),
    (("derived", "choice"), 1.001),
    (("derived", "price"), -1e-3),
    (("multipliers", "split"), -1e-3),
    (("multipliers", "split"), torch.nan),
    (("multipliers", "neuron_rows"), -1e-3),
    (("multipliers", "neuron_rows"), torch.inf),
]


@pytest.mark.parametrize(("path", "to"), OUT_OF_RANGE, ids=str)
@torch.no_grad()
def test_multipliers_out_of_range_close_nothing(path, to, regions, branches):
    tried = 0
    for found in (regions, branches):
        for _, proof in found.of(LinearBound):
            value = proof
            for name in path:
                value = getattr(value, name, None)
            if value is not None and value.numel():
                assert found.closes(proof) == len(value) > 0 == found.closes(changed(proof, *path, moved(to)))
                tried += 1
    assert tried


@torch.no_grad()
def test_claims_that_do_not_follow_close_nothing(regions):
    """A neuron's interval that is cut in half, where the layers were bounded anew."""
    graph, tried = regions.watch.checker.graph, 0
    for _, proof in regions.of(LinearBound):
        if proof.derived is None:
            continue
        lower, upper = proof.derived.lower, proof.derived.upper
        j = int(((upper - lower) * ((lower < 0) & (upper > 0))).sum(0).argmax())
        mine = ((lower < 0) & (upper > 0))[:, j].nonzero()[:, 0]
        for side, value in (("lower", upper * 0.5), ("upper", lower * 0.5)):
            halved = getattr(proof.derived, side).index_copy(1, torch.tensor([j]), value[:, [j]])
            new = replace(proof, derived=replace(proof.derived, **{side: halved}))
            assert regions.closes(new[mine]) == 0
            tried += len(mine)
    assert tried > 20 and j < graph.neurons


@torch.no_grad()
def test_bounds_that_nobody_proved_are_no_ground(regions, branches):
    """What a proof says that its pieces inherited is what ancestors and bases proved."""
    for found in (regions, branches):
        standing, tried = found.watch.standing, 0
        for leaves, proof in found.of(LinearBound):
            ground = proof.ground
            for path, new in (
                (("pre_lower",), lambda t: t + 0.01),
                (("pre_upper",), lambda t: t - 0.01),
                (("lower",), lambda t: t + 0.01),
                (("upper",), lambda t: t - 0.01),
                (("offsets",), lambda t: t - 0.01),
            ):
                if path == ("offsets",) and not ground.pieces.offsets.shape[1]:
                    continue
                assert standing.holds(leaves, ground).all()
                assert not standing.holds(leaves, changed(ground, "pieces", *path, new)).any()
                tried += 1
        assert tried > 10


@torch.no_grad()
def test_dropped_decisions_and_rows_are_missed(branches):
    """A decision that is dropped leaves bounds that nothing decides; without those, or without its multiplier, some
    pieces do not close; nor do they where their neuron rows say more than they should."""
    standing, failed = branches.watch.standing, Counter()
    for leaves, proof in branches.of(LinearBound):
        pieces = proof.ground.pieces
        if not pieces.neuron.shape[1]:
            continue
        dropped = changed(proof, "ground", "pieces", "neuron", lambda t: torch.full_like(t, -1))
        at = pieces.neuron.clamp(min=0)
        base = standing.bases[int(proof.ground.inherited.number[0])]
        deciding = (pieces.neuron >= 0) & (
            (pieces.pre_lower.gather(1, at) != base.pre_lower[0][at])
            | (pieces.pre_upper.gather(1, at) != base.pre_upper[0][at])
        )
        mine = deciding.any(1).nonzero()[:, 0]
        assert not standing.holds(leaves[mine], dropped.ground[mine]).any()
        failed["decision"] += len(leaves) - branches.closes(dropped)
        zero = changed(proof, "multipliers", "split", torch.zeros_like)
        failed["multiplier"] += len(leaves) - branches.closes(zero)
        failed["tried"] += len(mine)
    assert failed["tried"] > 10 and failed["multiplier"] > 0 and failed["decision"] > 0


@torch.no_grad()
def test_a_base_that_does_not_follow_is_refused(branches):
    """Its bounds, its rows, and every generation of both."""
    watch, tried = branches.watch, Counter()
    for base in branches.kept.bases[:2]:
        assert watch.standing.laid(base)
        assert not watch.standing.laid(replace(base, pre_lower=base.pre_lower + 0.01))
        assert not watch.standing.laid(replace(base, pre_upper=base.pre_upper - 0.01))
        if base.above is None:
            assert not watch.standing.laid(replace(base, pieces=changed(base.pieces, "lower", lambda t: t + 0.01)))
            assert not watch.standing.laid(replace(base, pieces=base.pieces.with_pre(base.pre_lower, base.pre_upper)))
        if base.derived is not None:
            assert not watch.standing.laid(changed(base, "derived", "choice", moved(-0.5)))
        for k, step in list(enumerate(base.steps))[::3]:
            wrong = [replace(step, lower=step.lower + 0.01)] if isinstance(step, BoundRows) else []
            if isinstance(step, BoundRows):
                wrong.append(changed(step, "multipliers", "choice", moved(1.01)))
            if isinstance(step, FoundRows):
                wrong.append(changed(step, "facets", "offset", lambda t: t - 0.01))
            for one in wrong:
                steps = (*base.steps[:k], one, *base.steps[k + 1 :])
                assert not watch.standing.laid(replace(base, steps=steps)), (k, type(step))
            tried[type(step).__name__] += 1
        if base.neuron_rows is not None:
            layer = base.neuron_rows.layers[0]
            broken = replace(layer, facets=changed(layer.facets, "offset", lambda t: t - 0.01))
            neuron_rows = replace(base.neuron_rows, layers=(broken, *base.neuron_rows.layers[1:]))
            assert not watch.standing.laid(replace(base, neuron_rows=neuron_rows))
            tried["neuron_rows"] += 1
        watch.standing.laid(base)
    assert tried["BoundRows"] and tried["FoundRows"] and tried["neuron_rows"]


@torch.no_grad()
def test_dual_vectors_with_a_wrong_sign_close_nothing():
    for name, kind in (("programs over regions", ProgramBound), ("leaves", CellBound)):
        found, tried = told(name), 0
        for _, proof in found.of(kind):
            if kind is ProgramBound:
                turned = tuple(
                    None if m is None else m._replace(duals=tuple(d and replace(d, dual=-d.dual) for d in m.duals))
                    for m in proof.minima
                )
                wrong = replace(proof, minima=turned)
                mine = torch.tensor([k for k, m in enumerate(proof.minima) if m is not None], dtype=torch.int64)
            else:
                minus = lambda m: CellMultipliers(-m.unsafe, -m.halfspaces, {i: -v for i, v in m.neurons.items()})  # noqa: E731
                wrong = replace(proof, multipliers=tuple(m and minus(m) for m in proof.multipliers))
                mine = torch.tensor([k for k, m in enumerate(proof.multipliers) if m is not None], dtype=torch.int64)
            assert found.closes(proof) == len(proof.ground.goal) and not found.closes(wrong[mine])
            tried += len(mine)
        assert tried > 2, kind


@torch.no_grad()
def test_intervals_that_do_not_follow_close_nothing():
    found, tried = told("intervals"), 0
    for _, proof in found.of(IntervalBound):
        wrong = changed(proof, "lower", lambda t: t + 0.01)
        assert not found.closes(wrong)
        tried += len(proof.ground.goal)
    assert tried > 20


# ---- the checker against sampled truth


@pytest.mark.parametrize("kind", ("mlp", "leaky", "residual", "conv", "tanh", "sigmoid"))
@torch.no_grad()
def test_any_multipliers_in_range_prove_what_is_true(kind):
    """Bounds of rows by random slopes, decisions' and half-spaces' multipliers, below the rows at sampled points."""
    random = torch.Generator().manual_seed(3)
    graph = random_graph(3, kind, inputs=4, width=6, depth=2)
    prop = random_property(3, graph, rows=2, halfspaces=2)
    checker, inputs, gaps = Checker(graph, prop), prop.cases[0].inputs, []
    x = torch.from_numpy(sample(inputs, 4000, 1))
    values = graph.values(x)
    pre = torch.cat([values[operand.source] for operand in graph.operands], 1)
    box = Pieces.boxes(*(torch.from_numpy(side)[None] for side in (inputs.lower, inputs.upper)), graph.neurons)
    sides = torch.from_numpy(inputs.normals)[None], torch.from_numpy(inputs.offsets)[None]
    spread = pre.amax(0) - pre.amin(0)
    for trial in range(60):
        neuron = torch.randint(graph.neurons, (1, 2), generator=random)
        sign = torch.randint(2, (1, 2), generator=random).double() * 2 - 1
        point = pre[trial][neuron[0]][None]
        low, high = pre.amin(0) - 0.1 * spread, pre.amax(0) + 0.1 * spread
        piece = Pieces(box.lower, box.upper, *sides, neuron, sign, point, low[None], high[None])
        decided = (sign * (pre[:, neuron[0]] - point) >= 0).all(1)
        rand = lambda *shape: torch.rand(*shape, generator=random).double()  # noqa: E731
        given = Multipliers(rand(1, 2, 2, graph.neurons), rand(1, 2, 2) * (trial % 3), rand(1, 2, 0))
        rows = checker.goals.rows(torch.tensor([0]))
        found = checker.made.rows(piece, rows, given, 0.1 * (trial % 2) * rand(1, 2, 2))
        truth = values[graph.output] @ rows.coefficients[0].mT + rows.constants[0]  # (points, S)
        forms = x @ found.forms[0].mT + found.constants[0]
        assert decided.any() and (truth[decided] >= found.lower[0] - 1e-12).all()
        assert (truth[decided] >= forms[decided] - 1e-12).all()
        gaps.append(float((truth[decided].amin(0) - found.lower[0]).min()))
    assert min(gaps) < 2.0  # not by far


@pytest.mark.gpu
@pytest.mark.parametrize("search", (REGIONS, BRANCHES), ids=lambda s: s.inputs)
@torch.no_grad()
def test_proofs_live_where_the_search_does(search):
    watch, kept = Rechecking(*search.problem()), Kept()
    search.run(watch, kept, device="cuda")
    assert watch.closes == watch.again and not watch.wrong and watch.checker.made.graph.like.is_cuda
    assert all(p.ground.pieces.lower.is_cuda for _, _, p in kept.proofs if isinstance(p, LinearBound))
