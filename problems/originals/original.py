"""The network as it was given, beside the `Graph` that was read from it: what judges witnesses.

A verdict speaks of the network that the user has. An ONNX file is run by onnxruntime; a PyTorch module is run by
onnxruntime on its exported file *and* as itself; a `Graph` made by hand is its own original, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..network.graph import Graph
    from ..onnx.runtime import OnnxModel
    from .module_comparison import ModuleComparison

Array = NDArray[np.float64]


def _double() -> type[np.floating]:
    return np.float64


@dataclass(frozen=True, eq=False)
class Original:
    """The original as functions of one flat float64 vector, (n_in,) -> (n_out,).

    Called, it answers as `confirm`. `module` is the PyTorch module itself, in its own precision, where the network is
    one, else None. `model`: the bytes that onnxruntime runs, where there are any. `comparison` compares the module with
    them on the box that is verified; `load.compare_on` calls it. `element()` is the type of the numbers that `confirm`
    can be fed; `written()` is the network before its layers were fused, where the graph that is verified is another.
    Both may take a while when first called.
    """

    confirm: Callable[[Array], Array]
    module: Callable[[Array], Array] | None = None
    model: bytes | None = None
    comparison: ModuleComparison | None = None
    element: Callable[[], type[np.floating]] = _double
    written: Callable[[], Graph] | None = None

    def __call__(self, x: Array) -> Array:
        return self.confirm(x)


def original_of(
    model: bytes, module: Callable[[Array], Array] | None = None, comparison: ModuleComparison | None = None
) -> Original:
    """An ONNX model, and the module that it was exported from, if any, as the original."""
    confirm = _Confirmation(model)

    def written() -> Graph:
        from ..onnx.importing import as_written

        return as_written(model)

    return Original(confirm, module, model, comparison, lambda: confirm.session.dtype, written)


class _Confirmation:
    """onnxruntime on the original bytes; the session is made when the first witness asks for it."""

    def __init__(self, model: bytes) -> None:
        self.model = model

    @cached_property
    def session(self) -> OnnxModel:
        from ..onnx.runtime import OnnxModel

        return OnnxModel(self.model)

    def __call__(self, x: Array) -> Array:  # (n_in,) -> (n_out,)
        return self.session.run(x)
