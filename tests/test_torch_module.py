"""PyTorch modules are read as what they are, or refused with the line that prevents it."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from module_zoo import BAD, GOOD, Around, in_place_on_a_view, module

import partita
from partita.problems.errors import BadInput
from partita.problems.load import compare_on, load_network
from partita.problems.originals.module_comparison import box_points
from partita.problems.properties.property import Polytope
from partita.problems.properties.specify import box_property

EXAMPLE = torch.tensor([[0.3, 0.4]])


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_one_formula_is_refused(name: str) -> None:
    function, words = BAD[name]
    with pytest.raises(BadInput) as refused:
        load_network(module(function), EXAMPLE)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", GOOD)
def test_what_is_one_formula_is_read(name: str) -> None:
    """Graph, exported file and module agree, in numbers that no point of the import has seen."""
    subject = module(GOOD[name])
    graph, original = load_network(subject, EXAMPLE)
    random = np.random.default_rng(5)
    for scale in (0.01, 1, 30):
        for x in random.uniform(-scale, scale, (5, 2)).astype(np.float32).astype(np.float64):
            with torch.no_grad():
                expected = subject(torch.from_numpy(x).float()[None]).double().numpy().reshape(-1)
            for found in (graph(torch.from_numpy(x)).numpy(), original(x), original.module(x)):
                np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_an_in_place_change_of_a_view_is_not_lost() -> None:
    """PyTorch's older writer drops it without a word; a network that holds it is read as it is, or refused."""
    subject = module(in_place_on_a_view)
    try:
        graph, _ = load_network(subject, EXAMPLE)
    except BadInput:
        return
    x = torch.tensor([0.7, -0.2])
    torch.testing.assert_close(graph(x.double()).float(), subject(x[None])[0])


@pytest.mark.parametrize("small", [1e-3, 1.0])
@pytest.mark.parametrize("large", [1.0, 1e6, 1e12])
def test_a_large_output_hides_nothing(small: float, large: float) -> None:
    """One entry depends on what is not exported; the entry beside it is large."""
    scale = torch.tensor([large, small])

    def lies(m: Around, x: torch.Tensor) -> torch.Tensor:
        sign = 1.0 if torch.compiler.is_exporting() else -1.0
        return x * scale * torch.tensor([1.0, sign])

    with pytest.raises(BadInput, match="output 1 is"):
        load_network(module(lies), EXAMPLE)


def test_a_difference_that_only_the_box_shows_is_found() -> None:
    """Python code that looks at values behind the exporter's back, far from the points of the import."""

    def hidden(m: Around, x: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_exporting() and float(x.sum()) > 150:
            return -x
        return m.linear(x)

    _, original = load_network(module(hidden), EXAMPLE)
    compare_on(original, [Polytope(np.full(2, -1.0), np.full(2, 1.0))])
    with pytest.raises(BadInput, match="at the upper corner of the input set"):
        compare_on(original, [Polytope(np.full(2, -1.0), np.full(2, 1.0)), Polytope(np.zeros(2), np.full(2, 100.0))])
    with pytest.raises(BadInput, match="output 0 is"):
        partita.verify(module(hidden), box([0.0, 0.0], [100.0, 100.0]), example_input=EXAMPLE, timeout=20)


def box(lower, upper):
    return box_property(lower, upper, [[1.0, 0.0]], [1e6])


def test_rounding_is_no_difference() -> None:
    """Deep, wide, badly scaled modules in both precisions, on boxes of all sizes."""
    torch.manual_seed(3)
    for dtype in (torch.float32, torch.float64):
        for scale in (1e-3, 1.0, 1e3):
            widths = [5] + [40] * 6 + [4]
            layers = [part for n, m in pairwise(widths) for part in (torch.nn.Linear(n, m), torch.nn.ReLU())][:-1]
            subject = torch.nn.Sequential(*layers).to(dtype)
            with torch.no_grad():
                for layer in layers[::2]:
                    layer.weight.mul_(3)
                    layer.bias.mul_(scale)
            _, original = load_network(subject, torch.zeros(1, 5, dtype=dtype))
            for radius in (1e-6, 1.0, 1e4):
                compare_on(original, [Polytope(np.full(5, 1 - radius), np.full(5, 1 + radius))])


def test_flags_and_random_numbers_are_as_they_were() -> None:
    """Every part of the module keeps its own flag, also when the module is refused; nothing is drawn."""
    for function, refused in ((GOOD["dropout in evaluation"], False), (BAD["dropout that stays on"][0], True)):
        subject = module(function)
        subject.train()
        subject.norm.eval()
        subject.linear.eval()
        flags = [part.training for part in subject.modules()]
        torch.manual_seed(11)
        np.random.seed(11)
        before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
        if refused:
            with pytest.raises(BadInput):
                load_network(subject, EXAMPLE)
        else:
            _, original = load_network(subject, EXAMPLE)
            compare_on(original, [Polytope(np.zeros(2), np.ones(2))])
            original.module(np.ones(2))
        assert [part.training for part in subject.modules()] == flags
        assert torch.equal(torch.random.get_rng_state(), before[0])
        assert (np.random.get_state()[1] == before[1]).all()


def test_exported_programs_are_accepted() -> None:
    subject = module(GOOD["relu"])
    program = torch.export.export(subject, (EXAMPLE,))
    x = np.array([0.5, -0.25])
    expected = subject(torch.from_numpy(x).float()[None])[0].detach().double().numpy()
    for given, example in ((program, None), (program, EXAMPLE), (program.module(), EXAMPLE)):
        graph, original = load_network(given, example)
        np.testing.assert_allclose(graph(torch.from_numpy(x)).numpy(), expected, rtol=1e-6)
        np.testing.assert_allclose(original.module(x), expected, rtol=1e-6)


@pytest.mark.parametrize("samples", [torch.export.Dim("samples"), torch.export.Dim.AUTO])
def test_a_program_for_any_number_of_samples_is_verified_for_one(samples: object) -> None:
    subject = module(GOOD["relu"])
    program = torch.export.export(subject, (EXAMPLE.repeat(2, 1),), dynamic_shapes=({0: samples},))
    assert load_network(program)[0].input_shape == (1, 2)
    fixed = torch.export.export(subject, (EXAMPLE.repeat(2, 1),))
    assert load_network(fixed)[0].input_shape == (2, 2)


def test_nothing_is_printed_where_the_older_writer_fails(capfd: pytest.CaptureFixture[str]) -> None:
    """PyTorch prints a graph on standard output, where verdicts are."""
    with pytest.raises(BadInput):
        load_network(Around(lambda m, x: torch.nn.functional.threshold(x, 0.1, 20.0)), EXAMPLE)
    assert capfd.readouterr().out == ""


def test_a_program_exported_in_training_mode_is_refused() -> None:
    for name, words in (("dropout in evaluation", "random"), ("norm in evaluation", "changes its own")):
        subject = module(GOOD[name]).train()
        program = torch.export.export(subject, (torch.zeros(2, 2),))
        with pytest.raises(BadInput, match=words):
            load_network(program)


@pytest.mark.parametrize(
    "given, example, words",
    [
        (3, None, "a network is a file"),
        (Around(GOOD["linear"]), None, "needs an example_input"),
        (Around(GOOD["linear"]), np.zeros((1, 2)), "must be a tensor"),
        (Around(GOOD["linear"]), torch.zeros(1, 2, dtype=torch.int64), "float32 or float64"),
        (Around(GOOD["linear"]), torch.zeros(1, 0), "float32 or float64"),
        (Around(GOOD["linear"]), torch.zeros(1, 3), "cannot be run"),
        (Around(lambda m, x: (x, x)), EXAMPLE, "2 outputs"),
        (torch.nn.Linear(2, 2, device="meta"), EXAMPLE, "meta device"),
        (Around(GOOD["linear"]), torch.zeros(1, 2, device="meta"), "meta device"),
        (Around(lambda m, x: torch.ones(1, 2)), EXAMPLE, "has no input, so that its output is constant"),
    ],
)
def test_what_is_no_network_is_refused(given: object, example: object, words: str) -> None:
    with pytest.raises(BadInput, match=words) as refused:
        load_network(given, example)
    assert "\n" not in str(refused.value)


def test_threads_may_load_at_once() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: load_network(module(GOOD[k]), EXAMPLE)[0], ["relu", "abs", "linear", "clamp"]))
    assert [graph.input_size for graph in found] == [2] * 4


def test_warnings_of_the_module_are_heard_and_pytorchs_own_are_not() -> None:
    def warns(m: Around, x: torch.Tensor) -> torch.Tensor:
        warnings.warn("mind the step", UserWarning, stacklevel=1)
        return m.linear(x)

    with pytest.warns(UserWarning, match="mind the step"):
        load_network(module(warns), EXAMPLE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_network(module(GOOD["relu"]), EXAMPLE)


def test_where_torch_export_fails_the_tracer_is_asked_and_its_warnings_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise RuntimeError("not today")

    monkeypatch.setattr(torch.export, "export", fails)
    graph, _ = load_network(module(GOOD["relu"]), EXAMPLE)
    assert graph.neurons == 2
    for name in ("branches on a sum", "item", "numpy", "loops as often as an entry"):
        with pytest.raises(BadInput, match=r"module_zoo.py:\d+.*not today"):
            load_network(module(BAD[name][0]), EXAMPLE)


@pytest.mark.parametrize("entry", [0, 1])
@pytest.mark.parametrize("share", [1e-4, 3e-5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_differences_of_an_entry_are_seen(entry: int, share: float, dtype: torch.dtype) -> None:
    """Some 500 units in the last place, in either precision, in a network of two layers beside an output of 1e9."""
    share *= 1.0 if dtype == torch.float32 else 1e-8
    scale = torch.tensor([1.0, 1e9], dtype=dtype)[[entry, 1 - entry]]
    off = 1 + share * (torch.arange(2) == entry).to(dtype)

    def lies(m: Around, x: torch.Tensor) -> torch.Tensor:
        y = m.linear(torch.relu(m.linear(x) + 1)) * scale
        return y if torch.compiler.is_exporting() else y * off

    with pytest.raises(BadInput, match=f"output {entry} is"):
        load_network(module(lies).to(dtype), EXAMPLE.to(dtype))


WHERE = {
    "centre": lambda x: bool((x == 0.5).all()),
    "lower corner": lambda x: bool((x == 0.25).all()),
    "upper corner": lambda x: bool((x == 0.75).all()),
    "random corner": lambda x: bool(((x == 0.25) | (x == 0.75)).all()) and float(x.sum()) == 1.0,
    "random point": lambda x: bool(((x > 0.25) & (x < 0.75) & (x != 0.5)).all()),
}


@pytest.mark.parametrize("where", WHERE)
def test_every_kind_of_point_is_looked_at(where: str) -> None:
    def hidden(m: Around, x: torch.Tensor) -> torch.Tensor:
        odd = not torch.compiler.is_exporting() and WHERE[where](x)
        return m.linear(x) + (0.25 if odd else 0.0)

    _, original = load_network(module(hidden), EXAMPLE + 7)
    with pytest.raises(BadInput, match=f"at (the|a) {where} of the input set"):
        compare_on(original, [Polytope(np.full(2, 0.25), np.full(2, 0.75))])


def test_points_of_a_box() -> None:
    low, high = np.array([-1.0, 0.0, 2.0]), np.array([1.0, 0.0, 3.0])
    points = [x for _, x in box_points(low, high, 16, seed=0)]
    assert len(points) == 16
    assert all(((low <= x) & (x <= high)).all() for x in points)
    np.testing.assert_array_equal(points[0], [0, 0, 2.5])
    np.testing.assert_array_equal(points[-1], points[0])
    endless = [x for _, x in box_points(np.array([-np.inf, 5.0]), np.array([0.0, np.inf]), 8, seed=0)]
    assert all(np.isfinite(x).all() and x[0] <= 0 and x[1] >= 5 for x in endless)


def test_the_box_is_looked_at_at_every_entry() -> None:
    def hidden(m: Around, x: torch.Tensor) -> torch.Tensor:
        odd = not torch.compiler.is_exporting() and float(x.sum()) > 150
        return torch.relu(m.linear(x)) + (1.0 if odd else 0.0)

    box_of_it = (np.zeros(2), np.full(2, 100.0))
    for call in (
        lambda: partita.bound(module(hidden), box_of_it, example_input=EXAMPLE),
        lambda: partita.count_patterns(module(hidden), box_of_it, example_input=EXAMPLE),
        lambda: partita.partition(module(hidden), box_of_it, ["crown"], example_input=EXAMPLE, timeout=20),
    ):
        with pytest.raises(BadInput, match="in the module itself"):
            call()


def test_a_witness_is_judged_by_the_module_as_well() -> None:
    subject = module(GOOD["relu"])
    _, original = load_network(subject, EXAMPLE)
    x = np.array([0.25, -0.75])
    with torch.no_grad():
        expected = subject(torch.from_numpy(x).float()[None]).double().numpy()[0]
    np.testing.assert_array_equal(original.module(x), expected)
    np.testing.assert_allclose(original.confirm(x), expected, rtol=1e-6)
    assert original.model is not None
    with pytest.raises(BadInput, match="cannot be run"):
        load_network(module(lambda m, x: m.linear(x) if x.abs().sum() < np.inf else 1 / 0), EXAMPLE * np.inf)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_no_number_is_a_difference(value: float) -> None:
    def lies(m: Around, x: torch.Tensor) -> torch.Tensor:
        y = m.linear(x)
        return y if torch.compiler.is_exporting() else y + torch.tensor([0.0, value])

    with pytest.raises(BadInput, match="output 1 is"):
        load_network(module(lies), EXAMPLE)


def remembers(first: torch.Tensor, then: torch.Tensor) -> tuple:
    """A module that lies at `then` once it has seen `first`, and what it has seen."""
    seen: list[bool] = []

    def hidden(m: Around, x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_exporting():
            return m.linear(x)
        lie = bool(seen) and bool((x == then).all())
        if bool((x == first).all()):
            seen.append(True)
        return m.linear(x) + (0.25 if lie else 0.0)

    return module(hidden), seen


def test_the_first_point_is_asked_for_again() -> None:
    subject, seen = remembers(torch.zeros(1, 2), EXAMPLE)
    with pytest.raises(BadInput, match="at the example input, asked again"):
        load_network(subject, EXAMPLE)
    subject, seen = remembers(torch.full((1, 2), 0.75), torch.full((1, 2), 0.5))
    _, original = load_network(subject, EXAMPLE)
    assert not seen
    with pytest.raises(BadInput, match="at the centre of the input set, asked again"):
        compare_on(original, [Polytope(np.full(2, 0.25), np.full(2, 0.75))], 60.0)


def test_some_points_are_compared_however_long_they_take_and_outputs_are_counted() -> None:
    _, original = load_network(module(GOOD["linear"]), EXAMPLE)
    comparison = original.comparison
    asked: list[np.ndarray] = []
    counted = replace(comparison, module=lambda x: asked.append(x) or comparison.module(x))
    counted.on_box(np.zeros(2), np.ones(2), seconds=-1.0)
    assert len(asked) == 3
    for cut in (1, 3):
        short = replace(comparison, module=lambda x, cut=cut: np.resize(comparison.module(x), cut))
        with pytest.raises(BadInput, match=f"the module has {cut} outputs"):
            short.at_load()


def test_a_module_in_double_precision_is_held_to_it() -> None:
    """What only float64 sees of a difference between a module and its export is seen; float32's rounding is none."""

    def lies(m: Around, x: torch.Tensor) -> torch.Tensor:
        return x * (1.0 + 1e-10 if torch.compiler.is_exporting() else 1.0)

    load_network(module(lies), EXAMPLE)
    with pytest.raises(BadInput, match="output 0 is"):
        load_network(module(lies).double(), EXAMPLE.double())
