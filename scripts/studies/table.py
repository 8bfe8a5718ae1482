"""What a study hands back: a question, tables of computed numbers, figures, and what follows from the numbers.

A study is a module of this folder with a function

    def study(seed: int = 0) -> Study

and nothing else is needed for `partita study NAME` to find it. The same `seed` gives the same tables, times excepted.

Cells are numbers, words, booleans or None; the renderer decides how they look: floats with four significant digits,
integers with thousands separators, True and False as yes and no, None empty. JSON keeps them as they are.
Every table carries the command that computes it. Findings are sentences built from the numbers in the
tables, never written by hand: a sentence that says "exact only at r = L" is chosen by an `if` on the column. What was
confirmed comes first; sentences that begin with "Refuted" and "Open" open paragraphs of their own when they are shown.

`settled(x)` rounds away what a linear program's tolerances leave (1e-6), so that an exact bound shows as its value.

Figures are matplotlib `Figure`s made without pyplot (`Figure(figsize=...)`, `.subplots()`), so that nothing is global.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partita.bab.ending.results import whole
from partita.bab.pages.cells import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = float | int | str | bool | None


@dataclass(frozen=True, eq=False)
class Table:
    """`rows` of as many cells as there are `columns`; `command` prints it again."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    command: str = ""
    note: str = ""  # what the columns mean, where their names do not say it

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r}: a row of {len(row)} cells for {len(self.columns)} columns")

    def column(self, name: str) -> list[Cell]:
        """The cells of one column."""
        at = list(self.columns).index(name)
        return [row[at] for row in self.rows]

    def markdown(self) -> str:
        """Words to the left, numbers to the right."""
        right = [any(_is_number(row[i]) for row in self.rows) for i in range(len(self.columns))]
        rule = ["---:" if r else "---" for r in right]
        lines = [list(self.columns), rule, *([shown(cell) for cell in row] for row in self.rows)]
        return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines)

    def plain(self) -> str:
        """Aligned columns for a terminal."""
        lines = [list(self.columns), *([shown(cell) for cell in row] for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        right = [any(_is_number(row[i]) for row in self.rows) for i in range(len(self.columns))]
        pad = lambda c, i: c.rjust(widths[i]) if right[i] else c.ljust(widths[i])  # noqa: E731
        return "\n".join("  ".join(pad(c, i) for i, c in enumerate(line)).rstrip() for line in lines)


@dataclass(frozen=True, eq=False)
class Study:
    """One study's answer. `figures` maps a file name without folder (`barrier.svg`) to a figure."""

    name: str  # of the module
    title: str
    question: str  # one paragraph
    tables: Sequence[Table]
    findings: str  # one paragraph
    figures: dict[str, Figure] = field(default_factory=dict)
    seconds: float = 0.0  # filled in by who runs it

    def markdown(self, figures: str = "") -> str:
        """A section; pictures are linked as `figures`/NAME, and left out where `figures` is empty."""
        parts = [f"## {self.title}", self.question]
        for table in self.tables:
            parts.append(f"**{table.title}**")
            if table.command:
                parts[-1] += f" (`{table.command}`)"
            parts.append(table.markdown())
            if table.note:
                parts.append(table.note)
        parts += [f"![{name.rsplit('.', 1)[0]}]({figures}/{name})" for name in self.figures if figures]
        first, *others = paragraphs(self.findings)
        return "\n\n".join([*parts, f"**Found.** {first}", *others]) + "\n"

    def plain(self) -> str:
        """For a terminal."""
        parts = [self.title, self.question]
        for table in self.tables:
            parts.append("\n".join(filter(None, [table.title, f"$ {table.command}", table.plain(), table.note])))
        return "\n\n".join([*parts, *paragraphs(self.findings)])

    def data(self) -> dict[str, Any]:
        """What JSON holds: everything but the pictures, whose names it lists. No number is rounded."""
        tables = [
            {
                "title": table.title,
                "command": table.command,
                "note": table.note,
                "columns": list(table.columns),
                "rows": [[_plain_cell(cell) for cell in row] for row in table.rows],
            }
            for table in self.tables
        ]
        return {
            "name": self.name,
            "title": self.title,
            "question": self.question,
            "tables": tables,
            "figures": list(self.figures),
            "findings": self.findings,
            "seconds": round(self.seconds, 3),
        }

    @staticmethod
    def of(data: dict[str, Any]) -> Study:
        """A study as `data` gave it, its pictures known by name alone: enough for text, not for `save_figures`."""
        tables = [Table(t["title"], t["columns"], t["rows"], t["command"], t["note"]) for t in data["tables"]]
        words = (data[key] for key in ("name", "title", "question"))
        return Study(*words, tables, data["findings"], dict.fromkeys(data["figures"]), data["seconds"])

    def save_figures(self, folder: Path) -> list[Path]:
        """Writes the figures, the same bytes for the same figure; returns their paths."""
        import matplotlib

        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, figure in self.figures.items():
            settings = {"svg.hashsalt": name, "svg.fonttype": "none"}
            with matplotlib.rc_context(settings), whole(folder / name) as beside:
                # without a date, so that nothing changes when nothing changed
                figure.savefig(beside, metadata={"Date": None} if name.endswith(".svg") else None)
            paths.append(folder / name)
        return paths


def paragraphs(findings: str) -> list[str]:
    """What was confirmed, what was refuted, what stays open, each on its own."""
    return re.split(r"(?<=[.)]) (?=(?:Refuted|Open)\b)", findings)


def _is_number(cell: Cell) -> bool:
    cell = cell.item() if hasattr(cell, "item") else cell
    return isinstance(cell, (int, float)) and not isinstance(cell, bool)


def _plain_cell(cell: Cell) -> Any:
    cell = cell.item() if hasattr(cell, "item") else cell
    return str(cell) if isinstance(cell, float) and not math.isfinite(cell) else cell


def settled(x: float, tolerance: float = 1e-6) -> float:
    """x, or the nearest multiple of 1/1000 if that is within `tolerance` (relative beyond 1)."""
    near = round(float(x), 3)
    return near + 0.0 if abs(x - near) <= tolerance * max(1.0, abs(near)) else float(x)


def axes(figure: Figure, columns: int = 1, **options: Any) -> Any:
    """`columns` axes side by side, without the upper and right frame."""
    found = figure.subplots(1, columns, **options)
    for ax in [found] if columns == 1 else found:
        ax.spines[["top", "right"]].set_visible(False)
    return found
