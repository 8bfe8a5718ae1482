"""Back-substitution through one elementwise layer, with its rounding sums, in one pass over the coefficients.

For coefficients L on the layer's outputs, entry by entry,

    below = L * (lower_slope where L > 0, upper_slope elsewhere)
    gain  = sum L * (lower_bias where L > 0, upper_bias elsewhere)
    slack = sum |L| above + |below| under + (|below| + |added|) joint,

and what is written is `below + added`. Each weight is left out where it is not given.

Bytes, for B x R x n coefficients of w bytes, with lines and weights given once a piece (R times smaller): L is read and
below written, 2 B R n w; slopes of each row's own and `added` cost one more reading each. The torch reference reads L
for its two halves and writes them (3), reads one and multiplies it (2), reads both and writes the sum (3); each sum
reads, writes and reads again (3, or 5 with absolute values): 11 passes without rounding sums, 16 with one, where this
kernel makes 2. Operations: 4 an entry, 2 to 5 more for the sums: memory's bandwidth is the limit.

An argument that is None stands for a part that is left out; the kernel is compiled without it.

Rounding. `below` is rounded once, as in the reference, and comes out the same bit for bit. A term of `gain` is one
product instead of one in either of two sums, and is summed up as `tile` proves: depth(n) roundings at most, where the
reference meets one more. Terms of `slack` meet up to 4 more each; all are of one sign, so slack errs by at most
gamma_{depth(n) + 4} of itself. Reference: `kernels.substitute`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tile import laid, launch, placed, spread, total


@triton.jit(do_not_specialize=["count"])
def _substitute(
    coefficient,
    lower_slope,
    lower_bias,
    upper_slope,
    upper_bias,
    above,
    under,
    added,
    joint,
    below,
    gain,
    slack,
    count,
    size,
    coefficient_piece,
    coefficient_row,
    lower_slope_piece,
    lower_slope_row,
    lower_bias_piece,
    lower_bias_row,
    upper_slope_piece,
    upper_slope_row,
    upper_bias_piece,
    upper_bias_row,
    above_piece,
    under_piece,
    added_piece,
    added_row,
    joint_piece,
    LOWER_SLOPE_ROWS: tl.constexpr,
    LOWER_BIAS_ROWS: tl.constexpr,
    UPPER_SLOPE_ROWS: tl.constexpr,
    UPPER_BIAS_ROWS: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
):
    piece, row, inside = placed(count, HIGH)
    coefficient += piece * coefficient_piece
    lower_slope += piece * lower_slope_piece
    upper_slope += piece * upper_slope_piece
    upper_bias += piece * upper_bias_piece
    below += piece * count * size
    gained = tl.zeros((HIGH, WIDE), coefficient.dtype.element_ty)
    cost = tl.zeros((HIGH, WIDE), coefficient.dtype.element_ty)
    start = 0
    while start < size:
        column = start + tl.arange(0, WIDE)
        here = column < size
        value = spread(coefficient, row, column, coefficient_row, inside, here, True)
        low = spread(lower_slope, row, column, lower_slope_row, inside, here, LOWER_SLOPE_ROWS)
        high = spread(upper_slope, row, column, upper_slope_row, inside, here, UPPER_SLOPE_ROWS)
        bias = spread(upper_bias, row, column, upper_bias_row, inside, here, UPPER_BIAS_ROWS)
        if lower_bias is not None:
            low_bias = spread(
                lower_bias + piece * lower_bias_piece, row, column, lower_bias_row, inside, here, LOWER_BIAS_ROWS
            )
            gained += value * tl.where(value > 0, low_bias, bias)
        else:
            gained += tl.where(value > 0, tl.zeros_like(value), value * bias)
        result = value * tl.where(value > 0, low, high)
        if above is not None:
            cost += tl.abs(value) * tl.load(above + piece * above_piece + column, mask=here, other=0.0)[None, :]
        if under is not None:
            cost += tl.abs(result) * tl.load(under + piece * under_piece + column, mask=here, other=0.0)[None, :]
        if added is not None:
            more = spread(added + piece * added_piece, row, column, added_row, inside, here, True)
            if joint is not None:
                by = tl.load(joint + piece * joint_piece + column, mask=here, other=0.0)[None, :]
                cost += (tl.abs(result) + tl.abs(more)) * by
            result += more
        where = row[:, None] * size + column[None, :]
        tl.store(below + where, result, mask=inside & here[None, :])
        start += WIDE
    tl.store(gain + piece * count + row, total(gained, HIGH, WIDE), mask=row < count)
    if slack is not None:
        tl.store(slack + piece * count + row, total(cost, HIGH, WIDE), mask=row < count)


def substitute(
    coefficient: Tensor,  # (B, R, n)
    lower_slope: Tensor,  # the lines: (B, n) or (B, R, n)
    lower_bias: Tensor | None,  # None: zero
    upper_slope: Tensor,
    upper_bias: Tensor,
    above: Tensor | None = None,  # the weights: (n,) or (B, n), not negative
    under: Tensor | None = None,
    joint: Tensor | None = None,
    added: Tensor | None = None,  # (B, R, n)
) -> tuple[Tensor, Tensor, Tensor | None]:  # (B, R, n), (B, R), (B, R) where a weight is given
    """below + added, gain and slack as in the essay. Rounding: see there."""
    pieces, count, size = coefficient.shape
    below = coefficient.new_empty(coefficient.shape)
    gain = coefficient.new_empty(pieces, count)
    joint = None if added is None else joint
    slack = None if above is None and under is None and joint is None else torch.empty_like(gain)
    coefficient, *strides = laid(coefficient, size)
    tensors: list[Tensor | None] = [coefficient]
    by_row = []
    for line in (lower_slope, lower_bias, upper_slope, upper_bias):
        line, piece, row = (None, 0, 0) if line is None else laid(line, size)
        tensors.append(line)
        strides += (piece, row)
        by_row.append(row != 0)
    for name, extra in (("above", above), ("under", under), ("added", added), ("joint", joint)):
        extra, piece, row = (None, 0, 0) if extra is None else laid(extra, size)
        tensors.append(extra)
        strides += (piece, row) if name == "added" else (piece,)
    grid, shape = launch(pieces, count, size)
    with torch.cuda.device_of(coefficient):
        _substitute[grid](
            *(*tensors, below, gain, slack, count, size, *strides),
            LOWER_SLOPE_ROWS=by_row[0],
            LOWER_BIAS_ROWS=by_row[1],
            UPPER_SLOPE_ROWS=by_row[2],
            UPPER_BIAS_ROWS=by_row[3],
            **shape,
        )
    return below, gain, slack
