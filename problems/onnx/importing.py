"""ONNX models to graphs: node by node, with every shape known.

The file's nodes are visited in their order. Each tensor is then either a constant (a numpy array: weights, shapes
and all that is computed from them) or a `Value` of the graph under construction with a known shape, so no shape
inference is needed: a node whose arguments are all constant is computed, every other one is handed to the function
of its name in `index` (moves of entries), `linear` (affine maps), `nonlinear` (what ReLUs express) or
`elementwise` (other functions of one entry). Then `simplify`. What came of each node is kept (`Step`), for the
comparison with onnxruntime.

What is verified is the function over the real numbers that the file's weights define. The input's box, where a
property gives one, decides which sides of a Clip are built at all. Soundness: exact up to the rounding that `simplify`
states.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels.deadline import TimeUp, abandonable, check, doing
from ..errors import BadInput
from ..network.apriori import Precision, factor, given, judged
from ..network.builder import Box, Builder, Value, tensor
from ..network.graph import Graph, Node
from ..network.simplify import simplified
from .call import Argument, Call
from .constant import CONSTANT_OPERATORS, FOLDED_OPERATORS, folded_size
from .elementwise import ELEMENTWISE_OPERATORS
from .exact import exactly, mark
from .index import INDEX_OPERATORS
from .linear import LINEAR_OPERATORS
from .nonlinear import PIECEWISE_OPERATORS
from .runtime import LARGE, static_shape

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

OPERATORS: dict[str, Callable] = {
    **CONSTANT_OPERATORS,
    **INDEX_OPERATORS,
    **LINEAR_OPERATORS,
    **PIECEWISE_OPERATORS,
    **ELEMENTWISE_OPERATORS,
}
SUPPORTED_OPERATORS = tuple(sorted(OPERATORS))
SUPPORTED_ELEMENT_TYPES = ("float32", "float64")
OLDEST_OPSET = 7
# What libraries raise at numbers that have no meaning where they stand.
MALFORMED = (ValueError, TypeError, LookupError, RuntimeError, AttributeError, ArithmeticError, MemoryError)


class Reading:
    """An ONNX model that is being read: first for any input, then, where a property is known, for its box.

    Raises `BadInput` where the model cannot be read or is unsupported.
    """

    def __init__(self, data: bytes, name: str = "the model") -> None:
        self.data, self.name = data, name
        self._model = _parsed(data, name)
        self.imported = imported(self._model)
        doing("the layers of the network were fused")
        self.graph, self.same = simplified(self.imported.graph)

    def on(self, lower: NDArray, upper: NDArray) -> Reading:
        """The network for inputs in the box: the same function there, without what no input of the box reaches."""
        if not self.imported.asked:
            return self
        part = copy(self)
        part.imported = imported(self._model, (lower, upper))
        part.graph, part.same = simplified(part.imported.graph)
        return part


def as_written(data: bytes) -> Graph:
    """The network in an ONNX model's bytes before `simplify`: a node or more for each of the file's, nothing fused."""
    return imported(_parsed(data, "the model")).graph


def _parsed(data: bytes, name: str) -> ModelProto:
    import onnx

    try:
        parse = partial(onnx.load_model_from_string, data)
        model = abandonable(parse) if len(data) > LARGE else parse()
    except TimeUp:
        raise
    except Exception:  # protobuf's DecodeError differs between its implementations
        raise BadInput(f"{name} is not an ONNX file, or is truncated; export or fetch it again") from None
    if model.graph.output and model.graph.node and not model.graph.input:
        raise BadInput(f"{name} has no input, so that its output is constant: there is nothing to verify")
    if not model.graph.output or not model.graph.input:
        raise BadInput(f"{name} is not an ONNX file, or is truncated; it lists no inputs or no outputs")
    return model


@dataclass(frozen=True, eq=False)
class Step:
    """One node of the file as it was imported: what it read, and what came out."""

    call: Call
    outputs: tuple[str, ...]  # names of tensors
    results: tuple[Argument, ...]
    nodes: range  # of those before simplification, the ones made for it


@dataclass(frozen=True, eq=False)
class Imported:
    """A network before simplification, and how it came about."""

    graph: Graph
    nodes: tuple[Node, ...]  # the graph's, and those that only a shape was asked of
    steps: tuple[Step, ...]
    output: str  # the name of the output's tensor
    asked: bool  # whether a box would let some of it be left out


def imported(model: ModelProto, box: Box | None = None) -> Imported:
    """The network node by node, on the box alone where one is given."""
    proto, opset = model.graph, _opset(model)
    tensors: dict[str, Argument] = {}
    for t in proto.initializer:
        if t.data_location == 1:
            raise BadInput(f"tensor '{t.name}' lies in a separate file; save the network as a single file")
        check()
        tensors[t.name] = _stored(t)
    builder = _network_input(proto, tensors, box)
    if len(proto.output) > 1:
        names = ", ".join(o.name for o in proto.output)
        raise BadInput(f"the network has {len(proto.output)} outputs ({names}); exactly one is supported")
    output = proto.output[0].name
    steps = [_import_node(node, builder, tensors, opset) for node in _needed(proto.node, output)]
    result = tensors.get(output)
    if result is None:
        raise BadInput(f"the network's output '{output}' is computed by no node; the file is damaged")
    if not isinstance(result, Value):
        result = builder.constant(result, result.shape, output)
    graph = replace(builder.graph(result), element_type=_element_type(proto, builder))
    return Imported(graph, tuple(builder.nodes), tuple(steps), output, builder.asked)


def _stored(t: TensorProto) -> NDArray:
    """An initializer's numbers."""
    from onnx.numpy_helper import to_array

    try:
        return to_array(t)
    except MALFORMED as error:
        raise BadInput(f"tensor '{t.name}' cannot be read ({error}); the file is damaged") from error


def _element_type(proto, builder: Builder) -> str:
    """That of the network's input, as VNN-LIB names it."""
    (kind,) = (i.type.tensor_type.elem_type for i in proto.input if i.name == builder.nodes[0].name)
    return {1: "float32", 11: "float64"}[kind]


def _opset(model: ModelProto) -> int:
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    if opset < OLDEST_OPSET:
        raise BadInput(f"the network uses ONNX opset {opset}; opset {OLDEST_OPSET} or later is needed, export it again")
    return opset


def _network_input(proto, tensors: dict[str, Argument], box: Box | None) -> Builder:
    """A builder for the network's input, which is entered into `tensors`."""
    inputs = [i for i in proto.input if i.name not in tensors]
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs) or "none"
        raise BadInput(f"the network has {len(inputs)} inputs ({names}); exactly one is supported")
    kind = inputs[0].type.tensor_type
    if kind.elem_type not in (1, 11):
        import onnx

        names = " or ".join(SUPPORTED_ELEMENT_TYPES)
        known = dict(map(reversed, onnx.TensorProto.DataType.items()))
        got = known.get(kind.elem_type, f"number {kind.elem_type}").lower()
        raise BadInput(f"the network's input '{inputs[0].name}' has element type {got}; {names} is needed")
    if not kind.HasField("shape"):
        raise BadInput(f"the network's input '{inputs[0].name}' has no shape; export it with a fixed input shape")
    dimensions = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in kind.shape.dim]
    builder = Builder(static_shape(dimensions, inputs[0].name), inputs[0].name, box)
    tensors[inputs[0].name] = builder.input
    return builder


def _needed(nodes, output: str) -> list[NodeProto]:
    """The nodes that the output depends on, in the file's order."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _import_node(node: NodeProto, builder: Builder, tensors: dict[str, Argument], opset: int) -> Step:
    """Compute the node, or append it to the graph, and enter its outputs into `tensors`."""
    check()
    kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
    name = node.name or node.output[0]
    for read in node.input:
        if read and read not in tensors:
            raise BadInput(f"{kind} (node '{name}') reads '{read}', which no earlier node computes; unsupported")
    arguments = tuple(tensors[read] if read else None for read in node.input)
    call = Call(builder, kind, name, opset, arguments, tuple(node.input), {}, len(node.output))
    known = not any(isinstance(a, Value) for a in arguments)
    if kind not in OPERATORS and not (known and kind in FOLDED_OPERATORS):
        raise BadInput(
            f"operator {kind} (node '{name}') is not supported; supported are {', '.join(SUPPORTED_OPERATORS)}"
        )
    start = len(builder.nodes)
    try:
        call = replace(call, attributes=_attributes(node))
        result = evaluated(call)
        exact = exactly(call)
    except BadInput:
        raise
    except MALFORMED as error:
        raise call.refuse(f"cannot be imported ({error}); the file is damaged or uses a form not supported") from error
    if not exact:
        mark(builder, start)
    pairs = list(zip(node.output, result if isinstance(result, list) else [result], strict=False))
    tensors.update(pairs)
    return Step(call, tuple(n for n, _ in pairs), tuple(r for _, r in pairs), range(start, len(builder.nodes)))


def _attributes(node: NodeProto) -> dict[str, Any]:
    """The node's attributes by name."""
    from onnx.helper import get_attribute_value

    return {a.name: get_attribute_value(a) for a in node.attribute}


def evaluated(call: Call) -> Argument | list[Argument]:
    """What the node gives: computed where its arguments are known, appended to the graph where they are not."""
    known = not any(isinstance(a, Value) for a in call.arguments)
    if known and call.kind in FOLDED_OPERATORS:
        return FOLDED_OPERATORS[call.kind](call)
    if not known or call.kind in CONSTANT_OPERATORS or call.kind in INDEX_OPERATORS:
        return OPERATORS[call.kind](call)
    graph, shape, x = alone(call)
    return graph(tensor(x).reshape(-1)).numpy().reshape(shape).astype(x.dtype)


def alone(call: Call) -> tuple[Graph, tuple[int, ...], NDArray]:
    """A node of constants as a network of its own, the shape of its result, and its input."""
    x = np.asarray(call.argument(0))
    if not np.issubdtype(x.dtype, np.floating):
        raise call.refuse(f"works on constants of type {x.dtype}, which is not supported")
    builder = Builder(x.shape)
    call.finite(x, 0)
    result = OPERATORS[call.kind](replace(call, builder=builder, arguments=(builder.input, *call.arguments[1:])))
    return builder.graph(result), result.shape, x


def refolded(call: Call, arguments: tuple[NDArray | None, ...]) -> list[tuple[NDArray, NDArray]]:
    """The results of a node of constants for other arguments, each with how far another's may be from it."""
    result = evaluated(replace(call, arguments=arguments))
    results = [np.asarray(r) for r in (result if isinstance(result, list) else [result])]
    kind = call.kind
    if kind in INDEX_OPERATORS or kind in CONSTANT_OPERATORS:
        return [(r, np.zeros(())) for r in results]
    (y,) = results
    if y.dtype.kind != "f":
        return [(y, np.zeros(()))]
    precision = Precision.of(torch.from_numpy(y).dtype)
    if kind in FOLDED_OPERATORS:
        size, terms = folded_size(call, arguments, y)
        return [(y, factor(terms, precision) * size + precision.smallest)]
    graph, _, x = alone(replace(call, arguments=arguments))
    start = given(tensor(x).reshape(-1))
    found = judged(graph.nodes, range(1, len(graph.nodes)), {0: start}, precision)[graph.output]
    return [(y, found.error.numpy().reshape(y.shape))]
