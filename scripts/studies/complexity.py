"""Study 6, partition complexity (Mao, Zhang, Vechev 2026, proposition 5.6): leaves of trees beside activation patterns.

The proposition, for exact bounds: #Partition(BaB(M)) <= A(f, X) <= #Partition(BaB(S)), M multi-neuron, S single-neuron.
Its definitions leave open what is compared, so every table says how it was read; here it is exact minimum and maximum
of the output (or the one the table names) within 1e-6, pieces are activation branches, proper leaves count
(`bab/comparing/proper.py`) and others are counted apart, A counts cells with interior, pre-activation intervals are
tightened by two programs for each undecided neuron on every piece, and rules are named: `first` undecided neuron,
`last`, `babsr`, or the smallest tree of all.

Read so, the lemma of `proper` decides the left side and all of the right one but equality. What is left to measure is
how far below A trees end, by which rule; and where something is left to say: all pairwise differences (published
counts), and pieces that are not activation branches. Families: nested maxima, barrier networks, random networks, the
trained networks of `examples/`, and the competition's with few inputs. A last table counts the convex pieces of
proposition 5.3, on which P_1 is exact.
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
from partita.problems.network.library import barrier, maximum

from .complexity_subjects import MOST, Subject, cube, random_subjects, real_subjects, trained_subjects
from .orders import cut_leaves, fewest, leaves
from .table import Cell, Study, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMMAND = "partita study complexity"
RUNGS = ("triangle", "k-relu:k=2,groups=all", "m-1", "p-1")
PUBLISHED = {3: 6, 4: 22, 5: 120, 6: 660, 7: 5040, 8: 38064}
CUT_COLUMNS = ("perimeter", "both", "note ", "hull")
PUBLISHED_CUTS = {5: 10, 6: 48, 7: 212, 8: 1316}
SECONDS = 600.0  # for one trained network, its patterns included
SEARCHED = 6  # inputs of maxima up to which the smallest tree is looked for
TIGHT = "Intervals of pre-activations: two programs for each undecided neuron on every piece."
QUESTION = (
    "Proposition 5.6 puts #Partition(BaB(M), f, X) <= A(f, X) <= #Partition(BaB(S), f, X) for exact bounds, M a "
    "multi-neuron relaxation and S a single-neuron one; its definitions 5.4 and 5.5 were not at hand, and its authors' "
    "poster says *worst case*. Take trees of activation branches. A leaf is proper if its half-open version (z <= 0 "
    "for inactive, z > 0 for active neurons) has an interior relative to the affine hull of X. The half-open leaves of "
    "a tree partition X, each is a finite union of half-open cells of activation patterns, and a proper one holds a "
    "cell with interior, which no other leaf holds: every such tree has at most A proper leaves, whatever the "
    "relaxation and the rule. Tree by tree the left side is thus trivial, and the right "
    "one can hold with equality alone. How many proper leaves do trees have, how many others, what does the rule "
    "change, and what is the smallest tree? And what is left to say where pieces or networks are others?"
)


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
    met = [_compare(s, ("triangle", "m-1"), "all", SECONDS) for s in trained]
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
        QUESTION,
        tables,
        _findings(tables, groups),
        {"complexity.svg": _figure(grown, maxima)},
    )


def _compare(subject: Subject, rungs: Sequence[str], branching: str, timeout: float | None = None) -> Comparison:
    return partita.partition(subject.graph, subject.inputs, list(rungs), branching=branching, timeout=timeout)


def _maxima(largest: int) -> tuple[list[Comparison], Table]:
    """Nested maxima on [0,1]^d, exact maximum, the smallest tree where it is soon found."""
    rows, found = [], []
    for d in range(2, largest + 1, 2):
        box = (np.zeros(d), np.ones(d))
        all_ = partita.partition(maximum(d), box, ["triangle", "m-1"], exactness="max")
        best = None
        if d <= SEARCHED:
            tree = partita.partition(maximum(d), box, ["triangle"], exactness="max", branching="optimal", count=False)
            best = tree.measurements[0].proper
        by = _by(all_)
        triangle = [by["triangle", rule] for rule in ("first", "last", "babsr")]
        root = 1 + triangle[0].root_gap
        counts = [*(m.proper for m in triangle), best, by["m-1", "first"].proper]
        rows.append([d, root, *counts, all_.patterns.low])
        found.append(all_)
    columns = ["d", "triangle's bound", "first", "last", "babsr", "smallest tree", "m-1", "A(f, X)"]
    note = f"Proper leaves of triangle trees by rule, and of M_1's, until the upper bound is 1. {TIGHT}"
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
        hull = cut_leaves(n, "hull") if n <= 7 else None
        cuts = [cut_leaves(n, "perimeter"), cut_leaves(n, "both"), PUBLISHED_CUTS.get(n), hull]
        rows.append([n, leaves(n), PUBLISHED.get(n), smallest, *cuts, int(np.prod(np.arange(1, n + 1)))])
    columns = ["n", "triangle", "note", "smallest tree", *CUT_COLUMNS, "A(f, X)"]
    note = (
        "Leaves until the maximum of the sum of all |x_i - x_j| on [0,1]^n is exact, pairs decided in lexicographic "
        "order and what follows from several decisions not decided again; all of them are proper. Cuts on every three "
        "inputs: 'perimeter', |x_i - x_j| + |x_j - x_k| + |x_i - x_k| <= 2; 'both', these and |x_i - x_j| <= "
        "|x_i - x_k| + |x_k - x_j|; 'hull', the whole hull. 'Note': an unpublished note in a public repository. The "
        "intervals of differences that are not decided are [-1, 1], which no program improves. There is one layer, so "
        "that P_1 needs one piece. A is n!, the orders."
    )
    return Table("All pairwise differences, exact maximum", columns, rows, COMMAND, note)


def _verdicts(title: str, found: Sequence[Comparison]) -> Table:
    """How often each side of the proposition was kept, by proper leaves."""
    rows: list[list[Cell]] = []
    for key in _by(found[0]):
        sides = [side.verdict for c in found for side in c.inequalities if (side.relaxation, side.branching) == key]
        measured = [_by(c)[key] for c in found]
        share = [m.proper / c.patterns.low for m, c in zip(measured, found, strict=True)]
        side = "<= A" if measured[0].neurons == "multi" else ">= A"
        verdicts = [sides.count(v) for v in ("kept", "broken", "open")]
        others = [
            sum(m.leaves - m.proper for m in measured),
            sum(m.leaves > c.patterns.high for m, c in zip(measured, found)),
        ]
        rows.append([*key, side, *verdicts, median(share), min(share), max(share), *others])
    columns = [
        *(
            "relaxation",
            "branching",
            "claim",
            "kept",
            "broken",
            "open",
            "median proper leaves / A",
            "least",
            "greatest",
        ),
        *("other leaves", "trees with more than A leaves of all kinds"),
    ]
    spread = [c.patterns.low for c in found]
    note = (
        f"{len(found)} networks; A from {min(spread)} to {max(spread)}; exact minimum and maximum. 'Other leaves' are "
        f"those that the relaxation did not prove empty and that are not proper, of all trees together. {TIGHT}"
    )
    return Table(title, columns, rows, COMMAND, note)


def _instances(title: str, found: Sequence[tuple[Subject, Comparison]], command: str, note: str = "") -> Table:
    """One row an instance and relaxation."""
    rows: list[list[Cell]] = []
    for subject, c in found:
        by = _by(c)
        sides = {(s.relaxation, s.branching): s.verdict for s in c.inequalities}
        for relaxation in dict.fromkeys(m.relaxation for m in c.measurements):
            rules = [by[relaxation, rule] for rule in ("first", "last", "babsr")]
            verdicts = ", ".join(sides[relaxation, m.branching] for m in rules)
            shown = [m.proper if m.finished and not m.undecided else m.shown for m in rules]
            others = ", ".join(f"{m.leaves - m.proper}" for m in rules)
            rows.append([subject.name, subject.share, relaxation, *shown, others, str(c.patterns), verdicts])
    columns = ["network", "share of the box", "relaxation", "first", "last", "babsr", "others", "A(f, X)", "verdicts"]
    about = (
        "Proper leaves by rule, then the leaves that are not proper, and the verdicts on the relaxation's side of "
        f"proposition 5.6, each by rule. {TIGHT}"
    )
    return Table(title, columns, rows, command, f"{about} {note}".strip())


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
            shown = [m.proper if m.finished else m.shown for m in (c.measurements[k] for c in found)]
            rows.append([subject.name, name, *shown])
    columns = ["network", "relaxation", *(f"{pieces}, {rule}" for pieces, rule in kinds)]
    note = (
        "Proper leaves; of boxes those with an interior, which all have. Boxes are bound by no lemma and may be fewer "
        f"or more than A. {TIGHT}"
    )
    return Table("What a piece is: leaves of the same random networks", columns, rows, COMMAND, note)


def _convex(subjects: Sequence[tuple]) -> Table:
    """Pieces that stay convex, P_1 held against the exact values on each, and the open cells."""
    from partita.bab.counting.patterns import count

    rows: list[list[Cell]] = []
    for name, graph, inputs in subjects:
        found = polyhedral_partition(graph, inputs, timeout=SECONDS)
        checked = verified(graph, found.pieces)
        cells = count(graph, inputs)
        rows.append([name, len(found.pieces), found.finished, checked.exact, checked.worst, str(cells)])
    columns = ["network", "convex pieces", "finished", "P_1 exact on", "worst difference", "A(f, X)"]
    note = (
        "Found greedily, so an upper bound of the fewest. Proved bounds of P_1 against exact values, within 1e-5; "
        "intervals tightened layer by layer."
    )
    return Table("Polytopes that stay convex through every layer (proposition 5.3)", columns, rows, COMMAND, note)


def _by(found: Comparison) -> dict[tuple[str, str], Measurement]:
    return {(m.relaxation, m.branching): m for m in found.measurements}


def _figure(grown: Sequence[Comparison], maxima: Sequence[Comparison]) -> Figure:
    """Leaves against patterns, one point a network; maxima as lines."""
    series = {}
    for rung in ("triangle", "m-1", "p-1"):
        series[f"random, {rung}"] = [(c.patterns.low, _by(c)[rung, "babsr"].proper) for c in grown]
    for key in (("triangle", "first"), ("triangle", "last"), ("m-1", "first")):
        series[f"max, {', '.join(key)}"] = [(c.patterns.low, _by(c)[key].proper) for c in maxima]
    return leaves_against_patterns(series, "until minimum and maximum are exact")


def _findings(tables: Sequence[Table], groups: dict[str, Sequence[Comparison]]) -> str:
    """`groups`: name -> comparisons; names with "smallest" are of smallest trees."""
    trees = [(m, c) for group in groups.values() for c in group for m in c.measurements]
    said = [_about_lemma(trees), _about_maxima(tables[0])]
    counts, wrong = _about_differences(tables[4])
    said += [counts, _about_right_side(groups)]
    if wrong:
        said.append(f"Refuted: {wrong}")
    said.append(
        "Open: what definitions 5.4 and 5.5 of the source count; on trees of activation branches the left side has no "
        "content whatever they say, and the right side would need the worst case over networks and input sets, of "
        f"which a finite table says nothing. The support is thin: {_support(groups)}."
    )
    return " ".join(filter(None, said))


def _support(groups: dict[str, Sequence[Comparison]]) -> str:
    """How many networks there are of a kind, and how large they are."""
    words = []
    for name, group in groups.items():
        if name == "trained networks":
            words.append(f"{len(group)} trained networks on boxes so small that at most {MOST} neurons are undecided")
        elif group:
            most = max(c.graph.neurons for c in group)
            kind = "of them searched for the smallest tree" if "smallest" in name else name
            words.append(f"{len(group)} {kind}, of at most {most} neurons")
    return ", ".join(words)


def _about_lemma(trees: Sequence[tuple[Measurement, Comparison]]) -> str:
    """No tree has more proper leaves than patterns; how many have more leaves of other kinds."""
    beyond = sum(m.proper > c.patterns.high for m, c in trees)
    if beyond:
        return f"Refuted: the lemma, by {beyond} of {len(trees)} trees, so that something here is wrong."
    closed = [
        (m.proper + m.closed, c.closed_patterns) for m, c in trees if c.closed_patterns is not None and m.finished
    ]
    more = sum(m.leaves > c.patterns.high for m, c in trees)
    text = f"Confirmed: none of {len(trees)} trees has more than A proper leaves, as the lemma says of every tree"
    if closed and all(count <= most for count, most in closed):
        text += "; and none has more than A_closed leaves whose closed version has an interior"
    text += ". The left side of proposition 5.6 is no more than that here. "
    if more:
        text += (
            "Leaves of all kinds, counted without a look at what they hold, outnumber A in "
            f"{more} trees, by such as are flat or empty or hold what another leaf holds."
        )
    return text.strip()


def _about_right_side(groups: dict[str, Sequence[Comparison]]) -> str:
    """Single-neuron trees: how many have fewer than A, how many exactly A."""
    fewer, equal = [], 0
    for name, group in groups.items():
        verdicts = [
            side.verdict
            for c in group
            for m, side in zip(c.measurements, c.inequalities, strict=True)
            if m.neurons == "single"
        ]
        equal += verdicts.count("kept")
        if "broken" in verdicts:
            fewer.append(f"{verdicts.count('broken')} of {len(verdicts)} ({name})")
    if not fewer:
        return ""
    return (
        "Refuted: the right side of proposition 5.6 tree by tree, which the lemma leaves equality alone; fewer than A "
        f"proper leaves had {', '.join(fewer)}, exactly A {equal}, more none. The smallest case is ReLU(x) on [-1, 1], "
        "one leaf of the triangle and two patterns."
    )


def _about_maxima(table: Table) -> str:
    """What the order of branching is worth."""
    ends = [
        (a, f, last, d) for a, f, last, d in zip(*map(table.column, ("A(f, X)", "first", "last", "d")), strict=True)
    ]
    if all(f == a and last <= d for a, f, last, d in ends):
        return (
            "Nested maxima show what a rule is worth: first neuron first takes A = 2^(d-1) leaves, last neuron first "
            "no more than d. So M_1's one piece is exponentially fewer than a bad order's leaves, and than a good "
            "order's by a factor of d alone."
        )
    return ""


def _about_differences(table: Table) -> tuple[str, str]:
    """Which counts of the note are reproduced, and which are not."""
    said, wrong = [], []
    for ours, theirs, what in (("triangle", "note", ""), ("both", "note ", " with both kinds of cuts")):
        columns = [table.column(name) for name in ("n", ours, theirs)]
        pairs = [row for row in zip(*columns, strict=True) if row[2] is not None]
        wrong += [f"the note's {b:,}{what} for n = {n}, which is {a:,}" for n, a, b in pairs if a != b]
        right = ", ".join(str(a) for _, a, b in pairs if a == b)
        if right:
            said.append(f"The note's counts{what}, {right}, are reproduced.")
    alone = [(n, a, b) for n, a, b in zip(*map(table.column, ("n", "perimeter", "both")), strict=True) if a != b]
    if alone:
        said.append(
            "The second kind of cut matters: the first alone gives "
            + ", ".join(f"{a} instead of {b} for n = {n}" for n, a, b in alone)
            + "."
        )
    columns = [table.column(name) for name in ("n", "smallest tree", "triangle", "A(f, X)")]
    rows = [row for row in zip(*columns, strict=True) if row[1] is not None]
    smaller = ", ".join(f"{best} leaves for n = {n}" for n, best, ours, _ in rows if best < ours)
    equal = ", ".join(str(n) for n, best, _, a in rows if best == a)
    if smaller:
        said.append(f"They are of lexicographic order; the smallest trees have {smaller}.")
    if equal:
        said.append(
            f"For n = {equal} the smallest triangle tree has A leaves. This is the family with content: for odd n "
            "every tree of activation branches of every single-neuron relaxation has exactly n! = A proper leaves, "
            "whatever the rule (proof in `scripts/studies/orders.py`), and P_1's tree has one."
        )
    return " ".join(said), f"{'; '.join(wrong)}." if wrong else ""
