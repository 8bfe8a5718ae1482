"""Networks built to fool verifiers that trust floating-point arithmetic, and what the stated slack is worth.

Zombori, Banhelyi, Csendes, Megyeri and Jelasity (Fooling a complete neural network verifier, ICLR 2021) put a large
constant through a layer so that what is added to it drowns in rounding: computed with one order of summation or
precision a neuron is dead, in exact arithmetic it is not. A verifier that computes in float32 and neglects its
rounding calls such networks safe. Here the truth is known by construction, in rational arithmetic.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from networks import random_graph, random_property
from search import verify

import partita
from partita.problems.network.activation import ReLU
from partita.problems.network.affine import Dense, Identity, Select
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.property import box_property
from partita.relaxations.linear.root import in_float64, root
from partita.relaxations.types import Pieces, Rows

SPLITS = ("auto", "input", "polyhedral", "activation")


def network(*layers: tuple[list[list[float]], list[float]]) -> Graph:
    """A ReLU network from (weight, bias) pairs; the last one has no activation."""
    nodes: list = [Input(len(layers[0][0][0]))]
    for depth, (weight, bias) in enumerate(layers):
        operator = Dense(torch.tensor(weight, dtype=torch.float64))
        nodes.append(Affine((len(nodes) - 1,), (operator,), torch.tensor(bias, dtype=torch.float64)))
        if depth < len(layers) - 1:
            nodes.append(Activation((len(nodes) - 1,), ReLU(), len(bias)))
    return Graph(tuple(nodes), (1, nodes[0].size), (1, nodes[-1].size))


def exactly(graph: Graph, x: list[float]) -> list[Fraction]:
    """The network at x in rational arithmetic."""
    value = [Fraction(v) for v in x]
    for node in graph.nodes[1:]:
        if isinstance(node, Affine):
            weight, bias = node.operators[0].weight.tolist(), node.bias.tolist()
            value = [sum(Fraction(w) * v for w, v in zip(row, value)) + Fraction(b) for row, b in zip(weight, bias)]
        else:
            value = [max(v, Fraction(0)) for v in value]
    return value


def drowned(big: float) -> Graph:
    """y = 1 - 2 relu((big + relu(x)) - big) on x in [0, 1]: 1 - 2x in truth, 1 where x drowns in `big`.

    The sum happens in the second layer's neuron, the subtraction in the third layer's.
    """
    return network(([[1.0], [0.0]], [0.0, 1.0]), ([[1.0, big]], [0.0]), ([[1.0]], [-big]), ([[-2.0]], [1.0]))


def cancelling(big: float, width: int = 4) -> Graph:
    """y = 1 - 2x again; each of `width` neurons carries big x, and their signs alternate."""
    ones = [[big]] * width + [[1.0]]
    last = [[-big if i % 2 else big for i in range(width)] + [-2.0]]
    return network((ones, [0.0] * (width + 1)), (last, [1.0]))


def shifted(big: float) -> Graph:
    """y = 1 - 2 (relu(x + big) - relu(x + big - 1/2) - 1/2) - ...: differences of neurons at `big`, small slopes."""
    return network(([[1.0], [1.0]], [big, big - 0.5]), ([[-2.0, 2.0]], [1.0 + 1e-3]))


BIG = [2.0**20, 2.0**24, 1e8, 2.0**40, 2.0**60]


@pytest.mark.parametrize("attack", ["on", "off"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("big", BIG)
@pytest.mark.parametrize("build", [drowned, cancelling])
def test_a_violation_that_drowns_in_rounding_is_never_called_safe(build, big, precision, attack):
    """y <= 0 is reached at every x >= 1/2, in exact arithmetic; the property says that it never is."""
    graph = build(big)
    assert exactly(graph, [1.0])[0] == -1 and exactly(graph, [0.25])[0] == Fraction(1, 2)
    prop = box_property(np.zeros(1), np.ones(1), np.array([[1.0]]), np.zeros(1))
    for split in SPLITS:
        said = partita.verify(graph, prop, precision=precision, split=split, attack=attack, timeout=2, max_pieces=500)
        assert said.verdict != "unsat"
        if said.verdict == "sat":  # then the original network says so too, as it is evaluated
            assert graph(torch.from_numpy(said.witness[0]))[0] <= 0


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("big", BIG)
@pytest.mark.parametrize("build", [drowned, cancelling])
def test_a_property_that_rounding_seems_to_break_is_never_called_violated(build, big, precision):
    """y >= 2 is never reached: y <= 1. Rounding errors of `big` are larger than that."""
    graph = build(big)
    prop = box_property(np.zeros(1), np.ones(1), np.array([[-1.0]]), np.array([2.0]))
    for split in SPLITS:
        said = partita.verify(graph, prop, precision=precision, split=split, timeout=2, max_pieces=500)
        assert said.verdict != "sat"
        assert said.verdict == "unsat" or big >= 2.0**20


def test_large_offsets_are_settled_where_float64_can_tell():
    """At values of 2^20 float32 loses what matters and float64 does not: the verdict is found in spite of the first."""
    for graph in (drowned(2.0**20), cancelling(2.0**10)):
        for shift, expected in ((1.01, "unsat"), (0.9, "sat")):
            prop = box_property(np.zeros(1), np.ones(1), np.array([[1.0]]), np.array([shift]))
            for precision in ("float32", "float64"):
                assert verify(graph, prop, precision=precision, timeout=10).verdict == expected


def test_differences_of_large_neurons():
    """y = 1e-3 everywhere: safe by less than float32 can see at `big`."""
    for big in (4.0, 2.0**10, 2.0**24):
        graph = shifted(big)
        assert exactly(graph, [0.3])[0] > 0
        prop = box_property(-np.ones(1), np.ones(1), np.array([[1.0]]), np.zeros(1))
        said = verify(graph, prop, precision="float32", timeout=5)
        assert said.verdict == "unsat" or big >= 2.0**24


def test_thousands_of_small_terms():
    """A float32 sum that swallows its terms: 1e8 + 4096 ones; exact to the last one in float64."""
    count = 4096
    graph = network(([[0.0]] + [[1.0]] * count, [1e8] + [0.0] * count), ([[1.0] + [-1.0] * count], [-1e8]))
    # y = -4096 x on [0, 1]: unsafe from x = 1/2 on.
    prop = box_property(np.zeros(1), np.ones(1), np.array([[1.0]]), np.array([2048.0]))
    for precision in ("float32", "float64"):
        said = verify(graph, prop, precision=precision, attack="off", timeout=5, max_pieces=500)
        assert said.verdict != "unsat"


@pytest.mark.parametrize("scale", [1 / 3, 1e4])  # weights that float32 cannot hold, and values that strain it
@pytest.mark.parametrize("kind", ["mlp", "residual", "leaky", "conv"])
def test_slack_covers_what_float32_loses(kind, scale):
    """Forms and bounds of float32 hold at points of the box; what is lost to float64 is of the size of the slack."""
    worst = 0.0
    for seed in range(3):
        graph = _scaled(random_graph(seed, kind, inputs=4, width=8, depth=3), scale)
        case = random_property(seed, graph, radius=0.05).cases[0]
        low, high = torch.from_numpy(case.inputs.lower), torch.from_numpy(case.inputs.upper)
        linear, pieces = root(graph.to(torch.float32), low, high)
        eye = torch.eye(2, dtype=torch.float32)
        rows = Rows(torch.cat([eye, -eye])[None], torch.zeros(1, 4))
        result = linear.bound(pieces, rows).result
        wide = in_float64(graph, linear, pieces)
        loose = Pieces.boxes(pieces.lower.double(), pieces.upper.double(), graph.neurons)
        precise = wide.bound(loose, Rows(rows.coefficients.double(), rows.constants.double())).result
        assert (result.slack > 0).all()
        for t in np.linspace(0, 1, 7):
            x = (low + t * (high - low)).numpy()
            y = graph(torch.from_numpy(x)).numpy()
            values = np.concatenate([y, -y])
            for found in (result, precise):
                forms, constants, lower = (t[0].double().numpy() for t in (found.forms, found.constants, found.lower))
                assert (values >= lower - 1e-12 * scale).all()
                assert (values >= forms @ x + constants - 1e-12 * scale).all()
            without = (result.forms[0].double().numpy() @ x) + (result.constants + result.slack)[0].double().numpy()
            worst = max(worst, float((without - values).max()) / float(result.slack.max()))
        lost = (precise.lower - result.lower.double())[0]
        assert (lost <= 50 * result.slack[0].double() + 1e-4 * scale).all()
    # The slack is needed, if far from all of it: without it some form is wrong by this share of it.
    assert 0 < worst < 1


def _scaled(graph: Graph, scale: float) -> Graph:
    """The same network with its first layer multiplied by `scale`."""
    nodes = list(graph.nodes)
    first = nodes[1]
    operator = first.operators[0]
    weight = operator.rows(torch.arange(operator.n_out), torch.float64)
    nodes[1] = Affine(first.inputs, (Dense(weight * scale),), first.bias * scale, first.name)
    return Graph(tuple(nodes), graph.input_shape, graph.output_shape)


@pytest.mark.parametrize("relaxation", ["crown", "k-relu", "prima", "m-1", "triangle"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("operator", [Identity(3), Select(torch.tensor([2, 0, 1]), 3)], ids=["identity", "select"])
def test_layers_without_weights_are_bounded_in_either_precision(relaxation, precision, operator):
    """An index map has no number of its own, and so no dtype of its own."""
    random = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=random)  # noqa: E731
    nodes = [Input(13), Affine((0,), (Dense(draw(3, 13)),), 0.2 * draw(3)), Activation((1,), ReLU(), 3)]
    nodes += [Affine((1,), (operator,), draw(3)), Activation((3,), ReLU(), 3)]
    nodes += [Affine((2, 4), (Dense(draw(1, 3)), Dense(draw(1, 3))), draw(1))]
    graph = Graph(tuple(nodes), (1, 13), (1, 1))
    least = partita.bound(graph, (-torch.ones(13), torch.ones(13)), relaxation="exact").lower[0]
    for threshold, right in ((least - 0.01, "unsat"), (least + 0.01, "sat")):
        prop = box_property([-1.0] * 13, [1.0] * 13, [[1.0]], [-threshold])
        options = {"relaxation": relaxation, "precision": precision, "attack": "off"}
        assert partita.verify(graph, prop, timeout=20, **options).verdict == right
