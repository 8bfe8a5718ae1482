"""A PyTorch module beside the network that was exported from it: the same outputs, entry by entry.

The exporter may be wrong, and a module can depend on what no exporter sees: Python's random numbers, a counter in a
global, whether it is being exported. So the module itself is run, in its own precision, beside onnxruntime on the
exported file: at the example input and around it when the module is loaded; at the centre, at corners and at random
points of the box that is verified; at the first point again at the end.

How much the two may differ. Both round, each in its own order, and differ by what rounding does to that one entry: a
few units in the last place of |A| |h| + |b| of the last layer, and what is carried there from the layers before. The
latter is measured, with the imported network run in float32 and in float64 (scaled where the module works in
float64). An output of 1e9 excuses nothing in the output next to it.

Soundness: heuristic; it guards against wrong exports and proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels.deadline import now
from ..errors import BadInput
from ..network.graph import Affine, Graph

Array = NDArray[np.float64]
Run = Callable[[Array], Array]

UNITS = 64.0  # of the last layer's own rounding
MEASURED = 30.0  # times what rounding does to the imported network
FEWEST = 3  # points that are compared however long they take
ENDLESS = 1e3  # how far an unbounded side is looked at
SCALES = (0.1, 1.0, 8.0)  # of the points around the example


@dataclass(eq=False)
class ModuleComparison:
    """The module beside its exported file; `BadInput` where they differ. `precision`: float32 or float64."""

    graph: Graph  # float64
    exported: Run
    module: Run
    example: Array  # (n_in,)
    precision: str
    seed: int = 0
    _single: Graph | None = field(default=None, repr=False)

    def at_load(self, seconds: float = 0.5) -> None:
        """At the example input, at zero, and at random points of several sizes around it."""
        self._over(self._around(), seconds)

    def on_box(self, lower: Array, upper: Array, seconds: float = 1.0, points: int = 16) -> None:
        """At the box's centre, two opposite corners, random corners and interior points, (n_in,) bounds."""
        self._over(box_points(lower, upper, points, self.seed), seconds)

    def _around(self) -> Iterator[tuple[str, Array]]:
        random = np.random.default_rng(self.seed)
        yield "the example input", self.example
        yield "zero", np.zeros_like(self.example)
        for scale in SCALES:
            yield f"random inputs in [-{scale:g}, {scale:g}]", random.uniform(-scale, scale, len(self.example))
        yield "the example input, asked again", self.example

    def _over(self, points: Iterator[tuple[str, Array]], seconds: float) -> None:
        start = now()
        for number, (where, x) in enumerate(points):
            if number >= FEWEST and now() - start > seconds:
                return
            self._at(where, x)

    def _at(self, where: str, x: Array) -> None:
        x = x.astype(self.precision).astype(np.float64)
        ours = self.module(x)
        theirs = self.exported(x)
        if ours.shape != theirs.shape:
            raise BadInput(
                f"the module has {len(ours)} outputs, and the network exported from it has {len(theirs)}; {REPORT}"
            )
        finite = np.isfinite(ours) & np.isfinite(theirs)
        differs = np.abs(np.where(finite, ours - theirs, 0.0))
        unit = float(np.finfo(self.precision).eps) / 2
        wrong = (differs > 4 * unit * np.abs(ours, where=finite, out=np.zeros_like(ours))) | self._infinite(
            ours, theirs
        )
        if wrong.any():
            wrong &= (differs > self._allowed(x, unit)) | ~finite
        if wrong.any():
            i = int(np.argmax(wrong))
            raise BadInput(
                f"output {i} is {ours[i]:.9g} in the module itself, and {theirs[i]:.9g} in the network exported from it"
                f" at {where}: the module depends on something that the export does not show (random numbers, earlier "
                "calls, values that its code looks at), or the exporter is wrong"
            )

    @staticmethod
    def _infinite(ours: Array, theirs: Array) -> NDArray[np.bool_]:
        """Entries of which one is a number and the other none, or both are infinite with opposite signs."""
        same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs)) | (np.isfinite(ours) & np.isfinite(theirs))
        return ~same

    def _allowed(self, x: Array, unit: float) -> Array:  # (n_out,)
        """What rounding explains at x, entry by entry."""
        values = self.graph.values(torch.from_numpy(x))
        if self._single is None:
            self._single = self.graph.to(torch.float32)
        spread = np.zeros(self.graph.output_size)
        for factor in (1.0, 1 + 2.0**-20, 1 - 2.0**-20):  # three roundings, so that none is small by chance
            point = torch.from_numpy(x * factor).float()
            near = self.graph(point.double()).numpy()
            spread = np.maximum(
                spread, np.abs(np.nan_to_num(self._single(point).double().numpy() - near, posinf=0, neginf=0))
            )
        size = np.abs(values[-1].numpy())
        last = self.graph.nodes[-1]
        if isinstance(last, Affine):
            size = last.bias.abs().numpy()
            for source, operator in zip(last.inputs, last.operators, strict=True):
                size = size + operator.magnitude().apply(values[source].abs()).numpy()
        return UNITS * unit * size + MEASURED * spread * unit / (float(np.finfo(np.float32).eps) / 2)


REPORT = "please report it"


def box_points(lower: Array, upper: Array, points: int, seed: int) -> Iterator[tuple[str, Array]]:
    """Centre, two opposite corners, random corners and interior points, the centre again: `points` in all."""
    random = np.random.default_rng(seed)
    ends = np.isfinite(lower), np.isfinite(upper)  # sides without an end get one
    low = np.where(ends[0], lower, np.where(ends[1], upper, 0.0) - ENDLESS)
    high = np.where(ends[1], upper, np.where(ends[0], lower, 0.0) + ENDLESS)
    centre = low / 2 + high / 2
    yield "the centre of the input set", centre
    yield "the lower corner of the input set", low
    yield "the upper corner of the input set", high
    for number in range(max(0, points - 4)):
        if number % 2:
            yield "a random corner of the input set", np.where(random.random(len(low)) < 0.5, low, high)
        else:
            share = random.random(len(low))
            yield "a random point of the input set", np.clip(low * (1 - share) + high * share, low, high)
    yield "the centre of the input set, asked again", centre
