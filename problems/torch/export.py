"""PyTorch modules to exported programs: one straight-line graph, or a refusal that names the line that prevents it.

A tracer runs a module once and writes down what it saw; where the module's Python code looked at a value (`if x.sum() >
0`, `range(int(x[0]))`, `x.item()`), the trace is right at the traced point and nowhere else. `torch.export` runs the
module on tensors without values instead: shapes may be looked at, values may not, and who looks is named. That makes
the graph a fact about the module's code, but for what Python keeps to itself, which is asked for here:

    values made Python numbers and kept in the graph as symbols     refused, by line
    random operators (`torch.rand`, dropout that is on)             refused, by line
    operators that hold code of their own (`torch.cond`)            refused, by line
    buffers and parameters changed by a call, attributes counted    refused, by name
    whatever else (Python's own random numbers, files, clocks)      `torch_compare`, which runs the module itself

`torch.export` is PyTorch's "non-strict" export (PyTorch 2 paper: Ansel and others, ASPLOS 2024); its first call in a
process imports the compiler (1 s), later ones take 15 ms.

Soundness: exact, as far as PyTorch's own graph is; the comparison guards the rest.
"""

from __future__ import annotations

import contextlib
import linecache
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...kernels.deadline import TimeUp
from ...kernels.hush import unlogged, unprinted
from ...kernels.interrupt import interruptible
from ..errors import BadInput

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

# What PyTorch raises where values are looked at; by name, because they move between its files.
LOOKED = ("GuardOnDataDependentSymNode", "DataDependentOutputException", "DynamicOutputShapeException")
NOISY = ("torch.fx.experimental.symbolic_shapes",)  # loggers that repeat what the exception says
MODES = ("wrap_with_set_grad_enabled", "wrap_with_autocast")  # operators around code that change no value
ADVICE = "a network has one formula for all inputs: write it with torch.relu, torch.maximum, torch.clamp"


class NotExportable(Exception):
    """`torch.export` gave up for another reason than that the module looks at values."""


def exported(module: torch.nn.Module, example: torch.Tensor) -> ExportedProgram:
    """The module's exported program at the example's shape.

    Raises `BadInput` where the module looks at values or is no function of its input, `NotExportable` where
    `torch.export` fails otherwise.
    """
    try:
        # PyTorch prints the graph so far before it raises; the sentence says what matters.
        with unlogged(logging.CRITICAL, *NOISY), unprinted(), torch.no_grad():
            program = interruptible(lambda: torch.export.export(module, (example,), strict=False))
    except TimeUp:
        raise
    except Exception as error:  # whatever the module's code raises
        if any(kind.__name__ in LOOKED for e in _chain(error) for kind in type(e).__mro__):
            raise BadInput(looked_at(_raised_at(error))) from error
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise NotExportable(reason) from error
    _check_operators(program)
    return program


def _check_operators(program: ExportedProgram) -> None:
    """Raises `BadInput` for nodes that make the graph no function of the input, or hide one."""
    for node in program.graph.nodes:
        if node.op not in ("call_function", "call_module", "get_attr"):
            continue
        if isinstance(node.meta.get("val"), torch.SymInt | torch.SymFloat | torch.SymBool) or _valueless(node):
            raise BadInput(f"the module turns values of a tensor into a Python number or a size{_at(node)}; {ADVICE}")
        target = node.target
        if isinstance(target, torch._ops.HigherOrderOperator):
            if target.name() not in MODES:
                raise BadInput(
                    f"the module calls torch's '{target.name()}'{_at(node)}, which is not supported; {ADVICE}"
                )
        elif isinstance(target, torch._ops.OpOverload) and _random(target, node):
            raise BadInput(
                f"the module draws random numbers ({target._schema.name}){_at(node)}; a network to be verified has one "
                "output for each input, so remove them, or switch dropout off with training=self.training"
            )


def _valueless(node: Node) -> bool:
    """Whether a result's size depends on values: some dimension is a symbol, though every input's size is fixed."""
    value = node.meta.get("val")
    values = value if isinstance(value, tuple | list) else (value,)
    return any(isinstance(v, torch.Tensor) and any(isinstance(n, torch.SymInt) for n in v.shape) for v in values)


def _random(operator: torch._ops.OpOverload, node: Node) -> bool:
    """Whether the operator draws random numbers with these arguments."""
    if torch.Tag.nondeterministic_seeded not in operator.tags:
        return False
    names = [a.name for a in operator._schema.arguments]
    given = {a.name: a.default_value for a in operator._schema.arguments if a.has_default_value()}
    given |= dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    off = [given[name] in (False, 0.0) for name in ("train", "training", "dropout_p") if name in given]
    return not (off and any(off))


def changed_by(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """The first piece of state that differs between two `state_of`, if any."""
    return next((name for name in after if name not in before or before[name] != after[name]), None)


def state_of(module: torch.nn.Module) -> dict[str, Any]:
    """What a call of the module could change: versions of parameters and buffers, attributes that are plain values."""
    found: dict[str, Any] = {}
    for prefix, part in module.named_modules():
        dot = f"{prefix}." if prefix else ""
        for name, value in (*part._parameters.items(), *part._buffers.items()):
            if isinstance(value, torch.Tensor) and not value.is_inference():
                found[dot + name] = (id(value), value._version)
        for name, value in vars(part).items():
            if not name.startswith("_") or name not in torch.nn.Module().__dict__:
                with contextlib.suppress(TypeError):
                    found[dot + name] = _plain(value)
    return found


def _plain(value: Any, depth: int = 3) -> Any:
    """A copy of numbers, words and small collections of them; TypeError for anything else."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)  # NaN is itself
    if depth and isinstance(value, list | tuple | set | frozenset | dict) and len(value) <= 1000:
        items = value.items() if isinstance(value, dict) else value
        return type(value).__name__, tuple(_plain(v, depth - 1) for v in items)
    raise TypeError


def looked_at(where: str) -> str:
    """The sentence for a module that looks at values at a line (see `line`)."""
    return (
        f"the module looks at values of a tensor{where}, so that other inputs may take another way through its code; "
        f"{ADVICE}"
    )


def line(file: str, number: int) -> str:
    """' at FILE:LINE, CODE' of a module's source; nothing for code that PyTorch made."""
    if not number or file.startswith("<"):
        return ""
    code = linecache.getline(file, number).strip()
    return f" at {Path(file).name}:{number}" + (f", `{code}`" if code else "")


def _raised_at(error: BaseException) -> str:
    """The innermost line of the traceback that is not PyTorch's own."""
    home = str(Path(torch.__file__).parent)
    for e in _chain(error):
        frames = [f for f in traceback.extract_tb(e.__traceback__) if not f.filename.startswith((home, "<"))]
        if frames and frames[-1].filename != __file__:
            return line(frames[-1].filename, frames[-1].lineno or 0)
    return ""


def _at(node: Node) -> str:
    """The line that made a node, from the stack that PyTorch keeps with it."""
    lines = [text.strip() for text in (node.stack_trace or "").splitlines() if text.strip().startswith('File "')]
    if not lines:
        return ""
    file, number, *_ = lines[-1].removeprefix('File "').split('", line ')[0:2]
    return line(file, int(number.split(",")[0]))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
