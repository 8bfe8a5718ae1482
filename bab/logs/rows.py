"""Is a part a table of rows as runs write them? Every number is checked before it is a size or an index.

`check_table` looks at each row of one part alone, on the Arrow table; `check_tree` at all rows together: every piece
is cut once, every child has one parent and came after it, and rows say of their piece what its parent's row does. What
it lets through is a forest whose pieces are numbered 0 to roots + 2 splits - 1 without a gap, so no count is ever
taken from a number in a row. A fault names file, row (counted from 0) and field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..trees.splits import HALF_SPACE, INPUT, NAMES, PHASE
from .format import CLOSED, COLUMNS, SPLIT, STATES, schema
from .table import Columns
from .volumes import WIDEST

Marks = NDArray[np.bool_]
LONGEST = 200  # characters of the name of what closed a piece
NAMED = 100  # such names, at most


class RowFault(Exception):
    """`row` of the part (or of all rows) in `field`: what is wrong."""

    def __init__(self, row: int, field: str, why: str) -> None:
        super().__init__(row, field, why)
        self.row, self.field, self.why = row, field, why

    def __str__(self) -> str:
        return f"row {self.row}, field {self.field}: {self.why}"


@dataclass(frozen=True, eq=False)
class Shape:
    """What a header says about the rows beside it."""

    roots: int
    inputs: int  # of the network
    layers: NDArray[np.int64]  # (L,) neurons of each
    kinds: tuple[str, ...]  # cuts that the run's tree makes
    single: bool  # cuts and normals are float32 numbers
    volumes: bool  # boxes have their volumes in the log

    @staticmethod
    def of(header: dict[str, Any]) -> Shape:
        tree, splits = header["strategy"]["tree"], header["strategy"]["splits"]
        phases, inputs = (NAMES[PHASE],), header["inputs"]
        kinds = {"phases": phases, "oracle": ()}.get(tree, NAMES if splits == "polyhedral" else (NAMES[INPUT], *phases))
        size = len(inputs[0]["lower"]) if inputs else 0
        mine = [inputs[goal["input"]] for goal in header["goals"]]
        boxes = tree == "regions" and size <= WIDEST and not any(one["half_spaces"] for one in mine)
        sizes = np.array([layer["size"] for layer in header["layers"]], dtype=np.int64)
        return Shape(len(header["goals"]), size, sizes, kinds, header["precision"] == "float32", boxes)


def check_table(table: Any, shape: Shape) -> None:
    """Raises `RowFault` for the first field of a part's table that no run writes so, `ValueError` where the table has
    other columns or types."""
    import pyarrow as pa

    expected = schema()
    if table.schema.names != expected.names:
        other = sorted(set(table.schema.names) ^ set(expected.names)) or ["in another order"]
        raise ValueError(f"its columns are not those of a log: {', '.join(other)}")
    for name in COLUMNS:
        found = table.schema.field(name).type
        found = found.value_type if pa.types.is_dictionary(found) else found
        if found != expected.field(name).type:
            raise ValueError(f"its column {name} holds {found}, not {expected.field(name).type}")
    _Table(table, shape).check()


class _Table:
    """One part's columns, absent entries apart."""

    def __init__(self, table: Any, shape: Shape) -> None:
        self.table, self.shape = table.combine_chunks(), shape
        self.absent = {
            name: column.is_null().to_numpy() if column.null_count else np.zeros(len(column), dtype=bool)
            for name, column in zip(COLUMNS, self.table.columns, strict=True)
        }

    def refuse(self, bad: Marks, field: str, why: str) -> None:
        if bad.any():
            row = int(bad.argmax())
            value = str(self.table[field][row].as_py())
            value = "null" if self.absent[field][row] else value if len(value) <= LONGEST else f"{value[:LONGEST]}..."
            raise RowFault(row, field, f"{value} is {why}")

    def there(self, field: str, where: Marks, when: str) -> None:
        """Refuses a field that is absent in the rows `where`, or there in others."""
        self.refuse(self.absent[field] & where, field, f"missing, where there must be a value ({when})")
        self.refuse(~self.absent[field] & ~where, field, f"there, where there must be none (not {when})")

    def values(self, field: str) -> NDArray:
        column = self.table[field]
        return (column.fill_null(0) if column.null_count else column).to_numpy()

    def words(self, field: str, known: tuple[str, ...] = ()) -> NDArray[np.int64]:
        """Each row's place among the known words, -1 where it is none of them or absent."""
        import pyarrow as pa
        import pyarrow.compute as pc

        column = self.table[field].cast(pa.string())
        return pc.fill_null(pc.index_in(column, pa.array(known, pa.string())), -1).to_numpy().astype(np.int64)

    def check(self) -> None:
        shape, every = self.shape, np.ones(len(self.table), dtype=bool)
        for field in ("id", "parent", "side", "depth", "goal", "state", "seconds", "share"):
            self.there(field, every, "in every row")
        state, kind = self.words("state", STATES), self.words("kind", NAMES)
        self.refuse(state < 0, "state", f"none of {', '.join(STATES)}")
        split = state == SPLIT
        self.there("by", state == CLOSED, "of closed pieces")
        self._check_names()
        for field in ("kind", "point", "child"):
            self.there(field, split, "of split pieces")
        of_tree = self.words("kind", shape.kinds)
        self.refuse(
            split & (of_tree < 0), "kind", f"no cut of this run, which makes {', '.join(shape.kinds) or 'none'}"
        )
        phase, half = kind == PHASE, kind == HALF_SPACE
        self.there("layer", phase, "of phase cuts")
        self.there("index", split & ~half, "of cuts of inputs and phases")
        self.there("normal", half, "of half-space cuts")
        self._check_numbers(phase)
        self._check_cuts(split, phase, half)

    def _check_names(self) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        column = self.table["by"].cast(pa.string())
        long = pc.fill_null(pc.greater(pc.utf8_length(column), LONGEST), False).to_numpy()
        self.refuse(long, "by", f"longer than {LONGEST} characters")
        if len(names := column.unique()) > NAMED:
            self.refuse(self.words("by", tuple(names.to_pylist()[-1:])) == 0, "by", f"a name after {NAMED} others")

    def _check_numbers(self, phase: Marks) -> None:
        shape = self.shape
        parent, side, depth = self.values("parent"), self.values("side"), self.values("depth")
        self.refuse(self.values("id") < 0, "id", "no number of a piece")
        self.refuse(parent < -1, "parent", "no number of a piece, and not -1")
        self.refuse((side < -1) | (side > 1) | ((side < 0) != (parent < 0)), "side", "no side that such a piece has")
        self.refuse((depth < 0) | ((depth == 0) != (parent < 0)), "depth", "no depth that such a piece has")
        goal = self.values("goal")
        self.refuse((goal < 0) | (goal >= shape.roots), "goal", f"the number of none of the {shape.roots} goals")
        for field, least in (("bound", -np.inf), ("seconds", 0.0), ("volume", 0.0)):
            value = self.values(field)
            bad = ~self.absent[field] & ~(np.isfinite(value) & (value >= least))
            self.refuse(bad, field, "no finite number" + (" of at least 0" if least == 0 else ""))
        self.refuse(self.values("share") != np.exp2(-depth.astype(np.float64)), "share", "not 2^-depth")
        layer, index = self.values("layer"), self.values("index")
        count = len(shape.layers)
        self.refuse(phase & ((layer < 0) | (layer >= count)), "layer", f"the number of none of the {count} layers")
        sizes = shape.layers[np.where(phase, layer, 0)] if count else np.zeros(len(phase), dtype=np.int64)
        self.refuse(phase & ((index < 0) | (index >= sizes)), "index", "the number of no neuron of its layer")
        at_input = ~phase & ~self.absent["index"]
        self.refuse(at_input & ((index < 0) | (index >= shape.inputs)), "index", f"none of {shape.inputs} inputs")

    def _check_cuts(self, split: Marks, phase: Marks, half: Marks) -> None:
        shape = self.shape
        point, child = self.values("point"), self.values("child")
        self.refuse(split & ~np.isfinite(point), "point", "no finite number")
        if shape.single:
            self.refuse(split & ~_single(point), "point", "no float32 number, as the cuts of this run are")
        first = child - shape.roots
        self.refuse(split & ((first < 0) | (first % 2 != 0)), "child", "no number of a lower child")
        if not half.any():
            return
        import pyarrow.compute as pc

        normals = self.table["normal"].combine_chunks()
        length = pc.fill_null(pc.list_value_length(normals), 0).to_numpy()
        self.refuse(half & (length != shape.inputs), "normal", f"not {shape.inputs} numbers long")
        flat = normals.drop_null().flatten()
        rows = half.nonzero()[0]
        bad = np.zeros(len(half), dtype=bool)
        holes = flat.is_null().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
        value = flat.fill_null(0.0).to_numpy().reshape(len(rows), -1)
        wrong = holes | ~np.isfinite(value) | (shape.single & ~_single(value))
        bad[rows] = wrong.any(1) | (value == 0).all(1)
        self.refuse(bad, "normal", "no normal of a half-space: finite numbers of the run's precision, not all 0")


def _single(value: NDArray) -> Marks:
    with np.errstate(over="ignore", invalid="ignore"):
        return value.astype(np.float32).astype(np.float64) == value


def check_tree(rows: Columns, shape: Shape) -> int:
    """How many pieces the rows of all parts speak of. Raises `RowFault`, its row one of all rows."""
    ids, child, split = rows["id"], rows["child"], rows["state"] == SPLIT
    cut = split.nonzero()[0]
    count = shape.roots + 2 * len(cut)

    def refuse(bad: Marks, field: str, why: str) -> None:
        if bad.any():
            row = int(bad.argmax())
            raise RowFault(row, field, f"{rows[field][row]} is {why}")

    refuse(ids >= count, "id", f"the number of no piece: the log has {count}")
    refuse(child + 1 >= count, "child", f"the number of no piece: the log has {count}")
    refuse(split & (child <= ids), "child", "not after its parent")
    place = (child[cut] - shape.roots) // 2
    refuse(_again(place, cut, len(ids)), "child", "another piece's child already")
    born = np.full(count, -1, dtype=np.int64)  # the row of each piece's parent
    born[child[cut]] = born[child[cut] + 1] = cut
    mine = born[ids]
    order = np.arange(len(ids))
    refuse(mine >= order, "id", "a piece that its parent's row comes after")
    final = (split | (rows["state"] == CLOSED)).nonzero()[0][::-1]
    ended = np.full(count, len(ids), dtype=np.int64)  # the first row in which a piece was split or closed
    ended[ids[final]] = final
    refuse(order > ended[ids], "id", "a piece that was split or closed before")
    root = mine < 0
    known = {
        "parent": (np.where(root, -1, ids[mine]), "not the piece whose child this one is"),
        "side": (np.where(root, -1, ids - child[mine]), "not the side of its parent that it is"),
        "depth": (np.where(root, 0, rows["depth"][mine].astype(np.int64) + 1), "not one more than its parent's"),
        "goal": (np.where(root, ids, rows["goal"][mine]), "not its parent's, or of a root not its number"),
    }
    for field, (value, why) in known.items():
        refuse(rows[field] != value, field, why)
    return count


def _again(numbers: NDArray[np.int64], at: NDArray[np.int64], count: int) -> Marks:
    """Marks (count,) of the rows `at` whose number occurred before."""
    marks = np.zeros(count, dtype=bool)
    _, first = np.unique(numbers, return_index=True)
    again = np.ones(len(numbers), dtype=bool)
    again[first] = False
    marks[at[again]] = True
    return marks


def check_volumes(rows: Columns, boxes: Marks, shape: Shape) -> None:
    """Volumes stand where pieces are boxes and nowhere else. `boxes` (count,): which pieces are."""
    there = np.isfinite(rows["volume"])
    expected = boxes[rows["id"]] & shape.volumes
    for bad, why in (
        (expected & ~there, "missing, but the piece is a box"),
        (
            there & ~expected,
            "there, but the piece is no box: a cut above it is of another kind than when it was written",
        ),
    ):
        if bad.any():
            raise RowFault(int(bad.argmax()), "volume", why)
