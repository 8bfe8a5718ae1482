"""What runs in the worker process: native solvers behind a pipe. Started by path, imports nothing of the package.

Requests come on standard input and answers go to standard output, each a pickle after its length in eight bytes; what
the native code prints goes nowhere. The first request is the caller's `sys.path`. Then:

    ("run", number, calls, limit) calls [(method, arguments)] of solver `number`, made if new, then `run` for at most
                                  `limit` seconds (None: `PATIENCE`); -> dict
    ("ray", number)               -> array or None
    ("drop", numbers)             forgets solvers; no answer
    ("linprog", arguments, names) scipy.optimize.linprog; -> (status, x)
    ("abort",)                    dies as corrupted memory makes it (for tests)

A request is answered by ("done", value), or ("failed", sentence) where it raised. The process ends with its input, when
its parent is gone (looked for four times a second, and by an alarm while a solver holds the interpreter), and never by
Ctrl-C, which is the parent's.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
import threading
import time
from typing import Any, BinaryIO

PATIENCE = 60.0  # seconds of a run that has no limit of its own
GRACE = 2  # seconds after a run's limit at which the alarm ends the process


def write(stream: BinaryIO, value: Any) -> None:
    """One message."""
    data = pickle.dumps(value, protocol=5)
    stream.write(struct.pack("<Q", len(data)))
    stream.write(data)
    stream.flush()


def read(stream: BinaryIO) -> Any:
    """One message; raises EOFError at the end."""
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError
    (size,) = struct.unpack("<Q", head)
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)


class Server:
    """Solvers by number."""

    def __init__(self) -> None:
        self.solvers: dict[int, Any] = {}

    def run(self, number: int, calls: list[tuple[str, tuple[Any, ...]]], limit: float | None) -> dict[str, Any]:
        """Applies the calls and solves; what was found, as plain numbers and arrays."""
        import highspy
        import numpy as np

        if number not in self.solvers:
            self.solvers[number] = highspy.Highs()
        solver = self.solvers[number]
        limit = PATIENCE if limit is None else min(limit, PATIENCE)
        for name, arguments in calls:
            if name == "passModel":
                arguments = (translated(highspy, *arguments),)
            getattr(solver, name)(*arguments)
        solver.setOptionValue("time_limit", solver.getRunTime() + limit)  # HiGHS counts all runs of a solver together
        self.alarm(limit)
        try:
            solver.run()
        finally:
            self.alarm(None)
        info, answer = solver.getInfo(), solver.getSolution()
        return {
            "status": solver.getModelStatus().name,
            "objective": info.objective_function_value,
            "bound": info.mip_dual_bound,
            "x": np.asarray(answer.col_value) if answer.value_valid else None,
            "dual": np.asarray(answer.row_dual) if answer.dual_valid else None,
        }

    def ray(self, number: int) -> Any:
        """A dual ray, if there is one."""
        import numpy as np

        solver = self.solvers[number]
        exists, found = solver.getDualRay()[1:] if solver.getDualRayExist()[1] else (False, None)
        return np.asarray(found) if exists else None

    def linprog(self, arguments: tuple[Any, ...], names: dict[str, Any]) -> tuple[int, Any]:
        """Status and minimiser."""
        from scipy.optimize import linprog

        self.alarm(PATIENCE)
        try:
            found = linprog(*arguments, **names)
        finally:
            self.alarm(None)
        return int(found.status), found.x

    def drop(self, numbers: list[int]) -> None:
        for number in numbers:
            self.solvers.pop(number, None)

    def abort(self) -> None:
        os.abort()

    @staticmethod
    def alarm(seconds: float | None) -> None:
        """Ends the process, whatever it does, after so long."""
        if hasattr(signal, "alarm"):
            signal.alarm(0 if seconds is None else int(seconds) + GRACE)


def translated(highspy: Any, shape: tuple[int, int], offset: float, parts: dict[str, Any], whole: Any) -> Any:
    """A `HighsLp` of the arrays of a model, by rows; `whole` says which variables are integer, or is None."""
    lp = highspy.HighsLp()
    lp.num_row_, lp.num_col_ = shape
    lp.offset_ = offset
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = parts["cost"], parts["lower"], parts["upper"]
    lp.row_lower_, lp.row_upper_ = parts["row_lower"], parts["row_upper"]
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = parts["start"], parts["index"], parts["value"]
    if whole is not None:
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        lp.integrality_ = [kinds[bool(i)] for i in whole]
    return lp


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.25)
    os._exit(0)


def main() -> None:
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.name == "posix":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        threading.Thread(target=_watch, args=(int(sys.argv[1]),), daemon=True).start()
    server = Server()
    try:
        sys.path[:] = read(requests)
        while True:
            name, *arguments = read(requests)
            try:
                reply = ("done", getattr(server, name)(*arguments))
            except Exception as error:
                reply = ("failed", f"{type(error).__name__}: {error}")
            if name != "drop":
                write(replies, reply)
    except (EOFError, OSError):
        os._exit(0)  # the parent has gone; a damaged heap is not to be tidied


if __name__ == "__main__":
    main()
