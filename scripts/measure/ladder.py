"""Dominance along the ladder of relaxations on random small networks, measured.

    python scripts/measure/ladder.py --networks 200 [--seed 0] [--out FILE.json]

Every rung gets all subsets as groups and crown's pre-activation bounds. For each network the bounds of two random rows,
from both sides, are compared along

    crown <= alpha-crown <= triangle <= k-relu(2) <= k-relu(3) <= exact,    triangle <= prima,
    triangle <= m-1 <= m-2 <= p-1 <= p-2 <= exact,

and no bound may pass a sampled value. Printed: the largest violation of each inequality, the share of the gap between
alpha-crown and exact that each rung closes, and seconds. Exit code 1 if some violation exceeds 1e-6.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from partita.problems.network.activation import LeakyReLU, ReLU
from partita.problems.network.affine import Dense, Identity
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.relaxations.bound import bound

RUNGS = {
    "crown": "crown",
    "alpha-crown": "alpha-crown",
    "triangle": "triangle",
    "k-relu(2)": "k-relu:k=2,groups=all",
    "k-relu(3)": "k-relu:k=3,groups=all",
    "prima": "prima:groups=all",
    "m-1": "m-1:by=hull",
    "m-1 (cuts)": "m-1:by=cuts,tighten=off",
    "m-2": "m-2",
    "p-1": "p-1",
    "p-2": "p-2",
    "exact": "exact",
}
CHAINS = (
    ("crown", "alpha-crown", "triangle", "k-relu(2)", "k-relu(3)", "exact"),
    ("triangle", "prima", "exact"),
    ("triangle", "m-1", "m-2", "p-1", "p-2", "exact"),
    ("triangle", "m-1 (cuts)", "m-1"),
)
TOLERANCE = 1e-6


def random_network(seed: int) -> Graph:
    """Two or three hidden layers of 3 to 5 neurons; every third one with skip connections, every fifth one leaky."""
    random = np.random.default_rng(seed)
    inputs, depth, width = int(random.integers(2, 4)), 2, int(random.integers(3, 6))
    if seed % 4 == 0:
        depth, width = 3, 3
    function = LeakyReLU(0.1) if seed % 5 == 4 else ReLU()
    nodes: list = [Input(inputs)]
    draw = lambda m, n: torch.tensor(random.normal(size=(m, n)) / n**0.5)  # noqa: E731
    last, size = 0, inputs
    for k in range(depth):
        parts = [(last, Dense(draw(width, size)))]
        if seed % 3 == 2 and k:
            parts.append((last, Identity(width)))
        sources, operators = zip(*parts, strict=True)
        nodes.append(Affine(sources, operators, torch.tensor(0.3 * random.normal(size=width)), f"affine{k}"))
        nodes.append(Activation((len(nodes) - 1,), function, width, f"layer{k}"))
        last, size = len(nodes) - 1, width
    nodes.append(Affine((last,), (Dense(draw(2, size)),), torch.zeros(2, dtype=torch.float64), "output"))
    return Graph(tuple(nodes), (inputs,), (2,))


def measured(seed: int) -> dict:
    """Bounds and seconds of every rung on one network, and the least and greatest sampled values."""
    graph, random = random_network(seed), np.random.default_rng(seed + 1)
    centre, radius = random.normal(size=graph.input_size), 0.3 + 0.7 * random.random()
    lower, upper = centre - radius, centre + radius
    rows = random.normal(size=(2, 2))
    x = lower + (upper - lower) * random.random((4000, graph.input_size))
    x[:1000] = np.where(random.random((1000, graph.input_size)) < 0.5, lower, upper)
    y = graph(torch.as_tensor(x)).numpy() @ rows.T
    found: dict = {"sampled": {"lower": y.min(0).tolist(), "upper": y.max(0).tolist()}}
    for rung, name in RUNGS.items():
        start = time.perf_counter()
        report = bound(graph, (lower, upper), name, rows, steps=60)
        seconds = time.perf_counter() - start
        found[rung] = {"lower": report.lower.tolist(), "upper": report.upper.tolist(), "seconds": seconds}
    return found


def violations(found: dict) -> dict[str, float]:
    """By how much each inequality fails, at most; the last ones are soundness against samples."""
    side = lambda rung, end: np.array(found[rung][end])  # noqa: E731
    failed = {}
    for chain in CHAINS:
        for below, above in pairwise(chain):
            low = (side(below, "lower") - side(above, "lower")).max()
            high = (side(above, "upper") - side(below, "upper")).max()
            failed[f"{below} <= {above}"] = float(max(low, high))
    for rung in RUNGS:
        low = (side(rung, "lower") - side("sampled", "lower")).max()
        high = (side("sampled", "upper") - side(rung, "upper")).max()
        failed[f"{rung} <= sampled"] = float(max(low, high))
    return failed


def closed(found: dict, rung: str) -> list[float]:
    """Shares of the gaps between alpha-crown and exact that a rung closes, where there is a gap."""
    shares = []
    for end, sign in (("lower", 1), ("upper", -1)):
        base, here, best = (sign * np.array(found[r][end]) for r in ("alpha-crown", rung, "exact"))
        some = best - base > 1e-5
        shares += ((here - base)[some] / (best - base)[some]).tolist()
    return shares


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    worst: dict[str, tuple[float, int]] = {}
    results = []
    for seed in range(options.seed, options.seed + options.networks):
        found = measured(seed)
        results.append(found)
        for name, failed in violations(found).items():
            worst[name] = max(worst.get(name, (-np.inf, -1)), (failed, seed))
    for name, (failed, seed) in worst.items():
        print(f"{name:28s} worst {failed:12.3e}  (network {seed}){'  BROKEN' if failed > TOLERANCE else ''}")
    print(f"\n{'rung':12s} {'gap closed, mean':>17s} {'seconds, mean':>14s} {'most':>8s}")
    summary = {}
    for rung in RUNGS:
        shares = [s for found in results for s in closed(found, rung)]
        seconds = [found[rung]["seconds"] for found in results]
        summary[rung] = {"closed": float(np.mean(shares)), "seconds": float(np.mean(seconds))}
        print(f"{rung:12s} {np.mean(shares):17.3f} {np.mean(seconds):14.3f} {max(seconds):8.2f}")
    broken = {name: failed for name, (failed, _) in worst.items() if failed > TOLERANCE}
    if options.out is not None:
        record = {"networks": options.networks, "seed": options.seed, "worst": worst, "rungs": summary}
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
