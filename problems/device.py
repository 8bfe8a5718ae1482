"""Where tensors live, as a user may say it: `cpu`, `cuda`, `cuda:1`, or a `torch.device` of these.

Reading a name costs nothing: PyTorch is imported only to look whether the device is there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .errors import BadInput

if TYPE_CHECKING:
    import torch

NAME = re.compile(r"(cpu)(?::0)?|(cuda(?::(?:0|[1-9]\d{0,3}))?)")
NAMES = "cpu, cuda, cuda:N"


def device_name(value: object) -> str | None:
    """`cpu`, `cuda` (the current one) or `cuda:N` for a name or a `torch.device`; None for anything else."""
    if f"{type(value).__module__}.{type(value).__qualname__}" == "torch.device":
        value = str(value)
    found = NAME.fullmatch(value) if isinstance(value, str) else None
    return found and (found[1] or found[2])


def present(name: str, otherwise: str) -> torch.device:
    """The device of a name that `device_name` gave. Raises `BadInput` where it is not here; `otherwise` is what that
    sentence recommends."""
    import torch

    found = torch.device(name)
    if found.type == "cpu":
        return found
    if not torch.cuda.is_available():
        raise BadInput(f"device '{name}' was asked for, but PyTorch finds no CUDA device here; use {otherwise}")
    count = torch.cuda.device_count()
    if found.index is not None and found.index >= count:
        there = "cuda:0 alone" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise BadInput(f"device '{name}' was asked for, but PyTorch finds {there} here; use that or {otherwise}")
    return found


def automatic(neurons: int, most: int) -> str:
    """The device that `auto` means for a network of so many neurons: a GPU where there are more than `most`."""
    import torch

    return "cuda" if neurons > most and torch.cuda.is_available() else "cpu"
