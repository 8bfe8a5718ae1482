"""Do time limits hold? Timed calls from Python: relaxations x networks x limits, by a seed.

    python scripts/time_limits.py [--calls 100] [--seed 0] [--bench DIR] [--only N,N,...] [--out FILE.json]

Every call runs in a process of its own (so that one that never returns can be ended, and its memory is its own), which
makes the network, imports what the call needs, and then looks at the clock around the call alone: `verify`, `bound`,
`count_patterns` or `partition` with a limit of 1 to 20 s. It holds where the call returned within one second or 5 % of
the limit, whichever is more. Networks are made here from random weights: a VGG on 224 x 224 inputs, a smaller VGG, a
residual network, wide and deep matrices, a small controller; some of them are handed over as PyTorch modules. With
`--bench` also those of benchmarks.

On a machine that does other work a call may be late through no fault of its own: late calls are run again, up to
`--again` times, and the row says how often.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

NETWORKS = ("vgg224", "vgg64", "resnet8_64", "wide", "deep", "acasxu")
BENCH = (
    "mnist_fc/onnx/mnist-net_256x6.onnx.gz vnnlib/prop_3_0.05.vnnlib.gz",
    "acasxu/onnx/ACASXU_run2a_1_1_batch_2000.onnx.gz vnnlib/prop_2.vnnlib.gz",
)
RELAXATIONS = ("ibp", "crown", "deeppoly-0", "deeppoly-1", "alpha-crown")
RELAXATIONS += ("triangle", "k-relu", "prima", "m-1", "p-1", "exact", "auto")
LIMITS = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
GRACE = 30.0  # seconds after which a call that is late is ended


@dataclass(frozen=True)
class Call:
    """One timed call."""

    what: str  # verify, bound, count or partition
    network: str
    relaxation: str
    limit: float
    radius: float
    options: dict[str, Any]
    module: bool = False  # the network is handed over as a PyTorch module, which is exported within the limit

    @property
    def allowed(self) -> float:
        return self.limit + max(1.0, 0.05 * self.limit)


@dataclass(frozen=True)
class Row:
    """What became of it."""

    number: int
    call: Call
    taken: float
    held: bool
    said: str
    runs: int  # how often it was run, until it held


def calls(count: int, seed: int, networks: tuple[str, ...]) -> list[Call]:
    """The campaign: every relaxation and network in turn, limits and radii by the seed."""
    dice, found = random.Random(seed), []
    for k in range(count):
        network, limit = networks[k % len(networks)], dice.choice(LIMITS)
        relaxation = RELAXATIONS[(k // len(networks) + k) % len(RELAXATIONS)]
        radius = dice.choice((1e-4, 1e-3, 1e-2, 5e-2))
        what = ("verify", "verify", "bound", "verify", "bound", "count", "verify", "partition")[dice.randrange(8)]
        options: dict[str, Any] = {}
        if what in ("count", "partition") and network not in ("acasxu", "wide", "deep"):
            what = "bound"
        if what == "bound" and relaxation == "auto":
            relaxation = "crown"
        if what == "verify":
            options["split"] = dice.choice(("auto", "auto", "input", "activation"))
            options["precision"] = dice.choice(("auto", "float32", "float64"))
            if relaxation == "exact":
                options = {}
            elif dice.random() < 0.5:
                options["attack"] = "off"
        found.append(Call(what, network, relaxation, limit, radius, options, network in NETWORKS and k % 7 == 6))
    return found


def module(name: str):  # -> torch.nn.Module, tuple[int, ...]
    """A network with random weights, and its input's shape."""
    import torch
    from torch import nn

    torch.manual_seed(7)
    if name in ("vgg224", "vgg64"):
        side, plan = (224, (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"))
        if name == "vgg64":
            side, plan = 64, (32, 32, "M", 64, 64, "M", 128, 128, "M")
        layers, before = [], 3
        for step in plan:
            if step == "M":
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(before, step, 3, padding=1), nn.ReLU()]
                before, side = step, side
        side = side // 2 ** plan.count("M")
        head = [nn.Flatten(), nn.Linear(before * side * side, 512), nn.ReLU(), nn.Linear(512, 10)]
        return nn.Sequential(*layers, *head), (1, 3, 224 if name == "vgg224" else 64, 224 if name == "vgg224" else 64)
    if name == "resnet8_64":
        return _resnet(), (1, 3, 64, 64)
    widths = {"wide": (784, 4096, 4096, 10), "deep": (784, *[256] * 6, 10), "acasxu": (5, *[50] * 6, 5)}[name]
    layers = []
    for one, two in pairwise(widths):
        layers += [nn.Linear(one, two), nn.ReLU()]
    return nn.Sequential(*layers[:-1]), (1, widths[0])


def _resnet():  # -> torch.nn.Module
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, before: int, after: int, stride: int) -> None:
            super().__init__()
            self.one = nn.Conv2d(before, after, 3, stride, 1)
            self.two = nn.Conv2d(after, after, 3, 1, 1)
            self.skip = nn.Conv2d(before, after, 1, stride)

        def forward(self, x):
            return torch.relu(self.two(torch.relu(self.one(x))) + self.skip(x))

    blocks = [Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)]
    head = [nn.AvgPool2d(16), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), *blocks, *head)


def made(name: str, folder: Path) -> Path:
    """The network as an ONNX file in the folder, written when first asked for."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        import torch

        net, shape = module(name)
        torch.onnx.export(net.eval(), torch.zeros(shape), str(path), dynamo=False)
    return path


def _timed(call: Call, folder: Path, bench: Path | None) -> tuple[float, str]:
    """Seconds that the call took, and what it said."""
    import numpy as np

    import partita
    from partita.problems.input_set import polytopes_of  # noqa: F401 (what is imported before the clock starts)
    from partita.problems.properties.specify import robustness_property

    if call.network in NETWORKS:
        network = made(call.network, folder)
        import onnxruntime

        session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
        argument = session.get_inputs()[0]
        x = np.random.default_rng(3).uniform(0, 1, argument.shape).astype(np.float32)
        label = int(session.run(None, {argument.name: x})[0].argmax())
        del session
        count = int(np.prod(argument.shape))
        prop = robustness_property(x.reshape(-1).astype(float), call.radius, label, 5 if count == 5 else 10)
    else:
        network, prop = (bench / part for part in call.network.split())
        prop = network.parent.parent / call.network.split()[1]
    import partita.bab.verify
    import partita.relaxations.bound

    more: dict[str, Any] = {}
    if call.module:
        import torch

        network, shape = module(call.network)
        more["example_input"] = torch.zeros(shape)
    begun = time.monotonic()
    try:
        said = _said(call, network, prop, more, partita)
    except TimeoutError as error:
        said = f"TimeoutError: {error}"
    except partita.problems.errors.BadInput as error:
        said = f"refused: {error}"
    return time.monotonic() - begun, said


def _said(call: Call, network: Any, prop: Any, more: dict[str, Any], partita: Any) -> str:
    if call.what == "verify":
        found = partita.verify(network, prop, timeout=call.limit, relaxation=call.relaxation, **call.options, **more)
        return f"{found.verdict}: {found.reason}"
    if call.what == "bound":
        found = partita.bound(network, prop, call.relaxation, timeout=call.limit, **more)
        finite = int((abs(found.lower) < float("inf")).sum())
        return f"{finite} of {len(found.lower)} bounds; {'; '.join(found.notes)}"
    if call.what == "count":
        found = partita.count_patterns(network, prop, timeout=call.limit, **more)
        return str(found)[:200]
    found = partita.partition(network, prop, timeout=call.limit, **more)
    return str(found)[:200]


def _child(call: Call, folder: Path, bench: Path | None, to: Any) -> None:
    try:
        to.send(_timed(call, folder, bench))
    except BaseException as error:
        to.send((float("nan"), f"{type(error).__name__}: {error}"))
        raise


def run(number: int, call: Call, folder: Path, bench: Path | None, again: int) -> Row:
    """The call in a process of its own, again where it was late."""
    context = multiprocessing.get_context("spawn")
    for runs in range(1, again + 2):  # noqa: B007 (told below)
        here, there = context.Pipe()
        child = context.Process(target=_child, args=(call, folder, bench, there))
        child.start()
        there.close()
        taken, said = float("inf"), f"no answer {GRACE:g} s after its limit"
        try:
            if here.poll(call.allowed + GRACE + 60):
                taken, said = here.recv()
        except EOFError:
            said = "the process ended without an answer"
        child.kill()
        child.join()
        held = taken <= call.allowed
        if held:
            break
    return Row(number, call, round(taken, 3), held, said, runs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bench", type=Path, help="a folder of benchmarks whose networks take part")
    parser.add_argument("--only", help="numbers of calls, of the campaign as it is")
    parser.add_argument("--again", type=int, default=2, help="how often a late call is run again")
    parser.add_argument("--folder", type=Path, help="where the networks are kept between runs")
    parser.add_argument("--out", type=Path, help="a JSON file")
    options = parser.parse_args()
    networks = NETWORKS + (BENCH if options.bench else ())
    chosen = list(enumerate(calls(options.calls, options.seed, networks)))
    if options.only:
        wanted = {int(number) for number in options.only.split(",")}
        chosen = [(k, call) for k, call in chosen if k in wanted]
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    print(f"{'':4} {'call':10} {'network':12} {'relaxation':12} {'limit':>6} {'taken':>7} {'allowed':>7}")
    for number, call in chosen:
        row = run(number, call, folder, options.bench, options.again)
        rows.append(row)
        head = f"{number:3}{' ' if row.held else '!'} {call.what:10} {call.network[:12]:12} {call.relaxation:12}"
        print(f"{head} {call.limit:6g} {row.taken:7.2f} {call.allowed:7.2f}  {row.said[:140]}", flush=True)
        if options.out:
            options.out.write_text(json.dumps(_report(options, rows), indent=1) + "\n", encoding="utf-8")
    late = [row for row in rows if not row.held]
    print(f"{len(rows) - len(late)} of {len(rows)} calls within their limit")
    return 1 if late else 0


def _report(options: argparse.Namespace, rows: list[Row]) -> dict[str, Any]:
    root = Path(__file__).parents[1]
    commit = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seed": options.seed,
        "held": sum(row.held for row in rows),
        "calls": len(rows),
        "rows": [asdict(row) for row in rows],
    }


if __name__ == "__main__":
    sys.exit(main())
