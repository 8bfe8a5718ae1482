"""A contradiction of our own is an internal error and says so; networks without activations are decided."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

import partita
from partita.bab.commands.main import run
from partita.problems.errors import BadInput, InternalError
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Affine, Graph, Input
from partita.problems.network.library import maximum
from partita.problems.properties.property import Polytope
from partita.problems.properties.specify import box_property
from partita.relaxations import bound as api
from partita.relaxations.linear import root


def lying(monkeypatch) -> None:
    """A layer's backward bounds that exclude its intervals."""
    honest = root.Linear.pre_activation

    def wrong(self, *arguments, **options):
        _, high = honest(self, *arguments, **options)
        return high + 1, high + 2

    monkeypatch.setattr(root.Linear, "pre_activation", wrong)


def test_a_contradiction_at_the_root_names_its_layer(monkeypatch):
    lying(monkeypatch)
    graph = maximum(3)
    name = graph.nodes[graph.layers[0].position].name
    words = f"internal error: neuron 0 of layer '{name}' is proved to be at least .* and at most .*; this is a fault of"
    for relaxation in ("crown", "alpha-crown", "deeppoly-0", "triangle", "exact"):
        with pytest.raises(InternalError, match=words):
            partita.bound(graph, (np.zeros(3), np.ones(3)), relaxation)
    prop = box_property(np.zeros(3), np.ones(3), [[-1.0]], [-5.0])
    with pytest.raises(InternalError, match=words):
        partita.verify(graph, prop, attack="off", relaxation="crown")
    assert partita.bound(graph, (np.zeros(3), np.ones(3)), "ibp").upper[0] >= 1


def test_a_contradiction_of_the_outputs_names_the_layer(monkeypatch):
    honest = api.batched

    def wrong(*arguments):
        found = honest(*arguments)
        return found._replace(lower=found.upper + 1)

    monkeypatch.setattr(api, "batched", wrong)
    box = Polytope(np.zeros(3), np.ones(3))
    with pytest.raises(InternalError, match=r"internal error: output 0 of layer '.*' is proved to be at least 2.9"):
        partita.bound(maximum(3), box, "crown")
    # With half-spaces, the same says that the set is empty: it may be.
    cut = replace(box, normals=np.ones((1, 3)), offsets=np.array([2.0]))
    with pytest.raises(BadInput, match="the input set is empty"):
        partita.bound(maximum(3), cut, "crown")


def test_an_empty_set_is_no_contradiction():
    """A half-space that leaves nothing of the box is the user's, and said to be."""
    empty = Polytope(np.zeros(3), np.ones(3), np.array([[1.0, 1, 1]]), np.array([-0.5]))
    for relaxation in ("ibp", "crown", "alpha-crown", "triangle"):
        with pytest.raises(BadInput, match="the input set is empty"):
            partita.bound(maximum(3), empty, relaxation)


def test_the_command_line_ends_with_its_own_code(monkeypatch, tmp_path, capsys):
    from networks import graph_to_onnx

    net, prop = tmp_path / "net.onnx", tmp_path / "prop.vnnlib"
    net.write_bytes(graph_to_onnx(maximum(2)))
    prop.write_text(
        "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)"
        "(assert (>= X_0 0))(assert (<= X_0 1))(assert (>= X_1 0))(assert (<= X_1 1))(assert (>= Y_0 5))"
    )
    lying(monkeypatch)
    assert run(["verify", str(net), str(prop), "attack=off", "--results", str(tmp_path / "out.txt")]) == 70
    said = capsys.readouterr()
    assert said.out == "unknown\n"
    assert "internal error" in said.err
    assert "layer" in said.err
    assert (tmp_path / "out.txt").read_text() == "unknown\n"
    assert run(["bound", str(net), str(prop), "--relaxation", "crown"]) == 70
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1


# ---- networks without activations


@pytest.mark.parametrize(
    "options", [{}, {"split": "activation"}, {"split": "input"}, {"relaxation": "m-1"}, {"relaxation": "ibp"}]
)
@pytest.mark.parametrize("inputs", [2, 30])
def test_a_network_without_activations_is_decided(inputs, options):
    """Its bounds are exact up to rounding: away from its minimum all is proved or refuted, at it nothing is wrong."""
    rows = torch.from_numpy(np.random.default_rng(1).normal(size=(2, inputs)))
    graph = Graph((Input(inputs), Affine((0,), (Dense(rows),), torch.zeros(2).double(), "y")), (inputs,), (2,))
    least = float(-rows[0].abs().sum())
    for shift, verdict in ((-1e-3, "unsat"), (1e-3, "sat"), (0.0, None)):
        prop = box_property(-np.ones(inputs), np.ones(inputs), [[1.0, 0.0]], [-(least + shift)])
        found = partita.verify(graph, prop, timeout=20, **options)
        if verdict is None:
            reached = -sum(abs(Fraction(float(c))) for c in rows[0]) <= Fraction(least)
            assert found.verdict in ("unknown", "sat" if reached else "unsat")
        else:
            assert found.verdict == verdict
