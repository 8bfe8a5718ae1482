"""What multipliers add to coefficients, with the rounding sum, in one pass.

    result = L + M + price @ G,    weighed = (|L| + |M| + price @ |G|) . weight,

any of the three terms may be absent, and so may the weight. G is given by neuron: for column j the rows touching[p, j]
with entries entry[p, j], p < P. Every tile of columns walks its own lists to their end, gathers multipliers and adds;
one order for every run, without atomics.

Bytes, for B x R x n coefficients of w bytes: each of L and M is read and the result written, 2 or 3 B R n w; the torch
reference makes 11 passes for L + M. The lists, P n (w + 4), and the multipliers, B R C w, come from memory once; each
multiplier is gathered K times, once for each neuron of its row, from the cache. Operations: 4 P an entry. A dense
product reads and writes the same and needs 2 C operations an entry, on cores for which float32 has no fast path (tensor
cores would cut its factors to 10 bits), and the rounding sum needs its own passes. Rounding: see `kernels.rows`, the
reference.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tile import laid, launch, leading, spread, total


@triton.jit(do_not_specialize=["count", "most"])
def _add(
    coefficient,
    added,
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
    added_piece,
    added_row,
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
    cost = tl.zeros((HIGH, WIDE), result.dtype.element_ty)
    start = 0
    while start < size:
        column = start + tl.arange(0, WIDE)
        here = column < size
        value = tl.zeros((HIGH, WIDE), result.dtype.element_ty)
        reach = tl.zeros((HIGH, WIDE), result.dtype.element_ty)
        if coefficient is not None:
            value += spread(coefficient + piece * coefficient_piece, row, column, coefficient_row, inside, here, True)
            reach += tl.abs(value)
        if added is not None:
            more = spread(added + piece * added_piece, row, column, added_row, inside, here, True)
            value += more
            reach += tl.abs(more)
        if price is not None:
            prices = price + piece * price_piece + row[:, None] * price_row
            step = 0
            while step < most:
                times = tl.load(entry + step * size + column, mask=here, other=0.0)[None, :]
                # Where a list has ended, its filler is not gathered.
                which = tl.load(touching + step * size + column, mask=here, other=0)[None, :]
                term = times * tl.load(prices + which, mask=inside & (times != 0), other=0.0)
                value += term
                reach += tl.abs(term)
                step += 1
        if weight is not None:
            cost += reach * tl.load(weight + piece * weight_piece + column, mask=here, other=0.0)[None, :]
        where = piece * count * size + row[:, None] * size + column[None, :]
        tl.store(result + where, value, mask=inside & here[None, :])
        start += WIDE
    if weight is not None:
        tl.store(weighed + piece * count + row, total(cost, HIGH, WIDE), mask=row < count)


def add(
    coefficient: Tensor | None,  # (B, R, n)
    added: Tensor | None,  # (B, R, n)
    price: Tensor | None = None,  # (B, R, C)
    touching: Tensor | None = None,  # (P, n) int32
    entry: Tensor | None = None,  # (P, n)
    weight: Tensor | None = None,  # (n,) or (B, n)
) -> tuple[Tensor, Tensor | None]:  # (B, R, n), (B, R)
    """The sum of what is given, and with a weight the sum of its parts' absolute values."""
    given = next(t for t in (coefficient, added, price) if t is not None)
    pieces, count = leading(*(t for t in (coefficient, added, price) if t is not None))
    size = given.shape[-1] if entry is None else entry.shape[-1]
    result = given.new_empty(pieces, count, size)
    weighed = None if weight is None else given.new_empty(pieces, count)
    tensors, strides = [], []
    for value, width in ((coefficient, size), (added, size), (price, 0 if price is None else price.shape[-1])):
        value, *at = (None, 0, 0) if value is None else laid(value, width)
        tensors.append(value)
        strides += at
    weight, weight_piece, _ = (None, 0, 0) if weight is None else laid(weight, size)
    lists = (None, None) if price is None else (touching.contiguous(), entry.contiguous())
    grid, shape = launch(pieces, count, size)
    with torch.cuda.device_of(given):
        _add[grid](
            *(*tensors, *lists, weight, result, weighed),
            *(count, size, 0 if price is None else len(entry), *strides, weight_piece),
            **shape,
        )
    return result, weighed
