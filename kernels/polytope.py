"""Minima of linear forms over a box cut by half-spaces, for a whole batch at once.

For min { a x : l <= x <= u, G x <= h } every beta >= 0 gives the lower bound of Lagrange duality

    d(beta) = -beta h + min { (a + beta G) x : l <= x <= u },

concave and piecewise linear in each beta_j. Along one coordinate the maximiser is found exactly: d's slope falls at
the D breakpoints where a coefficient of a + beta G changes sign, so sorting them and accumulating gives the zero
crossing. Cyclic coordinate ascent of that kind is the batched dual of Clip-and-Verify (NeurIPS 2025); stopping early
never costs soundness. `sweeps=0` ignores the half-spaces.

Soundness: outward rounded. What is returned is the bound of the beta found, lowered by a bound on the rounding error
of its own evaluation (Higham 2002, section 3.1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .device import fused
from .dot import absolute_dot, depth, dot
from .rounding import gamma


def box_minimum(a: Tensor, lower: Tensor, upper: Tensor) -> Tensor:  # (B, R, D), (B, D), (B, D) -> (B, R)
    """min { a x : lower <= x <= upper }, outward rounded."""
    error = gamma(2 * depth(a.shape[-1]) + 4, a.dtype)
    if fused(a, lower, upper):
        from .triton.sums import box_minimum as at_once

        return at_once(a, lower, upper, error)
    middle = (lower + upper) / 2
    eps = torch.finfo(a.dtype).eps
    radius = torch.maximum(upper - middle, middle - lower) * (1 + 4 * eps)
    reach = radius + error * torch.maximum(lower.abs(), upper.abs())
    return dot(a, middle) - absolute_dot(a, reach)


def box_minimiser(a: Tensor, lower: Tensor, upper: Tensor) -> Tensor:  # (B, R, D), (B, D), (B, D) -> (B, R, D)
    """The corner where a x is smallest (the lower end where a is zero)."""
    return torch.where(a >= 0, lower[:, None], upper[:, None])


def _best_multiplier(base: Tensor, normal: Tensor, offset: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The beta >= 0 that maximises -beta offset + min_box (base + beta normal) x; base (B, R, D), normal (B, 1, D)."""
    normal = normal.expand_as(base)
    breaks = torch.where(normal != 0, -base / normal, 0.0).clamp_(min=0)
    breaks, order = breaks.sort(-1)
    sign_right = torch.where(base == 0, normal, base)
    corner = torch.where(sign_right > 0, lower, upper)
    slope = (normal * corner).sum(-1) - offset
    # Passing a positive breakpoint moves that coordinate to its other end: the slope drops by |normal| (u - l).
    drop = torch.where(base * normal < 0, normal.abs() * (upper - lower), 0.0).gather(-1, order)
    after = slope[..., None] - drop.cumsum(-1)
    first = (after <= 0).to(torch.int8).argmax(-1, keepdim=True)
    beta = breaks.gather(-1, first)[..., 0]
    # A slope that stays positive means an empty intersection: a large finite beta shows it.
    unbounded = after[..., -1] > 0
    scale = base.abs().amax(-1) / normal.abs().amax(-1).clamp(min=1e-30)
    beta = torch.where(unbounded, 1e3 * (breaks[..., -1] + scale), beta)
    return torch.where((slope <= 0) | (offset == torch.inf), 0.0, beta)


def polytope_minimum(
    a: Tensor,  # (B, R, D)
    lower: Tensor,  # (B, D)
    upper: Tensor,  # (B, D)
    normals: Tensor,  # (B, H, D)
    offsets: Tensor,  # (B, H), infinite where a half-space is absent
    sweeps: int = 1,
) -> tuple[Tensor, Tensor]:  # (B, R), (B, R, H)
    """A lower bound of min a x over the polytope, and the multipliers that prove it. Outward rounded."""
    count = normals.shape[1]
    beta = a.new_zeros(*a.shape[:-1], count)
    if count == 0 or sweeps == 0:
        return box_minimum(a, lower, upper), beta
    low, high, reduced = lower[:, None], upper[:, None], a.clone()
    for sweep in range(sweeps):
        for j in range(count):
            normal = normals[:, None, j]
            base = reduced if sweep == 0 else reduced - beta[..., j, None] * normal
            best = _best_multiplier(base, normal, offsets[:, j, None], low, high)
            beta[..., j] = best
            reduced = base + best[..., None] * normal
    # Evaluate afresh: what the sweeps accumulated in `reduced` carries their rounding.
    return priced_minimum(a, beta, lower, upper, normals, offsets), beta


def priced_minimum(
    a: Tensor,  # (B, R, D)
    price: Tensor,  # (B, R, H) >= 0
    lower: Tensor,  # (B, D)
    upper: Tensor,  # (B, D)
    normals: Tensor,  # (B, H, D)
    offsets: Tensor,  # (B, H), infinite where a half-space is absent: its multiplier must be 0
) -> Tensor:  # (B, R)
    """The lower bound of min a x over the polytope that these multipliers prove. Outward rounded."""
    count = normals.shape[1]
    if count == 0:
        return box_minimum(a, lower, upper)
    finite = torch.where(offsets == torch.inf, 0.0, offsets)
    reduced = torch.baddbmm(a, price, normals)
    size = a.abs() + torch.bmm(price, normals.abs())
    largest = torch.maximum(lower.abs(), upper.abs())
    slack = torch.bmm(size, largest[..., None])[..., 0] + torch.bmm(price, finite.abs()[..., None])[..., 0]
    value = box_minimum(reduced, lower, upper) - torch.bmm(price, finite[..., None])[..., 0]
    return value - gamma(2 * count + a.shape[-1] + 8, a.dtype) * slack


def polytope_minimiser(
    a: Tensor,  # (B, R, D)
    price: Tensor,  # (B, R, H), the multipliers of `polytope_minimum`
    lower: Tensor,  # (B, D)
    upper: Tensor,  # (B, D)
    normals: Tensor,  # (B, H, D)
    offsets: Tensor,  # (B, H)
) -> Tensor:  # (B, R, D)
    """Where a x is least on the polytope, as far as the multipliers tell. Heuristic: in the box, near the half-spaces.

    Coordinate ascent leaves the coefficient of one coordinate for each active half-space at zero: complementary
    slackness puts that coordinate on the half-space, not in a corner that rounding would choose.
    """
    reduced = torch.baddbmm(a, price, normals)
    size = a.abs() + torch.bmm(price, normals.abs())
    free = reduced.abs() <= 64 * torch.finfo(a.dtype).eps * size
    low, high = lower[:, None], upper[:, None]
    x = torch.where(free, (low + high) / 2, torch.where(reduced >= 0, low, high))
    for j in range(normals.shape[1]):
        normal = normals[:, None, j]
        over = (x * normal).sum(-1, keepdim=True) - offsets[:, None, j : j + 1]
        room = torch.where(free, normal.abs() * (high - low), 0.0)
        best = room.argmax(-1, keepdim=True)
        step = over / normal.expand_as(x).gather(-1, best)
        active = (price[..., j : j + 1] > 0) & (room.gather(-1, best) > 0)
        x = x.scatter_add(-1, best, torch.where(active, -step, 0.0))
        x = torch.minimum(torch.maximum(x, low), high)
    return x


def clip_box(
    lower: Tensor,  # (B, D)
    upper: Tensor,  # (B, D)
    normals: Tensor,  # (B, H, D)
    offsets: Tensor,  # (B, H), infinite where a half-space is absent
) -> tuple[Tensor, Tensor, Tensor]:  # lower, upper, empty (B,)
    """The box shrunk to what each half-space leaves of it (bound propagation), outward rounded.

    A crossing of the new bounds proves that the polytope is empty; the box returned for it is the old one.
    """
    old_lower, old_upper = lower, upper
    error = gamma(normals.shape[-1] + 6, lower.dtype)
    tiny = torch.finfo(lower.dtype).tiny * 1e6
    for _ in range(2):
        low, high = lower[:, None], upper[:, None]
        terms = torch.where(normals > 0, normals * low, normals * high)  # the least each coordinate adds
        size = terms.abs().sum(-1, keepdim=True) + offsets.abs()[..., None]
        room = offsets[..., None] - terms.sum(-1, keepdim=True) + terms + error * size
        limit = room / normals
        limit = torch.where(normals.abs() > tiny, limit, torch.nan)
        slack = error * limit.abs()
        high_cut = torch.where(normals > 0, limit + slack, torch.inf).nan_to_num(nan=torch.inf, posinf=torch.inf)
        low_cut = torch.where(normals < 0, limit - slack, -torch.inf).nan_to_num(nan=-torch.inf, neginf=-torch.inf)
        upper = torch.minimum(upper, high_cut.amin(1))
        lower = torch.maximum(lower, low_cut.amax(1))
    empty = (lower > upper).any(-1)
    return (
        torch.where(empty[:, None], old_lower, lower),
        torch.where(empty[:, None], old_upper, upper),
        empty,
    )
