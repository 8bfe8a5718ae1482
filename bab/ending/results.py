"""Verdicts on paper: the competition's results file, the summary, and files that are never half-written.

A results file is what VNN-COMP's scripts read: the verdict alone on the first line, and after `sat` the assignment
in the property's own form. The summary is one JSON object with what the verdict cost, for programs that run many
verifications. A file is written beside its target and renamed over it, so that a reader sees the old content or the
new, and whether it can be written at all is known before the work starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...problems.errors import BadInput
from ..search.verdict import Verdict
from .streams import lost, of_descriptor

if TYPE_CHECKING:
    from ...problems.properties.property import Property
    from ..search.outcome import Outcome


def result_text(outcome: Outcome, prop: Property) -> str:
    """The verdict, and for `sat` the witness: the content of a results file."""
    if outcome.witness is None or outcome.decimals is None or outcome.verdict != Verdict.VIOLATED:
        return outcome.verdict + "\n"
    from ...problems.properties.witness_text import witness_text

    return f"sat\n{witness_text(outcome.decimals, outcome.witness[1], prop.declaration)}\n"


def summary_text(verdict: str, reason: str, pieces: int, seconds: float, stats: dict) -> str:
    """One JSON object; `seconds` is wall time from the process's start."""
    summary = {"verdict": verdict, "reason": reason, "pieces": pieces, "seconds": round(seconds, 4), "stats": stats}
    return json.dumps(summary, default=str) + "\n"


def check_writable(path: Path) -> None:
    """Raises `BadInput` where `path` could not be written, and leaves nothing behind."""
    if of_descriptor(path) is not None:
        return
    path = _target(path)
    if path.is_dir():
        raise BadInput(f"the results cannot be written to {path}, which is a folder; name a file")
    if not path.parent.is_dir():
        raise BadInput(f"the results cannot be written to {path}: the folder {path.parent} does not exist")
    try:
        if path.exists() and not path.is_file():  # a device or a pipe
            writable = os.access(path, os.W_OK)
        else:
            writable = not path.exists() or os.access(path, os.W_OK)
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            os.close(descriptor)
            os.unlink(name)
    except OSError as error:
        raise BadInput(f"the results cannot be written to {path}: {error.strerror}") from None
    except ValueError as error:  # a name that is none
        raise BadInput(f"the results cannot be written to {str(path)!r}: {error}") from None
    if not writable:
        raise BadInput(f"the results cannot be written to {path}: no permission")


def write_atomically(path: Path, text: str) -> None:
    """Replaces the file's content as a whole, that of its target where it is a link. A device or a pipe, which cannot
    be replaced, is written to, and so is the file behind standard output or error (`/dev/stdout`), where it stands.

    Raises `OSError` where that fails; then the old content is there.
    """
    number = of_descriptor(path)
    if number is not None:
        stream = sys.stdout if number == 1 else sys.stderr
        stream.write(text)
        error = lost(stream)
        if error is not None:
            raise error
        return
    path = _target(path)
    if path.exists() and not path.is_file():
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            error.filename = str(path)
            raise
        return
    with whole(path) as beside, open(beside, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file beside `path`, with its suffix, that takes its place when the block ends well, and is removed else."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    try:
        os.close(descriptor)
        yield Path(name)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = str(path)  # what the user knows it by
        with contextlib.suppress(OSError):  # gone with its folder
            os.unlink(name)
        raise


def _target(path: Path) -> Path:
    """Where a link leads to: a link is not replaced, what it names is."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _umask() -> int:
    """The process's file-creation mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
