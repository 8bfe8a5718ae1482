"""Interval arithmetic as a relaxation: the lowest rung of the ladder.

All nodes are bounded by `interval`; the rows are substituted backwards through one affine node, the output, and
minimised over the box of what feeds it, so that rows which compare outputs lose nothing to the last layer. There are
no forms linear in the input: what `Result` promises of them is kept by zero forms with the bound as constant.

Which coordinate to blame. The width of an interval passes through a layer by |A|, and through a neuron unchanged
unless it is dead; so the share of coordinate d in a row's width is w_d times the entry of

    |C| |A_L| D_L ... |A_1|,        D = 0 where dead, the function's steepest slope elsewhere,

which one backward pass over the absolute operators gives.

Soundness: outward rounded, the blame apart (heuristic).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...kernels.dot import absolute_dot, depth
from ...kernels.polytope import box_minimum, clip_box
from ...kernels.proof_constants import INFLATE
from ...kernels.rounding import gamma
from ...problems.network.graph import Affine, Graph
from ..names import Name
from ..protocol import AbstractRelaxation, Bounds, Means, without_forms
from ..types import Multipliers, Pieces, Rows
from .attribution import width_blame
from .interval import interval_bounds
from .linear import Linear
from .root import outward
from .rounding import Rounding, Scales, weigh


def interval_root(
    graph: Graph,  # in the dtype and on the device of the search
    lower: Tensor,  # (D,) float64, CPU
    upper: Tensor,  # (D,)
) -> tuple[Ibp, Pieces]:
    """The relaxation to search with and the box as one piece, its pre-activations bounded by intervals."""
    return interval_nodes(graph, lower, upper)[:2]


def interval_nodes(
    graph: Graph, lower: Tensor, upper: Tensor
) -> tuple[Ibp, Pieces, list[tuple[Tensor, Tensor]]]:  # of each node (1, n), (1, n)
    """`interval_root`, and the bounds of all nodes."""
    like = graph.like
    pieces = Pieces.boxes(*outward(lower[None], upper[None], like.dtype, like.device), graph.neurons)
    rounding = Rounding(graph)
    scales = rounding.local(torch.maximum(pieces.lower.abs(), pieces.upper.abs())[0], {})
    relaxation = Ibp(Linear(rounding, scales))
    bounds = relaxation.nodes(pieces)
    return relaxation, pieces.with_pre(*pre_activations(graph, bounds, pieces)), bounds


@dataclass(frozen=True, eq=False)
class Ibp(AbstractRelaxation):
    """Interval bounds of every layer on every piece."""

    linear: Linear  # its network and rounding vectors; of its lines no bound here makes use

    @property
    def graph(self) -> Graph:
        """The network in the dtype and on the device of the computation."""
        return self.linear.graph

    def nodes(self, pieces: Pieces) -> list[tuple[Tensor, Tensor]]:
        """Bounds of every node on every piece, half-spaces worked into the box."""
        lower, upper = pieces.lower, pieces.upper
        if pieces.normals.shape[1]:
            lower, upper, _ = clip_box(lower, upper, pieces.normals, pieces.offsets)
        return interval_bounds(self.linear.rounding, lower, upper, pieces.pre_lower, pieces.pre_upper)

    def bound(self, pieces: Pieces, rows: Rows, start: Multipliers | None = None) -> Bounds:
        lower, upper, empty = pieces.lower, pieces.upper, torch.zeros_like(pieces.lower[:, 0], dtype=torch.bool)
        if pieces.normals.shape[1]:
            lower, upper, empty = clip_box(lower, upper, pieces.normals, pieces.offsets)
        bounds = interval_bounds(self.linear.rounding, lower, upper, pieces.pre_lower, pieces.pre_upper)
        pre_lower, pre_upper = pre_activations(self.graph, bounds, pieces)
        empty = empty | (pre_lower > pre_upper).any(1)
        pieces = pieces.with_pre(pre_lower, torch.maximum(pre_lower, pre_upper))
        least, slack = rows_below(self.linear.rounding, self.linear.scales, bounds, rows)
        lower_bound = least - slack
        blame, scores = width_blame(self.linear, pieces, rows, least.argmax(1))
        result = without_forms(pieces, lower_bound, slack, empty)
        return Bounds(replace(result, constants=lower_bound, blame=blame, scores=scores), pieces)


def built(linear: Linear, graph: Graph, name: Name, means: Means) -> Ibp:
    """Intervals anew on every piece: for the catalogue."""
    return Ibp(linear)


def pre_activations(
    graph: Graph, bounds: list[tuple[Tensor, Tensor]], pieces: Pieces
) -> tuple[Tensor, Tensor]:  # (B, N), (B, N)
    """The pre-activation bounds among the bounds of all nodes, and what the pieces knew already."""
    if not graph.layers:
        return pieces.pre_lower, pieces.pre_upper
    low, high = (torch.cat([bounds[operand.source][side] for operand in graph.operands], 1) for side in (0, 1))
    return torch.fmax(low, pieces.pre_lower), torch.fmin(high, pieces.pre_upper)


def rows_below(
    rounding: Rounding, scales: Scales, bounds: list[tuple[Tensor, Tensor]], rows: Rows
) -> tuple[Tensor, Tensor]:  # (B, S), (B, S)
    """The rows' least values over the boxes of the output's inputs, and what to take off for rounding.

    A row all of whose terms are >= 0 comes out as exactly that: see `signs`."""
    output = rounding.graph.output
    node = rounding.graph.nodes[output]
    forms = [(output, rows.coefficients)]
    constant, slack = rows.constants, torch.zeros_like(rows.constants)
    size = constant.abs()
    if isinstance(node, Affine):
        slack = slack + weigh(rows.coefficients, scales.affine[output])
        constant = constant + rows.coefficients @ node.bias
        size = size + constant.abs()
        forms = [(j, op.adjoint(rows.coefficients)) for j, op in zip(node.inputs, node.operators, strict=True)]
    if rows.on_input is not None:
        forms.append((0, rows.on_input))
    total, reach = constant, 2 * slack + 64 * torch.finfo(constant.dtype).tiny
    for source, form in forms:
        low, high = bounds[source]
        least = box_minimum(form, low, high)
        total = total + least
        size = size + least.abs() + total.abs()
        error = 2.1 * gamma(2 * depth(form.shape[-1]) + 4, form.dtype)  # what `box_minimum` takes off, and its own
        reach = reach + error * absolute_dot(form, torch.maximum(low.abs(), high.abs()))
    slack = INFLATE * slack + scales.step * size
    doubtful = ((total - slack < 0) & (total - slack + reach + 2 * scales.step * size >= 0)).nonzero()
    if len(doubtful):
        piece, row = doubtful.unbind(1)
        kept = doubtful[_nowhere_negative(rounding, bounds, rows, piece, row)].unbind(1)
        total, slack = total.index_put(kept, total.new_zeros(())), slack.index_put(kept, slack.new_zeros(()))
    return total, slack


def _nowhere_negative(
    rounding: Rounding, bounds: list[tuple[Tensor, Tensor]], rows: Rows, piece: Tensor, row: Tensor
) -> Tensor:  # (K,), (K,) -> (K,) bool
    """Which of the rows have no term that may be negative. Exact: a coefficient whose sign rounding may have changed
    has both signs."""
    output = rounding.graph.output
    node = rounding.graph.nodes[output]
    chosen = rows.coefficients[piece, row]  # (K, n_out)
    negative = rows.constants[piece, row] < 0
    forms = [(output, chosen, torch.zeros_like(chosen))]
    if isinstance(node, Affine):
        lowest, highest = node.bias_sides()
        negative |= (((chosen > 0) & (lowest < 0)) | ((chosen < 0) & (highest > 0))).any(-1)
        forms, finfo = [], torch.finfo(chosen.dtype)
        alone = ((chosen != 0).sum(-1) == 1)[:, None]
        for source, operator, signs in zip(node.inputs, node.operators, rounding.signs(output), strict=True):
            form, magnitude = operator.adjoint(chosen), operator.magnitude()
            error = 2 * gamma(magnitude.terms + 3, chosen.dtype) * magnitude.adjoint(chosen.abs())
            error = error + 4 * magnitude.terms * finfo.tiny
            if signs is not None:  # one coefficient: the weights' own signs; no weight: 0
                some = signs.some.adjoint(chosen.abs().sign())
                form = torch.where(alone, signs.sign.adjoint(chosen.sign()), form)
                error = torch.where(alone, some - form.abs(), torch.where(some == 0, 0.0, error))
            forms.append((source, form, error))
    if rows.on_input is not None:
        on_input = rows.on_input[piece, row]
        forms.append((0, on_input, torch.zeros_like(on_input)))
    for source, form, error in forms:
        low, high = (side.expand(len(rows.constants), -1)[piece] for side in bounds[source])
        unknown = (form.abs() <= error) & (error > 0)
        negative |= (((form > 0) | unknown) & ~(low >= 0)).any(-1)
        negative |= (((form < 0) | unknown) & ~(high <= 0)).any(-1)
    return ~negative
