"""`partita.bound`: what is proved about a network's values over an input set, from both sides.

A row c f(x) + d is bounded from above by bounding -c f(x) - d from below, so both sides go through one pass. What may
be asked for, from cheap and loose to dear and tight:

    ibp                     intervals                                     `ibp`, `interval`
    deeppoly-0, deeppoly-1  lines, fixed lower slope                      `linear`
    crown                   lines, the lower slope with less area         `linear`
    alpha-crown             slopes and multipliers optimised              `alpha`
    triangle                a linear program, exact single-neuron hulls   `triangle`
    k-relu, prima           groups of neurons, by their pre-activations   `multi_neuron`
    m-1, m-2, ...           groups of neurons with all inputs of a layer  `multi_neuron`, `anderson`
    p-1, p-2, ...           whole blocks of layers, small networks        `block_hull`
    exact                   mixed-integer programs, small ReLU networks   `exact`

A name may carry options (`k-relu:k=3,groups=all`), and `triangle+m-1` is the intersection: see `names`.

Every rung above `ibp` starts from intervals and never falls behind them; `alpha-crown` and all above it start from
`crown` and never fall behind it. Linear programs take crown's pre-activation bounds, unless they are told to tighten
them, work in float64 on the CPU, and prove their bounds by dual vectors. Half-spaces of the input set are used by all:
they shrink its box first, then minimise each form. Nothing is clipped by the rows' own signs here (see `clip`): that
would bound only what may still be dangerous.

Several input polytopes are bounded as one batch, and the answer is the smallest box around all of them: the least
lower bound, the greatest upper bound, and every neuron that is unstable on one of them.

Soundness: outward rounded, in the precision asked for, but for `exact`, whose bounds trust the solver's search and
take its tolerances off (see there); its pre-activations are those of `crown`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..kernels.arithmetic import full_products
from ..kernels.polytope import clip_box
from ..kernels.threads import threads_for
from ..problems.errors import BadInput, InternalError
from ..problems.graph import Graph
from ..problems.input_set import InputSet
from ..problems.load import load_network, read_for
from ..problems.property import Array, Polytope
from .ibp import Ibp, interval_root, pre_activations, rows_below
from .linear import Linear, undecided_neurons
from .names import BATCHED, PROGRAMS, Name, lines_of, parse, unknown
from .question import bounded_polytopes, check, objectives
from .root import consistent, outward, outward_half_spaces, root
from .types import Pieces, Rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

RELAXATIONS = (*BATCHED, "exact")
LARGE = 20_000  # neurons of a network that `auto` puts on a GPU
ELEMENTS = 1 << 24  # of one coefficient tensor; what is larger is bounded in parts


class Layer(NamedTuple):
    """Bounds of one activation node's pre-activations, (n,) each, float64."""

    name: str
    lower: Array
    upper: Array


@dataclass(frozen=True, eq=False)
class BoundsReport:
    """lower[r] <= row r <= upper[r] on the whole input set; all float64."""

    lower: Array  # (R,)
    upper: Array  # (R,)
    seconds: float
    layers: tuple[Layer, ...]
    unstable: tuple[np.ndarray, ...]  # for each layer, the indices of neurons that may be in either phase
    notes: tuple[str, ...] = ()  # what the relaxation could not treat, and what it did instead, in sentences


@full_products()
@torch.no_grad()
def bound(
    network: str | Path | Graph | torch.nn.Module,
    input_set: InputSet,
    relaxation: str = "crown",
    rows: ArrayLike | None = None,  # (R, n_out)
    constants: ArrayLike | None = None,  # (R,)
    *,
    example_input: Tensor | None = None,
    precision: str = "float64",
    device: str = "cpu",
    steps: int = 50,
    backend: str = "highs",
    time_limit: float | None = None,
) -> BoundsReport:
    """Lower and upper bounds of rows f(x) + constants over the input set; without `rows`, of every output.

    `network`: an `.onnx` or `.onnx.gz` file, a `Graph`, or a `torch.nn.Module` with an `example_input` (batch size 1).
    `input_set`: a `Polytope` or several, arrays (lower, upper) of any shape with n_in entries, or a `Property` or
    VNN-LIB file, whose input polytopes are taken. `relaxation`: a name as `names` reads it, such as `crown`, `m-1`,
    `k-relu:k=3` or `triangle+m-1`. `device`: cpu, cuda, or auto, which is cuda
    for large networks. `steps`: of alpha-crown; `backend` (highs, gurobi) and `time_limit` (seconds for
    each program): of linear programs and of exact.

    Raises `BadInput` for what does not fit, an empty input set, and networks the relaxation cannot bound.
    """
    graph, original = load_network(network, example_input)
    names = parse(relaxation)
    if device == "auto":  # as a search chooses
        device = "cuda" if torch.cuda.is_available() and graph.neurons > LARGE else "cpu"
    check(graph, names, precision, device, steps, backend, time_limit)
    polytopes = bounded_polytopes(graph, input_set)
    graph = read_for(graph, original, polytopes)
    c, d = objectives(graph, rows, constants)
    start = time.perf_counter()
    dtype = torch.float32 if precision == "float32" else torch.float64
    kinds = [name.kind for name in names]
    for kind in kinds:
        if kind not in (*BATCHED, *PROGRAMS, "exact"):
            raise unknown(kind, "bounds", (*BATCHED, *PROGRAMS, "exact"))
    found, notes = [], ()
    with threads_for(graph.widest):
        for kind in dict.fromkeys(k for k in kinds if k in BATCHED):
            found.append(_batched(graph, polytopes, c, d, kind, graph.to(dtype, device), steps))
        if "exact" in kinds:
            found.append(_exact(graph, polytopes, c, d, backend, time_limit))
        programs = [name for name in names if name.kind in PROGRAMS]
        if programs:
            bounds, notes = _programs(graph, polytopes, c, d, programs, backend, time_limit)
            found.append(bounds)
    lower, upper = np.max([f.lower for f in found], 0), np.min([f.upper for f in found], 0)
    if not bool((lower <= upper).all()):
        if not any(len(p.offsets) for p in polytopes):  # a box that is not empty has an image
            r = int(np.flatnonzero(~(lower <= upper))[0])
            what = f"row {r}" if rows is not None else f"output {r}"
            name = graph.nodes[-1].name or "the last layer"
            raise InternalError(f"{what} of layer {name!r} is proved to be at least {lower[r]} and at most {upper[r]}")
        raise BadInput("the input set is empty: its half-spaces have no point in common, so there is nothing to bound")
    pieces, working = found[-1].pieces, found[-1].working
    seconds = time.perf_counter() - start
    return BoundsReport(lower, upper, seconds, _layers(graph, pieces), _unstable(working, pieces), notes)


class _Bounds(NamedTuple):
    """Bounds of the rows, (R,) each, the pieces with their pre-activation bounds, and the network that was bounded."""

    lower: Array
    upper: Array
    pieces: Pieces
    working: Graph
    linear: Linear | None = None


# ---- batched relaxations


def _batched(
    graph: Graph, polytopes: list[Polytope], c: Tensor, d: Tensor, relaxation: str, working: Graph, steps: int
) -> _Bounds:
    """Least lower and greatest upper bounds, and the pieces with their pre-activation bounds."""
    lower, upper = (torch.tensor(np.stack([getattr(p, side) for p in polytopes])) for side in ("lower", "upper"))
    intervals, whole = interval_root(working, lower.amin(0), upper.amax(0))
    pieces = _pieces(polytopes, lower, upper, whole)
    linear = None
    if relaxation != "ibp":
        linear, tight = root(graph, working, lower.amin(0), upper.amax(0), lines_of(relaxation))
        pre = torch.maximum(whole.pre_lower, tight.pre_lower), torch.minimum(whole.pre_upper, tight.pre_upper)
        for position in graph.activations:
            part = slice(graph.offsets[position], graph.offsets[position] + graph.nodes[position].size)
            consistent(graph, position, pre[0][:, part], pre[1][:, part])
        pieces = pieces.with_pre(*(side.expand(len(pieces), -1) for side in pre))
    known, least, greatest = [], [], []
    for chosen in _parts(len(pieces), ELEMENTS // max(node.size for node in graph.nodes) ** 2):
        part, low, high = _part(pieces[chosen], intervals, linear, relaxation, len(polytopes) > 1, c, d, steps)
        known.append(part)
        least.append(low.amin(0))
        greatest.append(high.amax(0))
    low, high = (t.numpy() for t in (torch.stack(least).amin(0), torch.stack(greatest).amax(0)))
    return _Bounds(low, high, _joined(known), working, linear)


def _pieces(polytopes: list[Polytope], lower: Tensor, upper: Tensor, whole: Pieces) -> Pieces:
    """One piece a polytope: its box cut to what its half-spaces leave, and its half-spaces."""
    like = whole.lower
    low, high = outward(lower, upper, like.dtype, like.device)
    normals, offsets = outward_half_spaces(polytopes, low, high)
    if normals.shape[1]:
        low, high, _ = clip_box(low, high, normals, offsets)
    boxes = Pieces.boxes(low, high, whole.pre_lower.shape[1])
    return replace(boxes, normals=normals, offsets=offsets)


def _part(
    pieces: Pieces,
    intervals: Ibp,
    linear: Linear | None,
    relaxation: str,
    several: bool,
    c: Tensor,
    d: Tensor,
    steps: int,
) -> tuple[Pieces, Tensor, Tensor]:
    """Some pieces with their pre-activation bounds, and two-sided bounds of the rows on each, (B, R) float64."""
    pieces = _refined(pieces, intervals)
    if linear is not None and (several or pieces.normals.shape[1]):  # else the root has said it all
        pieces = _refined(linear.tighten(pieces)[0], intervals)
    bounds = intervals.nodes(pieces)
    least, greatest = [], []
    size = max(pieces.lower.shape[1], pieces.pre_lower.shape[1], c.shape[1]) * len(pieces)
    for chosen in _parts(len(c), ELEMENTS // (4 * size)):
        rows, lost = _both_sides(c[chosen], d[chosen], intervals, len(pieces))
        found, slack = rows_below(intervals.linear.rounding, intervals.linear.scales, bounds, rows)
        found = found - slack
        if linear is not None:
            found = torch.maximum(found, _linear_rows(pieces, linear, rows, relaxation, steps))
        found = found.double().cpu() - lost
        half = found.shape[1] // 2
        least.append(found[:, :half])
        greatest.append(-found[:, half:])
    return pieces, torch.cat(least, 1), torch.cat(greatest, 1)


def _linear_rows(pieces: Pieces, linear: Linear, rows: Rows, relaxation: str, steps: int) -> Tensor:  # (B, S)
    if relaxation == "alpha-crown":
        from .alpha import Alpha

        return Alpha(linear, steps, patient=True).bound(pieces, rows)[0].lower
    return linear.bound(pieces, rows, refresh=False)[0].lower


def _refined(pieces: Pieces, intervals: Ibp) -> Pieces:
    """The pieces with what interval arithmetic adds to their pre-activation bounds."""
    low, high = pre_activations(intervals.graph, intervals.nodes(pieces), pieces)
    return pieces.with_pre(low, torch.maximum(low, high))


def _both_sides(c: Tensor, d: Tensor, intervals: Ibp, count: int) -> tuple[Rows, Tensor]:
    """Rows c and -c for `count` pieces in the working dtype, and what rounding them can cost (2 R,) float64."""
    exact, constant = torch.cat([c, -c]), torch.cat([d, -d])
    like = intervals.graph.nodes[-1].bias
    rounded, offset = exact.to(like.dtype), constant.to(like.dtype)
    largest = intervals.linear.scales.size[-1].double().cpu() * 1.001
    lost = (rounded.double() - exact).abs() @ largest + (offset.double() - constant).abs()
    expand = lambda t: t.to(like.device).expand(count, *t.shape)  # noqa: E731
    return Rows(expand(rounded), expand(offset)), lost * (1 + 1e-12)


def _parts(count: int, most: int) -> list[slice]:
    """0 .. count in slices of at most `most`, at least one each."""
    step = max(1, most)
    return [slice(at, at + step) for at in range(0, count, step)]


def _joined(parts: list[Pieces]) -> Pieces:
    """The pieces in one batch again, what is known of their pre-activations with them."""
    low, high = (torch.cat([getattr(p, side) for p in parts]) for side in ("pre_lower", "pre_upper"))
    boxes = Pieces.boxes(*(torch.cat([getattr(p, side) for p in parts]) for side in ("lower", "upper")), low.shape[1])
    return boxes.with_pre(low, high)


# ---- exact


def _exact(
    graph: Graph, polytopes: list[Polytope], c: Tensor, d: Tensor, backend: str, time_limit: float | None
) -> _Bounds:
    """Minima of the rows and of their opposites, one program each, and never looser than `crown`."""
    from .exact import boxes_from, minimum

    graph = graph.to(torch.float64)
    loose = _batched(graph, polytopes, c, d, "crown", graph, 0)
    lower, upper = np.full(len(c), np.inf), np.full(len(c), -np.inf)
    for b, polytope in enumerate(polytopes):
        options = {
            "backend": backend,
            "time_limit": time_limit,
            "bounds": boxes_from(graph, polytope, loose.pieces, b),
        }
        for r, (row, constant) in enumerate(zip(c.numpy(), d.tolist(), strict=True)):
            lower[r] = min(lower[r], minimum(graph, polytope, row, constant, **options).lower)
            upper[r] = max(upper[r], -minimum(graph, polytope, -row, -constant, **options).lower)
    return _Bounds(np.maximum(lower, loose.lower), np.minimum(upper, loose.upper), loose.pieces, graph)


# ---- linear programs


def _programs(
    graph: Graph,
    polytopes: list[Polytope],
    c: Tensor,
    d: Tensor,
    names: Sequence[Name],
    backend: str,
    time_limit: float | None,
) -> tuple[_Bounds, tuple[str, ...]]:
    """Bounds from one linear program a polytope, never looser than `crown`; and what was not treated."""
    from .exact import boxes_from
    from .ladder import linear_bounds
    from .triangle import Setting

    graph = graph.to(torch.float64)
    loose = _batched(graph, polytopes, c, d, "crown", graph, 0)
    lower, upper = np.full(len(c), np.inf), np.full(len(c), -np.inf)
    pre, notes = [], {}
    for b, polytope in enumerate(polytopes):
        piece = loose.pieces[b : b + 1]
        strict = any(name.options.get("strict") == "on" for name in names)
        setting = Setting(backend, time_limit, strict, partial(_backward, loose.linear, piece))
        boxes = boxes_from(graph, polytope, loose.pieces, b)
        found = linear_bounds(names, graph, polytope, boxes, c.numpy(), d.numpy(), setting)
        lower, upper = np.minimum(lower, found.lower), np.maximum(upper, found.upper)
        sources = [graph.nodes[i].inputs[0] for i in graph.activations]
        sides = (torch.cat([found.boxes[j][k] for j in sources] or [piece.pre_lower[0]])[None] for k in (0, 1))
        pre.append(piece.with_pre(*sides))
        notes |= dict.fromkeys(found.notes)
    pieces = _joined(pre)
    best = np.maximum(lower, loose.lower), np.minimum(upper, loose.upper)
    return _Bounds(*best, pieces, graph), tuple(notes)


def _backward(linear: Linear, piece: Pieces, node: int, rows: Tensor) -> Array:  # (S, n) -> (S,)
    """Proved lower bounds of rows of a node's value over one piece, by CROWN's lines."""
    from .alpha import Alpha

    found = []
    for chosen in _parts(len(rows), ELEMENTS // max(n.size for n in linear.graph.nodes)):
        part = rows[chosen]
        result, _, _ = Alpha(linear, 0).bound(piece, Rows(part[None], part.new_zeros(1, len(part))), node=node)
        found.append(result.lower[0])
    return torch.cat(found).double().cpu().numpy()


# ---- the report


def _layers(graph: Graph, pieces: Pieces) -> tuple[Layer, ...]:
    layers = []
    for k, position in enumerate(graph.activations):
        where = slice(graph.offsets[position], graph.offsets[position] + graph.nodes[position].size)
        low, high = pieces.pre_lower[:, where].amin(0), pieces.pre_upper[:, where].amax(0)
        name = graph.nodes[position].name or f"layer {k}"
        layers.append(Layer(name, low.double().cpu().numpy(), high.double().cpu().numpy()))
    return tuple(layers)


def _unstable(graph: Graph, pieces: Pieces) -> tuple[np.ndarray, ...]:
    undecided = undecided_neurons(graph, pieces).any(0).cpu()
    return tuple(
        undecided[graph.offsets[i] : graph.offsets[i] + graph.nodes[i].size].nonzero()[:, 0].numpy()
        for i in graph.activations
    )
