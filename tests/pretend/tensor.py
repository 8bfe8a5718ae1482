"""A tensor that holds real numbers on the CPU and says that it lives on a CUDA device."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import torch

if TYPE_CHECKING:
    from .mode import Rules

ACTIVE: list[Rules] = []  # the modes that have been entered, the innermost last


class Pretend(torch.Tensor):
    """`held` is where the numbers are, `device` what Python code sees. In C++ it is a `meta` tensor, so that autograd
    looks for no CUDA stream."""

    held: torch.Tensor
    _where: torch.device

    @staticmethod
    def __new__(cls, real: torch.Tensor, device: torch.device) -> Pretend:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            real.size(),
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            device="meta",
        )
        made.held, made._where = real, device
        return made

    device = property(lambda self: self._where)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]

    def get_device(self) -> int:
        return self._where.index

    def tolist(self):  # type: ignore[no-untyped-def]
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False):  # type: ignore[no-untyped-def]
        if force:
            return self.cpu().numpy()
        self._no_numpy()

    def __array__(self, *args: object, **kwargs: object) -> NoReturn:
        self._no_numpy()

    def _no_numpy(self) -> NoReturn:
        message = f"can't convert {self._where} device type tensor to numpy. Use Tensor.cpu() to copy it first."
        raise ACTIVE[-1].log.refused(TypeError, message)

    def __repr__(self, **kwargs: object) -> str:
        return f"{self.held!r} pretending to be on {self._where}"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return ACTIVE[-1].run(func, args, kwargs or {})
