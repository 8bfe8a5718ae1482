"""Taking up a run from its log: the pieces it left open, made again from the root by the cuts above each.

The roots are those of the same configuration; every cut on the way to an open piece is applied as the log has it, a
depth at a time, all pieces of that depth at once. What the first run knew of a piece beyond its cuts (clipped boxes,
optimised multipliers) is not in the log and is found again when the piece is bounded. Stuck pieces are tried again.

Soundness: exact as the first run was. Of the pieces that the log calls closed nothing is said here (see
`believed`). The cuts cover their pieces whatever their numbers are, so a log that lies about a cut loses
nothing but time.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ...problems.errors import BadInput
from ..search.engine import Engine
from ..trees.records import R, joined
from ..trees.splits import HALF_SPACE, Split
from ..trees.tree import AbstractTree
from .read import Ints, Partition


def take_up(engine: Engine, partition: Partition) -> None:
    """The engine goes on where the logged run ended."""
    if len(engine.roots) != partition.roots:
        raise BadInput(f"the log has {partition.roots} goals, the property has {len(engine.roots)}")
    first = pieces_of(engine.tree, engine.roots, partition, partition.unsettled)
    engine.go_on(first, partition.count, len(partition.closed), partition.weight)


def pieces_of(tree: AbstractTree[R], roots: R, partition: Partition, ids: Ints) -> R:
    """The records of some pieces, none of them bounded, with the bounds that the log has."""
    device, dtype = roots.bound.device, roots.bound.dtype
    wanted = torch.from_numpy(ids).to(device)
    mine = torch.zeros(partition.count, dtype=torch.bool, device=device)
    mine[wanted] = True
    found, record = [roots[wanted[:0]]], roots
    above = partition.above(ids)
    before: Ints = ids[:0]
    for level, rows, side in partition.levels(above):
        if len(before):
            cut = with_cuts(record, partition, before)[_tensor(rows, device)]
            record = halves(tree, cut, _tensor(side, device))
        else:
            record = roots[_tensor(level, device)]
        here = _tensor(level, device)
        known = _tensor(partition.bound[level], device).nan_to_num(-torch.inf).to(dtype)
        known = torch.minimum(known, known.new_zeros(()))
        record = replace(record, id=here, parent=_tensor(partition.parent[level], device), bound=known)
        found.append(record[mine[here].nonzero()[:, 0]])
        before = level
    return joined(found)


def _tensor(array, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array).to(device)


def with_cuts(record: R, partition: Partition, ids: Ints) -> R:
    """The pieces `ids` as they were just before they were split, each with the cut that the log has (if any)."""
    cut = record.cut
    kind, index, point = (torch.from_numpy(a[ids]) for a in (partition.kind, partition.index, partition.point))
    normal = None if cut.normal is None else torch.zeros_like(cut.normal)
    if normal is not None:
        half = (partition.kind[ids] == HALF_SPACE).nonzero()[0]
        if len(half):
            rows = partition.normal[partition.normal_of[ids[half]]]
            normal[torch.from_numpy(half).to(normal.device)] = torch.from_numpy(rows).to(normal)
    return record.with_cut(Split(kind.to(cut.kind), index.to(cut.index), point.to(cut.point), normal))


def halves(tree: AbstractTree[R], record: R, side: torch.Tensor) -> R:  # (B,) 0 lower, 1 upper
    """Of each piece the child on this side of its cut."""
    children = tree.split(record)
    count = len(side)
    return children[torch.arange(count, device=side.device) + count * side.long()]
