"""Rows that tie several neurons of one layer together: what multi-neuron relaxations add to single-neuron lines.

For the activation node y = f(z), z = A v + b, a row says, for every value the network takes,

    on_post . y[index] + on_pre . z[index] + on_source . v  <=  offset.

Rows over groups of neurons (k-ReLU, PRIMA) leave `on_source` out and touch the K neurons of `index`; rows over all
inputs of the layer (M_k; Anderson et al. 2020) have coefficients on v: on all of it, or, where a neuron reads few of
its inputs, on those of `source_index`. They are found once, for a layer and a set of
inputs, and hold on all its pieces; each may enter a linear program, or a backward bound with a multiplier >= 0.

Soundness: whoever makes rows rounds `offset` outward; every row holds in real arithmetic for the stored coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True, eq=False)
class Facets:
    """C rows of one activation node; see the module's essay."""

    position: int  # of the activation node in `Graph.nodes`
    index: Tensor  # (C, K) int64, neurons of the layer; where fewer than K are meant, any with zero coefficients
    on_post: Tensor  # (C, K)
    on_pre: Tensor  # (C, K)
    offset: Tensor  # (C,)
    on_source: Tensor | None = None  # (C, m) or (C, M), on the one node that feeds the affine node below
    source_index: Tensor | None = None  # (C, M) int64, entries of that node; padded like `index`

    def __len__(self) -> int:
        return len(self.offset)

    def __getitem__(self, rows: Tensor | slice) -> Facets:
        some = lambda t: None if t is None else t[rows]  # noqa: E731
        return Facets(
            self.position,
            self.index[rows],
            self.on_post[rows],
            self.on_pre[rows],
            self.offset[rows],
            some(self.on_source),
            some(self.source_index),
        )

    def dense(self, size: int) -> tuple[Tensor, Tensor]:  # (C, n), (C, n)
        """Coefficients on all `size` neurons' values and pre-activations."""
        zero = self.on_post.new_zeros(len(self), size)
        return zero.scatter_add(1, self.index, self.on_post), zero.scatter_add(1, self.index, self.on_pre)

    def violation(self, pre: Tensor, post: Tensor, source: Tensor | None = None) -> Tensor:  # (*b, n), (*b, m)
        """How far each row is broken, (*b, C): positive where it is. Plain floating point."""
        left = (post[..., self.index] * self.on_post).sum(-1) + (pre[..., self.index] * self.on_pre).sum(-1)
        if self.on_source is None:
            return left - self.offset
        assert source is not None, "rows on the source's values are asked with them"
        if self.source_index is None:
            return left + source @ self.on_source.mT - self.offset
        return left + (source[..., self.source_index] * self.on_source).sum(-1) - self.offset


def joined(parts: Sequence[Facets]) -> Facets:
    """The rows of several sets of one layer, as one set. What has different widths is filled up with zeros."""
    if len(parts) == 1:
        return parts[0]

    def together(values: Sequence[Tensor]) -> Tensor:
        width = max(value.shape[1] for value in values)
        return torch.cat([pad(value, (0, width - value.shape[1])) for value in values])

    on_source = source_index = None
    if any(p.on_source is not None for p in parts):
        on_source = together([p.offset.new_zeros(len(p), 1) if p.on_source is None else p.on_source for p in parts])
    if any(p.source_index is not None for p in parts):
        assert not any(p.on_source is not None and p.source_index is None for p in parts), "dense beside listed entries"
        none = [p.index.new_zeros(len(p), 1) for p in parts]
        source_index = together([i if p.source_index is None else p.source_index for p, i in zip(parts, none)])
    return Facets(
        parts[0].position,
        index=together([p.index for p in parts]),
        on_post=together([p.on_post for p in parts]),
        on_pre=together([p.on_pre for p in parts]),
        offset=torch.cat([p.offset for p in parts]),
        on_source=on_source,
        source_index=source_index,
    )
