"""Back-substitution through one elementwise layer.

For coefficients L on the layer's outputs, positive entries take the lower line and negative ones the upper line:

    L+ * lower_slope + L- * upper_slope        on the pre-activations,
    sum (L+ * lower_bias + L- * upper_bias)    in the constant.

Bytes, for B x R x n coefficients: read L, write its two halves, read both, write the product: 6 passes where a fused
kernel would need 2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class LinesLike(NamedTuple):
    """Four tensors of slopes and biases, (B, n), or (B, R, n) where each row has its own."""

    lower_slope: Tensor
    lower_bias: Tensor
    upper_slope: Tensor
    upper_bias: Tensor


def substitute(coefficient: Tensor, lines: LinesLike) -> tuple[Tensor, Tensor]:  # (B, R, n) -> (B, R, n), (B, R)
    """Coefficients on the pre-activations and the constant gained; rounding is the caller's to account for."""
    shared = lines.lower_slope.ndim == 2
    lower_slope, lower_bias, upper_slope, upper_bias = (t[:, None] if shared else t for t in lines)
    positive, negative = coefficient.clamp(min=0), coefficient.clamp(max=0)
    if shared:
        gain = torch.bmm(negative, upper_bias.mT)[..., 0]
        if bool(lower_bias.any()):
            gain = gain + torch.bmm(positive, lower_bias.mT)[..., 0]
    else:
        gain = (negative * upper_bias).sum(-1) + (positive * lower_bias).sum(-1)
    below = positive.mul_(lower_slope).addcmul_(negative, upper_slope)
    return below, gain
