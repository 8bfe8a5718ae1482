"""How large values can get, and what rounding can cost there.

For every node, a *size* bounds |value| entry by entry over a set of inputs: from interval arithmetic, and from the
pre-activation bounds already proved, whichever is smaller. From it follow the vectors that `backward` multiplies with
the absolute values of its coefficients (u is the unit roundoff, gamma_n = n u / (1 - n u)):

- affine node, x its inputs, t the terms of its longest inner product:
      gamma_{t+3} sum_i |A_i| |x_i|  +  gamma_{d+3} |b|,   d = depth(n), see `kernels.dot`, and what b is in doubt by.
  Storing a float64 weight in the working dtype costs one more u for each entry, hence t + 3.
- ReLU-like activation, z its pre-activation, coefficients taken *below* it: gamma_{d+4} |z|. The bias of the upper line
  is -s l, so a coefficient L contributes an inner product of terms L s l, each at most (L s) |z|. Where the affine node
  below feeds nothing else, its coefficients are the same, and the two vectors are added up beforehand.
- other activation, coefficients taken *above* it: gamma_{d+4} (|f(z)| + 2 s |z|), s the larger of 1 and the steepest
  slope on the interval of z. A line that touches f has a bias of at most |f(z)| + s |z|.
- layer of several operands, coefficients taken above it: gamma_t (|bias| + sum_o |S_o| |z_o|), which its function says
  how to bound for all planes on the operands' intervals (`AbstractMultivariate.reach`, `terms`).
- sum of two coefficients that arrive at a node: 2 u |value|.

Sizes are taken at the root once and for all (`Rounding.fixed`), or on each piece of a batch (`Rounding.local`): on a
small piece values are orders of magnitude below what bounds allow at the root, and so is what float32 can cost.
Everything is inflated by 2 %, which covers its own rounding. Soundness: outward rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.deadline import check
from ...kernels.dot import absolute_dot, depth
from ...kernels.proof_constants import INFLATE
from ...kernels.rounding import gamma, unit_roundoff
from ...problems.network.activation import AbstractActivation
from ...problems.network.affine import AbstractLinear, Dense
from ...problems.network.graph import Activation, Affine, Graph, Multivariate
from .signs import Signs, counts, signs_of


@dataclass(eq=False)
class Scales:
    """Rounding vectors by node, (n,) or (B, n); they grow node by node as sizes become known."""

    affine: dict[int, Tensor]
    activation: dict[int, Tensor | None]  # None where the affine node below carries it
    sum: dict[int, Tensor]
    size: list[Tensor]
    step: float

    def of(self, rows: Tensor) -> Scales:
        """The vectors of some of a batch's pieces."""
        some = lambda t: t[rows] if t is not None and t.ndim == 2 else t  # noqa: E731
        affine, activation, sums = (
            {i: some(t) for i, t in d.items()} for d in (self.affine, self.activation, self.sum)
        )
        return Scales(affine, activation, sums, [some(t) for t in self.size], self.step)


class Rounding:
    """Makes rounding vectors for one network in the dtype and on the device of `graph`."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.dtype = graph.like.dtype
        self.absolute: dict[int, tuple[AbstractLinear, ...]] = {}
        self.magnitude: dict[int, tuple[AbstractLinear, ...]] = {}
        self._bias: dict[int, Tensor] = {}
        consumers = [0] * len(graph.nodes)
        for node in graph.nodes:
            for source in node.inputs:
                consumers[source] += 1
        self._signs: dict[int, tuple[Signs | None, ...]] = {}
        self._weights: dict[int, tuple[Tensor, Tensor] | None] = {}
        self._flushed: dict[int, tuple[Tensor, Tensor]] = {}
        self._carried: dict[int, int] = {}  # affine node -> the ReLU above it, its only consumer
        for position, node in enumerate(graph.nodes):
            check()
            match node:
                case Affine():
                    self.absolute[position] = tuple(op.absolute() for op in node.operators)
                    self.magnitude[position] = tuple(
                        op.magnitude() if folded(op) else absolute
                        for op, absolute in zip(node.operators, self.absolute[position], strict=True)
                    )
                    self._bias[position] = node.bias.abs()
                case Activation():
                    if node.function.leak is not None and consumers[node.inputs[0]] == 1:
                        self._carried[node.inputs[0]] = position

    def signs(self, position: int) -> tuple[Signs | None, ...]:
        """The signs of an affine node's operators, made when first asked for."""
        if position not in self._signs:
            self._signs[position] = tuple(signs_of(operator) for operator in self.graph.affine(position).operators)
        return self._signs[position]

    def plain(self, position: int) -> bool:
        """Whether an affine node's operators are matrices with known signs."""
        signs = self.signs(position)
        return all(s is not None and isinstance(s.sign, Dense) and s.sign.repeat == 1 for s in signs)

    def signed_weights(self, position: int) -> tuple[Tensor, Tensor] | None:  # (n,), (n,)
        """How many negative and positive weights each row of an affine node has; None where that is unknown."""
        if position not in self._weights:
            found, known = None, [signs for signs in self.signs(position) if signs is not None]
            if len(known) == len(self.signs(position)):
                one = lambda a: torch.ones(1, a.n_in, dtype=self.dtype, device=self._bias[position].device)  # noqa: E731
                parts = [counts(signs, -one(signs.some), -one(signs.some)) for signs in known]
                above, below = torch.cat([a for _, a in parts]), torch.cat([b for b, _ in parts])
                found = above.sum(0) / 2, below.sum(0) / 2
            self._weights[position] = found
        return self._weights[position]

    def flushed(self, position: int) -> tuple[Tensor, Tensor]:  # (n,), (n,)
        """What an interval of an affine node is widened by whatever its inputs: for its bias, and for numbers below the
        normal ones that count as 0 somewhere; and how far an end can be off where everything else is 0."""
        if position not in self._flushed:
            finfo, operators = torch.finfo(self.dtype), self.absolute[position]
            size = self._bias[position]
            products = 4 * sum(operator.terms + 4 for operator in operators)
            inputs = sum((operator.apply(size.new_ones(operator.n_in)) for operator in operators), start=0 * size)
            lost = finfo.tiny * (products + 4 * inputs)
            constant = 2 * finfo.eps * (1 + len(operators)) * size + lost
            doubt = self.graph.affine(position).doubt
            self._flushed[position] = (constant if doubt is None else constant + 2 * doubt), 4 * lost
        return self._flushed[position]

    def start(self, largest_input: Tensor) -> Scales:  # (D,) or (B, D)
        """The vectors of the input node alone."""
        u = unit_roundoff(self.dtype)
        return Scales({}, {}, {0: 2 * INFLATE * u * largest_input}, [largest_input], 4 * u)

    def extend(self, scales: Scales, position: int, bounds: Sequence[tuple[Tensor, Tensor]] | None = None) -> None:
        """Adds node `position`, the next one. `bounds`, where proved: of its value if it is affine, of what it reads,
        operand by operand, if it is a layer; then the size and the vectors follow from them."""
        node, u = self.graph.nodes[position], unit_roundoff(self.dtype)
        match node:
            case Affine():
                size = self._bias[position]
                error = gamma(depth(node.size) + 3, self.dtype) * size
                if node.doubt is not None:
                    size, error = size + node.doubt, error + node.doubt
                pairs = zip(self.absolute[position], self.magnitude[position], strict=True)
                for source, (absolute, magnitude) in zip(node.inputs, pairs, strict=True):
                    reach = absolute.apply(scales.size[source])
                    size = size + reach
                    # `magnitude` is `absolute` but where products of weights were folded.
                    scaled = reach if magnitude is absolute else magnitude.apply(scales.size[source])
                    error = error + gamma(magnitude.terms + 3, self.dtype) * scaled
                scales.affine[position] = INFLATE * error
                size = INFLATE * size
            case Activation():
                source = node.inputs[0]
                z = scales.size[source]
                low, high = (-z, z) if bounds is None else bounds[0]
                high = torch.maximum(low, high)
                least, most = node.function.interval(low, high)
                size = _most(least, most)
                met = z if node.function.leak is not None else size + 2 * _stretched(node.function, low, high, z)
                vector = INFLATE * gamma(depth(node.size) + 4, self.dtype) * met
                if self._carried.get(source) == position:
                    scales.affine[source] = scales.affine[source] + vector
                    scales.activation[position] = None
                else:
                    scales.activation[position] = vector
            case Multivariate():
                sizes = [scales.size[source] for source in node.inputs]
                ends = [(-z, z) for z in sizes] if bounds is None else [(a, torch.maximum(a, b)) for a, b in bounds]
                size = _most(*node.function.interval(*ends))
                terms = node.function.terms([self.graph.nodes[source].size for source in node.inputs])
                reach = node.function.reach(*(_most(*side) for side in ends))
                scales.activation[position] = INFLATE * gamma(terms, self.dtype) * reach
        if bounds is not None and isinstance(node, Affine):
            size = torch.minimum(size, _most(*bounds[0]))
        scales.size.append(size)
        scales.sum[position] = 2 * INFLATE * u * size

    def local(self, largest_input: Tensor, pre: Mapping[int, Sequence[tuple[Tensor, Tensor]]]) -> Scales:
        """The vectors of the whole network, given pre-activation bounds by layer, operand by operand."""
        scales = self.start(largest_input)
        known = {
            operand.source: [bounds]
            for i, ends in pre.items()
            for operand, bounds in zip(self.graph.layer_at[i].operands, ends, strict=True)
        }
        for position, node in enumerate(self.graph.nodes[1:], 1):
            check()
            self.extend(scales, position, (known if isinstance(node, Affine) else pre).get(position))
        return scales


def _most(lower: Tensor, upper: Tensor) -> Tensor:
    """The largest absolute value of an interval."""
    return torch.maximum(lower.abs(), upper.abs())


def _stretched(function: AbstractActivation, lower: Tensor, upper: Tensor, size: Tensor) -> Tensor:
    """|z| times the larger of 1 and the steepest slope on [lower, upper]."""
    if function.lipschitz <= 1:
        return size
    stretched = size * function.steepest(lower, upper).clamp(min=1)
    return torch.where(size == 0, 0.0, stretched)  # not infinity times 0


def folded(operator: AbstractLinear) -> bool:
    """Whether products of weights were folded into the operator, so that its `magnitude` is not its absolute value."""
    if getattr(operator, "scale", None) is not None:
        return True
    parts = [getattr(operator, "inner", None), *getattr(operator, "parts", ())]
    return any(folded(part) for part in parts if part is not None)


def weigh(coefficient: Tensor, vector: Tensor) -> Tensor:  # (B, R, n), (n,) or (B, n) -> (B, R)
    """|coefficient| . vector."""
    return absolute_dot(coefficient, vector)


def pick(vector: Tensor, index: Tensor) -> Tensor:  # (n,) or (B, n), (B, U) -> (B, U)
    """Entries of a rounding vector."""
    return vector[index] if vector.ndim == 1 else vector.gather(1, index)
