"""A(f, X): known counts, brute force, bounds from both sides, exact arithmetic, bad input, the command and its file.

PARTITA_BRUTE=300 runs brute force on as many random networks as the acceptance of this counter asked for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from math import factorial

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from brute_force import patterns as brute_force
from networks import graph_to_onnx, random_graph

import partita
from partita.bab.counting.bound import zaslavsky
from partita.bab.counting.patterns import count, count_patterns
from partita.bab.counting.search import Listener
from partita.problems.errors import BadInput
from partita.problems.network.activation import ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.network.library import barrier, maximum, pairwise_differences
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet

CASES = int(os.environ.get("PARTITA_BRUTE", "18"))
KINDS = ("dense", "integers", "leaky", "residual", "dense", "integers")


def box(d: int, lower: float = 0.0, upper: float = 1.0) -> Polytope:
    return Polytope(np.full(d, lower), np.full(d, upper))


def integers(seed: int, sizes: list[int]) -> Graph:
    """A network with weights -1, 0, 1 and small whole biases: planes meet where generic ones would not."""
    random = torch.Generator().manual_seed(seed)
    nodes: list = [Input(sizes[0])]
    for n, m in pairwise(sizes):
        weight = torch.randint(-1, 2, (m, n), generator=random).double()
        nodes.append(Affine((len(nodes) - 1,), (Dense(weight),), torch.randint(-1, 2, (m,), generator=random).double()))
        nodes.append(Activation((len(nodes) - 1,), ReLU(), m))
    nodes.append(Affine((len(nodes) - 1,), (Dense(torch.ones(1, sizes[-1]).double()),), torch.zeros(1).double()))
    return Graph(tuple(nodes), (sizes[0],), (1,))


def case(seed: int) -> tuple[Graph, Polytope]:
    """A network of at most 3 layers, 12 neurons and 4 inputs, and a box or a polytope.

    Numbers are such that no cell is so thin that an LP solver cannot tell it: what the counter finds there is exact,
    and brute force would miss it.
    """
    random = np.random.default_rng(seed)
    d, depth = int(random.integers(1, 5)), int(random.integers(1, 4))
    width = int(random.integers(2, 12 // depth + 1))
    kind = KINDS[seed % len(KINDS)]
    if kind == "integers":
        graph = integers(seed, [d] + [width] * depth)
    else:
        graph = random_graph(seed, {"dense": "mlp"}.get(kind, kind), d, width, depth)
    polytope = box(d, -2.0, 2.0)
    if seed % 4 == 3:
        normals = np.round(4 * random.normal(size=(2, d))) / 4
        polytope = Polytope(polytope.lower, polytope.upper, normals, np.array([1.0, 1.5]))
    return graph, polytope


@pytest.mark.parametrize("seed", range(CASES))
@pytest.mark.parametrize("cells", ["open", "all"])
def test_brute_force_agrees(seed, cells):
    graph, polytope = case(seed)
    expected = brute_force(graph, polytope, cells)
    result = count(graph, polytope, cells=cells)
    assert result.finished and (result.low, result.high) == (len(expected), len(expected)), result
    unpacked = np.unpackbits(result.patterns, axis=1, count=graph.neurons, bitorder="little").astype(bool)
    assert {tuple(row) for row in unpacked.tolist()} == expected


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("cells", ["open", "all"])
def test_exact_arithmetic_agrees(seed, cells):
    graph, polytope = case(100 + seed)
    fast, exact = (count(graph, polytope, cells=cells, rational=rational) for rational in (False, True))
    assert fast.finished and exact.finished and fast.low == exact.low
    assert set(map(bytes, fast.patterns)) == set(map(bytes, exact.patterns))


@pytest.mark.parametrize("seed", [1885, 1068, 1248])
@pytest.mark.parametrize("cells", ["open", "all"])
def test_slivers_and_constant_neurons(seed, cells, monkeypatch):
    """Found by fuzzing: half-spaces that almost meet corners, and constant neurons of opposite sign."""
    random = np.random.default_rng(seed)
    d, depth = int(random.integers(1, 5)), int(random.integers(1, 4))
    graph = integers(seed, [d] + [int(random.integers(2, 12 // depth + 1))] * depth)
    polytope = box(d, -1.0, 1.0)
    if seed % 5 == 0:
        polytope = Polytope(
            polytope.lower, polytope.upper, np.round(random.normal(size=(2, d)), 1), np.array([0.5, 0.7])
        )
    exact = count(graph, polytope, cells=cells, rational=True)
    fast = count(graph, polytope, cells=cells)
    monkeypatch.setattr("partita.bab.counting.patterns.DIMENSIONS", 0)
    monkeypatch.setattr("partita.bab.counting.patterns.STRUCTURED", 0)
    programs = count(graph, polytope, cells=cells)
    assert all(set(map(bytes, result.patterns)) == set(map(bytes, exact.patterns)) for result in (fast, programs))


@pytest.mark.parametrize("d", range(2, 15))
def test_the_nested_maximum_has_two_to_the_d_minus_one(d):
    result = count(maximum(d), box(d))
    assert result.finished and result.low == 2 ** (d - 1) and not result.doubtful


@pytest.mark.parametrize("d", [2, 5])
def test_bounds_that_are_no_dyadic_fractions(d):
    for cells in ("open", "all"):
        result = count(maximum(d), box(d, 0.1, 0.7), cells=cells)
        assert str(result) == str(2 ** (d - 1)) and result.rational == result.low  # corners on planes: recounted


@pytest.mark.parametrize("n", range(2, 7))
def test_pairwise_differences_have_the_orders(n):
    weak_orders = {2: 3, 3: 13, 4: 75, 5: 541, 6: 4683}  # Fubini numbers
    assert count(pairwise_differences(n, doubled=True), box(n)).low == factorial(n)
    if n < 6:
        assert count(pairwise_differences(n, doubled=True), box(n), cells="all").low == weak_orders[n]


@pytest.mark.parametrize("kind", ["mlp", "residual", "conv", "maxpool", "leaky"])
def test_between_samples_and_zaslavsky(kind):
    d = 4 if kind == "conv" else 3
    graph = random_graph(7, kind, inputs=d, width=8, depth=2)
    result = count(graph, box(d, -1.5, 1.5))
    random = torch.Generator().manual_seed(0)
    x = 3 * torch.rand(20_000, d, generator=random, dtype=torch.float64) - 1.5
    values = graph.to(torch.float64).values(x)
    seen = torch.cat([values[graph.nodes[i].inputs[0]] > 0 for i in graph.layer_at], 1)
    most = 1
    for i in graph.layer_at:
        most *= zaslavsky(graph.nodes[i].size, d)
    assert result.finished and len(seen.unique(dim=0)) <= result.low <= most
    sampled = {bytes(row) for row in np.packbits(seen.numpy(), axis=1, bitorder="little")}
    assert sampled <= set(map(bytes, result.patterns))


def test_zaslavsky():
    assert [zaslavsky(n, 2) for n in range(5)] == [1, 2, 4, 7, 11]
    assert zaslavsky(3, 8) == 8


def test_chunks_do_not_change_the_count(monkeypatch):
    graph, polytope = random_graph(3, "mlp", 3, 12, 2), box(3, -2.0, 2.0)
    whole = count(graph, polytope)
    monkeypatch.setattr("partita.bab.counting.tree.ENTRIES", 400)
    parts = count(graph, polytope)
    assert parts.low == whole.low > 100 and parts.layers == whole.layers
    assert set(map(bytes, whole.patterns)) == set(map(bytes, parts.patterns))


def test_a_thin_cell_is_found():
    """Two almost parallel lines, closer than the tree's tolerance, with a strip between them."""
    weight = torch.tensor([[1.0, 0.5], [1.0, 0.5]], dtype=torch.float64)
    bias = torch.tensor([0.25, 0.25 + 1e-13], dtype=torch.float64)
    nodes = (Input(2), Affine((0,), (Dense(weight),), bias), Activation((1,), ReLU(), 2))
    graph = Graph((*nodes, Affine((2,), (Dense(torch.ones(1, 2).double()),), torch.zeros(1).double())), (2,), (1,))
    assert count(graph, box(2, -1 / 3, 1 / 3)).low == 3


def test_a_neuron_that_is_zero_on_a_cell_counts_once():
    dead = Affine((2,), (Dense(torch.tensor([[1.0]]).double()),), torch.zeros(1).double())
    first = Affine((0,), (Dense(torch.tensor([[1.0, 0.0]]).double()),), torch.zeros(1).double())
    graph = Graph((Input(2), first, Activation((1,), ReLU(), 1), dead, Activation((3,), ReLU(), 1)), (2,), (1,))
    for cells in ("open", "all"):
        for rational in (False, True):
            assert count(graph, box(2, -1, 1), cells=cells, rational=rational).low == 2


def test_a_flat_input_set_counts_for_all_alone():
    graph = random_graph(5, "mlp", inputs=3, width=6, depth=2)
    flat = Polytope(np.array([-2.0, 0.3, -2.0]), np.array([2.0, 0.3, 2.0]))
    with pytest.raises(BadInput, match="flat: 1 of 3 inputs are fixed, the first is input 1"):
        count(graph, flat)
    assert count(graph, flat, cells="all").low == len(brute_force(graph, flat, "all")) > 3
    point = Polytope(np.full(3, 0.5), np.full(3, 0.5))
    assert count(graph, point, cells="all").low == 1


def test_a_union_has_each_pattern_once():
    graph = random_graph(11, "mlp", inputs=2, width=8, depth=1)
    left, right = (Polytope(np.array([a, -2.0]), np.array([b, 2.0])) for a, b in ((-2.0, 0.5), (-0.5, 2.0)))
    unsafe = (UnsafeSet(np.zeros((1, 2)), np.ones(1)),)
    union = Property(tuple(Case(p, unsafe) for p in (left, right)), 2, 2)
    assert count_patterns(graph, union).low == count(graph, box(2, -2.0, 2.0)).low


@pytest.mark.parametrize(
    ("lower", "upper", "normals", "message"),
    [
        ([0, -np.inf], [1, 1], None, "unbounded: input 1 needs"),
        ([0, 2], [1, 1], None, "empty: the lower bound of input 1"),
        ([0, 0], [1, 1], ([[1.0, 1.0]], [-1.0]), "empty"),
        ([0, 0], [1, 1], ([[1.0, 1.0]], [0.0]), "flat"),
        ([0], [1], None, "has 1 lower and 1 upper bounds, but the network has 2 inputs"),
    ],
)
def test_input_sets_that_are_refused(lower, upper, normals, message):
    a, b = (None, None) if normals is None else map(np.array, normals)
    for rational in (False, True):
        with pytest.raises(BadInput, match=message):
            count(barrier(2.0), Polytope(np.array(lower, float), np.array(upper, float), a, b), rational=rational)


def test_networks_without_patterns_are_refused():
    with pytest.raises(BadInput, match="Sigmoid, which has no phases"):
        count(random_graph(0, "sigmoid"), box(3))


@pytest.mark.parametrize("rational", [False, True])
def test_a_count_that_runs_out_of_time_is_an_interval(rational):
    graph, polytope = random_graph(2, "mlp", inputs=4, width=40, depth=3), box(4, -3.0, 3.0)
    begin = time.monotonic()
    result = count(graph, polytope, deadline=begin + 1.0, rational=rational)
    assert time.monotonic() - begin < 3.0
    assert not result.finished and 0 < result.low < result.high and "time limit" in result.reason
    assert str(result) == f"{result.low}..{result.high}"


def test_an_interrupt_keeps_what_was_found():
    graph, polytope = random_graph(2, "mlp", inputs=3, width=16, depth=2), box(3, -3.0, 3.0)
    whole = count(graph, polytope)

    def stop(found: int, waiting: int, seconds: float) -> None:
        raise KeyboardInterrupt

    for rational in (False, True):
        part = count(graph, polytope, listener=Listener(progress=stop), rational=rational)
        assert part.low <= whole.low <= part.high
        assert part.finished or part.reason == "interrupted"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("count")
    (folder / "net.onnx").write_bytes(graph_to_onnx(random_graph(4, "mlp", inputs=2, width=6, depth=2)))
    lines = [f"(declare-const X_{i} Real)" for i in range(2)] + [f"(declare-const Y_{i} Real)" for i in range(2)]
    lines += [f"(assert (>= X_{i} -2.0))\n(assert (<= X_{i} 2.0))" for i in range(2)] + ["(assert (<= Y_0 Y_1))"]
    (folder / "prop.vnnlib").write_text("\n".join(lines))
    return folder


def test_the_command_prints_the_number_and_writes_the_cells(files):
    command = [sys.executable, "-m", "partita", "count", str(files / "net.onnx"), str(files / "prop.vnnlib")]
    said = subprocess.run([*command, "--out", str(files / "out")], capture_output=True, text=True, check=True)
    expected = partita.count_patterns(files / "net.onnx", files / "prop.vnnlib")
    assert said.stdout == f"{expected.low}\n" and "cells after each layer" in said.stderr
    table = pq.read_table(files / "out" / "cells.parquet")
    assert table.num_rows == expected.low and set(table["pattern"].to_pylist()) == set(map(bytes, expected.patterns))
    assert sum(table["volume"].to_pylist()) == pytest.approx(16.0, rel=1e-9)
    assert set(table["dimension"].to_pylist()) == {2}
    whole = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert (whole["low"], whole["high"], whole["finished"]) == (expected.low, expected.low, True)


def test_the_file_has_a_row_a_pattern_however_it_was_found(tmp_path, monkeypatch):
    graph, lower, upper = maximum(3), np.full(3, 0.1), np.full(3, 0.7)
    whole = Polytope(lower, upper)
    for name, options, place in [
        ("recounted", {}, whole),
        ("exact", {"rational": True}, whole),
        ("flat", {"cells": "all"}, Polytope(np.array([0.1, 0.3, 0.1]), np.array([0.7, 0.3, 0.7]))),
    ]:
        result = count_patterns(graph, place, out=tmp_path / name, **options)
        table = pq.read_table(tmp_path / name / "cells.parquet")
        assert set(table["pattern"].to_pylist()) == set(map(bytes, result.patterns)) and table.num_rows == result.low
        assert all(place.contains(np.array(x)) for x in table["point"].to_pylist())
    monkeypatch.setattr("partita.bab.counting.patterns.DIMENSIONS", 0)
    monkeypatch.setattr("partita.bab.counting.patterns.STRUCTURED", 0)
    result = count_patterns(graph, (np.zeros(3), np.ones(3)), out=tmp_path)
    table = pq.read_table(tmp_path / "cells.parquet")
    assert table.num_rows == result.low == 4 and set(table["dimension"].to_pylist()) == {3}


def test_volumes_add_up_in_one_and_three_dimensions(tmp_path):
    for d in (1, 3):
        graph = random_graph(6, "mlp", inputs=d, width=7, depth=2)
        result = count_patterns(graph, (np.full(d, -1.0), np.full(d, 1.0)), out=tmp_path / str(d))
        table = pq.read_table(tmp_path / str(d) / "cells.parquet")
        assert table.num_rows == result.low and sum(table["volume"].to_pylist()) == pytest.approx(2.0**d, rel=1e-9)
        points = torch.tensor(table["point"].to_pylist(), dtype=torch.float64)
        values = graph.to(torch.float64).values(points)
        on = torch.cat([values[graph.nodes[i].inputs[0]] > 0 for i in graph.layer_at], 1).numpy()
        assert [bytes(row) for row in np.packbits(on, axis=1, bitorder="little")] == table["pattern"].to_pylist()
