"""Counting activation patterns in inputs of many dimensions, where cells have too many vertices: linear programs.

A cell is a list of half-spaces and a point in its interior. For the next neuron, affine on the cell, one side is
settled by that point and by the points of the cell that earlier programs found; the other by the neuron's interval
over the input box; what is left asks one linear program (HiGHS), whose constraints stay and whose cost changes.

Nothing HiGHS says is believed. That a neuron has one phase on a cell is proved by the program's multipliers y >= 0:
z - y g is affine, and its least value over the box, less all errors, must be positive (weak duality; g >= 0 are the
cell's half-spaces). That a cell exists is proved by its point, at which all half-spaces are positive by more than
their errors. A leaf with both is certain. A neuron whose sign cannot be proved takes the phase of the cell's point, and
the leaves below are unsure: they are counted anew in exact arithmetic (`counting.rational`).

Soundness: outward rounded (`relaxations/leaf/forms.py`); HiGHS is heuristic here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels.rounding import gamma
from ...kernels.solving import door
from ...kernels.solving.worker import Died
from ...problems.errors import BadInput
from ...problems.properties.property import Polytope
from ...relaxations.leaf.forms import UNIT, pattern_forms
from .proof import input_planes
from .tree import Plan

if TYPE_CHECKING:
    import highspy

Array = NDArray[np.float64]
GROUP = 64  # cells whose functions are composed together
POINTS = 64  # points of a cell that are kept to settle sides
DEEP = 1e-9  # a half-space that a cell's point is not farther inside of than this makes it look for a better point


@dataclass(frozen=True, eq=False)
class Rows:
    """Half-spaces row x + constant >= 0; the functions are within `doubt` of the true ones on the input box."""

    row: Array  # (K, D)
    constant: Array  # (K,)
    doubt: Array  # (K,)

    def __add__(self, other: Rows) -> Rows:
        pairs = ((self.row, other.row), (self.constant, other.constant), (self.doubt, other.doubt))
        return Rows(*(np.concatenate(pair) for pair in pairs))

    def __getitem__(self, index: slice) -> Rows:
        return Rows(self.row[index], self.constant[index], self.doubt[index])


@dataclass(frozen=True, eq=False)
class Layer:
    """The pre-activations of a layer on one cell, and what their intervals over the input box settle."""

    functions: Rows
    always: NDArray[np.bool_]  # (n,): active
    never: NDArray[np.bool_]  # (n,): inactive


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell whose first neurons are decided, up to `neuron` of activation node `node`."""

    node: int
    neuron: int
    active: NDArray[np.bool_]  # (N,)
    cutting: NDArray[np.bool_]  # (N,)
    rows: Rows
    points: Array  # (P, D): points of the closed cell; the first lies inside
    layer: Layer | None = None  # of `node`, once it is composed
    sure: bool = True


class _Solver:
    """The programs of one cell after another over the box of one input set."""

    def __init__(self, lower: Array, upper: Array) -> None:
        import highspy

        self.status = highspy.HighsModelStatus.kOptimal
        self.lower, self.upper = lower, upper
        self.solver = self.here = self._made(np.zeros(0))

    def _made(self, entries: Array) -> highspy.Highs | door.Remote:
        """A solver for programs with these coefficients."""
        solver = door.solver(entries)
        for name, value in (("output_flag", False), ("threads", 1), ("presolve", "off")):
            solver.setOptionValue(name, value)
        return solver

    def load(self, rows: Rows) -> None:
        """The constraints of a cell, each row of length one; one more variable t, fixed at 0 until `deepest`."""
        self.rows = rows
        count, d = rows.row.shape
        self.length = np.linalg.norm(rows.row, axis=1)
        self.length[self.length == 0] = 1.0
        entries = np.column_stack([rows.row / self.length[:, None], -np.ones(count)]).ravel()
        self.solver = self._made(entries) if door.wild(entries) else self.here
        box = np.append(self.lower, 0.0), np.append(self.upper, 0.0)
        start, index = np.arange(count + 1) * (d + 1), np.tile(np.arange(d + 1), count)
        sides = -rows.constant / self.length, np.full(count, np.inf)
        door.load(self.solver, door.Program(np.zeros(d + 1), *box, *sides, (start, index, entries)))

    def least(self, cost: Array) -> tuple[Array, Array] | None:  # (D,)
        """Where cost x is least on the cell, and the multipliers of its rows; None where HiGHS gives up."""
        if not door.standing(self.solver):
            self.load(self.rows)
        columns = np.arange(len(cost), dtype=np.int32)
        size = float(np.abs(cost).max()) or 1.0
        self.solver.changeColsCost(len(cost), columns, cost / size)
        try:
            self.solver.run()
        except Died:
            return None
        if self.solver.getModelStatus() != self.status:
            return None
        found = self.solver.getSolution()
        x = np.clip(np.array(found.col_value)[:-1], self.lower, self.upper)
        return x, np.maximum(np.array(found.row_dual), 0.0) * size / self.length

    def deepest(self, rows: Rows) -> Array | None:
        """A point as far inside all half-spaces and the box as possible."""
        d = len(self.lower)
        unit, width = np.eye(d), np.zeros(2 * d)
        sides = Rows(np.concatenate([unit, -unit]), np.concatenate([-self.lower, self.upper]), width)
        self.load(rows + sides)
        box = np.append(self.lower, 0.0), np.append(self.upper, np.inf)
        self.solver.changeColsBounds(d + 1, np.arange(d + 1, dtype=np.int32), *box)
        cost = np.append(np.zeros(d), -1.0)
        found = self.least(cost)
        return None if found is None else found[0]


class ProgramCounter:
    """Cells of one network on one input polytope."""

    def __init__(self, plan: Plan, polytope: Polytope) -> None:
        self.plan = plan
        self.lower, self.upper = polytope.lower, polytope.upper
        self.reach = np.maximum(np.abs(self.lower), np.abs(self.upper)) * (1 + 2 * UNIT) + 1e-300
        self.solver = _Solver(self.lower, self.upper)
        static, offset, off = (t.numpy() for t in input_planes(polytope))
        half = slice(2 * polytope.size, None)
        doubt = 2 * gamma(polytope.size + 3, torch.float64) * (np.abs(static) @ self.reach + np.abs(offset)) + 2 * off
        self.start = Rows(static[half], offset[half], doubt[half])

    def settled(self, active: NDArray[np.bool_], cutting: NDArray[np.bool_]) -> NDArray[np.bool_]:  # (N,) each
        """Neurons that surely have the phase `active` on the region that the tree's cuts leave, all earlier ones given.

        The region is that of the neurons `cutting`, each on its side. By intervals, else by one program a neuron.
        """
        reach = torch.from_numpy(self.reach)[None]
        forms = pattern_forms(self.plan.graph, torch.from_numpy(active)[None], reach)
        sign = np.where(active, 1.0, -1.0)
        parts = (forms.row[0].numpy() * sign[:, None], forms.constant[0].numpy() * sign, forms.error[0].numpy())
        rows = self.start + Rows(*(part[cutting] for part in parts))
        functions, found = Rows(*parts), np.zeros(len(active), dtype=bool)
        self.solver.load(rows)
        nothing = self.start[:0]
        for j in np.flatnonzero(~cutting):
            function = functions[j : j + 1]
            found[j] = self.proved(function, nothing, np.zeros(0))
            if not found[j] and function.row.any() and (least := self.solver.least(function.row[0])):
                found[j] = self.proved(function, rows, least[1])
        return found

    def root(self) -> Cell:
        point = self.solver.deepest(self.start)
        none = np.zeros(self.plan.graph.neurons, dtype=bool)
        if point is None or not self.inside(self.start, point):
            raise BadInput("the input set is empty or flat: its half-spaces leave nothing with an interior in its box")
        return Cell(self.plan.graph.layers[0].position, 0, none, none, self.start, point[None])

    def inside(self, rows: Rows, x: Array) -> bool:
        """Whether x is surely an interior point: of the box, and of every half-space."""
        return bool((self.margin(rows, x) > 0).all() and (x > self.lower).all() and (x < self.upper).all())

    def margin(self, rows: Rows, x: Array) -> Array:  # (K,)
        """How positive each function surely is at x."""
        size = np.abs(rows.row) @ np.abs(x) + np.abs(rows.constant)
        return rows.row @ x + rows.constant - rows.doubt - 2 * gamma(len(x) + 3, torch.float64) * size

    def proved(self, target: Rows, rows: Rows, price: Array) -> bool:
        """Whether the one function of `target` is surely > 0 where all of `rows` are >= 0, by multipliers >= 0."""
        row = target.row[0] - price @ rows.row
        size = np.abs(target.row[0]) + price @ np.abs(rows.row)
        constants = np.abs(target.constant[0]) + price @ np.abs(rows.constant)
        least = np.where(row > 0, row * self.lower, row * self.upper).sum() + target.constant[0] - price @ rows.constant
        error = 2 * gamma(len(row) + len(price) + 6, torch.float64) * (size @ self.reach + constants)
        return bool(least - 2 * (target.doubt[0] + price @ rows.doubt) * (1 + 1e-9) - error > 0)

    def composed(self, cells: list[Cell]) -> list[Cell]:
        """Cells that wait at the same layer, with its functions."""
        span = self.plan.graph.layer_at[cells[0].node].span
        pattern = torch.from_numpy(np.stack([cell.active for cell in cells]))
        reach = torch.from_numpy(self.reach).expand(len(cells), -1)
        forms = pattern_forms(self.plan.graph, pattern, reach)
        parts = [part[:, span].numpy() for part in (forms.row, forms.constant, forms.error)]
        return [replace(cell, layer=self._layer(Rows(*(p[i] for p in parts)))) for i, cell in enumerate(cells)]

    def _layer(self, functions: Rows) -> Layer:
        size = np.abs(functions.row) @ self.reach + np.abs(functions.constant)
        middle = functions.row @ ((self.lower + self.upper) / 2) + functions.constant
        radius = np.abs(functions.row) @ ((self.upper - self.lower) / 2)
        slack = functions.doubt + 2 * gamma(len(self.lower) + 4, torch.float64) * size
        return Layer(functions, middle - radius - slack > 0, middle + radius + slack < 0)

    def step(self, cell: Cell) -> list[Cell]:
        """Goes through the neurons of a cell's layer until one cuts it in two, or the layer ends."""
        offset, twins, layer = self.plan.graph.layer_at[cell.node].span.start, self.plan.twins[cell.node], cell.layer
        assert layer is not None
        loaded = False
        for j in range(cell.neuron, len(layer.always)):
            function, first = layer.functions[j : j + 1], twins.first[j]
            if layer.always[j] or layer.never[j]:
                on = bool(layer.always[j])
            elif not function.row.any():
                on = bool(function.constant[0] > 0)
                if abs(function.constant[0]) <= function.doubt[0] != 0:
                    cell = replace(cell, sure=False)
            elif first != j:
                on = cell.active[offset + first] != twins.opposite[j]
            else:
                if not loaded:
                    self.solver.load(cell.rows)
                    loaded = True
                cell, on, other = self._sides(cell, function)
                if other is not None:
                    return self._children(replace(cell, neuron=j), function, on, other, offset + j)
            cell = _decided(cell, offset + j, on)
        return [replace(cell, node=self._next(cell.node), neuron=0, layer=None)]

    def _next(self, node: int) -> int:
        return next((i for i in self.plan.graph.layer_at if i > node), self.plan.last + 1)

    def _sides(self, cell: Cell, function: Rows) -> tuple[Cell, bool, Array | None]:
        """The phase at the cell's point, and a point of the cell with the other phase if there is one."""
        value = cell.points @ function.row[0] + function.constant[0]
        on = bool(value[0] > 0)
        away = -value if on else value
        enough = function.doubt[0] * 8 + DEEP * np.abs(function.row[0]) @ (self.upper - self.lower)
        if away.max() > enough:
            return cell, on, cell.points[away.argmax()]
        sign = 1.0 if on else -1.0
        target = Rows(sign * function.row, sign * function.constant, function.doubt)
        found = self.solver.least(target.row[0])
        if found is None:
            return replace(cell, sure=False), on, None
        x, price = found
        cell = replace(
            cell, points=np.concatenate([cell.points, x[None]])[-POINTS:] if len(cell.points) < POINTS else cell.points
        )
        if self.proved(target, cell.rows, price):
            return cell, on, None
        if -(target.row[0] @ x + target.constant[0]) > enough:
            return cell, on, x
        return replace(cell, sure=False), on, None

    def _children(self, cell: Cell, function: Rows, on: bool, other: Array, place: int) -> list[Cell]:
        """Both parts of a cell that a neuron cuts, each with a point inside."""
        cutting = cell.cutting.copy()
        cutting[place] = True
        inner = cell.points[0]
        here, there = (abs(float(function.row[0] @ x + function.constant[0])) for x in (inner, other))
        crossing = here / (here + there)
        parts = []
        for side in (on, not on):
            sign = 1.0 if side else -1.0
            rows = cell.rows + Rows(sign * function.row, sign * function.constant, function.doubt)
            point = inner if side == on else inner + (1 + crossing) / 2 * (other - inner)
            if self.margin(rows, point).min() < DEEP * (1 + self.reach.max()):
                better = self.solver.deepest(rows)
                if better is not None:
                    point = better
            value = cell.points @ rows.row[-1] + rows.constant[-1]
            points = np.concatenate([point[None], cell.points[value >= 0]])
            child = replace(cell, cutting=cutting, rows=rows, points=points)
            parts.append(_decided(child, place, side))
        return parts


def _decided(cell: Cell, place: int, on: bool) -> Cell:
    """The cell with one neuron more; arrays are shared where nothing changes."""
    if not on:
        return replace(cell, neuron=cell.neuron + 1)
    active = cell.active.copy()
    active[place] = True
    return replace(cell, active=active, neuron=cell.neuron + 1)
