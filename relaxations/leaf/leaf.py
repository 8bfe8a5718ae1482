"""The linear program that settles a piece whose phases are all decided: what makes branch and bound complete.

On such a piece (a `Cell`) the network is affine, and so are all its constraints: the unsafe rows, the half-spaces and
one phase a neuron. Let g_k be all of them, each divided by its size over the piece, and take

    t* = min over the box of max_k g_k(x),

a linear program in x and t that is always feasible and bounded. t* > 0 says that the piece holds no unsafe point, and
its dual vector is the Farkas certificate (t* = 0 does too, where a strict row has a part in it); t* <= 0 gives a point
that is unsafe with the largest slack on all sides, hence a witness that survives rounding best.

Neurons enter as cutting planes: the program starts without them, and each round adds the phases that its solution
breaks most. Far fewer than all are usually needed, a certificate may be found long before the solution has
the right phases, and nothing larger than the rows in use is ever stored.

Soundness: "closed" only after `Cell.certify` (outward rounded, independent of the solver) or because interval
arithmetic leaves no point with these phases. "witness" means that the network, evaluated in float64, is unsafe at x and
x is in the polytope; the search still confirms it on the original file. Anything else is "undecided" with a reason;
`rational` may know more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray

from ...problems.network.graph import Graph
from ...problems.properties.property import Polytope, UnsafeSet
from ..effort import LEAF, LeafEffort
from ..lp.backends import backend
from ..lp.model import LinearModel, Solution
from .cell import Array, Cell, Multipliers, cell_of


class LeafStatus(Enum):
    """How a leaf ended; the value is the sentence for the user."""

    closed = "No point of the piece is unsafe, proved by multipliers whose rounding was accounted for."
    witness = "An unsafe point of the piece was found."
    undecided = "Unsafe and safe cannot be told apart on this piece in double precision."


@dataclass(frozen=True, eq=False)
class LeafResult:
    """`margin` is positive by how far the certificate holds (closed), or the unsafe margin at x (otherwise)."""

    status: LeafStatus
    x: Array | None  # (D,) the best point found, a candidate for the attack when not closed
    margin: float
    proof: Multipliers | None = None
    reason: str = ""


@dataclass(eq=False)
class _Cuts:
    """The constraints in use: normal . x + offset <= size * t, and where each came from."""

    normals: list[Array] = field(default_factory=list)
    offsets: list[Array] = field(default_factory=list)
    sizes: list[Array] = field(default_factory=list)
    neurons: list[tuple[int, NDArray[np.int64]]] = field(default_factory=list)  # of the blocks after the first two

    def add(self, normal: Array, offset: Array, size: Array) -> None:
        self.normals.append(normal)
        self.offsets.append(offset)
        self.sizes.append(np.where(size > 0, size, 1.0))


def settle(
    graph: Graph,
    polytope: Polytope,
    phases: Sequence[NDArray[np.int8]],  # one (n,) array an activation node: +1 active, -1 inactive
    unsafe: UnsafeSet,
    *,
    time_limit: float | None = None,
    effort: LeafEffort = LEAF,
) -> LeafResult:
    """Decide whether the piece with these phases holds an unsafe point.

    `time_limit` bounds each linear program, in seconds. Raises `BadInput` for activations that are not piecewise
    linear, `ValueError` where a phase is open.
    """
    if polytope.empty:
        return LeafResult(LeafStatus.closed, None, np.inf, reason="the box is empty")
    cell = cell_of(graph, polytope, phases)
    if cell.empty:
        return LeafResult(LeafStatus.closed, None, np.inf, reason="interval arithmetic leaves no point")
    solve = backend("highs")
    cuts = _first_cuts(cell, unsafe)
    used = {i: torch.zeros(cell.graph.nodes[i].size, dtype=torch.bool) for i in cell.signs}
    best: LeafResult = LeafResult(LeafStatus.undecided, None, np.inf)
    for _ in range(effort.rounds):
        program = _program(cell, cuts)
        if not (np.isfinite(program.matrix.data).all() and np.isfinite(program.row_upper).all()):
            return _undecided(best, "The constraints of the piece overflow double precision.")
        solution = solve(program, time_limit=time_limit)
        if solution.dual is not None:
            proof = _multipliers(cell, cuts, solution)
            margin = cell.certify(proof, unsafe)
            if margin > 0 or (margin >= 0 and uses_strict(proof, unsafe, polytope)):
                return LeafResult(LeafStatus.closed, None, margin, proof)
        if solution.x is None:
            return _undecided(best, f"The linear program was not solved: {solution.status.value}")
        best = _better(best, _at(cell, unsafe, solution))
        if best.status is LeafStatus.witness:
            return best
        if not _add_broken(cell, cuts, used, solution, effort):
            return _undecided(best, f"The least violation is {solution.value:.1e} of the constraints' size.")
    return _undecided(best, f"No end after {effort.rounds} rounds of cutting planes.")


def _first_cuts(cell: Cell, unsafe: UnsafeSet) -> _Cuts:
    """The unsafe rows and the half-spaces."""
    cuts = _Cuts()
    reach_out, reach_in = (np.maximum(*(np.abs(t.numpy()) for t in cell.boxes[i])) for i in (cell.graph.output, 0))
    rows, constants, _ = cell.pull([(cell.graph.output, torch.as_tensor(unsafe.rows, dtype=torch.float64))])
    size = np.abs(unsafe.rows) @ reach_out + np.abs(unsafe.constants)
    normals = rows.numpy() if unsafe.on_input is None else rows.numpy() + unsafe.on_input
    cuts.add(normals, constants.numpy() + unsafe.constants, size)
    polytope = cell.polytope
    cuts.add(polytope.normals, -polytope.offsets, np.abs(polytope.normals) @ reach_in + np.abs(polytope.offsets))
    return cuts


def _program(cell: Cell, cuts: _Cuts) -> LinearModel:
    """min t with normal . x - size t <= -offset over the box."""
    from scipy.sparse import csr_array

    size = np.concatenate(cuts.sizes)
    normals, offsets = np.concatenate(cuts.normals) / size[:, None], np.concatenate(cuts.offsets) / size
    box = np.abs(np.stack([cell.polytope.lower, cell.polytope.upper])).max(0)
    reach = 1.0 + 2 * (np.abs(normals) @ box + np.abs(offsets)).max(initial=0.0)
    return LinearModel(
        cost=np.append(np.zeros(normals.shape[1]), 1.0),
        lower=np.append(cell.polytope.lower, -reach),
        upper=np.append(cell.polytope.upper, reach),
        matrix=csr_array(np.column_stack([normals, -np.ones(len(normals))])),
        row_lower=np.full(len(normals), -np.inf),
        row_upper=-offsets,
    )


def _multipliers(cell: Cell, cuts: _Cuts, solution: Solution) -> Multipliers:
    """The program's dual vector, as multipliers of the constraints before they were divided by their sizes."""
    sizes = [len(size) for size in cuts.sizes]
    assert solution.dual is not None, "the program was solved"
    dual = np.maximum(-np.nan_to_num(solution.dual), 0.0) / np.concatenate(cuts.sizes)
    unsafe, halfspaces, *rest = np.split(dual, np.cumsum(sizes)[:-1])
    neurons = {i: np.zeros(cell.graph.nodes[i].size) for i in cell.signs}
    for (i, index), part in zip(cuts.neurons, rest, strict=True):
        neurons[i][index] = part
    return Multipliers(unsafe, halfspaces, neurons)


def _at(cell: Cell, unsafe: UnsafeSet, solution: Solution) -> LeafResult:
    """What the network itself says at the program's point."""
    polytope = cell.polytope
    x = np.clip(solution.point[: polytope.size], polytope.lower, polytope.upper)
    y = cell.graph(torch.as_tensor(x)).numpy()
    found = unsafe.reached(y, x) and polytope.contains(x)
    return LeafResult(LeafStatus.witness if found else LeafStatus.undecided, x, unsafe.margin(y, x))


def uses_strict(proof: Multipliers, unsafe: UnsafeSet, polytope: Polytope) -> bool:
    """Whether a strict constraint has a positive multiplier: then points of the piece make the sum negative, not zero.
    Half-spaces of the input set come first among the piece's."""
    rows = () if polytope.exact is None else polytope.exact.rows
    strict = np.array([row.strict for row in rows], dtype=bool)
    used = (proof.unsafe > 0) & unsafe.strict
    return bool(used.any() or ((proof.halfspaces[: len(strict)] > 0) & strict).any())


def _better(best: LeafResult, new: LeafResult) -> LeafResult:
    return new if new.status is LeafStatus.witness or new.margin <= best.margin else best


def _add_broken(cell: Cell, cuts: _Cuts, used: dict[int, torch.Tensor], solution: Solution, effort: LeafEffort) -> bool:
    """Add the phases that the program's point breaks most; whether there were any."""
    x, t = torch.as_tensor(solution.point[:-1]), float(solution.point[-1])
    values = cell.values(x)
    broken: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    for i, sign in cell.signs.items():
        before = cell.graph.layer_at[i].source
        # The side of z that its phase leaves open does not say how far the other side reaches: take both.
        lower, upper = cell.boxes[before]
        size = torch.maximum(lower.abs(), upper.abs())
        size = torch.where(size > 0, size, 1.0)
        excess = torch.where(used[i], -torch.inf, -sign * values[before] / size - t)
        index = torch.nonzero(excess > effort.broken).flatten()
        broken.append((i, index, excess[index]))
    worst = torch.cat([x.new_zeros(0), *(excess for _, _, excess in broken)])
    if not len(worst):
        return False
    least = worst.topk(min(effort.cuts, len(worst))).values[-1]
    for i, index, excess in broken:
        index = index[excess >= least]
        if len(index):
            _add_phases(cell, cuts, i, index)
            used[i][index] = True
    return True


def _add_phases(cell: Cell, cuts: _Cuts, i: int, index: torch.Tensor) -> None:
    before = cell.graph.layer_at[i].source
    seed = torch.zeros(len(index), cell.graph.nodes[i].size, dtype=torch.float64)
    seed[torch.arange(len(index)), index] = -cell.signs[i][index]
    rows, constants, _ = cell.pull([(before, seed)])
    lower, upper = (side[index] for side in cell.boxes[before])
    cuts.add(rows.numpy(), constants.numpy(), torch.maximum(lower.abs(), upper.abs()).numpy())
    cuts.neurons.append((i, index.numpy()))


def _undecided(best: LeafResult, reason: str) -> LeafResult:
    return LeafResult(LeafStatus.undecided, best.x, best.margin, reason=reason)
