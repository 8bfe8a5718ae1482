"""ONNX operators that ReLUs express exactly.

    max(a, b)    = a + relu(b - a)                 min(a, b) = a - relu(a - b)
    clip(x)      = low + relu(x - low) - relu(x - high)     (without low: high - relu(high - x))
                 = x + relu(low - x) - relu(x - high)
    |x|          = 2 relu(x) - x                   one neuron, where relu(x) + relu(-x) would take two
    leaky(x)     = slope x + (1 - slope) relu(x)   for slopes outside [0, 1), where it is no `LeakyReLU`

Of the two forms of a bound the first needs no x beside its neurons, and the second is right in floating point however
large the bound: where it is not reached its neuron is 0, and nothing cancels. So the first is taken for bounds up to
`CLOSE`. Where the input's box is known (`ranges`), sides that are never reached there are left out, and the first form
is taken for the others.

Pools are balanced trees of binary maxima (`Builder.maximum`). Soundness: exact.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..network.activation import LeakyReLU
from ..network.affine import Identity
from ..network.builder import Term, Value, positions, scaled, select
from .call import Argument, Call
from .linear import pool_windows

INFINITE = "has a result that is always infinite; a network with such values cannot be verified"
CLOSE = 256  # a bound up to here may be added and taken away again


def relu(call: Call) -> Value:
    return call.builder.relu(call.variable(0), call.name)


def leaky_relu(call: Call) -> Value:
    x, slope = call.variable(0), call.attribute("alpha", float(np.float32(0.01)))
    if not np.isfinite(slope):
        raise call.refuse(f"has the slope {slope}; it must be a finite number")
    if 0 <= slope < 1:
        return call.builder.activation(x, LeakyReLU(slope), call.name)
    same = Identity(x.size)
    terms = [(scaled(same, slope), x), (scaled(same, 1 - slope), call.builder.relu(x, call.name))]
    return call.builder.affine(terms, x.shape, name=call.name)


def absolute(call: Call) -> Value:
    x = call.variable(0)
    same = Identity(x.size)
    terms = [(scaled(same, 2), call.builder.relu(x, call.name)), (scaled(same, -1), x)]
    return call.builder.affine(terms, x.shape, name=call.name)


def _bound(call: Call, key: str, i: int, absent: float) -> float:
    """A bound of Clip: an attribute until opset 10, an optional argument afterwards."""
    value = call.attribute(key)
    if value is None and call.has(i):
        given = call.constant(i, "bounds")
        if given.size != 1:
            raise call.refuse(f"has bounds of shape {given.shape}; a bound is a single number")
        value = given.item()
    if value is not None and np.isnan(value):
        raise call.refuse("has NaN as a bound; it must be a number")
    return absent if value is None else float(value)


def clip(call: Call) -> Value:
    """min(max(x, low), high), which is high where low is larger."""
    x = call.variable(0)
    low, high = _bound(call, "min", 1, -np.inf), _bound(call, "max", 2, np.inf)
    if low >= high:
        return _constant(call, x, np.full(x.shape, high))
    return _between(call, x, np.full(x.shape, low), np.full(x.shape, high))


def _constant(call: Call, x: Value, value: NDArray) -> Value:
    if not np.isfinite(value).all():
        raise call.refuse(INFINITE)
    return call.builder.constant(value, x.shape, call.name)


def _between(call: Call, x: Value, low: NDArray, high: NDArray) -> Value:
    """min(max(x, low), high) for arrays of x's shape with low < high, infinite where there is no bound.

    On a builder that knows its inputs' box, a side that x never reaches there is not built.
    """
    builder = call.builder
    low, high = low.reshape(-1), high.reshape(-1)
    ranges = builder.interval(x)
    least, most = (np.full(x.size, s) for s in (-np.inf, np.inf)) if ranges is None else ranges
    at_low, at_high = most <= low, least >= high  # everywhere on the box; false for intervals that are NaN
    fixed = np.where(at_low, low, np.where(at_high, high, 0.0))
    if (at_low | at_high).all():
        return _constant(call, x, fixed.reshape(x.shape))
    moving = ~(at_low | at_high)
    below = moving & ~(least >= low) & (low > -np.inf)
    above = moving & ~(most <= high) & (high < np.inf)
    if np.isinf(fixed).any():
        raise call.refuse(INFINITE)
    known = ranges is not None  # then x is as large as the bounds that it reaches
    from_low = below & (known | (np.abs(low) <= CLOSE))  # low + relu(x - low), else x + relu(low - x)
    from_high = above & ~below & (known | (np.abs(high) <= CLOSE))  # high - relu(high - x), else - relu(x - high)
    start = np.where(from_low, low, np.where(from_high, high, fixed))
    own = moving & ~from_low & ~from_high
    terms = [(select(np.where(own, np.arange(x.size), -1), x.size), x)] if own.any() else []
    if below.any():
        terms.append(_excess(call, x, below, np.where(from_low, 1, -1), low))
    if above.any():
        operator, gain = _excess(call, x, above, np.where(from_high, -1, 1), high)
        terms.append((scaled(operator, -1), gain))
    if own.all() and len(terms) == 1:
        return x
    y = builder.affine(terms, x.shape, start.reshape(x.shape), call.name)
    if ranges is not None:
        builder.narrow(y, np.clip(least, low, high), np.clip(most, low, high))
    return y


def _excess(call: Call, x: Value, where: NDArray, sign: NDArray, bound: NDArray) -> Term:
    """relu(sign (x - bound)) for the entries `where`, put back in their places."""
    at = np.flatnonzero(where)
    into = select(at, x.size)
    if (sign[at] < 0).any():
        into = scaled(into, sign[at])
    z = call.builder.affine([(into, x)], (len(at),), -sign[at] * bound[at], call.name)
    place = np.full(x.size, -1)
    place[at] = np.arange(len(at))
    return select(place, len(at)), call.builder.relu(z, call.name)


def _larger(call: Call, a: Argument, b: Argument, sign: int) -> Value:
    """sign * max(sign * a, sign * b); a constant, if there is one, comes first."""
    if not isinstance(b, Value):
        a, b = b, a
    assert isinstance(b, Value), "extrema of constants are folded"
    builder, shape = call.builder, np.broadcast_shapes(a.shape, b.shape)
    if not isinstance(a, Value):
        if np.isnan(a).any():
            raise call.refuse("has NaN as a constant; a network with such weights cannot be verified")
        x = b if b.shape == shape else builder.select(b, np.broadcast_to(positions(b.shape), shape), call.name)
        bound = np.broadcast_to(np.asarray(a, np.float64), shape)
        none = np.full(shape, sign * np.inf)
        return _between(call, x, none, bound) if sign < 0 else _between(call, x, bound, none)
    spread = builder.broadcast(b, shape)
    plus = (scaled(spread, sign) if sign < 0 else spread, b)
    same = Identity(int(np.prod(shape)))
    own = builder.broadcast(a, shape)
    gain = builder.affine([plus, (scaled(own, -1) if sign > 0 else own, a)], shape, name=call.name)
    gain = builder.relu(gain, call.name)
    return builder.affine([(own, a), (scaled(same, sign) if sign < 0 else same, gain)], shape, name=call.name)


def extremum(call: Call) -> Argument:
    """Max and Min of several tensors, as a balanced tree."""
    sign = 1 if call.kind == "Max" else -1
    fold = np.maximum if sign > 0 else np.minimum
    arguments = [call.argument(i) for i in range(len(call.arguments))]
    variables: list[Argument] = [x for x in arguments if isinstance(x, Value)]
    known = [x for x in arguments if not isinstance(x, Value)]
    if known:
        constant = known[0]
        for x in known[1:]:
            constant = fold(constant, x)
        variables.append(constant)
    while len(variables) > 1:
        paired = [_larger(call, a, b, sign) for a, b in zip(variables[::2], variables[1::2], strict=False)]
        variables = [*paired, *variables[2 * len(paired) :]]
    return variables[0]


def max_pool(call: Call) -> Value:
    x = call.variable(0)
    if call.outputs > 1:
        raise call.refuse("also returns indices, which is not supported")
    kernel, stride, dilation, padding, sizes = pool_windows(call, x.shape[2:])
    index = positions(x.shape)
    for axis, (n, k, s, d, (before, _), size) in enumerate(
        zip(x.shape[2:], kernel, stride, dilation, padding, sizes, strict=True)
    ):
        place = np.arange(size)[:, None] * s - before + np.arange(k) * d  # (size, k)
        index = np.take(index, place.clip(0, n - 1), axis=2 + 2 * axis)
        inside = ((place >= 0) & (place < n)).reshape(size, k, *[1] * (index.ndim - 4 - 2 * axis))
        index = np.where(inside, index, -1)
    # (batch, channels, size, k, size, k): windows' own axes last
    dimensions = len(kernel)
    order = [0, 1, *(2 + 2 * a for a in range(dimensions)), *(3 + 2 * a for a in range(dimensions))]
    windows = index.transpose(order).reshape(-1, int(np.prod(kernel)))
    return call.builder.maximum(x, windows, (*x.shape[:2], *sizes), call.name)


PIECEWISE_OPERATORS: dict[str, Callable[[Call], Argument]] = {
    "Abs": absolute,
    "Clip": clip,
    "LeakyRelu": leaky_relu,
    "Max": extremum,
    "MaxPool": max_pool,
    "Min": extremum,
    "Relu": relu,
}
