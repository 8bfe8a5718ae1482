"""The partition log: an observer that writes every piece of a run to disk as the run goes on. See `logs.format`.

Events come with whole batches of pieces, so the search pays a few copies a batch; a thread of its own writes them
(`logs.writer`). A part is written when it is full or some seconds old (one at first, ten later), so that of a run that
is killed at most these seconds are missing.

A disk that fills up ends the log, not the run: what was written stays readable, the half-written part is removed, and
`failure` says in a sentence what happened. The verdict never depends on the log.

Heuristic in nothing and sound in nothing: it records.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...kernels.deadline import now
from ...problems.errors import BadInput
from ..ending.results import write_atomically
from ..search.observer import Observer
from ..trees.splits import HALF_SPACE, INPUT
from .digests import Digests
from .format import CLOSED, FOOTER, FORMAT, HEADER, MOST_BYTES, OPEN, PARTS, SPLIT, STUCK, part_path
from .header import goals_of_header
from .lock import locked
from .volumes import WIDEST, Volumes
from .writer import Writer

if TYPE_CHECKING:
    from ...problems.properties.property import Property
    from ..search.outcome import Outcome
    from ..search.state import State
    from ..trees.records import Record
    from .read import Partition

ROWS = 1 << 19  # of a part, about; never more than `format.MOST_ROWS`, which is twice as many
CLOSING = 0.5  # seconds before a deadline that are kept for the last part
PLAIN = ("id", "parent", "depth", "goal", "bound")


class PartitionLog(Observer):
    """Writes to `folder`, where no log may be. `lock`: of the folder, held (`logs.lock`); it is the log's from here on.
    With `before` the log goes on that was read under this lock; `trust`: its verified claims are believed."""

    def __init__(
        self, folder: Path, header: dict[str, Any], lock: Any, before: Partition | None = None, trust: bool = False
    ) -> None:
        self.folder, self.header, self.before, self.trust, self.lock = folder, header, before, trust, lock
        self.failure = ""
        self.start = now()
        self.names: list[str] = []
        self.roots = 0
        self.volumes: Volumes | None = None
        self.closing = threading.RLock()
        self.closed_already = self.abandoned = False
        self.digests = _begin(folder, header, before)
        if before is not None:
            self.names = list(before.names)
            self.start -= before.elapsed
        number = 0 if before is None else before.parts
        self.writer = Writer(folder, header, self.digests, self.names, self._fail, _rows(header), number)

    @property
    def rows(self) -> int:
        """Rows in the folder."""
        return self.writer.rows + (self.before.rows if self.before is not None else 0)

    def about(self, prop: Property) -> None:
        """The property as it is searched: without input sets that were proved empty before the search. Raises
        `BadInput` where the log that goes on is of other goals."""
        said = goals_of_header(prop)
        if all(said[name] == self.header[name] for name in said):
            return
        if self.before is not None:
            raise BadInput(
                f"the log {self.folder} has other goals or input sets than the property: {HEADER} was edited, or "
                "written by a version that read the property otherwise; start a new log"
            )
        self.header |= said
        try:
            _write_header(self.folder, self.header, self.digests)
        except OSError as error:
            self._fail(error)

    @staticmethod
    def before_closing(deadline: float | None) -> float | None:
        """When the search must stop so that the log is closed by then."""
        if deadline is None:
            return None
        return deadline - min(CLOSING, 0.1 * max(0.0, deadline - now()))

    # ---- events

    def rooted(self, roots: Record) -> None:
        self.roots = len(roots)
        inputs = [self.header["inputs"][goal["input"]] for goal in self.header["goals"]]
        box = getattr(roots, "lower", None)  # pieces that have none are no regions of the input
        if box is None or box.shape[1] > WIDEST or any(one["half_spaces"] for one in inputs):
            return
        lower, upper = (np.array([one[side] for one in inputs], dtype=np.float64) for side in ("lower", "upper"))
        free, ids = upper > lower, np.arange(len(lower))
        if self.before is not None:
            from .boxes import boxes_of

            ids = self.before.unsettled
            lower, upper, known = boxes_of(self.before, ids, lower, upper)
            ids, lower, upper = ids[known], lower[known], upper[known]
        self.volumes = Volumes(ids, lower, upper, free, self.before.count if self.before is not None else len(ids))

    def branched(self, parents: Record, children: Record) -> None:
        batch, cut = self._batch(parents.columns(), SPLIT), parents.cut
        said = {"kind": cut.kind, "index": cut.index, "point": cut.point, "child": children.id[: len(parents)]}
        batch |= {name: _array(value) for name, value in said.items()}
        if cut.normal is not None:
            batch["normal"] = _array(cut.normal[cut.kind == HALF_SPACE]).astype(np.float64)
        if self.volumes is not None:
            boxes = batch["kind"] == INPUT
            self.volumes.split(batch["id"], batch["child"], batch["index"], batch["point"], boxes)
        self._add(batch)

    def closed(self, leaves: Record, how: str) -> None:
        if how not in self.names:
            self.names.append(how)
        self._end(leaves.columns(), CLOSED, self.names.index(how))

    def stuck(self, leaf: Record, reason: str) -> None:
        self._end(leaf.columns(), STUCK)

    def finished(self, outcome: Outcome, state: State | None) -> None:
        if state is not None and len(state.frontier):
            self._end(state.frontier.rows(PLAIN), OPEN)

    def close(self, outcome: Outcome | None = None) -> None:
        """Ends the log, with the verdict where there is one; nothing that goes wrong here is raised. May be called from
        any thread, and more than once."""
        with self.closing:
            if self.closed_already:
                return
            self.closed_already = True
            self.writer.end()
            if outcome is not None:
                outcome.stats["log"] = self.failure or f"{self.rows} rows in {self.folder}"
                if not self.failure and not self.abandoned:
                    self._write_footer(outcome)
            if self.lock is not None:
                self.lock.close()
                self.lock = None

    def _write_footer(self, outcome: Outcome) -> None:
        footer = {
            "verdict": outcome.verdict,
            "reason": outcome.reason,
            "pieces": outcome.pieces,
            "seconds": round(now() - self.start, 4),
            "rows": self.rows,
            "parts": self.writer.number,
            "stats": {name: _finite(value) for name, value in outcome.stats.items()},
        }
        try:
            write_atomically(self.folder / FOOTER, json.dumps(footer, indent=1, default=str, allow_nan=False) + "\n")
        except OSError as error:
            self._fail(error)

    def abandon(self, seconds: float) -> None:
        """From another thread than the search's, which goes on: what it has told so far is written, in so many seconds
        or not at all. Without a footer, as after a kill."""
        self.abandoned = True
        self.writer.end(seconds)

    # ---- batches to parts

    def _batch(self, record: Mapping[str, torch.Tensor], state: int) -> dict[str, Any]:
        """What every row holds."""
        batch: dict[str, Any] = {name: _array(record[name]) for name in PLAIN}
        batch["side"] = np.where(batch["parent"] < 0, -1, (batch["id"] - self.roots) % 2)
        batch["state"], batch["seconds"] = state, now() - self.start
        if self.volumes is not None:
            batch["volume"] = self.volumes.of(batch["id"], batch["goal"])
        return batch

    def _end(self, record: Mapping[str, torch.Tensor], state: int, by: int = -1) -> None:
        batch = self._batch(record, state) | {"by": by}
        if self.volumes is not None and state == CLOSED:
            self.volumes.end(batch["id"])
        self._add(batch)

    def _add(self, batch: dict[str, Any]) -> None:
        if not self.failure and len(batch["id"]):
            self.writer.add(batch)

    def _fail(self, error: Exception) -> None:
        said = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        self.failure = f"the log {self.folder} ends before the run does: {said}; what was written can be read"


def _rows(header: dict[str, Any]) -> int:
    """Rows of a part, about: less where a row may hold a normal with many entries."""
    inputs = len(header["inputs"][0]["lower"]) if header["inputs"] else 0
    return max(1, ROWS // max(1, inputs // 16)) if header["strategy"]["splits"] == "polyhedral" else ROWS


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _array(value: torch.Tensor) -> np.ndarray:
    """On the CPU, a copy of its own: the search goes on with what it gave."""
    array = value.detach().cpu().numpy()
    return array.copy() if value.device.type == "cpu" else array


def _write_header(folder: Path, header: dict[str, Any], digests: Digests) -> None:
    content = json.dumps(header, indent=1) + "\n"
    if len(content) > MOST_BYTES:
        raise BadInput(f"the log {folder} would have a header of {len(content)} bytes, where {MOST_BYTES} are the most")
    digests.begin(folder, content.encode())
    write_atomically(folder / HEADER, content)


def _begin(folder: Path, header: dict[str, Any], before: Partition | None) -> Digests:
    """Writes the header, or makes room behind the parts of the log that goes on. `BadInput` where that cannot be."""
    digests = Digests()
    try:
        if before is None:
            if (folder / HEADER).exists() or any(folder.glob(PARTS)):
                raise BadInput(
                    f"{folder} holds a log already; go on with it by --resume {folder}, or name another folder"
                )
            _write_header(folder, header, digests)
        else:
            if header["format"] != FORMAT:
                raise BadInput(
                    f"the log {folder} has format {header['format']}, which this version reads but does not write: it "
                    f"can be checked, replayed and reported, not gone on with; start a new log (format {FORMAT})"
                )
            kept = {part_path(folder, number).name for number in range(before.parts)}
            digests = (Digests.read(folder) or digests).kept(kept)
            digests.write(folder)
        (folder / FOOTER).unlink(missing_ok=True)
        for unfinished in folder.glob("pieces-*.tmp"):
            unfinished.unlink()
    except OSError as error:
        raise cannot_be_written(folder, error) from None
    return digests


def locked_folder(folder: Path) -> Any:
    """The lock of a log's folder, which is made where it is not there; `BadInput` where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return locked(folder)
    except OSError as error:
        raise cannot_be_written(folder, error) from None


def cannot_be_written(folder: Path, error: OSError) -> BadInput:
    return BadInput(f"the log {folder} cannot be written: {error.strerror or error}")
