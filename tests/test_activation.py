"""Activations: lines and intervals are sound in the dtype they are computed in, and tight."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from activation_conformance import ActivationConformance
from hypothesis import given, settings
from hypothesis import strategies as st

from partita.problems.network.activation import AbstractActivation, LeakyReLU, Piece, ReLU
from partita.problems.network.smooth import Sigmoid, Tanh

FUNCTIONS = {
    "sigmoid": Sigmoid(),
    "tanh": Tanh(),
}
SMOOTH = ("sigmoid", "tanh")
DTYPES = (torch.float32, torch.float64)


class TestReLU(ActivationConformance):
    function = ReLU()
    exact = staticmethod(lambda x: max(x, 0 * x))


class TestLeakyReLU(ActivationConformance):
    function = LeakyReLU(0.125)
    exact = staticmethod(lambda x: max(x, x / 8))
    attributes = {"alpha": 0.125}  # noqa: RUF012


class TestLeakyReLUOfThirds(ActivationConformance):
    """A slope that float64 knows and decimals do not."""

    function = LeakyReLU(1 / 3)
    exact = staticmethod(lambda x: max(x, float(np.float32(1 / 3)) * x))
    attributes = {"alpha": 1 / 3}  # noqa: RUF012


class TestSigmoid(ActivationConformance):
    function = Sigmoid()
    exact = staticmethod(lambda x: 1 / (1 + mpmath.exp(-x)))


class TestTanh(ActivationConformance):
    function = Tanh()
    exact = staticmethod(mpmath.tanh)


def truth(function, x: np.ndarray) -> np.ndarray:
    """The function in extended precision."""
    x = x.astype(np.longdouble)
    match function:
        case Sigmoid():
            return (1 + np.tanh(x / 2)) / 2
        case Tanh():
            return np.tanh(x)


def grid(lower: torch.Tensor, upper: torch.Tensor, points: int = 401) -> np.ndarray:
    """Points of each interval, denser near both ends and near zero: (points, n) in extended precision."""
    l, u = (t.numpy().astype(np.longdouble) for t in (lower, upper))
    even = np.linspace(0, 1, points, dtype=np.longdouble)[:, None]
    close = np.logspace(-12, 0, points // 4).astype(np.longdouble)[:, None]
    near_zero = np.concatenate([-close, close]) * 8
    samples = [l * (1 - even) + u * even, l + (u - l) * close, u - (u - l) * close, near_zero + 0 * l]
    return np.clip(np.concatenate(samples), l, u)


def intervals(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Wide, narrow, saturated, huge, one-sided and degenerate intervals."""
    points = [0.0, 1e-30, 1e-8, 1e-3, 0.3, 1.0, 2.5, 9.0, 17.0, 40.0, 89.0, 120.0, 800.0, 1e6, 1e30]
    points = torch.tensor(sorted([-p for p in points[1:]] + points), dtype=dtype)
    l, u = torch.meshgrid(points, points, indexing="ij")
    inside = l <= u
    gap = torch.finfo(dtype).eps
    narrow = points * (1 + 4 * gap)
    l = torch.cat([l[inside], torch.minimum(points, narrow)])
    return l, torch.cat([u[inside], torch.maximum(points, narrow)])


@pytest.mark.parametrize("name", SMOOTH)
@settings(max_examples=200, deadline=None)
@given(slope=st.floats(0, 1), ends=st.tuples(st.floats(-40, 40), st.floats(-40, 40)))
def test_bias_is_least_value_for_any_slope(name, slope, ends):
    """The bias of an arbitrary slope, against the true minimum found by bisection in 50 digits."""
    function = FUNCTIONS[name]
    slope = slope * function._peak
    l, u = min(ends), max(ends)
    as_tensor = [torch.tensor(v, dtype=torch.float64) for v in (slope, l, u)]
    bias = function._least_bias(*as_tensor).item()
    with mpmath.workdps(50):
        exact = {"sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)), "tanh": mpmath.tanh}[name]
        rate = {"sigmoid": lambda x: exact(x) * exact(-x), "tanh": lambda x: mpmath.sech(x) ** 2}[name]
        low, high = mpmath.mpf(min(l, 0)), mpmath.mpf(min(u, 0))  # f' increases here
        for _ in range(120):
            middle = (low + high) / 2
            low, high = (middle, high) if rate(middle) < slope else (low, middle)
        least = min(exact(x) - slope * x for x in (mpmath.mpf(l), mpmath.mpf(u), max(low, l)))
        assert bias <= least
        assert bias >= least - 16 * np.finfo(float).eps * (1 + abs(slope) * max(abs(l), abs(u)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SMOOTH)
def test_computed_values_are_within_the_assumed_error(name, dtype):
    x = torch.cat([torch.linspace(-60, 60, 30001, dtype=dtype), torch.linspace(-3, 3, 30001, dtype=dtype)])
    error = np.abs(FUNCTIONS[name].value(x).numpy() - truth(FUNCTIONS[name], x.numpy())).max()
    assert error <= 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("name", SMOOTH)
def test_onnxruntime_is_within_the_assumed_error(name):
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    kind = FUNCTIONS[name].name
    ends = [onnx.helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, [None]) for end in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node(kind, ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.linspace(-60, 60, 40001, dtype=np.float32)
    y = session.run(None, {"x": x})[0]
    assert np.abs(y - truth(FUNCTIONS[name], x)).max() <= 2 * np.finfo(np.float32).eps


def area(lines, lower, upper) -> torch.Tensor:
    """Integral over [l, u] of upper minus lower line."""
    middle = (lower + upper) / 2
    return ((lines.upper_slope - lines.lower_slope) * middle + lines.upper_bias - lines.lower_bias) * (upper - lower)


@pytest.mark.parametrize("name", SMOOTH)
def test_default_lines_have_nearly_the_least_area(name):
    """No pair of lines with slopes from a fine grid, each with its best bias, encloses much less."""
    function = FUNCTIONS[name]
    generator = torch.Generator().manual_seed(0)
    lower = 3 * torch.randn(200, generator=generator, dtype=torch.float64)
    upper = lower + 6 * torch.rand(200, generator=generator, dtype=torch.float64) + 0.05
    x = torch.tensor(grid(lower, upper).astype(float))
    slopes = torch.linspace(0, function._peak, 161, dtype=torch.float64)[:, None, None]
    gaps = torch.tensor(truth(function, x.numpy()).astype(float)) - slopes * x  # (slopes, points, intervals)
    middle = slopes[:, 0] * (lower + upper) / 2
    best_lower = (middle + gaps.amin(1)).amax(0)
    best_upper = (middle + gaps.amax(1)).amin(0)
    best = (best_upper - best_lower) * (upper - lower)
    ours = area(function.lines(lower, upper), lower, upper)
    assert (ours <= best * 1.001 + 1e-9).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SMOOTH)
def test_default_lines_are_no_looser_than_constants_or_parallel_lines(name, dtype):
    """Against the constant lines and DeepZ's two parallel lines of slope min(f'(l), f'(u)) (Singh et al. 2018)."""
    function = FUNCTIONS[name]
    lower, upper = intervals(dtype)
    modest = upper - lower < 1e4
    lower, upper = lower[modest], upper[modest]
    ours = area(function.lines(lower, upper), lower, upper)
    low, high = function.interval(lower, upper)
    slope = torch.minimum(function.derivative(lower), function.derivative(upper))
    rounding = 64 * torch.finfo(dtype).eps * (1 + upper.abs() + lower.abs()) * (upper - lower)
    # f minus the flattest slope increases, so the parallel lines touch at the ends.
    parallel = (function.value(upper) - function.value(lower) - slope * (upper - lower)) * (upper - lower)
    assert (ours <= (high - low) * (upper - lower) + rounding).all()
    assert (ours <= parallel + rounding).all()


@pytest.mark.parametrize("name", SMOOTH)
def test_choice_moves_the_tangent_through_its_whole_range(name):
    function = FUNCTIONS[name]
    lower, upper = torch.tensor([-3.0, -4.0], dtype=torch.float64), torch.tensor([1.0, -1.0], dtype=torch.float64)
    first = function.lines(lower, upper, (torch.zeros(2), torch.zeros(2)))
    last = function.lines(lower, upper, (torch.ones(2), torch.ones(2)))
    torch.testing.assert_close(first.lower_slope, function.derivative(lower))
    touching = last.lower_slope * upper + last.lower_bias
    torch.testing.assert_close(touching, function.value(upper), atol=1e-9, rtol=0)
    by_default = function.lines(lower, upper, function.default_choice(lower, upper))
    for a, b in zip(by_default, function.lines(lower, upper), strict=True):
        assert torch.equal(a, b)


def test_smooth_functions_split_where_their_image_is_halved():
    for name in SMOOTH:
        assert FUNCTIONS[name].split_point(torch.tensor(-100.0), torch.tensor(50.0)).abs() < 1e-5


def test_smooth_neurons_are_decided_only_where_constant():
    lower, upper = torch.tensor([-1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 4.0])
    assert Sigmoid().decided(lower, upper).tolist() == [False, True, False]
    assert ReLU().decided(lower, upper).tolist() == [False, True, True]


# ---- what follows from pieces and turns alone


class _Described(AbstractActivation):
    """A function of which nothing is asked but what follows from its description."""

    name = "described"

    def value(self, x):
        raise NotImplementedError

    interval = lines = default_choice = derivative = value


class _Steps(_Described):
    """Slopes -2, 0.5, 3 with kinks at -1 and 2."""

    kinks = (-1.0, 2.0)
    pieces = (Piece(-2.0, -1.0), Piece(0.5, 1.5), Piece(3.0, -3.5))

    def value(self, x):
        return torch.where(x < -1, -2 * x - 1, torch.where(x < 2, 0.5 * x + 1.5, 3 * x - 3.5))


class _Bump(_Described):
    """exp(-x^2), which rises, falls, and turns at +-sqrt(1/2)."""

    turns = (-(0.5**0.5), 0.5**0.5)

    def value(self, x):
        return torch.exp(-x * x)

    def derivative(self, x):
        return -2 * x * torch.exp(-x * x)


@pytest.mark.parametrize("function", [_Steps(), _Bump()], ids=lambda f: type(f).__name__)
def test_slopes_of_functions_that_fall_and_rise(function):
    ends = torch.cartesian_prod(*[torch.linspace(-4, 4, 33, dtype=torch.float64)] * 2)
    lower, upper = ends[ends[:, 0] < ends[:, 1]].T
    least, most = function.slopes(lower, upper)
    x = lower + (upper - lower) * torch.linspace(0, 1, 801, dtype=torch.float64)[:, None]
    chords = function.value(x).diff(dim=0) / x.diff(dim=0)
    assert (least - 1e-9 <= chords).all() and (chords <= most + 1e-9).all()
    assert (least >= chords.amin(0) - 0.02).all() and (most <= chords.amax(0) + 0.02).all()
    torch.testing.assert_close(function.steepest(lower, upper), torch.maximum(-least, most), rtol=1e-6, atol=1e-6)


def test_what_several_pieces_say():
    f = _Steps()
    assert f.leak is None and not f.homogeneous and not f.increasing and f.lipschitz == 3
    lower, upper = (
        torch.tensor([-3.0, -1.0, -2.0, 0.0, 1.0, 2.0, -5.0]),
        torch.tensor([-1.0, 2.0, 0.0, 9.0, 2.5, 7.0, 5.0]),
    )
    assert f.decided(lower, upper).tolist() == [True, True, False, False, False, True, False]
    assert f.split_point(lower, upper)[[2, 3, 4]].tolist() == [-1.0, 2.0, 2.0]
    assert not _Bump().decided(lower, upper).any() and _Bump().lipschitz == torch.inf
    assert ReLU().leak == 0 and LeakyReLU(0.25).leak == 0.25 and Sigmoid().leak is None
