"""Rows of a log that contradict each other: each contradiction by itself, in a tree of seven pieces."""

from __future__ import annotations

import numpy as np
import pytest

from partita.bab.logs.format import CLOSED, OPEN, SPLIT
from partita.bab.logs.rows import RowFault, Shape, check_table, check_tree, check_volumes
from partita.bab.logs.table import ABSENT, Columns, table_of
from partita.bab.trees.splits import HALF_SPACE, INPUT, PHASE

SHAPE = Shape(1, 2, np.array([3, 2]), ("input", "half-space", "phase"), True, True)


def rows() -> Columns:
    """Root 0 is cut into 1 and 2, 1 into 3 and 4 by a half-space, 4 into 5 and 6 by a phase."""
    columns = {name: np.full(7, absent, kind) for name, absent, kind in ABSENT}
    columns["id"] = np.array([0, 1, 2, 4, 3, 6, 5])
    columns["parent"] = np.array([-1, 0, 0, 1, 1, 4, 4])
    columns["side"] = np.array([-1, 0, 1, 1, 0, 1, 0], dtype=np.int8)
    columns["depth"] = np.array([0, 1, 1, 2, 2, 3, 3], dtype=np.int32)
    columns["state"] = np.array([SPLIT, SPLIT, CLOSED, SPLIT, CLOSED, OPEN, CLOSED], dtype=np.int8)
    columns["by"] = np.array([-1, -1, 0, -1, 0, -1, 0], dtype=np.int8)
    columns["kind"] = np.array([INPUT, HALF_SPACE, -1, PHASE, -1, -1, -1], dtype=np.int8)
    columns["index"] = np.array([1, 0, 0, 4, 0, 0, 0])
    columns["point"] = np.array([0.5, 0.25, 0, -1.0, 0, 0, 0])
    columns["child"] = np.array([1, 3, -1, 5, -1, -1, -1])
    columns["volume"] = np.array([1.0, 0.5, 0.5, *[np.nan] * 4])
    columns["normal"] = np.array([[1.0, -2.0]])
    columns["seconds"] = np.arange(7.0)
    return columns


def test_the_tree_of_these_tests_is_one():
    assert check_tree(rows(), SHAPE) == 7
    check_table(table_of(rows(), ["crown"], np.array([0, 3])), SHAPE)
    check_volumes(rows(), np.array([True, True, True, False, False, False, False]), SHAPE)


@pytest.mark.parametrize(
    ("field", "row", "value", "at", "words"),
    [
        ("id", 6, 7, 6, "id: 7 is the number of no piece"),
        ("child", 3, 6, 3, "child: 6 is the number of no piece"),
        ("child", 3, 3, 3, "child: 3 is not after its parent"),
        ("child", 0, 3, 1, "child: 3 is another piece's child already"),
        ("id", 4, 5, 6, "id: 5 is a piece that was split or closed before"),
        ("parent", 2, 1, 2, "parent: 1 is not the piece"),
        ("side", 2, 0, 2, "side: 0 is not the side"),
        ("depth", 5, 2, 5, "depth: 2 is not one more"),
        ("goal", 2, 1, 2, "goal: 1 is not its parent's"),
        ("goal", 0, 1, 0, "goal: 1 is not its parent's, or of a root not its number"),
    ],
)
def test_contradictions_between_rows_are_found(field, row, value, at, words):
    columns = rows()
    columns[field][row] = value
    with pytest.raises(RowFault) as found:
        check_tree(columns, SHAPE)
    assert found.value.row == at and f"row {at}, field {words}" in str(found.value)


def exchanged(columns: Columns, order: list[int]) -> Columns:
    return {name: values if name == "normal" else values[order] for name, values in columns.items()}


def test_rows_come_in_the_order_in_which_pieces_end():
    """No piece before the one it was cut from, and none after it was split or closed."""
    for order, words in (
        ([1, 0, 2, 3, 4, 5, 6], "id: 1 is a piece that its parent's row comes after"),
        ([0, 1, 2, 3, 4, 5, 6, 2], "id: 2 is a piece that was split or closed before"),
        ([0, 1, 1, 2, 3, 4, 5, 6], "already|split or closed before"),
    ):
        with pytest.raises(RowFault, match=words):
            check_tree(exchanged(rows(), order), SHAPE)
    again = exchanged(rows(), [0, 1, 2, 3, 4, 5, 6, 5])  # a piece that stayed open may end again
    again["state"][7], again["by"][7] = CLOSED, 0
    assert check_tree(again, SHAPE) == 7


@pytest.mark.parametrize(
    ("field", "row", "value", "words"),
    [
        ("id", 0, -1, "id: -1 is no number of a piece"),
        ("parent", 1, -2, "parent: -2 is no number"),
        ("side", 1, 2, "side: 2 is no side"),
        ("side", 0, 1, "side: 1 is no side that such a piece has"),
        ("side", 1, -1, "side: -1 is no side that such a piece has"),
        ("depth", 0, 1, "depth: 1 is no depth"),
        ("depth", 1, 0, "depth: 0 is no depth"),
        ("goal", 2, 1, "goal: 1 is the number of none of the 1 goals"),
        ("goal", 2, -1, "goal: -1 is the number of none"),
        ("seconds", 2, -1.0, "seconds: -1.0 is no finite number of at least 0"),
        ("index", 0, 2, "index: 2 is none of 2 inputs"),
        ("index", 0, -1, "index: -1 is none of 2 inputs"),
        ("index", 3, 5, "index: 2 is the number of no neuron of its layer"),
        ("point", 0, np.nan, "point: nan is no finite number"),
        ("point", 3, 0.1, "point: 0.1 is no float32 number"),
        ("child", 0, 2, "child: 2 is no number of a lower child"),
        ("child", 0, 0, "child: 0 is no number of a lower child"),
        ("normal", 0, [0.0, 0.0], "normal: .* is no normal of a half-space"),
        ("normal", 0, [0.1, 1.0], "normal: .* is no normal of a half-space"),
        ("normal", 0, [np.inf, 1.0], "normal: .* is no normal of a half-space"),
        ("state", 6, OPEN, "by: crown is there, where there must be none"),
        ("by", 6, -1, "by: null is missing"),
        ("state", 2, SPLIT, "by: crown is there"),
    ],
)
def test_numbers_that_are_none_are_found(field, row, value, words):
    columns = rows()
    columns[field][row] = value
    with pytest.raises(RowFault, match=words):
        check_table(table_of(columns, ["crown"], np.array([0, 3])), SHAPE)


@pytest.mark.parametrize("kinds", [("input", "phase"), ("input", "half-space"), ("half-space", "phase"), ()])
def test_cuts_of_a_kind_that_the_tree_does_not_make_are_found(kinds):
    other = Shape(1, 2, SHAPE.layers, kinds, True, True)
    missing = next(name for name in ("input", "half-space", "phase") if name not in kinds)
    with pytest.raises(RowFault, match=f"kind: {missing} is no cut of this run"):
        check_table(table_of(rows(), ["crown"], np.array([0, 3])), other)


def test_shares_are_those_of_the_depths():
    table = table_of(rows(), ["crown"], np.array([0, 3]))
    import pyarrow as pa

    share = table["share"].to_pylist()
    share[4] = 0.5
    table = table.set_column(table.column_names.index("share"), "share", pa.array(share, pa.float64()))
    with pytest.raises(RowFault, match=r"row 4, field share: 0\.5 is not 2\^-depth"):
        check_table(table, SHAPE)


def test_volumes_stand_where_pieces_are_boxes():
    boxes = np.array([True, True, True, False, False, False, False])
    columns = rows()
    columns["volume"][2] = np.nan
    with pytest.raises(RowFault, match="row 2, field volume: missing, but the piece is a box"):
        check_volumes(columns, boxes, SHAPE)
    columns["volume"][2], columns["volume"][4] = 0.5, 0.125
    with pytest.raises(RowFault, match="row 4, field volume: there, but the piece is no box"):
        check_volumes(columns, boxes, SHAPE)


def test_what_a_run_writes_follows_from_its_header():
    header = {
        "strategy": {"tree": "regions", "splits": "input"},
        "inputs": [{"lower": [0.0] * 3, "half_spaces": []}, {"lower": [0.0] * 3, "half_spaces": ["x0 <= 0"]}],
        "goals": [{"input": 0}, {"input": 0}],
        "layers": [{"size": 4}],
        "precision": "float32",
    }
    found = Shape.of(header)
    assert (found.roots, found.inputs, found.kinds) == (2, 3, ("input", "phase")) and found.single and found.volumes
    assert not Shape.of(header | {"goals": [{"input": 1}]}).volumes
    assert not Shape.of(header | {"precision": "float64"}).single
    for strategy, kinds in (
        ({"tree": "regions", "splits": "polyhedral"}, ("input", "half-space", "phase")),
        ({"tree": "phases", "splits": "auto"}, ("phase",)),
        ({"tree": "oracle", "splits": "auto"}, ()),
    ):
        other = Shape.of(header | {"strategy": strategy})
        assert other.kinds == kinds and other.volumes == (strategy["tree"] == "regions")
