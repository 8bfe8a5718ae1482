"""Every entry of the catalogue through the conformance tests, and every entry point with a relaxation of one's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conformance import Conformance

import partita
from partita.bab.config import load_config
from partita.problems.errors import BadInput
from partita.problems.network.library import maximum
from partita.problems.properties.specify import box_property
from partita.relaxations import catalogue
from partita.relaxations.ladder.ladder import LinearPrograms
from partita.relaxations.linear.linear import Linear
from partita.relaxations.linear.root import root
from partita.relaxations.names import parse
from partita.relaxations.protocol import AbstractRelaxation, Bounds, Means

SETTINGS = {  # of `Conformance`, by kind
    "intervals": {"settles": False},
    "lines": {"kinds": ("mlp", "tanh", "residual"), "refreshes": False},
    "slopes": {"kinds": ("mlp", "conv", "sigmoid"), "batch_tolerance": (1e-2, 1e-3), "refreshes": False},
    "program": {"kinds": ("mlp",), "batch_tolerance": (1e-4, 1e-6), "refreshes": False},
    "integer": {"kinds": ("mlp",)},
    "separate": {"kinds": ("mlp", "tanh"), "refreshes": False},
}


def built(word: str):
    """What a conformance class builds for a name."""

    def build(self, linear, graph):
        (name,) = parse(word)
        if name.rung.kind == "program":
            return LinearPrograms((name,), graph)
        return name.rung.load()(linear, graph, name, Means(steps=5))

    return build


DEAR = ("test_stable_pieces_are_exact", "test_float32_is_within_its_slack_of_float64", "test_degenerate_boxes")
JOINED = dict.fromkeys((*DEAR, "test_same_call_same_bits"))  # programs of several neurons: the rest is in test_ladder

for entry in catalogue.CATALOGUE:
    more = JOINED if entry.kind == "program" and entry.joins else {}
    title = "TestRung" + "".join(part.title() for part in entry.name.split("-"))
    globals()[title] = type(title, (Conformance,), {"build": built(entry.example), **SETTINGS[entry.kind], **more})


@pytest.mark.parametrize("entry", catalogue.CATALOGUE, ids=lambda rung: rung.name)
def test_an_entry_says_what_it_is(entry):
    assert entry.does and entry.source and entry.files and callable(entry.load())
    for name in entry.files:
        assert (load_config.__globals__["PRESETS"].parent / "relaxations" / name).is_file(), name
    assert load_config(entry.example).relaxation == entry.example == str(parse(entry.example)[0])


@dataclass(frozen=True, eq=False)
class Own(AbstractRelaxation):
    """A caller's: CROWN by another name, which counts how often it is asked."""

    linear: Linear
    asked: list[int]

    def bound(self, pieces, rows, start=None):
        self.asked.append(len(pieces))
        return Bounds(self.linear.bound(pieces, rows).result, pieces)


def test_every_entry_point_takes_a_relaxation_of_ones_own():
    graph, box = maximum(3), (np.zeros(3), np.ones(3))
    linear, _ = root(graph, *(torch.as_tensor(side) for side in box))
    own = Own(linear, [])
    theirs, crown = partita.bound(graph, box, own), partita.bound(graph, box, "crown")
    np.testing.assert_allclose([theirs.lower, theirs.upper], [crown.lower, crown.upper], atol=1e-9)
    assert own.asked == [1]
    prop = box_property(*box, [[-1.0]], [1.5])
    outcome = partita.verify(graph, prop, relaxation=own, attack="off", precision="float64")
    assert outcome.verdict == "unsat" and "(own)" in outcome.stats["strategy"] and len(own.asked) > 1
    assert load_config(None, {"relaxation": own}).relaxation is own
    found = partita.partition(graph, box, [own], exactness="max", branching="babsr", count=False)
    assert found.measurements[0].relaxation == "own" and found.measurements[0].finished


def test_a_log_wants_a_relaxation_with_a_name(tmp_path):
    graph, box = maximum(3), (np.zeros(3), np.ones(3))
    own = Own(root(graph, *(torch.as_tensor(side) for side in box))[0], [])
    with pytest.raises(BadInput, match="no such name"):
        partita.verify(graph, box_property(*box, [[-1.0]], [1.5]), relaxation=own, attack="off", log=tmp_path / "log")
