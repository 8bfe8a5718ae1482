"""Sets as bits of integers: count them, find a free one, write them as bytes.

A word is an int64 whose 64 bits are 64 members; which of two's complement's bits is the sign plays no part. Words are
in NumPy's arrays: it counts bits with the processor's own instruction, and PyTorch has no such operation.

Soundness: exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.int64]

WORD = 64
FACETS = 62  # members of a set that has to be kept in one word with room to spare


def popcount(words: Words) -> NDArray[np.uint8]:  # (...) -> (...)
    """How many members each set has."""
    v = words.view(np.uint64)
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(v)
    v = v - ((v >> np.uint64(1)) & np.uint64(0x5555555555555555))  # NumPy 1: sums of neighbouring bits, pairs, nibbles
    v = (v & np.uint64(0x3333333333333333)) + ((v >> np.uint64(2)) & np.uint64(0x3333333333333333))
    v = (v + (v >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return ((v * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8)


def lowest_free(words: Words) -> Words:  # (C,) -> (C,)
    """The set that holds the least member which is not in the word, alone."""
    return ~words & (words + 1)


def place(single: Words) -> NDArray[np.uint8]:  # (C,) -> (C,)
    """The member of sets that have one."""
    return popcount(single - 1)


def set_bit(words: Words, place: int, on: NDArray[np.bool_]) -> None:  # (C, W), (C,)
    """Puts member `place` into the sets, in place, where `on`."""
    word, bit = divmod(place, WORD)
    words[:, word] |= on.astype(np.int64) << bit


def to_bytes(words: Words, count: int) -> NDArray[np.uint8]:  # (C, W) -> (C, ceil(count / 8))
    """Members 0 .. count - 1 as packed bytes, the least member in the lowest bit of the first byte."""
    rows = np.ascontiguousarray(words).astype("<i8", copy=False).view(np.uint8)
    return np.ascontiguousarray(rows[:, : (count + 7) // 8])


def to_booleans(words: Words, count: int) -> NDArray[np.bool_]:  # (C, W) -> (C, count)
    """Members 0 .. count - 1 as one truth value each."""
    return np.unpackbits(to_bytes(words, count), axis=1, count=count, bitorder="little").view(bool)
