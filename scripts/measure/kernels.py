"""The hot kernels on a CUDA device: Triton's version beside the torch reference, time beside bytes and operations.

    python scripts/measure/kernels.py [--float64] [--seconds 0.3] [--out kernels.json]

First every case of `tests/kernel_cases.py` must pass on the device: what is not right is not timed. Then each kernel
runs on the coefficients of three networks: B pieces, R rows, n neurons. Counted for the fused version are the bytes it
must move (each large tensor read or written once) and the floating-point operations it makes; the peaks beside them are
measured in the same run, by copying a large tensor and by multiplying two large matrices, so `of peak` asks how much of
what this device does at its best is reached. Median times; between calls the device's cache is overwritten.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
SHAPES = (
    ("acasxu", 4096, 5, 50),
    ("mnist 256x4", 512, 100, 256),
    ("convolutions", 64, 10, 8192),
)
ROWS, GROUP = 1000, 3  # multi-neuron rows of a layer, and how many neurons each touches


@dataclass(frozen=True)
class Case:
    """One kernel on one set of tensors."""

    name: str
    fused: Callable[[], object]
    plain: Callable[[], object]
    entries: float  # moved, of the large tensors
    operations: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--seconds", type=float, default=0.3, help="of timing for each version of each kernel")
    parser.add_argument("--out", type=Path, help="a JSON file for the rows")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("kernels: PyTorch finds no CUDA device here, and these kernels are for one")
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]
    green()
    from measure import machine, table

    dtype = torch.float64 if options.float64 else torch.float32
    peak = peaks(dtype, options.seconds)
    rows = [row for shape in SHAPES for row in measured(*shape, dtype, peak, options.seconds)]
    print(table.plain([list(rows[0]), *([str(value) for value in row.values()] for row in rows)]))
    print(f"\npeaks, measured: {peak[0] / 1e9:,.0f} GB/s copied, {peak[1] / 1e12:,.1f} TFLOP/s in a {dtype} product")
    report = {"date": machine.now(), "commit": machine.commit(), "hardware": machine.hardware(), "kernels": rows}
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def green() -> None:
    """Every case passes on the device, or nothing is measured."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "tests/test_triton.py", "-k", "on_the_device"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"kernels: the tests of the kernels fail, so there is nothing to time\n{done.stdout[-2000:]}")


def peaks(dtype, seconds: float) -> tuple[float, float]:
    """Bytes a second of a copy, and operations a second of a matrix product, both large."""
    import torch

    size = 8192
    a = torch.randn(size, size, dtype=dtype, device="cuda")
    b = torch.empty_like(a)
    copied = 2 * a.numel() * a.element_size() / timed(lambda: b.copy_(a), seconds)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    multiplied = 2 * size**3 / timed(lambda: torch.mm(a, a, out=b), seconds)
    torch.set_float32_matmul_precision(before)
    return copied, multiplied


def measured(network: str, pieces: int, count: int, size: int, dtype, peak: tuple[float, float], seconds: float):
    """One row for each kernel."""
    import torch
    from kernel_cases import reference

    width = torch.finfo(dtype).bits // 8
    for case in cases(pieces, count, size, dtype):
        fast = timed(case.fused, seconds)
        with reference():
            slow = timed(case.plain, seconds)
        moved = case.entries * width
        yield {
            "network": network,
            "B x R x n": f"{pieces} x {count} x {size}",
            "kernel": case.name,
            "MB": round(moved / 1e6, 2),
            "MFLOP": round(case.operations / 1e6, 1),
            "torch us": round(slow * 1e6, 1),
            "triton us": round(fast * 1e6, 1),
            "ratio": round(slow / fast, 2),
            "GB/s": round(moved / fast / 1e9, 1),
            "of peak": f"{moved / fast / peak[0]:.0%}",
            "TFLOP/s": round(case.operations / fast / 1e12, 2),
            "of peak ": f"{case.operations / fast / peak[1]:.0%}",
        }


def cases(pieces: int, count: int, size: int, dtype, device: str = "cuda") -> list[Case]:
    """Every kernel as the backward pass calls it; the same call serves both versions."""
    import torch
    from kernel_cases import Lines

    from partita.kernels import dot, polytope, rows, substitute

    random = torch.Generator(device).manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=random, device=device, dtype=dtype)  # noqa: E731
    given, added, vector = draw(pieces, count, size), draw(pieces, count, size), draw(pieces, size)
    weight, lines = vector.abs(), Lines(draw(pieces, size) for _ in range(4))
    own = Lines((draw(pieces, count, size).clamp_(0, 1), *lines[1:]))
    index = torch.rand(ROWS, size, generator=random, device=device).topk(GROUP, 1).indices
    layer = rows.layer_rows(torch.zeros(ROWS, size, device=device, dtype=dtype).scatter(1, index, draw(ROWS, GROUP)))
    price = draw(pieces, count, ROWS).abs()
    lower, weights = vector - weight, substitute.Weights(under=weight)
    entries = given.numel()
    both = lambda call: (call, call)  # noqa: E731
    return [
        Case("dot", *both(lambda: dot.dot(given, vector)), entries, 2 * entries),
        Case("dot_and_absolute", *both(lambda: dot.dot_and_absolute(given, vector, weight)), entries, 5 * entries),
        Case("box_minimum", *both(lambda: polytope.box_minimum(given, lower, vector)), entries, 5 * entries),
        Case(
            "substitute",
            *both(lambda: substitute.substitute(given, lines, zero_lower_bias=True)),
            *(2 * entries, 4 * entries),
        ),
        Case(
            "substitute_weighed, slopes by row",
            *both(lambda: substitute.substitute_weighed(given, own, weights, zero_lower_bias=True)),
            *(3 * entries, 7 * entries),
        ),
        Case("add_weighed", *both(lambda: rows.add_weighed(given, added, weight)), 3 * entries, 6 * entries),
        Case(
            "pull",
            *both(lambda: rows.pull(price, layer)),
            *(entries + price.numel(), 2 * layer.most * entries),
        ),
        *hulls(pieces * count, dtype, device),
    ]


def hulls(groups: int, dtype, device: str) -> list[Case]:
    """The slide and the proof of groups of three neurons, in float64 whatever `dtype`; a chunk of groups at most.

    Bytes and operations as counted in `kernels/triton/slide.py` and `hull.py`, the tiles' padding not counted; an
    orthant that a group is proved to miss has none.
    """
    import torch

    from partita.kernels import hull
    from partita.kernels.octahedron import empty_orthants, octahedron

    template = octahedron(GROUP).to(device)
    random = torch.Generator(device).manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=random, device=device, dtype=torch.float64)  # noqa: E731
    groups = min(groups, 8192)
    image, middle = draw(groups, GROUP, 6), 0.7 * draw(groups, GROUP)
    limits = (template.normals @ image).abs().sum(-1) + middle @ template.normals.T
    rows, group = hull.relu_hulls(template, limits), hull._grouped(template, limits, 0.0)
    aims = hull.targets(template, group, 0.0, thorough=False)
    slide = lambda: hull.slide(group, aims)  # noqa: E731
    proof = lambda: hull.proved(template, group, 0.0, rows.on_post, rows.on_pre)[0]  # noqa: E731
    k, places, share = GROUP, group.corners.z.shape[1], 8 / torch.finfo(dtype).bits
    found = []
    count = aims.shape[1]
    moved = groups * (16 * k * places + 32 * k * count + 32 * k)
    operations = groups * count * 2 * k * (places * (4 * k + 7) + 32 * k * k + 24 * k)
    found.append(Case(f"{groups} hulls, slide", slide, slide, moved * share, operations))
    count = rows.offset.shape[1]
    moved = groups * (8 * count * (2 * k + 1) + 8 * places * (k + k * (2 * k + 1)) + places * 2**k)
    operations = int((~empty_orthants(template, limits)).sum()) * count * (places * (2 * k + 3) + 6 * k * k + 16 * k)
    found.append(Case(f"{groups} hulls, offsets", proof, proof, moved * share, operations))
    return found


def timed(work: Callable[[], object], seconds: float) -> float:
    """The median time of a call on the device, in seconds."""
    import torch

    flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    times: list[float] = []
    for number in range(1000):
        flush.zero_()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        if number >= 3:
            times.append(start.elapsed_time(end) / 1e3)
        if len(times) >= 5 and sum(times) >= seconds:
            break
    return median(times)


if __name__ == "__main__":
    sys.exit(main())
