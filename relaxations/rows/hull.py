"""Rows of a layer: the hulls of many groups of its ReLUs over octahedra of their pre-activations.

The batched `kernels.hull` makes them; here they are judged: a row that single neurons imply, or that another has
already, goes, and of each group the deepest stay. Soundness: outward rounded, as the kernel is; any row may be dropped.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...kernels.hull import Hulls, relu_hulls
from ...kernels.octahedron import Octahedron
from ...problems.errors import BadInput
from ..linear.neuron_rows import Facets


def layer_facets(
    position: int,
    groups: Tensor,  # (G, K) int64 neurons of the layer
    limits: Tensor,  # (G, T) of the octahedron of each group, rows as in `template`
    template: Octahedron,
    *,
    slope: float = 0.0,
    points: tuple[Tensor, Tensor] | None = None,  # (E, n) twice: z and y of the layer, to be cut off
    most: int | None = None,  # rows a group, the deepest first
) -> Facets:
    """The rows of all groups of the activation node `position`, without those that single neurons imply.

    A row stays if it cuts something off the product of the groups' triangles; its depth is how far it cuts, for
    coefficients of size 1 and neurons of width 1. Raises BadInput where the template does not fit, or where a neuron's
    interval is not finite.
    """
    if groups.ndim != 2 or limits.ndim != 2 or len(groups) != len(limits):
        raise BadInput(f"groups (G, K) and limits (G, T) must match, not {tuple(groups.shape)}, {tuple(limits.shape)}")
    if groups.shape[1] != template.size or limits.shape[1] != len(template):
        wanted = f"(G, {template.size}) and (G, {len(template)})"
        raise BadInput(f"this octahedron takes groups and limits of shape {wanted}, not {tuple(limits.shape)}")
    lower, upper = -limits[:, template.lower], limits[:, template.upper]
    if not bool((lower.isfinite() & upper.isfinite()).all()):
        raise BadInput("a group's neuron has no finite interval; bound the layer's pre-activations first")
    aims = None if points is None else torch.cat([p[:, groups].movedim(0, 1) for p in points], -1)
    hulls = relu_hulls(template, limits, slope, aims)
    depth = _depth(hulls, lower, upper, slope)
    keep = (depth > 0) & _first(hulls) & (hulls.on_post != 0).any(-1)
    if most is not None:
        deepest = torch.where(keep, depth, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :most]
        keep &= torch.zeros_like(keep).scatter_(1, deepest, True)
    keep |= (hulls.offset < 0) & (hulls.on_post == 0).all(-1) & (hulls.on_pre == 0).all(-1) & _first(hulls)  # empty
    group, row = keep.nonzero(as_tuple=True)
    return Facets(position, groups[group], *(t[group, row] for t in hulls))


def _depth(hulls: Hulls, lower: Tensor, upper: Tensor, slope: float) -> Tensor:  # (G, C)
    """How far beyond its offset a row reaches on the product of triangles, relative; 0 where not at all. Heuristic."""
    low, high = lower[:, None], upper[:, None]
    ends = [hulls.on_pre * z + hulls.on_post * torch.maximum(z, slope * z) for z in (low, high)]
    kink = torch.where((low < 0) & (high > 0), 0.0, -torch.inf)
    most = torch.maximum(torch.maximum(*ends), kink).sum(-1)
    size = ((hulls.on_pre.abs() + hulls.on_post.abs()) * (high - low)).sum(-1)
    depth = (most - hulls.offset) / size.clamp(min=torch.finfo(size.dtype).tiny)
    return torch.where(depth > _same(depth.dtype), depth, 0.0)


def _same(dtype: torch.dtype) -> float:
    """What makes no difference between two rows: the batched hull's corners are that far off."""
    return max(1e-6, 256 * torch.finfo(dtype).eps)


def _first(hulls: Hulls) -> Tensor:  # (G, C)
    """Whether a row is the tightest of those with, nearly, its coefficients (the first where they tie)."""
    rows = torch.cat([hulls.on_post, hulls.on_pre], -1)
    number = torch.arange(rows.shape[1], device=rows.device)
    step, found = max(1, 4_000_000 // max(1, rows.shape[1] ** 2)), []
    for some, offset in zip(rows.split(step), hulls.offset.split(step), strict=True):
        same = torch.cdist(some, some, p=torch.inf) <= 2 * _same(rows.dtype)
        better = offset[:, :, None] > offset[:, None]
        better |= (offset[:, :, None] == offset[:, None]) & (number[:, None] > number)
        found.append(~(same & better).any(-1))
    return torch.cat(found)
