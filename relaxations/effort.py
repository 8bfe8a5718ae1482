"""How hard the relaxations try: linear bounds, rows of several neurons, leaves.

See `problems.effort` on what such groups are, and docs/effort.md for all of them on one page.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..problems.effort import Group, tried


@dataclass(frozen=True)
class LinearEffort(Group):
    """Of linear bounds and their optimised slopes and multipliers."""

    momentum: float = tried(0.9, "Adam's usual value: how much of the mean gradient a step keeps", 0.0, 0.999)
    second: float = tried(0.999, "Adam's usual value: how much of the mean squared gradient a step keeps", 0.0, 0.99999)
    decay: float = tried(
        0.98, "of step sizes from one step to the next; that of alpha-CROWN (Wang et al. 2021)", 0.0, 1.0
    )
    sweeps: int = tried(
        2, "passes over a piece's half-spaces when a form is minimised; the first is most of it", 1, 100
    )
    forward: int = tried(16, "inputs up to which layers may be bounded forward first; measured on acasxu", 0)


@dataclass(frozen=True)
class RowEffort(Group):
    """Of rows that tie several neurons together."""

    rounds: int = tried(8, "of rows for the objectives; the gap hardly moves after", 0)
    steps: int = tried(10, "of optimisation before each round and after the last", 0)
    refining_steps: int = tried(20, "of optimisation when layers are refined with rows: good ones to start with", 0)
    refining: int = tried(2048, "rows that layers are refined with: of ten thousand most are worth nothing", 1)
    speakers: int = tried(128, "neurons of a layer that ask for rows when it is refined; measured on mnist_fc", 0)
    again: float = tried(0.1, "share of the gap left that a refinement must close, or it was the last", 0.0, 1.0)
    worth: float = tried(0.3, "share of the gap that rows must close before layers are refined with them", 0.0, 1.0)
    broken: float = tried(1e-4, "violation that makes a row worth having, relative to the neuron's largest value", 0.0)
    group_rows: int = tried(8, "rows of one group's hull, those first that cut off most", 1)


@dataclass(frozen=True)
class LeafEffort(Group):
    """Of pieces with every neuron decided: the linear program, and the same question in whole numbers."""

    cuts: int = tried(200, "phases that one round adds to the program; a few hundred columns are solved in no time", 1)
    rounds: int = tried(200, "of phases, after which a leaf stays undecided; far more than any leaf has needed", 1)
    broken: float = tried(
        1e-9, "by which a phase must be broken to be added, of the neuron's range: solvers' tolerance", 0.0
    )
    products: int = tried(4_000_000, "of weights and coefficients up to which exact arithmetic is tried: seconds", 0)
    entries: int = tried(20_000, "of its tableau, (inputs + 2) (inputs + neurons + rows): seconds", 0)
    digits: int = tried(20_000, "bits of the common denominator of the input set's numbers there", 0)
    seconds: float = tried(10.0, "that exact arithmetic may take for one question", 0.0)
    programs: int = tried(2_000, "in whole numbers, for neurons that are still open", 0)


@dataclass(frozen=True)
class BoundEffort(Group):
    """All of them; a `Linear` carries them to whatever bounds with it."""

    linear: LinearEffort = field(default_factory=LinearEffort)
    rows: RowEffort = field(default_factory=RowEffort)
    leaf: LeafEffort = field(default_factory=LeafEffort)


BOUNDS = BoundEffort()
LEAF = BOUNDS.leaf
