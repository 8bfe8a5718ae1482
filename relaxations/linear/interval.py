"""Interval bound propagation (IBP): every node's values between two vectors, layer by layer.

For an affine node the centre goes through A and the radius through |A| (exact for one node over a box; the loss is
that correlations between entries are forgotten from one node to the next); an activation maps the interval to its
image. Cost: two applications of every operator. Source: Moore 1966; for networks Gowal et al. 2018.

Zeros and signs are exact: rounding outwards would turn the lower end of a sum of terms >= 0 into -1e-15, and then no
bound proves y >= 0. Ends that lie within rounding of 0 are few; where there are any, the node's signs are counted
(`signs`), at the price of two more applications.

Soundness: outward rounded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...kernels.deadline import check
from ...kernels.proof_constants import INFLATE
from ...kernels.rounding import gamma, unit_roundoff
from ...problems.network.affine import Dense
from ...problems.network.graph import Affine, Input
from ...problems.network.layer import Layer, Operand
from .rounding import Rounding
from .signs import counts


def affine_interval(
    rounding: Rounding, position: int, arguments: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:  # each (B, n)
    """Bounds of an affine node from bounds of its inputs.

    An end that is 0 or of known sign because no term is of the other sign is exactly that; a product with a zero
    weight is 0, also where a bound is infinite or no number (which stands for infinite).
    """
    check()
    low, high, gap, sure = _centred(rounding, position, arguments)
    if bool(sure.all()):
        return low, high
    doubtful = ~sure
    if bool(torch.isfinite(gap[doubtful]).all()):
        return _signed(rounding, position, arguments, low, high, doubtful)
    finite = [_finite(*argument) for argument in arguments]
    low, high, _, _ = _centred(rounding, position, finite)
    # An end is infinite where a term is: count the terms of either sign as if their infinite ends were all there is.
    ends = [(-(~torch.isfinite(a)).to(low.dtype), (~torch.isfinite(b)).to(low.dtype)) for a, b in arguments]
    below, above = _counted(rounding, position, ends, bias=False)
    low, high = torch.where(below, -torch.inf, low), torch.where(above, torch.inf, high)
    return _signed(rounding, position, arguments, low, high)


def _centred(
    rounding: Rounding, position: int, arguments: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Bounds of an affine node by centre and radius; how far the end next to 0 lies from it, and whether that is a
    number and so much that signs change nothing: (B, n) all.

    A m and |A| r are inner products of t terms and err by at most gamma_{t+3} |A| (|m| + r), weights stored rounded
    included (one more for each operator of a sum); as |A| is applied to r anyway, that is had by enlarging r. The
    intervals' own magnitudes count here, not the node's sizes: an interval may reach beyond what is known of the
    value by other means. Numbers below the normal ones may be taken for 0: `Rounding.flushed`.
    """
    node = rounding.graph.affine(position)
    centre, radius, lost = node.bias, torch.zeros_like(node.bias), None
    u, count = unit_roundoff(rounding.dtype), len(node.operators)
    constant, floor = rounding.flushed(position)
    most = 0
    pairs = zip(rounding.absolute[position], rounding.magnitude[position], strict=True)
    for operator, (absolute, magnitude), (low, high) in zip(node.operators, pairs, arguments, strict=True):
        middle = (low + high) / 2
        half = torch.maximum(high - middle, middle - low) * (1 + 8 * u)
        terms = magnitude.terms + 3 + count
        most = max(most, terms)
        error = 3 * INFLATE * gamma(terms, rounding.dtype) * torch.maximum(low.abs(), high.abs())
        centre = centre + operator.apply(middle)
        if magnitude is absolute:
            radius = radius + absolute.apply(half + error)
        else:
            radius = radius + absolute.apply(half * (1 + gamma(absolute.terms + 3 + count, rounding.dtype)))
            folded = magnitude.apply(error)
            radius, lost = radius + folded, folded if lost is None else lost + folded
    # What is left: the sum over the operators, the bias, and the two subtractions below.
    size = centre.abs()
    radius = torch.add(radius, size + radius, alpha=4 * u * (1 + count)) + constant
    # Where all terms are of one sign, the exact end near 0 is off by at most 8 gamma of the other one, at most
    # twice the radius.
    reach = torch.add(floor, radius, alpha=16 * gamma(most, rounding.dtype))
    gap = (radius - size).abs_()
    return centre - radius, centre + radius, gap, gap > (reach if lost is None else reach + 2 * lost)


def _possible(rounding: Rounding, position: int, arguments: list[tuple[Tensor, Tensor]]) -> Tensor | None:
    """Where all terms may be of one sign, for there are enough inputs that are; None where signs are unknown.

    Layers of arbitrary weights seldom pass, and are spared the applications that `_counted` costs."""
    numbers = rounding.signed_weights(position)
    if numbers is None:
        return None
    negative, positive = numbers
    above, below = (
        sum(part) for part in zip(*(((a >= 0).sum(-1), (b <= 0).sum(-1)) for a, b in arguments), strict=True)
    )
    above, below = above[..., None], below[..., None]
    return ((positive <= above) & (negative <= below)) | ((positive <= below) & (negative <= above))


def _signed(
    rounding: Rounding,
    position: int,
    arguments: list[tuple[Tensor, Tensor]],
    low: Tensor,  # (B, n)
    high: Tensor,
    where: Tensor | None = None,  # (B, n) bool
) -> tuple[Tensor, Tensor]:
    """The bounds, cut at 0 where no term is of the other sign; asked of all entries, or of those of `where`."""
    zero, infinite = low.new_zeros(()), low.new_full((), torch.inf)
    if where is not None and where.ndim == 2 and rounding.plain(position):
        piece, row = where.nonzero().unbind(1)
        if len(row) <= len(low):
            negative, positive = _counted_rows(rounding, position, arguments, piece, row)
            low = low.index_put((piece, row), torch.where(negative, low[piece, row], low[piece, row].fmax(zero)))
            high = high.index_put((piece, row), torch.where(positive, high[piece, row], high[piece, row].fmin(zero)))
            return low, high
    if where is not None:
        possible = _possible(rounding, position, arguments)
        if possible is None or not bool((where & possible).any()):
            return low, high
    negative, positive = _counted(rounding, position, arguments)
    low = torch.where(negative, torch.where(low.isnan(), -infinite, low), low.fmax(zero))
    high = torch.where(positive, torch.where(high.isnan(), infinite, high), high.fmin(zero))
    return low, high


def _counted_rows(
    rounding: Rounding, position: int, arguments: list[tuple[Tensor, Tensor]], piece: Tensor, row: Tensor
) -> tuple[Tensor, Tensor]:  # (K,), (K,) -> (K,) bool each
    """`_counted` for some rows of matrices."""
    least, most = (side[row] for side in rounding.graph.affine(position).bias_sides())
    negative, positive = least < 0, most > 0
    for signs, (low, high) in zip(rounding.signs(position), arguments, strict=True):
        assert signs is not None and isinstance(signs.sign, Dense) and isinstance(signs.some, Dense), "see `plain`"
        sign, some = signs.sign.weight[row], signs.some.weight[row] > 0
        up, down = some & (sign >= 0), some & (sign <= 0)
        below, above = ~(low[piece] >= 0), ~(high[piece] <= 0)
        negative = negative | ((up & below) | (down & above)).any(-1)
        positive = positive | ((up & above) | (down & below)).any(-1)
    return negative, positive


def _counted(
    rounding: Rounding, position: int, arguments: list[tuple[Tensor, Tensor]], bias: bool = True
) -> tuple[Tensor, Tensor]:  # (B, n) bool each
    """Where some term of an affine node may be negative, and where positive."""
    least, most = rounding.graph.affine(position).bias_sides()
    negative, positive = ((least < 0) & bias, (most > 0) & bias)
    for signs, (low, high) in zip(rounding.signs(position), arguments, strict=True):
        if signs is None:
            return torch.ones_like(negative), torch.ones_like(positive)
        below, above = counts(signs, low, high)
        negative, positive = negative | (below > 0), positive | (above > 0)
    return negative, positive


def _finite(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The interval with an end in 0, or in the finite end beyond it, for each that is infinite or no number."""
    zero = low.new_zeros(())
    known_low, known_high = torch.isfinite(low), torch.isfinite(high)
    return (
        torch.where(known_low, low, torch.where(known_high, torch.minimum(high, zero), zero)),
        torch.where(known_high, high, torch.where(known_low, torch.maximum(low, zero), zero)),
    )


def interval_bounds(
    rounding: Rounding,
    lower: Tensor,  # (B, D)
    upper: Tensor,  # (B, D)
    pre_lower: Tensor,  # (B, N)
    pre_upper: Tensor,  # (B, N)
) -> list[tuple[Tensor, Tensor]]:
    """Bounds of every node over each box; known pre-activation bounds are intersected in."""
    graph = rounding.graph
    bounds: list[tuple[Tensor, Tensor]] = []
    for position, node in enumerate(graph.nodes):
        arguments = [bounds[i] for i in node.inputs]
        match node:
            case Input():
                bounds.append((lower, upper))
            case Affine():
                bounds.append(affine_interval(rounding, position, arguments))
            case _:
                layer = graph.layer_at[position]
                for operand in layer.operands:
                    (low, high), span = bounds[operand.source], operand.span
                    low, high = torch.fmax(low, pre_lower[:, span]), torch.fmin(high, pre_upper[:, span])
                    bounds[operand.source] = (low, torch.maximum(low, high))
                bounds.append(layer.interval([bounds[i] for i in node.inputs]))
    return bounds


class CarriedIntervals:
    """Intervals of every node, carried node by node beside another bounding, whose better bounds they start from."""

    def __init__(self, rounding: Rounding, lower: Tensor, upper: Tensor) -> None:  # (B, D)
        self.rounding = rounding
        self.found: dict[int, tuple[Tensor, Tensor]] = {0: (lower, upper)}

    def affine(self, position: int) -> None:
        """Adds an affine node."""
        arguments = [self.found[i] for i in self.rounding.graph.nodes[position].inputs]
        self.found[position] = affine_interval(self.rounding, position, arguments)

    def ranges(self, operand: Operand) -> tuple[Tensor, Tensor]:
        """Bounds (B, n) of the pre-activations of an operand."""
        return self.found[operand.source]

    def layer(self, layer: Layer, ends: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Adds a layer, its pre-activations bounded."""
        for operand, bounds in zip(layer.operands, ends, strict=True):
            self.found[operand.source] = bounds
        self.found[layer.position] = layer.interval(ends)
