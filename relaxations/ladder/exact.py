"""The exact relaxation: the minimum of a linear function of the outputs, by mixed-integer programming.

This is the oracle that every other relaxation is tested against (Tjeng, Xiao, Tedrake 2019; the encoding is in
`lp.encode`). It needs piecewise-linear activations and is meant for small networks.

What its answers are worth. `upper` is the value of the network itself (float64) at the incumbent's input, cut to the
box, so it is attained up to rounding (half-spaces hold at `x` within 1e-9). `lower` is the solver's dual bound less
`margin`. A branch-and-cut tree leaves no dual vector to check, so this is not a proof: the tree, the cuts and the
presolve are trusted, and the margin covers the tolerance of the linear programs in it. A reduced cost may be wrong by
the dual tolerance 1e-9, which by weak duality moves a bound by at most 1e-9 times the sum of all variables' widths;
the solver may stop at an absolute gap of 1e-9. (Tolerances on constraints only enlarge the feasible set, which cannot
raise a minimum.) A verdict that must stand is proved by `leaf` or by branch and bound; from here it carries the word
"trusted". Where no binary is needed the model is a linear program, and `lower` is its safe bound: outward rounded.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ...kernels.deadline import TimeUp, doing
from ...kernels.proof_constants import TOLERANCE
from ...kernels.solving.door import wild
from ...problems.errors import BadInput
from ...problems.network.graph import Graph
from ...problems.properties.property import Polytope, UnsafeSet
from ..linear.linear import Linear
from ..lp.backends import Backend, backend
from ..lp.boxes import Box, node_boxes
from ..lp.model import Array, LinearModel, Solution, Status
from ..names import Name
from ..protocol import AbstractRelaxation, Bounds, Means, rounded_down, without_forms
from ..types import Multipliers, Pieces, Rows


@dataclass(frozen=True, eq=False)
class ExactResult:
    """lower <= minimum <= upper; `lower` is +inf where the input set was proved empty."""

    lower: float
    upper: float
    x: Array | None  # (D,) an input with value `upper`
    status: Status
    margin: float  # what was taken off the solver's dual bound
    note: str = ""
    attained: bool = False  # `x` is unsafe as float64 computes it (the search confirms it on the original file)

    @property
    def positive(self) -> bool:
        """The minimum is positive: the unsafe set is not reached (trusting the solver, see the essay)."""
        return self.lower > 0


def minimum(
    graph: Graph,
    polytope: Polytope,
    row: Array,  # (n_out,)
    constant: float = 0.0,
    *,
    means: Means = Means(),  # noqa: B008
    bounds: list[Box] | None = None,
) -> ExactResult:
    """The minimum of row . f(x) + constant over the polytope.

    `means`: the backend and its time limit; `bounds`: sound boxes of all nodes (interval arithmetic without). Raises
    `BadInput` for products, smooth activations and unbounded inputs.
    """
    unsafe = UnsafeSet(np.asarray(row, dtype=float)[None], np.array([constant], dtype=float))
    return feasible_unsafe(graph, polytope, unsafe, means=means, bounds=bounds)


def feasible_unsafe(
    graph: Graph,
    polytope: Polytope,
    unsafe: UnsafeSet,
    *,
    means: Means = Means(),  # noqa: B008
    bounds: list[Box] | None = None,
) -> ExactResult:
    """The minimum over the polytope of `unsafe.margin`, the largest left-hand side: zero or less means a violation.

    Arguments and errors as in `minimum`. An unsafe set without rows is all of the output space: margin -inf.
    """
    from ..lp.encode import encode

    _check(graph, polytope, unsafe)
    solve = backend(means.backend, means.effort.solvers)
    if polytope.empty or _proved_empty(polytope, solve):
        return ExactResult(np.inf, np.inf, None, Status.infeasible, 0.0)
    graph = graph.to(torch.float64)
    boxes = node_boxes(graph, polytope) if bounds is None else bounds
    encoding = encode(graph, polytope, form="exact", boxes=boxes, effort=means.effort.programs)
    if not len(unsafe.rows):
        model = encoding.model
    elif len(unsafe.rows) == 1 and unsafe.on_input is None:
        model = encoding.minimising(graph.output, unsafe.rows[0], float(unsafe.constants[0]))
    else:
        model = encoding.minimising_margin(unsafe)
    solution = solve(model, time_limit=means.time_limit)
    found = _judge(graph, polytope, unsafe, model, solution, solve)
    if unsafe.lost is None:
        return found
    off = unsafe.lost.most(*(torch.maximum(*(side.abs() for side in boxes[i])).numpy() for i in (0, graph.output)))
    lost = np.nextafter(off.max(), np.inf)
    return replace(found, lower=np.nextafter(found.lower - lost, -np.inf), margin=found.margin + lost)


def _judge(
    graph: Graph, polytope: Polytope, unsafe: UnsafeSet, model: LinearModel, solution: Solution, solve: Backend
) -> ExactResult:
    """The solver's answer, with its bound lowered by the margin and its point evaluated by the network."""
    found = ExactResult(-np.inf, np.inf, None, solution.status, 0.0, solution.note)
    if solution.x is not None:
        x = np.clip(solution.x[: graph.input_size], polytope.lower, polytope.upper)
        y = graph(torch.as_tensor(x)).numpy()
        found = replace(found, x=x, upper=unsafe.margin(y, x), attained=unsafe.reached(y, x))
    if not len(unsafe.rows):
        return found
    if not model.discrete:
        return replace(found, lower=solution.bound_safe)
    if solution.status is Status.infeasible:
        # A solver's word is not enough to call a set empty; a Farkas ray of the relaxed model is.
        lower = max(solution.bound_safe, solve(model.relaxed()).bound_safe)
        return replace(found, lower=lower if lower == np.inf else -np.inf)
    if wild(model.matrix.data):
        # Tolerances hide such coefficients from the solver: only a dual vector of the relaxed model proves anything.
        return replace(found, lower=solve(model.relaxed()).bound_safe)
    width = model.upper - model.lower
    reach = float(max((abs(model.matrix) @ width).max(initial=0.0), width.sum()))
    margin = TOLERANCE * (1.0 + reach)
    return replace(found, lower=solution.bound - margin, margin=margin)


def _check(graph: Graph, polytope: Polytope, unsafe: UnsafeSet) -> None:
    if polytope.size != graph.input_size:
        raise BadInput(f"the input set has {polytope.size} variables and the network {graph.input_size} inputs.")
    if len(unsafe.rows) and unsafe.rows.shape[1] != graph.output_size:
        raise BadInput(f"a row has {unsafe.rows.shape[1]} coefficients and the network {graph.output_size} outputs.")


def _proved_empty(polytope: Polytope, solve: Backend) -> bool:
    """Whether no point of the box satisfies the half-spaces; certified by a Farkas ray."""
    if not len(polytope.normals):
        return False
    from scipy.sparse import csr_array

    model = LinearModel(
        np.zeros(polytope.size),
        polytope.lower,
        polytope.upper,
        csr_array(polytope.normals),
        np.full(len(polytope.offsets), -np.inf),
        polytope.offsets,
    )
    return solve(model).bound_safe == np.inf


@dataclass(frozen=True, eq=False)
class Exact(AbstractRelaxation):
    """The oracle behind the search's interface: one mixed-integer program a piece and row."""

    graph: Graph
    means: Means = field(default_factory=Means)

    def bound(self, pieces: Pieces, rows: Rows, start: Multipliers | None = None) -> Bounds:
        lower = torch.stack([self._piece(pieces, rows, b) for b in range(len(pieces))])
        return Bounds(without_forms(pieces, rounded_down(lower, pieces.lower)), pieces)

    def _piece(self, pieces: Pieces, rows: Rows, b: int) -> torch.Tensor:  # (S,)
        """Lower bounds of the rows on piece b; -inf for those whose turn does not come before time is up."""
        polytope, count = polytope_of(pieces, b), rows.constants.shape[1]
        lower = torch.full((count,), -torch.inf, dtype=torch.float64)
        boxes = boxes_from(self.graph.to(torch.float64), polytope, pieces, b)
        with suppress(TimeUp):
            for s in range(count):
                on_input = None if rows.on_input is None else rows.on_input[b, s : s + 1].double().cpu().numpy()
                row, constant = rows.coefficients[b, s : s + 1], rows.constants[b, s : s + 1]
                unsafe = UnsafeSet(row.double().cpu().numpy(), constant.double().cpu().numpy(), on_input)
                lower[s] = feasible_unsafe(self.graph, polytope, unsafe, means=self.means, bounds=boxes).lower
        return lower


def built(linear: Linear, graph: Graph, name: Name, means: Means) -> Exact:
    """For the catalogue."""
    doing("mixed-integer programs were solved")
    return Exact(graph, means)


def polytope_of(pieces: Pieces, b: int) -> Polytope:
    """The input set of piece b."""
    sides = (pieces.lower, pieces.upper, pieces.normals, pieces.offsets)
    lower, upper, normals, offsets = (side[b].double().cpu().numpy() for side in sides)
    used = np.isfinite(offsets)
    return Polytope(lower, upper, normals[used], offsets[used])


def boxes_from(graph: Graph, polytope: Polytope, pieces: Pieces, b: int) -> list[Box]:
    """Interval bounds cut by what is known of piece b: its pre-activation bounds and its decided neurons."""
    boxes = node_boxes(graph, polytope)
    low, high = pieces.pre_lower[b].double().cpu().clone(), pieces.pre_upper[b].double().cpu().clone()
    decided = zip(pieces.neuron[b].tolist(), pieces.sign[b].tolist(), pieces.point[b].tolist(), strict=True)
    for neuron, sign, point in decided:
        if neuron >= 0 and sign > 0:
            low[neuron] = max(low[neuron].item(), point)
        elif neuron >= 0:
            high[neuron] = min(high[neuron].item(), point)
    for layer in graph.layers:
        before, where = layer.source, layer.span
        boxes[before] = (torch.maximum(boxes[before][0], low[where]), torch.minimum(boxes[before][1], high[where]))
    return boxes
