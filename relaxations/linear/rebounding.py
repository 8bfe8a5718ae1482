"""Linear bounds of every layer on every piece, for trees over regions of a low-dimensional input.

Pieces are small there, so that bounding all layers anew pays; then the rows of open pieces are optimised, and the
pieces clipped to where a counterexample may still be. (Pieces that differ by decided neurons keep the root's
pre-activation bounds and optimise multipliers: see `alpha`.)

Soundness: outward rounded. Blame and scores are heuristic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..protocol import AbstractRelaxation, Bounds
from ..types import Multipliers, Pieces, Result, Rows
from .alpha import Alpha
from .attribution import attribution, width_blame
from .clip import clip
from .linear import Linear
from .rounding import Scales


@dataclass(frozen=True, eq=False)
class Rebounding(AbstractRelaxation):
    """Linear bounds of every layer on every piece, then clipping by the rows' own forms."""

    linear: Linear
    clipping: bool = True
    steps: int = 0  # of optimised slopes, on the rows of pieces that are still open
    rate: float | None = None  # their first step size; None: as the effort says

    def bound(self, pieces: Pieces, rows: Rows, start: Multipliers | None = None) -> Bounds:
        entries = len(pieces) * self.linear.graph.neurons * pieces.lower.shape[1]
        reach: dict[int, Tensor] | None = {} if entries <= self.linear.effort.linear.reach else None
        result, form = self.linear.formed(pieces, rows, record=True, reach=reach)
        pieces = pieces.with_pre(result.pre_lower, result.pre_upper)
        lines = self.linear.all_lines(pieces)
        row = result.lower.argmax(1)
        blame, scores = attribution(self.linear.graph, pieces, lines, form.at, reach or {}, row)
        if reach is None:
            blame, _ = width_blame(self.linear, pieces, rows, row)
        result = replace(result, blame=blame, scores=scores)
        if self.linear.proving:
            result = self._with_multipliers(result)
        if self.steps:
            result = self._optimised(pieces, rows, result, form.scales)
        if self.clipping:
            pieces, empty = clip(pieces, result)
            result = replace(result, empty=result.empty | empty)
        return Bounds(result, pieces)

    def _optimised(self, pieces: Pieces, rows: Rows, result: Result, scales: Scales | None) -> Result:
        """The result with the rows of open pieces improved. One row costs little beside the layers before it."""
        open_ = (~rows.closed(result.lower) & ~result.empty).nonzero()[:, 0]
        if len(open_) == 0:
            return result
        linear = self.linear if scales is None else replace(self.linear, scales=scales.of(open_))
        better_ = Alpha(linear, self.steps, rate=self.rate).bound(pieces[open_], rows[open_]).result
        won = better_.lower > result.lower[open_]
        merged = {}
        for name in ("lower", "constants", "slack", "forms"):
            old, new = getattr(result, name), getattr(better_, name)
            keep = won[..., None] if new.ndim == 3 else won
            merged[name] = old.index_put((open_,), torch.where(keep, new, old[open_]))
        result = replace(result, **merged)
        if self.linear.proving and better_.multipliers is not None and result.multipliers is not None:
            chosen, own, price = better_.multipliers.choice, result.multipliers.choice, result.price
            chosen = torch.where(won[..., None, None], chosen, own[open_][:, :, : chosen.shape[2]])
            own = own[:, :, : chosen.shape[2]].index_put((open_,), chosen)
            if price is not None and better_.price is not None:
                price = price.index_put((open_,), torch.where(won[..., None], better_.price, price[open_]))
            result = replace(result, multipliers=replace(result.multipliers, choice=own), price=price)
        return result

    def _with_multipliers(self, result: Result) -> Result:
        """With the choices that the rows were bounded with: those of all layers' rows."""
        assert result.derived is not None, "kept where proofs are wanted"
        count, rows = result.lower.shape
        choice, none = result.derived.choice[:, None].expand(-1, rows, -1, -1), result.lower.new_zeros(count, rows, 0)
        return replace(result, multipliers=Multipliers(choice, none, none))
