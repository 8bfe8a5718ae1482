"""The optimum of a linear program as a PyTorch function of everything in it.

For  V = min { c x : row_lower <= A x <= row_upper, lower <= x <= upper }  with minimiser x, multipliers y and reduced
costs r = c - A^T y, the envelope theorem gives

    dV/dc = x,   dV/dA = -y x^T,   dV/drow_side_i = y_i on the side that y_i's sign points at,
    dV/dlower = max(r, 0),   dV/dupper = min(r, 0)

(Freund 1985; Milgrom and Segal 2002). So one solve gives value and gradient, and any backend that returns a dual vector
will do. Where minimiser or multipliers are not unique, V has a kink, and this is one element of its subdifferential.

`through="layers"` takes derivatives another way, by cvxpylayers' implicit differentiation of the minimiser (Agrawal et
al. 2019), with every number of the program a parameter: slower, for small programs, and a check of the first.

Soundness: the value is `safe_bound` of the dual vector, outward rounded, for the numbers of the program as they stand.
Gradients are heuristic.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...problems.errors import BadInput
from .model import LinearModel, Status
from .objectives import session


class Infeasible(BadInput):
    """No point satisfies the constraints, which is `proved` or only what the solver says."""

    def __init__(self, proved: bool) -> None:
        super().__init__("no point satisfies the constraints of this relaxation: its value has no gradient.")
        self.proved = proved


class Tensors(NamedTuple):
    """A linear program on the tape; float64 on the CPU. Entry e of the matrix is values[e] at (rows[e], columns[e])."""

    values: Tensor  # (E,)
    rows: Tensor  # (E,) int64
    columns: Tensor  # (E,) int64
    row_lower: Tensor  # (R,)
    row_upper: Tensor  # (R,)
    lower: Tensor  # (V,)
    upper: Tensor  # (V,)

    def model(self, cost: Tensor) -> LinearModel:  # (V,)
        """The same as numbers."""
        from scipy.sparse import coo_array

        values, rows, columns, row_lower, row_upper, lower, upper = (t.detach().numpy() for t in self)
        matrix = coo_array((values, (rows, columns)), (len(row_lower), len(lower))).tocsr()
        return LinearModel(cost.detach().numpy(), lower, upper, matrix, row_lower, row_upper)


def optima(
    program: Tensors,
    costs: Tensor,  # (S, V)
    *,
    backend: str = "highs",
    through: Literal["dual", "layers"] = "dual",
) -> Tensor:  # (S,)
    """The least values of the costs over the program, differentiable in every number of both.

    With "dual" they are safe bounds (see the essay) found by `backend`; with "layers", approximate optima. Raises
    `BadInput` where the program is infeasible, or was not solved.
    """
    if through == "layers":
        from .layers import optimum

        values, rows, columns, *sides = program
        matrix = values.new_zeros(len(program.row_lower), len(program.lower))
        matrix = matrix.index_put((rows, columns), values, accumulate=True)
        return torch.stack([optimum(cost, matrix, *sides) for cost in costs])
    if through != "dual":
        raise BadInput(f"gradients are taken through 'dual' or through 'layers', not {through!r}.")
    return _Optima.apply(costs, *program[:1], *program[3:], program.rows, program.columns, backend)


class _Optima(torch.autograd.Function):
    """Values by a backend, gradients by the envelope theorem."""

    @staticmethod
    def forward(
        ctx: Any,
        costs: Tensor,
        values: Tensor,
        row_lower: Tensor,
        row_upper: Tensor,
        lower: Tensor,
        upper: Tensor,
        rows: Tensor,
        columns: Tensor,
        backend: str,
    ) -> Tensor:
        program = Tensors(values, rows, columns, row_lower, row_upper, lower, upper)
        solver = session(program.model(costs[0]), backend)
        found = []
        for cost in costs.detach().numpy():
            answer = solver.minimise(cost)
            if answer.status is Status.infeasible:
                raise Infeasible(answer.bound_safe == np.inf)
            if answer.x is None or answer.dual is None:
                raise BadInput(f"the backend {backend!r} left no minimiser and multipliers: {answer.status.value}")
            found.append(answer)
        x, y = (torch.as_tensor(np.stack([getattr(a, part) for a in found])) for part in ("x", "dual"))
        ctx.save_for_backward(costs, values, rows, columns, x, y)
        return torch.tensor([a.bound_safe for a in found], dtype=torch.float64)

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        costs, values, rows, columns, x, y = ctx.saved_tensors
        above = above[:, None]
        products = torch.zeros_like(x).index_add_(1, columns, values * y[:, rows])
        reduced = costs - products
        return (
            above * x,
            -(above * y[:, rows] * x[:, columns]).sum(0),
            (above * y.clamp(min=0)).sum(0),
            (above * y.clamp(max=0)).sum(0),
            (above * reduced.clamp(min=0)).sum(0),
            (above * reduced.clamp(max=0)).sum(0),
            None,
            None,
            None,
        )
