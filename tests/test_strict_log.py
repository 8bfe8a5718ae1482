"""Logs know strictness and exact numbers: hashes by meaning, texts, the format's number, check, replay, resume."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

import partita
from partita.bab.logs.check import sampled
from partita.bab.logs.format import FORMAT
from partita.bab.logs.header import goals_of_header, property_hash
from partita.bab.logs.meaning import number
from partita.bab.logs.read import read_log
from partita.problems.errors import BadInput
from partita.problems.network.activation import ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.properties.rational import ExactSet, Numbers, Row
from partita.problems.property import Case, Property, UnsafeSet, box_property

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from measure import verdict_cases

F = Fraction


def real(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def absolute() -> Graph:
    """|x|."""
    nodes = (
        Input(1),
        Affine((0,), (Dense(real([[1.0], [-1.0]])),), real([0.0, 0.0])),
        Activation((1,), ReLU(), 2),
        Affine((2,), (Dense(real([[1.0, 1.0]])),), real([0.0])),
    )
    return Graph(nodes, (1, 1), (1, 1))


MINUS, ONE = F(-1), F(1)


def strictly(
    threshold: Fraction, strict: bool = True, low: Fraction = MINUS, high: Fraction = ONE, **sides
) -> Property:
    """|x| below (or at) the threshold somewhere on [low, high]."""
    exact = ExactSet(verdict_cases.numbers_of([low], 0), verdict_cases.numbers_of([high], 0), **sides)
    unsafe = verdict_cases.unsafe_of([Row({0: F(1)}, -threshold, strict)], 1, 1)
    return Property((Case(verdict_cases.polytope_of(exact), (unsafe,)),), 1, 1)


def scaled(row: Row, factor: Fraction) -> Row:
    times = lambda part: {i: a * factor for i, a in reversed(part.items())}  # noqa: E731
    return Row(times(row.terms), row.constant * factor, row.strict, times(row.on_input))


@pytest.mark.parametrize("seed", range(30))
def test_the_same_set_has_the_same_hash_however_it_is_written(seed):
    prop, random = verdict_cases.trial(seed).prop, Random(seed)
    cases = []
    for case in prop.cases:
        exact = case.inputs.exact
        again = [
            Numbers(n.near.copy(), {i: number(n[i]) if 3 * n[i] % 1 else n[i] for i in n.others})
            for n in (exact.lower, exact.upper)
        ]
        rows = tuple(scaled(row, F(random.randint(1, 9), 7)) for row in reversed(exact.rows))
        sets = []
        for unsafe in case.unsafe:
            more = [scaled(row, F(random.randint(1, 9), 7)) for row in reversed(unsafe.exact)]
            sets.append(verdict_cases.unsafe_of([*more, more[0]], prop.n_out, prop.n_in))
        inputs = verdict_cases.polytope_of(replace(exact, lower=again[0], upper=again[1], rows=rows))
        cases.append(Case(inputs, tuple(sets)))
    assert property_hash(replace(prop, cases=tuple(cases), name="other")) == property_hash(prop)


def test_arrays_alone_are_the_numbers_that_they_are():
    plain = box_property(np.array([-1.0]), np.array([1.0]), np.array([[1.0]]), np.array([-0.5]))
    assert property_hash(plain) == property_hash(strictly(F(1, 2), False))
    signed = box_property(np.array([-0.0]), np.array([1.0]), np.array([[1.0]]), np.array([-0.5]))
    assert property_hash(signed) == property_hash(strictly(F(1, 2), False, F(0)))


def test_other_sets_have_other_hashes():
    tiny = F(1, 10**30)
    all_ = [
        strictly(F(1, 2), False),
        strictly(F(1, 2), True),
        strictly(F(1, 2) + tiny, True),
        strictly(F(1, 2), True, F(-1) + tiny),
        strictly(F(1, 2), True, F(-1), F(1) - tiny),
        strictly(F(1, 2), True, open_lower=frozenset({0})),
        strictly(F(1, 2), True, open_upper=frozenset({0})),
        strictly(F(1, 2), True, rows=(Row({0: F(1)}, F(0), False),)),
        strictly(F(1, 2), True, rows=(Row({0: F(1)}, F(0), True),)),
        strictly(F(1, 2), True, rows=(Row({0: F(-1)}, F(0), True),)),
    ]
    one = all_[1].cases[0]
    of_input = Row({0: F(1)}, F(-1, 2), True, {0: F(1)})
    other = (verdict_cases.unsafe_of([of_input], 1, 1), UnsafeSet(np.zeros((0, 1)), np.zeros(0)))
    all_ += [Property((Case(one.inputs, sets),), 1, 1) for sets in ((other[0],), (other[1],), (*one.unsafe, *other))]
    all_ += [Property((one, one), 1, 1), Property((), 1, 1), Property((), 1, 2), Property((), 2, 1)]
    assert len({property_hash(prop) for prop in all_}) == len(all_)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (F(1, 10), "0.1"),
        (F(0.1), "0.1000000000000000055511151231257827021181583404541015625"),
        (F(-3), "-3"),
        (F(1000000), "1000000"),
        (F(10) ** 30, "1e+30"),
        (F(1, 3), "1/3"),
        (F(1, 10**400), "1e-400"),
        (F(1, 2**300), f"1/{2**300}"),
        (F(5, 4), "1.25"),
    ],
)
def test_numbers_are_written_in_full(value, text):
    assert number(value) == text and F(text) == value


def test_headers_tell_strict_from_weak_and_exact_from_rounded():
    prop = strictly(F(1, 10), True, F(1, 3), F(1), open_upper=frozenset({0}), rows=(Row({0: F(2)}, F(-1, 3), True),))
    said = json.loads(json.dumps(goals_of_header(prop)))
    (goal,), (inputs,) = said["goals"], said["inputs"]
    assert goal["text"].endswith("unsafe where y0 -0.1 < 0") and goal["strict"] == [True]
    assert inputs["open_upper"] == [0] and "open_lower" not in inputs
    assert inputs["exact_lower"] == {"0": "1/3"} and inputs["lower"][0] < 1 / 3 + 1e-15
    assert inputs["half_spaces"] == ["2 x0 -1/3 < 0"] or inputs["half_spaces"] == ["+2 x0 -1/3 < 0"]
    (weak,) = goals_of_header(strictly(F(1, 10), False))["goals"]
    assert weak["text"].endswith("y0 -0.1 <= 0") and weak["strict"] == [False]


def rewritten(folder: Path, **changes) -> None:
    header = json.loads((folder / "header.json").read_text())
    (folder / "header.json").write_text(json.dumps(header | changes))


def test_logs_of_an_earlier_format_are_refused_in_a_sentence(tmp_path):
    graph, prop = absolute(), strictly(F(-1))
    partita.verify(graph, prop, log=tmp_path / "log", attack="off")
    assert read_log(tmp_path / "log").header["format"] == FORMAT == 3
    rewritten(tmp_path / "log", format=1)
    with pytest.raises(BadInput, match=r"has format 1, which did not tell < from <=; .* start a new log"):
        read_log(tmp_path / "log")
    rewritten(tmp_path / "log", format=4)
    with pytest.raises(BadInput, match="not a partition log of format 3"):
        read_log(tmp_path / "log")


def test_a_log_of_the_strict_property_is_none_of_the_weak_one(tmp_path):
    graph = absolute()
    partita.verify(graph, strictly(F(0)), log=tmp_path / "log", attack="off")
    partita.replay(tmp_path / "log", graph, strictly(F(0)))
    with pytest.raises(BadInput, match="another property"):
        partita.replay(tmp_path / "log", graph, strictly(F(0), False))


@pytest.mark.parametrize("split", ["input", "activation", "polyhedral"])
def test_a_strict_property_at_its_minimum_is_logged_checked_and_proved_again(tmp_path, split):
    graph, prop = absolute(), strictly(F(0))
    said = partita.verify(graph, prop, log=tmp_path / "log", attack="off", split=split)
    assert said.verdict == "unsat"
    tree = read_log(tmp_path / "log")
    again = partita.replay(tmp_path / "log", graph, prop)
    assert again.good and again.leaves == len(tree.leaves)
    report = sampled(tree, graph, prop, 200)
    assert report.good, report.faults


def test_check_counts_points_of_strict_sets_exactly(tmp_path):
    """A flat input set where equality holds: no counterexample of the strict property, one of the weak one."""
    graph, third = absolute(), F(1, 3)
    strict, weak = (strictly(third, flag, third, third) for flag in (True, False))
    assert partita.verify(graph, strict, log=tmp_path / "log", attack="off").verdict == "unsat"
    tree = read_log(tmp_path / "log")
    assert sampled(tree, graph, strict, 50).good
    half = F(1, 2)  # a double: the point itself is asked
    for flag, good in ((True, True), (False, False)):
        assert sampled(tree, graph, strictly(half, flag, half, half), 50).good == good
    assert not sampled(tree, graph, strictly(half + 1, True, half, half), 50).good
    assert weak.cases[0].unsafe[0].strict.tolist() == [False]
    outside = strictly(half, False, half, half, open_lower=frozenset({0}))
    assert sampled(tree, graph, outside, 50).good  # no point at all


@pytest.mark.parametrize(("threshold", "verdict"), [(F(0), "unsat"), (F(1, 10**6), "sat")])
def test_a_resumed_run_decides_what_the_whole_one_would(tmp_path, monkeypatch, threshold, verdict):
    """The first run does without signs, which would decide the root."""
    graph, prop = absolute(), strictly(threshold)
    with monkeypatch.context() as without:
        without.setattr("partita.bab.building.rows_of_goals", lambda *given: None)
        said = partita.verify(graph, prop, log=tmp_path / "log", attack="off", split="input", max_pieces=1)
    assert said.verdict == "unknown" and "limit" in said.reason
    assert partita.verify(graph, prop, resume=tmp_path / "log").verdict == verdict
