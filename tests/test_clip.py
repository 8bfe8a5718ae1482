"""Clip, and Min and Max with constants: bounds of any size, order and precision, against onnxruntime; and for a box."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper
from onnx_models import model, node

from partita.bab import api
from partita.problems.errors import BadInput
from partita.problems.load import load_problem
from partita.problems.network.graph import Activation, Graph
from partita.problems.onnx.file import read_onnx
from partita.problems.onnx.importing import Reading
from partita.problems.onnx.runtime import OnnxModel
from partita.problems.property import box_property
from partita.relaxations.bound import bound

KINDS = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}
LARGEST = {kind: float(np.finfo(kind).max) for kind in KINDS}


def clip(kind: type, low: float | None, high: float | None, opset: int = 13, size: int = 3) -> ModelProto:
    """A Clip with bounds of the model's own precision; None for no bound."""
    if opset < 11:
        sides = {"min": low, "max": high}
        nodes = [node("Clip", "x", "y", **{k: float(np.float32(v)) for k, v in sides.items() if v is not None})]
        return model(nodes, (1, size), {}, opset, element=KINDS[kind])
    names, constants = ["x", "", ""], {}
    for i, side in ((1, low), (2, high)):
        if side is not None:
            names[i] = f"c{i}"
            constants[f"c{i}"] = np.array(side, kind)
    while not names[-1]:
        names.pop()
    return model(
        [helper.make_node("Clip", names, ["y"], name="clip")], (1, size), constants, opset, element=KINDS[kind]
    )


def numbers(kind: type) -> st.SearchStrategy[float]:
    """Of the precision, small ones and those near and at its ends."""
    width = 32 if kind is np.float32 else 64
    most = LARGEST[kind]
    plain = st.floats(width=width, allow_nan=False, allow_infinity=False, allow_subnormal=True)
    near = st.sampled_from([0.0, 1.0, -1.0, 6.0, 255.5, 256.5, -300.0, 1e30, -1e30, 3.4e38, most, -most, most / 2])
    return st.one_of(plain, near.map(lambda v: float(kind(v))), st.floats(-300, 300, width=width))


@st.composite
def clips(draw) -> tuple[type, float | None, float | None, int, list[float]]:
    """Precision, bounds, opset, three inputs, some of them on the bounds."""
    kind = draw(st.sampled_from([np.float32, np.float64]))
    sides = st.one_of(st.none(), numbers(kind), st.sampled_from([np.inf, -np.inf]))
    low, high = draw(sides), draw(sides)
    opset = draw(st.sampled_from([7, 10, 11, 12, 13, 20] if kind is np.float32 else [12, 13, 20]))
    at = [v for v in (low, high) if v is not None and np.isfinite(v)] or [0.0]
    inputs = [draw(st.one_of(numbers(kind), st.sampled_from(at))) for _ in range(3)]
    return kind, low, high, opset, inputs


@settings(max_examples=400, deadline=None)
@given(clips())
def test_any_bounds_in_any_order(given_clip) -> None:
    """Imported, it is what onnxruntime computes; or refused where the result is infinite."""
    kind, low, high, opset, inputs = given_clip
    made = clip(kind, low, high, opset)
    x = np.array(inputs)
    try:
        session = OnnxModel(made.SerializeToString())
    except BadInput:
        assert opset < 11  # where bounds are attributes, onnxruntime checks their order
        return
    theirs = session.run(x)
    try:
        reading = Reading(made.SerializeToString())
    except BadInput as error:
        assert "always infinite" in str(error)
        assert (np.abs(theirs) >= LARGEST[kind]).all()
        return
    check_value(reading.graph, x, theirs)
    check_value(reading.on(x, x).graph, x, theirs)  # for a box that is a point there is nothing left to decide
    assert reading.on(x, x).graph.neurons == 0
    lower, upper = np.minimum(x, -x), np.maximum(x, -x)
    part = reading.on(lower, upper)
    for point in (x, -x, lower, upper):
        check_value(part.graph, point, session.run(point))
    least = -np.inf if low is None else low
    most = np.inf if high is None else high
    reached = ((lower < least) & (least < upper)).sum() + ((lower < most) & (most < upper)).sum()
    assert part.graph.neurons <= reached


def check_value(graph: Graph, x: np.ndarray, theirs: np.ndarray) -> None:
    """No rounding but of the value, of bounds that are near, and of inputs that are cut off."""
    ours = graph(torch.from_numpy(x)).numpy()
    x = np.tile(x, len(theirs) // len(x))
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(theirs) + 256 + np.where(theirs == x, 0, np.abs(x))
        near = np.abs(ours - theirs) <= 2.0**-50 * size
    # Near the largest float64 number x - bound overflows, wherever the two have different signs.
    beyond = np.abs(x).max() > LARGEST[np.float64] / 4
    assert (near | (beyond & ~np.isfinite(ours))).all(), (x, ours, theirs)


def test_the_result_for_crossed_bounds_is_the_upper_one() -> None:
    for low, high in ((3.0, -2.0), (LARGEST[np.float32], 50.0), (np.inf, 7.0), (5.0, 5.0), (1e30, -1e30)):
        made = clip(np.float32, low, high)
        graph = read_onnx(made.SerializeToString())
        assert graph.neurons == 0
        assert (graph(torch.zeros(3, dtype=torch.float64)) == float(np.float32(high))).all()


@pytest.mark.parametrize("side", [(None, np.nan), (np.nan, 1.0)])
def test_nan_is_no_bound(side) -> None:
    with pytest.raises(BadInput, match=r"Clip \(node 'clip'\) has NaN as a bound"):
        read_onnx(clip(np.float32, *side).SerializeToString())


def test_a_bound_is_one_number() -> None:
    made = model([node("Clip", "x low", "y")], (1, 2), {"low": np.zeros(2, np.float32)})
    with pytest.raises(BadInput, match=r"has bounds of shape \(2,\); a bound is a single number"):
        read_onnx(made.SerializeToString(), check=False)


@pytest.mark.parametrize("kind", ["Min", "Max"])
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_min_and_max_with_constants(kind: str, precision: type) -> None:
    """Entry by entry: large bounds, infinite ones, and broadcasting."""
    source = np.random.default_rng(0)
    for _ in range(40):
        shape = [(1, 3), (3,), (2, 1, 3), (1, 1), ()][source.integers(5)]
        values = source.normal(size=shape) * 10.0 ** source.integers(-30, 30, size=shape)
        infinite = -np.inf if kind == "Max" else np.inf
        values = np.where(source.random(shape) < 0.3, infinite, values).astype(precision)
        made = model([node(kind, "x c", "y")], (1, 3), {"c": values}, element=KINDS[precision])
        reading = Reading(made.SerializeToString())
        read_onnx(made.SerializeToString())
        session = OnnxModel(made.SerializeToString())
        lower = source.normal(size=3) * 10.0 ** source.integers(-3, 3)
        upper = lower + np.abs(source.normal(size=3))
        points = np.concatenate([[lower, upper], lower + (upper - lower) * source.random((4, 3))])
        points = points.astype(np.float32).astype(np.float64)
        part = reading.on(points.min(0), points.max(0))
        for x in points:
            check_value(reading.graph, x, session.run(x))
            check_value(part.graph, x, session.run(x))
        assert part.graph.neurons <= reading.graph.neurons
        whole = np.broadcast_to(values, np.broadcast_shapes(values.shape, (1, 3))).reshape(-1, 3)
        binding = ((points.min(0) < whole) & (whole < points.max(0))).sum()
        assert part.graph.neurons <= binding


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_max_with_infinity_is_refused(bad: float) -> None:
    made = model([node("Max", "x c", "y")], (1, 2), {"c": np.array([0, bad], np.float32)})
    with pytest.raises(BadInput, match=r"Max \(node 'Max_y'\) has (a result that is always infinite|NaN)"):
        read_onnx(made.SerializeToString())


# --- for a property's box


def affine_clip(low: float, high: float) -> ModelProto:
    """Three values of two inputs, clipped, and summed with weights."""
    constants = {"w": np.array([[1, 2, -1], [0, 1, 3]], np.float32), "b": np.array([1, 0, -2], np.float32)}
    constants |= {"low": np.float32(low), "high": np.float32(high), "v": np.array([[1], [1], [-2]], np.float32)}
    nodes = [node("MatMul", "x w", "m"), node("Add", "m b", "a"), node("Clip", "a low high", "c")]
    return model([*nodes, node("MatMul", "c v", "y")], (1, 2), constants)


def test_only_what_the_box_reaches_is_built() -> None:
    """a = (x0 + 1, 2 x0 + x1, -x0 + 3 x1 - 2) over [0, 1]^2 is in [1, 2], [0, 3], [-3, 1]."""
    reading = Reading(affine_clip(-1, 2.5).SerializeToString())
    assert reading.graph.neurons == 6
    part = reading.on(np.zeros(2), np.ones(2))
    assert part.graph.neurons == 2  # the second's upper side, and the third's lower one
    points = torch.rand(100, 2, dtype=torch.float64)
    torch.testing.assert_close(part.graph(points), reading.graph(points), rtol=1e-12, atol=1e-12)
    assert reading.on(np.zeros(2), np.zeros(2)).graph.neurons == 0
    assert Reading(affine_clip(-10, 10).SerializeToString()).on(np.zeros(2), np.ones(2)).graph.neurons == 0


def test_a_bound_that_is_touched_is_not_reached_and_one_that_is_passed_is() -> None:
    """Intervals are rounded outward: with exact numbers, 1 in [0, 1] is touched, and 1 - 2^-30 is passed."""
    made = clip(np.float64, None, 1.0, size=1)
    reading = Reading(made.SerializeToString())
    assert reading.on(np.zeros(1), np.ones(1)).graph.neurons == 0
    assert reading.on(np.zeros(1), np.ones(1) + 2.0**-30).graph.neurons == 1


def test_a_clip_behind_a_clip_knows_what_the_first_leaves() -> None:
    nodes = [node("Clip", "x a b", "u"), node("Clip", "u c d", "y")]
    constants = {k: np.float32(v) for k, v in zip("abcd", (0, 6, -1e30, 7), strict=True)}
    reading = Reading(model(nodes, (1, 2), constants).SerializeToString())
    part = reading.on(np.full(2, -100.0), np.full(2, 100.0))
    assert part.graph.neurons == 4 and reading.graph.neurons == 8


def test_relu6_is_two_neurons_without_a_skip() -> None:
    graph = read_onnx(affine_clip(0, 6).SerializeToString())
    assert graph.neurons == 6
    assert all(0 not in n.inputs for n in graph.nodes[2:])
    assert len(graph.nodes) == 6


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("relaxation", ["ibp", "crown", "alpha-crown", "triangle"])
@pytest.mark.parametrize("size", [10.0, 1e10, 1e30, 3.4028234663852886e38])
def test_a_clip_that_never_binds_does_not_widen_bounds(tmp_path, relaxation: str, precision: str, size: float) -> None:
    """y = a0 + a1 - 2 a2 = 5 x0 - 5 x1 + 5 over [0, 1]^2, as if there were no Clip."""
    path, bare = tmp_path / "net.onnx", tmp_path / "bare.onnx"
    path.write_bytes(affine_clip(-size, size).SerializeToString())
    made = affine_clip(0, 0)
    del made.graph.node[2]
    made.graph.node[2].input[0] = "a"
    bare.write_bytes(made.SerializeToString())
    box = (np.zeros(2), np.ones(2))
    found, expected = (bound(p, box, relaxation, precision=precision) for p in (path, bare))
    assert found.lower == expected.lower and found.upper == expected.upper
    assert abs(found.lower[0]) < 1e-4 and abs(found.upper[0] - 10) < 1e-4


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("relaxation", ["crown", "alpha-crown", "triangle"])
@pytest.mark.parametrize("size", [1e3, 1e10, 1e30])
def test_nor_where_the_box_is_not_known_to_the_reader(relaxation: str, precision: str, size: float) -> None:
    graph = read_onnx(affine_clip(-size, size).SerializeToString())
    found = bound(graph, (np.zeros(2), np.ones(2)), relaxation, precision=precision)
    loss = 1e-3 if precision == "float32" else 1e-8
    assert -loss <= found.lower[0] <= 0 and 10 <= found.upper[0] <= 10 + loss


@pytest.mark.parametrize("options", [{}, {"split": "activation"}, {"precision": "float32"}, {"attack": "off"}])
@pytest.mark.parametrize("size", [10.0, 1e30, 3.4028234663852886e38])
def test_verdicts_where_a_clip_never_binds(tmp_path, options: dict, size: float) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(affine_clip(-size, size).SerializeToString())
    box = (np.zeros(2), np.ones(2))
    assert api.verify(path, box_property(*box, [[-1]], [10.01]), timeout=30, **options).verdict == "unsat"
    assert api.verify(path, box_property(*box, [[-1]], [9.9]), timeout=30, **options).verdict == "sat"


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_verdicts_where_an_extreme_bound_binds(tmp_path, kind: type) -> None:
    """A bound beyond every other number is a bound: min > max, max the least number, 1e39 in float64."""
    path, box = tmp_path / "net.onnx", ([-200.0], [-100.0])
    most = LARGEST[kind]

    def verdict(low, high, rows, constant, lower_upper=box) -> str:
        path.write_bytes(clip(kind, low, high, size=1).SerializeToString())
        return api.verify(path, box_property(*lower_upper, rows, [constant]), timeout=30).verdict

    assert verdict(most, 50.0, [[-1]], 40) == "sat"  # y = 50 >= 40
    assert verdict(most, 50.0, [[1]], -40) == "unsat"  # y = 50 <= 40
    assert verdict(None, -most, [[1]], 1e30) == "sat"  # y = -most <= -1e30
    assert verdict(most, None, [[1]], -1e30) == "unsat"  # y = most <= 1e30
    far = float(kind(most / 2**20))
    assert verdict(None, -far, [[-1]], -1e30) == "unsat"  # y = -far >= 1e30
    assert verdict(far, None, [[1]], -1e30) == "unsat"
    assert verdict(far, None, [[-1]], -1e30) == "sat"
    if kind is np.float64:
        wide = ([1e40], [2e40])
        assert verdict(None, 1e39, [[-1e-39]], 1.5, wide) == "unsat"
        assert verdict(None, 1e39, [[-1e-39]], 0.5, wide) == "sat"


def test_a_log_of_a_clipped_network_is_replayed_and_taken_up(tmp_path) -> None:
    """The same property gives the same network: for the search, the check, the replay and the run that goes on."""
    from partita.bab.replay import replay

    path = tmp_path / "net.onnx"
    source = np.random.default_rng(3)
    constants = {k: source.normal(size=s).astype(np.float32) for k, s in (("w", (2, 8)), ("v", (8, 8)), ("u", (8, 1)))}
    constants |= {"low": np.float32(-0.5), "high": np.float32(2.0)}
    nodes = [node("MatMul", "x w", "a"), node("Clip", "a low high", "b"), node("MatMul", "b v", "c")]
    nodes += [node("Clip", "c low high", "d"), node("MatMul", "d u", "y")]
    path.write_bytes(model(nodes, (1, 2), constants).SerializeToString())
    box = (np.array([-0.6, 0.1]), np.array([0.4, 0.9]))
    graph = load_problem(path, box_property(*box, [[1]], [0]))[0]
    assert graph.neurons < read_onnx(path.read_bytes()).neurons
    lowest = graph(torch.from_numpy(box[0] + (box[1] - box[0]) * source.random((20000, 2)))).min().item()
    prop = box_property(*box, [[1]], [-(lowest - 0.05)])
    outcome = api.verify(path, prop, log=tmp_path / "log", timeout=60, attack="off", max_pieces=3)
    assert outcome.verdict == "unknown"
    outcome = api.verify(path, prop, resume=tmp_path / "log", timeout=60)
    assert outcome.verdict == "unsat" and outcome.pieces > 3
    assert replay(tmp_path / "log", path, prop).good


def test_layers_of_a_network_for_a_box_are_normal() -> None:
    for low, high in ((-1, 2.5), (-1e30, 2.5), (-1, 1e30), (-1e30, 1e30)):
        part = Reading(affine_clip(low, high).SerializeToString()).on(np.zeros(2), np.ones(2))
        for n in part.graph.nodes:
            assert not isinstance(n, Activation) or n.size > 0
