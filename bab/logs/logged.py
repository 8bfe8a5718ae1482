"""Opening the log of a run: a new one, or that of an earlier run to go on with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..partition_log import PartitionLog
from ..strategy import choose
from .header import config_of, header_of, matching, paths_of, same_search
from .read import read_ends, read_log

if TYPE_CHECKING:
    from ...problems.graph import Graph
    from ...problems.property import Property


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
    log: str | Path | None,
    resume: str | Path | None,
) -> PartitionLog | None:
    """The log to write, where one was asked for. Raises `BadInput` where the folder holds a log that must not be
    overwritten, or the one to go on with is damaged or of another network or property."""
    if resume is not None:
        header, _ = read_ends(Path(resume))
        matching(header, resume, given[0], graph, prop)
        same_search(header, resume, choose(graph, config))
        before = read_log(resume)
        return PartitionLog(Path(resume), before.header, before)
    if log is not None:
        return PartitionLog(Path(log), header_of(given, graph, prop, config, choose(graph, config)))
    return None
