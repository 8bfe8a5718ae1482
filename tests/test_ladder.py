"""The linear programs of the ladder: exact values of the theory, dominance, soundness, limits, and what they refuse."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import graph_to_onnx, random_box, random_graph, sample
from small_files import UNSAT, save_property

from partita.bab.commands import main as cli
from partita.problems.errors import BadInput
from partita.problems.network.activation import LeakyReLU, ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.network.library import barrier, maximum
from partita.problems.properties.property import Polytope
from partita.relaxations.bound import bound
from partita.relaxations.ladder import group_cuts, ladder
from partita.relaxations.ladder.ladder import LinearPrograms
from partita.relaxations.ladder.multi_neuron import _least
from partita.relaxations.ladder.triangle import Setting
from partita.relaxations.lp.encode import Building
from partita.relaxations.lp.model import Solution, Status
from partita.relaxations.lp.program import Program
from partita.relaxations.names import parse
from partita.relaxations.types import Pieces, Rows

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from measure.ladder import RUNGS, TOLERANCE, measured, violations

PROGRAMS = ("triangle", "k-relu", "k-relu:by=cuts", "prima", "prima:by=cuts", "m-1", "m-1:by=cuts", "m-2", "p-1", "p-2")


def unit(d: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(d), np.ones(d)


# ---- nested maximum


@pytest.mark.parametrize("fused", (False, True))
@pytest.mark.parametrize(("d", "value"), ((2, 1.5), (4, 2.245), (6, 2.834), (8, 3.339)))
def test_triangle_on_the_nested_maximum(d, value, fused):
    """Upper bounds by the recursion U' = 1 + U^2 / (U + 1), U_1 = 1."""
    u = 1.0
    for _ in range(d - 1):
        u = 1 + u * u / (u + 1)
    graph = maximum(d, fused)
    assert round(u, 3) == pytest.approx(value, abs=6e-4)
    for name in ("triangle", "triangle:tighten=on", "k-relu:k=1", "prima:k=1", "k-relu:k=3"):
        assert bound(graph, unit(d), name).upper[0] == pytest.approx(u, abs=1e-7), name


@pytest.mark.parametrize("fused", (False, True))
@pytest.mark.parametrize("d", (2, 3, 5, 10, 25, 100))
def test_m_1_is_exact_on_the_nested_maximum(d, fused):
    report = bound(maximum(d, fused), unit(d), "m-1")
    assert report.upper[0] == pytest.approx(1.0, abs=1e-6) and report.upper[0] >= 1
    assert report.lower[0] == pytest.approx(0.0, abs=1e-6) and report.lower[0] <= 0
    assert report.seconds < 30


@pytest.mark.parametrize("fused", (False, True))
def test_both_ways_to_m_1_agree_on_the_nested_maximum(fused):
    for d in (3, 5):
        for by in ("hull", "cuts"):
            assert bound(maximum(d, fused), unit(d), f"m-1:by={by}").upper[0] == pytest.approx(1.0, abs=1e-6)


def test_blocks_of_all_layers_are_exact():
    for d in (2, 4):
        assert bound(maximum(d), unit(d), f"p-{d - 1}").upper[0] == pytest.approx(1.0, abs=1e-8)


# ---- the barrier of one layer at a time (THEORY.md, theorem 3.3)


def test_hulls_of_single_layers_stop_at_the_barrier_and_blocks_pass_it():
    box = (-np.ones(2), np.ones(2))
    for k in (1.0, 100.0):
        assert bound(barrier(k), box, "p-1").lower[0] <= -k / 2 + 1e-6
        assert bound(barrier(k), box, "p-3").lower[0] == pytest.approx(0.0, abs=1e-7)
        assert bound(barrier(k), box, "exact").lower[0] == pytest.approx(0.0, abs=1e-5)


# ---- dominance and soundness


@pytest.mark.parametrize("seed", range(16))
def test_dominance(seed):
    found = measured(seed)
    assert set(found) == {*RUNGS, "sampled"}
    assert {name: v for name, v in violations(found).items() if v > TOLERANCE} == {}


@pytest.mark.parametrize("halfspaces", (0, 3))
@pytest.mark.parametrize("kind", ("mlp", "leaky", "residual", "conv", "maxpool"))
@pytest.mark.parametrize("name", PROGRAMS)
def test_samples_lie_between_the_bounds(name, kind, halfspaces):
    strictly = 0
    for seed in range(3):
        graph = random_graph(seed, kind, inputs=4, width=4 if kind == "maxpool" else 5, depth=2, outputs=2)
        polytope = random_box(seed, 4, 0.3 if name == "m-2" else 0.6, halfspaces)
        try:
            report = bound(graph, polytope, name)
        except BadInput as refused:
            assert "which is the limit" in str(refused) and name in ("m-2", "p-1", "p-2")
            continue
        values = graph.values(torch.as_tensor(sample(polytope, 3000)))
        y = values[-1].numpy()
        assert (report.lower <= y).all() and (y <= report.upper).all()
        for position, layer in zip(graph.layer_at, report.layers, strict=True):
            z = values[graph.nodes[position].inputs[0]].numpy()
            assert (layer.lower <= z + 1e-9).all() and (z <= layer.upper + 1e-9).all()
        loose = bound(graph, polytope, "crown")
        assert (report.lower >= loose.lower).all() and (report.upper <= loose.upper).all()
        strictly += int((report.lower > loose.lower + 1e-6).any())
    assert strictly or kind in ("conv", "maxpool")


@pytest.mark.parametrize("name", ("triangle", "k-relu", "m-1", "p-1"))
def test_tighter_pre_activations_are_sound_and_tighter(name):
    graph, polytope = random_graph(3, "mlp", inputs=3, width=6, depth=3), random_box(3, 3, 0.8)
    given, found = (bound(graph, polytope, f"{name}:tighten={switch}") for switch in ("off", "on"))
    assert (found.lower >= given.lower - 1e-7).all() and (found.upper <= given.upper + 1e-7).all()
    values = graph.values(torch.as_tensor(sample(polytope, 3000)))
    tighter = 0
    for position, layer, wide in zip(graph.layer_at, found.layers, given.layers, strict=True):
        z = values[graph.nodes[position].inputs[0]].numpy()
        assert (layer.lower <= z + 1e-9).all() and (z <= layer.upper + 1e-9).all()
        tighter += int((layer.lower > wide.lower + 1e-6).sum())
    assert tighter


@pytest.mark.parametrize("family", ("k-relu:k=2,groups=all", "k-relu:k=3,groups=disjoint", "prima"))
def test_cutting_planes_lie_between_the_triangle_and_the_hulls(family):
    joined, gained = family + (":" if ":" not in family else ","), []
    for seed in range(8):
        graph, polytope = random_graph(seed, "mlp", inputs=4, width=8, depth=2), random_box(seed, 4, 0.7)
        triangle, cuts, hull = (bound(graph, polytope, n) for n in ("triangle", joined + "by=cuts", joined + "by=hull"))
        assert (triangle.lower <= cuts.lower + 1e-8).all() and (cuts.lower <= hull.lower + 1e-8).all()
        assert (triangle.upper >= cuts.upper - 1e-8).all() and (cuts.upper >= hull.upper - 1e-8).all()
        some = hull.lower - triangle.lower > 1e-4
        gained += ((cuts.lower - triangle.lower)[some] / (hull.lower - triangle.lower)[some]).tolist()
    assert len(gained) > 4 and np.mean(gained) > 0.6


def test_directions_by_linear_programs_are_no_looser():
    gained = 0
    for seed in range(6):
        graph, polytope = random_graph(seed, "mlp", inputs=3, width=5, depth=2), random_box(seed, 3, 0.7)
        name = "k-relu:k=2,groups=all,directions="
        backward, programs = (bound(graph, polytope, name + d) for d in ("backward", "lp"))
        exact = bound(graph, polytope, "exact")
        assert (programs.lower >= backward.lower - 1e-8).all() and (programs.lower <= exact.lower + 1e-6).all()
        gained += int((programs.lower > backward.lower + 1e-6).any())
    assert gained


def test_an_intersection_is_no_looser_than_its_parts():
    graph, polytope = random_graph(8, "residual", inputs=3, width=5, depth=2), random_box(8, 3, 0.8)
    parts = ("k-relu:k=3,groups=all", "m-1", "alpha-crown")
    whole = bound(graph, polytope, "+".join(parts))
    exact = bound(graph, polytope, "exact")
    for part in parts:
        alone = bound(graph, polytope, part)
        assert (whole.lower >= alone.lower - 1e-8).all() and (whole.upper <= alone.upper + 1e-8).all()
    assert (whole.lower <= exact.lower + 1e-6).all()


@pytest.mark.parametrize("name", PROGRAMS)
def test_several_polytopes_points_and_networks_without_activations(name):
    graph = random_graph(2, "mlp", inputs=3, width=4, depth=2)
    polytopes = [random_box(s, 3, 0.3, halfspaces=s) for s in range(2)]
    together, apart = bound(graph, polytopes, name), [bound(graph, p, name) for p in polytopes]
    np.testing.assert_allclose(together.lower, np.min([r.lower for r in apart], 0), atol=1e-3)
    x = np.array([0.3, -0.2, 0.5])
    point = bound(graph, (x, x), name)
    np.testing.assert_allclose(point.lower, graph(torch.as_tensor(x)).numpy(), atol=1e-6)
    weight = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    affine = Graph((Input(2), Affine((0,), (Dense(weight),), torch.ones(1, dtype=torch.float64))), (2,), (1,))
    report = bound(affine, unit(2), name)
    np.testing.assert_allclose([report.lower[0], report.upper[0]], [0, 3], atol=1e-8)


def test_an_input_set_that_only_a_linear_program_shows_empty():
    graph, box = random_graph(0, "mlp", inputs=3), random_box(0, 3, 0.5)
    normals = np.array([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    offsets = np.array([1.0, -1.0]) * (normals[:1] @ (box.lower + 0.1)).item() - np.array([0.0, 1e-3])
    empty = Polytope(box.lower, box.upper, normals, offsets)
    assert not any(empty.contains(x) for x in sample(box, 500))
    with pytest.raises(BadInput, match="empty"):
        bound(graph, empty, "triangle")


# ---- what is refused, and what is said


def test_smooth_layers_are_named_or_refused(tmp_path, capsys):
    graph, polytope = random_graph(1, "tanh", inputs=3, width=4, depth=2), random_box(1, 3, 0.4)
    assert bound(graph, polytope, "triangle").notes == ()
    y = graph(torch.as_tensor(sample(polytope, 2000))).numpy()
    for name in ("k-relu", "prima", "m-1", "m-2", "p-1"):
        report = bound(graph, polytope, name)
        assert (report.lower <= y).all() and (y <= report.upper).all()
        assert len(report.notes) == 2 and all("Tanh" in note and "one at a time" in note for note in report.notes)
        with pytest.raises(BadInput, match=r"layer 'Tanh2' is Tanh"):
            bound(graph, polytope, name + ":strict=on")
    (tmp_path / "net.onnx").write_bytes(graph_to_onnx(random_graph(1, "tanh", inputs=2, outputs=2)))
    files = [str(tmp_path / "net.onnx"), str(save_property(tmp_path / "p.vnnlib", UNSAT))]
    assert cli.run(["bound", *files, "--relaxation", "m-2", "--json"]) == 0
    assert "one at a time" in json.loads(capsys.readouterr().out)["notes"][0]
    assert cli.run(["bound", *files, "--relaxation", "m-2:strict=on"]) == 2
    assert "strict=on" in capsys.readouterr().err


def test_limits_are_one_sentence_that_names_the_layer():
    graph, polytope = random_graph(0, "mlp", inputs=4, width=8, depth=2), random_box(0, 4, 1.0)
    last = graph.nodes[graph.layers[-1].position].name
    first = graph.nodes[graph.layers[0].position].name
    for name, layer, words in (
        ("p-2:patterns=9", first, "more than 9 activation patterns"),
        ("p-2:size=5000", "", "more than 5000 coefficients"),
        ("m-2:size=20000", last, "more than 20000 coefficients"),
    ):
        with pytest.raises(BadInput, match=words) as refused:
            bound(graph, polytope, name)
        assert layer in str(refused.value) and "\n" not in str(refused.value)


def test_the_command_line_takes_names_with_options(tmp_path, capsys):
    graph = random_graph(6, "mlp", inputs=2, width=6, outputs=2)
    (tmp_path / "net.onnx").write_bytes(graph_to_onnx(graph))
    files = [str(tmp_path / "net.onnx"), str(save_property(tmp_path / "p.vnnlib", UNSAT))]
    found = []
    for name in ("triangle", "k-relu:k=3,groups=all", "triangle+m-2", "p-2"):
        assert cli.run(["bound", *files, "--relaxation", name, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["lower"])
    assert all((np.array(found[0]) <= np.array(tighter) + 1e-7).all() for tighter in found[1:])
    assert cli.run(["bound", *files, "--relaxation", "k-relu:size=3"]) == 2
    said = capsys.readouterr().err
    assert "has no option 'size'" in said and said.count("\n") == 1


# ---- terms of single parts


@pytest.mark.parametrize("name", ("k-relu:by=cuts", "prima:by=cuts", "k-relu:directions=lp", "k-relu"))
@pytest.mark.parametrize("kind", ("mlp", "leaky"))
def test_cutting_planes_hold_and_cut(kind, name):
    """Groups of a layer whose neurons move together, as in y_0 - y_1 of nearly equal sums: what the hull is for."""
    gained = 0.0
    for seed in range(2):
        graph = random_graph(seed, kind, inputs=2, width=6, depth=2, outputs=2)
        polytope = random_box(seed, 2, 1.0)
        report, loose = bound(graph, polytope, name), bound(graph, polytope, "triangle")
        y = graph(torch.as_tensor(sample(polytope, 4000))).numpy()
        assert (report.lower <= y).all() and (y <= report.upper).all()
        assert (report.lower >= loose.lower - 1e-6).all() and (report.upper <= loose.upper + 1e-6).all()
        gained += float((loose.upper - loose.lower - report.upper + report.lower).sum())
    assert gained > 1e-3, gained


def octahedral(slope: float) -> tuple[Graph, np.ndarray]:
    """A network whose two pre-activations range over an octahedron, and its values at the corners of its pieces."""
    weight, bias = np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([0.5, -0.25])
    outputs = np.array([[1.0, 1.0], [1.0, -1.0], [0.3, -2.0], [-1.0, -0.4]])
    double = lambda a: torch.as_tensor(a, dtype=torch.float64)  # noqa: E731
    nodes = (
        Input(2),
        Affine((0,), (Dense(double(weight)),), double(bias)),
        Activation((1,), LeakyReLU(slope) if slope else ReLU(), 2),
        Affine((2,), (Dense(double(outputs)),), double(np.zeros(4))),
    )
    graph = Graph(nodes, (2,), (4,))
    lines = np.array([[1.0, 0, 1], [1, 0, -1], [0, 1, 1], [0, 1, -1], [*weight[0], -bias[0]], [*weight[1], -bias[1]]])
    corners = []  # of the four pieces of the box on which the function is linear
    for a, b in combinations(lines, 2):
        if abs(np.linalg.det([a[:2], b[:2]])) > 1e-9:
            corner = np.linalg.solve([a[:2], b[:2]], [a[2], b[2]])
            corners += [corner] if (abs(corner) <= 1 + 1e-9).all() else []
    return graph, graph(double(np.array(corners))).numpy()


@pytest.mark.parametrize("name", ("k-relu:directions=lp", "k-relu:directions=lp,by=cuts"))
@pytest.mark.parametrize("slope", (0.0, 0.3, 0.9))
def test_groups_are_exact_where_their_octahedron_is(slope, name):
    """The hull of a group then says all, for any slope and any output."""
    graph, y = octahedral(slope)
    found = bound(graph, (-np.ones(2), np.ones(2)), name)
    assert found.lower == pytest.approx(y.min(0), abs=1e-5) and found.upper == pytest.approx(y.max(0), abs=1e-5)
    assert (found.lower <= y.min(0)).all() and (y.max(0) <= found.upper).all()


def test_rows_that_lie_ready_are_those_of_the_slope(monkeypatch):
    """Without rows that are made for a point, those of the layer alone leave little of what the triangle loses."""
    monkeypatch.setattr(group_cuts, "_towards", lambda layer, x, most: layer.pool)
    (graph, y), box = octahedral(0.3), (-np.ones(2), np.ones(2))
    found, loose = (bound(graph, box, name) for name in ("k-relu:directions=lp,by=cuts", "triangle"))
    lost = lambda report: (report.upper - y.max(0)).sum() + (y.min(0) - report.lower).sum()  # noqa: E731
    assert 0 <= lost(found) < 0.1 * lost(loose), (lost(found), lost(loose))


def test_a_lying_solver_gives_no_direction(monkeypatch):
    """Directions of groups believe what a dual vector proves, not the value that a solver states."""
    graph, polytope = random_graph(0, "mlp", inputs=2, width=4, depth=1), random_box(0, 2, 0.5)
    building = Building(graph, Program(), {}, [])

    class Lying:
        def minimise(self, cost, offset=0.0):
            return Solution(Status.optimal, 7.0, bound_safe=-3.0)

    monkeypatch.setattr(Setting, "session", lambda self, model: Lying())
    building.program.append(-np.ones(2), np.ones(2))
    monkeypatch.setattr(type(building), "columns", lambda self, node: np.arange(2))
    found = _least(Setting(), building, 0, np.eye(2), "lp")
    assert polytope.size == 2 and found.tolist() == [-3, -3]


def one_piece(graph: Graph, box: Polytope) -> Pieces:
    """The box as a piece of which nothing is known."""
    return Pieces.boxes(torch.as_tensor(box.lower)[None], torch.as_tensor(box.upper)[None], graph.neurons)


def test_sums_of_a_program_are_rounded_outwards():
    """Constants beside which what the program proves is lost: bounds lie outside, whatever the input adds."""
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    graph = Graph((Input(2), Affine((0,), (Dense(weight),), torch.zeros(2, dtype=torch.float64))), (2,), (2,))
    box = Polytope(np.full(2, -0.3), np.full(2, 0.7))
    rows, constants = np.array([[1.0, 0.0], [0.0, -1.0]]), np.array([2.0**52 + 1, -(2.0**51) - 3])
    programs, piece = LinearPrograms(parse("triangle"), graph), one_piece(graph, box)

    def below(rows, constants, on_input=None):
        wide = [None if t is None else torch.as_tensor(t)[None] for t in (rows, constants, on_input)]
        return programs.bound(piece, Rows(*wide)).result.lower[0].numpy()

    ends = ((Fraction(-0.3), Fraction(0.7)), (-Fraction(0.7), -Fraction(-0.3)))
    lower, upper = below(rows, constants), -below(-rows, -constants)
    for r, (low, high) in enumerate(ends):
        assert Fraction(lower[r]) <= low + Fraction(constants[r])
        assert Fraction(upper[r]) >= high + Fraction(constants[r])
        assert upper[r] - lower[r] < 20
    on_input = np.array([[0.0, 0.0], [0.0, 1.0]])
    one = below(rows, constants, on_input)
    assert Fraction(one[0]) <= ends[0][0] + Fraction(constants[0]) and one[0] > constants[0] - 9
    assert Fraction(one[1]) <= Fraction(constants[1]) and one[1] > constants[1] - 9
    small = below(rows, np.zeros(2), on_input)
    assert small[0] == pytest.approx(-0.3, abs=1e-6) and small[1] == pytest.approx(0.0, abs=1e-6)


def test_a_polytope_that_one_row_shows_empty_has_no_bounds_in_any(monkeypatch):
    """All rows are minimised over the same points: where there are none, none has a bound that counts in a union."""
    graph, box = random_graph(0, "mlp", inputs=2, width=3, depth=1, outputs=2), random_box(0, 2, 0.5)
    monkeypatch.setattr(ladder, "minima", lambda *_: np.array([-1.0, np.inf, -2.0, -np.inf]))
    rows = Rows(torch.eye(2).double().repeat(2, 1)[None], torch.zeros(1, 4).double())
    result = LinearPrograms(parse("triangle"), graph).bound(one_piece(graph, box), rows).result
    assert torch.isposinf(result.lower).all() and bool(result.empty[0])


def test_a_window_with_one_open_layer_is_a_hull():
    """The first layer is decided, the second not: the window of both is still taken, and is exact."""
    one = np.array([[1.0, 1.0], [1.0, -1.0]])
    nodes = (
        Input(2),
        Affine((0,), (Dense(torch.tensor(one)),), torch.full((2,), 5.0, dtype=torch.float64)),
        Activation((1,), ReLU(), 2),
        Affine((2,), (Dense(torch.eye(2).double()),), torch.full((2,), -5.0, dtype=torch.float64)),
        Activation((3,), ReLU(), 2),
        Affine((4,), (Dense(torch.ones(1, 2).double()),), torch.zeros(1, dtype=torch.float64)),
    )
    graph = Graph(nodes, (2,), (1,))
    box = (-np.ones(2), np.ones(2))
    assert bound(graph, box, "p-2").upper[0] == pytest.approx(2.0, abs=1e-6)
    assert bound(graph, box, "triangle").upper[0] > 2.1
