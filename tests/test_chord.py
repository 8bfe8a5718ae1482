"""The lattice of chord relaxations: what its elements are, and that no sample beats the bounds of their divergence."""

from __future__ import annotations

import pytest
import torch
from networks import PIECEWISE, random_box, random_graph, sample

from partita.problems.errors import BadInput
from partita.problems.network.library import barrier, maximum, random_network, univariate
from partita.relaxations.bound import bound
from partita.relaxations.linear.root import outward
from partita.relaxations.studies.chord import chords, difference, divergence, greatest_divergence, network, outputs
from partita.relaxations.studies.chord_error import (
    Apart,
    error_bound,
    interval_width,
    least_error,
    recursive_error,
    telescoped_error,
)
from partita.relaxations.types import Pieces, Rows

BOUNDS = {"recursive": recursive_error, "telescoped": telescoped_error}


def over_box(graph, seed=0, radius=0.5, rule=None):
    """Chords on a random box; with `rule`, drawn between a relaxation's bounds."""
    box = random_box(seed, graph.input_size, radius)
    lower, upper = torch.from_numpy(box.lower), torch.from_numpy(box.upper)
    pre = None
    if rule is not None:
        layers = bound(graph, box, rule).layers
        pre = (
            torch.cat([torch.from_numpy(layer.lower) for layer in layers]),
            torch.cat([torch.from_numpy(layer.upper) for layer in layers]),
        )
    return chords(graph, lower, upper, pre), torch.from_numpy(sample(box, 600, seed))


def elements(made, count=6, seed=0):
    """Bottom, top, and elements in between: (count + 2, N)."""
    share = torch.linspace(0.1, 0.9, count)[:, None]
    between = torch.rand(count, len(made.gap), generator=torch.Generator().manual_seed(seed)) < share
    return torch.cat([made.bottom[None], between, made.top[None]])


@pytest.mark.parametrize("kind", PIECEWISE)
@pytest.mark.parametrize("rule", [None, "crown", "m-1"])
def test_no_sample_beats_a_bound(kind, rule):
    differ = 0
    for seed in range(3):
        graph = random_graph(seed, kind, inputs=4, width=8, depth=2)
        made, x = over_box(graph, seed, rule=rule)
        which = elements(made, seed=seed)
        apart = (outputs(made, x, which[:, None]) - graph(x)).abs().amax(1)  # (elements, n_out)
        differ += bool(apart[-1].max() > 1e-3)
        for name, bounded in BOUNDS.items():
            assert (apart <= bounded(made, which) + 1e-12).all(), name
        assert (apart <= interval_width(made) + 1e-12).all()
        assert (apart.amax(-1) <= error_bound(made, which) + 1e-12).all()
    assert differ, "the top should differ from the network"


@pytest.mark.parametrize("kind", PIECEWISE)
def test_chords_lie_above_by_no_more_than_their_gap_and_values_stay_in_reach(kind):
    graph = random_graph(1, kind, inputs=4, width=8, depth=3)
    made, x = over_box(graph, 1)
    t = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    s = made.pre_lower + t * (made.pre_upper - made.pre_lower)
    function = graph.nodes[graph.layers[0].position].function
    above = made.slope * s + made.bias - function.value(s)
    assert (above >= -1e-12).all() and (above <= made.gap + 1e-12).all()
    assert (above.amax(0) >= 0.9 * made.gap).all(), "the gap is reached at the kink"
    stable = (made.pre_lower >= 0) | (made.pre_upper <= 0)
    assert torch.equal(made.unstable, ~stable) and made.unstable.any()
    for which in elements(made):
        relaxed = network(made, which)
        y = relaxed(x)
        assert ((y >= made.output_lower - 1e-9) & (y <= made.output_upper + 1e-9)).all()


def test_bottom_is_the_network_top_is_affine_and_the_graphs_are_the_elements():
    graph = random_graph(3, "residual", inputs=4, width=8, depth=3)
    made, x = over_box(graph, 3)
    assert torch.equal(outputs(made, x, made.bottom), graph(x))
    top = outputs(made, x, made.top)
    middle = outputs(made, (x[:200] + x[200:400]) / 2, made.top)
    assert torch.allclose(middle, (top[:200] + top[200:400]) / 2, atol=1e-10)
    for which in elements(made):
        at = outputs(made, x, which)
        assert torch.allclose(network(made, which)(x), at, atol=1e-12)
        assert torch.allclose(difference(made, which)(x), at - graph(x), atol=1e-12)
    assert not network(made, made.top).layers


def test_a_batch_of_elements_is_its_elements_one_by_one():
    graph = random_graph(4, "conv", inputs=16, width=8, depth=2)
    made, x = over_box(graph, 4)
    which = elements(made, 2)
    together = outputs(made, x[:5], which[:, None])
    assert together.shape == (4, 5, graph.output_size) and divergence(made, x[:5], which[:, None]).shape == (4, 5)
    for i, one in enumerate(which):
        assert torch.allclose(together[i], outputs(made, x[:5], one), atol=1e-13)
        for bounded in (*BOUNDS.values(), error_bound):
            assert torch.allclose(bounded(made, which)[i], bounded(made, one), rtol=1e-10)


@pytest.mark.parametrize("kind", ["mlp", "leaky", "conv"])
def test_how_far_elements_are_apart_is_a_relaxation(kind):
    """Of the graph of the difference, on parts of the box, with rows on inputs; both precisions."""
    graph = random_graph(5, kind, inputs=4, width=8, depth=2)
    made, _ = over_box(graph, 5)
    random = torch.Generator().manual_seed(5)
    for which in elements(made, 2):
        apart, relaxation = difference(made, which), Apart(made, which)
        t = torch.rand(3, 2, 4, generator=random, dtype=torch.float64).sort(1)[0]
        ends = [made.lower + t[:, k] * (made.upper - made.lower) for k in range(2)]
        x = (
            ends[0][:, None]
            + torch.rand(3, 400, 4, generator=random, dtype=torch.float64) * (ends[1] - ends[0])[:, None]
        )
        normal = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)  # noqa: E731
        for dtype in (torch.float32, torch.float64):
            rows = Rows(*(t.to(dtype) for t in (normal(3, 2, graph.output_size), normal(3, 2), normal(3, 2, 4))))
            sides = outward(*ends, dtype, torch.device("cpu"))
            found = relaxation.bound(Pieces.boxes(*sides, apart.neurons), rows).result.lower
            values = (
                torch.einsum("bsn,bkn->bks", rows.coefficients.double(), apart(x)) + rows.constants.double()[:, None]
            )
            values += torch.einsum("bsd,bkd->bks", rows.on_input.double(), x)
            assert (found.double()[:, None] <= values + 1e-12).all() and found.dtype is dtype
    one = Rows(torch.eye(graph.output_size).double()[None], torch.zeros(1, graph.output_size).double())
    piece = Pieces.boxes(made.lower[None], made.upper[None], apart.neurons)
    assert torch.allclose(-relaxation.bound(piece, one).result.lower[0], least_error(made, which), rtol=1e-9)
    report = bound(apart, (made.lower.numpy(), made.upper.numpy()), relaxation)
    assert (report.upper <= least_error(made, which).numpy() * (1 + 1e-9)).all()


def test_one_neuron_by_hand():
    """ReLU(x) on [-1, 3]: the chord is 3/4 (x + 1), furthest away at zero, by 3/4."""
    made = chords(univariate([0.0], [1.0]), torch.tensor([-1.0]), torch.tensor([3.0]))
    assert made.slope.item() == pytest.approx(0.75) and made.gap.item() == pytest.approx(0.75)
    assert outputs(made, torch.tensor([[1.0]]).double(), made.top).item() == pytest.approx(1.5)
    for bounded in BOUNDS.values():
        assert 0.75 <= bounded(made, made.top).item() <= 0.75 + 1e-12
    value, x = greatest_divergence(made, made.top, steps=60)
    assert value.item() == pytest.approx(0.75, abs=1e-2) and abs(x.item()) < 0.02


def test_the_recursion_is_the_derived_one_at_the_top():
    """Without the minimum that keeps it below the interval width: e_k = |Q_k W_k| e_{k-1} + g_k."""
    graph = random_network((6, 9, 7, 3), seed=2)
    made = chords(graph, -0.01 * torch.ones(6), 0.01 * torch.ones(6))
    e = torch.zeros(6, dtype=torch.float64)
    for position in graph.layer_at:
        part, weight = made.part(position), graph.nodes[position - 1].operators[0].weight
        e = torch.minimum((made.slope[part, None] * weight).abs() @ e + made.gap[part], made.post_width[part])
    e = graph.nodes[-1].operators[0].weight.abs() @ e
    found = recursive_error(made, made.top)
    assert (found >= e).all() and torch.allclose(found, e, rtol=1e-9)
    assert e.max() > 0


def test_between_ascent_and_the_bounds_stands_the_exact_supremum():
    """Mixed-integer programming finds E on small networks."""
    for seed, depth in ((0, 1), (1, 2), (2, 2)):
        graph = random_graph(seed, "mlp", inputs=3, width=5, depth=depth)
        made, _ = over_box(graph, seed)
        which = elements(made, 2, seed)
        found, where = greatest_divergence(made, which, starts=24)
        assert torch.allclose(divergence(made, where, which), found)
        most = error_bound(made, which)
        for i, one in enumerate(which[1:], 1):
            report = bound(difference(made, one), (made.lower.numpy(), made.upper.numpy()), "exact")
            exact = max(-report.lower.min(), report.upper.max())
            assert found[i] <= exact + 1e-6 and exact <= most[i] + 1e-6
            assert found[i] >= 0.5 * exact, "the ascent should come near"
        assert found[0] == 0 and most[0] <= 1e-9 + most[-1]


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_the_bounds_vanish_with_the_radius(kind):
    graph = random_graph(5, kind, inputs=9, width=8, depth=3)
    centre = torch.from_numpy(random_box(5, 9).lower) + 0.3
    last = float("inf")
    for radius in (1.0, 0.1, 0.0):
        made = chords(graph, centre - radius, centre + radius)
        most = error_bound(made, made.top).item()
        assert most <= last and divergence(made, centre, made.top) <= most + 1e-15
        last = most
    assert last < 1e-12


def test_the_recursion_never_exceeds_the_interval_width():
    for seed in range(6):
        graph = random_network((8, 20, 20, 20, 20, 4), seed, "uniform")
        made = chords(graph, -torch.ones(8), torch.ones(8))
        assert (recursive_error(made, made.top) <= interval_width(made) * (1 + 1e-9)).all()
        assert (telescoped_error(made, made.top) < recursive_error(made, made.top)).all()


def test_ascent_starts_at_the_centre_and_repeats():
    made = chords(maximum(5), torch.zeros(5), torch.ones(5))
    centre = divergence(made, torch.full((5,), 0.5, dtype=torch.float64), made.top)
    first, again = (greatest_divergence(made, made.top, starts=6, steps=10, seed=1) for _ in range(2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1]) and first[0] >= centre


def test_what_has_no_chords_is_refused():
    ones = torch.ones(3)
    with pytest.raises(BadInput, match=r"chords replace ReLUs.*Sigmoid"):
        chords(random_graph(0, "sigmoid"), -ones, ones)
    with pytest.raises(BadInput, match="do not exceed"):
        chords(random_graph(0), ones, -ones)
    with pytest.raises(BadInput, match="2 lower and 3 upper bounds for 3 inputs"):
        chords(random_graph(0), -ones[:2], ones)
    with pytest.raises(BadInput, match="finite"):
        chords(barrier(1.0), torch.tensor([-1.0, -torch.inf]), torch.ones(2))
