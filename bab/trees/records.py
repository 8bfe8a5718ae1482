"""What is stored of pieces: records, a tensor a field with the pieces first.

Every tree adds the fields from which it makes its pieces again (`regions`, `phases`). Field names are those of
`Pieces`, `Multipliers` and `Split` where they hold the same. Where a trailing dimension grows, the new room is filled
with zeros, or with the `fill` in the field's metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self, TypeVar

import torch
from torch import Tensor

from .splits import PHASE, Split, twice


@dataclass(frozen=True, eq=False, kw_only=True)
class Record:
    """A batch of pieces as a search stores them; the `cut_` fields are the split that was chosen for each."""

    goal: Tensor  # (B,) int64: which goal the piece works on
    bound: Tensor  # (B,): the best lower bound of its rows
    depth: Tensor  # (B,) int64: splits above it
    id: Tensor  # (B,) int64: its number, in the order in which pieces came to be; the engine gives it
    parent: Tensor  # (B,) int64: the number of the piece it was cut from, -1 for a root
    cut_index: Tensor  # (B,) int64
    cut_point: Tensor  # (B,)
    logged: Tensor | None = None  # (B,) int64: its number in the log that a search follows, where it follows one

    def __len__(self) -> int:
        return len(self.bound)

    def __getitem__(self, index: Tensor | slice) -> Self:
        return type(self)(**{name: value[index] for name, value in self.columns().items()})

    def columns(self) -> dict[str, Tensor]:
        """The fields by name; those that this search does not use are left out."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    @classmethod
    def fills(cls) -> dict[str, float]:
        """What new room is filled with, by field."""
        return {f.name: f.metadata.get("fill", 0) for f in fields(cls)}

    @property
    def cut(self) -> Split:
        """The chosen split; of trees that only decide neurons."""
        return Split(torch.full_like(self.cut_index, PHASE), self.cut_index, self.cut_point)

    def with_cut(self, cut: Split) -> Self:
        """The same pieces, to be split like this."""
        return replace(self, cut_index=cut.index, cut_point=cut.point)


@dataclass(frozen=True, eq=False, kw_only=True)
class Region(Record):
    """Regions of the input; decided neurons live in their pre-activation bounds and half-spaces."""

    lower: Tensor  # (B, D)
    upper: Tensor  # (B, D)
    normals: Tensor  # (B, H, D)
    offsets: Tensor = field(metadata={"fill": torch.inf})  # (B, H), infinite where a half-space is absent
    pre_lower: Tensor  # (B, N)
    pre_upper: Tensor  # (B, N)
    cut_kind: Tensor  # (B,) int64
    cut_normal: Tensor  # (B, D)
    source: Tensor | None = None  # (B,) int64: the piece that proved what it starts from, where proofs are wanted

    @property
    def cut(self) -> Split:
        return Split(self.cut_kind, self.cut_index, self.cut_point, self.cut_normal)

    def with_cut(self, cut: Split) -> Self:
        normal = torch.zeros_like(self.lower) if cut.normal is None else cut.normal
        return replace(self, cut_kind=cut.kind, cut_index=cut.index, cut_point=cut.point, cut_normal=normal)


@dataclass(frozen=True, eq=False, kw_only=True)
class Branch(Record):
    """Activation branches: decisions, what their bounds start from, and the base they stand on."""

    neuron: Tensor = field(metadata={"fill": -1.0})  # (B, P) int64, -1 where absent
    sign: Tensor  # (B, P)
    point: Tensor  # (B, P): where each was decided
    choice: Tensor  # (B, S, sides, F) half: slopes of the neurons that are undecided at the root
    split: Tensor  # (B, S, P): multipliers of the decisions
    neuron_rows: Tensor  # (B, S, C) half: multipliers of the base's rows
    base: Tensor  # (B,) int64


R = TypeVar("R", bound=Record)


def children_of(record: R, **own: Tensor) -> R:
    """Both children of every piece, child b of piece b and b + B, one level deeper: fields of their `own` (2B, ...),
    everything else inherited. The engine gives them their ids."""
    parent = twice(record.id)
    own |= {"parent": parent, "id": parent, "depth": twice(record.depth) + 1}
    return replace(record, **{n: own[n] if n in own else twice(value) for n, value in record.columns().items()})


def padded(value: Tensor, shape: tuple[int, ...] | torch.Size, fill: float) -> Tensor:
    """The field with trailing dimensions of at least its own size."""
    if tuple(value.shape[1:]) == tuple(shape):
        return value
    out = value.new_full((len(value), *shape), fill)
    out[(slice(None), *(slice(0, n) for n in value.shape[1:]))] = value
    return out


def joined(records: Sequence[R]) -> R:
    """Records one after the other, trailing dimensions brought to the longest."""
    fills, whole = records[0].fills(), {}
    for name in records[0].columns():
        values = [record.columns()[name] for record in records]
        shape = tuple(max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True))
        whole[name] = torch.cat([padded(value, shape, fills[name]) for value in values])
    return type(records[0])(**whole)
