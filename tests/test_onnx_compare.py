"""The comparison of an import with onnxruntime: what it notices, what it lets through, and where it looks."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_models import floats, ints, model, node, normal, single
from test_onnx import CASES

from partita.bab import api
from partita.bab.commands.main import run
from partita.problems.errors import BadInput
from partita.problems.load import load_problem
from partita.problems.network.affine import Identity
from partita.problems.network.apriori import Judged
from partita.problems.network.builder import Value
from partita.problems.network.graph import Affine, Graph
from partita.problems.onnx import compare as onnx_compare
from partita.problems.onnx import importing as onnx_import
from partita.problems.onnx.compare import MOST, compare
from partita.problems.onnx.file import read_onnx
from partita.problems.onnx.importing import Reading
from partita.problems.onnx.points import box_of, general_points, property_points
from partita.problems.property import Case, Polytope, Property, UnsafeSet, box_property

DIFFERS = "gives another result in onnxruntime"


def masked(made: ModelProto) -> ModelProto:
    """The model with 1e8 concatenated to its output."""
    graph = ModelProto.FromString(made.SerializeToString()).graph
    shape = read_onnx(made.SerializeToString(), check=False).output_shape
    if not shape:
        return made  # a scalar, which nothing can stand beside
    large = numpy_helper.from_array(np.full((*shape[:-1], 1), 1e8, np.float32), "large")
    nodes = [*graph.node, helper.make_node("Concat", [graph.output[0].name, "large"], ["masked"], axis=len(shape) - 1)]
    output = helper.make_tensor_value_info("masked", TensorProto.FLOAT, None)
    again = helper.make_graph(nodes, "masked", graph.input, [output], [*graph.initializer, large])
    made = helper.make_model(again, opset_imports=list(made.opset_import))
    made.ir_version = 8
    return made


def off_by(amount: float) -> Callable:
    """An importer that is wrong by `amount` in the last entry of its result."""

    def wrapped(right: Callable) -> Callable:
        def wrong(call):
            result = right(call)
            first = result[0] if isinstance(result, list) else result
            if not isinstance(first, Value):
                return result
            shift = np.zeros(first.shape)
            shift.reshape(-1)[-1] = amount
            shifted = call.builder.affine([(Identity(first.size), first)], first.shape, shift, call.name)
            return [shifted, *result[1:]] if isinstance(result, list) else shifted

        return wrong

    return wrapped


@pytest.mark.parametrize("name", CASES)
def test_a_small_error_beside_a_large_output_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each operator wrong by 1e-3 in one entry, beside an output of 1e8; the right importer passes."""
    made = masked(CASES[name])
    read_onnx(made.SerializeToString())
    kind = CASES[name].graph.node[0].op_type
    right = onnx_import.OPERATORS[kind]
    monkeypatch.setitem(onnx_import.OPERATORS, kind, off_by(1e-3)(right))
    with pytest.raises(BadInput, match=DIFFERS):
        read_onnx(made.SerializeToString())


def test_an_error_behind_another_layer_is_named_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of three layers is misread; what is large before and after it does not matter."""
    nodes = [node("MatMul", "x w", "a"), node("LeakyRelu", "a", "b", alpha=0.5), node("MatMul", "b v", "y")]
    made = model(nodes, (1, 3), {"w": normal(3, 4) * 1e4, "v": normal(4, 2) * 1e4})
    right = onnx_import.OPERATORS["LeakyRelu"]
    monkeypatch.setitem(onnx_import.OPERATORS, "LeakyRelu", off_by(0.1)(right))
    with pytest.raises(BadInput) as caught:
        read_onnx(made.SerializeToString(), "net.onnx")
    text = str(caught.value)
    assert text.startswith("LeakyRelu (node 'LeakyRelu_b') gives another result in onnxruntime than as net.onnx was")
    assert "entry (0, 3) of 'b' is " in text


def test_every_case_and_every_scale_is_let_through() -> None:
    """No right import is refused, whatever the size of its weights."""
    source = np.random.default_rng(1)
    for name, made in CASES.items():
        copy = ModelProto.FromString(made.SerializeToString())
        if name.startswith(("BatchNorm", "Resize", "Upsample")):
            continue  # where weights are no factors
        for tensor in copy.graph.initializer:
            value = numpy_helper.to_array(tensor)
            if value.dtype == np.float32:
                scale = np.float32(10.0 ** source.integers(-12, 12))
                tensor.CopyFrom(numpy_helper.from_array(value * scale, tensor.name))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_onnx(copy.SerializeToString())


@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_long_cancelling_sums_are_let_through_and_no_more(element: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 terms that cancel: float32 errs by far more than relative to the sum, and the bound knows it."""
    dtype = helper.tensor_dtype_to_np_dtype(element)
    source = np.random.default_rng(0)
    weight = (source.normal(size=(2000, 3)) * 1e3).astype(dtype)
    weight[1000:] = -weight[:1000]
    made = model([node("MatMul", "x w", "y")], (1, 2000), {"w": weight}, element=element)
    read_onnx(made.SerializeToString())
    share = 1e-2 if element == TensorProto.FLOAT else 1e-10  # gamma_2000 |A| |x| is 1.2e-4 * 2e6, and 2e-13 of that
    right = onnx_import.OPERATORS["MatMul"]
    monkeypatch.setitem(onnx_import.OPERATORS, "MatMul", off_by(1e5 * share)(right))
    with pytest.raises(BadInput, match=DIFFERS):
        read_onnx(made.SerializeToString())


# --- constants


def test_constants_that_the_file_computes_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node("Mul", "a b", "c"), node("Add", "x c", "y")]
    made = model(nodes, (1, 3), {"a": normal(3), "b": normal(3)})
    read_onnx(made.SerializeToString())
    right = onnx_import.FOLDED_OPERATORS["Mul"]
    monkeypatch.setitem(onnx_import.FOLDED_OPERATORS, "Mul", lambda call: right(call) * np.float32(1 + 1e-5))
    with pytest.raises(
        BadInput, match=r"Mul \(node 'Mul_c'\) gives another result .* entry \(0,\) of the constant 'c'"
    ):
        read_onnx(made.SerializeToString())


def test_a_node_of_constants_without_a_function_of_its_own_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node("Conv", "c w", "k"), node("Add", "x k", "y")]
    made = model(nodes, (1, 1, 2), {"c": normal(1, 1, 3), "w": normal(1, 1, 2)})
    read_onnx(made.SerializeToString())
    evaluated = onnx_import.evaluated

    def wrong(call):
        result = evaluated(call)
        return result + np.float32(1e-4) if call.kind == "Conv" else result

    monkeypatch.setattr(onnx_import, "evaluated", wrong)
    with pytest.raises(BadInput, match=DIFFERS):
        read_onnx(made.SerializeToString())


def test_a_shape_that_the_file_asks_for_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node("Shape", "x", "s"), node("Reshape", "x s", "y")]
    made = model(nodes, (1, 4))
    read_onnx(made.SerializeToString())
    monkeypatch.setitem(onnx_import.OPERATORS, "Shape", lambda call: ints(4, 1))
    with pytest.raises(BadInput, match=r"Shape \(node 'Shape_s'\) gives another result"):
        read_onnx(made.SerializeToString())


# --- points


def hidden(past: float) -> Callable:
    """An importer of Relu that is wrong where the input exceeds `past`."""

    def wrong(call):
        x = call.variable(0)
        y = call.builder.relu(x, call.name)
        more = call.builder.affine([(Identity(x.size), x)], x.shape, -past, call.name)
        terms = [(Identity(x.size), y), (Identity(x.size), call.builder.relu(more, call.name))]
        return call.builder.affine(terms, x.shape, name=call.name)

    return wrong


def test_the_property_decides_where_the_network_is_compared(tmp_path, monkeypatch, capsys) -> None:
    """A misreading that only large inputs show is noticed by a property that is about large inputs."""
    path, prop = tmp_path / "net.onnx", tmp_path / "prop.vnnlib"
    path.write_bytes(single("Relu", (1, 2)).SerializeToString())
    monkeypatch.setitem(onnx_import.OPERATORS, "Relu", hidden(5000.0))
    read_onnx(path.read_bytes())
    small = box_property([0, 0], [4000, 4000], [[1, 0]], [1])
    load_problem(path, small)
    large = box_property([0, 6000], [4000, 7000], [[1, 0]], [1])
    with pytest.raises(BadInput, match=DIFFERS):
        load_problem(path, large)
    with pytest.raises(BadInput, match=DIFFERS):
        api.verify(path, large)
    declared = "".join(f"(declare-const {v}_{i} Real)" for v in "XY" for i in range(2))
    bounds = "(assert (>= X_0 0))(assert (<= X_0 1))(assert (>= X_1 6000))(assert (<= X_1 7000))(assert (<= Y_0 -1))"
    prop.write_text(declared + bounds, encoding="utf-8")
    assert run(["verify", str(path), str(prop)]) == 2
    said = capsys.readouterr()
    assert DIFFERS in said.err and not said.out.strip().startswith(("sat", "unsat"))
    assert run(["bound", str(path), str(prop)]) == 2


def test_a_violated_case_among_many_is_looked_at_in_its_own_box() -> None:
    cases = tuple(
        Case(Polytope(np.array([float(i)]), np.array([i + 0.5])), (UnsafeSet(np.ones((1, 1)), np.ones(1)),))
        for i in range(0, 1000, 10)
    )
    prop = Property(cases, 1, 1)
    points = property_points(prop)
    box = box_of(prop)
    assert box is not None and box[0] == 0 and box[1] == 990.5
    assert points.shape == (10, 1) and len(points) + len(general_points(1)) == MOST
    assert {0.0, 990.5, 495.25} <= set(points[:, 0])
    inside = [any(c.inputs.contains(p) for c in cases) for p in points]
    assert sum(inside) >= 9  # all but the centre of the hull
    assert 0 < points[0, 0] % 10 < 0.5  # the first is inside, and no corner


def test_points_of_a_box_lie_in_it() -> None:
    source = np.random.default_rng(0)
    for _ in range(20):
        lower = source.normal(size=5) * 10.0 ** source.integers(-20, 20)
        upper = lower + np.abs(source.normal(size=5)) * source.integers(0, 2, 5)
        points = property_points(box_property(lower, upper, np.ones((1, 1)), [0]))
        slack = 1e-15 * np.abs(points)
        assert (points >= lower - slack).all() and (points <= upper + slack).all()
    assert box_of(Property((), 1, 1)) is None and len(property_points(Property((), 3, 1))) == 0


def test_points_that_overflow_say_nothing_and_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """x * 1e36 overflows for |x| > 340, which general points are; the small ones still see a wrong operator."""
    made = single("Mul", (1, 2), floats(1e36))
    read_onnx(made.SerializeToString())
    right = onnx_import.OPERATORS["Mul"]
    monkeypatch.setitem(onnx_import.OPERATORS, "Mul", off_by(1e33)(right))
    with pytest.raises(BadInput, match=DIFFERS):
        read_onnx(made.SerializeToString())


def test_infinity_where_nothing_overflows_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime divides by 0 where the import has been told 1."""
    made = single("Div", (1, 2), floats(0, 2))
    monkeypatch.setitem(onnx_import.OPERATORS, "Div", lambda call: call.variable(0))
    with pytest.raises(BadInput, match=DIFFERS):
        read_onnx(made.SerializeToString())


def test_no_point_begins_after_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Reading(single("Relu", (1, 2)).SerializeToString())
    assert compare(reading, general_points(2), 0.0).points == 1
    assert compare(reading, np.zeros((50, 2)), 60.0).points == MOST
    clock = iter(np.arange(0, 1000, 1.0))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(onnx_compare, "CHUNK", 1)
    assert compare(reading, general_points(2), 3.5).points == 4


# --- the network as a whole


def test_where_memory_is_short_the_output_is_compared(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(onnx_compare, "ROOM", 8)
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "b"), node("MatMul", "b v", "y")]
    made = model(nodes, (1, 3), {"w": normal(3, 4), "v": normal(4, 2)})
    path = tmp_path / "net.onnx"
    path.write_bytes(made.SerializeToString())
    outcome = api.verify(path, box_property([0] * 3, [1] * 3, [[1, 0]], [1e6]))
    assert "as a whole, for lack of memory" in outcome.stats["note import"]
    right = onnx_import.OPERATORS["Relu"]
    monkeypatch.setitem(onnx_import.OPERATORS, "Relu", off_by(1e-3)(right))
    with pytest.raises(BadInput, match="gives other outputs in onnxruntime than as imported: output"):
        read_onnx(made.SerializeToString())


def test_the_summed_bound_holds_and_is_no_wider_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten layers: no right import is refused as a whole."""
    monkeypatch.setattr(onnx_compare, "ROOM", 8)
    for name, made in CASES.items():
        if not name.startswith(("Cast", "Shape")):
            read_onnx(made.SerializeToString())
    nodes, constants = [], {}
    for i in range(10):
        nodes += [node("MatMul", f"t{i} w{i}", f"m{i}"), node("Relu", f"m{i}", f"t{i + 1}")]
        constants[f"w{i}"] = normal(8, 8)
    nodes = [node("Identity", "x", "t0"), *nodes, node("Identity", "t10", "y")]
    read_onnx(model(nodes, (1, 8), constants).SerializeToString())


def test_the_report_says_what_was_compared(tmp_path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(single("Relu", (1, 2)).SerializeToString())
    outcome = api.verify(path, box_property([0, 0], [1, 1], [[1, 0]], [1]))
    said = outcome.stats["note import"]
    assert said == "the import agrees with onnxruntime at 16 points, each of 1 operators by itself"
    graph = read_onnx(path.read_bytes())
    assert "note import" not in api.verify(graph, box_property([0, 0], [1, 1], [[1, 0]], [1])).stats


# --- simplification


def deep() -> Reading:
    nodes = [node("MatMul", "x w", "a"), node("Add", "a b", "c"), node("Relu", "c", "d"), node("Mul", "d k", "e")]
    nodes += [node("MatMul", "e v", "f"), node("Concat", "f big", "y", axis=1)]
    constants = {"w": normal(3, 4), "b": normal(4), "k": normal(4), "v": normal(4, 2), "big": floats(1e8).reshape(1, 1)}
    return Reading(model(nodes, (1, 3), constants).SerializeToString())


@pytest.mark.parametrize("at", [1, 3])
def test_a_simplification_that_changes_the_network_is_an_internal_error(at: int) -> None:
    reading = deep()
    compare(reading, general_points(3))
    nodes = list(reading.graph.nodes)
    changed = nodes[at]
    assert isinstance(changed, Affine)
    bias = changed.bias.clone()
    bias[0] += 1e-9 * (1 + abs(bias[0]))
    nodes[at] = Affine(changed.inputs, changed.operators, bias, changed.name)
    reading.graph = Graph(tuple(nodes), reading.graph.input_shape, reading.graph.output_shape)
    with pytest.raises(AssertionError, match=f"simplification changed the network the model at node {at}"):
        compare(reading, general_points(3))


def test_each_node_of_the_normal_form_has_the_value_of_the_node_it_was() -> None:
    source = torch.Generator().manual_seed(0)
    for made in CASES.values():
        reading = Reading(made.SerializeToString())
        x = torch.randn(4, reading.graph.input_size, generator=source, dtype=torch.float64)
        before, after = reading.imported.graph.values(x), reading.graph.values(x)
        assert len(reading.same) == len(after)
        for value, old in zip(after, reading.same, strict=True):
            torch.testing.assert_close(value, before[old], rtol=1e-12, atol=1e-12)


def test_every_operator_on_variables_has_been_planted() -> None:
    kinds = {made.graph.node[0].op_type for made in CASES.values()}
    assert set(onnx_import.OPERATORS) - kinds == {"Concat", "Constant", "ConstantOfShape", "Shape"}  # below, and above


def test_concat_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model([node("Concat", "x c x", "y", axis=1)], (1, 2), {"c": floats(1e8).reshape(1, 1)})
    read_onnx(made.SerializeToString())
    right = onnx_import.OPERATORS["Concat"]
    monkeypatch.setitem(onnx_import.OPERATORS, "Concat", off_by(1e-3)(right))
    with pytest.raises(BadInput, match=DIFFERS):
        read_onnx(made.SerializeToString())


# --- single terms


def judge_of(made: ModelProto) -> tuple:
    """The judge of a model's operators, and the call of its last one."""
    reading = Reading(made.SerializeToString())
    return onnx_compare._Operators(reading.imported, "net.onnx", "x"), reading.imported.steps[-1].call


def test_each_entry_has_its_own_bound_and_nothing_excuses_what_is_no_number() -> None:
    judge, call = judge_of(single("Relu", (1, 2)))
    column = lambda *values: torch.tensor([values], dtype=torch.float64)  # noqa: E731
    ours = Judged(column(1.0, 1e9), column(1e-6, 1e3), column(1.0, 1e9))
    calm, overflow = torch.tensor([False]), torch.tensor([True])
    judge._near(call, "y", ours, column(1.0, 1e9 + 500), calm, (1, 2))
    judge._near(call, "y", ours, column(np.inf, np.nan), overflow, (1, 2))
    for theirs in (column(1.01, 1e9), column(np.nan, 1e9), column(np.inf, 1e9), column(1.0, -np.inf)):
        with pytest.raises(BadInput, match=DIFFERS):
            judge._near(call, "y", ours, theirs, calm, (1, 2))
    with pytest.raises(BadInput, match=DIFFERS):
        judge._near(call, "y", ours, column(1.01, 1e9), overflow, (1, 2))


def test_operators_that_copy_may_not_round(monkeypatch: pytest.MonkeyPatch) -> None:
    made = single("Relu", (1, 2))
    monkeypatch.setitem(onnx_import.OPERATORS, "Relu", off_by(1e-9)(onnx_import.OPERATORS["Relu"]))
    for points in (np.zeros((1, 2)), np.array([[2.0, 3.0]])):  # beside 3 float32 would round more than that away
        with pytest.raises(BadInput, match=DIFFERS):
            compare(Reading(made.SerializeToString()), points)


def test_constants_that_differ_by_too_much_are_refused() -> None:
    judge, call = judge_of(single("Mul", (1, 2), floats(2.0, 3.0)))
    (name,) = (n for n, a in zip(call.names, call.arguments, strict=True) if not isinstance(a, Value))
    value = np.asarray(floats(2.0, 3.0), np.float32)
    assert judge._doubt(call, {name: value}) == 0
    assert 8 <= judge._doubt(call, {name: value * np.float32(1 + 5e-7)}) <= 20
    with pytest.raises(BadInput, match="computes otherwise"):
        judge._doubt(call, {name: value * np.float32(1.001)})


def test_the_simplified_network_is_compared_as_a_whole_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_compare, "ROOM", 8)
    reading = deep()
    compare(reading, general_points(3))
    nodes = list(reading.graph.nodes)
    last = nodes[-1]
    nodes[-1] = Affine(last.inputs, last.operators, last.bias + torch.tensor([1e4, 0, 0]).double(), last.name)
    reading.graph = Graph(tuple(nodes), reading.graph.input_shape, reading.graph.output_shape)
    with pytest.raises(BadInput, match="other outputs"):
        compare(reading, general_points(3))


def test_boxes_around_several_cases_and_without_ends() -> None:
    rows = (UnsafeSet(np.ones((1, 1)), np.zeros(1)),)
    two = [Polytope(np.array([a, -5.0]), np.array([a + 1.0, -4.0 + abs(a)])) for a in (3.0, -2.0)]
    lower, upper = box_of(Property(tuple(Case(box, rows) for box in two), 2, 1))
    assert lower.tolist() == [-2, -5] and upper.tolist() == [4, -1]
    half = Polytope(np.array([0.0, -np.inf]), np.ones(2))
    assert box_of(Property((Case(half, rows),), 2, 1)) is None
    points = property_points(Property(tuple(Case(box, rows) for box in two), 2, 1))
    inner = points[[0, *range(7, 10)]]
    assert not any(np.isin(p, [*two[0].lower, *two[0].upper, *two[1].lower, *two[1].upper]).any() for p in inner)


def test_errors_of_layers_before_excuse_nothing() -> None:
    """The first layer cancels, and what rounding may do there is large; the second starts from its value."""
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "b"), node("MatMul", "b v", "c"), node("Add", "c d", "y")]
    constants = {"w": floats(1e12, -1e12).reshape(2, 1), "v": floats(1).reshape(1, 1), "d": floats(1)}
    reading = Reading(model(nodes, (1, 2), constants).SerializeToString())
    points = np.array([[1.0, 1.0], [2.0, 2.0]])
    compare(reading, points)
    *before, last = reading.graph.nodes
    changed = Affine(last.inputs, last.operators, last.bias + 1e-9, last.name)
    reading.graph = Graph((*before, changed), reading.graph.input_shape, reading.graph.output_shape)
    with pytest.raises(AssertionError, match="simplification changed"):
        compare(reading, points)


def test_outputs_that_are_fewer_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_compare, "ROOM", 0)
    fewer = lambda call: call.builder.select(call.variable(0), np.zeros((1, 1), np.int64), call.name)  # noqa: E731
    monkeypatch.setitem(onnx_import.OPERATORS, "Relu", fewer)
    reading = Reading(single("Relu", (1, 3)).SerializeToString())
    with pytest.raises(BadInput, match="was read with 1 outputs where onnxruntime has 3"):
        compare(reading, np.ones((1, 3)))


def test_an_operator_that_only_ever_read_infinity_has_not_been_compared() -> None:
    """The output is finite, and so is the input; what the last operator reads is not."""
    nodes = [node("Mul", "x k", "a"), node("Mul", "a k", "b"), node("Clip", "b low high", "y")]
    constants = {"k": floats(3e38), "low": floats(0)[0], "high": floats(1)[0]}
    reading = Reading(model(nodes, (1, 1), constants).SerializeToString())
    with pytest.raises(BadInput, match="NaN or infinity in onnxruntime"):
        compare(reading, np.ones((1, 1)))
    compare(reading, np.array([[1.0], [0.0]]))
