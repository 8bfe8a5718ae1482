"""The partition log: an observer that writes every piece of a run to disk as the run goes on. See `logs.format`.

Events come with whole batches of pieces, so the search pays a few copies a batch; columns are put together, compressed
and written by a thread of their own, in which pyarrow does not hold the interpreter. A part is written when it is full
or some seconds old (one at first, ten later), so that of a run that is killed at most these seconds are missing.

A disk that fills up ends the log, not the run: what was written stays readable, the half-written part is removed, and
`failure` says in a sentence what happened. The verdict never depends on the log.

Heuristic in nothing and sound in nothing: it records.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..problems.errors import BadInput
from .logs.format import (
    CLOSED,
    FOOTER,
    HEADER,
    LOCK,
    OPEN,
    PARTS,
    SPLIT,
    STUCK,
    about_part,
    encodings,
    part_path,
)
from .logs.header import goals_of_header
from .logs.table import joined, table_of
from .logs.volumes import Volumes
from .observer import Observer
from .results import write_atomically
from .splits import INPUT, NAMES, PHASE

if TYPE_CHECKING:
    from ..problems.property import Property
    from .frontier import Record
    from .logs.read import Partition
    from .outcome import Outcome
    from .state import State

ROWS = 1 << 19  # of a part, at most
FIRST, LONGEST = 1.0, 10.0  # seconds that rows wait at most, of the first part and later, twice as long each time
CLOSING = 0.5  # seconds before a deadline that are kept for the last part
WIDEST = 64  # inputs up to which volumes are kept
PLAIN = ("id", "parent", "depth", "goal", "bound")
END = None  # what tells the writing thread to stop


class PartitionLog(Observer):
    """Writes to `folder`, where no log may be, or goes on with the log that was read as `before`."""

    def __init__(self, folder: Path, header: dict[str, Any], before: Partition | None = None) -> None:
        self.folder, self.header, self.before = folder, header, before
        self.failure = ""
        self.rows = self.number = 0
        self.start = time.monotonic()
        self.names: list[str] = []
        self.batches: list[dict[str, Any]] = []
        self.waiting, self.since = 0, 0.0
        self.roots = 0
        self.volumes: Volumes | None = None
        self.layers = np.array([layer["start"] for layer in header["layers"]], dtype=np.int64)
        self.lock = _begin(folder, header, before is not None)
        if before is not None:
            self.names = list(before.names)
            self.rows, self.number = before.rows, before.parts
            self.start -= before.elapsed
        self.turn = threading.RLock()  # the search's thread adds rows, another one may end the log
        self.abandoned = False
        self.parts: queue.Queue = queue.Queue(2)
        self.thread = threading.Thread(target=self._write, daemon=True)
        self.thread.start()

    def about(self, prop: Property) -> None:
        """The property as it is searched: without input sets that were proved empty before the search."""
        said = goals_of_header(prop)
        if said["goals"] != self.header["goals"]:
            self.header |= said
            try:
                _write_header(self.folder, self.header)
            except OSError as error:
                self._fail(error)

    @staticmethod
    def before_closing(deadline: float | None) -> float | None:
        """When the search must stop so that the log is closed by then."""
        if deadline is None:
            return None
        return deadline - min(CLOSING, 0.1 * max(0.0, deadline - time.monotonic()))

    # ---- events

    def rooted(self, roots: Record) -> None:
        self.roots = len(roots["id"])
        inputs = [self.header["inputs"][goal["input"]] for goal in self.header["goals"]]
        if "lower" not in roots or roots["lower"].shape[1] > WIDEST or any(one["half_spaces"] for one in inputs):
            return
        lower, upper = (np.array([one[side] for one in inputs], dtype=np.float64) for side in ("lower", "upper"))
        free, ids = upper > lower, np.arange(len(lower))
        if self.before is not None:
            from .logs.boxes import boxes_of

            ids = self.before.unsettled
            lower, upper, known = boxes_of(self.before, ids, lower, upper)
            ids, lower, upper = ids[known], lower[known], upper[known]
        self.volumes = Volumes(ids, lower, upper, free, self.before.count if self.before is not None else len(ids))

    def branched(self, parents: Record, children: Record) -> None:
        count = len(parents["id"])
        batch = self._batch(parents, SPLIT)
        kind = parents["kind"] if "kind" in parents else torch.full_like(parents["index"], PHASE)
        said = {"kind": kind, "index": parents["index"], "point": parents["point"], "child": children["id"][:count]}
        batch |= {name: _array(value) for name, value in said.items()}
        if "normal" in parents:
            batch["normal"] = _array(parents["normal"][kind == NAMES.index("half-space")]).astype(np.float64)
        if self.volumes is not None:
            boxes = batch["kind"] == INPUT
            self.volumes.split(batch["id"], batch["child"], batch["index"], batch["point"], boxes)
        self._add(batch)

    def closed(self, leaves: Record, how: str) -> None:
        if how not in self.names:
            self.names.append(how)
        self._end(leaves, CLOSED, self.names.index(how))

    def stuck(self, leaf: Record, reason: str) -> None:
        self._end(leaf, STUCK)

    def progress(self, mark: str, state: State) -> None:
        self._flush()

    def finished(self, outcome: Outcome, state: State | None) -> None:
        self._flush(True)
        if state is not None and len(state.frontier):
            self._end(state.frontier.rows(PLAIN), OPEN)

    def close(self, outcome: Outcome | None = None) -> None:
        """Ends the log, with the verdict where there is one; nothing that goes wrong here is raised."""
        self._flush(True)
        if self.thread.is_alive():
            self.parts.put(END)
            self.thread.join()
        if outcome is not None:
            outcome.stats["log"] = self.failure or f"{self.rows} rows in {self.folder}"
        if outcome is not None and not self.failure:
            footer = {
                "verdict": outcome.verdict,
                "reason": outcome.reason,
                "pieces": outcome.pieces,
                "seconds": round(time.monotonic() - self.start, 4),
                "rows": self.rows,
                "parts": self.number,
                "stats": {name: _finite(value) for name, value in outcome.stats.items()},
            }
            try:
                write_atomically(
                    self.folder / FOOTER, json.dumps(footer, indent=1, default=str, allow_nan=False) + "\n"
                )
            except OSError as error:
                self._fail(error)
        if self.lock is not None:
            self.lock.close()
            self.lock = None

    def abandon(self, seconds: float) -> None:
        """From another thread than the search's, which goes on: what it has told so far is written, in so many seconds
        or not at all. Without a footer, as after a kill."""
        if not self.turn.acquire(timeout=seconds):
            return
        self.abandoned = True
        try:
            if self.batches and not self.failure:
                self.parts.put((self.number, self.batches, list(self.names)), timeout=seconds)
            self.parts.put(END, timeout=seconds)
            self.thread.join(seconds)
        except queue.Full:
            pass

    # ---- batches to parts

    def _batch(self, record: Record, state: int) -> dict[str, Any]:
        """What every row holds."""
        batch: dict[str, Any] = {name: _array(record[name]) for name in PLAIN}
        batch["side"] = np.where(batch["parent"] < 0, -1, (batch["id"] - self.roots) % 2)
        batch["state"], batch["seconds"] = state, time.monotonic() - self.start
        if self.volumes is not None:
            batch["volume"] = self.volumes.of(batch["id"], batch["goal"])
        return batch

    def _end(self, record: Record, state: int, by: int = -1) -> None:
        batch = self._batch(record, state) | {"by": by}
        if self.volumes is not None and state == CLOSED:
            self.volumes.end(batch["id"])
        self._add(batch)

    def _add(self, batch: dict[str, Any]) -> None:
        with self.turn:
            if self.failure or self.abandoned:
                return
            if not self.batches:
                self.since = time.monotonic()
            self.batches.append(batch)
            self.waiting += len(batch["id"])
            self._flush()

    def _flush(self, now: bool = False) -> None:
        """Hands the rows to the writing thread, if it is time."""
        with self.turn:
            limit = min(LONGEST, FIRST * 2.0 ** min(self.number, 16))
            due = self.waiting >= ROWS or time.monotonic() - self.since > limit
            if not self.batches or self.failure or self.abandoned or not (due or now):
                return
            part = self.number, self.batches, list(self.names)
            self.number += 1
            self.rows += self.waiting
            self.batches, self.waiting = [], 0
            try:
                self.parts.put(part)
            except BaseException:  # interrupted: rows are missing, so none may follow
                self._fail(InterruptedError(0, "interrupted"))
                raise

    # ---- the writing thread

    def _write(self) -> None:
        while (part := self.parts.get()) is not END:
            if self.failure:
                continue
            try:
                self._write_part(*part)
            except OSError as error:
                self._fail(error)
            except Exception as error:  # it must not take the run with it
                self._fail(error)

    def _write_part(self, number: int, batches: list[dict[str, Any]], names: list[str]) -> None:
        import pyarrow.parquet as pq

        about = json.dumps(about_part(self.header, number))
        table = table_of(joined(batches), names, self.layers).replace_schema_metadata({"partita": about})
        path = part_path(self.folder, number)
        unfinished = path.with_suffix(".tmp")
        try:
            pq.write_table(table, unfinished, **encodings())
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def _fail(self, error: Exception) -> None:
        said = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        self.failure = f"the log {self.folder} ends before the run does: {said}; what was written can be read"
        self.batches, self.waiting = [], 0


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _array(value: torch.Tensor) -> np.ndarray:
    """On the CPU, a copy of its own: the search goes on with what it gave."""
    array = value.detach().cpu().numpy()
    return array.copy() if value.device.type == "cpu" else array


def _write_header(folder: Path, header: dict[str, Any]) -> None:
    write_atomically(folder / HEADER, json.dumps(header, indent=1) + "\n")


def _begin(folder: Path, header: dict[str, Any], again: bool) -> Any:
    """Makes the folder and writes the header; the lock that keeps other runs out. `BadInput` where that cannot be.

    The lock is a file of its own and comes first: headers are replaced, and what two runs find absent they both write.
    """
    lock = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder)
        if not again:
            if (folder / HEADER).exists() or any(folder.glob(PARTS)):
                raise BadInput(
                    f"{folder} holds a log already; go on with it by --resume {folder}, or name another folder"
                )
            _write_header(folder, header)
        (folder / FOOTER).unlink(missing_ok=True)
        for unfinished in folder.glob("pieces-*.tmp"):
            unfinished.unlink()
    except BaseException as error:
        if lock is not None:
            lock.close()
        if isinstance(error, OSError):
            raise BadInput(f"the log {folder} cannot be written: {error.strerror}") from None
        raise
    return lock


def _locked(folder: Path) -> Any:
    """The folder's lock file, held; `BadInput` where another run holds it."""
    lock = open(folder / LOCK, "ab")  # noqa: SIM115
    with contextlib.suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise BadInput(
                f"another run is writing the log {folder}; wait for its end, or name another folder"
            ) from None
    return lock
