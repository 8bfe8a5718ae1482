"""The study of the cost of relaxation at reduced size: what its tables must show whatever the numbers are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from studies.cost_of_relaxation import Size, _rise, study

SMALL = Size(
    depths=(1, 2, 3, 4, 5, 6),
    draws=2,
    many=3,
    seeds=2,
    radii=(0.001, 0.01, 0.1, 1.0, 3.0, 10.0, 30.0),
    radius_depths=(1, 3),
    step_radii=(1e-6, 1e-3, 0.1, 1.0),
    trained_radii=(0.01, 0.03, 0.1, 0.3, 1.0),
    step_depths=(1, 3),
    lattice_depths=(2,),
    lattice_steps=4,
    chains=2,
    points=100,
    images=1,
    exact_radii=(0.02,),
)


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PARTITA_BENCH", raising=False)
        return study(0, SMALL)


def test_samples_stay_below_every_bound(found):
    depth, real = found.tables[0], found.tables[8]
    for table in (depth, real):
        for row in table.rows:
            centre, most, telescoped, recursive, width = row[-7:-2]
            assert centre <= most <= telescoped * (1 + 1e-12) and telescoped <= recursive * 1.001
            assert recursive <= width * (1 + 1e-9)
    assert any(row[-6] > 0 for row in real.rows)


def test_growth_with_depth_and_radius(found):
    rates = {row[0]: row for row in found.tables[1].rows}
    assert 0.6 < rates["centre, intervals"][3] < 1.4
    assert rates["found, crown"][3] < rates["found, intervals"][3]
    for _, _, late in found.tables[4].rows:
        assert late == pytest.approx(1, abs=0.1)


def test_no_published_rate_is_corrected_from_a_few_draws(found):
    """The rate has its spread over draws beside it, and is held against no number that was measured otherwise."""
    draws = found.tables[2]
    assert draws.column("draws") == [3, 3, 2, 2]
    for row in draws.rows:
        first, mean, deviation, least, greatest = row[3:]
        assert least <= min(first, mean) and max(first, mean) <= greatest and 0 <= deviation <= greatest - least
    assert "corrects" not in found.findings and "neither confirm nor correct" in found.findings


def test_networks_as_in_the_authors_code():
    """Widths as their notebook prints them, every layer from the same seed, rates as a reader of it recomputed them."""
    from studies.chord_subjects import at_centre, published_subjects

    some = published_subjects(5)
    widths = [[s.graph.nodes[i].size for i in s.graph.layer_at] for s in some]
    assert widths == [[47, 10], [50, 67, 10], [70, 70, 12, 10], [86, 24, 39, 90, 10], [73, 91, 91, 15, 61, 10]]
    first, second = (some[2].graph.nodes[i].operators[0].weight.T.flatten() for i in (1, 3))
    assert (first[:4900] == second).all()
    logs = np.log10([at_centre(s) for s in published_subjects(30)])
    assert np.polyfit(range(1, 31), logs, 1)[0] == pytest.approx(1.014, abs=5e-4)
    assert (logs[-1] - logs[0]) / 29 == pytest.approx(0.957, abs=5e-4)


def test_the_lattice_from_bottom_to_top(found):
    lattice, falls, witness = found.tables[5:8]
    for row in lattice.rows:
        if row[1] == 0:
            assert row[2] == row[5] == 0
    assert [row[2] for row in witness.rows] == [0, 0.5, 0.5, 0]
    assert all(row[1] <= row[3] + 1e-9 for row in witness.rows)
    assert len(falls.rows) == 3
    assert "that the top is the worst element" in found.findings


def test_the_exact_supremum_lies_between(found):
    for row in found.tables[9].rows:
        sampled, exact, *bounds = row[3:]
        assert 0 < sampled <= exact + 1e-6 and exact <= min(bounds) + 1e-5


def test_where_the_class_changes(found):
    steps = found.tables[10]
    for row in steps.rows:
        proved, first = row[4], row[5]
        assert proved is None or first is None or proved < first
    assert any(row[5] is not None for row in steps.rows)
    radii = [0.1, 1.0, 10.0, 100.0]
    assert _rise(radii, np.array([0, 0, 0.8, 1.0])) == (10.0, 10.0, pytest.approx(2), 1.0)
    assert _rise(radii, np.array([0.5, 0, 0.8, 1.0])) == (None,) * 4
    assert _rise(radii, np.zeros(4)) == (None,) * 4


def test_what_is_left_out_is_said_and_figures_are_there(found):
    assert "PARTITA_BENCH" in found.tables[8].note
    assert len(found.figures) == 4 and all(name.startswith("cost_") for name in found.figures)


def test_the_benchmark_s_networks_join_in(bench, monkeypatch):
    from studies.chord_subjects import benchmark_subjects

    monkeypatch.setenv("PARTITA_BENCH", str(bench))
    subjects, _ = benchmark_subjects()
    assert [len(s.centres) > 3 and s.graph.input_size for s in subjects] == [784] * 3
    monkeypatch.setenv("PARTITA_BENCH", str(bench / "nowhere"))
    assert benchmark_subjects()[0] == []
