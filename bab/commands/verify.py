"""`partita verify`: decides one property of one network, and says the verdict exactly once whatever happens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ...kernels.deadline import TimeUp, staged, until
from ...kernels.memory import room
from ...problems.errors import BadInput, InternalError, out_of_memory
from ..config import Config, keys_of, load_config
from ..ending.results import check_writable
from ..ending.stopping import Stops
from ..ending.streams import LOST
from ..search import clock
from ..search.verdict import Verdict
from .answer import Answer
from .arguments import CHOICES, INTERNAL, Parser, add_choices, exist, fault, files, overrides, say

# Bytes of address space below which nothing is begun, as libraries die of such a lack and say nothing: with them
# loaded, and before (no network is read in less; OpenBLAS ends the process in a sixth of it).
LEAST, UNLOADED = 64 << 20, 512 << 20


def run(argv: list[str], stops: Stops | None = None) -> int:
    """Verifies. `stops`: the process's signals, where it is a process of its own."""
    parser = Parser("verify", "Decides one property of one network.")
    parser.add_argument(
        "items",
        nargs="*",
        metavar="NET PROP [KEY=VALUE ...]",
        help="how hard each part tries can be set as well (effort.GROUP.NAME=VALUE): for experts, see docs/effort.md",
    )
    parser.add_argument("--network", metavar="NAME=NET", help="the network; then only PROP is positional")
    parser.add_argument("--timeout", metavar="S", help="seconds of wall time for the whole process")
    parser.add_argument("--results", metavar="FILE", type=Path, help="write the competition's results file")
    parser.add_argument("--summary", metavar="FILE", type=Path, help="write verdict, reason, cost as JSON")
    parser.add_argument("--log", metavar="DIR", type=Path, help="write the partition: every piece, as Parquet")
    parser.add_argument("--resume", metavar="DIR", type=Path, help="go on with the run whose log this is")
    parser.add_argument(
        "--trust-log", action="store_true", help="believe what the log calls closed, where its digests vouch for it"
    )
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
    answer = Answer(options.results, options.summary)
    try:
        return _run(network, prop, options, given, answer, stops)
    except Exception as error:
        if not out_of_memory(error):
            raise
        if answer.given.locked():
            say("out of memory while the verdict was written")
            return LOST
        code = answer.early(Verdict.UNKNOWN, "out of memory")
        return code if stops is None or not stops.number else stops.code


def _run(network: Path, prop: Path, options: Any, given: list[str], answer: Answer, stops: Stops | None) -> int:
    """What the arguments ask for; the exit code."""
    if stops is not None:
        stops.heed(answer.asked, lambda why, code: answer.and_exit(Verdict.UNKNOWN, why, code))
    if options.trust_log and options.resume is None:
        raise BadInput("--trust-log has no effect here: it acts with --resume, where a log's claims are believed")
    config = _config(options, given)
    heeded = keys_of(given) if options.unused == "error" and options.resume is None else []
    exist(network, prop)
    for path in (options.results, options.summary):
        if path is not None:
            check_writable(path)
    timer = clock.guard(config.timeout, lambda: answer.and_exit(Verdict.TIMEOUT, "the time limit passed", 0))
    try:
        code = _decide(network, prop, config, options, heeded, answer)
        return code if stops is None or not stops.number else stops.code
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


def _decide(network: Path, prop: Path, config: Config, options: Any, given: list[str], answer: Answer) -> int:
    """Verifies, answers once whatever happens, and returns the exit code."""
    try:
        answer.known.stage.text = "loading the libraries"
        if room() < (LEAST if "torch" in sys.modules else UNLOADED):
            raise MemoryError
        from .. import api

        answer.known.stage.text = "reading the network and the property"
        api.check_device(config)
        with until(clock.deadline(config.timeout)), staged(answer.known.stage):
            problem = api.load(network, prop, timeout=config.timeout)
        if problem.comparison is not None and not problem.comparison.operators:
            say(problem.comparison.sentence)
        _check_name(problem.property, options.network)
        problem = api.heeded(problem, config, given)
        for sentence in problem.unused:
            say(sentence)
        answer.property = problem.property
        answer.log = log = api.log_of((network, prop), problem, config, options.log, options.resume, options.trust_log)
        outcome = api.decide(problem, config, _observers(), clock.deadline(config.timeout), log, answer.known)
    except TimeUp:
        return answer.early(Verdict.TIMEOUT, "the time limit passed")
    except KeyboardInterrupt:
        return answer.early(Verdict.UNKNOWN, "interrupted") or 130
    except BadInput:
        raise
    except InternalError as error:
        return answer.early(Verdict.UNKNOWN, str(error), INTERNAL)
    except Exception as error:
        if out_of_memory(error):
            return answer.early(Verdict.UNKNOWN, "out of memory")
        return answer.early(Verdict.UNKNOWN, fault(error), INTERNAL)
    if log is not None and log.failure:
        say(log.failure)
    return answer(outcome)


def _observers() -> tuple[Any, ...]:
    """What watches the search and writes its progress to standard error."""
    from ..search.report import Report

    return (Report(sys.stderr),)


def _check_name(prop: Any, declared: str | None) -> None:
    """`--network NAME=NET` must name the network that a VNN-LIB 2.0 file declares."""
    name = (declared or "").partition("=")[0]
    if declared and prop.declaration is not None and prop.declaration.network != name:
        raise BadInput(f"--network names '{name}', but the property declares '{prop.declaration.network}'")
