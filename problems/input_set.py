"""The forms in which an input set is given to the Python API, read as polytopes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import BadInput
from .load import load_property_for
from .network.graph import Graph
from .properties.property import Polytope, Property

InputSet = Polytope | Property | Sequence[Polytope] | tuple[Any, Any] | str | Path


def polytopes_of(graph: Graph, input_set: InputSet) -> list[Polytope]:
    """The input polytopes, each once: of a property, of its file, of arrays (lower, upper), or as they are.

    Raises `BadInput` for anything else, for other than the network's number of inputs, and where there are none.
    """
    match input_set:
        case Polytope():
            found = [input_set]
        case Property() | str() | Path():
            found = [case.inputs for case in load_property_for(graph, input_set).cases]
        case [*parts] if parts and all(isinstance(p, Polytope) for p in parts):
            found = list(parts)
        case [lower, upper]:
            found = [box(lower, upper)]
        case _:
            raise BadInput("an input set is a Polytope or several, a Property or its file, or arrays (lower, upper)")
    if not found:
        raise BadInput("the input set is empty: the property has no case that an input satisfies")
    for p in found:
        check_size(graph, p)
    unique = {b"|".join(a.tobytes() for a in (p.lower, p.upper, p.normals, p.offsets)): p for p in found}
    return list(unique.values())


def box(lower: Any, upper: Any) -> Polytope:
    """Arrays (lower, upper) of any shape, flattened in row-major order; `BadInput` where they hold no numbers."""
    try:
        low, high = (np.asarray(side, dtype=np.float64).reshape(-1) for side in (lower, upper))
        return Polytope(low, high)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"an input set (lower, upper) must hold numbers: {str(error).splitlines()[0]}") from None


def check_size(graph: Graph, polytope: Polytope) -> None:
    """Raises `BadInput` where the polytope is not one of the network's inputs."""
    lower, upper = len(polytope.lower), len(polytope.upper)
    if lower != graph.input_size or upper != graph.input_size:
        raise BadInput(
            f"the input set has {lower} lower and {upper} upper bounds, but the network has {graph.input_size} inputs"
        )
