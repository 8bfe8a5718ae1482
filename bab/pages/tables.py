"""Pages of what other commands leave in a folder: benchmark runs, studies of the theory, measured partitions."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ...problems.errors import BadInput
from ..running.row import ANSWERS, Row
from ..search.verdict import Verdict
from .page import Raw, cards, code, coded, page, paragraph, picture, section, svg_of, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# ---- partita run


def run_page(folder: Path) -> str:
    """Every instance of a benchmark: the figures, a cactus plot, a table."""
    rows = read_rows(folder / "results.csv")
    solved, wrong = [row for row in rows if row.solved], [row for row in rows if row.wrong]
    counts = Counter(row.verdict for row in rows)
    seconds = [row.seconds for row in rows]
    known = sum(row.expected in ANSWERS for row in rows)
    figures = [
        ("instances", len(rows)),
        ("solved", len(solved)),
        ("unsat / sat", f"{counts['unsat']} / {counts['sat']}"),
        (f"wrong, of {known} known", len(wrong)),
        ("median seconds", f"{median(seconds) if seconds else 0:.2f}"),
        ("total seconds", f"{sum(seconds):,.1f}"),
        ("pieces", sum(row.pieces for row in rows)),
    ]
    plot = picture(svg_of(cactus(rows)), 0, "Instances solved within a time each, whole processes, easiest first.")
    names = [_short([row.network for row in rows]), _short([row.property for row in rows])]
    listed = [
        (r.number, net, prop, r.expected, _verdict(r), f"{r.seconds:.2f}", r.pieces, "" if r.solved else r.reason)
        for r, net, prop in zip(rows, *names, strict=True)
    ]
    columns = ("", "network", "property", "expected", "verdict", "seconds", "pieces", "reason")
    return page(
        f"Benchmark run: {len(solved)} of {len(rows)} solved",
        f"Verdicts that contradict what is known: {len(wrong) or 'none'}.",
        cards(figures),
        section("Cactus plot", plot),
        section("Instances", table(columns, listed)),
    )


def _short(paths: list[str]) -> list[str]:
    """The paths without the folders that all of them share."""
    shared = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    return [os.path.relpath(path, shared) if shared else path for path in paths]


def read_rows(path: Path) -> list[Row]:
    """The rows of a `results.csv`; a last line torn by a kill is left out."""
    names = [f.name for f in fields(Row)]
    kinds = (int, str, str, str, str, float, int, str)
    try:
        text = path.read_text(encoding="utf-8")
        lines = list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))
        found = [Row(*(kind(line[name]) for kind, name in zip(kinds, names, strict=True))) for line in lines]
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        raise BadInput(f"{path} is not the table that partita run writes") from None
    return sorted(found, key=lambda row: row.number)


def cactus(rows: Sequence[Row]) -> Figure:
    """How many instances are solved within a time each, for both verdicts and together."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    solved = [row for row in rows if row.solved]
    series = (("solved", solved, "#1f2933"), *((v, [r for r in solved if r.verdict == v], c) for v, c in COLOURS))
    for name, some, colour in series:
        if some:
            times = sorted(row.seconds for row in some)
            ax.plot(range(1, len(times) + 1), times, color=colour, label=name, marker=".", markersize=4)
    ax.set(xlabel="instances solved", ylabel="seconds each", yscale="log")
    ax.axvline(len(rows), color="#cbd2d9", linewidth=1)
    ax.locator_params(axis="x", integer=True)
    for which in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        which(lambda value, _: f"{value:g}")
    if solved:
        ax.legend(frameon=False)
    return figure


COLOURS = ((Verdict.HOLDS, "#0072B2"), (Verdict.VIOLATED, "#D55E00"))


def _verdict(row: Row) -> str:
    if row.wrong:
        return Raw(f"<span class=bad>{row.verdict}, wrong</span>")
    return Raw(f"<span class={'good' if row.solved else 'dim'}>{row.verdict}</span>")


# ---- partita study


def studies(folder: Path) -> list[dict[str, Any]]:
    """The studies whose JSON lies in a folder (or in its `theory/`), in the order of its theory.md if there is one."""
    found = []
    inner = folder / "theory"
    for path in sorted([*folder.glob("*.json"), *inner.glob("*.json")]):
        content = read_json_of(path)
        if isinstance(content, dict) and {"name", "title", "tables", "findings"} <= content.keys():
            found.append(content | {"folder": path.parent})
    document = folder / "theory.md"
    text = document.read_text(encoding="utf-8") if document.is_file() else ""
    places = {study["name"]: text.find(f"## {study['title']}") for study in found}
    return sorted(found, key=lambda study: (places[study["name"]] < 0, places[study["name"]], study["name"]))


def study_page(folder: Path, found: Sequence[dict[str, Any]]) -> str:
    """Every study a section: question, tables with their commands, pictures, findings."""
    links = "".join(f'<a href="#{s["name"]}">{s["name"].replace("_", " ")}</a>' for s in found)
    seconds = sum(float(study.get("seconds", 0)) for study in found)
    parts, drawn = [], 0
    for study in found:
        blocks = [paragraph(coded(study.get("question", "")))]
        for one in study["tables"]:
            blocks.append(table(one["columns"], one["rows"], one["title"]))
            if one.get("command"):
                blocks.append(paragraph(Raw(f"Computed by {code(one['command'])}"), "dim"))
            blocks.append(paragraph(coded(one["note"]), "dim") if one.get("note") else "")
        for name in study.get("figures", []):
            path = study["folder"] / Path(name).name
            if path.suffix == ".svg" and path.is_file():
                blocks.append(picture(path.read_text(encoding="utf-8"), drawn))
                drawn += 1
        blocks += ["<h3>Found</h3>", paragraph(coded(study["findings"]))]
        parts.append(section(study["title"], *blocks, anchor=study["name"]))
    title = found[0]["title"] if len(found) == 1 else "The theory, run as experiments"
    lead = f"{len(found)} {'study' if len(found) == 1 else 'studies'}, {seconds:.0f} seconds in all."
    return page(title, lead, f"<nav>{links}</nav>" if len(found) > 1 else "", *parts)


# ---- partita partition


def partition_page(folder: Path, content: dict[str, Any]) -> str:
    """Leaves of each relaxation beside A(f, X), both inequalities, the pictures."""
    patterns = content.get("patterns")
    shown = "not counted"
    if patterns:
        shown = (
            str(patterns["low"]) if patterns["low"] == patterns["high"] else f"{patterns['low']}..{patterns['high']}"
        )
    names = (
        *("relaxation", "neurons", "branching", "proper", "closed", "flat", "unproved_empty", "other", "undecided"),
        *("leaves", "nodes", "empty", "stuck", "depth", "root_gap", "seconds"),
    )
    titles = {"unproved_empty": "empty", "empty": "proved empty", "leaves": "leaves in all"}
    rows = [
        [one.get(name) if one.get("finished", True) or name != "proper" else f">= {one['proper']}" for name in names]
        for one in content["measurements"]
    ]
    sides = [
        (
            one["statement"],
            one["relaxation"],
            one["branching"],
            Raw(f"<span class={_tone(one['verdict'])}>{one['verdict']}</span>"),
        )
        for one in content.get("proposition 5.6", [])
    ]
    pictures = [
        picture((folder / name).read_text(encoding="utf-8"), k, words)
        for k, (name, words) in enumerate(PARTITION_PICTURES)
        if (folder / name).is_file()
    ]
    fewest = min((one["proper"] for one in content["measurements"] if one.get("finished", True)), default=None)
    return page(
        "Pieces until a bound is exact, beside the activation patterns",
        "How many pieces each relaxation needs on this network and input set, under which branching.",
        cards(
            [
                ("activation patterns, A(f, X)", shown),
                ("fewest proper leaves", fewest),
                ("seconds", content.get("seconds")),
            ]
        ),
        section("Leaves and nodes", table([titles.get(name, name.replace("_", " ")) for name in names], rows)),
        section("Proposition 5.6 on this instance", table(("statement", "relaxation", "branching", ""), sides))
        if sides
        else "",
        section("Pictures", *pictures) if pictures else "",
        section("Conventions", table(("", ""), list(content.get("conventions", {}).items()))),
        "".join(paragraph(note, "dim") for note in content.get("notes", [])),
    )


PARTITION_PICTURES = (
    ("leaves.svg", "Proper leaves against activation patterns, both on logarithmic axes."),
    ("trees.svg", "The trees: every piece above its two parts."),
    ("pieces.svg", "The pieces over the activation regions."),
)


def _tone(verdict: str) -> str:
    return {"kept": "good", "broken": "bad"}.get(verdict, "dim")


def read_json_of(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BadInput(f"{path} is damaged: it is not JSON") from None
