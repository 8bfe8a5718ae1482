"""The two passes of a primal-dual step over its vectors, each in one reading.

    bar  = 2 clip(x - tau (c - g), lower, upper) - x              next = anchor + w (bar - anchor)
    bar  = 2 (max(y + sigma (low - a), 0) + min(y + sigma (high - a), 0)) - y,    next likewise

Vectors are (n, B), contiguous, a program a column; tau, sigma and w are given a column each. An open side of a row is
an infinity, which the maximum or minimum turns to zero.

Bytes, for n B entries of w bytes: 6 readings and 2 writings for the primal pass, 5 and 2 for the dual one. The torch
reference makes 9 operations (primal; 10 dual), each of 2 or 3 such passes: 24 readings and writings where this makes 8
(dual: 26 and 7). Operations: 8 an entry: memory's bandwidth is the limit.

Heuristic: what comes out is judged by `weak_duality`. It may differ from the reference by a few units in the last
place, where a fused multiply-add takes a rounding away. Reference: `kernels.first_order`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ENTRIES = 1024  # of a program


@triton.jit(do_not_specialize=["count", "columns"])
def _primal(
    x, anchor, gradient, cost, lower, upper, step, weight, bar, following, count, columns, ENTRIES: tl.constexpr
):
    at = tl.program_id(0).to(tl.int64) * ENTRIES + tl.arange(0, ENTRIES)
    inside = at < count
    column = at % columns
    here = tl.load(x + at, mask=inside, other=0.0)
    start = tl.load(anchor + at, mask=inside, other=0.0)
    change = tl.load(gradient + at, mask=inside, other=0.0) - tl.load(cost + at, mask=inside, other=0.0)
    moved = here + tl.load(step + column, mask=inside, other=0.0) * change
    moved = tl.maximum(moved, tl.load(lower + at, mask=inside, other=0.0))
    moved = tl.minimum(moved, tl.load(upper + at, mask=inside, other=0.0))
    reflected = 2 * moved - here
    tl.store(bar + at, reflected, mask=inside)
    tl.store(
        following + at, start + tl.load(weight + column, mask=inside, other=0.0) * (reflected - start), mask=inside
    )


@triton.jit(do_not_specialize=["count", "columns"])
def _dual(
    y, anchor, activity, row_lower, row_upper, step, weight, bar, following, count, columns, ENTRIES: tl.constexpr
):
    at = tl.program_id(0).to(tl.int64) * ENTRIES + tl.arange(0, ENTRIES)
    inside = at < count
    column = at % columns
    here = tl.load(y + at, mask=inside, other=0.0)
    start = tl.load(anchor + at, mask=inside, other=0.0)
    reached = tl.load(activity + at, mask=inside, other=0.0)
    sigma = tl.load(step + column, mask=inside, other=0.0)
    below = tl.maximum(here + sigma * (tl.load(row_lower + at, mask=inside, other=0.0) - reached), 0.0)
    above = tl.minimum(here + sigma * (tl.load(row_upper + at, mask=inside, other=0.0) - reached), 0.0)
    reflected = 2 * (below + above) - here
    tl.store(bar + at, reflected, mask=inside)
    tl.store(
        following + at, start + tl.load(weight + column, mask=inside, other=0.0) * (reflected - start), mask=inside
    )


def primal_step(
    x: Tensor,  # (V, B)
    anchor: Tensor,
    gradient: Tensor,
    cost: Tensor,
    lower: Tensor,
    upper: Tensor,
    step: Tensor,  # (B,)
    weight: Tensor,  # (B,)
) -> tuple[Tensor, Tensor]:  # (V, B), (V, B)
    """As `kernels.first_order.primal_step`."""
    return _launch(_primal, (x, anchor, gradient, cost, lower, upper), step, weight)


def dual_step(
    y: Tensor,  # (R, B)
    anchor: Tensor,
    activity: Tensor,
    row_lower: Tensor,
    row_upper: Tensor,
    step: Tensor,  # (B,)
    weight: Tensor,  # (B,)
) -> tuple[Tensor, Tensor]:  # (R, B), (R, B)
    """As `kernels.first_order.dual_step`."""
    return _launch(_dual, (y, anchor, activity, row_lower, row_upper), step, weight)


def _launch(
    kernel: triton.JITFunction, vectors: tuple[Tensor, ...], step: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    first = vectors[0]
    vectors = tuple(v.contiguous() for v in vectors)
    bar, following = torch.empty_like(vectors[0]), torch.empty_like(vectors[0])
    with torch.cuda.device_of(first):
        kernel[(triton.cdiv(first.numel(), ENTRIES),)](
            *vectors,
            *(step.contiguous(), weight.contiguous(), bar, following, first.numel(), first.shape[1]),
            ENTRIES=ENTRIES,
            num_warps=4,
        )
    return bar, following
