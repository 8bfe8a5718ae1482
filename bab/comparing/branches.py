"""Does an activation branch have an interior? Decided in whole numbers, without any tolerance.

A branch is an input set X with some neurons decided, each inactive (-1) or active (+1). Three questions:

    half-open  has {x in X : z <= 0 for inactive neurons, z > 0 for active ones} an interior relative to aff X?
    closed     the same with z >= 0 for active neurons
    points     has the closed version any point?

The search goes through the neurons in their order and keeps relatively open, convex regions on which all
pre-activations so far are affine; each holds a point. The relative interior of X is the first: its constraints, strict
where X has a point at which they are (others hold with equality on all of X, and stay). On such a region R a
pre-activation is positive somewhere, negative somewhere, or zero everywhere, which two linear programs tell apart
(`kernels/exact_program.py`); the point inside settles one of them.

    positive somewhere: R with z > 0 belongs to the active side
    negative somewhere: R with z < 0 belongs to the inactive side
    zero everywhere:    R belongs to the inactive side, z <= 0; of the closed branch to both sides

Undecided neurons go both ways where a later decided neuron needs them, and are not looked at otherwise. The first
region that is left when all decided neurons are settled answers yes. `points` asks the same with weak inequalities.

Soundness: exact. X is the set that the polytope's arrays describe.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np
import torch

from ...kernels.dyadic import Dyadic, dyadic
from ...kernels.exact_program import Inequality, solution
from ...problems.network.graph import Affine, Graph
from ...problems.properties.property import Polytope
from ...relaxations.linear.root import root
from ..counting.rational import RationalCounter, activated, inequality
from ..counting.tree import plan

Question = Literal["half-open", "closed", "points"]


class TooSlow(Exception):
    """The deadline passed."""


class _State(NamedTuple):
    """A region under way."""

    place: int  # in the order of neurons
    values: Mapping[int, Dyadic]  # of all nodes so far, as coefficients on (y, 1)
    inequalities: tuple[Inequality, ...]
    point: list[Fraction]
    active: Mapping[int, bool]  # by neuron


class Branches(RationalCounter):
    """Answers for one network, a ReLU or LeakyReLU network in float64, on one bounded polytope.

    Deadlines are values of `time.perf_counter()`; what does not end by then raises `TooSlow`.
    """

    def __init__(self, graph: Graph, inputs: Polytope, deadline: float | None = None) -> None:
        super().__init__(plan(graph, True), inputs)
        self.end: float | None = None
        self._until_then(deadline)
        self.graph = self.plan.graph
        self.stable = _stable(self.graph, inputs)
        self.sides = self._sides()
        self.inner = self._relative_interior()

    def answer(
        self, phases: Mapping[int, int], question: Question = "half-open", deadline: float | None = None
    ) -> bool:
        """`phases`: neuron -> -1 or +1."""
        self._until_then(deadline)
        start = self.start if question == "points" else self.inner
        point, order = self._point_of(start), self._order(phases)
        stack = [] if point is None else [_State(0, {0: self.input}, start, point, {})]
        while stack:
            state = stack.pop()
            if state.place == len(order):
                return True
            position, j = order[state.place]
            stack += self._children(state, position, j, phases, question)
        return False

    def box(self, inputs: Polytope, question: Question = "half-open", deadline: float | None = None) -> bool:
        """The same for X cut down to a box with its sides, `inputs.lower` and `inputs.upper`."""
        self._until_then(deadline)
        whole = dyadic(np.stack([inputs.lower, inputs.upper]))
        unit = self.input  # x = (y + lower 2^shift) / 2^shift
        more, strict = [], question == "half-open"
        for i, top in enumerate(self.top):
            for sign, side in ((1, whole.whole[0, i]), (-1, whole.whole[1, i])):  # sign (x_i - side) >= 0
                scale = max(unit.shift, whole.shift)
                offset = (int(unit.whole[i, -1]) << (scale - unit.shift)) - (int(side) << (scale - whole.shift))
                row = [0] * len(self.top)
                row[i] = sign << (scale - unit.shift)
                more.append(Inequality(tuple(row), sign * offset, strict and top > 0))
        return self._point_of((*(self.inner if strict else self.start), *more)) is not None

    def zeros(self, active: Mapping[int, bool]) -> list[int]:
        """The neurons whose pre-activation is zero on all of a full pattern's cell; X has an interior."""
        values: Mapping[int, Dyadic] = {0: self.input}
        found = []
        for layer in self.graph.layers:
            values = self._until(values, active, layer.position)
            rows = values[layer.source].whole
            found += [layer.span.start + int(j) for j in np.flatnonzero(~rows.any(1))]
        return found

    def _until_then(self, deadline: float | None) -> None:
        """Sets when programs end, in the clock that they look at."""
        self.end = None if deadline is None else time.monotonic() + deadline - time.perf_counter()

    def _point_of(self, inequalities: tuple[Inequality, ...]) -> list[Fraction] | None:
        """A point that satisfies all of them."""
        try:
            return solution(inequalities, self.top, self.end)
        except TimeoutError as error:
            raise TooSlow from error

    def _order(self, phases: Mapping[int, int]) -> list[tuple[int, int]]:
        """(activation node, its neuron): of each layer the decided neurons first; of the last only these."""
        order: list[tuple[int, int]] = []
        layers = [
            (layer.position, [j for j in range(layer.size) if layer.span.start + j in phases])
            for layer in self.graph.layers
        ]
        last = max((k for k, (_, decided) in enumerate(layers) if decided), default=-1)
        for k, (position, decided) in enumerate(layers[: last + 1]):
            others = set(range(self.graph.nodes[position].size)) - set(decided) if k < last else ()
            order += [(position, j) for j in (*decided, *sorted(others))]
        return order

    def _children(
        self, state: _State, position: int, j: int, phases: Mapping[int, int], question: Question
    ) -> list[_State]:
        """The regions that one neuron leaves of a region, the one that holds its point last."""
        layer = self.graph.layer_at[position]
        neuron = layer.span.start + j
        sign, weak = phases.get(neuron, 0), question == "points"
        if neuron in self.stable:
            on = self.stable[neuron]
            return [self._decided(state, neuron, on)] if sign in (0, 1 if on else -1) else []
        values = self._until(state.values, state.active, position)
        state = state._replace(values=values)
        row = values[layer.source].whole[j]
        here = sum((a * y for a, y in zip(row[:-1], state.point, strict=True)), Fraction(int(row[-1])))
        if not row[:-1].any() and (here or not weak):  # one number; where it is zero, the inactive side is enough
            on = here > 0
            fits = sign == 0 or (sign > 0) == on or (here == 0 and question == "closed")
            return [self._decided(state, neuron, on)] if fits else []

        def point_on(side: int) -> list[Fraction] | None:
            if side * here > 0 or (weak and here == 0):
                return state.point
            return self._point_of((*state.inequalities, inequality(side * row, not weak)))

        found = {side: point_on(side) for side in ((1, -1) if sign == 0 else (sign,))}
        children = [
            self._decided(state, neuron, side > 0, point, inequality(side * row, not weak))
            for side, point in found.items()
            if point is not None
        ]
        if not (children or weak or here) and (sign <= 0 or question == "closed"):
            others = (point_on(side) for side in (1, -1) if side not in found)
            if all(point is None for point in others):  # zero on all of the region
                return [self._decided(state, neuron, False)]
        return sorted(children, key=lambda child: child.point is state.point)

    def _decided(
        self,
        state: _State,
        neuron: int,
        on: bool,
        point: list[Fraction] | None = None,
        cut: Inequality | None = None,
    ) -> _State:
        more = state.inequalities if cut is None else (*state.inequalities, cut)
        return _State(state.place + 1, state.values, more, point or state.point, {**state.active, neuron: on})

    def _until(self, values: Mapping[int, Dyadic], active: Mapping[int, bool], position: int) -> Mapping[int, Dyadic]:
        """The values of all nodes before an activation node."""
        if position - 1 in values:
            return values
        values = dict(values)
        for i in range(max(values) + 1, position):
            node = self.graph.nodes[i]
            if isinstance(node, Affine):
                values[i] = self._affine(i, node, values)
            else:
                layer = self.graph.layer_at[i]
                on = np.array([active[layer.span.start + k] for k in range(layer.size)], dtype=bool)
                values[i] = activated(layer.leak, values[layer.source], on)
        return values

    def _sides(self) -> tuple[Inequality, ...]:
        """The box's sides, strict."""
        found = []
        for i, top in enumerate(self.top):
            row = [0] * len(self.top)
            row[i] = 1
            found += [Inequality(tuple(row), 0, True), Inequality(tuple(-a for a in row), top, True)]
        return tuple(found)

    def _relative_interior(self) -> tuple[Inequality, ...]:
        """X's constraints, each strict where some point of X is on its strict side; nothing satisfies all of them
        where X is empty."""
        if not self.start:
            return tuple(side._replace(strict=self.top[k // 2] > 0) for k, side in enumerate(self.sides))
        every = (*self.sides, *(half._replace(strict=True) for half in self.start))
        return tuple(one._replace(strict=self._point_of((*self.start, one)) is not None) for one in every)


def _stable(graph: Graph, inputs: Polytope) -> dict[int, bool]:
    """The neurons that have one strict sign on all of the input set by proved bounds."""
    _, piece = root(graph, torch.from_numpy(inputs.lower), torch.from_numpy(inputs.upper))
    on, off = (piece.pre_lower[0] > 0).tolist(), (piece.pre_upper[0] < 0).tolist()
    return {k: on[k] for k in range(graph.neurons) if on[k] or off[k]}
