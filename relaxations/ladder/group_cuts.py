"""k-ReLU and PRIMA by cutting planes: rows of the groups' hulls, added to the linear program where its optimum breaks
them.

The extended form of a group's hull (`multi_neuron`) has 2^K scaled copies of its octahedron, for every group, whether
an objective needs it or not. Here the groups' rows are found once for a layer, as tensor operations (`hull`,
`kernels.hull`), and lie ready; a round adds those that the optimum breaks, and where none is broken the kernel is
asked for rows towards the point itself. Its rows are facets as a rule, though not all of them, so this is between the
triangle and the extended form (mnist_fc 256x2, 159 undecided neurons: see the README for bounds and seconds).

Soundness: outward rounded, as `kernels.hull` is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...kernels.hull import relu_hulls
from ...kernels.octahedron import LARGEST, Octahedron, octahedron
from ...problems.network.graph import Graph
from ..effort import ProgramEffort
from ..linear.neuron_rows import Facets
from ..lp.boxes import Box
from ..lp.encode import Addition, Building, Encoding
from ..lp.model import Array, Solution
from ..lp.program import Index
from ..names import Name
from ..rows.hull import layer_facets
from .multi_neuron import GroupHull, areas, choose_groups, joint_limits
from .triangle import Added, Rows, Setting


def added(name: Name, setting: Setting, graph: Graph, boxes: Sequence[Box]) -> Added:
    """k-ReLU or PRIMA as parts of a program."""
    groups = name.whole("k"), name.chosen("groups"), name.chosen("directions"), name.rung.name
    if not _by_cuts(name, setting, graph, boxes):
        return Added((GroupHull(setting, *groups),))
    cuts = GroupCuts(setting, *groups)
    return Added((cuts,), (cuts,))


def _by_cuts(name: Name, setting: Setting, graph: Graph, boxes: Sequence[Box]) -> bool:
    """Whether group hulls come as cutting planes: as asked, or where many neurons are undecided."""
    if name.options["by"] != "auto" or not 2 <= name.whole("k") <= LARGEST:
        return name.options["by"] == "cuts"
    undecided = sum(int((~layer.function.decided(*boxes[layer.source])).sum()) for layer in graph.layers)
    return undecided > setting.programs.by_cuts


@dataclass(frozen=True, eq=False)
class Layer:
    """The groups of one layer, all of size K, and the rows that lie ready."""

    position: int
    groups: Tensor  # (G, K)
    limits: Tensor  # (G, T)
    template: Octahedron
    pool: Facets
    z: Index  # (n,) columns
    y: Index  # (n,)
    slope: float


@dataclass(frozen=True, eq=False)
class GroupCuts(Addition):
    """Rows of groups of K; a `Cutter` once the program is built."""

    setting: Setting
    k: int
    choice: str
    directions: str
    word: str
    layers: list[Layer] = field(default_factory=list)

    def before(self, building: Building, position: int) -> None:
        """Nothing: bounds stay as they are given."""

    def after(self, building: Building, position: int) -> None:
        """The layer's groups, the limits of their octahedra, and their rows."""
        kinks = building.kinks.get(position)
        if not self.setting.piecewise(building, position, self.word) or kinks is None or len(kinks.neurons) < 2:
            return
        chosen = choose_groups(
            kinks.neurons, areas(building, position, kinks.neurons), self.k, self.choice, self.setting.programs.groups
        )
        for size in range(2, min(self.k, LARGEST) + 1):
            groups = [g for g in chosen if len(g) == size]
            if groups:
                self.layers.append(self._layer(building, position, groups, octahedron(size)))

    def _layer(self, building: Building, position: int, groups: list[Index], template: Octahedron) -> Layer:
        own = building.graph.layer_at[position]
        z, y = building.columns(own.source), building.columns(position)
        index, slope = torch.as_tensor(np.stack(groups)), own.leak
        normals = template.normals.double()
        found = torch.as_tensor(
            joint_limits(self.setting, building, position, groups, self.directions, normals.numpy())
        )
        low, high = (torch.as_tensor(side[z])[index] for side in (building.program.lower, building.program.upper))
        found[:, template.upper], found[:, template.lower] = high, -low
        pool = layer_facets(position, index, found, template, slope=slope)
        return Layer(position, index, found, template, pool, z, y, slope)

    def cuts(self, encoding: Encoding, answer: Solution) -> Rows:
        """Rows that the optimum breaks: those that lie ready, and where there are none, rows made for the point."""
        found, x, effort = Rows(), answer.point, self.setting.programs
        for layer in self.layers:
            _broken(layer, layer.pool, encoding, x, found, effort)
        if not found.sides:
            for layer in self.layers:
                _broken(layer, _towards(layer, x, effort.closer), encoding, x, found, effort)
        return found


def _towards(layer: Layer, x: Array, count: int) -> Facets:
    """Rows of the `count` groups whose neurons lie highest above their functions, each towards the point."""
    z, y = (torch.as_tensor(x[columns]) for columns in (layer.z, layer.y))
    excess = y - torch.maximum(z, layer.slope * z)
    chosen = excess[layer.groups].sum(1).argsort(descending=True, stable=True)[:count]
    groups = layer.groups[chosen]
    point = torch.cat([z[groups], y[groups]], 1)[:, None]
    on_post, on_pre, offset = relu_hulls(layer.template, layer.limits[chosen], layer.slope, point)
    return Facets(layer.position, groups, on_post[:, 0], on_pre[:, 0], offset[:, 0])


def _broken(layer: Layer, facets: Facets, encoding: Encoding, x: Array, found: Rows, effort: ProgramEffort) -> None:
    """The rows of `facets` that x breaks most."""
    if not len(facets):
        return
    over = facets.violation(torch.as_tensor(x[layer.z]), torch.as_tensor(x[layer.y])).numpy()
    width = torch.as_tensor(encoding.model.upper[layer.z] - encoding.model.lower[layer.z])[facets.index].amax(1)
    size = torch.maximum(facets.on_post.abs().amax(1), facets.on_pre.abs().amax(1))
    share = over / np.maximum((width * size).numpy(), 1e-12)
    for r in np.argsort(-share, kind="stable")[: effort.group_rows]:
        if share[r] <= effort.group_broken:
            break
        group = facets.index[r].numpy()
        found.columns.append(np.concatenate([layer.y[group], layer.z[group]]))
        found.coefficients.append(torch.cat([facets.on_post[r], facets.on_pre[r]]).numpy())
        found.sides.append(float(facets.offset[r]))
