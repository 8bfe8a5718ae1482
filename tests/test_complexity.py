"""Study 6: trees of pairwise differences counted through partial orders, beside linear programs and brute force."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from partita.bab.comparing.exact_goal import Notion, goal_for, rows_of
from partita.bab.comparing.grow import Bounder, grow
from partita.bab.comparing.measured import Region
from partita.bab.comparing.measures import measure_for
from partita.bab.comparing.proper import Judge
from partita.bab.comparing.smallest import smallest
from partita.problems.network.library import pairwise_differences
from partita.problems.properties.property import Polytope

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
if not SCRIPTS.is_dir():
    pytest.skip("the studies are in a checkout of the repository alone", allow_module_level=True)
sys.path.insert(0, str(SCRIPTS))
from studies import complexity, orders  # noqa: E402
from studies.complexity_subjects import MOST, shrunk, trained_subjects  # noqa: E402


def bounder(n: int) -> Bounder:
    graph, inputs = pairwise_differences(n).to(torch.float64), Polytope(np.zeros(n), np.ones(n))
    goal = goal_for(graph, inputs, rows_of(graph, ()), Notion("max", None, 1e-6)).goal
    measure = measure_for(graph, goal, inputs, "triangle", True)
    return Bounder(graph, goal, measure, measure.linear, Region(inputs), "activation")


@pytest.mark.parametrize("n", [3, 4, 5])
def test_orders_count_the_leaves_of_linear_programs(n):
    """The whole tree, piece by piece: the same bound of every branch."""
    b, known = bounder(n), orders.Orders(n)
    tree = grow(b, "first")
    assert len(tree.leaves) == orders.leaves(n)
    for phases, found in list(b.memory.items())[:60]:
        order = known.none
        for neuron, sign in phases:
            i, j = known.pairs[neuron]
            order = known.decided(order, *((i, j) if sign > 0 else (j, i)))
        assert -found.values[0] == pytest.approx(known.bound(order), abs=1e-6)
        assert [known.pairs[k] for k in found.undecided] == known.open(order)


def test_published_counts():
    assert [orders.leaves(n) for n in (3, 4, 5, 6, 7)] == [6, 22, 120, 660, 5040]


def test_published_counts_with_cuts():
    """Both kinds of cuts on three inputs give the note's 10, 48, 212, 1316; the first alone gives 242 for n = 7."""
    assert [orders.cut_leaves(n, "both") for n in (5, 6, 7)] == [10, 48, 212]
    assert [orders.cut_leaves(n, "perimeter") for n in (5, 6, 7)] == [10, 48, 242]
    assert [orders.cut_leaves(n, "hull") for n in (5, 6)] == [10, 48]
    with pytest.raises(ValueError, match="perimeter, both, hull"):
        orders.cut_leaves(5, "first")


@pytest.mark.skipif(not os.environ.get("PARTITA_SLOW"), reason="PARTITA_SLOW=1 runs it: about a minute")
def test_published_counts_with_cuts_of_eight():
    assert orders.cut_leaves(8, "both") == orders.cut_leaves(8, "perimeter") == 1316


@pytest.mark.parametrize("n", [3, 4])
def test_the_smallest_tree_of_orders_is_that_of_linear_programs(n):
    b = bounder(n)
    tree, _ = smallest(b, Judge(b.graph, b.root.inputs))
    assert orders.fewest(n)[0] == tree.proved == len(tree.leaves)


def test_partial_orders_are_all_looked_at():
    """There are 219 labelled partial orders of four elements and 4,231 of five, of which only chains are closed."""
    assert orders.fewest(4)[1] <= 219 and orders.fewest(5)[1] == 4231


def test_cut_bounds_are_between_the_maximum_and_the_triangle():
    """Over random partial orders: value at points <= hull <= both kinds <= perimeter <= triangle."""
    random, known = np.random.default_rng(0), orders.Orders(5)
    for _ in range(12):
        order = known.none
        for _ in range(int(random.integers(0, 8))):
            free = known.open(order)
            if free:
                i, j = free[random.integers(len(free))]
                order = known.decided(order, i, j)
        hull, both, facet = (orders.cut_bound(known, order, cuts) for cuts in ("hull", "both", "perimeter"))
        corners = [
            x
            for x in product((0, 1), repeat=5)
            if all(x[i] >= x[j] for i in range(5) for j in range(5) if known.above(order, i, j))
        ]
        value = max(sum(abs(x[i] - x[j]) for i, j in known.pairs) for x in corners)
        assert value <= hull + 1e-6 <= both + 2e-6 <= facet + 3e-6 <= known.bound(order) + 4e-6


def test_tables_hold_the_theorys_numbers():
    comparisons, table = complexity._maxima(4)
    assert table.column("first") == [2, 8] and table.column("last") == [2, 4] and table.column("m-1") == [1, 1]
    assert table.column("smallest tree") == [2, 4] and table.column("A(f, X)") == [2, 8]
    assert complexity._about_maxima(table).startswith("Nested maxima show what a rule is worth")
    verdicts = complexity._verdicts("x", comparisons)
    rows = {(row[0], row[1]): row for row in verdicts.rows}
    assert rows["triangle", "first"][3:6] == [2, 0, 0] and rows["triangle", "last"][3:6] == [1, 1, 0]
    assert rows["m-1", "first"][3:6] == [2, 0, 0]
    said = complexity._findings([table, *[None] * 3, complexity._differences(5)], {"maxima": comparisons})
    assert "Refuted: the right side of proposition 5.6 tree by tree" in said
    assert "fewer than A proper leaves had 2 of 6 (maxima), exactly A 4, more none" in said
    assert "Confirmed: none of 12 trees has more than A proper leaves" in said and "outnumber A" not in said
    assert (
        "6, 22, 120, are reproduced" in said and "16 leaves for n = 4" in said and "For n = 3, 5 the smallest" in said
    )
    assert "Refuted: the note" not in said


def test_a_count_that_differs_from_the_note_is_said():
    table = complexity._differences(5)
    wrong = replace(table, rows=[[*row[:2], 7, *row[3:]] if row[0] == 4 else row for row in table.rows])
    said, refuted = complexity._about_differences(wrong)
    assert refuted == "the note's 7 for n = 4, which is 22." and "6, 120, are reproduced" in said


@pytest.mark.parametrize("n", [3, 5])
def test_odd_differences_close_linear_orders_alone(n):
    """Every partial order with an incomparable pair has a bound beyond the maximum: all trees have n! leaves."""
    known, seen = orders.Orders(n), set()
    open_ = [known.none]
    while open_:
        order = open_.pop()
        if order in seen:
            continue
        seen.add(order)
        pairs = known.open(order)
        assert (known.bound(order) <= known.greatest) == (not pairs)
        open_ += [known.decided(order, *pair) for i, j in pairs for pair in ((i, j), (j, i))]
    assert len(seen) == {3: 19, 5: 4231}[n]


def test_benchmarks_that_are_absent_are_a_sentence(monkeypatch, tmp_path):
    from studies.complexity_subjects import real_subjects

    monkeypatch.delenv("PARTITA_BENCH", raising=False)
    assert real_subjects() == (
        [],
        "Benchmark networks were left out: PARTITA_BENCH does not name a folder with their families.",
    )
    monkeypatch.setenv("PARTITA_BENCH", str(tmp_path))
    found, sentence = real_subjects()
    assert not found and "cartpole" in sentence


def test_trained_networks_are_met_where_few_neurons_are_undecided():
    from partita.relaxations.bound import bound

    subject = next(trained_subjects())
    unstable = sum(map(len, bound(subject.graph, subject.inputs, "crown").unstable))
    assert 0 < unstable <= MOST and 0 < subject.share <= 1


def test_real_networks(bench, monkeypatch):
    monkeypatch.setenv("PARTITA_BENCH", str(bench))
    files = [
        bench / "rl_benchmarks" / kind for kind in ("onnx/cartpole.onnx.gz", "vnnlib/cartpole_case_safe_49.vnnlib.gz")
    ]
    assert shrunk("cartpole", *files).graph.input_size == 4
