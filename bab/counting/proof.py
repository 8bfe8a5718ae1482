"""Judging cells after the fact: is this pattern's cell exactly the polytope that the tree says it is?

The tree (`counting.tree`) rounds, so its cells are claims. A cell of pattern s is the set where all N oriented
pre-activations (affine there, `relaxations/leaf/forms.py`) and the constraints of the input set are >= 0. Its claim is
a list of vertices, each with the planes it lies on. The claim is proved where, for every listed vertex v,

1. exactly D planes are said to meet there, and their true normals A are independent: |I - B A| <= 1/2 for the computed
   inverse B, with the error of A counted. Then the planes meet in one true point within 2 |B| |residual| of v;
2. at that true point every other oriented function is > 0, by more than all errors together;

and where the edges close: dropping one of a vertex's planes leaves D - 1, which exactly one other listed vertex has.
By 1 and 2 the true points are vertices of the cell, each with D edges; each edge ends at a listed vertex; and the
graph of a polytope is connected (Balinski 1961), so these are all the vertices, and the cell has an interior. Every
neuron has a strict sign at all of them but for its own facets, hence one phase on the whole cell.

Every cut divides a cell in two without a rest, so the leaves' cells cover the input set whatever was rounded. Where
all leaves are proved, their patterns are therefore all the patterns there are, and no lower-dimensional one is missed:
`open` and `all` agree. Degenerate cells (more than D planes at a vertex) cannot be proved this way; they are certain
where the tree was free of rounding (`Polytopes.sure`), and else go to exact arithmetic (`counting.rational`).

`witnessed` proves less of more cells: that the pattern exists, because at a point of its cell no sign is in doubt.

Soundness: outward rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...kernels import bits
from ...kernels.double_description import Floats, Polytopes
from ...kernels.ragged import Flags, Ints
from ...kernels.rounding import gamma
from ...problems.properties.decimals import outward
from ...problems.properties.property import Polytope
from ...relaxations.leaf.forms import UNIT, pattern_forms
from .tree import Plan, active

NUMBERS = 1_000_000  # coefficients at once


def proved(plan: Plan, cells: Polytopes, polytope: Polytope, until: int | None = None) -> Flags:  # (C,)
    """Which cells are certain, free of rounding or proved as above, for the first `until` neurons (default: all)."""
    certain = cells.sure.copy()
    todo = (cells.full & ~certain).nonzero()[0]
    if len(todo) == 0:
        return certain
    skip = _skipped(plan, until)
    # Cells of few vertices first: those that are judged at once are padded to the most that one of them has.
    todo = todo[cells.lengths[todo].argsort(kind="stable")]
    d, neurons = plan.graph.input_size, plan.graph.neurons
    numbers = (neurons + 1) * (d + 1) * 2 + cells.lengths[todo] * (neurons + 4 * d * d)
    while len(todo):
        many = max(1, int((numbers * np.arange(1, len(todo) + 1) <= NUMBERS).sum()))
        part, todo, numbers = todo[:many], todo[many:], numbers[many:]
        certain[part] = _proved(plan, cells, part, polytope, skip)
    return certain


def _proved(plan: Plan, cells: Polytopes, which: Ints, polytope: Polytope, skip: Tensor) -> Flags:
    """Judges the cells `which`; those of fewer vertices repeat their last one."""
    d, neurons = plan.graph.input_size, plan.graph.neurons
    size, number = cells.lengths[which][:, None], np.arange(int(cells.lengths[which].max()))
    entry = cells.start[which][:, None] + np.minimum(number, size - 1)  # (C, V)
    mask = cells.mask[entry]
    verdict = (bits.popcount(mask) == d).all(1) & _closed(mask, number < size, d)
    which, mask = which[verdict], mask[verdict]
    if len(which) == 0:
        return verdict
    x = torch.from_numpy(cells.points[:, :d][cells.vertex[entry[verdict]]])  # (C, V, D)
    planes = _planes(plan, active(plan, cells.labels[which]), polytope, x.abs().amax(1))
    members = _members(mask, d)
    incident = torch.from_numpy(cells.planes[which[:, None, None], members].astype(np.int64))  # (C, V, D)
    away, regular = _distance(planes, x, incident)
    # (x, 1, away) times (row, constant - 2 error, -2 steepness): the margin of every plane at every true vertex.
    point = torch.cat([x, torch.ones_like(away)[..., None], away[..., None]], 2)
    sunk, steep = planes.constant - 2 * planes.error, planes.size + planes.slope_error
    function = torch.cat([planes.row, sunk[..., None], -2 * steep[..., None]], 2)
    margin = torch.bmm(point, function.mT)
    margin.scatter_(2, incident, torch.inf)
    strict = (margin.amin(1) > 0) | planes.void
    strict[:, :neurons] |= skip
    verdict[verdict] = (regular & strict.all(1)).numpy()
    return verdict


def _distance(planes: _Planes, x: Tensor, incident: Tensor) -> tuple[Tensor, Tensor]:  # (C, V, D) -> (C, V), (C,)
    """How far the true vertices are at most, and in which cells all of them are well defined."""
    d, total = x.shape[2], torch.ones(x.shape[2], dtype=torch.float64)
    # |I - B A| in the row-sum norm; each row of A may be off by slope_error, and the product rounds.
    steep = planes.slope_error + 2 * gamma(d + 2, torch.float64) * planes.size
    table = torch.cat([planes.row, torch.stack([planes.constant, planes.error, steep], 2)], 2)
    place = incident + torch.arange(len(x))[:, None, None] * table.shape[1]
    own = table.flatten(0, 1).index_select(0, place.flatten()).reshape(*place.shape, d + 3)
    normal, (constant, error, steep) = own[..., :d].contiguous(), own[..., d:].unbind(-1)
    inverse = _inverse(normal)
    residual = ((normal @ x[..., None])[..., 0] + constant).abs() + error
    away, defect = (inverse.abs() @ torch.stack([residual, steep], -1)).unbind(-1)
    away = 2 * (1 + 1e-9) * away.amax(-1)
    defect = (torch.eye(d, dtype=torch.float64) - inverse @ normal).abs() @ total + defect
    near = away <= 1e-3  # so that errors, which are bounded a little beyond the vertices, hold there
    return away, ((defect.amax(-1) <= 0.49) & near).all(1)


def _inverse(normal: Tensor) -> Tensor:  # (C, V, D, D), an approximation; not finite where there is none
    if normal.shape[-1] != 2:
        return torch.linalg.inv_ex(normal).inverse
    a, b, c, d = normal.flatten(2).unbind(-1)
    return torch.stack([d, -b, -c, a], -1).reshape(normal.shape) / (a * d - b * c)[..., None, None]


def _skipped(plan: Plan, until: int | None) -> Tensor:  # (N,) bool
    """Neurons that need no look: later ones, and those that have the hyperplane of an earlier one."""
    skip = torch.tensor([f != j for i in plan.graph.layer_at for j, f in enumerate(plan.twins[i].first)])
    return skip if until is None else skip | (torch.arange(len(skip)) >= until)


def _members(mask: Ints, d: int) -> NDArray[np.uint8]:  # (C, V) -> (C, V, D), the places of the D bits of each word
    places = []
    for _ in range(d):
        lowest = mask & -mask
        places.append(bits.place(lowest))
        mask = mask ^ lowest
    return np.stack(places, 2)


def _closed(mask: Ints, own: Flags, d: int) -> Flags:  # (C, V), (C, V): not repeated -> (C,)
    """Whether every vertex less one of its planes is exactly one other vertex less one of its planes."""
    keys, rest, last = [], mask, np.iinfo(np.int64).max
    for _ in range(d):
        lowest = rest & -rest
        keys.append(np.where(own, mask ^ lowest, last))
        rest = rest ^ lowest
    key = np.sort(np.concatenate(keys, 1), axis=1)
    same = np.zeros((len(key), key.shape[1] + 1), dtype=bool)  # whether each is like the one before it
    same[:, 1:-1] = key[:, 1:] == key[:, :-1]
    return ((same[:, 1:] != same[:, :-1]) | (key == last)).all(1)


@dataclass(frozen=True, eq=False)
class _Planes:
    """All planes of each cell, row . x + constant >= 0 inside, numbered as the tree does: neurons, sides, half-spaces.

    `void`: neurons that are identically zero and counted as inactive. The others as in `Forms`.
    """

    row: Tensor  # (C, Q, D)
    constant: Tensor  # (C, Q)
    error: Tensor  # (C, Q)
    slope_error: Tensor  # (C, Q)
    size: Tensor  # (C, Q): the row's 1-norm
    void: Tensor  # (C, Q) bool


def _planes(plan: Plan, phases: Flags, polytope: Polytope, reach: Tensor) -> _Planes:
    pattern, reach = torch.from_numpy(phases), reach * (1 + 1e-3) + 1e-3  # true vertices are that near, or no proof
    forms = pattern_forms(plan.graph, pattern, reach)
    sign = torch.where(pattern, 1.0, -1.0).to(torch.float64)
    static, offset, off = input_planes(polytope)
    count, more = len(pattern), (0, len(static))
    beside = 2 * gamma(static.shape[1] + 3, torch.float64) * (reach @ static.abs().mT + offset.abs()) + 2 * off
    row = torch.cat([forms.row * sign[..., None], static.expand(count, -1, -1)], 1)
    size = row.abs() @ torch.ones(row.shape[2], dtype=torch.float64)
    zero = (size[:, : -len(static)] == 0) & (forms.constant == 0) & (forms.doubt == 0) & ~pattern
    return _Planes(
        row,
        torch.cat([forms.constant * sign, offset.expand(count, -1)], 1),
        torch.cat([forms.error, beside], 1),
        torch.nn.functional.pad(forms.slope_error, more),
        size,
        torch.nn.functional.pad(zero, more),
    )


def input_planes(polytope: Polytope) -> tuple[Tensor, Tensor, Tensor]:  # (2 D + H, D), (2 D + H,), (2 D + H,)
    """The input set's constraints as row . x + constant >= 0: lower and upper side of each input, half-spaces.

    The last result is how far each true constant may be from the one given.
    """
    lower, upper, normals, offsets, errors = (
        torch.as_tensor(a)
        for a in (polytope.lower, polytope.upper, polytope.normals, polytope.offsets, offset_errors(polytope))
    )
    unit = torch.eye(len(lower), dtype=torch.float64)
    sides = torch.stack([unit, -unit], 1).flatten(0, 1)
    constant = torch.cat([torch.stack([-lower, upper], 1).flatten(), offsets])
    return torch.cat([sides, -normals]), constant, torch.cat([torch.zeros(len(sides), dtype=torch.float64), errors])


def offset_errors(polytope: Polytope) -> Floats:  # (H,)
    """How far each half-space's offset is from the true one, rounded up; normals must be exact."""
    if polytope.exact is None:
        return np.zeros(len(polytope.offsets))
    pairs = zip(polytope.exact.rows, polytope.offsets.tolist(), strict=True)
    return np.array([outward(abs(row.constant + Fraction(offset)), up=True) for row, offset in pairs], dtype=float)


def witnessed(plan: Plan, cells: Polytopes, polytope: Polytope, until: int) -> Flags:  # (C,)
    """Which cells surely exist: at the mean of their vertices all signs of the first `until` neurons are certain."""
    found = np.zeros(len(cells), dtype=bool)
    d, neurons = plan.graph.input_size, plan.graph.neurons
    static, offset, off = input_planes(polytope)
    skip, middle = _skipped(plan, until), torch.from_numpy(centres(cells, d))
    step = max(1, NUMBERS // ((neurons + 1) * (d + 1) * 2))
    for part in (slice(a, a + step) for a in range(0, len(cells), step)):
        x = middle[part]
        pattern = torch.from_numpy(active(plan, cells.labels[part]))
        forms = pattern_forms(plan.graph, pattern, x.abs() * (1 + UNIT) + 1e-3)
        value = (forms.row @ x[..., None])[..., 0] + forms.constant
        value = torch.where(pattern, value, -value)
        zero = (forms.row == 0).all(2) & (forms.constant == 0) & (forms.doubt == 0) & ~pattern
        size = x.abs() @ static.abs().mT + offset.abs()
        inside = x @ static.mT + offset - 2 * gamma(d + 3, torch.float64) * size - 2 * off
        strict = (value > forms.error) | zero | skip
        found[part] = (strict.all(1) & (inside > 0).all(1)).numpy()
    return found


def centres(cells: Polytopes, d: int) -> Floats:  # (C, D)
    """The mean of each cell's vertices."""
    return np.add.reduceat(cells.points[:, :d][cells.vertex], cells.start[:-1]) / cells.lengths[:, None]
