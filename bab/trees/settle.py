"""A piece with every neuron decided, handed to the exact linear program; what it says, as the engine wants it.

What double precision leaves open there, exact arithmetic is asked (`leaf.rational`), once the judge has looked
at the point that was found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...problems.network.graph import Graph
from ...problems.properties.property import Array, Polytope, UnsafeSet
from ...relaxations.leaf.rational import Rational, in_words
from .proofs import CellBound, ExactDecision, Ground
from .tree import Settled


def settled(
    graph: Graph,
    polytope: Polytope,  # the piece
    phases: Sequence[NDArray[np.int8]],
    unsafe: UnsafeSet,
    seconds: float | None = None,
    rational: Rational | None = None,  # of the same network
    inputs: Polytope | None = None,  # the piece's input set, where that is another
) -> Settled:
    """Whether the piece holds an unsafe point, in `seconds` for each program. A network with smooth activations has no
    such program: undecided."""
    middle = (polytope.lower + polytope.upper) / 2
    if not graph.piecewise_linear:
        return Settled(False, middle, "smooth activations leave nothing to decide")
    rational, whole = rational or Rational(graph), inputs or polytope

    def further(seconds: float) -> Settled:
        return in_whole_numbers(rational, whole, unsafe, (polytope.lower, polytope.upper), phases, seconds)

    if any((phase == 0).any() for phase in phases):
        reason = "its box is a point or overflows, and some neuron could not be decided"
        return Settled(False, middle, reason, further)
    from ...relaxations.leaf.leaf import LeafStatus, settle

    result = settle(graph, polytope, phases, unsafe, time_limit=seconds, effort=rational.effort)
    closed = result.status is LeafStatus.closed

    def proof(ground: Ground) -> CellBound:
        return CellBound(ground, (polytope,), (phases,), (result.proof,))

    reason = result.reason or result.status.value
    if not closed and result.x is not None:
        reason = f"{reason.removesuffix('.')}, at {in_words(result.x)}"
    return Settled(closed, result.x, reason, None if closed else further, proof=proof if closed else None)


def in_whole_numbers(
    rational: Rational,
    inputs: Polytope,
    unsafe: UnsafeSet,
    box: tuple[Array, Array] | None = None,
    phases: Sequence[NDArray[np.int8]] | None = None,
    seconds: float | None = None,
) -> Settled:
    """What exact arithmetic says; the point is the nearest in float64, and `exact` the point itself."""
    found = rational.decide(inputs, unsafe, box, phases, seconds)
    if found.point is None:
        return Settled(found.empty, None, found.reason, proof=lambda at: ExactDecision(at, (box,), (phases,)))
    point = np.array([float(v) for v in found.point])
    reason = f"the unsafe point {in_words(found.point)}, found in exact arithmetic, is not confirmed"
    return Settled(False, point, reason, exact=found.point)


def phases_of(graph: Graph, lower: Tensor, upper: Tensor) -> list[NDArray[np.int8]]:  # (N,), (N,)
    """What pre-activation bounds say of every neuron, layer by layer: +1 active, -1 inactive, 0 undecided."""
    phase = torch.where(lower >= 0, 1, torch.where(upper <= 0, -1, 0)).to(torch.int8).cpu().numpy()
    return [phase[layer.span] for layer in graph.layers]
