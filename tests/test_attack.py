"""The attack: what it returns is a counterexample, it finds planted ones, and it refuses everything else."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from networks import KINDS, graph_to_onnx, random_box, random_graph, random_property, sample

from partita.bab.attack.descent import Attack, budgets
from partita.bab.attack.leak import leaking
from partita.bab.attack.witness import Judge
from partita.problems.network.activation import ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.onnx.runtime import OnnxModel
from partita.problems.originals.original import Original
from partita.problems.property import Case, Polytope, Property, UnsafeSet, box_property


def outputs(graph):
    """The graph as its own original network, fed float32 numbers as onnxruntime is."""
    return single(lambda x: graph(torch.from_numpy(x.astype(np.float32).astype(np.float64))).numpy())


def single(confirm):
    """An original whose input is float32."""
    return Original(confirm, element=lambda: np.float32)


def attack_on(graph, prop, seed=0, confirm=None):
    return Attack(graph.to(torch.float32), Judge(graph, prop, single(confirm) if confirm else outputs(graph)), seed)


def linear_graph(weight) -> Graph:
    """y = weight x."""
    weight = torch.tensor(weight, dtype=torch.float64)
    node = Affine((0,), (Dense(weight),), torch.zeros(len(weight), dtype=torch.float64))
    return Graph((Input(weight.shape[1]), node), (1, weight.shape[1]), (1, len(weight)))


def violated(prop: Property, graph: Graph) -> bool:
    """Whether one of many samples is a counterexample by a clear margin."""
    for case in prop.cases:
        x = sample(case.inputs, 4000)
        y = graph(torch.from_numpy(x)).numpy()
        for unsafe in case.unsafe:
            if len(x) and (y @ unsafe.rows.T + unsafe.constants).max(1).min() < -1e-3:
                return True
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_finds_what_sampling_finds_and_onnxruntime_agrees(kind):
    found = 0
    for seed in range(8):
        graph = random_graph(seed, kind, inputs=4)
        prop = random_property(
            seed, graph, halfspaces=seed % 3, cases=1 + seed % 2, sets=1 + seed % 2, rows=1 + seed % 4
        )
        model = OnnxModel(graph_to_onnx(graph))
        witness = attack_on(graph, prop, confirm=model.run).search(restarts=40, steps=40)
        assert witness or not violated(prop, graph)
        if witness:
            found += 1
            np.testing.assert_array_equal(witness.y, model.run(witness.x))
            case, unsafe = prop.cases[witness.goal[0]], prop.cases[witness.goal[0]].unsafe[witness.goal[1]]
            assert case.inputs.contains(witness.x) and unsafe.margin(witness.y) <= 0
            assert (witness.x == witness.x.astype(np.float32)).all()
    assert found


@pytest.mark.parametrize("inputs", [1, 784, 3072])
def test_reaches_the_corner_of_a_box(inputs):
    """Only points near one corner are unsafe."""
    random = np.random.default_rng(inputs)
    weight = random.normal(size=(1, inputs))
    centre = random.normal(size=inputs)
    least = (weight * centre - 0.1 * np.abs(weight)).sum()
    prop = box_property(centre - 0.1, centre + 0.1, np.ones((1, 1)), [-least - 0.01 * np.abs(weight).sum() * 0.1])
    graph = linear_graph(weight)
    assert attack_on(graph, prop).search(restarts=10, steps=40)


def test_nothing_where_there_is_nothing():
    graph = random_graph(0, inputs=4)
    box = random_box(0, 4)
    least = graph(torch.from_numpy(sample(box, 4000))).min().item()
    prop = Property((Case(box, (UnsafeSet(np.eye(2)[:1], np.array([10.0 - least])),)),), 4, 2)
    attack = attack_on(graph, prop)
    assert attack.search(restarts=30, steps=30) is None
    assert attack.polish(torch.from_numpy(sample(box, 50))) is None
    assert attack.check(torch.from_numpy(sample(box, 50))) is None


def test_no_cases_no_witness():
    graph = random_graph(0)
    attack = attack_on(graph, Property((), 3, 2))
    assert attack.search(restarts=4, steps=4) is None
    assert attack.check(torch.zeros(3, 3)) is None
    assert attack.polish(torch.zeros(3, 3)) is None
    empty = Case(Polytope(np.ones(3), np.zeros(3)), (UnsafeSet(np.zeros((0, 2)), np.zeros(0)),))
    assert attack_on(graph, Property((empty,), 3, 2)).search(restarts=4, steps=4) is None


def test_constraints_on_inputs_and_outputs_at_once():
    """y = x_0 + x_1 must not be within 0.01 of x_2, inside a half-space that excludes the centre."""
    graph = linear_graph([[1.0, 1.0, 0.0]])
    half = Polytope(-np.ones(3), np.ones(3), np.array([[1.0, 0.0, 0.0]]), np.array([-0.5]))
    unsafe = UnsafeSet(np.array([[1.0], [-1.0]]), np.array([-0.01, -0.01]), np.array([[0, 0, -1.0], [0, 0, 1.0]]))
    prop = Property((Case(half, (unsafe,)),), 3, 1)
    witness = attack_on(graph, prop).search(restarts=40, steps=60)
    assert witness and witness.x[0] <= -0.5 and abs(witness.y[0] - witness.x[2]) <= 0.01


def test_a_thin_slab_of_the_box():
    normals = np.array([[1.0, 1.0], [-1.0, -1.0]])
    slab = Polytope(-np.ones(2), np.ones(2), normals, np.array([0.5, -0.499]))
    prop = Property((Case(slab, (UnsafeSet(np.array([[1.0]]), np.array([-0.9])),)),), 2, 1)
    witness = attack_on(linear_graph([[1.0, 0.0]]), prop).search(restarts=60, steps=60)
    assert witness and slab.contains(witness.x)


def test_fixed_inputs_keep_their_value():
    """Where an interval contains no float32 number, the witness stays inside it all the same."""
    lower = np.array([0.1, -1.0, 0.3])
    upper = np.array([0.1, 1.0, 0.3 + 1e-12])
    graph = linear_graph([[1.0, 1.0, 1.0]])
    prop = box_property(lower, upper, np.ones((1, 1)), [0.55])
    witness = attack_on(graph, prop).search(restarts=8, steps=20)
    assert witness and (witness.x >= lower).all() and (witness.x <= upper).all() and witness.x[0] == 0.1


@pytest.mark.parametrize("size", [1e-320, 1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_rows_beyond_float32(size):
    """The same unsafe set, its row multiplied by a number that float32 does not have."""
    graph = linear_graph([[1.0, 1.0]])
    for bound in (-1.9, -2.1):
        prop = box_property(-np.ones(2), np.ones(2), [[size]], [-bound * size])
        assert (attack_on(graph, prop).search(restarts=8, steps=30) is not None) == (bound > -2)


def test_goals_choose_case_and_set():
    graph = linear_graph([[1.0], [2.0]])
    sets = (UnsafeSet(np.array([[1.0, 0.0]]), np.array([-0.9])), UnsafeSet(np.array([[0.0, 1.0]]), np.array([9.0])))
    prop = Property(tuple(Case(Polytope(np.array([k]), np.array([k + 1.0])), sets) for k in (0.0, 5.0)), 1, 2)
    attack = attack_on(graph, prop)
    assert attack.search(restarts=4, steps=10).goal == (0, 0)
    for goal in ((0, 1), (1, 0), (1, 1)):
        assert attack.search(restarts=4, steps=10, goals=[goal]) is None
    assert attack.check(torch.tensor([[5.2], [0.2]])).x == pytest.approx(0.2, abs=1e-3)
    assert attack.check(torch.tensor([[-0.5]])) is None  # unsafe outputs, but outside every input set
    assert attack.polish(torch.tensor([[0.95]]), steps=20).goal == (0, 0)


def test_margins_are_the_largest_rows_of_each_goal():
    """Goals of one to three rows, half-spaces and inputs in rows; outside the box of a goal's case it is infinite."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(2, 3))
    cases = []
    for lower, cuts, sizes in ((-1.0, 2, (1, 3)), (-0.5, 0, (2,)), (0.0, 1, (1,))):
        box = Polytope(np.full(3, lower), np.ones(3), random.normal(size=(cuts, 3)), random.normal(size=cuts))
        cases.append(
            Case(
                box,
                tuple(
                    UnsafeSet(random.normal(size=(n, 2)), random.normal(size=n) - 9, random.normal(size=(n, 3)))
                    for n in sizes
                ),
            )
        )
    attack = attack_on(linear_graph(weight), Property(tuple(cases), 3, 2))
    table, x = attack.everything, random.uniform(-1, 1, size=(40, 3))
    assert table.goals == ((0, 0), (0, 1), (1, 0), (2, 0))
    found, y = attack._margins(table, torch.as_tensor(x, dtype=torch.float32)).numpy(), x @ weight.T
    for g, (c, u) in enumerate(table.goals):
        inputs, unsafe = cases[c].inputs, cases[c].unsafe[u]
        rows = y @ unsafe.rows.T + x @ unsafe.on_input.T + unsafe.constants
        rows = np.concatenate([rows, x @ inputs.normals.T - inputs.offsets], 1).max(1)
        inside = (x >= inputs.lower).all(1)
        np.testing.assert_allclose(found[inside, g], rows[inside], atol=1e-4)
        assert np.isposinf(found[~inside, g]).all() and inside.any()
    attack.judge = lambda *_: None
    _, (points, owner, _, _) = attack._starts(table, torch.arange(4), 10)
    assert owner.bincount().tolist() == [10] * 4
    assert (points[owner == 3] >= 0).all() and (points[owner == 0] < 0).any()


def test_a_witness_is_of_the_goal_whose_rows_it_breaks():
    graph = linear_graph([[1.0]])
    sets = tuple(UnsafeSet(np.array([[sign]]), np.array([gap])) for sign, gap in ((1.0, 5.0), (-1.0, 0.2)))
    attack = attack_on(graph, Property((Case(Polytope(-np.ones(1), np.ones(1)), sets),), 1, 1))
    assert attack.search(restarts=4, steps=4).goal == (0, 1) and attack.check(torch.ones(1, 1)).goal == (0, 1)


def test_same_seed_same_witness():
    graph = random_graph(3, inputs=4)
    prop = next(p for s in range(50) if violated(p := random_property(s, graph, rows=2), graph))
    first, second = (attack_on(graph, prop, seed=5).search(restarts=20, steps=20) for _ in range(2))
    np.testing.assert_array_equal(first.x, second.x)


def test_deadline_in_the_past_ends_the_search():
    graph = random_graph(0, inputs=4, width=64)
    prop = box_property(-np.ones(4), np.ones(4), np.eye(2)[:1], [1e3])
    start = time.monotonic()
    assert attack_on(graph, prop).search(restarts=1000, steps=10**6, deadline=start) is None
    assert time.monotonic() - start < 2


def test_the_original_network_has_the_last_word():
    graph = random_graph(3, inputs=4)
    prop = next(p for s in range(50) if violated(p := random_property(s, graph), graph))
    assert attack_on(graph, prop).search(restarts=20, steps=20)
    safe = np.full(2, -np.inf)
    rows = prop.cases[0].unsafe[0].rows
    for confirm in (lambda x: np.where(rows[0] > 0, 1e6, -1e6), lambda x: safe * np.nan):
        assert attack_on(graph, prop, confirm=confirm).search(restarts=20, steps=20) is None


def test_works_where_gradients_are_off():
    graph = linear_graph([[1.0, 1.0]])
    attack = attack_on(graph, box_property(-np.ones(2), np.ones(2), np.ones((1, 1)), [1.99]))
    with torch.no_grad():
        assert attack.search(restarts=4, steps=20)
        assert attack.polish(-0.9 * torch.ones(1, 2), steps=40)
        assert attack.check(-torch.ones(1, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_leaks_change_gradients_only(kind):
    graph = random_graph(1, kind, inputs=4)
    x = torch.from_numpy(sample(random_box(1, 4), 20))
    for leak in (0.0, 0.3):
        there = leaking(graph, torch.full((len(x), 1), leak, dtype=torch.float64))
        torch.testing.assert_close(there(x), graph(x), rtol=0, atol=0)
        ours, theirs = (torch.autograd.functional.jacobian(lambda p, g=g: g(p).sum(), x) for g in (there, graph))
        same = torch.allclose(ours, theirs)
        assert same if leak == 0 or kind in ("sigmoid", "tanh") else not same


def test_a_leak_wakes_a_dead_neuron():
    """y = relu(x - 1/2) is flat around zero; only leaking gradients know which way to go."""
    nodes = (
        Input(1),
        Affine((0,), (Dense(torch.ones(1, 1, dtype=torch.float64)),), torch.full((1,), -0.5, dtype=torch.float64)),
        Activation((1,), ReLU(), 1),
        Affine((2,), (Dense(-torch.ones(1, 1, dtype=torch.float64)),), torch.zeros(1, dtype=torch.float64)),
    )
    graph = Graph(nodes, (1, 1), (1, 1))
    prop = box_property([-10.0], [10.0], np.ones((1, 1)), [0.4])
    assert attack_on(graph, prop).polish(torch.zeros(1, 1), steps=20)


def test_memory_stays_bounded(monkeypatch):
    """However many points are asked for, the network sees them in batches."""
    graph = random_graph(0, inputs=4, width=64)
    prop = box_property(-np.ones(4), np.ones(4), np.eye(2)[:1], [1e3])
    attack = attack_on(graph, prop)
    seen, call = [], Graph.__call__
    attack.effort = replace(attack.effort, numbers=64 * graph.neurons)
    monkeypatch.setattr(Graph, "__call__", lambda self, x: (seen.append(len(x)), call(self, x))[1])
    attack.search(restarts=500, steps=2)
    attack.polish(torch.zeros(1000, 4), steps=2)
    attack.check(torch.zeros(1000, 4))
    assert max(seen) <= 64 + 24 and sum(seen) > 4000


def test_budgets_grow_and_follow_the_cost():
    cheap, dear = (list(islice(budgets(cost), 4)) for cost in (1e3, 1e8))
    assert cheap[0].restarts > dear[0].restarts
    for series in (cheap, dear):
        work = [b.restarts * b.steps for b in series]
        assert work == sorted(work) and work[0] < work[-1]


def test_easy_counterexamples_of_the_benchmarks(bench):
    from partita.problems.onnx.file import load_onnx
    from partita.problems.onnx.runtime import model_bytes
    from partita.problems.properties.vnnlib import load_property

    for family, network, name in (
        ("acasxu", "ACASXU_run2a_4_5_batch_2000", "prop_2"),
        ("mnist_fc", "mnist-net_256x4", "prop_1_0.05"),
    ):
        path = bench / family / "onnx" / f"{network}.onnx.gz"
        graph = load_onnx(path, check=False)
        prop = load_property(bench / family / "vnnlib" / f"{name}.vnnlib.gz", graph.input_size, graph.output_size)
        attack = attack_on(graph, prop, confirm=OnnxModel(model_bytes(path)).run)
        first = next(attack.budgets())
        assert attack.search(restarts=first.restarts, steps=first.steps)
