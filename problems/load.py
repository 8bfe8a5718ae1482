"""A network or a property in whatever form a user has it: files, graphs, PyTorch modules.

Whatever the network came as, a counterexample is judged on the original: the file's own bytes under onnxruntime for
ONNX, the exported file for a PyTorch module, float64 evaluation for a `Graph` built by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import BadInput

if TYPE_CHECKING:
    import torch

    from .graph import Graph
    from .property import Array, Property

Confirm = Callable[["Array"], "Array"]  # (n_in,) -> (n_out,)


def load_network(
    network: str | Path | Graph | torch.nn.Module, example_input: torch.Tensor | None = None
) -> tuple[Graph, Confirm]:
    """The network as a `Graph`, and the original as a function of one flat input.

    A module needs an `example_input` with its batch dimension, of size 1. Raises `BadInput` for what is refused.
    """
    from .graph import Graph

    if isinstance(network, Graph):
        return network, lambda x: _float64(network, x)
    if not isinstance(network, str | Path):
        return _from_module(network, example_input)
    from .onnx import read_onnx
    from .session import model_bytes

    model = model_bytes(network)
    return read_onnx(model, str(network)), _confirmation(model)


def load_property_for(graph: Graph, property: str | Path | Property) -> Property:
    """The property, read for this network; `BadInput` where the sizes do not match."""
    if isinstance(property, str | Path):
        from .vnnlib import load_property

        return load_property(property, graph.input_size, graph.output_size)
    if (property.n_in, property.n_out) != (graph.input_size, graph.output_size):
        raise BadInput(
            f"the property speaks of {property.n_in} inputs and {property.n_out} outputs, but the network has "
            f"{graph.input_size} and {graph.output_size}"
        )
    return property


def _confirmation(model: bytes) -> Confirm:
    """onnxruntime on the original bytes; the session is made when the first witness asks for it."""
    session = None

    def confirm(x: Array) -> Array:
        nonlocal session
        if session is None:
            from .session import OnnxModel

            session = OnnxModel(model)
        return session.run(x)

    return confirm


def _from_module(module: torch.nn.Module, example_input: torch.Tensor | None) -> tuple[Graph, Confirm]:
    """A PyTorch module in evaluation mode, by way of ONNX, so that both have one meaning."""
    import torch

    from .onnx import from_torch

    if not isinstance(module, torch.nn.Module):
        raise BadInput(f"a network is a file, a Graph or a torch.nn.Module, not a {type(module).__name__}")
    if example_input is None:
        raise BadInput("a torch.nn.Module needs an example_input, a tensor of its input's shape with batch size 1")
    training = module.training
    try:
        graph, model = from_torch(module.eval(), example_input)
    finally:
        module.train(training)
    return graph, _confirmation(model)


def _float64(graph: Graph, x: Array) -> Array:
    import torch

    return graph.to(torch.float64)(torch.from_numpy(np.asarray(x, dtype=np.float64))).numpy()
