"""The soundness check: few cases of every relaxation, and that it would see a bound that is wrong by a rounding."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from partita.problems.network.graph import Activation

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import check_soundness
from measure import soundness

CUT, TINY = 2, 15  # seeds of a set cut by half-spaces, and of a tiny one


@pytest.fixture(scope="module")
def subjects():
    return [soundness.subject(seed, 3) for seed in (0, CUT)]


@pytest.mark.parametrize("name", check_soundness.NAMES)
def test_no_bound_is_above_an_attained_value(name, subjects):
    with torch.no_grad():
        for word, dtype in check_soundness.PRECISIONS.items():
            if not check_soundness.works_in(name, word):
                continue
            line, margins = check_soundness.empty(name, word), []
            for subject in subjects:
                for claims in soundness.claimed(subject, name, dtype):
                    margins += check_soundness.add(line, subject, claims)
            assert len(margins) >= 6 and min(margins) >= 0, line
            assert line["neurons"] and not line["broken"] and not line["found"], line


def test_where_nothing_is_nonlinear_bounds_meet_attained_values():
    subject = soundness.subject(TINY, 3)
    assert (subject.polytope.upper - subject.polytope.lower).max() < 1e-3
    for dtype, most in ((torch.float64, 1e-13), (torch.float32, 1e-4)):
        (claims,) = soundness.claimed(subject, "crown", dtype)
        assert 0 <= soundness.judged(subject, claims)[0].max() < most


@pytest.mark.parametrize("lift", [1e-13, 1.0, torch.inf])
def test_a_bound_that_is_too_high_is_seen(lift, subjects):
    subject = subjects[0]
    claims = soundness.claimed(subject, "crown", torch.float64)[0]
    margins = soundness.judged(subject, claims)[0]
    wrong = replace(claims, lower=claims.lower + margins + lift)
    line = check_soundness.empty("crown", "float64")
    assert max(check_soundness.add(line, subject, wrong)) < 0 and line["found"][0]["seed"] == subject.seed


def test_a_pre_activation_bound_that_is_too_tight_is_seen(subjects):
    subject = subjects[0]
    claims = soundness.claimed(subject, "crown", torch.float64)[0]
    assert soundness.judged(subject, claims)[2] == 0
    z = subject.neurons[0]
    wrong = replace(claims, pre=(z.amin(0)[None] + 1e-13, z.amax(0)[None] - 1e-13))
    assert soundness.judged(subject, wrong)[2] == z.shape[1]


@pytest.mark.parametrize("seed", range(4))
def test_float64_values_lie_within_their_stated_error_of_exact_ones(seed):
    subject = soundness.subject(seed, 1)
    graph, x = subject.graph, subject.points[::400]
    values, errors = soundness.evaluated(graph, x)
    for p, point in enumerate(x.tolist()):
        exact = [[Fraction(v) for v in point]]
        for node in graph.nodes[1:]:
            if isinstance(node, Activation):
                slope = Fraction(node.function.slope)
                exact.append([max(v, slope * v) for v in exact[node.inputs[0]]])
                continue
            total = [Fraction(b) for b in node.bias.tolist()]
            for operator, i in zip(node.operators, node.inputs, strict=True):
                rows = operator.rows(torch.arange(operator.n_out), torch.float64).tolist()
                products = [sum(Fraction(a) * v for a, v in zip(row, exact[i], strict=True)) for row in rows]
                total = [t + product for t, product in zip(total, products, strict=True)]
            exact.append(total)
        for value, error, truth in zip(values[-1][p].tolist(), errors[-1][p].tolist(), exact[-1], strict=True):
            assert abs(Fraction(value) - truth) <= error < 1e-12


def test_points_lie_in_their_set(subjects):
    polytope, points = subjects[1].polytope, subjects[1].points.tolist()
    assert len(polytope.offsets) == 2 and len(points) > 100
    for point in points[::10] + points[-6:]:
        assert all(low <= v <= high for low, v, high in zip(polytope.lower, point, polytope.upper, strict=True))
        for normal, offset in zip(polytope.normals.tolist(), polytope.offsets.tolist(), strict=True):
            assert sum(Fraction(n) * Fraction(v) for n, v in zip(normal, point, strict=True)) <= Fraction(offset)


def test_pieces_hold_the_points_that_are_counted_in_them(subjects):
    subject = subjects[0]
    made = soundness.batch(subject, torch.float64)
    pieces, inside = soundness.some_pieces(subject, made.root, 4)
    assert len(pieces) == 4 and inside.any(1).all() and not inside.all()
    for b in range(4):
        z = subject.neurons[0][inside[b]]
        for neuron, sign in zip(pieces.neuron[b].tolist(), pieces.sign[b].tolist(), strict=True):
            assert neuron < 0 or bool((sign * z[:, neuron] > 0).all())


def test_a_file_keeps_what_other_runs_checked(tmp_path, monkeypatch, capsys):
    path = tmp_path / "soundness.json"
    for names in ("crown", "ibp,crown"):
        arguments = ["check", "--cases", "40", "--relaxations", names, "--out", str(path)]
        monkeypatch.setattr(sys, "argv", arguments)
        assert check_soundness.main() == 0
    lines = json.loads(path.read_text(encoding="utf-8"))["lines"]
    assert [line["relaxation"] for line in lines] == ["ibp", "ibp", "crown", "crown"]
    assert [line["precision"] for line in lines] == ["float32", "float64"] * 2
    assert all(line["cases"] == 40 and line["wrong"] == 0 and line["commit"] is not None for line in lines)
    assert "| ibp | float32 | 40 | 0 |" in capsys.readouterr().out


def test_a_name_that_is_none_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["check", "--relaxations", "crow"])
    with pytest.raises(SystemExit, match="no relaxation 'crow'"):
        check_soundness.main()
