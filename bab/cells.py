"""The cells of a count in a Parquet file: one row a cell, written in row groups as they are found.

    pattern       bytes: neuron j of all neurons, layer after layer, is bit j % 8 of byte j // 8; 1 is active
    polytope      which input polytope of the property, from 0
    certain       the cell is proved or free of rounding; others were counted anew in exact arithmetic, or not at all
    dimension     of the cell
    point         a point inside the cell (relative to its dimension): the mean of its vertices
    vertices      for up to 3 inputs: the vertices, one after the other, in counterclockwise order for 2 inputs
    volume        for up to 3 inputs: length, area or volume

The file's metadata name the network's input and neuron counts. A count by linear programs (more than 8 inputs, or
`--rational`) keeps no cells by their vertices and writes none. Half a file is no file here: it gets its name when it
is closed, after an interrupt too.

Soundness: float64 without a guarantee; the count is what is certain.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..kernels import bits
from ..kernels.double_description import Polytopes
from ..problems.errors import BadInput

if TYPE_CHECKING:
    from .pattern_search import Found

ROWS = 65_536  # of a row group
VOLUMES = 3  # inputs up to which vertices and volumes are written


class CellWriter:
    """Writes batches of cells to `cells.parquet` in a folder; a context manager."""

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "cells.parquet"
        self.unfinished = self.path.with_suffix(".parquet.part")
        self.writer: Any = None
        self.polytopes: list[object] = []
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.unfinished.open("wb").close()
        except OSError as error:
            raise BadInput(f"{self.path.parent} cannot be written to: {error.strerror}") from error

    def __enter__(self) -> CellWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()
            self.unfinished.replace(self.path)
        else:
            self.unfinished.unlink()

    def write(self, found: Found) -> None:
        """One batch of finished cells."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not any(p is found.polytope for p in self.polytopes):
            self.polytopes.append(found.polytope)
        place = next(i for i, p in enumerate(self.polytopes) if p is found.polytope)
        d, neurons = found.plan.graph.input_size, found.plan.graph.neurons
        for part in torch.arange(len(found.cells)).split(ROWS):
            cells = found.cells.select(part)
            columns = _columns(cells, d, found.plan.half, neurons, place, found.certain[part])
            table = pa.table(columns, metadata={"inputs": str(d), "neurons": str(neurons)})
            if self.writer is None:
                self.writer = pq.ParquetWriter(self.unfinished, table.schema, compression="zstd")
            self.writer.write_table(table)


def _columns(cells: Polytopes, d: int, half: int, neurons: int, place: int, certain: torch.Tensor) -> dict[str, Any]:
    import pyarrow as pa

    packed = bits.to_bytes(cells.labels[:, :half].contiguous(), neurons)
    width = packed.shape[1]
    pattern = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(cells), [None, pa.py_buffer(packed.tobytes())])
    x = cells.points[:, :d].index_select(0, cells.vertex).numpy()
    start = cells.start.numpy()
    mean = np.add.reduceat(x, start[:-1], axis=0) / np.diff(start)[:, None]
    columns = {
        "pattern": pattern,
        "polytope": pa.array(np.full(len(cells), place, dtype=np.int32)),
        "certain": pa.array(certain.numpy()),
        "dimension": pa.array(_dimensions(cells, x, start, d)),
        "point": pa.FixedSizeListArray.from_arrays(pa.array(mean.ravel()), d),
    }
    if d <= VOLUMES:
        ordered = _around(x, mean, start) if d == 2 else x
        columns["vertices"] = pa.ListArray.from_arrays(
            pa.array((start * d).astype(np.int32)), pa.array(ordered.ravel())
        )
        columns["volume"] = pa.array(_volumes(ordered, start, d, cells.full.numpy()))
    return columns


def _dimensions(cells: Polytopes, x: NDArray[np.float64], start: NDArray[np.int64], d: int) -> NDArray[np.int8]:
    dimension = np.full(len(cells), d, dtype=np.int8)
    for i in np.flatnonzero(~cells.full.numpy()):
        own = x[start[i] : start[i + 1]]
        dimension[i] = np.linalg.matrix_rank(own[1:] - own[0], tol=1e-12 * (1 + np.abs(own).max()))
    return dimension


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
