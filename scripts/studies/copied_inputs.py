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
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from partita.problems.graph import Graph
from partita.problems.library import barrier, copied_inputs, random_network
from partita.relaxations.api import bound

from .regions import corners
from .table import Study, Table, settled

Array = np.ndarray
COMMAND = "partita study copied_inputs"
CLOSE = 1e-5  # relative; the linear programs' tolerances grow with k
QUESTION = (
    "Theorem 5.1 says that every network f has a twin g, equal to f on X, whose P_1 bounds are exact: g carries the "
    "inputs through every layer. Theorem 3.3 says that on the barrier network P_1 is not. Read P_1 layer by layer over "
    "the relaxed set before (relaxed), or as the hull of each layer's exact graph over X (exact graph): under which "
    "reading is g exact, and is f then still inexact?"
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


def study(seed: int = 0, sizes: tuple[float, ...] = (1, 10, 100, 1000), networks: int = 20) -> Study:
    barriers = [case(f"barrier, k = {k:g}", barrier(float(k))) for k in sizes]
    drawn = [
        case(f"{'-'.join(map(str, w))}, seed {seed + s}", random_network(w, seed + s))
        for s in range(networks)
        for w in [(2, 5, 5, 1) if s % 2 else (2, 4, 4, 4, 1)]
    ]
    tables = [
        Table(
            "Lower and upper bounds on the barrier network, without copies (f) and with them (g)",
            COLUMNS,
            [_row(c) for c in barriers],
            COMMAND,
            "f is 0 on X. 'P_L of f' is one hull over all layers, by linear programs alone.",
        ),
        Table(
            f"Error of the lower bound on {networks} random networks of two inputs",
            ["network", "true minimum", "relaxed, f", "relaxed, g", "exact graph, f", "exact graph, g", "P_L of f"],
            [[c.name, *map(settled, (c.truth[0], *(c.truth[0] - b[0] for b in c[2:])))] for c in drawn],
            COMMAND,
        ),
    ]
    return Study("copied_inputs", "Theorem 5.1: copied inputs", QUESTION, tables, _findings(barriers, drawn))


COLUMNS = (
    *("network", "relaxed, f: lower", "upper", "relaxed, g: lower", "upper "),
    *("exact graph, f: lower", "upper  ", "exact graph, g: lower", "upper   ", "P_L of f: lower"),
)


def case(name: str, f: Graph) -> Case:
    """All bounds of a network of two inputs and one output on [-1,1]^2."""
    lower, upper = -np.ones(2), np.ones(2)
    g = copied_inputs(f, lower)
    values = f(torch.as_tensor(corners(f, lower, upper))).numpy()
    layers = len(f.activations)
    return Case(
        name,
        (float(values.min()), float(values.max())),
        *(ends(bound(network, (lower, upper), "p-1")) for network in (f, g)),
        *(exact_graph(network, lower, upper) for network in (f, g)),
        ends(bound(f, (lower, upper), f"p-{layers}")),
    )


def ends(report) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    return float(report.lower[0]), float(report.upper[0])


def exact_graph(graph: Graph, lower: Array, upper: Array) -> tuple[float, float]:
    """The output's least and greatest value where each layer's (reads, values) lie in the hull of its exact graph.

    The hull of layer i has one weight for each corner of the linear regions; nodes that two layers share are equal.
    """
    from scipy.optimize import linprog
    from scipy.sparse import block_diag, csr_array, hstack, vstack

    values = [v.numpy() for v in graph.values(torch.as_tensor(corners(graph, lower, upper)))]
    layers = [(graph.nodes[i].inputs[0], i) for i in graph.activations] + [(graph.output, graph.output)]
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


def _findings(barriers: list[Case], drawn: list[Case]) -> str:
    both = [*barriers, *drawn]
    said = []
    if all(_exact(c.truth, c.graph_g) for c in both):
        said.append(
            f"Confirmed under the reading 'exact graph': g is exact, from both sides, on all {len(both)} networks."
        )
    else:
        said.append("Not confirmed under the reading 'exact graph': g is inexact on some network.")
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
