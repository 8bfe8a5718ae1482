"""Multipliers times sparse rows added to coefficients, with the rounding sum, in one pass.

    result = L + price @ G,    weighed = (|L| + price @ |G|) . weight,

G given by neuron: for column j the rows touching[p, j] with entries entry[p, j], p < P. Every tile of columns walks its
own lists to their end, gathers multipliers and adds; one order for every run, without atomics.

Bytes, for B x R x n coefficients of w bytes: L is read and the result written, 2 B R n w. The lists, P n (w + 4), and
the multipliers, B R C w, are read from memory once; each multiplier is gathered K times, once for each neuron of its
row, from the cache. Operations: 4 P an entry. A dense product reads and writes the same and needs 2 C operations an
entry, on cores for which float32 has no fast path (tensor cores would cut its factors to 10 bits), and the rounding sum
needs its own passes. Rounding: see `kernels.rows`, the reference.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tile import laid, launch, spread, total


@triton.jit(do_not_specialize=["count", "most"])
def _add_rows(
    coefficient,
    price,
    touching,
    entry,
    weight,
    result,
    weighed,
    count,
    size,
    most,
    coefficient_piece,
    coefficient_row,
    price_piece,
    price_row,
    weight_piece,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
):
    tiles = tl.cdiv(count, HIGH)
    piece = (tl.program_id(0) // tiles).to(tl.int64)
    row = ((tl.program_id(0) % tiles) * HIGH + tl.arange(0, HIGH)).to(tl.int64)
    inside = (row < count)[:, None]
    prices = price + piece * price_piece + row[:, None] * price_row
    cost = tl.zeros((HIGH, WIDE), coefficient.dtype.element_ty)
    start = 0
    while start < size:
        column = start + tl.arange(0, WIDE)
        here = column < size
        value = spread(coefficient + piece * coefficient_piece, row, column, coefficient_row, inside, here, True)
        reach = tl.abs(value)
        step = 0
        while step < most:
            times = tl.load(entry + step * size + column, mask=here, other=0.0)[None, :]
            # Where a list has ended, its filler is not gathered: the mask costs nothing, the load would.
            which = tl.load(touching + step * size + column, mask=here, other=0)[None, :]
            paid = tl.load(prices + which, mask=inside & (times != 0), other=0.0)
            value += paid * times
            reach += tl.abs(paid * times)
            step += 1
        cost += reach * tl.load(weight + piece * weight_piece + column, mask=here, other=0.0)[None, :]
        where = piece * count * size + row[:, None] * size + column[None, :]
        tl.store(result + where, value, mask=inside & here[None, :])
        start += WIDE
    tl.store(weighed + piece * count + row, total(cost, HIGH, WIDE), mask=row < count)


def add_rows(
    coefficient: Tensor,  # (B, R, n)
    price: Tensor,  # (B, R, C)
    touching: Tensor,  # (P, n) int32
    entry: Tensor,  # (P, n)
    weight: Tensor,  # (n,) or (B, n)
) -> tuple[Tensor, Tensor]:  # (B, R, n), (B, R)
    """coefficient + price @ G, and the weighed sum of absolute values."""
    pieces, count, size = coefficient.shape
    result, weighed = coefficient.new_empty(coefficient.shape), coefficient.new_empty(pieces, count)
    coefficient, *coefficient_at = laid(coefficient, size)
    price, *price_at = laid(price, price.shape[-1])
    weight, weight_piece, _ = laid(weight, size)
    grid, shape = launch(pieces, count, size)
    with torch.cuda.device_of(coefficient):
        _add_rows[grid](
            *(coefficient, price, touching.contiguous(), entry.contiguous(), weight, result, weighed),
            *(count, size, len(entry), *coefficient_at, *price_at, weight_piece),
            **shape,
        )
    return result, weighed
