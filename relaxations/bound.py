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
from ..kernels.deadline import TimeUp, doing, now, passed, share, staged, until
from ..kernels.threads import threads_for
from ..problems.device import automatic
from ..problems.errors import BadInput, InternalError
from ..problems.input_set import InputSet
from ..problems.load import load_network, read_for
from ..problems.network.graph import Graph
from ..problems.properties.property import Array, Polytope
from .linear.linear import undecided_neurons
from .linear.set_bounds import SetBounds, backward_rows, batched, joined
from .names import BATCHED, PROGRAMS, Name, parse, unknown
from .question import bounded_polytopes, objectives
from .question import check as check_question
from .types import Pieces

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

RELAXATIONS = (*BATCHED, "exact")
FIRST = 0.4  # share of the time that CROWN may take where programs follow


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
    device: str | torch.device = "cpu",
    steps: int = 50,
    backend: str = "highs",
    time_limit: float | None = None,
    timeout: float | None = None,
) -> BoundsReport:
    """Lower and upper bounds of rows f(x) + constants over the input set; without `rows`, of every output.

    `network`: an `.onnx` or `.onnx.gz` file, a `Graph`, or a `torch.nn.Module` with an `example_input` (batch size 1).
    `input_set`: a `Polytope` or several, arrays (lower, upper) of any shape with n_in entries, or a `Property` or
    VNN-LIB file, whose input polytopes are taken. `relaxation`: a name as `names` reads it, such as `crown`, `m-1`,
    `k-relu:k=3` or `triangle+m-1`. `device`: cpu, cuda, or auto, which is cuda for
    large networks. `steps`: of alpha-crown; `backend` (highs, gurobi) and `time_limit` (seconds for
    each program): of linear programs and of exact. `timeout` counts seconds from this call, for everything: what is
    proved by then is returned, infinite where nothing is, and a note says where the work stood.

    Raises `BadInput` for what does not fit, an empty input set, and networks the relaxation cannot bound;
    `TimeoutError` where the network is not even read by the timeout.
    """
    if timeout is not None and not timeout > 0:
        raise BadInput(f"timeout must be a positive number of seconds, or None, not {timeout!r}")
    with until(None if timeout is None else now() + timeout), staged() as stage:
        try:
            graph, original = load_network(network, example_input)
            names = parse(relaxation)
            if device == "auto":  # as a search chooses
                device = automatic(graph.neurons)
            check_question(graph, names, precision, device, steps, backend, time_limit)
            polytopes = bounded_polytopes(graph, input_set)
            graph = read_for(graph, original, polytopes)
            c, d = objectives(graph, rows, constants)
        except TimeUp:
            raise TimeoutError(f"the time limit passed while {stage.text}: there are no bounds yet") from None
        report = _bounded(graph, polytopes, c, d, names, precision, device, steps, backend, time_limit)
        late = f"the time limit passed while {stage.text}; the bounds are what was proved by then"
        return replace(report, notes=(*report.notes, late)) if passed() else report


def _bounded(
    graph: Graph,
    polytopes: list[Polytope],
    c: Tensor,
    d: Tensor,
    names: Sequence[Name],
    precision: str,
    device: str | torch.device,
    steps: int,
    backend: str,
    time_limit: float | None,
) -> BoundsReport:
    """The tightest bounds of all that were asked for; where time is up, of all that were found."""
    start = time.perf_counter()
    dtype = torch.float32 if precision == "float32" else torch.float64
    kinds = [name.kind for name in names]
    for kind in kinds:
        if kind not in (*BATCHED, *PROGRAMS, "exact"):
            raise unknown(kind, "bounds", (*BATCHED, *PROGRAMS, "exact"))
    found: list[SetBounds] = []
    notes: tuple[str, ...] = ()
    with threads_for(graph.widest):
        for kind in dict.fromkeys(k for k in kinds if k in BATCHED):
            found.append(batched(graph, polytopes, c, d, kind, dtype, device, steps))
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
            what = f"output {r}" if len(c) == graph.output_size else f"row {r}"
            name = graph.nodes[-1].name or "the last layer"
            raise InternalError(f"{what} of layer {name!r} is proved to be at least {lower[r]} and at most {upper[r]}")
        raise BadInput("the input set is empty: its half-spaces have no point in common, so there is nothing to bound")
    pieces, working = found[-1].pieces, found[-1].working
    seconds = time.perf_counter() - start
    return BoundsReport(lower, upper, seconds, _layers(graph, pieces), _unstable(working, pieces), notes)


# ---- exact


def _exact(
    graph: Graph, polytopes: list[Polytope], c: Tensor, d: Tensor, backend: str, time_limit: float | None
) -> SetBounds:
    """Minima of the rows and of their opposites, one program each, and never looser than `crown`."""
    from .ladder.exact import boxes_from, minimum

    with until(share(FIRST)):
        loose = batched(graph, polytopes, c, d, "crown")
    lower, upper = np.array(loose.lower), np.array(loose.upper)
    try:
        graph = graph.to(torch.float64)
        bounds = [boxes_from(graph, polytope, loose.pieces, b) for b, polytope in enumerate(polytopes)]
        doing("mixed-integer programs were solved")
        for r, (row, constant) in enumerate(zip(c.numpy(), d.tolist(), strict=True)):
            ends: list[tuple[float, float]] = []
            for polytope, boxes in zip(polytopes, bounds, strict=True):
                low, high = (
                    minimum(
                        *(graph, polytope, s * row, s * constant), backend=backend, time_limit=time_limit, bounds=boxes
                    ).lower
                    for s in (1, -1)
                )
                ends.append((low, -high))
            lower[r], upper[r] = max(lower[r], min(e[0] for e in ends)), min(upper[r], max(e[1] for e in ends))
    except TimeUp:
        pass
    return SetBounds(lower, upper, loose.pieces, loose.working)


# ---- linear programs


def _programs(
    graph: Graph,
    polytopes: list[Polytope],
    c: Tensor,
    d: Tensor,
    names: Sequence[Name],
    backend: str,
    time_limit: float | None,
) -> tuple[SetBounds, tuple[str, ...]]:
    """Bounds from one linear program a polytope, never looser than `crown`; and what was not treated."""
    from .ladder.exact import boxes_from
    from .ladder.ladder import linear_bounds
    from .ladder.triangle import Setting

    with until(share(FIRST)):
        loose = batched(graph, polytopes, c, d, "crown")
    if loose.linear is None:
        return loose, ()
    lower, upper = np.full(len(c), np.inf), np.full(len(c), -np.inf)
    pre: list[Pieces] = []
    notes: dict[str, None] = {}
    graph = loose.working
    doing("linear programs were solved")
    for b, polytope in enumerate(polytopes):
        piece = loose.pieces[b : b + 1]
        strict = any(name.options.get("strict") == "on" for name in names)
        setting = Setting(backend, time_limit, strict, partial(backward_rows, loose.linear, piece))
        try:
            boxes = boxes_from(graph, polytope, loose.pieces, b)
            found = linear_bounds(names, graph, polytope, boxes, c.numpy(), d.numpy(), setting)
        except TimeUp:
            return loose, tuple(notes)
        lower, upper = np.minimum(lower, found.lower), np.maximum(upper, found.upper)
        sources = [layer.source for layer in graph.layers]
        low, high = (torch.cat([found.boxes[j][k] for j in sources] or [piece.pre_lower[0]])[None] for k in (0, 1))
        pre.append(piece.with_pre(low, high))
        notes |= dict.fromkeys(found.notes)
    pieces = joined(pre)
    best = np.maximum(lower, loose.lower), np.minimum(upper, loose.upper)
    return SetBounds(*best, pieces, graph), tuple(notes)


# ---- the report


def _layers(graph: Graph, pieces: Pieces) -> tuple[Layer, ...]:
    layers = []
    for k, layer in enumerate(graph.layers):
        below, above = pieces.pre(layer)
        low, high = below.amin(0), above.amax(0)
        name = layer.name or f"layer {k}"
        layers.append(Layer(name, low.double().cpu().numpy(), high.double().cpu().numpy()))
    return tuple(layers)


def _unstable(graph: Graph, pieces: Pieces) -> tuple[np.ndarray, ...]:
    undecided = undecided_neurons(graph, pieces).any(0).cpu()
    return tuple(undecided[layer.span].nonzero()[:, 0].numpy() for layer in graph.layers)
