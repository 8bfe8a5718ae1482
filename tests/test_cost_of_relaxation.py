"""The study of the cost of relaxation at reduced size: what its tables must show whatever the numbers are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from studies.cost_of_relaxation import Size, _rise, study

SMALL = Size(
    depths=(1, 2, 3, 4, 5, 6),
    draws=2,
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
    depth, real = found.tables[0], found.tables[7]
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
    for _, _, late in found.tables[3].rows:
        assert late == pytest.approx(1, abs=0.1)


def test_the_lattice_from_bottom_to_top(found):
    lattice, falls, witness = found.tables[4:7]
    for row in lattice.rows:
        if row[1] == 0:
            assert row[2] == row[5] == 0
    assert [row[2] for row in witness.rows] == [0, 0.5, 0.5, 0]
    assert all(row[1] <= row[3] + 1e-9 for row in witness.rows)
    assert len(falls.rows) == 3
    assert "that the top is the worst element" in found.findings


def test_the_exact_supremum_lies_between(found):
    for row in found.tables[8].rows:
        sampled, exact, *bounds = row[3:]
        assert 0 < sampled <= exact + 1e-6 and exact <= min(bounds) + 1e-5


def test_where_the_class_changes(found):
    steps = found.tables[9]
    for row in steps.rows:
        proved, first = row[4], row[5]
        assert proved is None or first is None or proved < first
    assert any(row[5] is not None for row in steps.rows)
    import numpy as np

    radii = [0.1, 1.0, 10.0, 100.0]
    assert _rise(radii, np.array([0, 0, 0.8, 1.0])) == (10.0, 10.0, pytest.approx(2), 1.0)
    assert _rise(radii, np.array([0.5, 0, 0.8, 1.0])) == (None,) * 4
    assert _rise(radii, np.zeros(4)) == (None,) * 4


def test_what_is_left_out_is_said_and_figures_are_there(found):
    assert "PARTITA_BENCH" in found.tables[7].note
    assert len(found.figures) == 4 and all(name.startswith("cost_") for name in found.figures)


def test_the_benchmark_s_networks_join_in(bench, monkeypatch):
    from studies.chord_subjects import benchmark_subjects

    monkeypatch.setenv("PARTITA_BENCH", str(bench))
    subjects, _ = benchmark_subjects()
    assert [len(s.centres) > 3 and s.graph.input_size for s in subjects] == [784] * 3
    monkeypatch.setenv("PARTITA_BENCH", str(bench / "nowhere"))
    assert benchmark_subjects()[0] == []
