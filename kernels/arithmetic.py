"""What rounding bounds assume of the machine, and how PyTorch is held to it.

`rounding.gamma` holds for inner products whose terms are products rounded in the working dtype, summed in any order.
Three things PyTorch may do break that: TF32 or bfloat16 factors in float32 products (10 or 8 bits of mantissa), which
it is told by two generations of switches and by autocast; and fast convolutions (Winograd, FFT), which mix neighbouring
pixels, so that an error is no longer in proportion to the terms of its own entry. On CUDA cuDNN does the last two in
float32 alone and unasked; it has no such algorithm in float64. On CPUs oneDNN convolves directly, and NNPACK, which
PyTorch takes where oneDNN is switched off, does not. So NNPACK is off, and float32 convolutions on CUDA go past cuDNN,
at a price in speed that float64, which does not, often saves again.

Precision, NNPACK and cuDNN are settings of the process, held by `Held`; autocast, inference mode, the default device
and the flushing of denormal numbers are the calling thread's, and are put back when it leaves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor

from .held import Found, Held
from .hush import untouched

# Whose factors may be shortened, as the switches of PyTorch 2.9 and later name them. cuDNN's are not among them.
MATMUL = (("cuda", "matmul"), ("mkldnn", "matmul"))
PRODUCTS = (*MATMUL, ("mkldnn", "conv"), ("mkldnn", "rnn"))
SHORT = ("tf32", "bf16")
FULL = "ieee"
Get = Callable[[str, str], str]
Set = Callable[[str, str, str], object]
_switch: Get | None = getattr(torch._C, "_get_fp32_precision_getter", None)
_set_switch: Set | None = getattr(torch._C, "_set_fp32_precision_setter", None)


@contextmanager
def full_products() -> Iterator[None]:
    """Within it this thread's products are inner products of their factors in the dtype they have, whatever the caller
    has set. Raises `Disturbed` at its end where other code changed that meanwhile."""
    with _products(), _plain(), untouched():
        yield


def direct_convolution(image: Tensor) -> AbstractContextManager[object]:
    """Within it a convolution of `image` is an inner product for each of its entries."""
    if image.is_cuda and image.dtype is torch.float32:
        return past_cudnn()
    return nullcontext()


# ---- of the process


def _lengthen() -> Found:
    """No factor of a product is shortened from here on; what was set otherwise."""
    found = Found()
    if _switch is not None and _set_switch is not None:
        for product in PRODUCTS:
            if _switch(*product) in SHORT:
                found[product] = _own(product, _switch, _set_switch)
                _set_switch(*product, FULL)
    word = torch.get_float32_matmul_precision()  # raises where it and the switches differ; here they do no more
    if word != "highest":
        if _switch is not None:  # which the word sets as well
            found = {product: _switch(*product) for product in MATMUL} | found
        found["word"] = word
        torch.set_float32_matmul_precision("highest")
    if torch._C._get_nnpack_enabled():
        found["nnpack"] = True
        torch._C._set_nnpack_enabled(False)
    return found


def _own(product: tuple[str, str], get: Get, put: Set) -> str:
    """A switch's own position, 'none' where it follows a more general one. Those are full for the moment."""
    general = (("generic", "all"), (product[0], "all"))
    found: list[tuple[tuple[str, str], str]] = []
    for switch in general:
        if get(*switch) in SHORT:
            found.append((switch, get(*switch)))
            put(*switch, FULL)
    own = get(*product)
    for switch, position in reversed(found):
        put(*switch, position)
    return own if own in SHORT else "none"


def _shorten(found: Found) -> None:
    if "word" in found:
        torch.set_float32_matmul_precision(found["word"])
    for product in PRODUCTS:
        if product in found and _set_switch is not None:
            _set_switch(*product, found[product])
    if "nnpack" in found:
        torch._C._set_nnpack_enabled(True)


def _leave_cudnn() -> Found:
    on = torch._C._get_cudnn_enabled()
    torch._C._set_cudnn_enabled(False)
    return Found(on=True) if on else Found()


def _to_cudnn(found: Found) -> None:
    torch._C._set_cudnn_enabled("on" in found)


_products = Held("PyTorch's precision of float32 products", _lengthen, _shorten)
past_cudnn = Held("torch.backends.cudnn.enabled", _leave_cudnn, _to_cudnn)


# ---- of the thread


@contextmanager
def _plain() -> Iterator[None]:
    """Within it the calling thread's autocast, inference mode, default device and flushing of denormals are off."""
    smallest = sys.float_info.min
    flushing = smallest * 0.5 == 0.0  # of the processor, for PyTorch offers no question
    casting = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    with ExitStack() as stack:
        if flushing:
            torch.set_flush_denormal(False)
            stack.callback(torch.set_flush_denormal, True)
        for kind in casting:
            torch.set_autocast_enabled(kind, False)
            stack.callback(torch.set_autocast_enabled, kind, True)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
