"""ONNX files to graphs: read (`onnx_import`), simplified, and compared with onnxruntime (`onnx_compare`)."""

from __future__ import annotations

from io import BytesIO
from os import PathLike

import torch

from .errors import BadInput
from .graph import Graph
from .onnx_compare import compare
from .onnx_import import SUPPORTED_ELEMENT_TYPES, SUPPORTED_OPERATORS, Reading
from .points import general_points
from .session import model_bytes

__all__ = ["SUPPORTED_ELEMENT_TYPES", "SUPPORTED_OPERATORS", "from_torch", "load_onnx", "read_onnx"]


def load_onnx(path: str | PathLike[str], check: bool = True) -> Graph:
    """The network in an `.onnx` or `.onnx.gz` file; `BadInput` where it cannot be read, is unsupported or differs.

    `check` compares the import with onnxruntime at points of several scales.
    """
    return read_onnx(model_bytes(path), str(path), check)


def read_onnx(data: bytes, name: str = "the model", check: bool = True) -> Graph:
    """The network in an ONNX model's bytes; as `load_onnx`."""
    reading = Reading(data, name)
    if check:
        compare(reading, general_points(reading.graph.input_size))
    return reading.graph


def from_torch(module: torch.nn.Module, example_input: torch.Tensor) -> tuple[Graph, bytes]:
    """A PyTorch module, traced at `example_input` (its shape is the network's input shape), and its ONNX bytes."""
    import warnings

    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(module, (example_input,), buffer, dynamo=False, opset_version=17)
        except Exception as error:  # the exporter raises whatever the module's code raises
            reason = str(error).strip().split("\n")[0]
            raise BadInput(f"torch.onnx cannot export the module: {reason}") from error
    data = buffer.getvalue()
    return read_onnx(data, type(module).__name__), data
