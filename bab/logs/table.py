"""Rows of the partition log as an Arrow table, and back: the search's batches in, plain arrays out.

A batch is a dictionary of arrays, one entry a piece, or of one value for all of them; `normal` has a row for each
half-space split only. What a kind of row does not have is null on disk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..trees.splits import HALF_SPACE, NAMES, PHASE
from .format import COLUMNS, STATES, schema

Columns = dict[str, NDArray]
ABSENT: tuple[tuple[str, Any, Any], ...] = (  # column, what it is where a batch does not say, type
    ("id", 0, np.int64),
    ("parent", -1, np.int64),
    ("side", -1, np.int8),
    ("depth", 0, np.int32),
    ("goal", 0, np.int32),
    ("state", 0, np.int8),
    ("by", -1, np.int8),
    ("bound", np.nan, np.float64),
    ("seconds", 0.0, np.float64),
    ("volume", np.nan, np.float64),
    ("kind", -1, np.int8),
    ("index", 0, np.int64),
    ("point", 0.0, np.float64),
    ("child", -1, np.int64),
)


def joined(batches: list[dict[str, Any]]) -> Columns:
    """The batches' columns, one after the other."""
    sizes = [len(batch["id"]) for batch in batches]
    columns = {}
    for name, absent, kind in ABSENT:
        parts = [batch.get(name, absent) for batch in batches]
        full = [p if isinstance(p, np.ndarray) else np.full(n, p) for p, n in zip(parts, sizes, strict=True)]
        columns[name] = np.concatenate(full).astype(kind, copy=False)
    normals = [batch["normal"] for batch in batches if len(batch.get("normal", ()))]
    columns["normal"] = np.concatenate(normals) if normals else np.zeros((0, 0))
    return columns


def rows_of(batch: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    """Some rows of a batch."""
    count = len(batch["id"])
    kind = batch.get("kind")
    at = [0, 0] if kind is None else [int((kind[:end] == HALF_SPACE).sum()) for end in (start, stop)]
    some = {
        name: value[start:stop] if np.ndim(value) and len(value) == count else value for name, value in batch.items()
    }
    return some | ({"normal": batch["normal"][at[0] : at[1]]} if "normal" in batch else {})


def table_of(columns: Columns, names: list[str], layers: NDArray[np.int64]) -> Any:
    """An Arrow table. `names`: what `by` counts; `layers`: the first neuron of each activation layer."""
    import pyarrow as pa

    def words(codes: NDArray, said: tuple[str, ...]) -> Any:
        codes = pa.array(codes, mask=codes < 0)
        return pa.DictionaryArray.from_arrays(codes, pa.array(said, pa.string())).dictionary_decode()

    kind, index = columns["kind"], columns["index"]
    leaf, phase, half = kind < 0, kind == PHASE, kind == HALF_SPACE
    layer = np.searchsorted(layers, index, side="right") - 1
    if phase.any():
        index = np.where(phase, index - layers[layer], index)
    normal = columns["normal"]
    ends = np.concatenate([[0], np.cumsum(np.where(half, normal.shape[1], 0))]).astype(np.int32)
    arrays: dict[str, Any] = {
        name: pa.array(columns[name]) for name in ("id", "parent", "side", "depth", "goal", "seconds")
    }
    arrays |= {name: pa.array(columns[name], mask=~np.isfinite(columns[name])) for name in ("bound", "volume")}
    arrays |= {
        "state": words(columns["state"], STATES),
        "by": words(columns["by"], tuple(names)),
        "share": pa.array(np.exp2(-columns["depth"].astype(np.float64))),
        "kind": words(kind, NAMES),
        "layer": pa.array(layer.astype(np.int32), mask=~phase),
        "index": pa.array(index.astype(np.int32), mask=leaf | half),
        "point": pa.array(columns["point"], mask=leaf),
        "normal": pa.ListArray.from_arrays(pa.array(ends), pa.array(normal.ravel()), mask=pa.array(~half)),
        "child": pa.array(columns["child"], mask=leaf),
    }
    return pa.table({name: arrays[name] for name in COLUMNS}, schema=schema())


def columns_of(table: Any, names: list[str], layers: NDArray[np.int64]) -> Columns:
    """The arrays that `table_of` was given; names of `by` that are new are added to `names`.

    Raises `KeyError` or `ValueError` where the table is no log's.
    """
    table = table.combine_chunks()

    def plain(name: str, absent: Any, kind: Any) -> NDArray:
        column = table[name]
        filled = column.fill_null(absent) if column.null_count else column
        return filled.to_numpy().astype(kind, copy=False)

    def words(name: str, said: list[str]) -> NDArray:
        """Codes into `said`."""
        column = table[name]
        if not len(column):
            return np.zeros(0, dtype=np.int8)
        column = column.chunk(0)
        column = column if hasattr(column, "indices") else column.dictionary_encode()
        own = column.dictionary.to_pylist()
        said += [word for word in own if word not in said]
        codes = column.indices.fill_null(len(own)).to_numpy().astype(np.int64)
        return np.array([*(said.index(word) for word in own), -1], dtype=np.int8)[codes]

    special = ("state", "by", "kind")
    columns = {name: plain(name, absent, kind) for name, absent, kind in ABSENT if name not in special}
    columns["state"], columns["kind"] = words("state", list(STATES)), words("kind", list(NAMES))
    columns["by"] = words("by", names)
    phase = columns["kind"] == PHASE
    columns["index"] = columns["index"] + np.where(phase, layers[plain("layer", 0, np.int64)] if len(layers) else 0, 0)
    rows = int((columns["kind"] == HALF_SPACE).sum())
    flat = table["normal"].drop_null().combine_chunks().flatten().to_numpy() if rows else np.zeros(0)
    columns["normal"] = flat.reshape(rows, -1) if rows else np.zeros((0, 0))
    return columns
