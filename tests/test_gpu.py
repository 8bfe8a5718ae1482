"""The engine and the relaxations on a CUDA device: they agree with the CPU, and every tensor stays where it belongs.

Where there is no device they run on one that pretends (`conftest`): the agreement is then no news, the devices are.
"""

from __future__ import annotations

import pytest
import torch
from conformance import problem
from kernel_cases import met
from networks import random_box, random_graph, random_property
from test_hull import LEAKY, images

import partita
from partita.kernels import hull
from partita.kernels.octahedron import octahedron
from partita.relaxations.catalogue import BATCHED, ladder
from partita.relaxations.ladder.exact import feasible_unsafe
from partita.relaxations.linear.alpha import Alpha
from partita.relaxations.linear.forward import Forward
from partita.relaxations.linear.ibp import Ibp
from partita.relaxations.linear.linear import Linear
from partita.relaxations.linear.rebounding import Rebounding
from partita.relaxations.linear.root import root
from partita.relaxations.types import Rows

pytestmark = pytest.mark.gpu
SEEDS = range(4) if torch.cuda.is_available() else (1, 2)
MAKES = {
    "crown": Rebounding,
    "alpha": lambda linear: Alpha(linear, steps=5),
    "forward": Forward,
    "ibp": Ibp,
}


def moved(thing, device):
    """Pieces or rows on another device."""
    return type(thing)(**{k: None if v is None else v.to(device) for k, v in vars(thing).items()})


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("kind", ("mlp", "residual", "conv", "maxpool", "sigmoid", "gated"))
@pytest.mark.parametrize("name", MAKES)
def test_relaxations_agree_with_the_cpu(name, kind, dtype):
    p = problem(kind, 1, dtype, halfspaces=1, decided=2)
    box = random_box(1, 4, 0.5)
    lower, upper = torch.as_tensor(box.lower), torch.as_tensor(box.upper)
    there: Linear = root(p.graph.to(dtype, "cuda"), lower, upper)[0]
    on_cpu, left, _ = MAKES[name](p.linear).bound(p.pieces, p.rows)
    on_gpu, kept, _ = MAKES[name](there).bound(moved(p.pieces, "cuda"), moved(p.rows, "cuda"))
    tolerance = 1e-3 if dtype is torch.float32 else 1e-9
    if name == "alpha":
        tolerance = 2e-2  # Adam divides by a gradient's size, which magnifies rounding where it is small
    closed = ((on_cpu.lower > 0).any(1) | on_cpu.empty), ((on_gpu.lower > 0).any(1) | on_gpu.empty).cpu()
    assert torch.equal(*closed)
    for field in ("lower", "pre_lower", "pre_upper"):
        mine, theirs = getattr(on_cpu, field), getattr(on_gpu, field)
        assert theirs.is_cuda and theirs.dtype == dtype
        torch.testing.assert_close(theirs.cpu()[~closed[0]], mine[~closed[0]], atol=tolerance, rtol=tolerance)
    assert all(v.is_cuda for v in vars(kept).values()) and len(kept) == len(left)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
def test_gpu_bounds_hold_for_the_float64_network(dtype):
    """Rounding on the device is paid for: no tensor core has shortened a product behind our back."""
    graph, box = random_graph(5, "mlp", inputs=6, width=64, depth=4, outputs=3), random_box(5, 6, 1e-3)
    lower, upper = torch.as_tensor(box.lower), torch.as_tensor(box.upper)
    linear, whole = root(graph.to(dtype, "cuda"), lower, upper)
    x = lower + torch.rand(2000, 6, dtype=torch.float64) * (upper - lower)
    rows = torch.eye(3, dtype=dtype, device="cuda")[None]
    for make in MAKES.values():
        found = make(linear).bound(whole, Rows(rows, rows.new_zeros(1, 3)))[0].lower[0].double().cpu()
        assert (found <= graph(x).amin(0) + 1e-12).all()
        assert (found >= graph(x).amin(0) - 0.5).all()


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
def test_convolutions_keep_to_their_rounding_bound(dtype):
    """3 x 3 kernels invite Winograd, float32 invites TF32; large and tiny pixels side by side show either."""
    from partita.kernels.rounding import gamma
    from partita.problems.network.affine import Conv

    torch.manual_seed(0)
    conv = Conv(torch.randn(64, 64, 3, 3, dtype=torch.float64), (64, 32, 32), (1, 1), ((1, 1), (1, 1)), (1, 1))
    x = torch.randn(4, 64, 32, 32, dtype=torch.float64)
    x[..., ::2] *= 1e5
    x = x.flatten(1)
    rounded = conv.to(dtype, "cuda"), x.to(dtype).to("cuda")
    for mine, exact, size in (
        (rounded[0].apply(rounded[1]), conv.apply(x), conv.absolute().apply(x.abs())),
        (rounded[0].adjoint(rounded[1]), conv.adjoint(x), conv.absolute().adjoint(x.abs())),
    ):
        allowed = gamma(conv.terms + 4, dtype) * size + 1e-12 * size
        assert ((mine.cpu().double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize("precision", ("float32", "float64"))
@pytest.mark.parametrize("split", ("auto", "input", "polyhedral", "activation"))
@pytest.mark.parametrize("relaxation", ("auto", "ibp", "alpha-crown"))
def test_verdicts_on_the_device_agree_with_the_oracle(relaxation, split, precision):
    verdicts = set()
    for seed in SEEDS:
        graph = random_graph(seed, ("mlp", "residual")[seed % 2], inputs=3, width=6, depth=2)
        prop = random_property(seed, graph, radius=0.3, halfspaces=seed % 2, cases=2)
        least = min(feasible_unsafe(graph, c.inputs, u).upper for c in prop.cases for u in c.unsafe)
        outcome = partita.verify(
            graph, prop, device="cuda", precision=precision, split=split, relaxation=relaxation, timeout=60
        )
        assert abs(least) < 1e-4 or outcome.verdict == ("sat" if least < 0 else "unsat"), outcome.reason
        assert "on cuda" in outcome.stats.get("strategy", "on cuda")
        verdicts.add(outcome.verdict)
    assert verdicts == {"sat", "unsat"}


@pytest.mark.parametrize("inputs", (16, 4))
def test_networks_with_many_inputs_and_smooth_ones(inputs):
    for kind in ("conv", "sigmoid"):
        graph = random_graph(3, kind, inputs=inputs, width=8, depth=2)
        for seed in range(2):
            prop = random_property(seed, graph, radius=0.1)
            verdicts = {partita.verify(graph, prop, device=d, timeout=60).verdict for d in ("cpu", "cuda")}
            assert len(verdicts) == 1 and verdicts <= {"sat", "unsat"}


@pytest.mark.parametrize("size, groups", ((1, 2000), (2, 2000), (3, 400), (4, 10)))
@pytest.mark.parametrize("slope", (0.0, LEAKY))
def test_hulls_slide_to_the_facets_of_the_cpu(size, groups, slope):
    """The same rows but for few ties; all of them as deep as there, and through as many corners."""
    template, (limits, _) = octahedron(size), images(size, groups, "general", 61)
    here, there = hull._grouped(template, limits, slope), hull._grouped(template.to("cuda"), limits.cuda(), slope)
    aims = hull.targets(template, here, slope, thorough=False)
    slow, found = hull.slide(here, aims), hull.slide(there, aims.cuda())
    assert found.is_cuda and ((found.cpu() - slow).abs().amax(-1) <= 1e-8).double().mean() >= 0.97
    (depth, spanned), (true, _) = met(here, aims, found.cpu()), met(here, aims, slow)
    assert abs(depth.mean() - true.mean()) <= 1e-3 * true.mean() and (spanned == 2 * size).double().mean() >= 0.97


def test_the_same_seed_gives_the_same_tree():
    graph = random_graph(7, "mlp", inputs=4, width=12, depth=3)
    prop = random_property(2, graph, radius=0.6)
    counts = [partita.verify(graph, prop, device="cuda", attack="off", timeout=60).pieces for _ in range(2)]
    assert counts[0] == counts[1] > 1


@pytest.mark.parametrize("relaxation", ladder(*BATCHED))
def test_two_sided_bounds(relaxation):
    graph, box = random_graph(1, "residual", inputs=4, width=8, depth=2), random_box(1, 4, 0.4)
    here, there = (partita.bound(graph, box, relaxation, device=d, steps=5) for d in ("cpu", "cuda"))
    assert abs(here.lower - there.lower).max() < 1e-3 and abs(here.upper - there.upper).max() < 1e-3


def test_a_batch_that_does_not_fit_is_halved(monkeypatch):
    """The device says that memory is short for batches over a size; the verdict stays."""
    from partita.bab.trees.regions import Regions

    bound, refused = Regions.bound, []

    def tight(self, record):
        if len(record) > 8:
            refused.append(len(record))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return bound(self, record)

    graph = random_graph(7, "mlp", inputs=4, width=12, depth=3)
    prop = random_property(2, graph, radius=0.6)
    free = partita.verify(graph, prop, device="cuda", attack="off", timeout=60)
    monkeypatch.setattr(Regions, "bound", tight)
    limited = partita.verify(graph, prop, device="cuda", attack="off", timeout=60)
    assert refused and limited.verdict == free.verdict
