"""Options where they act, and an error or a line where they do not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import partita
from partita.bab.commands.main import run
from partita.bab.config import Config, load_config, options, presets
from partita.bab.effects import BOUND, SEARCH, flat, heed, heed_bound, unlike_default, unused
from partita.bab.strategy import choose
from partita.problems.errors import BadInput
from partita.problems.network.library import maximum, random_network
from partita.problems.properties.specify import box_property

FEW, MANY = maximum(3), random_network((30, 20, 2), seed=1)
BISECTED = random_network((3, 40, 1), seed=2)
OTHER = {  # a value of each option that asks for something
    "timeout": 50.0,
    "device": "cuda",
    "precision": "float32",
    "seed": 3,
    "judge": "onnxruntime",
    "split": "activation",
    "relaxation": "crown",
    "attack": "off",
    "bounding.steps": 7,
    "bounding.learning_rate": 0.2,
    "bounding.backend": "gurobi",
    "branching.rule": "widest",
    "branching.candidates": 8,
    "search.batch": 16,
    "search.max_pieces": 1000,
    "search.memory_gb": 1.0,
}


def test_every_option_has_a_place():
    assert set(SEARCH) == set(options()) == set(OTHER)
    assert set(BOUND) <= set(options())
    assert set(flat(Config())) == set(options())


@pytest.mark.parametrize(
    ("graph", "given", "unheard"),
    [
        (BISECTED, {}, {"bounding.steps", "bounding.learning_rate", "bounding.backend", "branching.candidates"}),
        (FEW, {}, {*(k for k in OTHER if k.startswith(("bounding", "branching")))}),
        (MANY, {}, {"bounding.backend", "branching.rule", "branching.candidates"}),
        (MANY, {"rule": "look-ahead"}, {"bounding.backend"}),
        (FEW, {"rule": "look-ahead"}, None),
        (MANY, {"relaxation": "crown"}, None),
        (MANY, {"relaxation": "triangle"}, {"branching.rule", "branching.candidates"}),
        (FEW, {"attack": "off"}, None),
        (FEW, {"relaxation": "exact"}, None),
    ],
)
def test_what_a_search_does_not_look_at(graph, given, unheard):
    """The whole table on searches of every kind, against what the kinds are known to read."""
    config = load_config(None, given)
    strategy = choose(graph, config)
    found = set()
    for key, value in OTHER.items():
        changed = load_config(config, {key: value}) if key.rsplit(".")[-1] not in given else config
        if key in ("relaxation", "split", "attack", "device"):  # these choose another search
            continue
        found |= {key for _ in unused([key], changed, strategy, graph)}
    if unheard is not None:
        assert found - {"device"} == unheard
    if given.get("relaxation") == "exact":
        assert {"precision", "search.batch", "search.max_pieces", "search.memory_gb", "branching.rule"} <= found
        assert not found & {"seed", "timeout", "bounding.backend"}
    if given.get("relaxation") == "crown":
        assert {"bounding.steps", "bounding.learning_rate"} <= found
    if given.get("attack") == "off":
        assert "seed" in found
    if given == {"rule": "look-ahead"} and graph is FEW:
        assert {"branching.candidates"} <= found


def outcome_of(graph, given):
    prop = box_property(
        np.full(graph.input_size, -0.3),
        np.full(graph.input_size, 0.3),
        [[1.0] + [0.0] * (graph.output_size - 1)],
        [3e-1],
    )
    found = partita.verify(graph, prop, config=load_config(None, given), max_pieces=200)
    kept = {k: v for k, v in found.stats.items() if not k.endswith(" s") and not k.startswith(("note", "by"))}
    return found.verdict, found.pieces, kept


@pytest.mark.parametrize(
    "base", [{}, {"relaxation": "crown"}, {"attack": "off"}, {"split": "activation"}, {"relaxation": "ibp"}]
)
@pytest.mark.parametrize("graph", [FEW, BISECTED, MANY], ids=["few", "bisected", "many"])
def test_what_is_called_without_effect_has_none(graph, base):
    """The slow truth of the table: the same search, piece for piece, whatever the option says."""
    config = load_config(None, base)
    known = outcome_of(graph, base)
    for key in (
        "seed",
        "bounding.steps",
        "bounding.learning_rate",
        "bounding.backend",
        "branching.rule",
        "branching.candidates",
    ):
        changed = load_config(config, {key: OTHER[key]})
        if unused([key], changed, choose(graph, changed), graph):
            assert outcome_of(graph, {**base, key: OTHER[key]}) == known, key


def test_given_is_an_error_and_a_preset_is_a_note(tmp_path):
    prop = box_property([0.0] * 3, [1.0] * 3, [[-1.0]], [-1.0])
    for given, words in (
        ({"candidates": 8}, "branching.candidates=8 has no effect here"),
        ({"rule": "babsr"}, "babsr and look-ahead in trees that decide neurons"),
        ({"steps": 9}, "bounding.steps=9 has no effect here"),
        ({"backend": "gurobi"}, "bounding.backend=gurobi has no effect here"),
        ({"attack": "off", "seed": 4}, "seed=4 has no effect here"),
        ({"relaxation": "exact", "split": "input"}, "split=input has no effect here"),
        ({"relaxation": "exact", "precision": "float32"}, "precision=float32 has no effect here"),
        ({"relaxation": "exact", "batch": 4}, "search.batch=4 has no effect here"),
    ):
        with pytest.raises(BadInput, match=words):
            partita.verify(FEW, prop, **given)
        notes = partita.verify(FEW, prop, config=load_config(None, given)).stats
        assert any(words in str(note) for name, note in notes.items() if name.startswith("note option")), given
    file = tmp_path / "mine.yaml"
    file.write_text("branching: {candidates: 8}\n")
    notes = partita.verify(FEW, prop, config=file).stats
    assert sum("candidates=8" in str(note) for note in notes.values()) == 1


@pytest.mark.parametrize("name", presets())
@pytest.mark.parametrize("graph", [FEW, MANY], ids=["few", "many"])
def test_presets_say_nothing_needless(name, graph):
    assert heed([], load_config(name), graph) == []


def test_auto_asks_for_nothing():
    config = load_config(
        None, {"rule": "auto", "precision": "auto", "device": "auto", "relaxation": "exact", "split": "auto"}
    )
    assert heed(["branching.rule", "precision", "device", "split"], config, FEW) == []
    config = load_config(None, {"relaxation": "exact", "device": "cpu", "precision": "float64"})
    assert heed(["device", "precision"], config, FEW) == []
    assert unlike_default(load_config("default")) == []


def test_bound_hears_what_it_looks_at():
    for relaxation, acts in (
        ("crown", {"relaxation", "precision", "device", "timeout"}),
        ("ibp+triangle", {"relaxation", "precision", "device", "timeout", "bounding.backend"}),
        ("m-1", {"relaxation", "timeout", "bounding.backend"}),
        ("exact", {"relaxation", "timeout", "bounding.backend"}),
    ):
        for key, value in OTHER.items():
            config = load_config(None, {"relaxation": relaxation, **({} if key == "relaxation" else {key: value})})
            if key in acts:
                assert heed_bound([key], config) == []
            else:
                with pytest.raises(BadInput, match=r"has no effect in partita bound.*it acts"):
                    heed_bound([key], config)
                assert any(key in said for said in heed_bound([], config))


@pytest.fixture
def files(tmp_path):
    net, prop = tmp_path / "net.onnx", tmp_path / "prop.vnnlib"
    layers = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    from partita.problems.torch.module import from_torch

    net.write_bytes(from_torch(layers, torch.zeros(1, 2))[1])
    names = ("X_0", "X_1", "Y_0")
    prop.write_text(
        "".join(f"(declare-const {n} Real)\n" for n in names)
        + "".join(f"(assert (>= {n} 0))(assert (<= {n} 1))\n" for n in names[:2])
        + "(assert (>= Y_0 1000))\n"
    )
    return net, prop


def test_the_command_line_says_it(files, tmp_path, capsys):
    net, prop = map(str, files)
    assert run(["verify", net, prop, "candidates=8"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "branching.candidates=8 has no effect here" in said.err
    assert said.err.count("\n") == 1
    assert run(["verify", net, prop, "candidates=8", "--unused", "say"]) == 0
    said = capsys.readouterr()
    assert said.out == "unsat\n"
    assert said.err.count("has no effect here") == 1
    config = tmp_path / "mine.yaml"
    config.write_text("branching: {candidates: 8}\n")
    assert run(["verify", net, prop, "--config", str(config)]) == 0
    said = capsys.readouterr()
    assert said.out == "unsat\n"
    assert said.err.count("has no effect here") == 1
    assert run(["bound", net, prop, "--relaxation", "crown", "--split", "input"]) == 2
    assert "split=input has no effect in partita bound" in capsys.readouterr().err
    assert run(["bound", net, prop, "--relaxation", "crown", "--config", str(config), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["lower"]
    assert said.err.count("has no effect in partita bound") == 1


def test_a_benchmark_goes_on_and_says_it_once(files, tmp_path, capsys):
    net, prop = files
    (tmp_path / "instances.csv").write_text(f"{net.name},{prop.name},30\n" * 2)
    assert run(["run", str(tmp_path / "instances.csv"), "--out", str(tmp_path / "out"), "candidates=8"]) == 0
    said = capsys.readouterr()
    assert said.out.count("unsat") >= 1
    assert said.err.count("candidates=8 has no effect here") == 1
    assert "in 2 of the instances" in said.err
