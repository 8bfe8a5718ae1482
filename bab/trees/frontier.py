"""The open pieces: one table of tensors with a row for each, in reused slots.

The table has a column for each field of the tree's records (`records`). Taking pieces out frees their slots and putting
children in fills them, so a step costs what its batch weighs, however many pieces are open. Trailing dimensions
(decided neurons, half-spaces) grow as needed; the new room is filled with what the record says of that field.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

import torch
from torch import Tensor

from .records import R, padded


class Frontier(Generic[R]):
    """A pool of records of one type, that of the first."""

    def __init__(self) -> None:
        self._kind: type[R] | None = None
        self._fill: dict[str, float] = {}
        self._table: dict[str, Tensor] = {}
        self._free = torch.zeros(0, dtype=torch.int64)  # slots; on the records' device from the first on
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def bytes(self) -> int:
        """Memory the table holds."""
        return sum(t.numel() * t.element_size() for t in self._table.values())

    @property
    def worst(self) -> float:
        """The lowest bound of an open piece."""
        return float(self._table["bound"].min()) if self._count else torch.inf

    @property
    def deepest(self) -> int:
        """The greatest depth of an open piece."""
        if not self._count:
            return 0
        return int(self._table["depth"][self._table["bound"] < torch.inf].max())

    def push(self, record: R) -> None:
        """Adds pieces."""
        count, columns = len(record), record.columns()
        if count == 0:
            return
        if not self._table:
            self._kind, self._fill = type(record), record.fills()
            self._table = {name: value.new_empty(0, *value.shape[1:]) for name, value in columns.items()}
            self._free = torch.zeros(0, dtype=torch.int64, device=record.bound.device)
        self._widen(columns)
        if len(self._free) < count:
            self._grow(count)
        slots, self._free = self._free[:count], self._free[count:]
        for name, table in self._table.items():
            table[slots] = padded(columns[name], table.shape[1:], self._fill[name])
        self._count += count

    def pop(self, count: int, *, best: bool = False, grouped_by: str | None = None) -> R:
        """Takes out the `count` pieces with the lowest bounds (the highest with `best`, which keeps memory low); of
        those that agree with the first of them in the field `grouped_by`, if one is named."""
        bound = self._table["bound"]
        order = torch.where(bound < torch.inf, bound, -torch.inf) if best else bound
        count = min(count, self._count)
        if grouped_by is not None:
            first = order.argmax() if best else order.argmin()
            other = self._table[grouped_by] != self._table[grouped_by][first]
            order = order.masked_fill(other, -torch.inf if best else torch.inf)
            count = min(count, int(((bound < torch.inf) & ~other).sum()))
        return self._taken(order.topk(count, largest=best).indices)

    def take(self, chosen: Callable[[R], Tensor]) -> R:
        """Takes out the pieces of which `chosen` says so, given all open ones."""
        slots = (self._table["bound"] < torch.inf).nonzero()[:, 0]
        return self._taken(slots[chosen(self._at(slots))])

    def _at(self, slots: Tensor) -> R:
        assert self._kind is not None
        return self._kind(**{name: table[slots] for name, table in self._table.items()})

    def _taken(self, slots: Tensor) -> R:
        record = self._at(slots)
        self._table["bound"][slots] = torch.inf
        self._free = torch.cat([slots, self._free])
        self._count -= len(slots)
        return record

    def rows(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        """These fields of all open pieces, which stay where they are."""
        open_ = (self._table["bound"] < torch.inf).nonzero()[:, 0]
        return {name: self._table[name][open_] for name in names}

    def goals(self) -> list[int]:
        """The goals that have open pieces."""
        return self._table["goal"][self._table["bound"] < torch.inf].unique().tolist() if self._count else []

    def _widen(self, columns: dict[str, Tensor]) -> None:
        for name, table in self._table.items():
            shape = tuple(max(a, b) for a, b in zip(table.shape[1:], columns[name].shape[1:], strict=True))
            if shape != tuple(table.shape[1:]):
                self._table[name] = padded(table, shape, self._fill[name])

    def _grow(self, needed: int) -> None:
        old = len(self._table["bound"])
        size = max(256, old + needed, old + old // 2)
        for name, table in self._table.items():
            bigger = table.new_empty(size, *table.shape[1:])
            bigger[:old] = table
            self._table[name] = bigger
        self._table["bound"][old:] = torch.inf
        self._free = torch.cat([self._free, torch.arange(old, size, device=self._free.device)])
