"""The counter of activation patterns beside relucent, a public exact enumerator of ReLU regions (AGPL, on PyPI).

    python -m venv other && other/bin/pip install torch relucent
    python scripts/bench_count.py --relucent other/bin/python [--bench DIR] --out docs/measured/DATE-count.json

relucent runs in its own environment and process and is never imported here. Networks are like those of its README:
dense, PyTorch's default initialisation, fixed seeds; the input set is the cube [-R, R]^D, which relucent takes as
`cube_mode="intersect"`: cells that meet the cube, the definition that `open` has here but for cells that only touch it.
Both count the same network once to warm up, then once with the clock on, one after the other on the same machine;
relucent with as many workers as there are cores, we with one thread. Our time covers finding and proving every cell.

Then known counts (nested max on [0,1]^d: 2^(d-1); all orders of n coordinates: n!), and, with a folder of VNN-COMP
benchmarks, real networks: acasxu 1_1 on 1 % of each side of properties 1 and 3 around their centres and on all of
them, rl_benchmarks' cartpole on each of its properties, lunarlander and dubinsrejoin with `--timeout` seconds each.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import tempfile
import time
from itertools import pairwise
from math import factorial
from pathlib import Path

import numpy as np
import torch

from partita.bab.counting.patterns import count
from partita.problems.input_set import polytopes_of
from partita.problems.load import load_network
from partita.problems.network.activation import ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.network.library import maximum, pairwise_differences
from partita.problems.properties.property import Polytope

WIDTHS = (
    (2, 10, 5, 1),
    (2, 16, 16, 1),
    (2, 32, 32, 1),
    (2, 64, 64, 1),
    (3, 10, 10, 1),
    (3, 16, 16, 1),
    (4, 10, 10, 1),
    (5, 9, 9, 1),
    (6, 9, 9, 1),
)
RADIUS = 10.0

THEIRS = """
import sys, time, json
import numpy as np, torch, relucent
torch.set_num_threads(1)

def main():
    path, radius, workers, most = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    weights = np.load(path)
    layers = []
    for i in range(len(weights.files) // 2):
        w, b = weights[f"w{i}"], weights[f"b{i}"]
        linear = torch.nn.Linear(w.shape[1], w.shape[0])
        linear.weight.data, linear.bias.data = torch.tensor(w), torch.tensor(b)
        layers += [linear, torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])
    relucent.Complex(network).bfs(max_polys=20, nworkers=workers, verbose=0)
    found = relucent.Complex(network)
    start = time.perf_counter()
    found.bfs(max_polys=most, nworkers=workers, cube_radius=radius, cube_mode="intersect", verbose=0)
    seconds = time.perf_counter() - start
    print(json.dumps({"cells": len(found), "seconds": seconds, "complete": len(found) < most}))

if __name__ == "__main__":
    main()
"""


def network(widths: tuple[int, ...], seed: int) -> tuple[Graph, dict[str, np.ndarray]]:
    """A dense ReLU network with PyTorch's default weights, and its weights by name."""
    torch.manual_seed(seed)
    nodes, weights = [Input(widths[0])], {}
    for i, (n, m) in enumerate(pairwise(widths)):
        linear = torch.nn.Linear(n, m)
        w, b = linear.weight.detach(), linear.bias.detach()
        weights[f"w{i}"], weights[f"b{i}"] = w.numpy(), b.numpy()
        nodes.append(Affine((len(nodes) - 1,), (Dense(w.double()),), b.double(), f"z{i}"))
        if i < len(widths) - 2:
            nodes.append(Activation((len(nodes) - 1,), ReLU(), m, f"relu{i}"))
    return Graph(tuple(nodes), (widths[0],), (widths[-1],)), weights


def ours(graph: Graph) -> dict:
    """The count, its wall time and its processor time; the best of three."""
    d = graph.input_size
    cube = Polytope(np.full(d, -RADIUS), np.full(d, RADIUS))
    count(graph, cube)
    best = None
    for _ in range(3):
        wall, busy = time.perf_counter(), time.process_time()
        result = count(graph, cube)
        row = {"cells": str(result), "seconds": time.perf_counter() - wall, "busy": time.process_time() - busy}
        best = row if best is None or row["seconds"] < best["seconds"] else best
    return best


def theirs(python: str, weights: dict[str, np.ndarray], workers: int, most: float) -> dict:
    """relucent's count and time, in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        script, file = Path(folder) / "theirs.py", Path(folder) / "weights.npz"
        script.write_text(THEIRS)
        np.savez(file, **weights)
        command = [python, str(script), str(file), str(RADIUS), str(workers), str(most)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def known() -> list[dict]:
    """Counts that are known in closed form."""
    rows = []
    for name, graph, expected in [
        *((f"maximum({d})", maximum(d), 2 ** (d - 1)) for d in range(2, 15)),
        *((f"pairwise_differences({n})", pairwise_differences(n), factorial(n)) for n in range(2, 9)),
    ]:
        start = time.perf_counter()
        result = count(graph, Polytope(np.zeros(graph.input_size), np.ones(graph.input_size)))
        rows.append({"network": name, "A": str(result), "expected": expected, "seconds": time.perf_counter() - start})
        print(f"{name:24} {result!s:>8}, expected {expected:8}  {rows[-1]['seconds']:7.2f} s", flush=True)
    return rows


def real(bench: Path, timeout: float) -> list[dict]:
    """Trained networks on boxes of their properties."""
    problems = []
    acasxu = bench / "acasxu" / "onnx" / "ACASXU_run2a_1_1_batch_2000.onnx.gz"
    for prop in ("prop_1", "prop_3"):
        for share in (0.01, 1.0):
            problems.append((acasxu, bench / "acasxu" / "vnnlib" / f"{prop}.vnnlib.gz", share))
    folder = bench / "rl_benchmarks"
    for prop in sorted((folder / "vnnlib").iterdir()):
        problems.append((folder / "onnx" / f"{prop.name.split('_')[0]}.onnx.gz", prop, 1.0))
    rows = []
    for file, prop, share in problems:
        graph, _ = load_network(file)
        whole = polytopes_of(graph, prop)[0]
        centre, radius = (whole.lower + whole.upper) / 2, (whole.upper - whole.lower) / 2
        box = Polytope(centre - share * radius, centre + share * radius)
        result = count(graph, box, deadline=time.monotonic() + timeout)
        row = {"network": file.name, "property": prop.name, "share": share, "A": str(result), "layers": result.layers}
        rows.append(row | {"seconds": result.seconds, "recounted": result.rational, "reason": result.reason})
        print(f"{file.name[:24]:24} {prop.name:38} {share:5} {result!s:>12} in {result.seconds:7.2f} s", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--relucent", metavar="PYTHON", help="the interpreter of an environment with relucent")
    parser.add_argument("--bench", type=Path, metavar="DIR", help="a folder of VNN-COMP benchmarks")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for each real network")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=float, default=3000, help="cells after which relucent is stopped")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for widths in WIDTHS:
        graph, weights = network(widths, options.seed)
        row = {"widths": list(widths), "ours": ours(graph)}
        mine = int(row["ours"]["cells"]) / row["ours"]["seconds"]
        said = f"{'-'.join(map(str, widths)):14} {row['ours']['cells']:>8} cells {mine:9.0f} per s"
        if options.relucent:
            other = row["relucent"] = theirs(options.relucent, weights, options.workers, options.most)
            if "error" in other:
                said += f"   relucent: {other['error']}"
            else:
                rate = other["cells"] / other["seconds"]
                row["times"] = mine / rate
                row["same"] = str(other["cells"]) == row["ours"]["cells"] if other["complete"] else None
                kept = {True: "same count", False: f"{other['cells']} cells", None: "stopped"}[row["same"]]
                said += f"   relucent {rate:7.1f} per s, {row['times']:6.0f} times, {kept}"
        print(said, flush=True)
        rows.append(row)
    more = {"known": known()}
    if options.bench:
        more["real"] = real(options.bench, options.timeout)
    if options.out:
        options.out.write_text(json.dumps(_header(options) | {"rows": rows} | more, indent=1) + "\n")


def _command(options: argparse.Namespace) -> str:
    """What was run, without the places of this machine."""
    given = [("--relucent PYTHON", options.relucent), ("--bench DIR", options.bench)]
    numbers = f"--most {options.most:g} --timeout {options.timeout:g} --seed {options.seed}"
    return " ".join(["python scripts/bench_count.py", *(text for text, value in given if value), numbers])


def _header(options: argparse.Namespace) -> dict:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    cpu = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ""
    )
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "hardware": f"{os.cpu_count()} cores of {cpu}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
        "command": _command(options),
        "radius": RADIUS,
        "relucent": {"workers": options.workers, "stopped_at": options.most},
    }


if __name__ == "__main__":
    main()
