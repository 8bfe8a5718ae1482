"""Two versions of Partita on the same instances, one right after the other: the same verdicts, in no more time?

    python scripts/bench_versions.py --bench DIR --before DIR [--between DIR] --after DIR [--families acasxu,mnist_fc]
                                     [--solved results.json] [--timeout 60] [--short 5] [--repeat 3] [--out FILE.json]
    python scripts/bench_versions.py --read FILE.json [FILE.json ...]

`--before` and `--after` are folders that hold a folder `partita`, a checkout of either version; `--between` is a third
version, with which the newest is compared as well. Every instance is run with all of them in turn, as whole processes
whose bytecode lies ready as after an installation, so that a machine that drifts drifts for all; instances that take
less than `--short` seconds `--repeat` times, the order changing each time. `--solved` is a results file of
`scripts/bench.py`: only what it solved within the limit is run. Exit code 1 where a verdict is lost or wrong.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import sys
from pathlib import Path
from statistics import median

from measure import instances, machine, table
from measure.process import Run, verify

SIDES = ("before", "between", "after")
SHARE, SPARE = 1.10, 0.3  # what a family may take longer in total: ten per cent, and 0.3 s


def main() -> int:
    options = parsed(sys.argv[1:])
    if options.read:
        rows = [row for path in options.read for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
        print(summaries(rows))
        return int(any(lost(row) for row in rows))
    for side in SIDES:
        folder = getattr(options, side)
        if folder is not None:
            compileall.compile_dir(folder / "partita", quiet=2)
    report = {"date": machine.now(), "commit": machine.commit(), "hardware": machine.hardware()}
    report |= {"load": round(machine.busy(), 2), "timeout": options.timeout, "options": options.options, "rows": []}
    for instance in wanted(options):
        row = compared(options, instance)
        report["rows"].append(row)
        if options.out:
            options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        name = f"{row['family']} {Path(row['onnx']).stem} {Path(row['vnnlib']).stem}"
        sides = ", ".join(f"{side} {row[side]['verdict']} {row[side]['wall']:.2f} s" for side in SIDES if side in row)
        print(f"{name}: {sides}{'  LOST' if lost(row) else ''}", file=sys.stderr, flush=True)
    print(summaries(report["rows"]))
    return int(any(lost(row) for row in report["rows"]))


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE", help="options for `partita verify`")
    parser.add_argument("--bench", type=Path, help="a folder with one folder a family")
    parser.add_argument("--before", type=Path, help="a folder that holds the older version as `partita`")
    parser.add_argument("--between", type=Path, help="a folder that holds a third version as `partita`")
    parser.add_argument("--after", type=Path, help="a folder that holds the newer version as `partita`")
    parser.add_argument("--families", default="", help="comma-separated; by default all that --solved names")
    parser.add_argument("--solved", type=Path, help="a results file: run only what it solved within the limit")
    parser.add_argument("--expected", default="", help="run only instances with this expected verdict")
    parser.add_argument("--timeout", type=float, default=60.0, help="cap on the instances' own limits, seconds")
    parser.add_argument("--short", type=float, default=5.0, help="seconds below which an instance is repeated")
    parser.add_argument("--repeat", type=int, default=3, help="how often short ones are run")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--read", type=Path, nargs="+", metavar="JSON", help="measure nothing; show what files hold")
    options = parser.parse_intermixed_args(arguments)
    if not options.read and not (options.bench and options.before and options.after):
        parser.error("name --bench, --before and --after, or --read")
    if not options.read and not (options.families or options.solved):
        parser.error("name --families or --solved")
    return options


def wanted(options: argparse.Namespace) -> list[instances.Instance]:
    """The instances to run."""
    solved, families = None, options.families.split(",") if options.families else []
    if options.solved:
        rows = json.loads(options.solved.read_text(encoding="utf-8"))["instances"]
        rows = [row for row in rows if row["verdict"] in table.SOLVED and row["wall"] < options.timeout]
        solved = {instances.key(row) for row in rows}
        families = families or list(dict.fromkeys(row["family"] for row in rows))
    found = [i for f in families for i in instances.read_family(options.bench, f, options.timeout)]
    return [
        i
        for i in found
        if (solved is None or (i.family, i.onnx, i.vnnlib) in solved) and options.expected in ("", i.expected)
    ]


def compared(options: argparse.Namespace, instance: instances.Instance) -> dict:
    """One instance with every version."""
    sides = [side for side in SIDES if getattr(options, side)]
    runs: dict[str, list[Run]] = {side: [] for side in sides}
    for turn in range(options.repeat):
        for side in sides if turn % 2 == 0 else reversed(sides):
            runs[side].append(run(options, side, instance))
        if max(found[0].wall for found in runs.values()) >= options.short:
            break
    row = {name: getattr(instance, name) for name in ("family", "onnx", "vnnlib", "expected", "limit")}
    for side, found in runs.items():
        chosen = instances.worst(found, instance.expected)
        row[side] = {
            "verdict": chosen.verdict,
            "wall": round(median(run.wall for run in found), 3),
            "walls": [round(run.wall, 3) for run in found],
            "pieces": chosen.pieces,
            "reason": chosen.reason,
        }
    return row


def run(options: argparse.Namespace, side: str, instance: instances.Instance) -> Run:
    base = options.bench / instance.family
    os.environ["PYTHONPATH"] = str(getattr(options, side).resolve())
    return verify(base / instance.onnx, base / instance.vnnlib, instance.limit, options.options)


def lost(row: dict, side: str = "before") -> bool:
    """The newest version is wrong, or leaves open what the older one, `side`, settled."""
    before, after = row[side]["verdict"], row["after"]["verdict"]
    wrong = table.wrong({**row, **row["after"]})
    return wrong or (before in table.SOLVED and after != before)


def summaries(rows: list[dict]) -> str:
    return "\n\n".join(summary(rows, side) for side in SIDES[:2] if rows and all(side in row for row in rows))


def summary(rows: list[dict], side: str) -> str:
    """A line a family: how many were run, verdicts lost, seconds of both over what both settle, and their ratio."""
    lines = [f"| family | instances | lost | {side} s | after s | ratio | allowed s |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for family in [*dict.fromkeys(row["family"] for row in rows), "all"]:
        own = [row for row in rows if family in (row["family"], "all")]
        both = [row for row in own if all(row[version]["verdict"] in table.SOLVED for version in (side, "after"))]
        before, after = (sum(row[version]["wall"] for row in both) for version in (side, "after"))
        lines.append(
            f"| {family} | {len(own)} | {sum(lost(row, side) for row in own)} | {before:.1f} | {after:.1f} "
            f"| {after / before if before else float('nan'):.2f} | {before * SHARE + SPARE:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
