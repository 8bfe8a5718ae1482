"""VNN-LIB files against direct evaluation of their formulas, and every way such a file can be wrong."""

from __future__ import annotations

import gzip
import operator as op
import re
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partita.problems.errors import BadInput
from partita.problems.properties.rational import rationals
from partita.problems.properties.vnnlib import load_property, parse_property
from partita.problems.property import Polytope, box_property, robustness_property

DECLARE = "\n".join(f"(declare-const {v} Real)" for v in ("X_0", "X_1", "Y_0", "Y_1")) + "\n"
BOX = "(assert (<= X_0 1))(assert (>= X_0 -1))(assert (<= X_1 1.0))(assert (>= X_1 -1e0))\n"


def parse(text, n_in=2, n_out=2):
    return parse_property(DECLARE + text, n_in, n_out, "p.vnnlib")


def holds(found, x, y):
    """Whether the input x with the output y is a counterexample; exact."""
    x, y = rationals(x), rationals(y)
    return any(c.inputs.holds(x) and any(unsafe.holds(x, y) for unsafe in c.unsafe) for c in found.cases)


# ---- random formulas: the property must hold exactly the points the formula holds

RELATIONS = {"<=": op.le, ">=": op.ge, "<": op.lt, ">": op.gt, "=": op.eq, "distinct": op.ne}
VARIABLES = ("X_0", "X_1", "Y_0", "Y_1")
COEFFICIENTS = st.sampled_from([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.0])


@st.composite
def linear(draw):
    """(text, function of the four values) of a random linear term."""
    kind = draw(st.sampled_from(["variable", "number", "sum", "difference", "scaled", "negated"]))
    if kind == "variable":
        k = draw(st.integers(0, 3))
        return VARIABLES[k], lambda v: v[k]
    if kind == "number":
        c = draw(COEFFICIENTS)
        return f"{c}", lambda v: c
    k, m, a = draw(st.integers(0, 3)), draw(st.integers(0, 3)), draw(COEFFICIENTS)
    return {
        "sum": (f"(+ {VARIABLES[k]} (* {a} {VARIABLES[m]}))", lambda v: v[k] + a * v[m]),
        "difference": (f"(- {VARIABLES[k]} {VARIABLES[m]} {a})", lambda v: v[k] - v[m] - a),
        "scaled": (f"(* {a} {VARIABLES[k]})", lambda v: a * v[k]),
        "negated": (f"(- {VARIABLES[k]})", lambda v: -v[k]),
    }[kind]


@st.composite
def atoms(draw):
    """(text, predicate) of a random comparison."""
    (left, f), (right, g) = draw(linear()), draw(linear())
    relation = draw(st.sampled_from(sorted(RELATIONS)))
    return f"({relation} {left} {right})", lambda v: RELATIONS[relation](f(v), g(v))


def combined(parts):
    def build(pair):
        kind, items = pair
        test = all if kind == "and" else any
        text = f"({kind} {' '.join(text for text, _ in items)})"
        return text, lambda v: test(predicate(v) for _, predicate in items)

    return st.tuples(st.sampled_from(["and", "or"]), st.lists(parts, min_size=1, max_size=3)).map(build)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.recursive(atoms(), combined, max_leaves=8), min_size=1, max_size=3), st.integers(0, 10**6))
def test_a_property_is_violated_exactly_where_its_formula_holds(formulas, seed):
    found = parse(BOX + "\n".join(f"(assert {text})" for text, _ in formulas))
    for point in np.random.default_rng(seed).integers(-24, 25, (60, 4)) / 16:  # dyadic: no rounding anywhere
        expected = (np.abs(point[:2]) <= 1).all() and all(predicate(point) for _, predicate in formulas)
        assert holds(found, point[:2], point[2:]) == expected


# ---- forms


def test_disjuncts_over_outputs_share_one_case():
    found = parse(BOX + "(assert (or (and (>= Y_0 Y_1)) (and (<= Y_0 -1) (<= Y_1 -2))))")
    assert len(found.cases) == 1
    first, second = found.cases[0].unsafe
    np.testing.assert_array_equal(first.rows, [[-1, 1]])
    np.testing.assert_array_equal(second.rows, [[1, 0], [0, 1]])
    np.testing.assert_array_equal(second.constants, [1, 2])


def test_disjunctive_inputs_become_cases_and_equal_ones_merge():
    text = BOX + "(assert (or (<= X_0 0) (and (>= X_0 0.5) (<= Y_0 1)) (and (>= X_0 0.5) (>= Y_1 2))))"
    found = parse(text)
    assert [(case.inputs.lower[0], case.inputs.upper[0], len(case.unsafe)) for case in found.cases] == [
        (-1, 0, 1),
        (0.5, 1, 2),
    ]
    assert len(found.cases[0].unsafe[0].constants) == 0  # no output constraint: every output is unsafe


def test_comparisons_between_inputs_are_half_spaces():
    found = parse(BOX + "(assert (<= (+ X_0 (* 2 X_1)) 0.5))(assert (<= Y_0 0))")
    np.testing.assert_array_equal(found.cases[0].inputs.normals, [[1, 2]])
    np.testing.assert_array_equal(found.cases[0].inputs.offsets, [0.5])


def test_constraints_on_inputs_and_outputs_together():
    unsafe = parse(BOX + "(assert (>= Y_0 (+ X_1 1)))").cases[0].unsafe[0]
    np.testing.assert_array_equal(unsafe.on_input, [[0, 1]])
    np.testing.assert_array_equal(unsafe.rows, [[-1, 0]])
    np.testing.assert_array_equal(unsafe.constants, [1])


def test_equality_chains_and_other_commands():
    text = "(set-logic QF_LRA)(assert (= X_0 0.25))(assert (<= -1 X_1 1))(assert (not (> Y_0 3)))"
    found = parse(text + "(assert (=> (<= Y_1 0) false))(check-sat)(get-model)(exit)")
    box = found.cases[0].inputs
    assert (box.lower[0], box.upper[0], box.lower[1], box.upper[1]) == (0.25, 0.25, -1, 1)
    np.testing.assert_array_equal(found.cases[0].unsafe[0].rows, [[1, 0], [0, -1]])


def test_declare_fun_comments_and_odd_spacing():
    text = "; a ) comment (\n( declare-fun X_0 () Real)(declare-const Y_0 Real) ;(\n(assert(<= X_0 1.5e-1))\n"
    text += "(assert\n(>= X_0 .1))"
    box = parse_property(text + "(assert (or (<= Y_0 1)))", 1, 1).cases[0].inputs
    assert (box.exact.lower[0], box.exact.upper[0]) == (Fraction("0.1"), Fraction("0.15"))


def test_contradictory_bounds_stay_as_an_empty_case():
    found = parse(BOX + "(assert (>= X_0 2))(assert (<= Y_0 0))")
    assert [case.inputs.empty for case in found.cases] == [True]


def test_false_constants_leave_no_case():
    assert parse(BOX + "(assert (or (<= 1 0) false))").cases == ()
    assert len(parse(BOX + "(assert (<= 0 1))").cases) == 1


def test_bounds_that_need_a_division_are_rounded_outward():
    box = parse(BOX + "(assert (<= (* 3 X_0) 0.1))(assert (>= (* 3 X_1) 0.1))").cases[0].inputs
    assert Fraction(box.upper[0]) * 3 >= Fraction(0.1) and Fraction(box.lower[1]) * 3 <= Fraction(0.1)


def test_half_spaces_alone_may_bound_the_inputs():
    diamond = "".join(f"(assert (<= (+ (* {a} X_0) (* {b} X_1)) 1))" for a in (1, -1) for b in (1, -1))
    box = parse(diamond + "(assert (<= Y_0 0))").cases[0].inputs
    assert (box.lower <= -1).all() and (box.upper >= 1).all()
    np.testing.assert_allclose([box.lower, box.upper], [[-1, -1], [1, 1]], atol=1e-6)


def test_an_enclosure_holds_random_polytopes():
    from partita.problems.properties.enclosure import enclose

    rng, bounded = np.random.default_rng(1), 0
    for _ in range(20):
        normals = rng.normal(size=(14, 4))
        lower = np.array([-np.inf, -np.inf, -1.0, -np.inf])
        upper = np.array([np.inf, 2.0, 1.0, np.inf])
        polytope = Polytope(lower, upper, normals, rng.uniform(0.5, 1, 14))
        box = enclose(polytope)
        if not np.isfinite(box.lower).all():
            continue  # an unbounded cone: rightly left alone
        bounded += 1
        points = rng.normal(size=(4000, 4)) * 2
        inside = points[[polytope.contains(p) for p in points]]
        assert ((inside >= box.lower) & (inside <= box.upper)).all()
    assert bounded >= 5


def test_deep_nesting_and_long_chains_are_read():
    chain = "(<= Y_0 0)"
    for k in range(5000):
        chain = f"(and (<= (+ Y_0 (* {k + 1} Y_1)) {k}) {chain})"
    assert len(parse(BOX + f"(assert {chain})").cases[0].unsafe[0].constants) == 5001


def test_gzip_files_are_read_whole_or_refused(tmp_path):
    """Several members are one text; a file cut short anywhere, or with a bit turned, is refused in a sentence."""
    path, text = tmp_path / "p.vnnlib.gz", (BOX + "(assert (<= Y_0 0))\n(assert (<= Y_1 0))").encode()
    declared = "".join(f"(declare-const {v} Real)\n" for v in ("X_0", "X_1", "Y_0", "Y_1")).encode()
    whole = gzip.compress(declared + text)
    for data in (whole, gzip.compress(declared) + gzip.compress(text), whole + b"\0" * 8, declared + text):
        path.write_bytes(data)
        assert len(load_property(path, 2, 2).cases[0].unsafe[0].constants) == 2
    for end in (2, 10, 20, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(BadInput, match=r"p\.vnnlib\.gz is a damaged or truncated gzip file"):
            load_property(path, 2, 2)
    for data in (whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:], whole + b"tail"):
        path.write_bytes(data)
        with pytest.raises(BadInput, match="damaged or truncated"):
            load_property(path, 2, 2)


def test_large_files_are_read_quickly(tmp_path):
    n = 3072
    lines = [f"(declare-const X_{i} Real)" for i in range(n)] + ["(declare-const Y_0 Real)"]
    lines += [f"(assert (<= X_{i} 0.1234567890123))\n(assert (>= X_{i} -0.12345678))" for i in range(n)]
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress("\n".join([*lines, "(assert (<= Y_0 0))"]).encode()))
    seconds = min(_seconds(lambda: load_property(tmp_path / "p.vnnlib.gz", n, 1)) for _ in range(5))
    assert seconds < 0.1
    clause = "(and " + " ".join(f"(>= X_{i} -0.12345678)" for i in range(n)) + " (<= Y_0 {}))"
    nested = "\n".join([*lines, "(assert (or " + "\n".join(clause.format(k) for k in range(100)) + "))"])
    assert len(nested) > 7e6
    assert _seconds(lambda: parse_property(nested, n, 1)) < 20  # about 3 s on an idle core


def _seconds(action):
    """Of the processor: other processes make no test slow."""
    start = time.process_time()
    action()
    return time.process_time() - start


# ---- bad input


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("(assert (<= X_0 1)", "line 5.*ends inside an open bracket"),
        ("(assert (<= X_0 1)))", "line 5.*outside of any brackets"),
        (BOX + "(assert (<= X_7 1))", "line 6.*'X_7' is used, but not declared"),
        (BOX + "\n(assert (<= Y_0 X_7))", "line 7.*'X_7' is used, but not declared"),
        (BOX + "(assert (<= (* X_0 Y_0) 1))", "line 6.*product of two variables"),
        (BOX + "(assert (<= (/ 1 X_0) 1))", "not linear"),
        (BOX + "(assert (<= (sin X_0) 1))", "'sin'"),
        (BOX + "(assert (<= Y_0 nan))", "'nan' is neither"),
        (BOX + "(assert (<= Y_0 1e999999999))", "too long or too large"),
        (BOX + "(assert (<= Y_0 one))", "'one' is neither"),
        (BOX + "(assert (distinct Y_0))", "'distinct' with 1 arguments"),
        (BOX + "(assert Y_0)", "a formula was expected"),
        (BOX + "(assert (and Y_0 Y_1))", "a formula was expected"),
        (BOX + "(assert (<= Y_0))", "at least two"),
        (BOX + "(assert (<= (and) Y_0))", "a number was expected"),
        (BOX + "(maximize Y_0)", "'maximize' is not a command"),
        ("(declare-const X_0 Real)", "declared twice"),
        ("(declare-const H_0 Real)", "'H_0' is declared"),
        ("(declare-const X_2 Int)", "not of the form"),
        ("(declare-const X_2 Real)" + BOX, "3 input variables.*network has 2 inputs"),
        (BOX.replace("(assert (>= X_1 -1e0))", ""), "X_1 has no lower bound"),
        ("(assert (<= X_0 X_1))", "X_0 .and 1 more. has no lower bound"),
        (BOX + "(assert (or (<= Y_0 1) (<= Y_1 1)))" * 20, "1,048,576 conjunctions"),
    ],
)
def test_bad_files_get_one_sentence(text, sentence):
    with pytest.raises(BadInput) as error:
        parse(text)
    assert re.search(sentence, str(error.value))
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        load_property(tmp_path / "none.vnnlib", 1, 1)
    (tmp_path / "cut.vnnlib.gz").write_bytes(gzip.compress((DECLARE + BOX).encode())[:-20])
    with pytest.raises(BadInput, match="damaged or truncated"):
        load_property(tmp_path / "cut.vnnlib.gz", 2, 2)
    (tmp_path / "binary.vnnlib").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not a text file"):
        load_property(tmp_path / "binary.vnnlib", 2, 2)
    (tmp_path / "empty.vnnlib").write_text("; nothing\n")
    with pytest.raises(BadInput, match="is empty"):
        load_property(tmp_path / "empty.vnnlib", 2, 2)
    with pytest.raises(BadInput, match="cannot be read"):
        load_property(tmp_path, 2, 2)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_marks_and_line_ends_of_editors_mean_nothing(tmp_path, ends):
    text = (DECLARE + BOX + "; (assert (<= Y_0 -9))\n(assert (<= Y_0 0))").replace("\n", ends)
    (tmp_path / "marked.vnnlib").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (unsafe,) = load_property(tmp_path / "marked.vnnlib", 2, 2).cases[0].unsafe
    assert unsafe.constants.tolist() == [0]
    with pytest.raises(BadInput, match="line 1"):  # inside a text it is no white space
        parse_property(f"(declare-const\ufeff X_0 Real){DECLARE}", 2, 2)


def test_gaps_in_the_numbering():
    with pytest.raises(BadInput, match="does not declare X_1"):
        parse_property("(declare-const X_0 Real)(declare-const X_2 Real)(declare-const Y_0 Real)", 2, 1)


# ---- version 2.0

VERSION_2 = """; a comment
(vnnlib-version <2.0>)
(declare-network f (declare-input In Real [1,2,2]) (declare-output Out Real [2]))
(assert (and (<= -1.0 In[0,0,0]) (<= In[0,0,0] 1.0) (== In[0,0,1] 0.5)))
(assert (and (>= In[0,1,0] 0.0) (< In[0,1,0] 1.0) (>= In[0,1,1] 0.0) (<= In[0,1,1] 2.0)))
(assert (or (<= (+ (* 2.0 Out[0]) (- In[0,1,1])) 1.5) (>= (- Out[1] Out[0] 1.0) 0.0)))
"""


def test_version_2_is_read():
    found = parse_property(VERSION_2, 4, 2)
    (case,) = found.cases
    np.testing.assert_array_equal(case.inputs.lower, [-1, 0.5, 0, 0])
    np.testing.assert_array_equal(case.inputs.upper, [1, 0.5, 1, 2])
    first, second = case.unsafe
    np.testing.assert_array_equal(first.rows, [[2, 0]])
    np.testing.assert_array_equal(first.on_input, [[0, 0, 0, -1]])
    np.testing.assert_array_equal(first.constants, [-1.5])
    np.testing.assert_array_equal(second.rows, [[1, -1]])
    np.testing.assert_array_equal(second.constants, [1])


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("<2.0>", "<3.0>", "not valid VNN-LIB 2.0: Incompatible"),
        ("Out[0])", "Out[7])", "IndexOutOfBounds|out of bounds"),
        ("(* 2.0 Out[0])", "(* Out[1] Out[0])", "is not linear"),
        ("[1,2,2]", "[1,2,2,1]", "not valid"),
        ("Out Real", "Out int8", "not valid"),
        ("Real [2]))", "Real [2]) (declare-output B Real [1]))", "2 output tensors"),
        (
            "(declare-output",
            '(declare-hidden H Real [3] "h") (declare-output',
            "hidden tensor H",
        ),
        ("(assert (or", "(assert (xor", "not valid"),
    ],
)
def test_what_version_2_may_say_and_we_refuse(old, new, sentence):
    with pytest.raises(BadInput, match=sentence) as error:
        parse_property(VERSION_2.replace(old, new, 1), 4, 2)
    assert "\n" not in str(error.value)


def test_version_2_sizes_must_match_the_network():
    with pytest.raises(BadInput, match=r"declares 4 input variables .* network has 5"):
        parse_property(VERSION_2, 5, 2)


# ---- arrays


def test_properties_from_arrays():
    both = box_property([0, 0], [1, 1], [[1, 0], [0, 1]], [-1, -2])
    assert both.violated_by(np.ones(2), np.array([1.0, 2.0])) and not both.violated_by(np.ones(2), np.array([1.5, 0]))
    robust = robustness_property(np.full((1, 2), 0.5), 0.75, 1, 3, clip=(0, 1))
    np.testing.assert_array_equal(robust.cases[0].inputs.lower, [0, 0])
    assert robust.violated_by(np.ones(2), np.array([0.0, 1.0, 1.0]))
    assert not robust.violated_by(np.ones(2), np.array([0.0, 1.0, 0.9]))
    with pytest.raises(BadInput, match="do not fit"):
        box_property([0], [1], [[1, 0]], [1, 2])
    with pytest.raises(BadInput, match="finite"):
        box_property([0], [np.nan], [[1, 0]], [1])


def test_every_benchmark_property_is_read(bench):
    from partita.problems.properties.vnnlib import _text

    files = [file for file in sorted(bench.glob("*/vnnlib/**/*.vnnlib*")) if file.is_file()]
    assert files
    for file in files:
        text = _text(file)
        n_in, n_out = (len(set(re.findall(rf"declare-const ({kind}_\d+)", text))) for kind in "XY")
        found = load_property(file, n_in, n_out)
        assert found.cases and not any(case.inputs.empty for case in found.cases)


@pytest.mark.parametrize(
    "broken",
    [
        "(assert (<= X[0,-0] 1.0))",
        "(assert (<= X[0,0] 1]0.0))",
        "(assert (<= X[0,0] 1.0-0.5))",
        "(assert (<= X[0,0] 1.0)) ]",
        "(assert (<= X[0 0] 1.0))",
        "(assert (<= X[0,0] 1.0$))",
    ],
)
def test_version_2_is_not_mended_by_guessing(broken):
    """The package's parser drops or splits what it does not know, and goes on."""
    network = "(declare-network N (declare-input X float32 [1,1]) (declare-output Y float32 [1]))"
    sides = "(assert (>= X[0,0] 0.0)) (assert (<= X[0,0] 1.0)) (assert (<= Y[0] 0.0))"
    parse_property(f"(vnnlib-version <2.0>) {network} {sides}", 1, 1)
    with pytest.raises(BadInput):
        parse_property(f"(vnnlib-version <2.0>) {network} {sides} {broken}", 1, 1)
    with pytest.raises(BadInput):
        parse_property(f"(vnnlib-version <2.0>) {network.replace('network N', 'networkN')} {sides}", 1, 1)


@pytest.mark.parametrize("at", range(0, 60, 7))
def test_nul_characters_are_refused(at):
    """Also as a list's name: the reader marks with it what it has read."""
    text = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= X_0 1))(assert (>= X_0 0))(assert (<= Y_0 0))"
    for broken in (text[:at] + "\0" + text[at:], text + "(\0 (<= X_0 0.5))"):
        with pytest.raises(BadInput, match="NUL"):
            parse_property(broken, 1, 1)
