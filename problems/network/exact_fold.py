"""Whether folding one affine node into another rounded anything.

Soundness: `True` is exact, `False` may be cautious.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ...kernels.dyadic import Dyadic, dyadic
from .affine import AbstractLinear, Chain, Identity, Select
from .graph import Affine
from .matrix import exact_sum, matrix, short, summing

SMALL = 1 << 15  # products of two entries that are written out in whole numbers


def folds_exactly(
    outer: AbstractLinear,
    inner: Affine,
    products: Sequence[AbstractLinear],  # outer after each operator of inner
    bias: Tensor,  # of the outer node so far
    moved: Tensor,  # outer applied to the inner node's bias
) -> bool:
    """Whether the products and the new bias are what they would be without rounding."""
    if not bias_folds_exactly(outer, inner, bias, moved):
        return False
    if moves(outer):
        return True
    return all(_exact(outer, one, product) for one, product in zip(inner.operators, products, strict=True))


def bias_folds_exactly(outer: AbstractLinear, inner: Affine, bias: Tensor, moved: Tensor) -> bool:
    """Whether bias + moved, moved being outer applied to the inner node's bias, is rounded nowhere."""
    if not exact_sum(bias, moved):
        return False
    if moves(outer) or not inner.bias.any():
        return True
    if scaled(outer) or not _small(outer, 1):
        return False
    return _equal(outer, dyadic(inner.bias[:, None].numpy()), moved[:, None])


def scaled(operator: AbstractLinear) -> bool:
    """Whether the operator's entries are off what they stand for."""
    if getattr(operator, "scale", None) is not None:
        return True
    parts = [getattr(operator, "inner", None), *getattr(operator, "parts", ())]
    return any(scaled(part) for part in parts if part is not None)


def sums_exactly(a: AbstractLinear, b: AbstractLinear) -> bool:
    """Whether a + b, written out as one matrix, is not rounded."""
    if a.n_in * a.n_out > SMALL:
        return False
    return not any(_rounds(one) for one in (a, b)) and exact_sum(matrix(a), matrix(b))


def whole(operator: AbstractLinear) -> Dyadic:  # (n_out, n_in)
    """The operator's entries in whole numbers."""
    first, *others = (dyadic(matrix(part).detach().cpu().double().numpy()) for part in _parts(operator))
    for part in others:
        first = Dyadic(part.whole @ first.whole, part.shift + first.shift)
    return first


def moves(operator: AbstractLinear) -> bool:
    """Whether the operator does nothing but move entries."""
    return all(isinstance(part, Identity | Select) for part in _parts(operator))


def _exact(outer: AbstractLinear, inner: AbstractLinear, product: AbstractLinear) -> bool:
    if moves(inner) and inner.terms == 1:
        return True
    if not (summing(outer) and (summing(inner) or _repeats(inner))):
        numbers = (*_weights(outer), *_weights(inner))
        if len(numbers) <= 2 and short(*numbers):  # a product of two float32 numbers an entry, and no sum
            return True
    return _small(outer, inner.n_in) and _equal(outer, whole(inner), product)


def _repeats(operator: AbstractLinear) -> bool:
    """Whether an operator that does not sum gives some entry more than once; what sums after it adds these up."""
    return any(part.terms > 1 for part in _parts(operator))


def _small(outer: AbstractLinear, columns: int) -> bool:
    return outer.n_in * outer.n_out * columns <= SMALL


def _equal(outer: AbstractLinear, inner: Dyadic, product: AbstractLinear | Tensor) -> bool:
    """Whether outer @ inner is the product, in whole numbers."""
    a = whole(outer)
    numbers = product.weights() if isinstance(product, AbstractLinear) else [product]
    if not all(bool(torch.isfinite(v).all()) for v in numbers):
        return False
    c = whole(product) if isinstance(product, AbstractLinear) else dyadic(product.numpy())
    shift = a.shift + inner.shift
    most = max(shift, c.shift)
    return bool(np.array_equal((a.whole @ inner.whole) << (most - shift), c.whole << (most - c.shift)))


def _rounds(operator: AbstractLinear) -> bool:
    """Whether writing the operator out as one matrix may round."""
    return len(_parts(operator)) > 1 and len(tuple(_weights(operator))) > 1


def _parts(operator: AbstractLinear) -> tuple[AbstractLinear, ...]:
    return operator.parts if isinstance(operator, Chain) else (operator,)


def _weights(operator: AbstractLinear) -> Iterator[Tensor]:
    """The numbers in an operator."""
    for part in _parts(operator):
        inner = getattr(part, "inner", None)
        if inner is not None:
            yield from _weights(inner)
        own = ((name, v) for name, v in vars(part).items() if name != "scale")
        yield from (v for _, v in own if isinstance(v, Tensor) and v.is_floating_point())
