"""Clipping: cut off what the bounds just proved to be harmless.

A counterexample makes every row of its unsafe set <= 0. Since row s is at least form_s(x) + constant_s on the piece,
it lies in the half-space form_s x <= -constant_s; the box shrinks to what these half-spaces, and those the piece
already has, leave of it. The idea is Clip-and-Verify's (NeurIPS 2025); here the rows of one unsafe set clip together,
and may stay with the piece as half-spaces, which then tighten its children's bounds.

Soundness: outward rounded; no counterexample is cut off.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..kernels.polytope import clip_box
from .types import Pieces, Result


def clip(pieces: Pieces, result: Result, keep: int = 0) -> tuple[Pieces, Tensor]:  # -> pieces, empty (B,)
    """The pieces clipped by the rows' forms; `keep` half-spaces, the newest, stay with them."""
    normals = torch.cat([pieces.normals, result.forms], 1)
    offsets = torch.cat([pieces.offsets, -result.constants], 1)
    lower, upper, empty = clip_box(pieces.lower, pieces.upper, normals, offsets)
    if keep:
        pieces = replace(pieces, normals=normals[:, -keep:], offsets=offsets[:, -keep:])
    return replace(pieces, lower=lower, upper=upper), empty
