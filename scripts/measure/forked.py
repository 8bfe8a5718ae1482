"""A `partita` process forked from one that has its libraries loaded, so that many can be run at little cost.

What forks must have run nothing: threads do not survive a fork. `warm` loads what a run loads.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HANGS = 90  # seconds after which a run is called hanging
HEAVY = ("highspy", "onnx", "onnxruntime", "pyarrow.parquet", "scipy.optimize", "scipy.sparse", "torch")
OURS = ("api", "verify", "logs.observer", "search.report", "effects", "mip", "commands.verify", "logs.logged")


@dataclass(eq=False)
class Run:
    """One process of `partita`, and what it said."""

    arguments: list[str]
    pid: int
    streams: dict[int, int]  # descriptor -> reading end
    begun: float
    code: int = 0
    said: dict[int, str] = field(default_factory=dict)

    def ended(self, seconds: float = HANGS) -> Run:
        """Waits; a run that hangs is killed, and its code is -1."""
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
                break
            if time.monotonic() - self.begun > seconds:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                self.code = -1
                break
            time.sleep(0.005)
        for number, end in self.streams.items():
            with os.fdopen(end, "rb") as file:
                self.said[number] = file.read().decode("utf-8", "replace")
        self.streams = {}
        return self

    @property
    def verdict(self) -> str:
        return self.said.get(1, "").partition("\n")[0]


def launch(arguments: list[str], prepare: Callable[[], None] = lambda: None, lost: tuple[int, ...] = ()) -> Run:
    """Starts `partita` with these arguments. `prepare` is called in the process first; of the streams `lost` nobody
    holds the reading end."""
    pipes = {number: os.pipe() for number in (1, 2)}
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            _become(arguments, prepare, pipes)
        finally:
            os._exit(99)
    reading = {}
    for number, (there, here) in pipes.items():
        os.close(here)
        if number in lost:
            os.close(there)
        else:
            reading[number] = there
    return Run(arguments, pid, reading, time.monotonic())


def _become(arguments: list[str], prepare: Callable[[], None], pipes: dict[int, tuple[int, int]]) -> None:
    """The forked process is `partita` now."""
    for number, (there, here) in pipes.items():
        os.close(there)
        os.dup2(here, number)
        os.close(here)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    prepare()
    sys.argv = ["partita", *arguments]
    from partita.bab.commands.main import main

    main()


def warm() -> None:
    """Loads what a run loads; runs nothing, so that no thread is there to be lost in a fork."""
    sys.path.insert(0, str(ROOT.parent))
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in (*HEAVY, *(f"partita.bab.{one}" for one in OURS)):
        import_module(name)
