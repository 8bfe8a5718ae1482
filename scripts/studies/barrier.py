"""Study 1, the barrier (Mao, Zhang, Vechev 2026, theorem 3.3): what no relaxation of single layers can see.

The theorem: for every T some network has P_1's lower bound at least T below its minimum. `library.barrier(k)` is one
whose minimum on [-1,1]^2 is 0 and whose P_1 bound is at most -k/2, because the hull of the first layer's image holds a
point that the first layer never takes. The study bounds it with every rung of the ladder while k grows by factors of
four, and fits the exponent e of error ~ k^e for each rung (on the last two values of k). Where it matters a rung is
shown twice, over tightened intervals and over CROWN's (`intervals`).

A second table says what the truth is, from the corners of the network's linear regions (`regions`), and takes apart
where the error comes from: lemma 3.2 bounds P_1 by the least value of f_2 on the convex hull of f_1(X), which is
computed as the hull of f_1's values at those corners and a mixed-integer program for f_2 on it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from partita.problems.network.graph import Graph, Input
from partita.problems.network.library import barrier
from partita.problems.properties.property import Polytope
from partita.relaxations.bound import bound

from .intervals import TIGHTENED, tightened
from .regions import corners
from .table import Study, Table, axes, settled

LOOSE = ", crown's"
SHOWN = (
    *("ibp", "crown", "alpha-crown", "triangle, crown's", "triangle", "k-relu, crown's", "k-relu", "m-1", "p-1"),
    *("p-2, crown's", "p-2", "p-3", "exact"),
)
RUNGS = {name: name.removesuffix(LOOSE) if name.endswith(LOOSE) else tightened(name) for name in SHOWN}
GROWTH = 4
BOX = (-np.ones(2), np.ones(2))
COMMAND = "partita study barrier"


def study(seed: int = 0, steps: int = 6) -> Study:
    """Errors of the lower bound for `steps` values of k; nothing is random."""
    sizes = [GROWTH**i for i in range(steps)]
    reports = {(k, name): bound(barrier(float(k)), BOX, RUNGS[name]) for k in sizes for name in RUNGS}
    errors = {key: -float(report.lower[0]) for key, report in reports.items()}  # the minimum is 0
    uppers = {key: float(report.upper[0]) for key, report in reports.items()}  # and so is the maximum
    truths = [_truth(float(k)) for k in sizes]
    rows = [[k, *(settled(errors[k, name], 1e-5) for name in RUNGS)] for k in sizes]
    slope = {name: _exponent(sizes, [errors[k, name] for k in sizes]) for name in RUNGS}
    rows.append(["exponent", *(None if slope[name] is None else round(slope[name], 3) for name in RUNGS)])
    tables = [
        Table(
            "Error of the lower bound: minimum 0 less what is proved",
            ["k", *RUNGS],
            rows,
            COMMAND,
            "The last row is e in error ~ k^e between the last two k; empty where the error is within tolerances of 0. "
            f"{TIGHTENED} Columns with \"crown's\" take CROWN's intervals instead.",
        ),
        Table(
            "The truth, and lemma 3.2: P_1's bound is at most the least value of f_2 on the hull of f_1(X)",
            ["k", "min f", "max f", "min of f_2 on conv f_1(X)", "lower bound, p-1", "upper bound, p-1"],
            [
                [k, *map(settled, truth), settled(-errors[k, "p-1"], 1e-5), settled(uppers[k, "p-1"])]
                for k, truth in zip(sizes, truths, strict=True)
            ],
            COMMAND,
            "min f and max f are those at the corners of all linear regions: the function is 0 on the box. Intervals "
            "tightened layer by layer.",
        ),
    ]
    figures = {"barrier.svg": _figure(sizes, errors)}
    return Study(
        "barrier", "Theorem 3.3: the barrier", QUESTION, tables, _findings(sizes, errors, slope, truths), figures
    )


QUESTION = (
    "Theorem 3.3 says that relaxations of single layers, even the hull of a whole layer (P_1), have no bounded error: "
    "for every T some network has a P_1 bound T below its minimum. On the network constructed for it "
    "(`library.barrier`, three layers, four neurons, minimum 0 on [-1,1]^2), how does each relaxation's error grow "
    "with the weight k of the last layer, and which relaxations see that the minimum is 0?"
)


def _truth(k: float) -> tuple[float, float, float]:
    """The least and greatest value, and the least of f_2 on the hull of f_1's image."""
    from scipy.spatial import ConvexHull

    graph = barrier(k)
    values = graph.values(torch.as_tensor(corners(graph, *BOX)))
    image = values[2].numpy()
    equations = ConvexHull(image).equations
    hull = Polytope(image.min(0), image.max(0), equations[:, :2], -equations[:, 2])
    second = Graph(
        (Input(2), *(replace(node, inputs=tuple(i - 2 for i in node.inputs)) for node in graph.nodes[3:])), (2,), (1,)
    )
    return float(values[-1].min()), float(values[-1].max()), float(bound(second, hull, "exact").lower[0])


def _exponent(sizes: list[int], errors: list[float]) -> float | None:
    """Of error ~ k^e, from the two largest k; None where there is no error beyond a solver's tolerances."""
    if len(sizes) < 2 or errors[-1] < 1e-5 * sizes[-1]:
        return None
    return math.log(errors[-1] / errors[-2]) / math.log(sizes[-1] / sizes[-2])


def _findings(
    sizes: list[int],
    errors: dict[tuple[int, str], float],
    slope: dict[str, float | None],
    truths: list[tuple[float, float, float]],
) -> str:
    least = min(errors[k, "p-1"] / k for k in sizes)
    grows = slope["p-1"] is not None and slope["p-1"] > 0.99
    exact = [name for name in RUNGS if all(errors[k, name] < 1e-5 * max(1, k) for k in sizes)]
    unbounded = [name for name in RUNGS if slope[name] is not None and slope[name] > 0.99]
    said, refuted = [], []
    if grows and least >= 0.5 - 1e-6:
        said.append(
            f"Confirmed: P_1's error is at least k/2 for every k (it is {least:.4g} k or more), the minimum being 0, "
            "so that k = 2T gives an error of T."
        )
    else:
        refuted.append(f"that P_1's error is at least k/2: it is only {least:.4g} k, exponent {slope['p-1']}")
    same = all(abs(errors[k, "m-1"] - errors[k, "p-1"]) <= 1e-6 * max(1, k) for k in sizes)
    if same:
        said.append("M_1, which joins one neuron at a time with its layer's inputs, is as good as P_1 here.")
    said.append(f"The error of {'; '.join(unbounded)} grows in proportion to k; exact at every k: {'; '.join(exact)}.")
    said.append(_about_intervals({name: errors[sizes[-1], name] / sizes[-1] for name in RUNGS}))
    below = [-errors[k, "p-1"] - hull for k, (_, _, hull) in zip(sizes, truths, strict=True)]
    if max(d / k for d, k in zip(below, sizes, strict=True)) <= 1e-4:
        equal = min(d / k for d, k in zip(below, sizes, strict=True)) >= -1e-4
        said.append(f"Lemma 3.2 holds for every k{', with equality' if equal else ''}: the hull of f_1(X) is the loss.")
    else:
        refuted.append("lemma 3.2, P_1 being above the least value of f_2 on the hull of f_1(X)")
    if max(abs(v) for low, high, _ in truths for v in (low, high)) > 1e-9:
        refuted.append(f"that the network is 0 on the box: it reaches {truths[-1][:2]}")
    said.append(f"Refuted: {'; '.join(refuted) or 'nothing'}.")
    said.append(
        "Open: the theorem speaks of the worst network; how often networks that were trained lose this way is no "
        "question for this construction."
    )
    return " ".join(said)


def _about_intervals(loss: dict[str, float]) -> str:
    """What tightened intervals are worth; `loss` is the error divided by k."""
    text = "Intervals matter: "
    pairs = [
        f"{name} loses {loss[name]:.3g} k over tightened intervals and {loss[name + LOOSE]:.3g} k over CROWN's"
        for name in ("triangle", "k-relu")
    ]
    text += ", ".join(pairs) + "."
    if abs(loss["k-relu"] - loss["p-1"]) < 1e-4:
        text += " So k-ReLU over tightened intervals is as good as P_1 here."
    if loss["p-2" + LOOSE] > 1e-4:
        text += f" P_2 over CROWN's intervals loses {loss['p-2' + LOOSE] / loss['p-1']:.3g} of what P_1 loses"
        text += (
            ", and nothing over tightened ones: the first two layers' window bounds the third's pre-activation by 0."
            if abs(loss["p-2"]) < 1e-4
            else f", over tightened ones {loss['p-2'] / loss['p-1']:.3g}."
        )
    return text


def _figure(sizes: list[int], errors: dict[tuple[int, str], float]):  # type: ignore[no-untyped-def]
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    ax = axes(figure)
    chosen = (("ibp", ":"), ("triangle, crown's", "--"), ("triangle", "--"), ("p-1", "-"), ("p-2, crown's", "-."))
    for name, style in (*chosen, ("p-3", "-")):
        ax.plot(sizes, [max(errors[k, name], 0) for k in sizes], style, marker="o", ms=3, label=name)
    ax.set_xscale("log", base=GROWTH)
    ax.set_yscale("symlog", linthresh=0.25)
    ax.set(xlabel="k", ylabel="error of the lower bound", ylim=(-0.05, None))
    ax.legend(frameon=False, loc="upper left")
    return figure
