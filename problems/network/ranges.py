"""Intervals of the nodes of a graph under construction, so that what never happens on a box is not built.

A Clip whose side is never reached on the input set is no piece of the function there: importing it costs neurons,
and, where its bound is large, rounding. So the reader may be told the box, and asks here for the interval of a value
before it writes the side down. Plain interval arithmetic (Moore 1966) in float64, carried along only as far as
somebody asks. Soundness: outward rounded; an interval that overflowed holds NaN, which no comparison is true of.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...kernels.proof_constants import DOUBLE, SLACK
from .graph import Activation, Affine, Multivariate, Node

Interval = tuple[Tensor, Tensor]


class Ranges:
    """The intervals over one input box, node by node."""

    def __init__(self, lower: Tensor, upper: Tensor) -> None:  # (n_in,) float64
        self.found: list[Interval] = [(lower, upper)]

    def of(self, nodes: Sequence[Node], i: int) -> Interval:
        """The interval (n,) of node i."""
        while len(self.found) <= i:
            self.found.append(self._next(nodes[len(self.found)]))
        return self.found[i]

    def narrow(self, nodes: Sequence[Node], i: int, lower: Tensor, upper: Tensor) -> None:
        """Node i is known to lie in [lower, upper] by other means."""
        low, high = self.of(nodes, i)
        self.found[i] = torch.maximum(low, lower), torch.minimum(high, upper)

    def _next(self, node: Node) -> Interval:
        arguments = [self.found[j] for j in node.inputs]
        match node:
            case Affine():
                return _affine(node, arguments)
            case Activation():
                return node.function.interval(*arguments[0])
            case Multivariate():
                return node.function.interval(*arguments)
        raise AssertionError("the input comes first")


def _affine(node: Affine, arguments: Sequence[Interval]) -> Interval:
    """Centres through A, radii through |A|; what rounding costs is in proportion to |A| (|centre| + radius) + |b|."""
    centre, radius, size = node.bias, torch.zeros_like(node.bias), node.bias.abs()
    terms = 0
    for operator, (low, high) in zip(node.operators, arguments, strict=True):
        middle = low / 2 + high / 2
        half = torch.maximum(high - middle, middle - low) * (1 + 4 * DOUBLE)
        centre = centre + operator.apply(middle)
        magnitude = operator.magnitude()
        radius = radius + operator.absolute().apply(half)
        size = size + magnitude.apply(middle.abs() + half)
        terms = max(terms, operator.terms)
    share = 2 * (terms + len(arguments) + SLACK) * DOUBLE
    radius = radius + share * (size + radius) + torch.finfo(size.dtype).tiny
    return centre - radius, centre + radius
