"""The command `partita`: which command is meant, and what its end looks like. One file a command in `commands/`.

Standard output carries answers (the verdict alone on the first line), standard error everything else. Exit codes:
0 for every verdict (also for `timeout`, which a command says that knows nothing when its time limit has passed), 2 for
bad input (one sentence, nothing written), 70 where Partita contradicts itself, 71 where memory does not suffice for a
command that has no verdict, 74 where an answer could not be written to where it was wanted (a full disk; it is said on
the streams that are left), 130 after Ctrl-C and 143 after SIGTERM; `verify` still reports `unknown` after 70, 130 and
143. A standard output that is closed, or that nobody reads, changes no code.

This module must cost nothing: before the arguments are known to be sound it imports neither torch nor numpy, and it
parses with the standard library, because typer and click take 70 ms of a process that may live for one second. For
the same reason the process ends with `os._exit`: tearing the interpreter down after `import torch` takes 0.3 s, in
which nothing happens that anybody waits for.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import NoReturn

from ...problems.errors import BadInput, InternalError, out_of_memory
from ..ending import streams
from ..ending.stopping import Stops
from .arguments import INTERNAL, fault, say

USAGE = """usage: partita COMMAND ...

  partita verify NET PROP [options] [KEY=VALUE ...]    decide one property (also: verify PROP --network NAME=NET)
  partita run INSTANCES.csv --out DIR [options]        all instances of a benchmark, resumable
  partita bound NET PROP --relaxation NAME [--json]    bounds of every output over the property's input set
  partita count NET PROP [--cells open|all] [options]  activation patterns on the property's input set: N or LOW..HIGH
  partita study NAME ...|all [--seed N] [--out DIR]    the theory's experiments, from a checkout of the repository
  partita partition NET PROP --relaxations A,B,...     pieces until a bound is exact, beside the number of patterns
  partita check DIR [NET PROP] [--replay]              a partition log: is it one, and can it be proved again
  partita report DIR [--out FILE]                      a log, a run, a study or a partition as one page of HTML
  partita supports onnx-operators|vnnlib-versions|onnx-element-types
  partita --version

partita COMMAND --help says more. Exit codes: 0 for every verdict, 2 for bad input, 70 for a fault of
Partita itself, 71 out of memory, 74 for an answer that could not be written, 130 after Ctrl-C, 143 after SIGTERM."""

MEMORY = 71  # exit code: EX_OSERR of sysexits.h
COMMANDS = ("verify", "run", "bound", "count", "study", "partition", "check", "report", "supports")


def main() -> NoReturn:
    """The console script: runs, and leaves at once."""
    # Before torch is imported: its threads then sleep while they wait for each other instead of spinning. On a machine
    # with other work, spinning threads wait for one that is not running (3 s and 40 s with one core of two taken).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    streams.mend()
    try:
        stops = Stops()
        parent = os.environ.get("PARTITA_PARENT")
        if parent is not None:
            from ..running.child_process import die_with

            die_with(int(parent))
        code = run(sys.argv[1:], stops)
    except Exception as error:  # no memory for a thread
        code = _failed(error, sys.argv[1:])
    except KeyboardInterrupt as error:  # before anything was run
        _undecided(sys.argv[1:])
        say(str(error) or "interrupted")
        code = 143 if "SIGTERM" in str(error) else 130
    lost = streams.lost(sys.stdout)
    if lost is not None and code != streams.LOST and streams.code_of(lost):
        say(f"the answer could not be written to standard output: {lost.strerror}")
    sys.stderr.flush()
    os._exit(code or streams.code_of(lost))


def run(argv: list[str], stops: Stops | None = None) -> int:
    """Runs one command line and returns its exit code. `stops`: the signals of a process that runs nothing else."""
    try:
        code = _run(argv, stops)
        return stops.code if code == 130 and stops is not None and stops.number else code
    except BadInput as error:
        say(str(error))
        return 2
    except SystemExit as end:  # argparse, after --help
        return int(end.code or 0)
    except KeyboardInterrupt as error:
        _undecided(argv)
        say(str(error) or "interrupted")
        return stops.code if stops is not None and stops.number else 130
    except InternalError as error:
        say(str(error))
        return INTERNAL
    except Exception as error:
        if stops is not None and stops.number:  # what some library made of the interrupt
            _undecided(argv)
            say(stops.why)
            return stops.code
        return _failed(error, argv)


def _undecided(argv: list[str]) -> None:
    """The verdict of a run of `verify` that had not come to where it answers."""
    if argv[:1] == ["verify"]:
        print("unknown")


def _failed(error: Exception, argv: list[str]) -> int:
    """Says what failed where no command could; the exit code."""
    if isinstance(error, TimeoutError) and not error.strerror:  # ours
        import json

        print(json.dumps({"verdict": "timeout", "reason": str(error)}) if "--json" in argv else "timeout")
        say(str(error))
        return 0
    if out_of_memory(error) and argv[:1] == ["verify"]:
        _undecided(argv)
        say("unknown: out of memory")
        return 0
    if out_of_memory(error):
        say("out of memory")
        return MEMORY
    if isinstance(error, OSError) and error.strerror:
        say(f"{error.filename or 'a file'}: {error.strerror}")
        return streams.LOST
    say(fault(error))
    return INTERNAL


def _run(argv: list[str], stops: Stops | None) -> int:
    """The command itself; it returns 130 for any signal that it ended early for."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0 if argv else 2
    if argv[0] == "--version":
        print(_version())
        return 0
    if argv[0] == "--name":
        print("Partita")
        return 0
    if argv[0] not in COMMANDS:
        raise BadInput(f"there is no command '{argv[0]}'; the commands are {', '.join(COMMANDS)}")
    command = import_module(f".{argv[0]}", __package__).run
    return command(argv[1:], stops) if argv[0] == "verify" else command(argv[1:])


def _version() -> str:
    from importlib.metadata import version

    return version("partita")
