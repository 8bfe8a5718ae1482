"""Hulls of K ReLUs: how many a minute, and how much of what single-neuron rows leave they cut off.

The octahedra are those around K forms over the box [-1, 1]^n, their normals random and of length 1, their constants
such that most neurons are unstable. *Closed* is the share of the gap between two relaxations, single-neuron rows over
P and the exact hull, that the batched rows close: mean values of random linear forms of (z, y), by linear programming.
Both are measured for the usual and for the thorough set of targets. Rates are of processor time on the CPU, which a
busy machine disturbs least, and of the clock elsewhere.

    PYTHONPATH=scripts python -m measure.hulls [cpu|cuda] [THREADS]
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from partita.kernels.hull import Hulls
    from partita.kernels.octahedron import Octahedron

INPUTS = (4, 10, 20)


def measure(device: str, threads: int | None, seconds: float = 3.0) -> list[dict]:
    """One row for each K, precision and set of targets."""
    import torch

    from partita.kernels.hull import relu_hulls
    from partita.kernels.memory import keep_pages
    from partita.kernels.octahedron import octahedron

    keep_pages()
    torch.set_num_threads(threads or 1)
    rows = []
    for size in (2, 3, 4):
        template = octahedron(size).to(device)
        some = torch.cat([limits(template.to("cpu"), 8, n, 1) for n in INPUTS])
        many = torch.cat([limits(template.to("cpu"), (1024 if size < 4 else 64), n, 2) for n in INPUTS]).to(device)
        for thorough in (False, True):
            for dtype in (torch.float32, torch.float64):
                found = relu_hulls(template, some.to(device, dtype), thorough=thorough)
                work = partial(relu_hulls, template, many.to(dtype), thorough=thorough)
                second = _seconds(work, device, seconds)
                rows.append(
                    {
                        "K": size,
                        "rows": found.offset.shape[1],
                        "thorough": thorough,
                        "precision": str(dtype).removeprefix("torch."),
                        "hulls_per_minute": round(60 * len(many) / second),
                        "closed": round(closed_share(template.to("cpu"), some, found), 4),
                        "threads": torch.get_num_threads(),
                        "device": device,
                    }
                )
    return rows


def limits(template: Octahedron, groups: int, inputs: int, seed: int) -> Tensor:  # (G, T)
    """Random octahedra; see the module's essay. One part in 1e12 wider than the image of the box."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    normals = torch.randn(groups, template.size, inputs, generator=draw, dtype=torch.float64)
    normals = normals / normals.norm(dim=-1, keepdim=True)
    constants = 0.17 * torch.randn(groups, template.size, generator=draw, dtype=torch.float64)
    constants = constants * normals.abs().sum(-1)
    reach = (template.normals @ normals).abs().sum(-1)
    return (1 + 1e-12) * reach + constants @ template.normals.T


def closed_share(template: Octahedron, known: Tensor, found: Hulls, forms: int = 12) -> float:
    """The share of the gap between single-neuron rows and exact hulls that the rows close."""
    import numpy as np
    from scipy.optimize import linprog

    from partita.kernels.octahedron import closed, corners

    size, random = template.size, np.random.default_rng(0)
    inner = corners(template, closed(template, known))
    polytope = np.hstack([template.normals.numpy(), np.zeros((len(template), size))])
    gained = gap = 0.0
    for g in range(len(known)):
        rows = np.hstack([part[g].double().cpu().numpy() for part in (found.on_pre, found.on_post)])
        right = found.offset[g].double().cpu().numpy()
        z = inner.z[g][inner.real[g]].numpy()
        points = np.hstack([z, np.maximum(z, 0)])
        for form in random.standard_normal((forms, 2 * size)):
            tops = []
            for part in (slice(-3 * size, None), slice(None)):
                matrix, side = np.vstack([rows[part], polytope]), np.concatenate([right[part], known[g].numpy()])
                tops.append(-linprog(-form, A_ub=matrix, b_ub=side, bounds=(None, None)).fun)
            gained, gap = gained + tops[0] - tops[1], gap + tops[0] - (points @ form).max()
    return gained / gap


def _seconds(work, device: str, seconds: float) -> float:
    """The median time of a call, over at least three after a warm-up."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    clock = time.perf_counter if device == "cuda" or torch.get_num_threads() > 1 else time.process_time
    work()
    wait()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = clock()
        work()
        wait()
        times.append(clock() - start)
    return median(times)


if __name__ == "__main__":
    place, count = (sys.argv[1:] + ["cpu", "1"][len(sys.argv) - 1 :])[:2]
    print("\n".join(json.dumps(row) for row in measure(place, int(count))))
