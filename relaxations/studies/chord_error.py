"""How far a chord relaxation's outputs can be from the network's: upper bounds of E(lambda), see `chord`.

Let s be the network's pre-activations at x and t those of f_lambda. Where neuron i is replaced,

    chord(t) - ReLU(s) = q (t - s) + r,   r = chord(s) - ReLU(s) in [0, g];

where it is not, ReLU(t) - ReLU(s) = (t - s) / 2 + r with |r| <= |t - s| / 2, or t - s or 0 if it is stable for both.
Three bounds follow, from loose to tight:

- `interval_width`: interval bounds of the outputs hold for the whole lattice, so its elements are at most as far apart
  as these are wide. This is how we read the published bound, which is taken from interval bounds of the all-chord
  network; its formula may differ by more, for it is said not to vanish where the box shrinks to a point.
- `recursive_error`: absolute values layer by layer, with k_i = q_i where neuron i is replaced and 1 otherwise,

      e_layer = min(K |W| e_before + G, width of the layer's own values),    E <= max_r (|W_out| e)_r.

  It vanishes on a point, and the minimum keeps it below `interval_width`. At the top of the lattice without the minimum
  it is e_k <= |Q_k W_k| e_{k-1} + g_k.
- `telescoped_error`: absolute values only at the end. As the recursion above is linear in t - s with known slopes,
  f_lambda - f is exactly the sum over all neurons of a_i r_i, where a = the signed product of weights and slopes behind
  the neuron. So f_lambda - f lies in

      [- sum a^- g, sum a^+ g]  with  +- sum |a| d / 2  for neurons not replaced, d >= |t - s| by the recursion.

  At the top nothing but weights, slopes and gaps enters. One backward pass with as many rows as outputs.

Every bound holds for each of a batch of lambda. Neither of the last two is always below the other away from the top;
`error_bound` takes the least, row by row. Soundness: outward rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.polytope import box_minimum
from ...kernels.proof_constants import INFLATE
from ...kernels.rounding import gamma, unit_roundoff
from ...problems.network.graph import Affine
from ..linear.rounding import Rounding
from ..protocol import AbstractRelaxation, Bounds, in_float64, rounded_down, without_forms
from ..types import Multipliers, Pieces, Rows
from .chord import Chords

U = unit_roundoff(torch.float64)


def interval_width(chords: Chords) -> Tensor:  # (n_out,)
    """How wide the outputs' intervals are, whatever lambda: two elements of the lattice are no further apart."""
    return (chords.output_upper - chords.output_lower) * (1 + 4 * U)


def recursive_error(chords: Chords, which: Tensor) -> Tensor:  # (*batch, N) bool -> (*batch, n_out)
    """Bounds of |f_lambda - f| for each output, layer by layer in absolute values."""
    return _forward(chords, which)[0]


def telescoped_error(chords: Chords, which: Tensor) -> Tensor:  # (*batch, N) bool -> (*batch, n_out)
    """Bounds of |f_lambda - f| for each output, every neuron's share weighted by what stands behind it."""
    slope, _ = slopes(chords, which)
    positive, either = remainders(chords, which, _forward(chords, which)[1])
    mass, terms = _mass(chords, slope, positive + either)
    return _backward(chords, slope, positive, either) + gamma(terms, torch.float64) * mass * INFLATE


def least_error(chords: Chords, which: Tensor) -> Tensor:  # (*batch, N) bool -> (*batch, n_out)
    """Bounds of |f_lambda - f| for each output: the least of all here."""
    least = torch.minimum(recursive_error(chords, which), telescoped_error(chords, which))
    return torch.minimum(least, interval_width(chords))


def error_bound(chords: Chords, which: Tensor) -> Tensor:  # (*batch, N) bool -> (*batch,)
    """An upper bound of E(lambda)."""
    return least_error(chords, which).amax(-1)


@dataclass(frozen=True, eq=False)
class Apart(AbstractRelaxation):
    """Rows of f_lambda - f, the network `chord.difference`, on pieces of the chords' box: each output lies within its
    error bound of zero."""

    chords: Chords
    which: Tensor  # (N,) bool

    def bound(self, pieces: Pieces, rows: Rows, start: Multipliers | None = None) -> Bounds:
        wide, exact = in_float64(pieces, rows)
        most = least_error(self.chords, self.which)
        lost = exact.coefficients.abs() @ most
        lower, size = exact.constants - lost, exact.constants.abs() + lost
        if exact.on_input is not None:
            least = box_minimum(exact.on_input, wide.lower, wide.upper)
            reach = torch.maximum(wide.lower.abs(), wide.upper.abs())
            lower, size = lower + least, size + (exact.on_input.abs() @ reach[..., None])[..., 0]
        terms = len(most) + wide.lower.shape[1] + 4
        lower = lower - 2 * gamma(terms, torch.float64) * size - torch.finfo(torch.float64).tiny
        return Bounds(without_forms(pieces, rounded_down(lower, pieces.lower)), pieces)


def slopes(chords: Chords, which: Tensor) -> tuple[Tensor, Tensor]:  # (*batch, N) -> (*batch, N), (*batch, N)
    """For every neuron, slope and half width with value(t) - value(s) in (slope +- half width) (t - s) + [0, gap]."""
    least = torch.empty_like(chords.gap)
    for layer in chords.graph.layers:
        least[layer.span] = layer.leak
    active, dead = chords.reach_lower >= 0, chords.reach_upper <= 0
    middle = torch.where(active, 1.0, torch.where(dead, least, (1 + least) / 2))
    half = torch.where(active | dead, 0.0, (1 - least) / 2 + 2 * U)
    return torch.where(which, chords.slope, middle), torch.where(which, 0.0, half)


def remainders(chords: Chords, which: Tensor, apart: Tensor) -> tuple[Tensor, Tensor]:  # each (*batch, N)
    """p, h >= 0 with value(t) - value(s) - slope (t - s) in [-h, p + h], where |t - s| <= `apart`."""
    _, half = slopes(chords, which)
    return torch.where(which, chords.gap, 0.0).expand(which.shape), half * apart * (1 + 2 * U)


def _forward(chords: Chords, which: Tensor) -> tuple[Tensor, Tensor]:  # (*batch, n_out), (*batch, N)
    """The recursion: bounds of |f_lambda - f| for the outputs and for the pre-activations."""
    graph, rounding = chords.graph, Rounding(chords.graph)
    slope, half = slopes(chords, which)
    gap = torch.where(which, chords.gap, 0.0)
    error: list[Tensor] = [chords.lower.new_zeros(*which.shape[:-1], graph.input_size)]
    before: list[Tensor] = []
    for position, node in enumerate(graph.nodes[1:], 1):
        arguments = [error[i] for i in node.inputs]
        if isinstance(node, Affine):
            error.append(_absolute(rounding, position, arguments))
            continue
        part = chords.part(position)
        before.append(arguments[0])
        after = ((slope + half)[..., part] * arguments[0] + gap[..., part]) * (1 + 8 * U)
        error.append(torch.minimum(after, chords.post_width[part]))
    return error[-1], torch.cat(before, -1) if before else gap


def _mass(chords: Chords, slope: Tensor, share: Tensor) -> tuple[Tensor, int]:  # (*batch, N) twice -> (*batch, n_out)
    """sum of |a|' share, a' the product of absolute values, which rounding errors of a are relative to; and how many
    roundings a term of the telescoped sum meets."""
    graph, rounding = chords.graph, Rounding(chords.graph)
    value: list[Tensor] = [chords.lower.new_zeros(*share.shape[:-1], graph.input_size)]
    terms = graph.neurons + 8
    for position, node in enumerate(graph.nodes[1:], 1):
        arguments = [value[i] for i in node.inputs]
        if isinstance(node, Affine):
            value.append(_absolute(rounding, position, arguments))
            longest = max(m.terms for m in rounding.magnitude[position])
            terms += 2 * longest + len(node.inputs) + 4  # the product's own roundings, and those of stored weights
        else:
            part = chords.part(position)
            value.append((slope[..., part] * arguments[0] + share[..., part]) * (1 + 8 * U))
            terms += 4
    return value[-1], terms


def _absolute(rounding: Rounding, position: int, arguments: list[Tensor]) -> Tensor:
    """sum |A_i| e_i for e_i >= 0, rounded up, the exact weights meant."""
    node, total = rounding.graph.nodes[position], None
    pairs = zip(rounding.absolute[position], rounding.magnitude[position], arguments, strict=True)
    for absolute, magnitude, argument in pairs:
        more = 2 * gamma(magnitude.terms + len(node.inputs) + 4, torch.float64)
        if magnitude is absolute:
            reach = absolute.apply(argument) * (1 + more)
        else:
            reach = absolute.apply(argument) * (1 + more) + magnitude.apply(argument) * more
        total = reach if total is None else (total + reach) * (1 + 2 * U)
    assert total is not None, "an affine node reads something"
    return total


def _backward(chords: Chords, slope: Tensor, positive: Tensor, either: Tensor) -> Tensor:  # -> (*batch, n_out)
    """max(sum a^+ p, sum a^- p) + sum |a| h by one backward pass, in plain float64."""
    graph, batch = chords.graph, slope.shape[:-1]
    rows = torch.eye(graph.output_size, dtype=torch.float64).expand(*batch, -1, -1)
    pending = {graph.output: rows}
    above = below = rows.new_zeros(*batch, graph.output_size)
    for position in range(graph.output, 0, -1):
        weight = pending.pop(position, None)
        if weight is None:
            continue
        node, parts = graph.nodes[position], []
        if isinstance(node, Affine):
            parts = [(i, op.adjoint(weight)) for i, op in zip(node.inputs, node.operators, strict=True)]
        else:
            part = chords.part(position)
            p, h = positive[..., None, part], either[..., None, part]
            symmetric = (weight.abs() * h).sum(-1)
            above = above + (weight.clamp(min=0) * p).sum(-1) + symmetric
            below = below + ((-weight).clamp(min=0) * p).sum(-1) + symmetric
            parts = [(node.inputs[0], weight * slope[..., None, part])]
        for source, value in parts:
            if source:
                pending[source] = pending[source] + value if source in pending else value
    return torch.maximum(above, below)
