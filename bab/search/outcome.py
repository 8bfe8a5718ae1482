"""How a verification ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...problems.properties.property import Array
from .verdict import Verdict


@dataclass(frozen=True, eq=False)
class Outcome:
    """`verdict`: unsat (the property holds), sat (violated, with a confirmed witness), unknown or timeout, the last
    two with the reason; it equals its word. `stats` is what the final summary shows.

    `witness` is an input and its output as the original network computes it, in float64; `decimals` are the input
    exactly, which lies in the input set. In the coordinates `outside` the set holds no number that the network takes,
    and it was fed the nearest one.
    """

    verdict: Verdict
    reason: str = ""
    witness: tuple[Array, Array] | None = None  # (n_in,), (n_out,)
    pieces: int = 0
    seconds: float = 0.0
    stats: dict[str, float | int | str] = field(default_factory=dict)
    decimals: tuple[str, ...] | None = None  # (n_in,)
    outside: tuple[int, ...] = ()
