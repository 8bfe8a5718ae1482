"""VNN-LIB: property files, versions 1.0 and 2.0.

Both versions become formulas (`vnnlib1`, `vnnlib2`), and those a `Property` (`cases`). Numbers are the decimals that
are written, strict comparisons are strict.

Source: Demarchi, Guidotti, Pulina, Tacchella, "Supporting standardization of neural networks verification with
VNN-LIB and CoCoNet" (2023).
Soundness: exact, see `cases`.
"""

from __future__ import annotations

import gc
import gzip
import os
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadInput
from . import sexpr
from .property import Property

if TYPE_CHECKING:
    from ..network.graph import Graph

VERSIONS = ("1.0", "2.0")

_VERSION_2 = re.compile(r"\A\s*\(\s*(vnnlib-version|declare-network)\b", re.ASCII)


def load_property(path: str | Path, n_in: int, n_out: int, network: Graph | None = None) -> Property:
    """The property in a `.vnnlib` or `.vnnlib.gz` file, for a network with `n_in` inputs and `n_out` outputs.

    With `network`, the element type and shapes that a version 2.0 file declares must be that one's.

    Raises `BadInput` for a file that cannot be read, is malformed or not linear, does not match the network's sizes,
    or leaves an input without bounds.
    """
    return parse_property(_text(path), n_in, n_out, os.path.basename(path), network)


def parse_property(
    text: str, n_in: int, n_out: int, where: str = "the property", network: Graph | None = None
) -> Property:
    """The property in the text of a VNN-LIB file; `where` names it in errors."""
    # Reading makes many small objects and no cycle; Python's collector would walk all of them again and again.
    enabled = gc.isenabled()
    gc.disable()
    try:
        return _parsed(text, n_in, n_out, where, network)
    finally:
        if enabled:
            gc.enable()


def _parsed(text: str, n_in: int, n_out: int, where: str, network: Graph | None) -> Property:
    text = text.removeprefix("\ufeff")  # the mark that some editors put before a UTF-8 text
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise BadInput(f"{where}, line {line}: a NUL character is no part of VNN-LIB; the file is damaged")
    text = sexpr.without_comments(text)
    if not text or text.isspace():
        raise BadInput(f"{where} is empty; a VNN-LIB property declares variables and asserts constraints")
    if _VERSION_2.match(text):
        from .vnnlib2 import parse_version_2

        return parse_version_2(text, n_in, n_out, where, network)
    from .vnnlib1 import parse_version_1

    return parse_version_1(text, n_in, n_out, where)


def _text(path: str | Path) -> str:
    """The file's text, decompressed where it starts like a gzip file."""
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.readall()
        if data[:2] == b"\x1f\x8b":
            data = _decompressed(data)
        return data.decode("utf-8")
    except FileNotFoundError:
        said = "does not exist"
    except (EOFError, zlib.error, gzip.BadGzipFile):
        said = "is a damaged or truncated gzip file"
    except UnicodeDecodeError:
        said = "is not a text file"
    except OSError as error:
        said = f"cannot be read: {error.strerror}"
    raise BadInput(f"the property {Path(path)} {said}")


def _decompressed(data: bytes) -> bytes:
    """What a gzip file holds. `gzip` takes three times as long for a small one, and is asked about several members."""
    reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
    found = reader.decompress(data)
    return found if reader.eof and not reader.unused_data else gzip.decompress(data)
