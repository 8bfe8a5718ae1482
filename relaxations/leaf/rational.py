"""What float64 cannot decide, decided in whole numbers: does a piece hold a point that is unsafe, exactly?

A strict unsafe set is missed already where its rows are only zero, and thresholds are often the exact value of a
minimum: there no bound that is rounded outward ever gets. On a piece whose neurons are decided the network is affine,
its weights are whole numbers over powers of two, bounds and rows are rationals, and the question is a linear program
in whole numbers (`kernels.exact_program`), with strict and weak inequalities as the property has them. Both sides of a
phase are closed, so that pieces cover what they cut. Neurons that are still open are decided by their exact interval,
or tried on both sides, a program each.

Of the piece only its box and its phases enter. Its half-spaces are left out: what is found may lie outside them, and is
unsafe all the same; where nothing is found, nothing is there.

It is asked last and of small pieces alone: `LeafEffort` bounds the products of weights, the tableau, its
numbers and the time. And of exact networks alone: where reading or folding layers rounded a number
(`Affine.rounded`), the graph is not quite the network of the file, and an equality of the one says nothing of the
other. Soundness: exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...kernels.deadline import LEAST, left, now
from ...kernels.dyadic import Dyadic, Whole, dyadic
from ...kernels.exact_program import Inequality, solution
from ...problems.network.exact_fold import whole
from ...problems.network.graph import Activation, Affine, Graph
from ...problems.properties.property import Polytope, UnsafeSet
from ...problems.properties.rational import Row
from ..effort import LEAF, LeafEffort

Phases = Sequence[NDArray[np.int8]]  # one (n,) array an activation node: +1 active, -1 inactive, 0 open
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Decided:
    """`empty`: no point of the piece is unsafe. Otherwise an unsafe `point` (D,), or the `reason` why neither is
    known."""

    empty: bool
    point: tuple[Fraction, ...] | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class _Region:
    """A part of the piece under way: the values of nodes as whole coefficients on (y, 1), over q 2^shift; what y must
    satisfy besides 0 <= y <= 1; and a point that does, where one is known."""

    node: int
    neuron: int
    values: dict[int, Dyadic]
    inequalities: tuple[Inequality, ...]
    active: tuple[bool, ...] = ()
    point: list[Fraction] | None = None


class Rational:
    """Exact questions about one network."""

    def __init__(self, graph: Graph, effort: LeafEffort = LEAF) -> None:  # float64
        self.graph, self.effort = graph, effort

    @cached_property
    def refusal(self) -> str:
        """Why nothing can be said of this network; empty where something can."""
        for node in self.graph.nodes[1:]:
            if isinstance(node, Activation) and node.function.leak is not None:
                continue
            if not isinstance(node, Affine):
                return f"layer {node.name!r} is not piecewise linear"
            if node.rounded:
                return f"the weights of layer {node.name!r} were rounded where layers were folded"
        if self._work > (most := self.effort.products):
            return f"the network has {self._work} weights, more than exact arithmetic is tried on ({most})"
        return ""

    @cached_property
    def _work(self) -> int:
        """Entries of all operators, written out."""
        affine = [node for node in self.graph.nodes if isinstance(node, Affine)]
        return sum(op.n_in * op.n_out for node in affine for op in node.operators)

    @cached_property
    def _weights(self) -> dict[int, tuple[list[Dyadic], Dyadic]]:
        affine = [(i, node) for i, node in enumerate(self.graph.nodes) if isinstance(node, Affine)]
        return {i: ([whole(a) for a in node.operators], dyadic(node.bias.double().numpy())) for i, node in affine}

    def decide(
        self,
        inputs: Polytope,  # the input set; its `meaning` is taken
        unsafe: UnsafeSet,
        box: tuple[Array, Array] | None = None,  # of the piece: (D,) lower and upper bounds, closed
        phases: Phases | None = None,  # None: all open
        seconds: float | None = None,
    ) -> Decided:
        """Whether the part of the input set in the box, with these phases, holds an unsafe point. Exact."""
        if self.refusal:
            return Decided(False, None, f"exact arithmetic was not tried: {self.refusal}")
        frame = _Frame(inputs, box)
        if frame.empty:
            return Decided(True)
        why = frame.too_large(self, self._work, len(inputs.meaning.rows) + len(unsafe.rows))
        if why:
            return Decided(False, None, f"exact arithmetic was not tried: {why}")
        longest = self.effort.seconds
        limit = min(longest, max(LEAST, left()), longest if seconds is None else seconds)
        try:
            found = _Question(self, frame, unsafe, phases, now() + limit).answer()
        except TimeoutError as error:
            return Decided(False, None, f"exact arithmetic found no answer in time: {error}")
        return Decided(found is None, None if found is None else frame.input(found))


class _Frame:
    """The piece's exact box, as x = low + width y with 0 <= y <= 1 for inputs that are free."""

    def __init__(self, inputs: Polytope, box: tuple[Array, Array] | None) -> None:
        exact = inputs.meaning
        self.rows = exact.rows
        self.low, self.high = list(exact.lower), list(exact.upper)
        open_low, open_high = set(exact.open_lower), set(exact.open_upper)
        if box is not None:
            for i, (low, high) in enumerate(zip(*(side.tolist() for side in box), strict=True)):
                if low > self.low[i]:
                    self.low[i] = Fraction(low)
                    open_low.discard(i)
                if high < self.high[i]:
                    self.high[i] = Fraction(high)
                    open_high.discard(i)
        self.empty = any(
            low > high or (low == high and (i in open_low or i in open_high))
            for i, (low, high) in enumerate(zip(self.low, self.high, strict=True))
        )
        self.free = [i for i, (low, high) in enumerate(zip(self.low, self.high, strict=True)) if low < high]
        self.size = len(self.free)
        self.sides = [  # y > 0 and 1 - y > 0 where the bound itself does not belong to the set
            Inequality(tuple(sign * int(k == j) for j in range(self.size)), int(sign < 0), True)
            for k, i in enumerate(self.free)
            for sign, marks in ((1, open_low), (-1, open_high))
            if i in marks
        ]

    def too_large(self, owner: Rational, work: int, rows: int) -> str:
        """Why the program is not tried; empty where it is."""
        graph, effort = owner.graph, owner.effort
        products, entries = work * (self.size + 1), (self.size + 2) * (self.size + graph.neurons + rows)
        if products > effort.products or entries > effort.entries:
            return f"{self.size} inputs and {graph.neurons} neurons are too many"
        if self.denominator.bit_length() > effort.digits:
            return "the input set's numbers have too many digits"
        return ""

    @cached_property
    def denominator(self) -> int:
        """q, over which every bound and width is whole."""
        return math.lcm(*(low.denominator for low in self.low), *(high.denominator for high in self.high))

    def unit(self) -> Dyadic:
        """The inputs as functions of y, over q."""
        q = self.denominator
        whole = np.full((len(self.low), self.size + 1), 0, dtype=object)
        whole[:, -1] = [int(low * q) for low in self.low]
        for k, i in enumerate(self.free):
            whole[i, k] = int((self.high[i] - self.low[i]) * q)
        return Dyadic(whole, 0)

    def input(self, y: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """The input at y."""
        x = list(self.low)
        for k, i in enumerate(self.free):
            x[i] = self.low[i] + (self.high[i] - self.low[i]) * y[k]
        return tuple(x)


class _Question:
    """One search for an unsafe point."""

    def __init__(
        self, owner: Rational, frame: _Frame, unsafe: UnsafeSet, phases: Phases | None, deadline: float
    ) -> None:
        self.graph, self.weights, self.frame, self.unsafe, self.deadline = (
            owner.graph,
            owner._weights,
            frame,
            unsafe,
            deadline,
        )
        self.q, self.programs, self.most = frame.denominator, 0, owner.effort.programs
        layers = self.graph.layers
        nothing = [np.zeros(layer.size, dtype=np.int8) for layer in layers]
        self.phases = dict(zip((layer.position for layer in layers), phases or nothing, strict=True))

    def answer(self) -> list[Fraction] | None:
        """The point (free inputs,), or None where there is none; `TimeoutError` where a limit comes first."""
        unit = self.frame.unit()
        inequalities = list(self.frame.sides)
        for row in self.frame.rows:
            cut = self._constraint(row, {}, {0: unit})
            if cut is False:
                return None
            inequalities += [] if cut is True else [cut]
        border: list[Fraction] | None = None
        try:
            for region in self._regions(tuple(inequalities), unit):
                point, inside = self._unsafe_point(region)
                if inside:
                    return point
                border = border or point
        except TimeoutError:
            if border is None:
                raise
        return border

    def _regions(self, inequalities: tuple[Inequality, ...], unit: Dyadic) -> Iterator[_Region]:
        """The parts of the piece on which every neuron is decided."""
        stack = [_Region(1, 0, {0: unit}, inequalities)]
        while stack:
            if now() > self.deadline:
                raise TimeoutError(f"{self.programs} programs solved")
            region = stack.pop()
            if region.node == len(self.graph.nodes):
                yield region
            else:
                stack += self._step(region)

    def _solve(self, inequalities: Sequence[Inequality]) -> list[Fraction] | None:
        self.programs += 1
        if self.programs > self.most:
            raise TimeoutError(f"more than {self.most} programs")
        return solution(inequalities, [1] * self.frame.size, self.deadline)

    def _step(self, region: _Region) -> list[_Region]:
        i = region.node
        node = self.graph.nodes[i]
        if isinstance(node, Affine):
            values = region.values | {i: self._affine(i, node, region.values)}
            return [replace(region, node=i + 1, neuron=0, values=values)]
        layer = self.graph.layer_at[i]
        if region.neuron == layer.size:
            on = np.array(region.active, dtype=bool)
            values = region.values | {i: _activated(layer.leak, region.values[layer.source], on)}
            return [replace(region, node=i + 1, neuron=0, values=values, active=())]
        row = region.values[layer.source].whole[region.neuron]
        phase = int(self.phases[i][region.neuron])
        least, most = _range(row)
        if phase == 0:
            phase = 1 if least >= 0 else -1 if most <= 0 else 0
        if phase == 0:
            return self._both(region, row)
        if (most if phase > 0 else -least) < 0:
            return []
        holds = (least if phase > 0 else -most) >= 0
        return [_decided(region, phase > 0, None if holds else _inequality(phase * row, False))]

    def _both(self, region: _Region, row: Whole) -> list[_Region]:
        """An open neuron on each side where there is a point."""
        point = region.point or self._solve(region.inequalities)
        if point is None:
            return []
        here = sum((a * y for a, y in zip(row[:-1], point, strict=True)), Fraction(int(row[-1])))
        children = []
        for on in (False, True):
            cut = _inequality(row if on else -row, False)
            inside = point if (here >= 0 if on else here <= 0) else self._solve((*region.inequalities, cut))
            if inside is not None:
                children.append(replace(_decided(region, on, cut), point=inside))
        return children

    def _affine(self, i: int, node: Affine, values: dict[int, Dyadic]) -> Dyadic:
        weights, bias = self.weights[i]
        terms = [(w.whole @ values[j].whole, w.shift + values[j].shift) for w, j in zip(weights, node.inputs)]
        shift = max([s for _, s in terms] + [bias.shift])
        total = sum(t << (shift - s) for t, s in terms)
        total[:, -1] += (bias.whole * self.q) << (shift - bias.shift)
        return Dyadic(total, shift)

    def _unsafe_point(self, region: _Region) -> tuple[list[Fraction] | None, bool]:
        """A point of the region in the unsafe set, inside all its borders where that can be; and whether it is."""
        inequalities = list(region.inequalities)
        for row in self.unsafe.meaning:
            cut = self._constraint(row, row.on_input, region.values, self.graph.output)
            if cut is False:
                return None, False
            inequalities += [] if cut is True else [cut]
        point = self._solve(inequalities)
        if point is None:
            return None, False
        n = self.frame.size
        unit = [tuple(int(k == j) for j in range(n)) for k in range(n)]
        sides = [Inequality(row, 0, True) for row in unit]
        sides += [Inequality(tuple(-a for a in row), 1, True) for row in unit]
        inner = self._solve([*(cut._replace(strict=True) for cut in inequalities), *sides])
        return (point, False) if inner is None else (inner, True)

    def _constraint(self, row: Row, on_input: object, values: dict[int, Dyadic], node: int = 0) -> Inequality | bool:
        """row <= 0 (< 0) on a node's value and the input, as an inequality in y; True where it holds on the whole box,
        False nowhere."""
        of_input: dict[int, Fraction] = dict(on_input)  # type: ignore[call-overload]
        numbers = [*row.terms.values(), *of_input.values(), row.constant]
        common = math.lcm(*(a.denominator for a in numbers))
        shift = values[node].shift
        total = np.full(self.frame.size + 1, 0, dtype=object)
        for i, a in row.terms.items():
            total = total + values[node].whole[i] * int(a * common)
        for i, a in of_input.items():
            total = total + (values[0].whole[i] * int(a * common) << shift)
        total[-1] += int(row.constant * common) * self.q << shift
        least, most = _range(total)
        if most < 0 or (most == 0 and not row.strict):
            return True
        if least > 0 or (least == 0 and row.strict):
            return False
        return _inequality(-total, row.strict)


def _decided(region: _Region, on: bool, cut: Inequality | None) -> _Region:
    inequalities = region.inequalities if cut is None else (*region.inequalities, cut)
    point = region.point if cut is None else None  # whether it satisfies the cut is for the caller to say
    active = (*region.active, on)
    return replace(region, neuron=region.neuron + 1, inequalities=inequalities, active=active, point=point)


def _range(row: Whole) -> tuple[int, int]:
    """The least and the greatest value over 0 <= y <= 1."""
    constant = int(row[-1])
    return constant + sum(a for a in row[:-1] if a < 0), constant + sum(a for a in row[:-1] if a > 0)


def _inequality(row: Whole, strict: bool) -> Inequality:
    """row (y, 1) >= 0 or > 0, its common factor divided out."""
    common = math.gcd(*(int(a) for a in row)) or 1
    return Inequality(tuple(int(a) // common for a in row[:-1]), int(row[-1]) // common, strict)


def _activated(leak: float, value: Dyadic, on: NDArray[np.bool_]) -> Dyadic:
    """max(z, leak z), given where z is taken for positive."""
    above, below = float(leak).as_integer_ratio()
    shift = below.bit_length() - 1
    factor = np.where(on, 1 << shift, above).astype(object)
    return Dyadic(value.whole * factor[:, None], value.shift + shift)


def in_words(x: Sequence[Fraction] | NDArray[np.float64], most: int = 6) -> str:
    """A point for the user: X_0 = 1/3, X_1 = 0.5 and 3 more."""
    said = [f"X_{i} = {_number(v)}" for i, v in enumerate(x[:most])]
    more = f" and {len(x) - most} more" if len(x) > most else ""
    return ", ".join(said) + more


def _number(value: Fraction | float) -> str:
    """A number in full where that is short."""
    exact = Fraction(value)
    short = float(exact)
    if Fraction(repr(short)) == exact:
        return f"{short:.17g}" if len(repr(short)) > 17 else repr(short)
    text = str(exact)
    return text if len(text) <= 24 else f"about {short:.17g}"
