"""Bases: what is derived with some neurons decided holds wherever they are, and no verdict changes for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import random_graph, random_property, sample
from search import engine, filled, run, truth

from partita.bab.effort import BASES
from partita.bab.trees import phases
from partita.bab.trees.bounder import Base
from partita.bab.trees.branching import together
from partita.bab.trees.records import Branch
from partita.bab.trees.shared_bounds import Derivations, price, shared_depth, sharing
from partita.problems.properties.property import Polytope

KINDS = ("mlp", "leaky", "residual", "maxpool")


def problem(seed: int):
    graph = random_graph(seed, KINDS[seed % 4], inputs=17, width=6, depth=2)
    return graph, random_property(seed, graph, radius=0.6, margin=2.0 * (seed % 2), sets=2, rows=1 + seed % 2)


@pytest.fixture
def eager(monkeypatch):
    """Bases are derived as often as can be."""
    monkeypatch.setattr(phases, "price", lambda *_: 4.0)
    monkeypatch.setattr(Derivations, "learn", lambda *_: None)


@pytest.mark.parametrize("precision", ("float32", "float64"))
@pytest.mark.parametrize("seed", range(4, 8))
def test_verdicts_agree_with_the_oracle(seed, precision, eager):
    graph, prop = problem(seed)
    expected = truth(graph, prop).verdict
    verdict, made = run(graph, prop, precision=precision, max_pieces=160, attack="off")
    assert verdict in (expected, "unknown") or not expected
    if made.state.pieces > 60:
        assert made.tree.bases.derived > 1


@torch.no_grad()
@pytest.mark.parametrize("seed", range(8))
def test_a_base_holds_at_every_point_of_its_pieces(seed):
    """Sampled inputs that satisfy the shared decisions have pre-activations within the base's, and break no row."""
    graph, prop = problem(seed)
    tree = engine(graph, prop, precision="float64").tree
    record = tree.bound(tree.roots()).records
    for _ in range(BASES.levels):
        record = tree.split(record)
        record = tree.bound(record[(record.goal == 0).nonzero()[:, 0]]).records
    x = torch.from_numpy(sample(prop.cases[0].inputs, 20000, seed))
    values = graph.values(x)
    pre = torch.cat([values[graph.nodes[i].inputs[0]] for i in graph.layer_at], 1)
    decided = pre[:, record.neuron].transpose(0, 1)  # (B, points, P)
    within = (record.sign[:, None] * (decided - record.point[:, None]) >= 0).all(2)
    most = int(within.sum(1).argmax())
    inside = within[most]
    assert inside.any()
    better = tree.tighten(record[torch.tensor([most])], None)
    base = tree.bases.standing[1]
    assert better.base.tolist() == [1] and base.depth == BASES.levels
    assert (pre[inside] >= base.pre_lower - 1e-9).all() and (pre[inside] <= base.pre_upper + 1e-9).all()
    for layer in base.neuron_rows.layers if base.neuron_rows is not None else ():
        node = graph.nodes[layer.facets.position]
        source = values[graph.nodes[node.inputs[0]].inputs[0]][inside]
        broken = layer.facets.violation(values[node.inputs[0]][inside], values[layer.facets.position][inside], source)
        assert (broken <= 1e-9).all()


@torch.no_grad()
def test_a_base_of_two_input_sets_holds_on_both():
    """Half-spaces leave opposite corners of one box to two cases: pieces of both goals share a base, whichever comes
    first, and its bounds hold in either corner."""
    for seed in (4, 5):
        graph = random_graph(seed, "mlp", inputs=17, width=6, depth=2)
        prop = random_property(seed, graph, radius=0.6, margin=1.0)
        (case,) = prop.cases
        lower, upper, normal = case.inputs.lower, case.inputs.upper, np.ones((1, 17))
        middle = normal @ (lower + upper) / 2
        halves = [Polytope(lower, upper, s * normal, s * middle - 8.0) for s in (1, -1)]
        both = replace(prop, cases=tuple(replace(case, inputs=half) for half in halves))
        tree = engine(graph, both, precision="float64").tree
        record = tree.bound(tree.roots()).records
        for neuron in (0, 6):  # decided so that nothing is cut off
            cut = replace(record, cut_index=torch.full_like(record.cut_index, neuron))
            record = tree.split(replace(cut, cut_point=torch.full_like(cut.cut_point, -1e3)))[len(cut) :]
        random = np.random.default_rng(seed)
        x = lower + 0.1 * random.random((500, 17)) * (upper - lower)
        x = np.concatenate([x, lower + upper - x])
        assert all(half.contains(point) for half, part in zip(halves, (x[:500], x[500:])) for point in part)
        values = graph.values(torch.from_numpy(x))
        pre = torch.cat([values[layer.source] for layer in graph.layers], 1)
        for order in (record, record[torch.tensor([1, 0])]):
            base = tree.bases.standing[int(tree.tighten(order, None).base[0])]
            assert base.depth == 2
            assert (pre >= base.pre_lower - 1e-9).all() and (pre <= base.pre_upper + 1e-9).all()


@torch.no_grad()
def test_a_base_raises_bounds():
    """On some problem, and nowhere are they lower than they were."""
    rises = []
    for seed in range(0, 12, 2):
        graph, prop = problem(seed)
        tree = engine(graph, prop, precision="float64").tree
        bounded = tree.bound(tree.roots())
        for _ in range(BASES.levels):
            bounded = tree.bound(tree.split(bounded.records))
        open_ = (~bounded.closed).nonzero()[:, 0]
        if len(open_) == 0:
            continue
        record = bounded.records[open_]
        mine = record[tree.sharing(record).nonzero()[:, 0]]
        again = tree.bound(tree.tighten(mine, None))
        rises += (again.records.bound - mine.bound).tolist()
    assert rises and min(rises) >= 0 and max(rises) > 0.01


def test_kin_share_the_first_decisions_of_the_worst():
    neuron = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 9], [1, 2, 5, -1], [1, -1, -1, -1], [1, 2, 3, 4]])
    sign = torch.tensor([[1.0, -1, 1, 1], [1, -1, 1, -1], [1, -1, 1, 0], [1, 0, 0, 0], [-1, -1, 1, 1]])
    bound, base = torch.tensor([-2.0, -1, -1, -1, -1]), torch.zeros(5).long()
    open_ = filled(Branch, bound, base=base, neuron=neuron, sign=sign)
    assert sharing(open_, {0: 0}).tolist() == [True, True, False, False, False]
    open_.bound[3] = -3  # one decision, which all but the last share
    assert sharing(open_, {0: 0}).tolist() == [True, True, True, True, False]
    open_.base[1] = 1
    assert sharing(open_, {0: 0, 1: 3}).tolist() == [True, False, True, True, False]


def test_how_many_decisions_are_shared():
    neuron = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 9]])
    sign = torch.tensor([[1.0, -1, 1, 1], [1, -1, -1, 1]])
    record = filled(Branch, torch.zeros(2), neuron=neuron, sign=sign)
    assert shared_depth(record) == 2 and shared_depth(record[:1]) == 4
    assert shared_depth(replace(record, neuron=neuron[:, :0], sign=sign[:, :0])) == 0


def test_goals_with_the_same_decisions_are_split_together():
    scores = torch.tensor([[1.0, 4, 0], [5, 0, 0], [3, 0, 9], [0, 2, 0]])
    record = filled(
        Branch,
        torch.zeros(4),
        neuron=torch.tensor([[7], [7], [7], [8]]),
        sign=torch.tensor([[1.0], [1], [1], [1]]),
        depth=torch.tensor([1, 1, 1, 1]),
    )
    open_ = torch.tensor([True, True, False, True])
    assert together(record, scores, open_, 2)[:, :2].tolist() == [[6, 4], [6, 4], [6, 4], [0, 2]]
    assert torch.equal(together(record, scores, open_, 1), scores)


def test_bases_that_do_not_pay_become_rare():
    rule = Derivations()
    rule.wait(100, 50.0)
    assert rule.next == 150
    rule.learn(raised=0.0, pieces=10, cost=50.0, gain=0.1)
    rule.wait(200, 50.0)
    assert rule.next == 300
    rule.learn(raised=10 * 0.1 * np.log2(6) * 1.01, pieces=10, cost=50.0, gain=0.1)
    assert (rule.patience, rule.count, rule.paid) == (1.0, 2, 1)


def test_a_base_costs_more_the_more_is_undecided():
    graph, prop = problem(0)
    base = engine(graph, prop).tree.bases.standing[0]
    wide = Base(base.pre_lower - 10, base.pre_upper + 10, None)
    assert price(graph, wide, 1, 5) > price(graph, base, 1, 5)


@torch.no_grad()
def test_bases_that_no_piece_stands_on_are_forgotten_and_room_is_kept(eager):
    graph, prop = problem(4)
    made = engine(graph, prop, max_pieces=160, attack="off")
    made.run()
    tree = made.tree
    open_ = made.state.frontier.pop(10**6)
    tree.sharing(open_)
    assert tree.bases.derived > 3 and set(tree.bases.standing) == set(open_.base.tolist())
    one = int(open_.base.max())
    tree.sharing(open_[(open_.base == one).nonzero()[:, 0]])
    assert set(tree.bases.standing) == {one} and tree.bases.standing[one].bytes > 0
    tree.choices = replace(tree.choices, room=0.0)
    assert not tree.due()
