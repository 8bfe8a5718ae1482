"""Several neurons of a layer relaxed together: k-ReLU, PRIMA and M_k as three assemblies of the same parts.

    groups  x  the polytope that a group's inputs range over  x  the hull of its ReLUs over that polytope

* `k-relu` (Singh et al. 2019) and `prima` (Müller et al. 2022): the polytope lies in the K pre-activations, bounded in
  the 3^K - 1 directions of {-1, 0, 1}^K. Single ones have the given bounds; the others are bounded by backward linear
  bounds over the same pre-activation bounds (`directions=backward`, as the papers do), or by linear programs over
  all the program says of what lies before (`directions=lp`, tighter and dearer). `k-relu` takes disjoint groups,
  `prima` overlapping ones; with K = 1 both are the triangle.
* `m-K` (Mao, Zhang, Vechev 2026): all inputs of the layer, over the relaxed set before it, with K outputs: the window
  of one layer (see `lp.window`). M_1 by cutting planes is in `anderson`.

The directions of a K-group contain those of its subsets, with the same bounds, so larger groups are never looser.
A group's hull is written by Balas' disjunction over its 2^K sign patterns; for many groups see `group_cuts`.

Soundness: outward rounded. Directions are proved lower bounds; the hull is exact for the polytope they bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy.sparse import csr_array

from ...kernels.deadline import check
from ..lp.disjunction import Alternative, add_hull
from ..lp.encode import Addition, Building
from ..lp.model import Array, LinearModel
from ..lp.program import Index
from ..lp.window import Size, add_window, window
from ..rows.groups import all_subsets, disjoint, overlapping
from .triangle import Setting


def choose_groups(neurons: Index, area: Array, k: int, choice: str, most: int) -> list[Index]:
    """Groups of K of the neurons (U,), whose relaxations have these areas: `all` subsets (`BadInput`
    where there are more than `most`), `disjoint` or `sparse`.

    Disjoint groups take neighbours in the order of their area; sparse ones, of each run of 2 K neighbours in that
    order, subsets that share at most one neuron with each other (see `groups`). Fewer than K neurons are one group.
    """
    if len(neurons) <= k:
        return [np.sort(neurons)] if len(neurons) else []
    order = torch.from_numpy(neurons[np.argsort(-area, kind="stable")])
    match choice:
        case "all":
            found = all_subsets(order.sort().values, k, most)
        case "disjoint":
            found = disjoint(order, k)
        case _:
            found = overlapping(order, k, part=2 * k, overlap=min(1, k - 1))
    return list(found.sort(1).values.numpy())


def octahedron(k: int) -> Array:  # (3^k - 1, k)
    """All directions of {-1, 0, 1}^K but zero."""
    return np.array([d for d in product((-1.0, 0.0, 1.0), repeat=k) if any(d)])


@dataclass(frozen=True, eq=False)
class GroupHull(Addition):
    """k-ReLU or PRIMA: hulls of groups over octahedra of their pre-activations."""

    setting: Setting
    k: int = 2
    choice: str = "disjoint"
    directions: str = "backward"
    word: str = "k-relu"

    def before(self, building: Building, position: int) -> None:
        """Nothing: bounds stay as they are given."""

    def after(self, building: Building, position: int) -> None:
        kinks = building.kinks.get(position)
        if not self.setting.piecewise(building, position, self.word) or kinks is None or self.k == 1:
            return
        groups = choose_groups(
            kinks.neurons, areas(building, position, kinks.neurons), self.k, self.choice, self.setting.programs.groups
        )
        for size in range(2, self.k + 1):
            some = [g for g in groups if len(g) == size]
            if not some:
                continue
            directions = _joint_directions(size)
            limits = joint_limits(self.setting, building, position, some, self.directions, directions)
            for group, offsets in zip(some, limits, strict=True):
                _add_octahedral_hull(building, position, group, offsets)


def joint_limits(
    setting: Setting,
    building: Building,
    position: int,
    groups: Sequence[Index],  # G of size K
    way: str,  # backward or lp
    directions: Array,  # (T, K)
) -> Array:  # (G, T)
    """Proved upper bounds of directions of each group's pre-activations, none of them computed twice; +inf for those
    of one entry, whose bounds are known."""
    source = building.graph.layer_at[position].source
    size = building.graph.nodes[source].size
    wanted: dict[tuple, int] = {}
    index = np.full((len(groups), len(directions)), -1)
    for g, group in enumerate(groups):
        check()
        for t, direction in enumerate(directions):
            some = direction != 0
            if some.sum() > 1:
                key = (tuple(group[some].tolist()), tuple(direction[some].tolist()))
                index[g, t] = wanted.setdefault(key, len(wanted))
    rows = np.zeros((len(wanted), size))
    for at, (neurons, entries) in enumerate(wanted):
        rows[at, list(neurons)] = entries
    return np.append(-_least(setting, building, source, -rows, way), np.inf)[index]


def _least(setting: Setting, building: Building, source: int, rows: Array, way: str) -> Array:
    """Proved lower bounds of rows of the pre-activations."""
    best = np.full(len(rows), -np.inf)
    if setting.backward is not None and len(rows):
        best = setting.backward(source, torch.as_tensor(rows))
    if way == "lp" or setting.backward is None:
        programs = setting.session(building.program.model())
        columns = building.columns(source)
        for r, row in enumerate(rows):
            cost = np.zeros(building.program.variables)
            cost[columns] = row
            best[r] = max(best[r], programs.minimise(cost).bound_safe)
    return best


def areas(building: Building, position: int, neurons: Index) -> Array:
    """Twice the area of each neuron's triangle, but for its slope."""
    lower, upper = (side.numpy()[neurons] for side in building.boxes[building.graph.layer_at[position].source])
    return -lower * upper


def _joint_directions(k: int) -> Array:
    """The directions that speak of two neurons or more."""
    directions = octahedron(k)
    return directions[(directions != 0).sum(1) > 1]


def _add_octahedral_hull(building: Building, position: int, group: Index, offsets: Array) -> None:
    """Ties z and y of the group to the hull of the graph of its activations over the octahedron."""
    check()
    program, layer = building.program, building.graph.layer_at[position]
    z, y = building.columns(layer.source)[group], building.columns(position)[group]
    k = len(group)
    directions = _joint_directions(k)
    kept = np.isfinite(offsets)
    model = LinearModel(
        np.zeros(k),
        program.lower[z],
        program.upper[z],
        csr_array(directions[kept]),
        np.full(int(kept.sum()), -np.inf),
        offsets[kept],
    )
    alternatives = []
    for signs in product((-1, 1), repeat=k):
        active = np.array(signs) > 0
        lower, upper = np.where(active, np.maximum(model.lower, 0.0), model.lower), model.upper.copy()
        upper[~active] = np.minimum(upper[~active], 0.0)
        tie = np.concatenate([np.eye(k), np.diag(np.where(active, 1.0, layer.leak))])
        alternatives.append(Alternative(lower, upper, csr_array(tie)))
    add_hull(program, model, alternatives, np.concatenate([z, y]))


@dataclass(frozen=True, eq=False)
class InputHull(Addition):
    """M_k: the hull of all inputs of a layer with each K of its outputs, in its extended form."""

    setting: Setting
    k: int
    choice: str
    size: Size

    def before(self, building: Building, position: int) -> None:
        """Nothing: bounds stay as they are given."""

    def after(self, building: Building, position: int) -> None:
        word, kinks = f"m-{self.k}", building.kinks.get(position)
        if self.setting.piecewise(building, position, word) and kinks is not None and len(kinks.neurons):
            model = building.program.model()
            frame = window(building, position, 1)
            weights = areas(building, position, kinks.neurons)
            for group in choose_groups(kinks.neurons, weights, self.k, self.choice, self.setting.programs.groups):
                check()
                add_window(frame, model, group, self.size, self.setting.session, word)
