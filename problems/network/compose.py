"""Products and sums of linear operators, where one operator is cheaper than two.

`compose(outer, inner)` writes inner's and outer's factors as one list and lets each new factor melt into the one
before it: index maps into index maps, scalings into weights, index maps into rows or columns of matrices, zero padding
into a convolution's own, and two summing operators into one matrix where that matrix is cheaper to apply. What is
left is a `Chain`, provided that at most one of its factors sums: |A| |B| is only an upper bound of |A B|, and
interval bounds through such a chain would be no better than through two nodes. Otherwise the answer is None, and the
two stay separate nodes.

Rounding: a product of weights is rounded. `magnitude` of the result keeps the promise of `affine` (stored entries
differ from the exact ones by at most terms * unit_roundoff * magnitude), as `matrix` explains.
Soundness: exact up to what `scale` accounts for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .affine import AbstractLinear, Adjoint, Chain, Conv, Dense, Diagonal, Identity, Select
from .matrix import cost, dense, exact_sum, one_hot, product, rounding_scale, roundings, short, summing

TINY = 1 << 14  # matrices of at most so many entries are cheaper than any structure
SMALL = 1 << 18  # up to here a matrix may replace a convolution that does half of its work
LARGE = 1 << 25  # no matrix is formed beyond this


def compose(outer: AbstractLinear, inner: AbstractLinear) -> AbstractLinear | None:
    """outer @ inner as one operator, or None where they had better stay apart."""
    factors: list[AbstractLinear] = []
    for factor in (*_factors(inner), *_factors(outer)):
        if not _push(factors, factor):
            return None
    if not factors:
        return Identity(inner.n_in)
    return factors[0] if len(factors) == 1 else Chain(tuple(factors))


def total(a: AbstractLinear, b: AbstractLinear) -> AbstractLinear | None:
    """a + b as one operator, or None where that is not cheap."""
    if isinstance(a, (Identity, Diagonal)) and isinstance(b, (Identity, Diagonal)):
        first, second = _as_diagonal(a), _as_diagonal(b)
        factor = first.factor + second.factor
        if short(first.factor, second.factor) and exact_sum(first.factor, second.factor):
            return Diagonal(factor)
        bound = first.magnitude().factor + second.magnitude().factor
        return Diagonal(factor, rounding_scale(bound, 2, 1))
    if a.n_in * a.n_out > SMALL or not (_is_matrix(a) or _is_matrix(b) or a.n_in * a.n_out <= TINY):
        return None
    one, two = dense(a), dense(b)
    weight = one.weight + two.weight
    if one.scale is None and two.scale is None and short(one.weight, two.weight) and exact_sum(one.weight, two.weight):
        return Dense(weight)
    bound = one.magnitude().weight + two.magnitude().weight
    return Dense(weight, 1, rounding_scale(bound, max(roundings(one), roundings(two)) + 1, one.terms))


def tidy(a: AbstractLinear) -> AbstractLinear:
    """The same operator in its cheapest form: a small convolution as a matrix, a one-hot matrix as an index map."""
    if isinstance(a, Dense):
        return one_hot(a)
    if not summing(a) or isinstance(a, Chain):
        return a
    size = a.n_in * a.n_out
    return dense(a) if size <= TINY or (size <= SMALL and size <= 2 * cost(a)) else a


# --- melting one factor into another


def _factors(a: AbstractLinear) -> tuple[AbstractLinear, ...]:
    return a.parts if isinstance(a, Chain) else (a,)


def _push(factors: list[AbstractLinear], factor: AbstractLinear) -> bool:
    """Append a factor, melting it into the last ones; False where two summing factors would remain."""
    if isinstance(factor, Identity):
        return True
    if not factors:
        factors.append(factor)
        return True
    last = factors[-1]
    if isinstance(factor, Select) and isinstance(last, Diagonal):
        # Moves first, scalings after: S D = D' S with D's entries moved along.
        factors.pop()
        return _push(factors, factor) and _push(factors, _moved_diagonal(factor, last))
    melted = _melt(factor, last)
    if melted is None and summing(factor) and any(summing(f) for f in factors):
        whole = factors[0] if len(factors) == 1 else Chain(tuple(factors))
        melted = _matrix_product(factor, whole)
        if melted is None:
            return False
        factors[:] = []
        return _push(factors, melted)
    if melted is None:
        factors.append(factor)
        return True
    factors.pop()
    return _push(factors, melted)


def _moved_diagonal(move: Select, diagonal: Diagonal) -> AbstractLinear:
    def take(v: Tensor) -> Tensor:
        return torch.where(move.index >= 0, v[move.index.clamp(min=0)], torch.ones((), dtype=v.dtype))

    factor = take(diagonal.factor)
    if (factor == 1).all():
        return Identity(len(factor))
    return Diagonal(factor, None if diagonal.scale is None else take(diagonal.scale))


def _melt(outer: AbstractLinear, inner: AbstractLinear) -> AbstractLinear | None:
    """outer @ inner in the cases that need no new matrix."""
    match outer, inner:
        case Select(), Select():
            index = torch.where(outer.index >= 0, inner.index[outer.index.clamp(min=0)], -1)
            if len(index) == inner.n_in and torch.equal(index, torch.arange(len(index))):
                return Identity(len(index))
            return Select(index, inner.n_in)
        case Diagonal(), Diagonal():
            return _scaled_weights(inner, "factor", outer, lambda v: v)
        case Diagonal(), Dense():
            factor = _periodic(outer, inner.repeat)
            return None if factor is None else _scaled_weights(inner, "weight", factor, lambda v: v[:, None])
        case Dense(), Diagonal():
            factor = _periodic(inner, outer.repeat)
            return None if factor is None else _scaled_weights(outer, "weight", factor, lambda v: v[None, :])
        case Diagonal(), Conv():
            factor = _channelwise(outer, inner.out_shape)
            return None if factor is None else _scaled_weights(inner, "weight", factor, _out_channels(inner))
        case Conv(), Diagonal():
            factor = _channelwise(inner, outer.in_shape)
            return None if factor is None else _scaled_weights(outer, "weight", factor, _in_channels(outer))
        case Diagonal(), Adjoint():
            melted = _melt(inner.inner, outer)
            return None if melted is None else Adjoint(melted)
        case Adjoint(), Diagonal():
            melted = _melt(inner, outer.inner)
            return None if melted is None else Adjoint(melted)
        case Select(), Dense():
            return _picked_rows(outer, inner)
        case Dense(), Select():
            return _placed_columns(outer, inner)
        case Conv(), Select():
            return _absorbed_padding(outer, inner)
    return None


def _scaled_weights(target, field: str, diagonal: Diagonal, spread: Callable[[Tensor], Tensor]):
    """`target` with its weights multiplied by the diagonal's entries, which `spread` brings to the weights' shape."""
    stored, factor = getattr(target, field), spread(diagonal.factor)
    product = stored * factor
    if target.scale is None and diagonal.scale is None and short(stored, factor):
        return replace(target, **{field: product})
    own, other = getattr(target.magnitude(), field), spread(diagonal.magnitude().factor)
    count = roundings(target) + roundings(diagonal) + 1
    return replace(target, **{field: product, "scale": rounding_scale(own * other, count, target.terms)})


def _periodic(diagonal: Diagonal, repeat: int) -> Diagonal | None:
    """One period of a diagonal that repeats itself, or None."""

    def period(v: Tensor) -> Tensor | None:
        rows = v.reshape(repeat, -1)
        return rows[0] if (rows == rows[0]).all() else None

    return _reduced(diagonal, period)


def _channelwise(diagonal: Diagonal, shape: tuple[int, ...]) -> Diagonal | None:
    """One entry a channel of a diagonal that is constant on channels, or None."""

    def channel(v: Tensor) -> Tensor | None:
        rows = v.reshape(shape[0], -1)
        return rows[:, 0] if (rows == rows[:, :1]).all() else None

    return _reduced(diagonal, channel)


def _reduced(diagonal: Diagonal, reduce) -> Diagonal | None:
    factor = reduce(diagonal.factor)
    scale = None if diagonal.scale is None else reduce(diagonal.scale)
    if factor is None or (scale is None) != (diagonal.scale is None):
        return None
    return Diagonal(factor, scale)


def _out_channels(conv: Conv) -> Callable[[Tensor], Tensor]:
    return lambda v: v.reshape(-1, *[1] * (conv.weight.ndim - 1))


def _in_channels(conv: Conv) -> Callable[[Tensor], Tensor]:
    space, channels = [1] * (conv.weight.ndim - 2), conv.weight.shape[0]

    def spread(v: Tensor) -> Tensor:
        each = v.reshape(conv.groups, 1, -1).expand(-1, channels // conv.groups, -1)
        return each.reshape(channels, -1, *space)

    return spread


def _picked_rows(move: Select, a: Dense) -> Dense | None:
    """The rows of `a` that `move` picks, unless they are so many more that moving afterwards is cheaper."""
    if a.repeat > 1 or (move.n_out > 2 * move.n_in and move.n_out * a.n_in > TINY):
        return None

    def pick(w: Tensor) -> Tensor:
        return w[move.index.clamp(min=0)] * (move.index >= 0).to(w.dtype)[:, None]

    weight = pick(a.weight)
    # A shorter matrix must still account for as many roundings as the longer one.
    scale = None if a.scale is None else rounding_scale(pick(a.scale), roundings(a), max(weight.shape))
    return Dense(weight, 1, scale)


def _placed_columns(a: Dense, move: Select) -> Dense | None:
    """`a` on the vector before the move: its columns scattered to where `move` takes them from."""
    if a.repeat > 1 or (move.n_in > 2 * move.n_out and move.n_in * a.n_out > TINY):
        return None
    weight = move.adjoint(a.weight)
    if move.terms == 1 and a.scale is None:
        return Dense(weight)
    count = roundings(a) + move.terms
    return Dense(weight, 1, rounding_scale(move.adjoint(a.magnitude().weight), count, max(weight.shape)))


def _absorbed_padding(conv: Conv, move: Select) -> Conv | None:
    """The convolution with the zero padding that `move` does added to its own, if padding is all that it does."""
    image = move.index.reshape(conv.in_shape)
    inside = image >= 0
    padding, cut = [], []
    for axis in range(1, image.ndim):
        used = inside.transpose(0, axis).reshape(image.shape[axis], -1).any(1).nonzero().reshape(-1)
        if not len(used):
            return None
        before, after = int(used[0]), image.shape[axis] - 1 - int(used[-1])
        own_before, own_after = conv.padding[axis - 1]
        padding.append((own_before + before, own_after + after))
        cut.append(slice(before, image.shape[axis] - after))
    core = image[(slice(None), *cut)]
    if not torch.equal(core.reshape(-1), torch.arange(move.n_in)):
        return None
    return replace(conv, in_shape=tuple(core.shape), padding=tuple(padding))


# --- matrices


def _matrix_product(outer: AbstractLinear, inner: AbstractLinear) -> Dense | None:
    """outer @ inner as a matrix, where applying it costs less than applying both."""
    if isinstance(outer, Dense) and isinstance(inner, Dense) and outer.repeat == inner.repeat > 1:
        segment = _matrix_product(Dense(outer.weight, 1, outer.scale), Dense(inner.weight, 1, inner.scale))
        return None if segment is None else replace(segment, repeat=outer.repeat)
    size = outer.n_out * inner.n_in
    if size > LARGE or (size > TINY and size > cost(outer) + cost(inner)):
        return None
    return product(outer, inner)


def _is_matrix(a: AbstractLinear) -> bool:
    return isinstance(a, Dense) and a.repeat == 1


def _as_diagonal(a: Identity | Diagonal) -> Diagonal:
    return a if isinstance(a, Diagonal) else Diagonal(torch.ones(a.n, dtype=torch.float64))
