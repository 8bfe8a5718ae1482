"""What every elementwise function must satisfy: a new one subclasses `ActivationConformance`, and inherits the tests.

    class TestTanh(ActivationConformance):
        function = Tanh()
        exact = staticmethod(mpmath.tanh)

Truths are values in 400 bits, so that lines and images are compared at real numbers and not within a tolerance.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import pairwise
from math import inf, isfinite, isnan

import mpmath
import numpy as np
import pytest
import torch
from onnx import TensorProto
from onnx_models import model, node
from torch import Tensor

from partita.problems.network.activation import STEEP, AbstractActivation
from partita.problems.onnx.elementwise import MODULES
from partita.problems.onnx.file import read_onnx

DTYPES = (torch.float32, torch.float64)
ENDS = (0.0, 1e-30, 1e-8, 1e-3, 0.3, 1.0, 2.5, 9.0, 40.0, 89.0, 120.0, 800.0, 1e6, 1e30)
SHARES = (0.0, 2.0**-30, 0.125, 0.5, 0.8125, 1 - 2.0**-30, 1.0)
CHOICES = (None, (0.0, 1.0), (0.013, 0.5), (1.0, 0.0))
MODERATE = 10.0  # intervals within this have finite lines
BITS = 400
MANY = 1200  # of differences: tanh comes as near to 1 as exp(-240) where its slopes are still numbers

Number = mpmath.mpf


class ActivationConformance:
    """Subclasses say which function, and what it is in mpmath's numbers."""

    function: AbstractActivation
    exact: Callable[[Number], Number]
    attributes: dict[str, float] = {}  # noqa: RUF012 - of its ONNX operator

    # ---- what it says of itself

    def test_pieces_and_kinks_are_the_function(self):
        f = self.function
        assert list(f.kinks) == sorted(set(f.kinks)) and list(f.turns) == sorted(set(f.turns))
        assert not f.pieces or len(f.pieces) == len(f.kinks) + 1
        for piece, (begin, end) in zip(f.pieces, pairwise((-inf, *f.kinks, inf)), strict=False):
            for x in (x for x in self.points(torch.float64) if begin <= x <= end):
                assert self.at(x) == Number(piece.slope) * Number(x) + Number(piece.offset)
                if begin < x < end:
                    assert f.derivative(torch.tensor(x, dtype=torch.float64)) == piece.slope

    def test_the_derivative_is_monotone_between_turns_and_kinks(self):
        f = self.function
        if f.pieces:
            return
        marks = (-inf, *sorted({*f.kinks, *f.turns}), inf)
        for begin, end in pairwise(marks):
            inside = [x for x in np.linspace(-30, 30, 241) if begin < x < end and self.defined(x)]
            rates = [self.rate(x) for x in inside]
            signs = {mpmath.sign(b - a) for a, b in pairwise(rates) if abs(b - a) > Number(2) ** -200}
            assert len(signs) <= 1

    def test_homogeneous_increasing_and_leak_are_true(self):
        f, points = self.function, [x for x in self.points(torch.float64) if abs(x) <= 1e6]
        if f.homogeneous:
            assert all(self.at(Number(3) * Number(x)) == 3 * self.at(x) for x in points)
        if f.increasing:
            assert all(self.at(a) <= self.at(b) for a, b in pairwise(sorted(points)))
        if f.leak is not None:
            assert all(self.at(x) == max(Number(x), Number(f.leak) * Number(x)) for x in points)

    def test_hashes_as_it_compares(self):
        """Twins and layers with one function are found by equality."""
        assert self.function == self.function and hash(self.function) == hash(self.function)

    # ---- values and slopes

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_value_is_within_its_image_at_a_point(self, dtype):
        x = torch.tensor(self.points(dtype), dtype=dtype)
        value, (low, high) = self.function.value(x), self.function.interval(x, x)
        for at, y, l, h in zip(*(t.tolist() for t in (x, value, low, high)), strict=True):
            assert l <= self.at(at) <= h
            if isfinite(y):
                assert l <= y <= h
                assert h - l <= 64 * torch.finfo(dtype).eps * (1 + abs(y)) + 4 * torch.finfo(dtype).tiny

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_derivative_is_right(self, dtype):
        finfo = torch.finfo(dtype)
        marks = {*self.function.kinks}
        x = torch.tensor([x for x in self.points(dtype) if x not in marks and abs(x) <= 1e3], dtype=dtype)
        for at, found in zip(x.tolist(), self.function.derivative(x).tolist(), strict=True):
            true = self.rate(at)
            if isfinite(found):
                assert abs(Number(found) - true) <= STEEP * finfo.eps * abs(true) + finfo.tiny

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_slopes_hold_for_all_chords_and_steepest_is_met(self, dtype):
        """Chords and tangents lie between the slopes; somewhere f is nearly as steep as `steepest` says."""
        f = self.function
        lower, upper = self.intervals(dtype)
        moderate = (lower.abs() <= 1e3) & (upper.abs() <= 1e3)
        lower, upper = lower[moderate], upper[moderate]
        found = lower, upper, *f.slopes(lower, upper), f.steepest(lower, upper)
        mpmath.mp.prec = MANY  # until the fixture sets it back
        for l, u, least, most, steepest in zip(*(t.tolist() for t in found), strict=True):
            points = self.samples(l, u)
            chords = [(self.at(b) - self.at(a)) / (b - a) for a, b in pairwise(sorted(points)) if b > a]
            assert all(least <= chord <= most for chord in chords)
            tangents = [abs(self.rate(x)) for x in (*points, *self.marks(l, u)) if x not in f.kinks]
            met = max([*(abs(chord) for chord in chords), *tangents], default=Number(0))
            if isfinite(steepest):
                assert met * (1 - Number(2) ** -8) <= steepest + torch.finfo(dtype).tiny
                if l < u:
                    assert steepest <= 1.01 * met + 4 * torch.finfo(dtype).tiny
            assert steepest <= f.lipschitz * (1 + STEEP * torch.finfo(dtype).eps)

    # ---- images and lines

    @pytest.mark.parametrize("choice", CHOICES, ids=str)
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_images_and_lines_hold(self, dtype, choice):
        """At real numbers of wide, tiny, degenerate and huge intervals: exactly, whatever the choice."""
        lower, upper = self.intervals(dtype)
        given = choice and tuple(torch.full_like(lower, c) for c in choice)
        self.check_holds(lower, upper, given)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_images_and_lines_hold_on_random_intervals(self, dtype):
        random = torch.Generator().manual_seed(0)
        draw = lambda n: torch.rand(n, generator=random, dtype=dtype)  # noqa: E731
        width = torch.tensor([1e-7, 1e-3, 0.3, 2.0, 10.0, 60.0], dtype=dtype).repeat(20)
        centre, half = 8 * draw(120) - 4, width * draw(120)
        lower, upper = (self.inside(t) for t in (centre - half, centre + half))
        self.check_holds(lower, upper, (draw(120), draw(120)))

    def check_holds(self, lower: Tensor, upper: Tensor, choice: tuple[Tensor, Tensor] | None) -> None:
        f = self.function
        lines, image = f.lines(lower, upper, choice), f.interval(lower, upper)
        assert all(t.shape == lower.shape and t.dtype == lower.dtype for t in (*lines, *image))
        steepest = f.steepest(lower, upper).tolist()
        ends = torch.maximum(lower.abs(), upper.abs()).tolist()
        rows = zip(lower.tolist(), upper.tolist(), *(t.tolist() for t in (*image, *lines)), strict=True)
        tiny = torch.finfo(lower.dtype).tiny
        for i, (l, u, low, high, a, b, c, d) in enumerate(rows):
            useless = isnan(a) or isnan(b) or b == -inf, isnan(c) or isnan(d) or d == inf
            if ends[i] <= MODERATE:
                assert not any(useless) and all(map(isfinite, (low, high, a, b, c, d)))
            assert not low > high
            biggest = Number(0)
            for x in self.samples(l, u):
                true = self.at(x)
                biggest = max(biggest, abs(true))
                assert not low > true and not high < true
                assert useless[0] or Number(a) * x + Number(b) <= true
                assert useless[1] or Number(c) * x + Number(d) >= true
            for slope, bias, nothing in ((a, b, useless[0]), (c, d, useless[1])):
                if nothing or not isfinite(steepest[i]):
                    continue
                assert abs(slope) <= 1.01 * steepest[i] + 4 * tiny
                room = biggest + Number(steepest[i]) * Number(ends[i])
                assert abs(Number(bias)) <= Number("1.01") * room + Number(64 * torch.finfo(lower.dtype).eps)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_lines_of_leaky_relus_are_as_promised(self, dtype):
        """What back-substitution and optimised slopes take for granted where `leak` is a number."""
        leak = self.function.leak
        if leak is None:
            return
        lower, upper = self.intervals(dtype)
        choice = torch.linspace(0, 1, len(lower), dtype=dtype)
        lines = self.function.lines(lower, upper, (choice, 1 - choice))
        assert not lines.lower_bias.any()
        open_ = ~self.function.decided(lower, upper)
        torch.testing.assert_close(lines.lower_slope[open_], (leak + choice * (1 - leak))[open_])
        reach = (1 + 16 * torch.finfo(dtype).eps) * lines.upper_slope * torch.maximum(lower.abs(), upper.abs())
        normal = (lines.upper_slope >= torch.finfo(dtype).tiny) | (upper <= 0)  # others underflowed
        assert (lines.upper_bias >= 0).all() and (lines.upper_bias <= reach + torch.finfo(dtype).tiny)[normal].all()

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_where_decided_the_lines_are_the_function(self, dtype):
        f, finfo = self.function, torch.finfo(dtype)
        lower, upper = self.intervals(dtype)
        decided = f.decided(lower, upper) & (lower.abs() <= MODERATE) & (upper.abs() <= MODERATE)
        assert f.decided(lower, lower).all() and decided.any()
        lower, upper = lower[decided], upper[decided]
        for x in (lower, upper):
            lines, value = f.lines(lower, upper), f.value(x)
            room = 64 * finfo.eps * (1 + value.abs() + f.steepest(lower, upper) * x.abs()) + finfo.tiny
            assert ((lines.lower_slope * x + lines.lower_bias - value).abs() <= room).all()
            assert ((lines.upper_slope * x + lines.upper_bias - value).abs() <= room).all()

    def test_no_choice_means_the_default(self):
        lower, upper = self.intervals(torch.float64)
        choice = self.function.default_choice(lower, upper)
        moderate = (lower.abs() <= MODERATE) & (upper.abs() <= MODERATE)
        assert all(((c >= 0) & (c <= 1))[moderate].all() for c in choice)
        moderate &= ~self.function.decided(lower, upper)  # there any line through the function will do
        for ours, default in zip(self.function.lines(lower, upper, choice), self.function.lines(lower, upper)):
            torch.testing.assert_close(ours[moderate], default[moderate], rtol=1e-12, atol=1e-300)

    def test_lines_have_the_gradient_of_their_choice(self):
        lower, upper = (self.inside(torch.tensor(t, dtype=torch.float64)) for t in ([-3, -4, -1.5], [1.0, -1, 4]))
        choice = torch.tensor([[0.3, 0.6, 0.4], [0.5, 0.2, 0.7]], dtype=torch.float64, requires_grad=True)
        lines = lambda c: self.function.lines(lower, upper, (c[0], c[1]))  # noqa: E731
        if any(t.requires_grad for t in lines(choice)):
            assert torch.autograd.gradcheck(lines, (choice,), atol=1e-6)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_split_points_are_inside(self, dtype):
        """Where a neuron is undecided, splitting at the point leaves two smaller intervals."""
        lower, upper = self.intervals(dtype)
        wide = ~self.function.decided(lower, upper) & (upper - lower > 1e-3 * (lower.abs() + upper.abs()))
        wide &= (lower.abs() <= 1e6) & (upper.abs() <= 1e6)
        point = self.function.split_point(lower, upper)
        assert ((point > lower) & (point < upper))[wide].all()

    def test_batched_shapes_are_kept(self):
        lower = self.inside(-torch.rand(3, 1, 5))
        upper = self.inside(lower + 1)
        found = *self.function.lines(lower, upper), *self.function.interval(lower, upper)
        assert all(t.shape == (3, 1, 5) for t in found)

    # ---- its operator

    def test_onnxruntime_is_within_the_assumed_error(self):
        onnxruntime = pytest.importorskip("onnxruntime")
        try:
            session = onnxruntime.InferenceSession(self.file().SerializeToString(), providers=["CPUExecutionProvider"])
        except Exception:
            pytest.skip("onnxruntime has no such operator")
        x = np.array([x for x in np.linspace(-60, 60, 2001, dtype=np.float32) if self.defined(x)])
        absolute, relative = self.function.kernel_error
        for at, found in zip(x.tolist(), session.run(None, {"x": x})[0].tolist(), strict=True):
            true, unit = self.at(at), 2.0**-24
            room = unit * (absolute + relative * abs(true)) + Number(2.0**-126)
            assert abs(Number(found) - true) <= room

    def test_is_read_from_a_file(self):
        if self.function.name not in (*MODULES, "LeakyRelu", "Relu"):
            pytest.skip("not an operator that is read")
        graph = read_onnx(self.file(shape=3).SerializeToString())
        (layer,) = graph.layers
        assert (
            layer.function == self.function and layer.size == 3 and [o.source for o in layer.operands] == [layer.source]
        )

    # ---- points

    def file(self, shape: int | None = None):  # type: ignore[no-untyped-def]
        attributes = self.attributes
        return model([node(self.function.name, "x", "y", **attributes)], (shape,), element=TensorProto.FLOAT)

    @pytest.fixture(autouse=True)
    def _bits(self):  # type: ignore[no-untyped-def]
        with mpmath.workprec(BITS):
            yield

    def at(self, x: float | Number) -> Number:
        return _at(type(self).exact, Number(x), mpmath.mp.prec)

    def rate(self, x: float | Number) -> Number:
        return _rate(type(self).exact, Number(x))

    def defined(self, x: float | Number) -> bool:
        low, high = self.function.domain
        return low <= x <= high

    def inside(self, t: Tensor) -> Tensor:
        return t.clamp(*self.function.domain)

    def points(self, dtype: torch.dtype) -> list[float]:
        """Numbers of the type, kinks and turns and their neighbours among them."""
        marks = torch.tensor([*self.function.kinks, *self.function.turns], dtype=dtype)
        ends = torch.tensor([*ENDS, *(-x for x in ENDS)], dtype=dtype)
        beyond = [torch.nextafter(marks, torch.full_like(marks, s)) for s in (-inf, inf)]
        normal = lambda t: t[(t == 0) | (t.abs() >= torch.finfo(dtype).tiny)]  # noqa: E731
        return sorted({x for x in normal(torch.cat([ends, marks, *beyond])).tolist() if self.defined(x)})

    def intervals(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        points = torch.tensor(self.points(dtype), dtype=dtype)
        l, u = torch.meshgrid(points, points, indexing="ij")
        narrow = self.inside(points * (1 + 4 * torch.finfo(dtype).eps))
        l = torch.cat([l[l <= u], torch.minimum(points, narrow)])
        return l, torch.cat([u[torch.meshgrid(points, points, indexing="ij")[0] <= u], torch.maximum(points, narrow)])

    def marks(self, l: float, u: float) -> list[Number]:
        return [Number(x) for x in (*self.function.kinks, *self.function.turns) if l < x < u]

    def samples(self, l: float, u: float) -> list[Number]:
        """Real numbers of [l, u]."""
        low, high = Number(l), Number(u)
        if l == u:
            return [low]
        middle = [Number(x) for x in (-3.7, -0.31, 0.29, 2.2) if l < x < u]
        return [*(low + (high - low) * Number(s) for s in SHARES), *self.marks(l, u), *middle]


@functools.cache
def _at(exact: Callable[[Number], Number], x: Number, bits: int) -> Number:
    with mpmath.workprec(bits):
        return exact(x)


@functools.cache
def _rate(exact: Callable[[Number], Number], x: Number) -> Number:
    with mpmath.workprec(MANY):
        step = Number(2) ** -300
        return (exact(x + step) - exact(x - step)) / (2 * step)
