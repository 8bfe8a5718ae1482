"""Interval bound propagation (IBP): every node's values between two vectors, layer by layer.

For an affine node the centre goes through A and the radius through |A| (exact for one node over a box; the loss is
that correlations between entries are forgotten from one node to the next); an activation maps the interval to its
image. Cost: two applications of every operator. Source: Moore 1966; for networks Gowal et al. 2018.

Soundness: outward rounded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.rounding import gamma, unit_roundoff
from ..problems.graph import Activation, Affine, Input, Product
from .rounding import INFLATE, Rounding


def affine_interval(
    rounding: Rounding, position: int, arguments: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:  # each (B, n)
    """Bounds of an affine node from bounds of its inputs.

    A m and |A| r are inner products of t terms and err by at most gamma_{t+3} |A| (|m| + r), weights stored rounded
    included (one more for each operator of a sum); as |A| is applied to r anyway, that is had by enlarging r. The
    intervals' own magnitudes count here, not the node's sizes: an interval may reach beyond what is known of the
    value by other means.
    """
    node = rounding.graph.nodes[position]
    assert isinstance(node, Affine)
    centre, radius = node.bias, torch.zeros_like(node.bias)
    u, count = unit_roundoff(rounding.dtype), len(node.operators)
    pairs = zip(rounding.absolute[position], rounding.magnitude[position], strict=True)
    for operator, (absolute, magnitude), (low, high) in zip(node.operators, pairs, arguments, strict=True):
        middle = (low + high) / 2
        half = torch.maximum(high - middle, middle - low) * (1 + 8 * u)
        error = 3 * INFLATE * gamma(magnitude.terms + 3 + count, rounding.dtype) * torch.maximum(low.abs(), high.abs())
        centre = centre + operator.apply(middle)
        if magnitude is absolute:
            radius = radius + absolute.apply(half + error)
        else:
            radius = radius + absolute.apply(half * (1 + gamma(absolute.terms + 3 + count, rounding.dtype)))
            radius = radius + magnitude.apply(error)
    # What is left: the sum over the operators, the bias, and the two subtractions below.
    radius = radius + 4 * u * (1 + count) * (centre.abs() + radius + node.bias.abs())
    return centre - radius, centre + radius


def interval_bounds(
    rounding: Rounding,
    lower: Tensor,  # (B, D)
    upper: Tensor,  # (B, D)
    pre_lower: Tensor,  # (B, N)
    pre_upper: Tensor,  # (B, N)
) -> list[tuple[Tensor, Tensor]]:
    """Bounds of every node over each box; known pre-activation bounds are intersected in."""
    graph, bounds = rounding.graph, []
    for position, node in enumerate(graph.nodes):
        arguments = [bounds[i] for i in node.inputs]
        match node:
            case Input():
                bounds.append((lower, upper))
            case Affine():
                bounds.append(affine_interval(rounding, position, arguments))
            case Activation():
                low, high = arguments[0]
                part = slice(graph.offsets[position], graph.offsets[position] + node.size)
                low, high = torch.fmax(low, pre_lower[:, part]), torch.fmin(high, pre_upper[:, part])
                bounds[node.inputs[0]] = (low, torch.maximum(low, high))
                bounds.append(node.function.interval(*bounds[node.inputs[0]]))
            case Product():
                (a, b), (c, d) = arguments
                corners = torch.stack([a * c, a * d, b * c, b * d])
                pad = 4 * torch.finfo(a.dtype).eps * corners.abs().amax(0)
                bounds.append((corners.amin(0) - pad, corners.amax(0) + pad))
    return bounds


class CarriedIntervals:
    """Intervals of every node, carried node by node beside another bounding, whose better bounds they start from."""

    def __init__(self, rounding: Rounding, lower: Tensor, upper: Tensor) -> None:  # (B, D)
        self.rounding = rounding
        self.found: dict[int, tuple[Tensor, Tensor]] = {0: (lower, upper)}

    def affine(self, position: int) -> None:
        """Adds an affine node."""
        arguments = [self.found[i] for i in self.rounding.graph.nodes[position].inputs]
        self.found[position] = affine_interval(self.rounding, position, arguments)

    def ranges(self, position: int) -> tuple[Tensor, Tensor]:
        """Bounds (B, n) of the pre-activations of activation node `position`."""
        return self.found[self.rounding.graph.nodes[position].inputs[0]]

    def activation(self, position: int, lower: Tensor, upper: Tensor) -> None:
        """Adds an activation node, its pre-activations bounded."""
        node = self.rounding.graph.nodes[position]
        self.found[node.inputs[0]] = lower, upper
        self.found[position] = node.function.interval(lower, upper)
