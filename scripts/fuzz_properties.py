"""A fuzzer of properties: random files of both versions, read, and held against their exact meaning.

    python scripts/fuzz_properties.py [--first 0] [--files 100000] [--seconds S] [--out FILE.json] [--failures DIR]

File k is made from seed k alone (`property_texts.py`), so a run may be stopped and taken up: with `--out`, what the
file has already is not done again. Every third file is broken in a few places. Asked of each that the reader accepts,
at rational points on the borders of its comparisons, next to them and elsewhere:

    truth       the property is violated exactly where all assertions are true
    box         a point of a case's input set satisfies its float64 bounds and half-spaces, exactly computed
    lost        the float64 numbers of an unsafe set are as near to the exact ones as `UnsafeSet.lost` says

A file that is not broken must be read; a broken one is refused in one sentence, or means what it says. Files are read
in a process apart, so that one that kills it is a finding, not the end. Exit code 1 where anything is wrong; the text
is then written to `--failures`.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

from measure.crash import crash
from property_meaning import Malformed, Meaning, Values, points
from property_texts import Draft, draft, mutated

from partita.problems.errors import BadInput
from partita.problems.properties.property import Case, Property, UnsafeSet
from partita.problems.properties.rational import Row
from partita.problems.properties.vnnlib import parse_property

POINTS = 12
CHUNK = 500  # files a process
# What a whole file may be refused for: what arithmetic makes of it is too large, or the standard's parser fails at it.
ALLOWED = ("more than 10,000 digits", "conjunctions in disjunctive", "comparisons in disjunctive", "2.0 parser")


def made(seed: int) -> Draft:
    """The file of this seed, broken or not."""
    found = draft(seed)
    return mutated(found, random.Random(seed)) if seed % 3 == 2 else found


def judged(given: Draft, seed: int) -> str:
    """How the file fares: `accepted`, `refused`, or `FAILED` and what is wrong."""
    try:
        found = parse_property(given.text, given.n_in, given.n_out, "p.vnnlib")
    except BadInput as error:
        said = str(error)
        if "\n" in said or len(said) > 1000:
            return f"FAILED sentence: {said[:200]!r}"
        if given.whole and not any(words in said for words in ALLOWED):
            return f"FAILED refused: {said}"
        return "refused"
    except Exception as error:
        return f"FAILED {crash(error)}"
    try:
        meaning = Meaning(given.text, given.n_in, given.n_out)
        for values in points(meaning, random.Random(seed), POINTS):
            wrong = compared(meaning, found, values)
            if wrong:
                return f"FAILED {wrong} at { {name: str(value)[:60] for name, value in values.items()} }"
    except Malformed as error:
        return f"FAILED accepted: {error}"
    lost = [unsafe for case in found.cases for unsafe in case.unsafe if not within(unsafe)]
    return "FAILED lost: float64 numbers are further away than said" if lost else "accepted"


def compared(meaning: Meaning, found: Property, values: Values) -> str:
    """What is wrong at this point; empty where nothing is."""
    x = [values[f"X_{i}"] for i in range(found.n_in)]
    y = [values[f"Y_{i}"] for i in range(found.n_out)]
    inside = [case for case in found.cases if case.inputs.holds(x)]
    violated = any(unsafe.holds(x, y) for case in inside for unsafe in case.unsafe)
    if violated != meaning.holds(values):
        return f"truth: read as {violated}"
    return "" if all(in_arrays(case, x) for case in inside) else "box: a point of the set lies outside its arrays"


def in_arrays(case: Case, x: list[Fraction]) -> bool:
    """Whether the float64 bounds and half-spaces hold."""
    box = case.inputs
    if not all(Fraction(a) <= v <= Fraction(b) for a, v, b in zip(box.lower, x, box.upper, strict=True)):
        return False
    rows = zip(box.normals.tolist(), box.offsets.tolist(), strict=True)
    return all(sum(Fraction(a) * v for a, v in zip(n, x, strict=True)) <= Fraction(b) for n, b in rows)


def within(unsafe: UnsafeSet) -> bool:
    """Whether `lost` is what it says."""
    lost = unsafe.lost
    for r, row in enumerate(unsafe.exact or ()):
        parts = [(row.terms, unsafe.rows, lost and lost.rows), (row.on_input, unsafe.on_input, lost and lost.on_input)]
        for terms, array, gap in parts:
            for i in range(0 if array is None else array.shape[1]):
                off = abs(Fraction(terms.get(i, 0)) - Fraction(array[r, i]))
                if off > (Fraction(gap[r, i]) if lost else 0):
                    return False
        off = abs(row.constant - Fraction(unsafe.constants[r]))
        if off > (Fraction(lost.constants[r]) if lost else 0) or not _finite(row, unsafe, r):
            return False
    return True


def _finite(row: Row, unsafe: UnsafeSet, r: int) -> bool:
    """Rows keep at least the sign of something."""
    return bool(
        unsafe.rows[r].any() or unsafe.constants[r] or (unsafe.on_input is not None and unsafe.on_input[r].any())
    )


# ---- the command line


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--files", type=int, default=100_000, help="how many seeds")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--out", type=Path, help="counts, as JSON; taken up where it exists")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="where failing files go")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options.first, options.files)
    counts, done, spent = taken_up(options.out)
    start = time.monotonic()
    while done < options.files and time.monotonic() - start < options.seconds:
        seed = options.first + done
        for said in chunk(seed, min(CHUNK, options.files - done)):
            kind = said.split(":")[0] if said.startswith("FAILED") else said
            counts[kind] += 1
            if said.startswith("FAILED"):
                print(f"seed {seed}: {said}", flush=True)
                options.failures.mkdir(parents=True, exist_ok=True)
                (options.failures / f"{seed}.vnnlib").write_text(made(seed).text, encoding="utf-8")
            seed, done = seed + 1, done + 1
        if options.out:
            seconds = round(spent + time.monotonic() - start, 1)
            record = {"first": options.first, "files": done, "seconds": seconds, "counts": dict(counts)}
            options.out.write_text(json.dumps(record | machine(), indent=1) + "\n")
    print(f"{done} files: {dict(counts)}")
    return int(any(kind.startswith("FAILED") for kind in counts))


def machine() -> dict[str, str]:
    """What else the measured file says."""
    from measure.machine import commit

    return {"date": time.strftime("%Y-%m-%d"), "commit": commit()}


def taken_up(out: Path | None) -> tuple[Counter, int, float]:
    """Counts, files done and seconds spent by an earlier run."""
    if out is None or not out.exists():
        return Counter(), 0, 0.0
    record = json.loads(out.read_text())
    return Counter(record["counts"]), record["files"], record["seconds"]


def chunk(first: int, count: int) -> list[str]:
    """What `judged` says of files `first` .. `first + count - 1`, or of as many as the process lives for."""
    command = [sys.executable, __file__, "--worker", "--first", str(first), "--files", str(count)]
    run = subprocess.run(command, capture_output=True, text=True)
    said = [json.loads(line) for line in run.stdout.splitlines()]
    return said if len(said) == count else [*said, f"FAILED death: exit code {run.returncode}: {run.stderr[-500:]}"]


def work(first: int, count: int) -> int:
    for seed in range(first, first + count):
        print(json.dumps(judged(made(seed), seed)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
