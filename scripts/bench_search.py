"""What multi-neuron rows are worth in the search: the default beside single-neuron bounds, instance by instance.

    python scripts/bench_search.py --bench DIR [--families mnist_fc,cora,oval21] [--timeout 20] [--out FILE.json]
    python scripts/bench_search.py --read FILE.json [FILE.json ...]

Each instance is run with both, one right after the other and as whole processes, so that a machine that drifts drifts
for both: `alpha-crown` (optimised slopes and split multipliers alone) and the default (rows where they pay).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from measure import instances, machine, table

WAYS = {"alpha-crown": ["relaxation=alpha-crown"], "default": []}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bench", type=Path, help="a folder with one folder a family")
    parser.add_argument("--families", default="mnist_fc,cora,oval21")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds, for every instance")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--read", type=Path, nargs="+", metavar="JSON", help="measure nothing; show what files hold")
    options = parser.parse_args()
    if options.read:
        rows = [row for path in options.read for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
        print(summary(rows))
        return 0
    if options.bench is None or not options.bench.is_dir():
        raise SystemExit("bench_search: name the folder of benchmark families with --bench DIR")
    report = {"date": machine.now(), "commit": machine.commit(), "hardware": machine.hardware(), "rows": []}
    report |= {"load": round(machine.busy(), 2), "timeout": options.timeout}
    for family in options.families.split(","):
        for instance in instances.read_family(options.bench, family, options.timeout):
            said = []
            for way, arguments in WAYS.items():
                row = instances.measure(options.bench, instance, 1, arguments)
                report["rows"].append({**row, "way": way})
                said.append(f"{way} {row['verdict']} {row['wall']:.1f} s, {row['pieces']:,} pieces")
            if options.out:
                options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            name = f"{family} {Path(instance.onnx).stem} {Path(instance.vnnlib).stem}"
            print(f"{name}: {'; '.join(said)}", file=sys.stderr, flush=True)
    print(summary(report["rows"]))
    return int(any(table.wrong(row) for row in report["rows"]))


def summary(rows: list[dict]) -> str:
    """A line a family and way; an unsolved instance counts with its limit."""
    lines = ["| family | bounds | solved | only so | total s | s, both solve | pieces, both solve |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for family in dict.fromkeys(row["family"] for row in rows):
        own = {way: {} for way in WAYS}
        for row in rows:
            if row["family"] == family:
                own[row["way"]][instances.key(row)] = row
        solved = {way: {k for k, r in found.items() if r["verdict"] in table.SOLVED} for way, found in own.items()}
        both = set.intersection(*solved.values())
        for way, found in own.items():
            others = set.union(*(solved[w] for w in WAYS if w != way))
            lines.append(
                f"| {family} | {way} | {len(solved[way])} of {len(found)} | {len(solved[way] - others)} "
                f"| {sum(counted(r) for r in found.values()):.0f} | {sum(found[k]['wall'] for k in both):.0f} "
                f"| {sum(found[k]['pieces'] for k in both):,} |"
            )
    return "\n".join(lines)


def counted(row: dict) -> float:
    """Seconds that a row counts with."""
    return row["wall"] if row["verdict"] in table.SOLVED else max(row["wall"], row["limit"])


if __name__ == "__main__":
    sys.exit(main())
