"""What rounding is charged, term by term: vectors beside the formulas of `rounding`, slack beside a slow sum."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from networks import random_graph

from partita.kernels.dot import depth
from partita.kernels.proof_constants import INFLATE
from partita.kernels.rounding import gamma, unit_roundoff
from partita.problems.network.activation import LeakyReLU
from partita.problems.network.affine import Dense, Diagonal, Identity
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.network.matrix import matrix
from partita.relaxations.linear.alpha import Alpha, decisions
from partita.relaxations.linear.backward import backward
from partita.relaxations.linear.neuron_rows import Facets
from partita.relaxations.linear.root import root
from partita.relaxations.linear.rounding import Rounding
from partita.relaxations.linear.row_multipliers import NeuronRows
from partita.relaxations.types import Pieces, Rows

KINDS = ("mlp", "leaky", "residual", "conv", "maxpool", "sigmoid", "tanh")
DTYPES = (torch.float32, torch.float64)


def made(kind: str, dtype: torch.dtype, inputs: int = 4):
    """A network, its backward bounds on a box that is not symmetric, the box."""
    graph = random_graph(3, kind, inputs=inputs, width=8, depth=3)
    lower, upper = -torch.ones(inputs).double(), torch.linspace(0.5, 2, inputs).double()
    linear, whole = root(graph.to(dtype), lower, upper)
    return graph, linear, whole


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_the_formulas(kind, dtype):
    """From the sizes of a node's inputs, with nothing but gamma and absolute values."""
    graph, _, whole = made(kind, dtype)
    largest = torch.maximum(whole.lower.abs(), whole.upper.abs())[0]
    starts = {i: layer.span for i, layer in graph.layer_at.items()}
    pre = {i: [(whole.pre_lower[0, s], whole.pre_upper[0, s])] for i, s in starts.items()}
    for known in ({}, pre):
        judge_vectors(graph, Rounding(graph.to(dtype)).local(largest, known), dtype)


def judge_vectors(graph: Graph, scales, dtype: torch.dtype) -> None:
    u = unit_roundoff(dtype)
    close = lambda a, b: torch.testing.assert_close(a.double().reshape(-1), b, rtol=1e-4, atol=0)  # noqa: E731
    readers = [sum(i in node.inputs for node in graph.nodes) for i in range(len(graph.nodes))]
    size = [s.double().reshape(-1) for s in scales.size]
    close(scales.sum[0], 2 * INFLATE * u * size[0])
    assert scales.step == 4 * u
    for i, node in enumerate(graph.nodes[1:], 1):
        close(scales.sum[i], 2 * INFLATE * u * size[i])
        if isinstance(node, Affine):
            wanted = gamma(depth(node.size) + 3, dtype) * node.bias.abs()
            reach = node.bias.abs()
            for operator, j in zip(node.operators, node.inputs, strict=True):
                term = matrix(operator).abs().double() @ size[j]
                wanted, reach = wanted + gamma(operator.terms + 3, dtype) * term, reach + term
            wanted = INFLATE * wanted
            above = [p for p in graph.layer_at if graph.nodes[p].inputs == (i,)]
            if readers[i] == 1 and above and isinstance(graph.nodes[above[0]].function, LeakyReLU):
                # The size a ReLU's vector is made of is that of its pre-activation.
                wanted = wanted + INFLATE * gamma(depth(node.size) + 4, dtype) * size[i]
                assert scales.activation[above[0]] is None
            close(scales.affine[i], wanted)
            assert (size[i] <= INFLATE * reach * (1 + 1e-6)).all()
        elif scales.activation[i] is not None:
            z, own = size[node.inputs[0]], size[i]
            wanted = z if isinstance(node.function, LeakyReLU) else own + 2 * z
            wanted = INFLATE * gamma(depth(node.size) + 4, dtype) * wanted
            close(scales.activation[i], wanted)


def slow_slack(graph: Graph, scales, lines, start: int, rows, constant, added) -> torch.Tensor:
    """The sum of all that a pass is charged, one row and one node after the other."""
    found = []
    for r in range(rows.shape[1]):
        pending, slack, total = {start: rows[0, r]}, 0.0, constant[0, r]
        size = total.abs()
        for i in range(start, -1, -1):
            own, more = pending.pop(i, None), added.get(i)
            more = None if more is None else more[0, r]
            if own is not None and more is not None:
                slack = slack + ((own.abs() + more.abs()) * scales.sum[i]).sum()
                own = own + more
            own = more if own is None else own
            if own is None or i == 0:
                continue
            node = graph.nodes[i]
            if isinstance(node, Affine):
                slack, gain = slack + (own.abs() * scales.affine[i]).sum(), (own * node.bias).sum()
                sent = [(j, own @ matrix(a)) for a, j in zip(node.operators, node.inputs, strict=True)]
            else:
                low, low_bias, high, high_bias = (t[0] for t in lines[i])
                below = torch.where(own > 0, own * low, own * high)
                gain = torch.where(own > 0, own * low_bias, own * high_bias).sum()
                relu = isinstance(node.function, LeakyReLU)
                if scales.activation[i] is not None:
                    slack = slack + ((below if relu else own).abs() * scales.activation[i]).sum()
                sent = [(node.inputs[0], below)]
            for j, value in sent:
                if j in pending:
                    pending[j] = pending[j] + value
                    slack = slack + (pending[j].abs() * scales.sum[j]).sum()
                else:
                    pending[j] = value
            total = total + gain
            size = size + total.abs()
        found.append(1.02 * slack + scales.step * size)
    return torch.stack(found)


def twice_read() -> Graph:
    """A ReLU whose pre-activation is read beside it, and an affine node that is read twice."""
    random = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)  # noqa: E731
    nodes = (
        Input(4),
        Affine((0,), (Dense(draw(5, 4)),), draw(5)),
        Activation((1,), LeakyReLU(0.0), 5),
        Affine((1, 2, 1), (Diagonal(draw(5)), Dense(draw(5, 5)), Identity(5)), draw(5)),
        Activation((3,), LeakyReLU(0.25), 5),
        Affine((4, 0, 2), (Dense(draw(3, 5)), Dense(draw(3, 4)), Dense(draw(3, 5))), draw(3)),
    )
    return Graph(nodes, (4,), (3,))


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "twice"])
def test_slack_is_the_sum_of_its_terms(kind, more):
    if kind == "twice":
        graph, ends = twice_read(), (-torch.ones(4).double(), torch.linspace(0.5, 2, 4).double())
        linear, whole = root(graph, *ends)
    else:
        graph, linear, whole = made(kind, torch.float64)
    random = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)  # noqa: E731
    lines, out = linear.all_lines(whole), graph.output
    rows, constant = draw(1, 3, graph.output_size), 10 * draw(1, 3)
    added = {i: draw(1, 3, graph.nodes[i].size) for i in range(out)} if more else {}
    form = backward(graph, linear.scales, lines, out, rows, constant, added=added)
    wanted = slow_slack(graph, linear.scales, lines, out, rows, constant, added)
    torch.testing.assert_close(form.slack[0], wanted, rtol=1e-9, atol=0)
    on_input = 100 * draw(1, 3, 4)
    plain = linear.formed(whole, Rows(rows, constant), refresh=False)[0]
    result = linear.formed(whole, Rows(rows, constant, on_input), refresh=False)[0]
    extra = (result.forms.abs() * linear.scales.sum[0]).sum(-1)
    torch.testing.assert_close(result.slack - plain.slack, extra, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_decisions_are_charged_beside_the_pass(dtype):
    """`scales.step` (P + 2) multiplier |point|, on top of what the pass itself is charged."""
    graph, linear, whole = made("mlp", dtype)
    alpha, count = Alpha(linear, 0), 3
    neuron = torch.tensor([[0, 9, -1]])
    pieces = Pieces(
        *(whole.lower, whole.upper, whole.normals, whole.offsets, neuron),
        *(torch.tensor([v]).to(dtype) for v in ([1.0, -1.0, 1.0], [100.0, -300.0, 7.0])),
        *(whole.pre_lower, whole.pre_upper),
    )
    rows = Rows(torch.randn(1, 2, graph.output_size, dtype=dtype), torch.zeros(1, 2, dtype=dtype))
    start = alpha.start(pieces, 2)
    start = replace(start, split=torch.tensor([[[0.5, 2.0, 3.0], [0.0, 1.0, 5.0]]], dtype=dtype))
    result = replace(alpha, steps=0).bound(pieces, rows, start).result
    added, constants = decisions(graph, pieces, start.split)
    at = torch.cat([added[graph.nodes[i].inputs[0]] for i in graph.layer_at], 2)
    wanted = torch.zeros_like(at)  # the entry that is absent says nothing, whatever stands beside it
    wanted[0, :, 0], wanted[0, :, 9] = -start.split[0, :, 0], start.split[0, :, 1]
    assert torch.equal(at, wanted)
    assert torch.equal(constants, start.split[..., 0] * 100 + start.split[..., 1] * 300)
    lines = alpha._lines(pieces, linear.all_lines(pieces), start.choice)
    arguments = (graph.to(dtype), linear.scales, lines, graph.output, rows.coefficients, rows.constants + constants)
    form = backward(*arguments, added=added)
    charged = linear.scales.step * (count + 2) * (start.split * pieces.point.abs()[:, None]).sum(-1)
    torch.testing.assert_close(result.slack, form.slack + charged, rtol=1e-5, atol=0)
    assert (charged > 0.01 * form.slack).all()


def test_the_sizes_of_all_nodes_are_outward():
    """Interval arithmetic on sizes alone, without bounds."""
    for kind in KINDS:
        graph, linear, whole = made(kind, torch.float64)
        scales = Rounding(graph).local(torch.maximum(whole.lower.abs(), whole.upper.abs())[0], {})
        size = [scales.size[0]]
        for node in graph.nodes[1:]:
            if isinstance(node, Affine):
                total = node.bias.abs()
                for operator, j in zip(node.operators, node.inputs, strict=True):
                    total = total + matrix(operator).abs() @ size[j]
                size.append(total)
            else:
                low, high = node.function.interval(-size[node.inputs[0]], size[node.inputs[0]])
                size.append(torch.maximum(low.abs(), high.abs()))
        for found, least in zip(scales.size, size, strict=True):
            assert (found >= least * (1 - 1e-12)).all()
        assert all(
            (small <= large * (1 + 1e-12)).all() for small, large in zip(linear.scales.size, scales.size, strict=True)
        )


@pytest.mark.parametrize("kind", ["mlp", "leaky"])
def test_chosen_slopes_are_those_of_undecided_neurons(kind):
    """A neuron that is stable on a piece is its own line, whatever slope is stored for it."""
    graph, linear, whole = made(kind, torch.float64)
    low, high = whole.pre_lower.clone(), whole.pre_upper.clone()
    low[0, ::3], high[0, 1::3] = 0.0, 0.0
    pieces = whole.with_pre(low, torch.maximum(low, high))
    alpha = Alpha(linear, 0)
    start = alpha.start(pieces, 2)
    lines = alpha._lines(pieces, linear.all_lines(pieces), torch.full_like(start.choice, 0.4))
    for i, layer in graph.layer_at.items():
        own, a = layer.span, layer.leak
        below, above = pieces.pre_lower[0, own], pieces.pre_upper[0, own]
        wanted = torch.where(below >= 0, 1.0, torch.where(above <= 0, a, a + 0.4 * (1 - a))).double()
        torch.testing.assert_close(lines[i].lower_slope[0], wanted.expand(2, -1), rtol=1e-6, atol=0)


def test_rows_are_charged_beside_the_pass():
    """What the products of multipliers and rows lose, and what adding them to decisions at one node does."""
    graph, linear, whole = made("mlp", torch.float64)
    random = torch.Generator().manual_seed(2)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)  # noqa: E731
    position = graph.layers[1].position
    size = graph.nodes[position].size
    index = torch.arange(size).repeat(5, 1)
    facets = Facets(position, index, draw(5, size), draw(5, size), 1e3 * draw(5), draw(5, size))
    neuron_rows = NeuronRows.of(graph, linear.scales, [facets])
    alpha = Alpha(linear, 0, neuron_rows=neuron_rows)
    first = graph.layer_at[position].span.start
    sides = torch.tensor([[1.0]]).double(), torch.tensor([[-2.0]]).double()
    pieces = replace(whole, neuron=torch.tensor([[first + 1]]), sign=sides[0], point=sides[1])
    rows = Rows(draw(1, 2, graph.output_size), draw(1, 2))
    start = alpha.start(pieces, 2)
    start = replace(start, split=10 * draw(1, 2, 1).abs(), neuron_rows=1e4 * draw(1, 2, 5).abs())
    result = replace(alpha, steps=0).bound(pieces, rows, start).result
    added, constants = decisions(graph, pieces, start.split)
    tied, shift, lost = neuron_rows.added(start.neuron_rows)
    charged = linear.scales.step * 3 * (start.split * pieces.point.abs()[:, None]).sum(-1) + lost
    for i, value in tied.items():
        if i in added:
            charged = charged + ((added[i].abs() + value.abs()) * linear.scales.sum[i]).sum(-1)
        added[i] = added[i] + value if i in added else value
    lines = alpha._lines(pieces, linear.all_lines(pieces), start.choice)
    arguments = (graph, linear.scales, lines, graph.output, rows.coefficients, rows.constants + constants + shift)
    form = backward(*arguments, added=added)
    torch.testing.assert_close(result.slack, form.slack + charged, rtol=1e-9, atol=0)
    torch.testing.assert_close(result.forms, form.linear, rtol=1e-9, atol=1e-9)
    assert (lost > 0.05 * form.slack).all()
