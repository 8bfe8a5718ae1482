"""The conventions that a partition's size depends on, which every comparison states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...problems.errors import BadInput
from ...problems.given import is_number
from ...problems.network.graph import Graph
from ...relaxations.lp.backends import NAMES as BACKENDS
from ...relaxations.names import Name, parse
from ...relaxations.protocol import AbstractRelaxation
from .exact_goal import NOTIONS, Notion
from .grow import INPUT_RULES, NEURON_RULES, SIMPLE

PIECES = ("activation", "input", "polyhedral")
INTERVALS = ("tight", "crown")
CELLS = ("open", "all")


@dataclass(frozen=True)
class Conventions:
    """What is counted: see `partition`. Raises `BadInput` for what is no convention."""

    notion: Notion = field(default_factory=Notion)
    pieces: str = "activation"
    branching: str = "all"
    intervals: str = "tight"
    cells: str = "open"

    def __post_init__(self) -> None:
        rules = INPUT_RULES if self.pieces == "input" else (*NEURON_RULES, "optimal")
        for what, value, known in (
            ("exactness", self.notion.exactness, NOTIONS),
            ("pieces", self.pieces, PIECES),
            ("branching", self.branching, (*rules, "all")),
            ("intervals", self.intervals, INTERVALS),
            ("cells", self.cells, CELLS),
            ("backend", self.notion.backend, BACKENDS),
        ):
            if not isinstance(value, str) or value not in known:
                raise BadInput(f"{what} must be one of {', '.join(known)}, not '{value}'")
        if self.notion.threshold is not None and self.notion.exactness != "threshold":
            raise BadInput("a threshold goes with exactness=threshold")
        for what, number in (("threshold", self.notion.threshold), ("tolerance", self.notion.tolerance)):
            if number is not None and not (is_number(number) and np.isfinite(number)):
                raise BadInput(f"{what} must be a finite number, not {number!r}")
        if not self.notion.tolerance > 0:
            raise BadInput(f"tolerance must be a positive number, not {self.notion.tolerance}")

    @property
    def rules(self) -> tuple[str, ...]:
        """The branching rules, a tree each."""
        return SIMPLE[self.pieces] if self.branching == "all" else (self.branching,)

    def stated(self, relaxations: Sequence[str | AbstractRelaxation]) -> tuple[tuple[str, str], ...]:
        """The four conventions that a count of pieces depends on, and two more that a tree does."""
        near = f"within {self.notion.tolerance:g}, absolute or of the value, whichever is more"
        notion = {
            "min": f"the least bound over the leaves is the exact minimum of each, {near}",
            "max": f"the greatest bound over the leaves is the exact maximum of each, {near}",
            "both": f"the bounds over the leaves are the exact minimum and maximum of each, {near}",
            "threshold": "every unsafe set is excluded on every leaf by a positive row, or a strict one not below 0"
            if self.notion.threshold is None
            else f"each is proved to be at least {self.notion.threshold:g} on every leaf",
        }[self.notion.exactness]
        piece = {
            "activation": "an activation branch: X with some neurons decided",
            "input": "a box, by bisecting sides",
            "polyhedral": "a polytope, X cut along neurons' hyperplanes",
        }[self.pieces]
        counted = (
            "those that have an interior relative to the affine hull of X"
            if self.pieces == "input"
            else "proper ones: with z <= 0 for inactive and z > 0 for active neurons they have an interior relative to "
            "the affine hull of X; 'closed' have one with z >= 0 only, 'flat' have points and none, 'empty' have no "
            "point"
        )
        rule = {
            "all": f"the simple heuristics {', '.join(SIMPLE[self.pieces])}, each with its own tree; "
            "none is the smallest",
            "optimal": "the smallest tree, found by exhaustive search",
        }.get(self.branching, f"the heuristic {self.branching}; the tree need not be the smallest")
        a = {
            "open": "sign patterns of all neurons whose cell has non-empty interior in X",
            "all": "sign patterns of all neurons, cells of lower dimension included",
        }.get(self.cells, self.cells)
        found = [("exactness", notion), ("piece", piece), ("leaves", counted), ("branching", rule), ("A(f, X)", a)]
        if any(part.rung.kind == "program" for relaxation in relaxations for part in _named(relaxation)):
            how = (
                "two programs for each undecided neuron on every piece"
                if self.intervals == "tight"
                else "those of crown on the piece"
            )
            found.append(("pre-activation intervals of programs", how))
        return tuple(found)


def check_relaxations(names: Sequence[str | AbstractRelaxation]) -> None:
    """Raises `BadInput` for relaxations that have no measured tree."""
    if isinstance(names, str) or not names:
        raise BadInput("relaxations is a list of names, at least one, such as ['triangle', 'm-1']")
    for name in names:
        parts = _named(name)
        if any(part.rung.kind == "integer" for part in parts):
            raise BadInput(
                f"{name} needs no partition: its tree is one piece, and it is what the others are held against"
            )
        if len({part.rung.name for part in parts}) > 1 and any(part.rung.batched for part in parts):
            raise BadInput(f"'{name}' joins a batched relaxation with programs, which are at least as tight alone")


def _named(relaxation: str | AbstractRelaxation) -> tuple[Name, ...]:
    """The entries of the catalogue that it is made of."""
    return () if isinstance(relaxation, AbstractRelaxation) else parse(relaxation)


def check_network(graph: Graph) -> None:
    """Raises `BadInput` for networks without activation patterns."""
    graph.check_univariate("a measured tree")
    for layer in graph.layers:
        if layer.function.leak is None:
            name = layer.name or "Activation"
            raise BadInput(
                f"layer {name!r} is not piecewise linear, so it has no activation patterns to hold a partition against"
            )
