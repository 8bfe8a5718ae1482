"""The networks of the theory, as float64 graphs with exact weights.

    maximum                max(x_1, .., x_d), one neuron a layer: where single-neuron relaxations lose and M_1 does not
    barrier                f_2 after f_1 such that the hull of f_1's image holds a point that f_2 falls at without bound
    identity_padding       the same function with identity layers inside: what blocks of layers cannot see across
    copied_inputs          the same function with the inputs carried through every layer
    pairwise_differences   f_G(x) = sum over edges of |x_i - x_j|: no order of branching is good
    univariate             a piecewise-linear function of one variable in one of its 2^n encodings
    random_network         weights drawn at random, for everything that should hold of any network

Sources: Mao, Zhang, Vechev, "Expressiveness of Multi-Neuron Convex Relaxations in Neural Network Certification", ICLR
2026 (theorems 3.3, 4.2, 5.1, proposition 5.6); Baader, Mueller, Mao, Vechev, "Expressivity of ReLU-Networks under
Convex Relaxations", ICLR 2024 (encodings); Papamichail and others, "The Cost of Relaxation", 2026 (random networks).

Every graph is in the importer's normal form: an activation reads an affine node, the output is an affine node.
Soundness: exact; where every number that goes in is a dyadic rational, float64 holds every weight as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..errors import BadInput
from .activation import AbstractActivation, ReLU
from .affine import AbstractLinear, Dense
from .graph import Activation, Affine, Graph, Input, Node


class Nodes(list[Node]):
    """Nodes in topological order; each method appends one and returns its position."""

    def affine(self, terms: Sequence[tuple[int, ArrayLike]], bias: ArrayLike, name: str = "") -> int:
        """sum of W_i x_i + bias; `terms` are (node, W_i)."""
        weights = tuple(Dense(torch.from_numpy(np.array(np.atleast_2d(w), dtype=np.float64))) for _, w in terms)
        constant = torch.from_numpy(np.array(np.atleast_1d(bias), dtype=np.float64))
        self.append(Affine(tuple(node for node, _ in terms), weights, constant, name))
        return len(self) - 1

    def activation(self, node: int, function: AbstractActivation, name: str = "") -> int:
        self.append(Activation((node,), function, self[node].size, name))
        return len(self) - 1

    def graph(self) -> Graph:
        return Graph(tuple(self), (self[0].size,), (self[-1].size,))


def maximum(d: int, fused: bool = False) -> Graph:
    """max(x_1, .., x_d) as m_{k+1} = x_{k+1} + ReLU(m_k - x_{k+1}), m_1 = x_1; for [0,1]^d. d - 1 layers of one neuron.

    As it stands every layer reads the last maximum and the input; `fused`, it reads the last neuron and the input,
    which is what is left when affine nodes are folded into one another. On [0,1]^d the triangle's upper bound is U_d
    with U_1 = 1, U_{k+1} = 1 + U_k^2 / (U_k + 1); M_1's is 1. A(f, [0,1]^d) = 2^(d-1). Source: Mao and others 2026.
    """
    _whole("maximum", "inputs", d, 2)
    unit, nodes = np.eye(d), Nodes([Input(d)])
    last = None  # the node that holds the last maximum; fused, the last neuron
    for k in range(1, d):
        if last is None:
            at = nodes.affine([(0, unit[0] - unit[k])], 0, f"z{k}")
        else:
            at = nodes.affine([(last, [1]), (0, (unit[k - 1] if fused else 0) - unit[k])], 0, f"z{k}")
        last = neuron = nodes.activation(at, ReLU(), f"relu{k}")
        if not fused or k == d - 1:
            last = nodes.affine([(neuron, [1]), (0, unit[k])], 0, f"m{k + 1}")
    return nodes.graph()


def barrier(k: float) -> Graph:
    """f_2(f_1(x)) with minimum 0 on [-1,1]^2, of which P_1 proves no more than -k/2 (Mao and others 2026, theorem 3.3).

        u = f_1(x) = ReLU(1.5 x1 + x2 - 0.5, -1.5 x1 + x2 - 0.5),  f_2(u) = -k ReLU(u1 - ReLU(u1 - u2) - 1/2)

    f_1's image is {u >= 0, u1 + u2 <= 1} with the segments from there to (2, 0) and (0, 2), where min(u1, u2) <= 1/2;
    its hull {u >= 0, u1 + u2 <= 2} holds (1, 1), where f_2 is -k/2. Three layers, of 2, 1 and 1 neurons; the third
    reads the first one past the second.
    """
    nodes = Nodes([Input(2)])
    u = nodes.activation(nodes.affine([(0, [[1.5, 1], [-1.5, 1]])], [-0.5, -0.5], "z1"), ReLU(), "u")
    v = nodes.activation(nodes.affine([(u, [1, -1])], 0, "z2"), ReLU(), "v")
    w = nodes.activation(nodes.affine([(u, [1, 0]), (v, [-1])], -0.5, "z3"), ReLU(), "w")
    nodes.affine([(w, [-k])], 0, "y")
    return nodes.graph()


def identity_padding(graph: Graph, layers: int, after: int = 0, shift: float = 1.0) -> Graph:
    """The same function with `layers` identity layers after its activation layer number `after`.

    A layer's outputs y >= 0 are carried as ReLU(y + shift) = y + shift, and everything behind subtracts the shift from
    the last of the new layers: nothing else is left that connects both sides (Mao and others 2026, lemma 4.1 and
    theorem 4.2). With `shift` 0 the layers are ReLU(y) = y, the same function and the same relaxations, but for one
    thing: intervals that are rounded outwards then reach below zero, and the neurons count as undecided. Raises
    `BadInput` where the layer is not of ReLUs or something behind it reads past it.
    """
    _whole("identity_padding", "layers", layers, 0)
    if not 0 <= after < len(graph.layers):
        raise BadInput(f"identity_padding goes after an activation layer 0 to {len(graph.layers) - 1}, not {after}")
    cut, copies = graph.layers[after].position, 2 * layers
    if graph.layers[after].function != ReLU():
        raise BadInput(f"identity_padding goes after a layer of ReLUs, and {graph.nodes[cut].name!r} is another")
    if any(i < cut for node in graph.nodes[cut + 1 :] for i in node.inputs):
        raise BadInput(f"identity_padding after {graph.nodes[cut].name!r} needs that nothing behind reads past it")
    nodes, size = Nodes(graph.nodes[: cut + 1]), graph.nodes[cut].size
    for k in range(layers):
        offset = np.full(size, 0.0 if k else shift)
        at = nodes.affine([(len(nodes) - 1, np.eye(size))], offset, f"pad{k + 1} before")
        nodes.activation(at, ReLU(), f"pad{k + 1}")
    for node in graph.nodes[cut + 1 :]:
        moved = replace(node, inputs=tuple(i + copies for i in node.inputs))
        if layers and isinstance(moved, Affine):
            read = [op.apply(torch.ones(size).double()) for i, op in zip(node.inputs, moved.operators) if i == cut]
            moved = replace(moved, bias=moved.bias - shift * sum(read))
        nodes.append(moved)
    return Graph(tuple(nodes), graph.input_shape, graph.output_shape)


def copied_inputs(graph: Graph, lower: ArrayLike) -> Graph:
    """The same function on {x >= lower}, its inputs carried through every activation layer, and read by nothing.

    Each layer of ReLUs gets D more neurons, c = ReLU(x - lower + 1) in the first and c = ReLU(c) in the others. On
    {x >= lower} they are at least 1, so that they are stably active however bounds are rounded, and add no pattern.
    Written as ReLU(x) - ReLU(-x) instead, copies would double the neurons and add kinks of their own. The output has
    zero weights on them. `lower`: (D,). Source: Mao and others 2026, theorem 5.1, whose reading decides whether this
    helps (see `scripts/studies/copied_inputs.py`).
    """
    lower = np.broadcast_to(np.asarray(lower, np.float64), (graph.input_size,))
    if not np.isfinite(lower).all():
        raise BadInput("copied_inputs needs finite lower bounds of the inputs")
    if any(layer.function != ReLU() for layer in graph.layers):
        raise BadInput("copied_inputs copies inputs by ReLUs, and the network has other activations")
    size, feeds = graph.input_size, {layer.source for layer in graph.layers}
    nodes, source = Nodes(graph.nodes[:1]), 0
    for position, node in enumerate(graph.nodes[1:], 1):
        if isinstance(node, Activation):
            source = nodes.activation(node.inputs[0], node.function, node.name)
            continue
        assert isinstance(node, Affine), "nodes are affine or of ReLUs"
        terms = {i: np.zeros((node.size, nodes[i].size)) for i in node.inputs}
        for i, operator in zip(node.inputs, node.operators, strict=True):
            terms[i][:, : operator.n_in] += _matrix(operator)
        bias = node.bias.numpy()
        if position in feeds:
            terms.setdefault(source, np.zeros((node.size, nodes[source].size)))
            terms = {i: np.pad(w, ((0, size), (0, 0))) for i, w in terms.items()}
            terms[source][-size:, -size:] = np.eye(size)
            bias = np.concatenate([bias, np.zeros(size) if source else 1 - lower])
        nodes.affine(list(terms.items()), bias, node.name)
    return Graph(tuple(nodes), graph.input_shape, graph.output_shape)


def pairwise_differences(n: int, edges: Iterable[tuple[int, int]] | None = None, doubled: bool = False) -> Graph:
    """f_G(x) = sum over edges ij of |x_i - x_j|, for [0,1]^n; without `edges`, of the complete graph. One layer.

    |t| is 2 ReLU(t) - t, one neuron an edge, or `doubled` ReLU(t) + ReLU(-t). The regions of the complete graph are
    the n! orders of the coordinates; its maximum is floor(n/2) ceil(n/2). Proposed by third parties as hard
    instances of proposition 5.6 of Mao and others 2026.
    """
    _whole("pairwise_differences", "inputs", n, 2)
    pairs = list(combinations(range(n), 2)) if edges is None else [(int(i), int(j)) for i, j in edges]
    if not pairs or any(not (0 <= i < n and 0 <= j < n and i != j) for i, j in pairs):
        raise BadInput(f"edges are pairs of two different numbers from 0 to {n - 1}, at least one of them")
    difference = np.stack([np.eye(n)[i] - np.eye(n)[j] for i, j in pairs])
    nodes = Nodes([Input(n)])
    rows = np.concatenate([difference, -difference]) if doubled else difference
    at = nodes.activation(nodes.affine([(0, rows)], np.zeros(len(rows)), "z"), ReLU(), "relu")
    if doubled:
        nodes.affine([(at, np.ones(len(rows)))], 0, "y")
    else:
        nodes.affine([(at, np.full(len(rows), 2.0)), (0, -difference.sum(0))], 0, "y")
    return nodes.graph()


def univariate(
    breakpoints: ArrayLike,  # (n,)
    changes: ArrayLike,  # (n,)
    signs: ArrayLike | None = None,  # (n,)
    slope: float = 0.0,
    value: float = 0.0,
) -> Graph:
    """f(x) = value + slope x + sum_i changes_i ReLU(x - breakpoints_i), written with the signs s_i = +1 or -1 as

        h(x) = b + c x + sum_i changes_i ReLU(s_i (x - breakpoints_i)),

    where ReLU(t) = t + ReLU(-t) says what c and b are: h = f for every choice of signs (without `signs`, all +1).
    `slope` is f's slope left of all breakpoints. One layer of n neurons, and the linear term past it. Source: Baader
    and others 2024.
    """
    x, gamma = np.asarray(breakpoints, np.float64), np.asarray(changes, np.float64)
    s = np.ones(len(x)) if signs is None else np.asarray(signs, np.float64)
    if x.ndim != 1 or not len(x) or gamma.shape != x.shape or s.shape != x.shape:
        raise BadInput("breakpoints, changes and signs are vectors of one length, at least one")
    if not np.isin(s, (-1, 1)).all():
        raise BadInput("signs are +1 or -1")
    nodes = Nodes([Input(1)])
    at = nodes.activation(nodes.affine([(0, s[:, None])], -s * x, "z"), ReLU(), "relu")
    turned = s < 0
    c, b = slope + gamma[turned].sum(), value - (gamma * x)[turned].sum()
    nodes.affine([(at, gamma), (0, [c])], b, "h")
    return nodes.graph()


def univariate_convex(
    breakpoints: ArrayLike, changes: ArrayLike, signs: ArrayLike | None = None, slope: float = 0.0, value: float = 0.0
) -> Graph:
    """`univariate` of a convex function: every change of slope is positive, or `BadInput`."""
    if not (np.asarray(changes) > 0).all():
        raise BadInput("a convex function's changes of slope are positive")
    return univariate(breakpoints, changes, signs, slope, value)


def random_network(
    widths: Sequence[int],
    seed: int = 0,
    weights: Literal["normal", "uniform"] = "normal",
    bias: bool = True,
    function: AbstractActivation | None = None,
) -> Graph:
    """A dense network, `widths` = (inputs, hidden ..., outputs), ReLU unless `function` says otherwise.

    "normal": weights of standard deviation sqrt(2 / n_in), biases 0.3, which keeps values near one through the layers;
    "uniform": both uniform in [-1, 1] (Papamichail and others 2026). The same seed gives the same network everywhere.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise BadInput("a random network needs widths of at least one: inputs, hidden layers, outputs")
    random, nodes, at = np.random.default_rng(seed), Nodes([Input(widths[0])]), 0
    for k, (n, m) in enumerate(pairwise(widths), 1):
        if weights == "uniform":
            matrix, constant = random.uniform(-1, 1, (m, n)), random.uniform(-1, 1, m)
        else:
            matrix, constant = random.normal(scale=(2 / n) ** 0.5, size=(m, n)), random.normal(scale=0.3, size=m)
        at = nodes.affine([(at, matrix)], constant if bias else np.zeros(m), f"affine{k}")
        if k < len(widths) - 1:
            at = nodes.activation(at, function or ReLU(), f"layer{k}")
    return nodes.graph()


def _matrix(operator: AbstractLinear) -> np.ndarray:  # (n_out, n_in)
    return operator.rows(torch.arange(operator.n_out), torch.float64).numpy()


def _whole(what: str, of: str, value: int, least: int) -> None:
    if value != int(value) or value < least:
        raise BadInput(f"{what} takes a whole number of {of} of at least {least}, not {value}")
