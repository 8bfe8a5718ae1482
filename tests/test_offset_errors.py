"""Offsets of half-spaces that are off by what is said: proofs of cells and programs of counts all charge it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import random_graph
from test_pattern_parts import leaves

from partita.bab.counting import programs, proof
from partita.bab.counting.programs import ProgramCounter
from partita.bab.counting.proof import _planes, input_planes, witnessed
from partita.problems.properties.property import Polytope

OFF = 64.0  # more than the whole input set is wide


@pytest.fixture
def counted(monkeypatch):
    """A network, its cells on a square with a half-space, and what makes that half-space doubtful."""
    graph = random_graph(2, "mlp", inputs=2, width=4, depth=1)
    polytope = Polytope(-np.ones(2), np.ones(2), np.array([[1.0, 1.0]]), np.array([1.5]))
    made, cells = leaves(graph, polytope)

    def doubtful(off: float) -> None:
        def planes(polytope):
            static, offset, error = input_planes(polytope)
            return static, offset, torch.cat([error[:4], error[4:] + off])

        for module in (proof, programs):
            monkeypatch.setattr(module, "input_planes", planes)

    return made, cells, polytope, doubtful


def test_a_witness_is_inside_by_more_than_the_doubt(counted):
    made, cells, polytope, doubtful = counted
    neurons = made.graph.neurons
    assert witnessed(made, cells, polytope, neurons).all()
    doubtful(OFF)
    assert not witnessed(made, cells, polytope, neurons).any()


def test_planes_of_cells_and_rows_of_programs_are_off_by_as_much(counted):
    made, _, polytope, doubtful = counted
    phases, reach = np.zeros((1, made.graph.neurons), dtype=bool), torch.ones(1, 2, dtype=torch.float64)
    errors, doubts = [], []
    for off in (0.0, OFF):
        doubtful(off)
        errors.append(_planes(made, phases, polytope, reach).error)
        doubts.append(ProgramCounter(made, polytope).start.doubt)
    more = (errors[1] - errors[0])[0].tolist()
    assert more[:-1] == [0.0] * (len(more) - 1) and more[-1] >= 2 * OFF - 1e-9
    assert len(doubts[0]) == 1 and (doubts[1] - doubts[0] >= 2 * OFF - 1e-9).all()
