"""`partita run`: every instance of a benchmark, each in its own process, resumable.

`INSTANCES.csv` has rows `network, property[, timeout[, expected]]`, paths relative to the file itself. An instance is
`partita verify` as a user would type it, timed from outside, so its seconds are those of a whole process; it is
killed some seconds after its limit, should it not keep it. As it ends, one row is appended to `DIR/results.csv` and
forced to disk. Started again with the same folder, the run skips what is there; a last line torn by a kill is cut
off first. `DIR/witnesses` gets the results file of each `sat`, `DIR/logs` what each process wrote to standard error,
and with `--log` `DIR/partitions` each instance's partition.

A verdict that contradicts `expected` is shown as wrong, in the progress lines and in the closing table.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TextIO

from ...problems.errors import BadInput
from ..config import NO_EFFECT
from ..ending.results import write_atomically
from ..search.verdict import Verdict
from .row import Row

KILL_AFTER = 10.0  # seconds over the limit that an instance may take to end by itself
HEADER_WORDS = frozenset(("onnx", "network", "net", "model", "onnx_file"))


@dataclass(frozen=True)
class Instance:
    """A row of the benchmark, with its number from 1 on."""

    number: int
    network: str
    property: str
    timeout: float | None
    expected: str


@dataclass(frozen=True)
class Manner:
    """How instances are run: `jobs` at a time, `choices` for every `partita verify` as they are, a log of each."""

    jobs: int = 1
    choices: Sequence[str] = ()
    log: bool = False


def run_instances(
    instances: Path, out: Path, timeout: float | None, manner: Manner, stream: TextIO | None = None
) -> int:
    """Runs what is not yet in `out`, prints the closing table on standard output, and returns the exit code.

    `timeout` caps the instances' own limits.
    """
    work = read_instances(instances, timeout)
    store = Store(out)
    done = store.rows(work)
    waiting = [instance for instance in work if instance.number not in done]
    from .report import closing_table, progress

    with progress(len(work), len(done), stream or sys.stderr) as show:
        code = _Running(instances.parent, store, manner).all(waiting, done, show)
    for sentence in _unused(store.folder / "logs"):
        print(f"partita: {sentence}", file=stream or sys.stderr)
    print(closing_table([done[number] for number in sorted(done)], len(work)))
    return code


class _Running:
    """The processes that run instances of one folder, `manner.jobs` at a time."""

    def __init__(self, folder: Path, store: Store, manner: Manner) -> None:
        self.folder, self.store, self.manner = folder, store, manner
        self.children: dict[int, subprocess.Popen[bytes]] = {}
        self.ended = threading.Event()

    def all(self, waiting: list[Instance], done: dict[int, Row], show: Callable[[Row], None]) -> int:
        """Runs the waiting instances, filling `done`; 130 where Ctrl-C stopped it."""
        with ThreadPoolExecutor(self.manner.jobs) as pool:
            queue = iter(waiting)
            running: set[Future[Row]] = set()
            try:
                while True:
                    while len(running) < self.manner.jobs and (instance := next(queue, None)) is not None:
                        running.add(pool.submit(self.one, instance))
                    if not running:
                        return 0
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        row = future.result()
                        self.store.append(row)
                        done[row.number] = row
                        show(row)
            except BaseException as error:  # interrupted, or the results cannot be written any more
                self.ended.set()
                for child in list(self.children.values()):
                    _kill(child)
                if isinstance(error, KeyboardInterrupt):
                    return 130
                raise

    def one(self, instance: Instance) -> Row:
        """One `partita verify`, from start to exit."""
        name, out = f"{instance.number:04d}", self.store.folder
        summary, log = out / "logs" / f"{name}.json", out / "logs" / f"{name}.log"
        summary.unlink(missing_ok=True)
        start = time.monotonic()
        output, code = self._output(instance, self._command(instance, summary), log)
        seconds = time.monotonic() - start
        text = output.decode("utf-8", "replace")
        verdict, reason = text.split("\n", 1)[0].strip(), ""
        if code is None:
            verdict, reason = Verdict.TIMEOUT, f"killed {KILL_AFTER:g} s after its limit"
        elif verdict not in tuple(Verdict):
            verdict, reason = "error", _last_line(log) or f"the process ended with code {code}"
        pieces, said = _cost(summary)
        if verdict == Verdict.VIOLATED:
            write_atomically(out / "witnesses" / f"{name}.txt", text)
        asked = (instance.number, instance.network, instance.property, instance.expected)
        return Row(*asked, verdict, round(seconds, 3), pieces, " ".join((reason or said).split()))

    def _command(self, instance: Instance, summary: Path) -> list[str]:
        paths = [str(_existing(self.folder / path)) for path in (instance.network, instance.property)]
        command = [sys.executable, "-m", "partita", "verify", *paths, "--summary", str(summary), "--unused", "say"]
        command += self.manner.choices
        if self.manner.log:  # of an instance that was stopped something may be left
            partition = self.store.folder / "partitions" / f"{instance.number:04d}"
            shutil.rmtree(partition, ignore_errors=True)
            command += ["--log", str(partition)]
        if instance.timeout is not None:
            command += ["--timeout", f"{instance.timeout:g}"]
        return command

    def _output(self, instance: Instance, command: list[str], log: Path) -> tuple[bytes, int | None]:
        """What the process wrote, and its exit code; None where it was killed because it did not end in time."""
        environment = {**os.environ, "PARTITA_PARENT": str(os.getpid())}
        if self.manner.jobs > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.manner.jobs)))
        limit = None if instance.timeout is None else instance.timeout + KILL_AFTER
        with open(log, "wb") as errors:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )
            self.children[instance.number] = child
            if self.ended.is_set():  # it was started after the others were killed
                _kill(child)
            try:
                return child.communicate(timeout=limit)[0], child.returncode
            except subprocess.TimeoutExpired:
                _kill(child)
                return child.communicate()[0], None
            finally:
                del self.children[instance.number]


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Ends the child and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _existing(path: Path) -> Path:
    """The path, or the compressed file beside it; where neither exists, the instance will say so."""
    packed = path.with_name(path.name + ".gz")
    return packed if not path.exists() and packed.exists() else path


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("partita: ") if lines else ""


def _unused(logs: Path) -> list[str]:
    """What the instances said of options without effect, each once, with how many said it."""
    said: dict[str, int] = {}
    for log in sorted(logs.glob("*.log")):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("partita: ") and NO_EFFECT in line:
                sentence = line.removeprefix("partita: ")
                said[sentence] = said.get(sentence, 0) + 1
    return [f"{sentence} (in {count} of the instances)" for sentence, count in said.items()]


def _cost(summary: Path) -> tuple[int, str]:
    """Pieces and reason from the summary, where the process lived to write it."""
    try:
        content = json.loads(summary.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0, ""
    return int(content["pieces"]), str(content["reason"])


# ---- the benchmark's file


def read_instances(path: Path, cap: float | None) -> list[Instance]:
    """The rows of a benchmark's CSV file; limits capped by `cap`. Raises `BadInput` for rows that make no sense."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(c.strip() for c in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"the instances file {path} cannot be read: {reason}") from None
    if lines and lines[0][1][0].strip().lower() in HEADER_WORDS:
        lines = lines[1:]
    if not lines:
        raise BadInput(f"the instances file {path} has no rows")
    return [_instance(number, row, f"{path.name}, line {line}", cap) for number, (line, row) in enumerate(lines, 1)]


def _instance(number: int, row: list[str], where: str, cap: float | None) -> Instance:
    cells = [cell.strip() for cell in row]
    if not 2 <= len(cells) <= 4 or not cells[0] or not cells[1]:
        raise BadInput(f"{where}: a row is network, property[, timeout[, expected]], not {','.join(cells)!r}")
    limit, expected = ([*cells[2:], "", ""])[:2]
    try:
        timeout = float(limit) if limit else None
    except ValueError:
        raise BadInput(f"{where}: the timeout must be a number of seconds, not '{limit}'") from None
    if timeout is not None and not 0 < timeout < float("inf"):
        raise BadInput(f"{where}: the timeout must be a positive number of seconds, not '{limit}'")
    if expected not in (*Verdict, ""):
        raise BadInput(f"{where}: the expected verdict must be sat, unsat or unknown, not '{expected}'")
    limits = [value for value in (timeout, cap) if value is not None]
    return Instance(number, cells[0], cells[1], min(limits, default=None), expected)


# ---- the results


class Store:
    """The folder of a run: `results.csv`, one row appended and forced to disk as each instance ends."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "results.csv"
        self.names = [f.name for f in fields(Row)]
        try:
            for part in ("witnesses", "logs"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            self._mend()
        except OSError as error:
            raise BadInput(f"the results folder {folder} cannot be written to: {error.strerror}") from None

    def _mend(self) -> None:
        """Cuts off a last line without its end, and starts an empty file with the header."""
        with open(self.path, "a+b") as file:
            file.seek(0)
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                file.truncate(whole)
            if not whole:
                file.write(_line(self.names))

    def rows(self, work: list[Instance]) -> dict[int, Row]:
        """The finished rows by number; `BadInput` where the folder holds the results of other instances."""
        known = {instance.number: instance for instance in work}
        found = {}
        with open(self.path, newline="", encoding="utf-8") as file:
            for cells in csv.DictReader(file):
                row = self._row(cells)
                mine = known.get(row.number) if row else None
                if row is None or mine is None or (mine.network, mine.property) != (row.network, row.property):
                    raise BadInput(f"{self.path} holds results of another benchmark; choose another --out")
                found[row.number] = row
        return found

    def _row(self, cells: dict[str, str]) -> Row | None:
        try:
            values = [cells[name] for name in self.names]
            kinds = (int, str, str, str, str, float, int, str)
            return Row(*(kind(value) for kind, value in zip(kinds, values, strict=True)))
        except (KeyError, TypeError, ValueError):
            return None

    def append(self, row: Row) -> None:
        """Adds a row; it is on disk when this returns."""
        with open(self.path, "ab") as file:
            file.write(_line(list(astuple(row))))
            file.flush()
            os.fsync(file.fileno())


def _line(cells: list) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8")
