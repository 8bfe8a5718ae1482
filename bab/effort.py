"""How hard each part of a search tries: the section `effort` of the configuration, which is for experts.

See `problems.effort` on what such groups are, and docs/effort.md for all of them on one page.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..problems.effort import Group, tried
from ..relaxations.effort import BoundEffort


@dataclass(frozen=True)
class AttackEffort(Group):
    """Of the search for a counterexample, and of what is done with one before it is judged."""

    first: tuple[float, ...] = tried(
        (0.25, 0.25, 0.03), "first steps, in turn, in widths of the box: see `descent`", 0.0, 1.0
    )
    last: tuple[float, ...] = tried(
        (0.004, 0.0005, 0.0005), "last steps; long ones cross an image's box, short ones keep to a basin", 1e-9, 1.0
    )
    near_first: tuple[float, ...] = tried(
        (0.03, 0.1), "first steps from points that were given, which are near already", 0.0, 1.0
    )
    near_last: tuple[float, ...] = tried((0.0005, 0.002), "last steps from there", 1e-9, 1.0)
    leaks: tuple[float, ...] = tried(
        (0.0, 0.02, 0.0, 0.1, 0.0, 0.4),
        "slopes that gradients see in inactive neurons, in turn: half see what is there",
        0.0,
        1.0,
    )
    momentum: float = tried(0.75, "of gradients; below the 1.0 of Dong et al. (2018), by judgement", 0.0, 1.0)
    early: float = tried(0.25, "share of the time left that the first turn may take, before any bound", 0.0, 1.0)
    share: float = tried(0.08, "of the time of a search that turns of the attack take; by judgement", 0.0, 1.0)
    suspects: int = tried(64, "points where bounds are worst that are kept for a turn; by judgement", 1)
    samples: int = tried(8, "points that are evaluated for each one kept, which costs no gradient; by judgement", 1)
    quick: float = tried(2e7, "multiplications of one evaluation of all points of the first budget: about 10 ms", 1.0)
    fewest: int = tried(12, "points a goal at least, however dear an evaluation: two for each slope of `leaks`", 1)
    most: int = tried(1000, "points a goal at most in the first budget; by judgement", 1)
    growth: int = tried(16, "times the first budget's points is the most that any gets; by judgement", 1)
    steps: int = tried(20, "steps of the first budget, which later ones double; by judgement", 1)
    most_steps: int = tried(200, "steps of any budget: with falling strides more go nowhere", 1)
    variants: int = tried(24, "points at least from few given ones: all kinds of descent in turn", 1)
    candidates: int = tried(4, "points of one step that are put before the judge, the most promising; by judgement", 1)
    kept: int = tried(8, "points of which no half is dropped any more; by judgement", 1)
    refused: float = tried(
        1e-5,
        "of the largest output: how much deeper a point must be after one was refused: beyond float32's noise",
        0.0,
    )
    inside: float = tried(
        1e-3, "of a row's spread: how far below zero rows that are summed are still pushed; by judgement", 0.0
    )
    inset: float = tried(
        1e-4, "of a coordinate's width: how far inside the box a witness should lie; by judgement", 0.0, 0.5
    )
    moves: int = tried(12, "steps that move a candidate inside; by judgement", 0)
    moving: float = tried(0.02, "the first of them, in widths of the box; by judgement", 0.0, 1.0)
    slowing: float = tried(0.8, "ratio of these steps from one to the next; by judgement", 0.0, 1.0)
    comfortable: float = tried(1e-4, "of the largest output: a margin that no rounding reaches", 0.0)
    beside: float = tried(1e-6, "of a coordinate's width: how near to a border counts as on it; by judgement", 0.0, 0.5)
    pushes: tuple[float, ...] = tried(
        (1e-7, 1e-7, 1e-6, 1e-6, 1e-5, 1e-4),
        "beyond a half-space's border, relative to its size, in turn: from float32's noise up",
        0.0,
        1.0,
    )
    places: int = tried(
        25,
        "digits of a coordinate that solves a row of which the solution is no decimal: more than any file has",
        1,
        300,
    )
    second: float = tried(0.125, "share of the time that a hard root has taken that the second turn may take", 0.0, 1.0)
    second_budgets: int = tried(2, "budgets of the second turn, of those after the first; by judgement", 0)
    numbers: int = tried(1 << 22, "activations that one batch of points holds: 16 MB a layer in float32", 1)
    room: int = tried(1 << 26, "activations that no batch exceeds, but for a single point: 256 MB", 1)
    hopeless: float = tried(1e-9, "relative margin in float64 beyond which no exact judge calls a point unsafe", 0.0)
    hopeless_float32: float = tried(1e-3, "the same where onnxruntime alone judges, in float32", 0.0)
    products: int = tried(4_000_000, "multiplications up to which an evaluation is made exactly: half a second", 0)
    asked: int = tried(
        64, "points that the real numbers refuse which onnxruntime is asked about, for the record; by judgement", 0
    )


@dataclass(frozen=True)
class DerivingEffort(Group):
    """Of layers that are optimised, and rows that are found, once for many pieces."""

    steps: int = tried(10, "of optimised pre-activations and rows; by judgement", 0)
    rate: float = tried(0.2, "first step size of pre-activations: few steps, so long ones; by judgement", 0.0, 10.0)
    longest: float = tried(20.0, "seconds that each stage may take", 0.0)
    share: float = tried(0.2, "of the time there is that each stage may take", 0.0, 1.0)
    rows: int = tried(1024, "rows that the pieces carry at most: each is a multiplier a piece; by judgement", 1)


@dataclass(frozen=True)
class RootEffort(DerivingEffort):
    """Of the root of a tree of branches."""

    speakers: int = tried(16, "neurons of a layer that ask for rows; by judgement", 0)


@dataclass(frozen=True)
class BaseEffort(DerivingEffort):
    """Of new bases, which are derived from decisions that many pieces share."""

    levels: int = tried(3, "decisions that a base has more than the one it is derived from; measured on mnist_fc", 1)
    passes: int = tried(100, "backward passes in which rows are sought and optimised, where its price is counted", 0)
    call: float = tried(5.0, "pieces that a pass with few rows costs as much as, where its price is counted", 0.0)


@dataclass(frozen=True)
class RegionEffort(Group):
    """Of trees over regions of the input."""

    steps: int = tried(4, "of optimised slopes on the rows of open pieces: dear layers are bounded before", 0)
    rate: float = tried(0.3, "their first step size: few steps, so long ones; by judgement", 0.0, 10.0)
    half_spaces: int = tried(8, "that stay with a piece, the oldest go first (a piece only grows by that)", 1)
    finish_from: int = tried(10, "depth from which more undecided neurons are few: bisecting has had its chance", 0)
    finish_every: int = tried(4, "levels below it for one neuron more; by judgement", 1)


@dataclass(frozen=True)
class ChoiceEffort(Group):
    """Of the choice between the kinds of trees, and of the device."""

    inputs: int = tried(12, "inputs up to which regions are split: a dozen bisections make a network nearly linear", 0)
    deep: int = tried(256, "neurons an input from which twice as many inputs are few: one decision is hardly felt", 0)
    tiny: int = tried(4, "neurons an input up to which regions are split by deciding all: less than to bisect", 0)
    memory: float = tried(3.0, "GiB that a search on a CPU may hold where no memory is given", 0.01)
    device_share: float = tried(0.6, "of a GPU's free memory that it may hold there: others want some", 0.01, 1.0)


@dataclass(frozen=True)
class TreeEffort(Group):
    """Of the pieces of a tree."""

    first: int = tried(3, "batches with each way to bound before any is preferred; by judgement", 1)
    again: int = tried(64, "batches between two trials of the ways that are not preferred: 2 % of them", 1)
    patient: int = tried(4, "times the steps is the way that tries longer; by judgement", 1)


@dataclass(frozen=True)
class Effort(BoundEffort):
    """All groups, by the part that owns them."""

    choice: ChoiceEffort = field(default_factory=ChoiceEffort)
    regions: RegionEffort = field(default_factory=RegionEffort)
    root: RootEffort = field(default_factory=RootEffort)
    bases: BaseEffort = field(default_factory=BaseEffort)
    tree: TreeEffort = field(default_factory=TreeEffort)
    attack: AttackEffort = field(default_factory=AttackEffort)


ATTACK, BASES, REGIONS, TREE = AttackEffort(), BaseEffort(), RegionEffort(), TreeEffort()
