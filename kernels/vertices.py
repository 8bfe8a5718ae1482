"""Vertices of small polytopes {x : A x <= b}, and polytopes cut in two by a hyperplane.

Qhull's half-space intersection (Barber, Dobkin, Huhdanpaa 1996) from a point inside: the centre of the largest ball, or
of a part of a polytope with known vertices, a mean of points that span it. A polytope of which that point is not
farther than `FLAT` inside counts as flat and has no vertices here. For few dimensions: the number of vertices grows
like (faces)^(dimensions / 2).

Soundness: plain float64; vertices are good to about 1e-9 of the polytope's size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .solving.door import linprog

Array = NDArray[np.float64]
FLAT = 1e-8


@dataclass(frozen=True, eq=False)
class Body:
    """A polytope with interior: its half-spaces A x <= b and its vertices."""

    normals: Array  # (H, D)
    offsets: Array  # (H,)
    vertices: Array  # (V, D)

    def cut(self, normal: Array, offset: float) -> tuple[Body | None, Body | None]:
        """The parts with normal x <= offset and >= offset; None for one without interior."""
        z = self.vertices @ normal - offset
        low, high = self.vertices[z < 0], self.vertices[z > 0]
        share = (z[z > 0][None] / (z[z > 0][None] - z[z < 0][:, None]))[..., None]
        crossing = (share * low[:, None] + (1 - share) * high[None]).reshape(-1, len(normal))
        parts = []
        for sign, kept in ((1.0, low), (-1.0, high)):
            # The part is the hull of these points, so that their mean lies inside it if anything does.
            points = np.concatenate([kept, crossing, self.vertices[z == 0]])
            faces = np.concatenate([self.normals, sign * normal[None]]), np.append(self.offsets, sign * offset)
            parts.append(_around(*faces, points.mean(0)) if len(kept) else None)
        return parts[0], parts[1]


def body(normals: Array, offsets: Array) -> Body | None:  # (H, D), (H,)
    """The polytope with its vertices; None where it is empty or flat. It must be bounded."""
    size = np.linalg.norm(normals, axis=1)
    lasting = size > 0
    if (offsets[~lasting] < 0).any():
        return None
    unit = normals[lasting] / size[lasting, None]
    cost = np.append(np.zeros(normals.shape[1]), -1.0)
    sides = offsets[lasting] / size[lasting]
    status, x = linprog(cost, np.column_stack([unit, np.ones(len(unit))]), sides, bounds=(None, None))
    return _around(unit, sides, x[:-1]) if status == 0 and x is not None else None


def _around(normals: Array, offsets: Array, centre: Array) -> Body | None:
    """The body around a point in its interior; None where the point is not clearly inside."""
    from scipy.spatial import HalfspaceIntersection

    size = np.linalg.norm(normals, axis=1)
    normals, offsets = normals / size[:, None], offsets / size
    if (offsets - normals @ centre).min() <= FLAT * max(1.0, float(np.abs(centre).max())):
        return None
    if normals.shape[1] == 1:
        side = normals[:, 0] < 0
        return Body(normals, offsets, np.array([[-offsets[side].min()], [offsets[~side].min()]]))
    points = HalfspaceIntersection(np.column_stack([normals, -offsets]), centre).intersections
    points = points[np.isfinite(points).all(1)]
    scale = max(1.0, float(np.abs(points).max(initial=1.0)))
    _, kept = np.unique(np.round(points / scale, 10), axis=0, return_index=True)
    return Body(normals, offsets, points[np.sort(kept)])
