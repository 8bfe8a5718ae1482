"""Functions whose slopes exceed 1: their lines, and what rounding costs where coefficients grow by a slope."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import pytest
import torch
from activation_conformance import ActivationConformance
from exponential import Exp

from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.relaxations.linear.backward import backward
from partita.relaxations.linear.root import root
from partita.relaxations.linear.rounding import Rounding
from partita.relaxations.types import Pieces, Rows

DTYPES = (torch.float32, torch.float64)


class TestExp(ActivationConformance):
    function = Exp()
    exact = staticmethod(mpmath.exp)


def network(*layers: tuple[torch.Tensor, torch.Tensor]) -> Graph:
    """Affine maps with exp between them; float32 numbers in float64."""
    nodes: list = [Input(layers[0][0].shape[1])]
    for k, (weight, bias) in enumerate(layers):
        nodes.append(Affine((len(nodes) - 1,), (Dense(weight.double()),), bias.double()))
        if k < len(layers) - 1:
            nodes.append(Activation((len(nodes) - 1,), Exp(), len(bias)))
    return Graph(tuple(nodes), (nodes[0].size,), (len(layers[-1][1]),))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_backward_bounds_charge_steep_slopes(dtype):
    """Two neurons with z near 20, whose lines s z + b have biases that cancel: what rounding costs is s z of each,
    which vectors for slopes of at most 1 would take for z. In exact arithmetic, at the point itself."""
    random = torch.Generator().manual_seed(0)
    unit = torch.eye(2, dtype=torch.float64)
    met = 0.0
    for _ in range(200):
        x = (18 + 4 * torch.rand(1, 2, generator=random)).to(dtype)
        lines = Exp().lines(x, x)
        first = 1 + float(torch.rand(1, generator=random))
        last = torch.tensor([[first, -first * lines.lower_bias[0, 0] / lines.upper_bias[0, 1]]], dtype=dtype)
        nodes = (Input(2), Activation((0,), Exp(), 2), Affine((1,), (Dense(unit),), torch.zeros(2).double()))
        graph = Graph(nodes, (2,), (2,)).to(dtype)
        scales = Rounding(graph).local(x[0].abs(), {1: [(x[0], x[0])]})
        form = backward(graph, scales, {1: lines}, 1, last[None], torch.zeros(1, 1, dtype=dtype))
        (a, b, c, d), point, weight = (exact(t) for t in lines), exact(x), exact(last)
        true = weight[0] * (a[0] * point[0] + b[0]) + weight[1] * (c[1] * point[1] + d[1])
        found = sum(a * b for a, b in zip(exact(form.linear), point, strict=True)) + exact(form.constant)[0]
        assert found - exact(form.slack)[0] <= true
        met = max(met, float(abs(found - true) / exact(form.slack)[0]))
    assert met > 0.05  # what is charged is not far from what is lost


def exact(t: torch.Tensor) -> list[Fraction]:
    return [Fraction(v) for v in t.reshape(-1).tolist()]


def test_bounds_of_steep_networks_hold_at_samples():
    """Two layers of exp over boxes and their halves, in float32."""
    random = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=random)  # noqa: E731
    for _ in range(10):
        graph = network((draw(4, 2), draw(4)), (0.3 * draw(3, 4), draw(3)), (draw(2, 3), draw(2)))
        lower = draw(2).double()
        upper = lower + 0.5
        linear, whole = root(graph.to(torch.float32), lower, upper)
        middle = ((lower + upper) / 2).float()
        halves = Pieces.boxes(torch.stack([lower.float(), middle]), torch.stack([middle, upper.float()]), graph.neurons)
        x = lower + (upper - lower) * torch.rand(500, 2, generator=random, dtype=torch.float64)
        for pieces in (whole, halves):
            rows = Rows(torch.eye(2).expand(len(pieces), -1, -1), torch.zeros(len(pieces), 2))
            least = linear.bound(pieces, rows)[0].lower.double()
            for b in range(len(pieces)):
                here = ((x >= pieces.lower[b]) & (x <= pieces.upper[b])).all(1)
                assert here.any() and (graph(x[here]) >= least[b]).all()
