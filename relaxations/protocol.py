"""The one protocol of whatever bounds a batch of pieces, and what its implementations are made for.

    bound(pieces, rows, start) -> Bounds(result, left, values)

Trees of the search, `partita.bound`, measured trees and the studies ask nothing else, so each of them takes an
implementation of your own in place of a name; an entry of `catalogue` gives it a name. Who looks for one writes a
subclass of `AbstractRelaxation` and inherits its tests from tests/conformance.py (docs/extending.md).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import torch
from torch import Tensor

from ..problems.network.graph import Graph
from ..problems.properties.property import Polytope
from .effort import BOUNDS, BoundEffort
from .types import Multipliers, Pieces, Result, Rows


class Bounds(NamedTuple):
    """What is proved of a batch of pieces; of each, `left` holds every point where all of its rows are <= 0, the
    strict ones < 0, and what became known of its neurons. `result` holds on `left`."""

    result: Result
    left: Pieces
    values: list[Tensor] | None = None  # (B, S, n) of every node, where the bounds of the rows are met; heuristic


class AbstractRelaxation(ABC):
    """Lower bounds of rows on pieces. Sound, rounding included, for every implementation."""

    joins: bool = False  # whether it looks at several neurons together
    notes: tuple[str, ...] | list[str] = ()  # what it could not treat, and what was done instead, a sentence each

    @abstractmethod
    def bound(self, pieces: Pieces, rows: Rows, start: Multipliers | None = None) -> Bounds:
        """Bounds of the rows on each piece; `start`: multipliers to begin with, where it optimises any.

        The pieces' pre-activation bounds hold and may be used. An error for a network that it cannot treat is
        `BadInput`; where time is up, `kernels.deadline.TimeUp`, or what was proved by then."""

    @property
    def name(self) -> str:
        """What reports call it."""
        return type(self).__name__.lower()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Means:
    """With what bounds are computed."""

    dtype: torch.dtype = torch.float64
    device: str | torch.device = "cpu"
    steps: int = 50  # of optimised slopes
    backend: str = "highs"
    time_limit: float | None = None  # seconds for each program
    effort: BoundEffort = BOUNDS


@dataclass(frozen=True, eq=False)
class Question:
    """Rows f(x) + constants, whose bounds from both sides are wanted over the union of some polytopes."""

    graph: Graph  # float64
    polytopes: list[Polytope]
    rows: Tensor  # (R, n_out) float64
    constants: Tensor  # (R,)
    means: Means = field(default_factory=Means)


def without_forms(
    pieces: Pieces, lower: Tensor, slack: Tensor | None = None, empty: Tensor | None = None
) -> Result:  # (B, S), (B, S), (B,)
    """The result of a relaxation that has no forms linear in the input: zero forms, with the bound as constant."""
    finfo = torch.finfo(lower.dtype)
    return Result(
        lower=lower,
        forms=lower.new_zeros(*lower.shape, pieces.lower.shape[1]),
        constants=lower.clamp(min=finfo.min, max=finfo.max),
        slack=torch.zeros_like(lower) if slack is None else slack,
        pre_lower=pieces.pre_lower,
        pre_upper=pieces.pre_upper,
        empty=(lower == torch.inf).any(1) if empty is None else empty,
    )


def in_float64(pieces: Pieces, rows: Rows) -> tuple[Pieces, Rows]:
    """The same in float64 on the CPU. Exact."""

    def wide(value: Tensor) -> Tensor:
        return value.cpu().double() if value.is_floating_point() else value.cpu()

    on_input = None if rows.on_input is None else wide(rows.on_input)
    strict = None if rows.strict is None else wide(rows.strict)
    own = Pieces(*(wide(getattr(pieces, f.name)) for f in fields(pieces)))
    return own, Rows(wide(rows.coefficients), wide(rows.constants), on_input, strict)


def rounded_down(exact: Tensor, like: Tensor) -> Tensor:
    """Numbers in float64 as such of the dtype and on the device of `like`, none of them larger."""
    down = exact.to(like)
    below = torch.nextafter(down, down.new_tensor(-torch.inf))
    return torch.where(down.double() > exact.to(like.device), below, down)
