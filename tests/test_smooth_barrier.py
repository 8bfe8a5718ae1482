"""The barrier with smooth activations: the fits, what is proved about them, and the study at reduced size."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from studies import smooth_fit
from studies.smooth_barrier import RUNGS, fitted, halves, rest, spurious, study

from partita.problems.network.library import barrier
from partita.relaxations.bound import bound


@pytest.fixture(scope="module")
def pair():
    return fitted(6, seed=0, steps=60)


def test_the_halves_make_the_barrier():
    x = smooth_fit.grid(-1, 1, 21)
    f_1, f_2 = halves()
    assert torch.equal(f_2(f_1(x)), barrier(1.0)(x))
    u = f_1(x)
    assert torch.allclose(f_2(u), -torch.relu(u.min(-1, keepdim=True).values - 0.5))


def test_sigmoid_and_tanh_networks_are_one_function(pair):
    x = smooth_fit.grid(-1, 1, 21)
    a, b = pair.network(3.0)(x), pair.network(3.0, sigmoid=True)(x)
    assert torch.allclose(a, b, atol=1e-10)
    assert torch.allclose(a, 3 * pair.second(pair.first(x)), atol=1e-10)
    assert torch.allclose(smooth_fit.minus(pair.network(3.0), barrier(3.0))(x), a - barrier(3.0)(x), atol=1e-12)


def test_fits_repeat_and_come_close(pair):
    again = fitted(6, seed=0, steps=60)
    assert torch.equal(again.first.inner, pair.first.inner) and torch.equal(again.second.outer, pair.second.outer)
    x = smooth_fit.grid(-1, 1, 51)
    assert (pair.network(1.0)(x) - barrier(1.0)(x)).abs().max() < 0.1


def test_the_boxes_tile_the_square():
    pieces = smooth_fit.boxes(-1, 1, 3)
    assert len(pieces) == 9 and sum(np.prod(p.upper - p.lower) for p in pieces) == pytest.approx(4)


@pytest.mark.parametrize("sigmoid", [False, True])
def test_no_layerwise_relaxation_exceeds_the_value_at_the_spurious_point(pair, sigmoid):
    graph = pair.network(2.0, sigmoid)
    most, a, b = spurious(graph, points=64)
    cut = graph.layers[0].position
    h = graph.values(torch.stack([a, b]))[cut].mean(0)
    at = rest(graph, cut)(h).item()
    assert at <= most <= at + 1e-9, "an enclosure of the value at the midpoint"
    assert most < -0.6, "near -k/2, which is what ReLU's barrier has there"
    for name in RUNGS:
        assert bound(graph, (-np.ones(2), np.ones(2)), name).lower[0] <= most


def test_the_study():
    found = study(seed=1, widths=(4, 6), steps=2, side=24, fitting=60)
    fits, ceilings, growth, splits = found.tables
    for row in fits.rows:
        for sampled, proved in zip(row[1::2], row[2::2], strict=True):
            assert 0 < sampled <= proved
    for row in ceilings.rows:
        assert row[3] is not None and row[3] <= row[2] and row[6] > 0.2, "proved to lose"
    first, later = growth.rows[0], growth.rows[2]
    assert later[4] == pytest.approx(4 * first[4], rel=1e-6), "in proportion to k"
    assert all(value <= row[4] for row in growth.rows for value in row[5:])
    crown = splits.column("crown")
    assert crown == sorted(crown) and crown[-1] > ceilings.rows[-1][5], "splits get past what one piece cannot"
    assert found.findings.startswith("Confirmed") and "no exact implementation" in found.findings
    assert set(found.figures) == {"smooth_barrier.svg"}
