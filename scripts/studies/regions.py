"""The linear regions of a small ReLU network on a box of two inputs, by their corners.

Every region is a convex polygon. A neuron's pre-activation is affine on the regions of all neurons before it, so that
its values at the corners say whether it cuts a region, and where: no affine form is ever needed, only the network's
own values. Corners where it is within `TOLERANCE` of zero count as on the line.

Used as an independent truth beside linear programs: a ReLU network's minimum over the box is at a corner, and the hull
of its graph is the hull of the graph's corners. Heuristic in rounding (float64, no outward bounds), which is what a
study needs and a verdict must not use.
"""

from __future__ import annotations

import numpy as np
import torch

from partita.problems.network.graph import Graph

TOLERANCE = 1e-11


def polygons(graph: Graph, lower: np.ndarray, upper: np.ndarray) -> list[np.ndarray]:
    """The regions of positive area, each as its corners (V, 2) in order."""
    (a, b), (c, d) = lower, upper
    cells = [np.array([[a, b], [c, b], [c, d], [a, d]], dtype=float)]
    for layer in graph.layers:
        for neuron in range(layer.size):
            cells = [part for cell in cells for part in _cut(cell, _values(graph, cell)[layer.source][:, neuron])]
    return cells


def corners(graph: Graph, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:  # (V, 2)
    """The corners of all regions, each once."""
    return np.unique(np.concatenate(polygons(graph, lower, upper)).round(12), axis=0)


def _values(graph: Graph, x: np.ndarray) -> list[np.ndarray]:
    return [value.numpy() for value in graph.values(torch.as_tensor(x))]


def _cut(cell: np.ndarray, z: np.ndarray) -> list[np.ndarray]:
    """The cell's parts with z >= 0 and z <= 0, those of them that are more than a line."""
    z = np.where(np.abs(z) <= TOLERANCE, 0.0, z)
    if (z >= 0).all() or (z <= 0).all():
        return [cell]
    parts = []
    for sign in (1, -1):
        kept = []
        for i in range(len(cell)):
            j = (i + 1) % len(cell)
            if sign * z[i] >= 0:
                kept.append(cell[i])
            if z[i] * z[j] < 0:
                t = z[i] / (z[i] - z[j])
                kept.append(cell[i] + t * (cell[j] - cell[i]))
        parts.append(np.array(kept))
    return parts
