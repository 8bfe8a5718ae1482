"""Study 2, identity layers (Mao, Zhang, Vechev 2026, lemma 4.1, theorem 4.2): blocks of layers and what is between.

The theorem: for every alpha < 1, P_r with r = max(1, floor(alpha L)) has unbounded error on some network of L layers.
The construction: put D identity layers between the two halves of the barrier network. A block of r layers that does
not reach from the first half into the second knows no more than P_1; r <= D is enough for that, and
D >= alpha (L_1 + L_2) / (1 - alpha) makes r = floor(alpha L) <= D. What the theorem leaves open is what happens for
D < r < L. The study bounds the padded barrier for every r, and twice in k, so that "unbounded" is a slope, not a
number: an error that doubles with k has no bound. Both are done over tightened intervals and over CROWN's
(`intervals`): tightening hands on what a block knows of the next block's first pre-activations, and is worth one layer.
"""

from __future__ import annotations

import math

import numpy as np

from partita.problems.network.library import barrier, identity_padding
from partita.relaxations.bound import bound

from .intervals import tightened
from .table import Study, Table, axes, settled

BOX = (-np.ones(2), np.ones(2))
HALVES = 3  # layers of the barrier network: one and two
COMMAND = "partita study padding"
COLUMNS = (
    *("intervals", "D", "L", "P_1's error up to r", "as r/L", "error there, k = 1", "k = 2"),
    *("error at r = L - 1, k = 1", "k = 2 ", "exact from r"),
)
NAMES = {"tightened": tightened, "crown's": str}
QUESTION = (
    "Theorem 4.2 says that no fixed share alpha < 1 of a network's depth is enough: relaxing floor(alpha L) "
    "consecutive layers at a time (P_r) still has unbounded error, because identity layers between two halves of a "
    "network keep a block from seeing both. For the barrier network with D identity layers, L = D + 3: how does the "
    "error of P_r depend on r/L, and where does it become exact?"
)


def study(seed: int = 0, paddings: tuple[int, ...] = (0, 1, 2, 4, 8, 12)) -> Study:
    """Errors for every r = 1 .. L; nothing is random."""
    errors = {
        (how, d, r, k): -float(bound(identity_padding(barrier(k), d), BOX, name(f"p-{r}")).lower[0])
        for how, name in NAMES.items()
        for d in paddings
        for r in range(1, d + HALVES + 1)
        for k in (1.0, 2.0)
    }
    rows = [_row(how, d, errors) for how in NAMES for d in paddings]
    shares = (0.25, 0.5, 0.75, 0.9)
    tables = [
        Table(
            "Error of the lower bound of P_r on the padded barrier, minimum 0, for every r = 1 .. L",
            COLUMNS,
            rows,
            COMMAND,
            "Every r was bounded (the figure shows them all); errors that double with k have no bound. Intervals of "
            "pre-activations are tightened layer by layer by the same P_r, or CROWN's.",
        ),
        Table(
            "Padding that makes a share alpha of the depth useless",
            ["alpha", "D by the formula", "L", "r = floor(alpha L)", "error of P_r, k = 1", "as bad as P_1"],
            [_enough(alpha) for alpha in shares],
            COMMAND,
            "D = ceil(alpha (L_1 + L_2) / (1 - alpha)), L_1 + L_2 = 3. Intervals tightened layer by layer.",
        ),
    ]
    figures = {"padding.svg": _figure(paddings, errors)}
    return Study(
        "padding",
        "Theorem 4.2: identity layers",
        QUESTION,
        tables,
        _findings(paddings, errors, tables[1]),
        figures,
    )


Errors = dict[tuple[str, int, int, float], float]  # by intervals, D, r and k


def _row(how: str, d: int, errors: Errors) -> list:
    layers, worst = d + HALVES, _worst(how, d, errors)
    at = [settled(errors[how, d, r, k]) for r in (worst, layers - 1) for k in (1.0, 2.0)]
    return [how, d, layers, worst, round(worst / layers, 3), *at, _exact_from(how, d, errors)]


def _worst(how: str, d: int, errors: Errors) -> int:
    """The largest r at which P_r is no better than P_1."""
    return max(r for r in range(1, d + HALVES + 1) if errors[how, d, r, 1.0] > errors[how, d, 1, 1.0] - 1e-6)


def _exact_from(how: str, d: int, errors: Errors) -> int | None:
    """The least r from which on P_r is exact."""
    exact = [r for r in range(1, d + HALVES + 1) if errors[how, d, r, 2.0] < 1e-6]
    return exact[0] if exact == list(range(d + HALVES + 1 - len(exact), d + HALVES + 1)) and exact else None


def _enough(alpha: float) -> list:
    d = math.ceil(alpha * HALVES / (1 - alpha) - 1e-9)
    layers = d + HALVES
    r = max(1, math.floor(alpha * layers + 1e-9))
    graph = identity_padding(barrier(1.0), d)
    error, alone = (-float(bound(graph, BOX, tightened(f"p-{n}")).lower[0]) for n in (r, 1))
    return [alpha, d, layers, r, settled(error), abs(error - alone) < 1e-6]


def _findings(paddings: tuple[int, ...], errors: Errors, enough: Table) -> str:
    said, refuted = [], []
    if all(enough.column("as bad as P_1")):
        shares = ", ".join(f"{a:g}" for a in enough.column("alpha"))
        said.append(
            f"Confirmed: with the padding of the formula P_floor(alpha L) is no better than P_1 (alpha {shares})."
        )
    else:
        refuted.append("that the padding of the formula makes P_r as bad as P_1")
    for how, last in (("crown's", 0), ("tightened", 1)):
        r = "L" if last == 0 else f"L - {last}"
        if all(_exact_from(how, d, errors) == d + HALVES - last for d in paddings):
            words = "CROWN's" if how == "crown's" else how
            said.append(f"Over {words} intervals P_r is exact from r = {r} on and at no smaller r, for every D tried.")
    wide = [d for d in paddings if d]
    if all(_worst(how, d, errors) == d + HALVES - 2 for how in NAMES for d in wide):
        worst = max((d + HALVES - 2) / (d + HALVES) for d in paddings)
        said.append(
            f"Over both, P_r is no better than P_1 up to r = L - 2. The largest share r/L of these is {worst:.3g}; it "
            "goes to 1 as D grows."
        )
    d = paddings[-1]
    between = errors["crown's", d, d + HALVES - 1, 1.0] / errors["crown's", d, 1, 1.0]
    if between > 1e-6:
        said.append(
            f"In between, at r = L - 1 over CROWN's intervals, the error is {between:.3g} of P_1's and still grows in "
            "proportion to k: a block of L - 1 layers sees the first half and the first layer of the second at once."
        )
    said.append(f"Refuted: {'; '.join(refuted) or 'nothing'}.")
    said.append(
        "Open: whether a network exists on which r = L - 1 is as bad as r = 1; on this one it is better, which an "
        "unbounded error of all smaller shares does not care about."
    )
    return " ".join(said)


def _figure(paddings: tuple[int, ...], errors: Errors):  # type: ignore[no-untyped-def]
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for ax, how in zip(axes(figure, 2), NAMES, strict=True):
        for d in paddings:
            layers = d + HALVES
            shares = [r / layers for r in range(1, layers + 1)]
            found = [max(errors[how, d, r, 1.0], 0) for r in range(1, layers + 1)]
            ax.plot(shares, found, marker="o", ms=3, drawstyle="steps-post", label=f"D = {d}")
        title = "tightened intervals" if how == "tightened" else "CROWN's intervals"
        ax.set(xlabel="r / L", ylabel="error of P_r, k = 1", ylim=(-0.02, None), title=title)
        ax.legend(frameon=False, loc="lower left")
    return figure
