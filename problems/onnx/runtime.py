"""The original file under onnxruntime: the independent opinion on an import and on every witness.

A counterexample counts only when the network as delivered shows it, so the bytes that are run here are the file's own
(decompressed), never something written back from a `Graph`. One thread, on the CPU: the answer must not depend on
the machine's load, and a session must start in milliseconds. Soundness: this is the judge of `violated`; it takes no
part in `holds`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from math import prod
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...kernels.deadline import TimeUp, abandonable, check
from ..errors import BadInput
from ..given import path_of

if TYPE_CHECKING:
    import onnxruntime

Array = NDArray[np.float64]
LARGE = 1 << 24  # bytes of a model that onnxruntime takes a while for, to read and to run
CHUNK = 1 << 24  # bytes read at a time


def model_bytes(path: str | PathLike[str]) -> bytes:
    """The bytes of an `.onnx` file, decompressed in memory where the file is gzipped; `BadInput` if unreadable."""
    path = path_of("the network", path)
    try:
        data = _read(path)
    except FileNotFoundError:
        raise BadInput(f"the network file {path} does not exist; check the path") from None
    except OSError as error:
        raise BadInput(f"the network file {path} cannot be read ({error.strerror}); check the path") from None
    if data[:2] == b"\x1f\x8b":
        try:
            data = _inflated(data)
        except (OSError, EOFError, zlib.error):
            raise BadInput(f"the network file {path} is a damaged or truncated gzip file; fetch it again") from None
    if not data:
        raise BadInput(f"the network file {path} is empty; fetch it again")
    return data


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return _joined(iter(lambda: file.read(CHUNK), b""))


def _inflated(data: bytes) -> bytes:
    with gzip.GzipFile(fileobj=BytesIO(data)) as file:
        return _joined(iter(lambda: file.read(CHUNK), b""))


def _joined(chunks: Iterator[bytes]) -> bytes:
    found = []
    for chunk in chunks:
        check()
        found.append(chunk)
    return found[0] if len(found) == 1 else b"".join(found)


def static_shape(dimensions: list[int | str | None], name: str) -> tuple[int, ...]:
    """A tensor's shape with an open first (batch) dimension taken as 1; `BadInput` where another one is open."""
    shape = [d if isinstance(d, int) and d > 0 else None for d in dimensions]
    if shape and shape[0] is None:
        shape[0] = 1
    known = tuple(d for d in shape if d is not None)
    if len(known) < len(shape):
        open_at = shape.index(None)
        raise BadInput(
            f"dimension {open_at} of the network input '{name}' is dynamic ({dimensions[open_at] or 'unknown'}); "
            "only the first (batch) dimension may be, so export the model with a fixed input shape"
        )
    return known


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _session(model: bytes, threads: int = 1, optimised: bool = True) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL

    def made():  # -> InferenceSession
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)

    try:
        return abandonable(made) if len(model) > LARGE else made()
    except TimeUp:
        raise
    except Exception as error:  # onnxruntime raises its own classes, which share no public base
        raise BadInput(f"onnxruntime cannot load the network: {_first_line(error)}") from None


def _run(session, names: list[str] | None, feed: dict[str, NDArray], large: bool) -> list[NDArray]:
    """The outputs of a session; a large model is told to stop when time is up."""
    if not large:
        return session.run(names, feed)
    from onnxruntime import RunOptions

    options = RunOptions()
    return abandonable(lambda: session.run(names, feed, options), lambda: setattr(options, "terminate", True))


class OnnxModel:
    """A model in onnxruntime, as a function of flat float64 vectors. The batch dimension, where open, is 1."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        self.session, self.large = _session(model, threads), len(model) > LARGE
        argument = self.session.get_inputs()[0]
        self.name = argument.name
        self.dtype = np.float64 if argument.type == "tensor(double)" else np.float32
        self.shape = static_shape(list(argument.shape), argument.name)

    def run(self, x: Array) -> Array:  # (n_in,) -> (n_out,)
        """The first output at x, flattened, as onnxruntime computes it in the file's own precision."""
        if x.size != prod(self.shape):
            raise BadInput(f"the network takes {prod(self.shape)} inputs, not {x.size}")
        feed = {self.name: np.ascontiguousarray(x, dtype=self.dtype).reshape(self.shape)}
        try:
            y = _run(self.session, None, feed, self.large)[0]
        except TimeUp:
            raise
        except Exception as error:
            raise BadInput(f"onnxruntime cannot run the network: {_first_line(error)}") from None
        return np.asarray(y, dtype=np.float64).reshape(-1)

    def run_many(self, points: Array) -> Array:  # (B, n_in) -> (B, n_out)
        """`run` on each row; a loop, because a model may have its batch size fixed at 1."""
        return np.stack([self.run(x) for x in points])


class ExposedModel:
    """A model in onnxruntime that also hands out tensors from within, each computed by the operator the file names.

    The optimisations of the graph are off: they would fuse the operators whose results are wanted. The further
    outputs are appended to the file's bytes as a message of their own, which the format merges; nothing of the file
    is written anew.
    """

    def __init__(self, model: bytes, names: Sequence[str], output: str) -> None:
        from onnx import ModelProto

        more = ModelProto()
        for name in names:
            if name != output:
                more.graph.output.add(name=name)
        self.session, self.large = _session(model + more.SerializeToString(), optimised=False), len(model) > LARGE
        self.names = [output, *(name for name in names if name != output)]
        argument = self.session.get_inputs()[0]
        self.name, self.shape = argument.name, static_shape(list(argument.shape), argument.name)
        self.dtype = np.float64 if argument.type == "tensor(double)" else np.float32

    def run(self, x: Array) -> dict[str, NDArray]:  # (n_in,) -> by name, in their own shapes and types
        """The exposed tensors, and the input, at the point x."""
        feed = {self.name: np.ascontiguousarray(x, dtype=self.dtype).reshape(self.shape)}
        try:
            found = _run(self.session, self.names, feed, self.large)
        except TimeUp:
            raise
        except Exception as error:
            raise BadInput(f"onnxruntime cannot run the network: {_first_line(error)}") from None
        return feed | dict(zip(self.names, found, strict=True))
