"""Rows around the hull of K ReLUs: sound on everything, exact where they should be, tight where they can be."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
import torch
from exact_hull import _Bases, _bases, _box, _offsets, _proved_empty, exact_hull, exact_hulls

from partita.kernels.hull import Hulls, relu_hulls
from partita.kernels.octahedron import closed, corners, octahedron
from partita.problems.errors import BadInput
from partita.problems.network.activation import LeakyReLU
from partita.relaxations.lp import highs
from partita.relaxations.lp.model import Solution, Status
from partita.relaxations.rows.hull import layer_facets

LEAKY = LeakyReLU(0.1).slope


def images(size: int, groups: int, kind: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Affine images of a box, as limits (G, T) float64 rounded up, and points of them (G, 80, K) float64."""
    draw = torch.Generator().manual_seed(seed)
    template = octahedron(size)
    a = torch.randn(groups, size, 6, generator=draw, dtype=torch.float64)
    b = 0.7 * torch.randn(groups, size, generator=draw, dtype=torch.float64)
    x = torch.rand(groups, 80, 6, generator=draw, dtype=torch.float64) * 2 - 1
    x[:, :40] = x[:, :40].sign()
    match kind:
        case "box":
            a = torch.diag_embed(a[:, :, 0], dim1=1, dim2=2)
            a = torch.nn.functional.pad(a, (0, 6 - size))
        case "flat":
            a[:, -1], b[:, -1] = a[:, 0], b[:, 0]
        case "nearly flat":
            a[:, -1], b[:, -1] = a[:, 0] + 1e-7 * a[:, -1], b[:, 0]
        case "opposite":
            a[:, -1], b[:, -1] = -a[:, 0], 1e-3 - b[:, 0]
        case "point":
            a = 0 * a
        case "segment":
            a[..., 1:] = 0
        case "stable":
            b[:, 0] = a[:, 0].abs().sum(-1) * torch.tensor([1.0, -1.0]).repeat(groups)[:groups]
        case "small":
            a, b = 1e-9 * a, 1e-9 * b
        case "uneven":
            a[:, 0], b[:, 0] = 1e5 * a[:, 0], 1e5 * b[:, 0]
        case "through zero":
            b = 0 * b
        case "integers":
            a, b, x = a.round(), b.round(), x.sign()
    limits = (template.normals @ a).abs().sum(-1) + b @ template.normals.T
    scale = a.abs().sum((1, 2)) + b.abs().sum(1)
    if kind == "loose":
        limits = limits + torch.rand(limits.shape, generator=draw, dtype=torch.float64) * scale[:, None] * 0.2
    if kind == "half known":
        many = template.normals.abs().sum(1) > 1
        limits[many & (torch.rand(limits.shape, generator=draw) < 0.5)] = torch.inf
    limits = limits + 1e-14 * scale[:, None]
    return limits, (x @ a.mT) + b[:, None]


KINDS = (
    *("general", "box", "flat", "nearly flat", "opposite", "point", "segment", "stable", "small", "uneven"),
    *("through zero", "integers", "loose", "half known"),
)


def up(limits: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    low = limits.to(dtype)
    return torch.where(low.double() < limits, low.nextafter(torch.full_like(low, torch.inf)), low)


def excess(hulls, z: torch.Tensor, slope: float) -> torch.Tensor:
    """How far points (G, n, K) break the rows, for coefficients of size 1 and values of size 1."""
    y = torch.maximum(z, slope * z)
    left = torch.matmul(y, hulls.on_post.double().mT) + torch.matmul(z, hulls.on_pre.double().mT)
    return ((left - hulls.offset.double()[:, None]) / z.abs().amax((1, 2)).clamp(min=1e-300)[:, None, None]).amax()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_fast_rows_hold(size, dtype):
    """4 sizes x 2 precisions x 14 kinds x 12 to 90 groups, 2 slopes: 15,792 hulls, 80 points each."""
    template = octahedron(size)
    for number, kind in enumerate(KINDS):
        limits, z = images(size, 12 if size == 4 else 90, kind, number)
        for slope in (0.0, LEAKY):
            hulls = relu_hulls(template, up(limits, dtype), slope)
            assert all(part.isfinite().all() for part in hulls)
            assert excess(hulls, z, slope) <= 1e-13, (kind, slope)


def exact_maximum(template, limits, slope, on_post, on_pre) -> list[Fraction] | None:
    """The largest value of each row over the lifted polytope, in rational arithmetic (brute force)."""
    size = template.size
    rows = [[Fraction(x) for x in row] for row in template.normals.tolist()] + [
        [Fraction(int(i == j)) for j in range(size)] for i in range(size)
    ]
    right = [Fraction(x) for x in limits.tolist()] + [Fraction(0)] * size
    count = len(limits)
    points = []
    for chosen in combinations(range(len(rows)), size):
        z = solve([rows[i] for i in chosen], [right[i] for i in chosen])
        if z is not None and all(sum(c * x for c, x in zip(rows[i], z, strict=True)) <= right[i] for i in range(count)):
            points.append(z)
    points = [list(p) for p in {tuple(p) for p in points}]
    if not points:
        return None
    lifted = [[*(max(x, Fraction(slope) * x) for x in z), *z] for z in points]
    table = [[Fraction(x) for x in row] for row in torch.cat([on_post, on_pre], -1).tolist()]
    return [max(sum(c * x for c, x in zip(row, p, strict=True)) for p in lifted) for row in table]


def solve(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction] | None:
    """Gauss's elimination in rational arithmetic; None where the matrix is singular."""
    rows = [[*row, b] for row, b in zip(matrix, right, strict=True)]
    for k in range(len(rows)):
        pivot = next((i for i in range(k, len(rows)) if rows[i][k] != 0), None)
        if pivot is None:
            return None
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [x / rows[k][k] for x in rows[k]]
        for i in range(len(rows)):
            if i != k and rows[i][k] != 0:
                rows[i] = [x - rows[i][k] * y for x, y in zip(rows[i], rows[k], strict=True)]
    return [row[-1] for row in rows]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("size,groups", [(1, 4), (2, 4), (3, 1)])
@pytest.mark.parametrize("method", [relu_hulls, exact_hulls])
def test_offsets_against_rational_arithmetic(size, groups, dtype, method):
    """No offset is below the true maximum, not by one unit in the last place, nor far above it."""
    template = octahedron(size)
    for number, kind in enumerate(("general", "flat", "loose", "uneven") if size < 3 else ("general",)):
        limits, _ = images(size, groups, kind, 100 + number)
        limits = up(limits, dtype)
        for slope in (0.0, LEAKY) if size < 3 else (0.0,):
            hulls = method(template, limits, slope)
            for g in range(groups):
                best = exact_maximum(template, limits[g], slope, hulls.on_post[g], hulls.on_pre[g])
                size_of = max(1e-30, float(limits[g].abs().max()))
                for offset, true in zip(hulls.offset[g].tolist(), best, strict=True):
                    assert Fraction(offset) >= true
                    assert float(Fraction(offset) - true) <= size_of * (1e-6 if dtype is torch.float64 else 1e-5)


def lifted(template, limits: torch.Tensor, slope: float = 0.0) -> torch.Tensor:
    """The corners (z, y) of one group, of the limits as they are."""
    found = corners(template, closed(template, limits[None]))
    z = found.z[0][found.real[0]]
    return torch.cat([torch.maximum(z, slope * z), z], -1)


def support(rows, limits, template, directions: np.ndarray) -> np.ndarray:
    """max of directions (y, z) over the rows and P, by linear programming."""
    from scipy.optimize import linprog

    on_post, on_pre, offset = (np.asarray(part, dtype=np.float64) for part in rows)
    flat = np.zeros_like(template.normals.numpy())
    matrix = np.vstack([np.hstack([on_post, on_pre]), np.hstack([flat, template.normals.numpy()])])
    right = np.concatenate([offset, limits.double().numpy()])
    values = []
    for direction in directions:
        done = linprog(-direction, A_ub=matrix, b_ub=right, bounds=(None, None), method="highs")
        assert done.status == 0
        values.append(-done.fun)
    return np.array(values)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("kind", ["general", "box", "flat", "stable", "segment"])
@pytest.mark.parametrize("slope", [0.0, LEAKY])
def test_exact_hull_is_the_hull(size, kind, slope):
    """Its support function is that of the corners, in random directions."""
    template = octahedron(size)
    limits, _ = images(size, 1, kind, 7)
    rows = exact_hull(template.normals.numpy(), limits[0].numpy(), slope)
    points = lifted(template, limits[0], slope).numpy()
    directions = np.random.default_rng(0).standard_normal((8, 2 * size))
    best = support(rows, limits[0], template, directions)
    true = (points @ directions.T).max(0)
    assert np.allclose(best, true, atol=1e-6 * np.abs(points).max())


@pytest.mark.parametrize("size,share", [(1, 0.999), (2, 0.97), (3, 0.95)])
def test_fast_hull_lies_between_triangles_and_exact_hull(size, share):
    """And closes most of the gap between them."""
    template = octahedron(size)
    limits, _ = images(size, 5, "general", 11)
    hulls = relu_hulls(template, limits)
    gained, gap = 0.0, 0.0
    for g in range(len(limits)):
        directions = np.random.default_rng(g).standard_normal((10, 2 * size))
        rows = [part[g] for part in hulls]
        fast = support(rows, limits[g], template, directions)
        triangle = support([part[-3 * size :] for part in rows], limits[g], template, directions)
        exact = (lifted(template, limits[g]).numpy() @ directions.T).max(0)
        assert (exact <= fast + 1e-5).all() and (fast <= triangle + 1e-5).all()
        gained, gap = gained + (triangle - fast).sum(), gap + (triangle - exact).sum()
    assert gap < 1e-5 if size == 1 else gained >= share * gap > 0.1


def test_one_neuron_gives_the_triangle():
    template = octahedron(1)
    limits = torch.tensor([[3.0, 1.0], [0.5, 2.0]], dtype=torch.float64)  # [-1, 3], [-2, 1/2]
    for rows in (relu_hulls(template, limits), exact_hulls(template, limits)):
        for g, (low, high) in enumerate([(-1.0, 3.0), (-2.0, 0.5)]):
            best = support([part[g] for part in rows], limits[g], template, np.array([[1, -0.5], [-1, 0], [-1, 1.0]]))
            chord = high / (high - low)
            true = max(chord * (z - low) - 0.5 * z for z in (low, high)), 0.0, 0.0
            assert np.allclose(best, true, atol=1e-6)


def test_a_point_is_cut_off_where_it_can_be():
    """Both neurons are one: the row y_1 = y_2 is found, and a point that breaks it is cut off."""
    template = octahedron(2)
    limits, _ = images(2, 1, "flat", 3)
    low, high = -limits[0, template.lower[0]], limits[0, template.upper[0]]
    assert low < 0 < high
    z = torch.zeros(2, dtype=torch.float64)
    y = torch.stack([-low * high / (high - low), torch.zeros_like(low)])
    hulls = relu_hulls(template, limits, points=torch.cat([z, y])[None, None])
    depth = (hulls.on_post[0, 0] * y + hulls.on_pre[0, 0] * z).sum() - hulls.offset[0, 0]
    assert depth > 0.3 * y[0]


def test_empty_groups_say_so():
    template = octahedron(2)
    limits = torch.ones(2, 8, dtype=torch.float64)
    sums = (template.normals == torch.tensor([1.0, 1.0])).all(1) | (template.normals == -torch.tensor([1.0, 1.0])).all(
        1
    )
    limits[0, sums] = -0.5  # z_1 + z_2 <= -1/2 and >= 1/2
    for rows in (relu_hulls(template, limits), exact_hulls(template, limits)):
        assert (rows.offset[0] == -1).any() and (rows.offset[1] >= 0).all()
        said = rows.offset[0] == -1
        assert (rows.on_post[0, said] == 0).all() and (rows.on_pre[0, said] == 0).all()
    facets = layer_facets(1, torch.tensor([[0, 1], [2, 3]]), limits, template)
    assert (facets.offset[(facets.on_post == 0).all(1) & (facets.on_pre == 0).all(1)] == -1).any()


def test_nan_and_infinite_limits_say_nothing():
    template = octahedron(3)
    limits, z = images(3, 4, "general", 5)
    limits[:, 10:] = torch.nan
    limits[1, 0] = torch.inf
    hulls = relu_hulls(template, limits)
    assert all(part.isfinite().all() for part in hulls) and excess(hulls, z, 0.0) <= 1e-13
    for g in (0, 2, 3):  # single-neuron rows remain
        assert (hulls.on_post[g, -3:].abs().sum(-1) == 1).all()


def test_rows_of_a_layer():
    """They hold, they are no duplicates, none is implied by single neurons."""
    limits, z = images(2, 6, "general", 21)
    groups = torch.arange(12).reshape(6, 2)
    facets = layer_facets(4, groups, limits, octahedron(2))
    assert facets.position == 4 and 6 <= len(facets) <= 6 * 20
    layer = z.movedim(1, 0).flatten(1)  # (80, 12)
    assert facets.violation(layer, layer.relu()).max() <= 1e-12
    rows = torch.cat([facets.on_post, facets.on_pre], 1)
    same = (torch.cdist(rows, rows, p=torch.inf) < 1e-7) & (facets.index[:, None] == facets.index).all(-1)
    assert same.sum() == len(facets)
    assert ((facets.on_post != 0).sum(1) + (facets.on_pre != 0).sum(1) > 2).all()
    fewer = layer_facets(4, groups, limits, octahedron(2), most=3)
    assert len(fewer) <= 18 and torch.bincount(fewer.index[:, 0] // 2).max() <= 3


def test_points_of_a_layer_reach_their_groups():
    """A point that raises the two equal neurons of the second group differently is cut off there."""
    limits, _ = images(2, 3, "flat", 3)
    groups = torch.tensor([[5, 1], [0, 4], [2, 3]])
    template = octahedron(2)
    low, high = -limits[:, template.lower], limits[:, template.upper]
    assert (low[1] < 0).all() and (high[1] > 0).all()
    z, y = torch.zeros(1, 6, dtype=torch.float64), torch.zeros(1, 6, dtype=torch.float64)
    y[0, 0] = -low[1, 0] * high[1, 0] / (high[1, 0] - low[1, 0])
    facets = layer_facets(2, groups, limits, template, points=(z, y))
    broken = facets.violation(z, y)[0]
    assert broken.max() > 0.3 * y[0, 0] and set(facets.index[broken > 0.1 * y[0, 0]].flatten().tolist()) == {0, 4}


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_no_groups_have_no_rows(size):
    template = octahedron(size)
    none = torch.zeros(0, len(template))
    assert len(relu_hulls(template, none).offset) == 0
    assert len(layer_facets(0, torch.zeros(0, size, dtype=torch.int64), none, template)) == 0


def test_boxes_leave_nothing_to_add():
    """Over a box the hull of several ReLUs is the product of their triangles."""
    limits, _ = images(3, 5, "box", 2)
    assert len(layer_facets(0, torch.arange(15).reshape(5, 3), limits, octahedron(3))) == 0


@pytest.mark.parametrize("slope", [0.0, LEAKY])
def test_general_polytopes(slope):
    """A simplex and a rotated square, none of whose rows is a sign vector."""
    normals = np.array([[1.0, 2.0], [-3.0, 1.0], [0.5, -2.5]])
    limits = np.array([1.0, 2.0, 1.5])
    on_post, on_pre, offset = exact_hull(normals, limits, slope)
    inside = [z for z in np.random.default_rng(0).uniform(-3, 3, (4000, 2)) if (normals @ z <= limits).all()]
    z = np.array(inside)
    assert len(z) > 100
    values = np.maximum(z, slope * z) @ on_post.T + z @ on_pre.T - offset
    assert values.max() <= 0 and (values.max(0) > -0.3).all() and len(offset) >= 6


def test_what_is_refused_is_named():
    with pytest.raises(BadInput, match="unbounded"):
        exact_hull(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]), np.ones(3))
    with pytest.raises(BadInput, match="5 neurons"):
        exact_hull(np.vstack([np.eye(5), -np.eye(5)]), np.ones(10))
    with pytest.raises(BadInput, match="too many row sets"):
        exact_hull(np.random.default_rng(0).standard_normal((100, 4)), np.ones(100))
    with pytest.raises(BadInput, match="finite interval"):
        layer_facets(0, torch.tensor([[0, 1]]), torch.full((1, 8), torch.inf), octahedron(2))
    with pytest.raises(BadInput, match="shape"):
        layer_facets(0, torch.tensor([[0, 1]]), torch.ones(1, 7), octahedron(2))
    with pytest.raises(ValueError, match="1 to 4"):
        octahedron(5)


def test_octahedra_are_complete():
    for size, rows in ((1, 2), (2, 8), (3, 26), (4, 32)):
        template = octahedron(size)
        assert len(template) == rows and template.size == size
        assert (template.normals[template.opposite] == -template.normals).all()
        assert (template.normals[template.lower] == -torch.eye(size, dtype=torch.float64)).all()


def test_corners_are_all_found():
    """As many as a brute-force enumeration finds, on octahedra in general position."""
    for size in (2, 3):
        template = octahedron(size)
        limits, _ = images(size, 6, "general", 31)
        found = corners(template, closed(template, limits))
        full = torch.cat([template.normals, torch.eye(size, dtype=torch.float64)])
        for g in range(6):
            right = torch.cat([limits[g], torch.zeros(size, dtype=torch.float64)])
            sets = torch.combinations(torch.arange(len(full)), size)
            sets = sets[torch.linalg.det(full[sets]).abs() > 1e-9]
            z = torch.linalg.solve(full[sets], right[sets])
            z = z[(z @ template.normals.T <= limits[g] + 1e-9).all(1)]
            ours = found.z[g][found.real[g]]
            assert torch.cdist(z, ours).amin(1).max() < 1e-5 and torch.cdist(ours, z).amin(1).max() < 1e-5


def test_orders_and_devices():
    """A template of fewer rows gives weaker, valid rows; moving it changes nothing."""
    limits, z = images(3, 10, "general", 41)
    few = octahedron(3, order=2)
    hulls = relu_hulls(few.to("cpu"), limits[:, : len(few)])
    assert excess(hulls, z, 0.0) <= 1e-13
    for chunk in (1, 3, 100):
        other = relu_hulls(few, limits[:, : len(few)], chunk=chunk)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(hulls, other, strict=True))
    assert len(list(product(range(2), repeat=3))) == few.sections[0].normals.shape[1] ** 2 - 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hulls_on_a_cuda_device(dtype):
    limits, z = images(3, 500, "general", 51)
    hulls = relu_hulls(octahedron(3).to("cuda"), up(limits, dtype).cuda())
    here = type(hulls)(*(part.cpu() for part in hulls))
    assert excess(here, z, 0.0) <= 1e-13


def test_each_charge_of_an_offset_counts():
    """Rows beside fractions where one unit in the last place tells: limits far out, coefficients that cancel, orthants
    that no corner lies in; unbounded polytopes are found out."""
    draw = np.random.default_rng(0)
    for size in (1, 2):
        template = octahedron(size)
        normals = template.normals.numpy()
        for _ in range(6):
            z = draw.normal(size=(3, size)) * 10.0 ** draw.integers(-2, 6)
            limits = (normals @ z.T).max(1)
            for slope in (0.0, LEAKY, 0.75):
                on_post, on_pre, offset = exact_hull(normals, limits, slope)
                parts = (torch.from_numpy(part) for part in (on_post, on_pre))
                best = exact_maximum(template, torch.from_numpy(limits), slope, *parts)
                assert best is None or all(Fraction(o) >= b for o, b in zip(offset.tolist(), best, strict=True))
    with pytest.raises(BadInput, match="unbounded"):
        exact_hull(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), np.ones(3))


def test_offsets_pay_for_every_rounding():
    """One neuron, z in [l, u], and the row y + b z: the exact largest value of the float64 row is never missed, at
    ends and coefficients drawn so that every product rounds."""
    draw = np.random.default_rng(1)
    missed = 0
    for _ in range(300):
        ends = np.sort(draw.normal(size=2) * 10.0 ** draw.integers(-3, 4))
        normals, limits = np.array([[1 / 3], [-1 / 7]]), np.array([ends[1], -ends[0]])
        bases = _bases(normals, limits)
        if not len(bases.z):
            continue
        on_post, on_pre = draw.normal(size=(4, 1)), draw.normal(size=(4, 1))
        low, high = _box(normals, limits, bases)
        exact = [Fraction(limits[1]) / Fraction(-1 / 7), Fraction(limits[0]) / Fraction(1 / 3)]
        assert Fraction(low[0]) <= exact[0] and exact[1] <= Fraction(high[0])
        assert high[0] - float(exact[1]) <= 1e-12 * abs(high[0]) + 1e-300
        found = _offsets(normals, limits, 0.0, bases, low, high, on_post, on_pre)
        for a, b, offset in zip(on_post[:, 0].tolist(), on_pre[:, 0].tolist(), found.tolist(), strict=True):
            at = [z for z in (*exact, Fraction(0)) if exact[0] <= z <= exact[1]]
            best = max(Fraction(a) * max(z, 0) + Fraction(b) * z for z in at)
            size = (abs(a) + abs(b)) * max(abs(float(z)) for z in exact)
            assert Fraction(offset) >= best and offset - float(best) <= 1e-13 * size
            missed += offset - float(best) < 4e-16 * size
    assert missed < 300  # a bound without charges would be this near


def test_a_lying_solver_empties_nothing(monkeypatch):
    """What a solver calls infeasible without a proof is a polytope like any other."""
    monkeypatch.setattr(highs, "solve", lambda model, **options: Solution(Status.infeasible, bound_safe=-np.inf))
    normals = octahedron(2).normals.numpy()
    assert not _proved_empty(normals, np.ones(len(normals)), -np.ones(2), np.ones(2))
    limits, z = images(2, 4, "stable", 3)
    for g in range(4):
        rows = exact_hull(normals, limits[g].numpy())
        assert excess(Hulls(*(torch.from_numpy(part)[None] for part in rows)), z[g : g + 1], 0.0) <= 1e-12


def test_exact_hulls_in_float32_hold():
    """Coefficients that float32 rounds move a row by as much as the neurons are large: offsets pay for it."""
    template = octahedron(2)
    for seed in range(6):
        limits, _ = images(2, 3, "general", seed)
        limits = up(limits * 1000.0 ** (seed % 3), torch.float32)
        hulls = exact_hulls(template, limits, LEAKY)
        for g in range(3):
            best = exact_maximum(template, limits[g], LEAKY, hulls.on_post[g], hulls.on_pre[g])
            assert all(Fraction(o) >= b for o, b in zip(hulls.offset[g].tolist(), best, strict=True))


def test_an_orthant_without_a_corner_is_left_out_only_where_it_is_proved_empty():
    """Corners that were missed, all of those with z < 0: rows must hold there nevertheless."""
    normals, limits = np.array([[1.0], [-1.0]]), np.ones(2)
    bases = _bases(normals, limits)
    some = _Bases(*(part[bases.z[:, 0] > 0.5] for part in vars(bases).values()))
    assert 0 < len(some.z) < len(bases.z)
    found = _offsets(normals, limits, 0.0, some, -np.ones(1), np.ones(1), np.zeros((1, 1)), -np.ones((1, 1)))
    assert found[0] >= 1
