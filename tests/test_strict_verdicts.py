"""Verdicts at exact thresholds, strict or not: every split, both precisions, both trees, with and without attack,
against the truth in fractions; and what is said where only equality holds and exact arithmetic is not tried."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

import partita
from partita.bab.config import load_config
from partita.problems.network.activation import ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.properties.property import Case, Property, UnsafeSet
from partita.problems.properties.rational import ExactSet, Row

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import fuzz_verdicts
from measure import verdict_cases

F = Fraction
SPLITS = ("auto", "input", "polyhedral", "activation")


def absolute(inputs: int) -> Graph:
    """|x_0| + sum of |x_i| over the other inputs."""
    eye = torch.eye(inputs, dtype=torch.float64)
    nodes = (
        Input(inputs),
        Affine((0,), (Dense(torch.cat([eye, -eye])),), torch.zeros(2 * inputs, dtype=torch.float64)),
        Activation((1,), ReLU(), 2 * inputs),
        Affine((2,), (Dense(torch.ones(1, 2 * inputs, dtype=torch.float64)),), torch.zeros(1, dtype=torch.float64)),
    )
    return Graph(nodes, (1, inputs), (1, 1))


def question(inputs: int, row: Row, low=F(-1), high=F(1), rows=(), **sides) -> Property:  # noqa: B008
    """Input 0 is free on [low, high], the others are zero."""
    zeros = [F(0)] * (inputs - 1)
    lower, upper = (verdict_cases.numbers_of([side, *zeros], 0) for side in (low, high))
    exact = ExactSet(lower, upper, rows=tuple(rows), **sides)
    return Property((Case(verdict_cases.polytope_of(exact), (verdict_cases.unsafe_of([row], 1, inputs),)),), inputs, 1)


TINY = F(1, 10**25)
AT_ZERO = [
    (Row({0: F(1)}, F(0), True), {}, "unsat"),  # |x| < 0
    (Row({0: F(1)}, F(0), False), {}, "sat"),  # |x| <= 0, at x = 0
    (Row({0: F(1)}, TINY, False), {}, "unsat"),
    (Row({0: F(1)}, -TINY, True), {}, "sat"),
    (Row({0: F(1)}, -F(1, 3), True), {"low": F(1, 3)}, "unsat"),
    (Row({0: F(1)}, -F(1, 4), False), {"low": F(1, 4), "open_lower": frozenset({0})}, "unsat"),
    (Row({0: F(1)}, -F(1, 4), False), {"low": F(1, 4)}, "sat"),
    (Row({0: F(1)}, F(0), True, {0: F(-1)}), {}, "unsat"),  # |x| < x
    (Row({0: F(1)}, F(0), False, {0: F(-1)}), {}, "sat"),  # |x| <= x
    (Row({0: F(1)}, F(0), False, {0: F(-1)}), {"high": F(0), "open_upper": frozenset({0})}, "unsat"),
    (Row({0: F(1)}, F(0), False), {"rows": (Row({0: F(1)}, F(0), True),)}, "unsat"),  # x < 0
    (Row({0: F(1, 3)}, -F(1, 6), True), {"rows": (Row({0: F(-3)}, F(3, 2), False),)}, "unsat"),  # x >= 1/2
]


@pytest.mark.parametrize("inputs", [1, 13], ids=["regions", "phases"])
@pytest.mark.parametrize(("row", "sides", "verdict"), AT_ZERO)
def test_thresholds_at_exact_values(inputs, row, sides, verdict):
    graph, prop = absolute(inputs), question(inputs, row, **sides)
    for k, split in enumerate(SPLITS):
        precision, attack = ("float32", "float64")[k % 2], ("off", "on")[k // 2]
        said = partita.verify(graph, prop, split=split, precision=precision, attack=attack, timeout=20)
        assert said.verdict == verdict, (split, precision, said.reason)


@pytest.mark.parametrize("relaxation", ["ibp", "crown", "triangle", "exact"])
@pytest.mark.parametrize(("row", "sides", "verdict"), AT_ZERO[:5])
def test_relaxations_at_exact_values(relaxation, row, sides, verdict):
    said = partita.verify(absolute(1), question(1, row, **sides), relaxation=relaxation, attack="off", timeout=20)
    assert said.verdict == verdict, said.reason


@pytest.mark.parametrize("relaxation", ["auto", "exact"])
def test_where_exact_arithmetic_is_not_tried_the_reason_names_the_point(relaxation):
    given = {"attack": "off", "relaxation": relaxation, "timeout": 20, "effort.leaf.entries": 0}
    prop = question(1, Row({0: F(1)}, -F(1, 2), True), low=F(1, 2))
    said = partita.verify(absolute(1), prop, **given)
    assert said.verdict in ("unknown", "unsat")
    if said.verdict == "unknown":
        assert "X_0 = 0.5" in said.reason and "too many" in said.reason
    far = question(1, Row({0: F(1)}, F(0), True))
    config = load_config(None, {**given, "split": "input"})
    said = partita.verify(absolute(1), far, config=config)
    assert said.verdict in ("unknown", "unsat")
    assert said.verdict == "unsat" or "X_0 = " in said.reason


def test_a_violation_at_one_point_that_is_no_decimal_is_unknown_and_named():
    third = F(1, 3)  # |x| + 1/3 - 2 x <= 0 on [0, 1/3]: at x = 1/3 alone
    row = Row({0: F(1)}, third, False, {0: F(-2)})
    said = partita.verify(absolute(1), question(1, row, low=F(0), high=third), attack="off", timeout=20)
    assert said.verdict == "unknown" and "X_0 = 1/3" in said.reason
    strict = Row({0: F(1)}, third, True, {0: F(-2)})
    assert partita.verify(absolute(1), question(1, strict, low=F(0), high=third), timeout=20).verdict == "unsat"


def test_strict_input_sets_without_points():
    """Every output is unsafe, and the set is empty only for its strict borders."""
    nothing = UnsafeSet(np.zeros((0, 1)), np.zeros(0))
    for rows, verdict in (((Row({0: F(1)}, F(1), True),), "unsat"), ((Row({0: F(1)}, F(1), False),), "sat")):
        exact = ExactSet(*(verdict_cases.numbers_of([v], 0) for v in (F(-1), F(1))), rows=rows)
        prop = Property((Case(verdict_cases.polytope_of(exact), (nothing,)),), 1, 1)
        assert partita.verify(absolute(1), prop, timeout=20).verdict == verdict


@pytest.mark.parametrize("part", range(4))
def test_random_networks_have_no_wrong_verdict_and_most_are_decided(part):
    found = fuzz_verdicts.hunt(8, 4, 700 + 50 * part, how=fuzz_verdicts.How(10.0))
    assert found["wrong"] == found["crashes"] == 0, found["complaints"]
    counts, holds = found["counts"], [n for name, n in found["counts"].items() if name.startswith("holds")]
    assert counts.get("holds: unsat", 0) >= 0.75 * sum(holds), counts


def test_the_fuzzer_sees_wrong_verdicts(monkeypatch, tmp_path):
    """Verdicts turned round are complaints; a run goes on where its file ends."""
    truth = {}

    class Said:
        decimals = ("0",)

        def __init__(self, verdict):
            self.verdict = verdict

    def lie(network, prop, **options):
        return Said("unsat" if truth["exists"] else "sat")

    monkeypatch.setattr(partita, "verify", lie)
    for seed in range(40):
        trial = verdict_cases.trial(seed)
        truth["exists"] = trial.counterexample() is not None
        Said.decimals = ("1e6",) * trial.prop.n_in
        verdict, complaint = fuzz_verdicts.judged(trial, None, {}, truth["exists"], 1.0)
        assert complaint.startswith("wrong"), (seed, verdict)
    monkeypatch.setattr(partita, "verify", lambda *a, **o: Said("unknown"))
    out = tmp_path / "found.json"
    fuzz_verdicts.hunt(3, 2, 0, out)
    found = fuzz_verdicts.hunt(5, 2, 0, out)
    assert found["networks"] == 5 and found["verdicts"] == 10 and found["wrong"] == 0 and "commit" in out.read_text()


def test_trials_are_what_they_should_be():
    """All kinds come up, and a network as a file or a graph is the layers."""
    kinds, random = set(), Random(0)
    for seed in range(150):
        trial = verdict_cases.trial(seed)
        kinds |= {la.activation for la in trial.layers} | {f"{len(trial.layers[0].weight[0])} inputs"}
        for case in trial.prop.cases:
            exact = case.inputs.meaning
            kinds |= {"open"} if exact.open_lower or exact.open_upper else set()
            kinds |= {"half-space"} if exact.rows else set()
            kinds |= {f"strict {row.strict}" for u in case.unsafe for row in u.meaning}
            kinds |= {"tied"} if any(u.on_input is not None for u in case.unsafe) else set()
        if not trial.as_file:
            x = [F(random.randint(-4, 4), 4) for _ in trial.layers[0].weight[0]]
            y = verdict_cases.graph_of(trial.layers)(torch.tensor([float(v) for v in x], dtype=torch.float64))
            exact = [float(v) for v in verdict_cases.output(trial.layers, x)]
            np.testing.assert_allclose(y.numpy(), exact, rtol=1e-6, atol=1e-6)
    wanted = {"relu", "leaky", "clip", "1 inputs", "13 inputs", "open", "half-space", "tied", "strict True"}
    assert kinds >= wanted | {"strict False"}
