"""Inner products of many rows with a vector each, in a known order of summation.

(B, R, n) rows with one vector (B, n) a piece look like a batched matrix product with one column, but libraries do that
with B calls of a matrix-vector routine; multiplying and summing is three times as fast (256 x 70 x 50, one core:
513 us and 160 us). It also lets the order be chosen. A sum of n terms in an unknown order errs by gamma_n; summed in
blocks of `BLOCK` and then over blocks, only by gamma of `depth(n)`, which for the layers of a convolutional network
(n = 8192) is 192 instead of 8192. On a CUDA device `triton/sums.py` computes them within the same bound, in one reading
of the rows.
"""

from __future__ import annotations

from math import ceil

from torch import Tensor

from .device import fused

BLOCK = 64


def depth(n: int) -> int:
    """How many roundings a term meets in `dot`: its product, and the additions above it."""
    return n if n <= 2 * BLOCK else BLOCK + ceil(n / BLOCK) + 1


def dot(rows: Tensor, vector: Tensor) -> Tensor:  # (B, R, n), (n,) or (B, n) or (B, R, n) -> (B, R)
    """rows . vector."""
    if fused(rows, vector):
        from .triton.sums import sums

        return sums(rows, vector, None)[0]
    if vector.ndim == 1 and len(vector) <= 2 * BLOCK:
        return rows @ vector
    return _total(rows * (vector[:, None] if vector.ndim == 2 else vector))


def absolute_dot(rows: Tensor, vector: Tensor) -> Tensor:  # as `dot`, vector >= 0
    """|rows| . vector."""
    if fused(rows, vector):
        from .triton.sums import sums

        return sums(rows, None, vector)[1]
    return _total((rows * (vector[:, None] if vector.ndim == 2 else vector)).abs_())


def dot_and_absolute(
    rows: Tensor,  # (B, R, n)
    vector: Tensor,  # (n,) or (B, n) or (B, R, n)
    weight: Tensor,  # likewise, >= 0
) -> tuple[Tensor, Tensor]:  # (B, R), (B, R)
    """rows . vector and |rows| . weight; where the kernel is fused, the rows are read once."""
    if fused(rows, vector, weight):
        from .triton.sums import sums

        return sums(rows, vector, weight)
    return dot(rows, vector), absolute_dot(rows, weight)


def _total(products: Tensor) -> Tensor:
    n = products.shape[-1]
    if n <= 2 * BLOCK:
        return products.sum(-1)
    whole = n // BLOCK * BLOCK
    total = products[..., :whole].unflatten(-1, (-1, BLOCK)).sum(-1).sum(-1)
    return total if whole == n else total + products[..., whole:].sum(-1)
