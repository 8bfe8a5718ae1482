"""Are a log's header and footer what a run writes? Every number in them is checked before it is a size or an index.

A fault is said with its file and field: `header.json, field layers[2].start: -1 is no whole number of at least 0`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ...problems.errors import BadInput
from ..search.verdict import Verdict
from .format import FOOTER, HEADER, MOST_PARTS

TREES = ("regions", "phases", "oracle")
SPLITS = ("auto", "input", "polyhedral", "activation")
PRECISIONS = ("float32", "float64")
LARGE = 1 << 62
TOO_LARGE = 1 << 1024  # for a float; a whole number may be
SHOWN = 40  # characters of a value that a sentence shows


class Fields:
    """The fields of one file, asked for one at a time. `where`: the name of the field that `value` is."""

    def __init__(self, folder: Path, file: str, value: Any, where: str = "") -> None:
        self.folder, self.file, self.value, self.where = folder, file, value, where

    def refuse(self, why: str) -> NoReturn:
        said = (
            repr(self.value) if isinstance(self.value, str | int | float | bool | None) else type(self.value).__name__
        )
        said = said if len(said) <= SHOWN else f"{said[:SHOWN]}..."
        raise BadInput(f"the log {self.folder} is damaged: {self.file}, field {self.where}: {said} is {why}")

    def __getitem__(self, key: str) -> Fields:
        if not isinstance(self.value, Mapping):
            self.refuse("no object with fields")
        where = f"{self.where}.{key}" if self.where else key
        if key not in self.value:
            raise BadInput(f"the log {self.folder} is damaged: {self.file} has no field {where}")
        return Fields(self.folder, self.file, self.value[key], where)

    def each(self) -> list[Fields]:
        if not isinstance(self.value, list):
            self.refuse("no list")
        return [Fields(self.folder, self.file, one, f"{self.where}[{k}]") for k, one in enumerate(self.value)]

    def whole(self, least: int = 0, most: int = LARGE, what: str = "") -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not least <= self.value <= most:
            self.refuse(what or f"no whole number from {least} to {most}")
        return self.value

    def number(self, least: float = -math.inf) -> float:
        if not isinstance(self.value, int | float) or isinstance(self.value, bool):
            self.refuse("no number")
        if not abs(self.value) < TOO_LARGE or self.value < least:
            self.refuse("no finite number" + (f" of at least {least:g}" if least > -math.inf else ""))
        return float(self.value)

    def text(self, among: tuple[str, ...] = (), none: bool = False) -> str | None:
        if self.value is None and none:
            return None
        if not isinstance(self.value, str):
            self.refuse("no text")
        if among and self.value not in among:
            self.refuse(f"none of {', '.join(among)}")
        return self.value


def check_header(folder: Path, header: dict[str, Any]) -> None:
    """Raises `BadInput` for the first field that no run writes so."""
    said = Fields(folder, HEADER, header)
    for name in ("run", "begun", "device"):
        said[name].text()
    for name, fields in (("network", ("path", "file")), ("property", ("path",))):
        for key in fields:
            said[name][key].text(none=True)
    for name, key in (("network", "name"), ("network", "graph"), ("property", "name"), ("property", "hash")):
        said[name][key].text()
    said["precision"].text(PRECISIONS)
    said["seed"].whole()
    said["strategy"]["tree"].text(TREES)
    said["strategy"]["splits"].text(SPLITS)
    said["strategy"]["relaxation"].text()
    for name in _names(said["versions"]):
        said["versions"][name].text()
    _check_config(said["config"])
    inputs = said["inputs"].each()
    for one in inputs:
        _check_input(one)
    if len({len(one["lower"].value) for one in inputs}) > 1:
        said["inputs"].refuse("input sets of different lengths")
    for goal in said["goals"].each():
        goal["input"].whole(0, len(inputs) - 1, f"the number of none of the {len(inputs)} input sets")
        goal["text"].text()
        for strict in goal["strict"].each():
            if not isinstance(strict.value, bool):
                strict.refuse("neither true nor false")
    start = 0
    for layer in said["layers"].each():
        layer["name"].text(none=True)
        layer["kind"].text()
        layer["start"].whole(start, start, f"not {start}, where the layers before it end")
        start += layer["size"].whole(1)


def _names(said: Fields) -> list[str]:
    if not isinstance(said.value, Mapping):
        said.refuse("no object with fields")
    return list(said.value)


def _check_config(said: Fields) -> None:
    """Its shape: values, or objects of values; those of the effort, in objects of their own, may be lists of numbers.
    `config_of` knows the options."""
    for name in _names(said):
        for value in _values(said[name], 2 if name == "effort" else 1):
            if name == "effort" and isinstance(value.value, list):
                for entry in value.each():
                    entry.number()
            elif isinstance(value.value, list | Mapping):
                value.refuse("no value of an option")


def _values(part: Fields, depth: int) -> list[Fields]:
    """What stands in objects, and in objects of objects to this depth."""
    if not depth or not isinstance(part.value, Mapping):
        return [part]
    return [value for key in part.value for value in _values(part[key], depth - 1)]


def _check_input(one: Fields) -> None:
    sizes = []
    for side in (one["lower"], one["upper"]):
        if not (isinstance(side.value, list) and all(type(v) is float and math.isfinite(v) for v in side.value)):
            for value in side.each():
                value.number()
        sizes.append(len(side.value))
    if not sizes[0]:
        one["lower"].refuse("no input at all")
    if sizes[0] != sizes[1]:
        one["upper"].refuse(f"not as long as lower, which has {sizes[0]} numbers")
    for text in one["half_spaces"].each():
        text.text()


def check_footer(folder: Path, footer: dict[str, Any]) -> None:
    """Raises `BadInput` for the first field that no run writes so."""
    said = Fields(folder, FOOTER, footer)
    said["verdict"].text(tuple(Verdict))
    said["reason"].text()
    for name in ("pieces", "rows"):
        said[name].whole()
    said["parts"].whole(0, MOST_PARTS)
    said["seconds"].number(0.0)
    for name in _names(said["stats"]):
        value = said["stats"][name]
        if isinstance(value.value, list | Mapping):
            value.refuse("no number and no text")
        if name == "strategy":
            value.text()
