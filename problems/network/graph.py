"""A network as a directed acyclic graph with three kinds of node: affine, elementwise activation, multivariate.

Three kinds suffice because bounds treat everything linear alike: any linear map of one or several earlier nodes
(sums, skips and concatenations included) is one `Affine` node, y = sum_i A_i x_i + b. `Activation` applies one
scalar function to every entry; `Multivariate` joins several variables: products of nodes or of matrices, functions of
a whole group (`multivariate`). MaxPool, Clip, Abs, Min and Max are written with these (see `simplify`). Whoever bounds
networks sees the nonlinear nodes as `layers` (`layer`).

Every value is a flat float vector `(*batch, n)`; nodes refer to each other by their position, and stand in
topological order. Weights are float64; `Graph.to` makes the copy a computation runs with. Nodes hold no state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ...kernels.deadline import check
from ..errors import BadInput
from .activation import AbstractActivation
from .affine import AbstractLinear
from .layer import Layer, Operand
from .multivariate import AbstractMultivariate

LARGE = 1 << 18  # entries of a value whose gradient takes a while


@dataclass(frozen=True, eq=False)
class Input:
    """The network's input; always node 0."""

    size: int
    name: str = "input"
    inputs: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Affine:
    """y = sum_i operators[i](x_inputs[i]) + bias.

    `rounded`: its numbers may be off, by no more than rounding, what the file says; an operator with a `scale` says
    so by itself, and for a folded bias `doubt` does: |exact - bias| <= doubt, entry by entry.
    """

    inputs: tuple[int, ...]
    operators: tuple[AbstractLinear, ...]
    bias: Tensor  # (n,)
    name: str = ""
    rounded: bool = False
    doubt: Tensor | None = None  # (n,); None: the bias is exact

    @property
    def size(self) -> int:
        return len(self.bias)

    def bias_sides(self) -> tuple[Tensor, Tensor]:  # (n,), (n,)
        """Numbers of the signs that the exact bias has: at most, and at least, what it is."""
        return (self.bias, self.bias) if self.doubt is None else (self.bias - self.doubt, self.bias + self.doubt)

    def apply(self, values: Sequence[Tensor]) -> Tensor:
        """The node's value, given the values of `inputs` in their order."""
        total = self.bias
        for operator, value in zip(self.operators, values, strict=True):
            total = operator.apply(value) + total
        return total


@dataclass(frozen=True, eq=False)
class Activation:
    """y = function(x), entry by entry; its input is the pre-activation."""

    inputs: tuple[int, ...]  # one
    function: AbstractActivation
    size: int
    name: str = ""


@dataclass(frozen=True, eq=False)
class Multivariate:
    """y = function(x_inputs[0], x_inputs[1], ...), see `multivariate`."""

    inputs: tuple[int, ...]  # one for each operand
    function: AbstractMultivariate
    size: int
    name: str = ""


Node = Input | Affine | Activation | Multivariate


@dataclass(frozen=True, eq=False)
class Graph:
    """A network; the last node is its output.

    `input_shape` and `output_shape` are the original file's, without what flattening loses, `element_type` that of its
    input as VNN-LIB names it ("float32"), empty where there is no file.
    """

    nodes: tuple[Node, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    element_type: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.nodes[0], Input):
            raise ValueError("node 0 of a Graph must be its Input")
        for position, node in enumerate(self.nodes):
            if any(i >= position for i in node.inputs):
                raise ValueError(f"node {position} ({node.name}) uses a node that does not come before it")

    @property
    def input_size(self) -> int:
        return self.nodes[0].size

    @property
    def output_size(self) -> int:
        return self.nodes[-1].size

    @property
    def output(self) -> int:
        return len(self.nodes) - 1

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The nonlinear nodes, in order."""
        layers: list[Layer] = []
        start = 0
        for position, node in enumerate(self.nodes):
            if isinstance(node, Activation | Multivariate):
                operands = []
                for index, source in enumerate(node.inputs):
                    stop = start + self.nodes[source].size
                    operands.append(Operand(position, index, source, slice(start, stop)))
                    start = stop
                layers.append(Layer(position, tuple(operands), node.size, node.name, node.function))
        return tuple(layers)

    @cached_property
    def layer_at(self) -> dict[int, Layer]:
        """The nonlinear nodes by position."""
        return {layer.position: layer for layer in self.layers}

    @cached_property
    def operands(self) -> tuple[Operand, ...]:
        """What the nonlinear nodes read, in the order of the numbering of neurons."""
        return tuple(operand for layer in self.layers for operand in layer.operands)

    @cached_property
    def neurons(self) -> int:
        """Number of neurons: of pre-activations, the entries of all operands."""
        return sum(operand.size for operand in self.operands)

    @property
    def piecewise_linear(self) -> bool:
        """Whether every nonlinear node is, so that deciding neurons makes the network affine."""
        return all(layer.elementwise is not None and bool(layer.elementwise.pieces) for layer in self.layers)

    def affine(self, position: int) -> Affine:
        """The node at `position`, known to be affine."""
        node = self.nodes[position]
        if not isinstance(node, Affine):
            raise TypeError(f"node {position} ({node.name}) is no affine node")
        return node

    @cached_property
    def like(self) -> Tensor:
        """A tensor of the dtype and on the device of the weights."""
        return next(node.bias for node in reversed(self.nodes) if isinstance(node, Affine))

    @property
    def widest(self) -> int:
        """Size of the largest node, the input among them."""
        return max(node.size for node in self.nodes)

    @cached_property
    def largest(self) -> float:
        """The largest absolute value among weights and biases."""
        tensors = [node.bias for node in self.nodes if isinstance(node, Affine)]
        tensors += [t for node in self.nodes if isinstance(node, Affine) for a in node.operators for t in a.weights()]
        return max((max(abs(float(end)) for end in torch.aminmax(t)) for t in tensors if t.numel()), default=0.0)

    def check_univariate(self, who: str) -> None:
        """Raises `BadInput`, by name, for a layer of several variables, which `who` cannot treat."""
        for layer in self.layers:
            if layer.elementwise is None:
                raise BadInput(
                    f"node {layer.name or layer.position!r} is a {layer.kind}, a function of several variables, which "
                    f"{who} cannot treat; intervals and linear bounds can (ibp, crown, alpha-crown)"
                )

    def values(self, x: Tensor) -> list[Tensor]:  # (*batch, n_in) -> one (*batch, n) a node
        """The value of every node at the inputs x."""
        values: list[Tensor] = [x]
        for node in self.nodes[1:]:
            check()
            arguments = [values[i] for i in node.inputs]
            match node:
                case Affine():
                    values.append(node.apply(arguments))
                case Activation():
                    values.append(node.function.value(arguments[0]))
                case Multivariate():
                    values.append(node.function.value(*arguments))
            if values[-1].requires_grad and values[-1].numel() > LARGE:
                values[-1].register_hook(_checked)  # the pass back is one call, and may be long
        return values

    def __call__(self, x: Tensor) -> Tensor:  # (*batch, n_in) -> (*batch, n_out)
        return self.values(x)[-1]

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Graph:
        """The same network with weights in `dtype` on `device`."""

        def moved(node: Node) -> Node:
            check()
            if not isinstance(node, Affine):
                return node
            return replace(
                node,
                operators=tuple(op.to(dtype, device) for op in node.operators),
                bias=_stored(node.bias, dtype).to(device),
                doubt=_upward(node.doubt, dtype, device),
            )

        return replace(self, nodes=tuple(moved(node) for node in self.nodes))


def _checked(gradient: Tensor) -> None:
    check()


def _upward(doubt: Tensor | None, dtype: torch.dtype, device: torch.device | str) -> Tensor | None:
    """A bound in another dtype; where it is not zero it stays so."""
    if doubt is None or doubt.dtype == dtype:
        return None if doubt is None else doubt.to(device)
    return ((1 + 1e-6) * doubt + 2 * torch.finfo(dtype).tiny * (doubt > 0)).to(device, dtype)


def _stored(bias: Tensor, dtype: torch.dtype) -> Tensor:
    """The bias in `dtype`; what lies below its normal numbers becomes the smallest of them, and so keeps its sign."""
    tiny = torch.finfo(dtype).tiny
    small = (bias != 0) & (bias.abs() < tiny)
    return torch.where(small, torch.copysign(bias.new_tensor(tiny), bias), bias).to(dtype)
