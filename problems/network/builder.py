"""A graph under construction: values with tensor shapes, and the few constructions every importer needs.

A `Graph` knows only flat vectors; while a file is read, each value also has the tensor shape the file gives it. The
builder appends nodes and hands out `Value`s. It takes no care to be economical: every ONNX operator becomes one
or more nodes of its own, and `simplify` fuses them afterwards.

Maxima are written with ReLUs, exactly: max(a, b) = a + relu(b - a). Larger ones are balanced trees of these, so that
a k-wide pool is ceil(log2 k) activation layers deep; pairs that several windows share are computed once.
Soundness: exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels.deadline import check
from .activation import AbstractActivation, ReLU
from .affine import AbstractLinear, Chain, Diagonal, Identity, Select
from .graph import Activation, Affine, Graph, Input, Node
from .ranges import Ranges

Term = tuple[AbstractLinear, "Value"]
Box = tuple[NDArray, NDArray]


@dataclass(frozen=True)
class Value:
    """The output of a node, seen as a tensor."""

    node: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape)


def tensor(array: NDArray) -> torch.Tensor:
    """A float64 tensor with its own memory."""
    return torch.from_numpy(np.array(array, dtype=np.float64, order="C"))


def select(index: NDArray, n_in: int) -> AbstractLinear:
    """The index map y[i] = x[index[i]] (-1: zero); `Identity` where it is."""
    index = np.array(index.reshape(-1), dtype=np.int64)  # a copy: broadcast arrays cannot be written to
    if len(index) == n_in and (index == np.arange(n_in)).all():
        return Identity(n_in)
    return Select(torch.from_numpy(index), n_in)


def scaled(operator: AbstractLinear, factor: float | NDArray, roundings: int = 1) -> AbstractLinear:
    """The operator followed by a multiplication with a number, or with one number an entry.

    `roundings` says how many unit roundoffs the factors may be away from the exact ones.
    """
    entries = tensor(np.broadcast_to(np.asarray(factor, np.float64).reshape(-1), (operator.n_out,)))
    diagonal = Diagonal(entries, None if roundings == 1 else roundings * entries.abs())
    return diagonal if isinstance(operator, Identity) else Chain((operator, diagonal))


def positions(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Each entry's place in the flat vector, in the tensor's shape."""
    return np.arange(prod(shape)).reshape(shape)


class Builder:
    """Appends nodes; `graph` closes it."""

    def __init__(self, input_shape: tuple[int, ...], name: str = "input", box: Box | None = None) -> None:
        """`box`: what the input is known to lie in, (n_in,) each; the network is then right on it alone."""
        self.nodes: list[Node] = [Input(prod(input_shape), name)]
        self.input = Value(0, input_shape)
        self.ranges = None if box is None else Ranges(*(tensor(side) for side in box))
        self.asked = False  # whether a construction wanted to know an interval

    def _append(self, node: Node, shape: tuple[int, ...]) -> Value:
        if not prod(shape):
            raise ValueError(f"its result has the shape {shape}, which is empty")
        self.nodes.append(node)
        return Value(len(self.nodes) - 1, shape)

    def affine(
        self, terms: Sequence[Term], shape: tuple[int, ...], bias: NDArray | float = 0.0, name: str = ""
    ) -> Value:
        """sum of operator(value) over the terms, plus a bias that broadcasts against `shape`."""
        flat = tensor(np.broadcast_to(np.asarray(bias, np.float64), shape).reshape(-1))
        operators = tuple(operator for operator, _ in terms)
        for operator, value in terms:
            if (operator.n_in, operator.n_out) != (value.size, len(flat)):
                raise ValueError(
                    f"its weights take {operator.n_in} numbers to {operator.n_out}, and its input and its result have "
                    f"{value.size} and {len(flat)}"
                )
        return self._append(Affine(tuple(value.node for _, value in terms), operators, flat, name), shape)

    def activation(self, x: Value, function: AbstractActivation, name: str = "") -> Value:
        """function(x), entry by entry."""
        return self._append(Activation((x.node,), function, x.size, name), x.shape)

    def constant(self, value: NDArray | float, shape: tuple[int, ...], name: str = "") -> Value:
        """A value that does not depend on the input, as a node that reads the input and ignores it."""
        nothing = select(np.full(prod(shape), -1), self.input.size)
        return self.affine([(nothing, self.input)], shape, value, name)

    def interval(self, x: Value) -> tuple[NDArray, NDArray] | None:
        """Lower and upper bounds (n,) of x's entries on the box, outward rounded; None where no box is known."""
        self.asked = True
        if self.ranges is None:
            return None
        low, high = self.ranges.of(self.nodes, x.node)
        return low.numpy(), high.numpy()

    def narrow(self, x: Value, lower: NDArray, upper: NDArray) -> None:
        """x's entries are known to lie in [lower, upper] on the box."""
        if self.ranges is not None:
            self.ranges.narrow(self.nodes, x.node, tensor(lower), tensor(upper))

    def relu(self, x: Value, name: str = "") -> Value:
        """max(x, 0)."""
        return self.activation(x, ReLU(), name)

    def select(self, x: Value, index: NDArray, name: str = "") -> Value:
        """x's entries at the flat positions `index`, in the shape of `index`; a mere reshape costs no node."""
        operator = select(index, x.size)
        if isinstance(operator, Identity):
            return Value(x.node, index.shape)
        return self.affine([(operator, x)], index.shape, name=name)

    def broadcast(self, x: Value, shape: tuple[int, ...]) -> AbstractLinear:
        """The operator that repeats x's entries into `shape`."""
        return select(np.broadcast_to(positions(x.shape), shape), x.size)

    def maximum(self, x: Value, windows: NDArray, shape: tuple[int, ...], name: str = "") -> Value:
        """For each row of `windows` (flat positions in x, -1 for none) the largest of those entries of x."""
        if windows.min(initial=0) < 0:
            empty_last = np.argsort(windows < 0, axis=1, kind="stable")
            windows = np.take_along_axis(windows, empty_last, axis=1)
        if (windows[:, 0] < 0).any():
            raise ValueError("a pooling window holds padding only")
        while (windows := windows[:, (windows >= 0).any(0)]).shape[1] > 1:
            x, windows = self._halve(x, windows, name)
        return self.select(x, windows[:, 0].reshape(shape), name)

    def _halve(self, x: Value, windows: NDArray, name: str) -> tuple[Value, NDArray]:
        """Replace neighbours in each window by their maximum: the maxima, and the windows in terms of them."""
        if windows.shape[1] % 2:
            windows = np.pad(windows, ((0, 0), (0, 1)), constant_values=-1)
        check()
        pairs = windows.reshape(len(windows), -1, 2) + 1  # 0 for none; one number for each pair sorts ten times faster
        kept, where = np.unique(pairs[..., 0] * (x.size + 1) + pairs[..., 1], return_inverse=True)
        where = where.reshape(pairs.shape[:2])
        empty = int(kept[0] == 0)  # the pair of two nones, if there is one, sorts first
        kept, where = kept[empty:], where - empty
        first, second = kept // (x.size + 1) - 1, kept % (x.size + 1) - 1
        check()
        real = np.flatnonzero(second >= 0)
        count = (len(real),)
        plus, minus = select(second[real], x.size), scaled(select(first[real], x.size), -1)
        gain = self.relu(self.affine([(plus, x), (minus, x)], count, name=name), name)
        place = np.full(len(kept), -1)
        place[real] = np.arange(len(real))
        largest = self.affine([(select(first, x.size), x), (select(place, len(real)), gain)], (len(kept),), name=name)
        return largest, where

    def graph(self, output: Value) -> Graph:
        """The finished network; nodes after `output` are dropped."""
        return Graph(tuple(self.nodes[: output.node + 1]), self.input.shape, output.shape)
