"""What a file becomes before it is a network, each step on its own; and the forms in which a network is fed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import random_graph
from onnx import TensorProto, helper, numpy_helper

from partita.problems.errors import BadInput
from partita.problems.input_set import polytopes_of
from partita.problems.network.affine import Chain, Diagonal, Identity, Select
from partita.problems.network.builder import Builder, Value, scaled, select
from partita.problems.network.graph import Affine
from partita.problems.onnx.call import Call
from partita.problems.onnx.exact import exactly, mark
from partita.problems.onnx.nonlinear import extremum
from partita.problems.onnx.runtime import ExposedModel, OnnxModel, static_shape
from partita.problems.properties.property import Polytope


def call(kind: str = "Gemm", *arguments, builder: Builder | None = None, **attributes) -> Call:
    builder = builder or Builder((2,))
    return Call(builder, kind, "n", 13, arguments, tuple("abcdefgh"[: len(arguments)]), attributes, 1)


# ---- building


@pytest.mark.parametrize("seed", range(12))
def test_maxima_are_those_of_their_windows(seed):
    """Windows of any width, with gaps anywhere, pairs that are shared, and entries that stand twice."""
    random = np.random.default_rng(seed)
    width, n = 1 + seed % 7, 6
    windows = random.integers(-1, n, (5, width))
    windows[np.arange(5), random.integers(0, width, 5)] = random.integers(0, n, 5)
    builder = Builder((n,))
    graph = builder.graph(builder.maximum(builder.input, windows, (5,)))
    x = random.normal(size=(50, n))
    expected = np.where(windows < 0, -np.inf, x[:, windows]).max(2)
    np.testing.assert_allclose(graph(torch.from_numpy(x)).numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["Max", "Min"])
@pytest.mark.parametrize("count", range(1, 6))
@pytest.mark.parametrize("known", [False, True])
def test_extrema_of_any_number_of_tensors(kind, count, known):
    """Also of an odd number, and beside constants."""
    random = np.random.default_rng(count)
    builder = Builder((2 * count,))
    parts = [builder.select(builder.input, np.array([2 * k, 2 * k + 1])) for k in range(count)]
    constants = [random.normal(size=2) for _ in range(2)] if known else []
    graph = builder.graph(extremum(call(kind, *constants, *parts, builder=builder)))
    x = random.normal(size=(60, 2 * count))
    every = [x[:, 2 * k : 2 * k + 2] for k in range(count)] + [np.broadcast_to(c, (60, 2)) for c in constants]
    expected = (np.max if kind == "Max" else np.min)(every, axis=0)
    np.testing.assert_allclose(graph(torch.from_numpy(x)).numpy(), expected, rtol=0, atol=1e-12)


def test_windows_without_entries_are_refused():
    builder = Builder((3,))
    with pytest.raises(ValueError, match="padding only"):
        builder.maximum(builder.input, np.array([[0, 1], [-1, -1]]), (2,))


def test_only_a_map_that_moves_nothing_is_the_identity():
    assert isinstance(select(np.arange(3), 3), Identity)
    x = torch.tensor([5.0, 6.0, 7.0], dtype=torch.float64)
    for index, expected in (([0, 2, 1], [5, 7, 6]), ([0, 1], [5, 6]), ([0, 1, 1], [5, 6, 6]), ([0, -1, 2], [5, 0, 7])):
        operator = select(np.array(index), 3)
        assert isinstance(operator, Select) and operator.apply(x).tolist() == expected


def test_factors_say_by_how_many_roundings_they_are_off():
    assert scaled(Identity(2), [2.0, -3.0]).scale is None
    found = scaled(Identity(2), [2.0, -3.0], 3)
    assert isinstance(found, Diagonal) and found.scale.tolist() == [6.0, 9.0]
    after = scaled(select(np.array([1, 0]), 2), 0.5, 2)
    assert isinstance(after, Chain) and after.parts[1].scale.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_weights_that_are_no_numbers_are_refused_by_name(value):
    with pytest.raises(BadInput, match=f"tensor 'b' of Gemm .* contains {'NaN' if np.isnan(value) else 'infinity'}"):
        call("Gemm", None, np.array([1.0, value])).weights(1)


def test_what_must_be_constant_may_not_depend_on_the_input():
    with pytest.raises(BadInput, match=r"has weights \('b'\) that depend on the network's input"):
        call("Conv", np.ones(2), Value(0, (2,))).constant(1, "weights")
    with pytest.raises(BadInput, match=r"has a constant as its input 0 \('a'\)"):
        call("Conv", np.ones(2)).variable(0)


def test_which_operators_hold_the_files_numbers():
    for slope, exact in ((0.5, True), (0.25, True), (3.0, True), (0.1, False), (1e-20, False)):
        assert exactly(call("LeakyRelu", alpha=slope)) is exact
    for alpha, beta, exact in ((1.0, 1.0, True), (1.0, 0.0, True), (1.0, 0.5, False), (0.1, 1.0, False)):
        assert exactly(call("Gemm", alpha=alpha, beta=beta)) is exact
    assert exactly(call("Gemm")) and exactly(call("Conv")) and not exactly(call("BatchNormalization"))


def test_nodes_of_a_rounding_operator_are_marked_from_the_first_on():
    builder = Builder((2,))
    first = builder.affine([(Identity(2), builder.input)], (2,))
    second = builder.affine([(Identity(2), builder.relu(first))], (2,))
    builder.affine([(Identity(2), second)], (2,))
    mark(builder, second.node)
    assert [node.rounded for node in builder.nodes if isinstance(node, Affine)] == [False, True, True]


# ---- feeding


def test_input_sets_are_told_apart_by_everything_they_say():
    graph, normals = random_graph(0, "mlp", inputs=2, width=3, depth=1), np.array([[1.0, 1.0]])
    box = np.zeros(2), np.ones(2)
    parts = [Polytope(*box), Polytope(*box, normals, np.array([1.0])), Polytope(*box, normals, np.array([0.5]))]
    assert polytopes_of(graph, [*parts, *parts]) == parts
    for lower, upper in ((np.zeros(2), np.ones(3)), (np.zeros(3), np.ones(2)), (np.zeros(3), np.ones(3))):
        with pytest.raises(BadInput, match="the network has 2 inputs"):
            polytopes_of(graph, (lower, upper))


def test_only_the_first_dimension_may_be_open():
    assert static_shape([None, 3], "x") == static_shape(["batch", 3], "x") == static_shape([0, 3], "x") == (1, 3)
    assert static_shape([2, 3], "x") == (2, 3)
    for shape in ([1, None], ["n", "m"], [1, -1, 2]):
        with pytest.raises(BadInput, match="dimension 1 of the network input 'x' is dynamic"):
            static_shape(shape, "x")


def tripled(element: int) -> bytes:
    """3 x of two numbers, in the element's precision."""
    kind = helper.tensor_dtype_to_np_dtype(element)
    ends = [helper.make_tensor_value_info(name, element, [1, 2]) for name in ("x", "y")]
    nodes = [helper.make_node("Mul", ["x", "c"], ["t"]), helper.make_node("Identity", ["t"], ["y"])]
    constants = [numpy_helper.from_array(np.array([3.0], dtype=kind), "c")]
    made = helper.make_model(
        helper.make_graph(nodes, "tripled", ends[:1], ends[1:], constants),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    return made.SerializeToString()


@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_a_model_is_run_in_its_own_precision(element):
    kind, x = helper.tensor_dtype_to_np_dtype(element), np.array([0.1, 1 / 3])
    expected = (x.astype(kind) * kind.type(3)).astype(np.float64)
    model = OnnxModel(tripled(element))
    assert model.dtype == kind
    np.testing.assert_array_equal(model.run(x), expected)
    within = ExposedModel(tripled(element), ["t", "y"], "y").run(x)
    assert within["x"].dtype == within["t"].dtype == kind
    np.testing.assert_array_equal(within["t"][0], expected)
    for size in (1, 3):
        with pytest.raises(BadInput, match=f"the network takes 2 inputs, not {size}"):
            model.run(np.zeros(size))
