"""Study 4, copied inputs (Mao, Zhang, Vechev 2026, theorem 5.1): which reading of P_1 makes them help.

The theorem: every f on a polytope X has a g = f whose P_1 bounds are exact; g carries a copy of the inputs through all
layers. P_1 is "the hull of each whole layer", and that can be read in two ways:

    relaxed       layer i's hull is taken over what the layers before leave: a relaxed set, larger than what x can
                  reach. This is what a verifier computes that goes from layer to layer, and what `partita.bound` does.
    exact graph   layer i's hull is that of {(what the layer reads at x, what it computes at x) : x in X}. With
                  copies, what it reads holds x: the set is {(x, h(x), g(x))}.

Both are computed here. "Relaxed" is `p-1` of the ladder. "Exact graph" is a linear program: each layer's values are
convex combinations of those at the corners of the network's linear regions (`regions`), the layers tied by the values
that they share. The truth is the least and greatest value at those corners.

Beside it, what the statement alone is worth. For one fixed X it holds of interval bounds too: with l = min f, u = max f

    u - ReLU(u - l - ReLU(f - l))

is f on X, and IBP's bounds of it are l and u whatever it thinks of f, since each ReLU clips one side. (The sum form
l + ReLU(f - l) - ReLU(f - u) is f as well, and inexact: its two terms are bounded apart.) So the content of theorem
5.1 must be a construction that does not know the extremes, or one g for every X: `_uniform` takes the clip that was
made for X to boxes inside X.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from partita.problems.network.activation import ReLU
from partita.problems.network.graph import Graph
from partita.problems.network.library import Nodes, barrier, copied_inputs, random_network
from partita.relaxations.bound import bound

from .intervals import tightened
from .regions import corners
from .table import Study, Table, settled

Array = np.ndarray
COMMAND = "partita study copied_inputs"
CLOSE = 1e-5  # relative; the linear programs' tolerances grow with k
QUESTION = (
    "Theorem 5.1 says that every network f has a twin g, equal to f on X, whose P_1 bounds are exact: g carries the "
    "inputs through every layer. Theorem 3.3 says that on the barrier network P_1 is not. Read P_1 layer by layer over "
    "the relaxed set before (relaxed), or as the hull of each layer's exact graph over X (exact graph): under which "
    "reading is g exact, and is f then still inexact? And how much does the statement ask for: is some g exact under a "
    "single-neuron relaxation as well?"
)


class Case(NamedTuple):
    """Bounds of one network under both readings, without copies (f) and with them (g)."""

    name: str
    truth: tuple[float, float]
    relaxed_f: tuple[float, float]
    relaxed_g: tuple[float, float]
    graph_f: tuple[float, float]
    graph_g: tuple[float, float]
    blocks: tuple[float, float]  # P_L of f: exact by definition


def study(seed: int = 0, sizes: tuple[float, ...] = (1, 10, 100, 1000), networks: int = 20, clipped: int = 6) -> Study:
    """`networks`: random ones; the first `clipped` of them, and two barriers, are clipped."""
    barriers = [case(f"barrier, k = {k:g}", barrier(float(k))) for k in sizes]
    drawn = [
        case(f"{'-'.join(map(str, _widths(s)))}, seed {seed + s}", random_network(_widths(s), seed + s))
        for s in range(networks)
    ]
    tables = [
        Table(
            "Lower and upper bounds on the barrier network, without copies (f) and with them (g)",
            COLUMNS,
            [_row(c) for c in barriers],
            COMMAND,
            "f is 0 on X. 'P_L of f' is one hull over all layers, by linear programs alone. 'Relaxed' is P_1 over "
            "intervals tightened layer by layer; 'exact graph' uses no intervals.",
        ),
        Table(
            f"Error of the lower bound on {networks} random networks of two inputs",
            ["network", "true minimum", "relaxed, f", "relaxed, g", "exact graph, f", "exact graph, g", "P_L of f"],
            [[c.name, *map(settled, (c.truth[0], *(c.truth[0] - b[0] for b in c[2:])))] for c in drawn],
            COMMAND,
            "Intervals as above.",
        ),
    ]
    some = [(c.name, barrier(float(k)), c.truth) for c, k in zip(barriers, sizes, strict=True)][:2]
    some += [(c.name, random_network(_widths(s), seed + s), c.truth) for s, c in enumerate(drawn[:clipped])]
    clips = _clips(some)
    uniform = _uniform(some)
    findings = _findings(barriers, drawn, _about_clips(clips, uniform))
    return Study("copied_inputs", "Theorem 5.1: copied inputs", QUESTION, [*tables, clips, uniform], findings)


COLUMNS = (
    *("network", "relaxed, f: lower", "upper", "relaxed, g: lower", "upper "),
    *("exact graph, f: lower", "upper  ", "exact graph, g: lower", "upper   ", "P_L of f: lower"),
)


def _widths(s: int) -> tuple[int, ...]:
    return (2, 5, 5, 1) if s % 2 else (2, 4, 4, 4, 1)


def case(name: str, f: Graph) -> Case:
    """All bounds of a network of two inputs and one output on [-1,1]^2."""
    lower, upper = -np.ones(2), np.ones(2)
    g = copied_inputs(f, lower)
    values = f(torch.as_tensor(corners(f, lower, upper))).numpy()
    layers = len(f.layers)
    return Case(
        name,
        (float(values.min()), float(values.max())),
        *(ends(bound(network, (lower, upper), tightened("p-1"))) for network in (f, g)),
        *(exact_graph(network, lower, upper) for network in (f, g)),
        ends(bound(f, (lower, upper), tightened(f"p-{layers}"))),
    )


def nested_clip(f: Graph, low: float, high: float) -> Graph:
    """high - ReLU(high - low - ReLU(f - low)): f where low <= f <= high, and interval bounds within them."""
    nodes, last = Nodes(f.nodes), len(f.nodes) - 1
    first = nodes.activation(nodes.affine([(last, [[1.0]])], -low, "above low before"), ReLU(), "above low")
    second = nodes.affine([(first, [[-1.0]])], high - low, "below high before")
    second = nodes.activation(second, ReLU(), "below high")
    nodes.affine([(second, [[-1.0]])], high, "clipped")
    return nodes.graph()


def sum_clip(f: Graph, low: float, high: float) -> Graph:
    """low + ReLU(f - low) - ReLU(f - high), the same function."""
    nodes, last = Nodes(f.nodes), len(f.nodes) - 1
    at = nodes.affine([(last, [[1.0], [1.0]])], [-low, -high], "beyond before")
    nodes.affine([(nodes.activation(at, ReLU(), "beyond"), [[1.0, -1.0]])], low, "clipped")
    return nodes.graph()


def _clips(networks: list[tuple[str, Graph, tuple[float, float]]]) -> Table:
    """Interval bounds of both clips, made for X, on X."""
    box, rows = (-np.ones(2), np.ones(2)), []
    for name, f, truth in networks:
        found = [ends(bound(g, box, "ibp")) for g in (f, nested_clip(f, *truth), sum_clip(f, *truth))]
        rows.append([name, *map(settled, (*truth, *(v for pair in found for v in pair)))])
    columns = [
        *(
            "network",
            "min f",
            "max f",
            "f: lower",
            "upper",
            "nested clip: lower",
            "upper ",
            "sum form: lower",
            "upper  ",
        ),
    ]
    note = "IBP's bounds on X. Both clips are f on X, up to rounding; they know min f and max f."
    return Table("One fixed X: two more neurons, and interval bounds are exact", columns, rows, COMMAND, note)


PARTS = 3  # boxes a side


def _uniform(networks: list[tuple[str, Graph, tuple[float, float]]]) -> Table:
    """The same g on boxes inside X: on how many both of its bounds are exact."""
    grid, rows = np.linspace(-1, 1, PARTS + 1), []
    boxes = [(np.array([a, b]), np.array([c, d])) for a, c in pairwise(grid) for b, d in pairwise(grid)]
    for name, f, truth in networks:
        g, clip, exact = copied_inputs(f, -np.ones(2)), nested_clip(f, *truth), np.zeros(5, int)
        for lower, upper in boxes:
            values = f(torch.as_tensor(corners(f, lower, upper))).numpy()
            own = (float(values.min()), float(values.max()))
            found = [ends(bound(clip, (lower, upper), rung)) for rung in ("ibp", tightened("triangle"))]
            found += [ends(bound(network, (lower, upper), tightened("p-1"))) for network in (f, g)]
            found.append(exact_graph(g, lower, upper))
            exact += [_exact(own, pair) for pair in found]
        rows.append([name, len(boxes), *exact.tolist()])
    columns = ["network", "boxes", "clip, ibp", "clip, triangle", "f, p-1", "copies, p-1", "copies, exact graph"]
    note = (
        f"X in {PARTS} x {PARTS} boxes: on how many both bounds are exact. The clip is the nested one, made for X. "
        "Intervals of linear programs tightened layer by layer."
    )
    return Table("One network for every box inside X", columns, rows, COMMAND, note)


def _about_clips(clips: Table, uniform: Table) -> str:
    """What theorem 5.1 asks for, and what it does not."""
    low, high = clips.column("min f"), clips.column("max f")
    nested = all(
        _exact(truth, found)
        for truth, found in zip(
            zip(low, high, strict=True),
            zip(clips.column("nested clip: lower"), clips.column("upper "), strict=True),
            strict=True,
        )
    )
    sums = sum(
        not _exact(truth, found)
        for truth, found in zip(
            zip(low, high, strict=True),
            zip(clips.column("sum form: lower"), clips.column("upper  "), strict=True),
            strict=True,
        )
    )
    if not nested:
        return "Refuted: that interval bounds of the nested clip are exact."
    count, columns = len(clips.rows), {name: sum(uniform.column(name)) for name in uniform.columns[1:]}
    text = (
        "The statement alone asks for little: for one fixed X the nested clip u - ReLU(u - l - ReLU(f - l)), two more "
        f"neurons with l = min f and u = max f, is exact even under IBP, on {count} of {count} networks (the sum form "
        f"is inexact on {sums}). So that some g = f on X has exact bounds does not separate multi- from single-neuron "
        "relaxations; what could is one g for every X, or a construction that does not know the extremes. On boxes "
        f"inside X the clip that was made for X is exact on {columns['clip, ibp']} of {columns['boxes']} under IBP and "
        f"{columns['clip, triangle']} under Triangle; copies on {columns['copies, p-1']} under P_1 over the relaxed "
        f"set, where f itself is on {columns['f, p-1']}"
    )
    if columns["copies, exact graph"] == columns["boxes"]:
        text += ", and on all under the reading 'exact graph', which is exact on f as well"
    return text + "."


def ends(report) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    return float(report.lower[0]), float(report.upper[0])


def exact_graph(graph: Graph, lower: Array, upper: Array) -> tuple[float, float]:
    """The output's least and greatest value where each layer's (reads, values) lie in the hull of its exact graph.

    The hull of layer i has one weight for each corner of the linear regions; nodes that two layers share are equal.
    """
    from scipy.optimize import linprog
    from scipy.sparse import block_diag, csr_array, hstack, vstack

    values = [v.numpy() for v in graph.values(torch.as_tensor(corners(graph, lower, upper)))]
    layers = [(layer.source, layer.position) for layer in graph.layers] + [(graph.output, graph.output)]
    count, starts = 0, {}
    for position, node in enumerate(graph.nodes):
        starts[position], count = count, count + node.size
    selectors, points = [], []
    for affine, node in layers:
        tied = sorted({*graph.nodes[affine].inputs, node})
        at = np.concatenate([starts[i] + np.arange(graph.nodes[i].size) for i in tied])
        selectors.append(csr_array((np.ones(len(at)), (np.arange(len(at)), at)), shape=(len(at), count)))
        points.append(np.concatenate([values[i] for i in tied], 1).T)
    number = len(values[0])
    ties = hstack([vstack(selectors), -block_diag(points)])
    sums = hstack([csr_array((len(layers), count)), block_diag([np.ones((1, number))] * len(layers))])
    matrix = csr_array(vstack([ties, sums]))
    right = np.concatenate([np.zeros(ties.shape[0]), np.ones(len(layers))])
    box = [(None, None)] * count + [(0, None)] * (number * len(layers))
    cost, found = np.zeros(matrix.shape[1]), []
    for sign in (1, -1):
        cost[starts[graph.output]] = sign
        answer = linprog(cost, A_eq=matrix, b_eq=right, bounds=box, method="highs")
        if answer.status != 0:
            raise RuntimeError(f"the linear program of the exact graph ended with: {answer.message}")
        found.append(sign * float(answer.fun))
    return found[0], found[1]


def _row(c: Case) -> list:
    pairs = (c.relaxed_f, c.relaxed_g, c.graph_f, c.graph_g)
    return [c.name, *(settled(v) for pair in pairs for v in pair), settled(c.blocks[0], 1e-5)]


def _exact(truth: tuple[float, float], found: tuple[float, float]) -> bool:
    scale = max(1.0, *map(abs, truth))
    return all(abs(t - v) <= CLOSE * scale for t, v in zip(truth, found, strict=True))


def _findings(barriers: list[Case], drawn: list[Case], clips: str) -> str:
    both = [*barriers, *drawn]
    said = []
    if all(_exact(c.truth, c.graph_g) for c in both):
        said.append(
            f"Confirmed under the reading 'exact graph': g is exact, from both sides, on all {len(both)} networks."
        )
    else:
        said.append("Not confirmed under the reading 'exact graph': g is inexact on some network.")
    said.append(clips)
    if all(not _exact(c.truth, c.relaxed_g) for c in barriers):
        unchanged = all(abs(c.relaxed_f[0] - c.relaxed_g[0]) <= CLOSE * max(1, abs(c.relaxed_f[0])) for c in barriers)
        said.append(
            "Refuted under the reading 'relaxed': on the barrier network copies change nothing"
            if unchanged
            else "Refuted under the reading 'relaxed': on the barrier network g stays inexact"
        )
        said[-1] += f" (error {-barriers[-1].relaxed_g[0]:,.4g} at {barriers[-1].name.split(', ')[1]})."
    helped = [c for c in drawn if c.relaxed_g[0] > c.relaxed_f[0] + CLOSE]
    open_ = [c for c in drawn if not _exact((c.truth[0],) * 2, (c.relaxed_f[0],) * 2)]
    settled_ = [c for c in drawn if _exact((c.truth[0],) * 2, (c.relaxed_g[0],) * 2)]
    said.append(
        f"On {len(drawn)} random networks 'relaxed' is inexact on {len(open_)} without copies; copies tighten "
        f"{len(helped)} lower bounds and leave {len(drawn) - len(settled_)} inexact."
    )
    if all(_exact(c.truth, c.graph_f) for c in both):
        said.append(
            "But the reading 'exact graph' is exact on every f as well, copies or not, since the last layer's hull "
            "alone consists of mixtures of values that f takes: under it theorem 3.3 would fail on its own network. So "
            "the two theorems need different readings, or one in which only copies of x entitle a layer to its exact "
            "graph."
        )
    said.append(
        "Open: which of these the paper's definition of P_1 says; its own text was not at hand. Computing the exact "
        "graph's hull needs all linear regions at once, which is what P_L needs."
    )
    return " ".join(said)
