"""Cuts cover their piece and both children contain the cut; branching rules choose what can be split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import KINDS, random_graph, sample

from partita.bab.rules import find
from partita.bab.trees.branching import half_space_split, input_split, merge, phase_candidates, phase_split
from partita.bab.trees.scores import Sight
from partita.bab.trees.splits import (
    HALF_SPACE,
    INPUT,
    NONE,
    PHASE,
    Split,
    add_decisions,
    add_half_spaces,
    cut_boxes,
    cut_pre,
    half_spaces,
)
from partita.problems.properties.property import Polytope
from partita.relaxations.linear.decide import decision_half_spaces
from partita.relaxations.linear.root import root
from partita.relaxations.types import Pieces

MIXED = Split(
    kind=torch.tensor([INPUT, HALF_SPACE, PHASE]),
    index=torch.tensor([1, 0, 2]),
    point=torch.tensor([0.25, 0.5, -1.0]),
    normal=torch.tensor([[9.0, 9.0], [1.0, -2.0], [9.0, 9.0]]),
)


def test_boxes_are_cut_where_the_split_is_an_input_split():
    lower, upper = torch.zeros(3, 2), torch.ones(3, 2)
    low, high = cut_boxes(lower, upper, MIXED)
    assert high[0].tolist() == [1.0, 0.25] and low[3].tolist() == [0.0, 0.25]
    assert low[:3].eq(0).all() and high[3:].eq(1).all()
    assert low[[4, 5]].eq(0).all() and high[[1, 2]].eq(1).all()


def test_pre_activations_are_cut_where_a_neuron_is_decided():
    low, high = cut_pre(torch.full((3, 3), -2.0), torch.full((3, 3), 2.0), MIXED)
    assert high[2].tolist() == [2, 2, -1] and low[5].tolist() == [-2, -2, -1]
    assert low[:5].eq(-2).all() and high[[0, 1, 3, 4, 5]].eq(2).all()
    tight, _ = cut_pre(torch.full((3, 3), -0.5), torch.full((3, 3), 2.0), MIXED)
    assert tight[5, 2] == -0.5  # a cut never loosens a bound


def test_decisions_are_listed():
    none = torch.zeros(3, 0)
    neuron, sign, point = add_decisions(none.long(), none, none, MIXED)
    assert neuron[:, 0].tolist() == [-1, -1, 2, -1, -1, 2]
    assert sign[[2, 5], 0].tolist() == [-1, 1] and point[[2, 5], 0].tolist() == [-1, -1]


def test_half_spaces_are_added_and_the_oldest_dropped():
    """The input set's own stay; of the others the newest; those that are absent go first."""
    normals, offsets = half_spaces(MIXED)
    assert offsets.tolist() == [np.inf, 0.5, np.inf, np.inf, -0.5, np.inf]
    assert normals[4].tolist() == [-1.0, 2.0]
    old = torch.arange(12.0).reshape(1, 6, 2).repeat(3, 1, 1)
    known = torch.tensor([[0.0, 1.0, np.inf, 3.0, 4.0, np.inf]]).repeat(3, 1)
    new_normals, new_offsets = add_half_spaces(old, known, normals, offsets, own=1, most=2)
    assert new_offsets[1].tolist() == [0.0, 4.0, 0.5] and new_offsets[4].tolist() == [0.0, 4.0, -0.5]
    assert new_offsets[0].tolist() == [0.0, 3.0, 4.0]
    assert new_normals[0].tolist() == [[0, 1], [6, 7], [8, 9]] and new_normals[1, 2].tolist() == [1.0, -2.0]


def test_a_split_says_what_it_is():
    assert MIXED.json(0) == {"kind": "input", "point": 0.25, "index": 1}
    assert MIXED.json(1) == {"kind": "half-space", "point": 0.5, "normal": [1.0, -2.0]}
    assert MIXED.json(2) == {"kind": "phase", "point": -1.0, "index": 2}


def test_merge_takes_each_row_from_one_split():
    other = Split(torch.full((3,), INPUT), torch.full((3,), 7), torch.full((3,), 8.0))
    merged = merge(torch.tensor([True, False, True]), MIXED, other)
    assert merged.kind.tolist() == [INPUT, INPUT, PHASE] and merged.index.tolist() == [1, 7, 2]
    assert merged.normal is MIXED.normal


# ---- branching


@pytest.mark.parametrize("rule", ["widest", "sensitivity"])
def test_only_sides_with_a_middle_are_bisected(rule):
    one = torch.tensor(1.0)
    above = torch.nextafter(one, one + 1)
    lower = torch.stack([torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.0])])
    upper = torch.stack([torch.tensor([1e-20, 1.0]), torch.stack([above, one]), torch.tensor([1.0, 2.0])])
    for blame in (torch.zeros(3, 2), torch.ones(3, 2), torch.full((3, 2), torch.nan), torch.tensor([[0.0, 5.0]] * 3)):
        sight = Sight(Pieces.boxes(lower, upper, 0), torch.ones(2), lambda: None, lambda blame=blame: blame)
        split = input_split(lower, upper, find(rule).load()(sight))
        assert split.kind.tolist() == [INPUT, NONE, INPUT]
        assert split.index[0] == 0 and split.point[0] == 5e-21
    assert split.index[2] == 1 and split.point[2] == 1.0


def test_half_spaces_go_through_the_centre():
    forms = torch.tensor([[[1.0, 4.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]], [[2.0, 1.9], [0.0, 0.0]]])
    bounds = torch.tensor([[0.0, -1.0]]).repeat(3, 1)
    split = half_space_split(torch.zeros(3, 2), torch.ones(3, 2), forms, bounds)
    assert split.kind.tolist() == [HALF_SPACE, NONE, HALF_SPACE]  # the second form is flat
    assert split.normal[0].tolist() == [0.0, 4.0] and split.point[0] == 2.0  # what moves little is left alone
    assert split.point[2] == pytest.approx(1.95)


def test_undecided_neurons_come_first():
    undecided = torch.tensor([[True, False, True, False]])
    picked = phase_candidates(torch.tensor([[0.0, 9.0, -3.0, 8.0]]), undecided, 2)
    assert set(picked[0].tolist()) == {0, 2}


@pytest.mark.parametrize("kind", KINDS)
def test_phases_are_cut_inside_their_interval(kind):
    graph = random_graph(0, kind, inputs=4)
    low, high = torch.full((2, graph.neurons), -3.0), torch.full((2, graph.neurons), 1.0)
    split = phase_split(graph, torch.tensor([0, graph.neurons - 1]), low, high)
    assert ((low[:, 0] < split.point) & (split.point < high[:, 0])).all()
    assert (split.point == 0).all() == (kind not in ("sigmoid", "tanh"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_half_spaces_of_decisions_hold_every_point_that_takes_them(kind, dtype):
    """Every neuron, both phases; at the cut itself too, where rounding would lose points first."""
    on_the_cut = 0
    for seed in range(3):
        graph = random_graph(seed, kind, inputs=4, width=8, depth=2)
        box = Polytope(np.full(4, -0.7), np.full(4, 0.8))
        low, high = torch.from_numpy(box.lower), torch.from_numpy(box.upper)
        linear, pieces = root(graph.to(dtype), low, high)
        x = torch.from_numpy(sample(box, 400, seed))
        values = graph.values(x)
        z = torch.cat([values[graph.nodes[i].inputs[0]] for i in graph.layer_at], 1)
        neurons = torch.arange(graph.neurons)
        batch = Pieces(*(getattr(pieces, f).expand(graph.neurons, *getattr(pieces, f).shape[1:]) for f in _FIELDS))
        points = z[seed].to(dtype)  # decided exactly at the value of a sample, as that dtype has it
        normals, offsets = decision_half_spaces(linear, batch, neurons, points)
        excess = x @ normals.double().T - offsets.double()
        below, above = z <= points.double(), z >= points.double()
        assert (excess[:, : graph.neurons][below] <= 0).all() and (excess[:, graph.neurons :][above] <= 0).all()
        # For neurons of the first layer the cut is exact: points clearly on the other side are outside.
        first = graph.nodes[graph.layers[0].position].size
        assert not ((excess[:, :first] <= 0) & (z > points.double() + 1e-4)[:, :first]).any()
        on_the_cut += int((below & above).sum())
    assert on_the_cut > 0


_FIELDS = ("lower", "upper", "normals", "offsets", "neuron", "sign", "point", "pre_lower", "pre_upper")
