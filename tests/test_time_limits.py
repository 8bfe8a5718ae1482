"""Time that is up at any moment whatever: what comes back is sound, and comes back at the next look at the clock.

The clock is a false one: it stands still for `looks` looks, and then the limit has passed. So nothing here depends on
how busy the machine is, and time is up in every place where somebody looks.
"""

import time
from math import comb
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import random_graph

import partita
from partita.bab.config import load_config
from partita.kernels import deadline
from partita.problems.input_set import polytopes_of
from partita.problems.network.library import random_network
from partita.problems.properties.specify import box_property
from partita.relaxations.effort import LinearEffort
from partita.relaxations.linear import rebounding as base

FURTHER = 60  # looks until a call is back whose time is up: one for each place that keeps what it has
RELAXATIONS = ("ibp", "deeppoly-0", "deeppoly-1", "crown", "alpha-crown", "triangle", "k-relu", "prima", "m-1", "p-1")
RELAXATIONS += ("exact", "ibp+triangle")


class Clock:
    """Stands in for `time` in the module of deadlines."""

    def __init__(self, looks: float) -> None:
        self.looks, self.count, self.start = looks, -1, time.monotonic()  # one look when the limit begins
        self.perf_counter = time.perf_counter

    def monotonic(self) -> float:
        self.count += 1
        return self.start + (1e6 if self.count > self.looks else 0.0)


def during(monkeypatch, looks: float, work):
    """What `work` gives where time is up after so many looks, and how many looks there were."""
    clock = Clock(looks)
    with monkeypatch.context() as patch:
        patch.setattr(deadline, "time", clock)
        return work(), clock.count


def moments(total: int) -> list[int]:
    """Some of the looks at which time may be up, the first and the last ones among them."""
    return sorted({*range(4), *np.linspace(4, max(5, total), 14).astype(int).tolist()})


def network(seed: int = 3, inputs: int = 3):
    return random_graph(seed, "mlp", inputs=inputs, width=5, depth=2)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_bounds_hold_wherever_time_is_up(relaxation, monkeypatch):
    graph, box = network(), (-0.5 * np.ones(3), np.ones(3))
    seen = graph(torch.from_numpy(np.random.default_rng(0).uniform(*box, (500, 3)))).numpy()
    bounds = lambda: partita.bound(graph, box, relaxation, steps=5, timeout=1000.0)  # noqa: E731
    whole, total = during(monkeypatch, np.inf, bounds)
    assert not whole.notes and np.isfinite(whole.lower).all()
    for looks in moments(total):
        try:
            found, count = during(monkeypatch, looks, bounds)
        except TimeoutError as error:
            assert looks < 8 and "there are no bounds yet" in str(error)
            continue
        assert count <= looks + FURTHER, (looks, count)
        assert (found.lower <= seen.min(0)).all() and (found.upper >= seen.max(0)).all(), looks
        assert (found.lower <= whole.lower + 1e-6).all() and (found.upper >= whole.upper - 1e-6).all(), looks
        late = [note for note in found.notes if "the time limit passed while" in note]
        assert late or np.allclose(found.lower, whole.lower), looks
        if not late:
            assert len(found.layers) == len(whole.layers)


def test_intervals_are_known_before_layers_are_bounded(monkeypatch):
    graph, box = network(), (-0.5 * np.ones(3), np.ones(3))
    bounds = lambda: partita.bound(graph, box, "crown", timeout=1000.0)  # noqa: E731
    _, total = during(monkeypatch, np.inf, bounds)
    loose = partita.bound(graph, box, "ibp")
    found, _ = during(monkeypatch, total // 2, bounds)
    assert np.isfinite(found.lower).all() and (found.lower >= loose.lower - 1e-6).all()


OPTIONS = [
    {"split": split, "relaxation": relaxation}
    for split in ("input", "activation")
    for relaxation in ("auto", "ibp", "crown", "alpha-crown", "triangle", "m-1")
] + [{"relaxation": "exact"}]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o.values()))
def test_searches_end_and_say_nothing_wrong_wherever_time_is_up(options, monkeypatch):
    graph, (lower, upper) = network(5), (-np.ones(3), np.ones(3))
    seen = graph(torch.from_numpy(np.random.default_rng(0).uniform(lower, upper, (3000, 3)))).numpy()
    row = np.zeros((1, graph.output_size))
    row[0, 0] = 1.0
    for threshold, truth in ((seen[:, 0].min() - 0.3, "unsat"), (seen[:, 0].min() + 0.05, "sat")):
        prop = box_property(lower, upper, row, np.array([-threshold]))
        verdict = lambda prop=prop: partita.verify(graph, prop, timeout=1000.0, **options)  # noqa: E731
        whole, total = during(monkeypatch, np.inf, verdict)
        assert whole.verdict == truth
        for looks in moments(total)[::3]:
            said, count = during(monkeypatch, looks, verdict)
            assert said.verdict in (truth, "timeout"), (looks, said.reason)
            assert count <= looks + FURTHER, (looks, count)
            if said.verdict == "timeout":
                assert said.reason.startswith("the time limit passed"), said.reason


def test_no_cell_is_lost_or_counted_twice_wherever_time_is_up(monkeypatch):
    graph, (lower, upper) = network(4, inputs=13), (-np.ones(13), np.ones(13))
    count = lambda: partita.count_patterns(graph, (lower, upper), timeout=1000.0)  # noqa: E731
    whole, total = during(monkeypatch, np.inf, count)
    assert whole.finished and whole.low > 10
    for looks in moments(total):
        try:
            found, _ = during(monkeypatch, looks, count)
        except TimeoutError as error:
            assert looks < 8 and "nothing is counted yet" in str(error)
            continue
        assert found.low <= whole.low <= found.high, looks
        assert found.finished or "time limit" in found.reason


def test_trees_are_whole_wherever_time_is_up(monkeypatch):
    graph, box = network(2, inputs=2), (-np.ones(2), np.ones(2))
    measure = lambda: partita.partition(graph, box, ["triangle"], branching="first", count=False, timeout=1000.0)  # noqa: E731
    whole, total = during(monkeypatch, np.inf, measure)
    assert whole.measurements[0].finished
    for looks in moments(total):
        try:
            found, _ = during(monkeypatch, looks, measure)
        except (TimeoutError, partita.problems.errors.BadInput) as error:
            assert "time limit" in str(error) or "not found" in str(error)
            continue
        for m in found.measurements:
            assert m.leaves <= whole.measurements[0].leaves or not m.finished
            pieces = m.tree.pieces
            split = sum(p.status == "split" for p in pieces)
            assert len(pieces) == 2 * split + 1  # every split has both of its children, open or not
        assert found.measurements or found.notes


def test_regions_of_many_inputs_hold_no_form_of_every_neuron(monkeypatch):
    graph, (lower, upper) = network(5), (-np.ones(3), np.ones(3))
    row = np.eye(1, graph.output_size)
    seen = graph(torch.from_numpy(np.random.default_rng(0).uniform(lower, upper, (3000, 3)))).numpy()
    prop = box_property(lower, upper, row, np.array([0.02 - seen[:, 0].min()]))
    asked, bound = [], base.Linear.formed
    listening = lambda *a, **k: (asked.append(k.get("reach")), bound(*a, **k))[1]  # noqa: E731
    monkeypatch.setattr(base.Linear, "formed", listening)
    for entries in (LinearEffort().reach, 0):
        asked.clear()
        config = load_config(None, {"effort.linear.reach": entries})
        said = partita.verify(graph, prop, config=config, split="input", relaxation="crown", attack="off")
        assert said.verdict == "unsat" and said.pieces > 1
        dense = [reach for reach in asked if reach is not None]
        assert bool(dense) == (entries > 0)


def test_an_attack_on_a_large_network_evaluates_few_points_at_once():
    from partita.bab.attack.descent import Attack
    from partita.bab.effort import AttackEffort

    def points(neurons: int) -> int:
        graph = SimpleNamespace(neurons=neurons, input_size=1)
        return Attack._points(SimpleNamespace(graph=graph, effort=AttackEffort()), 1)

    assert points(100) > 16 and points(1 << 20) == 16 and points(1 << 25) == 2 and points(1 << 30) == 1


def test_programs_are_given_no_more_time_than_there_is():
    graph, box = network(), (-np.ones(3), np.ones(3))
    (polytope,) = polytopes_of(graph, box)
    from partita.problems.properties.property import UnsafeSet
    from partita.relaxations.ladder.exact import feasible_unsafe

    unsafe = UnsafeSet(np.eye(1, graph.output_size), np.zeros(1))
    with deadline.until(time.monotonic() - 1), pytest.raises(deadline.TimeUp):
        feasible_unsafe(graph, polytope, unsafe)


def test_each_program_is_told_what_is_left(monkeypatch):
    """Linear programs: none is begun when time is up, and the solver's own limit is no later than the end."""
    from scipy.sparse import csr_array

    from partita.kernels.solving import door
    from partita.relaxations.lp import highs
    from partita.relaxations.lp.model import LinearModel

    model = LinearModel(np.ones(2), np.zeros(2), np.ones(2), csr_array(np.ones((1, 2))), np.ones(1), np.full(1, np.inf))
    told, plain = [], door.solver

    def listening(*given):
        solver = plain(*given)
        inner = solver.setOptionValue
        solver = SimpleNamespace(
            **{name: getattr(solver, name) for name in dir(solver) if not name.startswith("_")}
            | {"setOptionValue": lambda name, value: (told.append((name, value)), inner(name, value))[1]}
        )
        return solver

    monkeypatch.setattr(door, "solver", listening)
    monkeypatch.setattr(door, "load", lambda solver, *parts: None)
    with deadline.until(time.monotonic() - 1), pytest.raises(deadline.TimeUp):
        highs.solve(model, time_limit=9.0)
    assert not [value for name, value in told if name == "time_limit"]
    with deadline.until(time.monotonic() + 5):
        highs.solve(model, time_limit=9.0)
    assert [0 < value <= 5.5 for name, value in told if name == "time_limit"] == [True]


@pytest.mark.parametrize(("relaxation", "each"), [("k-relu:k=3,groups=all", 2), ("m-2:groups=all", 1)])
def test_programs_of_many_groups_look_at_the_clock_for_each(relaxation, each, monkeypatch):
    """Hundreds of hulls take many seconds to write down, before any solver is asked."""
    looks = []
    monkeypatch.setattr("partita.relaxations.ladder.multi_neuron.check", lambda: looks.append(None))
    graph = random_network((3, 7, 2), 0)
    report = partita.bound(graph, (-np.ones(3), np.ones(3)), relaxation)
    groups = comb(len(report.unstable[0]), 3 if "k=3" in relaxation else 2)
    assert groups >= 4 and len(looks) >= each * groups
