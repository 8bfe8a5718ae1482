"""The networks of the theory: values against direct formulas, and the numbers the theory gives for them."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch

from partita.problems.errors import BadInput
from partita.problems.network.activation import ReLU
from partita.problems.network.graph import Activation, Affine, Graph
from partita.problems.network.library import (
    barrier,
    copied_inputs,
    identity_padding,
    maximum,
    pairwise_differences,
    random_network,
    univariate,
    univariate_convex,
)
from partita.problems.network.smooth import Tanh
from partita.relaxations.bound import bound

SQUARE = (-np.ones(2), np.ones(2))


def points(count: int, size: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(low, high, (count, size)))


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-9, atol=1e-9)


def normal_form(graph: Graph) -> bool:
    """An activation reads an affine node, and the output is one."""
    reads = all(isinstance(graph.nodes[graph.nodes[i].inputs[0]], Affine) for i in graph.layer_at)
    return reads and isinstance(graph.nodes[-1], Affine)


@pytest.mark.parametrize("fused", (False, True))
@pytest.mark.parametrize("d", (2, 3, 7))
def test_maximum(d, fused):
    graph, x = maximum(d, fused), points(500, d, -2, 2)
    assert close(graph(x)[:, 0], x.amax(1))
    assert graph.neurons == d - 1 == len(graph.layers) and normal_form(graph)


def test_triangle_and_m_1_on_the_maximum():
    for d, value in ((2, 1.5), (4, 2.245), (6, 2.834), (8, 3.339)):
        assert bound(maximum(d), (np.zeros(d), np.ones(d)), "triangle").upper[0] == pytest.approx(value, abs=6e-4)
        assert bound(maximum(d), (np.zeros(d), np.ones(d)), "m-1").upper[0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("k", (1.0, 8.0))
def test_barrier(k):
    x = points(20_000, 2, -1, 1)
    u1, u2 = (torch.relu(s * 1.5 * x[:, 0] + x[:, 1] - 0.5) for s in (1, -1))
    direct = -k * torch.relu(torch.minimum(u1, u2) - 0.5)
    assert close(barrier(k)(x)[:, 0], direct)
    assert direct.abs().max() == 0  # the second half never sees what would make it fall
    assert bound(barrier(k), SQUARE, "p-1").lower[0] == pytest.approx(-k / 2, abs=1e-5)
    assert bound(barrier(k), SQUARE, "p-3").lower[0] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("shift", (0.0, 1.0))
def test_identity_padding_changes_nothing_but_the_depth(shift):
    graph = random_network((2, 4, 3, 1), seed=3)
    for after, layers in ((0, 0), (0, 3), (1, 2)):
        padded = identity_padding(graph, layers, after, shift)
        assert close(padded(points(300, 2, -3, 3)), graph(points(300, 2, -3, 3)))
        assert len(padded.layers) == 2 + layers and normal_form(padded)
    padded = identity_padding(barrier(1.0), 4)
    assert padded(points(300, 2, -1, 1)).abs().max() == 0
    assert [len(some) for some in bound(padded, SQUARE, "crown").unstable] == [2, 0, 0, 0, 0, 1, 1]


def test_identity_padding_hides_the_first_half_from_short_blocks():
    padded = identity_padding(barrier(1.0), 2)
    errors = [-bound(padded, SQUARE, f"p-{r}").lower[0] for r in range(1, 6)]
    assert errors == pytest.approx([0.5, 0.5, 0.5, 0.25, 0], abs=1e-6)


def test_identity_padding_says_where_it_cannot_be():
    with pytest.raises(BadInput, match="after an activation layer 0 to 1, not 2"):
        identity_padding(random_network((2, 3, 3, 1)), 1, after=2)
    with pytest.raises(BadInput, match="nothing behind reads past it"):
        identity_padding(maximum(4), 1)  # later layers read the input
    with pytest.raises(BadInput, match="layer of ReLUs"):
        identity_padding(random_network((2, 3, 1), function=Tanh()), 1)


@pytest.mark.parametrize("graph", [barrier(2.0), maximum(3), random_network((2, 3, 4, 2), seed=1)], ids=("b", "m", "r"))
def test_copied_inputs_carry_the_inputs_and_change_nothing(graph):
    lower = -np.arange(1, graph.input_size + 1) / 2
    twin = copied_inputs(graph, lower)
    x = torch.as_tensor(lower) + points(300, graph.input_size, 0, 3)
    assert close(twin(x), graph(x))
    values, size = twin.values(x), graph.input_size
    for position in twin.layer_at:
        assert close(values[position][:, -size:], x - torch.as_tensor(lower) + 1)
    assert twin.neurons == graph.neurons + size * len(graph.layers) and normal_form(twin)
    layers = bound(twin, (lower, lower + 3), "crown").layers
    assert all((layer.lower[-size:] > 0.5).all() for layer in layers)  # copies are decided


def test_copied_inputs_refuse_what_they_cannot_copy():
    with pytest.raises(BadInput, match="finite lower bounds"):
        copied_inputs(maximum(2), [0.0, -np.inf])
    with pytest.raises(BadInput, match="other activations"):
        copied_inputs(random_network((2, 3, 1), function=Tanh()), 0.0)


@pytest.mark.parametrize("doubled", (False, True))
@pytest.mark.parametrize("edges", (None, [(0, 1), (3, 2)]))
def test_pairwise_differences(doubled, edges):
    graph, x = pairwise_differences(4, edges, doubled), points(300, 4)
    chosen = list(combinations(range(4), 2)) if edges is None else edges
    assert close(graph(x)[:, 0], sum((x[:, i] - x[:, j]).abs() for i, j in chosen))
    assert graph.neurons == len(chosen) * (1 + doubled) and normal_form(graph)


def test_the_greatest_sum_of_differences_is_a_cut():
    for n in (3, 4, 5):
        box = (np.zeros(n), np.ones(n))
        assert bound(pairwise_differences(n), box, "exact").upper[0] == pytest.approx((n // 2) * (n - n // 2), abs=1e-5)
    for wrong in ([(0, 0)], [(0, 4)], []):
        with pytest.raises(BadInput, match="edges are pairs"):
            pairwise_differences(4, wrong)


def test_univariate_is_one_function_in_every_encoding():
    x = points(500, 1, -4, 4)
    places, changes = np.array([-1.5, 0.25, 2.0]), np.array([1.0, 0.5, 2.25])
    direct = 0.75 - 2 * x[:, 0] + sum(g * torch.relu(x[:, 0] - p) for p, g in zip(places, changes, strict=True))
    for signs in (None, *product((-1, 1), repeat=3)):
        graph = univariate_convex(places, changes, signs, slope=-2.0, value=0.75)
        assert close(graph(x)[:, 0], direct)
        report = bound(graph, ([-3.0], [3.5]), "triangle")
        dense = graph(torch.linspace(-3, 3.5, 6501, dtype=torch.float64)[:, None])
        assert report.upper[0] == pytest.approx(dense.max().item(), abs=1e-6)
        assert report.lower[0] == pytest.approx(dense.min().item(), abs=1e-6)
    assert univariate(places, -changes)(x).max() <= 0
    for wrong, words in (((places, -changes), "positive"), ((places, changes, [1, 0, 1]), r"\+1 or -1")):
        with pytest.raises(BadInput, match=words):
            univariate_convex(*wrong)
    with pytest.raises(BadInput, match="one length"):
        univariate(places, changes[:2])


def test_random_networks_depend_on_their_seed_alone():
    one, same, other = (random_network((3, 5, 4, 2), seed) for seed in (7, 7, 8))
    x = points(50, 3)
    assert torch.equal(one(x), same(x)) and not torch.allclose(one(x), other(x))
    assert [one.nodes[i].size for i in one.layer_at] == [5, 4] and one.nodes[2].function == ReLU()
    uniform = random_network((100, 50, 10), 0, "uniform")
    weights = torch.cat([n.operators[0].weight.reshape(-1) for n in uniform.nodes if isinstance(n, Affine)])
    assert weights.abs().max() <= 1 and abs(weights.var().item() - 1 / 3) < 0.02
    plain = random_network((3, 4, 1), 0, bias=False, function=Tanh())
    assert plain(torch.zeros(1, 3).double()) == 0 and isinstance(plain.nodes[2], Activation)
    with pytest.raises(BadInput, match="widths"):
        random_network((3,))
    with pytest.raises(BadInput, match="at least 2"):
        maximum(1)
