"""The studies at reduced size: what they find follows from their numbers; and how they are found, printed, written."""

from __future__ import annotations

import json
import sys
from fractions import Fraction as Q
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from partita.bab.commands import main as cli
from partita.bab.commands import study as command
from partita.problems.network.library import barrier, random_network
from partita.relaxations.bound import bound

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from studies import barrier as barrier_study
from studies import (
    bisection,
    carried,
    cells,
    copied_inputs,
    document,
    encodings,
    intervals,
    maximum,
    padding,
    rational,
    regions,
    witnesses,
)
from studies.table import Study, Table, settled, shown

# ---- tables


def test_a_table_says_what_it_holds():
    table = Table("Title", ("n", "word", "x"), [(1000, "a|b", 0.123456), (2, "c", None), (3, "d", True)], "partita x")
    lines = table.markdown().split("\n")
    assert lines[0] == "| n | word | x |" and lines[1] == "| ---: | --- | ---: |"
    assert lines[2] == r"| 1,000 | a\|b | 0.1235 |" and lines[3] == "| 2 | c |  |" and lines[4].endswith("| yes |")
    assert table.plain().split("\n")[1].split() == ["1,000", "a|b", "0.1235"]
    assert table.column("word") == ["a|b", "c", "d"]
    with pytest.raises(ValueError, match="2 cells for 1 columns"):
        Table("Title", ("n",), [(1, 2)])


def test_cells_as_text():
    given = (0.0, 1.5, -2.0, 123456.0, 1e-7, float("inf"), np.float64(0.25), np.int64(7), np.bool_(False), None)
    said = ("0", "1.5", "-2", "1.23e+05", "1.00e-07", "inf", "0.25", "7", "no", "")
    assert tuple(map(shown, given)) == said
    assert settled(0.49999998) == 0.5 and settled(-1e-9) == 0.0 and settled(0.4999) == 0.4999


def test_a_study_is_data_and_text():
    study = Study("s", "Title", "Why?", [Table("T", ("x",), [(float("nan"),)], "partita study s", "note")], "So.")
    assert json.loads(json.dumps(study.data(), allow_nan=False))["tables"][0]["rows"] == [["nan"]]
    text = study.markdown("theory")
    parts = Study("s", "T", "Q", [], "Confirmed: a. Refuted: b (c.) Open: d. Opened.").markdown().split("\n\n")
    assert parts[2:] == ["**Found.** Confirmed: a.", "Refuted: b (c.)", "Open: d. Opened.\n"]
    assert text.startswith("## Title\n\nWhy?\n\n**T** (`partita study s`)") and text.endswith("**Found.** So.\n")


# ---- the studies


def test_barrier_grows_with_k():
    study = barrier_study.study(steps=3)
    errors = study.tables[0]
    assert errors.column("p-1")[:3] == pytest.approx([0.5, 2.0, 8.0], abs=1e-4)
    assert errors.column("p-3")[:3] == [0, 0, 0] and errors.rows[-1][errors.columns.index("p-1")] == 1
    for name, loss in {"triangle": 0.9, "triangle, crown's": 1.2, "k-relu": 0.5, "k-relu, crown's": 1.0}.items():
        assert errors.column(name)[:3] == pytest.approx([loss, 4 * loss, 16 * loss], abs=1e-4)
    assert errors.column("p-2, crown's")[:3] == pytest.approx([0.25, 1, 4], abs=1e-4)
    assert errors.column("p-2")[:3] == [0, 0, 0]
    assert "triangle loses 0.9 k over tightened intervals and 1.2 k over CROWN's" in study.findings
    assert "k-ReLU over tightened intervals is as good as P_1 here" in study.findings
    assert study.tables[1].column("min of f_2 on conv f_1(X)") == pytest.approx([-0.5, -2, -8], abs=1e-4)
    assert "Confirmed" in study.findings and "Refuted: nothing." in study.findings and "with equality" in study.findings


def test_barriers_findings_follow_from_the_errors():
    errors = {(k, name): 0.1 for k in (1, 4) for name in barrier_study.RUNGS}
    slopes = dict.fromkeys(barrier_study.RUNGS, 0.0)
    said = barrier_study._findings([1, 4], errors, slopes, [(-1.0, 0.0, -2.0)] * 2)
    assert "Confirmed" not in said and "Refuted: that P_1's error" in said and "; that the network" in said


def test_padding_jumps_at_the_last_layer():
    study = padding.study(paddings=(0, 2))
    assert study.tables[0].column("intervals") == ["tightened", "tightened", "crown's", "crown's"]
    assert study.tables[0].column("exact from r") == [2, 4, 3, 5]
    assert study.tables[0].column("error there, k = 1") == [0.5] * 4
    assert study.tables[0].column("error at r = L - 1, k = 1") == [0, 0, 0.25, 0.25]
    assert all(study.tables[1].column("as bad as P_1"))
    assert "Over CROWN's intervals P_r is exact from r = L on and at no smaller r" in study.findings
    assert "Over tightened intervals P_r is exact from r = L - 1 on" in study.findings
    assert "padding.svg" in study.figures


def test_copied_inputs_need_the_exact_graph():
    study = copied_inputs.study(sizes=(1, 100), networks=2, clipped=2)
    table = study.tables[0]
    assert table.column("relaxed, g: lower") == pytest.approx([-0.5, -50], rel=1e-4)
    assert table.column("exact graph, g: lower") == pytest.approx([0, 0], abs=1e-6)
    assert all(row[-1] == pytest.approx(0, abs=1e-5) for row in study.tables[1].rows)  # P_L
    assert "Refuted under the reading 'relaxed'" in study.findings
    clips, uniform = study.tables[2:]
    assert clips.column("nested clip: lower") == pytest.approx(clips.column("min f"), abs=1e-9)
    assert clips.column("upper ") == pytest.approx(clips.column("max f"), abs=1e-9)
    assert clips.column("f: lower")[2] < clips.column("min f")[2] - 0.1  # interval bounds of f are not
    assert clips.column("sum form: lower")[2] < clips.column("min f")[2] - 0.1
    assert sum(uniform.column("clip, ibp")) < sum(uniform.column("boxes"))
    assert uniform.column("copies, exact graph") == uniform.column("boxes")
    assert "exact even under IBP, on 4 of 4 networks (the sum form is inexact on 2)" in study.findings


@pytest.mark.parametrize("seed", range(3))
def test_both_clips_are_the_function_between_its_extremes(seed):
    f, x = random_network((2, 5, 5, 1), seed), torch.rand(500, 2, dtype=torch.float64) * 2 - 1
    report = bound(f, (-np.ones(2), np.ones(2)), "exact")
    low, high = float(report.lower[0]), float(report.upper[0])
    for made in (copied_inputs.nested_clip(f, low, high), copied_inputs.sum_clip(f, low, high)):
        assert torch.allclose(made(x), f(x), atol=1e-6)
    assert float(copied_inputs.nested_clip(f, 0.1, 0.2)(x).min()) >= 0.1 - 1e-12  # and it clips what is beyond


@pytest.mark.parametrize("d", [2, 3, 4, 5])
def test_carried_inputs_are_the_maximum(d):
    x = torch.rand(300, d, dtype=torch.float64)
    graph = carried.carried_maximum(d)
    x[:50, 0] = 0.0  # copies of small inputs are cut off, from above
    above = graph(x)[:, 0] - x.amax(1)
    assert above.min() > -1e-12 and above.max() < d * carried.DELTA + 1e-12
    assert [graph.nodes[i].size for i in graph.layer_at] == list(range(d, 1, -1))


def test_k_relu_on_the_maximum_depends_on_the_encoding():
    """k = 2 proves 1, 4/3, 31/19 for d = 2, 3, 4 with carried inputs, Triangle U_d; one neuron a layer has no gain."""
    found = {(d, name): maximum._carried(d, name) for d in (2, 3, 4) for name in maximum.CARRIED}
    assert [found[d, "k-relu, k = 2"] for d in (2, 3, 4)] == pytest.approx([1, 4 / 3, 31 / 19], abs=1e-5)
    assert [found[d, "triangle"] for d in (2, 3, 4)] == pytest.approx([1.5, 1.9, 2.2448276], abs=1e-5)
    assert [found[d, "k-relu, k = 2, by programs"] for d in (2, 3, 4)] == pytest.approx([1, 1, 1], abs=1e-5)
    assert [maximum._upper(d, "k-relu") for d in (2, 3, 4)] == pytest.approx([1.5, 1.9, 2.2448276], abs=1e-5)


def test_intervals_are_tightened_where_there_are_programs():
    names = ("ibp", "crown", "exact", "triangle", "m-1", "k-relu:k=2")
    assert [intervals.tightened(n) for n in names] == [
        *names[:3],
        *("triangle:tighten=on", "m-1:tighten=on", "k-relu:k=2,tighten=on"),
    ]


def test_regions_hold_the_extremes_and_fill_the_box():
    for seed in range(4):
        graph = random_network((2, 5, 4, 1), seed)
        cells_ = regions.polygons(graph, -np.ones(2), np.ones(2))
        turned = [np.roll(c, -1, 0) for c in cells_]
        area = sum(abs((c[:, 0] * n[:, 1] - c[:, 1] * n[:, 0]).sum()) / 2 for c, n in zip(cells_, turned, strict=True))
        assert area == pytest.approx(4)
        values = graph(torch.as_tensor(regions.corners(graph, -np.ones(2), np.ones(2)))).numpy()
        report = bound(graph, (-np.ones(2), np.ones(2)), "exact")
        assert values.min() == pytest.approx(report.lower[0], abs=1e-5)
        assert values.max() == pytest.approx(report.upper[0], abs=1e-5)
        centres = graph.values(torch.as_tensor(np.stack([c.mean(0) for c in cells_])))
        signs = torch.cat([centres[graph.nodes[i].inputs[0]] > 0 for i in graph.layer_at], 1)
        assert len(signs.unique(dim=0)) == len(cells_)  # one pattern a region
    assert len(regions.polygons(barrier(1.0), -np.ones(2), np.ones(2))) > 4


def test_the_maximum_needs_as_many_pieces_as_the_theory_says():
    sizes = maximum.Sizes(root=(2, 4), trees=(2, 4), first=4, boxes=(2, 3), eps=0.25, carried=(2, 3))
    study = maximum.study(sizes=sizes)
    bounds, groups, leaves, boxes, _ = study.tables
    assert groups.column("carried: k-relu, k = 2") == pytest.approx([1, 4 / 3], abs=1e-5)
    assert "which depends on the encoding: with the inputs carried" in study.findings
    assert bounds.column("triangle") == pytest.approx([1.5, 2.244828], abs=1e-5) and bounds.column("m-1") == [1, 1]
    assert bounds.column("ibp") == [2, 4]
    assert leaves.column("triangle, first") == [2, 8] and leaves.column("triangle, last") == [2, 4]
    assert leaves.column("m-1, last") == [1, 1] and boxes.column("ibp") == ["18", "384"]
    assert "Refuted: that A(f, X) <= proper leaves holds for every tree" in study.findings
    assert "Confirmed" in study.findings and "no exponential advantage" in study.findings


def test_bisection_gives_up_honestly():
    graph = maximum.maximum(3)
    few = bisection.boxes(graph, np.zeros(3), np.ones(3), 1.25, "ibp", 50)
    assert not few.finished and str(few).startswith(">= ") and few.leaves <= 384
    assert bisection.boxes(graph, np.zeros(3), np.ones(3), 3.5, "ibp", 50) == (1, True)


# ---- encodings


def shapes(seed: int = 0):
    draw = Random(seed)
    return [(shape, encodings.convex(draw, n, shape)) for n in (2, 3) for shape in encodings.SHAPES]


@pytest.mark.parametrize(("shape", "f"), shapes(), ids=lambda v: v if isinstance(v, str) else "")
def test_the_decision_for_all_boxes_is_that_of_every_box(shape, f):
    expected = {"floor": (0, 1, 1), "pointed": (0, 0, 0)}.get(shape, (1, 1, 1))
    forms = rational.encodings(f)
    found = [sum(rational.precise(form, f, r) for form in forms) for r in rational.RELAXATIONS]
    assert found == [*expected, len(forms)]
    for form in forms[:3]:
        exact = rational.Rational(form.graph())
        for name, bounds in (("ibp", exact.ibp), ("deeppoly-0", lambda l, u, e=exact: e.deep_poly(l, u, 0))):
            right = all(bounds([l], [u]) == f.range(l, u) for l, u in rational.grid(f, 1))
            assert right == rational.precise(form, f, name), (name, form.signs)


def test_fractions_and_partita_agree():
    """Textbook bounds in fractions beside the batched ones, which are also intersected with intervals. Boxes that end
    at a breakpoint are left out: rounded outwards they reach beyond it, and fixed slopes jump there."""
    f = encodings.general(Random(3), 3)
    for form in rational.encodings(f)[::3]:
        graph = form.graph()
        exact = rational.Rational(graph)
        for l, u in ((l + Q(1, 64), u + Q(1, 32)) for l, u in rational.grid(f, 1)[::7]):
            box = ([float(l)], [float(u)])
            interval, zero, hull = exact.ibp([l], [u]), exact.deep_poly([l], [u], 0), rational.triangle(form, l, u)
            assert bound(graph, box, "ibp").lower[0] == pytest.approx(float(interval[0]), abs=1e-9)
            assert bound(graph, box, "deeppoly-0").upper[0] == pytest.approx(
                min(float(zero[1]), float(interval[1])), abs=1e-9
            )
            report = bound(graph, box, "triangle")
            assert (report.lower[0], report.upper[0]) == pytest.approx(tuple(map(float, hull)), abs=1e-7)
            low, high = f.range(l, u)
            assert hull[0] <= low <= high <= hull[1] and zero[0] <= low <= high <= zero[1]


def test_flipped_encodings_exchange_both_deeppolys():
    for _, f in shapes(1):
        for form in [*rational.encodings(f), *rational.forms_without_linear_term(f)]:
            twin = rational.flipped(form)
            assert all(
                form.c * x + form.b + _sum(form, x) == f(x) == twin.c * x + twin.b + _sum(twin, x)
                for x in (Q(-9), Q(0), Q(1, 3), Q(9))
            )
            assert rational.precise(form, f, "deeppoly-0") == rational.precise(twin, f, "deeppoly-1")


def _sum(form, x):
    return sum(g * max(0, s * (x - p)) for p, g, s in zip(form.points, form.gains, form.signs, strict=True))


def test_ramps_are_increasing_and_precise():
    f = encodings.monotone(Random(5), 4)
    graph = witnesses.steps(f)
    assert witnesses.increasing(graph) and not witnesses.increasing(witnesses.flipped(graph))
    exact, turned = rational.Rational(graph), rational.Rational(witnesses.flipped(graph))
    for l, u in rational.grid(f, 1)[::3]:
        assert exact.ibp([l], [u]) == f.range(l, u) == exact.deep_poly([l], [u], 0) == turned.deep_poly([l], [u], 1)
    with pytest.raises(ValueError, match="nondecreasing"):
        witnesses.steps(cells.ABSOLUTE)


def test_compositions_and_maxima_are_what_they_say():
    inner, outer = (
        cells.best(f, "DeepPoly-0") for f in (cells.ABSOLUTE, rational.Function((Q(1),), (Q(2),), Q(-1), Q(1)))
    )
    chain = witnesses.composed(outer.graph(), inner.graph())
    x = torch.linspace(-3, 3, 61, dtype=torch.float64)[:, None]
    assert torch.allclose(chain(x), (x.abs() - 1).abs(), atol=1e-9)
    assert all(float(cells.DOUBLE(Q(v))) == abs(abs(v) - 1) for v in (-3, -1, 0, 1, 2))
    square = torch.rand(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    zigzag = torch.minimum(x, torch.maximum(-x, x - 2))
    for name, graph in witnesses.zigzags():
        assert torch.allclose(graph(x), zigzag, atol=1e-9), name
    for name, graph in witnesses.maxima(0, 6):
        assert torch.allclose(graph(square)[:, 0], square.amax(1), atol=1e-9), name


def test_encodings_support_the_table_and_find_what_contradicts_it():
    study = encodings.study(breakpoints=(2,), functions=4, boxes=4, maxima=3)
    counts, table, turns = study.tables
    assert counts.column("Triangle") == [4] * 4 and counts.column("DeepPoly-0") == [1, 0, 1, 1]
    assert len(table.rows) == 24 and all(row[3] == row[4] for row in table.rows)
    assert "21 are supported, 0 contradicted" in study.findings
    assert turns.rows[-3][3] == turns.rows[-2][2] == turns.rows[0][1] and turns.rows[-1][4] < turns.rows[-1][1]
    assert "an exact upper bound by one network" in study.findings
    wrong = [cells.Cell("R", "IBP", "convex", "no", "against", "", "")]
    assert "1 contradicted" in encodings._findings(counts.rows, wrong, turns.rows, 1, 1)
    assert "1 bounds computed box by box contradict" in encodings._findings(counts.rows, wrong, turns.rows, 0, 1)
    rows = [[*row[:7], 3, *row[8:]] for row in counts.rows]
    assert "Refuted: that every choice of signs is precise" in encodings._findings(rows, wrong, turns.rows, 1, 1)


def test_signs_are_all_tried():
    f = shapes()[0][1]
    assert {form.signs for form in rational.encodings(f)} == set(product((-1, 1), repeat=2))


# ---- the command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two studies of a moment in a folder of their own, with the real `table` and `document`."""
    for name in ("__init__", "table", "document"):
        text = (Path(document.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    for name in ("apples", "pears"):
        (tmp_path / f"{name}.py").write_text(
            '"""x"""\n'
            "from .table import Study, Table, axes\n"
            "def study(seed=0):\n"
            "    from matplotlib.figure import Figure\n"
            "    figure = Figure()\n"
            "    axes(figure).plot([1, 2], [seed, 2])\n"
            f"    table = Table('T', ['a'], [[seed]], 'partita study {name}')\n"
            f"    return Study('{name}', 'On {name}', 'Why?', [table], 'So.', {{'{name}.svg': figure}})\n",
            encoding="utf-8",
        )
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    monkeypatch.setattr(command, "PACKAGE", "studies_of_a_test")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("studies_of_a_test")]:
        del sys.modules[name]


def test_all_studies_are_listed(capsys):
    assert cli.run(["study"]) == 0
    listed = capsys.readouterr().out.split()
    assert {"barrier", "padding", "copied_inputs", "maximum", "encodings"} <= set(listed)
    assert not {"table", "document", "rational", "cells"} & set(listed)


def test_one_study_is_printed_and_written(folder, capsys, tmp_path):
    out = tmp_path / "out"
    assert cli.run(["study", "pears", "--seed", "3", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "On pears" in said.out and "$ partita study pears --seed 3" in said.out and "study pears" in said.err
    assert {p.name for p in out.iterdir()} == {"pears.json", "pears.md", "pears.svg"}
    assert json.loads((out / "pears.json").read_text())["tables"][0]["rows"] == [[3]]
    assert json.loads((out / "pears.json").read_text())["tables"][0]["command"] == "partita study pears --seed 3"
    before = (out / "pears.svg").read_bytes()
    assert cli.run(["study", "pears", "--seed", "3", "--json", "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "pears"
    assert (out / "pears.svg").read_bytes() == before


def test_all_studies_make_one_document(folder, capsys, tmp_path):
    out = tmp_path / "docs"
    assert cli.run(["study", "all", "--out", str(out)]) == 0
    text = (out / "theory.md").read_text()
    assert text.index("## On apples") < text.index("## On pears") and "(`partita study pears`)" in text
    assert f"`partita study all --out {out}`" in text and "[On apples](#on-apples)" in text
    assert {p.name for p in (out / "theory").iterdir()} == {
        f"{n}.{e}" for n in ("apples", "pears") for e in ("svg", "json")
    }
    assert "![apples](theory/apples.svg)" in text


def test_what_fails_is_named_and_what_is_there_is_kept(folder, capsys, tmp_path):
    out = tmp_path / "docs"
    (folder / "plums.py").write_text("""'''x'''\ndef study(seed=0):\n    raise RuntimeError("no plums")\n""")
    assert cli.run(["study", "all", "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert "1 of 3 studies ended with an error: plums (RuntimeError: no plums)" in said
    first = (out / "theory.md").read_text()
    assert "## On apples" in first and "## On pears" in first
    (folder / "plums.py").unlink()
    (out / "theory" / "apples.json").unlink()
    assert cli.run(["study", "all", "--out", str(out), "--resume"]) == 0
    said = capsys.readouterr().err
    assert "study apples" in said and "study pears" not in said
    again = (out / "theory.md").read_text()
    assert again[again.index("## On") :] == first[first.index("## On") :]
    assert cli.run(["study", "apples", "--resume"]) == 2 and "'partita study all" in capsys.readouterr().err


def test_wrong_names_and_places_get_a_sentence(folder, capsys, tmp_path, monkeypatch):
    assert cli.run(["study", "apple"]) == 2
    assert "there is no study 'apple': the nearest names are apples" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert cli.run(["study", "apples", "--out", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err
    assert cli.run(["study", "apples", "--seed", "-1"]) == 2
    assert "at least 0" in capsys.readouterr().err
    monkeypatch.setattr(command, "FOLDER", tmp_path / "nowhere")
    assert cli.run(["study", "apples"]) == 2
    assert "checkout" in capsys.readouterr().err
