"""Does a change of the code change any tree? A list of instances with every clock taken out of the search.

    python scripts/compare_trees.py --bench DIR --out FILE.json [--against FILE.json] [--only TEXT] [--forked]
    python scripts/compare_trees.py --out FILE.json --against FILE.json [--only TEXT] [--counts]     # runs nothing

Each instance of `measure/trees.csv` (both kinds of trees, all relaxations; its options there, a cap on pieces among
them) is verified with the attack off, no time limit, one thread, and work counted where else a clock decides
(`kernels.deadline.counted`). FILE gets verdict, pieces, leaves, a digest of the partition, multiplications, and seconds
(elapsed, and of the processor) of the whole process; a file that is there already is gone on with. With `--forked`
processes are forked from one that has its libraries loaded: the same trees in half the time, and seconds that say less.

`--against` lists every instance whose tree differs and exits with 1 where there is one; of instances that either calls
sat, verdicts alone are compared. `--counts` compares verdicts, pieces and leaves, and not where the cuts are. The last
bits of bounds depend on the processor and on libraries, and trees on them: compare files of one machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from measure import machine, one_tree, process
from measure.forked import warm

LIST = Path(__file__).parent / "measure" / "trees.csv"
KEY = ("family", "onnx", "vnnlib", "options")
COUNTS = ("verdict", "pieces", "leaves")
MOST = 600.0  # seconds after which an instance is given up: an error, like any other end without a tree


def main() -> int:
    options = parsed(sys.argv[1:])
    report = {"date": machine.now(), "commit": machine.commit(), "hardware": machine.hardware()}
    report |= {"forked": options.forked, "rows": []}
    if options.out.is_file():
        report = json.loads(options.out.read_text(encoding="utf-8"))
    if options.bench:
        run(options, report)
    errors = [name(row) for row in report["rows"] if "verdict" not in row]
    if errors:
        print(*(f"no tree: {one}" for one in errors), sep="\n", file=sys.stderr)
    if options.against is None:
        return int(bool(errors))
    before = json.loads(options.against.read_text(encoding="utf-8"))
    for part in (before, report):
        part["rows"] = [row for row in part["rows"] if options.only in " ".join(key(row))]
    different = list(differences(before["rows"], report["rows"], COUNTS if options.counts else (*COUNTS, "digest")))
    print(*different, summary(before, report, len(different)), sep="\n")
    return int(bool(different or errors))


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bench", type=Path, help="a folder with one folder a family; none: run nothing")
    parser.add_argument("--out", type=Path, required=True, help="the results, which are gone on with")
    parser.add_argument("--against", type=Path, help="results of another version")
    parser.add_argument("--list", type=Path, default=LIST, help="the instances, with their options")
    parser.add_argument("--only", default="", help="only instances of whose line in the list this is part")
    parser.add_argument("--forked", action="store_true", help="fork from one process that has its libraries loaded")
    parser.add_argument("--counts", action="store_true", help="compare no digests")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, report: dict) -> None:
    """Grows every tree that the report does not hold yet."""
    if report["forked"] != options.forked or report["commit"] != machine.commit():
        raise SystemExit(f"compare_trees: {options.out} is of another commit or of other processes; name another file")
    known = {key(row) for row in report["rows"]}
    work = [row for row in listed(options.list) if key(row) not in known and options.only in " ".join(key(row))]
    if options.forked and work:
        warm()
    for row in work:
        start = time.perf_counter()
        made = Path(f"{options.out}.{os.getpid()}")
        paths = [str(options.bench / row["family"] / row[kind]) for kind in ("onnx", "vnnlib")]
        arguments = [str(made), *paths, *row["options"].split()]
        code, tail = forked(arguments) if options.forked else whole(arguments)
        row["seconds"] = round(time.perf_counter() - start, 3)
        row |= json.loads(made.read_text(encoding="utf-8")) if code == 0 else {"error": f"exit code {code}: {tail}"}
        made.unlink(missing_ok=True)
        report["rows"].append(row)
        beside = options.out.with_name(f".{options.out.name}.{os.getpid()}")
        beside.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        beside.replace(options.out)
        print(f"{name(row)}: {[row.get(one) for one in COUNTS]}, {row['seconds']:.1f} s", file=sys.stderr, flush=True)


def listed(path: Path) -> list[dict]:
    """The instances, in their order."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def whole(arguments: list[str]) -> tuple[int, str]:
    """Exit code and last line of a process of its own."""
    code, _, _, tail = process.timed([sys.executable, one_tree.__file__, *arguments], MOST)
    return code, tail.strip().split("\n")[-1]


def forked(arguments: list[str]) -> tuple[int, str]:
    """The same of one forked from this process, which has run nothing."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            sys.argv = ["one_tree", *arguments]
            code = one_tree.main()
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), "see above"


def key(row: dict) -> tuple[str, ...]:
    return tuple(row[part] for part in KEY)


def name(row: dict) -> str:
    """For people."""
    stems = [Path(row[kind]).name.split(".vnnlib")[0].split(".onnx")[0] for kind in ("onnx", "vnnlib")]
    return " ".join(filter(None, [row["family"], *stems, row["options"]]))


def differences(before: list[dict], after: list[dict], parts: tuple[str, ...]) -> Iterator[str]:
    """A line for each instance whose tree is another one, or that only one of both has."""
    old, new = ({key(row): row for row in rows if "verdict" in row} for rows in (before, after))
    for one in dict.fromkeys([*old, *new]):
        if one not in old or one not in new:
            yield f"{' '.join(one)}: only {'after' if one in new else 'before'}"
            continue
        a, b = old[one], new[one]
        either = "sat" in (a["verdict"], b["verdict"])
        wrong = [part for part in (parts[:1] if either else parts) if a[part] != b[part]]
        if wrong:
            yield f"{name(a)}: " + ", ".join(f"{part} {a[part]} -> {b[part]}" for part in wrong)


def summary(before: dict, after: dict, different: int) -> str:
    """How many differ, and what both took over what both have."""
    old, new = ({key(row): row for row in report["rows"] if "verdict" in row} for report in (before, after))
    both = [one for one in old if one in new]
    said = f"{different} differences; {len(both)} trees in both"
    for part, unit in (("pieces", ""), ("work", " multiplications"), ("cpu", " s of processor"), ("seconds", " s")):
        a, b = (sum(rows[one][part] for one in both) for rows in (old, new))
        said += f"; {part} {a:.6g} -> {b:.6g}{unit} ({100 * (b / a - 1) if a else 0:+.1f} %)"
    return said


if __name__ == "__main__":
    sys.exit(main())
