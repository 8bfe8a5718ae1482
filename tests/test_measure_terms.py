"""What measured trees take from relaxations: rows with all their terms, and pieces with all that is known of them."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import random_box, random_graph, sample

from partita.bab.comparing.measured import Region
from partita.bab.comparing.measures import as_pieces, boxes_of, cut_by, measure_for, rows_for
from partita.relaxations.ladder import ladder, triangle


@pytest.fixture(scope="module")
def network():
    graph = random_graph(3, "mlp", inputs=2, width=4, depth=2).to(torch.float64)
    return graph, random_box(3, 2, 0.7)


def measured(network, name: str, rows=((1.0, -1.0),), constants=(0.25,), on_input=None):
    graph, inputs = network
    given = None if on_input is None else np.array(on_input)
    goal = SimpleNamespace(rows=np.array(rows), constants=np.array(constants), on_input=given)
    goal.closed, goal.worst = lambda values: False, lambda values: 0
    return measure_for(graph, goal, inputs, name, True)


@pytest.mark.parametrize(("lowest", "constant"), [(0.1, 1e16), (1e16, 0.1), (-0.1, 0.3), (1 / 3, -1 / 3)])
def test_a_rows_constant_is_added_with_its_rounding(network, lowest, constant, monkeypatch):
    found, whole = measured(network, "triangle", constants=[constant]), Region(network[1])
    monkeypatch.setattr(ladder, "minima", lambda *a: np.array([lowest]))
    bound, exact = found.bound([whole])[0].values[0], Fraction(lowest) + Fraction(constant)
    assert Fraction(bound) < exact and float(exact) - bound < 1e-14 * (abs(lowest) + abs(constant))
    for value in (np.inf, -np.inf):
        monkeypatch.setattr(ladder, "minima", lambda *a, value=value: np.array([value]))
        assert found.bound([whole])[0].values[0] == value


def test_a_row_has_its_output_and_its_input(network, monkeypatch):
    found, costs = measured(network, "triangle", on_input=[[0.5, -2.0]]), []
    monkeypatch.setattr(triangle.Cutting, "minimise", lambda self, cost: costs.append((self.encoding, cost)) or 0.0)
    found.bound([Region(network[1])])
    ((encoding, cost),) = costs
    first = encoding.first[network[0].output]
    assert cost[:2].tolist() == [0.5, -2.0] and cost[first : first + 2].tolist() == [1.0, -1.0]
    assert np.count_nonzero(cost) == 4


@pytest.mark.parametrize("name", ["ibp", "crown", "alpha-crown", "triangle"])
def test_bounds_of_pieces_hold_at_their_points(network, name):
    """Pieces with decided neurons, on each of which the row is sampled; one that has none is empty or holds."""
    graph, inputs = network
    found = measured(network, name, on_input=[[0.5, -0.25]])
    x = sample(inputs, 4000, 0)
    values = graph.values(torch.from_numpy(x))
    z = torch.cat([values[graph.nodes[i].inputs[0]] for i in graph.layer_at], 1).numpy()
    row = values[-1].numpy() @ [1.0, -1.0] + x @ [0.5, -0.25] + 0.25
    regions = [Region(inputs, phases) for phases in ((), ((0, 1),), ((1, -1),), ((0, -1), (2, 1)), ((3, -1), (5, 1)))]
    seen = 0
    for region, known in zip(regions, found.bound(regions), strict=True):
        inside = np.ones(len(x), dtype=bool)
        for k, s in region.phases:
            inside &= s * z[:, k] >= 0
        if inside.any():
            seen += 1
            assert known.values[0] <= row[inside].min() + 1e-9
            for i, (low, high) in enumerate(known.boxes):
                own = values[i].numpy()[inside]
                assert (own >= low.numpy() - 1e-9).all() and (own <= high.numpy() + 1e-9).all()
    assert seen >= 3


def test_pieces_carry_their_decisions_and_boxes(network):
    graph, inputs = network
    regions = [Region(inputs, ((0, 1), (5, -1))), Region(inputs, ((2, -1),))]
    boxes = [boxes_of(graph, region) for region in regions]
    pieces = as_pieces(graph, regions, boxes)
    assert pieces.neuron.tolist() == [[0, 5], [2, -1]] and pieces.sign.tolist() == [[1.0, -1.0], [-1.0, 0.0]]
    sources = [graph.nodes[i].inputs[0] for i in graph.layer_at]
    for b, own in enumerate(boxes):
        assert torch.equal(pieces.pre_lower[b], torch.cat([own[j][0] for j in sources]))
        assert torch.equal(pieces.pre_upper[b], torch.cat([own[j][1] for j in sources]))
    moved = pieces.with_pre(pieces.pre_lower.clone(), pieces.pre_upper.clone())
    middle = (moved.pre_lower[0, 0] + moved.pre_upper[0, 0]) / 2
    moved.pre_upper[0, 0] = middle
    cut = cut_by(graph, boxes[0], moved, 0)
    assert float(cut[sources[0]][1][0]) == pytest.approx(float(middle))
    assert float(cut[sources[0]][0][0]) == float(boxes[0][sources[0]][0][0])


def test_what_is_known_of_a_piece_is_kept(network):
    """Boxes are those of the input and those of the parent, whichever are tighter; crossed ones are empty."""
    graph, inputs = network
    plain = boxes_of(graph, Region(inputs))
    values = graph.values(torch.from_numpy(sample(inputs, 50, 1)))
    tighter = tuple((v.amin(0), v.amax(0)) for v in values)
    found = boxes_of(graph, Region(inputs, (), tighter))
    assert found is not None
    for own, tight, wide in zip(found, tighter, plain, strict=True):
        assert (own[0] <= tight[0] + 1e-9).all() and (own[1] >= tight[1] - 1e-9).all()
        assert (own[0] >= wide[0]).all() and (own[1] <= wide[1]).all()
    assert torch.equal(found[0][0], tighter[0][0]) and torch.equal(found[0][1], tighter[0][1])
    wider = [(low - 1.0, high + 1.0) for low, high in plain]
    again = boxes_of(graph, Region(inputs, (), tuple(wider)))
    assert all(torch.equal(a[0], p[0]) and torch.equal(a[1], p[1]) for a, p in zip(again, plain, strict=True))
    beyond = [(high + 1.0, high + 2.0) for _, high in plain]
    assert boxes_of(graph, Region(inputs, (), tuple(beyond))) is None


def test_rows_are_the_goals_for_every_piece():
    goal = SimpleNamespace(rows=np.eye(2), constants=np.array([0.5, -1.0]), on_input=np.ones((2, 3)))
    rows = rows_for(goal, 4)
    assert rows.coefficients.shape == (4, 2, 2) and rows.constants.tolist() == [[0.5, -1.0]] * 4
    assert rows.on_input.shape == (4, 2, 3)
