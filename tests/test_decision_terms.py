"""Where a sign or a constant decides: signs at the last bit, constants by what they must cover."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import random_graph

import partita.kernels.proof_constants as proof
from partita.bab.trees.settle import phases_of
from partita.bab.trees.wrapped import Wrapped
from partita.kernels.rounding import gamma

LEAST = 5e-324


def test_a_phase_is_decided_by_a_sign_and_nothing_less():
    """By the last bit, in either precision, each layer by its own neurons."""
    graph = random_graph(0, "mlp", inputs=3, width=4, depth=2)
    for dtype in (torch.float32, torch.float64):
        tiny = torch.finfo(dtype).smallest_normal
        low = torch.tensor([-tiny, 0.0, -1.0, tiny, -1.0, -tiny, -1.0, 0.0], dtype=dtype)
        high = torch.tensor([1.0, 1.0, tiny, 1.0, 0.0, tiny, -tiny, 0.0], dtype=dtype)
        assert [p.tolist() for p in phases_of(graph, low, high)] == [[0, 1, 0, 1], [-1, 0, -1, 1]]
    nan = torch.full((8,), torch.nan)
    assert not np.concatenate(phases_of(graph, nan, nan)).any()


def test_an_outer_tree_looks_at_whatever_the_inner_one_bounds():
    class Inner:
        def bound(self, record):
            return [record]

    class Looking(Wrapped):
        def further(self, bounded):
            return [*bounded, "looked at"]

    assert Looking(Inner()).bound("a record") == ["a record", "looked at"]


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("INFLATE", 1 / (1 - gamma(300_000, torch.float32))),
        ("SUMMED", 1 / (1 - gamma(10**13, torch.float64))),
        ("SIZES", (1 + 2.0**-24) ** 4),
        ("UPWARD_SUM", 1 / (1 - gamma(8_900, torch.float64))),
        ("UPWARD", 1 + 8 * 2.0**-53),
        ("ERROR", 2.0),  # the function's unit, and half a unit each of a subtraction and a product
        ("SLACK", 6),
        ("STEEP", 2 * 2_000.0),
        ("ROUNDING", 100 * gamma(50_000, torch.float64)),
        ("CLEARLY", 100 * gamma(50_000, torch.float64)),
        ("TOLERANCE", 1e-9),  # the least that mixed-integer solvers take
        ("NOUGHT", 1e-9),  # HiGHS's `small_matrix_value`
        ("SPREADS", 32.0),
        ("DOUBLE", 2.0**-53),
        ("ROUNDOFF", 2.0**-53),
    ],
)
def test_a_number_that_proofs_rest_on_covers_what_it_is_for(name, least):
    """As its comment derives it. One that is smaller may make a verdict wrong; most tests cannot see by how much."""
    assert getattr(proof, name) >= least


@pytest.mark.parametrize(("name", "most"), [("RATIO", 1e9), ("LARGE", 1e12), ("COUNTABLE", 2**22), ("DUST", 2.0**-30)])
def test_a_number_that_must_not_be_larger_is_not(name, most):
    """Beyond RATIO and LARGE a solver wrote outside its arrays; float32 counts up to four times COUNTABLE."""
    assert getattr(proof, name) <= most
