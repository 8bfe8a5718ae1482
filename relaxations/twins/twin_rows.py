"""The rows of a property bounded by signs and by differences of twins: see `differences`.

A row c f(x) + a x + b is written as a sum over the entries that feed the network's last node, with exact rational
coefficients: there two outputs that read the same neuron with the same weight cancel exactly. Entries with opposite
coefficients that are twins are taken in pairs, as differences. All of it is done once for a property; on pieces the
rows are then one product with the bounds of those entries and differences.

It is worth its cost where rows are strict, which close at zero and not before, and where there are twins. Whether there
may be any is seen by floating-point numbers in little time: some two coefficients of a row are opposite.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from ...kernels.polytope import clip_box
from ...kernels.proof_constants import SUMMED
from ...problems.network.graph import Affine, Graph, Node
from ...problems.properties.property import Polytope
from ...problems.properties.rational import Row
from ..effort import TWINS, TwinEffort
from ..linear.interval import interval_bounds
from ..linear.rounding import Rounding
from ..types import Pieces
from .differences import Differences, Interval, Sum, _own, _times, lowered
from .pairs import Entry, Pair, Twins

Form = dict[Entry, Fraction]
Pairs = list[tuple[Pair, Fraction]]


@dataclass(frozen=True)
class Parts:
    """A row as a sum: coefficients of single entries, and what they may be off by; of differences; a constant."""

    single: Form
    loose: Form
    pairs: Pairs
    constant: Fraction


class TwinRows:
    """Lower bounds of the rows of a property's goals, on pieces of its input set."""

    def __init__(self, working: Graph, forms: list[list[Parts | None]], twins: Twins) -> None:
        """`forms`: of each goal its rows; None: unbounded."""
        like = working.like
        self.graph, self.rounding = working, Rounding(working)
        dtype, device = like.dtype, like.device
        self.differences = Differences(working, twins)
        self.pairs = sum(len(group.first) for group in self.differences.groups.values())
        nodes = sorted(
            {entry[0] for goal in forms for row in goal if row for part in (row.single, row.loose) for entry in part}
        )
        sizes = [working.nodes[node].size for node in nodes]
        keys = list(self.differences.groups)
        sizes += [len(self.differences.groups[key].first) for key in keys]
        starts = np.cumsum([0, *sizes])
        self.nodes, self.keys = nodes, keys
        shape = len(forms), max(len(goal) for goal in forms), int(starts[-1])
        table, loose = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
        constant = torch.full(shape[:2], -torch.inf, dtype=torch.float64)
        place = {node: int(starts[k]) for k, node in enumerate(nodes)}
        of_group = {key: int(starts[len(nodes) + k]) for k, key in enumerate(keys)}
        for g, goal in enumerate(forms):
            for s, row in enumerate(goal):
                if row is None:
                    continue
                for (node, index), value in row.single.items():
                    table[g, s, place[node] + index] = _nearest(value)
                for pair, value in row.pairs:
                    key, k = self.differences.place[pair]
                    table[g, s, of_group[key] + k] += _nearest(value)
                for (node, index), value in row.loose.items():
                    loose[g, s, place[node] + index] = _nearest(value)
                constant[g, s] = _down(row.constant)
        self.weights = Sum.of(table, dtype, device)
        tiny = torch.finfo(dtype).tiny
        self.loose = (SUMMED * loose + 4 * tiny * (loose > 0)).to(device, dtype) if bool(loose.any()) else None
        down = constant.to(dtype)
        below = torch.nextafter(down, down.new_tensor(-torch.inf))
        self.constant = torch.where(down.double() > constant, below, down).to(device)

    def below(self, pieces: Pieces, goal: Tensor) -> Tensor:  # (B,) -> (B, S)
        """Lower bounds of the rows of each piece's goal; -inf or no number where nothing is known."""
        lower, upper = pieces.lower, pieces.upper
        if pieces.normals.shape[1]:
            lower, upper, _ = clip_box(lower, upper, pieces.normals, pieces.offsets)
        values = interval_bounds(self.rounding, lower, upper, pieces.pre_lower, pieces.pre_upper)
        found = self.differences.bounds(pieces, values)
        parts: list[Interval] = [values[node] for node in self.nodes] + [found[key] for key in self.keys]
        none = lower[:, :0]  # a row of which nothing is left but its constant has no parts
        low, high = (torch.cat([none, *(part[side] for part in parts)], 1) for side in (0, 1))
        more, less = self.weights[goal].below(low, high, _own)
        constant = self.constant[goal]
        more, less = more + constant.clamp(min=0), less + (-constant).clamp(min=0)
        if self.loose is not None:
            size = torch.maximum(low.abs(), high.abs())
            less = less + SUMMED * _times(size, self.loose[goal], _own) + torch.finfo(low.dtype).tiny * size.shape[1]
        slack = 1 + 4 * torch.finfo(low.dtype).eps
        return lowered(more / slack, less * slack)


def twin_rows(
    graph: Graph,  # float64, CPU
    working: Graph,
    rows: Sequence[Sequence[Row]],  # of each goal
    polytopes: Sequence[Polytope],
    effort: TwinEffort = TWINS,
) -> TwinRows | None:
    """The bounds for a property's goals, or None where they would have nothing to say: no row is strict, and no twins
    have opposite coefficients in one."""
    width = max((len(goal) for goal in rows), default=0)
    total = sum(node.size for node in graph.nodes)
    if not width or len(rows) * width * total > effort.elements:
        return None
    strict = any(row.strict for goal in rows for row in goal)
    promising = _promising(graph, rows, effort.rows)
    if not strict and not promising:
        return None
    related = set()
    for polytope in polytopes:
        used = polytope.normals != 0
        related |= {tuple(np.flatnonzero(row)) for row in used[used.sum(1) == 2]}
    twins = Twins(graph, frozenset((int(i), int(j)) for i, j in related), effort)
    if not twins.possible():
        return None
    budget, forms = effort.terms, []
    size = sum(graph.nodes[i].size for i in graph.nodes[-1].inputs)
    for g, goal in enumerate(rows):
        made = []
        for s, row in enumerate(goal):
            wanted = (row.strict or (g, s) in promising) and budget > 0
            made.append(_parts(twins, row) if wanted else None)
            budget -= len(row.terms) * size if wanted else 0
        forms.append(made + made[:1] * (width - len(made)) or [None] * width)
    found = TwinRows(working, forms, twins)
    return found if strict or found.pairs else None


def _promising(graph: Graph, rows: Sequence[Sequence[Row]], few: int) -> set[tuple[int, int]]:
    """The rows (goal, number) in which some entries have opposite coefficients, as far as floating point tells; a few
    are looked at closely."""
    node = graph.nodes[-1]
    places = [(g, s) for g, goal in enumerate(rows) for s in range(len(goal))]
    coefficients = torch.zeros(len(places), node.size, dtype=torch.float64)
    for k, (g, s) in enumerate(places):
        for i, value in rows[g][s].terms.items():
            coefficients[k, i] = _nearest(value)
    if not isinstance(node, Affine):
        forms = coefficients
    else:
        forms = torch.cat([operator.adjoint(coefficients) for operator in node.operators], 1)
    close = (forms.amax(1) == -forms.amin(1)) & (forms.amax(1) > 0)
    if len(places) <= few:
        for k, form in enumerate(forms.numpy()):
            close[k] |= len(np.intersect1d(form[form > 0], -form[form < 0])) > 0
        for k, (g, s) in enumerate(places):
            close[k] |= _alike(node, rows[g][s])
    return {places[k] for k in close.nonzero()[:, 0].tolist()}


def _alike(node: Node, row: Row) -> bool:
    """Whether outputs with opposite coefficients have equal biases, and equal weights as far as the least and the
    greatest of them tell."""
    if not isinstance(node, Affine) or len(row.terms) < 3:  # two outputs: their neurons tell
        return False
    bias: list[float] = node.bias.tolist()
    ends: dict[int, tuple[float, float]] = {}
    for i, a in row.terms.items():
        for j, b in row.terms.items():
            if not a or a != -b or bias[i] != bias[j]:
                continue
            for k in {i, j} - ends.keys():
                parts = torch.cat([operator.rows(torch.tensor([k]), node.bias.dtype)[0] for operator in node.operators])
                ends[k] = parts.amin().item(), parts.amax().item()
            if ends[i] == ends[j]:
                return True
    return False


def _parts(twins: Twins, row: Row) -> Parts | None:
    """A row in single entries and differences; exact. None where float64 cannot hold its coefficients."""
    output = twins.graph.output
    node = twins.graph.nodes[output]
    outputs, pairs = _paired({(output, k): Fraction(value) for k, value in row.terms.items() if value}, twins)
    form: Form = defaultdict(Fraction)
    loose: Form = defaultdict(Fraction)
    constant = row.constant
    if not isinstance(node, Affine):
        form = outputs
    else:
        for (_, k), coefficient in outputs.items():
            constant += coefficient * Fraction(node.bias[k].item())
            if node.doubt is not None:
                constant -= abs(coefficient) * Fraction(node.doubt[k].item())
            for source, weights, errors in twins.rows(output):
                for j in np.flatnonzero(weights[k]).tolist():
                    form[source, j] += coefficient * Fraction(float(weights[k, j]))
                for j in np.flatnonzero(errors[k]).tolist():
                    loose[source, j] += abs(coefficient) * Fraction(float(errors[k, j]))
        form, more = _paired({entry: value for entry, value in form.items() if value}, twins)
        pairs = pairs + more
    form = defaultdict(Fraction, form)
    for j, own in row.on_input.items():
        form[0, j] += own
    try:
        for value in [*form.values(), *loose.values(), *(value for _, value in pairs), constant]:
            float(value)
    except OverflowError:
        return None
    return Parts(dict(form), dict(loose), pairs, constant)


def _paired(form: Form, twins: Twins) -> tuple[Form, Pairs]:
    """The coefficients without those of twins, and the pairs of twins with theirs."""
    ones = [(entry, value) for entry, value in form.items() if value > 0]
    others = [(entry, -value) for entry, value in form.items() if value < 0]
    labels = {value for _, value in ones} & {value for _, value in others}
    if not labels:
        return form, []
    pairs = twins.match([t for t in ones if t[1] in labels], [t for t in others if t[1] in labels])
    used = {entry for pair, _ in pairs for entry in pair}
    return {entry: value for entry, value in form.items() if entry not in used}, pairs


def _nearest(value: int | Fraction) -> float:
    """The nearest float64 number; where that is 0 and the value is not, the least number of its sign."""
    near = float(value)
    return near if near or not value else (5e-324 if value > 0 else -5e-324)


def _down(value: Fraction) -> float:
    near = float(value)
    return near if Fraction(near) <= value else float(np.nextafter(near, -np.inf))
