"""The stages of `bench_gpu.py`, each a process: STAGE FOLDER FILE DEVICE SECONDS [--pretend].

Rows are written to FILE as they are found, so that a stage that is ended leaves what it had. Exit code 1 where a test
failed, a kernel is off its reference, or a verdict is not the CPU's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]
SMALL = ("acasxu-like", 8, 3, 50)  # pieces, rows, neurons, where the device pretends
OFF = 1e-3  # of a kernel in float32, as a share of the largest value


@dataclass
class Task:
    """What a stage was asked for."""

    folder: Path
    device: str
    end: float  # a value of `time.monotonic()`
    pretend: bool

    @property
    def left(self) -> float:
        return self.end - time.monotonic()


def tests(task: Task) -> Iterator[dict]:
    """The GPU tests (where the device pretends, the shortest)."""
    words = "two_sided" if task.pretend else ""
    for module in ("test_gpu.py", *(() if task.pretend else ("test_triton.py", "test_device.py"))):
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/{module}", "-k", words]
        begun = time.monotonic()
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(1.0, task.left))
            last = (done.stdout.strip().split("\n") or [""])[-1]
            yield {
                "module": module,
                "good": done.returncode == 0,
                "said": last if done.returncode == 0 else done.stdout[-2000:],
            }
        except subprocess.TimeoutExpired:
            yield {"module": module, "good": False, "said": f"not at its end after {time.monotonic() - begun:.0f} s"}


def kernels(task: Task) -> Iterator[dict]:
    """Every kernel beside its reference, and on a real device their times."""
    import torch
    from kernel_cases import reference

    from measure import kernels as one

    shapes = (SMALL,) if task.pretend else one.SHAPES
    peak = None if task.pretend else one.peaks(torch.float32, 0.1)
    for network, pieces, count, size in shapes:
        for case in one.cases(pieces, count, size, torch.float32, task.device):
            found = flat(case.fused())
            with reference():
                true = flat(case.plain())
            off = max(
                float((a - b).abs().max()) / max(1.0, float(b.abs().max())) for a, b in zip(found, true, strict=True)
            )
            yield {"network": network, "kernel": case.name, "off": off, "good": off <= OFF or "slide" in case.name}
        if peak is not None:
            yield from one.measured(network, pieces, count, size, torch.float32, peak, 0.05)


def flat(found: object) -> list:
    """The tensors of a result, as float64."""
    import torch

    if isinstance(found, torch.Tensor):
        return [found.nan_to_num().double()]
    return [t for part in found if part is not None for t in flat(part)]  # type: ignore[attr-defined]


def verdicts(task: Task) -> Iterator[dict]:
    """Instances of acasxu and mnist_fc in both precisions, with the CPU's verdict beside."""
    import bench_gpu

    import partita

    files = bench_gpu.FILES[:1] if task.pretend else bench_gpu.FILES
    limits = {"max_pieces": 32} if task.pretend else {}
    for number, (family, net, prop) in enumerate(files):
        each = task.left / (len(files) - number) / 3
        row: dict = {"family": family, "onnx": net, "vnnlib": prop}
        for name, device, precision in (
            ("cpu", "cpu", "float32"),
            ("float32", task.device, "float32"),
            ("float64", task.device, "float64"),
        ):
            base = task.folder / family
            options = {"device": device, "precision": precision, "timeout": max(1.0, each)} | limits
            outcome = partita.verify(base / net, base / prop, **options)
            row |= {name: outcome.verdict, f"{name} s": round(outcome.seconds, 3), f"{name} pieces": outcome.pieces}
        said = {row[name] for name in ("cpu", "float32", "float64")} & {"sat", "unsat"}
        yield row | {"good": len(said) < 2}


def throughput(task: Task) -> Iterator[dict]:
    """Pieces a second by batch."""
    from dataclasses import replace

    from measure import throughput as one

    batches = (1, 4) if task.pretend else (256, 1024, 4096, 16384)
    one.SETUPS = tuple(replace(setup, batches=batches) for setup in one.SETUPS[: 1 if task.pretend else 2])
    for row in one.measure(task.folder, task.device, None, 0.05 if task.pretend else 1.0):
        yield row | {"good": True}


def profile(task: Task) -> Iterator[dict]:
    """What one acasxu search spends its time in, by operation; where the device pretends, its launches."""
    import bench_gpu
    import torch

    import partita

    family, net, prop = bench_gpu.FILES[0 if task.pretend else 1]
    base = task.folder / family
    search = partial(partita.verify, base / net, base / prop, device=task.device, attack="off", timeout=0.6 * task.left)
    if task.pretend:
        import pretend

        search(max_pieces=16)
        kinds = pretend.tensor.ACTIVE[-1].log.kinds
        yield from ({"operation": name, "calls": n, "good": True} for name, n in kinds.most_common(20))
        return
    search(max_pieces=2000)  # kernels are compiled
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as found:
        search(max_pieces=20_000)
    events = sorted(found.key_averages(), key=lambda event: -event.self_device_time_total)
    for event in events[:40]:
        yield {
            "operation": event.key,
            "calls": event.count,
            "device ms": round(event.self_device_time_total / 1e3, 3),
            "host ms": round(event.self_cpu_time_total / 1e3, 3),
            "good": True,
        }


def main(stage: str, folder: str, file: str, device: str, seconds: str, *pretending: str) -> int:
    task = Task(Path(folder).resolve(), device, time.monotonic() + float(seconds), bool(pretending))
    rows: list[dict] = []
    there = nullcontext()
    if task.pretend and stage != "tests":  # these pretend by themselves
        import pretend

        there = pretend.cuda()
    with there:
        for row in {
            "tests": tests,
            "kernels": kernels,
            "verdicts": verdicts,
            "throughput": throughput,
            "profile": profile,
        }[stage](task):
            rows.append(row)
            Path(file).write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0 if rows and all(row.get("good", True) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
