"""Logs that somebody edited, field by field: refused in one sentence with file, row and field, or right.

`edited` changes one field of one row of a valid log; with the chain of digests made anew, so that nothing but the rows
themselves can show it. Whatever it was: reading, check, report, resume and replay refuse it, or say what is true.
"""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from logs import forge, logged
from networks import barely
from test_log_believed import violated

import partita
from partita import replay
from partita.bab.logs.check import check, sampled
from partita.bab.logs.format import COLUMNS, encodings, schema
from partita.bab.logs.read import read_log
from partita.bab.pages.report import report
from partita.problems.errors import BadInput

SENTENCE = re.compile(r"pieces-\d{5}\.parquet, row \d+, field (\w+): .* is ")
DEEP = ("state", "kind", "point", "index", "by")  # what a search would act on
WILD = {
    "id": (-1, 99, 2**31 - 1, 2**62, None, "other"),
    "parent": (-2, 99, 2**31 - 1, None, "other"),
    "side": (-2, 2, 127, None, "other"),
    "depth": (-1, 2**31 - 1, None, "other"),
    "goal": (-1, 1, 2**31 - 1, None),
    "state": ("open", "closed", "split", "stuck", "finished", "", None),
    "by": (None, "x" * 1000, "crown"),
    "bound": (math.nan, math.inf, 1e300, None, 3.0),
    "seconds": (math.nan, -1.0, math.inf, None, 5.0),
    "share": (math.nan, 2.0, 0.0, None),
    "volume": (math.nan, -1.0, math.inf, None, 5.0),
    "kind": ("input", "half-space", "phase", "other", "", None),
    "layer": (-1, 99, 2**31 - 1, None, 1, 0),
    "index": (-1, 99, 2**31 - 1, None, 0, 1),
    "point": (math.nan, math.inf, 1e300, 0.1, None, 0.5, -7.0),
    "normal": (None, [], [1.0], [0.0, 0.0, 0.0], [math.nan, 1.0, 1.0], [0.1, 1.0, 1.0], [1.0, 1.0, None]),
    "child": (-1, 0, 2, 2**31 - 1, 2**62, None, "other"),
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Stopped runs of both trees, with half-spaces and phases; of properties that hold and of one that does not."""
    folder, found = tmp_path_factory.mktemp("edited"), []
    for number, (make, inputs, split) in enumerate(
        ((barely, 3, "polyhedral"), (violated, 3, "input"), (barely, 17, "auto"))
    ):
        graph, prop = make(1, inputs)
        verdict = "sat" if make is violated else "unsat"
        with pytest.MonkeyPatch.context() as patient:  # one part, however busy the machine is
            patient.setattr("partita.bab.logs.writer.FIRST", 1000.0)
            patient.setattr("partita.bab.logs.writer.LONGEST", 1000.0)
            logged(folder / str(number), graph, prop, max_pieces=40, batch=4, split=split)
        found.append((graph, prop, folder / str(number), verdict))
    return found


def edited(folder, chance: random.Random, field: str) -> None:
    """One value of one column changed, or two rows exchanged, doubled or left out."""
    path = folder / "pieces-00000.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    row = chance.randrange(len(rows))
    if field == "rows":
        other = chance.randrange(len(rows))
        match chance.randrange(3):
            case 0:
                rows[row], rows[other] = rows[other], rows[row]
            case 1:
                rows.insert(other, dict(rows[row]))
            case _:
                del rows[row]
    else:
        value = chance.choice(WILD[field])
        rows[row][field] = rows[chance.randrange(len(rows))][field] if value == "other" else value
    table = pa.Table.from_pylist(rows, schema=schema().with_metadata(table.schema.metadata))
    pq.write_table(table, path, **encodings())
    if (footer := folder / "footer.json").exists():
        footer.write_text(json.dumps(json.loads(footer.read_text()) | {"rows": len(rows)}))
    forge(folder)


def told(graph, prop, folder, verdict, deep: bool) -> str:
    """What becomes of an edited log: 'refused', or what its check says; asserts that nothing false is said."""
    try:
        tree = read_log(folder)
    except BadInput as error:
        said = str(error)
        assert "\n" not in said and SENTENCE.search(said), said
        return "refused"
    found = check(tree)
    if deep:
        assert report(folder)
    if not deep:
        return "good" if found.good else "bad"
    asked = sampled(tree, graph, prop, 60)
    again = replay(tree, graph, prop, timeout=2)
    outcome = partita.verify(graph, prop, resume=folder, max_pieces=60)
    assert outcome.verdict in (verdict, "unknown"), (outcome.verdict, outcome.reason)
    if verdict == "unsat" and found.good:
        assert asked.good and (again.good or again.reason == "timeout"), again
    return "good" if found.good else "bad"


@pytest.mark.parametrize("field", [*COLUMNS, "rows"])
def test_an_edited_field_is_refused_or_right(field, logs, tmp_path):
    chance = random.Random(field)
    for number in range(3 if field in DEEP else 6):
        graph, prop, folder, verdict = logs[number % 3]
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        edited(copy, chance, field)
        told(graph, prop, copy, verdict, deep=field in DEEP)


def named(folder, field: str, row: int, value, words: str) -> None:
    """The edit is refused with its file, row and field."""
    path = folder / "pieces-00000.parquet"
    before = path.read_bytes(), (folder / "digests.txt").read_bytes()
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[row][field] = value
    pq.write_table(pa.Table.from_pylist(rows, schema=schema().with_metadata(table.schema.metadata)), path)
    with pytest.raises(BadInput, match=rf"pieces-00000\.parquet, row {row}, field {field}: .*{words}"):
        read_log(folder)
    path.write_bytes(before[0])


def test_sizes_and_indices_are_refused_where_they_stand(logs):
    folder = logs[0][2]
    rows = pq.read_table(folder / "pieces-00000.parquet").to_pylist()
    first = {kind: next(k for k, row in enumerate(rows) if row["kind"] == kind) for kind in ("half-space", "phase")}
    cut = next(k for k, row in enumerate(rows) if row["child"])
    leaf = max(k for k, row in enumerate(rows) if not row["child"])
    tracemalloc.start()
    named(folder, "child", cut, 2**31 - 1, "2147483647 is the number of no piece")
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()
    named(folder, "id", leaf, 2**31 - 1, "2147483647 is the number of no piece")
    named(folder, "id", leaf, -1, "no number of a piece")
    named(folder, "goal", leaf, 7, "the number of none of the 1 goals")
    named(folder, "point", cut, 0.1, "no float32 number")
    named(folder, "point", cut, math.nan, "no finite number")
    named(folder, "point", leaf, 1.0, "there must be none")
    named(folder, "index", first["phase"], 99, "the number of no neuron of its layer")
    named(folder, "layer", first["phase"], 9, "the number of none of the 2 layers")
    named(folder, "normal", first["half-space"], [1.0], "not 3 numbers long")
    named(folder, "normal", first["half-space"], [0.0, 0.0, 0.0], "no normal of a half-space")
    named(folder, "state", leaf, "done", "none of split, closed")
    named(folder, "by", leaf, "x" * 300, "longer than|there must be none")
    named(folder, "share", leaf, 1.0, "not 2")
    named(folder, "seconds", leaf, -1.0, "no finite number of at least 0")
    named(folder, "bound", leaf, math.inf, "no finite number")
    phases = logs[2][2]
    cut = next(k for k, row in enumerate(pq.read_table(phases / "pieces-00000.parquet").to_pylist()) if row["child"])
    named(phases, "kind", cut, "input", "input is no cut of this run, which makes phase")


def test_a_cut_of_another_kind_is_noticed(logs, tmp_path):
    """From one kind that the run makes to another, with all that belongs to it: the volumes below know."""
    folder = tmp_path / "log"
    shutil.copytree(logs[0][2], folder)
    path = folder / "pieces-00000.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    cut = next(row for row in rows if row["kind"] == "phase")
    cut |= {"kind": "input", "layer": None, "index": 0}
    pq.write_table(pa.Table.from_pylist(rows, schema=schema().with_metadata(table.schema.metadata)), path)
    forge(folder)
    with pytest.raises(BadInput, match=r"field volume: missing, but the piece is a box"):
        read_log(folder)


HEADERS = [
    ("inputs", [], "goals.0..input: 0 is the number of none of the 0 input sets"),
    ("inputs", [{"lower": [], "upper": [], "half_spaces": []}], "inputs.0..lower: list is no input at all"),
    ("inputs", [{"lower": [0.0], "upper": [1.0, 2.0], "half_spaces": []}], "inputs.0..upper: list is not as long"),
    (
        "inputs",
        [{"lower": [math.nan], "upper": [1.0], "half_spaces": []}],
        "inputs.0..lower.0.: nan is no finite number",
    ),
    (
        "inputs",
        [{"lower": [10**400], "upper": [1.0], "half_spaces": []}],
        "inputs.0..lower.0.: 1000.* is no finite number",
    ),
    ("goals", [{"input": 2**31, "text": "", "strict": []}], "goals.0..input: 2147483648 is the number of none"),
    ("goals", {"a": 1}, "goals: dict is no list"),
    ("layers", [{"name": "", "kind": "Relu", "start": 0, "size": -1}], "layers.0..size: -1 is no whole number"),
    ("layers", [{"name": "", "kind": "Relu", "start": 5, "size": 1}], "layers.0..start: 5 is not 0"),
    ("config", {"search": {"batch": [[[]]]}}, "config.search.batch: list is no value"),
    ("config", 3, "config: 3 is no object"),
    ("strategy", {"tree": "oak"}, "strategy.tree: 'oak' is none of regions, phases, oracle"),
    ("strategy", None, "strategy: None is no object"),
    ("precision", "float8", "precision: 'float8' is none of float32, float64"),
    ("seed", True, "seed: True is no whole number"),
    ("run", [1], "run: list is no text"),
    ("versions", {"torch": {}}, "versions.torch: dict is no text"),
]


@pytest.mark.parametrize(("field", "value", "words"), HEADERS)
def test_headers_with_wild_values_are_refused_by_field(field, value, words, logs, tmp_path):
    header = json.loads((logs[0][2] / "header.json").read_text())
    (tmp_path / "header.json").write_text(json.dumps(header | {field: value}))
    with pytest.raises(BadInput, match=rf"header\.json, field {words}"):
        read_log(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 200_000, "nested too deeply|not JSON"),
        ('{"format": 3, "goals": 1, "layers": 1}', "has no field"),
        ("\0", "not JSON"),
    ],
)
def test_headers_that_are_no_json_of_a_log_are_refused(text, words, tmp_path):
    (tmp_path / "header.json").write_text(text)
    with pytest.raises(BadInput, match=words):
        read_log(tmp_path)


def test_footers_and_names_with_wild_values_are_refused(logs, tmp_path):
    folder = tmp_path / "log"
    shutil.copytree(logs[0][2], folder)
    footer = json.loads((folder / "footer.json").read_text())
    for field, value, words in (
        ("parts", 2**40, "no whole number from 0 to"),
        ("parts", 999_999, "pieces-00001.parquet is missing"),
        ("rows", -1, "no whole number"),
        ("rows", 3, "field rows, says 3"),
        ("seconds", math.inf, "no finite number"),
        ("verdict", "proved", "none of unsat, sat, unknown, timeout"),
        ("stats", {"a": [1]}, "no number and no text"),
    ):
        (folder / "footer.json").write_text(json.dumps(footer | {field: value}))
        with pytest.raises(BadInput, match=words):
            read_log(folder)
    (folder / "footer.json").write_text(json.dumps(footer))
    for name in ("pieces-x.parquet", "pieces-000000.parquet", "pieces-99999999999.parquet"):
        (folder / name).write_text("")
        with pytest.raises(BadInput, match="has a name that no run gives"):
            read_log(folder)
        (folder / name).unlink()
    (folder / "pieces-00000.parquet").rename(folder / "pieces-00001.parquet")
    with pytest.raises(BadInput, match=r"pieces-00000\.parquet is missing"):
        read_log(folder)
