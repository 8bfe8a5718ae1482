"""The boxes of the pieces that are boxes, and their volumes, as the log needs them.

A tree clips a piece to where a counterexample may still be, so what it stores is smaller than the piece: the rest is
proved. The partition is made of the pieces themselves, root and cuts alone. Their boxes are kept here: a table of slots
for the pieces that have not ended, found through one number a piece (four bytes of memory each, all pieces counted).

A piece is a box while every cut above it is an input split and the input set has no half-spaces. The volume is taken
over the sides on which the root is not flat. Exact up to float64 rounding of the product; takes no part in a verdict.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
GONE = -1
WIDEST = 64  # inputs up to which volumes are kept


def volume(lower: Array, upper: Array, free: NDArray[np.bool_]) -> Array:  # (B, D) each -> (B,)
    """Each box's volume over its sides that count."""
    return np.where(free, upper - lower, 1.0).prod(1)


class Volumes:
    """Boxes by piece. `lower`, `upper`: (B, D) of the first pieces `ids`; `free`: (G, D) sides that count, by goal;
    `count`: ids given so far.
    """

    def __init__(self, ids: Ints, lower: Array, upper: Array, free: NDArray[np.bool_], count: int) -> None:
        self.free = free
        self.lower, self.upper = lower.copy(), upper.copy()
        self.slots = np.full(count, GONE, dtype=np.int32)
        self.slots[ids] = np.arange(len(ids))
        self.used = len(ids)  # slots that were ever in use
        self.stack, self.spare = np.zeros(len(ids), np.int64), 0  # those free again, the top last

    def of(self, ids: Ints, goals: Ints) -> Array:
        """Each piece's volume, NaN where it is no box."""
        slots = self._slots(ids)
        known = slots != GONE
        found = np.full(len(ids), np.nan)
        found[known] = volume(self.lower[slots[known]], self.upper[slots[known]], self.free[goals[known]])
        return found

    def split(self, ids: Ints, child: Ints, index: Ints, point: Array, boxes: NDArray[np.bool_]) -> None:
        """The pieces `ids` are cut in two; where `boxes`, the children `child` and `child + 1` are boxes as well."""
        slots = self._slots(ids)
        boxes = boxes & (slots != GONE)
        self.end(ids[~boxes])
        low, first, at, cut = slots[boxes], child[boxes], index[boxes], point[boxes]
        high = self._take(len(low))
        self.lower[high], self.upper[high] = self.lower[low], self.upper[low]
        self.upper[low, at] = cut
        self.lower[high, at] = cut
        self._name(int(child.max(initial=-1)) + 2)
        self.slots[ids[boxes]] = GONE
        self.slots[first], self.slots[first + 1] = low, high

    def end(self, ids: Ints) -> None:
        """These pieces are over."""
        slots = self._slots(ids)
        slots = slots[slots != GONE]
        self.slots[ids] = GONE
        if self.spare + len(slots) > len(self.stack):
            self.stack = np.concatenate([self.stack[: self.spare], np.zeros(len(self.lower) + len(slots), np.int64)])
        self.stack[self.spare : self.spare + len(slots)] = slots
        self.spare += len(slots)

    def _slots(self, ids: Ints) -> Ints:
        return self.slots[ids].astype(np.int64)

    def _name(self, count: int) -> None:
        """Room for pieces up to `count`."""
        if count > len(self.slots):
            room = np.full(max(count, len(self.slots) * 3 // 2) - len(self.slots), GONE, dtype=np.int32)
            self.slots = np.concatenate([self.slots, room])

    def _take(self, count: int) -> Ints:
        """Free slots; the table grows where there are none."""
        again = min(count, self.spare)
        taken = self.stack[self.spare - again : self.spare].copy()
        self.spare -= again
        if again == count:
            return taken
        old = self.used
        self.used += count - again
        if self.used > len(self.lower):
            room = np.zeros((max(self.used - len(self.lower), old // 2), self.lower.shape[1]))
            self.lower, self.upper = np.concatenate([self.lower, room]), np.concatenate([self.upper, room])
        return np.concatenate([taken, np.arange(old, self.used)])
