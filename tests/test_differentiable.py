"""Gradients of relaxed minima: beside finite differences, through each backend; and that the values are sound."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from conformance import Conformance
from networks import random_box, random_graph, sample

from partita.problems.errors import BadInput
from partita.problems.network.activation import LeakyReLU, Lines, ReLU
from partita.problems.properties.property import Polytope
from partita.relaxations.linear.neuron_rows import Facets
from partita.relaxations.lp import highs
from partita.relaxations.lp.encode import encode
from partita.relaxations.lp.gradient import Tensors, optima
from partita.relaxations.studies.differentiable import Differentiable, network, node_boxes
from partita.relaxations.types import Pieces, Rows

SIZES = (3, 5, 4, 2)


def drawn(seed: int, sizes=SIZES) -> dict[str, torch.Tensor]:
    """Weights, biases, a box and a row, all float64 leaves."""
    random = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)  # noqa: E731
    parts = {}
    for k, (n, m) in enumerate(pairwise(sizes)):
        parts[f"w{k}"], parts[f"b{k}"] = normal(m, n) / n**0.5, 0.3 * normal(m)
    centre = normal(sizes[0])
    parts["lower"], parts["upper"] = centre - 0.5, centre + 0.5
    parts["row"] = normal(sizes[-1])
    return parts


def minimum(parts: dict[str, torch.Tensor], **options) -> torch.Tensor:
    count = sum(name.startswith("w") for name in parts)
    graph = network(*([parts[f"{kind}{k}"] for k in range(count)] for kind in "wb"), options.pop("function", None))
    return Differentiable(graph, **options).minimum(parts["lower"], parts["upper"], parts["row"])


def slopes_by_differences(value, tensor: torch.Tensor) -> torch.Tensor:
    """Central differences; NaN where two step sizes disagree, as they do at a kink."""
    found = torch.empty(tensor.numel(), dtype=torch.float64)
    flat = tensor.detach().reshape(-1)
    for i in range(len(flat)):
        both = []
        for step in (1e-4, 4e-5):
            ends = []
            for sign in (1, -1):
                moved = flat.clone()
                moved[i] += sign * step
                ends.append(value(moved.view_as(tensor)).item())
            both.append((ends[0] - ends[1]) / (2 * step))
        found[i] = both[0] if abs(both[0] - both[1]) < 3e-5 * (1 + abs(both[0])) else torch.nan
    return found.view_as(tensor)


def agree(value, parts: dict[str, torch.Tensor], names, tolerance: float = 1e-4) -> None:
    """The tape's gradients are the slopes by differences, of which nearly all must exist."""
    leaves = {name: parts[name].clone().requires_grad_() for name in names}
    value({**parts, **leaves}).backward()
    usable = total = 0
    for name, leaf in leaves.items():
        slopes = slopes_by_differences(lambda moved, name=name: value({**parts, name: moved}), leaf)
        there = ~slopes.isnan()
        usable, total = usable + int(there.sum()), total + slopes.numel()
        torch.testing.assert_close(leaf.grad[there], slopes[there], atol=tolerance, rtol=tolerance, msg=name)
    assert usable >= 0.9 * total


@pytest.mark.parametrize("bounds", ("interval", "crown"))
@pytest.mark.parametrize("seed", range(4))
def test_gradients_of_triangle_bounds_are_the_slopes(seed, bounds):
    parts = drawn(seed)
    agree(lambda p: minimum(p, bounds=bounds), parts, tuple(parts))
    leaves = {name: parts[name].clone().requires_grad_() for name in parts}
    minimum(leaves, bounds=bounds).backward()
    assert sum(float(leaf.grad.abs().sum()) > 0 for leaf in leaves.values()) >= 6, "nothing was at stake"


def test_gradients_of_leaky_networks():
    parts = drawn(5)
    agree(lambda p: minimum(p, function=LeakyReLU(0.125)), parts, ("w0", "b1", "w2", "lower", "upper"))


@pytest.mark.parametrize("seed", range(2))
def test_gradients_through_cvxpylayers_are_the_same(seed):
    pytest.importorskip("cvxpylayers")
    parts = drawn(seed + 10, (2, 3, 2))
    gradients = []
    for through in ("dual", "layers"):
        leaves = {name: parts[name].clone().requires_grad_() for name in parts}
        value = minimum(leaves, through=through)
        value.backward()
        gradients.append([value.detach(), *(leaf.grad for leaf in leaves.values())])
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("backend", ("gurobi", "layers", "first-order"))
def test_every_backend_that_leaves_multipliers_gives_the_gradient(backend):
    if backend != "first-order":
        pytest.importorskip({"gurobi": "gurobipy", "layers": "cvxpylayers"}[backend])
    parts = drawn(3)
    found = []
    for name in ("highs", backend):
        leaves = {key: parts[key].clone().requires_grad_() for key in parts}
        minimum(leaves, backend=name).backward()
        found.append([leaf.grad for leaf in leaves.values()])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-2, rtol=2e-2)


def test_gradients_reach_slopes_and_offsets_of_lines():
    parts = drawn(1)
    with torch.no_grad():
        graph = network(*([parts[f"{kind}{k}"] for k in range(3)] for kind in "wb"))
        boxes = node_boxes(graph, parts["lower"], parts["upper"])
    line = ReLU().lines(*boxes[3], (torch.full((4,), 0.4, dtype=torch.float64),) * 2)
    apart = (0.0, -0.05, 0.0, 0.05)  # a decided neuron's lines are one line: moved, they would leave no point between
    below = {f"l{k}": t + d for k, (t, d) in enumerate(zip(line, apart, strict=True))}

    def value(p):
        lines = Lines(*(p[f"l{k}"] for k in range(4)))
        return minimum({name: p[name] for name in parts}, lines={4: [lines]}, bounds=[boxes[1], boxes[3]])

    agree(value, {**parts, **below}, (*below, "w1", "row"))


def cutting(parts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One row over the second activation layer that cuts off the relaxed minimiser, and holds at 5,000 samples."""
    with torch.no_grad():
        graph = network(*([parts[f"{kind}{k}"] for k in range(3)] for kind in "wb"))
        polytope = Polytope(parts["lower"].numpy(), parts["upper"].numpy())
        boxes = node_boxes(graph, parts["lower"], parts["upper"])
        layer = torch.cat(graph.values(torch.as_tensor(sample(polytope, 5000)))[2:5], -1)  # source, pre, post
        at = encode(graph, polytope, boxes=boxes).minimising(graph.output, parts["row"].numpy())
        optimum = torch.as_tensor(highs.solve(at).x)[8 : 8 + layer.shape[1]]
        nearest = layer[(layer - optimum).norm(dim=1).argmin()]
        for _ in range(300):  # Frank and Wolfe: towards the point of the samples' hull that is nearest to the optimum
            step = layer[(layer @ (optimum - nearest)).argmax()] - nearest
            nearest = nearest + step * ((optimum - nearest) @ step / (step @ step)).clamp(0, 1)
        normal = (optimum - nearest) / (optimum - nearest).norm()
        source, pre, post = normal.split((5, 4, 4))
        offset = ((layer @ normal).amax() + optimum @ normal)[None] / 2  # half-way: no kink is near
        return {"source": source, "pre": pre, "post": post, "offset": offset}


@pytest.mark.parametrize("seed", (0, 5))
def test_gradients_reach_rows_over_several_neurons(seed):
    parts = drawn(seed)
    rows = cutting(parts)

    def value(p):
        made = Facets(4, torch.arange(4)[None], p["post"][None], p["pre"][None], p["offset"], *source(p["source"]))
        return minimum({name: p[name] for name in parts}, facets=[made])

    source = lambda s: (s[None],)  # noqa: E731
    whole = value({**parts, **rows})
    source = lambda s: (s.flip(0)[None], torch.arange(5).flip(0)[None])  # noqa: E731
    assert value({**parts, **rows}) == pytest.approx(whole.item()), "the same row, its source by an index"
    assert whole > minimum(parts) + 1e-3, "the row must cut"
    agree(value, {**parts, **rows}, (*rows, "w0", "lower"))


@pytest.mark.parametrize("kind", ("mlp", "leaky", "residual", "conv", "maxpool"))
def test_the_value_is_the_triangle_bound_and_below_the_network(kind):
    graph, polytope = random_graph(4, kind, inputs=4, width=6), random_box(4, 4, 0.4)
    lower, upper = torch.as_tensor(polytope.lower), torch.as_tensor(polytope.upper)
    rows = torch.tensor([[1.0, -0.7], [0.0, 1.0]], dtype=torch.float64)
    for bounds in ("interval", "crown"):
        relaxation = Differentiable(graph, bounds)
        found = relaxation.minimum(lower, upper, rows, 0.25)
        encoding = encode(graph, polytope, boxes=node_boxes(graph, lower, upper, bounds))
        values = graph(torch.as_tensor(sample(polytope, 2000))) @ rows.mT + 0.25
        for s in range(2):
            truth = highs.solve(encoding.minimising(graph.output, rows[s].numpy(), 0.25)).value
            assert float(found[s]) == pytest.approx(truth, abs=1e-7)
            assert float(found[s]) <= values[:, s].min()
            assert float(relaxation.minimum(lower, upper, rows[s], 0.25)) == pytest.approx(truth)
    crown, interval = (node_boxes(graph, lower, upper, bounds) for bounds in ("crown", "interval"))
    for (a, b), (c, d), value in zip(
        crown, interval, graph.values(torch.as_tensor(sample(polytope, 500))), strict=True
    ):
        assert (c <= a).all() and (b <= d).all() and (a <= value).all() and (value <= b).all()


class TestAsARelaxation(Conformance):
    """The same through the protocol: half-spaces, decided neurons, what is known of the pre-activations."""

    kinds = ("mlp", "leaky")

    def build(self, linear, graph):
        return Differentiable(graph)


def test_gradients_reach_every_part_of_a_piece_and_of_its_rows():
    """Half-spaces, decided neurons' points and rows on inputs too; the slow truth is differences."""
    parts = drawn(4)
    graph = network(*([parts[f"{kind}{k}"] for k in range(3)] for kind in "wb"))
    middle = (parts["lower"] + parts["upper"]) / 2
    normal = torch.ones(3, dtype=torch.float64)
    pre = graph.values(middle)[1]
    given = {
        **{name: parts[name] for name in ("lower", "upper")},
        "normal": normal,
        "offset": (normal @ middle)[None] + 0.05,
        "point": pre[:1].clone(),
        "row": parts["row"],
        "on_input": torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64),
    }

    def value(p):
        piece = Pieces.boxes(p["lower"][None], p["upper"][None], graph.neurons)
        piece = replace(piece, normals=p["normal"][None, None], offsets=p["offset"][None])
        piece = replace(piece, neuron=torch.zeros(1, 1, dtype=torch.int64), sign=torch.ones(1, 1).double())
        piece = replace(piece, point=p["point"][None])
        rows = Rows(p["row"][None, None], torch.zeros(1, 1).double(), p["on_input"][None, None])
        return Differentiable(graph).bound(piece, rows).result.lower[0, 0]

    agree(value, given, tuple(given))


def test_the_envelope_on_a_bare_program():
    """By hand: min -x - 2 y over x + t y <= s in [0, u]^2 is -(s - t u) - 2 u where 0 <= s - t u <= u and t < 2."""
    t, s, u = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.5, 1.2, 1.0))
    one, zero = torch.ones((), dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    program = Tensors(
        torch.stack([one, t]), torch.tensor([0, 0]), torch.tensor([0, 1]), torch.full((1,), -torch.inf).double(),
        s[None], zero, torch.stack([u, u]),
    )  # fmt: skip
    value = optima(program, torch.tensor([[-1.0, -2.0]], dtype=torch.float64))[0]
    value.backward()
    assert value.item() == pytest.approx(-2.7) and program.model(zero).matrix.shape == (1, 2)
    assert [v.grad.item() for v in (t, s, u)] == pytest.approx([1.0, -1.0, 0.5 - 2.0])


def test_a_step_along_the_gradient_raises_the_bound():
    parts = {name: t.clone().requires_grad_() for name, t in drawn(6).items()}
    weights = [t for name, t in parts.items() if name[0] in "wb"]
    first = minimum(parts)
    for _ in range(5):
        minimum(parts).backward()
        with torch.no_grad():
            for t in weights:
                t += 0.01 * t.grad
                t.grad = None
    assert minimum(parts) > first + 1e-2


def test_bad_input_is_refused_in_a_sentence():
    parts = drawn(0)
    smooth, box = random_graph(0, "sigmoid"), random_box(0, 3)
    ends = torch.as_tensor(box.lower), torch.as_tensor(box.upper)
    apart = Facets(2, torch.tensor([[0]]), torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([-9.0]))
    for call, said in (
        (lambda: minimum({**parts, "lower": parts["upper"] + 1}), "input box is empty"),
        (lambda: minimum({**parts, "w0": torch.zeros(5, 2)}), "of 2 inputs"),
        (lambda: minimum({**parts, "w1": torch.zeros(4, 6)}), "layer 1 has a weight of shape"),
        (lambda: minimum({**parts, "w0": torch.full((5, 3), torch.nan)}), "NaN"),
        (lambda: minimum(parts, bounds="guess"), "'interval', 'crown'"),
        (lambda: minimum(parts, through="magic"), "'dual' or through 'layers'"),
        (lambda: minimum(parts, facets=[apart]), "no point satisfies"),
        (lambda: Differentiable(smooth).minimum(*ends, torch.ones(2)), "is Sigmoid; only piecewise-linear"),
    ):
        with pytest.raises(BadInput, match=said):
            call()
