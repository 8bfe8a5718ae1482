"""Multi-neuron rows in backward bounds: sound for any multipliers, as good as the linear program with enough steps."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from conformance import Conformance, problem, rows_of
from networks import random_box, random_graph, sample
from scipy.optimize import linprog
from scipy.sparse import csr_array, vstack

from partita.kernels.separation import separate
from partita.problems.network.activation import LeakyReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.properties.property import Polytope
from partita.relaxations.effort import BoundEffort, LinearEffort, RowEffort
from partita.relaxations.ladder.exact import Exact
from partita.relaxations.linear.alpha import Alpha
from partita.relaxations.linear.linear import Linear
from partita.relaxations.linear.neuron_rows import Facets, joined
from partita.relaxations.linear.root import root
from partita.relaxations.linear.row_multipliers import NeuronRows
from partita.relaxations.lp import highs
from partita.relaxations.lp.encode import encode
from partita.relaxations.protocol import AbstractRelaxation
from partita.relaxations.rows.cutting import Turns, _better, cut, layers_read
from partita.relaxations.rows.group_rows import chosen_groups, group_rows
from partita.relaxations.rows.groups import all_subsets
from partita.relaxations.rows.refine import refined
from partita.relaxations.rows.separation import broken_rows, reads
from partita.relaxations.rows.strengthen import Strengthened, most_useful, strengthened
from partita.relaxations.types import Multipliers, Pieces, Result, Rows

DTYPES = (torch.float32, torch.float64)
RELU = ("mlp", "conv", "residual", "leaky")


def root_of(linear: Linear, pieces: Pieces) -> Pieces:
    """One piece that contains all of them, with bounds of its own."""
    box = (pieces.lower.amin(0, keepdim=True), pieces.upper.amax(0, keepdim=True))
    return linear.tighten(Pieces.boxes(*box, linear.graph.neurons))[0]


def first(pieces_or_rows: Rows) -> Rows:
    """The rows of the first piece, as objectives of a root; what they say of the input is left out."""
    return Rows(pieces_or_rows.coefficients[:1], pieces_or_rows.constants[:1])


@dataclass(frozen=True, eq=False)
class WithRows(AbstractRelaxation):
    """Rows found at the pieces' common root, M_1's and those of pairs and triples, then optimised on each piece."""

    linear: Linear

    def bound(self, pieces, rows, start=None):
        alpha = Alpha(self.linear, 5)
        whole = root_of(self.linear, pieces)
        found = cut(alpha, whole, first(rows), layers_read(alpha, whole), math.inf, Turns(2, 10))
        extra = [f for size in (2, 3) for f in pairs(alpha, whole, size)]
        kept = torch.ones(len(found.neuron_rows or ()), dtype=torch.bool)
        neuron_rows = found.neuron_rows or NeuronRows((), tuple(n.size for n in self.linear.graph.nodes))
        for f in extra:
            neuron_rows, _ = neuron_rows.grown(self.linear.graph, self.linear.scales, [f], kept)
            kept = torch.ones(len(neuron_rows), dtype=torch.bool)
        return replace(alpha, neuron_rows=neuron_rows if len(neuron_rows) else None).bound(pieces, rows)


def pairs(alpha: Alpha, whole: Pieces, size: int, most: int = 12) -> list[Facets]:
    """Rows of some groups of every layer."""
    found = []
    for i in alpha.linear.graph.layer_at:
        low, high = (side[0] for side in whole.pre(alpha.linear.graph.layer_at[i]))
        undecided = ((low < 0) & (high > 0)).nonzero()[:, 0]
        if len(undecided) >= size:
            rows = group_rows(alpha, whole, i, all_subsets(undecided, size)[:most])
            found += [] if rows is None else [rows]
    return found


class TestWithRows(Conformance):
    kinds = ("mlp", "conv", "residual", "leaky", "sigmoid")
    batch_tolerance = (2e-1, 2e-1)  # which rows are found depends on the company a piece is in
    refreshes = False

    def build(self, linear, graph):
        return WithRows(linear)


# Separation.


def envelope(weight, bias, lower, upper, point) -> float:
    """The least concave function above relu(w v + b) on the box, at a point: a program over the box's corners."""
    corners = np.array(list(itertools.product(*zip(lower, upper, strict=True))))
    values = np.maximum(corners @ weight + bias, 0)
    sides = np.concatenate([corners.T, np.ones((1, len(corners)))])
    return -linprog(-values, A_eq=sides, b_eq=np.append(point, 1.0)).fun


def test_separated_rows_are_the_envelope():
    """Anderson et al. 2020: the row that is found is tight at its point; there is no better one."""
    random = torch.Generator().manual_seed(0)
    for _ in range(20):
        uniform = lambda *shape: torch.rand(*shape, generator=random, dtype=torch.float64)  # noqa: E731
        weight, bias = 2 * uniform(3, 4) - 1, uniform(3) - 0.5
        lower = -uniform(3, 4)
        upper = lower + 2 * uniform(3, 4)
        points = lower[:, None] + (upper - lower)[:, None] * uniform(3, 5, 4)
        coefficients, offset = separate(weight, bias, lower, upper, points)
        found = (coefficients * points).sum(-1) + offset
        for j, q in np.ndindex(3, 5):
            sides = (t.numpy() for t in (weight[j], bias[j], lower[j], upper[j], points[j, q]))
            assert found[j, q].item() == pytest.approx(envelope(*sides), abs=1e-7)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("degenerate", (False, True))
def test_separated_rows_hold_at_every_corner(dtype, degenerate):
    random = torch.Generator().manual_seed(1)
    corners = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6)), dtype=torch.float64)
    for _ in range(200):
        weight = torch.randn(4, 6, generator=random, dtype=dtype) * 10 ** torch.randint(-3, 4, (1,), generator=random)
        lower = torch.randn(4, 6, generator=random, dtype=dtype)
        upper = lower + torch.rand(4, 6, generator=random, dtype=dtype)
        if degenerate:
            upper[:, :2] = lower[:, :2]
            weight[:, 3] = 0
        bias = torch.randn(4, generator=random, dtype=dtype)
        points = lower[:, None] + (upper - lower)[:, None] * torch.rand(4, 3, 6, generator=random, dtype=dtype)
        coefficients, offset = separate(weight, bias, lower, upper, points)
        at = lower[:, None].double() + corners * (upper.double() - lower.double())[:, None]  # (4, V, 6)
        value = ((at * weight[:, None].double()).sum(-1) + bias[:, None].double()).clamp(min=0)
        above = at @ coefficients.double().mT + offset[:, None].double()
        assert (value[..., None] <= above + 1e-13 * (1 + above.abs())).all()


def test_rows_hold_for_weights_that_float32_cannot_store():
    """The network's own weights decide, not what float32 keeps of them: in a narrow box little else is left."""
    random = torch.Generator().manual_seed(4)
    from partita.problems.network.activation import ReLU

    met = 0
    for _ in range(40):
        weight = torch.randn(6, 5, generator=random, dtype=torch.float64)
        lower = 1e4 * torch.randn(5, generator=random, dtype=torch.float64).float().double()
        upper = (lower.float() + 0.01).double()
        # Hardly ever inactive: then a row takes nearly all weights as they are, and nothing else makes room.
        bias = -torch.minimum(weight * lower, weight * upper).sum(1) - 1e-3 * weight.abs().sum(1) * 0.01
        last = Affine((2,), (Dense(torch.eye(6, dtype=torch.float64)),), torch.zeros(6, dtype=torch.float64))
        first = Affine((0,), (Dense(weight),), bias)
        graph = Graph((Input(5), first, Activation((1,), ReLU(), 6), last), (5,), (6,))
        linear, whole = root(graph.to(torch.float32), lower, upper)
        found = layers_read(Alpha(linear, 1), whole)
        if not found:
            continue
        layer = found[0]
        corner = torch.rand(3, 5, generator=random)
        points = layer.taken(whole.lower + corner * (whole.upper - whole.lower), slice(None))
        sides = (layer.weight, layer.bias, layer.lower, layer.upper, points)
        exact = lower + (upper - lower) * torch.rand(500, 5, generator=random, dtype=torch.float64)
        value = (exact @ weight[layer.neurons].T + bias[layer.neurons]).clamp(min=0)  # (500, J)
        coefficients, offset = separate(*sides, layer.doubt)
        above = torch.einsum("vk,jqk->vjq", exact, coefficients.double()) + offset.double()
        assert (value[..., None] <= above + 1e-11).all()
        met += len(layer.neurons)
    assert met > 50


# Any multipliers.


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", RELU)
def test_every_multiplier_is_sound(kind, dtype):
    random = torch.Generator().manual_seed(2)
    met = 0
    for seed in range(6):
        graph, box = random_graph(seed, kind, inputs=9, width=10, depth=3), random_box(seed, 9, 0.6)
        linear, whole = root(graph.to(dtype), *(torch.as_tensor(s) for s in (box.lower, box.upper)))
        alpha = Alpha(linear, 3)
        rows = Rows(torch.randn(1, 3, graph.output_size, generator=random).to(dtype), torch.zeros(1, 3, dtype=dtype))
        neuron_rows = cut(alpha, whole, rows, layers_read(alpha, whole), math.inf, Turns(3, 10)).neuron_rows
        if neuron_rows is None:
            continue
        truth = (torch.as_tensor(graph(torch.as_tensor(sample(box, 4000)))) @ rows.coefficients[0].double().mT).amin(0)
        for size in (0.01, 0.3, 10.0):
            start = alpha.start(whole, 3)
            prices = size * torch.rand(1, 3, len(neuron_rows), generator=random).to(dtype)
            start = Multipliers(torch.rand(start.choice.shape, generator=random).to(dtype), start.split, prices)
            found = replace(alpha, neuron_rows=neuron_rows, steps=0).bound(whole, rows, start)[0].lower[0]
            assert (found.double() <= truth).all()
            met += len(neuron_rows)
    assert met > 100


# As good as the linear program.


def program(graph, whole: Pieces, box: Polytope, facets: list[Facets], row: torch.Tensor) -> float:
    """The triangle program over the same pre-activation bounds, with these rows."""
    boxes = [(torch.as_tensor(box.lower), torch.as_tensor(box.upper))]
    for node in graph.nodes[1:]:
        boxes.append(tuple(torch.full((node.size,), s, dtype=torch.float64) for s in (-1e3, 1e3)))
    for layer in graph.layers:
        boxes[layer.source] = tuple(side[0].double() for side in whole.pre(layer))
    encoding = encode(graph, box, boxes=boxes)
    model, n = encoding.model, len(encoding.model.cost)
    matrices, sides = [model.matrix], [model.row_upper]
    for f in facets:
        dense = np.zeros((len(f), n))
        post, pre = f.dense(graph.nodes[f.position].size)
        for node, rows in ((f.position, post), (graph.nodes[f.position].inputs[0], pre)):
            at = encoding.first[node]
            dense[:, at : at + rows.shape[1]] += rows.numpy()
        if f.on_source is not None:
            at = encoding.first[graph.nodes[graph.nodes[f.position].inputs[0]].inputs[0]]
            dense[:, at : at + f.on_source.shape[1]] += f.on_source.numpy()
        matrices.append(csr_array(dense))
        sides.append(f.offset.numpy())
    low = np.concatenate([model.row_lower, np.full(sum(len(s) for s in sides[1:]), -np.inf)])
    model = replace(model, matrix=vstack(matrices, format="csr"), row_lower=low, row_upper=np.concatenate(sides))
    cost = np.zeros(n)
    cost[encoding.first[graph.output] : encoding.first[graph.output] + len(row)] = row.numpy()
    return highs.solve(model.with_objective(cost)).bound_safe


@pytest.mark.parametrize("seed", range(4))
def test_the_pass_reaches_the_linear_program(seed):
    """With the same rows and bounds, the multipliers' optimum is the program's: to 1e-3 after enough steps."""
    graph, box = random_graph(seed, "mlp", inputs=4, width=8, depth=2), random_box(seed, 4, 0.7)
    linear, whole = root(graph, torch.as_tensor(box.lower), torch.as_tensor(box.upper))
    linear = replace(linear, effort=BoundEffort(LinearEffort(decay=0.999)))
    alpha = Alpha(linear, 20, rate=0.05, patient=True)
    row = torch.randn(1, 1, graph.output_size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows = Rows(row, torch.zeros(1, 1, dtype=torch.float64))
    neuron_rows = cut(alpha, whole, rows, layers_read(alpha, whole), math.inf, Turns(3, 10)).neuron_rows
    facets = ([] if neuron_rows is None else [layer.facets for layer in neuron_rows.layers]) + pairs(alpha, whole, 2)
    facets = [joined([f for f in facets if f.position == i]) for i in sorted({f.position for f in facets})]
    neuron_rows = NeuronRows.of(graph, linear.scales, facets)
    plain = program(graph, whole, box, [], row[0, 0])
    truth = program(graph, whole, box, facets, row[0, 0])
    found = replace(alpha, neuron_rows=neuron_rows, steps=5000).bound(whole, rows)[0].lower.item()
    assert found <= truth + 1e-7
    assert found >= truth - 1e-3 * max(1.0, truth - plain), (plain, truth, found)


# The root.


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", RELU)
def test_a_strengthened_root_holds_and_is_no_looser(kind, dtype):
    for seed in range(3):
        graph, box = random_graph(seed, kind, inputs=9, width=12, depth=3), random_box(seed, 9, 0.4)
        linear, whole = root(graph.to(dtype), *(torch.as_tensor(s) for s in (box.lower, box.upper)))
        alpha = Alpha(linear, 5)
        rows = Rows(torch.eye(graph.output_size, dtype=dtype)[None], torch.zeros(1, graph.output_size, dtype=dtype) - 5)
        plain = replace(alpha, patient=True).bound(whole, rows)[0].lower
        tight = refined(alpha, whole, math.inf, speakers=4)
        found = strengthened(alpha, tight, rows, math.inf)
        points = torch.as_tensor(sample(box, 2000))
        values = graph.values(points)
        pre = torch.cat([values[graph.nodes[i].inputs[0]] for i in graph.layer_at], 1)
        for piece in (tight, found.root):
            assert (piece.pre_lower[0].double() <= pre).all() and (pre <= piece.pre_upper[0].double()).all()
            assert (piece.pre_lower >= whole.pre_lower).all() and (piece.pre_upper <= whole.pre_upper).all()
        assert (found.result.lower[0].double() <= values[-1].amin(0) - 5).all()
        assert (found.result.lower >= plain - 1e-4).all()
        few = most_useful(alpha, found, 5)
        assert few.neuron_rows is None or len(few.neuron_rows) <= 5
        truth = Exact(graph).bound(
            whole_in(graph, found.root), Rows(*(t.double() for t in (rows.coefficients, rows.constants)))
        )
        assert (found.result.lower <= truth[0].lower + 1e-5).all()


def test_layers_that_ask_for_rows_are_tighter():
    """Rows that only the objectives asked for leave layers where they are; those that layers ask for do not."""
    gained = []
    for seed in range(3):
        graph, box = random_graph(seed, inputs=9, width=24, depth=4), random_box(seed, 9, 0.4)
        linear, whole = root(graph, *(torch.as_tensor(s) for s in (box.lower, box.upper)))
        alpha = Alpha(linear, 5)
        rows = Rows(torch.eye(graph.output_size)[None].double(), whole.lower.new_full((1, graph.output_size), -5.0))
        widths = []
        for speakers in (0, 128):
            effort = BoundEffort(rows=RowEffort(speakers=speakers))
            asking = replace(alpha, linear=replace(linear, effort=effort))
            found = strengthened(asking, whole, rows, math.inf)
            widths.append((found.root.pre_upper - found.root.pre_lower).sum().item())
        gained.append(1 - widths[1] / widths[0])
    assert min(gained) > 0.01, gained


def whole_in(graph, piece: Pieces) -> Pieces:
    """The piece in float64."""
    real = lambda t: t.double() if t.is_floating_point() else t  # noqa: E731
    return Pieces(*(real(getattr(piece, name)) for name in piece.__dataclass_fields__))


def test_rows_of_few_inputs_are_kept_sparse_and_say_the_same():
    """A convolution's neurons read a few of many inputs: sparse rows, with the dense ones' bounds."""
    from partita.relaxations.linear.row_multipliers import Block

    random = torch.Generator().manual_seed(3)
    index = torch.stack([torch.randperm(60, generator=random)[:4] for _ in range(30)])
    coefficients = torch.randn(30, 4, generator=random, dtype=torch.float64)
    sparse = Block.of(coefficients, index, 60)
    dense = Block(torch.zeros(30, 60, dtype=torch.float64).scatter_add(1, index, coefficients))
    assert sparse.turned is not None
    price, value = torch.rand(2, 3, 30, dtype=torch.float64), torch.randn(2, 3, 60, dtype=torch.float64)
    torch.testing.assert_close(sparse.pull(price, 60), dense.pull(price, 60))
    torch.testing.assert_close(sparse.push(value), dense.push(value))
    torch.testing.assert_close(sparse.weigh(value[0, 0].abs()), dense.weigh(value[0, 0].abs()))


def test_groups_are_chosen_where_the_objectives_lose():
    p = rows_of(problem("mlp", 3, torch.float64), slice(0, 1))
    alpha = Alpha(p.linear, 3, patient=True)
    whole = root_of(p.linear, p.pieces)
    _, values, form = alpha.optimise(whole, first(p.rows))
    for i in p.graph.layer_at:
        groups = chosen_groups(alpha, whole, i, [v[0] for v in values], (-form.at[i][0]).clamp(min=0), 2, 5)
        assert groups.shape[1] == 2 and len(groups) <= 5
        low, high = (side[0] for side in whole.pre(p.graph.layer_at[i]))
        assert ((low < 0) & (high > 0))[groups].all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", ("mlp", "leaky"))
def test_rows_of_layers_hold_at_points(kind, dtype):
    """Rows that relaxed values break are broken by no value of the network; they are made for undecided neurons."""
    seen = 0
    for seed in range(4):
        graph, box = random_graph(seed, kind, inputs=5, width=8, depth=2), random_box(seed, 5, 0.6)
        linear, whole = root(graph.to(dtype), *(torch.as_tensor(s) for s in (box.lower, box.upper)))[:2]
        alpha = Alpha(linear, 3, patient=True)
        count = graph.output_size
        rows = Rows(torch.eye(count, dtype=dtype)[None], torch.zeros(1, count, dtype=dtype))
        relaxed = [v[0] for v in alpha.optimise(whole, rows)[1]]
        at = graph.values(torch.as_tensor(sample(box, 2000)))
        for layer in layers_read(alpha, whole):
            low, high = (side[0] for side in whole.pre(graph.layer_at[layer.position]))
            assert ((low < 0) & (high > 0))[layer.neurons].all() and len(layer.neurons) == (
                (low < 0) & (high > 0)
            ).sum()
            found = broken_rows(layer, relaxed)
            if found is None:
                continue
            seen += len(found)
            z, y, x = (at[n] for n in (layer.below, layer.position, layer.source))
            on_post, on_pre = found.dense(z.shape[1])
            left = y @ on_post.double().T + z @ on_pre.double().T
            if found.source_index is None:
                left = left + x @ found.on_source.double().T
            else:
                left = left + (x[:, found.source_index] * found.on_source.double()).sum(-1)
            assert (left <= found.offset.double() + (1e-9 if dtype is torch.float64 else 1e-5)).all()
        first = graph.layers[0].position
        assert [layer.position for layer in layers_read(alpha, whole, graph.layers[1].position)] == [first]
    assert seen > 10


def test_what_weights_and_biases_are_off_by_is_charged():
    """Beside fractions: a float32 copy of float64 weights at a far corner, a bias in doubt, ends of either sign."""
    graph = random_graph(0, "mlp", inputs=3, width=4, depth=1)
    first = graph.nodes[1]
    for lower, upper in ((-1000.0, 1.0), (-1.0, 1000.0)):
        ends = torch.full((3,), lower).double(), torch.full((3,), upper).double()
        linear, whole = root(graph.to(torch.float32), *ends)[:2]
        layer = reads(linear.graph, whole, 2)
        size = first.operators[0].weight.abs().sum(1)[layer.neurons] * 1000
        assert (layer.doubt.double() >= 0.9 * 2.0**-24 * size).all() and (
            layer.doubt.double() <= 1e-5 * size + 1e-5
        ).all()
        nodes = list(linear.graph.nodes)
        nodes[1] = replace(nodes[1], doubt=torch.full((4,), 0.125))
        assert (reads(replace(linear.graph, nodes=tuple(nodes)), whole, 2).doubt >= layer.doubt + 0.125).all()
    twice = list(graph.nodes)
    twice[1] = replace(first, inputs=(0, 0), operators=2 * first.operators)
    assert reads(replace(graph, nodes=tuple(twice)), whole_in(graph, whole), 2) is None


def test_carried_multipliers_keep_their_rows():
    """Multipliers go where their rows went, and are nothing for new ones; bounds of a node take rows below it."""
    result = lambda lower, neuron_rows: Result(  # noqa: E731
        torch.tensor([lower]),
        *(torch.zeros(1, 2, 1), torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 1), torch.zeros(1, 1)),
        torch.zeros(1, dtype=torch.bool),
        multipliers=Multipliers(torch.zeros(1, 2, 2, 1), torch.zeros(1, 2, 0), torch.tensor([neuron_rows])),
    )
    old = result([1.0, 1.0], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    new = result([0.0, 2.0], [[7.0, 7.0, 7.0], [8.0, 8.0, 8.0]])
    found = _better(old, new, torch.tensor([2, -1, 0])).multipliers.neuron_rows
    assert found.tolist() == [[[3.0, 0.0, 1.0], [8.0, 8.0, 8.0]]]
    p = rows_of(problem("mlp", 3, torch.float64), slice(0, 1))
    alpha, whole = Alpha(p.linear, 5, patient=True), root_of(p.linear, p.pieces)
    first, second = tuple(p.graph.layer_at)
    rows = []
    for position in (first, second):
        facets = group_rows(alpha, whole, position, all_subsets(torch.arange(4), 2))
        rows += [] if facets is None else [facets]
    neuron_rows = NeuronRows.of(p.graph, p.linear.scales, rows)
    source = p.graph.nodes[second].inputs[0]
    wanted = Rows(
        torch.eye(p.graph.nodes[source].size).double()[None], torch.zeros(1, p.graph.nodes[source].size).double()
    )
    found = cut(replace(alpha, neuron_rows=neuron_rows), whole, wanted, [], math.inf, Turns(0, 10, source))
    assert found.neuron_rows is None or all(layer.facets.position < source for layer in found.neuron_rows.layers)


def test_rows_that_are_left_keep_their_multipliers():
    """`most_useful` keeps the rows that move the objectives most, each with its own multipliers."""
    p = rows_of(problem("mlp", 3, torch.float64), slice(0, 1))
    alpha, whole = Alpha(p.linear, 20, patient=True), root_of(p.linear, p.pieces)
    facets = [f for i in p.graph.layer_at if (f := group_rows(alpha, whole, i, all_subsets(torch.arange(5), 2)))]
    neuron_rows = NeuronRows.of(p.graph, p.linear.scales, facets)
    found = cut(replace(alpha, neuron_rows=neuron_rows), whole, first(p.rows), [], math.inf, Turns(0, 10))
    price = torch.rand(found.result.multipliers.neuron_rows.shape, generator=torch.Generator().manual_seed(0)).double()
    marked = replace(found.result, multipliers=replace(found.result.multipliers, neuron_rows=price))
    few = most_useful(alpha, Strengthened(whole, neuron_rows, marked), 3)
    assert len(few.neuron_rows) == 3
    before = torch.cat([layer.facets.offset for layer in neuron_rows.layers])
    after = torch.cat([layer.facets.offset for layer in few.neuron_rows.layers])
    for k, offset in enumerate(after.tolist()):
        at = [i for i, one in enumerate(before.tolist()) if one == offset]
        assert any(torch.equal(few.result.multipliers.neuron_rows[..., k], price[..., i]) for i in at)


def test_hulls_of_every_layer_are_used():
    graph, box = random_graph(1, inputs=6, width=12, depth=3), random_box(1, 6, 0.5)
    linear, whole = root(graph, *(torch.as_tensor(s) for s in (box.lower, box.upper)))[:2]
    count = graph.output_size
    rows = Rows(torch.eye(count).double()[None], torch.full((1, count), -5.0).double())
    found = strengthened(Alpha(linear, 3), whole, rows, -math.inf, ("k-relu",))
    assert {layer.facets.position for layer in found.neuron_rows.layers} >= set(tuple(graph.layer_at)[1:])


def test_sparse_and_dense_layers_are_read_alike():
    """Weights and biases of leaky neurons are (1 - a) times the layer's, however few inputs each reads."""
    weight = torch.zeros(3, 8, dtype=torch.float64)
    weight[torch.arange(3), torch.arange(3)], weight[torch.arange(3), torch.arange(3) + 4] = 2.0, -3.0
    bias, ends = torch.full((3,), 0.25, dtype=torch.float64), torch.ones(8, dtype=torch.float64)
    for matrix in (weight, weight + 1):
        nodes = (Input(8), Affine((0,), (Dense(matrix),), bias), Activation((1,), LeakyReLU(0.5), 3))
        graph = Graph((*nodes, Affine((2,), (Dense(torch.eye(3).double()),), 0 * bias)), (1, 8), (1, 3))
        linear, whole = root(graph, -ends, ends)[:2]
        layer = reads(linear.graph, whole, 2)
        assert (layer.index is None) == (matrix is not weight) and torch.equal(layer.bias, 0.5 * bias)
        full = layer.weight
        if layer.index is not None:
            full = torch.zeros(3, 8, dtype=torch.float64).scatter_add(1, layer.index, layer.weight)
        assert torch.equal(full, 0.5 * matrix)
