"""The most violated row of a ReLU over the box of its layer's inputs, for many neurons and points at once.

For y = max(0, w v + b) over the box L <= v <= U, let r_i = |w_i| (U_i - L_i) and let t_i in [0, 1] say how far v_i has
gone from the end where w_i v_i is least. The upper facets of the hull are, for sets I and one more index h,

    y <= sum over I of w_i (v_i - least end) + s (v_h - least end),      0 <= s_I <= r_h,

where s_I, the value of w v + b with I at the least ends and the rest at the greatest, is what h has yet to make up for,
and s = +-s_I / (U_h - L_h). The one that a point breaks most takes the indices in the order of their t until the value
would become negative (Anderson, Huchette, Ma, Tjandraatmadja, Vielma 2020, proposition 9; Tjandraatmadja et al. 2020,
theorem 1): a sort and a cumulated sum for each neuron and point, O(m log m).

Soundness: whatever coefficients a come out, the offset that is returned makes y <= a v + offset true on the whole box:
it is the larger of max(-a v) and max((w - a) v) + b, each the maximum of a linear function over a box, outward rounded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .dot import absolute_dot
from .polytope import box_minimum
from .rounding import gamma, unit_roundoff


def separate(
    weight: Tensor,  # (J, K)
    bias: Tensor,  # (J,)
    lower: Tensor,  # (J, K)
    upper: Tensor,  # (J, K)
    points: Tensor,  # (J, Q, K), in the boxes
    doubt: Tensor | None = None,  # (J,) how far w v + b may be off on the box; without it, w and b are exact
) -> tuple[Tensor, Tensor]:  # (J, Q, K), (J, Q)
    """Coefficients a and offsets with relu(w v + b) <= a v + offset on each neuron's box, tight for each point."""
    width = upper - lower
    rising = weight >= 0
    share = torch.where(width[:, None] > 0, (points - lower[:, None]) / width[:, None], 0.0).clamp_(0, 1)
    gone = torch.where(rising[:, None], share, 1 - share)
    reach = weight.abs() * width
    order = gone.argsort(-1)
    sorted_reach = reach[:, None].expand_as(gone).gather(-1, order)
    greatest = torch.where(rising, weight * upper, weight * lower).sum(-1) + bias  # (J,)
    before = greatest[:, None, None] - sorted_reach.cumsum(-1) + sorted_reach
    # The share of each coefficient that is taken: all of it, what is left to make up for, nothing.
    taken = (before / sorted_reach.clamp(min=torch.finfo(before.dtype).tiny)).clamp_(0, 1)
    coefficients = torch.zeros_like(gone).scatter_(-1, order, taken) * weight[:, None]
    offset = certified_offset(weight, bias, lower, upper, coefficients)
    if doubt is not None:
        offset = offset + doubt[:, None]
        offset = offset + 2 * unit_roundoff(offset.dtype) * offset.abs()
    return coefficients, offset


def certified_offset(
    weight: Tensor, bias: Tensor, lower: Tensor, upper: Tensor, coefficients: Tensor
) -> Tensor:  # (J, K), (J,), (J, K), (J, K), (J, Q, K) -> (J, Q)
    """The least offset for which relu(w v + b) <= a v + offset holds on the box. Outward rounded."""
    rest = coefficients - weight[:, None]
    inactive = -box_minimum(coefficients, lower, upper)
    active = -box_minimum(rest, lower, upper) + bias[:, None]
    # w - a was rounded once an entry, and the bias added once.
    largest = torch.maximum(lower.abs(), upper.abs())
    lost = gamma(4, weight.dtype) * (absolute_dot(rest, largest) + active.abs() + bias.abs()[:, None])
    return torch.maximum(inactive, active + lost)
