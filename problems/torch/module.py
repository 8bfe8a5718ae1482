"""PyTorch modules to graphs, by way of `torch.export` and ONNX, and the module itself as a judge.

    module -> exported program (`torch_export`) -> ONNX bytes -> graph (`onnx`)

The ONNX file is written from the exported program, not from the module: what the program says is what is verified. Of
PyTorch's two writers the older one is asked first (3 ms, and no operator of its own; the newer one takes 0.6 s for any
network), the newer one where the older knows an operator not or would drop an in-place change of a view. Where
`torch.export` cannot handle a module, for another reason than that it looks at values, the older writer traces the
module itself, and any warning of the tracer that values were looked at is a refusal.

Under a time limit modules and exporters are interrupted (`kernels.interrupt`), and a writer is not begun whose native
calls would outlast it.

The module is run in evaluation mode, in its own precision, on its own device, by one thread at a time. Its flags are
put back one by one, random numbers that it draws as well (`random_states`), and its buffers where it is refused.

Soundness: exact up to the rounding that `simplify` states, if PyTorch's writers are right; `torch_compare` asks.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels.arithmetic import full_products, past_cudnn
from ...kernels.deadline import TimeUp, abandonable, doing, left, within
from ...kernels.hush import hushed, unlogged, untouched
from ...kernels.interrupt import interruptible
from ..errors import BadInput
from ..network.graph import Graph
from ..onnx.file import read_onnx
from ..onnx.runtime import OnnxModel
from ..originals.module_comparison import ModuleComparison
from ..originals.original import Original, original_of
from .export import NotExportable, changed_by, exported, line, looked_at, state_of
from .random_states import RandomStates

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Array = NDArray[np.float64]

LOCK = threading.RLock()  # PyTorch's exporters keep their state in globals: one module at a time
OPSET, NEWER_OPSET = 17, 18  # of the older and of the newer writer
WRITING = 1e-8  # seconds a byte of parameters in the older writer's native calls, which cannot be interrupted
EXPORTERS = ("torch._dynamo", "torch.export._trace", "torch.onnx", "torch.onnx._internal.torchscript_exporter.utils")
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
                    f"the module cannot be run at an input of shape {tuple(self.shape)}: {_first(error)}"
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


# ---- ONNX


def _onnx(module: torch.nn.Module, example: torch.Tensor) -> bytes:
    """The bytes of the module's ONNX file; `BadInput` where there is none."""
    try:
        with _heard():
            program = exported(module, example)
    except NotExportable as reason:
        return _traced(module, example, str(reason))
    if not _changes_views(program):
        try:
            return _older(interruptible(lambda: _straight(program)), example)
        except _Looked as found:
            raise BadInput(str(found)) from None
        except TimeUp:
            raise
        except Exception:  # unsupported operators and the like: the newer writer says why
            pass
    return _newer(program, example)


def _straight(program: ExportedProgram) -> torch.nn.Module:
    """The program as a module whose code is a straight line."""
    straight = program.module(check_guards=False) if _can_drop_guards() else program.module()
    straight._forward_pre_hooks.clear()  # checks of the input's shape, which is the example's
    vars(straight)["train"] = lambda mode=True: straight  # exported modules refuse it, and the writer asks for it
    for part in straight.modules():
        part.training = False
    return straight


def _traced(module: torch.nn.Module, example: torch.Tensor, reason: str) -> bytes:
    try:
        return _older(module, example)
    except _Looked as found:
        raise BadInput(f"{found} (torch.export: {reason})") from None
    except TimeUp:
        raise
    except Exception as error:
        raise BadInput(f"torch.onnx cannot export the module: {_first(error)} (torch.export: {reason})") from error


@contextlib.contextmanager
def _unprinted() -> Iterator[None]:
    """Within it the older writer prints no graph where it fails, which it otherwise does on standard output: it means
    to do so only where its log is on, but takes the function that says whether it is for a yes."""
    core: Any = torch._C
    asked, enable = (getattr(core, f"_jit_{name}_onnx_log_enabled", None) for name in ("is", "set"))
    if asked is None or enable is None:  # another PyTorch
        yield
        return
    before = asked()
    enable(False)
    core._jit_is_onnx_log_enabled = None
    try:
        yield
    finally:
        core._jit_is_onnx_log_enabled = asked
        enable(before)


class _Looked(Exception):
    """The tracer saw the module look at values."""


def _older(module: torch.nn.Module, example: torch.Tensor) -> bytes:
    """The older writer: traces the module, which for an exported program is a straight line."""
    size = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    if WRITING * size > left():
        raise TimeUp("the time limit would pass")
    buffer = BytesIO()
    with _heard(), _unprinted(), torch.no_grad():
        interruptible(
            lambda: torch.onnx.export(
                module,
                (example,),
                buffer,  # type: ignore[arg-type]  # the stub leaves out what the older writer takes
                dynamo=False,
                opset_version=OPSET,
            )
        )
    return buffer.getvalue()


def _newer(program: ExportedProgram, example: torch.Tensor) -> bytes:
    """The newer writer, which needs onnxscript."""
    try:
        with _heard():
            found = interruptible(
                lambda: torch.onnx.export(program, (example,), dynamo=True, opset_version=NEWER_OPSET, verbose=False)
            )
    except TimeUp:
        raise
    except Exception as error:
        if any(isinstance(e, ImportError) for e in (error, error.__cause__, error.__context__)):
            raise BadInput(
                "this module is exported with onnxscript, which is not installed: pip install onnxscript"
            ) from error
        raise BadInput(f"torch.onnx cannot export the module: {_first(error)}") from error
    assert found is not None, "the newer writer returns what it wrote"
    return found.model_proto.SerializeToString()


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Raises `_Looked` where the tracer warns that values were looked at. Warnings of other kinds are the module's, but
    for those that PyTorch's own use of its older writer deserves."""
    kinds = (torch.jit.TracerWarning, DeprecationWarning, FutureWarning)
    registry = "torch.onnx._internal.exporter._registration"  # torchvision is not installed
    with _traced_lines() as said, hushed(*kinds), unlogged(logging.ERROR, registry):
        yield
    if said:
        raise _Looked(looked_at(said[0]))


@contextlib.contextmanager
def _traced_lines() -> Iterator[list[str]]:
    """Within it each of this thread's warnings of the tracer adds the line that it warns of.

    Python makes every warning before it looks at its filters, so this hears what any filter would drop.
    """
    said: list[str] = []
    thread, home = threading.get_ident(), str(Path(torch.__file__).parent)

    def made(warning: Warning, *words: object) -> None:
        Warning.__init__(warning, *words)
        if threading.get_ident() == thread and not str(warning).startswith(HARMLESS):
            frame: FrameType | None = sys._getframe(1)
            while frame is not None and frame.f_code.co_filename.startswith((home, "<")):
                frame = frame.f_back
            ours = frame is None or frame.f_code.co_filename == __file__
            said.append("" if frame is None or ours else line(frame.f_code.co_filename, frame.f_lineno))

    type.__setattr__(torch.jit.TracerWarning, "__init__", made)
    try:
        yield said
    finally:
        del torch.jit.TracerWarning.__init__


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
def _exact_products(device: torch.device) -> Iterator[None]:
    """Within it no factor of a product is shortened (TF32), whatever the caller has set: cuDNN's are by default."""
    with full_products(), past_cudnn() if device.type == "cuda" else contextlib.nullcontext():
        yield


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _first(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _kind(value: Any) -> str:
    return type(value).__name__
