"""Scores of branching rules: from what bounding found out about a batch of pieces to what should be split.

Each is one function of a `Sight`, for the search and for measured trees alike; `bab.rules` says which is whose.

Heuristic: no score can make a verdict wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...relaxations.types import Pieces, Result


@dataclass(frozen=True, eq=False)
class Sight:
    """What a rule sees of B pieces. What costs something to know is asked for only by those who use it."""

    pieces: Pieces
    root_width: Tensor  # (D,) of the input set
    losses: Callable[[], Tensor]  # (B, N) how much the bound loses at each neuron (`linear.alpha.loss`)
    blame: Callable[[], Tensor]  # (B, D) how much of that each coordinate is to blame for (`linear.attribution`)

    @classmethod
    def of(cls, pieces: Pieces, result: Result, root: Pieces) -> Sight:
        """What a tree of the search has found out about its pieces."""

        def known(value: Tensor | None) -> Tensor:
            assert value is not None, "the rule of a tree asks for what its bounds give"
            return value

        width = root.upper[0] - root.lower[0]
        return cls(pieces, width, lambda: known(result.scores), lambda: known(result.blame))


def widest(sight: Sight) -> Tensor:  # (B, D)
    """Sides of the box, relative to the input set."""
    return (sight.pieces.upper - sight.pieces.lower) / sight.root_width.clamp(min=1e-30)


def sensitivity(sight: Sight) -> Tensor:  # (B, D)
    """Blame; widths break ties where nothing is lost any more, or nothing can be told apart."""
    blame = sight.blame().nan_to_num()
    return blame + 1e-6 * blame.amax(1, keepdim=True).clamp(min=1e-30) * widest(sight)


def babsr(sight: Sight) -> Tensor:  # (B, N)
    """What the bound loses at each neuron (Bunel et al. 2020)."""
    return sight.losses()


def alike(sight: Sight) -> Tensor:  # (B, N)
    """Nothing tells neurons apart."""
    return torch.zeros_like(sight.pieces.pre_lower)


def last(sight: Sight) -> Tensor:  # (B, N)
    """Later neurons score higher."""
    return (
        torch.arange(1.0, sight.pieces.pre_lower.shape[1] + 1).to(sight.pieces.pre_lower).expand(len(sight.pieces), -1)
    )


def first(sight: Sight) -> Tensor:  # (B, N)
    """Earlier neurons score higher."""
    return last(sight).flip(1)
