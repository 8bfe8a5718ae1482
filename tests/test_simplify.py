"""The normal form: one affine node a layer, nothing folded that rounding would change unseen."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from onnx import TensorProto
from onnx_models import agrees, floats, ints, model, node, normal, single

from partita.problems.network.affine import Chain, Conv, Dense, Select
from partita.problems.network.graph import Affine
from partita.problems.onnx.file import read_onnx


def mlp(*sizes: int) -> tuple[list, dict[str, np.ndarray]]:
    nodes, constants, last = [], {}, "x"
    for i, (m, n) in enumerate(pairwise(sizes)):
        constants |= {f"w{i}": normal(m, n), f"b{i}": normal(n)}
        nodes += [node("MatMul", f"{last} w{i}", f"m{i}"), node("Add", f"m{i} b{i}", f"a{i}")]
        last = f"a{i}"
        if i < len(sizes) - 2:
            nodes.append(node("Relu", last, f"r{i}"))
            last = f"r{i}"
    nodes.append(node("Identity", last, "y"))
    return nodes, constants


def test_a_network_becomes_one_affine_node_a_layer() -> None:
    nodes, constants = mlp(5, 7, 6, 3)
    scale = [node("Sub", "x mean", "c"), node("Mul", "c factor", "n"), node("Flatten", "n", "f")]
    nodes = [*scale, node("MatMul", "f w0", "m0"), *nodes[1:]]
    graph = agrees(model(nodes, (1, 1, 5), {**constants, "mean": normal(5), "factor": normal(5)}))
    kinds = [type(n).__name__ for n in graph.nodes]
    assert kinds == ["Input", "Affine", "Activation", "Affine", "Activation", "Affine"]
    assert all(isinstance(o, Dense) for n in graph.nodes if isinstance(n, Affine) for o in n.operators)
    assert tuple(graph.layer_at) == (2, 4) and graph.neurons == 13


def test_batch_normalization_folds_into_the_convolution() -> None:
    nodes = [
        node("BatchNormalization", "x g0 b0 m0 v0", "n"),
        node("Conv", "n w bias", "c", pads=[1, 1, 1, 1], group=2),
        node("BatchNormalization", "c g b m v", "d"),
        node("Mul", "d k", "e"),
        node("Relu", "e", "r"),
        node("AveragePool", "r", "y", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    constants = {"w": normal(6, 2, 3, 3), "bias": normal(6), "k": floats(0.7)}
    constants |= {"g": normal(6), "b": normal(6), "m": normal(6), "v": normal(6) ** 2 + 0.1}
    constants |= {"g0": normal(4), "b0": normal(4), "m0": normal(4), "v0": normal(4) ** 2 + 0.1}
    graph = agrees(model(nodes, (1, 4, 16, 16), constants))
    assert [type(n).__name__ for n in graph.nodes] == ["Input", "Affine", "Activation", "Affine"]
    (operator,) = graph.nodes[1].operators
    assert isinstance(operator, Conv) and operator.scale is not None


def test_padding_folds_into_the_convolution() -> None:
    nodes = [node("Pad", "x p", "q"), node("Conv", "q w", "y", strides=[2, 2])]
    constants = {"p": ints(0, 0, 1, 0, 0, 0, 2, 1), "w": normal(4, 3, 3, 3)}
    graph = agrees(model(nodes, (1, 3, 20, 20), constants))
    (operator,) = graph.nodes[1].operators
    assert isinstance(operator, Conv) and operator.padding == ((1, 2), (0, 1))


def test_two_averages_stay_two_nodes_or_become_a_matrix() -> None:
    """Two summing operators never share a chain: |A| |B| is not |A B|."""
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("AveragePool", "c", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("AveragePool", "p", "y", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    graph = agrees(model(nodes, (1, 3, 16, 16), {"w": normal(8, 3, 3, 3)}))
    for n in graph.nodes[1:]:
        for operator in n.operators:
            assert not isinstance(operator, Chain)
            exact = operator.apply(torch.eye(operator.n_in, dtype=torch.float64)[::97]).abs()
            size = operator.absolute().apply(torch.eye(operator.n_in, dtype=torch.float64)[::97])
            torch.testing.assert_close(exact, size)


def test_linear_layers_merge_when_that_is_cheaper() -> None:
    w = {"a": normal(40, 300), "b": normal(300, 50), "c": normal(50, 2), "d": normal(2, 400)}
    wide = agrees(model([node("MatMul", "x a", "h"), node("MatMul", "h b", "y")], (1, 40), w))
    assert len(wide.nodes) == 2
    thin = agrees(model([node("MatMul", "x u", "h"), node("MatMul", "h d", "y")], (1, 400), {**w, "u": normal(400, 2)}))
    assert len(thin.nodes) == 3  # 400 x 2 and 2 x 400 are cheaper than 400 x 400


def test_large_cancelling_biases_are_not_folded() -> None:
    """(x + 1e20) + 1 - 1e20: folding the biases in float64 would lose the 1; kept apart, the numbers can be seen."""
    nodes = [node("Add", "x big", "a"), node("Add", "a one", "b"), node("Sub", "b big", "y")]
    constants = {"big": np.full(2, 1e20), "one": np.full(2, 1.0)}
    made = model(nodes, (1, 2), constants, element=TensorProto.DOUBLE)
    graph = read_onnx(made.SerializeToString(), check=False)
    largest = max(float(n.bias.abs().max()) for n in graph.nodes[1:])
    assert largest >= 1e19


def test_doubling_skips_do_not_double_the_terms() -> None:
    """x + x^T, twelve times over: written out, 4096 terms."""
    nodes, last = [node("Relu", "x", "t0")], "t0"
    for i in range(12):
        nodes += [node("Slice", f"{last} s e a k", f"r{i}"), node("Add", f"{last} r{i}", f"u{i}")]
        nodes += [node("Mul", f"u{i} half", f"t{i + 1}")]
        last = f"t{i + 1}"
    nodes.append(node("Identity", last, "y"))
    constants = {"s": ints(-1), "e": ints(-99999), "a": ints(1), "k": ints(-1), "half": normal(700)}
    graph = agrees(model(nodes, (1, 700), constants))
    assert max(len(n.operators) for n in graph.nodes if isinstance(n, Affine)) <= 48


def test_select_survives_where_nothing_absorbs_it() -> None:
    graph = agrees(single("Transpose", (2, 3), perm=[1, 0]))
    assert isinstance(graph.nodes[1].operators[0], Select)
