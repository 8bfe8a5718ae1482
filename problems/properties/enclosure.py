"""A finite box around a polytope that was given by half-spaces, at least on some sides.

The bounds come from linear programs (one for each missing side), but nothing the solver says is trusted. For a side
s x_i (s = 1 or -1) and any multipliers y >= 0 of the rows N x <= b, let r = s e_i - y N. Every point of the set has

    s x_i = y N x + r x <= y b + sum_j r_j x_j,

where r_j x_j is at most r_j u_j (or r_j l_j, by its sign) if that side of x_j is given, and at most |r_j| t if not,
t being the point's largest |x_j| among inputs with a missing side. So s x_i <= v + g t with numbers v and g; taking
the largest over all sides, t <= max(v, given sides) + max(g) t, which bounds t as soon as g < 1 (at an optimal y it
is about 1e-9), and then every side. Soundness: outward rounded; `ROUNDING` covers the float64 sums.
"""

from __future__ import annotations

import numpy as np

from ...kernels.proof_constants import ROUNDING
from .property import Array, Polytope


def enclose(polytope: Polytope) -> Polytope:
    """The same set with every side of its box finite; the polytope as it is where that cannot be proved."""
    sides = [
        (i, sign)
        for i in range(polytope.size)
        for sign, bound in ((-1.0, polytope.lower[i]), (1.0, polytope.upper[i]))
        if not np.isfinite(bound)
    ]
    answers = [_side(polytope, i, sign) for i, sign in sides]
    found = [answer for answer in answers if answer is not None]
    if len(found) < len(answers) or max(growth for _, growth in found) >= 0.5:
        return polytope
    given = np.concatenate([polytope.lower, polytope.upper])
    reach = max(max(value for value, _ in found), np.abs(given[np.isfinite(given)]).max(initial=0.0))
    reach *= (1 + ROUNDING) / (1 - max(growth for _, growth in found))
    lower, upper = polytope.lower.copy(), polytope.upper.copy()
    for (i, sign), (value, growth) in zip(sides, found, strict=True):
        if sign > 0:
            upper[i] = value + growth * reach
        else:
            lower[i] = -(value + growth * reach)
    return Polytope(lower, upper, polytope.normals, polytope.offsets)


def _side(polytope: Polytope, i: int, sign: float) -> tuple[float, float] | None:
    """(v, g) with sign x_i <= v + g t on the whole set, or None where the linear program has no optimum."""
    from scipy.optimize import linprog

    objective: Array = np.zeros(polytope.size)
    objective[i] = sign
    box = np.stack([polytope.lower, polytope.upper], 1)
    answer = linprog(-objective, A_ub=polytope.normals, b_ub=polytope.offsets, bounds=box, method="highs")
    if answer.status != 0:
        return None
    multipliers = np.maximum(-answer.ineqlin.marginals, 0.0)
    residual = objective - multipliers @ polytope.normals
    error = ROUNDING * (np.abs(objective) + multipliers @ np.abs(polytope.normals))
    ends = np.where(residual > 0, polytope.upper, polytope.lower)
    known = np.isfinite(ends)
    terms = np.concatenate([multipliers * polytope.offsets, residual[known] * ends[known]])
    # The residual's own rounding error may have either sign, so it is charged against both ends.
    doubt = error * np.maximum(np.abs(polytope.lower), np.abs(polytope.upper))
    value = terms.sum() + ROUNDING * (1 + np.abs(terms).sum()) + doubt[np.isfinite(doubt)].sum()
    growth = np.abs(residual)[~known].sum() + error[~np.isfinite(doubt)].sum()
    return float(value), float(growth)
