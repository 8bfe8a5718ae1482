"""The names of relaxations, as a user writes them: `crown`, `k-relu:k=3`, `m-2`, `triangle:tighten=on+prima`.

    NAME            one rung of the ladder, of a family with its number: m-2, p-1
    NAME:KEY=VALUE,KEY=VALUE
    NAME+NAME       the intersection of several

The catalogue says what there is. Whatever it does not say is `BadInput` that names the nearest valid word. Nothing
is imported here, so that a command line can be judged before torch is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..problems.errors import BadInput
from . import catalogue
from .catalogue import Rung
from .options import nearest


@dataclass(frozen=True)
class Name:
    """One relaxation: its entry in the catalogue, the number of a family, and every option of it."""

    rung: Rung
    number: int = 0
    options: Mapping[str, int | str] = field(default_factory=dict)

    def __str__(self) -> str:
        given = [f"{k}={v}" for k, v in self.options.items() if v != self.rung.options[k].default]
        return self.word + (":" + ",".join(given) if given else "")

    def whole(self, option: str) -> int:
        """The value of an option that is a whole number."""
        value = self.options[option]
        assert isinstance(value, int), f"{option} is a word"
        return value

    def chosen(self, option: str) -> str:
        """The value of an option that is one of a few words."""
        value = self.options[option]
        assert isinstance(value, str), f"{option} is a number"
        return value

    @property
    def word(self) -> str:
        """The name without its options."""
        return f"{self.rung.name}-{self.number}" if self.rung.family else self.rung.name

    @property
    def joins(self) -> bool:
        """Whether it looks at several neurons together."""
        return self.rung.joins and self.options.get("k") != 1

    @property
    def strict(self) -> bool:
        """Whether a layer that it cannot treat is refused."""
        return self.options.get("strict") == "on"

    @property
    def rows(self) -> bool:
        """Whether its rows may enter the backward pass of a tree."""
        return self.rung.rows is not None and self.rung.rows.number == self.number


def parse(text: str) -> tuple[Name, ...]:
    """The relaxations that `text` names, one or several; raises `BadInput`, one sentence, for anything else."""
    return tuple(_one(part.strip()) for part in str(text).split("+"))


def _one(text: str) -> Name:
    word, colon, options = text.partition(":")
    rung, number = _rung(word)
    table = rung.options
    values = {key: option.default for key, option in table.items()}
    for item in options.split(",") if colon else ():
        key, equals, value = item.partition("=")
        if not equals:
            raise BadInput(f"'{item}' in relaxation '{text}' is not an option; options are written KEY=VALUE")
        if key not in table:
            if not table:
                raise BadInput(f"the relaxation '{word}' takes no options, and '{item}' is one")
            raise BadInput(f"relaxation '{word}' has no option '{key}'; the nearest is '{nearest(key, table)}'")
        values[key] = table[key].read(value, f"'{key}' in relaxation '{text}'")
    return Name(rung, number, values)


def _rung(word: str) -> tuple[Rung, int]:
    for rung in catalogue.CATALOGUE:
        if not rung.family:
            if word == rung.name:
                return rung, 0
        elif (found := re.fullmatch(rf"{re.escape(rung.name)}-(\d{{1,4}})", word)) and int(found[1]) >= 1:
            return rung, int(found[1])
    ladder = catalogue.ladder()
    families = [rung.name for rung in catalogue.CATALOGUE if rung.family]
    known = [*ladder, *(f"{name}-2" for name in families)]
    raise BadInput(
        f"there is no relaxation '{word}'; the nearest is '{nearest(word, known)}', and all of them are "
        f"{', '.join(ladder)}, with any number after {' and '.join(f'{name}-' for name in families)}"
    )
