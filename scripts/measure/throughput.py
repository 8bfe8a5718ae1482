"""Bounding throughput: pieces per second of CROWN, outside any search.

Two quantities, each for several batch sizes, rows = all outputs from below: *all layers* (nothing known of the
pieces: every pre-activation is bounded first) and *final layer* (pre-activation bounds given). The pieces are boxes
placed at random in a property's input box, each a fixed share of it wide. The median of several passes counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Setup:
    """A network, and where its pieces lie."""

    name: str
    family: str
    onnx: str
    vnnlib: str
    share: float  # of the input box's width
    batches: tuple[int, ...]


SETUPS = (
    Setup(
        "acasxu 1_1",
        "acasxu",
        "onnx/ACASXU_run2a_1_1_batch_2000.onnx.gz",
        "vnnlib/prop_3.vnnlib.gz",
        0.1,
        (1, 256, 512, 4096),
    ),
    Setup(
        "mnist 256x4",
        "mnist_fc",
        "onnx/mnist-net_256x4.onnx.gz",
        "vnnlib/prop_0_0.03.vnnlib.gz",
        0.9,
        (1, 64, 512),
    ),
)


def measure(folder: Path, device: str, threads: int | None, seconds: float = 3.0) -> list[dict]:
    """One row for each network and batch size; each quantity takes about `seconds`."""
    import torch

    from partita.kernels.memory import keep_pages

    keep_pages()  # as every search does
    if threads:
        torch.set_num_threads(threads)
    return [row for setup in SETUPS for row in _network(folder, setup, device, seconds)]


def _network(folder: Path, setup: Setup, device: str, seconds: float) -> Iterator[dict]:
    import torch

    from partita.problems.onnx.file import load_onnx
    from partita.problems.properties.vnnlib import load_property
    from partita.relaxations.linear.root import root
    from partita.relaxations.types import Pieces, Rows

    graph = load_onnx(folder / setup.family / setup.onnx)
    prop = load_property(folder / setup.family / setup.vnnlib, graph.input_size, graph.output_size)
    lower, upper = (torch.from_numpy(getattr(prop.cases[0].inputs, side)) for side in ("lower", "upper"))
    linear, *_ = root(graph.to(torch.float32, device), lower, upper)
    for batch in setup.batches:
        low, high = (b.to(device, torch.float32) for b in _boxes(lower, upper, batch, setup.share))
        pieces = Pieces.boxes(low, high, graph.neurons)
        outputs = torch.eye(graph.output_size, device=device).expand(batch, -1, -1).contiguous()
        rows = Rows(outputs, torch.zeros(outputs.shape[:2], device=device))
        result = linear.bound(pieces, rows).result
        known = pieces.with_pre(result.pre_lower, result.pre_upper)
        undecided = (result.pre_lower < 0) & (result.pre_upper > 0)
        every = _median_seconds(partial(linear.bound, pieces, rows), device, seconds)
        final = _median_seconds(partial(linear.formed, known, rows, refresh=False), device, seconds)
        yield {
            "network": setup.name,
            "batch": batch,
            "all_layers": round(batch / every, 1),
            "final_layer": round(batch / final, 1),
            "undecided": round(undecided.sum(1).double().mean().item(), 1),
            "mean_lower": round(result.lower.double().mean().item(), 6),
            "threads": torch.get_num_threads(),
            "device": device,
        }


def _boxes(lower: Tensor, upper: Tensor, batch: int, share: float) -> tuple[Tensor, Tensor]:  # (D,) twice, (B, D) twice
    """Boxes `share` as wide as the given one, at random places in it."""
    import torch

    random = torch.Generator().manual_seed(0)
    places = torch.rand(batch, len(lower), generator=random, dtype=torch.float64)
    low = lower + (1 - share) * (upper - lower) * places
    return low, low + share * (upper - lower)


def _median_seconds(work: Callable[[], object], device: str, seconds: float) -> float:
    """The median time of a call, over at least three after a warm-up."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    work()
    wait()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < 1000):
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return median(times)
