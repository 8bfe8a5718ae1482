"""What a log's check and replay rest on, each on its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from logs import logged
from networks import barely
from search import engine

from partita import replay
from partita.bab.logs.check import check, leaves_of, sampled
from partita.bab.logs.followed import Followed
from partita.bab.logs.format import CLOSED, OPEN
from partita.problems.errors import BadInput
from partita.problems.properties.property import Case, Property, UnsafeSet


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A tree of each kind of split, with a little room left in the property."""
    folder, found = tmp_path_factory.mktemp("logs"), {}
    for split in ("input", "activation", "polyhedral"):
        graph, prop = barely(1)
        found[split] = (graph, prop, logged(folder / split, graph, prop, split=split)[2])
    return found


def test_missing_and_doubled_shares_are_found(trees):
    _, _, tree = trees["input"]
    for way, said in ((1, "not 1"), (-1, "not 1")):
        depth = tree.depth.copy()
        depth[tree.leaves[0]] += way
        assert said in check(replace(tree, depth=depth)).faults[0]


@pytest.mark.parametrize("split", ["input", "activation", "polyhedral"])
def test_points_lie_in_exactly_one_leaf(split, trees):
    """A point away from all cuts: in one leaf, of both sides of a cut in one; a point on a cut in both."""
    graph, prop, tree = trees[split]
    inputs = prop.cases[0].inputs
    random = np.random.default_rng(0)
    x = inputs.lower + random.random((300, inputs.size)) * (inputs.upper - inputs.lower)
    values = graph.values(torch.from_numpy(x))
    z = torch.cat([values[graph.nodes[i].inputs[0]] for i in graph.layer_at], 1).numpy()
    rows, leaves, near = leaves_of(tree, 0, x, z)
    assert (np.bincount(rows, minlength=300)[~near] == 1).all() and near.mean() < 0.1
    assert set(leaves.tolist()) <= set(tree.leaves.tolist())
    if split == "input":
        x[:, tree.index[0]] = tree.point[0]
        rows, leaves, near = leaves_of(tree, 0, x, z)
        assert near.all() and (np.bincount(rows, minlength=300) >= 2).all()


def test_two_leaves_at_one_point_are_a_fault(trees, monkeypatch):
    from partita.bab.logs import check as module

    graph, prop, tree = trees["input"]
    honest = module.leaves_of

    def doubled(*arguments):
        rows, leaves, near = honest(*arguments)
        return np.concatenate([rows, rows]), np.concatenate([leaves, leaves]), near

    monkeypatch.setattr(module, "leaves_of", doubled)
    assert "do not lie in exactly one leaf" in sampled(tree, graph, prop, 40).faults[0]


@pytest.mark.parametrize("margin", [-1e-9, 0.0, 1e-9])
def test_a_counterexample_by_little_in_a_closed_leaf_is_a_fault(margin, trees):
    """Every point has this margin; in leaves that are open it is none of the check's business."""
    graph, prop, tree = trees["input"]
    unsafe = UnsafeSet(np.zeros((1, 2)), np.array([margin]))
    other = Property((Case(prop.cases[0].inputs, (unsafe,)),), prop.n_in, prop.n_out)
    assert sampled(tree, graph, other, 60).good is (margin > 0)
    state = np.where(tree.state == CLOSED, OPEN, tree.state).astype(np.int8)
    assert sampled(replace(tree, state=state), graph, other, 60).good


def test_pieces_of_which_nothing_is_claimed_are_left_out(trees):
    """Under a replay: open leaves are left out, closed ones and those above them bounded, and each is counted."""
    graph, prop, tree = trees["activation"]
    state = tree.state.copy()
    closed = tree.closed
    state[closed[::2]] = OPEN
    some = replace(tree, state=state)
    made = engine(graph, prop, split="activation")
    followed = Followed(made.tree, some)
    above = some.above(some.closed)
    assert torch.equal(followed.claimed, torch.from_numpy(above))
    report = replay(some, graph, prop)
    assert report.good and report.leaves == len(some.closed) == report.again + report.above + report.further


def test_leaves_that_a_limit_leaves_unproved_are_counted(trees):
    """No time at all: no leaf is proved again, none is called good."""
    graph, prop, tree = trees["input"]
    report = replay(tree, graph, prop, timeout=0.0)
    assert not report.good and report.open == report.leaves == len(tree.closed)
    assert report.again == report.above == report.further == 0 and report.reason


def test_pieces_below_logged_leaves_are_searched_and_not_left_out(trees):
    """The log ends at the root's children, which do not close at once: what is below them is proved, not skipped."""
    graph, prop, tree = trees["input"]
    ids = np.flatnonzero(tree.depth <= 1)
    short = {}
    for name in (
        "parent",
        "side",
        "depth",
        "goal",
        "state",
        "by",
        "bound",
        "seconds",
        "volume",
        "kind",
        "index",
        "point",
    ):
        short[name] = getattr(tree, name)[ids].copy()
    order = np.argsort(ids)
    assert (ids[order] == np.arange(len(ids))).all()
    child = np.where(tree.depth[ids] == 0, tree.child[ids], -1)
    leaf = tree.depth[ids] == 1
    short["state"][leaf], short["by"][leaf], short["kind"][leaf] = CLOSED, 0, -1
    made = replace(tree, **short, child=child, normal_of=tree.normal_of[ids])
    report = replay(made, graph, prop)
    assert report.leaves == 2 and report.good and report.further >= 1
    worse = prop.cases[0].unsafe[0]
    violated = Property((Case(prop.cases[0].inputs, (UnsafeSet(worse.rows, worse.constants - 0.5),)),), 3, 2)
    from partita.bab.logs.header import config_of, goals_of_header
    from partita.bab.replay import follow

    config = config_of(tree.header, {})
    with pytest.raises(BadInput, match="other goals"):
        follow(made, graph, violated, config, lambda x: graph(torch.from_numpy(x)).numpy())
    made = replace(made, header=made.header | goals_of_header(violated))
    report = follow(made, graph, violated, config, lambda x: graph(torch.from_numpy(x)).numpy(), timeout=3)
    assert not report.good and report.open > 0
