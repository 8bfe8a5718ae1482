"""The catalogue of relaxations: one entry a rung, from cheap and loose to dear and tight.

Whatever names relaxations is derived from these entries: what a name may be (`names`), the choices and presets of the
configuration, the help, README's table, what `partita.bound`, searches and measured trees do with a name, the tests'
lists. A new relaxation is one file that says how it bounds (`protocol.AbstractRelaxation`, or parts of a linear
program) and one entry here; docs/extending.md does it once.

What is done with an entry follows from its `kind`:

    intervals, lines, slopes   bounded for a whole batch of pieces at once, in the precision that is asked for; a tree
                               bounds its pieces with it
    program                    one linear program a piece: the triangle program and what `builder` adds to it; several
                               names joined by `+` add to one program
    integer                    one mixed-integer program a row: no tree is needed
    separate                   anything else: `builder` makes the relaxation, and a tree asks it about the pieces that
                               its own bounds leave open

Nothing is imported here, so that a command line can be judged before torch is loaded; `load` fetches a builder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from ..problems.errors import BadInput
from .options import Option, Whole, Word

Kind = Literal["intervals", "lines", "slopes", "program", "integer", "separate"]
BATCHED: tuple[Kind, ...] = ("intervals", "lines", "slopes")

SWITCH = ("off", "on")
STRICT = {"strict": Word(SWITCH)}  # refuse a layer that cannot be treated, instead of saying what is done
TIGHTEN = {"tighten": Word(SWITCH)}  # pre-activation bounds from the linear program itself
LIMITS = {"patterns": Whole(1024), "size": Whole(1_500_000)}  # of a hull; coefficients of the program
BY = {"by": Word(("auto", "hull", "cuts"))}
DIRECTIONS = {"directions": Word(("backward", "lp")), **BY}


@dataclass(frozen=True)
class BackwardRows:
    """How a rung's rows enter the backward pass of trees that decide neurons, instead of a program a piece."""

    groups: str = ""  # hulls of groups, at most so many a layer as `effort.RowEffort` says under this name; else rows
    # of one neuron, by separation
    number: int = 0  # of a family, the number whose rows these are


@dataclass(frozen=True)
class Rung:
    """One entry. `smooth` and `products`: what becomes of layers that are not piecewise linear, and of products of
    two variables; half-spaces of the input set and decided neurons are taken by all."""

    name: str  # of a family, without its number
    kind: Kind
    does: str
    source: str
    files: tuple[str, ...]
    builder: str  # "module:attribute" below `relaxations`; what it takes is said in `load`
    options: Mapping[str, Option] = field(default_factory=dict)
    family: str = ""  # what the number of a family counts
    lines: str | None = "crown"  # the rule of lower lines that it starts from (see `linear.linear`)
    smooth: Literal["relaxed", "one neuron at a time", "refused"] = "relaxed"
    products: Literal["relaxed", "refused"] = "refused"  # and other layers of several variables
    joins: bool = False  # looks at several neurons at once
    rows: BackwardRows | None = None

    @property
    def example(self) -> str:
        """A name that a user may write."""
        return f"{self.name}-1" if self.family else self.name

    @property
    def batched(self) -> bool:
        """Whether a tree bounds its pieces with it, a batch at once."""
        return self.kind in BATCHED

    def load(self) -> Callable[..., Any]:
        """The builder: of a program, (name, setting, graph, boxes) -> (additions, cutters), see `ladder.ladder`; else
        `protocol.Foundation` -> `protocol.AbstractRelaxation`."""
        from ..kernels.hush import untouched

        module, _, attribute = self.builder.partition(":")
        try:
            with untouched():  # libraries that it needs may be imported for the first time
                return getattr(import_module(f"{__package__}.{module}"), attribute)
        except (ImportError, AttributeError) as error:
            raise BadInput(f"the relaxation '{self.name}' cannot be had: {error}") from error


CATALOGUE: tuple[Rung, ...] = (
    Rung(
        name="ibp",
        kind="intervals",
        does="intervals, layer by layer",
        source="Moore 1966; Gowal et al. 2018",
        files=("linear/ibp.py", "linear/interval.py"),
        builder="linear.ibp:built",
        lines=None,
        products="relaxed",
    ),
    Rung(
        name="deeppoly-0",
        kind="lines",
        does="two lines a neuron, substituted backwards; the lower line of an unstable ReLU is zero",
        source="Singh et al. 2019",
        files=("linear/linear.py", "linear/backward.py"),
        builder="linear.linear:built",
        lines="deeppoly-0",
        products="relaxed",
    ),
    Rung(
        name="deeppoly-1",
        kind="lines",
        does="the same, the lower line of an unstable ReLU has slope one",
        source="Singh et al. 2019",
        files=("linear/linear.py", "linear/backward.py"),
        builder="linear.linear:built",
        lines="deeppoly-1",
        products="relaxed",
    ),
    Rung(
        name="crown",
        kind="lines",
        does="the same, the lower slope with less area",
        source="Zhang et al. 2018",
        files=("linear/linear.py", "linear/backward.py"),
        builder="linear.linear:built",
        products="relaxed",
    ),
    Rung(
        name="alpha-crown",
        kind="slopes",
        does="optimised slopes, multipliers of decided neurons and half-spaces",
        source="Xu et al. 2021; Wang et al. 2021",
        files=("linear/alpha.py",),
        builder="linear.alpha:built",
        products="relaxed",
    ),
    Rung(
        name="triangle",
        kind="program",
        does="a linear program over the exact hulls of single neurons",
        source="Ehlers 2017",
        files=("ladder/triangle.py",),
        builder="ladder.triangle:added",
        options={**TIGHTEN, **STRICT},
    ),
    Rung(
        name="k-relu",
        kind="program",
        does="hulls of disjoint groups of neurons over octahedra of their pre-activations",
        source="Singh et al. 2019",
        files=("ladder/multi_neuron.py", "ladder/group_cuts.py"),
        builder="ladder.group_cuts:added",
        options={"k": Whole(2, 1, 5), "groups": Word(("disjoint", "sparse", "all")), **DIRECTIONS, **TIGHTEN, **STRICT},
        smooth="one neuron at a time",
        joins=True,
        rows=BackwardRows("k_relu"),
    ),
    Rung(
        name="prima",
        kind="program",
        does="the same of overlapping groups",
        source="Müller et al. 2022",
        files=("ladder/multi_neuron.py", "ladder/group_cuts.py"),
        builder="ladder.group_cuts:added",
        options={"k": Whole(3, 1, 5), "groups": Word(("sparse", "disjoint", "all")), **DIRECTIONS, **TIGHTEN, **STRICT},
        smooth="one neuron at a time",
        joins=True,
        rows=BackwardRows("prima"),
    ),
    Rung(
        name="m",
        kind="program",
        does="hulls of K outputs with all inputs of their layer",
        source="Mao et al. 2026, M_K; Anderson et al. 2020, theorem 2",
        files=("ladder/multi_neuron.py", "ladder/anderson.py"),
        builder="ladder.anderson:added",
        options={
            "groups": Word(("all", "disjoint", "sparse")),
            **BY,
            **LIMITS,
            "tighten": Word(("auto", *SWITCH)),
            **STRICT,
        },
        family="K",
        smooth="one neuron at a time",
        joins=True,
        rows=BackwardRows(number=1),
    ),
    Rung(
        name="p",
        kind="program",
        does="hulls of r consecutive layers, for small networks",
        source="Mao et al. 2026, P_r; Balas 1979",
        files=("ladder/block_hull.py",),
        builder="ladder.block_hull:added",
        options={**LIMITS, **TIGHTEN, **STRICT},
        family="r",
        smooth="one neuron at a time",
        joins=True,
    ),
    Rung(
        name="exact",
        kind="integer",
        does="mixed-integer programs (HiGHS, Gurobi), small networks",
        source="Tjeng, Xiao, Tedrake 2019",
        files=("ladder/exact.py",),
        builder="ladder.exact:built",
        smooth="refused",
        joins=True,
    ),
)


def find(name: str) -> Rung:
    """The entry of that name."""
    return next(rung for rung in CATALOGUE if rung.name == name)


def ladder(*kinds: Kind) -> tuple[str, ...]:
    """A name of every rung, or of those of some kinds, from loose to tight."""
    return tuple(rung.example for rung in CATALOGUE if not kinds or rung.kind in kinds)


def choices() -> tuple[str, ...]:
    """What the option `relaxation` may be by name alone."""
    return ("auto", *ladder())


def not_here(rung: Rung, where: str, *kinds: Kind) -> BadInput:
    """The error for a relaxation that some place has no use for: it must not pass as another."""
    return BadInput(f"the relaxation '{rung.name}' is not one of those for {where}: {', '.join(ladder(*kinds))}")


def table() -> str:
    """The catalogue as README shows it, in Markdown."""
    said = {
        "relaxed": "any",
        "one neuron at a time": "piecewise-linear layers; neurons of others one at a time",
        "refused": "piecewise-linear networks",
    }
    lines = ["| name | what it does | takes | source | file |", "| --- | --- | --- | --- | --- |"]
    for rung in CATALOGUE:
        name = f"`{rung.example}`" + (f" (any {rung.family})" if rung.family else "")
        files = ", ".join(f"`relaxations/{file}`" for file in rung.files)
        lines.append(f"| {name} | {rung.does} | {said[rung.smooth]} | {rung.source} | {files} |")
    return "\n".join(lines)
