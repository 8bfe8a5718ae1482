"""What a verdict rests on, each on its own and on both trees: slack, empty and stuck pieces, goals, certificates."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from logs import logged
from networks import barely
from search import Blind, Recorded, engine, run
from test_precision import drowned, network

import partita
from partita.bab.logs.read import read_log
from partita.bab.trees.goals import goals_of
from partita.problems.network.graph import Graph
from partita.problems.property import Case, Polytope, Property, UnsafeSet, box_property
from partita.relaxations.leaf import leaf
from partita.relaxations.leaf.leaf import LeafStatus, settle
from partita.relaxations.lp.model import Solution, Status

PRECISIONS = ("float32", "float64")
INPUTS = (3, 14)  # regions of the input, branches of activations


def attained(graph: Graph, x: list[Fraction]) -> list[Fraction]:
    """The network at a point, in rational arithmetic."""
    value = x
    for node in graph.nodes[1:]:
        if hasattr(node, "operators"):
            rows = node.operators[0].weight.tolist()
            value = [
                sum((Fraction(w) * v for w, v in zip(row, value, strict=True)), Fraction(b))
                for row, b in zip(rows, node.bias.tolist(), strict=True)
            ]
        else:
            value = [max(v, Fraction(0)) for v in value]
    return value


def cancelling_biases(seed: int, inputs: int, big: float) -> tuple[Graph, Property]:
    """Neurons at about `big` whose sum cancels, and some that are zero at the corner where the rest is least: the
    least output is known in rational numbers, and the row's constant is the nearest number that makes it <= 0."""
    random = np.random.default_rng(seed)
    pairs, kinks = 3, 3
    half = random.normal(size=(pairs, inputs))
    sign = np.where(random.random(inputs) < 0.5, -1.0, 1.0)
    corner = (sign < 0).astype(float)  # the last layer's weights are positive: the least of `half` is not known yet
    slope = random.integers(1, 9, size=(kinks, inputs)) / 8 * sign  # each is 0 at the corner and >= 0 elsewhere
    kink_bias = -(slope @ corner)
    weights = np.concatenate([half, -half + sign * np.abs(random.normal(size=(pairs, inputs))), slope])
    biases = np.concatenate([big * (1 + random.random(pairs)), big * (1 + random.random(pairs)), kink_bias])
    last = np.concatenate([np.ones(pairs), np.ones(pairs), np.abs(random.normal(size=kinks))])
    graph = network((weights.tolist(), biases.tolist()), ([last.tolist()], [-float(np.sum(biases[: 2 * pairs]))]))
    least = attained(graph, [Fraction(v) for v in corner])[0]
    constant = float(-least)
    while Fraction(constant) + least > 0:
        constant = np.nextafter(constant, -np.inf)
    prop = box_property(np.zeros(inputs), np.ones(inputs), np.array([[1.0]]), np.array([constant]))
    return graph, prop


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("inputs", INPUTS)
def test_a_least_value_within_rounding_of_zero_is_not_called_safe(inputs, precision):
    """y + c <= 0 is attained at a corner, by less than float64 tells at the size of the neurons."""
    for seed in range(10):
        graph, prop = cancelling_biases(seed, inputs, 10.0 ** (1 + seed % 7))
        for split in ("auto", "activation") if inputs == 3 else ("auto",):
            said = partita.verify(graph, prop, precision=precision, split=split, attack="off", timeout=5, max_pieces=40)
            assert said.verdict != "unsat", (seed, split, said.reason)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("inputs", INPUTS)
def test_a_property_that_holds_by_more_than_rounding_is_called_safe(inputs, precision):
    for seed in range(3):
        graph, prop = cancelling_biases(seed, inputs, 100.0)
        (unsafe,) = prop.cases[0].unsafe
        safe = Property((Case(prop.cases[0].inputs, (UnsafeSet(unsafe.rows, unsafe.constants + 0.25),)),), inputs, 1)
        said = partita.verify(graph, safe, precision=precision, attack="off", timeout=10)
        assert said.verdict == "unsat", (seed, said.reason)


def degenerate(inputs: int, bias: float) -> tuple[Graph, Property]:
    """One live neuron beside some whose pre-activation is the constant `bias`, or the value of another one."""
    row = [1.0] + [0.0] * (inputs - 1)
    zero = [0.0] * inputs
    graph = network(([row, zero, zero], [0.0, bias, 0.0]), ([[1.0, 1.0, 1.0]], [-max(bias, 0.0)]))
    return graph, box_property(-np.ones(inputs), np.ones(inputs), np.array([[-1.0]]), np.array([0.5]))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("bias", (0.0, 1.0, -1.0))
def test_pieces_with_constant_neurons_are_not_empty(inputs, bias, precision):
    """y = relu(x_0) reaches 1/2; a neuron's interval may be a single number."""
    graph, prop = degenerate(inputs, bias)
    for split in ("auto", "activation"):
        options = {"precision": precision, "split": split, "timeout": 10}
        assert partita.verify(graph, prop, **options).verdict == "sat"
        assert partita.verify(graph, prop, attack="off", **options).verdict != "unsat"


@pytest.mark.parametrize("inputs", INPUTS)
def test_pieces_that_touch_their_half_space_are_not_empty(inputs):
    """sum x <= 0 leaves the corner 0 of [0, 1]^n alone, where y = 0 <= 0."""
    row = [1.0] * inputs
    graph = network(([row], [0.0]), ([[1.0]], [0.0]))
    polytope = Polytope(np.zeros(inputs), np.ones(inputs), np.ones((1, inputs)), np.zeros(1))
    prop = Property((Case(polytope, (UnsafeSet(np.array([[1.0]]), np.zeros(1)),)),), inputs, 1)
    for precision in PRECISIONS:
        for split in ("auto", "activation"):
            said = partita.verify(graph, prop, precision=precision, split=split, attack="off", timeout=5)
            assert said.verdict != "unsat"


# Stuck pieces, and what waits.


@pytest.mark.parametrize("split", ["auto", "activation"])
def test_a_run_that_ended_with_stuck_pieces_is_taken_up_with_them(split, tmp_path):
    """A violation that rounding drowns: pieces can be neither closed nor split, and stay so."""
    graph = drowned(2.0**60)
    prop = box_property(np.zeros(1), np.ones(1), np.array([[1.0]]), np.zeros(1))
    outcome, _, tree = logged(tmp_path / "log", graph, prop, split=split, precision="float64")
    assert outcome.verdict == "unknown" and "neither closed nor split" in outcome.reason
    assert not len(tree.closed) or len(tree.unsettled)
    again = partita.verify(graph, prop, resume=tmp_path / "log", timeout=10)
    assert again.verdict == "unknown"
    assert read_log(tmp_path / "log").footer["verdict"] == "unknown"


@pytest.mark.parametrize("split", ["auto", "activation"])
def test_pieces_taken_up_wait_and_are_bounded(split, tmp_path):
    """More open pieces than a batch: those beyond the first batch wait, are open, and none is forgotten."""
    from partita.bab.logs.resume import pieces_of

    graph, prop = barely(2)
    _, _, tree = logged(tmp_path / "log", graph, prop, split=split, max_pieces=12, batch=8)
    assert len(tree.unsettled) > 3
    made = engine(graph, prop, split=split)
    made.state.batch = 2
    first = pieces_of(made.tree, made.roots, tree, tree.unsettled)
    made.go_on(first, tree.count, len(tree.closed), tree.weight)
    parts = [made.first, *made.waiting]
    ids = sorted(i for part in parts for i in part.id.tolist())
    assert ids == sorted(tree.unsettled.tolist())
    assert made.state.waiting == sum(len(part) for part in made.waiting) > 0
    assert made.state.open >= made.state.waiting
    assert all(len(part) <= 2 for part in parts)
    assert made.state.leaves == len(tree.closed) and made.state.named == tree.count
    made.state.batch = 64
    assert made.run() == "unsat"
    assert made.state.weight == pytest.approx(1)
    assert made.state.waiting == 0 and not made.waiting


@pytest.mark.parametrize("inputs", INPUTS)
def test_every_piece_ends_once(inputs):
    """Ends of leaves add up to the whole tree, whatever ended them, in batches and with a limit."""
    graph, prop = barely(1, 3) if inputs == 3 else barely(2, 14)
    for options in ({}, {"batch": 2}):
        record = Recorded()
        verdict, made = run(graph, prop, [record], blind=True, max_pieces=200, **options)
        if verdict == "unsat":
            weight = sum(2.0 ** -record.depths[piece] for piece in record.leaves)
            assert weight == pytest.approx(len(record.roots))
        assert made.state.leaves + made.state.open + made.state.stuck == len(record.children) + len(record.roots)


# Goals.


def test_float32_goals_are_below_their_rows():
    """At outputs of 1e4 the rounding of coefficients is worth more than that of the constant."""
    random = np.random.default_rng(0)
    for _ in range(200):
        outputs, inputs = 3, 2
        rows, on_input = random.normal(size=(2, outputs)), random.normal(size=(2, inputs))
        unsafe = UnsafeSet(rows, random.normal(size=2), on_input)
        prop = Property((Case(Polytope(-np.ones(inputs), np.ones(inputs)), (unsafe,)),), inputs, outputs)
        y, x = 1e4 * random.normal(size=outputs), 1e4 * random.normal(size=inputs)
        sizes = torch.from_numpy(np.abs(x)), torch.from_numpy(np.abs(y))
        goals = goals_of(prop, torch.float32, "cpu", *sizes)
        for r in range(2):
            pairs = [(goals.coefficients[0, r].tolist(), y, rows[r]), (goals.on_input[0, r].tolist(), x, on_input[r])]
            stated, true = Fraction(goals.constants[0, r].item()), Fraction(float(unsafe.constants[r]))
            for near, value, exact in pairs:
                stated += sum(Fraction(a) * Fraction(float(v)) for a, v in zip(near, value, strict=True))
                true += sum(Fraction(float(a)) * Fraction(float(v)) for a, v in zip(exact, value, strict=True))
            assert stated <= true


def test_goals_are_all_there_in_their_order():
    """Two cases, of which one box is empty; sets of different widths; one without rows."""
    one = UnsafeSet(np.array([[1.0, 2.0]]), np.array([3.0]))
    two = UnsafeSet(np.array([[4.0, 5.0], [6.0, 7.0]]), np.array([8.0, 9.0]))
    none = UnsafeSet(np.zeros((0, 2)), np.zeros(0))
    full, empty = Polytope(np.zeros(1), np.ones(1)), Polytope(np.ones(1), np.zeros(1))
    prop = Property((Case(full, (one, two)), Case(empty, (one,)), Case(full, (none, two, one))), 1, 2)
    goals = goals_of(prop, torch.float64, "cpu", torch.ones(1), torch.ones(2))
    assert goals.pairs == ((0, 0), (0, 1), (2, 0), (2, 1), (2, 2))
    assert goals.coefficients[0].tolist() == [[1, 2], [1, 2]] and goals.constants[0].tolist() == [3, 3]
    assert goals.coefficients[1].tolist() == [[4, 5], [6, 7]] and goals.constants[1].tolist() == [8, 9]
    assert goals.coefficients[2].tolist() == [[0, 0], [0, 0]] and (goals.constants[2] < 0).all()
    assert goals.constants[3].tolist() == [8, 9] and goals.constants[4].tolist() == [3, 3]


# Certificates.


@pytest.mark.parametrize("seed", range(3))
def test_a_lying_solver_closes_nothing(seed, monkeypatch):
    """Duals of any sign and size, on pieces that hold unsafe points: none of them is a proof."""
    random = np.random.default_rng(seed)
    weight = random.normal(size=(4, 2))
    graph = network((weight.tolist(), random.normal(size=4).tolist()), ([random.normal(size=4).tolist()], [0.0]))
    x = random.normal(size=2)
    values = graph.values(torch.from_numpy(x))
    phases = [np.where(values[1].numpy() > 0, 1, -1).astype(np.int8)]
    normals = random.normal(size=(2, 2))
    polytope = Polytope(x - 1, x + 1, normals, normals @ x + 0.1)
    unsafe = UnsafeSet(np.array([[1.0]]), -values[-1].numpy() - 1e-3)  # x is unsafe

    def lying(program, time_limit=None):
        rows = program.matrix.shape[0]
        dual = random.normal(size=rows) * 10.0 ** random.integers(-3, 4, size=rows)
        dual[: 1 + len(normals)] *= random.choice([-1, 0, 1], size=1 + len(normals))
        point = np.concatenate([random.uniform(polytope.lower, polytope.upper), [-1.0]])
        return Solution(Status.optimal, -1.0, -1.0, point, dual, -1.0)

    monkeypatch.setattr(leaf, "backend", lambda name: lying)
    for _ in range(60):
        result = settle(graph, polytope, phases, unsafe)
        assert result.status is not LeafStatus.closed
        if result.status is LeafStatus.witness:
            assert unsafe.margin(graph(torch.from_numpy(result.x)).numpy(), result.x) <= 0
            assert polytope.contains(result.x)


def test_multipliers_that_are_no_numbers_close_nothing(monkeypatch):
    graph = network(([[1.0]], [0.0]), ([[1.0]], [0.0]))
    polytope, unsafe = Polytope(np.zeros(1), np.ones(1)), UnsafeSet(np.array([[1.0]]), np.array([-0.5]))
    for bad in (np.nan, np.inf, -np.inf, 1e308):
        solution = Solution(Status.optimal, 0.0, 0.0, None, np.array([bad]), 0.0)
        monkeypatch.setattr(leaf, "backend", lambda name, solution=solution: lambda program, time_limit: solution)
        result = settle(graph, polytope, [np.array([1], dtype=np.int8)], unsafe)
        assert result.status is not LeafStatus.closed


def test_an_attack_that_is_blind_changes_no_proof():
    """What closes pieces does not ask the attack."""
    graph, prop = barely(1)
    assert isinstance(engine(graph, prop, blind=True).attack_with, Blind)
    assert run(graph, prop, blind=True)[0] == partita.verify(graph, prop, attack="on").verdict == "unsat"
