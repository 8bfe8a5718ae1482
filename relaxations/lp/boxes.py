"""Interval bounds of every node over one box in float64: what a linear model needs for its variables.

y = A x + b over the box c +- r lies in A c + b +- |A| r. Soundness: outward rounded. An inner product of k terms in
any order is off by at most k u / (1 - k u) times the sum of absolute values (Higham 2002, section 3.1), and `magnitude`
bounds the entries' own error where matrices were folded; twice the sum of both widens each interval. An end that is 0
because no term is of the other sign is exactly that.

This is the slow and independent truth; `linear.interval` is the batched one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...kernels.deadline import check
from ...problems.errors import BadInput
from ...problems.network.graph import Activation, Affine, Graph, Multivariate
from ...problems.properties.property import Polytope
from ..linear.signs import counts, signs_of

UNIT = torch.finfo(torch.float64).eps / 2
Box = tuple[Tensor, Tensor]  # (n,), (n,)


def node_boxes(graph: Graph, polytope: Polytope) -> list[Box]:
    """Bounds of every node of a float64 graph over the polytope's box (its half-spaces are ignored)."""
    if not (np.isfinite(polytope.lower).all() and np.isfinite(polytope.upper).all()):
        raise BadInput("a linear model needs finite bounds on every input; give the unbounded inputs a box.")
    boxes: list[Box] = [(torch.as_tensor(polytope.lower), torch.as_tensor(polytope.upper))]
    for node in graph.nodes[1:]:
        arguments = [boxes[i] for i in node.inputs]
        match node:
            case Affine():
                boxes.append(affine_box(node, arguments))
            case Activation():
                boxes.append(node.function.interval(*arguments[0]))
            case Multivariate():
                boxes.append(node.function.interval(*arguments))
    return boxes


def affine_box(node: Affine, arguments: list[Box]) -> Box:
    """Image of boxes under an affine node; outward rounded."""
    check()
    centre, radius, scale = node.bias, torch.zeros_like(node.bias), node.bias.abs()
    terms = 4 + len(arguments)
    for operator, (lower, upper) in zip(node.operators, arguments, strict=True):
        c = lower / 2 + upper / 2
        r = torch.maximum(c - lower, upper - c) * (1 + 2 * UNIT)
        centre = centre + operator.apply(c)
        radius = radius + operator.absolute().apply(r)
        scale = scale + operator.magnitude().apply(c.abs() + r)
        terms += 2 * operator.terms
    radius = radius + 2 * terms * UNIT * scale + torch.finfo(torch.float64).tiny
    if node.doubt is not None:
        radius = radius + 2 * node.doubt
    low, high = centre - radius, centre + radius
    if bool(((low < 0) & (high > 0) & (torch.minimum(-low, high) <= 8 * terms * UNIT * scale + 1e-300)).any()):
        negative, positive = _terms(node, arguments)
        low = torch.where(negative, low, low.clamp(min=0))
        high = torch.where(positive, high, high.clamp(max=0))
    return low, high


def _terms(node: Affine, arguments: list[Box]) -> tuple[Tensor, Tensor]:  # (n,) bool each
    """Where a term of the node may be negative, and where one may be positive: see `linear.signs`."""
    least, most = node.bias_sides()
    negative, positive = least < 0, most > 0
    for operator, (lower, upper) in zip(node.operators, arguments, strict=True):
        signs = signs_of(operator)
        if signs is None:
            return torch.ones_like(negative), torch.ones_like(positive)
        below, above = counts(signs, lower, upper)
        negative, positive = negative | (below > 0), positive | (above > 0)
    return negative, positive
