"""`partita.verify` and what the command line shares with it: from files, graphs or PyTorch modules to an `Outcome`.

Whatever the network came as, a counterexample is judged on the original: the file's own bytes under onnxruntime for
ONNX, the exported file for a PyTorch module, float64 evaluation for a `Graph` built by hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..problems.errors import BadInput
from .config import Config, load_config

if TYPE_CHECKING:
    import torch

    from ..problems.graph import Graph
    from ..problems.property import Array, Property
    from .verify import Outcome

Confirm = Callable[["Array"], "Array"]  # (n_in,) -> (n_out,)


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
    from .verify import verify as engine

    return engine(
        problem.graph, problem.property, config, confirm=problem.confirm, observers=observers, deadline=deadline
    )


def check_device(config: Config) -> None:
    """Raises `BadInput` where the configuration asks for a device that is not here."""
    if config.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise BadInput("device 'cuda' was asked for, but PyTorch finds no CUDA device here; use cpu or auto")


def load_network(
    network: str | Path | Graph | torch.nn.Module, example_input: torch.Tensor | None = None
) -> tuple[Graph, Confirm]:
    """The network as a `Graph`, and the original as a function of one flat input."""
    from ..problems.graph import Graph

    if isinstance(network, Graph):
        return network, lambda x: _float64(network, x)
    if not isinstance(network, str | Path):
        return _from_module(network, example_input)
    from ..problems.onnx import read_onnx
    from ..problems.session import model_bytes

    model = model_bytes(network)
    return read_onnx(model, str(network)), _confirmation(model)


def load_property_for(graph: Graph, property: str | Path | Property) -> Property:
    """The property, read for this network; `BadInput` where the sizes do not match."""
    if isinstance(property, str | Path):
        from ..problems.vnnlib import load_property

        return load_property(property, graph.input_size, graph.output_size)
    if (property.n_in, property.n_out) != (graph.input_size, graph.output_size):
        raise BadInput(
            f"the property speaks of {property.n_in} inputs and {property.n_out} outputs, but the network has "
            f"{graph.input_size} and {graph.output_size}"
        )
    return property


def _confirmation(model: bytes) -> Confirm:
    """onnxruntime on the original bytes; the session is made when the first witness asks for it."""
    session = None

    def confirm(x: Array) -> Array:
        nonlocal session
        if session is None:
            from ..problems.session import OnnxModel

            session = OnnxModel(model)
        return session.run(x)

    return confirm


def _from_module(module: torch.nn.Module, example_input: torch.Tensor | None) -> tuple[Graph, Confirm]:
    """A PyTorch module in evaluation mode, by way of ONNX, so that both have one meaning."""
    import torch

    from ..problems.onnx import from_torch

    if not isinstance(module, torch.nn.Module):
        raise BadInput(f"a network is a file, a Graph or a torch.nn.Module, not a {type(module).__name__}")
    if example_input is None:
        raise BadInput("a torch.nn.Module needs an example_input, a tensor of its input's shape with batch size 1")
    training = module.training
    try:
        graph, model = from_torch(module.eval(), example_input)
    finally:
        module.train(training)
    return graph, _confirmation(model)


def _float64(graph: Graph, x: Array) -> Array:
    import torch

    return graph.to(torch.float64)(torch.from_numpy(np.asarray(x, dtype=np.float64))).numpy()
