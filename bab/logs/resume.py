"""Taking up a run from its log: the pieces it left open, made again from the root by the cuts above each.

The roots are those of the same configuration; every cut on the way to an open piece is applied as the log has it, a
depth at a time, all pieces of that depth at once. What the first run knew of a piece beyond its cuts (clipped boxes,
optimised multipliers) is not in the log and is found again when the piece is bounded. Stuck pieces are tried again.

Soundness: exact as the first run was. Of the pieces that the log calls closed nothing is said here (see
`believed`). The cuts cover their pieces whatever their numbers are, so a log that lies about a cut loses
nothing but time.
"""

from __future__ import annotations

import torch

from ...problems.errors import BadInput
from ..search.engine import Engine
from ..trees.frontier import Record, select
from ..trees.splits import HALF_SPACE
from ..trees.tree import AbstractTree
from .read import Ints, Partition


def take_up(engine: Engine, partition: Partition) -> None:
    """The engine goes on where the logged run ended."""
    if len(engine.roots["id"]) != partition.roots:
        raise BadInput(f"the log has {partition.roots} goals, the property has {len(engine.roots['id'])}")
    first = pieces_of(engine.tree, engine.roots, partition, partition.unsettled)
    engine.go_on(first, partition.count, len(partition.closed), partition.weight)


def pieces_of(tree: AbstractTree, roots: Record, partition: Partition, ids: Ints) -> Record:
    """The records of some pieces, none of them bounded, with the bounds that the log has."""
    device, dtype = roots["bound"].device, roots["bound"].dtype
    wanted = torch.from_numpy(ids).to(device)
    mine = torch.zeros(partition.count, dtype=torch.bool, device=device)
    mine[wanted] = True
    found, record = [select(roots, wanted[:0])], roots
    above = partition.above(ids)
    before: Ints = ids[:0]
    for level, rows, side in partition.levels(above):
        if len(before):
            cut = select(with_cuts(record, partition, before), _tensor(rows, device))
            record = halves(tree, cut, _tensor(side, device))
        else:
            record = select(roots, _tensor(level, device))
        here = _tensor(level, device)
        record["id"], record["parent"] = here, _tensor(partition.parent[level], device)
        known = _tensor(partition.bound[level], device).nan_to_num(-torch.inf).to(dtype)
        record["bound"] = torch.minimum(known, known.new_zeros(()))
        found.append(select(record, mine[here].nonzero()[:, 0]))
        before = level
    return joined(found, tree.fill)


def _tensor(array, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array).to(device)


def with_cuts(record: Record, partition: Partition, ids: Ints) -> Record:
    """The pieces `ids` as they were just before they were split, each with the cut that the log has (if any)."""
    like = record["point"]
    chosen = {
        "index": torch.from_numpy(partition.index[ids]).to(record["index"]),
        "point": torch.from_numpy(partition.point[ids]).to(like),
    }
    if "kind" in record:
        chosen["kind"] = torch.from_numpy(partition.kind[ids]).to(record["kind"])
        normal = torch.zeros_like(record["normal"])
        half = (partition.kind[ids] == HALF_SPACE).nonzero()[0]
        if len(half):
            rows = partition.normal[partition.normal_of[ids[half]]]
            normal[torch.from_numpy(half).to(normal.device)] = torch.from_numpy(rows).to(normal)
        chosen["normal"] = normal
    return record | chosen


def halves(tree: AbstractTree, record: Record, side: torch.Tensor) -> Record:  # (B,) 0 lower, 1 upper
    """Of each piece the child on this side of its cut."""
    children = tree.split(record)
    count = len(side)
    return select(children, torch.arange(count, device=side.device) + count * side.long())


def joined(records: list[Record], fill: dict[str, float]) -> Record:
    """Records one after the other, trailing dimensions brought to the longest."""
    joint = {}
    for name in records[0]:
        values = [record[name] for record in records]
        shape = [max(sizes) for sizes in zip(*(v.shape[1:] for v in values), strict=True)]
        whole = values[0].new_full((sum(len(v) for v in values), *shape), fill.get(name, 0))
        start = 0
        for v in values:
            whole[(slice(start, start + len(v)), *(slice(0, n) for n in v.shape[1:]))] = v
            start += len(v)
        joint[name] = whole
    return joint
