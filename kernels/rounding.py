"""Constants of floating-point error analysis (Higham, Accuracy and Stability of Numerical Algorithms, 2002, ch. 3)."""

from __future__ import annotations

import torch


def unit_roundoff(dtype: torch.dtype) -> float:
    """u: half the distance from 1 to the next number."""
    return torch.finfo(dtype).eps / 2


def gamma(n: int, dtype: torch.dtype) -> float:
    """gamma_n = n u / (1 - n u): an inner product of n terms, summed in any order, with or without fused
    multiply-adds, errs by at most gamma_n times the inner product of the absolute values.

    Raises ValueError where n u >= 1/2, where the bound says nothing.
    """
    nu = n * unit_roundoff(dtype)
    if nu >= 0.5:
        raise ValueError(f"inner products of {n} terms have no useful rounding bound in {dtype}")
    return nu / (1 - nu)
