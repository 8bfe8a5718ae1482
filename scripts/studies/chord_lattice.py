"""Where in the lattice of chord relaxations the divergence arises: along chains from bottom to top, and at its worst.

A chain replaces neurons one after another; E need not rise along it, for the gaps of two neurons may cancel in an
output. `witness` is the smallest network that shows this, with E exact. The top of an all-chord network moves output r
by sum_i a_ri gap_i(s_i(x)), a signed; an element that replaces the neurons with a_ri > 0 alone keeps only the terms of
one sign (as far as the ReLUs that are left let them through), which is a good guess at the lattice's worst element.
"""

from __future__ import annotations

import numpy as np
import torch

from partita.problems.network.graph import Affine
from partita.problems.network.library import univariate
from partita.relaxations.bound import bound
from partita.relaxations.studies.chord import Chords, chords, difference, greatest_divergence
from partita.relaxations.studies.chord_error import error_bound, interval_width, recursive_error, telescoped_error

from .chord_subjects import COMMAND, Subject, drawn
from .table import Table, settled


def along_chains(subjects: list[tuple[Subject, float]], steps: int, chains: int, seed: int) -> tuple[Table, Table]:
    """E along chains from bottom to top, for networks and radii, and how often it falls on the way up."""
    rows, falls = [], []
    for subject, radius in subjects:
        made = drawn(subject, radius)
        orders, count = _orders(made, chains, seed), len(made.gap)
        levels = np.linspace(0, 1, steps + 1)
        rank = torch.stack([torch.argsort(order) for order in orders])  # (chains, N)
        which = rank < torch.from_numpy(np.round(levels * count))[:, None, None]  # (levels, chains, N)
        found = greatest_divergence(made, which, starts=8, steps=20, seed=seed)[0]
        proved = error_bound(made, which)
        top = found[-1].max()
        for level, f, p in zip(levels, found / top, proved / top, strict=True):
            row = [subject.name, level, f[2:].mean().item(), f[2:].max().item(), f[0].item(), f[1].item()]
            rows.append([*row, p[2:].mean().item()])
        falling = (found[1:] < 0.99 * found[:-1])[:, 2:]
        share = falling.double().mean().item()
        best = _one_sided(made, seed)
        falls.append([subject.name, radius, top.item(), 100 * share, (found.max() / top).item(), best / top.item()])
    columns = ["network", "share replaced", "mean", "most", "first layers first", "last layers first", "proved, mean"]
    note = (
        f"Largest divergence found, as a share of that at the top; neurons replaced in {chains} random orders "
        "(mean, most, and the mean of the bounds), from the first layer on and from the last one on."
    )
    return (
        Table("Position in the lattice", columns, rows, COMMAND, note),
        Table(
            "Is E monotone in the lattice?",
            [
                "network",
                "radius",
                "found at the top",
                "falls, % of steps up",
                "most on a chain / top",
                "one-sided / top",
            ],
            falls,
            COMMAND,
            "Found divergences only: a step counts as a fall where less than 99 % of the one before is found. "
            "`one-sided`: the most found where just those neurons are replaced whose gaps push one output one way.",
        ),
    )


def _orders(made: Chords, chains: int, seed: int) -> list[torch.Tensor]:
    """From the first layer on, from the last one on, and at random."""
    count, random = len(made.gap), torch.Generator().manual_seed(seed)
    forward = torch.arange(count)
    return [forward, forward.flip(0), *(torch.randperm(count, generator=random) for _ in range(chains))]


def witness() -> Table:
    """f(x) = ReLU(x) - ReLU(x) on [-1, 1], E exact by mixed-integer programming."""
    graph, one = univariate([0.0, 0.0], [1.0, -1.0]), torch.ones(1, dtype=torch.float64)
    made, rows = chords(graph, -one, one), []
    for which in ([False, False], [True, False], [False, True], [True, True]):
        lam = torch.tensor(which)
        report = bound(difference(made, lam), (made.lower.numpy(), made.upper.numpy()), "exact")
        exact = max(float(report.upper.max()), -float(report.lower.min()))
        words = f"({int(which[0])}, {int(which[1])})"
        rows.append([words, greatest_divergence(made, lam)[0].item(), settled(exact), error_bound(made, lam).item()])
    columns = ["lambda", "found", "E, mixed-integer programming", "proved"]
    return Table("The smallest witness: ReLU(x) - ReLU(x) on [-1, 1]", columns, rows, COMMAND)


def _one_sided(made: Chords, seed: int) -> float:
    """The most found where just the neurons are replaced whose gaps push one output one way."""
    weight = _behind(made, torch.eye(made.graph.output_size, dtype=torch.float64))  # (n_out, N)
    which = torch.cat([weight > 0, weight < 0])
    return greatest_divergence(made, which, starts=4, steps=15, seed=seed)[0].max().item()


def _behind(made: Chords, rows: torch.Tensor) -> torch.Tensor:  # (R, n_out) -> (R, N)
    """What each neuron's gap is multiplied by on its way to the outputs of the all-chord network."""
    shift = torch.zeros(len(made.gap), dtype=torch.float64, requires_grad=True)
    values = [made.lower]
    for position, node in enumerate(made.graph.nodes[1:], 1):
        arguments = [values[i] for i in node.inputs]
        if isinstance(node, Affine):
            values.append(node.apply(arguments))
        else:
            part = made.part(position)
            values.append(made.slope[part] * arguments[0] + shift[part])
    with torch.enable_grad():
        return torch.stack([torch.autograd.grad(values[-1] @ row, shift, retain_graph=True)[0] for row in rows])


def exactly(subjects: list[Subject], radii: tuple[float, ...]) -> Table:
    """E(top) by mixed-integer programming beside what samples reach and every bound."""
    rows = []
    for subject in subjects:
        for radius in radii:
            made = drawn(subject, radius)
            apart, box = difference(made, made.top), (made.lower.numpy(), made.upper.numpy())
            row: list[float | str] = [subject.name, radius, int(made.unstable.sum())]
            row.append(greatest_divergence(made, made.top)[0].item())
            for name in ("exact", "alpha-crown"):
                report = bound(apart, box, name)
                row.append(float(max(-report.lower.min(), report.upper.max())))
            row += [f(made, made.top).max().item() for f in (telescoped_error, recursive_error)]
            rows.append([*row, interval_width(made).max().item()])
    columns = ["network", "radius", "undecided", "found", "E(top)", "alpha-crown", "telescoped", "recursive", "width"]
    note = (
        "`E(top)`: mixed-integer programming on f_lambda - f as one network, less the solver's tolerances; "
        "`alpha-crown`: on the same network. First image of each, chords between intervals."
    )
    return Table("E at the top, exactly", columns, rows, COMMAND, note)
