"""Pictures of measured partitions: leaves against patterns, trees as icicles, pieces over activation regions.

Everything is a matplotlib `Figure` made without pyplot, so nothing is global; `save` writes the same SVG for the same
figure. Colours are those of Okabe and Ito, which most colour-blind readers can tell apart.

* `leaves_against_patterns`: one point an instance, A across and proper leaves up, both logarithmic, with the diagonal
  on which both are equal. Trees of activation branches lie on it or below, whatever the relaxation (`proper`).
* `icicle`: the root on top, every piece above its two parts, as wide as its share of the leaves; leaves that are not
  proper are paler.
* `pieces_over_regions`: for two inputs. Points of a grid go down each tree to their leaf and are coloured by it; over
  them lie the lines on which a neuron is zero. Drawn from points, so that it shows the pieces of every kind, branches
  that are not convex included; what is thinner than the grid does not show.

Soundness: none; pictures decide nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...problems.network.graph import Graph
from ...problems.properties.property import Polytope
from .measured import Cut, Tree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .comparison import Comparison, Measurement

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#F0E442")
STATUS = {"split": "#d9e2ec", "closed": "#0072B2", "empty": "#ffffff", "stuck": "#D55E00", "open": "#E69F00"}
PALER = "#9ecae9"  # closed, and not proper
GRID = 360  # points a side
PANELS = 6  # trees in one picture


def leaves_against_patterns(
    series: Mapping[str, Sequence[tuple[float, float]]], title: str = "", lines: bool = False
) -> Figure:
    """`series`: name -> points (A, proper leaves). Points beyond the diagonal hold more pieces than patterns."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    ax = figure.subplots()
    every = [value for points in series.values() for point in points for value in point if value > 0]
    top = 1.6 * max(every, default=10.0)
    ax.plot([0.8, top], [0.8, top], color="#666666", linewidth=1, linestyle="--", zorder=1)
    ax.annotate("leaves = A", (top, top), (-4, -14), textcoords="offset points", ha="right", color="#666666")
    for i, (name, points) in enumerate(series.items()):
        x, y = np.array(points, float).reshape(-1, 2).T
        ax.plot(
            *(x, y),
            marker="os^Dv<>P"[i % 8],
            linestyle="-" if lines else "none",
            color=COLOURS[i % len(COLOURS)],
            markersize=5,
            alpha=0.8,
            label=name,
        )
    ax.set(xscale="log", yscale="log", xlim=(0.8, top), ylim=(0.8, top), xlabel="A(f, X), activation patterns")
    ax.set_ylabel("proper leaves")
    ax.set_title(title)
    ax.spines[["top", "right"]].set_visible(False)
    if series:
        ax.legend(frameon=False)
    return figure


def icicle(trees: Mapping[str, Tree]) -> Figure:
    """One panel a tree, `PANELS` at most."""
    figure, panels = _panels(min(len(trees), PANELS), (4.2, 3.0))
    for ax, (name, tree) in zip(panels, trees.items(), strict=False):
        _icicle(ax, tree)
        ax.set_title(f"{name}: {counted(tree)}", fontsize=9)
    return figure


def counted(tree: Tree) -> str:
    """The leaves in words: proper ones where that was asked."""
    if not tree.kinds:
        return f"{len(tree.leaves):,} leaves"
    others = len(tree.leaves) - tree.leaves_of("proper")
    return f"{tree.leaves_of('proper'):,} proper leaves" + (f", {others:,} others" if others else "")


def _icicle(ax: Any, tree: Tree) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    left, width = places(tree)
    patches = [Rectangle((left[p.number], -p.depth - 1), width[p.number], 1) for p in tree.pieces]
    improper = {k for k, kind in tree.kinds.items() if kind in ("closed", "flat", "empty", "other")}
    colours = [PALER if p.number in improper and p.status == "closed" else STATUS[p.status] for p in tree.pieces]
    ax.add_collection(PatchCollection(patches, facecolor=colours, edgecolor="#555555", linewidth=0.4))
    for p in tree.pieces:
        if p.cut is not None and width[p.number] > 0.04:
            label = str(p.cut.neuron) if p.cut.neuron >= 0 else f"x{p.cut.coordinate}"
            ax.text(left[p.number] + width[p.number] / 2, -p.depth - 0.5, label, ha="center", va="center", fontsize=7)
    ax.set(xlim=(0, 1), ylim=(-tree.depth - 1, 0), xticks=[], yticks=[])
    ax.set_xlabel("closed blue (not proper: pale), empty white, split grey with its neuron", fontsize=7)


def places(tree: Tree) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each piece starts and how wide it is, as shares of the leaves (empty ones count as half)."""
    weight = np.array([0.0 if p.status == "split" else 0.5 if p.status == "empty" else 1.0 for p in tree.pieces])
    for p in sorted(tree.pieces, key=lambda p: -p.depth):
        if p.parent >= 0:
            weight[p.parent] += weight[p.number]
    width = weight / max(weight[0], 1e-300)
    left, used = np.zeros(len(width)), np.zeros(len(width))
    for p in sorted(tree.pieces, key=lambda p: (p.depth, p.side)):
        if p.parent >= 0:
            left[p.number] = left[p.parent] + used[p.parent]
            used[p.parent] += width[p.number]
    return left, width


def pieces_over_regions(graph: Graph, inputs: Polytope, trees: Mapping[str, Tree]) -> Figure:
    """For networks of two inputs (raises `ValueError` for others): one panel a tree, `PANELS` at most."""
    if graph.input_size != 2:
        raise ValueError(f"pieces are drawn for two inputs, and the network has {graph.input_size}")
    from matplotlib.colors import ListedColormap

    figure, panels = _panels(min(len(trees), PANELS), (3.8, 3.6))
    sides = [np.linspace(inputs.lower[k], inputs.upper[k], GRID) for k in (0, 1)]
    points = np.stack(np.meshgrid(*sides), -1).reshape(-1, 2)
    inside = (points @ inputs.normals.T <= inputs.offsets + 1e-12).all(1)
    signs = pre_activations(graph, points)
    for ax, (name, tree) in zip(panels, trees.items(), strict=False):
        leaf = np.where(inside, leaf_of(tree, points, signs), -1)
        kinds = np.unique(leaf[leaf >= 0])
        shade = np.full(len(leaf), np.nan)
        shade[leaf >= 0] = np.searchsorted(kinds, leaf[leaf >= 0]) * 5 % 16
        box = (*inputs.lower[:1], *inputs.upper[:1], *inputs.lower[1:], *inputs.upper[1:])
        colours = ListedColormap([_pale(c, a) for a in (0.35, 0.6) for c in COLOURS])
        picture = {"origin": "lower", "extent": box, "aspect": "auto", "vmin": 0, "vmax": 15, "cmap": colours}
        ax.imshow(shade.reshape(GRID, GRID), interpolation="nearest", **picture)
        for neuron in range(graph.neurons):
            z = np.where(inside, signs[:, neuron], np.nan).reshape(GRID, GRID)
            if np.nanmin(z) < 0 < np.nanmax(z):
                ax.contour(*sides, z, levels=[0.0], colors="#333333", linewidths=0.6)
        ax.set_title(f"{name}: {counted(tree)}", fontsize=9)
        ax.set(xlabel="x0", ylabel="x1")
    return figure


def pre_activations(graph: Graph, points: NDArray[np.float64]) -> NDArray[np.float64]:  # (P, D) -> (P, N)
    """Every neuron's pre-activation at the points."""
    values = graph.values(torch.from_numpy(points))
    found = [values[layer.source] for layer in graph.layers]
    return torch.cat(found or [torch.zeros(len(points), 0)], 1).numpy()


def leaf_of(tree: Tree, points: NDArray[np.float64], signs: NDArray[np.float64]) -> NDArray[np.int64]:
    """The leaf (number in the tree) that each point (P, D) comes to; of a tree that is not finished, or through an
    empty piece, the last piece on its way."""
    children = {(p.parent, p.side): p.number for p in tree.pieces if p.parent >= 0}
    at = np.zeros(len(points), np.int64)
    for p in sorted(tree.pieces, key=lambda p: p.depth):
        if p.cut is None:
            continue
        here = np.flatnonzero(at == p.number)
        above = _side(p.cut, points[here], signs[here])
        below = (children.get((p.number, -1), p.number), children.get((p.number, 1), p.number))
        at[here] = np.where(above, below[1], below[0])
    return at


def _side(cut: Cut, points: NDArray[np.float64], signs: NDArray[np.float64]) -> NDArray[np.bool_]:
    return points[:, cut.coordinate] > cut.point if cut.coordinate >= 0 else signs[:, cut.neuron] > 0


def _pale(colour: str, share: float) -> tuple[float, float, float]:
    """A colour on white."""
    return tuple(1 - share + share * int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))  # type: ignore[return-value]


def _panels(count: int, size: tuple[float, float]) -> tuple[Figure, list]:
    from matplotlib.figure import Figure

    columns = min(3, max(1, count))
    rows = -(-max(1, count) // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in panels[count:]:
        ax.set_axis_off()
    return figure, panels


def save(figure: Figure, path: Path) -> None:
    """Writes an SVG without a date, the same bytes for the same figure."""
    import matplotlib

    from ..ending.results import whole

    with matplotlib.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none"}), whole(path) as beside:
        figure.savefig(beside, metadata={"Date": None})


def figures(found: Comparison) -> dict[str, Figure]:
    """File name -> figure: everything that can be drawn of a comparison."""
    trees = {_name(m): m.tree for m in found.measurements}
    made = {"trees.svg": icicle(trees)}
    if found.patterns is not None:
        points: dict[str, list[tuple[float, float]]] = {}
        for m in found.measurements:
            points.setdefault(_name(m), []).append((found.patterns.low, m.proper))
        made["leaves.svg"] = leaves_against_patterns(points)
    if found.graph.input_size == 2:
        made["pieces.svg"] = pieces_over_regions(found.graph, found.inputs, trees)
    return made


def write(found: Comparison, folder: Path) -> list[Path]:
    """`tables.json` and the pictures; returns their paths."""
    from ..ending.results import write_atomically
    from .comparison import data

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "tables.json"]
    write_atomically(paths[0], json.dumps(data(found, trees=True)))
    for name, figure in figures(found).items():
        paths.append(folder / name)
        save(figure, paths[-1])
    return paths


def _name(m: Measurement) -> str:
    return f"{m.relaxation}, {m.branching}"


__all__ = ["figures", "icicle", "leaves_against_patterns", "pieces_over_regions", "save", "write"]
