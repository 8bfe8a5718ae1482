"""Many polytopes by their vertices over one pool of points, and cutting them all with one hyperplane.

A polytope is a row of vertices: where in the pool each lies, and the set of the polytope's facets that it lies on (bits
of a word). Neighbouring polytopes share the points of the pool, so what is computed of a point (the network's values
there) is computed once for all polytopes around it.

Cutting by a function that is affine on every polytope is the step of the double description method (Motzkin et al.
1953; Fukuda and Prodon 1996): vertices on either side go to either child, those on the plane to both, and every edge
that crosses the plane gives a new vertex in both. Two vertices a, b span an edge where no third vertex lies on all
facets that a and b share. In a D-dimensional polytope they must share D - 1 of them; and if a or b lies on D facets
only, that is enough. An edge that several polytopes share is cut once: new vertices are found by the pair of points.
In two dimensions this is the cutting of polygons.

A new point is a + (b - a) f(a) / (f(a) - f(b)) in all its columns: the coordinates and whatever affine functions of
them are carried.

`sure` polytopes are free of rounding: their points are multiples of a power of two in every column (`scale` says of
which), each cut of theirs was computed without error, and this is checked by multiplying back
((new - a)(f(a) - f(b)) = (b - a) f(a) with both products below 2^53 units). Soundness: exact for them; float64
arithmetic without a guarantee for the others, which `bab/counting/proof.py` judges afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import bits, ragged
from .ragged import Flags, Ints

PAIRS = 2_000_000  # pairs of vertices that are looked at at once
UNITS = 2.0**52

Floats = NDArray[np.float64]


class Crowded(ValueError):
    """A polytope would have more facets than a word has bits to spare."""


@dataclass(frozen=True, eq=False)
class Polytopes:
    """C polytopes with T vertices in all, over P points of K columns, the first D of which are coordinates."""

    points: Floats  # (P, K)
    exact: Flags  # (P,): every column is the real number that it stands for
    scale: Floats  # (K,): the columns of exact points are multiples of 1 / scale
    start: Ints  # (C + 1,)
    vertex: Ints  # (T,) into the pool
    mask: Ints  # (T,): facets that the vertex lies on
    planes: NDArray[np.int32]  # (C, F): what each facet's bit stands for, as the caller numbers hyperplanes
    labels: Ints  # (C, W): the caller's, handed down to children
    strict: Ints  # (C,): facets that do not belong to the polytope
    full: Flags  # (C,): has a non-empty interior
    sure: Flags  # (C,): free of rounding

    def __len__(self) -> int:
        return len(self.start) - 1

    def but(self, **changes: NDArray) -> Polytopes:
        """A copy with some fields changed: `dataclasses.replace`, which takes ten times as long."""
        copy = object.__new__(Polytopes)
        copy.__dict__.update(self.__dict__, **changes)
        return copy

    @property
    def lengths(self) -> Ints:  # (C,)
        return self.start[1:] - self.start[:-1]

    def select(self, index: Ints) -> Polytopes:  # (C',)
        """Some of the polytopes, over the same pool."""
        lengths = self.lengths[index]
        entry = ragged.ranges(self.start[index], lengths)
        return self.but(
            start=ragged.starts(lengths),
            vertex=self.vertex[entry],
            mask=self.mask[entry],
            planes=self.planes[index],
            labels=self.labels[index],
            strict=self.strict[index],
            full=self.full[index],
            sure=self.sure[index],
        )

    def compact(self) -> Polytopes:
        """The same polytopes over a pool without points that none of them uses."""
        used = np.zeros(len(self.points), dtype=bool)
        used[self.vertex] = True
        if used.all():
            return self
        place = used.cumsum() - 1
        return self.but(points=self.points[used], exact=self.exact[used], vertex=place[self.vertex])


def box(lower: Floats, upper: Floats, words: int, plane: int = 0) -> Polytopes:  # (D,), (D,)
    """A box as the only polytope: planes 2 i and 2 i + 1 are x_i = lower_i and x_i = upper_i; flat sides are allowed.

    `words`: how many words of labels polytopes get, all zero. `plane`: the number of the first plane.
    """
    d = len(lower)
    free = np.flatnonzero(lower < upper)
    count = 2 ** len(free)
    high = (np.arange(count)[:, None] >> np.arange(len(free)) & 1).astype(bool)  # (2^F, F)
    points = np.tile(lower, (count, 1))
    points[:, free] = np.where(high, upper[free], lower[free])
    side = 2 * np.arange(len(free)) + high
    scale = 2.0**20
    on_grid = bool(((points * scale).round() == points * scale).all() and (np.abs(points) * scale <= UNITS).all())
    return Polytopes(
        points,
        np.full(count, on_grid),
        np.full(d, scale),
        np.array([0, count]),
        np.arange(count),
        (1 << side).sum(1),
        (plane + 2 * free[:, None] + [0, 1]).reshape(1, -1).astype(np.int32),
        np.zeros((1, words), dtype=np.int64),
        np.zeros(1, dtype=np.int64),
        np.array([len(free) == d]),
        np.array([on_grid]),
    )


class Cut(NamedTuple):
    """What `cut` returns: the polytopes, on which side of the plane each is, and which of them are new."""

    polytopes: Polytopes
    positive: Flags  # (C',); where the function is zero on all of a polytope, False
    halved: Flags  # (C',): a part whose rest is another part; where False, it is its origin without a rest


def cut(
    cells: Polytopes,
    column: int,
    sign: NDArray[np.int8],  # (P,): -1, 0, 1 of the function at each point, as the caller judges it
    plane: int,
    dimension: int,  # of polytopes that are `full`
    faces: bool = False,
) -> Cut:
    """Cuts every polytope that has points on both sides of {f = 0}, where f is column `column`.

    The positive child is open at the plane, the other one closed. With `faces` a polytope with f >= 0 that touches the
    plane gives two children as well: itself without the plane, and, where it belongs to the polytope, the face on the
    plane. Uncut polytopes come first, in their order; then the positive children, the others, and the faces.

    Raises `Crowded` where a polytope that is to be cut has no facet's bit left.
    """
    side = sign[cells.vertex]
    begin = cells.start[:-1]
    most, least = np.maximum.reduceat(side, begin), np.minimum.reduceat(side, begin)
    positive, crossing = most > 0, most - least == 2
    touching = positive & (least == 0) if faces else np.zeros_like(crossing)
    stay = ~(crossing | touching)
    if stay.all():
        return Cut(cells, positive, touching)
    cross, touch = crossing.nonzero()[0], touching.nonzero()[0]
    if len(cross):
        main = _halves(cells, stay, crossing, side, column, plane, dimension)
    else:
        main = cells.select(stay.nonzero()[0])
    positive = np.concatenate([positive[stay], np.array([True, False]).repeat(len(cross))])
    halved = np.arange(len(positive)) >= len(positive) - 2 * len(cross)
    if len(touch) == 0:
        return Cut(main, positive, halved)
    opened, on_plane, which = _touched(cells, touch, side, plane)
    parts = [main, *(p.but(points=main.points, exact=main.exact) for p in (opened, on_plane))]
    owned = np.zeros(len(touch), dtype=bool)
    owned[which] = True
    return Cut(
        join(parts),
        np.concatenate([positive, np.ones_like(owned), np.zeros(len(which), dtype=bool)]),
        np.concatenate([halved, owned, owned[which]]),
    )


def join(parts: list[Polytopes]) -> Polytopes:
    """Polytopes over one pool, in one batch."""
    width = max(p.planes.shape[1] for p in parts)
    return parts[0].but(
        start=ragged.starts(np.concatenate([p.lengths for p in parts])),
        planes=np.concatenate([_widened(p.planes, width) for p in parts]),
        **{
            name: np.concatenate([getattr(p, name) for p in parts])
            for name in ("vertex", "mask", "labels", "strict", "full", "sure")
        },
    )


def _widened(planes: NDArray[np.int32], width: int) -> NDArray[np.int32]:  # (C, F) -> (C, at least `width`)
    missing = width - planes.shape[1]
    if missing <= 0:
        return planes
    return np.concatenate([planes, np.full((len(planes), missing), -1, dtype=np.int32)], 1)


def _free_bit(mask: Ints, start: Ints) -> Ints:  # (T,), (C + 1,) -> (C,)
    """For each polytope a bit that is no facet's."""
    used = np.bitwise_or.reduceat(mask, start[:-1])
    if bits.popcount(used).max() >= bits.FACETS:
        raise Crowded(f"a polytope has more than {bits.FACETS} facets")
    return bits.lowest_free(used)


def _halves(
    cells: Polytopes, stay: Flags, crossing: Flags, side: NDArray[np.int8], column: int, plane: int, dimension: int
) -> Polytopes:
    """The polytopes `stay` as they are, then of those `crossing` the positive children, then the others."""
    lengths, cross = cells.lengths, crossing.nonzero()[0]
    entry, same = crossing.repeat(lengths), stay.repeat(lengths)
    vertex, mask, side = cells.vertex[entry], cells.mask[entry], side[entry]
    count, size = len(cross), lengths[cross]
    owner, start = np.arange(count).repeat(size), ragged.starts(size)
    bit = _free_bit(mask, start)
    left, right, common = edges(mask, side, owner, start, cells.full[cross], dimension)
    pool, fresh = _new_points(cells, vertex[left], vertex[right], column)
    of_edge = owner[left]
    fresh_mask = common | bit[of_edge]
    mask = np.where(side == 0, mask | bit[owner], mask)
    # The children's entries, one kind after the other, then child after child: positive ones, then the others.
    above, below = side >= 0, side <= 0
    child = np.concatenate([owner[above], of_edge, owner[below] + count, of_edge + count])
    order = child.argsort(kind="stable")
    vertices = np.concatenate([vertex[above], fresh, vertex[below], fresh])[order]
    masks = np.concatenate([mask[above], fresh_mask, mask[below], fresh_mask])[order]
    origin = np.concatenate([stay.nonzero()[0], cross, cross])
    first, bit = len(origin) - 2 * count, np.concatenate([bit, bit])
    strict, sure = cells.strict[origin], cells.sure[origin]
    strict[first:] &= ~bit  # the bit may have been another facet's, which is gone
    strict[first : first + count] |= bit[:count]
    rounded = np.bincount(of_edge[~pool.exact[fresh]], minlength=count) > 0
    sure[first:] &= ~np.concatenate([rounded, rounded])
    return pool.but(
        start=ragged.starts(np.concatenate([lengths[stay], np.bincount(child)])),
        vertex=np.concatenate([cells.vertex[same], vertices]),
        mask=np.concatenate([cells.mask[same], masks]),
        planes=_with_plane(cells.planes[origin], first, bit, plane),
        labels=cells.labels[origin],
        strict=strict,
        full=cells.full[origin],
        sure=sure,
    )


def _with_plane(planes: NDArray[np.int32], first: int, bit: Ints, plane: int) -> NDArray[np.int32]:
    """The table, (C, F), with the plane at the bits' places, (C - first,), in its rows from `first` on."""
    place = bits.place(bit)
    planes = _widened(planes, int(place.max()) + 1)
    planes[np.arange(first, len(planes)), place] = plane
    return planes


def _touched(cells: Polytopes, touch: Ints, side: NDArray[np.int8], plane: int) -> tuple[Polytopes, Polytopes, Ints]:
    """Polytopes without the face on the plane; the faces that belong to them; which polytopes these are of."""
    part = cells.select(touch)
    bit = _free_bit(part.mask, part.start)
    flat = side[ragged.ranges(cells.start[touch], part.lengths)] == 0
    mask = np.where(flat, part.mask | bit.repeat(part.lengths), part.mask)
    planes = _with_plane(part.planes.copy(), 0, bit, plane)
    opened = part.but(mask=mask, planes=planes, strict=part.strict | bit)
    start = ragged.starts(ragged.count(flat, part.start))
    mask = part.mask[flat]
    which = (np.bitwise_and.reduceat(mask, start[:-1]) & part.strict == 0).nonzero()[0]
    face = part.but(start=start, vertex=part.vertex[flat], mask=mask)
    return opened, face.but(full=np.zeros_like(part.full)).select(which), which


def edges(
    mask: Ints,  # (T,)
    side: NDArray[np.int8],  # (T,)
    owner: Ints,  # (T,): each entry's polytope
    start: Ints,  # (C + 1,)
    full: Flags,  # (C,)
    dimension: int,
) -> tuple[Ints, Ints, Ints]:  # (E,) entry above, (E,) entry below, (E,) shared facets
    """The edges of each polytope that lead from a vertex above to one below, polytope after polytope."""
    above, below = (side > 0).nonzero()[0], (side < 0).nonzero()[0]
    down = np.bincount(owner[below], minlength=len(full))
    need = np.where(full, dimension - 1, 0)[owner]
    simple = (bits.popcount(mask) <= dimension) & full[owner]
    many, first = down[owner[above]], ragged.starts(down)[owner[above]]
    found = []
    for a, b in ragged.blocks(many, PAIRS):
        left = above[a:b].repeat(many[a:b])
        right = below[ragged.ranges(first[a:b], many[a:b])]
        common = mask[left] & mask[right]
        keep = bits.popcount(common) >= need[left]
        left, right, common = left[keep], right[keep], common[keep]
        clear = simple[left] | simple[right]
        if not clear.all():
            doubt = ~clear
            clear[doubt] = _spanning(mask, start, common[doubt], owner[left[doubt]])
            left, right, common = left[clear], right[clear], common[clear]
        found.append((left, right, common))
    if len(found) == 1:
        return found[0]
    left, right, common = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return left, right, common


def _spanning(mask: Ints, start: Ints, common: Ints, owner: Ints) -> Flags:  # (Q,), (Q,) -> (Q,)
    """Whether only two vertices of the polytope lie on all the facets in `common`."""
    lengths = (start[1:] - start[:-1])[owner]
    verdict = np.empty(len(common), dtype=bool)
    for a, b in ragged.blocks(lengths, PAIRS):
        entry = ragged.ranges(start[owner[a:b]], lengths[a:b])
        wanted = common[a:b].repeat(lengths[a:b])
        verdict[a:b] = ragged.count(mask[entry] & wanted == wanted, ragged.starts(lengths[a:b])) == 2
    return verdict


def _new_points(cells: Polytopes, above: Ints, below: Ints, column: int) -> tuple[Polytopes, Ints]:
    """The pool with a point more for every pair of points, and where each pair's lies."""
    count = len(cells.points)
    key, place = np.unique(above * count + below, return_inverse=True)
    up, down = np.divmod(key, count)
    a, b = cells.points[up], cells.points[down]
    value, other = a[:, column : column + 1], b[:, column : column + 1]
    new = a + (b - a) * value / (value - other)
    new[:, column] = 0
    exact = cells.exact[up] & cells.exact[down]
    if exact.any():
        exact[exact] = _exactly(a[exact], b[exact], new[exact], column, cells.scale)
    pool = cells.but(points=np.concatenate([cells.points, new]), exact=np.concatenate([cells.exact, exact]))
    return pool, place + count


def _exactly(a: Floats, b: Floats, new: Floats, column: int, scale: Floats) -> Flags:  # (Q, K) each -> (Q,)
    """Whether `new` is the point of the segment from a to b at which the column is zero, in real numbers."""
    value, other = a[:, column : column + 1], b[:, column : column + 1]
    units = new * scale
    fits = (np.maximum(np.maximum(np.abs(a), np.abs(b)), np.abs(new)) * scale <= UNITS / 2).all(1)
    fits &= (units.round() == units).all(1)
    left, right = (new - a) * (value - other), (b - a) * value
    # (new - a) (f(a) - f(b)) = (b - a) f(a), where both products are whole numbers of units and small enough.
    fits &= (np.maximum(np.abs(left), np.abs(right)) * (scale * scale[column]) <= UNITS).all(1)
    return fits & (left == right).all(1)
