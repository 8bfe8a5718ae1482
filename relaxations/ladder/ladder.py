"""Linear programs as a relaxation: the rungs of the ladder between linear bounds and the exact oracle.

Each rung is the triangle program with parts added (`triangle`, `multi_neuron`, `anderson`, `block_hull`), as its entry
in the catalogue says; several names joined by `+` put all their parts into one program, which is the intersection of
their relaxed sets and hence at least as tight as the best of their bounds. One program a piece: the piece's box and
half-spaces are its input set, what is known of the neurons its intervals.

Soundness: outward rounded; see the parts. What is used is the proved bound of a dual vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...problems.network.graph import Graph
from ..catalogue import not_here
from ..linear.linear import Linear
from ..linear.set_bounds import backward_rows
from ..lp.boxes import Box
from ..lp.encode import Addition, Building, Form, encode, propagated
from ..lp.model import Array, DualVector
from ..names import Name
from ..protocol import AbstractRelaxation, Bounds, rounded_down, without_forms
from ..types import Multipliers, Pieces, Result, Rows
from .exact import boxes_from, polytope_of
from .triangle import Cutter, Setting, Tightening, minima


@dataclass(frozen=True, eq=False)
class Late(Addition):
    """Tightened intervals from one node on: those before it are known to be as tight as they get."""

    inner: Tightening
    start: int

    def before(self, building: Building, position: int) -> None:
        if building.graph.layer_at[position].source >= self.start:
            self.inner.before(building, position)

    def after(self, building: Building, position: int) -> None:
        """Nothing."""


class Minima(NamedTuple):
    """What proves the rows of one piece: of each a dual vector, None where there is no bound; and the first of the
    output's columns in the programs."""

    duals: tuple[DualVector | None, ...]  # (S,)
    first: int


@dataclass(frozen=True, eq=False)
class Programmed(Result):
    """A result with what proves it; None: the piece has no point, as its box and intervals say."""

    minima: tuple[Minima | None, ...] = ()  # (B,)


@dataclass(frozen=True, eq=False)
class LinearPrograms(AbstractRelaxation):
    """The intersection of what `names` say, one program a piece, in float64 on the CPU.

    Raises `BadInput` for a layer that no linear program holds, for a limit that is hit, and with `strict` for a layer
    that a relaxation cannot treat.
    """

    names: tuple[Name, ...]
    graph: Graph  # float64, CPU
    setting: Setting = field(default_factory=Setting)
    linear: Linear | None = None  # where groups take their directions from; None: from the program itself
    partly: bool = False  # where time is up in the middle of a piece, give what was proved by then
    tight_from: int | None = None  # tighten all intervals from this node on, whatever the names say
    whole: bool = False  # keep the equations of neurons that are inactive: z <= 0 cuts a piece that decides them
    proving: bool = False  # whether results are `Programmed`

    @property
    def name(self) -> str:
        return "+".join(str(name) for name in self.names)

    @property
    def joins(self) -> bool:  # type: ignore[override]
        return any(name.joins for name in self.names)

    @property
    def notes(self) -> list[str]:  # type: ignore[override]
        return self.setting.notes

    def bound(self, pieces: Pieces, rows: Rows, start: Multipliers | None = None) -> Bounds:
        found = [self._piece(pieces, rows, b) for b in range(len(pieces))]
        lower = rounded_down(torch.from_numpy(np.stack([values for values, _, _ in found])), pieces.lower)
        low, high = (torch.stack([pre[side] for _, pre, _ in found]) for side in (0, 1))
        low = torch.fmax(rounded_down(low, pieces.pre_lower), pieces.pre_lower)
        left = pieces.with_pre(low, torch.fmin(-rounded_down(-high, pieces.pre_upper), pieces.pre_upper))
        result = without_forms(left, lower)
        if self.proving:
            result = Programmed(**vars(result), minima=tuple(minima for _, _, minima in found))
        return Bounds(result, left)

    def _piece(
        self, pieces: Pieces, rows: Rows, b: int
    ) -> tuple[Array, tuple[Tensor, Tensor], Minima | None]:  # (S,), (N,) twice
        """Proved lower bounds of the rows of piece b, +inf where it is proved to have no point; its pre-activations;
        and what proves the former, where that is wanted."""

        def real(t: Tensor) -> Array:
            return t[b].double().cpu().numpy()

        on_input = None if rows.on_input is None else real(rows.on_input)
        graph, constants = self.graph, real(rows.constants)
        polytope = polytope_of(pieces, b)
        known = (pieces.pre_lower[b].double().cpu(), pieces.pre_upper[b].double().cpu())
        boxes = boxes_from(graph, polytope, pieces, b)
        if polytope.empty or any(bool((low > high).any()) for low, high in boxes):
            return np.full(len(constants), np.inf), known, None
        boxes = propagated(graph, boxes)
        backward = None if self.linear is None else partial(backward_rows, self.linear, pieces[b : b + 1])
        setting = replace(self.setting, backward=backward, duals=[] if self.proving else None)
        additions, cutters = parts(self.names, setting, graph, boxes)
        if self.tight_from is not None:
            additions = [part for part in additions if not isinstance(part, Tightening)]
            additions.insert(0, Late(Tightening(setting), self.tight_from))
        form: Form = "relaxed" if self.whole else "lean"
        encoding = encode(graph, polytope, boxes=boxes, additions=additions, form=form, effort=setting.programs)
        lowest = minima(encoding, real(rows.coefficients), setting, cutters, on_input, self.partly)
        proof = Minima(tuple(setting.duals), encoding.first[graph.output]) if setting.duals is not None else None
        if np.isposinf(lowest).any():  # one program is proved to have no point, and all have the same points
            return np.full(len(constants), np.inf), known, proof
        finite = np.where(np.isfinite(lowest), np.abs(lowest), 0.0)
        spare = 4 * np.finfo(float).eps * (np.abs(constants) + finite)
        sources = [layer.source for layer in graph.layers]
        pre = tuple(torch.cat([encoding.boxes[j][k] for j in sources] or [known[k]]) for k in (0, 1))
        return lowest + constants - spare, (pre[0], pre[1]), proof


def parts(
    names: Sequence[Name], setting: Setting, graph: Graph, boxes: Sequence[Box]
) -> tuple[list[Addition], list[Cutter]]:
    """What the names add to the triangle program: each as its entry in the catalogue says."""
    for name in names:
        if name.rung.kind != "program":
            raise not_here(name.rung, "linear programs", "program")
    found = [(name, name.rung.load()(name, setting, graph, boxes)) for name in names]
    tightened = any(name.options.get("tighten") == "on" and not added.tightens for name, added in found)
    additions: list[Addition] = [Tightening(setting)] if tightened else []
    cutters: list[Cutter] = []
    for _, added in found:
        additions += added.additions
        cutters += added.cutters
    return additions, cutters
