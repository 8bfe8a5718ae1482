"""The process's random numbers, while a module of the caller's is run: put back where the module draws, and only there.

To save the state, run and put it back would be wrong beside threads of the caller's that draw meanwhile: they would be
given the same numbers again. So a state is put back only where the module itself is seen to move it: at its first call,
and at its second. Such a module goes on from where its last call ended: it is refused by what it answers differently.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

Generator = tuple[Callable[[], Any], Callable[[Any], None]]  # reads its state, sets it


class RandomStates:
    """The generators of Python, NumPy and PyTorch (of `device` too). A call of the module is made within it."""

    def __init__(self, device: torch.device) -> None:
        self.generators: list[Generator] = [
            (random.getstate, random.setstate),
            (np.random.get_state, np.random.set_state),
            (torch.random.get_rng_state, torch.random.set_rng_state),
        ]
        if device.type == "cuda":
            self.generators.append(
                (lambda: torch.cuda.get_rng_state(device), lambda state: torch.cuda.set_rng_state(state, device))
            )
        self.own: dict[int, Any] = {}  # the states of those that the module moves, after its last call
        self.kept: list[dict[int, Any]] = []
        self.middle: list[Any] | None = None  # between the two calls by which it is asked

    def __enter__(self) -> None:
        self.kept.append({k: self.generators[k][0]() for k in self.own})
        for k, state in self.own.items():
            self.generators[k][1](state)

    def __exit__(self, *_: Any) -> None:
        for k, state in self.kept.pop().items():
            self.own[k] = self.generators[k][0]()
            self.generators[k][1](state)

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """Finds out what the module moves: it is called within, then `again` is, then it is called once more. What it
        moves is put back."""
        first, self.middle, last = self.states(), None, None
        try:
            yield
            last = self.states()
        finally:
            now = last or self.states()
            between = self.middle or now  # of a module that fails there was one call
            for k, (_, put_back) in enumerate(self.generators):
                ended = self.middle is None or last is None  # in one of the calls, or before the second moved anything
                if differs(first[k], between[k]) and (ended or differs(between[k], now[k])):
                    self.own[k] = now[k]
                    put_back(first[k])

    def again(self) -> None:
        """Between the two calls."""
        self.middle = self.states()

    def states(self) -> list[Any]:
        return [read() for read, _ in self.generators]


def differs(one: Any, other: Any) -> bool:
    """Whether two states of a generator are not the same: tensors, or tuples that may hold arrays."""
    if isinstance(one, torch.Tensor):
        return not torch.equal(one, other)
    return any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))
