"""The input set of a count: which polytopes it is, whether patterns can be counted on it, and its vertices.

`open` patterns need an input set with an interior. For `all`, inputs whose lower and upper bounds agree are taken out
of the network instead (`without_fixed`): the count over the other inputs is the count over the flat box. What that
adds to the offsets of half-spaces is added in rational numbers, which go along (`Polytope.exact`) where float64 does
not hold them: exact arithmetic counts on them, and proofs in float64 count with the difference (`proof.input_planes`).

Soundness: exact, but for half-spaces: their cuts round like all others and are judged with the cells
(`counting.proof`).
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels.double_description import UNITS, Crowded, Polytopes, box, cut
from ...problems.errors import BadInput
from ...problems.network.affine import Select
from ...problems.network.graph import Affine, Graph, Input
from ...problems.properties.decimals import outward
from ...problems.properties.handmade import polytope_of
from ...problems.properties.property import Polytope
from ...problems.properties.rational import ExactSet, Numbers, Row, arrays_of, rows_of
from .proof import offset_errors
from .search import Emit, Found

NARROW = 1e-12  # of the box: what half-spaces leave less of is flat


def check_input(graph: Graph, polytope: Polytope, cells: str) -> None:
    """Raises `BadInput` where the box has no interior (`open`), no point, no end, or another size than the network."""
    polytope_of(polytope, graph.input_size)
    lower, upper = polytope.lower, polytope.upper
    endless = np.flatnonzero(~(np.isfinite(lower) & np.isfinite(upper)))
    if len(endless):
        raise BadInput(f"the input set is unbounded: input {endless[0]} needs a finite lower and upper bound")
    crossed = np.flatnonzero(lower > upper)
    if len(crossed):
        raise BadInput(f"the input set is empty: the lower bound of input {crossed[0]} exceeds its upper bound")
    fixed = np.flatnonzero(lower == upper)
    if len(fixed) and cells == "open":
        raise BadInput(
            f"the input set is flat: {len(fixed)} of {len(lower)} inputs are fixed, the first is input {fixed[0]}, so "
            "no cell has an interior; widen it, or count with --cells all"
        )


def without_fixed(graph: Graph, polytope: Polytope) -> tuple[Graph, Polytope]:
    """Network and input set in the inputs that are not fixed; the same patterns, in the same order of neurons."""
    free = np.flatnonzero(polytope.lower < polytope.upper)
    if len(free) == polytope.size or len(free) == 0:
        return graph, polytope
    place = torch.full((polytope.size,), -1)
    place[free] = torch.arange(len(free))
    rest = np.where(polytope.lower < polytope.upper, 0.0, polytope.lower)
    whole = Affine((0,), (Select(place, len(free)),), torch.from_numpy(rest), "input")
    shifted = [replace(node, inputs=tuple(i + 1 for i in node.inputs)) for node in graph.nodes[1:]]
    reduced = Graph((Input(len(free)), whole, *shifted), (len(free),), graph.output_shape)
    return reduced, _section(polytope, free)


def _section(polytope: Polytope, free: NDArray[np.intp]) -> Polytope:
    """The polytope in its free inputs, the others at their values; `BadInput` where half-spaces exclude those."""
    lower, upper, place = polytope.lower[free], polytope.upper[free], {int(i): k for k, i in enumerate(free)}
    rows = []
    for row in rows_of(polytope.normals, -polytope.offsets):
        own = {place[i]: a for i, a in row.terms.items() if i in place}
        at = [(a, Fraction(float(polytope.lower[i]))) for i, a in row.terms.items() if i not in place]
        constant = sum((a * x for a, x in at), row.constant)
        if own:
            rows.append(Row(own, constant))
        elif constant > 0:
            raise BadInput("the input set is empty: a half-space excludes the values at which inputs are fixed")
    normals, _ = arrays_of(rows, len(free))
    offsets = np.array([outward(-row.constant, up=True) for row in rows], dtype=float)
    if all(-row.constant == Fraction(offset) for row, offset in zip(rows, offsets.tolist())):
        return Polytope(lower, upper, normals, offsets)
    return Polytope(lower, upper, normals, offsets, ExactSet(Numbers(lower), Numbers(upper), rows=tuple(rows)))


def lifted(emit: Emit, whole: Polytope) -> Emit:
    """`emit` for cells of a network without its fixed inputs: it gets points of all inputs."""
    free = whole.lower < whole.upper

    def full(x: NDArray[np.float64]) -> NDArray[np.float64]:
        points = np.tile(whole.lower, (len(x), 1))
        points[:, free] = x
        return points

    def inner(found: Found) -> None:
        vertices = None if found.vertices is None else full(found.vertices)
        emit(replace(found, polytope=whole, points=full(found.points), vertices=vertices))

    return inner


def vertices_of(polytope: Polytope, words: int, neurons: int) -> Polytopes:
    """The polytope as the only cell, with `words` words of labels; its planes are numbered from `neurons` on.

    Raises `BadInput` where the half-spaces leave nothing, or nothing with an interior.
    """
    d, rounded = polytope.size, offset_errors(polytope) > 0
    cells = box(polytope.lower, polytope.upper, words, neurons)
    for h, (a, offset) in enumerate(zip(polytope.normals, polytope.offsets, strict=True)):
        value, grid = offset - cells.points @ a, 2.0**20
        reach = float(abs(offset) + np.abs(cells.points).max(0) @ np.abs(a))
        numbers = np.append(a, offset) * grid
        scale = float(cells.scale.max()) * grid
        if rounded[h] or not ((numbers.round() == numbers).all() and reach * scale <= UNITS):
            cells = cells.but(exact=np.zeros_like(cells.exact), sure=np.zeros_like(cells.sure))
        tolerance = np.where(cells.exact, 0.0, NARROW * reach)
        sign = (value > tolerance).view(np.int8) - (value < -tolerance).view(np.int8)
        held = sign[cells.vertex]
        if not (held > 0).any():
            what = "flat: a half-space only touches" if (held == 0).any() else "empty: its half-spaces exclude"
            raise BadInput(f"the input set is {what} all that the other constraints leave, so nothing can be counted")
        if not (held < 0).any():
            continue
        wide = cells.but(points=np.column_stack([cells.points, value]), scale=np.append(cells.scale, scale))
        try:
            done = cut(wide, d, sign, neurons + 2 * d + h, d)
        except Crowded as error:
            raise BadInput(
                "the input set has more facets than patterns can be counted on; leave out half-spaces"
            ) from error
        kept = done.polytopes.select(done.positive.nonzero()[0]).compact()
        cells = kept.but(
            points=np.ascontiguousarray(kept.points[:, :d]), scale=kept.scale[:d], strict=np.zeros_like(kept.strict)
        )
    return cells
