"""The lock of a log's folder: of all runs that want to write there one does, and the others are told.

The lock is held on a file of its own, because headers are replaced, and because what two runs find absent they would
both write. It is taken before anything in the folder is read or written, also by a run that takes the log up: what it
read before could be out of date. The system drops it when the process ends, in whatever way, and it is not handed on
to programs that the process starts.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import IO, Any

from ...problems.errors import BadInput
from .format import LOCK

TRIES = 100  # of opening a file that others keep replacing


def locked(folder: Path) -> IO[bytes]:
    """The folder's lock file, held until it is closed; `BadInput` where another run holds it or it is none. May raise
    `OSError`."""
    path = folder / LOCK
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if path.is_symlink():
        raise BadInput(f"{path} is a link and cannot lock the log; remove it, or name another folder")
    for _ in range(TRIES):
        file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
        try:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BadInput(f"{path} is no plain file and cannot lock the log; remove it, or name another folder")
            _lock(file, folder)
            if _is(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # it was removed or replaced while we waited for it
    raise BadInput(f"the log {folder} cannot be locked: {path.name} is replaced again and again")


def _lock(file: Any, folder: Path) -> None:
    with contextlib.suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(
                f"another run is writing the log {folder}; wait for its end, or name another folder"
            ) from None


def _is(file: Any, path: Path) -> bool:
    """Whether the open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
