"""ONNX operators on constants: shapes, fills, and the arithmetic that exporters leave around them.

Exported models compute shapes at run time (Shape, Gather, Concat, Mul, Cast, ...). Since the input's shape is fixed,
all of this is known and folded here, in the file's own element types, as onnxruntime computes it.
`CONSTANT_OPERATORS` may see a variable (its shape is known even so); `FOLDED_OPERATORS` are used on constants only,
whether or not the same name is supported on variables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..network.builder import Value
from .call import Argument, Call


def constant(call: Call) -> NDArray:
    from onnx.numpy_helper import to_array

    (key, value), *_ = call.attributes.items()
    match key:
        case "value":
            return to_array(value)
        case "value_float":
            return np.asarray(value, np.float32)
        case "value_floats":
            return np.asarray(value, np.float32)
        case "value_int" | "value_ints":
            return np.asarray(value, np.int64)
    raise call.refuse(f"holds a {key}, which is not supported")


def constant_of_shape(call: Call) -> NDArray:
    from onnx.numpy_helper import to_array

    fill = to_array(call.attributes["value"]).reshape(-1)[0] if "value" in call.attributes else np.float32(0)
    return np.full([int(d) for d in call.constant(0, "a shape")], fill)


def shape(call: Call) -> NDArray:
    whole = np.array(call.argument(0).shape, np.int64)
    return whole[call.attribute("start", 0) : call.attribute("end", None)]


def cast(call: Call) -> Argument:
    from onnx.helper import tensor_dtype_to_np_dtype

    x, target = call.argument(0), np.dtype(tensor_dtype_to_np_dtype(call.attribute("to")))
    if not isinstance(x, Value):
        return np.asarray(x).astype(target)
    if target not in (np.float32, np.float64):
        raise call.refuse(f"turns a variable into {target}; only float32 and float64 are supported")
    return x


def _numpy(function: Callable[..., NDArray | np.generic]) -> Callable[[Call], NDArray]:
    def run(call: Call) -> NDArray:
        with np.errstate(all="ignore"):  # infinity and NaN are refused where they reach the graph
            return np.asarray(function(*(call.argument(i) for i in range(len(call.arguments)))))

    return run


def _divide(a: NDArray, b: NDArray) -> NDArray:
    if np.issubdtype(np.asarray(a).dtype, np.integer):
        return np.trunc(np.asarray(a) / b).astype(np.asarray(a).dtype)
    return a / b


def _range(start: NDArray, limit: NDArray, delta: NDArray) -> NDArray:
    return np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _reduced(function: Callable[..., NDArray]) -> Callable[[Call], NDArray]:
    def run(call: Call) -> NDArray:
        axes = call.integers("axes", 1, default=[])
        if not axes and call.attribute("noop_with_empty_axes", 0):
            return call.constant(0, "values")
        x = call.constant(0, "values")
        keep = bool(call.attribute("keepdims", 1))
        return np.asarray(function(x, axis=tuple(axes) if axes else None, keepdims=keep)).astype(x.dtype)

    return run


CONSTANT_OPERATORS: dict[str, Callable[[Call], Argument]] = {
    "Cast": cast,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Shape": shape,
}

FOLDED_OPERATORS: dict[str, Callable[[Call], Argument]] = {
    "Abs": _numpy(np.abs),
    "Add": _numpy(np.add),
    "And": _numpy(np.logical_and),
    "Ceil": _numpy(np.ceil),
    "Div": _numpy(_divide),
    "Equal": _numpy(np.equal),
    "Exp": _numpy(np.exp),
    "Floor": _numpy(np.floor),
    "Greater": _numpy(np.greater),
    "Less": _numpy(np.less),
    "MatMul": _numpy(np.matmul),
    "Max": _numpy(lambda *x: np.max(np.broadcast_arrays(*x), axis=0)),
    "Min": _numpy(lambda *x: np.min(np.broadcast_arrays(*x), axis=0)),
    "Mul": _numpy(np.multiply),
    "Neg": _numpy(np.negative),
    "Not": _numpy(np.logical_not),
    "Pow": _numpy(lambda a, b: np.power(a, b.astype(a.dtype))),
    "Range": _numpy(_range),
    "Reciprocal": _numpy(np.reciprocal),
    "ReduceMax": _reduced(np.max),
    "ReduceMean": _reduced(np.mean),
    "ReduceMin": _reduced(np.min),
    "ReduceProd": _reduced(np.prod),
    "ReduceSum": _reduced(np.sum),
    "Size": _numpy(lambda x: np.int64(x.size)),
    "Sqrt": _numpy(np.sqrt),
    "Sub": _numpy(np.subtract),
    "Where": _numpy(np.where),
}


def folded_size(call: Call, arguments: tuple[NDArray | None, ...], y: NDArray) -> tuple[NDArray, int]:
    """The sum of absolute values behind each entry of the folded result y, and how many roundings it takes."""
    first = arguments[0]
    assert first is not None, "operators that are folded have a first argument"
    if call.kind in ("MatMul", "ReduceMean", "ReduceSum"):
        sizes = tuple(np.abs(a) if a is not None and a.dtype.kind == "f" else a for a in arguments)
        return np.asarray(FOLDED_OPERATORS[call.kind](replace(call, arguments=sizes))), first.size
    return np.abs(y.astype(np.float64)), first.size if call.kind == "ReduceProd" else 2
