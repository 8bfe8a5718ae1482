"""Study 2, identity layers (Mao, Zhang, Vechev 2026, lemma 4.1, theorem 4.2): blocks of layers and what is between.

The theorem: for every alpha < 1, P_r with r = max(1, floor(alpha L)) has unbounded error on some network of L layers.
The construction: put D identity layers between the two halves of the barrier network. A block of r layers that does
not reach from the first half into the second knows no more than P_1; r <= D is enough for that, and
D >= alpha (L_1 + L_2) / (1 - alpha) makes r = floor(alpha L) <= D. What the theorem leaves open is what happens for
D < r < L. The study bounds the padded barrier for every r, and twice in k, so that "unbounded" is a slope, not a
number: an error that doubles with k has no bound.
"""

from __future__ import annotations

import math

import numpy as np

from partita.problems.library import barrier, identity_padding
from partita.relaxations.api import bound

from .table import Study, Table, axes, settled

BOX = (-np.ones(2), np.ones(2))
HALVES = 3  # layers of the barrier network: one and two
COMMAND = "partita study padding"
COLUMNS = (
    *("D", "L", "P_1's error up to r", "as r/L", "error there, k = 1", "k = 2"),
    *("error at r = L - 1, k = 1", "k = 2 ", "exact from r"),
)
QUESTION = (
    "Theorem 4.2 says that no fixed share alpha < 1 of a network's depth is enough: relaxing floor(alpha L) "
    "consecutive layers at a time (P_r) still has unbounded error, because identity layers between two halves of a "
    "network keep a block from seeing both. For the barrier network with D identity layers, L = D + 3: how does the "
    "error of P_r depend on r/L, and where does it become exact?"
)


def study(seed: int = 0, paddings: tuple[int, ...] = (0, 1, 2, 4, 8, 12)) -> Study:
    """Errors for every r = 1 .. L; nothing is random."""
    errors: dict[tuple[int, int], float] = {}
    doubled: dict[tuple[int, int], float] = {}
    for d in paddings:
        for r in range(1, d + HALVES + 1):
            errors[d, r], doubled[d, r] = (
                -float(bound(identity_padding(barrier(k), d), BOX, f"p-{r}").lower[0]) for k in (1.0, 2.0)
            )
    rows = [_row(d, errors, doubled) for d in paddings]
    shares = (0.25, 0.5, 0.75, 0.9)
    tables = [
        Table(
            "Error of the lower bound of P_r on the padded barrier, minimum 0, for every r = 1 .. L",
            COLUMNS,
            rows,
            COMMAND,
            "Every r was bounded (the figure shows them all); errors that double with k have no bound.",
        ),
        Table(
            "Padding that makes a share alpha of the depth useless",
            ["alpha", "D by the formula", "L", "r = floor(alpha L)", "error of P_r, k = 1", "as bad as P_1"],
            [_enough(alpha) for alpha in shares],
            COMMAND,
            "D = ceil(alpha (L_1 + L_2) / (1 - alpha)), L_1 + L_2 = 3.",
        ),
    ]
    figures = {"padding.svg": _figure(paddings, errors)}
    return Study(
        "padding",
        "Theorem 4.2: identity layers",
        QUESTION,
        tables,
        _findings(paddings, errors, doubled, tables[1]),
        figures,
    )


def _row(d: int, errors: dict[tuple[int, int], float], doubled: dict[tuple[int, int], float]) -> list:
    layers = d + HALVES
    worst = _worst(d, errors)
    exact = [r for r in range(1, layers + 1) if doubled[d, r] < 1e-6]
    at = [settled(table[d, r]) for r in (worst, layers - 1) for table in (errors, doubled)]
    return [d, layers, worst, round(worst / layers, 3), *at, min(exact, default=None)]


def _worst(d: int, errors: dict[tuple[int, int], float]) -> int:
    """The largest r at which P_r is no better than P_1."""
    return max(r for r in range(1, d + HALVES + 1) if errors[d, r] > errors[d, 1] - 1e-6)


def _enough(alpha: float) -> list:
    d = math.ceil(alpha * HALVES / (1 - alpha) - 1e-9)
    layers = d + HALVES
    r = max(1, math.floor(alpha * layers + 1e-9))
    graph = identity_padding(barrier(1.0), d)
    error, alone = (-float(bound(graph, BOX, f"p-{n}").lower[0]) for n in (r, 1))
    return [alpha, d, layers, r, settled(error), abs(error - alone) < 1e-6]


def _findings(
    paddings: tuple[int, ...],
    errors: dict[tuple[int, int], float],
    doubled: dict[tuple[int, int], float],
    enough: Table,
) -> str:
    exact = {d: [r for r in range(1, d + HALVES + 1) if doubled[d, r] < 1e-6] for d in paddings}
    only_last = all(exact[d] == [d + HALVES] for d in paddings)
    worst = {d: _worst(d, errors) for d in paddings}
    said, refuted = [], []
    if all(enough.column("as bad as P_1")):
        shares = ", ".join(f"{a:g}" for a in enough.column("alpha"))
        said.append(
            f"Confirmed: with the padding of the formula P_floor(alpha L) is no better than P_1 (alpha {shares})."
        )
    else:
        refuted.append("that the padding of the formula brings P_floor(alpha L) down to P_1 everywhere")
    if only_last:
        said.append("P_r is exact at r = L and at no smaller r, for every D tried.")
    else:
        early = ", ".join(
            f"r = {exact[d][0]} of L = {d + HALVES}" for d in paddings if exact[d] and exact[d][0] < d + 3
        )
        refuted.append(f"that P_r is exact only at r = L: {early}")
    gap = sorted({d + HALVES - worst[d] for d in paddings})
    beyond = [(d, r) for d in paddings for r in range(worst[d] + 1, d + HALVES)]
    if beyond and len(gap) == 1:
        share = sorted({round(errors[d, r] / errors[d, 1], 3) for d, r in beyond})
        still = all(abs(doubled[d, r] / errors[d, r] - 2) < 1e-3 for d, r in beyond)
        said.append(
            f"The jump is not quite one: up to r = L - {gap[0]} the error is P_1's, from there to r = L - 1 it is "
            f"{', '.join(f'{s:g}' for s in share)} of it{' and still grows in proportion to k' if still else ''}, for "
            "a block of L - 1 layers sees the first half and the first layer of the second at once."
        )
    ratio = max(worst[d] / (d + HALVES) for d in paddings)
    said.append(f"The largest share r/L with P_1's error in the table is {ratio:.3g}; it goes to 1 as D grows.")
    said.append(f"Refuted: {'; '.join(refuted) or 'nothing'}.")
    said.append(
        "Open: whether a network exists on which r = L - 1 is as bad as r = 1; this one gives a factor less, which an "
        "unbounded error does not care about."
    )
    return " ".join(said)


def _figure(paddings: tuple[int, ...], errors: dict[tuple[int, int], float]):  # type: ignore[no-untyped-def]
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    ax = axes(figure)
    for d in paddings:
        layers = d + HALVES
        shares = [r / layers for r in range(1, layers + 1)]
        ax.plot(
            shares,
            [max(errors[d, r], 0) for r in range(1, layers + 1)],
            marker="o",
            ms=3,
            drawstyle="steps-post",
            label=f"D = {d}",
        )
    ax.set(xlabel="r / L", ylabel="error of P_r, k = 1", ylim=(-0.02, None))
    ax.legend(frameon=False, loc="lower left")
    return figure
