"""The oracle, the safe bounds, and the leaf program, against enumeration of activation patterns."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from networks import PIECEWISE, random_box, random_graph, random_property, sample
from scipy.optimize import linprog
from scipy.sparse import csr_array

from partita.problems.errors import BadInput
from partita.problems.network.activation import ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.properties.property import Polytope, UnsafeSet
from partita.relaxations.ladder.exact import boxes_from, feasible_unsafe, minimum
from partita.relaxations.leaf.cell import Multipliers, cell_of
from partita.relaxations.leaf.leaf import LeafStatus, settle
from partita.relaxations.linear.root import root
from partita.relaxations.lp import gurobi, highs
from partita.relaxations.lp.backends import backend
from partita.relaxations.lp.boxes import node_boxes
from partita.relaxations.lp.encode import encode
from partita.relaxations.lp.model import LinearModel, Status
from partita.relaxations.protocol import Means

HAS_GUROBI = importlib.util.find_spec("gurobipy") is not None


# The slow truth: every pattern, one dense linear program each, maps composed entry by entry.


def affine_on(graph: Graph, pattern: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each node as (J, c) on the cell of a sign pattern; operators become matrices through the identity."""
    maps = [(np.eye(graph.input_size), np.zeros(graph.input_size))]
    start = 0
    for node in graph.nodes[1:]:
        if isinstance(node, Affine):
            matrices = [op.apply(torch.eye(op.n_in, dtype=torch.float64)).numpy().T for op in node.operators]
            parts = [(m @ maps[i][0], m @ maps[i][1]) for m, i in zip(matrices, node.inputs, strict=True)]
            maps.append((sum(p[0] for p in parts), sum(p[1] for p in parts) + node.bias.numpy()))
        else:
            signs = pattern[start : start + node.size]
            start += node.size
            d = np.where(signs > 0, 1.0, node.function.slope)
            maps.append((d[:, None] * maps[node.inputs[0]][0], d * maps[node.inputs[0]][1]))
    return maps


def least_on(graph: Graph, polytope: Polytope, pattern: np.ndarray, unsafe: UnsafeSet) -> float:
    """The least unsafe margin over one cell, +inf where the cell is empty."""
    maps = affine_on(graph, pattern)
    rows, right, start = [polytope.normals], [polytope.offsets], 0
    for i in graph.layer_at:
        j, c = maps[graph.nodes[i].inputs[0]]
        signs = pattern[start : start + len(c)][:, None]
        start += len(c)
        rows.append(-signs * j)
        right.append(signs[:, 0] * c)
    j, c = maps[-1]
    on_input = 0 if unsafe.on_input is None else unsafe.on_input
    matrix = np.column_stack([np.concatenate(rows), np.zeros(sum(map(len, rows)))])
    margin = np.column_stack([unsafe.rows @ j + on_input, -np.ones(len(unsafe.rows))])
    box = [*zip(polytope.lower, polytope.upper, strict=True), (None, None)]
    answer = linprog(
        np.eye(1, polytope.size + 1, polytope.size)[0],
        A_ub=np.concatenate([matrix, margin]),
        b_ub=np.concatenate([*right, -unsafe.constants - unsafe.rows @ c]),
        bounds=box,
        method="highs",
    )
    return answer.fun if answer.status == 0 else np.inf


def patterns(graph: Graph, polytope: Polytope) -> np.ndarray:
    """Every sign pattern that interval arithmetic does not exclude."""
    boxes = node_boxes(graph, polytope)
    choices = []
    for i in graph.layer_at:
        lower, upper = boxes[graph.nodes[i].inputs[0]]
        choices += [[1] if l >= 0 else [-1] if u <= 0 else [-1, 1] for l, u in zip(lower, upper, strict=True)]
    return np.array(list(itertools.product(*choices)), dtype=np.int8)


def by_layer(graph: Graph, pattern: np.ndarray) -> list[np.ndarray]:
    return np.split(pattern, np.cumsum([graph.nodes[i].size for i in graph.layer_at])[:-1])


def tiny(seed: int, kind: str) -> Graph:
    if kind == "conv":
        return random_graph(seed, "conv", inputs=4, width=4, depth=1)
    return random_graph(seed, kind, inputs=2, width=4 if kind != "maxpool" else 2, depth=2)


@pytest.mark.parametrize("kind", PIECEWISE)
@pytest.mark.parametrize("seed", range(4))
def test_oracle_agrees_with_enumeration(kind, seed):
    graph = tiny(seed, kind)
    prop = random_property(seed, graph, radius=0.7, halfspaces=seed % 2, rows=1 + seed // 2)
    polytope, unsafe = prop.cases[0].inputs, prop.cases[0].unsafe[0]
    if seed == 3:
        unsafe = UnsafeSet(unsafe.rows, unsafe.constants, np.ones((len(unsafe.rows), graph.input_size)))
    truth = min(least_on(graph, polytope, pattern, unsafe) for pattern in patterns(graph, polytope))
    result = feasible_unsafe(graph, polytope, unsafe)
    assert result.status is Status.optimal
    assert result.lower <= truth + 1e-9 and truth <= result.upper + 1e-9
    assert result.upper - result.lower < 1e-6
    assert polytope.contains(result.x, 1e-9)


@pytest.mark.parametrize("kind", PIECEWISE)
def test_minimum_is_below_samples_and_attained(kind):
    graph = random_graph(11, kind, inputs=4 if kind != "conv" else 9, width=8, depth=2)
    polytope = random_box(5, graph.input_size, 0.4, halfspaces=1)
    row = np.array([1.0, -0.7])
    result = minimum(graph, polytope, row, 0.25)
    values = graph(torch.as_tensor(sample(polytope, 2000))).numpy() @ row + 0.25
    assert result.lower <= values.min()
    assert result.upper == pytest.approx(graph(torch.as_tensor(result.x)).numpy() @ row + 0.25)
    assert result.upper - result.lower < 1e-6


def test_a_bound_without_binaries_is_a_safe_bound():
    graph = random_graph(0, "mlp", inputs=3, width=6)
    centre = random_box(1, 3).lower
    result = minimum(graph, Polytope(centre - 1e-4, centre + 1e-4), np.array([1.0, 1.0]))
    assert result.margin == 0 and 0 <= result.upper - result.lower < 1e-12


def test_stops_at_the_time_limit_with_a_sound_bound():
    graph = random_graph(1, "mlp", inputs=6, width=40, depth=3)
    polytope = random_box(1, 6, 1.0)
    result = minimum(graph, polytope, np.array([1.0, 0.0]), means=Means(time_limit=0.2))
    assert result.status is Status.limit
    assert result.lower <= graph(torch.as_tensor(sample(polytope, 500))).numpy()[:, 0].min()


def test_empty_input_sets_have_no_minimum():
    graph = random_graph(0, "mlp", inputs=2)
    crossed = Polytope(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    cut_off = Polytope(np.zeros(2), np.ones(2), np.array([[1.0, 1.0], [-1.0, -1.0]]), np.array([0.5, -0.6]))
    for polytope in (crossed, cut_off):
        result = minimum(graph, polytope, np.ones(2))
        assert result.lower == np.inf and result.x is None
    touching = Polytope(np.zeros(2), np.ones(2), np.array([[1.0, 1.0], [-1.0, -1.0]]), np.array([0.5, -0.5]))
    assert np.isfinite(minimum(graph, touching, np.ones(2)).upper)


def test_single_points_are_evaluated():
    graph = random_graph(3, "residual", inputs=3)
    x = random_box(4, 3).lower
    result = minimum(graph, Polytope(x, x), np.array([0.0, 1.0]))
    value = graph(torch.as_tensor(x)).numpy()[1]
    assert result.lower <= value <= result.upper + 1e-12 and result.upper - result.lower < 1e-10


def test_refusals_name_what_is_wrong():
    with pytest.raises(BadInput, match="Sigmoid"):
        minimum(random_graph(0, "sigmoid"), random_box(0, 3), np.ones(2))
    with pytest.raises(BadInput, match="finite bounds"):
        minimum(random_graph(0), Polytope(np.full(3, -np.inf), np.ones(3)), np.ones(2))
    with pytest.raises(BadInput, match="5 coefficients"):
        minimum(random_graph(0), random_box(0, 3), np.ones(5))
    with pytest.raises(BadInput, match="nosuch"):
        minimum(random_graph(0), random_box(0, 3), np.ones(2), means=Means(backend="nosuch"))


# Linear models and their safe bounds.


def random_model(seed: int, feasible: bool = True) -> LinearModel:
    random = np.random.default_rng(seed)
    v, r = random.integers(2, 9), random.integers(1, 9)
    matrix = random.normal(size=(r, v)) * (random.random((r, v)) < 0.6) * 10.0 ** random.integers(-3, 4, (r, 1))
    lower = random.normal(size=v)
    upper = lower + random.random(v) * (random.random(v) < 0.9)
    middle = matrix @ (lower + (upper - lower) * random.random(v))
    width = np.abs(matrix).sum(1) * random.random(r) * (0.2 if feasible else 0.0)
    low = np.where(random.random(r) < 0.3, -np.inf, middle - width)
    high = np.where(random.random(r) < 0.3, np.inf, middle + width)
    if not feasible:
        matrix, low = np.concatenate([matrix, -matrix[:1]]), np.append(low, 1 + np.abs(matrix[0]).sum() * 10)
        high = np.append(high, np.inf)
        low[0], high[0] = -1.0, np.inf
        low[-1] = 1.0 + 1e-6
    return LinearModel(random.normal(size=v), lower, upper, csr_array(matrix), low, high, offset=random.normal())


def exact_dual_value(model: LinearModel, dual: np.ndarray) -> Fraction:
    """What weak duality gives for this vector, in rational arithmetic."""
    matrix, total = model.matrix.toarray(), Fraction(model.offset)
    reduced = [Fraction(c) for c in model.cost]
    for i, y in enumerate(dual):
        side = model.row_lower[i] if y > 0 else model.row_upper[i]
        if y == 0 or not np.isfinite(side):
            continue
        total += Fraction(y) * Fraction(side)
        for j in range(len(reduced)):
            reduced[j] -= Fraction(y) * Fraction(matrix[i, j])
    for j, r in enumerate(reduced):
        total += min(r * Fraction(model.lower[j]), r * Fraction(model.upper[j]))
    return total


@pytest.mark.parametrize("seed", range(60))
def test_safe_bound_is_below_the_exact_dual_value_and_close(seed):
    model = random_model(seed)
    solution = highs.solve(model)
    random = np.random.default_rng(seed)
    assert solution.status is Status.optimal
    assert solution.value - 1e-6 * (1 + abs(solution.value)) <= solution.bound_safe <= solution.value + 1e-9
    for noise in (0.0, 1e-12, 1e-3, 1e3):
        dual = solution.dual + noise * random.normal(size=len(solution.dual))
        safe, exact = model.safe_bound(dual), exact_dual_value(model, dual)
        assert Fraction(safe) <= exact
        scale = abs(model.cost).sum() + np.abs(model.matrix.toarray()).T.dot(np.abs(dual)).sum()
        sides = [s[np.isfinite(s)] for s in (model.row_lower, model.row_upper)]
        scale = scale * 10 + np.abs(dual).sum() * np.abs(np.concatenate([*sides, [0.0]])).max()
        assert float(exact - Fraction(safe)) <= 1e-13 * (1 + scale)


def test_safe_bound_survives_nonsense_vectors():
    model = random_model(2)
    for dual in (np.full(len(model.row_lower), v) for v in (np.nan, np.inf, -np.inf, 1e300, -1e300)):
        assert model.safe_bound(dual) <= highs.solve(model).value
    unbounded = LinearModel(np.ones(1), np.array([-np.inf]), np.ones(1), csr_array((0, 1)), np.zeros(0), np.zeros(0))
    assert unbounded.safe_bound(np.zeros(0)) == -np.inf


@pytest.mark.parametrize("seed", range(20))
def test_infeasibility_is_certified_or_not_claimed(seed):
    model = random_model(seed, feasible=False)
    solution = highs.solve(model)
    assert solution.status is Status.infeasible and solution.bound_safe == np.inf
    feasible = random_model(seed)
    for ray in np.random.default_rng(seed).normal(size=(50, len(feasible.row_lower))):
        assert not feasible.safe_infeasible(ray)


def test_safe_bound_is_nothing_where_its_sum_leaves_float64():
    wide = LinearModel(
        np.array([1.0, -1.0, 0.0]),
        np.full(3, -1.7e308),
        np.full(3, 1.7e308),
        csr_array(np.array([[1.0, 1.0, 1.0], [1.0, -1.0, 0.5]])),
        np.full(2, -1.7e308),
        np.full(2, 1.7e308),
    )
    for dual in ([0.0, 0.0], [1.0, 0.0], [-1.0, 1.0], [0.5, -0.5]):
        assert wide.safe_bound(np.array(dual)) == -np.inf


def test_safe_bound_knows_cancellation():
    """Reduced costs that float64 rounds to zero still cost their rounding on a wide variable."""
    matrix = csr_array(np.array([[1.0], [1e-17]]))
    model = LinearModel(np.ones(1), np.array([-1e18]), np.array([1e18]), matrix, np.zeros(2), np.full(2, np.inf))
    dual = np.array([1.0, 1.0])
    assert Fraction(model.safe_bound(dual)) <= exact_dual_value(model, dual) < -9


def test_safe_bound_accounts_for_the_rounding_of_its_products():
    """With all variables zero only the products y_i row_lower_i are left, and each of them rounds."""
    random = np.random.default_rng(0)
    for _ in range(50):
        low = random.normal(size=4)  # of both signs: their sum is smaller than what the products lose
        zero = np.zeros(1)
        model = LinearModel(zero, zero, zero, csr_array(random.random((4, 1))), low, np.full(4, np.inf))
        dual = random.random(4)
        assert Fraction(model.safe_bound(dual)) <= exact_dual_value(model, dual)


# The encoding holds every point of the network.


@pytest.mark.parametrize("kind", [*PIECEWISE, "sigmoid", "tanh"])
def test_encoding_holds_the_network(kind):
    graph = random_graph(7, kind, inputs=4, width=6)
    polytope = random_box(7, 4, 0.5, halfspaces=1)
    loose = node_boxes(graph, polytope)
    boxes = boxes_from(
        graph, polytope, root(graph, torch.as_tensor(polytope.lower), torch.as_tensor(polytope.upper))[1], 0
    )
    x = sample(polytope, 200)
    values = graph.values(torch.as_tensor(x))
    for (low, high), (wide_low, wide_high), value in zip(boxes, loose, values, strict=True):
        assert (low <= value).all() and (value <= high).all()
        assert (wide_low <= low).all() and (high <= wide_high).all()
    if kind != "conv":
        assert any((b[0] > l[0] + 1e-6).any() for b, l in zip(boxes, loose, strict=True))
    forms = ("relaxed", "exact") if kind in PIECEWISE else ("relaxed",)
    for form, bounds in itertools.product(forms, (boxes, loose)):
        model = encode(graph, polytope, form=form, boxes=bounds).model
        for k in range(0, len(x), 7):
            point = np.concatenate([v[k].numpy() for v in values])
            if form == "exact":
                z = np.concatenate([v[k].numpy() for v in (values[graph.nodes[i].inputs[0]] for i in graph.layer_at)])
                open_ = np.concatenate(
                    [~ReLU().decided(*bounds[graph.nodes[i].inputs[0]]).numpy() for i in graph.layer_at]
                )
                point = np.append(point, z[open_] > 0)
            assert model.violation(point) < 1e-12


# Leaves.


@pytest.mark.parametrize("kind", PIECEWISE)
@pytest.mark.parametrize("seed", range(4))
def test_leaves_agree_with_enumeration(kind, seed):
    graph = tiny(seed + 20, kind)
    prop = random_property(seed, graph, radius=0.8, halfspaces=seed % 3, rows=1 + seed % 2)
    polytope, unsafe = prop.cases[0].inputs, prop.cases[0].unsafe[0]
    if seed == 3:
        unsafe = UnsafeSet(unsafe.rows, unsafe.constants, 0.1 * np.ones((len(unsafe.rows), graph.input_size)))
    for pattern in patterns(graph, polytope):
        truth = least_on(graph, polytope, pattern, unsafe)
        result = settle(graph, polytope, by_layer(graph, pattern), unsafe)
        if result.status is LeafStatus.witness:
            assert polytope.contains(result.x)
            assert unsafe.margin(graph(torch.as_tensor(result.x)).numpy(), result.x) == result.margin <= 0
            # On the way to its cell the program may meet an unsafe point of another one; that counts.
            assert truth <= 1e-7 or (pattern_at(graph, result.x) != pattern).any()
        else:
            assert truth >= -1e-7
            assert result.status is LeafStatus.closed or truth < 1e-7


def pattern_at(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The sign of every neuron at x."""
    values = graph.values(torch.as_tensor(x))
    return np.concatenate([np.where(values[graph.nodes[i].inputs[0]] > 0, 1, -1) for i in graph.layer_at])


@pytest.mark.parametrize("kind", PIECEWISE)
def test_certificates_hold_for_any_multipliers(kind):
    """sum_k m_k g_k at points of the cell is never below the certified bound, however poor the multipliers."""
    graph = tiny(3, kind)
    polytope = random_box(3, graph.input_size, 0.6, halfspaces=1)
    random = np.random.default_rng(3)
    unsafe = UnsafeSet(random.normal(size=(2, 2)), random.normal(size=2), random.normal(size=(2, graph.input_size)))
    x = sample(polytope, 60)
    values = graph.values(torch.as_tensor(x))
    pre = [values[graph.nodes[i].inputs[0]].numpy() for i in graph.layer_at]
    for k in range(len(x)):
        signs = [np.where(z[k] > 0, 1, -1).astype(np.int8) for z in pre]
        cell = cell_of(graph, polytope, signs)
        m = Multipliers(random.random(2), random.random(1), {i: random.random(graph.nodes[i].size) for i in cell.signs})
        total = m.unsafe @ (unsafe.rows @ values[-1][k].numpy() + unsafe.constants + unsafe.on_input @ x[k])
        total += m.halfspaces @ (polytope.normals @ x[k] - polytope.offsets)
        total += sum(m.neurons[i] @ (-s * z[k]) for i, s, z in zip(graph.layer_at, signs, pre, strict=True))
        assert cell.certify(m, unsafe) <= total + 1e-14


@pytest.mark.parametrize("kind", PIECEWISE)
@pytest.mark.parametrize("seed", range(5))
def test_certificates_account_for_their_rounding(kind, seed):
    """On a box of one point the certified bound is below the sum in rational arithmetic, and close to it."""
    graph = random_graph(seed, kind, inputs=9, width=8, depth=3)
    x = np.random.default_rng(seed).normal(size=9)
    pattern = pattern_at(graph, x)
    cell = cell_of(graph, Polytope(x, x), by_layer(graph, pattern.astype(np.int8)))
    random = np.random.default_rng(seed)
    unsafe = UnsafeSet(random.normal(size=(3, 2)), random.normal(size=3), random.normal(size=(3, 9)))
    m = Multipliers(random.random(3), np.zeros(0), {i: random.random(graph.nodes[i].size) for i in cell.signs})
    values = exact_values(graph, x)
    total = sum(Fraction(w) * Fraction(c) for w, c in zip(m.unsafe, unsafe.constants, strict=True))
    for row, value in ((unsafe.rows, values[-1]), (unsafe.on_input, values[0])):
        total += sum(Fraction(m.unsafe[r]) * Fraction(row[r, k]) * value[k] for r, k in np.ndindex(*row.shape))
    for i in graph.layer_at:
        z, signs = values[graph.nodes[i].inputs[0]], cell.signs[i].tolist()
        total -= sum(Fraction(w) * Fraction(s) * v for w, s, v in zip(m.neurons[i], signs, z, strict=True))
    assert total - Fraction(1e-11) <= Fraction(cell.certify(m, unsafe)) <= total


def exact_values(graph: Graph, x: np.ndarray) -> list[list[Fraction]]:
    """Every node's value at x in rational arithmetic."""
    values = [[Fraction(v) for v in x]]
    for node in graph.nodes[1:]:
        if isinstance(node, Affine):
            value = [Fraction(b) for b in node.bias.tolist()]
            for op, i in zip(node.operators, node.inputs, strict=True):
                matrix = op.apply(torch.eye(op.n_in, dtype=torch.float64)).T.tolist()
                value = [
                    v + sum(Fraction(a) * e for a, e in zip(row, values[i], strict=True) if a)
                    for v, row in zip(value, matrix, strict=True)
                ]
        else:
            slope = Fraction(node.function.slope)
            value = [v if v > 0 else slope * v for v in values[node.inputs[0]]]
        values.append(value)
    return values


def cancelling(gap: float) -> Graph:
    """f(x) = gap + (1e8 + x) - (1e8 + x): rounding at 1e8 hides any gap below about 1e-8."""
    one = torch.ones(1, 1, dtype=torch.float64)
    big = torch.full((1,), 1e8, dtype=torch.float64)
    return Graph(
        (
            Input(1),
            Affine((0,), (Dense(one),), big),
            Activation((1,), ReLU(), 1),
            Affine((2, 0), (Dense(one), Dense(-one)), gap - big),
        ),
        (1,),
        (1,),
    )


def test_rounding_is_never_taken_for_a_proof():
    polytope, unsafe = Polytope(-np.ones(1), np.ones(1)), UnsafeSet(np.ones((1, 1)), np.zeros(1))
    phases = [np.ones(1, np.int8)]
    assert settle(cancelling(1e-5), polytope, phases, unsafe).status is LeafStatus.closed
    assert settle(cancelling(-1e-5), polytope, phases, unsafe).status is LeafStatus.witness
    assert settle(cancelling(1e-10), polytope, phases, unsafe).status is not LeafStatus.closed


def test_degenerate_leaves():
    graph = random_graph(5, "mlp", inputs=2, width=4)
    phases = [np.ones(4, np.int8), np.ones(4, np.int8)]
    unsafe = UnsafeSet(np.eye(2), np.full(2, -1e3))  # satisfied everywhere
    crossed = Polytope(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert settle(graph, crossed, phases, unsafe).status is LeafStatus.closed
    cut_off = Polytope(np.zeros(2), np.ones(2), np.array([[1.0, 1.0], [-1.0, -1.0]]), np.array([0.5, -0.6]))
    assert settle(graph, cut_off, phases, unsafe).status is LeafStatus.closed
    x = np.array([0.25, -0.5])
    found = settle(graph, Polytope(x, x), by_layer(graph, pattern_at(graph, x)), unsafe)
    assert found.status is LeafStatus.witness and (found.x == x).all()
    with pytest.raises(ValueError, match="no phase yet"):
        settle(graph, random_box(0, 2, 3.0), [np.zeros(4, np.int8)] * 2, unsafe)
    with pytest.raises(BadInput, match="not piecewise linear"):
        settle(random_graph(0, "tanh", inputs=2, width=4), random_box(0, 2), phases, unsafe)


def test_a_leaf_of_a_larger_network_needs_few_phases():
    """200 inputs and 240 neurons: the cutting planes end, and agree with the MILP-free minimum over the cell."""
    graph = random_graph(9, "mlp", inputs=200, width=80, depth=3)
    polytope = random_box(9, 200, 0.02)
    centre = (polytope.lower + polytope.upper) / 2
    pattern = pattern_at(graph, centre).astype(np.int8)
    phases = by_layer(graph, pattern)
    row = np.array([[1.0, -1.0]])
    least = least_on(graph, polytope, pattern, UnsafeSet(row, np.zeros(1)))
    for shift, status in ((1e-6, LeafStatus.closed), (-1e-6, LeafStatus.witness)):
        result = settle(graph, polytope, phases, UnsafeSet(row, np.array([-least + shift])))
        assert result.status is status


# Backends.


def test_gurobi_absent_says_which_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gurobipy", None)
    with pytest.raises(BadInput, match="extra 'gurobi'"):
        minimum(random_graph(0), random_box(0, 3), np.ones(2), means=Means(backend="gurobi"))


@pytest.mark.skipif(not HAS_GUROBI, reason="gurobipy is not installed; the extra 'gurobi' brings it")
@pytest.mark.parametrize("seed", range(6))
def test_gurobi_agrees_with_highs(seed):
    model = random_model(seed)
    ours, theirs = highs.solve(model), gurobi.solve(model)
    assert theirs.value == pytest.approx(ours.value, abs=1e-6)
    assert theirs.bound_safe == pytest.approx(theirs.value, abs=1e-5)
    assert gurobi.solve(random_model(seed, feasible=False)).bound_safe == np.inf
    graph, polytope = random_graph(seed, "leaky", inputs=2), random_box(seed, 2)
    answers = [
        minimum(graph, polytope, np.array([1.0, -1.0]), means=Means(backend=name)).upper for name in ("highs", "gurobi")
    ]
    assert answers[0] == pytest.approx(answers[1], abs=1e-6)


@pytest.mark.skipif(not HAS_GUROBI, reason="gurobipy is not installed; the extra 'gurobi' brings it")
def test_gurobi_hands_large_models_to_highs():
    n = 2500
    ones = csr_array(np.ones((1, n)))
    model = LinearModel(np.ones(n), np.zeros(n), np.ones(n), ones, np.ones(1), np.array([np.inf]))
    solution = gurobi.solve(model)
    assert solution.value == pytest.approx(1.0)
    assert solution.note == "" or "2000 variables" in solution.note


def test_both_backends_are_found_by_name():
    assert backend("highs").func is highs.solve and backend("gurobi").func is gurobi.solve
