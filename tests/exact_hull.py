"""The hull of a few ReLUs over a polytope of their pre-activations, facet by facet: the truth for the batched rows.

z -> max(z, a z) is linear on each orthant, so conv {(z, y) : z in P} is spanned by the corners of P cut by the
hyperplanes z_i = 0 (k-ReLU, Singh et al., NeurIPS 2019). `exact_hull` finds these corners as the feasible ones among
all choices of K rows and hyperplanes, lifts them, and takes the facets from Qhull (Barber et al. 1996) inside their
affine hull, with two opposite rows for each direction across it: a flat polytope, a stable neuron and a single point
are no special cases. An octahedron of three neurons has about 500 facets (30 ms), one of four neurons and 32 rows up
to a million (100 s).

Nothing that Qhull or the corners say is trusted. For a row c y + b z, f_s the form it is on the orthant s, any
lambda >= 0 over the rows A z <= t of P proves

    max { f_s z : z in P, z in s }  <=  lambda t + sum_i max { (f_s - lambda A)_i z_i : z_i in its interval in s },

and each offset is the largest of these over the orthants, lambda being the best among the clamped multipliers of all
bases found there, so that ties do no harm. The intervals of z come from the same inequality: if e_i = lambda A + r
for every i and both signs, and d is the largest |r|_1, then |z_i| <= lambda t + d |z|, hence |z| <= max(lambda t) /
(1 - d): no interval is assumed, and a polytope that is unbounded is found out.

Soundness: outward rounded. That the rows of `exact_hull` are all facets there are is exact up to Qhull's precision.
"""

from __future__ import annotations

from itertools import chain, combinations, product
from math import comb

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import ConvexHull, QhullError
from torch import Tensor

from partita.kernels.hull import Hulls
from partita.kernels.octahedron import LARGEST, Octahedron
from partita.kernels.proof_constants import SIZES
from partita.problems.errors import BadInput
from partita.relaxations.lp import highs
from partita.relaxations.lp.model import LinearModel

Array = NDArray[np.float64]
UNIT = np.finfo(np.float64).eps / 2
MOST_SETS = 2_000_000  # row sets tried for corners
TOLERANCE = 1e-9  # of the polytope's size: corners that far outside count as feasible, or as the same


def exact_hull(normals: Array, limits: Array, slope: float = 0.0) -> tuple[Array, Array, Array]:
    """The facets of conv {(z, y) : normals z <= limits, y = max(z, slope z)}: (C, K), (C, K) and (C,) with
    on_post y + on_pre z <= offset. Largest coefficient 1; rows on z alone are those facets of P that are facets here.

    normals (T, K), limits (T,); rows with a NaN or infinite limit say nothing and are left out. An empty polytope has
    the one row 0 <= -1. Raises BadInput for K > 4, for an unbounded polytope and for one of too many rows.
    """
    normals, limits = _checked(normals, limits)
    size = normals.shape[1]
    bases = _bases(normals, limits)
    if not len(bases.z):
        return _nothing(normals, limits)
    low, high = _box(normals, limits, bases)
    points = np.hstack([bases.z, np.maximum(bases.z, slope * bases.z)])
    scale = np.maximum(np.ptp(points, axis=0), 1e-12 * max(np.abs(points).max(), 1e-300))
    rows = _facets(_distinct(points / scale)) / scale
    rows /= np.abs(rows).max(axis=1, keepdims=True)
    rows[np.abs(rows) < 1e-12] = 0.0
    on_pre, on_post = rows[:, :size], rows[:, size:]
    return on_post, on_pre, _offsets(normals, limits, slope, bases, low, high, on_post, on_pre)


def exact_hulls(template: Octahedron, limits: Tensor, slope: float = 0.0) -> Hulls:  # (G, T)
    """`exact_hull` of each group in the form and the dtype of `kernels.hull.relu_hulls`; 0 <= 0 fills up."""
    normals = template.normals.cpu().numpy()
    found = [exact_hull(normals, t, slope) for t in limits.detach().cpu().double().numpy()]
    width = max((len(offset) for *_, offset in found), default=0)
    parts = []
    for part in zip(*found, strict=True):
        full = [np.pad(p, [(0, width - len(p)), *[(0, 0)] * (p.ndim - 1)]) for p in part]
        parts.append(torch.from_numpy(np.stack(full)))
    if not parts:
        zero = limits.new_zeros(0, 0, template.size)
        return Hulls(zero, zero, limits.new_zeros(0, 0))
    on_post, on_pre, offset = parts
    if limits.dtype is not torch.float64:
        # What rounding the coefficients can add, over z and y in the box that the limits give, y no larger than z.
        reach = torch.maximum(limits[:, template.upper].abs(), limits[:, template.lower].abs()).cpu().double()
        moved = (on_post - on_post.to(limits.dtype).double()).abs() + (on_pre - on_pre.to(limits.dtype).double()).abs()
        offset = offset + SIZES * (moved * reach[:, None]).sum(-1)
        offset = torch.nextafter((offset + 1e-300).to(limits.dtype), torch.tensor(torch.inf, dtype=limits.dtype))
    return Hulls(*(t.to(limits) for t in (on_post, on_pre, offset)))


def _few(size: int) -> None:
    if not 1 <= size <= LARGEST:
        raise BadInput(f"the hull of {size} neurons is out of reach here; take groups of 1 to {LARGEST}")


def _checked(normals: Array, limits: Array) -> tuple[Array, Array]:
    normals, limits = np.asarray(normals, np.float64), np.asarray(limits, np.float64)
    if normals.ndim != 2 or limits.shape != normals.shape[:1]:
        raise BadInput(f"a polytope is given by (T, K) normals and (T,) limits, not {normals.shape} and {limits.shape}")
    _few(normals.shape[1])
    if not np.isfinite(normals).all():
        raise BadInput("a polytope's normals must be finite; leave the row out that has none")
    if (limits == -np.inf).any():
        raise BadInput("a polytope's limit is -inf; give the row 0 <= -1 where it is empty")
    known = np.isfinite(limits) & normals.any(axis=1)
    return normals[known], limits[known]


class _Bases:
    """Sets of K rows and hyperplanes that meet in a feasible point: z (N, K), rows (N, K) with T + i for z_i = 0."""

    def __init__(self, z: Array, rows: NDArray[np.int64], inverse: Array) -> None:
        self.z, self.rows, self.inverse = z, rows, inverse


def _bases(normals: Array, limits: Array) -> _Bases:
    count, size = normals.shape
    if comb(count + size, size) > MOST_SETS:
        raise BadInput(f"a polytope of {count} rows in {size} dimensions has too many row sets; leave rows out")
    full, right = np.vstack([normals, np.eye(size)]), np.concatenate([limits, np.zeros(size)])
    norm = np.linalg.norm(full, axis=1)
    full_n, right_n = full / norm[:, None], right / norm
    sets = np.fromiter(chain.from_iterable(combinations(range(count + size), size)), np.int64).reshape(-1, size)
    found = []
    for start in range(0, len(sets), 100_000):
        some = sets[start : start + 100_000]
        matrix = full_n[some]
        good = np.abs(np.linalg.det(matrix)) > 1e-10
        some, matrix = some[good], matrix[good]
        inverse = np.linalg.inv(matrix)
        z = (inverse * right_n[some][:, None]).sum(-1)
        reach = np.abs(right_n[np.isfinite(right_n)]).max(initial=0.0) + 1e-300
        slack = (z @ full_n[:count].T - right_n[:count]).max(axis=1, initial=-np.inf)
        inside = slack <= TOLERANCE * reach
        found.append((z[inside], some[inside], inverse[inside] / norm[some[inside]][:, None]))
    return _Bases(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _prices(bases: _Bases, forms: Array, count: int) -> Array:  # (F, K) -> (F, N, K)
    """The clamped multipliers of the rows of every basis; zero for hyperplanes."""
    price = np.einsum("nkj,fk->fnj", bases.inverse, forms)
    return np.where(bases.rows < count, np.maximum(price, 0.0), 0.0)


def _box(normals: Array, limits: Array, bases: _Bases) -> tuple[Array, Array]:
    """Intervals of z over P, outward rounded. Raises BadInput where P is unbounded."""
    count, size = normals.shape
    forms = np.vstack([np.eye(size), -np.eye(size)])
    price = _prices(bases, forms, count)
    rows = np.minimum(bases.rows, count - 1)
    rest = forms[:, None] - np.einsum("fnj,njk->fnk", price, normals[rows])
    doubt = _gamma(size + 4) * (np.abs(forms)[:, None] + np.einsum("fnj,njk->fnk", price, np.abs(normals[rows])))
    left = (np.abs(rest) + doubt).sum(-1)  # (F, N) what is not combined from rows, in the 1-norm
    terms = price * limits[rows]
    paid = terms.sum(-1) + _gamma(size + 4) * np.abs(terms).sum(-1)
    reach = np.abs(bases.z).max() + np.abs(limits).max()
    best = (paid + left * max(reach, 1e-300) * 1e3).argmin(axis=1)
    paid, left = (part[np.arange(2 * size), best] for part in (paid, left))
    if left.max() > 0.25:
        raise BadInput("a polytope is unbounded; give every neuron a finite lower and upper limit")
    most = max(paid.max(), 0.0) / (1 - left.max()) * (1 + 8 * UNIT) + np.finfo(np.float64).tiny
    ends = paid + left * most
    ends = ends + 8 * UNIT * (np.abs(paid) + left * most)
    return -ends[size:], ends[:size]


def _offsets(
    normals: Array,
    limits: Array,
    slope: float,
    bases: _Bases,
    low: Array,
    high: Array,
    on_post: Array,
    on_pre: Array,
) -> Array:  # (C,)
    """The largest value of each row over the lifted polytope; outward rounded."""
    count, size = normals.shape
    offset = np.full(len(on_post), -np.inf)
    slack = TOLERANCE * (np.abs(bases.z).max() + 1e-300)
    magnitude = np.abs(on_post) + np.abs(on_pre)
    for orthant in product((1.0, -1.0), repeat=size):
        sign = np.array(orthant)
        here_low = np.where(sign > 0, np.maximum(low, 0.0), low)
        here_high = np.where(sign > 0, high, np.minimum(high, 0.0))
        if (here_low > here_high).any():
            continue
        inside = (bases.z * sign >= -slack).all(axis=1)
        if not inside.any() and _proved_empty(normals, limits, here_low, here_high):
            continue
        # Where no corner lies in the orthant, any multipliers may prove something: those of all bases are tried.
        some = _Bases(*(part[inside if inside.any() else slice(None)] for part in vars(bases).values()))
        rows = np.minimum(some.rows, count - 1)
        forms = on_pre + on_post * np.where(sign > 0, 1.0, slope)
        step = max(1, 2_000_000 // (len(some.z) * size))
        for start in range(0, len(forms), step):
            part = slice(start, start + step)
            price = _prices(some, forms[part], count)
            combined = np.einsum("fnj,njk->fnk", price, normals[rows])
            doubt = np.einsum("fnj,njk->fnk", price, np.abs(normals[rows])) + magnitude[part, None]
            rest = forms[part, None] - combined
            charge = np.where(rest > 0, rest * here_high, rest * here_low)
            terms = price * limits[rows]
            reach = np.maximum(np.abs(here_low), np.abs(here_high))
            lost = _gamma(size + 6) * (doubt @ reach)
            lost += _gamma(2 * size + 6) * (np.abs(terms).sum(-1) + np.abs(charge).sum(-1))
            bound = terms.sum(-1) + charge.sum(-1) + lost * (1 + 8 * UNIT)
            offset[part] = np.maximum(offset[part], bound.min(axis=1))
    return np.nextafter(offset, np.inf)


def _gamma(terms: int) -> float:
    return terms * UNIT / (1 - terms * UNIT)


def _distinct(points: Array) -> Array:
    """Points without those that repeat another up to rounding."""
    grid = np.round(points / (1e-10 * max(np.abs(points).max(), 1e-300)))
    return points[np.sort(np.unique(grid, axis=0, return_index=True)[1])]


def _facets(points: Array) -> Array:  # (V, D) -> (C, D)
    """Normals of the facets of the points' hull, and both signs of directions across it. Heuristic."""
    centred = points - points.mean(axis=0)
    _, size, axes = np.linalg.svd(centred, full_matrices=True)
    rank = int((size > 1e-8 * max(size.max(initial=0.0), 1e-8 * np.abs(points).max(initial=1e-300))).sum())
    across, along = axes[rank:], axes[:rank]
    flat = np.vstack([across, -across])
    if rank == 0:
        return flat
    inside = centred @ along.T
    if rank == 1:
        return np.vstack([flat, along, -along])
    try:
        equations = ConvexHull(inside).equations
    except QhullError:
        equations = ConvexHull(inside, qhull_options="QJ Pp").equations
    found = equations[:, :-1] @ along
    found /= np.abs(found).max(axis=1, keepdims=True)
    return np.vstack([flat, found[np.sort(np.unique(np.round(found, 9), axis=0, return_index=True)[1])]])


def _proved_empty(normals: Array, limits: Array, low: Array, high: Array) -> bool:
    """Whether normals z <= limits has no point in a box, by a Farkas ray that was checked (`LinearModel`)."""
    open_side = np.full(len(limits), -np.inf)
    model = LinearModel(np.zeros_like(low), low, high, csr_array(normals), open_side, limits)
    return highs.solve(model).bound_safe == np.inf


def _nothing(normals: Array, limits: Array) -> tuple[Array, Array, Array]:
    """The row 0 <= -1, if the polytope is proved empty from the intervals its own rows give; else no row at all."""
    size = normals.shape[1]
    low, high = np.full(size, -np.inf), np.full(size, np.inf)
    for row, limit in zip(normals, limits, strict=True):
        (entries,) = row.nonzero()
        if len(entries) == 1:
            (k,) = entries
            end = limit / row[k]
            if row[k] > 0:
                high[k] = min(high[k], np.nextafter(end, np.inf))
            else:
                low[k] = max(low[k], np.nextafter(end, -np.inf))
    proved = _proved_empty(normals, limits, low, high)
    rows = np.zeros((int(proved), size))
    return rows, rows.copy(), np.full(int(proved), -1.0)
