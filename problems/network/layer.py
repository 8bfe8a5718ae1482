"""The nonlinear nodes of a graph as whoever bounds networks speaks of them: layers, their operands, their neurons.

A neuron is a pre-activation: an entry of what a layer reads. A layer of one variable reads one node, a product two; all
entries of all operands of all layers stand in one flat numbering, by which everything of all neurons is sliced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..errors import BadInput
from .activation import AbstractActivation
from .multivariate import AbstractMultivariate, Choice, Interval


@dataclass(frozen=True, eq=False)
class Operand:
    """One node that a layer reads."""

    layer: int  # the position of the layer's node
    index: int  # which of the layer's operands it is
    source: int  # of the node that is read
    span: slice  # where its entries stand in the numbering of all neurons

    @property
    def size(self) -> int:
        """Its number of entries."""
        return self.span.stop - self.span.start


@dataclass(frozen=True, eq=False)
class Layer:
    """A nonlinear node.

    What belongs to a function of one variable (`elementwise`, `source`, `leak`) is refused by name for others.
    """

    position: int  # of the node
    operands: tuple[Operand, ...]
    outputs: int  # entries of the node's value
    name: str
    nonlinearity: AbstractActivation | AbstractMultivariate

    @property
    def span(self) -> slice:
        """Where its neurons stand, those of all operands."""
        return slice(self.operands[0].span.start, self.operands[-1].span.stop)

    @property
    def size(self) -> int:
        """Its number of neurons."""
        return self.span.stop - self.span.start

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.name or f"node {self.position}"

    @property
    def kind(self) -> str:
        """What its function is called."""
        return self.nonlinearity.name

    @property
    def elementwise(self) -> AbstractActivation | None:
        """The function of one variable; None where it has several."""
        return self.nonlinearity if isinstance(self.nonlinearity, AbstractActivation) else None

    @property
    def several(self) -> AbstractMultivariate:
        """The function of several variables."""
        assert isinstance(self.nonlinearity, AbstractMultivariate), "asked of a layer of one variable"
        return self.nonlinearity

    @property
    def function(self) -> AbstractActivation:
        """The function of an activation."""
        if self.elementwise is None:
            raise BadInput(f"layer {self.title!r} is a {self.kind}, and no function of one variable")
        return self.elementwise

    @property
    def leak(self) -> float:
        """The slope left of zero of a (leaky) ReLU."""
        leak = self.function.leak
        if leak is None:
            raise BadInput(f"layer {self.title!r} is {self.function.name}, where a ReLU or LeakyReLU is meant")
        return leak

    @property
    def is_relu(self) -> bool:
        """Whether it is a (leaky) ReLU, so that it has a `leak`."""
        return self.elementwise is not None and self.elementwise.leak is not None

    @property
    def source(self) -> int:
        """The node that holds an activation's pre-activations."""
        if self.elementwise is None:
            raise BadInput(f"layer {self.title!r} is a {self.kind}, where a function of one variable is meant")
        return self.operands[0].source

    # What all kinds of layer have, one operand or several, each known between two ends.

    def interval(self, operands: Sequence[Interval]) -> Interval:
        """Bounds of its outputs, outward rounded."""
        if self.elementwise is not None:
            return self.elementwise.interval(*operands[0])
        return self.several.interval(*operands)

    def undecided(self, operands: Sequence[Interval]) -> tuple[Tensor, ...]:  # (B, n_o) bool each
        """Which neurons could be known better to some use."""
        if self.elementwise is not None:
            return (~self.elementwise.decided(*operands[0]),)
        return self.several.open(*operands)

    def default_choice(self, operands: Sequence[Interval]) -> Choice:
        """What its lines or planes choose by themselves, for each entry of the first operand."""
        if self.elementwise is not None:
            return self.elementwise.default_choice(*operands[0])
        return self.several.default_choice(operands)

    def split_point(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where splitting a neuron's interval helps most."""
        return lower / 2 + upper / 2 if self.elementwise is None else self.elementwise.split_point(lower, upper)
