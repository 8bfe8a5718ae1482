"""How many threads an operation should use.

The tensors of a small network are so small that two threads spend more time meeting than computing (layers of 50
neurons, two cores: 5,150 pieces a second on one thread, 3,080 on two that sleep between operations, 6,800 on two that
spin, and 30 where another process takes one of the cores the spinning threads count on).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Layers no wider than this are bounded by one thread.
NARROW = 128


@contextmanager
def threads_for(widest: int) -> Iterator[None]:
    """One thread for networks whose widest layer is narrow; torch's own number is restored afterwards."""
    before = torch.get_num_threads()
    if widest <= NARROW:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
