"""The affine functions that a network's pre-activations are on cells of given activation patterns, with error bounds.

On a cell with pattern s every activation is y = d z with d = 1 where s is set and the activation's slope elsewhere, so
each pre-activation is a function w x + c of the input. `pattern_forms` composes these functions for a batch of cells,
one forward pass with the D unit vectors and the constant as its batch. Up to the first activation that is read they
are the same for all cells, and computed once.

Soundness: outward rounded. With r >= |x| and M = (w, c) the computed coefficients of a node, let size = |w| r + |c|,
and error bound |w - true w| r + |c - true c|. An affine map A takes M to A M and the error to at most
|A| (error + gamma size) (Higham 2002, section 3.1, with `magnitude` for folded weights): one number a neuron instead
of one a coefficient. Every bound is doubled, which pays for its own rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.rounding import gamma, unit_roundoff
from ...problems.network.graph import Affine, Graph

UNIT = unit_roundoff(torch.float64)


@dataclass(frozen=True, eq=False)
class Forms:
    """For C cells and N neurons: row . x + constant, for |x| <= reach."""

    row: Tensor  # (C, N, D)
    constant: Tensor  # (C, N)
    doubt: Tensor  # (C, N): |row - true row| . reach + |constant - true constant| is at most that; 0 where exact
    error: Tensor  # (C, N): how far the value computed in float64 may be from the pre-activation
    slope_error: Tensor  # (C, N): at least the 1-norm of row - true row


def pattern_forms(graph: Graph, pattern: Tensor, reach: Tensor) -> Forms:  # (C, N) bool, (C, D) > 0
    """The pre-activations of all neurons, layer after layer, as functions of the input; the graph is in float64."""
    count, d = len(pattern), graph.input_size
    last = graph.layers[-1].position if graph.layers else 0
    weight = torch.nn.functional.pad(reach, (0, 1), value=1.0)[:, :, None]  # (C, D + 1, 1)
    unit = torch.eye(d + 1, d, dtype=torch.float64)[None]
    values: dict[int, tuple[Tensor, Tensor]] = {0: (unit, torch.zeros(1, d, dtype=torch.float64))}
    users = {j: i for i, node in enumerate(graph.nodes[: last + 1]) for j in node.inputs}
    found = []
    for i, node in enumerate(graph.nodes[: last + 1]):
        if isinstance(node, Affine):
            values[i] = _affine(node, [values[j] for j in node.inputs], weight)
        elif i in graph.layer_at:
            layer = graph.layer_at[i]
            value, error = values[layer.source]
            found.append((value.expand(count, -1, -1), error.expand(count, -1)))
            leak = layer.leak
            slope = torch.where(pattern[:, layer.span], 1.0, leak).to(torch.float64)
            made = value * slope[:, None]
            error = error * slope
            if leak:
                error = 2 * (error + 2 * UNIT * _size(made, weight))
            values[i] = made, error
        for j in node.inputs:
            if users.get(j) == i:
                values.pop(j, None)
    if not found:
        empty = torch.zeros(count, 0, dtype=torch.float64)
        return Forms(empty[..., None].expand(-1, -1, d), empty, empty, empty, empty)
    value, doubt = torch.cat([v for v, _ in found], 2), torch.cat([e for _, e in found], 1)
    error = 2 * (doubt + gamma(d + 3, torch.float64) * _size(value, weight))
    steep = 2 * doubt / reach.amin(1, keepdim=True)
    return Forms(value[:, :d].mT, value[:, d], doubt, error, steep)


def _size(value: Tensor, weight: Tensor) -> Tensor:  # (C or 1, D + 1, n), (C, D + 1, 1) -> (C, n)
    """|row| . reach + |constant|."""
    return (value.abs() * weight).sum(1)


def _affine(node: Affine, arguments: list[tuple[Tensor, Tensor]], weight: Tensor) -> tuple[Tensor, Tensor]:
    """A node's coefficients, and the bound on their errors; exact where its weights meet the inputs alone."""
    exact = len(arguments) == 1 and len(arguments[0][0]) == 1 and node.inputs == (0,) and _stored(node)
    terms = 1 + sum(2 * operator.terms + 1 for operator in node.operators)
    unit = gamma(terms + 1, torch.float64)
    total = doubt = torch.zeros((), dtype=torch.float64)
    for operator, (value, error) in zip(node.operators, arguments, strict=True):
        total = operator.apply(value) + total
        if not exact:
            doubt = operator.magnitude().apply(error + unit * _size(value, weight)) + doubt
    total = total.contiguous()
    total[:, -1] += node.bias
    if exact:
        return total, torch.zeros(1, node.size, dtype=torch.float64)
    return total, 2 * (doubt + unit * node.bias.abs() + (0.0 if node.doubt is None else node.doubt))


def _stored(node: Affine) -> bool:
    """Whether the coefficients on the input are the stored weights themselves, each times one and plus zeros."""
    return node.doubt is None and all(getattr(operator, "scale", 0) is None for operator in node.operators)
