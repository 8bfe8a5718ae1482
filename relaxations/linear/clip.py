"""Clipping: cut off what the bounds just proved to be harmless.

A counterexample makes every row of its unsafe set <= 0. Since row s is at least form_s(x) + constant_s on the piece,
it lies in the half-space form_s x <= -constant_s; the box shrinks to what these half-spaces, and those the piece
already has, leave of it. The idea is Clip-and-Verify's (NeurIPS 2025); here the rows of one unsafe set clip together.
Rows each negative somewhere but never together leave a box behind that holds no counterexample: minimising one of them
over the half-spaces of the others finds that out (a conjunction of three rows in nine inputs: 80,000 pieces and no end
before, 11,000 after).

Soundness: outward rounded; no counterexample is cut off.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...kernels.polytope import clip_box, polytope_minimum
from ..types import Pieces, Result


def clip(pieces: Pieces, result: Result) -> tuple[Pieces, Tensor]:  # -> pieces, empty (B,)
    """The pieces clipped by the rows' forms."""
    normals = torch.cat([pieces.normals, result.forms], 1)
    offsets = torch.cat([pieces.offsets, -result.constants], 1)
    lower, upper, empty = clip_box(pieces.lower, pieces.upper, normals, offsets)
    empty |= none_left(pieces, result, lower, upper)
    return replace(pieces, lower=lower, upper=upper), empty


def none_left(pieces: Pieces, result: Result, lower: Tensor, upper: Tensor) -> Tensor:  # (B,) bool
    """Whether no point of the box satisfies all half-spaces of the piece and of its rows' forms. Outward rounded."""
    if result.forms.shape[1] + pieces.normals.shape[1] < 2:
        return torch.zeros_like(result.empty)
    normals = torch.cat([pieces.normals, result.forms], 1)
    offsets = torch.cat([pieces.offsets, -result.constants], 1)
    least, _ = polytope_minimum(normals, lower, upper, normals, offsets)
    rounding = 2 * torch.finfo(least.dtype).eps * (least.abs() + offsets.abs())
    return (least - offsets > rounding).any(1)
