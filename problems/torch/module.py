"""PyTorch modules to graphs, by way of `torch.export` and ONNX, and the module itself as a judge.

    module -> exported program (`torch_export`) -> ONNX bytes -> graph (`onnx`)

The file is written in `written`.

The module is run in evaluation mode, in its own precision, on its own device, by one thread at a time. Its flags are
put back one by one, random numbers that it draws as well (`random_states`), and its buffers where it is refused.

Soundness: exact up to the rounding that `simplify` states, if PyTorch's writers are right; `torch_compare` asks.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels.arithmetic import full_products, past_cudnn
from ...kernels.deadline import TimeUp, abandonable, doing, within
from ...kernels.hush import untouched
from ...kernels.interrupt import interruptible
from ..errors import BadInput
from ..network.graph import Graph
from ..onnx.file import read_onnx
from ..onnx.runtime import OnnxModel
from ..originals.module_comparison import ModuleComparison
from ..originals.original import Original, original_of
from .export import changed_by, state_of
from .random_states import RandomStates
from .written import first_line, written

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Array = NDArray[np.float64]

LOCK = threading.RLock()  # PyTorch's exporters keep their state in globals: one module at a time
EXPORTERS = ("torch._dynamo", "torch.export._trace", "torch.onnx", "torch.onnx._internal.torchscript_exporter.utils")


def from_torch(module: torch.nn.Module | ExportedProgram, example_input: Any = None) -> tuple[Graph, bytes]:
    """The graph of a PyTorch module, whose input has `example_input`'s shape, and its ONNX bytes; see `load_module`."""
    graph, data, _ = _loaded(module, example_input)
    return graph, data


def load_module(
    module: torch.nn.Module | ExportedProgram, example_input: Any = None, check: bool = True
) -> tuple[Graph, Original]:
    """The graph of a PyTorch module or exported program, and the original as the judge of witnesses.

    `example_input`: a tensor of the input's shape, batch size 1; an exported program brings its own. `check`
    compares the exported file, as it was read, with onnxruntime. Raises `BadInput`
    where the module cannot be exported, looks at values, draws random numbers, changes itself, or differs from what
    was exported.
    """
    graph, data, run = _loaded(module, example_input, check)
    model = OnnxModel(data)
    comparison = ModuleComparison(graph, model.run, run, run.example, run.precision)
    comparison.at_load()
    return graph, original_of(data, run, comparison)


class ModuleRun:
    """A module in evaluation mode as a function of one flat float64 vector, in the module's own precision."""

    def __init__(self, module: torch.nn.Module, example: torch.Tensor) -> None:
        self.inner, self.shape, self.dtype, self.device = module, example.shape, example.dtype, example.device
        self.example: Array = example.detach().double().cpu().numpy().reshape(-1)
        self.random = RandomStates(self.device)

    @property
    def precision(self) -> str:
        """float32 or float64."""
        return "float64" if self.dtype == torch.float64 else "float32"

    def __call__(self, x: Array) -> Array:  # (n_in,) -> (n_out,)
        """The module's output at the nearest point of its precision. Raises `BadInput` where it cannot be run."""
        point = torch.from_numpy(np.array(x, dtype=np.float64)).to(self.device, self.dtype).reshape(self.shape)
        with _alone(), evaluating(self.inner), self.random, _exact_products(self.device), torch.no_grad():
            try:
                value = _tensors(interruptible(lambda: self.inner(point)))[0]
            except TimeUp:
                raise
            except Exception as error:  # the module's own code raises whatever it likes
                raise BadInput(
                    f"the module cannot be run at an input of shape {tuple(self.shape)}: {first_line(error)}"
                ) from error
        return value.detach().double().cpu().numpy().reshape(-1)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Within it no other thread exports or runs a module. Raises `TimeUp` where that takes too long."""
    seconds = within(None)
    if not LOCK.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX)):
        raise TimeUp("the time limit has passed")
    try:
        yield
    finally:
        LOCK.release()


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Within it every part of the module is in evaluation mode; afterwards each is in the mode it had.

    Flags are set, `train` and `eval` are not called: modules may do more there (merge weights), which no flag undoes.
    """
    flags = [(part, part.training) for part in module.modules()]
    try:
        for part, training in flags:
            if training:
                part.training = False
        yield
    finally:
        for part, training in flags:
            if part.training is not training:
                part.training = training


def _loaded(given: Any, example_input: Any, check: bool = True) -> tuple[Graph, bytes, ModuleRun]:
    module, example = _given(given, example_input)
    run = ModuleRun(module, example)
    doing("PyTorch's exporter was loaded")
    abandonable(_libraries)
    with _alone(), evaluating(module), _buffers_kept(module):
        doing("the module was run")
        _check_state(module, run)
        doing("the module was exported")
        with run.random:
            data = written(module, example)
    return read_onnx(data, type(module).__name__, check), data, run


def _given(given: Any, example: Any) -> tuple[torch.nn.Module, torch.Tensor]:
    """The module and its example input, on the module's device; `BadInput` where they are something else."""
    module = given
    if isinstance(given, torch.export.ExportedProgram):
        module = given.module()
        arguments = torch.utils._pytree.tree_leaves(given.example_inputs) if example is None else [example]
        if len(arguments) != 1:
            raise BadInput(f"the exported program takes {len(arguments)} inputs; exactly one is supported")
        one = example is None and _open_batch(given)
        example = arguments[0][:1] if one else arguments[0]
    if not isinstance(module, torch.nn.Module):
        raise BadInput(f"a network is a file, a Graph, a torch.nn.Module or an ExportedProgram, not a {_kind(given)}")
    if isinstance(example, tuple | list) and len(example) == 1:
        example = example[0]
    if example is None:
        raise BadInput("a torch.nn.Module needs an example_input, a tensor of its input's shape with batch size 1")
    if not isinstance(example, torch.Tensor):
        raise BadInput(f"example_input must be a tensor of the module's input's shape, not a {_kind(example)}")
    if example.dtype not in (torch.float32, torch.float64) or not example.numel():
        raise BadInput(
            f"example_input must hold float32 or float64 numbers, at least one, not {example.numel()} of "
            f"{str(example.dtype).removeprefix('torch.')}"
        )
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    state = next(iter([*module.parameters(), *module.buffers()]), example)
    if "meta" in (state.device.type, example.device.type):
        raise BadInput("the module or its example input is on PyTorch's meta device, where tensors hold no numbers")
    return module, example.detach().to(state.device)


def _open_batch(program: ExportedProgram) -> bool:
    """Whether the program takes any number of samples: the network is then verified for one."""
    names = program.graph_signature.user_inputs
    shapes = [n.meta["val"].shape for n in program.graph.nodes if n.op == "placeholder" and n.name in names]
    return bool(shapes and shapes[0]) and isinstance(shapes[0][0], torch.SymInt)


def _check_state(module: torch.nn.Module, run: ModuleRun) -> None:
    """Raises `BadInput` where the module fails, or changes itself after its first call too (which may fill caches)."""
    with run.random.asked():
        run(run.example)
        before = state_of(module)
        run.random.again()
        run(run.example)
    changed = changed_by(before, state_of(module))
    if changed is not None:
        raise BadInput(
            f"the module changes its own '{changed}' each time it is called, so that its output depends on earlier "
            "calls; a network to be verified has one output for each input"
        )


@contextlib.contextmanager
def _buffers_kept(module: torch.nn.Module) -> Iterator[None]:
    """Buffers of a module that is refused, or left, are what they were before it was called."""
    kept = [(b, b._version, b.detach().clone()) for b in module.buffers() if not b.is_inference()]
    try:
        yield
    except (BadInput, TimeUp):
        with torch.no_grad():
            for buffer, version, value in kept:
                if buffer._version != version:
                    buffer.copy_(value)
        raise


def _libraries() -> None:
    """Imports what exporting needs, which takes seconds at first."""
    with untouched():
        for name in EXPORTERS:
            with contextlib.suppress(ImportError):  # of another PyTorch
                import_module(name)


# ---- helpers


@contextlib.contextmanager
def _exact_products(device: torch.device) -> Iterator[None]:
    """Within it no factor of a product is shortened (TF32), whatever the caller has set: cuDNN's are by default."""
    with full_products(), past_cudnn() if device.type == "cuda" else contextlib.nullcontext():
        yield


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _kind(value: Any) -> str:
    return type(value).__name__
