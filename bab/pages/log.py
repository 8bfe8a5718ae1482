"""A partition log as a page: what was asked and answered, what the partition looks like, how it came about."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..logs.read import Partition
from ..search.verdict import Verdict
from ..trees.splits import INPUT, NAMES, PHASE
from .log_pictures import by_depth, by_way, icicle, over_time, share_over_time
from .page import Raw, cards, code, html, page, paragraph, picture, section, svg_of, table

MOST = 12  # rows of a table of goals, coordinates or neurons
WORDS = {Verdict.HOLDS.value: "the property holds", Verdict.VIOLATED.value: "the property is violated"}


def log_page(folder: Path, tree: Partition) -> str:
    """The whole page."""
    header, footer = tree.header, tree.footer
    network, prop = (Path(header[what]["name"] or "given in Python").name for what in ("network", "property"))
    verdict = str(footer["verdict"]) if footer else "not ended"
    lead = f"{prop}: {WORDS.get(verdict, verdict)}."
    if footer is None:
        lead = f"{prop}: the run was killed, or goes on; what follows is what it has written so far."
    elif footer["reason"] not in ("", verdict):
        lead = f"{lead.removesuffix('.')}: {footer['reason']}."
    if not tree.rows:
        lead += " No piece was bounded."
    drawn = _pictures(tree) if tree.rows else []
    return page(
        f"{network}: {verdict}",
        lead,
        cards(_numbers(tree)),
        section("The run", _strategy(tree), _facts(folder, tree), *drawn[:2]),
        section("The partition", *drawn[2:], _splits(tree)) if tree.rows else "",
        section("Goals", _goals(tree)),
        "".join(paragraph(note, "dim") for note in tree.notes),
    )


def _pictures(tree: Partition) -> list[str]:
    """How the search went (two), and what came of it."""
    below = "The tree from the roots down: every piece above its two parts, as wide as its leaves are many."
    share = "The closed share of the tree; a piece at depth d weighs 2^-d of its root."
    figures = (
        (over_time(tree), "Pieces so far, those closed, and those open."),
        (share_over_time(tree), share),
        (by_way(tree), "How the leaves ended."),
        (by_depth(tree), "Leaves of each depth."),
        (icicle(tree), below),
    )
    return [picture(svg_of(figure), k, words) for k, (figure, words) in enumerate(figures)]


def _numbers(tree: Partition) -> list[tuple[str, object]]:
    pieces = int((tree.state != 3).sum()) if tree.footer is None else tree.count
    return [
        ("pieces", pieces),
        ("leaves", len(tree.leaves)),
        ("closed of the tree", f"{100 * tree.weight:.4g} %"),
        ("open or stuck", len(tree.unsettled)),
        ("depth", int(tree.depth.max(initial=0))),
        ("seconds", round(tree.elapsed, 2)),
        ("pieces a second", round(tree.count / max(tree.elapsed, 1e-3))),
    ]


def _strategy(tree: Partition) -> str:
    said = (tree.footer or {}).get("stats", {}).get("strategy")
    return paragraph(said[0].upper() + said[1:] + ".") if said else ""


def _facts(folder: Path, tree: Partition) -> str:
    header, versions = tree.header, tree.header["versions"]
    hashes = [header["network"]["file"] or header["network"]["graph"], header["property"]["hash"]]
    rows = [
        ("network", Raw(f"{html(header['network']['name'])} {code(hashes[0][:16])}")),
        ("property", Raw(f"{html(header['property']['name'])} {code(hashes[1][:16])}")),
        ("begun", header["begun"]),
        ("device", f"{header['device']}, {header['precision']}"),
        ("relaxation", f"{header['strategy']['relaxation']}, seed {header['seed']}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("check it", code(f"partita check {folder}")),
    ]
    return table(("", ""), rows)


def _splits(tree: Partition) -> str:
    """What was cut, and how often."""
    kinds = [(name, int((tree.kind == k).sum())) for k, name in enumerate(NAMES)]
    if not any(count for _, count in kinds):
        return ""
    parts = [table(("kind of split", "splits"), [row for row in kinds if row[1]])]
    cut = tree.index[tree.kind == INPUT]
    if len(cut):
        count = np.bincount(cut)
        top = np.argsort(-count, kind="stable")[:MOST]
        parts.append(table(("input", "splits"), [(f"x{i}", int(count[i])) for i in top if count[i]]))
    cut = tree.index[tree.kind == PHASE]
    if len(cut):
        count = np.bincount(cut)
        top = np.argsort(-count, kind="stable")[:MOST]
        rows = [(*_neuron(tree, int(i)), int(count[i])) for i in top if count[i]]
        parts.append(table(("layer", "neuron", "splits"), rows, "neurons that were decided most often"))
    return f'<div class="side">{"".join(parts)}</div>'


def _neuron(tree: Partition, index: int) -> tuple[str, str]:
    layers = tree.header["layers"]
    at = max(k for k, layer in enumerate(layers) if layer["start"] <= index)
    return f"{at} ({layers[at]['kind']})", str(index - layers[at]["start"])


def _goals(tree: Partition) -> str:
    leaves = tree.leaves
    count = np.bincount(tree.goal[leaves], minlength=tree.roots)
    left = np.bincount(tree.goal[tree.unsettled], minlength=tree.roots)
    order = np.argsort(-count, kind="stable")[:MOST]
    rows = [(int(g), tree.header["goals"][g]["text"], int(count[g]), int(left[g])) for g in order]
    more = tree.roots - len(rows)
    text = table(("goal", "", "leaves", "open or stuck"), rows)
    return text + (paragraph(Raw(f"and {html(more)} goals with fewer leaves"), "dim") if more > 0 else "")
