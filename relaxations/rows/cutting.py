"""Bounds with multi-neuron rows that are found on the way.

Optimise slopes and multipliers for a few steps; at the relaxed values that were reached, find the rows they break most
(`separation`); drop rows whose multipliers went back to zero; go on. Objectives share the rows that any of them asked
for: a row of one neuron is a good one for whoever leans on that neuron. With many objectives a few speak for all.

What comes out are rows that hold on all of the set, hence on every piece of it, with multipliers to start from.

Soundness: outward rounded, as its parts are. Which rows are found is heuristic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...kernels.deadline import now
from ..linear.alpha import Alpha, better
from ..linear.row_multipliers import NeuronRows
from ..types import Pieces, Result, Rows
from .ledger import BoundRows, FoundRows
from .separation import Reads, broken_rows, reads


@dataclass(frozen=True, eq=False)
class Cut:
    """The best bounds (1, S) that were met, with the multipliers they came from, and the rows in use at the end."""

    result: Result
    neuron_rows: NeuronRows | None
    plain: Result  # before any row was found


@dataclass(frozen=True)
class Turns:
    """How rows are found."""

    rounds: int
    steps: int  # before each round, and after the last
    node: int | None = None  # whose value the rows are functions of, if not the output
    speakers: int | None = None  # how many of the objectives ask for rows, if not all

    @staticmethod
    def of(alpha: Alpha) -> Turns:
        """For the output, as hard as the relaxation says."""
        return Turns(alpha.linear.effort.rows.rounds, alpha.linear.effort.rows.steps)


def layers_read(alpha: Alpha, root: Pieces, before: int | None = None) -> list[Reads]:
    """The layers whose neurons rows can be made of: all, or those below activation node `before`."""
    graph = alpha.linear.graph
    some = [layer.position for layer in graph.layers if before is None or layer.position < before]
    return [layer for i in some if (layer := reads(graph, root, i, alpha.linear.effort.rows)) is not None]


def cut(
    alpha: Alpha,  # its `neuron_rows`, if it has one, is where the rows start
    root: Pieces,  # one piece
    rows: Rows,  # (1, S, n)
    layers: Sequence[Reads],
    deadline: float,  # a value of `kernels.deadline.now`
    turns: Turns | None = None,  # as hard as the relaxation says
) -> Cut:
    """Rows of M_1 for these objectives, found and optimised together."""
    linear, graph, turns = alpha.linear, alpha.linear.graph, turns or Turns.of(alpha)
    node = turns.node
    neuron_rows = alpha.neuron_rows or NeuronRows((), tuple(n.size for n in graph.nodes))
    neuron_rows = neuron_rows if node is None else neuron_rows.below(node)
    count = rows.constants.shape[1]
    asking: slice | Tensor = slice(None)
    if turns.speakers is not None and turns.speakers < count:
        asking = torch.linspace(0, count - 1, turns.speakers, device=root.lower.device).round().long()
    patient = replace(alpha, patient=True, steps=turns.steps, neuron_rows=neuron_rows if len(neuron_rows) else None)
    ascent = patient.ascent(patient.start(root, count), neuron_rows)
    plain, values, _ = patient.optimise(root, rows, ascent=ascent, node=node)
    _write(patient, rows, plain, node)
    best = plain
    for _ in range(turns.rounds):
        if now() > deadline or (node is None and bool(rows.settled(best.lower).all())):
            break
        at = [v[0, asking] for v in values]
        found = [broken_rows(layer, at, linear.effort.rows) for layer in layers]
        new = [facets for facets in found if facets is not None]
        if alpha.ledger is not None:
            alpha.ledger.extend([FoundRows(facets, root.pre_lower.clone(), root.pre_upper.clone()) for facets in new])
        kept = (ascent.at.neuron_rows > 0).any(1)[0]
        neuron_rows, index = neuron_rows.grown(graph, linear.scales, new, kept)
        if not len(neuron_rows):
            break
        ascent.reorder(index)
        patient = replace(patient, neuron_rows=neuron_rows)
        result, values, _ = patient.optimise(root, rows, ascent=ascent, node=node)
        _write(patient, rows, result, node)
        best = _better(best, result, index)
    return Cut(best, neuron_rows if len(neuron_rows) else None, plain)


def _write(alpha: Alpha, rows: Rows, result: Result, node: int | None) -> None:
    """Into the ledger, where there is one, what proves bounds of a layer. Bounds of objectives prove nothing but
    themselves."""
    if alpha.ledger is not None and node is not None:
        assert result.multipliers is not None, "optimised bounds have multipliers"
        neuron_rows = None if alpha.neuron_rows is None else alpha.neuron_rows.below(node)
        alpha.ledger.append(BoundRows(node, rows, result.lower, result.multipliers, result.price, neuron_rows))


def _better(old: Result, new: Result, index: Tensor) -> Result:
    """Objective by objective the larger bound; multipliers and all from where it was met, the old ones carried over
    to the new rows."""
    assert old.multipliers is not None, "optimised bounds have multipliers"
    neuron_rows = old.multipliers.neuron_rows
    if neuron_rows.shape[-1]:
        carried = torch.where(index >= 0, neuron_rows[..., index.clamp(min=0)], 0.0)
    else:
        carried = neuron_rows.new_zeros(*neuron_rows.shape[:2], len(index))
    return better(replace(old, multipliers=replace(old.multipliers, neuron_rows=carried)), new)
