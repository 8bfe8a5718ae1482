"""Biases that folding rounds: how far is kept beside them, and every bound charges it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction as F
from random import Random

import numpy as np
import pytest
import torch

import partita
from partita.bab.config import load_config
from partita.problems.network.activation import LeakyReLU
from partita.problems.network.affine import Dense, Diagonal
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.network.simplify import simplify
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet
from partita.problems.properties.rational import Row
from partita.relaxations.leaf.cell import cell_of
from partita.relaxations.linear.ibp import interval_root
from partita.relaxations.lp.boxes import node_boxes
from partita.relaxations.reals.at_point import AtPoint
from partita.relaxations.studies.differentiable import crown_box

E = 2.0**-30


def real(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def number(random: Random) -> float:
    """Sums of these cancel, down to the last bits and beyond."""
    return random.choice((0.0, 1.0, 1 + E, 1 + 2 * E, 0.1, 3.0, 1e-12)) * random.choice((-1, 1, 1 + 2.0**-52, 2.0**-20))


@pytest.mark.parametrize("seed", range(200))
def test_a_folded_bias_is_within_its_doubt_of_the_exact_one(seed):
    random = Random(seed)
    size, nodes, exact = random.randint(1, 3), [Input(1)], None
    for k in range(random.randint(2, 5)):
        before = 1 if k == 0 else size
        weight = [[number(random) for _ in range(before)] for _ in range(size)]
        bias = [number(random) for _ in range(size)]
        operator = Dense(real(weight))
        if k and random.random() < 0.3:
            weight = [[weight[i][i] if i == j else 0.0 for j in range(size)] for i in range(size)]
            operator = Diagonal(real([weight[i][i] for i in range(size)]))
        nodes.append(Affine((k,), (operator,), real(bias)))
        below = exact or [F(0)] * before
        exact = [sum(F(w) * v for w, v in zip(row, below)) + F(b) for row, b in zip(weight, bias)]
    at = [F(0)]  # the exact bias is the value at 0 of what is folded, and of what is left apart
    graph = simplify(Graph(tuple(nodes), (1,), (size,)))
    doubt = [F(0)]
    for node in graph.nodes[1:]:
        rows = matrix_of(node)
        own = [0.0] * node.size if node.doubt is None else node.doubt.tolist()
        doubt = [sum(abs(F(w)) * d for w, d in zip(row, doubt)) + F(d) for row, d in zip(rows, own)]
        at = [sum(F(w) * v for w, v in zip(row, at)) + F(b) for row, b in zip(rows, node.bias.tolist())]
    if not any(getattr(op, "scale", None) is not None for n in graph.nodes[2:] for op in n.operators):
        assert all(abs(a - b) <= d for a, b, d in zip(at, exact, doubt))


def matrix_of(node: Affine) -> list[list[float]]:
    from partita.problems.network.matrix import matrix

    return matrix(node.operators[0]).tolist()


def test_what_folding_does_not_round_is_not_in_doubt():
    nodes = (
        Input(1),
        Affine((0,), (Dense(real([[1.0]])),), real([0.5])),
        Affine((1,), (Dense(real([[3.0]])),), real([1.0])),
    )
    (_, node) = simplify(Graph(nodes, (1,), (1,))).nodes
    assert node.doubt is None and node.bias.item() == 2.5


def test_weights_that_are_off_put_a_folded_bias_in_doubt():
    """0.5 times 1 is exact in the stored numbers, and 0.5 is not the weight."""
    outer = Diagonal(real([0.5]), scale=real([0.5]))
    nodes = (Input(1), Affine((0,), (Dense(real([[1.0]])),), real([1.0])), Affine((1,), (outer,), real([0.0])))
    (_, node) = simplify(Graph(nodes, (1,), (1,))).nodes
    assert node.doubt is not None and node.doubt.item() >= 2.0**-54


# ---- verdicts


def cancelling(neuron: bool) -> Graph:
    """y0 = -E x - E^2, whose bias is 0 when it is folded; y1 = x + 5, so that the layer's largest bias is large."""
    nodes = [
        Input(1),
        Affine((0,), (Dense(real([[1.0], [1.0], [1.0]])),), real([1 + E, 1 + 2 * E, 5.0])),
        Affine((1,), (Dense(real([[-(1 + E), 1.0, 0.0], [0.0, 0.0, 1.0]])),), real([0.0, 0.0])),
    ]
    if neuron:  # y0 = relu(E x + E^2): positive at 0, by so little
        nodes[2] = Affine((1,), (Dense(real([[1 + E, -1.0, 0.0], [0.0, 0.0, 1.0]])),), real([0.0, 0.0]))
        nodes += [
            Activation((2,), LeakyReLU(0.0), 2),
            Affine((3,), (Dense(real([[1.0, 0.0], [0.0, 1.0]])),), real([0.0, 0.0])),
        ]
    return simplify(Graph(tuple(nodes), (1, 1), (1, 2)))


@pytest.mark.parametrize("relaxation", ["ibp", "deeppoly-0", "crown", "auto", "triangle", "m-1", "k-relu"])
@pytest.mark.parametrize("split", ["auto", "activation"])
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("neuron", [False, True])
def test_a_violation_smaller_than_what_folding_lost_is_never_called_safe(relaxation, split, strict, neuron):
    """At x = 0 y0 is -E^2 (or E^2); the stored network has 0 there."""
    sign = -1 if neuron else 1
    threshold = F(E) ** 2 / 2  # sign y0 + threshold (<, <=) 0 holds at 0
    rows = (Row({0: F(sign)}, threshold, strict), Row({0: F(sign)}, F(0), strict))
    for row in rows[: 1 if not strict else 2]:
        unsafe = UnsafeSet(real([[float(sign), 0.0]]).numpy(), np.array([float(row.constant)]), exact=(row,))
        prop = Property((Case(Polytope(np.array([-1.0]), np.array([0.0])), (unsafe,)),), 1, 2)
        for precision in ("float32", "float64"):
            config = load_config(
                None, {"relaxation": relaxation, "split": split, "precision": precision, "attack": "off"}
            )
            assert partita.verify(cancelling(neuron), prop, config=config, timeout=10).verdict != "unsat"


# ---- every bound charges it


def doubtful(doubt: float, shift: float = 0.0) -> Graph:
    """Two hidden layers, every bias in doubt; `shift` moves the biases instead."""
    random = np.random.default_rng(3)
    nodes, sizes = [Input(3)], (3, 6, 6, 2)
    for k in range(3):
        weight, bias = real(random.normal(size=(sizes[k + 1], sizes[k]))), real(random.normal(size=sizes[k + 1]))
        own = None if not doubt else torch.full_like(bias, doubt)
        nodes.append(
            Affine(
                (len(nodes) - 1,),
                (Dense(weight),),
                bias + shift * real(random.choice((-1, 1), sizes[k + 1])),
                doubt=own,
            )
        )
        if k < 2:
            nodes.append(Activation((len(nodes) - 1,), LeakyReLU(0.0), sizes[k + 1]))
    return Graph(tuple(nodes), (3,), (2,))


NAMES = ["ibp", "deeppoly-0", "crown", "alpha-crown", "triangle", "m-1", "k-relu", "prima", "triangle:tighten=on"]
BOX = (np.full(3, -0.5), np.full(3, 0.5))
DOUBT = 0.05


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_bounds_hold_for_every_bias_within_its_doubt(name, precision):
    if precision == "float32" and name not in ("ibp", "deeppoly-0", "crown", "alpha-crown"):
        pytest.skip("linear programs work in float64")
    found = partita.bound(doubtful(DOUBT), BOX, name, precision=precision)
    tight = partita.bound(doubtful(0.0), BOX, name, precision=precision)
    if name not in ("k-relu", "prima"):  # other neurons are undecided there, so other groups are formed
        assert (found.lower < tight.lower - DOUBT / 2).all() and (found.upper > tight.upper + DOUBT / 2).all()
    x = real(np.random.default_rng(0).uniform(-0.5, 0.5, (2000, 3)))
    for y in (doubtful(0.0, s * DOUBT)(x).numpy() for s in (-1.0, 1.0)):
        assert (found.lower <= y.min(0)).all() and (found.upper >= y.max(0)).all()


def test_intervals_boxes_cells_and_points_charge_doubt():
    graph, plain = doubtful(DOUBT), doubtful(0.0)
    inputs = Polytope(*BOX)
    for with_doubt, without in (
        (node_boxes(graph, inputs)[1], node_boxes(plain, inputs)[1]),
        (
            interval_root(graph, *map(torch.from_numpy, BOX))[0].nodes(
                interval_root(graph, *map(torch.from_numpy, BOX))[1]
            )[1],
            interval_root(plain, *map(torch.from_numpy, BOX))[0].nodes(
                interval_root(plain, *map(torch.from_numpy, BOX))[1]
            )[1],
        ),
        (crown_box(graph, node_boxes(graph, inputs), 1), crown_box(plain, node_boxes(plain, inputs), 1)),
    ):
        assert (with_doubt[0] <= without[0] - DOUBT).all() and (with_doubt[1] >= without[1] + DOUBT).all()
    phases = [np.ones(6, dtype=np.int8)] * 2
    seed = torch.eye(2, dtype=torch.float64)
    errors = [cell_of(g, inputs, phases).pull([(5, seed)])[2] for g in (graph, plain)]
    assert (errors[0] >= errors[1] + DOUBT).all()
    from partita.problems.properties.rational import Numbers

    unsafe = UnsafeSet(np.eye(2), np.zeros(2))
    for measured in (False, True):
        low, high = AtPoint(graph).rows(Numbers(np.zeros(3)), unsafe, measured)
        assert (high - low >= 2 * DOUBT).all()
    sides = AtPoint(graph)._measured(*(torch.zeros(1, 3, dtype=torch.float64),) * 2)[1]
    assert (sides[1] - sides[0] >= 2 * DOUBT).all()


def test_signs_of_biases_in_doubt_are_unknown():
    node = Affine((0,), (Dense(real([[1.0]])),), real([0.0]), doubt=real([1e-18]))
    graph = Graph((Input(1), node), (1,), (1,))
    low, _ = node_boxes(graph, Polytope(np.array([0.0]), np.array([1.0])))[1]
    assert low.item() < 0
    many = Affine((0,), (Dense(real([[1.0]] * 3)),), real([0.0] * 3), doubt=real([1e-18] * 3))
    relaxation, pieces = interval_root(Graph((Input(1), many), (1,), (3,)), real([0.0]), real([1.0]))
    assert (relaxation.nodes(pieces)[1][0] < 0).all()
    for dtype in (torch.float32, torch.float64):
        relaxation, pieces = interval_root(graph.to(dtype), real([0.0]), real([1.0]))
        assert relaxation.nodes(pieces)[1][0].item() < 0
    known = replace(node, doubt=None)
    low, _ = node_boxes(replace(graph, nodes=(Input(1), known)), Polytope(np.array([0.0]), np.array([1.0])))[1]
    assert low.item() == 0


def test_doubt_in_another_precision_is_rounded_upwards():
    doubt = real([0.7, 1e-50, 0.0, 2.0**-149 * 1.4, 1e-45])
    node = Affine((0,), (Dense(real([[1.0]] * 5)),), real([0.0] * 5), doubt=doubt)
    moved = Graph((Input(1), node), (1,), (5,)).to(torch.float32).nodes[1].doubt
    assert moved.dtype == torch.float32 and (moved.double() >= doubt).all() and moved[2] == 0
