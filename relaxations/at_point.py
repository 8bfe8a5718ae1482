"""What rows of the outputs are worth at one point over the real numbers: an enclosure from one pass in float64.

Intervals go forward from the point (or from the last bits of a point that is no float64 number); they are as wide as
rounding alone can make them, so nearly every neuron is decided, and the others get lines. Then the rows go backward
once, with the running bound on the rounding of that very pass (see `backward`): the enclosure is far narrower than what
intervals would give the outputs, because the signs in which errors arrive are kept.

Soundness: outward rounded. Where fusing has rounded a layer, its biases are taken to be off by `simplify.DUST`.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from ..problems.exact import Numbers
from ..problems.graph import Activation, Affine, Graph, Product
from ..problems.property import Array, UnsafeSet
from ..problems.simplify import DUST
from .interval import affine_interval
from .linear import Linear
from .rounding import Rounding
from .types import Pieces, Rows


class AtPoint:
    """Encloses rows at single points of one network, given in float64 on the CPU."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.rounding = graph, Rounding(graph)
        self.dust = {
            i: DUST * float(node.bias.abs().max()) if node.rounded else 0.0
            for i, node in enumerate(graph.nodes)
            if isinstance(node, Affine)
        }

    @torch.no_grad()
    def rows(self, x: Numbers, unsafe: UnsafeSet) -> tuple[Array, Array]:  # (R,), (R,)
        """Lower and upper bounds of the unsafe set's rows, as exact as it states them. Infinite where float64 overflows
        or the network multiplies values."""
        count = len(unsafe.rows)
        if any(isinstance(node, Product) for node in self.graph.nodes):
            return np.full(count, -np.inf), np.full(count, np.inf)
        lower, upper = (torch.from_numpy(side)[None] for side in _around(x))
        bounds = self._forward(lower, upper)
        parts = [bounds[self.graph.nodes[i].inputs[0]] for i in self.graph.activations]
        none = lower.new_zeros(1, 0)
        pre = [torch.cat([none, *(part[side] for part in parts)], 1) for side in (0, 1)]
        pieces = Pieces.boxes(lower, upper, self.graph.neurons).with_pre(*pre)
        ranges = {i: tuple(side[0] for side in part) for i, part in zip(self.graph.activations, parts, strict=True)}
        scales = self.rounding.local(torch.maximum(lower.abs(), upper.abs())[0], ranges)
        for i, lost in self.dust.items():
            scales.affine[i] = scales.affine[i] + lost
        rows, constants = torch.from_numpy(unsafe.rows)[None], torch.from_numpy(unsafe.constants)[None]
        on_input = None if unsafe.on_input is None else torch.from_numpy(unsafe.on_input)[None]
        both = Rows(
            torch.cat([rows, -rows], 1),
            torch.cat([constants, -constants], 1),
            None if on_input is None else torch.cat([on_input, -on_input], 1),
        )
        result, _ = Linear(self.rounding, scales).bound(pieces, both, refresh=False)
        least, most = result.lower[0, :count].numpy(), -result.lower[0, count:].numpy()
        lost = _lost(unsafe, bounds[-1], (lower, upper))
        return np.nextafter(least - lost, -np.inf), np.nextafter(most + lost, np.inf)

    def _forward(self, lower: Tensor, upper: Tensor) -> list[tuple[Tensor, Tensor]]:  # (1, D) -> (1, n) twice a node
        """Intervals of every node."""
        bounds = [(lower, upper)]
        for position, node in enumerate(self.graph.nodes[1:], 1):
            arguments = [bounds[i] for i in node.inputs]
            if isinstance(node, Activation):
                bounds.append(node.function.interval(*arguments[0]))
                continue
            low, high = affine_interval(self.rounding, position, arguments)
            bounds.append(
                (low - self.dust[position], high + self.dust[position]) if self.dust[position] else (low, high)
            )
        return bounds


def _around(x: Numbers) -> tuple[Array, Array]:  # (D,), (D,)
    """Float64 numbers on both sides of each coordinate; the coordinate itself where it is one."""
    lower, upper = x.near.copy(), x.near.copy()
    for i in x.others:
        value = x[i]
        near = float(value)
        lower[i] = near if Fraction(near) <= value else np.nextafter(near, -np.inf)
        upper[i] = near if Fraction(near) >= value else np.nextafter(near, np.inf)
    return lower, upper


def _lost(unsafe: UnsafeSet, outputs: tuple[Tensor, Tensor], inputs: tuple[Tensor, Tensor]) -> Array | float:  # (R,)
    """How far the exact rows may be from the float64 ones there, rounded up."""
    if unsafe.lost is None:
        return 0.0
    reach, size = (np.maximum(*(np.abs(side[0].numpy()) for side in sides)) for sides in (outputs, inputs))
    return unsafe.lost.most(size, reach)
