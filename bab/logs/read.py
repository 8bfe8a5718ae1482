"""A partition log read back: of a run that ended, of one that goes on, or of one that was killed.

The tree is rebuilt from the rows alone: every split row names its children, so pieces without a row of their own (open
when the run was killed) are known by their parent's. Ids are dense, 0 to count - 1; `Partition` is one array a column.

A part that cannot be read is refused, unless it is the last one of a log without footer: that is how a disk or a
machine that failed leaves it. Then it is left out, and `notes` says so. What was edited is refused with file, row and
field where it contradicts anything (`declared`, `rows`); where it does not, the digests know (`doubts`).

A log costs at most 1 KiB of memory a row, and a row of a half-space 40 bytes an input more, whatever its files say.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...problems.errors import BadInput
from ..trees.splits import HALF_SPACE, INPUT
from .declared import check_footer, check_header
from .digests import Digests
from .format import (
    CLOSED,
    DIGESTS,
    FOOTER,
    FORMAT,
    HEADER,
    MOST_BYTES,
    MOST_PART,
    MOST_PARTS,
    MOST_ROWS,
    OPEN,
    PARTS,
    READABLE,
    SPLIT,
    STATES,
    STUCK,
    about_part,
    parsed,
    part_path,
    read_bytes,
    read_json,
)
from .rows import NAMED, RowFault, Shape, check_table, check_tree, check_volumes
from .table import ABSENT, Columns, columns_of

Ints = NDArray[np.int64]
Marks = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Partition:
    """A tree of pieces, one entry a piece; see `format.COLUMNS`. Pieces without a row are open, with what their
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
    state: NDArray[np.int8]  # see `format.STATES`
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
    row: Ints = field(repr=False)  # (count,): its last row, in all parts counted through; -1 where there is none
    starts: Ints = field(repr=False)  # (parts,): the first row of each part
    verified: Marks = field(repr=False)  # (count,): its row and those above it are what was written, by the digests
    doubts: tuple[str, ...] = ()  # a sentence for each part that the digests do not vouch for

    @property
    def count(self) -> int:
        return len(self.parent)

    @property
    def roots(self) -> int:
        return len(self.header["goals"])

    @cached_property
    def leaves(self) -> Ints:
        return np.flatnonzero(self.state != SPLIT)

    @cached_property
    def closed(self) -> Ints:
        return np.flatnonzero(self.state == CLOSED)

    @cached_property
    def unsettled(self) -> Ints:
        """Open and stuck leaves."""
        return np.flatnonzero((self.state == OPEN) | (self.state == STUCK))

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken so far, as far as is known."""
        known = self.seconds[np.isfinite(self.seconds)]
        return max(float(known.max(initial=0.0)), self.footer["seconds"] if self.footer else 0.0)

    @property
    def weight(self) -> float:
        """The share of the tree that is closed."""
        return float(np.exp2(-self.depth[self.closed].astype(np.float64)).sum()) / max(1, self.roots)

    def place(self, piece: int) -> str:
        """Where the log speaks of a piece."""
        row = int(self.row[piece])
        if row < 0:
            return f"piece {piece}, which has no row"
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return f"{part_path(Path(), part).name}, row {row - int(self.starts[part])}"

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
    shape = Shape.of(header)
    read = _Parts(folder, header, footer, shape)
    if footer is not None and read.rows != footer["rows"]:
        raise BadInput(
            f"the log {folder} is damaged: its parts hold {read.rows} rows, {FOOTER}, field rows, says {footer['rows']}"
        )
    try:
        return _assembled(header, footer, read, shape)
    except RowFault as fault:
        raise read.refused(fault) from None


def read_ends(folder: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The log's header, and its footer where it has one, checked field by field."""
    if not folder.is_dir():
        raise BadInput(f"the log {folder} does not exist" if not folder.exists() else f"{folder} is not a folder")
    if not (folder / HEADER).exists():
        raise BadInput(f"{folder} is not a partition log: it has no {HEADER}")
    content = read_bytes(folder / HEADER, "header", MOST_BYTES)
    header = parsed(content, folder / HEADER, "header")
    written = header.get("format")
    if written == 1:
        raise BadInput(
            f"the log {folder} has format 1, which did not tell < from <=; this version reads format {FORMAT}: "
            "start a new log"
        )
    if not isinstance(written, int) or written not in READABLE or "goals" not in header or "layers" not in header:
        raise BadInput(f"{folder} is not a partition log of format {FORMAT}, which is what this version reads")
    check_header(folder, header)
    digests = Digests.read(folder) if written == FORMAT else None
    if digests is not None and not digests.header(content):
        raise BadInput(f"the log {folder} is damaged: {HEADER} is not what the run wrote, by {DIGESTS}")
    footer = read_json(folder / FOOTER, "footer") if (folder / FOOTER).exists() else None
    if footer is not None:
        check_footer(folder, footer)
    return header, footer


class _Damaged(Exception):
    """Why a part cannot be read."""


class _Parts:
    """All parts in their order, one after the other."""

    def __init__(self, folder: Path, header: dict[str, Any], footer: dict[str, Any] | None, shape: Shape) -> None:
        self.folder, self.header, self.shape = folder, header, shape
        self.layers = np.array([layer["start"] for layer in header["layers"]], dtype=np.int64)
        self.names: list[str] = []
        self.notes: list[str] = []
        self.doubts: list[str] = []
        self.vouched: list[bool] = []
        digests = Digests.read(folder) if header["format"] == FORMAT else None
        found: list[Columns] = []
        numbers = _numbers(folder, footer)
        for number in range(numbers):
            path = part_path(folder, number)
            content = read_bytes(path, "part", MOST_PART)
            try:
                found.append(self._part(path, number, content))
            except _Damaged as error:
                if footer is None and number == numbers - 1:
                    self.notes.append(
                        f"the last part, {path.name}, is damaged ({error}) and was left out: the run was killed"
                    )
                    break
                raise BadInput(f"the log {folder} is damaged: the part {path.name} cannot be read ({error})") from None
            self._vouch(path.name, content, digests)
        self.sizes = [len(part["id"]) for part in found]
        self.starts = np.cumsum([0, *self.sizes], dtype=np.int64)[:-1] if found else np.zeros(0, dtype=np.int64)
        self.columns = {
            name: np.concatenate([part[name] for part in found]) if found else np.zeros(0, dtype=kind)
            for name, _, kind in ABSENT
        }
        normals = [part["normal"] for part in found if len(part["normal"])]
        self.normal = np.concatenate(normals) if normals else np.zeros((0, 0))

    @property
    def rows(self) -> int:
        return sum(self.sizes)

    def _vouch(self, name: str, content: bytes, digests: Digests | None) -> None:
        """What the digests say of a part."""
        if digests is None:
            self.vouched.append(False)
            if not self.doubts and self.header["format"] == FORMAT:
                self.doubts.append(f"{DIGESTS} is missing, so nothing vouches for the parts")
            return
        self.vouched.append(digests.vouches(name, content))
        if not self.vouched[-1]:
            self.doubts.append(digests.damage or f"{name} is not what the run wrote, by {DIGESTS}")
            digests.damage = ""

    def _part(self, path: Path, number: int, content: bytes) -> Columns:
        """A part's columns; `BadInput` where it belongs to another run than the header, or holds what no run writes."""
        import pyarrow
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(io.BytesIO(content), read_dictionary=["state", "by", "kind"])
            rows, most = file.metadata.num_rows, MOST_ROWS
            if not 0 <= rows <= most:
                raise ValueError(f"it speaks of {rows} rows, where {most} are the most")
            groups = [file.metadata.row_group(k) for k in range(file.metadata.num_row_groups)]
            held = sum(max(0, group.column(k).num_values) for group in groups for k in range(group.num_columns))
            if held > rows * (len(file.schema_arrow.names) + self.shape.inputs):
                raise ValueError(f"it speaks of {held} values in {rows} rows")
            table = file.read()
            said = json.loads((table.schema.metadata or {})[b"partita"])
            mine = said == about_part(self.header, number)
            if mine:
                check_table(table, self.shape)
                columns = columns_of(table, self.names, self.layers)
        except RowFault as fault:
            raise self._damaged(f"{path.name}, {fault}") from None
        except (pyarrow.ArrowException, OSError, KeyError, ValueError, IndexError, RecursionError) as error:
            raise _Damaged(" ".join(str(error).split())[:200] or type(error).__name__) from None
        if not mine:
            raise BadInput(
                f"the part {path} was written by another run, or as another part, than the header beside it says; "
                "put the files of one run together again, or start a new log"
            )
        if len(self.names) > NAMED:
            raise self._damaged(f"{path.name}, field by: there are more than {NAMED} names of what closes pieces")
        return columns

    def refused(self, fault: RowFault) -> BadInput:
        """A fault of all rows together, with its part."""
        part = int(np.searchsorted(self.starts, fault.row, side="right")) - 1
        name = part_path(self.folder, part).name
        return self._damaged(f"{name}, {RowFault(fault.row - int(self.starts[part]), fault.field, fault.why)}")

    def _damaged(self, what: str) -> BadInput:
        return BadInput(f"the log {self.folder} is damaged: {what}")


def _numbers(folder: Path, footer: dict[str, Any] | None) -> int:
    """How many parts there are; `BadInput` where one is missing, or none of a run."""
    numbers = []
    for path in folder.glob(PARTS):
        number = int(path.stem.partition("-")[2]) if re.fullmatch(r"pieces-\d{5,7}", path.stem) else -1
        if number < 0 or part_path(folder, number) != path:
            raise BadInput(f"the log {folder} is damaged: {path.name} has a name that no run gives")
        numbers.append(number)
    expected = len(numbers) if footer is None else footer["parts"]
    if len(numbers) > min(expected, MOST_PARTS):
        raise BadInput(f"the log {folder} is damaged: it has more parts than its footer says")
    missing = next((n for n, number in enumerate(sorted(numbers)) if n != number), len(numbers))
    if missing < expected:
        raise BadInput(f"the log {folder} is damaged: the part {part_path(folder, missing).name} is missing")
    return expected


def _assembled(header: dict[str, Any], footer: dict[str, Any] | None, read: _Parts, shape: Shape) -> Partition:
    """The rows put in their places, pieces without a row filled in."""
    rows = read.columns
    count, ids = check_tree(rows, shape), rows["id"]
    columns: Columns = {name: np.full(count, absent, kind) for name, absent, kind in ABSENT if name != "id"}
    columns["state"][:], columns["seconds"][:] = OPEN, np.nan
    for name in columns:
        columns[name][ids] = rows[name]
    half = (rows["kind"] == HALF_SPACE).nonzero()[0]
    columns["normal_of"] = np.full(count, -1, dtype=np.int64)
    columns["normal_of"][ids[half]] = np.arange(len(half))
    columns["row"] = np.full(count, -1, dtype=np.int64)
    columns["row"][ids] = np.arange(len(ids))
    cut = (rows["state"] == SPLIT).nonzero()[0]
    for side in (0, 1):  # also of the pieces that have no row
        below = rows["child"][cut] + side
        columns["parent"][below], columns["side"][below] = ids[cut], side
        columns["depth"][below], columns["goal"][below] = rows["depth"][cut] + 1, rows["goal"][cut]
    columns["goal"][: shape.roots] = np.arange(shape.roots)
    part = np.repeat(np.array(read.vouched, dtype=bool), read.sizes)
    own = np.ones(count, dtype=bool)  # a piece without a row claims nothing
    own[ids] = part
    own[ids[~part]] = False
    columns["verified"] = own
    tree = Partition(
        header,
        footer,
        read.names,
        len(read.sizes),
        read.rows,
        read.notes,
        **columns,
        normal=read.normal,
        starts=read.starts,
        doubts=tuple(read.doubts),
    )
    boxes = _inherited(tree)
    check_volumes(rows, boxes, shape)
    return tree


def _inherited(tree: Partition) -> Marks:
    """From the roots down: bounds where no row has one, and whether all rows above are verified. Which pieces are
    boxes."""
    boxes = np.ones(tree.count, dtype=bool)
    for ids, rows, _ in tree.levels():
        if rows.min(initial=0) < 0:
            continue
        parents = tree.parent[ids]
        bare = np.isnan(tree.bound[ids])
        tree.bound[ids[bare]] = tree.bound[parents[bare]]
        tree.verified[ids] &= tree.verified[parents]
        boxes[ids] = boxes[parents] & (tree.kind[parents] == INPUT)
    return boxes
