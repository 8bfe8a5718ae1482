"""ONNX operators that apply one function to every entry: one line of this table each.

An operator's name is its function's class; modules are imported when a file asks for them. What else the import, its
comparison with onnxruntime and the bounds need to know of a function, the function says (`AbstractActivation`).
Soundness: exact.
"""

from __future__ import annotations

from importlib import import_module

from ..network.activation import AbstractActivation
from ..network.builder import Value
from .call import Call

MODULES = {
    "Sigmoid": "smooth",
    "Tanh": "smooth",
}


def function(kind: str) -> AbstractActivation:
    """The function of an operator in the table."""
    return getattr(import_module(f"..network.{MODULES[kind]}", __package__), kind)()


def elementwise(call: Call) -> Value:
    return call.builder.activation(call.variable(0), function(call.kind), call.name)


ELEMENTWISE_OPERATORS = dict.fromkeys(MODULES, elementwise)
