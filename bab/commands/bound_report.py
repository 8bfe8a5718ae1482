"""`partita bound`: two-sided bounds of every output over a property's input set, as text or JSON."""

from __future__ import annotations

import json
from pathlib import Path

from ...kernels.deadline import TimeUp, staged, until
from ...relaxations.bound import BoundsReport, bound
from .. import api
from ..config import Config
from ..search import clock


def bound_report(network: Path, prop: Path, config: Config, as_json: bool) -> str:
    """What `partita bound` prints. `auto` is crown, in float64, on the CPU. Raises `TimeoutError` where nothing is
    known by the time limit."""
    api.check_device(config)
    with until(clock.deadline(config.timeout)), staged() as stage:
        try:
            problem = api.load(network, prop, timeout=config.timeout)
        except TimeUp:
            raise TimeoutError(f"the time limit passed while {stage.text}: there are no bounds yet") from None
        found = bound(
            problem.graph,
            problem.property,
            "crown" if config.relaxation == "auto" else config.relaxation,
            precision="float32" if config.precision == "float32" else "float64",
            device="cpu" if config.device == "auto" else config.device,
            backend=config.bounding.backend,
            effort=config.effort,
        )
    return _json(found) if as_json else _text(found)


def _json(found: BoundsReport) -> str:
    layers = [{"name": name, "lower": lower.tolist(), "upper": upper.tolist()} for name, lower, upper in found.layers]
    report = {
        "lower": found.lower.tolist(),
        "upper": found.upper.tolist(),
        "seconds": round(found.seconds, 6),
        "layers": layers,
        "unstable": [layer.tolist() for layer in found.unstable],
    }
    return json.dumps(report | ({"notes": list(found.notes)} if found.notes else {}))


def _text(found: BoundsReport) -> str:
    lines = [
        f"{lower:.9g} <= Y_{i} <= {upper:.9g}"
        for i, (lower, upper) in enumerate(zip(found.lower, found.upper, strict=True))
    ]
    for (name, lower, _), unstable in zip(found.layers, found.unstable, strict=True):
        lines.append(f"layer {name}: {len(unstable)} of {len(lower)} neurons unstable")
    return "\n".join([*lines, *found.notes, f"{found.seconds:.3f} s"])
