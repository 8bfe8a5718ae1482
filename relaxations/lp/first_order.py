"""A first-order method as a backend: many linear programs that share a matrix, in batch, on any device.

The pieces of a branch and bound give programs that differ in bounds, sides of rows and objectives. `FirstOrder` takes
the matrix once (blocks, scaling, which equations define which variables), and then batches of the rest; the iteration
is in `kernels.first_order`. A single program is a batch of one.

    many = FirstOrder(model)                            # the matrix, and defaults for everything else
    found = many.minimise_batch(Parts(cost=..., lower=...))  # (B, V) or (V,) each; found.bound (B,)
    again = many.minimise_batch(Parts(lower=...), start=found.start.select(parents))  # children from their parents
    alone = many.minimise(cost, offset)                 # as `highs.HighsMany.minimise`

Where it pays (`scripts/bench_programs.py`, mnist_fc prop_3_0.05, ten neurons decided, one of two busy cores, float32,
400 steps from the parent's end; ms a program, and per cent of the gap from CROWN's bound to the optimum left open):

    network   rows x variables   HiGHS afresh   one basis   batch of 1          16         256
    256x2     1,106 x 1,818               170          25    135,  6 %   17, 18 %    14, 18 %
    256x4     2,342 x 2,842               443          60    100, 24 %   29, 27 %    16, 27 %
    256x6     4,624 x 3,866             4,343       1,191    101,  2 %   55,  1 %    51,  1 %

So, on a CPU: where simplex needs a second or more, by a factor of twenty; on smaller programs HiGHS from one basis is
exact in the time of some hundred steps. Forty steps, 2 ms a program in batches on 256x2, take the 71 % that the
parent's bound leaves to 41 %. It is slow to prove that a program is infeasible: thousands of steps where simplex needs
a few pivots.

Soundness: the bounds are `kernels.weak_duality.safe_bounds`, outward rounded, whatever the iteration did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...kernels.blocks import Blocks
from ...kernels.deadline import check, now, within
from ...kernels.first_order import Answer, Pace, Scaled, Start
from ...kernels.first_order import solve as iterate
from ...kernels.weak_duality import Definitions, Programs
from ...problems.errors import BadInput
from ..effort import SOLVERS, SolverEffort
from .model import Array, LinearModel, Solution, Status

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, eq=False)
class Batch:
    """What was found for B programs. `bound`, `dual` and `infeasible` are proved, the rest is heuristic."""

    bound: Tensor  # (B,) float64, inf where infeasible
    dual: Tensor  # (B, R) float64, proves `bound`
    infeasible: Tensor  # (B,) bool
    primal: Tensor  # (B, V) float64
    value: Tensor  # (B,) objective at `primal`
    violation: Tensor  # (B,) largest violation of a row there
    solved: Tensor  # (B,) bool: gap and violation within the tolerance
    steps: Tensor  # (B,) int64
    start: BatchStart  # for programs that are like these


@dataclass(frozen=True, eq=False)
class BatchStart:
    """Where a batch ended."""

    point: Start

    def select(self, index: Tensor) -> BatchStart:
        """Some of the programs, any number of times each."""
        ratio = self.point.ratio
        return BatchStart(
            Start(self.point.primal[:, index], self.point.dual[:, index], None if ratio is None else ratio[index])
        )


@dataclass(frozen=True, eq=False)
class Parts:
    """What the programs of a batch have of their own, (B, V) or (B, R), (V,) or (R,) for all, `offset` (B,); None: the
    model's."""

    cost: Tensor | None = None
    offset: Tensor | float | None = None
    lower: Tensor | None = None
    upper: Tensor | None = None
    row_lower: Tensor | None = None
    row_upper: Tensor | None = None


class FirstOrder:
    """Programs that share the matrix of a model; `dtype` is the iteration's, bounds are always proved in float64."""

    def __init__(
        self,
        model: LinearModel,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        time_limit: float | None = None,
        effort: SolverEffort = SOLVERS,
    ) -> None:
        if model.discrete:
            raise BadInput("the backend 'first-order' solves linear programs only; for integers use 'highs'.")
        self.dtype, self.device, self.time_limit, self.effort = dtype, device, time_limit, effort
        self._last: BatchStart | None = None
        self._load(model)

    def _load(self, model: LinearModel) -> None:
        model.require_numbers()
        _require_bounded(model.lower, model.upper)
        self.model = model
        m = model.matrix.tocsr()
        m.sum_duplicates()
        parts = (m.indptr, m.indices, m.data.astype(np.float64), m.shape)
        equation = model.row_lower == model.row_upper
        width = torch.as_tensor(model.upper - model.lower)
        blocks, definitions = Blocks.of(*parts), Definitions.of(*parts, equation)
        self.scaled = Scaled.of(blocks, width, definitions, self.dtype, self.device)
        self._equation = torch.as_tensor(equation)

    def minimise_batch(
        self,
        own: Parts = Parts(),
        *,
        start: BatchStart | None = None,
        steps: int | None = None,
        tolerance: float | None = None,
        target: float | Tensor | None = None,
        time_limit: float | None = None,
    ) -> Batch:
        """Bounds of B programs; see `kernels.first_order.solve` for when it stops; by itself as the effort says.

        A program stops early once its bound reaches `target`. Rows that are equations in the model must be in every
        program. Raises `BadInput` for NaN and for shapes that do not fit.
        """
        check()
        time_limit = within(time_limit)
        m = self.model
        names = ("cost", "lower", "upper", "row_lower", "row_upper")
        parts = [self._columns(name, getattr(own, name), getattr(m, name)) for name in names]
        shift = torch.as_tensor(m.offset if own.offset is None else own.offset, dtype=torch.float64, device=self.device)
        count = max(t.shape[1] for t in (*parts, shift.reshape(1, -1)))
        if any(t.shape[1] not in (1, count) for t in (*parts, shift.reshape(1, -1))):
            raise BadInput("the parts of a batch of linear programs have different numbers of programs.")
        programs = Programs(*(t.expand(-1, count).contiguous() for t in parts))
        _require_bounded(programs.lower, programs.upper)
        if not bool((programs.row_lower[self._equation] == programs.row_upper[self._equation]).all()):
            raise BadInput("an equation of the model is none in a program of the batch; build the model without it.")
        shift = shift.reshape(-1).expand(count)
        aim = None if target is None else torch.as_tensor(target, dtype=torch.float64, device=self.device) - shift
        answer = iterate(
            self.scaled,
            programs,
            self._pace(steps, tolerance),
            start=None if start is None else start.point,
            target=aim if aim is None else aim.expand(count),
            deadline=None if time_limit is None else now() + time_limit,
        )
        return _batch(answer, shift)

    def minimise(self, cost: Array, offset: float = 0.0, *, time_limit: float | None = None) -> Solution:
        """min cost x + offset over the model, from where the last call ended."""
        if self.model.empty:
            return Solution(Status.infeasible, bound_safe=np.inf, note="an interval of the model is empty")
        found = self.minimise_batch(
            Parts(torch.as_tensor(cost), offset),
            start=self._last,
            time_limit=self.time_limit if time_limit is None else time_limit,
        )
        self._last = found.start
        return _solution(found)

    def _pace(self, steps: int | None, tolerance: float | None) -> Pace:
        effort = self.effort
        if tolerance is None:
            tolerance = effort.gap if self.dtype == torch.float64 else effort.gap_float32
        control = effort.proportional, effort.integral
        restarts = effort.every, effort.sufficient, effort.necessary, effort.artificial
        return Pace(effort.steps if steps is None else steps, tolerance, *restarts, *control)

    def set_bounds(self, lower: Array, upper: Array) -> None:
        """Another box of variables for `minimise`, (V,) and (V,)."""
        model = self.model.with_bounds(np.asarray(lower, np.float64), np.asarray(upper, np.float64))
        model.require_numbers()
        _require_bounded(model.lower, model.upper)
        self.model = model

    def add_rows(self, matrix: csr_array, row_lower: Array, row_upper: Array) -> None:
        """Further rows row_lower <= matrix x <= row_upper, (K, V), (K,) and (K,), after the others."""
        self._load(self.model.with_rows(matrix, np.asarray(row_lower, float), np.asarray(row_upper, float)))
        if self._last is not None:
            point = self._last.point
            more = point.dual.new_zeros(matrix.shape[0], point.dual.shape[1])
            self._last = BatchStart(Start(point.primal, torch.cat([point.dual, more]), point.ratio))

    def _columns(self, name: str, value: Tensor | None, default: Array) -> Tensor:  # (n, B)
        tensor = torch.as_tensor(default if value is None else value, dtype=torch.float64, device=self.device)
        tensor = tensor[None] if tensor.ndim == 1 else tensor
        if tensor.ndim != 2 or tensor.shape[1] != len(default):
            shape = tuple(tensor.shape)
            raise BadInput(f"`{name}` of a batch of linear programs must be (B, {len(default)}), not {shape}.")
        if bool(tensor.isnan().any()):
            raise BadInput(f"`{name}` of a batch of linear programs holds NaN.")
        return tensor.mT


def solve(model: LinearModel, *, time_limit: float | None = None, effort: SolverEffort = SOLVERS) -> Solution:
    """Solve one linear model in float64; `time_limit` in seconds. Raises `BadInput` for integers, NaN or open boxes."""
    many = FirstOrder(model, dtype=torch.float64, effort=effort)
    return many.minimise(model.cost, model.offset, time_limit=time_limit)


def _require_bounded(lower: Array | Tensor, upper: Array | Tensor) -> None:
    if not bool(((lower > -np.inf) & (upper < np.inf)).all()):
        raise BadInput("the backend 'first-order' needs finite bounds on every variable; use 'highs' without them.")


def _batch(answer: Answer, offset: Tensor) -> Batch:
    bound = answer.bound + offset
    # One addition, rounded to nearest: one step down is below the real sum. Where nothing was added nothing was lost.
    bound = torch.where(offset == 0, answer.bound, torch.nextafter(bound, bound.new_tensor(-torch.inf)))
    bound = torch.where(answer.infeasible, torch.inf, bound)
    return Batch(
        bound,
        answer.dual.mT,
        answer.infeasible,
        answer.primal.mT,
        answer.value + offset,
        answer.violation,
        answer.solved,
        answer.steps,
        BatchStart(answer.end),
    )


def _solution(found: Batch) -> Solution:
    bound, value = float(found.bound[0]), float(found.value[0])
    dual, x = found.dual[0].cpu().numpy(), found.primal[0].cpu().numpy()
    if bool(found.infeasible[0]):
        return Solution(Status.infeasible, bound=np.inf, dual=dual, bound_safe=np.inf)
    if bool(found.solved[0]):
        return Solution(Status.optimal, value, bound, x, dual, bound)
    note = "the first-order method stopped before its tolerance was reached; its bounds are sound and may be loose"
    return Solution(Status.limit, value, bound, x, dual, bound, note)
