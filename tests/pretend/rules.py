"""PyTorch's rules for operands on several devices, as CUDA applies them; from ATen's sources of 2.11.

An operation's tensors share one device. Exceptions: a copy goes anywhere; a tensor on a device may be indexed by
tensors of the CPU (they are copied; not the other way round); elementwise operations (TensorIterator with
`allow_cpu_scalars`) take one operand without dimensions from the CPU, and so do `masked_fill` and `index_put` as the
value.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .log import Log
from .tensor import Pretend

INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put"}
ANYWHERE = {"copy_", "_to_copy", "lift_fresh", "_copy_from", "set_"}
# Elementwise: their configuration in ATen allows one scalar of the CPU.
SCALARS = {
    *("add", "sub", "rsub", "mul", "div", "true_divide", "floor_divide", "remainder", "fmod", "pow", "atan2", "hypot"),
    *("maximum", "minimum", "fmax", "fmin", "nextafter", "copysign", "ldexp", "xlogy", "heaviside", "where", "lerp"),
    *("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "addcmul", "addcdiv"),
    *("bitwise_and", "bitwise_or", "bitwise_xor", "__and__", "__or__", "__xor__", "__iand__", "__ior__", "masked_fill"),
    "__ixor__",
}
TWO_SCALARS = {"where"}  # moves either of its values

# After these the host waits for the device: it must know a number, or how large the result is.
WAITS = {
    **dict.fromkeys(("_local_scalar_dense", "equal", "is_nonzero", "allclose"), "number"),
    **dict.fromkeys(("nonzero", "masked_select", "bincount", "histc", "repeat_interleave"), "shape"),
    **dict.fromkeys(("_unique2", "unique_dim", "unique_consecutive"), "shape"),
}
# No kernel: they only look at a tensor differently, or make room.
FREE = {
    *("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "_unsafe_view", "_reshape_alias"),
    *("lift_fresh", "alias", "detach", "set_", "_local_scalar_dense", "is_same_size"),
}


def check(name: str, args: Sequence[object], tensors: Sequence[torch.Tensor], log: Log) -> None:
    """Raises what CUDA would raise for the operands of an operation, at least one of which is on a device."""
    if name in ANYWHERE:
        return
    if name in INDEXING:
        _check_indexing(name, args, log)
        return
    there = next(t.device for t in tensors if isinstance(t, Pretend))
    scalars = 0
    for t in tensors:
        if t.device == there:
            continue
        if t.ndim == 0 and not isinstance(t, Pretend) and name.rstrip("_") in SCALARS | {name} & SCALARS:
            scalars += 1
            if scalars == 1 or name in TWO_SCALARS:
                continue
        raise log.refused(
            RuntimeError,
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{there} and {t.device}! (when checking arguments of {name}, shape {tuple(t.shape)})",
        )


def _check_indexing(name: str, args: Sequence[object], log: Log) -> None:
    own, indices = args[0], args[1]
    assert isinstance(own, torch.Tensor)
    for index in indices:  # type: ignore[attr-defined]
        if not isinstance(index, torch.Tensor) or index.device == own.device:
            continue
        if isinstance(index, Pretend):
            where = f"either on {'cpu or on ' if isinstance(own, Pretend) else ''}the same device as the indexed tensor"
            raise log.refused(RuntimeError, f"indices should be {where} ({own.device}), not on {index.device}")
        log.wait("copy of an index")
    values = args[2] if len(args) > 2 else None
    if not isinstance(values, torch.Tensor) or values.device == own.device:
        return
    if isinstance(values, Pretend) or values.ndim:
        raise log.refused(
            RuntimeError,
            f"Expected all tensors to be on the same device, but found at least two devices, {own.device} and "
            f"{values.device}! (values of {name})",
        )
