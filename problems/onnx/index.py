"""ONNX operators that only move entries: each is one function on arrays, used twice.

Reshape, Transpose, Slice and their like do the same to an array of numbers as to an array of positions. So each is
written once, on numpy arrays: applied to a constant it folds the constant, applied to the array of the positions
0..n-1 it yields the index map of a `Select`. Concat and Pad bring in entries from elsewhere; these become the
index -1 (zero) plus a bias. Soundness: exact.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..network.builder import Value, positions, select
from .call import Argument, Call

Mover = Callable[[Call, NDArray], NDArray | list[NDArray]]


def moved(mover: Mover) -> Callable[[Call], Argument | list[Argument]]:
    """The operator that does to its first argument what `mover` does to an array."""

    def run(call: Call) -> Argument | list[Argument]:
        x = call.argument(0)
        if not isinstance(x, Value):
            known = mover(call, x)
            return list(known) if isinstance(known, list) else known
        result = mover(call, positions(x.shape))
        if isinstance(result, list):
            return [call.builder.select(x, part, call.name) for part in result]
        return call.builder.select(x, result, call.name)

    return run


def _identity(call: Call, x: NDArray) -> NDArray:
    return x


def _dropout(call: Call, x: NDArray) -> NDArray:
    if call.has(2) and bool(call.constant(2, "a training mode")):
        raise call.refuse("is in training mode; export the model in evaluation mode")
    return x


def _reshape(call: Call, x: NDArray) -> NDArray:
    shape = call.integers("shape", 1)
    if not call.attribute("allowzero", 0):
        shape = [x.shape[i] if d == 0 else d for i, d in enumerate(shape)]
    return x.reshape(shape)


def _flatten(call: Call, x: NDArray) -> NDArray:
    axis = call.attribute("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), -1)


def _transpose(call: Call, x: NDArray) -> NDArray:
    return x.transpose(call.integers("perm", default=list(range(x.ndim))[::-1]))


def _squeeze(call: Call, x: NDArray) -> NDArray:
    axes = call.integers_or_none("axes", 1)
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _unsqueeze(call: Call, x: NDArray) -> NDArray:
    return np.expand_dims(x, tuple(call.integers("axes", 1)))


def _slice(call: Call, x: NDArray) -> NDArray:
    starts, ends = call.integers("starts", 1), call.integers("ends", 2)
    axes = call.integers("axes", 3, default=list(range(len(starts))))
    steps = call.integers("steps", 4, default=[1] * len(starts))
    cut = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cut[axis] = slice(start, end, step)
    return x[tuple(cut)]


def _gather(call: Call, x: NDArray) -> NDArray:
    return np.take(x, call.constant(1, "indices").astype(np.int64), axis=call.attribute("axis", 0))


def _split(call: Call, x: NDArray) -> list[NDArray]:
    axis, parts = call.attribute("axis", 0), call.integers_or_none("split", 1)
    if parts is None:
        each = -(-x.shape[axis] // call.attribute("num_outputs", call.outputs))
        parts = [each] * call.outputs
    return np.split(x, np.cumsum(parts)[:-1], axis=axis)


def _expand(call: Call, x: NDArray) -> NDArray:
    shape = call.integers("shape", 1)
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape)))


def concat(call: Call) -> Argument:
    """Concat of constants and variables in any mixture."""
    arguments, axis = [call.argument(i) for i in range(len(call.arguments))], call.attribute("axis")
    known = [x for x in arguments if not isinstance(x, Value)]
    if len(known) == len(arguments):
        return np.concatenate(known, axis=axis)
    terms, bias = [], []
    for i, x in enumerate(arguments):
        bias.append(np.zeros(x.shape) if isinstance(x, Value) else call.finite(x, i))
        if isinstance(x, Value):
            pieces = [positions(y.shape) if j == i else np.full(y.shape, -1) for j, y in enumerate(arguments)]
            terms.append((select(np.concatenate(pieces, axis=axis), x.size), x))
    constants = np.concatenate(bias, axis=axis)
    return call.builder.affine(terms, constants.shape, constants, call.name)


def pad(call: Call) -> Argument:
    """Pad with a constant, or by reflecting or repeating the edge."""
    x, pads = call.argument(0), call.integers("pads", 1)
    axes = call.integers("axes", 3, default=list(range(len(x.shape))))
    mode = call.attribute("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise call.refuse(f"has mode '{mode}', which is not supported")
    fill = call.attribute("value", 0.0)
    if call.has(2):
        fill = call.constant(2, "a fill value").item()
    if isinstance(x, Value) and mode == "constant" and not np.isfinite(fill):
        raise call.refuse(f"fills with {fill}; a network with such values cannot be verified")
    array = positions(x.shape) if isinstance(x, Value) else x
    widths, cut = [(0, 0)] * array.ndim, [slice(None)] * array.ndim
    for i, axis in enumerate(axes):
        before, after = pads[i], pads[i + len(axes)]
        widths[axis] = (max(before, 0), max(after, 0))
        cut[axis] = slice(max(-before, 0), array.shape[axis] - max(-after, 0))
    array = array[tuple(cut)]
    if not isinstance(x, Value):
        return np.pad(array, widths, constant_values=fill) if mode == "constant" else np.pad(array, widths, mode)
    if mode != "constant":
        return call.builder.select(x, np.pad(array, widths, mode), call.name)
    index = np.pad(array, widths, constant_values=-1)
    if fill == 0:
        return call.builder.select(x, index, call.name)
    bias = np.where(index < 0, np.float64(fill), 0.0)
    return call.builder.affine([(select(index, x.size), x)], index.shape, bias, call.name)


def _resize(call: Call, x: NDArray) -> NDArray:
    """Nearest-neighbour Resize (opset 10 and later) and Upsample: along each axis, an index map.

    As onnxruntime has it, where no axis changes its size nothing is resized, whatever the scales say.
    """
    if call.attribute("mode", "nearest") != "nearest":
        raise call.refuse(f"has mode '{call.attribute('mode')}'; only nearest is supported")
    old = call.kind == "Upsample" or call.opset < 11
    axes = call.integers("axes", default=list(range(x.ndim)))
    scales, sizes = _resize_target(call, old)
    before = [x.shape[axis] for axis in axes]
    if sizes is None:
        factors = np.asarray(scales, np.float32)
        after = [int(np.floor(np.float32(n) * s)) for n, s in zip(before, factors, strict=True)]
    else:
        after, factors = sizes, np.divide(np.asarray(sizes, np.float32), np.asarray(before, np.float32))
    if list(after) == before:
        return x
    for axis, n, m, scale in zip(axes, before, after, factors, strict=True):
        x = np.take(x, _nearest(call, old, n, m, scale), axis=axis)
    return x


def _resize_target(call: Call, old: bool) -> tuple[list[float] | None, list[int] | None]:
    """The scales, or else the sizes, that the node asks for."""
    if call.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise call.refuse("keeps the aspect ratio, which is not supported; give the sizes")
    if "scales" in call.attributes:
        return list(call.attributes["scales"]), None
    at = 1 if old else 2
    if call.has(at) and call.constant(at, "scales").size:
        return [float(s) for s in call.constant(at, "scales")], None
    return None, [int(s) for s in call.constant(3, "sizes")]


def _nearest(call: Call, old: bool, before: int, after: int, scale: np.float32) -> NDArray[np.int64]:
    """For each place along the resized axis, the place it is copied from; float32, as onnxruntime computes it."""
    out = np.arange(after, dtype=np.float32)
    if before == after and scale == 1:
        return out.astype(np.int64)
    how = "asymmetric" if old else call.attribute("coordinate_transformation_mode", "half_pixel")
    match how:
        case "asymmetric":
            place = out / scale
        case "half_pixel":
            place = (out + np.float32(0.5)) / scale - np.float32(0.5)
        case "pytorch_half_pixel":
            place = (out + np.float32(0.5)) / scale - np.float32(0.5) if after > 1 else np.zeros(after, np.float32)
        case "align_corners":
            place = out * np.float32(before - 1) / np.float32(after - 1) if after > 1 else np.zeros(after, np.float32)
        case _:
            raise call.refuse(f"has coordinate_transformation_mode '{how}', which is not supported")
    # Before opset 11 the standard leaves this open; onnxruntime rounds down when enlarging and up when shrinking.
    rounding = ("ceil" if scale < 1 else "floor") if old else call.attribute("nearest_mode", "round_prefer_floor")
    half = np.float32(0.5)
    match rounding:
        case "floor":
            place = np.floor(place)
        case "ceil":
            place = np.ceil(place)
        case "round_prefer_floor":
            place = np.ceil(place - half)
        case "round_prefer_ceil":
            place = np.floor(place + half)
    return place.astype(np.int64).clip(0, before - 1)


INDEX_OPERATORS: dict[str, Callable[[Call], Argument | list[Argument]]] = {
    "Concat": concat,
    "Dropout": moved(_dropout),
    "Expand": moved(_expand),
    "Flatten": moved(_flatten),
    "Gather": moved(_gather),
    "Identity": moved(_identity),
    "Pad": pad,
    "Reshape": moved(_reshape),
    "Resize": moved(_resize),
    "Slice": moved(_slice),
    "Split": moved(_split),
    "Squeeze": moved(_squeeze),
    "Transpose": moved(_transpose),
    "Unsqueeze": moved(_unsqueeze),
    "Upsample": moved(_resize),
}
