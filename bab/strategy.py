"""From the structure of the problem to the tree that should suit it, in one sentence the user sees.

Networks with few inputs are split in their input: boxes shrink geometrically, every layer can be bounded anew on each,
and after a dozen bisections the network is nearly linear on a piece. With many inputs a box barely shrinks by a split,
and neurons are decided instead. `SMALL` inputs is where that changes; a user can override it with `split`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..problems.graph import Graph
from .config import Config

SMALL = 12


@dataclass(frozen=True)
class Strategy:
    """How a problem will be searched."""

    tree: str  # regions or phases
    splits: str  # auto, input, polyhedral, activation
    rule: str  # of input splits
    relaxation: str
    dtype: torch.dtype
    device: torch.device

    def sentence(self, graph: Graph, words: str) -> str:
        """What is done and why, in one line."""
        size = f"{graph.input_size} inputs, {graph.neurons} neurons"
        precision = str(self.dtype).removeprefix("torch.")
        return f"{size}: {words}; {self.relaxation} in {precision} on {self.device.type}"


def choose(graph: Graph, config: Config) -> Strategy:
    """The strategy for a network, with the user's overrides."""
    device = torch.device("cuda" if config.device == "cuda" else "cpu")
    if config.device == "auto" and torch.cuda.is_available() and graph.neurons > 20_000:
        device = torch.device("cuda")
    dtype = {"float32": torch.float32, "float64": torch.float64}.get(config.precision, torch.float32)
    low = graph.input_size <= SMALL
    regions = config.split in ("input", "polyhedral") or (config.split == "auto" and low)
    regions |= config.split == "activation" and low
    rule = config.branching.rule if config.branching.rule in ("widest", "sensitivity") else "sensitivity"
    relaxation = config.relaxation
    if relaxation == "auto":
        relaxation = "crown" if regions else "alpha-crown"
    return Strategy("regions" if regions else "phases", config.split, rule, relaxation, dtype, device)
