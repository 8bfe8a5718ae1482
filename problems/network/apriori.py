"""What rounding can make of some nodes of a graph: values in float64, each with a bound of how far others may be off.

Whoever computes the same nodes in another order and with unit roundoff u (onnxruntime in the file's precision, or a
graph whose affine nodes were fused) errs in an inner product of t terms and a bias by at most

    gamma_{t+SLACK}(u) (|A| |x| + |b|) + (t + SLACK) eta

with eta the smallest number of its type (products that underflow); an activation moves by what its input moved. Own
rounding in float64 is of the same form, so one bound with u + 2^-53 covers the difference of the two (Higham, Accuracy
and Stability of Numerical Algorithms, 2002, sections 2.8 and 3.1). Entry by entry: no bound knows of any other entry's
size. Soundness: outward, up to the rounding of the bound itself, which `SLACK` covers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from ...kernels.deadline import check
from ...kernels.proof_constants import DOUBLE, SLACK
from .activation import AbstractActivation
from .affine import AbstractLinear, Adjoint, Chain, Conv, Dense
from .graph import Activation, Affine, Multivariate, Node
from .multivariate import AbstractMultivariate
from .product import Product


@dataclass(frozen=True)
class Precision:
    """The arithmetic of the other side: its unit roundoff and its smallest number; `exact` where it never rounds."""

    roundoff: float
    smallest: float
    doubt: int = 0  # unit roundoffs by which the weights may differ beforehand

    @classmethod
    def of(cls, dtype: torch.dtype, doubt: int = 0) -> Precision:
        return cls(torch.finfo(dtype).eps / 2, torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps, doubt)


EXACT = Precision(0.0, 0.0)


class Judged(NamedTuple):
    """A node's value, how far another's may be from it, and the size of the largest sum on the way; (P, n) each."""

    value: Tensor
    error: Tensor
    size: Tensor


def judged(
    nodes: Sequence[Node], which: Iterable[int], known: dict[int, Judged], precision: Precision | dict[int, Precision]
) -> dict[int, Judged]:
    """The nodes `which`, in topological order, from those `known` (their errors included), which are kept."""
    found = dict(known)
    for i in which:
        if i in found:
            continue
        check()
        node = nodes[i]
        arguments = [found[j] for j in node.inputs]
        own = precision[i] if isinstance(precision, dict) else precision
        match node:
            case Affine():
                found[i] = _affine(node, arguments, own)
            case Activation():
                found[i] = _activation(node.function, arguments[0], own)
            case Multivariate():
                found[i] = _several(node.function, arguments, own)
            case _:
                raise AssertionError("the input is known")
    return found


def evaluated(nodes: Sequence[Node], which: Iterable[int], known: dict[int, Judged]) -> dict[int, Tensor]:
    """The values alone."""
    found = {i: x.value for i, x in known.items()}
    for i in which:
        check()
        node = nodes[i]
        arguments = [found[j] for j in node.inputs]
        match node:
            case Affine():
                found[i] = node.apply(arguments)
            case Activation():
                found[i] = node.function.value(arguments[0])
            case Multivariate():
                found[i] = node.function.value(*arguments)
            case _:
                raise AssertionError("the input is known")
    return found


def given(value: Tensor) -> Judged:
    """A value that both sides share."""
    return Judged(value, torch.zeros_like(value), value.abs())


def rounded(x: Judged, precision: Precision) -> Judged:
    """The value where the other side has rounded it once more."""
    return x._replace(error=x.error + precision.roundoff * (x.value.abs() + x.error) + precision.smallest)


def inner_terms(a: AbstractLinear) -> int:
    """Terms of the longest inner product in `apply`."""
    match a:
        case Dense():
            return a.weight.shape[1]
        case Conv():
            return prod(a.weight.shape[1:])
        case Adjoint(inner=Conv() as conv):
            return prod(conv.weight.shape[2:]) * conv.weight.shape[0] // conv.groups
        case Adjoint():
            return a.terms
        case Chain():
            return sum(inner_terms(part) for part in a.parts)
    return 1


def factor(terms: int, precision: Precision) -> float:
    """gamma_{terms + SLACK}, of the other side's rounding and of float64's together."""
    share = (terms + SLACK + precision.doubt) * (precision.roundoff + DOUBLE)
    return share / (1 - share) if share < 0.5 else float("inf")


def _affine(node: Affine, arguments: Sequence[Judged], precision: Precision) -> Judged:
    value = node.apply([x.value for x in arguments])
    size, moved = node.bias.abs().expand_as(value), torch.zeros_like(value)
    for operator, x in zip(node.operators, arguments, strict=True):
        magnitude = operator.magnitude()
        size = size + magnitude.apply(x.value.abs())
        if x.error.any():
            moved = moved + magnitude.apply(x.error)
    terms = max(inner_terms(operator) for operator in node.operators) + len(node.operators)
    error = factor(terms, precision) * (size + moved) + moved + (terms + SLACK) * precision.smallest
    return Judged(value, error, size)


def _activation(function: AbstractActivation, x: Judged, precision: Precision) -> Judged:
    """Of increasing functions, what is between the values at both ends of the input's doubt."""
    value = function.value(x.value)
    moved = torch.zeros_like(value)
    if x.error.any():
        low, high = x.value - x.error, x.value + x.error
        if function.increasing:
            moved = torch.maximum(function.value(high) - value, value - function.value(low))
        else:
            moved = x.error * function.steepest(low, high)
    absolute, relative = function.kernel_error
    unit = precision.roundoff + DOUBLE
    error = moved * (1 + SLACK * DOUBLE) + unit * (absolute + relative * value.abs()) + relative * precision.smallest
    if not function.pieces and precision.roundoff:
        error = error + precision.smallest / (2 * precision.roundoff)  # they are careless below the normal numbers
    return Judged(value, error, value.abs())


def _several(function: AbstractMultivariate, arguments: Sequence[Judged], precision: Precision) -> Judged:
    """Of a product as it is; of other functions, what is between the ends of its interval over the inputs' doubts."""
    if isinstance(function, Product):
        return _product(arguments[0], arguments[1], precision)
    value = function.value(*(x.value for x in arguments))
    low, high = function.interval(*((x.value - x.error, x.value + x.error) for x in arguments))
    reach = function.reach(*(x.value.abs() + x.error for x in arguments))
    terms = function.terms([x.value.shape[-1] for x in arguments])
    error = torch.maximum(high - value, value - low) + factor(terms, precision) * reach
    return Judged(value, error + (terms + SLACK) * precision.smallest, reach)


def _product(a: Judged, b: Judged, precision: Precision) -> Judged:
    value = a.value * b.value
    moved = a.value.abs() * b.error + b.value.abs() * a.error + a.error * b.error
    error = moved * (1 + SLACK * DOUBLE) + factor(1, precision) * value.abs() + SLACK * precision.smallest
    return Judged(value, error, value.abs())
