"""Linear operators as matrices: what they cost, what they look like written out, and what rounding adds.

A convolution or an index map is written out by placing its weights, never by applying it to unit vectors, so the
entries are exact. A matrix with at most one entry a row is no matrix at all but an index map and a scaling; exporters
write selections that way.

Rounding: see `affine` on `terms` and `magnitude`. Here an operator without `scale` has entries at most one rounding
away from the exact ones, and entries that fit in float32 are exact, and so are their products in float64. Whatever
else is computed gets a `scale`: `rounding_scale(bound, r, t)` lets t terms stand for r unit roundoffs of `bound`.
Soundness: exact, or accounted for by `scale`, which is itself rounded up by a relative 1e-10.
"""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.proof_constants import UPWARD
from .affine import AbstractLinear, Adjoint, Chain, Conv, Dense, Diagonal, Identity, Select


def cost(a: AbstractLinear) -> int:
    """Multiplications of one `apply` to one vector; moves count one an entry."""
    match a:
        case Identity():
            return 0
        case Dense():
            return a.repeat * a.weight.numel()
        case Conv():
            return prod(a.out_shape) * prod(a.weight.shape[1:])
        case Adjoint():
            return cost(a.inner)
        case Chain():
            return sum(cost(part) for part in a.parts)
    return a.n_out


def summing(a: AbstractLinear) -> bool:
    """Whether some entry of A x is a sum of several entries of x."""
    match a:
        case Identity() | Diagonal() | Select():
            return False
        case Chain():
            return any(summing(part) for part in a.parts)
    return True


def dense(a: AbstractLinear) -> Dense:
    """The operator as one matrix."""
    if isinstance(a, Dense) and a.repeat == 1:
        return a
    weight, count = matrix(a), roundings(a)
    if count <= 1:
        return Dense(weight)
    return Dense(weight, 1, rounding_scale(matrix(a.magnitude()), count, max(weight.shape)))


def product(outer: AbstractLinear, inner: AbstractLinear) -> Dense:
    """outer @ inner as one matrix."""
    weight, bound = _product(outer, inner), _product(outer.magnitude(), inner.magnitude())
    count = roundings(outer) + roundings(inner) + max(outer.terms, inner.terms) + 1
    return Dense(weight, 1, rounding_scale(bound, count, max(weight.shape)))


def _product(outer: AbstractLinear, inner: AbstractLinear) -> Tensor:  # (n_out, n_in)
    if isinstance(outer, Dense) and outer.repeat == 1:
        return inner.adjoint(outer.weight)
    return outer.apply(matrix(inner).mT).mT.contiguous()


def matrix(a: AbstractLinear) -> Tensor:  # (n_out, n_in)
    """The operator's entries."""
    match a:
        case Dense(repeat=1):
            return a.weight
        case Conv():
            return _conv_matrix(a)
        case Adjoint():
            return matrix(a.inner).mT.contiguous()
    if a.n_out <= a.n_in:
        return a.adjoint(torch.eye(a.n_out, dtype=torch.float64))
    return a.apply(torch.eye(a.n_in, dtype=torch.float64)).mT.contiguous()


def _conv_matrix(a: Conv) -> Tensor:  # (n_out, n_in)
    """Each weight written to the places of the input that it meets; column 0 takes those that meet padding."""
    lines = len(a.in_shape) == 2  # one space dimension is treated as two
    place = torch.arange(1, a.n_in + 1, dtype=torch.float64).reshape(a.in_shape)
    pads = [p for pad in reversed(a.padding) for p in pad]
    place = F.pad(place, pads)
    kernel, dilation, stride = tuple(a.weight.shape[2:]), a.dilation, a.stride
    if lines:
        place, kernel, dilation, stride = place[:, None], (1, *kernel), (1, *dilation), (1, *stride)
    met = F.unfold(place[None], kernel, dilation, stride=stride)[0]  # (in_channels * kernel, places)
    met = met.long().reshape(a.groups, 1, -1, met.shape[1]).mT  # (groups, 1, places, in_channels / groups * kernel)
    weight = a.weight.reshape(a.groups, -1, 1, prod(a.weight.shape[1:]))
    entries = torch.zeros(a.groups, weight.shape[1], met.shape[2], a.n_in + 1, dtype=a.weight.dtype)
    entries.scatter_(-1, met.expand(-1, weight.shape[1], -1, -1), weight.expand(-1, -1, met.shape[2], -1))
    return entries.reshape(a.n_out, -1)[:, 1:].contiguous()


def roundings(a: AbstractLinear) -> int:
    """How many unit roundoffs of `magnitude` the entries may be away from the exact ones, when written out."""
    match a:
        case Identity() | Select():
            return 0
        case Adjoint():
            return roundings(a.inner)
        case Chain():
            return sum(roundings(part) + 1 for part in a.parts)
        case Dense() | Diagonal() | Conv():
            return 1 if a.scale is None else a.terms
    raise TypeError(f"a {type(a).__name__} is not written out")


def one_hot(a: Dense) -> AbstractLinear:
    """A matrix with at most one entry a row as an index map and a scaling."""
    if a.repeat > 1 or a.scale is not None or a.weight.shape[1] < 2:
        return a
    used = a.weight != 0
    if used.sum(1).max() > 1:
        return a
    column = used.int().argmax(1)
    factor = a.weight.gather(1, column[:, None])[:, 0]
    index = torch.where(factor != 0, column, -1)
    factor = torch.where(factor != 0, factor, torch.ones_like(factor))
    if len(index) == a.n_in and torch.equal(index, torch.arange(len(index))):
        return Identity(a.n_in) if (factor == 1).all() else Diagonal(factor)
    move = Select(index, a.n_in)
    return move if (factor == 1).all() else Chain((move, Diagonal(factor)))


def short(*factors: Tensor) -> bool:
    """Whether all numbers fit in float32, so that their products are exact in float64."""
    return all(torch.equal(f.float().double(), f) for f in factors)


def exact_sum(a: Tensor, b: Tensor) -> bool:
    """Whether a + b is computed without rounding (the error term of Knuth's TwoSum is zero)."""
    s = a + b
    other = s - a
    return not ((a - (s - other)) + (b - other)).any()


def rounding_scale(bound: Tensor, roundings: int, terms: int) -> Tensor:
    """A `scale` that lets `terms` account for `roundings` unit roundoffs of `bound`."""
    return bound * (max(1.0, roundings / terms) * UPWARD)
