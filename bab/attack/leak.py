"""Gradients that leak through inactive neurons, for the attack.

ReLU passes no gradient where it is inactive, so descent sees only the few neurons that are active now, and in
networks with many dead neurons it ends in a poor local minimum whatever its start. Here the forward pass is the
network's own, and the backward pass gives an inactive neuron the slope `leak` instead of zero (a straight-through
estimate; Bengio, Leonard, Courville 2013): the direction is no longer the gradient, but it sees neurons that a step
could wake. No single leak is best; each point of a batch has its own, zero among them. Of mnist 256x2 property 2 (0.03)
and 256x6 property 1 (0.05), which no number of restarts settled before, both fall in a tenth of a second.

Soundness: heuristic; values are exact, only directions change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...problems.network.activation import LeakyReLU
from ...problems.network.graph import Activation, Graph


class _Leak(torch.autograd.Function):
    """max(x, slope x) forward; backward the slope where x <= 0 is at least `leak`."""

    @staticmethod
    def forward(ctx, x: Tensor, leak: Tensor, slope: float) -> Tensor:  # (P, n), (P, 1)
        active = x > 0
        ctx.save_for_backward(active, leak)
        ctx.slope = slope
        return torch.where(active, x, slope * x)

    @staticmethod
    def backward(ctx, above: Tensor) -> tuple[Tensor, None, None]:
        active, leak = ctx.saved_tensors
        return above * torch.where(active, 1.0, leak.clamp(min=ctx.slope)), None, None


@dataclass(frozen=True, eq=False)
class _Leaking(LeakyReLU):
    """A LeakyReLU that is evaluated on one batch of points, with a leak for each."""

    passed: Tensor | None = None  # (P, 1)

    def value(self, x: Tensor) -> Tensor:
        return _Leak.apply(x, self.passed, self.slope)


def leaking(graph: Graph, leak: Tensor) -> Graph:  # (P, 1)
    """The network for a batch of P points, with gradients that leak through inactive (leaky) ReLUs."""
    nodes = tuple(
        replace(node, function=_Leaking(node.function.leak, passed=leak))
        if isinstance(node, Activation) and node.function.leak is not None
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes)
