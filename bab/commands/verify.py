"""`partita verify`: decides one property of one network, and says the verdict exactly once whatever happens."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

from ...problems.errors import BadInput, InternalError
from .. import clock
from ..config import Config, keys_of, load_config
from ..results import check_writable, result_text, summary_text, write_atomically
from .arguments import CHOICES, INTERNAL, Parser, add_choices, exist, files, overrides, say


def run(argv: list[str]) -> int:
    parser = Parser("verify", "Decides one property of one network.")
    parser.add_argument("items", nargs="*", metavar="NET PROP [KEY=VALUE ...]")
    parser.add_argument("--network", metavar="NAME=NET", help="the network; then only PROP is positional")
    parser.add_argument("--timeout", metavar="S", help="seconds of wall time for the whole process")
    parser.add_argument("--results", metavar="FILE", type=Path, help="write the competition's results file")
    parser.add_argument("--summary", metavar="FILE", type=Path, help="write verdict, reason, cost as JSON")
    parser.add_argument("--log", metavar="DIR", type=Path, help="write the partition: every piece, as Parquet")
    parser.add_argument("--resume", metavar="DIR", type=Path, help="go on with the run whose log this is")
    parser.add_argument(
        "--unused",
        choices=("error", "say"),
        default="error",
        help="what an option that has no effect on this search is: an error (default), or a line on standard error",
    )
    add_choices(parser)
    options = parser.parse_intermixed_args(argv)
    network, prop, pairs = _files(options)
    given = overrides(options, pairs, (*CHOICES, "timeout"))
    config = _config(options, given)
    heeded = keys_of(given) if options.unused == "error" and options.resume is None else []
    exist(network, prop)
    for path in (options.results, options.summary):
        if path is not None:
            check_writable(path)
    report = _Report(options.results, options.summary)
    timer = clock.guard(config.timeout, lambda: report.and_exit("timeout", "the time limit passed within one step"))
    try:
        return _decide(network, prop, config, options, heeded, report)
    finally:
        if timer is not None:  # refused input must not turn into a timeout later
            timer.cancel()


def _files(options: Any) -> tuple[Path, Path, list[str]]:
    """Network, property and `KEY=VALUE` items; the first two from the log, where a run goes on and none are named."""
    items = options.items
    named = options.network is not None or (items and ("=" not in items[0] or Path(items[0]).exists()))
    if options.resume is None or named:
        return files(items, options.network)
    from ..logs.logged import resumed_files

    return *resumed_files(options.resume), items


def _config(options: Any, given: list[str]) -> Config:
    """What the run is to do: as the command line says, or as the log of the run to go on with."""
    if options.resume is None:
        return load_config(options.config, given)
    if options.log is not None or options.config is not None:
        raise BadInput("--resume goes on with the log it names, in its configuration: leave out --log and --config")
    from ..logs.logged import resumed_config

    return resumed_config(options.resume, given)


def _decide(network: Path, prop: Path, config: Config, options: Any, given: list[str], report: _Report) -> int:
    """Verifies, reports once whatever happens, and returns the exit code."""
    try:
        from .. import api

        api.check_device(config)
        problem = api.load(network, prop, timeout=config.timeout)
        if problem.comparison is not None and not problem.comparison.operators:
            say(problem.comparison.sentence)
        _check_name(problem.property, options.network)
        problem = api.heeded(problem, config, given)
        for sentence in problem.unused:
            say(sentence)
        log = api.log_of((network, prop), problem, config, options.log, options.resume)
        outcome = api.decide(problem, config, _observers(), clock.deadline(config.timeout), log)
    except KeyboardInterrupt:
        report("unknown", "interrupted")
        return 130
    except InternalError as error:
        report("unknown", str(error))
        return INTERNAL
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        report("unknown", "out of memory")
        return 0
    if log is not None and log.failure:
        say(log.failure)
    report(outcome.verdict, outcome.reason, result_text(outcome, problem.property), outcome.pieces, outcome.stats)
    return 0


def _observers() -> tuple[Any, ...]:
    """What watches the search and writes its progress to standard error."""
    from ..report import Report

    return (Report(sys.stderr),)


def _check_name(prop: Any, declared: str | None) -> None:
    """`--network NAME=NET` must name the network that a VNN-LIB 2.0 file declares."""
    name = (declared or "").partition("=")[0]
    if declared and prop.declaration is not None and prop.declaration.network != name:
        raise BadInput(f"--network names '{name}', but the property declares '{prop.declaration.network}'")


class _Report:
    """Says the verdict exactly once: on standard output, in the results file, in the summary.

    The main thread and the guard of the time limit may both want to; the first one does.
    """

    def __init__(self, results: Path | None, summary: Path | None) -> None:
        self.results, self.summary = results, summary
        self.said = threading.Lock()

    def __call__(
        self, verdict: str, reason: str = "", text: str = "", pieces: int = 0, stats: dict | None = None
    ) -> None:
        """`text` is the results file's content, where it is more than the verdict."""
        if not self.said.acquire(blocking=False):
            threading.Event().wait()  # the guard is ending the process
        self._write(verdict, reason, text or f"{verdict}\n", pieces, stats or {})

    def and_exit(self, verdict: str, reason: str) -> None:
        """From the guard's thread, unless the main thread was first."""
        if self.said.acquire(blocking=False):
            try:
                self._write(verdict, reason, f"{verdict}\n", 0, {})
            finally:
                os._exit(0)

    def _write(self, verdict: str, reason: str, text: str, pieces: int, stats: dict) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
        seconds = clock.age()
        if self.results is not None:
            write_atomically(self.results, text)
        if self.summary is not None:
            write_atomically(self.summary, summary_text(verdict, reason, pieces, seconds, stats))
        if reason:
            say(f"{verdict}: {reason}")
