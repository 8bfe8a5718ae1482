"""Bilinear layers, y_k = sum_ij T_kij a_i b_j with T of zeros and ones, between planes that are never written down.

A product of matrices of p x q and q x r has p q r terms, and each lies between McCormick's planes (`product`): with t_i
in [0, 1] for each entry of the first factor, a_i in [a, a'], b_j in [b, b'],

    a_i b_j >= (t_i b_j + (1 - t_i) b'_j) a_i + (t_i a_i + (1 - t_i) a'_i) b_j - (t_i a_i b_j + (1 - t_i) a'_i b'_j)

(ends of intervals in the brackets), and the same from above with the ends of one factor swapped. Coefficients L on y
give each term the coefficient of its output, so what arrives at a_i is a sum over the terms that a_i is in,

    t_i left(L+, b)_i + (1 - t_i) left(L+, b')_i + ...,      left(L, b)_i = sum_kj T_kij L_k b_j,

one contraction of L with the other factor's ends, and the constant is L with the product of ends. Three contractions
(`apply`, `left`, `right`) are all that a layer has to know; memory is that of the factors and of L.

Rounding. All numbers of a pass are sums of products of L, ends and t, and no plane is rounded apart: for real numbers
the planes of the given ends hold with the computed t and 1 - t, up to |t + (1 - t) - 1| <= u. So what is lost is at
most gamma of `terms` of |L| . (|a| and |b| through `apply`), a few times.

Soundness: outward rounded.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.dot import absolute_dot, depth, dot
from ...kernels.proof_constants import INFLATE
from ...kernels.rounding import gamma
from .multivariate import AbstractMultivariate, AbstractPlanes, Choice, Interval, Pulled


class AbstractBilinear(AbstractMultivariate):
    """y = sum T a b with T of zeros and ones, linear in each of two operands."""

    arity: int = 2

    @property
    @abstractmethod
    def longest(self) -> int:
        """The most terms of one sum of `apply`, `left` or `right`."""

    @abstractmethod
    def apply(self, a: Tensor, b: Tensor) -> Tensor:  # (*batch, n_a), (*batch, n_b) -> (*batch, n)
        """y."""

    @abstractmethod
    def left(self, y: Tensor, b: Tensor) -> Tensor:  # (*batch, n), (*batch, n_b) -> (*batch, n_a)
        """sum_kj T_kij y_k b_j."""

    @abstractmethod
    def right(self, y: Tensor, a: Tensor) -> Tensor:  # (*batch, n), (*batch, n_a) -> (*batch, n_b)
        """sum_ki T_kij y_k a_i."""

    def value(self, *operands: Tensor) -> Tensor:
        return self.apply(*operands)

    def interval(self, *operands: Interval) -> Interval:
        """By signs, each factor the sum of a part that is not negative and one that is not positive, only one of which
        is not 0; and by centres and radii (Rump 1999). Each is the better one somewhere."""
        (a, b), (c, d) = operands
        zero = a.new_zeros(())
        size = self.apply(*(torch.maximum(low.abs(), high.abs()) for low, high in operands))
        finfo = torch.finfo(a.dtype)
        lost = INFLATE * 8 * gamma(self.longest + 8, a.dtype) * size + 8 * self.longest * finfo.tiny
        (a1, b1), (c1, d1) = ((low.fmax(zero), high.fmax(zero)) for low, high in operands)
        (a2, b2), (c2, d2) = ((low.fmin(zero), high.fmin(zero)) for low, high in operands)
        low = self.apply(a1, c1) + self.apply(b1, c2) + self.apply(a2, d1) + self.apply(b2, d2)
        high = self.apply(b1, d1) + self.apply(a1, d2) + self.apply(b2, c1) + self.apply(a2, c2)
        m, n = (a + b) / 2, (c + d) / 2
        r, s = (b - a) / 2, (d - c) / 2
        middle, radius = self.apply(m, n), self.apply(m.abs(), s) + self.apply(r, n.abs() + s)
        low, high = torch.fmax(low, middle - radius) - lost, torch.fmin(high, middle + radius) + lost
        low, high = (torch.where(t.isnan(), end, t) for t, end in ((low, -torch.inf), (high, torch.inf)))
        may = lambda t: t.to(a.dtype)  # noqa: E731
        negative = self.apply(may(a < 0), may(d > 0)) + self.apply(may(b > 0), may(c < 0))
        positive = self.apply(may(b > 0), may(d > 0)) + self.apply(may(a < 0), may(c < 0))
        return torch.where(negative > 0, low, low.fmax(zero)), torch.where(positive > 0, high, high.fmin(zero))

    def planes(self, operands: Sequence[Interval], choice: Choice | None = None) -> BilinearPlanes:
        (a, b), (c, d) = operands
        low, high = (t.clamp(0, 1) for t in (self.default_choice(operands) if choice is None else choice))
        return BilinearPlanes(self, a, b, c, d, low, high)

    def reach(self, *sizes: Tensor) -> Tensor:
        return 12 * INFLATE * self.apply(*sizes)

    def terms(self, sizes: Sequence[int]) -> int:
        return self.longest + depth(max(sizes)) + 12

    def gaps(self, coefficient: Tensor, operands: Sequence[Interval]) -> tuple[Tensor, ...]:
        r, s = ((high - low)[:, None] for low, high in operands)
        size = coefficient.abs()
        return r * self.left(size, s) / 2, s * self.right(size, r) / 2

    def open(self, *operands: Interval) -> tuple[Tensor, ...]:
        """An entry is known well enough where all that it meets are points."""
        (a, b), (c, d) = operands
        loose, wide = (~(a == b)).to(a.dtype), (~(c == d)).to(a.dtype)
        every = self.apply(torch.ones_like(loose), torch.ones_like(wide))
        first = (loose > 0) & (self.left(torch.ones_like(every), wide) > 0)
        second = (wide > 0) & (self.right(torch.ones_like(every), loose) > 0)
        return first, second


@dataclass(frozen=True, eq=False)
class BilinearPlanes(AbstractPlanes):
    """See the essay: the factors' ends, (B, n_a) and (B, n_b), and the choice, (B, n_a) or (B, R, n_a)."""

    form: AbstractBilinear
    a: Tensor
    b: Tensor
    c: Tensor
    d: Tensor
    low: Tensor
    high: Tensor

    def _wide(self) -> tuple[Tensor, ...]:
        return tuple(t if t.ndim == 3 else t[:, None] for t in (self.a, self.b, self.c, self.d, self.low, self.high))

    def pull(self, coefficient: Tensor, weight: Tensor) -> Pulled:
        form, (a, b, c, d, t, s) = self.form, self._wide()
        up, down = coefficient.clamp(min=0), coefficient.clamp(max=0)
        t1, s1 = 1 - t, 1 - s
        # Below: (t c + t1 d) on a, (t a + t1 b) on b; above: (s d + s1 c) on a, (s a + s1 b) on b.
        with_c, with_d = form.left(up, c), form.left(up, d)
        with_c_, with_d_ = form.left(down, c), form.left(down, d)
        on_a = t * with_c + t1 * with_d + s * with_d_ + s1 * with_c_
        on_b = form.right(up, t * a + t1 * b) + form.right(down, s * a + s1 * b)
        gain = -inner(t * a, with_c) - inner(t1 * b, with_d) - inner(s * a, with_d_) - inner(s1 * b, with_c_)
        return Pulled((on_a, on_b), gain, absolute_dot(coefficient, weight))

    def value(self, lower: Tensor, arguments: Sequence[Tensor]) -> Tensor:
        form, (a, b, c, d, t, s) = self.form, self._wide()
        x, y = arguments

        def side(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
            rest = 1 - share
            total = form.apply(share * (x - a), first) + form.apply(rest * (x - b), second)
            return total + form.apply(share * a + rest * b, y)

        return torch.where(lower, side(c, d, t), side(d, c, s))

    def of(self, index: Tensor) -> BilinearPlanes:
        return BilinearPlanes(self.form, *(t[index] for t in (self.a, self.b, self.c, self.d, self.low, self.high)))


def inner(one: Tensor, two: Tensor) -> Tensor:  # (B, 1, n) or (B, R, n), (B, R, n) -> (B, R)
    """Inner products over the last axis, summed as `kernels.dot` does."""
    return dot(two, one[:, 0] if one.shape[1] == 1 else one)


@dataclass(frozen=True)
class MatrixProduct(AbstractBilinear):
    """`count` products of a p x q matrix and a q x r one, all flat and row by row: (count p q), (count q r) entries to
    (count p r)."""

    p: int
    q: int
    r: int
    count: int = 1
    name: str = "product of matrices"

    @property
    def longest(self) -> int:
        return max(self.p, self.q, self.r)

    def _first(self, a: Tensor) -> Tensor:
        return a.unflatten(-1, (self.count, self.p, self.q))

    def _second(self, b: Tensor) -> Tensor:
        return b.unflatten(-1, (self.count, self.q, self.r))

    def _output(self, y: Tensor) -> Tensor:
        return y.unflatten(-1, (self.count, self.p, self.r))

    def apply(self, a: Tensor, b: Tensor) -> Tensor:
        return (self._first(a) @ self._second(b)).flatten(-3)

    def left(self, y: Tensor, b: Tensor) -> Tensor:
        return (self._output(y) @ self._second(b).mT).flatten(-3)

    def right(self, y: Tensor, a: Tensor) -> Tensor:
        return (self._first(a).mT @ self._output(y)).flatten(-3)
