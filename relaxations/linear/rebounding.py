"""What the search asks of a relaxation, and the two ways it asks.

`bound` proves lower bounds of objective rows on a batch of pieces. A relaxation that re-bounds every layer on every
piece suits pieces that are small regions of a low-dimensional input (`Rebounding`); one that keeps the root's
pre-activation bounds and optimises multipliers suits pieces that differ by decided neurons (`Optimising`). Both
return the same `Result`, and any of several results of one piece may be intersected: see `Tightest`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..types import Multipliers, Pieces, Result, Rows
from .alpha import Alpha, better
from .attribution import attribution, width_blame
from .clip import clip
from .linear import Linear
from .rounding import Scales

REACH = 1 << 28  # entries of all neurons' linear forms on a batch; beyond, widths say which coordinate to blame


class AbstractRelaxation(ABC):
    """Lower bounds of rows on pieces. Sound, rounding included, for every implementation."""

    @abstractmethod
    def bound(self, pieces: Pieces, rows: Rows, start: Multipliers | None = None) -> tuple[Result, Pieces]:
        """Bounds, and the pieces with what became known of them: pre-activation bounds, a smaller box.

        What is cut off a piece contains no point where all of its rows are <= 0, the strict ones < 0.
        """


@dataclass(frozen=True, eq=False)
class Rebounding(AbstractRelaxation):
    """Linear bounds of every layer on every piece, then clipping by the rows' own forms."""

    linear: Linear
    clipping: bool = True
    half_spaces: int = 0  # how many of the rows' half-spaces children inherit
    steps: int = 0  # of optimised slopes, on the rows of pieces that are still open

    def bound(self, pieces: Pieces, rows: Rows, start: Multipliers | None = None) -> tuple[Result, Pieces]:
        entries = len(pieces) * self.linear.graph.neurons * pieces.lower.shape[1]
        reach: dict[int, Tensor] | None = {} if entries <= REACH else None
        result, form = self.linear.bound(pieces, rows, record=True, reach=reach)
        pieces = pieces.with_pre(result.pre_lower, result.pre_upper)
        lines = self.linear.all_lines(pieces)
        row = result.lower.argmax(1)
        blame, scores = attribution(self.linear.graph, pieces, lines, form.at, reach or {}, row)
        if reach is None:
            blame, _ = width_blame(self.linear, pieces, rows, row)
        result = replace(result, blame=blame, scores=scores)
        if self.steps:
            result = self._optimised(pieces, rows, result, form.scales)
        if self.clipping:
            pieces, empty = clip(pieces, result, self.half_spaces)
            result = replace(result, empty=result.empty | empty)
        return result, pieces

    def _optimised(self, pieces: Pieces, rows: Rows, result: Result, scales: Scales | None) -> Result:
        """The result with the rows of open pieces improved. One row costs little beside the layers before it."""
        open_ = (~rows.closed(result.lower) & ~result.empty).nonzero()[:, 0]
        if len(open_) == 0:
            return result
        own = scales.of(open_) if scales is not None else None
        better_, _, _ = Alpha(self.linear, self.steps, rate=0.3).bound(pieces[open_], rows[open_], scales=own)
        won = better_.lower > result.lower[open_]
        merged = {}
        for name in ("lower", "constants", "slack", "forms"):
            old, new = getattr(result, name), getattr(better_, name)
            keep = won[..., None] if new.ndim == 3 else won
            merged[name] = old.index_put((open_,), torch.where(keep, new, old[open_]))
        return replace(result, **merged)


@dataclass(frozen=True, eq=False)
class Optimising(AbstractRelaxation):
    """Optimised slopes and decision multipliers over given pre-activation bounds."""

    alpha: Alpha

    def bound(self, pieces: Pieces, rows: Rows, start: Multipliers | None = None) -> tuple[Result, Pieces]:
        result, _, _ = self.alpha.bound(pieces, rows, start)
        return result, pieces


@dataclass(frozen=True, eq=False)
class Tightest(AbstractRelaxation):
    """The intersection of several relaxations: each starts from what the ones before it found."""

    parts: tuple[AbstractRelaxation, ...]

    def bound(self, pieces: Pieces, rows: Rows, start: Multipliers | None = None) -> tuple[Result, Pieces]:
        best: Result | None = None
        for relaxation in self.parts:
            result, pieces = relaxation.bound(pieces, rows, start)
            best = result if best is None else _intersect(best, result)
        assert best is not None
        return best, pieces


def _intersect(old: Result, new: Result) -> Result:
    if old.multipliers is not None and new.multipliers is not None:
        return replace(better(old, new), empty=old.empty | new.empty)
    won = new.lower > old.lower
    return replace(
        new,
        lower=torch.maximum(old.lower, new.lower),
        forms=torch.where(won[..., None], new.forms, old.forms),
        constants=torch.where(won, new.constants, old.constants),
        slack=torch.where(won, new.slack, old.slack),
        empty=old.empty | new.empty,
        scores=new.scores if new.scores is not None else old.scores,
    )
