"""What callers of the Python API give that is no number, time, path, set or property: one sentence each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import partita
from partita.problems.errors import BadInput
from partita.problems.network.library import random_network
from partita.problems.properties.handmade import polytope_of, property_of
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet

NET = random_network((2, 3, 2), 0)
BOX = np.array([-1.0, -1.0]), np.array([1.0, 1.0])
NAN, INF = float("nan"), float("inf")
CALLS = {
    "bound": lambda **given: partita.bound(NET, BOX, **given),
    "count": lambda **given: partita.count_patterns(NET, BOX, **given),
    "partition": lambda **given: partita.partition(NET, BOX, ["triangle"], **given),
    "verify": lambda **given: partita.verify(NET, made(), **given),
}


def made(inputs: Polytope | None = None, unsafe: UnsafeSet | None = None) -> Property:
    unsafe = UnsafeSet(np.array([[1.0, -1.0]]), np.array([0.5])) if unsafe is None else unsafe
    return Property((Case(Polytope(*BOX) if inputs is None else inputs, (unsafe,)),), 2, 2)


def refusal(call) -> str:
    with pytest.raises(BadInput) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("call", ["bound", "count", "partition"])
@pytest.mark.parametrize("value", ["5", NAN, -1, True, [1], 10**400], ids=range(6))
def test_a_time_limit_is_a_number_of_seconds(call: str, value: object) -> None:
    assert "timeout" in refusal(lambda: CALLS[call](timeout=value))


def test_no_limit_is_any_number_that_never_comes() -> None:
    assert CALLS["count"](timeout=INF).finished and CALLS["count"](timeout=np.float32(60)).finished
    assert np.isfinite(CALLS["bound"](timeout=INF).lower).all()


@pytest.mark.parametrize(
    ("call", "given", "words"),
    [
        ("bound", {"rows": "a"}, "rows must be an array of numbers"),
        ("bound", {"rows": [[True, False]]}, "rows must be an array of numbers, not of bool"),
        ("bound", {"rows": [[1, 2]], "constants": ["1"]}, "constants must be an array of numbers"),
        ("bound", {"time_limit": "1"}, "time_limit must be a positive number of seconds"),
        ("bound", {"example_input": torch.zeros(1, 2)}, "example_input has no effect here"),
        ("count", {"out": 3}, "out must be a path, not 3"),
        ("count", {"out": "a\0b"}, "has a NUL character in it"),
        ("count", {"rational": "no"}, "rational must be True or False"),
        ("partition", {"exactness": "threshold", "threshold": NAN}, "threshold must be a finite number"),
        ("partition", {"exactness": "threshold", "threshold": -INF}, "threshold must be a finite number"),
        ("partition", {"exactness": "threshold", "threshold": "0"}, "threshold must be a finite number"),
        ("partition", {"tolerance": "0.1"}, "tolerance must be a finite number"),
        ("partition", {"tolerance": -1e-3}, "tolerance must be a positive number"),
        ("partition", {"case": "0"}, "case must be a whole number"),
        ("partition", {"case": True}, "case must be a whole number"),
        ("verify", {"seed": 2**60}, "'seed' among the arguments must be at most"),
        ("verify", {"config": 3}, "config must be a path, not 3"),
        ("verify", {"log": 3}, "log must be a path, not 3"),
        ("verify", {"resume": 3}, "resume must be a path, not 3"),
        ("verify", {"resume": "a\0b"}, "has a NUL character in it"),
        ("verify", {"observers": 3}, "observers must be a list of observers"),
        ("verify", {"observers": [3]}, "3 is no observer"),
        ("verify", {"example_input": torch.zeros(1, 2)}, "example_input has no effect here"),
    ],
)
def test_what_is_no_such_thing_is_refused(call: str, given: dict, words: str) -> None:
    assert words in refusal(lambda: CALLS[call](**given))


def test_the_largest_seed_is_one() -> None:
    assert CALLS["verify"](seed=2**53).verdict == CALLS["verify"]().verdict


@pytest.mark.parametrize("name", ["a\0b", "a\0b.onnx"])
def test_paths_have_no_nul(name: str) -> None:
    assert "NUL" in refusal(lambda: partita.verify(name, made()))
    assert "NUL" in refusal(lambda: partita.verify(NET, name))


@pytest.mark.parametrize(
    ("lower", "upper", "words"),
    [
        (["0", 0], [1, 1], "lower of the input set must be an array of numbers"),
        ([True, False], [1, 1], "not of bool"),
        ([0, 0], [None, 1], "upper of the input set must be an array of numbers"),
        ([0, 0], [NAN, 1], "holds NaN or infinity"),
        ([0], [1, 1], "1 lower and 2 upper bounds, but the network has 2 inputs"),
    ],
)
def test_sides_of_a_box_are_numbers(lower: list, upper: list, words: str) -> None:
    for call in (partita.bound, partita.count_patterns, lambda n, s: partita.partition(n, s, ["triangle"])):
        assert words in refusal(lambda call=call: call(NET, (lower, upper)))


WRONG = [
    (Polytope(np.array([NAN, 0.0]), np.ones(2)), "holds NaN or infinity"),
    (Polytope(*BOX, np.array([[NAN, 1.0]]), np.zeros(1)), "holds NaN or infinity"),
    (Polytope(*BOX, np.ones((1, 2)), np.array([NAN])), "holds NaN or infinity"),
    (Polytope(*BOX, np.ones((1, 2)), np.array([-INF])), "holds NaN or infinity"),
    (Polytope(*BOX, np.ones((1, 3)), np.ones(1)), "half-spaces of shapes (1, 3) and (1,)"),
    (Polytope(*BOX, np.ones((1, 2)), np.ones(2)), "half-spaces of shapes (1, 2) and (2,)"),
    (Polytope(np.zeros(3), np.ones(3)), "3 lower and 3 upper bounds"),
    (Polytope(np.zeros((1, 2)), np.ones((1, 2))), "must be one-dimensional"),
]


@pytest.mark.parametrize(("inputs", "words"), WRONG)
def test_polytopes_made_by_hand_are_looked_at(inputs: Polytope, words: str) -> None:
    for call in (partita.bound, partita.count_patterns, lambda n, s: partita.partition(n, s, ["triangle"])):
        assert words in refusal(lambda call=call: call(NET, inputs))
    assert words in refusal(lambda: partita.verify(NET, made(inputs)))


@pytest.mark.parametrize(
    ("unsafe", "words"),
    [
        (UnsafeSet(np.array([[NAN, 1.0]]), np.zeros(1)), "holds NaN or infinity"),
        (UnsafeSet(np.ones((1, 2)), np.array([NAN])), "holds NaN or infinity"),
        (UnsafeSet(np.ones((1, 2)), np.array([INF])), "holds NaN or infinity"),
        (UnsafeSet(np.ones((1, 3)), np.ones(1)), "has the shapes (1, 3), (1,)"),
        (UnsafeSet(np.ones((2, 2)), np.ones(1)), "has the shapes (2, 2), (1,)"),
        (UnsafeSet(np.ones((1, 2)), np.ones(1), np.ones((1, 3))), "has the shapes (1, 2), (1,), (1, 3)"),
        (UnsafeSet(np.ones((1, 2)), np.ones(1), np.array([[NAN, 0.0]])), "holds NaN or infinity"),
    ],
)
def test_unsafe_sets_made_by_hand_are_looked_at(unsafe: UnsafeSet, words: str) -> None:
    assert words in refusal(lambda: partita.verify(NET, made(unsafe=unsafe)))


def test_an_input_without_an_end_is_none_of_a_property() -> None:
    endless = Polytope(np.array([-INF, 0.0]), np.ones(2))
    assert "without bounds" in refusal(lambda: partita.verify(NET, made(endless)))


@pytest.mark.parametrize("kind", [list, np.float32, np.int64])
def test_other_numbers_are_made_float64(kind: type) -> None:
    """Lists, float32 and whole numbers mean what float64 would."""
    convert = list if kind is list else (lambda a: np.asarray(a).astype(kind))
    rows, constants = [[1, -1]], [2]
    given = made(
        Polytope(convert([-1, -1]), convert([1, 1])),
        UnsafeSet(np.asarray(rows) if kind is list else convert(rows), convert(constants)),
    )
    expected = made(Polytope(*BOX), UnsafeSet(np.array(rows, float), np.array(constants, float)))
    assert partita.verify(NET, given).verdict == partita.verify(NET, expected).verdict
    found = property_of(given, 2, 2).cases[0]
    assert found.inputs.lower.dtype == found.unsafe[0].rows.dtype == np.float64
    np.testing.assert_array_equal(partita.bound(NET, given).lower, partita.bound(NET, BOX).lower)
    assert polytope_of(given.cases[0].inputs, 2).normals.shape == (0, 2)


def test_bounds_that_overflow_are_infinite() -> None:
    """No number is known where float64 overflows to none, and neither side hides that."""
    huge = (np.full(2, -1.7e308), np.full(2, 1.7e308))
    for seed in range(4):
        for relaxation in ("ibp", "crown", "alpha-crown"):
            report = partita.bound(random_network((2, 3, 2), seed), huge, relaxation)
            assert (report.lower <= report.upper).all() and np.isinf(report.lower).any()
            assert not any(np.isnan(side).any() for layer in report.layers for side in (layer.lower, layer.upper))
    assert "not a finite number" in refusal(lambda: partita.bound(random_network((2, 3, 2), 3), huge, "triangle"))
