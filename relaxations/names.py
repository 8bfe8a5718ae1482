"""The names of relaxations, as a user writes them: `crown`, `k-relu:k=3`, `m-2`, `triangle:tighten=on+prima`.

    NAME            one rung of the ladder, the families m-K and p-R with their number
    NAME:KEY=VALUE,KEY=VALUE
    NAME+NAME       the intersection of several

One strict table says what there is. Whatever it does not say is `BadInput` that names the nearest valid word. Nothing
is imported here, so that a command line can be judged before torch is loaded.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..problems.errors import BadInput

SWITCH = ("off", "on")


@dataclass(frozen=True)
class Whole:
    """A whole number of at least `least` and at most `most`."""

    default: int
    least: int = 1
    most: int = 10**9

    def read(self, text: str, where: str) -> int:
        if not text.isdigit() or not self.least <= int(text) <= self.most:
            up_to = f" and at most {self.most}" if self.most < 10**9 else ""
            raise BadInput(f"{where} must be a whole number of at least {self.least}{up_to}, not '{text}'")
        return int(text)


@dataclass(frozen=True)
class Word:
    """One of a few words; the first is the default."""

    words: tuple[str, ...]

    @property
    def default(self) -> str:
        return self.words[0]

    def read(self, text: str, where: str) -> str:
        if text not in self.words:
            raise BadInput(f"{where} must be one of {', '.join(self.words)}, not '{text}'")
        return text


STRICT = {"strict": Word(SWITCH)}  # refuse a layer that cannot be treated, instead of saying what is done
TIGHTEN = {"tighten": Word(SWITCH)}  # pre-activation bounds from the linear program itself
LIMITS = {"patterns": Whole(1024), "size": Whole(1_500_000)}  # of a hull; coefficients of the program
DIRECTIONS = {"directions": Word(("backward", "lp")), "by": Word(("auto", "hull", "cuts"))}

TABLE: Mapping[str, Mapping[str, Whole | Word]] = {
    "ibp": {},
    "deeppoly-0": {},
    "deeppoly-1": {},
    "crown": {},
    "alpha-crown": {},
    "triangle": {**TIGHTEN, **STRICT},
    "k-relu": {"k": Whole(2, 1, 5), "groups": Word(("disjoint", "sparse", "all")), **DIRECTIONS, **TIGHTEN, **STRICT},
    "prima": {"k": Whole(3, 1, 5), "groups": Word(("sparse", "disjoint", "all")), **DIRECTIONS, **TIGHTEN, **STRICT},
    "m": {
        "groups": Word(("all", "disjoint", "sparse")),
        "by": Word(("auto", "hull", "cuts")),
        **LIMITS,
        "tighten": Word(("auto", *SWITCH)),
        **STRICT,
    },
    "p": {**LIMITS, **TIGHTEN, **STRICT},
    "exact": {},
}
FAMILIES = ("m", "p")  # written with a number: m-2, p-1
BATCHED = ("ibp", "deeppoly-0", "deeppoly-1", "crown", "alpha-crown")
PROGRAMS = ("triangle", "k-relu", "prima", "m", "p")  # linear programs
LINES = {  # the rule of the lower lines that a relaxation starts from (see `linear`)
    "deeppoly-0": "deeppoly-0",
    "deeppoly-1": "deeppoly-1",
    **dict.fromkeys(("crown", "alpha-crown", *PROGRAMS, "exact"), "crown"),
}
LADDER = (*BATCHED, "triangle", "k-relu", "prima", "m-1", "p-1", "exact")  # one of each, from loose to tight


@dataclass(frozen=True)
class Name:
    """One relaxation: its kind in `TABLE`, the number of a family, and every option of it."""

    kind: str
    number: int = 0
    options: Mapping[str, int | str] = field(default_factory=dict)

    def __str__(self) -> str:
        given = [f"{k}={v}" for k, v in self.options.items() if v != TABLE[self.kind][k].default]
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
        return f"{self.kind}-{self.number}" if self.kind in FAMILIES else self.kind


def parse(text: str) -> tuple[Name, ...]:
    """The relaxations that `text` names, one or several; raises `BadInput`, one sentence, for anything else."""
    return tuple(_one(part.strip()) for part in str(text).split("+"))


def _one(text: str) -> Name:
    word, colon, options = text.partition(":")
    kind, number = _kind(word)
    table = TABLE[kind]
    values = {key: option.default for key, option in table.items()}
    for item in options.split(",") if colon else ():
        key, equals, value = item.partition("=")
        if not equals:
            raise BadInput(f"'{item}' in relaxation '{text}' is not an option; options are written KEY=VALUE")
        if key not in table:
            if not table:
                raise BadInput(f"the relaxation '{word}' takes no options, and '{item}' is one")
            raise BadInput(f"relaxation '{word}' has no option '{key}'; the nearest is '{_nearest(key, table)}'")
        values[key] = table[key].read(value, f"'{key}' in relaxation '{text}'")
    return Name(kind, number, values)


def _kind(word: str) -> tuple[str, int]:
    family = re.fullmatch(r"([mp])-(\d{1,4})", word)
    if family and int(family[2]) >= 1:
        return family[1], int(family[2])
    if word in TABLE and word not in FAMILIES:
        return word, 0
    known = [*LADDER, "m-2", "p-2"]
    raise BadInput(
        f"there is no relaxation '{word}'; the nearest is '{_nearest(word, known)}', and all of them are "
        f"{', '.join(LADDER)}, with any number after m- and p-"
    )


def lines_of(kind: str) -> str:
    """The rule of lines for a kind of relaxation, exactly; `BadInput` for kinds that have none."""
    if kind not in LINES:
        raise unknown(kind, "bounds by lines", tuple(LINES))
    return LINES[kind]


def unknown(kind: str, where: str, known: tuple[str, ...]) -> BadInput:
    """The error for a relaxation that some place has no code for: it must not pass as another."""
    return BadInput(f"the relaxation '{kind}' is not one of those for {where}: {', '.join(known)}")


def _nearest(word: str, known: Mapping[str, object] | list[str]) -> str:
    return difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.0)[0]
