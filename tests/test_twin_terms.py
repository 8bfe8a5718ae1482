"""Each term of twins, their differences and their rows where it is the one that matters."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from test_twins import DTYPES, F64, below, below_row, compared, ordered, pieces_of
from twin_networks import FORMS, dense, exact_values, twin_network

from partita.bab.building import build
from partita.bab.config import load_config
from partita.bab.strategy import choose
from partita.bab.trees.twinned import Twinned, rows_of_goals
from partita.bab.verify import verify
from partita.problems.network.activation import LeakyReLU, ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet
from partita.relaxations.linear.interval import interval_bounds
from partita.relaxations.linear.rounding import Rounding
from partita.relaxations.twins.differences import Differences, Sum, _matrix, lowered
from partita.relaxations.twins.pairs import Twins
from partita.relaxations.twins.twin_rows import twin_rows
from partita.relaxations.types import Pieces


def test_nodes_that_read_another_twice_have_no_twins():
    """As parallel convolutions leave them: no single weight says what an entry is. Here 2 x_0 and x_0 + x_1."""
    one, two = [[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]
    for operators in ((one, two), (two, one)):
        nodes = (
            Input(2),
            Affine((0, 0), tuple(dense(operator) for operator in operators), torch.zeros(2, dtype=F64)),
            Activation((1,), ReLU(), 2),
            Affine((2,), (dense(np.eye(2)),), torch.zeros(2, dtype=F64)),
        )
        graph = Graph(nodes, (1, 2), (1, 2))
        box = Polytope(-np.ones(2), np.ones(2))
        assert not Twins(graph).add(((1, 0), (1, 1)))
        for terms in ({0: 1, 1: -1}, {0: -1, 1: 1}):
            assert below(graph, box, below_row(graph, terms), F64).item() <= -1
    made = twin_network(2, "branches", "relu", widths=(4, 3), monotone=True, permuted=False)
    halves = [
        replace(node, inputs=2 * node.inputs, operators=2 * tuple(Dense(op.weight / 2) for op in node.operators))
        if isinstance(node, Affine)
        else node
        for node in made.graph.nodes
    ]
    graph = replace(made.graph, nodes=tuple(halves))
    assert not Twins(graph).add(((5, 0), (7, 0)))


def blind(self) -> tuple:
    """Colours that tell nothing apart."""
    none = [np.zeros(node.size, dtype=np.uint64) for node in self.graph.nodes]
    return none, none


RELUS = ReLU(), ReLU()


def uneven(bias=(0.0, 0.0, 0.0, 5.0), functions=RELUS) -> Graph:
    """relu(x_0) + relu(x_1) beside relu(x_2) + relu(x_3), whose biases or functions may differ."""
    nodes: list = [Input(4)]
    for k in range(2):
        weight, own = np.eye(4)[2 * k : 2 * k + 2], torch.tensor(bias[2 * k : 2 * k + 2], dtype=F64)
        nodes += [Affine((0,), (dense(weight),), own), Activation((2 * k + 1,), functions[k], 2)]
    up, down = np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [1.0, 1.0]])
    nodes += [
        Affine((2, 4), (dense(up), dense(down)), torch.zeros(2, dtype=F64)),
        Activation((5,), ReLU(), 2),
        Affine((6,), (dense(np.eye(2)),), torch.zeros(2, dtype=F64)),
    ]
    return Graph(tuple(nodes), (1, 4), (1, 2))


@pytest.mark.parametrize("seeing", (True, False))
def test_pairs_sum_what_they_say(seeing, monkeypatch):
    """For every pair the difference of its entries is the sum of those below, in fractions, whatever the colours say;
    each entry is used once."""
    if not seeing:
        monkeypatch.setattr(Twins, "colours", blind)
    random, seen = np.random.default_rng(0), 0
    graphs = [twin_network(seed, FORMS[seed % 3], "leaky", shared=seed % 2, ties=True).graph for seed in range(4)]
    graphs += [uneven(), uneven((0.0,) * 4), uneven((0.0,) * 4, (LeakyReLU(0.25), LeakyReLU(0.5)))]
    thin = uneven((0.0,) * 4)
    nodes = list(thin.nodes)
    nodes[3] = Affine((0,), (dense(np.eye(4)[2:] + np.eye(4)[:2]),), nodes[3].bias)  # more terms than the other copy
    graphs.append(replace(thin, nodes=tuple(nodes)))
    for graph in graphs:
        for node, other in ((1, 1), (1, 3), (3, 5), (5, 5), (5, 7), (2, 4)):
            twins = Twins(graph)
            for i in range(min(node < len(graph.nodes) and graph.nodes[node].size, 3)):
                for j in range(min(other < len(graph.nodes) and graph.nodes[other].size, 3)):
                    if (node, i) != (other, j):
                        twins.add(((node, i), (other, j)))
            x = [Fraction(v) for v in random.normal(size=graph.input_size).tolist()]
            values = exact_values(graph, x)
            between = lambda pair: values[pair[0][0]][pair[0][1]] - values[pair[1][0]][pair[1][1]]  # noqa: B023, E731
            for pair, twin in twins.pairs.items():
                one, two = (graph.nodes[node] for node, _ in pair)
                if twin is not None:
                    assert between(pair) == sum(Fraction(w) * between(inner) for inner, w in twin.below)
                    for side in (0, 1):
                        assert len({inner[side] for inner, _ in twin.below}) == len(twin.below)
                    seen += len(twin.below)
                elif isinstance(one, Activation):
                    assert one.function == two.function
                    below = tuple((graph.nodes[node].inputs[0], index) for node, index in pair)
                    assert below[0] == below[1] or below in twins.pairs
    assert seen > 50
    for graph in (uneven(), uneven((0.0,) * 4, (ReLU(), LeakyReLU(0.5)))):
        assert not Twins(graph).add(((5, 0), (5, 1)))


def test_doubt_about_biases_and_weights_of_either_copy_counts():
    """A bias that is off, or weights of the second copy alone: equal inputs do not give equal outputs any more."""
    made = twin_network(0, "branches", "relu", widths=(4, 3), permuted=False)
    n = made.graph.input_size
    both = [sign * (np.eye(n)[q] - np.eye(n)[p]) for p, q in enumerate(made.partner) for sign in (1.0, -1.0)]
    polytope = Polytope(-np.ones(n), np.ones(n), np.array(both), np.zeros(len(both)))
    changes = []
    for position in (1, 3, 5, 7):
        node = made.graph.nodes[position]
        changes.append((position, replace(node, doubt=torch.full_like(node.bias, 1e-6))))
        weight = node.operators[0].weight
        changes.append((position, replace(node, operators=(Dense(weight, 1, weight.abs()),))))
    graphs = []
    for position, node in changes:
        nodes = list(made.graph.nodes)
        nodes[position] = node
        graphs.append(replace(made.graph, nodes=tuple(nodes)))
    nodes = list(made.graph.nodes)
    for position in (1, 3):  # both copies alike: the exact biases may still differ
        nodes[position] = replace(nodes[position], doubt=torch.full_like(nodes[position].bias, 1e-6))
    graphs.append(replace(made.graph, nodes=tuple(nodes)))
    for graph in graphs:
        for sign in (1, -1):
            row = below_row(graph, {k: sign * v for k, v in compared(graph).items()})
            for dtype in DTYPES:
                found = below(graph, polytope, row, dtype)
                assert found is None or found.item() < 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_differences_hold_at_points(dtype):
    """Every difference of every kind, on boxes that make neurons active or not; those of inputs in fractions."""
    kinds = [(form, function) for form in FORMS for function in ("relu", "leaky", "tanh")]
    for seed, (form, function) in enumerate(kinds):
        made = twin_network(seed, form, function, inputs=2, widths=(4, 3))
        graph, random = made.graph, np.random.default_rng(seed)
        twins = Twins(graph)
        one, two = (5, 7) if form != "blocks" else (3, 3)
        start = 0 if form != "blocks" else 3
        twins.match([((one, i), 1) for i in range(3)], [((two, start + j), 1) for j in range(3)])
        differences, seen = Differences(graph.to(dtype), twins), 0
        rounding = Rounding(graph.to(dtype))
        for trial in range(8):
            polytope = ordered(made, -1.0 if trial % 2 else 0.1, 1.0)
            n = graph.input_size
            low = polytope.lower + random.random(n) * 0.7
            high = np.minimum(low + 0.2 + random.random(n), 1.0)
            cut = Polytope(
                low, high, (-1) ** (trial // 2) * polytope.normals, random.normal(size=len(polytope.offsets))
            )
            pieces = pieces_of(graph, cut, dtype)
            values = interval_bounds(rounding, pieces.lower, pieces.upper, pieces.pre_lower, pieces.pre_upper)
            found = differences.bounds(pieces, values)
            x = low + random.random((4000, n)) * (high - low)
            x = x[(x @ cut.normals.T <= cut.offsets).all(1)]
            at = graph.values(torch.tensor(x))
            for key, (least, most) in found.items():
                group = differences.groups[key]
                if len(x):
                    d = at[key[0]][:, group.first] - at[key[1]][:, group.second]
                    assert (least.double() <= d + 1e-9).all() and (most.double() >= d - 1e-9).all()
                    seen += d.shape[1]
        assert seen > 20


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_differences_of_inputs_are_rounded_outwards(dtype):
    """From boxes and from half-spaces of two entries, beside fractions, before any sum could hide a rounding."""
    graph = Graph((Input(2), Affine((0,), (dense([[1.0, -1.0]]),), torch.zeros(1, dtype=F64))), (1, 2), (1, 1))
    twins = Twins(graph)
    assert twins.add(((0, 0), (0, 1)))
    differences, random = Differences(graph.to(dtype), twins), np.random.default_rng(0)
    for trial in range(200):
        ends = np.sort(random.normal(size=(2, 2)) * 10.0 ** random.integers(-3, 4, size=2), 0)
        ends = ends.astype(np.float32).astype(np.float64)
        size, offset = float(random.integers(1, 40)), float(np.float32(random.normal()))
        pieces = Pieces.boxes(*(torch.tensor(end)[None].to(dtype) for end in ends), 0)
        ((low, high),) = differences.bounds(pieces, [(pieces.lower, pieces.upper)]).values()
        (a, c), (b, d) = ([Fraction(v) for v in end] for end in ends.tolist())
        assert Fraction(low.item()) <= a - d and Fraction(high.item()) >= b - c
        sign = 1 if trial % 2 else -1
        normals = torch.tensor([[[sign * size, -sign * size]]], dtype=dtype)
        wide = Pieces.boxes(torch.full((1, 2), -1e6, dtype=dtype), torch.full((1, 2), 1e6, dtype=dtype), 0)
        cut = replace(wide, normals=normals, offsets=torch.tensor([[offset]], dtype=dtype))
        ((low, high),) = differences.bounds(cut, [(wide.lower, wide.upper)]).values()
        limit = Fraction(offset) / Fraction(size)
        assert Fraction(high.item()) >= limit if sign > 0 else Fraction(low.item()) <= -limit
        assert high.item() < 1e3 if sign > 0 else low.item() > -1e3


def test_neurons_that_share_their_pre_activation_are_equal():
    """relu(x_0) in two nodes beside another pair of the same two nodes: its difference is 0, not the other's."""
    nodes = (
        Input(3),
        Affine((0,), (dense(np.eye(3)),), torch.zeros(3, dtype=F64)),
        Activation((1,), ReLU(), 3),
        Activation((1,), ReLU(), 3),
        Affine(
            (2, 3),
            (dense([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]), dense([[0.0, 0.0, 0.0], [1.0, 0.0, 2.0]])),
            torch.zeros(2, dtype=F64),
        ),
    )
    graph = Graph(nodes, (1, 3), (1, 2))
    polytope = Polytope(np.ones(3), 2 * np.ones(3), np.array([[0.0, -1.0, 1.0]]), np.array([-0.5]))
    assert 1 - 1e-5 <= below(graph, polytope, below_row(graph, {0: 1, 1: -1}), F64).item() <= 1
    assert -2 - 1e-5 <= below(graph, polytope, below_row(graph, {0: -1, 1: 1}), F64).item() <= -2


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_both_parts_of_a_sum_are_rounded_apart(dtype):
    """The sum of terms >= 0 is never above, that of the others never below, the exact one; a long sum is charged for
    its length; a difference of two numbers is rounded down."""
    random = np.random.default_rng(0)
    for _ in range(60):
        n = int(random.integers(1, 5))
        weight, ends = random.normal(size=n), np.sort(random.normal(size=(2, n)), 0)
        weight = torch.tensor(weight).to(dtype).double()
        lower, upper = (torch.tensor(end).to(dtype)[None] for end in ends)
        more, less = Sum.of(weight[None], dtype, "cpu").below(lower, upper, _matrix)
        parts = []
        for w, l, u in zip(weight.tolist(), lower[0].tolist(), upper[0].tolist(), strict=True):
            parts.append(Fraction(w) * Fraction(l if w > 0 else u))
        assert Fraction(more.item()) <= sum(max(part, Fraction(0)) for part in parts)
        assert Fraction(less.item()) >= sum(max(-part, Fraction(0)) for part in parts)
        assert Fraction(lowered(more, less).item()) <= Fraction(more.item()) - Fraction(less.item())
    one, n = torch.ones(1, 512, dtype=dtype), 512
    more, less = Sum.of(torch.cat([one, -one], 1).double(), dtype, "cpu").below(
        torch.cat([one, one], 1), torch.cat([one, one], 1), _matrix
    )
    unit = torch.finfo(dtype).eps / 2
    assert more.item() <= n * (1 - n * unit) and less.item() >= n * (1 + n * unit)
    more, less = torch.rand(1000, dtype=dtype), 1e-9 * torch.rand(1000, dtype=dtype)
    for a, b, found in zip(more.tolist(), less.tolist(), lowered(more, less).tolist(), strict=True):
        assert Fraction(found) <= Fraction(a) - Fraction(b)


# ---- rows


def single(weight, bias, doubt=None) -> Graph:
    """A network of one affine node."""
    weight, bias = np.atleast_2d(weight), torch.tensor(bias, dtype=F64)
    doubt = None if doubt is None else torch.tensor(doubt, dtype=F64)
    node = Affine((0,), (dense(weight),), bias, doubt=doubt)
    return Graph((Input(weight.shape[1]), node), (1, weight.shape[1]), (1, len(bias)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_of_one_node_are_what_they_sum(dtype):
    """Biases of both signs, what they are in doubt by, inputs beside outputs, numbers below float64."""
    point = Polytope(np.ones(2), np.ones(2))
    wide = Polytope(-np.ones(2), np.ones(2))
    find = lambda graph, terms, box=point, **more: below(graph, box, below_row(graph, terms, **more), dtype).item()  # noqa: E731
    graph = single([[1.0, 0.0], [0.0, 1.0]], [3.0, -2.0])
    for terms, best in (({0: 1}, 4), ({0: -1}, -4), ({1: 1}, -1), ({1: -1}, 1), ({0: 1, 1: -2}, 6)):
        assert best - 1e-4 <= find(graph, terms) <= best
    off = single([[1.0, 0.0], [0.0, 1.0]], [3.0, -2.0], [0.5, 0.25])
    for terms, best in (({0: 1}, 3.5), ({0: -1}, -4.5), ({1: 1}, -1.25), ({1: -1}, 0.75)):
        assert best - 1e-4 <= find(off, terms) <= best
    for terms, on_input, best in (
        ({0: 1}, {0: 2}, 6),
        ({0: 1}, {0: -1}, 3),
        ({0: -1}, {0: 1}, -3),
        ({1: 1}, {0: 1}, 0),
    ):
        assert best - 1e-4 <= find(graph, terms, on_input=on_input) <= best
    tiny, plain = Fraction(1, 10**400), single([[1.0, 0.0]], [0.0])
    assert find(plain, {0: tiny}, wide) < 0 and find(plain, {0: -tiny}, wide) < 0
    assert find(plain, {0: 0}, wide, constant=-tiny) < 0 and find(plain, {0: 0}, wide, constant=tiny) >= 0
    step = 0.75 * torch.finfo(dtype).eps  # 1 + step is rounded up
    near = Polytope(np.array([step, 0.0]), np.array([step, 0.0]))
    for c in (Fraction(1), Fraction(-1)):
        assert Fraction(find(plain, {0: 1}, near, constant=c)) <= Fraction(step) + c


def test_inexact_weights_of_the_last_node_are_charged():
    """Where all of its entries are taken in pairs, too, and for rows of either sign."""
    for form in FORMS:
        made = twin_network(0, form, "relu", widths=(4, 3), permuted=False)
        n = made.graph.input_size
        both = [sign * (np.eye(n)[q] - np.eye(n)[p]) for p, q in enumerate(made.partner) for sign in (1.0, -1.0)]
        polytope = Polytope(-np.ones(n), np.ones(n), np.array(both), np.zeros(len(both)))
        nodes = list(made.graph.nodes)
        operators = tuple(Dense(op.weight, 1, 100 * op.weight.abs()) for op in nodes[-1].operators)
        nodes[-1] = replace(nodes[-1], operators=operators)
        for sign in (1, -1):
            row = below_row(made.graph, {k: sign * v for k, v in compared(made.graph).items()})
            for dtype in DTYPES:
                assert below(made.graph, polytope, row, dtype).item() == 0
                assert below(replace(made.graph, nodes=tuple(nodes)), polytope, row, dtype).item() < -1e-15


def test_outputs_that_are_the_same_cancel_to_nothing():
    """Two equal rows of the last layer: what is left of the strict row is its constant, 0, and it is decided."""
    graph = single([[1.0, 0.5], [1.0, 0.5]], [1.0, 1.0])
    row = below_row(graph, {0: 1, 1: -1})
    unsafe = UnsafeSet(np.array([[1.0, -1.0]]), np.zeros(1), None, (row,))
    prop = Property((Case(Polytope(-np.ones(2), np.ones(2)), (unsafe,)),), 2, 2)
    outcome = verify(
        graph, prop, load_config(None, {"attack": "off"}), confirm=lambda x: graph(torch.tensor(x)).numpy()
    )
    assert outcome.verdict == "unsat"


def test_goals_keep_their_own_rows():
    """Goals of one and of two rows, pieces of either: each bound is that of its row alone."""
    made = twin_network(1, "blocks", "relu", inputs=2, widths=(4, 3))
    graph, polytope = made.graph, ordered(made)
    chosen = ({0: 1, 1: -1}, {0: -1, 1: 1}, {0: 2, 1: -2})
    one, two, three = (below_row(graph, terms, constant=k) for k, terms in enumerate(chosen))
    rows = twin_rows(graph, graph, [[one, two], [three]], [polytope])
    piece = pieces_of(graph, polytope, F64)
    pieces = piece[torch.tensor([0, 0, 0])]
    found = rows.below(pieces, torch.tensor([1, 0, 1]))
    alone = [below(graph, polytope, row, F64).item() for row in (one, two, three)]
    assert len(set(alone)) == 3
    for k, wanted in enumerate(([alone[2], alone[2]], alone[:2], [alone[2], alone[2]])):
        assert found[k].tolist() == pytest.approx(wanted, abs=1e-9)


def test_another_look_is_for_each_piece_and_its_goal():
    """The first goal is open, the second is closed at zero, being strict; the third is not, and one above zero is."""
    graph = single([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    sets = []
    for sign, constant, strict in ((-1, 0, True), (1, 0, True), (1, 0, False), (1, 1, False)):
        row = below_row(graph, {0: sign, 1: sign}, constant=constant, strict=strict)
        array = np.array([[float(sign)] * 2])
        sets.append(UnsafeSet(array, np.array([float(constant)]), None, (row,)))
    prop = Property((Case(Polytope(np.zeros(2), np.ones(2)), tuple(sets)),), 2, 2)
    config = load_config(None, {"attack": "off", "precision": "float64", "split": "input"})
    tree = build(graph, graph, prop, config, choose(graph, config))
    inner = getattr(tree, "inner", tree)
    assert inner.bound(inner.roots()).closed.tolist()[2] is False
    tree = Twinned(inner, rows_of_goals(graph, graph, prop, tree.goals))
    assert tree.bound(tree.roots()).closed.tolist() == [False, True, False, True]


def test_a_difference_of_exactly_zero_closes_strict_rows_alone():
    """Copies in order: their difference is known to be at least 0, which is unsafe where the row is not strict."""
    made = twin_network(1, "branches", "relu", widths=(5, 4), monotone=True)
    graph, terms = made.graph, compared(made.graph)
    array = np.array([[float(terms.get(k, 0)) for k in range(graph.output_size)]])
    sets = tuple(
        UnsafeSet(array, np.zeros(1), None, (below_row(graph, terms, strict=strict),)) for strict in (True, False)
    )
    prop = Property((Case(ordered(made), sets),), graph.input_size, graph.output_size)
    config = load_config(None, {"attack": "off", "precision": "float64", "split": "input"})
    tree = build(graph, graph, prop, config, choose(graph, config))
    inner, rows = getattr(tree, "inner", tree), rows_of_goals(graph, graph, prop, tree.goals)
    tree = Twinned(inner, rows)
    assert rows.below(tree.pieces(tree.roots()), torch.tensor([0, 1])).tolist() == [[0], [0]]
    assert tree.bound(tree.roots()).closed.tolist() == [True, False]
