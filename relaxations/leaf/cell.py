"""A cell: the part of an input polytope on which every neuron has a decided phase, so that the network is affine.

On the cell every activation is y = d z with a known slope d (1, or the activation's slope left of zero). The affine
map is never composed: a row vector on any node is *pulled back* to the input by one backward pass, which costs one
adjoint an operator, as sparse or convolutional as the network is.

`certify` is the proof that a cell holds no unsafe point. Such a point x satisfies g_k(x) <= 0 for every unsafe row,
every half-space and every phase (-s z <= 0 for sign s); so for any multipliers m >= 0 also sum_k m_k g_k(x) <= 0. That
sum is one row vector on the nodes; pulled back it is affine in x, and if its least value over the box is positive
there is no such point. This is Farkas' lemma (weak duality), valid for any multipliers, wherever they come from.

Soundness: outward rounded. A coefficient that the backward pass gets wrong by e moves the sum by at most
e |value of its node|, and the values of a node over the cell lie in boxes from interval arithmetic. Errors of inner
products of k terms are bounded by k u / (1 - k u) times the sum of absolute values (Higham 2002, section 3.1), folded
weights by `magnitude`; every bound is doubled, which pays for its own rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...problems.errors import BadInput
from ...problems.network.graph import Activation, Affine, Graph
from ...problems.properties.property import Polytope, UnsafeSet
from ..lp.boxes import UNIT, Box, affine_box, node_boxes

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Multipliers:
    """One number >= 0 for each constraint of a cell."""

    unsafe: Array  # (R,)
    halfspaces: Array  # (H,)
    neurons: dict[int, Array]  # activation node -> (n,)


@dataclass(frozen=True, eq=False)
class Cell:
    """A polytope with a sign for every neuron; `boxes` bound all nodes on it (some box is empty where it is)."""

    graph: Graph  # float64
    polytope: Polytope
    signs: dict[int, Tensor]  # activation node -> (n,) float64, +1 or -1
    slopes: dict[int, Tensor]  # activation node -> (n,)
    boxes: list[Box]

    @property
    def empty(self) -> bool:
        """Interval arithmetic shows that no point has these phases; outward rounded."""
        return any(bool((lower > upper).any()) for lower, upper in self.boxes)

    def values(self, x: Tensor) -> list[Tensor]:  # (*batch, D) -> one (*batch, n) a node
        """The values of the cell's affine map, inside the cell or not."""
        values = [x]
        for i, node in enumerate(self.graph.nodes[1:], 1):
            arguments = [values[j] for j in node.inputs]
            values.append(node.apply(arguments) if isinstance(node, Affine) else arguments[0] * self.slopes[i])
        return values

    def pull(self, seeds: list[tuple[int, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:  # (node, (R, n))
        """Rows on nodes as affine functions of the input: coefficients (R, D), constants (R,), rounding errors (R,).

        The error bounds the difference between the seeds' sum and the returned function anywhere on the cell.
        """
        some = seeds[0][1]
        rows: dict[int, Tensor] = {0: some.new_zeros(len(some), self.graph.input_size)}
        constant, error = some.new_zeros(len(some)), some.new_zeros(len(some))

        def send(j: int, row: Tensor, doubt: Tensor) -> None:
            nonlocal error
            total = rows[j] + row if j in rows else row
            error = error + 2 * (doubt + 2 * UNIT * total.abs()) @ _reach(self.boxes[j])
            rows[j] = total

        def plant(j: int) -> None:
            for node, seed in seeds:
                if node == j:
                    send(j, seed, torch.zeros_like(seed))

        for i in range(len(self.graph.nodes) - 1, 0, -1):
            plant(i)
            if i not in rows:
                continue
            node, row = self.graph.nodes[i], rows.pop(i)
            if isinstance(node, Affine):
                shift = row.abs() @ node.bias.abs()
                constant = constant + row @ node.bias
                error = error + 2 * UNIT * ((node.size + 1) * shift + constant.abs())
                if node.doubt is not None:
                    error = error + 2 * row.abs() @ node.doubt
                for operator, j in zip(node.operators, node.inputs, strict=True):
                    doubt = operator.magnitude().adjoint(row.abs()) * (2 * (operator.terms + 2) * UNIT)
                    send(j, operator.adjoint(row), doubt)
            else:
                row = row * self.slopes[i]
                send(node.inputs[0], row, 2 * UNIT * row.abs())
        plant(0)
        return rows[0], constant, error

    def certify(self, multipliers: Multipliers, unsafe: UnsafeSet) -> float:
        """A lower bound of sum_k m_k g_k over the box: positive means that no point of the cell is unsafe, and zero as
        well where a strict row or half-space has a positive multiplier."""
        m, h = torch.as_tensor(multipliers.unsafe), torch.as_tensor(multipliers.halfspaces)
        rows, normals = torch.as_tensor(unsafe.rows), torch.as_tensor(self.polytope.normals)
        given = np.zeros((len(m), self.graph.input_size)) if unsafe.on_input is None else unsafe.on_input
        on_input = torch.as_tensor(given, dtype=torch.float64)
        out = self.graph.output
        seeds = [(out, (m @ rows)[None]), (0, (m @ on_input + h @ normals)[None])]
        for i, sign in self.signs.items():
            seeds.append((self.graph.layer_at[i].source, (-sign * torch.as_tensor(multipliers.neurons[i]))[None]))
        row, constant, error = (t[0] for t in self.pull(seeds))
        # Adding up the seeds and the constants rounds too; each sum has at most R + H + 2 terms.
        constants = torch.cat([m * torch.as_tensor(unsafe.constants), -h * torch.as_tensor(self.polytope.offsets)])
        doubt = (m @ rows.abs()) @ _reach(self.boxes[out])
        doubt = doubt + (m @ on_input.abs() + h @ normals.abs()) @ _reach(self.boxes[0]) + constants.abs().sum()
        if unsafe.lost is not None:  # the float64 rows are not quite the exact ones
            off = unsafe.lost.most(*(_reach(self.boxes[i]).numpy() for i in (0, out)))
            error = error + m @ torch.as_tensor(off) + float(np.finfo(float).tiny)
        lower, upper = self.boxes[0]
        corner = torch.where(row > 0, row * lower, row * upper)
        total = corner.sum() + constants.sum() + constant
        sums = corner.abs().sum() + constant.abs()
        error = error + 2 * UNIT * ((len(constants) + 4) * doubt + (len(row) + 4) * sums)
        bound = (total - 2 * error).item() - float(np.finfo(float).tiny)
        return bound if np.isfinite(bound) else -np.inf


def _reach(box: Box) -> Tensor:
    """The largest absolute value in each entry's interval."""
    return torch.maximum(box[0].abs(), box[1].abs())


def cell_of(graph: Graph, polytope: Polytope, phases: Sequence[NDArray[np.int8]]) -> Cell:
    """The cell of a polytope with the given phases, one (n,) array for each activation node, in order.

    A phase may be left 0 where the neuron's interval over the cell decides it. Raises `BadInput` for activations that
    are not piecewise linear and `ValueError` for a phase that stays open.
    """
    graph = graph.to(torch.float64)
    boxes: list[Box] = node_boxes(Graph(graph.nodes[:1], graph.input_shape, graph.input_shape), polytope)
    signs: dict[int, Tensor] = {}
    slopes: dict[int, Tensor] = {}
    for i, node in enumerate(graph.nodes[1:], 1):
        arguments = [boxes[j] for j in node.inputs]
        if isinstance(node, Affine):
            boxes.append(affine_box(node, arguments))
        elif isinstance(node, Activation) and (leak := node.function.leak) is not None:
            lower, upper = arguments[0]
            sign = _signs(node, phases[len(signs)], lower, upper)
            lower = torch.where(sign > 0, lower.clamp(min=0), lower)
            upper = torch.where(sign < 0, upper.clamp(max=0), upper)
            boxes[node.inputs[0]] = (lower, upper)
            boxes.append(node.function.interval(lower, upper))
            signs[i] = sign
            slopes[i] = torch.where(sign > 0, 1.0, leak).to(torch.float64)
        else:
            raise BadInput(
                f"node {node.name or i!r} is not piecewise linear, so fixing phases does not make it affine."
            )
    return Cell(graph, polytope, signs, slopes, boxes)


def _signs(node: Activation, phase: NDArray[np.int8], lower: Tensor, upper: Tensor) -> Tensor:
    sign = torch.as_tensor(np.asarray(phase)).to(torch.float64)
    sign = torch.where((sign == 0) & (lower >= 0), 1.0, sign)
    sign = torch.where((sign == 0) & (upper <= 0), -1.0, sign)
    if (sign == 0).any():
        raise ValueError(f"{int((sign == 0).sum())} neurons of layer {node.name!r} have no phase yet")
    return sign
