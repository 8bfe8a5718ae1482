"""What becomes a witness: decimals in the set exactly, fed as the nearest numbers, and confirmed by every judge."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import KINDS, graph_to_onnx, random_graph, random_property

import partita
from partita.bab.attack.disputed import Disputed
from partita.bab.attack.moving import moved_inside, snapped
from partita.bab.attack.placing import Places
from partita.bab.attack.witness import Judge
from partita.bab.config import load_config
from partita.bab.ending.results import result_text
from partita.bab.search.outcome import Outcome
from partita.bab.verify import verify
from partita.problems.load import load_network
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Affine, Graph, Input
from partita.problems.network.simplify import simplify
from partita.problems.originals.original import Original, original_of
from partita.problems.properties.elements import decimal_between, decimal_text, is_decimal, nearest
from partita.problems.properties.rational import ExactSet, Numbers, Row
from partita.problems.properties.witness_text import witness_text
from partita.problems.property import Case, Polytope, Property, UnsafeSet, box_property
from partita.relaxations.reals.over_reals import Answer

SINGLE = np.float32


def reread(text: str) -> Fraction:
    """A decimal's text as a rational number, by hand: sign, digits, point, exponent."""
    found = re.fullmatch(r"(-?)(\d+)(?:\.(\d+))?(?:e([-+]?\d+))?", text)
    assert found, text
    sign, whole, part, exponent = found[1], found[2], found[3] or "", int(found[4] or 0)
    value = Fraction(int(whole + part), 1) * Fraction(10) ** (exponent - len(part))
    return -value if sign else value


def closest(value: Fraction, element) -> set[float]:
    """The numbers of the type that are nearest to a rational, by trying its neighbours."""
    middle = element(float(value))
    around = {float(middle)}
    for _ in range(3):
        around |= {float(np.nextafter(element(v), element(side))) for v in around for side in (-np.inf, np.inf)}
    least = min(abs(Fraction(v) - value) for v in around)
    return {v for v in around if abs(Fraction(v) - value) == least}


# ---- decimals

FRACTIONS = st.one_of(
    st.fractions(-100, 100, max_denominator=10**6),
    st.decimals(-1000, 1000, places=9).map(Fraction),
    st.floats(-1e30, 1e30).map(Fraction),
    st.tuples(st.floats(2.0**-99, 2.0**99, width=32), st.integers(-2, 2)).map(
        # Half-way points of float32, and a hair beside them: where rounding twice goes wrong.
        lambda p: (
            (Fraction(p[0]) + Fraction(float(np.nextafter(SINGLE(p[0]), SINGLE(np.inf)))))
            / 2
            * (1 + Fraction(p[1], 2**70))
        )
    ),
)


@given(FRACTIONS, st.sampled_from([np.float32, np.float64]))
def test_nearest_number(value, element):
    found = nearest(value, element)
    assert found in closest(value, element) and element(found) == found
    ends = closest(value, element)
    if len(ends) == 2:  # a tie goes to the even one
        assert int(element(found).view(np.uint32 if element is SINGLE else np.uint64)) % 2 == 0


def test_nearest_number_beyond_the_largest():
    assert nearest(Fraction(10) ** 39, SINGLE) == np.inf and nearest(-(Fraction(10) ** 400), np.float64) == -np.inf


@given(FRACTIONS)
def test_texts_are_exact(value):
    if is_decimal(value):
        assert reread(decimal_text(value)) == value
    else:
        with pytest.raises(ValueError, match="no end"):
            decimal_text(value)


@given(FRACTIONS, FRACTIONS, FRACTIONS, st.booleans(), st.booleans())
def test_a_decimal_between(a, b, near, open_low, open_high):
    low, high = min(a, b), max(a, b)
    for high_ in (high, low + Fraction(1, 10**30), low):
        found = decimal_between(low, high_, open_low, open_high, near)
        if found is None:
            assert low == high_ and (open_low or open_high or not is_decimal(low))
        else:
            assert low <= found <= high_ and is_decimal(found)
            assert not (found == low and open_low) and not (found == high_ and open_high)


# ---- points


@st.composite
def intervals(draw):
    """Bounds as files have them: decimals, points, float32 numbers, slivers between two of these, open ends."""
    low = draw(
        st.one_of(
            st.decimals(-2, 2, places=6).map(Fraction),
            st.floats(-2, 2, width=32).map(Fraction),
            st.floats(-2, 2).map(Fraction),
        )
    )
    width = draw(
        st.sampled_from([Fraction(0), Fraction(1, 10**12), Fraction(1, 10**20), Fraction(1, 10**7), Fraction(1, 2)])
    )
    high = low + width
    return low, high, draw(st.booleans()) and width > 0, draw(st.booleans()) and width > 0


def box_of(parts, rows=()) -> Polytope:
    """The polytope with these exact intervals, its float64 arrays rounded outward."""
    ends = []
    for side, outward in ((0, -np.inf), (1, np.inf)):
        values = [part[side] for part in parts]
        near = np.array([float(v) for v in values])
        others = {i: v for i, v in enumerate(values) if Fraction(float(v)) != v}
        out = near.copy()
        for i in others:
            out[i] = np.nextafter(near[i], outward)
        ends.append((Numbers(near, others), out))
    exact = ExactSet(
        ends[0][0],
        ends[1][0],
        frozenset(i for i, p in enumerate(parts) if p[2]),
        frozenset(i for i, p in enumerate(parts) if p[3]),
        tuple(rows),
    )
    normals = np.zeros((len(rows), len(parts)))
    for r, row in enumerate(rows):
        normals[r, list(row.terms)] = [float(a) for a in row.terms.values()]
    offsets = np.array([-float(row.constant) for row in rows])
    return Polytope(ends[0][1], ends[1][1], normals, offsets, exact)


def has_number(low, high, open_low, open_high, element) -> bool:
    """Whether the interval holds a number of the type: one of the first few from its lower end on."""
    number = np.nextafter(element(nearest(low, element)), element(-np.inf))
    for _ in range(4):
        value = Fraction(float(number))
        if low <= value <= high and not (value == low and open_low) and not (value == high and open_high):
            return True
        number = np.nextafter(number, element(np.inf))
    return False


@settings(max_examples=300, deadline=None)
@given(st.lists(intervals(), min_size=1, max_size=5), st.floats(-0.1, 1.1), st.sampled_from([np.float32, np.float64]))
def test_points_lie_in_the_box_and_are_fed_as_the_nearest_numbers(parts, share, element):
    box = box_of(parts)
    places = Places(box, element)
    x = np.array([float(low) + share * float(high - low) for low, high, _, _ in parts])
    point = places.point(x)
    assert point is not None and box.holds(list(point))
    for i, (low, high, open_low, open_high) in enumerate(parts):
        decimal, fed = reread(decimal_text(point[i])), float(point.near[i])
        assert decimal == point[i] and low <= decimal <= high
        assert not (decimal == low and open_low) and not (decimal == high and open_high)
        assert fed in closest(decimal, element)
        inside = has_number(low, high, open_low, open_high, element)
        assert (i in places.outside(point)) == (not inside)
        if inside:
            assert Fraction(fed) == decimal
        else:
            half = Fraction(float(np.spacing(element(abs(fed))))) / 2
            assert max(low - Fraction(fed), Fraction(fed) - high) <= half


def test_no_point_where_there_is_no_decimal_or_no_number():
    third = Fraction(1, 3)
    assert Places(box_of([(third, third, False, False)])).point(np.array([1 / 3])) is None
    huge = Fraction(10) ** 39
    assert Places(box_of([(huge, huge, False, False)])).point(np.array([1e39])) is None
    assert Places(box_of([(huge, huge, False, False)]), np.float64).point(np.array([1e39])) is not None


def test_half_spaces_hold_exactly():
    """x_0 + x_1 = 1, which float32 numbers near 0.3 and 0.7 do not solve, and 3 x_0 < 1 strictly."""
    unit, one = (Fraction(0), Fraction(1), False, False), Fraction(1)
    equal = [Row({0: one, 1: one}, -one), Row({0: -one, 1: -one}, one)]
    for target in (0.3, 0.0, 1.0, 0.123456789):
        point = Places(box_of([unit, unit], equal)).point(np.array([target, 1 - target]))
        assert point is not None and point[0] + point[1] == 1
        assert abs(point.near[0] - target) < 1e-6
    strict = Row({0: Fraction(3)}, -one, strict=True)
    point = Places(box_of([unit], [strict])).point(np.array([1.0]))
    assert point is not None and 3 * point[0] < 1 and point[0] > Fraction(33, 100)
    sliver = [Row({0: Fraction(3)}, -one, strict=True), Row({0: Fraction(-3)}, one - Fraction(1, 10**12), strict=True)]
    point = Places(box_of([unit], sliver)).point(np.array([1.0]))
    assert point is not None and 1 - Fraction(1, 10**12) < 3 * point[0] < 1
    thin = [Row({0: one}, Fraction(-3, 10), strict=True), Row({0: -one}, Fraction(3, 10) - Fraction(1, 10**24), True)]
    for rows in (thin, thin[::-1]):  # thinner than any float: solved to 25 digits, on the right side of the border
        point = Places(box_of([unit], rows)).point(np.array([0.3]))
        assert point is not None and Fraction(3, 10) - Fraction(1, 10**24) < point[0] < Fraction(3, 10)
    nothing = [Row({0: one, 1: one}, one)]
    assert Places(box_of([unit, unit], nothing)).point(np.array([0.5, 0.5])) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_points_of_random_polytopes(seed):
    random = np.random.default_rng(seed)
    parts = [(Fraction(f"{v:.4f}"), Fraction(f"{v:.4f}") + Fraction(1, 2), False, False) for v in random.normal(size=4)]
    middle = [(low + high) / 2 for low, high, _, _ in parts]
    rows = []
    for _ in range(3):
        terms = {i: Fraction(f"{a:.3f}") for i, a in enumerate(random.normal(size=4))}
        value = sum((a * middle[i] for i, a in terms.items()), Fraction(0))
        rows.append(Row(terms, -value, strict=bool(random.integers(2))))
    polytope = box_of(parts, rows)
    point = Places(polytope).point(np.array([float(v) for v in middle]) + random.normal(size=4) / 4)
    if point is not None:
        assert polytope.holds([reread(decimal_text(v)) for v in point])


def test_a_rational_point_is_kept_where_it_can_be_fed():
    unit = (Fraction(0), Fraction(1), False, False)
    places = Places(box_of([unit, unit, (Fraction(0), Fraction(1, 10), False, False)]))
    point = places.exactly([Fraction(1, 10), Fraction(1, 3), Fraction(1, 10)])
    assert point[0] == Fraction(1, 10) and point.near[0] == SINGLE(0.1)
    assert point[1] == Fraction(float(SINGLE(1 / 3)))  # no decimal
    assert point[2] < Fraction(1, 10)  # what 0.1 would be fed as lies outside, and the interval holds others
    assert places.exactly([Fraction(2), Fraction(0), Fraction(0)])[0] == 1


def test_open_ends_and_strict_rows_are_no_places():
    """A decimal that a float32 number stands for, and a sum of numbers, exactly on the border."""
    tenth = Fraction(1, 10)
    for parts in ([(tenth, Fraction(1), True, False)], [(Fraction(0), Fraction(7, 10), False, True)]):
        places = Places(box_of(parts))
        for end in parts[0][:2]:
            point = places.exactly([end])
            assert point is not None and places.set.lower[0] <= point[0] <= places.set.upper[0]
            assert point[0] != (tenth if parts[0][2] else Fraction(7, 10))
    unit, one = (Fraction(0), Fraction(1), False, False), Fraction(1)
    half = [Fraction(1, 2), Fraction(1, 2)]
    for strict in (False, True):
        places = Places(box_of([unit, unit], [Row({0: one, 1: one}, -one, strict)]))
        assert (places.exactly(half) is None) == strict
        assert sum(places.point(np.array([0.5, 0.5]))) < 1 or not strict


# ---- judges


def linear(weight, bias=0.0) -> Graph:
    weight = torch.tensor(weight, dtype=torch.float64)
    node = Affine((0,), (Dense(weight),), torch.full((len(weight),), bias, dtype=torch.float64))
    return Graph((Input(weight.shape[1]), node), (1, weight.shape[1]), (1, len(weight)))


def single(confirm, **more) -> Original:
    return Original(confirm, element=lambda: SINGLE, **more)


def at_most(bound: float, strict=False) -> Property:
    """On [0, 1], unsafe where y <= bound (y < bound)."""
    made = box_property([0.0], [1.0], np.ones((1, 1)), [-bound])
    (case,) = made.cases
    rows = (Row({0: Fraction(1)}, -Fraction(bound), strict),)
    return replace(made, cases=(Case(case.inputs, (replace(case.unsafe[0], exact=rows),)),))


def roundabout() -> Graph:
    """y = (x + 1) - 1, in two layers: as large a number on the way as lets float32 lose a small x."""
    unit = Dense(torch.ones(1, 1, dtype=torch.float64))
    nodes = [Affine((i,), (unit,), torch.tensor([b], dtype=torch.float64)) for i, b in enumerate((1.0, -1.0))]
    return Graph((Input(1), *nodes), (1, 1), (1, 1))


GOAL, HALF = (0, 0), np.array([0.5])
CLEAR = -0.25  # y = x - 1 is below it at 1/2, by far


def test_each_judge_can_refuse():
    """The witness needs onnxruntime, the real numbers and the module, each for itself."""
    graph, honest, lying = linear([[1.0]], -1.0), lambda x: x - 1.0, lambda x: x + 1.0
    prop = at_most(CLEAR)
    assert Judge(graph, prop, single(honest, module=honest))(HALF, GOAL)
    assert Judge(graph, prop, single(lying, module=honest))(HALF, GOAL) is None
    assert Judge(graph, prop, single(honest, module=lying))(HALF, GOAL) is None
    assert Judge(linear([[1.0]], 1.0), prop, single(honest, module=honest))(HALF, GOAL) is None
    for not_a_number in (np.nan, np.inf, -np.inf):
        assert Judge(graph, prop, single(lambda x, y=not_a_number: x + y))(HALF, GOAL) is None


def test_what_nobody_can_tell_is_no_witness():
    """The judge of the real numbers may leave it open."""
    graph, prop = linear([[1.0]], -1.0), at_most(CLEAR)

    class Open:
        said: bool | None = None

        def judge(self, point, unsafe):
            return Answer(self.said, 0, -1e-9, -1e-9)

    reals = Open()
    for said in (True, None, False):
        reals.said = said
        found = Judge(graph, prop, single(lambda x: x - 1.0), reals=reals)(HALF, GOAL)
        assert (found is not None) == (said is True)


def test_judges_are_fed_numbers_of_the_element_type():
    """0.1 alone is in the input set, which is no float32 number: all see the nearest one."""
    seen = []

    def run(x):
        seen.append(x.copy())
        return x - 1.0

    tenth = Fraction(1, 10)
    unsafe = at_most(CLEAR).cases[0].unsafe
    prop = Property((Case(box_of([(tenth, tenth, False, False)]), unsafe),), 1, 1)
    found = Judge(linear([[1.0]], -1.0), prop, single(run, module=run))(np.array([0.1]), GOAL)
    assert found.decimals == ("0.1",) and found.outside == (0,)
    assert found.x.tolist() == [0.1] and found.fed.tolist() == [float(SINGLE(0.1))]
    assert len(seen) >= 2 and all(x.tolist() == [float(SINGLE(0.1))] for x in seen)


def test_a_graph_that_lies_is_caught_by_the_network_as_written():
    """Within what fusing put in doubt, the written network judges."""
    prop, x = at_most(0.0), np.array([0.0])
    assert Judge(linear([[1.0]], 0.0), prop, single(lambda x: x))(x, GOAL)
    written = linear([[1.0]], -1.0 + 2.0**-40)
    lying = linear([[1.0]], -1.0)
    doubt = torch.full((1,), 2.0**-36, dtype=torch.float64)
    rounded = replace(lying, nodes=(lying.nodes[0], replace(lying.nodes[1], rounded=True, doubt=doubt)))
    assert Judge(rounded, at_most(-1.0), single(lambda x: x - 1, written=lambda: written))(x, GOAL) is None
    assert Judge(rounded, at_most(-1.0), single(lambda x: x - 1, written=lambda: lying))(x, GOAL)


@pytest.mark.parametrize("short", [1e-4, 1e-5, 1e-7, 1e-10, 1e-13])
def test_what_only_rounding_makes_unsafe_is_no_witness(short):
    """However close the outputs of the network come: onnxruntime is not believed against the real numbers."""
    graph, prop = roundabout(), at_most(-short)
    judge = Judge(graph, prop, single(lambda x: x - 1.0))
    assert judge(np.array([0.0]), GOAL) is None
    if short <= 1e-10:  # near enough to be put before the others
        assert judge.disputed.values[0] == ("onnxruntime", f"{-1.0 + short:.9g}")
        assert judge.disputed.excess == pytest.approx(short)


def test_onnxruntime_is_strict_and_without_tolerance():
    """One float32 step above the threshold is above."""
    graph = linear([[1.0]], -1.0)
    for strict, y, unsafe in (
        (False, CLEAR, True),
        (True, CLEAR, False),
        (False, float(np.nextafter(SINGLE(CLEAR), SINGLE(1))), False),
        (True, float(np.nextafter(SINGLE(CLEAR), SINGLE(-1))), True),
    ):
        prop = at_most(CLEAR, strict)
        found = Judge(graph, prop, single(lambda x, y=y: np.array([y])))(HALF, GOAL)
        assert (found is not None) == unsafe
        # The module likewise.
        found = Judge(graph, prop, single(lambda x: x - 1, module=lambda x, y=y: np.array([y])))(HALF, GOAL)
        assert (found is not None) == unsafe


def test_the_border_itself():
    """y = x - 1 on [0, 1]: -1 is reached at 0 alone, which is unsafe where the row is not strict."""
    graph = linear([[1.0]], -1.0)
    for strict in (False, True):
        for start in (0.0, 1e-9):
            found = Judge(graph, at_most(-1.0, strict), single(lambda x: x - 1))(np.array([start]), GOAL)
            assert (found is None) == strict
            assert strict or found.decimals == ("0.0",)


def test_a_rational_row_that_float64_cannot_hold():
    """Unsafe where 3 y <= 1: float64 has 1/3 too small, and y = 1/3 rounded up is above it."""
    x = np.array([1 / 3])
    row = Row({0: Fraction(1)}, Fraction(-1, 3))
    unsafe = UnsafeSet(np.ones((1, 1)), np.array([-1 / 3]), exact=(row,))
    above = Fraction(float(np.nextafter(1 / 3, 1)))
    for value in (Fraction(1 / 3), above):
        case = Case(box_of([(value, value, False, False)]), (unsafe,))
        found = Judge(linear([[1.0]]), Property((case,), 1, 1), Original(lambda x: x))(x, GOAL)
        assert (found is not None) == (value <= Fraction(1, 3))


def test_onnxruntime_alone_where_it_is_the_judge():
    graph, prop = roundabout(), at_most(-1e-7)
    rounded = single(lambda x: x - 1.0)
    assert Judge(graph, prop, rounded)(np.array([0.0]), GOAL) is None
    assert Judge(graph, prop, rounded, "onnxruntime")(np.array([0.0]), GOAL)
    assert Judge(graph, prop, single(lambda x: x + 1.0), "onnxruntime")(np.array([0.0]), GOAL) is None


def test_onnxruntime_alone_prefers_a_margin():
    """Of several points that it confirms, the one deepest in the unsafe set."""
    graph, prop = linear([[1.0]], -1.0), at_most(-1.0 + 1e-6)
    found = Judge(graph, prop, single(lambda x: x - 1.0), "onnxruntime")(np.array([1e-6]), GOAL)
    assert found.margin == pytest.approx(-1e-6, rel=1e-3)  # at 0, not at 1e-6, where it is barely unsafe


@pytest.mark.parametrize("kind", KINDS)
def test_witnesses_of_random_networks(kind):
    """Through the command's own text, read again by an independent reader."""
    count = 0
    for seed in range(6):
        graph = random_graph(seed, kind, inputs=4)
        prop = random_property(seed, graph, halfspaces=seed % 3, rows=1 + seed % 3)
        original = original_of(graph_to_onnx(graph))
        said = verify(graph, prop, load_config(None, {"timeout": 5}), confirm=original)
        if said.verdict != "sat":
            continue
        count += 1
        text = result_text(said, prop)
        decimals = [reread(v) for v in re.findall(r"\(X_\d+ (\S+?)\)", text)]
        y = np.array([float(v) for v in re.findall(r"\(Y_\d+ (\S+?)\)", text)])
        fed = np.array([float(v) for v in decimals])
        assert any(case.inputs.holds(decimals) for case in prop.cases)
        np.testing.assert_array_equal(fed, said.witness[0])
        np.testing.assert_array_equal(original(fed), y)
        np.testing.assert_array_equal(y, said.witness[1])
        assert not said.outside and (fed == fed.astype(SINGLE)).all()
    assert count


def test_a_witness_lies_strictly_inside_where_it_can():
    graph = linear([[1.0, -1.0]])
    prop = box_property(-np.ones(2), np.ones(2), np.ones((1, 1)), [1.0])
    witness = Judge(graph, prop, single(lambda x: np.array([x[0] - x[1]])))(np.array([-1.0, 0.0]), GOAL)
    assert (np.abs(witness.x) < 1).all() and witness.y[0] < -1.0


def test_points_are_moved_down_and_off_the_borders():
    """To the corner of the box that is shrunk by 1e-4 of its width, the last and least point of the way."""
    inputs, rows = Polytope(-np.ones(2), np.ones(2)), UnsafeSet(np.ones((1, 1)), np.zeros(1))
    moved = moved_inside(linear([[1.0, -1.0]]), np.array([-0.9, 0.9]), inputs, rows, far=True)
    assert moved == pytest.approx([-1 + 2e-4, 1 - 2e-4], abs=1e-12)
    tied = replace(rows, on_input=np.array([[-3.0, 0.0]]))  # y - 3 x_0 falls where y = x_0 rises
    moved = moved_inside(linear([[1.0, 0.0]]), np.zeros(2), inputs, tied, far=True)
    assert moved[0] > 0.1 and moved[1] == 0
    cut = Polytope(-np.ones(2), np.ones(2), np.array([[1.0, 0.0]]), np.array([0.05]))
    moved = moved_inside(linear([[0.0, 1.0]]), np.array([0.1, 0.0]), cut, UnsafeSet(np.ones((1, 1)), -np.ones(1)))
    assert -0.1 < moved[0] < 0.05
    assert snapped(np.array([-1 + 1e-9, 1 - 1e-9]), inputs).tolist() == [-1, 1]
    assert snapped(np.array([-1 + 1e-3, 1 - 1e-3]), inputs).tolist() == [-1 + 1e-3, 1 - 1e-3]


@pytest.mark.parametrize("strict", [False, True])
def test_a_disputed_point_is_told_with_all_that_was_said(strict):
    """Its decimals in full, the row that the real numbers name, each judge's value of it, and the worst of all."""
    x = [Fraction(1, 10**30) + 1]
    rows = (Row({0: Fraction(1)}, Fraction(-1), strict), Row({0: Fraction(2)}, Fraction(-4), strict))
    unsafe = UnsafeSet(np.array([[1.0], [2.0]]), np.array([-1.0, -4.0]), exact=rows)
    said = [("onnxruntime", np.array([2.5])), ("the module", np.array([1.5]))]
    answer = Answer(False, 1, -0.25, 0.75)
    found = Disputed.of(x, GOAL, unsafe, answer, said)
    assert found.decimals == ("1.000000000000000000000000000001",)
    assert found.row == 1 and dict(found.values)["onnxruntime"] == "1" and dict(found.values)["the module"] == "-1"
    assert found.excess == 1.5  # of row 0 by onnxruntime
    assert dict(found.values)["the real numbers"] == "-0.25 to 0.75"
    known = Disputed.of(x, GOAL, unsafe, Answer(False, 1, Fraction(3, 4), Fraction(3, 4)), said)
    assert dict(known.values)["the real numbers"] == "0.75"
    assert ("unsafe below 0, is" in found.sentence()) == strict != ("unsafe from 0 down, is" in found.sentence())
    assert Disputed.of(x, GOAL, unsafe, Answer(False, 1, -0.25, 7.0), said).excess == 7
    assert Disputed.of(x, GOAL, unsafe, None, said[:1]).row == 0  # the worst of the first judge's
    unknown = Disputed.of(x, GOAL, unsafe, None, [("onnxruntime", np.array([np.nan]))])
    assert unknown.row == 0 and unknown.values == (("onnxruntime", "not a number"),) and unknown.excess == np.inf


def test_values_beyond_float64_are_told_as_the_largest_there_is():
    """A row of 2^500 at an output of 1e200, in exact numbers; nothing overflows."""
    rows = (Row({0: Fraction(2) ** 500}, Fraction(0)),)
    unsafe = UnsafeSet(np.array([[2.0**500]]), np.zeros(1), exact=rows)
    value = rows[0].value([Fraction(10) ** 200])
    largest = np.finfo(float).max
    for sign, excess in ((1, largest), (-1, -largest)):
        said = [("onnxruntime", np.array([sign * 1e200]))]
        found = Disputed.of([Fraction(1)], GOAL, unsafe, Answer(sign < 0, 0, sign * value, sign * value), said)
        assert found.excess == excess and f"{excess:.9g} by onnxruntime" in found.sentence()


# ---- what is shown


def test_the_outcome_names_inputs_that_hold_no_number():
    parts = [(Fraction(1, 10), Fraction(1, 10), False, False), (Fraction(0), Fraction(1), False, False)]
    prop = Property((Case(box_of(parts), (UnsafeSet(np.ones((1, 1)), np.array([-5.0])),)),), 2, 1)
    original = single(lambda x: np.array([x.sum()]))
    said = verify(linear([[1.0, 1.0]]), prop, load_config(), confirm=original)
    assert said.verdict == "sat" and said.outside == (0,) and said.decimals[0] == "0.1"
    assert "1 inputs (X_0) hold no float32 number" in said.reason
    assert result_text(said, prop).startswith("sat\n((X_0 0.1)\n (X_1 ")


@pytest.mark.parametrize("options", [{}, {"relaxation": "exact"}])
def test_an_undecided_run_shows_the_point_on_which_judges_disagree(options):
    """y = x - 1 on [0, 1] is -1 at 0, which an original that rounds up does not confirm."""
    original = single(lambda x: x - 1.0 + 1e-7)
    said = verify(linear([[1.0]], -1.0), at_most(-1.0), load_config(None, options), confirm=original)
    assert said.verdict == "unknown"
    assert said.stats["disputed"] in said.reason
    for part in ("judges disagree at the point X_0 = 0.0:", "by onnxruntime", "0 by the real numbers"):
        assert part in said.reason


def test_the_judge_can_be_chosen():
    """On [1e-9, 1], y = x is never <= 0; in float32 (x + 1) - 1 is."""
    original = single(lambda x: (x.astype(SINGLE) + SINGLE(1)) - SINGLE(1))
    graph, prop = roundabout(), box_property([1e-9], [1.0], np.ones((1, 1)), [0.0])
    said = verify(graph, prop, load_config(None, {"judge": "onnxruntime"}), confirm=original)
    assert said.verdict == "sat" and "onnxruntime alone judged" in said.reason
    assert verify(graph, prop, load_config(), confirm=original).verdict == "unsat"
    assert load_config("competition").judge == "onnxruntime"


def test_a_measured_judgement_is_said(monkeypatch):
    graph, prop, original = linear([[1.0]], -1.0), at_most(CLEAR), single(lambda x: x - 1)
    assert "measured" not in verify(graph, prop, load_config(), confirm=original).reason
    monkeypatch.setattr(
        "partita.bab.attack.witness.OverReals.judge", lambda *_: Answer(True, 0, -1.0, -1.0, measured=True)
    )
    assert "which was measured instead" in verify(graph, prop, load_config(), confirm=original).reason


def test_sets_without_rows_are_judged_as_well():
    """Every output is unsafe, and the input's interval is open at both ends, or holds nothing at all."""
    sliver = (Fraction(1), Fraction(1) + Fraction(1, 10**12), True, True)
    prop = Property((Case(box_of([sliver]), (UnsafeSet(np.zeros((0, 1)), np.zeros(0)),)),), 1, 1)
    said = verify(linear([[1.0]]), prop, load_config(), confirm=single(lambda x: x))
    assert said.verdict == "sat" and said.outside == (0,)
    assert 1 < reread(said.decimals[0]) < 1 + Fraction(1, 10**12)


def test_results_hold_the_decimals_themselves():
    """Digits beyond float64 are the witness; the nearest float64 number may lie outside the input set."""
    digits = "0.3000000000000000000000001"
    said = Outcome("sat", "", (np.array([0.3]), np.array([-1.0])), decimals=(digits,))
    text = result_text(said, at_most(0.0))
    assert text.startswith("sat\n") and f"(X_0 {digits})" in text
    assert result_text(replace(said, verdict="unknown"), at_most(0.0)) == "unknown\n"


def test_text_of_a_witness():
    y = np.array([1 / 3, 1e22])
    text = witness_text(("0.1", "-1e-17"), y)
    assert text == f"((X_0 0.1)\n (X_1 -1e-17)\n (Y_0 {1 / 3!r})\n (Y_1 1e+22))"


def test_text_in_the_terms_of_a_version_2_file():
    from partita.problems.properties.property import Declaration, TensorDeclaration

    declared = Declaration("N", TensorDeclaration("In", "real", (1, 2, 2)), TensorDeclaration("Out", "real", (2,)))
    text = witness_text(("0.0", "0.25", "1", "1e-9"), np.array([1.0, -2.0]), declared)
    assert text.splitlines() == ["In real [1,2,2]", "0.0", "0.25", "1", "1e-9", "Out real [2]", "1.0", "-2.0"]


def test_a_hand_made_graph_is_fed_float64():
    """0.1 in float64 is its own decimal, and no float32 number."""
    prop = box_property([0.1], [0.1], np.ones((1, 1)), [-1.0])
    said = partita.verify(linear([[1.0]]), prop)
    assert said.verdict == "sat" and said.witness[0] == 0.1 and not said.outside
    assert reread(said.decimals[0]) == Fraction(0.1)


def test_a_hand_made_graph_is_its_own_original_in_float64():
    """Its outputs are not rounded to float32 on the way."""
    graph, original = load_network(linear([[1.0 + 2.0**-40]], 2.0**-50))
    x = np.array([1.0 + 2.0**-45])
    assert float(original(x)[0]) == graph(torch.from_numpy(x)).item() > 1.0 + 2.0**-41
    assert original.element() is np.float64


def test_the_original_of_a_file_says_what_it_is_fed_and_how_it_was_written():
    """float32 numbers; and the layers as they stand in the file, two affine maps that the search fuses into one."""
    graph = roundabout()
    original = original_of(graph_to_onnx(graph))
    assert original.element() is np.float32
    written, fused = original.written(), simplify(graph)
    assert len(written.nodes) > len(fused.nodes)
    x = torch.tensor([0.375], dtype=torch.float64)
    assert written(x).item() == fused(x).item() == 0.375
