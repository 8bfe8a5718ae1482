"""ONNX operators that are affine maps: arithmetic with constants, matrix products, convolutions, averages.

Each function appends `Affine` nodes and says nothing about efficiency; `simplify` merges them. Arithmetic between
two constants never comes here (see `onnx.py`). Convolutions act on each sample of a batch separately; where a file
has a batch inside (the shape's first entry is not 1), the sample is cut out, convolved and put back.

Average pooling is a depthwise convolution with ones, followed by a division by the number of entries the window
counts, which differs at the border when padding is not counted.
Soundness: exact up to one rounding of each stored weight (a reciprocal, a folded standard deviation).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from ..network.affine import AbstractLinear, Adjoint, Chain, Conv, Dense, Identity
from ..network.builder import Value, positions, scaled, select, tensor
from .call import Argument, Call

DEFAULT_EPSILON = float(np.float32(1e-5))  # attributes are float32, their defaults too

# --- arithmetic


def _sum(call: Call, signs: tuple[int, ...]) -> Value:
    """The signed sum of the arguments, with broadcasting."""
    arguments = [call.argument(i) for i in range(len(signs))]
    shape = np.broadcast_shapes(*(x.shape for x in arguments))
    terms, bias = [], np.zeros(shape)
    for i, (x, sign) in enumerate(zip(arguments, signs, strict=True)):
        if isinstance(x, Value):
            operator = call.builder.broadcast(x, shape)
            terms.append((operator if sign > 0 else scaled(operator, -1), x))
        else:
            bias = bias + sign * call.finite(x, i)
    return call.builder.affine(terms, shape, bias, call.name)


def _times(call: Call, x: Value, factor: NDArray[np.float64]) -> Value:
    """x * factor with broadcasting."""
    shape = np.broadcast_shapes(x.shape, factor.shape)
    operator = scaled(call.builder.broadcast(x, shape), np.broadcast_to(factor, shape))
    return call.builder.affine([(operator, x)], shape, name=call.name)


def add(call: Call) -> Value:
    return _sum(call, (1, 1))


def sub(call: Call) -> Value:
    return _sum(call, (1, -1))


def neg(call: Call) -> Value:
    return _sum(call, (-1,))


def mul(call: Call) -> Value:
    x, y = call.argument(0), call.argument(1)
    if isinstance(x, Value) and isinstance(y, Value):
        raise call.refuse("multiplies two variables; Mul is supported with a constant only")
    return _times(call, x, call.weights(1)) if isinstance(x, Value) else _times(call, call.variable(1), call.weights(0))


def div(call: Call) -> Value:
    if isinstance(call.argument(1), Value):
        raise call.refuse("divides by a variable; Div is supported with a constant divisor only")
    divisor = call.weights(1, "divisors")
    if (divisor == 0).any():
        raise call.refuse(f"divides by zero (tensor '{call.names[1]}')")
    return _times(call, call.variable(0), 1 / divisor)


def batch_normalization(call: Call) -> Value:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta, per channel.

    Two nodes, so that mean and beta stay the numbers they are: where gamma mean / sqrt(variance) cancels against beta,
    one number for both would have lost what is left.
    """
    if call.attribute("training_mode", 0):
        raise call.refuse("is in training mode; export the model in evaluation mode")
    x = call.variable(0)
    channelwise = (-1, *[1] * (len(x.shape) - 2))
    gamma, beta, mean, variance = (call.weights(i).reshape(channelwise) for i in range(1, 5))
    spread = variance + call.attribute("epsilon", DEFAULT_EPSILON)
    if not (spread > 0).all():
        raise call.refuse(f"divides by the root of a number that is not positive (tensor '{call.names[4]}')")
    centred = call.builder.affine([(Identity(x.size), x)], x.shape, -mean, call.name)
    # Sum, root and quotient round; the root halves what comes before it.
    factor = np.broadcast_to(gamma / np.sqrt(spread), x.shape)
    operator = scaled(Identity(x.size), factor, roundings=3)
    return call.builder.affine([(operator, centred)], x.shape, beta, call.name)


# --- matrix products


def _matmul(call: Call, a: Argument, b: Argument) -> Value:
    """a @ b as numpy defines it, one of them constant."""
    if isinstance(a, Value):
        if isinstance(b, Value):
            raise call.refuse(f"multiplies two variables; {call.kind} is supported with one constant factor only")
        return _times_matrix(call, a, call.finite(b, 1))
    assert isinstance(b, Value), "products of constants are folded"
    if len(b.shape) == 1:
        return _times_matrix(call, b, np.swapaxes(call.finite(a, 0), -1, -2) if a.ndim > 1 else call.finite(a, 0))
    # a @ b = (b^T @ a^T)^T
    x = call.builder.select(b, np.swapaxes(positions(b.shape), -1, -2), call.name)
    a = call.finite(a, 0)
    y = _times_matrix(call, x, np.swapaxes(a, -1, -2) if a.ndim > 1 else a)
    if a.ndim == 1:
        return y
    return call.builder.select(y, np.swapaxes(positions(y.shape), -1, -2), call.name)


def _times_matrix(call: Call, x: Value, weight: NDArray[np.float64]) -> Value:
    """x @ weight."""
    if len(x.shape) == 1 and weight.ndim > 2:
        y = _times_matrix(call, Value(x.node, (1, *x.shape)), weight)
        return Value(y.node, (*y.shape[:-2], y.shape[-1]))
    if weight.ndim <= 2:
        shape = (*x.shape[:-1], *weight.shape[1:])
        matrix = weight.reshape(len(weight), -1).T
        return call.builder.affine([(Dense(tensor(matrix), prod(x.shape[:-1])), x)], shape, name=call.name)
    # A stack of matrices: each sees its own part of x.
    stack = np.broadcast_shapes(x.shape[:-2], weight.shape[:-2])
    index = np.broadcast_to(positions(x.shape), (*stack, *x.shape[-2:])).reshape(-1, *x.shape[-2:])
    matrices = np.broadcast_to(weight, (*stack, *weight.shape[-2:])).reshape(-1, *weight.shape[-2:])
    shape = (*stack, x.shape[-2], weight.shape[-1])
    place = positions(shape).reshape(len(index), -1)
    terms = []
    for part, matrix, here in zip(index, matrices, place, strict=True):
        terms.append((_between(part, Dense(tensor(matrix.T), x.shape[-2]), here, x.size, prod(shape)), x))
    return call.builder.affine(terms, shape, name=call.name)


def _between(taken: NDArray, operator: AbstractLinear, placed: NDArray, n_in: int, n_out: int) -> Chain:
    """The operator applied to the entries `taken` of a longer vector, its result standing at `placed`."""
    place = np.full(n_out, -1)
    place[placed.reshape(-1)] = np.arange(operator.n_out)
    return Chain((select(taken, n_in), operator, select(place, operator.n_out)))


def matmul(call: Call) -> Value:
    return _matmul(call, call.argument(0), call.argument(1))


def gemm(call: Call) -> Value:
    """alpha A' B' + beta C."""
    factors = []
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    if not np.isfinite([alpha, beta]).all():
        raise call.refuse(f"has the factors {alpha} and {beta}; they must be finite numbers")
    for i, key in enumerate(("transA", "transB")):
        x = call.argument(i)
        if call.attribute(key, 0):
            x = call.builder.select(x, positions(x.shape).T, call.name) if isinstance(x, Value) else x.T
        if not isinstance(x, Value):
            x = x.astype(np.float64) * alpha
        factors.append(x)
    if not any(isinstance(x, Value) for x in factors):
        raise call.refuse("multiplies two constants and adds a variable; store their product, and use Add")
    product = _matmul(call, *factors)
    if not call.has(2) or beta == 0:
        return product
    c = call.argument(2)
    own = (call.builder.broadcast(product, product.shape), product)
    if isinstance(c, Value):
        return call.builder.affine(
            [own, (scaled(call.builder.broadcast(c, product.shape), beta), c)], product.shape, name=call.name
        )
    return call.builder.affine([own], product.shape, beta * call.finite(c, 2), call.name)


# --- convolutions and averages


def space_settings(call: Call, kernel: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Strides and dilations."""
    ones = [1] * len(kernel)
    return tuple(call.integers("strides", default=ones)), tuple(call.integers("dilations", default=ones))


def explicit_padding(
    call: Call, space: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """(before, after) for each space dimension, from `pads` or `auto_pad`."""
    auto = call.attribute("auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = call.integers("pads", default=[0] * (2 * len(kernel)))
        return tuple(zip(pads[: len(kernel)], pads[len(kernel) :], strict=True))
    if auto == "VALID":
        return ((0, 0),) * len(kernel)
    padding = []
    for size, k, s, d in zip(space, kernel, stride, dilation, strict=True):
        total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
        before = total // 2 if auto == "SAME_UPPER" else total - total // 2
        padding.append((before, total - before))
    return tuple(padding)


def _per_sample(call: Call, x: Value, operator: AbstractLinear, out: tuple[int, ...], bias: NDArray | float) -> Value:
    """The operator on each sample x[i]; `out` is the shape of one result."""
    batch, shape = x.shape[0], (x.shape[0], *out)
    if batch == 1:
        return call.builder.affine([(operator, x)], shape, bias, call.name)
    taken, placed = positions(x.shape), positions(shape)
    terms = [(_between(taken[i], operator, placed[i], x.size, prod(shape)), x) for i in range(batch)]
    return call.builder.affine(terms, shape, bias, call.name)


def _flat_space(call: Call, x: Value) -> None:
    if len(x.shape) not in (3, 4):
        raise call.refuse(f"works on a tensor of shape {x.shape}; one or two space dimensions are supported")


def _channel_bias(call: Call, dimensions: int) -> NDArray | float:
    return call.weights(2).reshape(-1, *[1] * dimensions) if call.has(2) else 0.0


def conv(call: Call) -> Value:
    x, weight = call.variable(0), call.weights(1)
    _flat_space(call, x)
    kernel = weight.shape[2:]
    stride, dilation = space_settings(call, kernel)
    padding = explicit_padding(call, x.shape[2:], kernel, stride, dilation)
    operator = Conv(tensor(weight), x.shape[1:], stride, padding, dilation, call.attribute("group", 1))
    return _per_sample(call, x, operator, operator.out_shape, _channel_bias(call, len(kernel)))


def conv_transpose(call: Call) -> Value:
    """The adjoint of the convolution with the same weights, from the larger image to the smaller."""
    x, weight = call.variable(0), call.weights(1)
    _flat_space(call, x)
    kernel, groups = weight.shape[2:], call.attribute("group", 1)
    stride, dilation = space_settings(call, kernel)
    space, padding = _transposed_space(call, x.shape[2:], kernel, stride, dilation)
    image = (weight.shape[1] * groups, *space)
    operator = Conv(tensor(weight), image, stride, padding, dilation, groups)
    if operator.out_shape != x.shape[1:]:
        raise call.refuse(f"has an output padding that its strides {stride} do not allow")
    return _per_sample(call, x, Adjoint(operator), image, _channel_bias(call, len(kernel)))


def _transposed_space(
    call: Call, space: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Size of the larger image, and its padding, from `output_shape`, `output_padding`, `pads` or `auto_pad`."""
    extra = call.integers("output_padding", default=[0] * len(kernel))
    full = [
        (n - 1) * s + d * (k - 1) + 1 + e for n, s, d, k, e in zip(space, stride, dilation, kernel, extra, strict=True)
    ]
    auto = call.attribute("auto_pad", "NOTSET")
    wanted = call.integers_or_none("output_shape")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [min(n * s, most) for n, s, most in zip(space, stride, full, strict=True)]
    if wanted is None:
        padding = explicit_padding(call, space, kernel, stride, dilation)
        return tuple(n - sum(p) for n, p in zip(full, padding, strict=True)), padding
    around: list[tuple[int, int]] = []
    for n, size in zip(full, wanted[-len(kernel) :], strict=True):
        total = max(n - size, 0)
        before = total // 2 if auto == "SAME_UPPER" else total - total // 2
        around.append((before, total - before))
    return tuple(wanted[-len(kernel) :]), tuple(around)


def pool_windows(
    call: Call, space: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Kernel, strides, dilations, padding and output size of a pooling node.

    As onnxruntime has it, the padding that SAME_UPPER and SAME_LOWER ask for does not know of dilations.
    """
    kernel = tuple(call.integers("kernel_shape"))
    stride, dilation = space_settings(call, kernel)
    padding = explicit_padding(call, space, kernel, stride, (1,) * len(kernel))
    sizes = []
    for n, k, s, d, (before, after) in zip(space, kernel, stride, dilation, padding, strict=True):
        room = n + before + after - d * (k - 1) - 1
        size = room // s + 1
        # A window that ceil_mode adds must start on the image or its leading padding, not beyond.
        if call.attribute("ceil_mode", 0) and room % s and size * s < n + before:
            size += 1
        sizes.append(size)
    if min(sizes) < 1:
        raise call.refuse(f"has a kernel {kernel} that is larger than its input {space}")
    return kernel, stride, dilation, padding, tuple(sizes)


def average_pool(call: Call) -> Value:
    x = call.variable(0)
    _flat_space(call, x)
    space, channels = x.shape[2:], x.shape[1]
    kernel, stride, dilation, padding, sizes = pool_windows(call, space)
    counted = np.ones(())
    reach = []
    for n, k, s, d, (before, after), size in zip(space, kernel, stride, dilation, padding, sizes, strict=True):
        place = np.arange(size)[:, None] * s - before + np.arange(k) * d
        low, high = (-before, n + after) if call.attribute("count_include_pad", 0) else (0, n)
        counted = np.multiply.outer(counted, ((place >= low) & (place < high)).sum(1))
        reach.append((before, (size - 1) * s + d * (k - 1) + 1 - n - before))
    uniform = (counted == counted.flat[0]).all()
    weight = torch.full((channels, 1, *kernel), 1 / counted.flat[0] if uniform else 1.0, dtype=torch.float64)
    operator: AbstractLinear = Conv(weight, x.shape[1:], stride, tuple(reach), dilation, channels)
    if not uniform:
        operator = scaled(operator, np.broadcast_to(1 / counted, (channels, *sizes)))
    return _per_sample(call, x, operator, (channels, *sizes), 0.0)


def global_average_pool(call: Call) -> Value:
    x = call.variable(0)
    width = prod(x.shape[2:])
    operator = Dense(torch.full((1, width), 1 / width, dtype=torch.float64), prod(x.shape[:2]))
    return call.builder.affine([(operator, x)], (*x.shape[:2], *[1] * (len(x.shape) - 2)), name=call.name)


def reduce(call: Call) -> Value:
    """ReduceSum and ReduceMean."""
    x = call.variable(0)
    axes = call.integers("axes", 1, default=[])
    if not axes:
        if call.attribute("noop_with_empty_axes", 0):
            return x
        axes = list(range(len(x.shape)))
    axes = sorted(a % len(x.shape) for a in axes)
    kept = [a for a in range(len(x.shape)) if a not in axes]
    rows = call.builder.select(x, positions(x.shape).transpose(*kept, *axes), call.name)
    width = prod(x.shape[a] for a in axes)
    entry = 1.0 if call.kind == "ReduceSum" else 1 / width
    operator = Dense(torch.full((1, width), entry, dtype=torch.float64), x.size // width)
    if call.attribute("keepdims", 1):
        shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    else:
        shape = tuple(x.shape[a] for a in kept)
    return call.builder.affine([(operator, rows)], shape, name=call.name)


LINEAR_OPERATORS: dict[str, Callable[[Call], Value]] = {
    "Add": add,
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Div": div,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "MatMul": matmul,
    "Mul": mul,
    "Neg": neg,
    "ReduceMean": reduce,
    "ReduceSum": reduce,
    "Sub": sub,
}
