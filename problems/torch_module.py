"""PyTorch modules to graphs, by way of `torch.export` and ONNX, and the module itself as a judge.

    module -> exported program (`torch_export`) -> ONNX bytes -> graph (`onnx`)

The ONNX file is written from the exported program, not from the module: what the program says is what is verified. Of
PyTorch's two writers the older one is asked first (3 ms, and no operator of its own; the newer one takes 0.6 s for any
network), the newer one where the older knows an operator not or would drop an in-place change of a view. Where
`torch.export` cannot handle a module, for another reason than that it looks at values, the older writer traces the
module itself, and any warning of the tracer that values were looked at is a refusal.

The module is run in evaluation mode, in its own precision, on its own device. Its flags are put back one by one, and
the state of PyTorch's random numbers too.

Soundness: exact up to the rounding that `simplify` states, if PyTorch's writers are right; `torch_compare` asks.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..kernels.arithmetic import full_products
from .errors import BadInput
from .graph import Graph
from .onnx import read_onnx
from .original import Original, original_of
from .session import OnnxModel
from .torch_compare import ModuleComparison
from .torch_export import NotExportable, changed_by, exported, line, looked_at, state_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Array = NDArray[np.float64]

LOCK = threading.RLock()  # PyTorch's exporters keep their state in globals: one module at a time
OPSET, NEWER_OPSET = 17, 18  # of the older and of the newer writer
HARMLESS = ("Iterating over a tensor", "Using len to get tensor shape")  # the tracer's warnings about shapes


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

    @property
    def precision(self) -> str:
        """float32 or float64."""
        return "float64" if self.dtype == torch.float64 else "float32"

    def __call__(self, x: Array) -> Array:  # (n_in,) -> (n_out,)
        """The module's output at the nearest point of its precision. Raises `BadInput` where it cannot be run."""
        point = torch.from_numpy(np.array(x, dtype=np.float64)).to(self.device, self.dtype).reshape(self.shape)
        with LOCK, evaluating(self.inner), _unmoved(self.device), _exact_products(), torch.no_grad():
            try:
                value = _tensors(self.inner(point))[0]
            except Exception as error:  # the module's own code raises whatever it likes
                raise BadInput(
                    f"the module cannot be run at an input of shape {tuple(self.shape)}: {_first(error)}"
                ) from error
        return value.detach().double().cpu().numpy().reshape(-1)


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Within it the module is in evaluation mode; afterwards every part of it is in the mode it had."""
    flags = [(part, part.training) for part in module.modules()]
    try:
        if any(training for _, training in flags):
            with contextlib.suppress(NotImplementedError):  # an exported module's mode is part of its code
                module.eval()
        yield
    finally:
        for part, training in flags:
            part.training = training


def _loaded(given: Any, example_input: Any, check: bool = True) -> tuple[Graph, bytes, ModuleRun]:
    module, example = _given(given, example_input)
    run = ModuleRun(module, example)
    with LOCK, evaluating(module), _unmoved(run.device):
        _check_state(module, run)
        data = _onnx(module, example)
    return read_onnx(data, type(module).__name__, check), data, run


def _given(given: Any, example: Any) -> tuple[torch.nn.Module, torch.Tensor]:
    """The module and its example input, on the module's device; `BadInput` where they are something else."""
    module = given
    if isinstance(given, torch.export.ExportedProgram):
        module = given.module()
        arguments = torch.utils._pytree.tree_leaves(given.example_inputs) if example is None else [example]
        if len(arguments) != 1:
            raise BadInput(f"the exported program takes {len(arguments)} inputs; exactly one is supported")
        example = arguments[0]
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
    return module, example.detach().to(state.device)


def _check_state(module: torch.nn.Module, run: ModuleRun) -> None:
    """Raises `BadInput` where the module fails, or changes itself after its first call too (which may fill caches)."""
    run(run.example)
    before = state_of(module)
    run(run.example)
    changed = changed_by(before, state_of(module))
    if changed is not None:
        raise BadInput(
            f"the module changes its own '{changed}' each time it is called, so that its output depends on earlier "
            "calls; a network to be verified has one output for each input"
        )


# ---- ONNX


def _onnx(module: torch.nn.Module, example: torch.Tensor) -> bytes:
    """The bytes of the module's ONNX file; `BadInput` where there is none."""
    try:
        with _heard():
            program = exported(module, example)
    except NotExportable as reason:
        return _traced(module, example, str(reason))
    if not _changes_views(program):
        straight = program.module(check_guards=False) if _can_drop_guards() else program.module()
        straight._forward_pre_hooks.clear()  # checks of the input's shape, which is the example's
        straight.train = lambda mode=True: straight  # exported modules refuse it, and the writer asks for it
        for part in straight.modules():
            part.training = False
        try:
            return _older(straight, example)
        except _Looked as found:
            raise BadInput(str(found)) from None
        except Exception:  # unsupported operators and the like: the newer writer says why
            pass
    return _newer(program, example)


def _traced(module: torch.nn.Module, example: torch.Tensor, reason: str) -> bytes:
    try:
        return _older(module, example)
    except _Looked as found:
        raise BadInput(f"{found} (torch.export: {reason})") from None
    except Exception as error:
        raise BadInput(f"torch.onnx cannot export the module: {_first(error)} (torch.export: {reason})") from error


class _Looked(Exception):
    """The tracer saw the module look at values."""


def _older(module: torch.nn.Module, example: torch.Tensor) -> bytes:
    """The older writer: traces the module, which for an exported program is a straight line."""
    buffer = BytesIO()
    with _heard(), torch.no_grad():
        torch.onnx.export(module, (example,), buffer, dynamo=False, opset_version=OPSET)
    return buffer.getvalue()


def _newer(program: ExportedProgram, example: torch.Tensor) -> bytes:
    """The newer writer, which needs onnxscript."""
    try:
        with _heard():
            found = torch.onnx.export(program, (example,), dynamo=True, opset_version=NEWER_OPSET, verbose=False)
    except Exception as error:
        if any(isinstance(e, ImportError) for e in (error, error.__cause__, error.__context__)):
            raise BadInput(
                "this module is exported with onnxscript, which is not installed: pip install onnxscript"
            ) from error
        raise BadInput(f"torch.onnx cannot export the module: {_first(error)}") from error
    return found.model_proto.SerializeToString()


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Raises `_Looked` where the tracer warns that values were looked at; says other warnings again, but for those
    that PyTorch's own use of its older writer deserves."""
    import logging

    registry = logging.getLogger("torch.onnx._internal.exporter._registration")  # torchvision is not installed
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            yield
    finally:
        registry.setLevel(level)
    for w in said:
        if issubclass(w.category, torch.jit.TracerWarning):
            if not str(w.message).startswith(HARMLESS):
                raise _Looked(looked_at(line(w.filename, w.lineno)))
        elif not issubclass(w.category, DeprecationWarning | FutureWarning):
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)


def _changes_views(program: ExportedProgram) -> bool:
    """Whether an in-place operator changes what another node looks at: the older writer loses such a change."""
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None or not schema.is_mutable:
            continue
        changed = node.args[0]
        if changed.op == "placeholder" or _is_view(changed):
            return True
        if any(_is_view(user) for user in changed.users):
            return True
    return False


def _is_view(node: Any) -> bool:
    """Whether the node's value shares memory with another's."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or schema.is_mutable:
        return False
    return any(r.alias_info is not None for r in schema.returns) or "reshape" in schema.name or schema.name == "to"


def _can_drop_guards() -> bool:
    """Whether this PyTorch lets an exported module go without the checks of its input's shape."""
    import inspect

    return "check_guards" in inspect.signature(torch.export.ExportedProgram.module).parameters


# ---- helpers


@contextlib.contextmanager
def _unmoved(device: torch.device) -> Iterator[None]:
    """Within it PyTorch's random numbers may be drawn; afterwards their state is what it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextlib.contextmanager
def _exact_products() -> Iterator[None]:
    """Within it no factor of a product is shortened (TF32), whatever the caller has set."""
    with full_products(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _first(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _kind(value: Any) -> str:
    return type(value).__name__
