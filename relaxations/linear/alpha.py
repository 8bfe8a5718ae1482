"""Optimised linear bounds: slopes, and multipliers for decided neurons and half-spaces (alpha-CROWN, beta-CROWN).

A backward linear bound has free parameters: where each line lies (alpha; Xu et al. 2021), and one multiplier >= 0 for
every constraint the piece satisfies: a decided neuron, sign (z - point) >= 0 (beta; Wang et al. 2021), or a half-space
of the input. Each value gives a sound bound, so a few steps of projected gradient ascent (Adam) on all of them at once
improve the bound and may stop anywhere. With all multipliers optimal the bound equals the LP over the same lines.

How this version differs: gradients are the relaxed values of one forward pass (see `trace`), not automatic
differentiation, and every piece keeps the best bound it met. Half-spaces are eliminated exactly, coordinate by
coordinate, where the form is minimised (see `kernels.polytope`), so only alpha and beta are stepped.

Soundness: outward rounded, at every step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...kernels.deadline import TimeUp
from ...kernels.polytope import box_minimiser, polytope_minimiser, polytope_minimum
from ...problems.network.activation import Lines
from ...problems.network.graph import Graph
from ...problems.network.layer import Layer
from ..names import Name
from ..protocol import AbstractRelaxation, Bounds, Means
from ..types import Multipliers, Pieces, Result, Rows
from .ascent import Ascent, Rates
from .backward import Form, backward
from .carried import Enclosure
from .linear import Linear, conclude
from .rounding import weigh
from .row_multipliers import NeuronRows
from .trace import relaxed_values


@dataclass(frozen=True, eq=False)
class Alpha(AbstractRelaxation):
    """Optimised bounds on pieces whose pre-activation bounds are given."""

    linear: Linear
    steps: int
    rate: float | None = None  # the first step size of slopes; None: as the effort says
    row_rate: float | None = None  # and of rows
    neuron_rows: NeuronRows | None = None  # multi-neuron rows that hold on every piece
    patient: bool = False  # go on where every piece is closed already: every row is wanted as tight as it gets
    ledger: list[Any] | None = None  # where to write what proves bounds of layers and neuron rows (`rows.ledger`)

    def start(self, pieces: Pieces, count: int) -> Multipliers:
        """CROWN's slopes and no multipliers, for `count` rows a piece."""
        graph = self.linear.graph
        sides = 1 if only_relu(graph) else 2
        choice = pieces.pre_lower.new_zeros(len(pieces), count, sides, graph.neurons)
        for layer in graph.layers:
            defaults = layer.default_choice(pieces.ends(layer))
            for side in range(sides):
                choice[:, :, side, layer.operands[0].span] = defaults[side][:, None]
        split = choice.new_zeros(len(pieces), count, pieces.neuron.shape[1])
        return Multipliers(choice, split, choice.new_zeros(len(pieces), count, len(self.neuron_rows or ())))

    def bound(self, pieces: Pieces, rows: Rows, start: Multipliers | None = None) -> Bounds:
        result, values, _ = self.optimise(pieces, rows, start)
        return Bounds(result, pieces, values)

    def optimise(
        self,
        pieces: Pieces,
        rows: Rows,
        start: Multipliers | None = None,
        node: int | None = None,
        ascent: Ascent | None = None,
    ) -> tuple[Result, list[Tensor], Form]:
        """The best bounds met in `steps` steps, or in fewer where time is up; the last relaxed values and the form they
        belong to.

        With `node`, the rows are functions of that node's value instead of the output. An `ascent` goes on where it
        stands.
        """
        neuron_rows = self.neuron_rows if self.neuron_rows is None or node is None else self.neuron_rows.below(node)
        if ascent is None:
            ascent = self.ascent(start or self.start(pieces, rows.constants.shape[1]), neuron_rows)
        fixed = self.linear.all_lines(pieces)
        best: Result | None = None
        last: tuple[list[Tensor], Form] | None = None
        scale: Tensor | None = None
        for step in range(self.steps + 1):
            try:
                new = self._lines(pieces, fixed, ascent.at.choice)
                result, reached = self._evaluate(pieces, rows, new, ascent.at, neuron_rows, node)
                met = relaxed_values(self.linear.graph, new, reached.at, self._minimiser(pieces, result.forms))
            except TimeUp:
                if best is None or last is None:
                    raise
                return replace(best, scores=torch.zeros_like(pieces.pre_lower)), *last
            best = result if best is None else better(best, result)
            lines, form, values = new, reached, met
            last = values, form
            if step == self.steps or (not self.patient and bool(rows.closed(best.lower).all())):
                break
            slope, push = self._gradient(pieces, ascent.at.choice, form.at, values)
            if neuron_rows is not None and scale is None:
                scale = neuron_rows.scale(form.at, ascent.at.neuron_rows)
            ascent.climb(slope, push, None if neuron_rows is None else neuron_rows.violations(values), scale)
        own = form.at
        if neuron_rows is not None:  # what rows took over from the neurons' own lines is lost there all the same
            tied = neuron_rows.added(ascent.at.neuron_rows)[0]
            own = {i: value - tied[i] if i in tied else value for i, value in own.items()}
        scores = loss(self.linear.graph, pieces, lines, own, values)
        assert best is not None, "the first step has a result"
        return replace(best, scores=scores), values, form

    def ascent(self, start: Multipliers, neuron_rows: NeuronRows | None) -> Ascent:
        """An ascent from these multipliers; of the rows' only those of `neuron_rows` are stepped, which come first."""
        start = replace(start, neuron_rows=start.neuron_rows[..., : len(neuron_rows or ())])
        effort = self.linear.effort.linear
        rate = effort.rate if self.rate is None else self.rate
        rows = effort.rows_rate if self.row_rate is None else self.row_rate
        return Ascent(start, Rates(rate, effort.decided_rate, rows), effort)

    def _minimiser(self, pieces: Pieces, forms: Tensor) -> Tensor:  # (B, S, D) -> (B, S, D)
        """Where each form is least on its piece."""
        if not pieces.normals.shape[1]:
            return box_minimiser(forms, pieces.lower, pieces.upper)
        polytope = pieces.lower, pieces.upper, pieces.normals, pieces.offsets
        _, price = polytope_minimum(forms, *polytope, self.linear.effort.linear.sweeps)
        return polytope_minimiser(forms, price, *polytope)

    def _evaluate(
        self,
        pieces: Pieces,
        rows: Rows,
        lines: Mapping[int, Enclosure],
        current: Multipliers,
        neuron_rows: NeuronRows | None,
        node: int | None,
    ) -> tuple[Result, Form]:
        """One backward pass with these lines and multipliers."""
        graph, scales = self.linear.graph, self.linear.scales
        empty = torch.zeros(len(pieces), dtype=torch.bool, device=pieces.lower.device)
        added, constants = decisions(graph, pieces, current.split)
        doubt = scales.step * (pieces.neuron.shape[1] + 2) * (current.split * pieces.point.abs()[:, None]).sum(-1)
        if neuron_rows is not None:
            tied, shift, lost = neuron_rows.added(current.neuron_rows)
            doubt = doubt + lost
            constants = constants + shift
            for position, value in tied.items():
                if position in added:
                    doubt = doubt + weigh(added[position].abs() + value.abs(), scales.sum[position])
                    value = added[position] + value
                added[position] = value
        form = backward(
            graph,
            scales,
            lines,
            graph.output if node is None else node,
            rows.coefficients,
            rows.constants + constants,
            added=added,
            record=True,
        )
        form.slack = form.slack + doubt
        return conclude(self.linear, pieces, rows, form, empty, current), form

    def _lines(self, pieces: Pieces, fixed: dict[int, Enclosure], choice: Tensor) -> dict[int, Enclosure]:
        """Lines with the chosen slopes; of a ReLU only the lower slope of undecided neurons depends on them."""
        lines: dict[int, Enclosure] = {}
        for layer in self.linear.graph.layers:
            position, function, where = layer.position, layer.elementwise, layer.operands[0].span
            given = fixed[position]
            if function is None or not isinstance(given, Lines):
                chosen_ = choice[:, :, 0, where], choice[:, :, 1, where]
                lines[position] = layer.several.planes(pieces.ends(layer), chosen_)
                continue
            leak, (lower, upper) = function.leak, (t[:, None] for t in pieces.pre(layer))
            if leak is not None:
                chosen = choice[:, :, 0, where] * (1 - leak) + leak
                chosen = torch.where((lower < 0) & (upper > 0), chosen, given.lower_slope[:, None])
                lines[position] = given._replace(lower_slope=chosen)
            else:
                lines[position] = function.lines(lower, upper, (choice[:, :, 0, where], choice[:, :, 1, where]))
        return lines

    def _gradient(
        self, pieces: Pieces, choice: Tensor, coefficients: Mapping[int, Tensor], values: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The bound's gradient with respect to choices (B, S, sides, N) and decision multipliers (B, S, P)."""
        slope = torch.zeros_like(choice)
        flat = []
        for layer in self.linear.graph.layers:
            where, coefficient = layer.operands[0].span, coefficients.get(layer.position)
            z = [values[operand.source] for operand in layer.operands]
            flat += z
            if coefficient is None:
                continue
            leak = None if layer.elementwise is None else layer.elementwise.leak
            if leak is not None:
                slope[:, :, 0, where] = coefficient.clamp(min=0) * z[0] * (1 - leak)
            else:
                slope[:, :, :, where] = _smooth_gradient(layer, pieces, choice[:, :, :, where], coefficient, z)
        if pieces.neuron.shape[1] == 0:
            return slope, slope.new_zeros(*slope.shape[:2], 0)
        index = pieces.neuron.clamp(min=0)[:, None].expand(-1, choice.shape[1], -1)
        at = torch.cat(flat, -1).gather(-1, index)
        push = -(pieces.sign * (pieces.neuron >= 0))[:, None] * (at - pieces.point[:, None])
        return slope, push


def built(linear: Linear, graph: Graph, name: Name, means: Means) -> Alpha:
    """Every row as tight as the steps make it: for the catalogue."""
    return Alpha(linear, means.steps, patient=True)


def _smooth_gradient(
    layer: Layer, pieces: Pieces, choice: Tensor, coefficient: Tensor, z: Sequence[Tensor]
) -> Tensor:  # (B, S, 2, n)
    """Gradient through a layer's own lines or planes, which only it knows: automatic differentiation of them."""
    ends = pieces.ends(layer)
    with torch.enable_grad():
        leaf = choice.detach().clone().requires_grad_()
        both = leaf[:, :, 0], leaf[:, :, 1]
        if layer.elementwise is None:
            total = coefficient * layer.several.planes(ends, both).value(coefficient >= 0, z)
        else:
            lower, upper = (t[:, None] for t in ends[0])
            lines = layer.function.lines(lower, upper, both)
            positive, negative = coefficient.clamp(min=0), coefficient.clamp(max=0)
            total = positive * (lines.lower_slope * z[0] + lines.lower_bias)
            total = total + negative * (lines.upper_slope * z[0] + lines.upper_bias)
        if not total.requires_grad:
            return torch.zeros_like(choice)
        return torch.autograd.grad(total.sum(), leaf)[0].nan_to_num(0.0, 0.0, 0.0)


def decisions(graph: Graph, pieces: Pieces, split: Tensor) -> tuple[dict[int, Tensor], Tensor]:
    """What the multipliers of decided neurons add: to coefficients at their pre-activations, by node, and to constants.

    The constraint is sign (z - point) >= 0, so subtracting multiplier * sign * (z - point) keeps a lower bound.
    """
    if pieces.neuron.shape[1] == 0:
        return {}, split.new_zeros(split.shape[:2])
    weight = -split * (pieces.sign * (pieces.neuron >= 0))[:, None]  # (B, S, P)
    flat = split.new_zeros(*split.shape[:2], graph.neurons)
    flat.scatter_add_(2, pieces.neuron.clamp(min=0)[:, None].expand_as(weight), weight)
    pieces_constants = -(weight * pieces.point[:, None]).sum(-1)
    added: dict[int, Tensor] = {}
    for operand in graph.operands:
        source, own = operand.source, flat[:, :, operand.span]
        added[source] = added[source] + own if source in added else own
    return added, pieces_constants


def loss(
    graph: Graph,
    pieces: Pieces,
    lines: Mapping[int, Enclosure],
    coefficients: Mapping[int, Tensor],
    values: list[Tensor],
) -> Tensor:  # (B, N)
    """How much the bound can lose at each undecided neuron: its negative coefficient times the upper line's intercept
    (BaBSR; Bunel et al. 2020). What it loses at the relaxed value itself only breaks ties: as a score of its own it
    needs 2.4 times the pieces (safenlp ruarobot 4090: 283,897 and 116,225), and the lower line's loss, which the
    optimised slope has already made small, misleads (980,000 pieces and no end). For smooth functions, both lines'
    distance to the function counts, for layers of several operands the gap between planes. Heuristic; summed over rows.
    """
    scores = torch.zeros_like(pieces.pre_lower)
    for layer in graph.layers:
        if layer.position not in coefficients:
            continue
        own = lines[layer.position]
        if not isinstance(own, Lines):
            gaps = layer.several.gaps(coefficients[layer.position], pieces.ends(layer))
            for operand, gap in zip(layer.operands, gaps, strict=True):
                scores[:, operand.span] = gap.sum(1).nan_to_num(0.0)
            continue
        lower, upper = pieces.pre(layer)
        chosen = [t if t.ndim == 3 else t[:, None] for t in own]
        z = torch.minimum(torch.maximum(values[layer.source], lower[:, None]), upper[:, None])
        exact = layer.function.value(z)
        coefficient = coefficients[layer.position]
        above = chosen[2] * z + chosen[3] - exact
        below = exact - chosen[0] * z - chosen[1]
        here = coefficient.clamp(min=0) * below - coefficient.clamp(max=0) * above
        if layer.function.leak is not None:
            here = 0.01 * here - coefficient.clamp(max=0) * chosen[3]
        undecided = ~layer.function.decided(lower, upper)
        scores[:, layer.span] = torch.where(undecided, here.sum(1), 0.0)
    return scores


def better(old: Result, new: Result) -> Result:
    """Row by row the larger bound, with the form and the multipliers it came from."""
    won = new.lower > old.lower
    pick = lambda a, b: torch.where(won.reshape(*won.shape, *[1] * (a.ndim - 2)), b, a)  # noqa: E731
    a, b = old.multipliers, new.multipliers
    assert a is not None and b is not None, "optimised bounds have multipliers"
    return replace(
        new,
        lower=torch.maximum(old.lower, new.lower),
        forms=pick(old.forms, new.forms),
        constants=pick(old.constants, new.constants),
        slack=pick(old.slack, new.slack),
        multipliers=Multipliers(pick(a.choice, b.choice), pick(a.split, b.split), pick(a.neuron_rows, b.neuron_rows)),
        price=None if old.price is None or new.price is None else pick(old.price, new.price),
    )


def only_relu(graph: Graph) -> bool:
    """Whether every activation leaves only its lower line to choose."""
    return all(layer.is_relu for layer in graph.layers)
