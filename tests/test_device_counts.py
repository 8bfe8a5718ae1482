"""What one step of a search asks of a GPU: operations that launch kernels, and waits of the host, counted on the device
that pretends. The ceilings are what was counted when they were written; a change may lower them, not pass them by.

Launches are those of the torch references (where Triton runs they are fewer); a copy from or to the device counts as a
wait.
"""

from __future__ import annotations

import pretend
import pytest
import torch
from networks import random_graph, random_property
from search import engine

SHAPES = {  # kind of network, inputs, width, depth, options
    "acasxu-like": ("mlp", 5, 50, 6, {"batch": 256}),
    "mnist-like": ("mlp", 64, 64, 3, {"batch": 32}),
    "small conv": ("conv", 64, 16, 2, {"batch": 32}),
}
CEILINGS = {"acasxu-like": (2398, 31), "mnist-like": (1778, 23), "small conv": (1482, 23)}  # launches and waits
ROOM = 1.02  # a few more where another torch takes other ways


@torch.no_grad()
def counted(shape: str) -> tuple[int, int]:
    """Launches and waits of one step in the middle of a search."""
    kind, inputs, width, depth, options = SHAPES[shape]
    graph = random_graph(0, kind, inputs=inputs, width=width, depth=depth)
    prop = random_property(0, graph, radius=0.5)
    options = options | {"precision": "float32", "relaxation": "crown" if inputs < 12 else "alpha-crown"}
    with pretend.cuda() as log:
        made = engine(graph, prop, device="cuda", blind=True, **options)
        made.bound(made.first)
        for _ in range(3):
            made.branch()
        before = log.launches, log.waits
        made.branch()
        assert made.state.open
        return log.launches - before[0], log.waits - before[1]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_launches_and_waits_no_more_than_it_did(shape):
    launches, waits = counted(shape)
    most, longest = CEILINGS[shape]
    assert launches <= ROOM * most, f"{launches} launches a step, {most} were enough"
    assert waits <= longest, f"{waits} waits a step, {longest} were enough"
    assert launches >= most / 2 and waits >= longest / 2, f"lower the ceilings of {shape} to {launches}, {waits}"
