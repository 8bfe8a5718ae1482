"""Searches for the tests of devices: networks of every kind, with properties that need a tree, or float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
from networks import random_graph, random_property
from search import engine

from partita.bab.trees.phases import Phases
from partita.bab.trees.regions import Regions
from partita.problems.network.graph import Graph
from partita.problems.properties.property import Case, Property, UnsafeSet

KINDS = ("mlp", "residual", "conv", "maxpool", "sigmoid")


def searched(kind: str, inputs: int, seed: int = 1) -> tuple[Graph, Property]:
    """A network with `inputs` inputs (a square number for conv), and a property with two sets, half-spaces, and rows on
    which its bounds have something to do."""
    graph = random_graph(seed, kind, inputs=inputs, width=8, depth=2)
    radius, margin = (0.8, 0.0) if inputs <= 4 else (0.4, 1.0)
    return graph, random_property(seed, graph, radius=radius, halfspaces=1, cases=2, rows=2, margin=margin)


def moved(prop: Property, by: float) -> Property:
    """The property with every row's constant raised."""
    case = prop.cases[0]
    unsafe = tuple(UnsafeSet(u.rows, u.constants + by, u.on_input) for u in case.unsafe)
    return replace(prop, cases=(Case(case.inputs, unsafe),))


def within_rounding(graph: Graph, prop: Property, **options) -> Property:
    """The property, of one set with one row, moved so that it is missed at the root by less than the slack."""
    for _ in range(3):  # slopes may settle elsewhere when the row has moved
        tree = engine(graph, prop, device="cpu", blind=True, **options).tree
        result = tree.bound(tree.roots()).result
        lower, slack = float(result.lower[0, 0]), float(result.slack[0, 0])
        prop = moved(prop, -lower - 0.25 * slack)
    return prop


def one_row(kind: str, inputs: int, seed: int = 1) -> tuple[Graph, Property]:
    graph = random_graph(seed, kind, inputs=inputs, width=8, depth=2)
    return graph, random_property(seed, graph, radius=0.1)


@dataclass
class Confirmed:
    """What float64 was asked to confirm: the devices of records, how many pieces, how many it closed."""

    devices: set[str] = field(default_factory=set)
    trees: set[str] = field(default_factory=set)
    asked: int = 0
    closed: int = 0


@contextmanager
def confirmations(monkeypatch: pytest.MonkeyPatch) -> Iterator[Confirmed]:
    """Counts what trees of both kinds confirm."""
    seen = Confirmed()
    for kind in (Regions, Phases):

        def confirm(self, record, inner=kind.confirm, name=kind.__name__):
            found = inner(self, record)
            seen.devices |= {str(record.goal.device), str(found.device)}
            seen.trees.add(name)
            seen.asked, seen.closed = seen.asked + len(found), seen.closed + int(found.sum())
            return found

        monkeypatch.setattr(kind, "confirm", confirm)
    yield seen
