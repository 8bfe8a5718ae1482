"""Back-substitution through one elementwise layer.

For coefficients L on the layer's outputs, positive entries take the lower line and negative ones the upper line:

    L+ * lower_slope + L- * upper_slope        on the pre-activations,
    sum (L+ * lower_bias + L- * upper_bias)    in the constant.

Bytes, for B x R x n coefficients: read L, write its two halves, read both, write the product: 6 passes where a fused
kernel would need 2.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .dot import dot


class LinesLike(NamedTuple):
    """Slopes and biases, each (B, n), or (B, R, n) where every row has its own."""

    lower_slope: Tensor
    lower_bias: Tensor
    upper_slope: Tensor
    upper_bias: Tensor


def substitute(
    coefficient: Tensor,  # (B, R, n)
    lines: LinesLike,
    *,
    zero_lower_bias: bool = False,
) -> tuple[Tensor, Tensor]:  # (B, R, n), (B, R)
    """Coefficients on the pre-activations and the constant gained; rounding is the caller's to account for."""
    positive, negative = coefficient.clamp(min=0), coefficient.clamp(max=0)
    gain = dot(negative, lines.upper_bias)
    if not zero_lower_bias:
        gain = gain + dot(positive, lines.lower_bias)
    lower_slope, upper_slope = (t[:, None] if t.ndim == 2 else t for t in (lines.lower_slope, lines.upper_slope))
    below = positive.mul_(lower_slope).addcmul_(negative, upper_slope)
    return below, gain
