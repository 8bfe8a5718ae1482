"""What a linear operator is: three maps (apply, adjoint, absolute value) and two facts that rounding analysis needs.

See `affine`, which has the operators.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class AbstractLinear(ABC):
    """A linear map from flat vectors of `n_in` entries to flat vectors of `n_out` entries (exact, no bias)."""

    @property
    @abstractmethod
    def n_in(self) -> int: ...

    @property
    @abstractmethod
    def n_out(self) -> int: ...

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:  # (*batch, n_in) -> (*batch, n_out)
        """A x."""

    def adjoint(self, y: Tensor) -> Tensor:  # (*batch, n_out) -> (*batch, n_in)
        """A^T y."""
        zeros = y.new_zeros(*y.shape[:-1], self.n_in)
        return torch.func.vjp(self.apply, zeros)[1](y)[0]

    @abstractmethod
    def absolute(self) -> AbstractLinear:
        """The operator whose matrix is the entrywise absolute value of this one's."""

    def magnitude(self) -> AbstractLinear:
        """An operator M >= |A|, the scale of the error of the stored entries."""
        return self.absolute()

    @property
    @abstractmethod
    def terms(self) -> int:
        """Length of the longest inner product in `apply` or `adjoint`."""

    def rows(self, index: Tensor, dtype: torch.dtype) -> Tensor:  # (R,) -> (R, n_in)
        """The rows `index` of the matrix, dense. `dtype` is the caller's: an operator without weights has none."""
        unit = torch.zeros(len(index), self.n_out, dtype=_dtype(self) or dtype, device=index.device)
        unit[torch.arange(len(index), device=index.device), index] = 1
        return self.adjoint(unit).to(dtype)

    def weights(self) -> list[Tensor]:
        """The floating-point tensors of the operator and of those inside it."""
        found = []
        for value in vars(self).values():
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, AbstractLinear):
                    found += part.weights()
                elif isinstance(part, Tensor) and part.is_floating_point():
                    found.append(part)
        return found

    def to(self, dtype: torch.dtype, device: torch.device | str) -> AbstractLinear:
        """The same operator with floating-point tensors in `dtype` and all tensors on `device`."""
        moved: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "scale":
                moved["scale"] = self._moved_scale(dtype, device)
            elif isinstance(value, Tensor):
                moved[f.name] = value.to(device, dtype) if value.is_floating_point() else value.to(device)
            elif isinstance(value, AbstractLinear):
                moved[f.name] = value.to(dtype, device)
            elif isinstance(value, tuple) and value and isinstance(value[0], AbstractLinear):
                moved[f.name] = tuple(v.to(dtype, device) for v in value)
        return replace(self, **moved)

    def _moved_scale(self, dtype: torch.dtype, device: torch.device | str) -> Tensor | None:
        """`scale` for weights stored in `dtype`: what a coarser dtype rounds away dwarfs what `scale` stood for, and
        weights below its normal numbers lose more than a unit roundoff of themselves."""
        scale: Tensor | None = getattr(self, "scale", None)
        stored = next(v for v in vars(self).values() if isinstance(v, Tensor))  # weights stand before their scale
        finfo, size = torch.finfo(dtype), stored.abs()
        ratio = torch.finfo(stored.dtype).eps / finfo.eps
        if ratio >= 1:
            return None if scale is None else scale.to(device, dtype)
        lost = (size < finfo.tiny) & (size > 0)
        if scale is None and not bool(lost.any()):
            return None
        # |stored - exact| <= u' |stored| + t u scale <= t u' (|stored| + (u / u') scale)
        before = 0.0 if scale is None else scale * (2 * ratio)
        more = size * (1 + 2 * finfo.eps) + before + torch.where(lost, 4 * finfo.tiny / finfo.eps, 0.0)
        return more.to(device, dtype)


def _dtype(operator: AbstractLinear) -> torch.dtype | None:
    """The dtype of the operator's weights, also where they are those of an operator inside it; None if it has none."""
    return next((t.dtype for t in operator.weights()), None)
