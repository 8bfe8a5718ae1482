"""Which version of a kernel runs: Triton's on a CUDA device, the torch reference everywhere else.

The two compute the same function under the same rounding bound, so the choice changes speed alone. Triton needs itself,
a C compiler and Python's headers on the machine, to build its launcher; whether they are there is found out once, by
running the smallest kernel, and one warning says what is missing. Triton's kernels have no derivative: where autograd
records, the reference runs.
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor


def fused(*tensors: Tensor) -> bool:
    """Whether Triton's version should compute with these tensors."""
    first = tensors[0]
    if not first.is_cuda or first.numel() == 0 or first.dtype not in (torch.float32, torch.float64):
        return False
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return False
    return all(t.is_cuda and t.dtype is first.dtype for t in tensors) and _triton_runs(first.device)


@cache
def _triton_runs(device: torch.device) -> bool:
    """Whether Triton can compile for this device and launch on it. Warns once where it cannot."""
    if find_spec("triton") is None:
        warnings.warn("Triton is not installed: the slower torch kernels run (pip install triton)", stacklevel=2)
        return False
    try:
        from .triton.sums import sums

        one = torch.ones(1, 1, 1, device=device)
        return float(sums(one, one[0], None)[0]) == 1.0
    except torch.OutOfMemoryError:
        raise  # says nothing about Triton; asked again next time
    except Exception as error:  # whatever a compiler, a driver or a missing file makes of it
        said = str(error).strip().split("\n")[0] or type(error).__name__
        warnings.warn(f"Triton does not run on {device}, so the slower torch kernels do: {said}", stacklevel=2)
        return False
