"""The dispatch mode: every operation is checked, counted, computed on the CPU, its result put where CUDA's would be."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .log import Log
from .rules import FREE, INDEXING, WAITS, check
from .tensor import ACTIVE, Pretend

CPU = torch.device("cpu")


class Rules(TorchDispatchMode):
    """See the module's essay; `generators` are those that say they are on a device."""

    def __init__(self, log: Log, count: int = 1) -> None:
        super().__init__()
        self.log, self.count = log, count
        self.generators: dict[int, tuple[torch.Generator, torch.device]] = {}
        self.latest = torch.device("cuda", 0)  # where C++ means by `meta`, its word for our devices

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch wraps every call, and imports its compiler for it

    def __enter__(self) -> Rules:
        ACTIVE.append(self)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        ACTIVE.pop()
        super().__exit__(*error)

    def device(self, asked: Any) -> torch.device:
        """A device as PyTorch would make of it: with an index, and one that there is."""
        found = torch.device(asked) if not isinstance(asked, int) else torch.device("cuda", asked)
        if found.type == "meta":
            return self.latest
        if found.type != "cuda":
            return found
        if (found.index or 0) >= self.count:
            raise self.log.refused(RuntimeError, "CUDA error: invalid device ordinal")
        return torch.device("cuda", found.index or 0)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors: list[torch.Tensor] = []
        for value in (*args, *kwargs.values()):
            if isinstance(value, torch.Tensor):
                tensors.append(value)
            elif isinstance(value, list | tuple):
                tensors += [t for t in value if isinstance(t, torch.Tensor)]
        there = next((t.device for t in tensors if type(t) is Pretend), None)
        asked = kwargs.get("device")
        if there is None and (asked is None or asked.type == "cpu"):
            self._same_generator(kwargs, CPU)
            return func(*args, **kwargs)
        name = func._schema.name.split("::")[1]
        if there is not None:
            self.latest = there
            check(name, args, tensors, self.log)
        if asked is not None:
            target = self.device(asked)
        elif name in INDEXING or name == "copy_":
            target = args[0].device
        else:
            target = there
        self._same_generator(kwargs, target)
        self._count(func, name, args, there, target)
        return self._computed(func, name, args, kwargs, target)

    def _same_generator(self, kwargs: dict[str, Any], target: torch.device) -> None:
        generator = kwargs.get("generator")
        if generator is None:
            return
        own = self.generators.get(generator._cdata, (None, CPU))[1]
        if own != target:
            message = f"Expected a '{target.type}' device type for generator but found '{own.type}'"
            raise self.log.refused(RuntimeError, message)

    def _count(
        self, func: Any, name: str, args: tuple[Any, ...], there: torch.device | None, target: torch.device
    ) -> None:
        if name in ("copy_", "_to_copy"):
            source = args[name == "copy_"]
            if source.device != target:
                self.log.wait(f"copy to {target.type}")
                return
        if name in WAITS:
            self.log.wait(WAITS[name])
        elif name in INDEXING and any(i is not None and i.dtype is torch.bool for i in args[1]):
            self.log.wait("mask")
        if name not in FREE and not func.is_view:
            self.log.launch(name)

    def _computed(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], target: torch.device
    ) -> Any:
        """The result on the CPU, put on `target`; what was changed in place is given back as it came."""
        changed: dict[int, Pretend] = {}

        def real(value: Any) -> Any:
            if type(value) is Pretend:
                changed[id(value.held)] = value
                return value.held
            if isinstance(value, list | tuple):
                return type(value)(real(v) for v in value)
            return value

        kwargs = {key: real(value) for key, value in kwargs.items()}
        if "device" in kwargs:
            kwargs["device"] = CPU
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        given, args = args, real(args)
        out = func(*args, **kwargs)
        if torch.Tag.inplace_view in func.tags:  # squeeze_ and its like: the wrapper's shape changes as well
            with torch._C._DisableTorchDispatch():
                func(*given, **kwargs)
        if target.type == "cpu":
            return out

        def wrapped(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                known = changed.get(id(value))
                if known is None:
                    return Pretend(value, target)
                if known.shape != value.shape:
                    raise NotImplementedError(f"{name} changes a shape in place, which this device cannot follow")
                return known
            if isinstance(value, list | tuple):
                return type(value)(wrapped(v) for v in value)
            return value

        return wrapped(out)
