"""How often random linear programs kill HiGHS, by how many orders of magnitude their coefficients span.

    python scripts/measure/solver_deaths.py [--programs 4000] [--seconds 600] [--most 16] [--seed 0] [--scaled]
                                            [--results FILE.json]

Each program is the triangle program of a random ReLU network, with cuts of several neurons whose entries differ as the
neurons' bounds do, and has eight objectives, one after another from the last basis, each solved once more unscaled as
`relaxations/lp/highs.py` polishes: what that file does, without its screen. They run in worker processes of
`kernels/solving`, one for each decade of the ratio between the largest and the smallest nonzero coefficient, and a
fresh one after each death, so that deaths are counted and cost nothing else. A death may come after the run that
caused it. With `--scaled` programs are equilibrated by powers of two first, as those beyond the screen are.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from partita.kernels.solving import worker as processes
from partita.kernels.solving.scaling import equilibrated
from partita.kernels.solving.worker import Died, Worker

OBJECTIVES = 8
OPTIONS = {"output_flag": False, "threads": 1, "random_seed": 0}
OPTIONS |= {"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9}
POLISH = ({"simplex_scale_strategy": 2, "presolve": "choose"}, {"simplex_scale_strategy": 0, "presolve": "off"})


def main() -> int:
    options = parsed()
    processes.DEATHS = 10**9
    workers: defaultdict[int, Worker] = defaultdict(Worker)
    programs, late = Counter(), Counter()
    end = time.monotonic() + options.seconds
    for seed in range(options.seed, options.seed + options.programs):
        if time.monotonic() > end:
            break
        random = np.random.default_rng(seed)
        parts = program(random.uniform(2, options.most), random)
        size = np.abs(parts["value"][parts["value"] != 0])
        decade = int(np.log10(size.max() / size.min()))
        programs[decade] += 1
        late[decade] += not survived(workers[decade], parts, seed, random, options.scaled)
    found = []
    print("| ratio of coefficients | programs | deaths | programs cut short |")
    print("|---|---|---|---|")
    for decade, worker in sorted(workers.items()):
        worker.close()
        row = {"ratio": f"1e{decade}", "programs": programs[decade], "deaths": worker.deaths, "cut": late[decade]}
        found.append(row)
        print(f"| {' | '.join(map(str, row.values()))} |")
    if options.results:
        from partita.scripts.measure.machine import commit, hardware, now

        what = {"scaled": options.scaled, "seed": options.seed, "most": options.most, "rows": found}
        what |= {"date": now(), "commit": commit(), **hardware()}
        options.results.write_text(json.dumps(what, indent=1) + "\n", encoding="utf-8")
    return 0


def program(span: float, random: np.random.Generator) -> dict[str, np.ndarray]:
    """The triangle program of a random ReLU network whose weights' magnitudes span at most 10^span."""
    widths = random.integers(2, 9, random.integers(3, 9))
    starts = np.append(0, (2 * widths).cumsum() - widths[0])  # inputs, then z and y of every layer
    lower, upper = np.full(starts[-1], -np.inf), np.full(starts[-1], np.inf)
    centre = random.uniform(-1, 1, widths[0])
    radius = 10.0 ** random.uniform(-3, 0)
    lower[: widths[0]], upper[: widths[0]] = centre - radius, centre + radius
    rows: list[tuple[np.ndarray, np.ndarray, float, float]] = []
    before = np.arange(widths[0])
    share = random.dirichlet(np.ones(len(widths) - 1)) if random.random() < 0.5 else np.ones(len(widths) - 1)
    for layer, width in enumerate(widths[1:]):
        z = starts[layer + 1] + np.arange(width)
        y = z + width
        scale = span * share[layer]
        weight = random.choice([-1.0, 1.0], (width, len(before))) * 10.0 ** random.uniform(-2, scale - 2, (width, 1))
        weight *= 10.0 ** random.uniform(-min(2.0, scale / 2), 0, weight.shape)
        bias = random.normal(size=width) * np.abs(weight).max(1)
        high, low = np.maximum(weight, 0), np.minimum(weight, 0)
        lower[z] = high @ lower[before] + low @ upper[before] + bias
        upper[z] = high @ upper[before] + low @ lower[before] + bias
        lower[y], upper[y] = np.maximum(lower[z], 0), np.maximum(upper[z], 0)
        for k in range(width):
            rows.append((np.append(before, z[k]), np.append(weight[k], -1.0), -bias[k], -bias[k]))
            rows.append((np.array([z[k], y[k]]), np.array([-1.0, 1.0]), 0.0, np.inf))
            if lower[z[k]] < 0 < upper[z[k]]:
                slope = upper[z[k]] / (upper[z[k]] - lower[z[k]])
                rows.append((np.array([z[k], y[k]]), np.array([-slope, 1.0]), -np.inf, -slope * lower[z[k]]))
        for _ in range(width):  # as cuts of several neurons: their entries are as different as the neurons' bounds
            some = random.choice(len(before) + width, min(4, len(before) + width), replace=False)
            columns = np.append(before, y)[some]
            entries = random.normal(size=len(some)) / np.maximum(upper[columns] - lower[columns], 1e-12)
            entries *= 10.0 ** -random.uniform(0, 1) / np.abs(entries).max()
            entries[np.abs(entries) < 10.0**-span] = 0.0
            level = np.maximum(entries * lower[columns], entries * upper[columns]).sum()
            rows.append((columns, entries, -np.inf, level * random.uniform(0.5, 1)))
        before = y
    index = np.concatenate([row[0] for row in rows])
    return {
        "cost": np.zeros(len(lower)),
        "lower": lower,
        "upper": upper,
        "row_lower": np.array([row[2] for row in rows]),
        "row_upper": np.array([row[3] for row in rows]),
        "start": np.append(0, np.cumsum([len(row[0]) for row in rows])).astype(np.int32),
        "index": index.astype(np.int32),
        "value": np.concatenate([row[1] for row in rows]),
    }


def survived(
    worker: Worker, parts: dict[str, np.ndarray], seed: int, random: np.random.Generator, scaled: bool
) -> bool:
    """Whether all objectives of a program were answered."""
    rows = np.repeat(np.arange(len(parts["row_lower"])), np.diff(parts["start"]))
    shape = len(parts["row_lower"]), len(parts["cost"])
    columns = np.arange(shape[1], dtype=np.int32)
    calls = [("setOptionValue", item) for item in OPTIONS.items()]
    if scaled:
        by = equilibrated(parts["value"], rows, parts["index"], shape)
        parts["value"] = by.coefficients(parts["value"], rows, parts["index"])
        parts |= {name: by.bounds(parts[name]) for name in ("lower", "upper")}
        parts |= {name: by.sides(parts[name]) for name in ("row_lower", "row_upper")}
    calls.append(("passModel", (shape, 0.0, parts, None)))
    try:
        for _ in range(OBJECTIVES):
            cost = np.where(random.random(shape[1]) < 0.2, random.normal(size=shape[1]), 0.0)
            cost[random.integers(shape[1])] = 1.0
            calls.append(("changeColsCost", (shape[1], columns, cost)))
            for setting in POLISH:
                calls += [("setOptionValue", item) for item in setting.items()]
                worker.ask("run", seed, calls, 5.0, limit=5.0)
                calls = []
        worker.dropped.append(seed)
    except Died:
        return False
    return True


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--most", type=float, default=16.0, help="orders of magnitude at most")
    parser.add_argument("--programs", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=600.0, help="after which no program is begun")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scaled", action="store_true")
    parser.add_argument("--results", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
