"""Rows around conv {(z, y) : z in P, y = max(z, a z)} for octahedra P, thousands at once. ReLU is a = 0.

Four steps, each a fixed number of tensor operations for a whole batch of groups of K neurons:

1. *Corners.* The hull is spanned by the corners of P cut by the orthants, lifted to (z, y): `octahedron.corners`.
2. *Targets.* Points that single-neuron rows allow and the hull should not: corners z of P (or of a section), with
   some y_i raised to the chord, the others left on the function. The caller's own points come first, where given.
3. *Sliding.* In coordinates around an interior point, rows w x <= 1 form the polar polytope {w : w x_v <= 1 for all
   corners v}, whose corners are the facets of the hull, and p is cut off by w where w p > 1. Start at w = 0, move
   towards p until a corner is met, go on along the part of p that keeps the corners met, and so on: 2 K steps, each a
   product (R, 2 K) x (2 K, V) and a ratio test, w p growing all the time, end in a facet. It is mostly one that cuts
   p off (98 % of the optima of linear programs), and need not be the one that does so most. Going on to that one, by
   the simplex method, was tried: its rows are better for p and worse together (87 to 91 % of the gap below, not 96).
4. *Proof.* Whatever the row b z + c y <= ?, its offset is computed afresh. On the orthant s, y_i is z_i or a z_i, so
   the row is a form f_s z; every lambda >= 0 gives

       max { f_s z : z in P, z in s }  <=  lambda t + sum_i max { (f_s - lambda T)_i z_i : z_i in its interval in s },

   and the offset is the largest of these over the orthants that P is not proved to miss. lambda is that of the basis
   of the best corner, clamped; what a wrong corner costs is tightness. Rows that tie make the basis of a corner as
   good as that of its neighbour up to rounding: limits that are spread by 1e-8 lose about 1e-8 of the box there.

Soundness: outward rounded. Steps 1 to 3 are heuristic, and step 4 bounds its own rounding (Higham 2002, section 3.1).
On a CUDA device steps 3 and 4 are a fused kernel each, `triton/slide.py` and, under the same bound, `triton/hull.py`.

An octahedron of three neurons has 79 corners and some 500 facets or 3,000 once triangulated; 48 rows close 97 % of the
gap that single-neuron rows leave to the exact hull over P (random linear forms of (z, y)), 104 rows, from `thorough`
targets, 99.4 %; for K = 2, 99.6 and 99.9 %, for K = 4, 96 and 99 %. Operations of a hull, K = 3, 48 rows: 19,000
multiplications for corners and two passes over 6,448 numbers; 160,000 for sliding and 30 passes over 4,424; 144,000
for the proof and 32 passes over 4,503: 0.3 million multiplications, and 2.4 MB through the cache. It takes 0.38 ms on
one core (2,600 hulls a second, 157,000 a minute; thorough 74,000; K = 2, 1.7 million; K = 4, 14,000): the time goes
to the products (a third), to largest entries (a third) and to picking the corner's basis; float32 would save a
seventh, and is not used, since rows that are the same come out 1e-3 apart.

Known ways: PRIMA (Mueller et al., POPL 2022) hulls the orthants' parts one coordinate at a time and lifts the facets;
WraLU (Ma et al., POPL 2024) extends the rows of P by one neuron at a time in closed form, which is the slide from a row
of P along y_i. Starting at the interior instead reaches facets that no row of P is a neighbour of.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .device import fused
from .octahedron import Corners, Octahedron, closed, corners, empty_orthants
from .proof_constants import SUMMED
from .rounding import gamma

CHUNK = 128  # groups at a time on a CPU: what a chunk needs stays in its cache
LEVEL = 1e-5  # gains below count as none, the hull being of size 1
SLOWEST = 1e-4  # where no corner gains on the way, it is followed as far as if one did so much
CLOSEST = 1e-6  # what is left of 1 - w x at corners that are met, for the sake of division


class Hulls(NamedTuple):
    """on_post y + on_pre z <= offset for G groups, C rows each. The last 3 K rows are those of single neurons."""

    on_post: Tensor  # (G, C, K)
    on_pre: Tensor  # (G, C, K)
    offset: Tensor  # (G, C)


class _Group(NamedTuple):
    """What the steps know of a chunk of groups; float64."""

    limits: Tensor  # (G, T) closed
    lower: Tensor  # (G, K)
    upper: Tensor  # (G, K)
    width: Tensor  # (G, K) positive
    corners: Corners
    value: Tensor  # (G, V, K) y at the corners


def relu_hulls(
    template: Octahedron,  # on the device of `limits`
    limits: Tensor,  # (G, T) float32 or float64, t of each group
    slope: float = 0.0,
    points: Tensor | None = None,  # (G, E, 2 K) z and y, to be cut off if possible
    thorough: bool = False,
    chunk: int | None = None,
) -> Hulls:
    """Valid rows for the hull of K (leaky) ReLUs over {T z <= t}, in the dtype of `limits`. Outward rounded.

    Each group gets one row for each of its points, the distinct ones of those found from `targets` (0 <= 0 fills up),
    and the 3 K single-neuron rows: -y + a z <= 0, -y + z <= 0, chord. The rows of P itself are not repeated. A group
    whose limits prove it empty gets rows 0 <= -1, which nothing satisfies; one with an infinite interval gets 0 <= 0
    in place of what it cannot bound. `chunk` groups are treated at a time.
    """
    count = len(limits)
    step = chunk or (CHUNK if limits.device.type == "cpu" else 8192)
    parts = []
    for start in range(0, max(count, 1), step):
        some = None if points is None else points[start : start + step]
        parts.append(_chunk(template, limits[start : start + step], slope, some, thorough))
    return Hulls(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _chunk(template: Octahedron, limits: Tensor, slope: float, points: Tensor | None, thorough: bool) -> Hulls:
    group = _grouped(template, limits, slope)
    aims = targets(template, group, slope, thorough)
    asked = 0 if points is None else points.shape[1]
    rows = slide(group, aims if points is None else torch.cat([points.to(aims), aims], 1))
    rows = torch.cat([rows[:, :asked], _distinct(rows[:, asked:])], 1).to(limits.dtype)
    on_pre, on_post = rows.split(template.size, -1)
    single_post, single_pre = single_rows(group, slope, limits.dtype)
    on_post, on_pre = torch.cat([on_post, single_post], 1), torch.cat([on_pre, single_pre], 1)
    offset, empty = proved(template, group, slope, on_post.double(), on_pre.double())
    size = template.size
    offset = _up(offset, limits.dtype)
    offset[:, -3 * size : -size] = 0  # y >= z and y >= a z hold as they are
    bad = ~offset.isfinite()
    offset = torch.where(bad, 0.0, offset)
    offset = torch.where(empty[:, None], -1.0, offset)
    none = (bad | empty[:, None])[..., None]
    return Hulls(torch.where(none, 0.0, on_post), torch.where(none, 0.0, on_pre), offset)


def _up(value: Tensor, dtype: torch.dtype) -> Tensor:
    """float64 to `dtype`, rounded up."""
    if dtype is torch.float64:
        return value
    low = value.to(dtype)
    return torch.where(low.double() < value, torch.nextafter(low, torch.full_like(low, torch.inf)), low)


def _grouped(template: Octahedron, limits: Tensor, slope: float) -> _Group:
    limits = closed(template, limits.double())
    lower, upper = -limits[:, template.lower], limits[:, template.upper]
    width = (upper - lower).clamp(min=0)
    width = torch.maximum(width, 1e-6 * width.amax(1, keepdim=True)).clamp(min=1e-30)
    found = corners(template, limits)
    return _Group(limits, lower, upper, width, found, torch.maximum(found.z, slope * found.z))


def chord(group: _Group, slope: float) -> Tensor:  # (G, K)
    """The slope of each neuron's upper line; of a stable neuron, the function's own."""
    rise = torch.maximum(group.upper, slope * group.upper) - torch.maximum(group.lower, slope * group.lower)
    return (rise / group.width).clamp(slope, 1)


def single_rows(group: _Group, slope: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:  # (G, 3 K, K) twice
    """-y + a z, -y + z, y - chord z, each for all neurons. The coefficients are exact."""
    groups, size = group.lower.shape
    one = torch.eye(size, dtype=dtype, device=group.lower.device).expand(groups, -1, -1)
    up = chord(group, slope).to(dtype)
    return torch.cat([-one, -one, one], 1), torch.cat([slope * one, one, -up[:, None] * one], 1)


def targets(template: Octahedron, group: _Group, slope: float, thorough: bool) -> Tensor:  # (G, R, 2 K)
    """Points (z, y) that single-neuron rows allow and the hull does not, as a rule."""
    size, real = template.size, group.corners.real
    z, value = group.corners.z, group.value
    low = torch.maximum(group.lower, slope * group.lower)
    line = low[:, None] + chord(group, slope)[:, None] * (z - group.lower[:, None])
    far = torch.matmul(z, (template.normals / group.width[:, None]).mT)  # (G, V, T)
    far = far.masked_fill_(~real[..., None], -torch.inf).argmax(1)
    raised, normal = _patterns(template, thorough)
    best = far[:, normal, None].expand(-1, -1, size)
    return torch.cat([z.gather(1, best), torch.where(raised, line.gather(1, best), value.gather(1, best))], -1)


def _patterns(template: Octahedron, thorough: bool) -> tuple[Tensor, Tensor]:  # (R, K) bool, (R,)
    """Which neurons are raised, and towards which row of the template the corner is sought."""
    raised = template.orthants[:-1] > 0
    pairs = raised[:, None] | (template.normals == 0) | thorough  # (2^K - 1, T, K)
    pattern, normal = pairs.all(-1).nonzero(as_tuple=True)
    return raised[pattern], normal


def slide(group: _Group, aims: Tensor) -> Tensor:  # (G, R, 2 K) -> (G, R, 2 K)
    """Coefficients on z and y of rows that are largest in 2 K of the corners, the largest one 1. Heuristic."""
    real, scale = group.corners.real, torch.cat([group.width, group.width], -1)[:, None]
    x = torch.cat([group.corners.z, group.value], -1) / scale
    centre = (x * real[..., None]).sum(1, keepdim=True) / real.sum(1).clamp(min=1)[:, None, None]
    x = x - centre
    groups, places, dimension = x.shape
    draw = torch.Generator().manual_seed(0)
    # Noise is what the last steps follow where the aim lies in the span of the corners met.
    noise = torch.randn(dimension, 1, aims.shape[1], generator=draw, dtype=x.dtype).to(x.device)
    if fused(aims, x, scale, centre, noise):
        from .triton.slide import slid

        return slid(x, aims, scale, centre, 0.02 * noise[:, 0].T, LEVEL, SLOWEST, CLOSEST)
    flat, across = x.flatten(0, 1), x.mT  # (G V, n), (G, n, V)
    start = (torch.arange(groups, device=x.device) * places)[:, None]
    tiny = torch.finfo(x.dtype).tiny
    # Coordinates come first from here on, (n, G, R): sums over them are then sums of long vectors.
    way = (aims / scale - centre).permute(2, 0, 1).contiguous() + 0.02 * noise
    w = torch.zeros_like(way)
    met: list[Tensor] = []
    left = x.new_ones(groups, way.shape[2], places)  # 1 - w x
    for step in range(dimension):
        way = way * (way * way).sum(0).clamp_(min=tiny).rsqrt_()
        gain = torch.bmm(way.permute(1, 2, 0), across)  # (G, R, V)
        # A corner that is met stays met: its gain is rounding, or that of corners that stand in its place.
        fastest, first = _largest(torch.threshold(gain, LEVEL, 0.0).div_(left))
        # Where nothing stops the way, the hull is flat across it: the row of that direction is an equality.
        length = 1 / fastest.clamp(min=SLOWEST)
        w = w + way * length
        left = left.addcmul_(gain, length[..., None], value=-1).clamp_(min=CLOSEST)
        if step + 1 < dimension:
            corner = flat[start + first].permute(2, 0, 1)  # (n, G, R)
            for unit in met:
                corner = corner - (corner * unit).sum(0) * unit
            met.append(corner * (corner * corner).sum(0).clamp_(min=tiny).rsqrt_())
            way = way - (way * met[-1]).sum(0) * met[-1]
    row = w.permute(1, 2, 0) / scale
    row = row / row.abs().amax(-1, keepdim=True).clamp(min=1e-300)
    return torch.where(row.abs() < 1e-12, 0.0, row).nan_to_num(nan=0.0)


def _distinct(rows: Tensor) -> Tensor:  # (G, R, n) -> (G, R', n)
    """Rows without those that repeat another, in no order of note; zeros where there are fewer than R'.

    About two thirds of 56, and two fifths of 182 targets lead to different facets; R' is above what was seen.
    """
    groups, count, width = rows.shape
    room = count - count // 7 if count < 100 else count * 4 // 7
    key = rows @ torch.linspace(1, 2, width, dtype=rows.dtype, device=rows.device).square().sin()
    key, order = key.sort(1)
    new = torch.nn.functional.pad(key.diff(dim=1) > 1e-6, (1, 0), value=True)
    rank = new.cumsum(1) - 1
    place = torch.where(new & (rank < room), rank, room)
    index = order.new_zeros(groups, room + 1).scatter_(1, place, order)[:, :room]
    found = rows.gather(1, index[..., None].expand(-1, -1, width))
    return torch.where((torch.arange(room, device=rows.device) <= rank[:, -1:])[..., None], found, 0.0)


def _largest(values: Tensor) -> tuple[Tensor, Tensor]:  # (*b, V) -> (*b), (*b)
    """The maximum and the last place that has it; four times as fast as `max`, whose search is not vectorised."""
    places = values.shape[-1]
    kind = torch.uint8 if places <= 256 else torch.int16
    top = values.amax(-1)
    found = (values == top[..., None]).to(kind) * torch.arange(places, device=values.device).to(kind)
    return top, found.amax(-1).long()


def proved(
    template: Octahedron,
    group: _Group,
    slope: float,
    on_post: Tensor,  # (G, C, K) float64
    on_pre: Tensor,  # (G, C, K)
) -> tuple[Tensor, Tensor]:  # (G, C), (G,)
    """Offsets with which the rows hold, and which groups are proved empty (-inf there). Outward rounded."""
    found, vacant = group.corners, empty_orthants(template, group.limits)
    groups, places, _ = found.z.shape
    table = _table(template, group)
    factors = torch.where(template.orthants > 0, template.orthants, slope)  # dy / dz, (2^K, K) float64
    if fused(on_pre, on_post, found.z, table, group.lower):
        from .triton.hull import offsets

        ends = (group.lower, group.upper)
        whole = offsets(on_pre, on_post, found.z, found.on, table, *ends, template.orthants, factors, vacant)
        return whole, vacant.all(-1)
    start = (torch.arange(groups, device=on_pre.device) * places)[:, None]
    one = torch.ones_like(on_pre[..., :1])
    magnitude = on_pre.abs() + on_post.abs()
    offset = torch.full_like(on_pre[..., 0], -torch.inf)
    for number, orthant in enumerate(template.orthants):
        positive = orthant > 0
        form = on_pre + on_post * factors[number]
        # -1e200 keeps corners of other orthants out; the forms' own coefficients, not y, let equal heights be equal.
        out = -1e200 * (~found.on[..., number, None]).to(form.dtype)
        height = torch.bmm(torch.cat([form, one], -1), torch.cat([found.z, out], -1).mT)
        best = table[start + _largest(height)[1]]
        bound = _dual_bound(group, form, magnitude, best, positive)
        offset = torch.maximum(offset, bound.masked_fill_(vacant[:, number, None], -torch.inf))
    return offset, vacant.all(-1)


def _table(template: Octahedron, group: _Group) -> Tensor:  # (G V, K (2 K + 1))
    """What `_dual_bound` needs of a corner: inverse (K, K) by columns, rows (K, K), limits (K,)."""
    found = group.corners
    normals = template.normals[found.rows]
    limits = group.limits.gather(1, found.rows.flatten(1)).view_as(found.z)
    # Hyperplanes have no price. Neither have rows of infinite limit, which no corner lies on.
    priced = found.used & limits.isfinite()
    inverse = torch.where(priced[..., None], found.inverse.mT, 0.0)
    limits = torch.where(priced, limits, 0.0)
    return torch.cat([inverse.flatten(2), normals.flatten(2), limits], -1).flatten(0, 1)


def _dual_bound(
    group: _Group, form: Tensor, magnitude: Tensor, best: Tensor, positive: Tensor
) -> Tensor:  # (G, C, K), (G, C, K), (G, C, K (2 K + 1)), (K,) -> (G, C)
    """max { form z : z in P and in the orthant } at most, from the basis of a corner, a row of `_table`."""
    size = form.shape[-1]
    low = torch.where(positive, group.lower.clamp(min=0), group.lower)
    high = torch.where(positive, group.upper, group.upper.clamp(max=0))
    reach = torch.maximum(low.abs(), high.abs())
    entry = lambda block, j, k: best[..., (block * size + j) * size + k]  # noqa: E731
    bound = lost = none = torch.zeros_like(form[..., 0])
    price = [sum((entry(0, j, k) * form[..., k] for k in range(size)), none).clamp_(min=0) for j in range(size)]
    for j in range(size):
        paid = price[j] * best[..., 2 * size * size + j]
        bound, lost = bound + paid, lost + paid.abs()
    lost = gamma(2 * size + 6, torch.float64) * lost
    for k in range(size):
        taken = [price[j] * entry(1, j, k) for j in range(size)]
        rest = form[..., k] - sum(taken)
        # The larger of the two ends' products is the interval's, whatever the sign of `rest`.
        charge = torch.maximum(rest * low[:, None, k], rest * high[:, None, k])
        doubt = magnitude[..., k] + sum(t.abs() for t in taken)
        bound = bound + charge
        lost = lost + gamma(2 * size + 6, torch.float64) * (doubt * reach[:, None, k] + charge.abs())
    return bound + SUMMED * lost + 64 * torch.finfo(torch.float64).tiny
