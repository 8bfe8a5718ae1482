"""Pictures of a logged partition: its pieces over time, its leaves by depth and by what closed them, its tree.

Everything is drawn from arrays, so that a tree of millions of pieces costs seconds: the icicle is looked at through a
thousand columns, lines have at most some hundred points. Colours as in `pictures`. Pictures decide nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..comparing.pictures import COLOURS, STATUS
from ..logs.format import CLOSED, OPEN, SPLIT, STUCK
from ..logs.read import Partition
from ..trees.splits import NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 400  # of a line
COLUMNS, WIDE_ENOUGH = 1000, 2.5  # of the icicle; how many columns a piece needs for a box of its own
WIDE = 10.0  # inches
WAYS = ("#0072B2", "#009E73", "#56B4E9", "#CC79A7", "#999999", "#F0E442")
KINDS = {"input": "#d9e2ec", "half-space": "#c7e6da", "phase": "#f3dfe9"}


def over_time(tree: Partition) -> Figure:
    """Pieces bounded, closed and open against the seconds since the search began."""
    seconds = tree.seconds
    ended = np.isfinite(seconds)
    cut, shut = (np.sort(seconds[ended & (tree.state == state)]) for state in (SPLIT, CLOSED))
    end = max(tree.elapsed, 1e-3)
    at = np.linspace(0, end, POINTS)
    splits, closed = np.searchsorted(cut, at, side="right"), np.searchsorted(shut, at, side="right")
    figure, ax = _axes((WIDE, 3.0))
    ax.plot(at, tree.roots + 2 * splits, color=COLOURS[6], label="pieces")
    ax.plot(at, closed, color=COLOURS[0], label="closed")
    ax.plot(at, tree.roots + splits - closed, color=COLOURS[4], label="open")
    ax.set(xlabel="seconds", ylabel="pieces", xlim=(0, end), ylim=(0, None))
    ax.legend(frameon=False)
    return figure


def share_over_time(tree: Partition) -> Figure:
    """The closed share of the tree against time."""
    leaves = tree.closed
    order = np.argsort(tree.seconds[leaves])
    share = np.cumsum(np.exp2(-tree.depth[leaves][order].astype(float))) / tree.roots
    pick = np.unique(np.linspace(0, max(len(order) - 1, 0), min(len(order), POINTS)).astype(int))
    figure, ax = _axes((WIDE, 2.4))
    x = [0.0, *tree.seconds[leaves][order][pick], tree.elapsed]
    y = [0.0, *(100 * share[pick]), 100 * share[-1] if len(order) else 0.0]
    ax.step(x, y, where="post", color=COLOURS[0])
    ax.set(xlabel="seconds", ylabel="closed, %", xlim=(0, max(tree.elapsed, 1e-3)), ylim=(0, 102))
    return figure


def by_depth(tree: Partition) -> Figure:
    """Leaves of each depth, by how they ended."""
    figure, ax = _axes((WIDE, 2.8))
    deepest = int(tree.depth.max(initial=0))
    below = np.zeros(deepest + 1)
    for code, (name, colour) in enumerate(_ends(tree)):
        count = np.bincount(tree.depth[_codes(tree) == code], minlength=deepest + 1)
        ax.bar(np.arange(deepest + 1), count, bottom=below, color=colour, label=name, width=0.85)
        below += count
    ax.set(xlabel="depth", ylabel="leaves", xlim=(-0.6, deepest + 0.6))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(frameon=False)
    return figure


def by_way(tree: Partition) -> Figure:
    """How many leaves ended in each way."""
    counts = np.bincount(_codes(tree)[_codes(tree) >= 0], minlength=1)
    found = sorted(zip(counts.tolist(), _ends(tree), strict=True), key=lambda item: item[0])
    figure, ax = _axes((WIDE, 0.7 + 0.36 * len(found)))
    bars = ax.barh(range(len(found)), [n for n, _ in found], color=[c for _, (_, c) in found], height=0.7)
    ax.set_yticks(range(len(found)), [name for _, (name, _) in found])
    ax.bar_label(bars, [f"{n:,}" for n, _ in found], padding=4)
    ax.set(xlabel="leaves", xlim=(0, 1.12 * max(1, int(counts.max()))))
    return figure


def _ends(tree: Partition) -> list[tuple[str, str]]:
    """How leaves ended, and a colour for each; `_codes` counts in this order."""
    ways = [(name, WAYS[k % len(WAYS)]) for k, name in enumerate(n for n in tree.names if n in tree.by_name())]
    rest = ((STUCK, ("stuck", STATUS["stuck"])), (OPEN, ("open", STATUS["open"])))
    return ways + [said for state, said in rest if (tree.state == state).any()]


def _codes(tree: Partition) -> NDArray[np.int64]:
    """How each piece ended, as a place in `_ends`; -1 for those that were split."""
    place = {name: k for k, (name, _) in enumerate(_ends(tree))}
    codes = np.array([*(place.get(name, -1) for name in tree.names), -1])[tree.by]
    codes[tree.state == STUCK], codes[tree.state == OPEN] = place.get("stuck", -1), place.get("open", -1)
    return codes


def icicle(tree: Partition) -> Figure:
    """The roots on top, every piece above its two parts, as wide as its share of the leaves.

    Drawn through `COLUMNS` columns: neighbours of one colour that are narrower than a few columns become one.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Patch, Rectangle

    left, width = places(tree)
    ends, kinds = _ends(tree), [name for code, name in enumerate(NAMES) if (tree.kind == code).any()]
    colours = [colour for _, colour in ends] + [KINDS[name] for name in NAMES]
    paint = np.where(tree.state == SPLIT, len(ends) + tree.kind, _codes(tree))
    centres = (np.arange(COLUMNS) + 0.5) / COLUMNS
    boxes, faces = [], []
    for depth, (ids, _, _) in enumerate(tree.levels()):
        ids = ids[np.argsort(left[ids], kind="stable")]
        at = np.searchsorted(left[ids], centres, side="right") - 1
        piece = ids[at.clip(min=0)]
        here = (at >= 0) & (centres < left[piece] + width[piece])
        colour = np.where(here, paint[piece], -1)
        own = np.where(width[piece] * COLUMNS >= WIDE_ENOUGH, piece, -1)  # a piece that gets a box of its own
        starts = np.flatnonzero(np.r_[True, (colour[1:] != colour[:-1]) | (own[1:] != own[:-1])])
        stops = np.r_[starts[1:], COLUMNS]
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            if colour[start] >= 0:
                boxes.append(Rectangle((start / COLUMNS, -depth - 1), (stop - start) / COLUMNS, 1))
                faces.append(colours[colour[start]])
    deepest = int(tree.depth.max(initial=0))
    figure, ax = _axes((WIDE, min(7.0, 1.4 + 0.24 * (deepest + 1))))
    edge = 0.4 if len(boxes) < 1500 else 0.1
    ax.add_collection(PatchCollection(boxes, facecolor=faces, edgecolor="#ffffff", linewidth=edge))
    said = [(f"split: {name}", KINDS[name]) for name in kinds] + ends
    handles = [Patch(facecolor=colour, label=name) for name, colour in said]
    ax.legend(handles=handles, frameon=False, ncols=min(6, len(said)), loc="lower left", bbox_to_anchor=(0, 1))
    ax.set(xlim=(0, 1), ylim=(-deepest - 1, 0), xticks=[], ylabel="depth")
    ticks = np.unique(np.linspace(0, deepest, min(deepest + 1, 8)).astype(int))
    ax.set_yticks(-ticks - 0.5, [str(t) for t in ticks])
    ax.spines[["left", "bottom"]].set_visible(False)
    return figure


def places(tree: Partition) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each piece starts and how wide it is, as shares of all leaves."""
    leaves = (tree.child < 0).astype(np.float64)
    levels = [ids for ids, _, _ in tree.levels()]
    for ids in reversed(levels[1:]):
        np.add.at(leaves, tree.parent[ids], leaves[ids])
    width = leaves / leaves[: tree.roots].sum()
    left = np.zeros(tree.count)
    left[: tree.roots] = np.concatenate([[0.0], np.cumsum(width[: tree.roots - 1])])[: tree.roots]
    for ids in levels[1:]:
        parent = tree.parent[ids]
        left[ids] = left[parent] + np.where(tree.side[ids] == 1, width[tree.child[parent]], 0.0)
    return left, width


def _axes(size: tuple[float, float]) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.6g}" if abs(value) < 1e5 else f"{value:,.0f}")
    return figure, ax
