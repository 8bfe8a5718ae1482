"""The command `partita`: verify, run, bound, supports.

Standard output carries answers (the verdict alone on the first line), standard error everything else. Exit codes:
0 for every verdict, 2 for bad input (one sentence, nothing written), 130 after Ctrl-C, which still reports `unknown`.

This module must cost nothing: before the arguments are known to be sound it imports neither torch nor numpy, and it
parses with the standard library, because typer and click take 70 ms of a process that may live for one second. For
the same reason the process ends with `os._exit`: tearing the interpreter down after `import torch` takes 0.3 s, in
which nothing happens that anybody waits for.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn, get_args

from ..problems.errors import BadInput
from . import clock
from .config import Config, Device, Precision, Relaxation, Split, load_config
from .results import check_writable, result_text, summary_text, write_atomically

USAGE = """usage: partita COMMAND ...

  partita verify NET PROP [options] [KEY=VALUE ...]    decide one property (also: verify PROP --network NAME=NET)
  partita run INSTANCES.csv --out DIR [options]        all instances of a benchmark, resumable
  partita bound NET PROP --relaxation NAME [--json]    bounds of every output over the property's input set
  partita supports onnx-operators|vnnlib-versions|onnx-element-types
  partita --version

partita COMMAND --help says more. Exit codes: 0 for every verdict, 2 for bad input, 130 after Ctrl-C."""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are `BadInput`."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see {self.prog} --help")


def main() -> NoReturn:
    """The console script: runs, and leaves at once."""
    # Before torch is imported: its threads then sleep while they wait for each other instead of spinning. On a machine
    # with other work, spinning threads wait for one that is not running (3 s and 40 s with one core of two taken).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    parent = os.environ.get("PARTITA_PARENT")
    if parent is not None:
        from .orphan import die_with

        die_with(int(parent))
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads any more
        code = code or 1
    os._exit(code)


def run(argv: list[str]) -> int:
    """Runs one command line and returns its exit code."""
    commands = {"verify": _verify, "run": _run, "bound": _bound, "supports": _supports}
    try:
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(USAGE)
            return 0 if argv else 2
        if argv[0] == "--version":
            print(_version())
            return 0
        if argv[0] == "--name":
            print("Partita")
            return 0
        if argv[0] not in commands:
            raise BadInput(f"there is no command '{argv[0]}'; the commands are {', '.join(commands)}")
        return commands[argv[0]](argv[1:])
    except BadInput as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except SystemExit as end:  # argparse, after --help
        return int(end.code or 0)


def _say(text: str) -> None:
    print(f"partita: {text}", file=sys.stderr)


def _version() -> str:
    from importlib.metadata import version

    return version("partita")


# ---- options that verify, run and bound share


def _parser(command: str, description: str) -> _Parser:
    return _Parser(prog=f"partita {command}", description=description, allow_abbrev=False)


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="|".join(get_args(Device)))
    parser.add_argument("--precision", metavar="|".join(get_args(Precision)))
    parser.add_argument("--config", metavar="FILE", help="a YAML file, or the name of a preset")
    parser.add_argument("--split", metavar="|".join(get_args(Split)))
    parser.add_argument("--relaxation", metavar="|".join(get_args(Relaxation)))
    parser.add_argument("--seed", metavar="N")


def _overrides(options: argparse.Namespace, pairs: list[str], names: tuple[str, ...]) -> list[str]:
    """The command line's options as `KEY=VALUE`, those given by name last."""
    given = [f"{name}={getattr(options, name)}" for name in names if getattr(options, name) is not None]
    return pairs + given


CHOICES = ("device", "precision", "split", "relaxation", "seed")


# ---- verify


def _verify(argv: list[str]) -> int:
    parser = _parser("verify", "Decides one property of one network.")
    parser.add_argument("items", nargs="*", metavar="NET PROP [KEY=VALUE ...]")
    parser.add_argument("--network", metavar="NAME=NET", help="the network; then only PROP is positional")
    parser.add_argument("--timeout", metavar="S", help="seconds of wall time for the whole process")
    parser.add_argument("--results", metavar="FILE", type=Path, help="write the competition's results file")
    parser.add_argument("--summary", metavar="FILE", type=Path, help="write verdict, reason, cost as JSON")
    _add_choices(parser)
    options = parser.parse_intermixed_args(argv)
    network, prop, pairs = _files(options.items, options.network)
    config = load_config(options.config, _overrides(options, pairs, (*CHOICES, "timeout")))
    _exist(network, prop)
    for path in (options.results, options.summary):
        if path is not None:
            check_writable(path)
    report = _Report(options.results, options.summary)
    timer = clock.guard(config.timeout, lambda: report.and_exit("timeout", "the time limit passed within one step"))
    try:
        return _decide(network, prop, config, options.network, report)
    finally:
        if timer is not None:  # refused input must not turn into a timeout later
            timer.cancel()


def _decide(network: Path, prop: Path, config: Config, declared: str | None, report: _Report) -> int:
    """Verifies, reports once whatever happens, and returns the exit code."""
    try:
        from . import api

        api.check_device(config)
        problem = api.load(network, prop)
        _check_name(problem.property, declared)
        outcome = api.decide(problem, config, _observers(), clock.deadline(config.timeout))
    except KeyboardInterrupt:
        report("unknown", "interrupted")
        return 130
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        report("unknown", "out of memory")
        return 0
    report(outcome.verdict, outcome.reason, result_text(outcome, problem.property), outcome.pieces, outcome.stats)
    return 0


def _observers() -> tuple[Any, ...]:
    """What watches the search and writes its progress to standard error."""
    from .report import Report

    return (Report(sys.stderr),)


def _files(items: list[str], declared: str | None) -> tuple[Path, Path, list[str]]:
    """Network, property and the `KEY=VALUE` items. File names may hold `=`, so position decides what is what."""
    if declared is not None:
        name, equals, path = declared.partition("=")
        if not (name and equals and path):
            raise BadInput(f"--network takes NAME=NET, not '{declared}'")
        items = [path, *items]
    if len(items) < 2:
        raise BadInput("a network and a property are needed; see partita verify --help")
    return Path(items[0]), Path(items[1]), items[2:]


def _exist(network: Path, prop: Path) -> None:
    """The cheap half of the checks, made before torch is imported."""
    for path, what in ((network, "network"), (prop, "property")):
        if not path.is_file():
            raise BadInput(f"the {what} {path} does not exist" if not path.exists() else f"{path} is not a file")


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
            _say(f"{verdict}: {reason}")


# ---- run, bound, supports


def _run(argv: list[str]) -> int:
    parser = _parser("run", "Verifies all instances of a benchmark; started again, it goes on where it was stopped.")
    parser.add_argument("instances", metavar="INSTANCES.csv", type=Path)
    parser.add_argument("pairs", nargs="*", metavar="KEY=VALUE")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="where results.csv, witnesses and logs go"
    )
    parser.add_argument("--timeout", metavar="S", help="seconds; caps the instances' own limits")
    parser.add_argument("--jobs", metavar="N", default="1", help="instances at a time")
    _add_choices(parser)
    options = parser.parse_intermixed_args(argv)
    config = load_config(options.config, _overrides(options, options.pairs, (*CHOICES, "timeout")))
    if not options.jobs.isdigit() or int(options.jobs) < 1:
        raise BadInput(f"--jobs must be a whole number of at least 1, not '{options.jobs}'")
    from .run_instances import run_instances

    choices = _overrides(options, options.pairs, CHOICES)
    if options.config is not None:
        choices = ["--config", options.config, *choices]
    return run_instances(options.instances, options.out, config.timeout, int(options.jobs), choices)


def _bound(argv: list[str]) -> int:
    parser = _parser("bound", "Bounds every output over the property's input set, from both sides.")
    parser.add_argument("items", nargs="*", metavar="NET PROP [KEY=VALUE ...]")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    _add_choices(parser)
    options = parser.parse_intermixed_args(argv)
    if options.relaxation is None:
        raise BadInput(f"--relaxation is missing; name one of {', '.join(get_args(Relaxation)[1:])}")
    network, prop, pairs = _files(options.items, None)
    config = load_config(options.config, _overrides(options, pairs, CHOICES))
    _exist(network, prop)
    from .bound_report import bound_report

    print(bound_report(network, prop, config, options.json))
    return 0


def _supports(argv: list[str]) -> int:
    topics = ("onnx-operators", "vnnlib-versions", "onnx-element-types")
    topic = argv[0].removeprefix("--") if len(argv) == 1 else ""
    if topic in ("h", "-h", "help"):
        print(f"usage: partita supports {'|'.join(topics)}")
        return 0
    if topic not in topics:
        raise BadInput(f"partita supports takes one of {', '.join(topics)}")
    if topic == "vnnlib-versions":
        from ..problems.vnnlib import VERSIONS as lines
    elif topic == "onnx-operators":
        from ..problems.onnx import SUPPORTED_OPERATORS as lines
    else:
        from ..problems.onnx import SUPPORTED_ELEMENT_TYPES as lines
    print("\n".join(lines))
    return 0
