"""What a comparison found, and how it reads: as text, and as JSON.

First the table of trees, one row a relaxation and rule; then A(f, X) and both inequalities of proposition 5.6 with the
numbers they speak of; then the exact values, and the conventions without which none of this means anything. The leaves
that are compared are the proper ones (`proper`); the others are counted apart, each kind in a column of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ...problems.network.graph import Graph
from ...problems.properties.property import Polytope
from .measured import Tree

if TYPE_CHECKING:
    from ..counting.patterns import PatternCount
    from .polyhedral import Checked, PolyhedralPartition

Verdict = Literal["kept", "broken", "open"]
COLUMNS = (
    *("relaxation", "neurons", "branching", "proper", "closed", "flat", "empty", "other", "undecided", "proved empty"),
    *("nodes", "depth", "root gap", "seconds"),
)
RARE = ("closed", "flat", "empty", "other", "undecided")  # columns that are left out where all of their cells are 0


@dataclass(frozen=True, eq=False)
class Measurement:
    """One tree of one relaxation, and how many of its leaves are of each kind (see `proper`).

    Where it is not `finished`, `proper` is a lower bound: a proper piece has a proper leaf below it.
    """

    relaxation: str
    neurons: Literal["single", "multi"]
    branching: str
    leaves: int  # all that the relaxation did not prove empty
    proper: int
    closed: int  # only their closed versions have an interior
    flat: int
    unproved_empty: int  # empty, which the relaxation did not prove
    other: int  # not proper, and which of these was not decided
    undecided: int  # whether they are proper was not decided
    nodes: int
    empty: int  # pieces proved empty, which are no leaves
    stuck: int  # leaves that nothing was left to decide in, and that rounding kept from the target
    depth: int
    root_gap: float  # how far the worst row's bound is from its target on all of X
    finished: bool
    seconds: float
    tree: Tree

    @property
    def most(self) -> int | None:
        """The proper leaves at most, where that is known."""
        return self.proper + self.undecided if self.finished else None

    @property
    def shown(self) -> str:
        """The proper leaves as text."""
        if self.most is None:
            return f">= {self.proper:,}"
        return f"{self.proper:,}" if self.most == self.proper else f"{self.proper:,}..{self.most:,}"


@dataclass(frozen=True)
class Inequality:
    """One side of proposition 5.6 on this instance."""

    relaxation: str
    branching: str
    statement: str
    verdict: Verdict


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `partition` found. `patterns` is None where counting was not asked for."""

    conventions: tuple[tuple[str, str], ...]  # (what, how it is meant)
    values: tuple[tuple[str, float], ...]  # exact values of the rows
    patterns: PatternCount | None
    measurements: tuple[Measurement, ...]
    inequalities: tuple[Inequality, ...]
    notes: tuple[str, ...]
    graph: Graph
    inputs: Polytope
    seconds: float
    convex: tuple[PolyhedralPartition, Checked] | None = None  # where convex pieces were asked for
    closed_patterns: int | None = None  # A_closed, where it was counted

    def __str__(self) -> str:
        return text(self)


def compared(measurement: Measurement, low: int, high: int, lemma: bool = False) -> Inequality:
    """The side of proposition 5.6 that a measurement speaks to, given low <= A <= high.

    `lemma`: the tree decides neurons, so that it has at most A proper leaves even if it was not grown to its end.
    """
    a = f"{low:,}" if low == high else f"{low:,}..{high:,}"
    m, most = measurement, measurement.most
    if m.neurons == "multi":
        verdict = "broken" if m.proper > high else "kept" if lemma or (most is not None and most <= low) else "open"
        statement = f"#Partition(BaB(M)) = {m.shown} <= A = {a}"
        if not m.finished:
            statement = f"#Partition(BaB(M)) {m.shown}, A = {a}"
    else:
        verdict = "kept" if high <= m.proper else "broken" if most is not None and most < low else "open"
        statement = f"A = {a} <= #Partition(BaB(S)) = {m.shown}"
        if not m.finished:
            statement = f"A = {a}, #Partition(BaB(S)) {m.shown}"
    return Inequality(m.relaxation, m.branching, statement, verdict)  # type: ignore[arg-type]


def text(found: Comparison) -> str:
    """For a terminal."""
    rows = [COLUMNS, *(_row(m) for m in found.measurements)]
    kept = [i for i, name in enumerate(COLUMNS) if name not in RARE or any(row[i] != "0" for row in rows[1:])]
    lines = [table([[row[i] for i in kept] for row in rows])]
    if found.patterns is not None:
        why = "" if found.patterns.finished else f": {found.patterns.reason}"
        lines.append(f"A(f, X) = {found.patterns}  ({found.patterns.seconds:.2f} s){why}")
        if found.closed_patterns is not None and found.closed_patterns != found.patterns.low:
            lines[-1] += f"\nA_closed(f, X) = {found.closed_patterns}, which closed leaves with interior may reach"
    if found.convex is not None:
        lines.append(_convex(*found.convex))
    if found.inequalities:
        rows = [
            (f"{side.verdict}:", side.statement, f"({side.relaxation}, {side.branching})")
            for side in found.inequalities
        ]
        lines.append("proposition 5.6 on this instance\n" + table(rows))
    lines.append("exact: " + ", ".join(f"{name} = {value:.9g}" for name, value in found.values))
    lines.append("conventions\n" + table([(f"{name}:", meaning) for name, meaning in found.conventions]))
    stuck = [m for m in found.measurements if m.stuck]
    lines += [f"{m.relaxation}, {m.branching}: {m.stuck} leaves miss the target by rounding" for m in stuck]
    return "\n\n".join([*lines, *found.notes])


def _convex(pieces: PolyhedralPartition, checked: Checked) -> str:
    least = "" if pieces.finished else f" and {len(pieces.open_):,} open ones"
    return (
        f"{len(pieces.pieces):,} pieces that stay convex through every layer{least} (proposition 5.3), "
        f"{pieces.seconds:.2f} s; P_1 is exact on {checked.exact:,} of {checked.pieces:,} that were checked, worst "
        f"difference {checked.worst:.1e}"
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: those that hold a number in every row but the first to the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [
        len(column) > 1 and all(cell.strip(">= ,.").replace(",", "").replace(".", "").isdigit() for cell in column[1:])
        for column in columns
    ]

    def pad(cell: str, i: int) -> str:
        return cell.rjust(widths[i]) if right[i] else cell.ljust(widths[i])

    return "\n".join("  ".join(pad(cell, i) for i, cell in enumerate(row)).rstrip() for row in rows)


def _row(m: Measurement) -> tuple[str, ...]:
    return (
        m.relaxation,
        m.neurons,
        m.branching,
        m.shown,
        *(f"{n:,}" for n in (m.closed, m.flat, m.unproved_empty, m.other, m.undecided, m.empty, m.nodes)),
        str(m.depth),
        f"{m.root_gap:.6g}",
        f"{m.seconds:.2f}",
    )


def data(found: Comparison, trees: bool = False) -> dict[str, Any]:
    """What JSON holds: everything that `text` says, unrounded; with `trees`, every piece as well."""
    patterns = found.patterns
    return {
        "conventions": dict(found.conventions),
        "exact": dict(found.values),
        "patterns": None
        if patterns is None
        else {
            "low": patterns.low,
            "high": patterns.high,
            "finished": patterns.finished,
            "closed": found.closed_patterns,
            "seconds": round(patterns.seconds, 6),
        },
        "convex pieces": None if found.convex is None else _convex_data(*found.convex),
        "measurements": [_measurement(m, trees) for m in found.measurements],
        "proposition 5.6": [vars(side) for side in found.inequalities],
        "notes": list(found.notes),
        "seconds": round(found.seconds, 6),
    }


def _convex_data(pieces: PolyhedralPartition, checked: Checked) -> dict[str, Any]:
    return {
        "pieces": len(pieces.pieces),
        "open": len(pieces.open_),
        "checked": checked.pieces,
        "exact": checked.exact,
        "worst": checked.worst,
        "seconds": round(pieces.seconds, 6),
    }


def dumped(found: Comparison, trees: bool = False) -> str:
    """`data` as one JSON object."""
    return json.dumps(data(found, trees), indent=2 if trees else None)


def _measurement(m: Measurement, trees: bool) -> dict[str, Any]:
    kept = (
        *("relaxation", "neurons", "branching", "leaves", "proper", "closed", "flat", "unproved_empty", "other"),
        *("undecided", "nodes", "empty", "stuck", "depth", "root_gap", "finished"),
    )
    found = {name: getattr(m, name) for name in kept} | {"seconds": round(m.seconds, 6)}
    return found | ({"tree": _tree(m.tree)} if trees else {})


def _tree(tree: Tree) -> list[dict[str, Any]]:
    """One entry a piece: its parent, which side of the parent's cut it is, how it ended, and its own cut."""
    pieces = []
    for p in tree.pieces:
        entry: dict[str, Any] = {
            "parent": p.parent,
            "side": p.side,
            "status": p.status,
            "gap": p.gap if abs(p.gap) < float("inf") else None,
        }
        if p.number in tree.kinds:
            entry["leaf"] = tree.kinds[p.number]
        if p.cut is not None:
            cut = p.cut
            entry |= {"neuron": cut.neuron} if cut.neuron >= 0 else {"coordinate": cut.coordinate, "point": cut.point}
        pieces.append(entry)
    return pieces
