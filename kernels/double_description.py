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

A new point is a + t (b - a) in all its columns: the coordinates and whatever affine functions of them are carried.

`sure` polytopes are free of rounding: their points are multiples of a power of two in every column (`scale` says of
which), each cut of theirs was computed without error, and this is checked by multiplying back
((new - a)(f(a) - f(b)) = (b - a) f(a) with both products below 2^53 units). Soundness: exact for them; float64
arithmetic without a guarantee for the others, which `bab/counting/proof.py` judges afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import bits, ragged

PAIRS = 2_000_000  # pairs of vertices that are looked at at once
UNITS = 2.0**52


@dataclass(frozen=True, eq=False)
class Polytopes:
    """C polytopes with T vertices in all, over P points of K columns, the first D of which are coordinates."""

    points: Tensor  # (P, K) float64
    exact: Tensor  # (P,) bool: every column is the real number that it stands for
    scale: Tensor  # (K,) float64: the columns of exact points are multiples of 1 / scale
    start: Tensor  # (C + 1,) int64
    vertex: Tensor  # (T,) int64 into the pool
    mask: Tensor  # (T,) int64: facets that the vertex lies on
    planes: Tensor  # (C, F) int32: what each facet's bit stands for, as the caller numbers hyperplanes
    labels: Tensor  # (C, W) int64: the caller's, handed down to children
    strict: Tensor  # (C,) int64: facets that do not belong to the polytope
    full: Tensor  # (C,) bool: has a non-empty interior
    sure: Tensor  # (C,) bool: free of rounding

    def __len__(self) -> int:
        return self.start.shape[0] - 1

    def but(self, **changes: Tensor) -> Polytopes:
        """A copy with some fields changed: `dataclasses.replace`, which takes ten times as long."""
        copy = object.__new__(Polytopes)
        copy.__dict__.update(self.__dict__, **changes)
        return copy

    @property
    def lengths(self) -> Tensor:  # (C,)
        return self.start[1:] - self.start[:-1]

    def select(self, index: Tensor) -> Polytopes:  # (C',) int64
        """Some of the polytopes, over the same pool."""
        lengths = self.lengths[index]
        entry = ragged.ranges(self.start[index], lengths)
        return self.but(
            start=ragged.starts(lengths),
            vertex=self.vertex.index_select(0, entry),
            mask=self.mask.index_select(0, entry),
            planes=self.planes.index_select(0, index),
            labels=self.labels.index_select(0, index),
            strict=self.strict[index],
            full=self.full[index],
            sure=self.sure[index],
        )

    def compact(self) -> Polytopes:
        """The same polytopes over a pool without points that none of them uses."""
        used = torch.zeros(len(self.points), dtype=torch.bool)
        used[self.vertex] = True
        if bool(used.all()):
            return self
        place = torch.cumsum(used, 0) - 1
        kept = ragged.where(used)
        return self.but(
            points=self.points.index_select(0, kept),
            exact=self.exact[kept],
            vertex=place.index_select(0, self.vertex),
        )


def box(lower: Tensor, upper: Tensor, words: int, plane: int = 0) -> Polytopes:  # (D,), (D,)
    """A box as the only polytope: planes 2 i and 2 i + 1 are x_i = lower_i and x_i = upper_i; flat sides are allowed.

    `words`: how many words of labels polytopes get, all zero. `plane`: the number of the first plane.
    """
    d = len(lower)
    free = torch.nonzero(lower < upper)[:, 0].tolist()
    count = 2 ** len(free)
    corner = torch.arange(count)
    points = lower.repeat(count, 1)
    mask = torch.zeros(count, dtype=torch.int64)
    for place, i in enumerate(free):
        high = (corner >> place & 1).bool()
        points[:, i] = torch.where(high, upper[i], lower[i])
        mask |= torch.where(high, 1 << (2 * place + 1), 1 << (2 * place))
    planes = torch.tensor([[plane + 2 * i + side for i in free for side in (0, 1)]], dtype=torch.int32).reshape(1, -1)
    scale = 2.0**20
    on_grid = bool(((points * scale).round() == points * scale).all()) and bool((points.abs() * scale <= UNITS).all())
    return Polytopes(
        points,
        torch.full((count,), on_grid),
        torch.full((d,), scale, dtype=torch.float64),
        torch.tensor([0, count]),
        torch.arange(count),
        mask,
        planes,
        torch.zeros(1, words, dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
        torch.tensor([len(free) == d]),
        torch.tensor([on_grid]),
    )


@dataclass(frozen=True, eq=False)
class Cut:
    """What `cut` returns: the polytopes, where each comes from, and on which side of the plane it is."""

    polytopes: Polytopes
    origin: Tensor  # (C',) int64
    positive: Tensor  # (C',) bool; where the function is zero on all of a polytope, False
    halved: Tensor  # (C',) bool: a part whose rest is another part; where False, it is its origin without a rest
    crowded: Tensor  # (n,) int64: polytopes that should have been cut but have no facet's bit left


def cut(
    cells: Polytopes,
    column: int,
    sign: Tensor,  # (P,) int8: -1, 0, 1 of the function at each point, as the caller judges it
    plane: int,
    dimension: int,  # of polytopes that are `full`
    faces: bool = False,
) -> Cut:
    """Cuts every polytope that has points on both sides of {f = 0}, where f is column `column`.

    The positive child is open at the plane, the other one closed. With `faces` a polytope with f >= 0 that touches the
    plane gives two children as well: itself without the plane, and, where it belongs to the polytope, the face on the
    plane. Uncut polytopes come first, in their order; then the positive children, the others, and the faces.
    """
    side = sign.index_select(0, cells.vertex)
    above, below = ragged.count(side > 0, cells.start), ragged.count(side < 0, cells.start)
    crossing = (above > 0) & (below > 0)
    touching = (above > 0) & (below == 0) & (above < cells.lengths) if faces else torch.zeros_like(crossing)
    wanted = ragged.where(crossing | touching)
    if wanted.shape[0] == 0:
        return Cut(cells, torch.arange(len(cells)), above > 0, torch.zeros_like(crossing), wanted)
    used = bits.union(cells.mask, cells.start)
    full = bits.popcount(used) >= bits.FACETS
    crowded = ragged.where((crossing | touching) & full)
    crossing, touching = crossing & ~full, touching & ~full
    stay, cross = ragged.where(~(crossing | touching)), ragged.where(crossing)
    both = cross.shape[0]
    main = _halves(cells, stay, cross, used[cross], side, column, plane, dimension) if both else cells.select(stay)
    origin = torch.cat([stay, cross, cross])
    positive, halved = above[origin] > 0, torch.ones(origin.shape[0], dtype=torch.bool)
    positive[origin.shape[0] - both :] = False
    halved[: stay.shape[0]] = False
    if not faces or not bool(touching.any()):
        return Cut(main, origin, positive, halved, crowded)
    touch = ragged.where(touching)
    opened, on_plane, which = _touched(cells, touch, used[touch], side, plane)
    parts = [main, *(p.but(points=main.points, exact=main.exact) for p in (opened, on_plane))]
    closed, owned = torch.zeros(len(touch), dtype=torch.bool), torch.zeros(len(touch), dtype=torch.bool)
    owned[which] = True
    return Cut(
        join(parts),
        torch.cat([origin, touch, touch[which]]),
        torch.cat([positive, ~closed, closed[which]]),
        torch.cat([halved, owned, owned[which]]),
        crowded,
    )


def join(parts: list[Polytopes]) -> Polytopes:
    """Polytopes over one pool, in one batch."""
    width = max(p.planes.shape[1] for p in parts)
    planes = [torch.nn.functional.pad(p.planes, (0, width - p.planes.shape[1]), value=-1) for p in parts]
    return parts[0].but(
        start=ragged.starts(torch.cat([p.lengths for p in parts])),
        planes=torch.cat(planes),
        **{
            name: torch.cat([getattr(p, name) for p in parts])
            for name in ("vertex", "mask", "labels", "strict", "full", "sure")
        },
    )


def _with_plane(planes: Tensor, first: int, bit: Tensor, plane: int) -> Tensor:  # (C, F), (C - first,) single
    """The table with the plane at the bit's place in the rows from `first` on."""
    place = bits.place(bit)
    missing = int(place.max()) + 1 - planes.shape[1]
    if missing > 0:
        planes = torch.nn.functional.pad(planes, (0, missing), value=-1)
    planes[first + torch.arange(place.shape[0]), place] = plane
    return planes


def _halves(
    cells: Polytopes,
    stay: Tensor,
    cross: Tensor,
    used: Tensor,
    side: Tensor,
    column: int,
    plane: int,
    dimension: int,
) -> Polytopes:
    """The polytopes `stay` as they are, then of those in `cross` the positive children, then the others."""
    lengths, first = cells.lengths, stay.shape[0]
    entry = ragged.ranges(cells.start.index_select(0, cross), lengths.index_select(0, cross))
    start = ragged.starts(lengths.index_select(0, cross))
    owner = ragged.owners(lengths.index_select(0, cross))
    vertex, mask, side = (t.index_select(0, entry) for t in (cells.vertex, cells.mask, side))
    left, right, common = edges(mask, side, start, cells.full.index_select(0, cross), dimension)
    pool, place = _new_points(cells, vertex.index_select(0, left), vertex.index_select(0, right), column)
    bit = bits.lowest_free(used)
    edge_owner = owner.index_select(0, left)
    fresh = torch.bincount(edge_owner, minlength=cross.shape[0])
    fresh_mask = common | bit.index_select(0, edge_owner)
    mask = torch.where(side == 0, mask | bit.index_select(0, owner), mask)
    # Both children's entries at once: those of the positive ones, then those of the others.
    keep = torch.cat([side >= 0, side <= 0])
    old = ragged.count(keep, torch.cat([start[:-1], start + side.shape[0]]))
    kept = ragged.where(keep) % side.shape[0]
    twice = torch.cat([fresh, fresh])
    same = ragged.ranges(cells.start.index_select(0, stay), lengths.index_select(0, stay))
    begin = ragged.starts(torch.cat([lengths.index_select(0, stay), old + twice]))
    to_old, to_fresh = ragged.ranges(begin[first:-1], old), ragged.ranges(begin[first:-1] + old, twice)
    made = []
    for before, now, new in ((cells.vertex, vertex, place), (cells.mask, mask, fresh_mask)):
        entries = torch.empty(int(begin[-1]), dtype=torch.int64)
        entries[: same.shape[0]] = before.index_select(0, same)
        entries[to_old], entries[to_fresh] = now.index_select(0, kept), torch.cat([new, new])
        made.append(entries)
    origin, bit = torch.cat([stay, cross, cross]), torch.cat([bit, bit])
    rounded = torch.bincount(edge_owner[~pool.exact.index_select(0, place)], minlength=cross.shape[0]) > 0
    strict, sure = cells.strict.index_select(0, origin), cells.sure.index_select(0, origin)
    strict[first:] &= ~bit  # the bit may have been another facet's, which is gone
    strict[first : first + cross.shape[0]] |= bit[: cross.shape[0]]
    sure[first:] &= ~torch.cat([rounded, rounded])
    return pool.but(
        start=begin,
        vertex=made[0],
        mask=made[1],
        planes=_with_plane(cells.planes.index_select(0, origin), first, bit, plane),
        labels=cells.labels.index_select(0, origin),
        strict=strict,
        full=cells.full.index_select(0, origin),
        sure=sure,
    )


def _touched(
    cells: Polytopes, touch: Tensor, used: Tensor, side: Tensor, plane: int
) -> tuple[Polytopes, Polytopes, Tensor]:
    """Polytopes without the face on the plane; the faces that belong to them; which polytopes these are of."""
    part = cells.select(touch)
    bit = bits.lowest_free(used)
    side = side.index_select(0, ragged.ranges(cells.start[touch], part.lengths))
    mask = torch.where(side == 0, part.mask | bit.index_select(0, ragged.owners(part.lengths)), part.mask)
    opened = part.but(mask=mask, planes=_with_plane(part.planes.clone(), 0, bit, plane), strict=part.strict | bit)
    flat = ragged.where(side == 0)
    lengths = ragged.count(side == 0, part.start)
    start = ragged.starts(lengths)
    mask = part.mask.index_select(0, flat)
    which = ragged.where((bits.intersection(mask, start) & part.strict) == 0)
    face = part.but(start=start, vertex=part.vertex.index_select(0, flat), mask=mask)
    return opened, face.but(full=torch.zeros_like(part.full)).select(which), which


def edges(
    mask: Tensor,  # (T,) int64
    side: Tensor,  # (T,) int8
    start: Tensor,  # (C + 1,)
    full: Tensor,  # (C,) bool
    dimension: int,
) -> tuple[Tensor, Tensor, Tensor]:  # (E,) entry above, (E,) entry below, (E,) shared facets
    """The edges of each polytope that lead from a vertex above to one below, polytope after polytope."""
    above, below = ragged.where(side > 0), ragged.where(side < 0)
    up, down = ragged.count(side > 0, start), ragged.count(side < 0, start)
    need = torch.where(full, dimension - 1, 0).to(torch.uint8)
    first_above, first_below = ragged.starts(up), ragged.starts(down)
    simple = bits.popcount(mask) <= dimension
    found = []
    for a, b in ragged.blocks(up * down, PAIRS):
        tops = above[int(first_above[a]) : int(first_above[b])]
        owner = ragged.owners(up[a:b]) + a
        many = down.index_select(0, owner)
        left = ragged.repeat(tops, many)
        right = below.index_select(0, ragged.ranges(first_below.index_select(0, owner), many))
        owner = ragged.repeat(owner, many)
        common = mask.index_select(0, left) & mask.index_select(0, right)
        keep = ragged.where(bits.popcount(common) >= need.index_select(0, owner))
        left, right, common, owner = (t.index_select(0, keep) for t in (left, right, common, owner))
        clear = (simple.index_select(0, left) | simple.index_select(0, right)) & full.index_select(0, owner)
        if not bool(clear.all()):
            doubt = ragged.where(~clear)
            clear[doubt] = _spanning(mask, start, common[doubt], owner[doubt])
            keep = ragged.where(clear)
            left, right, common = (t.index_select(0, keep) for t in (left, right, common))
        found.append((left, right, common))
    left, right, common = (torch.cat(parts) for parts in zip(*found, strict=True))
    return left, right, common


def _spanning(mask: Tensor, start: Tensor, common: Tensor, owner: Tensor) -> Tensor:  # (Q,), (Q,) -> (Q,) bool
    """Whether only two vertices of the polytope lie on all the facets in `common`."""
    lengths = (start[1:] - start[:-1]).index_select(0, owner)
    verdict = torch.empty(len(common), dtype=torch.bool)
    for a, b in ragged.blocks(lengths, PAIRS):
        entry = ragged.ranges(start.index_select(0, owner[a:b]), lengths[a:b])
        wanted = ragged.repeat(common[a:b], lengths[a:b])
        verdict[a:b] = ragged.count(mask.index_select(0, entry) & wanted == wanted, ragged.starts(lengths[a:b])) == 2
    return verdict


def _new_points(cells: Polytopes, above: Tensor, below: Tensor, column: int) -> tuple[Polytopes, Tensor]:
    """The pool with a point more for every pair of points, and where each pair's lies."""
    count = cells.points.shape[0]
    key, place = torch.unique(above * count + below, return_inverse=True)
    up, down = key // count, key % count
    a, b = cells.points.index_select(0, up), cells.points.index_select(0, down)
    value, other = a[:, column : column + 1], b[:, column : column + 1]
    new = torch.lerp(a, b, value / (value - other))
    new[:, column] = 0
    exact = cells.exact[up] & cells.exact[down]
    if bool(exact.any()):
        some = ragged.where(exact)
        exact[some] = _exactly(a[some], b[some], new[some], column, cells.scale)
    pool = cells.but(points=torch.cat([cells.points, new]), exact=torch.cat([cells.exact, exact]))
    return pool, place + count


def _exactly(a: Tensor, b: Tensor, new: Tensor, column: int, scale: Tensor) -> Tensor:  # (Q, K) each -> (Q,) bool
    """Whether `new` is the point of the segment from a to b at which the column is zero, in real numbers."""
    value, other = a[:, column : column + 1], b[:, column : column + 1]
    fits = (a.abs().maximum(b.abs()).maximum(new.abs()) * scale <= UNITS / 2).all(1)
    units = new * scale
    fits &= (units.round() == units).all(1)
    left, right = (new - a) * (value - other), (b - a) * value
    # (new - a) (f(a) - f(b)) = (b - a) f(a), where both products are whole numbers of units and small enough.
    fits &= (left.abs().maximum(right.abs()) * (scale * scale[column]) <= UNITS).all(1)
    return fits & (left == right).all(1)
