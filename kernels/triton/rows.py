"""What multipliers add to coefficients: the sum of their rows, and its addition with the rounding sum.

    pull           price @ G
    add_weighed    L + M  and  (|L| + |M|) . weight

G is given by neuron: for column j the rows touching[p, j] with entries entry[p, j], p < P. Every tile of columns walks
its own lists to their end, gathers multipliers and adds; one order for every run, without atomics.

Bytes, for B x R x n coefficients of w bytes. `pull`: the result is written, B R n w; the lists, P n (w + 4), and the
multipliers, B R C w, come from memory once; each multiplier is gathered K times, once for each neuron of its row, from
the cache. Operations: 2 P an entry. A dense product reads and writes the same and needs 2 C operations an entry, on
cores for which float32 has no fast path (tensor cores would cut its factors to 10 bits). `add_weighed`: 2 readings and
a writing, where the torch reference makes 11 passes. Rounding: see `kernels.rows`, the reference.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tile import laid, launch, leading, placed, spread, total


@triton.jit(do_not_specialize=["count", "most"])
def _pull(
    price, touching, entry, result, count, size, most, price_piece, price_row, HIGH: tl.constexpr, WIDE: tl.constexpr
):
    piece, row, inside = placed(count, HIGH)
    prices = price + piece * price_piece + row[:, None] * price_row
    start = 0
    while start < size:
        column = start + tl.arange(0, WIDE)
        here = column < size
        value = tl.zeros((HIGH, WIDE), result.dtype.element_ty)
        step = 0
        while step < most:
            times = tl.load(entry + step * size + column, mask=here, other=0.0)[None, :]
            # Where a list has ended, its filler is not gathered.
            which = tl.load(touching + step * size + column, mask=here, other=0)[None, :]
            value += times * tl.load(prices + which, mask=inside & (times != 0), other=0.0)
            step += 1
        where = piece * count * size + row[:, None] * size + column[None, :]
        tl.store(result + where, value, mask=inside & here[None, :])
        start += WIDE


@triton.jit(do_not_specialize=["count"])
def _add_weighed(
    coefficient,
    added,
    weight,
    result,
    weighed,
    count,
    size,
    coefficient_piece,
    coefficient_row,
    added_piece,
    added_row,
    weight_piece,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
):
    piece, row, inside = placed(count, HIGH)
    cost = tl.zeros((HIGH, WIDE), result.dtype.element_ty)
    start = 0
    while start < size:
        column = start + tl.arange(0, WIDE)
        here = column < size
        value = spread(coefficient + piece * coefficient_piece, row, column, coefficient_row, inside, here, True)
        more = spread(added + piece * added_piece, row, column, added_row, inside, here, True)
        by = tl.load(weight + piece * weight_piece + column, mask=here, other=0.0)[None, :]
        cost += (tl.abs(value) + tl.abs(more)) * by
        where = piece * count * size + row[:, None] * size + column[None, :]
        tl.store(result + where, value + more, mask=inside & here[None, :])
        start += WIDE
    tl.store(weighed + piece * count + row, total(cost, HIGH, WIDE), mask=row < count)


def pull(price: Tensor, touching: Tensor, entry: Tensor) -> Tensor:  # (B, R, C), (P, n) int32, (P, n) -> (B, R, n)
    """As `kernels.rows.pull`, of rows given by neuron."""
    pieces, count, rows = price.shape
    size = entry.shape[-1]
    result = price.new_empty(pieces, count, size)
    price, *strides = laid(price, rows)
    grid, shape = launch(pieces, count, size)
    with torch.cuda.device_of(price):
        _pull[grid](
            *(price, touching.contiguous(), entry.contiguous(), result),
            *(count, size, len(entry), *strides),
            **shape,
        )
    return result


def add_weighed(
    coefficient: Tensor,  # (B, R, n)
    added: Tensor,  # (B, R, n)
    weight: Tensor,  # (n,) or (B, n)
) -> tuple[Tensor, Tensor]:  # (B, R, n), (B, R)
    """As `kernels.rows.add_weighed`."""
    size = coefficient.shape[-1]
    pieces, count = leading(coefficient, added)
    result, weighed = coefficient.new_empty(pieces, count, size), coefficient.new_empty(pieces, count)
    coefficient, *first = laid(coefficient, size)
    added, *second = laid(added, size)
    weight, weight_piece, _ = laid(weight, size)
    grid, shape = launch(pieces, count, size)
    with torch.cuda.device_of(coefficient):
        _add_weighed[grid](
            *(coefficient, added, weight, result, weighed),
            *(count, size, *first, *second, weight_piece),
            **shape,
        )
    return result, weighed
