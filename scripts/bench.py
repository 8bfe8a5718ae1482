"""The project's measurements, in one JSON file with date, commit and hardware.

    python scripts/bench.py --bench DIR [--families acasxu,mnist_fc] [--timeout 120] [--attack on|off] [--repeat N]
                            [--peers peers.csv] [--out bench.json] [--resume] [KEY=VALUE ...]
    python scripts/bench.py --bench DIR --throughput --out bench.json
    python scripts/bench.py --startup --out bench.json
    python scripts/bench.py --markdown bench.json [--peers peers.csv]

Instances are measured as whole processes, one at a time; after each, the file is rewritten, and `--resume` goes on
from it (other measurements are added to it too). Progress goes to standard error, tables to standard output. Exit
code 1 where a verdict contradicts what is expected or an instance ends in an error, 2 for wrong use.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from measure import instances, machine, startup, table, throughput

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = (
    "acasxu,mnist_fc,cora,oval21,sri_resnet_a,cifar_biasfield,tllverifybench,rl_benchmarks,reach_prob_density,"
    "safenlp,collins_rul_cnn,dist_shift,eran,verivital,test"
)
EASY = (ROOT / "examples/digits_conv.onnx", ROOT / "examples/digits_conv_256_0.02.vnnlib")


def main() -> int:
    options = parsed(sys.argv[1:])
    peers = list(instances.read_peers(options.peers)) if options.peers else []
    if options.markdown:
        report = json.loads(options.markdown.read_text(encoding="utf-8"))
        print(as_markdown(report, peers, options.tools))
        return 0
    report = begin(options)
    if report["load"] > 0.5:
        print(f"bench: the machine is busy (load {report['load']:.1f}); times will be too long", file=sys.stderr)
    if options.startup:
        report["startup"] = startup.measure(*options.easy, pairs=options.pairs)
        save(report, options.out)
    if options.throughput:
        report["throughput"] = throughput.measure(need_bench(options), options.device, options.threads)
        save(report, options.out)
    if not (options.startup or options.throughput):
        run_families(options, report)
    for title, rows in table.tables(report, peers, options.tools):
        print(f"\n{title}\n{table.plain(rows)}")
    if report["instances"]:
        print(f"\nUnsolved and slowest\n{table.plain(table.slowest(report['instances']))}")
    print(f"\n{table.origin(report)}")
    return int(any(table.wrong(row) or row["verdict"] == "error" for row in report["instances"]))


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pairs_of_options", nargs="*", metavar="KEY=VALUE", help="options for `partita verify`")
    parser.add_argument("--bench", type=Path, help="a folder with one folder a family")
    parser.add_argument("--families", default=FAMILIES, help="comma-separated; by default those of the README's table")
    parser.add_argument("--only", default="", help="only instances whose paths contain this text")
    parser.add_argument("--timeout", type=float, default=120.0, help="cap on the instances' own limits, seconds")
    parser.add_argument("--attack", choices=("on", "off"), default="on")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeat", type=int, default=1, help="measure each instance so often and take the median")
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    parser.add_argument("--resume", action="store_true", help="keep what --out already holds")
    parser.add_argument("--peers", type=Path, help="a CSV file with other tools' times")
    parser.add_argument(
        "--tools", type=lambda text: text.split(","), default=["alpha-beta-CROWN", "best"], help="peers to compare with"
    )
    parser.add_argument("--throughput", action="store_true", help="pieces per second of CROWN")
    parser.add_argument("--threads", type=int, help="torch threads of --throughput")
    parser.add_argument("--startup", action="store_true", help="an easy instance beside `import torch`")
    parser.add_argument("--easy", type=Path, nargs=2, default=EASY, metavar=("NET", "PROP"), help="of --startup")
    parser.add_argument("--pairs", type=int, default=startup.PAIRS, help="of --startup")
    parser.add_argument("--markdown", type=Path, metavar="JSON", help="print the README's tables from a results file")
    return parser.parse_intermixed_args(arguments)


def need_bench(options: argparse.Namespace) -> Path:
    if options.bench is None or not options.bench.is_dir():
        raise SystemExit("bench: name the folder of benchmark families with --bench DIR")
    return options.bench


def begin(options: argparse.Namespace) -> dict:
    """The report so far: what `--out` holds with `--resume`, else an empty one."""
    head = {"date": machine.now(), "commit": machine.commit(), "hardware": machine.hardware()}
    head["load"] = round(machine.busy(), 2)
    if options.resume and options.out and options.out.is_file():
        return {**json.loads(options.out.read_text(encoding="utf-8")), **head}
    return {**head, "instances": []}


def save(report: dict, out: Path | None) -> None:
    """Writes the report so that a reader sees the old file or the new one."""
    if out is not None:
        beside = out.with_name(f".{out.name}.{os.getpid()}")
        beside.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        beside.replace(out)


def run_families(options: argparse.Namespace, report: dict) -> None:
    """Measures every instance that the report does not hold yet."""
    folder = need_bench(options)
    settings = {
        **{name: getattr(options, name) for name in ("timeout", "attack", "device", "repeat")},
        "options": options.pairs_of_options,
    }
    if report["instances"] and report.get("settings") != settings:
        raise SystemExit(f"bench: {options.out} was measured with other settings; name another file with --out")
    report["settings"] = settings
    arguments = ["--device", options.device, "--unused", "say", f"attack={options.attack}", *options.pairs_of_options]
    known = {instances.key(row) for row in report["instances"]}
    work = [i for f in options.families.split(",") for i in instances.read_family(folder, f, options.timeout)]
    work = [i for i in work if options.only in i.onnx + i.vnnlib and (i.family, i.onnx, i.vnnlib) not in known]
    for number, instance in enumerate(work, 1):
        row = instances.measure(folder, instance, options.repeat, arguments)
        report["instances"].append({**row, "commit": report["commit"], "date": machine.now()})
        save(report, options.out)
        mark = "WRONG" if table.wrong(row) else row["reason"][:70] if row["verdict"] not in table.SOLVED else ""
        name = f"{instance.family} {Path(instance.onnx).stem} {Path(instance.vnnlib).stem}"
        print(
            f"{number:4}/{len(work)} {row['verdict']:8}{row['wall']:7.2f} s {row['peak_mb']:6.0f} MB"
            f" {row['pieces']:9,} pieces  {name}  {mark}",
            file=sys.stderr,
            flush=True,
        )


def as_markdown(report: dict, peers: Sequence[dict], tools: Sequence[str]) -> str:
    """The README's tables."""
    parts = [f"Measured {table.origin(report)}"]
    for title, rows in table.tables(report, peers, tools):
        parts += [f"**{title}**", table.markdown(rows)]
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
