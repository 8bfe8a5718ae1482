"""`relaxation=NAME` in a search: every rung decides small problems, agrees with the oracle, and says what it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import graph_to_onnx, random_graph, random_property
from small_files import SAT, UNSAT, save_network, save_property

import partita
from partita.bab import mip as oracle
from partita.bab.attack.witness import Judge
from partita.bab.commands import main as cli
from partita.bab.config import load_config
from partita.problems.errors import BadInput
from partita.problems.property import robustness_property
from partita.relaxations.ladder.exact import feasible_unsafe

RUNGS = (
    *("ibp", "deeppoly-0", "deeppoly-1", "crown", "alpha-crown", "exact"),
    *("triangle", "k-relu", "prima", "m-1", "m-2", "p-1", "p-2", "triangle+m-1"),
)


@pytest.mark.parametrize("relaxation", RUNGS)
def test_every_rung_agrees_with_the_oracle(relaxation):
    verdicts = []
    for seed in range(6):
        kind = ("mlp", "maxpool", "residual")[seed % 3]
        graph = random_graph(seed, kind, inputs=3, width=6, depth=2)
        prop = random_property(seed, graph, radius=0.3, halfspaces=seed % 2, cases=2, rows=1 + seed % 2)
        least = min(feasible_unsafe(graph, c.inputs, u).upper for c in prop.cases for u in c.unsafe)
        if abs(least) < 1e-4:
            continue
        outcome = partita.verify(graph, prop, relaxation=relaxation, timeout=30, attack="off")
        assert outcome.verdict == ("sat" if least < 0 else "unsat"), (seed, outcome.reason)
        assert relaxation in outcome.stats["strategy"] or f"({relaxation})" in outcome.stats["strategy"]
        if outcome.witness is not None:
            assert prop.violated_by(*outcome.witness)
        verdicts.append(outcome.verdict)
    assert len(verdicts) > 3 and set(verdicts) == {"sat", "unsat"}


@pytest.mark.parametrize("relaxation", ("m-1", "k-relu", "prima", "prima:k=2", "auto"))
def test_rows_in_the_backward_pass_agree_with_the_oracle(relaxation):
    """Networks of more inputs, whose neurons are decided: rows enter the multipliers' ascent."""
    verdicts, met = [], 0
    for seed in range(6):
        graph = random_graph(seed, ("mlp", "residual")[seed % 2], inputs=14, width=10, depth=3)
        prop = random_property(seed, graph, radius=0.35, halfspaces=seed % 2)
        least = min(feasible_unsafe(graph, c.inputs, u).upper for c in prop.cases for u in c.unsafe)
        if abs(least) < 1e-4:
            continue
        outcome = partita.verify(graph, prop, relaxation=relaxation, timeout=30, attack="off")
        assert outcome.verdict == ("sat" if least < 0 else "unsat"), (seed, outcome.reason)
        met += "multi-neuron rows" in outcome.stats["strategy"]
        verdicts.append(outcome.verdict)
    assert len(verdicts) > 3 and met > 0


@pytest.mark.parametrize("relaxation", ("m-1", "prima"))
def test_layers_that_rows_cannot_treat_are_named(relaxation):
    graph = random_graph(1, "sigmoid", inputs=14, width=6, depth=2)
    prop = random_property(1, graph, radius=0.05)
    outcome = partita.verify(graph, prop, relaxation=relaxation, timeout=20, attack="off", max_pieces=50)
    notes = [said for name, said in outcome.stats.items() if name.startswith("note")]
    assert len(notes) == 2 and all("Sigmoid" in said and "one at a time" in said for said in notes)
    with pytest.raises(BadInput, match="Sigmoid"):
        partita.verify(graph, prop, relaxation=f"{relaxation}:strict=on", timeout=20, attack="off")


@pytest.mark.parametrize("split", ("auto", "input", "polyhedral", "activation"))
def test_intervals_with_every_kind_of_split(split):
    graph = random_graph(1, "mlp", inputs=3, width=6, depth=2)
    for seed in range(3):
        prop = random_property(seed, graph, radius=0.2)
        least = min(feasible_unsafe(graph, c.inputs, u).upper for c in prop.cases for u in c.unsafe)
        outcome = partita.verify(graph, prop, relaxation="ibp", split=split, timeout=30)
        assert outcome.verdict == ("sat" if least < 0 else "unsat"), outcome.reason


@pytest.mark.parametrize("precision", ("float32", "float64"))
def test_intervals_on_many_inputs_decide_neurons(precision):
    graph = random_graph(3, "conv", inputs=16, width=8, depth=2, outputs=2)
    centre = np.linspace(-1, 1, 16)
    label = int(graph(torch.as_tensor(centre)).argmax())
    prop = robustness_property(centre, 0.02, label, 2)
    outcome = partita.verify(graph, prop, relaxation="ibp", precision=precision, timeout=30)
    truth = min(feasible_unsafe(graph, c.inputs, u).upper for c in prop.cases for u in c.unsafe)
    assert outcome.verdict == ("sat" if truth < 0 else "unsat")


def test_smooth_networks_under_intervals():
    graph = random_graph(2, "tanh", inputs=2, width=5, depth=1)
    for seed in range(3):
        prop = random_property(seed, graph, radius=0.3)
        verdicts = {partita.verify(graph, prop, relaxation=r, timeout=20).verdict for r in ("ibp", "auto")}
        assert len(verdicts) == 1 and verdicts <= {"sat", "unsat"}


def test_exact_says_what_its_unsat_is_worth_and_refuses_smooth_networks(tmp_path, capsys):
    net = save_network(tmp_path / "net.onnx")
    holds, fails = (save_property(tmp_path / f"{i}.vnnlib", p) for i, p in enumerate((UNSAT, SAT)))
    outcome = partita.verify(net, holds, config="exact")
    assert outcome.verdict == "unsat" and "highs is trusted to tolerances" in outcome.reason
    assert cli.run(["verify", str(net), str(fails), "--relaxation", "exact", "attack=off"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("sat\n((X_0 ") and "mixed-integer" in said.err
    smooth = random_graph(0, "sigmoid", inputs=2)
    (tmp_path / "smooth.onnx").write_bytes(graph_to_onnx(smooth))
    assert cli.run(["verify", str(tmp_path / "smooth.onnx"), str(holds), "--config", "exact"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "piecewise-linear" in said.err and said.err.count("\n") == 1


def test_exact_never_says_sat_without_the_originals_word():
    graph = random_graph(0, "mlp", inputs=3)
    prop = random_property(0, graph, radius=0.5)
    safe = np.full(graph.output_size, 0.0)
    refuted = [seed for seed in range(8) if _refuses(graph, random_property(seed, graph), safe)]
    assert refuted and oracle.ask(graph, Judge(graph, prop, lambda x: graph(torch.as_tensor(x)).numpy())).verdict in (
        "sat",
        "unsat",
    )


def _refuses(graph, prop, y) -> bool:
    """Whether a violated property stays unknown when the original network answers `y` to everything."""
    if any(u.margin(y) <= 0 for c in prop.cases for u in c.unsafe):
        return False
    honest = oracle.ask(graph, Judge(graph, prop, lambda x: graph(torch.as_tensor(x)).numpy()))
    stubborn = oracle.ask(graph, Judge(graph, prop, lambda x: y))
    assert stubborn.verdict == ("unsat" if honest.verdict == "unsat" else "unknown")
    return honest.verdict == "sat" and "does not confirm" in stubborn.reason


def test_exact_keeps_its_time_limit():
    graph = random_graph(0, "mlp", inputs=6, width=40, depth=4)
    outcome = partita.verify(graph, random_property(1, graph, radius=2.0), config="exact", timeout=1)
    assert outcome.verdict in ("timeout", "unknown", "sat") and outcome.seconds < 4


def test_an_extra_that_is_missing_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gurobipy", None)
    graph = random_graph(0, "mlp", inputs=3)
    prop = random_property(0, graph)
    with pytest.raises(BadInput, match=r"extra 'gurobi'"):
        partita.verify(graph, prop, config="exact", backend="gurobi")
    assert load_config("exact").bounding.backend == "highs"
