"""Rows by cutting planes: what is added to the program is the row that was proved; layers say how far they are off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import dense

from partita.problems.properties.property import Polytope
from partita.relaxations.ladder.anderson import Layer, _add, _highest, layer_of
from partita.relaxations.ladder.triangle import Rows
from partita.relaxations.lp.encode import Addition, encode


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_a_row_says_what_was_proved(slope):
    """y - a z - c v <= offset, on the program's own variables."""
    random = np.random.default_rng(0)
    layer = Layer(
        0, np.array([0, 2, 4]), np.array([5, 6]), np.array([8, 9]), np.ones((2, 3)), np.zeros(2), np.zeros(2), slope
    )
    coefficients, found = np.array([0.5, 0.0, -2.0]), Rows()
    _add(layer, 1, coefficients, 0.75, found)
    for _ in range(10):
        x = random.normal(size=10)
        expected = x[9] - slope * x[6] - coefficients @ x[[0, 2, 4]]
        assert found.coefficients[0] @ x[found.columns[0]] == pytest.approx(expected)
    assert found.sides == [0.75] and len(found.columns[0]) == 3 + bool(slope)


def test_the_largest_value_over_a_box_is_at_a_corner():
    random = np.random.default_rng(1)
    coefficients, lower = random.normal(size=(6, 3)), random.normal(size=3)
    upper = lower + random.random(3)
    corners = np.stack(np.meshgrid(*zip(lower, upper, strict=True), indexing="ij"), -1).reshape(-1, 3)
    np.testing.assert_allclose(_highest(coefficients, lower, upper), (coefficients @ corners.T).max(1))


class Kept(Addition):
    """Keeps the layer of the first activations."""

    def before(self, building, position):
        pass

    def after(self, building, position):
        self.layer = layer_of(building, position, building.kinks[position].neurons)


def test_a_bias_in_doubt_puts_its_neuron_in_doubt():
    graph = dense([[1.0, -1.0], [2.0, 1.0]], [0.25, -0.5])
    box, layers = Polytope(-np.ones(2), np.ones(2)), []
    for doubt in (None, torch.tensor([0.125, 0.0], dtype=torch.float64)):
        nodes = list(graph.nodes)
        nodes[1] = replace(nodes[1], doubt=doubt)
        kept = Kept()
        encode(replace(graph, nodes=tuple(nodes)), box, additions=[kept])
        layers.append(kept.layer)
    plain, doubted = layers
    np.testing.assert_array_equal(plain.weight, [[1.0, -1.0], [2.0, 1.0]])
    np.testing.assert_array_equal(plain.bias, [0.25, -0.5])
    assert (plain.doubt > 0).all() and (plain.doubt < 1e-13).all()
    np.testing.assert_allclose(doubted.doubt - plain.doubt, [0.25, 0.0], atol=1e-12)
