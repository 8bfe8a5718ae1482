"""The affine functions that a network's pre-activations are on cells of given activation patterns, with error bounds.

On a cell with pattern s every activation is y = d z with d = 1 where s is set and the activation's slope elsewhere, so
each pre-activation is a function w x + c of the input. `pattern_forms` composes these functions for a batch of cells,
one forward pass with the D unit vectors and the constant as its batch.

Soundness: outward rounded. With M the computed coefficients of a node and E >= |M - true|, an affine map A gives
|A M - true| <= |A| E + gamma |A| |M| (Higham 2002, section 3.1, with `magnitude` for folded weights); every bound is
doubled, which pays for its own rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.rounding import gamma, unit_roundoff
from ..problems.activation import LeakyReLU
from ..problems.graph import Activation, Affine, Graph

UNIT = unit_roundoff(torch.float64)


@dataclass(frozen=True, eq=False)
class Forms:
    """For C cells and N neurons: row . x + constant, and bounds of the errors of both."""

    row: Tensor  # (C, N, D)
    constant: Tensor  # (C, N)
    row_error: Tensor  # (C, N, D)
    constant_error: Tensor  # (C, N)

    def error(self, reach: Tensor) -> Tensor:  # (C, D) >= |x| -> (C, N)
        """How far row . x + constant, evaluated in float64, may be from the pre-activation at such an x."""
        wide = (self.row.abs() @ reach[..., None])[..., 0] + self.constant.abs()
        doubt = (self.row_error @ reach[..., None])[..., 0] + self.constant_error
        return 2 * (doubt + gamma(self.row.shape[-1] + 3, torch.float64) * wide)


def pattern_forms(graph: Graph, pattern: Tensor) -> Forms:  # (C, N) bool
    """The pre-activations of all neurons, layer after layer, as functions of the input; the graph is in float64."""
    count, d = len(pattern), graph.input_size
    last = max(graph.activations, default=0)
    unit = torch.eye(d + 1, d, dtype=torch.float64).expand(count, -1, -1)
    values: dict[int, tuple[Tensor, Tensor]] = {0: (unit, torch.zeros_like(unit))}  # (C, D + 1, n): value, error
    users = {j: i for i, node in enumerate(graph.nodes[: last + 1]) for j in node.inputs}
    found = []
    for i, node in enumerate(graph.nodes[: last + 1]):
        if isinstance(node, Affine):
            values[i] = _affine(node, [values[j] for j in node.inputs])
        elif isinstance(node, Activation) and isinstance(node.function, LeakyReLU):
            value, error = values[node.inputs[0]]
            found.append((value, error))
            start = graph.offsets[i]
            on = pattern[:, None, start : start + node.size]
            slope = torch.where(on, 1.0, node.function.slope).to(torch.float64)
            made = value * slope
            leak = 2 * UNIT * made.abs() if node.function.slope else 0.0
            values[i] = made, error * slope * (1 + 4 * UNIT) + leak
        for j in [j for j in node.inputs if users.get(j) == i]:
            values.pop(j, None)
    value = torch.cat([v for v, _ in found], 2).mT if found else unit.new_zeros(count, 0, d + 1)
    error = torch.cat([e for _, e in found], 2).mT if found else value
    return Forms(value[..., :d], value[..., d], error[..., :d], error[..., d])


def _affine(node: Affine, arguments: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    total, doubt, wide, terms = 0.0, 0.0, 0.0, 1
    for operator, (value, error) in zip(node.operators, arguments, strict=True):
        magnitude = operator.magnitude()
        total = operator.apply(value) + total
        doubt = magnitude.apply(error) + doubt
        wide = magnitude.apply(value.abs()) + wide
        terms += 2 * operator.terms + 1
    total, wide = total.contiguous(), wide.contiguous()
    total[:, -1] += node.bias
    wide[:, -1] += node.bias.abs()
    return total, 2 * (doubt + gamma(terms + 1, torch.float64) * wide)
