"""Pictures: what is drawn is what was measured, and the same figure gives the same file."""

from __future__ import annotations

import sys
import xml.dom.minidom

import numpy as np
import pytest

from partita.bab.comparing.measured import Cut, Piece, Tree
from partita.bab.comparing.partition import partition
from partita.bab.comparing.pictures import (
    PALER,
    STATUS,
    figures,
    icicle,
    leaf_of,
    leaves_against_patterns,
    pieces_over_regions,
    places,
    pre_activations,
    save,
    write,
)
from partita.problems.network.library import maximum, random_network
from partita.problems.properties.property import Polytope

BOX = (-np.ones(2), np.ones(2))


@pytest.fixture(scope="module")
def found():
    return partition(random_network((2, 4, 3, 1), 1), BOX, ["triangle", "m-1"], branching="first")


def small_tree() -> Tree:
    """Root cut at neuron 0; below it x1 at 0.5, of which one side is empty."""
    return Tree(
        [
            Piece(0, -1, 0, "split", 1.0, Cut(neuron=0)),
            Piece(1, 0, 1, "split", 1.0, Cut(coordinate=1, point=0.5), side=-1),
            Piece(2, 0, 1, "closed", -1.0, side=1),
            Piece(3, 1, 2, "closed", -1.0, side=-1),
            Piece(4, 1, 2, "empty", -1.0, side=1),
        ],
        True,
    )


def test_icicle_places_children_inside_their_parents_side_by_side():
    left, width = places(small_tree())
    assert width[0] == 1 and left[0] == 0
    assert width[1] == pytest.approx(1.5 / 2.5) and left[1] == 0 and left[2] == pytest.approx(width[1])
    assert width[3] + width[4] == pytest.approx(width[1]) and left[4] == pytest.approx(width[3])


def test_icicle_draws_every_piece_in_the_colour_of_its_end():
    from matplotlib.colors import to_hex

    ax = icicle({"small": small_tree()}).axes[0]
    drawn = ax.collections[0]
    assert len(drawn.get_paths()) == 5
    assert [to_hex(c) for c in drawn.get_facecolor()] == [to_hex(STATUS[p.status]) for p in small_tree().pieces]
    assert {t.get_text() for t in ax.texts} == {"0", "x1"} and ax.get_title() == "small: 2 leaves"


def test_leaves_that_are_not_proper_are_paler_and_counted_apart():
    from dataclasses import replace

    from matplotlib.colors import to_hex

    tree = replace(small_tree(), kinds={2: "proper", 3: "flat"})
    ax = icicle({"small": tree}).axes[0]
    assert ax.get_title() == "small: 1 proper leaves, 1 others"
    colours = [to_hex(c) for c in ax.collections[0].get_facecolor()]
    assert colours[3] == to_hex(PALER) != colours[2] == to_hex(STATUS["closed"])


def test_points_go_down_the_tree():
    points = np.array([[0.0, 0.2], [0.0, 0.7], [1.0, 0.7]])
    signs = np.array([[-1.0], [-1.0], [1.0]])
    assert leaf_of(small_tree(), points, signs).tolist() == [3, 4, 2]


def test_pieces_are_drawn_as_many_as_points_reach(found):
    m = found.measurements[0]
    figure = pieces_over_regions(found.graph, found.inputs, {"triangle": m.tree})
    image = figure.axes[0].images[0].get_array()
    random = np.random.default_rng(0).uniform(-1, 1, (4000, 2))
    reached = np.unique(leaf_of(m.tree, random, pre_activations(found.graph, random)))
    assert image.shape == (360, 360) and not np.isnan(np.ma.filled(image, np.nan)).any()
    assert 1 < len(reached) <= len(m.tree.leaves)
    assert figure.axes[0].collections  # lines where neurons are zero


def test_points_outside_half_spaces_stay_white():
    inputs = Polytope(*BOX, np.array([[1.0, 1.0]]), np.zeros(1))
    found = partition(random_network((2, 3, 1), 1), inputs, ["triangle"], branching="first", count=False)
    figure = pieces_over_regions(found.graph, inputs, {"t": found.measurements[0].tree})
    blank = np.isnan(np.ma.filled(figure.axes[0].images[0].get_array(), np.nan))
    assert blank[-1, -1] and not blank[0, 0] and 0.45 < blank.mean() < 0.55


def test_pieces_are_for_two_inputs():
    found = partition(maximum(3), (np.zeros(3), np.ones(3)), ["triangle"], branching="last", count=False)
    assert set(figures(found)) == {"trees.svg"}
    with pytest.raises(ValueError, match="two inputs"):
        pieces_over_regions(found.graph, found.inputs, {})


def test_leaves_against_patterns_is_logarithmic_with_a_diagonal():
    ax = leaves_against_patterns({"triangle": [(2, 3), (64, 100)], "m-1": [(2, 1)]}).axes[0]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    diagonal, first, second = (line.get_xydata() for line in ax.lines)
    assert (diagonal[:, 0] == diagonal[:, 1]).all()
    assert first.tolist() == [[2, 3], [64, 100]] and second.tolist() == [[2, 1]]


def test_files_are_svg_and_the_same_each_time(found, tmp_path):
    first, second = write(found, tmp_path / "a"), write(found, tmp_path / "b")
    assert [p.name for p in first] == ["tables.json", "trees.svg", "leaves.svg", "pieces.svg"]
    for one, other in zip(first[1:], second[1:], strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert xml.dom.minidom.parse(str(one)).documentElement.tagName == "svg"


def test_no_state_of_pyplot_is_touched(found, tmp_path):
    save(icicle({"t": found.measurements[0].tree}), tmp_path / "t.svg")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
