"""ONNX operators that are not linear: activations, and what ReLUs express exactly.

    max(a, b)    = a + relu(b - a)                 min(a, b) = a - relu(a - b)
    clip(x)      = low + relu(x - low) - relu(x - high)
    |x|          = 2 relu(x) - x                   one neuron, where relu(x) + relu(-x) would take two
    leaky(x)     = slope x + (1 - slope) relu(x)   for slopes outside [0, 1), where it is no `LeakyReLU`

Pools are balanced trees of binary maxima (`Builder.maximum`). Soundness: exact.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .activation import LeakyReLU
from .affine import Identity
from .builder import Value, positions, scaled
from .onnx_call import Argument, Call
from .onnx_linear import pool_windows

UNBOUNDED = 3.4e38  # what old opsets write for "no bound", the largest float32


def relu(call: Call) -> Value:
    return call.builder.relu(call.variable(0), call.name)


def leaky_relu(call: Call) -> Value:
    x, slope = call.variable(0), call.attribute("alpha", 0.01)
    if 0 <= slope < 1:
        return call.builder.activation(x, LeakyReLU(slope), call.name)
    same = Identity(x.size)
    terms = [(scaled(same, slope), x), (scaled(same, 1 - slope), call.builder.relu(x, call.name))]
    return call.builder.affine(terms, x.shape, name=call.name)


def sigmoid(call: Call) -> Value:
    from .smooth import Sigmoid

    return call.builder.activation(call.variable(0), Sigmoid(), call.name)


def tanh(call: Call) -> Value:
    from .smooth import Tanh

    return call.builder.activation(call.variable(0), Tanh(), call.name)


def absolute(call: Call) -> Value:
    x = call.variable(0)
    same = Identity(x.size)
    terms = [(scaled(same, 2), call.builder.relu(x, call.name)), (scaled(same, -1), x)]
    return call.builder.affine(terms, x.shape, name=call.name)


def _bound(call: Call, key: str, i: int) -> float | None:
    """A bound of Clip: an attribute until opset 10, an optional argument afterwards; None if there is none."""
    value = call.attribute(key)
    if value is None and call.has(i):
        value = call.constant(i, "bounds").item()
    if value is not None and np.isnan(value):
        raise call.refuse("has NaN as a bound")
    return None if value is None or abs(value) > UNBOUNDED else float(value)


def clip(call: Call) -> Value:
    x, builder = call.variable(0), call.builder
    low, high = _bound(call, "min", 1), _bound(call, "max", 2)
    same = Identity(x.size)
    if low is not None and high is not None and low >= high:
        return builder.constant(high, x.shape, call.name)  # min(max(x, low), high)

    def excess(bound: float) -> Value:
        return builder.relu(builder.affine([(same, x)], x.shape, -bound, call.name), call.name)

    if low is None and high is None:
        return x
    terms, start = [(same, x)], 0.0
    if low is not None:
        terms, start = [(same, excess(low))], low
    if high is not None:
        terms.append((scaled(same, -1), excess(high)))
    return builder.affine(terms, x.shape, start, call.name)


def _larger(call: Call, a: Argument, b: Argument, sign: int) -> Value:
    """sign * max(sign * a, sign * b); a constant, if there is one, comes first and needs no skip."""
    if not isinstance(b, Value):
        a, b = b, a
    builder, shape = call.builder, np.broadcast_shapes(a.shape, b.shape)
    spread = builder.broadcast(b, shape)
    plus = (scaled(spread, sign) if sign < 0 else spread, b)
    same = Identity(int(np.prod(shape)))
    if not isinstance(a, Value):
        first = next(i for i, x in enumerate(call.arguments) if not isinstance(x, Value))
        a = call.finite(a, first)
        gain = builder.relu(builder.affine([plus], shape, -sign * a, call.name), call.name)
        return builder.affine([(scaled(same, sign) if sign < 0 else same, gain)], shape, a, call.name)
    own = builder.broadcast(a, shape)
    gain = builder.affine([plus, (scaled(own, -1) if sign > 0 else own, a)], shape, name=call.name)
    gain = builder.relu(gain, call.name)
    return builder.affine([(own, a), (scaled(same, sign) if sign < 0 else same, gain)], shape, name=call.name)


def extremum(call: Call) -> Argument:
    """Max and Min of several tensors, as a balanced tree."""
    sign = 1 if call.kind == "Max" else -1
    fold = np.maximum if sign > 0 else np.minimum
    variables: list[Argument] = [x for x in call.arguments if isinstance(x, Value)]
    known = [x for x in call.arguments if not isinstance(x, Value)]
    if known:
        constant = known[0]
        for x in known[1:]:
            constant = fold(constant, x)
        variables.append(constant)
    while len(variables) > 1:
        paired = [_larger(call, a, b, sign) for a, b in zip(variables[::2], variables[1::2], strict=False)]
        variables = paired + variables[2 * len(paired) :]
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
    "Sigmoid": sigmoid,
    "Tanh": tanh,
}
