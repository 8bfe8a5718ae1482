"""ONNX import: each operator, in many forms and opsets, against onnxruntime; normal form; refusals."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from onnx_models import agrees, floats, ints, is_normal, model, node, normal, single

from partita.problems.errors import BadInput
from partita.problems.network.graph import Activation
from partita.problems.onnx.file import SUPPORTED_OPERATORS, load_onnx
from partita.problems.onnx.runtime import OnnxModel, model_bytes
from partita.problems.torch.module import from_torch

CASES = {
    # arithmetic, with every way of broadcasting
    "Add": single("Add", (1, 4), normal(4)),
    "Add widens": single("Add", (1, 4, 1), normal(3)),
    "Sub": single("Sub", (2, 3), normal(2, 1)),
    "Mul": single("Mul", (1, 3, 2), normal(3, 1)),
    "Mul scalar": single("Mul", (1, 3), np.array(2.5, np.float32)),
    "Mul opset 7": single("Mul", (1, 3), normal(1, 3), opset=7),
    "Div": single("Div", (1, 3), floats(2, -0.3, 7)),
    "Neg": single("Neg", (1, 3)),
    "BatchNormalization": single(
        "BatchNormalization", (1, 3, 2, 2), normal(3), normal(3), normal(3), normal(3) ** 2 + 0.1, epsilon=0.01
    ),
    "BatchNormalization opset 9": single(
        "BatchNormalization", (1, 3), normal(3), normal(3), normal(3), normal(3) ** 2 + 0.1, opset=9
    ),
    # matrix products
    "MatMul": single("MatMul", (1, 4), normal(4, 3)),
    "MatMul vector": single("MatMul", (4,), normal(4, 3)),
    "MatMul by vector": single("MatMul", (2, 4), normal(4)),
    "MatMul inner product": single("MatMul", (4,), normal(4)),
    "MatMul last axis": single("MatMul", (1, 5, 4), normal(4, 3)),
    "MatMul stack": single("MatMul", (2, 5, 4), normal(2, 4, 3)),
    "MatMul stack broadcast": single("MatMul", (1, 5, 4), normal(3, 4, 2)),
    "MatMul vector by stack": single("MatMul", (4,), normal(3, 4, 2)),
    "Gemm": single("Gemm", (1, 4), normal(4, 3), normal(3)),
    "Gemm transB": single("Gemm", (1, 4), normal(3, 4), normal(1, 3), transB=1, alpha=0.5, beta=2.0),
    "Gemm transA": single("Gemm", (4, 2), normal(4, 3), normal(2, 1), transA=1),
    "Gemm without C": single("Gemm", (2, 4), normal(4, 3), opset=11),
    # convolutions
    "Conv": single("Conv", (1, 2, 7, 6), normal(3, 2, 3, 3), normal(3), pads=[1, 1, 1, 1]),
    "Conv odd pads": single("Conv", (1, 2, 7, 6), normal(3, 2, 3, 2), pads=[2, 0, 1, 1], strides=[2, 3]),
    "Conv dilated": single("Conv", (1, 1, 9, 9), normal(2, 1, 3, 2), dilations=[2, 3], strides=[1, 2]),
    "Conv groups": single("Conv", (1, 4, 5, 5), normal(6, 2, 3, 3), normal(6), group=2),
    "Conv depthwise": single("Conv", (1, 3, 5, 5), normal(3, 1, 3, 3), group=3, auto_pad="SAME_UPPER"),
    "Conv same upper": single("Conv", (1, 1, 6, 7), normal(2, 1, 4, 2), auto_pad="SAME_UPPER", strides=[2, 2]),
    "Conv same lower": single("Conv", (1, 1, 6, 7), normal(2, 1, 4, 2), auto_pad="SAME_LOWER", strides=[2, 2]),
    "Conv valid": single("Conv", (1, 1, 6, 7), normal(2, 1, 4, 2), auto_pad="VALID"),
    "Conv 1d": single("Conv", (1, 2, 11), normal(3, 2, 3), normal(3), pads=[1, 0], strides=[2], dilations=[2]),
    "Conv batch": single("Conv", (3, 2, 5, 5), normal(3, 2, 3, 3), normal(3), strides=[2, 2]),
    "Conv opset 7": single("Conv", (1, 2, 5, 5), normal(3, 2, 3, 3), kernel_shape=[3, 3], opset=7),
    "ConvTranspose": single("ConvTranspose", (1, 2, 4, 5), normal(2, 3, 3, 3), normal(3), strides=[2, 2]),
    "ConvTranspose pads": single(
        "ConvTranspose", (1, 2, 4, 5), normal(2, 3, 3, 2), strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 1]
    ),
    "ConvTranspose groups": single(
        "ConvTranspose", (1, 4, 3, 3), normal(4, 2, 2, 2), group=2, dilations=[2, 1], strides=[1, 2]
    ),
    "ConvTranspose output shape": single(
        "ConvTranspose", (1, 1, 3, 3), normal(1, 2, 3, 3), strides=[3, 2], output_shape=[8, 6]
    ),
    "ConvTranspose output shape upper": single(
        "ConvTranspose", (1, 1, 3, 3), normal(1, 2, 3, 3), strides=[3, 2], output_shape=[8, 6], auto_pad="SAME_UPPER"
    ),
    "ConvTranspose same": single(
        "ConvTranspose", (1, 1, 3, 4), normal(1, 2, 4, 3), strides=[2, 2], auto_pad="SAME_LOWER"
    ),
    "ConvTranspose same with gaps": single(
        "ConvTranspose", (1, 1, 5), normal(1, 2, 1), strides=[3], auto_pad="SAME_LOWER"
    ),
    "ConvTranspose output shape beyond": single(
        "ConvTranspose", (1, 1, 3, 3), normal(1, 2, 2, 2), strides=[3, 2], output_shape=[9, 6]
    ),
    "ConvTranspose 1d": single("ConvTranspose", (1, 2, 5), normal(2, 3, 4), strides=[2], pads=[1, 1]),
    # averages and sums
    "AveragePool": single("AveragePool", (1, 2, 6, 6), kernel_shape=[2, 3], strides=[2, 2]),
    "AveragePool pads": single("AveragePool", (1, 2, 5, 6), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "AveragePool include": single(
        "AveragePool", (1, 2, 5, 6), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 1], count_include_pad=1
    ),
    "AveragePool ceil": single("AveragePool", (1, 1, 6, 7), kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1, opset=19),
    "AveragePool ceil include": single(
        "AveragePool",
        (1, 1, 6, 6),
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        ceil_mode=1,
        count_include_pad=1,
        opset=19,
    ),
    "AveragePool same": single("AveragePool", (1, 1, 5, 5), kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
    "AveragePool 1d": single("AveragePool", (1, 2, 9), kernel_shape=[3], strides=[2], opset=7),
    "AveragePool dilated": single("AveragePool", (1, 1, 7, 7), kernel_shape=[2, 2], dilations=[2, 3], opset=19),
    "GlobalAveragePool": single("GlobalAveragePool", (1, 3, 4, 5)),
    "ReduceSum": single("ReduceSum", (1, 3, 4), ints(1)),
    "ReduceSum opset 11": single("ReduceSum", (1, 3, 4), axes=[-1, 1], keepdims=0, opset=11),
    "ReduceSum all": single("ReduceSum", (2, 3)),
    "ReduceSum none": single("ReduceSum", (2, 3), noop_with_empty_axes=1),
    "ReduceMean": single("ReduceMean", (1, 3, 4, 2), axes=[2, 3]),
    "ReduceMean opset 18": single("ReduceMean", (1, 3, 4), ints(2), keepdims=0, opset=18),
    # moves
    "Flatten": single("Flatten", (1, 2, 3)),
    "Flatten axis": single("Flatten", (2, 3, 4), axis=-1),
    "Reshape": single("Reshape", (1, 2, 6), ints(0, -1, 3)),
    "Transpose": single("Transpose", (2, 3, 4), perm=[1, 2, 0]),
    "Transpose default": single("Transpose", (2, 3, 4)),
    "Squeeze": single("Squeeze", (1, 3, 1), ints(2)),
    "Squeeze opset 11": single("Squeeze", (1, 3, 1), axes=[0, -1], opset=11),
    "Squeeze all": single("Squeeze", (1, 3, 1)),
    "Unsqueeze": single("Unsqueeze", (2, 3), ints(0, -1)),
    "Unsqueeze opset 11": single("Unsqueeze", (2, 3), axes=[1], opset=11),
    "Slice": single("Slice", (2, 5, 4), ints(1, -2), ints(100, -5), ints(1, 2), ints(2, -1)),
    "Slice opset 9": single("Slice", (2, 5), starts=[1], ends=[-1], axes=[1], opset=9),
    "Slice backwards": single("Slice", (5,), ints(-1), ints(np.iinfo(np.int64).min), ints(0), ints(-2)),
    "Split": single("Split", (1, 7), ints(3, 4), axis=1, outputs=2),
    "Split opset 11": single("Split", (1, 6), axis=1, opset=11, outputs=3),
    "Split uneven": single("Split", (1, 7), axis=1, opset=18, num_outputs=3, outputs=3),
    "Gather": single("Gather", (3, 4), ints(2, 0, -1), axis=1),
    "Gather scalar": single("Gather", (3, 4), np.array(1, np.int64)),
    "Gather matrix": single("Gather", (3, 4), np.array([[0, 1], [3, -2]], np.int64), axis=-1),
    "Pad": single("Pad", (1, 2, 3), ints(0, 1, 2, 0, 0, 1), np.array(1.5, np.float32)),
    "Pad default": single("Pad", (1, 2, 3), ints(0, 1, 2, 0, 0, 1)),
    "Pad opset 9": single("Pad", (1, 3), pads=[0, 1, 0, 2], value=-1.0, opset=9),
    "Pad crop": single("Pad", (1, 5), ints(0, -1, 0, 2)),
    "Pad edge": single("Pad", (1, 4), ints(0, 2, 0, 3), mode="edge"),
    "Pad reflect": single("Pad", (1, 4), ints(0, 2, 0, 3), mode="reflect"),
    "Pad axes": single("Pad", (1, 4, 2), ints(1, 1), None, ints(1), opset=18),
    "Expand": single("Expand", (1, 3, 1), ints(2, 1, 4)),
    "Identity": single("Identity", (1, 3)),
    "Dropout": single("Dropout", (1, 3)),
    "Dropout opset 11": single("Dropout", (1, 3), ratio=0.3, opset=11),
    "Cast": single("Cast", (1, 3), to=TensorProto.FLOAT),
    "Upsample": single("Upsample", (1, 2, 3, 2), floats(1, 1, 2, 3), opset=9),
    "Upsample opset 7": single("Upsample", (1, 2, 3, 2), scales=[1.0, 1.0, 2.0, 2.5], opset=7),
    "Resize opset 10": single("Resize", (1, 1, 5, 4), floats(1, 1, 0.6, 1.5), opset=10),
    "Resize sizes": single("Resize", (1, 1, 5, 4), None, None, ints(1, 1, 8, 3)),
    # activations and exact ReLU networks
    "Relu": single("Relu", (1, 5)),
    "LeakyRelu": single("LeakyRelu", (1, 5), alpha=0.1),
    "LeakyRelu default": single("LeakyRelu", (1, 5)),
    "LeakyRelu steep": single("LeakyRelu", (1, 5), alpha=2.5),
    "LeakyRelu negative": single("LeakyRelu", (1, 5), alpha=-0.5),
    "LeakyRelu one": single("LeakyRelu", (1, 5), alpha=1.0),
    "Sigmoid": single("Sigmoid", (1, 5)),
    "Tanh": single("Tanh", (1, 5)),
    "Abs": single("Abs", (1, 5)),
    "Clip": single("Clip", (1, 5), np.array(-0.3, np.float32), np.array(0.4, np.float32)),
    "Clip below": single("Clip", (1, 5), np.array(0.1, np.float32)),
    "Clip above": single("Clip", (1, 5), None, np.array(0.1, np.float32)),
    "Clip crossed": single("Clip", (1, 5), np.array(0.5, np.float32), np.array(0.4, np.float32)),
    "Clip infinite": single("Clip", (1, 5), np.array(-np.inf, np.float32), np.array(0.4, np.float32)),
    "Clip opset 6": single("Clip", (1, 5), min=-0.5, max=0.5, opset=7),
    "Clip opset 7 open": single("Clip", (1, 5), max=0.5, opset=7),
    "Max": single("Max", (1, 5), normal(5), normal(1, 1), opset=13),
    "Max scalar": single("Max", (1, 5), np.array(0.2, np.float32), opset=8),
    "Min": single("Min", (2, 1), normal(3), opset=13),
    "MaxPool": single("MaxPool", (1, 2, 6, 6), kernel_shape=[2, 2], strides=[2, 2]),
    "MaxPool overlapping": single("MaxPool", (1, 1, 6, 7), kernel_shape=[3, 3], strides=[2, 2]),
    "MaxPool pads": single("MaxPool", (1, 2, 5, 6), kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]),
    "MaxPool ceil": single("MaxPool", (1, 1, 6, 7), kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1),
    "MaxPool dilated": single("MaxPool", (1, 1, 7, 7), kernel_shape=[2, 3], dilations=[3, 2]),
    "MaxPool same": single("MaxPool", (1, 1, 5, 5), kernel_shape=[2, 2], auto_pad="SAME_LOWER", strides=[2, 2]),
    "MaxPool all windows cut": single("MaxPool", (1, 1, 4), kernel_shape=[3], strides=[3], pads=[1, 2]),
    "MaxPool 1d": single("MaxPool", (2, 2, 9), kernel_shape=[3], strides=[2]),
}
for how in ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners"):
    for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"):
        CASES[f"Resize {how} {rounding}"] = single(
            "Resize",
            (1, 1, 5, 4),
            None,
            floats(1, 1, 1.7, 2),
            coordinate_transformation_mode=how,
            nearest_mode=rounding,
        )


@pytest.mark.parametrize("case", CASES)
def test_operator_agrees_with_onnxruntime(case: str) -> None:
    agrees(CASES[case])


def test_every_supported_operator_has_a_case() -> None:
    alone = {case.split()[0] for case in CASES}
    assert set(SUPPORTED_OPERATORS) - alone == {"Concat", "Constant", "ConstantOfShape", "Shape"}


def test_constants_first() -> None:
    """Operators whose variable is the second argument."""
    c = normal(3, 4)
    agrees(model([node("MatMul", "c x", "y")], (4, 2), {"c": c}))
    agrees(model([node("MatMul", "c x", "y")], (4,), {"c": c}))
    agrees(model([node("MatMul", "c x", "y")], (3, 2), {"c": normal(3)}))
    agrees(model([node("MatMul", "c x", "y")], (2, 4, 2), {"c": normal(2, 3, 4)}))
    agrees(model([node("Gemm", "c x b", "y", transA=1, transB=1)], (2, 3), {"c": c, "b": normal(4, 2)}))
    agrees(model([node("Sub", "c x", "y")], (1, 4), {"c": c}))
    agrees(model([node("Mul", "c x", "y")], (1, 4), {"c": c}))
    agrees(model([node("Max", "c x", "y")], (1, 4), {"c": c}))


def test_gemm_adds_a_variable() -> None:
    agrees(model([node("Gemm", "x w x", "y", beta=0.5)], (3, 3), {"w": normal(3, 3)}))


def test_split_uses_every_part() -> None:
    parts = [node("Split", "x", "a b c", axis=1), node("Sub", "a c", "d"), node("Concat", "d b a", "y", axis=1)]
    agrees(model(parts, (1, 9, 2)))


def test_concat_mixes_constants_and_variables() -> None:
    nodes = [node("Relu", "x", "r"), node("Concat", "c r x c", "y", axis=-1)]
    graph = agrees(model(nodes, (2, 3), {"c": normal(2, 1)}))
    assert graph.output_shape == (2, 8)


def test_shape_arithmetic_of_exporters_is_folded() -> None:
    """x.view(x.size(0), -1) and an expanded, reshaped mask, the way PyTorch writes them."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "batch", axis=0),
        node("Unsqueeze", "batch first", "batch1"),
        node("Concat", "batch1 rest", "target", axis=0),
        node("Reshape", "x target", "flat"),
        node("Shape", "flat", "s2"),
        node("ConstantOfShape", "s2", "fill", value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.5])),
        node("Cast", "s2", "s3", to=TensorProto.FLOAT),
        node("Div", "s3 two", "s4"),
        node("Floor", "s4", "s5"),
        node("Cast", "s5", "half", to=TensorProto.INT64),
        node("Slice", "half one end", "width"),
        node("Slice", "flat nought width one", "front"),
        node("Constant", "", "k", value=helper.make_tensor("k", TensorProto.FLOAT, [1], [3.0])),
        node("Mul", "fill k", "fills"),
        node("Add", "flat fills", "sum"),
        node("Concat", "sum front", "y", axis=1),
    ]
    constants = {
        "zero": np.array(0, np.int64),
        "first": ints(0),
        "rest": ints(-1),
        "two": floats(2),
        "one": ints(1),
        "end": ints(2),
        "nought": ints(0),
    }
    graph = agrees(model(nodes, ("N", 2, 7), constants))
    assert graph.output_shape == (1, 21)
    assert len(graph.nodes) == 2


def test_constant_forms() -> None:
    for attributes in ({"value_float": 1.5}, {"value_floats": [1.0, 2.0, 3.0]}):
        agrees(model([node("Constant", "", "c", **attributes), node("Add", "x c", "y")], (1, 3)))
    axes = node("Constant", "", "c", value_ints=[1])
    agrees(model([axes, node("ReduceSum", "x c", "y")], (1, 3)))


def test_layers_of_constants_are_computed() -> None:
    """A weight that passes through operators of its own before it is used."""
    nodes = [
        node("Transpose", "w", "wt"),
        node("Relu", "wt", "wr"),
        node("MatMul", "wr m", "wm"),
        node("AveragePool", "image", "pooled", kernel_shape=[2, 2]),
        node("Reshape", "pooled four", "bias"),
        node("Sqrt", "wr", "root"),
        node("ReduceSum", "root one", "sums", keepdims=0),
        node("MatMul", "x wm", "h"),
        node("Add", "h bias", "g"),
        node("Mul", "g sums", "y"),
    ]
    constants = {"w": normal(4, 3), "m": normal(4, 4), "image": normal(1, 1, 3, 3), "four": ints(4), "one": ints(0)}
    agrees(model(nodes, (1, 3), constants))


def test_constant_output() -> None:
    agrees(model([node("Shape", "x", "s"), node("ConstantOfShape", "s", "y")], (1, 3)))


def test_max_of_several_variables() -> None:
    nodes = [
        node("Split", "x", "a b c d e", axis=1),
        node("Max", "a b c d e k", "top"),
        node("Min", "e a c", "low"),
        node("Concat", "top low", "y", axis=1),
    ]
    graph = agrees(model(nodes, (1, 10), {"k": floats(0.1)}))
    depth = {0: 0}
    for i, n in enumerate(graph.nodes[1:], 1):
        depth[i] = max(depth[j] for j in n.inputs) + isinstance(n, Activation)
    assert max(depth.values()) == 3  # six arguments: a balanced tree


def test_pool_shares_pairs_between_overlapping_windows() -> None:
    graph = agrees(single("MaxPool", (1, 1, 1, 9), kernel_shape=[1, 3], strides=[1, 1]))
    # 7 windows: the pairs (0,1) to (6,7) are one neuron each, and each window adds its third entry
    assert graph.neurons == 14


@pytest.mark.parametrize("seed", range(12))
def test_random_branching_networks(seed: int) -> None:
    """Layers drawn at random, with skips between tensors of one shape."""
    random = np.random.default_rng(seed)
    nodes, constants, pool = [], {}, {"x": (1, 2, 6, 6)}
    for i in range(9):
        source = list(pool)[-1] if random.random() < 0.6 else random.choice(list(pool))
        shape, out = pool[source], f"t{i}"
        match random.integers(9):
            case 0:
                constants[f"w{i}"] = normal(2, shape[1], 3, 3) / 3
                nodes.append(node("Conv", f"{source} w{i}", out, pads=[1, 1, 1, 1]))
                pool[out] = (1, 2, *shape[2:])
            case 1:
                constants |= {f"g{i}{k}": np.abs(normal(shape[1])) + 0.1 for k in range(4)}
                nodes.append(node("BatchNormalization", f"{source} g{i}0 g{i}1 g{i}2 g{i}3", out))
                pool[out] = shape
            case 2 | 3:
                nodes.append(node(random.choice(["Relu", "Abs", "LeakyRelu"]), source, out))
                pool[out] = shape
            case 4:
                nodes.append(node("MaxPool", source, out, kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1]))
                pool[out] = shape
            case 5 | 6:
                alike = [k for k, s in pool.items() if s == shape]
                nodes.append(node(random.choice(["Add", "Sub", "Max"]), f"{source} {random.choice(alike)}", out))
                pool[out] = shape
            case 7:
                nodes.append(node("Transpose", source, out, perm=[0, 1, 3, 2]))
                pool[out] = shape
            case 8:
                nodes.append(node("AveragePool", source, out, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
                pool[out] = shape
    last = list(pool)[-1]
    constants["end"] = normal(int(np.prod(pool[last])), 3)
    nodes += [node("Flatten", last, "flat"), node("MatMul", "flat end", "y")]
    agrees(model(nodes, (1, 2, 6, 6), constants), tolerance=1e-4)


def test_several_max_pools() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("MaxPool", "c", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "p v", "d", pads=[1, 1, 1, 1]),
        node("MaxPool", "d", "q", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", "q", "r"),
        node("Flatten", "r", "f"),
        node("Gemm", "f u", "y"),
    ]
    graph = agrees(model(nodes, (1, 1, 14, 14), {"w": normal(3, 1, 3, 3), "v": normal(4, 3, 3, 3), "u": normal(36, 5)}))
    assert graph.output_size == 5


def test_double_precision_models() -> None:
    graph = agrees(
        model([node("Mul", "x c", "y")], (1, 3), {"c": RANDOM_DOUBLES}, element=TensorProto.DOUBLE), tolerance=1e-14
    )
    assert torch.equal(graph.nodes[1].operators[0].factor, torch.from_numpy(RANDOM_DOUBLES))


RANDOM_DOUBLES = np.random.default_rng(3).normal(size=3)


def test_initializers_may_also_be_listed_as_inputs() -> None:
    made = model([node("Add", "x c", "y")], (1, 3), {"c": normal(3)}, opset=7)
    made.graph.input.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [3]))
    agrees(made)


def test_dead_branches_are_ignored() -> None:
    made = model([node("Sin", "x", "unused"), node("Relu", "x", "y")], (1, 3))
    agrees(made)


# --- files, sessions, PyTorch


@pytest.mark.parametrize("packed", [False, True])
def test_files_are_read_plain_or_gzipped(tmp_path: Path, packed: bool) -> None:
    data = CASES["Conv"].SerializeToString()
    path = tmp_path / ("net.onnx.gz" if packed else "net.onnx")
    path.write_bytes(gzip.compress(data) if packed else data)
    assert model_bytes(path) == data
    assert load_onnx(path).input_shape == (1, 2, 7, 6)


def test_session_refuses_a_wrong_number_of_inputs() -> None:
    session = OnnxModel(CASES["Relu"].SerializeToString())
    assert session.run(np.array([-1.0, 0, 1, 2, -3])).tolist() == [0, 0, 1, 2, 0]
    with pytest.raises(BadInput, match="takes 5 inputs, not 4"):
        session.run(np.zeros(4))
    with pytest.raises(BadInput, match="onnxruntime cannot load the network"):
        OnnxModel(b"nonsense")


class Branching(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.pool = torch.nn.MaxPool2d(2)
        self.end = torch.nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = self.pool(x) + torch.nn.functional.avg_pool2d(x, 2)
        return self.end(torch.nn.functional.dropout(x.flatten(1), training=self.training)).clamp(-1, 1)


def test_pytorch_modules_are_read() -> None:
    torch.manual_seed(0)
    module = Branching().eval()
    module.norm.running_mean.uniform_()
    graph, data = from_torch(module, torch.zeros(1, 1, 8, 8))
    x = torch.randn(5, 64)
    with torch.no_grad():
        expected = module(x.reshape(5, 1, 8, 8))
    torch.testing.assert_close(graph(x.double()).float(), expected, rtol=1e-5, atol=1e-5)
    session = OnnxModel(data)
    np.testing.assert_allclose(session.run_many(x.double().numpy()), expected.numpy(), rtol=1e-5, atol=1e-5)


def test_a_module_that_cannot_be_exported_is_refused() -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no such thing")

    with pytest.raises(
        BadInput, match=re.escape("the module cannot be run at an input of shape (1, 2): no such thing")
    ):
        from_torch(Broken(), torch.zeros(1, 2))


# --- the public networks

NOT_YET = ("cctsdb_yolo", "lsnc", "ml4acopf", "nn4sys", "vit")  # some of their operators are not supported


def test_benchmark_networks_agree(bench: Path) -> None:
    """Every network of the folder loads, is compared with onnxruntime, and is in normal form."""
    files = sorted(bench.glob("*/onnx/**/*.onnx*"))
    if not files:
        pytest.skip("the benchmark folder holds no networks")
    for file in files:
        try:
            is_normal(load_onnx(file))
        except BadInput as error:
            assert file.relative_to(bench).parts[0] in NOT_YET, error
            assert "unsupported" in str(error) or "support" in str(error)
