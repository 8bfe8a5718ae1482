"""The command `partita`: which command is meant, and what its end looks like. One file a command in `commands/`.

Standard output carries answers (the verdict alone on the first line), standard error everything else. Exit codes:
0 for every verdict, 2 for bad input (one sentence, nothing written), 70 where Partita contradicts itself, 130 after
Ctrl-C; both still report `unknown`.

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

from ..problems.errors import BadInput, InternalError
from .commands.arguments import INTERNAL, say

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
Partita itself, 130 after Ctrl-C."""

COMMANDS = ("verify", "run", "bound", "count", "study", "partition", "check", "report", "supports")


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
        if argv[0] not in COMMANDS:
            raise BadInput(f"there is no command '{argv[0]}'; the commands are {', '.join(COMMANDS)}")
        return import_module(f".commands.{argv[0]}", __package__).run(argv[1:])
    except BadInput as error:
        say(str(error))
        return 2
    except InternalError as error:
        say(str(error))
        return INTERNAL
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except SystemExit as end:  # argparse, after --help
        return int(end.code or 0)


def _version() -> str:
    from importlib.metadata import version

    return version("partita")
