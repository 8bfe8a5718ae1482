"""Batches of linear programs as a branch and bound makes them: HiGHS beside the batched first-order method.

    python scripts/bench_programs.py --bench DIR [--networks 256x2,256x4,256x6] [--property prop_3_0.05]
                                     [--batches 1,16,256] [--steps 100,400,1600] [--device cpu] [--dtype float32]

The programs are the triangle relaxation of an mnist_fc network under its first margin, each with ten random undecided
neurons decided as a random input has them (bounds of variables and sides of rows differ, the matrix does not; every
program is feasible). HiGHS solves `--cold` of them afresh and all of them (at most `--warm`) from one basis; the
first-order method stops after given numbers of steps, started from the middle of the boxes and from where the undivided
program ended after 4000 steps. What it left of the gap between the root's CROWN bound and each program's optimum is in
per cent, on average and at worst. Every bound is compared with HiGHS's optimum before anything is printed: one above it
ends the run with exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from partita.problems.load import load_network, load_property_for
from partita.relaxations.bound import bound
from partita.relaxations.linear.root import root
from partita.relaxations.lp.boxes import node_boxes
from partita.relaxations.lp.encode import encode
from partita.relaxations.lp.first_order import FirstOrder, Parts
from partita.relaxations.lp.highs import HighsMany
from partita.relaxations.lp.highs import solve as highs
from partita.relaxations.lp.model import LinearModel

DECIDED = 10


def main() -> int:
    options = parsed()
    print("| network | rows x variables | batch | method | ms a program | gap left, mean | worst |")
    print("|---|---|---|---|---|---|---|")
    for network in options.networks.split(","):
        folder = options.bench / "mnist_fc"
        graph = load_network(folder / f"onnx/mnist-net_{network}.onnx.gz")[0]
        case = load_property_for(graph, folder / f"vnnlib/{options.property}.vnnlib.gz").cases[0]
        model, crown, neurons = root_program(graph, case)
        programs = [
            decided(model, neurons, graph, case.inputs, seed)
            for seed in range(max(map(int, options.batches.split(","))))
        ]
        try:
            rows = measured(model, programs, crown, options)
        except ArithmeticError as error:
            print(error, file=sys.stderr)
            return 1
        for row in rows:
            print(f"| {network} | {model.matrix.shape[0]} x {model.matrix.shape[1]} | {' | '.join(row)} |", flush=True)
    return 0


def root_program(graph, case):  # type: ignore[no-untyped-def]
    """The undivided program, CROWN's bound of its objective, and the undecided neurons as (z, y, rows of y - z)."""
    lower, upper = torch.as_tensor(case.inputs.lower), torch.as_tensor(case.inputs.upper)
    pieces = root(graph, lower, upper)[1]
    boxes = node_boxes(graph, case.inputs)
    for layer in graph.layers:
        at, before = layer.span, layer.source
        low, high = pieces.pre_lower[0, at], pieces.pre_upper[0, at]
        boxes[before] = torch.maximum(boxes[before][0], low), torch.minimum(boxes[before][1], high)
        boxes[layer.position] = layer.function.interval(*boxes[before])
    encoding = encode(graph, case.inputs, boxes=boxes)
    unsafe = case.unsafe[0]
    model = encoding.minimising(graph.output, unsafe.rows[0], float(unsafe.constants[0]))
    matrix = model.matrix
    neurons = []
    for layer in graph.layers:
        before = layer.source
        low, high = boxes[before]
        for k in torch.nonzero((low < 0) & (high > 0)).flatten().tolist():
            neurons.append((encoding.first[before] + k, encoding.first[layer.position] + k))
    rows = {}
    for r in np.flatnonzero((model.row_lower == 0) & (model.row_upper == np.inf)):
        columns, values = (part[matrix.indptr[r] : matrix.indptr[r + 1]] for part in (matrix.indices, matrix.data))
        if len(columns) == 2 and sorted(values) == [-1.0, 1.0]:
            rows[tuple(sorted(columns))] = r
    crown = bound(graph, case.inputs, "crown", unsafe.rows[:1], unsafe.constants[:1]).lower
    return model, float(crown[0]), [(z, y, rows[(z, y)]) for z, y in neurons]


def decided(model: LinearModel, neurons: list[tuple[int, int, int]], graph, box, seed: int) -> LinearModel:  # type: ignore[no-untyped-def]
    """A child in which ten neurons are decided as one input of the box has them."""
    random = np.random.default_rng(seed)
    x = torch.as_tensor(box.lower + random.random(box.size) * (box.upper - box.lower))
    values = torch.cat(graph.values(x)).numpy()
    lower, upper, row_upper = model.lower.copy(), model.upper.copy(), model.row_upper.copy()
    for k in random.choice(len(neurons), min(DECIDED, len(neurons)), replace=False):
        z, y, row = neurons[k]
        if values[z] > 0:
            lower[z], row_upper[row] = 0.0, 0.0
        else:
            upper[z] = upper[y] = 0.0
    return model.with_bounds(lower, upper).with_sides(model.row_lower, row_upper)


def measured(model: LinearModel, programs: list[LinearModel], crown: float, options) -> list[tuple[str, ...]]:  # type: ignore[no-untyped-def]
    """One row for each batch size and method."""
    start = time.perf_counter()
    for program in programs[: options.cold]:
        highs(program)
    cold = (time.perf_counter() - start) / min(options.cold, len(programs))
    many, optimum, start = HighsMany(model), [], time.perf_counter()
    for program in programs[: options.warm]:
        many.set_bounds(program.lower, program.upper)
        many.set_sides(program.row_lower, program.row_upper)
        found = many.minimise(program.cost, program.offset)
        optimum.append(found.value)
    warm = (time.perf_counter() - start) / len(optimum)
    known = torch.tensor(optimum, dtype=torch.float64)
    table = [
        ("", "HiGHS, afresh", f"{1e3 * cold:.1f}", "0", "0"),
        ("", "HiGHS, one basis", f"{1e3 * warm:.1f}", "0", "0"),
    ]
    dtype = getattr(torch, options.dtype)
    method = FirstOrder(model, dtype=dtype, device=options.device)
    parent = method.minimise_batch(steps=4000, tolerance=0.0)
    share = left(parent.bound.cpu().expand(len(known)), known, crown)
    table.append(("", "the parent's bound, 4000 steps", "", f"{share.mean():.1f}", f"{share.max():.1f}"))
    for steps in map(int, options.steps.split(",")):
        for batch in map(int, options.batches.split(",")):
            some = programs[:batch]
            parts = {
                name: torch.as_tensor(np.stack([getattr(p, name) for p in some])).to(options.device)
                for name in ("lower", "upper", "row_upper")
            }
            for word, begin in (
                ("", None),
                (", from the parent", parent.start.select(torch.zeros(batch, dtype=torch.int64))),
            ):
                start = time.perf_counter()
                found = method.minimise_batch(Parts(**parts), start=begin, steps=steps, tolerance=1e-6)
                proved = found.bound.cpu()
                seconds = time.perf_counter() - start
                gap = left(proved, known[:batch], crown)
                name = f"first-order, {steps} steps{word}"
                table.append(
                    (str(batch), name, f"{1e3 * seconds / batch:.1f}", f"{gap.mean():.1f}", f"{gap.max():.1f}")
                )
    return table


def left(proved: torch.Tensor, optimum: torch.Tensor, crown: float) -> torch.Tensor:
    """Per cent of the gap that is left; raises ArithmeticError for a bound above the optimum."""
    proved = proved[: len(optimum)]
    optimum = optimum[: len(proved)]
    if bool((proved > optimum + 1e-7 * (1 + optimum.abs())).any()):
        raise ArithmeticError("a bound is above the optimum")
    return (100 * (optimum - proved) / (optimum - crown)).clamp(max=1e4)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True)
    for name, value in (
        ("networks", "256x2,256x4,256x6"),
        ("property", "prop_3_0.05"),
        ("batches", "1,16,256"),
        ("steps", "100,400,1600"),
        ("device", "cpu"),
        ("dtype", "float32"),
    ):
        parser.add_argument(f"--{name}", default=value)
    parser.add_argument("--cold", type=int, default=3)
    parser.add_argument("--warm", type=int, default=64)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
