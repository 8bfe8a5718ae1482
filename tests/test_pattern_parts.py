"""The counter's parts on their own: bits, exact programs, cutting polytopes, proofs of cells, linear programs."""

from __future__ import annotations

import time
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from networks import random_graph

from partita.bab.counting import patterns
from partita.bab.counting.inputs import vertices_of
from partita.bab.counting.patterns import count
from partita.bab.counting.proof import proved, witnessed
from partita.bab.counting.tree import active, advance, finished, plan, root
from partita.kernels import bits, ragged
from partita.kernels.double_description import box, cut
from partita.kernels.exact_program import Inequality, solution
from partita.problems.errors import BadInput
from partita.problems.network.activation import ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.network.library import maximum
from partita.problems.properties.property import Polytope
from partita.relaxations.leaf.forms import pattern_forms


def cube(d: int, radius: float = 1.0) -> Polytope:
    return Polytope(np.full(d, -radius), np.full(d, radius))


def test_bits():
    words = np.array([0, 1, 0b1011, -1, -(1 << 63)])
    assert bits.popcount(words).tolist() == [0, 1, 3, 64, 1]
    assert bits.lowest_free(words[:3]).tolist() == [1, 2, 4]
    assert bits.place(np.array([1, 8, 1 << 61])).tolist() == [0, 3, 61]
    sets = np.zeros((2, 2), dtype=np.int64)
    for place in (0, 63, 64, 99):
        bits.set_bit(sets, place, np.array([True, False]))
    assert bits.to_booleans(sets, 100).nonzero()[1].tolist() == [0, 63, 64, 99]
    assert bits.to_bytes(sets, 100).shape == (2, 13)


def test_popcount_without_the_processors_instruction(monkeypatch):
    words = np.random.default_rng(0).integers(-(2**63), 2**63, 1000)
    fast = bits.popcount(words)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert np.array_equal(bits.popcount(words), fast)


def test_ragged():
    assert ragged.ranges(np.array([5, 0, 9]), np.array([2, 0, 1])).tolist() == [5, 6, 9]
    assert ragged.count(np.array([True, False, True]), np.array([0, 2, 3])).tolist() == [1, 1]
    parts = ragged.blocks(np.array([3, 3, 3, 9, 1]), 6)
    assert parts[0][0] == 0 and parts[-1][1] == 5 and all(a[1] == b[0] for a, b in pairwise(parts))


def test_exact_programs_against_corners():
    """Small systems over a small box, compared with a search of a lattice."""
    random = np.random.default_rng(0)
    for _ in range(200):
        d, k = int(random.integers(1, 4)), int(random.integers(1, 5))
        rows = [
            Inequality(
                tuple(map(int, random.integers(-3, 4, d))), int(random.integers(-4, 5)), bool(random.integers(2))
            )
            for _ in range(k)
        ]
        found = solution(rows, [4] * d)
        lattice = [
            point
            for point in product([Fraction(i, 2) for i in range(9)], repeat=d)
            if all(_holds(row, point) for row in rows)
        ]
        if found is None:
            assert not lattice
        else:
            assert all(_holds(row, found) for row in rows) and all(0 <= y <= 4 for y in found)


def _holds(row: Inequality, point) -> bool:
    value = sum(a * y for a, y in zip(row.row, point, strict=True)) + row.offset
    return value > 0 if row.strict else value >= 0


def test_exact_programs_tell_a_point_from_nothing():
    meet = [Inequality((1, 1), -2, False), Inequality((-1, -1), 2, False)]
    assert sum(solution(meet, [1, 1])) == 2  # the corner alone
    assert solution([*meet, Inequality((1, 0), -1, True)], [1, 1]) is None


def test_cutting_a_cube_through_its_corners():
    """x = y divides the cube into two prisms of six vertices; the plane's four vertices are corners."""
    cells = box(np.zeros(3), np.ones(3), 1)
    value = cells.points[:, 0] - cells.points[:, 1]
    wide = cells.but(points=np.column_stack([cells.points, value]), scale=np.full(4, 2.0**20))
    done = cut(wide, 3, np.sign(value).astype(np.int8), 9, 3)
    assert done.polytopes.lengths.tolist() == [6, 6] and done.positive.tolist() == [True, False]
    assert done.polytopes.sure.all() and len(done.polytopes.points) == 8


def test_more_facets_than_a_word_has_bits():
    """64 tangents of a circle leave a cell, or an input set, of 64 facets."""
    angle = torch.arange(64, dtype=torch.float64) * (2 * np.pi / 64)
    normals = torch.stack([angle.cos(), angle.sin()], 1)
    layer = Affine((0,), (Dense(-normals),), torch.ones(64, dtype=torch.float64))
    graph = Graph((Input(2), layer, Activation((1,), ReLU(), 64)), (2,), (64,))
    with pytest.raises(BadInput, match="62 facets"):
        count(graph, cube(2, 2.0))
    with pytest.raises(BadInput, match="leave out half-spaces"):
        count(graph, Polytope(np.full(2, -2.0), np.full(2, 2.0), normals.numpy(), np.ones(64)))


def leaves(graph, polytope, faces=False):
    made = plan(graph, faces)
    chunks = [root(made, vertices_of(polytope, made.words, graph.neurons))]
    while not finished(made, chunks[0]):
        chunks = advance(made, chunks[0], None)
    return made, chunks[0].cells


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_cells_are_proved_and_spoilt_cells_are_not(d):
    graph, polytope = random_graph(d, "mlp", inputs=d, width=6, depth=2), cube(d)
    made, cells = leaves(graph, polytope)
    assert len(cells) > 4 and proved(made, cells, polytope).all() and witnessed(made, cells, polytope, 12).all()
    flipped = cells.labels.copy()
    flipped[:, 0] ^= 1  # another phase of the first neuron
    assert not proved(made, cells.but(labels=flipped), polytope).any()
    assert not witnessed(made, cells.but(labels=flipped), polytope, 12).any()
    moved = cells.points.copy()
    moved[:, 0] += 1e-3
    assert proved(made, cells.but(points=moved), polytope).sum() < len(cells)
    keep = np.ones(len(cells.vertex), dtype=bool)
    keep[cells.start[1:] - 1] = False  # a vertex is missing
    fewer = cells.but(vertex=cells.vertex[keep], mask=cells.mask[keep], start=ragged.starts(cells.lengths - 1))
    assert not proved(made, fewer, polytope).any()


@pytest.mark.parametrize("kind", ["mlp", "leaky", "residual", "conv"])
def test_forms_are_within_their_errors(kind):
    graph = random_graph(3, kind, inputs=4, width=8, depth=2)
    x = torch.rand(50, 4, dtype=torch.float64) * 2 - 1
    values = graph.to(torch.float64).values(x)
    z = torch.cat([values[graph.nodes[i].inputs[0]] for i in graph.layer_at], 1)
    forms = pattern_forms(graph.to(torch.float64), z > 0, x.abs() + 0.1)
    found = (forms.row @ x[..., None])[..., 0] + forms.constant
    assert ((found - z).abs() <= forms.error + 1e-14).all() and (forms.error < 1e-12).all()


@pytest.mark.parametrize("kind", ["mlp", "leaky", "residual", "conv"])
@pytest.mark.parametrize("cells", ["open", "all"])
def test_linear_programs_find_what_vertices_find(kind, cells, monkeypatch):
    graph = random_graph(2, kind, inputs=4, width=7, depth=2)
    polytope = Polytope(np.full(4, -1.0), np.full(4, 1.0), np.array([[1.0, 1.0, 0.3, 0.0]]), np.array([0.7]))
    by_vertices = count(graph, polytope, cells=cells)
    monkeypatch.setattr(patterns, "DIMENSIONS", 0)
    by_programs = count(graph, polytope, cells=cells)
    assert by_vertices.low == by_programs.low > 10 and by_programs.finished and not by_programs.rational
    assert by_vertices.layers == by_programs.layers
    assert set(map(bytes, by_vertices.patterns)) == set(map(bytes, by_programs.patterns))


def test_degenerate_cells_in_many_dimensions_are_counted_anew(monkeypatch):
    monkeypatch.setattr(patterns, "STRUCTURED", 0)
    monkeypatch.setattr(patterns, "DIMENSIONS", 0)
    from partita.problems.network.library import pairwise_differences

    for cells, number in (("open", 24), ("all", 75)):
        result = count(pairwise_differences(4, doubled=True), Polytope(np.zeros(4), np.ones(4)), cells=cells)
        assert result.finished and result.low == number


def test_linear_programs_out_of_time():
    graph = random_graph(1, "mlp", inputs=12, width=40, depth=3)
    begin = time.monotonic()
    result = count(graph, cube(12), deadline=begin + 1.0)
    assert time.monotonic() - begin < 2.5 and not result.finished and 0 < result.low < result.high


def test_the_tree_without_neurons():
    graph = Graph((Input(2), Affine((0,), (Dense(torch.ones(1, 2).double()),), torch.zeros(1).double())), (2,), (1,))
    for rational in (False, True):
        assert str(count(graph, cube(2), rational=rational)) == "1"


def test_active_is_what_the_network_does_inside():
    graph = maximum(4)
    made, cells = leaves(graph, Polytope(np.zeros(4), np.ones(4)))
    x = np.stack([cells.points[cells.vertex[a:b], :4].mean(0) for a, b in pairwise(cells.start)])
    values = made.graph.values(torch.from_numpy(x))
    on = torch.cat([values[graph.nodes[i].inputs[0]] > 0 for i in graph.layer_at], 1)
    assert np.array_equal(on.numpy(), active(made, cells.labels))


def test_a_pattern_that_is_known_is_not_counted_again():
    """Cells that are counted anew may have patterns of cells that were certain."""
    heard, points = [], {bytes([k]): np.full(1, float(k)) for k in (2, 1, 3)}
    packed = np.array([[1], [7]], dtype=np.uint8)
    for faces, dimension in ((False, 1), (True, -1)):
        fresh = patterns._fresh(packed, points, Polytope(np.zeros(1), np.ones(1)), faces, heard.append)
        assert fresh.tolist() == [[2], [3]]
        found = heard.pop()
        assert found.patterns.tolist() == [[2], [3]] and found.points.tolist() == [[2.0], [3.0]]
        assert found.dimensions.tolist() == [dimension] * 2
    assert not len(patterns._fresh(packed, {bytes([7]): np.zeros(1)}, None, False, heard.append)) and not heard
