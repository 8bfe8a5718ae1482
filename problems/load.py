"""A network or a property in whatever form a user has it: files, graphs, PyTorch modules.

Whatever the network came as, a counterexample is judged on the original: the file's own bytes under onnxruntime for
ONNX, the exported file for a PyTorch module, float64 evaluation for a `Graph` built by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import BadInput

if TYPE_CHECKING:
    import torch

    from .graph import Graph
    from .onnx_import import Reading
    from .property import Array, Property
    from .session import OnnxModel

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
    return read_onnx(model, str(network)), _Confirmation(model)


def load_problem(
    network: str | Path | Graph | torch.nn.Module,
    property: str | Path | Property,
    example_input: torch.Tensor | None = None,
    seconds: float | None = None,
) -> tuple[Graph, Property, Confirm, str]:
    """A network and its property, as `load_network` and `load_property_for`, the network read for the property's box.

    What no input of the box reaches (sides of a Clip) is left out, and the network is compared with onnxruntime there,
    which takes about `seconds`. The last of the four is a sentence about that comparison, empty for a `Graph`.
    """
    from .graph import Graph

    if isinstance(network, Graph):
        return network, load_property_for(network, property), lambda x: _float64(network, x), ""
    from .onnx_import import Reading
    from .session import model_bytes

    if isinstance(network, str | Path):
        model, name = model_bytes(network), str(network)
        confirm = _Confirmation(model)
    else:
        _, confirm = load_network(network, example_input)
        model, name = confirm.model, type(network).__name__
    reading = Reading(model, name)
    prop = load_property_for(reading.graph, property)
    graph, said = _on_the_box(reading, prop, seconds)
    return graph, prop, confirm, said


def _on_the_box(reading: Reading, prop: Property, seconds: float | None) -> tuple[Graph, str]:
    """The network for the property's box, compared there and in general; and what to say about it."""
    from .onnx_compare import compare
    from .points import box_of, general_points, property_points

    box, points = box_of(prop), property_points(prop)
    general = general_points(reading.graph.input_size)
    part = reading if box is None else reading.on(*box)
    if part is reading:
        return reading.graph, compare(reading, np.concatenate([points, general]), seconds).sentence
    half = None if seconds is None else seconds / 2
    compare(reading, general, half)
    return part.graph, compare(part, points, half).sentence


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


class _Confirmation:
    """onnxruntime on the original bytes; the session is made when the first witness asks for it."""

    def __init__(self, model: bytes) -> None:
        self.model = model

    @cached_property
    def session(self) -> OnnxModel:
        from .session import OnnxModel

        return OnnxModel(self.model)

    def __call__(self, x: Array) -> Array:  # (n_in,) -> (n_out,)
        return self.session.run(x)


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
    return graph, _Confirmation(model)


def _float64(graph: Graph, x: Array) -> Array:
    import torch

    return graph.to(torch.float64)(torch.from_numpy(np.asarray(x, dtype=np.float64))).numpy()
