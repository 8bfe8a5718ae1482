"""How large values can get on the root's input set, and what rounding can cost there.

For every node, `magnitude` bounds |value| entry by entry over the whole input set: from interval arithmetic, and from
the pre-activation bounds already proved, whichever is smaller. From it follow the vectors that `backward` multiplies
with the absolute values of its coefficients (u is the unit roundoff, gamma_n = n u / (1 - n u)):

- affine node, x its inputs, t the terms of its longest inner product:
      scale = gamma_{t+3} sum_i |A_i| |x_i|  +  gamma_{n+3} |b|.
  Storing a float64 weight in the working dtype costs one more u for each entry, hence t + 3.
- ReLU-like activation, z its pre-activation, coefficients taken *below* it: gamma_{n+4} |z|. The bias of the upper line
  is -s l, so a coefficient L contributes an inner product of terms L s l, each at most (L s) |z|.
- smooth activation, coefficients taken *above* it: gamma_{n+4} (|f(z)| + 2 |z|), slopes being at most 1.
- sum of two coefficients that arrive at a node: 2 u |value|.

Everything here is computed in float64 and inflated by 2 %, which covers its own rounding.
Soundness: outward rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.rounding import gamma, unit_roundoff
from ..problems.activation import LeakyReLU
from ..problems.graph import Activation, Affine, Graph, Product


@dataclass(frozen=True, eq=False)
class Scales:
    """Rounding vectors of one network on one input set in one dtype; see the module's essay."""

    affine: dict[int, Tensor]  # (n,) by node
    activation: dict[int, Tensor]  # (n,) by node
    sum: dict[int, Tensor]  # (n,) by node
    step: float


def magnitudes(
    graph: Graph,  # float64
    largest_input: Tensor,  # (D,)
    pre: Mapping[int, tuple[Tensor, Tensor]],  # activation node -> bounds (n,) of its pre-activation, where proved
) -> list[Tensor]:
    """|value| of every node, entry by entry, over the input set."""
    known = {graph.nodes[i].inputs[0]: bounds for i, bounds in pre.items()}
    sizes: list[Tensor] = [largest_input]
    for position, node in enumerate(graph.nodes[1:], 1):
        match node:
            case Affine():
                size = node.bias.abs()
                for source, operator in zip(node.inputs, node.operators, strict=True):
                    size = size + operator.absolute().apply(sizes[source])
            case Activation():
                z = sizes[node.inputs[0]]
                low, high = pre.get(position, (-z, z))
                low, high = torch.maximum(low.to(z), -z), torch.minimum(high.to(z), z)
                low, high = node.function.interval(torch.minimum(low, high), high)
                size = torch.maximum(low.abs(), high.abs())
            case Product():
                size = sizes[node.inputs[0]] * sizes[node.inputs[1]]
        if position in known:
            low, high = (t.to(size) for t in known[position])
            size = torch.minimum(size, torch.maximum(low.abs(), high.abs()))
        sizes.append(size)
    return sizes


def scales(graph: Graph, sizes: list[Tensor], dtype: torch.dtype, device: torch.device | str) -> Scales:
    """The rounding vectors for computations in `dtype`; `graph` and `sizes` in float64."""
    affine, activation, total = {}, {}, {}
    u = unit_roundoff(dtype)
    for position, node in enumerate(graph.nodes):
        total[position] = 2.04 * u * sizes[position]
        match node:
            case Affine():
                error = gamma(node.size + 3, dtype) * node.bias.abs()
                for source, operator in zip(node.inputs, node.operators, strict=True):
                    error = error + gamma(operator.terms + 3, dtype) * operator.magnitude().apply(sizes[source])
                affine[position] = 1.02 * error
            case Activation():
                z = sizes[node.inputs[0]]
                reach = z if isinstance(node.function, LeakyReLU) else sizes[position] + 2 * z
                activation[position] = 1.02 * gamma(node.size + 4, dtype) * reach
    move = lambda table: {i: t.to(device, dtype) for i, t in table.items()}  # noqa: E731
    return Scales(move(affine), move(activation), move(total), 4 * u)
