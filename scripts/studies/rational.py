"""Exact arithmetic for networks of one input: whether an encoding is precise on *all* boxes, decided in fractions.

A convex piecewise-linear f with breakpoints x_1 < .. < x_n is written h(x) = b + c x + sum g_i ReLU(s_i (x - x_i)),
g_i > 0. The endpoints (l, u) of a box lie in one of the (n+1)^2 / 2 cells of pairs of linear pieces, and on a cell

  - f's least value is linear in (l, u): f(l), f(u) or a constant, by the signs of f's slopes; its greatest is
    max(f(l), f(u)), each linear;
  - DeepPoly's lower line m x + q depends on the cell alone, so that its bound is min(m l + q, m u + q). Precise means
    both are at least f's least value: linear inequalities over a product of intervals, decided at their ends;
  - chords of g_i ReLU are exact at l and u, so that with every g_i > 0 upper bounds of DeepPoly and Triangle are;
  - Triangle's lower function is h itself, so that it is precise whatever the signs are;
  - IBP's bounds are linear on the cell: precise means that they are the same linear function as f's, the upper one the
    same as f(l) or as f(u) (a linear function above both is their maximum only if it is one of them).

Hence `precise` decides all boxes at once. `deep_poly` and `ibp` are the textbook bounds for any network, in fractions,
back-substituted to the input and not intersected with anything: what the theory's table speaks of. They serve where no
such argument is made, box by box. Float64 weights are exact fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import NamedTuple

import torch

from partita.problems.network.graph import Activation, Affine, Graph
from partita.problems.network.library import univariate

Q = Fraction
ZERO = Q(0)
Bounds = tuple[Q, Q]
RELAXATIONS = ("ibp", "deeppoly-0", "deeppoly-1", "triangle")


class Linear(NamedTuple):
    """(l, u) -> l l + u u + one."""

    l: Q
    u: Q
    one: Q

    def minus(self, other: Linear) -> Linear:
        return Linear(self.l - other.l, self.u - other.u, self.one - other.one)


@dataclass(frozen=True)
class Function:
    """f(x) = value + slope x + sum changes_i max(0, x - points_i); points increasing."""

    points: tuple[Q, ...]
    changes: tuple[Q, ...]
    slope: Q = ZERO
    value: Q = ZERO

    def __call__(self, x: Q) -> Q:
        return self.value + self.slope * x + sum(g * max(Q(0), x - p) for p, g in zip(self.points, self.changes))

    def slopes(self) -> list[Q]:
        """Of the n + 1 linear pieces, from left to right."""
        return [self.slope + sum(self.changes[:j], Q(0)) for j in range(len(self.points) + 1)]

    def range(self, l: Q, u: Q) -> Bounds:
        """Least and greatest value on [l, u]."""
        values = [self(x) for x in (l, u, *(p for p in self.points if l < p < u))]
        return min(values), max(values)


@dataclass(frozen=True)
class Form:
    """b + c x + sum gains_i max(0, signs_i (x - points_i)); a point may come twice, once with each sign."""

    points: tuple[Q, ...]
    gains: tuple[Q, ...]
    signs: tuple[int, ...]
    c: Q
    b: Q

    def graph(self) -> Graph:
        """As a network; its numbers must be dyadic for it to be the same function."""
        turned = [g for g, s in zip(self.gains, self.signs) if s < 0]
        moved = [g * p for g, p, s in zip(self.gains, self.points, self.signs) if s < 0]
        slope, value = self.c - sum(turned, Q(0)), self.b + sum(moved, Q(0))
        numbers = ([float(v) for v in part] for part in (self.points, self.gains, self.signs))
        return univariate(*numbers, slope=float(slope), value=float(value))


def encoding(f: Function, signs: Sequence[int]) -> Form:
    """The form of f with these signs."""
    turned = [i for i, s in enumerate(signs) if s < 0]
    c = f.slope + sum((f.changes[i] for i in turned), Q(0))
    b = f.value - sum((f.changes[i] * f.points[i] for i in turned), Q(0))
    return Form(f.points, f.changes, tuple(signs), c, b)


def encodings(f: Function) -> list[Form]:
    """All 2^n."""
    return [encoding(f, signs) for signs in product((-1, 1), repeat=len(f.points))]


def flipped(form: Form) -> Form:
    """The same function by max(0, t) = t + max(0, -t): DeepPoly-1 treats it as DeepPoly-0 does the original."""
    tilt = [g * s for g, s in zip(form.gains, form.signs)]
    c = form.c + sum(tilt, ZERO)
    b = form.b - sum((t * p for t, p in zip(tilt, form.points)), ZERO)
    return Form(form.points, form.gains, tuple(-s for s in form.signs), c, b)


def forms_without_linear_term(f: Function) -> list[Form]:
    """Those of n or n + 1 neurons with c = 0: at most one breakpoint is shared by two neurons of opposite signs."""
    found = [form for form in encodings(f) if form.c == 0]
    for i, signs in product(range(len(f.points)), product((-1, 1), repeat=len(f.points) - 1)):
        rest = encoding(f, (*signs[:i], 1, *signs[i:]))
        part = -rest.c  # what the neuron that looks left must add to the slope
        if 0 < part < f.changes[i]:
            points = (*rest.points, f.points[i])
            gains = (*rest.gains[:i], f.changes[i] - part, *rest.gains[i + 1 :], part)
            found.append(Form(points, gains, (*rest.signs, -1), Q(0), rest.b - part * f.points[i]))
    return found


# ---- all boxes at once


def precise(form: Form, f: Function, relaxation: str) -> bool:
    """Whether both bounds of the form are f's on every box; f convex, every gain positive."""
    if min(*f.changes, *form.gains) <= 0:
        raise ValueError("all boxes at once are decided for convex functions only")
    if relaxation == "triangle":
        return True  # see the essay
    pieces = range(len(f.points) + 1)
    return all(_precise_on(form, f, relaxation, j, k) for j in pieces for k in pieces if j <= k)


def _precise_on(form: Form, f: Function, relaxation: str, j: int, k: int) -> bool:
    """On the boxes with l on piece j and u on piece k."""
    at_l, at_u, least = _truth(f, j, k)
    if relaxation == "ibp":
        low, high = _ibp_on(form, f, j, k)
        return low == least and high in (at_l, at_u)
    if j == k:
        return True  # no neuron is undecided
    m, q = form.c, form.b
    for point, gain, sign in zip(form.points, form.gains, form.signs):
        e = f.points.index(point)
        undecided, right = j <= e < k, j > e
        if (undecided and relaxation == "deeppoly-1") or (not undecided and right == (sign > 0)):
            m, q = m + gain * sign, q - gain * sign * point
    ends = _piece(f, j), _piece(f, k)
    return all(_nonnegative(Linear(*line).minus(least), *ends) for line in ((m, Q(0), q), (Q(0), m, q)))


def _truth(f: Function, j: int, k: int) -> tuple[Linear, Linear, Linear]:
    """f(l), f(u), and f's least value between, as linear functions on the cell."""
    slopes = f.slopes()
    offset = [f.value - sum((g * p for p, g in zip(f.points[:i], f.changes[:i])), Q(0)) for i in (j, k)]
    at_l, at_u = Linear(slopes[j], Q(0), offset[0]), Linear(Q(0), slopes[k], offset[1])
    if slopes[j] >= 0:
        return at_l, at_u, at_l
    if slopes[k] <= 0:
        return at_l, at_u, at_u
    return at_l, at_u, Linear(Q(0), Q(0), min(f(p) for p in f.points))


def _ibp_on(form: Form, f: Function, j: int, k: int) -> tuple[Linear, Linear]:
    """Interval bounds as linear functions on the cell."""
    side = (Linear(form.c, Q(0), form.b), Linear(Q(0), form.c, form.b))
    low, high = side if form.c >= 0 else side[::-1]
    for point, gain, sign in zip(form.points, form.gains, form.signs):
        e = f.points.index(point)
        beyond_l, beyond_u = j > e, k > e  # whether l, u lie right of the breakpoint
        if sign > 0:
            terms = (Linear(gain, Q(0), -gain * point), beyond_l), (Linear(Q(0), gain, -gain * point), beyond_u)
        else:
            terms = (Linear(Q(0), -gain, gain * point), not beyond_u), (Linear(-gain, Q(0), gain * point), not beyond_l)
        low, high = (Linear(*map(sum, zip(t, add))) if on else t for t, (add, on) in zip((low, high), terms))
    return low, high


def _piece(f: Function, j: int) -> tuple[Q | None, Q | None]:
    """The ends of a linear piece; None where it has none."""
    return f.points[j - 1] if j else None, f.points[j] if j < len(f.points) else None


def _nonnegative(line: Linear, of_l: tuple[Q | None, Q | None], of_u: tuple[Q | None, Q | None]) -> bool:
    total = line.one
    for slope, (low, high) in ((line.l, of_l), (line.u, of_u)):
        end = low if slope > 0 else high
        if slope != 0 and end is None:
            return False
        total += slope * end if slope != 0 else 0
    return total >= 0


# ---- one box


def triangle(form: Form, l: Q, u: Q) -> Bounds:
    """Triangle's bounds of a form with gains of either sign: extremes of a convex and a concave function."""
    inside = [p for p in form.points if l < p < u]

    def value(x: Q, lower: bool) -> Q:
        total = form.b + form.c * x
        for p, g, s in zip(form.points, form.gains, form.signs):
            at = [max(Q(0), s * (end - p)) for end in (l, u)]
            hull = max(Q(0), s * (x - p)) if (g > 0) == lower else at[0] + (at[1] - at[0]) * (x - l) / (u - l)
            total += g * hull
        return total

    return min(value(x, True) for x in (l, u, *inside)), max(value(x, False) for x in (l, u, *inside))


Matrix = list[list[Q]]


class Rational:
    """A network with its weights as fractions; small dense networks of ReLUs only."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.weights: dict[int, tuple[list[tuple[int, Matrix]], list[Q]]] = {}
        for i, node in enumerate(graph.nodes):
            if isinstance(node, Affine):
                terms = [
                    (j, [[Q(v) for v in row] for row in op.rows(torch.arange(op.n_out), torch.float64).tolist()])
                    for j, op in zip(node.inputs, node.operators)
                ]
                self.weights[i] = terms, [Q(v) for v in node.bias.tolist()]

    def ibp(self, l: Sequence[Q], u: Sequence[Q]) -> Bounds:
        """Interval bounds of the first output."""
        boxes: list[tuple[list[Q], list[Q]]] = []
        for i, node in enumerate(self.graph.nodes):
            if i == 0:
                boxes.append((list(l), list(u)))
            elif isinstance(node, Activation):
                low, high = boxes[node.inputs[0]]
                boxes.append(([max(Q(0), v) for v in low], [max(Q(0), v) for v in high]))
            else:
                terms, bias = self.weights[i]
                low, high = list(bias), list(bias)
                for j, matrix in terms:
                    for row, entries in enumerate(matrix):
                        for w, a, b in zip(entries, *boxes[j]):
                            low[row] += w * (a if w > 0 else b)
                            high[row] += w * (b if w > 0 else a)
                boxes.append((low, high))
        return boxes[-1][0][0], boxes[-1][1][0]

    def deep_poly(self, l: Sequence[Q], u: Sequence[Q], lower_slope: int) -> Bounds:
        """DeepPoly-0 or -1 for the first output: every pre-activation substituted back to the input."""
        lines: dict[int, list[tuple[Q, Q, Q]]] = {}  # of a neuron: slope below, slope above, offset above
        for layer in self.graph.layers:
            i, source = layer.position, layer.source
            lines[i] = []
            for neuron in range(layer.size):
                low, high = (self._least(source, neuron, sign, l, u, lines) * sign for sign in (1, -1))
                if low >= 0 or high <= 0:
                    lines[i].append((Q(int(low >= 0)), Q(int(low >= 0)), Q(0)))
                else:
                    chord = high / (high - low)
                    lines[i].append((Q(lower_slope), chord, -chord * low))
        low, high = (self._least(self.graph.output, 0, sign, l, u, lines) * sign for sign in (1, -1))
        return low, high

    def _least(self, node: int, entry: int, sign: int, l: Sequence[Q], u: Sequence[Q], lines: dict) -> Q:
        """A lower bound of sign times one entry of a node."""
        total, open_ = Q(0), {node: {entry: Q(sign)}}
        for i in range(node, 0, -1):
            form = open_.pop(i, {})
            for row, w in form.items():
                if i in self.weights:
                    terms, bias = self.weights[i]
                    total += w * bias[row]
                    for j, matrix in terms:
                        into = open_.setdefault(j, {})
                        for at, entry_ in enumerate(matrix[row]):
                            if entry_:
                                into[at] = into.get(at, Q(0)) + w * entry_
                else:
                    below, above, offset = lines[i][row]
                    into = open_.setdefault(self.graph.layer_at[i].source, {})
                    into[row] = into.get(row, Q(0)) + w * (below if w > 0 else above)
                    total += 0 if w > 0 else w * offset
        return total + sum(w * (l[at] if w > 0 else u[at]) for at, w in open_.get(0, {}).items())


def grid(f: Function, between: int = 2) -> list[tuple[Q, Q]]:
    """Boxes with endpoints at breakpoints, at `between` points of each piece between them, and beyond both ends."""
    inner = [p + (q - p) * Q(t, between + 1) for p, q in zip(f.points, f.points[1:]) for t in range(1, between + 1)]
    ends = [f.points[0] - Q(t, 2) for t in (1, 2, 5)] + [f.points[-1] + Q(t, 2) for t in (1, 2, 5)]
    points = sorted({*f.points, *inner, *ends})
    return [(l, u) for i, l in enumerate(points) for u in points[i + 1 :]]
