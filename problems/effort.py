"""Numbers that say how hard a part tries: the fields of frozen groups, which the parts own.

No proof rests on any of them (those numbers are in `kernels.proof_constants`): a value within its range costs or saves
time, memory or pieces, and changes no verdict that is reached. Each field says where its value comes from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, field, fields
from functools import cache
from math import isfinite
from typing import Any, get_args, get_origin, get_type_hints

from .errors import BadInput


def tried(default: Any, why: str, least: float, most: float | None = None) -> Any:
    """A field of a group: its default, where that comes from, and the least and the greatest value (of each entry)."""
    return field(default=default, metadata={"why": why, "minimum": least, "maximum": most})


class Group:
    """Base of the groups, frozen dataclasses of whole numbers, numbers, tuples of numbers, or other groups. `BadInput`
    where a value is not allowed."""

    def __post_init__(self) -> None:
        own: Any = type(self)
        for f, kind in members(own):
            value, where = getattr(self, f.name), f"of {type(self).__name__}"
            if isinstance(kind, type) and issubclass(kind, Group):
                if not isinstance(value, kind):
                    raise BadInput(f"'{f.name}' {where} must be a {kind.__name__}, not {value!r}")
                continue
            object.__setattr__(self, f.name, checked(value, kind, f, f.name, where))


@cache
def members(group: Any) -> tuple[tuple[Field[Any], Any], ...]:
    """The fields of a group (a class), with their types."""
    hints = get_type_hints(group)
    return tuple((f, hints[f.name]) for f in fields(group))


def every(group: Group, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any, Any]]:
    """Dotted name, field, type and value of all numbers of a group and of the groups in it."""
    own: Any = type(group)
    for f, kind in members(own):
        value = getattr(group, f.name)
        if isinstance(value, Group):
            yield from every(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, f, kind, value


def checked(value: Any, kind: Any, f: Field[Any], key: str, where: str) -> Any:
    """`value` as the field's type; strings are read, the entries of a tuple between commas."""
    if get_origin(kind) is tuple:
        entries = value.split(",") if isinstance(value, str) else value
        if not isinstance(entries, list | tuple) or not entries:
            raise BadInput(f"'{key}' {where} must be numbers, as in 0.5,0.25, not {value!r}")
        return tuple(checked(entry, get_args(kind)[0], f, key, where) for entry in entries)
    number = as_number(value, kind)
    if number is None:
        what = {int: "a whole number", float: "a number"}[kind]
        raise BadInput(f"'{key}' {where} must be {what}, not {value!r}")
    least, most = f.metadata.get("minimum"), f.metadata.get("maximum")
    if least is not None and number < least:
        raise BadInput(f"'{key}' {where} must be at least {least:g}, not {value!r}")
    if most is not None and number > most:
        raise BadInput(f"'{key}' {where} must be at most {most:g}, not {value!r}")
    return number


def as_number(value: Any, kind: type) -> Any:
    """`value` as a finite number of the kind, `int` or `float`; None where it is none."""
    try:
        number = None if isinstance(value, bool) else kind(value)
        if number != float(value) or not isfinite(number):
            number = None
    except (TypeError, ValueError, OverflowError):
        number = None
    return number
