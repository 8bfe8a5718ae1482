"""Is a logged partition one? Its leaves must cover the input set, and their interiors must not meet.

By induction: a root is its input set; a piece that was split has both children, and they are the piece cut by one
hyperplane (of an input, of a half-space, of a neuron's pre-activation), the two closed sides of it; so the leaves below
every piece cover it and meet on cuts alone. What is checked is every premise, piece by piece, from the log alone:

- each split piece has two children of its own, each piece but the roots has one parent (`logs.read` refuses logs
  where this fails), and every cut is one: a coordinate, neuron or normal that exists, not zero, at a finite point;
- the shares 2^-depth of each root's leaves add up to 1, in exact integer arithmetic;
- each cut of an input lies inside its piece, and of the kinds that the run's tree makes;
- where all pieces under a root are boxes, the volumes in the log are those of the boxes that the cuts make, and the
  leaves' volumes add up to the root's to within rounding;
- the parts are what was written, by the digests; the footer says nothing that the leaves contradict.

What a log cannot show by itself is whether its closed leaves are proved: that is said among the facts.

`sampled` asks points: each of many random points of the input set must lie in exactly one leaf (for neurons' cuts the
network is evaluated; a point within 1e-9 of a cut belongs to both sides and is not asked), and where that leaf is
closed, it must be no counterexample.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from ...problems.network.graph import Graph
from ...problems.properties.property import Polytope, Property, UnsafeSet
from ...problems.properties.rational import rationals
from ...relaxations.leaf.rational import Rational
from ..search.verdict import Verdict
from ..trees.splits import HALF_SPACE, INPUT, NAMES, PHASE
from .boxes import box_levels
from .format import CLOSED, FOOTER
from .header import searched
from .read import Ints, Partition
from .rows import Shape
from .volumes import volume

CLOSE = 1e-9  # relative, of volumes and of points to cuts


@dataclass
class CheckReport:
    """`faults`: a sentence for each thing that is wrong; `facts`: what was found, by name."""

    faults: list[str] = field(default_factory=list)
    facts: dict[str, float | int | str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return not self.faults


def check(partition: Partition) -> CheckReport:
    """The premises above, from the log alone."""
    report = CheckReport(facts={"pieces": partition.count, "leaves": len(partition.leaves), "goals": partition.roots})
    report.facts |= {f"leaves, {name}": count for name, count in partition.by_name().items()}
    report.faults += partition.doubts
    footer = partition.footer
    if footer is not None and footer["verdict"] == Verdict.HOLDS and partition.rows and len(partition.unsettled):
        first = partition.place(int(partition.unsettled[0]))
        report.faults.append(
            f"{FOOTER}, field verdict, says unsat, but {len(partition.unsettled)} leaves are open or stuck, the first "
            f"in {first}"
        )
    _cuts(partition, report)
    _shares(partition, report)
    if not report.faults:
        _volumes(partition, report)
    return report


def _cuts(partition: Partition, report: CheckReport) -> None:
    cut = (partition.child >= 0).nonzero()[0]
    kind, index, point = partition.kind[cut], partition.index[cut], partition.point[cut]
    inputs = len(partition.header["inputs"][0]["lower"]) if partition.header["inputs"] else 0
    neurons = sum(layer["size"] for layer in partition.header["layers"])
    limit = np.where(kind == INPUT, inputs, np.where(kind == PHASE, neurons, np.iinfo(np.int64).max))
    normals = np.ones(len(cut), dtype=bool)
    half = kind == HALF_SPACE
    normals[half] = False
    half = half & (partition.normal_of[cut] >= 0)
    if half.any():
        rows = partition.normal[partition.normal_of[cut[half]]]
        normals[half] = (rows != 0).any(1) & np.isfinite(rows).all(1) & (rows.shape[1] == inputs)
    allowed = [NAMES.index(name) for name in Shape.of(partition.header).kinds]
    bad = ~np.isin(kind, allowed) | (index < 0) | (index >= limit) | ~np.isfinite(point) | ~normals
    if bad.any():
        first = int(cut[bad.argmax()])
        report.faults.append(
            f"{int(bad.sum())} splits are no cuts, the first that of piece {first} ({partition.place(first)})"
        )
    report.facts |= {
        f"{name} splits": int((kind == code).sum()) for code, name in enumerate(("input", "half-space", "phase"))
    }


def _shares(partition: Partition, report: CheckReport) -> None:
    leaves = partition.leaves
    deepest = int(partition.depth[leaves].max(initial=0))
    both, counts = np.unique(
        partition.goal[leaves].astype(np.int64) * (deepest + 1) + partition.depth[leaves], return_counts=True
    )
    whole = [0] * partition.roots
    for code, count in zip(both.tolist(), counts.tolist(), strict=True):
        root, depth = divmod(code, deepest + 1)
        whole[root] += count << (deepest - depth)
    for root, sum_ in enumerate(whole):
        if sum_ != 1 << deepest:
            report.faults.append(f"the leaves under root {root} make up {sum_ / (1 << deepest):g} of it, not 1")
    report.facts["depth"] = deepest


def _volumes(partition: Partition, report: CheckReport) -> None:
    """Boxes made again from the cuts: cuts lie inside, and volumes are those in the log."""
    inputs = [partition.header["inputs"][goal["input"]] for goal in partition.header["goals"]]
    if not inputs or not (partition.kind == INPUT).any():
        return
    lower, upper = (np.array([one[side] for one in inputs], dtype=np.float64) for side in ("lower", "upper"))
    free, found = upper > lower, np.full(partition.count, np.nan)
    outside = []
    for ids, low, high, boxes in box_levels(partition, lower, upper):
        found[ids[boxes]] = volume(low[boxes], high[boxes], free[partition.goal[ids[boxes]]])
        outside.append(partition.parent[ids[(low > high).any(1)]])
    beyond = np.unique(np.concatenate(outside))
    if len(beyond):
        report.faults.append(
            f"{len(beyond)} cuts lie outside the piece they cut or below such a cut, the first in "
            f"{partition.place(int(beyond[0]))}, field point"
        )
    if np.isnan(partition.volume[: partition.roots]).all():
        return
    both = np.isfinite(found) & np.isfinite(partition.volume)
    off = both & (np.abs(found - partition.volume) > CLOSE * found)
    if off.any():
        report.faults.append(
            f"{int(off.sum())} volumes are not those of the boxes, the first in {partition.place(int(off.argmax()))}, "
            "field volume"
        )
    leaves = partition.leaves
    whole = np.bincount(partition.goal[leaves], weights=np.nan_to_num(found[leaves]), minlength=partition.roots)
    boxes_only = np.bincount(partition.goal[leaves], weights=np.isnan(found[leaves]), minlength=partition.roots) == 0
    wrong = boxes_only & (np.abs(whole - found[: partition.roots]) > CLOSE * found[: partition.roots])
    for root in wrong.nonzero()[0]:
        report.faults.append(f"the leaves' volumes under root {root} add up to {whole[root]:g}, not {found[root]:g}")
    report.facts["roots whose volumes add up"] = int((boxes_only & ~wrong).sum())


@torch.no_grad()
def sampled(partition: Partition, graph: Graph, prop: Property, count: int = 1000, seed: int = 0) -> CheckReport:
    """Whether random points of each root's input set lie in exactly one leaf, and none of a closed leaf is unsafe;
    `count` points in all, about."""
    report = CheckReport()
    random, rational = np.random.default_rng(seed), Rational(graph)
    cases = searched(partition.header, prop).cases
    goals = [(case.inputs, unsafe) for case in cases if not case.inputs.empty for unsafe in case.unsafe]
    asked = shut = 0
    for root, (inputs, unsafe) in enumerate(goals[: partition.roots]):
        points = _points(inputs, max(8, count // partition.roots), random)
        if not len(points):
            continue
        values = graph.values(torch.from_numpy(points))
        before = [values[operand.source] for operand in graph.operands]
        neurons = torch.cat(before, 1).numpy() if before else np.zeros((len(points), 0))
        rows, leaves, near = leaves_of(partition, root, points, neurons)
        found = np.bincount(rows, minlength=len(points))
        outside = int((found[~near] != 1).sum())
        if outside:
            report.faults.append(f"of {len(points)} points under root {root}, {outside} do not lie in exactly one leaf")
        mine = rows[partition.state[leaves] == CLOSED]
        pairs = zip(points[mine], values[-1][mine].numpy(), strict=True)
        bad = sum(_unsafe(rational, inputs, unsafe, x, y) for x, y in pairs)
        if bad:
            report.faults.append(f"{bad} counterexamples lie in closed leaves under root {root}")
        asked, shut = asked + int((~near).sum()), shut + len(mine)
    report.facts |= {"points, each in one leaf": asked, "of them in closed leaves, none unsafe": shut}
    return report


def _unsafe(rational: Rational, inputs: Polytope, unsafe: UnsafeSet, x: np.ndarray, y: np.ndarray) -> bool:
    """Whether the point, with the output y, is a counterexample: in exact arithmetic where that can be, otherwise where
    double precision leaves no doubt."""
    if not unsafe.reached(y, x) or not inputs.holds(rationals(x)):
        return False
    surely = rational.decide(inputs, unsafe, (x, x))
    size = np.abs(unsafe.rows) @ np.abs(y) + np.abs(unsafe.constants)
    clearly = unsafe.margin(y, x) < -CLOSE * float(size.max(initial=0.0))
    return surely.point is not None or (not surely.empty and (clearly or not len(unsafe.rows)))


def leaves_of(
    partition: Partition,
    root: int,
    points: np.ndarray,  # (P, D)
    neurons: np.ndarray,  # (P, N) pre-activations at the points
) -> tuple[Ints, Ints, np.ndarray]:
    """Pairs of a point and a leaf under the root that it lies in, and which points (P,) lie on a cut."""
    ids, rows = np.full(len(points), root), np.arange(len(points))
    cut = np.zeros(len(points), dtype=bool)
    pairs: list[tuple[Ints, Ints]] = []
    while len(ids):
        ended = partition.child[ids] < 0
        pairs.append((rows[ended], ids[ended]))
        ids, rows = ids[~ended], rows[~ended]
        kind, index, point = partition.kind[ids], partition.index[ids], partition.point[ids]
        value = np.zeros(len(ids))
        for code, table in ((INPUT, points), (PHASE, neurons)):
            mine = kind == code
            value[mine] = table[rows[mine], index[mine]]
        half = kind == HALF_SPACE
        if half.any():
            value[half] = (partition.normal[partition.normal_of[ids[half]]] * points[rows[half]]).sum(1)
        near = np.abs(value - point) <= CLOSE * np.maximum(1.0, np.abs(point))
        cut[rows[near]] = True
        low, high = near | (value < point), near | (value > point)
        ids = np.concatenate([partition.child[ids[low]], partition.child[ids[high]] + 1])
        rows = np.concatenate([rows[low], rows[high]])
    return np.concatenate([p for p, _ in pairs]), np.concatenate([leaf for _, leaf in pairs]), cut


def _points(inputs: Polytope, count: int, random: np.random.Generator) -> np.ndarray:
    """Points of the polytope, uniform in its box; as many as a few tries give."""
    found = np.zeros((0, inputs.size))
    for _ in range(20):
        x = np.clip(
            inputs.lower + random.random((count, inputs.size)) * (inputs.upper - inputs.lower),
            inputs.lower,
            inputs.upper,
        )
        found = np.concatenate([found, x[(x @ inputs.normals.T <= inputs.offsets).all(1)]])
        if len(found) >= count:
            break
    return found[:count]
