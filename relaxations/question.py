"""What `partita.bound` is asked: polytopes with a point and an end, objectives as rows.

Everything that does not fit is refused here, before anything is computed: an input set of other dimension than the
network, one that is unbounded or empty (of a polytope, what interval arithmetic on its half-spaces shows; the rest
shows in the bounds), rows that are not numbers or not as long as the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..kernels.polytope import clip_box
from ..problems.device import device_name, present
from ..problems.errors import BadInput
from ..problems.given import seconds
from ..problems.input_set import InputSet, polytopes_of
from ..problems.network.graph import Graph
from ..problems.properties.property import Polytope
from ..problems.properties.specify import numbers
from .lp.backends import NAMES as BACKENDS
from .names import Name
from .protocol import Means

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


def treated(graph: Graph, names: Sequence[Name]) -> None:
    """Raises `BadInput` for layers that a relaxation does not treat, as its entry in the catalogue says."""
    for name in names:
        if name.rung.products == "refused":
            graph.check_univariate(f"the {name.word} relaxation")
        name.rung.load()
        for layer in graph.layers if name.rung.smooth == "refused" else ():
            if not layer.function.pieces:
                raise BadInput(
                    f"the {name.word} relaxation needs piecewise-linear activations, and layer {layer.name!r} is a "
                    f"{layer.function.name}; use the relaxation crown or alpha-crown"
                )


def means(precision: str, device: str | torch.device, steps: int, backend: str, time_limit: float | None) -> Means:
    """What bounds are computed with; `BadInput` for what none can be."""
    if precision not in PRECISIONS:
        raise BadInput(f"precision must be float32 or float64, not {precision!r}")
    if backend not in BACKENDS:
        raise BadInput(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 0:
        raise BadInput(f"steps must be a whole number of at least 0, not {steps!r}")
    time_limit = seconds("time_limit", time_limit)
    name = device_name(device)
    if name is None:
        raise BadInput(f"device must be cpu or cuda, not {device!r}")
    present(name, "cpu")
    return Means(PRECISIONS[precision], device, steps, backend, time_limit)


def bounded_polytopes(graph: Graph, input_set: InputSet) -> list[Polytope]:
    """The non-empty polytopes of an input set. Raises `BadInput` where there are none, or one has no end."""
    found = polytopes_of(graph, input_set)
    if not all(np.isfinite(side).all() for p in found for side in (p.lower, p.upper)):
        raise BadInput("bounds need an input set with finite lower and upper bounds of every input")
    found = [p for p in found if not p.empty]
    if not found:
        raise BadInput("the input set is empty: some lower bound exceeds its upper bound, so there is nothing to bound")
    found = [p for p in found if not _shown_empty(p)]
    if not found:
        raise BadInput("the input set is empty: its half-spaces leave nothing of its box, so there is nothing to bound")
    return found


def _shown_empty(polytope: Polytope) -> bool:
    """Whether bound propagation proves that the half-spaces have no point in the box."""
    if not len(polytope.offsets):
        return False
    parts = (polytope.lower, polytope.upper, polytope.normals, polytope.offsets)
    lower, upper, normals, offsets = (torch.as_tensor(t)[None] for t in parts)
    return bool(clip_box(lower, upper, normals, offsets)[2])


def objectives(graph: Graph, rows: ArrayLike | None, constants: ArrayLike | None) -> tuple[Tensor, Tensor]:
    """(R, n_out) and (R,), float64."""
    c = torch.eye(graph.output_size, dtype=torch.float64)
    if rows is not None:
        c = torch.as_tensor(np.atleast_2d(numbers("rows", rows)))
    d = torch.zeros(len(c), dtype=torch.float64)
    if constants is not None:
        d = torch.as_tensor(np.atleast_1d(numbers("constants", constants)))
    if c.ndim != 2 or c.shape[1] != graph.output_size or d.shape != (len(c),):
        raise BadInput(
            f"rows of shape {tuple(c.shape)} and constants of shape {tuple(d.shape)} do not fit {graph.output_size} "
            "outputs: they are (R, n_out) and (R,)"
        )
    if not (torch.isfinite(c).all() and torch.isfinite(d).all()):
        raise BadInput("rows and constants must be finite numbers")
    return c, d
