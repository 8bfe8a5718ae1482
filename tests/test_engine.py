"""The search against the truth: every kind of split, precision and switch; covering, order, limits and mishaps."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import PIECEWISE, random_graph, random_property, sample
from search import Blind, Recorded, engine, run, truth, verify

import partita
from partita.bab.attack.turns import SecondTurn
from partita.bab.config import load_config
from partita.bab.search.engine import out_of_memory
from partita.bab.strategy import choose
from partita.bab.trees.splits import HALF_SPACE, INPUT, PHASE
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Affine, Graph, Input
from partita.problems.property import Case, Polytope, Property, UnsafeSet, box_property
from partita.relaxations.leaf.leaf import LeafStatus, settle

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

SPLITS = ("auto", "input", "polyhedral", "activation")


def problem(seed: int, kind: str | None = None, **options) -> tuple[Graph, Property]:
    """A network with a dozen neurons and a property near its minimum."""
    kind = kind or PIECEWISE[seed % len(PIECEWISE)]
    graph = random_graph(seed, kind, inputs=4 if kind == "conv" else 2 + seed % 2, width=4, depth=2)
    return graph, random_property(seed, graph, **options)


# ---- against the truth


@pytest.mark.parametrize("attack", ["on", "off"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("split", SPLITS)
def test_agrees_with_the_oracle(split, precision, attack):
    for seed in range(5):
        graph, prop = problem(seed, rows=1 + seed % 3, cases=1 + seed % 2, sets=1 + seed // 3, halfspaces=seed % 3)
        expected = truth(graph, prop).verdict
        said = verify(graph, prop, split=split, precision=precision, attack=attack)
        assert said.verdict == expected or not expected, (seed, said.reason)


@pytest.mark.parametrize(("precision", "attack"), [("float32", "on"), ("float32", "off"), ("float64", "off")])
def test_activation_branches_agree_with_the_oracle(precision, attack):
    """Thirteen inputs and more are never bisected: pieces are branches."""
    verdicts = set()
    for seed in range(4, 8):
        graph = random_graph(seed, ("mlp", "leaky", "residual", "maxpool")[seed % 4], inputs=13, width=6, depth=2)
        options = {"rows": 1 + seed % 3, "cases": 1 + seed % 2, "sets": 1 + seed // 3 % 2, "halfspaces": seed % 3}
        prop = random_property(seed, graph, radius=0.8, **options)
        expected = truth(graph, prop).verdict
        rule = "look-ahead" if seed % 2 else "auto"
        said = verify(graph, prop, precision=precision, attack=attack, rule=rule)
        assert "branches" in said.stats.get("strategy", "branches")
        assert said.verdict == expected or not expected, (seed, said.reason)
        verdicts.add(said.verdict)
    assert verdicts >= {"sat", "unsat"}


@pytest.mark.parametrize("relaxation", ["ibp", "deeppoly-0", "deeppoly-1", "crown", "alpha-crown", "exact"])
@pytest.mark.parametrize("split", ["auto", "activation"])
def test_every_relaxation_gives_the_same_verdict(relaxation, split):
    for seed in (5, 6, 8):
        graph, prop = problem(seed, rows=1 + seed % 2)
        expected = truth(graph, prop).verdict
        said = verify(graph, prop, split=split, relaxation=relaxation, attack="off")
        assert said.verdict == expected or not expected


def test_agrees_with_enumerated_activation_patterns():
    """All 2^6 sign patterns of a network, each settled by a linear program."""
    verdicts = set()
    for seed in range(6):
        graph = random_graph(seed, "mlp", inputs=2, width=3, depth=2)
        prop = random_property(seed, graph, rows=2, halfspaces=1)
        case = prop.cases[0]
        found = set()
        for signs in itertools.product((1, -1), repeat=graph.neurons):
            phases = [np.array(signs[:3], dtype=np.int8), np.array(signs[3:], dtype=np.int8)]
            found.add(settle(graph, case.inputs, phases, case.unsafe[0]).status)
        expected = "sat" if LeafStatus.witness in found else "unsat"
        assert LeafStatus.undecided not in found
        for split in SPLITS:
            assert verify(graph, prop, split=split, attack="off").verdict == expected
        verdicts.add(expected)
    assert verdicts == {"sat", "unsat"}


@pytest.mark.parametrize("kind", ["sigmoid", "tanh"])
@pytest.mark.parametrize("split", ["auto", "input", "activation"])
def test_smooth_networks(kind, split):
    """Sampling is the truth here; a margin is kept from it."""
    for seed in range(2):
        graph = random_graph(seed, kind, inputs=2, width=4, depth=2)
        case = random_property(seed, graph).cases[0]
        row = case.unsafe[0].rows
        x = sample(case.inputs, 20_000, seed)
        least = float((graph(torch.from_numpy(x)).numpy() @ row.T).min())
        for shift, expected in ((0.02, "unsat"), (-0.001, "sat")):
            unsafe = UnsafeSet(row, np.array([shift - least]))
            prop = Property((Case(case.inputs, (unsafe,)),), 2, 2)
            assert verify(graph, prop, split=split, attack="on" if expected == "sat" else "off").verdict == expected


def test_rows_that_speak_of_inputs():
    """x is copied to the output: y - x is zero everywhere, though neither is."""
    graph = random_graph(0, "mlp", inputs=2, width=4, depth=2)
    for seed in range(4):
        random = np.random.default_rng(seed)
        box = Polytope(-np.ones(2), np.ones(2))
        rows, on_input = random.normal(size=(2, 2)), random.normal(size=(2, 2))
        prop = Property((Case(box, (UnsafeSet(rows, random.normal(size=2), on_input),)),), 2, 2)
        expected = truth(graph, prop).verdict
        for split in SPLITS:
            assert verify(graph, prop, split=split, attack="off").verdict == expected


# ---- the tree


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("inputs", [2, 13])
def test_leaves_cover_the_input_set(split, inputs):
    """Every point of the input set is in a leaf; the leaves' weights add up to one; bounds rise along branches."""
    if inputs == 13 and split == "polyhedral":
        pytest.skip("half-spaces in thirteen dimensions take too long for a test")
    kinds, leaves = set(), 0
    for seed in range(3):
        graph = random_graph(seed, "mlp", inputs=inputs, width=6, depth=2)
        prop = random_property(seed, graph, radius=0.3, halfspaces=seed % 2, rows=2)
        record = Recorded()
        _, searched = run(graph, prop, [record], split=split, blind=True, max_pieces=600)
        open_ = set(searched.state.frontier.pop(10**6).id.tolist()) if len(searched.state.frontier) else set()
        for x in sample(prop.cases[0].inputs, 300, seed):
            ends = record.ends(graph, record.roots[0], x)
            assert ends and all(piece in record.leaves or piece in open_ for piece in ends)
        ends = {**record.leaves, **dict.fromkeys(open_, "open")}
        every = set(record.roots).union(*record.children.values())
        assert set(ends) == every - set(record.children)
        depth = _depths(record)
        assert sum(2.0 ** -depth[piece] for piece in ends) == pytest.approx(len(record.roots))
        assert searched.state.weight == pytest.approx(
            sum(2.0 ** -depth[i] for i, how in record.leaves.items() if how != "stuck") / len(record.roots)
        )
        for piece, children in record.children.items():
            for child in children:
                assert record.bounds.get(child, np.inf) >= record.bounds[piece]
        assert all(record.depths[piece] == depth[piece] for piece in record.depths)
        kinds |= {s["kind"] for s in record.splits.values()}
        leaves += len(record.leaves)
    assert leaves > 20 or inputs == 13
    must = {"auto": set(), "input": {INPUT}, "polyhedral": {INPUT, HALF_SPACE, PHASE}, "activation": {PHASE}}
    assert kinds >= must[split]


def _depths(record: Recorded) -> dict[int, int]:
    depth = dict.fromkeys(record.roots, 0)
    for parent, children in sorted(record.children.items()):
        depth |= dict.fromkeys(children, depth[parent] + 1)
    return depth


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("inputs", "split"), [*((3, split) for split in SPLITS), (13, "auto")])
def test_no_counterexample_is_ever_lost(inputs, split, precision):
    """A search that is told of none keeps each in an open or stuck piece, clipped and cut as that is."""
    kept = 0
    for seed in range(4):
        graph = random_graph(seed, "residual", inputs=inputs, width=5, depth=2)
        prop = random_property(seed, graph, radius=1.0, halfspaces=seed % 2, rows=1 + seed % 2)
        case = prop.cases[0]
        x = sample(case.inputs, 3000, seed)
        margin = np.array([case.unsafe[0].margin(y, p) for y, p in zip(graph(torch.from_numpy(x)).numpy(), x)])
        points = x[margin <= np.quantile(margin, 0.02)]
        row = UnsafeSet(case.unsafe[0].rows, case.unsafe[0].constants - np.quantile(margin, 0.02))
        prop = Property((Case(case.inputs, (row,)),), prop.n_in, prop.n_out)
        points = [p for p in points if prop.violated_by(p, graph(torch.from_numpy(p)).numpy())]
        record = Recorded()
        _, searched = run(graph, prop, [record], split=split, precision=precision, blind=True, max_pieces=300)
        rest = searched.state.frontier.pop(10**6)
        where = {piece: row for row, piece in enumerate(rest.id.tolist())}
        for p in points:
            ends = record.ends(graph, record.roots[0], p)
            good = [e for e in ends if e in where and _holds(searched.tree.pieces(rest), where[e], graph, p)]
            assert good or any(record.leaves.get(e) == "stuck" for e in ends)
            kept += 1
    assert kept > 50


def _holds(pieces, row: int, graph: Graph, x: np.ndarray) -> bool:
    """Whether a stored piece contains the point, every constraint looked at."""
    lower, upper, normals, offsets = (
        t[row].double().numpy() for t in (pieces.lower, pieces.upper, pieces.normals, pieces.offsets)
    )
    values = graph.values(torch.from_numpy(x))
    z = torch.cat([values[graph.nodes[i].inputs[0]] for i in graph.layer_at])
    inside = (x >= lower).all() and (x <= upper).all() and (normals @ x <= offsets).all()
    return bool(inside and (z >= pieces.pre_lower[row].double()).all() and (z <= pieces.pre_upper[row].double()).all())


@pytest.mark.parametrize("split", SPLITS)
def test_same_seed_same_tree(split):
    graph, prop = problem(3, "mlp", rows=2, radius=1.0)
    stories = []
    for _ in range(2):
        record = Recorded()
        verdict, searched = run(graph, prop, [record], split=split, attack="on", max_pieces=500, blind=True)
        stories.append((verdict, searched.state.pieces, record.story(), record.leaves))
    assert stories[0] == stories[1]


# ---- limits and mishaps


def hard() -> tuple[Graph, Property]:
    """Tens of thousands of pieces, however it is split."""
    graph = random_graph(11, "mlp", inputs=8, width=40, depth=3)
    case = random_property(11, graph, radius=1.5).cases[0]
    y = graph(torch.from_numpy(sample(case.inputs, 20_000))).numpy() @ case.unsafe[0].rows.T
    return graph, box_property(case.inputs.lower, case.inputs.upper, case.unsafe[0].rows, np.array([0.5 - y.min()]))


@pytest.mark.parametrize("split", ["input", "activation"])
def test_a_time_limit_is_kept_and_what_was_done_is_told(split):
    graph, prop = hard()
    start = time.monotonic()
    said = verify(graph, prop, timeout=1.0, split=split)
    assert time.monotonic() - start < 2.0  # a busy machine may be late in waking us
    assert said.verdict == "timeout" and said.reason.startswith(f"the time limit passed; {said.pieces} pieces bounded")
    assert said.pieces > 10 and said.stats["open"] > 0 and said.stats["worst"] < 0


def test_a_limit_on_pieces():
    graph, prop = hard()
    said = verify(graph, prop, max_pieces=100, attack="off", batch=16)
    assert said.verdict == "unknown" and "limit of 100 pieces" in said.reason
    assert 100 <= said.pieces < 132


class Failing:
    """Wraps a tree's `bound` so that batches above a size do not fit."""

    def __init__(self, bound, most: int, error: Exception) -> None:
        self.bound, self.most, self.error, self.failures = bound, most, error, 0

    def __call__(self, record):
        if len(record) > self.most:
            self.failures += 1
            raise self.error
        return self.bound(record)


ERRORS = [
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
    torch.OutOfMemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=["python", "allocator", "cuda"])
@pytest.mark.parametrize("split", ["input", "activation"])
def test_out_of_memory_shrinks_the_batch_and_changes_no_verdict(split, error):
    for seed in (1, 2):
        graph, prop = problem(seed, "mlp", cases=2, rows=2, radius=1.0)
        expected, plain = run(graph, prop, split=split)
        record = Recorded()
        searched = engine(graph, prop, [record], split=split)
        searched.tree.bound = Failing(searched.tree.bound, 3, error)
        with torch.no_grad():
            verdict = searched.run()
        assert verdict == expected == truth(graph, prop).verdict
        assert searched.state.batch <= 3 or plain.state.pieces < 4
        assert ("m" in record.marks) == (searched.tree.bound.failures > 0)


@pytest.mark.parametrize("part", ["split", "confirm"])
def test_memory_that_runs_out_elsewhere(part):
    """Parents go back to the frontier, and what only helps is done without."""
    failures = 0
    for seed in range(4):
        graph, prop = problem(seed, "mlp", rows=2, radius=1.0)
        searched = engine(graph, prop, split="input")
        failing = Failing(getattr(searched.tree, part), 1 if part == "split" else 0, MemoryError())
        setattr(searched.tree, part, failing)
        with torch.no_grad():
            assert searched.run() == truth(graph, prop).verdict
        failures += failing.failures
    assert failures > 0 or part == "confirm"


def test_an_attack_that_does_not_fit_is_done_without():
    class Greedy(Blind):
        def check(self, points):
            raise MemoryError

        polish = search = check

    graph, prop = problem(2, "mlp", radius=1.0)
    record = Recorded()
    searched = engine(graph, prop, [record], attack="on", blind=True)
    searched.attack_with = Greedy()
    assert searched.run() == run(graph, prop, blind=True)[0]
    assert "m" in record.marks


def test_a_piece_that_does_not_fit_ends_in_unknown():
    graph, prop = problem(1, "mlp")
    searched = engine(graph, prop)
    searched.tree.bound = Failing(searched.tree.bound, 0, MemoryError())
    assert searched.run() == "unknown"
    assert "memory" in searched.schedule.reason and len(searched.state.frontier) == 1


def test_other_errors_are_not_taken_for_lack_of_memory():
    assert not out_of_memory(RuntimeError("expected a tensor in channels-last memory format"))
    assert not out_of_memory(RuntimeError("index 5 is out of bounds"))


def test_an_interrupt_reports_what_was_done():
    class Impatient(Recorded):
        def branched(self, parents, children):
            super().branched(parents, children)
            if len(self.children) > 20:
                raise KeyboardInterrupt

    graph, prop = hard()
    said = verify(graph, prop, attack="off", observers=(Impatient(),))
    assert (said.verdict, said.reason) == ("unknown", "interrupted")
    assert said.pieces > 10


# ---- corner cases

NOTHING = UnsafeSet(np.zeros((0, 2)), np.zeros(0))
NEVER = UnsafeSet(np.array([[1.0, 0.0]]), np.array([100.0]))
BOX = Polytope(-np.ones(3), np.ones(3))
SUM = np.array([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
SLICE = Polytope(-np.ones(3), np.ones(3), SUM, np.array([-0.5, 0.6]))  # -0.6 <= sum <= -0.5
EMPTY = Polytope(-np.ones(3), np.ones(3), SUM, np.array([-0.5, 0.4]))
CROSSED = Polytope(np.ones(3), -np.ones(3))

CORNERS = {
    "crossed bounds": ([Case(CROSSED, (NEVER,))], "unsat", "input set is empty"),
    "crossed bounds beside a case": ([Case(CROSSED, (NOTHING,)), Case(BOX, (NEVER,))], "unsat", ""),
    "no case": ([], "unsat", "input set is empty"),
    "nothing unsafe": ([Case(BOX, ())], "unsat", "no output unsafe"),
    "everything unsafe": ([Case(BOX, (NEVER, NOTHING))], "sat", "every output is unsafe"),
    "everything unsafe on a slice": ([Case(SLICE, (NOTHING,))], "sat", "every output is unsafe"),
    "everything unsafe on nothing": ([Case(EMPTY, (NOTHING,))], "unsat", "half-spaces leave no point"),
    "half-spaces that exclude each other": ([Case(EMPTY, (NEVER, NEVER))], "unsat", ""),
}


@pytest.mark.parametrize("attack", ["on", "off"])
@pytest.mark.parametrize("name", CORNERS)
def test_corner_cases(name, attack):
    cases, expected, reason = CORNERS[name]
    graph = random_graph(1, "mlp")
    for split in SPLITS:
        said = verify(graph, Property(tuple(cases), 3, 2), split=split, attack=attack)
        assert said.verdict == expected and reason in said.reason


@pytest.mark.parametrize("split", SPLITS)
def test_an_affine_network(split):
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 3, generator=random, dtype=torch.float64)
    graph = Graph((Input(3), Affine((0,), (Dense(weight),), torch.zeros(2).double())), (1, 3), (1, 2))
    for shift in (-0.1, 5.0):
        rows = UnsafeSet(np.array([[1.0, 0.0], [-1.0, 0.5]]), np.full(2, shift))
        prop = Property((Case(SLICE, (rows,)),), 3, 2)
        assert verify(graph, prop, split=split, attack="off").verdict == truth(graph, prop).verdict


def test_a_box_of_one_point():
    for seed in range(3):
        graph = random_graph(seed, "mlp")
        x = np.full(3, 0.1)
        y = graph(torch.from_numpy(x)).numpy()
        for shift, expected in ((1e-3, "unsat"), (-1e-3, "sat")):
            prop = box_property(x, x, np.array([[1.0, 0.0]]), np.array([shift - y[0]]))
            for split in SPLITS:
                assert verify(graph, prop, split=split, attack="off").verdict == expected


def test_overflow_never_proves_anything():
    """Weights whose products leave float32, and float64: whatever is said, it is not unsat."""
    for scale in (1e25, 1e200):
        graph = random_graph(0, "mlp")
        nodes = [
            Affine(n.inputs, (Dense(n.operators[0].weight * scale),), n.bias) if isinstance(n, Affine) else n
            for n in graph.nodes
        ]
        big = Graph(tuple(nodes), graph.input_shape, graph.output_shape)
        prop = box_property(-np.ones(3), np.ones(3), np.array([[1.0, 0.0], [-1.0, 0.0]])[:, None], np.zeros((2, 1)))
        for precision in ("float32", "float64"):
            for split in SPLITS:
                said = verify_unchecked(big, prop, split=split, precision=precision)
                assert said.verdict != "unsat"


def verify_unchecked(graph: Graph, prop: Property, **overrides):
    """`partita.verify` where the network's own values overflow."""
    import partita

    with np.errstate(all="ignore"):
        return partita.verify(graph, prop, timeout=2.0, attack="off", max_pieces=200, **overrides)


def test_between_two_turns_of_the_attack_the_search_takes_a_step():
    """A turn that costs nothing is always within its budget: it would be followed by another for ever."""
    from partita.bab.search.schedule import Schedule
    from partita.bab.search.state import State
    from partita.bab.trees.frontier import Frontier

    state = State(frontier=Frontier(), goals=1, named=1, batch=1, deadline=None)
    state.pieces, state.last_attack = 7, 0.0
    schedule = Schedule(True, None)
    assert schedule.attacking(state)
    schedule.attacked_at = state.pieces
    assert not schedule.attacking(state)
    state.pieces += 1
    assert schedule.attacking(state)


@pytest.mark.parametrize(("inputs", "width", "tree"), [(12, 8, "regions"), (13, 8, "phases"), (13, 2000, "regions")])
def test_what_is_split_follows_from_the_structure(inputs, width, tree):
    graph = random_graph(0, "mlp", inputs=inputs, width=width, depth=2)
    assert choose(graph, load_config(None, {})).tree == tree


def test_precision_splits_and_rows_follow_from_network_and_names():
    """Weights that float32 may overflow on, neurons that are never decided, several names and one in batch."""
    config, few = load_config(None, {"device": "cpu"}), {"inputs": 2, "width": 2, "depth": 1}
    relu, smooth = random_graph(0, "mlp", **few), random_graph(0, "tanh", **few)
    assert (choose(relu, config).splits, choose(smooth, config).splits) == ("activation", "auto")
    first = relu.nodes[1]
    for size, dtype in ((1e25, torch.float32), (1e33, torch.float64)):
        large = replace(first, bias=torch.full_like(first.bias, size))
        graph = Graph((relu.nodes[0], large, *relu.nodes[2:]), relu.input_shape, relu.output_shape)
        assert choose(graph, config).dtype is dtype
    wide = random_graph(0, "mlp", inputs=30, width=40, depth=2)
    asked = (("prima", ("prima",), ""), ("triangle+m-2", (), "triangle m-2"), ("auto", ("m-1",), ""))
    for word, rows, programs in asked:
        found = choose(wide, load_config(None, {"relaxation": word}))
        assert found.rows == rows and " ".join(map(str, found.programs)) == programs
        assert found.relaxation == "alpha-crown"


def test_before_much_is_spent_on_a_root_the_attack_has_another_turn(monkeypatch):
    monkeypatch.setattr("partita.bab.verify.first_turn", lambda attack, deadline: None)
    hard = lambda attack, deadline, begun: SecondTurn(attack, deadline, begun - 1000)  # noqa: E731
    monkeypatch.setattr("partita.bab.verify.SecondTurn", hard)  # its share does not hang on the machine
    asked = (EXAMPLES / "digits_relu.onnx", EXAMPLES / "digits_relu_256_0.15.vnnlib")
    outcome = partita.verify(*asked, timeout=6000)
    assert outcome.verdict == "sat" and outcome.reason == "found by the attack before the root was split"
    without = partita.verify(*asked, timeout=6000, attack="off", max_pieces=20)
    assert without.verdict != "unsat" and without.stats["root s"] > 0
