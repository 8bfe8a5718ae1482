"""The header of a partition log: what was verified, with what, and the hashes that tie the log to it.

A network is known by the SHA-256 of its file (decompressed), and of the graph that was read from it, for networks that
come from no file; a property by the SHA-256 of what it says, by exact numbers and strictness, however its file is
written (`meaning`). The configuration is stored whole, with device and precision as they were chosen, so that a run
that takes the log up does the same.
"""

from __future__ import annotations

import hashlib
import platform
import secrets
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...problems.errors import BadInput
from ..config import Config, load_config
from .format import FORMAT, HEADER
from .meaning import goal_texts, input_in_header, property_hash

if TYPE_CHECKING:
    from ...problems.network.graph import Graph
    from ...problems.properties.property import Property
    from ..strategy import Strategy

LIMITS = ("timeout", "max_pieces", "memory_gb")  # of a run, not of the partition


def header_of(
    given: tuple[Any, Any],  # network and property as the user gave them
    graph: Graph,
    prop: Property,
    config: Config,
    strategy: Strategy,
) -> dict[str, Any]:
    """The header of a new log."""
    import torch

    chosen = asdict(config)
    chosen["device"], chosen["precision"] = str(strategy.device), str(strategy.dtype).removeprefix("torch.")
    network, paths = given[0], [str(Path(one).resolve()) if isinstance(one, str | Path) else None for one in given]
    named = str(network) if paths[0] else type(network).__name__
    return {
        "format": FORMAT,
        "run": secrets.token_hex(8),  # tells this run from any other, begun in the same second on the same files
        "network": {"name": named, "path": paths[0], "file": file_hash(network), "graph": graph_hash(graph)},
        "property": {"name": prop.name, "path": paths[1], "hash": property_hash(prop)},
        **goals_of_header(prop),
        "layers": layers_of(graph),
        "config": chosen,
        "seed": config.seed,
        "device": str(strategy.device),
        "precision": chosen["precision"],
        "strategy": {"tree": strategy.tree, "splits": strategy.splits, "relaxation": strategy.relaxation},
        "versions": {"partita": _version(), "torch": torch.__version__, "python": platform.python_version()},
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def layers_of(graph: Graph) -> list[dict[str, Any]]:
    """The activation layers, in the numbering of neurons that the log uses."""
    return [
        {"name": layer.name, "kind": layer.kind, "start": operand.span.start, "size": operand.size}
        for layer in graph.layers
        for operand in layer.operands
    ]


def goals_of_header(prop: Property) -> dict[str, Any]:
    """The input sets, and the goals in the order in which the search numbers them."""
    goals = [
        {"input": c, "text": text, "strict": unsafe.strict.tolist()}
        for c, case in enumerate(prop.cases)
        for text, unsafe in zip(goal_texts(case, f"input set {c}"), case.unsafe, strict=False)
    ]
    return {"inputs": [input_in_header(case.inputs) for case in prop.cases], "goals": goals}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("partita")
    except PackageNotFoundError:
        return "not installed"


def config_of(header: Mapping[str, Any], limits: Mapping[str, Any]) -> Config:
    """The configuration of the logged run, with the limits of this one (`LIMITS`; those not given are none)."""
    flat = dict(_flat(header["config"]))
    flat |= {"timeout": None, "search.max_pieces": None, "search.memory_gb": 0.0}
    for key in limits:
        if key.rsplit(".", 1)[-1] not in LIMITS:
            raise BadInput(
                f"a resumed run takes its configuration from the log, but '{key}' was given; "
                f"only limits may be new: {', '.join(LIMITS)}"
            )
    try:
        logged = load_config(None, flat)
    except BadInput as error:
        raise BadInput(f"the log's {HEADER}, field config, is none of this version: {error}") from None
    return load_config(logged, limits)


def same_config(header: Mapping[str, Any], folder: str | Path, config: Config) -> None:
    """Raises `BadInput` where the configuration was taken from another header than this one, limits apart."""
    mine = {name: value for name, value in _flat(asdict(config)) if name.rsplit(".", 1)[-1] not in LIMITS}
    logged = dict(_flat(asdict(config_of(header, {}))))
    if any(logged[name] != value for name, value in mine.items()):
        raise BadInput(f"the log {folder} was replaced by another while it was read; try again")


def same_search(header: Mapping[str, Any], folder: str | Path, strategy: Strategy) -> None:
    """Raises `BadInput` where this version would search by another kind of tree than the logged run: the cuts in the
    log would be read as what they are not."""
    logged = header["strategy"]["tree"]
    if strategy.tree != logged:
        raise BadInput(
            f"the log {folder} was written by a search over {logged} ({_versions(header)}), where this version "
            f"searches over {strategy.tree}; start a new log"
        )


def _versions(header: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in header["versions"].items())


def _flat(part: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in part.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(prefix + key, value)]
    return found


def paths_of(header: Mapping[str, Any], folder: str | Path) -> tuple[Path, Path]:
    """The files of network and property that the logged run read; `BadInput` where they are not there (any more)."""
    found = []
    for what in ("network", "property"):
        path = header[what].get("path")
        if path is None or not Path(path).is_file():
            why = "came from no file" if path is None else f"was read from {path}, which is not there any more"
            raise BadInput(f"the {what} of the log {folder} {why}; name network and property on the command line")
        found.append(Path(path))
    return found[0], found[1]


def matching(header: Mapping[str, Any], folder: str | Path, network: Any, graph: Graph, prop: Property) -> None:
    """Raises `BadInput` where the log was written for another network or another property."""
    known = header["network"]
    by_file = known.get("file") is not None and isinstance(network, str | Path)
    same = known["file"] == file_hash(network) if by_file else known["graph"] == graph_hash(graph)
    if not same:
        raise BadInput(f"the log {folder} was written for another network ({known['name']}): the hashes differ")
    if header["layers"] != layers_of(graph):
        raise BadInput(
            f"the log {folder} was written by a version that read the network otherwise, so that its neurons are not "
            f"these ({_versions(header)}); start a new log"
        )
    if header["property"]["hash"] != property_hash(prop):
        raise BadInput(
            f"the log {folder} was written for another property ({header['property']['name']}): the hashes differ"
        )
    said = goals_of_header(searched(header, prop))
    for name in said:
        if said[name] != header[name]:
            raise BadInput(f"the log {folder} is damaged: {HEADER}, field {name}, is not what the property says")


def searched(header: Mapping[str, Any], prop: Property) -> Property:
    """The property with the cases alone that the header speaks of: others were proved empty before the search.
    The property itself where the header speaks of another."""
    left, cases = [*header["inputs"]], []
    for case in prop.cases:
        if left and input_in_header(case.inputs) == left[0]:
            cases.append(case)
            del left[0]
    return prop if left else replace(prop, cases=tuple(cases))


def file_hash(network: Any) -> str | None:
    """SHA-256 of an ONNX file, decompressed where it is gzipped; None where the network is no file."""
    if not isinstance(network, str | Path):
        return None
    from ...problems.onnx.runtime import model_bytes

    return hashlib.sha256(model_bytes(network)).hexdigest()


def graph_hash(graph: Graph) -> str:
    """SHA-256 of a network's nodes, operators and weights."""
    return _hash(graph.nodes)


def _hash(value: Any) -> str:
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    """The value's content, told apart by type and length."""
    if is_dataclass(value):
        digest.update(type(value).__name__.encode())
        for f in fields(value):
            if f.name != "name":
                _feed(digest, getattr(value, f.name))
    elif isinstance(value, tuple | list):
        digest.update(f"({len(value)}".encode())
        for item in value:
            _feed(digest, item)
    elif hasattr(value, "detach") or isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    else:
        digest.update(f"{type(value).__name__}:{value!r};".encode())
