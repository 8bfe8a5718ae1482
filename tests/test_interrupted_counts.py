"""Ctrl-C between any two instructions of a count: no cell is lost, none is counted twice."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from networks import dense

from partita.bab.counting import program_search, rational, search
from partita.bab.counting.inputs import vertices_of
from partita.bab.counting.patterns import _conclude, count
from partita.bab.counting.tree import plan
from partita.problems.properties.property import Polytope

GRAPH, CELLS = dense([[1.0], [1.0]], [-0.3, -0.6]), 3
BOX = Polytope(np.zeros(1), np.ones(1))
MADE = plan(GRAPH)


def by_vertices():
    return search.search(MADE, BOX, vertices_of(BOX, MADE.words, GRAPH.neurons), None)


SEARCHES = {  # with the code whose every instruction is a moment
    "vertices": (by_vertices, (search.search, search._finish, search.remember)),
    "programs": (
        partial(program_search.search_by_programs, MADE, BOX, None),
        (
            program_search.search_by_programs,
            program_search._keep,
            program_search._taken,
            program_search._Front.take,
            program_search._Front.put,
        ),
    ),
    "exact": (
        partial(rational.search_exactly, MADE, BOX, None),
        (rational.search_exactly, rational.RationalCounter.patterns),
    ),
}


class Interrupt:
    """Raises KeyboardInterrupt before one instruction of some functions; counts them."""

    def __init__(self, functions, number):
        self.codes, self.number, self.seen = {function.__code__ for function in functions}, number, 0

    def __call__(self, frame, event, arg):
        if frame.f_code not in self.codes:
            return None
        frame.f_trace_opcodes = True
        return self.within

    def within(self, frame, event, arg):
        if event == "opcode":
            self.seen += 1
            if self.seen == self.number:
                raise KeyboardInterrupt
        return self.within


def interrupted(work, functions, number):
    """What `work` gives, None where the interrupt was not caught; how many instructions there were."""
    interrupt, before = Interrupt(functions, number), sys.gettrace()
    sys.settrace(interrupt)
    try:
        return work(), interrupt.seen
    except KeyboardInterrupt:
        return None, interrupt.seen
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("name", SEARCHES)
def test_an_interrupt_at_any_instruction(name):
    """In a fresh interpreter: in one that has run this code often, CPython 3.11 may never come back from an exception
    that a trace function raises between two instructions."""
    code = f"import test_interrupted_counts as test; test.check({name!r})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100, cwd=Path(__file__).parent)


def check(name):
    work, functions = SEARCHES[name]
    assert count(GRAPH, BOX).low == CELLS
    whole, total = interrupted(work, functions, 0)
    assert whole.certain == CELLS and not whole.reason
    partial_counts, escaped = set(), 0
    for number in range(1, total + 1):
        tally, _ = interrupted(work, functions, number)
        if tally is None:  # before the search began, or after it had ended
            escaped += 1
            continue
        patterns = np.concatenate(tally.patterns) if tally.patterns else np.zeros((0, 1), dtype=np.uint8)
        assert tally.certain == len(patterns) == len(np.unique(patterns, axis=0)), number
        found = _conclude(MADE, BOX, tally, None, None)
        assert found.low <= CELLS <= found.high, (number, found)
        assert not found.finished or found.low == CELLS, (number, found)
        partial_counts.add(tally.certain)
    assert escaped < 0.6 * total and len(partial_counts) > 1 and tally is None
