"""Study 5, max(x_1, .., x_d) on [0,1]^d: the function on which single-neuron relaxations lose and M_1 does not.

Written as m <- x + ReLU(m - x), one neuron a layer (`library.maximum`). The exact maximum is 1 for every d, and

    IBP       d                             every layer adds the width of its input
    Triangle  U_d, U' = 1 + U^2 / (U + 1)   from U_1 = 1: U' = U + 1 / (U + 1), which grows like sqrt(2 d)
    M_1       1                             its rows are ReLU(m - x) <= m and ReLU(m - x) <= 1 - x

Five things are measured: bounds at the root; the same with the inputs carried as neurons (`carried`), where groups of a
layer's neurons exist; proper leaves until the bound is exact when pieces are activation branches, for both fixed orders
of the neurons; boxes until max <= 1 + eps is proved when pieces are boxes (see `bisection`; exactness itself no
single-neuron relaxation of a box with an undecided neuron at its corner reaches); and seconds against d.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from partita.bab.comparing.partition import partition
from partita.problems.network.library import maximum
from partita.relaxations.bound import bound

from .bisection import boxes
from .carried import carried_maximum
from .intervals import TIGHTENED, tightened
from .table import Cell, Study, Table, axes, settled

COMMAND = "partita study maximum"
ROOT = ("ibp", "deeppoly-0", "deeppoly-1", "crown", "alpha-crown", "triangle", "k-relu", "m-1", "p-1")
TREES = ("ibp", "deeppoly-0", "triangle", "m-1")
BATCHED = ("ibp", "deeppoly-0", "deeppoly-1", "crown")
EXTENDED = 6  # inputs up to which P_1's extended form is small
LIMIT = 500_000  # boxes


class Sizes(NamedTuple):
    """How far each part goes in d."""

    root: tuple[int, ...] = (2, 3, 4, 6, 8, 12, 16, 32, 64)
    trees: tuple[int, ...] = (2, 3, 4, 6, 8, 10)
    first: int = 8  # the order of exponential trees, up to here
    boxes: tuple[int, ...] = (2, 3, 4, 5, 6, 7)
    eps: float = 0.25
    carried: tuple[int, ...] = (2, 3, 4, 5, 6)


QUESTION = (
    "The maximum of d inputs on [0,1]^d, as d - 1 nested ReLUs, is 1. How far off are the relaxations, how many pieces "
    "do they need, as activation branches until the bound is exact and as boxes until max <= 1 + eps is proved, and "
    "what does it cost as d grows? The theory: Triangle's bound is U_d (1.5, 2.245, 2.834, 3.339 at d = 2, 4, 6, 8), "
    "its tree has 2^(d-1) leaves in one order of the neurons and d in the other; M_1 is exact with one piece. And what "
    "is k-ReLU worth, with one neuron a layer and with the inputs carried beside it?"
)
CARRIED = {
    "triangle": "triangle",
    "k-relu, k = 2": "k-relu:k=2,groups=all",
    "k-relu, k = 2, by programs": "k-relu:k=2,groups=all,directions=lp",
    "m-1": "m-1",
}


def study(seed: int = 0, sizes: Sizes = Sizes()) -> Study:  # noqa: B008
    """Nothing is random."""
    uppers, seconds = _root(sizes)
    trees = _trees(sizes)
    counts = {(d, r): _boxes(d, sizes.eps, r) for d in sizes.boxes for r in BATCHED}
    carried = {(d, name): _carried(d, name) for d in sizes.carried for name in CARRIED}
    plain = {d: _upper(d, "k-relu") for d in sizes.carried}
    tables = [
        Table(
            "Upper bound at the root; the maximum is 1",
            ["d", *ROOT, "U_d"],
            [[d, *(_shown(uppers[d, name]) for name in ROOT), round(recursion(d), 6)] for d in sizes.root],
            COMMAND,
            f"{TIGHTENED} P_1 ends at d = {EXTENDED}.",
        ),
        Table(
            "k-ReLU by encoding: upper bounds of the maximum, which is 1",
            ["d", "one neuron a layer: k-relu, k = 2", *(f"carried: {name}" for name in CARRIED)],
            [[d, _shown(plain[d]), *(_shown(carried[d, name]) for name in CARRIED)] for d in sizes.carried],
            COMMAND,
            "'Carried': every input that is still needed is a neuron of each layer, ReLU(x - 2^-24), so that these "
            "count as undecided and are grouped, all pairs of a layer; the shifts are added at the end. The polytope "
            "in which a pair's pre-activations lie comes from backward bounds, or 'by programs' from everything that "
            "the relaxation says before. Intervals tightened layer by layer.",
        ),
        Table(
            "Proper leaves until the upper bound is exact, pieces are activation branches",
            ["d", "A = 2^(d-1)", *(f"{r}, {rule}" for r in TREES for rule in ("first", "last"))],
            [
                [d, 2 ** (d - 1), *(trees.get((d, r, rule)) for r in TREES for rule in ("first", "last"))]
                for d in sizes.trees
            ],
            COMMAND,
            "The first, or the last, undecided neuron is decided next. Batched relaxations leave pieces whose neurons "
            f"are all decided to a linear program. 'first' ends at d = {sizes.first}. Intervals of linear programs are "
            "tightened on every piece. All leaves are proper.",
        ),
        Table(
            f"Boxes until max <= 1 + {sizes.eps:g} is proved, the widest coordinate bisected",
            ["d", *BATCHED, "m-1"],
            [[d, *(counts[d, r] for r in BATCHED), _one_piece(d)] for d in sizes.boxes],
            COMMAND,
            f"By each relaxation alone, its own intervals on every box; '>=' where {LIMIT:,} boxes were not enough.",
        ),
        Table(
            "Seconds for both bounds at the root",
            ["d", *ROOT],
            [[d, *(None if seconds[d, n] is None else round(seconds[d, n], 4) for n in ROOT)] for d in sizes.root],
            COMMAND,
            "Intervals as in the first table, the time to tighten them included.",
        ),
    ]
    figures = {"maximum.svg": _figure(sizes, uppers, trees, counts, seconds)}
    findings = _findings(sizes, uppers, trees, counts, seconds, carried)
    return Study("maximum", "Max on the unit cube", QUESTION, tables, findings, figures)


def recursion(d: int) -> float:
    """U_d: what the triangle relaxation proves."""
    u = 1.0
    for _ in range(d - 1):
        u = 1 + u * u / (u + 1)
    return u


def _root(sizes: Sizes) -> tuple[dict, dict]:
    uppers: dict[tuple[int, str], float | None] = {}
    seconds: dict[tuple[int, str], float | None] = {}
    for d in sizes.root:
        for name in ROOT:
            uppers[d, name] = seconds[d, name] = None
            if name != "p-1" or d <= EXTENDED:
                report = bound(maximum(d), (np.zeros(d), np.ones(d)), tightened(name))
                uppers[d, name], seconds[d, name] = float(report.upper[0]), report.seconds
    return uppers, seconds


def _upper(d: int, name: str) -> float:
    return float(bound(maximum(d), (np.zeros(d), np.ones(d)), tightened(name)).upper[0])


def _carried(d: int, name: str) -> float:
    return float(bound(carried_maximum(d), (np.zeros(d), np.ones(d)), tightened(CARRIED[name])).upper[0])


def _trees(sizes: Sizes) -> dict[tuple[int, str, str], int]:
    """Leaves for the exact maximum, where they are measured."""
    found = {}
    for d in sizes.trees:
        for rule in ("first", "last"):
            if rule == "last" or d <= sizes.first:
                names = list(TREES)
                made = partition(
                    maximum(d), (np.zeros(d), np.ones(d)), names, exactness="max", branching=rule, count=False
                )
                for m in made.measurements:
                    if m.finished and m.proper != m.leaves:
                        raise RuntimeError(f"{m.relaxation}, d = {d}: some leaves are not proper, and a note denies it")
                    if m.finished:
                        found[d, m.relaxation, rule] = m.proper
    return found


def _boxes(d: int, eps: float, relaxation: str) -> str:
    return str(boxes(maximum(d), np.zeros(d), np.ones(d), 1 + eps, relaxation, LIMIT))


def _one_piece(d: int) -> str:
    """1 where M_1 proves the exact maximum on the whole cube."""
    return "1" if _upper(d, "m-1") <= 1 + 1e-6 else ""


def _shown(value: float | None) -> Cell:
    return None if value is None else round(settled(value), 6)


def _about_groups(sizes: Sizes, uppers: dict, carried: dict) -> str:
    """What k-ReLU is worth, by encoding."""
    text = []
    if max(abs(uppers[d, "k-relu"] - uppers[d, "triangle"]) for d in sizes.root) < 1e-6:
        text.append("k-ReLU is no better than Triangle where a layer holds one neuron, which depends on the encoding:")
    pair = {name: [carried[d, name] for d in sizes.carried] for name in CARRIED}
    listed = {name: ", ".join(f"{settled(v):.4g}" for v in values) for name, values in pair.items()}
    if all(b < a - 1e-3 for a, b in zip(pair["triangle"], pair["k-relu, k = 2"], strict=True)):
        text.append(
            f"with the inputs carried as ReLU(x) and grouped, k = 2 proves {listed['k-relu, k = 2']} for d = "
            f"{', '.join(map(str, sizes.carried))}, where Triangle on the same network proves {listed['triangle']}. "
            "Grouping carried inputs on purpose is thus a cheap form of theorem 5.1; copies that are stable, and hence "
            "ungrouped, miss it."
        )
    if all(abs(v - 1) < 1e-6 for v in pair["k-relu, k = 2, by programs"]):
        text.append(
            "With the pairs' polytopes bounded by programs instead of backward bounds k = 2 is exact for all these d."
        )
    return " ".join(text)


def _findings(sizes: Sizes, uppers: dict, trees: dict, counts: dict, seconds: dict, carried: dict) -> str:
    last, said, refuted = max(sizes.root), [], []
    worst = max(abs(uppers[d, "triangle"] - recursion(d)) for d in sizes.root)
    if worst < 1e-6:
        said.append(
            f"Confirmed: Triangle's bound is U_d for every d tried, up to {last} (U_{last} = {recursion(last):.4g})."
        )
    else:
        refuted.append(f"that Triangle's bound is U_d: it differs by up to {worst:.3g}")
    said.append(_about_groups(sizes, uppers, carried))
    if all(abs(uppers[d, "m-1"] - 1) < 1e-6 for d in sizes.root):
        said.append(
            f"M_1 is exact with one piece for every d tried, up to {last} ({seconds[last, 'm-1']:.2g} s there)."
        )
    orders = [d for d in sizes.trees if (d, "triangle", "first") in trees]
    first = all(trees[d, "triangle", "first"] == 2 ** (d - 1) for d in orders)
    linear = all(trees[d, "triangle", "last"] == d for d in sizes.trees)
    if first and linear:
        said.append(
            f"Triangle's tree has 2^(d-1) = A leaves when the first neuron is decided first (d up to {max(orders)}) "
            f"and d leaves when the last one is (up to {max(sizes.trees)}): M_1's one piece is exponentially fewer "
            "than the first order needs, and only by a factor of d fewer than the second. So this function shows no "
            "exponential advantage over Triangle with a good order."
        )
        worse = [d for d in sizes.trees if trees.get((d, "ibp", "last"), 0) > d]
        if worse:
            said.append(
                f"IBP needs more in that order too: {trees[worse[-1], 'ibp', 'last']:,} leaves at d = {worse[-1]}."
            )
        refuted.append(
            "that A(f, X) <= proper leaves holds for every tree of a single-neuron relaxation: the good order breaks "
            "it from d = 3 on"
        )
    else:
        refuted.append("the leaves that the theory gives for Triangle's trees (see the table)")
    finished = [d for d in sizes.boxes if not counts[d, "ibp"].startswith(">")]
    if len(finished) > 1:
        number = [int(counts[d, "ibp"].replace(",", "")) for d in finished]
        factors = [math.floor(b / a) for a, b in pairwise(number)]
        said.append(
            f"IBP on boxes needs {counts[finished[-1], 'ibp']} of them at d = {finished[-1]}, at least {min(factors)} "
            f"times more with each input, for 1 + {sizes.eps:g}."
        )
    said.append(f"Refuted: {'; '.join(refuted) or 'nothing'}.")
    said.append(
        "Open: how the number of boxes grows as eps goes to 0, of which no series was measured; the smallest trees are "
        "studied with proposition 5.6."
    )
    return " ".join(said)


def _figure(sizes: Sizes, uppers: dict, trees: dict, counts: dict, seconds: dict):  # type: ignore[no-untyped-def]
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, middle, right = axes(figure, 3)
    for name in ("ibp", "deeppoly-0", "triangle", "m-1"):
        left.plot(sizes.root, [uppers[d, name] for d in sizes.root], marker="o", ms=3, label=name)
        right.plot(sizes.root, [seconds[d, name] for d in sizes.root], marker="o", ms=3, label=name)
    for ax in (left, right):
        ax.set_xscale("log", base=2)
    left.set(yscale="log", xlabel="d", ylabel="upper bound of the maximum")
    right.set(yscale="log", xlabel="d", ylabel="seconds at the root")
    for rule, style in (("first", "-"), ("last", "--")):
        some = [d for d in sizes.trees if (d, "triangle", rule) in trees]
        middle.plot(
            some, [trees[d, "triangle", rule] for d in some], style, marker="o", ms=3, label=f"triangle, {rule}"
        )
    for name in ("ibp", "crown"):
        some = [d for d in sizes.boxes if not counts[d, name].startswith(">")]
        values = [int(counts[d, name].replace(",", "")) for d in some]
        middle.plot(some, values, ":", marker="s", ms=3, label=f"{name}, boxes")
    middle.plot(sizes.trees, [1] * len(sizes.trees), marker="o", ms=3, label="m-1")
    middle.set(yscale="log", xlabel="d", ylabel="pieces")
    for ax in (left, middle, right):
        ax.legend(frameon=False, fontsize=7)
    return figure
