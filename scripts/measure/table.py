"""Tables from a results file: by family, against peers, throughput, start-up; plain, or as the README's Markdown.

Against a peer only instances that both solve count for time: the sum of its wall times, the sum of ours, and the
ratio; and of the instances listed for it, how many each solves within the peer's limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from .instances import key

Rows = list[list[str]]
SOLVED = ("sat", "unsat")


def by_family(rows: Iterable[dict]) -> Rows:
    """Header and one row a family, then the total."""
    rows, table = list(rows), [["family", "instances", "solved", "wrong", "median s", "total s", "peak MB", "pieces"]]
    for family in [*dict.fromkeys(row["family"] for row in rows), "all"]:
        chosen = [row for row in rows if family in ("all", row["family"])]
        if chosen:
            table.append(
                [
                    family,
                    str(len(chosen)),
                    str(sum(row["verdict"] in SOLVED for row in chosen)),
                    str(sum(wrong(row) for row in chosen)),
                    f"{median(row['wall'] for row in chosen):.2f}",
                    f"{sum(row['wall'] for row in chosen):.1f}",
                    f"{max(row['peak_mb'] for row in chosen):.0f}",
                    f"{sum(row['pieces'] for row in chosen):,}",
                ]
            )
    return table


def wrong(row: dict) -> bool:
    """Whether the verdict contradicts what is expected."""
    return row["verdict"] in SOLVED and row["expected"] in SOLVED and row["verdict"] != row["expected"]


def against(rows: Iterable[dict], peers: Iterable[dict], tool: str) -> Rows:
    """Header and one row a family of those in which the tool was measured; "best" is the best of all tools."""
    theirs: dict[tuple[str, str, str], dict] = {}
    for peer in peers:
        if tool == "best" or peer["tool"] == tool:
            known = theirs.get(key(peer))
            if known is None or _rank(peer) < _rank(known):
                theirs[key(peer)] = peer
    pairs = [(row, theirs[key(row)]) for row in rows if key(row) in theirs]
    table = [["family", "listed", "they solve", "we solve", "both", "their s", "our s", "ours / theirs"]]
    for family in [*dict.fromkeys(row["family"] for row, _ in pairs), "all"]:
        chosen = [(ours, peer) for ours, peer in pairs if family in ("all", ours["family"])]
        if not chosen:
            continue
        within = [o["verdict"] in SOLVED and not wrong(o) and o["wall"] <= p["limit"] for o, p in chosen]
        solved = [p["verdict"] in SOLVED for _, p in chosen]
        both = [pair for pair, w, s in zip(chosen, within, solved, strict=True) if w and s]
        our_time, their_time = (sum(pair[side]["wall"] for pair in both) for side in (0, 1))
        table.append(
            [
                family,
                str(len(chosen)),
                str(sum(solved)),
                str(sum(within)),
                str(len(both)),
                f"{their_time:.1f}",
                f"{our_time:.1f}",
                f"{our_time / their_time:.2f}" if their_time else "",
            ]
        )
    return table


def _rank(peer: dict) -> tuple[bool, float]:
    return peer["verdict"] not in SOLVED, peer["wall"]


def slowest(rows: Iterable[dict], count: int = 8) -> Rows:
    """The instances not solved, and those that took longest."""
    chosen = sorted(rows, key=lambda row: (not wrong(row), row["verdict"] in SOLVED, -row["wall"]))[:count]
    table = [["instance", "expected", "verdict", "s", "pieces", "reason"]]
    for row in chosen:
        name = f"{row['family']} {_stem(row['onnx'])} {_stem(row['vnnlib'])}"
        table.append(
            [name, row["expected"], row["verdict"], f"{row['wall']:.1f}", f"{row['pieces']:,}", row["reason"][:60]]
        )
    return table


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1].removesuffix(".gz").rsplit(".", 1)[0]


def throughput(rows: Iterable[dict]) -> Rows:
    table = [["network", "batch", "all layers, pieces/s", "final layer, pieces/s", "undecided neurons"]]
    for row in rows:
        speeds = (f"{row[name]:,.0f}" for name in ("all_layers", "final_layer"))
        table.append([row["network"], str(row["batch"]), *speeds, f"{row['undecided']:.0f}"])
    return table


def startup(found: dict) -> Rows:
    return [
        ["easy instance", "partita s", "import torch s", "ratio"],
        [found["property"], *(f"{found[name]:.2f}" for name in ("partita_s", "import_torch_s", "ratio"))],
    ]


def tables(report: dict, peers: Sequence[dict], tools: Sequence[str]) -> list[tuple[str, Rows]]:
    """Every table that the report has data for, with its title."""
    found: list[tuple[str, Rows]] = []
    rows = report.get("instances", [])
    if rows:
        found.append(("Families", by_family(rows)))
        for tool in tools:
            compared = against(rows, peers, tool)
            if len(compared) > 1:
                found.append((f"Against {'the best of all peers' if tool == 'best' else tool}", compared))
    if report.get("throughput"):
        found.append(("Bounding throughput", throughput(report["throughput"])))
    if report.get("startup"):
        found.append(("Start-up", startup(report["startup"])))
    return found


def plain(table: Rows) -> str:
    """Columns aligned: words to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        cells = (c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(table: Rows) -> str:
    rule = ["---", *["---:" for _ in table[0][1:]]]
    return "\n".join(f"| {' | '.join(row)} |" for row in [table[0], rule, *table[1:]])


def origin(report: dict) -> str:
    """One sentence: when, on what, with what."""
    machine, settings = report["hardware"], report.get("settings", {})
    gpu = f", {machine['gpu']}" if settings.get("device") == "cuda" and machine["gpu"] else ""
    cap = f"; limits capped at {settings['timeout']:g} s, attack {settings['attack']}" if settings else ""
    return (
        f"{report['date'][:10]}, commit {report['commit'] or 'unknown'}, {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gb']:g} GB{gpu}, Python {machine['python']}, torch {machine['torch']}{cap}."
    )
