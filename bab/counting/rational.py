"""Counting activation patterns in exact arithmetic: whole numbers and fractions, no tolerance at all.

Weights, biases and bounds are float64, hence whole numbers over powers of two. So are the coefficients of the affine
function that a pre-activation is on a cell, and whether a cell has a point on one side of it is a linear program in
whole numbers (`kernels/exact_program.py`). Each cell carries a point inside it, which settles one side of every
neuron; the program is solved for the other side only.

`open`: all inequalities strict, those of the input set too, so the point is inside the interior. `all`: a neuron is
active where its pre-activation is > 0, inactive where it is <= 0, and the input set is closed.

It counts small networks alone, and any cell of `counting.tree` that float64 could not prove: `recount` counts the
patterns of the region that the tree's cuts leave of the input set, whatever the tree concluded there. What is counted
is the graph's network: weights folded by the importer are taken as they are stored.

Soundness: exact.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...kernels.dyadic import Dyadic, Whole, dyadic
from ...kernels.exact_program import Inequality, solution
from ...kernels.ragged import Flags
from ...problems.errors import BadInput
from ...problems.network.graph import Affine, Layer
from ...problems.network.matrix import matrix
from ...problems.properties.property import Polytope
from .search import NOBODY, Found, Listener, Tally, Waiting, remember
from .tree import Plan

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Region:
    """A cell under way: the values of live nodes as (n, D + 1) coefficients on (y, 1), and a point inside."""

    node: int
    neuron: int
    values: dict[int, Dyadic]
    inequalities: tuple[Inequality, ...]
    point: list[Fraction]
    active: tuple[bool, ...]


class Known(NamedTuple):
    """Phases of neurons that need no program where all earlier neurons have the phases `active`."""

    active: tuple[bool, ...]
    settled: Flags  # (N,)


class RationalCounter:
    """Patterns of one network on one input polytope, in exact arithmetic."""

    def __init__(self, plan: Plan, polytope: Polytope) -> None:
        self.plan, self.faces = plan, plan.faces
        self.weights = {
            i: ([dyadic(matrix(a).numpy()) for a in node.operators], dyadic(node.bias.numpy()))
            for i, node in enumerate(plan.graph.nodes[: plan.last + 1])
            if isinstance(node, Affine)
        }
        d = polytope.size
        bounds = dyadic(np.stack([polytope.lower, polytope.upper]))
        lower, upper = bounds.whole
        self.top: list[int] = list(upper - lower)
        unit = np.full((d, d + 1), 0, dtype=object)
        for i in range(d):
            unit[i, i], unit[i, d] = 1, lower[i]
        self.input = Dyadic(unit, bounds.shift)  # x = (y + lower 2^shift) / 2^shift
        self.start = self._input_set(polytope)

    def points(self, regions: list[Region]) -> Array:  # (R, D)
        """The regions' points as inputs, rounded."""
        lower = self.input.whole[:, -1]
        rows = [[float((y + int(a)) / 2**self.input.shift) for y, a in zip(r.point, lower)] for r in regions]
        return np.array(rows).reshape(len(regions), len(lower))

    def _input_set(self, polytope: Polytope) -> tuple[Inequality, ...]:
        """The half-spaces, in rational numbers, and for `open` the box's sides, which are strict then."""
        found = []
        for row in polytope.meaning.rows:
            scale = math.lcm(row.constant.denominator, *(a.denominator for a in row.terms.values()))
            normal = np.full(polytope.size, 0, dtype=object)
            for i, a in row.terms.items():
                normal[i] = -int(a * scale)
            on_y = normal @ self.input.whole
            on_y[-1] -= int(row.constant * scale) << self.input.shift
            found.append(inequality(on_y, not self.faces or row.strict))
        if not self.faces:
            for i, top in enumerate(self.top):
                unit = [0] * len(self.top)
                unit[i] = 1
                found += [Inequality(tuple(unit), 0, True), Inequality(tuple(-a for a in unit), top, True)]
        return tuple(found)

    def begin(self, inequalities: tuple[Inequality, ...]) -> Region | None:
        """The part of the input set where the inequalities hold as well, before any neuron; None where it is empty."""
        point = solution(inequalities, self.top)
        return None if point is None else Region(1, 0, {0: self.input}, inequalities, point, ())

    def patterns(
        self,
        stack: list[Region],
        deadline: float | None,
        found: list[Region],
        known: Known | None = None,
    ) -> None:
        """Appends the patterns of the regions to `found`; `stack` keeps what the deadline leaves; after an interrupt
        its last region may be in both."""
        while stack and (deadline is None or time.monotonic() <= deadline):
            if stack[-1].node > self.plan.last:
                found.append(stack[-1])
                stack.pop()
            else:
                stack[-1:] = self._step(stack[-1], known)

    def _step(self, region: Region, known: Known | None = None) -> list[Region]:
        i = region.node
        node = self.plan.graph.nodes[i]
        if isinstance(node, Affine):
            values = region.values | {i: self._affine(i, node, region.values)}
            return [Region(i + 1, 0, values, region.inequalities, region.point, region.active)]
        layer = self.plan.graph.layer_at[i]
        if region.neuron == layer.size:
            on = np.array(region.active[layer.span.start :], dtype=bool)
            values = region.values | {i: activated(layer.leak, region.values[layer.source], on)}
            return [Region(i + 1, 0, values, region.inequalities, region.point, region.active)]
        return self._neuron(region, layer, known)

    def _affine(self, i: int, node: Affine, values: dict[int, Dyadic]) -> Dyadic:
        weights, bias = self.weights[i]
        terms = [(w.whole @ values[j].whole, w.shift + values[j].shift) for w, j in zip(weights, node.inputs)]
        shift = max([s for _, s in terms] + [bias.shift])
        total = sum(t << (shift - s) for t, s in terms)
        total[:, -1] += bias.whole << (shift - bias.shift)
        return Dyadic(total, shift)

    def _neuron(self, region: Region, layer: Layer, known: Known | None) -> list[Region]:
        j, place = region.neuron, len(region.active)
        if known is not None and known.settled[place] and region.active == known.active[:place]:
            return [self._child(region, known.active[place], region.point, None)]
        row = region.values[layer.source].whole[j]
        if not row[:-1].any():
            return [self._child(region, bool(row[-1] > 0), region.point, None)]
        twins = self.plan.twins[region.node]
        first = twins.first[j]
        if first != j:
            on = region.active[layer.span.start + first]
            return [self._child(region, on != twins.opposite[j], region.point, None)]
        here = sum((a * y for a, y in zip(row[:-1], region.point)), Fraction(int(row[-1])))
        children: list[tuple[bool, list[Fraction], Inequality | None]] = []
        for on in (False, True):
            inside = here > 0 if on else (here < 0 or (self.faces and here == 0))
            cut = inequality(row if on else -row, on or not self.faces)
            point = region.point if inside else solution((*region.inequalities, cut), self.top)
            if point is not None:
                children.append((on, point, cut))
        if len(children) == 1:  # the neuron has one phase on the whole region: its inequality says nothing new
            children = [(children[0][0], children[0][1], None)]
        return [self._child(region, on, point, cut) for on, point, cut in children]

    def _child(self, region: Region, on: bool, point: list[Fraction], cut: Inequality | None) -> Region:
        more = region.inequalities if cut is None else (*region.inequalities, cut)
        return Region(region.node, region.neuron + 1, region.values, more, point, (*region.active, on))

    def recount(
        self, active: Flags, cutting: Flags, settled: Flags, deadline: float | None
    ) -> dict[bytes, Array] | None:
        """The patterns, packed, each with a point (D,), of the region that the tree's cuts leave.

        The region is that of the neurons `cutting`, each on the side `active`. All are (N,) bool; those `settled` are
        known to have the phase `active` there where all earlier ones have. None where the deadline passed.
        """
        values, inequalities = {0: self.input}, list(self.start)
        for i, node in enumerate(self.plan.graph.nodes[1 : self.plan.last + 1], 1):
            if isinstance(node, Affine):
                values[i] = self._affine(i, node, values)
                continue
            layer = self.plan.graph.layer_at[i]
            source, on = values[layer.source], active[layer.span]
            for j in np.flatnonzero(cutting[layer.span]):
                row = source.whole[j] if on[j] else -source.whole[j]
                inequalities.append(inequality(row, bool(on[j]) or not self.faces))
            values[i] = activated(layer.leak, source, on)
        found: list[Region] = []
        region = self.begin(tuple(inequalities))
        stack = [] if region is None else [region]
        self.patterns(stack, deadline, found, Known(tuple(active.tolist()), settled))
        if stack:
            return None
        packed = _packed(found, self.plan.graph.neurons)
        return {row.tobytes(): point for row, point in zip(packed, self.points(found), strict=True)}


def inequality(row: Whole, strict: bool) -> Inequality:
    return Inequality(tuple(row[:-1]), row[-1], strict)


def activated(leak: float, value: Dyadic, on: Flags) -> Dyadic:
    """max(z, leak z), given where z is taken for positive."""
    above, below = float(leak).as_integer_ratio()
    shift = below.bit_length() - 1
    factor = np.where(on, 1 << shift, above).astype(object)
    return Dyadic(value.whole * factor[:, None], value.shift + shift)


def _packed(found: list[Region], neurons: int) -> NDArray[np.uint8]:
    on = np.array([region.active for region in found], dtype=bool).reshape(len(found), neurons)
    return np.packbits(on, axis=1, bitorder="little")


def search_exactly(
    plan: Plan,
    polytope: Polytope,
    deadline: float | None,
    listener: Listener = NOBODY,
) -> Tally:
    """All patterns on a polytope in exact arithmetic, as the tally of a finished count, or of one without an end."""
    counter, tally, begin = RationalCounter(plan, polytope), Tally(), time.monotonic()
    found: list[Region] = []
    region = counter.begin(counter.start)
    if region is None:
        what = "empty" if plan.faces else "empty or flat"
        raise BadInput(f"the input set is {what}: its half-spaces leave nothing to count in its box")
    stack = [region]
    try:
        while stack and not tally.reason:
            counter.patterns(stack, min(deadline or math.inf, time.monotonic() + 1.0), found)
            if listener.progress is not None:
                listener.progress(len(found), len(stack), time.monotonic() - begin)
            if deadline is not None and time.monotonic() > deadline:
                tally.reason = "the time limit was reached"
    except KeyboardInterrupt:
        tally.reason, tally.interrupted = "interrupted", True
    if stack and found and stack[-1] is found[-1]:
        stack.pop()
    tally.waiting += [Waiting(left.node, left.neuron, True, True) for left in stack]
    packed = _packed(found, plan.graph.neurons)
    remember(tally, packed)
    if listener.emit is not None and found:
        dimensions = np.full(len(found), -1 if plan.faces else polytope.size, dtype=np.int8)
        listener.emit(Found(polytope, packed, counter.points(found), dimensions))
    return tally
