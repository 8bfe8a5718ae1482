"""Proper leaves: the exact decision against brute force, and the lemma that no tree has more of them than A."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partita.bab.comparing.branches import Branches, TooSlow
from partita.bab.comparing.exact_goal import Notion, goal_for, rows_of
from partita.bab.comparing.grow import Bounder, grow
from partita.bab.comparing.measured import Region
from partita.bab.comparing.measures import measure_for
from partita.bab.comparing.partition import partition
from partita.bab.comparing.proper import Judge, judged
from partita.bab.comparing.smallest import smallest
from partita.bab.counting.patterns import count
from partita.problems.network.activation import LeakyReLU, ReLU
from partita.problems.network.graph import Graph, Input
from partita.problems.network.library import Nodes, barrier, maximum, random_network
from partita.problems.properties.property import Polytope
from partita.relaxations.bound import bound


def cube(d: int, low: float = -1.0) -> Polytope:
    return Polytope(np.full(d, low), np.ones(d))


def network(layers, slope: float = 0.0) -> Graph:
    """`layers`: (weights, biases) of each; the last is the output."""
    nodes, at = Nodes([Input(len(layers[0][0][0]))]), 0
    for k, (weights, biases) in enumerate(layers):
        at = nodes.affine([(at, weights)], biases, f"z{k}")
        if k < len(layers) - 1:
            at = nodes.activation(at, LeakyReLU(slope) if slope else ReLU(), f"y{k}")
    return nodes.graph()


def twice() -> Graph:
    """ReLU(ReLU(x))."""
    return network([([[1.0]], [0.0]), ([[1.0]], [0.0]), ([[1.0]], [0.0])])


# ---- the decision


@st.composite
def small(draw, inputs: int = 1) -> Graph:
    """Whole weights, so that neurons are dead, zero on open sets, equal or opposite more often than not."""
    widths = [inputs, *(draw(st.integers(1, 3)) for _ in range(draw(st.integers(1, 3)))), 1]
    whole = st.integers(-2, 2).map(float)
    layers = [
        ([[draw(whole) for _ in range(n)] for _ in range(m)], [draw(whole) for _ in range(m)])
        for n, m in pairwise(widths)
    ]
    return network(layers, draw(st.sampled_from([0.0, 0.0, 0.25])))


def exactly(graph: Graph, x: Fraction) -> list[Fraction]:
    """All pre-activations at a point, in fractions."""
    values, found = [[x]], []
    for i, node in enumerate(graph.nodes[1:], 1):
        if i in graph.layer_at:
            found += values[i - 1]
            slope = Fraction(node.function.slope)
            values.append([max(z, slope * z) for z in values[i - 1]])
        else:
            weight = node.operators[0].weight.tolist()
            values.append(
                [
                    sum((Fraction(w) * v for w, v in zip(row, values[node.inputs[0]], strict=True)), Fraction(b))
                    for row, b in zip(weight, node.bias.tolist(), strict=True)
                ]
            )
    return found


def pieces(graph: Graph) -> tuple[list[list[Fraction]], list[list[Fraction]]]:
    """For one input on [-1, 1]: the pre-activations at a point inside every linear piece, and at every kink and end.

    A neuron's own kinks lie between two points at which it has different signs; it is linear between kinks of earlier
    neurons, so that one more point an interval finds them.
    """
    points = {Fraction(-1), Fraction(1)}
    for k in range(graph.neurons):
        line = sorted(points)
        for a, b in pairwise(line):
            low, high = exactly(graph, a)[k], exactly(graph, b)[k]
            if low * high < 0:
                points.add(a + (b - a) * low / (low - high))
    line = sorted(points)
    return [exactly(graph, (a + b) / 2) for a, b in pairwise(line)], [exactly(graph, x) for x in line]


@settings(max_examples=60, deadline=None)
@given(small(), st.data())
def test_branches_are_decided_as_on_the_line(graph, data):
    """All three questions, against the linear pieces of a network of one input."""
    inside, ends = pieces(graph)
    branches = Branches(graph, cube(1))
    for _ in range(6):
        chosen = data.draw(st.lists(st.integers(0, graph.neurons - 1), min_size=1, max_size=4, unique=True))
        phases = {k: data.draw(st.sampled_from([-1, 1])) for k in chosen}
        half_open = any(all((z[k] > 0) == (s > 0) for k, s in phases.items()) for z in inside)
        closed = any(all(s * z[k] >= 0 for k, s in phases.items()) for z in inside)
        points = any(all(s * z[k] >= 0 for k, s in phases.items()) for z in [*inside, *ends])
        assert branches.answer(phases) == half_open
        assert branches.answer(phases, "closed") == closed
        assert branches.answer(phases, "points") == points


@settings(max_examples=25, deadline=None)
@given(small(2), st.data())
def test_both_ways_to_decide_agree(graph, data):
    """All patterns, counted, beside one search a branch; and A_closed beside the closed sign vectors one by one."""
    inputs = cube(2)
    counted = count(graph, inputs)
    patterns = np.unpackbits(counted.patterns, axis=1, count=graph.neurons, bitorder="little").astype(bool)
    by_patterns, alone = Judge(graph, inputs, patterns), Judge(graph, inputs)
    for _ in range(8):
        chosen = data.draw(st.lists(st.integers(0, graph.neurons - 1), min_size=1, max_size=4, unique=True))
        phases = tuple(sorted((k, data.draw(st.sampled_from([-1, 1]))) for k in chosen))
        assert by_patterns.proper(phases) == alone.proper(phases)
        assert by_patterns.kind(Region(inputs, phases)) == alone.kind(Region(inputs, phases))
    if graph.neurons <= 5:
        branches, all_ = Branches(graph, inputs), list(product((-1, 1), repeat=graph.neurons))
        assert counted.low == sum(branches.answer(dict(enumerate(s))) for s in all_)
        assert by_patterns.closed_patterns() == sum(branches.answer(dict(enumerate(s)), "closed") for s in all_)


def test_every_kind_of_leaf_on_relu_of_relu():
    """z2 = ReLU(x) is zero where x <= 0: inactive there, and its closed active side has the same points."""
    judge = Judge(twice(), cube(1))
    kinds = {(a, b): judge.kind(Region(judge.inputs, ((0, a), (1, b)))) for a, b in product((-1, 1), repeat=2)}
    assert kinds == {(-1, -1): "proper", (-1, 1): "closed", (1, -1): "flat", (1, 1): "proper"}
    off = network([([[1.0]], [-3.0]), ([[1.0]], [0.0])])
    assert Judge(off, cube(1)).kind(Region(cube(1), ((0, 1),))) == "empty"
    assert count(twice(), cube(1)).low == 2
    known = Judge(twice(), cube(1), np.array([[False, False], [True, True]]))
    assert known.closed_patterns() == 3  # (-, -), (-, +), (+, +)


def test_interiors_are_relative_to_the_affine_hull():
    """Flat input sets by a fixed input, by two half-spaces, and an empty one."""
    graph = network([([[1.0, 1.0], [1.0, -1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    fixed = Branches(graph, Polytope(np.array([-1.0, 0.25]), np.array([1.0, 0.25])))
    assert all(fixed.answer({0: a}) for a in (-1, 1)) and not fixed.answer({0: -1, 1: 1})
    normals = np.array([[1.0, -1.0], [-1.0, 1.0]])
    line = Branches(graph, Polytope(-np.ones(2), np.ones(2), normals, np.zeros(2)))  # x1 = x2: z2 is zero
    assert line.answer({0: 1, 1: -1}) and not line.answer({1: 1})
    assert line.answer({1: 1}, "closed") and line.answer({0: 1, 1: 1}, "closed")
    nothing = Branches(graph, Polytope(-np.ones(2), np.ones(2), np.ones((1, 2)), np.full(1, -3.0)))
    assert not any(nothing.answer({}, q) for q in ("half-open", "closed", "points"))


def test_boxes_of_a_polytope():
    half = Polytope(np.zeros(2), np.ones(2), np.ones((1, 2)), np.ones(1))  # x1 + x2 <= 1
    graph, judge = random_network((2, 2, 1), 0), None
    judge = Judge(graph, half)
    box = lambda a, b: judge.kind(Region(Polytope(np.array(a), np.array(b), half.normals, half.offsets)))  # noqa: E731
    assert box([0.0, 0.0], [0.5, 0.5]) == "proper" and box([0.5, 0.5], [1.0, 1.0]) == "flat"
    assert box([0.75, 0.5], [1.0, 1.0]) == "empty" and judge.kind(Region(half)) == "proper"
    plain = Judge(graph, cube(2))
    assert plain.kind(Region(Polytope(np.zeros(2), np.ones(2)))) == "proper"


def test_what_is_too_large_or_too_slow_is_undecided():
    wide = random_network((17, 4, 1), 0)
    judge = Judge(wide, cube(17))
    assert judge.proper(((0, 1),)) is None and judge.kind(Region(judge.inputs, ((0, 1),))) == "undecided"
    known = Judge(wide, cube(17), np.zeros((1, 4), dtype=bool))
    assert known.kind(Region(known.inputs, ((0, -1),))) == "proper"
    assert known.kind(Region(known.inputs, ((0, 1),))) == "other"
    with pytest.raises(TooSlow):
        Branches(random_network((3, 6, 6, 1), 0), cube(3)).answer({11: 1, 10: -1}, deadline=0.0)
    half = Polytope(np.zeros(2), np.ones(2), np.ones((1, 2)), np.ones(1))
    with pytest.raises(TooSlow):
        Branches(random_network((2, 2, 1), 0), half, deadline=0.0)
    late = Judge(random_network((2, 2, 1), 0), half, deadline=0.0)
    assert late.kind(Region(half, ((0, 1),))) == "undecided" and late.proper(((0, 1),)) is None
    soon = Judge(random_network((2, 3, 2, 1), 0), cube(2))
    assert soon.branches is not None
    soon.deadline = 0.0
    assert soon.proper(((0, 1),)) is None and soon.kind(Region(soon.inputs, ((0, 1),))) == "undecided"
    soon.deadline = None  # what was not decided in time is asked again
    assert soon.proper(((0, 1),)) is True and soon.kind(Region(soon.inputs, ((0, 1),))) == "proper"
    assert late.kind(Region(Polytope(np.zeros(2), np.full(2, 0.5), half.normals, half.offsets))) == "undecided"


# ---- the lemma


def bounder(graph: Graph, inputs: Polytope, name: str) -> Bounder:
    graph = graph.to(torch.float64)
    goal = goal_for(graph, inputs, rows_of(graph, ()), Notion()).goal
    measure = measure_for(graph, goal, inputs, name, True)
    return Bounder(graph, goal, measure, measure.linear, Region(inputs), "activation")


@settings(max_examples=20, deadline=None)
@given(small(2), st.sampled_from(["ibp", "crown", "triangle", "m-1"]), st.sampled_from(["first", "last", "babsr"]))
def test_no_tree_has_more_proper_leaves_than_patterns(graph, name, rule):
    """Leaves judged one by one, without the patterns: degenerate networks, every relaxation, every rule."""
    inputs = cube(2)
    tree = grow(bounder(graph, inputs, name), rule)
    tree = judged(tree, Judge(graph, inputs))
    counted = count(graph, inputs)
    patterns = np.unpackbits(counted.patterns, axis=1, count=graph.neurons, bitorder="little").astype(bool)
    assert tree.finished and counted.finished and len(tree.kinds) == len(tree.leaves)
    assert 1 <= tree.leaves_of("proper") <= counted.low
    closed = tree.leaves_of("proper") + tree.leaves_of("closed")
    assert closed <= Judge(graph, inputs, patterns).closed_patterns()
    assert not tree.leaves_of("undecided") and not tree.leaves_of("other")
    # Every pattern goes to exactly one leaf, and none to a piece that was proved empty.
    for pattern in patterns:
        held = [p for p in tree.leaves if all(pattern[k] == (s > 0) for k, s in p.region.phases)]
        assert len(held) == 1 and tree.kinds[held[0].number] == "proper"


def all_orders(b: Bounder, first: int) -> list:
    """The tree that decides one neuron first, then the others from the input on."""

    def rule(bounder_, region, known, cuts):
        return next((cut for cut in cuts if cut.neuron == first), cuts[0])

    from partita.bab.comparing import grow as module

    module.RULES["theirs"] = rule
    try:
        return grow(b, "theirs")
    finally:
        del module.RULES["theirs"]


def test_the_barrier_whatever_is_decided_first():
    """Closed leaves outnumber A = 5 where z3 comes first (THEORY); proper ones never do."""
    graph, inputs = barrier(4.0), cube(2)
    assert count(graph, inputs).low == 5
    most = 0
    for name in ("triangle", "m-1", "p-1"):
        for first in range(graph.neurons):
            tree = judged(all_orders(bounder(graph, inputs, name), first), Judge(graph, inputs))
            assert tree.finished and 1 <= tree.leaves_of("proper") <= 5
            most = max(most, tree.leaves_of("proper") + tree.leaves_of("closed") + tree.leaves_of("flat"))
    assert most == 6
    found = partition(graph, inputs, ["triangle", "m-1"])
    for m in found.measurements:
        assert m.proper <= 5 and m.leaves == m.proper + m.closed + m.flat + m.unproved_empty
    assert found.closed_patterns == 6 and "A_closed(f, X) = 6" in str(found)
    babsr = next(m for m in found.measurements if (m.relaxation, m.branching) == ("m-1", "babsr"))
    assert (babsr.proper, babsr.flat, babsr.leaves) == (3, 0, 3)
    verdict = {(s.relaxation, s.branching): s.verdict for s in found.inequalities}
    assert verdict["m-1", "babsr"] == "kept" and verdict["triangle", "babsr"] == "broken"


def test_closed_leaves_of_relu_of_relu_outnumber_the_patterns():
    """With 2 ReLU(ReLU(x)) - ReLU(x) nothing is exact before both neurons are decided under IBP: 3 closed leaves."""
    nodes = Nodes([Input(1)])
    first = nodes.activation(nodes.affine([(0, [[1.0]])], 0.0, "z1"), ReLU(), "y1")
    second = nodes.activation(nodes.affine([(first, [[1.0]])], 0.0, "z2"), ReLU(), "y2")
    nodes.affine([(second, [[2.0]]), (first, [[-1.0]])], 0.0, "y")
    graph, judge = nodes.graph(), None
    phases = [((0, a), (1, b)) for a, b in product((-1, 1), repeat=2)]
    judge = Judge(graph, cube(1))
    kinds = [judge.kind(Region(judge.inputs, p)) for p in phases]
    assert sorted(kinds) == ["closed", "flat", "proper", "proper"] and count(graph, cube(1)).low == 2


def test_the_smallest_tree_counts_proper_leaves():
    graph, inputs = barrier(4.0), cube(2)
    b, judge = bounder(graph, inputs, "triangle"), Judge(graph, inputs)
    tree, _ = smallest(b, judge)
    tree = judged(tree, judge)
    assert tree.finished and tree.proved == tree.leaves_of("proper") == 1  # z4 <= 0 everywhere: deciding it is enough
    least = bound(graph, inputs, "exact").lower[0]
    assert all(p.gap <= 0 for p in tree.leaves) and least == pytest.approx(0, abs=1e-6)


def test_maxima_have_no_leaf_but_proper_ones():
    found = partition(maximum(4), cube(4, 0.0), ["triangle"], exactness="max")
    assert [m.proper for m in found.measurements] == [m.leaves for m in found.measurements] == [8, 4, 4]
