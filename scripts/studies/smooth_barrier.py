"""Study 3, the barrier with smooth activations (Mao, Zhang, Vechev 2026, after theorem 3.3).

The barrier f_2(f_1(x)) extends to tanh, sigmoid and every other non-polynomial activation by universal approximation:
a network F_2(F_1(x)) that comes close to it has a minimum close to 0, and layer by layer nothing sees that. Here F_1
and F_2 are fitted one by one (`smooth_fit`), so that the layered structure stays.

What can be said rigorously. Hulls P_1 of layers of smooth activations have no exact implementation; but lemma 3.2
bounds P_1, and so every relaxation that joins no two layers, from above: with h(x) the values of the first hidden layer
and R the rest of the network, l(f, P_1, X) <= min R(conv h(X)), and any two inputs a and b give the point
m = (h(a) + h(b)) / 2 of that hull. R(m) is enclosed by interval arithmetic over a box around the computed m that holds
the real one. From below, f's minimum is proved by branch and bound. The difference of the two is what every layerwise
convex relaxation loses at least, whatever it does and however the network was fitted.

What it does not say: how much more than that P_1 loses, and anything about relaxations across layers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from partita.bab.api import verify
from partita.problems.network.graph import Graph, Input
from partita.problems.network.library import barrier
from partita.problems.property import box_property
from partita.relaxations.bound import bound

from . import smooth_fit
from .smooth_fit import Fit, boxes, fit, grid, minus
from .table import Study, Table, axes

COMMAND = "partita study smooth_barrier"
RUNGS = ("ibp", "deeppoly-0", "deeppoly-1", "crown", "alpha-crown")
BOX = (-np.ones(2), np.ones(2))
VALUES = (-0.1, 2.1)  # what F_2 is fitted on, squared: the hull of f_1's image lies in [0, 2]^2
SLACK = 0.01  # how far below the least sampled value the minimum is proved to lie, times k
QUESTION = (
    "The barrier of theorem 3.3 is a ReLU network; the source extends it to every non-polynomial activation by "
    "universal approximation. For tanh and sigmoid networks fitted to its two halves one by one, how near 0 does the "
    "true minimum stay, what must every relaxation lose that takes one layer at a time, and what do those lose that "
    "exist for smooth activations, as the last layer's weight k grows? Do splits of the input help?"
)


@dataclass(frozen=True, eq=False)
class Pair:
    """F_1 and F_2 with as many neurons each."""

    hidden: int
    first: Fit
    second: Fit

    def network(self, k: float, sigmoid: bool = False) -> Graph:
        """k F_2(F_1(x))."""
        return smooth_fit.network(self.first, self.second, k, sigmoid)


def study(
    seed: int = 0, widths: tuple[int, ...] = (4, 8, 16), steps: int = 5, side: int = 96, fitting: int = 150
) -> Study:
    """`widths`: neurons of each hidden layer; the middle one is bounded for `steps` values of k. `side`: boxes a side
    of the grids that fit errors are proved on. `fitting`: steps of each fit."""
    pairs = [fitted(width, seed, fitting) for width in widths]
    chosen = pairs[len(pairs) // 2]
    fits, ceilings = _fits(pairs, side), _ceilings(pairs, seed)
    growth = _growth(chosen, [4**i for i in range(steps)], seed)
    splits = _splits(chosen)
    figures = {"smooth_barrier.svg": _figure(growth, splits)}
    tables = [fits, ceilings, growth, splits]
    title = "The barrier with tanh and sigmoid"
    return Study("smooth_barrier", title, QUESTION, tables, _findings(tables, chosen), figures)


def fitted(hidden: int, seed: int = 0, steps: int = 150) -> Pair:
    """F_1 fitted to f_1 on [-1,1]^2 and F_2 to f_2 (for k = 1) on the square that holds the hull of f_1's image."""
    f_1, f_2 = halves()
    first = fit(f_1, grid(-1, 1, 41), hidden, seed, steps=steps)
    second = fit(f_2, grid(*VALUES, 41), hidden, seed + 1, steps=steps)
    return Pair(hidden, first, second)


def halves() -> tuple[Graph, Graph]:
    """f_1 and, for k = 1, f_2."""
    whole = barrier(1.0)
    cut = whole.layers[0].position
    return Graph(whole.nodes[: cut + 1], whole.input_shape, (2,)), rest(whole, cut)


def rest(graph: Graph, cut: int) -> Graph:
    """What stands behind node `cut`, as a network of that node's values, which all of it must read. Exact."""
    nodes = [Input(graph.nodes[cut].size, graph.nodes[cut].name)]
    nodes += [replace(node, inputs=tuple(i - cut for i in node.inputs)) for node in graph.nodes[cut + 1 :]]
    return Graph(tuple(nodes), (nodes[0].size,), graph.output_shape)


def _fits(pairs: list[Pair], side: int) -> Table:
    """How far the fits are from what they are fitted to: on a fine grid, and proved."""
    f_1, f_2 = halves()
    rows = []
    for pair in pairs:
        row: list[float] = [pair.hidden]
        targets = (
            (smooth_fit.one_layer(pair.first), f_1, (-1.0, 1.0)),
            (smooth_fit.one_layer(pair.second), f_2, VALUES),
            (pair.network(1.0), barrier(1.0), (-1.0, 1.0)),
        )
        for smooth, target, (low, high) in targets:
            apart = minus(smooth, target)
            report = bound(apart, boxes(low, high, side), "crown")
            row += [apart(grid(low, high, 301)).abs().max().item(), max(-report.lower.min(), report.upper.max())]
        rows.append(row)
    names = ("F_1 - f_1", "F_2 - f_2", "F_2 F_1 - f_2 f_1")
    columns = ["neurons a layer", *(f"|{name}|, {how}" for name in names for how in ("sampled", "proved"))]
    note = (
        f"Largest error for k = 1: on a grid of 301^2 points, and by CROWN on {side}^2 boxes, which holds everywhere "
        "(outward rounded). F_1 and the composition on [-1,1]^2, F_2 on [-0.1, 2.1]^2."
    )
    return Table("How well the smooth networks fit", columns, rows, COMMAND, note)


def spurious(graph: Graph, seed: int = 0, points: int = 256) -> tuple[float, Tensor, Tensor]:
    """An upper bound of l(f, P_1, X), and the two inputs whose first hidden layer's midpoint shows it.

    Pairs of points on the boundary of [-1,1]^2 are searched; the best one's midpoint is computed again with an
    enclosure: h at both by intervals, the midpoint between, R over that box by intervals. Outward rounded.
    """
    cut = graph.layers[0].position
    behind = rest(graph, cut)
    t = torch.linspace(-1, 1, points // 4 + 1, dtype=torch.float64)[:-1]
    one = torch.ones_like(t)
    edge = torch.cat([torch.stack(p, 1) for p in ((t, -one), (one, t), (-t, one), (-one, -t))])
    h = graph.values(edge)[cut]
    a, b = torch.triu_indices(len(edge), len(edge), 1)
    best = int(behind((h[a] + h[b]) / 2)[:, 0].argmin())
    low, high = _hidden(graph, edge[a[best]], cut), _hidden(graph, edge[b[best]], cut)
    lower, upper = (low[0] + high[0]) / 2 - 1e-15, (low[1] + high[1]) / 2 + 1e-15
    return float(bound(behind, (lower, upper), "ibp").upper[0]), edge[a[best]], edge[b[best]]


def _hidden(graph: Graph, x: Tensor, cut: int) -> tuple[np.ndarray, np.ndarray]:
    """An enclosure of node `cut` at the point x, by intervals."""
    layer = bound(graph, (x.numpy(), x.numpy()), "ibp").layers[0]
    low, high = graph.nodes[cut].function.interval(torch.from_numpy(layer.lower), torch.from_numpy(layer.upper))
    return low.numpy(), high.numpy()


def _ceilings(pairs: list[Pair], seed: int) -> Table:
    """What lemma 3.2 leaves to layerwise relaxations, for k = 1."""
    rows = []
    for pair in pairs:
        for sigmoid in (False, True):
            graph = pair.network(1.0, sigmoid)
            sampled = _sampled(graph)
            proved, pieces = _proved_minimum(graph, sampled, 1.0)
            most, a, b = spurious(graph, seed)
            ends = " and ".join(f"({x[0]:.2g}, {x[1]:.2g})" for x in (a, b))
            name = "sigmoid" if sigmoid else "tanh"
            rows.append([pair.hidden, name, sampled, proved, pieces, most, proved - most, ends])
    columns = ["neurons a layer", "function", "least sampled", "minimum, proved", "pieces", "P_1 at most"]
    note = (
        "For k = 1. `minimum, proved`: a lower bound by branch and bound. `P_1 at most`: an upper bound of the lower "
        "bound of every relaxation that joins no two layers (lemma 3.2), at the midpoint of the hidden values of the "
        "two inputs in the last column. Their difference is what such a relaxation loses at least; 1/2 for ReLU."
    )
    title = "What every layerwise convex relaxation loses at least"
    return Table(title, [*columns, "error at least", "midpoint of"], rows, COMMAND, note)


def _sampled(graph: Graph) -> float:
    """The least value on a fine grid."""
    return graph(grid(-1, 1, 401)).min().item()


def _proved_minimum(graph: Graph, sampled: float, k: float) -> tuple[float | None, int]:
    """A proved lower bound of the minimum, `SLACK` k below the sample, and the pieces that it took."""
    least = sampled - SLACK * k  # a piece is closed when f > least is proved on it
    problem = box_property(*BOX, np.ones((1, 1)), np.array([-least]))
    outcome = verify(graph, problem, timeout=30, attack="off")
    return (least if outcome.verdict == "unsat" else None), outcome.pieces


def _growth(pair: Pair, sizes: list[int], seed: int) -> Table:
    """The bounds as k grows."""
    rows = []
    for k in sizes:
        for sigmoid in (False, True):
            graph = pair.network(float(k), sigmoid)
            sampled = _sampled(graph)
            proved, _ = _proved_minimum(graph, sampled, k)
            most = spurious(graph, seed)[0]
            lowest = [float(bound(graph, BOX, name).lower[0]) for name in RUNGS]
            rows.append([k, "sigmoid" if sigmoid else "tanh", sampled, proved, most, *lowest])
    note = (
        f"{pair.hidden} neurons a layer. k multiplies the last layer's weights, so that everything is in proportion to "
        "it, the fit's own error included. tanh and sigmoid networks are the same function (tanh(z) = 2 sigmoid(2z) - "
        "1); their bounds differ where the intervals that the lines are drawn over are rounded or chosen differently. "
        "Each relaxation finds its own intervals."
    )
    columns = ["k", "function", "least sampled", "minimum, proved", "P_1 at most", *RUNGS]
    return Table("Lower bounds of the fitted barrier", columns, rows, COMMAND, note)


def _splits(pair: Pair) -> Table:
    """Bounds over a grid of boxes, k = 1."""
    graph, rows = pair.network(1.0), []
    for side in (1, 2, 4, 8, 16, 32, 64):
        pieces = boxes(-1, 1, side)
        rows.append([len(pieces), *(float(bound(graph, pieces, name).lower[0]) for name in ("ibp", "crown"))])
    columns = ["boxes", "ibp", "crown"]
    note = f"Lower bounds of the tanh network with {pair.hidden} neurons a layer, k = 1, the worst of all boxes; "
    note += "own intervals on each."
    return Table("Splits of the input", columns, rows, COMMAND, note)


def _findings(tables: list[Table], pair: Pair) -> str:
    fits, ceilings, growth, splits = tables
    said = []
    errors = ceilings.column("error at least")
    if all(e is not None and e > 0.25 for e in errors):
        said.append(
            f"Confirmed: every convex relaxation that takes one layer at a time loses at least {min(errors):.3g} k on "
            f"these networks ({errors[-1]:.3g} k with {fits.rows[-1][0]} neurons a layer; 0.5 k for ReLU), proved from "
            "both sides, so that no bound on the loss holds for all k."
        )
    else:
        said.append("Not confirmed: on some fitted network the minimum was not proved to lie above what P_1 may reach.")
    composed = fits.rows[-1][5]
    said.append(
        f"The true minimum is between {min(ceilings.column('minimum, proved')):.3g} k and "
        f"{max(ceilings.column('least sampled')):.3g} k instead of 0: the fits are that good, and better with more "
        f"neurons (largest error of the composition {fits.rows[0][5]:.3g} k with {fits.rows[0][0]}, {composed:.3g} k "
        f"with {fits.rows[-1][0]})."
        if None not in ceilings.column("minimum, proved")
        else "Some minimum was not proved in time."
    )
    last = growth.rows[-2]
    if last[3] is not None:
        times: dict[str, list[str]] = {}
        for name, value in zip(RUNGS, last[5:], strict=True):
            times.setdefault(f"{(last[3] - value) / (last[3] - last[4]):.3g}", []).append(name)
        said.append(
            "The relaxations that exist lose more than that: "
            + "; ".join(f"{', '.join(names)} {factor} times as much" for factor, names in times.items())
            + ", in proportion to k as well."
        )
    for name in ("ibp", "crown"):
        near = [row[0] for row in splits.rows if row[list(splits.columns).index(name)] > ceilings.rows[0][5]]
        if near:
            said.append(f"Split into {near[0]:,} boxes, {name} is above what P_1 reaches in one piece.")
    said.append(
        "What this shows: the barrier is no matter of kinks. What it does not: P_1 itself for smooth activations, of "
        "which there is no exact implementation (only the side that lemma 3.2 bounds is known here), and other "
        "non-polynomial activations, for which universal approximation says the same."
    )
    return " ".join(said)


def _figure(growth: Table, splits: Table):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    left, right = axes(figure, 2)
    rows = [row for row in growth.rows if row[1] == "tanh"]
    k = [row[0] for row in rows]
    for name in ("P_1 at most", *RUNGS):
        at = list(growth.columns).index(name)
        left.loglog(k, [-row[at] for row in rows], "o-" if name == "P_1 at most" else "-", label=name, lw=1.2, ms=3)
    left.loglog(k, [-row[3] for row in rows], "k:", label="minimum, proved", lw=1.2)
    left.set(xlabel="k", ylabel="minus the lower bound")
    left.legend(frameon=False, fontsize=7, loc="upper left")
    for name in ("ibp", "crown"):
        right.loglog(
            splits.column("boxes"), [max(-v, 1e-3) for v in splits.column(name)], "o-", label=name, lw=1.2, ms=3
        )
    right.set(xlabel="boxes", ylabel="minus the lower bound, k = 1")
    right.legend(frameon=False, fontsize=8)
    return figure
