"""Things that hold tensors, however deep, copied from one device to another."""

from __future__ import annotations

import io
import pickle
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class _Taken(pickle.Pickler):
    """Everything but the tensors, which it collects."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.tensors: list[Tensor] = []
        self.numbers: dict[int, int] = {}

    def persistent_id(self, thing: Any) -> int | None:
        if not isinstance(thing, Tensor):
            return None
        if id(thing) not in self.numbers:
            self.numbers[id(thing)] = len(self.tensors)
            self.tensors.append(thing)
        return self.numbers[id(thing)]


class _Given(pickle.Unpickler):
    """Puts tensors where they were."""

    def __init__(self, file: io.BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(file)
        self.tensors = tensors

    def persistent_load(self, number: int) -> Tensor:
        return self.tensors[number]


def moved(thing: T, device: torch.device | str) -> T:
    """A copy with every tensor on `device`; tensors that are one stay one, and those that are there are shared. What
    cannot be pickled cannot be moved. Exact."""
    file = io.BytesIO()
    taken = _Taken(file)
    taken.dump(thing)
    file.seek(0)
    return _Given(file, [tensor.to(device) for tensor in taken.tensors]).load()
