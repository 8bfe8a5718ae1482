"""The cells of a count in a Parquet file: one row a cell, written in row groups as they are found.

    pattern       bytes: neuron j of all neurons, layer after layer, is bit j % 8 of byte j // 8; 1 is active
    polytope      which input polytope of the property, from 0
    dimension     of the cell; null where exact arithmetic found a cell of `all`
    point         a point inside the cell (relative to its dimension)
    vertices      for up to 3 inputs: the vertices, one after the other, in counterclockwise order for 2 inputs
    volume        for up to 3 inputs: length, area or volume

Vertices and volume are null for cells that linear programs or exact arithmetic found. Only certain cells are written:
the rows of a finished count are its patterns, once for each polytope that has them. The file's metadata name the
numbers of inputs and neurons. Half a file is no file here: it gets its name when it is closed, after an interrupt too.

Soundness: that each pattern exists is certain; coordinates and volumes are float64 without a guarantee.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...problems.errors import BadInput

if TYPE_CHECKING:
    from .search import Found

ROWS = 65_536  # of a row group
VOLUMES = 3  # inputs up to which vertices and volumes are written


class CellWriter:
    """Writes batches of cells to `cells.parquet` in a folder; a context manager."""

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "cells.parquet"
        self.unfinished = self.path.with_suffix(".parquet.part")
        self.writer: Any = None
        self.polytopes: list[object] = []
        self.failure = ""  # why there is no file: the count goes on without
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.unfinished.open("wb").close()
        except OSError as error:
            raise BadInput(f"{self.path.parent} cannot be written to: {error.strerror}") from error

    def __enter__(self) -> CellWriter:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.writer is not None:
                self.writer.close()
                self.unfinished.replace(self.path)
        except OSError as error:
            self._fail(error)
        self.unfinished.unlink(missing_ok=True)

    def _fail(self, error: OSError) -> None:
        self.failure = f"the cells could not be written to {self.path}: {error.strerror or error}"
        self.writer = None

    def write(self, found: Found) -> None:
        """One batch of finished cells; where the disk takes no more, there is no file in the end."""
        if self.failure:
            return
        try:
            self._write(found)
        except OSError as error:
            self._fail(error)

    def _write(self, found: Found) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not any(p is found.polytope for p in self.polytopes):
            self.polytopes.append(found.polytope)
        place = next(i for i, p in enumerate(self.polytopes) if p is found.polytope)
        for begin in range(0, len(found.patterns), ROWS):
            table = pa.table(_columns(found, begin, min(begin + ROWS, len(found.patterns)), place))
            if self.writer is None:
                self.writer = pq.ParquetWriter(self.unfinished, table.schema, compression="zstd")
            self.writer.write_table(table)


def _columns(found: Found, a: int, b: int, place: int) -> dict[str, Any]:
    """Rows a .. b - 1 of a batch."""
    import pyarrow as pa

    d, width = found.points.shape[1], found.patterns.shape[1]
    packed = np.ascontiguousarray(found.patterns[a:b]).tobytes()
    dimensions = found.dimensions[a:b]
    columns = {
        "pattern": pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), b - a, [None, pa.py_buffer(packed)]),
        "polytope": pa.array(np.full(b - a, place, dtype=np.int32)),
        "dimension": pa.array(dimensions, mask=dimensions < 0),
        "point": pa.FixedSizeListArray.from_arrays(pa.array(found.points[a:b].ravel()), d),
    }
    if d <= VOLUMES and (found.start is None or found.vertices is None):
        columns["vertices"] = pa.nulls(b - a, pa.list_(pa.float64()))
        columns["volume"] = pa.nulls(b - a, pa.float64())
    elif found.start is not None and found.vertices is not None and d <= VOLUMES:
        start = found.start[a : b + 1] - found.start[a]
        x = found.vertices[found.start[a] : found.start[b]]
        x = _around(x, found.points[a:b], start) if d == 2 else x
        columns["vertices"] = pa.ListArray.from_arrays(pa.array((start * d).astype(np.int32)), pa.array(x.ravel()))
        columns["volume"] = pa.array(_volumes(x, start, d, dimensions == d))
    return columns


def _around(x: NDArray[np.float64], mean: NDArray[np.float64], start: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each polygon's vertices counterclockwise around their mean."""
    owner = np.repeat(np.arange(len(mean)), np.diff(start))
    away = x - mean[owner]
    return x[np.lexsort((np.arctan2(away[:, 1], away[:, 0]), owner))]


def _volumes(x: NDArray[np.float64], start: NDArray[np.int64], d: int, full: NDArray[np.bool_]) -> NDArray[np.float64]:
    if d == 1:
        volume = np.maximum.reduceat(x[:, 0], start[:-1]) - np.minimum.reduceat(x[:, 0], start[:-1])
    elif d == 2:
        following = np.arange(1, len(x) + 1)
        following[start[1:] - 1] = start[:-1]
        y = x[following]
        volume = np.add.reduceat(x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0], start[:-1]) / 2
    else:
        from scipy.spatial import ConvexHull, QhullError

        volume = np.zeros(len(full))
        for i in np.flatnonzero(full):
            try:
                volume[i] = ConvexHull(x[start[i] : start[i + 1]]).volume
            except QhullError:  # flatter than Qhull can tell
                volume[i] = 0.0
    return np.where(full, volume, 0.0)
