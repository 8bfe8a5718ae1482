"""A partition log read back: of a run that ended, of one that goes on, or of one that was killed.

The tree is rebuilt from the rows alone: every split row names its children, so pieces without a row of their own (open
when the run was killed) are known by their parent's. Ids are dense, 0 to count - 1; `Partition` is one array a column.

A part that cannot be read is refused, unless it is the last one of a log without footer: that is how a disk or a
machine that failed leaves it. Then it is left out, and `notes` says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...problems.errors import BadInput
from ..splits import HALF_SPACE, NAMES
from .format import CLOSED, FOOTER, FORMAT, HEADER, OPEN, PARTS, SPLIT, STATES, STUCK, about_part, part_path, read_json
from .table import ABSENT, Columns, columns_of

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Partition:
    """A tree of pieces, one entry a piece; see `log_format.COLUMNS`. Pieces without a row are open, with what their
    parents say of them."""

    header: dict[str, Any]
    footer: dict[str, Any] | None  # None: the run has not ended, or was killed
    names: list[str]  # what `by` counts
    parts: int
    rows: int
    notes: list[str]
    parent: Ints
    side: NDArray[np.int8]
    depth: NDArray[np.int32]
    goal: NDArray[np.int32]
    state: NDArray[np.int8]  # see `log_format.STATES`
    by: NDArray[np.int8]  # -1 where not closed
    bound: NDArray[np.float64]  # NaN where unknown
    seconds: NDArray[np.float64]  # NaN where there is no row
    volume: NDArray[np.float64]  # NaN where the piece is no box
    kind: NDArray[np.int8]  # see `splits.NAMES`; -1 for a leaf
    index: Ints  # phase: the neuron in the numbering of the whole network
    point: NDArray[np.float64]
    child: Ints
    normal: NDArray[np.float64] = field(repr=False)  # (half-space splits, D)
    normal_of: Ints = field(repr=False)  # (count,): the row of `normal`, -1 for other pieces

    @property
    def count(self) -> int:
        return len(self.parent)

    @property
    def roots(self) -> int:
        return len(self.header["goals"])

    @cached_property
    def leaves(self) -> Ints:
        return (self.state != SPLIT).nonzero()[0]

    @cached_property
    def closed(self) -> Ints:
        return (self.state == CLOSED).nonzero()[0]

    @cached_property
    def unsettled(self) -> Ints:
        """Open and stuck leaves."""
        return ((self.state == OPEN) | (self.state == STUCK)).nonzero()[0]

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken so far, as far as is known."""
        known = self.seconds[np.isfinite(self.seconds)]
        return max(float(known.max(initial=0.0)), self.footer["seconds"] if self.footer else 0.0)

    @property
    def weight(self) -> float:
        """The share of the tree that is closed."""
        return float(np.exp2(-self.depth[self.closed].astype(np.float64)).sum()) / self.roots

    def by_name(self) -> dict[str, int]:
        """How many leaves ended in which way."""
        counts = np.bincount(self.by[self.closed], minlength=len(self.names))
        found = {name: int(n) for name, n in zip(self.names, counts, strict=True) if n}
        rest = {STATES[code]: int((self.state == code).sum()) for code in (STUCK, OPEN)}
        return found | {name: n for name, n in rest.items() if n}

    def levels(self, wanted: NDArray[np.bool_] | None = None) -> Iterator[tuple[Ints, Ints, NDArray[np.int8]]]:
        """The tree from the roots down, a depth at a time, `wanted` pieces alone where given: their ids, the places of
        their parents among the ids before, and their sides."""
        ids = np.arange(self.roots)
        ids = ids if wanted is None else ids[wanted[ids]]
        rows, side = np.full(len(ids), -1), np.full(len(ids), -1, dtype=np.int8)
        while len(ids):
            yield ids, rows, side
            cut = (self.child[ids] >= 0).nonzero()[0]
            lower = self.child[ids[cut]]
            ids, rows = np.concatenate([lower, lower + 1]), np.concatenate([cut, cut])
            side = np.repeat(np.array([0, 1], dtype=np.int8), len(cut))
            if wanted is not None:
                keep = wanted[ids]
                ids, rows, side = ids[keep], rows[keep], side[keep]

    def above(self, ids: Ints) -> NDArray[np.bool_]:
        """Marks of these pieces and of all pieces above them."""
        marks = np.zeros(self.count, dtype=bool)
        while len(ids):
            marks[ids] = True
            ids = self.parent[ids]
            ids = np.unique(ids[ids >= 0])
            ids = ids[~marks[ids]]
        return marks


def read_log(folder: str | Path) -> Partition:
    """The partition that a log holds. Raises `BadInput` for what is no log, and for damage that no kill explains."""
    folder = Path(folder)
    header, footer = read_ends(folder)
    layers = np.array([layer["start"] for layer in header["layers"]], dtype=np.int64)
    names: list[str] = []
    parts, notes = _parts(folder, header, footer, names, layers)
    rows = sum(len(part["id"]) for part in parts)
    if footer is not None and rows != footer["rows"]:
        raise BadInput(
            f"the log {folder} is damaged: its parts hold {rows} rows, its footer speaks of {footer['rows']}"
        )
    return _assembled(folder, header, footer, names, parts, rows, notes)


def read_ends(folder: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The log's header, and its footer where it has one."""
    if not folder.is_dir():
        raise BadInput(f"the log {folder} does not exist" if not folder.exists() else f"{folder} is not a folder")
    if not (folder / HEADER).is_file():
        raise BadInput(f"{folder} is not a partition log: it has no {HEADER}")
    header = read_json(folder / HEADER, "header")
    written = header.get("format")
    if isinstance(written, int) and 0 < written < FORMAT:
        raise BadInput(
            f"the log {folder} has format {written}, which did not tell < from <=; this version reads format {FORMAT}: "
            "start a new log"
        )
    if written != FORMAT or "goals" not in header or "layers" not in header:
        raise BadInput(f"{folder} is not a partition log of format {FORMAT}, which is what this version reads")
    footer = read_json(folder / FOOTER, "footer") if (folder / FOOTER).exists() else None
    if footer is not None and not {"rows", "parts", "verdict", "seconds"} <= footer.keys():
        raise BadInput(f"the footer {folder / FOOTER} is damaged: it does not say how the run ended")
    return header, footer


def _parts(
    folder: Path, header: dict, footer: dict | None, names: list[str], layers: Ints
) -> tuple[list[Columns], list[str]]:
    """The parts' columns in their order, and what was left out."""
    numbers = sorted(int(path.stem.rsplit("-", 1)[1]) for path in folder.glob(PARTS))
    expected = len(numbers) if footer is None else footer["parts"]
    if numbers != list(range(expected)):
        missing = next(n for n in range(expected + 1) if n not in numbers)
        if missing < expected:
            raise BadInput(f"the log {folder} is damaged: the part {part_path(folder, missing).name} is missing")
        raise BadInput(f"the log {folder} is damaged: it has more parts than its footer says")
    found: list[Columns] = []
    for number in numbers:
        path = part_path(folder, number)
        try:
            found.append(_part(path, about_part(header, number), names, layers))
        except _Damaged as error:
            if footer is None and number == numbers[-1]:
                return found, [f"the last part, {path.name}, is damaged ({error}) and was left out: the run was killed"]
            raise BadInput(f"the log {folder} is damaged: the part {path.name} cannot be read ({error})") from None
    return found, []


class _Damaged(Exception):
    """Why a part cannot be read."""


def _part(path: Path, about: dict[str, Any], names: list[str], layers: Ints) -> Columns:
    """A part's columns; `BadInput` where it belongs to another run than the header."""
    import pyarrow
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, read_dictionary=["state", "by", "kind"])
        said = json.loads((table.schema.metadata or {})[b"partita"])
        if said == about:
            return columns_of(table, names, layers)
    except (pyarrow.ArrowException, OSError, KeyError, ValueError, IndexError) as error:
        raise _Damaged(" ".join(str(error).split())[:200] or type(error).__name__) from None
    raise BadInput(
        f"the part {path} was written by another run, or as another part, than the header beside it says; "
        "put the files of one run together again, or start a new log"
    )


def _assembled(
    folder: Path, header: dict, footer: dict | None, names: list[str], parts: list[Columns], rows: int, notes: list[str]
) -> Partition:
    """The rows put in their places, pieces without a row filled in."""

    def damaged(what: str) -> BadInput:
        return BadInput(f"the log {folder} is damaged: {what}")

    roots = len(header["goals"])
    count = max([roots, *(int(part["child"].max(initial=-2)) + 2 for part in parts)])
    columns: Columns = {name: np.full(count, absent, kind) for name, absent, kind in ABSENT if name != "id"}
    columns["state"][:], columns["seconds"][:] = OPEN, np.nan
    columns["normal_of"] = np.full(count, -1, dtype=np.int64)
    normals, placed = [], 0
    for part in parts:
        ids = part["id"]
        if len(ids) and not (ids.min() >= 0 and ids.max() < count):
            raise damaged("a row's piece has no parent")
        for name in columns:
            if name != "normal_of":
                columns[name][ids] = part[name]
        half = ids[part["kind"] == HALF_SPACE]
        columns["normal_of"][half] = placed + np.arange(len(half))
        placed += len(half)
        normals += [part["normal"]] if len(half) else []
    stated = {name: columns[name] for name in ("parent", "side", "depth", "goal")}
    known = np.isfinite(columns["seconds"])
    for name in stated:
        columns[name] = np.full(count, -1, dtype=stated[name].dtype)
    normal = np.concatenate(normals) if normals else np.zeros((0, 0))
    tree = Partition(header, footer, names, len(parts), rows, notes, **columns, normal=normal)
    if (tree.state >= len(STATES)).any() or (tree.kind >= len(NAMES)).any():
        raise damaged("a row holds a state or a kind of split that is not known")
    if ((tree.state == SPLIT) != (tree.child >= 0)).any():
        raise damaged("a piece that was split has no children")
    _linked(tree)
    if (tree.depth < 0).any():
        raise damaged("a piece has no parent")
    if any((stated[name] != columns[name])[known].any() for name in stated):
        raise damaged("a row contradicts the row of its parent")
    return tree


def _linked(tree: Partition) -> None:
    """Parents, sides, depths and goals, from the children that split rows name; bounds where no row has one."""
    before: Ints = np.zeros(0, dtype=np.int64)
    seen = 0
    for depth, (ids, rows, side) in enumerate(tree.levels()):
        seen += len(ids)
        if seen > tree.count or len(np.unique(ids)) < len(ids):
            break  # a piece with two parents: the caller sees that another has none
        tree.depth[ids], tree.side[ids] = depth, side
        if depth == 0:
            tree.goal[ids] = ids
        else:
            parents = before[rows]
            tree.parent[ids], tree.goal[ids] = parents, tree.goal[parents]
            bare = np.isnan(tree.bound[ids])
            tree.bound[ids[bare]] = tree.bound[parents[bare]]
        before = ids
