"""Linear relaxations: DeepPoly-0, DeepPoly-1 and CROWN, for a batch of pieces.

Every activation is enclosed between two lines on its pre-activation interval; substituting them backwards gives bounds
that are linear in the input (see `backward`). The three differ in ReLU's lower line on an unstable neuron: y >= 0
(DeepPoly-0), y >= x (DeepPoly-1; Singh et al. 2019), or the one of the two that leaves less area (CROWN; Zhang et al.
2018). Pre-activation intervals are found layer by layer with the same method.

Work is done only where it can change something: a neuron that is stable on a piece, by an ancestor's bounds or a
decision, gets no rows, so a batch costs (unstable neurons) x (neurons before) instead of (neurons) x (neurons before).
The rows of different pieces are gathered into one dense tensor, as wide as the piece with most unstable neurons.
Nodes fed by the input alone get exact interval bounds by two matrix products.

Soundness: outward rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeGuard

import torch
from torch import Tensor

from ...kernels.deadline import TimeUp
from ...kernels.polytope import polytope_minimum
from ...problems.errors import BadInput
from ...problems.network.activation import Lines
from ...problems.network.affine import Dense
from ...problems.network.graph import Affine, Graph
from ...problems.network.layer import Layer, Operand
from ...problems.network.multivariate import Choice
from ..effort import BOUNDS, BoundEffort, LinearEffort
from ..names import Name
from ..protocol import AbstractRelaxation, Bounds, Means
from ..types import Derived, Multipliers, Pieces, Result, Rows
from .backward import Form, backward
from .carried import Carried, Enclosure
from .interval import CarriedIntervals, affine_interval
from .rounding import Rounding, Scales, pick, weigh

RULES = ("crown", "deeppoly-0", "deeppoly-1")


@dataclass(eq=False)
class Seen:
    """What is kept of the rows of pre-activations, by an operand's first neuron, where it is asked for."""

    reach: dict[int, Tensor] | None = None  # (B, n, D) |linear form|
    price: dict[int, Tensor] | None = None  # (B, 2, n, H) multipliers of the half-spaces, of both ends
    forward: bool = False  # whether functions were carried forward


@dataclass(frozen=True, eq=False)
class Linear(AbstractRelaxation):
    """Backward linear bounds of one network. `rule`: crown, deeppoly-0 or deeppoly-1."""

    rounding: Rounding
    scales: Scales  # of the root; `tighten` makes its own for each piece
    rule: str = "crown"
    refresh: bool = True  # whether `bound` bounds the layers of a piece anew before its rows
    effort: BoundEffort = BOUNDS  # for whatever bounds with it
    proving: bool = False  # whether results hold what proves them in full

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise BadInput(f"there is no rule of lines '{self.rule}'; the rules are {', '.join(RULES)}")

    @property
    def graph(self) -> Graph:
        """The network in the dtype and on the device of the computation."""
        return self.rounding.graph

    def enclosed(self, layer: Layer, ends: Sequence[tuple[Tensor, Tensor]]) -> Enclosure:
        """What a layer lies between on its pre-activation intervals (B, n), operand by operand."""
        return self.lines(layer, *ends[0]) if layer.elementwise is not None else layer.several.planes(ends)

    def lines(self, layer: Layer, lower: Tensor, upper: Tensor) -> Lines:
        """The lines of a function of one variable on its pre-activation intervals (B, n)."""
        function = layer.function
        if self.rule == "crown" or function.leak is None:
            return function.lines(lower, upper)
        return function.lines(lower, upper, self.choice(layer, ((lower, upper),)))

    def choice(self, layer: Layer, ends: Sequence[tuple[Tensor, Tensor]]) -> Choice:  # (B, n) each
        """The choices that `enclosed` stands for, for the entries of the first operand."""
        if self.rule == "crown" or not layer.is_relu:
            return layer.default_choice(ends)
        choice = torch.full_like(ends[0][0], 0.0 if self.rule == "deeppoly-0" else 1.0)
        return choice, torch.zeros_like(choice)

    def bound(self, pieces: Pieces, rows: Rows, start: Multipliers | None = None) -> Bounds:
        result, _ = self.formed(pieces, rows, refresh=self.refresh)
        return Bounds(result, pieces.with_pre(result.pre_lower, result.pre_upper))

    def formed(
        self,
        pieces: Pieces,
        rows: Rows,
        *,
        refresh: bool = True,
        record: bool = False,
        reach: dict[int, Tensor] | None = None,
    ) -> tuple[Result, Form]:
        """Lower bounds of the rows on each piece; with `refresh`, of every undecided pre-activation before.

        A `reach` that is given is filled with |linear form| (B, n, D) of the pre-activations, by the number of an
        operand's first neuron.
        """
        empty = torch.zeros(len(pieces), dtype=torch.bool, device=pieces.lower.device)
        scales = self.scales
        seen = Seen(reach, {} if self.proving and pieces.normals.shape[1] else None)
        if refresh:
            pieces, empty, scales = self._tighten_shared(pieces, seen)
        lines = self.all_lines(pieces)
        output = self.graph.output
        form = backward(self.graph, scales, lines, output, rows.coefficients, rows.constants, record=record)
        form.scales = scales
        result = conclude(self, pieces, rows, form, empty)
        if self.proving and refresh:
            result = replace(result, derived=self.derived(pieces, seen))
        return result, form

    def derived(self, pieces: Pieces, seen: Seen | None = None) -> Derived:
        """How the pre-activation bounds that the pieces have now were found, by this relaxation."""
        graph, price = self.graph, None
        choice = pieces.pre_lower.new_zeros(len(pieces), 2, graph.neurons)
        for layer in graph.layers:
            for side, chosen in enumerate(self.choice(layer, pieces.ends(layer))):
                choice[:, side, layer.operands[0].span] = chosen
        if seen is not None and seen.price is not None:
            none = choice.new_zeros(*choice.shape, pieces.normals.shape[1])
            parts = [seen.price.get(operand.span.start, none[:, :, operand.span]) for operand in graph.operands]
            price = torch.cat(parts, 2) if parts else none
        return Derived(pieces.pre_lower, pieces.pre_upper, choice, price, seen is not None and seen.forward)

    def _tighten_shared(self, pieces: Pieces, seen: Seen) -> tuple[Pieces, Tensor, Scales]:
        """`tighten`, done once where all pieces are the same set: the roots of a property with several goals."""
        if len(pieces) == 1 or not pieces.alike():
            return self.tighten(pieces, seen)
        one, empty, scales = self.tighten(pieces[:1], seen)
        every = torch.zeros(len(pieces), dtype=torch.int64, device=pieces.lower.device)
        for kept in (seen.reach, seen.price):
            if kept is not None:
                kept.update({i: value.expand(len(pieces), *value.shape[1:]) for i, value in kept.items()})
        return one[every], empty[every], scales.of(every)

    def all_lines(self, pieces: Pieces) -> dict[int, Enclosure]:
        """Lines, or planes, of every layer on the pieces' pre-activation bounds."""
        graph = self.graph
        if len({layer.nonlinearity for layer in graph.layers}) != 1 or graph.layers[0].elementwise is None:
            return {layer.position: self.enclosed(layer, pieces.ends(layer)) for layer in graph.layers}
        # One function: all layers at once cost as many calls as one.
        every = self.lines(graph.layers[0], pieces.pre_lower, pieces.pre_upper)
        return {layer.position: Lines(*(side[:, layer.span] for side in every)) for layer in graph.layers}

    def tighten(self, pieces: Pieces, seen: Seen | None = None) -> tuple[Pieces, Tensor, Scales]:
        """Pre-activation bounds of every undecided neuron, layer by layer; which pieces came out empty (B,);
        and the rounding vectors of each piece.

        Where inputs are few and little is known of the pieces yet, linear functions are carried forward as well,
        through the lines that backward bounds gave: they cost a tenth, and neurons they decide need no rows. Where
        nothing is known yet, intervals over the bounds found so far do that.
        """
        graph = self.graph
        pre_lower, pre_upper = pieces.pre_lower.clone(), pieces.pre_upper.clone()
        pieces = pieces.with_pre(pre_lower, pre_upper)
        empty = torch.zeros(len(pieces), dtype=torch.bool, device=pre_lower.device)
        lines: dict[int, Enclosure] = {}
        largest = torch.maximum(pieces.lower.abs(), pieces.upper.abs())
        scales = self.rounding.start(largest)
        carried = Carried(self.rounding, pieces, largest) if self._forward_pays(pieces) else None
        if seen is not None:
            seen.forward = carried is not None
        fresh = carried is None and bool((pre_lower == -torch.inf).any())
        boxes = CarriedIntervals(self.rounding, pieces.lower, pieces.upper) if fresh else None
        for position in range(1, len(graph.nodes)):
            layer = graph.layer_at.get(position)
            if layer is None:
                self.rounding.extend(scales, position)
                if carried is not None:
                    carried.affine(scales, position)
                elif boxes is not None:
                    boxes.affine(position)
                continue
            ends = pieces.ends(layer)  # views: writing to them writes to the pieces
            for operand, (lower, upper) in zip(layer.operands, ends, strict=True):
                ranges = None
                if boxes is not None:
                    ranges = boxes.ranges(operand)
                elif carried is not None:
                    ranges = carried.ranges(pieces, operand, scales.step, self.effort.linear.sweeps)
                if ranges is not None:
                    empty |= narrow(lower, upper, *ranges)
            for operand, (lower, upper) in zip(layer.operands, ends, strict=True):
                empty |= narrow(lower, upper, *self.pre_activation(pieces, scales, lines, operand, seen))
                size = torch.maximum(lower.abs(), upper.abs())
                scales.size[operand.source] = torch.minimum(scales.size[operand.source], size)
            lines[position] = self.enclosed(layer, ends)
            self.rounding.extend(scales, position, ends)
            if carried is not None:
                carried.layer(layer, ends, lines[position])
            elif boxes is not None:
                boxes.layer(layer, ends)
        return pieces, empty, scales

    def _forward_pays(self, pieces: Pieces) -> bool:
        """Whether most neurons are undecided still: on children of bounded pieces, forward bounds decide few more
        (acasxu, pieces a second with and without: fresh boxes 8,400 and 4,000, children 11,100 and 16,700)."""
        if pieces.lower.shape[1] > self.effort.linear.forward:
            return False
        return bool(undecided_neurons(self.graph, pieces).float().mean() > 0.5)

    def pre_activation(
        self,
        pieces: Pieces,
        scales: Scales,
        lines: dict[int, Enclosure],
        operand: Operand,
        seen: Seen | None = None,
        *,
        partly: bool = False,
    ) -> tuple[Tensor, Tensor]:  # (B, n), (B, n)
        """Bounds of the pre-activations of one operand, where undecided; elsewhere those that the pieces have.
        `partly`: where time is up, those found so far are returned, and theirs for the other neurons."""
        graph, layer = self.graph, self.graph.layer_at[operand.layer]
        source, first = operand.source, operand.span.start
        lower, upper = pieces.pre(operand)
        node, reach = graph.nodes[source], None if seen is None else seen.reach
        from_input = isinstance(node, Affine) and set(node.inputs) == {0}
        if isinstance(node, Affine) and from_input and reach is not None:
            every = torch.arange(node.size, device=lower.device)
            whole = reduce(torch.add, (operator.rows(every, lower.dtype) for operator in node.operators))
            reach[first] = whole.abs().expand(len(pieces), -1, -1)
        if from_input and pieces.normals.shape[1] == 0:
            return affine_interval(self.rounding, source, [(pieces.lower, pieces.upper)] * len(node.inputs))
        undecided = layer.undecided(pieces.ends(layer))[operand.index]
        counts, order = undecided.sum(1).sort(descending=True)
        new_lower, new_upper = lower.clone(), upper.clone()
        if reach is not None and not from_input:
            reach[first] = lower.new_zeros(*lower.shape, pieces.lower.shape[1])
        prices = None
        if seen is not None and seen.price is not None:
            prices = seen.price[first] = lower.new_zeros(len(lower), 2, lower.shape[1], pieces.normals.shape[1])
        size = max(n.size for n in graph.nodes[: source + 1])
        for group, width in _groups(order, counts.tolist(), size, self.effort.linear):
            index = (
                undecided[group].to(torch.uint8).topk(width, sorted=False).indices
            )  # (B, width); the rest is decided
            own = {i: chosen.of(group) for i, chosen in lines.items()}
            space, vectors, at = pieces.space(group), scales.of(group), group[:, None]
            for some in index.split(max(1, self.effort.linear.chunk // (2 * len(group) * size)), dim=1):
                try:
                    bounds = self._rows(space, vectors, own, source, some)
                except TimeUp:
                    if partly:
                        return new_lower, new_upper
                    raise
                new_lower[at, some], new_upper[at, some], spread, price = bounds
                if prices is not None:
                    prices[at, 0, some], prices[at, 1, some] = price.chunk(2, 1)
                if reach is not None and not from_input:
                    reach[first][at, some] = spread
        return new_lower, new_upper

    def _rows(
        self, pieces: Pieces, scales: Scales, lines: dict[int, Enclosure], source: int, index: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Bounds (B, U), |linear form| (B, U, D) and half-spaces' multipliers (B, 2 U, H) of the entries index (B, U)
        of node `source`: rows +e_i and -e_i, substituted backwards."""
        node = self.graph.nodes[source]
        count = index.shape[1]
        if isinstance(node, Affine) and len(node.operators) == 1 and _plain(node.operators[0]):
            picked = node.operators[0].weight[index]  # (B, U, m): the first step is a gather
            bias, error = node.bias[index], pick(scales.affine[source], index)
            first = {node.inputs[0]: torch.cat([picked, -picked], 1)}
            form = backward(self.graph, scales, lines, source - 1, picked, torch.cat([bias, -bias], 1), first=first)
            form = replace(form, slack=form.slack + torch.cat([error, error], 1))
        else:
            unit = pieces.lower.new_zeros(*index.shape, node.size).scatter_(2, index[..., None], 1.0)
            rows = torch.cat([unit, -unit], 1)
            form = backward(self.graph, scales, lines, source, rows, rows.new_zeros(rows.shape[:2]))
        value, price = self.least(pieces, form)
        spread = torch.maximum(form.linear[:, :count].abs(), form.linear[:, count:].abs())
        return value[:, :count], -value[:, count:], spread, price

    def minimum(self, pieces: Pieces, form: Form) -> Tensor:  # (B, R)
        """The least value of a form on each piece, rounding taken off."""
        return self.least(pieces, form)[0]

    def least(self, pieces: Pieces, form: Form) -> tuple[Tensor, Tensor]:  # (B, R), (B, R, H)
        """`minimum`, and the half-spaces' multipliers that prove it."""
        least, price = polytope_minimum(
            form.linear, pieces.lower, pieces.upper, pieces.normals, pieces.offsets, self.effort.linear.sweeps
        )
        return lowered(least, form, self.scales.step), price


def lowered(least: Tensor, form: Form, step: float) -> Tensor:  # (B, R)
    """The bounds of forms whose linear parts are at least so much, rounding taken off."""
    total = least + form.constant
    value = total - form.slack - step * (least.abs() + form.constant.abs())
    return torch.where(value < torch.inf, value, -torch.inf)  # what overflowed proves nothing


def built(linear: Linear, graph: Graph, name: Name, means: Means) -> Linear:
    """Rows over pre-activation bounds that are given: for the catalogue."""
    return replace(linear, refresh=False)


def narrow(lower: Tensor, upper: Tensor, low: Tensor, high: Tensor) -> Tensor:  # (B, n) -> (B,)
    """Writes better bounds into `lower` and `upper`; which pieces came out empty. Not a number is no bound."""
    torch.fmax(lower, low, out=lower)
    torch.fmin(upper, high, out=upper)
    empty = (lower > upper).any(-1)
    torch.maximum(lower, upper, out=upper)
    return empty


def _plain(operator: object) -> TypeGuard[Dense]:
    return isinstance(operator, Dense) and operator.repeat == 1


def undecided_neurons(graph: Graph, pieces: Pieces) -> Tensor:  # (B, N) bool
    """Which neurons are undecided on each piece."""
    columns = [part for layer in graph.layers for part in layer.undecided(pieces.ends(layer))]
    return torch.cat(columns, 1) if columns else torch.zeros_like(pieces.pre_lower, dtype=torch.bool)


def conclude(
    relaxation: Linear,
    pieces: Pieces,
    rows: Rows,
    form: Form,
    empty: Tensor,
    multipliers: Multipliers | None = None,
) -> Result:
    """The bounds that the final forms give on the pieces, rounded by the vectors they were made with, or the root's."""
    if rows.on_input is not None:
        linear = form.linear + rows.on_input
        slack = form.slack + weigh(linear, (form.scales or relaxation.scales).sum[0])
        form = replace(form, linear=linear, slack=slack)
    lower, price = relaxation.least(pieces, form)
    return Result(
        lower=lower,
        forms=form.linear,
        constants=form.constant - form.slack,
        slack=form.slack,
        pre_lower=pieces.pre_lower,
        pre_upper=pieces.pre_upper,
        empty=empty,
        multipliers=multipliers,
        price=price if relaxation.proving else None,
    )


def _groups(order: Tensor, counts: list[int], size: int, effort: LinearEffort) -> Iterator[tuple[Tensor, int]]:
    """Pieces of like width, and their width: `order` sorts them by how many rows each needs, most first.

    The rows of a group form one dense tensor, so a few pieces with many rows must not set the width of all.
    """
    start = 0
    while start < len(counts) and counts[start]:
        width = counts[start]
        most = max(1, effort.chunk // (2 * width * size))
        stop = start + 1
        while stop < len(counts) and stop - start < most and (2 * counts[stop] > width or stop - start < effort.fewest):
            stop += 1
        while stop > start + 1 and not counts[stop - 1]:
            stop -= 1
        yield order[start:stop], width
        start = stop
