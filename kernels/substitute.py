"""Back-substitution through one elementwise layer.

For coefficients L on the layer's outputs, positive entries take the lower line and negative ones the upper line:

    L+ * lower_slope + L- * upper_slope        on the pre-activations,
    sum (L+ * lower_bias + L- * upper_bias)    in the constant.

`substitute_weighed` adds what rounding may cost on the way: weighted sums of the absolute values that the step meets.

A function of k operands an entry has planes, sum_o slope_o z_o + bias: the same with k slopes a side, whose
coefficients go to k nodes (`substitute_operands`); bias and sums are counted once.

Bytes, for B x R x n coefficients: read L, write its two halves, read both, write the product: 6 passes, and 3 to 5 for
every sum over them. On a CUDA device the fused version in `triton/substitute.py` makes 2 of them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .device import fused
from .dot import absolute_dot, dot

# Lower slopes and biases, upper slopes and biases: each (B, n), or (B, R, n) where every row has its own.
LinesLike = tuple[Tensor, Tensor, Tensor, Tensor]


class Weights(NamedTuple):
    """Of the absolute values that one step meets, each (n,) or (B, n), not negative; None: not summed."""

    above: Tensor | None = None  # of the coefficients given
    under: Tensor | None = None  # of those on the pre-activations, before anything is added
    joint: Tensor | None = None  # of those and of what is added to them, sign by sign, so that nothing cancels


def substitute(
    coefficient: Tensor,  # (B, R, n)
    lines: LinesLike,
    *,
    zero_lower_bias: bool = False,
) -> tuple[Tensor, Tensor]:  # (B, R, n), (B, R)
    """Coefficients on the pre-activations and the constant gained; rounding is the caller's to account for: of one
    product an entry, and of sums of `depth(n)` roundings (`kernels.dot`) and one more."""
    low, low_bias, high, high_bias = lines
    if fused(coefficient, *lines):
        from .triton.substitute import substitute as at_once

        return at_once(coefficient, low, None if zero_lower_bias else low_bias, high, high_bias)[:2]
    positive, negative = coefficient.clamp(min=0), coefficient.clamp(max=0)
    gain = dot(negative, high_bias)
    if not zero_lower_bias:
        gain = gain + dot(positive, low_bias)
    lower_slope, upper_slope = (t[:, None] if t.ndim == 2 else t for t in (low, high))
    below = positive.mul_(lower_slope).addcmul_(negative, upper_slope)
    return below, gain


def substitute_operands(
    coefficient: Tensor,  # (B, R, n)
    slopes: Sequence[tuple[Tensor, Tensor]],  # of the lower and the upper plane, by operand: (B, n) or (B, R, n)
    biases: tuple[Tensor, Tensor],
    above: Tensor,  # (n,) or (B, n), not negative
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:  # (B, R, n) each, (B, R), (B, R)
    """Coefficients on every operand, the constant gained, and |L| . above; rounding as in `substitute`."""
    weights = Weights(above=above)
    first, *others = slopes
    lines = first[0], biases[0], first[1], biases[1]
    below, gain, slack = substitute_weighed(coefficient, lines, weights)
    found = [below]
    for low, high in others:
        nothing = torch.zeros_like(biases[1])
        found.append(substitute(coefficient, (low, nothing, high, nothing), zero_lower_bias=True)[0])
    return tuple(found), gain, slack


def substitute_weighed(
    coefficient: Tensor,  # (B, R, n)
    lines: LinesLike,
    weights: Weights,
    *,
    added: Tensor | None = None,  # (B, R, n)
    zero_lower_bias: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # (B, R, n), (B, R), (B, R)
    """`substitute` with `added` put on top of its coefficients; and the weighted absolute sums

        |L| . above + |below| . under + (|below| + |added|) . joint,

    right up to gamma of depth(n) + 4, relative. Without `added`, `joint` weighs nothing.
    """
    if fused(coefficient, *lines, *(t for t in (*weights, added) if t is not None)):
        from .triton.substitute import substitute as at_once

        low, low_bias, high, high_bias = lines
        below, gain, slack = at_once(
            *(coefficient, low, None if zero_lower_bias else low_bias, high, high_bias),
            *(*weights, added),
        )
        return below, gain, gain.new_zeros(gain.shape) if slack is None else slack
    below, gain = substitute(coefficient, lines, zero_lower_bias=zero_lower_bias)
    slack = gain.new_zeros(gain.shape)
    if weights.above is not None:
        slack = slack + absolute_dot(coefficient, weights.above)
    if weights.under is not None:
        slack = slack + absolute_dot(below, weights.under)
    if added is not None:
        if weights.joint is not None:
            slack = slack + absolute_dot(below.abs() + added.abs(), weights.joint)
        below = below + added
    return below, gain, slack
