"""A tree inside another loses no capability: whatever trees can be asked reaches the inner one."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest
import torch
from networks import random_graph, random_property
from search import engine

from partita.bab.logs.followed import Followed
from partita.bab.trees.programs import Programs
from partita.bab.trees.tree import AbstractTree
from partita.bab.trees.twinned import Twinned
from partita.bab.trees.wrapped import Wrapped

NAMES = sorted(
    {name for name in (*vars(AbstractTree), *AbstractTree.__annotations__) if not name.startswith("_")} - {"known"}
)


def test_a_wrapper_says_something_of_everything():
    """No name of what trees are asked is left to a default that knows nothing of the inner tree."""
    assert {"bound", "sharing", "due", "tighten", "grouped_by", "goals", "ways", "first"} <= set(NAMES)
    assert [name for name in NAMES if name not in vars(Wrapped)] == []


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_asked_is_asked_of_the_inner_tree(name):
    inner = MagicMock(spec=AbstractTree, goals=object(), apart="base", proving=object())
    outer = Wrapped(inner)
    if name in ("goals", "grouped_by", "proving"):
        assert getattr(outer, name) is getattr(inner, name)
        return
    given = {
        "bound": 1,
        "confirm": 1,
        "confirmation": 1,
        "ground": 1,
        "split": 1,
        "sharing": 1,
        "pieces": 1,
        "tighten": 2,
        "leaf": 3,
        "default_batch": 1,
    }
    arguments = [object() for _ in range(given.get(name, 0))]
    assert getattr(outer, name)(*arguments) is getattr(inner, name).return_value
    getattr(inner, name).assert_called_once_with(*arguments)


@pytest.mark.parametrize("kind", (Programs, Twinned, Followed))
def test_wrappers_change_what_they_are_for_alone(kind):
    theirs = {name for name in vars(kind) if not name.startswith("_")} & set(NAMES)
    assert issubclass(kind, Wrapped) and theirs <= {
        "describe",
        "ways",
        "notes",
        "first",
        "default_batch",
        "roots",
        "split",
    }


@torch.no_grad()
def test_what_is_known_of_the_roots_is_looked_at_once():
    """By the outer tree as well, and not again by the inner one."""
    graph = random_graph(4, "mlp", inputs=17, width=8, depth=2)
    tree = engine(graph, random_property(4, graph, radius=0.6, margin=0.5), relaxation="alpha-crown").tree
    looks = []

    class Looking(Wrapped):
        def further(self, bounded):
            looks.append(bounded)
            return bounded

    outer = Looking(tree)
    assert outer.first() is None and not looks
    known = tree.bound_roots()
    assert outer.first() is outer.first() is known and looks == [known]
    again = Looking(tree)
    assert again.bound_roots() is again.first() is tree.known is not known and len(looks) == 2
