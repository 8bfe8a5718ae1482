"""What the reading of PyTorch modules rests on, each on its own."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from module_zoo import BAD, GOOD, Around, in_place_on_a_view, module
from torch import Tensor, nn

from partita.problems.errors import BadInput
from partita.problems.load import load_network, load_problem
from partita.problems.onnx import compare as comparing
from partita.problems.properties.specify import box_property
from partita.problems.torch import written as reading
from partita.problems.torch.export import _check_operators, _random, changed_by, exported, state_of
from partita.problems.torch.module import ModuleRun, evaluating
from partita.problems.torch.written import _changes_views

EXAMPLE = torch.tensor([[0.3, 0.4]])


def of_a_view(m: Around, x: Tensor) -> Tensor:
    y = m.linear(x)
    y.view(2).add_(1.0)
    return y


def of_what_is_looked_at(m: Around, x: Tensor) -> Tensor:
    y = m.linear(x)
    z = y.reshape(2)
    y.mul_(2.0)
    return z[None]


def of_the_input(m: Around, x: Tensor) -> Tensor:
    x.mul_(2.0)
    return m.linear(x)


@pytest.mark.parametrize("function", [in_place_on_a_view, of_a_view, of_what_is_looked_at, of_the_input])
def test_changes_of_views_are_seen(function) -> None:
    """The older writer loses them, so the newer one is asked."""
    assert _changes_views(exported(module(function), EXAMPLE.clone()))


def test_the_newer_writer_is_asked_where_a_view_changes(monkeypatch) -> None:
    def newer(program, example):
        raise BadInput("the newer writer is asked")

    monkeypatch.setattr(reading, "_newer", newer)
    with pytest.raises(BadInput, match="the newer writer is asked"):
        load_network(module(in_place_on_a_view), EXAMPLE)
    load_network(module(GOOD["relu in place"]), EXAMPLE)


@pytest.mark.parametrize("name", ["linear", "relu", "relu in place", "abs", "convolution"])
def test_changes_of_no_view_are_left_to_the_older_writer(name: str) -> None:
    assert not _changes_views(exported(module(GOOD[name]), EXAMPLE))


@pytest.mark.parametrize("name", ["item", "as many as are positive", "cond", "random", "branches and hides it"])
def test_a_program_that_is_no_formula_is_refused_by_its_line(name: str) -> None:
    function, words = BAD[name]
    with pytest.raises(BadInput, match=words):
        exported(module(function), EXAMPLE)


def test_values_that_become_numbers_and_sizes_that_depend_on_values_are_refused() -> None:
    """Each by itself, though PyTorch keeps both as symbols of the graph."""

    def number(m: Around, x: Tensor) -> Tensor:
        return x * x.sum().item()

    def size(m: Around, x: Tensor) -> Tensor:
        return torch.nonzero(x).sum()[None].float()

    for function in (number, size):
        with pytest.raises(BadInput, match=r"into a Python number or a size at \w+.py:\d+"):
            exported(module(function), EXAMPLE)


def test_each_node_of_such_a_program_is_enough() -> None:
    """The nodes one by one: a number by its kind, a tensor by its size."""

    def size(m: Around, x: Tensor) -> Tensor:
        return torch.nonzero(x).sum()[None].float() * x.sum().item()

    with torch.no_grad():
        program = torch.export.export(module(size), (EXAMPLE,), strict=False)
    refused = set()
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and not all(isinstance(n, int) for n in value.shape):
            refused.add("size")
        elif isinstance(value, torch.SymInt | torch.SymFloat):
            refused.add("number")
        else:
            continue
        with pytest.raises(BadInput, match="into a Python number or a size"):
            _check_operators(SimpleNamespace(graph=SimpleNamespace(nodes=[node])))
    assert refused == {"size", "number"}


def test_errors_that_hold_another_are_looked_into() -> None:
    """A module that turns the exporter's refusal into an error of its own has looked at values all the same."""

    def renamed(m: Around, x: Tensor) -> Tensor:
        try:
            return -x if x.sum() > 0 else x
        except Exception as error:
            raise RuntimeError("something else") from error

    with pytest.raises(BadInput, match="looks at values of a tensor at"):
        exported(module(renamed), EXAMPLE)


def test_which_operators_draw() -> None:
    """One that may draw does unless its arguments switch it off."""

    def drawn(function) -> list[bool]:
        class Plain(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return function(x)

        with torch.no_grad():
            program = torch.export.export(Plain().eval(), (EXAMPLE,), strict=False)
        return [_random(n.target, n) for n in program.graph.nodes if isinstance(n.target, torch._ops.OpOverload)]

    drop = torch.nn.functional.dropout
    assert any(drawn(lambda x: drop(x, 0.5, training=True)))
    assert not any(drawn(lambda x: drop(x, 0.5, training=False)))
    assert any(drawn(lambda x: x + torch.rand(2)))
    assert not any(drawn(lambda x: x + 1))


def test_what_a_call_could_change_is_noticed() -> None:
    subject = module(GOOD["linear"])
    before = state_of(subject)
    assert changed_by(before, state_of(subject)) is None

    def change(what) -> str | None:
        subject = module(GOOD["linear"])
        before = state_of(subject)
        what(subject)
        return changed_by(before, state_of(subject))

    assert change(lambda m: m.seen.add_(1)) == "seen"
    assert change(lambda m: m.register_buffer("seen", torch.zeros(1))) == "seen"
    assert change(lambda m: setattr(m, "calls", 1)) == "calls"
    assert change(lambda m: m.history.append(0.5)) == "history"
    assert change(lambda m: setattr(m, "other", 3)) == "other"
    assert change(lambda m: setattr(m.norm, "momentum", 0.5)) == "norm.momentum"
    with torch.no_grad():
        assert change(lambda m: m.linear.weight.mul_(2)) == "linear.weight"


def test_a_module_runs_in_evaluation_mode_and_keeps_its_flags() -> None:
    subject = module(GOOD["branch on a flag"]).train()
    subject.norm.eval()
    with evaluating(subject):
        assert not any(part.training for part in subject.modules())
    assert subject.training and not subject.norm.training
    x = np.array([0.25, -0.5])
    run = ModuleRun(subject, EXAMPLE)
    with torch.no_grad():
        expected = subject.linear(torch.from_numpy(x).float()[None])[0].double().numpy()
    np.testing.assert_array_equal(run(x), expected)
    assert subject.training


def test_a_module_that_changes_itself_is_refused_by_name() -> None:
    def late(m: Around, x: Tensor) -> Tensor:
        m.calls += 1
        return m.linear(x)

    with pytest.raises(BadInput, match="changes its own 'calls' each time"):
        load_network(module(late), EXAMPLE)


def test_what_the_box_leaves_out_is_compared_there_and_the_rest_in_general(monkeypatch) -> None:
    """The network that is verified at the property's points, the one that was read at general ones."""
    asked = []

    def compare(subject, points, seconds):
        asked.append((subject, points, seconds))
        return len(asked)

    monkeypatch.setattr(comparing, "compare", compare)
    subject = module(lambda m, x: m.linear(x).clamp(-100.0, 100.0))
    small, wide = (box_property([-r, -r], [r, r], [[1.0, 0.0]], [1e6]) for r in (1.0, 1e4))
    graph, _, _, said = load_problem(subject, small, EXAMPLE, seconds=0.125)
    (whole, general, first), (part, points, second) = asked
    assert said == 2 and part.graph is graph and whole.graph is not graph and first == second == 0.0625
    assert np.abs(points).max() <= 1.0 < np.abs(general).max()
    asked.clear()
    graph, _, _, said = load_problem(module(GOOD["relu"]), wide, EXAMPLE, seconds=0.125)
    ((whole, points, spent),) = asked
    assert said == 1 and whole.graph is graph and spent == 0.125
    assert len(points) == 16 and (np.abs(points).min(1) == 1e4).any()
