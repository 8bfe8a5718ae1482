"""Pieces that stay convex through every layer: P_1 is exact on them, they cover X, and no more are made than cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from partita.bab.comparing.polyhedral import convexity, polyhedral_partition, verified
from partita.bab.counting.patterns import count
from partita.kernels.vertices import body
from partita.problems.errors import BadInput
from partita.problems.network.library import barrier, copied_inputs, maximum, pairwise_differences, random_network
from partita.problems.properties.property import Polytope
from partita.relaxations.bound import bound


def cube(d: int, low: float = -1.0) -> Polytope:
    return Polytope(np.full(d, low), np.ones(d))


def faces(p: Polytope) -> tuple[np.ndarray, np.ndarray]:
    eye = np.eye(p.size)
    return np.concatenate([eye, -eye, p.normals]), np.concatenate([p.upper, -p.lower, p.offsets])


CASES = [
    ("barrier", barrier(4), cube(2)),
    ("random2", random_network((2, 4, 4, 1), 1), cube(2)),
    ("random3", random_network((3, 3, 3, 2), 1), cube(3)),
    ("deep", random_network((2, 3, 3, 2, 1), 2), cube(2)),
    ("one input", random_network((1, 6, 5, 1), 0), cube(1)),
    ("maximum", maximum(4), cube(4, 0.0)),
]


@pytest.mark.parametrize(("graph", "inputs"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_p1_is_exact_on_every_piece_and_they_cover_the_input_set(graph, inputs):
    found = polyhedral_partition(graph, inputs)
    assert found.finished and found.tried >= len(found.pieces) >= 1
    checked = verified(graph, found.pieces)
    assert checked.exact == checked.pieces == len(found.pieces), checked.worst
    points = np.random.default_rng(0).uniform(inputs.lower, inputs.upper, (2000, inputs.size))
    held = np.array([[p.inputs.contains(x, 1e-8) for x in points] for p in found.pieces])
    assert held.any(0).all()
    strictly = np.array([[p.inputs.contains(x, -1e-8) for x in points] for p in found.pieces])
    assert (strictly.sum(0) <= 1).all()  # interiors are disjoint
    assert len(found.pieces) <= count(graph, inputs).high


def test_cuts_are_needed_where_p1_is_not_exact():
    """The barrier's P_1 bound is wrong on all of X and right on the pieces (theorem 3.3)."""
    whole = bound(barrier(8), cube(2), "p-1")
    assert whole.lower[0] < -3.9
    found = polyhedral_partition(barrier(8), cube(2))
    assert len(found.pieces) > 1
    assert min(bound(barrier(8), p.inputs, "p-1").lower[0] for p in found.pieces) > -1e-5


@pytest.mark.parametrize("seed", range(5))
def test_a_whole_set_that_passes_is_one_on_which_p1_is_exact(seed):
    """Both ways on networks without skips: accepted sets have exact bounds, and the test is no weaker than sampling."""
    graph, inputs = random_network((2, 2, 2, 1), seed).to(torch.float64), cube(2)
    found = convexity(graph, body(*faces(inputs)))
    if found.part is not None:
        loose, sharp = bound(graph, inputs, "p-1:tighten=on"), bound(graph, inputs, "exact")
        assert np.allclose([loose.lower, loose.upper], [sharp.lower, sharp.upper], atol=1e-5)
    else:  # a midpoint of two images that is no image
        x = np.stack(np.meshgrid(*[np.linspace(-1, 1, 161)] * 2), -1).reshape(-1, 2)
        u = graph.values(torch.from_numpy(x))[tuple(graph.layer_at)[found.layer]].numpy()
        random = np.random.default_rng(0)
        pairs = random.integers(len(u), size=(400, 2))
        share = random.random((400, 1))
        middle = share * u[pairs[:, 0]] + (1 - share) * u[pairs[:, 1]]
        distance = np.abs(middle[:, None] - u[None]).max(2).min(1)
        assert distance.max() > 1e-3


def test_one_layer_and_stable_networks_are_one_piece():
    assert len(polyhedral_partition(pairwise_differences(3), cube(3, 0.0)).pieces) == 1
    small = Polytope(np.full(2, 0.9), np.full(2, 0.9001))
    assert len(polyhedral_partition(random_network((2, 5, 4, 1), 1), small).pieces) == 1


def test_half_spaces_of_the_input_set_are_kept():
    inputs = Polytope(-np.ones(2), np.ones(2), np.array([[1.0, 1.0]]), np.array([0.3]))
    found = polyhedral_partition(random_network((2, 5, 4, 1), 3), inputs)
    points = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
    held = np.array([[p.inputs.contains(x, 1e-8) for x in points] for p in found.pieces]).any(0)
    assert (held == (points.sum(1) <= 0.3 + 1e-8)).all()


def test_copied_inputs_make_every_image_carry_its_input():
    """Nothing that is carried along can be forgotten, so copies never take fewer pieces."""
    graph, inputs = barrier(4), cube(2)
    plain = polyhedral_partition(graph, inputs)
    copied = polyhedral_partition(copied_inputs(graph, inputs.lower), inputs)
    assert copied.finished and len(copied.pieces) >= len(plain.pieces)


def test_time_that_ends_leaves_open_pieces():
    found = polyhedral_partition(random_network((3, 8, 8, 8, 1), 0), cube(3), timeout=0.05)
    assert not found.finished and found.open_


@pytest.mark.parametrize(
    ("graph", "inputs", "sentence"),
    [
        (random_network((7, 3, 1), 0), cube(7), "at most 6 inputs"),
        (barrier(4), cube(3), "2 coordinates"),
        (barrier(4), Polytope(np.zeros(2), np.zeros(2)), "flat"),
        (barrier(4), Polytope(np.zeros(2), np.ones(2), np.ones((1, 2)), -np.ones(1)), "empty or flat"),
    ],
)
def test_bad_input(graph, inputs, sentence):
    with pytest.raises(BadInput, match=sentence):
        polyhedral_partition(graph, inputs)


def test_smooth_networks_are_refused():
    from partita.problems.network.smooth import Tanh

    with pytest.raises(BadInput, match="not piecewise linear"):
        polyhedral_partition(random_network((2, 3, 1), 0, function=Tanh()), cube(2))


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_vertices_of_a_cut_cube(d):
    """Both parts' vertices lie in them, their volumes add up (d >= 2), and flat parts are none."""
    from scipy.spatial import ConvexHull

    whole = body(*faces(cube(d)))
    assert len(whole.vertices) == 2**d
    below, above = whole.cut(np.arange(1.0, d + 1), 0.3)
    for part in (below, above):
        assert (part.normals @ part.vertices.T <= part.offsets[:, None] + 1e-9).all()
    if d > 1:
        assert ConvexHull(below.vertices).volume + ConvexHull(above.vertices).volume == pytest.approx(2**d)
    inside, outside = whole.cut(np.eye(d)[0], 1.0)
    assert len(inside.vertices) == 2**d and outside is None
    assert body(np.concatenate([faces(cube(d))[0], np.eye(d)[:1]]), np.append(faces(cube(d))[1], -1.0)) is None
