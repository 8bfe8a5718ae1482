"""What PyTorch says while there is a pretend device, and the few functions that C++ would end before any dispatch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

from partita.kernels import device as choice

from .log import Log
from .mode import Rules
from .tensor import Pretend

MEMORY = 139 * 2**30


@contextmanager
def cuda(
    log: Log | None = None, count: int = 1, capability: tuple[int, int] = (9, 0), memory: float = MEMORY
) -> Iterator[Log]:
    """Within it PyTorch has `count` CUDA devices. At the end nothing may have been refused, even if it was caught."""
    log = log or Log()
    mode = Rules(log, count)
    with ExitStack() as stack:
        for owner, name, value in (*_answers(mode, capability, memory), *_functions(mode)):
            stack.enter_context(patch.object(owner, name, value))
        stack.enter_context(mode)
        yield log
    assert not log.errors, "refused on a CUDA device: " + "; ".join(dict.fromkeys(log.errors))


def _answers(mode: Rules, capability: tuple[int, int], memory: float) -> list[tuple[Any, str, Any]]:
    def existing(device: Any = None) -> torch.device:
        return mode.device("cuda" if device is None else device)

    def told(answer: Any) -> Callable[..., Any]:
        def tell(device: Any = None) -> Any:
            existing(device)
            return answer

        return tell

    answers = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "device_count": lambda: mode.count,
        "current_device": lambda: 0,
        "manual_seed_all": lambda seed: None,
        "empty_cache": lambda: None,
        "synchronize": told(None),
        "get_device_name": told("a device that is not there"),
        "get_device_capability": told(capability),
        "mem_get_info": told((int(memory), int(memory))),
        "max_memory_allocated": told(0),
        "reset_peak_memory_stats": told(None),
    }
    found: list[tuple[Any, str, Any]] = [(torch.cuda, name, value) for name, value in answers.items()]
    return [*found, (choice, "_triton_runs", lambda device: False)]


def _functions(mode: Rules) -> list[tuple[Any, str, Any]]:
    """`to` with the index that C++ would ask CUDA for, and what makes tensors of Python's numbers."""
    to, tensor, new_tensor, generator = torch.Tensor.to, torch.tensor, torch.Tensor.new_tensor, torch.Generator

    def moved(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        given: list[Any] = []
        for value in args:
            if isinstance(value, torch.Tensor):
                given += [value.device, value.dtype]
            else:
                given.append(mode.device(value) if isinstance(value, str | torch.device) else value)
        if kwargs.get("device") is not None:
            kwargs["device"] = mode.device(kwargs["device"])
        if type(self) is Pretend:
            if kwargs.get("device") == self.device:
                del kwargs["device"]
            given = [value for value in given if value != self.device]
            if not any(isinstance(value, torch.dtype | torch.device) for value in (*given, *kwargs.values())):
                return self.clone() if kwargs.get("copy") or True in given[1:] else self
        return to(self, *given, **kwargs)

    def made(data: Any, *, device: Any = None, **kwargs: Any) -> torch.Tensor:
        found = tensor(data, **kwargs)
        return found if device is None else moved(found, device)

    def as_tensor(data: Any, dtype: torch.dtype | None = None, device: Any = None) -> torch.Tensor:
        found = data if isinstance(data, torch.Tensor) else whole(data)
        wanted = {"dtype": dtype, "device": device}
        wanted = {key: value for key, value in wanted.items() if value is not None}
        return moved(found, **wanted) if wanted else found

    whole = torch.as_tensor

    def new(self: torch.Tensor, data: Any, *, dtype: Any = None, device: Any = None, **more: Any) -> torch.Tensor:
        if type(self) is not Pretend and device is None:
            return new_tensor(self, data, dtype=dtype, **more)
        return made(data, dtype=dtype or self.dtype, device=self.device if device is None else device, **more)

    class Generator(torch.Generator):
        """Of the CPU whatever it says."""

        def __new__(cls, device: Any = "cpu") -> torch.Generator:  # type: ignore[misc]
            where = mode.device(device)
            found = generator("cpu")
            if where.type == "cuda":
                mode.generators[found._cdata] = found, where
            return found

    return [
        (torch.Tensor, "to", moved),
        (torch.Tensor, "cuda", lambda self, device=None, **kwargs: moved(self, "cuda" if device is None else device)),
        (torch.Tensor, "new_tensor", new),
        (torch, "tensor", made),
        (torch, "as_tensor", as_tensor),
        (torch, "asarray", as_tensor),
        (torch, "Generator", Generator),
    ]
