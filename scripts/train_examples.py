"""Makes the folder `examples/`: small digit classifiers, and robustness properties with known answers.

Three networks (ReLU 64-24-24-10; two convolutions and a linear layer; sigmoid 64-16-16-10) learn scikit-learn's 8 x 8
digits for some seconds; everything is seeded, on one thread; the answers take a minute. For test images that a
network classifies correctly it writes "no image within r, pixel by pixel, is scored as high for another digit" twice:
for the largest radius of a grid at which that is known to hold, and for the smallest at which it does not (and once a
network for an easy radius). `sat` stands on a counterexample that onnxruntime confirms or on mixed-integer programming
(`ladder.exact`), `unsat` on CROWN bounds or on that program. For the sigmoid network, which the program cannot
express, radii at which neither attack nor bounds succeed are left out.

Two more for the ReLU network's first image: the violated radius again, but cut by two half-spaces that keep the mean
brightness (a polytope that is no box); and the radius that holds, in VNN-LIB 2.0.

    python scripts/train_examples.py [--out examples]
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from partita.bab.attack.descent import Attack
from partita.bab.attack.witness import Judge
from partita.problems.network.graph import Graph
from partita.problems.originals.original import original_of
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet
from partita.problems.torch.module import from_torch
from partita.relaxations.ladder.exact import feasible_unsafe
from partita.relaxations.linear.root import root
from partita.relaxations.types import Rows

SEED, CLASSES, PIXELS = 0, 10, 64
RADII = np.round(np.arange(0.01, 0.4, 0.01), 2)
TIMEOUT = 60
Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Digits:
    """Images with values in [0, 1], (n, 64), and labels (n,)."""

    train: torch.Tensor
    train_labels: torch.Tensor
    test: torch.Tensor
    test_labels: torch.Tensor
    test_numbers: list[int]  # their places in scikit-learn's data


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network as graph, and as the file that is written."""

    name: str
    graph: Graph
    data: bytes


@dataclass(frozen=True)
class Instance:
    """A row of instances.csv."""

    network: str
    property: str
    expected: str  # sat or unsat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "examples")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    digits, instances = load_digits(), []
    for name, module in architectures().items():
        network = trained(name, module, digits)
        (out / f"{name}.onnx").write_bytes(network.data)
        instances += write_properties(network, digits, out)
    with open(out / "instances.csv", "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("onnx", "vnnlib", "timeout_s", "expected"))
        rows.writerows((i.network, i.property, TIMEOUT, i.expected) for i in instances)
    for instance in instances:
        print(f"{instance.network:24}{instance.property:44}{instance.expected}")


# ---- networks


def load_digits() -> Digits:
    """scikit-learn's digits, four fifths of them to learn from."""
    from sklearn.datasets import load_digits as digits

    images, labels = digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(images))
    x = torch.tensor(images[order] / 16, dtype=torch.float32)
    y = torch.tensor(labels[order])
    cut = len(x) * 4 // 5
    return Digits(x[:cut], y[:cut], x[cut:], y[cut:], order[cut:].tolist())


def architectures() -> dict[str, nn.Module]:
    """The networks, untrained; each takes (n, 64), the second as (n, 1, 8, 8)."""
    torch.manual_seed(SEED)
    return {
        "digits_relu": nn.Sequential(
            nn.Linear(PIXELS, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, CLASSES)
        ),
        "digits_conv": nn.Sequential(
            *(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(32, CLASSES)),
        ),
        "digits_sigmoid": nn.Sequential(
            nn.Linear(PIXELS, 16), nn.Sigmoid(), nn.Linear(16, 16), nn.Sigmoid(), nn.Linear(16, CLASSES)
        ),
    }


def trained(name: str, module: nn.Module, digits: Digits, epochs: int = 60) -> Network:
    """The module after training on images with uniform noise, which makes it somewhat robust."""
    random = torch.Generator().manual_seed(SEED)
    optimiser = torch.optim.AdamW(module.parameters(), lr=5e-3, weight_decay=1e-2)
    shape = (-1, 1, 8, 8) if isinstance(module[0], nn.Conv2d) else (-1, PIXELS)
    for _ in range(epochs):
        for batch in torch.randperm(len(digits.train), generator=random).split(64):
            noise = 0.3 * (2 * torch.rand(len(batch), PIXELS, generator=random) - 1)
            scores = module((digits.train[batch] + noise).clamp(0, 1).reshape(shape))
            optimiser.zero_grad()
            nn.functional.cross_entropy(scores, digits.train_labels[batch]).backward()
            optimiser.step()
    module.eval().requires_grad_(False)
    accuracy = (module(digits.test.reshape(shape)).argmax(1) == digits.test_labels).double().mean()
    print(f"{name}: {100 * accuracy:.1f} % of the test images")
    graph, data = from_torch(module, digits.test[:1].reshape(shape))
    return Network(name, graph, data)


# ---- answers


def answer(network: Network, prop: Property) -> str | None:
    """`sat` or `unsat`; None where the network is smooth and neither bounds nor the attack succeed."""
    if Attack(network.graph, Judge(network.graph, prop, original_of(network.data)), SEED).search(restarts=50, steps=60):
        return "sat"
    (case,) = prop.cases
    if not len(case.inputs.normals):
        rows = np.concatenate([unsafe.rows for unsafe in case.unsafe])
        if crown_minimum(network.graph, case.inputs, rows) > 0:
            return "unsat"
    return None if network.name == "digits_sigmoid" else by_programming(network, prop)


def by_programming(network: Network, prop: Property) -> str:
    """The answer of mixed-integer programming."""
    (case,) = prop.cases
    for unsafe in case.unsafe:
        found = feasible_unsafe(network.graph, case.inputs, unsafe)
        if found.attained:
            return "sat"
        if not found.positive:
            raise RuntimeError(f"the program for {prop.name} is too close to call: {found}")
    return "unsat"


def crown_minimum(graph: Graph, inputs: Polytope, rows: Array) -> float:  # (R, n_out)
    """A lower bound on the least row over the box."""
    linear, piece, *_ = root(graph, torch.from_numpy(inputs.lower), torch.from_numpy(inputs.upper))
    c = torch.from_numpy(rows)[None]
    result = linear.bound(piece, Rows(c, torch.zeros(c.shape[:2], dtype=c.dtype))).result
    return float((result.lower - result.slack).min())


# ---- properties


def write_properties(network: Network, digits: Digits, out: Path) -> list[Instance]:
    """Properties around three images, each with a radius that holds and one that does not."""
    scores = network.graph(digits.test.double())
    correct = torch.nonzero(scores.argmax(1) == digits.test_labels)[:3, 0].tolist()
    made = []
    for place in correct:
        centre, label = digits.test[place].double().numpy(), int(digits.test_labels[place])
        image = digits.test_numbers[place]
        answers = {}
        for radius in RADII:
            answers[radius] = answer(network, box(centre, radius, label))
            if answers[radius] == "sat":
                break
        holds, violated = (max(r for r, a in answers.items() if a == verdict) for verdict in ("unsat", "sat"))
        easy = [(RADII[1], "unsat")] if place == correct[0] else []
        for radius, verdict in (*easy, (holds, "unsat"), (violated, "sat")):
            text = version_1(box(centre, radius, label), label, f"image {image}, radius {radius}: expected {verdict}")
            made.append(write(out, network, f"{network.name}_{image}_{radius:.2f}.vnnlib", text, verdict))
        if place == correct[0] and network.name == "digits_relu":
            cut = same_brightness(box(centre, violated, label), centre)
            verdict = answer(network, cut)
            text = version_1(cut, label, f"image {image}, radius {violated}, mean brightness kept: expected {verdict}")
            made.append(write(out, network, f"{network.name}_{image}_brightness.vnnlib", text, verdict))
            text = version_2(box(centre, holds, label), label, network.name)
            made.append(write(out, network, f"{network.name}_{image}_version2.vnnlib", text, "unsat"))
    return made


def write(out: Path, network: Network, name: str, text: str, verdict: str) -> Instance:
    (out / name).write_text(text, encoding="utf-8")
    return Instance(f"{network.name}.onnx", name, verdict)


def box(centre: Array, radius: float, label: int) -> Property:
    """No image within the radius may score another digit as high as `label`; numbers with six decimals."""
    lower, upper = (np.round(np.clip(centre + side * radius, 0, 1), 6) for side in (-1, 1))
    others = [c for c in range(CLASSES) if c != label]
    rows = np.eye(CLASSES)[[label]] - np.eye(CLASSES)[others]
    unsafe = tuple(UnsafeSet(row[None], np.zeros(1)) for row in rows)
    return Property((Case(Polytope(lower, upper), unsafe),), PIXELS, CLASSES, f"label {label} within {radius}")


def same_brightness(prop: Property, centre: Array) -> Property:
    """The same, for images whose pixels add up to those of the centre within 0.1."""
    (case,) = prop.cases
    normals = np.stack([np.ones(PIXELS), -np.ones(PIXELS)])
    total = np.round(centre.sum(), 6)
    polytope = Polytope(case.inputs.lower, case.inputs.upper, normals, np.array([total + 0.1, 0.1 - total]).round(6))
    return Property((Case(polytope, case.unsafe),), PIXELS, CLASSES, prop.name)


def version_1(prop: Property, label: int, comment: str) -> str:
    """The property in VNN-LIB 1.0."""
    (case,) = prop.cases
    lines = [f"; scikit-learn digits, {comment}", ""]
    lines += [f"(declare-const X_{i} Real)" for i in range(PIXELS)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(CLASSES)] + [""]
    for i, (low, high) in enumerate(zip(case.inputs.lower, case.inputs.upper, strict=True)):
        lines += [f"(assert (>= X_{i} {low:.6f}))", f"(assert (<= X_{i} {high:.6f}))"]
    everything = "(+ " + " ".join(f"X_{i}" for i in range(PIXELS)) + ")"
    if len(case.inputs.normals):
        high, low = case.inputs.offsets[0], -case.inputs.offsets[1]
        lines += ["", f"(assert (<= {everything} {high:.6f}))", f"(assert (>= {everything} {low:.6f}))"]
    others = [f"    (and (>= Y_{c} Y_{label}))" for c in range(CLASSES) if c != label]
    return "\n".join([*lines, "", "(assert (or", *others, "))", ""])


def version_2(prop: Property, label: int, name: str) -> str:
    """A box property in VNN-LIB 2.0."""
    (case,) = prop.cases
    lines = [
        "(vnnlib-version <2.0>)",
        f"(declare-network {name}",
        f"    (declare-input X float32 [1,{PIXELS}])",
        f"    (declare-output Y float32 [1,{CLASSES}])",
        ")",
    ]
    for i, (low, high) in enumerate(zip(case.inputs.lower, case.inputs.upper, strict=True)):
        lines += [f"(assert (>= X[0,{i}] {low:.6f}))", f"(assert (<= X[0,{i}] {high:.6f}))"]
    others = [f"    (>= Y[0,{c}] Y[0,{label}])" for c in range(CLASSES) if c != label]
    return "\n".join([*lines, "(assert (or", *others, "))", ""])


if __name__ == "__main__":
    main()
