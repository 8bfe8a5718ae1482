"""The root of a search: bounds on the whole input set, and with them the rounding vectors every piece will use.

Rounding vectors need magnitudes, magnitudes need bounds, and interval bounds of a deep network are useless for it
(they grow by an order of magnitude a layer). So the two advance together: layer k is bounded with vectors built from
the proved bounds of the layers before it.

Soundness: outward rounded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..problems.graph import Graph
from .linear import Linear, part
from .rounding import magnitudes, scales
from .types import Pieces


def root(
    graph: Graph,  # float64, CPU
    working: Graph,  # the same in the dtype and on the device of the search
    lower: Tensor,  # (D,) float64, CPU
    upper: Tensor,  # (D,)
    rule: str = "crown",
) -> tuple[Linear, Pieces, Tensor]:
    """The relaxation to search with, the box as one piece with its pre-activation bounds, and whether it is empty."""
    dtype, device = working.nodes[-1].bias.dtype, working.nodes[-1].bias.device
    largest = torch.maximum(lower.abs(), upper.abs())
    pieces = Pieces.boxes(*outward(lower[None], upper[None], dtype, device), graph.neurons)
    empty = torch.zeros(1, dtype=torch.bool, device=device)
    proved: dict[int, tuple[Tensor, Tensor]] = {}
    lines = {}
    linear = None
    for position in graph.activations:
        linear = Linear(working, scales(graph, magnitudes(graph, largest, proved), dtype, device), rule)
        low, high = part(graph, pieces, position)
        new_low, new_high = linear.pre_activation(pieces, lines, position, low, high)
        torch.maximum(low, new_low, out=low)
        torch.minimum(high, new_high, out=high)
        empty |= (low > high).any(-1)
        torch.maximum(low, high, out=high)
        lines[position] = linear.lines(position, low, high)
        proved[position] = (low[0].double().cpu(), high[0].double().cpu())
    return Linear(working, scales(graph, magnitudes(graph, largest, proved), dtype, device), rule), pieces, empty


def outward(lower: Tensor, upper: Tensor, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The float64 box [lower, upper] in `dtype`, rounded so that it contains the original."""
    low, high = lower.to(dtype), upper.to(dtype)
    low = torch.where(low.double() > lower, torch.nextafter(low, low.new_tensor(-torch.inf)), low)
    high = torch.where(high.double() < upper, torch.nextafter(high, high.new_tensor(torch.inf)), high)
    return low.to(device), high.to(device)
