"""Writes the tables that are derived from code into the documents that show them: `python scripts/write_tables.py`.

A table stands between two comments, `<!-- table: NAME -->` and `<!-- end of table -->`; tests compare it with the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from partita.bab import rules
from partita.relaxations import catalogue

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "docs/architecture.md", "docs/extending.md")
TABLES: Mapping[str, Callable[[], str]] = {"relaxations": catalogue.table, "rules": rules.table}
MARKS = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def rewritten(text: str) -> str:
    """The document with its tables as the code says they are."""
    return MARKS.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


def documents() -> list[Path]:
    """Those that there are."""
    return [ROOT / name for name in DOCUMENTS if (ROOT / name).is_file()]


if __name__ == "__main__":
    for path in documents():
        path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
