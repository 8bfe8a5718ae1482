"""The three ways to cut a piece in two.

- INPUT: bisect one coordinate of the box at `point`.
- HALF_SPACE: cut by the hyperplane normal x = point: one child has normal x <= point, the other the opposite.
- PHASE: decide a neuron: its pre-activation is <= point in one child, >= point in the other.

Every split covers its piece, and both children contain the cut. A split is a row of tensors (`Split`), so a batch of
pieces, each split in its own way, is cut by a fixed number of operations. The lower child of piece b is child b, the
upper one child b + B.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

INPUT, HALF_SPACE, PHASE = 0, 1, 2
NONE = -1  # nothing is left to split
NAMES = ("input", "half-space", "phase")


@dataclass(frozen=True, eq=False)
class Split:
    """One split a piece. `index` is the coordinate or the neuron; `normal` is present where half-spaces are used."""

    kind: Tensor  # (B,) int64
    index: Tensor  # (B,) int64
    point: Tensor  # (B,)
    normal: Tensor | None = None  # (B, D)

    def put(self, rows: Tensor, other: Split) -> Split:  # (R,)
        """With these rows as another split of R pieces has them."""
        normal = self.normal
        if normal is not None and other.normal is not None:
            normal = normal.index_put((rows,), other.normal)
        own, others = (self.kind, self.index, self.point), (other.kind, other.index, other.point)
        kind, index, point = (a.index_put((rows,), b) for a, b in zip(own, others, strict=True))
        return Split(kind, index, point, normal)

    def json(self, row: int) -> dict[str, object]:
        """One split as a log writes it."""
        kind = NAMES[int(self.kind[row])]
        said: dict[str, object] = {"kind": kind, "point": float(self.point[row])}
        if kind == "half-space":
            said["normal"] = self.normal[row].tolist() if self.normal is not None else []
        else:
            said["index"] = int(self.index[row])
        return said


def twice(value: Tensor) -> Tensor:
    """A field of the pieces as their children start with it."""
    return torch.cat([value, value])


def cut_boxes(lower: Tensor, upper: Tensor, split: Split) -> tuple[Tensor, Tensor]:  # (B, D) -> (2B, D)
    """The children's boxes; splits of other kinds leave them as they are."""
    count = len(lower)
    low, high = twice(lower), twice(upper)
    rows = (split.kind == INPUT).nonzero()[:, 0]
    at = split.index[rows]
    high[rows, at] = split.point[rows]
    low[rows + count, at] = split.point[rows]
    return low, high


def half_spaces(split: Split) -> tuple[Tensor, Tensor]:  # (2B, D), (2B,)
    """What the cut adds to each child's half-spaces: the offset is infinite where the split is another."""
    assert split.normal is not None
    here = split.kind == HALF_SPACE
    point = torch.where(here, split.point, torch.inf)
    return torch.cat([split.normal, -split.normal]), torch.cat([point, torch.where(here, -point, torch.inf)])


def add_half_spaces(
    normals: Tensor,  # (B, H, D)
    offsets: Tensor,  # (B, H), infinite where absent
    new_normals: Tensor,  # (2B, D)
    new_offsets: Tensor,  # (2B,)
    own: int,
    most: int,
) -> tuple[Tensor, Tensor]:  # (2B, H', D), (2B, H') with H' <= own + most
    """The children's half-spaces: the first `own`, which are the input set's, and of the others the newest `most`.

    To drop a half-space makes a piece larger, never smaller.
    """
    normals = torch.cat([twice(normals), new_normals[:, None]], 1)
    offsets = torch.cat([twice(offsets), new_offsets[:, None]], 1)
    rest = normals.shape[1] - own
    if rest <= most:
        return normals, offsets
    # Absent ones go first, the others stay in the order of their age.
    order = own + (offsets[:, own:] < torch.inf).to(torch.int8).argsort(dim=1, stable=True)[:, rest - most :]
    kept = torch.cat([torch.arange(own, device=order.device).expand(len(order), -1), order], 1)
    return normals.gather(1, kept[..., None].expand(-1, -1, normals.shape[2])), offsets.gather(1, kept)


def cut_pre(pre_lower: Tensor, pre_upper: Tensor, split: Split) -> tuple[Tensor, Tensor]:  # (B, N) -> (2B, N)
    """The children's pre-activation bounds: a decided neuron's interval ends at the cut."""
    count = len(pre_lower)
    low, high = twice(pre_lower), twice(pre_upper)
    rows = (split.kind == PHASE).nonzero()[:, 0]
    at = split.index[rows]
    high[rows, at] = torch.minimum(high[rows, at], split.point[rows])
    low[rows + count, at] = torch.maximum(low[rows + count, at], split.point[rows])
    return low, high


def add_decisions(
    neuron: Tensor, sign: Tensor, point: Tensor, split: Split
) -> tuple[Tensor, Tensor, Tensor]:  # (B, P) each -> (2B, Q), Q at most P + 1
    """The children's lists of decided neurons; where the split is another, nothing is added.

    Lists are filled from the left (absent entries are -1), each at its own length, so that Q is the longest list and
    not the number of splits the table has seen.
    """
    length = (neuron >= 0).sum(1)
    width = int(length.max()) + 1
    here = torch.where(split.kind == PHASE, split.index, -1)
    signs = torch.cat([-torch.ones_like(split.point), torch.ones_like(split.point)])
    at = twice(length)[:, None]
    return (
        fitted(twice(neuron), width, -1).scatter(1, at, twice(here)[:, None]),
        fitted(twice(sign), width).scatter(1, at, signs[:, None]),
        fitted(twice(point), width).scatter(1, at, twice(split.point)[:, None]),
    )


def fitted(value: Tensor, width: int, fill: float = 0.0) -> Tensor:
    """The tensor with `width` columns: cut, or filled up on the right."""
    missing = width - value.shape[-1]
    if missing <= 0:
        return value[..., :width].clone()
    return torch.cat([value, value.new_full((*value.shape[:-1], missing), fill)], -1)
