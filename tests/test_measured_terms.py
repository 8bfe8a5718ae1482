"""What a measured tree is grown from, each on its own: goals, cuts, rules, the search for the smallest tree.

Bounds come from tables here, so that every tree there is can be looked at; sides of cuts are compared in fractions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from partita.bab.comparing import grow as growing
from partita.bab.comparing.branches import Branches
from partita.bab.comparing.exact_goal import Notion, goal_for, rows_of
from partita.bab.comparing.grow import Bounder, grow
from partita.bab.comparing.measured import (
    FLAT,
    Cut,
    Goal,
    Known,
    Piece,
    Region,
    Tree,
    affine_forms,
    affine_on,
    bisect,
    children_of,
    cut_along,
    decide,
    undecided,
)
from partita.bab.comparing.measures import AbstractMeasure
from partita.bab.comparing.proper import Judge, judged
from partita.bab.comparing.smallest import smallest
from partita.kernels.deadline import TimeUp
from partita.problems.errors import BadInput
from partita.problems.network.activation import LeakyReLU, ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.properties.property import Polytope, UnsafeSet
from partita.problems.properties.rational import Row
from partita.relaxations.lp.boxes import node_boxes


def dense(*layers: tuple[list, list], slope: float = 0.0) -> Graph:
    """Layers of neurons, one after the other, and a last one without."""
    nodes: list = [Input(len(layers[0][0][0]))]
    for k, (w, b) in enumerate(layers):
        matrix, shift = (torch.tensor(numbers, dtype=torch.float64) for numbers in (w, b))
        nodes.append(Affine((len(nodes) - 1,), (Dense(matrix),), shift))
        if k < len(layers) - 1:
            nodes.append(Activation((len(nodes) - 1,), LeakyReLU(slope) if slope else ReLU(), len(b)))
    return Graph(tuple(nodes), (len(layers[0][0][0]),), (len(layers[-1][1]),))


def unit(d: int) -> Polytope:
    return Polytope(np.zeros(d), np.ones(d))


# ---- goals


def test_every_group_needs_one_row():
    goal = Goal(np.eye(3), np.zeros(3), np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.0, 0.0]), ((0, 1), (2,)))
    for values, closed, gap, worst in (
        ([0.5, 0.0, 3.0], True, 0.0, 0),
        ([0.0, 2.0, 3.0], True, 0.0, 1),
        ([0.25, 1.0, 3.0], False, 0.25, 0),
        ([0.5, 2.0, 2.0], False, 1.0, 2),
        ([9.0, 9.0, 2.999], False, 0.001, 2),
        ([9.0, -9.0, 9.0], True, -6.0, 2),
    ):
        bounds = np.array(values)
        assert goal.closed(bounds) == closed == (goal.gap(bounds) <= 0)
        assert goal.gap(bounds) == pytest.approx(gap) and goal.worst(bounds) == worst


def test_a_goal_is_what_it_says():
    """x and 1 - 2 x on [0, 1]: minima 0 and -1, maxima 1 and 1; tolerances are relative beyond one."""
    graph = dense(([[1.0]], [0.0]), ([[1.0], [-8.0]], [0.0, 4.0]))
    measured = rows_of(graph, ())
    low = goal_for(graph, unit(1), measured, Notion("min", None, 1e-3))
    assert low.goal.targets == pytest.approx([0.0, -4.0]) and low.goal.tolerances == pytest.approx([1e-3, 4e-3])
    assert low.goal.rows.tolist() == [[1, 0], [0, 1]] and low.goal.groups == ((0,), (1,))
    high = goal_for(graph, unit(1), measured, Notion("max", None, 1e-3))
    assert high.goal.targets == pytest.approx([-1.0, -4.0]) and high.goal.rows.tolist() == [[-1, 0], [0, -1]]
    assert [value for _, value in high.values] == pytest.approx([1.0, 4.0])
    both = goal_for(graph, unit(1), measured, Notion("both", None, 1e-3))
    assert both.goal.targets == pytest.approx([0.0, -4.0, -1.0, -4.0]) and len(both.goal.groups) == 4
    assert [name for name, _ in both.values] == ["min of Y_0", "min of Y_1", "max of Y_0", "max of Y_1"]


def test_rows_of_a_property_keep_inputs_and_constants():
    """y0 - 2 x + 3, with y0 = x: least 2, most 3."""
    graph = dense(([[1.0]], [0.0]), ([[1.0]], [0.0]))
    measured = rows_of(graph, [UnsafeSet(np.ones((1, 1)), np.array([3.0]), np.array([[-2.0]]))], "rows")
    both = goal_for(graph, unit(1), measured, Notion("both", None, 0.0)).goal
    assert both.targets == pytest.approx([2.0, -3.0]) and both.constants.tolist() == [3.0, -3.0]
    assert both.on_input.tolist() == [[-2.0], [2.0]] and both.rows.tolist() == [[1.0], [-1.0]]
    above = goal_for(graph, unit(1), measured, Notion("threshold", 1.5, 0.0)).goal
    assert above.targets.tolist() == [1.5] and above.constants.tolist() == [3.0] and above.tolerances.tolist() == [0.0]
    with pytest.raises(BadInput, match="does not hold"):
        goal_for(graph, unit(1), measured, Notion("threshold", 2.5, 0.0))


def test_unsafe_sets_are_groups_of_their_rows():
    graph = dense(([[1.0]], [0.0]), ([[1.0]], [0.0]))
    sets = [
        UnsafeSet(np.array([[1.0], [-1.0]]), np.array([1.0, -3.0])),
        UnsafeSet(np.array([[1.0]]), np.array([2.0]), np.array([[0.5]])),
    ]
    goal = goal_for(graph, unit(1), rows_of(graph, sets), Notion("threshold", None, 0.0)).goal
    assert goal.groups == ((0, 1), (2,)) and goal.constants.tolist() == [1.0, -3.0, 2.0]
    assert goal.on_input.tolist() == [[0.0], [0.0], [0.5]] and (goal.targets == 5e-324).all()
    with pytest.raises(BadInput, match="set 1 is reached"):
        reached = UnsafeSet(np.array([[1.0]]), np.array([-0.5]))
        goal_for(graph, unit(1), rows_of(graph, [sets[0], reached]), Notion("threshold", None, 0.0))
    with pytest.raises(BadInput, match="empty"):
        nothing = Polytope(np.zeros(1), np.ones(1), np.ones((1, 1)), np.full(1, -1.0))
        goal_for(graph, nothing, rows_of(graph, ()), Notion("min", None, 0.0))


@pytest.mark.parametrize("constant", ["0", "3", "1/3", "1000000.1", "0.1"])
def test_rounded_rows_are_charged(constant):
    """Whatever float64 makes of coefficients and constant, a row that is closed is positive in fractions."""
    graph = dense(([[1.0]], [0.0]), ([[3.0]], [5.0]))
    for coefficient in (Fraction(1, 3), Fraction(-1, 3), Fraction(1, 10), Fraction(1)):
        row = Row({0: coefficient}, Fraction(constant) + (8 if coefficient < 0 else 0), False)
        unsafe = UnsafeSet(np.array([[float(coefficient)]]), np.array([float(row.constant)]), None, (row,))
        goal = goal_for(graph, unit(1), rows_of(graph, [unsafe]), Notion("threshold", None, 0.0)).goal
        for y in (Fraction(5), Fraction(8)):
            assert Fraction(goal.constants[0]) + Fraction(goal.rows[0, 0]) * y <= row.constant + coefficient * y
        off = Fraction(goal.constants[0]) - row.constant
        assert abs(off) < Fraction(1, 2**30)


# ---- pieces and their cuts


def region_of(graph: Graph, inputs: Polytope) -> tuple[Region, Known]:
    boxes = tuple(node_boxes(graph, inputs))
    return Region(inputs), Known(np.zeros(1), boxes, undecided(graph, boxes))


def test_neurons_that_reach_beyond_zero_are_undecided():
    graph = dense(([[1.0], [1.0], [1.0], [-1.0], [1.0]], [0.0, -0.5, 1.0, 0.5, -1.0]), ([[1.0] * 5] * 2, [-0.5, 9.0]))
    graph = dense(*[(n.operators[0].weight.tolist(), n.bias.tolist()) for n in graph.nodes if isinstance(n, Affine)])
    boxes = list(node_boxes(graph, unit(1)))
    assert undecided(graph, tuple(boxes)).tolist() == [1, 3]
    low, high = (side.clone() for side in boxes[1])
    for least, most, open_ in (
        (-2 * FLAT, 1.0, True),
        (-FLAT / 2, 1.0, False),
        (-1.0, FLAT / 2, False),
        (-1, 3e-9, True),
    ):
        low[2], high[2] = least, most
        boxes[1] = (low, high)
        assert (2 in undecided(graph, tuple(boxes)).tolist()) == open_


def test_a_decided_neuron_has_its_side():
    graph = dense(([[1.0], [2.0]], [-0.5, -0.5]), ([[1.0, -1.0]], [0.0]), ([[1.0]], [0.0]))
    region, known = region_of(graph, unit(1))
    assert known.undecided.tolist() == [0, 1, 2]
    region = replace(region, phases=((2, 1),))
    below, above = decide(graph, region, known, 1)
    assert below.phases == ((1, -1), (2, 1)) and above.phases == ((1, 1), (2, 1))
    assert [side[1].item() for side in below.boxes[1]] == pytest.approx([-0.5, 0.0])
    assert [side[1].item() for side in above.boxes[1]] == pytest.approx([0.0, 1.5])
    assert below.boxes[1][0][0] == above.boxes[1][0][0] == known.boxes[1][0][0] and below.changed == above.changed == 1
    assert below.inputs is region.inputs and known.boxes[1][1][1] >= 1.5
    assert [r.phases for r in children_of(graph, Region(unit(1)), known, Cut(neuron=2), "activation")] == [
        ((2, -1),),
        ((2, 1),),
    ]


def test_a_box_is_cut_at_its_point():
    region, known = Region(unit(2), ((0, 1),), changed=3), region_of(dense(([[1.0, 1.0]], [0.0])), unit(2))[1]
    below, above = bisect(region, known, 1, 0.25)
    assert below.inputs.upper.tolist() == [1.0, 0.25] and below.inputs.lower.tolist() == [0.0, 0.0]
    assert above.inputs.lower.tolist() == [0.0, 0.25] and above.inputs.upper.tolist() == [1.0, 1.0]
    assert below.changed == above.changed == 0 and region.inputs.upper.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_both_sides_of_a_cut_have_its_hyperplane(seed, slope):
    """Where a neuron behind another one is zero, in fractions: rounding of the half-spaces leaves the point in both."""
    random = np.random.default_rng(seed)
    draw = lambda *shape: (random.normal(size=shape) * 10.0 ** random.integers(-3, 4, shape)).tolist()  # noqa: E731
    signs = random.choice([-1, 1], 3)
    signs[1] = 1
    weight, bias, second = draw(3, 2), draw(3), draw(2, 3)
    factors = np.where(signs > 0, 1.0, slope)
    middle = np.array(second) @ (factors * (np.array(weight) @ [0.5, 0.5] + bias))
    graph = dense((weight, bias), (second, (-middle).tolist()), (draw(1, 2), [0.0]), slope=slope)
    region, known = region_of(graph, unit(2))
    far = torch.from_numpy(np.where(signs > 0, 1.0, -1.0))
    boxes = (known.boxes[0], (far - 0.5, far + 0.5), *known.boxes[2:])
    known = Known(known.values, boxes, np.array([3, 4]))
    looked_at = 0
    for k in (0, 1):
        rows, shift = [Fraction(0)] * 2, Fraction(-middle[k])
        for factor, own, one, row in zip(factors.tolist(), bias, second[k], weight, strict=True):
            through = Fraction(graph.nodes[2].function.slope if factor < 1 else 1) * Fraction(one)
            rows, shift = (
                [r + through * Fraction(a) for r, a in zip(rows, row, strict=True)],
                shift + through * Fraction(own),
            )
        size = sum(map(abs, rows)) + abs(shift)
        points = [[-(shift + rows[1] * y) / rows[0], y] for y in (Fraction(1, 2), Fraction(1, 3), Fraction(2, 3))]
        points = [x for x in points if 0 <= x[0] <= 1]
        looked_at += len(points)
        cuts = (cut_along(graph, region, known, 3 + k), children_of(graph, region, known, Cut(3 + k), "polyhedral"))
        for child, sign in ((child, sign) for pair in cuts for child, sign in zip(pair, (1, -1), strict=True)):
            normal = [Fraction(a) for a in child.inputs.normals[-1].tolist()]
            assert child.phases == ((3 + k, -sign),) and child.changed == 0
            assert sum(a * sign * t for a, t in zip(normal, rows, strict=True)) > 0
            for x in points:
                spare = Fraction(child.inputs.offsets[-1]) - sum(a * t for a, t in zip(normal, x, strict=True))
                assert 0 <= spare <= size * Fraction(1, 10**11)
    assert looked_at > 1


def test_what_is_affine_on_a_piece():
    """Decided neurons pass their function on, undecided ones nothing, dead ones zero, whatever they read."""
    graph = dense(
        ([[1.0], [1.0], [1.0]], [1.0, -2.0, -0.5]),
        ([[2.0, 3.0, 0.0], [0.0, 0.0, 1.0]], [-2.5, 0.5]),
        ([[1.0, 1.0]], [0.0]),
    )
    _, known = region_of(graph, unit(1))
    forms = affine_forms(graph, known.boxes)
    assert known.undecided.tolist() == [2, 3]
    assert forms[3][0][0].tolist() == [2.0] and forms[3][1][0] == -0.5 and forms[3][1][1].isnan()
    assert affine_on(graph, known).tolist() == [2, 3]
    behind = Known(known.values, known.boxes, np.array([3, 4]))
    assert affine_on(graph, behind).tolist() == [3]
    leaky = dense(([[1.0]], [-2.0]), ([[1.0]], [0.0]), slope=0.25)
    assert affine_forms(leaky, tuple(node_boxes(leaky, unit(1))))[2][1].tolist() == [-0.5]


# ---- trees over tables


@dataclass(frozen=True, eq=False)
class Table(AbstractMeasure):
    """Bounds drawn from the phases, higher the more there are; some pieces that are not proper are proved empty."""

    graph: Graph
    seed: int
    proper: Callable
    batch: int = 3

    def bound(self, regions):
        found = []
        for region in regions:
            random = np.random.default_rng([self.seed, *(3 * k + s + 1 for k, s in region.phases)])
            left = sorted(set(range(self.graph.neurons)) - {k for k, _ in region.phases})
            value = random.uniform(-2.0, 0.1) + 0.45 * len(region.phases)
            value = value if self.proper(region.phases) or random.uniform() < 0.5 else np.inf
            boxes = tuple((torch.full((n.size,), -1.0), torch.ones(n.size)) for n in self.graph.nodes)
            found.append(Known(np.array([value]), boxes, np.array(left, dtype=np.int64)))
        return found


def table(seed: int, neurons: int = 4) -> tuple[Bounder, SimpleNamespace, list[tuple[int, ...]]]:
    """Bounds, a judge over some sign vectors, and these."""
    graph = dense(([[1.0]] * neurons, [0.0] * neurons), ([[1.0] * neurons], [0.0]))
    goal = Goal(np.eye(1), np.zeros(1), np.zeros(1), np.zeros(1), ((0,),))
    every = list(itertools.product((-1, 1), repeat=neurons))
    cells = [c for c in every if np.random.default_rng([seed, *(s + 1 for s in c)]).uniform() < 0.7]
    judge = SimpleNamespace(proper=lambda phases: any(all(c[k] == s for k, s in phases) for c in cells))
    return Bounder(graph, goal, Table(graph, seed, judge.proper), None, Region(unit(1)), "activation"), judge, cells


def checked(b: Bounder, tree: Tree) -> None:
    """Every piece is what its bounds say, has two children where it is cut, and the leaves are a partition."""
    by_parent: dict[int, list[Piece]] = {}
    for number, piece in enumerate(tree.pieces):
        assert piece.number == number and (piece.parent < number)
        by_parent.setdefault(piece.parent, []).append(piece)
    phases = {-1: ()}
    for piece in tree.pieces:
        if piece.parent < 0:
            own = ()
        else:
            parent = tree.pieces[piece.parent]
            own = tuple(sorted((*phases[parent.number], (parent.cut.neuron, piece.side))))
            assert piece.depth == parent.depth + 1 == len(own)
        phases[piece.number] = own
        known = b.measure.bound([Region(unit(1), own)])[0]
        assert piece.region is None or piece.region.phases == own
        if piece.status == "open":
            continue
        assert piece.gap == pytest.approx(-known.values[0])
        assert (piece.status == "empty") == bool(np.isposinf(known.values[0]))
        assert (piece.status == "closed") == (0 <= known.values[0] < np.inf)
        assert (piece.status == "stuck") == (known.values[0] < 0 and not len(known.undecided))
        below = by_parent.get(piece.number, [])
        assert sorted(p.side for p in below) == ([-1, 1] if piece.status == "split" else [])
    ends = [phases[p.number] for p in tree.pieces if p.status != "split"]
    for signs in itertools.product((-1, 1), repeat=b.graph.neurons):
        assert sum(all(signs[k] == s for k, s in own) for own in ends) == 1


@pytest.mark.parametrize("rule", ["first", "last", "strong"])
@pytest.mark.parametrize("seed", range(4))
def test_trees_grown_over_tables(rule, seed):
    b, judge, _ = table(seed)
    tree = grow(b, rule)
    checked(b, tree)
    assert tree.finished and len(tree.leaves) == sum(p.status in ("closed", "stuck") for p in tree.pieces)
    assert tree.depth == max(p.depth for p in tree.pieces)
    judge.kind = lambda region: "proper" if judge.proper(region.phases) else "flat"
    known = judged(tree, judge)
    assert known.leaves_of("proper") + known.leaves_of("flat") == len(tree.leaves)
    for most in (1, 4, len(tree.pieces)):
        part = grow(b, rule, most=most)
        checked(b, part)
        assert part.finished == (not part.number("open")) and (part.finished or most < len(tree.pieces))
        assert not part.finished or most > 1 or len(tree.pieces) == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_tree_that_is_cut_short_in_the_middle_of_a_piece_keeps_it_open(seed, monkeypatch):
    b, _, _ = table(seed)
    for late in range(1, 7):
        calls = []

        def rule(bounder, region, known, cuts, calls=calls, late=late):
            calls.append(region)
            if len(calls) == late:
                raise TimeUp("the time limit has passed")
            return cuts[-1]

        monkeypatch.setitem(growing.RULES, "late", rule)
        tree = grow(b, "late")
        checked(b, tree)
        assert tree.finished == (len(calls) < late) and tree.finished != bool(tree.number("open"))


@pytest.mark.parametrize("seed", range(12))
def test_the_smallest_tree_over_tables(seed):
    """Every tree is looked at."""
    b, judge, _ = table(seed)

    @cache
    def fewest(phases) -> int:
        known = b.measure.bound([Region(unit(1), phases)])[0]
        if known.empty or not judge.proper(phases):
            return 0
        if known.values[0] >= 0 or not len(known.undecided):
            return 1
        sides = ([tuple(sorted((*phases, (int(k), s)))) for s in (-1, 1)] for k in known.undecided)
        return min(fewest(a) + fewest(c) for a, c in sides)

    tree, looked_at = smallest(b, judge)
    checked(b, tree)
    proper = sum(judge.proper(p.region.phases) for p in tree.leaves)
    assert tree.finished and proper == tree.proved == fewest(()) and 0 < looked_at <= 3**4
    late, _ = smallest(b, judge, deadline=0.0)
    assert not late.finished and late.proved <= max(1, fewest(())) and late.pieces[0].status == "open"
    unknown, _ = smallest(b, SimpleNamespace(proper=lambda phases: None if phases else True))
    assert unknown.finished == b.goal.closed(b.measure.bound([b.root])[0].values)


def test_what_is_proved_empty_is_no_leaf():
    """One neuron that is inactive nowhere: the judge, who would say otherwise, is not asked."""
    b, _, _ = table(0, neurons=1)
    bounds = {(): -1.0, ((0, -1),): np.inf, ((0, 1),): 0.0}

    class Said(Table):
        def bound(self, regions):
            return [replace(k, values=np.array([bounds[r.phases]])) for r, k in zip(regions, super().bound(regions))]

    made = replace(b, measure=Said(b.graph, 0, lambda phases: True))
    tree, _ = smallest(made, SimpleNamespace(proper=lambda phases: True))
    assert tree.proved == 1 and sorted(p.status for p in tree.pieces) == ["closed", "empty", "split"]


def test_what_is_not_proper_is_cut_to_its_ends():
    """Two neurons: below the first nothing is proper and nothing is closed, and its pieces end where none is left."""
    b, _, _ = table(0, neurons=2)

    class Said(Table):
        def bound(self, regions):
            ends = (0.0 if (0, 1) in r.phases else -1.0 for r in regions)
            return [replace(k, values=np.array([end])) for end, k in zip(ends, super().bound(regions))]

    made = replace(b, measure=Said(b.graph, 0, lambda phases: True))
    tree, _ = smallest(made, SimpleNamespace(proper=lambda phases: (0, -1) not in phases))
    checked(made, tree)
    assert tree.proved == 1 and sorted(p.status for p in tree.pieces) == ["closed", "split", "split", "stuck", "stuck"]


def test_strong_takes_the_cut_whose_worse_child_is_nearest():
    b, _, _ = table(0)
    gaps = {
        (0, -1): 3.0,
        (0, 1): 0.1,
        (1, -1): 1.0,
        (1, 1): 0.5,
        (2, -1): 1.0,
        (2, 1): 0.25,
        (3, -1): -5.0,
        (3, 1): 2.0,
    }
    known = b.measure.bound([b.root])[0]
    boundless = SimpleNamespace(
        goal=b.goal,
        children=b.children,
        bound=lambda regions: [replace(known, values=np.array([-gaps[r.phases[0]]])) for r in regions],
    )
    assert growing.strong(boundless, b.root, known, b.cuts(b.root, known)).neuron == 2


def test_rules_take_the_most(monkeypatch):
    b, _, _ = table(0)
    known = b.measure.bound([b.root])[0]
    rules, seen = growing.RULES, growing.sight
    losses = torch.tensor([[0.1, 0.4, 0.3, 0.2]], dtype=torch.float64)
    monkeypatch.setattr(growing, "sight", lambda *a: replace(seen(*a), losses=lambda: losses))
    assert rules["babsr"](b, b.root, known, b.cuts(b.root, known)).neuron == 1
    boxes = replace(b, root=Region(Polytope(np.zeros(3), np.array([1.0, 100.0, 4.0]))), pieces="input")
    piece = Region(Polytope(np.zeros(3), np.array([0.25, 50.0, 3.0])))
    cuts = boxes.cuts(piece, known)
    assert [(c.coordinate, c.point) for c in cuts] == [(0, 0.125), (1, 25.0), (2, 1.5)]
    assert rules["widest"](boxes, piece, known, cuts).coordinate == 2
    blame = torch.tensor([[0.5, 0.1, 0.5]], dtype=torch.float64)
    monkeypatch.setattr(growing, "sight", lambda *a: replace(seen(*a), blame=lambda: blame))
    assert rules["sensitivity"](boxes, piece, known, cuts).coordinate == 2
    flat = Region(Polytope(np.zeros(3), np.array([0.0, 5e-324, 1.0])))
    assert [c.coordinate for c in boxes.cuts(flat, known)] == [2]


# ---- leaves


def test_signs_that_touch_zero_are_not_stable():
    """x on [0, 1] is zero at 0, its negative too: closed branches have that point, and a neuron behind has more."""
    graph = dense(([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 0.0]], [0.0]))
    branches = Branches(graph, unit(1))
    for neuron, inside, beside in ((0, 1, -1), (1, -1, 1)):
        assert branches.answer({neuron: inside}) and not branches.answer({neuron: beside})
        assert not branches.answer({neuron: beside}, "closed") and branches.answer({neuron: beside}, "points")
    twice = dense(([[1.0], [-1.0]], [0.0, 0.0]), ([[0.0, 1.0]], [0.0]), ([[1.0]], [0.0]))
    assert Branches(twice, unit(1)).answer({2: 1}, "closed") and not Branches(twice, unit(1)).answer({2: 1})


def test_boxes_that_touch_or_miss_a_polytope():
    half = Polytope(np.zeros(2), np.ones(2), np.ones((1, 2)), np.array([0.7]))
    branches = Branches(dense(([[1.0, 1.0]], [-0.5]), ([[1.0]], [0.0])), half)
    for low, high, inside, points in (
        ([0.0, 0.0], [1.0, 1.0], True, True),
        ([0.1, 0.2], [0.3, 0.4], True, True),
        ([0.5, 0.25], [1.0, 1.0], False, False),
        ([0.7, 0.0], [1.0, 1.0], False, True),
        ([0.0, 0.7], [0.1, 1.0], False, True),
        ([0.3, 0.3], [0.3, 0.5], False, True),
        ([-1.0, 0.0], [-0.5, 1.0], False, False),
        ([0.2, 0.3], [0.1, 1.0], False, False),
    ):
        box = Polytope(np.array(low), np.array(high))
        assert branches.box(box) == inside and branches.box(box, "points") == points
    flat = Branches(dense(([[1.0, 1.0]], [-0.5]), ([[1.0]], [0.0])), Polytope(np.zeros(2), np.array([0.0, 1.0])))
    assert flat.box(Polytope(np.zeros(2), np.array([0.0, 0.5])))
    assert not flat.box(Polytope(np.array([0.0, 0.5]), np.array([0.0, 0.5])))


def test_closed_patterns_count_every_neuron_that_is_zero():
    """Two dead neurons behind relu(x), inactive and zero where x <= 0: 4 closed patterns there, 1 where x > 0."""
    graph = dense(([[1.0]], [0.0]), ([[1.0], [2.0], [1.0]], [0.0, 0.0, 0.5]), ([[1.0, 1.0, 1.0]], [0.0]))
    inputs = Polytope(np.full(1, -1.0), np.ones(1))
    patterns = np.array([[False, False, False, True], [True, True, True, True]])
    judge = Judge(graph, inputs, patterns)
    assert judge.closed_patterns() == 5 and Judge(graph, inputs).closed_patterns() is None
    for phases, proper, kind in (
        (((0, -1), (1, -1)), True, "proper"),
        (((0, -1), (3, 1)), True, "proper"),
        (((0, -1), (1, 1)), False, "closed"),
        (((0, 1), (1, -1)), False, "flat"),
        (((3, -1),), False, "empty"),
    ):
        assert judge.proper(phases) == proper and judge.kind(Region(inputs, phases)) == kind
        assert Judge(graph, inputs).kind(Region(inputs, phases)) == kind
    judge.deadline = 0.0
    assert judge.kind(Region(inputs, ((0, 1), (2, -1)))) == "other"
    assert judge.closed_patterns() is None
