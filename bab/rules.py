"""The registry of branching rules: one entry a rule, saying for which trees it is and how it scores what may be split.

    regions     the search over regions of the input, which bisects a side of each
    branches    the search over activation branches, which decides a neuron
    boxes       measured trees of boxes (`comparing.grow`), neurons: measured trees that decide neurons

A rule has one score, the same in the search and in measured trees: of every input coordinate (B, D), or of every
neuron (B, N), the highest is split. Rules that try bound the children of the best few (all of them, in measured trees)
and take the split whose worse child is best. The choices of the configuration, the help, what has an effect where and
the documents' table are derived from here; a new rule is one function of a `trees.scores.Sight` and one entry.

Nothing is imported here, so that a command line can be judged before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from ..problems.errors import BadInput
from ..relaxations.options import nearest

Tree = Literal["regions", "branches", "boxes", "neurons"]


@dataclass(frozen=True)
class BranchingRule:
    """One entry; `score` is "module:function" below `bab`."""

    name: str
    trees: tuple[Tree, ...]
    does: str
    source: str
    score: str
    tries: bool = False

    def load(self) -> Callable[..., Any]:
        """The score: `trees.scores.Sight` -> (B, D) or (B, N)."""
        module, _, attribute = self.score.partition(":")
        try:
            return getattr(import_module(f"{__package__}.{module}"), attribute)
        except (ImportError, AttributeError) as error:
            raise BadInput(f"the branching rule '{self.name}' cannot be had: {error}") from error


RULES: tuple[BranchingRule, ...] = (
    BranchingRule(
        "widest",
        ("regions", "boxes"),
        "the longest side, relative to the input set",
        "Moore 1966",
        "trees.scores:widest",
    ),
    BranchingRule(
        "sensitivity",
        ("regions", "boxes"),
        "the side that is to blame for most of what the bound loses",
        "here, `relaxations/linear/attribution.py`",
        "trees.scores:sensitivity",
    ),
    BranchingRule("first", ("neurons",), "the undecided neuron nearest to the input", "", "trees.scores:first"),
    BranchingRule("last", ("neurons",), "the undecided neuron nearest to the output", "", "trees.scores:last"),
    BranchingRule(
        "babsr",
        ("branches", "neurons"),
        "the neuron at which the bound loses most",
        "Bunel et al. 2020",
        "trees.scores:babsr",
    ),
    BranchingRule(
        "look-ahead",
        ("branches",),
        "of the best few by babsr, the one whose worse child is bounded best",
        "De Palma et al. 2021",
        "trees.scores:babsr",
        tries=True,
    ),
    BranchingRule(
        "strong",
        ("neurons", "boxes"),
        "every one is tried, and the one whose worse child is nearest to the end is taken",
        "Applegate et al. 1995",
        "trees.scores:alike",
        tries=True,
    ),
)
AUTO: dict[Tree, str] = {"regions": "sensitivity", "branches": "babsr"}  # where nothing else is asked for


def of(*trees: Tree) -> tuple[str, ...]:
    """The names of the rules for some kinds of tree."""
    return tuple(rule.name for rule in RULES if set(trees) & set(rule.trees))


def find(name: str) -> BranchingRule:
    """The entry of that name; `BadInput`, with the nearest, for another."""
    for rule in RULES:
        if rule.name == name:
            return rule
    known = [rule.name for rule in RULES]
    raise BadInput(
        f"there is no branching rule '{name}'; the nearest is '{nearest(name, known)}', all are {', '.join(known)}"
    )


def choices() -> tuple[str, ...]:
    """What the option `rule` of a search may be."""
    return ("auto", *of("regions", "branches"))


def chosen(name: str, tree: Tree) -> BranchingRule:
    """The rule of a tree of the search where `name` was asked for: what is for other trees leaves it to `AUTO`."""
    rule = find(AUTO[tree] if name == "auto" else name)
    return rule if tree in rule.trees else find(AUTO[tree])


def table() -> str:
    """The registry in Markdown."""
    lines = ["| rule | splits | for trees of | source |", "| --- | --- | --- | --- |"]
    said = {"regions": "regions", "branches": "branches", "boxes": "measured boxes", "neurons": "measured branches"}
    for rule in RULES:
        lines.append(f"| `{rule.name}` | {rule.does} | {', '.join(said[t] for t in rule.trees)} | {rule.source} |")
    return "\n".join(lines)
