"""From names to linear programs: the rungs of the ladder between linear bounds and the exact oracle.

Each rung is the triangle program with parts added (`triangle`, `multi_neuron`, `anderson`, `block_hull`); several names
joined by `+` put all their parts into one program, which is the intersection of their relaxed sets and hence at least
as tight as the best of their bounds.

Soundness: outward rounded; see the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...kernels.octahedron import LARGEST
from ...problems.network.graph import Graph
from ...problems.properties.property import Polytope
from ..lp.boxes import Box
from ..lp.encode import Addition, propagated
from ..lp.model import Array
from ..lp.window import Size
from ..names import PROGRAMS, Name, unknown
from .anderson import InputCuts
from .block_hull import BlockHull
from .group_cuts import GroupCuts
from .multi_neuron import GroupHull, InputHull
from .triangle import Cutter, Cutting, Setting, Tightening, minima, relaxed

SMALL = 60_000  # coefficients up to which M_1 takes its extended form
MANY = 40  # undecided neurons beyond which group hulls are added as cutting planes


@dataclass(frozen=True, eq=False)
class LinearBounds:
    """Proved bounds of the rows, (R,) each; the boxes of all nodes the program was left with; what was not done."""

    lower: Array
    upper: Array
    boxes: list[Box]
    notes: tuple[str, ...]


def linear_bounds(
    names: Sequence[Name],
    graph: Graph,  # float64
    polytope: Polytope,
    boxes: Sequence[Box],  # of every node
    rows: Array,  # (R, n_out)
    constants: Array,  # (R,)
    setting: Setting,
) -> LinearBounds:
    """Bounds of rows f(x) + constants from both sides, over the intersection of the relaxations.

    `lower` is +inf where the polytope is proved empty. Raises `BadInput` for a layer that no linear program holds,
    for a limit that is hit, and with `strict` for a layer that a relaxation cannot treat.
    """
    boxes = propagated(graph, boxes)
    additions, cutters = parts(names, setting, graph, boxes)
    encoding = relaxed(graph, polytope, boxes, additions)
    lowest = minima(encoding, np.concatenate([rows, -rows]), setting, cutters)
    half = len(rows)
    if np.isposinf(lowest).any():  # one program is proved to have no point, and all have the same points
        return LinearBounds(np.full(half, np.inf), np.full(half, -np.inf), encoding.boxes, tuple(setting.notes))
    finite = np.where(np.isfinite(lowest), np.abs(lowest), 0.0)
    spare = 4 * np.finfo(float).eps * (np.abs(constants) + finite.reshape(2, half))
    lower, upper = lowest[:half] + constants - spare[0], constants - lowest[half:] + spare[1]
    return LinearBounds(lower, upper, encoding.boxes, tuple(setting.notes))


def least(
    names: Sequence[Name],
    graph: Graph,  # float64
    polytope: Polytope,
    boxes: Sequence[Box],
    rows: Array,  # (R, n_out)
    constants: Array,  # (R,)
    setting: Setting,
    on_input: Array | None = None,  # (R, D)
) -> Array:  # (R,)
    """Proved lower bounds of rows f(x) + on_input x + constants; as `linear_bounds`, from one side."""
    boxes = propagated(graph, boxes)
    additions, cutters = parts(names, setting, graph, boxes)
    programs = Cutting(relaxed(graph, polytope, boxes, additions), setting, cutters)
    first, size = programs.encoding.first[graph.output], len(programs.encoding.model.cost)
    found = np.full(len(rows), -np.inf)
    for r, row in enumerate(rows):
        cost = np.zeros(size)
        cost[first : first + len(row)] = row
        if on_input is not None:
            cost[: graph.input_size] += on_input[r]
        lowest = programs.minimise(cost)
        found[r] = (
            lowest
            if not np.isfinite(lowest)
            else lowest + constants[r] - 4 * np.finfo(float).eps * (abs(constants[r]) + abs(lowest))
        )
    return found


def parts(
    names: Sequence[Name], setting: Setting, graph: Graph, boxes: Sequence[Box]
) -> tuple[list[Addition], list[Cutter]]:
    """What the names add to the triangle program."""
    additions: list[Addition] = []
    cutters: list[Cutter] = []
    if any(name.options.get("tighten") == "on" and not _by_cuts(name, graph, boxes) for name in names):
        additions.append(Tightening(setting))
    for name in names:
        match name.kind:
            case "k-relu" | "prima":
                groups = name.whole("k"), name.chosen("groups"), name.chosen("directions"), name.kind
                if _groups_by_cuts(name, graph, boxes):
                    cuts = GroupCuts(setting, *groups)
                    additions.append(cuts)
                    cutters.append(cuts)
                else:
                    additions.append(GroupHull(setting, *groups))
            case "m" if _by_cuts(name, graph, boxes):
                own = InputCuts(setting, name.chosen("tighten"))
                additions.append(own)
                cutters.append(own)
            case "m":
                additions.append(InputHull(setting, name.number, name.chosen("groups"), _size(name)))
            case "p":
                additions.append(BlockHull(setting, name.number, _size(name)))
            case "triangle":
                pass  # what every program holds
            case _:
                raise unknown(name.kind, "linear programs", PROGRAMS)
    return additions, cutters


def _size(name: Name) -> Size:
    return Size(name.whole("patterns"), name.whole("size"))


def _by_cuts(name: Name, graph: Graph, boxes: Sequence[Box]) -> bool:
    """Whether M_1 is found by cutting planes: as asked, or where its extended form would be large."""
    if name.kind != "m" or name.number != 1 or name.options["by"] == "hull":
        return False
    if name.options["by"] == "cuts":
        return True
    return extended_size(graph, boxes) > SMALL


def extended_size(graph: Graph, boxes: Sequence[Box]) -> int:
    """About how many coefficients M_1 has in its extended form: each undecided neuron copies twice what lies before."""
    size = 2 * graph.input_size
    for layer in graph.layers:
        undecided = int((~layer.function.decided(*boxes[layer.source])).sum())
        reads = sum(graph.nodes[j].size for j in graph.nodes[layer.source].inputs)
        size += undecided * 4 * size + layer.size * reads
    return size


def _groups_by_cuts(name: Name, graph: Graph, boxes: Sequence[Box]) -> bool:
    """Whether group hulls come as cutting planes: as asked, or where many neurons are undecided."""
    if name.options["by"] != "auto" or not 2 <= name.whole("k") <= LARGEST:
        return name.options["by"] == "cuts"
    return sum(int((~layer.function.decided(*boxes[layer.source])).sum()) for layer in graph.layers) > MANY
