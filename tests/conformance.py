"""What every relaxation must satisfy: a new one subclasses `Conformance`, writes `build`, and inherits the tests.

The problems are random networks of every kind with random pieces: boxes, cut by half-spaces, with decided neurons.
The truths are samples, the mixed-integer oracle, and the affine map where every neuron is stable.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from networks import EVERY, PIECEWISE, random_box, random_graph
from torch import Tensor

from partita.problems.network.graph import Graph
from partita.problems.properties.property import Polytope
from partita.relaxations.ladder.exact import Exact
from partita.relaxations.linear.linear import Linear, undecided_neurons
from partita.relaxations.linear.root import outward, root
from partita.relaxations.protocol import AbstractRelaxation
from partita.relaxations.types import Pieces, Result, Rows

DTYPES = (torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class Problem:
    """A network in float64 and in the working dtype, pieces of its input set, rows to bound."""

    graph: Graph
    linear: Linear
    pieces: Pieces
    rows: Rows


def sub_boxes(lower: Tensor, upper: Tensor, count: int, seed: int, shrink: float) -> tuple[Tensor, Tensor]:
    """The box itself and `count - 1` random boxes in it, each `shrink` times as wide: (count, D)."""
    random = torch.Generator().manual_seed(seed)
    start = torch.rand(count, len(lower), generator=random, dtype=torch.float64) * (1 - shrink)
    start[0] = 0
    width = torch.full((count, 1), shrink, dtype=torch.float64)
    width[0] = 1
    low = lower + start * (upper - lower)
    return low, torch.minimum(low + width * (upper - lower), upper)


@functools.cache
def problem(
    kind: str,
    seed: int,
    dtype: torch.dtype,
    *,
    halfspaces: int = 0,
    decided: int = 0,
    shrink: float = 0.4,
    radius: float = 0.5,
    rule: str = "crown",
    count: int = 4,
) -> Problem:
    """Pieces of a random box with `halfspaces` half-spaces and up to `decided` decided neurons each."""
    graph = random_graph(seed, kind, inputs=4, width=8, depth=2, outputs=3)
    box = random_box(seed, 4, radius)
    low, high = torch.as_tensor(box.lower), torch.as_tensor(box.upper)
    linear, whole = root(graph.to(dtype), low, high, rule)[:2]
    low, high = sub_boxes(low, high, count, seed, shrink)
    random = torch.Generator().manual_seed(seed + 1)
    normals = torch.randn(count, halfspaces, 4, generator=random, dtype=torch.float64).to(dtype)
    # Each half-space keeps the piece's centre, in both precisions by a wide margin.
    offsets = (normals.double() @ ((low + high) / 2)[..., None])[..., 0] + 0.05
    unstable = ((whole.pre_lower < -1e-3) & (whole.pre_upper > 1e-3)).expand(count, -1)
    order = torch.rand(count, graph.neurons, generator=random).masked_fill(~unstable, -1.0)
    score, neuron = order.topk(decided, 1)
    # Decisions hold at the piece's centre, so no piece is empty; smooth neurons are cut beside their value there.
    centre = _pre(graph, (low + high) / 2).gather(1, neuron)
    point = torch.zeros_like(centre) if kind in PIECEWISE else centre + 0.02
    sign = torch.where(centre >= point, 1.0, -1.0)
    pieces = Pieces(
        *outward(low, high, dtype, torch.device("cpu")),
        normals,
        outward(offsets, offsets, dtype, torch.device("cpu"))[1],
        torch.where(score >= 0, neuron, -1),
        sign.to(dtype),
        point.to(dtype),
        whole.pre_lower.repeat(count, 1),
        whole.pre_upper.repeat(count, 1),
    )
    coefficients = torch.randn(1, 2, 3, generator=random).to(dtype).repeat(count, 1, 1)
    on_input = torch.randn(1, 2, 4, generator=random).to(dtype).repeat(count, 1, 1) if seed % 2 else None
    rows = Rows(coefficients, torch.zeros(count, 2, dtype=dtype), on_input)
    # The rows are near zero on each piece: then some points are dangerous and clipping has something to decide.
    constants = 0.05 * torch.randn(count, 2, generator=random) - _rows_at(graph, rows, (low + high) / 2)
    return Problem(graph, linear, cut(graph, pieces), Rows(coefficients, constants.to(dtype), on_input))


def _pre(graph: Graph, x: Tensor) -> Tensor:
    """All pre-activations at the points x: (*batch, N)."""
    values = graph.values(x)
    return torch.cat([values[operand.source] for operand in graph.operands], -1)


def _rows_at(graph: Graph, rows: Rows, x: Tensor) -> Tensor:
    """The rows of piece b at x[b], in float64: (B, D) -> (B, S)."""
    value = torch.einsum("bsn,bn->bs", rows.coefficients.double(), graph(x)) + rows.constants.double()
    return value if rows.on_input is None else value + torch.einsum("bsd,bd->bs", rows.on_input.double(), x)


def cut(graph: Graph, pieces: Pieces) -> Pieces:
    """The pieces with the pre-activation bounds of their decided neurons moved to the decision, as the search does."""
    low, high = pieces.pre_lower.clone(), pieces.pre_upper.clone()
    for b, p in zip(*torch.nonzero(pieces.neuron >= 0, as_tuple=True), strict=True):
        k, at = pieces.neuron[b, p], pieces.point[b, p]
        if pieces.sign[b, p] > 0:
            low[b, k] = torch.maximum(low[b, k], at)
        else:
            high[b, k] = torch.minimum(high[b, k], at)
    return pieces.with_pre(low, high)


def points(p: Problem, b: int, count: int = 400) -> tuple[Tensor, Tensor, Tensor]:
    """Points of piece b, the rows' values (n, S) and the pre-activations (n, N) there, all in float64."""
    pieces = p.pieces
    random = torch.Generator().manual_seed(b)
    t = torch.rand(count, pieces.lower.shape[1], generator=random, dtype=torch.float64)
    t[: count // 4] = t[: count // 4].round()
    low, high = pieces.lower[b].double(), pieces.upper[b].double()
    t[count // 2 :] = 0.5 + 0.2 * (t[count // 2 :] - 0.5)  # half of them near the centre, where decisions hold
    x = torch.minimum(low + t * (high - low), high)
    pre = _pre(p.graph, x)
    kept = (x @ pieces.normals[b].double().mT <= pieces.offsets[b].double()).all(1)
    for k, sign, at in zip(pieces.neuron[b].tolist(), pieces.sign[b].double(), pieces.point[b].double(), strict=True):
        if k >= 0:
            kept &= sign * (pre[:, k] - at) >= 0
    y = p.graph(x) @ p.rows.coefficients[b].double().mT + p.rows.constants[b].double()
    if p.rows.on_input is not None:
        y = y + x @ p.rows.on_input[b].double().mT
    return x[kept], y[kept], pre[kept]


def inside(pieces: Pieces, b: int, x: Tensor) -> Tensor:
    """Which points satisfy the box and the half-spaces of piece b; those within rounding of a half-space do."""
    slack = 1e-12 * (1 + pieces.offsets[b].double().abs())
    below = (x @ pieces.normals[b].double().mT <= pieces.offsets[b].double() + slack).all(1)
    return below & ((pieces.lower[b].double() <= x) & (x <= pieces.upper[b].double())).all(1)


def rows_of(p: Problem, chosen: slice) -> Problem:
    """The problem with some of its pieces only."""
    return Problem(p.graph, p.linear, p.pieces[chosen], p.rows[chosen])


class Conformance:
    """Subclass as `TestName(Conformance)`; settings below say what the relaxation takes and promises."""

    kinds: tuple[str, ...] = EVERY
    settles = True  # whether the bound is exact where every neuron is stable and the piece is a box
    refreshes = True  # whether pre-activation bounds are computed anew on every piece
    batch_tolerance = (1e-4, 1e-10)  # float32, float64
    bounds_what_is_left = False  # whether the bounds hold only on what the pieces were clipped to

    def build(self, linear: Linear, graph: Graph) -> AbstractRelaxation:
        """The relaxation under test, on one network."""
        raise NotImplementedError

    def bound(self, p: Problem) -> tuple[Result, Pieces]:
        result, pieces, _ = self.build(p.linear, p.graph).bound(p.pieces, p.rows)
        assert result.lower.dtype == p.pieces.lower.dtype
        return result, pieces

    def pytest_generate_tests(self, metafunc) -> None:
        """Kinds come from the subclass."""
        if "kind" in metafunc.fixturenames:
            metafunc.parametrize("kind", self.kinds)
        if "piecewise" in metafunc.fixturenames:
            metafunc.parametrize("piecewise", [k for k in self.kinds if k in PIECEWISE])

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("shape", ["box", "polyhedron", "decided", "both"])
    def test_sound_at_samples(self, kind, shape, dtype):
        tolerance = 1e-12  # of the float64 samples
        seen = 0
        for seed in range(3):
            halfspaces, decided = {"box": (0, 0), "polyhedron": (2, 0), "decided": (0, 3), "both": (2, 3)}[shape]
            p = problem(kind, seed, dtype, halfspaces=halfspaces, decided=decided)
            result, left = self.bound(p)
            for b in range(len(p.pieces)):
                x, y, pre = points(p, b)
                seen += len(x)
                if not len(x):
                    continue
                dangerous = (y <= 0).all(1)
                assert not (result.empty[b] and dangerous.any())
                self.check_left(left, b, x[dangerous], pre[dangerous])
                if self.bounds_what_is_left:
                    there = inside(left, b, x)
                    x, y, pre = x[there], y[there], pre[there]
                assert (result.lower[b].double() <= y + tolerance).all()
                forms = x @ result.forms[b].double().mT + result.constants[b].double()
                assert (forms <= y + tolerance).all()
                assert (result.pre_lower[b].double() <= pre + tolerance).all()
                assert (result.pre_upper[b].double() >= pre - tolerance).all()
        assert seen > 1000

    def check_left(self, left: Pieces, b: int, x: Tensor, pre: Tensor) -> None:
        """A point where all rows are <= 0 is never cut off its piece."""
        assert inside(left, b, x).all()
        assert (left.pre_lower[b].double() <= pre + 1e-12).all()
        assert (left.pre_upper[b].double() >= pre - 1e-12).all()

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_never_above_the_oracle(self, piecewise, dtype):
        for seed in range(2):
            p = rows_of(problem(piecewise, seed + 5, dtype, halfspaces=1, decided=2), slice(0, 2))
            result, left = self.bound(p)
            truth = Exact(p.graph).bound(left if self.bounds_what_is_left else p.pieces, p.rows)[0].lower
            assert (result.lower <= truth + 1e-5).all()

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_batch_equals_single(self, kind, dtype):
        p = problem(kind, 2, dtype, halfspaces=1, decided=2)
        together, _ = self.bound(p)
        rounding = self.batch_tolerance[DTYPES.index(dtype)]
        for b in range(len(p.pieces)):
            alone, _ = self.bound(rows_of(p, slice(b, b + 1)))
            # One positive row closes a piece, and an optimiser may stop there or go on for the others' sake.
            closed = bool((together.lower[b] > 0).any())
            assert closed == bool((alone.lower[0] > 0).any())
            if not closed:
                torch.testing.assert_close(alone.lower[0], together.lower[b], atol=rounding, rtol=rounding)
            # Rows of decided neurons fill up a batch, so what is known of those depends on their company.
            open_ = undecided_neurons(p.graph, p.pieces.with_pre(together.pre_lower, together.pre_upper))[b]
            pair = alone.pre_lower[0][open_], together.pre_lower[b][open_]
            torch.testing.assert_close(*pair, atol=rounding, rtol=rounding)
            assert alone.empty[0] == together.empty[b]

    def test_same_call_same_bits(self, kind):
        p = problem(kind, 3, torch.float32, halfspaces=1, decided=1)
        first, second = self.bound(p)[0], self.bound(p)[0]
        for f in fields(first):
            a, b = getattr(first, f.name), getattr(second, f.name)
            assert not isinstance(a, Tensor) or torch.equal(a, b)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_stable_pieces_are_exact(self, piecewise, dtype):
        """A box so small that no neuron changes phase: the network is affine, and so is the bound."""
        if not self.settles:
            pytest.skip("this relaxation is not exact on affine networks")
        exact = 0
        for seed in range(4):
            p = problem(piecewise, seed, dtype, radius=1e-3, count=3)
            result, _ = self.bound(p)
            stable = ((result.pre_lower >= 0) | (result.pre_upper <= 0)).all(1)
            truth = Exact(p.graph).bound(p.pieces, p.rows)[0].lower
            # Besides the slack that is stated, a float32 box is a little larger, and its minimum rounds once more.
            rounding = 3 * result.slack + (1e-5 if dtype is torch.float32 else 1e-12)
            assert ((truth - result.lower).abs() <= rounding)[stable].all()
            exact += int(stable.sum())
        assert exact > 5

    def test_float32_is_within_its_slack_of_float64(self, kind):
        """On pieces where no line jumps: float32 loses no more than a few times what it says it gave up."""
        compared = 0
        for seed in range(4):
            narrow, wide = (problem(kind, seed, dtype, radius=1e-2, count=3) for dtype in DTYPES)
            low, high = self.bound(narrow)[0], self.bound(wide)[0]
            same = torch.isfinite(low.lower).all(1)
            if self.bounds_what_is_left:  # clipping decides by a hair which part that is
                same &= ~low.empty & ~high.empty
            lost = high.lower - low.lower.double()
            allowed = 50 * low.slack.double() + 1e-5
            assert (lost[same] <= allowed[same]).all()
            assert (-lost[same] <= allowed[same]).all()
            compared += int(same.sum())
        assert compared > 5 or self.bounds_what_is_left

    def test_degenerate_boxes(self, kind):
        """Pieces of one point: the value there, up to rounding."""
        p = problem(kind, 4, torch.float64)
        x = (p.pieces.lower + p.pieces.upper) / 2
        loose = Pieces.boxes(x, x, p.graph.neurons)
        loose = loose.with_pre(p.pieces.pre_lower, p.pieces.pre_upper)
        value = _rows_at(p.graph, p.rows, x)
        result = self.build(p.linear, p.graph).bound(loose, p.rows).result
        assert (result.lower <= value + 1e-13).all()
        if self.settles and self.refreshes:
            torch.testing.assert_close(result.lower, value, atol=1e-9, rtol=0)


def as_polytope(pieces: Pieces, b: int) -> Polytope:
    """The input polytope of piece b."""
    parts = (pieces.lower[b], pieces.upper[b], pieces.normals[b], pieces.offsets[b])
    return Polytope(*(np.asarray(t.double()) for t in parts))
