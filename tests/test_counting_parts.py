"""What a count is put together from: which numbers are exact, who is whose twin, input sets, bounds, what is left over.

The truth is exact: networks are evaluated and regions are counted in fractions.
"""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from networks import dense

from partita.bab.counting.bound import remaining, undecided
from partita.bab.counting.inputs import lifted, vertices_of, without_fixed
from partita.bab.counting.patterns import count
from partita.bab.counting.programs import ProgramCounter
from partita.bab.counting.proof import centres, input_planes, offset_errors, proved, witnessed
from partita.bab.counting.rational import RationalCounter
from partita.bab.counting.search import Found, Listener, Tally, _finish, confirm, remember, search
from partita.bab.counting.tree import (
    _finest,
    _grid,
    _twins,
    active,
    advance,
    cutting,
    finished,
    halves,
    plan,
    root,
)
from partita.problems.errors import BadInput
from partita.problems.network.activation import LeakyReLU, ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.properties.property import Polytope
from partita.problems.properties.rational import ExactSet, Numbers, Row


def unit(d: int) -> Polytope:
    return Polytope(np.zeros(d), np.ones(d))


def grown(graph: Graph, polytope: Polytope, faces: bool = False):
    made = plan(graph, faces)
    chunk = root(made, vertices_of(polytope, made.words, graph.neurons))
    while not finished(made, chunk):
        (chunk,) = advance(made, chunk, None)
    return made, chunk


def test_the_finest_grid():
    for numbers, grid in (
        ([3.0, -4.0], 1.0),
        ([0.0], 1.0),
        ([0.5, -0.75], 4.0),
        ([2.0**-30, 1.0], 2.0**30),
        ([2.0**-31], None),
        ([1.0, 0.1], None),
        ([2.0**31], 1.0),
        ([2.0**40], None),
        ([-(2.0**33)], None),
        ([-(2.0**300)], None),
    ):
        assert _finest(np.array(numbers)) == grid


def test_the_grid_of_a_layer_is_that_of_all_its_numbers():
    node = Affine((0,), (Dense(torch.tensor([[1.0, 0.5]]).double()),), torch.tensor([0.125]).double())
    assert _grid(node) == 8.0
    assert _grid(replace(node, bias=node.bias * 16)) == 2.0
    assert _grid(replace(node, bias=node.bias * 0.1)) is None
    assert _grid(replace(node, operators=(Dense(node.operators[0].weight * 0.1),))) is None
    assert _grid(Activation((1,), ReLU(), 1)) == 1.0 and _grid(Activation((1,), LeakyReLU(0.25), 1)) == 4.0
    assert _grid(Activation((1,), LeakyReLU(1e-4), 1)) is None


def test_folded_numbers_are_not_exact():
    """They stand for others that are near them."""
    weight, bias = torch.tensor([[1.0, 0.5]]).double(), torch.tensor([0.125]).double()
    for node in (
        Affine((0,), (Dense(weight, 1, weight.abs() * 2),), bias),
        Affine((0,), (Dense(weight),), bias, doubt=torch.full((1,), 1e-20).double()),
    ):
        assert _grid(node) is None
        graph = Graph((Input(2), node, Activation((1,), ReLU(), 1)), (2,), (1,))
        _, chunk = grown(graph, unit(2))
        assert not chunk.cells.sure.any() and not chunk.cells.exact.any()


def test_twins_have_one_hyperplane():
    weight = [[1.0, 2.0], [1.0, 2.0], [-1.0, -2.0], [1.0, 2.0], [2.0, 4.0], [0.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    graph = dense(weight, [0.5, 0.5, -0.5, -0.5, 1.0, 0.0, 0.0, 0.0])
    twins = _twins(graph, 2, False)
    assert twins.first == [0, 0, 0, 3, 4, 5, 6, 6]
    assert twins.opposite == [False, False, True, False, False, False, False, True]
    twins = _twins(graph, 2, True)  # on the hyperplane neither of two opposite neurons is active
    assert twins.first == [0, 0, 2, 3, 4, 5, 6, 7] and not any(twins.opposite)


def test_neurons_that_are_not_known_exactly_are_nobodys_twins():
    weight, bias = torch.ones(3, 2).double(), torch.zeros(3).double()
    for node, first in (
        (Affine((0,), (Dense(weight, 1, weight * 2),), bias), [0, 1, 2]),
        (Affine((0,), (Dense(weight),), bias, doubt=torch.tensor([0.0, 1e-20, 0.0]).double()), [0, 1, 0]),
        (Affine((0,), (Dense(weight),), bias, doubt=torch.full((3,), 1e-20).double()), [0, 1, 2]),
    ):
        graph = Graph((Input(2), node, Activation((1,), ReLU(), 3)), (2,), (3,))
        assert _twins(graph, 2, False).first == first


NETWORKS = {
    "small": dense([[1.0, 0.5], [-0.5, 1.0]], [-0.25, 0.125], ([[1.0, -1.0]], [0.25])),
    "leaky": dense([[1.0, 0.5], [-0.5, 1.0]], [-0.25, 0.125], ([[1.0, -1.0]], [0.25]), slope=0.25),
    "leaky and fine": dense([[1.0, 0.5], [-0.5, 1.0]], [-0.25, 0.125], ([[1.0, -1.0]], [0.25]), slope=1e-4),
    "tenths": dense([[1.0, 0.1], [-0.5, 1.0]], [-0.25, 0.125], ([[1.0, -1.0]], [0.25])),
    "tenths behind": dense([[1.0, 0.5], [-0.5, 1.0]], [-0.25, 0.125], ([[0.1, -1.0]], [0.25], ([[3.0]], [0.1]))[:2]),
    "large and fine": dense([[2.0**20, 2.0**-30]], [-(2.0**19)], ([[2.0**20]], [2.0**-30]), ([[3.0]], [2.0**-9])),
    "large bias": dense([[1.0, 2.0**-28]], [2.0**31], ([[2.0**-20]], [2.0**-30]), ([[1.0]], [-(2.0**-30)])),
    "thirds": dense([[3.0, 1.0], [1.0, 3.0]], [-1.0, -1.0], ([[1.0, 1.0]], [-0.5]), ([[1.0]], [-0.25])),
    "leaky, large and fine": dense([[8191.0, 1.0]], [-8192.0], ([[1.0]], [0.25]), slope=0.1),
    "residual": Graph(
        (
            Input(2),
            Affine((0,), (Dense(torch.tensor([[1.0, 2.0**-14]]).double()),), torch.tensor([-0.5]).double()),
            Activation((1,), ReLU(), 1),
            Affine(
                (2, 0), (Dense(torch.ones(1, 1).double()), Dense(torch.ones(1, 2).double())), torch.ones(1).double()
            ),
            Activation((3,), ReLU(), 1),
        ),
        (2,),
        (1,),
    ),
    "finer and finer": dense([[2.0**-14, 1.0]], [-0.5], ([[2.0**-14 + 1]], [0.5]), ([[2.0**-14 + 1]], [1.0])),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_points_that_are_called_exact_are_exact(name):
    """After every neuron: each column of an exact point is the node's value there, in fractions."""
    graph = NETWORKS[name]
    made = plan(graph)
    chunk = root(made, vertices_of(Polytope(np.full(2, 0.0), np.array([1.0, 1 + 2.0**-20])), made.words, graph.neurons))
    seen = 0
    while not finished(made, chunk):
        (chunk,) = advance(made, chunk, 0.0)
        cells = chunk.cells
        for x in cells.points[cells.exact]:
            values = at([Fraction(v) for v in x[:2].tolist()], graph)
            for node, (begin, end) in chunk.columns.items():
                assert [Fraction(v) for v in x[begin:end].tolist()] == values[node]
                assert all((Fraction(s) * v).denominator == 1 for s, v in zip(cells.scale[begin:end], values[node]))
                seen += 1
        for k in np.flatnonzero(cells.sure):
            assert cells.exact[cells.vertex[cells.start[k] : cells.start[k + 1]]].all()
    assert seen > 7 or name in ("tenths", "large and fine", "large bias")
    assert name not in ("small", "leaky") or chunk.cells.exact.sum() > 4


def at(x: list[Fraction], graph: Graph) -> list[list[Fraction]]:
    """The values of all nodes at a point."""
    values = [x]
    for node in graph.nodes[1:]:
        if isinstance(node, Affine):
            total = [Fraction(b) for b in node.bias.tolist()]
            for j, operator in zip(node.inputs, node.operators, strict=True):
                for k, row in enumerate(operator.weight.tolist()):
                    total[k] += sum(Fraction(a) * v for a, v in zip(row, values[j], strict=True))
            values.append(total)
        else:
            values.append([v if v > 0 else Fraction(node.function.slope) * v for v in values[node.inputs[0]]])
    return values


@pytest.mark.parametrize("cells", ["open", "all"])
def test_a_sliver_at_exact_points_is_not_rounded_away(cells):
    """1024 x + y / 4096 - 1024 is positive near one corner alone, and 2^-32 there: 2^-43 of its terms."""
    graph, polytope = dense([[1024.0, 2.0**-12]], [-1024.0]), Polytope(np.zeros(2), np.array([1.0, 2.0**-20]))
    assert count(graph, polytope, cells=cells).low == count(graph, polytope, cells=cells, rational=True).low == 2


def test_a_sliver_between_points_that_round_is_found():
    """x / 10 > 0.09999 from x = 0.9999 on, and 1 - 1e-8 on."""
    for least in (0.09999, 0.1 * (1 - 1e-8)):
        made, chunk = grown(dense([[0.1]], [-least]), unit(1))
        assert active(made, chunk.cells.labels)[:, 0].tolist() == [True, False] and not chunk.cells.sure.any()
        assert proved(made, chunk.cells, unit(1)).all()


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_twins_cut_once_and_are_proved(scale):
    """Equal and opposite neurons: the cells have the phases of the network, and their proofs skip the twins."""
    weight = [[scale, 0.3], [scale, 0.3], [-scale, -0.3], [0.2, -scale], [-0.2, scale]]
    made, chunk = grown(dense(weight, [-0.21, -0.21, 0.21, 0.017, -0.017]), unit(2))
    assert len(chunk.cells) == 4 and (active(made, chunk.cells.labels) == phases(made, chunk.cells)).all()
    assert proved(made, chunk.cells, unit(2)).all() and witnessed(made, chunk.cells, unit(2), 5).all()


def test_halves_are_the_whole():
    made, chunk = grown(dense([[1.0, 0.5], [-0.5, 1.0], [1.0, 1.0]], [-0.25, 0.125, -1.1]), unit(2))
    assert len(chunk.cells) == 7 or len(chunk.cells) % 2 == 1
    parts = halves(chunk)
    labels = np.concatenate([part.cells.labels for part in parts])
    assert np.array_equal(labels, chunk.cells.labels)
    for part in parts:
        own = part.cells
        assert (active(made, own.labels) == phases(made, own)).all()


def phases(made, cells):
    """What the network does at the mean of each cell's vertices."""
    d = made.graph.input_size
    x = [cells.points[cells.vertex[a:b], :d].mean(0) for a, b in zip(cells.start[:-1], cells.start[1:], strict=True)]
    values = made.graph.values(torch.from_numpy(np.stack(x)))
    return torch.cat([values[made.graph.nodes[i].inputs[0]] > 0 for i in made.graph.layer_at], 1).numpy()


@pytest.mark.parametrize("faces", [False, True])
def test_a_cells_cuts_leave_that_cell_alone(faces):
    """Counted anew in fractions, the region of each cell's cuts has its pattern and no other."""
    graph = dense(
        [[1.0, 0.5], [-0.5, 1.0], [1.0, 1.0]],
        [-0.25, 0.125, -1.25],
        ([[1.0, -1.0, 0.5], [-1.0, 1.0, 1.0]], [0.25, -0.5]),
    )
    made, chunk = grown(graph, unit(2), faces)
    counter, nothing = RationalCounter(made, unit(2)), np.zeros(5, dtype=bool)
    on, cut = active(made, chunk.cells.labels), cutting(made, chunk.cells.labels)
    assert len(on) > 6 and (faces or np.array_equal(on, phases(made, chunk.cells)))
    for phase, own in zip(on, cut, strict=True):
        found = counter.recount(phase, own, nothing, None)
        assert set(found) == {np.packbits(phase, bitorder="little").tobytes()}
        (point,) = found.values()
        z = at([Fraction(v) for v in point.tolist()], graph)
        assert faces or [v > 0 for i in (1, 3) for v in z[i]] == phase.tolist()


def test_what_is_settled_is_so_behind_the_same_phases_alone():
    """x - 1/2 and relu(x - 1/2) - 1/4: where the first is inactive so is the second; where it is not, that is open."""
    graph = dense([[1.0]], [-0.5], ([[1.0]], [-0.25]))
    counter, no = RationalCounter(plan(graph), unit(1)), np.zeros(2, dtype=bool)
    found = counter.recount(no, no, np.array([False, True]), None)
    assert set(found) == {b"\x00", b"\x01", b"\x03"}
    assert set(counter.recount(no, np.array([True, False]), no, None)) == {b"\x00"}
    assert counter.recount(no, no, no, 0.0) is None


@pytest.mark.parametrize("faces", [False, True])
def test_patterns_of_closed_and_open_sets(faces):
    """x - 1 is active nowhere on [0, 1], 1 - x is inactive at 1 alone, and 1 - x - y beyond x + y = 1 and on it."""
    for graph, half, number in (
        (dense([[1.0, 0.0]], [-1.0]), False, (1, 1)),
        (dense([[-1.0, 0.0]], [1.0]), False, (1, 2)),
        (dense([[-1.0, -1.0]], [1.0]), True, (1, 2)),
        (dense([[1.0, 1.0]], [-1.0]), True, (1, 1)),
        (dense([[2.0, 2.0]], [-1.0]), True, (2, 2)),
        (dense([[1.0, 0.0], [-1.0, 0.0]], [-0.5, 0.5]), False, (2, 3)),
    ):
        polytope = Polytope(np.zeros(2), np.ones(2), np.ones((1, 2)), np.ones(1)) if half else unit(2)
        for rational in (False, True):
            result = count(graph, polytope, cells="all" if faces else "open", rational=rational)
            assert result.low == result.high == number[faces]


@pytest.mark.parametrize("place", [k / 8 for k in range(1, 8)])
def test_a_point_on_a_neurons_hyperplane_is_on_neither_side(place):
    """x - t and 2 t - 2 x: one of them is active."""
    graph = dense([[1.0], [-2.0], [3.0]], [-place, 2 * place, -3 * place])
    for rational in (False, True):
        assert count(graph, unit(1), rational=rational).low == 2
        assert count(graph, unit(1), cells="all", rational=rational).low == 3


def test_exact_arithmetic_finds_the_same_patterns_each_at_a_point_inside():
    """Dead neurons and constants, opposite twins, a half-space on a box whose bounds are no whole numbers."""
    half = Polytope(np.full(2, 0.25), np.full(2, 1.5), np.array([[1.0, 1.0]]), np.array([1.75]))
    for graph, polytope in (
        (dense([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]], [0.0, -0.5, 1.0]), unit(2)),
        (dense([[1.0, 0.5], [1.0, 0.5], [-1.0, -0.5]], [-0.5, -0.5, 0.5], ([[1.0, -1.0, 1.0]], [-0.25])), unit(2)),
        (dense([[1.0, 1.0], [1.0, -1.0], [1.0, 1.0]], [-1.5, 0.25, -1.75]), half),
    ):
        by_tree, given = count(graph, polytope), []
        by_fractions = count(graph, polytope, rational=True, listener=Listener(given.append))
        assert set(map(bytes, by_tree.patterns)) == set(map(bytes, by_fractions.patterns))
        for found in given:
            for pattern, x in zip(found.patterns, found.points, strict=True):
                assert (x > polytope.lower).all() and (x < polytope.upper).all()
                assert (polytope.normals @ x < polytope.offsets).all()
                z = at([Fraction(v) for v in x.tolist()], graph)
                on = [v > 0 for i, node in enumerate(graph.nodes) if isinstance(node, Activation) for v in z[i - 1]]
                assert np.packbits(on, bitorder="little").tolist() == pattern.tolist()


@pytest.mark.parametrize("rational", [False, True])
def test_half_spaces_that_leave_a_line_leave_nothing_open(rational):
    graph = dense([[1.0, -1.0]], [0.0])
    for normals, offsets in (([[1.0, 1.0], [-1.0, -1.0]], [1.0, -1.0]), ([[-1.0, -1.0]], [-2.0])):
        polytope = Polytope(np.zeros(2), np.ones(2), np.array(normals), np.array(offsets))
        with pytest.raises(BadInput, match="flat"):
            count(graph, polytope, rational=rational)


def test_leaks_have_their_slope():
    """x - 1/2 leaks a quarter: 1/16 + that is zero at x = 1/4."""
    graph = dense([[1.0]], [-0.5], ([[1.0]], [0.0625]), slope=0.25)
    for low, number in ((0.0, 3), (0.26, 2)):
        polytope = Polytope(np.array([low]), np.ones(1))
        assert count(graph, polytope, rational=True).low == count(graph, polytope).low == number


def test_half_spaces_off_the_grid_are_not_exact():
    """x + 2^-60 y <= 1 leaves (1, 1) out, and in float64 does not."""
    for normal, offset, exact in (
        ([1.0, 2.0**-60], 1.0, False),
        ([1.0, 1 / 3], 1.0, False),
        ([1.0, 1.0], 1.1, False),
        ([1.0, 0.5], 1.0, True),
        ([2.0**40, 1.0], 2.0**39, False),
        ([1.0, 2.0**-20], 0.5, True),
    ):
        polytope = Polytope(np.zeros(2), np.ones(2), np.array([normal]), np.array([offset]))
        cells = vertices_of(polytope, 2, 1)
        assert not cells.sure.any() or exact
        assert exact == bool(cells.exact[cells.vertex].any())
    polytope = Polytope(np.zeros(2), np.ones(2), np.array([[1.0, 2.0**-60]]), np.ones(1))
    graph = dense([[-1.0, -1.0]], [2.0])  # zero at (1, 1) alone
    assert count(graph, polytope, cells="all").high == count(graph, polytope, cells="all", rational=True).low == 1


def test_fixed_inputs_are_taken_out_of_half_spaces():
    """y = 1/2 and x + y - z <= 1/4: x - z <= -1/4."""
    graph = dense([[1.0, 2.0, 3.0], [0.5, -1.0, 1.0]], [0.25, 0.5])
    whole = Polytope(
        np.array([0.25, 0.5, 0.5]), np.array([1.0, 0.5, 2.0]), np.array([[1.0, 1.0, -1.0], [0.0, 4.0, 1.0]]), np.ones(2)
    )
    reduced, polytope = without_fixed(graph, whole)
    assert polytope.lower.tolist() == [0.25, 0.5] and polytope.upper.tolist() == [1.0, 2.0]
    assert polytope.normals.tolist() == [[1.0, -1.0], [0.0, 1.0]] and polytope.offsets.tolist() == [0.5, -1.0]
    y = torch.tensor([[0.3, 0.7], [0.9, 1.8]], dtype=torch.float64)
    x = torch.tensor([[0.3, 0.5, 0.7], [0.9, 0.5, 1.8]], dtype=torch.float64)
    assert torch.equal(reduced(y), graph(x))
    given: list[Found] = []
    emit = lifted(given.append, whole)
    emit(Found(polytope, np.zeros((2, 1), np.uint8), y.numpy(), np.zeros(2, np.int8), np.array([0, 1, 2]), y.numpy()))
    assert given[0].polytope is whole
    assert np.array_equal(given[0].points, x.numpy()) and np.array_equal(given[0].vertices, x.numpy())


@pytest.mark.parametrize("rational", [True, False])
def test_half_spaces_keep_their_last_bit_where_inputs_are_fixed(rational):
    """z <= b - 3 y - w with y and w fixed: z + 3 y + w - b is 0 at the border, and positive nowhere."""
    random, rounded = np.random.default_rng(5), set()
    for _ in range(12 if rational else 40):
        y, w = random.uniform(0.1, 0.2, 2)
        b = float(random.uniform(1.0, 1.4))
        low, high = np.array([0.0, y, w]), np.array([1.0, y, w])
        whole = Polytope(low, high, np.array([[1.0, 3.0, 1.0]]), np.array([b]))
        border = Fraction(b) - 3 * Fraction(float(y)) - Fraction(float(w))
        assert 0 < border < 1
        _, polytope = without_fixed(dense([[1.0, 3.0, 1.0]], [-b]), whole)
        offset = Fraction(float(polytope.offsets[0]))
        assert polytope.meaning.rows[0].constant == -border <= 0 and 0 <= offset - border <= Fraction(1, 2**52)
        assert (polytope.exact is None) == (offset == border)
        assert Fraction(float(offset_errors(polytope)[0])) >= offset - border
        rounded.add((offset > border, b - 3 * y - w > border, b - 3 * y - w < border))
        # Never active; active everywhere but at the border; a neuron beside, so that no twin decides.
        for weights, bias, number in (([1.0, 3.0, 1.0], -b, 1), ([-1.0, -3.0, -1.0], b, 2)):
            found = count(dense([weights], [bias]), whole, cells="all", rational=rational)
            assert found.low <= number <= found.high
            assert found.finished and found.low == number
    assert len(rounded) >= 3  # float64's own sum is above the border, below it, and on it


def test_proofs_count_with_what_an_offset_lacks():
    """x + y <= 1.5 is written as x + y <= 1.75: nothing is proved of what lies between, by vertices or programs."""
    exact = ExactSet(Numbers(np.zeros(2)), Numbers(np.ones(2)), rows=(Row({0: 1, 1: 1}, Fraction(-3, 2)),))
    whole = Polytope(np.zeros(2), np.ones(2), np.ones((1, 2)), np.array([1.75]), exact)
    assert offset_errors(whole).tolist() == [0.25] and input_planes(whole)[2].tolist() == [0, 0, 0, 0, 0.25]
    graph = dense([[1.0, 0.0]], [0.5])
    made = plan(graph)
    for offset, exists in ((1.75, True), (1.2, False)):
        polytope = replace(whole, offsets=np.array([offset]))
        cells = grown(graph, polytope)[1].cells
        middle = centres(cells, 2)[0].sum()
        off = abs(1.5 - offset)
        assert witnessed(made, cells, polytope, 1)[0] == (offset - middle > 2 * off) == exists
        assert not cells.sure.any() and not cells.exact.any()
    near = replace(whole, offsets=np.array([1.5]))
    assert proved(made, grown(graph, near)[1].cells, near).all()
    assert not proved(made, grown(graph, whole)[1].cells, whole).any()
    assert ProgramCounter(made, whole).start.doubt[0] >= 0.5


def test_a_half_space_of_fixed_inputs_alone_holds_or_empties_the_set():
    """0.1 y <= b for y = 3: in float64 0.1 * 3 is more than it is."""
    border = Fraction(0.1) * 3
    graph = dense([[1.0, 1.0]], [-3.5])
    for b in (float(border), np.nextafter(float(border), 1.0), 0.1 * 3, np.nextafter(float(border), 0.0)):
        whole = Polytope(np.array([0.0, 3.0]), np.array([1.0, 3.0]), np.array([[0.0, 0.1]]), np.array([b]))
        if Fraction(float(b)) < border:
            with pytest.raises(BadInput, match="is empty"):
                count(graph, whole, cells="all")
        else:
            assert without_fixed(graph, whole)[1].normals.shape == (0, 1)
            assert count(graph, whole, cells="all").low == 2


def test_neurons_that_may_still_cut():
    """Intervals [0, 1], [-1, 0], [-1, 1], [1/2, 1] and [-1, -1/2]; what is never positive is decided."""
    graph = dense([[1.0], [-3.0], [2.0], [0.5], [-0.5], [2.0]], [0.0, 0.0, -1.0, 0.5, -0.5, -1.0])
    made = plan(graph)
    assert undecided(made, unit(1)) == {2: [0, 2]}
    free = {2: [0, 2, 3], 4: [0, 1]}
    two = plan(dense([[1.0, 1.0]] * 4, [0.0] * 4, ([[1.0] * 4] * 2, [0.0, 0.0])))
    for node, neuron, number in (
        (0, 0, 7 * 4),
        (2, 0, 7 * 4),
        (2, 1, 4 * 4),
        (2, 3, 2 * 4),
        (4, 0, 4),
        (4, 1, 2),
        (5, 0, 1),
    ):
        assert remaining(two, free, node, neuron) == number


@pytest.mark.parametrize("seed", range(3))
def test_no_cell_has_more_patterns_than_the_bound(seed):
    random = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64).tolist()  # noqa: E731
    graph = dense(draw(4, 2), draw(4), (draw(4, 4), draw(4)))
    polytope = Polytope(np.full(2, -1.0), np.ones(2))
    made, chunk = grown(graph, polytope)
    free, on = undecided(made, polytope), active(made, chunk.cells.labels)
    for node, start in ((layer.position, layer.span.start) for layer in graph.layers):
        for neuron in range(4):
            _, sizes = np.unique(on[:, : start + neuron], axis=0, return_counts=True)
            assert sizes.max() <= remaining(made, free, node, neuron)


def test_finished_cells_are_certain_or_unsure_or_wait():
    """None is lost, and none is both."""
    graph = dense([[1.0, 0.3], [-0.5, 1.0]], [-0.27, 0.1])
    made, chunk = grown(graph, unit(2))
    total = len(chunk.cells)
    spoilt = chunk.cells.labels.copy()
    spoilt[0, 0] ^= 1
    for cells, certain in ((chunk.cells, total), (chunk.cells.but(labels=spoilt), total - 1)):
        given, tally = [], Tally()
        _finish(made, unit(2), replace(chunk, cells=cells), tally, given.append, None)
        assert tally.certain == certain == sum(map(len, tally.patterns)) == sum(len(f.patterns) for f in given)
        assert sum(len(u.active) for u in tally.unsure) == total - certain and not tally.pending
        for unsure in tally.unsure:
            assert np.array_equal(unsure.active, active(made, spoilt[:1])) and not unsure.exists.any()
            assert np.array_equal(unsure.cutting, cutting(made, spoilt[:1]))
    tally = Tally()
    _finish(made, unit(2), chunk, tally, None, time.monotonic() - 1)
    assert tally.certain == 0 and sum(len(c.cells) for c in tally.pending) == total


def test_cells_that_exist_and_are_not_proved():
    """Six planes meet in the middle of a cube: the cells exist, and float64 proves none."""
    made, chunk = grown(dense([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [1.0, 0.0, -1.0]], [0.0] * 3), unit(3))
    rough = replace(chunk, cells=chunk.cells.but(sure=np.zeros(6, dtype=bool)))
    assert confirm(made, unit(3), [rough, chunk], None) == [(6, 0), (6, 6)]
    assert confirm(made, unit(3), [rough], time.monotonic() - 1) == [(0, 0)]


def test_a_search_without_time_keeps_its_root():
    made = plan(dense([[1.0]], [-0.5]))
    tally = search(made, unit(1), vertices_of(unit(1), made.words, 1), time.monotonic() - 1)
    assert tally.reason and len(tally.pending) == 1 and tally.certain == 0


def test_patterns_that_are_too_many_are_counted_all_the_same(monkeypatch):
    from partita.bab.counting import search as module

    tally, packed = Tally(), np.zeros((5, 3), dtype=np.uint8)
    monkeypatch.setattr(module, "KEPT", 20)
    remember(tally, packed)
    assert tally.certain == 5 and len(tally.patterns) == 1
    remember(tally, packed)
    assert tally.certain == 10 and tally.patterns is None
