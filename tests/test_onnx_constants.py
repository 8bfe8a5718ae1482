"""What files compute from constants and shapes, one form at a time: against onnxruntime, in the file's own types."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import agrees, floats, ints, model, node, single

from partita.problems.errors import BadInput
from partita.problems.network.builder import Builder
from partita.problems.onnx.call import Call
from partita.problems.onnx.constant import folded_size
from partita.problems.onnx.file import read_onnx
from partita.problems.onnx.importing import refolded

ADDED = [node("Cast", "c", "f", to=TensorProto.FLOAT), node("Add", "x f", "y")]


def test_shapes_are_cut_where_they_say():
    for start, end, first in ((0, 1, 2), (1, 2, 3), (-2, -1, 3), (1, None, 3)):
        ends = {} if end is None else {"end": end}
        made = [node("Shape", "x", "s", start=start, **ends), node("Slice", "s zero one", "c"), *ADDED]
        graph = agrees(model(made, (2, 3, 4), {"zero": ints(0), "one": ints(1)}, opset=15))
        assert graph.nodes[-1].bias[0] == first
    whole = [node("Shape", "x", "s", start=1, end=2), node("Cast", "s", "f", to=TensorProto.FLOAT)]
    agrees(model([*whole, node("Add", "x f", "y")], (1, 3, 4), opset=15))


def test_whole_numbers_are_divided_towards_zero():
    for a, b in ((-7, 2), (7, -2), (7, 2), (-8, 2)):
        agrees(model([node("Div", "a b", "c"), *ADDED], (1, 2), {"a": ints(a), "b": ints(b)}))
        assert read_onnx(
            model([node("Div", "a b", "c"), *ADDED], (1, 1), {"a": ints(a), "b": ints(b)}).SerializeToString()
        ).nodes[-1].bias.item() == int(a / b)


def test_casts_of_constants_cut_off_what_is_behind_the_point():
    made = [node("Cast", "a", "c", to=TensorProto.INT64), *ADDED]
    assert agrees(model(made, (1, 3), {"a": floats(2.7, -2.7, 0.5)})).nodes[-1].bias.tolist() == [2, -2, 0]


def test_sums_of_constants_without_axes_are_sums_of_all_or_of_none():
    for kind in ("ReduceSum", "ReduceMean", "ReduceMax"):
        opset = 13 if kind == "ReduceSum" else 18
        for noop in (0, 1):
            made = [node(kind, "a e", "s", noop_with_empty_axes=noop), node("Add", "x s", "y")]
            agrees(model(made, (2, 3), {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "e": ints()}, opset))


def test_axes_of_sums_of_constants_are_kept_unless_they_are_not():
    """Rows' sums stand in a column, or in a row."""
    a = np.arange(9, dtype=np.float32).reshape(3, 3)
    for kept in ({}, {"keepdims": 1}, {"keepdims": 0}):
        agrees(model([node("ReduceSum", "a e", "s", **kept), node("Add", "x s", "y")], (3, 3), {"a": a, "e": ints(1)}))


def test_functions_of_constants_are_what_their_names_say():
    given = {"a": floats(0.2, -0.2, 0.5), "b": floats(1, -1, 0), "c": floats(-3, 3, -0.5)}
    for made in (node("Ceil", "a", "f"), node("Floor", "a", "f"), node("Min", "a b c", "f"), node("Max", "a b c", "f")):
        agrees(model([made, node("Add", "x f", "y")], (1, 3), given))
    graph = agrees(model([node("ConstantOfShape", "s", "f"), node("Add", "x f", "y")], (1, 3), {"s": ints(3)}))
    assert not graph.nodes[-1].bias.any()


def test_constants_in_a_node_have_the_precision_of_float32():
    """0.1 times 3 is rounded once more, as in onnxruntime."""
    for attribute in ({"value_float": 0.1}, {"value_floats": [0.1, 0.7]}):
        made = [node("Constant", "", "k", **attribute), node("Mul", "k three", "f"), node("Add", "x f", "y")]
        bias = agrees(model(made, (1, 2), {"three": floats(3)})).nodes[-1].bias.numpy()
        exact = np.float32(np.atleast_1d(next(iter(attribute.values())))) * np.float32(3)
        assert (bias == exact).all()


def test_variables_are_not_turned_into_other_types():
    for kind in (TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL):
        made = [node("Cast", "x", "h", to=kind), node("Cast", "h", "y", to=TensorProto.FLOAT)]
        with pytest.raises(BadInput, match="only float32 and float64 are supported"):
            read_onnx(model(made, (1, 2)).SerializeToString())


def test_what_cancels_in_a_folded_sum_counts_with_its_size():
    one, two = np.array([[3.0, -3.0]]), np.array([[1.0], [1.0]])
    for kind, arguments, most in (
        ("MatMul", (one, two), 6),
        ("ReduceSum", (one, None), 6),
        ("ReduceMean", (one, None), 3),
    ):
        call = Call(Builder((1,)), kind, "n", 13, arguments, ("a", "b"), {}, 1)
        size, terms = folded_size(call, arguments, np.zeros((1, 1)))
        assert size == most and terms >= 2


def test_nothing_may_be_reshaped_into_nothing():
    made = [node("Reshape", "e s", "r", allowzero=1), node("Concat", "r x", "y", axis=0)]
    agrees(model(made, (1, 3), {"e": np.zeros((2, 0), np.float32), "s": ints(0, 3)}, opset=14))


def test_dropout_is_read_where_it_does_nothing():
    agrees(single("Dropout", (1, 3), floats(0.5)[0], np.array(False)))
    with pytest.raises(BadInput, match="training mode"):
        read_onnx(single("Dropout", (1, 3), floats(0.5)[0], np.array(True)).SerializeToString())


def test_a_layer_of_constants_keeps_their_precision():
    made = [node("Relu", "c", "f"), node("Add", "x f", "y")]
    graph = read_onnx(model(made, (1, 1), {"c": np.array([0.1])}, element=TensorProto.DOUBLE).SerializeToString())
    assert graph.nodes[-1].bias.item() == 0.1 and graph.element_type == "float64"


def test_a_large_entry_excuses_nothing_in_the_entry_beside_it():
    arguments = (floats(1e9, 1), floats(1, 1))
    ((y, off),) = refolded(Call(Builder((1,)), "Add", "n", 13, arguments, ("a", "b"), {}, 1), arguments)
    assert y[1] == 2 and 0 < off[1] < 1e-5 and off[0] > 32


def test_versions_of_other_domains_say_nothing_about_operators():
    made = model([node("Relu", "x", "y")], (1, 2), opset=6)
    made.opset_import.append(helper.make_opsetid("com.example", 13))
    with pytest.raises(BadInput, match="opset 6"):
        read_onnx(made.SerializeToString())
