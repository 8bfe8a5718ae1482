"""One verification in which no clock decides, and what tree it grew.

    python scripts/measure/one_tree.py FILE.json NETWORK PROPERTY [KEY=VALUE ...]

For `scripts/compare_trees.py`, which runs it as a process of its own.
"""

from __future__ import annotations

import json
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

RATE = 5e8  # multiplications that are a second of what a root or new bases may take


class Digest:
    """An observer that keeps what was split where and what was closed, whatever the order of these events."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, ...]] = []

    def branched(self, parents: Any, children: Any) -> None:
        """Every piece with its cut and its lower child."""
        columns = [field(parents, name) for name in ("id", "parent", "goal", "index", "point")]
        self.rows += zip(*columns, field(children, "id")[: len(columns[0])], strict=True)

    def closed(self, leaves: Any, how: str) -> None:
        """Every leaf."""
        self.rows += [(leaf,) for leaf in field(leaves, "id")]

    def wished(self) -> str:
        return ""

    def __getattr__(self, name: str) -> Any:
        """What else an observer may hear."""
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *told: None

    def __str__(self) -> str:
        return sha256(repr(sorted(self.rows)).encode()).hexdigest()[:16]


def field(record: Any, name: str) -> list[float]:
    """A field of a batch of pieces, be it a mapping, as in older versions, or an object, whose cut is named so."""
    if isinstance(record, dict):
        value = record[name]
    else:
        value = getattr(record, f"cut_{name}" if name in ("index", "point") else name)
    return value.double().cpu().tolist()


def grown(network: str, prop: str, options: list[str]) -> dict:
    """Verdict, counts, digest of the partition, and multiplications done."""
    import torch

    import partita
    from partita.bab.config import load_config
    from partita.kernels.deadline import counted

    torch.set_num_threads(1)
    digest, config = Digest(), load_config(None, ["attack=off", "device=cpu", *options])
    with counted(RATE) as count:
        outcome = partita.verify(network, prop, config=config, observers=[digest])
    found = {"verdict": outcome.verdict, "pieces": outcome.pieces, "leaves": int(outcome.stats.get("leaves", 0))}
    return found | {"digest": str(digest), "work": count.work, "reason": outcome.reason}


def main() -> int:
    out, network, prop, *options = sys.argv[1:]
    found = grown(network, prop, options) | {"cpu": round(time.process_time(), 3)}
    Path(out).write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
