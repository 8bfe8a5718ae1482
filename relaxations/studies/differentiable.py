"""The value of a relaxation as a PyTorch function of weights, input box, slopes and rows, for research.

    graph = network([w1, w2], [b1, b2])                      # tensors that may require gradients
    value = Differentiable(graph).minimum(lower, upper, row) # min row . f(x) over the box, relaxed; a scalar
    value.backward()                                         # into weights, biases, lower, upper, row

What is relaxed. Every neuron between its pre-activation bounds is replaced by its triangle (Ehlers 2017), or by `lines`
of the caller's own, whose slopes and offsets may require gradients; `facets` adds multi-neuron rows, likewise. The
minimum over what is left is a linear program, whose value and gradient `lp.gradient` gives.

What is differentiated. The whole composition: the program's coefficients depend on the pre-activation bounds, which
depend on the weights and on the box, and the tape goes through both. Bounds come by intervals or by CROWN (Zhang et al.
2018), written here with operations that autograd follows; bounds that are given are constants unless they are on the
tape themselves. CROWN's choice between its two lower slopes, and which neurons are undecided, are piecewise constant
and have no derivative. Facets are taken as they are given: where they were found for certain bounds, their coefficients
do not follow those bounds.

Soundness: outward rounded. Intervals and CROWN's forms are widened by their a-priori rounding errors, chords are those
of `network.activation`, the value is a safe bound; so it is below the minimum of the network whose float64 weights the
graph holds (with bounds, lines and facets of the caller's own, as far as those are sound). Gradients are heuristic: the
widenings, some units in the last place, are differentiated as the tape finds them.

Piecewise-linear activations and affine nodes; everything else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from ...kernels.rounding import gamma
from ...problems.errors import BadInput
from ...problems.network.activation import AbstractActivation, Lines, ReLU
from ...problems.network.affine import AbstractLinear, Adjoint, Chain, Conv, Dense, Diagonal
from ...problems.network.graph import Activation, Affine, Graph, Input, Layer
from ..linear.neuron_rows import Facets
from ..lp.boxes import Box, affine_box
from ..lp.gradient import Infeasible, Tensors, optima
from ..protocol import AbstractRelaxation, Bounds, in_float64, rounded_down, without_forms
from ..types import Multipliers, Pieces, Rows

Enclosure = Literal["interval", "crown"] | Sequence[Box]
WIDE = torch.float64


def network(weights: Sequence[Tensor], biases: Sequence[Tensor], function: AbstractActivation | None = None) -> Graph:
    """Fully connected layers, (n_out, n_in) and (n_out,) each, with an activation (ReLU) between them; on the tape."""
    nodes: list = [Input(weights[0].shape[1])]
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if weight.shape != (len(bias), nodes[-1].size):
            shape = tuple(weight.shape)
            raise BadInput(f"layer {k} has a weight of shape {shape} and a bias of {len(bias)}, after {nodes[-1].size}")
        nodes.append(Affine((len(nodes) - 1,), (Dense(weight.to(WIDE)),), bias.to(WIDE), f"affine{k}"))
        if k < len(weights) - 1:
            nodes.append(Activation((len(nodes) - 1,), function or ReLU(), nodes[-1].size, f"activation{k}"))
    return Graph(tuple(nodes), (1, nodes[0].size), (1, nodes[-1].size))


@dataclass(frozen=True, eq=False)
class Differentiable(AbstractRelaxation):
    """The minimum over what is relaxed, with gradients where the tape runs; see the essay for which.

    `bounds`: how pre-activations are enclosed, or their boxes, one (n,), (n,) an activation node in order. `lines`: for
    an activation node's position, sets of lines that replace the triangles of that layer, each of (n,) tensors.
    `through`: how the linear program is differentiated, see `lp.gradient`.
    """

    graph: Graph
    bounds: Enclosure = "crown"
    lines: Mapping[int, Sequence[Lines]] = field(default_factory=dict)
    facets: Sequence[Facets] = ()
    backend: str = "highs"
    through: Literal["dual", "layers"] = "dual"

    def minimum(self, lower: Tensor, upper: Tensor, row: Tensor, constant: Tensor | float = 0.0) -> Tensor:
        """min row . f(x) + constant over the box [lower, upper] (D,), relaxed: () for a row (n_out,), (S,) for rows
        (S, n_out). Raises `BadInput` for what is refused, and where no point satisfies facets and lines."""
        size = (self.graph.input_size,)
        if lower.shape != size or upper.shape != size or row.shape[-1] != self.graph.output_size:
            raise BadInput(
                f"lower {tuple(lower.shape)}, upper {tuple(upper.shape)} and row {tuple(row.shape)} do not fit a "
                f"network of {self.graph.input_size} inputs and {self.graph.output_size} outputs."
            )
        if not bool((lower <= upper).all()):
            raise BadInput("the input box is empty, or has a NaN: lower must not exceed upper.")
        rows = row.to("cpu", WIDE).reshape(1, -1, row.shape[-1])
        constants = torch.zeros(rows.shape[:2], dtype=WIDE) + torch.as_tensor(constant, dtype=WIDE)
        piece = Pieces.boxes(lower[None].to("cpu", WIDE), upper[None].to("cpu", WIDE), self.graph.neurons)
        found = self.bound(piece, Rows(rows, constants)).result.lower[0]
        if not bool(found.isfinite().all()):
            raise BadInput("no point satisfies the constraints of this relaxation: its value has no gradient.")
        return found if row.ndim == 2 else found[0]

    def bound(self, pieces: Pieces, rows: Rows, start: Multipliers | None = None) -> Bounds:
        wide, objectives = in_float64(pieces, rows)
        found = [self._piece(wide[b : b + 1], objectives[b : b + 1]) for b in range(len(pieces))]
        lower, low, high = (torch.stack(part) for part in zip(*found, strict=True))
        down = lower if pieces.lower.dtype is WIDE else rounded_down(lower, pieces.lower)
        low = torch.fmax(rounded_down(low.detach(), pieces.pre_lower), pieces.pre_lower)
        high = torch.fmin(-rounded_down(-high.detach(), pieces.pre_upper), pieces.pre_upper)
        left = pieces.with_pre(low, high)
        return Bounds(without_forms(left, down.to(pieces.lower.device)), left)

    def _piece(self, piece: Pieces, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:  # (S,), (N,), (N,)
        """Lower bounds of the rows on one piece, inf where it is proved to have no point; its pre-activations."""
        graph, constants = self.graph.to(WIDE), rows.constants[0]
        boxes = node_boxes(graph, piece.lower[0], piece.upper[0], self.bounds, _decided(piece))
        none = [piece.pre_lower[0][:0]]
        low, high = (torch.cat([boxes[layer.source][k] for layer in graph.layers] or none) for k in (0, 1))
        if any(bool((a > b).any()) for a, b in boxes):
            return torch.full_like(constants, torch.inf), piece.pre_lower[0], piece.pre_upper[0]
        program = relaxation(graph, boxes, self.lines, self.facets, (piece.normals[0], piece.offsets[0]))
        cost = pad(rows.coefficients[0], (len(program.lower) - graph.output_size, 0))
        if rows.on_input is not None:
            cost = cost + pad(rows.on_input[0], (0, len(program.lower) - graph.input_size))
        try:
            values = optima(program, cost, backend=self.backend, through=self.through) + constants
        except Infeasible as none_left:
            return torch.full_like(constants, torch.inf if none_left.proved else -torch.inf), low, high
        return values - 2 * torch.finfo(WIDE).eps * values.abs().detach(), low, high  # what the addition may have lost


def _decided(piece: Pieces) -> Box:
    """What is known of one piece's pre-activations (N,), its decisions included."""
    low, high = piece.pre_lower[0], piece.pre_upper[0]
    for neuron, sign, point in zip(piece.neuron[0], piece.sign[0], piece.point[0], strict=True):
        if neuron >= 0 and sign > 0:
            low = low.index_put((neuron,), torch.maximum(low[neuron], point))
        elif neuron >= 0:
            high = high.index_put((neuron,), torch.minimum(high[neuron], point))
    return low, high


def node_boxes(
    graph: Graph, lower: Tensor, upper: Tensor, bounds: Enclosure = "crown", known: Box | None = None
) -> list[Box]:
    """Bounds of every node over the box, on the tape; outward rounded where they are not given. `known`: bounds of all
    pre-activations (N,) besides."""
    boxes: list[Box] = [(lower, upper)]
    layer = 0
    for position, node in enumerate(graph.nodes[1:], 1):
        match node:
            case Affine():
                boxes.append(affine_box(node, [boxes[i] for i in node.inputs]))
            case Activation() if node.function.leak is not None:
                before = node.inputs[0]
                if bounds == "crown":
                    boxes[before] = _tighter(boxes[before], crown_box(graph, boxes, before))
                elif not isinstance(bounds, str):
                    low, high = (t.to("cpu", WIDE) for t in bounds[layer])
                    boxes[before] = _tighter(boxes[before], (low, high))
                elif bounds != "interval":
                    raise BadInput(f"bounds are 'interval', 'crown' or a list of boxes, not {bounds!r}.")
                if known is not None:
                    span = graph.layer_at[position].span
                    boxes[before] = _tighter(boxes[before], (known[0][span], known[1][span]))
                layer += 1
                boxes.append(node.function.interval(*boxes[before]))
            case _:
                what = node.function.name if isinstance(node, Activation) else "a product of two variables"
                raise BadInput(
                    f"node {node.name or position!r} is {what}; only piecewise-linear networks are differentiated."
                )
    return boxes


def _tighter(a: Box, b: Box) -> Box:
    return torch.maximum(a[0], b[0]), torch.minimum(a[1], b[1])


def crown_box(graph: Graph, boxes: list[Box], position: int) -> Box:
    """Bounds of a node by CROWN's back-substitution to the input, on the tape; outward rounded.

    `sizes` follows `forms` with absolute values everywhere: gamma times its value bounds what rounding does on the way.
    """
    both = torch.eye(graph.nodes[position].size, dtype=WIDE)
    forms: dict[int, Tensor] = {position: torch.cat([both, -both])}
    sizes: dict[int, Tensor] = {position: forms[position].abs()}
    constant = size = lost = boxes[0][0].new_zeros(2 * len(both))
    roundings = 8
    for i in range(position, 0, -1):
        if i not in forms:
            continue
        node, form, weight = graph.nodes[i], forms.pop(i), sizes.pop(i)
        if isinstance(node, Affine):
            constant, size = constant + form @ node.bias, size + weight @ node.bias.abs()
            if node.doubt is not None:
                lost = lost + weight @ node.doubt
            parts = [
                (j, op.adjoint(form), op.magnitude().adjoint(weight)) for op, j in zip(node.operators, node.inputs)
            ]
            roundings += len(parts) + node.size + sum(op.terms for op in node.operators)
        else:
            layer = graph.layer_at[i]
            line = layer.function.lines(*boxes[layer.source])
            above, below = form.clamp(min=0), form.clamp(max=0)
            constant = constant + above @ line.lower_bias + below @ line.upper_bias
            size = size + weight @ torch.maximum(line.lower_bias.abs(), line.upper_bias.abs())
            slope = torch.maximum(line.lower_slope.abs(), line.upper_slope.abs())
            parts = [(layer.source, above * line.lower_slope + below * line.upper_slope, weight * slope)]
            roundings += node.size + 4
        for j, form_part, size_part in parts:
            forms[j] = forms[j] + form_part if j in forms else form_part
            sizes[j] = sizes[j] + size_part if j in sizes else size_part
    lower, upper = boxes[0]
    form, weight = forms[0], sizes[0]
    least = constant + form.clamp(min=0) @ lower + form.clamp(max=0) @ upper
    size = size + weight @ torch.maximum(lower.abs(), upper.abs())
    least = least - 2 * gamma(roundings + len(lower), WIDE) * size.detach() - 2 * lost.detach() - torch.finfo(WIDE).tiny
    return least[: len(both)], -least[len(both) :]


class _Rows:
    """Rows of a program on the tape, block after block."""

    def __init__(self) -> None:
        self.entries: list[tuple[Tensor, Tensor, Tensor]] = []
        self.sides: list[tuple[Tensor, Tensor]] = []
        self.count = 0

    def add(self, parts: Sequence[tuple[Tensor, Tensor, Tensor]], low: Tensor | None, high: Tensor | None) -> None:
        """Rows from (row within the block, column, value) each; None for an open side."""
        self.entries += [(self.count + row, column, value) for row, column, value in parts]
        given = low if low is not None else high
        assert given is not None, "a row has a side"
        self.sides.append(
            (
                torch.full_like(given, -torch.inf) if low is None else low,
                torch.full_like(given, torch.inf) if high is None else high,
            )
        )
        self.count += len(given)

    def line(self, z: Tensor, y: Tensor, slope: Tensor, low: Tensor | None, high: Tensor | None) -> None:
        """low <= y - slope z <= high, a row each."""
        at = torch.arange(len(z))
        self.add([(at, y, torch.ones(len(y), dtype=WIDE)), (at, z, -slope)], low, high)


def relaxation(
    graph: Graph,
    boxes: list[Box],
    lines: Mapping[int, Sequence[Lines]],
    facets: Sequence[Facets],
    half_spaces: tuple[Tensor, Tensor],  # (H, D), (H,) of the input
) -> Tensors:
    """The linear program: all nodes' values are variables, node after node, the output last."""
    first = [0]
    for node in graph.nodes:
        first.append(first[-1] + node.size)
    columns = [torch.arange(start, end) for start, end in pairwise(first)]
    rows = _Rows()
    used = half_spaces[1] < torch.inf
    at, column = torch.nonzero(half_spaces[0][used]).unbind(1)
    rows.add([(at, column, half_spaces[0][used][at, column])], None, half_spaces[1][used])
    for i, node in enumerate(graph.nodes[1:], 1):
        if isinstance(node, Affine):
            at = torch.arange(node.size)
            parts = [(at, columns[i], -torch.ones(node.size, dtype=WIDE))]
            for operator, j in zip(node.operators, node.inputs, strict=True):
                row, column, value = entries(operator)
                parts.append((row, columns[j][column], value))
            doubt = torch.zeros_like(node.bias) if node.doubt is None else 2 * node.doubt
            rows.add(parts, -node.bias - doubt, -node.bias + doubt)
        else:
            layer = graph.layer_at[i]
            z, y = columns[layer.source], columns[i]
            l, u = boxes[layer.source]
            if i in lines:
                for line in lines[i]:
                    rows.line(z, y, line.lower_slope, line.lower_bias, None)
                    rows.line(z, y, line.upper_slope, None, line.upper_bias)
            else:
                _triangles(rows, layer, z, y, l, u)
    for facet in facets:
        _facet_rows(rows, graph, columns, facet)
    at, column, value = (torch.cat(part) for part in zip(*rows.entries, strict=True))
    row_lower, row_upper = (torch.cat(side) for side in zip(*rows.sides, strict=True))
    lower, upper = (torch.cat([box[k] for box in boxes]) for k in (0, 1))
    return Tensors(value, at, column, row_lower, row_upper, lower, upper)


def _triangles(rows: _Rows, layer: Layer, z: Tensor, y: Tensor, l: Tensor, u: Tensor) -> None:
    """max(z, a z) where decided, else between its two pieces and the chord."""
    decided = layer.function.decided(l, u)
    chord = layer.function.lines(l, u)
    if decided.any():
        none = torch.zeros(int(decided.sum()), dtype=WIDE)
        rows.line(z[decided], y[decided], chord.lower_slope[decided], none, none)
    open_ = ~decided
    if open_.any():
        none = torch.zeros(int(open_.sum()), dtype=WIDE)
        for slope in (1.0, layer.leak):
            rows.line(z[open_], y[open_], torch.full_like(none, slope), none, None)
        rows.line(z[open_], y[open_], chord.upper_slope[open_], None, chord.upper_bias[open_])


def _facet_rows(rows: _Rows, graph: Graph, columns: list[Tensor], facet: Facets) -> None:
    before = graph.layer_at[facet.position].source
    at = torch.arange(len(facet))[:, None].expand_as(facet.index).reshape(-1)
    flat = facet.index.cpu().reshape(-1)
    parts = [
        (at, columns[facet.position][flat], facet.on_post.to("cpu", WIDE).reshape(-1)),
        (at, columns[before][flat], facet.on_pre.to("cpu", WIDE).reshape(-1)),
    ]
    if facet.on_source is not None:
        source = columns[graph.affine(before).inputs[0]]
        index = torch.arange(len(source)) if facet.source_index is None else facet.source_index.cpu()
        at = torch.arange(len(facet))[:, None].expand_as(facet.on_source).reshape(-1)
        parts.append(
            (at, source[index.expand_as(facet.on_source).reshape(-1)], facet.on_source.to("cpu", WIDE).reshape(-1))
        )
    rows.add(parts, None, facet.offset.to("cpu", WIDE))


def entries(operator: AbstractLinear) -> tuple[Tensor, Tensor, Tensor]:
    """The operator's matrix as (row, column, value), on the tape; weights that happen to be zero are entries too."""
    unit = torch.eye(operator.n_in, dtype=WIDE)
    row, column = torch.nonzero(_filled(operator).apply(unit).mT).unbind(1)
    return row, column, operator.apply(unit).mT[row, column]


def _filled(operator: AbstractLinear) -> AbstractLinear:
    """The operator with ones for weights."""
    match operator:
        case Dense() | Conv():
            return replace(operator, weight=torch.ones_like(operator.weight), scale=None)
        case Diagonal():
            return Diagonal(torch.ones_like(operator.factor))
        case Adjoint():
            return Adjoint(_filled(operator.inner))
        case Chain():
            return Chain(tuple(_filled(part) for part in operator.parts))
    return operator
