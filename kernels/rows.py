"""Multipliers times rows, added to coefficients: how multi-neuron rows enter a backward pass.

C rows over the n neurons of a layer, g_c . x <= h_c, with multipliers price >= 0 turn coefficients L into

    L + price @ G,    G = (C, n), each piece's own multipliers on rows that all pieces share.

Rows over groups of K neurons fill K / n of G: 1,000 rows over 3 neurons each of a layer of 256 are 3,000 numbers out of
256,000. So G is also kept by neuron: for neuron j the rows that touch it, at most P of them, and their entries. The
fused version (`triton/rows.py`) walks those lists: 2 P operations an entry of L instead of 2 C. Rows that are dense, as
those over all inputs of a layer are, stay a matrix product.

`pull` makes price @ G, once a pass, for each node that rows touch, from whatever layers; `add_weighed` adds it where
the pass arrives at the node. One step for both, as there was once, would read and write half as much, but the addition
is all it could save from: 2 to 3 % of the time of searches with rows (two instances of mnist_fc, one CPU core).

Rounding: a product and at most P additions a term, whatever the order: entries of G that are zero add without error.
So for |x| <= r `pull` errs by at most gamma_P (price @ |G|) . r. Soundness: whoever adds rows to a lower bound sees to
the signs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .device import fused
from .dot import absolute_dot

# Lists by neuron are used where they are this much shorter than the rows are many.
SPARSE = 4


@dataclass(frozen=True, eq=False)
class LayerRows:
    """C rows over the n neurons of a layer, dense and by neuron. Made once by `layer_rows`, used in every pass."""

    dense: Tensor  # (C, n)
    touching: Tensor  # (P, n) int32: rows that touch each neuron, filled up with 0
    entry: Tensor  # (P, n): their entries, filled up with zeros
    most: int  # P

    def __len__(self) -> int:
        return len(self.dense)

    @property
    def sparse(self) -> bool:
        """Whether walking the lists is less work than the dense product."""
        return len(self) > 0 and self.most * SPARSE <= len(self)


def layer_rows(dense: Tensor) -> LayerRows:  # (C, n)
    """Rows prepared for `pull`. Exact."""
    there = dense != 0
    most = int(there.sum(0).max()) if dense.numel() else 0
    # A stable sort puts the rows that touch a neuron first, in their order.
    touching = there.to(torch.uint8).sort(dim=0, descending=True, stable=True).indices[:most]
    return LayerRows(dense, touching.to(torch.int32), dense.gather(0, touching), most)


def pull(price: Tensor, rows: LayerRows) -> Tensor:  # (B, R, C) -> (B, R, n)
    """price @ G. Errs by at most gamma_P (|price| @ |G|)."""
    if rows.sparse and fused(price, rows.dense):
        from .triton.rows import pull as at_once

        return at_once(price, rows.touching, rows.entry)
    return price @ rows.dense


def add_weighed(
    coefficient: Tensor,  # (B, R, n)
    added: Tensor,  # (B, R, n)
    weight: Tensor,  # (n,) or (B, n), not negative
) -> tuple[Tensor, Tensor]:  # (B, R, n), (B, R)
    """coefficient + added, rounded once, and (|coefficient| + |added|) . weight, right up to gamma of depth(n) + 2,
    relative: where the two cancel, what each of them rounded away does not."""
    if fused(coefficient, added, weight):
        from .triton.rows import add_weighed as at_once

        return at_once(coefficient, added, weight)
    return coefficient + added, absolute_dot(coefficient.abs() + added.abs(), weight)
