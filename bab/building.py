"""The tree that a strategy asks for: its relaxations, goals and root, and what looks at its pieces besides."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..kernels.deadline import TimeUp, now, share, until
from ..kernels.proof_constants import SIZES
from ..problems.errors import BadInput
from ..problems.network.graph import Graph
from ..problems.properties.property import Property
from ..relaxations.linear.alpha import Alpha
from ..relaxations.linear.ibp import Ibp, interval_root
from ..relaxations.linear.linear import Linear
from ..relaxations.linear.rebounding import Rebounding
from ..relaxations.linear.root import in_float64, root
from ..relaxations.protocol import Means
from ..relaxations.types import Pieces
from .config import Config
from .strategy import Strategy, candidates, memory
from .trees.bounder import Bounder
from .trees.goals import Goals, goals_of
from .trees.phases import Choices, Phases
from .trees.regions import Cuts, Regions
from .trees.root import Watch, rooted
from .trees.tree import AbstractTree
from .trees.twinned import Twinned, rows_of_goals


@dataclass(frozen=True, eq=False)
class Ground:
    """What a tree of either kind is built on: linear bounds of the network, the goals, and the root, which is the hull
    of all cases; the first two once more in float64."""

    linear: Linear
    precise: Linear
    goals: Goals
    precise_goals: Goals
    root: Pieces


def build(
    graph: Graph,  # float64, CPU
    working: Graph,  # the same as the strategy wants it
    prop: Property,
    config: Config,
    strategy: Strategy,
    watch: Watch = Watch(),  # noqa: B008
) -> AbstractTree:
    """The tree the strategy asks for, its root as good as pays."""
    ground = _ground(graph, working, prop, config, strategy, watch)
    twins = None
    with suppress(TimeUp), until(share(config.effort.twins.share)):
        twins = rows_of_goals(graph, working, prop, ground.goals, config.effort.twins)

    def look(tree: AbstractTree) -> AbstractTree:
        return tree if twins is None else Twinned(tree, twins, config.effort.twins)

    if strategy.tree == "regions":
        tree = look(_regions(graph, prop, config, strategy, ground))
    else:
        tree = rooted(_phases(graph, prop, config, strategy, ground), look, watch)
    if not strategy.programs and strategy.own is None:
        return tree
    return _looked_at(tree, graph, prop, config, strategy, watch.deadline)


def _box(prop: Property) -> tuple[Tensor, Tensor]:
    """The box around all cases."""
    cases = [case.inputs for case in prop.cases if not case.inputs.empty]
    lower = torch.from_numpy(np.min([case.lower for case in cases], axis=0))
    upper = torch.from_numpy(np.max([case.upper for case in cases], axis=0))
    return lower, upper


def _ground(graph: Graph, working: Graph, prop: Property, config: Config, strategy: Strategy, watch: Watch) -> Ground:
    lower, upper = _box(prop)
    if strategy.rung.kind == "intervals":
        intervals, pieces = interval_root(working, lower, upper)
        linear = replace(intervals.linear, effort=config.effort)
    else:
        lines = strategy.rung.lines
        assert lines is not None, "all but intervals start from lines"
        linear, pieces = root(working, lower, upper, lines, watch.deadline, config.effort)
    linear = replace(linear, proving=watch.proving)
    precise = replace(in_float64(graph, linear, pieces), proving=watch.proving)
    sizes = [linear.scales.size[i].double().cpu() * SIZES for i in (0, -1)]
    goals = goals_of(prop, strategy.dtype, strategy.device, *sizes)
    return Ground(linear, precise, goals, goals_of(prop, torch.float64, strategy.device, *sizes), pieces)


def _regions(graph: Graph, prop: Property, config: Config, strategy: Strategy, ground: Ground) -> Regions:
    effort = config.effort.regions
    steps = effort.steps if config.relaxation == "auto" or strategy.rung.kind == "slopes" else 0
    bounding: Rebounding | Ibp = Rebounding(ground.linear, steps=steps, rate=effort.rate)
    confirming: Rebounding | Ibp = Rebounding(ground.precise, clipping=False)
    if strategy.rung.kind == "intervals":
        bounding, confirming = Ibp(ground.linear), Ibp(ground.precise)
    both = (bounding, ground.goals), (confirming, ground.precise_goals)
    return Regions(graph, prop, *both, ground.root, Cuts(strategy.splits, strategy.rule, effort))


def _phases(graph: Graph, prop: Property, config: Config, strategy: Strategy, ground: Ground) -> Phases:
    steps = config.bounding.steps if strategy.rung.kind == "slopes" else 0
    rate = config.bounding.learning_rate
    alpha, precise = Alpha(ground.linear, steps, rate, row_rate=rate / 2), Alpha(ground.precise, 0)
    bounder = Bounder.of(prop, (alpha, ground.goals), (precise, ground.precise_goals))
    choices = Choices(
        candidates(config), strategy.rows, memory(config, strategy.device) / 8, strategy.rule, config.effort
    )
    untreated = [] if config.relaxation == "auto" else [t for word in strategy.rows for t in said(graph, word)]
    return Phases(graph, prop, bounder, ground.root, choices, untreated)


def _looked_at(
    tree: AbstractTree, graph: Graph, prop: Property, config: Config, strategy: Strategy, deadline: float | None
) -> AbstractTree:
    """With another look at each piece that stays open, by what was asked for."""
    from .trees.programs import Programs, closer

    limit = None if deadline is None else max(1.0, deadline - now())
    means = Means(backend=config.bounding.backend, time_limit=limit, effort=config.effort)
    relaxation = strategy.own or closer(strategy.programs, graph, _box(prop), means)
    words = "then one linear program a piece" if strategy.solves else "then another look at each open piece"
    return Programs(tree, relaxation, words, config.effort.programs.batch)


def said(graph: Graph, word: str) -> list[str]:
    """What rows of a relaxation that was asked for cannot treat; `BadInput` where that must not be."""
    from ..relaxations.names import parse
    from ..relaxations.rows.strengthen import untreated

    found = untreated(graph, word)
    if found and any(name.strict for name in parse(word)):
        raise BadInput(f"{found[0]}; without strict=on that is what is done")
    return found
