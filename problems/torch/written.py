"""A module as the bytes of an ONNX file, by PyTorch's two writers.

The file is written from the exported program, not from the module: what the program says is what is verified. The older
writer is asked first (3 ms, and no operator of its own; the newer one takes 0.6 s for any network), the newer one where
the older knows an operator not or would drop an in-place change of a view. Where `torch.export` cannot handle a module,
for another reason than that it looks at values, the older writer traces the module itself, and any warning of the
tracer that values were looked at is a refusal.

Under a time limit modules and exporters are interrupted (`kernels.interrupt`), and a writer is not begun whose native
calls would outlast it.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from ...kernels.deadline import TimeUp, left
from ...kernels.hush import hushed, unlogged
from ...kernels.interrupt import interruptible
from ..errors import BadInput
from .export import NotExportable, exported, line, looked_at

if TYPE_CHECKING:
    from torch.export import ExportedProgram

OPSET, NEWER_OPSET = 17, 18  # of the older and of the newer writer
WRITING = 1e-8  # seconds a byte of parameters in the older writer's native calls, which cannot be interrupted
HARMLESS = ("Iterating over a tensor", "Using len to get tensor shape")  # the tracer's warnings about shapes


def written(module: torch.nn.Module, example: torch.Tensor) -> bytes:
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
        raise BadInput(f"torch.onnx cannot export the module: {first_line(error)} (torch.export: {reason})") from error


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
        raise BadInput(f"torch.onnx cannot export the module: {first_line(error)}") from error
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


def first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
