"""The slide from the interior of a hull to its facets, without gains and ratios in memory.

For each aim, in coordinates around an interior point, 2 K steps:

    way <- way / |way|,   v = argmax { way x_v / (1 - w x_v) : way x_v > LEVEL },   w <- w + way (1 - w x_v) / way x_v,
    u = x_v without its part in the span of the u before, u <- u / |u|,             way <- way - (way u) u.

A program takes HIGH aims of one group, and all of their state stays in it from the first step to the last: way and w
(HIGH, 2 K), 1 - w x (HIGH, WIDE), and the directions u met so far, a tile (HIGH, 2 K, 2 K) with a row filled each step
and zeros below. It ends with the row in the units of z and y, its largest coefficient 1.

*Orthogonalisation* is classical Gram and Schmidt's, twice, where the reference does the modified one, once: zeros are
no directions, so all directions of the tile are taken off at a time, in two sums. Once would lose orthogonality with
the square of the condition number, the modified one with the number itself; twice is enough, up to the last places, as
long as the corners are independent numerically (Giraud, Langou, Rozloznik and van den Eshof 2005). Where they are not,
in flat groups, the direction is what rounding leaves, in the reference as well; here it is orthogonal to the others.

Bytes, for each group of R aims, V corners and K neurons: corners 16 K V and aims 16 K R read, rows 16 K R written, all
float64. For K = 3, 56 aims and 79 corners 9.3 KB. The torch reference writes the gains of a step, reads them against
the level, divides, takes the largest, looks for its place (one byte each), and updates 1 - w x: 110 bytes an aim,
corner and step, 2.9 MB. Operations, for each aim and step: 4 K V for the gains, 7 V for the ratio test (a division,
four comparisons) and the update, 32 K^2 to orthogonalise, 24 K for lengths, projection and w; 0.63 million a group, 67
for every byte: the limit is float64 arithmetic. Tiles are powers of two: of the lanes of K = 3, 79 of 128 carry a
corner and 6 of 8 a coordinate. Corners lie by coordinate, so that a warp reads neighbours; that costs one copy of them.

Heuristic: rows are proved afterwards. Which corner is met first is decided by rounding where several tie; the row is
then another than the reference's through the same corners, or a facet beside it. NaN in a corner is NaN in the centre
as well, and so in the way, whose length carries it to all of w: such a row comes out as zeros, as in the reference.
Places without a corner hold a copy of one (`octahedron.corners`), which is met where that one is.
Thresholds are tensors: Triton rounds a bare float that it compares with to float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tile import larger, placed

ENTRIES = 1024  # of a tile of gains
_TINY = tl.constexpr(torch.finfo(torch.float64).tiny)


@triton.jit
def _unit(vector):  # (HIGH, PADDED)
    """Each row divided by its length; zeros stay, NaN spreads."""
    return vector / tl.sqrt(larger(tl.sum(vector * vector, axis=1), _TINY))[:, None]


@triton.jit(do_not_specialize=["count"])
def _slide(
    across,
    aims,
    scale,
    centre,
    noise,
    rows,
    count,
    SIZE: tl.constexpr,  # 2 K
    PADDED: tl.constexpr,  # the next power of two
    PLACES: tl.constexpr,  # V
    LEVEL: tl.constexpr,
    SLOWEST: tl.constexpr,
    CLOSEST: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
):
    group, row, inside = placed(count, HIGH)
    k = tl.arange(0, PADDED)
    known = k < SIZE
    whole = inside & known[None, :]
    at = (group * count + row)[:, None] * SIZE + k[None, :]
    unit_of = tl.load(scale + group * SIZE + k, mask=known, other=1.0)[None, :]
    way = tl.load(aims + at, mask=whole, other=0.0) / unit_of
    way -= tl.load(centre + group * SIZE + k, mask=known, other=0.0)[None, :]
    way += tl.load(noise + row[:, None] * SIZE + k[None, :], mask=whole, other=0.0)
    place = tl.arange(0, WIDE)
    here = place < PLACES
    corners = across + group * (SIZE * PLACES)
    w = tl.zeros((HIGH, PADDED), way.dtype)
    met = tl.zeros((HIGH, PADDED, PADDED), way.dtype)
    left = tl.full((HIGH, WIDE), 1.0, way.dtype)  # 1 - w x
    level = tl.full((HIGH, 1), LEVEL, way.dtype)
    slowest = tl.full((HIGH,), SLOWEST, way.dtype)
    closest = tl.full((HIGH, 1), CLOSEST, way.dtype)
    for step in range(SIZE):
        way = _unit(way)
        gain = tl.zeros((HIGH, WIDE), way.dtype)
        for i in tl.static_range(SIZE):
            part = tl.sum(tl.where(k[None, :] == i, way, 0.0), axis=1)
            gain += part[:, None] * tl.load(corners + i * PLACES + place, mask=here, other=0.0)[None, :]
        # A corner that is met stays met, as in the reference; places beyond the corners gain nothing.
        ratio = tl.where(gain <= level, 0.0, gain / left)
        fastest = tl.max(ratio, axis=1)
        first = tl.max(tl.where((ratio == fastest[:, None]) & here[None, :], place[None, :], 0), axis=1)
        length = 1.0 / larger(fastest, slowest)
        w += way * length[:, None]
        left = larger(left - gain * length[:, None], closest)
        corner = tl.load(corners + k[None, :] * PLACES + first[:, None], mask=known[None, :], other=0.0)
        for _ in tl.static_range(2):
            along = tl.sum(met * corner[:, None, :], axis=2)
            corner -= tl.sum(met * along[:, :, None], axis=1)
        corner = _unit(corner)
        way -= tl.sum(way * corner, axis=1)[:, None] * corner
        met = tl.where((k == step)[None, :, None], corner[:, None, :], met)
    w = w / unit_of
    w = w / larger(tl.max(tl.abs(w), axis=1), 1e-300)[:, None]
    tl.store(rows + at, tl.where(tl.abs(w) >= tl.full((HIGH, 1), 1e-12, w.dtype), w, 0.0), mask=whole)


def slid(
    x: Tensor,  # (G, V, 2 K) float64, as all are: the corners in units of `scale`, around `centre`
    aims: Tensor,  # (G, R, 2 K)
    scale: Tensor,  # (G, 1, 2 K)
    centre: Tensor,  # (G, 1, 2 K)
    noise: Tensor,  # (R, 2 K)
    level: float,
    slowest: float,
    closest: float,
) -> Tensor:  # (G, R, 2 K)
    """As the reference in `kernels.hull.slide`. Heuristic."""
    groups, count, size = aims.shape
    rows = aims.new_empty(groups, count, size)
    grid, shape = launch(groups, count, x.shape[1], size)
    with torch.cuda.device_of(aims):
        _slide[grid](
            *(t.contiguous() for t in (x.mT, aims, scale, centre, noise)),
            *(rows, count),
            LEVEL=level,
            SLOWEST=slowest,
            CLOSEST=closest,
            **shape,
        )
    return rows


def launch(groups: int, count: int, places: int, size: int) -> tuple[tuple[int], dict[str, int]]:
    """The grid, one program for each group and each HIGH aims of it, and the shape of its tiles; `size` is 2 K."""
    wide = triton.next_power_of_2(places)
    high = min(triton.next_power_of_2(max(count, 1)), ENTRIES // wide)
    fixed = {
        "SIZE": size,
        "PADDED": triton.next_power_of_2(size),
        "PLACES": places,
        "HIGH": high,
        "WIDE": wide,
        "num_warps": max(1, high * wide // 256),
    }
    return (groups * triton.cdiv(count, high),), fixed
