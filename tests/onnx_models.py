"""Tiny ONNX models for the tests: one node, or a few, around given constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from partita.problems.network.graph import Activation, Affine, Graph
from partita.problems.onnx.file import read_onnx
from partita.problems.onnx.runtime import OnnxModel

RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def model(
    nodes: Sequence[NodeProto],
    shape: Sequence[int | str | None],
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 13,
    output: str = "y",
    element: int = TensorProto.FLOAT,
) -> ModelProto:
    """A model with input "x" of the given shape, the nodes, and the constants as initializers."""
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", element, list(shape))],
        [helper.make_tensor_value_info(output, element, None)],
        tensors,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 8
    return made


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """A node from names separated by blanks."""
    return helper.make_node(kind, inputs.split(), outputs.split(), name=f"{kind}_{outputs.split()[0]}", **attributes)


def single(
    kind: str, shape: Sequence[int], *constants: np.ndarray | None, opset: int = 13, outputs: int = 1, **attributes: Any
) -> ModelProto:
    """One operator on "x", with further arguments constant (None leaves an optional one out)."""
    names = ["x"] + [f"c{i}" if c is not None else "" for i, c in enumerate(constants)]
    given = {f"c{i}": c for i, c in enumerate(constants) if c is not None}
    listed = ["y", *[f"y{i}" for i in range(1, outputs)]]
    return model([helper.make_node(kind, names, listed, name="node", **attributes)], shape, given, opset)


def agrees(made: ModelProto, points: int = 6, tolerance: float = 1e-5) -> Graph:
    """Import the model, compare it with onnxruntime, check the normal form, and return the graph."""
    data = made.SerializeToString()
    graph, reference = read_onnx(data, check=False), OnnxModel(data)
    x = np.concatenate([RANDOM.normal(size=(points, graph.input_size)), np.zeros((1, graph.input_size))])
    x = x.astype(np.float32).astype(np.float64)
    feed = {reference.name: x[0].astype(reference.dtype).reshape(reference.shape)}
    assert reference.session.run(None, feed)[0].shape == graph.output_shape
    theirs, ours = reference.run_many(x), graph(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * max(1.0, np.abs(theirs).max()))
    is_normal(graph)
    return graph


def is_normal(graph: Graph) -> None:
    """The normal form that `simplify` promises."""
    assert isinstance(graph.nodes[-1], Affine)
    readers = {i for node in graph.nodes for i in node.inputs}
    assert readers >= set(range(1, len(graph.nodes) - 1)), "a node that nobody reads"
    for node in graph.nodes[1:]:
        assert node.inputs, "a constant node"
        if isinstance(node, Activation):
            assert isinstance(graph.nodes[node.inputs[0]], Affine)
        elif isinstance(node, Affine):
            assert node.bias.dtype == torch.float64
            assert node.bias.shape == (node.size,)
            assert all(o.n_out == node.size for o in node.operators)
            assert all(o.n_in == graph.nodes[i].size for o, i in zip(node.operators, node.inputs, strict=True))
