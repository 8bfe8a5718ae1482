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

from ...kernels.deadline import TimeUp, check, doing, share, until
from ...kernels.proof_constants import UPWARD_SUM
from ...problems.errors import InternalError
from ...problems.network.graph import Graph
from ...problems.network.layer import Layer
from ...problems.properties.property import Polytope
from ..effort import BOUNDS, BoundEffort
from ..types import Pieces
from .carried import Enclosure
from .interval import affine_interval
from .linear import Linear
from .rounding import Rounding


def root(
    working: Graph,  # in the dtype and on the device of the search
    lower: Tensor,  # (D,) float64, CPU
    upper: Tensor,  # (D,)
    rule: str = "crown",
    deadline: float | None = None,
    effort: BoundEffort = BOUNDS,
) -> tuple[Linear, Pieces]:
    """The relaxation to search with, the box as one piece with its pre-activation bounds.

    Layers, and neurons of a layer, whose turn comes after `deadline`, a value of `kernels.deadline.now`, or when most
    of the time left has passed, keep their intervals: what remains is for the rows that are asked for.
    """
    moments = [moment for moment in (deadline, share(effort.linear.share)) if moment is not None]
    late = min(moments, default=None)
    graph, like = working, working.like
    pieces = Pieces.boxes(*outward(lower[None], upper[None], like.dtype, like.device), graph.neurons)
    rounding = Rounding(working)
    scales = rounding.start(torch.maximum(pieces.lower.abs(), pieces.upper.abs())[0])
    linear = Linear(rounding, scales, rule, effort=effort)
    lines: dict[int, Enclosure] = {}
    ranges = [(pieces.lower, pieces.upper)]  # of every node: neurons that intervals decide need no rows
    for position in range(1, len(graph.nodes)):
        layer = graph.layer_at.get(position)
        if layer is None:
            rounding.extend(scales, position)
            arguments = [ranges[i] for i in graph.nodes[position].inputs]
            ranges.append(affine_interval(rounding, position, arguments))
            continue
        doing(f"layer {graph.layers.index(layer) + 1} of {len(graph.layers)} was bounded")
        ends = pieces.ends(layer)  # views: writing to them writes to the pieces
        for operand, (low, high) in zip(layer.operands, ends, strict=True):
            torch.fmax(low, ranges[operand.source][0], out=low)
            torch.fmin(high, ranges[operand.source][1], out=high)
        for operand, (low, high) in zip(layer.operands, ends, strict=True):
            source = operand.source
            try:
                with until(late):
                    check()
                    new_low, new_high = linear.pre_activation(pieces, scales, lines, operand, partly=True)
                torch.fmax(low, new_low, out=low)
                torch.fmin(high, new_high, out=high)
            except TimeUp:
                pass  # where all time is up, whoever looks at the clock next will say so
            consistent(layer, low, high)
            torch.maximum(low, high, out=high)
            scales.size[source] = torch.minimum(scales.size[source], torch.maximum(low.abs(), high.abs())[0])
            ranges[source] = (low, high)
        lines[position] = linear.enclosed(layer, ends)
        rounding.extend(scales, position, [(low[0], high[0]) for low, high in ends])
        ranges.append(layer.interval(ends))
    return linear, pieces


def consistent(layer: Layer, lower: Tensor, upper: Tensor) -> None:
    """Raises `InternalError` where proved bounds of a layer's pre-activations on a whole box exclude each other.

    A box has points, and each of them gives every neuron a value; so one of the bounds is wrong, and nothing may be
    concluded. (Pieces with half-spaces or decided neurons may be empty: there it means just that.)
    """
    wrong = (lower > upper).nonzero()
    if len(wrong):
        at = tuple(wrong[0].tolist())
        low, high = float(lower[at]), float(upper[at])
        raise InternalError(
            f"neuron {at[-1]} of layer {layer.title!r} is proved to be at least {low} and at most {high}"
        )


def in_float64(graph: Graph, linear: Linear, root: Pieces) -> Linear:
    """The same relaxation in float64 on the device of `root`, on its proved bounds; `graph` in float64 anywhere."""
    rounding = Rounding(graph.to(torch.float64, root.lower.device))
    wide = lambda t: t[0].double()  # noqa: E731
    pre = {layer.position: [(wide(low), wide(high)) for low, high in root.ends(layer)] for layer in graph.layers}
    largest = torch.maximum(wide(root.lower).abs(), wide(root.upper).abs())
    return Linear(rounding, rounding.local(largest, pre), linear.rule, effort=linear.effort)


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
    lost = ((rounded.double() - exact).abs() * largest[:, None]).sum(-1) * UPWARD_SUM
    moved = torch.from_numpy(offsets)
    moved = torch.where(lost > 0, torch.nextafter(moved + lost, moved.new_tensor(torch.inf)), moved)
    up = moved.to(lower.dtype)
    up = torch.where(up.double() < moved, torch.nextafter(up, up.new_tensor(torch.inf)), up)
    return rounded.to(lower.device), up.to(lower.device)
