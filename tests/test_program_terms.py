"""Linear and mixed-integer programs behind verdicts: no claim of a solver counts, and every row holds."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from networks import random_box, random_graph, sample
from scipy.sparse import csr_array
from test_rounding_terms import exact, exact_values, graph_of, inner_exact

from partita.kernels.blocks import Blocks
from partita.kernels.weak_duality import Programs, safe_bounds
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Affine, Graph, Input
from partita.problems.network.matrix import matrix
from partita.problems.properties.property import Polytope, UnsafeSet
from partita.relaxations.ladder import exact as oracle
from partita.relaxations.ladder.anderson import Layer, certified
from partita.relaxations.ladder.exact import feasible_unsafe, minimum
from partita.relaxations.ladder.triangle import Setting, Tightening, minima
from partita.relaxations.leaf.cell import Multipliers, cell_of
from partita.relaxations.leaf.leaf import LeafStatus, settle
from partita.relaxations.lp import highs
from partita.relaxations.lp.disjunction import Alternative, Branch, _decided, add_hull, patterns
from partita.relaxations.lp.encode import encode
from partita.relaxations.lp.envelope import Above, envelope
from partita.relaxations.lp.first_order import FirstOrder, Parts
from partita.relaxations.lp.model import LinearModel, Solution, Status
from partita.relaxations.lp.objectives import session
from partita.relaxations.lp.program import Program
from partita.relaxations.protocol import rounded_down


def phases_at(graph: Graph, x: np.ndarray) -> list[np.ndarray]:
    values = graph.values(torch.from_numpy(x))
    return [np.where(values[graph.nodes[i].inputs[0]].numpy() > 0, 1, -1).astype(np.int8) for i in graph.layer_at]


# Cells: any multipliers, in rational numbers.


@pytest.mark.parametrize("seed", range(3))
def test_certificates_are_below_the_sum_at_every_point_of_the_cell(seed):
    """The sum of multiplied constraints at far-out points of the cell, where all of it cancels."""
    random = np.random.default_rng(seed)
    for k in range(15):
        draw = torch.Generator().manual_seed(100 * seed + k)
        randn = lambda *shape: torch.randn(*shape, generator=draw, dtype=torch.float64)  # noqa: B023, E731
        big = 10.0 ** (k % 7)
        graph = graph_of(
            (randn(3, 2), big * randn(3), True), (randn(3, 3), big * randn(3), True), (randn(2, 3), randn(2), False)
        )
        x = big * random.normal(size=2)
        polytope = Polytope(x, x, random.normal(size=(1, 2)), np.array([1e3 * big]))
        cell = cell_of(graph, polytope, phases_at(graph, x))
        value = exact_values(graph, x)
        on_input = random.normal(size=(2, 2)) if k % 2 else None
        near = graph(torch.from_numpy(x)).numpy()
        rows = random.normal(size=(2, 2))
        unsafe = UnsafeSet(rows, -rows @ near, on_input)
        for size in (1.0, 1e4):
            m = Multipliers(
                size * random.random(2),
                size * random.random(1),
                {i: size * random.random(3) * (random.random(3) < 0.5) for i in cell.signs},
            )
            total = Fraction(0)
            for r in range(2):
                left = inner_exact(rows[r], value[-1]) + exact(unsafe.constants[r])[0]
                left += 0 if on_input is None else inner_exact(on_input[r], value[0])
                total += exact(m.unsafe[r])[0] * left
            total += exact(m.halfspaces)[0] * (inner_exact(polytope.normals[0], value[0]) - exact(polytope.offsets)[0])
            for i, sign in cell.signs.items():
                z = value[graph.nodes[i].inputs[0]]
                for price, s, v in zip(exact(m.neurons[i]), sign.tolist(), z, strict=True):
                    total -= price * int(s) * v
            assert Fraction(cell.certify(m, unsafe)) <= total


@pytest.mark.parametrize("kind", ["mlp", "leaky", "residual"])
def test_what_pulling_back_loses_is_the_sum_of_its_terms(kind):
    """Beside a slow sum: two unit roundoffs for each sum and product, what each operator's inner products lose, all
    at the far ends of the nodes' boxes, and twice."""
    graph = random_graph(3, kind, inputs=3, width=5, depth=3)
    x = np.array([0.5, -1.0, 2.0])
    cell = cell_of(graph, Polytope(x - 0.01, x + 0.02), phases_at(graph, x))
    unit, reach = 2.0**-53, [torch.maximum(low.abs(), high.abs()) for low, high in cell.boxes]
    draw = torch.Generator().manual_seed(0)
    seeds = [(i, torch.randn(1, graph.nodes[i].size, generator=draw).double()) for i in range(0, len(graph.nodes), 2)]
    rows, constant, error = {0: torch.zeros(1, 3).double()}, torch.zeros(1).double(), torch.zeros(1).double()
    for i in range(graph.output, -1, -1):
        sent = [(i, seed, 0 * seed) for node, seed in seeds if node == i]
        while sent:
            j, row, doubt = sent.pop()
            total = rows[j] + row if j in rows else row
            error = error + 2 * ((doubt + 2 * unit * total.abs()) * reach[j]).sum(1)
            rows[j] = total
        if i == 0 or i not in rows:
            continue
        node, row = graph.nodes[i], rows.pop(i)
        if isinstance(node, Affine):
            constant = constant + (row * node.bias).sum(1)
            shift = (row * node.bias).abs().sum(1)
            error = error + 2 * unit * ((node.size + 1) * shift + constant.abs())
            for operator, j in zip(node.operators, node.inputs, strict=True):
                weight = matrix(operator)
                sent.append((j, row @ weight, row.abs() @ weight.abs() * (2 * (operator.terms + 2) * unit)))
        else:
            sent.append((node.inputs[0], row * cell.slopes[i], 2 * unit * (row * cell.slopes[i]).abs()))
        for j, value, doubt in sent:
            total = rows[j] + value if j in rows else value
            error = error + 2 * ((doubt + 2 * unit * total.abs()) * reach[j]).sum(1)
            rows[j] = total
    found, shift, lost = cell.pull(seeds)
    torch.testing.assert_close(found, rows[0], rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(shift, constant, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(lost, error, rtol=1e-9, atol=0)


def test_leaves_whose_rows_on_inputs_decide_between_rows():
    """y_1 - 0.69 and y_0 - x_0 - x_1 + 0.7 on y = x: one of them is positive everywhere, neither is alone."""
    eye = torch.eye(2)
    graph = graph_of((eye, torch.zeros(2), True), (eye, torch.zeros(2), False))
    polytope, phases = Polytope(np.full(2, 0.5), np.full(2, 1.0)), [np.ones(2, dtype=np.int8)]
    rows, on_input = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.0, 0.0], [-1.0, -1.0]])
    unsafe = UnsafeSet(rows, np.array([-0.69, 0.7]), on_input)
    assert settle(graph, polytope, phases, unsafe).status is LeafStatus.closed


def test_a_cell_of_one_point_is_not_empty():
    graph = graph_of(
        (torch.tensor([[1.0], [0.0]]), torch.tensor([0.0, 0.0]), True), (torch.ones(1, 2), torch.zeros(1), False)
    )
    for x in (0.0, 1.0):
        polytope = Polytope(np.full(1, x), np.full(1, x))
        cell = cell_of(graph, polytope, [np.array([1, -1], dtype=np.int8)])
        assert not cell.empty
        result = settle(graph, polytope, [np.array([1, -1], dtype=np.int8)], UnsafeSet(np.ones((1, 1)), np.full(1, -x)))
        assert result.status is not LeafStatus.closed


@pytest.mark.parametrize("seed", range(4))
def test_leaves_with_rows_on_inputs(seed):
    """y_0 - x_0 >= 0 for y = relu(x): what the output says alone decides nothing."""
    eye = torch.eye(2)
    graph = graph_of((eye, torch.zeros(2), True), (eye, torch.zeros(2), False))
    random = np.random.default_rng(seed)
    polytope = Polytope(np.full(2, 0.5), np.full(2, 1.0))
    phases = [np.ones(2, dtype=np.int8)]
    row = random.normal(size=2)
    for shift, status in ((0.01, LeafStatus.closed), (-0.01, LeafStatus.witness)):
        unsafe = UnsafeSet(row[None], np.array([shift]), -row[None])
        assert settle(graph, polytope, phases, unsafe).status is status
        found = feasible_unsafe(graph, polytope, unsafe)
        assert found.lower == pytest.approx(shift, abs=1e-7) and found.positive is (shift > 0)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, -1e-9, -1e-6])
def test_leaves_near_their_threshold(gap):
    """The least value is `gap`: closed only where it is positive."""
    graph = graph_of((torch.ones(1, 2), torch.zeros(1), True), (torch.ones(1, 1), torch.zeros(1), False))
    polytope = Polytope(np.zeros(2), np.ones(2), -np.ones((1, 2)), np.array([-0.5]))
    unsafe = UnsafeSet(np.ones((1, 1)), np.array([-0.5 + gap]))
    result = settle(graph, polytope, [np.ones(1, dtype=np.int8)], unsafe)
    assert result.status is not (LeafStatus.closed if gap < 0 else LeafStatus.witness)
    if abs(gap) > 1e-7:
        assert result.status is (LeafStatus.closed if gap > 0 else LeafStatus.witness)
    if result.status is LeafStatus.witness:
        assert polytope.contains(result.x)


# Solvers that lie.


def claims(**what):
    """A solver that says this of every program."""
    return lambda model, time_limit=None: Solution(**what)


def test_an_integer_bound_is_lowered_by_the_margin(monkeypatch):
    graph, box = random_graph(1, inputs=2, width=4), random_box(1, 2)
    real = minimum(graph, box, np.array([1.0, 0.0]))
    assert real.margin > 0
    x = np.zeros(200)
    said = claims(status=Status.optimal, value=0.5, bound=0.25, x=x)
    monkeypatch.setattr(oracle, "backend", lambda *_: said)
    found = minimum(graph, box, np.array([1.0, 0.0]))
    assert found.lower == 0.25 - found.margin and found.margin == real.margin


def test_what_a_solver_calls_infeasible_without_proof_is_not_empty(monkeypatch):
    graph, box = random_graph(1, inputs=2, width=4), random_box(1, 2, halfspaces=2)
    monkeypatch.setattr(oracle, "backend", lambda *_: claims(status=Status.infeasible, bound=np.inf))
    found = minimum(graph, box, np.array([1.0, 0.0]))
    assert found.lower == -np.inf and not found.positive


@pytest.mark.parametrize("safe", [-np.inf, -1e6])  # nothing is proved, or nothing that is worth anything
def test_tightened_boxes_and_minima_believe_duals_alone(monkeypatch, safe):
    graph, box = random_graph(2, inputs=3, width=5), random_box(2, 3)
    graph = graph.to(torch.float64)
    lie = claims(status=Status.optimal, value=1e3, bound=1e3, x=None, bound_safe=safe)

    class Lying:
        def __init__(self, model):
            self.model = model

        def minimise(self, cost, offset=0.0):
            return lie(self.model)

    monkeypatch.setattr(Setting, "session", lambda self, model: Lying(model))
    assert minima(encode(graph, box), np.eye(2), Setting())[0] == safe
    plain, found = (encode(graph, box, additions=some).boxes for some in ((), [Tightening(Setting())]))
    for (a, b), (c, d) in zip(plain, found, strict=True):
        assert torch.equal(a, c) and torch.equal(b, d)


@pytest.mark.parametrize("seed", range(5))
def test_a_solution_states_what_its_dual_proves(seed):
    random = np.random.default_rng(seed)
    matrix = csr_array(random.normal(size=(6, 4)))
    x = random.normal(size=4)
    sides = matrix @ x - random.random(6)
    model = LinearModel(random.normal(size=4), x - 1, x + 1, matrix, sides, np.full(6, np.inf))
    found = highs.solve(model)
    assert found.bound_safe == model.safe_bound(found.dual)
    assert found.bound_safe <= found.value + 1e-12
    none = replace(model, row_lower=np.full(6, 100.0))
    found = highs.solve(none)
    assert found.status is Status.infeasible and found.bound_safe == np.inf and none.safe_infeasible(found.dual)
    assert not model.safe_infeasible(np.zeros(6)) and not model.safe_infeasible(found.dual)


@pytest.mark.parametrize("seed", range(3))
def test_a_first_order_method_states_what_its_multipliers_prove(seed):
    """Not what it claims on the way, where rounding is left out."""
    random = np.random.default_rng(seed)
    matrix = csr_array(random.normal(size=(6, 4)))
    x = 1e6 * random.normal(size=4)
    sides = matrix @ x - random.random(6)
    model = LinearModel(random.normal(size=4), x - 1, x + 1, matrix, sides, np.full(6, np.inf))
    many = FirstOrder(model, dtype=torch.float64)
    found = many.minimise_batch(Parts(cost=np.stack([model.cost, -model.cost])))
    column = lambda a: torch.as_tensor(a)[:, None].expand(-1, 2)  # noqa: E731
    both = torch.as_tensor(np.stack([model.cost, -model.cost], 1))
    wide = Programs(both, *(column(a) for a in (model.lower, model.upper, model.row_lower, model.row_upper)))
    blocks = Blocks.of(matrix.indptr, matrix.indices, matrix.data, matrix.shape)
    assert torch.equal(found.bound, safe_bounds(blocks, wide, found.dual.mT)[0])
    for k, cost in enumerate(both.mT.numpy()):
        assert found.bound[k] <= highs.solve(model.with_objective(cost)).value + 1e-6


def test_nothing_near_zero_proves_that_there_is_no_point():
    """x = 0 satisfies 1e-6 x >= 0; a ray whose sum is barely negative is no proof."""
    model = LinearModel(np.zeros(1), np.zeros(1), np.ones(1), csr_array([[1e-6]]), np.zeros(1), np.full(1, np.inf))
    assert not model.safe_infeasible(np.ones(1))
    tight = LinearModel(np.zeros(1), np.zeros(1), np.ones(1), csr_array([[1.0]]), np.ones(1), np.full(1, np.inf))
    assert not tight.safe_infeasible(np.ones(1))  # x = 1 alone


def test_float64_is_rounded_down_to_float32():
    values = torch.randn(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = rounded_down(values, values.float())
    assert (found.double() <= values).all() and (
        torch.nextafter(found, torch.tensor(torch.inf)).double() > values
    ).all()


# Encodings hold the network.


@pytest.mark.parametrize("kind", ["mlp", "leaky", "residual", "sigmoid"])
@pytest.mark.parametrize("form", ["relaxed", "exact"])
def test_encodings_hold_the_network_tightly(kind, form):
    """Every point of the network, on boxes found by sampling, so that stable and unstable neurons are near zero."""
    if kind == "sigmoid" and form == "exact":
        return
    for seed in range(3):
        graph, box = random_graph(seed, kind, inputs=3, width=5), random_box(seed, 3, 0.6)
        encoding = encode(graph, box, form=form)
        x = sample(box, 200, seed)
        values = graph.to(torch.float64).values(torch.from_numpy(x))
        points = torch.cat(values, 1).numpy()
        model, before = encoding.model, [graph.nodes[i].inputs[0] for i in graph.layer_at]
        z = np.concatenate([encoding.first[i] + np.arange(graph.nodes[i].size) for i in before])
        if form == "exact":  # a binary for each undecided neuron, in their order
            undecided = z[(model.lower[z] < 0) & (model.upper[z] > 0)]
            points = np.concatenate([points, points[:, undecided] > 0], 1)
        for point in points:
            assert model.violation(point) <= 1e-9


def test_folded_weights_widen_their_equations():
    scale = torch.full((1, 1), 2.0**10, dtype=torch.float64)
    operator = Dense(torch.ones(1, 1, dtype=torch.float64), 1, scale)
    graph = Graph((Input(1), Affine((0,), (operator,), torch.zeros(1).double())), (1,), (1,))
    model = encode(graph, Polytope(np.zeros(1), np.ones(1))).model
    off = operator.terms * 2.0**-53 * 2.0**10
    assert model.row_lower[0] <= -off and off <= model.row_upper[0]


def test_only_neurons_that_are_dead_on_all_of_their_box_lose_their_equation():
    graph = graph_of(
        (torch.tensor([[1.0], [1.0], [1.0]]), torch.tensor([-2.0, -0.5, 2.0]), True),
        (torch.ones(1, 3), torch.zeros(1), False),
    )
    box = Polytope(np.zeros(1), np.ones(1))
    lean, full = (encode(graph, box, form=form).model for form in ("lean", "relaxed"))
    assert lean.matrix.shape[0] == full.matrix.shape[0] - 1
    cost = np.zeros(full.matrix.shape[1])
    for sign in (1.0, -1.0):
        cost[-1] = sign
        pair = [highs.solve(model.with_objective(cost)).value for model in (lean, full)]
        assert pair[0] == pytest.approx(pair[1], abs=1e-9)


def test_all_signs_of_a_union_are_found():
    """Patterns of three neurons over a box, those that touch zero alone among them."""
    random = np.random.default_rng(0)
    for _ in range(10):
        weight, bias = random.normal(size=(3, 2)), 0.3 * random.normal(size=3)
        rows = csr_array(np.column_stack([weight, -np.eye(3)]))
        reach = np.abs(weight).sum(1) + 1
        model = LinearModel(
            np.zeros(5), np.append(-np.ones(2), -reach), np.append(np.ones(2), reach), rows, -bias, -bias
        )
        found = {signs for _, _, signs in patterns(model, [Branch(2), Branch(3), Branch(4)], 100, session)}
        z = (random.random((3000, 2)) * 2 - 1) @ weight.T + bias
        met = {tuple(np.where(one > 0, 1, -1).tolist()) for one in z}
        assert met <= found


# Rows by cutting planes.


def test_offsets_of_anderson_rows_are_above_the_neuron():
    random = np.random.default_rng(3)
    for k in range(60):
        far = 10.0 ** (k % 6)
        weight, bias = random.normal(size=(1, 3)), far * random.normal(size=1)
        lower = far * random.normal(size=3)
        upper = lower + random.random(3)
        slope = (0.0, 0.25)[k % 2]
        doubt = np.array([(0.0, 0.125)[k // 2 % 2]])
        index = np.zeros(1, dtype=np.int64)
        layer = Layer(0, np.arange(3), index, index, weight, bias, doubt, slope)
        a = (1 - slope) * weight * (1 + 1e-3 * random.normal(size=(1, 3))) if k % 3 else random.normal(size=(1, 3))
        offset = exact(certified(layer, index, a, lower, upper))[0] - exact(doubt)[0]
        share, w, own = 1 - Fraction(slope), exact(weight), exact(a)
        ends = list(zip(exact(lower), exact(upper), strict=True))
        dead = sum(max(-c * s, -c * t) for c, (s, t) in zip(own, ends, strict=True))
        alive = sum(max((share * v - c) * s, (share * v - c) * t) for v, c, (s, t) in zip(w, own, ends, strict=True))
        assert offset >= max(dead, alive + share * exact(bias)[0])


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_envelopes_are_above_the_neuron_on_the_polytope(slope):
    """z = w v over a polytope: the row found above a point holds at every sample and touches from above."""
    random = np.random.default_rng(5)
    met = 0
    for _ in range(12):
        w = random.normal(size=2)
        cut = random.normal(size=2)
        reach = np.abs(w).sum()
        rows = csr_array(np.array([[w[0], w[1], -1.0], [cut[0], cut[1], 0.0]]))
        known = LinearModel(
            np.zeros(3),
            np.array([-1.0, -1.0, -reach]),
            np.array([1.0, 1.0, reach]),
            rows,
            np.array([0.0, -np.inf]),
            np.array([0.0, 0.2]),
        )
        v = random.random((4000, 2)) * 2 - 1
        v = v[v @ cut <= 0.2]
        z = v @ w
        found = envelope(known, np.arange(3), Above(2, np.arange(2), slope, v[0], 1e-8), session)
        if found is None:
            continue
        met += 1
        coefficients, offset = found
        above = v @ coefficients[:2] + offset
        y = np.maximum(z, slope * z)
        assert (y - slope * z <= above + 1e-12).all()
        assert above.min() >= -1e-9
    assert met > 5


def test_envelopes_over_a_face_on_which_the_neuron_is_active():
    """z = v_0 + v_1 + 1 over a square, above points of its edge v_1 = 1 and next to others."""
    rows = csr_array(np.array([[1.0, 1.0, -1.0]]))
    known = LinearModel(np.zeros(3), -np.ones(3), np.array([1.0, 1.0, 3.0]), rows, -np.ones(1), -np.ones(1))
    v = np.array([(a, b) for a in (-1.0, 1.0) for b in (-1.0, 1.0)])
    for value in ((0.5, 1.0), (1.0, 1.0), (1.0, 0.3), (0.9, 0.9), (-0.9, -0.8)):
        coefficients, offset = envelope(
            known, np.arange(3), Above(2, np.arange(2), 0.0, np.array(value), 1e-8), session
        )
        above = v @ coefficients[:2] + offset - np.maximum(v.sum(1) + 1, 0)
        assert above.min() >= -1e-12 and np.sort(above)[0] < 1e-6


def test_a_hull_of_boxes_ends_where_they_do():
    """[1, 2] x [-4, -3] and [3, 5] x [-2, -1]: every side of every copy is there."""
    boxes = [((1.0, -4.0), (2.0, -3.0)), ((3.0, -2.0), (5.0, -1.0))]
    free = LinearModel(np.zeros(2), -9 * np.ones(2), 9 * np.ones(2), csr_array((0, 2)), np.zeros(0), np.zeros(0))
    program = Program()
    tied = program.append(-10 * np.ones(2), 10 * np.ones(2))
    unit = csr_array(np.eye(2))
    add_hull(program, free, [Alternative(np.array(low), np.array(high), unit) for low, high in boxes], tied)
    model = program.model()
    for cost in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1), (1, 1), (-1, -1)):
        whole = np.zeros(len(model.cost))
        whole[tied] = cost
        wanted = min(sum(c * (low if c > 0 else high)[k] for k, c in enumerate(cost)) for low, high in boxes)
        assert highs.solve(model.with_objective(whole)).value == pytest.approx(wanted), cost


def test_a_decided_neuron_is_on_the_line_of_its_phase():
    """Active: z >= 0 and y = z; inactive: z <= 0 and y = a z; the other slack stays free."""
    low, high = np.array([-1.0, 0.0, 0.0]), np.array([2.0, 3.0, 4.0])
    active = _decided(low, high, Branch(0, above=1, below=2), 1)
    assert [side.tolist() for side in active] == [[0, 0, 0], [2, 0, 4]]
    inactive = _decided(low, high, Branch(0, above=1, below=2), -1)
    assert [side.tolist() for side in inactive] == [[-1, 0, 0], [0, 3, 0]]


# Weak duality where one term alone stands between the bound and the truth.


def test_reduced_costs_of_variables_in_one_row_are_in_doubt():
    """cost = fl(y a): the reduced cost is computed as zero, and is none; a point on the row is below y b = 0."""
    random = np.random.default_rng(0)
    met = 0
    for _ in range(200):
        a, y = random.random(2) + 0.5, float(random.random() + 0.5)
        model = LinearModel(y * a, -4 * np.ones(2), 4 * np.ones(2), csr_array(a[None]), np.zeros(1), np.full(1, np.inf))
        bound = Fraction(model.safe_bound(np.array([y])))
        (c, d), (p, q) = exact(model.cost), exact(a)
        for x in (Fraction(1), Fraction(-1)):
            value = c * x - d * x * p / q  # of the point (x, -x p / q), on the row
            met += value < 0
            assert abs(x * p / q) <= 4 and bound <= value
            assert not model.safe_infeasible(np.array([y]))
    assert met > 50


def test_products_with_the_ends_of_variables_in_no_row_are_in_doubt():
    """Two fixed variables in no row: the rounded product of the one cancels the other."""
    random = np.random.default_rng(0)
    met = 0
    for _ in range(100):
        c, x = random.random(2) + 0.5
        at = np.array([x, 1.0])
        model = LinearModel(np.array([c, -(c * x)]), at, at, csr_array((0, 2)), np.zeros(0), np.zeros(0))
        true = Fraction(c) * Fraction(x) - Fraction(c * x)
        met += true < 0
        assert Fraction(model.safe_bound(np.zeros(0))) <= true
    assert met > 20


def test_programs_hold_what_was_added():
    """Variables, rows of one or several entries and of matrices, sides and integers, where they were put; what is made
    of a program does not change with it."""
    program = Program()
    first, second = program.append(np.array([0.0, 1.0]), np.array([2.0, 3.0])), program.append(np.zeros(3), np.ones(3))
    assert first.tolist() == [0, 1] and second.tolist() == [2, 3, 4]
    program.add([second[:2], first], [2.0, np.array([3.0, -4.0])], -1.0, np.array([5.0, 6.0]))
    block = csr_array(np.array([[1.0, 0.0, 7.0], [0.0, 8.0, 0.0], [9.0, 0.0, 0.0]]))
    program.add_matrix(
        [(block, second), (csr_array(np.eye(3)[:, :2]), first)], np.full(3, -2.0), np.array([1.0, 2.0, 3.0])
    )
    model = program.model(np.array([1, 4]))
    wanted = np.array([[3.0, 0, 2, 0, 0], [0, -4.0, 0, 2, 0], [1, 0, 1, 0, 7], [0, 1, 0, 8, 0], [0, 0, 9, 0, 0]])
    np.testing.assert_array_equal(model.matrix.toarray(), wanted)
    assert model.row_lower.tolist() == [-1, -1, -2, -2, -2] and model.row_upper.tolist() == [5, 6, 1, 2, 3]
    assert model.integer.tolist() == [False, True, False, False, True]
    program.lower[0], program.upper[4] = 1.0, 0.5
    program.add([first], [1.0], 0.0, 1.0)
    assert model.lower.tolist() == [0, 1, 0, 0, 0] and model.upper.tolist() == [2, 3, 1, 1, 1]
    assert len(model.row_lower) == 5 and program.model().matrix.shape == (7, 5)
    assert program.model().lower[0] == 1 and program.rows == 7 and program.model().integer is None
