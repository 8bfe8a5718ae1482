"""The published table of what can be expressed precisely, cell by cell: a witness, a refutation, or what stays open.

Baader, Mueller, Mao, Vechev (ICLR 2024) and, for the multi-neuron row, Mao, Zhang, Vechev (ICLR 2026) say for four
classes of functions whether every member has some ReLU network whose bounds are exact on all boxes. "Yes" is supported
here by building that network for random members and deciding exactness, in fractions, on all boxes where an argument
allows it (`rational.precise`, `witnesses.increasing`) and otherwise on a grid of boxes. "No" is supported by one
function and by networks for it, none of which is precise; that no other network is, is the papers' proof, or this one.

IBP and |x|, any depth (derived here). Near 0 and scaled, a network for |x| is h(x) = sum w_i y_i with neurons
y_i = p_i max(x,0) + q_i max(-x,0), p_i, q_i >= 0, and IBP's upper bounds on [-1,1] are at least max(p_i, q_i) for y_i
and sum over w_i > 0 of w_i max(p_i, q_i) for h. As h(1) = h(-1) = 1, precision needs

    sum_{w_i > 0} w_i max(p_i, q_i) <= 1 = sum w_i p_i = sum w_i q_i,

hence p_i = q_i > 0 for some i, with IBP's upper bound of y_i exact: y_i is |x| again, one layer earlier. In the first
layer, where y_i = max(w x, 0), there is no such neuron.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from typing import NamedTuple

import numpy as np

from partita.problems.network.graph import Graph
from partita.problems.network.library import univariate
from partita.relaxations.bound import bound

from . import witnesses
from .rational import (
    Form,
    Function,
    Q,
    Rational,
    encoding,
    encodings,
    flipped,
    forms_without_linear_term,
    grid,
    precise,
    triangle,
)
from .table import settled

CLOSE = 1e-7
PUBLISHED = {
    ("R", "IBP"): ("no", "yes", "no", "yes"),
    ("R", "DeepPoly-0"): ("open", "yes", "yes", "yes"),
    ("R", "DeepPoly-1"): ("open", "yes", "yes", "yes"),
    ("R", "Triangle"): ("open", "yes", "yes", "yes"),
    ("R", "multi-neuron"): ("yes", "yes", "yes", "yes"),
    ("R^d", "Triangle"): ("no", "no", "no", "no"),
}
CLASSES = ("piecewise linear", "monotone", "convex", "monotone convex")
ABSOLUTE = Function((Q(0),), (Q(2),), Q(-1))
ZIGZAG = Function((Q(0), Q(1)), (Q(-2), Q(2)), Q(1))  # slopes 1, -1, 1
DOUBLE = Function((Q(-1), Q(0), Q(1)), (Q(2), Q(-2), Q(2)), Q(-1), Q(-1))  # ||x| - 1|


class Cell(NamedTuple):
    """One cell of the published table: what it says, what was found (yes, no, open, or `against`), and by what."""

    inputs: str
    relaxation: str
    functions: str
    published: str
    found: str
    evidence: str
    scope: str


class Samples(NamedTuple):
    """Random members of each class, and how many boxes linear programs try."""

    monotone: list[Function]
    convex: list[Function]
    increasing: list[Function]  # and convex
    general: list[Function]
    boxes: int
    maxima: int
    seed: int


def cells(samples: Samples) -> list[Cell]:
    """All 24."""
    plain = maxima(samples)
    found = []
    for (inputs, relaxation), row in PUBLISHED.items():
        for functions, published in zip(CLASSES, row, strict=True):
            if inputs == "R^d":
                answer = plain
            elif relaxation == "multi-neuron":
                answer = _multi(samples, functions)
            else:
                answer = _single(samples, relaxation, functions)
            found.append(Cell(inputs, relaxation, functions, published, *answer))
    return found


def _single(samples: Samples, relaxation: str, functions: str) -> tuple[str, str, str]:
    if functions == "piecewise linear":
        return _absolute() if relaxation == "IBP" else _beyond(samples, relaxation)
    if functions == "monotone":
        return _monotone(samples, relaxation)
    if functions == "monotone convex":
        return _convex(samples.increasing, relaxation)
    return _absolute() if relaxation == "IBP" else _convex(samples.convex, relaxation)


def _absolute() -> tuple[str, str, str]:
    """|x| under IBP."""
    forms = [*encodings(ABSOLUTE), *forms_without_linear_term(ABSOLUTE)]
    some = any(precise(form, ABSOLUTE, "ibp") for form in forms)
    box = Rational(forms[-1].graph()).ibp([Q(-1)], [Q(1)])
    evidence = (
        f"|x|: none of its {len(forms)} one-layer forms (2 neurons: [{box[0]}, {box[1]}] on [-1,1]); by induction none"
    )
    return ("against", "a precise form of |x|", "all boxes") if some else ("no", evidence, "all networks")


def best(f: Function, relaxation: str) -> Form | None:
    """The form of a convex function that is precise, by sign choice: see `rational`."""
    forms = [*encodings(f), *forms_without_linear_term(f)]
    if relaxation == "DeepPoly-1":
        forms = [flipped(form) for form in forms]
    return next((form for form in forms if precise(form, f, relaxation.lower())), None)


def _convex(functions: list[Function], relaxation: str) -> tuple[str, str, str]:
    """A precise form for each, on all boxes."""
    found = [best(f, relaxation) for f in functions]
    count = sum(form is not None for form in found)
    if relaxation == "Triangle":  # for it `precise` is an argument: let a linear program and fractions agree
        some = [(form, f) for form, f in zip(found, functions, strict=True) if form is not None]
        good = all(triangle(form, l, u) == f.range(l, u) for form, f in some for l, u in grid(f))
        count = count if good else 0
    verdict = "yes" if count == len(functions) else "against"
    return verdict, f"a choice of signs for {count} of {len(functions)} random functions", "all boxes"


def _monotone(samples: Samples, relaxation: str) -> tuple[str, str, str]:
    """Clipped ramps."""
    good = tried = 0
    for f in samples.monotone:
        network = witnesses.steps(f)
        if relaxation == "IBP":
            good += witnesses.increasing(network) and _agrees(f, grid(f), Rational(network).ibp)
        elif relaxation == "Triangle":
            some = _spread(grid(f), samples.boxes)
            good, tried = (
                good + (witnesses.increasing(network) and _by_programs(network, f, some, "triangle")),
                len(some),
            )
        else:
            network = witnesses.flipped(network) if relaxation == "DeepPoly-1" else network
            good += _agrees(f, grid(f), _deep_poly_of(network, relaxation))
            tried = len(grid(f))
    scope = {"IBP": "all boxes", "Triangle": f"all boxes, by IBP; {tried} by programs"}.get(
        relaxation, f"{tried} boxes each"
    )
    text = f"clipped ramps{', flipped' if relaxation == 'DeepPoly-1' else ''}, for {good} of {len(samples.monotone)}"
    return "yes" if good == len(samples.monotone) else "against", f"{text} random functions", scope


def _beyond(samples: Samples, relaxation: str) -> tuple[str, str, str]:
    """Neither convex, concave nor monotone: ||x| - 1| through a composition; slopes 1, -1, 1 in one layer."""
    inner = best(ABSOLUTE, relaxation)
    outer = best(Function((Q(1),), (Q(2),), Q(-1), Q(1)), relaxation)
    assert inner is not None and outer is not None
    chain, tried = witnesses.composed(outer.graph(), inner.graph()), grid(DOUBLE)
    if relaxation == "Triangle":
        tried = _spread(tried, samples.boxes)
        good = _by_programs(chain, DOUBLE, tried, "triangle:tighten=on")
        ways = [_triangle_of(form) for form in encodings(ZIGZAG)]
    else:
        good = _agrees(DOUBLE, tried, _deep_poly_of(chain, relaxation))
        ways = [_deep_poly_of(form.graph(), relaxation) for form in encodings(ZIGZAG)]
    none = not any(_agrees(ZIGZAG, grid(ZIGZAG), way) for way in ways)
    said = f"||x| - 1| is {'precise' if good else 'not precise'} as a composition"
    return (
        "open",
        f"{said}; slopes 1, -1, 1: {'none' if none else 'some'} of the 4 one-layer forms",
        f"{len(tried)} boxes",
    )


def _multi(samples: Samples, functions: str) -> tuple[str, str, str]:
    """The hull of the one layer there is: P_1, by linear programs."""
    members = {
        "piecewise linear": samples.general,
        "monotone": samples.monotone,
        "convex": samples.convex,
        "monotone convex": samples.increasing,
    }[functions][:3]
    good = 0
    for f in members:
        numbers = ([float(v) for v in part] for part in (f.points, f.changes))
        network = univariate(*numbers, slope=float(f.slope), value=float(f.value))
        good += _by_programs(network, f, _spread(grid(f), samples.boxes), "p-1")
    text = f"one layer under P_1, for {good} of {len(members)} random functions"
    return "yes" if good == len(members) else "against", text, f"{samples.boxes} boxes each"


def zigzag(count: int) -> list[list]:
    """For encodings of slopes 1, -1, 1: on how many boxes Triangle's lower bound is exact, the upper one, and both."""
    tried, rows = _spread(grid(ZIGZAG, 1), count), []
    ways = [(f"one layer, signs {s[0]:+d}, {s[1]:+d}", encoding(ZIGZAG, s).graph()) for s in product((1, -1), repeat=2)]
    for name, network in [*ways, *((f"x - 2 clip(x), clip by {name}", g) for name, g in witnesses.zigzags())]:
        exact, excess = np.zeros(3, int), 0.0
        for l, u in tried:
            low, high = (float(v) for v in ZIGZAG.range(l, u))
            report = bound(network, ([float(l)], [float(u)]), "triangle:tighten=on")
            lost = np.array([low - report.lower[0], report.upper[0] - high])
            right = lost < CLOSE * (1 + abs(low) + abs(high))
            exact += [right[0], right[1], right.all()]
            excess = max(excess, float(lost.max()))
        rows.append([name, len(tried), *exact.tolist(), settled(excess)])
    return rows


def maxima(samples: Samples) -> tuple[str, str, str]:
    """max(x1, x2) under Triangle on the unit square."""
    box = (np.zeros(2), np.ones(2))
    found = [
        float(bound(network, box, "triangle:tighten=on").upper[0])
        for _, network in witnesses.maxima(samples.seed, samples.maxima)
    ]
    text = f"max(x1, x2), which is of this class: best upper bound {min(found):.4g} of {len(found)} encodings, not 1"
    return "no" if min(found) > 1.5 - CLOSE else "against", text, "[0,1]^2"


def _triangle_of(form: Form) -> Callable:
    return lambda l, u: triangle(form, l[0], u[0])


def _deep_poly_of(network: Graph, relaxation: str) -> Callable:
    exact, slope = Rational(network), int(relaxation[-1])
    return lambda l, u: exact.deep_poly(l, u, slope)


def _agrees(f: Function, tried: Iterable[tuple[Q, Q]], bounds: Callable) -> bool:
    """Whether the bounds are f's range on every box, exactly."""
    return all(bounds([l], [u]) == f.range(l, u) for l, u in tried)


def _by_programs(network: Graph, f: Function, tried: Iterable[tuple[Q, Q]], relaxation: str) -> bool:
    """The same to within the tolerance of linear programs."""
    for l, u in tried:
        low, high = (float(v) for v in f.range(l, u))
        report = bound(network, ([float(l)], [float(u)]), relaxation)
        if max(abs(report.lower[0] - low), abs(report.upper[0] - high)) > CLOSE * (1 + abs(low) + abs(high)):
            return False
    return True


def _spread(tried: list[tuple[Q, Q]], count: int) -> list[tuple[Q, Q]]:
    """`count` of the boxes, evenly."""
    step = max(1, -(-len(tried) // count))
    return tried[::step]
