"""S-shaped activations: sigmoid and tanh, with tight lines that are sound for any slope.

Both functions are strictly increasing, convex left of zero, concave right of it, and symmetric about the point
(0, f(0)); sigmoid(x) = (1 + tanh(x / 2)) / 2, so one derivation, in the variable x / scale, serves both.

Lower line over [l, u] (the upper line is its mirror image, f(x) = 2 f(0) - f(-x), with [l, u] -> [-u, -l]):

* Let t* be the point whose tangent meets the curve again at u; for u <= 0 it is u itself. A tangent at t lies below
  f on all of [l, u] exactly when l <= t <= t*. The choice c takes t = (1 - c) l + c t*.
* The area under the tangent at t grows with f''(t) (m - t), m the midpoint of [l, u]; hence the tangent of largest
  area touches at min(m, t*), and that is the default.
* Where t* <= l no tangent fits; the chord is then the lower convex envelope, and the choice has no effect.

t* solves f(t) + f'(t) (u - t) = f(u). There is no closed form; a few Newton steps start from -log(1 + u) / 2, which
is right to first order at both ends of the axis (t* ~ -u/2 near zero, t* ~ -log(u) / 2 far away).

Soundness: outward rounded, by construction, and independent of Newton. Whatever slope s was computed, the bias is the
smallest value of g(x) = f(x) - s x over [l, u]. g' = f' - s, and f' has one peak at zero, so g falls, rises, falls:
its minimum is at l, at u, or at the left solution of f'(x) = s, which has the closed form
x = -scale log((1 + sqrt(1 - q)) / sqrt(q)) with q = s / f'(0). An error of that point enters g only squared. Each value
is then lowered by `ERROR` units of machine epsilon times (1 + |s x|): computed values of sigmoid and tanh are assumed
to be within 2 epsilon of the real ones, which tests/test_activation.py checks for PyTorch in both precisions (measured:
below 1 epsilon; onnxruntime's float32 kernels stay within 2 epsilon of float32 too).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.proof_constants import ERROR
from .activation import AbstractActivation, Lines

NEWTON_STEPS = 5  # the tangent point is then right to about 1e-12 (relative to 1 + |t|); see the essay


class AbstractSShaped(AbstractActivation):
    """offset + amplitude * tanh(x / scale)."""

    turns = (0.0,)
    increasing = True
    scale: float
    amplitude: float
    offset: float

    @property
    def _peak(self) -> float:
        """The largest slope, f'(0)."""
        return self.amplitude / self.scale

    @property
    def lipschitz(self) -> float:
        return self._peak

    @abstractmethod
    def inverse(self, y: Tensor) -> Tensor:
        """The x with f(x) = y (heuristic: only places split points)."""

    def derivative(self, x: Tensor) -> Tensor:
        # sech^2 through two sigmoids: 1 - tanh^2 would cancel where the function saturates.
        z = x * (2 / self.scale)
        return 4 * self._peak * (torch.sigmoid(z) * torch.sigmoid(-z))

    def interval(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        error = ERROR * torch.finfo(lower.dtype).eps
        least, most = self.offset - self.amplitude, self.offset + self.amplitude
        low, high = (self.value(lower) - error).clamp(min=least), (self.value(upper) + error).clamp(max=most)
        if self.offset == 0:  # odd: the sign is exact
            low, high = torch.where(lower >= 0, low.clamp(min=0), low), torch.where(upper <= 0, high.clamp(max=0), high)
        return low, high

    def split_point(self, lower: Tensor, upper: Tensor) -> Tensor:
        """The point that halves the image of [lower, upper]; the midpoint where the function saturates."""
        point = self.inverse((self.value(lower) + self.value(upper)) / 2)
        return torch.where((point > lower) & (point < upper), point, lower / 2 + upper / 2)

    def default_choice(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return self._best_choice(lower, self._last_tangent(upper), upper), self._best_choice(
            -upper, self._last_tangent(-lower), -lower
        )

    def lines(self, lower: Tensor, upper: Tensor, choice: tuple[Tensor, Tensor] | None = None) -> Lines:
        below = self._lower_line(lower, upper, None if choice is None else choice[0])
        mirrored = self._lower_line(-upper, -lower, None if choice is None else choice[1])
        # 2 f(0) is 0 or 1: moving by one rounds once more, which one epsilon of a number below 2 + |s x| covers.
        turned = 2 * self.offset - mirrored[1]
        if self.offset:
            turned = turned + torch.finfo(lower.dtype).eps * (1 + turned.abs())
        return Lines(below[0], below[1], mirrored[0], turned)

    def _lower_line(self, l: Tensor, u: Tensor, choice: Tensor | None) -> tuple[Tensor, Tensor]:
        """Slope and bias of a line below f on [l, u]; outward rounded."""
        last = self._last_tangent(u)
        c = self._best_choice(l, last, u) if choice is None else choice.clamp(0, 1)
        tangent = self.derivative((1 - c) * l + c * last)
        chord = (self.value(u) - self.value(l)) / (u / 2 - l / 2).clamp(min=torch.finfo(l.dtype).tiny) / 2
        slope = torch.where(last > l, tangent, chord)
        # Steeper than f is anywhere, or flatter, only by rounding; the clamp also serves l == u.
        ends = self.derivative(l), self.derivative(u)
        steepest = torch.where((l < 0) & (u > 0), self._peak, torch.maximum(*ends))
        slope = torch.minimum(torch.maximum(slope, torch.minimum(*ends)), steepest)
        slope = torch.where(slope < 4 * torch.finfo(l.dtype).tiny, 0.0, slope)  # subnormals may be flushed later
        return slope, self._least_bias(slope, l, u)

    def _least_bias(self, slope: Tensor, l: Tensor, u: Tensor) -> Tensor:
        """A lower bound of f(x) - slope x over [l, u], for any slope in [0, f'(0)]; outward rounded."""
        with torch.no_grad():  # at the minimiser the bias moves with the slope by -x alone (envelope theorem)
            q = (slope / self._peak).clamp(0, 1)
            turn = -self.scale * torch.log((1 + torch.sqrt(1 - q)) / torch.sqrt(q))
            turn = torch.minimum(torch.maximum(turn, l), u)
        finfo = torch.finfo(l.dtype)
        error = ERROR * finfo.eps

        def lowered(x: Tensor) -> Tensor:
            ramp = slope * x
            return (self.value(x) - ramp) - (error + error * ramp.abs())

        return torch.minimum(torch.minimum(lowered(l), lowered(u)), lowered(turn))

    @torch.no_grad()
    def _last_tangent(self, u: Tensor) -> Tensor:
        """The point t* <= 0 whose tangent passes through (u, f(u)), and u itself where u <= 0 (heuristic)."""
        end = u.clamp(min=0) / self.scale
        f_end = torch.tanh(end)
        t = -0.5 * torch.log1p(end)
        for _ in range(NEWTON_STEPS):
            f = torch.tanh(t)
            steep = 4 * torch.sigmoid(2 * t) * torch.sigmoid(-2 * t)
            gap = (f_end - f) / steep - (end - t)
            # d/dt of the tangent's height at the end, f''(t) (end - t), divided by f'(t) as the gap is.
            rate = -2 * f * (end - t)
            t = t + gap / rate.clamp(min=torch.finfo(u.dtype).tiny)
            t = torch.maximum(torch.minimum(t, torch.zeros_like(t)), -end)
        return torch.where(u <= 0, u, t * self.scale)

    @staticmethod
    def _best_choice(l: Tensor, last: Tensor, u: Tensor) -> Tensor:
        """The choice whose tangent has the largest area under it."""
        width = last - l
        touch = torch.minimum(l / 2 + u / 2, last) - l
        return torch.where(width > 0, touch / width.clamp(min=torch.finfo(l.dtype).tiny), 1.0).clamp(0, 1)


@dataclass(frozen=True)
class Sigmoid(AbstractSShaped):
    """1 / (1 + exp(-x))."""

    name: str = "Sigmoid"
    kernel_error = (4, 0)  # at 1.4 million inputs (onnxruntime 1.31, both precisions) at most 2.95
    scale: float = 2.0
    amplitude: float = 0.5
    offset: float = 0.5

    def value(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def inverse(self, y: Tensor) -> Tensor:
        return torch.logit(y)


@dataclass(frozen=True)
class Tanh(AbstractSShaped):
    """The hyperbolic tangent."""

    name: str = "Tanh"
    kernel_error = (0, 12)  # at most 8.93 there
    scale: float = 1.0
    amplitude: float = 1.0
    offset: float = 0.0

    def value(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def inverse(self, y: Tensor) -> Tensor:
        return torch.atanh(y)
