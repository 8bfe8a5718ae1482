"""A network or a property in whatever form a user has it: files, graphs, PyTorch modules.

Whatever the network came as, a counterexample is judged on the original (see `original`): the file's own bytes under
onnxruntime for ONNX, the exported file and the module for a PyTorch module, float64 evaluation for a `Graph`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..kernels.deadline import doing
from .errors import BadInput
from .originals.original import Original, original_of

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    from .network.graph import Graph
    from .onnx.compare import Comparison
    from .onnx.importing import Reading
    from .properties.property import Array, Polytope, Property, UnsafeSet

NO_EXAMPLE = "example_input has no effect here: it goes with a PyTorch module, whose input shape it shows"
BOXES, POINTS = 4, 16  # of a property at which a module is compared with its export


def load_network(
    network: str | Path | Graph | torch.nn.Module | ExportedProgram, example_input: torch.Tensor | None = None
) -> tuple[Graph, Original]:
    """The network as a `Graph`, and the original as a function of one flat input.

    A module needs an `example_input` with its batch dimension, of size 1; an exported program brings its own. Raises
    `BadInput` for what is refused.
    """
    from .network.graph import Graph

    doing("the network was read")
    if isinstance(network, Graph):
        if example_input is not None:
            raise BadInput(NO_EXAMPLE)
        return network, Original(lambda x: _float64(network, x))
    if not isinstance(network, str | Path):
        from .torch.module import load_module

        return load_module(network, example_input)
    from .onnx.file import read_onnx
    from .onnx.runtime import model_bytes

    if example_input is not None:
        raise BadInput(NO_EXAMPLE)
    model = model_bytes(network)
    return read_onnx(model, str(network)), original_of(model)


def load_problem(
    network: str | Path | Graph | torch.nn.Module | ExportedProgram,
    property: str | Path | Property,
    example_input: torch.Tensor | None = None,
    seconds: float | None = None,
) -> tuple[Graph, Property, Original, Comparison | None]:
    """A network and its property, as `load_network` and `load_property_for`, the network read for the property's box.

    What no input of the box reaches (sides of a Clip) is left out, and the network is compared with onnxruntime there,
    which takes about `seconds`. The last of the four says what was compared, and is None for a `Graph`.
    """
    from .network.graph import Graph

    doing("the network was read")
    if example_input is not None and isinstance(network, str | Path | Graph):
        raise BadInput(NO_EXAMPLE)
    if isinstance(network, Graph):
        return network, load_property_for(network, property), Original(lambda x: _float64(network, x)), None
    from .onnx.importing import Reading
    from .onnx.runtime import model_bytes

    if isinstance(network, str | Path):
        model, name = model_bytes(network), str(network)
        confirm = original_of(model)
    else:
        from .torch.module import load_module

        _, confirm = load_module(network, example_input, check=False)  # the file is compared below
        assert confirm.model is not None, "a module is read by way of its file"
        model, name = confirm.model, type(network).__name__
    reading = Reading(model, name)
    prop = load_property_for(reading.graph, property)
    doing("the network as it was read was compared with the original")
    compare_on(confirm, (case.inputs for case in prop.cases), 1.0 if seconds is None else min(1.0, seconds))
    graph, compared = _on_the_box(reading, prop, seconds)
    return graph, prop, confirm, compared


def _on_the_box(reading: Reading, prop: Property, seconds: float | None) -> tuple[Graph, Comparison]:
    """The network for the property's box, compared there and in general."""
    from .onnx.compare import SECONDS, compare
    from .onnx.points import box_of, general_points, property_points

    seconds = SECONDS if seconds is None else min(SECONDS, seconds)
    box, points = box_of(prop), property_points(prop)
    general = general_points(reading.graph.input_size)
    part = reading if box is None else reading.on(*box)
    if part is reading:
        return reading.graph, compare(reading, np.concatenate([points, general]), seconds)
    compare(reading, general, seconds / 2)
    return part.graph, compare(part, points, seconds / 2)


def read_for(graph: Graph, original: Original, polytopes: Sequence[Polytope]) -> Graph:
    """The network that `load_network` gave, without what no input of the polytopes' boxes reaches, compared there."""
    compare_on(original, polytopes)
    if original.model is None or not any(kind in original.model for kind in (b"Clip", b"Min", b"Max")):
        return graph
    from .onnx.importing import Reading
    from .properties.property import Case, Property

    reading = Reading(original.model)
    if not reading.imported.asked:
        return graph
    unsafe: tuple[UnsafeSet, ...] = ()
    prop = Property(tuple(Case(inputs, unsafe) for inputs in polytopes), graph.input_size, graph.output_size)
    return _on_the_box(reading, prop, None)[0]


def load_property_for(graph: Graph, property: str | Path | Property) -> Property:
    """The property, read for this network; `BadInput` where the sizes do not match."""
    doing("the property was read")
    if isinstance(property, str | Path):
        from .given import path_of
        from .properties.vnnlib import load_property

        return load_property(path_of("the property", property), graph.input_size, graph.output_size, graph)
    if not hasattr(property, "cases"):
        raise BadInput(f"a property is a VNN-LIB file or a Property, not a {type(property).__name__}")
    from .properties.handmade import property_of

    return property_of(property, graph.input_size, graph.output_size)


def compare_on(original: Original, boxes: Iterable[Polytope], seconds: float = 1.0) -> None:
    """A PyTorch module beside its export on the boxes that are to be verified; `BadInput` where they differ.

    Half-spaces are not looked at. Other networks have nothing to compare here.
    """
    if original.comparison is None:
        return
    chosen = [box for box in boxes if not box.empty][:BOXES]
    for box in chosen:
        original.comparison.on_box(box.lower, box.upper, seconds / len(chosen), max(4, POINTS // len(chosen)))


def _float64(graph: Graph, x: Array) -> Array:
    import torch

    return graph.to(torch.float64)(torch.from_numpy(np.asarray(x, dtype=np.float64))).numpy()
