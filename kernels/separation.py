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

from .polytope import box_minimum
from .rounding import gamma


def separate(
    weight: Tensor,  # (J, m)
    bias: Tensor,  # (J,)
    lower: Tensor,  # (m,)
    upper: Tensor,  # (m,)
    points: Tensor,  # (Q, m), in the box
) -> tuple[Tensor, Tensor]:  # (Q, J, m), (Q, J)
    """Coefficients a and offsets with relu(w v + b) <= a v + offset on the box, tight for each point."""
    width = upper - lower
    rising = weight >= 0
    share = torch.where(width > 0, (points - lower) / width, 0.0).clamp(0, 1)[:, None]  # (Q, 1, m)
    gone = torch.where(rising, share, 1 - share)  # (Q, J, m)
    reach = weight.abs() * width  # (J, m)
    order = gone.argsort(-1)
    sorted_reach = reach.expand_as(gone).gather(-1, order)
    greatest = torch.where(rising, weight * upper, weight * lower).sum(-1) + bias  # (J,)
    left = greatest[:, None] - sorted_reach.cumsum(-1)  # after each index has gone to its least end
    whole = left >= 0
    before = left + sorted_reach
    # The share of each coefficient that is taken: all of it, what is left to make up for, nothing.
    taken = torch.where(whole, 1.0, (before / sorted_reach.clamp(min=torch.finfo(left.dtype).tiny)).clamp(0, 1))
    taken = torch.where(before > 0, taken, 0.0)
    coefficients = torch.zeros_like(gone).scatter(-1, order, taken) * weight
    return coefficients, certified_offset(weight, bias, lower, upper, coefficients)


def certified_offset(
    weight: Tensor, bias: Tensor, lower: Tensor, upper: Tensor, coefficients: Tensor
) -> Tensor:  # (J, m), (J,), (m,), (m,), (Q, J, m) -> (Q, J)
    """The least offset for which relu(w v + b) <= a v + offset holds on the box. Outward rounded."""
    low, high = (side.expand(len(coefficients), -1) for side in (lower, upper))
    rest = coefficients - weight
    inactive, active = -box_minimum(coefficients, low, high), -box_minimum(rest, low, high) + bias
    # w - a was rounded once an entry, and the bias added once.
    doubt = gamma(4, weight.dtype)
    largest = torch.maximum(lower.abs(), upper.abs())
    lost = doubt * (rest.abs() @ largest + active.abs() + bias.abs())
    return torch.maximum(inactive, active + lost)
