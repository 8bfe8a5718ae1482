"""Octahedra {z : T z <= t} of few dimensions, thousands at once: their corners, cut by the coordinate hyperplanes.

The rows of T are the sign vectors {-1, 0, 1}^K with at most `order` entries, the same for every polytope; only the
limits t differ. So everything about T is found once: which rows can meet in a corner, and the inverse of their matrix.

*Which rows can meet.* If the ray of f + g is a row h too, then h z <= t_h wherever f z <= t_f and g z <= t_g; once
t_h is no more than that sum allows (`closed`, a pass or two of it), no corner needs f and g together but in a tie. Ties
are the rule (a box has seven rows through each corner), so the limits are spread by about 1e-8 of the box's width, in a
way that is strictly submodular: then every corner lies on exactly K rows, and sets of K rows that can meet pairwise are
all there is to try. For K = 3 that leaves 248 of 2,600 triples, for K = 4 and order 2, 1,280 of 35,960.

*Cut by the hyperplanes.* z -> max(z, a z) is linear on each orthant, so its hull over P is spanned by the corners of
P cut by orthants. A corner with z_I = 0 is a corner of the section {z : z_I = 0} of P, which is an octahedron in the
other coordinates, whose limit is the least one over the rows that agree there; all its row sets are tried.

Corners are floating-point numbers, and one may be missed or be none: they choose what is proved in `hull`, and prove
nothing. Cost, K = 3: a product (G 248, 3) x (3, 26) and two passes over its result, 6,448 float64 numbers a group.

Soundness: `closed` and `empty_orthants` are outward rounded; `corners` is heuristic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import gcd
from typing import NamedTuple

import torch
from torch import Tensor

from .rounding import unit_roundoff

SPREAD = 1e-8  # of the box's width; the square root of float64's precision: see `hull` on what is lost where rows tie
LARGEST = 4


class Section(NamedTuple):
    """P where the coordinates outside `kept` are zero."""

    kept: tuple[int, ...]
    sources: Tensor  # (T', M) the rows of P that agree on `kept`, repeated to fill up
    beside: Tensor  # (A,) the rows of P that vanish on `kept`
    normals: Tensor  # (T', K')
    bases: Tensor  # (N, K') rows of `normals` that can meet
    inverses: Tensor  # (N, K', K')
    room: int  # corners kept

    def to(self, device: torch.device | str) -> Section:
        """The same section on another device."""
        return self._replace(
            sources=self.sources.to(device),
            beside=self.beside.to(device),
            normals=self.normals.to(device),
            bases=self.bases.to(device),
            inverses=self.inverses.to(device),
        )


@dataclass(frozen=True, eq=False)
class Octahedron:
    """A template of directions; see `octahedron`."""

    normals: Tensor  # (T, K) float64, entries -1, 0, 1
    upper: Tensor  # (K,) the rows e_1 ... e_K
    lower: Tensor  # (K,) the rows -e_1 ... -e_K
    opposite: Tensor  # (T,) the row -T[r]
    sums: Tensor  # (T, J, 2) pairs of rows whose sum is a multiple of row r
    share: Tensor  # (T, J) by what that sum is to be multiplied
    apart: Tensor  # (T, K + K (K - 1) / 2) by what a row's limit is spread: of the widths, of the pairs' lesser widths
    orthants: Tensor  # (2^K, K) entries -1, 1
    shadows: Tensor  # (2^K, E, 2) pairs of rows whose sum is >= 0 on the orthant
    sections: tuple[Section, ...]

    @property
    def size(self) -> int:
        """K."""
        return self.normals.shape[1]

    def __len__(self) -> int:
        return len(self.normals)

    def to(self, device: torch.device | str) -> Octahedron:
        """The same template on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved, sections=tuple(section.to(device) for section in self.sections))


class Corners(NamedTuple):
    """The corners of G octahedra cut by the coordinate hyperplanes, V places for each."""

    z: Tensor  # (G, V, K) where not `real`, a copy of another
    real: Tensor  # (G, V)
    on: Tensor  # (G, V, 2^K) in the closed orthant; nowhere where not `real`
    rows: Tensor  # (G, V, K) rows of the template that meet there
    used: Tensor  # (G, V, K) whether that entry is one (else a hyperplane)
    inverse: Tensor  # (G, V, K, K) of the matrix of these rows: z = inverse t[rows]; zero where not `used`


def octahedron(size: int, order: int | None = None) -> Octahedron:
    """The template of `size` (K, 1 to 4) coordinates with all sign vectors of 1 to `order` entries.

    By default all of them up to K = 3 (2, 8, 26 rows), and those of one and two entries for K = 4 (32). Rows of fewer
    entries come first. Raises ValueError for sizes beyond; K = 4 takes no order above 2 (76,016 row sets a group).
    """
    if not 1 <= size <= LARGEST:
        raise ValueError(f"octahedra of {size} neurons are not enumerated here; take 1 to {LARGEST}")
    order = order or (2 if size == LARGEST else size)
    if not 1 <= order <= (2 if size == LARGEST else size):
        raise ValueError(f"an octahedron of {size} neurons has order 1 to {2 if size == LARGEST else size}")
    rows = _sign_vectors(size, order)
    at = {row: i for i, row in enumerate(rows)}
    normals = torch.tensor(rows, dtype=torch.float64)
    pairs, share = _sums(rows, at)
    orthants = list(product((1, -1), repeat=size))
    shadows = _padded([list(_shadows(rows, orthant)) for orthant in orthants])
    kept = [k for n in range(size, 0, -1) for k in combinations(range(size), n)]
    upper, lower = ([at[tuple(sign * int(i == k) for i in range(size))] for k in range(size)] for sign in (1, -1))
    return Octahedron(
        normals=normals,
        upper=torch.tensor(upper),
        lower=torch.tensor(lower),
        opposite=torch.tensor([at[tuple(-x for x in row)] for row in rows]),
        sums=pairs,
        share=share,
        apart=_apart(rows),
        orthants=torch.tensor(orthants, dtype=torch.float64),
        shadows=shadows,
        sections=tuple(_section(rows, k, order) for k in kept),
    )


def _sign_vectors(size: int, order: int) -> list[tuple[int, ...]]:
    found = (row for row in product((1, 0, -1), repeat=size) if 1 <= sum(map(abs, row)) <= order)
    return sorted(found, key=lambda row: sum(map(abs, row)))


def _add(f: tuple[int, ...], g: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The primitive vector of the ray of f + g, and what it was divided by (0 where f = -g)."""
    total = tuple(a + b for a, b in zip(f, g, strict=True))
    common = gcd(*total)
    return (total, 0) if common == 0 else (tuple(x // common for x in total), common)


def _sums(rows: list[tuple[int, ...]], at: dict[tuple[int, ...], int]) -> tuple[Tensor, Tensor]:
    found: list[list[tuple[int, int, float]]] = [[(i, i, 0.5)] for i in range(len(rows))]
    for i, j in combinations(range(len(rows)), 2):
        total, common = _add(rows[i], rows[j])
        if common and total in at:
            found[at[total]].append((i, j, 1 / common))
    width = max(map(len, found))
    full = torch.tensor([(f + f[:1] * width)[:width] for f in found], dtype=torch.float64)
    return full[..., :2].long(), full[..., 2].contiguous()


def _apart(rows: list[tuple[int, ...]]) -> Tensor:
    """sum_i |f_i| w_i - sum_{i < j} |f_i f_j| min(w_i, w_j) / (2 K), each times a factor near 1 that its signs fix.

    As a function of f it is strictly submodular whatever the widths w, and in general position.
    """
    size = len(rows[0])
    draw = torch.Generator().manual_seed(size)
    alone = 1 + 0.1 * torch.rand(3, size, generator=draw, dtype=torch.float64)
    both = 1 + 0.1 * torch.rand(3, 3, size, size, generator=draw, dtype=torch.float64)
    found = []
    for f in rows:
        one = [abs(f[i]) * alone[f[i], i].item() for i in range(size)]
        two = [-abs(f[i] * f[j]) * both[f[i], f[j], i, j].item() / (2 * size) for i, j in combinations(range(size), 2)]
        found.append(one + two)
    return torch.tensor(found, dtype=torch.float64)


def _shadows(rows: list[tuple[int, ...]], orthant: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Pairs (i, i) or (i, j) whose sum is >= 0 on the orthant while its parts are not."""
    least = lambda f: min(s * x for s, x in zip(orthant, f, strict=True))  # noqa: E731
    yield from ((i, i) for i, f in enumerate(rows) if least(f) >= 0)
    for (i, f), (j, g) in combinations(enumerate(rows), 2):
        if least(f) < 0 and least(g) < 0 and any(_add(f, g)[0]) and least(_add(f, g)[0]) >= 0:
            yield i, j


def _padded(lists: list[list[tuple[int, ...]]]) -> Tensor:
    width = max(map(len, lists))
    return torch.tensor([(one + one[:1] * width)[:width] for one in lists])


def _section(rows: list[tuple[int, ...]], kept: tuple[int, ...], order: int) -> Section:
    size, whole = len(kept), len(kept) == len(rows[0])
    own = _sign_vectors(size, min(order, size))
    at = set(own)
    sources = _padded([[(i,) for i, row in enumerate(rows) if tuple(row[k] for k in kept) == f] for f in own])[..., 0]
    beside = torch.tensor([i for i, row in enumerate(rows) if not any(row[k] for k in kept)], dtype=torch.int64)
    apart = torch.zeros(len(own), len(own), dtype=torch.bool)
    for i, j in combinations(range(len(own)), 2):
        total, common = _add(own[i], own[j])
        apart[i, j] = common == 0 or (whole and total in at)
    sets = torch.combinations(torch.arange(len(own)), size)
    for i, j in combinations(range(size), 2):
        sets = sets[~apart[sets[:, i], sets[:, j]]]
    normals = torch.tensor(own, dtype=torch.float64)
    sets = sets[torch.linalg.det(normals[sets]).abs() > 0.5]
    # A simple polytope with n facets has at most n or 2 n - 4 corners in 2 or 3 dimensions. In four it may have
    # n (n - 3) / 2 = 464, of which octahedra were never seen to have more than 130.
    n = len(own)
    room = (2, n, 2 * n - 4, 6 * n)[size - 1]
    return Section(kept, sources, beside, normals, sets, torch.linalg.inv(normals[sets]), min(room, len(sets)))


def closed(template: Octahedron, limits: Tensor, passes: int = 3) -> Tensor:  # (G, T) float64 -> (G, T)
    """Limits that their own sums imply, where these are smaller. Outward rounded; NaN says nothing, like infinity."""
    limits = limits.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    u = unit_roundoff(limits.dtype)
    for _ in range(passes):
        first, second = limits[:, template.sums[..., 0]], limits[:, template.sums[..., 1]]
        implied = (first + second) * template.share
        implied = implied + 4 * u * implied.abs()
        limits = torch.minimum(limits, implied.amin(-1))
    return limits


def empty_orthants(template: Octahedron, limits: Tensor) -> Tensor:  # (G, T) float64 -> (G, 2^K)
    """Where one row, or the sum of two, proves that P has no point in an orthant. Exact for the given limits.

    A sum of two floats is negative only if the real sum is.
    """
    first, second = limits[:, template.shadows[..., 0]], limits[:, template.shadows[..., 1]]
    none = (limits + limits[:, template.opposite] < 0).any(-1, keepdim=True)
    return ((first + second) < 0).any(-1) | none


def corners(template: Octahedron, limits: Tensor) -> Corners:  # (G, T) float64, `closed`
    """The corners of P and of its sections by coordinate hyperplanes. Heuristic: none is proved, none is promised."""
    width = (limits[:, template.upper] + limits[:, template.lower]).clamp(min=0)
    width = torch.maximum(width, 1e-6 * width.amax(1, keepdim=True))
    size = template.size
    first, second = torch.triu_indices(size, size, offset=1, device=limits.device)
    lesser = torch.minimum(width[:, first], width[:, second])
    spread = torch.cat([width, lesser], 1) @ template.apart.T
    apart = limits + SPREAD * spread
    parts = [_section_corners(template, section, apart, spread) for section in template.sections]
    joined = Corners(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))
    # The origin, the corner of all hyperplanes; no row meets there.
    inside = (apart >= 0).all(1)[:, None]
    zero = joined.z.new_zeros(len(limits), 1, size)
    origin = Corners(
        zero,
        inside,
        inside[..., None].expand(-1, -1, 2**size),
        zero.long(),
        zero.bool(),
        zero[..., None].expand(-1, -1, -1, size),
    )
    joined = Corners(*(torch.cat(part, 1) for part in zip(joined, origin, strict=True)))
    first = joined.real.to(torch.int8).argmax(1)[:, None, None].expand(-1, 1, size)
    return joined._replace(z=torch.where(joined.real[..., None], joined.z, joined.z.gather(1, first)))


def _section_corners(template: Octahedron, section: Section, apart: Tensor, spread: Tensor) -> Corners:
    groups, (count, part) = len(apart), section.bases.shape
    whole = section.sources.shape[1] == 1
    own, which = (apart[:, section.sources[:, 0]], None) if whole else apart[:, section.sources].min(-1)
    z = (own[:, section.bases][..., None, :] * section.inverses).sum(-1)  # (G, N, K')
    over = torch.matmul(z, section.normals.T).sub_(own[:, None])  # (G, N, T')
    real = over.amax(-1) <= 1e-3 * SPREAD * spread.amax(1, keepdim=True)
    real &= (apart[:, section.beside] >= 0).all(1, keepdim=True)
    # The real ones first, in `room` places; the last place takes what there is no room for.
    rank = real.cumsum(1) - 1
    place = torch.where(real & (rank < section.room), rank, section.room)
    index = torch.zeros(groups, section.room + 1, dtype=torch.int64, device=apart.device)
    index = index.scatter_(1, place, torch.arange(count, device=apart.device).expand(groups, -1))[:, :-1]
    real = torch.arange(section.room, device=apart.device) < real.sum(1, keepdim=True)
    z = z.gather(1, index[..., None].expand(-1, -1, part))
    rows = section.bases[index]
    if which is None:
        rows = section.sources[rows, 0]
    else:
        best = section.sources.expand(groups, -1, -1).gather(2, which[..., None])[..., 0]
        rows = best.gather(1, rows.flatten(1)).view_as(rows)
    if part == template.size:
        used = torch.ones_like(rows, dtype=torch.bool)
        full, inverse = z, section.inverses[index]
    else:
        kept = torch.tensor(section.kept, device=apart.device)
        fill = template.size - part
        full = z.new_zeros(groups, section.room, template.size).index_copy_(2, kept, z)
        rows = torch.nn.functional.pad(rows, (0, fill))
        used = torch.zeros_like(rows, dtype=torch.bool)
        used[..., :part] = True
        inverse = z.new_zeros(groups, section.room, template.size, template.size)
        inverse[:, :, kept, :part] = section.inverses[index]
    side = full[..., None, :] * template.orthants
    return Corners(full, real, (side >= 0).all(-1) & real[..., None], rows, used, inverse)
