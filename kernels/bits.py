"""Sets as bits of integers: count them, unite them over segments, find a free one, write them as bytes.

A word is an int64 whose 64 bits are 64 members; which of two's complement's bits is the sign plays no part. Words are
on the CPU: NumPy counts bits with the processor's own instruction, and PyTorch has no such operation.

Soundness: exact.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WORD = 64
FACETS = 62  # members of a set that has to be kept in one word with room to spare


def popcount(words: Tensor) -> Tensor:  # (...) int64 -> (...) uint8
    """How many members each set has."""
    if hasattr(np, "bitwise_count"):
        return torch.from_numpy(np.bitwise_count(words.numpy().view(np.uint64)))
    v = words.numpy().view(np.uint64)  # NumPy 1: sums of neighbouring bits, pairs, nibbles, bytes
    v = v - ((v >> np.uint64(1)) & np.uint64(0x5555555555555555))
    v = (v & np.uint64(0x3333333333333333)) + ((v >> np.uint64(2)) & np.uint64(0x3333333333333333))
    v = (v + (v >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return torch.from_numpy(((v * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8))


def union(words: Tensor, start: Tensor) -> Tensor:  # (T,) int64, (C + 1,) -> (C,)
    """The union of each segment's sets; segments are not empty."""
    if len(start) < 2:
        return words.new_zeros(0)
    return torch.from_numpy(np.bitwise_or.reduceat(words.numpy(), start[:-1].numpy()))


def intersection(words: Tensor, start: Tensor) -> Tensor:  # (T,) int64, (C + 1,) -> (C,)
    """What all sets of each segment share; segments are not empty."""
    if len(start) < 2:
        return words.new_zeros(0)
    return torch.from_numpy(np.bitwise_and.reduceat(words.numpy(), start[:-1].numpy()))


def lowest_free(words: Tensor) -> Tensor:  # (C,) int64 -> (C,) int64
    """The set that holds the least member which is not in the word, alone."""
    return ~words & (words + 1)


def place(single: Tensor) -> Tensor:  # (C,) int64 -> (C,) int64
    """The member of sets that have one."""
    return popcount(single - 1).long()


def set_bit(words: Tensor, place: int, on: Tensor) -> None:  # (C, W) int64, (C,) bool
    """Puts member `place` into the sets, in place, where `on`."""
    word, bit = divmod(place, WORD)
    value = 1 << bit if bit < WORD - 1 else -(1 << bit)
    words[:, word] |= on.long() * value


def to_bytes(words: Tensor, count: int) -> NDArray[np.uint8]:  # (C, W) -> (C, ceil(count / 8))
    """Members 0 .. count - 1 as packed bytes, the least member in the lowest bit of the first byte."""
    rows = np.ascontiguousarray(words.numpy()).astype("<i8", copy=False).view(np.uint8)
    return np.ascontiguousarray(rows.reshape(len(words), 8 * words.shape[1])[:, : (count + 7) // 8])


def to_booleans(words: Tensor, count: int) -> Tensor:  # (C, W) -> (C, count) bool
    """Members 0 .. count - 1 as one truth value each."""
    packed = to_bytes(words, count)
    return torch.from_numpy(np.unpackbits(packed, axis=1, count=count, bitorder="little").view(bool))
