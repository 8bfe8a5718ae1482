"""`partita.bound`: what is proved about a network's values over an input set, from both sides.

A row c f(x) + d is bounded from above by bounding -c f(x) - d from below, so both sides go through one pass. What may
be asked for, from cheap and loose to dear and tight, is in `catalogue`; or give a relaxation of your own (`protocol`).
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from ..problems.given import seconds
from ..problems.input_set import InputSet
from ..problems.load import load_network, read_for
from ..problems.network.graph import Graph
from ..problems.properties.property import Array
from .effort import BOUNDS, BoundEffort
from .linear.linear import Linear, undecided_neurons
from .linear.set_bounds import SetBounds, batched, joined, known
from .names import Name, parse
from .protocol import AbstractRelaxation, Means, Question
from .question import bounded_polytopes, means, objectives, treated
from .types import Pieces, Rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

SIDES = ("lower", "upper", "normals", "offsets")


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
    relaxation: str | AbstractRelaxation = "crown",
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
    effort: BoundEffort = BOUNDS,
) -> BoundsReport:
    """Lower and upper bounds of rows f(x) + constants over the input set; without `rows`, of every output.

    `network`: an `.onnx` or `.onnx.gz` file, a `Graph`, or a `torch.nn.Module` with an `example_input` (batch size 1).
    `input_set`: a `Polytope` or several, arrays (lower, upper) of any shape with n_in entries, or a `Property` or
    VNN-LIB file, whose input polytopes are taken. `relaxation`: a name as `names` reads it, such as `crown`, `m-1`,
    `k-relu:k=3` or `triangle+m-1`, or one of your own that bounds pieces in float64 (`protocol`). `device`: cpu,
    cuda, or auto, which is cuda for large networks. `steps`: of alpha-crown; `backend` (highs, gurobi) and
    `time_limit` (seconds for each program): of linear programs and of exact. `timeout` counts seconds from this
    call, for everything: what is proved by then is returned, infinite where nothing is, and a note says where the
    work stood. `effort`: see docs/effort.md.

    Raises `BadInput` for what does not fit, an empty input set, and networks the relaxation cannot bound;
    `TimeoutError` where the network is not even read by the timeout.
    """
    timeout = seconds("timeout", timeout)
    with until(None if timeout is None else now() + timeout), staged() as stage:
        try:
            graph, original = load_network(network, example_input)
            own = relaxation if isinstance(relaxation, AbstractRelaxation) else None
            names = parse(relaxation) if not isinstance(relaxation, AbstractRelaxation) else ()
            if device == "auto":  # as a search chooses
                device = automatic(graph.neurons, effort.linear.gpu)
            treated(graph, names)
            how = replace(means(precision, device, steps, backend, time_limit), effort=effort)
            polytopes = bounded_polytopes(graph, input_set)
            graph = read_for(graph, original, polytopes)
            c, d = objectives(graph, rows, constants)
        except TimeUp:
            raise TimeoutError(f"the time limit passed while {stage.text}: there are no bounds yet") from None
        report = _bounded(Question(graph, polytopes, c, d, how), names, own)
        late = f"the time limit passed while {stage.text}; the bounds are what was proved by then"
        return replace(report, notes=(*report.notes, late)) if passed() else report


def _bounded(question: Question, names: Sequence[Name], own: AbstractRelaxation | None) -> BoundsReport:
    """The tightest bounds of all that were asked for; where time is up, of all that were found."""
    begun, graph = time.perf_counter(), question.graph
    programs = tuple(name for name in names if name.rung.kind == "program")
    found: list[SetBounds] = []
    notes: list[str] = []
    with threads_for(graph.widest):
        for name in {name.rung.name: name for name in names if name.rung.kind != "program"}.values():
            if name.rung.batched:
                found.append(batched(question, name))
            else:
                found.append(_closer(question, name.rung.load(), name, notes))
        if programs:
            found.append(_closer(question, _programs, programs, notes))
        if own is not None:
            found.append(_closer(question, lambda *_: own, programs, notes))
    lower, upper = np.max([f.lower for f in found], 0), np.min([f.upper for f in found], 0)
    if not bool((lower <= upper).all()):
        if not any(len(p.offsets) for p in question.polytopes):  # a box that is not empty has an image
            r = int(np.flatnonzero(~(lower <= upper))[0])
            what = f"output {r}" if len(lower) == graph.output_size else f"row {r}"
            last = graph.nodes[-1].name or "the last layer"
            raise InternalError(f"{what} of layer {last!r} is proved to be at least {lower[r]} and at most {upper[r]}")
        raise BadInput("the input set is empty: its half-spaces have no point in common, so there is nothing to bound")
    pieces, working = found[-1].pieces, found[-1].working
    took = time.perf_counter() - begun
    return BoundsReport(lower, upper, took, _layers(graph, pieces), _unstable(working, pieces), tuple(notes))


def _programs(linear: Linear, graph: Graph, names: tuple[Name, ...], means: Means) -> AbstractRelaxation:
    """One program for all that are linear programs, as far as it comes."""
    from .ladder.ladder import LinearPrograms
    from .ladder.triangle import Setting

    doing("linear programs were solved")
    return LinearPrograms(names, graph, Setting.of(names, means), linear, partly=True)


def _closer(
    question: Question, build: Callable[..., AbstractRelaxation], what: Name | tuple[Name, ...], notes: list[str]
) -> SetBounds:
    """Bounds of a relaxation that looks at one piece after the other, and never looser than `crown`, from which it
    starts; in float64 on the CPU. `notes`: filled with what it could not treat."""
    with until(share(question.means.effort.programs.first)):
        loose = batched(replace(question, means=Means(effort=question.means.effort)), parse("crown")[0])
    if loose.linear is None:
        return loose
    graph = loose.working
    rows, constants = (torch.cat([side, -side])[None] for side in (question.rows, question.constants))
    lower, upper = np.full(len(loose.lower), np.inf), np.full(len(loose.lower), -np.inf)
    parts: list[Pieces] = []
    doing("the rows were bounded")
    try:
        relaxation = build(loose.linear, graph, what, question.means)
        for b, polytope in enumerate(question.polytopes):
            sides = {name: torch.from_numpy(getattr(polytope, name))[None] for name in SIDES}
            bounds = relaxation.bound(replace(loose.pieces[b : b + 1], **sides), Rows(rows, constants))
            low, high = known(bounds.result.lower[0].double()).cpu().numpy().reshape(2, -1)
            lower, upper = np.minimum(lower, low), np.maximum(upper, -high)
            parts.append(bounds.left)
            notes += [note for note in relaxation.notes if note not in notes]
    except TimeUp:
        return loose
    best = np.maximum(lower, loose.lower), np.minimum(upper, loose.upper)
    return SetBounds(*best, joined(parts), graph)


# ---- the report


def _layers(graph: Graph, pieces: Pieces) -> tuple[Layer, ...]:
    layers = []
    for operand in graph.operands:
        below, above = pieces.pre(operand)
        low, high = known(below).amin(0), -known(-above).amin(0)
        layer = graph.layer_at[operand.layer]
        name = layer.name or f"layer {graph.layers.index(layer)}"
        layers.append(Layer(name, low.double().cpu().numpy(), high.double().cpu().numpy()))
    return tuple(layers)


def _unstable(graph: Graph, pieces: Pieces) -> tuple[np.ndarray, ...]:
    undecided = undecided_neurons(graph, pieces).any(0).cpu()
    return tuple(undecided[operand.span].nonzero()[:, 0].numpy() for operand in graph.operands)
