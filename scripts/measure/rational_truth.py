"""The truth about small piecewise-linear networks, in fractions, by enumeration; shares no code with what it judges.

Every way to pick a linear piece of each neuron's activation is a set of weak inequalities on the input; with those of
the input set and of the unsafe set, strict or not, it is a linear program: the largest t <= 1 with a x + b + t <= 0 for
strict rows and a x + b <= 0 for the others is positive exactly where there is a point. Programs are solved by Seidel's
algorithm (1991): constraints one by one, and where one cuts off the optimum so far, the next optimum lies on its
hyperplane, one dimension less. Inputs whose interval is a point are constants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Vector = list[Fraction]
Segment = tuple[Fraction | None, Fraction | None, Fraction, Fraction]  # from, to (None: no end), slope, intercept
ZERO, ONE = Fraction(0), Fraction(1)


@dataclass(frozen=True)
class Constraint:
    """row . x <= offset, or < offset where strict."""

    row: tuple[Fraction, ...]
    offset: Fraction
    strict: bool = False


@dataclass(frozen=True)
class Layer:
    """activation(weight x + bias): `relu`, `leaky` with its slope, `clip` with (low, high), or `none`."""

    weight: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    activation: str = "none"
    parameter: Any = None

    @property
    def segments(self) -> list[Segment]:
        """The linear pieces of the activation."""
        match self.activation:
            case "none":
                return [(None, None, ONE, ZERO)]
            case "relu":
                return [(None, ZERO, ZERO, ZERO), (ZERO, None, ONE, ZERO)]
            case "leaky":
                return [(None, ZERO, Fraction(self.parameter), ZERO), (ZERO, None, ONE, ZERO)]
        low, high = (Fraction(v) for v in self.parameter)
        if low >= high:  # the standard: min(max(x, low), high)
            return [(None, None, ZERO, high)]
        return [(None, low, ZERO, low), (low, high, ONE, ZERO), (high, None, ZERO, high)]


@dataclass(frozen=True)
class Form:
    """row . x + constant, over the free inputs."""

    row: tuple[Fraction, ...]
    constant: Fraction

    def plus(self, other: Form, factor: Fraction = ONE) -> Form:
        row = tuple(a + factor * b for a, b in zip(self.row, other.row, strict=True))
        return Form(row, self.constant + factor * other.constant)


def output(layers: Sequence[Layer], x: Sequence[Fraction]) -> Vector:
    """The network's value at a point."""
    values = list(x)
    for layer in layers:
        after = []
        for row, bias in zip(layer.weight, layer.bias, strict=True):
            z = Fraction(bias) + _dot([Fraction(a) for a in row], values)
            inside = ((low, high) for low, high in ((s[0], s[1]) for s in layer.segments))
            where = [(low is None or low <= z) and (high is None or z <= high) for low, high in inside]
            _, _, slope, intercept = layer.segments[where.index(True)]
            after.append(slope * z + intercept)
        values = after
    return values


class Question:
    """A network on an exact input set (a `properties.rational.ExactSet`)."""

    def __init__(self, layers: Sequence[Layer], inputs: Any) -> None:
        self.layers = layers
        self.lower, self.upper = list(inputs.lower), list(inputs.upper)
        self.empty = any(low > high for low, high in zip(self.lower, self.upper, strict=True))
        self.free = [i for i, (low, high) in enumerate(zip(self.lower, self.upper, strict=True)) if low < high]
        place = {i: k for k, i in enumerate(self.free)}
        nothing = (ZERO,) * len(self.free)
        unit = lambda k: tuple(ONE if j == k else ZERO for j in range(len(self.free)))  # noqa: E731
        self.inputs = [Form(unit(place[i]), ZERO) if i in place else Form(nothing, v) for i, v in enumerate(self.lower)]
        self.base = [self.below({i: -ONE}, self.lower[i], True) for i in sorted(inputs.open_lower)]
        self.base += [self.below({i: ONE}, -self.upper[i], True) for i in sorted(inputs.open_upper)]
        self.base += [self.below(row.terms, row.constant, row.strict) for row in inputs.rows]

    def below(self, on_input: Mapping[int, Fraction], constant: Fraction, strict: bool, outputs=(), terms=()):
        """The constraint that a row is <= 0, or < 0."""
        total = Form((ZERO,) * len(self.free), constant)
        for a, form in [(a, self.inputs[i]) for i, a in on_input.items()] + [
            (a, outputs[i]) for i, a in dict(terms).items()
        ]:
            total = total.plus(form, a)
        return Constraint(total.row, -total.constant, strict)

    def patterns(self) -> Iterator[tuple[list[Form], list[Constraint]]]:
        """The outputs and the constraints of every way to pick pieces that has a point."""
        stack = [(0, self.inputs, [], list(self.base))]
        if self.empty or self.point(self.base) is None:
            return
        while stack:
            depth, values, done, constraints = stack.pop()
            if depth == len(self.layers):
                yield values, constraints
                continue
            layer = self.layers[depth]
            if len(done) == len(layer.bias):
                stack.append((depth + 1, done, [], constraints))
                continue
            z = Form((ZERO,) * len(self.free), Fraction(layer.bias[len(done)]))
            for a, form in zip(layer.weight[len(done)], values, strict=True):
                z = z.plus(form, Fraction(a)) if a else z
            for low, high, slope, intercept in layer.segments:
                cuts = [] if low is None else [Constraint(tuple(-a for a in z.row), z.constant - low)]
                cuts += [] if high is None else [Constraint(z.row, high - z.constant)]
                if not cuts or self.point([*constraints, *cuts]) is not None:
                    after = Form(tuple(slope * a for a in z.row), slope * z.constant + intercept)
                    stack.append((depth, values, [*done, after], [*constraints, *cuts]))

    def counterexample(self, rows: Sequence[Any]) -> Vector | None:
        """An input with an output in the unsafe set (rows of `properties.rational.Row`); None where there is none."""
        for outputs, constraints in self.patterns():
            last = [self.below(row.on_input, row.constant, row.strict, outputs, row.terms) for row in rows]
            found = self.point(constraints + last)
            if found is not None:
                return self.whole(found)
        return None

    def minimum(self, row: Any) -> tuple[Fraction, Vector] | None:
        """The least value of a row on the closed set, and where; None where the set is empty."""
        best = None
        for outputs, constraints in self.patterns():
            form = self.below(row.on_input, row.constant, False, outputs, row.terms)
            rows = [(list(c.row), c.offset) for c in constraints]
            x = most([-a for a in form.row], rows, *self.box)
            value = None if x is None else _dot(form.row, x) - form.offset
            if value is not None and (best is None or value < best[0]):
                best = value, self.whole(x)
        return best

    @property
    def box(self) -> tuple[Vector, Vector]:
        return [self.lower[i] for i in self.free], [self.upper[i] for i in self.free]

    def point(self, constraints: Sequence[Constraint]) -> Vector | None:
        return point_in(*self.box, constraints)

    def whole(self, x: Sequence[Fraction]) -> Vector:
        """The input from its free coordinates."""
        every = list(self.lower)
        for i, value in zip(self.free, x, strict=True):
            every[i] = value
        return every


def point_in(lower: Sequence[Fraction], upper: Sequence[Fraction], constraints: Sequence[Constraint]) -> Vector | None:
    """A point of the box that satisfies all constraints, the strict ones strictly; None where there is none."""
    strict = any(c.strict for c in constraints)
    rows = [([*c.row, Fraction(int(c.strict))] if strict else list(c.row), c.offset) for c in constraints]
    if not strict:
        return most([ZERO] * len(lower), rows, list(lower), list(upper))
    reach = [max(abs(low), abs(high)) for low, high in zip(lower, upper, strict=True)]
    size = max(sum((abs(a) * r for a, r in zip(c.row, reach)), abs(c.offset)) for c in constraints)
    best = most([*[ZERO] * len(lower), ONE], rows, [*lower, -size - 1], [*upper, ONE])
    return None if best is None or best[-1] <= 0 else best[:-1]


def most(cost: Vector, rows: list[tuple[Vector, Fraction]], low: Vector, high: Vector) -> Vector | None:
    """The x in the box with row . x <= offset for all rows and the largest cost . x; None where there is none."""
    if any(a > b for a, b in zip(low, high, strict=True)):
        return None
    x = [b if c > 0 else a for c, a, b in zip(cost, low, high, strict=True)]
    for k, (row, offset) in enumerate(rows):
        if _dot(row, x) <= offset:
            continue
        i = next((i for i, a in enumerate(row) if a), None)
        if i is None:
            return None
        at, share = offset / row[i], [a / row[i] for a in _without(row, i)]  # x_i = at - share . others
        below = [_onto(v, b, i, at, share) for v, b in rows[:k]]
        below += [([-s for s in share], high[i] - at), (share, at - low[i])]
        found = most(_onto(cost, ZERO, i, at, share)[0], below, _without(low, i), _without(high, i))
        if found is None:
            return None
        x = [*found[:i], at - _dot(share, found), *found[i:]]
    return x


def _onto(row: Vector, offset: Fraction, i: int, at: Fraction, share: Vector) -> tuple[Vector, Fraction]:
    """row . x <= offset with x_i replaced by at - share . others."""
    return [a - row[i] * s for a, s in zip(_without(row, i), share, strict=True)], offset - row[i] * at


def _without(row: Vector, i: int) -> Vector:
    return [*row[:i], *row[i + 1 :]]


def _dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    return sum((p * q for p, q in zip(a, b, strict=True)), ZERO)
