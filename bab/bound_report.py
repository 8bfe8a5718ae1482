"""`partita bound`: two-sided bounds of every output over a property's input set, as text or JSON.

The input set is a union of polytopes; each is bounded on its own, and the result is the smallest box around all of
them (lower bounds: the minimum, upper bounds: the maximum, unstable neurons: the union). Soundness: that of the
relaxation, since minimum and maximum are exact.
"""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..problems.errors import BadInput
from . import api
from .config import Config


class Ranges(NamedTuple):
    """Bounds over one polytope or several: of the outputs, and of every layer with its unstable neurons."""

    lower: np.ndarray  # (n_out,)
    upper: np.ndarray  # (n_out,)
    layers: list[tuple[str, np.ndarray, np.ndarray]]
    unstable: list[set[int]]
    seconds: float


def bound_report(network: Path, prop: Path, config: Config, as_json: bool) -> str:
    """What `partita bound` prints."""
    api.check_device(config)
    problem = api.load(network, prop)
    polytopes = [case.inputs for case in problem.property.cases if not case.inputs.empty]
    if not polytopes:
        raise BadInput(f"the input set of {prop} is empty, so there is nothing to bound")
    total = reduce(_around, [_ranges(problem.graph, polytope, config) for polytope in polytopes])
    return _json(total) if as_json else _text(total)


def _ranges(graph: Any, polytope: Any, config: Config) -> Ranges:
    import partita

    found = partita.bound(graph, polytope, relaxation=config.relaxation)
    layers = [(name, np.asarray(lower), np.asarray(upper)) for name, lower, upper in found.layers]
    unstable = [{int(i) for i in layer} for layer in found.unstable]
    return Ranges(np.asarray(found.lower), np.asarray(found.upper), layers, unstable, found.seconds)


def _around(a: Ranges, b: Ranges) -> Ranges:
    layers = [
        (name, np.minimum(lower, other_lower), np.maximum(upper, other_upper))
        for (name, lower, upper), (_, other_lower, other_upper) in zip(a.layers, b.layers, strict=True)
    ]
    unstable = [mine | other for mine, other in zip(a.unstable, b.unstable, strict=True)]
    return Ranges(np.minimum(a.lower, b.lower), np.maximum(a.upper, b.upper), layers, unstable, a.seconds + b.seconds)


def _json(ranges: Ranges) -> str:
    layers = [{"name": name, "lower": lower.tolist(), "upper": upper.tolist()} for name, lower, upper in ranges.layers]
    return json.dumps(
        {
            "lower": ranges.lower.tolist(),
            "upper": ranges.upper.tolist(),
            "seconds": round(ranges.seconds, 6),
            "layers": layers,
            "unstable": [sorted(layer) for layer in ranges.unstable],
        }
    )


def _text(ranges: Ranges) -> str:
    lines = [
        f"{lower:.9g} <= Y_{i} <= {upper:.9g}"
        for i, (lower, upper) in enumerate(zip(ranges.lower, ranges.upper, strict=True))
    ]
    for (name, lower, _), unstable in zip(ranges.layers, ranges.unstable, strict=True):
        lines.append(f"layer {name}: {len(unstable)} of {len(lower)} neurons unstable")
    return "\n".join([*lines, f"{ranges.seconds:.3f} s"])
