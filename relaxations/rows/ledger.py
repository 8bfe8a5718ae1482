"""What proves the pre-activation bounds and the neuron rows of a root or a base: every generation of them, in order.

A root is refined layer by layer, with rows that were found on the bounds of the moment, and refined again with the rows
that this gave (`refine`, `strengthen`). Each bound rests on those before it, so the proof is the list of steps. Whoever
wants it gives `Alpha.ledger` a list; without one nothing is kept.

Entries are what was used, unchanged; `relaxations.recomputed` evaluates them again.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..linear.neuron_rows import Facets
from ..linear.row_multipliers import NeuronRows
from ..types import Multipliers, Rows


@dataclass(frozen=True, eq=False)
class BoundRows:
    """Rows (1, S, n) of one node's value, their lower bounds, and the multipliers that prove them over the
    pre-activation bounds which all steps before leave."""

    node: int
    rows: Rows
    lower: Tensor  # (1, S)
    multipliers: Multipliers  # (1, S, ...)
    price: Tensor | None  # (1, S, H)
    neuron_rows: NeuronRows | None  # the neuron rows that have multipliers


@dataclass(frozen=True, eq=False)
class FoundRows:
    """Neuron rows that hold wherever these pre-activation bounds do."""

    facets: Facets
    pre_lower: Tensor  # (1, N)
    pre_upper: Tensor  # (1, N)


Step = BoundRows | FoundRows
