"""What given multipliers prove, computed again in float64: the checking side of optimised bounds.

Nothing is searched for here. Slopes, decisions', half-spaces' and neuron rows' multipliers come from outside, from
whoever optimised them in whatever precision; one backward pass says what they prove, with its rounding counted, whether
or not the optimiser was right about anything. A multiplier out of its range proves nothing: its piece gets the bound
minus infinity. Pre-activation bounds that were found layer by layer (`Derived`) are found again in the same order: a
claim is used as far as it follows from what is known of the piece, from intervals, from functions that are carried
forward, where they were, or from the neuron's own rows.

Shared with the search are what both must do alike: the backward pass, its rounding vectors, intervals, forward
functions and minima over boxes. Not shared: the optimiser, and every choice of what to bound and how.

Soundness: outward rounded, given that the pieces' own pre-activation bounds hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from ...kernels.polytope import priced_minimum
from ...kernels.proof_constants import MISSED
from ...problems.network.graph import Graph
from ...problems.network.layer import Layer, Operand
from ...problems.network.multivariate import Choice
from ..effort import BOUNDS
from ..types import Derived, Multipliers, Pieces, Rows
from .alpha import decisions
from .backward import Form, backward
from .carried import Carried, Enclosure
from .interval import CarriedIntervals
from .linear import lowered, narrow
from .rounding import Rounding, Scales, weigh
from .row_multipliers import NeuronRows


class Layers(NamedTuple):
    """Pieces with the pre-activation bounds that were proved again. `empty`: (B,) some neuron has none left; `fine`:
    (B,) every claim was reached, and the multipliers are in range."""

    pieces: Pieces
    scales: Scales
    empty: Tensor
    fine: Tensor


class Proved(NamedTuple):
    """Row s of piece b is at least forms[b, s] x + constants[b, s] on it, and at least lower[b, s]."""

    lower: Tensor  # (B, S)
    forms: Tensor  # (B, S, D)
    constants: Tensor  # (B, S)
    valid: Tensor  # (B,) bool: whether all multipliers are in range; where not, nothing is proved


@dataclass(frozen=True, eq=False)
class Recomputed:
    """One network in float64, on the device of its proofs."""

    rounding: Rounding

    @classmethod
    def of(cls, graph: Graph, device: torch.device | str = "cpu") -> Recomputed:
        """Of a network in any precision."""
        return cls(Rounding(graph.to(torch.float64, device)))

    @property
    def graph(self) -> Graph:
        return self.rounding.graph

    def scales(self, pieces: Pieces) -> Scales:
        """Rounding vectors of the pieces as they are."""
        return self.rounding.local(
            _largest(pieces), {layer.position: pieces.ends(layer) for layer in self.graph.layers}
        )

    def scales_of_one(self, pieces: Pieces) -> Scales:
        """Rounding vectors (n,) of one piece, for neuron rows that hold on it."""
        pre = {
            layer.position: [(lower[0], upper[0]) for lower, upper in pieces.ends(layer)] for layer in self.graph.layers
        }
        return self.rounding.local(_largest(pieces)[0], pre)

    def layers(self, pieces: Pieces, derived: Derived) -> Layers:
        """The pre-activation bounds that follow as `derived` says from those of the pieces."""
        graph, price = self.graph, derived.price
        pieces = pieces.with_pre(pieces.pre_lower.clone(), pieces.pre_upper.clone())
        fine = _within(derived.choice, 1.0)
        fine = fine if price is None else fine & _within(price, torch.inf)
        empty = torch.zeros_like(fine)
        choice = derived.choice.clamp(0, 1).nan_to_num()
        scales, lines = self.rounding.start(_largest(pieces)), dict[int, Enclosure]()
        boxes = CarriedIntervals(self.rounding, pieces.lower, pieces.upper)
        carried = Carried(self.rounding, pieces, _largest(pieces)) if derived.forward else None
        for position in range(1, len(graph.nodes)):
            layer = graph.layer_at.get(position)
            if layer is None:
                self.rounding.extend(scales, position)
                boxes.affine(position)
                if carried is not None:
                    carried.affine(scales, position)
                continue
            ends = pieces.ends(layer)  # views: writing to them writes to the pieces
            for operand, (lower, upper) in zip(layer.operands, ends, strict=True):
                empty = empty | narrow(lower, upper, *boxes.ranges(operand))
                if carried is not None:
                    found = carried.ranges(pieces, operand, scales.step, BOUNDS.linear.sweeps)
                    empty = empty | narrow(lower, upper, *found)
            for operand, (lower, upper) in zip(layer.operands, ends, strict=True):
                empty = empty | narrow(lower, upper, *self._claimed(operand, pieces, derived, scales, lines))
                claim = derived.lower[:, operand.span], derived.upper[:, operand.span]
                fine = fine & agree(lower, claim[0]) & agree(-upper, -claim[1])
                # Lines as they were used, as far as what they stand on was proved.
                torch.minimum(lower, claim[0], out=lower)
                torch.maximum(upper, claim[1], out=upper)
                torch.maximum(lower, upper, out=upper)
                size = torch.maximum(lower.abs(), upper.abs())
                scales.size[operand.source] = torch.minimum(scales.size[operand.source], size)
            first = layer.operands[0].span
            lines[position] = enclosed(layer, ends, (choice[:, 0, first], choice[:, 1, first]))
            self.rounding.extend(scales, position, ends)
            boxes.layer(layer, ends)
            if carried is not None:
                carried.layer(layer, ends, lines[position])
        return Layers(pieces, scales, empty, fine | empty)

    def _claimed(
        self, operand: Operand, pieces: Pieces, derived: Derived, scales: Scales, lines: dict[int, Enclosure]
    ) -> tuple[Tensor, Tensor]:  # (B, n), (B, n)
        """Bounds of the pre-activations that are claimed to be narrower than is known; infinite elsewhere."""
        lower, upper = pieces.pre(operand)
        low, high = torch.full_like(lower, -torch.inf), torch.full_like(upper, torch.inf)
        wanted = (derived.lower[:, operand.span] > lower) | (derived.upper[:, operand.span] < upper)
        width = int(wanted.sum(1).max()) if wanted.numel() else 0
        if not width:
            return low, high
        index = wanted.to(torch.uint8).topk(width, sorted=False).indices  # (B, U): those, and some more
        space = pieces.space(torch.arange(len(pieces), device=lower.device))
        size = max(node.size for node in self.graph.nodes[: operand.source + 1])
        for some in index.split(max(1, BOUNDS.linear.chunk // (2 * len(pieces) * size)), dim=1):
            unit = lower.new_zeros(*some.shape, operand.size).scatter_(2, some[..., None], 1.0)
            rows = torch.cat([unit, -unit], 1)
            form = backward(self.graph, scales, lines, operand.source, rows, rows.new_zeros(rows.shape[:2]))
            price = rows.new_zeros(*rows.shape[:2], pieces.normals.shape[1])
            if derived.price is not None and derived.price.shape[-1]:
                own = derived.price[:, :, operand.span].clamp(min=0).nan_to_num()  # (B, 2, n, H)
                at = some[:, None, :, None].expand(-1, 2, -1, own.shape[-1])
                price = own.gather(2, at).flatten(1, 2)
            value = _least(space, form, price, scales.step)
            low.scatter_(1, some, value[:, : some.shape[1]])
            high.scatter_(1, some, -value[:, some.shape[1] :])
        return low, high

    def rows(
        self,
        pieces: Pieces,
        rows: Rows,
        multipliers: Multipliers,
        price: Tensor | None = None,  # (B, S, H)
        neuron_rows: NeuronRows | None = None,
        at: tuple[int, Scales] | None = None,  # a node and rounding vectors, if not the output and the pieces' own
    ) -> Proved:
        """What these multipliers prove of the rows on each piece; minus infinity where one is out of range."""
        graph = self.graph
        node, scales = at or (graph.output, self.scales(pieces))
        count, width = rows.constants.shape
        given = price if price is not None else rows.constants.new_zeros(count, width, pieces.normals.shape[1])
        valid = _within(multipliers.choice, 1.0) & _within(given, torch.inf)
        valid &= _within(multipliers.split, torch.inf) & _within(multipliers.neuron_rows, torch.inf)
        valid &= ~((given > 0) & (pieces.offsets == torch.inf)[:, None]).flatten(1).any(1)
        valid &= (
            multipliers.neuron_rows.shape[-1] == len(neuron_rows or ()) and given.shape[-1] == pieces.normals.shape[1]
        )
        added, constants = decisions(graph, pieces, multipliers.split)
        terms, points = pieces.neuron.shape[1] + 2, pieces.point.abs()[:, None]
        doubt = scales.step * terms * (multipliers.split * points).sum(-1)
        if neuron_rows is not None and multipliers.neuron_rows.shape[-1] == len(neuron_rows) > 0:
            tied, shift, lost = neuron_rows.added(multipliers.neuron_rows)
            doubt, constants = doubt + lost, constants + shift
            for position, value in tied.items():
                if position in added:
                    doubt = doubt + weigh(added[position].abs() + value.abs(), scales.sum[position])
                    value = added[position] + value
                added[position] = value
        lines = self._lines(pieces, multipliers.choice)
        form = backward(graph, scales, lines, node, rows.coefficients, rows.constants + constants, added=added)
        form.slack = form.slack + doubt
        if rows.on_input is not None:
            linear = form.linear + rows.on_input
            form = replace(form, linear=linear, slack=form.slack + weigh(linear, scales.sum[0]))
        lower = _least(pieces, form, given, scales.step) if bool(valid.any()) else torch.zeros_like(form.constant)
        lower = torch.where(valid[:, None], lower, -torch.inf)
        constant = torch.where(valid[:, None], form.constant - form.slack, -torch.inf)
        return Proved(lower, form.linear, constant, valid)

    def _lines(self, pieces: Pieces, choice: Tensor) -> dict[int, Enclosure]:  # (B, S, 1 or 2, N)
        """Each row's own lines over the pieces' intervals."""
        choice = choice.clamp(0, 1).nan_to_num()
        lines: dict[int, Enclosure] = {}
        for layer in self.graph.layers:
            own = tuple(choice[:, :, side, layer.operands[0].span] for side in (0, -1))
            if layer.elementwise is None:
                lines[layer.position] = layer.several.planes(pieces.ends(layer), (own[0], own[1]))
                continue
            lower, upper = pieces.pre(layer)
            if (leak := layer.function.leak) is None:
                lines[layer.position] = layer.function.lines(lower[:, None], upper[:, None], (own[0], own[1]))
                continue
            # Only the lower slope has a choice: the others are one for all rows.
            fixed = layer.function.lines(lower, upper, (torch.zeros_like(lower), torch.zeros_like(lower)))
            slope = (own[0] * (1 - leak) + leak).clamp(leak, 1)
            open_ = (lower < 0) & (upper > 0)
            slope = torch.where(open_[:, None], slope, fixed.lower_slope[:, None])
            lines[layer.position] = fixed._replace(lower_slope=slope)
        return lines


T = TypeVar("T")


def widened(value: T) -> T:
    """A tensor, or a dataclass of such, with its floating-point numbers in float64. Exact."""
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value  # type: ignore[return-value]
    if value is None or isinstance(value, str | bool | int | tuple):
        return value
    return type(value)(**{f.name: widened(getattr(value, f.name)) for f in fields(value)})  # type: ignore[arg-type]


def enclosed(layer: Layer, ends: Sequence[tuple[Tensor, Tensor]], choice: Choice) -> Enclosure:
    """What a layer lies between on its pre-activation intervals (B, n), as is chosen."""
    if layer.elementwise is None:
        return layer.several.planes(ends, choice)
    return layer.elementwise.lines(*ends[0], choice)


def _largest(pieces: Pieces) -> Tensor:
    return torch.maximum(pieces.lower.abs(), pieces.upper.abs())


def _least(pieces: Pieces, form: Form, price: Tensor, step: float) -> Tensor:  # (B, R), given (B, R, H)
    """The bounds that the half-spaces' multipliers prove."""
    finite = torch.where((pieces.offsets == torch.inf)[:, None], 0.0, price)
    least = priced_minimum(form.linear, finite, pieces.lower, pieces.upper, pieces.normals, pieces.offsets)
    return lowered(least, form, step)


def _within(value: Tensor, most: float) -> Tensor:  # (B, ...) -> (B,) bool
    """Whether all numbers of a piece are in [0, most], and finite."""
    fine = (value >= 0) & (value <= most) & (value < torch.inf)
    return fine.flatten(1).all(1)


def agree(found: Tensor, claim: Tensor) -> Tensor:  # (B, n) twice -> (B,) bool
    """Whether lower bounds reach what is claimed of them."""
    near = (claim - MISSED * (1 + claim.abs())).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return (found >= near).all(1)
