"""Encodings that are precise, one for each kind of function, and the ways max(x_1, x_2) can be written.

steps         a monotone function as a sum of clipped ramps. Every path from input to output has a positive product
              of weights, so that IBP's lower bound is f(l) and its upper one f(u), on all boxes at once
              (`increasing` checks the signs). DeepPoly-0 is precise on it as well.
flipped       the same network with every ReLU(z) written as z + ReLU(-z): DeepPoly-1's line y >= z becomes
              DeepPoly-0's y >= 0. So DeepPoly-1 is precise on `flipped(g)` where DeepPoly-0 is on g.
composed      h after g: where both are precise as functions of one variable, so is the chain, since g's image of a
              box is an interval that is known exactly. It reaches functions that are neither convex nor monotone.
maxima        max(x1, x2) in its plain forms, with pairs of neurons that cancel, and through a second layer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from partita.problems.network.activation import ReLU
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.network.library import Nodes

from .rational import Function, Rational


def steps(f: Function) -> Graph:
    """A nondecreasing f as f(x_1) - a ReLU(x_1 - x) + sum s_i (w_i - ReLU(w_i - ReLU(x - x_i))) + e ReLU(x - x_n)."""
    points, slopes = [float(p) for p in f.points], [float(s) for s in f.slopes()]
    if min(slopes) < 0:
        raise ValueError("steps are for nondecreasing functions")
    widths, count = np.diff(points), len(points) - 1
    nodes = Nodes([Input(1)])
    tails = nodes.affine([(0, [[-1.0], [1.0]])], [points[0], -points[-1]], "tails before")
    tails = nodes.activation(tails, ReLU(), "tails")
    terms = [(tails, [[-slopes[0], slopes[-1]]])]
    if count:
        ramps = nodes.affine([(0, np.ones((count, 1)))], [-p for p in points[:-1]], "ramps before")
        ramps = nodes.activation(ramps, ReLU(), "ramps")
        clips = nodes.affine([(ramps, -np.eye(count))], widths, "clips before")
        clips = nodes.activation(clips, ReLU(), "clips")
        terms.append((clips, [[-s for s in slopes[1:-1]]]))
    inner = sum(s * w for s, w in zip(slopes[1:-1], widths, strict=True))
    nodes.affine(terms, float(f(f.points[0])) + inner, "f")
    return nodes.graph()


def increasing(graph: Graph) -> bool:
    """Whether the weights of every path from the input to the output multiply to something nonnegative.

    Then interval bounds follow single ends: the lower bound is the network at l, the upper one at u.
    """
    exact, signs = Rational(graph), {graph.output: [{1}] * graph.output_size}
    for i in range(graph.output, 0, -1):
        node = graph.nodes[i]
        here = signs.get(i, [set()] * node.size)
        if isinstance(node, Activation):
            signs[node.inputs[0]] = here
            continue
        for j, matrix in exact.weights[i][0]:
            into = signs.setdefault(j, [set() for _ in range(graph.nodes[j].size)])
            for row, entries in enumerate(matrix):
                for at, w in enumerate(entries):
                    if w:
                        into[at] = into[at] | {s if w > 0 else -s for s in here[row]}
    return all(-1 not in s for s in signs[0])


def flipped(graph: Graph) -> Graph:
    """The same function, every ReLU(z) written as z + ReLU(-z)."""
    nodes, places = Nodes(graph.nodes[:1]), {0: [(0, 1.0)]}
    for i, node in enumerate(graph.nodes[1:], 1):
        if isinstance(node, Affine):
            parts = [
                (place, sign * op.weight.numpy())  # type: ignore[attr-defined]
                for j, op in zip(node.inputs, node.operators, strict=True)
                for place, sign in places[j]
            ]
            merged: dict[int, np.ndarray] = {}
            for place, weight in parts:
                merged[place] = merged[place] + weight if place in merged else weight
            used = any(i in other.inputs for other in graph.nodes if isinstance(other, Activation))
            sign = -1.0 if used else 1.0
            at = nodes.affine([(p, sign * w) for p, w in merged.items()], sign * node.bias.numpy(), node.name)
            places[i] = [(at, sign)]
        else:
            before = places[node.inputs[0]][0][0]  # holds -z
            places[i] = [(nodes.activation(before, ReLU(), node.name), 1.0), (before, -1.0)]
    return nodes.graph()


def composed(outer: Graph, inner: Graph) -> Graph:
    """outer after inner, both of one input and one output."""
    shift = len(inner.nodes) - 1
    nodes = Nodes(inner.nodes)
    for node in outer.nodes[1:]:
        inputs = tuple(i + shift for i in node.inputs)
        if isinstance(node, Activation):
            nodes.activation(inputs[0], node.function, node.name)
        else:
            weights = [op.weight.numpy() for op in node.operators]  # type: ignore[attr-defined]
            nodes.affine(list(zip(inputs, weights, strict=True)), node.bias.numpy(), node.name)
    return nodes.graph()


def zigzags() -> Iterator[tuple[str, Graph]]:
    """f(x) = x - 2 clip(x) in two layers: clip by 1 - ReLU(1 - ReLU(x)), by ReLU(1 - ReLU(1 - x)), and half of each.

    Over l < 0, u > 1 Triangle keeps of the first exactly the convex envelope of clip, x / u, and of the second exactly
    the concave one, (x - l) / (1 - l): so f's upper bound is exact with the first and its lower one with the second.
    """
    for name, share in (
        ("1 - ReLU(1 - ReLU(x))", 1.0),
        ("ReLU(1 - ReLU(1 - x))", 0.0),
        ("the mean of these two", 0.5),
    ):
        nodes = Nodes([Input(1)])
        first = nodes.activation(nodes.affine([(0, [[1.0], [-1.0]])], [0.0, 1.0], "first before"), ReLU(), "first")
        second = nodes.affine([(first, -np.eye(2))], np.ones(2), "second before")
        second = nodes.activation(second, ReLU(), "second")
        nodes.affine([(second, [[2 * share, -2 * (1 - share)]]), (0, [[1.0]])], -2 * share, "f")
        yield name, nodes.graph()


def maxima(seed: int, count: int) -> Iterator[tuple[str, Graph]]:
    """Encodings of max(x1, x2) on [0,1]^2: the plain ones, then `count` random ones."""
    yield "x2 + ReLU(x1 - x2)", _max([[1, -1]], [1.0], [0, 1])
    yield "x1 + ReLU(x2 - x1)", _max([[-1, 1]], [1.0], [1, 0])
    yield "(x1 + x2 + ReLU(x1 - x2) + ReLU(x2 - x1)) / 2", _max([[1, -1], [-1, 1]], [0.5, 0.5], [0.5, 0.5])
    random = np.random.default_rng(seed)
    for _ in range(count):
        share, pairs = random.random(), int(random.integers(0, 4))
        rows, gains = [[1.0, -1.0], [-1.0, 1.0]], [share, 1 - share]
        linear, biases = np.array([1 - share, share]), [0.0, 0.0]
        for _pair in range(pairs):  # g ReLU(t) - g ReLU(-t) - g t = 0
            direction, offset, gain = random.normal(size=2), random.normal(scale=0.5), random.normal()
            rows += [list(direction), list(-direction)]
            biases += [offset, -offset]
            gains += [gain, -gain]
            linear = linear - gain * direction
        constant = -sum(g * b for g, b in zip(gains[2::2], biases[2::2], strict=True))
        graph = _max(rows, gains, linear, biases, constant)
        deep = bool(random.integers(0, 2))
        yield f"{2 * pairs} neurons that cancel{', second layer' if deep else ''}", _through(graph) if deep else graph


def _max(rows, gains, linear, biases=None, constant=0.0) -> Graph:  # type: ignore[no-untyped-def]
    nodes = Nodes([Input(2)])
    at = nodes.affine([(0, rows)], np.zeros(len(rows)) if biases is None else biases, "z")
    nodes.affine([(nodes.activation(at, ReLU(), "relu"), [gains]), (0, [linear])], constant, "max")
    return nodes.graph()


def _through(graph: Graph) -> Graph:
    """The same on [0,1]^2, m = ReLU(m) added, since max(x1, x2) >= 0."""
    nodes = Nodes(graph.nodes)
    nodes.affine([(nodes.activation(len(nodes) - 1, ReLU(), "again"), [[1.0]])], 0.0, "output")
    return nodes.graph()
