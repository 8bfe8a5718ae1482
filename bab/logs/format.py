"""The partition log on disk: what its files hold.

A log is a folder:

    header.json              what was verified and how: written once, before the search
    pieces-00000.parquet ... the pieces, in the order in which they ended, some hundred thousand rows a file
    digests.txt              a line for the header and each part: a chain, see `digests`
    footer.json              the verdict; absent while the run goes on, and after it was killed
    lock                     empty; held by the run that writes, so that no second one does

Parquet needs its footer to be read, so each part is closed, under another name, before it is renamed to its own: of a
killed run what it had written is whole, and at most the last seconds are missing. Every part carries the header in its
schema's metadata (key `partita`; without the input boxes) with its own number, so a lone part still says whose it is,
and a part of another run is noticed.

One row a piece, written when the piece ends, by being split or closed. `COLUMNS` says what a row holds. A piece that
was stuck, or left open at the end of a run, may end again in a run that takes the log up: its last row counts. A child
without a row is open; what made it stands in its parent's row, so a log never lacks a piece.

Row groups are compressed with zstd; ids are stored as differences, numbers byte plane by byte plane (float32 values
held as float64 then cost no more than float32), all else through dictionaries. About 13 bytes a piece on acasxu.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...problems.errors import BadInput

if TYPE_CHECKING:
    import pyarrow

FORMAT = 3  # since 2: strict rows and bounds, exact numbers; since 3: digests
READABLE = (2, 3)  # formats that are read; only logs of the last one are gone on with
HEADER, FOOTER, LOCK, DIGESTS = "header.json", "footer.json", "lock", "digests.txt"
PARTS = "pieces-*.parquet"
MOST_PARTS = 1_000_000
MOST_ROWS = 1 << 20  # of a part
MOST_BYTES = 1 << 28  # of a header or a footer
MOST_PART = 1 << 30  # bytes of a part
STATES = ("split", "closed", "stuck", "open")
SPLIT, CLOSED, STUCK, OPEN = range(4)

COLUMNS = {
    "id": "the piece's number; the roots are 0 to G - 1, one a goal",
    "parent": "the number of the piece it was cut from, -1 for a root",
    "side": "0: the lower child (x or normal x or pre-activation <= point), 1: the upper one, -1: a root",
    "depth": "cuts above it",
    "goal": "the pair of an input polytope and an unsafe set that it works on; see the header",
    "state": "split, closed (proved to hold no counterexample), stuck (neither can be done), open",
    "by": "closed by: a relaxation's name, float64, linear program, exact arithmetic, empty; null otherwise",
    "bound": "lower bound of the goal's best row on the piece; null where none is known",
    "seconds": "since the search began; a resumed run counts on",
    "share": "2^-depth, its share of its root's tree",
    "volume": "of boxes, over the sides that are not flat; null where the piece is no box",
    "kind": "how it was split: input, half-space or phase; null for a leaf",
    "layer": "phase: the number of the activation layer",
    "index": "input: the coordinate; phase: the neuron in its layer",
    "point": "where the cut is",
    "normal": "half-space: the coefficients on the inputs",
    "child": "the number of its lower child; the upper child's is the next one",
}


def schema() -> pyarrow.Schema:
    """The columns' types."""
    import pyarrow as pa

    word, real = pa.string(), pa.float64()
    types = {
        **dict.fromkeys(("id", "parent", "child"), pa.int64()),
        **dict.fromkeys(("depth", "goal", "layer", "index"), pa.int32()),
        **dict.fromkeys(("bound", "seconds", "share", "volume", "point"), real),
        **dict.fromkeys(("state", "by", "kind"), word),
        "side": pa.int8(),
        "normal": pa.list_(real),
    }
    return pa.schema([(name, types[name]) for name in COLUMNS])


def encodings() -> dict[str, Any]:
    """Options of pyarrow's writer; see the module's essay."""
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": ["side", "depth", "goal", "state", "by", "kind", "layer", "index", "share", "seconds"],
        "column_encoding": {
            **dict.fromkeys(("id", "parent", "child"), "DELTA_BINARY_PACKED"),
            **dict.fromkeys(("bound", "point", "volume"), "BYTE_STREAM_SPLIT"),
        },
        "write_statistics": ["id"],
    }


def part_path(folder: Path, number: int) -> Path:
    return folder / f"pieces-{number:05d}.parquet"


def about_part(header: dict[str, Any], number: int) -> dict[str, Any]:
    """What a part says of itself: the header without the input boxes, and its number."""
    return {key: value for key, value in header.items() if key != "inputs"} | {"part": number}


def read_bytes(path: Path, what: str, most: int) -> bytes:
    """The content of a plain file of at most so many bytes; `BadInput` where it is another, or cannot be read."""
    try:
        if not path.is_file():
            raise BadInput(f"the {what} {path} is no plain file" if path.exists() else f"the {what} {path} is missing")
        size = path.stat().st_size
        if size > most:
            raise BadInput(f"the {what} {path} is damaged: it has {size} bytes, where {most} are the most")
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"the {what} {path} cannot be read: {error.strerror}") from None


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A header or a footer; `BadInput` where it cannot be read."""
    return parsed(read_bytes(path, what, MOST_BYTES), path, what)


def parsed(content: bytes, path: Path, what: str) -> dict[str, Any]:
    """The JSON object in a file's content; `BadInput` where it is none."""
    try:
        value = json.loads(content.decode("utf-8"))
    except ValueError:
        raise BadInput(f"the {what} {path} is damaged: it is not JSON") from None
    except RecursionError:
        raise BadInput(f"the {what} {path} is damaged: it is nested too deeply") from None
    if not isinstance(value, dict):
        raise BadInput(f"the {what} {path} is damaged: it is not a JSON object")
    return value
