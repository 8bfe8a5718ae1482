"""What rows of the outputs are worth at one point over the real numbers: an enclosure from one pass in float64.

Intervals go forward from the point (or from the last bits of a point that is no float64 number); they are as wide as
rounding alone can make them, so nearly every neuron is decided, and the others get lines. Then the rows go backward
once, with the running bound on the rounding of that very pass (see `backward`): the enclosure is far narrower than what
intervals would give the outputs, because the signs in which errors arrive are kept.

Intervals widen by an order of magnitude a layer, and after a dozen they decide no neuron. For such networks the ranges
of pre-activations can be *measured* instead: some copies of the point go forward, each entry of each layer moved at
random by as much as rounding may move it, and the range is many times their spread (stochastic arithmetic; Vignes, "A
stochastic arithmetic for reliable scientific computation", 1993). Cancellation and growth are seen, and growth is that
of the network instead of its absolute values; the pass backward is the same.

Soundness: outward rounded; with measured ranges, statistical.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from ...kernels.proof_constants import COPIES, SPREADS
from ...kernels.rounding import gamma
from ...problems.network.graph import Activation, Graph, Multivariate
from ...problems.properties.property import Array, UnsafeSet
from ...problems.properties.rational import Numbers
from ..linear.interval import affine_interval
from ..linear.linear import Linear
from ..linear.rounding import Rounding
from ..types import Pieces, Rows


class AtPoint:
    """Encloses rows at single points of one network, given in float64 on the CPU."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.rounding = graph, Rounding(graph)

    @torch.no_grad()
    def rows(self, x: Numbers, unsafe: UnsafeSet, measured: bool = False) -> tuple[Array, Array]:  # (R,), (R,)
        """Lower and upper bounds of the unsafe set's rows, as exact as it states them; infinite where float64
        overflows. With `measured` the ranges of neurons are statistical."""
        count = len(unsafe.rows)
        lower, upper = (torch.from_numpy(side)[None] for side in _around(x))
        bounds = self._measured(lower, upper) if measured else self._forward(lower, upper)
        parts = [bounds[operand.source] for operand in self.graph.operands]
        none = lower.new_zeros(1, 0)
        pre = [torch.cat([none, *(part[side] for part in parts)], 1) for side in (0, 1)]
        pieces = Pieces.boxes(lower, upper, self.graph.neurons).with_pre(*pre)
        ranges = {
            layer.position: [(low[0], high[0]) for low, high in (bounds[operand.source] for operand in layer.operands)]
            for layer in self.graph.layers
        }
        scales = self.rounding.local(torch.maximum(lower.abs(), upper.abs())[0], ranges)
        rows, constants = torch.from_numpy(unsafe.rows)[None], torch.from_numpy(unsafe.constants)[None]
        on_input = None if unsafe.on_input is None else torch.from_numpy(unsafe.on_input)[None]
        both = Rows(
            torch.cat([rows, -rows], 1),
            torch.cat([constants, -constants], 1),
            None if on_input is None else torch.cat([on_input, -on_input], 1),
        )
        result, _ = Linear(self.rounding, scales).formed(pieces, both, refresh=False)
        least, most = result.lower[0, :count].numpy(), -result.lower[0, count:].numpy()
        lost = _lost(unsafe, bounds[-1], (lower, upper))
        return np.nextafter(least - lost, -np.inf), np.nextafter(most + lost, np.inf)

    def _forward(self, lower: Tensor, upper: Tensor) -> list[tuple[Tensor, Tensor]]:  # (1, D) -> (1, n) twice a node
        """Intervals of every node."""
        bounds = [(lower, upper)]
        for position, node in enumerate(self.graph.nodes[1:], 1):
            arguments = [bounds[i] for i in node.inputs]
            layer = self.graph.layer_at.get(position)
            if layer is not None:
                bounds.append(layer.interval(arguments))
                continue
            bounds.append(affine_interval(self.rounding, position, arguments))
        return bounds

    def _measured(self, lower: Tensor, upper: Tensor) -> list[tuple[Tensor, Tensor]]:  # (1, D) -> (1, n) twice a node
        """As `_forward`, statistically."""
        source = torch.Generator().manual_seed(0)

        def moved(middle: Tensor, reach: Tensor) -> Tensor:  # (1, n) or (1 + COPIES, n), (1, n)
            """The first as it is, the copies moved by up to `reach`."""
            shift = 2 * torch.rand(1 + COPIES, middle.shape[1], dtype=torch.float64, generator=source) - 1
            shift[0] = 0
            return middle + shift * reach

        bounds, values = [(lower, upper)], [moved((lower + upper) / 2, (upper - lower) / 2)]
        for position, node in enumerate(self.graph.nodes[1:], 1):
            arguments = [values[i] for i in node.inputs]
            if isinstance(node, Activation):
                values.append(node.function.value(arguments[0]))
                bounds.append(node.function.interval(*bounds[node.inputs[0]]))
                continue
            if isinstance(node, Multivariate):
                sizes = [self.graph.nodes[source].size for source in node.inputs]
                reach = node.function.reach(*(argument[:1].abs() for argument in arguments))
                error = gamma(node.function.terms(sizes), torch.float64) * reach
                values.append(moved(node.function.value(*arguments), error))
                bounds.append(node.function.interval(*(bounds[source] for source in node.inputs)))
                continue
            node = self.graph.affine(position)
            value, error = node.apply(arguments), gamma(3, torch.float64) * node.bias.abs()[None]
            if node.doubt is not None:
                error = error + node.doubt
            for magnitude, argument in zip(self.rounding.magnitude[position], arguments, strict=True):
                error = error + gamma(magnitude.terms + 3, torch.float64) * magnitude.apply(argument[:1].abs())
            value = moved(value, error)
            radius = SPREADS * (value[1:] - value[:1]).abs().amax(0, keepdim=True) + error
            values.append(value)
            bounds.append((value[:1] - radius, value[:1] + radius))
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
