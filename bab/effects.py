"""Where each option acts: a table, and what to say of an option that was given where it does nothing.

Somebody who writes `candidates=8` expects look-ahead to try eight splits; if the search is one that never looks ahead,
silence would be a lie. So an option given to one command that has no effect there is an error that says where it has
one; in presets, files, resumed runs and the instances of `partita run`, which are made for many problems, it is said
in a line. `auto` asks for nothing and is never wrong, nor is a device or precision that is taken anyway.

The table names every option of `config` (a test holds the two together).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, get_args

from ..problems.errors import BadInput
from ..relaxations.catalogue import BATCHED, Kind, ladder
from ..relaxations.names import parse
from .config import NO_EFFECT, Config, expert, options
from .rules import of
from .strategy import Strategy, candidates, choose

if TYPE_CHECKING:
    from ..problems.network.graph import Graph

Holds = Callable[[Config, Strategy, "Graph"], bool]


@dataclass(frozen=True)
class Place:
    """Where an option acts, in words that go on 'it acts in ...', and as a condition on a search."""

    words: str
    holds: Holds


def _phases(strategy: Strategy) -> bool:
    return strategy.tree == "phases"


def _bisects(config: Config, strategy: Strategy, graph: Graph) -> bool:
    """Whether pieces are bisected in the input (smooth networks are, whatever the splits)."""
    return strategy.tree == "regions" and (strategy.splits != "activation" or not graph.piecewise_linear)


def _rule_acts(config: Config, strategy: Strategy, graph: Graph) -> bool:
    rule = config.branching.rule
    if rule in of("regions") and _bisects(config, strategy, graph):
        return True
    return rule == "auto" or (rule in of("branches") and _phases(strategy))


EVERYWHERE = Place("every search", lambda config, strategy, graph: True)
TREES = Place(
    "searches that split the input set; relaxation=exact asks one program for each unsafe set instead, in float64 on "
    "the CPU",
    lambda config, strategy, graph: strategy.tree != "oracle",
)
ATTACK = Place("searches with attack=on", lambda config, strategy, graph: config.attack == "on")
SLOPES = Place(
    "searches that decide neurons and optimise slopes: many inputs or split=activation, with relaxation auto, "
    "alpha-crown or one that adds to it",
    lambda config, strategy, graph: _phases(strategy) and strategy.rung.kind == "slopes",
)
SOLVERS = Place(
    f"searches whose relaxation is a program for each piece ({', '.join(ladder('program'))}) or exact",
    lambda config, strategy, graph: strategy.tree == "oracle" or strategy.solves,
)
RULES = Place(
    f"searches of its kind: {' and '.join(of('regions'))} where the input is bisected, "
    f"{' and '.join(of('branches'))} in trees that decide neurons (many inputs)",
    _rule_acts,
)
LOOKS_AHEAD = Place(
    "trees that decide neurons (many inputs), with rule=look-ahead",
    lambda config, strategy, graph: candidates(config) > 1 and _phases(strategy),
)

SEARCH: Mapping[str, Place] = {
    "timeout": EVERYWHERE,
    "device": TREES,
    "precision": TREES,
    "seed": ATTACK,
    "judge": EVERYWHERE,
    "split": TREES,
    "relaxation": EVERYWHERE,
    "attack": EVERYWHERE,
    "bounding.steps": SLOPES,
    "bounding.learning_rate": SLOPES,
    "bounding.backend": SOLVERS,
    "branching.rule": RULES,
    "branching.candidates": LOOKS_AHEAD,
    "search.batch": TREES,
    "search.max_pieces": TREES,
    "search.memory_gb": TREES,
}

ROWS = Place(
    "trees that decide neurons (many inputs) with rows of several of them: relaxation auto, m-1, k-relu or prima",
    lambda config, strategy, graph: bool(strategy.rows),
)

PHASES = Place("trees that decide neurons (many inputs)", lambda config, strategy, graph: _phases(strategy))

REGIONS = Place(
    "trees that split regions of the input (few inputs, or split=input or polyhedral)",
    lambda config, strategy, graph: strategy.tree == "regions",
)

EFFORT: Mapping[str, Place] = {  # by group
    "linear": TREES,
    "rows": ROWS,
    "programs": SOLVERS,
    "solvers": SOLVERS,
    "twins": TREES,
    "choice": EVERYWHERE,
    "regions": REGIONS,
    "root": SLOPES,
    "bases": ROWS,
    "tree": PHASES,
    "leaf": EVERYWHERE,
    "attack": ATTACK,
}

# Of `partita bound`: the kinds of relaxation with which an option acts there.
BOUND: Mapping[str, tuple[Kind, ...]] = {
    "timeout": get_args(Kind),
    "device": BATCHED,
    "precision": BATCHED,
    "relaxation": get_args(Kind),
    "bounding.backend": ("program", "integer"),
}
BOUND_EFFORT: Mapping[str, tuple[Kind, ...]] = {  # by group
    "linear": get_args(Kind),
    "programs": ("program",),
    "solvers": ("program", "integer"),
}
ANYWAY = {"device": ("cpu",), "precision": ("float64",)}  # what is taken where the option does not act


def heed(given: Iterable[str], config: Config, graph: Graph) -> list[str]:
    """What to say of options that this search does not look at: a sentence for each that comes from a preset, a file or
    a log. Raises `BadInput` for the first of those that were `given` (dotted keys) to the command itself."""
    strategy = choose(graph, config)
    for sentence in unused(given, config, strategy, graph):
        raise BadInput(sentence)
    return unused(unlike_default(config), config, strategy, graph)


def heed_bound(given: Iterable[str], config: Config) -> list[str]:
    """As `heed`, for `partita bound`."""
    for sentence in unused_in_bound(given, config):
        raise BadInput(sentence)
    return unused_in_bound(unlike_default(config), config)


def unused(given: Iterable[str], config: Config, strategy: Strategy, graph: Graph) -> list[str]:
    """A sentence for each of the given options that this search does not look at."""
    values = {key: attrgetter(key)(config) for key in given}
    return [
        f"{key}={values[key]} {NO_EFFECT} ({_words(strategy)}): it acts in {place(key).words}"
        for key in values
        if not _nothing(key, values[key]) and not place(key).holds(config, strategy, graph)
    ]


def place(key: str) -> Place:
    """Where an option acts."""
    return EFFORT[key.split(".")[1]] if expert(key) else SEARCH[key]


def unused_in_bound(given: Iterable[str], config: Config) -> list[str]:
    """A sentence for each of the given options that `partita bound` does not look at."""
    values = {key: attrgetter(key)(config) for key in given}
    kinds = {name.rung.kind for name in parse("crown" if config.relaxation == "auto" else config.relaxation)}
    said = []
    for key in values:
        acts = BOUND_EFFORT.get(key.split(".")[1], ()) if expert(key) else BOUND.get(key, ())
        if _nothing(key, values[key]) or kinds & set(acts):
            continue
        where = (
            f"with the relaxations {', '.join(ladder(*acts))}" if acts else f"in partita verify, in {place(key).words}"
        )
        said.append(f"{key}={values[key]} has no effect in partita bound with {config.relaxation}: it acts {where}")
    return said


def _words(strategy: Strategy) -> str:
    """The search in a few words."""
    if strategy.tree == "oracle":
        return "one mixed-integer program for each unsafe set"
    if strategy.tree == "phases":
        return f"a tree of activation branches by {strategy.relaxation}"
    splits = "input" if strategy.splits == "auto" else strategy.splits
    return f"a tree of regions of the input, {splits} splits, by {strategy.relaxation}"


def flat(config: Config) -> dict[str, Any]:
    """Every option's dotted key with its value."""
    return {key: attrgetter(key)(config) for key in options()}


def unlike_default(config: Config) -> list[str]:
    """The options whose value is not the default one: all that a preset, a file or a log can have asked for."""
    default = flat(Config())
    return [key for key, value in flat(config).items() if value != default[key]]


def _nothing(key: str, value: Any) -> bool:
    """Whether a value asks for nothing, or for what happens anyway."""
    return value in ("auto", None) or value in ANYWAY.get(key, ())
