"""The root of a search: bounds on the whole input set, and with them the rounding vectors every piece will use.

Rounding vectors need magnitudes, magnitudes need bounds, and interval bounds of a deep network are useless for it
(they grow by an order of magnitude a layer). So the two advance together: layer k is bounded with vectors built from
the proved bounds of the layers before it.

Soundness: outward rounded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..problems.graph import Graph
from ..problems.property import Polytope
from .linear import Linear, part
from .rounding import magnitudes, scales
from .types import Pieces


def root(
    graph: Graph,  # float64, CPU
    working: Graph,  # the same in the dtype and on the device of the search
    lower: Tensor,  # (D,) float64, CPU
    upper: Tensor,  # (D,)
    rule: str = "crown",
) -> tuple[Linear, Pieces, list[Tensor]]:
    """The relaxation to search with, the box as one piece with its pre-activation bounds, and |value| of every node."""
    dtype, device = working.nodes[-1].bias.dtype, working.nodes[-1].bias.device
    largest = torch.maximum(lower.abs(), upper.abs())
    pieces = Pieces.boxes(*outward(lower[None], upper[None], dtype, device), graph.neurons)
    proved: dict[int, tuple[Tensor, Tensor]] = {}
    lines = {}
    for position in graph.activations:
        linear = Linear(working, scales(graph, magnitudes(graph, largest, proved), dtype, device), rule)
        low, high = part(graph, pieces, position)
        new_low, new_high = linear.pre_activation(pieces, lines, position, low, high)
        torch.maximum(low, new_low, out=low)
        torch.minimum(high, new_high, out=high)
        torch.maximum(low, high, out=high)
        lines[position] = linear.lines(position, low, high)
        proved[position] = (low[0].double().cpu(), high[0].double().cpu())
    sizes = magnitudes(graph, largest, proved)
    return Linear(working, scales(graph, sizes, dtype, device), rule), pieces, sizes


def outward(lower: Tensor, upper: Tensor, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The float64 box [lower, upper] in `dtype`, rounded so that it contains the original."""
    low, high = lower.to(dtype), upper.to(dtype)
    low = torch.where(low.double() > lower, torch.nextafter(low, low.new_tensor(-torch.inf)), low)
    high = torch.where(high.double() < upper, torch.nextafter(high, high.new_tensor(torch.inf)), high)
    return low.to(device), high.to(device)


def outward_half_spaces(
    polytopes: Sequence[Polytope],
    lower: Tensor,  # (B, D) their boxes
    upper: Tensor,
) -> tuple[Tensor, Tensor]:  # (B, H, D), (B, H)
    """The polytopes' half-spaces in the boxes' dtype, moved outwards by what rounding can change on the box; where a
    polytope has fewer than the others, zero normals with infinite offsets."""
    most = max(len(p.offsets) for p in polytopes)
    normals = np.zeros((len(polytopes), most, lower.shape[1]))
    offsets = np.full((len(polytopes), most), np.inf)
    for row, polytope in enumerate(polytopes):
        normals[row, : len(polytope.offsets)] = polytope.normals
        offsets[row, : len(polytope.offsets)] = polytope.offsets
    exact = torch.from_numpy(normals)
    rounded = exact.to(lower.dtype)
    largest = torch.maximum(lower.abs(), upper.abs()).double().cpu()
    moved = torch.from_numpy(offsets) + ((rounded.double() - exact).abs() * largest[:, None]).sum(-1) * (1 + 1e-12)
    up = moved.to(lower.dtype)
    up = torch.where(up.double() < moved, torch.nextafter(up, up.new_tensor(torch.inf)), up)
    return rounded.to(lower.device), up.to(lower.device)
