"""The ladder on real networks: what each relaxation proves at the root, in how much time and memory.

    python scripts/bench_roots.py --bench DIR [--families mnist_fc,cora,eran] [--count 10] [--seconds 60]
                                  [--out FILE.json] [--append] [--plot FILE.svg] [--read FILE.json]

For the first instances of each family whose networks are of ReLUs and which optimised slopes leave open, every
relaxation works on the same objectives, one process each (so that memory is its own):

    alpha-crown           layers optimised, then the objectives
    triangle              the linear program over single-neuron hulls, on alpha-crown's layers
    k-relu, prima, m-1    rows of that kind in the backward pass, layers optimised with them where they pay
    m-1 + prima           both

A bound's *gap closed* is its share of the way from alpha-crown's bound to the least value that gradient descent finds,
averaged over objectives: an underestimate, for the true minimum lies in between. Mean over a family's instances.

The file is written after each instance. A run that was ended goes on with `--append`: what the file holds is kept, is
not measured again, and counts among the `--count` of its family.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

from measure import instances, machine

WAYS = ("alpha-crown", "triangle", "k-relu", "prima", "m-1", "m-1+prima")


def main() -> int:
    options = parsed()
    if options.one:
        print(json.dumps(one(Path(options.one[0]), Path(options.one[1]), options.one[2], options.seconds)))
        return 0
    if options.read:
        report = json.loads(options.read.read_text(encoding="utf-8"))
    else:
        report = opened(options)
        for family in options.families.split(","):
            measure(options, family, report)
    print(table(report["rows"]))
    if options.plot:
        plot(report["rows"], options.plot)
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bench", type=Path, help="a folder with one folder a family")
    parser.add_argument("--families", default="mnist_fc,cora,eran")
    parser.add_argument("--count", type=int, default=10, help="instances of a family")
    parser.add_argument("--seconds", type=float, default=60.0, help="limit for one relaxation on one instance")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--append", action="store_true", help="go on with what --out holds")
    parser.add_argument("--plot", type=Path, help="bound against time, as a picture")
    parser.add_argument("--read", type=Path, metavar="JSON", help="measure nothing; show what a file holds")
    parser.add_argument("--one", nargs=3, metavar=("NET", "PROP", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.one or options.read or (options.bench and options.bench.is_dir())):
        raise SystemExit("bench_roots: name the folder of benchmark families with --bench DIR")
    if options.append and not (options.out and options.out.is_file()):
        raise SystemExit("bench_roots: --append goes on with a file; name one that exists with --out FILE.json")
    return options


def opened(options: argparse.Namespace) -> dict:
    """A report without rows, or with those of the file that the run goes on with."""
    now = {"date": machine.now(), "commit": machine.commit(), "load": round(machine.busy(), 2)}
    if not options.append:
        return {**now, "hardware": machine.hardware(), "rows": []}
    report = json.loads(options.out.read_text(encoding="utf-8"))
    return {**report, "appended": [*report.get("appended", []), {**now, "from_row": len(report["rows"])}]}


def measure(options: argparse.Namespace, family: str, report: dict) -> None:
    """Adds the rows of a family; the file is rewritten after each instance."""
    known = {instances.key(row) for row in report["rows"] if row["family"] == family}
    taken = len(known)
    for instance in instances.read_family(options.bench, family, math.inf):
        if taken >= options.count:
            return
        if (family, instance.onnx, instance.vnnlib) in known:
            continue
        files = [str(options.bench / family / name) for name in (instance.onnx, instance.vnnlib)]
        rows = []
        for way in WAYS:
            command = [sys.executable, __file__, "--one", *files, way, "--seconds", str(options.seconds)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=4 * options.seconds + 60)
                found = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr.strip()[-200:]}
            except subprocess.TimeoutExpired:
                found = {"error": "did not end in time"}
            rows.append({"family": family, "onnx": instance.onnx, "vnnlib": instance.vnnlib, "way": way, **found})
            if way == "alpha-crown" and (not found.get("lower") or min(found["lower"]) > 0):
                break  # smooth, or closed already
        if len(rows) > 1:
            taken += 1
            report["rows"] += rows
            if options.out:
                options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        said = ", ".join(f"{row['way']} {mean(row['lower']):.3f}" for row in rows if row.get("lower"))
        name = f"{Path(instance.onnx).stem} {Path(instance.vnnlib).stem}"
        where = f"{family} {taken} of {options.count}" if len(rows) > 1 else f"{family} (not open)"
        print(f"{where} {name}: {said}", file=sys.stderr, flush=True)


def one(net: Path, prop: Path, way: str, seconds: float) -> dict:
    """The bounds of one relaxation on one instance."""
    import torch

    from partita.kernels.memory import keep_pages
    from partita.problems.load import load_network, load_property_for
    from partita.relaxations.alpha import Alpha, only_relu
    from partita.relaxations.refine import refined
    from partita.relaxations.root import root
    from partita.relaxations.strengthen import strengthened
    from partita.relaxations.types import Rows

    keep_pages()
    graph, _ = load_network(net, None)
    case = load_property_for(graph, prop).cases[0]
    if not only_relu(graph) or any(len(unsafe.rows) != 1 for unsafe in case.unsafe):
        return {}
    wanted = [torch.as_tensor(u.rows[0]) for u in case.unsafe], [float(u.constants[0]) for u in case.unsafe]
    with torch.no_grad():
        working = graph.to(torch.float32)
        rows = Rows(torch.stack(wanted[0]).float()[None], torch.tensor(wanted[1]).float()[None])
        linear, piece = root(graph, working, *(torch.as_tensor(s) for s in (case.inputs.lower, case.inputs.upper)))
        begun = time.monotonic()
        deadline = begun + seconds
        alpha = Alpha(linear, 10, patient=True)
        piece = refined(replace(alpha, rate=0.2), piece, deadline, 16 if "m-1" in way else 0)
        if way in ("alpha-crown", "triangle"):
            lower = alpha.bound(piece, rows, steps=100)[0].lower[0]
        else:
            lower = strengthened(alpha, piece, rows, deadline, way.split("+")).result.lower[0]
        if way == "triangle":
            lower = torch.maximum(lower, torch.as_tensor(program(graph, case.inputs, piece, rows)).float())
        took = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    attained = descent(graph, case.inputs, rows)
    return {"lower": lower.tolist(), "attained": attained, "seconds": round(took, 3), "peak_mb": round(peak, 1)}


def program(graph, inputs, piece, rows):  # type: ignore[no-untyped-def]
    """The triangle program's bounds."""
    import numpy as np
    import torch

    from partita.relaxations.exact import boxes_from
    from partita.relaxations.ladder import least
    from partita.relaxations.names import parse
    from partita.relaxations.triangle import Setting

    exact = graph.to(torch.float64)
    sides = [t[0].double().numpy() for t in (rows.coefficients, rows.constants)]
    return np.asarray(least(parse("triangle"), exact, inputs, boxes_from(exact, inputs, piece, 0), *sides, Setting()))


def descent(graph, inputs, rows, restarts: int = 20, steps: int = 100) -> list[float]:  # type: ignore[no-untyped-def]
    """The least value of each objective that signed gradient descent meets."""
    import torch

    low, high = (torch.as_tensor(side) for side in (inputs.lower, inputs.upper))
    exact, least = graph.to(torch.float64), []
    for row, constant in zip(rows.coefficients[0].double(), rows.constants[0].double(), strict=True):
        random = torch.Generator().manual_seed(0)
        x = low + (high - low) * torch.rand(restarts, len(low), generator=random, dtype=torch.float64)
        best = math.inf
        for step in range(steps):
            x = x.detach().requires_grad_()
            value = exact(x) @ row + constant
            best = min(best, value.min().item())
            (slope,) = torch.autograd.grad(value.sum(), x)
            x = torch.clamp(x.detach() - 0.1 * 0.97**step * (high - low) * slope.sign(), low, high)
        least.append(best)
    return least


def closed(rows: list[dict]) -> dict[str, float]:
    """The share of the gap that each relaxation of one instance closes."""
    by = {row["way"]: row for row in rows if row.get("lower")}
    base, top = by["alpha-crown"]["lower"], by["alpha-crown"]["attained"]
    gaps = [max(t - b, 1e-9) for b, t in zip(base, top, strict=True)]
    return {way: mean((v - b) / g for v, b, g in zip(r["lower"], base, gaps, strict=True)) for way, r in by.items()}


def grouped(rows: list[dict]) -> dict[tuple[str, str, str], list[dict]]:
    found: dict[tuple[str, str, str], list[dict]] = {}
    for row in rows:
        found.setdefault((row["family"], row["onnx"], row["vnnlib"]), []).append(row)
    return found


def table(rows: list[dict]) -> str:
    """One line a family and relaxation."""
    lines = ["| family | relaxation | instances | gap closed | objectives closed | median s | peak MB |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    each = {key: closed(some) for key, some in grouped(rows).items()}
    for family in dict.fromkeys(row["family"] for row in rows):
        for way in WAYS:
            own = [row for row in rows if row["family"] == family and row["way"] == way and row.get("lower")]
            if not own:
                continue
            share = mean(each[key][way] for key in each if key[0] == family and way in each[key])
            values = [v for row in own for v in row["lower"]]
            proved = f"{sum(v > 0 for v in values)} of {len(values)}"
            lines.append(
                f"| {family} | {way} | {len(own)} | {100 * share:.0f} % | {proved} "
                f"| {median(row['seconds'] for row in own):.1f} | {max(row['peak_mb'] for row in own):.0f} |"
            )
    return "\n".join(lines)


def plot(rows: list[dict], path: Path) -> None:
    """Gap closed against seconds, a point an instance, a panel a family."""
    from matplotlib.figure import Figure

    families = list(dict.fromkeys(row["family"] for row in rows))
    figure = Figure(figsize=(4 * len(families), 3.5))
    panels = figure.subplots(1, len(families), sharex=True, sharey=True, squeeze=False)
    each = {key: closed(some) for key, some in grouped(rows).items()}
    for panel, family in zip(panels[0], families, strict=True):
        for way in WAYS:
            own = [row for row in rows if row["family"] == family and row["way"] == way and row.get("lower")]
            share = [100 * each[family, row["onnx"], row["vnnlib"]][way] for row in own]
            panel.scatter([row["seconds"] for row in own], share, s=14, label=way)
        panel.set(title=family, xscale="log", xlabel="seconds at the root")
    panels[0][0].set_ylabel("gap closed, %")
    panels[0][-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
