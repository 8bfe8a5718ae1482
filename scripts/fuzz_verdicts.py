"""Verdicts of random small networks against the truth in fractions: is any `unsat` or `sat` wrong?

    python scripts/fuzz_verdicts.py [--networks 3000] [--combinations 20] [--seed 0] [--out FILE.json] [--seconds S]
        [--efforts]

Each network (`measure/verdict_cases.py`) is verified with `--combinations` random choices of attack, split, precision
and relaxation; with `--efforts`, also of how hard each part tries (docs/effort.md). Truth is by enumeration of linear
pieces and exact linear programs (`measure/rational_truth.py`): `unsat` is wrong where there is a counterexample at all,
`sat` where its witness is none. `unknown` and `timeout` are never wrong, and counted, by whether the property holds.

A file of `--out` is rewritten every few networks, and one that exists is gone on with. Exit code 1 if anything is
wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from measure import machine, verdict_cases
from measure.crash import crash

LIMIT = 3.0  # seconds for one verdict
KEPT = 50  # complaints in full


def fresh(seed: int) -> dict[str, Any]:
    return {"seed": seed, "networks": 0, "verdicts": 0, "counts": {}, "wrong": 0, "crashes": 0, "complaints": []}


def judged(
    trial: verdict_cases.Trial, network: Any, options: dict[str, Any], exists: bool, limit: float
) -> tuple[str, str]:
    """The verdict, and what is wrong with it."""
    import partita
    from partita.bab.config import load_config

    try:
        config = load_config(None, options)  # where options may have no effect, as in a preset
        said = partita.verify(network, trial.prop, timeout=limit, config=config)
    except Exception as error:  # every crash is a finding
        return "crash", crash(error)
    if said.verdict == "unsat" and exists:
        return said.verdict, "wrong unsat"
    if said.verdict == "sat" and not trial.violated([Fraction(Decimal(text)) for text in said.decimals]):
        return said.verdict, f"wrong sat: {said.decimals} is no counterexample"
    return said.verdict, ""


class How(NamedTuple):
    limit: float = LIMIT
    efforts: bool = False  # drawn as well


def one_network(seed: int, combinations: int, found: dict[str, Any], how: How) -> None:
    """All combinations for one network."""
    trial, random = verdict_cases.trial(seed), Random(seed)
    exists = trial.counterexample() is not None
    counts = Counter(found["counts"])
    with tempfile.TemporaryDirectory() as folder:
        network: Any = Path(folder) / "trial.onnx"
        if trial.as_file:
            network.write_bytes(verdict_cases.onnx_of(trial.layers))
        else:
            network = verdict_cases.graph_of(trial.layers)
        for _ in range(combinations):
            chosen: dict[str, Any] = verdict_cases.options(random)
            chosen |= verdict_cases.efforts(random) if how.efforts else {}
            verdict, complaint = judged(trial, network, chosen, exists, how.limit)
            counts[f"{'violated' if exists else 'holds'}: {verdict}"] += 1
            found["verdicts"] += 1
            if complaint:
                found["crashes" if verdict == "crash" else "wrong"] += 1
                if len(found["complaints"]) < KEPT:
                    found["complaints"].append({"seed": seed, "options": chosen, "complaint": complaint})
    found["counts"] = dict(sorted(counts.items()))
    found["networks"] += 1


def hunt(
    networks: int,
    combinations: int,
    seed: int,
    out: Path | None = None,
    seconds: float | None = None,
    how: How = How(),  # noqa: B008
) -> dict[str, Any]:
    """Goes on until so many networks have been tried, or time is up."""
    start = time.monotonic()
    found = json.loads(out.read_text()) if out is not None and out.exists() else fresh(seed)
    while found["networks"] < networks and (seconds is None or time.monotonic() - start < seconds):
        one_network(found["seed"] + found["networks"], combinations, found, how)
        if out is not None and (found["networks"] % 10 == 0 or found["networks"] == networks):
            save(found, out)
    if out is not None:
        save(found, out)
    return found


def save(found: dict[str, Any], out: Path) -> None:
    about = {"date": machine.now(), "commit": machine.commit(), "hardware": machine.hardware()}
    out.write_text(json.dumps(found | about, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", type=int, default=3000)
    parser.add_argument("--combinations", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--efforts", action="store_true", help="draw efforts as well")
    given = parser.parse_args()
    found = hunt(given.networks, given.combinations, given.seed, given.out, given.seconds, How(efforts=given.efforts))
    print(json.dumps({name: value for name, value in found.items() if name != "complaints"}))
    for complaint in found["complaints"]:
        print(json.dumps(complaint))
    return int(found["wrong"] + found["crashes"] > 0)


if __name__ == "__main__":
    sys.exit(main())
