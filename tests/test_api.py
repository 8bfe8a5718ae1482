"""`verify` on files, graphs and PyTorch modules."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from small_files import SAT, UNSAT, save_network, save_property

from partita.bab.api import load, verify
from partita.bab.config import Config
from partita.problems.errors import BadInput
from partita.problems.load import load_network
from partita.problems.property import box_property


def module():
    """The network of `small_files`, with a Dropout that must be off."""
    first, second = torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 1], [1, -1], [0, 0]])), first.bias.copy_(torch.tensor([0.0, 0, 1]))
        second.weight.copy_(torch.tensor([[1.0, -1, 0], [0, 0, 1]])), second.bias.zero_()
    return torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.Dropout(0.5), second)


def above(threshold):
    """The outputs with y_0 >= threshold are unsafe, over [-1, 1]^2."""
    return box_property([-1, -1], [1, 1], [[-1, 0]], [threshold])


def test_files(tmp_path):
    net = save_network(tmp_path / "net.onnx")
    assert verify(net, save_property(tmp_path / "unsat.vnnlib", UNSAT)).verdict == "unsat"
    outcome = verify(str(net), save_property(tmp_path / "sat.vnnlib", SAT), timeout=60, seed=3)
    x, y = outcome.witness
    assert outcome.verdict == "sat" and above(1.5).violated_by(x, y)
    np.testing.assert_allclose(load(net, above(1.5)).confirm(x), y, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_modules(training):
    network = module().train(training)
    example = torch.zeros(1, 2)
    assert verify(network, above(2.5), example_input=example, attack="off").verdict == "unsat"
    outcome = verify(network, above(1.5), example_input=example, config=Config(seed=1))
    assert outcome.verdict == "sat" and above(1.5).violated_by(*outcome.witness)
    assert network.training is training


def test_graphs(tmp_path):
    graph, confirm = load_network(save_network(tmp_path / "net.onnx"))
    assert verify(graph, above(2.5)).verdict == "unsat"
    outcome = verify(graph, above(1.5))
    assert outcome.verdict == "sat" and above(1.5).violated_by(*outcome.witness)
    x = np.array([0.25, -0.75])
    np.testing.assert_allclose(load(graph, above(1)).confirm(x), confirm(x), atol=1e-6)


def test_a_spent_time_limit_is_a_timeout(tmp_path):
    network, prop = load_network(save_network(tmp_path / "net.onnx"))[0], above(2.5)
    start = time.monotonic()
    assert verify(network, prop, timeout=0).verdict in ("timeout", "unsat")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        ((module(), above(1)), {}, "needs an example_input"),
        ((3, above(1)), {}, "not a int"),
        ((module(), box_property([0], [1], [[1, 0]], [0])), {"example_input": torch.zeros(1, 2)}, "1 inputs and 2"),
        ((module(), above(1)), {"example_input": torch.zeros(1, 2), "atack": "off"}, "nearest valid one is 'attack'"),
        ((module(), above(1)), {"example_input": torch.zeros(1, 5)}, "cannot be run at an input of shape"),
    ],
)
def test_refused(arguments, options, sentence):
    with pytest.raises(BadInput, match=sentence):
        verify(*arguments, **options)
