"""The proof of a group's rows: their offsets over all orthants, without the heights of the corners in memory.

    offset = max over orthants s that P may meet of  lambda t + sum_i max { (f_s - lambda T)_i z_i : z_i in s } + lost

for rows (f on z, c on y), f_s = f + c a_s, lambda the clamped prices of the basis at the corner where f_s z is largest.
A program takes HIGH rows of one group. For each orthant it holds the heights of all its rows at all corners as one tile
(HIGH, WIDE), finds the last place of the largest, reads the basis of that corner alone, and keeps the largest bound. An
orthant that P is proved to miss is skipped, so groups with stable neurons cost less.

Bytes, for each group of C rows, V corners and K neurons, all in float64: rows 16 C K read and offsets 8 C written;
corners 8 V K, their orthants 2^K V and bases 8 V K (2 K + 1) read, from the cache after a group's first program. For
K = 3, 57 rows and 79 corners 19.0 KB. The torch reference moves 30 bytes for each height, 8 C K (2 K + 1) twice for the
bases, and C numbers about 300 times for what follows from them, for each orthant: 2.4 MB. Operations, for each row and
orthant: 2 V K + 3 V for the best corner, 6 K^2 + 16 K for the bound; 0.37 million a group, 20 for every byte. A device
of data centres makes six or seven in that time: the limit is its float64 arithmetic, not its memory.

Soundness: outward rounded, and by the reference's own bound, `kernels.hull._dual_bound`: each inner product is of as
many terms as there (the fourth place of K = 3 holds zeros, which add without error), gamma holds in every order of
summation and with fused multiply-adds, and the same `lost` is added. Which corner is best is heuristic: heights that
are equal up to rounding may choose another basis than the reference does, whose bound is as sound; see there on what
that costs. NaN in a row, or an interval that is infinite where it is needed, shows in the offset, as it does there.
The slope comes as float64 numbers in memory, because Triton passes a Python float as float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..rounding import gamma
from .tile import larger, placed

ENTRIES = 2048  # heights of a tile
_ALL = tl.constexpr(tl.PropagateNan.ALL)


@triton.jit(do_not_specialize=["count"])
def _offsets(
    on_pre,
    on_post,
    corner,
    on,
    table,
    lower,
    upper,
    orthants,
    factors,
    vacant,
    offset,
    count,
    SIZE: tl.constexpr,  # K
    PADDED: tl.constexpr,  # the next power of two
    PLACES: tl.constexpr,  # V
    ERROR: tl.constexpr,
    TINY: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
):
    group, row, inside = placed(count, HIGH)
    k = tl.arange(0, PADDED)
    known = k < SIZE
    first = (group * count + row) * SIZE
    whole = inside & known[None, :]
    square = whole[:, :, None] & known[None, None, :]
    pre = tl.load(on_pre + first[:, None] + k[None, :], mask=whole, other=0.0)
    post = tl.load(on_post + first[:, None] + k[None, :], mask=whole, other=0.0)
    magnitude = tl.abs(pre) + tl.abs(post)
    least = tl.load(lower + group * SIZE + k, mask=known, other=0.0)
    most = tl.load(upper + group * SIZE + k, mask=known, other=0.0)
    place = tl.arange(0, WIDE)
    here = place < PLACES
    at = group * PLACES + place
    largest = tl.full((HIGH,), float("-inf"), pre.dtype)
    for number in range(1 << SIZE):
        if tl.load(vacant + group * (1 << SIZE) + number) == 0:
            height = tl.zeros((HIGH, WIDE), pre.dtype)
            for i in tl.static_range(SIZE):
                part = tl.load(on_pre + first + i, mask=row < count, other=0.0)
                times = tl.load(factors + number * SIZE + i)
                part += tl.load(on_post + first + i, mask=row < count, other=0.0) * times
                height += part[:, None] * tl.load(corner + at * SIZE + i, mask=here, other=0.0)[None, :]
            # As in the reference, -1e200 keeps corners of other orthants out, and of equal ones the last is taken.
            outside = tl.load(on + at * (1 << SIZE) + number, mask=here, other=0) == 0
            height = tl.where(outside[None, :], height - 1e200, height)
            top = tl.max(tl.where(here[None, :], height, float("-inf")), axis=1)
            best = tl.max(tl.where((height == top[:, None]) & here[None, :], place[None, :], 0), axis=1)

            positive = tl.load(orthants + number * SIZE + k, mask=known, other=1.0) > 0
            low = tl.where(positive, larger(least, 0.0), least)[None, :]
            high = tl.where(positive, most, tl.minimum(most, 0.0, propagate_nan=_ALL))[None, :]
            reach = larger(tl.abs(low), tl.abs(high))
            form = pre + post * tl.load(factors + number * SIZE + k, mask=known, other=0.0)[None, :]
            basis = table + (group * PLACES + best) * (SIZE * (2 * SIZE + 1))
            entry = basis[:, None, None] + (k[:, None] * SIZE + k[None, :])[None, :, :]
            inverse = tl.load(entry, mask=square, other=0.0)
            normals = tl.load(entry + SIZE * SIZE, mask=square, other=0.0)
            limits = tl.load(basis[:, None] + 2 * SIZE * SIZE + k[None, :], mask=whole, other=0.0)
            price = larger(tl.sum(inverse * form[:, None, :], axis=2), 0.0)
            paid = price * limits
            taken = price[:, :, None] * normals
            rest = form - tl.sum(taken, axis=1)
            # The larger of the two ends' products is the interval's, whatever the sign of `rest`.
            charge = larger(rest * low, rest * high)
            doubt = (magnitude + tl.sum(tl.abs(taken), axis=1)) * reach + tl.abs(charge) + tl.abs(paid)
            bound = tl.sum(paid + charge, axis=1) + (1.01 * (ERROR * tl.sum(doubt, axis=1)) + TINY)
            largest = larger(largest, bound)
    tl.store(offset + group * count + row, largest, mask=row < count)


def offsets(
    on_pre: Tensor,  # (G, C, K) float64, as are all but `on` and `vacant`
    on_post: Tensor,  # (G, C, K)
    corner: Tensor,  # (G, V, K)
    on: Tensor,  # (G, V, 2^K) bool
    table: Tensor,  # (G V, K (2 K + 1)) the bases, as `kernels.hull._table` lays them out
    lower: Tensor,  # (G, K)
    upper: Tensor,  # (G, K)
    orthants: Tensor,  # (2^K, K) entries -1, 1
    factors: Tensor,  # (2^K, K) dy / dz there
    vacant: Tensor,  # (G, 2^K) bool: P is proved to miss the orthant
) -> Tensor:  # (G, C)
    """As the reference in `kernels.hull.proved`: -inf where every orthant is vacant. Outward rounded."""
    groups, count, size = on_pre.shape
    offset = on_pre.new_empty(groups, count)
    tensors = (on_pre, on_post, corner, on.view(torch.uint8), table, lower, upper, orthants, factors)
    grid, shape = launch(groups, count, corner.shape[1], size)
    with torch.cuda.device_of(on_pre):
        _offsets[grid](
            *(t.contiguous() for t in tensors), vacant.contiguous().view(torch.uint8), offset, count, **shape
        )
    return offset


def launch(groups: int, count: int, places: int, size: int) -> tuple[tuple[int], dict[str, int | float]]:
    """The grid, one program for each group and each HIGH rows of it, and what is fixed when the kernel is compiled."""
    wide = triton.next_power_of_2(places)
    high = min(triton.next_power_of_2(max(count, 1)), ENTRIES // wide)
    fixed = {
        "SIZE": size,
        "PADDED": triton.next_power_of_2(size),
        "PLACES": places,
        "ERROR": gamma(2 * size + 6, torch.float64),
        "TINY": 64 * torch.finfo(torch.float64).tiny,
        "HIGH": high,
        "WIDE": wide,
        "num_warps": max(1, min(4, high * wide // 256)),
    }
    return (groups * triton.cdiv(count, high),), fixed
