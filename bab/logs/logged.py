"""Opening the log of a run: a new one, or that of an earlier run to go on with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...problems.errors import BadInput
from ..config import Config
from ..strategy import choose
from .header import config_of, header_of, matching, paths_of, same_config, same_search
from .observer import PartitionLog, locked_folder
from .read import read_ends, read_log

if TYPE_CHECKING:
    from ...problems.network.graph import Graph
    from ...problems.properties.property import Property


@dataclass(frozen=True)
class Wanted:
    """The log that a user asks for: a folder for a new one, or one to go on with, whose claims may be trusted."""

    log: str | Path | None = None
    resume: str | Path | None = None
    trust: bool = False


def resumed_config(folder: str | Path, limits: Mapping[str, Any] | Iterable[str]) -> Config:
    """The configuration of the run whose log `folder` holds, with new limits (options or `KEY=VALUE`)."""
    header, _ = read_ends(Path(folder))
    if not isinstance(limits, Mapping):
        limits = dict(text.partition("=")[::2] for text in limits)
    return config_of(header, limits)


def resumed_files(folder: str | Path) -> tuple[Path, Path]:
    """The network and the property of the run whose log `folder` holds."""
    return paths_of(read_ends(Path(folder))[0], folder)


def open_log(
    given: tuple[Any, Any],  # network and property as the user gave them
    graph: Graph,
    prop: Property,
    config: Config,
    wanted: Wanted,
) -> PartitionLog | None:
    """The log to write, where one was asked for. Raises `BadInput` where the folder holds a log that must not be
    overwritten, where another run writes there, or where the log to go on with is damaged or of another network or
    property. The lock comes first: what is read of a log is read under it."""
    place = wanted.log if wanted.resume is None else wanted.resume
    if place is None:
        return None
    if not isinstance(config.relaxation, str):
        raise BadInput("a log names its relaxation, to be read back; one that is given in Python has no such name")
    folder = Path(place)
    if wanted.resume is None:
        header, lock = header_of(given, graph, prop, config, choose(graph, config)), locked_folder(folder)
    else:
        read_ends(folder)  # no folder is made where there is no log
        header, lock = {}, locked_folder(folder)
    try:
        if wanted.resume is None:
            return PartitionLog(folder, header, lock)
        header, _ = read_ends(folder)
        same_config(header, folder, config)
        matching(header, folder, given[0], graph, prop)
        same_search(header, folder, choose(graph, config))
        before = read_log(folder)
        return PartitionLog(folder, before.header, lock, before, wanted.trust)
    except BaseException:
        lock.close()
        raise
