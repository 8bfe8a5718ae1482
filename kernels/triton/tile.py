"""How all kernels walk over coefficients (B, R, n): a tile of a few rows, from left to right.

A program takes `high` rows of one piece and goes over their n columns, `wide` at a time; lane j of row r keeps the sum
of the terms j, j + wide, j + 2 wide ... At the end the lanes are added up, in two stages: the `LANES` of each group,
then the wide / LANES groups. No partial sum ever leaves the program: no atomics, so the same input gives the same
output, bit for bit.

Rounding. Let m = ceil(n / LANES) and G = wide / LANES. A term meets: its product, 1; the additions of its lane after
the first, ceil(m / G) - 1; the first stage, at most LANES - 1 in whatever order the compiler chooses; the second, at
most min(m, G) - 1, because groups that hold no term hold zeros, which add without error. Together

    ceil(m / G) + min(m, G) + LANES - 2  <=  m + LANES - 1,

because ceil(m / G) + min(m, G) <= m + 1: for m <= G both sides are m + 1; for m > G > 1 the left side is at most
(m - 1) / G + 1 + G, and (m - 1) / G + G <= m is (G - 1) (G + 1) <= m (G - 1), that is, G < m. For n <= LANES only n
lanes hold terms, and n roundings are all there are. So the count never exceeds `depth(n)` of `kernels.dot` for
LANES = 64, and the bounds stated there hold for these kernels as well; fused multiply-adds only take roundings away.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LANES = 64  # `BLOCK` of `kernels.dot`
_LANES = tl.constexpr(LANES)

# Fewer programs than this leave a large device idle: rows are shared out in fours only above it.
PROGRAMS = 512
# Entries of a tile, and entries a thread holds of it.
ENTRIES, HELD = 1024, 8
_ALL = tl.constexpr(tl.PropagateNan.ALL)


@triton.jit
def placed(count, HIGH: tl.constexpr):
    """A program's piece, its rows (HIGH,), and which of them there are, (HIGH, 1); `count` rows a piece."""
    tiles = tl.cdiv(count, HIGH)
    piece = (tl.program_id(0) // tiles).to(tl.int64)
    row = ((tl.program_id(0) % tiles) * HIGH + tl.arange(0, HIGH)).to(tl.int64)
    return piece, row, (row < count)[:, None]


@triton.jit
def larger(a, b):
    """max(a, b), NaN where either is, as in torch; Triton's own drops it on a device (not under the interpreter)."""
    return tl.maximum(a, b, propagate_nan=_ALL)


@triton.jit
def total(lanes, HIGH: tl.constexpr, WIDE: tl.constexpr):
    """The sum of each row's lanes, (HIGH, WIDE) -> (HIGH,), in the two stages of the essay."""
    return tl.sum(tl.sum(tl.reshape(lanes, (HIGH, WIDE // _LANES, _LANES)), axis=2), axis=1)


@triton.jit
def spread(start, row, column, row_stride, inside, here, PER_ROW: tl.constexpr):
    """A tile of what is given once a piece, (1, WIDE), or once a row, (HIGH, WIDE); zero outside."""
    if PER_ROW:
        value = tl.load(start + row[:, None] * row_stride + column[None, :], mask=inside & here[None, :], other=0.0)
    else:
        value = tl.load(start + column, mask=here, other=0.0)[None, :]
    return value


def launch(pieces: int, rows: int, size: int) -> tuple[tuple[int], dict[str, int]]:
    """The grid, one program for each piece and each HIGH rows of it, and the shape of its tiles.

    Only few shapes occur, because each is compiled anew.
    """
    wide = LANES if size <= LANES else 256 if size <= 256 else ENTRIES
    high = 1
    while high * 4 <= min(rows, ENTRIES // 64) and pieces * triton.cdiv(rows, high * 4) >= PROGRAMS:
        high *= 4
    wide = min(wide, ENTRIES // high)
    warps = max(1, high * wide // (32 * HELD))
    return (pieces * triton.cdiv(rows, high),), {"HIGH": high, "WIDE": wide, "num_warps": warps}


def laid(value: Tensor, size: int) -> tuple[Tensor, int, int]:
    """A tensor (n,), (B, n) or (B, R, n) whose last stride is one, and its strides by piece and by row.

    Broadcast dimensions, of size one or missing, get stride 0: nothing is expanded. Raises ValueError if n is not
    `size`.
    """
    if value.shape[-1] != size:
        raise ValueError(f"a tensor of shape {tuple(value.shape)} beside coefficients of {size} columns")
    if value.stride(-1) != 1 and size > 1:
        value = value.contiguous()
    piece = value.stride(0) if value.ndim > 1 and value.shape[0] > 1 else 0
    row = value.stride(1) if value.ndim > 2 and value.shape[1] > 1 else 0
    return value, piece, row


def leading(*tensors: Tensor) -> tuple[int, int]:
    """(B, R) of what tensors (n,), (B, n) and (B, R, n) broadcast to."""
    shapes = [(1, 1) if t.ndim == 1 else (t.shape[0], 1) if t.ndim == 2 else t.shape[:2] for t in tensors]
    pieces, rows = torch.broadcast_shapes(*shapes)
    return pieces, rows
