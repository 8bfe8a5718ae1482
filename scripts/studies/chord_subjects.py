"""The networks and input balls that the cost of relaxation is measured on, and the measurements.

A subject is a network with some centres and the range its inputs are confined to. Random ones are drawn as the text of
Papamichail and others 2026 says: 100 inputs, hidden layers of 3 to 99 neurons, weights and biases uniform in [-1, 1],
each independent; with 10 outputs and a centre uniform in [-1, 1]^100. `published_subjects` are built as in the authors'
public code (github.com/merkouris148/worst-case-convex-approx-error): centre 0, ReLUs on the outputs as well, and every
layer's weights, and its biases, from a generator that starts anew with the same seed. Trained ones are
the digit networks in `examples/`, at the images of their properties, and mnist_fc's, at those of the benchmark's
properties, where the environment variable PARTITA_BENCH names a folder of families of VNN-COMP instances.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from partita.problems.network.activation import ReLU
from partita.problems.network.graph import Graph, Input
from partita.problems.network.library import Nodes, random_network
from partita.problems.onnx.file import load_onnx
from partita.problems.properties.vnnlib import load_property
from partita.relaxations.bound import bound
from partita.relaxations.studies.chord import Chords, chords, divergence, greatest_divergence, outputs
from partita.relaxations.studies.chord_error import interval_width, recursive_error, telescoped_error

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
INPUTS, OUTPUTS, WIDTHS = 100, 10, (3, 99)
COMMAND = "partita study cost_of_relaxation"
KINDS = ("centre", "found", "telescoped", "recursive", "width")  # of `Measured`: what samples reach, and bounds


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with centres (C, D) of input balls, confined to a range."""

    name: str
    graph: Graph
    centres: Tensor
    range: tuple[float, float] = (-np.inf, np.inf)

    def box(self, radius: float, centre: int = 0) -> tuple[Tensor, Tensor]:
        """The ball's bounds."""
        x = self.centres[centre]
        return (x - radius).clamp(*self.range), (x + radius).clamp(*self.range)


def random_subject(depth: int, draw: int = 0) -> Subject:
    """A random network with `depth` hidden layers; the same `depth` and `draw` give the same network."""
    random = np.random.default_rng((draw, depth))
    widths = (INPUTS, *random.integers(WIDTHS[0], WIDTHS[1] + 1, depth), OUTPUTS)
    graph = random_network(widths, int(random.integers(1 << 31)), "uniform")
    return Subject(f"random, depth {depth}", graph, torch.from_numpy(random.uniform(-1, 1, (1, INPUTS))))


def published_subjects(deepest: int, seed: int = 0) -> list[Subject]:
    """Networks with 1, 2, .. `deepest` hidden layers, as the authors' code makes them from one seed."""
    random, found = np.random.RandomState(seed), []
    for depth in range(1, deepest + 1):
        widths = (INPUTS, *random.randint(WIDTHS[0], WIDTHS[1] + 1, depth).tolist(), OUTPUTS)
        nodes, at = Nodes([Input(INPUTS)]), 0
        for n, m in pairwise(widths):
            weight = np.random.default_rng(seed).uniform(-1, 1, (n, m)).T
            at = nodes.affine([(at, weight)], np.random.default_rng(seed).uniform(-1, 1, m))
            at = nodes.activation(at, ReLU())
        nodes.affine([(at, np.eye(OUTPUTS))], np.zeros(OUTPUTS), "output")
        found.append(Subject(f"published, depth {depth}", nodes.graph(), torch.zeros(1, INPUTS, dtype=torch.float64)))
    return found


def hidden_widths(subject: Subject) -> list[int]:
    """Neurons of each layer."""
    return [layer.size for layer in subject.graph.layers]


def trained_subjects() -> list[Subject]:
    """The networks in `examples/`, with the images of their properties."""
    return [
        _from_files(name, EXAMPLES / f"{name}.onnx", sorted(EXAMPLES.glob(f"{name}_*_0.*.vnnlib")))
        for name in ("digits_relu", "digits_conv")
    ]


def benchmark_subjects() -> tuple[list[Subject], str]:
    """mnist_fc's networks, and a sentence on where they come from or why they are missing."""
    folder = Path(os.environ.get("PARTITA_BENCH", "")) / "mnist_fc"
    if not os.environ.get("PARTITA_BENCH") or not folder.is_dir():
        return [], (
            "mnist_fc is left out: set PARTITA_BENCH to a folder of families of VNN-COMP instances to include it."
        )
    properties = sorted((folder / "vnnlib").glob("prop_*_0.03.vnnlib*"))
    networks = [("mnist_256x" + k, folder / "onnx" / f"mnist-net_256x{k}.onnx.gz") for k in "246"]
    return [_from_files(name, path, properties) for name, path in networks], "mnist_fc comes from PARTITA_BENCH."


def _from_files(name: str, network: Path, properties: list[Path]) -> Subject:
    graph, centres = load_onnx(network, check=False), {}
    for path in properties:
        case = load_property(path, graph.input_size, graph.output_size).cases[0].inputs
        radius = (case.upper - case.lower).max() / 2
        centre = np.where(case.lower > 0, case.lower + radius, case.upper - radius)  # boxes are cut off at 0 and at 1
        centres.setdefault(tuple(np.round(centre, 4)), centre)
    return Subject(name, graph, torch.from_numpy(np.stack(list(centres.values()))), (0.0, 1.0))


@dataclass(frozen=True)
class Measured:
    """Of one element of the lattice over one ball: what samples reach and what is proved of E."""

    centre: float
    found: float
    telescoped: float
    recursive: float
    width: float


def drawn(subject: Subject, radius: float, centre: int = 0, rule: str = "ibp") -> Chords:
    """The chords over a ball, between the bounds of a relaxation."""
    lower, upper = subject.box(radius, centre)
    if rule == "ibp":
        return chords(subject.graph, lower, upper)
    layers = bound(subject.graph, (lower.numpy(), upper.numpy()), rule).layers
    pre = (np.concatenate([layer.lower for layer in layers]), np.concatenate([layer.upper for layer in layers]))
    return chords(subject.graph, lower, upper, tuple(map(torch.from_numpy, pre)))


@torch.no_grad()
def measured(made: Chords, which: Tensor | None = None, seed: int = 0) -> Measured:
    """The top's divergences, or those of the element `which`."""
    which = made.top if which is None else which
    middle = (made.lower + made.upper) / 2
    return Measured(
        divergence(made, middle, which).item(),
        greatest_divergence(made, which, seed=seed)[0].item(),
        telescoped_error(made, which).max().item(),
        recursive_error(made, which).max().item(),
        interval_width(made).max().item(),
    )


@torch.no_grad()
def at_centre(subject: Subject, radius: float = 1.0) -> float:
    """The top's divergence at the ball's centre, chords between interval bounds."""
    made = drawn(subject, radius)
    return divergence(made, (made.lower + made.upper) / 2, made.top).item()


def spread(subject: Subject, radius: float, points: int = 512, seed: int = 0) -> float:
    """The largest standard deviation of the network's own outputs on the ball."""
    return subject.graph(_points(*subject.box(radius), points, seed)).std(0).max().item()


@torch.no_grad()
def changed(made: Chords, points: int, seed: int = 0) -> float:
    """The share of the ball on which the all-chord network names another class than the network."""
    x = _points(made.lower, made.upper, points, seed)
    return (outputs(made, x, made.top).argmax(-1) != made.graph(x).argmax(-1)).double().mean().item()


@torch.no_grad()
def proved_unchanged(made: Chords) -> bool:
    """Whether the bounds alone prove that no class changes on the ball: CROWN's margins of the network against the
    telescoped bounds of its divergence. Outward rounded but for the last subtraction."""
    label = int(made.graph((made.lower + made.upper) / 2).argmax())
    others = [k for k in range(made.graph.output_size) if k != label]
    unit = np.eye(made.graph.output_size)
    margins = bound(made.graph, (made.lower.numpy(), made.upper.numpy()), "crown", unit[label] - unit[others]).lower
    apart = telescoped_error(made, made.top).numpy()
    return bool((margins > apart[label] + apart[others]).all())


def _points(lower: Tensor, upper: Tensor, count: int, seed: int) -> Tensor:
    t = torch.rand(count, len(lower), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return lower + t * (upper - lower)
