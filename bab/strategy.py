"""From the structure of the problem to the tree that should suit it, in one sentence the user sees.

Networks with few inputs are split in their input: boxes shrink geometrically, every layer can be bounded anew on each,
and after a dozen bisections the network is nearly linear on a piece. With many inputs a box barely shrinks by a split,
and neurons are decided instead; `ChoiceEffort` says where that changes. A user can override it with `split`.

Two relaxations take no part in that choice: `ibp` bounds every layer anew whatever the tree, and `exact` needs none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..problems.device import automatic
from ..problems.errors import BadInput
from ..problems.network.graph import Graph
from ..relaxations import catalogue
from ..relaxations.catalogue import Rung, ladder
from ..relaxations.names import Name, parse
from ..relaxations.protocol import AbstractRelaxation
from ..relaxations.question import treated
from .config import Config
from .rules import chosen, find

# Compute capabilities of V100, A100, H100 and H200, B200.
FULL_RATE = ((7, 0), (8, 0), (9, 0), (10, 0))

LARGE = 1e30  # weights and biases beyond may overflow in float32


@dataclass(frozen=True)
class Strategy:
    """How a problem will be searched."""

    tree: str  # regions, phases, or oracle: no tree, but one mixed-integer program a goal
    splits: str  # auto, input, polyhedral, activation
    rule: str  # of branching, see `rules`; empty without a tree
    relaxation: str
    dtype: torch.dtype
    device: torch.device
    rows: tuple[str, ...] = ()  # multi-neuron rows in the backward pass
    programs: tuple[Name, ...] = ()  # what looks at each piece that the tree's own bounds leave open
    own: AbstractRelaxation | None = None  # or what was given instead of a name

    @property
    def rung(self) -> Rung:
        """The catalogue's entry of what the tree bounds its pieces with."""
        return catalogue.find(self.relaxation)

    @property
    def solves(self) -> bool:
        """Whether pieces are asked linear programs."""
        return any(name.rung.kind == "program" for name in self.programs)

    def sentence(self, graph: Graph, words: str) -> str:
        """What is done and why, in one line."""
        size = f"{graph.input_size} inputs, {graph.neurons} neurons"
        precision = str(self.dtype).removeprefix("torch.")
        return f"{size}: {words}; {self.relaxation} in {precision} on {self.device}"


def choose(graph: Graph, config: Config) -> Strategy:
    """The strategy for a network, with the user's overrides; `BadInput` where `exact` is asked of a smooth network."""
    given = config.relaxation if isinstance(config.relaxation, AbstractRelaxation) else None
    names = () if given is not None or config.relaxation == "auto" else parse(config.relaxation)
    treated(graph, names)
    gpu = config.effort.linear.gpu
    device = torch.device(automatic(graph.neurons, gpu) if config.device == "auto" else config.device)
    dtype = {"float32": torch.float32, "float64": torch.float64}.get(config.precision, natural_precision(device))
    if config.precision == "auto" and dtype is torch.float32 and graph.largest > LARGE:
        dtype = torch.float64
    inputs, neurons = graph.input_size, graph.neurons
    few = config.effort.choice
    low = inputs <= few.inputs or (inputs <= 2 * few.inputs and neurons > few.deep * inputs)
    tiny = neurons <= few.tiny * inputs
    tiny &= graph.piecewise_linear  # smooth neurons are never decided
    regions = config.split in ("input", "polyhedral") or low
    relaxation, splits = config.relaxation, config.split
    if splits == "auto" and low and tiny:
        splits = "activation"
    kinds = {name.rung.kind for name in names}
    if kinds == {"integer"}:
        return Strategy("oracle", splits, "", relaxation, torch.float64, torch.device("cpu"))
    if kinds == {"intervals"}:  # intervals take nothing from multipliers: every layer is bounded anew, on any piece
        regions, splits = True, "activation" if splits == "auto" and not low else splits
    rule = chosen(config.branching.rule, "regions" if regions else "branches").name
    own = "crown" if regions else "alpha-crown"  # what the tree bounds its pieces with, where nothing else is asked for
    rows: tuple[str, ...] = ()
    programs: tuple[Name, ...] = ()
    if given is not None:
        relaxation = own
    elif not names:
        rows, relaxation = () if regions else ("m-1",), own
    elif not regions and len(names) == 1 and names[0].rows:
        rows, relaxation = (str(names[0]),), own
    elif kinds == {"program"} or (kinds == {"separate"} and len(names) == 1):
        programs, relaxation = names, own
    elif len(names) > 1:
        raise BadInput(
            f"a search joins relaxations that are linear programs ({', '.join(ladder('program'))}), and '{relaxation}' "
            "has another; every search starts from intervals and CROWN as it is, so leave the others out"
        )
    return Strategy("regions" if regions else "phases", splits, rule, relaxation, dtype, device, rows, programs, given)


def natural_precision(device: torch.device) -> torch.dtype:
    """float64 on data-centre GPUs, whose float64 matrix products run at the rate of float32; float32 elsewhere."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) in FULL_RATE:
        return torch.float64
    return torch.float32


def memory(config: Config, device: torch.device) -> float:
    """Bytes the search may hold on its device: what was asked for, or what `ChoiceEffort` says."""
    if config.search.memory_gb:
        return config.search.memory_gb * 2**30
    if device.type == "cuda":
        return config.effort.choice.device_share * torch.cuda.mem_get_info(device)[0]
    return config.effort.choice.memory * 2**30


def candidates(config: Config) -> int:
    """How many phase splits are tried before one is taken: one, unless look-ahead was asked for (it saves 4 % of the
    pieces on oval21 and costs twice the time of each)."""
    rule = config.branching.rule
    return config.branching.candidates if rule != "auto" and find(rule).tries else 1
