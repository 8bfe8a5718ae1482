"""P_r: the hull of the graph of r consecutive layers, over the relaxed set of what lies before; windows overlap.

P_1 is the hull of each whole layer; P_L, with L layers, is exact. For layer i the window holds layers i - r + 1 .. i
(the first ones, where there are fewer), and its inputs range over what the same relaxation leaves of layer i - r
(Mao, Zhang, Vechev 2026). The hull is Balas' over the window's feasible activation patterns: see `lp.disjunction`.
No linear program of polynomial size exists in general, so this is for small networks, and `Size` caps it.

How windows are nested. The relaxed set before a window is built of the windows that end before it begins. A window
that starts at the input contains the shorter ones there, which are used for sets that end inside it and add nothing
at the end; they stay in the program, as rows that other windows' sets are copies of.

Soundness: outward rounded; see `lp.disjunction`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...problems.network.graph import Graph
from ..lp.boxes import Box
from ..lp.encode import Addition, Building
from ..lp.window import Size, add_window, window
from ..names import Name
from .triangle import Added, Setting


def added(name: Name, setting: Setting, graph: Graph, boxes: Sequence[Box]) -> Added:
    """P_r as a part of a program."""
    return Added((BlockHull(setting, name.number, Size(name.whole("patterns"), name.whole("size"))),))


@dataclass(frozen=True, eq=False)
class BlockHull(Addition):
    """Windows of `layers` activation layers."""

    setting: Setting
    layers: int
    size: Size
    counts: dict[int, int] = field(default_factory=dict)  # activation node -> patterns of the window that ends there

    def before(self, building: Building, position: int) -> None:
        """Nothing: bounds stay as they are given."""

    def after(self, building: Building, position: int) -> None:
        word = f"p-{self.layers}"
        kinks = building.kinks.get(position)
        if self.setting.piecewise(building, position, word) and kinks is not None and self._open(building, position):
            frame = window(building, position, self.layers)
            model = building.program.model()
            self.counts[position] = add_window(frame, model, kinks.neurons, self.size, self.setting.session, word)

    def _open(self, building: Building, position: int) -> bool:
        """Whether anything in the window is undecided."""
        before = [layer.position for layer in building.graph.layers if layer.position <= position]
        return any(i in building.kinks and len(building.kinks[i].neurons) for i in before[-self.layers :])
