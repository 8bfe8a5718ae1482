"""`partita.verify` and what the command line shares with it: from files, graphs or PyTorch modules to an `Outcome`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..problems.errors import BadInput
from ..problems.load import load_network, load_property_for
from .config import Config, load_config

if TYPE_CHECKING:
    import torch

    from ..problems.graph import Graph
    from ..problems.load import Confirm
    from ..problems.property import Property
    from .verify import Outcome


@dataclass(frozen=True, eq=False)
class Problem:
    """What the engine needs: the network, the property, and the original network as the judge of witnesses."""

    graph: Graph
    property: Property
    confirm: Confirm


def verify(
    network: str | Path | Graph | torch.nn.Module,
    property: str | Path | Property,
    *,
    example_input: torch.Tensor | None = None,
    config: str | Path | Config | None = None,
    timeout: float | None = None,
    observers: Sequence[Any] = (),
    **overrides: Any,
) -> Outcome:
    """Whether some input of the property's input set has an unsafe output.

    `network` is an `.onnx` or `.onnx.gz` file, a `Graph`, or a `torch.nn.Module` with an `example_input` (with its
    batch dimension, of size 1). `property` is a VNN-LIB file or a `Property`. `config` is a `Config`, a preset's name
    or a YAML file; `overrides` are options by name (`attack="off"`, `batch=256`). `timeout` counts seconds from this
    call.

    Returns an `Outcome`: `unsat` (the property holds), `sat` (with a witness that the original network confirms),
    `unknown` or `timeout`, with the reason. Raises `BadInput` for input that is refused.
    """
    start = time.monotonic()
    if timeout is not None:
        overrides["timeout"] = timeout
    settings = load_config(config, overrides)
    check_device(settings)
    problem = load(network, property, example_input)
    return decide(problem, settings, observers, None if settings.timeout is None else start + settings.timeout)


def load(
    network: str | Path | Graph | torch.nn.Module,
    property: str | Path | Property,
    example_input: torch.Tensor | None = None,
) -> Problem:
    """The network and the property, read and matched."""
    graph, confirm = load_network(network, example_input)
    return Problem(graph, load_property_for(graph, property), confirm)


def decide(problem: Problem, config: Config, observers: Sequence[Any], deadline: float | None) -> Outcome:
    """Runs the engine; `deadline` is a value of `time.monotonic()`."""
    from ..kernels.arithmetic import full_products
    from .verify import verify as engine

    with full_products():
        return engine(
            problem.graph, problem.property, config, confirm=problem.confirm, observers=observers, deadline=deadline
        )


def check_device(config: Config) -> None:
    """Raises `BadInput` where the configuration asks for a device that is not here."""
    if config.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise BadInput("device 'cuda' was asked for, but PyTorch finds no CUDA device here; use cpu or auto")
