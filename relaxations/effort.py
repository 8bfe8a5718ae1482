"""How hard the relaxations try: linear bounds, rows of several neurons, linear programs, leaves, twins.

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
    gpu: int = tried(20_000, "neurons from which `auto` takes a GPU: below, its calls cost more; by judgement", 0)
    share: float = tried(0.7, "of the time left that the root's layers may take: the rest is for rows", 0.0, 1.0)
    rate: float = tried(0.1, "first step size of slopes where none is asked for: alpha-CROWN's", 0.0, 10.0)
    decided_rate: float = tried(0.1, "first step size of decided neurons' multipliers: beta-CROWN's", 0.0, 10.0)
    rows_rate: float = tried(0.05, "first step size of rows' multipliers, in units of their scale", 0.0, 10.0)
    chunk: int = tried(1 << 22, "elements of one coefficient tensor, larger ones come in chunks: 16 MB, four live", 1)
    fewest: int = tried(32, "pieces of like width that go together: fewer cost more in calls than they save", 1)
    parts: int = tried(1 << 24, "elements of a coefficient tensor where a whole input set is bounded: 64 MB", 1)
    intervals: int = tried(5, "times that intervals may be computed again after layers were bounded: spare time", 0)
    reach: int = tried(1 << 28, "entries of all neurons' forms that say which input to blame: 1 GB; beyond, widths", 0)


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
    k_relu: int = tried(64, "groups of one layer, disjoint ones (k-relu); by judgement", 1)
    prima: int = tried(128, "groups of one layer, overlapping ones (prima): twice as many, as neurons repeat", 1)
    pool: int = tried(200, "neurons of a layer, those that lose most, from which groups are made; by judgement", 1)
    part: int = tried(20, "neurons side by side that groups are made of where none loses: PRIMA's parts", 5, 40)
    elements: int = tried(1 << 22, "elements of one tensor where rows are made: 16 MB in float32", 1)


@dataclass(frozen=True)
class ProgramEffort(Group):
    """Of linear programs over a piece and what is added to them."""

    rounds: int = tried(40, "of cutting planes for one objective; by judgement", 0)
    patience: int = tried(5, "rounds judged together: the optimum may stay where it is, at another vertex", 1)
    brief_rounds: int = tried(10, "of cutting planes for a bound on the way; by judgement", 0)
    brief_patience: int = tried(3, "rounds that are judged together there", 1)
    gain: float = tried(1e-3, "by which these rounds must move the optimum, relative to its size; by judgement", 0.0)
    heavy: int = tried(50_000, "coefficients of cuts that are carried from one objective to the next; by judgement", 0)
    idle: float = tried(1e-9, "multipliers below are taken for zero: the solver's own tolerance", 0.0)
    broken: float = tried(1e-8, "violation that makes a row of one neuron worth adding, of the neuron's range", 0.0)
    extended: int = tried(60_000, "coefficients up to which m-1 takes its extended form; by judgement", 0)
    tightened: int = tried(12_000, "undecided neurons times inputs up to which m-1 tightens bounds; by judgement", 0)
    polytope: int = tried(3000, "coefficients of the largest polytope that rows are derived over; by judgement", 0)
    layers: int = tried(3, "before the one whose rows are derived; by judgement", 1)
    batch: int = tried(8, "pieces between two looks at the clock, each of them some programs", 1)
    tries: int = tried(24, "neurons of a layer that get such a program in one round; by judgement", 0)
    first: float = tried(0.4, "share of the time that CROWN may take before them; by judgement", 0.0, 1.0)
    near: float = tried(1e-8, "of a variable's range: how nearly a point must satisfy the rows it is told by", 0.0, 1.0)
    groups: int = tried(5000, "of one layer, beyond which all groups are refused: memory", 1)
    by_cuts: int = tried(40, "undecided neurons beyond which group hulls come as cutting planes; by judgement", 0)
    group_broken: float = tried(1e-7, "violation that makes a group's row worth adding, of its largest range", 0.0)
    group_rows: int = tried(200, "of groups' rows added in a round, those broken most; by judgement", 1)
    closer: int = tried(64, "groups that are asked for rows towards the point; by judgement", 1)
    tangents: tuple[float, ...] = tried(
        (0.0, 0.25, 0.5, 0.75, 1.0), "choices of the lines that relax a smooth neuron, evenly spread", 0.0, 1.0
    )
    written: int = tried(1 << 25, "entries of a part of a matrix that is written out: 256 MB", 1)


@dataclass(frozen=True)
class SolverEffort(Group):
    """Of the solvers of these programs, by backend."""

    lost: float = tried(1e-7, "HiGHS: what a dual vector may lack of the optimum before the run is repeated", 0.0)
    apart: int = tried(50_000, "HiGHS: coefficients of an integer program that may not end in time: own process", 0)
    feasible: float = tried(1e-5, "layers: an answer that breaks a constraint by more is no optimum", 0.0)
    steps: int = tried(20_000, "first-order: of one program, which is to come near what other backends find", 1)
    gap: float = tried(1e-7, "first-order: gap and violation at which a program is solved", 0.0)
    gap_float32: float = tried(1e-5, "first-order: the same in float32", 0.0)
    every: int = tried(40, "first-order: steps between two judgements; by judgement", 1)
    sufficient: float = tried(0.2, "first-order: decrease that restarts at once (Applegate et al. 2021)", 0.0, 1.0)
    necessary: float = tried(0.8, "first-order: decrease that restarts once progress ends (the same)", 0.0, 1.0)
    artificial: float = tried(0.36, "first-order: share of all steps that restarts anyway (the same)", 0.0, 1.0)
    proportional: float = tried(0.99, "first-order: of the weight's controller (Lu, Peng and Yang 2025)", 0.0, 1.0)
    integral: float = tried(0.01, "first-order: the same", 0.0, 1.0)


@dataclass(frozen=True)
class TwinEffort(Group):
    """Of the search for twin neurons, and of bounds by signs and differences."""

    share: float = tried(0.2, "of the time left that the search for twins may take; by judgement", 0.0, 1.0)
    looks: int = tried(4096, "pieces after which it is judged whether a look pays; by judgement", 0)
    worth: int = tried(64, "where one piece in so many is closed, a look pays: what it costs, of a piece", 0)
    rows: int = tried(64, "rows that are looked at closely before it is known whether it pays; by judgement", 0)
    terms: int = tried(1 << 20, "coefficients that are made in whole numbers: some seconds", 0)
    elements: int = tried(1 << 24, "of the table of coefficients: 128 MB", 0)
    part: int = tried(1 << 20, "entries of a matrix that are hashed between two looks at the clock", 1)
    entries: int = tried(1 << 25, "of all matrices together: larger ones are not written out", 0)
    pairs: int = tried(1 << 13, "pairs of one network; by judgement", 0)
    nodes: int = tried(150, "nodes of a network, as the search for pairs is recursive", 0, 150)
    rounds: int = tried(3, "of telling inputs apart by what reads them; by judgement", 0)


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
    longest: float = tried(60.0, "seconds that its linear program may take; by judgement", 0.0)


@dataclass(frozen=True)
class BoundEffort(Group):
    """All of them; a `Linear` carries them to whatever bounds with it."""

    linear: LinearEffort = field(default_factory=LinearEffort)
    rows: RowEffort = field(default_factory=RowEffort)
    programs: ProgramEffort = field(default_factory=ProgramEffort)
    solvers: SolverEffort = field(default_factory=SolverEffort)
    twins: TwinEffort = field(default_factory=TwinEffort)
    leaf: LeafEffort = field(default_factory=LeafEffort)


BOUNDS = BoundEffort()
LEAF, ROWS, SOLVERS, TWINS = BOUNDS.leaf, BOUNDS.rows, BOUNDS.solvers, BOUNDS.twins
