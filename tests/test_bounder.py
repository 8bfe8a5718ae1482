"""The bounder of activation branches has no memory, and copies of it say what it says; the root is bounded once."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
import torch
from networks import random_graph, random_property
from search import engine, run

from partita.bab.trees.bounder import Bounder
from partita.bab.trees.ways import Way
from partita.kernels.moving import moved

WAYS = (Way("with rows", 1.0), Way("without", 1.0, rows=False), Way("patient", 1.0, patience=2))
KINDS = (("mlp", "float32"), ("sigmoid", "float64"), ("conv", "float32"))


def made(kind: str, device: str = "cpu", **options):
    """A tree, the base that it begins with, and pieces some decisions deep."""
    graph = random_graph(5, kind, inputs=16, width=6, depth=2)
    prop = random_property(5, graph, radius=0.6, margin=1.0)
    tree = engine(graph, prop, device=device, **options).tree
    record = tree.bound(tree.roots()).records
    for _ in range(2):
        record = tree.bound(tree.split(record)).records
    return tree, tree.bases.of(record), tree.split(record)


def answers(bounder: Bounder, record, base) -> list[torch.Tensor]:
    """Everything that a bounder says of some pieces, on the CPU."""
    said = []
    for way in WAYS:
        found = bounder.bound(record, base, way).bounded
        said += [*found.records.columns().values(), found.result.lower, found.closed, found.near, found.points]
    said += [bounder.glance(record, base), bounder.confirm(record, bounder.in_float64(base))]
    return [value.cpu() for value in said]


@torch.no_grad()
@pytest.mark.parametrize(("kind", "precision"), KINDS)
def test_a_bounder_remembers_nothing(kind, precision):
    """The same answers the second time, from a pickled copy, and with whatever was asked in between."""
    tree, base, record = made(kind, precision=precision)
    before = answers(tree.bounder, record, base)
    answers(tree.bounder, record[:3], base)
    copies = [tree.bounder, tree.bounder.to("cpu"), pickle.loads(pickle.dumps(tree.bounder))]
    for bounder, stand in zip(copies, (base, base, pickle.loads(pickle.dumps(base))), strict=True):
        again = answers(bounder, record, stand)
        assert all(torch.equal(a, b) for a, b in zip(before, again, strict=True))


@torch.no_grad()
@pytest.mark.gpu
@pytest.mark.parametrize("kind", ("mlp", "sigmoid"))
def test_a_copy_on_another_device_says_the_same(kind):
    tree, base, record = made(kind, relaxation="m-1" if kind == "mlp" else "auto")
    there = tree.bounder.to("cuda")
    assert there.free.device.type == "cuda" and tree.bounder.free.device.type == "cpu"
    first, second = answers(tree.bounder, record, base), answers(there, *moved((record, base), "cuda"))
    for here, copied in zip(first, second, strict=True):
        if here.is_floating_point():
            torch.testing.assert_close(copied, here, rtol=1e-3, atol=1e-4)
        else:
            assert copied.shape == here.shape


def test_what_is_moved_keeps_its_shape_and_what_it_shares():
    one = torch.arange(3.0)
    thing = {"a": (one, [one, 7]), "way": WAYS[0]}
    copy = moved(thing, "cpu")
    assert copy["a"][0] is copy["a"][1][0] and copy["a"][1][1] == 7 and copy is not thing
    assert torch.equal(copy["a"][0], one) and copy["way"] == WAYS[0]
    with pytest.raises((AttributeError, pickle.PicklingError)):
        moved({"not": lambda: one}, "cpu")


@pytest.mark.parametrize("relaxation", ("auto", "alpha-crown", "crown", "m-1"))
@pytest.mark.parametrize("margin", (0.3, 3.0))
def test_no_root_is_bounded_twice(relaxation, margin, monkeypatch):
    """Whatever stages the root goes through: each of its states is bounded at most once, the search included."""
    graph = random_graph(4, "mlp", inputs=17, width=8, depth=3)
    prop = random_property(4, graph, radius=0.6, margin=margin, sets=3)
    asked: Counter[int] = Counter()
    states = []

    def bound(self, record, base, way, inner=Bounder.bound):
        if int(record.depth.max()) == 0:
            states.append(base)  # kept, so that its number is its own
            asked[id(base)] += len(record)
        return inner(self, record, base, way)

    monkeypatch.setattr(Bounder, "bound", bound)
    _, search = run(graph, prop, relaxation=relaxation, max_pieces=20)
    assert asked and set(asked.values()) == {3}
    assert search.state.pieces >= 3 and search.tree.trial.ways
