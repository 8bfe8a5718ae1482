"""Study 6, partition complexity (Mao, Zhang, Vechev 2026, proposition 5.6): leaves of trees beside activation patterns.

The proposition, for exact bounds: #Partition(BaB(M)) <= A(f, X) <= #Partition(BaB(S)), M multi-neuron, S single-neuron.
Its definitions leave open what is compared, so every table says how it was read; here it is exact minimum and maximum
(or the one the table names) within 1e-6, pieces are activation branches, a leaf proved empty is none, A counts cells
with interior, and rules are named: `first` undecided neuron, `last`, `babsr`, or the smallest tree of all.

Families: nested maxima, barrier networks, random networks, all pairwise differences (whose published counts are
reproduced or corrected), the trained networks of `examples/`, and the competition's with few inputs. A last table
counts the convex pieces of proposition 5.3, on which P_1 is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

import partita
from partita.bab.comparing.comparison import Comparison, Measurement
from partita.bab.comparing.pictures import leaves_against_patterns
from partita.bab.comparing.polyhedral import polyhedral_partition, verified
from partita.problems.library import barrier, maximum

from .complexity_subjects import Subject, cube, random_subjects, real_subjects, trained_subjects
from .orders import cut_leaves, fewest, leaves
from .table import Cell, Study, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMMAND = "partita study complexity"
RUNGS = ("triangle", "k-relu:k=2,groups=all", "m-1", "p-1")
PUBLISHED = {3: 6, 4: 22, 5: 120, 6: 660, 7: 5040, 8: 38064}
PUBLISHED_CUTS = {5: 10, 6: 48, 7: 212, 8: 1316}
SECONDS = 45.0  # for one trained network, its patterns included
SEARCHED = 6  # inputs of maxima up to which the smallest tree is looked for


def study(seed: int = 0, each: int = 3, largest: int = 8) -> Study:
    """`each`: random networks of a shape; `largest`: inputs of maxima and of pairwise differences."""
    subjects = random_subjects(seed, each)
    grown = [_compare(s, RUNGS, "all") for s in subjects]
    tiny = [s for s in subjects if s.graph.neurons <= 7]
    best = [_compare(s, ("triangle", "m-1", "p-1"), "optimal") for s in tiny]
    maxima, maxima_table = _maxima(largest)
    differences = _differences(largest)
    real, absent = real_subjects()
    trained = [*trained_subjects(), *real]
    met = [_compare(s, ("triangle", "m-1"), "all", "crown", SECONDS) for s in trained]
    barriers = _barriers()
    groups = {"random networks": grown, "their smallest trees": best, "barrier networks": [c for _, c in barriers]}
    groups |= {"maxima": maxima, "trained networks": met}
    convex = [("barrier", barrier(4), cube(2)), *((s.name, s.graph, s.inputs) for s in subjects[::each])]
    tables = [
        maxima_table,
        _verdicts("Random networks: heuristic trees", grown),
        _verdicts("Random networks: smallest trees", best),
        _instances("Barrier networks, exact minimum and maximum", barriers, COMMAND),
        differences,
        _kinds(subjects[::each]),
        _instances("Trained networks near one point", list(zip(trained, met, strict=True)), COMMAND, absent),
        _convex([("maximum, d = 4", maximum(4), cube(4, 0.0)), *convex]),
    ]
    return Study(
        "complexity",
        "Partition complexity beside activation patterns (proposition 5.6)",
        "Does a tree that multi-neuron bounds close have at most A(f, X) leaves, and one that single-neuron bounds "
        "close at least as many? What of it depends on the branching rule, and what holds for the smallest tree?",
        tables,
        _findings(tables, groups),
        {"complexity.svg": _figure(grown, maxima)},
    )


def _compare(
    subject: Subject, rungs: Sequence[str], branching: str, intervals: str = "tight", timeout: float | None = None
) -> Comparison:
    options = {"branching": branching, "intervals": intervals, "timeout": timeout}
    return partita.partition(subject.graph, subject.inputs, list(rungs), **options)


def _maxima(largest: int) -> tuple[list[Comparison], Table]:
    """Nested maxima on [0,1]^d, exact maximum, the smallest tree where it is soon found."""
    rows, found = [], []
    for d in range(2, largest + 1, 2):
        box = (np.zeros(d), np.ones(d))
        all_ = partita.partition(maximum(d), box, ["triangle", "m-1"], exactness="max")
        best = None
        if d <= SEARCHED:
            tree = partita.partition(maximum(d), box, ["triangle"], exactness="max", branching="optimal", count=False)
            best = tree.measurements[0].leaves
        by = _by(all_)
        triangle = [by["triangle", rule] for rule in ("first", "last", "babsr")]
        root = 1 + triangle[0].root_gap
        counts = [*(m.leaves for m in triangle), best, by["m-1", "first"].leaves]
        rows.append([d, root, *counts, all_.patterns.low])
        found.append(all_)
    columns = ["d", "triangle's bound", "first", "last", "babsr", "smallest tree", "m-1", "A(f, X)"]
    note = "Leaves of triangle trees by rule, and of M_1's, until the upper bound is 1."
    return found, Table("Nested maximum on [0,1]^d, exact maximum", columns, rows, COMMAND, note)


def _barriers() -> list[tuple[Subject, Comparison]]:
    """The barrier with every rung, P_2 and P_3 too."""
    subjects = [Subject(f"barrier, k = {k}", barrier(float(k)), cube(2)) for k in (1, 16)]
    return [(s, _compare(s, ("triangle", "m-1", "p-1", "p-2", "p-3"), "all")) for s in subjects]


def _differences(largest: int) -> Table:
    """The published counts, and what else there is to know of the family."""
    rows: list[list[Cell]] = []
    for n in range(3, largest + 1):
        smallest = fewest(n)[0] if n <= 6 else None
        hull = cut_leaves(n) if n <= 7 else None
        counts = [leaves(n), PUBLISHED.get(n), smallest, cut_leaves(n, hull=False), PUBLISHED_CUTS.get(n), hull]
        rows.append([n, *counts, int(np.prod(np.arange(1, n + 1)))])
    columns = ["n", "triangle", "published", "smallest tree", "3-input facet", "published ", "3-input hull", "A(f, X)"]
    note = (
        "Leaves until the maximum of the sum of all |x_i - x_j| on [0,1]^n is exact, pairs decided in lexicographic "
        "order and what follows from several decisions not decided again. 'facet': triangles with |x_i - x_j| + "
        "|x_j - x_k| + |x_i - x_k| <= 2 for every three inputs; 'hull': with their whole hull. There is one layer, so "
        "that P_1 needs one piece. A is n!, the orders."
    )
    return Table("All pairwise differences, exact maximum", columns, rows, COMMAND, note)


def _verdicts(title: str, found: Sequence[Comparison]) -> Table:
    """How often each side of the proposition was kept."""
    rows: list[list[Cell]] = []
    for key in _by(found[0]):
        sides = [side.verdict for c in found for side in c.inequalities if (side.relaxation, side.branching) == key]
        measured = [_by(c)[key] for c in found]
        share = [m.leaves / c.patterns.low for m, c in zip(measured, found, strict=True)]
        side = "<= A" if measured[0].neurons == "multi" else ">= A"
        verdicts = [sides.count(v) for v in ("kept", "broken", "open")]
        rows.append([*key, side, *verdicts, median(share), min(share), max(share)])
    columns = ["relaxation", "branching", "claim", "kept", "broken", "open", "median leaves / A", "least", "greatest"]
    spread = [c.patterns.low for c in found]
    note = f"{len(found)} networks; A from {min(spread)} to {max(spread)}; exact minimum and maximum."
    return Table(title, columns, rows, COMMAND, note)


def _instances(title: str, found: Sequence[tuple[Subject, Comparison]], command: str, note: str = "") -> Table:
    """One row an instance and relaxation."""
    rows: list[list[Cell]] = []
    for subject, c in found:
        by = _by(c)
        sides = {(s.relaxation, s.branching): s.verdict for s in c.inequalities}
        for relaxation in dict.fromkeys(m.relaxation for m in c.measurements):
            rules = [by[relaxation, rule] for rule in ("first", "last", "babsr")]
            verdicts = dict.fromkeys(sides[relaxation, m.branching] for m in rules)
            shown = [m.leaves if m.finished else m.shown for m in rules]
            rows.append([subject.name, subject.share, relaxation, *shown, str(c.patterns), ", ".join(verdicts)])
    columns = ["network", "share of the box", "relaxation", "first", "last", "babsr", "A(f, X)", "proposition 5.6"]
    return Table(title, columns, rows, command, note)


def _kinds(subjects: Sequence[Subject]) -> Table:
    """The same networks cut in three ways."""
    kinds = (("activation", "babsr"), ("polyhedral", "babsr"), ("input", "sensitivity"))
    rows: list[list[Cell]] = []
    for subject in subjects:
        found = [
            partita.partition(
                *(subject.graph, subject.inputs, ["triangle", "m-1"]),
                pieces=pieces,
                branching=rule,
                count=False,
                timeout=SECONDS,
            )
            for pieces, rule in kinds
        ]
        for k, name in enumerate(("triangle", "m-1")):
            shown = [m.leaves if m.finished else m.shown for m in (c.measurements[k] for c in found)]
            rows.append([subject.name, name, *shown])
    columns = ["network", "relaxation", *(f"{pieces}, {rule}" for pieces, rule in kinds)]
    return Table("What a piece is: leaves of the same random networks", columns, rows, COMMAND)


def _convex(subjects: Sequence[tuple]) -> Table:
    """Pieces that stay convex, P_1 held against the exact values on each, and the open cells."""
    from partita.bab.patterns import count

    rows: list[list[Cell]] = []
    for name, graph, inputs in subjects:
        found = polyhedral_partition(graph, inputs, timeout=20.0)
        checked = verified(graph, found.pieces)
        cells = count(graph, inputs)
        rows.append([name, len(found.pieces), found.finished, checked.exact, checked.worst, str(cells)])
    columns = ["network", "convex pieces", "finished", "P_1 exact on", "worst difference", "A(f, X)"]
    note = "Found greedily, so an upper bound of the fewest. Proved bounds of P_1 against exact values, within 1e-5."
    return Table("Polytopes that stay convex through every layer (proposition 5.3)", columns, rows, COMMAND, note)


def _by(found: Comparison) -> dict[tuple[str, str], Measurement]:
    return {(m.relaxation, m.branching): m for m in found.measurements}


def _figure(grown: Sequence[Comparison], maxima: Sequence[Comparison]) -> Figure:
    """Leaves against patterns, one point a network; maxima as lines."""
    series = {}
    for rung in ("triangle", "m-1", "p-1"):
        series[f"random, {rung}"] = [(c.patterns.low, _by(c)[rung, "babsr"].leaves) for c in grown]
    for key in (("triangle", "first"), ("triangle", "last"), ("m-1", "first")):
        series[f"max, {', '.join(key)}"] = [(c.patterns.low, _by(c)[key].leaves) for c in maxima]
    return leaves_against_patterns(series, "until minimum and maximum are exact")


def _findings(tables: Sequence[Table], groups: dict[str, Sequence[Comparison]]) -> str:
    """`groups`: name -> comparisons; names with "smallest" are of smallest trees."""
    sides = {
        (name, neurons): [
            side.verdict
            for c in group
            for m, side in zip(c.measurements, c.inequalities, strict=True)
            if m.neurons == neurons
        ]
        for name, group in groups.items()
        for neurons in ("multi", "single")
    }
    broken = {
        neurons: [f"{v.count('broken')} of {len(v)} ({name})" for (name, n), v in sides.items() if n == neurons and v]
        for neurons in ("multi", "single")
    }
    left = [name for (name, n), v in sides.items() if n == "multi" and "broken" in v]
    right = [name for (name, n), v in sides.items() if n == "single" and "broken" in v]
    right_counts, wrong = _about_differences(tables[4])
    said = [_about_maxima(tables[0]), right_counts]
    if not left:
        said.append("Every multi-neuron tree had at most A leaves.")
    if right:
        said.append(
            "Refuted: tree by tree, single-neuron trees need not have A leaves; fewer had "
            f"{', '.join(broken['single'])}."
        )
    if left:
        said.append(
            "Refuted: multi-neuron trees of a given rule may have more than A leaves; more had "
            f"{', '.join(broken['multi'])}."
        )
    if wrong:
        said.append(f"Refuted: {wrong}")
    if not any("smallest" in name for name in left):
        count = sum(len(v) for (name, n), v in sides.items() if n == "multi" and "smallest" in name)
        said.append(
            f"Open: whether the smallest multi-neuron tree has at most A leaves always; all {count} searched here had. "
            "For which instances the right side holds in the worst case its authors speak of, no finite table says."
        )
    return " ".join(filter(None, said))


def _about_maxima(table: Table) -> str:
    """What the order of branching is worth."""
    ends = [
        (a, f, last, d) for a, f, last, d in zip(*map(table.column, ("A(f, X)", "first", "last", "d")), strict=True)
    ]
    if all(f == a and last <= d for a, f, last, d in ends):
        return "Nested maxima show both ends: first neuron first takes A leaves, last neuron first no more than d."
    return ""


def _about_differences(table: Table) -> tuple[str, str]:
    """Which published counts are right, and which are not."""
    said, wrong = [], []
    for ours, theirs, what in (
        ("triangle", "published", "counts"),
        ("3-input facet", "published ", "counts with cuts"),
    ):
        columns = [table.column(name) for name in ("n", ours, theirs)]
        pairs = [row for row in zip(*columns, strict=True) if row[2] is not None]
        wrong += [f"the published {b} for n = {n} is {a}" for n, a, b in pairs if a != b]
        said.append(f"The published {what} {', '.join(str(a) for _, a, b in pairs if a == b)} are reproduced.")
    columns = [table.column(name) for name in ("n", "smallest tree", "triangle", "A(f, X)")]
    rows = [row for row in zip(*columns, strict=True) if row[1] is not None]
    smaller = ", ".join(f"{best} leaves for n = {n}" for n, best, ours, _ in rows if best < ours)
    equal = ", ".join(str(n) for n, best, _, a in rows if best == a)
    if smaller:
        said.append(f"They are of lexicographic order; the smallest trees have {smaller}.")
    if equal:
        said.append(f"For n = {equal} the smallest triangle tree has A leaves: there no rule breaks the right side.")
    return " ".join(said), f"{', '.join(wrong)}." if wrong else ""
