"""Random ONNX models of one to five operators, for `fuzz_imports.py`.

Every operator that is supported on variables, in forms that exporters write and in forms that nobody does: opsets 7 to
22, float32 and float64, weights and inputs tiny, ordinary and huge, bounds of a Clip anywhere, paddings, dilations,
roundings of sizes, negative axes; a small entry may be masked by a large one that is concatenated to the output.
A model need not be valid: onnxruntime says whether it is.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from import_draft import Draft
from onnx import TensorProto

from partita.problems.onnx.elementwise import ELEMENTWISE_OPERATORS

Writer = Callable[[Draft, str, tuple[int, ...]], None]


def extend(d: Draft, shape: tuple[int, ...]) -> None:
    """Writes one more operator, on the latest tensor, whose shape is `shape`."""
    fitting = [w for w, dimensions in WRITERS if len(shape) in dimensions]
    d.source.choice(fitting)(d, d.tensors[-1], shape)


# ---- writers


def _broadcast(d: Draft, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts with `shape`."""
    own = [n if d.source.random() < 0.6 else 1 for n in shape]
    own = own[d.source.randint(0, len(own)) :] if d.source.random() < 0.5 else own
    if d.source.random() < 0.1:
        own = [d.source.randint(1, 3), *[1] * (len(shape) - len(own)), *own]
    if d.source.random() < 0.1:
        own = [d.source.randint(2, 3) if n == 1 and d.source.random() < 0.3 else n for n in own]
    return tuple(own)


def arithmetic(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    kind = d.source.choice(("Add", "Sub", "Mul", "Div", "Min", "Max"))
    value = d.numbers(*_broadcast(d, shape))
    if kind == "Div":
        value = np.where(value == 0, d.dtype(d.scale or 1), value).astype(d.dtype)
    if kind in ("Min", "Max") and d.source.random() < 0.2:
        value = np.where(np.random.default_rng(1).random(value.shape) < 0.5, _bound(d), value).astype(d.dtype)
    pair = [x, d.constant(value)]
    if kind in ("Add", "Sub", "Mul", "Min", "Max") and d.source.random() < 0.4:
        pair.reverse()
    if kind in ("Min", "Max") and d.source.random() < 0.3:
        pair.append(d.constant(d.numbers(*shape)))
    d.node(kind, *pair)


def two_variables(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    """Two readers of one tensor, put together again."""
    left = d.node("Mul", x, d.constant(d.numbers(1)))
    right = d.node(d.source.choice(("Relu", "Neg", "Abs")) if d.dtype is np.float32 else "Neg", x)
    kind = d.source.choice(("Add", "Sub", "Min", "Max", "Concat"))
    if kind == "Concat":
        d.node(kind, left, right, axis=d.source.randrange(-len(shape), len(shape)))
    else:
        d.node(kind, left, right)


def elementwise(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    kinds = ("Relu", "Abs", "Neg", "LeakyRelu", *ELEMENTWISE_OPERATORS, "Identity", "Dropout")
    kind = d.source.choice(kinds)
    attributes = {}
    if kind == "LeakyRelu" and d.source.random() < 0.8:
        attributes["alpha"] = d.source.choice((0.0, 0.1, 1.0, -0.5, 2.5, 1e-20, 0.999999))
    d.node(kind, x, **attributes)


def _bound(d: Draft) -> float:
    least = float(np.finfo(d.dtype).min)
    return d.source.choice(
        (0.0, -1.0, 6.0, -d.scale, d.scale, 1e30, -1e30, least, -least, 3.4e38, np.inf, -np.inf, 1e-40, 256.5, -300.0)
    )


def clip(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    low, high = _bound(d), _bound(d)
    if d.source.random() < 0.8 and low > high:
        low, high = high, low
    if d.opset < 11:
        sides = {"min": low if d.source.random() < 0.7 else None, "max": high if d.source.random() < 0.7 else None}
        with np.errstate(over="ignore"):
            d.node("Clip", x, **{k: None if v is None else float(np.float32(v)) for k, v in sides.items()})
        return
    with np.errstate(over="ignore"):
        inputs = [x, d.constant(np.array(low, d.dtype)) if d.source.random() < 0.8 else ""]
        if d.source.random() < 0.8:
            inputs.append(d.constant(np.array(high, d.dtype)))
    d.node("Clip", *inputs)


def batch_normalization(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    n = shape[1]
    gamma, beta, mean = (d.constant(d.numbers(n)) for _ in range(3))
    variance = d.constant(d.numbers(n, positive=True) ** 2 if d.scale < 1e15 else d.numbers(n, positive=True))
    epsilon = d.source.choice((None, None, 0.0, 1e-3, 1.0))
    d.node("BatchNormalization", x, gamma, beta, mean, variance, epsilon=epsilon)


def matmul(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    n, m = shape[-1], d.source.randint(1, 5)
    how = d.source.randrange(4)
    if how == 0:
        d.node("MatMul", x, d.constant(d.numbers(n, m)))
    elif how == 1:
        d.node("MatMul", x, d.constant(d.numbers(n)))
    elif how == 2 and len(shape) > 1:
        d.node("MatMul", d.constant(d.numbers(m, shape[-2])), x)
    else:
        stack = shape[:-2] if d.source.random() < 0.6 else (2, *shape[:-2])
        d.node("MatMul", x, d.constant(d.numbers(*stack, n, m)))


def gemm(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    a, b = d.source.randrange(2), d.source.randrange(2)
    inner, rows = (shape[0], shape[1]) if a else (shape[1], shape[0])
    m = d.source.randint(1, 5)
    inputs = [x, d.constant(d.numbers(*((m, inner) if b else (inner, m))))]
    if d.opset < 11 or d.source.random() < 0.7:
        inputs.append(d.constant(d.numbers(*d.source.choice(((m,), (1, m), (rows, m), (rows, 1), (1,))))))
    alpha, beta = (d.source.choice((None, 1.0, 0.5, -2.0, 0.0, 1e-3)) for _ in range(2))
    d.node("Gemm", *inputs, transA=a, transB=b, alpha=alpha, beta=beta)


def _padding(d: Draft, kernel: list[int], attributes: dict[str, Any]) -> None:
    how = d.source.random()
    if how < 0.4:
        attributes["pads"] = [d.source.randint(0, max(0, k - 1)) for _ in range(2) for k in kernel]
    elif how < 0.7:
        attributes["auto_pad"] = d.source.choice(("SAME_UPPER", "SAME_LOWER", "VALID"))


def _space(d: Draft, shape: tuple[int, ...], dilated: bool) -> tuple[list[int], dict[str, Any]]:
    kernel = [d.source.randint(1, min(3, n)) for n in shape[2:]]
    attributes: dict[str, Any] = {}
    if d.source.random() < 0.6:
        attributes["strides"] = [d.source.randint(1, 3) for _ in kernel]
    if dilated and d.source.random() < 0.3:
        attributes["dilations"] = [d.source.randint(1, 2) for _ in kernel]
    _padding(d, kernel, attributes)
    return kernel, attributes


def conv(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    kernel, attributes = _space(d, shape, True)
    group = d.source.choice([g for g in range(1, shape[1] + 1) if shape[1] % g == 0])
    out = group * d.source.randint(1, 2)
    inputs = [x, d.constant(d.numbers(out, shape[1] // group, *kernel))]
    if d.source.random() < 0.6:
        inputs.append(d.constant(d.numbers(out)))
    d.node("Conv", *inputs, group=group, **attributes)


def conv_transpose(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    kernel, attributes = _space(d, shape, True)
    group = d.source.choice([g for g in range(1, shape[1] + 1) if shape[1] % g == 0])
    each = d.source.randint(1, 2)
    inputs = [x, d.constant(d.numbers(shape[1], each, *kernel))]
    if d.source.random() < 0.6:
        inputs.append(d.constant(d.numbers(group * each)))
    if d.source.random() < 0.2:
        attributes["output_padding"] = [d.source.randint(0, 1) for _ in kernel]
    if d.source.random() < 0.1:
        attributes["output_shape"] = [d.source.randint(2, 9) for _ in kernel]
    d.node("ConvTranspose", *inputs, group=group, **attributes)


def pool(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    kind = d.source.choice(("MaxPool", "AveragePool"))
    dilated = (kind == "MaxPool" and d.opset >= 10) or d.opset >= 19
    kernel, attributes = _space(d, shape, dilated)
    if d.opset >= 10 and d.source.random() < 0.4:
        attributes["ceil_mode"] = 1
    if kind == "AveragePool" and d.source.random() < 0.4:
        attributes["count_include_pad"] = 1
    d.node(kind, x, kernel_shape=kernel, **attributes)


def global_pool(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    d.node("GlobalAveragePool", x)


def reduce(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    kind = d.source.choice(("ReduceSum", "ReduceMean"))
    axes = sorted(d.source.sample(range(len(shape)), d.source.randint(0, len(shape))))
    axes = [a - len(shape) if d.source.random() < 0.3 and d.opset >= 11 else a for a in axes]
    keep = d.source.choice((None, 0, 1))
    if d.opset >= (13 if kind == "ReduceSum" else 18):
        noop = 1 if not axes and d.source.random() < 0.5 else None
        d.node(kind, x, *([d.ints(*axes)] if axes else []), keepdims=keep, noop_with_empty_axes=noop)
    else:
        d.node(kind, x, axes=axes or None, keepdims=keep)


def reshape(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    size = prod(shape)
    first = d.source.choice([k for k in range(1, size + 1) if size % k == 0])
    target = d.source.choice(
        ([size], [1, size], [first, size // first], [1, first, -1], [-1, first], [1, 1, first, -1])
    )
    if shape[0] and d.source.random() < 0.2:
        target = [0, -1]
    d.node("Reshape", x, d.ints(*target))


def flatten(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    least = -len(shape) if d.opset >= 11 else 0
    d.node("Flatten", x, axis=d.source.choice((None, d.source.randint(least, len(shape)))))


def transpose(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    d.node("Transpose", x, perm=d.source.choice((None, d.source.sample(range(len(shape)), len(shape)))))


def squeeze(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    ones = [i for i, n in enumerate(shape) if n == 1]
    if ones and d.source.random() < 0.5:
        axes, kind = d.source.sample(ones, d.source.randint(1, len(ones))), "Squeeze"
    else:
        axes, kind = [d.source.randint(0, len(shape))], "Unsqueeze"
    if d.opset >= 11 and d.source.random() < 0.3:
        axes = [a - len(shape) - (kind == "Unsqueeze") for a in axes]
    if d.opset >= 13:
        d.node(kind, x, d.ints(*axes))
    else:
        d.node(kind, x, axes=axes)


def cut(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    axes = d.source.sample(range(len(shape)), d.source.randint(1, len(shape)))
    steps = [d.source.choice((1, 1, 1, 2, -1, -2)) if d.opset >= 10 else 1 for _ in axes]
    starts = [d.source.randint(-shape[a] - 1, shape[a]) for a in axes]
    ends = [d.source.choice((2**31 - 1, -(2**31), d.source.randint(-shape[a], shape[a] + 1))) for a in axes]
    if d.opset < 10:
        d.node("Slice", x, starts=starts, ends=ends, axes=axes)
        return
    given = [d.ints(*starts), d.ints(*ends), d.ints(*axes), d.ints(*steps)]
    d.node("Slice", x, *given[: 4 if any(s != 1 for s in steps) else 3])


def split(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    axis = d.source.randrange(len(shape))
    n, parts = shape[axis], d.source.randint(1, min(3, shape[axis]))
    sizes = None
    if d.source.random() < 0.5:
        cuts = sorted(d.source.sample(range(1, n), parts - 1)) if n > 1 else []
        sizes = np.diff([0, *cuts, n]).tolist()
        parts = len(sizes)
    if d.opset >= 13:
        number = parts if sizes is None and d.opset >= 18 else None
        d.node("Split", x, *([] if sizes is None else [d.ints(*sizes)]), outputs=parts, axis=axis, num_outputs=number)
    else:
        d.node("Split", x, outputs=parts, axis=axis, split=sizes)


def gather(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    axis = d.source.randrange(-len(shape), len(shape))
    n = shape[axis]
    index = [d.source.randint(-n if d.opset >= 11 else 0, n - 1) for _ in range(d.source.randint(1, 4))]
    value = np.array(index if d.source.random() < 0.8 else index[0], d.source.choice((np.int64, np.int32)))
    d.node("Gather", x, d.constant(value), axis=axis)


def pad(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    mode = d.source.choice((None, "constant", "reflect", "edge", "wrap" if d.opset >= 19 else "edge"))
    most = [n - 1 for n in shape] if mode in ("reflect", "wrap") else [3] * len(shape)
    pads = [d.source.randint(-1 if d.source.random() < 0.2 else 0, max(0, min(2, m))) for _ in range(2) for m in most]
    if d.opset < 11:
        d.node("Pad", x, mode=mode if mode != "wrap" else "edge", pads=pads, value=d.source.choice((None, 1.5, -1e20)))
        return
    inputs = [x, d.ints(*pads)]
    if mode in (None, "constant") and d.source.random() < 0.5:
        inputs.append(d.constant(d.numbers(1).reshape(())))
    d.node("Pad", *inputs, mode=mode)


def expand(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    target = [n if n > 1 else d.source.randint(1, 3) for n in shape]
    if d.source.random() < 0.3:
        target = [d.source.randint(1, 2), *target]
    d.node("Expand", x, d.ints(*[1 if d.source.random() < 0.2 else n for n in target]))


def concat(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    axis = d.source.randrange(-len(shape) if d.opset >= 11 else 0, len(shape))
    other = list(shape)
    other[axis] = d.source.randint(1, 2)
    parts = [x, d.constant(d.numbers(*other)), x][: d.source.randint(2, 3)]
    d.source.shuffle(parts)
    d.node("Concat", *parts, axis=axis)


def resize(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    factor = lambda: d.source.choice((1.0, 1.0, 2.0, 1.1, 1.3, 0.5, 0.7, 3.0, 1.5, 0.9, 2.4))  # noqa: E731
    scales = [factor() if i >= len(shape) - 2 or d.source.random() < 0.2 else 1.0 for i in range(len(shape))]
    if d.opset < 9:
        d.node("Upsample", x, scales=scales, mode="nearest")
    elif d.opset == 9:
        d.node("Upsample", x, d.constant(np.array(scales, np.float32)), mode="nearest")
    elif d.opset == 10:
        d.node("Resize", x, d.constant(np.array(scales, np.float32)), mode="nearest")
    else:
        attributes: dict[str, Any] = {"mode": "nearest"}
        modes = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")
        attributes["coordinate_transformation_mode"] = d.source.choice((None, *modes))
        roundings = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        attributes["nearest_mode"] = d.source.choice((None, *roundings))
        roi = d.constant(np.zeros(0, np.float32)) if d.opset < 13 else ""
        if d.source.random() < 0.5:
            d.node("Resize", x, roi, d.constant(np.array(scales, np.float32)), **attributes)
        else:
            sizes = [max(1, int(n * s)) for n, s in zip(shape, scales, strict=True)]
            none = d.constant(np.zeros(0, np.float32)) if d.opset < 13 else ""
            d.node("Resize", x, roi, none, d.ints(*sizes), **attributes)


def cast(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    """There and back again."""
    there = TensorProto.DOUBLE if d.dtype is np.float32 else TensorProto.FLOAT
    back = TensorProto.FLOAT if d.dtype is np.float32 else TensorProto.DOUBLE
    y = d.node("Cast", x, to=there)
    d.node("Cast", y, to=back)


def constants(d: Draft, x: str, shape: tuple[int, ...]) -> None:
    """Arithmetic of constants, as exporters leave it around, whose result is used."""
    a, b = d.constant(d.numbers(shape[-1])), d.constant(d.numbers(shape[-1], positive=True))
    before = len(d.tensors)
    kind = d.source.choice(
        ("Add", "Sub", "Mul", "Div", "Sqrt", "Exp", "Pow", "Relu", "Clip", "Reciprocal", "ReduceSum")
    )
    if kind in ("Sqrt", "Reciprocal"):
        y = d.node(kind, b)
    elif kind in ("Exp", "Relu"):
        y = d.node(kind, a)
    elif kind == "Clip":
        y = d.node(kind, a) if d.opset < 11 else d.node(kind, a, d.constant(np.array(0, d.dtype)))
    elif kind == "ReduceSum":
        y = d.node(kind, b)
    elif kind == "Pow":
        y = d.node(kind, b, d.constant(np.array(2, d.dtype)))
    else:
        y = d.node(kind, a, b)
    del d.tensors[before:]
    d.node(d.source.choice(("Add", "Mul")), x, y)


ANY = range(1, 9)
WRITERS: tuple[tuple[Writer, range], ...] = (
    (arithmetic, ANY),
    (arithmetic, ANY),
    (two_variables, ANY),
    (elementwise, ANY),
    (elementwise, ANY),
    (clip, ANY),
    (clip, ANY),
    (batch_normalization, range(2, 5)),
    (matmul, ANY),
    (gemm, range(2, 3)),
    (gemm, range(2, 3)),
    (conv, range(3, 5)),
    (conv, range(3, 5)),
    (conv_transpose, range(3, 5)),
    (pool, range(3, 5)),
    (pool, range(3, 5)),
    (global_pool, range(3, 5)),
    (reduce, ANY),
    (reshape, ANY),
    (flatten, ANY),
    (transpose, ANY),
    (squeeze, ANY),
    (cut, ANY),
    (split, ANY),
    (gather, ANY),
    (pad, ANY),
    (expand, ANY),
    (concat, ANY),
    (resize, range(1, 5)),
    (resize, range(4, 5)),
    (cast, ANY),
    (constants, ANY),
)
