"""The partition log: what is written, read back, checked and proved again, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from logs import forge, logged
from networks import barely, random_graph, random_property
from search import Recorded, filled

import partita
from partita.bab.config import load_config
from partita.bab.logs.boxes import box_levels
from partita.bab.logs.check import check, leaves_of, sampled
from partita.bab.logs.format import CLOSED, COLUMNS, OPEN, SPLIT
from partita.bab.logs.header import graph_hash, header_of, property_hash
from partita.bab.logs.observer import PartitionLog, locked_folder
from partita.bab.logs.read import read_log
from partita.bab.logs.table import columns_of, joined, table_of
from partita.bab.logs.volumes import Volumes
from partita.bab.replay import replay
from partita.bab.search.observer import Observer
from partita.bab.strategy import choose
from partita.bab.trees.records import Record, Region
from partita.bab.trees.splits import HALF_SPACE, INPUT, PHASE
from partita.problems.errors import BadInput
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet

SPLITS = ("auto", "input", "polyhedral", "activation")


@pytest.fixture(autouse=True)
def no_parts_by_time(monkeypatch):
    """However busy the machine is, parts are written by rows alone."""
    for name in ("FIRST", "LONGEST"):
        monkeypatch.setattr(f"partita.bab.logs.writer.{name}", 1000.0)


# ---- what is written


@pytest.mark.parametrize(("inputs", "split"), [*((3, split) for split in SPLITS), (17, "auto")])
def test_the_tree_in_the_log_is_the_tree_of_the_run(inputs, split, tmp_path):
    kinds = set()
    for seed in range(3):
        graph, prop = barely(seed, inputs, sets=1 + seed % 2, halfspaces=seed % 2)
        outcome, record, tree = logged(tmp_path / str(seed), graph, prop, split=split, max_pieces=300)
        assert {
            i: (int(tree.child[i]), int(tree.child[i]) + 1) for i in (tree.state == SPLIT).nonzero()[0]
        } == record.children
        assert {int(i): tree.names[tree.by[i]] for i in tree.closed} == {
            i: h for i, h in record.leaves.items() if h != "stuck"
        }
        for i, split_ in record.splits.items():
            assert (tree.kind[i], tree.point[i]) == (split_["kind"], split_["point"])
            if split_["kind"] == HALF_SPACE:
                np.testing.assert_array_equal(tree.normal[tree.normal_of[i]], split_["normal"])
            else:
                assert tree.index[i] == split_["index"]
        for i, bound in record.bounds.items():
            assert tree.bound[i] == bound or not np.isfinite(bound)
            assert tree.depth[i] == record.depths[i]
        assert tree.footer["verdict"] == outcome.verdict and tree.footer["rows"] == tree.rows
        kinds |= set(tree.kind[tree.kind >= 0].tolist())
    assert (
        kinds
        >= {"auto": set(), "input": {INPUT}, "polyhedral": {INPUT, HALF_SPACE, PHASE}, "activation": {PHASE}}[split]
    )


def test_rows_and_header_say_what_they_should(tmp_path):
    graph, prop = barely(1)
    outcome, _, tree = logged(tmp_path / "log", graph, prop, config={"split": "polyhedral", "seed": 7})
    table = pq.read_table(tmp_path / "log" / "pieces-00000.parquet")
    assert table.column_names == list(COLUMNS)
    rows = table.to_pylist()
    assert len(rows) == outcome.pieces == tree.count
    starts = [layer.span.start for layer in graph.layers]
    for row in rows:
        assert row["share"] == 2.0 ** -row["depth"]
        assert (row["state"] == "closed") == (row["by"] is not None)
        assert (row["state"] == "split") == (row["kind"] is not None) == (row["child"] is not None)
        assert (row["kind"] == "half-space") == (row["normal"] is not None)
        if row["kind"] == "phase":
            assert starts[row["layer"]] + row["index"] == tree.index[row["id"]]
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        if row["parent"] >= 0:
            assert row["id"] == by_id[row["parent"]]["child"] + row["side"]
    header = json.loads((tmp_path / "log" / "header.json").read_text())
    said = json.loads(table.schema.metadata[b"partita"])
    assert said["network"] == header["network"] and said["part"] == 0
    assert header["network"]["graph"] == graph_hash(graph) and header["property"]["hash"] == property_hash(prop)
    assert header["seed"] == 7 and header["config"]["split"] == "polyhedral" and header["precision"] == "float32"
    assert len(header["goals"]) == 1 and "y0" in header["goals"][0]["text"]
    assert json.loads((tmp_path / "log" / "footer.json").read_text())["verdict"] == outcome.verdict


def test_a_log_changes_nothing(tmp_path):
    """The same tree with the log as without it."""
    graph, prop = barely(1)
    stories = []
    for log in (None, tmp_path / "log"):
        record = Recorded()
        partita.verify(graph, prop, observers=[record], log=log, attack="off")
        stories.append((record.story(), record.leaves))
    assert stories[0] == stories[1] and len(stories[0][0]) > 5


def test_verdicts_without_a_tree_leave_a_log_too(tmp_path):
    graph, prop = barely(2)
    for name, options in {"attacked": {"attack": "on"}, "exact": {"relaxation": "exact"}}.items():
        outcome = partita.verify(graph, prop, log=tmp_path / name, **options)
        tree = read_log(tmp_path / name)
        assert tree.footer["verdict"] == outcome.verdict and check(tree).good
        assert tree.count >= tree.roots == 1


@pytest.mark.parametrize("relaxation", ["triangle", "m-1", "ibp", "deeppoly-1"])
def test_leaves_name_what_closed_them(relaxation, tmp_path):
    graph, prop = barely(2)
    _, _, tree = logged(tmp_path / "log", graph, prop, relaxation=relaxation, max_pieces=60)
    found = tree.by_name()
    first = {"triangle": "crown", "m-1": "crown"}.get(relaxation, relaxation)
    assert set(found) <= {first, relaxation, "empty", "float64", "linear program", "open"}
    assert first in found or relaxation in found
    assert (relaxation in found) == (relaxation in ("triangle", "m-1") or (relaxation == first and first in found))


def test_input_sets_proved_empty_before_the_search_are_no_goals(tmp_path):
    """An unsafe set without rows over half-spaces that leave no point: dropped, from the log as well."""
    graph, prop = barely(1)
    box = prop.cases[0].inputs
    normals = np.array([[1.0, 0, 0], [-1.0, 0, 0]])
    nothing = Polytope(box.lower, box.upper, normals, np.array([box.lower[0] + 1, -box.upper[0] + 1]))
    everything = UnsafeSet(np.zeros((0, 2)), np.zeros(0))
    both = Property((Case(nothing, (everything,)), *prop.cases), 3, 2)
    outcome, _, tree = logged(tmp_path / "log", graph, both, max_pieces=9, batch=4)
    assert tree.roots == 1 and check(tree).good and outcome.verdict == "unknown"
    assert partita.verify(graph, both, resume=tmp_path / "log").verdict == "unsat"
    assert replay(tmp_path / "log", graph, both).good


def test_volumes_are_those_of_the_boxes(tmp_path):
    """Smooth neurons are never decided, so all pieces are boxes."""
    graph = random_graph(1, "sigmoid", inputs=3, width=6, depth=2)
    prop = random_property(1, graph, radius=2.0, sets=2)
    _, _, tree = logged(tmp_path / "log", graph, prop, split="input", relaxation="ibp", max_pieces=200)
    box = prop.cases[0].inputs
    whole = (box.upper - box.lower).prod()
    np.testing.assert_allclose(tree.volume[:2], whole)
    found = np.zeros(tree.count)
    for ids, low, high, boxes in box_levels(tree, *(np.tile(s, (2, 1)) for s in (box.lower, box.upper))):
        assert boxes.all()
        found[ids] = (high - low).prod(1)
    known = np.isfinite(tree.volume)
    assert known.sum() > 50
    np.testing.assert_allclose(tree.volume[known], found[known])
    assert np.bincount(tree.goal[tree.leaves], found[tree.leaves]) == pytest.approx([whole, whole])
    assert check(tree).facts["roots whose volumes add up"] == 2


def test_slots_of_boxes_are_used_again():
    volumes = Volumes(np.array([0]), np.zeros((1, 2)), np.ones((1, 2)), np.ones((1, 2), dtype=bool), 1)
    ids, one = np.array([0]), np.array([True])
    for step in range(200):
        child = np.array([1 + 2 * step])
        volumes.split(ids, child, np.array([step % 2]), np.array([0.5 ** (step // 2 + 1)]), one)
        assert volumes.of(child, np.zeros(1, dtype=int))[0] == pytest.approx(0.5 ** (step + 1))
        volumes.end(child + 1)
        ids = child
    assert len(volumes.lower) < 8
    volumes.split(ids, ids + 2, np.array([0]), np.array([0.0]), ~one)
    assert np.isnan(volumes.of(ids + 2, np.zeros(1, dtype=int))).all()


def test_tables_come_back_as_they_went_in():
    random = np.random.default_rng(0)
    layers, names = np.array([0, 4, 9]), ["crown", "empty"]
    batches = []
    for first in (0, 50):
        kind = random.integers(-1, 3, 50)
        base = {"id": first + np.arange(50), "parent": random.integers(-1, 40, 50), "side": random.integers(-1, 2, 50)}
        base |= {"depth": random.integers(0, 9, 50), "goal": 0, "state": 0, "by": random.integers(-1, 2, 50)}
        base |= {"bound": random.normal(size=50), "seconds": 1.5, "kind": kind, "point": np.where(kind < 0, 0, 1.25)}
        base |= {"index": np.where((kind == HALF_SPACE) | (kind < 0), 0, random.integers(0, 12, 50))}
        batches.append(
            base | {"child": np.where(kind < 0, -1, 7), "normal": random.normal(size=(int((kind == 1).sum()), 3))}
        )
    columns = joined(batches)
    back = columns_of(table_of(columns, names, layers), names, layers)
    assert names == ["crown", "empty"]
    for name, values in columns.items():
        np.testing.assert_array_equal(back[name], values, err_msg=name)


def test_parts_are_whole_and_written_as_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("partita.bab.logs.observer.ROWS", 8)
    graph, prop = barely(1)
    outcome, record, tree = logged(tmp_path / "log", graph, prop, batch=4)
    assert tree.parts > 3 and tree.count == outcome.pieces
    assert len(tree.closed) == len(record.leaves) and check(tree).good
    assert not list((tmp_path / "log").glob("*.tmp"))


def test_many_pieces_cost_little(tmp_path):
    """Disk: less than 100 bytes a piece, which is 1 GB for ten million."""
    graph, prop = barely(1)
    header = header_of((graph, prop), graph, prop, load_config(), choose(graph, load_config()))
    log = PartitionLog(tmp_path / "log", header, locked_folder(tmp_path / "log"))
    random = torch.Generator().manual_seed(0)
    count, pieces = 4096, 0
    log.rooted(filled(Record, torch.zeros(1)))
    for step in range(20):
        ids = torch.arange(count) + pieces
        bound, point = torch.randn(2, count, generator=random)
        record = filled(
            Region,
            bound,
            id=ids,
            parent=ids // 2,
            depth=ids % 30,
            cut_kind=ids % 2 * 2,
            cut_index=ids % 3,
            cut_point=point,
        )
        if step % 2:
            log.branched(record, filled(Region, torch.zeros(2 * count), id=torch.arange(2 * count) + pieces))
        else:
            log.closed(record, "crown")
        pieces += count
    log.close()
    size = sum(path.stat().st_size for path in (tmp_path / "log").glob("*.parquet"))
    assert log.rows == pieces and size < 40 * pieces


# ---- checks


def fault(tree, **changes) -> str:
    """What the check says of a changed log."""
    from dataclasses import replace

    report = check(replace(tree, **changes))
    assert not report.good
    return report.faults[0]


def test_the_check_finds_what_is_wrong(tmp_path):
    graph, prop = barely(1)
    _, _, tree = logged(tmp_path / "log", graph, prop, split="input")
    assert check(tree).good and check(tree).facts["roots whose volumes add up"] == 1
    point, index, volume = tree.point.copy(), tree.index.copy(), tree.volume.copy()
    point[0] = np.nan
    assert "no cuts" in fault(tree, point=point)
    index[0] = 99
    assert "no cuts" in fault(tree, index=index)
    point[0] = 1e6
    assert "outside the piece" in fault(tree, point=point) and "field point" in fault(tree, point=point)
    volume[tree.leaves[0]] *= 1.01
    assert "volumes are not those" in fault(tree, volume=volume)
    kind = tree.kind.copy()
    kind[0] = HALF_SPACE
    assert f"no cuts, the first that of piece 0 (pieces-00000.parquet, row {tree.row[0]})" in fault(tree, kind=kind)
    assert "nothing vouches" in fault(tree, doubts=("nothing vouches",))
    state = tree.state.copy()
    state[tree.leaves[0]] = OPEN
    assert "field verdict, says unsat, but 1 leaves are open" in fault(tree, state=state)
    depth = tree.depth.copy()
    depth[tree.leaves[-1]] += 1
    assert "not 1" in fault(tree, depth=depth)


def test_points_lie_in_one_leaf_and_counterexamples_in_no_closed_one(tmp_path):
    for split in SPLITS:
        graph, prop = barely(1)
        _, _, tree = logged(tmp_path / split, graph, prop, split=split, max_pieces=100)
        report = sampled(tree, graph, prop, 500)
        assert report.good and report.facts["points, each in one leaf"] > 450
        state = tree.state.copy()
        state[tree.leaves] = CLOSED
        from dataclasses import replace

        case = prop.cases[0]
        unsafe = replace(case.unsafe[0], constants=case.unsafe[0].constants - 100.0)  # every point is unsafe
        worse = replace(prop, cases=(replace(case, unsafe=(unsafe,)),))
        assert "counterexamples lie in closed leaves" in sampled(replace(tree, state=state), graph, worse, 50).faults[0]


def test_a_point_on_a_cut_lies_in_both_leaves(tmp_path):
    graph, prop = barely(1)
    _, _, tree = logged(tmp_path / "log", graph, prop, split="input")
    x = (prop.cases[0].inputs.lower + 0.37 * (prop.cases[0].inputs.upper - prop.cases[0].inputs.lower))[None]
    assert [len(a) for a in leaves_of(tree, 0, x, np.zeros((1, 0)))[:2]] == [1, 1]
    x[0, tree.index[0]] = tree.point[0]
    rows, leaves, near = leaves_of(tree, 0, x, np.zeros((1, 0)))
    assert len(set(leaves.tolist())) == len(rows) == 2 and near.tolist() == [True]


@pytest.mark.parametrize(("inputs", "split"), [(3, "auto"), (3, "polyhedral"), (3, "activation"), (17, "auto")])
def test_every_closed_leaf_closes_again(inputs, split, tmp_path):
    claimed = 0
    for seed in range(3):
        graph, prop = barely(seed, inputs)
        _, _, tree = logged(tmp_path / f"{seed}", graph, prop, split=split, max_pieces=200)
        report = replay(tmp_path / f"{seed}", graph, prop)
        assert report.good, report
        assert report.leaves == len(tree.closed) == report.again + report.above + report.further
        claimed += report.leaves
    assert claimed > 10


def test_a_leaf_that_was_never_proved_does_not_close(tmp_path):
    """A log that calls everything closed though the property is violated."""
    from dataclasses import replace

    graph, prop = barely(3)
    assert partita.verify(graph, prop).verdict == "sat"
    _, _, tree = logged(tmp_path / "log", graph, prop, max_pieces=40)
    state, by = tree.state.copy(), tree.by.copy()
    state[tree.leaves], by[tree.leaves] = CLOSED, 0
    report = replay(replace(tree, state=state, by=by), graph, prop, timeout=5)
    assert not report.good and report.open > 0 and report.reason


# ---- what is refused, and what goes wrong


def test_what_is_no_log_is_refused(tmp_path):
    graph, prop = barely(1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for name, words in (("missing", "does not exist"), ("empty", "not a partition log"), ("file", "is not a folder")):
        with pytest.raises(BadInput, match=words):
            read_log(tmp_path / name)
    logged(tmp_path / "log", graph, prop)
    with pytest.raises(BadInput, match="holds a log already"):
        partita.verify(graph, prop, log=tmp_path / "log")
    with pytest.raises(BadInput, match="cannot be written"):
        partita.verify(graph, prop, log=tmp_path / "file" / "log")


def damaged_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("partita.bab.logs.observer.ROWS", 8)
    graph, prop = barely(1)
    logged(tmp_path / "log", graph, prop, batch=4)
    return sorted((tmp_path / "log").glob("*.parquet")), tmp_path / "log"


def test_damage_is_refused_unless_a_kill_explains_it(tmp_path, monkeypatch):
    parts, folder = damaged_parts(tmp_path, monkeypatch)
    whole = read_log(folder)
    last = parts[-1].read_bytes()
    for content in (last[: len(last) // 2], b"", b"PAR1" + b"\0" * 200 + b"PAR1"):
        parts[-1].write_bytes(content)
        with pytest.raises(BadInput, match=rf"{parts[-1].name} cannot be read"):
            read_log(folder)
    footer = (folder / "footer.json").read_text()
    (folder / "footer.json").unlink()
    tree = read_log(folder)
    assert parts[-1].name in tree.notes[0] and tree.parts == len(parts) - 1 and tree.rows < whole.rows
    assert check(tree).good
    parts[1].write_bytes(b"nothing")
    with pytest.raises(BadInput, match=r"pieces-00001.parquet cannot be read"):
        read_log(folder)
    parts[1].unlink()
    with pytest.raises(BadInput, match=r"pieces-00001.parquet is missing"):
        read_log(folder)
    for content, words in (("{", "not JSON"), ("[]", "not a JSON object"), ("{}", "no field verdict")):
        (folder / "footer.json").write_text(content)
        with pytest.raises(BadInput, match=words):
            read_log(folder)
    (folder / "footer.json").write_text(footer)
    (folder / "header.json").write_text('{"format": 99}')
    with pytest.raises(BadInput, match="not a partition log of format"):
        read_log(folder)


def test_rows_that_contradict_each_other_are_refused(tmp_path):
    import pyarrow as pa

    graph, prop = barely(1)
    logged(tmp_path / "log", graph, prop)
    path = tmp_path / "log" / "pieces-00000.parquet"
    table = pq.read_table(path)

    def changed(name: str, values) -> None:
        at = table.column_names.index(name)
        pq.write_table(
            table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type)), path
        )

    depth = table["depth"].to_numpy().copy()
    depth[-1] += 1
    changed("depth", depth)
    with pytest.raises(
        BadInput, match=rf"pieces-00000.parquet, row {len(depth) - 1}, field share: .* is not 2\^-depth"
    ):
        read_log(tmp_path / "log")
    child = table["child"].to_pylist()
    cut = [i for i, c in enumerate(child) if c is not None]
    child[cut[-1]] = child[cut[-2]]
    changed("child", child)
    with pytest.raises(BadInput, match=rf"row {cut[-1]}, field child: .* is another piece's child already"):
        read_log(tmp_path / "log")
    pq.write_table(table.drop_columns(["bound"]), path)
    with pytest.raises(BadInput, match="cannot be read"):
        read_log(tmp_path / "log")


def test_another_network_or_property_is_refused(tmp_path):
    graph, prop = barely(1)
    logged(tmp_path / "log", graph, prop)
    other, another = barely(4)
    with pytest.raises(BadInput, match="another network"):
        replay(tmp_path / "log", other, prop)
    with pytest.raises(BadInput, match="another property"):
        replay(tmp_path / "log", graph, another)
    moved = Polytope(prop.cases[0].inputs.lower, np.nextafter(prop.cases[0].inputs.upper, np.inf))
    object.__setattr__(prop.cases[0], "inputs", moved)
    with pytest.raises(BadInput, match="another property"):
        replay(tmp_path / "log", graph, prop)


def test_a_log_that_another_version_would_read_otherwise_is_refused(tmp_path):
    """Another numbering of neurons, or another kind of tree: its cuts would mean something else."""
    graph, prop = barely(1)
    logged(tmp_path / "log", graph, prop, max_pieces=9, batch=4)
    path = tmp_path / "log" / "header.json"
    header = json.loads(path.read_text())
    for change, words in (
        ({"layers": [layer | {"kind": "Sigmoid"} for layer in header["layers"]]}, "neurons"),
        ({"strategy": header["strategy"] | {"tree": "phases"}}, "phases"),
    ):
        path.write_text(json.dumps(header | change))
        with pytest.raises(BadInput, match=r"header\.json is not what the run wrote"):
            read_log(tmp_path / "log")
        forge(tmp_path / "log")
        for act in (
            lambda: partita.verify(graph, prop, resume=tmp_path / "log"),
            lambda: replay(tmp_path / "log", graph, prop),
        ):
            with pytest.raises(BadInput, match=words):
                act()


def test_a_full_disk_ends_the_log_and_not_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("partita.bab.logs.observer.ROWS", 8)
    graph, prop = barely(1)
    expected = partita.verify(graph, prop, attack="off", batch=4)
    write, calls = pq.write_table, []

    def full(table, path, **options):
        calls.append(path)
        if len(calls) == 3:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(table, path, **options)

    monkeypatch.setattr(pq, "write_table", full)
    outcome = partita.verify(graph, prop, attack="off", batch=4, log=tmp_path / "log")
    assert outcome.verdict == expected.verdict and "No space left" in outcome.stats["log"] and len(calls) == 3
    tree = read_log(tmp_path / "log")
    assert tree.footer is None and tree.parts == 2 and check(tree).good
    assert not list((tmp_path / "log").glob("*.tmp"))


def test_observers_see_parents_and_sides():
    """What the log builds on: ids of children follow each other, and records name their parents."""

    class Seen(Observer):
        def branched(self, parents, children):
            low, high = children.id.reshape(2, -1)
            assert (high == low + 1).all() and (children.parent.reshape(2, -1) == parents.id).all()
            assert ((low - 1) % 2 == 0).all()
            count.append(len(low))

    count: list[int] = []
    graph, prop = barely(1)
    partita.verify(graph, prop, observers=[Seen()], attack="off")
    assert sum(count) > 5


def test_the_columns_are_documented():
    from pathlib import Path

    text = (Path(__file__).resolve().parents[1] / "docs" / "log.md").read_text(encoding="utf-8")
    assert "".join(f"| `{name}` | {meaning} |\n" for name, meaning in COLUMNS.items()) in text
