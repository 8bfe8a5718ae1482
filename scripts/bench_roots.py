"""The ladder on real networks: what each relaxation proves at the root, in how much time and memory.

    python scripts/bench_roots.py --bench DIR [--families mnist_fc,cora,eran] [--count 10] [--seconds 60]
                                  [--exact 60] [--out FILE.json] [--append] [--plot FILE.svg] [--read FILE.json]

For the first instances of each family whose networks are of ReLUs and which optimised slopes leave open, every
relaxation works on the same objectives, one process each (so that memory is its own):

    alpha-crown           layers optimised, then the objectives
    triangle              the linear program over single-neuron hulls, on alpha-crown's layers
    k-relu, prima, m-1    rows of that kind in the backward pass, layers optimised with them where they pay
    m-1 + prima           both
    exact                 with `--exact S`: a mixed-integer program on these layers, S seconds for each objective

A family with fewer such instances than asked for is filled up with those that optimised slopes close and with smooth
ones, which rows have nothing to say about; they are listed with alpha-crown's bound alone.

A bound's *gap closed* is its share of the way from alpha-crown's bound, averaged over a family's objectives within an
instance and then over instances: to the *best bound* that any of these ways proves, and to the *least value* that
gradient descent or a mixed-integer program attains. The true minimum lies between the two.

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

WAYS = ("alpha-crown", "triangle", "k-relu", "prima", "m-1", "m-1+prima", "exact")


def main() -> int:
    options = parsed()
    if options.one:
        net, prop, way = options.one
        print(json.dumps(one(Path(net), Path(prop), way, options.seconds, options.exact)))
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
    parser.add_argument("--exact", type=float, default=0.0, help="for one mixed-integer program; 0 leaves them out")
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
    taken, rest = len(known), []
    for instance in instances.read_family(options.bench, family, math.inf):
        if taken >= options.count:
            return
        if (family, instance.onnx, instance.vnnlib) in known:
            continue
        rows = measured(options, instance)
        if len(rows) > 1:
            taken += 1
            kept(options, report, rows, f"{family} {taken} of {options.count}")
        else:
            rest.append(rows)
    for rows in rest[: options.count - taken]:
        kept(options, report, rows, f"{family} (not open)")


def measured(options: argparse.Namespace, instance: instances.Instance) -> list[dict]:
    """A row for each way; alpha-crown's alone where there is nothing left to close."""
    names = {"family": instance.family, "onnx": instance.onnx, "vnnlib": instance.vnnlib}
    files = [str(options.bench / instance.family / name) for name in (instance.onnx, instance.vnnlib)]
    rows: list[dict] = []
    for way in WAYS if options.exact else WAYS[:-1]:
        command = [sys.executable, __file__, "--one", *files, way, "--seconds", str(options.seconds)]
        limit = 4 * options.seconds + 60
        if way == "exact":
            command += ["--exact", str(options.exact)]
            limit += 2 * options.exact * len(rows[0]["lower"])
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
            found = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr.strip()[-200:]}
        except subprocess.TimeoutExpired:
            found = {"error": "did not end in time"}
        rows.append({**names, "way": way, **found})
        if way == "alpha-crown" and ("smooth" in found or not found.get("lower") or min(found["lower"]) > 0):
            break
    return rows


def kept(options: argparse.Namespace, report: dict, rows: list[dict], where: str) -> None:
    report["rows"] += rows
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    said = ", ".join(f"{row['way']} {mean(row['lower']):.3f}" for row in rows if row.get("lower"))
    name = f"{Path(rows[0]['onnx']).stem} {Path(rows[0]['vnnlib']).stem}"
    print(f"{where} {name}: {said or rows[0].get('error', '')}", file=sys.stderr, flush=True)


def one(net: Path, prop: Path, way: str, seconds: float, exact: float) -> dict:
    """The bounds of one relaxation on one instance."""
    import torch

    from partita.kernels.memory import keep_pages
    from partita.problems.load import load_network, load_property_for
    from partita.relaxations.linear.alpha import only_relu
    from partita.relaxations.types import Rows

    keep_pages()
    graph, _ = load_network(net, None)
    case = load_property_for(graph, prop).cases[0]
    if any(len(unsafe.rows) != 1 for unsafe in case.unsafe):
        return {"error": "an unsafe set of several rows"}
    wanted = [torch.as_tensor(u.rows[0]) for u in case.unsafe], [float(u.constants[0]) for u in case.unsafe]
    rows = Rows(torch.stack(wanted[0]).float()[None], torch.tensor(wanted[1]).float()[None])
    with torch.no_grad():
        begun = time.monotonic()
        bounded = rows_and_slopes if only_relu(graph) else smooth
        found = bounded(graph, case.inputs, rows, way, seconds, exact)
        took = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    attained = descent(graph, case.inputs, rows)
    if "attained" in found:
        attained = [min(pair) for pair in zip(attained, found["attained"], strict=True)]
    return {**found, "attained": attained, "seconds": round(took, 3), "peak_mb": round(peak, 1)}


def rows_and_slopes(graph, inputs, rows, way, seconds, exact) -> dict:  # type: ignore[no-untyped-def]
    """Layers optimised, with rows where `way` has some; then the objectives, by programs where it asks for them."""
    import torch

    from partita.relaxations.linear.alpha import Alpha
    from partita.relaxations.linear.root import root
    from partita.relaxations.rows.refine import refined
    from partita.relaxations.rows.strengthen import strengthened

    deadline = time.monotonic() + seconds
    sides = (torch.as_tensor(side) for side in (inputs.lower, inputs.upper))
    linear, piece = root(graph.to(torch.float32), *sides)
    alpha = Alpha(linear, 10, patient=True)
    kinds = {"alpha-crown": [], "triangle": [], "exact": ["m-1", "prima"]}.get(way, way.split("+"))
    piece = refined(replace(alpha, rate=0.2), piece, deadline, 16 if "m-1" in kinds else 0)
    if not kinds:
        lower = replace(alpha, steps=100).bound(piece, rows)[0].lower[0]
    else:
        lower = strengthened(alpha, piece, rows, deadline, kinds).result.lower[0]
    if way == "triangle":
        lower = torch.maximum(lower, torch.as_tensor(program(graph, inputs, piece, rows)).float())
    if way == "exact":
        return integer(graph, inputs, piece, rows, lower.tolist(), exact)
    return {"lower": lower.tolist()}


def smooth(graph, inputs, rows, way, seconds, exact) -> dict:  # type: ignore[no-untyped-def]
    """alpha-crown's bounds where there is no ReLU to have rows for."""
    from partita.relaxations.bound import bound

    if way != "alpha-crown":
        return {"error": "rows are for ReLU layers"}
    sides = (side[0].double().numpy() for side in (rows.coefficients, rows.constants))
    report = bound(graph, inputs, "alpha-crown", *sides, precision="float32", time_limit=seconds)
    return {"lower": report.lower.tolist(), "smooth": True}


def integer(graph, inputs, piece, rows, lower, seconds) -> dict:  # type: ignore[no-untyped-def]
    """One mixed-integer program an objective, on the layers of `piece`; bounds never below `lower`."""
    import torch

    from partita.relaxations.ladder.exact import boxes_from, minimum
    from partita.relaxations.protocol import Means

    exact = graph.to(torch.float64)
    boxes = boxes_from(exact, inputs, piece, 0)
    sides = zip(*(side[0].double().numpy() for side in (rows.coefficients, rows.constants)), strict=True)
    found = [minimum(exact, inputs, row, float(d), means=Means(time_limit=seconds), bounds=boxes) for row, d in sides]
    return {
        "lower": [max(r.lower, low) for r, low in zip(found, lower, strict=True)],
        "attained": [r.upper for r in found],
        "statuses": [r.status.name for r in found],
    }


def program(graph, inputs, piece, rows):  # type: ignore[no-untyped-def]
    """The triangle program's bounds."""
    import torch

    from partita.relaxations.ladder.ladder import LinearPrograms
    from partita.relaxations.names import parse
    from partita.relaxations.protocol import in_float64

    programs = LinearPrograms(parse("triangle"), graph.to(torch.float64))
    return programs.bound(*in_float64(piece, rows)).result.lower[0].numpy()


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


def closed(rows: list[dict]) -> dict[str, tuple[float, float]]:
    """The shares of the gaps to the best bound and to the least value that each relaxation of one instance closes."""
    by = {row["way"]: row for row in rows if row.get("lower")}
    base = by["alpha-crown"]["lower"]
    best = [max(values) for values in zip(*(row["lower"] for row in by.values()), strict=True)]
    least = [min(values) for values in zip(*(row["attained"] for row in by.values()), strict=True)]

    def share(values: list[float], top: list[float]) -> float:
        return mean((v - b) / max(t - b, 1e-9) for v, b, t in zip(values, base, top, strict=True))

    return {way: (share(row["lower"], best), share(row["lower"], least)) for way, row in by.items()}


def grouped(rows: list[dict]) -> dict[tuple[str, str, str], list[dict]]:
    """The rows of each instance that more than alpha-crown's bound was computed for."""
    found: dict[tuple[str, str, str], list[dict]] = {}
    for row in rows:
        found.setdefault(instances.key(row), []).append(row)
    return {key: own for key, own in found.items() if sum(bool(row.get("lower")) for row in own) > 1}


def table(rows: list[dict]) -> str:
    """One line a family and relaxation; the instances that alpha-crown closes, and smooth ones, in its line alone."""
    lines = ["| family | relaxation | instances | of best bound | of least value | closed | median s | peak MB |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    each = {key: closed(some) for key, some in grouped(rows).items()}
    for family in dict.fromkeys(row["family"] for row in rows):
        for way in WAYS:
            own = [row for row in rows if row["family"] == family and row["way"] == way and row.get("lower")]
            shares = [found[way] for key, found in each.items() if key[0] == family and way in found]
            if not shares:
                continue
            best, least = (f"{100 * mean(column):.0f} %" for column in zip(*shares, strict=True))
            values = [v for row in own for v in row["lower"]]
            lines.append(
                f"| {family} | {way} | {len(own)} | {best} | {least} | {sum(v > 0 for v in values)} of {len(values)} "
                f"| {median(row['seconds'] for row in own):.1f} | {max(row['peak_mb'] for row in own):.0f} |"
            )
    return "\n".join(lines)


def plot(rows: list[dict], path: Path) -> None:
    """Gap to the least value closed against seconds, a point an instance, a panel a family."""
    from matplotlib.figure import Figure

    families = list(dict.fromkeys(row["family"] for row in rows))
    figure = Figure(figsize=(4 * len(families), 3.5))
    panels = figure.subplots(1, len(families), sharex=True, sharey=True, squeeze=False)
    each = {key: closed(some) for key, some in grouped(rows).items()}
    for panel, family in zip(panels[0], families, strict=True):
        for way in WAYS:
            own = [row for row in rows if row["family"] == family and row["way"] == way and row.get("lower")]
            own = [row for row in own if instances.key(row) in each]
            share = [100 * each[instances.key(row)][way][1] for row in own]
            panel.scatter([row["seconds"] for row in own], share, s=14, label=way)
        panel.set(title=family, xscale="log", xlabel="seconds at the root")
    panels[0][0].set_ylabel("gap to the least value closed, %")
    panels[0][-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
