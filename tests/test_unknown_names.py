"""A name that some table knows and some place does not is an error there, and never another relaxation's answer."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

import partita
from partita.bab import rules, strategy
from partita.bab.commands.main import run
from partita.bab.config import BoundingConfig, BranchingConfig, Config, SearchConfig, load_config
from partita.problems.errors import BadInput
from partita.problems.network.library import maximum, random_network
from partita.problems.properties.property import Polytope
from partita.problems.properties.specify import box_property
from partita.relaxations import catalogue, names
from partita.relaxations.linear.linear import Linear

GRAPH, WIDE = maximum(3), random_network((30, 6, 1), seed=1)
BOX = (np.zeros(3), np.ones(3))
PROP = box_property(*BOX, [[-1.0]], [-1.5])
WIDE_PROP = box_property(np.zeros(30), np.ones(30), [[-1.0]], [-50.0])


@pytest.fixture(params=get_args(catalogue.Kind))
def newly(request, monkeypatch):
    """A relaxation of some kind that is registered, and that nobody has written."""
    novel = catalogue.Rung("novel", request.param, "", "", (), "novel:built", lines="novel")
    monkeypatch.setattr(catalogue, "CATALOGUE", (*catalogue.CATALOGUE, novel))
    assert str(names.parse("novel")[0]) == "novel"
    return request.param


def test_a_registered_name_without_code_is_an_error_at_every_entry(newly):
    for relaxation in ("novel", "novel+triangle"):
        with pytest.raises(BadInput, match="novel"):
            partita.bound(GRAPH, BOX, relaxation)
        for graph, prop in ((GRAPH, PROP), (WIDE, WIDE_PROP)):
            with pytest.raises(BadInput, match="novel"):
                partita.verify(graph, prop, relaxation=relaxation, attack="off")
            if newly == "TABLE":  # before anything is computed
                with pytest.raises(BadInput, match="novel"):
                    strategy.choose(graph, load_config(None, {"relaxation": relaxation}))
        with pytest.raises(BadInput, match="novel"):
            partita.partition(GRAPH, BOX, [relaxation], count=False)


@pytest.mark.parametrize(
    "word", ["crwn", "deeppoly", "deeppoly-2", "CROWN", "", "crown+", "m", "p-0", "alpha", "exact:"]
)
def test_an_unknown_name_is_an_error_at_every_entry(word, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text(f"relaxation: '{word}'\n")
    net, prop = tmp_path / "net.onnx", tmp_path / "prop.vnnlib"
    net.write_bytes(b"not looked at")
    prop.write_text("")
    for call in (
        lambda: partita.bound(GRAPH, BOX, word),
        lambda: partita.verify(GRAPH, PROP, relaxation=word),
        lambda: partita.verify(GRAPH, PROP, config=file),
        lambda: partita.partition(GRAPH, BOX, [word], count=False),
        lambda: Config(relaxation=word),
        lambda: load_config(None, {"relaxation": word}),
        lambda: load_config(file),
    ):
        with pytest.raises(BadInput) as refused:
            call()
        assert "\n" not in str(refused.value)
    for arguments in (
        ["verify", str(net), str(prop), "--relaxation", word],
        ["verify", str(net), str(prop), "--config", str(file)],
        ["bound", str(net), str(prop), "--relaxation", word],
        ["run", str(prop), "--out", str(tmp_path / "out"), "--relaxation", word],
        ["partition", str(net), str(prop), "--relaxations", word],
    ):
        assert run(arguments) == 2, arguments
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("partita: ")
        assert said.err.count("\n") == 1


def test_joins_that_a_search_cannot_do_are_refused():
    """`crown+ibp` was CROWN under another name; `exact+triangle` was the triangle alone."""
    for relaxation in ("crown+ibp", "exact+triangle", "crown+triangle", "ibp+alpha-crown"):
        with pytest.raises(BadInput, match="joins relaxations that are linear programs"):
            partita.verify(GRAPH, PROP, relaxation=relaxation)
        assert partita.bound(GRAPH, BOX, relaxation).upper[0] >= 1 - 1e-9
    for relaxation in ("crown+ibp", "crown+triangle"):
        with pytest.raises(BadInput, match="joins a batched relaxation"):
            partita.partition(GRAPH, BOX, [relaxation], count=False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Config(split="sideways"), "'split' of a Config must be one of auto, input"),
        (lambda: Config(timeout=-1), "'timeout' of a Config must be at least 0"),
        (lambda: Config(timeout=float("nan")), "'timeout' of a Config must be a number or none"),
        (lambda: Config(seed=1.5), "'seed' of a Config must be a whole number"),
        (lambda: Config(attack="maybe"), "'attack' of a Config must be one of on, off"),
        (lambda: Config(search={"batch": 3}), "'search' of a Config is a SearchConfig"),
        (lambda: BranchingConfig(rule="first"), "'rule' of a Config must be one of auto, widest"),
        (lambda: BoundingConfig(backend="glpk"), "'backend' of a Config must be one of highs"),
        (lambda: SearchConfig(batch=-1), "'batch' of a Config must be at least 0"),
    ],
)
def test_a_config_is_checked_as_it_is_made(make, words):
    with pytest.raises(BadInput, match=words):
        make()


def test_a_config_made_in_python_is_that_of_the_command_line():
    assert Config(timeout="5", attack=False, seed="3") == load_config(None, ["timeout=5", "attack=off", "seed=3"])


def test_rules_do_not_fall_through(monkeypatch):
    monkeypatch.setattr(
        rules, "RULES", (*rules.RULES, rules.BranchingRule("empty", ("branches",), "", "", "none:none"))
    )
    with pytest.raises(BadInput, match="the branching rule 'empty' cannot be had"):
        partita.verify(WIDE, WIDE_PROP, rule="empty", attack="off")
    assert rules.chosen("first", "branches").name == rules.chosen("auto", "branches").name == "babsr"
    with pytest.raises(BadInput, match="there is no rule of lines 'deeppoly-2'"):
        Linear(None, None, "deeppoly-2")
    novel = object.__new__(BranchingConfig)
    for key, value in (("rule", "novel"), ("candidates", 4)):
        object.__setattr__(novel, key, value)
    with pytest.raises(BadInput, match="there is no branching rule 'novel'"):
        strategy.choose(GRAPH, Config(branching=novel))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cuda:"}, "device must be cpu or cuda, not 'cuda:'"),
        ({"device": "gpu"}, "device must be cpu or cuda, not 'gpu'"),
        ({"device": None}, "device must be cpu or cuda, not None"),
        ({"device": "meta"}, "device must be cpu or cuda, not 'meta'"),
        ({"precision": "auto"}, "precision must be float32 or float64"),
        ({"backend": "glpk"}, "backend must be one of highs"),
        ({"steps": -1}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"time_limit": 0}, "time_limit must be a positive number"),
        ({"time_limit": "5"}, "time_limit must be a positive number"),
    ],
)
def test_arguments_of_bound(options, words):
    with pytest.raises(BadInput, match=words):
        partita.bound(GRAPH, BOX, "crown", **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "glpk"}, "backend must be one of highs"),
        ({"cells": "some"}, "cells must be one of open, all"),
        ({"branching": "random"}, "branching must be one of"),
        ({"pieces": "cubes"}, "pieces must be one of"),
        ({"intervals": ["tight"]}, "intervals must be one of"),
        ({"exactness": None}, "exactness must be one of"),
    ],
)
def test_arguments_of_partition(options, words):
    with pytest.raises(BadInput, match=words):
        partita.partition(GRAPH, BOX, ["crown"], **options)


def test_arguments_of_count():
    with pytest.raises(BadInput, match="cells are 'open' or 'all'"):
        partita.count_patterns(GRAPH, Polytope(*BOX), cells="some")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "log", "--timeout", "3"], "--timeout has no effect here"),
        (["check", "log", "--points", "3"], "--points has no effect here"),
        (["partition", "net", "prop", "--no-count", "--cells", "open"], "--cells has no effect"),
        (
            ["partition", "net", "prop", "--relaxations", "crown,ibp", "--intervals", "tight"],
            "--intervals has no effect",
        ),
        (["study", "--json"], "--json has no effect here"),
        (["study", "--seed", "3"], "--seed has no effect here"),
    ],
)
def test_options_of_other_commands(arguments, words, capsys):
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("given", [("a", "b"), (None, 1.0), ([0, [1]], [1, 1])])
def test_input_sets_that_are_no_numbers(given):
    for call in (partita.bound, partita.count_patterns, lambda n, s: partita.partition(n, s, ["crown"])):
        with pytest.raises(BadInput):
            call(GRAPH, given)


def test_a_property_is_a_property():
    with pytest.raises(BadInput, match="a property is a VNN-LIB file or a Property, not a int"):
        partita.verify(GRAPH, 3)


def test_a_property_has_as_many_inputs_and_outputs_as_the_network():
    for lower, row in ((np.zeros(2), [-1.0]), (np.zeros(4), [-1.0]), (np.zeros(3), [-1.0, 0.0])):
        with pytest.raises(BadInput, match=f"speaks of {len(lower)} inputs and {len(row)} outputs"):
            partita.verify(GRAPH, box_property(lower, lower + 1, [row], [0.0]))
