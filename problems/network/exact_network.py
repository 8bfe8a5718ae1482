"""A network over the rational numbers: its outputs at a rational point, without rounding.

Weights are float64 numbers, so with a common denominator Q of the inputs every value of a piecewise-linear network is
n 2^e / Q with integers n. A layer's n are Python integers; its products are computed where products are fast. Weights
and values are cut into digits of so few bits that an inner product of them is an integer below 2^53: float64 then
multiplies and adds exactly, in whatever order and by whatever kernel, and the digits are put together again as
integers. So convolutions are applied as convolutions, a layer of a million products takes a tenth of a second, and
values may grow by any number of bits from layer to layer.

The idea of exact products by slices is Ozaki, Ogita, Oishi, Rump, "Error-free transformations of matrix
multiplication" (2012). Soundness: exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from math import lcm
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels.dyadic import Whole, dyadic
from .affine import AbstractLinear, Adjoint, Chain, Conv, Dense, Diagonal, Identity, Select
from .graph import Activation, Affine, Graph, Input
from .matrix import cost

MANTISSA = 53


class _Scaled(NamedTuple):
    """The numbers n 2^exponent (over the evaluation's denominator)."""

    n: Whole
    exponent: int


def exactly_known(graph: Graph) -> bool:
    """Whether the graph has values in rational numbers, and they are the file's: (leaky) ReLUs, and weights and biases
    that no import or fusion has rounded."""
    for node in graph.nodes:
        match node:
            case Input():
                pass
            case Activation() if node.function.leak is not None:
                pass
            case Affine():
                if node.rounded or not all(
                    _stored(factor) for operator in node.operators for factor in _factors(operator)
                ):
                    return False
            case _:
                return False
    return True


def multiplications(graph: Graph) -> int:
    """Multiplications of one evaluation in floating point."""
    return sum(cost(operator) for node in graph.nodes if isinstance(node, Affine) for operator in node.operators)


def exact_outputs(graph: Graph, x: Sequence[Fraction]) -> list[Fraction]:  # (n_in,) -> (n_out,)
    """The outputs at x. Exact. Needs `exactly_known(graph)`, and weights in float64 on the CPU."""
    denominator = lcm(*(v.denominator for v in x))
    values = [_reduced(np.array([v.numerator * (denominator // v.denominator) for v in x], dtype=object), 0)]
    for node in graph.nodes[1:]:
        arguments = [values[i] for i in node.inputs]
        match node:
            case Affine():
                values.append(_affine(node, arguments, denominator))
            case Activation() if (leak := node.function.leak) is not None:
                values.append(_leaky(leak, arguments[0]))
            case _:
                raise TypeError(f"layer {node.name!r} has no exact value")
    n, exponent = values[-1]
    unit = Fraction(2) ** exponent / denominator
    return [v * unit for v in n.tolist()]


def _affine(node: Affine, arguments: Sequence[_Scaled], denominator: int) -> _Scaled:
    bias = dyadic(node.bias.numpy())
    total = _Scaled(bias.whole * denominator, -bias.shift)
    for operator, value in zip(node.operators, arguments, strict=True):
        for factor in _factors(operator):
            value = _applied(factor, value)
        total = _sum(total, value)
    return _reduced(*total)


def _leaky(slope: float, x: _Scaled) -> _Scaled:
    numerator, denominator = slope.as_integer_ratio()  # of powers of two
    shift = denominator.bit_length() - 1
    return _reduced(np.where(x.n < 0, x.n * numerator, x.n * denominator), x.exponent - shift)


def _sum(a: _Scaled, b: _Scaled) -> _Scaled:
    low = min(a.exponent, b.exponent)
    return _Scaled(a.n * (1 << (a.exponent - low)) + b.n * (1 << (b.exponent - low)), low)


def _reduced(n: Whole, exponent: int) -> _Scaled:
    """The same numbers without the factors of two that all of them share."""
    shared = int(np.bitwise_or.reduce(n)) if len(n) else 0
    zeros = (shared & -shared).bit_length() - 1 if shared else 0
    return _Scaled(n >> zeros if zeros else n, exponent + zeros if shared else 0)


# ---- one operator


def _applied(a: AbstractLinear, x: _Scaled) -> _Scaled:
    """A x, by digits."""
    if isinstance(a, Identity):
        return x
    bits = (MANTISSA - int(a.terms).bit_length()) // 2
    digits = torch.from_numpy(_digits(x.n, bits))
    columns: dict[int, NDArray[np.int64]] = {}  # by power of two; each of the fewer than 2^10 summands is below 2^53
    for operator, shift in _slices(a, bits):
        for level, product in enumerate(operator.apply(digits).numpy().astype(np.int64)):
            place = shift + level * bits
            columns[place] = columns[place] + product if place in columns else product
    total, low = np.array([0] * a.n_out, dtype=object), min(columns, default=0)
    for place, column in columns.items():
        total = total + column.astype(object) * (1 << (place - low))
    return _Scaled(total, x.exponent + low)


def _digits(n: Whole, bits: int) -> NDArray[np.float64]:  # (n,) -> (levels, n)
    """Signed digits, the lowest first: n = sum of digits[l] 2^(l bits)."""
    size = np.abs(n)
    sign = np.where(n < 0, -1.0, 1.0)
    levels = max(1, -(-int(size.max()).bit_length() // bits))
    mask = (1 << bits) - 1
    return np.stack([((size >> (level * bits)) & mask).astype(np.float64) * sign for level in range(levels)])


def _factors(a: AbstractLinear) -> Iterator[AbstractLinear]:
    """The operators whose product, first to last, A is."""
    match a:
        case Chain():
            for part in a.parts:
                yield from _factors(part)
        case Adjoint(inner=Chain(parts=parts)):
            for part in reversed(parts):
                yield from _factors(Adjoint(part))
        case _:
            yield a


def _stored(a: AbstractLinear) -> bool:
    """Whether the operator is of a known kind, and its entries are the exact ones."""
    match a:
        case Identity() | Select():
            return True
        case Dense() | Diagonal() | Conv():
            return a.scale is None
        case Adjoint():
            return _stored(a.inner)
    return False


def _slices(a: AbstractLinear, bits: int) -> Iterator[tuple[AbstractLinear, int]]:
    """Operators of integers below 2^bits, with shifts: A is the sum of their multiples by 2^shift."""
    match a:
        case Dense() | Conv():
            for part, shift in _slices_of(a.weight, bits):
                yield replace(a, weight=part, scale=None), shift
        case Diagonal():
            for part, shift in _slices_of(a.factor, bits):
                yield Diagonal(part), shift
        case Adjoint():
            for inner, shift in _slices(a.inner, bits):
                yield Adjoint(inner), shift
        case _:
            yield a, 0


def _slices_of(weight: torch.Tensor, bits: int) -> Iterator[tuple[torch.Tensor, int]]:
    rest = weight.numpy()
    shift = int(np.frexp(np.abs(rest).max(initial=0.0))[1])
    while rest.any():
        shift -= bits
        part = np.trunc(np.ldexp(rest, -shift))
        if part.any():
            yield torch.from_numpy(part), shift
            rest = rest - np.ldexp(part, shift)  # without rounding: the leading bits are taken away
