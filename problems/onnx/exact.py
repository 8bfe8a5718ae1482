"""Which ONNX operators are imported without rounding: the graph's numbers are the file's.

Averages, quotients and normalisations are written with weights that are rounded; nodes made for them are marked
(`Affine.rounded`), and so is what an operator makes that is not listed here. Bounds count that rounding anyway;
decisions in exact arithmetic (`leaf.rational`) are refused.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from ..network.builder import Builder
from ..network.graph import Affine
from .call import Call
from .index import INDEX_OPERATORS

EXACT = frozenset(
    (
        *INDEX_OPERATORS,
        *("Abs", "Add", "Clip", "Conv", "ConvTranspose", "Gemm", "LeakyRelu", "MatMul"),
        *("Max", "MaxPool", "Min", "Mul", "Neg", "ReduceSum", "Relu", "Sub"),
    )
)


def exactly(call: Call) -> bool:
    """Whether the nodes that this call appends hold the file's numbers."""
    if call.kind == "LeakyRelu":
        slope = call.attribute("alpha", 0.01)
        return Fraction(1 - slope) == 1 - Fraction(slope)
    if call.kind == "Gemm":
        return call.attribute("alpha", 1.0) == 1 and call.attribute("beta", 1.0) in (0, 1)
    return call.kind in EXACT


def mark(builder: Builder, start: int) -> None:
    """The affine nodes from `start` on hold rounded numbers."""
    for i, node in enumerate(builder.nodes[start:], start):
        if isinstance(node, Affine):
            builder.nodes[i] = replace(node, rounded=True)
