"""Rows that tie several neurons of one layer together: what multi-neuron relaxations add to single-neuron lines.

For the activation node y = f(z), z = A v + b, a row says, for every value the network takes,

    on_post . y[index] + on_pre . z[index] + on_source . v  <=  offset.

Rows over groups of neurons (k-ReLU, PRIMA) leave `on_source` out and touch the K neurons of `index`; rows over all
inputs of the layer (M_k; Anderson et al. 2020) have coefficients on v. They are found once, for a layer and a set of
inputs, and hold on all its pieces; each may enter a linear program, or a backward bound with a multiplier >= 0.

Soundness: whoever makes rows rounds `offset` outward; every row holds in real arithmetic for the stored coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Facets:
    """C rows of one activation node; see the module's essay."""

    position: int  # of the activation node in `Graph.nodes`
    index: Tensor  # (C, K) int64, neurons of the layer; where fewer than K are meant, any with zero coefficients
    on_post: Tensor  # (C, K)
    on_pre: Tensor  # (C, K)
    offset: Tensor  # (C,)
    on_source: Tensor | None = None  # (C, m), on the one node that feeds the affine node below

    def __len__(self) -> int:
        return len(self.offset)

    def __getitem__(self, rows: Tensor | slice) -> Facets:
        some = None if self.on_source is None else self.on_source[rows]
        return Facets(self.position, self.index[rows], self.on_post[rows], self.on_pre[rows], self.offset[rows], some)

    def dense(self, size: int) -> tuple[Tensor, Tensor]:  # (C, n), (C, n)
        """Coefficients on all `size` neurons' values and pre-activations."""
        zero = self.on_post.new_zeros(len(self), size)
        return zero.scatter_add(1, self.index, self.on_post), zero.scatter_add(1, self.index, self.on_pre)

    def violation(self, pre: Tensor, post: Tensor, source: Tensor | None = None) -> Tensor:  # (*b, n), (*b, m)
        """How far each row is broken, (*b, C): positive where it is. Plain floating point."""
        left = (post[..., self.index] * self.on_post).sum(-1) + (pre[..., self.index] * self.on_pre).sum(-1)
        if self.on_source is not None:
            left = left + source @ self.on_source.mT
        return left - self.offset


def joined(parts: Sequence[Facets]) -> Facets:
    """The rows of several sets of one layer, as one set. Groups of different size are filled up with zeros."""
    width = max(part.index.shape[1] for part in parts)
    fill = lambda t: torch.nn.functional.pad(t, (0, width - t.shape[1]))  # noqa: E731
    sources = [part.on_source for part in parts]
    if any(s is not None for s in sources):
        size = next(s.shape[1] for s in sources if s is not None)
        sources = [p.offset.new_zeros(len(p), size) if s is None else s for p, s in zip(parts, sources, strict=True)]
    return Facets(
        parts[0].position,
        torch.cat([fill(part.index) for part in parts]),
        torch.cat([fill(part.on_post) for part in parts]),
        torch.cat([fill(part.on_pre) for part in parts]),
        torch.cat([part.offset for part in parts]),
        None if sources[0] is None else torch.cat(sources),
    )
