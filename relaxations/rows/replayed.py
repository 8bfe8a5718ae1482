"""A root's or a base's generations of bounds and rows, proved again in their order: the checking side of `ledger`.

Each step is evaluated over what the steps before it leave (`linear.recomputed`): bounds of a layer by their
multipliers, rows of single neurons by the maximum over the box of what the neuron reads. Rows of groups of neurons
(k-ReLU, PRIMA) rest on the hull of an octahedron, which is not made again: they are counted in `trusted`.

Soundness: outward rounded, those rows apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...kernels.proof_constants import MISSED
from ...kernels.separation import certified_offset
from ...problems.network.graph import Graph
from ..effort import ROWS
from ..linear.neuron_rows import Facets
from ..linear.recomputed import Recomputed, widened
from ..linear.row_multipliers import NeuronRows
from ..types import Pieces
from .ledger import BoundRows, FoundRows, Step
from .separation import doubt_of, input_box

Key = tuple[object, ...]


@dataclass(eq=False)
class Replay:
    """One set of inputs, one piece, whose bounds improve step by step. `agree`: everything claimed was reached."""

    made: Recomputed
    pieces: Pieces  # (1), in float64
    known: set[Key] = field(default_factory=set)  # the rows that hold on it
    agree: bool = True
    trusted: int = 0  # rows

    def take(self, steps: Sequence[Step]) -> None:
        """Further steps."""
        for step in steps:
            if isinstance(step, FoundRows):
                self._rows(step)
            else:
                self._bounds(step)

    def holds(self, neuron_rows: NeuronRows | None) -> bool:
        """Whether all these rows were found on the way."""
        return all(
            key in self.known for layer in (neuron_rows.layers if neuron_rows else ()) for key in keys(layer.facets)
        )

    def _bounds(self, step: BoundRows) -> None:
        graph, node = self.made.graph, step.node
        rows = widened(step.rows)
        coefficients = rows.coefficients[0]
        index, count = coefficients.abs().argmax(1), len(coefficients) // 2
        sign = coefficients.gather(1, index[:, None])[:, 0]
        unit = (coefficients.abs().sum(1) == 1) & (sign.abs() == 1)
        if not (bool(unit.all()) and bool((rows.constants == 0).all()) and rows.on_input is None):
            raise ValueError("a ledger bounds single neurons from both sides")
        self.agree &= self.holds(step.neuron_rows)
        scales = self.made.scales_of_one(self.pieces)
        neuron_rows = None if step.neuron_rows is None else step.neuron_rows.to(graph, scales)
        price = None if step.price is None else step.price.double()
        given = widened(step.multipliers)
        found = self.made.rows(self.pieces, rows, given, price, neuron_rows, (node, scales)).lower[0]
        claim = step.lower[0].double()
        self.agree &= bool((found >= claim - MISSED * (1 + claim.abs())).all())
        found = torch.minimum(found, claim)  # as it was used, as far as it was proved
        low, high = self.pieces.pre_lower.clone(), self.pieces.pre_upper.clone()
        for operand in graph.operands:
            if operand.source == node:
                lower, upper = low[0, operand.span], high[0, operand.span]  # views
                lower[index[:count]] = torch.fmax(lower[index[:count]], found[:count])
                upper[index[count:]] = torch.fmin(upper[index[count:]], -found[count:])
                torch.maximum(lower, upper, out=upper)
        self.pieces = self.pieces.with_pre(low, high)

    def _rows(self, step: FoundRows) -> None:
        before = self.pieces.pre_lower, self.pieces.pre_upper
        claims = step.pre_lower.double(), step.pre_upper.double()
        self.agree &= bool((before[0] >= claims[0] - MISSED * (1 + claims[0].abs())).all())
        self.agree &= bool((before[1] <= claims[1] + MISSED * (1 + claims[1].abs())).all())
        facets = step.facets
        if facets.index.shape[1] == 1:
            excess = broken_by(self.made.graph, self.pieces.with_pre(*claims), facets)
            self.agree &= bool((excess <= MISSED * (1 + facets.offset.double().abs())).all())
        else:
            self.trusted += len(facets)
        self.known |= set(keys(facets))


def broken_by(graph: Graph, pieces: Pieces, facets: Facets) -> Tensor:  # (C,)
    """How far the offset of each row of a single neuron is below one that was proved again; over one piece."""
    layer = graph.layer_at[facets.position]
    slope = layer.elementwise.leak if layer.elementwise is not None else None
    below = graph.affine(layer.operands[0].source)
    if slope is None or len(below.inputs) != 1 or facets.on_source is None:
        return facets.offset.double() + torch.inf
    source, operator = below.inputs[0], below.operators[0]
    box, neurons = input_box(graph, pieces, source), facets.index[:, 0]
    form = bool((facets.on_post == 1).all()) and bool((facets.on_pre == -slope).all())
    if box is None or not form:
        return facets.offset.double() + torch.inf
    rows = facets.on_source.double()
    if facets.source_index is not None:
        rows = rows.new_zeros(len(rows), operator.n_in).scatter_add_(1, facets.source_index, rows)
    weight, bias = (1 - slope) * operator.rows(neurons, torch.float64), (1 - slope) * below.bias[neurons]
    sides = [side.expand(len(rows), -1) for side in box]
    offset = certified_offset(weight, bias, sides[0], sides[1], -rows[:, None])[:, 0]
    step = max(1, ROWS.elements // operator.n_in)
    return offset + doubt_of(operator, below, box, neurons, step) - facets.offset.double()


def keys(facets: Facets) -> list[Key]:
    """What identifies each row, however it is stored and padded."""
    found = []
    parts = [(facets.index, facets.on_post), (facets.index, facets.on_pre)]
    if facets.on_source is not None:
        every = torch.arange(facets.on_source.shape[1], device=facets.index.device).expand(len(facets), -1)
        parts.append((every if facets.source_index is None else facets.source_index, facets.on_source))
    listed = [(index.tolist(), values.double().tolist()) for index, values in parts]
    for row, offset in enumerate(facets.offset.double().tolist()):
        said = [tuple(sorted((i, v) for i, v in zip(a[row], b[row], strict=True) if v)) for a, b in listed]
        found.append((facets.position, offset, *(said + [()] * (3 - len(said)))))
    return found
