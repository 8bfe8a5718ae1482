"""ONNX files to graphs: read (`onnx_import`), simplified, and compared with onnxruntime (`onnx_compare`)."""

from __future__ import annotations

from os import PathLike

from ..network.graph import Graph
from .compare import compare
from .importing import SUPPORTED_ELEMENT_TYPES, SUPPORTED_OPERATORS, Reading
from .points import general_points
from .runtime import model_bytes

__all__ = ["SUPPORTED_ELEMENT_TYPES", "SUPPORTED_OPERATORS", "load_onnx", "read_onnx"]


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
