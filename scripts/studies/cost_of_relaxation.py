"""Study 8, the cost of relaxation (Papamichail and others 2026): how far chords move a network's outputs.

Replacing unstable neurons by their chords gives a lattice with the network at the bottom and an affine map at the top
(`partita.relaxations.studies.chord`). Published: the divergence grows exponentially with depth, about 0.95 decades a
layer on random networks at radius 1, linearly with the radius, and the probability that the class changes is like a
step of the radius. The study measures each on networks drawn as published and on trained ones, with chords between
interval bounds (as published) and between CROWN's; and compares what samples reach with three proved bounds
(`chord_error`).

Rates are least-squares slopes of log10 over the depth, exponents those of log10 over log10 of the radius. Random
networks are drawn several times over, for the rates' standard deviation over draws; the rate that is compared with the
published one is measured on many draws, and on networks built as in its authors' public code, whose own spread over
seeds is measured as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partita.relaxations.studies.chord import Chords

from . import chord_figures as pictures
from . import chord_lattice
from . import chord_subjects as subjects
from .chord_subjects import COMMAND, KINDS, Measured, Subject, drawn
from .table import Study, Table

PUBLISHED = 0.95  # decades a layer
RULES = {"ibp": "intervals", "crown": "crown"}
QUESTION = (
    "Each unstable ReLU may be replaced by its chord; doing so for a set lambda of neurons gives a lattice from the "
    "network f (bottom) to an affine map (top), and E(lambda) is the largest distance of an output of f_lambda from "
    "f's, over a ball of inputs in the maximum norm. Does E(top) grow by 0.95 decades a layer and linearly with the "
    "radius, as published? Where between bottom and top does it arise? How close do proved bounds come? And does the "
    "probability that the class changes jump at some radius?"
)


@dataclass(frozen=True)
class Size:
    """How much is measured; the tests take less."""

    depths: tuple[int, ...] = tuple(range(1, 31))
    draws: int = 5
    many: int = 20  # draws for the rate at the centre alone
    seeds: int = 10  # of networks built as in the authors' code
    radii: tuple[float, ...] = tuple(np.round(np.logspace(-5, 2, 22), 9).tolist())
    step_radii: tuple[float, ...] = tuple(np.logspace(-10, 2, 37).tolist())
    radius_depths: tuple[int, ...] = (1, 2, 4, 8, 16)
    trained_radii: tuple[float, ...] = tuple(np.round(np.logspace(-3, 0, 13), 6).tolist())
    step_depths: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 20, 30)
    lattice_depths: tuple[int, ...] = (2, 6, 12)
    lattice_steps: int = 8
    chains: int = 6
    points: int = 1000
    images: int = 3
    exact_radii: tuple[float, ...] = (0.01, 0.03, 0.05)


def study(seed: int = 0, size: Size | None = None) -> Study:
    """The whole study; about two minutes on one core with the default `size`."""
    size = size or Size()
    benchmark, where = subjects.benchmark_subjects()
    trained = subjects.trained_subjects() + benchmark
    depth, rates = _depth(seed, size)
    draws = _draws(seed, size)
    radius, exponents = _radius(seed, size)
    chosen = [(subjects.random_subject(d, seed * size.draws), 1.0) for d in size.lattice_depths]
    chosen += [(subject, 0.1 if "digits" in subject.name else 0.03) for subject in trained if "x6" not in subject.name]
    lattice, falls = chord_lattice.along_chains(chosen, size.lattice_steps, size.chains, seed)
    real = _trained(size, trained, where)
    exact = chord_lattice.exactly(trained[:2], size.exact_radii)
    steps, curves = _steps(seed, size, trained)
    figures = {
        "cost_depth.svg": pictures.depth_figure(depth),
        "cost_radius.svg": pictures.radius_figure(radius, size.radius_depths),
        "cost_lattice.svg": pictures.lattice_figure(lattice),
        "cost_step.svg": pictures.step_figure(curves),
    }
    witness = chord_lattice.witness()
    tables = [depth, rates, radius, exponents, lattice, falls, witness, real, exact, steps, draws]
    title = "The cost of relaxation: the lattice of chords"
    findings, shown = _findings(tables), [depth, rates, draws, *tables[2:-1]]
    return Study("cost_of_relaxation", title, QUESTION, shown, findings, figures)


def _depth(seed: int, size: Size) -> tuple[Table, Table]:
    """E(top) at radius 1 of one draw, and the rates of all draws."""
    logs: dict[str, list[list[tuple[int, float]]]] = {}
    predicted, rows = [], []
    for draw in range(size.draws):
        for depth in size.depths:
            subject = subjects.random_subject(depth, seed * size.draws + draw)
            found = {rule: subjects.measured(drawn(subject, 1.0, rule=rule), seed=seed) for rule in RULES}
            spread = subjects.spread(subject, 1.0)
            values = {"the network's own spread": spread}
            values |= {f"{kind}, intervals": getattr(found["ibp"], kind) for kind in KINDS}
            values |= {f"{kind}, crown": getattr(found["crown"], kind) for kind in KINDS[:3]}
            for name, value in values.items():
                if value > 0:  # narrow layers may kill a network on the whole ball
                    logs.setdefault(name, [[] for _ in range(size.draws)])[draw].append((depth, np.log10(value)))
            if draw == 0:
                rows.append([depth, subject.graph.neurons, spread, *_cells(found["ibp"]), *_cells(found["crown"])[1:3]])
            predicted.append(np.log10(np.array(subjects.hidden_widths(subject)) / 4).mean())
    rates = []
    for name, by_draw in logs.items():
        slopes = [_slope(*zip(*one, strict=True)) for one in by_draw]
        fit = float(np.corrcoef(np.array(by_draw[0]).T)[0, 1] ** 2)
        rates.append([name, slopes[0], fit, float(np.mean(slopes)), float(np.std(slopes))])
    rates.append(["log10(n / 4), n the layers' widths", None, None, float(np.mean(predicted)), None])
    columns = ["depth", "neurons", "spread of f", *KINDS, "found, crown", "telescoped, crown"]
    note = (
        "Divergence of the all-chord network: at the centre, the largest found by ascent, then the proved bounds. "
        "Chords between interval bounds, in the last two columns between CROWN's. `spread of f`: the largest "
        "standard deviation of an output of the network itself on the ball."
    )
    return (
        Table("Divergence against depth, radius 1, one draw", columns, rows, COMMAND, note),
        Table(
            f"Decades a layer, {size.draws} draws",
            ["quantity", "that draw", "R^2", "mean", "deviation"],
            rates,
            COMMAND,
            "Least squares over the depths, that draw with its R^2, then mean and standard deviation over draws. The "
            "last row is what interval bounds should grow by: weights uniform in [-1, 1] have mean absolute value 1/2, "
            "and an undecided neuron hands on half of its width.",
        ),
    )


def _draws(seed: int, size: Size) -> Table:
    """The rate at the centre over many draws, and on networks built as in the authors' code."""
    own = [
        [subjects.at_centre(subjects.random_subject(depth, seed * size.many + draw)) for depth in size.depths]
        for draw in range(size.many)
    ]
    deepest = max(size.depths)
    theirs = [
        [subjects.at_centre(subject) for subject in subjects.published_subjects(deepest, seed + s)]
        for s in range(size.seeds)
    ]
    rows = []
    for name, depths, values in (
        ("independent weights", size.depths, own),
        ("as in the authors' code", range(1, deepest + 1), theirs),
    ):
        alive = [[(d, np.log10(v)) for d, v in zip(depths, one, strict=True) if v > 0] for one in values]
        slopes = np.array([_slope(*zip(*one, strict=True)) for one in alive])
        ends = np.array([(one[-1][1] - one[0][1]) / (one[-1][0] - one[0][0]) for one in alive])
        for what, found in (("least squares", slopes), ("first to last depth", ends)):
            spread = [float(f(found)) for f in (np.mean, np.std, np.min, np.max)]
            rows.append([name, what, len(found), float(found[0]), *spread])
    columns = ["networks", "slope", "draws", "of the first draw", "mean", "deviation", "least", "greatest"]
    note = (
        f"log10 of the divergence at the centre, radius 1, depths 1 to {deepest}, chords between interval bounds. The "
        f"first draw of the authors' construction has seed {seed}."
    )
    return Table("Decades a layer at the centre, over draws", columns, rows, COMMAND, note)


def _radius(seed: int, size: Size) -> tuple[Table, Table]:
    """E(top) against the radius, and the exponent at both ends."""
    columns, cells, exponents = ["radius"], [list(size.radii)], []
    for depth in size.radius_depths:
        subject = subjects.random_subject(depth, seed * size.draws)
        made = [drawn(subject, radius) for radius in size.radii]
        found = [subjects.measured(one, seed=seed) for one in made]
        columns += [f"found, depth {depth}", "telescoped", "undecided %"]
        cells += [[m.found for m in found], [m.telescoped for m in found]]
        cells.append([100 * one.unstable.double().mean().item() for one in made])
        all_ = [k for k, one in enumerate(made) if one.unstable.all() and found[k].found > 0][-4:]
        some = [k for k, one in enumerate(made) if not one.unstable.all() and found[k].found > 0][-6:]
        fits = [_slope(np.log10(size.radii)[part], np.log10([found[k].found for k in part])) for part in (some, all_)]
        exponents.append([depth, *fits])
    rows = [list(row) for row in zip(*cells, strict=True)]
    return (
        Table("Divergence against radius", columns, rows, COMMAND, "The all-chord network, chords between intervals."),
        Table(
            "p in E(top) ~ radius^p",
            ["depth", "some neurons decided", "all undecided"],
            exponents,
            COMMAND,
            "Fitted to the last six radii at which some neuron is decided, and to the last four at which none is.",
        ),
    )


def _trained(size: Size, trained: list[Subject], where: str) -> Table:
    """E(top) of trained networks at some radii."""
    rows = []
    for subject in trained:
        for radius in size.trained_radii[::4]:
            found = {rule: subjects.measured(drawn(subject, radius, rule=rule)) for rule in RULES}
            rows.append([subject.name, radius, *_cells(found["ibp"]), *_cells(found["crown"])[1:3]])
    columns = ["network", "radius", *KINDS, "found, crown", "telescoped, crown"]
    note = f"First image of each; pixels confined to [0, 1]. {where}"
    return Table("Trained networks", columns, rows, COMMAND, note)


def _steps(seed: int, size: Size, trained: list[Subject]) -> tuple[Table, dict[str, tuple]]:
    """Where P[class changes] rises, and over how many decades of the radius."""
    rows, curves = [], {}
    chosen = [(subjects.random_subject(d, seed * size.draws), size.step_radii) for d in size.step_depths]
    chosen += [(subject, size.trained_radii) for subject in trained]
    for subject, radii in chosen:
        centres = range(min(size.images, len(subject.centres)))
        for rule, name in RULES.items():
            made = [[drawn(subject, radius, c, rule) for radius in radii] for c in centres]
            share = np.array([[subjects.changed(one, size.points, seed) for one in row] for row in made])
            sure = [_largest(radii, row) for row in made]
            # The step is a matter of one centre: medians over centres, not the mean curve's width.
            measured = [_rise(radii, row) for row in share]
            middle = [_median([m[k] for m in measured]) for k in range(4)]
            rows.append([subject.name, name, len(share), share.max(1).mean(), _median(sure), *middle])
            curves[f"{subject.name}, {name}"] = (radii, share.mean(0))
    note = (
        f"Of {size.points} points of the ball, the share where the all-chord network names another class. `proved`: "
        "the largest radius measured up to which the bounds prove that it is none. `first`: the smallest radius with "
        "a share above 5 % of the largest share, `half`: above a half; `decades`: from the last radius below 5 % to "
        "the first above 90 % (a grid step is a third or a quarter of a decade); `least beyond`: the least share at "
        "any radius from there on. Medians over the centres; empty where the smallest radius measured is already past "
        "the rise, or none changes."
    )
    columns = ["network", "chords", "centres", "largest share", "proved", "first", "half", "decades", "least beyond"]
    return Table("Where the class changes", columns, rows, COMMAND, note), curves


def _rise(radii, share) -> tuple[float | None, ...]:
    """The first radius above 5 % and above a half of the largest share, the width of the rise in decades, and the
    least share at any larger radius."""
    most = share.max()
    if most == 0 or share[0] > 0.05 * most:
        return None, None, None, None
    first, half, nine = (int(np.argmax(share > level * most)) for level in (0.05, 0.5, 0.9))
    return radii[first], radii[half], float(np.log10(radii[nine] / radii[first - 1])), float(share[nine:].min())


def _largest(radii, made: list[Chords]) -> float | None:
    """The last radius before the first at which it is not proved that no class changes."""
    found = None
    for radius, one in zip(radii, made, strict=True):
        if not subjects.proved_unchanged(one):
            break
        found = radius
    return found


def _median(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.median(known)) if len(known) * 2 > len(values) else None


def _slope(x, y) -> float | None:
    """The least-squares slope."""
    return float(np.polyfit(x, y, 1)[0]) if len(x) > 1 else None


def _cells(m: Measured) -> list[float]:
    return [getattr(m, kind) for kind in KINDS]


def _findings(tables: list[Table]) -> str:
    depth, rates, _, exponents, lattice, falls, witness, _, exact, steps, draws = tables
    rate = {row[0]: row[1:] for row in rates.rows}
    fit = rate["centre, intervals"][1]
    crown, spread = rate["found, crown"][2], rate["the network's own spread"][2]
    ours, _, squares, ends = (dict(zip(draws.columns, row, strict=True)) for row in draws.rows)
    said = [
        f"Exponential growth with depth is {'confirmed' if fit > 0.9 else 'not confirmed'} (R^2 {fit:.3f}). On "
        f"{ours['draws']} draws of {len(depth.rows)} networks with independent weights the divergence at the centre "
        f"grows by {ours['mean']:.3f} +- {ours['deviation']:.3f} decades a layer (standard deviation over draws; "
        f"{ours['least']:.3f} to {ours['greatest']:.3f}); intervals alone should give {rates.rows[-1][3]:.3f}. The "
        f"published {PUBLISHED} is of other networks, so that these draws neither confirm nor correct it. On networks "
        f"built as in its authors' code least squares gives {squares['of the first draw']:.3f} for the first seed and "
        f"{squares['mean']:.3f} +- {squares['deviation']:.3f} over {squares['draws']} seeds, the slope between the "
        f"first and the last depth {ends['of the first draw']:.3f} and {ends['mean']:.3f} +- {ends['deviation']:.3f}; "
        f"{PUBLISHED} lies {_where(PUBLISHED, ends)} the latter's range over seeds and {_where(PUBLISHED, squares)} "
        f"the former's. The growth is the intervals' more than the chords': drawn between CROWN's bounds they diverge "
        f"by {crown:.3f} decades a layer, while the network's own outputs spread by {spread:.3f}."
    ]
    ratio = {k: np.array(depth.column(k)) / np.array(depth.column("found")) for k in KINDS}
    span = {k: f"{ratio[k].min():.2g} to {ratio[k].max():.2g} times" for k in KINDS[2:]}
    said.append(
        f"At every depth what ascent finds is met within a factor: the telescoped bound is {span['telescoped']} as "
        f"much, the recursive one {span['recursive']}, the interval width {span['width']}; the divergence at the "
        f"centre is {100 * ratio['centre'].min():.0f} % of it or more."
    )
    late = [p for p in exponents.column("all undecided") if p is not None]
    early = [p for p in exponents.column("some neurons decided") if p is not None]
    if late and early:
        linear = max(abs(p - 1) for p in late) < 0.1
        said.append(
            f"Linear growth with the radius is {'confirmed' if linear else 'refuted'} where every neuron is undecided "
            f"(exponents {min(late):.2f} to {max(late):.2f}); below that it is faster in shallow networks (exponents "
            f"{min(early):.2f} to {max(early):.2f}), as the radius also undecides neurons."
        )
    truth = np.array(exact.column("E(top)"))
    times = {k: np.array(exact.column(k)) / truth for k in ("found", "alpha-crown", "telescoped", "recursive", "width")}
    said.append(
        f"On the trained networks, where E(top) is known, ascent reaches {100 * times['found'].min():.0f} % of it or "
        f"more; alpha-crown on the difference of the two networks proves at most {times['alpha-crown'].max():.3g} "
        f"times E, the telescoped bound {times['telescoped'].max():.3g}, the recursive one "
        f"{times['recursive'].max():.3g}, the interval width {times['width'].max():.3g} times."
    )
    said.append(_lattice_sentence(lattice, falls, witness))
    said.append(_step_sentence(steps))
    said.append("Open: E itself for larger networks, which ascent and bounds only enclose.")
    return " ".join(said)


def _where(value: float, row: dict) -> str:
    return "inside" if row["least"] <= value <= row["greatest"] else "outside"


def _lattice_sentence(lattice: Table, falls: Table, witness: Table) -> str:
    exact = witness.column("E, mixed-integer programming")
    worst = max(falls.rows, key=lambda row: row[3])
    above = max(max(row[4], row[5]) for row in falls.rows)
    text = (
        f"Refuted, should it be assumed: that the top is the worst element. For ReLU(x) - ReLU(x) E is {exact[1]:.3g} "
        f"with one chord and {exact[3]:.3g} at the top, for there the gaps cancel."
        if exact[1] > exact[3]
        else "No witness was found against E's being monotone."
    )
    text += (
        f" On the measured networks the divergence found falls on up to {worst[3]:.0f} % of the steps up ({worst[0]}), "
        f"and elements below the top, such as those that replace only neurons whose gaps push one way, reach up to "
        f"{above:.2f} times the top's."
    )
    half = [row for row in lattice.rows if row[1] == 0.5]
    later = sum(row[5] > row[4] for row in half)
    return text + (
        f" With half of the neurons replaced, those of the last layers diverge further than those of the first in "
        f"{later} of {len(half)} networks."
    )


def _step_sentence(steps: Table) -> str:
    rows = [dict(zip(steps.columns, row, strict=True)) for row in steps.rows]
    known = [row for row in rows if row["decades"] is not None]
    if not known:
        return "Where the class changes was not resolved by the radii measured."
    wide = [row["decades"] for row in known]
    sharp = sum(w <= 1 for w in wide)
    gaps = [row["first"] / row["proved"] for row in known if row["proved"] and row["first"]]
    text = (
        f"The class changes like a step of the radius in {sharp} of {len(known)} cases: from under 5 % to over 90 % of "
        f"its largest share within one decade (widths {min(wide):.2f} to {max(wide):.2f}). "
    )
    back = [row for row in known if row["least beyond"] < 0.5 * row["largest share"]]
    if back:
        text += (
            f"It does not stay there everywhere: in {len(back)} cases the share falls below half of its largest again "
            f"at a larger radius ({', '.join(row['network'] + ' with ' + row['chords'] for row in back)}). "
        )
    else:
        text += "It stays there up to the largest radius measured. "
    if gaps:
        text += (
            f"A change is first seen at {min(gaps):.3g} to {max(gaps):.3g} times the radius up to which none is proved."
        )
    return text
