"""The lattice of chord relaxations: some ReLUs replaced by their chords, and how far the outputs move.

A neuron with pre-activation in [l, u], l < 0 < u, may be replaced by the chord through its graph's two ends,

    chord(s) = q (s - l),  q = u / (u - l),  0 <= chord(s) - ReLU(s) <= g = u |l| / (u - l) = chord(0)  on [l, u].

lambda in {0,1}^N says which neurons are: at the bottom of this lattice (all 0) stands the network f, at its top (all 1)
an affine map. Stable neurons are their own chords. The divergence of f_lambda at x is max_r |f_lambda(x) - f(x)|_r, and
E(lambda) its supremum over the input box. Source: Papamichail, Varsos, Flouris, Marques-Silva, "The Cost of
Relaxation: Evaluating the Error in Convex Neural Network Verification", 2026. Here:

- `outputs`, `divergence`: f_lambda at many points and many lambda at once; `network`, `difference`: f_lambda, and
  f_lambda - f, as graphs, for every relaxation and for exact verification;
- `greatest_divergence`: a lower bound of E, the largest value that ascent meets;
- upper bounds of E: `chord_error`.

Two pairs of bounds belong to a neuron. [l, u], between which its chord is drawn, encloses the pre-activation of f; any
sound bounds will do, and better ones draw better chords. The *reach* encloses it for all f_lambda at once: from
intervals, whose image of a neuron holds the chord's values as well as the function's. Where [l, u] comes from intervals
too, they are the same. (The bounds of a single-neuron relaxation would hold for all f_lambda too, for its relaxed set
holds the chord's graph along with the function's; those of multi-neuron relaxations would not.)

Leaky ReLUs have chords likewise. Other activations and products are refused.

Soundness: the chords are lines as stored, in float64, proved to lie above the function on [l, u] with a gap of at most
the stored g; `reach` is outward rounded. `outputs` is plain float64: what it says of a divergence is off by rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...kernels.rounding import unit_roundoff
from ...problems.errors import BadInput
from ...problems.network.activation import AbstractActivation
from ...problems.network.affine import Diagonal, Identity
from ...problems.network.graph import Affine, Graph, Node
from ..linear.interval import affine_interval
from ..linear.rounding import Rounding

Intervals = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Chords:
    """The chord of every neuron over one input box; N neurons, layer after layer as in `Graph.offsets`, float64.

    For pre_lower <= s <= pre_upper: 0 <= slope s + bias - function(s) <= gap, and gap is 0 where a neuron is stable.
    """

    graph: Graph
    lower: Tensor  # (D,) the input box
    upper: Tensor  # (D,)
    pre_lower: Tensor  # (N,) bounds of the network's own pre-activations
    pre_upper: Tensor  # (N,)
    slope: Tensor  # (N,)
    bias: Tensor  # (N,)
    gap: Tensor  # (N,)
    reach_lower: Tensor  # (N,) bounds of the pre-activations of every element of the lattice
    reach_upper: Tensor  # (N,)
    post_width: Tensor  # (N,) how far two elements' values of a neuron can be apart
    output_lower: Tensor  # (n_out,) bounds of the outputs of every element
    output_upper: Tensor  # (n_out,)

    @property
    def unstable(self) -> Tensor:  # (N,) bool
        """The neurons whose chord is not the function on [pre_lower, pre_upper]."""
        return self.gap > 0

    @property
    def top(self) -> Tensor:  # (N,) bool
        """lambda of the all-chord network."""
        return torch.ones_like(self.gap, dtype=torch.bool)

    @property
    def bottom(self) -> Tensor:  # (N,) bool
        """lambda of the network itself."""
        return torch.zeros_like(self.gap, dtype=torch.bool)

    def part(self, position: int) -> slice:
        """Where an activation node's neurons stand among all."""
        return self.graph.layer_at[position].span


def chords(
    graph: Graph,
    lower: Tensor,  # (D,)
    upper: Tensor,  # (D,)
    pre: Intervals | None = None,  # (N,), (N,)
) -> Chords:
    """The chords over the box, drawn between interval bounds, or between `pre` where these are better.

    `pre` must enclose the network's pre-activations on the box. Raises `BadInput` for an empty box, a network with a
    product or with an activation other than (leaky) ReLU. Soundness: outward rounded.
    """
    _check(graph, lower, upper)
    graph, size = graph.to(torch.float64), graph.input_size
    rounding, box = Rounding(graph), (lower.double().reshape(1, size), upper.double().reshape(1, size))
    reach: list[Intervals] = [box]
    made: list[tuple[Tensor, ...]] = []
    for position, node in enumerate(graph.nodes[1:], 1):
        arguments = [reach[i] for i in node.inputs]
        if isinstance(node, Affine):
            reach.append(affine_interval(rounding, position, arguments))
            continue
        low, high = arguments[0]
        layer = graph.layer_at[position]
        given = (low, high) if pre is None else (pre[0][layer.span].double(), pre[1][layer.span].double())
        inner_low, inner_high = torch.maximum(low, given[0]), torch.minimum(high, given[1])
        inner_high = torch.maximum(inner_low, inner_high)
        function = layer.function
        lines = function.lines(inner_low, inner_high, function.default_choice(inner_low, inner_high))
        reach.append(_image(function, low, high, lines.upper_slope, lines.upper_bias))
        width = (reach[-1][1] - reach[-1][0]) * (1 + 4 * unit_roundoff(torch.float64))
        gap = lines.upper_bias  # the line minus the function is concave with its peak at the kink, where f is 0
        made.append((inner_low, inner_high, lines.upper_slope, lines.upper_bias, gap, low, high, width))
    columns = [torch.cat(c, 1)[0] for c in zip(*made, strict=True)] if made else [box[0].new_zeros(0)] * 8
    tensors = (box[0][0], box[1][0], *columns, reach[-1][0][0], reach[-1][1][0])
    return Chords(graph, *tensors)


def _image(function: AbstractActivation, low: Tensor, high: Tensor, slope: Tensor, bias: Tensor) -> Intervals:
    """Where the values of both the function and the line are, over [low, high]; both are increasing."""
    least, most = function.interval(low, high)
    eps, tiny = 4 * torch.finfo(low.dtype).eps, torch.finfo(low.dtype).tiny
    under, over = slope * low, slope * high
    least = torch.minimum(least, under + bias - eps * (under.abs() + bias) - tiny)
    return least, torch.maximum(most, over + bias + eps * (over.abs() + bias) + tiny)


def outputs(chords: Chords, x: Tensor, which: Tensor) -> Tensor:  # (*batch, D), (*batch, N) bool -> (*batch, n_out)
    """f_lambda(x) with lambda = `which`; batches broadcast. Plain float64."""
    graph = chords.graph
    values: list[Tensor] = [x]
    for position, node in enumerate(graph.nodes[1:], 1):
        arguments = [values[i] for i in node.inputs]
        if isinstance(node, Affine):
            values.append(node.apply(arguments))
        else:
            layer, s = graph.layer_at[position], arguments[0]
            line = chords.slope[layer.span] * s + chords.bias[layer.span]
            values.append(torch.where(which[..., layer.span], line, layer.function.value(s)))
    return values[-1]


def divergence(chords: Chords, x: Tensor, which: Tensor) -> Tensor:  # (*batch, D), (*batch, N) -> (*batch,)
    """max_r |f_lambda(x) - f(x)|_r with lambda = `which`; batches broadcast. Plain float64."""
    return (outputs(chords, x, which) - chords.graph(x)).abs().amax(-1)


def greatest_divergence(
    chords: Chords,
    which: Tensor,  # (*batch, N) bool
    starts: int = 16,
    steps: int = 40,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:  # (*batch,), (*batch, D)
    """The largest divergence met, and where: a lower bound of E up to the rounding of `divergence`.

    Steps along the gradient's signs, shrinking geometrically from half the box to a thousandth, from the centre and
    from `starts` - 1 random points, half of them corners. Never below the centre's own divergence. Heuristic search.
    """
    lower, upper = chords.lower, chords.upper
    batch, size = which.shape[:-1], len(lower)
    random = torch.Generator().manual_seed(seed)
    t = torch.rand(starts, *batch, size, generator=random, dtype=torch.float64)
    t[1 : 1 + starts // 2] = t[1 : 1 + starts // 2].round()
    t[0] = 0.5
    x = lower + t * (upper - lower)
    best = divergence(chords, x, which)
    best_x = x.clone()
    rate, shrink = 0.5, 500 ** (-1 / max(1, steps - 1))
    for _ in range(steps):
        at = x.detach().requires_grad_()
        with torch.enable_grad():
            slope = torch.autograd.grad(divergence(chords, at, which).sum(), at)[0]
        x = torch.clamp(x + rate * (upper - lower) * slope.sign(), lower, upper)
        value = divergence(chords, x, which)
        better = value > best
        best, best_x = torch.where(better, value, best), torch.where(better[..., None], x, best_x)
        rate *= shrink
    value, start = best.max(0)
    return value, best_x.gather(0, start[None, ..., None].expand(1, *batch, size))[0]


def network(chords: Chords, which: Tensor) -> Graph:  # (N,) bool
    """f_lambda as a graph: where a layer has chords and other neurons, an affine node mixes them. Exact."""
    nodes, _ = _relaxed(chords, which, list(chords.graph.nodes[:1]))
    return replace(chords.graph, nodes=tuple(nodes))


def difference(chords: Chords, which: Tensor) -> Graph:  # (N,) bool
    """f_lambda - f as one graph, so that any relaxation bounds E and mixed-integer programming finds it. Exact."""
    nodes, last = _relaxed(chords, which, list(chords.graph.nodes))
    size, output = chords.graph.output_size, chords.graph.output
    minus = torch.full((size,), -1.0, dtype=torch.float64)
    nodes.append(Affine((last, output), (Identity(size), Diagonal(minus)), torch.zeros_like(minus), "difference"))
    return replace(chords.graph, nodes=tuple(nodes))


def _relaxed(chords: Chords, which: Tensor, nodes: list[Node]) -> tuple[list[Node], int]:
    """`nodes` with those of f_lambda appended, and the position of its output."""
    place = {0: 0}
    for position, node in enumerate(chords.graph.nodes[1:], 1):
        inputs = tuple(place[i] for i in node.inputs)
        nodes.append(replace(node, inputs=inputs))
        if position in chords.graph.layer_at and which[part := chords.part(position)].any():
            chosen = which[part].double()
            line, own = Diagonal(chosen * chords.slope[part]), Diagonal(1 - chosen)
            bias, name = chosen * chords.bias[part], f"{node.name} with chords"
            if which[part].all():
                nodes[-1] = Affine(inputs, (line,), bias, name)
            else:
                nodes.append(Affine((inputs[0], len(nodes) - 1), (line, own), bias, name))
        place[position] = len(nodes) - 1
    return nodes, len(nodes) - 1


def _check(graph: Graph, lower: Tensor, upper: Tensor) -> None:
    graph.check_univariate("a family of chords")
    for layer in graph.layers:
        if layer.function.leak is None:
            raise BadInput(
                f"chords replace ReLUs, and node {layer.name!r} is {layer.function.name}; relax another network"
            )
    if lower.numel() != graph.input_size or upper.numel() != graph.input_size:
        raise BadInput(
            f"the input box has {lower.numel()} lower and {upper.numel()} upper bounds for {graph.input_size} inputs"
        )
    if not (torch.isfinite(lower) & torch.isfinite(upper) & (lower <= upper)).all():
        raise BadInput("chords need finite lower bounds of the inputs that do not exceed the upper bounds")
