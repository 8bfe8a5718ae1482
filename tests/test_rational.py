"""Decisions in whole numbers: against enumeration in fractions, on whole input sets and on pieces; limits; what is
refused because it was rounded."""

from __future__ import annotations

import sys
import time
from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from partita.bab.trees.settle import settled
from partita.bab.trees.without_rows import answered
from partita.kernels.exact_program import Inequality, solution
from partita.problems.network.activation import LeakyReLU, ReLU
from partita.problems.network.affine import Conv, Dense, Diagonal
from partita.problems.network.exact_fold import whole
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.network.simplify import simplify
from partita.problems.network.smooth import Tanh
from partita.problems.onnx.file import read_onnx
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet
from partita.problems.properties.rational import ExactSet, Row
from partita.relaxations.effort import LeafEffort
from partita.relaxations.leaf.leaf import LeafStatus, settle
from partita.relaxations.leaf.rational import Rational, in_words

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from measure import verdict_cases
from measure.rational_truth import Constraint, Question, output, point_in

F = Fraction


def real(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def network(*layers, function=None) -> Graph:
    """Dense layers (weight, bias) with ReLUs between them."""
    nodes: list = [Input(len(layers[0][0][0]))]
    for k, (weight, bias) in enumerate(layers):
        nodes.append(Affine((len(nodes) - 1,), (Dense(real(weight)),), real(bias)))
        if k < len(layers) - 1:
            nodes.append(Activation((len(nodes) - 1,), function or ReLU(), len(bias)))
    return Graph(tuple(nodes), (1, nodes[0].size), (1, nodes[-1].size))


ABSOLUTE = network(([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))  # |x|


def below(threshold: Fraction, strict: bool) -> UnsafeSet:
    return verdict_cases.unsafe_of([Row({0: F(1)}, -threshold, strict)], 1, 1)


def interval(low: Fraction, high: Fraction, *opens: frozenset[int], rows=()) -> Polytope:
    sides = (verdict_cases.numbers_of([v], 0) for v in (low, high))
    return verdict_cases.polytope_of(ExactSet(*sides, *opens, rows=tuple(rows)))


@pytest.mark.parametrize("seed", range(120))
def test_decisions_are_those_of_enumeration(seed):
    trial = verdict_cases.trial(seed)
    if trial.as_file:
        trial = verdict_cases.trial(seed + 10_000)
    if trial.as_file:
        return
    exact, random = Rational(verdict_cases.graph_of(trial.layers)), Random(seed)
    for c, case in enumerate(trial.prop.cases):
        question = trial.question(c)
        for unsafe in case.unsafe:
            found = exact.decide(case.inputs, unsafe)
            assert found.empty == (question.counterexample(unsafe.meaning) is None), found
            if found.point is not None:
                y = output(trial.layers, found.point)
                assert case.inputs.holds(found.point) and unsafe.holds(found.point, y)
            middle = [random.choice([a, (a + b) / 2, b]) for a, b in zip(question.lower, question.upper)]
            low = np.array([verdict_cases.below(v) for v in middle])
            box = low, np.minimum(case.inputs.upper, low + 0.5)
            part = exact.decide(case.inputs, unsafe, box)
            assert part.empty or all(a <= v <= b for a, v, b in zip(box[0], part.point, box[1]))
            assert not found.empty or part.empty


def test_exact_programs_agree_with_seidel():
    random = Random(1)
    for _ in range(300):
        n = random.randint(1, 3)
        rows = [
            ([random.randint(-3, 3) for _ in range(n)], random.randint(-3, 3), random.random() < 0.5)
            for _ in range(random.randint(1, 6))
        ]
        found = solution([Inequality(tuple(r), b, s) for r, b, s in rows], [1] * n)
        other = point_in([F(0)] * n, [F(1)] * n, [Constraint(tuple(F(-a) for a in r), F(b), s) for r, b, s in rows])
        assert (found is None) == (other is None)


def test_pieces_with_phases_are_decided_by_their_phases():
    """|x| on [-1, 1], neuron by neuron: below 1/2 on every cell that is not empty; below 0 on none."""
    exact, whole_set = Rational(ABSOLUTE), interval(F(-1), F(1))
    for signs, empty in (((1, -1), False), ((-1, 1), False), ((1, 1), False), ((-1, -1), False)):
        phases = [np.array(signs, dtype=np.int8)]
        assert exact.decide(whole_set, below(F(1, 2), True), phases=phases).empty == empty
        assert exact.decide(whole_set, below(F(0), True), phases=phases).empty
        at_zero = exact.decide(whole_set, below(F(0), False), phases=phases)
        assert at_zero.point == (0,)  # both phases are closed: zero is in all cells
    right = interval(F(1, 3), F(1))
    assert exact.decide(right, below(F(1, 2), True), phases=[np.array([-1, 1], dtype=np.int8)]).empty


@pytest.mark.parametrize(
    ("strict", "threshold", "opens", "empty"),
    [
        (False, F(1, 3), (frozenset(), frozenset()), False),
        (True, F(1, 3), (frozenset(), frozenset()), True),
        (False, F(1, 3), (frozenset({0}), frozenset()), True),  # attained on a side that does not belong to the set
        (False, F(1, 3) + F(1, 10**30), (frozenset({0}), frozenset()), False),
        (False, F(1, 3), (frozenset(), frozenset({0})), False),
    ],
)
def test_open_sides_and_strict_rows_count(strict, threshold, opens, empty):
    inputs = interval(F(1, 3), F(1), *opens)
    found = Rational(ABSOLUTE).decide(inputs, below(threshold, strict))
    assert found.empty == empty
    if not empty and strict is False and threshold == F(1, 3):
        assert found.point == (F(1, 3),)


def test_a_point_is_inside_all_borders_where_that_can_be():
    (x,) = Rational(ABSOLUTE).decide(interval(F(-1), F(1)), below(F(1, 2), False)).point
    assert -F(1, 2) < x < F(1, 2) and x != 0


def test_limits_are_answers():
    inputs, unsafe = interval(F(-1), F(1)), below(F(0), True)
    wide = network(([[1.0]] * 9000, [0.0] * 9000), ([[1.0] * 9000], [0.0]))
    assert "too many" in Rational(wide).decide(inputs, unsafe).reason
    assert "weights" in Rational(network(([[1.0]] * 3000, [0.0] * 3000), ([[1.0] * 3000] * 2000, [0.0] * 2000))).refusal
    late = Rational(ABSOLUTE).decide(inputs, unsafe, seconds=0.0)
    assert not late.empty and late.point is None and "in time" in late.reason
    assert "programs" in Rational(ABSOLUTE, LeafEffort(programs=0)).decide(inputs, unsafe).reason
    assert "digits" in Rational(ABSOLUTE, LeafEffort(digits=1)).decide(interval(F(-1, 3), F(1)), unsafe).reason


def test_an_exact_program_looks_at_the_clock():
    with pytest.raises(TimeoutError):
        solution([Inequality((1,), -1, True)], [1], deadline=time.monotonic() - 1)


def test_smooth_networks_are_refused():
    smooth = Rational(network(([[1.0]], [0.0]), ([[1.0]], [0.0]), function=Tanh()))
    assert "not piecewise linear" in smooth.decide(interval(F(-1), F(1)), below(F(0), True)).reason


def test_rounded_networks_are_refused():
    graph = Graph((Input(1), Affine((0,), (Dense(real([[0.1]])),), real([0.0]), rounded=True)), (1, 1), (1, 1))
    found = Rational(graph).decide(interval(F(-1), F(1)), below(F(0), True))
    assert not found.empty and found.point is None and "rounded" in found.reason


# ---- what folding rounds


def two_maps(first, bias, second, last=None) -> Affine:
    """Two affine nodes in a row, folded into the one that comes out."""
    nodes = (
        Input(first.n_in),
        Affine((0,), (first,), real(bias)),
        Affine((1,), (second,), real(last or [0.0] * second.n_out)),
    )
    graph = simplify(Graph(nodes, (first.n_in,), (second.n_out,)))
    assert len(graph.nodes) == 2
    return graph.nodes[1]


@pytest.mark.parametrize(
    ("first", "bias", "second", "last", "rounded"),
    [
        ([[3.0, 1.0]], [0.5], [[2.0], [1.0]], None, False),
        ([[0.1, 1.0]], [0.0], [[0.1]], None, True),  # a product of two doubles
        ([[1.0, 0.5]], [0.1], [[0.1]], None, True),  # of a bias
        ([[1.0, 0.5]], [1.0], [[1.0]], [2.0**-60], True),  # a sum of biases
        ([[2.0**30, 1.0], [1.0, 1.0]], [0.0, 0.0], [[2.0**30, 1.0]], None, True),  # a sum of products
        ([[2.0**20, 1.0], [1.0, 1.0]], [0.0, 0.0], [[2.0**20, 1.0]], None, False),
        ([[0.1, 0.2], [0.3, 0.4]], [0.1, 0.2], [[0.0, 1.0], [1.0, 0.0]], None, False),  # moved
        ([[0.1, 0.2], [0.3, 0.4]], [0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], [0.1, 0.7], False),  # a bias of its own
    ],
)
def test_folding_says_whether_it_rounds(first, bias, second, last, rounded):
    node = two_maps(Dense(real(first)), bias, Dense(real(second)), last)
    assert node.rounded == rounded
    exact = [[sum(F(a) * F(b) for a, b in zip(row, column)) for column in zip(*first)] for row in second]
    stored = [[F(v) for v in row] for row in node.operators[0].rows(torch.arange(len(second)), torch.float64).tolist()]
    moved = [sum(F(a) * F(b) for a, b in zip(row, bias)) + F(c) for row, c in zip(second, last or [0.0] * len(second))]
    same = exact == stored and moved == [F(v) for v in node.bias.tolist()]
    assert same != rounded


def test_what_was_rounded_before_stays_so_when_folded():
    nodes = (
        Input(1),
        Affine((0,), (Dense(real([[0.1]])),), real([0.0]), rounded=True),
        Affine((1,), (Dense(real([[1.0]])),), real([0.0])),
        Activation((2,), ReLU(), 1),
        Affine((3,), (Dense(real([[1.0]])),), real([0.0])),
    )
    graph = simplify(Graph(nodes, (1,), (1,)))
    assert [node.rounded for node in graph.nodes if isinstance(node, Affine)] == [True, False]


def test_sums_of_maps_that_round_are_marked():
    def summed(a, b):
        nodes = (Input(1), Affine((0, 0), (Dense(real([[a]])), Dense(real([[b]]))), real([0.0])))
        return simplify(Graph(nodes, (1,), (1,))).nodes[-1]

    assert not summed(1.0, 0.5).rounded
    assert summed(1.0, 2.0**-60).rounded


def test_a_scaled_convolution_is_written_out_without_rounding():
    conv = Conv(real([[[[0.1, 0.3]]]]), (1, 1, 3), (1, 1), ((0, 0), (0, 0)), (1, 1))
    node = two_maps(conv, [0.0, 0.0], Diagonal(real([3.0, 5.0])))
    if not node.rounded:
        exact = [[F(0.1) * 3, F(0.3) * 3, 0], [0, F(0.1) * 5, F(0.3) * 5]]
        found = whole(node.operators[0])
        assert [[F(int(a), 1 << found.shift) for a in row] for row in found.whole] == exact


def onnx_model(kind: str, **attributes):
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 1, 3, 3]), ("y", None))]
    graph = helper.make_graph([helper.make_node(kind, ["x"], ["y"], **attributes)], "one", values[:1], values[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    made.ir_version = 8
    return made.SerializeToString()


@pytest.mark.parametrize(
    ("kind", "attributes", "rounded"),
    [
        ("AveragePool", {"kernel_shape": [3, 3]}, True),
        ("GlobalAveragePool", {}, True),
        ("ReduceMean", {"axes": [2, 3]}, True),
        ("MaxPool", {"kernel_shape": [2, 2]}, False),
        ("Relu", {}, False),
        ("LeakyRelu", {"alpha": 3.0}, False),
        ("LeakyRelu", {"alpha": 1e-30 - 1}, False),
        ("LeakyRelu", {"alpha": -1e-20}, True),  # 1 - alpha is no double
    ],
)
def test_operators_whose_weights_are_rounded_are_marked(kind, attributes, rounded):
    graph = read_onnx(onnx_model(kind, **attributes), check=False)
    assert any(node.rounded for node in graph.nodes if isinstance(node, Affine)) == rounded


# ---- leaves, and sets without rows


def test_a_leaf_that_double_precision_leaves_open_is_decided_further():
    phases = [np.array([1, -1], dtype=np.int8)]
    for strict, closed in ((True, True), (False, False)):
        first = settled(ABSOLUTE, interval(F(0), F(1)), phases, below(F(0), strict))
        assert not first.closed
        second = first.further(5.0)
        assert second.closed == closed
        if not closed:
            assert second.exact == (0,) and second.point.tolist() == [0.0] and "X_0 = 0" in second.reason


def test_a_strict_row_at_zero_is_no_witness_of_a_leaf():
    phases = [np.array([1, -1], dtype=np.int8)]
    for strict, status in ((True, LeafStatus.undecided), (False, LeafStatus.witness)):
        assert settle(ABSOLUTE, interval(F(0), F(1)), phases, below(F(0), strict)).status is status


def test_what_float64_loses_of_a_row_is_charged_to_a_leafs_certificate():
    """y - 1/10 < 0 on [0.1, 1] as doubles, 0.1 a hair above 1/10: only exact arithmetic may close it."""
    phases, inputs = [np.array([1, -1], dtype=np.int8)], interval(F(0.1), F(1))
    tiny = verdict_cases.unsafe_of([Row({0: F(1) + F(1, 10**17)}, -F(0.1) * (1 - F(1, 10**17)), False)], 1, 1)
    assert tiny.lost is not None and tiny.rows.tolist() == [[1.0]]
    assert settle(ABSOLUTE, inputs, phases, tiny).status is not LeafStatus.closed
    assert settled(ABSOLUTE, inputs, phases, tiny).further(5.0).closed
    huge = UnsafeSet(tiny.rows, tiny.constants + 0.5, None, (Row({0: F(-1)}, F(1, 2), False),))  # far from its arrays
    assert settle(ABSOLUTE, inputs, phases, huge).status is not LeafStatus.closed


def test_a_flat_box_is_decided_whatever_its_neurons_are():
    third = F(1, 3)
    inputs = interval(third, third)
    phases = [np.zeros(2, dtype=np.int8)]
    for threshold, strict, closed in ((third, True, True), (third, False, False), (third - F(1, 10**40), False, True)):
        assert settled(ABSOLUTE, inputs, phases, below(threshold, strict)).further(5.0).closed == closed


class Exactly:
    """A judge that accepts what is in the set."""

    def __init__(self, prop):
        self.prop = prop

    def __call__(self, x, goal, exact=None):
        return x if self.prop.cases[goal[0]].inputs.holds([F(v) for v in x]) else None


def test_sets_without_rows_are_asked_for_a_point_with_strict_borders():
    nothing = UnsafeSet(np.zeros((0, 1)), np.zeros(0))

    def answer(*opens, rows=()):
        prop = Property((Case(interval(F(0), F(1), *opens, rows=rows), (nothing,)),), 1, 1)
        return answered(prop, Exactly(prop))

    left, witness = answer(frozenset({0}), frozenset({0}))
    assert witness is not None
    left, witness = answer(rows=[Row({0: F(1)}, F(0), False)])  # x <= 0: the border alone
    assert witness.tolist() == [0.0]
    left, witness = answer(rows=[Row({0: F(1)}, F(0), True)])  # x < 0
    assert witness is None and not left.cases
    left, witness = answer(frozenset({0}), frozenset(), rows=[Row({0: F(3)}, -F(1, 10**20), False)])
    assert witness is not None and 0 < witness[0] <= 1e-20


def test_points_in_words():
    assert in_words([F(1, 3), F(1, 2), F(-2)]) == "X_0 = 1/3, X_1 = 0.5, X_2 = -2.0"
    assert in_words([F(k) for k in range(8)]).endswith("X_5 = 5.0 and 2 more")
    assert "about" in in_words([F(1, 3**60)])


def test_leaky_slopes_are_float32_numbers():
    leaky = network(([[1.0]], [0.0]), ([[1.0]], [0.0]), function=LeakyReLU(0.1))
    slope = F(leaky.nodes[2].function.slope)
    assert Rational(leaky).decide(interval(F(-1), F(1)), below(-slope, True)).empty
    assert not Rational(leaky).decide(interval(F(-1), F(1)), below(-slope, False)).empty


def test_enumeration_knows_what_a_trial_is():
    trial = verdict_cases.trial(3)
    question = Question(trial.layers, trial.prop.cases[0].inputs.meaning)
    value, x = question.minimum(trial.prop.cases[0].unsafe[0].meaning[0])
    row = trial.prop.cases[0].unsafe[0].meaning[0]
    assert row.value(output(trial.layers, x), x) == value
