"""ONNX files to graphs: node by node, with every shape known, checked against onnxruntime.

The file's nodes are visited in their order. Each tensor is then either a constant (a numpy array: weights, shapes
and all that is computed from them) or a `Value` of the graph under construction with a known shape, so no shape
inference is needed: a node whose arguments are all constant is computed, every other one is handed to the function
of its name in `onnx_index` (moves of entries), `onnx_linear` (affine maps) or `onnx_piecewise` (everything else).
Then `simplify`.

What is verified is the function over the real numbers that the file's weights define. As a guard against a misread
file, each import is run beside onnxruntime on random inputs of several sizes and refused where they differ by more
than float32 explains. Soundness: exact up to the rounding that `simplify` states.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from .builder import Builder, Value
from .errors import BadInput
from .graph import Graph
from .onnx_call import Argument, Call
from .onnx_constant import CONSTANT_OPERATORS, FOLDED_OPERATORS
from .onnx_index import INDEX_OPERATORS
from .onnx_linear import LINEAR_OPERATORS
from .onnx_piecewise import PIECEWISE_OPERATORS
from .session import OnnxModel, model_bytes, static_shape
from .simplify import simplify

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPERATORS: dict[str, Callable] = {**CONSTANT_OPERATORS, **INDEX_OPERATORS, **LINEAR_OPERATORS, **PIECEWISE_OPERATORS}
SUPPORTED_OPERATORS = tuple(sorted(OPERATORS))
SUPPORTED_ELEMENT_TYPES = ("float32", "float64")
OLDEST_OPSET = 7


def load_onnx(path: str | PathLike[str], check: bool = True) -> Graph:
    """The network in an `.onnx` or `.onnx.gz` file; `BadInput` where it cannot be read, is unsupported or differs.

    `check` compares the import with onnxruntime on random inputs.
    """
    return read_onnx(model_bytes(path), str(path), check)


def read_onnx(data: bytes, name: str = "the model", check: bool = True) -> Graph:
    """The network in an ONNX model's bytes; as `load_onnx`."""
    graph = simplify(_imported(_parsed(data, name)))
    if check:
        compare(graph, OnnxModel(data), name)
    return graph


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


def _parsed(data: bytes, name: str) -> ModelProto:
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf's DecodeError differs between its implementations
        raise BadInput(f"{name} is not an ONNX file, or is truncated; export or fetch it again") from None
    if not model.graph.output or not model.graph.input:
        raise BadInput(f"{name} is not an ONNX file, or is truncated; it lists no inputs or no outputs")
    return model


def _imported(model: ModelProto) -> Graph:
    """The graph before simplification."""
    from onnx.numpy_helper import to_array

    proto, opset = model.graph, _opset(model)
    tensors: dict[str, Argument] = {}
    for t in proto.initializer:
        if t.data_location == 1:
            raise BadInput(f"tensor '{t.name}' lies in a separate file; save the network as a single file")
        tensors[t.name] = to_array(t)
    builder = _network_input(proto, tensors)
    if len(proto.output) > 1:
        names = ", ".join(o.name for o in proto.output)
        raise BadInput(f"the network has {len(proto.output)} outputs ({names}); exactly one is supported")
    output = proto.output[0].name
    for node in _needed(proto.node, output):
        _import_node(node, builder, tensors, opset)
    result = tensors.get(output)
    if result is None:
        raise BadInput(f"the network's output '{output}' is computed by no node; the file is damaged")
    if not isinstance(result, Value):
        result = builder.constant(result, result.shape, output)
    return builder.graph(result)


def _opset(model: ModelProto) -> int:
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    if opset < OLDEST_OPSET:
        raise BadInput(f"the network uses ONNX opset {opset}; opset {OLDEST_OPSET} or later is needed, export it again")
    return opset


def _network_input(proto, tensors: dict[str, Argument]) -> Builder:
    """A builder for the network's input, which is entered into `tensors`."""
    inputs = [i for i in proto.input if i.name not in tensors]
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs) or "none"
        raise BadInput(f"the network has {len(inputs)} inputs ({names}); exactly one is supported")
    kind = inputs[0].type.tensor_type
    if kind.elem_type not in (1, 11):
        import onnx

        names = " or ".join(SUPPORTED_ELEMENT_TYPES)
        got = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
        raise BadInput(f"the network's input '{inputs[0].name}' has element type {got}; {names} is needed")
    if not kind.HasField("shape"):
        raise BadInput(f"the network's input '{inputs[0].name}' has no shape; export it with a fixed input shape")
    dimensions = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in kind.shape.dim]
    builder = Builder(static_shape(dimensions, inputs[0].name), inputs[0].name)
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


def _import_node(node: NodeProto, builder: Builder, tensors: dict[str, Argument], opset: int) -> None:
    """Compute the node, or append it to the graph, and enter its outputs into `tensors`."""
    from onnx.helper import get_attribute_value

    kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
    name = node.name or node.output[0]
    for tensor in node.input:
        if tensor and tensor not in tensors:
            raise BadInput(f"{kind} (node '{name}') reads '{tensor}', which no earlier node computes; unsupported")
    arguments = tuple(tensors[tensor] if tensor else None for tensor in node.input)
    attributes = {a.name: get_attribute_value(a) for a in node.attribute}
    call = Call(builder, kind, name, opset, arguments, tuple(node.input), attributes, len(node.output))
    known = not any(isinstance(a, Value) for a in arguments)
    if kind not in OPERATORS and not (known and kind in FOLDED_OPERATORS):
        raise BadInput(
            f"operator {kind} (node '{name}') is not supported; supported are {', '.join(SUPPORTED_OPERATORS)}"
        )
    try:
        result = _result(call, known)
    except BadInput:
        raise
    except (ValueError, TypeError, IndexError, KeyError, RuntimeError, AttributeError) as error:
        raise call.refuse(f"cannot be imported ({error}); the file is damaged or uses a form not supported") from error
    for tensor, value in zip(node.output, result if isinstance(result, list) else [result], strict=False):
        tensors[tensor] = value


def _result(call: Call, known: bool) -> Argument | list[Argument]:
    if known and call.kind in FOLDED_OPERATORS:
        return FOLDED_OPERATORS[call.kind](call)
    if not known or call.kind in CONSTANT_OPERATORS or call.kind in INDEX_OPERATORS:
        return OPERATORS[call.kind](call)
    return _computed(call)


def _computed(call: Call) -> NDArray:
    """A node of constants, evaluated by importing it into a network of its own."""
    from dataclasses import replace

    x = np.asarray(call.argument(0))
    if not np.issubdtype(x.dtype, np.floating):
        raise call.refuse(f"works on constants of type {x.dtype}, which is not supported")
    builder = Builder(x.shape)
    result = OPERATORS[call.kind](replace(call, builder=builder, arguments=(builder.input, *call.arguments[1:])))
    y = builder.graph(result)(torch.from_numpy(call.finite(x, 0).reshape(-1)))
    return y.numpy().reshape(result.shape).astype(x.dtype)


def compare(graph: Graph, model: OnnxModel, name: str = "the model", seed: int = 0) -> None:
    """Run graph and file on random inputs; `BadInput` where they differ by more than float32 rounding explains.

    How much that is, is measured: the graph itself is also run in float32, and its largest intermediate value counts.
    Inputs on which the file overflows are passed over. Soundness: heuristic; it guards against misread files and
    proves nothing.
    """
    x = _sample(graph.input_size, seed).to(torch.from_numpy(np.zeros(0, model.dtype)).dtype).double()
    theirs = model.run_many(x.numpy())
    finite = np.isfinite(theirs).all(1)
    if not finite.any():
        raise BadInput(f"{name} gives NaN or infinity in onnxruntime on every random input; it cannot be verified")
    values = graph.values(x[finite])
    ours, theirs = values[-1].numpy(), theirs[finite]
    if ours.shape != theirs.shape:
        raise BadInput(
            f"{name} was read with {ours.shape[1]} outputs where onnxruntime has {theirs.shape[1]}; please report it"
        )
    single = graph.to(torch.float32)(x[finite].float()).double().numpy()
    largest = max(float(v.abs().max()) for v in values if v.numel())
    allowed = (
        1e-4 * np.abs(ours).max()
        + 30 * np.abs(np.nan_to_num(single - ours, posinf=0, neginf=0)).max()
        + 1e-6 * largest
        + 1e-7
    )
    error = np.abs(ours - theirs).max()
    if not error <= allowed:
        raise BadInput(
            f"{name} gives other outputs in onnxruntime than as imported (they differ by {error:.3g} on random "
            "inputs); it uses an operator in a way that is not supported, please report it"
        )


def _sample(n: int, seed: int) -> torch.Tensor:  # (5, n)
    """The origin, and random points as images, normalised data, large data and small data have them."""
    source = torch.Generator().manual_seed(seed)
    low, width = torch.tensor([0.0, 0.0, -1.0, -8.0, 0.0]), torch.tensor([0.0, 1.0, 2.0, 16.0, 0.05])
    return low[:, None] + width[:, None] * torch.rand(5, n, generator=source)
