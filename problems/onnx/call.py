"""One ONNX node being imported: its arguments, attributes and the sentences that refuse it.

An argument is a numpy array where its value is known (weights, shapes and whatever is computed from them, in the
file's own element type), or a `Value` where it depends on the network's input. Constants become float64 only
when they enter the graph, through `weights`, which is also where NaN and infinity are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from ..network.builder import Builder, Value

Argument = NDArray | Value


@dataclass(frozen=True, eq=False)
class Call:
    """An operator, its arguments and attributes."""

    builder: Builder
    kind: str  # the operator's name, such as "Conv"
    name: str  # the node's name
    opset: int
    arguments: tuple[Argument | None, ...]
    names: tuple[str, ...]  # of the arguments' tensors
    attributes: dict[str, Any]
    outputs: int  # how many outputs the node lists

    def refuse(self, why: str) -> BadInput:
        """The error for this node: `raise call.refuse("...")`."""
        return BadInput(f"{self.kind} (node '{self.name}') {why}")

    def attribute(self, key: str, default: Any = None) -> Any:
        """An attribute's value; byte strings come as text."""
        value = self.attributes.get(key, default)
        return value.decode() if isinstance(value, bytes) else value

    def has(self, i: int) -> bool:
        """Whether the optional argument i is given."""
        return i < len(self.arguments) and self.arguments[i] is not None

    def argument(self, i: int) -> Argument:
        """Argument i, known or not."""
        x = self.arguments[i] if i < len(self.arguments) else None
        if x is None:
            raise self.refuse(f"lacks its input {i}; the file is damaged")
        return x

    def variable(self, i: int) -> Value:
        """Argument i, which must depend on the network's input (all-constant calls never get here)."""
        x = self.argument(i)
        if not isinstance(x, Value):
            raise self.refuse(
                f"has a constant as its input {i} ('{self.names[i]}') and a variable elsewhere; unsupported"
            )
        return x

    def constant(self, i: int, what: str) -> NDArray:
        """Argument i, which must not depend on the network's input."""
        x = self.argument(i)
        if isinstance(x, Value):
            raise self.refuse(
                f"has {what} ('{self.names[i]}') that depend on the network's input; they must be constant"
            )
        return x

    def weights(self, i: int, what: str = "weights") -> NDArray[np.float64]:
        """Argument i as finite float64 numbers."""
        return self.finite(self.constant(i, what), i)

    def finite(self, x: NDArray, i: int) -> NDArray[np.float64]:
        """x as float64; `BadInput` with the tensor's name where it holds NaN or infinity."""
        x = np.asarray(x, np.float64)
        if not np.isfinite(x).all():
            what = "NaN" if np.isnan(x).any() else "infinity"
            raise BadInput(
                f"tensor '{self.names[i]}' of {self.kind} (node '{self.name}') contains {what}; "
                "a network with such weights cannot be verified"
            )
        return x

    def integers(self, key: str, i: int | None = None, default: list[int] | None = None) -> list[int]:
        """Integers given as attribute `key` in old opsets and as argument `i` in new ones; `BadInput` without either,
        unless there is a default."""
        found = self.integers_or_none(key, i)
        if found is None and default is None:
            raise self.refuse(f"lacks its {key}; the file is damaged")
        return default or [] if found is None else found

    def integers_or_none(self, key: str, i: int | None = None) -> list[int] | None:
        """`integers` that need not be given."""
        if key in self.attributes:
            value = self.attributes[key]
            return [int(v) for v in value] if not isinstance(value, int) else [value]
        if i is not None and self.has(i):
            return [int(v) for v in self.constant(i, key).reshape(-1)]
        return None
