"""The batched first-order method: its matrix, its safe bounds beside the slow truth, its answers beside HiGHS."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from networks import random_box, random_graph
from scipy.sparse import block_diag, csr_array
from test_layers import model

from partita.kernels.blocks import Blocks
from partita.kernels.weak_duality import Definitions, Programs, claimed_bounds, safe_bounds
from partita.problems.errors import BadInput
from partita.relaxations.lp import highs
from partita.relaxations.lp.backends import backend
from partita.relaxations.lp.encode import encode
from partita.relaxations.lp.first_order import FirstOrder, Parts
from partita.relaxations.lp.model import LinearModel, Status

TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-4}


def of(matrix) -> Blocks:
    m = csr_array(matrix)
    return Blocks.of(m.indptr, m.indices, m.data, m.shape)


def definitions(m: LinearModel) -> Definitions:
    a = m.matrix
    return Definitions.of(a.indptr, a.indices, a.data, a.shape, m.row_lower == m.row_upper)


def columns(*models: LinearModel) -> Programs:
    """Models with one matrix as a batch."""
    parts = ("cost", "lower", "upper", "row_lower", "row_upper")
    return Programs(*(torch.as_tensor(np.stack([getattr(m, p) for m in models], 1)) for p in parts))


def triangle(seed: int, kind: str = "mlp", inputs: int = 4, width: int = 20, radius: float = 0.4) -> LinearModel:
    """The triangle program of a random network under a random row."""
    graph, polytope = random_graph(seed, kind, inputs=inputs, width=width), random_box(seed, inputs, radius)
    return encode(graph, polytope).minimising(graph.output, np.array([1.0, -0.7]), 0.25)


def varied(m: LinearModel, count: int, seed: int) -> list[LinearModel]:
    """Models with the same matrix: other objectives, smaller boxes, moved sides of rows; some may be infeasible."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        width = m.upper - m.lower
        shrink = random.random((2, len(width))) * (random.random(len(width)) < 0.2) * 0.4
        equation = m.row_lower == m.row_upper
        move = np.where(equation, 0.0, 0.05 * random.random(len(equation)))
        made.append(
            LinearModel(
                m.cost + 0.1 * random.normal(size=len(width)) * (random.random(len(width)) < 0.1),
                m.lower + shrink[0] * width,
                m.upper - shrink[1] * width,
                m.matrix,
                m.row_lower - move,
                m.row_upper + move,
            )
        )
    return made


# The matrix.


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
def test_blocks_are_the_matrix(dtype):
    random = np.random.default_rng(0)
    layers = block_diag([random.normal(size=(40, 70)), random.normal(size=(63, 31)), -np.eye(200)])
    sprinkled = np.where(random.random(layers.shape) < 0.01, random.normal(size=layers.shape), 0.0)
    for matrix in (layers.toarray() + sprinkled, np.zeros((300, 200)), random.normal(size=(7, 5)), np.eye(300)):
        blocks = of(matrix).to(dtype, "cpu")
        x, y = (torch.as_tensor(random.normal(size=(n, 3))).to(dtype) for n in matrix.shape[::-1])
        exact = torch.as_tensor(matrix).to(dtype)
        torch.testing.assert_close(blocks.times(x), exact @ x)
        torch.testing.assert_close(blocks.transposed_times(y), exact.mT @ y)
        torch.testing.assert_close(blocks.absolute().times(x), exact.abs() @ x)
        for power in (0.0, 1.0, torch.inf):
            sizes = {0.0: exact != 0, 1.0: exact.abs(), torch.inf: exact.abs()}[power]
            for dim, found in zip((1, 0), blocks.row_and_column(power), strict=True):
                torch.testing.assert_close(found, (sizes.amax(dim) if power == torch.inf else sizes.sum(dim)).to(dtype))
        by_row, by_column = (torch.as_tensor(random.random(n)).to(dtype) for n in matrix.shape)
        scaled = exact * by_row[:, None] * by_column
        torch.testing.assert_close(blocks.scaled(by_row, by_column).times(x), scaled @ x)
    found = of(layers.toarray() + sprinkled)
    assert len(found.dense) == 2, "layers of a network are dense blocks"
    assert found.rest._nnz() < 2 * (sprinkled != 0).sum() + 200


# Safe bounds in batch.


def exact_bound(m: LinearModel, dual: np.ndarray) -> Fraction:
    """The weak-duality sum in rational arithmetic."""
    y = [Fraction(float(v)) for v in dual]
    dense = m.matrix.toarray()
    total = Fraction(0)
    for i, v in enumerate(y):
        side = m.row_lower[i] if v > 0 else m.row_upper[i]
        if np.isfinite(side):
            total += v * Fraction(float(side))
        else:
            y[i] = Fraction(0)
    for j in range(len(m.cost)):
        used = np.flatnonzero(dense[:, j])
        r = Fraction(float(m.cost[j])) - sum(Fraction(float(dense[i, j])) * y[i] for i in used)
        total += min(r * Fraction(float(m.lower[j])), r * Fraction(float(m.upper[j])))
    return total


@pytest.mark.parametrize("seed", range(5))
def test_safe_bounds_are_below_the_exact_sum_and_next_to_it(seed):
    m = model(seed) if seed < 3 else triangle(seed, inputs=2, width=4)
    random = np.random.default_rng(seed)
    duals = random.normal(size=(12, len(m.row_lower))) * 10.0 ** random.integers(-6, 7, size=(12, 1))
    bounds, _ = safe_bounds(of(m.matrix), columns(*[m] * 12), torch.as_tensor(duals.T.copy()))
    for dual, bound in zip(duals, bounds.tolist(), strict=True):
        exact, one = exact_bound(m, dual), m.safe_bound(dual) - m.offset
        scale = float(abs(exact)) + np.abs(dual).max()
        assert Fraction(bound) <= exact
        assert float(exact) - bound <= 1e-11 * scale and abs(bound - one) <= 1e-10 * scale


def test_safe_bounds_of_many_programs_never_pass_the_optimum():
    """200 programs under ten kinds of multipliers, nonsense among them."""
    for seed in range(10):
        programs = varied(triangle(seed, width=6), 20, seed)
        optimum = np.array([highs.solve(p).value for p in programs])
        random = np.random.default_rng(seed)
        matrix, batch = of(programs[0].matrix), columns(*programs)
        rows = batch.row_lower.shape
        near = np.stack([s.dual if (s := highs.solve(p)).dual is not None else np.zeros(rows[0]) for p in programs], 1)
        wild = random.choice([np.nan, np.inf, -np.inf, 0.0, 1e300, 1.0], size=rows)
        for dual in (near, near + 1e-3 * random.normal(size=rows), random.normal(size=rows), np.zeros(rows), wild):
            bound, empty = safe_bounds(matrix, batch, torch.as_tensor(dual))
            assert (bound.numpy() <= optimum + 1e-9 * (1 + np.abs(np.nan_to_num(optimum, posinf=0)))).all()
            assert not (empty.numpy() & np.isfinite(optimum)).any()
            single = np.array([p.safe_bound(d) for p, d in zip(programs, dual.T, strict=True)])
            finite = np.isfinite(single) & np.isfinite(bound.numpy())
            np.testing.assert_allclose(bound.numpy()[finite], single[finite], rtol=1e-9, atol=1e-9)


def test_substituted_multipliers_leave_defined_variables_no_cost():
    m = triangle(0, width=12)
    found = definitions(m)
    assert len(found.levels) >= 3
    random = np.random.default_rng(0)
    cost, dual = (
        torch.as_tensor(random.normal(size=(len(m.cost), 2))),
        torch.as_tensor(random.normal(size=(len(m.row_lower), 2))),
    )
    after = found.substituted(dual, cost)
    reduced = cost - torch.as_tensor(m.matrix.toarray()).mT @ after
    defined = torch.cat([level.columns for level in found.levels])
    equations = int((m.row_lower == m.row_upper).sum())
    assert len(defined) == len(defined.unique()) == equations
    assert reduced[defined].abs().max() < 1e-9
    kept = torch.as_tensor(m.row_lower != m.row_upper)
    assert torch.equal(after[kept], dual[kept])


# The method.


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("kind", ("mlp", "residual", "conv"))
def test_a_batch_reaches_the_optima_from_below(kind, dtype):
    m = triangle(3, kind, inputs=4, width=10)
    programs = varied(m, 12, 1)
    truth = [highs.solve(p) for p in programs]
    parts = columns(*programs)
    sides = (parts.lower.mT, parts.upper.mT, parts.row_lower.mT, parts.row_upper.mT)
    own = Parts(parts.cost.mT, 0.0, *sides)
    found = FirstOrder(m, dtype=dtype).minimise_batch(own, steps=8000, tolerance=TOLERANCE[dtype] / 10)
    seen = 0
    for b, (p, t) in enumerate(zip(programs, truth, strict=True)):
        bound = float(found.bound[b])
        if t.status is Status.optimal:
            seen += 1
            assert bound <= t.value + 1e-9
            assert bound >= t.value - TOLERANCE[dtype] * (1 + abs(t.value))
            assert bound == pytest.approx(p.safe_bound(found.dual[b].numpy()), abs=1e-9)
            x = found.primal[b].numpy()
            assert p.violation(x) <= max(float(found.violation[b]), 1e-6) * (1 + 1e-3) + 1e-6
            assert p.cost @ x == pytest.approx(float(found.value[b]), abs=1e-6)
        else:
            assert bound == np.inf and bool(found.infeasible[b])
    assert seen >= 4


def test_every_stop_gives_a_sound_bound():
    m = triangle(5)
    optimum = highs.solve(m).value
    first = FirstOrder(m)
    last = -np.inf
    for steps in (0, 1, 7, 40, 200, 1000):
        found = first.minimise_batch(steps=steps, tolerance=0.0)
        assert int(found.steps[0]) == steps
        assert last - 1e-6 <= float(found.bound[0]) <= optimum + 1e-9
        last = float(found.bound[0]) if steps >= 40 else -np.inf
    assert last > optimum - 1e-2
    now = first.minimise_batch(time_limit=0.0)
    assert int(now.steps[0]) == 0 and float(now.bound[0]) <= optimum


def test_infeasible_programs_are_proved_so_beside_feasible_ones():
    m = triangle(2, width=8)
    lower = torch.as_tensor(m.lower).repeat(4, 1)
    upper = torch.as_tensor(m.upper).repeat(4, 1)
    corner = highs.solve(m.with_objective(np.eye(1, len(m.cost), len(m.cost) - 1)[0])).value
    upper[1, -1] = corner - 0.3  # below what the network reaches
    lower[2, 0] = m.upper[0] + 1.0  # crossed
    found = FirstOrder(m).minimise_batch(Parts(lower=lower, upper=upper), steps=4000)
    assert found.infeasible.tolist() == [False, True, True, False]
    assert (found.bound == torch.inf).tolist() == [False, True, True, False]
    assert m.with_bounds(lower[1].numpy(), upper[1].numpy()).safe_infeasible(found.dual[1].numpy())


def test_children_start_from_their_parents_and_a_target_ends_them():
    m = triangle(7)
    first = FirstOrder(m)
    parent = first.minimise_batch(steps=6000, tolerance=1e-4)
    lower = torch.as_tensor(m.lower).repeat(3, 1)
    for k in range(3):
        lower[k, k] = (m.lower[k] + m.upper[k]) / 2
    both = [
        first.minimise_batch(Parts(lower=lower), start=start, steps=6000, tolerance=1e-3)
        for start in (None, parent.start.select(torch.zeros(3, dtype=torch.int64)))
    ]
    assert bool(both[0].solved.all()) and bool(both[1].solved.all())
    assert both[1].steps.sum() < both[0].steps.sum()
    optimum = highs.solve(m).value
    early = first.minimise_batch(Parts(offset=torch.tensor([1.0, 2.0])), target=torch.tensor([optimum + 0.5, -np.inf]))
    assert early.steps[1] == 0 and early.bound[0] >= optimum + 0.5
    assert early.steps[0] < parent.steps[0]


def test_as_a_backend():
    m = triangle(1, width=8)
    found, truth = backend("first-order")(m), highs.solve(m)
    assert found.status is Status.optimal
    assert truth.value - 1e-4 < found.bound_safe <= truth.value + 1e-9
    assert found.bound_safe == pytest.approx(m.safe_bound(found.dual), abs=1e-9)
    assert m.violation(found.x) < 1e-3
    short = backend("first-order")(triangle(6, width=60), time_limit=0.01)
    assert short.status is Status.limit and "stopped before its tolerance" in short.note
    apart = LinearModel(
        m.cost, m.lower, m.upper, csr_array(np.ones((1, len(m.cost)))), np.array([1e4]), np.array([2e4])
    )
    assert backend("first-order")(apart).bound_safe == np.inf
    several, random = FirstOrder(m), np.random.default_rng(0)
    for _ in range(3):
        cost = random.normal(size=len(m.cost))
        truth = highs.solve(m.with_objective(cost, 0.5)).value
        assert truth - 2e-3 < several.minimise(cost, 0.5).bound_safe <= truth + 1e-9


def test_bad_input_is_refused_in_a_sentence():
    m = model(0)
    first = FirstOrder(m)
    open_box = m.with_bounds(np.full(8, -np.inf), m.upper)
    equation = LinearModel(m.cost, m.lower, m.upper, m.matrix, m.row_upper, m.row_upper)
    for call, said in (
        (lambda: FirstOrder(open_box), "finite bounds on every variable"),
        (lambda: FirstOrder(LinearModel(**{**vars(m), "integer": np.ones(8, bool)})), "linear programs only"),
        (lambda: first.minimise_batch(Parts(cost=torch.full((8,), torch.nan))), "`cost`.*NaN"),
        (lambda: first.minimise_batch(Parts(cost=torch.zeros(2, 7))), r"must be \(B, 8\), not \(2, 7\)"),
        (lambda: first.minimise_batch(Parts(cost=torch.zeros(2, 8), lower=torch.zeros(3, 8))), "different numbers"),
        (lambda: first.minimise_batch(Parts(upper=torch.full((8,), torch.inf))), "finite bounds"),
        (lambda: FirstOrder(equation).minimise_batch(Parts(row_upper=torch.as_tensor(m.row_upper) + 1)), "equation"),
        (lambda: backend("simplex"), "no linear-programming backend called 'simplex'.*'first-order'"),
    ):
        with pytest.raises(BadInput, match=said):
            call()


def test_a_program_without_rows_is_its_box():
    m = model(0)
    alone = LinearModel(m.cost, m.lower, m.upper, csr_array((0, 8)), np.zeros(0), np.zeros(0))
    found = FirstOrder(alone).minimise_batch(Parts(cost=torch.stack([torch.as_tensor(m.cost), torch.zeros(8)])))
    assert found.bound.tolist() == pytest.approx([-np.abs(m.cost).sum(), 0.0]) and bool(found.solved.all())


# The fused passes.

INTERPRETED = """
import torch
from partita.kernels import first_order as plain
from partita.kernels.triton import first_order as fast

random = torch.Generator().manual_seed(0)
for dtype in (torch.float32, torch.float64):
    for n, b in ((1, 1), (63, 7), (100, 33), (1823, 3)):
        draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)
        step, weight = draw(b).abs(), torch.rand(b, generator=random).to(dtype)
        ends = draw(2, n, b).sort(0).values
        open_ = torch.rand(2, n, b, generator=random) < 0.3
        sides = torch.where(open_, torch.tensor([-torch.inf, torch.inf], dtype=dtype)[:, None, None], ends)
        sides[:, : n // 4] = draw(n // 4, b)  # equations
        primal = (draw(n, b), draw(n, b), draw(n, b), draw(n, b), *ends, step, weight)
        dual = (draw(n, b), draw(n, b), draw(n, b), *sides, step, weight)
        empty = torch.empty_like
        torch.empty_like = lambda t: torch.full_like(t, torch.nan)
        found = (*fast.primal_step(*primal), *fast.dual_step(*dual))
        torch.empty_like = empty
        for mine, theirs in zip(found, (*plain.primal_step(*primal), *plain.dual_step(*dual)), strict=True):
            assert mine.shape == theirs.shape and mine.dtype is dtype
            near = 100 * torch.finfo(dtype).eps
            torch.testing.assert_close(mine, theirs, rtol=near, atol=near)
print("agree")
"""


def test_the_fused_passes_agree_with_the_reference_under_the_interpreter():
    """In a process of its own: the interpreter is chosen when triton is imported."""
    pytest.importorskip("triton", reason="Triton is not installed, so its kernels cannot run here")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    said = subprocess.run([sys.executable, "-c", INTERPRETED], capture_output=True, text=True, env=environment)
    assert said.returncode == 0, said.stderr[-2000:]
    assert said.stdout.strip() == "agree"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device here")
def test_a_device_finds_the_same_bounds():
    m = triangle(3)
    lower = torch.as_tensor(varied(m, 1, 0)[0].lower)[None].repeat(9, 1)
    here, there = (
        FirstOrder(m, device=device).minimise_batch(Parts(lower=lower.to(device)), steps=4000, tolerance=1e-4)
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(there.bound.cpu(), here.bound, atol=5e-3, rtol=1e-3)


def test_claims_are_near_what_is_proved():
    m = triangle(4)
    dual = torch.as_tensor(highs.solve(m).dual)[:, None]
    matrix, batch = of(m.matrix), columns(m)
    assert float(claimed_bounds(matrix, batch, dual)) == pytest.approx(float(safe_bounds(matrix, batch, dual)[0]))
