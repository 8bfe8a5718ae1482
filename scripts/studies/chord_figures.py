"""Figures of study 8, the cost of relaxation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .chord_subjects import KINDS
from .table import Table, axes


def _figure(width: float = 6.4):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.8), layout="constrained")
    return figure, axes(figure)


def _positive(values) -> list[float]:
    """The values with gaps where a logarithm has none."""
    return [v if v > 0 else np.nan for v in values]


def depth_figure(depth: Table):
    figure, ax = _figure()
    for name in [*KINDS, "found, crown", "spread of f"]:
        ax.semilogy(depth.column("depth"), _positive(depth.column(name)), label=name, lw=1.2)
    ax.set(xlabel="hidden layers", ylabel="divergence, radius 1")
    ax.legend(frameon=False, fontsize=8)
    return figure


def radius_figure(radius: Table, depths: Sequence[int]):
    figure, ax = _figure()
    for depth in depths:
        found = _positive(radius.column(f"found, depth {depth}"))
        ax.loglog(radius.column("radius"), found, label=f"depth {depth}", lw=1.2)
    ax.set(xlabel="radius", ylabel="largest divergence found")
    ax.legend(frameon=False, fontsize=8)
    return figure


def lattice_figure(lattice: Table):
    figure, ax = _figure()
    for name in dict.fromkeys(lattice.column("network")):
        rows = [row for row in lattice.rows if row[0] == name]
        line = ax.plot([row[1] for row in rows], [row[2] for row in rows], label=name, lw=1.2)[0]
        ax.plot([row[1] for row in rows], [row[4] for row in rows], ":", color=line.get_color(), lw=0.9)
    ax.set(xlabel="share of neurons replaced (dotted: first layers first)", ylabel="divergence found / that at the top")
    ax.legend(frameon=False, fontsize=8)
    return figure


def step_figure(curves: dict[str, tuple]):
    figure, ax = _figure(7.6)
    for name, (radii, share) in curves.items():
        if name.endswith("intervals"):
            ax.semilogx(radii, share, label=name.removesuffix(", intervals"), lw=1.2)
    ax.set(xlabel="radius", ylabel="share of the ball where the class changes")
    ax.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
