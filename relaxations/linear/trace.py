"""The point a linear bound pretends to reach: the relaxed values of every neuron at the bound's minimiser.

A backward bound is the value, at its input minimiser x*, of a network in which every activation is replaced by the
line its coefficient chose, every layer of several operands by the plane. Running that network forward from x* gives
the value z of every pre-activation. By the envelope theorem these values are the gradient: raising a lower line's slope
by one unit changes the bound by (positive part of the coefficient) * z, raising the multiplier of a decision
sign (z - point) >= 0 changes it by -sign (z - point), and so on. One forward pass thus replaces automatic
differentiation, at the cost of one backward pass and with nothing kept in between. The same values say which neuron the
bound loses most at, and x* is where an attack should start.

Heuristic: nothing here closes a piece.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...kernels.deadline import check
from ...problems.network.activation import Lines
from ...problems.network.graph import Activation, Affine, Graph, Multivariate
from ...problems.network.multivariate import AbstractPlanes


def relaxed_values(
    graph: Graph,
    lines: Mapping[int, Lines | AbstractPlanes],  # (B, n) or (B, R, n) by layer
    coefficients: Mapping[int, Tensor],  # (B, R, n) by layer, as `backward` recorded them
    minimiser: Tensor,  # (B, R, D)
) -> list[Tensor]:  # (B, R, n) by node
    """Every node's value in the network of chosen lines, from the minimiser on."""
    values: list[Tensor] = [minimiser]
    for position, node in enumerate(graph.nodes[1:], 1):
        check()
        arguments = [values[i] for i in node.inputs]
        match node:
            case Affine():
                values.append(node.apply(arguments))
            case Activation() if position in coefficients:
                chosen = lines[position]
                assert isinstance(chosen, Lines), "the lines of a function of one variable"
                low_slope, low_bias, high_slope, high_bias = (t if t.ndim == 3 else t[:, None] for t in chosen)
                lower = coefficients[position] >= 0
                z = arguments[0]
                values.append(torch.where(lower, low_slope * z + low_bias, high_slope * z + high_bias))
            case Activation():
                values.append(node.function.value(arguments[0]))
            case Multivariate() if position in coefficients:
                planes = lines[position]
                assert isinstance(planes, AbstractPlanes), "the planes of a layer of several operands"
                values.append(planes.value(coefficients[position] >= 0, arguments))
            case Multivariate():
                values.append(node.function.value(*arguments))
    return values
