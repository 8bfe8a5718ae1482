"""Rows of several neurons in a backward bound: which of them may speak, and what their products lose."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from networks import random_graph
from test_rounding_terms import exact, graph_of, inner_exact

from partita.relaxations.linear.alpha import Alpha
from partita.relaxations.linear.linear import Linear
from partita.relaxations.linear.neuron_rows import Facets
from partita.relaxations.linear.root import root
from partita.relaxations.linear.rounding import Rounding
from partita.relaxations.linear.row_multipliers import Block, NeuronRows
from partita.relaxations.types import Pieces, Rows


def network(seed: int, dtype: torch.dtype):
    graph = random_graph(seed, "mlp", inputs=3, width=6, depth=3)
    lower, upper = -torch.ones(3).double(), torch.ones(3).double()
    linear, whole = root(graph.to(dtype), lower, upper)
    x = lower + (upper - lower) * torch.rand(4000, 3, generator=torch.Generator().manual_seed(seed)).double()
    return graph, linear, whole, graph.values(x)


def true_rows(graph, position: int, values, random: torch.Generator, dtype: torch.dtype, count: int = 8) -> Facets:
    """Random rows of one layer on y, z and v that all samples satisfy, with negative coefficients on y."""
    n = graph.nodes[position].size
    below = graph.nodes[position].inputs[0]
    source = graph.nodes[below].inputs[0]
    index = torch.arange(n).repeat(count, 1)
    draw = lambda *shape: torch.randn(*shape, generator=random).to(dtype)  # noqa: E731
    post, pre, on_source = -draw(count, n).abs(), draw(count, n), draw(count, graph.nodes[source].size)
    left = values[position] @ post.double().T + values[below] @ pre.double().T + values[source] @ on_source.double().T
    offset = (left.amax(0) + 0.05).to(dtype)
    return Facets(position, index, post, pre, offset, on_source)


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_a_layer_say_nothing_about_its_pre_activations(seed):
    """One row at a time, with a multiplier of one: bounds of the node below must hold, and be those without it."""
    graph, linear, whole, values = network(seed, torch.float64)
    random = torch.Generator().manual_seed(seed)
    alpha = Alpha(linear, 0)
    for position in tuple(graph.layer_at)[1:]:
        node = graph.nodes[position].inputs[0]
        facets = true_rows(graph, position, values, random, torch.float64)
        eye = torch.eye(graph.nodes[node].size, dtype=torch.float64)[None]
        rows = Rows(torch.cat([eye, -eye], 1), eye.new_zeros(1, 2 * len(eye[0])))
        truth = torch.cat([values[node], -values[node]], 1).amin(0)
        for row in range(len(facets)):
            neuron_rows = NeuronRows.of(graph, linear.scales, [facets[row : row + 1]])
            assert len(neuron_rows.below(node)) == 0 and len(neuron_rows.below(position)) == 1
            tied = replace(alpha, neuron_rows=neuron_rows)
            start = tied.start(whole, rows.constants.shape[1])
            start = replace(start, neuron_rows=torch.ones_like(start.neuron_rows))
            found = tied.optimise(whole, rows, start, node=node)[0].lower[0]
            assert (found <= truth).all()
            assert torch.equal(
                found, alpha.optimise(whole, rows, alpha.start(whole, len(rows.constants[0])), node=node)[0].lower[0]
            )


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize(("seed", "cancels"), [(0, True), (1, True), (2, False)])
def test_what_rows_add_is_right_up_to_its_doubt(seed, cancels, dtype):
    """Large multipliers on rows that nearly cancel, two layers at one node, in rational numbers at values the size of
    the node's: the terms that multipliers add differ from the stated ones by no more than `doubt`."""
    graph, linear, _, values = network(seed, dtype)
    random = torch.Generator().manual_seed(seed)
    first, second = graph.layers[0].position, graph.layers[1].position
    facets = [true_rows(graph, position, values, random, dtype, 6) for position in (first, second)]

    # Each row is followed by its opposite but for a last bit, so that products cancel.
    def doubled(f: Facets) -> Facets:
        both = lambda t, k: torch.cat([t, -t * (1 + k * torch.finfo(dtype).eps)])  # noqa: E731
        return Facets(
            f.position,
            f.index.repeat(2, 1),
            both(f.on_post, 2),
            both(f.on_pre, 3),
            both(f.offset, 1),
            both(f.on_source, 2),
        )

    multiplier = 1e3 * torch.rand(1, 4, 12, generator=random).to(dtype)
    if cancels:
        facets = [doubled(f) for f in facets]
        halves = multiplier.split(6, -1)
        multiplier = torch.cat([halves[0], halves[0], halves[1], halves[1]], -1)
    neuron_rows = NeuronRows.of(graph, linear.scales, facets)
    added, constant, doubt = neuron_rows.added(multiplier)
    charged = 0
    for p in range(0, 200, 25):
        at = [exact(v[p]) for v in values]
        for s in range(4):
            stated = sum((inner_exact(added[node][0, s], at[node]) for node in added), exact(constant[0, s])[0])
            true = 0
            price = iter(exact(multiplier[0, s]))
            for f in facets:
                post, pre = f.dense(graph.nodes[f.position].size)
                below = graph.nodes[f.position].inputs[0]
                source = graph.nodes[below].inputs[0]
                for c in range(len(f)):
                    left = inner_exact(post[c], at[f.position]) + inner_exact(pre[c], at[below])
                    left += inner_exact(f.on_source[c], at[source]) - exact(f.offset[c])[0]
                    true += next(price) * left
            assert abs(stated - true) <= exact(doubt[0, s])[0]
            charged += stated != true
    assert charged > 20


def test_a_layer_is_weighed_by_all_of_its_rows():
    """sum |g_i| |value_i| + |h|, over values, pre-activations and inputs; kept when the precision rises, alone."""
    graph, linear, _, values = network(0, torch.float32)
    facets = true_rows(graph, graph.layers[1].position, values, torch.Generator().manual_seed(0), torch.float32)
    neuron_rows = NeuronRows.of(graph, linear.scales, [facets])
    (layer,), size = neuron_rows.layers, [s.double() for s in linear.scales.size]
    below = graph.nodes[facets.position].inputs[0]
    source = graph.nodes[below].inputs[0]
    post, pre = (part.double().abs() for part in facets.dense(graph.nodes[facets.position].size))
    wanted = post @ size[facets.position] + pre @ size[below] + facets.on_source.double().abs() @ size[source]
    torch.testing.assert_close(layer.weight.double(), 1.02 * (wanted + facets.offset.double().abs()), rtol=1e-5, atol=0)
    wide, scales = graph.to(torch.float64), replace(linear.scales, size=size)
    again = neuron_rows.to(wide, scales)
    assert torch.equal(again.layers[0].facets.offset, facets.offset.double())
    with pytest.raises(ValueError, match="lower precision"):
        again.to(graph.to(torch.float32), linear.scales)


def test_rows_are_weighed_without_their_signs():
    random = torch.Generator().manual_seed(0)
    for index, width in (
        (None, 9),
        (torch.tensor([[0], [3], [3]]), 1),
        (torch.randint(0, 90, (5, 2), generator=random), 2),
    ):
        size = 90 if index is not None and width == 2 else 9
        coefficients = -torch.rand(len(index) if index is not None else 4, width, generator=random).double()
        block = Block.of(coefficients, index, size)
        dense = (
            coefficients
            if index is None
            else torch.zeros(len(index), size).double().scatter_add(1, index, coefficients)
        )
        weight = torch.rand(size, generator=random).double()
        torch.testing.assert_close(block.weigh(weight), dense.abs() @ weight)


def test_multipliers_of_decided_neurons_are_charged():
    """split * point: a decision far from the origin whose constant drowns what is left of the bound."""
    graph = graph_of((torch.tensor([[1.0]]), torch.zeros(1), True), (torch.tensor([[1.0]]), torch.zeros(1), False))
    for far in (1e4, 3e6, 5e7):
        for factor in (1.0, 1.1, 0.3):
            x = torch.tensor([far * factor])
            rounding = Rounding(graph.to(torch.float32))
            linear = Linear(rounding, rounding.local(x.abs(), {}))
            piece = Pieces.boxes(x[None], x[None], 1)
            piece = replace(piece, neuron=torch.tensor([[0]]), sign=torch.tensor([[1.0]]), point=x[None].clone())
            piece = piece.with_pre(x[None], x[None])
            alpha = Alpha(linear, 0)
            rows = Rows(torch.full((1, 1, 1), 0.7), torch.zeros(1, 1))
            start = alpha.start(piece, 1)
            for price in (0.1, 0.7, 3.3):
                own = replace(start, split=torch.full((1, 1, 1), price))
                found = replace(alpha, steps=0).bound(piece, rows, own)[0].lower.item()
                assert exact(found)[0] <= exact(rows.coefficients)[0] * exact(x)[0]
