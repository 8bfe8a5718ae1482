"""How long property files are read: two versions of Partita in turn, file by file, in processor time.

    python scripts/bench_reading.py --bench DIR --before DIR --after DIR [--families acasxu,mnist_fc] [--rounds 6]
                                    [--seconds 0.05] [--out FILE.json]

`--bench` is searched for `.vnnlib` and `.vnnlib.gz` files, one folder a family; `--before` and `--after` are folders
that hold a folder `partita`, a checkout of either version. Each version lives in one process with warm caches; they
take turns, `--rounds` times (twice where a file takes longer than `LONG`), reading the file again and again for
`--seconds` (once at least), from the disk and decompression to the `Property`. A file's time is its shortest. Exit
code 1 where a file takes more than `ALLOWED` times as long as before.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import subprocess
import sys
import time
from math import prod
from pathlib import Path

ALLOWED = 1.3  # times as long as before
LONG = 1.0  # seconds, from which on two turns are enough
SIDES = ("before", "after")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, help="a folder with one folder a family")
    parser.add_argument("--before", type=Path, help="a folder that holds the older version as `partita`")
    parser.add_argument("--after", type=Path, help="a folder that holds the newer version as `partita`")
    parser.add_argument("--families", default="", help="comma-separated; by default all")
    parser.add_argument("--rounds", type=int, default=6, help="turns that each version has with a file")
    parser.add_argument("--seconds", type=float, default=0.05, help="processor time of a turn")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work()
    from measure import machine

    report = {"date": machine.now(), "commit": machine.commit(), "hardware": machine.hardware()}
    report |= {"load": round(machine.busy(), 2), "rounds": options.rounds, "seconds": options.seconds, "files": []}
    workers = {side: started(getattr(options, side)) for side in SIDES}
    report["versions"] = {side: worker.stdout.readline().strip() for side, worker in workers.items()}
    for path in found(options.bench, options.families):
        report["files"].append(row := compared(workers, path, options))
        row["family"] = path.relative_to(options.bench).parts[0]
        print(f"{row['family']} {path.name}: {row['before']:.3f} ms, {row['after']:.3f} ms", file=sys.stderr)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    report["families"] = summary(report["files"])
    print(table(report["families"]))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return int(report["families"]["all"]["worst"] > ALLOWED)


def found(bench: Path, families: str) -> list[Path]:
    """The property files."""
    chosen = set(families.split(",")) if families else {path.name for path in bench.iterdir()}
    paths = (path for path in sorted(bench.rglob("*")) if path.name.endswith((".vnnlib", ".vnnlib.gz")))
    return [path for path in paths if path.relative_to(bench).parts[0] in chosen]


def sizes(path: Path) -> tuple[int, int]:
    """The number of inputs and of outputs that the file declares."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.name.endswith(".gz") else data).decode()
    shapes = dict(re.findall(r"\(\s*declare-(input|output)\s+\S+\s+\S+\s+\[([^]]*)\]", text))
    if shapes:
        return tuple(prod(map(int, filter(str.strip, shapes[kind].split(",")))) for kind in ("input", "output"))
    kinds = re.findall(r"declare-const\s+([XY])_[0-9]", text)
    return kinds.count("X"), kinds.count("Y")


def compared(workers: dict[str, subprocess.Popen], path: Path, options: argparse.Namespace) -> dict:
    """The file's times in milliseconds, and how often it was read."""
    n_in, n_out = sizes(path)
    best, reads = dict.fromkeys(SIDES, float("inf")), dict.fromkeys(SIDES, 0)
    for turn in range(options.rounds):
        if turn > 1 and min(best.values()) > LONG:
            break
        for side in SIDES if turn % 2 == 0 else SIDES[::-1]:
            worker = workers[side]
            worker.stdin.write(json.dumps([str(path), n_in, n_out, options.seconds]) + "\n")
            worker.stdin.flush()
            seconds, count = json.loads(worker.stdout.readline())
            best[side], reads[side] = min(best[side], seconds), reads[side] + count
    times = {side: round(1000 * seconds, 5) for side, seconds in best.items()}
    return {"file": path.name, "inputs": n_in, "outputs": n_out, "reads": reads, **times}


def started(folder: Path) -> subprocess.Popen:
    """A process with the version in the folder."""
    environment = os.environ | {"PYTHONPATH": str(folder.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--worker"]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def work() -> int:
    """The version's commit first; then for every line [path, n_in, n_out, seconds] the shortest time and the reads."""
    import partita

    try:
        from partita.problems.properties.vnnlib import load_property
    except ImportError:  # where it was
        from partita.problems.vnnlib import load_property

    root = Path(partita.__file__).parent
    describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    print(subprocess.run(describe, capture_output=True, text=True).stdout.strip() or str(root), flush=True)
    for line in sys.stdin:
        path, n_in, n_out, seconds = json.loads(line)
        best, count, start = float("inf"), 0, time.process_time()
        while count < 1 or time.process_time() - start < seconds:
            before = time.process_time()
            load_property(path, n_in, n_out)
            best, count = min(best, time.process_time() - before), count + 1
        print(json.dumps([best, count]), flush=True)
    return 0


def summary(rows: list[dict]) -> dict[str, dict]:
    """For each family and all: files, milliseconds of both versions in total, their ratio, the worst file's ratio."""
    lines = {}
    for family in [*dict.fromkeys(row["family"] for row in rows), "all"]:
        own = [row for row in rows if family in (row["family"], "all")]
        before, after = (sum(row[side] for row in own) for side in SIDES)
        worst = max(own, key=lambda row: row["after"] / row["before"])
        lines[family] = {
            "files": len(own),
            "before": round(before, 3),
            "after": round(after, 3),
            "ratio": round(after / before, 3),
            "worst": round(worst["after"] / worst["before"], 3),
            "file": worst["file"],
        }
    return lines


def table(families: dict[str, dict]) -> str:
    lines = ["| family | files | before ms | after ms | ratio | worst ratio | of |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for name, line in families.items():
        lines.append(f"| {name} | {' | '.join(str(value) for value in line.values())} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
