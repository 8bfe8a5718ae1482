"""Back-substitution: a linear function of one node becomes a linear function of the input.

Starting from rows L y + c at a node y, nodes are visited from last to first. An affine node replaces L by L A for
each of its inputs; an activation replaces each entry by its lower or upper line according to the sign of its
coefficient (Zhang et al. 2018, CROWN, theorem 3.2; Singh et al. 2019, DeepPoly), a layer of several operands by a plane
over all of them. What arrives at the input is a lower
bound of the row that is linear in the input.

Rounding. Each step replaces L y by something computed. If `computed` stands for L A as it comes out of a matrix
product of t terms, then for every true value x of the node's input, |(L A - computed) x| <= gamma_t |L| |A| |x|, and
|x| is bounded on the root's input set or on the piece. So the error of a step is at most |L| . scale with a vector
`scale` that does not depend on the row (`rounding.py` beside this file makes it), and the sum over the steps is carried
along as `slack`. This running bound is rigorous, costs one product with a vector a layer, and is far below what
worst-case constants would give.

Soundness: outward rounded, whatever the lines' choices and multipliers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...kernels.deadline import check
from ...kernels.dot import dot_and_absolute
from ...kernels.proof_constants import INFLATE
from ...kernels.rows import add_weighed
from ...kernels.substitute import Weights, substitute_weighed
from ...problems.network.activation import Lines
from ...problems.network.graph import Activation, Affine, Graph, Input, Multivariate
from ...problems.network.multivariate import AbstractPlanes
from .rounding import Scales, weigh


@dataclass(eq=False)
class Form:
    """rows >= linear x + constant - slack; with what the pass met on its way."""

    linear: Tensor  # (B, R, D)
    constant: Tensor  # (B, R)
    slack: Tensor  # (B, R)
    at: dict[int, Tensor] = field(default_factory=dict)  # coefficients at activation nodes, if recorded
    scales: Scales | None = None  # the rounding vectors it was made with


def backward(
    graph: Graph,
    scales: Scales,
    lines: Mapping[int, Lines | AbstractPlanes],  # for each layer below `start`; tensors (B, n) or (B, R, n)
    start: int,
    rows: Tensor,  # (B, R, n_start)
    constant: Tensor,  # (B, R)
    *,
    added: Mapping[int, Tensor] | None = None,  # (B, R, n) by node, what multipliers add to its coefficients
    record: bool = False,
    first: Mapping[int, Tensor] | None = None,
) -> Form:
    """A lower bound of `rows y + constant` for node `start`'s value y, linear in the input. Outward rounded."""
    pending: dict[int, Tensor] = dict(first) if first else {start: rows}
    total = constant
    size = constant.abs()
    slack = torch.zeros_like(constant)
    seen: dict[int, Tensor] = {}
    added = added or {}
    for position in range(start, 0, -1):
        coefficient, cost = _with(pending.pop(position, None), added.get(position), position, scales)
        slack = slack + cost
        if coefficient is None:
            continue
        check()
        node = graph.nodes[position]
        match node:
            case Affine():
                gain, cost = dot_and_absolute(coefficient, node.bias, scales.affine[position])
                slack = slack + cost
                for source, operator in zip(node.inputs, node.operators, strict=True):
                    slack = slack + _add(pending, source, operator.adjoint(coefficient), scales)
            case Activation():
                if record:
                    seen[position] = coefficient
                relu = node.function.leak is not None
                source, vector = node.inputs[0], scales.activation[position]
                own = lines[position]
                assert isinstance(own, Lines), "the lines of a function of one variable"
                weights = Weights(under=vector) if relu else Weights(above=vector)
                below, gain, cost = substitute_weighed(coefficient, own, weights, zero_lower_bias=relu)
                slack = slack + cost
                slack = slack + _add(pending, source, below, scales)
            case Multivariate():
                if record:
                    seen[position] = coefficient
                vector = scales.activation[position]
                planes = lines[position]
                assert isinstance(planes, AbstractPlanes) and vector is not None, "made together"
                pulled = planes.pull(coefficient, vector)
                gain, slack = pulled.gain, slack + pulled.weighed
                for source, below in zip(node.inputs, pulled.operands, strict=True):
                    slack = slack + _add(pending, source, below, scales)
            case Input():
                raise AssertionError("the input is node 0")
        total = total + gain
        size = size + total.abs()
    linear, cost = _with(pending.get(0), added.get(0), 0, scales)
    slack = slack + cost
    if linear is None:
        linear = total.new_zeros(*total.shape, graph.input_size)
    slack = slack * INFLATE + scales.step * size
    return Form(linear, total, slack, seen)


def _with(
    coefficient: Tensor | None, added: Tensor | None, node: int, scales: Scales
) -> tuple[Tensor | None, Tensor | float]:
    """A node's coefficients and what multipliers add to them; and what rounding the sum costs."""
    if added is None or coefficient is None:
        return (added if coefficient is None else coefficient), 0.0
    # Before they are added: where the two cancel, what each of them rounded away does not.
    return add_weighed(coefficient, added, scales.sum[node])


def _add(pending: dict[int, Tensor], node: int, value: Tensor, scales: Scales) -> Tensor | float:
    """A node with several consumers collects the sum of what they pass down; returns what rounding the sum costs."""
    if node not in pending:
        pending[node] = value
        return 0.0
    pending[node] = pending[node] + value
    return weigh(pending[node], scales.sum[node])
