"""Small networks and properties on disk, for tests of the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

# y0 = relu(x0 + x1) - relu(x0 - x1), y1 = 1: on [-1, 1]^2, y0 reaches from -2 to 2.
WEIGHT_1 = np.array([[1, 1], [1, -1], [0, 0]], dtype=np.float32)
BIAS_1 = np.array([0, 0, 1], dtype=np.float32)
WEIGHT_2 = np.array([[1, -1, 0], [0, 0, 1]], dtype=np.float32)


def save_network(path: Path, last: str = "Relu", weight: np.ndarray = WEIGHT_1, batch: int | str = 1) -> Path:
    """Gemm, an elementwise operator (`last`), Gemm."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    tensors = [
        numpy_helper.from_array(array, name)
        for array, name in ((weight, "w1"), (BIAS_1, "b1"), (WEIGHT_2, "w2"), (np.zeros(2, np.float32), "b2"))
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], "first", transB=1),
        helper.make_node(last, ["h"], ["a"], "middle"),
        helper.make_node("Gemm", ["a", "w2", "b2"], ["y"], "second", transB=1),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, batch if batch != 1 else 2]), ("y", [1, 2]))
    ]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def save_property(path: Path, unsafe: str, n_in: int = 2, box: tuple[float, float] = (-1, 1)) -> Path:
    """The box in every input, and the assertion `unsafe`."""
    lines = [f"(declare-const X_{i} Real)" for i in range(n_in)] + ["(declare-const Y_0 Real)(declare-const Y_1 Real)"]
    lines += [f"(assert (>= X_{i} {box[0]}))(assert (<= X_{i} {box[1]}))" for i in range(n_in)]
    path.write_text("\n".join([*lines, f"(assert {unsafe})", ""]))
    return path


UNSAT, SAT = "(>= Y_0 2.5)", "(>= Y_0 1.5)"
