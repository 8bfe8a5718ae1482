"""What a log's reading, check, replay and resumption do, part by part, on one small tree each: a second or less."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from logs import forge, logged
from networks import barely
from search import engine

from partita.bab.config import load_config
from partita.bab.logs.believed import claims_of, proved_again
from partita.bab.logs.boxes import box_levels, boxes_of
from partita.bab.logs.check import _unsafe, check, leaves_of, sampled
from partita.bab.logs.digests import Digests
from partita.bab.logs.followed import LEFT_OUT, Count, Followed, summed
from partita.bab.logs.format import CLOSED, HEADER, OPEN, SPLIT, STUCK
from partita.bab.logs.header import config_of, goals_of_header, matching, same_config, same_search
from partita.bab.logs.read import Partition, read_log
from partita.bab.logs.resume import halves, pieces_of, take_up
from partita.bab.replay import InClosed
from partita.bab.search.verdict import Verdict
from partita.bab.strategy import choose
from partita.bab.trees.splits import HALF_SPACE, INPUT, PHASE
from partita.problems.errors import BadInput
from partita.problems.properties.property import Case, Property, UnsafeSet
from partita.relaxations.leaf.rational import Rational


@pytest.fixture(scope="module", autouse=True)
def no_parts_by_time():
    """However busy the machine is, parts are written by rows alone."""
    with pytest.MonkeyPatch.context() as patient:
        for name in ("FIRST", "LONGEST"):
            patient.setattr(f"partita.bab.logs.writer.{name}", 1000.0)
        yield


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A network, a property that holds, and the whole log of a run that proved it: 16 leaves."""
    folder = tmp_path_factory.mktemp("log") / "log"
    graph, prop = barely(2)
    outcome, _, tree = logged(folder, graph, prop, split="input")
    assert outcome.verdict == "unsat" and 10 < len(tree.closed) < 40 and tree.kind[0] == INPUT
    return graph, prop, folder, tree


def opened(tree: Partition, ids) -> Partition:
    """The tree with some of its leaves open."""
    state = tree.state.copy()
    state[ids] = OPEN
    return replace(tree, state=state)


def made(graph, prop, deadline=None):
    return engine(graph, prop, split="input", deadline=deadline)


def by_hand(parent, side, child, state) -> Partition:
    """A partition that consists of its tree alone."""
    count = len(parent)
    plain = {"parent": parent, "side": side, "child": child, "state": state}
    arrays = {name: np.array(values) for name, values in plain.items()}
    rest = dict.fromkeys(
        ("depth", "goal", "by", "bound", "seconds", "volume", "kind", "index", "point"), np.zeros(count)
    )
    rest |= {"normal": np.zeros((0, 0)), "normal_of": np.zeros(0), "row": np.zeros(count), "starts": np.zeros(1)}
    header = {"goals": [{}] * int((arrays["parent"] < 0).sum())}
    return Partition(header, None, [], 1, count, [], **arrays, **rest, verified=np.ones(count, dtype=bool))


# ---- reading


def test_a_part_of_another_run_is_refused_though_its_digest_is_right(log, tmp_path):
    """Two runs of one property on one network: the part of one beside the header of the other, the chain made anew."""
    graph, prop, folder, _ = log
    logged(tmp_path / "other", graph, prop, split="input")
    shutil.copytree(folder, tmp_path / "log")
    content = (tmp_path / "other" / "pieces-00000.parquet").read_bytes()
    (tmp_path / "log" / "pieces-00000.parquet").write_bytes(content)
    digests = Digests()
    digests.begin(tmp_path / "log", (tmp_path / "log" / HEADER).read_bytes())
    digests.add(tmp_path / "log", "pieces-00000.parquet", content)
    with pytest.raises(BadInput, match=r"pieces-00000\.parquet was written by another run, or as another part"):
        read_log(tmp_path / "log")
    forge(tmp_path / "log")  # now the part says that it is this run's
    assert read_log(tmp_path / "log").verified.all()


def test_a_part_in_the_place_of_another_is_refused_though_its_digest_is_right(log, tmp_path, monkeypatch):
    monkeypatch.setattr("partita.bab.logs.observer.ROWS", 8)
    graph, prop, _, _ = log
    _, _, tree = logged(tmp_path / "log", graph, prop, split="input", batch=4)
    assert tree.parts > 1
    first, second = (tmp_path / "log" / f"pieces-0000{number}.parquet" for number in (0, 1))
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    digests = Digests()
    digests.begin(tmp_path / "log", (tmp_path / "log" / HEADER).read_bytes())
    for path in sorted((tmp_path / "log").glob("pieces-*")):
        digests.add(tmp_path / "log", path.name, path.read_bytes())
    with pytest.raises(BadInput, match=r"pieces-00000\.parquet was written by another run, or as another part"):
        read_log(tmp_path / "log")


def test_what_is_written_is_vouched_for_and_nothing_else(log, tmp_path):
    _, _, folder, tree = log
    assert tree.verified.all() and not tree.doubts
    shutil.copytree(folder, tmp_path / "log")
    path = tmp_path / "log" / "pieces-00000.parquet"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"parquet-cpp", b"parquet-cPP"))
    assert path.read_bytes() != content
    edited = read_log(tmp_path / "log")
    assert not edited.verified.any() and "is not what the run wrote" in edited.doubts[0]
    path.write_bytes(content)
    (tmp_path / "log" / "digests.txt").unlink()
    lone = read_log(tmp_path / "log")
    assert not lone.verified.any() and "nothing vouches for the parts" in lone.doubts[0]


def test_parts_that_are_missing_are_missed(log, tmp_path, monkeypatch):
    monkeypatch.setattr("partita.bab.logs.observer.ROWS", 8)
    graph, prop, _, _ = log
    logged(tmp_path / "log", graph, prop, split="input", batch=4)
    parts = sorted((tmp_path / "log").glob("pieces-*"))
    assert len(parts) > 2
    (tmp_path / "log" / "footer.json").unlink()
    parts[-2].unlink()
    with pytest.raises(BadInput, match=rf"the part {parts[-2].name} is missing"):
        read_log(tmp_path / "log")


def test_pieces_without_a_row_have_the_bound_of_their_parent(log, tmp_path, monkeypatch):
    """As a run leaves them that was killed: the first part alone."""
    monkeypatch.setattr("partita.bab.logs.observer.ROWS", 8)
    graph, prop, _, _ = log
    _, _, whole = logged(tmp_path / "log", graph, prop, split="input", batch=4)
    (tmp_path / "log" / "footer.json").unlink()
    for path in sorted((tmp_path / "log").glob("pieces-*"))[1:]:
        path.unlink()
    tree = read_log(tmp_path / "log")
    bare = np.flatnonzero(tree.row < 0)
    assert len(bare) and (tree.state[bare] == OPEN).all()
    rows = np.flatnonzero(tree.row >= 0)
    np.testing.assert_array_equal(tree.bound[rows], whole.bound[rows])
    np.testing.assert_array_equal(tree.bound[bare], tree.bound[tree.parent[bare]])


def test_all_above_a_piece_are_above_it(log):
    _, _, _, tree = log
    for piece in tree.leaves[::5].tolist():
        expected, at = set(), piece
        while at >= 0:
            expected.add(at)
            at = int(tree.parent[at])
        assert set(np.flatnonzero(tree.above(np.array([piece]))).tolist()) == expected


def test_what_is_unsettled_is_open_or_stuck():
    tree = by_hand([-1, 0, 0, 1, 1], [-1, 0, 1, 0, 1], [1, 3, -1, -1, -1], [SPLIT, SPLIT, STUCK, CLOSED, OPEN])
    assert tree.unsettled.tolist() == [2, 4] and tree.closed.tolist() == [3] and tree.leaves.tolist() == [2, 3, 4]


# ---- what is believed


def test_claims_are_all_closed_leaves_or_with_trust_those_nobody_vouches_for():
    tree = SimpleNamespace(closed=np.array([1, 4, 5]), verified=np.array([1, 0, 1, 0, 1, 0], dtype=bool))
    assert claims_of(tree, trust=False).tolist() == [1, 4, 5]
    assert claims_of(tree, trust=True).tolist() == [1, 5]


@pytest.mark.parametrize("trust", [False, True])
def test_claims_that_there_was_no_time_for_are_no_proof(trust, log):
    graph, prop, _, tree = log
    doubted = replace(tree, verified=np.zeros(tree.count, dtype=bool))
    late = made(graph, prop, time.monotonic() - 1.0)
    stats: dict = {}
    assert proved_again(late, doubted, trust, stats) == "unknown"
    closed = len(tree.closed)
    assert f"{closed} of {closed} pieces that the log calls closed are believed" in late.schedule.reason
    assert stats == {"replayed": f"0 of {closed} closed pieces of the log were proved again"}


def test_claims_that_are_proved_again_are_a_proof_and_trusted_ones_are_counted(log):
    graph, prop, _, tree = log
    closed, half = len(tree.closed), tree.verified.copy()
    half[tree.closed[::2]] = False
    doubted = len(tree.closed[::2])
    for trust, verified, expected in (
        (False, tree.verified, {"replayed": f"{closed} of {closed} closed pieces of the log were proved again"}),
        (True, tree.verified, {"trusted": f"{closed} of {closed} closed pieces of the log, whose digests hold"}),
        (
            True,
            half,
            {
                "trusted": f"{closed - doubted} of {closed} closed pieces of the log, whose digests hold",
                "replayed": f"{doubted} of {doubted} closed pieces of the log were proved again",
            },
        ),
    ):
        stats: dict = {}
        assert proved_again(made(graph, prop), replace(tree, verified=verified), trust, stats) == Verdict.HOLDS
        assert stats == expected


def test_claims_that_are_wrong_end_in_the_witness(log):
    """The log of a property that holds, beside one that does not: the second search finds a counterexample."""
    graph, prop, _, tree = log
    case = prop.cases[0]
    worse = UnsafeSet(case.unsafe[0].rows, case.unsafe[0].constants - 1.0)
    again = engine(graph, Property((Case(case.inputs, (worse,)),), 3, 2), split="input", attack="on")
    assert proved_again(again, tree, False, {}) == Verdict.VIOLATED and again.state.witness is not None


# ---- the tree that follows a log


def test_pieces_with_claims_below_them_are_bounded(log):
    graph, prop, _, tree = log
    some = tree.closed[:2]
    for claims in (None, some, tree.closed[:0]):
        found = Followed(made(graph, prop).tree, tree, claims).claimed.numpy()
        np.testing.assert_array_equal(found, tree.above(tree.closed if claims is None else claims))
    half = opened(tree, tree.closed[::2])
    np.testing.assert_array_equal(Followed(made(graph, prop).tree, half).claimed.numpy(), half.above(half.closed))


def test_what_is_bounded_cut_and_left_out_follows_the_log(log):
    """The root once more as four pieces: the log's root, a leaf that is claimed, one that is not, and one beyond it."""
    graph, prop, _, tree = log
    claimed, other = (int(i) for i in tree.closed[:2])
    inner = made(graph, prop).tree
    followed = Followed(inner, tree, np.array([claimed]))
    logged_ids = torch.tensor([0, claimed, other, -1])
    roots = followed.roots()[torch.zeros(4, dtype=torch.int64)]
    assert roots.logged.tolist() == [0] * 4
    record = replace(roots, logged=logged_ids)
    plain, found = inner.bound(roots), followed.bound(record)
    assert not plain.closed.any()  # the root does not close by itself
    assert found.closed.tolist() == [False, False, True, False]
    assert found.by is not None and found.names[int(found.by[2])] == LEFT_OUT
    assert not found.near[2] and not found.decided[2] and not found.decided[0]
    assert found.decided[[1, 3]].tolist() == plain.decided[[1, 3]].tolist()
    assert int(found.records.cut_index[0]) == tree.index[0]
    assert float(found.records.cut_point[0]) == pytest.approx(tree.point[0])
    below = followed.split(found.records).logged.reshape(2, 4)
    assert below[:, 0].tolist() == [tree.child[0], tree.child[0] + 1] and (below[:, 1:] == -1).all()


def test_leaves_that_were_left_out_are_not_counted():
    count = Count()
    count.closed(SimpleNamespace(logged=torch.tensor([3, 4])), "crown")
    count.closed(SimpleNamespace(logged=torch.tensor([5])), LEFT_OUT)
    count.branched(SimpleNamespace(logged=torch.tensor([1, -1])), None)
    assert np.concatenate(count.closed_at).tolist() == [3, 4] and np.concatenate(count.opened).tolist() == [1, -1]


def test_each_claim_has_one_fate():
    """0
     1      2        3: closed itself. 4 and 7 to 9: with 1 closed above. 5: split further. 6: neither.
    3 4    5  6
      7 8   ...
    """
    parent, side = [-1, 0, 0, 1, 1, 2, 2, 4, 4], [-1, 0, 1, 0, 1, 0, 1, 0, 1]
    child, state = [1, 3, 5, -1, 7, -1, -1, -1, -1], [SPLIT, SPLIT, SPLIT, CLOSED, SPLIT, *[CLOSED] * 4]
    tree = by_hand(parent, side, child, state)
    claims = np.array([3, 5, 6, 7, 8])

    def fates(closed, opened, reason) -> tuple:
        count = Count()
        count.closed_at, count.opened = [np.array(closed)], [np.array(opened)]
        found = summed(tree, claims, count, reason, 1.0)
        assert found.leaves == found.again + found.above + found.further + found.open
        assert found.good == (found.open == 0) and found.reason == (reason if found.open else "")
        return found.again, found.above, found.further, found.open

    assert fates([3, 6, 4], [0, 1, 2, 5, -1], "") == (2, 2, 1, 0)
    assert fates([1, 6, -1], [0, 2, 5, -1], "") == (1, 3, 1, 0)
    assert fates([3, 4], [0, 1, 2, 5], "timeout") == (1, 2, 0, 2)  # what is split further is not closed yet
    assert fates([0], [], "") == (0, 5, 0, 0)
    assert fates([], [], "timeout") == (0, 0, 0, 5)
    assert fates([3], [0, 1, 2], "") == (1, 0, 0, 4)


def test_a_witness_counts_where_it_lies_in_closed_leaves_alone(log):
    graph, prop, _, tree = log
    box = prop.cases[0].inputs
    x = box.lower + 0.37 * (box.upper - box.lower)
    _, (leaf,), _ = leaves_of(tree, 0, x[None], np.zeros((1, graph.neurons)))
    witness = SimpleNamespace(x=x, goal=(0, 0))
    attack = SimpleNamespace(
        budgets=None, **dict.fromkeys(("check", "polish", "search", "judge"), lambda *a, **k: witness)
    )
    empty = SimpleNamespace(budgets=None, **dict.fromkeys(("check", "polish", "search", "judge"), lambda *a, **k: None))
    for partition, inner, expected in (
        (tree, attack, witness),
        (opened(tree, [leaf]), attack, None),
        (tree, empty, None),
    ):
        inside = InClosed(inner, partition, graph, {(0, 0): 0})
        for ask in (inside.search, lambda i=inside: i.check(None), lambda i=inside: i.polish(None)):
            assert ask() is expected
        assert inside.judge(x, (0, 0)) is expected and inside.leaf == (leaf if expected else -1)


# ---- the check


def test_shares_that_are_missing_or_doubled_are_found(log):
    _, _, _, tree = log
    assert check(tree).good
    for way, said in ((1, "not 1"), (-1, "not 1")):
        depth = tree.depth.copy()
        depth[tree.leaves[0]] += way
        assert said in check(replace(tree, depth=depth)).faults[0]


def test_cuts_that_are_none_are_found(log):
    """Each by itself: another kind, no such coordinate, no number, outside the piece in one coordinate."""
    _, _, _, tree = log
    assert tree.kind[0] == INPUT
    for name, piece, value, words in (
        ("kind", 0, 7, "1 splits are no cuts, the first that of piece 0 "),
        ("kind", 0, HALF_SPACE, "1 splits are no cuts"),
        ("index", 0, 3, "1 splits are no cuts"),
        ("index", 0, -1, "1 splits are no cuts"),
        ("point", 0, np.nan, "1 splits are no cuts"),
        ("point", 0, np.inf, "1 splits are no cuts"),
        ("point", 0, 1e6, "cuts lie outside the piece they cut or below such a cut"),
        ("point", 0, -1e6, "cuts lie outside the piece they cut or below such a cut"),
    ):
        changed = getattr(tree, name).copy()
        changed[piece] = value
        assert words in check(replace(tree, **{name: changed})).faults[0], (name, value)


def test_pieces_below_a_cut_of_another_kind_are_no_boxes():
    """A root cut in the middle, its upper half by a neuron: what is below has the half's box, and is none itself."""
    tree = by_hand([-1, 0, 0, 2, 2], [-1, 0, 1, 0, 1], [1, -1, 3, -1, -1], [SPLIT, CLOSED, SPLIT, CLOSED, CLOSED])
    tree = replace(tree, kind=np.array([INPUT, -1, PHASE, -1, -1]), point=np.array([0.5, 0, 7.0, 0, 0]))
    tree = replace(tree, index=np.zeros(5, dtype=np.int64))
    lower, upper = np.zeros((1, 2)), np.ones((1, 2))
    found = {}
    for ids, low, high, boxes in box_levels(tree, lower, upper):
        found |= {i: (a.tolist(), b.tolist(), box) for i, a, b, box in zip(ids.tolist(), low, high, boxes, strict=True)}
    assert found[0] == ([0, 0], [1, 1], True) and found[1] == ([0, 0], [0.5, 1], True)
    assert found[2] == ([0.5, 0], [1, 1], True) and found[3] == found[4] == ([0.5, 0], [1, 1], False)
    low, high, known = boxes_of(tree, np.array([4, 1]), lower, upper)
    assert (
        low.tolist() == [[0.5, 0], [0, 0]] and high.tolist() == [[1, 1], [0.5, 1]] and known.tolist() == [False, True]
    )


def test_volumes_that_are_too_large_or_too_small_are_found(log):
    _, _, _, tree = log
    boxes = [piece for piece in tree.leaves.tolist() if np.isfinite(tree.volume[piece])]
    for factor in (0.99, 1.01):
        volume = tree.volume.copy()
        volume[boxes[0]] *= factor
        (fault,) = check(replace(tree, volume=volume)).faults
        assert fault.startswith("1 volumes are not those of the boxes")


def test_a_footer_that_says_more_than_the_leaves_is_found(log):
    _, _, _, tree = log
    one = opened(tree, tree.closed[:1])
    assert "says unsat, but 1 leaves are open or stuck" in check(one).faults[0]
    assert check(replace(one, footer=one.footer | {"verdict": "unknown"})).good
    assert check(replace(one, footer=one.footer | {"verdict": "sat"})).good


def test_doubts_of_the_digests_are_faults(log):
    _, _, _, tree = log
    assert check(replace(tree, doubts=("nothing vouches",))).faults == ["nothing vouches"]


def test_points_in_two_leaves_or_none_are_faults(log, monkeypatch):
    from partita.bab.logs import check as module

    graph, prop, _, tree = log
    assert sampled(tree, graph, prop, 40).good
    honest = module.leaves_of
    for times in (0, 2):

        def other(*arguments, times=times):
            rows, leaves, near = honest(*arguments)
            return np.repeat(rows, times), np.repeat(leaves, times), near

        monkeypatch.setattr(module, "leaves_of", other)
        (fault,) = sampled(tree, graph, prop, 40).faults
        assert fault == "of 40 points under root 0, 40 do not lie in exactly one leaf"


def test_counterexamples_are_looked_for_in_closed_leaves_alone(log):
    graph, prop, _, tree = log
    everywhere = UnsafeSet(np.zeros((1, 2)), np.array([-1.0]))
    other = Property((Case(prop.cases[0].inputs, (everywhere,)),), 3, 2)
    assert sampled(tree, graph, other, 40).faults == ["40 counterexamples lie in closed leaves under root 0"]
    assert sampled(opened(tree, tree.closed), graph, other, 40).good
    some = sampled(opened(tree, tree.closed[1:]), graph, other, 200)
    inside = some.facts["of them in closed leaves, none unsafe"]
    assert 0 < inside < 200
    assert some.faults == [f"{inside} counterexamples lie in closed leaves under root 0"]


def test_whether_a_point_is_unsafe_is_exact():
    """|x| at a point, strictly and not, with a threshold at its value, by an amount that no tolerance sees."""
    from test_strict_log import F, absolute, strictly

    graph = absolute()
    rational, x, y = Rational(graph), np.array([0.5]), np.array([0.5])
    inputs = strictly(F(1, 2)).cases[0].inputs
    tiny = F(1, 2**60)
    for threshold, strict, unsafe in (
        (F(1, 2), False, True),
        (F(1, 2), True, False),
        (F(1, 2) - tiny, False, False),
        (F(3, 4), True, True),
        (F(1, 4), False, False),
    ):
        (set_,) = strictly(threshold, strict).cases[0].unsafe
        assert _unsafe(rational, inputs, set_, x, y) is unsafe, (threshold, strict)
    assert _unsafe(rational, inputs, UnsafeSet(np.zeros((0, 1)), np.zeros(0)), x, y)  # without rows: every point
    assert not _unsafe(rational, inputs, strictly(F(3, 4)).cases[0].unsafe[0], np.array([1.5]), np.array([1.5]))


def test_a_point_goes_to_the_side_it_lies_on_and_on_a_cut_to_both():
    tree = by_hand([-1, 0, 0, 2, 2], [-1, 0, 1, 0, 1], [1, -1, 3, -1, -1], [SPLIT, CLOSED, SPLIT, CLOSED, CLOSED])
    kind, index, point = np.array([INPUT, -1, PHASE, -1, -1]), np.array([1, 0, 2, 0, 0]), np.array([0.5, 0, -1.0, 0, 0])
    tree = replace(tree, kind=kind, index=index, point=point)
    x = np.array([[9.0, 0.25], [9.0, 0.75], [9.0, 0.75], [9.0, 0.5], [9.0, 0.75]])
    z = np.array([[0, 0, 9.0], [0, 0, -2.0], [0, 0, 2.0], [0, 0, 2.0], [0, 0, -1.0]])
    rows, leaves, near = leaves_of(tree, 0, x, z)
    found = [sorted(leaves[rows == r].tolist()) for r in range(5)]
    assert found == [[1], [3], [4], [1, 4], [3, 4]] and near.tolist() == [False, False, False, True, True]


# ---- going on with a log


def test_pieces_that_are_taken_up_are_below_zero_and_on_their_side(log):
    """Each rebuilt piece lies in the box that the cuts make, and none is called better than nothing proved."""
    graph, prop, _, tree = log
    part = opened(tree, tree.closed[::2])
    engine_ = made(graph, prop)
    record = pieces_of(engine_.tree, engine_.roots, part, part.unsettled)
    assert sorted(record.id.tolist()) == part.unsettled.tolist() and (part.bound[part.unsettled] > 0).any()
    assert (record.bound <= 0).all() and torch.isfinite(record.bound).any()
    known = torch.from_numpy(tree.bound[record.id.numpy()]).to(record.bound.dtype)
    torch.testing.assert_close(record.bound, known.clamp(max=0.0))
    pieces = engine_.tree.pieces(record)
    for row, piece in enumerate(record.id.tolist()):
        at = piece
        while (above := int(tree.parent[at])) >= 0:
            i, cut, low = int(tree.index[above]), tree.point[above], tree.side[at] == 0
            if tree.kind[above] == INPUT:
                assert pieces.upper[row, i] <= cut if low else pieces.lower[row, i] >= cut
            at = above


def test_a_child_is_the_half_on_its_side(log):
    graph, prop, _, _ = log
    engine_ = made(graph, prop)
    record = engine_.roots[torch.zeros(3, dtype=torch.int64)]
    middle = 0.5 * (prop.cases[0].inputs.lower[0] + prop.cases[0].inputs.upper[0])
    kind, point = torch.full_like(record.cut_kind, INPUT), torch.full_like(record.cut_point, float(middle))
    record = replace(record, cut_kind=kind, cut_index=torch.zeros_like(record.cut_index), cut_point=point)
    pieces = engine_.tree.pieces(halves(engine_.tree, record, torch.tensor([0, 1, 1])))
    assert [bool(u <= middle + 1e-6) for u in pieces.upper[:, 0]] == [True, False, False]
    assert [bool(v >= middle - 1e-6) for v in pieces.lower[:, 0]] == [False, True, True]


def test_every_unsettled_piece_is_taken_up(log):
    graph, prop, _, tree = log
    part = opened(tree, tree.closed[::2])
    part = replace(part, state=np.where(np.arange(tree.count) == part.unsettled[0], STUCK, part.state))
    engine_ = made(graph, prop)
    take_up(engine_, part)
    ids = [i for some in (engine_.first, *engine_.waiting) for i in some.id.tolist()]
    assert sorted(ids) == part.unsettled.tolist() and engine_.state.named == tree.count
    assert engine_.state.leaves == len(part.closed) and engine_.state.weight == pytest.approx(part.weight)
    with pytest.raises(BadInput, match="the log has 2 goals, the property has 1"):
        take_up(made(graph, prop), replace(part, header=part.header | {"goals": part.header["goals"] * 2}))


# ---- headers


def test_a_header_belongs_to_one_network_and_one_property(log):
    graph, prop, _, tree = log
    header = json.loads(json.dumps(tree.header))
    matching(header, "log", graph, graph, prop)
    inputs, goals = json.loads(json.dumps([header["inputs"], header["goals"]]))
    inputs[0]["upper"][0] += 1.0
    goals[0]["strict"] = [not goals[0]["strict"][0]]
    for change, words in (
        ({"inputs": inputs}, "field inputs, is not what the property says"),
        ({"goals": goals}, "field goals, is not what the property says"),
        ({"layers": header["layers"][::-1]}, "its neurons are not these"),
        ({"network": header["network"] | {"graph": "0"}}, "another network"),
        ({"property": header["property"] | {"hash": "0"}}, "another property"),
    ):
        with pytest.raises(BadInput, match=words):
            matching(header | change, "log", graph, graph, prop)
    assert goals_of_header(prop) == {name: header[name] for name in ("inputs", "goals")}


def test_a_header_belongs_to_one_search_and_one_configuration(log):
    graph, _, _, tree = log
    config = config_of(tree.header, {})
    same_search(tree.header, "log", choose(graph, config))
    same_config(tree.header, "log", config)
    same_config(tree.header, "log", config_of(tree.header, {"timeout": 3.0, "search.max_pieces": 5}))
    with pytest.raises(BadInput, match="written by a search over phases"):
        same_search(tree.header | {"strategy": {"tree": "phases"}}, "log", choose(graph, config))
    with pytest.raises(BadInput, match="was replaced by another"):
        same_config(tree.header, "log", load_config(config, {"seed": 5}))
    with pytest.raises(BadInput, match="'seed' was given; only limits may be new"):
        config_of(tree.header, {"seed": 5})
