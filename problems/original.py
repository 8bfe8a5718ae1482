"""The network as it was given, beside the `Graph` that was read from it: what judges witnesses.

A verdict speaks of the network that the user has. An ONNX file is run by onnxruntime; a PyTorch module is run by
onnxruntime on its exported file *and* as itself; a `Graph` made by hand is its own original, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .torch_compare import ModuleComparison

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Original:
    """The original as functions of one flat float64 vector, (n_in,) -> (n_out,).

    Called, it answers as `confirm`. `module` is the PyTorch module itself, in its own precision, where the network is
    one, else None. `model`: the bytes that onnxruntime runs, where there are any. `comparison` compares the module with
    them on the box that is verified; `load.compare_on` calls it.
    """

    confirm: Callable[[Array], Array]
    module: Callable[[Array], Array] | None = None
    model: bytes | None = None
    comparison: ModuleComparison | None = None

    def __call__(self, x: Array) -> Array:
        return self.confirm(x)
