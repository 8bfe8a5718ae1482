"""Activation patterns by enumeration, for the tests: every pattern's linear program, one by one, in HiGHS.

Nothing here is shared with the counter. A pattern in {0, 1}^N fixes the network's affine function; the pattern exists
where the largest slack t of its inequalities is positive (z >= t where active; z <= -t or, for `all`, z <= 0 where
inactive; for `open` the input set's constraints have the slack too). A prefix that has no point is not extended, for
its extensions have none either.
"""

from __future__ import annotations

import highspy
import numpy as np

from partita.problems.network.activation import LeakyReLU
from partita.problems.network.graph import Activation, Affine, Graph
from partita.problems.network.matrix import matrix
from partita.problems.properties.property import Polytope

SLACK = 1e-5  # rows are scaled to length 1; HiGHS allows each 1e-7


class _Programs:
    def __init__(self, polytope: Polytope, opens: bool) -> None:
        self.solver = highspy.Highs()
        self.solver.setOptionValue("output_flag", False)
        self.polytope, self.opens, self.d = polytope, opens, polytope.size
        unit = np.eye(self.d)
        rows = np.concatenate([unit, -unit, -polytope.normals])
        constants = np.concatenate([-polytope.lower, polytope.upper, polytope.offsets])
        self.base = [(row, constant, opens) for row, constant in zip(rows, constants, strict=True)]

    def exists(self, inequalities: list[tuple[np.ndarray, float, bool]]) -> bool:
        """Whether row x + constant >= 0, > 0 where the flag is set, have a common point."""
        rows, lower = [], []
        for row, constant, strict in self.base + inequalities:
            size = max(np.linalg.norm(row), 1e-12)
            rows.append(np.append(row / size, -1.0 if strict else 0.0))
            lower.append(-constant / size)
        a, count, inf = np.array(rows), len(rows), highspy.kHighsInf
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = self.d + 1, count
        lp.col_cost_ = np.append(np.zeros(self.d), -1.0)
        lp.col_lower_ = np.append(self.polytope.lower, -1.0)
        lp.col_upper_ = np.append(self.polytope.upper, 1.0)
        lp.row_lower_, lp.row_upper_ = np.array(lower), np.full(count, inf)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.arange(count + 1) * (self.d + 1)
        lp.a_matrix_.index_ = np.tile(np.arange(self.d + 1), count)
        lp.a_matrix_.value_ = a.ravel()
        self.solver.passModel(lp)
        self.solver.run()
        if self.solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return False
        return -self.solver.getInfo().objective_function_value > SLACK


def patterns(graph: Graph, polytope: Polytope, cells: str) -> set[tuple[bool, ...]]:
    """All activation patterns, in the order of neurons that `Graph.offsets` has."""
    programs = _Programs(polytope, cells == "open")
    found: set[tuple[bool, ...]] = set()

    def extend(active: tuple[bool, ...], inequalities: list[tuple[np.ndarray, float, bool]]) -> None:
        if len(active) == graph.neurons:
            found.add(active)
            return
        row, constant = _function(graph, active)
        if not row.any():
            extend((*active, constant > 0), inequalities)
            return
        for on in (False, True):
            strict = on or cells == "open"
            more = [*inequalities, (row if on else -row, constant if on else -constant, strict)]
            if programs.exists(more):
                extend((*active, on), more)

    extend((), [])
    return found


def _function(graph: Graph, active: tuple[bool, ...]) -> tuple[np.ndarray, float]:
    """The first neuron's pre-activation that has no phase yet, as row x + constant."""
    d = graph.input_size
    values = {0: np.eye(d + 1)[:d]}
    for i, node in enumerate(graph.nodes[1:], 1):
        if isinstance(node, Affine):
            values[i] = sum(matrix(a).numpy() @ values[j] for a, j in zip(node.operators, node.inputs, strict=True))
            values[i][:, d] += node.bias.numpy()
        else:
            assert isinstance(node, Activation) and isinstance(node.function, LeakyReLU)
            start = graph.layer_at[i].span.start
            if start + node.size > len(active):
                row = values[node.inputs[0]][len(active) - start]
                return np.where(np.abs(row[:d]) < 1e-12, 0.0, row[:d]), float(row[d])
            slope = np.where(active[start : start + node.size], 1.0, node.function.slope)
            values[i] = values[node.inputs[0]] * slope[:, None]
    raise ValueError("all neurons have a phase")
