"""Both trees and what stands around them: several cases and goals, constant neurons, what is believed of whom."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from networks import random_graph, random_property, sample
from search import engine, truth, verify
from test_precision import network
from test_rounding_terms import exact

import partita
from partita.bab import mip as oracle
from partita.bab.building import build
from partita.bab.config import load_config
from partita.bab.strategy import choose
from partita.bab.trees import without_rows as rowless
from partita.bab.trees.settle import in_whole_numbers, phases_of, settled
from partita.bab.trees.splits import HALF_SPACE, INPUT, PHASE, Split, add_decisions, cut_boxes, cut_pre, half_spaces
from partita.bab.trees.tree import Settled
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet
from partita.relaxations.ladder import ladder
from partita.relaxations.ladder.exact import ExactResult
from partita.relaxations.leaf import leaf
from partita.relaxations.leaf.leaf import LeafResult, LeafStatus
from partita.relaxations.leaf.rational import Decided
from partita.relaxations.lp.model import Status

INPUTS = (3, 14)
NOTHING = UnsafeSet(np.zeros((0, 1)), np.zeros(0))
EVERY = ("auto", "triangle", "exact", "ibp")


def total(inputs: int):
    """y = relu(x_0 + ... + x_n), and what is at most a number."""
    graph = network(([[1.0] * inputs], [0.0]), ([[1.0]], [0.0]))
    at_most = lambda c: UnsafeSet(np.array([[1.0]]), np.array([-c]))  # noqa: E731
    return graph, at_most


@pytest.mark.parametrize("relaxation", EVERY)
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("where", range(3))
def test_each_of_several_cases_is_looked_at(where, inputs, relaxation):
    """Three boxes apart from each other, of which one reaches the unsafe outputs, low, in the middle or high."""
    graph, at_most = total(inputs)
    cases = []
    for k in range(3):
        low, high = np.full(inputs, 2.0 * k), np.full(inputs, 2.0 * k + 1)
        least = 2.0 * k * inputs
        cases.append(
            Case(Polytope(low, high), (at_most(least - 0.5), at_most(least + (0.25 if k == where else -0.25))))
        )
    for order in (cases, cases[::-1]):
        said = partita.verify(graph, Property(tuple(order), inputs, 1), attack="off", relaxation=relaxation, timeout=20)
        assert said.verdict == "sat", said.reason
        rest = Property(tuple(c for c in order if c is not cases[where]), inputs, 1)
        assert partita.verify(graph, rest, attack="off", relaxation=relaxation, timeout=20).verdict == "unsat"


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("split", ["auto", "activation"])
def test_each_of_several_goals_is_settled_as_itself(split, inputs):
    """Unsafe sets of which the last alone is reached, on an affine network (roots are leaves) and on another one."""
    graph, at_most = total(inputs)
    box = Polytope(np.zeros(inputs), np.ones(inputs))
    plain = network(([[1.0] * inputs], [0.0]))
    for net in (graph, plain) if inputs == 3 else (graph,):
        for last, expected in ((0.125, "sat"), (-0.125, "unsat")):
            prop = Property((Case(box, (at_most(-1.0), at_most(-0.5), at_most(last))),), inputs, 1)
            assert verify(net, prop, split=split, attack="off").verdict == expected


def test_a_crossed_box_beside_a_violated_case():
    graph, at_most = total(3)
    crossed, box = Polytope(np.ones(3), np.zeros(3)), Polytope(np.zeros(3), np.ones(3))
    for cases in (
        (Case(crossed, (at_most(9.0),)), Case(box, (at_most(1.0),))),
        (Case(box, (at_most(1.0),)), Case(crossed, ())),
    ):
        assert verify(graph, Property(cases, 3, 1), attack="off").verdict == "sat"


@pytest.mark.parametrize("order", [1, -1])
def test_a_set_without_rows_is_all_outputs_wherever_it_stands(order):
    graph, at_most = total(3)
    for polytope in (
        Polytope(np.zeros(3), np.ones(3)),
        Polytope(np.zeros(3), np.ones(3), np.ones((1, 3)), np.array([0.5])),
    ):
        prop = Property((Case(polytope, (NOTHING, at_most(-1.0))[::order]),), 3, 1)
        assert verify(graph, prop, attack="off").verdict == "sat"


@pytest.mark.parametrize("relaxation", EVERY)
@pytest.mark.parametrize("inputs", INPUTS)
def test_constant_and_twin_neurons_empty_no_program(inputs, relaxation):
    """Neurons whose interval is one number: zero, positive, negative; a copy of another one. y <= 1/2 is reached."""
    row, zero = [1.0] + [0.0] * (inputs - 1), [0.0] * inputs
    weight = [row, row, zero, zero, zero]
    graph = network((weight, [0.0, 0.0, 0.0, 1.0, -1.0]), ([[1.0, -1.0, 1.0, 1.0, 1.0]], [0.0]))
    prop = Property(
        (Case(Polytope(-np.ones(inputs), np.ones(inputs)), (UnsafeSet(np.array([[1.0]]), np.array([-1.0])),)),),
        inputs,
        1,
    )
    for split in ("auto", "activation") if relaxation != "exact" else ("auto",):
        said = partita.verify(graph, prop, attack="off", relaxation=relaxation, split=split, timeout=10)
        assert said.verdict != "unsat", (split, said.reason)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_goals_of_a_search_are_below_their_rows(precision):
    """On outputs of 1e4, in the precision of the search, with sizes that the search finds itself."""
    for inputs in INPUTS:
        graph = random_graph(3, "mlp", inputs=inputs, width=6, depth=2)
        nodes = list(graph.nodes)
        nodes[-1] = replace(nodes[-1], bias=nodes[-1].bias + 1e4)
        graph = replace(graph, nodes=tuple(nodes))
        prop = random_property(3, graph, rows=2)
        config = load_config(None, {"precision": precision})
        strategy = choose(graph, config)
        with torch.no_grad():
            tree = build(graph, graph.to(strategy.dtype), prop, config, strategy)
        (unsafe,) = prop.cases[0].unsafe
        for y in graph(torch.from_numpy(sample(prop.cases[0].inputs, 30))).tolist():
            for goals in (tree.goals, getattr(tree, "bounder", tree).precise_goals):
                for r in range(2):
                    near = exact(goals.constants[0, r])[0]
                    near += sum(a * Fraction(v) for a, v in zip(exact(goals.coefficients[0, r]), y, strict=True))
                    true = exact(unsafe.constants[r])[0]
                    true += sum(a * Fraction(v) for a, v in zip(exact(unsafe.rows[r]), y, strict=True))
                    assert near <= true


# Splits.


def test_halves_meet_in_the_cut_alone():
    """Of each kind: the lower child ends where the upper one begins, and nothing else changes."""
    kind = torch.tensor([INPUT, HALF_SPACE, PHASE])
    index, point = torch.tensor([1, 0, 2]), torch.tensor([0.25, 0.5, -0.125])
    normal = torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]])
    split = Split(kind, index, point, normal)
    low, high = cut_boxes(-torch.ones(3, 2), torch.ones(3, 2), split)
    assert high[0].tolist() == [1, 0.25] and low[3].tolist() == [-1, 0.25]
    assert (
        low[0].tolist() == [-1, -1] and high[3].tolist() == [1, 1] and (low[1:3] == -1).all() and (high[4:] == 1).all()
    )
    low, high = cut_pre(-torch.ones(3, 3), torch.ones(3, 3), split)
    assert high[2].tolist() == [1, 1, -0.125] and low[5].tolist() == [-1, -1, -0.125]
    assert (low[:5] == -1).all() and (high[[0, 1, 3, 4, 5]] == 1).all()
    normals, offsets = half_spaces(split)
    assert normals[1].tolist() == [1, 2] and normals[4].tolist() == [-1, -2]
    assert offsets.tolist() == [torch.inf, 0.5, torch.inf, torch.inf, -0.5, torch.inf]
    empty = torch.zeros(3, 0)
    neuron, sign, at = add_decisions(empty.long(), empty, empty, split)
    assert neuron[:, 0].tolist() == [-1, -1, 2, -1, -1, 2]
    assert sign[2, 0] == -1 and sign[5, 0] == 1 and at[2, 0] == at[5, 0] == -0.125
    more = add_decisions(neuron[:3], sign[:3], at[:3], Split(torch.full((3,), PHASE), torch.tensor([3, 4, 5]), point))
    assert more[0].tolist() == [[3, -1], [4, -1], [2, 5], [3, -1], [4, -1], [2, 5]]
    assert more[1][2].tolist() == [-1, -1] and more[1][5].tolist() == [-1, 1]


@pytest.mark.parametrize("split", ["auto", "activation", "polyhedral"])
@pytest.mark.parametrize("inputs", INPUTS)
def test_children_share_the_points_of_their_parent(split, inputs):
    """After bounding and splitting, a dangerous point of a piece lies in one of its children at least."""
    if inputs == 14 and split == "polyhedral":
        pytest.skip("half-spaces in fourteen dimensions take too long for a test")
    graph = random_graph(5, "mlp", inputs=inputs, width=8, depth=2)
    prop = random_property(5, graph, radius=0.6, rows=1)
    (unsafe,) = prop.cases[0].unsafe
    x = torch.from_numpy(sample(prop.cases[0].inputs, 4000))
    values = graph.values(x)
    z = torch.cat([values[graph.nodes[i].inputs[0]] for i in graph.layer_at], 1)
    worst = (values[-1] @ torch.from_numpy(unsafe.rows).mT)[:, 0]
    keep = worst.topk(200, largest=False).indices  # the points the set is nearest to
    x, z = x[keep], z[keep]
    prop = Property(
        (Case(prop.cases[0].inputs, (UnsafeSet(unsafe.rows, -worst[keep].amax()[None].numpy() - 1e-3),)),), inputs, 2
    )
    made = engine(graph, prop, split=split, precision="float64")
    with torch.no_grad():
        record, seen = made.tree.roots(), torch.zeros(len(x), 0)
        for _ in range(5):
            bounded = made.tree.bound(record)
            assert not bounded.closed.all()
            record = made.tree.split(bounded.records[~bounded.closed])
            pieces = made.tree.pieces(record)
            near = 1e-9
            inside = ((x[:, None] >= pieces.lower - near) & (x[:, None] <= pieces.upper + near)).all(-1)
            inside &= ((z[:, None] >= pieces.pre_lower - near) & (z[:, None] <= pieces.pre_upper + near)).all(-1)
            if pieces.normals.shape[1]:
                below = torch.einsum("bhd,pd->pbh", pieces.normals, x) <= pieces.offsets + near
                inside &= below.all(-1)
            seen = inside
            assert seen.any(1).all()
    assert seen.shape[1] > 2


# What is believed of whom.


def test_rows_are_confirmed_on_the_base_that_a_piece_stands_on():
    """The float64 rows of one base do not serve another."""
    graph = random_graph(4, "mlp", inputs=14, width=12, depth=3)
    prop = random_property(4, graph, radius=0.5, margin=0.5)
    tree = engine(graph, prop, relaxation="m-1").tree
    base = tree.bases.standing[0]
    if base.neuron_rows is None:
        pytest.skip("no rows were found at the root")
    few = replace(base.neuron_rows, layers=base.neuron_rows.layers[:1])
    first = few.layers[0].facets[:1]
    other = replace(base, neuron_rows=type(few).of(tree.bounder.graph, tree.bounder.relaxation.linear.scales, [first]))
    precise = lambda base: tree.bases.in_float64(base, tree.bounder).neuron_rows  # noqa: E731
    assert len(precise(base)) == len(base.neuron_rows)
    assert len(precise(other)) == 1 != len(base.neuron_rows)
    assert len(precise(base)) == len(base.neuron_rows)


def test_bounds_by_programs_are_rounded_down(monkeypatch):
    """0.1 and -0.1 are no float32 numbers; the nearest are above or below."""
    graph = random_graph(1, "mlp", inputs=3, width=6, depth=2)
    prop = random_property(1, graph, rows=2, radius=0.1)
    made = engine(graph, prop, relaxation="triangle", precision="float32")
    record = made.tree.roots()
    pieces, rows = made.tree.inner.pieces(record), made.tree.goals.rows(record.goal)
    for value in (0.1, -0.1, 0.3):
        monkeypatch.setattr(ladder, "minima", lambda *a, value=value: np.array([value, value]))
        with torch.no_grad():
            found = made.tree.relaxation.bound(pieces, rows).result.lower
        assert found.dtype is torch.float32 and (found.double() <= value + rows.constants.double()).all()


def test_programs_bound_the_pieces_that_are_open():
    """Some of a batch are closed by the tree's own bound; the others' programs are their own."""
    graph, at_most = total(3)
    box = Polytope(np.zeros(3), np.ones(3))
    prop = Property((Case(box, (at_most(-5.0), at_most(0.5), at_most(-7.0), at_most(1.0))),), 3, 1)
    made = engine(graph, prop, relaxation="triangle", precision="float64")
    with torch.no_grad():
        bounded = made.tree.bound(made.tree.roots())
    assert bounded.closed.tolist() == [True, False, True, False]
    np.testing.assert_allclose(bounded.records.bound[[1, 3]].numpy(), [-0.5, -1.0], atol=1e-6)


@pytest.mark.parametrize("status", [LeafStatus.undecided, LeafStatus.closed, LeafStatus.witness])
def test_a_leaf_is_closed_where_the_program_says_so_alone(status, monkeypatch):
    graph, at_most = total(3)
    monkeypatch.setattr(leaf, "settle", lambda *a, **k: LeafResult(status, np.zeros(3), 0.0))
    found = settled(graph, Polytope(np.zeros(3), np.ones(3)), [np.ones(1, dtype=np.int8)], at_most(0.0))
    assert found.closed is (status is LeafStatus.closed)
    open_ = settled(graph, Polytope(np.zeros(3), np.ones(3)), [np.zeros(1, dtype=np.int8)], at_most(0.0))
    assert not open_.closed


def test_phases_are_read_from_both_ends():
    graph = random_graph(0, "mlp", inputs=3, width=5, depth=1)
    low, high = torch.tensor([-1.0, 0.0, -2.0, 1.0, -1.0]), torch.tensor([1.0, 2.0, 0.0, 2.0, -0.5])
    assert phases_of(graph, low, high)[0].tolist() == [0, 1, -1, 1, -1]


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [(1e-3, 2.0, "unsat"), (-1e-9, 1e-9, "unknown"), (-1e-9, 3.0, "unknown"), (0.0, 0.5, "unknown")],
)
def test_the_oracle_needs_a_positive_bound_for_every_goal(lower, upper, verdict, monkeypatch):
    """One program of three leaves it open."""
    graph, at_most = total(2)
    prop = Property((Case(Polytope(np.zeros(2), np.ones(2)), (at_most(-1.0), at_most(-2.0), at_most(-3.0))),), 2, 1)
    said = iter([(1.0, 1.0), (lower, upper), (1.0, 1.0)])
    result = lambda *a, **k: ExactResult(*next(said), np.full(2, 0.5), Status.optimal, 1e-9)  # noqa: E731
    monkeypatch.setattr(oracle, "feasible_unsafe", result)
    monkeypatch.setattr(oracle, "in_whole_numbers", lambda *a, **k: Settled(False, None, "for a reason"))
    assert partita.verify(graph, prop, relaxation="exact", attack="off").verdict == verdict


def test_the_oracle_bounds_each_case_on_its_own_box():
    graph = random_graph(2, "mlp", inputs=2, width=5, depth=2)
    for seed in range(3):
        prop = random_property(seed, graph, cases=2, radius=0.3)
        expected = truth(graph, prop).verdict
        said = verify(graph, prop, relaxation="exact", attack="off")
        assert said.verdict == expected or not expected


# What each function says by itself.


def test_decisions_raise_floors_and_lower_ceilings_of_their_own_neuron():
    """Absent decisions (-1) say nothing, whatever stands beside them."""
    graph = random_graph(5, "mlp", inputs=14, width=8, depth=1)
    made = engine(graph, random_property(5, graph, radius=0.6, rows=1), split="activation")
    record = made.tree.roots()[:1]
    before = made.tree.pieces(record)
    for sign in (1, -1):
        decided = replace(
            record,
            neuron=torch.tensor([[2, -1]]),
            sign=torch.tensor([[sign, sign]]).to(record.sign.dtype),
            point=torch.tensor([[0.0, sign * 50.0]]).to(record.point.dtype),
        )
        after = made.tree.pieces(decided)
        low, high = before.pre_lower.clone(), before.pre_upper.clone()
        assert low[0, 2] < 0 < high[0, 2]
        (low if sign > 0 else high)[0, 2] = 0
        assert torch.equal(after.pre_lower, low) and torch.equal(after.pre_upper, high)


@pytest.mark.parametrize("inputs", INPUTS)
def test_a_goal_is_confirmed_by_its_own_rows(inputs):
    """Of two unsafe sets the first is out of reach and the second is not."""
    graph, at_most = total(inputs)
    box = Polytope(np.zeros(inputs), np.ones(inputs))
    made = engine(graph, Property((Case(box, (at_most(-1.0), at_most(0.5))),), inputs, 1))
    record = made.tree.roots()
    with torch.no_grad():
        assert made.tree.confirm(record).tolist() == [True, False]
        assert made.tree.confirm(record[[1, 0]]).tolist() == [False, True]
        assert made.tree.bound(record).closed.tolist() == [True, False]


def test_a_set_without_rows_stays_where_no_point_is_confirmed():
    """Of several cases, those that are proved empty are dropped, and no others."""
    normals = np.array([[1.0, 1.0]])
    box = lambda offset: Polytope(np.zeros(2), np.ones(2), normals, np.array([offset]))  # noqa: E731
    every = UnsafeSet(np.zeros((0, 1)), np.zeros(0))
    full, none = Case(box(1.0), (every,)), Case(box(-1.0), (every,))
    plain = Case(Polytope(np.zeros(2), np.ones(2)), (every,))
    kept, witness = rowless.answered(Property((full, none, plain), 2, 1), lambda *_: None)
    assert witness is None and kept.cases == (full, plain)


def test_exact_arithmetic_that_gives_up_closes_nothing():
    class Undecided:
        def decide(self, *_):
            return Decided(False, None, "too large")

    said = in_whole_numbers(Undecided(), None, NOTHING)
    assert not said.closed and said.point is None
