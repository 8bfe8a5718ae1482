"""Measured trees: the theory's numbers, every count against a slow truth, both sides of proposition 5.6, bad input."""

from __future__ import annotations

import json
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from networks import graph_to_onnx, random_graph

import partita
from partita.bab.commands import main as cli
from partita.bab.commands.partition import relaxation_list
from partita.bab.comparing.comparison import Measurement, compared, data, table
from partita.bab.comparing.exact_goal import Notion, formula, goal_for, rows_of
from partita.bab.comparing.grow import Bounder, grow
from partita.bab.comparing.measured import Cut, Goal, Region, affine_forms, bisect, cut_along
from partita.bab.comparing.measures import boxes_of, measure_for
from partita.bab.comparing.partition import INTERRUPTED, partition
from partita.bab.comparing.pictures import leaf_of, pre_activations
from partita.bab.comparing.proper import Judge, judged
from partita.bab.comparing.smallest import smallest
from partita.problems.errors import BadInput
from partita.problems.network.library import barrier, maximum, pairwise_differences, random_network
from partita.problems.property import Polytope, box_property
from partita.relaxations.bound import bound
from partita.relaxations.ladder.exact import minimum
from partita.relaxations.names import parse


def unit(d: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(d), np.ones(d)


def bounder(graph, inputs: Polytope, name="triangle", exactness="both", pieces="activation", tight=True) -> Bounder:
    graph = graph.to(torch.float64)
    exact = goal_for(graph, inputs, rows_of(graph, ()), Notion(exactness))
    measure = measure_for(graph, exact.goal, inputs, name, tight)
    return Bounder(graph, exact.goal, measure, measure.linear, Region(inputs), pieces)


@pytest.mark.parametrize(("d", "first", "last"), [(2, 2, 2), (4, 8, 4), (6, 32, 6)])
def test_nested_maximum_as_in_the_theory(d, first, last):
    inputs = Polytope(*unit(d))
    b = bounder(maximum(d), inputs, exactness="max")
    assert len(grow(b, "first").leaves) == first
    assert len(grow(b, "last").leaves) == last
    assert len(grow(bounder(maximum(d), inputs, "m-1", "max"), "first").leaves) == 1


def test_the_root_bounds_of_nested_maxima():
    for d, upper in ((2, 1.5), (4, 2.245), (6, 2.834)):
        gap = grow(bounder(maximum(d), Polytope(*unit(d)), exactness="max"), "last").pieces[0].gap
        assert gap + 1 == pytest.approx(upper, abs=1e-3)


@pytest.mark.parametrize(("n", "leaves"), [(3, 6), (4, 22), (5, 120)])
def test_pairwise_differences_as_published(n, leaves):
    tree = grow(bounder(pairwise_differences(n), Polytope(*unit(n)), exactness="max"), "first")
    assert tree.finished and len(tree.leaves) == leaves


@pytest.mark.parametrize("pieces", ["activation", "input", "polyhedral"])
@pytest.mark.parametrize("name", ["triangle", "m-1", "crown", "alpha-crown", "ibp"])
def test_leaves_are_a_partition_on_which_bounds_hold(pieces, name):
    """Every point comes to one leaf, its value is within the leaf's bounds, and the least bound is the exact value."""
    graph, inputs = random_network((2, 4, 3, 1), seed=5), Polytope(-np.ones(2), np.ones(2))
    b = bounder(graph, inputs, name, "min", pieces)
    rule = "sensitivity" if pieces == "input" else "babsr"
    tree = grow(b, rule, most=4000)
    assert len([p for p in tree.pieces if p.parent == -1]) == 1
    assert len(tree.pieces) == 2 * tree.number("split") + 1
    points = np.random.default_rng(0).uniform(-1, 1, (3000, 2))
    values = graph(torch.from_numpy(points)).numpy()[:, 0]
    leaf = leaf_of(tree, points, pre_activations(graph, points))
    status = {p.number: p.status for p in tree.pieces}
    assert not any(status[k] in ("split", "empty") for k in set(leaf.tolist()))
    exact = minimum(graph, inputs, np.ones(1)).upper
    assert values.min() >= exact - 1e-9
    if tree.finished:
        assert all(p.gap <= 0 for p in tree.leaves if p.status == "closed") and not tree.number("stuck")
    for p in tree.pieces:  # what a leaf proves holds at its points
        if p.status == "closed" and (leaf == p.number).any():
            assert values[leaf == p.number].min() >= exact - 1e-6 - max(p.gap, 0)


def test_polyhedral_pieces_are_the_branches_that_they_stand_for():
    """Half-spaces of a cut contain exactly the points with the decided phase."""
    graph, inputs = random_network((3, 4, 3, 1), seed=2), Polytope(-np.ones(3), np.ones(3))
    b = bounder(graph, inputs, pieces="polyhedral")
    tree = grow(b, "first")
    points = np.random.default_rng(1).uniform(-1, 1, (500, 3))
    z = pre_activations(graph, points)
    for p in tree.leaves:
        inside = (points @ p.region.inputs.normals.T <= p.region.inputs.offsets).all(1)
        signs = np.array([(s * z[:, k] >= 0) for k, s in p.region.phases]).all(0) if p.region.phases else True
        assert (inside == signs).all()


def brute_smallest(b: Bounder) -> int:
    """All trees, without any cleverness."""

    judge = Judge(b.graph, b.root.inputs)

    @cache
    def fewest(phases: tuple[tuple[int, int], ...]) -> int:
        region = regions[phases]
        known = b.bound([region])[0]
        if known.empty or b.goal.closed(known.values) or not len(known.undecided):
            return int(not known.empty and judge.kind(region) == "proper")
        best = 1 << 20
        for cut in b.cuts(region, known):
            pair = b.children(region, known, cut)
            regions.update({child.phases: child for child in pair})
            best = min(best, sum(fewest(child.phases) for child in pair))
        return best

    regions = {(): b.root}
    return fewest(())


@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_tree_is_the_smallest(seed):
    graph, inputs = random_network((2, 3, 2, 1), seed), Polytope(-np.ones(2), np.ones(2))
    for name in ("triangle", "m-1"):
        b, judge = bounder(graph, inputs, name), Judge(graph, inputs)
        tree = judged(smallest(b, judge)[0], judge)
        assert tree.finished and tree.leaves_of("proper") == tree.proved == brute_smallest(b)
        others = [judged(grow(b, rule), judge) for rule in ("first", "last", "babsr", "strong")]
        assert all(tree.proved <= other.leaves_of("proper") for other in others)


def test_the_smallest_tree_of_nested_maximum_decides_the_last_neuron_first():
    b = bounder(maximum(4), Polytope(*unit(4)), exactness="max")
    tree, sets = smallest(b, Judge(b.graph, b.root.inputs))
    assert len(tree.leaves) == 4 and sets <= 27 and tree.pieces[0].cut == Cut(neuron=2)


def test_a_smallest_tree_that_is_not_found_in_time_leaves_a_lower_bound():
    import time

    b = bounder(maximum(6), Polytope(*unit(6)), exactness="max")
    tree, _ = smallest(b, Judge(b.graph, b.root.inputs), time.perf_counter() + 0.05)
    assert not tree.finished and 1 <= tree.proved <= 6


def cells_of(graph, inputs: Polytope) -> int:
    """Open cells of a small network by brute force: every sign pattern's polytope, by a linear program."""
    from scipy.optimize import linprog

    count, size = 0, [graph.nodes[i].size for i in graph.layer_at]
    for signs in product((-1.0, 1.0), repeat=sum(size)):
        boxes = [(torch.full((n.size,), -1.0), torch.full((n.size,), 1.0)) for n in graph.nodes]
        at = 0
        for i, n in zip(graph.layer_at, size, strict=True):
            s = torch.tensor(signs[at : at + n]).double()
            boxes[graph.nodes[i].inputs[0]] = (s.clamp(max=0), s.clamp(min=0))
            at += n
        forms = affine_forms(graph, tuple(boxes))
        w = np.concatenate([forms[graph.nodes[i].inputs[0]][0].numpy() for i in graph.layer_at])
        b = np.concatenate([forms[graph.nodes[i].inputs[0]][1].numpy() for i in graph.layer_at])
        s = np.array(signs)
        rows = np.concatenate([np.column_stack([-s[:, None] * w, np.linalg.norm(w, axis=1)])])
        box = [(lo, up) for lo, up in zip(inputs.lower, inputs.upper, strict=True)]
        eye = np.eye(inputs.size)
        faces = np.concatenate([np.column_stack([e * eye, np.ones(inputs.size)]) for e in (1, -1)])
        sides = np.concatenate([s * b, inputs.upper, -inputs.lower])
        cost = np.append(np.zeros(inputs.size), -1.0)
        found = linprog(cost, np.concatenate([rows, faces]), sides, bounds=[*box, (None, None)])
        count += found.status == 0 and found.x[-1] > 1e-7
    return count


def test_comparison_counts_what_brute_force_counts():
    graph, box = random_network((2, 4, 3, 1), seed=3), (-np.ones(2), np.ones(2))
    found = partita.partition(graph, box, ["triangle", "m-1"])
    a = cells_of(graph, Polytope(*box))
    assert found.patterns.finished and found.patterns.low == a
    by = {(s.relaxation, s.branching): s.verdict for s in found.inequalities}
    for m in found.measurements:
        holds = m.proper <= a if m.neurons == "multi" else a <= m.proper
        assert by[m.relaxation, m.branching] == ("kept" if holds else "broken")
    assert f"A(f, X) = {a}" in str(found) and "conventions" in str(found)


def measurement(neurons: str, proper: int, finished: bool, undecided: int = 0) -> Measurement:
    none = dict.fromkeys(("closed", "flat", "unproved_empty", "other", "nodes", "empty", "stuck", "depth"), 0)
    return Measurement(
        relaxation="x",
        neurons=neurons,
        branching="first",
        leaves=proper + 3,
        proper=proper,
        undecided=undecided,
        root_gap=0.0,
        finished=finished,
        seconds=0.0,
        tree=None,
        **none,
    )


def test_leaves_that_are_not_decided_are_an_interval():
    one = measurement("single", 4, True, 2)
    assert one.shown == "4..6" and one.most == 6
    assert [compared(one, a, a).verdict for a in (3, 4, 5, 6, 7)] == ["kept", "kept", "open", "open", "broken"]
    several = measurement("multi", 4, True, 2)
    assert [compared(several, a, a).verdict for a in (3, 5, 6)] == ["broken", "open", "kept"]
    assert [compared(several, a, a, lemma=True).verdict for a in (3, 5, 6)] == ["broken", "kept", "kept"]
    assert compared(measurement("multi", 3, False), 4, 4, lemma=True).verdict == "kept"
    assert compared(measurement("single", 3, False), 4, 4, lemma=True).verdict == "open"


@pytest.mark.parametrize(
    ("neurons", "leaves", "finished", "low", "high", "verdict"),
    [
        ("multi", 4, True, 4, 4, "kept"),
        ("multi", 5, True, 4, 4, "broken"),
        ("multi", 5, False, 4, 4, "broken"),
        ("multi", 3, False, 4, 4, "open"),
        ("multi", 5, True, 4, 9, "open"),
        ("single", 4, True, 4, 4, "kept"),
        ("single", 3, True, 4, 4, "broken"),
        ("single", 3, False, 4, 4, "open"),
        ("single", 9, False, 4, 9, "kept"),
        ("single", 5, True, 4, 9, "open"),
    ],
)
def test_verdicts_on_both_inequalities(neurons, leaves, finished, low, high, verdict):
    assert compared(measurement(neurons, leaves, finished), low, high).verdict == verdict


def test_which_relaxations_look_at_several_neurons():
    multi = ("k-relu", "prima:k=3", "m-1", "m-2", "p-1", "triangle+m-1")
    single = ("ibp", "deeppoly-0", "crown", "alpha-crown", "triangle", "k-relu:k=1", "prima:k=1")
    joins = lambda name: any(one.joins for one in parse(name))  # noqa: E731
    assert all(map(joins, multi)) and not any(map(joins, single))


def test_a_relu_that_is_exact_at_once_breaks_the_right_hand_side():
    """ReLU(x) on [-1, 1]: one leaf, two patterns (THEORY)."""
    graph = random_network((1, 1, 1), seed=0)
    weight = graph.nodes[1].operators[0].weight
    weight.fill_(1.0), graph.nodes[1].bias.fill_(0.0)
    found = partition(graph, (-np.ones(1), np.ones(1)), ["triangle"], branching="first")
    assert found.measurements[0].proper == found.measurements[0].leaves == 1 and found.patterns.low == 2
    assert [side.verdict for side in found.inequalities] == ["broken"]


def test_threshold_of_a_property():
    """A property that holds is proved, one that is violated is refused with the margin."""
    graph, box = barrier(4), (-np.ones(2), np.ones(2))
    holds = box_property(*box, [[1.0]], [0.5])  # y + 1/2 <= 0 is unsafe, the minimum is 0
    found = partition(graph, holds, ["triangle", "p-1"], exactness="threshold", count=False)
    assert all(m.finished and not m.stuck for m in found.measurements)
    with pytest.raises(BadInput, match="violated"):
        partition(graph, box_property(*box, [[1.0]], [-0.5]), ["triangle"], exactness="threshold", count=False)
    with pytest.raises(BadInput, match="does not hold"):
        partition(graph, box, ["triangle"], exactness="threshold", threshold=0.5, count=False)
    found = partition(graph, box, ["triangle"], exactness="threshold", threshold=-0.5, count=False)
    assert all(m.finished for m in found.measurements)


def nested_maximum_and_a_property(folder) -> list[str]:
    """max(x1, .., x4) on [0,1]^4 as files, with the property that it stays below 1.0001."""
    (folder / "max.onnx").write_bytes(graph_to_onnx(maximum(4)))
    text = "".join(f"(declare-const X_{i} Real)" for i in range(4)) + "(declare-const Y_0 Real)"
    text += "".join(f"(assert (>= X_{i} 0.0))(assert (<= X_{i} 1.0))" for i in range(4))
    (folder / "max.vnnlib").write_text(text + "(assert (>= Y_0 1.0001))")
    return [str(folder / "max.onnx"), str(folder / "max.vnnlib")]


def test_exactness_is_that_of_outputs_and_not_of_a_property_s_rows(tmp_path, capsys):
    """The row of `Y_0 >= 1.0001` is 1.0001 - Y_0: its maximum is the output's minimum, exact for every relaxation."""
    files = nested_maximum_and_a_property(tmp_path)
    argv = ["partition", *files, "--relaxations", "ibp,triangle,m-1", "--branching", "last", "--exactness", "max"]
    assert cli.run([*argv, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {m["relaxation"]: m["proper"] for m in said["measurements"]} == {"ibp": 5, "triangle": 4, "m-1": 1}
    assert said["exact"] == {"max of Y_0": pytest.approx(1.0)}
    assert cli.run([*argv, "--json", "--outputs", "rows"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {m["proper"] for m in said["measurements"]} == {1}
    assert said["exact"] == {"max of -Y_0 + 1.0001": pytest.approx(1.0001)}
    assert said["conventions"]["rows"] == "-Y_0 + 1.0001"
    assert cli.run([*argv, "--outputs", "Y_7"]) == 2
    assert "there is no output 'Y_7'" in capsys.readouterr().err
    assert cli.run([*argv[:-1], "threshold"]) == 0  # the property itself
    assert "least margin of unsafe set 0" in capsys.readouterr().out


def test_outputs_are_chosen_by_name_and_number():
    graph, box = random_network((2, 3, 3), 0), (-np.ones(2), np.ones(2))
    for chosen in ("Y_2, Y_0", ["Y_2", 0], [2, "Y_0", 2]):
        found = partition(graph, box, ["triangle"], exactness="min", branching="first", outputs=chosen, count=False)
        assert [name for name, _ in found.values] == ["min of Y_2", "min of Y_0"]
    exact = bound(graph, box, "exact").lower
    assert [value for _, value in found.values] == pytest.approx([exact[2], exact[0]], abs=1e-5)


def test_rows_in_words():
    assert formula(np.array([1.0, 0.0, -2.0]), 0.5) == "Y_0 - 2 Y_2 + 0.5"
    assert formula(np.array([-1.0]), -3.0, np.array([0.0, 0.25])) == "-Y_0 + 0.25 X_1 - 3"
    assert formula(np.zeros(2), -1.5) == "-1.5" and formula(np.ones(9), 0.0).endswith("+ .. (9 terms)")


def test_unsafe_sets_of_several_rows_need_one_positive_row_each():
    goal = Goal(np.zeros((3, 1)), np.zeros(3), np.zeros(3), np.zeros(3), ((0, 1), (2,)))
    assert goal.closed(np.array([-5.0, 0.1, 0.1])) and not goal.closed(np.array([1.0, 1.0, -0.2]))
    assert goal.gap(np.array([-5.0, -1.0, -3.0])) == 3 and goal.worst(np.array([-5.0, -1.0, -3.0])) == 2
    assert goal.worst(np.array([-5.0, -4.0, -3.0])) == 1


def test_what_does_not_finish_is_a_lower_bound():
    options = {"exactness": "max", "branching": "first", "count": False}
    for seconds in (0.2, 1.0, 5.0):  # on a busy machine the exact value takes a while
        try:
            found = partition(maximum(6), unit(6), ["triangle"], timeout=seconds, **options)
            if found.measurements:
                break
        except TimeoutError as error:
            assert "was not found" in str(error) or "time limit" in str(error)
    m = found.measurements[0]
    assert not m.finished and 1 <= m.proper <= m.leaves <= 32 and m.shown.startswith(">= ") and m.shown in str(found)


def test_cuts_lose_no_point():
    graph, inputs = random_graph(3, inputs=2, width=4).to(torch.float64), Polytope(-np.ones(2), np.ones(2))
    b = bounder(graph, inputs, pieces="polyhedral", exactness="min")
    known = b.bound([b.root])[0]
    points = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
    for cut in b.cuts(b.root, known):
        below, above = cut_along(graph, b.root, known, cut.neuron)
        inside = [r.inputs.contains(x) for r in (below, above) for x in points]
        assert np.logical_or(*np.reshape(inside, (2, -1))).all()
    left, right = bisect(b.root, known, 1, 0.25)
    assert left.inputs.upper[1] == right.inputs.lower[1] == 0.25
    assert boxes_of(graph, left) is not None


def test_command(tmp_path, capsys):
    from partita.problems.properties.vnnlib import load_property

    (tmp_path / "net.onnx").write_bytes(graph_to_onnx(random_graph(1, inputs=2, width=3, outputs=1)))
    text = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)"
    text += "(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 -1))(assert (<= X_1 1))(assert (>= Y_0 100))"
    (tmp_path / "p.vnnlib").write_text(text)
    assert load_property(tmp_path / "p.vnnlib", 2, 1).n_in == 2
    files = [str(tmp_path / "net.onnx"), str(tmp_path / "p.vnnlib")]
    argv = ["partition", *files, "--relaxations", "triangle,k-relu:k=2,groups=all,m-1", "--convex"]
    argv += ["--out", str(tmp_path / "out")]
    assert cli.run([*argv, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {m["relaxation"] for m in said["measurements"]} == {"triangle", "k-relu:k=2,groups=all", "m-1"}
    assert said["patterns"]["finished"] and len(said["proposition 5.6"]) == 9
    assert 1 <= said["convex pieces"]["exact"] == said["convex pieces"]["pieces"] <= said["patterns"]["low"]
    assert set(said["exact"]) == {"min of Y_0", "max of Y_0"} and said["conventions"]["rows"] == "Y_0"
    kept = json.loads((tmp_path / "out" / "tables.json").read_text())
    assert [m["proper"] for m in kept["measurements"]] == [m["proper"] for m in said["measurements"]]
    leaves = [p["leaf"] for p in kept["measurements"][0]["tree"] if p["status"] in ("closed", "stuck")]
    assert leaves.count("proper") == kept["measurements"][0]["proper"]
    assert [m["leaves"] for m in kept["measurements"]] == [m["leaves"] for m in said["measurements"]]
    assert {"trees.svg", "leaves.svg", "pieces.svg"} <= {p.name for p in (tmp_path / "out").iterdir()}
    assert cli.run([*argv[:3], "--relaxations", "triangel"]) == 2
    assert "nearest is 'triangle'" in capsys.readouterr().err


def test_convex_pieces_are_counted_beside_the_trees():
    found = partition(barrier(4), (-np.ones(2), np.ones(2)), ["p-1"], branching="first", convex=True)
    pieces, checked = found.convex
    assert checked.exact == checked.pieces == len(pieces.pieces) == 3 and found.patterns.low == 5
    assert "3 pieces that stay convex" in str(found)


def test_names_are_parted_at_commas_that_part_names():
    assert relaxation_list("triangle, k-relu:k=2,groups=all,m-1") == ["triangle", "k-relu:k=2,groups=all", "m-1"]


def test_json_holds_the_trees():
    found = partition(maximum(3), unit(3), ["triangle"], exactness="max", branching="last", count=False)
    tree = data(found, trees=True)["measurements"][0]["tree"]
    assert [p["status"] for p in tree].count("closed") == 3 and tree[0]["neuron"] == 1 and tree[0]["parent"] == -1


def test_tables_are_aligned():
    lines = table([("name", "n"), ("a", "10"), ("bcdef", "9")]).splitlines()
    assert lines == ["name    n", "a      10", "bcdef   9"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"relaxations": []}, "at least one"),
        ({"relaxations": ["exact"]}, "no partition"),
        ({"relaxations": ["crown+triangle"]}, "batched"),
        ({"exactness": "mean"}, "one of min, max, both, threshold"),
        ({"pieces": "boxes"}, "pieces must be one of"),
        ({"branching": "worst"}, "branching must be one of"),
        ({"pieces": "input", "branching": "optimal"}, "branching must be one of"),
        ({"intervals": "loose"}, "intervals must be one of"),
        ({"threshold": 1.0}, "goes with exactness=threshold"),
        ({"exactness": "threshold"}, "needs a threshold"),
        ({"tolerance": 0.0}, "tolerance must be"),
        ({"outputs": ["Y_1"]}, "there is no output 'Y_1': the network's outputs are Y_0, or all"),
        ({"outputs": "Y_0,X_0"}, "there is no output 'X_0'"),
        ({"outputs": [-1]}, "there is no output '-1'"),
        ({"outputs": "Y_0,"}, "there is no output ''"),
        ({"outputs": []}, "at least one"),
        ({"outputs": 0}, "a list of outputs"),
        ({"outputs": "rows"}, "there are none"),
        ({"outputs": [3], "network": random_network((2, 3, 3), 0)}, "Y_0 to Y_2, or all"),
        ({"input_set": (np.ones(2), -np.ones(2))}, "empty"),
        ({"input_set": (np.zeros(3), np.ones(3))}, "the network has 2 inputs"),
        ({"input_set": (np.zeros(2), np.full(2, np.inf))}, "finite"),
        ({"input_set": Polytope(np.zeros(2), np.ones(2), np.ones((1, 2)), -np.ones(1))}, "empty"),
        ({"input_set": 3}, "an input set is"),
        ({"network": random_graph(0, "tanh", inputs=2)}, "not piecewise linear"),
        ({"branching": "optimal", "network": random_network((2, 30, 1), 0)}, "at most 12 undecided neurons"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_bad_input_is_one_sentence(options, sentence):
    arguments = {"network": barrier(2), "input_set": (-np.ones(2), np.ones(2)), "relaxations": ["triangle"]}
    arguments |= {"count": False} | options
    with pytest.raises(BadInput, match=sentence):
        partition(arguments.pop("network"), arguments.pop("input_set"), arguments.pop("relaxations"), **arguments)


def test_a_property_with_several_input_sets_asks_for_one():
    from partita.problems.properties.property import Case, Property, UnsafeSet

    unsafe = (UnsafeSet(np.ones((1, 1)), np.full(1, 9.0)),)
    cases = tuple(Case(Polytope(np.full(2, a), np.full(2, a + 1.0)), unsafe) for a in (-1.0, 0.0))
    prop = Property(cases, 2, 1)
    with pytest.raises(BadInput, match="case=0 to 1"):
        partition(barrier(2), prop, ["triangle"], count=False)
    found = partition(barrier(2), prop, ["triangle"], case=1, count=False)
    assert found.inputs is cases[1].inputs


def test_an_interrupt_keeps_the_trees_that_are(tmp_path, monkeypatch, capsys):
    (tmp_path / "max.onnx").write_bytes(graph_to_onnx(maximum(3)))
    (tmp_path / "box.vnnlib").write_text(
        "".join(f"(declare-const X_{i} Real)\n" for i in range(3))
        + "(declare-const Y_0 Real)\n"
        + "".join(f"(assert (>= X_{i} 0.0))\n(assert (<= X_{i} 1.0))\n" for i in range(3))
        + "(assert (>= Y_0 2.0))\n"
    )
    calls = []

    def interrupted(bounder, rule, deadline):
        calls.append(rule)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return grow(bounder, rule, deadline)

    monkeypatch.setattr("partita.bab.comparing.partition.grow", interrupted)
    files = [str(tmp_path / "max.onnx"), str(tmp_path / "box.vnnlib")]
    code = cli.run(["partition", *files, "--relaxations", "triangle", "--json", "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert code == 130 and len(calls) == 2
    assert [tree["branching"] for tree in json.loads(said.out)["measurements"]] == ["first"]
    assert INTERRUPTED in json.loads(said.out)["notes"] and "triangle, first:" in said.err
    assert (tmp_path / "out" / "tables.json").is_file()
