"""What rounding bounds assume of the machine, and how PyTorch is held to it.

`rounding.gamma` holds for inner products whose terms are products rounded in the working dtype, summed in any order.
Three things PyTorch may do break that: TF32 or bfloat16 factors in float32 products (10 or 8 bits of mantissa), and
fast convolutions (Winograd, FFT), which mix neighbouring pixels, so that an error is no longer in proportion to the
terms of its own entry. cuDNN does the last two in float32 alone and unasked; it has no such algorithm in float64, and
oneDNN, on CPUs, convolves directly. So float32 convolutions on CUDA go past cuDNN, at a price in speed that float64,
which does not, often saves again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor


@contextmanager
def full_products() -> Iterator[None]:
    """Within it float32 matrix products use float32 factors, whatever the caller has set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def direct_convolution(image: Tensor) -> AbstractContextManager[object]:
    """Within it a convolution of `image` is an inner product for each of its entries."""
    if image.is_cuda and image.dtype is torch.float32:
        return torch.backends.cudnn.flags(enabled=False)
    return nullcontext()
