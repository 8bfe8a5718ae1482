"""The triangle relaxation: a linear program over the exact hulls of single neurons, all layers at once.

A ReLU on [l, u] is relaxed to its hull y >= 0, y >= z, y <= u (z - l) / (u - l) (Ehlers 2017); smooth neurons to
several lines from either side. No bound that treats neurons one at a time is better over the same pre-activation
bounds (Salman et al. 2019), so this is the top of the single-neuron rungs, and all multi-neuron rungs are this program
with something added: an `Addition` brings rows or bounds layer by layer while the program is built, a `Cutter` rows at
its optimum.

Pre-activation bounds are given (those of `crown`, as everywhere where relaxations are compared); with `tighten` each
undecided neuron gets two linear programs over everything the program says of what lies before it. That is exact for
the relaxation: the bounds are implied by the relaxed set, only the chords they give are new.

Soundness: outward rounded. Every bound is `LinearModel.safe_bound` of a dual vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from ...kernels.deadline import TimeUp
from ...problems.errors import BadInput
from ...problems.network.graph import Graph
from ..effort import BOUNDS, BoundEffort, ProgramEffort
from ..lp.boxes import Box
from ..lp.encode import Addition, Building, Encoding
from ..lp.model import Array, DualVector, LinearModel, Solution
from ..lp.objectives import Session, least, session
from ..lp.program import Index
from ..names import Name
from ..protocol import Means


@dataclass(frozen=True, eq=False)
class Setting:
    """What the parts of one relaxation share."""

    backend: str = "highs"
    time_limit: float | None = None  # seconds for one linear program
    strict: bool = False  # refuse a layer that a relaxation cannot treat instead of saying so
    # Proved lower bounds (S,) of rows (S, n) of a node's value, by backward linear bounds.
    backward: Callable[[int, Tensor], Array] | None = None
    notes: list[str] = field(default_factory=list)
    effort: BoundEffort = BOUNDS
    duals: list[DualVector | None] | None = None  # where `minima` writes what proves each minimum

    @staticmethod
    def of(names: Sequence[Name], means: Means) -> Setting:
        """What programs of these names share."""
        strict = any(name.strict for name in names)
        return Setting(means.backend, means.time_limit, strict, effort=means.effort)

    @property
    def programs(self) -> ProgramEffort:
        """How hard they try."""
        return self.effort.programs

    def session(self, model: LinearModel) -> Session:
        """Many objectives over one model."""
        return session(model, self.backend, self.time_limit, self.notes, self.effort.solvers)

    def piecewise(self, building: Building, position: int, word: str) -> bool:
        """Whether the layer is piecewise linear; where not, says so, or refuses it."""
        layer = building.graph.layer_at[position]
        if layer.function.leak is not None:
            return True
        if self.strict:
            raise BadInput(
                f"{word} joins ReLU neurons, and layer {layer.title!r} is {layer.function.name}; without strict=on its "
                "neurons are relaxed one at a time"
            )
        note = f"{word}: layer {layer.title!r} is {layer.function.name}, so its neurons are relaxed one at a time"
        if note not in self.notes:
            self.notes.append(note)
        return False


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows sum coefficients x[columns] <= side, one entry of each list a row."""

    columns: list[Index] = field(default_factory=list)
    coefficients: list[Array] = field(default_factory=list)
    sides: list[float] = field(default_factory=list)


class Cutter(Protocol):
    """Rows that cut off a point of the program, found when it is the optimum."""

    def cuts(self, encoding: Encoding, answer: Solution) -> Rows:
        """Rows that the optimum breaks and every point of the relaxed set satisfies; `encoding` holds the program."""


class Added(NamedTuple):
    """What a rung adds to the triangle program."""

    additions: tuple[Addition, ...] = ()
    cutters: tuple[Cutter, ...] = ()
    tightens: bool = False  # the additions tighten pre-activation bounds as well, where that is asked for


def added(name: Name, setting: Setting, graph: Graph, boxes: Sequence[Box]) -> Added:
    """Nothing: the single-neuron hulls are what every program holds."""
    return Added()


@dataclass(frozen=True, eq=False)
class Tightening(Addition):
    """Pre-activation bounds from the program itself, two linear programs for each undecided neuron."""

    setting: Setting

    def before(self, building: Building, position: int) -> None:
        source = building.graph.layer_at[position].source
        function = building.graph.layer_at[position].function
        open_ = torch.nonzero(~function.decided(*building.boxes[source])).flatten().tolist()
        if open_:
            building.cut_box(source, *tight(self.setting.session(building.program.model()), building, source, open_))

    def after(self, building: Building, position: int) -> None:
        """Nothing."""


def tight(programs: Session, building: Building, node: int, neurons: Sequence[int]) -> Box:
    """The node's box with proved bounds of some of its entries over the session's model; outward rounded."""
    lower, upper = (side.clone() for side in building.boxes[node])
    columns = building.columns(node)
    for k in neurons:
        low, high = least(programs, int(columns[k])), -least(programs, int(columns[k]), -1.0)
        if low == np.inf or high == -np.inf:
            continue  # nothing is feasible: the program says so by itself
        lower[k], upper[k] = max(lower[k].item(), low), min(upper[k].item(), high)
    return lower, torch.maximum(lower, upper)


def minima(
    encoding: Encoding,
    rows: Array,  # (R, n_out)
    setting: Setting,
    cutters: Sequence[Cutter] = (),
    on_input: Array | None = None,  # (R, D)
    partly: bool = False,
) -> Array:  # (R,)
    """Proved lower bounds of rows f(x) + on_input x; +inf where the program is proved empty.

    Cuts found for one row stay for the others. With `partly`, rows whose turn does not come before time is up get -inf.
    """
    first = encoding.first[encoding.graph.output]
    programs = Cutting(encoding, setting, cutters)
    best = np.full(len(rows), -np.inf)
    for r, row in enumerate(rows):
        cost = np.zeros(len(encoding.model.cost))
        cost[first : first + len(row)] = row
        if on_input is not None:
            cost[: encoding.graph.input_size] += on_input[r]
        try:
            best[r] = programs.minimise(cost)
            if setting.duals is not None:
                setting.duals.append(programs.proof)
        except TimeUp:
            if not partly:
                raise
            break
    return best


class Cutting:
    """A session over a program that grows by cutting planes, and forgets those that lie idle when they weigh too much.

    Rows that are dropped only loosen the program.
    """

    def __init__(self, encoding: Encoding, setting: Setting, cutters: Sequence[Cutter], brief: bool = False) -> None:
        """`brief`: for bounds on the way."""
        self.encoding, self.setting, self.cutters = encoding, setting, cutters
        effort = setting.programs
        self.rounds = effort.brief_rounds if brief else effort.rounds
        self.patience = effort.brief_patience if brief else effort.patience
        self.found = setting.session(encoding.model)
        self.own = encoding.model.matrix.shape[0]  # rows that are no cuts
        self.proof: DualVector | None = None  # of the last minimum, where that is wanted

    def minimise(self, cost: Array) -> float:
        """The proved minimum of one objective, after as many rounds of cuts as pay."""
        best, values, self.proof = -np.inf, [], None
        for round_ in range(self.rounds + 1):
            try:
                answer = self.found.minimise(cost)
            except TimeUp:
                if not round_:
                    raise
                break
            if self.setting.duals is not None and answer.bound_safe > best:
                dual = np.zeros(self.found.model.matrix.shape[0]) if answer.dual is None else answer.dual
                self.proof = DualVector(self.found.model.with_objective(cost), dual)
            best = max(best, answer.bound_safe)
            values.append(answer.value)
            if not self.cutters or answer.x is None or best == np.inf:
                break
            if round_ == self.rounds or not self._pays(values) or not self._cut(answer):
                break
        return best

    def set_bounds(self, lower: Array, upper: Array) -> None:
        """Another box of variables."""
        self.found.set_bounds(lower, upper)

    def cuts(self) -> tuple[csr_array, Array, Array]:
        """The cuts there are: rows, lower and upper sides."""
        model = self.found.model
        return csr_array(model.matrix[self.own :]), model.row_lower[self.own :], model.row_upper[self.own :]

    def _cut(self, answer: Solution) -> int:
        """Adds what the cutters find; returns how many rows."""
        encoding = replace(self.encoding, model=self.found.model)
        found = [rows for cutter in self.cutters if (rows := cutter.cuts(encoding, answer)).sides]
        self._forget(answer.dual)
        for rows in found:
            at = np.repeat(np.arange(len(rows.sides)), [len(c) for c in rows.columns])
            entries = (np.concatenate(rows.coefficients), (at, np.concatenate(rows.columns)))
            matrix = coo_array(entries, (len(rows.sides), len(self.found.model.cost))).tocsr()
            self.found.add_rows(matrix, np.full(len(rows.sides), -np.inf), np.array(rows.sides))
        return sum(len(rows.sides) for rows in found)

    def _forget(self, dual: Array | None) -> None:
        """A new session without the cuts that a bound does not rest on, where all of them weigh too much."""
        model, effort = self.found.model, self.setting.programs
        if dual is None or model.matrix.indptr[-1] - model.matrix.indptr[self.own] <= effort.heavy:
            return
        rows = np.append(np.arange(self.own), self.own + np.flatnonzero(np.abs(dual[self.own :]) > effort.idle))
        kept = replace(
            model,
            matrix=csr_array(model.matrix[rows]),
            row_lower=model.row_lower[rows],
            row_upper=model.row_upper[rows],
        )
        self.found = self.setting.session(kept)

    def _pays(self, values: Sequence[float]) -> bool:
        """Whether the last rounds of cuts moved the optimum."""
        if len(values) <= self.patience:
            return True
        return values[-1] - values[-1 - self.patience] > self.setting.programs.gain * (1 + abs(values[-1]))
