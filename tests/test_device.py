"""Whole searches on a CUDA device, or on one that pretends: no tensor is on the wrong one, whatever the search does.

Where the device pretends, its numbers are the CPU's, so that trees are the CPU's too.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from device_cases import KINDS, confirmations, one_row, searched, within_rounding
from networks import barely, random_box, random_graph, random_property
from search import engine, run
from test_folded_bias import BOX, DOUBT, E, cancelling, doubtful, real
from test_twins import below_row, compared, property_of
from twin_networks import twin_network

import partita
from partita.bab.config import load_config
from partita.bab.logs.read import read_log
from partita.bab.trees import phases
from partita.bab.trees.shared_bounds import Derivations
from partita.problems.network.activation import LeakyReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet
from partita.problems.properties.rational import Row

pytestmark = pytest.mark.gpu
LIMITS = {"max_pieces": 12, "batch": 8, "timeout": 60, "bounding.steps": 2}
TREES = {  # inputs, options
    "regions": (4, {}),
    "regions, alpha-crown": (4, {"relaxation": "alpha-crown"}),
    "regions, ibp": (4, {"relaxation": "ibp"}),
    "regions, deeppoly-0": (4, {"relaxation": "deeppoly-0"}),
    "regions, neurons": (4, {"split": "activation"}),
    "regions, half-spaces": (4, {"split": "polyhedral"}),
    "phases, crown": (16, {"relaxation": "crown"}),
    "phases, deeppoly-1": (16, {"relaxation": "deeppoly-1"}),
    "phases, alpha-crown": (16, {"relaxation": "alpha-crown"}),
    "phases, ibp": (16, {"relaxation": "ibp"}),
}


def verify(graph, prop, device: str, **options):
    """Options may have no effect, as those of a preset may."""
    return partita.verify(graph, prop, config=load_config(None, LIMITS | {"device": device} | options))


@pytest.mark.parametrize(
    "tree, kind",
    [(tree, KINDS[k % len(KINDS)]) for k, tree in enumerate(TREES)]
    + [(tree, kind) for tree in ("regions", "phases, crown") for kind in (*KINDS[1:], "gated")],
)
def test_float64_confirms_where_the_pieces_are(tree, kind, monkeypatch):
    """A piece that float32 misses by less than its rounding is closed by float64, on the device."""
    inputs, options = TREES[tree]
    graph, prop = one_row(kind, inputs)
    options = options | {"precision": "float32", "attack": "off"}
    prop = within_rounding(graph, prop, **options)
    here = verify(graph, prop, "cpu", **options)
    with confirmations(monkeypatch) as seen:
        there = verify(graph, prop, "cuda", **options)
    assert here.verdict == there.verdict == "unsat"
    assert seen.devices == {"cuda:0"} and seen.closed == there.stats["float64"] >= 1
    assert len(seen.trees) == 1


@torch.no_grad()
@pytest.mark.parametrize("kind", ("mlp", "conv"))
def test_float64_confirms_with_rows_of_several_neurons(kind):
    """The rows that a base carries are taken to float64 on the device too; it confirms what it confirms on the CPU."""
    said = []
    for device in ("cpu", "cuda"):
        graph = random_graph(5, kind, inputs=16, width=8, depth=2 + (kind == "conv"))
        prop = random_property(5, graph, radius=0.4, margin=1.0)
        tree = engine(graph, prop, precision="float32", device=device, relaxation="m-1").tree
        record = tree.bound(tree.roots()).records
        children = tree.split(record)
        assert tree.bases.standing[0].neuron_rows is not None
        found = tree.confirm(children)
        assert found.device == children.goal.device and found.device.type == device
        said.append(found.tolist())
    assert said[0] == said[1]


@pytest.mark.parametrize("precision", ("float32", "float64"))
@pytest.mark.parametrize("kind, inputs", [(kind, (4, 16)[k % 2]) for k, kind in enumerate(KINDS)])
def test_searches_of_every_kind_of_network(kind, inputs, precision):
    """With attacks, half-spaces, several goals and rows; on the CPU the verdict is the same."""
    graph, prop = searched(kind, inputs)
    options = {"precision": precision} | ({"relaxation": "alpha-crown"} if kind == "maxpool" else {})
    verdicts = {device: verify(graph, prop, device, **options).verdict for device in ("cpu", "cuda")}
    assert verdicts["cpu"] == verdicts["cuda"]


PROGRAMS = ("triangle", "m-1", "k-relu", "k-relu:k=2+m-1")


@pytest.mark.parametrize("inputs, relaxation", [*((n, name) for n in (3, 13) for name in PROGRAMS), (3, "p-1")])
def test_searches_with_programs_and_groups(inputs, relaxation):
    graph = random_graph(1, "mlp", inputs=inputs, width=5, depth=2)
    prop = random_property(1, graph, radius=0.5, halfspaces=1, margin=0.2)
    options = {"relaxation": relaxation, "max_pieces": 4, "attack": "off", "precision": "float32"}
    assert verify(graph, prop, "cpu", **options).verdict == verify(graph, prop, "cuda", **options).verdict


@pytest.mark.parametrize("inputs, split, seed", ((3, "polyhedral", 1), (17, "auto", 1)))
def test_logs_are_written_taken_up_and_replayed(inputs, split, seed, tmp_path):
    pytest.importorskip("pyarrow")  # which a bare machine with a GPU may lack
    graph, prop = barely(seed, inputs)
    options = {"split": split, "precision": "float32", "attack": "off", "batch": 16, "relaxation": "crown"}
    partita.verify(graph, prop, log=tmp_path / "log", device="cuda:0", max_pieces=8, **options)
    assert read_log(tmp_path / "log").header["device"] == "cuda:0"
    outcome = partita.verify(graph, prop, resume=tmp_path / "log", max_pieces=100, timeout=60)
    assert outcome.verdict in ("unsat", "unknown") and "resumed" in outcome.stats
    report = partita.replay(tmp_path / "log", graph, prop)
    assert (report.leaves or inputs > 3) and report.good and report.leaves == len(read_log(tmp_path / "log").closed)


def test_leaves_are_settled():
    """Linear programs on the decided pieces of small networks, in both trees."""
    graph = random_graph(3, "mlp", inputs=16, width=3, depth=2)
    prop = random_property(3, graph, radius=0.5)
    verdict, made = run(graph, prop, device="cuda", relaxation="deeppoly-0", max_pieces=100)
    assert verdict == "sat" and made.state.settled
    graph = random_graph(2, "mlp", inputs=3, width=3, depth=2)
    made = engine(graph, random_property(2, graph, radius=1e-4), device="cuda", split="activation")
    assert made.tree.leaf(made.tree.bound(made.tree.roots()).records, 0).reason


def test_the_attack_in_its_three_ways():
    graph, prop = searched("mlp", 4)
    made = engine(graph, prop, device="cuda", attack="on")
    bounded = made.tree.bound(made.tree.roots())
    made.attack_with.check(bounded.points)
    made.attack_with.polish(bounded.points, goals=made.tree.goals.pairs[:1], steps=8)
    made.attack_with.search(restarts=8, steps=8)


def test_bases_are_derived(monkeypatch):
    """As often as can be; with rows of their own, which float64 is asked about as well."""
    monkeypatch.setattr(phases, "price", lambda *_: 4.0)
    monkeypatch.setattr(Derivations, "learn", lambda *_: None)
    graph = random_graph(5, "mlp", inputs=13, width=5, depth=2)
    prop = random_property(5, graph, radius=0.8, margin=0.5)
    steps = {f"{part}.steps": 1 for part in ("bounding", "effort.root", "effort.bases")}
    with confirmations(monkeypatch):
        verdict, made = run(graph, prop, device="cuda", precision="float32", max_pieces=24, **steps)
    assert made.tree.bases.derived > 0 and verdict in ("unsat", "unknown")


@pytest.mark.parametrize("precision", ("float32", "float64"))
@pytest.mark.parametrize("split", ("input", "activation"))
def test_twins_are_looked_at(split, precision):
    """Two copies of a monotone network, a strict row: closed at zero by differences, on the device."""
    inputs = 3 if split == "input" else 8
    made = twin_network(2, "branches", inputs=inputs, widths=(5, 4), monotone=True, permuted=False)
    prop = property_of(made, below_row(made.graph, compared(made.graph)))
    options = {"split": split, "precision": precision, "attack": "off"}
    outcome = verify(made.graph, prop, "cuda", **options)
    assert outcome.verdict == "unsat" and "by signs and differences of twins" in outcome.stats


@pytest.mark.parametrize("split", ("auto", "activation"))
def test_leaves_in_whole_numbers(split):
    """A least value of exactly zero under a strict row: neither bounds nor double precision decide it."""
    graph = Graph((Input(1), Affine((0,), (Dense(real([[1.0]])),), real([0.0])), Activation((1,), LeakyReLU(0.0), 1),
                   Affine((2,), (Dense(real([[1.0]])),), real([0.0]))), (1, 1), (1, 1))  # fmt: skip
    row = below_row(graph, {0: 1})
    unsafe = UnsafeSet(np.array([[1.0]]), np.array([0.0]), exact=(row,))
    prop = Property((Case(Polytope(np.array([-1.0]), np.array([1.0])), (unsafe,)),), 1, 1)
    for device in ("cpu", "cuda"):
        assert verify(graph, prop, device, split=split).verdict == "unsat"
    assert verify(cancelling(True), prop_of_doubt(), "cuda", split=split).verdict != "unsat"


def prop_of_doubt() -> Property:
    """Below the half of what folding `cancelling(True)` lost."""
    row = Row({0: Fraction(-1)}, Fraction(E) ** 2 / 2, False)
    unsafe = UnsafeSet(np.array([[-1.0, 0.0]]), np.array([float(row.constant)]), exact=(row,))
    return Property((Case(Polytope(np.array([-1.0]), np.array([0.0])), (unsafe,)),), 1, 2)


@pytest.mark.parametrize("relaxation", ("ibp", "deeppoly-0", "crown", "alpha-crown", "triangle", "exact"))
def test_biases_in_doubt(relaxation):
    for precision in ("float32", "float64"):
        here, there = (
            partita.bound(doubtful(DOUBT), BOX, relaxation, device=device, precision=precision)
            for device in ("cpu", "cuda")
        )
        np.testing.assert_allclose(here.lower, there.lower, atol=1e-5)
    prop = random_property(0, doubtful(0.0), radius=0.5, margin=0.5)
    options = {"relaxation": relaxation, "attack": "off"}
    assert (
        verify(doubtful(0.01), prop, "cuda", **options).verdict
        == verify(doubtful(0.01), prop, "cpu", **options).verdict
    )


@pytest.mark.parametrize("relaxation", ("ibp", "crown", "alpha-crown"))
@pytest.mark.parametrize("kind", ("conv", "maxpool", "sigmoid"))
def test_bounds_over_several_polytopes(kind, relaxation):
    graph = random_graph(2, kind, inputs=4, width=8)
    boxes = [random_box(seed, 4, 0.3, halfspaces=seed) for seed in range(3)]
    for precision in ("float32", "float64"):
        here, there = (
            partita.bound(graph, boxes, relaxation, device=device, precision=precision, steps=3)
            for device in ("cpu", torch.device("cuda", 0))
        )
        np.testing.assert_allclose(here.lower, there.lower, atol=1e-3)
        np.testing.assert_allclose(here.upper, there.upper, atol=1e-3)
