"""Is any bound above a value that the network attains? Every relaxation, on random cases, in both precisions.

    python scripts/check_soundness.py [--cases 2000] [--seed 0] [--relaxations crown,m-1,...] [--out FILE.json]

A case is one row of a random small network over a random input set, from one side. `scripts/measure/soundness.py` says
how they are drawn, at which points values are taken, and how their float64 error is bounded: a bound is wrong when it
is above value + that error, and there is no other tolerance.

The relaxations are all names of `partita bound --relaxation`, and what the search does with multi-neuron rows: rows in
the backward pass at the root, on pieces with decided neurons, confirmed in float64, and derived anew below decisions.
Linear programs and `exact` work in float64 whatever precision is asked for, and have one line; all others have two.

Printed: cases, wrong bounds, the least margin of a bound below the least value met, the median of these margins (how
far relaxation and samples are apart), and pre-activation bounds that a point broke. Exit code 1 if anything is wrong.
A file of `--out` is rewritten every ten networks; one that exists keeps its lines of other relaxations.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from measure import machine, soundness

from partita.relaxations.catalogue import BATCHED, ladder

NAMES = (
    *("ibp", "deeppoly-0", "deeppoly-1", "crown", "alpha-crown", "triangle", "k-relu", "k-relu:k=3", "prima"),
    *("m-1", "m-2", "p-1", "p-2", "exact", *soundness.IN_BATCH),
)
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
PAIRED = (*ladder(*BATCHED), *soundness.IN_BATCH)  # relaxations that work in the precision that is asked for
ROWS = 20  # a network, each from both sides
KEPT = 20  # wrong bounds that a line describes


def main() -> int:
    options = parsed()
    torch.set_num_threads(1)
    lines: list[dict] = []
    for left, lines in checked(options.relaxations, options.cases, options.seed):
        if left % 10 == 0 and options.out is not None:
            write(options, lines)
        if left % 10 == 0:
            print(f"{left} networks left", file=sys.stderr, flush=True)
    print(table(lines))
    return int(any(line["wrong"] or line["broken"] for line in lines))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000, help="of a relaxation and precision, at least")
    parser.add_argument("--seed", type=int, default=0, help="of the first network; the others count on from it")
    parser.add_argument("--relaxations", default=",".join(NAMES), help="names, separated by commas")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.relaxations = [name.strip() for name in options.relaxations.split(",")]
    unknown = [name for name in options.relaxations if name not in NAMES]
    if unknown:
        raise SystemExit(f"check_soundness: no relaxation {unknown[0]!r}; there are {', '.join(NAMES)}")
    return options


@torch.no_grad()
def checked(names: list[str], cases: int, seed: int) -> Iterator[tuple[int, list[dict]]]:
    """After each network, how many there still are, and a line for each relaxation and precision."""
    lines = {(name, word): empty(name, word) for name in names for word in PRECISIONS if works_in(name, word)}
    margins: dict[tuple[str, str], list[float]] = {key: [] for key in lines}
    count = -(-cases // (2 * ROWS))
    for left, subject in zip(reversed(range(count)), soundness.subjects(count, seed, ROWS), strict=True):
        for key, line in lines.items():
            start = time.perf_counter()
            for claims in soundness.claimed(subject, key[0], PRECISIONS[key[1]]):
                margins[key] += add(line, subject, claims)
            line["seconds"] = round(line["seconds"] + time.perf_counter() - start, 3)
            line["networks"] += 1
            if margins[key]:
                found = torch.tensor(margins[key], dtype=torch.float64)
                line |= {"cases": len(found), "wrong": int((found < 0).sum()), "least": found.min().item()}
                line["median"] = found.median().item()
        yield left, list(lines.values())


def works_in(name: str, precision: str) -> bool:
    return precision == "float64" or name in PAIRED


def empty(name: str, precision: str) -> dict:
    numbers = {
        "networks": 0,
        "cases": 0,
        "wrong": 0,
        "least": None,
        "median": None,
        "neurons": 0,
        "broken": 0,
        "seconds": 0.0,
    }
    return {"relaxation": name, "precision": precision, **numbers, "found": []}


def add(line: dict, subject: soundness.Subject, claims: soundness.Claims) -> list[float]:
    """Adds what was claimed of one subject to a line; the margins of its cases."""
    margins, neurons, broken = soundness.judged(subject, claims)
    line["neurons"] += neurons
    line["broken"] += broken
    if (broken or bool((margins < 0).any())) and len(line["found"]) < KEPT:
        worst = margins.min().item()
        line["found"].append({"seed": subject.seed, "kind": subject.kind, "margin": worst, "broken": broken})
    return margins.tolist()


def table(lines: list[dict]) -> str:
    shown = ["| relaxation | precision | cases | wrong | least margin | median margin | neurons | broken |"]
    shown.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for line in lines:
        least, median = (f"{line[k]:.2g}" if line["cases"] else "" for k in ("least", "median"))
        shown.append(
            f"| {line['relaxation']} | {line['precision']} | {line['cases']:,} | {line['wrong']} | {least} | {median} "
            f"| {line['neurons']:,} | {line['broken']} |"
        )
    return "\n".join(shown)


def write(options: argparse.Namespace, lines: list[dict]) -> None:
    """The file, with the lines it has of relaxations that were not checked now."""
    where = {"date": machine.now(), "commit": machine.commit()}
    report = {**where, "hardware": machine.hardware(), "load": round(machine.busy(), 2), "lines": []}
    before = json.loads(options.out.read_text(encoding="utf-8"))["lines"] if options.out.is_file() else []
    own = [{**line, **where, "seed": options.seed} for line in lines]
    every = [line for line in before if line["relaxation"] not in options.relaxations] + own
    report["lines"] = sorted(every, key=lambda line: NAMES.index(line["relaxation"]))
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
