"""The thread that puts a log's rows into parts.

The search's thread appends batches to a deque and does nothing else, which is one step for the interpreter: an
interrupt comes before it or after it, and never leaves half of it behind. All counts are this thread's. It writes a
part when it is woken (enough rows wait, the log ends) or when rows have waited for some seconds, also while the search
is in a long step; columns are put together and compressed here, in which pyarrow does not hold the interpreter.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .digests import Digests
from .format import about_part, encodings, part_path
from .table import joined, rows_of, table_of

FIRST, LONGEST = 1.0, 10.0  # seconds that rows wait at most, of the first part and later, twice as long each time
BEHIND = 4  # parts that may wait until the search does


class Writer:
    """Writes parts from `number` on. `names`: what `by` counts, which the search's thread may lengthen; `failed` is
    told of an error, after which nothing more is written."""

    def __init__(
        self,
        folder: Path,
        header: dict[str, Any],
        digests: Digests,
        names: list[str],
        failed: Callable[[Exception], None],
        rows: int,
        number: int = 0,
    ) -> None:
        self.folder, self.header, self.digests, self.names = folder, header, digests, names
        self.failed, self.size = failed, rows
        self.number = number  # of the next part
        self.rows = 0  # written by this run
        self.batches: deque[dict[str, Any]] = deque()
        self.added = 0  # rows ever added, as far as the search's thread knows
        self.taken = 0  # rows ever taken from the batches
        self.broken = False
        self.wakes: queue.SimpleQueue = queue.SimpleQueue()
        self.layers = np.array([layer["start"] for layer in header["layers"]], dtype=np.int64)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def add(self, batch: dict[str, Any]) -> None:
        """Rows that are to be written; waits where the disk cannot keep up."""
        if self.broken:
            return
        self.batches.append(batch)
        self.added += len(batch["id"])
        if self.added - self.taken >= self.size:
            self.wakes.put(False)
            while self.added - self.taken > BEHIND * self.size and self.thread.is_alive() and not self.broken:
                time.sleep(0.005)

    def end(self, seconds: float | None = None) -> None:
        """Writes what is left, and stops, in so many seconds or when the process ends."""
        if self.thread.is_alive():
            self.wakes.put(True)
            self.thread.join(seconds)

    # ---- this thread

    def _run(self) -> None:
        ended = False
        while not ended:
            limit, full = min(LONGEST, FIRST * 2.0 ** min(self.number, 16)), False
            try:
                ended = self.wakes.get(timeout=limit)
                full = not ended  # then only full parts are written
            except queue.Empty:
                pass
            try:
                while self.batches and not self.broken and (not full or self.added - self.taken >= self.size):
                    self._write(self._some())
            except Exception as error:  # it must not take the run with it
                self.broken = True
                self.batches.clear()
                self.failed(error)

    def _some(self) -> list[dict[str, Any]]:
        """The next rows: those of one part."""
        found, rows = [], 0
        while self.batches and rows < self.size:
            batch = self.batches[0]
            count = len(batch["id"])
            if rows and rows + count > 2 * self.size:
                break
            self.batches.popleft()
            if count > 2 * self.size:
                self.batches.appendleft(rows_of(batch, self.size, count))
                batch, count = rows_of(batch, 0, self.size), self.size
            found.append(batch)
            rows += count
        self.taken += rows
        return found

    def _write(self, batches: list[dict[str, Any]]) -> None:
        import pyarrow.parquet as pq

        about = json.dumps(about_part(self.header, self.number))
        table = table_of(joined(batches), list(self.names), self.layers).replace_schema_metadata({"partita": about})
        path = part_path(self.folder, self.number)
        unfinished = path.with_suffix(".tmp")
        try:
            pq.write_table(table, unfinished, **encodings())
            self.digests.add(self.folder, path.name, unfinished.read_bytes())
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        self.number += 1
        self.rows += len(table)
