"""Study 7, expressivity (Baader, Mueller, Mao, Vechev, ICLR 2024): which encodings of a function are precise.

A convex piecewise-linear function of one variable with n breakpoints has 2^n encodings of n neurons, one for each
choice of signs in h = b + c x + sum g_i ReLU(s_i (x - x_i)). Which of them has exact bounds on *all* boxes is decided
in fractions (`rational`), for random functions of four shapes:

    floor       slope 0 somewhere between two breakpoints
    pointed     its minimum is at a breakpoint
    increasing  every slope positive
    decreasing  every slope negative

and each decision is checked box by box with textbook bounds in fractions, and on some boxes with `partita.bound`. A
second table takes the published cells one by one (`cells`).
"""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise

from .cells import Cell, Samples, cells, zigzag
from .rational import (
    RELAXATIONS,
    Function,
    Rational,
    encodings,
    forms_without_linear_term,
    grid,
    precise,
    triangle,
)
from .table import Study, Table

COMMAND = "partita study encodings"
SHAPES = ("floor", "pointed", "increasing", "decreasing")
NAMES = {"ibp": "IBP", "deeppoly-0": "DeepPoly-0", "deeppoly-1": "DeepPoly-1", "triangle": "Triangle"}
QUESTION = (
    "Which functions have a ReLU network whose bounds are exact on all boxes? For convex functions of one variable: "
    "how many of the 2^n choices of signs are precise under IBP, DeepPoly-0, DeepPoly-1 and Triangle? And does each "
    "cell of the published table hold up: a precise network for random members of the class where it says yes, a "
    "function with no precise network where it says no?"
)


def study(
    seed: int = 0, breakpoints: tuple[int, ...] = (2, 3, 4, 5), functions: int = 5, boxes: int = 25, maxima: int = 60
) -> Study:
    """`functions` random ones of each shape and size; `boxes` for each linear-program check."""
    draw = random.Random(seed)
    rows, checks = [], []
    for n in breakpoints:
        for shape in SHAPES:
            drawn = [convex(draw, n, shape) for _ in range(functions)]
            rows.append([n, shape, functions, 2**n, *_counts(drawn)])
            checks.append(_checked(drawn[0]))
    agreed, tried = (sum(c[i] for c in checks) for i in (0, 1))
    found = cells(_samples(draw, functions, boxes, maxima, seed))
    tables = [
        Table(
            "Encodings that are precise on all boxes, of 2^n choices of signs",
            COLUMNS,
            rows,
            COMMAND,
            "The same number for every function of a row, or the least and greatest. Forms without linear term have "
            "c = 0, and n neurons, or n + 1 where one breakpoint is shared by two. "
            f"Box by box, {agreed:,} of {tried:,} bounds in fractions agree with the decisions for all boxes.",
        ),
        Table(
            "The published table, cell by cell",
            ["inputs", "relaxation", "functions", "published", "found", "by", "on"],
            [list(cell) for cell in found],
            COMMAND,
            "'found' is what is supported here; 'against' would be a cell that computation contradicts. Intervals of "
            "pre-activations: IBP and DeepPoly find their own, linear programs (Triangle) tighten them layer by layer; "
            "with one layer they are exact.",
        ),
    ]
    turns = zigzag(2 * boxes)
    tables.append(
        Table(
            "Slopes 1, -1, 1 (breakpoints 0 and 1) under Triangle",
            ["encoding", "boxes", "lower exact", "upper exact", "both", "largest error"],
            turns,
            COMMAND,
            "The smallest open case: neither convex, concave nor monotone, and no composition on all of R. Intervals "
            "tightened layer by layer.",
        )
    )
    return Study(
        "encodings",
        "Expressivity: which encodings are precise",
        QUESTION,
        tables,
        _findings(rows, found, turns, agreed, tried),
    )


COLUMNS = (
    *("n", "shape", "functions", "encodings", *(NAMES[r] for r in RELAXATIONS)),
    *("without linear term", "of them by DeepPoly-0"),
)


def convex(draw: random.Random, n: int, shape: str) -> Function:
    """A random convex function, its numbers multiples of 1/4."""
    points = tuple(Fraction(p, 4) for p in sorted(draw.sample(range(-16, 17), n)))
    changes = tuple(Fraction(draw.randint(1, 12), 4) for _ in range(n))
    value = Fraction(draw.randint(-8, 8), 4)
    if shape == "increasing":
        slope = Fraction(draw.randint(1, 8), 4)
    elif shape == "decreasing":
        slope = -sum(changes) - Fraction(draw.randint(1, 8), 4)
    elif shape == "floor":
        slope = -sum(changes[: draw.randint(1, n - 1)])
    else:
        k = draw.randrange(n)
        slope = -sum(changes[:k], Fraction(0)) - changes[k] * Fraction(draw.choice((1, 2, 3)), 4)
    return Function(points, changes, slope, value)


def monotone(draw: random.Random, n: int) -> Function:
    """A random nondecreasing function, its slopes in any order, some of them zero."""
    points = tuple(Fraction(p, 4) for p in sorted(draw.sample(range(-16, 17), n)))
    slopes = [Fraction(max(0, draw.randint(-3, 10)), 4) for _ in range(n + 1)]
    return Function(points, tuple(b - a for a, b in pairwise(slopes)), slopes[0], Fraction(draw.randint(-8, 8), 4))


def general(draw: random.Random, n: int) -> Function:
    """A random piecewise-linear function, its slopes of either sign."""
    points = tuple(Fraction(p, 4) for p in sorted(draw.sample(range(-16, 17), n)))
    changes = tuple(Fraction(draw.choice((-1, 1)) * draw.randint(1, 12), 4) for _ in range(n))
    return Function(points, changes, Fraction(draw.randint(-8, 8), 4), Fraction(0))


def _samples(draw: random.Random, functions: int, boxes: int, maxima: int, seed: int) -> Samples:
    sizes = [2 + i % 3 for i in range(functions)]
    shapes = ("floor", "pointed", "increasing", "decreasing")
    return Samples(
        [monotone(draw, n) for n in sizes],
        [convex(draw, n, shapes[i % 4]) for i, n in enumerate(sizes)],
        [convex(draw, n, "increasing") for n in sizes],
        [general(draw, n) for n in sizes],
        boxes,
        maxima,
        seed,
    )


def _counts(drawn: list[Function]) -> list[int | str]:
    """For each relaxation the number of precise encodings; forms without linear term, and those precise."""
    counts = [[sum(precise(form, f, r) for form in encodings(f)) for f in drawn] for r in RELAXATIONS]
    free = [forms_without_linear_term(f) for f in drawn]
    counts.append([len(forms) for forms in free])
    counts.append([sum(precise(form, f, "deeppoly-0") for form in forms) for forms, f in zip(free, drawn, strict=True)])
    return [min(c) if min(c) == max(c) else f"{min(c)} to {max(c)}" for c in counts]


def _checked(f: Function) -> tuple[int, int]:
    """How many of the decisions for all boxes are borne out box by box, and how many bounds were computed."""
    agreed = tried = 0
    boxes = grid(f, 1)
    for form in encodings(f):
        exact = Rational(form.graph())
        ways = {
            "ibp": exact.ibp,
            "deeppoly-0": lambda l, u, e=exact: e.deep_poly(l, u, 0),
            "deeppoly-1": lambda l, u, e=exact: e.deep_poly(l, u, 1),
            "triangle": lambda l, u, h=form: triangle(h, l[0], u[0]),
        }
        for name, bounds in ways.items():
            right = [bounds([l], [u]) == f.range(l, u) for l, u in boxes]
            tried += len(boxes)
            agreed += len(boxes) if all(right) == precise(form, f, name) else 0
    return agreed, tried


def _findings(rows: list[list], found: list[Cell], turns: list[list], agreed: int, tried: int) -> str:
    said, refuted = [], []
    at = {name: COLUMNS.index(name) for name in COLUMNS}
    if all(row[at["Triangle"]] == row[at["encodings"]] for row in rows):
        said.append("Confirmed: under Triangle each of the 2^n choices of signs is precise.")
    else:
        refuted.append("that every choice of signs is precise under Triangle")
    for name in ("DeepPoly-0", "DeepPoly-1"):
        by_shape = {s: sorted({str(row[at[name]]) for row in rows if row[1] == s}) for s in SHAPES}
        ones = [s for s, c in by_shape.items() if c == ["1"]]
        none = [s for s, c in by_shape.items() if c == ["0"]]
        said.append(
            f"{name}: exactly one choice for {', '.join(ones) or 'no shape'}; none for {', '.join(none) or 'no shape'}."
        )
    with_minimum = [row for row in rows if row[1] in ("floor", "pointed")]
    if all(row[at["of them by DeepPoly-0"]] == 1 for row in with_minimum):
        said.append(
            "Among the forms without linear term exactly one is precise under DeepPoly-0 whenever f has a minimum: its "
            "neurons look away from it, and a pointed minimum takes one neuron more. So the claim of one minimal form "
            "holds with n neurons for a floor and with n + 1 for a point."
        )
    ibp = {s: {row[at["IBP"]] for row in rows if row[1] == s} for s in SHAPES}
    if all(ibp[s] == {0} for s in ("floor", "pointed")) and all(ibp[s] == {1} for s in ("increasing", "decreasing")):
        said.append("IBP has one precise choice for monotone functions and none for the others.")
    if agreed != tried:
        refuted.append(f"{tried - agreed:,} bounds computed box by box contradict the decision for all boxes")
    supported = [c for c in found if c.found == c.published != "open"]
    against = [c for c in found if c.found == "against"]
    open_ = [c for c in found if c.published == "open"]
    said.append(
        f"Of the {len(found)} published cells, {len(supported)} are supported, {len(against)} contradicted, "
        f"{len(open_)} open as published. A 'yes' is supported by precise networks for random members, a 'no' by one "
        "function: for IBP by an induction over layers that holds for every network (see "
        "`scripts/studies/cells.py`), for Triangle in R^d only on the encodings tried, the general statement being "
        "the paper's."
    )
    refuted += [f"{c.functions} under {c.relaxation} in {c.inputs}: {c.evidence}" for c in against]
    said.append(f"Refuted: {'; '.join(refuted) or 'nothing'}.")
    partial = [c for c in open_ if "is precise as a composition" in c.evidence]
    if partial:
        said.append(
            f"Open: piecewise-linear functions under {', '.join(c.relaxation for c in partial)}. Compositions of "
            "precise networks are precise, which reaches functions that are neither convex nor monotone, such as "
            "||x| - 1|."
        )
    above = [row[0] for row in turns if row[3] == row[1]]
    below = [row[0] for row in turns if row[2] == row[1]]
    both = [row[0] for row in turns if row[4] == row[1]]
    if both:
        said.append(f"Slopes 1, -1, 1 are precise on every box tried: {', '.join(both)}.")
    elif above and below:
        said.append(
            f"For slopes 1, -1, 1 every box tried has an exact upper bound by one network ({above[0]}) and an exact "
            f"lower one by another ({below[0]}); one network for both was not found."
        )
    return " ".join(said)
