"""Keeping pages: glibc gives large tensors back to the system after every operation unless told otherwise.

Each temporary of a few megabytes is then mapped, faulted in page by page and unmapped again, which costs more than the
arithmetic done on it (the same CROWN pass: 2,525 ms, and 1,104 ms without). Within `pages_kept` the allocator serves
large blocks from its heap and keeps what it has; afterwards it is as it was: as the environment sets it, else as glibc
sets itself where large blocks are freed (it cannot be asked; its thresholds move up to these ends by themselves, and
stand still once they were set). `keep_pages` tells it once, for processes that are ours. Elsewhere than on glibc
nothing is done.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys

from .held import Found, Held

# Parameter numbers of mallopt(3).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4

KEEPING = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 64 << 20}
# glibc's own numbers, and the names under which the environment may set others.
USUAL = {
    M_MMAP_MAX: (65536, "mmap_max"),
    M_MMAP_THRESHOLD: (32 << 20, "mmap_threshold"),
    M_TRIM_THRESHOLD: (64 << 20, "trim_threshold"),
    M_TOP_PAD: (128 << 10, "top_pad"),
}


def keep_pages() -> bool:
    """Sets the allocator up for the rest of the process; whether it could be done."""
    return _set(KEEPING)


def usual(environment: dict[str, str]) -> dict[int, int]:
    """What the allocator is set to without us, by the number of the parameter."""
    tunables = dict(part.split("=", 1) for part in environment.get("GLIBC_TUNABLES", "").split(":") if "=" in part)
    found = {}
    for key, (number, name) in USUAL.items():
        said = tunables.get(f"glibc.malloc.{name}", environment.get(f"MALLOC_{name.upper()}_", ""))
        found[key] = int(said) if said.isdecimal() and int(said) < 2**31 else number
    return found


def _set(numbers: dict[int, int]) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(ctypes.c_int(key), ctypes.c_int(value)) == 1 for key, value in numbers.items())


def _take() -> Found:
    """mallopt cannot be asked, so what is held is set by the first holder alone."""
    if pages_kept.users:
        return Found()
    return Found(kept=_set(KEEPING))


def _put_back(found: Found) -> None:
    _set(usual(dict(os.environ)))


pages_kept = Held("the C library's allocator", _take, _put_back)


def room() -> float:
    """Bytes that the limit on this process's address space (`ulimit -v`) leaves it; infinite without one."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return math.inf
        with open("/proc/self/statm", encoding="ascii") as file:
            return limit - int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError, AttributeError):
        return math.inf
