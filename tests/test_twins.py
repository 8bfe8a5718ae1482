"""Twins and their differences: found where they are and nowhere else, sound, and exact at zero."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from networks import KINDS, random_graph
from twin_networks import FORMS, FUNCTIONS, dense, exact_values, twin_network

from partita.bab.building import build
from partita.bab.config import load_config
from partita.bab.strategy import choose
from partita.bab.trees.twinned import Twinned
from partita.bab.verify import verify
from partita.problems.network.activation import ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet
from partita.problems.properties.rational import Row
from partita.relaxations.ladder.exact import minimum
from partita.relaxations.linear.root import outward, outward_half_spaces, root
from partita.relaxations.twins.differences import Sum, _matrix, lowered
from partita.relaxations.twins.pairs import Twins
from partita.relaxations.twins.twin_rows import twin_rows
from partita.relaxations.types import Pieces

DTYPES = (torch.float32, torch.float64)
F64 = torch.float64


def below_row(graph: Graph, terms: dict, *, constant=0, strict: bool = True, on_input=None) -> Row:
    as_fraction = lambda values: {k: Fraction(v) for k, v in values.items()}  # noqa: E731
    return Row(as_fraction(terms), Fraction(constant), strict, as_fraction(on_input or {}))


def compared(graph: Graph) -> dict:
    """The row that is the first copy less the second."""
    return {0: 1, 1: -1} if graph.output_size == 2 else {0: 1}


def ordered(made, lower: float = -1.0, upper: float = 1.0, extra: int = 0, seed: int = 0) -> Polytope:
    """Boxes with the second copy's inputs at most the first's, so that a monotone row is >= 0."""
    n = made.graph.input_size
    normals = [np.eye(n)[q] - np.eye(n)[p] for p, q in enumerate(made.partner) if p != q]
    offsets = [0.0] * len(normals)
    random = np.random.default_rng(seed)
    for _ in range(extra):
        normals.append(random.normal(size=n))
        offsets.append(1.0)
    normals = np.array(normals).reshape(-1, n)
    return Polytope(np.full(n, lower), np.full(n, upper), normals, np.array(offsets))


def pieces_of(graph: Graph, polytope: Polytope, dtype: torch.dtype) -> Pieces:
    lower, upper = outward(torch.tensor(polytope.lower)[None], torch.tensor(polytope.upper)[None], dtype, "cpu")
    normals, offsets = outward_half_spaces([polytope], lower, upper)
    return replace(Pieces.boxes(lower, upper, graph.neurons), normals=normals, offsets=offsets)


def below(graph: Graph, polytope: Polytope, row: Row, dtype: torch.dtype, pieces: Pieces | None = None):
    """The bound of one row, or None where there is nothing to say."""
    rows = twin_rows(graph, graph.to(dtype), [[row]], [polytope])
    if rows is None:
        return None
    pieces = pieces_of(graph, polytope, dtype) if pieces is None else pieces
    return rows.below(pieces, torch.zeros(len(pieces), dtype=torch.int64))[:, 0]


def points(made, polytope: Polytope, count: int, seed: int) -> np.ndarray:
    """Points of the polytope, many of them where the two copies are fed nearly or exactly the same."""
    random = np.random.default_rng(seed)
    x = polytope.lower + random.random((count, polytope.size)) * (polytope.upper - polytope.lower)
    x[: count // 4] = np.where(random.random((count // 4, polytope.size)) < 0.5, polytope.lower, polytope.upper)
    for p, q in enumerate(made.partner):
        near = random.random(count) * random.choice([0.0, 1e-12, 1e-3, 1.0], size=count)
        if p != q:
            x[:, q] = np.where(random.random(count) < 0.7, np.maximum(x[:, p] - near, polytope.lower[q]), x[:, q])
            x[: count // 8, q] = x[: count // 8, p]
    return x[(x @ polytope.normals.T <= polytope.offsets).all(1)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("form", FORMS)
def test_monotone_copies_close_at_exactly_zero(form, function, dtype):
    """f(x) - f(x') >= 0 for x >= x', in every form, permuted, with inputs shared; the value 0 is attained."""
    for seed in range(4):
        made = twin_network(seed, form, function, shared=seed % 3, widths=(5, 4, 3)[: 1 + seed % 3], monotone=True)
        polytope, row = ordered(made), below_row(made.graph, compared(made.graph))
        found = below(made.graph, polytope, row, dtype)
        assert found.item() == 0
        above = below_row(made.graph, {k: -v for k, v in row.terms.items()})
        assert below(made.graph, polytope, above, dtype).item() < 0
        scaled = below_row(made.graph, {k: Fraction(3, 10) * v for k, v in row.terms.items()}, constant=Fraction(1, 7))
        assert Fraction(below(made.graph, polytope, scaled, dtype).item()) <= Fraction(1, 7)
        assert below(made.graph, polytope, scaled, dtype).item() > 0.1428
        short = below_row(made.graph, row.terms, constant=-Fraction(1, 10**60))
        assert below(made.graph, polytope, short, dtype).item() < 0


@pytest.mark.parametrize("ties", (False, True))
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("form", FORMS)
def test_bounds_hold_at_points(form, function, ties):
    """Not monotone, with more half-spaces, other rows, the inputs in rows; in fractions where that is possible."""
    for seed in range(6):
        made = twin_network(seed, form, function, shared=seed % 2, widths=(4, 3), ties=ties)
        graph, random = made.graph, np.random.default_rng(seed)
        polytope = ordered(made, -0.7, 0.9, extra=seed % 3, seed=seed)
        terms = compared(graph)
        if seed % 3 == 1:
            terms = {k: v * Fraction(1, 3) for k, v in terms.items()}
        on_input = {0: Fraction(1, 10), 1: -2} if seed % 2 else None
        row = below_row(graph, terms, constant=Fraction(1, 9), on_input=on_input)
        x = points(made, polytope, 400, seed)
        assert len(x) > 10
        if function in ("relu", "leaky"):
            chosen = x[random.permutation(len(x))[:25]]
            least = min(
                row.value(exact_values(graph, at)[-1], at) for at in ([Fraction(v) for v in p] for p in chosen.tolist())
            )
        else:
            y = graph(torch.tensor(x)).numpy()
            values = sum(float(a) * y[:, k] for k, a in terms.items()) + 1 / 9
            values = values + sum(float(a) * x[:, k] for k, a in (on_input or {}).items())
            least = Fraction(float(values.min()) + 1e-9)
        for dtype in DTYPES:
            found = below(graph, polytope, row, dtype)
            assert found is not None and Fraction(found.item()) <= least


@pytest.mark.parametrize("form", FORMS)
def test_bounds_are_below_exact_minima(form):
    for seed in range(4):
        made = twin_network(seed, form, "relu", inputs=2, shared=seed % 2, widths=(3, 3))
        polytope = ordered(made)
        terms = compared(made.graph)
        array = np.array([float(terms.get(k, 0)) for k in range(made.graph.output_size)])
        least = minimum(made.graph, polytope, array)
        for dtype in DTYPES:
            found = below(made.graph, polytope, below_row(made.graph, terms), dtype).item()
            assert found <= least.upper + 1e-9
            plain = below(made.graph, Polytope(polytope.lower, polytope.upper), below_row(made.graph, terms), dtype)
            assert plain.item() <= found + 1e-5  # half-spaces help, or do nothing


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", ("relu", "sigmoid"))
def test_bounds_hold_on_pieces(function, dtype):
    """Sub-boxes with the pre-activations that the root knows, and one neuron cut off at 0."""
    for seed in range(6):
        made = twin_network(seed, ("blocks", "branches")[seed % 2], function, inputs=2, widths=(4, 3))
        graph, polytope = made.graph, ordered(made)
        row = below_row(graph, compared(graph))
        rows = twin_rows(graph, graph.to(dtype), [[row]], [polytope])
        whole = root(graph.to(dtype), torch.tensor(polytope.lower), torch.tensor(polytope.upper))[1]
        random = np.random.default_rng(seed)
        x = points(made, polytope, 4000, seed)
        pre = graph.values(torch.tensor(x))
        pre = torch.cat([pre[graph.nodes[i].inputs[0]] for i in graph.layer_at], 1).numpy()
        y = graph(torch.tensor(x)).numpy()
        values = y[:, 0] - y[:, 1]
        for _ in range(6):
            low = polytope.lower + random.random(polytope.size) * 0.8
            high = np.minimum(low + 0.3 + random.random(polytope.size), 1.0)
            inside = ((x >= low) & (x <= high)).all(1)
            neuron, above = random.integers(graph.neurons), bool(random.integers(2))
            inside &= (pre[:, neuron] >= 0) if above else (pre[:, neuron] <= 0)
            pieces = pieces_of(graph, Polytope(low, high, polytope.normals, polytope.offsets), dtype)
            pre_lower, pre_upper = whole.pre_lower.clone(), whole.pre_upper.clone()
            if above:
                pre_lower[0, neuron] = pre_lower[0, neuron].clamp(min=0)
            else:
                pre_upper[0, neuron] = pre_upper[0, neuron].clamp(max=0)
            found = rows.below(pieces.with_pre(pre_lower, pre_upper), torch.zeros(1, dtype=torch.int64)).item()
            if inside.any():
                assert found <= values[inside].min() + 1e-12


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layer", (0, 1, 2))
def test_one_weight_moved_by_a_unit_is_no_twin(form, layer):
    """By one unit of float32, and by one of float64: the difference is not >= 0 any more, and nothing says it is."""
    for seed in range(5):
        kind = {"widths": (4, 3), "monotone": True, "permuted": bool(seed % 2)}
        for size in (1.0, -1.0, 2.0**-29, -(2.0**-29)):
            made = twin_network(seed, form, "relu", moved=(layer, size), **kind)
            same = twin_network(seed, form, "relu", **kind)
            polytope = ordered(made)
            for dtype in DTYPES:
                row = below_row(made.graph, compared(made.graph))
                assert below(same.graph, polytope, row, dtype).item() == 0
                found = below(made.graph, polytope, row, dtype)
                assert found is None or found.item() < 0


def test_a_bias_moved_by_a_unit_is_no_twin():
    made = twin_network(0, "branches", "relu", widths=(4, 3), monotone=True, permuted=False)
    polytope, row = ordered(made), below_row(made.graph, compared(made.graph))
    for position in (1, 3, 5, 7):
        nodes = list(made.graph.nodes)
        bias = nodes[position].bias.clone()
        bias[1] = np.nextafter(bias[1].item(), np.inf)
        nodes[position] = replace(nodes[position], bias=bias)
        found = below(replace(made.graph, nodes=tuple(nodes)), polytope, row, F64)
        assert found is None or found.item() < 0


def test_functions_that_differ_make_no_twins():
    made = twin_network(0, "branches", "relu", widths=(4,), monotone=True)
    nodes = list(made.graph.nodes)
    nodes[4] = replace(nodes[4], function=FUNCTIONS["leaky"])
    found = below(
        replace(made.graph, nodes=tuple(nodes)), ordered(made), below_row(made.graph, compared(made.graph)), F64
    )
    assert found is None or found.item() < 0


def test_weights_that_are_not_exact_are_charged():
    """A matrix that was folded, and one of float64 numbers that may have been rounded once: nearly 0, never 0."""
    made = twin_network(0, "blocks", "relu", widths=(4, 3), monotone=True)
    row = below_row(made.graph, compared(made.graph))
    for position in (1, 3, 5):
        for change in ("folded", "rounded"):
            nodes = list(made.graph.nodes)
            operator = nodes[position].operators[0]
            scale = operator.weight.abs() if change == "folded" else None
            weight = operator.weight if change == "folded" else operator.weight * (1 / 3)
            nodes[position] = replace(nodes[position], operators=(Dense(weight, 1, scale),))
            for dtype in DTYPES:
                found = below(replace(made.graph, nodes=tuple(nodes)), ordered(made), row, dtype).item()
                assert -1e-12 < found < 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_beside_twins(dtype):
    """A third output that is no twin, constants and inputs are added; an output that both rows share cancels."""
    made = twin_network(1, "blocks", "relu", widths=(4, 3), monotone=True)
    nodes = list(made.graph.nodes)
    last = nodes[-1]
    third = np.concatenate([last.operators[0].weight.numpy(), np.zeros((1, last.operators[0].n_in))])
    nodes[-1] = Affine(last.inputs, (dense(third),), torch.tensor([*last.bias.tolist(), 0.5], dtype=F64))
    graph = replace(made.graph, nodes=tuple(nodes))
    polytope = ordered(made)
    find = lambda terms, **more: below(graph, polytope, below_row(graph, terms, **more), dtype).item()  # noqa: E731
    assert find({0: 1, 1: -1}) == 0
    assert 0.49999 < find({0: 1, 1: -1, 2: 1}) <= 0.5
    assert find({0: 1, 1: -1, 2: 1}, constant=Fraction(-1, 2)) == 0
    assert -0.10001 < find({0: 1, 1: -1}, on_input={0: Fraction(1, 10)}) <= -0.1
    assert -1e-5 < find({0: 1, 1: -1}, on_input={0: 1}, constant=1) <= 0
    assert find({0: 2, 1: -1}) < 0


def test_differences_of_inputs():
    """x_0 - x_1 <= h from half-spaces in any scale and order, strictly rounded; others are left alone."""
    graph = Graph((Input(3), Affine((0,), (dense([[1.0, -1.0, 0.0]]),), torch.zeros(1, dtype=F64))), (1, 3), (1, 1))
    box = np.array([-1.0, -2.0, 0.0]), np.array([3.0, 1.0, 1.0])
    third = Fraction(1, 3)
    for dtype in DTYPES:
        for normal, offset, best in (
            ([-2.0, 2.0, 0.0], 0.0, 0),
            ([-3.0, 3.0, 0.0], 1.0, -third),
            ([-3.0, 3.0, 0.0], -1.0, third),
            ([2.0, -2.0, 0.0], 0.0, -2),
            ([-1.0, 2.0, 0.0], 0.0, None),
            ([-1.0, 1.0, 1.0], 0.0, None),
            ([-1.0, -1.0, 0.0], -0.5, None),
            ([-1.0, 1.0, 0.0], 9.0, -2),
        ):
            polytope = Polytope(*box, np.array([normal]), np.array([offset]))
            found = below(graph, polytope, below_row(graph, {0: 1}), dtype).item()
            if best is None:
                assert found < 0
            else:
                assert Fraction(found) <= best and found >= float(best) - 1e-5
                assert found == 0 or best != 0


def test_equal_inputs_cancel_exactly():
    """x and x' held equal by two half-spaces each: any network, not monotone, gives 0 exactly."""
    for seed in range(3):
        for function in FUNCTIONS:
            made = twin_network(seed, FORMS[seed], function, widths=(5, 4))
            n = made.graph.input_size
            both = [sign * (np.eye(n)[q] - np.eye(n)[p]) for p, q in enumerate(made.partner) for sign in (1.0, -1.0)]
            polytope = Polytope(-np.ones(n), np.ones(n), np.array(both), np.zeros(len(both)))
            for sign in (1, -1):
                row = below_row(made.graph, {k: sign * v for k, v in compared(made.graph).items()})
                for dtype in DTYPES:
                    assert below(made.graph, polytope, row, dtype).item() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_other_networks_have_none(kind):
    graph = random_graph(0, kind, inputs=4, width=8, outputs=3)
    box = Polytope(-np.ones(4), np.ones(4))
    row = below_row(graph, {0: 1, 2: -1}, strict=False)
    assert twin_rows(graph, graph, [[row]], [box]) is None
    assert twin_rows(graph, graph, [[below_row(graph, {0: 1, 2: -1})]], [box]).pairs == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sums_in_fractions(dtype):
    """Terms of all sizes, infinite and subnormal ends: below the exact sum, and >= 0 exactly where no term is < 0."""
    signed = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        n = int(random.integers(1, 7))
        sizes = [0.0, 0.0, 1.0, -1.0, 1 / 3, -7.1, 1e-30, -1e-44, 1e-310, 1e12, 5e-324]
        weight = random.choice(sizes, size=n) * (random.random(n) if seed % 2 else 1)
        ends = np.sort(random.choice([0.0, 0.0, 1.0, -1e-44, 1e-44, 1e-30, -3.3, 1e6], size=(2, n)), 0)
        lower, upper = outward(torch.tensor(ends[:1]), torch.tensor(ends[1:]), dtype, "cpu")
        more, less = Sum.of(torch.tensor(weight)[None], dtype, "cpu").below(lower, upper, _matrix)
        found = lowered(more, less).item()
        parts = [
            min(Fraction(w) * Fraction(l), Fraction(w) * Fraction(u))
            for w, l, u in zip(weight.tolist(), lower[0].tolist(), upper[0].tolist(), strict=True)
        ]
        assert Fraction(found) <= sum(parts)
        none_negative = all(part >= 0 for part in parts)
        assert (found >= 0) == none_negative or sum(parts) > 0 or found >= 0
        assert not none_negative or found >= 0
        signed += none_negative
        size = sum(abs(part) for part in parts)
        room = (1e-14 if dtype is torch.float32 else 1e-110) * float(upper.abs().max() + lower.abs().max() + 1)
        assert found >= float(sum(parts)) - 40 * torch.finfo(dtype).eps * float(size) - room * (
            1 + np.abs(weight).sum() * 1e6
        )
    assert signed > 30
    weights = Sum.of(torch.tensor([[0.0, 1.0], [-1.0, 0.0], [0.0, 0.0]], dtype=F64), dtype, "cpu")
    inf = torch.inf
    more, less = weights.below(
        torch.tensor([[-inf, 2.0]], dtype=dtype), torch.tensor([[inf, inf]], dtype=dtype), _matrix
    )
    found = lowered(more, less)[0].tolist()
    assert 1.9999 < found[0] <= 2 and found[1] == -inf and found[2] == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_slopes_of_chords(function, dtype):
    random = np.random.default_rng(0)
    ends = np.sort(random.normal(scale=random.choice([0.1, 1, 10, 60], size=(2000, 1)), size=(2000, 2)), 1)
    lower, upper = torch.tensor(ends[:, 0]).to(dtype), torch.tensor(ends[:, 1]).to(dtype)
    least, most = FUNCTIONS[function].slopes(lower, upper)
    assert (least >= 0).all() and (most <= 1.001).all()
    for _ in range(30):
        a, b = (lower.double() + (upper - lower).double() * torch.tensor(random.random(2000)) for _ in range(2))
        apart = (a - b).abs() > 1e-3
        value = FUNCTIONS[function].value
        slope = ((value(a) - value(b)) / (a - b))[apart]
        assert (slope >= least.double()[apart] - 1e-12).all() and (slope <= most.double()[apart] + 1e-12).all()


def test_pairs_are_what_they_should_be():
    """Every neuron of one copy with its own in the other, and no others; a layer of equal neurons with ties."""
    made = twin_network(3, "blocks", "relu", widths=(5, 4), permuted=False)
    twins = Twins(made.graph)
    found = twins.match([((5, 0), 1)], [((5, 1), 1)])
    assert found == [(((5, 0), (5, 1)), 1)]
    wanted = {((node, i), (node, i + size)) for node, size in ((1, 5), (2, 5), (3, 4), (4, 4)) for i in range(size)}
    wanted |= {((5, 0), (5, 1))} | {((0, p), (0, q)) for p, q in enumerate(made.partner)}
    assert set(twins.pairs) == wanted


def test_half_spaces_tell_inputs_apart_that_weights_do_not():
    """f(x) = relu(x_0 + x_1), twice; the half-spaces cross over."""
    weight = np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    graph = Graph(
        (
            Input(4),
            Affine((0,), (dense(weight),), torch.zeros(2, dtype=F64)),
            Activation((1,), ReLU(), 2),
            Affine((2,), (dense(np.eye(2)),), torch.zeros(2, dtype=F64)),
        ),
        (1, 4),
        (1, 2),
    )
    normals = np.array([[-1.0, 0, 0, 1], [0, -1.0, 1, 0]])
    polytope = Polytope(-np.ones(4), np.ones(4), normals, np.zeros(2))
    assert below(graph, polytope, below_row(graph, {0: 1, 1: -1}), F64).item() == 0


# ---- the search


def property_of(made, row: Row) -> Property:
    graph = made.graph
    coefficients = np.zeros((1, graph.output_size))
    for k, value in row.terms.items():
        coefficients[0, k] = float(value)
    unsafe = UnsafeSet(coefficients, np.array([float(row.constant)]), None, (row,))
    return Property((Case(ordered(made), (unsafe,)),), graph.input_size, graph.output_size)


@pytest.mark.parametrize("split", ("input", "activation"))
@pytest.mark.parametrize("form", FORMS)
def test_strict_comparison_of_copies_is_decided(form, split):
    """Monotone: unsat at the root, strictly; at zero and not strictly, it is attained and never unsat. With one weight
    moved it is not unsat."""
    inputs = 3 if split == "input" else 8
    kind = {"inputs": inputs, "widths": (5, 4), "monotone": True, "permuted": False}
    made = twin_network(2, form, "relu", **kind)
    config = load_config(None, {"attack": "off", "split": split, "search.max_pieces": 200})
    decide = lambda made, row: verify(  # noqa: E731
        made.graph, property_of(made, row), config, confirm=lambda x: made.graph(torch.tensor(x)).numpy()
    )
    row = below_row(made.graph, compared(made.graph))
    outcome = decide(made, row)
    assert outcome.verdict == "unsat" and outcome.pieces <= 2
    assert decide(made, replace(row, strict=False)).verdict != "unsat"
    moved = twin_network(2, form, "relu", moved=(1, 64.0), **kind)
    assert decide(moved, row).verdict != "unsat"


def test_pieces_are_closed_by_differences():
    """A bound that needs the pieces: the tree with differences closes on fewer of them than without."""
    made = twin_network(5, "branches", "relu", inputs=2, widths=(6, 4), monotone=True)
    row = below_row(made.graph, compared(made.graph), constant=Fraction(1, 10), strict=False)
    config = load_config(None, {"attack": "off"})
    strategy = choose(made.graph, config)
    tree = build(made.graph, made.graph.to(strategy.dtype), property_of(made, row), config, strategy)
    assert isinstance(tree, Twinned)
    with_, without = tree.bound(tree.roots()), tree.inner.bound(tree.roots())
    assert bool(with_.closed.all()) and not bool(without.closed.any())
    assert next(iter(with_.ends()))[0] == tree.way.name and tree.way.closed == 1
