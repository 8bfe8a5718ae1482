"""Is a point unsafe for the network over the real numbers? The cheapest arithmetic that can tell.

1. One pass in float64 with its own error bound, on the graph that the search works with (`at_point`).
2. Where the sign of a row is within that error: the network as it was written, before its layers were fused; in exact
   arithmetic (`exact_network`) where it has a rational value and few enough multiplications, else in float64 again.
3. Where that cannot tell either, because the network is too deep for intervals and too large for exact arithmetic, the
   same pass with measured ranges of neurons; the answer says so.

Soundness: exact or outward rounded, but for measured answers, which are statistical. "Cannot be told" is an answer, and
counts as no.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from ...problems.network.exact_network import exact_outputs, exactly_known, multiplications
from ...problems.network.graph import Graph
from ...problems.properties.property import Array, UnsafeSet
from ...problems.properties.rational import Numbers
from ..effort import LEAF
from .at_point import AtPoint


@dataclass(frozen=True)
class Answer:
    """`unsafe`: every row holds (True), some row does not (False), or float64 cannot tell (None). `row`: the one that
    is farthest from holding, which lies between `least` and `most`; the two are equal where they are exact."""

    unsafe: bool | None
    row: int
    least: Fraction | float
    most: Fraction | float
    measured: bool = False  # what rounding does to neurons was measured, not bounded


class OverReals:
    """The network as a function over the reals, judging points. `graph` is in float64 on the CPU; `written` gives the
    network before fusion, where that is another graph."""

    def __init__(self, graph: Graph, written: Callable[[], Graph] | None = None, products: int = LEAF.products) -> None:
        """`products`: multiplications of one evaluation up to which exact arithmetic is tried."""
        self.graph, self._written, self.products = graph, written, products

    @cached_property
    def fused(self) -> AtPoint:
        """Float64 on the graph of the search."""
        return AtPoint(self.graph)

    @cached_property
    def written(self) -> Graph:
        """The network as it was written, where fusing it has rounded anything."""
        return self.graph if self._written is None or exactly_known(self.graph) else self._written()

    @cached_property
    def exact(self) -> bool:
        """Whether exact arithmetic is tried."""
        return exactly_known(self.written) and multiplications(self.written) <= self.products

    def judge(self, x: Numbers, unsafe: UnsafeSet) -> Answer:
        """Whether the output at x is in the unsafe set."""
        if not len(unsafe.rows):
            return Answer(True, 0, -np.inf, -np.inf)
        answer = _told(*self.fused.rows(x, unsafe))
        if answer.unsafe is not None:
            return answer
        if self.exact:
            return self._exactly(x, unsafe)
        if self.written is not self.graph:
            answer = _told(*self.unfused.rows(x, unsafe))
        if answer.unsafe is None:
            measured = _told(*self.unfused.rows(x, unsafe, measured=True))
            answer = answer if measured.unsafe is None else replace(measured, measured=True)
        return answer

    def _exactly(self, x: Numbers, unsafe: UnsafeSet) -> Answer:
        point = list(x)
        y = exact_outputs(self.written, point)
        values = [row.value(y, point) for row in unsafe.meaning]
        worst = max(range(len(values)), key=values.__getitem__)
        return Answer(unsafe.holds(point, y), worst, values[worst], values[worst])

    @cached_property
    def unfused(self) -> AtPoint:
        """Float64 on the network as it was written."""
        return self.fused if self.written is self.graph else AtPoint(self.written)


def _told(least: Array, most: Array) -> Answer:  # (R,), (R,)
    """What enclosures of the rows say. A bound of exactly zero is left to exact arithmetic, strict row or not."""
    least, most = np.nan_to_num(least, nan=-np.inf), np.nan_to_num(most, nan=np.inf)
    worst = int(most.argmax())
    unsafe = True if most[worst] < 0 else False if least.max() > 0 else None
    if unsafe is False:
        worst = int(least.argmax())
    return Answer(unsafe, worst, float(least[worst]), float(most[worst]))
