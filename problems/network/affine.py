"""Linear operators on flat vectors: apply, adjoint, absolute value.

Every value in a `Graph` is a flat vector `(*batch, n)`; an operator knows the tensor shape it works in. That makes
Reshape and Flatten vanish, lets one `Select` (an index map) serve Transpose, Slice, Gather, Concat, Pad, Expand and
nearest Resize, and its adjoint (a scatter-add) serve ReduceSum and Concat.

An operator is three maps: `apply` (x -> A x), `adjoint` (y -> A^T y, what back-substitution needs) and `absolute`
(the operator |A|, what interval arithmetic and rounding bounds need). Two more facts serve rounding analysis:
`terms` is the length of the longest inner product in either direction, and `magnitude()` is an operator M >= |A|
entry by entry such that the stored entries differ from the exact ones by at most `terms * unit_roundoff * M`
(it differs from |A| only where a product of matrices was folded).

An operator without a hand-written adjoint takes it from `torch.func.vjp` of its apply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.arithmetic import direct_convolution
from ...kernels.deadline import spent
from ...kernels.work import MOST, in_parts
from .operator import AbstractLinear


@dataclass(frozen=True, eq=False)
class Identity(AbstractLinear):
    """x -> x."""

    n: int

    @property
    def n_in(self) -> int:
        return self.n

    @property
    def n_out(self) -> int:
        return self.n

    def apply(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y

    def absolute(self) -> Identity:
        return self

    @property
    def terms(self) -> int:
        return 1


@dataclass(frozen=True, eq=False)
class Dense(AbstractLinear):
    """x -> W x for each of `repeat` consecutive segments of x (a MatMul on the last axis of a tensor).

    `scale`, where a product of matrices was folded into W, bounds the entries of the product of absolute values.
    """

    weight: Tensor  # (m, n)
    repeat: int = 1
    scale: Tensor | None = None  # (m, n)

    @property
    def n_in(self) -> int:
        return self.repeat * self.weight.shape[1]

    @property
    def n_out(self) -> int:
        return self.repeat * self.weight.shape[0]

    def apply(self, x: Tensor) -> Tensor:
        return self._times(x, self.weight.mT)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._times(y, self.weight)

    def _times(self, x: Tensor, matrix: Tensor) -> Tensor:
        """Each segment of x times the matrix."""
        if x.numel() * matrix.shape[-1] > MOST and x.ndim > 1:
            rows = x.reshape(-1, matrix.shape[0])
            found = in_parts(lambda part: part @ matrix, rows, float(matrix.numel()))
            return found.reshape(*x.shape[:-1], self.repeat * matrix.shape[1])
        spent(x.numel() * matrix.shape[-1])
        if self.repeat == 1:
            return x @ matrix
        return (x.unflatten(-1, (self.repeat, -1)) @ matrix).flatten(-2)

    def absolute(self) -> Dense:
        return Dense(self.weight.abs(), self.repeat)

    def magnitude(self) -> Dense:
        return self.absolute() if self.scale is None else Dense(self.scale, self.repeat)

    @property
    def terms(self) -> int:
        return max(self.weight.shape)

    def rows(self, index: Tensor, dtype: torch.dtype) -> Tensor:
        return self.weight[index].to(dtype) if self.repeat == 1 else super().rows(index, dtype)


@dataclass(frozen=True, eq=False)
class Diagonal(AbstractLinear):
    """x -> factor * x, entry by entry. `scale` as in `Dense`."""

    factor: Tensor  # (n,)
    scale: Tensor | None = None  # (n,)

    @property
    def n_in(self) -> int:
        return len(self.factor)

    @property
    def n_out(self) -> int:
        return len(self.factor)

    def apply(self, x: Tensor) -> Tensor:
        return x * self.factor

    def adjoint(self, y: Tensor) -> Tensor:
        return y * self.factor

    def absolute(self) -> Diagonal:
        return Diagonal(self.factor.abs())

    def magnitude(self) -> Diagonal:
        return self.absolute() if self.scale is None else Diagonal(self.scale)

    @property
    def terms(self) -> int:
        return 1


@dataclass(frozen=True, eq=False)
class Select(AbstractLinear):
    """y[i] = x[index[i]], and zero where index[i] is -1: an index map.

    Its adjoint is a scatter-add; `Adjoint(Select(...))` places a vector into a longer one or sums segments.
    """

    index: Tensor  # (n_out,) integer, -1 for zero
    n: int  # entries of x
    full: bool = field(init=False)  # no -1 among the indices; kept because asking a GPU tensor would wait for it

    def __post_init__(self) -> None:
        object.__setattr__(self, "full", bool((self.index >= 0).all()))

    @property
    def n_in(self) -> int:
        return self.n

    @property
    def n_out(self) -> int:
        return len(self.index)

    def apply(self, x: Tensor) -> Tensor:
        if self.full:
            return x.index_select(-1, self.index)
        return x.index_select(-1, self.index.clamp(min=0)) * (self.index >= 0)

    def adjoint(self, y: Tensor) -> Tensor:
        if not self.full:
            y = y * (self.index >= 0)
        return y.new_zeros(*y.shape[:-1], self.n_in).index_add_(-1, self.index.clamp(min=0), y)

    def absolute(self) -> Select:
        return self

    @property
    def terms(self) -> int:
        used = self.index[self.index >= 0]
        return max(1, int(torch.bincount(used.cpu(), minlength=1).max())) if len(used) else 1


@dataclass(frozen=True, eq=False)
class Conv(AbstractLinear):
    """Convolution in one or two space dimensions, zero padding, as PyTorch defines it. `scale` as in `Dense`."""

    weight: Tensor  # (out_channels, in_channels / groups, *kernel)
    in_shape: tuple[int, ...]  # (channels, *space)
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]  # (before, after) for each space dimension
    dilation: tuple[int, ...]
    groups: int = 1
    scale: Tensor | None = None  # of weight's shape
    out_shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        channels, (out, each) = self.in_shape[0], self.weight.shape[:2]
        if self.groups < 1 or each * self.groups != channels or out % self.groups:
            raise ValueError(f"weights {tuple(self.weight.shape)} in {self.groups} groups, and {channels} channels")
        if min(*self.stride, *self.dilation) < 1:
            raise ValueError(f"strides {self.stride} and dilations {self.dilation}; they must be positive")
        space = tuple(
            (size + sum(pad) - dilation * (kernel - 1) - 1) // stride + 1
            for size, pad, dilation, kernel, stride in zip(
                self.in_shape[1:], self.padding, self.dilation, self.weight.shape[2:], self.stride, strict=True
            )
        )
        object.__setattr__(self, "out_shape", (self.weight.shape[0], *space))

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Conv:
        return replace(self, weight=self.weight.to(device, dtype), scale=self._moved_scale(dtype, device))

    @property
    def n_in(self) -> int:
        return prod(self.in_shape)

    @property
    def n_out(self) -> int:
        return prod(self.out_shape)

    @property
    def _symmetric(self) -> bool:
        return all(before == after for before, after in self.padding)

    @property
    def _pads(self) -> list[int]:
        return [p for pad in reversed(self.padding) for p in pad]

    def apply(self, x: Tensor) -> Tensor:
        convolve = F.conv1d if len(self.stride) == 1 else F.conv2d
        y = in_parts(lambda image: self._convolved(convolve, image), x.reshape(-1, *self.in_shape), self._price)
        return y.reshape(*x.shape[:-1], self.n_out)

    @property
    def _price(self) -> float:
        """Multiplications for one image."""
        return float(prod(self.out_shape[1:]) * self.weight.numel())

    def _convolved(self, convolve: Callable[..., Tensor], image: Tensor) -> Tensor:
        padding = tuple(before for before, _ in self.padding)
        if not self._symmetric:
            image, padding = F.pad(image, self._pads), (0,) * len(self.stride)
        with direct_convolution(image):
            return convolve(image, self.weight, None, self.stride, padding, self.dilation, self.groups)

    def adjoint(self, y: Tensor) -> Tensor:
        spread = F.conv_transpose1d if len(self.stride) == 1 else F.conv_transpose2d
        padded = [size + sum(pad) for size, pad in zip(self.in_shape[1:], self.padding, strict=True)]
        # What strides leave over at the far edge must be given back, or the shape comes out short.
        left_over = tuple(
            full - ((out - 1) * stride + dilation * (kernel - 1) + 1)
            for full, out, stride, dilation, kernel in zip(
                padded, self.out_shape[1:], self.stride, self.dilation, self.weight.shape[2:], strict=True
            )
        )
        padding = tuple(before for before, _ in self.padding) if self._symmetric else (0,) * len(self.stride)

        def spread_out(image: Tensor) -> Tensor:
            with direct_convolution(image):
                return spread(image, self.weight, None, self.stride, padding, left_over, self.groups, self.dilation)

        x = in_parts(spread_out, y.reshape(-1, *self.out_shape), self._price)
        if not self._symmetric:
            x = F.pad(x, [-p for p in self._pads])
        return x.reshape(*y.shape[:-1], self.n_in)

    def absolute(self) -> Conv:
        return replace(self, weight=self.weight.abs(), scale=None)

    def magnitude(self) -> Conv:
        return self.absolute() if self.scale is None else replace(self, weight=self.scale, scale=None)

    @property
    def terms(self) -> int:
        inner = prod(self.weight.shape[1:])
        return max(inner, prod(self.weight.shape[2:]) * self.weight.shape[0] // self.groups)


@dataclass(frozen=True, eq=False)
class Adjoint(AbstractLinear):
    """The transpose of an operator: ConvTranspose from Conv, scatter from Select."""

    inner: AbstractLinear

    @property
    def n_in(self) -> int:
        return self.inner.n_out

    @property
    def n_out(self) -> int:
        return self.inner.n_in

    def apply(self, x: Tensor) -> Tensor:
        return self.inner.adjoint(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.apply(y)

    def absolute(self) -> Adjoint:
        return Adjoint(self.inner.absolute())

    def magnitude(self) -> Adjoint:
        return Adjoint(self.inner.magnitude())

    @property
    def terms(self) -> int:
        return self.inner.terms


@dataclass(frozen=True, eq=False)
class Chain(AbstractLinear):
    """The product of operators, applied first to last.

    `absolute` is the product of the absolute operators, which is only an upper bound on the entries of |A|; the
    simplifier therefore never puts two summing operators into one chain.
    """

    parts: tuple[AbstractLinear, ...]

    @property
    def n_in(self) -> int:
        return self.parts[0].n_in

    @property
    def n_out(self) -> int:
        return self.parts[-1].n_out

    def apply(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part.apply(x)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            y = part.adjoint(y)
        return y

    def absolute(self) -> Chain:
        return Chain(tuple(part.absolute() for part in self.parts))

    def magnitude(self) -> Chain:
        return Chain(tuple(part.magnitude() for part in self.parts))

    @property
    def terms(self) -> int:
        return sum(part.terms for part in self.parts)
