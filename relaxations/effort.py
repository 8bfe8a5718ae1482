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
    sweeps: int = tried(2, "passes over a piece's half-spaces when a form is minimised; by judgement", 1, 100)
    forward: int = tried(16, "inputs up to which layers may be bounded forward first: so far it costs a tenth", 0)


@dataclass(frozen=True)
class RowEffort(Group):
    """Of rows that tie several neurons together."""

    rounds: int = tried(8, "of rows for the objectives; by judgement", 0)
    steps: int = tried(10, "of optimisation before each round and after the last; by judgement", 0)
    refining_steps: int = tried(
        20, "of optimisation when layers are refined again: twice the first, as good rows are there to start with", 0
    )
    refining: int = tried(
        2048, "rows that layers are refined with: convolutions have ten thousand, most worth nothing", 1
    )
    speakers: int = tried(
        128, "neurons of a layer that ask for rows when it is refined; by the gap on mnist_fc 256x4", 0
    )
    again: float = tried(
        0.1, "share of the gap left that a refinement must close, or it was the last; by judgement", 0.0, 1.0
    )
    worth: float = tried(
        0.3, "share of the gap that rows must close before layers are refined with them; by judgement", 0.0, 1.0
    )
    broken: float = tried(
        1e-4, "violation that makes a row worth having, relative to the neuron's largest value; by judgement", 0.0
    )
    group_rows: int = tried(8, "rows of one group's hull, those that cut off most; by judgement", 1)


@dataclass(frozen=True)
class LeafEffort(Group):
    """Of pieces with every neuron decided: the linear program, and the same question in whole numbers."""

    cuts: int = tried(200, "phases that one round adds to the program; far fewer than all are usually needed", 1)
    rounds: int = tried(200, "of phases, after which a leaf stays undecided; with 200 phases each, 40,000 neurons", 1)
    broken: float = tried(
        1e-9, "by which a phase must be broken to be added, of the neuron's range: the solver's own tolerance", 0.0
    )
    products: int = tried(
        4_000_000, "products of weights and coefficients up to which exact arithmetic is tried: some seconds", 0
    )
    entries: int = tried(20_000, "entries of its tableau, (inputs + 2) (inputs + neurons + rows): some seconds", 0)
    digits: int = tried(20_000, "bits of the common denominator of the input set's numbers there; by judgement", 0)
    seconds: float = tried(10.0, "seconds that exact arithmetic may take for one question: it is asked of few", 0.0)
    programs: int = tried(2_000, "programs in whole numbers, for neurons that are still open; by judgement", 0)


@dataclass(frozen=True)
class BoundEffort(Group):
    """All of them; a `Linear` carries them to whatever bounds with it."""

    linear: LinearEffort = field(default_factory=LinearEffort)
    rows: RowEffort = field(default_factory=RowEffort)
    leaf: LeafEffort = field(default_factory=LeafEffort)


BOUNDS = BoundEffort()
LEAF = BOUNDS.leaf
