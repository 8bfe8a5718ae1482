"""M_1 by cutting planes: the hull of one ReLU with all inputs of its layer, a row at a time where it is needed.

Over a box, y = max(0, w v + b) has exponentially many upper facets (Anderson et al. 2020, Tjandraatmadja et al. 2020).
Scale each input to t in [0, 1] with w v + b growing in t; then y is a supermodular function of the box's corners, and
its concave envelope is the Lovász extension. At a point it is found by sorting: take inputs into I from the smallest t
on, as long as

    l(I) = sum_{i in I} w_i L_i + sum_{i not in I} w_i U_i + b

is not negative (L_i the end where t_i = 0, U_i the other); the first input h that would make it so ends the search, and

    y <= sum_{i in I} w_i (v_i - L_i) + l(I) / (U_h - L_h) (v_h - L_h)

is the facet above the point. Cost: a product and a sort for each layer. (In theory a median search replaces the sort.)

Over a polytope there is no such formula: `envelope` finds the row above a point by the disjunction of the two phases,
a small linear program. It is asked only where the box says nothing new, and takes as polytope what the program says,
cuts included, of the few layers before: any superset of the relaxed set gives rows that hold.

`InputCuts` adds these rows at the optimum of each objective, and, unless told not to, tightens pre-activation bounds
with them layer by layer on the way; that makes the boxes of later layers those of the relaxed set (exact on nested max
with one piece). Leaky slopes a: y - a z = (1 - a) max(0, z).

Soundness: outward rounded. Whatever coefficients come out, the offset is the largest value that y - a z less the row's
left side takes in either phase: over a box by two interval sums with their a-priori rounding, over a polytope by safe
dual bounds of two linear programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse import hstack
from torch import Tensor

from ...problems.network.graph import Affine, Graph
from ..effort import ProgramEffort
from ..lp.boxes import UNIT, Box
from ..lp.encode import Addition, Building, Encoding, sparse
from ..lp.envelope import Above, envelope, over
from ..lp.model import Array, LinearModel, Solution
from ..lp.program import Index
from ..lp.window import Size
from ..names import Name
from .multi_neuron import InputHull
from .triangle import Added, Cutting, Rows, Setting


def added(name: Name, setting: Setting, graph: Graph, boxes: Sequence[Box]) -> Added:
    """M_K as a part of a program: by cutting planes, or in its extended form."""
    if _by_cuts(name, setting, graph, boxes):
        cuts = InputCuts(setting, name.chosen("tighten"))
        return Added((cuts,), (cuts,), tightens=True)
    size = Size(name.whole("patterns"), name.whole("size"))
    return Added((InputHull(setting, name.number, name.chosen("groups"), size),))


def _by_cuts(name: Name, setting: Setting, graph: Graph, boxes: Sequence[Box]) -> bool:
    """Whether M_1 is found by cutting planes: as asked, or where its extended form would be large."""
    if name.number != 1 or name.options["by"] == "hull":
        return False
    return name.options["by"] == "cuts" or extended_size(graph, boxes) > setting.programs.extended


def extended_size(graph: Graph, boxes: Sequence[Box]) -> int:
    """About how many coefficients M_1 has in its extended form: each undecided neuron copies twice what lies before."""
    size = 2 * graph.input_size
    for layer in graph.layers:
        undecided = int((~layer.function.decided(*boxes[layer.source])).sum())
        reads = sum(graph.nodes[j].size for j in graph.nodes[layer.source].inputs)
        size += undecided * 4 * size + layer.size * reads
    return size


@dataclass(frozen=True, eq=False)
class Layer:
    """The undecided neurons of one layer, U of them, and the V inputs they read."""

    position: int
    inputs: Index  # (V,) columns
    z: Index  # (U,) columns
    y: Index  # (U,)
    weight: Array  # (U, V)
    bias: Array  # (U,)
    doubt: Array  # (U,) how far weight v + bias may be from z
    slope: float


@dataclass(frozen=True, eq=False)
class InputCuts(Addition):
    """M_1 by cutting planes; a `Cutter` once the program is built."""

    setting: Setting
    tighten: str = "auto"  # auto, on, off
    layers: list[Layer] = field(default_factory=list)

    def before(self, building: Building, position: int) -> None:
        """Tighter pre-activation bounds, with the cuts they take; the cuts stay in the program."""
        own = building.graph.layer_at[position]
        source = own.source
        open_ = ~own.function.decided(*building.boxes[source])
        if not self.layers or not bool(open_.any()) or not self._tightens(building):
            return
        programs = Cutting(building.encoding(), self.setting, [self], brief=True)
        for node, neurons in (*_affine_inputs(building, source, open_), (source, open_)):
            self._tighten(building, programs, node, neurons)
        rows, *sides = programs.cuts()
        if rows.shape[0]:
            building.program.add_matrix([(rows, np.arange(rows.shape[1]))], *sides)

    def _tighten(self, building: Building, programs: Cutting, node: int, neurons: Tensor) -> None:
        """Proved bounds of some entries of a node, in the building and in the session."""
        lower, upper = (side.clone() for side in building.boxes[node])
        for k in torch.nonzero(neurons).flatten().tolist():
            for sign, side in ((1.0, lower), (-1.0, upper)):
                cost = np.zeros(building.program.variables)
                cost[building.first[node] + k] = sign
                bound = programs.minimise(cost)
                if np.isfinite(bound):
                    side[k] = sign * max(sign * side[k].item(), bound)
        building.cut_box(node, lower, torch.maximum(lower, upper))
        programs.set_bounds(building.program.lower, building.program.upper)

    def after(self, building: Building, position: int) -> None:
        """The layer is ready for cuts."""
        kinks = building.kinks.get(position)
        if self.setting.piecewise(building, position, "m-1") and kinks is not None and len(kinks.neurons):
            self.layers.append(layer_of(building, position, kinks.neurons))

    def _tightens(self, building: Building) -> bool:
        """Whether bounds are tightened; by default where undecided neurons times inputs of a layer are few."""
        if self.tighten != "auto":
            return self.tighten == "on"
        graph, count, width = building.graph, 0, 0
        for layer in graph.layers:
            count += int((~layer.function.decided(*building.boxes[layer.source])).sum())
            width = max(width, sum(graph.nodes[j].size for j in graph.nodes[layer.source].inputs))
        return count * width <= self.setting.programs.tightened

    def cuts(self, encoding: Encoding, answer: Solution) -> Rows:
        """Rows that the optimum breaks: of neurons whose upper rows the bound rests on, else of all; over boxes, and
        over polytopes where the box has none."""
        price, x, effort = upper_price(encoding.model, answer.dual), answer.point, self.setting.programs
        for some in (price > effort.idle, price <= effort.idle):
            found = Rows()
            for layer in self.layers:
                loose = np.flatnonzero(some[layer.y] & (_excess(layer, encoding, x) > effort.broken))
                left = box_rows(layer, encoding, x, loose, found, effort.broken) if len(loose) else loose
                if len(left):
                    polytope_rows(layer, encoding, x, left, found, self.setting)
            if found.sides:
                break
        return found


def upper_price(model: LinearModel, dual: Array | None) -> Array:  # (V,)
    """How much a bound rests on rows that hold each variable down (its cost in the dual vector); heuristic."""
    if dual is None:
        return np.zeros(len(model.cost))
    rows = np.where(np.isinf(model.row_lower), np.abs(dual), 0.0)
    return model.columns.transposed.maximum(0) @ rows


def _excess(layer: Layer, encoding: Encoding, x: Array) -> Array:
    """How far each neuron lies above its function, relative to its range."""
    spread = np.maximum(encoding.model.upper[layer.z] - encoding.model.lower[layer.z], 1e-12)
    return (x[layer.y] - layer.slope * x[layer.z] - (1 - layer.slope) * np.maximum(x[layer.z], 0.0)) / spread


def _affine_inputs(building: Building, source: int, neurons: Tensor) -> list[tuple[int, Tensor]]:
    """Affine nodes that an affine node reads, with their entries that matter to some of its neurons. (Boxes of
    activations follow from those of their pre-activations.)"""
    node = building.graph.affine(source)
    found = []
    for operator, j in zip(node.operators, node.inputs, strict=True):
        if isinstance(building.graph.nodes[j], Affine):
            found.append((j, operator.magnitude().adjoint(neurons.double()) > 0))
    return found


def layer_of(building: Building, position: int, neurons: Index) -> Layer:
    """The rows of some neurons of a layer, over all nodes that their affine node reads."""
    graph, source = building.graph, building.graph.layer_at[position].source
    node = graph.affine(source)
    matrix = hstack([sparse(operator, building.effort.written) for operator in node.operators], format="csr")[neurons]
    columns = np.concatenate([building.columns(j) for j in node.inputs])
    reach = np.maximum(np.abs(building.program.lower), np.abs(building.program.upper))
    doubt, terms = np.abs(node.bias.numpy()), 4 + len(node.operators)
    for operator, j in zip(node.operators, node.inputs, strict=True):
        doubt = doubt + operator.magnitude().apply(torch.as_tensor(reach[building.columns(j)])).numpy()
        terms += operator.terms
    inputs, at = np.unique(columns, return_inverse=True)
    weight = np.zeros((len(neurons), len(inputs)))
    np.add.at(weight.T, at, matrix.toarray().T)  # a node that is read twice: its weights' sum, within the doubt
    return Layer(
        position,
        inputs,
        building.columns(source)[neurons],
        building.columns(position)[neurons],
        weight,
        node.bias.numpy()[neurons],
        (4 * terms * UNIT * doubt + (0.0 if node.doubt is None else 2 * node.doubt.numpy()))[neurons],
        graph.layer_at[position].leak,
    )


def box_rows(layer: Layer, encoding: Encoding, x: Array, loose: Index, found: Rows, least: float) -> Index:
    """The facets over the box of the layer's inputs that x breaks, by `least` of the neuron's range, at most one a
    neuron; returns who broke none."""
    lower, upper = encoding.model.lower[layer.inputs], encoding.model.upper[layer.inputs]
    value = np.clip(x[layer.inputs], lower, upper)
    spread = np.maximum(encoding.model.upper[layer.z] - encoding.model.lower[layer.z], 1e-12)[loose]
    coefficients = (1 - layer.slope) * facets(layer.weight[loose], layer.bias[loose], lower, upper, value)
    offsets = certified(layer, loose, coefficients, lower, upper)
    over = x[layer.y[loose]] - layer.slope * x[layer.z[loose]] - coefficients @ x[layer.inputs] - offsets
    broken = over > least * spread
    for r in np.flatnonzero(broken):
        _add(layer, int(loose[r]), coefficients[r], offsets[r], found)
    return loose[~broken]


def facets(weight: Array, bias: Array, lower: Array, upper: Array, value: Array) -> Array:
    """Coefficients (U, V) of the facets of max(0, w v + b) over the box above `value` (V,). Heuristic: not rounded."""
    width = upper - lower
    share = np.divide(value - lower, width, out=np.zeros_like(width), where=width > 0)
    t = np.where(weight >= 0, share, 1 - share)
    step = np.abs(weight) * width
    order = np.argsort(t, axis=1, kind="stable")
    top = (np.maximum(weight, 0) * upper + np.minimum(weight, 0) * lower).sum(1) + bias  # l of no input at all
    left = top[:, None] - np.cumsum(np.take_along_axis(step, order, 1), 1)  # l(I) with each input taken
    whole = left >= 0
    first = np.argmax(~whole, 1)  # where l would turn negative
    rows = np.arange(len(weight))
    before = np.where(first > 0, left[rows, first - 1], top)
    h = order[rows, first]
    result = np.zeros_like(weight)
    np.put_along_axis(result, order, np.where(whole, np.take_along_axis(weight, order, 1), 0.0), 1)
    part = np.divide(before, step[rows, h], out=np.zeros_like(before), where=step[rows, h] > 0).clip(0, 1)
    result[rows, h] = np.where(whole[:, -1], result[rows, h], part * weight[rows, h])
    return result


def certified(layer: Layer, rows: Index, coefficients: Array, lower: Array, upper: Array) -> Array:  # (U,)
    """The least offsets with which y - a z <= coefficients v + offset over the box; outward rounded."""
    reach = np.maximum(np.abs(lower), np.abs(upper))
    rest = (1 - layer.slope) * layer.weight[rows] - coefficients
    dead = _highest(-coefficients, lower, upper)
    alive = _highest(rest, lower, upper) + (1 - layer.slope) * layer.bias[rows]
    terms = coefficients.shape[1] + 8
    size = (np.abs(coefficients) + np.abs(rest) + np.abs(layer.weight[rows])) @ reach + np.abs(layer.bias[rows])
    return np.maximum(dead, alive) + layer.doubt[rows] + 4 * terms * UNIT * size + np.finfo(float).tiny


def _highest(coefficients: Array, lower: Array, upper: Array) -> Array:
    return np.maximum(coefficients, 0) @ upper + np.minimum(coefficients, 0) @ lower


def polytope_rows(layer: Layer, encoding: Encoding, x: Array, loose: Index, found: Rows, setting: Setting) -> None:
    """Rows over the relaxed set of what lies before that x breaks, for the neurons that are farthest from exact."""
    known, effort = _known(layer, encoding, setting.programs), setting.programs
    if known is None:
        return
    spread = np.maximum(encoding.model.upper[layer.z] - encoding.model.lower[layer.z], 1e-12)
    farthest = loose[np.argsort(-_excess(layer, encoding, x)[loose], kind="stable")[: effort.tries]]
    for k in farthest.tolist():
        above = Above(int(layer.z[k]), layer.inputs, layer.slope, x[layer.inputs], effort.near)
        row = envelope(*known, above, setting.session)
        if row is None:
            continue
        coefficients, offset = row
        over = x[layer.y[k]] - layer.slope * x[layer.z[k]] - coefficients @ x[layer.inputs] - offset
        if over > effort.broken * spread[k]:
            _add(layer, k, coefficients, offset, found)


def _known(layer: Layer, encoding: Encoding, effort: ProgramEffort) -> tuple[LinearModel, Index] | None:
    """What the program says of the few layers before this one, its pre-activations and the network's input; of as many
    layers as a small polytope holds, and None where not even one does."""
    graph, best = encoding.graph, None
    source = graph.layer_at[layer.position].source
    earlier = [0, *(own.position for own in graph.layers if own.position < layer.position)]
    for start in reversed(earlier[-effort.layers :]):
        before = {start, *graph.nodes[start].inputs}  # an activation comes with its pre-activations
        nodes = [i for i in range(source) if i in before or i > start or i == 0]
        columns = [encoding.first[i] + np.arange(graph.nodes[i].size) for i in nodes]
        joined = np.unique(np.concatenate([*columns, layer.inputs, layer.z]))
        model, rows = over(encoding.model, joined)
        if model.matrix.nnz > effort.polytope:
            break
        best = model, rows
    return best


def _add(layer: Layer, k: int, coefficients: Array, offset: float, found: Rows) -> None:
    """y - a z - coefficients v <= offset."""
    kept = np.flatnonzero(coefficients)
    columns = [layer.inputs[kept], layer.y[k : k + 1]]
    values = [-coefficients[kept], np.ones(1)]
    if layer.slope:
        columns.append(layer.z[k : k + 1])
        values.append(np.array([-layer.slope]))
    found.columns.append(np.concatenate(columns))
    found.coefficients.append(np.concatenate(values))
    found.sides.append(float(offset))
