"""Signs of an affine node's terms, where rounding must not blur them: is an end of an interval at least, or at most, 0?

y_i = sum_j a_ij x_j + b_i over x_j in [l_j, u_j] has a negative term exactly where a_ij > 0 and l_j < 0, or a_ij < 0
and u_j > 0, or b_i < 0. Where it has none, y_i >= 0, whatever a computation of its least value came to. With
p = [l < 0] and q = [u > 0], S the signs of A's entries and |S| their absolute values,

    twice the number of negative terms = |S| (p + q) + S (p - q),    of positive ones = |S| (p + q) - S (p - q).

These are sums of small integers, which floating-point numbers hold exactly in any order of summation, so the answer is
exact: a term with a zero factor counts nowhere, be the other factor infinite, and no product can underflow.

An entry whose stored value is rounded further than it is large (products of weights that were folded, numbers below the
normal ones of a coarser dtype) has no known sign: 0 in S and 1 in |S|, so that it counts on both sides.
Soundness: exact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ...kernels.proof_constants import COUNTABLE, SUMMED
from ...kernels.rounding import gamma
from ...problems.network.affine import AbstractLinear, Adjoint, Chain, Conv, Dense, Diagonal, Identity, Select


class Signs(NamedTuple):
    """sign: the signs of an operator's entries, 0 where unknown; some: 1 where an entry may be other than 0."""

    sign: AbstractLinear
    some: AbstractLinear


def signs_of(operator: AbstractLinear) -> Signs | None:
    """The signs of an operator's exact entries; None where they cannot be counted."""
    if operator.terms > COUNTABLE:
        return None
    match operator:
        case Identity() | Select():
            return Signs(operator, operator)
        case Dense() | Conv():
            sign, some = _entries(operator.weight, operator.scale, operator.terms)
            return Signs(replace(operator, weight=sign, scale=None), replace(operator, weight=some, scale=None))
        case Diagonal():
            return Signs(*(Diagonal(factor) for factor in _entries(operator.factor, operator.scale, operator.terms)))
        case Adjoint():
            inner = signs_of(operator.inner)
            return None if inner is None else Signs(*(Adjoint(part) for part in inner))
        case Chain():
            parts = [signs for part in operator.parts if (signs := signs_of(part)) is not None]
            if len(parts) < len(operator.parts):
                return None
            return Signs(Chain(tuple(part.sign for part in parts)), Chain(tuple(part.some for part in parts)))
    return None


def _entries(weight: Tensor, scale: Tensor | None, terms: int) -> tuple[Tensor, Tensor]:
    """Signs and possible non-zeros of stored entries, which are off by at most gamma_terms scale."""
    if scale is None:
        return weight.sign(), (weight != 0).to(weight.dtype)
    sure = weight.abs() > SUMMED * gamma(terms, weight.dtype) * scale
    return torch.where(sure, weight.sign(), 0.0), ((weight != 0) | (scale > 0)).to(weight.dtype)


def counts(signs: Signs, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:  # (B, n_in) each -> (B, n_out) each
    """Twice the number of terms that may be negative, and that may be positive, for x in [lower, upper].

    An end that is no number is unknown.
    """
    negative, positive = (~(lower >= 0)).to(lower.dtype), (~(upper <= 0)).to(upper.dtype)
    both, difference = signs.some.apply(negative + positive), signs.sign.apply(negative - positive)
    return both + difference, both - difference
