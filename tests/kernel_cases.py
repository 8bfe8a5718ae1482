"""Triton kernels against their torch reference and against exact sums, on a device of the caller's choice.

    TRITON_INTERPRET=1 python tests/kernel_cases.py      # on the CPU, under Triton's interpreter: one JSON line a case

`test_triton.py` starts that as a process of its own, because the interpreter is chosen when triton is imported, and
calls the same cases directly where there is a GPU. Outputs start as NaN, so that an entry nobody writes shows.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from contextlib import contextmanager

import torch

from partita.kernels import dot as dots
from partita.kernels import hull, polytope, rows, substitute
from partita.kernels.octahedron import octahedron
from partita.kernels.rounding import gamma

DTYPES = (torch.float32, torch.float64)
# B, R, n: no powers of two; with tiles of one, four and sixteen rows, and more than one step of the widest tile.
SHAPES = ((1, 1, 1), (2, 5, 63), (2, 18, 100), (1, 3, 1100), (3, 0, 7))


def draw(seed: int, device: str, dtype: torch.dtype):
    random = torch.Generator().manual_seed(seed)

    def numbers(*shape, least=None):
        value = torch.randn(*shape, generator=random, dtype=torch.float64)
        # Sizes over six orders of magnitude: sums cancel, and small terms are lost where a sum is wrong.
        value = value * 10 ** (6 * torch.rand(*shape, generator=random, dtype=torch.float64) - 3)
        return (value if least is None else value.abs().clamp(min=least)).to(device, dtype)

    return numbers


@contextmanager
def chosen(choose):
    """Within it `choose` says which calls are fused."""
    modules = (dots, substitute, polytope, rows, hull)
    before = [module.fused for module in modules]
    for module in modules:
        module.fused = choose
    try:
        yield
    finally:
        for module, old in zip(modules, before, strict=True):
            module.fused = old


def reference():
    """Within it the torch reference runs wherever tensors lie."""
    return chosen(lambda *tensors: False)


def everywhere(calls: list):
    """Within it Triton's kernels run on the CPU as well, and every call is noted."""

    def choose(*tensors):
        calls.append(len(tensors))
        return tensors[0].numel() > 0

    return chosen(choose)


def close(found, exact, size, roundings: int) -> None:
    """|found - exact| <= gamma size, entry by entry; `exact` and `size` in float64."""
    assert found.shape == exact.shape and not found.isnan().any()
    error = (found.double() - exact).abs()
    allowed = gamma(roundings, found.dtype) * size + gamma(2 * roundings, torch.float64) * size
    assert (error <= allowed).all(), float((error / allowed).nan_to_num(0).max())


def vectors(numbers, pieces, count, size, least=None):
    """The shapes a vector may have: one for all, one a piece, one a row, broadcast, and a view of something larger."""
    yield numbers(size, least=least)
    yield numbers(pieces, size, least=least)
    yield numbers(pieces, count, size, least=least)
    yield numbers(1, size, least=least)
    yield numbers(pieces, 1, size, least=least)
    yield numbers(1, count, size, least=least)
    yield numbers(pieces, 2 * size + 3, least=least)[:, 3 : size + 3]
    yield numbers(size, pieces, least=least).mT


def expanded(vector):
    return (vector[:, None] if vector.ndim == 2 else vector).double()


def sums(device: str) -> None:
    from partita.kernels.triton.sums import sums as fused

    for dtype in DTYPES:
        for seed, (pieces, count, size) in enumerate(SHAPES):
            numbers = draw(seed, device, dtype)
            wide = numbers(pieces, count + 1, size + 5)
            for given in (numbers(pieces, count, size), wide[:, 1:, 2 : size + 2], wide[:, 1:, ::2][..., :size]):
                size = given.shape[-1]
                for vector in vectors(numbers, pieces, count, size) if given.is_contiguous() else [numbers(size)]:
                    weight = numbers(size, least=0.0)
                    signed, absolute = fused(given, vector, weight)
                    terms, heavy = given.double() * expanded(vector), given.double().abs() * weight.double()
                    close(signed, terms.sum(-1), terms.abs().sum(-1), dots.depth(size))
                    close(absolute, heavy.sum(-1), heavy.sum(-1), dots.depth(size))
                    alone, none = fused(given, vector, None)
                    assert none is None and torch.equal(alone, signed)
                    with reference():
                        close(dots.dot(given, vector), terms.sum(-1), terms.abs().sum(-1), dots.depth(size))


def box_minimum(device: str) -> None:
    from partita.kernels.triton.sums import box_minimum as fused

    for dtype in DTYPES:
        for seed, (pieces, count, size) in enumerate(SHAPES):
            numbers = draw(seed, device, dtype)
            a, lower = numbers(pieces, count, size), numbers(pieces, size)
            upper = lower + numbers(pieces, size, least=0.0)
            least = polytope.gamma(2 * dots.depth(size) + 4, dtype)
            for low, high in ((lower, upper), (lower[:1], lower[:1]), (lower, lower)):
                found = fused(a, low, high, least)
                with reference():
                    slow = polytope.box_minimum(a, low, high)
                corner = torch.where(a >= 0, low[:, None], high[:, None]).double()
                terms = a.double() * corner
                largest = torch.maximum(low.abs(), high.abs())[:, None].double()
                size_of = (a.double().abs() * largest).sum(-1)
                # Outward: even what float64 may have lost in `exact` is far below what is taken off.
                assert (found.double() <= terms.sum(-1) + gamma(2 * size, torch.float64) * size_of).all()
                close(found, slow.double(), size_of, 8 * dots.depth(size) + 20)


def lines_of(numbers, shape, by_row: str):
    """Four lines; those named in `by_row` have one for each row."""
    pieces, count, size = shape
    make = lambda name: numbers(*((pieces, count, size) if name in by_row else (pieces, size)))  # noqa: E731
    return tuple(make(name) for name in "abcd")


class Lines(tuple):
    """What `substitute` wants of lines: a tuple whose parts have names."""

    lower_slope = property(lambda self: self[0])
    lower_bias = property(lambda self: self[1])
    upper_slope = property(lambda self: self[2])
    upper_bias = property(lambda self: self[3])


def substituted(device: str) -> None:
    from partita.kernels.triton.substitute import substitute as fused

    for dtype in DTYPES:
        for seed, shape in enumerate(SHAPES):
            pieces, count, size = shape
            numbers = draw(seed, device, dtype)
            given = numbers(*shape)
            given[..., ::7] = 0
            flat = numbers(pieces, count, 2 * size + 1)
            for by_row in ("", "a", "abcd"):
                lines = Lines(lines_of(numbers, shape, by_row))
                for bare in (True, False):
                    low = None if bare else lines.lower_bias
                    extras = {
                        "above": numbers(size, least=0.0) if by_row else None,
                        "under": numbers(pieces, size, least=0.0),
                        "joint": numbers(size, least=0.0),
                        "added": flat[..., size : 2 * size] if by_row != "a" else None,
                    }
                    below, gain, slack = fused(given, lines[0], low, lines[2], lines[3], **extras)
                    added = extras.pop("added")
                    weights = substitute.Weights(**extras)
                    with reference():
                        kept = substitute.substitute_weighed(given, lines, weights, added=added, zero_lower_bias=bare)
                    assert torch.equal(below, kept[0])
                    bias = torch.where(given > 0, 0.0 if bare else expanded(lines[1]), expanded(lines[3]))
                    terms = given.double() * bias
                    close(gain, terms.sum(-1), terms.abs().sum(-1), dots.depth(size))
                    close(slack, kept[2].double(), kept[2].double(), 2 * dots.depth(size) + 8)
                    plain = fused(given, lines[0], low, lines[2], lines[3])
                    assert plain[2] is None and torch.equal(plain[1], gain)


def what_is_not_finite_shows(device: str) -> None:
    from partita.kernels.triton.substitute import substitute as fused
    from partita.kernels.triton.sums import box_minimum as box
    from partita.kernels.triton.sums import sums as both

    for bad in (torch.nan, torch.inf):
        given = torch.ones(1, 2, 70, device=device)
        given[0, 1, 69] = bad
        one, negative = torch.ones(1, 70, device=device), -torch.ones(1, 70, device=device)
        signed, absolute = both(given, one, one)
        assert signed[0, 0] == 70 and not signed[0, 1].isfinite() and not absolute[0, 1].isfinite()
        below, gain, slack = fused(-given, one, None, one, one, one)
        assert not below[0, 1, 69].isfinite() and not gain[0, 1].isfinite() and not slack[0, 1].isfinite()
        assert below[0, 0].isfinite().all() and gain[0, 0] == -70 and slack[0, 0] == 70
        assert not (box(given, negative, one, 1e-5)[0, 1] > -torch.inf)


def pulled(device: str) -> None:
    from partita.kernels.triton.rows import pull as fused

    for dtype in DTYPES:
        for seed, (pieces, count, size) in enumerate(SHAPES):
            numbers = draw(seed, device, dtype)
            for number in (1, 9, 50):
                width = min(3, size)
                index = torch.rand(number, size, generator=torch.Generator().manual_seed(seed)).topk(width, 1).indices
                dense = numbers(number, size).scatter(1, index.to(device), 0.0)
                dense = numbers(number, size) * (dense == 0)
                kept = rows.layer_rows(dense)
                assert kept.most == int((dense != 0).sum(0).max()) <= number
                price = numbers(pieces, count, number, least=0.0)
                found = [fused(price, kept.touching, kept.entry)]
                with reference():
                    found.append(rows.pull(price, kept))
                for one in found:
                    reach = price.double() @ dense.double().abs()
                    close(one, price.double() @ dense.double(), reach, kept.most + 1)


def added_tensors(device: str) -> None:
    from partita.kernels.triton.rows import add_weighed as fused

    for dtype in DTYPES:
        for seed, (pieces, count, size) in enumerate(SHAPES):
            numbers = draw(seed, device, dtype)
            given, flat = numbers(pieces, count, size), numbers(pieces, count, 2 * size + 1)
            for added in (flat[..., size : 2 * size], -given):
                for weight in (numbers(size, least=0.0), numbers(pieces, size, least=0.0)):
                    result, weighed = fused(given, added, weight)
                    assert torch.equal(result, given + added)
                    total = ((given.double().abs() + added.double().abs()) * expanded(weight)).sum(-1)
                    close(weighed, total, total, dots.depth(size) + 2)
                    with reference():
                        close(rows.add_weighed(given, added, weight)[1], total, total, dots.depth(size) + 2)


def bounds(linear, pieces, wanted):
    """CROWN's, and with slopes optimised."""
    from partita.relaxations.linear.alpha import Alpha

    tight = linear.bound(pieces, wanted)[0]
    inner = pieces.with_pre(tight.pre_lower, tight.pre_upper)
    return tight.lower, Alpha(linear, steps=2).bound(inner, wanted)[0].lower


def whole_bounds(device: str) -> None:
    """CROWN and optimised slopes with every kernel fused: the reference's bounds, and below what the network does."""
    from networks import random_box, random_graph

    from partita.relaxations.linear.root import root
    from partita.relaxations.types import Rows

    for kind in ("mlp", "residual", "sigmoid"):
        graph, box = random_graph(3, kind, inputs=4, width=9, depth=2, outputs=3), random_box(3, 4, 0.3)
        lower, upper = torch.as_tensor(box.lower), torch.as_tensor(box.upper)
        linear, whole = root(graph.to(torch.float32, device), lower, upper)
        identity = torch.eye(3, device=device)[None]
        wanted = Rows(identity, identity.new_zeros(1, 3))
        found, calls = [], []
        with reference():
            found.append(bounds(linear, whole, wanted))
        with everywhere(calls):
            found.append(bounds(linear, whole, wanted))
        assert len(calls) > 15
        x = lower + torch.rand(500, 4, dtype=torch.float64) * (upper - lower)
        for slow, fast in zip(*found, strict=True):
            torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)
            assert (fast[0].double().cpu() <= graph(x).amin(0) + 1e-12).all()


def proofs(template, limits, slope: float, on_post, on_pre):
    """Offsets of rows over groups, by Triton and by the reference, and which groups are proved empty."""
    group = hull._grouped(template, limits, slope)
    with everywhere([]):
        found, empty = hull.proved(template, group, slope, on_post, on_pre)
    with reference():
        slow, same = hull.proved(template, group, slope, on_post, on_pre)
    assert found.shape == slow.shape == on_post.shape[:2] and torch.equal(empty, same)
    return found, slow, empty


def hull_offsets(device: str) -> None:
    """Rows of hulls of all kinds: the reference's offsets, up to which of the corners that tie is taken; they hold."""
    from test_hull import KINDS, LEAKY, exact_maximum, images, up

    for size in (1, 2, 3, 4):
        template = octahedron(size).to(device)
        for number, kind in enumerate(KINDS if size < 4 else ("flat", "half known")):
            limits, z = images(size, 2 if size < 4 else 1, kind, number)
            limits, z = up(limits, DTYPES[number % 2]).to(device), z.to(device)
            slope = (0.0, LEAKY, 1 / 3)[number % 3]
            with reference():
                rows_of = hull.relu_hulls(template, limits, slope)
            pick = torch.arange(0, rows_of.offset.shape[1], max(1, rows_of.offset.shape[1] // 6), device=device)[-7:]
            on_post, on_pre = rows_of.on_post[:, pick].double(), rows_of.on_pre[:, pick].double()
            found, slow, empty = proofs(template, limits, slope, on_post, on_pre)
            scale = z.abs().amax((1, 2)).clamp(min=1e-300)[:, None]
            assert torch.equal(found.isfinite(), slow.isfinite()) and not empty.any()
            error = ((found - slow) / scale)[found.isfinite()].abs()
            assert (error <= 1e-7).all() and (error > 1e-14).double().mean() <= 0.25, (size, kind, error)
            y = torch.maximum(z, slope * z)
            value = torch.matmul(y, on_post.mT) + torch.matmul(z, on_pre.mT)
            assert ((value - found[:, None]) / scale[..., None] <= 1e-13).all(), (size, kind)
            if size < 3 and kind != "half known":
                for one in range(2):
                    exact = exact_maximum(
                        template, *(t[one].cpu() for t in (limits,)), slope, on_post[one], on_pre[one]
                    )
                    assert all(mine >= true for mine, true in zip(found[one].tolist(), exact, strict=True)), (
                        size,
                        kind,
                    )


def hull_offsets_of_bad_groups(device: str) -> None:
    """An empty group, groups open on all sides or one or of NaN, rows that are not finite, beside one that is well."""
    for size in (1, 2, 3):
        template = octahedron(size).to(device)
        limits = torch.ones(5, len(template), dtype=torch.float64, device=device)
        limits[1] = -1.0
        limits[2] = torch.inf
        limits[3] = torch.nan
        limits[4, template.normals[:, 0] < 0] = torch.inf
        on_post = torch.eye(size, dtype=torch.float64, device=device)[:1].repeat(5, 5, 1)
        on_pre = torch.zeros_like(on_post)
        on_pre[:, 1] = torch.nan
        on_post[:, 2, -1] = torch.inf
        on_post[:, 3] = 0
        on_post[:, 4] = -1
        found, slow, empty = proofs(template, limits, 0.0, on_post, on_pre)
        assert empty.tolist() == [False, True, False, False, False] and (found[1] == -torch.inf).all()
        assert found[0, 0] == slow[0, 0] and 1 <= found[0, 0] <= 1 + 1e-7
        assert torch.equal(found[0, 3:], slow[0, 3:]) and (found[0, 3:] >= 0).all() and (found[0, 3:] < 1e-7).all()
        assert not found[[0, 2, 3, 4], 1:3].isfinite().any() and not found[2:4].isfinite().any()
        # 0 <= y_1 <= 1 in the open group too, but 0 times infinity is no bound on the orthant where it is open.
        assert found[4, 0].isnan() and found[4, 3].isnan()
        assert torch.equal(found.isfinite(), slow.isfinite())


def slides(group, aims):
    """Rows of a group towards the aims, by Triton and by the reference."""
    calls = []
    with everywhere(calls):
        found = hull.slide(group, aims)
    with reference():
        slow = hull.slide(group, aims)
    assert len(calls) == 1 and found.shape == slow.shape == aims.shape
    assert found.isfinite().all() and slow.isfinite().all()
    return found, slow


def met(group, aims, rows):
    """How far each row cuts its aim off, the hull being at 1, and the dimension that the corners on it span; CPU."""
    scale = torch.cat([group.width, group.width], -1)[:, None]
    x, real = torch.cat([group.corners.z, group.value], -1) / scale, group.corners.real[..., None]
    centre = (x * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)
    x, aims, rows = ((x - centre) * real).cpu(), (aims / scale - centre).cpu(), (rows * scale).cpu()
    rows = rows / rows.abs().amax(-1, keepdim=True).clamp(min=1e-300)
    value = torch.matmul(rows, x.mT)
    rows = rows / value.amax(-1, keepdim=True).clamp(min=1e-9)
    on = torch.matmul(rows, x.mT) >= 1 - 1e-6
    return (rows * aims).sum(-1), torch.linalg.matrix_rank(x[:, None] * on[..., None], rtol=1e-7)


# Kinds of groups whose corners span all 2 K dimensions and are told apart by more than rounding.
PLAIN = ("general", "through zero", "integers", "loose", "half known")


def hull_slides(device: str) -> None:
    """The reference's rows where no corners tie; everywhere through as many corners, and as deep."""
    from test_hull import KINDS, LEAKY, images

    for size in (1, 2, 3, 4):
        template = octahedron(size).to(device)
        for number, kind in enumerate(KINDS if size < 4 else ("general", "flat", "half known")):
            limits, _ = images(size, 2, kind, number)
            for slope in (0.0, LEAKY) if kind == "general" else (LEAKY * (number % 2),):
                group = hull._grouped(template, limits.to(device), slope)
                aims = hull.targets(template, group, slope, thorough=False)
                aims = aims[:, :: (1, 1, 5 if kind == "general" else 9, 20)[size - 1]]  # of three, two tiles once
                found, slow = slides(group, aims)
                same = ((found - slow).abs().amax(-1) <= 1e-9).double().mean()
                (depth, spanned), (true, whole) = met(group, aims, found), met(group, aims, slow)
                if kind in PLAIN:
                    assert same >= 0.9 and (spanned == 2 * size).double().mean() >= 0.95, (size, kind, slope)
                if kind != "point":  # whose size is rounding
                    assert depth.mean() >= 0.99 * true.mean() and true.mean() > 0.9, (size, kind, slope)
                    assert (spanned - whole).double().mean() >= -0.1, (size, kind, slope)


def hull_slides_of_bad_groups(device: str) -> None:
    """An empty group, groups open or of NaN, aims that are not finite, beside what is well; none of either."""
    for size in (1, 2, 3):
        template = octahedron(size).to(device)
        limits = torch.ones(5, len(template), dtype=torch.float64, device=device)
        limits[:, size:] += 0.1 * torch.rand(limits[:, size:].shape, generator=torch.Generator().manual_seed(0)).to(
            device
        )
        limits[1] = -1.0
        limits[2] = torch.inf
        limits[3] = torch.nan
        limits[4, template.normals[:, 0] < 0] = torch.inf
        group = hull._grouped(template, limits, 0.0)
        aims = hull.targets(template, group, 0.0, False)
        bad = torch.stack([torch.nan * aims[:, 0], aims[:, 0], aims[:, 0]], 1)
        bad[:, 1, -1], bad[:, 2, 0] = torch.inf, -torch.inf
        found, slow = slides(group, torch.cat([bad, aims[:, ::7]], 1))
        assert not found[:, :3].any() and not found[2:4].any() and torch.equal(found.any(-1), slow.any(-1))
        assert torch.allclose(found[0], slow[0], rtol=0, atol=1e-7) and found[0, 3:].any(-1).all()
        none = hull._grouped(template, limits[:0], 0.0)
        with everywhere([]):
            assert hull.slide(group, aims[:, :0]).shape == (5, 0, 2 * size)
            assert hull.slide(none, aims[:0]).shape == aims[:0].shape


def whole_hulls(device: str) -> None:
    """Both versions end in the same rows; the slide and the proof are called once a chunk."""
    from test_hull import excess, images, up

    template = octahedron(2).to(device)
    limits, z = images(2, 5, "general", 0)
    limits[3] = -1.0
    for dtype in DTYPES:
        given, calls = up(limits, dtype).to(device), []
        with everywhere(calls):
            found = hull.relu_hulls(template, given, chunk=2)
        with reference():
            slow = hull.relu_hulls(template, given, chunk=2)
        assert len(calls) == 6 and (found.offset[3] == -1).all()
        for mine, theirs in zip(found, slow, strict=True):
            assert mine.dtype is dtype and torch.allclose(mine, theirs, rtol=1e-6, atol=1e-6)
        well = [0, 1, 2, 4]
        assert excess(hull.Hulls(*(part[well].cpu() for part in found)), z[well], 0.0) <= 1e-13


BOUNDS = (sums, box_minimum, substituted, what_is_not_finite_shows, pulled, added_tensors, whole_bounds)
HULLS = (hull_slides, hull_slides_of_bad_groups, hull_offsets, hull_offsets_of_bad_groups, whole_hulls)
CASES = {f.__name__: f for f in (*BOUNDS, *HULLS)}


def run(case: str, device: str) -> None:
    """One case, with uninitialised memory filled with NaN; also as if the device were full with one program."""
    from partita.kernels.triton import tile

    torch.use_deterministic_algorithms(True)
    enough = tile.PROGRAMS
    try:
        for tile.PROGRAMS in (1,) if device == "cpu" else (1, enough):
            CASES[case](device)
    finally:
        torch.use_deterministic_algorithms(False)
        tile.PROGRAMS = enough


def main() -> int:
    for case in CASES:
        start = time.perf_counter()
        try:
            run(case, "cpu")
            said = ""
        except Exception:
            said = traceback.format_exc()
        print(json.dumps({"case": case, "error": said, "seconds": time.perf_counter() - start}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
