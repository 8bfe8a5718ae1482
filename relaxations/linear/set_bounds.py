"""Bounds of rows over input polytopes by the relaxations that are no programs: intervals and linear bounds.

All polytopes are bounded as one batch of pieces, from the bounds on the smallest box around them; each piece that is
more than that box is bounded anew.

Soundness: outward rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...kernels.deadline import TimeUp, check, doing, end, left, now
from ...kernels.polytope import clip_box
from ...kernels.proof_constants import SIZES, UPWARD_SUM
from ...problems.network.graph import Graph
from ...problems.properties.property import Array, Polytope
from ..names import Name
from ..protocol import AbstractRelaxation, Question
from ..types import Pieces, Rows
from .alpha import Alpha
from .ibp import Ibp, interval_nodes, pre_activations, rows_below
from .linear import Linear
from .root import consistent, outward, outward_half_spaces, root


class SetBounds(NamedTuple):
    """Bounds of the rows, (R,) each, the pieces with their pre-activation bounds, and the network that was bounded."""

    lower: Array
    upper: Array
    pieces: Pieces
    working: Graph
    linear: Linear | None = None


def batched(question: Question, name: Name) -> SetBounds:
    """Least lower and greatest upper bounds, and the pieces with their pre-activation bounds.

    Under a time limit the whole set's intervals are the first bounds there are, and hold wherever time is up.
    """
    graph, polytopes, c, d = question.graph, question.polytopes, question.rows, question.constants
    lower, upper = (torch.tensor(np.stack([getattr(p, side) for p in polytopes])) for side in ("lower", "upper"))
    low, high = torch.full((2, len(c)), torch.inf, dtype=torch.float64)
    low, working, linear, effort = -low, graph, None, question.means.effort
    pieces, known = Pieces.boxes(lower, upper, graph.neurons), []
    try:
        doing("the network was prepared")
        working = graph.to(question.means.dtype, question.means.device)
        begun = now()
        doing("intervals were computed")
        intervals, whole, nodes = interval_nodes(working, lower.amin(0), upper.amax(0))
        pieces = _pieces(polytopes, lower, upper, whole)
        known = [pieces.with_pre(*(side.expand(len(pieces), -1) for side in (whole.pre_lower, whole.pre_upper)))]
        if left() < torch.inf:
            low, high = _both_bounds(*_rows_by_intervals(c, d, intervals, nodes, 1))
            low, high = low[0], high[0]
        if name.rung.lines is not None:
            late = None if left() == torch.inf else end() - effort.linear.intervals * (now() - begun)
            linear, tight = root(working, lower.amin(0), upper.amax(0), name.rung.lines, late, effort)
            pre = torch.maximum(whole.pre_lower, tight.pre_lower), torch.minimum(whole.pre_upper, tight.pre_upper)
            for layer in graph.layers:
                consistent(layer, pre[0][:, layer.span], pre[1][:, layer.span])
            pieces = pieces.with_pre(*(side.expand(len(pieces), -1) for side in pre))
    except TimeUp:
        return SetBounds(low.numpy(), high.numpy(), known[0] if known else pieces, working, None)
    relaxation = None if linear is None else name.rung.load()(linear, graph, name, question.means)
    answer = _Answer(intervals, linear, relaxation, c, d, (low, high), effort.linear.parts)
    bounded, least, greatest = [], [], []
    for chosen in _parts(len(pieces), effort.linear.parts // max(node.size for node in graph.nodes) ** 2):
        piece, *both = answer.of(pieces[chosen], len(polytopes) > 1)
        bounded.append(piece)
        least.append(both[0].amin(0))
        greatest.append(both[1].amax(0))
    low, high = (t.numpy() for t in (torch.stack(least).amin(0), torch.stack(greatest).amax(0)))
    return SetBounds(low, high, joined(bounded), working, linear)


def _pieces(polytopes: list[Polytope], lower: Tensor, upper: Tensor, whole: Pieces) -> Pieces:
    """One piece a polytope: its box cut to what its half-spaces leave, and its half-spaces."""
    like = whole.lower
    low, high = outward(lower, upper, like.dtype, like.device)
    normals, offsets = outward_half_spaces(polytopes, low, high)
    if normals.shape[1]:
        low, high, _ = clip_box(low, high, normals, offsets)
    boxes = Pieces.boxes(low, high, whole.pre_lower.shape[1])
    return replace(boxes, normals=normals, offsets=offsets)


@dataclass(frozen=True, eq=False)
class _Answer:
    """Pre-activation bounds of pieces, and two-sided bounds of the rows on each."""

    intervals: Ibp
    linear: Linear | None
    relaxation: AbstractRelaxation | None  # of the rows, beside intervals
    c: Tensor  # (R, n_out)
    d: Tensor  # (R,)
    least: tuple[Tensor, Tensor]  # (R,) bounds of the rows that hold on all pieces
    elements: int  # of one coefficient tensor; what is larger is bounded in parts

    def of(self, pieces: Pieces, several: bool) -> tuple[Pieces, Tensor, Tensor]:
        """Some pieces with their pre-activation bounds, and bounds of the rows, (B, R) float64 from each side; where
        time is up, what was found by then. `several`: they are not all that the root was made of."""
        low, high = (side.expand(len(pieces), -1).clone() for side in self.least)

        def take(chosen: slice, found: Tensor, lost: Tensor) -> None:
            both = _both_bounds(found, lost)
            low[:, chosen] = torch.maximum(low[:, chosen], both[0])
            high[:, chosen] = torch.minimum(high[:, chosen], both[1])

        c, d, intervals = self.c, self.d, self.intervals
        try:
            pieces = _refined(pieces, intervals)
            if self.linear is not None and (several or pieces.normals.shape[1]):  # else the root has said it all
                pieces = _refined(self.linear.tighten(pieces)[0], intervals)
            bounds = intervals.nodes(pieces)
            doing("the rows were bounded")
            size = max(pieces.lower.shape[1], pieces.pre_lower.shape[1], c.shape[1]) * len(pieces)
            for chosen in _parts(len(c), self.elements // (4 * size)):
                check()
                found, lost = _rows_by_intervals(c[chosen], d[chosen], intervals, bounds, len(pieces))
                take(chosen, found, lost)
                if self.relaxation is not None:
                    rows, lost = _both_sides(c[chosen], d[chosen], intervals, len(pieces))
                    take(chosen, self.relaxation.bound(pieces, rows).result.lower, lost)
        except TimeUp:
            pass
        return pieces, low, high


def _rows_by_intervals(
    c: Tensor, d: Tensor, intervals: Ibp, bounds: list[tuple[Tensor, Tensor]], count: int
) -> tuple[Tensor, Tensor]:  # (B, 2 R), (2 R,)
    """Lower bounds of both sides of the rows from bounds of all nodes, and what rounding the rows can cost."""
    rows, lost = _both_sides(c, d, intervals, count)
    found, slack = rows_below(intervals.linear.rounding, intervals.linear.scales, bounds, rows)
    return found - slack, lost


def _both_bounds(found: Tensor, lost: Tensor) -> tuple[Tensor, Tensor]:  # (B, 2 R), (2 R,) -> (B, R), (B, R)
    """Lower and upper bounds of rows, in float64, from lower bounds of both their sides."""
    found = known(found.double().cpu())
    found = torch.where(lost > 0, torch.nextafter(found - lost, found.new_tensor(-torch.inf)), found)
    half = found.shape[1] // 2
    return found[:, :half], -found[:, half:]


def known(below: Tensor) -> Tensor:
    """Lower bounds, minus infinity where the computation overflowed to no number."""
    return torch.where(below.isnan(), -torch.inf, below)


def _refined(pieces: Pieces, intervals: Ibp) -> Pieces:
    """The pieces with what interval arithmetic adds to their pre-activation bounds."""
    low, high = pre_activations(intervals.graph, intervals.nodes(pieces), pieces)
    return pieces.with_pre(low, torch.maximum(low, high))


def _both_sides(c: Tensor, d: Tensor, intervals: Ibp, count: int) -> tuple[Rows, Tensor]:
    """Rows c and -c for `count` pieces in the working dtype, and what rounding them can cost (2 R,) float64."""
    exact, constant = torch.cat([c, -c]), torch.cat([d, -d])
    like = intervals.graph.like
    rounded, offset = exact.to(like.dtype), constant.to(like.dtype)
    largest = intervals.linear.scales.size[-1].double().cpu() * SIZES
    lost = (rounded.double() - exact).abs() @ largest + (offset.double() - constant).abs()
    expand = lambda t: t.to(like.device).expand(count, *t.shape)  # noqa: E731
    return Rows(expand(rounded), expand(offset)), lost * UPWARD_SUM


def _parts(count: int, most: int) -> list[slice]:
    """0 .. count in slices of at most `most`, at least one each."""
    step = max(1, most)
    return [slice(at, at + step) for at in range(0, count, step)]


def joined(parts: list[Pieces]) -> Pieces:
    """The pieces in one batch again, what is known of their pre-activations with them."""
    lower, upper = torch.cat([p.lower for p in parts]), torch.cat([p.upper for p in parts])
    low, high = torch.cat([p.pre_lower for p in parts]), torch.cat([p.pre_upper for p in parts])
    return Pieces.boxes(lower, upper, low.shape[1]).with_pre(low, high)


def backward_rows(linear: Linear, piece: Pieces, node: int, rows: Tensor) -> Array:  # (S, n) -> (S,)
    """Proved lower bounds of rows of a node's value over one piece, by CROWN's lines."""
    found = []
    for chosen in _parts(len(rows), linear.effort.linear.parts // max(n.size for n in linear.graph.nodes)):
        part = rows[chosen]
        result, _, _ = Alpha(linear, 0).optimise(piece, Rows(part[None], part.new_zeros(1, len(part))), node=node)
        found.append(result.lower[0])
    return torch.cat(found).double().cpu().numpy()
