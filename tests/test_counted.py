"""A search in which work is counted and no clock decides is the same tree every time, however busy the machine."""

import re
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import random_graph

import partita
from partita.bab.search.observer import Observer
from partita.kernels import work
from partita.kernels.deadline import TimeUp, check, counted, left, now, share, spent, until, within
from partita.problems.network.affine import Dense
from partita.problems.properties.specify import box_property

ROOT = Path(__file__).resolve().parents[1]

# Files that read a clock of their own, and why that decides nothing in a search.
CLOCKS = {
    "kernels/deadline.py": "the one clock of all decisions",
    "kernels/solving/worker.py": "patience with a process that hangs",
    "kernels/interrupt.py": "ends what does not look at the clock: reading a module",
    "bab/search/clock.py": "a user's limit, from the process's start",
    "bab/ending/stopping.py": "the end of a run that was told to end",
    "bab/running/instances.py": "limits of whole runs",
    "bab/trees/phases.py": "seconds of the summary alone",
    "bab/trees/twinned.py": "seconds of the summary alone",
    "bab/trees/programs.py": "seconds of the summary alone",
    "bab/logs/header.py": "the date of a log",
    "relaxations/bound.py": "seconds of the report alone",
}
MEASURING = {"counting", "comparing", "commands", "pages"}  # folders of what searches no tree for a verdict
READS = re.compile(
    r"\btime\.(monotonic|perf_counter|process_time|time|clock_gettime)\b|\bTimer\(|^from (time|datetime) ", re.M
)


def test_all_decisions_read_one_clock():
    found = set()
    for floor in ("kernels", "problems", "relaxations", "bab"):
        for path in (ROOT / floor).rglob("*.py"):
            name = path.relative_to(ROOT)
            if READS.search(path.read_text(encoding="utf-8")) and not MEASURING & set(name.parts):
                found.add(name.as_posix())
    assert found <= set(CLOCKS), "read the time by `kernels.deadline.now`"
    assert "kernels/deadline.py" in found and len(found) > 5  # the reader sees something


def test_work_alone_moves_the_clock():
    before = now()
    with counted(rate=100.0) as clock:
        assert now() == 0.0 and left() == np.inf and within(3.0) is None and within(None) is None
        spent(50)
        time.sleep(0.01)
        assert now() == 0.5
        with until(share(0.5, most=2.0)):
            assert left() == 2.0 and within(1.0) is None
            spent(199)
            check()
            spent(1)
            with pytest.raises(TimeUp):
                check()
        assert clock.work == 250.0
        with counted() as inner:
            spent(7)
        assert (clock.work, inner.work) == (250.0, 7.0)
    spent(1e9)
    assert before <= now() < before + 60


def test_an_affine_map_counts_its_multiplications(monkeypatch):
    dense = Dense(torch.ones(3, 4), repeat=2)
    for most in (work.MOST, 10.0):  # whole, and in parts
        monkeypatch.setattr(work, "MOST", most)
        monkeypatch.setattr("partita.problems.network.affine.MOST", most)
        with counted() as clock:
            dense.apply(torch.ones(5, 8))
            assert clock.work == 5 * 2 * 12
            dense.adjoint(torch.ones(5, 6))
            assert clock.work == 2 * 5 * 2 * 12


class Cuts(Observer):
    """What was split where, and what was closed, bit by bit."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def branched(self, parents, children):
        self.seen.append(tuple(getattr(parents, n).tolist() for n in ("id", "cut_index", "cut_point", "bound")))

    def closed(self, leaves, how):
        self.seen.append((how, leaves.id.tolist(), leaves.bound.tolist()))


def grown(inputs: int, rate: float, **options):
    """A search that the cap on pieces ends: few inputs are split themselves, of many the activations."""
    graph = random_graph(5, "mlp", inputs=inputs, width=12, depth=3)
    lower, upper = -np.ones(inputs), np.ones(inputs)
    seen = graph(torch.from_numpy(np.random.default_rng(0).uniform(lower, upper, (3000, inputs)))).numpy()
    prop = box_property(lower, upper, np.eye(1, graph.output_size), np.array([0.02 - seen[:, 0].min()]))
    cuts = Cuts()
    with counted(rate) as clock:
        said = partita.verify(graph, prop, attack="off", max_pieces=200, observers=[cuts], **options)
        return said.verdict, said.pieces, said.stats["leaves"], said.seconds, clock.work, cuts.seen


@pytest.mark.parametrize("inputs", [4, 14])
def test_a_counted_search_is_the_same_whatever_the_clock_says(inputs, monkeypatch):
    calm = grown(inputs, 1e5)
    assert calm[1] > 20 and calm[3] > 0
    jumps = count(step=1000)  # a machine so busy that 1000 s pass between two looks
    for name in ("monotonic", "perf_counter"):
        monkeypatch.setattr(time, name, lambda: float(next(jumps)))
    assert grown(inputs, 1e5) == calm


def test_limits_are_amounts_of_work():
    """The root's share of work, and a time limit, end at the same place every time, and move with the rate."""
    little, much = grown(14, 1e4), grown(14, 1e9)
    assert little[4] < much[4] and little[5] != much[5]
    for rate in (3e5, 1e6):
        ended = grown(4, rate, timeout=1.0)
        assert ended == grown(4, rate, timeout=1.0)
        assert ended[0] == "timeout" and 0 < ended[4] < 2 * rate
