"""Families of a benchmark folder: `FOLDER/FAMILY/instances.csv`, each instance as a whole process.

The limit of an instance is its own, capped by `--timeout`. Measured more than once, an instance counts with its
median time, and with the verdict that differs from the rest where one does: a wrong answer is never averaged away.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from .process import Run, verify


@dataclass(frozen=True)
class Instance:
    """A row of a family's instances.csv."""

    family: str
    onnx: str
    vnnlib: str
    limit: float
    expected: str  # sat, unsat, or anything else where nobody knows


def read_family(folder: Path, family: str, cap: float) -> list[Instance]:
    """The instances of a family, in their order. Raises `SystemExit` with a sentence where there are none."""
    path = folder / family / "instances.csv"
    if not path.is_file():
        raise SystemExit(f"bench: {path} does not exist; name folders of {folder} that hold an instances.csv")
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if rows and rows[0][0] == "onnx":
        rows = rows[1:]
    found = []
    for row in rows:
        onnx, vnnlib, limit, expected = ([field.strip() for field in row] + ["", ""])[:4]
        found.append(Instance(family, onnx, vnnlib, min(cap, float(limit or cap)), expected))
    return found


def measure(folder: Path, instance: Instance, repeat: int, arguments: Sequence[str]) -> dict:
    """The row of one instance, measured `repeat` times."""
    base = folder / instance.family
    runs = [verify(base / instance.onnx, base / instance.vnnlib, instance.limit, arguments) for _ in range(repeat)]
    chosen = worst(runs, instance.expected)
    return {
        "family": instance.family,
        "onnx": instance.onnx,
        "vnnlib": instance.vnnlib,
        "expected": instance.expected,
        "limit": instance.limit,
        "verdict": chosen.verdict,
        "wall": round(median(run.wall for run in runs), 3),
        "walls": [round(run.wall, 3) for run in runs],
        "peak_mb": round(max(run.peak_mb for run in runs), 1),
        "pieces": chosen.pieces,
        "reason": chosen.reason,
    }


def worst(runs: Sequence[Run], expected: str) -> Run:
    """The run that speaks for all: a wrong one, else an error, else one that did not finish, else the first."""

    def badness(run: Run) -> int:
        solved = run.verdict in ("sat", "unsat")
        if solved and expected in ("sat", "unsat") and run.verdict != expected:
            return 3
        return 2 if run.verdict == "error" else 0 if solved else 1

    return max(runs, key=badness)


def key(row: dict) -> tuple[str, str, str]:
    """What identifies an instance in a results file and in a table of peers."""
    return row["family"], row["onnx"], row["vnnlib"]


def read_peers(path: Path) -> Iterator[dict]:
    """The rows of a peers.csv, with numbers as numbers."""
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {**row, "wall": float(row["wall_s"]), "limit": float(row["limit_s"])}
