"""One verification as a whole process: wall time, peak memory, verdict, pieces.

Wall time runs from just before the process is started until it has ended, so it holds the interpreter's start, the
imports and the reading of files. Peak memory is the process's largest resident set, as the kernel reports it to its
parent (`wait4`). A process that outlives its limit by `KILL_AFTER` seconds is killed, with all it started.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KILL_AFTER = 10.0  # seconds
VERDICTS = ("sat", "unsat", "unknown", "timeout")


@dataclass(frozen=True)
class Run:
    """What one process did."""

    verdict: str  # one of VERDICTS, or `error`
    wall: float  # seconds
    peak_mb: float
    pieces: int
    reason: str


def timed(command: Sequence[str], limit: float | None = None) -> tuple[int, float, float, str]:
    """Runs a command: its exit code (negative for a signal), wall seconds, peak megabytes, end of standard error."""
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        killer = threading.Timer(limit or 0, os.killpg, (process.pid, signal.SIGKILL))
        if limit is not None:
            killer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
            raise
        finally:
            killer.cancel()
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not look for it again
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - 2000))
        tail = errors.read().decode("utf-8", "replace")
    kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return process.returncode, wall, kilobytes / 1024, tail


def verify(network: Path, prop: Path, limit: float, arguments: Sequence[str] = ()) -> Run:
    """`partita verify` on one instance, as a user would type it."""
    with tempfile.TemporaryDirectory() as folder:
        results, summary = Path(folder, "results"), Path(folder, "summary")
        command = [sys.executable, "-m", "partita", "verify", str(network), str(prop), "--timeout", f"{limit:g}"]
        command += ["--results", str(results), "--summary", str(summary), *arguments]
        code, wall, peak, tail = timed(command, limit + KILL_AFTER)
        first = results.read_text(encoding="utf-8").split("\n", 1)[0] if results.is_file() else ""
        told = json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else {}
    if code == 0 and first in VERDICTS:
        return Run(first, wall, peak, int(told.get("pieces", 0)), str(told.get("reason", "")))
    if code == -signal.SIGKILL and wall >= limit + KILL_AFTER:
        return Run("timeout", wall, peak, 0, f"killed {KILL_AFTER:g} s after its limit")
    last = tail.strip().split("\n")[-1]
    return Run("error", wall, peak, 0, f"exit code {code}: {last}")
