"""Inner products of many rows with a vector, as they are and with the rows' absolute values, in one reading.

    signed = rows . vector,    absolute = |rows| . weight,    box = rows . middle - |rows| . reach.

An affine node of a backward pass needs the first two of the same coefficients (the bias's share of the constant, and
what rounding may cost), and the least value of a form on a box needs both at once.

Bytes, for B x R x n entries of w bytes and vectors that are small against them: B R n w read here. The torch reference
writes the products, reads them to sum them up, takes absolute values in place: 3 passes for `signed`, 5 for `absolute`,
8 for both. Operations: 2 a term and sum. One to four operations for every 4 bytes is far under what a GPU can do, so
memory's bandwidth is the limit. Rounding: `depth(n)`, see `tile`. Reference: `kernels.dot`.
"""

from __future__ import annotations

from typing import overload

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tile import laid, launch, leading, placed, spread, total


@triton.jit(do_not_specialize=["count"])
def _sums(
    rows,
    vector,
    weight,
    signed,
    absolute,
    count,
    size,
    rows_piece,
    rows_row,
    vector_piece,
    vector_row,
    weight_piece,
    weight_row,
    VECTOR_ROWS: tl.constexpr,
    WEIGHT_ROWS: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
):
    piece, row, inside = placed(count, HIGH)
    first = tl.zeros((HIGH, WIDE), rows.dtype.element_ty)
    second = tl.zeros((HIGH, WIDE), rows.dtype.element_ty)
    start = 0
    while start < size:
        column = start + tl.arange(0, WIDE)
        here = column < size
        value = spread(rows + piece * rows_piece, row, column, rows_row, inside, here, True)
        if vector is not None:
            first += value * spread(vector + piece * vector_piece, row, column, vector_row, inside, here, VECTOR_ROWS)
        if weight is not None:
            by = spread(weight + piece * weight_piece, row, column, weight_row, inside, here, WEIGHT_ROWS)
            second += tl.abs(value * by)
        start += WIDE
    if vector is not None:
        tl.store(signed + piece * count + row, total(first, HIGH, WIDE), mask=row < count)
    if weight is not None:
        tl.store(absolute + piece * count + row, total(second, HIGH, WIDE), mask=row < count)


@triton.jit(do_not_specialize=["count"])
def _box(
    rows,
    lower,
    upper,
    least,
    count,
    size,
    rows_piece,
    rows_row,
    lower_piece,
    upper_piece,
    widen,  # 4 eps: a power of two, exact in every dtype
    error,  # the rounding bound of the two sums
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
):
    piece, row, inside = placed(count, HIGH)
    dtype = rows.dtype.element_ty
    first = tl.zeros((HIGH, WIDE), dtype)
    second = tl.zeros((HIGH, WIDE), dtype)
    start = 0
    while start < size:
        column = start + tl.arange(0, WIDE)
        here = column < size
        value = spread(rows + piece * rows_piece, row, column, rows_row, inside, here, True)
        low = tl.load(lower + piece * lower_piece + column, mask=here, other=0.0)
        high = tl.load(upper + piece * upper_piece + column, mask=here, other=0.0)
        middle = (low + high) * 0.5
        radius = tl.maximum(high - middle, middle - low, propagate_nan=tl.PropagateNan.ALL)
        radius += radius * widen
        largest = tl.maximum(tl.abs(low), tl.abs(high), propagate_nan=tl.PropagateNan.ALL)
        first += value * middle[None, :]
        second += tl.abs(value) * (radius + error * largest)[None, :]
        start += WIDE
    tl.store(least + piece * count + row, total(first, HIGH, WIDE) - total(second, HIGH, WIDE), mask=row < count)


@overload
def sums(rows: Tensor, vector: Tensor, weight: None) -> tuple[Tensor, None]: ...
@overload
def sums(rows: Tensor, vector: None, weight: Tensor) -> tuple[None, Tensor]: ...
@overload
def sums(rows: Tensor, vector: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]: ...
def sums(
    rows: Tensor,  # (B, R, n)
    vector: Tensor | None,  # (n,), (B, n) or (B, R, n)
    weight: Tensor | None,  # likewise
) -> tuple[Tensor | None, Tensor | None]:  # (B, R), (B, R)
    """rows . vector and |rows| . |weight|; None for what is not asked for. Rounding: `depth(n)`."""
    size = rows.shape[-1]
    pieces, count = leading(*(t for t in (rows, vector, weight) if t is not None))
    rows, *rows_at = laid(rows, size)
    signed = rows.new_empty(pieces, count) if vector is not None else None
    absolute = rows.new_empty(pieces, count) if weight is not None else None
    vector, *vector_at = (None, 0, 0) if vector is None else laid(vector, size)
    weight, *weight_at = (None, 0, 0) if weight is None else laid(weight, size)
    grid, shape = launch(pieces, count, size)
    with torch.cuda.device_of(rows):
        _sums[grid](
            *(rows, vector, weight, signed, absolute),
            *(count, size, *rows_at, *vector_at, *weight_at),
            VECTOR_ROWS=vector_at[1] != 0,
            WEIGHT_ROWS=weight_at[1] != 0,
            **shape,
        )
    return signed, absolute


def box_minimum(rows: Tensor, lower: Tensor, upper: Tensor, error: float) -> Tensor:  # (B, R, n), (B, n) twice
    """min { rows x : lower <= x <= upper }, (B, R), lowered by `error` |rows| . max(|lower|, |upper|).

    Outward rounded if `error` is at least gamma of 2 depth(n) + 4. It reaches the kernel in float32, where it must not
    have shrunk: it is rounded up first.
    """
    size = rows.shape[-1]
    pieces, count = leading(rows, lower, upper)
    rows, *rows_at = laid(rows, size)
    lower, lower_piece, _ = laid(lower, size)
    upper, upper_piece, _ = laid(upper, size)
    least = rows.new_empty(pieces, count)
    single = torch.tensor(error, dtype=torch.float32)
    if single.item() < error:
        single = torch.nextafter(single, torch.tensor(torch.inf))
    grid, shape = launch(pieces, count, size)
    with torch.cuda.device_of(rows):
        _box[grid](
            *(rows, lower, upper, least, count, size, *rows_at, lower_piece, upper_piece),
            4 * torch.finfo(rows.dtype).eps,
            single.item(),
            **shape,
        )
    return least
