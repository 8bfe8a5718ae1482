"""Which neurons are treated jointly: the promised sizes, overlaps and order."""

from __future__ import annotations

from itertools import combinations
from math import comb

import pytest
import torch
from networks import random_box, random_graph, sample

from partita.kernels.octahedron import octahedron
from partita.problems.errors import BadInput
from partita.relaxations.linear.alpha import Alpha
from partita.relaxations.linear.root import root
from partita.relaxations.rows.group_rows import group_rows, limits
from partita.relaxations.rows.groups import all_subsets, by_score, disjoint, excess, overlapping, scored
from partita.relaxations.types import Result

NEURONS = torch.tensor([3, 5, 8, 9, 14, 20, 21, 33, 34, 40, 41, 42])


def sets(groups: torch.Tensor) -> list[frozenset[int]]:
    return [frozenset(group) for group in groups.tolist()]


def valid(groups: torch.Tensor, neurons: torch.Tensor, size: int) -> bool:
    """Rows of distinct neurons out of those given, no group twice."""
    known = set(neurons.tolist())
    found = sets(groups)
    return (
        groups.dtype is torch.int64
        and groups.ndim == 2
        and groups.shape[1] == size
        and all(len(group) == size and group <= known for group in found)
        and len(set(found)) == len(found)
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_disjoint_groups_cover_all(size):
    groups = disjoint(NEURONS, size)
    assert valid(groups, NEURONS, size) and set().union(*sets(groups)) == set(NEURONS.tolist())
    whole = len(NEURONS) // size
    assert len(groups) == -(-len(NEURONS) // size)
    assert all(a.isdisjoint(b) for a, b in combinations(sets(groups)[:whole], 2))


@pytest.mark.parametrize("size,overlap", [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2), (4, 1), (4, 2)])
@pytest.mark.parametrize("part", [4, 6, 20])
def test_overlapping_groups_share_few(size, overlap, part):
    groups = overlapping(NEURONS, size, part, overlap)
    assert valid(groups, NEURONS, size)
    assert all(len(a & b) <= overlap for a, b in combinations(sets(groups), 2))
    place = {n: i // part for i, n in enumerate(NEURONS.tolist())}
    assert all(len({place[n] for n in group}) == 1 for group in sets(groups))
    if overlap == size - 1 and part >= len(NEURONS):
        assert len(groups) == comb(len(NEURONS), size)
    # None more can be taken.
    taken = sets(groups)
    for group in combinations(NEURONS.tolist(), size):
        if len({place[n] for n in group}) == 1:
            assert any(len(set(group) & other) > overlap for other in taken) or frozenset(group) in taken


@pytest.mark.parametrize("size", [1, 2, 3])
def test_all_subsets_are_all(size):
    groups = all_subsets(NEURONS, size)
    assert valid(groups, NEURONS, size) and len(groups) == comb(len(NEURONS), size)
    with pytest.raises(BadInput, match="sparse or scored"):
        all_subsets(NEURONS, size, most=len(groups) - 1)


def test_scored_groups_take_those_that_lose_most():
    score = torch.zeros(50)
    score[NEURONS] = torch.arange(12.0)
    groups = scored(NEURONS, 3, 4, score)
    assert valid(groups, NEURONS, 3) and len(groups) == 4
    assert set(groups[0].tolist()) == {42, 41, 40}
    assert all(len(a & b) <= 1 for a, b in combinations(sets(groups), 2))
    assert 3 not in groups  # it loses nothing
    assert scored(NEURONS, 1, 2, score).tolist() == [[42], [41]]


def test_scored_groups_take_those_that_move_together():
    score = torch.zeros(50)
    score[NEURONS] = 1.0
    affinity = torch.zeros(50, 50)
    for group in ((3, 14, 40), (5, 8, 21)):
        for i, j in combinations(group, 2):
            affinity[i, j] = affinity[j, i] = 0.9
    groups = scored(NEURONS, 3, 2, score, affinity, overlap=0)
    assert set(sets(groups)) == {frozenset((3, 14, 40)), frozenset((5, 8, 21))}


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("overlap", [0, 1])
def test_scored_groups_keep_to_overlap_and_count(size, overlap):
    draw = torch.Generator().manual_seed(size)
    score = torch.rand(60, generator=draw)
    neurons = torch.arange(0, 60, 2)
    affinity = torch.rand(60, 60, generator=draw)
    affinity = affinity + affinity.T
    groups = scored(neurons, size, 15, score, affinity, overlap)
    assert valid(groups, neurons, size) and 1 <= len(groups) <= 15
    assert all(len(a & b) <= overlap for a, b in combinations(sets(groups), 2))
    assert torch.equal(groups, scored(neurons, size, 15, score, affinity, overlap))
    worth = [sum(min(score[i], score[j]) * affinity[i, j] for i, j in combinations(g, 2)) for g in groups.tolist()]
    assert worth == sorted(worth, reverse=True)


def test_few_neurons_make_no_groups():
    few = NEURONS[:2]
    for groups in (disjoint(few, 3), overlapping(few, 3), all_subsets(few, 3), scored(few, 3, 5, torch.ones(50))):
        assert groups.shape == (0, 3) and groups.dtype is torch.int64
    none = NEURONS[:0]
    for groups in (disjoint(none, 2), overlapping(none, 2), all_subsets(none, 2), scored(none, 2, 5, torch.ones(50))):
        assert groups.shape == (0, 2)


def test_order_and_excess():
    score = torch.zeros(50)
    score[[14, 20]] = torch.tensor([1.0, 2.0])
    assert by_score(NEURONS, score).tolist()[:3] == [20, 14, 3]
    pre, post = torch.tensor([-1.0, 1.0, 0.5]), torch.tensor([0.5, 1.0, 0.25])
    assert excess(pre, post).tolist() == [0.5, 0.0, 0.0]


def test_what_is_refused_is_named():
    with pytest.raises(BadInput, match="at least one"):
        disjoint(NEURONS, 0)
    with pytest.raises(BadInput, match="parts of 2"):
        overlapping(NEURONS, 3, part=2)
    with pytest.raises(BadInput, match="share 0 to 2"):
        overlapping(NEURONS, 3, overlap=3)
    with pytest.raises(BadInput, match="share 0 to 1"):
        scored(NEURONS, 2, 3, torch.ones(50), overlap=2)
    with pytest.raises(BadInput, match="66 groups of 2, more than 65"):
        all_subsets(NEURONS, 2, 65)
    assert len(all_subsets(NEURONS, 2, 66)) == 66


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("kind", ("mlp", "leaky"))
def test_limits_of_groups_hold_at_points(kind, dtype):
    """Every direction of every group is bounded where it must be, those of one neuron by what is known of it, the
    others no looser than that; and the rows made of them hold."""
    for seed in range(1 if kind == "leaky" else 2):
        graph, box = random_graph(seed, kind, inputs=4, width=6, depth=2), random_box(seed, 4, 0.5)
        linear, whole = root(graph.to(dtype), *(torch.as_tensor(s) for s in (box.lower, box.upper)))[:2]
        alpha, values = Alpha(linear, 2), graph.values(torch.as_tensor(sample(box, 3000)))
        for position in graph.layer_at:
            z, y = values[graph.nodes[position].inputs[0]], values[position]
            low, high = (side[0].double() for side in whole.pre(graph.layer_at[position]))
            for size in (2, 3):
                groups, template = all_subsets(torch.arange(5), size), octahedron(size)
                found = limits(alpha, whole, position, groups, template).double()
                normals = template.normals.double()
                assert (z[:, groups] @ normals.T <= found + 1e-12).all()
                ends = torch.where(normals > 0, high[groups][:, None], -low[groups][:, None])
                known = torch.where(normals != 0, ends, 0.0).sum(-1)
                assert (found <= known + 1e-5).all() and (found < known - 1e-3).any()
                rows = group_rows(alpha, whole, position, groups)
                if rows is not None:
                    assert (
                        rows.violation(z.to(dtype), y.to(dtype)) <= (1e-4 if dtype is torch.float32 else 1e-11)
                    ).all()
    smooth = random_graph(0, "tanh", inputs=3, width=4)
    ends = torch.zeros(3, dtype=torch.float64)
    linear, whole = root(smooth, ends, ends + 1)[:2]
    assert group_rows(Alpha(linear, 1), whole, smooth.layers[0].position, torch.tensor([[0, 1]])) is None


def test_sums_of_known_bounds_are_rounded_outwards(monkeypatch):
    """Where backward bounds say nothing, a direction's bound is the sum of its neurons', and no less in any digit."""
    nothing = lambda self, root, rows, node: [Result(*[torch.full(rows.constants.shape, -torch.inf)] * 7)]  # noqa: E731
    monkeypatch.setattr(Alpha, "optimise", nothing)
    graph, box = random_graph(0, "mlp", inputs=4, width=8, depth=2), random_box(0, 4, 0.5)
    linear, whole = root(graph.to(torch.float32), *(torch.as_tensor(s) for s in (box.lower, box.upper)))[:2]
    position, groups, template = graph.layers[1].position, all_subsets(torch.arange(8), 3), octahedron(3)
    found = limits(Alpha(linear, 2), whole, position, groups, template)
    low, high = (side[0].double()[groups][:, None] for side in whole.pre(graph.layer_at[position]))
    normals = template.normals.double()
    exact = torch.where(normals > 0, high, torch.where(normals < 0, -low, 0.0)).sum(-1)  # float32 numbers, in float64
    assert (found.double() >= exact).all() and (found.double() <= exact + 1e-4).all()


def test_excess_of_leaky_neurons_is_above_their_own_function():
    z, y = torch.tensor([-2.0, -2.0, 3.0, 3.0]), torch.tensor([-0.5, -0.1, 3.0, 4.0])
    torch.testing.assert_close(excess(z, y, 0.25), torch.tensor([0.0, 0.4, 0.0, 1.0]))
