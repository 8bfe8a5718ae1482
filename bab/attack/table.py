"""The goals of a property as tensors: every row of every goal at every point, in one product.

A goal is one unsafe polyhedron of one case; half-spaces of the input set are rows without outputs. Goals with fewer
rows than others are filled up with rows that are always satisfied. Heuristic: the judge reads the property itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...problems.properties.property import Property
from .witness import Goal

ABSENT = -1e30  # the value of a row that is only there to fill the table
LARGE = 40  # powers of two that a row may be as large or small as


@dataclass(frozen=True, eq=False)
class Table:
    """All goals as tensors; a goal with fewer rows than another is filled up with rows that are always satisfied."""

    goals: tuple[Goal, ...]
    case: Tensor  # (G,)
    lower: Tensor  # (C, D)
    upper: Tensor  # (C, D)
    rows: Tensor  # (G, R, n_out)
    constants: Tensor  # (G, R)
    on_input: Tensor | None  # (G, R, D)

    @staticmethod
    def of(prop: Property, goals: Sequence[Goal], like: Tensor) -> Table:
        """The goals in `like`'s dtype, on its device."""
        count = max(
            (len(prop.cases[c].inputs.normals) + len(prop.cases[c].unsafe[u].rows) for c, u in goals), default=0
        )
        rows = torch.zeros(len(goals), max(count, 1), prop.n_out, dtype=torch.float64)
        constants = torch.full(rows.shape[:2], ABSENT, dtype=torch.float64)
        speaks_of_input = any(
            len(prop.cases[c].inputs.normals) or prop.cases[c].unsafe[u].on_input is not None for c, u in goals
        )
        on_input = torch.zeros(*rows.shape[:2], prop.n_in, dtype=torch.float64) if speaks_of_input else None
        for g, (c, u) in enumerate(goals):
            inputs, unsafe = prop.cases[c].inputs, prop.cases[c].unsafe[u]
            own, cut = len(unsafe.rows), len(inputs.normals)
            rows[g, :own], constants[g, :own] = torch.from_numpy(unsafe.rows), torch.from_numpy(unsafe.constants)
            if unsafe.on_input is not None:
                assert on_input is not None
                on_input[g, :own] = torch.from_numpy(unsafe.on_input)
            if cut:
                assert on_input is not None
                on_input[g, own : own + cut] = torch.from_numpy(inputs.normals)
                constants[g, own : own + cut] = -torch.from_numpy(inputs.offsets)
        rows, constants, on_input = _in_range(rows, constants, on_input)
        lower, upper = (
            torch.from_numpy(np.array([getattr(case.inputs, side) for case in prop.cases]).reshape(-1, prop.n_in)).to(
                like
            )
            for side in ("lower", "upper")
        )
        case = torch.tensor([c for c, _ in goals], dtype=torch.long, device=like.device)
        on_input = None if on_input is None else on_input.to(like)
        return Table(tuple(goals), case, lower, upper, rows.to(like), constants.to(like), on_input)


def _in_range(
    rows: Tensor, constants: Tensor, on_input: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:  # (G, R, n_out), (G, R), (G, R, D); float64
    """The rows; those that float32 could not hold are multiplied by a power of two, which keeps their signs."""
    size = torch.maximum(rows.abs().amax(-1), torch.where(constants == ABSENT, 0.0, constants.abs()))
    if on_input is not None:
        size = torch.maximum(size, on_input.abs().amax(-1))
    power = torch.frexp(size)[1]
    power = torch.where(power.abs() > LARGE, power, 0)
    scale = torch.ldexp(torch.ones_like(size), -power // 2), torch.ldexp(torch.ones_like(size), -power - (-power // 2))
    on_input = None if on_input is None else on_input * scale[0][..., None] * scale[1][..., None]
    absent = constants == ABSENT
    constants = torch.where(absent, ABSENT, constants * scale[0] * scale[1])
    return rows * scale[0][..., None] * scale[1][..., None], constants, on_input


class Points:
    """What the rows and boxes of the points' goals are, point by point."""

    def __init__(self, table: Table, goal: Tensor, scale: Tensor) -> None:  # (P,), (G, R)
        self.table, self.spread = table, scale
        self.goal, self.scale = goal, scale[goal]
        self.rows, self.constants = table.rows[goal], table.constants[goal]
        self.on_input = None if table.on_input is None else table.on_input[goal]
        self.lower, self.upper = table.lower[table.case[goal]], table.upper[table.case[goal]]
        self.width = self.upper - self.lower

    def some(self, kept: Tensor) -> Points:
        """The same of some of the points."""
        return Points(self.table, self.goal[kept], self.spread)

    def values(self, y: Tensor, x: Tensor) -> Tensor:  # (P, n_out), (P, D) -> (P, R)
        """Every row at every point."""
        values = torch.bmm(self.rows, y[..., None])[..., 0] + self.constants
        if self.on_input is not None:
            values = values + torch.bmm(self.on_input, x[..., None])[..., 0]
        return values
