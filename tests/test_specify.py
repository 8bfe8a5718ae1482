"""Properties made of numbers: what is refused, and that the box is the one that was asked for."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import partita
from partita.problems import property as public_home
from partita.problems.errors import BadInput
from partita.problems.network.library import random_network
from partita.problems.properties.specify import box_property, robustness_property, whole

FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=64, min_value=-1e300, max_value=1e300)
RADII = st.floats(min_value=0, max_value=1e300, allow_nan=False)


def inputs(prop):
    return prop.cases[0].inputs


def test_they_are_where_users_import_them():
    assert public_home.box_property is box_property
    assert public_home.robustness_property is robustness_property
    with pytest.raises(AttributeError):
        _ = public_home.sphere_property


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(FLOATS, RADII), min_size=1, max_size=5))
def test_the_box_is_rounded_outward_and_no_further(sides):
    """Against rational arithmetic: the bounds contain centre -+ radius, and the next numbers inwards do not."""
    center, radius = (np.array(part) for part in zip(*sides, strict=True))
    box = inputs(robustness_property(center, radius, 0, 2))
    for c, r, low, high in zip(center, radius, box.lower, box.upper, strict=True):
        least, most = Fraction(c) - Fraction(r), Fraction(c) + Fraction(r)
        assert Fraction(low) <= least
        assert most <= Fraction(high)
        assert math.isinf(math.nextafter(low, math.inf)) or Fraction(math.nextafter(low, math.inf)) > least
        assert math.isinf(math.nextafter(high, -math.inf)) or Fraction(math.nextafter(high, -math.inf)) < most


@settings(max_examples=300, deadline=None)
@given(FLOATS, RADII, FLOATS, FLOATS)
def test_a_clip_is_an_intersection(center, radius, first, second):
    """A range that misses the ball leaves nothing; it is never moved to the range's border."""
    low, high = min(first, second), max(first, second)
    free = inputs(robustness_property([center], radius, 0, 2))
    lower, upper = max(free.lower[0], low), min(free.upper[0], high)
    if lower <= upper:
        box = inputs(robustness_property([center], radius, 0, 2, clip=(low, high)))
        assert (box.lower[0], box.upper[0]) == (lower, upper)
    else:
        with pytest.raises(BadInput, match="the set is empty: at input 0"):
            robustness_property([center], radius, 0, 2, clip=(low, high))
        asked = robustness_property([center], radius, 0, 2, clip=(low, high), allow_empty=True)
        assert inputs(asked).empty


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.integers(-5, 12),
        st.booleans(),
        st.floats(),
        st.text(max_size=3),
        st.none(),
        st.integers(0, 9).map(np.int8),
        st.integers(0, 9).map(lambda k: np.array(k, dtype=np.uint64)),
        st.integers(0, 9).map(torch.tensor),
        st.booleans().map(np.bool_),
        st.booleans().map(torch.tensor),
        st.integers(0, 9).map(np.float32),
        st.integers(0, 9).map(float),
        st.integers(0, 9).map(lambda k: np.array([k])),
        st.integers(0, 9).map(lambda k: torch.tensor(float(k))),
        st.integers(0, 9).map(Fraction),
        st.integers(0, 9).map(str),
    )
)
def test_labels(label):
    """Whole numbers of every library are labels; nothing else is, however much it looks like one."""
    kinds = (int, np.integer)
    is_whole = isinstance(label, kinds) and not isinstance(label, bool)
    is_whole |= isinstance(label, np.ndarray) and label.ndim == 0 and label.dtype.kind in "iu"
    is_whole |= isinstance(label, torch.Tensor) and label.dtype == torch.int64
    if is_whole and 0 <= int(label) < 10:
        prop = robustness_property([0.0], 0.1, label, 10)
        rows = np.concatenate([unsafe.rows for unsafe in prop.cases[0].unsafe])
        assert rows.shape == (9, 10)
        assert (rows[:, int(label)] == 1).all()
        assert sorted(int(np.flatnonzero(row == -1)[0]) for row in rows) == [k for k in range(10) if k != int(label)]
    else:
        with pytest.raises(BadInput, match=r"label .*(whole number|is not one of 10 classes)") as refused:
            robustness_property([0.0], 0.1, label, 10)
        assert "\n" not in str(refused.value)


NAN, INF = float("nan"), float("inf")
BAD = [
    (([NAN], 0.1, 0, 2), {}, "center must be finite numbers; entry 0 is nan"),
    (([0.0, INF], 0.1, 0, 2), {}, "center must be finite numbers; entry 1 is inf"),
    ((["0.5"], 0.1, 0, 2), {}, "center must be an array of numbers"),
    (([True], 0.1, 0, 2), {}, "center must be an array of numbers, not of bool"),
    (([1j], 0.1, 0, 2), {}, "center must be an array of numbers"),
    (([None], 0.1, 0, 2), {}, "center must be an array of numbers"),
    (([Decimal("0.1")], 0.1, 0, 2), {}, "center must be an array of numbers"),
    (([[1.0], [1.0, 2.0]], 0.1, 0, 2), {}, "center must be an array of numbers"),
    (([2**53 + 1], 0.1, 0, 2), {}, "beyond 2.53"),
    (([-(2**53) - 1, 0], 0.1, 0, 2), {}, "beyond 2.53"),
    (([0.5], -0.1, 0, 2), {}, "radius must not be negative, and is -0.1"),
    (([0.5], -0.0001, 0, 2), {"clip": (0, 1)}, "radius must not be negative"),
    (([0.5], NAN, 0, 2), {}, "radius must be finite"),
    (([0.5], INF, 0, 2), {}, "radius must be finite"),
    (([0.5], "0.1", 0, 2), {}, "radius must be an array of numbers"),
    (([0.5], True, 0, 2), {}, "radius must be an array of numbers, not of bool"),
    (([0.5], None, 0, 2), {}, "radius must be an array of numbers"),
    (([0.5, 0.5], [0.1, 0.1, 0.1], 0, 2), {}, "radius must be a number or one for each of 2"),
    (([0.5, 0.5], [0.1, -0.1], 0, 2), {}, "radius must not be negative"),
    (([1.7e308], 1.7e308, 0, 2), {}, "too large"),
    (([0.5], 0.1, 2, 2), {}, "label 2 is not one of 2 classes"),
    (([0.5], 0.1, -1, 2), {}, "label -1 is not one of 2 classes"),
    (([0.5], 0.1, 0, 1), {}, "classes must be at least 2"),
    (([0.5], 0.1, 0, 2.0), {}, "classes must be a whole number"),
    (([0.5], 0.1, 0, True), {}, "classes must be a whole number"),
    (([0.5], 0.1, 0, 2), {"clip": (1, 0)}, r"clip must be \(low, high\), and 1 is greater than 0"),
    (([0.5], 0.1, 0, 2), {"clip": (0, NAN)}, "clip must be a pair of numbers"),
    (([0.5], 0.1, 0, 2), {"clip": 1}, "clip must be a pair"),
    (([0.5], 0.1, 0, 2), {"clip": (0, 1, 2)}, "clip must be a pair"),
    (([0.5], 0.1, 0, 2), {"clip": ("0", "1")}, "clip must be an array of numbers"),
    (([128.0], 2.0, 0, 2), {"clip": (0, 1)}, "are they in the same units"),
    (([1.05], 0.01, 0, 2), {"clip": (0, 1)}, "the set is empty: at input 0 the center 1.05"),
    (([0.5], 0.1, 0, 2), {"norm": 2}, "norm must be inf"),
    (([0.5], 0.1, 0, 2), {"norm": NAN}, "norm must be inf"),
    (([0.5], 0.1, 0, 2), {"norm": "l2"}, "norm must be inf"),
    (([0.5], 0.1, 0, 2), {"norm": True}, "norm must be inf"),
]


@pytest.mark.parametrize(("arguments", "options", "words"), BAD)
def test_what_is_refused(arguments, options, words):
    with pytest.raises(BadInput, match=words) as refused:
        robustness_property(*arguments, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([0.0], [NAN], [[1.0]], [0.0]), "upper must be finite numbers; entry 0 is nan"),
        (([-INF], [0.0], [[1.0]], [0.0]), "lower must be finite numbers; entry 0 is -inf"),
        (([0.0], [1.0], [[NAN]], [0.0]), "rows must be finite numbers"),
        (([0.0], [1.0], [[1.0]], [INF]), "constants must be finite numbers"),
        (([0.0], ["1"], [[1.0]], [0.0]), "upper must be an array of numbers"),
        (([0.0, 0.5], [1.0, 0.25], [[1.0]], [0.0]), "the box is empty: input 1 is at least 0.5 and at most 0.25"),
        (([0.0], [1.0, 2.0], [[1.0]], [0.0]), "do not fit"),
    ],
)
def test_boxes_that_are_refused(arguments, words):
    with pytest.raises(BadInput, match=words):
        box_property(*arguments)


def test_an_empty_set_that_was_asked_for_holds():
    empty = box_property([0.0], [-1.0], [[1.0]], [0.0], allow_empty=True)
    assert inputs(empty).empty
    graph = random_network((1, 3, 1))
    assert partita.verify(graph, empty).verdict == "unsat"


def test_what_is_accepted():
    for center in (
        torch.tensor([0.5]),
        np.float16([0.5]),
        [1],
        np.uint8([[3]]),
        torch.tensor([0.5], requires_grad=True),
    ):
        assert len(inputs(robustness_property(center, 0, 1, 3, norm="inf")).lower) == 1
    box = inputs(robustness_property([0.5, 0.5], [0.25, 0.0], np.int64(1), 3, clip=([0, 0.5], [0.625, 1]), norm=np.inf))
    np.testing.assert_array_equal(box.lower, [0.25, 0.5])
    np.testing.assert_array_equal(box.upper, [0.625, 0.5])
    assert inputs(robustness_property([0.5], 0.25, 0, 2, clip=(0, INF))).upper[0] == 0.75
    assert whole("label", np.int16(3)) == 3
