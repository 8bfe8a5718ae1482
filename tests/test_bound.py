"""`partita.bound` and `partita bound`: sound from both sides, rungs that dominate each other, every form of input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from networks import KINDS, PIECEWISE, graph_to_onnx, random_box, random_graph, random_property, sample
from small_files import UNSAT, save_network, save_property

import partita
from partita.bab.commands import main as cli
from partita.problems.errors import BadInput
from partita.problems.network.activation import ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet
from partita.relaxations.bound import bound
from partita.relaxations.catalogue import BATCHED, ladder
from partita.relaxations.effort import BoundEffort, LinearEffort
from partita.relaxations.linear.ibp import interval_root
from partita.relaxations.linear.set_bounds import _both_bounds, _both_sides, _rows_by_intervals

RELAXATIONS = ladder(*BATCHED, "integer")
LADDER = (("ibp", "deeppoly-0"), ("ibp", "deeppoly-1"), ("ibp", "crown"), ("crown", "alpha-crown"), ("crown", "exact"))


def rungs(kind: str) -> tuple[str, ...]:
    """The relaxations that can bound a network of this kind."""
    return tuple(r for r in RELAXATIONS if r != "exact" or kind in PIECEWISE)


def network(kind: str, seed: int = 0):
    return random_graph(seed, kind, inputs=4, width=8, depth=2, outputs=3)


def check(report, graph, polytope, rows, constants, tolerance=1e-9):
    """Samples of the input set lie between the bounds, those of every neuron too; returns how many there were."""
    x = torch.as_tensor(sample(polytope, 2000))
    values = graph.values(x)
    y = values[-1].numpy() @ rows.T + constants
    assert (report.lower <= y + tolerance).all() and (y <= report.upper + tolerance).all()
    for position, layer, unstable in zip(graph.layer_at, report.layers, report.unstable, strict=True):
        z = values[graph.nodes[position].inputs[0]].numpy()
        assert layer.name == graph.nodes[position].name
        assert (layer.lower <= z + 1e-9).all() and (z <= layer.upper + 1e-9).all()
        if graph.nodes[position].function.kinks:
            both = (z > 0).any(0) & (z < 0).any(0)
            assert set(both.nonzero()[0]) <= set(unstable.tolist())
    return len(x)


@pytest.mark.parametrize("halfspaces", (0, 2))
@pytest.mark.parametrize("kind", KINDS)
def test_every_rung_is_sound_and_no_looser_than_the_one_below(kind, halfspaces):
    graph, polytope = network(kind), random_box(0, 4, 0.6, halfspaces)
    random = np.random.default_rng(1)
    rows, constants = random.normal(size=(2, 3)), random.normal(size=2)
    found = {r: bound(graph, polytope, r, rows, constants, steps=10) for r in rungs(kind)}
    for report in found.values():
        assert check(report, graph, polytope, rows, constants) > 50
        assert (report.upper > report.lower).all() and report.seconds > 0
    for below, above in LADDER:
        if above in found:
            assert (found[below].lower <= found[above].lower + 1e-12).all()
            assert (found[below].upper >= found[above].upper - 1e-12).all()
    assert (found["ibp"].lower < found["crown"].lower).any()
    assert (found["crown"].lower < found["alpha-crown"].lower).any()


@pytest.mark.parametrize("kind", ("mlp", "maxpool"))
def test_exact_bounds_are_attained(kind):
    graph, polytope = network(kind, 3), random_box(3, 4, 0.6)
    report = bound(graph, polytope, "exact")
    y = graph(torch.as_tensor(sample(polytope, 20000))).numpy()
    width = report.upper - report.lower
    assert (y.min(0) - report.lower < 0.2 * width).all() and (report.upper - y.max(0) < 0.2 * width).all()


@pytest.mark.parametrize("precision", ("float32", "float64"))
@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_several_polytopes_are_bounded_by_the_box_around_them(relaxation, precision):
    graph = network("mlp", 2)
    polytopes = [random_box(s, 4, 0.2, halfspaces=s) for s in range(3)]
    together = bound(graph, polytopes, relaxation, precision=precision, steps=10)
    apart = [bound(graph, p, relaxation, precision=precision, steps=10) for p in polytopes]
    for p in polytopes:
        check(together, graph, p, np.eye(3), np.zeros(3), tolerance=1e-7)
    # `exact` takes a margin off its bound that grows with the boxes around the neurons, which differ here.
    rounding = 1e-8 if relaxation == "exact" else 1e-3 * (together.upper - together.lower)
    least, greatest = (np.min([r.lower for r in apart], 0), np.max([r.upper for r in apart], 0))
    if relaxation not in ("alpha-crown", "deeppoly-1"):  # these may go another way from the hull's bounds
        assert (np.abs(together.lower - least) <= rounding).all()
        assert (np.abs(together.upper - greatest) <= rounding).all()
    for k in range(2):
        assert set(together.unstable[k]) == set(np.concatenate([r.unstable[k] for r in apart]))


@pytest.mark.parametrize("relaxation", ("ibp", "crown", "alpha-crown"))
def test_half_spaces_of_the_input_tighten(relaxation):
    graph = network("mlp", 4)
    box = random_box(4, 4, 0.5)
    cut = Polytope(box.lower, box.upper, np.array([[1.0, 0, 0, 0]]), np.array([box.lower[0] + 0.1]))
    loose, tight = bound(graph, box, relaxation), bound(graph, cut, relaxation)
    assert (tight.lower >= loose.lower - 1e-12).all() and (tight.upper <= loose.upper + 1e-12).all()
    assert (tight.upper - tight.lower < 0.95 * (loose.upper - loose.lower)).any()


def test_float32_lies_outside_float64_and_near():
    graph, polytope = network("residual"), random_box(0, 4, 0.3)
    narrow, wide = (bound(graph, polytope, precision=p) for p in ("float32", "float64"))
    assert (narrow.lower <= wide.lower).all() and (narrow.upper >= wide.upper).all()
    assert np.abs(narrow.lower - wide.lower).max() < 1e-3 and narrow.lower.dtype == np.float64


def test_the_callers_precision_of_products_is_put_back_and_not_used():
    graph, polytope = network("mlp"), random_box(0, 4, 0.3)
    best = bound(graph, polytope, precision="float32")
    torch.set_float32_matmul_precision("medium")
    try:
        again = bound(graph, polytope, precision="float32")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(best.lower, again.lower)


def test_a_row_that_float32_cannot_hold_is_paid_for():
    graph, polytope = network("mlp"), random_box(0, 4, 0.3)
    rows = np.array([[1.0 + 1e-8, -1.0, 0.1]])
    for r in ("ibp", "crown"):
        assert check(bound(graph, polytope, r, rows * 1e4, precision="float32"), graph, polytope, rows * 1e4, 0)


def test_every_form_of_network_and_input_set(tmp_path):
    path = save_network(tmp_path / "net.onnx")
    from_file = partita.bound(path, ([-1, -1], [1, 1]))
    np.testing.assert_allclose(from_file.upper, [2, 1], atol=0.5)
    prop = save_property(tmp_path / "p.vnnlib", UNSAT)
    np.testing.assert_array_equal(partita.bound(str(path), prop).lower, from_file.lower)
    module = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)).eval()
    report = partita.bound(module, (torch.zeros(2), np.ones((1, 2))), example_input=torch.zeros(1, 2))
    y = module(torch.rand(200, 2)).detach().numpy()
    assert report.lower[0] <= y.min() + 1e-6 and y.max() <= report.upper[0] + 1e-6
    graph = network("mlp")
    of_property = bound(graph, random_property(0, graph, cases=2))
    assert (of_property.lower <= of_property.upper).all()


def test_networks_without_activations_and_with_dead_ones():
    from partita.problems.network.affine import Dense
    from partita.problems.network.graph import Affine, Graph, Input

    weight = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    graph = Graph((Input(2), Affine((0,), (Dense(weight),), torch.ones(1, dtype=torch.float64))), (2,), (1,))
    for r in RELAXATIONS:
        report = bound(graph, ([0, 0], [1, 1]), r)
        np.testing.assert_allclose([report.lower[0], report.upper[0]], [0, 3], atol=1e-8)
        assert report.lower[0] <= 0 and report.upper[0] >= 3 and report.layers == ()


def test_bad_input_is_refused_in_one_sentence():
    graph = network("mlp")
    box = (np.zeros(4), np.ones(4))
    far = Polytope(*box, np.ones((1, 4)), np.array([-1.0]))
    wrong = Property((Case(Polytope(np.zeros(3), np.ones(3)), (UnsafeSet(np.eye(3), np.zeros(3)),)),), 3, 3)
    for arguments, words in (
        ((graph, box, "crwon"), "no relaxation 'crwon'"),
        ((graph, (np.zeros(3), np.ones(3))), "4 inputs"),
        ((graph, (np.ones(4), np.zeros(4))), "empty"),
        ((graph, far), "half-spaces leave nothing of its box"),
        ((graph, (np.full(4, -np.inf), np.ones(4))), "finite"),
        ((graph, (np.full(4, np.nan), np.ones(4))), "finite"),
        ((graph, 7), "input set"),
        ((graph, wrong), "3 inputs"),
        ((graph, box, "crown", np.ones((1, 2))), "3 outputs"),
        ((graph, box, "crown", np.full((1, 3), np.nan)), "finite"),
        ((network("tanh"), box, "exact"), "piecewise-linear"),
        ((torch.nn.Linear(4, 3), box), "example_input"),
    ):
        with pytest.raises(BadInput, match=words) as refused:
            bound(*arguments)
        assert "\n" not in str(refused.value)
    with pytest.raises(BadInput, match="float32 or float64"):
        bound(graph, box, precision="float16")


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_the_command_line_says_the_same(relaxation, tmp_path, capsys):
    graph = network("mlp", 6)
    (tmp_path / "net.onnx").write_bytes(graph_to_onnx(graph))
    lines = [f"(declare-const {v}_{i} Real)" for v, n in (("X", 4), ("Y", 3)) for i in range(n)]
    lines += [f"(assert (<= X_{i} 0.5))\n(assert (>= X_{i} -0.5))" for i in range(4)]
    (tmp_path / "p.vnnlib").write_text("\n".join([*lines, "(assert (<= Y_0 0.0))"]))
    files = [str(tmp_path / "net.onnx"), str(tmp_path / "p.vnnlib"), "--relaxation", relaxation]
    assert cli.run(["bound", *files, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    report = bound(graph, (np.full(4, -0.5), np.full(4, 0.5)), relaxation)
    assert set(said) == {"lower", "upper", "seconds", "layers", "unstable"}
    np.testing.assert_allclose(said["lower"], report.lower, atol=1e-6)
    np.testing.assert_allclose(said["upper"], report.upper, atol=1e-6)
    assert said["unstable"] == [u.tolist() for u in report.unstable]
    assert [set(layer) for layer in said["layers"]] == [{"name", "lower", "upper"}] * 2
    assert cli.run(["bound", *files]) == 0
    text = capsys.readouterr().out
    assert f"{report.lower[0]:.5f}"[:5] in text and "<= Y_2 <=" in text and "neurons unstable" in text


def test_what_rounding_of_rows_costs_is_the_sum_of_its_terms():
    """Coefficients and constants that float32 cannot hold, of either sign: both sides are charged for both."""
    graph = network("mlp")
    lower, upper = torch.full((4,), -1.0).double(), torch.full((4,), 1.0).double()
    intervals, _ = interval_root(graph.to(torch.float32), lower, upper)
    largest = intervals.linear.scales.size[-1].double()
    c, d = torch.tensor([[0.1, -0.3, 0.7], [1.0, 2.0, 0.5]]).double() / 3, torch.tensor([1e3, 0.1]).double() / 3
    rows, lost = _both_sides(c, d, intervals, 2)
    assert rows.coefficients.shape == (2, 4, 3) and rows.constants.shape == (2, 4)
    for k, sign in ((0, 1), (1, 1), (2, -1), (3, -1)):
        row, constant = sign * c[k % 2], sign * d[k % 2]
        off = (rows.coefficients[1, k].double() - row).abs() @ largest
        other = (rows.constants[1, k].double() - constant).abs()
        assert off > 0 and other > 0 and off + other <= lost[k] <= 1.01 * (off + other)
        assert (rows.coefficients[0, k].double() - row).abs().max() < 1e-6 and abs(other) < 1e-3
    low, high = _both_bounds(torch.tensor([[1.0, -2.0]]), torch.tensor([1e-20, 1e-20]).double())
    assert low.item() < 1 and high.item() > 2
    low, high = _both_bounds(torch.tensor([[1.0, -2.0]]), torch.zeros(2).double())
    assert low.item() == 1 and high.item() == 2


def test_batches_in_parts_say_the_same():
    """Pieces and rows that are bounded a few at a time, each of them counted."""
    graph = network("mlp", 2)
    polytopes = [random_box(s, 4, 0.2) for s in (1, 0, 2)]
    rows = np.random.default_rng(0).normal(size=(5, 3))
    for relaxation in ("ibp", "crown"):
        whole = bound(graph, polytopes, relaxation, rows)
        parts = bound(graph, polytopes, relaxation, rows, effort=BoundEffort(LinearEffort(parts=1)))
        np.testing.assert_allclose(parts.lower, whole.lower, atol=1e-9)
        np.testing.assert_allclose(parts.upper, whole.upper, atol=1e-9)
        for one, two in zip(parts.layers, whole.layers, strict=True):
            np.testing.assert_allclose(one.lower, two.lower, atol=0.05)  # pieces alike share their work
            np.testing.assert_allclose(one.upper, two.upper, atol=0.05)


def test_layers_of_several_polytopes_hold():
    graph = network("mlp", 2)
    polytopes = [random_box(s, 4, 0.2) for s in (1, 0, 2)]
    for relaxation in ("ibp", "crown", "triangle"):
        report = bound(graph, polytopes, relaxation)
        for polytope in polytopes:
            check(report, graph, polytope, np.eye(3), 0.0)


def test_several_polytopes_are_bounded_by_programs():
    """The least and the greatest over all of them, whatever their order; constants move both."""
    graph = network("mlp", 2)
    polytopes = [random_box(s, 4, 0.2) for s in (1, 0, 2)]
    rows, constants = np.random.default_rng(0).normal(size=(2, 3)), np.array([1.5, -2.5])
    for relaxation in ("triangle", "exact"):
        for some in (polytopes, polytopes[::-1]):
            report = bound(graph, some, relaxation, rows, constants)
            for polytope in some:
                y = graph(torch.as_tensor(sample(polytope, 1000))).numpy() @ rows.T + constants
                assert (report.lower <= y + 1e-9).all() and (y <= report.upper + 1e-9).all()


def test_constants_move_bounds_of_every_kind():
    graph, polytope = network("mlp"), random_box(0, 4, 0.2)
    for relaxation in ("ibp", "crown", "triangle", "exact"):
        plain = bound(graph, polytope, relaxation, np.eye(3))
        moved = bound(graph, polytope, relaxation, np.eye(3), np.array([10.0, -10.0, 0.0]))
        np.testing.assert_allclose(moved.lower - plain.lower, [10, -10, 0], atol=1e-5)
        np.testing.assert_allclose(moved.upper - plain.upper, [10, -10, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("relaxation", "wanted"), (("deeppoly-0", (-1.0, -0.5)), ("deeppoly-1", (-0.5, -1.0)), ("crown", (-0.5, -0.5)))
)
def test_each_rule_has_its_own_lower_line(relaxation, wanted):
    """relu(x) - x/2 on [-1, 2] and [-2, 1]: by the line of slope 0 at least -x/2, by that of slope 1 at least x/2."""
    unit = lambda a: Dense(torch.tensor([[a]], dtype=torch.float64))  # noqa: E731
    zero = torch.zeros(1, dtype=torch.float64)
    nodes = (Input(1), Affine((0,), (unit(1.0),), zero), Activation((1,), ReLU(), 1))
    apart = unit(1.0), unit(9.5), unit(-10.0)  # intervals do not see that two parts nearly cancel
    graph = Graph((*nodes, Affine((2, 0, 0), apart, zero)), (1,), (1,))
    for (low, high), least in zip(((-1.0, 2.0), (-2.0, 1.0)), wanted, strict=True):
        assert bound(graph, ([low], [high]), relaxation).lower[0] == pytest.approx(least, abs=1e-6)


def test_empty_members_of_a_union_do_not_count():
    graph, box = network("mlp"), random_box(0, 4, 0.2)
    crossed = Polytope(np.ones(4) * 50, np.ones(4) * 49)
    far = Polytope(np.ones(4) * 50, np.ones(4) * 51, np.ones((1, 4)), np.array([-1.0]))
    best = bound(graph, box)
    for empty in (crossed, far):
        np.testing.assert_array_equal(bound(graph, [box, empty]).lower, best.lower)
        np.testing.assert_array_equal(bound(graph, [empty, box]).upper, best.upper)
    for bad in (np.nan, np.inf):
        with pytest.raises(BadInput, match="finite"):
            bound(graph, box, rows=np.eye(3), constants=np.array([0.0, bad, 0.0]))
        for side in ("lower", "upper"):
            ends = {"lower": np.zeros(4), "upper": np.ones(4)}
            ends[side] = np.full(4, -bad if side == "lower" else bad)
            with pytest.raises(BadInput, match="finite"):
                bound(graph, (ends["lower"], ends["upper"]))


def test_rounding_of_intervals_is_taken_off_rows(monkeypatch):
    graph = network("mlp")
    intervals, _ = interval_root(graph, -torch.ones(4).double(), torch.ones(4).double())
    said = torch.tensor([[1.0, 2.0]]).double(), torch.tensor([[0.25, 0.5]]).double()
    monkeypatch.setattr("partita.relaxations.linear.set_bounds.rows_below", lambda *arguments: said)
    found, lost = _rows_by_intervals(torch.eye(3).double()[:1], torch.zeros(1).double(), intervals, [], 1)
    assert found.tolist() == [[0.75, 1.5]] and lost.tolist() == [0, 0]
