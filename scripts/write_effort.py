"""Writes docs/effort.md: every number of the configuration's section `effort`, as the groups in the code have them.

    python scripts/write_effort.py [--check]

`--check` writes nothing, and exits with 1 where the file is not what would be written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from partita.bab.effects import EFFORT
from partita.bab.effort import Effort
from partita.problems.effort import every, members

FILE = Path(__file__).resolve().parents[1] / "docs" / "effort.md"
HEAD = """# Effort

How hard each part of a search tries, for those who measure or ablate it: nobody has to know these numbers to verify a
network. No proof rests on them (the constants that proofs rest on are in `kernels/proof_constants.py`, out of reach of
any configuration): whatever they are, a verdict that is reached is the same; it may come later, or not in time. Each is
set as `effort.GROUP.NAME=VALUE` on the command line (several numbers between commas), in a YAML file, or by name from
Python:

```yaml
effort:
  rows: {rounds: 4, speakers: 64}
  attack: {leaks: [0.0, 0.1]}
```

A log's header holds all of them, and `--resume` goes on with those. Numbers in modules that are neither an effort nor
of a proof are listed, with the reason, in `tests/test_numbers.py`. This page is written by `scripts/write_effort.py`.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for f, kind in members(Effort):
        parts.append(f"## {f.name}\n\n{kind.__doc__.strip()} Acts in {EFFORT[f.name].words}.\n")
        lines = ["| name | default | allowed | what it is, and why so much |", "| --- | --- | --- | --- |"]
        for name, one, type_, value in every(kind()):
            lines.append(f"| `{name}` | {_shown(value)} | {_allowed(one.metadata, type_)} | {one.metadata['why']} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _allowed(limits: object, type_: object) -> str:
    kind = (get_args(type_) or (type_,))[0]
    words = "whole" if kind is int else "number"
    least, most = limits["minimum"], limits["maximum"]
    return f"{words}{'s' if get_args(type_) else ''}, at least {least:g}{'' if most is None else f', at most {most:g}'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        return int(FILE.read_text(encoding="utf-8") != page())
    FILE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
