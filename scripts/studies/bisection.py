"""How many boxes a relaxation needs, in large batches: bisect the widest coordinate until an upper bound is proved.

The plainest input partition: no clipping, no choice of coordinate by sensitivity, nothing learned from the parent, so
that the count says something of the relaxation and not of a search. Level by level, all open boxes at once. Batched
relaxations only (ibp, deeppoly-0, deeppoly-1, crown); `partita partition --pieces input` does the same for all of them,
one piece at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from partita.problems.network.graph import Graph
from partita.relaxations.linear.ibp import interval_root
from partita.relaxations.linear.root import root
from partita.relaxations.types import Pieces, Rows

BATCH = 1 << 14


class Boxes(NamedTuple):
    """Leaves of the partition; a lower bound of their number where not `finished`."""

    leaves: int
    finished: bool

    def __str__(self) -> str:
        return f"{self.leaves:,}" if self.finished else f">= {self.leaves:,}"


@torch.no_grad()
def boxes(graph: Graph, lower: np.ndarray, upper: np.ndarray, most: float, relaxation: str, limit: int) -> Boxes:
    """Boxes until the first output is proved to be at most `most` on all; gives up beyond `limit` of them."""
    low, high = torch.as_tensor(lower, dtype=torch.float64)[None], torch.as_tensor(upper, dtype=torch.float64)[None]
    rule = relaxation if relaxation.startswith("deeppoly") else "crown"
    build = interval_root(graph, low[0], high[0]) if relaxation == "ibp" else root(graph, low[0], high[0], rule)
    coefficients = torch.zeros(1, 1, graph.output_size, dtype=torch.float64)
    coefficients[..., 0] = -1
    closed = 0
    while len(low) and closed + len(low) <= limit:
        proved = []
        for at in range(0, len(low), BATCH):
            pieces = Pieces.boxes(low[at : at + BATCH], high[at : at + BATCH], graph.neurons)
            rows = Rows(coefficients.expand(len(pieces), -1, -1), torch.zeros(len(pieces), 1, dtype=torch.float64))
            proved.append(build[0].bound(pieces, rows)[0].lower[:, 0] >= -most)
        done = torch.cat(proved)
        closed += int(done.sum())
        low, high = _halves(low[~done], high[~done])
    return Boxes(closed + len(low), not len(low))


def _halves(low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both halves of each box along its widest side, the first of several."""
    each, side = torch.arange(len(low)), (high - low).argmax(1) if len(low) else torch.zeros(0, dtype=torch.int64)
    middle = (low[each, side] + high[each, side]) / 2
    left, right = high.clone(), low.clone()
    left[each, side], right[each, side] = middle, middle
    return torch.cat([low, right]), torch.cat([left, high])
