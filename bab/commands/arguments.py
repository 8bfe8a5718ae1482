"""What several commands take on their command lines: the network and the property, the options of a search."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn, get_args

from ...problems.errors import BadInput
from ...relaxations.catalogue import choices
from ..config import DEVICES, Precision, Split

INTERNAL = 70  # exit code: EX_SOFTWARE of sysexits.h
CHOICES = ("device", "precision", "split", "relaxation", "seed")


class Parser(argparse.ArgumentParser):
    """The argument parser of one command; its complaints are `BadInput`."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"partita {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see {self.prog} --help")


def say(text: str) -> None:
    """One line on standard error."""
    print(f"partita: {text}", file=sys.stderr)


def fault(error: BaseException) -> str:
    """An exception that should not be, in a sentence that says where it came from."""
    frame, where = error.__traceback__, ""
    while frame is not None:
        path = Path(frame.tb_frame.f_code.co_filename)
        where = f"{'/'.join(path.parts[-2:])}, line {frame.tb_lineno}"
        frame = frame.tb_next
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return f"internal error: {said} ({where}); this is a fault of Partita, please report it with the input"


def add_choices(parser: argparse.ArgumentParser) -> None:
    """The options of a search that have names of their own (`CHOICES`), and the configuration file."""
    parser.add_argument("--device", metavar=DEVICES.replace(", ", "|"))
    parser.add_argument("--precision", metavar="|".join(get_args(Precision)))
    parser.add_argument("--config", metavar="FILE", help="a YAML file, or the name of a preset")
    parser.add_argument("--split", metavar="|".join(get_args(Split)))
    parser.add_argument("--relaxation", metavar="|".join(choices()))
    parser.add_argument("--seed", metavar="N")


def overrides(options: argparse.Namespace, pairs: list[str], names: tuple[str, ...]) -> list[str]:
    """The command line's options as `KEY=VALUE`, those given by name last."""
    given = [f"{name}={getattr(options, name)}" for name in names if getattr(options, name) is not None]
    return pairs + given


def files(items: list[str], declared: str | None) -> tuple[Path, Path, list[str]]:
    """Network, property and the `KEY=VALUE` items. File names may hold `=`, so position decides what is what."""
    if declared is not None:
        name, equals, path = declared.partition("=")
        if not (name and equals and path):
            raise BadInput(f"--network takes NAME=NET, not '{declared}'")
        items = [path, *items]
    if len(items) < 2:
        raise BadInput("a network and a property are needed; see partita verify --help")
    return Path(items[0]), Path(items[1]), items[2:]


def exist(network: Path, prop: Path) -> None:
    """The cheap half of the checks, made before torch is imported."""
    for path, what in ((network, "network"), (prop, "property")):
        if not path.is_file():
            raise BadInput(f"the {what} {path} does not exist" if not path.exists() else f"{path} is not a file")
