"""What a property says, number for number: each rounding, each strictness, each bound, beside rational arithmetic."""

from __future__ import annotations

import itertools
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partita.problems.errors import BadInput
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Affine, Graph, Input
from partita.problems.properties.bounds import Side
from partita.problems.properties.decimals import closest, fraction, gap_of, gaps_of, nearest, outward
from partita.problems.properties.enclosure import enclose
from partita.problems.properties.rational import ExactSet, Numbers, Row, distance
from partita.problems.properties.vnnlib import parse_property
from partita.problems.property import Polytope, Property, UnsafeSet, robustness_property

NEAR = "0.1000000000000000055511151231257827021181583404541015625"  # what float64 has for a tenth
WRITTEN = st.sampled_from(["0.1", "0.10", NEAR, "0.10000000000000000001", "0.5", "0.50", "-0.3"])

DECLARE = "\n".join(f"(declare-const {v} Real)" for v in ("X_0", "X_1", "Y_0", "Y_1")) + "\n"
BOX = "(assert (<= X_0 1))(assert (>= X_0 -1))(assert (<= X_1 1))(assert (>= X_1 -1))\n"
ANY = "(assert (<= Y_0 1000))"


def parse(text: str) -> Property:
    return parse_property(DECLARE + text, 2, 2, "p.vnnlib")


def counterexample(found: Property, x, y) -> bool:
    x, y = ([Fraction(v) for v in values] for values in (x, y))
    return any(c.inputs.holds(x) and any(unsafe.holds(x, y) for unsafe in c.unsafe) for c in found.cases)


# Decimals.


def test_texts_are_told_from_the_float64_beside_them():
    random = np.random.default_rng(0)
    texts = [f"{random.normal() * 10.0 ** random.integers(-4, 5):.{random.integers(1, 14)}f}" for _ in range(3000)]
    texts += [repr(float(v)) for v in random.normal(size=500)] + ["0.1", "-0.1", "0.5", "1e-400", "123456789012345678"]
    texts += [str(Decimal(float(v))) for v in random.normal(size=20)]
    texts += ["-.5", "+5.", "-0", "0.0", ".1e1", "1e308", "-7E-3", "0." + "3" * 60, "0." + "1" * 4500, "9" * 40 + ".5"]
    near = [float(text) + 0.0 for text in texts]
    for text, value, sign in zip(texts, near, gaps_of(texts, np.array(near)).tolist(), strict=True):
        true = Fraction(Decimal(text))
        assert sign == (Fraction(value) > true) - (Fraction(value) < true) == gap_of(text, value), text
        assert (value, sign) == nearest(Decimal(text)) and value == closest(Decimal(text))
        assert (true, value, sign) == fraction(Decimal(text))
        assert Fraction(outward(Decimal(text), up=False)) <= true <= Fraction(outward(Decimal(text), up=True))


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), Fraction(-(10**700), 3), Decimal("1e4000"), Fraction(1, 10**400), 0]
)
def test_fractions_beyond_float64_have_the_nearest_finite_one(value):
    true, near, gap = fraction(value)
    assert true == value and (near, gap) == nearest(value) and np.isfinite(near)


@pytest.mark.parametrize("sign", [1, -1])
def test_few_bounds_and_many_are_read_alike(sign):
    """Of bounds on a few inputs, many of which round alike, the same are kept, and they are the tightest."""
    random = np.random.default_rng(3 + sign)
    near_third = [
        "0.3333333333333333148296",
        "0.33333333333333331482",
        "0.3333333333333333",
        "0.333333333333333314829617",
    ]
    pool = [*near_third, *("-" + text for text in near_third), "0", "-0.0", "0.5", "5e-1", "0.1", "0.10", "1e-330", "7"]
    for _ in range(300):
        n, size = int(random.integers(1, 12)), 4
        index, strict = random.integers(0, size, n), random.random(n) < 0.4
        texts = [pool[k] for k in random.integers(0, len(pool), n)]
        near = np.array(list(map(float, texts))) + 0.0
        many = Side.of_texts(sign, size, index, texts, near, gaps_of(texts, near), strict)
        few = Side.of_few(sign, size, list(zip(index.tolist(), texts, strict.tolist(), strict=True)))
        assert (few.near == many.near).all() and (few.outward == many.outward).all() and few.open == many.open
        assert few.whole == many.whole == (len(set(index.tolist())) == size)
        for i in set(index.tolist()):
            own = [(sign * Fraction(Decimal(texts[k])), not strict[k]) for k in np.flatnonzero(index == i)]
            value, closed = min(own)
            assert few.numbers[i] == many.numbers[i] == sign * value and (i in few.open) == (not closed)
            assert sign * Fraction(few.outward[i]) >= value


def test_distances_are_rounded_up():
    random = np.random.default_rng(1)
    for _ in range(500):
        exact = Fraction(int(random.integers(1, 10**9)), int(random.integers(1, 10**9)))
        gap = abs(exact - Fraction(float(exact)))
        found = distance(exact, float(exact))
        assert Fraction(found) >= gap and (found > 0) == (gap > 0)
    assert distance(Fraction(1, 3), 1 / 3) > 0 and distance(Fraction(1, 4), 0.25) == 0


# Sets.

NEAR_TENTH = "0.1000000000000000055511151231257827"  # a little less than the float64 0.1, a little more than 1/10


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("below", [True, False])
def test_the_tightest_of_bounds_that_round_alike_wins(order, below):
    """Upper (lower) bounds 0.1 strict, 0.1, and one that float64 cannot tell from them; skimmed and folded."""
    relation, strict = ("<=", "<") if below else (">=", ">")
    texts = [f"({strict} X_0 0.1)", f"({relation} X_0 0.1)", f"({relation} X_0 {NEAR_TENTH})"]
    lines = "".join(f"(assert {texts[k]})" for k in order)
    folded = "(assert (and " + " ".join(texts[k] for k in order) + "))"
    tenth, beyond = Fraction(1, 10), Fraction(Decimal(NEAR_TENTH))
    tight = tenth if below else beyond
    little = Fraction(1, 10**30)
    for text in (lines, folded):
        found = parse(BOX + text + ANY)
        inside = lambda v, found=found: counterexample(found, (v, 0), (0, 0))  # noqa: E731
        assert inside(tight - little if below else tight + little)
        assert inside(tight) is (not below)  # the strict one is the tightest from above only
        assert not inside(tight + little if below else tight - little)


@pytest.mark.parametrize("strict", [False, True])
def test_bounds_hold_at_their_ends_as_they_say(strict):
    mark = "" if strict else "="
    for text in (
        f"(assert (<{mark} X_0 0.3))(assert (>{mark} X_0 -0.3))",
        f"(assert (<{mark} (* 3 X_0) 0.9))(assert (<{mark} -0.9 (* 3 X_0)))",
    ):
        found = parse("(assert (<= X_1 1))(assert (>= X_1 -1))" + text + ANY)
        for end in (Fraction(3, 10), Fraction(-3, 10)):
            assert counterexample(found, (end, 0), (0, 0)) is not strict
            assert counterexample(found, (end * Fraction(999, 1000), 0), (0, 0))
            assert not counterexample(found, (end * Fraction(1001, 1000), 0), (0, 0))
        (case,) = found.cases
        assert Fraction(float(case.inputs.lower[0])) <= Fraction(-3, 10) and Fraction(3, 10) <= Fraction(
            float(case.inputs.upper[0])
        )
        assert case.inputs.meaning.strict is strict


def test_half_spaces_in_float64_contain_the_exact_ones():
    """0.1 X_0 + 0.7 X_1 <= 0.3 and the like: coefficients and offsets that float64 rounds, on a box of 1e5."""
    random = np.random.default_rng(2)
    for _ in range(60):
        a, b, c = (f"{v:.3f}" for v in random.normal(size=3))
        wide = "(assert (<= X_0 100000))(assert (>= X_0 -100000))(assert (<= X_1 3))(assert (>= X_1 -100000))"
        found = parse(wide + f"(assert (<= (+ (* {a} X_0) (* {b} X_1)) {c}))" + ANY)
        (case,) = found.cases
        p, q, r = (Fraction(Decimal(v)) for v in (a, b, c))
        normal, offset = [Fraction(float(v)) for v in case.inputs.normals[0]], Fraction(float(case.inputs.offsets[0]))
        for x in (Fraction(-100000), Fraction(100000), Fraction(7)):
            y = (r - p * x) / q if q else Fraction(0)  # on the plane
            if not -100000 <= y <= 3:
                continue
            assert case.inputs.holds([x, y]) and normal[0] * x + normal[1] * y <= offset


@pytest.mark.parametrize("strict", [False, True])
def test_rows_keep_what_float64_cannot_hold(strict):
    """0.1 Y_0 + 1e-400 Y_1 + 0.7 X_0 <= 0.3: exactly, and `lost` covers what the arrays are off."""
    mark = "" if strict else "="
    found = parse(BOX + f"(assert (<{mark} (+ (* 0.1 Y_0) (* 0.2 Y_1) (* 0.7 X_0)) 0.3))")
    (unsafe,) = found.cases[0].unsafe
    assert unsafe.strict.tolist() == [strict]
    y = Fraction(3) - 2 * Fraction(5) - 7 * Fraction(1, 2)  # 0.1 y + 1 + 0.35 = 0.3
    edge = (Fraction(1, 2), 0), (y, Fraction(5))
    assert counterexample(found, *edge) is not strict
    assert counterexample(found, (Fraction(1, 2), 0), (y - Fraction(1, 10**30), 5))
    assert not counterexample(found, (Fraction(1, 2), 0), (y + Fraction(1, 10**30), 5))
    random = np.random.default_rng(3)
    for scale in (1.0, 1e6):
        for _ in range(50):
            v, x = scale * random.normal(size=2), scale * random.normal(size=2)
            exact_v, exact_x = ([Fraction(float(t)) for t in values] for values in (v, x))
            true = unsafe.meaning[0].value(exact_v, exact_x)
            stated = Fraction(float(unsafe.constants[0]))
            stated += sum(Fraction(float(a)) * t for a, t in zip(unsafe.rows[0], exact_v, strict=True))
            stated += sum(Fraction(float(a)) * t for a, t in zip(unsafe.on_input[0], exact_x, strict=True))
            assert abs(true - stated) <= Fraction(float(unsafe.lost.most(np.abs(x), np.abs(v))[0]))


def test_each_number_of_a_row_is_charged():
    """One at a time: a coefficient, a coefficient on inputs, the constant."""
    third = Fraction(1, 3)
    for row in (
        Row({0: third}, Fraction(0)),
        Row({0: Fraction(1)}, third),
        Row({0: Fraction(1)}, Fraction(0), False, {0: third}),
    ):
        on_input = np.array([[float(row.on_input.get(0, 0))]])
        unsafe = UnsafeSet(np.array([[float(row.terms[0])]]), np.array([float(row.constant)]), on_input, (row,))
        gap = Fraction(1, 3) - Fraction(1 / 3)
        assert Fraction(float(unsafe.lost.most(np.ones(1), np.ones(1))[0])) >= abs(gap)
        assert unsafe.lost.most(np.zeros(1), np.zeros(1))[0] > 0 or row.constant == 0


def test_points_on_the_border_of_an_exact_set():
    low, high = Numbers(np.array([0.0, 0.0])), Numbers(np.array([1.0, 1.0]), {1: "0.9"})
    rows = (Row({0: Fraction(1), 1: Fraction(1)}, Fraction(-1)), Row({0: Fraction(-1)}, Fraction(0), True))
    closed = ExactSet(low, high, rows=rows[:1])
    assert closed.holds([Fraction(0), Fraction(9, 10)]) and closed.holds([Fraction(1, 10), Fraction(9, 10)])
    assert not closed.holds([Fraction(0), Fraction(9, 10) + Fraction(1, 10**20)])
    assert not closed.holds([Fraction(2, 10), Fraction(9, 10)]) and closed.holds([Fraction(0), Fraction(0)])
    both = ExactSet(low, high, rows=rows)
    assert not both.holds([Fraction(0), Fraction(0)]) and both.holds([Fraction(1, 10**9), Fraction(0)])
    for name in ("open_lower", "open_upper"):
        half = ExactSet(low, high, **{name: frozenset([0])})
        assert half.holds([Fraction(0), Fraction(0)]) is (name == "open_upper")
        assert half.holds([Fraction(1), Fraction(0)]) is (name == "open_lower")
        flat = ExactSet(low, Numbers(np.zeros(2)), **{name: frozenset([1])})
        assert flat.empty_side() == 1 and half.empty_side() is None
    whole = ExactSet(low, Numbers(np.zeros(2)), frozenset([0]))
    assert Polytope(np.zeros(2), np.zeros(2), exact=whole).empty and not Polytope(np.zeros(2), np.zeros(2)).empty
    assert ExactSet(Numbers(np.full(1, 0.1), {0: NEAR_TENTH}), Numbers(np.full(1, 0.1), {0: "0.1"})).empty_side() == 0


def test_polytopes_and_sets_mean_their_arrays():
    polytope = Polytope(np.zeros(2), np.ones(2), np.array([[1.0, 1.0]]), np.array([0.5]))
    assert polytope.holds([Fraction(1, 4), Fraction(1, 4)]) and not polytope.holds([Fraction(1, 4), Fraction(1, 2)])
    unsafe = UnsafeSet(np.array([[1.0], [-1.0]]), np.array([-1.0, 0.0]))  # 0 <= y <= 1
    for y, holds in ((0, True), (1, True), (2, False), (-1, False)):
        assert unsafe.holds([], [Fraction(y)]) is holds
        assert (unsafe.margin(np.array([float(y)])) <= 0) is holds


# Texts.


def test_constants_are_decided_as_they_compare():
    for text, left in (
        ("(< 0 0)", 0),
        ("(<= 0 0)", 1),
        ("(> 1 1)", 0),
        ("(>= 1 1)", 1),
        ("(= 0.1 0.10)", 1),
        ("(distinct 1 1)", 0),
    ):
        assert len(parse(BOX + ANY + f"(assert {text})").cases) == left
        assert len(parse(BOX + ANY + f"(assert (not {text}))").cases) == 1 - left


def test_implications_negations_and_differences():
    found = parse(BOX + "(assert (=> (<= Y_0 0) (<= Y_1 (- Y_0))))")
    for y, unsafe in (((0, 1), False), ((0, 0), True), ((Fraction(1, 9), 5), True), ((-1, 1), True), ((-1, 2), False)):
        assert counterexample(found, (0, 0), y) is unsafe
    found = parse(BOX + "(assert (not (or (< Y_0 1) (>= Y_1 2))))")
    for y, unsafe in (((1, 1), True), ((1, 2), False), ((Fraction(9, 10), 1), False)):
        assert counterexample(found, (0, 0), y) is unsafe
    chain = parse(BOX + "(assert (> 3 Y_0 Y_1))")
    for y, unsafe in (((2, 1), True), ((3, 1), False), ((2, 2), False), ((1, 2), False)):
        assert counterexample(chain, (0, 0), y) is unsafe


def test_nothing_is_said_after_the_end():
    with pytest.raises(BadInput, match="after"):
        parse(BOX + ANY + "(check-sat)(assert (<= Y_0 0))")


def test_strings_hold_no_comments_and_comments_no_strings():
    said = '(set-info :source "a;b (assert (<= Y_0 -5000))")'
    found = parse(BOX + said + '; a comment with " and | in it\n' + ANY)
    assert counterexample(found, (0, 0), (999, 0)) and not counterexample(found, (0, 0), (1001, 0))


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("quoted", ["", '(set-info :source "s")'])
def test_a_comment_ends_with_its_line(end, quoted):
    """Whatever ends a line: what follows is said."""
    found = parse(BOX + ANY + f"; said to be small{end}(assert (<= Y_1 3)){quoted}")
    assert counterexample(found, (0, 0), (0, 3)) and not counterexample(found, (0, 0), (0, 4))


def test_version_2_may_not_be_deeper_than_its_parser():
    pytest.importorskip("vnnlib")
    head = "(vnnlib-version <2.0>)\n(declare-network f (declare-input In Real [1]) (declare-output Out Real [1]))\n"
    head += "(assert (and (>= In[0] 0.0) (<= In[0] 1.0)))\n"
    for depth, deep in ((900, False), (1001, True)):
        text = head + "(assert " + "(and (>= Out[0] 0.0) " * depth + "(<= Out[0] 1.0)" + ")" * depth + ")"
        if deep:
            with pytest.raises(BadInput, match="1,003 deep"):
                parse_property(text, 1, 1)
        else:
            assert parse_property(text, 1, 1).cases


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("(== Out[0] 0.1)", lambda y: y == Fraction(1, 10)),
        ("(!= Out[0] 0.1)", lambda y: y != Fraction(1, 10)),
        ("(> Out[0] 0.1)", lambda y: y > Fraction(1, 10)),
        ("(>= Out[0] 0.1)", lambda y: y >= Fraction(1, 10)),
        ("(< (* -1.0 Out[0]) (- 0.1))", lambda y: y > Fraction(1, 10)),
    ],
)
def test_version_2_compares_exactly(text, inside):
    pytest.importorskip("vnnlib")
    whole = "(vnnlib-version <2.0>)\n(declare-network f (declare-input In Real [1]) (declare-output Out Real [1]))\n"
    whole += f"(assert (and (>= In[0] 0.0) (<= In[0] 1.0)))\n(assert {text})\n"
    found = parse_property(whole, 1, 1)
    for y in (Fraction(1, 10), Fraction(1, 10) + Fraction(1, 10**20), Fraction(1, 10) - Fraction(1, 10**20)):
        assert counterexample(found, (Fraction(1, 2),), (y,)) is inside(y)


# Sets from Python, and boxes around half-spaces.


def test_balls_contain_their_real_bounds():
    random = np.random.default_rng(4)
    for _ in range(300):
        center, radius = random.normal(size=2), float(abs(random.normal()) * 10.0 ** random.integers(-18, 2))
        box = robustness_property(center, radius, 1, 3).cases[0].inputs
        for c, low, high in zip(center.tolist(), box.lower.tolist(), box.upper.tolist(), strict=True):
            assert Fraction(low) <= Fraction(c) - Fraction(radius) and Fraction(c) + Fraction(radius) <= Fraction(high)
    for label in range(3):
        rows = np.concatenate([u.rows for u in robustness_property(np.zeros(2), 0.1, label, 3).cases[0].unsafe])
        others = [k for k in range(3) if k != label]
        assert (rows[:, label] == 1).all() and [int(r.argmin()) for r in rows] == others and (rows.sum(1) == 0).all()


def test_boxes_around_half_spaces_hold_their_corners():
    """Triangles whose corners are known in rational numbers; each side of the box is a corner."""
    random = np.random.default_rng(5)
    met = 0
    for _ in range(40):
        normals = random.normal(size=(4, 2))
        offsets = 1 + random.random(4)
        free = np.full(2, np.inf)
        found = enclose(Polytope(-free, free, normals, offsets))
        if not np.isfinite(found.lower).all():
            continue
        met += 1
        exact = [[Fraction(float(v)) for v in row] for row in normals]
        sides = [Fraction(float(v)) for v in offsets]
        for i, j in itertools.combinations(range(4), 2):
            (a, b), (c, d) = exact[i], exact[j]
            det = a * d - b * c
            x = [(sides[i] * d - b * sides[j]) / det, (a * sides[j] - sides[i] * c) / det]
            if all(r[0] * x[0] + r[1] * x[1] <= s for r, s in zip(exact, sides, strict=True)):
                for v, low, high in zip(x, found.lower.tolist(), found.upper.tolist(), strict=True):
                    assert Fraction(low) <= v <= Fraction(high)
    assert met > 10


def test_version_2_is_row_major_and_linear():
    """Indices, sums, differences and products of every kind, beside their fractions; inputs are no outputs."""
    pytest.importorskip("vnnlib")
    head = "(vnnlib-version <2.0>)\n(declare-network f (declare-input In Real [1,2,3]) (declare-output Out Real [2]))\n"
    head += "".join(
        f"(assert (and (>= In[0,{i},{j}] 0.0) (<= In[0,{i},{j}] 1.0)))\n" for i in range(2) for j in range(3)
    )
    x = [Fraction(k, 10) for k in range(1, 7)]
    for text, value in (
        ("(<= (- Out[0] Out[1] In[0,1,0] 0.5) 0.0)", lambda y: y[0] - y[1] - x[3] - Fraction(1, 2)),
        ("(<= (* 2.0 3.0 Out[0]) 1.0)", lambda y: 6 * y[0] - 1),
        ("(<= (* Out[0] 2.0 3.0) In[0,0,2])", lambda y: 6 * y[0] - x[2]),
        ("(<= (- Out[1]) (+ In[0,1,2] Out[0] 1.0))", lambda y: -y[1] - x[5] - y[0] - 1),
        ("(>= (* 0.5 (- Out[0] In[0,0,1])) Out[1])", lambda y: y[1] - (y[0] - x[1]) / 2),
    ):
        found = parse_property(head + f"(assert {text})\n", 6, 2)
        for a in range(-4, 5):
            for b in range(-4, 5):
                y = Fraction(a, 3), Fraction(b, 3)
                assert counterexample(found, tuple(x), y) is (value(y) <= 0)
    different = parse_property(head + "(assert (!= Out[0] Out[1]))\n", 6, 2)
    assert counterexample(different, tuple(x), (Fraction(1), Fraction(2)))
    assert not counterexample(different, tuple(x), (Fraction(1), Fraction(1)))
    deep = "(- " * 1200 + "Out[0]" + ")" * 1200
    with pytest.raises(BadInput, match="deep"):
        parse_property(head + f"(assert (<= {deep} 0.0))\n", 6, 2)


@pytest.mark.parametrize(("declared", "shape", "kind"), (("[2,3]", (3, 2), "float32"), ("[2,3]", (2, 3), "float64")))
def test_version_2_declares_what_the_network_has(declared, shape, kind):
    pytest.importorskip("vnnlib")
    text = f"(vnnlib-version <2.0>)\n(declare-network f (declare-input In float32 {declared}) "
    text += "(declare-output Out Real [1]))\n"
    text += "".join(f"(assert (and (>= In[{i},{j}] 0.0) (<= In[{i},{j}] 1.0)))\n" for i in range(2) for j in range(3))
    text += "(assert (<= Out[0] 0.0))\n"
    nodes = (Input(6), Affine((0,), (Dense(torch.ones(1, 6).double()),), torch.zeros(1).double()))
    same = parse_property(text, 6, 1, "text", Graph(nodes, (1, 2, 3), (1, 1), "float32"))
    assert same.n_in == 6
    with pytest.raises(BadInput, match=r"shape|float64"):
        parse_property(text, 6, 1, "text", Graph(nodes, shape, (1, 1), kind))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(WRITTEN, WRITTEN, st.booleans(), st.booleans()), min_size=1, max_size=4))
def test_the_first_empty_side_is_that_of_the_decimals(sides):
    """Fixed inputs, whose ends are written alike, need no rational numbers; all others do."""
    written = [{i: s[k] for i, s in enumerate(sides)} for k in (0, 1)]
    lower, upper = (Numbers(np.array([float(text) for text in texts.values()]), texts) for texts in written)
    opened = [frozenset(i for i, s in enumerate(sides) if s[k]) for k in (2, 3)]
    right = [
        i
        for i, (low, high, *open_) in enumerate(sides)
        if Decimal(low) > Decimal(high) or (Decimal(low) == Decimal(high) and any(open_))
    ]
    assert ExactSet(lower, upper, *opened).empty_side() == (right[0] if right else None)
