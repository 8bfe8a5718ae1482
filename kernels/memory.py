"""Keeping pages: glibc gives large tensors back to the system after every operation unless told otherwise.

Each temporary of a few megabytes is then mapped, faulted in page by page and unmapped again, which costs more than the
arithmetic done on it (the same CROWN pass: 2,525 ms, and 1,104 ms without). `keep_pages` tells the allocator once to
serve large blocks from its heap and to keep what it has. Elsewhere than on glibc it does nothing.
"""

from __future__ import annotations

import ctypes
import sys

# Parameter numbers of mallopt(3).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_pages() -> bool:
    """Sets the allocator up for the rest of the process; whether it could be done."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wanted = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20))
    return all(mallopt(ctypes.c_int(key), ctypes.c_int(value)) == 1 for key, value in wanted)
