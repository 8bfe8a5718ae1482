"""What study 6 measures: networks with input sets, small enough for trees of linear programs.

Trained networks are met on boxes around the centre of an input set of theirs, as large as `MOST` undecided neurons
allow, because a linear program a piece ends at some dozen. The networks of `examples/` come with the repository; those
of the competition's benchmarks are looked for in the folder that the environment variable PARTITA_BENCH names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partita.problems.load import load_network, load_property_for
from partita.problems.network.graph import Graph
from partita.problems.network.library import random_network
from partita.problems.properties.property import Polytope
from partita.relaxations.bound import bound

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WIDTHS = ((2, 4, 3, 1), (2, 6, 4, 1), (3, 4, 3, 1), (3, 7, 1), (2, 3, 3, 3, 1))
MOST = 8
TRAINED = (("digits_relu.onnx", "digits_relu_256_0.02.vnnlib"), ("digits_conv.onnx", "digits_conv_256_0.02.vnnlib"))
REAL = (
    ("acasxu", "ACASXU_run2a_1_1_batch_2000", "prop_1"),
    ("acasxu", "ACASXU_run2a_3_3_batch_2000", "prop_1"),
    ("rl_benchmarks", "cartpole", "cartpole_case_safe_49"),
    ("reach_prob_density", "vdp", "vdp_0"),
    ("reach_prob_density", "robot", "robot_0"),
)


@dataclass(frozen=True, eq=False)
class Subject:
    """A network on an input set; of its output the first entry is bounded."""

    name: str
    graph: Graph
    inputs: Polytope
    share: float = 1.0  # of the width of the set it is a box in


def cube(d: int, low: float = -1.0) -> Polytope:
    return Polytope(np.full(d, low), np.ones(d))


def random_subjects(seed: int, each: int = 5) -> list[Subject]:
    """`each` networks of every shape of `WIDTHS`."""
    return [
        Subject("-".join(map(str, widths)), random_network(widths, 100 * seed + s), cube(widths[0]))
        for widths in WIDTHS
        for s in range(each)
    ]


def trained_subjects() -> Iterator[Subject]:
    """The repository's digit classifiers near one image."""
    for network, prop in TRAINED:
        yield shrunk(network.removesuffix(".onnx"), EXAMPLES / network, EXAMPLES / prop)


def real_subjects() -> tuple[list[Subject], str]:
    """Networks of the competition's benchmarks with few inputs, and a sentence where some or all are not here."""
    folder = os.environ.get("PARTITA_BENCH")
    if folder is None or not Path(folder).is_dir():
        return [], "Benchmark networks were left out: PARTITA_BENCH does not name a folder with their families."
    found, missing = [], []
    for family, network, prop in REAL:
        files = [
            next(iter(sorted(Path(folder, family).glob(f"{kind}/{stem}.*"))), None)
            for kind, stem in (("onnx", network), ("vnnlib", prop))
        ]
        if None in files:
            missing.append(network)
        else:
            found.append(
                shrunk(f"{family}: {network.removeprefix('ACASXU_run2a_').removesuffix('_batch_2000')}", *files)
            )
    return found, f"Not found in the benchmark folder: {', '.join(missing)}." if missing else ""


def shrunk(name: str, network: Path, prop: Path) -> Subject:
    """The largest of the boxes 1, 1/2, 1/4, .. times the property's input set, around its centre, on which at most
    `MOST` neurons and at least one are undecided by crown's bounds."""
    graph, _ = load_network(network)
    inputs = load_property_for(graph, prop).cases[0].inputs
    centre, radius = (inputs.lower + inputs.upper) / 2, (inputs.upper - inputs.lower) / 2
    kept = None
    for halvings in range(40):
        share = 0.5**halvings
        box = Polytope(centre - share * radius, centre + share * radius)
        undecided = sum(map(len, bound(graph, box, "crown").unstable))
        if 0 < undecided <= MOST:
            return Subject(name, graph, box, share)
        if undecided:
            kept = Subject(name, graph, box, share)
        elif kept is not None:
            return _between(kept, centre, radius, share)
    raise ValueError(f"{name}: no box has between 1 and {MOST} undecided neurons")


def _between(large: Subject, centre: np.ndarray, radius: np.ndarray, small: float) -> Subject:
    """The same by bisection, where one halving takes all undecided neurons away."""
    low, high = small, large.share
    for _ in range(40):
        share = (low + high) / 2
        box = Polytope(centre - share * radius, centre + share * radius)
        undecided = sum(map(len, bound(large.graph, box, "crown").unstable))
        if 0 < undecided <= MOST:
            return Subject(large.name, large.graph, box, share)
        low, high = (low, share) if undecided else (share, high)
    raise ValueError(f"{large.name}: no box has between 1 and {MOST} undecided neurons")
