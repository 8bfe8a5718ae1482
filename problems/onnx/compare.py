"""An import beside onnxruntime, operator by operator.

Every tensor of the file is exposed as an output of onnxruntime, and every operator, as it was imported, is fed
onnxruntime's own inputs to it. What comes out may differ in each entry by what rounding explains in that one operator
and that entry (`apriori`): a misread operator hides neither behind large values elsewhere, nor behind the error of what
comes before it. Then each node of the simplified graph is fed the values of the graph before simplification, in
float64, and may differ by what rounding explains there.

At least one point is compared, and at most `MOST`, as many as fit into the time given. A point at which an operator
overflows says nothing about that operator; one that overflows at every point is refused. Where the tensors of one point
would take more than `ROOM` bytes, only the network's output is compared, with the error bounds of all operators carried
along to it; the sentence of the `Comparison` says so.

Soundness: heuristic; it guards against misread files and proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...kernels.deadline import check, doing, now
from ..errors import BadInput
from ..network.apriori import EXACT, Judged, Precision, evaluated, given, judged, rounded
from ..network.builder import Value
from .elementwise import ELEMENTWISE_OPERATORS
from .importing import Reading, refolded
from .runtime import ExposedModel

if TYPE_CHECKING:
    from .call import Call
    from .importing import Imported, Step

MOST = 16
ROOM = 1 << 30  # bytes: of all tensors at one point
CHUNK = 1 << 26  # bytes: of the points that are compared at a time
SECONDS = 0.25  # after so long no more points are begun, whatever the time limit allows
LARGE = 2.0**-3  # of the largest number: sums beyond it may have overflowed
TWICE = 2  # points at which the simplified graph is compared
# Operators that compute. Every other one that is supported on variables copies entries.
ROUNDING = {"Add", "AveragePool", "BatchNormalization", "Cast", "Conv", "ConvTranspose", "Div", "Gemm"}
ROUNDING |= {"GlobalAveragePool", "LeakyRelu", "MatMul", "Mul", "ReduceMean", "ReduceSum", "Sub"}
ROUNDING |= set(ELEMENTWISE_OPERATORS)

Runs = Sequence[dict[str, NDArray]]  # for each point the tensors by name


@dataclass(frozen=True)
class Comparison:
    """What was compared."""

    points: int
    operators: int  # 0: only the network as a whole

    @property
    def sentence(self) -> str:
        how = f"each of {self.operators} operators by itself" if self.operators else "as a whole, for lack of memory"
        return f"the import agrees with onnxruntime at {self.points} points, {how}"


def compare(reading: Reading, points: NDArray, seconds: float | None = None) -> Comparison:  # (P, n_in)
    """Raises `BadInput` where import and file differ at `points`, the most important ones first."""
    doing("the network as it was read was compared with onnxruntime")
    whole, end = reading.imported, now() + (SECONDS if seconds is None else seconds)
    size = sum(8 * prod(result.shape) for step in whole.steps for result in step.results)
    large = size > ROOM
    steps = [] if large else [step for step in whole.steps if step.call.kind != "Constant"]
    model = ExposedModel(reading.data, list(dict.fromkeys(n for s in steps for n in s.outputs)), whole.output)
    with np.errstate(over="ignore"):  # a point beyond the model's numbers is one at which it overflows
        x = points[:MOST].astype(model.dtype).astype(np.float64)
    waiting, done = {id(step) for step in steps}, 0
    judge = _Operators(whole, reading.name, model.name)
    unseen = True  # no point yet at which the output was finite
    while done < len(x) and (unseen or waiting or now() < end):
        count = 1 if not done else max(1, min(len(x), CHUNK // max(size, 1)))  # the first alone, to see what one takes
        chunk = x[done : done + count]
        runs = [model.run(point) for point in chunk]
        unseen &= not any(np.isfinite(run[whole.output]).all() for run in runs)
        if large:
            _whole(reading, chunk, runs)
        for step in steps:
            check()
            if judge(step, runs):
                waiting.discard(id(step))
        if not large and done < TWICE:
            _simplification(reading, torch.from_numpy(chunk[: TWICE - done]))
        done += len(chunk)
    if unseen or waiting:
        raise BadInput(
            f"{reading.name} gives NaN or infinity in onnxruntime on every random input; it cannot be verified"
        )
    return Comparison(done, len(steps))


# ---- operators


class _Operators:
    """Judges single operators of one import."""

    def __init__(self, whole: Imported, file: str, source: str) -> None:
        self.whole, self.file, self.source = whole, file, source  # source: the name of the network's input

    def __call__(self, step: Step, runs: Runs) -> bool:
        """Whether the operator had finite inputs at some of the points; raises `BadInput` where it differs."""
        call = step.call
        if not any(isinstance(a, Value) for a in call.arguments):
            self._constant(step, runs[0])
            return True
        values: dict[int, Tensor] = {0: _stacked(runs, self.source)}
        for name, argument in zip(call.names, call.arguments, strict=True):
            if isinstance(argument, Value):
                values[argument.node] = _stacked(runs, name)
        rows = torch.stack([v.isfinite().all(1) for v in values.values()]).all(0)
        if not rows.any():
            return False
        known = {node: given(v[rows]) for node, v in values.items()}
        kept = [run for run, row in zip(runs, rows.tolist(), strict=True) if row]
        doubt = self._doubt(call, runs[0])
        for name, result in zip(step.outputs, step.results, strict=True):
            theirs = kept[0][name]
            if theirs.shape != result.shape:
                raise self._refused(call, f"'{name}' has shape {result.shape} here and {theirs.shape} there")
            if not isinstance(result, Value):  # a shape
                self._equal(call, name, np.asarray(result), theirs, np.zeros(()))
                continue
            precision = EXACT
            if call.kind in ROUNDING:
                precision = Precision.of(torch.from_numpy(theirs).dtype, doubt)
            other = _stacked(kept, name)
            if precision is EXACT and torch.equal(evaluated(self.whole.nodes, step.nodes, known)[result.node], other):
                continue
            found = judged(self.whole.nodes, step.nodes, known, precision)
            ours = found[result.node] if call.kind != "Cast" else rounded(found[result.node], precision)
            # Gemm multiplies by alpha when the product is there, so the product may overflow where the result is small.
            shrunk = min(1.0, abs(call.attribute("alpha", 1.0))) if call.kind == "Gemm" else 1.0
            large = LARGE * float(np.finfo(theirs.dtype).max) * shrunk
            overflow = torch.stack([~(found[i].size < large).all(1) for i in (result.node, *step.nodes)]).any(0)
            self._near(call, name, ours, other, overflow, theirs.shape)
        return True

    def _near(
        self, call: Call, name: str, ours: Judged, theirs: Tensor, overflow: Tensor, shape: tuple[int, ...]
    ) -> None:  # theirs (P, n), overflow (P,): at which points sums may have left the range
        overflowed = (~theirs.isfinite() & overflow[:, None]) | ~ours.value.isfinite()
        wrong = ~((ours.value - theirs).abs() <= ours.error) & ~overflowed
        if not wrong.any():
            return
        point, entry = (int(i) for i in wrong.nonzero()[0])
        value, other, error = (float(t[point, entry]) for t in (ours.value, theirs, ours.error))
        at = tuple(int(i) for i in np.unravel_index(entry, shape))
        raise self._refused(
            call, f"entry {at} of '{name}' is {value:.9g} here and {other:.9g} there, and rounding explains {error:.3g}"
        )

    def _equal(self, call: Call, name: str, ours: NDArray, theirs: NDArray, error: NDArray) -> None:
        if ours.shape != theirs.shape:
            raise self._refused(call, f"'{name}' has shape {ours.shape} here and {theirs.shape} there")
        same = ours == theirs
        if ours.dtype.kind == theirs.dtype.kind == "f":
            with np.errstate(invalid="ignore"):
                same |= (np.isnan(ours) & np.isnan(theirs)) | (np.abs(ours.astype(float) - theirs) <= error)
        if not same.all():
            at = tuple(int(i[0]) for i in np.nonzero(~same)) if same.ndim else ()
            raise self._refused(call, f"entry {at} of the constant '{name}' is {ours[at]} here and {theirs[at]} there")

    def _refused(self, call: Call, how: str) -> BadInput:
        return call.refuse(
            f"gives another result in onnxruntime than as {self.file} was imported: {how}; "
            "this form of the operator is not supported, export the network without it or report it"
        )

    # ---- constants

    def _constant(self, step: Step, run: dict[str, NDArray]) -> None:
        """A node of constants, fed onnxruntime's own."""
        arguments: list[NDArray | None] = []
        for name, given_here in zip(step.call.names, step.call.arguments, strict=True):
            assert not isinstance(given_here, Value), "a node of constants has no variable"
            arguments.append(run.get(name, given_here))
        for name, (ours, error) in zip(step.outputs, refolded(step.call, tuple(arguments)), strict=False):
            self._equal(step.call, name, ours, run[name], error)

    def _doubt(self, call: Call, run: dict[str, NDArray]) -> int:
        """By how many unit roundoffs the operator's constants, where they are computed in the file, differ."""
        most = 0.0
        for name, ours in zip(call.names, call.arguments, strict=True):
            if isinstance(ours, Value) or ours is None or name not in run or ours.dtype.kind != "f":
                continue
            theirs = run[name]
            differ = ours != theirs
            if not differ.any():
                continue
            with np.errstate(all="ignore"):
                share = np.abs(ours.astype(float) - theirs)[differ] / np.abs(ours[differ].astype(float))
            most = max(most, float(np.nan_to_num(share, nan=np.inf).max()) * 2 / np.finfo(ours.dtype).eps)
        if most > 1000:
            raise call.refuse(
                f"has constants that {self.file} computes and that onnxruntime computes otherwise; store the numbers"
            )
        return int(np.ceil(most))


def _stacked(runs: Runs, name: str) -> Tensor:  # (P, n)
    return torch.from_numpy(np.stack([run[name].reshape(-1) for run in runs]).astype(np.float64))


# ---- the network as a whole


def _simplification(reading: Reading, x: Tensor) -> None:  # (P, n_in)
    """Each node of the simplified graph on the values before simplification."""
    nodes, graph, same = reading.imported.nodes, reading.graph, reading.same
    cut = set(same)
    before: dict[int, Judged] = {}  # with the errors since the last node that is still there
    start: dict[int, Judged] = {0: given(x)}
    for i in _order(nodes, same[-1]):
        before[i] = judged(nodes, [i], start, EXACT)[i]
        start[i] = given(before[i].value) if i in cut else before[i]
    for n, node in enumerate(graph.nodes[1:], start=1):
        old = before[same[n]] if same[n] else given(x)
        known = {j: start[same[j]] for j in node.inputs}
        if torch.equal(evaluated(graph.nodes, [n], known)[n], old.value):
            continue
        new = judged(graph.nodes, [n], known, EXACT)[n]
        if (~new.value.isfinite() & old.value.isfinite()).any():
            raise BadInput(
                f"{reading.name} has weights whose products overflow in float64 (up to {node.name}); "
                "it cannot be verified, scale its layers"
            )
        wrong = ~((new.value - old.value).abs() <= new.error + old.error) & old.value.isfinite()
        if wrong.any():
            raise AssertionError(f"simplification changed the network {reading.name} at node {n} ({node.name})")


def _order(nodes: Sequence, last: int) -> list[int]:
    """The nodes that `last` depends on, in order, without the input."""
    needed, waiting = {0}, [last]
    while waiting:
        i = waiting.pop()
        if i not in needed:
            needed.add(i)
            waiting.extend(nodes[i].inputs)
    return sorted(needed - {0})


def _whole(reading: Reading, x: NDArray, runs: Runs) -> None:  # (P, n_in)
    """The network's output, with all errors carried along to it."""
    whole = reading.imported
    last = len(whole.graph.nodes) - 1
    precisions = dict.fromkeys(range(len(whole.nodes)), EXACT)
    dtype = torch.from_numpy(runs[0][whole.output]).dtype
    for step in whole.steps:
        if step.call.kind in ROUNDING:
            precisions |= dict.fromkeys(step.nodes, Precision.of(dtype))
    for point, run in zip(x, runs, strict=True):
        theirs = torch.from_numpy(run[whole.output].reshape(1, -1).astype(np.float64))
        if theirs.shape[1] != reading.graph.output_size:
            raise BadInput(
                f"{reading.name} was read with {reading.graph.output_size} outputs where onnxruntime has "
                f"{theirs.shape[1]}; please report it"
            )
        start = torch.from_numpy(point)[None]
        found = judged(whole.nodes, _order(whole.nodes, last), {0: given(start)}, precisions)[last]
        for ours in (found.value, reading.graph(start)):
            wrong = ~((ours - theirs).abs() <= found.error) & theirs.isfinite()
            if wrong.any():
                entry = int(wrong.nonzero()[0, 1])
                raise BadInput(
                    f"{reading.name} gives other outputs in onnxruntime than as imported: output {entry} is "
                    f"{float(theirs[0, entry]):.9g} there and {float(ours[0, entry]):.9g} here; it uses an operator in "
                    "a way that is not supported, please report it"
                )
